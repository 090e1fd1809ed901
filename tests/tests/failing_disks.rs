//! Calls with which a gateway and a hub touch their disks in a short life fail, once, or for as long as it takes until the disk is well: both start
//! again, nothing that was acknowledged is lost, and nothing comes twice.
//!
//! In a run every call that changes something fails in one way, and of those that look one in twelve; the day decides in which way and which. With
//! `SEDGE_CASES=all` every call fails in every way, with `SEDGE_PAIRS=N` so many pairs of calls do.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sedge_tests::random::{Random, seed_for};
use sedge_tests::rig::{alone, seed_of_the_day, tell, times};
use sedge_tests::simulator::{Call, Failure, Side, Then, live};

/// The failures of one life.
type Case = Vec<Failure>;

/// Every way in which this call can fail.
fn failures_of(at: usize, call: Call) -> Vec<Failure> {
    let mut all = Vec::new();
    for &way in call.ways() {
        for then in Then::ALL {
            let at = at as u64;
            all.push(Failure { at, way, then });
        }
    }
    all
}

/// Each call of a life in each of its ways.
fn every_case(calls: &[Call]) -> Vec<Case> {
    let all = calls.iter().enumerate();
    let all = all.flat_map(|(at, call)| failures_of(at, *call));
    all.map(|failure| vec![failure]).collect()
}

/// Each call of a life that changes something, and some of the others, in one of its ways.
fn cases_of_the_day(calls: &[Call], seed: u64) -> Vec<Case> {
    let mut random = Random::new(seed);
    let turn = random.index(TURNS);
    let mut cases = Vec::new();
    for (at, call) in calls.iter().enumerate() {
        let ways = failures_of(at, *call);
        if call.changes() || (!ways.is_empty() && at % TURNS == turn) {
            cases.push(vec![random.pick(&ways)]);
        }
    }
    cases
}

/// Any call, and another one shortly behind it.
fn pair(calls: &[Call], mut random: Random) -> Case {
    let mut first = random.index(calls.len());
    while calls[first].ways().is_empty() {
        first = random.index(calls.len());
    }
    // What is called then, the first failure has changed: it fails in whatever way it can.
    let second = first + 1 + random.index(REACH);
    let like = calls[random.index(calls.len())];
    let mut of = |at, call| {
        let ways = failures_of(at, call);
        (!ways.is_empty()).then(|| random.pick(&ways))
    };
    [of(first, calls[first]), of(second, like)]
        .into_iter()
        .flatten()
        .collect()
}

fn outlives(side: Side) {
    let _alone = alone();
    let seed = seed_of_the_day();
    let undisturbed = live(SCENARIO, side, &[]);
    assert_eq!(undisturbed.wrong, None, "{}", undisturbed.story);
    let calls = undisturbed.calls;
    let mut cases = match std::env::var("SEDGE_CASES").as_deref() {
        Ok("all") => every_case(&calls),
        _ => cases_of_the_day(&calls, seed),
    };
    let singles = cases.len();
    let pairs = times("SEDGE_PAIRS", PAIRS);
    cases.extend((0..pairs).map(|number| pair(&calls, Random::new(seed_for(seed, number)))));
    let made = counted(calls.iter());
    tell(&format!(
        "{side:?}: SEDGE_SEED={seed}, calls of a life: {made:?}"
    ));
    let begun = play(side, &calls, &cases);
    let failed = counted(
        calls
            .iter()
            .enumerate()
            .filter(|(at, _)| begun[*at])
            .map(|(_, call)| call),
    );
    tell(&format!(
        "{side:?}: {singles} lives with one failure, {pairs} with two; calls that failed: {failed:?}"
    ));
    for (call, count) in made.iter().filter(|(call, _)| call.changes()) {
        assert_eq!(failed.get(call), Some(count), "{call:?}");
    }
}

fn counted<'c>(calls: impl Iterator<Item = &'c Call>) -> BTreeMap<Call, u64> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(*call).or_default() += 1;
    }
    counts
}

/// Lives all of `cases`; says which calls failed first in one.
fn play(side: Side, calls: &[Call], cases: &[Case]) -> Vec<bool> {
    let next = AtomicUsize::new(0);
    let (begun, wrong) = (Mutex::new(vec![false; calls.len()]), Mutex::new(Vec::new()));
    let work = || {
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let lived = live(SCENARIO, side, case);
            let first = case[0].at as usize;
            assert_eq!(lived.failed[0], Some(calls[first]), "{case:?}");
            begun.lock().expect("nobody panics with it")[first] = true;
            if let Some(error) = lived.wrong {
                tell(&format!(
                    "{side:?}, {case:?}, which is {:?}: {error}",
                    lived.failed
                ));
                let mut wrong = wrong.lock().expect("nobody panics with it");
                wrong.push(format!("{side:?}, {case:?}: {error}"));
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
        "{} wrong, the first: {}",
        wrong.len(),
        wrong[0]
    );
    begun.into_inner().expect("nobody panics with it")
}

#[test]
fn a_gateway_outlives_calls_that_fail() {
    outlives(Side::Gateway);
}

#[test]
fn a_hub_outlives_calls_that_fail() {
    outlives(Side::Hub);
}

/// From which the scenario follows, but for what fails.
const SCENARIO: u64 = 1;
/// Calls that look take turns.
const TURNS: usize = 12;
/// On each side.
const PAIRS: u64 = 20;
/// How many calls behind the first failure the second one comes, at most.
const REACH: usize = 60;
