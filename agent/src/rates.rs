//! Counts at some moments, to make rates of: how fast each grew over a sliding window. Time is an argument; memory is bounded.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// The samples of one window.
#[derive(Debug)]
pub(crate) struct Rates {
    every: Duration,
    samples_max: usize,
    sampled: Option<Instant>,
    counts: BTreeMap<String, VecDeque<(Instant, u64)>>,
}

impl Rates {
    /// A window of `span`, looked through by a sample `every` so long.
    pub(crate) fn new(span: Duration, every: Duration) -> Self {
        let steps = (span.as_millis() / every.as_millis().max(1)) as usize;
        Self {
            every,
            samples_max: steps + 1,
            sampled: None,
            counts: BTreeMap::new(),
        }
    }

    /// Whether the last sample is old enough for another.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.sampled
            .is_none_or(|last| now.saturating_duration_since(last) + TIMER_SLACK >= self.every)
    }

    /// Remembers the counts of `now`, and forgets those that have left the window and those of what is gone.
    pub(crate) fn sample(&mut self, now: Instant, counts: BTreeMap<String, u64>) {
        self.sampled = Some(now);
        self.counts.retain(|what, _| counts.contains_key(what));
        for (what, count) in counts {
            let samples = self.counts.entry(what).or_default();
            samples.push_back((now, count));
            if samples.len() > self.samples_max {
                samples.pop_front();
            }
        }
    }

    /// What was measured of everything whose name begins with `prefix` holds no longer: it is measured anew.
    pub(crate) fn begin_anew(&mut self, prefix: &str) {
        self.counts.retain(|what, _| !what.starts_with(prefix));
    }

    /// How fast `what` grew in the window, a second; 0 if that is not known.
    pub(crate) fn rate(&self, what: &str) -> f64 {
        self.measured(what, Duration::ZERO).unwrap_or(0.0)
    }

    /// When the first sample of `what` was taken that is in the window.
    pub(crate) fn began(&self, what: &str) -> Option<Instant> {
        Some(self.counts.get(what)?.front()?.0)
    }

    /// How fast `what` grew in the window, a second, if that was seen for `at_least` so long.
    pub(crate) fn measured(&self, what: &str, at_least: Duration) -> Option<f64> {
        self.measured_since(self.began(what)?, what, at_least)
    }

    /// The same for the part of the window from `since` on.
    pub(crate) fn measured_since(
        &self,
        since: Instant,
        what: &str,
        at_least: Duration,
    ) -> Option<f64> {
        let samples = self.counts.get(what)?;
        let (began, first) = samples.iter().find(|(at, _)| *at >= since)?;
        let (ended, last) = samples.back()?;
        let seen = ended.saturating_duration_since(*began);
        let is_enough = seen + TIMER_SLACK >= at_least && !seen.is_zero();
        is_enough.then(|| last.saturating_sub(*first) as f64 / seen.as_secs_f64())
    }
}

/// Who samples may come a little before its time, as timers do.
const TIMER_SLACK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn one(what: &str, count: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([(what.to_owned(), count)])
    }

    #[test]
    fn a_rate_is_the_growth_of_the_last_ten_seconds() {
        let began = Instant::now();
        let mut rates = Rates::new(10 * SECOND, SECOND);
        assert_eq!(rates.rate("a"), 0.0);
        for second in 0..=20u32 {
            let count = if second <= 10 { 0 } else { (second - 10) * 7 };
            rates.sample(began + second * SECOND, one("a", count.into()));
        }
        assert_eq!(rates.rate("a"), 7.0);
        assert_eq!(rates.rate("b"), 0.0);
    }

    #[test]
    fn a_window_is_bounded_and_what_is_gone_is_forgotten() {
        let began = Instant::now();
        let mut rates = Rates::new(600 * SECOND, 10 * SECOND);
        for step in 0..10_000u32 {
            rates.sample(began + step * 10 * SECOND, one("a", step.into()));
        }
        assert_eq!(rates.counts["a"].len(), 61);
        rates.sample(began + 100_000 * SECOND, one("b", 0));
        assert_eq!(rates.counts.len(), 1);
    }

    #[test]
    fn there_is_no_figure_before_enough_time_was_measured_nor_right_after_beginning_anew() {
        let began = Instant::now();
        let mut rates = Rates::new(600 * SECOND, 10 * SECOND);
        for step in 0..=6u32 {
            assert_eq!(rates.measured("up/a", 60 * SECOND), None, "step {step}");
            assert!(rates.is_due(began + step * 10 * SECOND));
            rates.sample(began + step * 10 * SECOND, one("up/a", (step * 50).into()));
            assert!(!rates.is_due(began + (step * 10 + 5) * SECOND));
        }
        assert_eq!(rates.measured("up/a", 60 * SECOND), Some(5.0));
        rates.begin_anew("up/");
        assert_eq!(rates.measured("up/a", Duration::ZERO), None);
        rates.sample(began + 70 * SECOND, one("up/a", 1000));
        assert_eq!(rates.measured("up/a", Duration::ZERO), None);
    }
}
