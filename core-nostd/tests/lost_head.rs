//! Stories of a head whose own beginning is damaged: what proves that it was there, and how far its offsets may have been given.

mod fixture;

use fixture::*;
use sedge_core::log::Slot;
use sedge_core::media::Media;
use sedge_core::segment::{Dimensions, STAMP_LEN};

/// Changes one byte, as age does.
fn rot(disk: &mut Disk, segment: u32, position: u32) {
    let mut byte = [0];
    disk.ram.read(segment, position, &mut byte).unwrap();
    disk.ram
        .program(segment, position, &[byte[0] ^ 0x20])
        .unwrap();
}

/// A log that has just gone on in another segment, and where that one's open header stands.
fn rolled(dimensions: Dimensions) -> (TestLog, u32) {
    let mut log = new_log(dimensions);
    roll(&mut log);
    (log, STAMP_LEN as u32 + 4)
}

fn roll(log: &mut TestLog) {
    let before = log.head().0;
    while log.head().0 == before {
        fill(log, 1);
    }
}

/// Beyond the last frame that is proven, one commit may have been torn; on flash, what was touched behind it tells how large that was.
#[test]
fn offsets_of_a_lost_head_reach_as_far_as_a_torn_commit_may_have() {
    for dimensions in [FLASH, FILE] {
        for torn_bytes in [0, 120] {
            let (mut log, header) = rolled(dimensions);
            fill(&mut log, 2);
            let (next, (segment, position)) = (log.next(), log.head());
            let mut disk = log.into_media();
            disk.ram
                .program(segment, position, &vec![0x55; torn_bytes])
                .unwrap();
            rot(&mut disk, segment, header);
            let (log, recovered) = open(dimensions, disk);
            let lost = recovered.lost_head.expect("its frames prove it");
            let beyond = match (dimensions == FLASH, torn_bytes) {
                (true, 120) => 120,
                _ => 16,
            };
            assert_eq!(lost.to.since(next), beyond, "{dimensions:?} {torn_bytes}");
            assert_eq!(log.next(), lost.to);
        }
    }
}

/// More than one commit can have been torn there. Each grid point may have begun one, and each byte may have been an offset.
#[test]
fn offsets_behind_a_lost_head_count_all_that_was_touched_on_flash() {
    let (mut log, header) = rolled(FLASH);
    fill(&mut log, 2);
    let (next, (segment, position)) = (log.next(), log.head());
    let stride = log.geometry().grid_stride().get();
    let mut disk = log.into_media();
    let torn = vec![0x55; 600];
    disk.ram.program(segment, position, &torn).unwrap();
    rot(&mut disk, segment, header);
    let (log, recovered) = open(FLASH, disk);
    let lost = recovered.lost_head.expect("its frames prove it");
    let points = u64::from(600 / stride) + 2;
    let (beyond, least) = (lost.to.since(next), 600 + 16 * points);
    assert!(
        (least..least + 64).contains(&beyond),
        "{beyond}, not {least}"
    );
    assert_eq!(log.next(), lost.to);
}

/// On files the header and the first commit are written together, so alone they prove nothing: both may have been torn. A later commit does, even if the
/// first one cannot be read any more.
#[test]
fn a_lost_head_is_proven_by_a_commit_that_is_not_its_first() {
    for commits in 1..4 {
        for is_first_rotten in [false, true] {
            let (mut log, header) = rolled(FILE);
            let segment = log.head().0;
            let (base, first_end) = (log.head_base(), log.head().1);
            fill(&mut log, commits - 1);
            let next = log.next();
            let mut disk = log.into_media();
            rot(&mut disk, segment, header);
            if is_first_rotten {
                rot(&mut disk, segment, first_end - 20);
            }
            let (log, recovered) = open(FILE, disk);
            let lost = recovered.lost_head.map(|lost| (lost.from, lost.lost));
            let is_proven = commits > 1;
            let expected = is_proven.then(|| (base, next.since(base)));
            assert_eq!(lost, expected, "{commits} {is_first_rotten}");
            assert!(log.next() >= if is_proven { next } else { base });
        }
    }
}

