//! What is measured of a running gateway beyond ten seconds: what comes into each log, what leaves it for each uplink, what is written
//! to disk. The looker shows what it has seen at some moments, and asks what it comes to.

use std::collections::BTreeMap;
use std::time::Duration;

use sedge_core::{LogId, Offset};
use sedge_store::Partition;
use tokio::time::Instant;

use crate::outlook::Flow;
use crate::rates::Rates;

/// The windows of one life.
#[derive(Debug)]
pub(super) struct Measure {
    /// Of what comes and goes.
    minutes: Rates,
    /// Of what is written to disk.
    day: Rates,
    left: BTreeMap<(u32, LogId), Left>,
    /// The sessions of each uplink and whether one is running, as they were seen last.
    sessions: BTreeMap<u32, (u64, bool)>,
}

/// What an uplink has taken of a log since this life began.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    at: Offset,
    events: u64,
}

/// What is seen of one log at one moment.
pub(super) struct Seen<'a> {
    /// Of the chain that it is in.
    pub(super) chain: String,
    pub(super) log: &'a Partition,
    /// Those that carry it.
    pub(super) uplinks: &'a [u32],
    /// Whether it is the one that takes events.
    pub(super) is_head: bool,
}

impl Measure {
    pub(super) fn new() -> Self {
        Self {
            minutes: Rates::new(WINDOW, WINDOW_EVERY),
            day: Rates::new(DAY, DAY_EVERY),
            left: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// An uplink that has connected, or is cut off, goes on otherwise than before: what it took is measured anew.
    pub(super) fn uplink(&mut self, uplink: u32, now: (u64, bool)) {
        if self.sessions.insert(uplink, now) != Some(now) {
            self.minutes.begin_anew(&left_prefix(uplink));
        }
    }

    /// Takes a sample, where one is due.
    pub(super) fn sample<'a>(
        &mut self,
        now: Instant,
        logs: impl Iterator<Item = Seen<'a>>,
        written: impl FnOnce() -> Option<u64>,
    ) {
        if self.minutes.is_due(now) {
            let counts = self.counts(logs);
            self.minutes.sample(now, counts);
        }
        if self.day.is_due(now) {
            let written = written().map(|bytes| (WRITTEN.to_owned(), bytes));
            self.day.sample(now, written.into_iter().collect());
        }
    }

    /// What came into a chain in a second; none before that was measured.
    pub(super) fn came(&self, chain: &str) -> Option<Flow> {
        let measured = |what: &str| self.minutes.measured(&format!("{what}/{chain}"), CAME_FOR);
        Some(Flow {
            events: measured(EVENTS)?,
            bytes: measured(BYTES)?,
        })
    }

    /// What came into a chain in a second, and the events of it that an uplink has taken in a second. One that is cut off takes nothing; of
    /// one that is not, both are of the time since it connected, as what came in a burst before does not come again meanwhile.
    pub(super) fn came_and_left(&self, chain: &str, uplink: u32) -> Option<(Flow, f64)> {
        let came = self.came(chain)?;
        let Some((_, true)) = self.sessions.get(&uplink) else {
            return Some((came, 0.0));
        };
        let what = format!("{}{chain}", left_prefix(uplink));
        let (since, left) = (
            self.minutes.began(&what)?,
            self.minutes.measured(&what, LEFT_FOR)?,
        );
        let measured = |what: &str| {
            let what = format!("{what}/{chain}");
            self.minutes.measured_since(since, &what, LEFT_FOR)
        };
        let came = Flow {
            events: measured(EVENTS)?,
            bytes: measured(BYTES)?,
        };
        Some((came, left))
    }

    /// Bytes that went to the disk in a second; none before that was measured.
    pub(super) fn written(&self) -> Option<f64> {
        self.day.measured(WRITTEN, DAY_EVERY)
    }

    fn counts<'a>(&mut self, logs: impl Iterator<Item = Seen<'a>>) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for seen in logs {
            let chain = &seen.chain;
            if seen.is_head {
                let stats = seen.log.stats();
                counts.insert(format!("{EVENTS}/{chain}"), stats.entries);
                counts.insert(format!("{BYTES}/{chain}"), stats.bytes);
            }
            for uplink in seen.uplinks {
                let key = format!("{}{chain}", left_prefix(*uplink));
                *counts.entry(key).or_default() += self.has_left(seen.log, *uplink);
            }
        }
        counts
    }

    /// Events of a log that an uplink has taken since it was first looked at. Burned offsets are none.
    fn has_left(&mut self, log: &Partition, uplink: u32) -> u64 {
        let at = log.cursor(uplink).map(|cursor| cursor.next);
        let at = at.unwrap_or(log.oldest()).max(log.oldest());
        let left = self.left.entry((uplink, log.log_id()));
        let left = left.or_insert(Left { at, events: 0 });
        if at > left.at {
            let between = log.records_between(left.at, at);
            left.events += between.unwrap_or(at.since(left.at));
        }
        left.at = at;
        left.events
    }
}

