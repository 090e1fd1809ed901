//! What becomes of a partition whose logs, disks or hub are not what they were.

mod rig;

use std::path::Path;

use rig::{
    RunningForwarder, RunningHub, copy_dir, log, lost, numbers, origin, origin_of, pull_all,
    records, stage, stage_sized, until,
};
use sedge_uplink::client::Client;
use sedge_uplink::forward::{ForwardEvent, Log};
use sedge_uplink::hub::HubOptions;

/// The gateway's disk was replaced: a new log goes on behind the old one, and the reader sees the seam.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_gateway_disk_goes_on_behind_a_seam() {
    let (dir, old, new) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let hub = RunningHub::start(dir.path()).await;
    for (disk, range) in [(&old, 0..30), (&new, 30..50)] {
        let partition = origin(disk.path());
        let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
        stage(&partition, range, 10).await;
        gateway.drained().await;
        gateway.kill().await;
        partition.close();
    }
    let seam = ["(30..30 -0 new-log)".to_owned()];
    let expected = [&numbers(0..30)[..], &seam, &numbers(30..50)].concat();
    assert_eq!(pull_all(&hub.url()).await, expected);
    // The old disk comes back with more: that follows too, in a further mirror of the same log.
    let partition = origin(old.path());
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
    stage(&partition, 50..60, 10).await;
    gateway.drained().await;
    let pulled = pull_all(&hub.url()).await;
    assert_eq!(records(&pulled), numbers(0..60));
    assert_eq!(lost(&pulled), 0);
    assert!(
        pulled.contains(&"(50..50 -0 new-log)".to_owned()),
        "{pulled:?}"
    );
}

/// A log that was closed is still being sent while its successor is mirrored beside it; the reader gets both in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_log_and_its_successor_arrive_side_by_side() {
    let (dir, old, new) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let (first, second) = (origin(old.path()), origin(new.path()));
    // In several messages, none of which but the last ends where the log does.
    stage_sized(&first, 0..10_000, 50, 400).await;
    first.end();
    stage(&second, 10_000..10_100, 10).await;
    let hub = RunningHub::start(dir.path()).await;
    let logs = vec![
        Log {
            closed: true,
            ..log(&first)
        },
        Log {
            chain: 1,
            ..log(&second)
        },
    ];
    let mut gateway = RunningForwarder::start(&hub.url(), "gw-7", logs);
    gateway.drained().await;
    assert_eq!(
        gateway.events.recv().await,
        Some(ForwardEvent::Drained {
            log: first.log_id(),
            uplink: rig::UPLINK,
        })
    );
    let seam = ["(10000..10000 -0 new-log)".to_owned()];
    let expected = [&numbers(0..10_000)[..], &seam, &numbers(10_000..10_100)].concat();
    assert_eq!(pull_all(&hub.url()).await, expected);
}

/// The disk with the closed log is lost before the hub has all of it: what is missing is counted, and its successor follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_closed_log_that_is_gone_is_a_counted_gap_before_its_successor() {
    let (dir, old, new) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let (first, second) = (origin(old.path()), origin(new.path()));
    stage_sized(&first, 0..40_000, 50, 250).await;
    first.end();
    stage(&second, 40_000..40_100, 10).await;
    let hub = RunningHub::start(dir.path()).await;
    let closed = Log {
        closed: true,
        ..log(&first)
    };
    let successor = Log {
        chain: 1,
        ..log(&second)
    };
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![closed]);
    until("some of it is there", || async {
        (hub.handle.status().stored_offsets > 0).then_some(())
    })
    .await;
    gateway.kill().await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![successor]);
    gateway.drained().await;
    let pulled = pull_all(&hub.url()).await;
    let (kept, lost) = (records(&pulled), lost(&pulled));
    assert!(kept.ends_with(&numbers(40_000..40_100)));
    assert_eq!(kept.len() as u64 + lost, 40_100);
}

/// The partition changes to a new log while the hub is far behind: what is left of the old one still comes first.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_closed_in_mid_session_is_finished_before_its_successor_is_read() {
    let (dir, old, new) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let (first, second) = (origin(old.path()), origin(new.path()));
    stage(&first, 0..20_000, 10).await;
    let hub = RunningHub::start(dir.path()).await;
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&first)]);
    until("some of it is there", || async {
        (hub.handle.status().stored_offsets > 0).then_some(())
    })
    .await;
    first.end();
    stage(&second, 20_000..20_100, 10).await;
    let logs = vec![
        Log {
            closed: true,
            ..log(&first)
        },
        Log {
            chain: 1,
            ..log(&second)
        },
    ];
    gateway.logs.send_replace(logs);
    gateway.drained().await;
    let pulled = pull_all(&hub.url()).await;
    assert!(
        records(&pulled) == numbers(0..20_100),
        "not all, or not in order"
    );
    assert_eq!(lost(&pulled), 0);
}

