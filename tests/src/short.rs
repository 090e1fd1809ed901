//! Short scripts: brief lives of a log, cut anywhere and in any way, and what the oracle says to it.
//!
//! A script begins at one of many prepared places (a ring at any filling, about to wrap, wrapped), does up to eight things, and is cut again and again until it
//! is through. Its seed alone decides everything. On flash and on files the same is done.

use std::sync::atomic::{AtomicU64, Ordering};

use sedge_core::log::Tail;
use sedge_core::segment::Role;

use crate::disk::{DiskTear, SimDisk};
use crate::flash::{FlashShape, FlashTear, SimFlash};
use crate::random::{Random, seed_for};
use crate::script;
use crate::sim::Sim;
use crate::sweep::{random_lives, short_lives};
use crate::world::{Setting, World};

/// The places where scripts begin.
#[derive(Debug)]
pub struct Places<S: Sim>(Vec<Place<S>>);

#[derive(Debug)]
struct Place<S: Sim> {
    world: World<S>,
    tears: &'static [S::Tear],
    /// Its log does not trust its last frame, and its cells may flicker.
    flickers: bool,
}

/// What scripts went through.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many.
    pub scripts: u64,
    /// How often power was cut, or the process killed.
    pub cuts: u64,
    /// What was wrong, each with its seed.
    pub wrong: Vec<String>,
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enough {
    /// After so many scripts.
    Scripts(u64),
    /// After the script that makes so many cuts full.
    Cuts(u64),
}

/// Scripts from `first_seed` on, on all processors: those in cells that read steadily, and those in cells that may flicker. Each seed below the next is played.
///
/// # Panics
/// If a script does; its seed is told.
pub fn play_all<S: Sim>(
    places: impl Fn() -> Places<S> + Sync,
    first_seed: u64,
    enough: Enough,
) -> [Tally; 2] {
    let stand = Stand::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || stand.work(&places(), first_seed, enough);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut sums = [Tally::default(), Tally::default()];
        for worker in workers {
            let tallies = worker
                .join()
                .expect("a script that panics has told its seed");
            for (sum, tally) in sums.iter_mut().zip(tallies) {
                sum.add(tally);
            }
        }
        sums
    })
}

/// How far all processors together have come.
#[derive(Debug, Default)]
struct Stand {
    taken: AtomicU64,
    cuts: AtomicU64,
}

impl Stand {
    fn take(&self, enough: Enough) -> Option<u64> {
        if matches!(enough, Enough::Cuts(cuts) if self.cuts.load(Ordering::Relaxed) >= cuts) {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        (!matches!(enough, Enough::Scripts(scripts) if number >= scripts)).then_some(number)
    }

    fn work<S: Sim>(&self, places: &Places<S>, first_seed: u64, enough: Enough) -> [Tally; 2] {
        let mut tallies = [Tally::default(), Tally::default()];
        while let Some(number) = self.take(enough) {
            let seed = first_seed + number;
            let (flickers, outcome) = places.play(seed);
            let tally = &mut tallies[usize::from(flickers)];
            tally.scripts += 1;
            match outcome {
                Ok(cuts) => {
                    tally.cuts += cuts;
                    self.cuts.fetch_add(cuts, Ordering::Relaxed);
                }
                Err(wrong) => {
                    eprintln!("seed {seed}: {wrong}");
                    tally.wrong.push(format!("seed {seed}: {wrong}"));
                }
            }
        }
        tallies
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.scripts += other.scripts;
        self.cuts += other.cuts;
        self.wrong.extend(other.wrong);
    }
}

impl<S: Sim> Places<S> {
    /// One script: whether its cells may flicker, and how many cuts it had.
    fn play(&self, seed: u64) -> (bool, Result<u64, String>) {
        let _told = Told(seed);
        let mut random = Random::new(seed);
        let place = &self.0[random.index(self.0.len())];
        let mut world = place.world.branch();
        let steps = 1 + random.index(STEPS_MAX);
        world.play(&script::mixed(random.bits(), steps, 4));
        let ops_max = random.pick(&[3, 6, 12]);
        let lives = if random.one_in(8) {
            random_lives
        } else {
            world.read_once();
            short_lives
        };
        let outcome = lives(&mut world, place.tears, seed_for(seed, 1), ops_max);
        (place.flickers, outcome)
    }

    fn add(&mut self, setting: Setting, sim: S, tears: &'static [S::Tear], seed: u64, len: usize) {
        let script = script::mixed(seed, len, 4);
        let mut world = World::new(setting, sim, &script, seed);
        world.run().expect("a life without cuts");
        self.0.push(Place {
            world,
            tears,
            flickers: setting.tail == Tail::Fresh,
        });
    }
}

impl Places<SimFlash> {
    /// Flash with each write unit; a quarter in logs that do not trust their last frame.
    ///
    /// # Panics
    /// If a life without cuts goes wrong.
    #[must_use]
    pub fn flash() -> Self {
        let mut places = Self(Vec::new());
        for unit in UNITS {
            let setting = Setting::flash(unit);
            for blocks in [1, 2, 3] {
                for kind in [setting, setting, setting.refusing(), setting.distrusting()] {
                    for steps in STEPS_BEFORE {
                        let steps = steps + places.0.len() % 5;
                        let seed = seed_for(steps as u64, u64::from(blocks));
                        let tears = if kind.tail == Tail::Fresh {
                            &FLICKERING[..]
                        } else {
                            &FlashTear::STEADY[..]
                        };
                        places.add(kind, blank_flash(kind, blocks, seed), tears, seed, steps);
                    }
                }
            }
        }
        places
    }
}

impl Places<SimDisk> {
    /// Origins and mirrors in files, made before or when they are needed.
    ///
    /// # Panics
    /// If a life without cuts goes wrong.
    #[must_use]
    pub fn files() -> Self {
        let mut places = Self(Vec::new());
        for role in [Role::Origin, Role::Mirror] {
            for segments in [3, 5] {
                let setting = Setting::files(role).segments(segments);
                let bytes = setting.geometry.segment_bytes();
                for kind in [setting, setting.refusing()] {
                    for sim in [
                        SimDisk::new(segments, bytes),
                        SimDisk::without_files(segments, bytes),
                    ] {
                        for steps in STEPS_BEFORE {
                            let steps = steps + places.0.len() % 5;
                            let seed = seed_for(steps as u64, u64::from(segments));
                            places.add(kind, sim.clone(), &DiskTear::ALL, seed, steps);
                        }
                    }
                }
            }
        }
        places
    }
}

/// Erased flash for a log of this kind, in segments of so many blocks.
#[must_use]
pub fn blank_flash(setting: Setting, blocks: u32, seed: u64) -> SimFlash {
    let dimensions = setting.geometry.dimensions();
    let shape = FlashShape {
        segments: dimensions.segment_count,
        segment_bytes: dimensions.segment_bytes,
        blocks,
        write_unit: dimensions.write_unit,
    };
    SimFlash::new(shape, seed)
}

/// Says the seed of a script that panics, in the log or in the medium.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: panicked", self.0);
        }
    }
}

/// Bytes that a flash programs at once.
pub const UNITS: [u32; 6] = [1, 2, 4, 8, 16, 32];
/// Cells that change their mind are for logs that do not trust their last frame.
const FLICKERING: [FlashTear; 3] = [FlashTear::Flicker, FlashTear::Subset, FlashTear::Everything];
const STEPS_MAX: usize = 8;
/// A log that has just begun, the first segments full, a full ring, and a lap later.
const STEPS_BEFORE: [usize; 12] = [0, 3, 6, 10, 15, 22, 30, 38, 46, 56, 68, 110];
