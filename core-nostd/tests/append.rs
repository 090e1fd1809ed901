//! Stories of appending: what a commit leaves behind, and what is refused.

mod fixture;

use core::task::{Context, Poll, Waker};
use std::pin::pin;

use fixture::*;
use sedge_core::driver::OutOfBounds;
use sedge_core::frame::Form;
use sedge_core::log::{AsyncLog, CommitError, Log, OpenError, Options, Slot, Tail};
use sedge_core::media::{Media, Misfit, Operations};
use sedge_core::segment::{Dimensions, Geometry, Role};
use sedge_core::{Micros, Offset};

#[test]
fn records_are_there_after_a_restart() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        for value in [&b"one"[..], b"two", b"three"] {
            commit(&mut log, value);
        }
        let (mut log, recovered) = open(dimensions, log.into_media());
        assert!(!recovered.formatted);
        assert_eq!(values(&mut log), ["one", "two", "three"]);
    }
}

#[test]
fn every_write_unit_is_programmed_once_through_many_laps() {
    for write_unit in [1, 2, 4, 8, 16, 32] {
        let dimensions = Dimensions {
            write_unit,
            ..FLASH
        };
        let mut log = new_log(dimensions);
        for _ in 0..5 {
            fill(&mut log, 80);
            log = open(dimensions, log.into_media()).0;
        }
        assert_balance(&mut log);
        assert_eq!(
            log.next(),
            Offset::new(400),
            "on flash a stop between two programs burns nothing"
        );
    }
}

#[test]
fn one_commit_on_files_is_one_write_and_one_sync() {
    let mut log = new_log(FILE);
    commit(&mut log, b"first");
    let (programs, syncs) = (log.media().programs, log.media().syncs);
    commit(&mut log, b"second");
    assert_eq!(
        (log.media().programs - programs, log.media().syncs - syncs),
        (1, 1)
    );
}

#[test]
fn append_on_flash_is_one_program_and_nothing_else() {
    let mut log = new_log(FLASH);
    let before = (log.media().programs, log.media().erases, log.media().syncs);
    commit(&mut log, b"one");
    let after = (log.media().programs, log.media().erases, log.media().syncs);
    assert_eq!(after, (before.0 + 1, before.1, before.2));
}

#[test]
fn full_head_without_a_spare_asks_for_maintenance() {
    let mut log = new_log(FLASH);
    while !log.needs_maintain() {
        try_commit(&mut log, &[&[0; 200]]).unwrap();
    }
    let asked = loop {
        match try_commit(&mut log, &[&[0; 200]]) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(asked, CommitError::NeedsMaintain);
    log.maintain(NOW).unwrap();
    try_commit(&mut log, &[&[0; 200]]).unwrap();
}

#[test]
fn what_does_not_continue_the_log_is_refused_and_nothing_is_written() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        let early = frame_of(&log, &[b"early"]);
        commit(&mut log, b"first");
        let programs = log.media().programs;
        let refusal = log.commit(&early, 1, b"", NOW).unwrap_err();
        assert!(
            matches!(
                refusal,
                CommitError::Misplaced { .. } | CommitError::Malformed
            ),
            "{refusal:?}"
        );
        let frame = frame_of(&log, &[b"again"]);
        assert_eq!(
            log.commit(&frame, 2, b"", NOW),
            Err(CommitError::Malformed),
            "it takes one offset"
        );
        assert_eq!(
            log.commit(&frame[..9], 1, b"", NOW),
            Err(CommitError::Malformed),
            "half a frame"
        );
        let own = form_of(&log);
        let other = match own {
            Form::Compact => Form::Explicit,
            Form::Explicit => Form::Compact,
        };
        assert_eq!(
            log.commit(&frame_in(&log, other, true), 1, b"", NOW),
            Err(CommitError::Malformed),
            "in the form of other media"
        );
        if dimensions.role == Role::Origin && own == Form::Explicit {
            assert_eq!(
                log.commit(&frame_in(&log, own, false), 1, b"", NOW),
                Err(CommitError::Malformed),
                "a later frame of a commit without the first one"
            );
        }
        assert_eq!(
            log.commit(&[], 0, b"", NOW),
            Err(CommitError::Malformed),
            "nothing"
        );
        assert_eq!(
            try_commit(&mut log, &[&[0; 300]]),
            Err(CommitError::TooLarge)
        );
        let beyond_burning = try_commit(&mut log, &[&b""[..]; 17]);
        if dimensions == MIRROR {
            assert!(beyond_burning.is_ok(), "a mirror burns nothing");
        } else {
            assert_eq!(beyond_burning, Err(CommitError::TooManyOffsets));
            assert_eq!(log.media().programs, programs);
        }
    }
}

