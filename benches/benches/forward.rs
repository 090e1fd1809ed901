//! A backlog handed over from a gateway's log to a hub on loopback: read, sent, stored, synced, acknowledged.

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sedge_store::{Batch, NoOwner, Partition, PartitionOptions, system_clock};
use sedge_uplink::forward::{ForwardOptions, Forwarder, Log};
use sedge_uplink::hub::{Hub, HubOptions};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

fn forward(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("forward");
    group.sample_size(10);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for (name, events, each) in [
        ("1,000 events a frame", 200_000, 1_000),
        ("1 event a frame", 5_000, 1),
    ] {
        let folder = TempDir::new().expect("a temporary directory");
        let partition = backlog(folder.path(), events, each);
        group.throughput(Throughput::Elements(events));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                (0..times)
                    .map(|_| runtime.block_on(hand_over(&partition)))
                    .sum()
            });
        });
        partition.close();
    }
    group.finish();
}

/// From the start of the forwarder to the hub's last acknowledgement. Each time to a hub that has nothing, under a new name.
async fn hand_over(partition: &Partition) -> Duration {
    let folder = TempDir::new().expect("a temporary directory");
    let hub = Hub::open(HubOptions::new(folder.path()))
        .await
        .expect("a hub");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("sedge://{}", listener.local_addr().expect("it is bound"));
    let hub = tokio::spawn(hub.run(listener, std::future::pending()));

    let log = Log {
        stream: "telemetry".into(),
        partition: 0,
        chain: 0,
        closed: false,
        handle: partition.clone(),
    };
    let (_logs, seen) = watch::channel(vec![log]);
    let (tell, _events) = mpsc::unbounded_channel();
    let options = ForwardOptions {
        url,
        identity: "gateway".into(),
        uplink: 1,
        retry_max: Duration::from_secs(1),
    };
    let forwarder = Forwarder::new(options, seen, tell).expect("the address is fine");
    let handle = forwarder.handle();
    let begun = Instant::now();
    let forwarder = tokio::spawn(forwarder.run(std::future::pending()));
    loop {
        let status = handle.status();
        if status.connected && status.logs.len() == 1 && status.lag() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    forwarder.abort();
    hub.abort();
    took
}

fn backlog(folder: &Path, events: u64, each: u64) -> Partition {
    let options = PartitionOptions {
        capacity_bytes: 128 << 20,
        ..PartitionOptions::default()
    };
    let opened = Partition::open(
        folder.join("log"),
        options,
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

criterion_group!(benches, forward);
criterion_main!(benches);
