//! Stories about segments whose beginning is damaged: their frames prove what it said, and nothing is lost with it.

mod fixture;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use fixture::{
    Given, Shown, copy_dir, file_of, fill, held_segments, payloads, read_all, read_with,
};
use sedge_core::Offset;
use sedge_core::frame::{self, Form};
use sedge_store::{
    Batch, Mirror, MirrorOptions, Opened, Owner, Partition, SegmentReport, Ticket, inspect,
    system_clock,
};

/// Remembers the last item and how many there were, as cursors of devices do.
#[derive(Clone, Default)]
struct Count(Arc<Mutex<(u64, u64)>>);

impl Owner for Count {
    fn restore(&mut self, checkpoint: &[u8]) {
        let number = |at: usize| {
            let bytes = checkpoint.get(at..at + 8);
            bytes.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
        };
        *self.0.lock().unwrap() = (number(0), number(8));
    }

    fn apply(&mut self, item: &[u8], _: &[u8], _: Offset, _: Ticket) {
        let mut count = self.0.lock().unwrap();
        *count = (u64::from_le_bytes(item.try_into().unwrap()), count.1 + 1);
    }

    fn note(&mut self, _: &[u8]) {}

    fn checkpoint(&mut self, into: &mut Vec<u8>, _: usize) {
        let (last, count) = *self.0.lock().unwrap();
        into.extend(last.to_le_bytes());
        into.extend(count.to_le_bytes());
    }
}

/// `records` of a kilobyte, each with its number as annotation, in commits of eight; killed at the end.
fn write(given: &Given, records: u64) -> Count {
    let count = Count::default();
    let partition = given.open_with(Box::new(count.clone()));
    let mut producer = partition.producer();
    let numbers: Vec<u64> = (0..records).collect();
    for commit in numbers.chunks(8) {
        let mut batch = Batch::new();
        for number in commit {
            let value = format!("{number:01000}");
            batch.push(
                |unit| unit.record(None, None, &[], value.as_bytes()),
                &number.to_le_bytes(),
            );
        }
        let ticket = producer.stage(&batch).unwrap();
        fixture::wait_until(&partition, |settled, _| settled >= ticket);
    }
    fixture::settle(&partition, &mut producer);
    count
}

fn open(dir: &Path, given: &Given) -> (Partition, Opened, Count) {
    let count = Count::default();
    let owner = Box::new(count.clone());
    let (partition, opened) =
        Partition::open(dir, given.options.clone(), owner, fixture::ticking()).unwrap();
    (partition, opened, count)
}

/// The log in `given`, copied and with `damage` done to the file of `segment`; what it then shows, and what its owner knows.
fn damaged(
    given: &Given,
    segment: &SegmentReport,
    damage: impl FnOnce(&mut [u8]),
) -> (Vec<Shown>, Opened, (u64, u64), Offset) {
    let copy = tempfile::tempdir().unwrap();
    let log = given.dir.path().join("log");
    // What is lost at the very beginning has no place in the log any more: it is told to who asks for it.
    let oldest = Offset::new(inspect(&log).unwrap().log.unwrap().oldest);
    copy_dir(&log, copy.path());
    let file = file_of(copy.path(), segment);
    let mut bytes = fs::read(&file).unwrap();
    damage(&mut bytes);
    fs::write(&file, bytes).unwrap();
    let (partition, opened, count) = open(copy.path(), given);
    let known = *count.0.lock().unwrap();
    fixture::put_annotated(&partition, b"behind all", &u64::MAX.to_le_bytes());
    let shown = read_all(&partition, oldest);
    drop(partition);
    // It holds through another life, and the sum is right.
    let (again, _, knows) = open(copy.path(), given);
    let and_one = (u64::MAX, known.1 + 1);
    assert_eq!(*knows.0.lock().unwrap(), and_one, "{segment:?} {opened:?}");
    let shown_again = read_all(&again, oldest);
    assert_eq!(payloads(&shown), payloads(&shown_again));
    let report = inspect(copy.path()).unwrap().log.unwrap();
    assert!(report.balances, "{report:?}");
    let last = shown.iter().rev().find_map(|shown| match shown {
        Shown::Value(offset, _) => Some(*offset),
        Shown::Gap(_) => None,
    });
    (shown, opened, known, last.unwrap())
}

/// Where the frames of a segment begin.
fn data_start(given: &Given, segment: &SegmentReport) -> usize {
    let bytes = fs::read(file_of(&given.dir.path().join("log"), segment)).unwrap();
    (100..bytes.len())
        .find(|&at| {
            frame::Header::parse(&bytes[at..], None).is_ok_and(|h| h.form == Form::Explicit)
        })
        .unwrap()
}

