//! Stories of recycling: what is counted, in which order, and who holds it back.

mod fixture;

use fixture::*;
use sedge_core::log::{CommitError, MaintainError, Maintained, Options, Slot, WhenFull};
use sedge_core::media::Media;
use sedge_core::segment::Dimensions;
use sedge_core::{Micros, Offset};

#[test]
fn full_ring_evicts_and_counts_what_it_evicts() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        fill(&mut log, 300);
        assert!(log.ledger().evicted > 100);
        assert_eq!(log.next(), Offset::new(300));
        assert_balance(&mut log);
        let ledger = log.ledger().clone();
        let (mut log, _) = open(dimensions, log.into_media());
        assert_eq!(*log.ledger(), ledger);
        fill(&mut log, 300);
        assert_balance(&mut log);
    }
}

#[test]
fn what_every_uplink_has_is_handed_over_and_not_lost() {
    let mut log = new_log(FLASH);
    log.set_cursor(1, Offset::ZERO).unwrap();
    log.set_cursor(2, Offset::ZERO).unwrap();
    for turn in 1..40 {
        fill(&mut log, 5);
        log.set_cursor(1, Offset::new(5 * turn)).unwrap();
        log.set_cursor(2, Offset::new(5 * turn - 3)).unwrap();
    }
    let ledger = log.ledger();
    assert_eq!(
        (ledger.evicted, ledger.handed_over),
        (0, log.oldest().get())
    );
    assert!(!ledger.loss_first.is_known());
    assert_balance(&mut log);
}

#[test]
fn overtaken_uplink_is_told_exactly_what_it_lost() {
    let mut log = new_log(FLASH);
    fill(&mut log, 10);
    log.set_cursor(1, Offset::new(10)).unwrap();
    fill(&mut log, 190);
    let ledger = log.ledger().clone();
    let cursor = ledger.cursor(1).unwrap();
    assert_eq!(
        (ledger.handed_over, ledger.evicted),
        (10, ledger.oldest.get() - 10)
    );
    assert_eq!(cursor.lost, ledger.evicted);
    let gap = ledger.gap_before_oldest(cursor.next, Some(1)).unwrap();
    assert_eq!((gap.lost, gap.when), (ledger.evicted, NOW));
    let (log, _) = open(FLASH, log.into_media());
    assert_eq!(log.ledger().cursor(1), Some(cursor));
}

/// A notice of 258 lost records goes with what stands behind it. One uplink has had it, the other has not.
#[test]
fn what_a_recycled_notice_told_is_lost_to_whoever_had_not_come_to_it() {
    for dimensions in [FLASH, FILE] {
        let mut log = new_log(dimensions);
        fill(&mut log, 10);
        log.set_cursor(1, Offset::new(10)).unwrap();
        log.set_cursor(2, Offset::new(11)).unwrap();
        let frame = notice_frame(&log, 258);
        log.commit(&frame, 1, b"state", NOW).unwrap();
        fill(&mut log, 189);
        let ledger = log.ledger();
        let evicted = ledger.evicted;
        assert_eq!(ledger.oldest.get(), 10 + evicted);
        let gap = |from, uplink| ledger.gap_before_oldest(Offset::new(from), Some(uplink));
        assert_eq!(gap(10, 1).unwrap().lost, evicted - 1 + 258);
        assert_eq!(gap(11, 2).unwrap().lost, evicted - 1);
        assert_balance(&mut log);
    }
}

/// A log that refuses when it is full and has an uplink, and how many commits of 100 bytes it cannot have room for.
fn refusing_log(dimensions: Dimensions) -> (TestLog, u32) {
    let refusing = Options {
        when_full: WhenFull::Refuse,
        ..options(dimensions)
    };
    let (mut log, _) = open_with(refusing, Disk::blank(&dimensions));
    log.set_cursor(1, Offset::ZERO).unwrap();
    let commits = dimensions.segment_count * dimensions.segment_bytes / 100;
    (log, commits)
}

