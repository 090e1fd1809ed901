//! A scenario again and again, and in each one operation of its medium fails: every operation, in each of its ways, once, for a while, or until the
//! log is opened again. Then the same with a second failure behind the first.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::errors::{Failing, Fails, Length, Op, Scope, Trouble};
use crate::oracle::Damage;
use crate::random::{Random, seed_for};
use crate::script::Step;
use crate::world::{Ended, Setting, World, Wrong};

/// One scenario on a medium that can fail.
#[derive(Clone, Debug)]
pub struct ErrorSweep<S: Fails> {
    /// The log.
    pub setting: Setting,
    /// The medium before the first boot.
    pub sim: S,
    /// What is done.
    pub script: Vec<Step>,
    /// From which values follow.
    pub seed: u64,
    /// Operations fail one at a time, and not several in a row.
    pub once: bool,
}

/// What a sweep went through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Operations of the life in which nothing fails, by kind.
    pub made: BTreeMap<Op, u64>,
    /// Operations with which some trouble began, by kind.
    pub failed: BTreeMap<Op, u64>,
    /// Lives with trouble.
    pub cases: u64,
}

/// One life: what goes wrong, and whether power fails when the log has to be opened again for it.
#[derive(Clone, Copy, Debug)]
struct Case<W> {
    first: Trouble<W>,
    second: Option<Trouble<W>>,
    cuts: bool,
    /// Reads may fail so that another try does not help.
    fails_to_read: bool,
}

