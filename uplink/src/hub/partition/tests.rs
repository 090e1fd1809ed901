//! Stories of a partition: chains of mirrors, read as one run.

use std::cell::Cell;
use std::io;
use std::path::Path;

use sedge_core::LogId;
use sedge_core::frame::{Form, Label, emit_data};
use sedge_store::{
    Batch, DataDir, MirrorOptions, Name, NoOwner, Partition as Origin, system_clock,
};

use super::*;
use crate::hub::chain::LogHex;
use crate::hub::own::{OwnLog, OwnPartition};
use crate::wire::{Place, Run, Want};

/// A partition with the number 7 in a directory of its own.
struct Given {
    partition: Partition,
    data: DataDir,
    _dir: tempfile::TempDir,
}

impl Given {
    /// A chain of logs: of each, where it ends if that is known, and how many offsets there are of it.
    fn chain(logs: &[(Option<u64>, u64)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.numbered::<Identity>("mirrors").unwrap();
        let partition = Partition::new(&identity(0, 0, None));
        let mut given = Self {
            partition,
            data,
            _dir: dir,
        };
        let mut shift = 0;
        for (&(end, next), epoch) in logs.iter().zip(0..) {
            given.join(identity(epoch, shift, end), next);
            shift += end.unwrap_or(next);
        }
        given
    }

    fn join(&mut self, identity: Identity, next: u64) {
        let (log, shift) = (LogId::new(identity.log.0), identity.shift);
        let numbered = self.data.add("mirrors", identity).unwrap();
        let options = MirrorOptions {
            capacity_bytes: 16 << 20,
            frame_bytes_max: 256 << 10,
            ..MirrorOptions::default()
        };
        let at = numbered.path.join("log");
        let (mirror, _) = Mirror::open(at, log, options, system_clock()).unwrap();
        for own in 0..next {
            let time = Micros::new(time_of(shift + own));
            mirror
                .append(&frame_of(log, own, time, &[], b"ab"))
                .unwrap();
        }
        self.partition.push(Arc::new(Member::new(numbered, mirror)));
    }

    fn read(&self, from: u64, epoch: Option<u32>) -> Option<wire::PartHead> {
        let want = Want {
            number: 7,
            from,
            epoch,
        };
        let part = self.partition.read(&want, 1 << 20).unwrap();
        assert_eq!(self.partition.has_news(&want), part.is_some(), "{want:?}");
        part.map(|part| {
            assert_eq!(part.head.frames_len as usize, part.frames.len());
            part.head
        })
    }
}

fn identity(epoch: u32, shift: u64, end: Option<u64>) -> Identity {
    Identity {
        format: 1,
        gateway: Name::new("gw-7").unwrap(),
        stream: Name::new("telemetry").unwrap(),
        partition: 3,
        log: LogHex([epoch as u8 + 1; 16]),
        number: 7,
        epoch,
        shift,
        start: 0,
        end,
    }
}

fn time_of(shifted: u64) -> i64 {
    1_000 * (shifted as i64 + 1)
}

fn frame_of(log: LogId, first: u64, time: Micros, annotation: &[u8], entries: &[u8]) -> Vec<u8> {
    let label = Label {
        form: Form::Explicit,
        first: Offset::new(first),
        time,
        first_of_commit: true,
    };
    let mut bytes = vec![0; 128 + entries.len()];
    let len = emit_data(&mut bytes, &log, label, 1, annotation, entries).unwrap();
    bytes.truncate(len);
    bytes
}

/// The first log is whole, the second has three of eight, and the third stands behind what is still to come.
fn split() -> Given {
    Given::chain(&[(Some(5), 5), (Some(8), 3), (None, 4)])
}

#[test]
fn each_offset_is_read_in_the_log_that_it_stands_in_up_to_the_end_of_its_run() {
    let given = split();
    for epoch in [None, Some(0), Some(1), Some(2), Some(3)] {
        // Another log joined behind the epoch that the reader knows.
        let cut = epoch.and_then(|known| [0, 5, 13].into_iter().nth(known as usize + 1));
        for asked in 0..20 {
            let from = asked.min(cut.unwrap_or(asked));
            let stands = match from {
                0..5 => Some((0, 0, 5)),
                5..8 => Some((1, 5, 8)),
                13..17 => Some((2, 13, 17)),
                _ => None,
            };
            let read = given.read(asked, epoch);
            let head = read.as_ref().map(|h| (h.epoch, h.shift, h.next));
            assert_eq!(head, stands, "{asked} behind {epoch:?}");
            let Some(head) = read else { continue };
            assert_eq!((head.number, head.from), (7, from));
            assert_eq!((head.log_id[0], head.earliest), (head.epoch as u8 + 1, 0));
            assert_eq!(head.end, 8, "there the first run ends");
            let seam = wire::Gap {
                from,
                to: from,
                lost: 0,
                cause: Cause::NewLog.code(),
                when: time_of(from),
                when_last: time_of(from),
            };
            let is_seam = [5, 13].contains(&from);
            assert_eq!(head.gaps, is_seam.then_some(seam).as_slice(), "{from}");
        }
    }
}

/// Mirrors whose identities have rotted are set aside. Who reads is led over what is missing, once all before it is there. (What only waits to be opened is no gap:
/// `a_mirror_that_waits_to_be_opened_is_no_gap` in the registry's tests.)
#[test]
fn what_is_missing_between_mirrors_or_before_the_first_is_a_gap() {
    let gap_at = |given: &Given, from| {
        let head = given.read(from, None)?;
        let gap = head.gaps.iter().find(|gap| gap.to > gap.from);
        Some(gap.map(|gap| {
            assert_eq!((gap.from, gap.lost), (from, gap.to - gap.from));
            assert_eq!(gap.cause, Cause::Corrupt.code());
            assert_eq!((head.next, head.frames_len), (gap.to, 0));
            (gap.to, head.epoch)
        }))
    };
    let gap_to = |to, epoch| Some(Some((to, epoch)));
    let there = Some(None);
    let mut given = Given::chain(&[(Some(5), 5)]);
    given.join(identity(2, 8, Some(4)), 4);
    given.join(identity(4, 20, None), 1);
    let from = |from| gap_at(&given, from);
    assert_eq!([0, 4, 8, 11, 20].map(from), [there; 5]);
    assert_eq!([5, 7].map(from), [gap_to(8, 2); 2]);
    assert_eq!([12, 19].map(from), [gap_to(20, 4); 2]);
    assert_eq!(from(21), None);
    let mut first_missing = Given::chain(&[]);
    first_missing.join(identity(1, 5, None), 3);
    let from = |from| gap_at(&first_missing, from);
    assert_eq!([0, 4].map(from), [gap_to(5, 1); 2]);
    assert_eq!([5, 8].map(from), [there, None]);
    let mut filling = Given::chain(&[(Some(5), 3)]);
    filling.join(identity(2, 8, None), 4);
    let from = |from| gap_at(&filling, from);
    assert_eq!([2, 3, 5, 7, 8].map(from), [there, None, None, None, there]);
}

#[test]
fn a_partition_tells_its_runs() {
    let given = split();
    let told = given.partition.describe();
    assert_eq!(
        (
            told.number,
            told.partition,
            told.epoch,
            told.earliest,
            told.end
        ),
        (7, 3, 1, 0, 8)
    );
    assert_eq!(
        (told.gateway.as_str(), told.stream.as_str()),
        ("gw-7", "telemetry")
    );
    let ahead = Run {
        first: 13,
        end: 17,
        epoch: 2,
    };
    assert_eq!(told.ahead, [ahead]);
    let runs = |given: &Given| given.partition.runs().collect::<Vec<_>>();
    assert_eq!(runs(&given), [(7, 0), (7, 13)]);
    assert_eq!(runs(&Given::chain(&[(Some(5), 5), (None, 3)])), [(7, 0)]);
    assert_eq!(
        runs(&Given::chain(&[(Some(5), 3), (None, 3)])),
        [(7, 0), (7, 5)]
    );
    assert_eq!(runs(&Given::chain(&[])), [(7, 0)]);
}

#[test]
fn a_time_is_found_in_each_run() {
    let given = split();
    for time in 0..20_000 {
        if !(time % 1_000 < 2 || time % 1_000 == 999) {
            continue;
        }
        let found = given.partition.offsets_for_time(Micros::new(time)).unwrap();
        let first_of = |mut run: std::ops::Range<u64>| {
            let end = run.end;
            run.find(|at| time_of(*at) >= time).unwrap_or(end)
        };
        let place = |first, next| Place {
            number: 7,
            first,
            next,
        };
        let each = [place(0, first_of(0..8)), place(13, first_of(13..17))];
        assert_eq!(found, each, "{time}");
    }
}

/// All times at once are found where each is alone: in runs, over the ends of logs and of segments, where many are of one frame and where clocks went back.
#[test]
fn many_times_are_found_where_each_is() {
    let split = split();
    let large = Given::chain(&[(Some(0), 0), (None, 0)]);
    let log = &large.partition.members()[1].mirror;
    let entries = vec![0; 250 << 10];
    // Four of them fill a segment.
    let taken = [5, 9, 9, 12, 12, 12, 30, 8, 31, 40, 41, 42, 3, 50];
    for (own, time) in (0..).zip(taken) {
        let frame = frame_of(log.log_id(), own, Micros::new(1_000 * time), &[], &entries);
        log.append(&frame).unwrap();
    }
    let every = |step: usize| {
        (0..60_000)
            .step_by(step)
            .map(Micros::new)
            .collect::<Vec<_>>()
    };
    for given in [split, large] {
        let partition = &given.partition;
        for times in [every(100), every(7_000), every(60_000)] {
            let each = |time: &Micros| {
                let places = partition.offsets_for_time(*time).unwrap();
                places.iter().map(|place| place.next - place.first).sum()
            };
            let one_by_one: Vec<u64> = times.iter().map(each).collect();
            assert_eq!(
                partition.offsets_before(&times, &|| true).unwrap(),
                one_by_one
            );
        }
        assert!(partition.offsets_before(&[], &|| true).unwrap().is_empty());
        let given_up = partition.offsets_before(&every(100), &|| false);
        assert!(given_up.is_err(), "nobody asks any more");
    }
}

#[test]
fn it_is_known_when_something_was_taken() {
    let given = split();
    let taken = |offset| given.partition.taken_at(offset).unwrap();
    for offset in [0, 4, 5, 7, 13, 16] {
        assert_eq!(taken(offset), Some(time_of(offset)));
    }
    assert_eq!((taken(8), taken(12), taken(17)), (None, None, None));
    assert_eq!(given.partition.last_offset(), Some(16));
    assert_eq!(Given::chain(&[(None, 0)]).partition.last_offset(), None);
    // By the uptime of a start whose beginning was told.
    let mut given = Given::chain(&[]);
    given.join(identity(0, 0, None), 0);
    let mirror = &given.partition.members()[0].mirror;
    for (own, start, told) in [(0, 8, &[][..]), (1, 9, &[0, 3, 1, 9, 2 * 20])] {
        let time = Micros::of_uptime(start, 5);
        let frame = frame_of(mirror.log_id(), own, time, told, b"ab");
        mirror.append(&frame).unwrap();
    }
    let taken = |offset| given.partition.taken_at(offset).unwrap();
    assert_eq!((taken(0), taken(1)), (None, Some(25)));
}

/// Of what a log held some is gone, and one that holds nothing is none to begin with.
#[test]
fn the_earliest_is_the_first_that_is_held_in_any_log() {
    let given = Given::chain(&[(Some(2), 2), (None, 0)]);
    assert_eq!(given.partition.earliest(), 0);
    // Four of them fill a segment.
    let second = &given.partition.members()[1].mirror;
    let large = vec![0; 250 << 10];
    for own in 0..6 {
        let frame = frame_of(second.log_id(), own, Micros::new(1), &[], &large);
        second.append(&frame).unwrap();
    }
    let first = &given.partition.members()[0].mirror;
    let tomorrow = Micros::new(system_clock()().get() + 86_400_000_000);
    assert!(!first.expire(tomorrow).unwrap() && second.expire(tomorrow).unwrap());
    assert_eq!(given.partition.earliest(), 0);
    let gaps = given.read(3, None).unwrap().gaps;
    let gap = gaps.first().map(|gap| (gap.from, gap.to, gap.lost));
    assert_eq!(gap, Some((3, 6, 3)));
    let alone = Partition::new(&identity(0, 0, None));
    alone.push(Arc::clone(&given.partition.members()[1]));
    assert_eq!(alone.earliest(), 6);
    let nothing = Given::chain(&[(Some(5), 0), (None, 0)]);
    assert_eq!(nothing.partition.earliest(), 0);
    let later = Given::chain(&[(Some(5), 0), (None, 1)]);
    assert_eq!(later.partition.earliest(), 5);
}

/// The gateway learned the time in a log that came later, or had learned it in one before; what the log itself says goes before both.
#[test]
fn what_another_log_of_the_chain_told_of_a_start_is_known_in_all() {
    let mut given = Given::chain(&[]);
    // Of start 9, began at 20, 21 and 22 µs: count, length, kind, start and time in zigzag.
    let told = |unix_us: u8| [0, 3, 1, 9, 2 * unix_us];
    for (epoch, tells) in [(0, None), (1, Some(20)), (2, Some(21)), (3, None)] {
        given.join(identity(epoch, u64::from(epoch), Some(1)), 0);
        let member = given.partition.members().pop().unwrap();
        let time = Micros::of_uptime(9, 5);
        let annotation = tells.map(told);
        let annotation = annotation.as_ref().map_or(&[][..], |told| told);
        let frame = frame_of(member.log_id(), 0, time, annotation, b"ab");
        member.mirror.append(&frame).unwrap();
    }
    let beginnings = |from| given.read(from, None).unwrap().beginnings;
    assert_eq!(
        [0, 1, 2, 3].map(beginnings),
        [20, 20, 21, 20].map(|at| vec![(9, at)])
    );
}

#[test]
fn an_end_is_fixed_once_and_stands_in_the_identity() {
    let given = Given::chain(&[(None, 3)]);
    let member = &given.partition.members()[0];
    for end in [9, 9] {
        member.fix_end(end).unwrap();
        assert_eq!(member.link().end, Some(9));
    }
    let there = given.data.numbered::<Identity>("mirrors").unwrap();
    assert_eq!(there.found()[0].identity, identity(0, 0, Some(9)));
    assert!(given.partition.is_of(&identity(4, 1, None)));
    for other in [
        Identity {
            number: 8,
            ..identity(0, 0, None)
        },
        Identity {
            stream: Name::new("alarms").unwrap(),
            ..identity(0, 0, None)
        },
    ] {
        assert!(!given.partition.is_of(&other));
    }
}

fn frame_at(time: Micros) -> Vec<u8> {
    let label = Label {
        form: Form::Explicit,
        first: Offset::ZERO,
        time,
        first_of_commit: false,
    };
    let mut bytes = [0; 64];
    let len = emit_data(&mut bytes, &LogId::new([7; 16]), label, 1, &[], b"ab").unwrap();
    bytes[..len].to_vec()
}

fn frames_of(starts: impl IntoIterator<Item = u16>) -> Vec<u8> {
    let starts = starts.into_iter();
    starts
        .flat_map(|start| frame_at(Micros::of_uptime(start, 9)))
        .collect()
}

#[test]
fn beginnings_of_the_starts_in_the_frames_are_told_each_once() {
    let told: Vec<_> = (1..=9)
        .map(|start| Beginning {
            start,
            unix_us: i64::from(start) * 100,
        })
        .collect();
    let found = |frames: &[u8]| beginnings_told(&told, frames);
    assert_eq!(found(&frames_of([3, 3, 1, 77, 3])), [(3, 300), (1, 100)]);
    let with_time = [frame_at(Micros::new(5)), frames_of([2])].concat();
    assert_eq!(found(&with_time), [(2, 200)]);
    assert_eq!(found(&frames_of(1..=9)).len(), BEGINNINGS_MAX);
    assert_eq!(found(&[]), []);
    assert_eq!(beginnings_told(&[], &frames_of([1])), []);
}

/// Two logs of a gateway, four events each, of which the first has ended.
async fn own_logs(dirs: [&Path; 2]) -> OwnPartition {
    let mut logs = Vec::new();
    for (dir, epoch) in dirs.into_iter().zip(0..) {
        let opened = Origin::open(dir, Default::default(), Box::new(NoOwner), system_clock());
        let log = opened.unwrap().0;
        let (mut producer, mut settled) = (log.producer(), log.settled());
        let mut batch = Batch::new();
        for _ in 0..4 {
            batch.push(|unit| unit.record(None, None, &[], b"an event"), &[]);
        }
        let ticket = producer.stage(&batch).unwrap();
        settled.wait_for(|at| *at >= ticket).await.unwrap();
        logs.push(OwnLog {
            log,
            epoch,
            shift: u64::from(epoch) * 4,
            is_ended: epoch == 0,
            time: Arc::new(system_clock()),
        });
    }
    OwnPartition {
        gateway: Name::new("gw-1").unwrap(),
        stream: Name::new("telemetry").unwrap(),
        partition: 0,
        logs,
        removed_to: 0,
    }
}

/// As the agent does: it says so first, and then the files go. What of them was open is read to its end.
#[tokio::test]
async fn a_log_that_is_removed_under_a_look_is_looked_for_again_and_what_it_held_is_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["0000", "0001"].map(|name| dir.path().join(name));
    let own = own_logs([&first, &second]).await;
    let gone = own.logs[0].log.log_id();
    let partition = Partition::own(own);
    let want = |from| Want {
        number: 0,
        from,
        epoch: None,
    };
    let head = |from| partition.read(&want(from), 1_000).unwrap().unwrap().head;
    assert_eq!((head(1).epoch, head(5).epoch), (0, 1));

    let looks = Cell::new(0);
    let seen = partition.in_logs(|logs, links| {
        looks.set(looks.get() + 1);
        if logs.len() == 2 {
            partition.let_go(gone);
            // A segment that was not open yet.
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        }
        partition.read_in(logs, links, &want(1), 1_000)
    });
    assert_eq!(looks.get(), 2);
    let head = seen.unwrap().unwrap().head;
    assert_eq!((head.epoch, head.from), (1, 1), "{head:?}");
    let gaps = head.gaps.iter().map(|gap| (gap.from, gap.to, gap.lost));
    assert_eq!(gaps.collect::<Vec<_>>(), [(1, 4, 3)]);
}