#[test]
fn ended_log_takes_nothing_in_this_life_or_another() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        commit(&mut log, b"last");
        log.end(b"", NOW).unwrap();
        assert_eq!(try_commit(&mut log, &[b"more"]), Err(CommitError::Ended));
        let (mut log, recovered) = open(dimensions, log.into_media());
        assert!(recovered.clean && log.is_ended());
        assert_eq!(try_commit(&mut log, &[b"more"]), Err(CommitError::Ended));
        assert_eq!(values(&mut log), ["last"]);
    }
}

/// Its head has any number of bytes left behind the last commit that fits.
#[test]
fn log_ends_wherever_its_head_stands() {
    for dimensions in [FLASH, FILE, MIRROR] {
        for first in 0..80 {
            let written = |commits: u64| {
                let mut log = new_log(dimensions);
                commit(&mut log, &vec![b'.'; first]);
                for _ in 0..commits {
                    commit(&mut log, &[b'.'; 60]);
                }
                log
            };
            let most = (1..).find(|more| written(*more).head().0 != written(0).head().0);
            let mut log = written(most.unwrap() - 1);
            let before = held(&mut log);
            log.end(b"", NOW).unwrap();
            let (mut log, recovered) = open(dimensions, log.into_media());
            assert!(recovered.clean && log.is_ended(), "{dimensions:?}, {first}");
            assert_eq!(held(&mut log), before, "{dimensions:?}, {first}");
        }
    }
}

#[test]
fn owner_finds_its_checkpoint_and_every_frame_since() {
    for dimensions in [FLASH, FILE, MIRROR] {
        let mut log = new_log(dimensions);
        fill(&mut log, 60);
        let base = log.head_base();
        let (mut log, _) = open(dimensions, log.into_media());
        assert_eq!(log.checkpoint(), b"state");
        let mut next = base;
        log.replay(|found| next = found.frame.end());
        assert_eq!(next, log.view().durable);
    }
}

#[test]
fn failed_program_on_flash_burns_and_goes_on() {
    let mut log = new_log(FLASH);
    commit(&mut log, b"before");
    log.media_mut().fail_programs = 1;
    assert!(matches!(
        try_commit(&mut log, &[b"lost"]),
        Err(CommitError::Media(_))
    ));
    assert_eq!(
        log.next(),
        Offset::new(17),
        "a commit takes 16 offsets at most"
    );
    commit(&mut log, b"behind");
    let (mut log, _) = open(FLASH, log.into_media());
    assert_eq!(
        held(&mut log),
        [(0, b"before".to_vec()), (17, b"behind".to_vec())]
    );
    assert_balance(&mut log);
}

#[test]
fn failed_sync_on_files_ends_the_writer() {
    let mut log = new_log(FILE);
    log.media_mut().fail_syncs = 1;
    assert!(matches!(
        try_commit(&mut log, &[b"doubt"]),
        Err(CommitError::Media(_))
    ));
    assert_eq!(try_commit(&mut log, &[b"more"]), Err(CommitError::Failed));
    assert!(log.maintain(NOW).is_err() && log.close(NOW).is_err());
}

/// A medium that does half of each program and then waits for ever, as long as it is `stuck`.
struct Waiting {
    disk: Disk,
    stuck: bool,
}

impl Operations for Waiting {
    type Error = OutOfBounds;

    async fn read(
        &mut self,
        segment: u32,
        position: u32,
        into: &mut [u8],
    ) -> Result<(), Self::Error> {
        self.disk.read(segment, position, into)
    }

