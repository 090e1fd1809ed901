//! Stories of opening: torn or rotten, whose log it is, and what is said about it.

mod fixture;

use fixture::*;
use proptest::prelude::*;
use sedge_core::log::{CommitError, Log, OpenError, Options, Refusal, Slot, Tail};
use sedge_core::media::Media;
use sedge_core::read::{Read, Reader};
use sedge_core::segment::{Dimensions, Geometry, OpenHeader, STAMP_LEN};
use sedge_core::{Cause, Offset};

/// Ruins the last `count` bytes that were written to the head.
fn tear(log: &mut TestLog, count: u32) {
    let (segment, end) = log.head();
    log.media_mut()
        .ram
        .program(segment, end - count, &vec![0x13; count as usize])
        .unwrap();
}

#[test]
fn torn_commit_of_an_origin_burns_its_offsets_before_new_data() {
    for dimensions in [FLASH, FILE] {
        let mut log = new_log(dimensions);
        commit(&mut log, b"kept");
        commit(&mut log, b"torn");
        tear(&mut log, 4);
        let (mut log, recovered) = open(dimensions, log.into_media());
        assert_eq!((recovered.clean, recovered.burned), (false, 16));
        assert_eq!(
            (log.view().durable, log.next()),
            (Offset::new(1), Offset::new(17))
        );
        commit(&mut log, b"behind");
        assert_eq!(
            held(&mut log),
            [(0, b"kept".to_vec()), (17, b"behind".to_vec())]
        );
        assert_eq!(log.ledger().skipped, 16);
        assert_balance(&mut log);
    }
}

/// A clean stop, a start, and power fails in the first commit: what is left of it must not be taken for what comes at the same offset.
#[test]
fn offsets_of_a_commit_torn_right_behind_a_clean_stop_are_not_given_again() {
    let mut log = new_log(FILE);
    commit(&mut log, b"kept");
    log.close(NOW).unwrap();
    let (mut log, recovered) = open(FILE, log.into_media());
    assert!(recovered.clean);
    let tried = log.next();
    commit(&mut log, b"torn");
    tear(&mut log, 4);
    let (mut log, recovered) = open(FILE, log.into_media());
    assert!(!recovered.clean);
    assert!(log.next() > tried);
    commit(&mut log, b"behind");
    assert_eq!(values(&mut log), ["kept", "behind"]);
    assert_balance(&mut log);
}

#[test]
fn torn_commit_of_a_mirror_burns_nothing() {
    let mut log = new_log(MIRROR);
    commit(&mut log, b"kept");
    let again = frame_of(&log, &[b"torn"]);
    log.commit(&again, 1, b"", NOW).unwrap();
    tear(&mut log, 4);
    let (mut log, recovered) = open(MIRROR, log.into_media());
    assert_eq!((recovered.burned, log.next()), (0, Offset::new(1)));
    log.commit(&again, 1, b"", NOW).unwrap();
    assert_eq!(values(&mut log), ["kept", "torn"]);
}

#[test]
fn kills_without_input_write_nothing_new() {
    let mut log = new_log(FILE);
    fill(&mut log, 5);
    let (mut log, _) = open(FILE, log.into_media());
    let (head, next) = (log.head(), log.next());
    let bytes = log.media().ram.clone().into_inner();
    for _ in 0..1000 {
        log.maintain(NOW).unwrap();
        log = open(FILE, log.into_media()).0;
    }
    assert_eq!((log.head(), log.next()), (head, next));
    assert!(log.media().ram.clone().into_inner() == bytes);
}

#[test]
fn clean_stop_burns_nothing() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        for _ in 0..20 {
            commit(&mut log, b"one");
            let next = log.next();
            log.set_cursor(7, next).unwrap();
            log.close(NOW).unwrap();
            log = open(dimensions, log.into_media()).0;
            assert_eq!(
                log.ledger().cursor(7).unwrap().next,
                log.next(),
                "the cursor is kept too"
            );
        }
        assert_eq!(log.next(), Offset::new(20));
    }
}

