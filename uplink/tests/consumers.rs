//! Readers and groups: where they begin, what they are given, who may commit.

mod rig;

use std::time::Duration;

use rig::{
    LIMIT, RunningForwarder, RunningHub, copy_dir, log, numbers, options, origin, pull, pull_all,
    stage, word,
};
use sedge_store::Partition;
use sedge_uplink::client::{Client, ClientError, Place, PullError, PullOptions, Reader, Start};
use sedge_uplink::forward::Log;
use sedge_uplink::hub::HubOptions;
use tokio::time::timeout;

/// A hub with one gateway that has sent `count` records.
async fn filled(dir: &std::path::Path, count: u64) -> (RunningHub, Partition, RunningForwarder) {
    let hub = RunningHub::start(&dir.join("hub")).await;
    let partition = origin(&dir.join("gw-7"));
    let gateway = RunningForwarder::start(&hub.url(), "gw-7", vec![log(&partition)]);
    stage(&partition, 0..count, 4).await;
    gateway.drained().await;
    (hub, partition, gateway)
}

fn for_group(url: &str, member: &str) -> PullOptions {
    PullOptions {
        group: Some(("billing".into(), member.into())),
        ..options(url)
    }
}

fn at(number: u32, next: u64) -> Place {
    Place {
        number,
        first: 0,
        next,
    }
}

async fn take(reader: &mut Reader, count: usize) -> Vec<String> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let item = timeout(LIMIT, reader.next())
            .await
            .expect("an item comes")
            .unwrap();
        taken.push(word(&item.expect("there is more")));
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_begins_where_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, partition, gateway) = filled(dir.path(), 40).await;
    let at = |start| {
        pull(PullOptions {
            start,
            ..options(&hub.url())
        })
    };
    assert_eq!(at(Start::Offset(17)).await, numbers(17..40));
    assert_eq!(at(Start::Latest).await, numbers(0..0));
    assert_eq!(at(Start::Time(0)).await, numbers(0..40));
    assert_eq!(at(Start::Time(i64::MAX)).await, numbers(0..0));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_micros() as i64;
    stage(&partition, 40..50, 4).await;
    gateway.drained().await;
    assert_eq!(at(Start::Time(now)).await, numbers(40..50));
}

/// Two gateways, two partitions each: all of it comes, each partition in its own order.
#[tokio::test(flavor = "multi_thread")]
async fn all_partitions_of_all_gateways_come_each_in_its_order() {
    let dir = tempfile::tempdir().unwrap();
    let hub = RunningHub::start(&dir.path().join("hub")).await;
    for (at, gateway) in ["gw-a", "gw-b"].into_iter().enumerate() {
        let partitions: Vec<_> = (0..2_u64)
            .map(|p| origin(&dir.path().join(format!("{gateway}-{p}"))))
            .collect();
        for (p, partition) in partitions.iter().enumerate() {
            let first = (at as u64 * 2 + p as u64) * 10_000;
            stage(partition, first..first + 500, 3).await;
        }
        let logs = partitions
            .iter()
            .zip(0..)
            .map(|(p, partition)| Log {
                partition,
                ..log(p)
            })
            .collect();
        let forwarder = RunningForwarder::start(&hub.url(), gateway, logs);
        forwarder.drained().await;
    }
    let pulled: Vec<u64> = pull_all(&hub.url())
        .await
        .iter()
        .map(|n| n.parse().unwrap())
        .collect();
    assert_eq!(pulled.len(), 2_000);
    for which in 0..4 {
        let of: Vec<_> = pulled
            .iter()
            .filter(|n| **n / 10_000 == which)
            .map(|n| n % 10_000)
            .collect();
        assert_eq!(of, (0..500).collect::<Vec<_>>(), "partition {which}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_over_the_death_of_the_hub_and_meets_new_partitions_from_their_beginning()
 {
    let dir = tempfile::tempdir().unwrap();
    let (hub, partition, gateway) = filled(dir.path(), 10).await;
    let (address, url) = (hub.address, hub.url());
    let mut reader = Reader::new(PullOptions {
        follow: true,
        start: Start::Latest,
        ..options(&url)
    });
    assert!(
        timeout(Duration::from_millis(300), reader.next())
            .await
            .is_err(),
        "nothing is new"
    );
    stage(&partition, 10..20, 4).await;
    assert_eq!(take(&mut reader, 10).await, numbers(10..20));
    hub.kill().await;
    let hub = RunningHub::start_with(HubOptions::new(dir.path().join("hub")), address).await;
    stage(&partition, 20..30, 4).await;
    assert_eq!(take(&mut reader, 10).await, numbers(20..30));
    let other = origin(&dir.path().join("gw-8"));
    stage(&other, 500..510, 4).await;
    let second = RunningForwarder::start(&url, "gw-8", vec![log(&other)]);
    assert_eq!(take(&mut reader, 10).await, numbers(500..510));
    drop((gateway, second, hub));
}

/// It says that all is safe with its caller only when the hub is back. Nobody was the group's member meanwhile, so it goes on where it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_follows_commits_over_the_death_of_the_hub_and_goes_on_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, _partition, _gateway) = filled(dir.path(), 20).await;
    let (address, url) = (hub.address, hub.url());
    let mut reader = Reader::new(PullOptions {
        follow: true,
        ..for_group(&url, "a")
    });
    assert_eq!(take(&mut reader, 12).await, numbers(0..12));
    hub.kill().await;
    let hub = RunningHub::start_with(HubOptions::new(dir.path().join("hub")), address).await;
    timeout(LIMIT, reader.flushed()).await.unwrap().unwrap();
    assert_eq!(take(&mut reader, 8).await, numbers(12..20));
    drop(reader);
    // The hub may see only a moment later that it has gone.
    let next = pull(PullOptions {
        group_wait: LIMIT,
        ..for_group(&hub.url(), "a")
    });
    let next = next.await;
    assert_eq!(next, numbers(12..20), "those were not said to be safe");
}

/// The hub is put back to a copy from before the second gateway. A follower goes on with what there is, and with the rest when its gateway has brought it
/// again.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_goes_on_over_a_hub_that_does_not_know_a_partition_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, partition, gateway) = filled(dir.path(), 10).await;
    let (address, url) = (hub.address, hub.url());
    let hub_dir = dir.path().join("hub");
    hub.kill().await;
    copy_dir(&hub_dir, &dir.path().join("copy"));
    let hub = RunningHub::start_with(HubOptions::new(&hub_dir), address).await;
    let other = origin(&dir.path().join("gw-8"));
    stage(&other, 500..510, 4).await;
    let second = RunningForwarder::start(&url, "gw-8", vec![log(&other)]);
    second.drained().await;
    let mut reader = Reader::new(PullOptions {
        follow: true,
        ..options(&url)
    });
    let mut seen = take(&mut reader, 20).await;
    seen.sort();
    let mut expected = [numbers(0..10), numbers(500..510)].concat();
    expected.sort();
    assert_eq!(seen, expected);
    hub.kill().await;
    second.kill().await;
    std::fs::remove_dir_all(&hub_dir).unwrap();
    copy_dir(&dir.path().join("copy"), &hub_dir);
    let hub = RunningHub::start_with(HubOptions::new(&hub_dir), address).await;
    stage(&partition, 10..20, 4).await;
    assert_eq!(take(&mut reader, 10).await, numbers(10..20));
    let second = RunningForwarder::start(&url, "gw-8", vec![log(&other)]);
    stage(&other, 510..520, 4).await;
    assert_eq!(take(&mut reader, 10).await, numbers(510..520));
    drop((gateway, second, hub));
}

/// What was given and not flushed is given again; what was flushed is not, not even after the hub died.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_behind_what_was_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, _partition, _gateway) = filled(dir.path(), 40).await;
    let (address, url) = (hub.address, hub.url());
    let mut first = Reader::new(for_group(&url, "a"));
    assert_eq!(take(&mut first, 10).await, numbers(0..10));
    first.flushed().await.unwrap();
    assert_eq!(take(&mut first, 5).await, numbers(10..15));
    drop(first);
    let groups = hub.handle.status().groups;
    let said: Vec<_> = groups.iter().map(|g| (g.lag, g.overtaken)).collect();
    assert_eq!(said, [(30, 0)], "it is behind, and nothing is gone");
    hub.kill().await;
    let _hub = RunningHub::start_with(HubOptions::new(dir.path().join("hub")), address).await;
    let mut second = Reader::new(for_group(&url, "b"));
    assert_eq!(take(&mut second, 30).await, numbers(10..40));
    second.flushed().await.unwrap();
    second.leave().await.unwrap();
    assert_eq!(pull(for_group(&url, "c")).await, numbers(0..0));
}

