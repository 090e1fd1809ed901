//! Stories of readers: what they are shown, beside a writer that goes on.

mod fixture;

use fixture::*;
use sedge_core::custody::{Below, Run, Stretch, Want};
use sedge_core::entry::Entry;
use sedge_core::frame::Form;
use sedge_core::log::{Fresh, Log};
use sedge_core::media::Media;
use sedge_core::read::{Read, Reader};
use sedge_core::{Cause, Micros, Offset};

/// What a reader was shown, in short.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Records(u64, u64),
    Gap(u64, u64, Cause),
    Evicted(u64, u64),
}

/// Reads until nothing more is durable.
fn read_all(log: &mut TestLog, reader: &mut Reader) -> Vec<Shown> {
    let mut shown: Vec<Shown> = Vec::new();
    loop {
        match log.read(reader) {
            Read::Frame { frame, .. } => {
                let (first, end) = (frame.header.first.get(), frame.end().get());
                match (frame.gap(), shown.last_mut()) {
                    (Some(gap), _) => shown.push(Shown::Gap(first, end, gap.cause)),
                    (None, Some(Shown::Records(_, to))) if *to == first => *to = end,
                    (None, _) => shown.push(Shown::Records(first, end)),
                }
            }
            Read::Gap(gap) => shown.push(Shown::Gap(gap.from.get(), gap.to.get(), gap.cause)),
            Read::Evicted { from, to } => shown.push(Shown::Evicted(from.get(), to.get())),
            Read::CaughtUp => return shown,
            Read::Overtaken => panic!("nobody else writes"),
        }
    }
}

fn reader_of(log: &TestLog, from: u64) -> Reader {
    Reader::new(log.log_id(), *log.geometry(), Offset::new(from))
}

#[test]
fn reader_follows_a_writer_over_many_segments() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        let mut reader = reader_of(&log, 0);
        let mut shown = Vec::new();
        for _ in 0..40 {
            fill(&mut log, 7);
            shown.extend(read_all(&mut log, &mut reader));
        }
        assert!(log.oldest() > Offset::ZERO, "the ring has wrapped");
        let ends: Vec<_> = (0..40)
            .map(|turn| Shown::Records(7 * turn, 7 * turn + 7))
            .collect();
        assert_eq!(
            shown
                .iter()
                .map(|shown| match shown {
                    Shown::Records(_, to) => *to,
                    _ => 0,
                })
                .max(),
            Some(280)
        );
        assert_eq!(merged(shown), merged(ends));
    }
}

fn merged(shown: Vec<Shown>) -> Vec<(u64, u64)> {
    let mut all: Vec<(u64, u64)> = Vec::new();
    for shown in shown {
        let Shown::Records(from, to) = shown else {
            panic!("only records are shown: {shown:?}")
        };
        match all.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => all.push((from, to)),
        }
    }
    all
}

#[test]
fn slow_reader_is_told_where_the_log_begins_now() {
    let mut log = new_log(FLASH);
    let mut reader = reader_of(&log, 0);
    fill(&mut log, 200);
    let oldest = log.oldest().get();
    assert!(oldest > 0);
    assert_eq!(
        read_all(&mut log, &mut reader),
        [Shown::Evicted(0, oldest), Shown::Records(oldest, 200)]
    );
}

#[test]
fn damaged_frame_is_a_gap_in_its_place() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        commit(&mut log, b"before");
        let damaged = commit(&mut log, b"#amaged");
        commit(&mut log, b"behind");
        let (segment, end) = log.head();
        let position = (damaged.position..end)
            .rev()
            .find(|&position| byte(&mut log, segment, position) == b'#')
            .unwrap();
        log.media_mut()
            .ram
            .program(segment, position, b"D")
            .unwrap();
        let mut reader = reader_of(&log, 0);
        let gap = Shown::Gap(1, 2, Cause::Corrupt);
        assert_eq!(
            read_all(&mut log, &mut reader),
            [Shown::Records(0, 1), gap, Shown::Records(2, 3)]
        );
    }
}

fn byte(log: &mut TestLog, segment: u32, position: u32) -> u8 {
    let mut byte = [0];
    log.media_mut().read(segment, position, &mut byte).unwrap();
    byte[0]
}

