//! Stories of large rings: what stands where is found with few reads, wherever the head is, and whatever is out of order.

mod fixture;

use fixture::*;
use sedge_core::Offset;

use sedge_core::read::{Read, Reader};
use sedge_core::segment::Dimensions;

const RING: Dimensions = Dimensions {
    segment_count: 64,
    ..FLASH
};

/// Appends until `segments` more segments were opened.
fn roll(log: &mut TestLog, segments: u32) {
    for _ in 0..segments {
        let head = log.head().0;
        while log.head().0 == head {
            commit(log, &[7; 200]);
        }
    }
}

/// Opens it again; how many reads that took.
fn reopen(log: TestLog, dimensions: Dimensions) -> (TestLog, u64) {
    let mut disk = log.into_media();
    disk.reads = 0;
    let (log, _) = open(dimensions, disk);
    let reads = log.media().reads;
    (log, reads)
}

#[test]
fn ring_is_opened_with_few_reads_wherever_its_head_is() {
    for segment_count in [64, 256] {
        let dimensions = Dimensions {
            segment_count,
            ..RING
        };
        let mut log = new_log(dimensions);
        for _ in 0..2 * segment_count {
            roll(&mut log, 1);
            let (head, next) = (log.head(), log.next());
            let (mut again, reads) = reopen(log, dimensions);
            assert_eq!((again.head(), again.next()), (head, next));
            assert!(reads <= 75, "{reads} reads with the head in {}", head.0);
            again.maintain(NOW).unwrap();
            let (again, reads) = reopen(again, dimensions);
            assert!(!again.needs_maintain(), "the spare is found");
            assert!(reads <= 75, "{reads} reads with the head in {}", head.0);
            log = again;
        }
    }
}

/// A block that can no longer be erased keeps the header of an earlier lap. It looks like the oldest segment, and what is behind it is the newest.
#[test]
fn segments_behind_worn_out_blocks_are_found() {
    for worn in [1, 2, 5, 7] {
        for head in [3, 20, 62] {
            let mut log = new_log(RING);
            roll(&mut log, RING.segment_count + head);
            fill_head(&mut log);
            log.media_mut().fail_erases = worn;
            for _ in 0..worn {
                log.maintain(NOW).unwrap_err();
            }
            log.maintain(NOW).unwrap();
            roll(&mut log, 1);
            let (head, next) = (log.head(), log.next());
            let (mut log, _) = reopen(log, RING);
            assert_eq!((log.head(), log.next()), (head, next), "{worn} worn out");
            assert_balance(&mut log);
        }
    }
}

/// Uses up the spare, so that the next maintain has something to do.
fn fill_head(log: &mut TestLog) {
    while !log.needs_maintain() {
        try_commit(log, &[&[7; 200]]).unwrap();
    }
}

#[test]
fn any_offset_is_found_with_few_reads() {
    let mut log = new_log(RING);
    for _ in 0..80 {
        roll(&mut log, 1);
        let (oldest, next) = (log.oldest().get(), log.next().get());
        for from in (oldest..next).step_by(97).chain([next - 1]) {
            let mut reader = Reader::new(log.log_id(), *log.geometry(), Offset::new(from));
            log.media_mut().reads = 0;
            assert_eq!(first_of(&mut log, &mut reader), from);
            let reads = log.media().reads;
            assert!(reads <= 50, "{reads} reads to find {from}");
        }
    }
}

fn first_of(log: &mut TestLog, reader: &mut Reader) -> u64 {
    match log.read(reader) {
        Read::Frame { frame, .. } => frame.header.first.get(),
        other => panic!("no frame: {other:?}"),
    }
}

#[test]
fn reader_at_the_end_follows_into_a_new_segment_without_a_search() {
    let mut log = new_log(RING);
    roll(&mut log, 70);
    let mut reader = Reader::new(log.log_id(), *log.geometry(), log.next());
    let mut scratch = vec![0; log.geometry().scratch_bytes()];
    for round in 0..200 {
        let next = commit(&mut log, &[7; 200]).first;
        log.media_mut().reads = 0;
        let view = log.view();
        let mut media = log.media_mut();
        let read = reader.read(&mut media, &mut scratch, view);
        assert!(matches!(read, Read::Frame { frame, .. } if frame.header.first == next));
        let reads = log.media().reads;
        let is_first = round == 0;
        assert!(is_first || reads <= 10, "{reads} reads for {next}");
    }
}

#[test]
fn step_back_inside_a_segment_needs_no_search() {
    let mut log = new_log(RING);
    roll(&mut log, 70);
    let from = log.oldest().get() + 100;
    let mut reader = Reader::new(log.log_id(), *log.geometry(), Offset::new(from));
    first_of(&mut log, &mut reader);
    for offset in from..from + 200 {
        assert_eq!(first_of(&mut log, &mut reader), offset + 1);
        reader.seek(Offset::new(offset + 1));
        log.media_mut().reads = 0;
        assert_eq!(first_of(&mut log, &mut reader), offset + 1);
        let reads = log.media().reads;
        assert!(reads <= 14, "{reads} reads to read {offset} again");
    }
}