#[test]
fn refusing_log_waits_for_its_uplink() {
    for dimensions in [FLASH, FILE] {
        let (mut log, commits_that_fit) = refusing_log(dimensions);
        let refused = (0..commits_that_fit).find_map(|_| {
            let is_full = log.needs_maintain() && log.maintain(NOW).unwrap() == Maintained::Full;
            match try_commit(&mut log, &[&[0; 100]]) {
                Err(error) if is_full => Some(error),
                taken => taken.map(|_| None).unwrap(),
            }
        });
        let refused = refused.expect("it is full and refuses");
        assert_eq!(refused, CommitError::NeedsMaintain);
        log.count_refused(1);
        assert_eq!(log.oldest(), Offset::ZERO);
        let next = log.next();
        log.set_cursor(1, next).unwrap();
        assert_eq!(log.maintain(NOW), Ok(Maintained::Ready));
        try_commit(&mut log, &[b"taken"]).unwrap();
        assert_eq!((log.ledger().evicted, log.ledger().refused), (0, 1));
        assert_balance(&mut log);
    }
}

/// All that its oldest segment holds was handed over, and nothing more: that is enough, and one record less is not.
#[test]
fn refusing_log_goes_on_when_its_oldest_segment_was_handed_over() {
    for dimensions in [FLASH, FILE] {
        let (mut log, commits_that_fit) = refusing_log(dimensions);
        let is_full = (0..commits_that_fit).any(|_| {
            if log.needs_maintain() && log.maintain(NOW).unwrap() == Maintained::Full {
                return true;
            }
            try_commit(&mut log, &[&[0; 100]]).unwrap();
            false
        });
        assert!(is_full, "it goes on for ever");
        let Some(Slot::Open(second)) = log.slot(1) else {
            panic!("it is full")
        };
        let base = second.base;
        log.set_cursor(1, Offset::new(base.get() - 1)).unwrap();
        assert_eq!(log.maintain(NOW), Ok(Maintained::Full));
        log.set_cursor(1, base).unwrap();
        assert_eq!(log.maintain(NOW), Ok(Maintained::Ready));
        assert_eq!((log.oldest(), log.ledger().handed_over), (base, base.get()));
        assert_balance(&mut log);
    }
}

/// It has them from elsewhere: what it lost is only what lies behind, in the next life too.
#[test]
fn uplink_that_has_what_was_evicted_is_told_no_loss_of_it() {
    let mut log = new_log(FLASH);
    log.set_cursor(1, Offset::ZERO).unwrap();
    fill(&mut log, 300);
    let lost = |log: &TestLog| log.ledger().cursor(1).unwrap().lost;
    let oldest = log.oldest().get();
    assert_eq!(lost(&log), oldest);
    log.pass_cursor(1, Offset::ZERO, Offset::new(10), 10);
    let (mut log, _) = open(FLASH, {
        log.maintain(NOW).unwrap();
        log.close(NOW).unwrap();
        log.into_media()
    });
    let cursor = log.ledger().cursor(1).unwrap();
    assert_eq!((cursor.next, cursor.lost), (Offset::new(10), oldest - 10));
    log.pass_cursor(2, Offset::ZERO, Offset::new(10), 10);
    assert_eq!(lost(&log), oldest - 10, "that is another one");
    assert_balance(&mut log);
}

#[test]
fn segment_that_leaves_is_in_the_ledger_before_it_is_erased() {
    for dimensions in [FLASH, FILE] {
        let mut log = new_log(dimensions);
        while !log.needs_maintain() || log.ledger().evicted == 0 {
            fill(&mut log, 1);
        }
        log.media_mut().fail_erases = 1;
        assert!(matches!(log.maintain(NOW), Err(MaintainError::Media(_))));
        // The power fails before the erase is tried again.
        let ledger = log.ledger().clone();
        let (mut log, _) = open(dimensions, log.into_media());
        assert_eq!(log.ledger().evicted, ledger.evicted);
        log.maintain(NOW).unwrap();
        assert_eq!(
            log.ledger().evicted,
            ledger.evicted,
            "nothing is counted twice"
        );
        fill(&mut log, 100);
        assert_balance(&mut log);
    }
}