/// The hub was restored from an older copy: the gateway still holds what is missing and sends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_hub_is_filled_again() {
    let (dir, copy, log_dir) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let partition = origin(log_dir.path());
    let hub = RunningHub::start(dir.path()).await;
    let (address, url) = (hub.address, hub.url());
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    stage(&partition, 0..100, 10).await;
    gateway.drained().await;
    hub.stop().await.unwrap();
    copy_dir(dir.path(), copy.path());
    let hub = RunningHub::start_with(HubOptions::new(dir.path()), address).await;
    stage(&partition, 100..200, 10).await;
    gateway.drained().await;
    hub.kill().await;
    let hub = RunningHub::start_with(HubOptions::new(copy.path()), address).await;
    until("the hub has it again", || async {
        (pull_all(&url).await == numbers(0..200)).then_some(())
    })
    .await;
    stage(&partition, 200..210, 10).await;
    gateway.drained().await;
    assert_eq!(pull_all(&url).await, numbers(0..210));
    hub.stop().await.unwrap();
}

/// The same, but the gateway has let go of what the hub forgot: the gap says so and counts it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_restored_hub_forgot_for_good_is_a_gap() {
    let (dir, copy, log_dir) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let partition = origin_of(log_dir.path(), 4 << 20);
    let hub = RunningHub::start(dir.path()).await;
    let (address, url) = (hub.address, hub.url());
    let gateway = RunningForwarder::start(&url, "gw-7", vec![log(&partition)]);
    stage(&partition, 0..100, 10).await;
    gateway.drained().await;
    hub.stop().await.unwrap();
    copy_dir(dir.path(), copy.path());
    let hub = RunningHub::start_with(HubOptions::new(dir.path()), address).await;
    for part in 0..20 {
        stage_sized(
            &partition,
            100 + part * 2_000..2_100 + part * 2_000,
            50,
            250,
        )
        .await;
        gateway.drained().await;
    }
    hub.kill().await;
    let hub = RunningHub::start_with(HubOptions::new(copy.path()), address).await;
    let pulled = until("the hub has the rest again", || async {
        let pulled = pull_all(&url).await;
        (pulled.last().unwrap() == "40099").then_some(pulled)
    })
    .await;
    assert!(pulled[100].ends_with("corrupt)"), "{}", pulled[100]);
    assert_eq!(records(&pulled).len() as u64 + lost(&pulled), 40_100);
    hub.stop().await.unwrap();
}

/// A hub that has 20 events, and the gateway's log as it was when there were 10. The directories are those of the hub, of the log, and of its copy.
async fn a_disk_is_put_back(
    [dir, disk, copy]: &[tempfile::TempDir; 3],
) -> (RunningHub, sedge_store::Partition) {
    let hub = RunningHub::start(dir.path()).await;
    a_life(&hub, disk.path(), 0..10).await;
    copy_dir(disk.path(), copy.path());
    a_life(&hub, disk.path(), 10..20).await;
    let restored = origin(copy.path());
    (hub, restored)
}

/// A gateway with the log in `disk` takes these ten events in, hands over all that it has, and is killed.
async fn a_life(hub: &RunningHub, disk: &Path, events: std::ops::Range<u64>) {
    let partition = origin(disk);
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
    stage(&partition, events, 10).await;
    gateway.drained().await;
    gateway.kill().await;
    partition.close();
}

/// How many events a gateway with this log brings to the hub, or counts as lost, behind the twenty that are there.
async fn comes_or_is_counted(hub: &RunningHub, partition: &sedge_store::Partition) -> u64 {
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(partition)]);
    gateway.drained().await;
    let pulled = pull_all(&hub.url()).await;
    let kept = records(&pulled);
    assert_eq!(kept[..20], numbers(0..20));
    kept.len() as u64 - 20 + lost(&pulled)
}

/// The gateway's disk was restored from an older copy and went its own way: the hub overwrites nothing, and a new log is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_gateway_disk_is_noticed_and_goes_on_in_a_new_log() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (hub, restored) = a_disk_is_put_back(&dirs).await;
    stage(&restored, 100..120, 10).await;
    let mut gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&restored)]);
    assert_eq!(
        gateway.events.recv().await,
        Some(ForwardEvent::Diverged {
            log: restored.log_id()
        })
    );
    assert_eq!(pull_all(&hub.url()).await, numbers(0..20));
    let fresh_dir = tempfile::tempdir().unwrap();
    let fresh = origin(fresh_dir.path());
    stage(&fresh, 20..25, 5).await;
    gateway.logs.send_replace(vec![Log {
        chain: 1,
        ..log(&fresh)
    }]);
    gateway.drained().await;
    assert_eq!(records(&pull_all(&hub.url()).await), numbers(0..25));
}