impl<S: Fails + Send + Sync> ErrorSweep<S>
where
    S::Way: Send + Sync,
{
    /// Every operation fails in every way, on all processors.
    ///
    /// # Panics
    /// With the ways to everything that was wrong.
    #[must_use]
    pub fn single(&self) -> Swept {
        let ops = self.undisturbed();
        let mut swept = Swept::default();
        for op in &ops {
            *swept.made.entry(*op).or_default() += 1;
        }
        let cases = |at: u64| self.cases_at(at, ops[at as usize], ALONE);
        let tally = self.play(ops.len() as u64, &cases);
        for op in ops.iter().enumerate().filter(|(at, _)| tally.begun[*at]) {
            *swept.failed.entry(*op.1).or_default() += 1;
        }
        swept.cases = tally.cases;
        swept
    }

    /// `pairs` failures and a second one up to `reach` operations behind each, by chance from `seed`; all there are, if `pairs` is `None`.
    ///
    /// # Panics
    /// With the ways to everything that was wrong.
    #[must_use]
    pub fn pairs(&self, pairs: Option<u64>, reach: u64, seed: u64) -> u64 {
        let ops = self.undisturbed();
        let count = ops.len() as u64;
        if let Some(pairs) = pairs {
            let one = |number: u64| {
                let mut random = Random::new(seed_for(seed, number));
                let at = random.below(count);
                let cases = self.cases_at(at, ops[at as usize], !ALONE);
                let case = random.pick(&cases);
                let second = self.second(at + 1 + random.below(reach), &mut random);
                vec![Case {
                    second: Some(second),
                    fails_to_read: true,
                    ..case
                }]
            };
            return self.play(pairs, &one).cases;
        }
        let all = |at: u64| {
            let mut random = Random::new(seed_for(seed, at));
            let firsts = self.cases_at(at, ops[at as usize], !ALONE);
            let mut cases = Vec::new();
            for behind in 1..=reach {
                for first in &firsts {
                    cases.push(Case {
                        second: Some(self.second(at + behind, &mut random)),
                        fails_to_read: true,
                        ..*first
                    });
                }
            }
            cases
        };
        self.play(count, &all).cases
    }

    /// What is asked of the medium in a life in which nothing fails.
    fn undisturbed(&self) -> Vec<Op> {
        let mut world = self.world();
        world.sim().sim_mut().record();
        assert_eq!(world.run(), Ok(Ended::Done), "nothing fails");
        world.sim().sim().recorded().to_vec()
    }

    fn cases_at(&self, at: u64, op: Op, alone: bool) -> Vec<Case<S::Way>> {
        let comes = |(scope, length): &&(Scope, Length)| {
            let is_sound = *scope != Scope::Changes || op != Op::Read;
            is_sound && (!self.once || *length == Length::ONCE)
        };
        let lasting = S::LASTING.iter().filter(comes);
        let mut cases = Vec::new();
        for &way in S::ways(op, alone) {
            for &(scope, length) in lasting.clone() {
                for cuts in [false, true] {
                    let first = Trouble {
                        at,
                        way,
                        scope,
                        length,
                    };
                    cases.push(Case {
                        first,
                        second: None,
                        cuts,
                        fails_to_read: scope == Scope::All
                            || (op == Op::Read && length != Length::ONCE),
                    });
                }
            }
        }
        // Without a page cache a power cut is what opening it again is.
        cases.retain(|case| S::IS_CAREFUL || !case.cuts);
        cases
    }

    /// Whichever operation it meets, it has to have a way to fail.
    fn second(&self, at: u64, random: &mut Random) -> Trouble<S::Way> {
        let op = random.pick(&[Op::Program, Op::Sync, Op::Erase, Op::Read]);
        let (scope, length) = random.pick(S::LASTING);
        Trouble {
            at,
            way: random.pick(S::ways(op, !ALONE)),
            scope,
            length,
        }
    }

    fn world(&self) -> World<Failing<S>> {
        World::new(
            self.setting,
            Failing::new(self.sim.clone()),
            &self.script,
            self.seed,
        )
    }

    /// Goes through the cases of each number below `end`, on all processors.
    fn play(&self, end: u64, cases: &(impl Fn(u64) -> Vec<Case<S::Way>> + Sync)) -> Tally {
        let (next, all) = (AtomicU64::new(0), AtomicU64::new(0));
        let (begun, wrong) = (
            Mutex::new(vec![false; end as usize]),
            Mutex::new(Vec::new()),
        );
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= end {
                    return;
                }
                for case in cases(number) {
                    all.fetch_add(1, Ordering::Relaxed);
                    // A panic, of the log or of the medium, is a wrong like any other.
                    let lived = catch_unwind(AssertUnwindSafe(|| self.live(&case)));
                    match lived.unwrap_or_else(|panic| Err(words(&*panic))) {
                        Ok(has_begun) => {
                            begun.lock().expect("nobody panics with it")[number as usize] |=
                                has_begun;
                        }
                        Err(error) => {
                            let mut wrong = wrong.lock().expect("nobody panics with it");
                            wrong.push((error, format!("{case:?}")));
                        }
                    }
                }
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..processors {
                scope.spawn(work);
            }
        });
        let wrong = wrong.into_inner().expect("nobody panics with it");
        assert!(
            wrong.is_empty(),
            "{:?}, seed {}: {} wrong\n{}",
            self.setting,
            self.seed,
            wrong.len(),
            one_of_each(wrong)
        );
        Tally {
            begun: begun.into_inner().expect("nobody panics with it"),
            cases: all.into_inner(),
        }
    }

    /// One life with trouble, and what comes behind it. Says whether the trouble came.
    fn live(&self, case: &Case<S::Way>) -> Result<bool, Wrong> {
        let mut world = self.world();
        world.sim().sim_mut().plan(case.first);
        if let Some(second) = case.second {
            world.sim().sim_mut().plan(second);
        }
        world.expect_errors(ERRORS_MAX);
        world.give_up_after(ATTEMPTS_MAX);
        world.stop_at_failure(case.cuts);
        if case.fails_to_read {
            world.damaged(Damage::Unread);
        }
        let seed = seed_for(self.seed, case.first.at);
        while world.run()? == Ended::Failed {
            world.sim().sim_mut().inner_mut().lose_power(seed);
            world.stop_at_failure(false);
        }
        let has_begun = world.sim().sim().began()[0].is_some();
        world.sim().sim_mut().heal();
        world.sim().sim_mut().inner_mut().lose_power(seed);
        world.settle()?;
        world.play(&[
            Step::Release { behind: 0 },
            Step::Maintain,
            Step::Commit(vec![2]),
            Step::Restart,
        ]);
        world.run()?;
        match world.oracle().held() {
            0 => Err("the record that was committed last is not there".into()),
            _ => Ok(has_begun),
        }
    }
}

struct Tally {
    begun: Vec<bool>,
    cases: u64,
}

/// What a panic says.
fn words(panic: &(dyn Any + Send)) -> Wrong {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    format!("panicked: {}", text.unwrap_or_default())
}

/// Of the wrongs that read alike but for their numbers, the first, and how many there are.
fn one_of_each(mut wrong: Vec<(Wrong, String)>) -> String {
    wrong.sort();
    let mut kinds: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for (wrong, case) in wrong {
        let kind = wrong.chars().filter(char::is_ascii_alphabetic);
        let kind = kind.take(KIND_LETTERS).collect();
        kinds
            .entry(kind)
            .or_insert((0, format!("{wrong}\n  {case}")))
            .0 += 1;
    }
    let lines = kinds
        .values()
        .map(|(count, first)| format!("{count} times: {first}\n"));
    lines.collect()
}

/// Nothing else fails.
const ALONE: bool = true;
/// A log that needs more than this does not come back.
const ERRORS_MAX: u32 = 60;
const ATTEMPTS_MAX: u32 = 3;
const KIND_LETTERS: usize = 40;
