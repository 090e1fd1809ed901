//! Stories of large rings: what stands where is found with few reads, wherever the head is, and whatever is out of order.

mod fixture;

use fixture::*;
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
    for worn in [1, 2, 5] {
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
