//! Stories about a partition: what is settled stays, what is read was written, what fails is never acknowledged.

mod fixture;

use std::fs;

use fixture::{Given, Shown, file_of, payloads, read_all};
use sedge_core::frame::Frame;
use sedge_core::log::WhenFull;
use sedge_core::{Cause, Micros, Offset};
use sedge_store::{Batch, ReadError, StageError, inspect};

#[test]
fn what_was_settled_is_read_back_in_order() {
    let given = Given::default();
    let partition = given.open();
    let mut producer = partition.producer();
    let values: Vec<String> = (0..1000).map(|n| format!("value {n}")).collect();
    for value in &values {
        fixture::stage(&partition, &mut producer, value.as_bytes());
    }
    fixture::settle(&partition, &mut producer);
    assert_eq!(payloads(&read_all(&partition, Offset::ZERO)), values);
}

#[test]
fn a_clean_stop_burns_nothing_and_goes_on_where_it_was() {
    let given = Given::default();
    let partition = given.open();
    fixture::put(&partition, &["one", "two"]);
    partition.close();
    let next = partition.next();
    drop(partition);
    let partition = given.open();
    assert_eq!(partition.next(), next);
    fixture::put(&partition, &["three"]);
    assert_eq!(
        payloads(&read_all(&partition, Offset::ZERO)),
        ["one", "two", "three"]
    );
    assert_eq!(partition.ledger().skipped, 0);
}

#[test]
fn a_kill_burns_offsets_and_loses_nothing() {
    let given = Given::default();
    for life in ["one", "two", "three"] {
        fixture::put(&given.open(), &[life]);
    }
    let partition = given.open();
    assert_eq!(
        payloads(&read_all(&partition, Offset::ZERO)),
        ["one", "two", "three"]
    );
    assert!(partition.ledger().skipped > 0);
}

#[test]
fn reopening_without_input_writes_nothing() {
    let given = Given::default();
    fixture::put(&given.open(), &["one"]);
    let before = given.bytes();
    for _ in 0..100 {
        drop(given.open());
    }
    assert_eq!(given.bytes(), before);
}

#[test]
fn an_empty_batch_takes_no_offset() {
    let given = Given::default();
    let partition = given.open();
    let mut batch = Batch::new();
    batch.push(|_| {}, b"nothing");
    assert!(batch.is_empty());
    assert_eq!(partition.next(), Offset::ZERO);
}

#[test]
fn a_full_log_evicts_the_oldest_and_says_how_many() {
    let given = Given::default();
    let partition = given.open();
    let mut producer = partition.producer();
    let value = "x".repeat(1000);
    let staged = 3000;
    for _ in 0..staged {
        fixture::stage(&partition, &mut producer, value.as_bytes());
    }
    fixture::settle(&partition, &mut producer);
    partition.close();
    let shown = read_all(&partition, Offset::ZERO);
    let gaps = fixture::gaps(&shown);
    let lost: u64 = gaps.iter().map(|gap| gap.lost).sum();
    assert_eq!(gaps.len(), 1, "one gap, at the beginning");
    assert_eq!(gaps[0].cause, Cause::Evicted);
    assert_eq!(lost + payloads(&shown).len() as u64, staged);
    let ledger = partition.ledger();
    assert_eq!(ledger.evicted, lost);
    assert_eq!(partition.oldest(), gaps[0].to);
}

#[test]
fn a_full_log_that_may_not_evict_waits_for_the_uplink() {
    let mut given = Given::default();
    given.options.when_full = WhenFull::Refuse;
    given.options.staged_bytes_max = 64 << 10;
    let partition = given.open();
    partition.set_cursor(1, Offset::ZERO);
    let mut producer = partition.producer();
    let value = "x".repeat(1000);
    while fixture::try_stage(&mut producer, value.as_bytes()).is_ok() || !partition.stats().full {
        std::thread::yield_now();
    }
    let held = partition.next();
    assert_eq!(partition.ledger().evicted, 0);
    partition.set_cursor(1, held);
    fixture::wait_until(&partition, |_, durable| durable > held);
    assert_eq!(partition.ledger().evicted, 0);
    assert!(partition.ledger().handed_over > 0);
}