#[test]
fn burned_offsets_are_shown_and_nothing_is_lost() {
    let mut log = new_log(FILE);
    fill(&mut log, 3);
    let (mut log, _) = open(FILE, log.into_media());
    fill(&mut log, 2);
    let mut reader = reader_of(&log, 0);
    assert_eq!(
        read_all(&mut log, &mut reader),
        [
            Shown::Records(0, 3),
            Shown::Gap(3, 19, Cause::Burned),
            Shown::Records(19, 21)
        ]
    );
}

#[test]
fn reader_may_begin_inside_a_frame() {
    let mut log = new_log(FLASH);
    try_commit(&mut log, &[b"zero", b"one", b"two"]).unwrap();
    try_commit(&mut log, &[b"three"]).unwrap();
    let mut reader = reader_of(&log, 1);
    let Read::Frame { frame, .. } = log.read(&mut reader) else {
        panic!("there is a frame")
    };
    let wanted = frame
        .entries()
        .filter(|(offset, _)| offset.get() >= 1)
        .map(|(_, entry)| match entry {
            Entry::Record(record) => record.value.to_vec(),
            Entry::Notice(_) => panic!("only records were written"),
        });
    let wanted: Vec<_> = wanted.collect();
    assert_eq!(wanted, [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(reader.next(), Offset::new(3));
}

#[test]
fn point_in_time_leads_to_the_first_record_from_then_on() {
    let mut log = new_log(FILE);
    fill(&mut log, 120);
    let view = log.view();
    let reader = reader_of(&log, 0);
    let at = |log: &mut TestLog, time: Micros| log.offset_for_time(&reader, time);
    assert_eq!(at(&mut log, Micros::UNKNOWN), view.oldest);
    assert_eq!(at(&mut log, NOW), view.oldest);
    assert_eq!(at(&mut log, Micros::new(NOW.get() + 1)), view.durable);
}

/// An hour passes between two commits. Any time in it leads to the later one, and so does the time of that one.
#[test]
fn point_in_time_leads_to_the_record_of_that_very_time() {
    let at = |hours: u64| Micros::new(NOW.get() + hours as i64 * 3_600_000_000);
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        for hours in 0..200 {
            if log.needs_maintain() {
                log.maintain(at(hours)).unwrap();
            }
            let frame = match form_of(&log) {
                Form::Compact => timed_frame(&log, if hours == 0 { 0 } else { 3_600_000 }),
                Form::Explicit => frame_at(&log, at(hours)),
            };
            log.commit(&frame, 1, &[], at(hours)).unwrap();
        }
        let (reader, oldest) = (reader_of(&log, 0), log.oldest().get());
        assert!(oldest > 0, "the ring has wrapped");
        for hours in oldest..200 {
            let just_before = Micros::new(at(hours).get() - 1);
            for time in [at(hours), just_before] {
                let told = log.offset_for_time(&reader, time).get();
                assert_eq!(told, hours, "at {time:?} in {dimensions:?}");
            }
        }
    }
}

/// It reads what there is, and no more: nobody tells it that this was all. What it read ahead was blank then.
#[test]
fn record_written_where_a_reader_looked_ahead_is_no_damage() {
    for dimensions in [FLASH, FILE] {
        let mut log = new_log(dimensions);
        let mut reader = Reader::new(log.log_id(), *log.geometry(), log.next());
        let mut scratch = vec![0; log.geometry().scratch_bytes()];
        for _ in 0..100 {
            let next = commit(&mut log, b"as it comes").first;
            let view = log.view();
            let mut media = log.media_mut();
            let read = reader.read(&mut media, &mut scratch, view);
            let is_next = matches!(read, Read::Frame { frame, .. } if frame.header.first == next);
            assert!(is_next, "{read:?} in place of {next}");
        }
    }
}

/// Nobody knows the time until the second segment is opened: what is handed over together counts from one time, so the run ends there.
#[test]
fn frames_that_count_from_another_time_are_handed_over_apart() {
    let fresh = Fresh {
        now: Micros::UNKNOWN,
        ..FRESH
    };
    let scratch = vec![0; options(FLASH).geometry.scratch_bytes()];
    let disk = Disk::blank(&FLASH);
    let (mut log, _) = Log::open(disk, options(FLASH), fresh, scratch).unwrap();
    log.maintain(Micros::UNKNOWN).unwrap();
    let first = log.head().0;
    while log.head().0 == first {
        let frame = timed_frame(&log, 20);
        log.commit(&frame, 1, &[], NOW).unwrap();
    }
    let frame = timed_frame(&log, 20);
    log.commit(&frame, 1, &[], NOW).unwrap();
    let told_at = log.next().get() - 2;

    let before = stretch_from(&mut log, 0);
    assert_eq!(
        (before.next.get(), before.base_time),
        (told_at, Micros::UNKNOWN)
    );
    let behind = stretch_from(&mut log, told_at);
    assert_eq!((behind.next.get(), behind.base_time), (told_at + 2, NOW));
    assert_eq!(behind.next_base_time, Micros::new(NOW.get() + 40_000));
}

/// Where a receiver stands: behind a frame, inside of one, or where nothing tells one past from another.
#[test]
fn what_ends_at_an_offset_is_told_by_its_crc() {
    for dimensions in [FLASH, FILE] {
        let mut log = new_log(dimensions);
        let mut reader = reader_of(&log, 0);
        fill(&mut log, 4);
        let (segment, position) = log.head();
        fill(&mut log, 1);
        try_commit(&mut log, &[b"one", b"two", b"three"]).unwrap();
        let mut crcs = Vec::new();
        while let Read::Frame { frame, .. } = log.read(&mut reader) {
            crcs.push(frame.header.crc);
        }
        let mut below = |log: &mut TestLog| {
            let at = |next| log.below(&mut reader, Offset::new(next));
            (0..=9).map(at).collect::<Vec<_>>()
        };
        assert_eq!(crcs.len(), 6);
        let frame = |number: usize| Below::Frame(crcs[number]);
        let (inside, unknown) = (Below::Inside, Below::Unknown);
        let mut there: Vec<_> = (0..5).map(frame).collect();
        there.insert(0, unknown);
        there.extend([inside, inside, frame(5), unknown]);
        assert_eq!(below(&mut log), there);
        let ram = &mut log.media_mut().ram;
        let mut byte = [0];
        ram.read(segment, position + 30, &mut byte).unwrap();
        ram.program(segment, position + 30, &[0]).unwrap();
        there[5] = unknown;
        assert_eq!(below(&mut log), there, "{byte:?} is rotten");
        while log.oldest() < Offset::new(3) {
            fill(&mut log, 1);
        }
        assert_eq!(log.below(&mut reader, Offset::new(3)), unknown);
    }
}

/// What cannot be read goes to the receiver as a gap in its place, between what stands before it and behind it; and frames are taken as far as there is room.
#[test]
fn what_is_handed_over_has_a_gap_where_a_record_is_rotten() {
    let mut log = new_log(FILE);
    fill(&mut log, 4);
    let (segment, position) = log.head();
    fill(&mut log, 5);
    let ram = &mut log.media_mut().ram;
    let mut byte = [0];
    ram.read(segment, position + 30, &mut byte).unwrap();
    ram.program(segment, position + 30, &[!byte[0]]).unwrap();
    let mut reader = reader_of(&log, 0);
    let mut told = |from, bytes_max| {
        let want = Want {
            slot: 0,
            from: Offset::new(from),
            bytes_max,
        };
        let handed = log.stretch(&mut reader, 0, &want, &mut [0; 1000]);
        handed.map(|stretch| match stretch {
            Stretch::Frames(run) => (run.first.get(), run.next.get(), run.len as u64),
            Stretch::Gap(gap) => (gap.from.get(), gap.to.get(), gap.lost),
        })
    };
    let (_, _, all) = told(0, 1000).expect("frames");
    let each = all / 4;
    assert_eq!(told(0, 1000), Some((0, 4, all)));
    assert_eq!(told(4, 1000), Some((4, 5, 1)), "the gap");
    assert_eq!(told(5, 1000), Some((5, 9, all)));
    assert_eq!(told(9, 1000), None);
    let twice = 2 * each as usize;
    assert_eq!(told(0, twice), Some((0, 2, 2 * each)));
    assert_eq!(told(0, twice - 1), Some((0, 1, each)));
    assert_eq!(told(5, 1), Some((5, 6, each)), "always one whole frame");
}

fn stretch_from(log: &mut TestLog, from: u64) -> Run {
    let want = Want {
        slot: 0,
        from: Offset::new(from),
        bytes_max: 1 << 16,
    };
    let mut reader = reader_of(log, from);
    match log.stretch(&mut reader, 0, &want, &mut vec![0; 1 << 16]) {
        Some(Stretch::Frames(run)) => run,
        other => panic!("frames are held, not {other:?}"),
    }
}