#[test]
fn segment_that_cannot_be_erased_is_passed_over() {
    let mut log = new_log(FLASH);
    fill(&mut log, 100);
    while !log.needs_maintain() {
        fill(&mut log, 1);
    }
    log.media_mut().fail_erases = 1;
    assert!(log.maintain(NOW).is_err());
    assert_eq!(log.maintain(NOW), Ok(Maintained::Ready));
    fill(&mut log, 100);
    assert_balance(&mut log);
    let (mut log, _) = open(FLASH, log.into_media());
    assert_balance(&mut log);
}

#[test]
fn balance_holds_though_every_other_erase_fails() {
    let wide = Dimensions {
        segment_count: 7,
        ..FLASH
    };
    for dimensions in [
        wide,
        Dimensions {
            segment_count: 7,
            ..FILE
        },
    ] {
        let mut log = new_log(dimensions);
        for turn in 0..900 {
            if log.needs_maintain() {
                log.media_mut().fail_erases = turn % 2;
                while log.maintain(NOW).is_err() {}
            }
            try_commit(&mut log, &[&[0; 100]]).unwrap();
            if turn % 100 == 99 {
                log = open(dimensions, log.into_media()).0;
                assert_balance(&mut log);
            }
        }
        assert_eq!(log.ledger().corrupt, 0);
    }
}

#[test]
fn rotten_records_are_counted_as_corrupt_when_they_leave() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        let rotten = commit(&mut log, b"rotten");
        let (segment, end) = log.head();
        commit(&mut log, b"behind");
        assert_eq!(segment, rotten.segment);
        log.media_mut().ram.program(segment, end - 4, b"!").unwrap();
        fill(&mut log, 200);
        assert_eq!(log.ledger().corrupt, 1);
        assert_balance(&mut log);
    }
}

#[test]
fn segment_with_a_rotten_header_is_counted_as_corrupt_when_it_leaves() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        while log.head().0 < 1 {
            fill(&mut log, 1);
        }
        let lost = log.head_base().get();
        log.media_mut().ram.program(0, 40, b"rot").unwrap();
        fill(&mut log, 200);
        assert_eq!(log.ledger().corrupt, lost);
        assert_balance(&mut log);
    }
}

#[test]
fn burned_offsets_are_not_lost_records() {
    let mut log = new_log(FILE);
    for _ in 0..10 {
        fill(&mut log, 20);
        log = open(FILE, log.into_media()).0;
    }
    let ledger = log.ledger();
    assert_eq!((ledger.corrupt, ledger.skipped), (0, 9 * 16));
    assert_balance(&mut log);
}

#[test]
fn old_records_expire_segment_by_segment() {
    let mut log = new_log(FILE);
    while log.head().0 < 2 {
        fill(&mut log, 1);
    }
    assert_eq!(
        log.expire(Micros::new(NOW.get() - 1), NOW),
        Ok(false),
        "they are younger"
    );
    assert_eq!(log.expire(NOW, NOW), Ok(true));
    let ledger = log.ledger().clone();
    assert_eq!((ledger.expired, ledger.evicted), (ledger.oldest.get(), 0));
    assert_eq!(log.expire(NOW, NOW), Ok(true));
    assert_eq!(log.expire(NOW, NOW), Ok(false), "the head stays");
    assert_balance(&mut log);
    fill(&mut log, 100);
    assert_balance(&mut log);
}

