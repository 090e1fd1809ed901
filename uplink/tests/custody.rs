//! From a gateway's log to a reader, through outages and deaths of either end.

mod rig;

use std::path::PathBuf;
use std::time::Duration;

use rig::{
    RunningForwarder, RunningHub, SmallDisk, log, lost, numbers, origin, origin_of, origin_with,
    pull, pull_all, records, stage, stage_sized, until,
};
use sedge_core::log::WhenFull;
use sedge_store::{Batch, Partition, PartitionOptions, StageError};
use sedge_uplink::FRAME_BYTES_MAX;
use sedge_uplink::client::PullOptions;
use sedge_uplink::forward::Log;
use sedge_uplink::hub::{HubOptions, StreamOptions};

/// A hub that is not there costs nothing but time: what was staged meanwhile arrives once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_staged_during_an_outage_arrives_once_and_in_order() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let partition = origin(log_dir.path());
    let hub = RunningHub::start(dir.path()).await;
    let (address, url) = (hub.address, hub.url());
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    stage(&partition, 0..100, 7).await;
    gateway.drained().await;
    hub.kill().await;
    stage(&partition, 100..2_000, 10).await;
    let hub = RunningHub::start_with(HubOptions::new(dir.path()), address).await;
    gateway.drained().await;
    assert_eq!(pull_all(&url).await, numbers(0..2_000));
    hub.stop().await.unwrap();
}

/// Hub and forwarder die again and again while events come in; what the reader sees in the end has no holes and no doubles.
#[tokio::test(flavor = "multi_thread")]
async fn deaths_of_either_end_at_any_time_lose_and_double_nothing() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let partition = origin(log_dir.path());
    let mut hub = RunningHub::start(dir.path()).await;
    let (address, url) = (hub.address, hub.url());
    let staging = tokio::spawn({
        let partition = partition.clone();
        async move { stage(&partition, 0..20_000, 20).await }
    });
    let mut gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    for round in 0..12_u64 {
        tokio::time::sleep(Duration::from_millis(7 + round * 11 % 50)).await;
        if round % 3 == 0 {
            gateway.kill().await;
            gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
        } else {
            hub.kill().await;
            hub = RunningHub::start_with(HubOptions::new(dir.path()), address).await;
        }
    }
    staging.await.unwrap();
    gateway.drained().await;
    assert!(
        pull_all(&url).await == numbers(0..20_000),
        "not all, or not in order"
    );
}

/// The gateway's process dies too: its log burns offsets, which a reader sees as a gap in which nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_died_goes_on_with_burned_offsets_and_no_loss() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = RunningHub::start(dir.path()).await;
    for life in 0..3 {
        let partition = origin(log_dir.path());
        let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
        stage(&partition, life * 50..(life + 1) * 50, 5).await;
        gateway.drained().await;
        gateway.kill().await;
    }
    let pulled = pull_all(&hub.url()).await;
    assert_eq!(records(&pulled), numbers(0..150));
    assert_eq!(
        (pulled.len(), lost(&pulled)),
        (152, 0),
        "two burned ranges: {pulled:?}"
    );
}

/// More comes than the gateway can hold while the hub is away: what is missing is told, to the record.
#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_beyond_capacity_accepted_is_pulled_plus_lost() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let partition = origin_of(log_dir.path(), 4 << 20);
    let hub = RunningHub::start(dir.path()).await;
    let (address, url) = (hub.address, hub.url());
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    stage(&partition, 0..100, 10).await;
    gateway.drained().await;
    hub.kill().await;
    stage_sized(&partition, 100..40_100, 50, 250).await;
    let hub = RunningHub::start_with(HubOptions::new(dir.path()), address).await;
    // It goes on being lost while the gap is told.
    stage_sized(&partition, 40_100..60_100, 50, 250).await;
    gateway.drained().await;
    let pulled = pull_all(&url).await;
    let kept = records(&pulled);
    assert!(lost(&pulled) > 0 && kept.last().unwrap() == "60099");
    assert_eq!(kept.len() as u64 + lost(&pulled), 60_100);
    hub.stop().await.unwrap();
}

