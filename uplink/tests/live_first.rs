//! A hub that was away for long: live records pass the backlog, each of the two in its order, and nothing is read twice.

mod rig;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rig::{
    LIMIT, RunningForwarder, RunningHub, lost, numbers, options, origin, pull_all, records, stage,
    stage_sized, until,
};
use sedge_store::Partition;
use sedge_uplink::client::{Client, Item, PullOptions, Reader};
use sedge_uplink::forward::{ForwardEvent, Handle, Limits, Log, Priority};
use sedge_uplink::hub::HubOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How many records a backlog has; a live record has a larger number.
const BACKLOG: u64 = 1_000;

/// Two logs of a chain: an ended one that is full of old records, and the one that follows it.
fn side_by_side(old: &Partition, new: &Partition) -> Vec<Log> {
    let closed = Log {
        closed: true,
        may_be_passed: false,
        ..rig::log(old)
    };
    let live = Log {
        chain: 1,
        may_be_passed: false,
        ..rig::log(new)
    };
    vec![closed, live]
}

/// About a third of a megabyte, sent in some five seconds: long enough to see what happens meanwhile.
fn slowly() -> Limits {
    Limits {
        rate_bytes: Some(64_000),
        ..Limits::default()
    }
}

fn for_group(url: &str, member: &str) -> PullOptions {
    PullOptions {
        follow: true,
        group: Some(("billing".into(), member.into())),
        group_wait: LIMIT,
        ..options(url)
    }
}

/// What a reader was given: the numbers, in the order in which they came in each log of the chain.
#[derive(Default)]
struct Given(BTreeMap<u32, Vec<u64>>);