/// A mirror whose origin closed it: its segments go when they are old, as long as there is room to say so, and the rest all at once.
#[test]
fn an_ended_mirror_expires_and_stays_ended() {
    let wide = Dimensions {
        segment_count: 12,
        ..MIRROR
    };
    let mut log = new_log(wide);
    while log.head().0 < 10 {
        fill(&mut log, 1);
    }
    log.end(b"", NOW).unwrap();
    let next = log.next();
    assert_eq!(log.expire_ended(Micros::new(NOW.get() - 1), NOW), Ok(0));
    assert_eq!(log.ledger().expired, 0, "they are younger");
    // Segment 0 lies two behind the head, with an unused one before it.
    let head = log.head().0;
    let expired = log.expire_ended(NOW, NOW).unwrap();
    assert_eq!(expired, 11, "all but the head");
    assert_eq!(log.ledger().expired, log.head_base().get());
    for _ in 0..2 {
        log = open(wide, log.into_media()).0;
        assert!(log.is_ended() && log.head().0 == head && log.next() == next);
        assert_eq!(
            log.expire_ended(NOW, NOW),
            Ok(11),
            "nothing is counted twice"
        );
        assert_eq!(log.ledger().expired, log.head_base().get());
        assert_balance(&mut log);
    }
}

/// Each segment was begun an hour after the one before.
#[test]
fn an_ended_mirror_lets_go_of_what_is_old_and_keeps_the_rest() {
    let wide = Dimensions {
        segment_count: 12,
        ..MIRROR
    };
    let mut log = new_log(wide);
    let at = |hours: u32| Micros::new(NOW.get() + i64::from(hours) * 3_600_000_000);
    while log.head().0 < 10 {
        let now = at(log.head().0);
        if log.needs_maintain() {
            log.maintain(now).unwrap();
        }
        let frame = frame_at(&log, now);
        log.commit(&frame, 1, b"state", at(log.head().0 + 1))
            .unwrap();
    }
    log.end(b"", at(10)).unwrap();
    let count = log.expire_ended(at(3), at(20)).unwrap();
    let expired = log.ledger().expired;
    assert!(count > 0 && expired > 0 && expired < log.head_base().get());
    assert_eq!(log.oldest().get(), expired);
    assert_balance(&mut log);
    let mut log = open(wide, log.into_media()).0;
    assert!(log.is_ended());
    assert_eq!(log.expire_ended(at(10), at(20)), Ok(11), "the rest of it");
    assert_eq!(log.ledger().expired, log.head_base().get());
    assert_balance(&mut log);
}

/// The segments behind the head are to be taken away: what they hold is counted, durably, and what the others hold stays.
#[test]
fn vacated_segments_hold_nothing_and_all_is_counted() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let wide = Dimensions {
            segment_count: 7,
            ..dimensions
        };
        let mut log = new_log(wide);
        fill(&mut log, 500);
        let acked = log.oldest() + 5;
        log.set_cursor(1, acked).unwrap();
        let (head, evicted) = (log.head().0, log.ledger().evicted);
        let kept: Vec<u64> = (4..=7)
            .map(|steps| (head + steps) % 7)
            .filter_map(|segment| match log.slot(segment) {
                Some(Slot::Open(opened)) => Some(opened.base.get()),
                _ => None,
            })
            .collect();
        log.vacate(3, NOW).unwrap();
        assert_eq!(log.oldest().get(), kept[0]);
        let ledger = log.ledger().clone();
        assert_eq!(ledger.handed_over, 5);
        assert_eq!(ledger.cursor(1).unwrap().lost, ledger.evicted - evicted);
        assert_balance(&mut log);
        // The power fails before the segments are taken away.
        let (mut log, _) = open(wide, log.into_media());
        assert_eq!(*log.ledger(), ledger);
        assert_balance(&mut log);
        fill(&mut log, 500);
        assert_balance(&mut log);
        assert_eq!(log.ledger().corrupt, 0);
    }
}

#[test]
fn erase_counts_grow_evenly() {
    let mut log = new_log(FLASH);
    fill(&mut log, 500);
    let counts: Vec<_> = (0..4)
        .map(|segment| log.slot(segment).unwrap().erase_count())
        .collect();
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - least <= 1 && *least > 2, "{counts:?}");
}
