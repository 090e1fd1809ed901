//! The log: appended to with and without a disk under it, opened again, and read as `pull` reads it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sedge_benches::folder::Folder;
use sedge_core::driver::Ram;
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{Form, Frame, Label, emit_data};
use sedge_core::log::{CommitError, Fresh, Log, Options, WhenFull};
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
use sedge_core::{LogId, Micros, Offset};
use sedge_store::watch;
use sedge_store::{Batch, NoOwner, Partition, PartitionOptions, Producer, Ticket, system_clock};
use tokio::runtime::Runtime;

/// What the log machine itself costs: a commit of 100 events into memory.
fn append_without_sync(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append without sync");
    group.throughput(Throughput::Elements(u64::from(EVENTS)));
    let mut log = log_in_memory();
    let entries = encoded(&event(), EVENTS);
    let mut frame = vec![0; entries.len() + 64];
    group.bench_function("100 events a commit", |bencher| {
        bencher.iter(|| commit(&mut log, black_box(&entries), &mut frame));
    });
    group.finish();
}

/// From staging to durable on a disk, with nobody to wait for, on the second lap of the files.
fn append_with_sync(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append with sync");
    let folder = Folder::own_disk(DISK_MIB).expect("a disk");
    let partition = partition(&folder);
    let mut appender = Appender::to(&partition);
    let (thousand, written) = (batch(1_000), || partition.stats().bytes);
    while written() < PartitionOptions::default().capacity_bytes {
        appender.append(&thousand);
    }
    for events in [1, u32::from(EVENTS), 1_000] {
        let batch = batch(events);
        group.throughput(Throughput::Elements(u64::from(events)));
        group.bench_function(format!("{events} events a commit"), |bencher| {
            bencher.iter(|| appender.append(&batch));
        });
    }
    group.finish();
    partition.close();
}

/// Opening what a killed process left, its files still in the page cache: a segment to be walked, the others to be looked at.
fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(10);
    let folder = Folder::own_disk(DISK_MIB).expect("a disk");
    // Dropping it, not closing it, is what a kill would do, here and after each opening.
    drop(filled(&folder));
    group.bench_function("after a kill, 200,000 events held", |bencher| {
        bencher.iter_batched(|| (), |()| partition(&folder), BatchSize::PerIteration);
    });
    assert_eq!(read_all(&partition(&folder)), FILL_EVENTS);
    group.finish();
}

/// Reading everything from the page cache, with each entry decoded.
fn pull(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pull");
    group.sample_size(10);
    let folder = Folder::own_disk(DISK_MIB).expect("a disk");
    let partition = filled(&folder);
    group.throughput(Throughput::Elements(FILL_EVENTS));
    group.bench_function("200,000 events", |bencher| {
        bencher.iter(|| assert_eq!(read_all(&partition), FILL_EVENTS))
    });
    group.finish();
    partition.close();
}

fn read_all(partition: &Partition) -> u64 {
    let (mut from, mut events) = (partition.oldest(), 0);
    while from < partition.next() {
        let chunk = partition.read(from, CHUNK_BYTES).expect("the disk reads");
        let mut rest = &chunk.frames[..];
        while let Ok((frame, len)) = Frame::parse(rest, &partition.log_id(), None) {
            frame.entries().for_each(|entry| {
                black_box(entry);
                events += 1;
            });
            rest = &rest[len..];
        }
        from = chunk.next;
    }
    events
}

/// A log in `folder` that holds [`FILL_EVENTS`].
fn filled(folder: &Folder) -> Partition {
    let partition = partition(folder);
    let mut appender = Appender::to(&partition);
    let batch = batch(1_000);
    for _ in 0..FILL_EVENTS / 1_000 {
        appender.append(&batch);
    }
    partition
}

/// With the shipped options.
fn partition(folder: &Folder) -> Partition {
    Partition::open(
        folder.path().join("log"),
        PartitionOptions::default(),
        Box::new(NoOwner),
        system_clock(),
    )
    .expect("it opens")
    .0
}

/// A connection that waits for each of its batches before it sends the next.
struct Appender {
    producer: Producer,
    settled: watch::Receiver<Ticket>,
    runtime: Runtime,
}

impl Appender {
    fn to(partition: &Partition) -> Self {
        let mut producer = partition.producer();
        producer.set_window_bound(true);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        Self {
            producer,
            settled: partition.settled(),
            runtime: runtime.expect("a runtime without drivers"),
        }
    }

    /// Returns when `batch` is durable.
    fn append(&mut self, batch: &Batch) {
        let ticket = self.producer.stage(batch).expect("there is room");
        let reached = self.settled.wait_for(|settled| *settled >= ticket);
        let reached = self.runtime.block_on(reached).map(|_| ());
        reached.expect("the writer lives");
    }
}

fn batch(events: u32) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..events {
        batch.push(
            |unit| unit.record(None, Some(KEY), &[("topic", TOPIC)], &VALUE),
            &[],
        );
    }
    batch
}

fn log_in_memory() -> Log<Ram<Vec<u8>>, Vec<u8>> {
    let geometry = Geometry::new(Dimensions {
        medium: Medium::File,
        role: Role::Origin,
        write_unit: 1,
        segment_bytes: 1 << 20,
        segment_count: 16,
        frame_bytes_max: 64 << 10,
        commit_offsets_max: 65_535,
    });
    let geometry = geometry.expect("the dimensions are fine");
    let fresh = Fresh {
        log_id: LogId::new([7; 16]),
        now: Micros::new(1),
        boot: 1,
    };
    let scratch = vec![0; geometry.scratch_bytes()];
    let media = Ram::new(vec![0xFF; 16 << 20], 1 << 20);
    let options = Options::new(geometry, WhenFull::EvictOldest);
    Log::open(media, options, fresh, scratch)
        .expect("memory opens")
        .0
}

fn commit(log: &mut Log<Ram<Vec<u8>>, Vec<u8>>, entries: &[u8], frame: &mut [u8]) -> Offset {
    let (log_id, now) = (log.log_id(), Micros::new(2));
    let label = Label {
        form: Form::Explicit,
        first: log.next(),
        time: now,
        first_of_commit: true,
    };
    let len = emit_data(frame, &log_id, label, EVENTS, &[], entries).expect("the frame fits");
    loop {
        match log.commit(&frame[..len], u64::from(EVENTS), &[], now) {
            Ok(committed) => return committed.next,
            Err(CommitError::NeedsMaintain) => {
                log.maintain(now).expect("memory does not fail");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn encoded(entry: &Entry<'_>, count: u16) -> Vec<u8> {
    let mut bytes = [0; 256];
    let len = entry.encode(&mut bytes).expect("an event fits");
    bytes[..len].repeat(count.into())
}

fn event() -> Entry<'static> {
    let headers = Headers::new(&[("topic", TOPIC)]);
    Entry::Record(Record {
        time: None,
        key: Some(KEY),
        headers,
        value: &VALUE,
    })
}

const KEY: &[u8] = b"boiler-1";
const TOPIC: &[u8] = b"sensors/boiler-1/temp";
const VALUE: [u8; 128] = [b'7'; 128];
const EVENTS: u16 = 100;
const FILL_EVENTS: u64 = 200_000;
/// Room for the shipped capacity of 256 MiB, and the file system's own.
const DISK_MIB: u64 = 512;
const CHUNK_BYTES: usize = 256 << 10;

criterion_group!(
    benches,
    append_without_sync,
    append_with_sync,
    recovery,
    pull
);
criterion_main!(benches);
