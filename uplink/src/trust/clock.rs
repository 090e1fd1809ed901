//! The time that certificates are judged by, on machines whose clock may be wrong after each start.
//!
//! The last time that is known to have been good is kept on the disk. A clock that is behind it is wrong for sure. One that is more than [`AHEAD_MAX`]
//! ahead of it has jumped, or the machine was off for long: nobody can tell, so connections are tried by both times in turn, and a clock at 2070
//! does not lock a gateway out.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use sedge_store::{read_toml, write_toml};
use serde::{Deserialize, Serialize};

use super::unix_s;

/// The last time that is known to have been good.
#[derive(Debug)]
pub struct LastGood {
    path: Option<PathBuf>,
    seconds: AtomicU64,
    kept: AtomicU64,
    attempts: AtomicU64,
    heard: Mutex<Option<Heard>>,
}

/// What a hub said whose certificate was good.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Its time, in seconds since 1970.
    pub theirs: u64,
    /// When it was heard.
    pub at: Instant,
    /// How often one was heard.
    pub count: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Seconds since 1970.
    last_good: u64,
}

/// What is thought of the clock of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockState {
    /// It may be right.
    Plausible,
    /// It is behind a time that has been, by this much.
    Behind(Duration),
    /// It is ahead of the last good time by more than a certificate lives.
    Ahead(Duration),
}

impl LastGood {
    /// What the file at `path` says; the time at which this version was made, if it says nothing.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        // A file that cannot be read is no reason not to start: the time is learned again.
        let kept = read_toml::<Kept>(path).map_or(0, |k| k.last_good);
        Self {
            path: Some(path.into()),
            seconds: AtomicU64::new(kept.max(RELEASED)),
            kept: AtomicU64::new(kept),
            attempts: AtomicU64::new(0),
            heard: Mutex::default(),
        }
    }

    /// One that is forgotten.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            path: None,
            seconds: AtomicU64::new(RELEASED),
            kept: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            heard: Mutex::default(),
        }
    }

    /// A hub whose certificate was good says that it is `theirs`, in seconds since 1970, and our own clock says `ours`. Kept on the disk once an hour at most.
    pub fn learn(&self, theirs: u64, ours: u64) {
        let before = self.seconds.load(Relaxed);
        let now = match self.judge(ours).1 {
            ClockState::Plausible => ours.min(theirs),
            // Both can only be wrong in the same way by chance.
            ClockState::Ahead(_) if ours.abs_diff(theirs) <= AGREE.as_secs() => theirs,
            _ if theirs <= before + AHEAD_MAX.as_secs() => theirs,
            _ => return,
        };
        self.take_note(theirs);
        if now <= before {
            return;
        }
        self.seconds.store(now, Relaxed);
        let due = now.saturating_sub(self.kept.load(Relaxed)) >= KEPT_EVERY.as_secs();
        if let Some(path) = self.path.as_deref().filter(|_| due) {
            let kept = path
                .parent()
                .map_or(Ok(()), std::fs::create_dir_all)
                .and_then(|()| write_toml(path, &Kept { last_good: now }));
            match kept {
                Ok(()) => self.kept.store(now, Relaxed),
                Err(e) => {
                    tracing::debug!(path = %path.display(), error = %e, "the time is not kept")
                }
            }
        }
    }

    /// What a hub said last, if it can be right.
    #[must_use]
    pub fn heard(&self) -> Option<Heard> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_note(&self, theirs: u64) {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        *heard = Some(Heard {
            theirs,
            at: Instant::now(),
            count: heard.map_or(1, |heard| heard.count + 1),
        });
    }

    /// Whether a clock that says `system` may be right.
    #[must_use]
    pub fn is_plausible(&self, system: u64) -> bool {
        matches!(self.judge(system).1, ClockState::Plausible)
    }

    /// The time to judge by, and what is thought of the clock that says `system`.
    #[must_use]
    pub fn judge(&self, system: u64) -> (u64, ClockState) {
        let is_known = self.kept.load(Relaxed) != 0;
        judged(system, self.seconds.load(Relaxed), is_known)
    }

    /// What is thought of the clock now.
    #[must_use]
    pub fn state(&self) -> ClockState {
        self.judge(unix_s()).1
    }

    /// It was this time once, in seconds since 1970: something was made then that is here.
    pub fn has_been(&self, time: u64) {
        self.seconds.fetch_max(time, Relaxed);
    }

    /// Another attempt begins: where two times may be right, it is the other's turn.
    pub(super) fn attempt(&self) {
        self.attempts.fetch_add(1, Relaxed);
    }

    fn time_for_attempt(&self, system: u64) -> u64 {
        match self.judge(system) {
            (_, ClockState::Ahead(_)) if self.attempts.load(Relaxed).is_multiple_of(2) => system,
            (judged, _) => judged,
        }
    }
}