#[test]
fn a_cursor_survives_a_clean_stop() {
    let given = Given::default();
    let partition = given.open();
    fixture::put(&partition, &["one", "two"]);
    partition.set_cursor(7, Offset::new(1));
    partition.close();
    drop(partition);
    let partition = given.open();
    assert_eq!(partition.cursor(7).unwrap().next, Offset::new(1));
}

#[test]
fn the_crc_below_an_offset_is_that_of_the_frame_that_ends_there() {
    let given = Given::default();
    let partition = given.open();
    fixture::put(&partition, &["one"]);
    fixture::put(&partition, &["two"]);
    let chunk = partition.read(Offset::ZERO, 1 << 20).unwrap();
    let (first, len) = Frame::parse(&chunk.frames, &partition.log_id(), None).unwrap();
    let (second, _) = Frame::parse(&chunk.frames[len..], &partition.log_id(), None).unwrap();
    assert_eq!(
        partition.crc_below(first.end()).unwrap(),
        Some(first.header.crc)
    );
    assert_eq!(
        partition.crc_below(second.end()).unwrap(),
        Some(second.header.crc)
    );
    assert_eq!(partition.crc_below(Offset::ZERO).unwrap(), None);
}

#[test]
fn a_time_leads_to_the_first_frame_made_then() {
    let given = Given::default();
    let partition = given.open();
    for value in ["one", "two", "three"] {
        fixture::put(&partition, &[value]);
    }
    let chunk = partition.read(Offset::new(1), 1).unwrap();
    let (second, _) = Frame::parse(&chunk.frames, &partition.log_id(), None).unwrap();
    assert_eq!(
        partition.offset_for_time(second.header.time).unwrap(),
        Offset::new(1)
    );
    assert_eq!(
        partition.offset_for_time(Micros::new(0)).unwrap(),
        Offset::ZERO
    );
    assert_eq!(
        partition.offset_for_time(Micros::new(i64::MAX)).unwrap(),
        partition.next()
    );
}

#[test]
fn a_rotten_frame_is_a_gap_and_its_neighbours_stay() {
    let given = Given::default();
    let partition = given.open();
    for value in ["one", "two", "three"] {
        fixture::put(&partition, &[value]);
    }
    given.flip("seg-00000.log", b"two");
    let shown = read_all(&partition, Offset::ZERO);
    assert_eq!(payloads(&shown), ["one", "three"]);
    let [gap] = fixture::gaps(&shown)[..] else {
        panic!("one gap")
    };
    assert_eq!(
        (gap.from, gap.to, gap.cause),
        (Offset::new(1), Offset::new(2), Cause::Corrupt)
    );
}

/// Its name is another one for a moment, just when the log goes on in it: the disk does not give back what was written. Whoever reads later finds it.
#[test]
fn a_segment_that_cannot_be_read_when_it_is_opened_is_known_to_readers() {
    let given = Given::default();
    let partition = given.open();
    let log = given.dir.path().join("log");
    let value = "x".repeat(15_000);
    fixture::put(&partition, &[&value]);
    let is_ready = || {
        let spare = inspect(&log).unwrap().segments.into_iter();
        spare.into_iter().find(|segment| segment.state == "spare")
    };
    let spare = std::iter::repeat_with(is_ready)
        .take(100_000)
        .flatten()
        .next();
    let name = file_of(&log, &spare.expect("the log makes a segment ready in time"));
    let aside = name.with_extension("aside");
    fs::rename(&name, &aside).unwrap();
    for _ in 1..20 {
        fixture::put(&partition, &[&value]);
    }
    fs::rename(&aside, &name).unwrap();
    let shown = read_all(&partition, Offset::ZERO);
    assert_eq!(payloads(&shown).len(), 20);
    assert_eq!(shown.len(), 20, "no gap");
}

