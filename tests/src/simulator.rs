//! The whole system in one thread, from one seed, in virtual time: gateways, hub, producers and consumers are the real code, on simulated
//! disks and a simulated network ([decision 0015](../../docs/decisions/0015-simulation.md)).
//!
//! ```text
//! options ← seed        fate ─ kills, power cuts, failing disks, networks, clocks ─┐
//!                       producers → gateway → network → hub → consumer             │ phase 1: nothing that was acknowledged is lost, or else counted
//!                            └────────── ledger (the oracle) ──────────┘           ┘ phase 2: no more faults, and all of it arrives
//! ```

mod client;
mod device;
mod ear;
mod failure;
mod fate;
mod files;
mod fleet;
mod home;
mod kept;
mod ledger;
mod line;
mod machines;
mod missing;
mod network;
mod options;
mod partition;
mod producer;
mod short_life;
mod site;
mod story;
mod sum;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sedge::source::mqtt_listen::socket;
use sedge::source::serial::port;
use sedge_store::watch;
use sedge_store::world;
use sedge_uplink::net;
use tokio::runtime::Builder;
use tokio::time::Instant;

pub use failure::{Call, Failure, Then, Way};
use fate::Fate;
pub use fleet::{Drained, Fleet, with_fleet};
use ledger::Ledger;
pub use ledger::Totals;
use line::Lines;
use machines::{Clock, Machines};
use network::Network;
pub use options::Options;
pub use short_life::{Lived, Side, live};
use site::Site;
use story::Story;
pub use story::virtual_time;
pub use sum::Sum;

use crate::random::seed_for;

/// How a run went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was wrong, if anything was.
    pub wrong: Option<String>,
    /// A fingerprint of all that happened.
    pub hash: u64,
    /// How much that was.
    pub steps: u64,
    /// Virtual time.
    pub elapsed: Duration,
    /// What became of the events.
    pub totals: Totals,
    /// Kinds of trouble.
    pub kinds: Vec<&'static str>,
    /// How often each of them came.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long nobody reached the hub.
    pub outage: Option<Duration>,
    /// What happened, for people.
    pub story: String,
}

/// Runs the system that `options` describe.
#[must_use]
pub fn run(options: Options) -> Outcome {
    in_virtual_time(simulate(options))
}

/// In a runtime of its own, whose time passes when nothing else is to be done.
fn in_virtual_time<T>(system: impl Future<Output = T>) -> T {
    watch_for_panics();
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let outcome = runtime.block_on(system);
    drop(runtime);
    LEFT.with_borrow_mut(Vec::clear);
    outcome
}

async fn simulate(options: Options) -> Outcome {
    let site = Site::of(options);
    let (seed, story) = (site.options.seed, site.story.clone());
    story.tell(&format!("{:?}", site.options));
    // Machines begin when this task waits: their disks are known by then.
    let (mut machines, mut producers) = (Vec::new(), Vec::new());
    for number in 0..site.options.gateways {
        let (machine, senders) = site.gateway(number);
        machines.push(machine);
        producers.extend(senders);
    }
    if site.options.twins {
        let (machine, senders) = site.twin();
        machines.push(machine);
        producers.extend(senders);
    }
    machines.push(site.hub());
    let disks: BTreeMap<_, _> = machines
        .iter()
        .map(|m| (m.name.clone(), m.disk.clone()))
        .collect();
    let world = Machines::new(disks, Arc::clone(&site.clock), seed_for(seed, 4));
    enter(world, &site);
    let streams = site.options.streams();
    let consumers = streams.iter().map(|stream| site.clone().consumer(stream));
    let consumers: Vec<_> = consumers.map(tokio::spawn).collect();
    let mut fate = Fate::new(&site, &machines);
    fate.run().await;
    fate.relent();
    story.tell("no more faults");
    site.finish.store(true, Ordering::Relaxed);
    drain(&site).await;
    consumers.iter().for_each(|consumer| consumer.abort());
    let faults = story.faults();
    let panicked = PANIC.take();
    Outcome {
        wrong: panicked.or_else(|| site.ledger.wrong()),
        hash: story.hash(),
        steps: story.steps(),
        elapsed: story.elapsed(),
        totals: site.ledger.totals(),
        kinds: faults.keys().copied().collect(),
        faults,
        outage: site.options.outage,
        story: story.text(),
    }
}

