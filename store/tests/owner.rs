//! Stories about the state beside the records: it is durable with them, in their order, whatever segment they stand in.

mod fixture;

use std::sync::{Arc, Mutex};

use fixture::Given;
use sedge_core::Offset;
use sedge_store::{Batch, Owner, Partition, StageError, Ticket};

/// Remembers the last number it was told, how many it was told in all, and the notes.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    last: u64,
    units: u64,
    notes: Vec<u8>,
    out_of_order: bool,
    next: Offset,
}

#[derive(Clone, Debug, Default)]
struct Counter(Arc<Mutex<Told>>);

impl Owner for Counter {
    fn restore(&mut self, checkpoint: &[u8]) {
        let mut told = Told::default();
        if let Some((numbers, notes)) = checkpoint.split_at_checked(24) {
            let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().unwrap());
            told = Told {
                last: number(0),
                units: number(8),
                next: Offset::new(number(16)),
                notes: notes.to_vec(),
                ..told
            };
        }
        *self.0.lock().unwrap() = told;
    }

    fn apply(&mut self, item: &[u8], entries: &[u8], first: Offset, _: Ticket) {
        let mut told = self.0.lock().unwrap();
        let number = u64::from_le_bytes(item.try_into().unwrap());
        told.out_of_order |= number != told.last + 1 || first < told.next || entries.len() < 500;
        told.last = number;
        told.units += 1;
        told.next = first + 2;
    }

    fn note(&mut self, item: &[u8]) {
        self.0.lock().unwrap().notes.extend_from_slice(item);
    }

    fn checkpoint(&mut self, into: &mut Vec<u8>, _: usize) {
        let told = self.0.lock().unwrap();
        into.extend_from_slice(&told.last.to_le_bytes());
        into.extend_from_slice(&told.units.to_le_bytes());
        into.extend_from_slice(&told.next.get().to_le_bytes());
        into.extend_from_slice(&told.notes);
    }
}

#[test]
fn an_owner_is_told_of_everything_once_and_in_order() {
    let given = Given::default();
    let counter = Counter::default();
    let partition = given.open_with(Box::new(counter.clone()));
    put(&partition, 1..=500);
    let told = counter.0.lock().unwrap().clone();
    assert_eq!(
        (told.last, told.units, told.out_of_order),
        (500, 500, false)
    );
    assert_eq!(told.notes, b"nnnnn");
}

/// 500 units of a kilobyte roll through several segments of the ring, and the process is killed in between: what was
/// told before stands in a checkpoint or in the head.
#[test]
fn an_owner_knows_after_each_kill_what_it_was_told_before() {
    let given = Given::default();
    for life in 0..6 {
        let counter = Counter::default();
        let partition = given.open_with(Box::new(counter.clone()));
        let told = counter.0.lock().unwrap().clone();
        assert_eq!(
            (told.last, told.units, told.out_of_order),
            (life * 100, life * 100, false)
        );
        assert_eq!(told.notes.len() as u64, life);
        put(&partition, life * 100 + 1..=life * 100 + 100);
        if life % 2 == 0 {
            partition.close();
        }
    }
}

/// Has as much to say as an open header carries.
struct Talkative(Arc<Mutex<usize>>);

impl Owner for Talkative {
    fn restore(&mut self, _: &[u8]) {}
    fn apply(&mut self, _: &[u8], _: &[u8], _: Offset, _: Ticket) {}
    fn note(&mut self, _: &[u8]) {}

    fn checkpoint(&mut self, into: &mut Vec<u8>, bytes_max: usize) {
        into.resize(bytes_max, b'.');
        *self.0.lock().unwrap() += 1;
    }
}

/// A header that is as large as it may be ends no log: neither where it rolls nor at its end.
#[test]
fn an_owner_that_says_as_much_as_it_may_stops_no_log() {
    let given = Given::default();
    let said = Arc::default();
    for _ in 0..2 {
        let partition = given.open_with(Box::new(Talkative(Arc::clone(&said))));
        put(&partition, 1..=2000);
        partition.close();
    }
    assert!(*said.lock().unwrap() >= 2);
    let partition = given.open_with(Box::new(Talkative(said)));
    assert_eq!(partition.next(), Offset::new(8000));
    partition.end();
}

/// Two entries a unit, a note with each hundredth.
fn put(partition: &Partition, numbers: std::ops::RangeInclusive<u64>) {
    let mut producer = partition.producer();
    let mut last = Ticket::RECOVERED;
    for number in numbers {
        let mut batch = Batch::new();
        let fill = |unit: &mut sedge_store::Unit<'_>| {
            unit.record(None, None, &[], &[b'x'; 500]);
            unit.record(None, None, &[], b"second");
        };
        batch.push(fill, &number.to_le_bytes());
        if number % 100 == 0 {
            batch.push_note(b"n");
        }
        last = loop {
            match producer.stage(&batch) {
                Ok(ticket) => break ticket,
                Err(StageError::Full) => std::thread::yield_now(),
                Err(e) => panic!("{e}"),
            }
        };
    }
    fixture::wait_until(partition, |settled, _| settled >= last);
}
