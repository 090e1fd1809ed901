//! Producers and a writer under schedules that a seed chooses: nothing staged stays behind, and nobody sleeps for ever.
//!
//! `cargo test -p sedge-store --features shuttle --lib queue::schedules`. Here a wait with a time limit never ends by time, so a wake-up that is missing is a
//! deadlock, and the lock says so. `SEDGE_SCHEDULES=N` tries more.

use std::sync::Arc;
use std::time::Duration;

use sedge_core::{LogId, Offset};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::{Condvar, Mutex};
use shuttle::{Runner, thread};
use tokio::time::Instant;

use super::{Begin, Errand, Producer, Queue, StageError, Ticket, Work};
use crate::batch::Batch;
use crate::group::{Group, Limits};
use crate::system_clock;

/// What the writer has committed; producers wait for it as sources wait for `settled`.
#[derive(Default)]
struct Settled {
    ticket: Mutex<Ticket>,
    moved: Condvar,
}

impl Settled {
    fn raise(&self, ticket: Ticket) {
        *self.ticket.lock().expect("no holder panics") = ticket;
        self.moved.notify_all();
    }

    fn wait(&self, ticket: Ticket) {
        let mut settled = self.ticket.lock().expect("no holder panics");
        while *settled < ticket {
            settled = self.moved.wait(settled).expect("no holder panics");
        }
    }
}

/// What one life of the writer did.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    records: u64,
    last: Ticket,
}

/// The writer of `writer.rs`, without a disk: it takes groups until it is told to close, and then what is left.
fn write(queue: &Queue, settled: &Settled) -> Written {
    let (mut group, mut errands) = (Group::new(Offset::ZERO), Vec::new());
    let (mut expected, mut last) = (Offset::ZERO, Ticket::RECOVERED);
    loop {
        match queue.next_work(&mut group, Instant::now() + LONG, &mut errands) {
            Work::Commit(ticket) => {
                assert!(ticket > last, "{ticket:?} behind {last:?}");
                assert_eq!(group.first(), expected, "offsets with a hole");
                assert!(group.next() > expected, "an empty group is committed");
                (expected, last) = (group.next(), ticket);
                settled.raise(ticket);
            }
            Work::Idle if errands.contains(&Errand::Close) => {
                let records = expected.since(Offset::ZERO);
                return Written { records, last };
            }
            Work::Idle => errands.clear(),
            Work::Later(_) => panic!("a thread waits for itself"),
        }
    }
}

/// Stages `rounds` batches, each when there is room, and waits for the last of them. Returns how many were taken.
fn produce(queue: Arc<Queue>, settled: &Settled, rounds: u64, bytes: usize) -> u64 {
    let mut producer = Producer::new(queue);
    let mut last = Ticket::RECOVERED;
    let mut taken = 0;
    for round in 0..rounds {
        loop {
            match producer.stage(&batch(bytes)) {
                Ok(ticket) => {
                    assert!(ticket > last);
                    (last, taken) = (ticket, taken + 1);
                    break;
                }
                Err(StageError::Full) => block_on(producer.staged_room()),
                Err(StageError::Closed) => {
                    settled.wait(last);
                    return taken;
                }
                Err(error) => panic!("{error}"),
            }
        }
        // Every second time the client's window is full behind it, as with one message in flight.
        if round % 2 == 1 {
            producer.set_window_bound(true);
            settled.wait(last);
            producer.set_window_bound(false);
        }
    }
    drop(producer);
    settled.wait(last);
    taken
}

#[test]
fn each_batch_is_committed_once_and_nobody_sleeps_for_ever() {
    schedules(|| {
        let (queue, settled) = (queue(), Arc::new(Settled::default()));
        let producers = [(2, 2100), (3, 10), (2, 2100)].map(|(rounds, bytes)| {
            let (queue, settled) = (Arc::clone(&queue), Arc::clone(&settled));
            thread::spawn(move || produce(queue, &settled, rounds, bytes))
        });
        let writer = {
            let (queue, settled) = (Arc::clone(&queue), Arc::clone(&settled));
            thread::spawn(move || write(&queue, &settled))
        };
        let taken: u64 = producers
            .map(|one| one.join().expect("it ends"))
            .iter()
            .sum();
        queue.errand(Errand::Close);
        let written = writer.join().expect("it ends");
        assert_eq!((written.records, written.last), (7, Ticket(7)));
        assert_eq!(taken, 7);
    });
}