#[test]
fn rot_before_a_later_commit_is_a_gap_and_not_the_end() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        commit(&mut log, b"one");
        commit(&mut log, b"two");
        tear(&mut log, 6);
        commit(&mut log, b"three");
        let (mut log, _) = open(dimensions, log.into_media());
        assert_eq!(log.view().durable, Offset::new(3));
        assert_eq!(values(&mut log), ["one", "three"]);
    }
}

#[test]
fn rot_in_the_largest_frame_there_can_be_is_a_gap_and_not_the_end() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        commit(&mut log, b"one");
        let (segment, largest) = log.head();
        let mut fits = |bytes: usize| try_commit(&mut log, &[&vec![b'.'; bytes]]).is_ok();
        let most = dimensions.frame_bytes_max as usize;
        assert!((1..most).rev().any(&mut fits));
        rot(&mut log, segment, largest + 100);
        commit(&mut log, b"three");
        let (mut log, _) = open(dimensions, log.into_media());
        assert_eq!(log.view().durable, Offset::new(3), "{dimensions:?}");
        assert_eq!(values(&mut log), ["one", "three"]);
    }
}

#[test]
fn later_frame_of_the_same_commit_proves_nothing() {
    let mut log = new_log(FILE);
    commit(&mut log, b"kept");
    let mut frames = frame_of(&log, &[b"first"]);
    frames.extend(second_frame(&log, b"second"));
    let committed = log.commit(&frames, 2, b"", NOW).unwrap();
    // The first frame of the commit is torn, the second is whole.
    let (segment, _) = log.head();
    log.media_mut()
        .ram
        .program(segment, committed.position, b"torn")
        .unwrap();
    let (mut log, _) = open(FILE, log.into_media());
    assert_eq!(log.view().durable, Offset::new(1));
    commit(&mut log, b"behind");
    let (mut log, _) = open(FILE, log.into_media());
    assert_eq!(values(&mut log), ["kept", "behind"]);
}

/// One rotten bit in what a frame says of its length or its number hides the small commits behind it: as many offsets are burned as there may have been,
/// and the gap does not say that nothing was lost.
#[test]
fn frames_behind_one_that_does_not_say_where_they_stand_are_a_corrupt_gap() {
    for (byte, bit) in (1..4).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
        let mut log = new_log(FLASH);
        commit(&mut log, b"kept");
        let (segment, rotten) = log.head();
        // Without padding, and together no more than a frame may take.
        for _ in 0..20 {
            commit(&mut log, b"go");
        }
        let mut cell = [0];
        let ram = &mut log.media_mut().ram;
        ram.read(segment, rotten + byte, &mut cell).unwrap();
        ram.program(segment, rotten + byte, &[cell[0] ^ (1 << bit)])
            .unwrap();
        let (mut log, recovered) = open(FLASH, log.into_media());
        assert!(recovered.burned >= 20, "bit {bit} of byte {byte}");
        commit(&mut log, b"behind");
        assert_eq!(values(&mut log), ["kept", "behind"]);
        let mut reader = Reader::new(LOG, Geometry::new(FLASH).unwrap(), Offset::new(1));
        let Read::Frame { frame, .. } = log.read(&mut reader) else {
            panic!("what was burned stands in the log");
        };
        let cause = frame.gap().map(|gap| gap.cause);
        assert_eq!(cause, Some(Cause::Corrupt), "bit {bit} of byte {byte}");
    }
}

#[test]
fn torn_resume_is_tried_again_further_on() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"kept");
    commit(&mut log, b"torn");
    tear(&mut log, 4);
    let (mut log, _) = open(FLASH, log.into_media());
    let (segment, first_try) = log.head();
    log.media_mut()
        .ram
        .program(segment, first_try, b"torn")
        .unwrap();
    let (mut log, _) = open(FLASH, log.into_media());
    assert_eq!(log.head(), (segment, first_try + 128));
    assert!(
        log.next() >= Offset::new(17),
        "at least the same offsets: there might be one more frame"
    );
    commit(&mut log, b"behind");
    assert_eq!(values(&mut log), ["kept", "behind"]);
}

