//! The work done on every event without any storage: entries, frames and their CRC.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sedge_core::crc::crc32c;
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{Form, Frame, Label, emit_data};
use sedge_core::{LogId, Micros, Offset};

fn crc(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for bytes in [128, 4 * 1024, 64 * 1024] {
        let data = vec![0x5A; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} bytes"), |bencher| {
            bencher.iter(|| crc32c(black_box(&data)));
        });
    }
    group.finish();
}

fn entries(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("entry");
    group.throughput(Throughput::Elements(1));
    let entry = event();
    let mut bytes = [0; 256];
    let len = entry.encode(&mut bytes).expect("an event fits");
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(&entry).encode(black_box(&mut bytes)));
    });
    let encoded = &bytes[..len];
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Entry::decode(black_box(encoded)).expect("whole"));
    });
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame of 100");
    group.throughput(Throughput::Elements(EVENTS_IN_FRAME.into()));
    let log = LogId::new([7; 16]);
    let entries = encoded_events();
    let label = Label {
        form: Form::Explicit,
        first: Offset::new(1_000_000),
        time: Micros::new(1),
        first_of_commit: true,
    };
    let mut bytes = vec![0; entries.len() + 64];
    let emit =
        |into: &mut [u8]| emit_data(into, &log, label, EVENTS_IN_FRAME, &[], black_box(&entries));
    group.bench_function("emit", |bencher| {
        bencher.iter(|| emit(black_box(&mut bytes)))
    });
    let len = emit(&mut bytes).expect("the frame fits");
    let frame = &bytes[..len];
    group.bench_function("parse and walk", |bencher| {
        bencher.iter(|| {
            let (frame, _) = Frame::parse(black_box(frame), &log, None).expect("whole");
            frame.entries().for_each(|entry| {
                black_box(entry);
            });
        });
    });
    group.finish();
}

/// An event as `mqtt-listen` stores it.
fn event() -> Entry<'static> {
    Entry::Record(Record {
        time: Some(17),
        key: Some(b"boiler-1"),
        headers: Headers::new(&[("topic", b"sensors/boiler-1/temp")]),
        value: &[b'7'; 128],
    })
}

fn encoded_events() -> Vec<u8> {
    let mut entries = Vec::new();
    let mut bytes = [0; 256];
    for _ in 0..EVENTS_IN_FRAME {
        let len = event().encode(&mut bytes).expect("an event fits");
        entries.extend_from_slice(&bytes[..len]);
    }
    entries
}

const EVENTS_IN_FRAME: u16 = 100;

criterion_group!(benches, crc, entries, frames);
criterion_main!(benches);