    async fn program(
        &mut self,
        segment: u32,
        position: u32,
        bytes: &[u8],
    ) -> Result<(), Self::Error> {
        if self.stuck {
            self.disk.program(segment, position, &bytes[..8])?;
            return std::future::pending().await;
        }
        self.disk.program(segment, position, bytes)
    }

    async fn erase(&mut self, segment: u32) -> Result<(), Self::Error> {
        self.disk.erase(segment)
    }

    async fn sync(&mut self) -> Result<(), Self::Error> {
        self.disk.sync()
    }

    fn misfit(&self, geometry: &Geometry) -> Option<Misfit> {
        self.disk.ram.misfit(geometry)
    }
}

/// Polls `work` once, and drops it.
fn poll<F: Future>(work: F) -> Poll<F::Output> {
    pin!(work).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn medium_that_is_lent_is_refused_when_it_is_too_small() {
    let disk = Disk::blank(&FLASH);
    let mut medium = Waiting { disk, stuck: false };
    let sector = Media::grain(&medium.disk);
    let lent = &mut medium;
    assert_eq!((sector, Operations::grain(&lent)), (512, sector));
    let larger = Dimensions {
        segment_count: 8,
        ..FLASH
    };
    let opened = poll(AsyncLog::open(lent, options(larger), FRESH, [0; 768]));
    let capacity = Misfit::Capacity {
        end: 8 * 4096,
        medium: 4 * 4096,
    };
    assert_eq!(
        opened.map(|o| o.err()),
        Poll::Ready(Some(OpenError::Misfit(capacity)))
    );
}

#[test]
fn dropped_future_is_a_torn_write() {
    let disk = Disk::blank(&FLASH);
    let medium = Waiting { disk, stuck: false };
    let opened = poll(AsyncLog::open(medium, options(FLASH), FRESH, [0; 768]));
    let Poll::Ready(Ok((mut log, _))) = opened else {
        panic!("nothing waits")
    };
    let frame = compact_frame(log.next(), log.log_id(), b"dropped");
    log.media_mut().stuck = true;
    assert!(poll(log.commit(&frame, 1, b"", NOW)).is_pending());
    log.media_mut().stuck = false;
    assert_eq!(
        poll(log.commit(&frame, 1, b"", NOW)),
        Poll::Ready(Err(CommitError::Malformed)),
        "its offset may have been taken"
    );
    let frame = compact_frame(log.next(), log.log_id(), b"behind");
    let Poll::Ready(Ok(committed)) = poll(log.commit(&frame, 1, b"", NOW)) else {
        panic!("nothing waits")
    };
    assert_eq!(committed.first, Offset::new(16));
    let (mut log, _) = open(FLASH, log.into_media().disk);
    assert_eq!(values(&mut log), ["behind"]);
}

#[test]
fn compact_records_keep_their_times_when_the_log_rolls() {
    let mut log = new_log(FLASH);
    assert_eq!(log.last_time(), NOW);
    while log.head().0 == 0 {
        let frame = timed_frame(&log, 7);
        if log.needs_maintain() {
            log.maintain(NOW).unwrap();
        }
        log.commit(&frame, 1, b"", Micros::UNKNOWN).unwrap();
    }
    let expected = NOW.get() + 7_000 * log.next().get() as i64;
    assert_eq!(log.last_time(), Micros::new(expected));
    let (log, _) = open(FLASH, log.into_media());
    assert_eq!(log.last_time(), Micros::new(expected));
}

/// On cells that are not trusted a header alone is no log: the first one is made anew, and a later one stands for the offsets before it.
#[test]
fn a_lone_header_that_is_not_trusted_is_made_anew_unless_offsets_stand_before_it() {
    let careful = Options {
        tail: Tail::Fresh,
        ..options(FLASH)
    };
    let (_, recovered) = open_with(careful, new_log(FLASH).into_media());
    assert!(recovered.formatted);
    let mut log = new_log(FLASH);
    while log.head().0 == 0 {
        fill(&mut log, 1);
    }
    let Some(Slot::Open(opened)) = log.slot(1) else {
        panic!("the commit opened segment 1")
    };
    let ram = &mut log.media_mut().ram;
    ram.erase(0).unwrap();
    let blank = vec![0xFF; (4096 - opened.data_start) as usize];
    ram.program(1, opened.data_start, &blank).unwrap();
    let (log, recovered) = open_with(careful, log.into_media());
    assert!(!recovered.formatted);
    assert!(log.next() >= opened.base);
}

/// There is no other segment, and writes have failed in this one so often that what each commit leaves free is used up. Whatever is asked of the log
/// then is done or refused, and never tried beyond the end of the segment; what was said to be done is so in the next life.
#[test]
fn a_head_that_failures_used_up_is_not_written_beyond_its_end() {
    let mut ended = [0, 0];
    for dimensions in [FLASH, FILE, MIRROR] {
        for filler in (0..100).step_by(5) {
            for failures in 0..6 {
                for what in [Asked::End, Asked::Close, Asked::Ledger, Asked::Segment] {
                    let mut log = used_up(dimensions, filler, failures);
                    let outcome = match what {
                        Asked::End => log.end(b"", NOW).map_err(|e| e.to_string()),
                        Asked::Close => log.close(NOW).map_err(|e| e.to_string()),
                        Asked::Ledger => log.save_ledger(NOW).map_err(|e| e.to_string()),
                        Asked::Segment => log.maintain(NOW).map(|_| ()).map_err(|e| e.to_string()),
                    };
                    let outside = CommitError::Media(OutOfBounds).to_string();
                    assert_ne!(outcome, Err(outside), "{what:?} {filler} {failures}");
                    let is_done = outcome.is_ok();
                    let (cursor, durable) = (log.ledger().cursor(1), log.view().durable);
                    let (log, _) = open(dimensions, log.into_media());
                    if what == Asked::End {
                        assert_eq!(log.is_ended(), is_done);
                        ended[usize::from(is_done)] += 1;
                    }
                    if is_done && what == Asked::Ledger {
                        assert_eq!(log.ledger().cursor(1), cursor);
                    }
                    assert!(log.next() >= durable);
                }
            }
        }
    }
    assert!(ended.iter().all(|&count| count > 50), "{ended:?}");
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    End,
    Close,
    Ledger,
    Segment,
}

/// A log without a spare whose head has no room for a commit, after so many writes that failed there.
fn used_up(dimensions: Dimensions, filler: usize, failures: u64) -> TestLog {
    let mut log = new_log(dimensions);
    log.media_mut().fail_erases = u64::MAX;
    commit(&mut log, &vec![0; filler]);
    while try_commit(&mut log, &[&[0; 60]]).is_ok() {}
    for uplink_at in 0..failures {
        log.set_cursor(1, Offset::new(uplink_at)).unwrap();
        log.media_mut().fail_programs = 1;
        assert!(log.save_ledger(NOW).is_err());
        log.media_mut().fail_programs = 0;
        let (segment, position) = log.head();
        // A part of it was written.
        let torn = &[0x55; 4][..(dimensions.segment_bytes - position).min(4) as usize];
        log.media_mut()
            .ram
            .program(segment, position, torn)
            .unwrap();
    }
    log.media_mut().fail_erases = 0;
    log.set_cursor(1, Offset::new(9)).unwrap();
    log
}

/// Each dimension that frames are laid out by must be what it was.
#[test]
fn a_log_of_other_dimensions_is_refused_and_not_touched() {
    let mut log = new_log(FLASH);
    fill(&mut log, 9);
    let disk = log.into_media();
    let unit = Dimensions {
        write_unit: 8,
        ..FLASH
    };
    let role = Dimensions {
        role: Role::Mirror,
        write_unit: 1,
        ..FLASH
    };
    for other in [unit, role] {
        let options = options(other);
        let scratch = vec![0; options.geometry.scratch_bytes()];
        let mut again = disk.clone();
        let opened = Log::open(&mut again, options, FRESH, scratch).map(|_| ());
        assert!(matches!(opened, Err(OpenError::Refused(_))), "{opened:?}");
        assert_eq!(again.programs + again.erases, disk.programs + disk.erases);
    }
}