#[test]
fn torn_frame_that_reads_well_again_does_not_hide_what_came_behind() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"kept");
    commit(&mut log, b"torn");
    let (segment, end) = log.head();
    let mut last = [0; 4];
    log.media_mut().read(segment, end - 4, &mut last).unwrap();
    tear(&mut log, 4);
    let (mut log, _) = open(FLASH, log.into_media());
    commit(&mut log, b"behind");
    let next = log.next();
    // The cells were between one and zero.
    log.media_mut()
        .ram
        .program(segment, end - 4, &last)
        .unwrap();
    let (mut log, _) = open(FLASH, log.into_media());
    assert_eq!(values(&mut log), ["kept", "torn", "behind"]);
    assert_eq!(log.next(), next);
}

/// Cells behind the last frame have rotted, near it and far from it, and what lies between them is blank. Writing goes on behind all of them, and the next
/// life must look as far.
#[test]
fn record_behind_rotten_cells_is_found_though_blank_ones_stand_before_them() {
    let mut log = new_log(FLASH);
    fill(&mut log, 4);
    let (segment, end) = log.head();
    for position in [end.next_multiple_of(256) + 200, 2500] {
        let ram = &mut log.media_mut().ram;
        ram.program(segment, position, b"rot!").unwrap();
    }
    let (mut log, _) = open(FLASH, log.into_media());
    commit(&mut log, b"behind");
    assert!(log.head().1 > 2500);
    let before = held(&mut log);
    assert_eq!(before.len(), 5);
    let (mut log, _) = open(FLASH, log.into_media());
    assert_eq!(held(&mut log), before);
}

#[test]
fn head_with_no_grid_point_left_rolls() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"kept");
    let (segment, position) = log.head();
    log.media_mut()
        .ram
        .program(segment, position, b"torn")
        .unwrap();
    for at in (0..4096).step_by(256).filter(|&at| at > position) {
        log.media_mut().ram.program(segment, at, b"torn").unwrap();
    }
    let (mut log, _) = open(FLASH, log.into_media());
    commit(&mut log, b"behind");
    assert_eq!(log.head().0, 1);
    let (mut log, _) = open(FLASH, log.into_media());
    assert_eq!(values(&mut log), ["kept", "behind"]);
}

#[test]
fn offsets_behind_a_rotten_header_are_not_used_again() {
    let mut log = new_log(FLASH);
    let rotten = commit(&mut log, b"rotten");
    for _ in 0..8 {
        try_commit(&mut log, &[&b"x"[..]; 16]).unwrap();
    }
    let durable = log.next();
    assert_eq!(durable, Offset::new(129));
    // Tag and length: nobody can say where the next frame begins.
    log.media_mut()
        .ram
        .program(rotten.segment, rotten.position, &[0; 8])
        .unwrap();
    let (mut log, _) = open(FLASH, log.into_media());
    assert!(
        log.next() >= durable,
        "{} may have been seen by an uplink",
        log.next()
    );
    commit(&mut log, b"behind");
    assert_eq!(values(&mut log), ["behind"]);
}

/// The oldest segment comes right behind the head, and has not been let go of yet.
#[test]
fn a_suspect_head_with_no_segment_to_copy_it_to_is_written_again_in_its_place() {
    let mut log = new_log(FILE);
    while log.head().0 != 3 {
        log.maintain(NOW).unwrap();
        try_commit(&mut log, &[&[7; 200]]).unwrap();
    }
    let before = held(&mut log);
    let mut disk = log.into_media();
    disk.syncs = 0;
    let suspect = Options {
        suspect: Some(3),
        ..options(FILE)
    };
    let (mut log, recovered) = open_with(suspect, disk);
    assert!(!recovered.copied);
    assert!(log.media_mut().syncs > 0);
    assert_eq!((log.head().0, held(&mut log)), (3, before));
}

