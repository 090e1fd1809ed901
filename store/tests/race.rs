//! Readers and writer at the same time: a reader that is overtaken meets a gap with the right number, never wrong bytes.

mod fixture;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fixture::Given;
use sedge_core::entry::Entry;
use sedge_core::frame::Frame;
use sedge_core::{Cause, Offset};
use sedge_store::Partition;

#[test]
fn readers_that_are_overtaken_see_everything_or_a_gap() {
    let mut given = Given::default();
    given.options.linger = Duration::from_micros(100);
    let partition = given.open();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = [0, 2, 50]
            .map(|pause_us| {
                scope.spawn({
                    let (partition, done) = (partition.clone(), &done);
                    move || read_along(&partition, done, Duration::from_micros(pause_us))
                })
            })
            .into_iter()
            .collect();
        let mut producer = partition.producer();
        for n in 0..8000 {
            fixture::stage(&partition, &mut producer, format!("{n:0600}").as_bytes());
        }
        fixture::settle(&partition, &mut producer);
        done.store(true, Ordering::Release);
        for reader in readers {
            let (seen, lost) = reader.join().unwrap();
            assert_eq!(seen + lost, 8000, "{seen} seen, {lost} lost");
        }
    });
    assert_eq!(partition.ledger().corrupt, 0);
}

/// Reads from the first offset to the end, and returns how many records were seen and how many the gaps told of.
fn read_along(partition: &Partition, done: &AtomicBool, pause: Duration) -> (u64, u64) {
    let (mut at, mut seen, mut lost) = (Offset::ZERO, 0, 0);
    loop {
        let is_last = done.load(Ordering::Acquire);
        let chunk = partition.read(at, 8 << 10).unwrap();
        if let Some(gap) = chunk.gap {
            assert_eq!((gap.from, gap.cause), (at, Cause::Evicted), "{gap:?}");
            lost += gap.lost;
        }
        let mut rest = &chunk.frames[..];
        while !rest.is_empty() {
            let (frame, len) = Frame::parse(rest, &partition.log_id(), None).unwrap();
            rest = &rest[len..];
            for (offset, entry) in frame.entries() {
                let Entry::Record(record) = entry else {
                    continue;
                };
                let value: u64 = std::str::from_utf8(record.value).unwrap().parse().unwrap();
                assert_eq!(value, offset.get());
                seen += 1;
            }
        }
        if is_last && chunk.next == at && chunk.gap.is_none() {
            return (seen, lost);
        }
        at = chunk.next;
        std::thread::sleep(pause);
    }
}
