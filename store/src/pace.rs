//! How much may be written a day, so that a card lasts: the more of it is used up, the longer commits wait for company, up to what may be at risk.
//!
//! ```text
//! left   an hour's worth ───────── half ─────────────────── 0 ──── overdrawn
//! waits  linger                    linger, longer and longer … at_risk_max
//! ```
//! Nobody is told that an event is safe before it is: who waits for that waits longer. Knows nothing of logs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Bytes that all logs together should write to the device in a day.
#[derive(Debug)]
pub struct WriteBudget {
    bytes_a_day: u64,
    purse: Mutex<Purse>,
}

#[derive(Debug)]
struct Purse {
    /// Bytes. Below 0 more was written than there were; no more than an hour's worth is owed, else a burst would be felt for days.
    left: f64,
    counted_at: Instant,
}

/// The wait of one log's commits.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    pub(crate) linger: Duration,
    pub(crate) at_risk_max: Duration,
    pub(crate) budget: Option<Arc<WriteBudget>>,
}

impl WriteBudget {
    /// So many bytes a day. It begins with an hour's worth.
    #[must_use]
    pub fn a_day(bytes: u64) -> Arc<Self> {
        let purse = Purse {
            left: an_hours(bytes),
            counted_at: Instant::now(),
        };
        Arc::new(Self {
            bytes_a_day: bytes,
            purse: Mutex::new(purse),
        })
    }

    /// What is left of an hour's worth, as a share of it; below 0 if more was written than there was.
    #[must_use]
    pub fn left(&self) -> f64 {
        self.counted().left / an_hours(self.bytes_a_day)
    }

    /// Whether more is written than there is, although commits wait as long as they may.
    #[must_use]
    pub fn is_overdrawn(&self) -> bool {
        self.left() < 0.0
    }

    pub(crate) fn spend(&self, bytes: u64) {
        let most = an_hours(self.bytes_a_day);
        let mut purse = self.counted();
        purse.left = (purse.left - bytes as f64).max(-most);
    }

    /// The purse, with what has come in since.
    fn counted(&self) -> MutexGuard<'_, Purse> {
        let mut purse = self.purse.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, most) = (Instant::now(), an_hours(self.bytes_a_day));
        let passed = now.saturating_duration_since(purse.counted_at);
        let came = self.bytes_a_day as f64 * passed.as_secs_f64() / DAY_S;
        purse.left = (purse.left + came).min(most);
        purse.counted_at = now;
        purse
    }
}

/// Without a budget.
impl From<Duration> for Pace {
    fn from(linger: Duration) -> Self {
        Self {
            linger,
            at_risk_max: linger,
            budget: None,
        }
    }
}

impl Pace {
    /// How long a commit waits for company now.
    pub(crate) fn wait(&self) -> Duration {
        match &self.budget {
            Some(budget) => stretched(self.linger, self.at_risk_max, budget.left()),
            None => self.linger,
        }
    }
}

/// Grows by the same factor for each part of the lower half that is used up: what is written falls about as the wait grows.
fn stretched(linger: Duration, at_risk_max: Duration, left: f64) -> Duration {
    let used = 1.0 - (left * 2.0).clamp(0.0, 1.0);
    if used == 0.0 || at_risk_max <= linger {
        return linger;
    }
    let least = linger.max(LEAST);
    let factor = at_risk_max.as_secs_f64() / least.as_secs_f64();
    least.mul_f64(factor.powf(used)).clamp(linger, at_risk_max)
}

fn an_hours(bytes_a_day: u64) -> f64 {
    (bytes_a_day as f64 / 24.0).max(1.0)
}

const DAY_S: f64 = 86_400.0;
/// Nothing can be stretched.
const LEAST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_from_the_linger_to_the_most_and_no_further() {
        let (linger, most) = (Duration::from_millis(5), Duration::from_secs(1));
        let wait = |left| stretched(linger, most, left);
        assert_eq!([wait(1.0), wait(0.5)], [linger, linger]);
        assert_eq!([wait(0.0), wait(-1.0)], [most, most]);
        let steps: Vec<Duration> = (0..=10).rev().map(|n| wait(f64::from(n) / 20.0)).collect();
        assert!(steps.is_sorted(), "{steps:?}");
        let (half, between) = (wait(0.25), Duration::from_millis(70));
        assert!(
            half.abs_diff(between) < Duration::from_millis(2),
            "{half:?}"
        );
        assert_eq!(
            stretched(most, linger, 0.0),
            most,
            "what is configured holds"
        );
        assert_eq!(stretched(Duration::ZERO, most, 0.0), most);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_comes_back_in_a_day_and_a_burst_is_not_felt_for_ever() {
        let budget = WriteBudget::a_day(2_400);
        assert!((budget.left() - 1.0).abs() < 1e-9);
        budget.spend(150);
        assert!(budget.is_overdrawn());
        tokio::time::advance(Duration::from_secs(1_800)).await;
        assert!(budget.left().abs() < 1e-9);
        budget.spend(1_000_000);
        tokio::time::advance(Duration::from_secs(7_200)).await;
        assert!((budget.left() - 1.0).abs() < 1e-9);
    }
}