#[test]
fn tail_that_cannot_be_made_durable_is_copied() {
    for dimensions in [FILE, MIRROR] {
        let mut log = new_log(dimensions);
        fill(&mut log, 10);
        let mut disk = log.into_media();
        disk.fail_syncs = 1;
        let (mut log, recovered) = open(dimensions, disk);
        assert!(recovered.copied);
        assert_eq!(log.head().0, 1);
        assert_eq!(held(&mut log).len(), 10);
        fill(&mut log, 100);
        assert_balance(&mut log);
        let (mut log, recovered) = open(dimensions, log.into_media());
        assert!(!recovered.copied);
        assert_balance(&mut log);
    }
}

/// Each write of the copy fails once, and the log is opened again: what was copied so far is not taken for all there is.
#[test]
fn copy_of_a_head_that_fails_half_way_is_not_taken_for_the_log() {
    for dimensions in [FILE, MIRROR] {
        for written in 0..4 {
            let mut log = new_log(dimensions);
            fill(&mut log, 10);
            let before = held(&mut log);
            let suspect = Options {
                suspect: Some(0),
                ..options(dimensions)
            };
            let mut disk = log.into_media();
            (disk.pass_programs, disk.fail_programs) = (written, 1);
            let scratch = vec![0; suspect.geometry.scratch_bytes()];
            let failed = Log::open(&mut disk, suspect, FRESH, scratch).is_err();
            (disk.pass_programs, disk.fail_programs) = (0, 0);
            let (mut log, _) = open_with(suspect, disk);
            assert_eq!(held(&mut log), before, "{written} written");
            commit(&mut log, b"behind");
            assert_balance(&mut log);
            assert!(failed || written > 1, "{written} written");
        }
    }
}

/// The flash does not answer yet when the device starts. Later all of it is there.
#[test]
fn flash_of_which_nothing_can_be_read_is_not_made_anew() {
    let mut log = new_log(FLASH);
    fill(&mut log, 10);
    let before = held(&mut log);
    let mut disk = log.into_media();
    disk.is_mute = true;
    let scratch = vec![0; options(FLASH).geometry.scratch_bytes()];
    let refused = Log::open(&mut disk, options(FLASH), FRESH, scratch);
    assert!(matches!(refused, Err(OpenError::Unreadable)));
    disk.is_mute = false;
    let (mut log, _) = open(FLASH, disk);
    assert_eq!(held(&mut log), before);
}

#[test]
fn segment_in_doubt_is_copied_though_its_sync_works_now() {
    let mut log = new_log(FILE);
    fill(&mut log, 10);
    let suspect = Options {
        suspect: Some(0),
        ..options(FILE)
    };
    let (mut log, recovered) = open_with(suspect, log.into_media());
    assert!(recovered.copied);
    assert_eq!(log.checkpoint(), b"");
    assert_eq!(held(&mut log).len(), 10);
}

#[test]
fn recovered_tail_is_written_and_synced_again() {
    for dimensions in [FILE, MIRROR] {
        let mut log = new_log(dimensions);
        commit(&mut log, b"one");
        let disk = log.into_media();
        let (programs, syncs) = (disk.programs, disk.syncs);
        let (log, _) = open(dimensions, disk);
        assert_eq!(
            (log.media().programs - programs, log.media().syncs - syncs),
            (1, 1)
        );
    }
}

#[test]
fn later_version_is_refused_and_not_touched() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"one");
    let mut bytes = log.into_media().ram.into_inner();
    bytes[4] = 2;
    let crc = sedge_core::crc::crc32c(&bytes[..28]).to_le_bytes();
    bytes[28..32].copy_from_slice(&crc);
    let disk = Disk::holding(&FLASH, bytes);
    let refused = Log::open(disk, options(FLASH), FRESH, vec![0; 768]).unwrap_err();
    assert_eq!(
        refused,
        OpenError::Refused(Refusal::NewerVersion {
            segment: 0,
            version: 2
        })
    );
}

