//! What is done to a log in a scenario: steps that depend on a seed only.

use crate::random::Random;

/// One step of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A commit of frames with so many records each.
    Commit(Vec<usize>),
    /// Idle time: recycle ahead.
    Maintain,
    /// The uplink says that it has everything but the last `behind` offsets.
    Release {
        /// Distance to the end.
        behind: u64,
    },
    /// The uplink is removed.
    Forget,
    /// A clean stop and a start.
    Close,
    /// A stop without a word, and a start.
    Restart,
}

/// `len` steps, mostly commits of one to three frames with up to `records_max` records each.
#[must_use]
pub fn mixed(seed: u64, len: usize, records_max: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    (0..len)
        .map(|_| match random.below(16) {
            0..=9 => commit(&mut random, records_max),
            10..=12 => Step::Maintain,
            13 => Step::Release {
                behind: random.below(12),
            },
            14 if random.one_in(4) => Step::Forget,
            14 => Step::Restart,
            _ => Step::Close,
        })
        .collect()
}

/// `len` steps that fill the ring: commits, with maintenance after each third.
#[must_use]
pub fn filling(seed: u64, len: usize, records_max: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    (0..len)
        .map(|at| {
            if at % 4 == 3 {
                Step::Maintain
            } else {
                commit(&mut random, records_max)
            }
        })
        .collect()
}

fn commit(random: &mut Random, records_max: usize) -> Step {
    let frames = random.pick(&[1, 1, 1, 2, 3]);
    Step::Commit((0..frames).map(|_| 1 + random.index(records_max)).collect())
}