/// Three gateways and room for the logs of two: the third keeps what it has and says why, the mirrors of the others grow no further.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_without_room_refuses_a_further_log_and_bounds_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let stream = StreamOptions {
        capacity: 12 << 20,
        ..StreamOptions::default()
    };
    let options = HubOptions {
        disk_max: 26 << 20,
        streams: vec![stream],
        ..HubOptions::new(dir.path().join("hub"))
    };
    let hub = RunningHub::start_with(options, "127.0.0.1:0".parse().unwrap()).await;
    for gateway in ["gw-1", "gw-2"] {
        let partition = origin(&dir.path().join(gateway));
        let forwarder = RunningForwarder::start(&hub.url(), gateway, vec![log(&partition)]);
        stage_sized(&partition, 0..45_000, 50, 250).await;
        forwarder.drained().await;
    }
    let status = hub.handle.status();
    assert!(
        status.disk_bytes <= status.disk_max,
        "{} bytes",
        status.disk_bytes
    );
    let partition = origin(&dir.path().join("gw-3"));
    stage(&partition, 0..10, 10).await;
    let forwarder = RunningForwarder::start(&hub.url(), "gw-3", vec![log(&partition)]);
    let refused = until("the third is refused", || async {
        forwarder.handle.status().logs.first()?.refused.clone()
    })
    .await;
    assert_eq!(refused, "disk full");
    assert_eq!(forwarder.handle.status().lag(), 10);
}

/// A mirror that may not evict takes no more than it can hold; the gateway keeps the rest, and its other streams are not held up.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_mirror_keeps_what_it_has_and_holds_up_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (bulk, alarms) = (
        origin_of(&dir.path().join("bulk"), 32 << 20),
        origin(&dir.path().join("alarms")),
    );
    let small = StreamOptions {
        capacity: 5 << 20,
        when_full: WhenFull::Refuse,
        ..StreamOptions::default()
    };
    let options = HubOptions {
        streams: vec![small],
        ..HubOptions::new(dir.path().join("hub"))
    };
    let hub = RunningHub::start_with(options.clone(), "127.0.0.1:0".parse().unwrap()).await;
    let logs = vec![
        log(&bulk),
        Log {
            stream: "alarms".into(),
            ..log(&alarms)
        },
    ];
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", logs);
    stage_sized(&bulk, 0..40_000, 50, 250).await;
    until("the mirror is full", || async {
        (hub.handle.status().full > 0).then_some(())
    })
    .await;
    stage(&alarms, 0..10, 1).await;
    let alarmed = || {
        pull(PullOptions {
            stream: "alarms".into(),
            ..rig::options(&hub.url())
        })
    };
    until("the alarms are there", || async {
        (alarmed().await == numbers(0..10)).then_some(())
    })
    .await;
    let pulled = pull_all(&hub.url()).await;
    assert_eq!(pulled, numbers(0..pulled.len() as u64));
    assert!(gateway.handle.status().lag() >= 40_000 - pulled.len() as u64);
    let (address, url) = (hub.address, hub.url());
    hub.stop().await.unwrap();
    let roomy = HubOptions {
        streams: vec![StreamOptions::default()],
        ..options
    };
    let hub = RunningHub::start_with(roomy, address).await;
    gateway.drained().await;
    assert!(
        pull_all(&url).await == numbers(0..40_000),
        "not all, or not in order"
    );
    drop(hub);
}

/// A mirror is so small that an event of its gateway does not go into a segment. It takes what comes before, says why it takes no more, and holds up no other
/// log. When its capacity has been raised, the log goes on from there in a further mirror, with nothing missing.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_too_large_for_its_mirror_waits_for_a_larger_one_and_holds_up_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let large = PartitionOptions {
        capacity_bytes: 16 << 20,
        record_bytes_max: 512 << 10,
        ..PartitionOptions::default()
    };
    let (bulk, alarms) = (
        origin_with(&dir.path().join("bulk"), large),
        origin(&dir.path().join("alarms")),
    );
    let options = with_mirrors_of(4 << 20, dir.path().join("hub"));
    let alarms_log = Log {
        stream: "alarms".into(),
        ..log(&alarms)
    };
    let logs = vec![log(&bulk), alarms_log];
    let hub = RunningHub::start_with(options.clone(), "127.0.0.1:0".parse().unwrap()).await;
    let (address, url) = (hub.address, hub.url());
    stage(&bulk, 0..10, 10).await;
    stage_sized(&bulk, 10..11, 1, 400 << 10).await;
    stage(&bulk, 11..20, 9).await;
    let gateway = RunningForwarder::start(&url, "gw-7", logs.clone());
    stage(&alarms, 0..10, 1).await;
    let refused = || async {
        let status = gateway.handle.status();
        let of = |stream: &str| status.logs.iter().find(|l| l.stream == stream);
        let refused = of("telemetry")?.refused.as_deref() == Some("too large");
        (refused && of("alarms")?.acked == alarms.next()).then_some(())
    };
    until("one is refused and the other goes on", refused).await;
    assert_eq!(pull_all(&url).await, numbers(0..10));
    hub.stop().await.unwrap();

    let roomy = HubOptions {
        streams: vec![StreamOptions::default()],
        ..options
    };
    let hub = RunningHub::start_with(roomy, address).await;
    until("it is back, and refuses the log once more", || async {
        let status = gateway.handle.status();
        let refused = || status.logs.iter().any(|l| l.refused.is_some());
        (status.connected && refused()).then_some(())
    })
    .await;
    gateway.kill().await;
    let gateway = RunningForwarder::start(&url, "gw-7", logs);
    gateway.drained().await;
    let pulled = pull_all(&url).await;
    assert_eq!(records(&pulled), numbers(0..20));
    assert_eq!(lost(&pulled), 0, "{pulled:?}");
    hub.stop().await.unwrap();
}

