//! What gateways have told of themselves, and when they were last here: for people who look. Kept in memory only, as each tells it again when it comes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::registry::Admitted;
use crate::wire::{LogReport, Report};

/// All gateways that came since the start.
#[derive(Debug, Default)]
pub(super) struct Fleet(Mutex<BTreeMap<String, Known>>);

#[derive(Debug, Default)]
struct Known {
    /// When its last connection ended, µs since 1970.
    left_us: Option<i64>,
    told: Option<(i64, Report, Vec<Told>)>,
}

/// What a gateway has told of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayReport {
    /// When that was, by the hub's clock, µs since 1970.
    pub at_us: i64,
    /// Of its program.
    pub version: String,
    /// Seconds for which it runs with this configuration.
    pub uptime_s: u64,
    /// What it took the time to be, µs since 1970; none if it does not know.
    pub unix_us: Option<i64>,
    /// Who vouches for that: `ntp`, `hub` or the machine `itself`; none if nobody does.
    pub voucher: Option<String>,
    /// Offsets that it had and the hub had not.
    pub lag: u64,
    /// When the first of them was taken, µs since 1970, if that is known.
    pub oldest_unacked_us: Option<i64>,
    /// What they keep of its logs from being used again.
    pub waiting_bytes: u64,
    /// The most that can be kept so.
    pub capacity_bytes: u64,
    /// Events that its logs have lost.
    pub lost: u64,
    /// Why only urgent records go.
    pub held: Option<String>,
    /// Of its partitions, those that lag most.
    pub partitions: Vec<PartitionReport>,
}

impl GatewayReport {
    /// How far its clock was ahead of the hub's, in seconds, the way of the report included; below 0, behind. None if it did not know the time.
    #[must_use]
    pub fn clock_ahead_s(&self) -> Option<f64> {
        let ahead_us = self.unix_us?.saturating_sub(self.at_us);
        Some(ahead_us as f64 / 1e6)
    }
}

/// What a gateway has told of one of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionReport {
    /// The stream.
    pub stream: String,
    /// Its number at the gateway.
    pub partition: u16,
    /// As of the whole gateway.
    pub lag: u64,
    /// As of the whole gateway.
    pub oldest_unacked_us: Option<i64>,
    /// As of the whole gateway.
    pub waiting_bytes: u64,
    /// As of the whole gateway.
    pub capacity_bytes: u64,
}

/// A log of a report, and where it is kept.
pub(super) type Told = (LogReport, Admitted);

impl Fleet {
    /// A gateway has told how it is, at `at_us`; `logs` are those of its report that the hub takes.
    pub(super) fn reported(&self, gateway: &str, at_us: i64, report: Report, logs: Vec<Told>) {
        let mut all = self.lock();
        let known = all.entry(gateway.to_owned()).or_default();
        known.told = Some((at_us, report, logs));
    }

    /// Its connection has ended.
    pub(super) fn left(&self, gateway: &str, at_us: i64) {
        self.lock().entry(gateway.to_owned()).or_default().left_us = Some(at_us);
    }

    /// When its last connection ended, and what it told last, less what has come since.
    pub(super) fn known(&self, gateway: &str) -> (Option<i64>, Option<GatewayReport>) {
        let all = self.lock();
        let Some(known) = all.get(gateway) else {
            return (None, None);
        };
        let told = known.told.as_ref();
        (
            known.left_us,
            told.map(|(at_us, report, logs)| shown(*at_us, report, logs)),
        )
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shown(at_us: i64, report: &Report, logs: &[Told]) -> GatewayReport {
    let now = |(log, at): &Told| {
        let partition = &at.partition;
        let held = at.member.mirror.next().get();
        let of = (partition.stream.to_string(), partition.partition);
        (
            of,
            log.clone(),
            log.next.saturating_sub(log.acked.max(held)),
        )
    };
    let logs: Vec<_> = logs.iter().map(now).collect();
    let came = logs
        .iter()
        .map(|(_, log, lag)| log.next.saturating_sub(log.acked) - lag);
    let lag = report.lag.saturating_sub(sum(came));
    let mut partitions = by_partition(&logs);
    partitions.sort_by_key(|of| std::cmp::Reverse(of.lag));
    let is_behind = lag > 0;
    let named = logs
        .iter()
        .map(|(_, log, _)| log.next.saturating_sub(log.acked));
    // Where all that lag are named, it is known which of them do so still.
    let are_named = sum(named) == report.lag;
    let (oldest_unacked_us, waiting_bytes) = match are_named {
        true => {
            let each = partitions.iter();
            let oldest = each.clone().filter_map(|of| of.oldest_unacked_us).min();
            (oldest, sum(each.map(|of| of.waiting_bytes)))
        }
        false => (report.oldest_unacked_us, report.waiting_bytes),
    };
    GatewayReport {
        at_us,
        version: report.version.clone(),
        uptime_s: report.uptime_s,
        unix_us: report.unix_us,
        voucher: report.voucher.clone(),
        lag,
        oldest_unacked_us: oldest_unacked_us.filter(|_| is_behind),
        waiting_bytes: if is_behind { waiting_bytes } else { 0 },
        capacity_bytes: report.capacity_bytes,
        lost: report.lost,
        held: report.held.clone(),
        partitions,
    }
}

/// Of what somebody else has told: it may be anything.
pub(super) fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

/// A partition may have several logs: one that takes events, and others that are still to be forwarded. Each comes with what it lags now.
fn by_partition(logs: &[((String, u16), LogReport, u64)]) -> Vec<PartitionReport> {
    let mut partitions = BTreeMap::new();
    for ((stream, partition), log, lag) in logs {
        let of = partitions
            .entry((stream, partition))
            .or_insert_with(|| PartitionReport {
                stream: stream.clone(),
                partition: *partition,
                lag: 0,
                oldest_unacked_us: None,
                waiting_bytes: 0,
                capacity_bytes: 0,
            });
        of.capacity_bytes = of.capacity_bytes.saturating_add(log.capacity_bytes);
        if *lag == 0 {
            continue;
        }
        of.lag = of.lag.saturating_add(*lag);
        of.waiting_bytes = of.waiting_bytes.saturating_add(log.waiting_bytes);
        let both = of
            .oldest_unacked_us
            .into_iter()
            .chain(log.oldest_unacked_us);
        of.oldest_unacked_us = both.min();
    }
    partitions.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logs_of_a_partition_are_told_as_one_by_what_they_lag_now() {
        let log = |stream: &str, partition, lag, oldest_unacked_us| {
            let told = LogReport {
                slot: 0,
                acked: 0,
                next: 9,
                oldest_unacked_us,
                waiting_bytes: 50,
                capacity_bytes: 100,
            };
            ((stream.to_owned(), partition), told, lag)
        };
        let logs = [
            log("telemetry", 4, 3, Some(7)),
            log("telemetry", 4, 4, Some(5)),
            log("telemetry", 4, 0, Some(1)),
            log("alarms", 0, 0, Some(1)),
        ];
        let of =
            |stream: &str, partition, lag, oldest_unacked_us, bytes: (u64, u64)| PartitionReport {
                stream: stream.into(),
                partition,
                lag,
                oldest_unacked_us,
                waiting_bytes: bytes.0,
                capacity_bytes: bytes.1,
            };
        let expected = [
            of("alarms", 0, 0, None, (0, 100)),
            of("telemetry", 4, 7, Some(5), (100, 300)),
        ];
        assert_eq!(by_partition(&logs), expected);
    }
}