#[test]
fn a_rotten_byte_in_the_beginning_of_any_segment_costs_nothing() {
    let given = Given::default();
    let written = write(&given, 2000);
    let (known, next) = (
        *written.0.lock().unwrap(),
        inspect(&given.dir.path().join("log"))
            .unwrap()
            .log
            .unwrap()
            .next,
    );
    let (partition, _, _) = open(&given.dir.path().join("log"), &given);
    let all: Vec<String> = payloads(&read_all(&partition, partition.oldest()))
        .into_iter()
        .map(str::to_owned)
        .collect();
    drop(partition);
    for segment in held_segments(&given.dir.path().join("log")) {
        for at in 0..data_start(&given, &segment) {
            let (shown, opened, owner, last) = damaged(&given, &segment, |bytes| bytes[at] ^= 0x10);
            let here = format!("byte {at} of {segment:?}: {opened:?}");
            let (shown, gaps) = (payloads(&shown), fixture::gaps(&shown));
            assert_eq!(shown[..shown.len() - 1], all[..], "{here}");
            assert_eq!(owner, known, "{here}");
            assert!(last.get() >= next, "{here}");
            assert!(gaps.iter().all(|gap| gap.lost == 0), "{here}: {gaps:?}");
            assert!(opened.set_aside.is_empty(), "{here}");
        }
    }
}

/// The sector with the stamp, the header and the first frames is gone, or so many that the file looks as if it had never been used: what stood in them is a
/// gap, the rest is there.
#[test]
fn lost_first_sectors_cost_the_frames_in_them() {
    let given = Given::default();
    write(&given, 2000);
    let log = given.dir.path().join("log");
    let before = inspect(&log).unwrap().log.unwrap();
    for segment in held_segments(&log) {
        for bytes_lost in [4096, 80 << 10] {
            let (shown, opened, _, last) =
                damaged(&given, &segment, |bytes| bytes[..bytes_lost].fill(0));
            let gaps = fixture::gaps(&shown);
            let lost: u64 = gaps.iter().map(|gap| gap.lost).sum();
            assert!(lost > 0, "{segment:?} {gaps:?} {opened:?}");
            assert_eq!(
                payloads(&shown).len() as u64 - 1 + lost,
                before.held,
                "{bytes_lost} of {segment:?} {opened:?}"
            );
            assert!(last.get() >= before.next);
            assert_eq!(opened.mended, [segment.segment]);
        }
    }
}

/// The header and the first commit of a head become durable together, so one commit alone proves neither. A later one does.
#[test]
fn one_later_commit_proves_the_head_it_stands_in() {
    let given = Given::default();
    let log = given.dir.path().join("log");
    let partition = given.open();
    let head = || {
        let segments = inspect(&log).unwrap().segments.into_iter();
        let held = segments.filter(|segment| segment.state == "held");
        held.max_by_key(|segment| segment.seq).unwrap()
    };
    // Larger than what will be lost, so that the frame behind it is not.
    let value = "6".repeat(6000);
    while head().seq < Some(3) || head().frames != 2 {
        fixture::put(&partition, &[&value]);
    }
    drop(partition);
    let before = inspect(&log).unwrap().log.unwrap();
    let (shown, opened, _, _) = damaged(&given, &head(), |bytes| bytes[..4096].fill(0));
    let lost: u64 = fixture::gaps(&shown).iter().map(|gap| gap.lost).sum();
    assert_eq!(lost, 1, "{opened:?}");
    assert_eq!(payloads(&shown).len() as u64 - 1 + lost, before.held);
    assert_eq!(opened.mended, [head().segment]);
}

/// The log has one segment so far: no other one knows its id.
#[test]
fn a_young_log_is_found_again_without_its_header() {
    let given = Given::default();
    write(&given, 100);
    let log = given.dir.path().join("log");
    let report = inspect(&log).unwrap();
    let id = report.log.unwrap().log_id;
    let segment = report.segments.iter().find(|s| s.state == "held").unwrap();
    let (shown, opened, owner, _) = damaged(&given, segment, |bytes| bytes[40] ^= 1);
    assert_eq!(payloads(&shown).len(), 101, "{opened:?}");
    assert_eq!(owner, (99, 100));
    // Where the id itself is damaged nothing can be proven: the file is set aside, and a new log begins.
    let file = file_of(&log, segment);
    let mut bytes = fs::read(&file).unwrap();
    bytes[32 + 16] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (partition, opened, _) = open(&log, &given);
    assert_ne!(partition.log_id().to_string(), id);
    assert_eq!(
        (partition.next(), opened.set_aside.len()),
        (Offset::ZERO, 1)
    );
}

