//! What happened in many runs together.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::Outcome;

/// The sum over runs.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    seeds: u64,
    failed: Vec<u64>,
    elapsed: Duration,
    steps: u64,
    acked: u64,
    of_devices: u64,
    of_clients: u64,
    copies: u64,
    seen: u64,
    lost: u64,
    faults: BTreeMap<&'static str, u64>,
    long_outages: u64,
    thin: Vec<u64>,
}

impl Sum {
    /// Adds how the run of `seed` went.
    pub fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.seeds += 1;
        self.elapsed += outcome.elapsed;
        self.steps += outcome.steps;
        self.acked += outcome.totals.acked;
        self.of_devices += outcome.totals.of_devices;
        self.of_clients += outcome.totals.of_clients;
        self.copies += outcome.totals.copies;
        self.seen += outcome.totals.seen;
        self.lost += outcome.totals.lost;
        for (kind, times) in &outcome.faults {
            *self.faults.entry(kind).or_default() += times;
        }
        self.long_outages += u64::from(outcome.outage >= Some(LONG_OUTAGE));
        if outcome.wrong.is_some() {
            self.failed.push(seed);
        } else if is_thin(outcome) {
            self.thin.push(seed);
        }
    }

    /// The seeds whose runs went wrong.
    #[must_use]
    pub fn failed(&self) -> &[u64] {
        &self.failed
    }

    /// The seeds that went well because too little happened.
    #[must_use]
    pub fn thin(&self) -> &[u64] {
        &self.thin
    }
}

/// A run that shows little.
fn is_thin(outcome: &Outcome) -> bool {
    outcome.kinds.len() < KINDS_LEAST
        || outcome.totals.acked < EVENTS_LEAST
        || outcome.elapsed < ELAPSED_LEAST
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.elapsed.as_secs_f64() / 3600.0;
        write!(
            f,
            "{} seeds, {} failed {:?}: {hours:.0} virtual hours, {} steps, {} events acknowledged, {} of them by devices' own logs and {} by PUBACK, {} at the consumer, {} of them again, {} lost and counted; ",
            self.seeds,
            self.failed.len(),
            self.failed,
            self.steps,
            self.acked,
            self.of_devices,
            self.of_clients,
            self.seen,
            self.copies,
            self.lost,
        )?;
        for (kind, times) in &self.faults {
            write!(f, "{kind}: {times}, ")?;
        }
        write!(
            f,
            "outages of three weeks or more: {}, seeds with fewer than {KINDS_LEAST} kinds of trouble, {EVENTS_LEAST} events or an hour: {} {:?}",
            self.long_outages,
            self.thin.len(),
            self.thin,
        )
    }
}

const LONG_OUTAGE: Duration = Duration::from_secs(21 * 86_400);
/// Each run has as many kinds of trouble at least.
pub(super) const KINDS_LEAST: usize = 5;
/// And as many events that were acknowledged.
pub(super) const EVENTS_LEAST: u64 = 10_000;
/// And takes so long.
const ELAPSED_LEAST: Duration = Duration::from_secs(3600);
