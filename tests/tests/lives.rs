//! Lives of any length, each ended by a cut or a kill at any moment: chance finds what the exhaustive sweeps were not told to look for.
//!
//! `SEDGE_CUTS` says how many cuts to make of each kind (default 3,000), `SEDGE_SEED` where to begin. A failure prints its seed.

use sedge_core::segment::Role;
use sedge_tests::disk::{DiskTear, SimDisk};
use sedge_tests::flash::{BadBlock, FlashShape, FlashTear, SimFlash};
use sedge_tests::random::{Random, seed_for};
use sedge_tests::script;
use sedge_tests::sim::Sim;
use sedge_tests::sweep::random_lives;
use sedge_tests::world::{Setting, World};

const UNITS: [u32; 6] = [1, 2, 4, 8, 16, 32];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Plays scenario after scenario until enough cuts were made.
fn until_enough<S: Sim>(tears: &[S::Tear], mut scenario: impl FnMut(&mut Random) -> (Setting, S)) {
    let cuts_min = number("SEDGE_CUTS", 3000);
    let first = number("SEDGE_SEED", 1);
    let mut cuts = 0;
    for seed in first.. {
        let mut random = Random::new(seed);
        let (setting, sim) = scenario(&mut random);
        let steps = 20 + random.index(150);
        let script = script::mixed(random.bits(), steps, 4);
        let ops_max = random.pick(&[5, 20, 60, 200]);
        let mut world = World::new(setting, sim, &script, seed);
        let _told = Told(format!("{setting:?}\nSEDGE_SEED={seed} SEDGE_CUTS=1"));
        match random_lives(&mut world, tears, seed_for(seed, 1), ops_max) {
            Ok(more) => cuts += more,
            Err(wrong) => panic!("{wrong}"),
        }
        if cuts >= cuts_min {
            eprintln!("{cuts} cuts, seeds {first} to {seed}");
            return;
        }
    }
}

/// Says how to come back to the scenario, if it panics: in the log, in the medium, or by a wrong.
struct Told(String);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}

fn any_setting(random: &mut Random, setting: Setting) -> Setting {
    let setting = setting.segments(3 + random.below(4) as u32);
    if random.one_in(4) {
        setting.refusing()
    } else {
        setting
    }
}

fn flash_of(random: &mut Random) -> (Setting, SimFlash) {
    let unit = random.pick(&UNITS);
    let setting = any_setting(random, Setting::flash(unit));
    let dimensions = setting.geometry.dimensions();
    let shape = FlashShape {
        segments: dimensions.segment_count,
        segment_bytes: dimensions.segment_bytes,
        blocks: random.pick(&[1, 2, 3]),
        write_unit: unit,
    };
    (setting, SimFlash::new(shape, random.bits()))
}

fn disk_of(random: &mut Random, role: Role) -> (Setting, SimDisk) {
    let setting = any_setting(random, Setting::files(role));
    let dimensions = setting.geometry.dimensions();
    let (segments, bytes) = (dimensions.segment_count, dimensions.segment_bytes);
    let sim = if random.one_in(2) {
        SimDisk::new(segments, bytes)
    } else {
        SimDisk::without_files(segments, bytes)
    };
    (setting, sim)
}

#[test]
fn flash_log_outlives_any_cuts() {
    until_enough(&FlashTear::STEADY, flash_of);
}

/// A ring in which nobody looks at every segment. Two blocks side by side wear out when all of it is written; in some lives further ones do.
#[test]
fn flash_log_of_a_large_ring_outlives_cuts_and_worn_out_blocks() {
    const SEGMENTS: u32 = 36;
    let first = number("SEDGE_SEED", 1);
    for unit in UNITS {
        let setting = Setting::flash(unit).segments(SEGMENTS);
        let seed = seed_for(first, u64::from(unit));
        let mut random = Random::new(seed);
        let shape = FlashShape {
            segments: SEGMENTS,
            segment_bytes: setting.geometry.segment_bytes(),
            blocks: 1,
            write_unit: unit,
        };
        let fill = script::filling(seed, SEGMENTS as usize * (30 + random.index(30)), 4);
        let mut full = World::new(setting, SimFlash::new(shape, seed), &fill, seed);
        full.run().expect("a life without cuts");
        for scenario in 0..40 {
            let mut world = full.branch();
            world.expect_errors(1000);
            let worn = random.index(SEGMENTS as usize - 2) as u32;
            for segment in worn..worn + random.index(3) as u32 {
                world
                    .sim()
                    .sim_mut()
                    .break_segment(segment, BadBlock::EraseFails);
            }
            let steps = 20 + random.index(200);
            world.play(&script::mixed(random.bits(), steps, 4));
            let seed = random.bits();
            let _told = Told(format!(
                "{setting:?}, scenario {scenario}, SEDGE_SEED={first}"
            ));
            if let Err(wrong) = random_lives(&mut world, &FlashTear::STEADY, seed, 60) {
                panic!("{wrong}");
            }
        }
    }
}

#[test]
fn flash_log_outlives_cells_that_flicker() {
    let tears = [FlashTear::Flicker, FlashTear::Subset, FlashTear::Everything];
    until_enough(&tears, |random| {
        let (setting, sim) = flash_of(random);
        (setting.distrusting(), sim)
    });
}

#[test]
fn file_log_outlives_any_cuts_and_kills() {
    until_enough(&DiskTear::ALL, |random| disk_of(random, Role::Origin));
}

#[test]
fn mirror_outlives_any_cuts_and_kills() {
    until_enough(&DiskTear::ALL, |random| disk_of(random, Role::Mirror));
}