/// Once the ring has gone round there is a segment behind each that was made ready before.
#[test]
fn a_head_that_looks_unused_is_mended_wherever_it_stands() {
    let given = Given::default();
    let log = given.dir.path().join("log");
    let partition = given.open();
    let head = || {
        let segments = inspect(&log).unwrap().segments.into_iter();
        segments.max_by_key(|segment| segment.seq).unwrap()
    };
    let value = "6".repeat(6000);
    for segment in 0..4 {
        while head().seq < Some(5) || head().segment != segment || head().frames < 20 {
            fixture::put(&partition, &[&value]);
        }
        let (_, opened, _, _) = damaged(&given, &head(), |bytes| bytes[..80 << 10].fill(0));
        assert_eq!(opened.mended, [segment]);
    }
}

/// Every header has become zeros, with so much behind it that the files look as if they had only been made ready: no log is made over one behind which
/// another one was made ready.
#[test]
fn no_log_is_made_over_what_looks_unused_and_was_not() {
    let given = Given::default();
    write(&given, 300);
    let log = given.dir.path().join("log");
    let segments = inspect(&log).unwrap().segments.into_iter();
    let held: Vec<_> = segments.filter(|s| s.state == "held").collect();
    assert_eq!(held.len(), 2);
    for segment in &held {
        let file = file_of(&log, segment);
        let mut bytes = fs::read(&file).unwrap();
        bytes[32..80 << 10].fill(0);
        fs::write(&file, bytes).unwrap();
    }
    let first = fs::read(file_of(&log, &held[0])).unwrap();
    let (partition, opened, _) = open(&log, &given);
    let kept = opened.set_aside.iter().map(|(file, _)| fs::read(file));
    assert!(kept.flatten().any(|bytes| bytes == first), "{opened:?}");
    assert_eq!(partition.next(), Offset::ZERO);
}

#[test]
fn a_mirror_keeps_what_stands_behind_a_rotten_header() {
    let dir = tempfile::tempdir().unwrap();
    let options = MirrorOptions {
        capacity_bytes: 1 << 20,
        frame_bytes_max: (64 << 10) - 512,
        ..MirrorOptions::default()
    };
    let given = Given::default();
    write(&given, 600);
    let origin = given.open();
    let log_id = origin.log_id();
    let (mirror, _) = Mirror::open(dir.path(), log_id, options.clone(), system_clock()).unwrap();
    while mirror.next() < origin.next() {
        let chunk = origin.read(mirror.next(), 1).unwrap();
        mirror.append(&chunk.frames).unwrap();
    }
    drop(mirror);
    let head = held_segments(dir.path()).pop().unwrap();
    let file = file_of(dir.path(), &head);
    let mut bytes = fs::read(&file).unwrap();
    bytes[33] ^= 1;
    fs::write(&file, bytes).unwrap();
    let (mirror, opened) = Mirror::open(dir.path(), log_id, options, system_clock()).unwrap();
    assert_eq!(mirror.next(), Offset::new(600), "{opened:?}");
    let shown = read_with(&log_id, mirror.oldest(), |at| {
        let chunk = mirror.read(at, 64 << 10).unwrap();
        (chunk.gap, chunk.frames, chunk.next)
    });
    assert_eq!(payloads(&shown).len() as u64, 600 - mirror.oldest().get());
}

#[test]
fn a_damaged_spare_is_no_part_of_the_log() {
    let given = Given::default();
    let held = fill(&given);
    let log = given.dir.path().join("log");
    let report = inspect(&log).unwrap();
    let idle = report.segments.iter().filter(|s| s.state != "held");
    for segment in idle {
        for at in [0, 10, 33, 50, 70] {
            let copy = tempfile::tempdir().unwrap();
            copy_dir(&log, copy.path());
            let file = file_of(copy.path(), segment);
            let mut bytes = fs::read(&file).unwrap();
            bytes[at] ^= 1;
            fs::write(&file, bytes).unwrap();
            let (partition, opened, _) = open(copy.path(), &given);
            let shown = read_all(&partition, partition.oldest());
            assert_eq!(payloads(&shown).len() as u64, held, "{at} {segment:?}");
            assert!(opened.mended.is_empty(), "{at} {segment:?}");
        }
    }
}
