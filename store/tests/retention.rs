//! Stories about records that become too old: they go a segment at a time, are counted as expired, and leave a gap. How old they are is told by who
//! keeps the time, whatever the clock says.

mod fixture;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fixture::{Given, gaps, payloads, read_all};
use sedge_core::log::WhenFull;
use sedge_core::{Cause, Micros, Offset};
use sedge_store::{Beginning, NoOwner, Partition, StageError, Timekeeping};

/// A clock that can jump, and an age that is what it is.
#[derive(Default)]
struct Wall {
    /// What the clock says is so far from what has passed.
    off_us: AtomicI64,
    /// Since the beginning of the story.
    passed_us: AtomicU64,
    knows_no_age: bool,
    /// How often somebody asked for an age.
    asked: AtomicU64,
    stamped: std::sync::Mutex<std::collections::BTreeMap<i64, u64>>,
}

impl Wall {
    fn pass(&self, time: Duration) {
        self.passed_us.fetch_add(time.as_micros() as u64, SeqCst);
    }
}

impl Timekeeping for Wall {
    fn now(&self) -> Micros {
        let passed = self.passed_us.fetch_add(1, SeqCst);
        let now = START_US + passed as i64 + self.off_us.load(SeqCst);
        self.stamped.lock().unwrap().insert(now, passed);
        Micros::new(now)
    }

    fn beginning(&self) -> Option<Beginning> {
        None
    }

    fn age(&self, time: Micros) -> Option<Duration> {
        self.asked.fetch_add(1, SeqCst);
        let passed = *self.stamped.lock().unwrap().get(&time.get())?;
        let age = Duration::from_micros(self.passed_us.load(SeqCst) - passed);
        Some(age).filter(|_| !self.knows_no_age)
    }
}

fn open(given: &Given, wall: &Arc<Wall>) -> Partition {
    let mut options = given.options.clone();
    options.time = Some(Arc::clone(wall) as Arc<dyn Timekeeping>);
    options.retention = Some(RETENTION);
    let clock = Arc::clone(wall);
    let dir = given.dir.path().join("log");
    Partition::open(
        dir,
        options,
        Box::new(NoOwner),
        Arc::new(move || clock.now()),
    )
    .unwrap()
    .0
}

/// Some segments' worth of records, the first of them with this number.
fn put_many(partition: &Partition, from: u64) {
    let mut producer = partition.producer();
    for n in from..from + MANY {
        fixture::stage(partition, &mut producer, format!("{n:08000}").as_bytes());
    }
    fixture::settle(partition, &mut producer);
}

fn eventually(done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::yield_now();
    }
}

/// The writer has looked for what is too old since this was called, and done what was to be done.
fn looks_again(wall: &Wall) {
    let before = wall.asked.load(SeqCst);
    eventually(|| wall.asked.load(SeqCst) > before + 2);
}

#[test]
fn what_is_too_old_goes_whether_or_not_an_uplink_has_had_it_and_is_a_gap() {
    let (given, wall) = (Given::default(), Arc::new(Wall::default()));
    let partition = open(&given, &wall);
    put_many(&partition, 0);
    partition.set_cursor(7, Offset::new(3));
    // The writer has heard of it before anything is too old.
    looks_again(&wall);
    assert_eq!(partition.ledger().expired, 0);
    wall.pass(RETENTION * 2);
    eventually(|| partition.ledger().expired > 0 && partition.stats().segments_held == 1);
    let (ledger, oldest) = (partition.ledger(), partition.oldest());
    assert_eq!((ledger.handed_over, ledger.evicted), (3, 0));
    assert_eq!(ledger.expired, oldest.get() - 3);
    assert_eq!(ledger.cursor(7).unwrap().lost, ledger.expired);
    let shown = read_all(&partition, Offset::new(3));
    let gap = gaps(&shown)[0];
    assert_eq!(
        (gap.cause, gap.to, gap.lost),
        (Cause::Expired, oldest, ledger.expired)
    );
    assert_eq!(
        payloads(&shown).len() as u64,
        MANY - oldest.get(),
        "the newest segment stays"
    );
}

#[test]
fn a_clock_that_jumps_ages_nothing() {
    let (given, wall) = (Given::default(), Arc::new(Wall::default()));
    let partition = open(&given, &wall);
    let mut from = 0;
    for years in [30, -60, 10] {
        wall.off_us.store(years * YEAR_US, SeqCst);
        put_many(&partition, from);
        from += MANY;
        looks_again(&wall);
        assert_eq!(partition.ledger().expired, 0, "{years} years off");
    }
}

#[test]
fn what_nobody_can_tell_the_age_of_stays_as_long_as_there_is_space() {
    let given = Given::default();
    let wall = Arc::new(Wall {
        knows_no_age: true,
        ..Wall::default()
    });
    let partition = open(&given, &wall);
    put_many(&partition, 0);
    wall.pass(RETENTION * 100);
    looks_again(&wall);
    assert_eq!(partition.ledger().expired, 0);
    assert_eq!(partition.oldest(), Offset::ZERO);
}

/// A log that refuses rather than evict is full, and its uplink stays away. When the oldest are too old it takes again.
#[test]
fn a_full_log_that_may_not_evict_takes_again_when_its_oldest_are_too_old() {
    let mut given = Given::default();
    given.options.when_full = WhenFull::Refuse;
    let wall = Arc::new(Wall::default());
    let partition = open(&given, &wall);
    partition.set_cursor(7, Offset::ZERO);
    let mut producer = partition.producer();
    let mut taken = 0;
    while !partition.stats().full {
        match fixture::try_stage(&mut producer, format!("{taken:08000}").as_bytes()) {
            Ok(_) => taken += 1,
            Err(StageError::Full) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(partition.ledger().expired, 0);
    wall.pass(RETENTION * 2);
    eventually(|| !partition.stats().full);
    let ledger = partition.ledger();
    assert!(ledger.expired > 0 && ledger.evicted == 0);
    fixture::settle(&partition, &mut producer);
    assert_eq!(partition.next(), Offset::new(taken));
}

/// Short enough to be looked after every few milliseconds.
const RETENTION: Duration = Duration::from_millis(160);
const MANY: u64 = 60;
const START_US: i64 = 1_795_168_800_000_000;
const YEAR_US: i64 = 365 * 86_400_000_000;