fn left_prefix(uplink: u32) -> String {
    format!("left/{uplink:08x}/")
}

const EVENTS: &str = "events";
const BYTES: &str = "bytes";
const WRITTEN: &str = "written";
/// What comes and goes is seen over this time …
const WINDOW: Duration = Duration::from_secs(600);
/// … at moments that are so far apart.
const WINDOW_EVERY: Duration = Duration::from_secs(10);
/// Before this there is no figure of what comes …
const CAME_FOR: Duration = Duration::from_secs(60);
/// … and of what an uplink takes, from its connecting on: an operator wants to know soon when a backlog is gone.
const LEFT_FOR: Duration = Duration::from_secs(20);
/// What is written is seen over a day, as machines have their hours.
const DAY: Duration = Duration::from_secs(86_400);
const DAY_EVERY: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use sedge_store::{Batch, NoOwner, PartitionOptions, system_clock};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const UPLINK: u32 = 7;
    const CHAIN: &str = "stream/telemetry/0";

    /// A log, what measures it, and a time that only moves when it is told to.
    struct Given {
        _dir: tempfile::TempDir,
        log: Partition,
        measure: Measure,
        now: Instant,
    }

    impl Given {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let options = PartitionOptions {
                capacity_bytes: 8 << 20,
                linger: Duration::ZERO,
                ..PartitionOptions::default()
            };
            let (log, _) =
                Partition::open(dir.path(), options, Box::new(NoOwner), system_clock()).unwrap();
            log.set_cursor(UPLINK, log.oldest());
            Self {
                _dir: dir,
                log,
                measure: Measure::new(),
                now: Instant::now(),
            }
        }

        fn put(&self, events: u64) {
            let mut batch = Batch::new();
            for _ in 0..events {
                batch.push(|unit| unit.record(None, None, &[], &[0; 100]), b"");
            }
            let ticket = self.log.producer().stage(&batch).unwrap();
            let mut settled = self.log.settled();
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let settle = async { settled.wait_for(|at| *at >= ticket).await.map(drop) };
            runtime.unwrap().block_on(settle).unwrap();
        }

        /// So many steps of ten seconds, with as many events coming and being handed over in each.
        fn steps(&mut self, steps: u32, come: u64, go: u64) {
            for _ in 0..steps {
                self.now += 10 * SECOND;
                self.put(come);
                let acked = self.log.cursor(UPLINK).unwrap().next;
                self.log
                    .set_cursor(UPLINK, acked.checked_add(go).expect("far from the end"));
                let seen = Seen {
                    chain: CHAIN.into(),
                    log: &self.log,
                    uplinks: &[UPLINK],
                    is_head: true,
                };
                let written = self.log.stats().bytes;
                self.measure
                    .sample(self.now, std::iter::once(seen), || Some(written));
            }
        }
    }

    #[test]
    fn what_comes_and_what_goes_is_known_after_a_minute_and_not_before() {
        let mut given = Given::new();
        given.measure.uplink(UPLINK, (1, true));
        given.steps(6, 50, 20);
        assert_eq!(given.measure.came(CHAIN), None);
        given.steps(1, 50, 20);
        let (came, left) = given.measure.came_and_left(CHAIN, UPLINK).unwrap();
        assert_eq!((came.events, left), (5.0, 2.0));
        assert!(came.bytes > 500.0 && came.bytes < 600.0, "{came:?}");
        assert_eq!(given.measure.came(CHAIN), Some(came));
    }

    /// A burst came during the outage: it is no reason to say that the backlog grows when the uplink is back.
    #[test]
    fn an_uplink_that_is_cut_off_takes_nothing_and_is_measured_anew_when_it_is_back() {
        let mut given = Given::new();
        given.measure.uplink(UPLINK, (1, true));
        given.steps(7, 10, 10);
        let rates = |given: &Given| {
            let rates = given.measure.came_and_left(CHAIN, UPLINK);
            rates.map(|(came, left)| (came.events, left))
        };
        assert_eq!(rates(&given), Some((1.0, 1.0)));
        given.measure.uplink(UPLINK, (1, false));
        given.steps(21, 40, 0);
        let (came, left) = rates(&given).unwrap();
        assert!(came > 3.0 && left == 0.0, "{came} {left}");
        given.measure.uplink(UPLINK, (2, true));
        given.steps(2, 10, 100);
        assert_eq!(rates(&given), None);
        given.steps(1, 10, 100);
        assert_eq!(rates(&given), Some((1.0, 10.0)));
    }

    #[test]
    fn what_is_written_is_told_after_ten_minutes() {
        let mut given = Given::new();
        given.steps(60, 1, 0);
        assert_eq!(given.measure.written(), None);
        given.steps(2, 1, 0);
        let written = given.measure.written().unwrap();
        assert!(written > 10.0 && written < 30.0, "{written}");
    }
}
