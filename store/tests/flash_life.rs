//! Stories about how much a log writes, in virtual time: a trickle of events costs a page each, unless there is a budget.

mod fixture;

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fixture::{Given, try_stage};
use sedge_core::Micros;
use sedge_store::disk::Files;
use sedge_store::world::{self, World};
use sedge_store::{NoOwner, Partition, Stats, WriteBudget};

/// Only time is simulated: the files are real ones.
struct Still;

impl World for Still {
    fn files(&self, _: &Path) -> Option<Arc<dyn Files>> {
        None
    }

    fn now(&self) -> Micros {
        Micros::new(1_795_168_800_000_000)
    }

    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn latency(&self) -> Duration {
        Duration::from_millis(1)
    }
}

/// What came of a trickle.
struct Trickled {
    stats: Stats,
    /// The longest that an event waited to be durable.
    waited: Duration,
    overdrawn: bool,
}

/// An event of 100 bytes every [`PAUSE`] for [`EVENTS`] events, from a source that does not wait for one before it sends the next.
fn trickle(budget: Option<u64>, at_risk_max: Duration) -> Trickled {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let _entered = world::enter(Rc::new(Still));
        let mut given = Given::default();
        given.options.linger = Duration::from_millis(5);
        given.options.at_risk_max = at_risk_max;
        given.options.write_budget = budget.map(WriteBudget::a_day);
        let (dir, options) = (given.dir.path().join("log"), given.options.clone());
        let clock = fixture::ticking();
        let (partition, _) = Partition::open(dir, options, Box::new(NoOwner), clock).unwrap();
        let mut producer = partition.producer();
        let mut waited = Duration::ZERO;
        let mut waiting = Vec::new();
        for _ in 0..EVENTS {
            let ticket = try_stage(&mut producer, &[b'x'; 100]).unwrap();
            let (mut settled, staged) = (partition.settled(), tokio::time::Instant::now());
            waiting.push(tokio::spawn(async move {
                settled
                    .wait_for(|settled| *settled >= ticket)
                    .await
                    .unwrap();
                staged.elapsed()
            }));
            tokio::time::sleep(PAUSE).await;
        }
        for event in waiting {
            waited = waited.max(event.await.unwrap());
        }
        let stats = partition.stats();
        assert_eq!(stats.entries, EVENTS);
        let overdrawn = given
            .options
            .write_budget
            .as_ref()
            .is_some_and(|b| b.is_overdrawn());
        partition.close();
        Trickled {
            stats,
            waited,
            overdrawn,
        }
    })
}

/// An event a second, each a page and a sync of its own: 354 MB a day for 9 MB of payload.
#[test]
fn without_a_budget_an_event_alone_costs_a_page() {
    let trickled = trickle(None, Duration::from_secs(1));
    assert!(trickled.stats.commits == EVENTS, "{:?}", trickled.stats);
    assert!(trickled.stats.syncs >= EVENTS);
    assert!(trickled.stats.written_bytes >= EVENTS * 4096);
    assert!(
        trickled.waited < Duration::from_millis(20),
        "{:?}",
        trickled.waited
    );
}

#[test]
fn with_a_budget_events_wait_for_company_and_what_is_written_stays_within() {
    let spent = trickle(None, Duration::from_secs(1)).stats;
    let (budget, at_risk_max) = (A_DAY / 4, Duration::from_secs(10));
    let trickled = trickle(Some(budget), at_risk_max);
    let stats = trickled.stats;
    assert!(stats.syncs * 2 < spent.syncs, "{stats:?} {spent:?}");
    let hours = PAUSE.as_secs_f64() * EVENTS as f64 / 3600.0;
    let may = budget as f64 / 24.0 * (1.0 + hours);
    assert!((stats.written_bytes as f64) < may, "{stats:?}, {may}");
    let latest = at_risk_max + Duration::from_millis(20);
    assert!(trickled.waited > Duration::from_secs(2) && trickled.waited < latest);
    assert!(!trickled.overdrawn);
}

/// The budget is far too small. Events wait as long as they may and no longer, all of them are kept, and it is told.
#[test]
fn a_budget_that_cannot_be_kept_is_overdrawn_and_nothing_waits_longer_for_it() {
    let at_risk_max = Duration::from_millis(1_500);
    let trickled = trickle(Some(100 << 10), at_risk_max);
    assert!(trickled.overdrawn);
    assert_eq!(trickled.stats.linger_us, 1_500_000);
    assert!(
        trickled.waited < at_risk_max + Duration::from_millis(20),
        "{:?}",
        trickled.waited
    );
}

const EVENTS: u64 = 4_000;
const PAUSE: Duration = Duration::from_secs(1);
/// What it costs without a budget.
const A_DAY: u64 = 86_400 * 4096;
