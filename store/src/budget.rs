//! A limit on what many logs take on the disk together: mirrors grow segment by segment, and ask here before each.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{disk, media};

/// Bytes that may be taken, and those that are. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes_max: u64,
    taken: AtomicU64,
}

impl Budget {
    /// A budget of `bytes_max`.
    pub fn new(bytes_max: u64) -> Self {
        Self(Arc::new(Inner {
            bytes_max,
            taken: AtomicU64::new(0),
        }))
    }

    /// Bytes that are taken. May be above the limit: what is on the disk already stays.
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Relaxed)
    }

    /// Bytes that may still be taken.
    pub fn left(&self) -> u64 {
        self.0.bytes_max.saturating_sub(self.taken())
    }

    /// Counts the files of the log in `dir` as long as what is returned is there: of one that cannot be opened. What cannot be read is not counted.
    #[must_use]
    pub fn hold(&self, dir: &Path) -> Held {
        let bytes = |number| disk::len(&dir.join(media::file_name(number))).unwrap_or(0);
        let segments = media::segments_in(dir).unwrap_or_default();
        let share = Share::of(self.clone());
        share.count(segments.into_iter().map(bytes).sum());
        Held { _share: share }
    }

    /// Takes `bytes`, if they are there.
    fn take(&self, bytes: u64) -> bool {
        let more = |taken: u64| {
            taken
                .checked_add(bytes)
                .filter(|sum| *sum <= self.0.bytes_max)
        };
        self.0.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Counts `bytes` that were there before.
    fn count(&self, bytes: u64) {
        self.0.taken.fetch_add(bytes, Relaxed);
    }

    /// Gives `bytes` back.
    fn give_back(&self, bytes: u64) {
        self.0.taken.fetch_sub(bytes, Relaxed);
    }
}

/// Files of a log that nobody has open, and that count in a [`Budget`].
#[derive(Debug)]
pub struct Held {
    _share: Share,
}

/// What one log has of a budget. Clones share it; with the last of them all of it goes back, whatever became of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Share(Arc<Part>);

#[derive(Debug, Default)]
struct Part {
    budget: Budget,
    bytes: AtomicU64,
}

impl Share {
    pub(crate) fn of(budget: Budget) -> Self {
        let bytes = AtomicU64::new(0);
        Self(Arc::new(Part { budget, bytes }))
    }

    /// Takes `bytes` more, if they are there.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let is_taken = self.0.budget.take(bytes);
        if is_taken {
            self.0.bytes.fetch_add(bytes, Relaxed);
        }
        is_taken
    }

    /// Counts `bytes` that were there before.
    pub(crate) fn count(&self, bytes: u64) {
        self.0.budget.count(bytes);
        self.0.bytes.fetch_add(bytes, Relaxed);
    }

    /// Gives `bytes` back that it has.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.0.bytes.fetch_sub(bytes, Relaxed);
        self.0.budget.give_back(bytes);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.budget.give_back(*self.bytes.get_mut());
    }
}

/// No limit that could be reached.
impl Default for Budget {
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn what_is_there_counts_and_what_is_not_left_is_not_given() {
        let budget = Budget::new(100);
        budget.count(90);
        assert!(!budget.take(11) && budget.take(10));
        assert_eq!((budget.taken(), budget.left()), (100, 0));
        budget.count(50);
        assert_eq!(budget.left(), 0);
        budget.give_back(70);
        assert_eq!(budget.left(), 20);
    }
}