#[test]
fn a_large_record_makes_a_frame_of_its_own_and_a_larger_one_is_refused() {
    let given = Given::default();
    let partition = given.open();
    let large = "x".repeat(15 << 10);
    fixture::put(&partition, &["small", &large, "small"]);
    assert_eq!(
        payloads(&read_all(&partition, Offset::ZERO)),
        ["small", &large, "small"]
    );
    let refused = fixture::try_stage(&mut partition.producer(), &[b'x'; 80 << 10]);
    assert!(
        matches!(refused, Err(StageError::TooLarge { .. })),
        "{refused:?}"
    );
}

#[test]
fn event_times_survive_the_change_of_frame() {
    let given = Given::default();
    let partition = given.open();
    let mut producer = partition.producer();
    let mut batch = Batch::new();
    let times = [5, 1_000_000, -7, 2_000_000_000];
    for time in times {
        batch.push(
            |unit| {
                unit.record(
                    Some(Micros::new(time)),
                    Some(b"k"),
                    &[("topic", b"t")],
                    b"v",
                )
            },
            b"",
        );
    }
    producer.stage(&batch).unwrap();
    fixture::settle(&partition, &mut producer);
    let chunk = partition.read(Offset::ZERO, 1 << 20).unwrap();
    let (frame, _) = Frame::parse(&chunk.frames, &partition.log_id(), None).unwrap();
    let seen: Vec<_> = frame
        .entries()
        .map(|(_, e)| e.time().unwrap() + frame.header.time.get())
        .collect();
    assert_eq!(seen, times);
}

#[test]
fn a_reader_beyond_the_durable_end_is_told_where_it_is() {
    let given = Given::default();
    let partition = given.open();
    fixture::put(&partition, &["one"]);
    let refused = partition.read(Offset::new(2), 1024);
    assert!(matches!(refused, Err(ReadError::Beyond { durable, .. }) if durable == Offset::new(1)));
    let end = partition.read(Offset::new(1), 1024).unwrap();
    assert!(end.frames.is_empty() && end.gap.is_none() && end.next == Offset::new(1));
}

#[test]
fn an_ended_log_takes_nothing_more_and_is_still_read() {
    let given = Given::default();
    let partition = given.open();
    fixture::put(&partition, &["one"]);
    partition.end();
    assert_eq!(
        fixture::try_stage(&mut partition.producer(), b"two").unwrap_err(),
        StageError::Closed
    );
    drop(partition);
    let partition = given.open();
    assert_eq!(
        fixture::try_stage(&mut partition.producer(), b"two").unwrap_err(),
        StageError::Closed
    );
    assert_eq!(payloads(&read_all(&partition, Offset::ZERO)), ["one"]);
}

/// The life before was killed, so offsets are burned before the end is written. A hub that was told of less would take the log of the next life for one that
/// has gone on.
#[test]
fn a_log_ends_where_the_next_life_finds_its_end() {
    let given = Given::default();
    fixture::put(&given.open(), &["one"]);
    let partition = given.open();
    partition.end();
    let (next, durable) = (partition.next(), *partition.durable().borrow());
    assert_eq!((next, next.get() > 1), (durable, true));
    assert_eq!(payloads(&read_all(&partition, Offset::ZERO)), ["one"]);
    drop(partition);
    assert_eq!(given.open().next(), next);
}

/// A log of an earlier arrangement of partitions drains: its uplink goes on, the agent stops and starts.
#[test]
fn an_ended_log_drains_and_closes_without_a_word_behind_its_end() {
    let given = Given::default();
    let partition = given.open();
    fixture::put(&partition, &["one"]);
    partition.end();
    drop(partition);
    let before = given.bytes();
    let partition = given.open();
    partition.set_cursor(1, partition.next());
    assert_eq!(partition.cursor(1).unwrap().next, partition.next());
    partition.close();
    assert!(!partition.stats().failed);
    assert_eq!(given.bytes(), before);
}