/// The same, and the end of what the hub has lies inside of what the gateway wrote at once: nothing of that counts as handed over.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_stands_inside_a_frame_has_not_had_the_first_half_of_it() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (hub, restored) = a_disk_is_put_back(&dirs).await;
    stage(&restored, 100..115, 15).await;
    let mut gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&restored)]);
    let log = restored.log_id();
    assert_eq!(
        gateway.events.recv().await,
        Some(ForwardEvent::Diverged { log })
    );
    restored.close();
    let cursor = restored.cursor(rig::UPLINK);
    assert!(
        cursor.is_none_or(|cursor| cursor.next.get() <= 10),
        "{cursor:?}"
    );
}

/// The same, and more has come since than the gateway can hold: no frame is left by which the two could be told apart. What the hub has from before the disk was put
/// back is not what was lost since.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_restored_disk_lost_is_counted_where_the_hub_had_other_events() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (hub, restored) = a_disk_is_put_back(&dirs).await;
    stage_sized(&restored, 100..12_100, 50, 2_000).await;
    assert!(restored.oldest().get() > 20);
    let counted = comes_or_is_counted(&hub, &restored).await;
    assert_eq!(counted, 12_000);
}

/// The same, and the gateway was started again, after a clean stop and after a kill, before it had a session: what it took in before that counts as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_restored_disk_took_in_before_further_starts_is_counted_too() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (hub, restored) = a_disk_is_put_back(&dirs).await;
    stage(&restored, 100..103, 3).await;
    restored.close();
    drop(restored);
    let again = origin(dirs[2].path());
    stage(&again, 103..107, 4).await;
    drop(again);
    let again = origin(dirs[2].path());
    stage_sized(&again, 107..12_107, 50, 2_000).await;
    assert!(again.oldest().get() > 65_536 + 20);
    let counted = comes_or_is_counted(&hub, &again).await;
    assert_eq!(counted, 12_007);
}

/// The copy was taken in an outage: of what it had not sent yet the hub has heard since, and nobody can tell that from what was taken in after the disk was put back.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_copy_had_not_sent_yet_may_be_counted_though_the_hub_has_it() {
    let [dir, disk, copy] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let partition = origin(disk.path());
    stage(&partition, 0..10, 10).await;
    partition.close();
    copy_dir(disk.path(), copy.path());
    let hub = RunningHub::start(dir.path()).await;
    a_life(&hub, disk.path(), 10..20).await;
    let restored = origin(copy.path());
    stage_sized(&restored, 100..12_100, 50, 2_000).await;
    let counted = comes_or_is_counted(&hub, &restored).await;
    assert!((12_000..=12_010).contains(&counted), "{counted}");
}

/// Without its catalog the hub still knows every partition's name, number and offsets; groups go back to the last copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_catalog_comes_back_with_names_numbers_and_offsets() {
    let (dir, disks) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hub = RunningHub::start(dir.path()).await;
    let (address, url) = (hub.address, hub.url());
    for gateway in ["gw-b", "gw-a", "gw-c"] {
        let partition = origin(&disks.path().join(gateway));
        stage(&partition, 0..10, 10).await;
        let forwarder = RunningForwarder::start(&url, gateway, vec![log(&partition)]);
        forwarder.drained().await;
        forwarder.kill().await;
    }
    let listed = Client::connect(&url, "test")
        .await
        .unwrap()
        .list(None)
        .await
        .unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|p| (p.number, p.gateway.as_str()))
            .collect::<Vec<_>>(),
        [(0, "gw-b"), (1, "gw-a"), (2, "gw-c")]
    );
    hub.kill().await;
    std::fs::remove_file(dir.path().join("catalog.sqlite")).unwrap();
    std::fs::remove_file(dir.path().join("catalog.copy")).unwrap();
    let hub = RunningHub::start_with(HubOptions::new(dir.path()), address).await;
    assert_eq!(
        Client::connect(&url, "test")
            .await
            .unwrap()
            .list(None)
            .await
            .unwrap(),
        listed
    );
    // The mirrors are lost instead: the catalog still gives every partition its old number.
    hub.stop().await.unwrap();
    std::fs::remove_dir_all(dir.path().join("mirrors")).unwrap();
    let hub = RunningHub::start_with(HubOptions::new(dir.path()), address).await;
    let partition = origin(&disks.path().join("gw-c"));
    let forwarder = RunningForwarder::start(&url, "gw-c", vec![log(&partition)]);
    until("the partition is back", || async {
        let listed = Client::connect(&url, "test")
            .await
            .unwrap()
            .list(None)
            .await
            .unwrap();
        listed
            .iter()
            .any(|p| (p.number, p.gateway.as_str(), p.end) == (2, "gw-c", 10))
            .then_some(())
    })
    .await;
    forwarder.kill().await;
    hub.stop().await.unwrap();
}