/// A ring that is large enough to be searched by halves, in which a later version went on for a while: whichever segment behind the head it has stamped, the log is
/// refused and every byte of it stays.
#[test]
fn later_version_is_found_in_a_large_ring_too() {
    let dimensions = Dimensions {
        segment_count: 16,
        ..FLASH
    };
    for records in [200, 700] {
        let mut log = new_log(dimensions);
        fill(&mut log, records);
        let (head, _) = log.head();
        let bytes = log.into_media().ram.into_inner();
        for ahead in [1, 2] {
            let segment = (head + ahead) % 16;
            let mut bytes = bytes.clone();
            let mut stamp = bytes[..STAMP_LEN].to_vec();
            stamp[4] = 2;
            let crc = sedge_core::crc::crc32c(&stamp[..28]);
            stamp[28..].copy_from_slice(&crc.to_le_bytes());
            bytes[segment as usize * 4096..][..STAMP_LEN].copy_from_slice(&stamp);
            let mut disk = Disk::holding(&dimensions, bytes.clone());
            let refused = Log::open(&mut disk, options(dimensions), FRESH, vec![0; 768]);
            let newer = Refusal::NewerVersion {
                segment,
                version: 2,
            };
            assert_eq!(refused.unwrap_err(), OpenError::Refused(newer));
            assert_eq!(disk.ram.into_inner(), bytes);
        }
    }
}

#[test]
fn other_segment_size_is_refused() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"one");
    let other = Dimensions {
        segment_bytes: 8192,
        segment_count: 3,
        ..FLASH
    };
    let mut bytes = log.into_media().ram.into_inner();
    bytes.resize(3 * 8192, 0xFF);
    let refused = Log::open(
        Disk::holding(&other, bytes),
        options(other),
        FRESH,
        vec![0; 768],
    )
    .unwrap_err();
    assert!(matches!(
        refused,
        OpenError::Refused(Refusal::OtherGeometry { segment: 0, .. })
    ));
}

#[test]
fn scratch_that_is_too_small_is_refused() {
    let refused = Log::open(Disk::blank(&FLASH), options(FLASH), FRESH, vec![0; 767]).unwrap_err();
    assert_eq!(refused, OpenError::Scratch { needed: 768 });
}

#[test]
fn log_grows_and_takes_larger_frames() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        fill(&mut log, 150);
        let larger = Dimensions {
            segment_count: 6,
            frame_bytes_max: 500,
            commit_offsets_max: 40,
            ..dimensions
        };
        let mut bytes = log.into_media().ram.into_inner();
        bytes.resize(6 * 4096, 0xFF);
        let (mut log, _) = open(larger, Disk::holding(&larger, bytes));
        let before = held(&mut log).len();
        assert!(before > 40);
        commit(&mut log, &[b'#'; 450]);
        assert_eq!(
            held(&mut log).len(),
            before + 1,
            "nothing is evicted for it"
        );
        fill(&mut log, 300);
        assert_balance(&mut log);
        let (mut log, _) = open(larger, log.into_media());
        assert_balance(&mut log);
    }
}

#[test]
fn large_ring_is_opened_with_few_reads() {
    for laps in [2, 3] {
        let dimensions = Dimensions {
            segment_count: 256,
            ..FLASH
        };
        let mut log = new_log(dimensions);
        fill(&mut log, 256 * 30 * laps + 40);
        let head = log.head();
        let mut disk = log.into_media();
        disk.reads = 0;
        let (mut log, _) = open(dimensions, disk);
        let reads = log.media().reads;
        assert_eq!(log.head(), head);
        assert!(reads < 60, "{reads} reads on lap {laps}");

        let mut reader = Reader::new(log.log_id(), *log.geometry(), log.oldest());
        while log.read(&mut reader) != Read::CaughtUp {}
        assert_eq!(reader.next(), log.view().durable);
    }
}

fn log_bytes(dimensions: Dimensions) -> Vec<u8> {
    let mut log = new_log(dimensions);
    fill(&mut log, 130);
    log.set_cursor(1, Offset::new(100)).unwrap();
    log.close(NOW).unwrap();
    log.into_media().ram.into_inner()
}

