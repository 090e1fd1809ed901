//! A limit on what many logs take on the disk together: mirrors grow segment by segment, and ask here before each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

    /// Takes `bytes`, if they are there.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let more = |taken: u64| {
            taken
                .checked_add(bytes)
                .filter(|sum| *sum <= self.0.bytes_max)
        };
        self.0.taken.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// Counts `bytes` that were there before.
    pub(crate) fn count(&self, bytes: u64) {
        self.0.taken.fetch_add(bytes, Relaxed);
    }

    /// Gives `bytes` back.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.0.taken.fetch_sub(bytes, Relaxed);
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