impl Site {
    /// With nothing in it.
    fn of(options: Options) -> Self {
        let (story, seed) = (Story::new(), options.seed);
        let ledger = Ledger::new(story.clone());
        let network = Network::new(seed_for(seed, 3), story.clone(), ledger.clone());
        Self {
            story,
            ledger,
            network,
            lines: Lines::default(),
            clock: Arc::new(Clock::new()),
            slowness: Arc::default(),
            reads: watch::Sender::new(true),
            finish: Arc::default(),
            options,
        }
    }
}

/// Everything arrives, within a time that has a bound.
async fn drain(site: &Site) {
    let limit = Instant::now() + PATIENCE + site.options.retry_max;
    let turn = if site.options.twins {
        TURN
    } else {
        Duration::ZERO
    };
    let quiet = QUIET + site.options.retry_max + turn;
    let (mut last, mut seen) = (Instant::now(), 0);
    while site.ledger.wrong().is_none() {
        // What a hub that is down has yet to bring is not lost, though gaps may have counted as much too much.
        let now_seen = site.ledger.totals().seen;
        let comes = std::mem::replace(&mut seen, now_seen) != now_seen;
        if site.network.hub_listens() && site.ledger.is_complete() && !comes {
            if last.elapsed() > quiet {
                break;
            }
        } else if Instant::now() > limit {
            return site.ledger.fail(format!(
                "not everything has arrived: {}",
                site.ledger.outstanding()
            ));
        } else {
            last = Instant::now();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    site.ledger.balance();
    if site.ledger.totals().acked == 0 {
        site.ledger.fail("nothing was ever acknowledged".into());
    }
    // The hub may be down still, with all that it was to bring.
    let patience = Instant::now() + PATIENCE;
    while let Err(e) = site.clone().late_consumer().await {
        if e != "connection refused" || Instant::now() > patience {
            site.ledger.fail(format!("a late reader: {e}"));
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let Totals {
        acked,
        seen,
        lost,
        gone,
        of_devices,
        of_clients,
        copies,
    } = site.ledger.totals();
    site.story.tell(&format!(
        "acknowledged {acked}, {of_devices} of them by devices' own logs and {of_clients} by PUBACK, given to the consumer {seen}, {copies} of them again, lost and counted {lost}, gone with disks {gone}"
    ));
}

/// What a run puts in the place of the kernel.
type Entered = (world::Entered, net::Entered, socket::Entered, port::Entered);

/// A panic in any task is one of the run.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANIC.with_borrow_mut(|first| first.get_or_insert_with(|| panic.to_string()).len());
            before(panic);
        }));
    });
}

/// What the programs of this thread do from now on, they do in `world` and on the network and the lines of `site`, which outlive the tasks: these end with
/// the runtime.
fn enter(world: Machines, site: &Site) {
    let entered = (
        world::enter(Rc::new(world)),
        net::enter(Rc::new(site.network.clone())),
        socket::enter(Rc::new(site.network.clone())),
        port::enter(Rc::new(site.lines.clone())),
    );
    LEFT.with_borrow_mut(|left| left.push(entered));
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static LEFT: RefCell<Vec<Entered>> = const { RefCell::new(Vec::new()) };
}

/// Where all simulated files are.
const ROOT: &str = "/simulated";
/// Without faults, all of a backlog is at the consumer in this time, from the gateway's next attempt to connect on.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Producers have said their last, and what is on its way has come: gaps may count more than is missing, and hide that.
const QUIET: Duration = Duration::from_secs(30);
/// Of two gateways with one name, who was replaced waits so long at most before it tries again.
const TURN: Duration = Duration::from_secs(240);

#[cfg(test)]
mod tests {
    use super::*;

    /// Producers have said their last, and none of it need be missing: gaps may have counted too much. But the hub is down, and may have more of it.
    #[test]
    fn nothing_is_over_while_the_hub_is_down() {
        let wrong = in_virtual_time(async {
            let site = Site::of(Options::of(1));
            let world = Machines::new(BTreeMap::new(), Arc::clone(&site.clock), 1);
            enter(world, &site);
            assert!(site.ledger.is_complete());
            drain(&site).await;
            site.ledger.wrong()
        });
        let wrong = wrong.expect("no hub came");
        assert!(wrong.starts_with("not everything has arrived"), "{wrong}");
    }
}