/// Opens whatever it is and uses it; the fixture's flash is lenient here, for blank bytes may not be blank.
fn open_and_use(dimensions: Dimensions, bytes: Vec<u8>) {
    let mut disk = Disk::holding(&dimensions, bytes);
    disk.files = true;
    let opened = Log::open(disk, options(dimensions), FRESH, vec![0; 768]);
    let Ok((mut log, _)) = opened else {
        assert!(matches!(
            opened,
            Err(OpenError::Refused(_) | OpenError::NoSpare)
        ));
        return;
    };
    let _ended = log.maintain(NOW);
    match try_commit(&mut log, &[b"new"]) {
        Ok(committed) => {
            let record = (committed.first.get(), b"new".to_vec());
            assert!(
                held(&mut log).contains(&record),
                "what was committed is there"
            );
        }
        Err(error) => assert!(
            matches!(error, CommitError::Ended | CommitError::Exhausted),
            "{error:?}"
        ),
    }
}

/// Only the head is left, without a stamp, and the oldest offset that its ledger names lies inside of it.
#[test]
fn log_of_a_lone_head_that_cannot_be_written_goes_on() {
    let mut bytes = log_bytes(FILE);
    let len = bytes.len();
    bytes[32_800 % len] = 0;
    for (from, to, count) in [
        (0, 52_277, 251),
        (0, 28_283, 211),
        (52_896, 24_543, 166),
        (0, 40_799, 54),
    ] {
        let (from, to) = (from % (len - count), to % (len - count));
        bytes.copy_within(from..from + count, to);
    }
    open_and_use(FILE, bytes);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn damaged_log_opens_and_goes_on(kind in 0_usize..3, damage: Vec<(u16, u8)>, swaps: Vec<(u16, u16, u8)>) {
        let dimensions = [FLASH, FILE, MIRROR][kind];
        let mut bytes = log_bytes(dimensions);
        let len = bytes.len();
        for (at, byte) in damage {
            bytes[usize::from(at) % len] = byte;
        }
        for (from, to, count) in swaps {
            let count = usize::from(count) + 1;
            let (from, to) = (usize::from(from) % (len - count), usize::from(to) % (len - count));
            bytes.copy_within(from..from + count, to);
        }
        open_and_use(dimensions, bytes);
    }

    #[test]
    fn whole_segments_may_be_lost_or_exchanged(
        kind in 0_usize..3,
        order in Just([0, 1, 2, 3]).prop_shuffle(),
        blanks: [bool; 4],
    ) {
        let dimensions = [FLASH, FILE, MIRROR][kind];
        let bytes = log_bytes(dimensions);
        let mut other = Vec::new();
        for (from, blank) in order.into_iter().zip(blanks) {
            let from = from * 4096;
            if blank {
                other.extend([0xFF; 4096]);
            } else {
                other.extend(&bytes[from..from + 4096]);
            }
        }
        open_and_use(dimensions, other);
    }

    #[test]
    fn noise_becomes_a_new_log(kind in 0_usize..3, seed: u64) {
        let dimensions = [FLASH, FILE, MIRROR][kind];
        let mut state = seed | 1;
        let noise = (0..4 * 4096).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        });
        open_and_use(dimensions, noise.collect());
    }
}

/// Where the head's records begin, for whoever wants to damage what stands before.
fn beginning(log: &TestLog) -> (u32, u32) {
    let (segment, _) = log.head();
    let bytes = log.media().ram.clone().into_inner();
    let from = (segment * FLASH.segment_bytes) as usize;
    let header = OpenHeader::parse(&bytes[from + STAMP_LEN..]).expect("the head has a header");
    (segment, (STAMP_LEN + header.1) as u32)
}

/// Changes one bit, as age does.
fn rot(log: &mut TestLog, segment: u32, position: u32) {
    let mut byte = [0];
    let ram = &mut log.media_mut().ram;
    ram.read(segment, position, &mut byte).unwrap();
    ram.program(segment, position, &[byte[0] ^ 0x20]).unwrap();
}

