//! Whether two gateways call themselves by one name (a cloned disk, a copied file): their connections replace each other again and again.
//!
//! Knows nothing of connections; time is an argument.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// A connection that says who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Where it comes from.
    pub(crate) peer: SocketAddr,
    /// The session's generation, as its Hello says.
    pub(crate) generation: u64,
}

impl Claim {
    /// Whether the sender of `older` may have made this connection too: a gateway that comes back over a bad network counts on from its
    /// last session, while its old connection may look alive for half a minute. Another process began with another time.
    pub(crate) fn continues(&self, older: &Self) -> bool {
        let step = self.generation.checked_sub(older.generation);
        step.is_some_and(|step| (1..SESSIONS_APART).contains(&step))
    }
}

/// How often live connections of one name were replaced by those of another sender.
#[derive(Debug, Default)]
pub(crate) struct Quarrel {
    /// The latest times.
    replaced: VecDeque<Instant>,
    raised: bool,
}

/// What a replacement says about the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// One replacement, or two: a gateway was restarted, or exchanged.
    Calm,
    /// It has just turned out that two gateways have the name.
    Raised,
    /// That is known, and goes on.
    GoesOn,
}

impl Quarrel {
    /// A live connection was replaced by one of another sender.
    pub(crate) fn replaced(&mut self, now: Instant) -> Verdict {
        let went_on = self.is_on(now);
        if self.replaced.len() == REPLACED_MIN {
            self.replaced.pop_front();
        }
        self.replaced.push_back(now);
        let often = self.replaced.len() == REPLACED_MIN;
        let lately = |first: &Instant| now.duration_since(*first) <= WITHIN;
        self.raised = went_on || (often && self.replaced.front().is_some_and(lately));
        match (went_on, self.raised) {
            (true, _) => Verdict::GoesOn,
            (false, true) => Verdict::Raised,
            (false, false) => Verdict::Calm,
        }
    }

    /// Whether two gateways have the name, as far as is known.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        let lately = |last: &Instant| now.duration_since(*last) < QUIET;
        self.raised && self.replaced.back().is_some_and(lately)
    }

    /// Ends it after a quiet time; says so once.
    pub(crate) fn settle(&mut self, now: Instant) -> bool {
        let over = self.raised && !self.is_on(now);
        self.raised &= !over;
        over
    }
}

/// So many replacements …
const REPLACED_MIN: usize = 3;
/// … within this time raise it.
const WITHIN: Duration = Duration::from_secs(60);
/// Without a replacement for so long it is over. Longer than a replaced gateway waits before it comes back.
const QUIET: Duration = Duration::from_secs(300);
/// Generations begin with the start of the process in microseconds and count sessions.
const SESSIONS_APART: u64 = 1_000;

const _: () = assert!(QUIET.as_secs() > 2 * crate::forward::REPLACED_MOST.as_secs());

#[cfg(test)]
mod tests {
    use super::*;

    fn at(began: Instant, seconds: u64) -> Instant {
        began + Duration::from_secs(seconds)
    }

    fn claim(generation: u64) -> Claim {
        Claim {
            peer: ([127, 0, 0, 1], 4000).into(),
            generation,
        }
    }

    #[test]
    fn three_replacements_within_a_minute_raise_it_once() {
        let (mut quarrel, began) = (Quarrel::default(), Instant::now());
        let said = [0, 20, 40, 60].map(|s| quarrel.replaced(at(began, s)));
        let (calm, raised, goes_on) = (Verdict::Calm, Verdict::Raised, Verdict::GoesOn);
        assert_eq!(said, [calm, calm, raised, goes_on]);
        assert!(quarrel.is_on(at(began, 60)));
    }

    #[test]
    fn a_gateway_that_is_exchanged_now_and_then_raises_nothing() {
        let (mut quarrel, began) = (Quarrel::default(), Instant::now());
        for n in 0..50 {
            assert_eq!(quarrel.replaced(at(began, n * 31)), Verdict::Calm);
        }
        assert!(!quarrel.settle(at(began, 10_000)), "nothing was raised");
    }

    /// Once it is known, the two wait longer and longer: it goes on at that pace, and is over when one of them is gone.
    #[test]
    fn it_goes_on_at_a_slower_pace_and_is_over_after_a_quiet_time() {
        let (mut quarrel, began) = (Quarrel::default(), Instant::now());
        for seconds in [0, 8, 20, 60, 180, 300] {
            quarrel.replaced(at(began, seconds));
        }
        assert!(!quarrel.settle(at(began, 599)) && quarrel.is_on(at(began, 599)));
        assert!(!quarrel.is_on(at(began, 600)));
        assert!(quarrel.settle(at(began, 600)) && !quarrel.settle(at(began, 601)));
        assert_eq!(quarrel.replaced(at(began, 700)), Verdict::Calm);
    }

    #[test]
    fn a_gateway_that_comes_back_is_not_another_one() {
        let began = 1_700_000_000_000_000;
        assert!(claim(began + 5).continues(&claim(began + 4)));
        assert!(!claim(began + 4_000_000).continues(&claim(began + 4)));
        let (older, newer) = (claim(began), claim(began + 4_000_000));
        assert!(!older.continues(&newer), "the older one comes back");
        assert!(!older.continues(&older), "a clone that counts alike");
    }

    #[test]
    fn a_minute_is_within_a_minute_and_a_moment_more_is_not() {
        for (last, verdict) in [(60_000, Verdict::Raised), (60_001, Verdict::Calm)] {
            let (mut quarrel, began) = (Quarrel::default(), Instant::now());
            let said =
                [0, 30_000, last].map(|ms| quarrel.replaced(began + Duration::from_millis(ms)));
            assert_eq!(said, [Verdict::Calm, Verdict::Calm, verdict]);
        }
        let (newest, oldest) = (claim(2_000), claim(1_001));
        assert!(newest.continues(&oldest), "a thousand sessions less one");
        assert!(!newest.continues(&claim(1_000)));
    }
}
