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
    /// When somebody was last kept out.
    refused: Option<Instant>,
    /// Since when it is known that two gateways have the name.
    raised: Option<Instant>,
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
        let is_raised = went_on || (often && self.replaced.front().is_some_and(lately));
        let since = self.raised.filter(|_| went_on).unwrap_or(now);
        self.raised = is_raised.then_some(since);
        match (went_on, is_raised) {
            (true, _) => Verdict::GoesOn,
            (false, true) => Verdict::Raised,
            (false, false) => Verdict::Calm,
        }
    }

    /// Whether two gateways have the name, as far as is known.
    pub(crate) fn is_on(&self, now: Instant) -> bool {
        let last = self.replaced.back().copied().max(self.refused);
        let is_late = last.is_some_and(|last| now.duration_since(last) < QUIET);
        self.raised.is_some() && is_late
    }

    /// Whether who has had the seat since `taken` keeps it, though another sender asks for it. Each turn leaves a mirror of each log behind, so turns get longer
    /// with the time that it goes on.
    pub(crate) fn keeps(&mut self, taken: Instant, now: Instant) -> bool {
        let Some(since) = self.raised.filter(|_| self.is_on(now)) else {
            return false;
        };
        let turn = (now.duration_since(since) / TURN_PART).min(TURN_MOST);
        let keeps = now.duration_since(taken) < turn;
        if keeps {
            self.refused = Some(now);
        }
        keeps
    }

    /// Ends it after a quiet time; says so once.
    pub(crate) fn settle(&mut self, now: Instant) -> bool {
        let over = self.raised.is_some() && !self.is_on(now);
        if over {
            *self = Self::default();
        }
        over
    }
}

/// So many replacements …
const REPLACED_MIN: usize = 3;
/// … within this time raise it.
const WITHIN: Duration = Duration::from_secs(60);
/// A turn takes this part of the time that it has gone on …
const TURN_PART: u32 = 8;
/// … and no longer than this: so long does the other one wait.
const TURN_MOST: Duration = Duration::from_secs(3600);
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

    /// Two that ask every other minute for a day.
    #[test]
    fn turns_get_longer_with_the_time_that_it_goes_on() {
        let (mut quarrel, began) = (Quarrel::default(), Instant::now());
        let (mut taken, mut turns) = (began, Vec::new());
        for seconds in [0, 20, 40]
            .into_iter()
            .chain((160..2 * 86_400).step_by(120))
        {
            let now = at(began, seconds);
            if !quarrel.keeps(taken, now) {
                turns.push(now.duration_since(taken).as_secs());
                quarrel.replaced(now);
                taken = now;
            }
            assert!(quarrel.is_on(now) || seconds < 40);
        }
        assert!(turns.is_sorted(), "{turns:?}");
        assert_eq!(turns[..8], [0, 20, 20, 120, 120, 120, 120, 120]);
        assert_eq!(*turns.last().unwrap(), 3600);
        assert!(turns.len() < 80, "{}", turns.len());
        let last = at(began, 2 * 86_400 - 80);
        assert!(!quarrel.settle(last));
        assert!(quarrel.settle(last + QUIET));
        assert!(
            !quarrel.keeps(taken, last + QUIET),
            "a gateway that was exchanged"
        );
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