/// One member reads; another is told who, and gets the group the moment the first one leaves.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_is_told_who_is_active_or_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, _partition, _gateway) = filled(dir.path(), 20).await;
    let url = hub.url();
    let mut first = Reader::new(for_group(&url, "a"));
    assert_eq!(take(&mut first, 4).await, numbers(0..4));
    let refused = Reader::new(for_group(&url, "b")).next().await;
    assert!(
        matches!(refused, Err(PullError::Hub(ClientError::Held { ref holder })) if holder == "a"),
        "{refused:?}"
    );
    let waiting = tokio::spawn(pull(PullOptions {
        group_wait: LIMIT,
        ..for_group(&url, "b")
    }));
    first.flushed().await.unwrap();
    first.leave().await.unwrap();
    assert_eq!(waiting.await.unwrap(), numbers(4..20));
}

/// A member that lost its connection and came too late must not commit over its successor.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_was_replaced_cannot_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, _partition, _gateway) = filled(dir.path(), 20).await;
    let membership = sedge_uplink::client::Membership {
        group: "billing".into(),
        stream: "telemetry".into(),
        member: "a".into(),
    };
    let mut old = Client::connect(&hub.url(), "a").await.unwrap();
    let joined = old.join(&membership, None, Duration::ZERO).await.unwrap();
    // The same member on a new connection, as after a network that went dead without a word.
    let mut new = Client::connect(&hub.url(), "a").await.unwrap();
    let again = new
        .join(&membership, Some(joined.generation), Duration::ZERO)
        .await
        .unwrap();
    new.commit(&membership, again.generation, vec![at(0, 9)])
        .await
        .unwrap();
    let late = old
        .commit(&membership, joined.generation, vec![at(0, 3)])
        .await;
    assert!(matches!(late, Err(ClientError::Fenced)), "{late:?}");
    let unknown = new
        .commit(&membership, again.generation, vec![at(7, 3)])
        .await;
    assert!(
        matches!(unknown, Err(ClientError::Failed { code: 20, .. })),
        "{unknown:?}"
    );
    drop((old, new));
    let mut third = Client::connect(&hub.url(), "c").await.unwrap();
    let joined = third.join(&membership, None, LIMIT).await.unwrap();
    assert_eq!(joined.places, [at(0, 9)]);
}
