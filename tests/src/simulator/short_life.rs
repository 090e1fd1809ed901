//! A short life of the whole path, in which nothing goes wrong but calls to one disk: one producer, a gateway, a hub and a consumer, each machine
//! stopped once and killed once. At the end power fails everywhere, the disks are well, and everything that was acknowledged arrives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sedge_store::watch;

use super::failure::{Call, Failure};
use super::files::Down;
use super::ledger::Ledger;
use super::line::Lines;
use super::machines::{Clock, Machines};
use super::network::Network;
use super::options::Options;
use super::site::{Machine, Order, Site, ToDisk};
use super::story::Story;
use super::{PANIC, drain, enter, in_virtual_time};
use crate::random::seed_for;

/// Whose disk has calls that fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The gateway's.
    Gateway,
    /// The hub's.
    Hub,
}

/// How a short life went.
#[derive(Clone, Debug)]
pub struct Lived {
    /// What was wrong, if anything was.
    pub wrong: Option<String>,
    /// What was asked of the disk, up to the end of the scenario.
    pub calls: Vec<Call>,
    /// The calls that failed first.
    pub failed: Vec<Option<Call>>,
    /// Events that were acknowledged.
    pub acked: u64,
    /// What happened, for people.
    pub story: String,
}

/// Lives it, with these failures of calls to one disk.
#[must_use]
pub fn live(seed: u64, side: Side, failures: &[Failure]) -> Lived {
    in_virtual_time(short_life(seed, side, failures))
}

async fn short_life(seed: u64, side: Side, failures: &[Failure]) -> Lived {
    let story = Story::new();
    let clock = Arc::new(Clock::new());
    let ledger = Ledger::new(story.clone());
    let network = Network::new(seed_for(seed, 3), story.clone(), ledger.clone());
    let site = Site {
        story: story.clone(),
        ledger,
        network,
        lines: Lines::default(),
        clock: Arc::clone(&clock),
        slowness: Arc::default(),
        reads: watch::Sender::new(true),
        finish: Arc::default(),
        options: options(seed),
    };
    let (gateway, _producers) = site.gateway(0);
    let machines = [gateway, site.hub()];
    let disk = match side {
        Side::Gateway => machines[0].disk.clone(),
        Side::Hub => machines[1].disk.clone(),
    };
    disk.failures(|it| it.plan(failures));
    let disks: BTreeMap<_, _> = machines
        .iter()
        .map(|m| (m.name.clone(), m.disk.clone()))
        .collect();
    let world = Machines::new(disks, clock, seed_for(seed, 4));
    enter(world, &site);
    // A page that cannot be read for a moment is a gap to whoever reads it then.
    (0..HITS).for_each(|_| site.ledger.is_hit());
    let consumer = tokio::spawn(site.clone().consumer(super::site::STREAM));
    for down in [Down::Stop, Down::Kill] {
        for machine in &machines {
            tokio::time::sleep(BETWEEN).await;
            bring_down(machine, down);
        }
    }
    tokio::time::sleep(BETWEEN).await;
    let calls = disk.failures(|it| {
        it.end();
        it.calls()
    });
    site.story.tell("the disk is well");
    tokio::time::sleep(RECOVERY).await;
    for machine in &machines {
        bring_down(machine, Down::PowerCut);
    }
    tokio::time::sleep(BETWEEN).await;
    site.finish.store(true, Ordering::Relaxed);
    drain(&site).await;
    consumer.abort();
    Lived {
        wrong: PANIC.take().or_else(|| site.ledger.wrong()),
        calls,
        failed: disk.failures(|it| it.begun()),
        acked: site.ledger.totals().acked,
        story: story.text(),
    }
}

fn bring_down(machine: &Machine, down: Down) {
    let pause = Duration::from_millis(300);
    let disk = ToDisk::Nothing;
    machine.orders.send(Order { down, pause, disk }).ok();
}

/// Small logs, and a few events that come all the time.
fn options(seed: u64) -> Options {
    Options {
        seed,
        gateways: 1,
        partitions: 1,
        producers: 1,
        capacity_mib: 4,
        resizes: false,
        lying_disks: false,
        refuses: false,
        linger: Duration::from_millis(5),
        retry_max: Duration::from_secs(2),
        hub_capacity_mib: 4,
        retention: None,
        value_bytes: 400,
        events: 100,
        pause: Duration::from_millis(1500),
        calm: Duration::ZERO,
        duration: Duration::ZERO,
        outage: None,
        exchanges: false,
        twins: false,
        hub_put_back: false,
        repartitions: false,
        second_stream: false,
        read_errors: false,
        rot: false,
        wears: false,
        devices: 0,
        device_events: 0,
        device_pause: Duration::ZERO,
        clients: 0,
        client_events: 0,
        client_pause: Duration::ZERO,
        empty_chips: false,
        live_first_after: None,
    }
}

const BETWEEN: Duration = Duration::from_secs(4);
/// A machine that failed has come up again.
const RECOVERY: Duration = Duration::from_secs(20);
const HITS: u64 = 1000;