/// The head holds what the segment before does not: without its stamp it is read all the same, and not written any more.
#[test]
fn a_head_with_a_rotten_stamp_keeps_its_records() {
    for dimensions in [FLASH, FILE, MIRROR] {
        for position in 0..STAMP_LEN as u32 {
            let mut log = new_log(dimensions);
            fill(&mut log, 40);
            commit(&mut log, b"in the head");
            let (kept, next) = (values(&mut log), log.next());
            let (segment, _) = beginning(&log);
            rot(&mut log, segment, position);
            let (mut log, recovered) = open(dimensions, log.into_media());
            assert_eq!(values(&mut log), kept, "byte {position}: {recovered:?}");
            assert!(log.next() >= next);
            commit(&mut log, b"behind");
            assert_ne!(log.head().0, segment);
            assert_balance(&mut log);
        }
    }
}

/// The open header of the head is damaged, so nobody knows where its frames begin. What was given there is a gap and is never given again,
/// through any number of lives.
#[test]
fn a_head_with_a_rotten_header_is_a_gap_and_its_offsets_are_not_given_again() {
    for dimensions in [FLASH, FILE] {
        let mut log = new_log(dimensions);
        fill(&mut log, 40);
        let (segment, data_start) = beginning(&log);
        let base = log.head_base();
        commit(&mut log, b"first in the head");
        commit(&mut log, b"second");
        let next = log.next();
        let damaged = log.into_media();
        for position in STAMP_LEN as u32..data_start {
            let (mut log, _) = open(dimensions, damaged.clone());
            rot(&mut log, segment, position);
            let (log, recovered) = open(dimensions, log.into_media());
            let lost = recovered.lost_head.expect("the frames behind it prove it");
            assert_eq!((lost.segment, lost.from), (segment, base));
            assert_eq!(lost.lost, next.since(base), "byte {position}");
            assert!(log.next() >= next);
            let (mut log, recovered) = open(dimensions, log.into_media());
            assert_eq!(recovered.lost_head, None, "it is told once");
            let first = commit(&mut log, b"behind").first;
            assert!(first >= next, "{first} after {next}");
            assert_balance(&mut log);
        }
    }
}

/// The header was torn while the segment was opened, and so was its first commit: nothing was acknowledged there, and nothing is said about it.
#[test]
fn a_head_whose_opening_was_torn_is_no_lost_head() {
    let mut log = new_log(FILE);
    while log.head().0 == 0 {
        fill(&mut log, 1);
    }
    let (segment, _) = beginning(&log);
    rot(&mut log, segment, STAMP_LEN as u32 + 4);
    let (_, recovered) = open(FILE, log.into_media());
    assert_eq!(recovered.lost_head, None);
}

/// A log on cells that may read otherwise later.
fn fresh() -> Options {
    Options {
        tail: Tail::Fresh,
        ..options(FLASH)
    }
}

/// A frame of a torn commit reads well at first, so the life that finds it writes behind it; then its cells settle otherwise.
#[test]
fn a_last_frame_that_is_not_trusted_hides_nothing_when_it_fails_later() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"kept");
    commit(&mut log, b"doubtful");
    let doubtful = log.head();
    let (mut log, _) = open_with(fresh(), log.into_media());
    commit(&mut log, b"behind");
    let (segment, end) = doubtful;
    for position in end - 20..end {
        rot(&mut log, segment, position);
    }
    let (mut log, _) = open_with(fresh(), log.into_media());
    assert_eq!(values(&mut log), ["kept", "behind"]);
}

/// A RESUME frame is torn, reads well at one open, and badly at the next one, whose own RESUME frame stands further on.
#[test]
fn offsets_that_a_torn_resume_frame_may_cover_are_not_given_again() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"kept");
    let (mut log, _) = open_with(fresh(), log.into_media());
    let (segment, torn_resume) = log.head();
    let burned_to = log.next();
    commit(&mut log, b"never acknowledged");
    let mut whole = log.media_mut().ram.clone();
    let (_, behind) = log.head();
    log.media_mut()
        .ram
        .program(
            segment,
            torn_resume,
            &vec![0x13; (behind - torn_resume) as usize],
        )
        .unwrap();
    let (mut log, _) = open_with(fresh(), log.into_media());
    assert!(log.head().1 > torn_resume);
    assert!(log.next() >= burned_to, "{} < {burned_to}", log.next());
    let at = log.next();
    commit(&mut log, b"behind");
    let mut meant = [0; 64];
    whole.read(segment, torn_resume, &mut meant).unwrap();
    log.media_mut()
        .ram
        .program(segment, torn_resume, &meant)
        .unwrap();
    let (mut log, _) = open_with(fresh(), log.into_media());
    let held = held(&mut log);
    assert!(held.contains(&(at.get(), b"behind".to_vec())), "{held:?}");
}

