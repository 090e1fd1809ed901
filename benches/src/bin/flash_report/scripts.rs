//! Random scripts: short lives of a log on flash, each ended by a cut anywhere and in any way, and what the oracle says to it.
//!
//! A script begins at one of many prepared places (a ring at any filling, about to wrap, wrapped), does up to eight things, and is cut again and again until it is
//! through. Its seed alone decides everything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sedge_tests::flash::{FlashShape, FlashTear, SimFlash};
use sedge_tests::random::{Random, seed_for};
use sedge_tests::script;
use sedge_tests::sweep::{Sweep, random_lives, short_lives};
use sedge_tests::world::{Setting, World};

use crate::rival_scripts;
use crate::row::{Row, thousands};

/// The row about what is lost.
pub(crate) fn row(count: u64, first_seed: u64) -> Row {
    let (single, double) = sweeps();
    let begun = Instant::now();
    let [steady, flickering] = run(count, first_seed);
    let seconds = begun.elapsed().as_secs();
    Row {
        what: "acknowledged record lost, phantom or stuck; write units 1 to 32, every way to tear, cells that read as errors"
            .into(),
        must: "0".into(),
        seen: format!(
            "{} in {} scripts with {} cuts, every single cut ({}) and double cut ({}) of a scenario; {} in {} scripts of logs that do not trust their last frame, on cells that flicker (seeds {first_seed} to {}; {seconds} s)",
            steady.wrong,
            thousands(steady.scripts),
            thousands(steady.cuts),
            thousands(single),
            thousands(double),
            flickering.wrong,
            thousands(flickering.scripts),
            first_seed + steady.scripts + flickering.scripts - 1,
        ),
        anchor: rival_scripts::told(count.min(RIVAL_SCRIPTS), first_seed),
        met: steady.wrong + flickering.wrong == 0,
    }
}

/// Every cut of one scenario for each write unit, and every further cut behind it.
fn sweeps() -> (u64, u64) {
    let (mut single, mut double) = (0, 0);
    for unit in UNITS {
        let sweep = Sweep {
            setting: Setting::flash(unit),
            sim: blank(Setting::flash(unit), 2, 1),
            script: script::filling(u64::from(unit), 36, 4),
            seed: 1,
            tears: FlashTear::STEADY.to_vec(),
            tries: 1,
            epilogue: 4,
        };
        single += sweep.single();
        double += sweep.nested(4);
    }
    (single, double)
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    scripts: u64,
    cuts: u64,
    wrong: u64,
}

/// `count` scripts on all processors: those on steady cells, and those on cells that flicker.
fn run(count: u64, first_seed: u64) -> [Tally; 2] {
    let taken = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| work(&taken, count, first_seed)))
            .collect();
        let mut sums = [Tally::default(); 2];
        for worker in workers {
            let tallies = worker
                .join()
                .expect("a script that panics has told its seed");
            for (sum, tally) in sums.iter_mut().zip(tallies) {
                sum.scripts += tally.scripts;
                sum.cuts += tally.cuts;
                sum.wrong += tally.wrong;
            }
        }
        sums
    })
}

fn work(taken: &AtomicU64, count: u64, first_seed: u64) -> [Tally; 2] {
    let starts = Start::all();
    let mut tallies = [Tally::default(); 2];
    loop {
        let from = taken.fetch_add(CHUNK, Ordering::Relaxed);
        if from >= count {
            return tallies;
        }
        for seed in first_seed + from..first_seed + count.min(from + CHUNK) {
            let (flickers, outcome) = play(&starts, seed);
            let tally = &mut tallies[usize::from(flickers)];
            tally.scripts += 1;
            match outcome {
                Ok(cuts) => tally.cuts += cuts,
                Err(wrong) => {
                    tally.wrong += 1;
                    eprintln!("--seed {seed} --scripts 1 --only scripts: {wrong}");
                }
            }
        }
    }
}

/// One script: whether its cells may flicker, and how many cuts it had.
fn play(starts: &[Start], seed: u64) -> (bool, Result<u64, String>) {
    let _told = Told(seed);
    let mut random = Random::new(seed);
    let start = &starts[random.index(starts.len())];
    let mut world = start.world.branch();
    let steps = 1 + random.index(STEPS_MAX);
    world.play(&script::mixed(random.bits(), steps, 4));
    let ops_max = random.pick(&[3, 6, 12]);
    let lives = if random.one_in(8) {
        random_lives
    } else {
        world.read_once();
        short_lives
    };
    let flickers = start.tears.contains(&FlashTear::Flicker);
    let outcome = lives(&mut world, start.tears, seed_for(seed, 1), ops_max);
    (flickers, outcome)
}

/// Says the seed of a script that panics, in the log or in the medium.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--seed {} --scripts 1 --only scripts: panicked", self.0);
        }
    }
}

/// A place where scripts begin.
struct Start {
    world: World<SimFlash>,
    tears: &'static [FlashTear],
}

impl Start {
    fn all() -> Vec<Self> {
        let mut starts = Vec::new();
        for unit in UNITS {
            let setting = Setting::flash(unit);
            for blocks in [1, 2, 3] {
                for kind in [setting, setting, setting.refusing(), setting.distrusting()] {
                    for steps in STEPS_BEFORE {
                        starts.push(Self::after(kind, blocks, steps + starts.len() % 5));
                    }
                }
            }
        }
        starts
    }

    fn after(setting: Setting, blocks: u32, steps: usize) -> Self {
        let seed = seed_for(steps as u64, u64::from(blocks));
        let script = script::mixed(seed, steps, 4);
        let mut world = World::new(setting, blank(setting, blocks, seed), &script, seed);
        world.run().expect("a life without cuts");
        let tears = if setting.tail == sedge_core::log::Tail::Fresh {
            &FLICKERING[..]
        } else {
            &FlashTear::STEADY[..]
        };
        Self { world, tears }
    }
}

fn blank(setting: Setting, blocks: u32, seed: u64) -> SimFlash {
    let dimensions = setting.geometry.dimensions();
    let shape = FlashShape {
        segments: dimensions.segment_count,
        segment_bytes: dimensions.segment_bytes,
        blocks,
        write_unit: dimensions.write_unit,
    };
    SimFlash::new(shape, seed)
}

const UNITS: [u32; 6] = [1, 2, 4, 8, 16, 32];
/// Cells that change their mind are for logs that do not trust their last frame.
const FLICKERING: [FlashTear; 3] = [FlashTear::Flicker, FlashTear::Subset, FlashTear::Everything];
const STEPS_MAX: usize = 8;
/// A log that has just begun, the first segments full, a full ring, and a lap later.
const STEPS_BEFORE: [usize; 12] = [0, 3, 6, 10, 15, 22, 30, 38, 46, 56, 68, 110];
const CHUNK: u64 = 500;
/// The queue is not ours to test: as many as its figures need.
const RIVAL_SCRIPTS: u64 = 400_000;
