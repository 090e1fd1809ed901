//! What gateways have told of themselves, and when they were last here: for people who look. Kept in memory only, as each tells it again when it comes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::wire::{LogReport, Report};

/// All gateways that came since the start.
#[derive(Debug, Default)]
pub(super) struct Fleet(Mutex<BTreeMap<String, Known>>);

#[derive(Clone, Debug, Default)]
struct Known {
    /// When its last connection ended, µs since 1970.
    left_us: Option<i64>,
    report: Option<GatewayReport>,
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

impl Fleet {
    /// A gateway has told how it is, at `at_us`. Its logs are those of the stream and partition that `place_of` knows for their numbers.
    pub(super) fn reported(
        &self,
        gateway: &str,
        at_us: i64,
        report: Report,
        place_of: impl Fn(u16) -> Option<(String, u16)>,
    ) {
        let report = GatewayReport {
            at_us,
            version: report.version,
            uptime_s: report.uptime_s,
            unix_us: report.unix_us,
            voucher: report.voucher,
            lag: report.lag,
            oldest_unacked_us: report.oldest_unacked_us,
            waiting_bytes: report.waiting_bytes,
            capacity_bytes: report.capacity_bytes,
            lost: report.lost,
            held: report.held,
            partitions: by_partition(&report.logs, place_of),
        };
        self.lock().entry(gateway.to_owned()).or_default().report = Some(report);
    }

    /// Its connection has ended.
    pub(super) fn left(&self, gateway: &str, at_us: i64) {
        self.lock().entry(gateway.to_owned()).or_default().left_us = Some(at_us);
    }

    /// When its last connection ended, and what it told last.
    pub(super) fn known(&self, gateway: &str) -> (Option<i64>, Option<GatewayReport>) {
        let known = self.lock().get(gateway).cloned().unwrap_or_default();
        (known.left_us, known.report)
    }

    /// All names.
    pub(super) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A partition may have several logs: one that takes events, and others that are still to be forwarded.
fn by_partition(
    logs: &[LogReport],
    place_of: impl Fn(u16) -> Option<(String, u16)>,
) -> Vec<PartitionReport> {
    let mut partitions = BTreeMap::new();
    for log in logs {
        let Some((stream, partition)) = place_of(log.slot) else {
            continue;
        };
        let key = (stream.clone(), partition);
        let of = partitions.entry(key).or_insert(PartitionReport {
            stream,
            partition,
            lag: 0,
            oldest_unacked_us: None,
            waiting_bytes: 0,
            capacity_bytes: 0,
        });
        of.lag = of.lag.saturating_add(log.lag);
        of.waiting_bytes = of.waiting_bytes.saturating_add(log.waiting_bytes);
        of.capacity_bytes = of.capacity_bytes.saturating_add(log.capacity_bytes);
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
    fn the_logs_of_a_partition_are_told_as_one_and_unknown_ones_are_left_out() {
        let log = |slot, lag, oldest_unacked_us| LogReport {
            slot,
            lag,
            oldest_unacked_us,
            waiting_bytes: 10 * lag,
            capacity_bytes: 100,
        };
        let logs = [
            log(0, 3, Some(7)),
            log(1, 4, Some(5)),
            log(2, 1, None),
            log(3, 9, Some(1)),
        ];
        let place_of = |slot: u16| match slot {
            0 | 1 => Some(("telemetry".to_owned(), 4)),
            2 => Some(("alarms".to_owned(), 0)),
            _ => None,
        };
        let of =
            |stream: &str, partition, lag, oldest_unacked_us, capacity_bytes| PartitionReport {
                stream: stream.into(),
                partition,
                lag,
                oldest_unacked_us,
                waiting_bytes: 10 * lag,
                capacity_bytes,
            };
        let expected = [
            of("alarms", 0, 1, None, 100),
            of("telemetry", 4, 7, Some(5), 200),
        ];
        assert_eq!(by_partition(&logs, place_of), expected);
    }
}