/// The largest frame that a gateway may make stands between small ones, and all of it comes to the consumer, in order.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_the_largest_size_goes_the_whole_way() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let around = PartitionOptions::default().frame_bytes_max() as usize
        - PartitionOptions::default().record_bytes_max;
    let options = PartitionOptions {
        capacity_bytes: 32 << 20,
        record_bytes_max: FRAME_BYTES_MAX - around,
        staged_bytes_max: 4 << 20,
        ..PartitionOptions::default()
    };
    assert_eq!(options.frame_bytes_max() as usize, FRAME_BYTES_MAX);
    let partition = origin_with(log_dir.path(), options);
    stage(&partition, 0..10, 10).await;
    let largest = stage_largest(&partition, FRAME_BYTES_MAX);
    stage(&partition, 10..20, 10).await;
    let hub = RunningHub::start(dir.path()).await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
    gateway.drained().await;
    let pulled = pull_all(&hub.url()).await;
    let mut expected = numbers(0..20);
    expected.insert(10, String::from_utf8(largest).unwrap());
    assert!(pulled == expected, "{} came", pulled.len());
    hub.stop().await.unwrap();
}

/// Stages the largest value that the log takes, of at most `bytes_max`.
fn stage_largest(partition: &Partition, bytes_max: usize) -> Vec<u8> {
    let (mut producer, mut batch) = (partition.producer(), Batch::new());
    let mut value = vec![b'v'; bytes_max];
    loop {
        batch.clear();
        batch.push(|unit| unit.record(None, None, &[], &value), &[]);
        match producer.stage(&batch) {
            Ok(_) => return value,
            Err(StageError::TooLarge { .. }) => value.truncate(value.len() - 1),
            Err(e) => panic!("{e}"),
        }
    }
}

/// The hub's disk has no room for the first segment of a further log. That log waits at the gateway, over a restart of the hub too, while others
/// go on; it is taken as soon as there is room, with nothing missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_cannot_be_made_holds_up_its_own_log_and_no_other() {
    let Some(disk) = SmallDisk::mount("24m") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (bulk, alarms) = (
        origin(&dir.path().join("bulk")),
        origin(&dir.path().join("alarms")),
    );
    let options = with_mirrors_of(12 << 20, disk.path().join("hub"));
    let alarms_log = Log {
        stream: "alarms".into(),
        ..log(&alarms)
    };
    let mut hub = RunningHub::start_with(options.clone(), "127.0.0.1:0".parse().unwrap()).await;
    let (address, url) = (hub.address, hub.url());
    let gateway = RunningForwarder::start(&url, "gw-7", vec![alarms_log.clone()]);
    stage(&alarms, 0..10, 1).await;
    gateway.drained().await;
    gateway.kill().await;
    disk.fill(1 << 20);
    stage(&bulk, 0..100, 10).await;
    let alarmed = || {
        pull(PullOptions {
            stream: "alarms".into(),
            ..rig::options(&url)
        })
    };
    for life in 1..=2 {
        let gateway = RunningForwarder::start(&url, "gw-7", vec![alarms_log.clone(), log(&bulk)]);
        stage(&alarms, life * 10..(life + 1) * 10, 1).await;
        until("one is refused and the other goes on", || async {
            let status = gateway.handle.status();
            let of = |stream: &str| status.logs.iter().find(|l| l.stream == stream);
            let refused = of("telemetry")?.refused.as_deref() == Some("disk full");
            (refused && of("alarms")?.acked == alarms.next()).then_some(())
        })
        .await;
        assert_eq!(alarmed().await, numbers(0..(life + 1) * 10));
        gateway.kill().await;
        hub.stop().await.unwrap();
        hub = RunningHub::start_with(options.clone(), address).await;
    }
    disk.clear();
    let gateway = RunningForwarder::start(&url, "gw-7", vec![alarms_log, log(&bulk)]);
    gateway.drained().await;
    assert_eq!(pull_all(&url).await, numbers(0..100));
    hub.stop().await.unwrap();
}

