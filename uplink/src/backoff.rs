//! How long to wait before the next attempt: doubling, capped, and never at the same moment as everybody else.

use std::time::Duration;

use sedge_store::world;

/// The waits between attempts.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// Waits between half of `first` and `most`.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            ceiling: first,
        }
    }

    /// It worked: begin with `first` again.
    pub(crate) fn reset(&mut self) {
        self.ceiling = self.first;
    }

    /// The next wait: between half and all of the ceiling, which then doubles.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let half = self.ceiling / 2;
        self.ceiling = (self.ceiling * 2).min(self.most);
        half + half.mul_f64(fraction())
    }
}

/// A random number from 0 up to 1. Without entropy it is always a half: a wait is never worth failing for.
fn fraction() -> f64 {
    let mut bytes = [0; 4];
    let drawn = world::entropy(&mut bytes).map(|()| u32::from_le_bytes(bytes));
    drawn.map_or(0.5, |n| f64::from(n) / (f64::from(u32::MAX) + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_begin_again_after_success() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(2));
        let mut backoff = Backoff::new(first, most);
        for ceiling in [100, 200, 400, 800, 1_600, 2_000, 2_000].map(Duration::from_millis) {
            let wait = backoff.next_wait();
            assert!(
                wait >= ceiling / 2 && wait <= ceiling,
                "{wait:?} is not within {ceiling:?}"
            );
        }
        backoff.reset();
        assert!(backoff.next_wait() <= first);
    }
}