/// `last_good` is a time that was learned if it `is_known`; else it is only a time that has been.
fn judged(system: u64, last_good: u64, is_known: bool) -> (u64, ClockState) {
    let apart = Duration::from_secs(system.abs_diff(last_good));
    match system < last_good {
        true => (last_good, ClockState::Behind(apart)),
        false if is_known && apart > AHEAD_MAX => (last_good, ClockState::Ahead(apart)),
        false => (system, ClockState::Plausible),
    }
}

impl TimeProvider for LastGood {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = self.time_for_attempt(unix_s());
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// 2026-11-01: no clock of a machine that runs this is right if it says less.
const RELEASED: u64 = 1_793_491_200;
/// Somewhat more than the longest that [`authority`](super::authority) lets a gateway's certificate live.
pub const AHEAD_MAX: Duration = Duration::from_secs(400 * 86_400);
/// As well as two clocks that are right agree, somebody's time zone included.
const AGREE: Duration = Duration::from_secs(86_400);
const KEPT_EVERY: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn known_at(time: u64) -> LastGood {
        let clock = LastGood::in_memory();
        clock.seconds.store(time, Relaxed);
        clock.kept.store(time, Relaxed);
        clock
    }

    #[test]
    fn a_clock_at_1970_and_one_at_2070_are_judged_by_the_last_good_time() {
        let good = RELEASED + 100 * DAY;
        assert_eq!(judged(0, good, true).0, good);
        assert!(matches!(judged(0, good, true).1, ClockState::Behind(_)));
        let later = good + 399 * DAY;
        assert_eq!(judged(later, good, true), (later, ClockState::Plausible));
        let much_later = good + 44 * 365 * DAY;
        assert_eq!(judged(much_later, good, true).0, good);
        assert!(matches!(
            judged(much_later, good, true).1,
            ClockState::Ahead(_)
        ));
        let new = judged(much_later, RELEASED, false);
        assert_eq!(
            new,
            (much_later, ClockState::Plausible),
            "nothing speaks against it"
        );
    }

    /// It was enrolled, has never connected, and was switched off: its certificate is younger than this version, and not valid yet by the time of that.
    #[test]
    fn a_clock_at_1970_is_judged_by_what_is_known_to_have_been() {
        let clock = LastGood::in_memory();
        clock.has_been(RELEASED + 30 * DAY);
        clock.has_been(RELEASED + 20 * DAY);
        assert_eq!(clock.judge(0).0, RELEASED + 30 * DAY);
        assert!(!clock.is_plausible(RELEASED + 29 * DAY));
        assert!(clock.is_plausible(RELEASED + 31 * DAY));
    }

    #[test]
    fn where_two_times_may_be_right_both_are_tried_in_turn() {
        let clock = known_at(RELEASED);
        let far = RELEASED + 4_000 * DAY;
        let tried: Vec<u64> = (0..4)
            .map(|_| {
                clock.attempt();
                clock.time_for_attempt(far)
            })
            .collect();
        assert_eq!(tried, [RELEASED, far, RELEASED, far]);
        clock.attempt();
        assert_eq!(clock.time_for_attempt(5), RELEASED);
    }

    #[test]
    fn the_last_good_time_survives_a_restart_and_never_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock.toml");
        let clock = LastGood::open(&path);
        clock.learn(RELEASED + 30 * DAY, RELEASED + 31 * DAY);
        clock.learn(RELEASED + 20 * DAY, RELEASED + 31 * DAY);
        let again = LastGood::open(&path);
        assert_eq!(again.judge(0).0, RELEASED + 30 * DAY);
        std::fs::write(&path, "not a time").unwrap();
        assert_eq!(LastGood::open(&path).judge(0).0, RELEASED);
    }

    #[test]
    fn a_clock_that_is_wrong_learns_from_the_hub_and_a_hub_that_is_wrong_teaches_little() {
        let clock = known_at(RELEASED);
        clock.learn(RELEASED + 10 * DAY, 0);
        assert_eq!(clock.judge(0).0, RELEASED + 10 * DAY, "ours stands at 1970");
        clock.learn(RELEASED + 300 * DAY, RELEASED + 11 * DAY);
        assert_eq!(
            clock.judge(0).0,
            RELEASED + 11 * DAY,
            "theirs is ahead of ours"
        );
        clock.learn(RELEASED + 9_000 * DAY, 0);
        assert_eq!(clock.judge(0).0, RELEASED + 11 * DAY, "theirs has jumped");
        clock.learn(RELEASED + 900 * DAY, RELEASED + 900 * DAY);
        assert_eq!(
            clock.judge(0).0,
            RELEASED + 900 * DAY,
            "we were off for years"
        );
    }
}
