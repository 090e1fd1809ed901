//! Power fails, or the process is killed, at every operation of a scenario and in every way, and nothing acknowledged is ever missing.

use sedge_core::segment::Role;
use sedge_tests::disk::{DiskTear, SimDisk};
use sedge_tests::flash::{FlashShape, FlashTear, SimFlash};
use sedge_tests::script::{self, Step};
use sedge_tests::sweep::Sweep;
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
    let dimensions = setting.geometry.dimensions();
    SimDisk::new(dimensions.segment_count, dimensions.segment_bytes)
}

fn on_flash(setting: Setting, script: Vec<Step>, seed: u64) -> Sweep<SimFlash> {
    let tears = FlashTear::STEADY.to_vec();
    Sweep {
        setting,
        sim: flash(setting),
        script,
        seed,
        tears,
        tries: 2,
        epilogue: 10,
    }
}

fn on_files(setting: Setting, script: Vec<Step>, seed: u64) -> Sweep<SimDisk> {
    let tears = DiskTear::ALL.to_vec();
    Sweep {
        setting,
        sim: disk(setting),
        script,
        seed,
        tears,
        tries: 3,
        epilogue: 10,
    }
}

const UNITS: [u32; 6] = [1, 2, 4, 8, 16, 32];

/// A cut at every operation of a script that rolls, evicts, moves the cursor and stops in between.
#[test]
fn flash_origin_survives_a_cut_at_every_operation() {
    for unit in UNITS {
        let cuts = on_flash(
            Setting::flash(unit),
            script::mixed(u64::from(unit), 120, 4),
            1,
        )
        .single();
        assert!(cuts > 1000, "only {cuts} cuts");
    }
}

/// Cells of a torn write that read differently for a while, and then stay as they are.
#[test]
fn flash_origin_survives_cells_that_flicker() {
    for unit in UNITS {
        let sweep = Sweep {
            tears: vec![FlashTear::Flicker],
            tries: 6,
            ..on_flash(
                Setting::flash(unit).distrusting(),
                script::mixed(u64::from(unit), 120, 4),
                1,
            )
        };
        let cuts = sweep.single();
        assert!(cuts > 500, "only {cuts} cuts");
    }
}

#[test]
fn refusing_flash_origin_survives_a_cut_at_every_operation() {
    let setting = Setting::flash(8).segments(4).refusing();
    let cuts = on_flash(setting, script::mixed(3, 150, 4), 2).single();
    assert!(cuts > 1000, "only {cuts} cuts");
}

#[test]
fn file_origin_survives_a_cut_at_every_operation() {
    for (segments, seed) in [(3, 1), (5, 2)] {
        let setting = Setting::files(Role::Origin).segments(segments);
        let cuts = on_files(setting, script::mixed(seed, 120, 4), seed).single();
        assert!(cuts > 1000, "only {cuts} cuts");
    }
}

#[test]
fn refusing_file_origin_survives_a_cut_at_every_operation() {
    let cuts = on_files(
        Setting::files(Role::Origin).refusing(),
        script::mixed(3, 120, 4),
        2,
    )
    .single();
    assert!(cuts > 1000, "only {cuts} cuts");
}

/// The sender fills a mirror again from where it stands, with the same frames.
#[test]
fn mirror_survives_a_cut_at_every_operation() {
    for (segments, seed) in [(3, 1), (5, 2)] {
        let setting = Setting::files(Role::Mirror).segments(segments);
        let cuts = on_files(setting, script::mixed(seed, 120, 4), seed).single();
        assert!(cuts > 1000, "only {cuts} cuts");
    }
}

/// Power comes back and fails again while the log recovers, or shortly after.
#[test]
fn flash_origin_survives_a_cut_while_it_recovers() {
    for unit in UNITS {
        let mut sweep = on_flash(
            Setting::flash(unit),
            script::mixed(u64::from(unit), 40, 4),
            5,
        );
        (sweep.tries, sweep.epilogue) = (1, 5);
        let cuts = sweep.nested(6);
        assert!(cuts > 1000, "only {cuts} cuts");
    }
}

#[test]
fn file_log_survives_a_cut_while_it_recovers() {
    for role in [Role::Origin, Role::Mirror] {
        let mut sweep = on_files(Setting::files(role), script::mixed(7, 40, 4), 5);
        (sweep.tries, sweep.epilogue) = (1, 5);
        let cuts = sweep.nested(10);
        assert!(cuts > 1000, "only {cuts} cuts");
    }
}