/// The beginning of a file has become what files read as that were never written to, as far as a start looks into one. But the segment behind it was made
/// ready, and that comes later: so it was written to, and its frames are looked for in all of it.
#[test]
fn a_lost_head_that_looks_unused_is_proven_by_the_segment_behind_it() {
    let far = options(FILE).geometry.scratch_bytes() + STAMP_LEN + 100;
    for rolls in 1..9 {
        for (blank, from) in [(0, 0), (0, STAMP_LEN), (0xFF, 0), (0xFF, STAMP_LEN)] {
            let mut log = new_log(FILE);
            (0..rolls).for_each(|_| roll(&mut log));
            while log.head().1 < far as u32 + 200 {
                fill(&mut log, 1);
            }
            log.maintain(NOW).unwrap();
            let (segment, base, next) = (log.head().0, log.head_base(), log.next());
            let mut disk = log.into_media();
            let zeroed = vec![blank; far - from];
            disk.ram.program(segment, from as u32, &zeroed).unwrap();
            let (log, recovered) = open(FILE, disk);
            let lost = recovered.lost_head.expect("its frames prove it");
            let told = (lost.segment, lost.from, lost.lost);
            let here = format!("{rolls} segments, {blank} from {from}");
            assert_eq!(told, (segment, base, next.since(base)), "{here}");
            assert!(log.next() >= next, "{here}");
        }
    }
}

/// On the first lap the segment behind the head was never used, nor was any behind that one: a start reads the head to its end, and not them.
#[test]
fn a_start_on_the_first_lap_reads_no_further_into_segments_that_were_never_used() {
    for blank in [0, 0xFF] {
        let dimensions = Dimensions {
            segment_bytes: 64 << 10,
            ..FILE
        };
        let bytes = vec![blank; 4 * (64 << 10)];
        let (mut log, _) = open(dimensions, Disk::holding(&dimensions, bytes));
        for is_ready in [false, true] {
            if is_ready {
                log.maintain(NOW).unwrap();
            }
            let mut disk = log.into_media();
            disk.reads = 0;
            (log, _) = open(dimensions, disk);
            let reads = log.media().reads;
            let head = u64::from(dimensions.segment_bytes) / 768 + 1;
            assert!(
                reads <= head + 16,
                "{reads} reads of segments that hold {blank}"
            );
        }
    }
}

/// A write that went astray has put the head's header, and some of its frames, into the segment before: two segments say that they are the newest. The one
/// with more frames is.
#[test]
fn a_head_with_a_copy_in_another_segment_is_the_longer_one() {
    for dimensions in [FLASH, FILE] {
        for (rolls, copied) in [(5, 150), (5, 600), (6, 150), (6, 600), (7, 150), (7, 600)] {
            let mut log = new_log(dimensions);
            (0..rolls).for_each(|_| roll(&mut log));
            fill(&mut log, 8);
            let (next, (head, _)) = (log.next(), log.head());
            for astray in (0..4).filter(|&segment| segment != head) {
                let mut disk = log.media().clone();
                let mut bytes = vec![0; STAMP_LEN + copied];
                disk.ram.read(head, 0, &mut bytes).unwrap();
                disk.ram.program(astray, 0, &bytes).unwrap();
                let (log, _) = open(dimensions, disk);
                assert_eq!(log.head().0, head, "copied to {astray}");
                assert!(log.next() >= next);
            }
        }
    }
}

/// The other way round: the head has got the header of an older segment, with or without the stamp and some frames. Its own frames are behind the end of all
/// that the others hold.
#[test]
fn a_head_with_the_header_of_another_segment_is_a_lost_one() {
    for (rolls, copied) in [(4, 150), (4, 600), (5, 150), (5, 600), (6, 150), (6, 600)] {
        let mut log = new_log(FILE);
        (0..rolls).for_each(|_| roll(&mut log));
        // More than an open burns anyway.
        fill(&mut log, 20);
        for is_spare_ready in [false, true] {
            if is_spare_ready {
                log.maintain(NOW).unwrap();
            }
            let (next, (head, _)) = (log.next(), log.head());
            for (steps, from) in [1, 2, 3].into_iter().flat_map(|n| [(n, 0), (n, STAMP_LEN)]) {
                let other = (head + steps) % 4;
                let mut disk = log.media().clone();
                let is_held = matches!(log.slot(other), Some(Slot::Open(_)));
                let mut bytes = vec![0; STAMP_LEN + copied - from];
                disk.ram.read(other, from as u32, &mut bytes).unwrap();
                disk.ram.program(head, from as u32, &bytes).unwrap();
                let (log, _) = open(FILE, disk);
                let here = format!("{rolls} {is_spare_ready} {copied} from {other}:{from}");
                assert!(log.next() >= next || !is_held, "{here}");
            }
        }
    }
}