/// Somebody else fills the hub's disk to the last byte. Killed or stopped, the hub comes up with what it has for who reads, and takes what fits into what it has
/// reserved.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_starts_on_a_full_disk_and_shows_what_it_has() {
    for is_killed in [false, true] {
        let Some(disk) = SmallDisk::mount("24m") else {
            return;
        };
        let log_dir = tempfile::tempdir().unwrap();
        let partition = origin(log_dir.path());
        let stream = StreamOptions {
            capacity: 12 << 20,
            ..StreamOptions::default()
        };
        let options = HubOptions {
            streams: vec![stream],
            ..HubOptions::new(disk.path().join("hub"))
        };
        let hub = RunningHub::start_with(options.clone(), "127.0.0.1:0".parse().unwrap()).await;
        let (address, url) = (hub.address, hub.url());
        let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
        stage(&partition, 0..100, 10).await;
        gateway.drained().await;
        match is_killed {
            true => drop(hub.kill().await),
            false => hub.stop().await.unwrap(),
        }
        disk.fill(0);
        let hub = RunningHub::start_with(options.clone(), address).await;
        assert_eq!(pull_all(&url).await, numbers(0..100));
        stage(&partition, 100..200, 10).await;
        gateway.drained().await;
        assert_eq!(pull_all(&url).await, numbers(0..200));
        hub.stop().await.unwrap();
    }
}

/// The catalog of a hub is put back to a time before a log had joined, and the disk is full: the hub comes up, and the catalog learns of the log as soon as there
/// is room, without another start.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_lags_behind_on_a_full_disk_learns_the_rest_when_there_is_room() {
    let Some(disk) = SmallDisk::mount("24m") else {
        return;
    };
    let log_dir = tempfile::tempdir().unwrap();
    let partition = origin(log_dir.path());
    let dir = disk.path().join("hub");
    let options = HubOptions {
        catalog_copy_every: Duration::from_millis(20),
        ..HubOptions::new(&dir)
    };
    let options = HubOptions {
        streams: vec![StreamOptions {
            capacity: 12 << 20,
            ..StreamOptions::default()
        }],
        ..options
    };
    let start = |address| RunningHub::start_with(options.clone(), address);
    let hub = start("127.0.0.1:0".parse().unwrap()).await;
    let (address, url) = (hub.address, hub.url());
    hub.stop().await.unwrap();
    let (catalog, early) = (dir.join("catalog.sqlite"), log_dir.path().join("early"));
    std::fs::copy(&catalog, &early).unwrap();
    let hub = start(address).await;
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    stage(&partition, 0..100, 10).await;
    gateway.drained().await;
    hub.stop().await.unwrap();
    std::fs::copy(&early, &catalog).unwrap();
    std::fs::remove_file(dir.join("catalog.copy")).unwrap();
    disk.fill(0);
    let hub = start(address).await;
    assert_eq!(pull_all(&url).await, numbers(0..100));
    disk.clear();
    until("the copy of the catalog knows the partition", || async {
        let copy = rusqlite::Connection::open(dir.join("catalog.copy")).ok()?;
        let count = "SELECT count(*) FROM partition WHERE gateway = 'gw-7'";
        let count: i64 = copy.query_row(count, [], |row| row.get(0)).ok()?;
        (count == 1).then_some(())
    })
    .await;
    hub.stop().await.unwrap();
}

/// While the hub starts, its disk does not give what a mirror holds. The log waits at its gateway, is taken as soon as the disk answers, without a
/// restart of the hub, and goes on in the same mirror.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_cannot_be_opened_for_a_moment_holds_up_its_log_for_a_moment() {
    let (dir, log_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let partition = origin(log_dir.path());
    let hub = RunningHub::start(dir.path()).await;
    let (address, url) = (hub.address, hub.url());
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    stage(&partition, 0..100, 10).await;
    gateway.drained().await;
    gateway.kill().await;
    hub.stop().await.unwrap();
    let mirror = dir.path().join("mirrors/0000/log");
    let aside = dir.path().join("away");
    std::fs::rename(&mirror, &aside).unwrap();
    std::fs::write(&mirror, "no directory").unwrap();
    let hub = RunningHub::start_with(HubOptions::new(dir.path()), address).await;
    stage(&partition, 100..200, 10).await;
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    until("it is refused", || async {
        let status = gateway.handle.status();
        status.logs.first()?.refused.as_ref().map(drop)
    })
    .await;
    gateway.kill().await;
    std::fs::remove_file(&mirror).unwrap();
    std::fs::rename(&aside, &mirror).unwrap();
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    gateway.drained().await;
    assert_eq!(pull_all(&url).await, numbers(0..200));
    hub.stop().await.unwrap();
}

/// A hub whose mirrors have so many bytes.
fn with_mirrors_of(capacity: u64, dir: impl Into<PathBuf>) -> HubOptions {
    let mirrors = StreamOptions {
        capacity,
        ..StreamOptions::default()
    };
    HubOptions {
        streams: vec![mirrors],
        ..HubOptions::new(dir)
    }
}