/// The agent stops while devices send: what was taken before that is committed, and nothing after.
#[test]
fn what_was_taken_before_a_close_is_committed_and_nothing_else() {
    schedules(|| {
        let (queue, settled) = (queue(), Arc::new(Settled::default()));
        let producers = [(3, 10), (2, 2100)].map(|(rounds, bytes)| {
            let (queue, settled) = (Arc::clone(&queue), Arc::clone(&settled));
            thread::spawn(move || produce(queue, &settled, rounds, bytes))
        });
        let closer = {
            let queue = Arc::clone(&queue);
            thread::spawn(move || {
                queue.errand(Errand::SetCursor {
                    uplink: 1,
                    next: Offset::ZERO,
                });
                queue.errand(Errand::Close);
            })
        };
        let written = write(&queue, &settled);
        closer.join().expect("it ends");
        let taken: u64 = producers
            .map(|one| one.join().expect("it ends"))
            .iter()
            .sum();
        assert_eq!(written.records, taken);
    });
}

/// A log that is opened while producers wait for it, by a writer that waits for room on the disk first.
#[test]
fn who_waits_for_a_log_to_open_goes_on_when_it_begins_or_is_closed() {
    for opens in [true, false] {
        schedules(move || {
            let queue = Arc::new(Queue::new(LONG, system_clock()));
            let settled = Arc::new(Settled::default());
            let producer = {
                let (queue, settled) = (Arc::clone(&queue), Arc::clone(&settled));
                thread::spawn(move || produce(queue, &settled, 1, 10))
            };
            if opens {
                queue.begin(limits(), Offset::ZERO);
                let writer = {
                    let (queue, settled) = (Arc::clone(&queue), Arc::clone(&settled));
                    thread::spawn(move || write(&queue, &settled))
                };
                assert_eq!(producer.join().expect("it ends"), 1);
                queue.errand(Errand::Close);
                assert_eq!(writer.join().expect("it ends").records, 1);
            } else {
                let closer = Arc::clone(&queue);
                let closer = thread::spawn(move || closer.errand(Errand::Close));
                assert_eq!(queue.wait_to_begin(Instant::now() + LONG), Begin::Stop);
                closer.join().expect("it ends");
                assert_eq!(producer.join().expect("it ends"), 0);
            }
        });
    }
}

/// Half of them by pure chance, half with few changes of thread at unlikely places.
fn schedules(story: impl Fn() + Send + Sync + Clone + 'static) {
    let number = std::env::var("SEDGE_SCHEDULES");
    let number = number.ok().and_then(|number| number.parse().ok());
    let half = number.unwrap_or(1_000) / 2;
    Runner::new(
        RandomScheduler::new_from_seed(SEED, half),
        shuttle::Config::default(),
    )
    .run(story.clone());
    Runner::new(
        PctScheduler::new_from_seed(SEED, 3, half),
        shuttle::Config::default(),
    )
    .run(story);
}

fn queue() -> Arc<Queue> {
    let queue = Queue::new(LONG, system_clock());
    queue.begin(limits(), Offset::ZERO);
    Arc::new(queue)
}

/// Two of the larger batches are due at once, a third does not fit. Where a batch does not fit into a group that is not due yet, its producer waits for the linger,
/// which never ends here.
fn limits() -> Limits {
    Limits {
        log_id: LogId::default(),
        frame_bytes_max: 66_000,
        commit_bytes_max: 6_000,
        commit_offsets_max: 1000,
    }
}

fn batch(bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.push(|unit| unit.record(None, None, &[], &vec![0; bytes]), b"");
    batch
}

const LONG: Duration = Duration::from_secs(3600);
const SEED: u64 = 1;
