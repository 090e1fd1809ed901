//! Sweeps: the same scenario again and again, cut at each place and in each way.

use core::fmt::Debug;

use crate::random::{Random, seed_for};
use crate::script::Step;
use crate::sim::Sim;
use crate::world::{Ended, Setting, World, Wrong};

/// One scenario, to be cut wherever that is possible.
#[derive(Clone, Debug)]
pub struct Sweep<S: Sim> {
    /// The log.
    pub setting: Setting,
    /// The medium before the first boot.
    pub sim: S,
    /// What is done.
    pub script: Vec<Step>,
    /// From which values and tears follow.
    pub seed: u64,
    /// The ways to tear.
    pub tears: Vec<S::Tear>,
    /// How often each is tried, with another seed.
    pub tries: u64,
    /// How many steps follow after the cut.
    pub epilogue: usize,
}

/// The way from the start of the scenario to where it stands.
#[derive(Clone, Debug)]
struct Trail(Vec<String>);

impl<S: Sim> Sweep<S> {
    /// Cuts at every operation, in every way; says how many cuts that were.
    ///
    /// # Panics
    /// At the first wrong, with the way to it.
    pub fn single(&self) -> u64 {
        let mut cuts = 0;
        self.each_cut(|world, trail| {
            cuts += 1;
            trail.survives(world);
        });
        cuts
    }

    /// Cuts at every operation, and again at each of the `depth` operations behind that.
    ///
    /// # Panics
    /// At the first wrong, with the way to it.
    pub fn nested(&self, depth: u64) -> u64 {
        let mut cuts = 0;
        self.each_cut(|world, trail| {
            for ops in 0..depth {
                let mut again = world.branch();
                again.cut_after(ops);
                if trail.must(again.run(), None) == Ended::Done {
                    break;
                }
                let trail = trail.and(format!("cut again after {ops}"));
                let mut survive = |world: &mut World<S>, trail: &Trail| trail.survives(world);
                cuts += self.each_tear(&again, 1, &trail, &mut survive);
            }
        });
        cuts
    }

    fn each_cut(&self, mut then: impl FnMut(&mut World<S>, &Trail)) {
        for ops in 0.. {
            let mut world = World::new(self.setting, self.sim.clone(), &self.script, self.seed);
            let scenario = format!("{:?}, seed {}", self.setting, self.seed);
            let trail = Trail(vec![scenario, format!("cut after {ops}")]);
            world.cut_after(ops);
            if trail.must(world.run(), None) == Ended::Done {
                return;
            }
            world.stop_after(self.epilogue);
            self.each_tear(&world, self.tries, &trail, &mut then);
        }
    }

    fn each_tear(
        &self,
        cut: &World<S>,
        tries: u64,
        trail: &Trail,
        then: &mut impl FnMut(&mut World<S>, &Trail),
    ) -> u64 {
        let mut cuts = 0;
        let at = seed_for(self.seed, cut.counts().ops);
        for &tear in &self.tears {
            for attempt in 0..tries {
                let seed = seed_for(at, attempt);
                let mut world = cut.branch();
                world.revive(tear, seed);
                then(&mut world, &trail.and(format!("{tear:?} by {seed}")));
                cuts += 1;
            }
        }
        cuts
    }
}

/// Lives that end by a cut at any moment, until the script is through; says how many cuts that were.
///
/// # Errors
/// The first wrong, and the way to it.
pub fn random_lives<S: Sim>(
    world: &mut World<S>,
    tears: &[S::Tear],
    seed: u64,
    ops_max: u64,
) -> Result<u64, Wrong> {
    let way = random_cuts(world, tears, seed, ops_max)?;
    world
        .settle()
        .map_err(|wrong| format!("{wrong}\nway: {way:?}, then settled"))?;
    Ok(way.len() as u64)
}

/// As [`random_lives`], and what is left is opened once more and not twice: a short script has more to do with its cuts.
///
/// # Errors
/// The first wrong, and the way to it.
pub fn short_lives<S: Sim>(
    world: &mut World<S>,
    tears: &[S::Tear],
    seed: u64,
    ops_max: u64,
) -> Result<u64, Wrong> {
    let way = random_cuts(world, tears, seed, ops_max)?;
    world.play(&[]);
    world
        .run()
        .map_err(|wrong| format!("{wrong}\nway: {way:?}, then opened"))?;
    Ok(way.len() as u64)
}

/// How many operations each life had, and how it ended.
type Way<T> = Vec<(u64, T, u64)>;

fn random_cuts<S: Sim>(
    world: &mut World<S>,
    tears: &[S::Tear],
    seed: u64,
    ops_max: u64,
) -> Result<Way<S::Tear>, Wrong> {
    let mut random = Random::new(seed);
    let mut way = Vec::new();
    loop {
        // A life needs some operations to come further than the one before it.
        let patience = 1 + way.len() as u64 / 20;
        let ops = random.below(ops_max.saturating_mul(patience));
        world.cut_after(ops);
        let ended = world
            .run()
            .map_err(|wrong| format!("{wrong}\nway: {way:?}, {ops} more"))?;
        if ended == Ended::Done {
            break;
        }
        let (tear, seed) = (random.pick(tears), random.bits());
        way.push((ops, tear, seed));
        world.revive(tear, seed);
    }
    world.sim().sim_mut().disarm();
    Ok(way)
}

impl Trail {
    fn and(&self, more: String) -> Self {
        let mut trail = self.clone();
        trail.0.push(more);
        trail
    }

    fn survives<S: Sim>(&self, world: &mut World<S>) {
        self.must(world.run(), Some(Ended::Done));
        self.must(world.settle(), None);
    }

    fn must<T: PartialEq + Debug>(&self, outcome: Result<T, Wrong>, expected: Option<T>) -> T {
        match outcome {
            Ok(value) if expected.as_ref().is_none_or(|expected| *expected == value) => value,
            other => panic!("{other:?}\nway: {:#?}", self.0),
        }
    }
}
