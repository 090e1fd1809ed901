//! Stories of a log whose end a disk does not give any more.

mod fixture;

use fixture::*;
use sedge_core::log::Options;
use sedge_core::read::{Read, Reader};
use sedge_core::{Cause, Offset};

/// Whoever could not read the end of a log does not know what was acknowledged there: the gap behind it is no torn commit that nobody has seen, its offsets are
/// more than can have stood there, and nothing is written where a disk would have to read first.
#[test]
fn end_of_a_head_that_cannot_be_read_is_a_corrupt_gap_and_nothing_is_written_there() {
    for (dimensions, is_closed) in [(FILE, false), (FILE, true), (MIRROR, false)] {
        let mut log = new_log(dimensions);
        fill(&mut log, 12);
        if is_closed {
            log.close(NOW).unwrap();
        }
        let (had, head) = (held(&mut log), log.head());
        let sector = (head.1 - 400) / 512 * 512;
        let mut disk = log.into_media();
        disk.unread = Some((head.0, sector));
        let (mut log, recovered) = open(dimensions, disk);
        let durable = log.view().durable.get();
        assert!((6..12).contains(&durable), "{durable}");
        let is_mirror = dimensions == MIRROR;
        assert_eq!(recovered.clean, is_mirror);
        assert_eq!(log.next().get() > 12, !is_mirror, "{}", log.next());
        log.maintain(NOW).unwrap();
        let behind = commit(&mut log, b"behind");
        assert_ne!(behind.segment, head.0);
        let gaps = gaps_from(&mut log, durable);
        let gap = (Offset::new(durable), behind.first, 0, Cause::Corrupt);
        assert_eq!(gaps, if is_mirror { vec![] } else { vec![gap] });
        log.media_mut().unread = None; // it can be read again
        let (mut log, _) = open(dimensions, log.into_media());
        let mut holds = had[..durable as usize].to_vec();
        holds.push((behind.first.get(), b"behind".to_vec()));
        assert_eq!(held(&mut log), holds);
        assert_balance(&mut log);
    }
}

/// Power fails anywhere in the first commit behind such an end, or a copy of the head was made and nothing committed: the next life, too, knows that something
/// was lost there, though it does not look at the old segment again.
#[test]
fn what_cannot_be_read_is_not_forgotten_by_a_life_that_comes_to_nothing() {
    let ended = |log: &TestLog| (log.head().0, (log.head().1 - 400) / 512 * 512);
    for programs in 0..5 {
        for suspect in [None, Some(0)] {
            let mut log = new_log(FILE);
            fill(&mut log, 12);
            let unread = ended(&log);
            let mut disk = log.into_media();
            disk.unread = Some(unread);
            let careful = Options {
                suspect,
                ..options(FILE)
            };
            let (mut log, recovered) = open_with(careful, disk);
            assert_eq!(recovered.copied, suspect.is_some());
            let gap = gaps_from(&mut log, 0).first().map(|gap| gap.0);
            let durable = gap.unwrap_or(log.view().durable).get();
            log.maintain(NOW).unwrap();
            let disk = log.media_mut();
            (disk.pass_programs, disk.fail_programs) = (programs, 1000);
            let tried = try_commit(&mut log, &[b"cut short"]);
            let mut disk = log.into_media();
            (disk.pass_programs, disk.fail_programs) = (0, 0);
            let (mut log, _) = open(FILE, disk);
            if log.needs_maintain() {
                log.maintain(NOW).unwrap();
            }
            let behind = try_commit(&mut log, &[b"behind"]).unwrap();
            let lost = |gap: &(Offset, Offset, u64, Cause)| gap.3 == Cause::Corrupt;
            let gaps = gaps_from(&mut log, durable);
            let told: Vec<_> = gaps.iter().filter(|gap| lost(gap)).collect();
            assert_eq!(told.len(), 1, "{programs} {suspect:?} {tried:?} {gaps:?}");
            assert_eq!(told[0].0, Offset::new(durable));
            assert!(told[0].1 > Offset::new(12) && told[0].1 <= behind.first);
        }
    }
}

fn gaps_from(log: &mut TestLog, from: u64) -> Vec<(Offset, Offset, u64, Cause)> {
    let mut reader = Reader::new(log.log_id(), *log.geometry(), Offset::new(from));
    let mut gaps = Vec::new();
    while let Read::Frame { frame, .. } = log.read(&mut reader) {
        let gap = frame.gap();
        gaps.extend(gap.map(|gap| (gap.from, gap.to, gap.lost, gap.cause)));
    }
    gaps
}

/// Nothing follows an end, whatever stands behind it.
#[test]
fn an_ended_log_stays_so_though_what_is_behind_its_end_cannot_be_read() {
    let mut log = new_log(FILE);
    fill(&mut log, 5);
    log.end(&[], NOW).unwrap();
    let (segment, end) = log.head();
    let mut disk = log.into_media();
    disk.unread = Some((segment, end.next_multiple_of(512)));
    let (log, recovered) = open(FILE, disk);
    assert!(log.is_ended() && recovered.clean);
    assert_eq!(log.next(), Offset::new(5));
}