/// Each life ends with a kill, so that the next burns 65,536 offsets. Wherever a reader stands in the backlog, it is told how many
/// events lie before it, and no burned offset is one.
#[test]
fn a_backlog_of_unclean_lives_is_counted_in_events() {
    let given = Given::default();
    for life in 0..3 {
        let partition = given.open();
        let mut producer = partition.producer();
        for n in 0..250 {
            let value = format!("{life} {n:01000}");
            fixture::stage(&partition, &mut producer, value.as_bytes());
        }
        fixture::settle(&partition, &mut producer);
    }
    let partition = given.open();
    let held: Vec<Offset> = read_all(&partition, Offset::ZERO)
        .iter()
        .filter_map(|shown| match shown {
            Shown::Value(offset, _) => Some(*offset),
            Shown::Gap(_) => None,
        })
        .collect();
    assert!(partition.ledger().skipped >= 2 * 65_536);
    assert_eq!(held.len(), 750, "nothing was evicted");
    let segments = partition.stats().segments_held;
    assert!(segments > 2, "the backlog spans {segments} segments");
    assert_eq!(partition.events_from(Offset::ZERO).unwrap(), 750);
    for (at, offset) in held.iter().enumerate() {
        let before = (held.len() - at) as u64;
        assert_eq!(partition.events_from(*offset).unwrap(), before);
        assert_eq!(partition.events_from(*offset + 1).unwrap(), before - 1);
    }
    assert_eq!(partition.events_from(partition.next()).unwrap(), 0);
    fixture::put(&partition, &["of this life"]);
    assert_eq!(partition.events_from(Offset::ZERO).unwrap(), 751);
    assert_eq!(partition.events_from(held[749] + 1).unwrap(), 1);
}

/// What was evicted is lost, and no event that waits.
#[test]
fn a_reader_that_was_overtaken_waits_for_what_is_held() {
    let given = Given::default();
    let partition = given.open();
    let mut producer = partition.producer();
    for _ in 0..3000 {
        fixture::stage(&partition, &mut producer, &[b'x'; 1000]);
    }
    fixture::settle(&partition, &mut producer);
    partition.close();
    let held = partition.next().since(partition.oldest());
    assert!(partition.ledger().evicted > 0);
    assert_eq!(partition.events_from(Offset::ZERO).unwrap(), held);
}

/// An operator is told when a log is full from what room it has: that must be so, to within a segment.
#[test]
fn as_many_bytes_as_there_is_room_for_are_written_before_the_oldest_gives_way() {
    let given = Given::default();
    let partition = given.open();
    let mut producer = partition.producer();
    fixture::put(&partition, &["the oldest"]);
    let (room, before) = (partition.room_before(Offset::ZERO), partition.stats().bytes);
    let value = "x".repeat(4000);
    let puts_most = 2 * given.options.capacity_bytes / value.len() as u64;
    for _ in 0..puts_most {
        if partition.ledger().evicted > 0 {
            break;
        }
        fixture::stage(&partition, &mut producer, value.as_bytes());
        fixture::settle(&partition, &mut producer);
    }
    assert!(partition.ledger().evicted > 0, "{:?}", partition.ledger());
    let written = partition.stats().bytes - before;
    let segment_bytes = given.options.capacity_bytes / partition.stats().segments;
    assert!(
        written.abs_diff(room) <= segment_bytes,
        "{written} bytes were written, {room} was said"
    );
    let room = partition.room_before(partition.next());
    assert!(room > given.options.capacity_bytes / 2, "{room}");
    assert!(partition.room_before(partition.oldest()) < 2 * segment_bytes);
}

/// An uplink's cursor is behind what the hub has when the power fails; the log lets go of both places, and the power fails again. How many records the hub has
/// above the cursor is still known: had any offset of so short a stretch been burned, all of it had been.
#[test]
fn how_many_records_stood_in_a_short_stretch_is_known_in_any_life() {
    let given = Given::default();
    for _ in 0..2 {
        let held = fixture::fill(&given);
        assert!(held > 100);
    }
    let partition = given.open();
    assert!(partition.oldest() > Offset::new(100));
    let between = |from, to| partition.records_between(Offset::new(from), Offset::new(to));
    assert_eq!(between(44, 61), Some(17));
    assert_eq!(between(44, 44 + 65_536), None);
}
