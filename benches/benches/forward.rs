//! A backlog handed over from a gateway's log to a hub on loopback: read, sent, stored, synced, acknowledged.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sedge_benches::folder::Folder;
use sedge_store::watch;
use sedge_store::{Batch, Name, NoOwner, Partition, PartitionOptions, system_clock};
use sedge_uplink::forward::{ForwardOptions, Forwarder, GatewayTrust, Limits, Log, Priority, Time};
use sedge_uplink::hub::{Hub, HubOptions, HubTrust};
use sedge_uplink::trust::authority::Authority;
use sedge_uplink::trust::clock::LastGood;
use sedge_uplink::trust::enrol::{self, GatewayFiles};
use sedge_uplink::trust::register::{self, Kind};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    group.sample_size(10);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (name, events, each) in [
        ("1,000 events a frame", 200_000, 1_000),
        ("1 event a frame", 5_000, 1),
    ] {
        let folder = Folder::own_disk(DISK_MIB).expect("a disk");
        let partition = backlog(&folder, events, each);
        group.throughput(Throughput::Elements(events));
        for (way, secret) in [("", false), (", TLS", true)] {
            group.bench_function(format!("{name}{way}"), |bencher| {
                bencher.iter_custom(|times| {
                    (0..times)
                        .map(|_| runtime.block_on(hand_over(&partition, &folder, events, secret)))
                        .sum()
                });
            });
        }
        partition.close();
    }
    group.finish();
}

/// From the start of the forwarder to the hub's last acknowledgement. Each time to a hub that has nothing.
async fn hand_over(partition: &Partition, disk: &Folder, events: u64, secret: bool) -> Duration {
    let folder = TempDir::new_in(disk.path()).expect("a directory");
    let trust_dir = folder.path().join("trust");
    if secret {
        Authority::init(&trust_dir, &["127.0.0.1".into()]).expect("an authority");
    }
    let options = HubOptions {
        trust: secret.then(|| HubTrust::in_dir(&trust_dir)),
        ..HubOptions::new(folder.path().join("hub"))
    };
    let hub = Hub::open(options).await.expect("a hub");
    let hub_handle = hub.handle();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("sedge://{}", listener.local_addr().expect("it is bound"));
    let (stop, stopped) = watch::channel(false);
    let hub = tokio::spawn(hub.run(listener, told(stopped.clone())));

    let trust = match secret {
        true => Some(enrolled(&url, folder.path()).await),
        false => None,
    };

    // What the hub before this one took is forgotten, so that this one is owed everything.
    partition.drop_cursor(UPLINK);
    let log = Log {
        stream: "telemetry".into(),
        partition: 0,
        chain: 0,
        closed: false,
        may_be_passed: false,
        priority: Priority::Normal,
        handle: partition.clone().into(),
    };
    let (_logs, seen) = watch::channel(vec![log]);
    let (tell, _events) = mpsc::unbounded_channel();
    let options = ForwardOptions {
        url,
        identity: "gateway".into(),
        uplink: UPLINK,
        retry_max: Duration::from_secs(1),
        trust,
        limits: Limits::default(),
        time: Time::default(),
        live_first_after: None,
    };
    let forwarder = Forwarder::new(options, seen, tell).expect("the address is fine");
    let handle = forwarder.handle();
    let begun = Instant::now();
    let forwarder = tokio::spawn(forwarder.run(told(stopped)));
    while handle.status().acked_offsets < events {
        tokio::time::sleep(POLL).await;
    }
    let took = begun.elapsed();

    assert_eq!(hub_handle.status().stored_offsets, events);
    stop.send_replace(true);
    forwarder.await.expect("the forwarder ends");
    hub.await.expect("the hub ends").expect("without trouble");
    took
}

/// A gateway's certificate from the hub at `url`, whose directory is `dir`.
async fn enrolled(url: &str, dir: &Path) -> GatewayTrust {
    let (trust_dir, name) = (dir.join("trust"), Name::new("gateway").expect("a name"));
    let authority = Authority::in_dir(&trust_dir).expect("it was made");
    let pin = authority.pin().expect("it can be read");
    let who = (Kind::Gateway, &name);
    let admitted = register::admit(&trust_dir, who, &["*".into()], Some((Some(pin), None)));
    let token = admitted.expect("it is written").expect("a token");
    let files = GatewayFiles::in_dir(&dir.join("gateway"));
    let enrolled = enrol::enrol(url, "gateway", &token, None, &files).await;
    enrolled.expect("the hub gives a certificate");
    GatewayTrust {
        files,
        clock: Arc::new(LastGood::in_memory()),
    }
}

async fn told(mut stopped: watch::Receiver<bool>) {
    // An error says that nobody is left who could tell.
    stopped.wait_for(|stopped| *stopped).await.ok();
}

fn backlog(folder: &Folder, events: u64, each: u64) -> Partition {
    let opened = Partition::open(
        folder.path().join("log"),
        PartitionOptions::default(),
        Box::new(NoOwner),
        system_clock(),
    );
    let partition = opened.expect("it opens").0;
    let mut producer = partition.producer();
    producer.set_window_bound(true);
    let mut settled = partition.settled();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut batch = Batch::new();
    for _ in 0..each {
        batch.push(
            |unit| {
                unit.record(
                    None,
                    Some(b"boiler-1"),
                    &[("topic", b"sensors/boiler-1/temp")],
                    &[b'7'; 128],
                )
            },
            &[],
        );
    }
    for _ in 0..events / each {
        let ticket = producer.stage(&batch).expect("there is room");
        let reached = runtime
            .block_on(settled.wait_for(|settled| *settled >= ticket))
            .map(|_| ());
        reached.expect("the writer lives");
    }
    partition
}

const UPLINK: u32 = 1;
/// How exactly the end is seen; a hand-over takes a hundred times as long.
const POLL: Duration = Duration::from_millis(1);
/// Room for the shipped capacity of 256 MiB, the hub's copy, and the file system's own.
const DISK_MIB: u64 = 1024;

criterion_group!(benches, forward);
criterion_main!(benches);
