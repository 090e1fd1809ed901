//! Stories about logs of a machine that does not know the time: what its uptimes are is told once, beside the records, and its mirror remembers.

mod fixture;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fixture::{Given, payloads, read_all};
use sedge_core::frame::Frame;
use sedge_core::{Micros, Offset};
use sedge_store::{
    Beginning, Mirror, MirrorOptions, Owner, Partition, StageError, Ticket, Timekeeping,
    system_clock,
};

/// A machine that was started at [`BEGAN`] and learns it when it is told so.
#[derive(Default)]
struct Board {
    up_us: AtomicU64,
    knows: AtomicBool,
}

impl Timekeeping for Board {
    fn now(&self) -> Micros {
        let up_us = self.up_us.fetch_add(1_000, Ordering::Relaxed);
        match self.knows.load(Ordering::Relaxed) {
            true => Micros::new(BEGAN.unix_us + up_us as i64),
            false => Micros::of_uptime(BEGAN.start, up_us),
        }
    }

    fn beginning(&self) -> Option<Beginning> {
        self.knows.load(Ordering::Relaxed).then_some(BEGAN)
    }

    fn age(&self, _: Micros) -> Option<Duration> {
        None
    }
}

/// Whatever an owner is told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<Item>>>);

/// An item, and the first offset of its unit.
type Item = (Vec<u8>, Offset);

impl Owner for Told {
    fn restore(&mut self, _: &[u8]) {}
    fn apply(&mut self, item: &[u8], _: &[u8], first: Offset, _: Ticket) {
        self.0.lock().unwrap().push((item.to_vec(), first));
    }
    fn note(&mut self, _: &[u8]) {}
    fn checkpoint(&mut self, _: &mut Vec<u8>, _: usize) {}
}

fn open(given: &Given, board: &Arc<Board>, owner: &Told) -> Partition {
    let mut options = given.options.clone();
    options.time = Some(Arc::clone(board) as Arc<dyn Timekeeping>);
    let clock = {
        let board = Arc::clone(board);
        Arc::new(move || board.now())
    };
    let dir = given.dir.path().join("log");
    Partition::open(dir, options, Box::new(owner.clone()), clock)
        .unwrap()
        .0
}

fn mirror(given: &Given, origin: &Partition) -> Mirror {
    let (dir, options) = (given.dir.path().join("mirror"), MirrorOptions::default());
    Mirror::open(dir, origin.log_id(), options, system_clock())
        .unwrap()
        .0
}

fn copy(origin: &Partition, mirror: &Mirror) {
    while mirror.next() < origin.next() {
        let chunk = origin.read(mirror.next(), 1 << 20).unwrap();
        mirror.append(&chunk.frames).unwrap();
    }
}

/// The time in the frame that holds `offset`, and what the mirror makes of it.
fn time_at(mirror: &Mirror, offset: u64) -> (Micros, Option<Micros>) {
    let chunk = mirror.read(Offset::new(offset), 1).unwrap();
    let (frame, _) = Frame::parse(&chunk.frames, &mirror.log_id(), None).unwrap();
    let time = frame.header.time;
    let known = mirror.beginnings();
    (time, known.iter().find_map(|began| began.time_of(time)))
}

#[test]
fn what_was_taken_before_the_time_was_known_has_one_when_the_next_record_has_come() {
    let (given, board, owner) = (
        Given::default(),
        Arc::new(Board::default()),
        Told::default(),
    );
    let origin = open(&given, &board, &owner);
    let copied = mirror(&given, &origin);
    fixture::put(&origin, &["one"]);
    copy(&origin, &copied);
    let (time, known) = time_at(&copied, 0);
    assert!(
        time.uptime().is_some() && known.is_none(),
        "{time:?} {known:?}"
    );

    board.knows.store(true, Ordering::Relaxed);
    fixture::put_annotated(&origin, b"two", b"item");
    fixture::put(&origin, &["three"]);
    copy(&origin, &copied);
    let (_, known) = time_at(&copied, 0);
    let since = known.map(|time| time.get() - BEGAN.unix_us);
    assert!(
        since.is_some_and(|us| (0..1_000_000).contains(&us)),
        "{since:?}"
    );
    assert!(time_at(&copied, 1).0.is_known());
    assert_eq!(
        payloads(&read_all(&origin, Offset::ZERO)),
        ["one", "two", "three"]
    );
    drop(copied);
    assert_eq!(mirror(&given, &origin).beginnings(), [BEGAN]);
}

/// The owner is told of its own items, in this life and in the next, as if nothing stood beside them.
#[test]
fn who_keeps_items_beside_records_does_not_notice() {
    let (given, board, owner) = (
        Given::default(),
        Arc::new(Board::default()),
        Told::default(),
    );
    board.knows.store(true, Ordering::Relaxed);
    let origin = open(&given, &board, &owner);
    fixture::put_annotated(&origin, b"one", b"first item");
    fixture::put_annotated(&origin, b"two", b"second item");
    drop(origin);
    let restored = Told::default();
    drop(open(&given, &board, &restored));
    let told = owner.0.lock().unwrap().clone();
    let expected = [
        (b"first item".to_vec(), Offset::ZERO),
        (b"second item".to_vec(), Offset::new(1)),
    ];
    assert_eq!(told, expected);
    assert_eq!(*restored.0.lock().unwrap(), told);
}

/// The largest record leaves no room in its frame. What is to be told comes with the next.
#[test]
fn a_record_as_large_as_a_frame_does_not_keep_the_beginning_from_being_told() {
    let (given, board) = (Given::default(), Arc::new(Board::default()));
    board.knows.store(true, Ordering::Relaxed);
    let origin = open(&given, &board, &Told::default());
    let mut producer = origin.producer();
    let too_large = fixture::try_stage(&mut producer, &[7; 100_000]);
    let Err(StageError::TooLarge { bytes, bytes_max }) = too_large else {
        panic!("{too_large:?}");
    };
    let largest = vec![7; 100_000 - (bytes - bytes_max)];
    let ticket = fixture::try_stage(&mut producer, &largest).unwrap();
    fixture::wait_until(&origin, |settled, _| settled >= ticket);
    let copied = mirror(&given, &origin);
    copy(&origin, &copied);
    assert_eq!(copied.beginnings(), []);
    fixture::put(&origin, &["small"]);
    copy(&origin, &copied);
    assert_eq!(copied.beginnings(), [BEGAN]);
}

/// Uptimes are the smallest of all times, and say nothing about the order.
#[test]
fn a_time_is_found_although_the_machine_did_not_know_it_in_between() {
    let (given, board) = (Given::default(), Arc::new(Board::default()));
    board.knows.store(true, Ordering::Relaxed);
    let origin = open(&given, &board, &Told::default());
    fixture::put(&origin, &["before"]);
    let between = board.now();
    let mut producer = origin.producer();
    for n in 0..40 {
        fixture::stage(&origin, &mut producer, format!("{n:08000}").as_bytes());
    }
    fixture::settle(&origin, &mut producer);
    drop(origin);
    board.knows.store(false, Ordering::Relaxed);
    let origin = open(&given, &board, &Told::default());
    let mut producer = origin.producer();
    for n in 0..20 {
        fixture::stage(&origin, &mut producer, format!("{n:08000}").as_bytes());
    }
    fixture::settle(&origin, &mut producer);
    assert_eq!(origin.offset_for_time(between).unwrap(), Offset::new(1));
    assert_eq!(origin.ledger().evicted, 0);
}

const BEGAN: Beginning = Beginning {
    start: 4711,
    unix_us: 1_795_168_800_000_000,
};