impl Given {
    /// Reads until `enough`, and commits.
    async fn take(&mut self, reader: &mut Reader, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            let item = timeout(LIMIT, reader.next()).await.expect("an item comes");
            if let Some(Item::Record(record)) = item.unwrap() {
                let number = String::from_utf8_lossy(&record.value).parse().unwrap();
                self.0.entry(record.epoch).or_default().push(number);
            }
        }
        reader.flushed().await.unwrap();
    }

    fn of(&self, epoch: u32) -> &[u64] {
        self.0.get(&epoch).map_or(&[], Vec::as_slice)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_gets_live_records_beside_the_backlog_and_each_once() {
    let (dir, old, new) = three_directories();
    let (first, second) = (origin(old.path()), origin(new.path()));
    stage_sized(&first, 0..BACKLOG, 5, 300).await;
    first.end();
    let hub = RunningHub::start(dir.path()).await;
    let logs = side_by_side(&first, &second);
    let gateway = RunningForwarder::start_limited(&hub.url(), logs, slowly(), None);
    let mut given = Given::default();
    let mut reader = Reader::new(for_group(&hub.url(), "a"));
    given.take(&mut reader, |given| given.of(0).len() > 5).await;
    stage(&second, BACKLOG..BACKLOG + 10, 1).await;
    given
        .take(&mut reader, |given| given.of(1).len() == 10)
        .await;
    let passed = given.of(0).len() as u64;
    assert!(passed < BACKLOG, "all of the backlog came first");
    let mut client = Client::connect(&hub.url(), "looks").await.unwrap();
    let listed = &client.list(None).await.unwrap()[0];
    assert_eq!(listed.ahead.len(), 1, "{listed:?}");
    assert!(listed.end < BACKLOG && listed.ahead[0].first == BACKLOG);
    // Another member goes on in both, and after it a third when the backlog is whole.
    reader.leave().await.unwrap();
    let mut reader = Reader::new(for_group(&hub.url(), "b"));
    stage(&second, BACKLOG + 10..BACKLOG + 20, 1).await;
    given
        .take(&mut reader, |given| given.of(1).len() == 20)
        .await;
    reader.leave().await.unwrap();
    gateway.drained().await;
    let mut reader = Reader::new(for_group(&hub.url(), "c"));
    stage(&second, BACKLOG + 20..BACKLOG + 30, 1).await;
    given
        .take(&mut reader, |given| {
            given.of(0).len() as u64 == BACKLOG && given.of(1).len() == 30
        })
        .await;
    assert_eq!(given.of(0), Vec::from_iter(0..BACKLOG));
    assert_eq!(given.of(1), Vec::from_iter(BACKLOG..BACKLOG + 30));
    let membership = sedge_uplink::client::Membership {
        group: "billing".into(),
        stream: "telemetry".into(),
        member: "d".into(),
    };
    reader.leave().await.unwrap();
    let joined = client.join(&membership, None, LIMIT).await.unwrap();
    let places: Vec<_> = joined.places.iter().map(|p| (p.first, p.next)).collect();
    assert_eq!(places, [(0, BACKLOG + 30)], "the two have become one");
    let pulled = pull_all(&hub.url()).await;
    assert_eq!(
        (records(&pulled), lost(&pulled)),
        (numbers(0..BACKLOG + 30), 0)
    );
}

/// The owner of the log is told before anything of the backlog is sent, and decides.
#[tokio::test(flavor = "multi_thread")]
async fn an_old_backlog_waits_until_its_owner_has_decided() {
    let (dir, old, new) = three_directories();
    let (first, second) = (origin(old.path()), origin(new.path()));
    stage(&first, 0..100, 10).await;
    let hub = RunningHub::start(dir.path()).await;
    let after = Some(Duration::from_micros(1));
    let logs = vec![rig::log(&first)];
    let mut gateway = RunningForwarder::start_limited(&hub.url(), logs, Limits::default(), after);
    let told = timeout(LIMIT, gateway.events.recv()).await.unwrap();
    let log = first.log_id();
    assert_eq!(told, Some(ForwardEvent::Behind { log }));
    assert_eq!(hub.handle.status().stored_offsets, 0);
    // It may be passed: closed, with another one behind it.
    first.end();
    stage(&second, 100..110, 10).await;
    gateway.logs.send_replace(side_by_side(&first, &second));
    gateway.drained().await;
    let pulled = pull_all(&hub.url()).await;
    assert_eq!(records(&pulled), numbers(0..110));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_backlog_that_may_not_be_passed_is_sent() {
    let (dir, old, _) = three_directories();
    let first = origin(old.path());
    stage(&first, 0..100, 10).await;
    let hub = RunningHub::start(dir.path()).await;
    let after = Some(Duration::from_micros(1));
    let logs = vec![rig::log(&first)];
    let mut gateway = RunningForwarder::start_limited(&hub.url(), logs, Limits::default(), after);
    timeout(LIMIT, gateway.events.recv()).await.unwrap();
    gateway
        .logs
        .send_modify(|logs| logs[0].may_be_passed = false);
    gateway.drained().await;
    assert_eq!(pull_all(&hub.url()).await, numbers(0..100));
}

/// A hub that is only behind by what has just been written is no reason to close a log.
#[tokio::test(flavor = "multi_thread")]
async fn a_young_backlog_is_sent_at_once() {
    let (dir, old, _) = three_directories();
    let first = origin(old.path());
    stage(&first, 0..100, 10).await;
    let hub = RunningHub::start(dir.path()).await;
    let after = Some(Duration::from_secs(3_600));
    let logs = vec![rig::log(&first)];
    let mut gateway = RunningForwarder::start_limited(&hub.url(), logs, Limits::default(), after);
    gateway.drained().await;
    assert!(gateway.events.try_recv().is_err());
}

/// What repeats itself takes a fraction of the link, and arrives as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_link_carries_packed_records() {
    let (dir, old, _) = three_directories();
    let first = origin(old.path());
    stage_sized(&first, 0..BACKLOG, 50, 300).await;
    let hub = RunningHub::start(dir.path()).await;
    let limits = Limits {
        packs: true,
        ..slowly()
    };
    let gateway = RunningForwarder::start_limited(&hub.url(), vec![rig::log(&first)], limits, None);
    gateway.drained().await;
    let (sent, stored) = (
        gateway.handle.status().sent_bytes,
        hub.handle.status().stored_bytes,
    );
    assert!(sent * 3 < stored, "{sent} bytes sent, {stored} stored");
    assert_eq!(pull_all(&hub.url()).await, numbers(0..BACKLOG));
}

/// A hub of another version, which has never said that it unpacks anything and skips what it does not know, gets what it understands.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_does_not_say_that_it_unpacks_gets_plain_records() {
    let (dir, old, _) = three_directories();
    let first = origin(old.path());
    stage_sized(&first, 0..BACKLOG, 50, 300).await;
    let hub = RunningHub::start(dir.path()).await;
    let url = older_hub_before(hub.address).await;
    let limits = Limits {
        packs: true,
        rate_bytes: Some(1_000_000),
        ..Limits::default()
    };
    let gateway = RunningForwarder::start_limited(&url, vec![rig::log(&first)], limits, None);
    gateway.drained().await;
    assert_eq!(pull_all(&hub.url()).await, numbers(0..BACKLOG));
}

