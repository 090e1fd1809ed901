//! Every operation of a medium fails, in every way in which one can: once, for a while, and until the log is opened again. Nothing that was acknowledged
//! is lost, no offset is given twice, and the log goes on or comes back. Then the same with a second failure behind the first, by chance: the day decides
//! which; `SEDGE_PAIRS` says how many, or `all` in a shorter scenario, `SEDGE_SEED` where to begin.

use sedge_core::segment::Role;
use sedge_tests::disk::SimDisk;
use sedge_tests::error_sweep::{ErrorSweep, Swept};
use sedge_tests::errors::{Fails, Op};
use sedge_tests::flash::{FlashShape, SimFlash};
use sedge_tests::rig::{alone, seed_of_the_day, tell};
use sedge_tests::script;
use sedge_tests::world::Setting;

fn flash(setting: Setting) -> SimFlash {
    let dimensions = setting.geometry.dimensions();
    let shape = FlashShape {
        segments: dimensions.segment_count,
        segment_bytes: dimensions.segment_bytes,
        blocks: 2,
        write_unit: dimensions.write_unit,
    };
    SimFlash::new(shape, 1)
}

fn disk(setting: Setting) -> SimDisk {
    SimDisk::without_files(
        setting.geometry.segment_count(),
        setting.geometry.segment_bytes(),
    )
}

fn sweep<S: Fails>(setting: Setting, sim: S, seed: u64, steps: usize) -> ErrorSweep<S> {
    ErrorSweep {
        setting,
        sim,
        script: script::mixed(seed, steps, 4),
        seed,
        once: false,
    }
}

/// Each operation that is made when nothing fails has failed.
fn assert_complete(what: &str, swept: &Swept, ops: &[Op]) {
    tell(&format!(
        "{what}: {} lives, each of these operations failed: {:?}",
        swept.cases, swept.failed
    ));
    assert_eq!(swept.failed, swept.made, "{what}");
    for op in ops {
        let made = swept.made.get(op).copied().unwrap_or(0);
        assert!(made > 1, "{what}: {made} of {op:?}");
    }
}

const ON_FILES: [Op; 4] = [Op::Read, Op::Program, Op::Erase, Op::Sync];
const ON_FLASH: [Op; 3] = [Op::Read, Op::Program, Op::Erase];

#[test]
fn file_origin_outlives_any_operation_that_fails() {
    let _alone = alone();
    for (setting, seed, steps) in [
        (Setting::files(Role::Origin), 1, 60),
        (Setting::files(Role::Origin).segments(5).refusing(), 3, 40),
    ] {
        let swept = sweep(setting, disk(setting), seed, steps).single();
        assert_complete("file origin", &swept, &ON_FILES);
    }
}

#[test]
fn mirror_outlives_any_operation_that_fails() {
    let _alone = alone();
    let setting = Setting::files(Role::Mirror);
    let swept = sweep(setting, disk(setting), 1, 60).single();
    assert_complete("mirror", &swept, &ON_FILES);
}

#[test]
fn flash_origin_outlives_any_operation_that_fails() {
    let _alone = alone();
    for (setting, seed) in [
        (Setting::flash(4), 1),
        (Setting::flash(32).segments(4).refusing(), 3),
    ] {
        let swept = sweep(setting, flash(setting), seed, 60).single();
        assert_complete("flash origin", &swept, &ON_FLASH);
    }
}

/// What several failures in a row burn there uses up the head: the ledger has no room then, as behind several cuts.
#[test]
fn flash_origin_that_does_not_trust_its_last_frame_outlives_any_operation_that_fails() {
    let _alone = alone();
    let setting = Setting::flash(8).distrusting();
    let sweep = ErrorSweep {
        once: true,
        ..sweep(setting, flash(setting), 2, 90)
    };
    assert_complete("distrusting flash origin", &sweep.single(), &ON_FLASH);
}

/// The second failure falls into what the first one leads to, or shortly behind it.
#[test]
fn logs_outlive_two_failures() {
    let _alone = alone();
    let seed = seed_of_the_day();
    let wanted = std::env::var("SEDGE_PAIRS").unwrap_or_default();
    let (steps, pairs) = match wanted.as_str() {
        "all" => (20, None),
        "" => (60, Some(PAIRS)),
        number => (60, Some(number.parse().expect("a number"))),
    };
    tell(&format!("two failures: SEDGE_SEED={seed}"));
    let (origin, mirror, nor) = (
        Setting::files(Role::Origin),
        Setting::files(Role::Mirror),
        Setting::flash(4),
    );
    let lives = [
        sweep(origin, disk(origin), 1, steps).pairs(pairs, REACH, seed),
        sweep(mirror, disk(mirror), 1, steps).pairs(pairs, REACH, seed),
        sweep(nor, flash(nor), 1, steps).pairs(pairs, REACH, seed),
    ];
    tell(&format!("{lives:?} lives with two failures"));
    assert!(lives.iter().all(|lives| *lives >= pairs.unwrap_or(PAIRS)));
}

/// Of each kind of log.
const PAIRS: u64 = 2000;
/// How many operations behind the first failure the second one comes, at most.
const REACH: u64 = 40;
