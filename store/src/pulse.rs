//! Signs of life: who works in rounds says by when the next one begins, and whoever watches sees how late it is.
//!
//! ```text
//! next_by(until) ── waits ──► next_by(now) ── works ──► next_by(until) …      late: how long ago the promised time has passed
//! ```
//! A part that waits in peace is never late, and one that hangs, in its work or while it waits, is later each moment. How late is too late is for the
//! watcher to say. Knows nothing of who watches.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The signs of one part. Cheap to clone: all clones are the same part.
#[derive(Clone, Debug)]
pub struct Pulse(Arc<Signs>);

#[derive(Debug)]
struct Signs {
    began: Instant,
    /// Microseconds after `began`.
    due_us: AtomicU64,
}

impl Pulse {
    /// The first sign is due at once.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it begins to measure time")]
    pub fn new() -> Self {
        Self(Arc::new(Signs {
            began: Instant::now(),
            due_us: AtomicU64::new(0),
        }))
    }

    /// Promises another sign by `at`.
    pub fn next_by(&self, at: Instant) {
        let us = at.saturating_duration_since(self.0.began).as_micros();
        // What is further away than all time is no promise.
        self.0
            .due_us
            .store(u64::try_from(us).unwrap_or(AT_REST), Relaxed);
    }

    /// It works from now on: each further moment counts.
    pub fn works(&self) {
        self.next_by(Instant::now());
    }

    /// Promises nothing any more.
    pub fn rest(&self) {
        self.0.due_us.store(AT_REST, Relaxed);
    }

    /// How long ago the promised time has passed.
    #[must_use]
    pub fn late(&self) -> Duration {
        self.late_at(Instant::now())
    }

    fn late_at(&self, now: Instant) -> Duration {
        match self.0.due_us.load(Relaxed) {
            AT_REST => Duration::ZERO,
            due_us => {
                let due = self.0.began + Duration::from_micros(due_us);
                now.saturating_duration_since(due)
            }
        }
    }
}

/// Pieces of work that are under way, each of which ends by itself. Cheap to clone: all clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Underway(Arc<Mutex<Begun>>);

/// When each began.
#[derive(Debug, Default)]
struct Begun {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// One of them; it has ended when this is dropped.
#[derive(Debug)]
#[must_use = "the work ends when this is dropped"]
pub struct Piece {
    of: Underway,
    number: u64,
}

impl Underway {
    /// A piece of work begins.
    pub fn begin(&self) -> Piece {
        let mut begun = self.begun();
        let number = begun.next;
        begun.next += 1;
        begun.since.insert(number, Instant::now());
        Piece {
            of: self.clone(),
            number,
        }
    }

    /// How long the oldest of them has been under way.
    #[must_use]
    pub fn late(&self) -> Duration {
        self.late_at(Instant::now())
    }

    fn late_at(&self, now: Instant) -> Duration {
        let begun = self.begun();
        let oldest = begun.since.first_key_value();
        oldest.map_or(Duration::ZERO, |(_, since)| {
            now.saturating_duration_since(*since)
        })
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        // Each change under this lock is complete by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.of.begun().since.remove(&self.number);
    }
}

const AT_REST: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_waits_as_long_as_it_said_is_not_late_and_who_waits_longer_is() {
        let (pulse, now) = (Pulse::new(), Instant::now());
        pulse.next_by(now + 10 * SECOND);
        assert_eq!(pulse.late_at(now + 9 * SECOND), Duration::ZERO);
        let late = pulse.clone().late_at(now + 13 * SECOND);
        assert!(late >= 3 * SECOND && late < 4 * SECOND, "{late:?}");
    }

    #[test]
    fn work_that_does_not_end_is_late_from_its_beginning_and_rest_never() {
        let pulse = Pulse::new();
        pulse.next_by(Instant::now() + 100 * SECOND);
        pulse.works();
        let later = Instant::now() + 5 * SECOND;
        assert!(pulse.late_at(later) >= 5 * SECOND);
        pulse.rest();
        assert_eq!(pulse.late_at(later), Duration::ZERO);
    }

    #[test]
    fn the_oldest_piece_that_has_not_ended_counts() {
        let underway = Underway::default();
        let (first, second) = (underway.begin(), underway.begin());
        let later = Instant::now() + SECOND;
        assert!(underway.late_at(later) >= SECOND);
        drop(first);
        assert!(underway.late_at(later) >= SECOND);
        drop(second);
        assert_eq!(underway.late_at(later), Duration::ZERO);
    }
}
