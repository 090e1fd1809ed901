//! How a gateway is doing, told to its hub now and then: nothing depends on it but what people see there.

use std::time::Duration;

use sedge_core::Offset;
use sedge_store::world;
use sedge_store::world::Blocking;
use tokio::time::Instant;

use super::pace::Pace;
use super::status::known_at;
use super::{Log, Time};
use crate::wire::{LOGS_REPORTED_MAX, LogReport, REPORT_TEXT_MAX, Report};

/// The reports of one session.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// When the next is to be made; none if the hub does not read them.
    due: Option<Instant>,
    making: Option<Blocking<Report>>,
}

/// What a report is made of.
pub(super) struct Facts {
    pub(super) uptime: Duration,
    pub(super) time: Time,
    pub(super) uplink: u32,
    pub(super) held: Option<String>,
    /// The session's logs by their numbers, and what of each the hub has said to have.
    pub(super) logs: Vec<(u16, Log, Option<Offset>)>,
}

impl Reports {
    /// A session begins with a hub that reads them, or does not. Where bytes count, one that begins soon after another does not begin with a report.
    pub(super) fn welcomed(&mut self, pace: &Pace, are_read: bool) {
        let before = pace.reported.filter(|_| pace.is_counted());
        let due = before.map_or_else(Instant::now, |at| at + EVERY_WHERE_BYTES_COUNT);
        self.due = are_read.then_some(due);
    }

    /// When there will be something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| self.making.is_none())
    }

    /// Begins to make one, if it is time to.
    pub(super) fn make(&mut self, pace: &mut Pace, facts: impl FnOnce() -> Facts) {
        let now = Instant::now();
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        let every = match pace.is_counted() {
            true => EVERY_WHERE_BYTES_COUNT,
            false => EVERY,
        };
        self.due = Some(now + every);
        pace.reported = Some(now);
        let facts = facts();
        self.making = Some(world::blocking(move || report(&facts)));
    }

    /// The report that is being made, when it is. Without one, never. Cancelling loses nothing.
    pub(super) async fn made(&mut self) -> Option<Report> {
        let Some(making) = &mut self.making else {
            return std::future::pending().await;
        };
        let report = making.await.ok();
        self.making = None;
        report
    }
}

/// Blocks for the disk.
fn report(facts: &Facts) -> Report {
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: facts.uptime.as_secs(),
        unix_us: Some(facts.time.0.now())
            .filter(|now| now.is_known())
            .map(sedge_core::Micros::get),
        voucher: facts.time.0.voucher().map(str::to_owned),
        lag: 0,
        oldest_unacked_us: None,
        waiting_bytes: 0,
        capacity_bytes: 0,
        lost: 0,
        held: facts.held.as_deref().map(shortened),
        logs: Vec::new(),
    };
    let mut logs = Vec::with_capacity(facts.logs.len());
    for (slot, log, acked) in &facts.logs {
        let Some(partition) = log.handle.log() else {
            continue;
        };
        let (ledger, next) = (partition.ledger(), partition.next());
        let cursor = ledger.cursor(facts.uplink).map(|cursor| cursor.next);
        let acked = acked.or(cursor).unwrap_or(ledger.oldest).min(next);
        let (waiting_bytes, capacity_bytes) = partition.fill_from(acked);
        report.lag += next.since(acked);
        report.waiting_bytes += waiting_bytes;
        report.capacity_bytes += capacity_bytes;
        report.lost += ledger.lost();
        let of = LogReport {
            slot: *slot,
            acked: acked.get(),
            next: next.get(),
            oldest_unacked_us: None,
            waiting_bytes,
            capacity_bytes,
        };
        logs.push((of, log, acked));
    }
    logs.sort_by_key(|(of, ..)| std::cmp::Reverse(of.next - of.acked));
    logs.truncate(LOGS_REPORTED_MAX);
    report.logs = logs.into_iter().map(with_age).collect();
    report.oldest_unacked_us = report
        .logs
        .iter()
        .filter_map(|of| of.oldest_unacked_us)
        .min();
    report
}

fn with_age((of, log, acked): (LogReport, &Log, Offset)) -> LogReport {
    let is_behind = of.next > of.acked;
    LogReport {
        oldest_unacked_us: is_behind.then(|| known_at(log, acked)).flatten(),
        ..of
    }
}

fn shortened(text: &str) -> String {
    let end = text.floor_char_boundary(REPORT_TEXT_MAX);
    text[..end].to_owned()
}

const EVERY: Duration = Duration::from_secs(30);
/// Some 20 KB a day, with what carries them.
const EVERY_WHERE_BYTES_COUNT: Duration = Duration::from_secs(900);