/// The last frame reads well, goes to the receiver, and reads badly later.
#[test]
fn a_receiver_that_has_a_frame_which_reads_badly_later_goes_on_behind_it() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"kept");
    let (segment, begin) = log.head();
    commit(&mut log, b"doubtful");
    let received = log.next();
    for position in begin..log.head().1 {
        rot(&mut log, segment, position);
    }
    let (mut log, _) = open_with(fresh(), log.into_media());
    assert!(log.view().durable < received && log.offer(0).next >= received);
    let mut reader = Reader::new(LOG, Geometry::new(FLASH).unwrap(), received);
    assert!(matches!(log.read(&mut reader), Read::CaughtUp));
    let at = log.next();
    commit(&mut log, b"behind");
    let Read::Gap(gap) = log.read(&mut reader) else {
        panic!("what was burned is a gap");
    };
    assert_eq!((gap.from, gap.to, gap.lost), (received, at, 0));
    let Read::Frame { frame, .. } = log.read(&mut reader) else {
        panic!("behind it stands a record");
    };
    assert_eq!(frame.header.first, at);
}

#[test]
fn a_header_with_nothing_behind_it_is_not_relied_upon() {
    let mut log = new_log(FLASH);
    while log.head().0 == 0 {
        log.maintain(NOW).unwrap();
        commit(&mut log, b"kept");
    }
    let Some(Slot::Open(opened)) = log.slot(1) else {
        panic!("the commit opened segment 1");
    };
    let first = log.head_base();
    // Power failed right behind the header.
    let blank = vec![0xFF; (4096 - opened.data_start) as usize];
    let ram = &mut log.media_mut().ram;
    ram.program(1, opened.data_start, &blank).unwrap();
    let (mut log, _) = open_with(fresh(), log.into_media());
    assert_eq!(log.head().0, 0);
    assert!(log.next() > first);
    assert!(log.needs_maintain());
    log.maintain(NOW).unwrap();
    commit(&mut log, b"behind");
    let held = values(&mut log);
    assert_eq!(held.last().map(String::as_str), Some("behind"));
    assert_eq!(log.head().0, 1);
    assert_balance(&mut log);
}

/// The other way round: the torn frame did not read well, its offsets were burned, and then it does.
#[test]
fn a_torn_frame_that_reads_well_later_is_shown_before_what_is_left_of_its_burned_offsets() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"kept");
    let (segment, begin) = log.head();
    commit(&mut log, b"torn");
    let (_, end) = log.head();
    let mut meant = vec![0; (end - begin) as usize];
    let ram = &mut log.media_mut().ram;
    ram.read(segment, begin, &mut meant).unwrap();
    ram.program(segment, begin, &vec![0x13; meant.len()])
        .unwrap();
    let (mut log, _) = open(FLASH, log.into_media());
    commit(&mut log, b"behind");
    log.media_mut().ram.program(segment, begin, &meant).unwrap();
    let (log, _) = open(FLASH, log.into_media());
    let (view, mut disk) = (log.view(), log.into_media());
    let mut scratch = vec![0; Geometry::new(FLASH).unwrap().scratch_bytes()];
    let mut reader = Reader::new(LOG, Geometry::new(FLASH).unwrap(), Offset::ZERO);
    let mut shown = Vec::new();
    loop {
        match reader.read(&mut disk, &mut scratch, view) {
            Read::Frame { frame, .. } => shown.push((frame.header.first.get(), frame.end().get())),
            Read::Gap(gap) => {
                assert_eq!(gap.lost, 0);
                shown.push((gap.from.get(), gap.to.get()));
            }
            Read::CaughtUp => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(shown, [(0, 1), (1, 2), (2, 17), (17, 18)]);
}