/// A hub that had taken a log to its end is put back to a copy from before that, and the gateway has removed the log meanwhile. What stands behind keeps its
/// offsets, who has read it reads on, and what is nowhere any more is counted.
#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_removed_log_keeps_its_place_at_a_hub_that_is_put_back() {
    for copied_at in [0, 50] {
        let (dir, old, new) = three_directories();
        let (first, second) = (origin(old.path()), origin(new.path()));
        let (hub_dir, copy) = (dir.path().join("hub"), dir.path().join("copy"));
        let hub = RunningHub::start(&hub_dir).await;
        let (address, url) = (hub.address, hub.url());
        stage(&first, 0..copied_at, 10).await;
        let gateway = RunningForwarder::start(&url, "gw-7", vec![rig::log(&first)]);
        gateway.drained().await;
        hub.kill().await;
        rig::copy_dir(&hub_dir, &copy);
        let hub = RunningHub::start_with(HubOptions::new(&hub_dir), address).await;
        stage(&first, copied_at..100, 10).await;
        first.end();
        stage(&second, 100..110, 1).await;
        gateway.logs.send_replace(side_by_side(&first, &second));
        gateway.drained().await;
        let mut given = Given::default();
        let mut reader = Reader::new(for_follower(&url));
        given
            .take(&mut reader, |given| given.of(1).len() == 10)
            .await;
        // The gateway lets go of what is at the hub as a whole, and then the hub has forgotten it.
        let mut logs = side_by_side(&first, &second);
        logs[0].handle = Handle::Removed {
            log: first.log_id(),
            end: first.next(),
            told: false,
        };
        gateway.logs.send_replace(logs);
        hub.kill().await;
        std::fs::remove_dir_all(&hub_dir).unwrap();
        rig::copy_dir(&copy, &hub_dir);
        let hub = RunningHub::start_with(HubOptions::new(&hub_dir), address).await;
        stage(&second, 110..120, 1).await;
        given
            .take(&mut reader, |given| given.of(1).len() >= 20)
            .await;
        assert_eq!(given.of(1), Vec::from_iter(100..120));
        let pulled = until("what is nowhere any more is counted", || async {
            let pulled = pull_all(&url).await;
            (lost(&pulled) == 100 - copied_at).then_some(pulled)
        })
        .await;
        let left = [numbers(0..copied_at), numbers(100..120)].concat();
        assert_eq!(records(&pulled), left);
        drop((hub, gateway));
    }
}

/// A day's budget is spent: alarms go on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_urgent_goes_when_the_day_is_spent() {
    let (dir, old, new) = three_directories();
    let (bulk, alarms) = (origin(old.path()), origin(new.path()));
    stage_sized(&bulk, 0..BACKLOG, 5, 300).await;
    let hub = RunningHub::start(dir.path()).await;
    let logs = vec![
        rig::log(&bulk),
        Log {
            stream: "alarms".into(),
            priority: Priority::Urgent,
            ..rig::log(&alarms)
        },
    ];
    let limits = Limits {
        day_bytes: Some(64 * 1024),
        ..Limits::default()
    };
    let gateway = RunningForwarder::start_limited(&hub.url(), logs, limits, None);
    until("the day is spent", || async {
        gateway.handle.status().held
    })
    .await;
    stage(&alarms, 0..20, 1).await;
    until("the alarms are there", || async {
        (lag_of(&gateway, "alarms") == 0).then_some(())
    })
    .await;
    let (status, left) = (gateway.handle.status(), lag_of(&gateway, "telemetry"));
    assert!(left > BACKLOG / 2, "{left} of the bulk are left");
    assert_eq!(status.held.as_deref(), Some("what a day may cost is spent"));
}

fn for_follower(url: &str) -> PullOptions {
    PullOptions {
        follow: true,
        ..options(url)
    }
}

/// Stands before the hub at `address` and makes an older one of it: its Welcome promises nothing, and Packed is dropped. The way to it.
async fn older_hub_before(address: SocketAddr) -> String {
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("sedge://{}", door.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((gateway, _)) = door.accept().await {
            let hub = TcpStream::connect(address).await.unwrap();
            let (from_gateway, to_gateway) = gateway.into_split();
            let (from_hub, to_hub) = hub.into_split();
            tokio::spawn(carry(from_gateway, to_hub, |kind, _| kind != PACKED));
            tokio::spawn(carry(from_hub, to_gateway, |kind, body| {
                if kind == WELCOME {
                    body[1] = 0;
                }
                true
            }));
        }
    });
    url
}

/// Carries messages from one to the other, those that `passes` lets.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    passes: impl Fn(u8, &mut [u8]) -> bool,
) -> std::io::Result<()> {
    loop {
        let len = from.read_u32_le().await?;
        let mut message = vec![0; len as usize];
        from.read_exact(&mut message).await?;
        if passes(message[0], &mut message[1..]) {
            to.write_u32_le(len).await?;
            to.write_all(&message).await?;
        }
    }
}

const WELCOME: u8 = 0x02;
const PACKED: u8 = 0x0C;

/// How many records of `stream` the hub lacks.
fn lag_of(gateway: &RunningForwarder, stream: &str) -> u64 {
    let logs = gateway.handle.status().logs;
    let log = logs.iter().find(|log| log.stream == stream).unwrap();
    log.next.since(log.acked)
}

fn three_directories() -> (tempfile::TempDir, tempfile::TempDir, tempfile::TempDir) {
    let dir = || tempfile::tempdir().unwrap();
    (dir(), dir(), dir())
}
