//! Measures one partition: events a second, CPU, device bytes a payload byte, and how fast it is read back.
//! `cargo run --release -p sedge-store --example measure -- DIR [events] [in flight] [events a batch]`
#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sedge_core::Offset;
use sedge_store::{Batch, NoOwner, Partition, PartitionOptions, StageError, Ticket, system_clock};

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = PathBuf::from(args.next().expect("a directory")).join("measure");
    let mut number = |default: u64| {
        args.next()
            .map_or(default, |a| a.parse().expect("a number"))
    };
    let (events, window, batch) = (number(2_000_000), number(1000), number(100));
    let options = PartitionOptions {
        capacity_bytes: 256 << 20,
        ..PartitionOptions::default()
    };
    let (partition, opened) =
        Partition::open(&dir, options, Box::new(NoOwner), system_clock()).expect("opens");
    println!("opened: {opened:?}");
    for lap in 1..=3 {
        let (cpu, device, started) = (cpu_seconds(), device_bytes(), Instant::now());
        let before = partition.stats();
        stage_all(&partition, events, window, batch);
        let (took, after) = (started.elapsed().as_secs_f64(), partition.stats());
        let cpu = cpu_seconds() - cpu;
        println!(
            "lap {lap}: {:.0} events/s, {:.2} CPU s a million, {:.2} device bytes a payload byte, {:.0} events a commit, {:.0} us a commit",
            events as f64 / took,
            cpu / (events as f64 / 1e6),
            (device_bytes() - device) as f64 / (events * PAYLOAD_BYTES as u64) as f64,
            events as f64 / (after.commits - before.commits) as f64,
            (after.commit_us - before.commit_us) as f64 / (after.commits - before.commits) as f64,
        );
    }
    read_back(&partition);
    println!("resident: {}", resident());
    partition.close();
    drop(partition);
    let started = Instant::now();
    let (partition, _) = Partition::open(
        &dir,
        PartitionOptions::default(),
        Box::new(NoOwner),
        system_clock(),
    )
    .expect("opens");
    println!(
        "reopened in {:?}, {} to {}",
        started.elapsed(),
        partition.oldest(),
        partition.next()
    );
    fs::remove_dir_all(&dir).expect("it is ours");
}

fn stage_all(partition: &Partition, events: u64, window: u64, per_batch: u64) {
    let payload = [7_u8; PAYLOAD_BYTES];
    let mut producer = partition.producer();
    producer.set_window_bound(true);
    let settled = partition.settled();
    let mut batch = Batch::new();
    let (mut staged, mut tickets) = (0, std::collections::VecDeque::<Ticket>::new());
    while staged < events {
        batch.clear();
        for _ in 0..per_batch {
            batch.push(
                |unit| unit.record(None, Some(b"boiler-1"), &[], &payload),
                b"",
            );
        }
        match producer.stage(&batch) {
            Ok(ticket) => tickets.push_back(ticket),
            Err(StageError::Full) => continue,
            Err(e) => panic!("{e}"),
        }
        staged += per_batch;
        while tickets.len() as u64 * per_batch >= window {
            wait(&settled, *tickets.front().expect("not empty"));
            let done = *settled.borrow();
            while tickets.front().is_some_and(|t| *t <= done) {
                tickets.pop_front();
            }
        }
    }
    wait(&settled, *tickets.back().expect("something was staged"));
}

fn wait(settled: &sedge_store::watch::Receiver<Ticket>, ticket: Ticket) {
    while *settled.borrow() < ticket {
        std::thread::sleep(Duration::from_micros(30));
    }
}

fn read_back(partition: &Partition) {
    for pass in 1..=2 {
        let (started, cpu) = (Instant::now(), cpu_seconds());
        let (mut at, mut bytes) = (Offset::ZERO, 0);
        while at < partition.next() {
            let chunk = partition.read(at, 512 << 10).expect("reads");
            bytes += chunk.frames.len();
            at = chunk.next;
        }
        let took = started.elapsed().as_secs_f64();
        println!(
            "read pass {pass}: {:.2} GB/s, {:.2} CPU s",
            bytes as f64 / took / 1e9,
            cpu_seconds() - cpu
        );
    }
}

fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("linux");
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .expect("a name")
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn device_bytes() -> u64 {
    let stat = fs::read_to_string("/sys/block/vda/stat").unwrap_or_default();
    stat.split_whitespace()
        .nth(6)
        .and_then(|s| s.parse::<u64>().ok())
        .unwrap_or(0)
        * 512
}

fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").expect("linux");
    status
        .lines()
        .find(|l| l.starts_with("VmRSS"))
        .unwrap_or_default()
        .to_owned()
}

const PAYLOAD_BYTES: usize = 128;
