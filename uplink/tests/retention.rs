//! What becomes of records at the hub that are older than the retention of their stream.

mod rig;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use rig::{
    RunningForwarder, RunningHub, log, lost, numbers, origin_of, pull_all, records, stage_sized,
    until,
};
use sedge_core::Micros;
use sedge_store::Clock;
use sedge_uplink::forward::Log;
use sedge_uplink::hub::{HubError, HubOptions, StreamOptions};

/// A hub below `dir` that keeps what is a day old by `clock`.
fn keeps_a_day(dir: &Path, clock: &HandClock) -> HubOptions {
    HubOptions {
        streams: vec![StreamOptions {
            capacity: 32 << 20,
            retention: Some(DAY),
            ..StreamOptions::default()
        }],
        retention_every: Duration::from_millis(10),
        clock: clock.clock().into(),
        ..HubOptions::new(dir.join("hub"))
    }
}

/// Half of the records came today, the other half two days later; what is kept is a day's. The old ones go, whole segments of them, each is
/// counted, and who reads from the beginning meets one gap; the younger ones stay, and so does the account when the hub starts again.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_retention_is_one_gap_and_younger_records_stay() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let options = keeps_a_day(dir.path(), &clock);
    let hub = RunningHub::start_with(options.clone(), "127.0.0.1:0".parse().unwrap()).await;
    let (address, url) = (hub.address, hub.url());
    let partition = origin_of(&dir.path().join("gw-7"), 64 << 20);
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    stage_sized(&partition, 0..OLD, 50, 250).await;
    gateway.drained().await;
    assert_eq!(pull_all(&url).await.len() as u64, OLD, "a day old at most");
    clock.advance(2 * DAY);
    stage_sized(&partition, OLD..ALL, 50, 250).await;
    gateway.drained().await;

    let expired = || hub.handle.status().partitions[0].lost;
    until("two segments are expired", || async {
        (expired() > OLD / 2).then_some(())
    })
    .await;
    let pulled = pull_all(&url).await;
    let gone = expired();
    assert!(
        gone < OLD,
        "the segment with the first younger records stays"
    );
    assert_eq!(pulled[0], format!("(0..{gone} -{gone} expired)"));
    assert_eq!(lost(&pulled), gone);
    assert!(
        records(&pulled) == numbers(gone..ALL),
        "not all, or not in order"
    );
    assert_eq!(account(dir.path()), (gone, true));

    hub.stop().await.unwrap();
    let hub = RunningHub::start_with(options, address).await;
    gateway.drained().await;
    assert!(pull_all(&url).await == pulled, "the same as before");
    assert_eq!(account(dir.path()), (gone, true));

    // Later the younger ones go as well. What came last stands with the first of a new day.
    clock.advance(2 * DAY);
    stage_sized(&partition, ALL..ALL + 100, 50, 250).await;
    gateway.drained().await;
    until("the younger ones are expired", || async {
        (hub.handle.status().partitions[0].lost > OLD + (ALL - OLD) / 2).then_some(())
    })
    .await;
    let pulled = pull_all(&url).await;
    assert_eq!(records(&pulled).len() as u64 + lost(&pulled), ALL + 100);
    hub.stop().await.unwrap();
}

/// The disk fails where retention lets go of a segment (what is to be removed is not what was written there): the mirror takes nothing more and says nothing,
/// until it is opened again. So the hub ends, as where a commit fails, and its next start finds all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_ends_when_the_disk_fails_its_retention() {
    let dir = tempfile::tempdir().unwrap();
    let clock = HandClock::new();
    let options = keeps_a_day(dir.path(), &clock);
    let hub = RunningHub::start_with(options.clone(), "127.0.0.1:0".parse().unwrap()).await;
    let (address, url) = (hub.address, hub.url());
    let partition = origin_of(&dir.path().join("gw-7"), 64 << 20);
    stage_sized(&partition, 0..OLD, 50, 250).await;
    partition.end();
    let closed = Log {
        closed: true,
        ..log(&partition)
    };
    let gateway = RunningForwarder::start(&url, "gw-7", vec![closed]);
    gateway.drained().await;
    let first = dir.path().join("hub/mirrors/0000/log/seg-00000.log");
    let aside = dir.path().join("aside");
    std::fs::rename(&first, &aside).unwrap();
    std::fs::create_dir(&first).unwrap();
    clock.advance(2 * DAY);
    let ended = hub.end().await;
    assert!(matches!(ended, Err(HubError::Disk { .. })), "{ended:?}");

    std::fs::remove_dir(&first).unwrap();
    std::fs::rename(&aside, &first).unwrap();
    let hub = RunningHub::start_with(options, address).await;
    until("two segments are expired", || async {
        (hub.handle.status().partitions[0].lost > OLD / 2).then_some(())
    })
    .await;
    let pulled = pull_all(&url).await;
    assert_eq!(records(&pulled).len() as u64 + lost(&pulled), OLD);
    hub.stop().await.unwrap();
}

/// A clock that is moved by hand.
struct HandClock(Arc<AtomicI64>);

impl HandClock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_700_000_000_000_000)))
    }

    fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Arc::new(move || Micros::new(now.load(Ordering::Relaxed)))
    }

    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as i64, Ordering::Relaxed);
    }
}

/// How many records the only mirror counts as expired, and whether its sum is right. A look at a log in use may fall between two of its
/// steps; here nothing moves.
fn account(dir: &Path) -> (u64, bool) {
    let log: PathBuf = dir.join("hub/mirrors/0000/log");
    let log = sedge_store::inspect(&log).unwrap().log.unwrap();
    (log.ledger.expired, log.balances && log.missing == 0)
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Two and a half segments of a mirror.
const OLD: u64 = 40_000;
const ALL: u64 = 80_000;
