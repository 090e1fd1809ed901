//! Those who send: each pushes its events straight into a gateway, burst by burst, and remembers what was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sedge::ingest::{Ingest, Intake, Receipt};
use sedge::route::Subject;
use sedge_config::Template;
use sedge_store::watch;

use super::home::Home;
use super::site::{SECOND_STREAM, STREAM, Site};
use crate::random::{Random, seed_for};

/// One of them.
#[derive(Debug)]
pub(super) struct Producer {
    site: Site,
    machine: String,
    gateway: String,
    device: String,
    random: Random,
    days: Random,
    /// Its names in the ledger, by where its events land.
    identities: BTreeMap<Home, u32>,
    left: u64,
    /// The event that is the last one was acknowledged.
    said_last: bool,
}

impl Producer {
    /// The producer with this number, at a machine which is `gateway`.
    #[must_use]
    pub(super) fn new(site: &Site, machine: &str, gateway: &str, number: usize) -> Self {
        let seed = site.options.seed;
        Self {
            machine: machine.to_owned(),
            gateway: gateway.to_owned(),
            device: format!("device-{number}"),
            random: Random::new(seed_for(seed, 1000 + number as u64)),
            days: Random::new(seed_for(seed, 2000 + number as u64)),
            identities: BTreeMap::new(),
            left: site.options.events,
            said_last: false,
            site: site.clone(),
        }
    }

    /// Sends what it has, by whatever way in there is.
    pub(super) async fn run(mut self, mut way_in: watch::Receiver<Option<Ingest>>) {
        while !self.said_last {
            let Some(ingest) = way_in.borrow_and_update().clone() else {
                if way_in.changed().await.is_err() {
                    return;
                }
                continue;
            };
            self.send_all(&ingest, &mut way_in).await;
        }
        for identity in self.identities.values() {
            self.site.ledger.retire(*identity);
        }
    }

    /// Sends by `ingest` until there is another way in, or nothing is left.
    async fn send_all(&mut self, ingest: &Ingest, way_in: &mut watch::Receiver<Option<Ingest>>) {
        let second = ingest.stream(SECOND_STREAM).is_some() && self.days.one_in(2);
        let stream = if second { SECOND_STREAM } else { STREAM };
        let key = Template::parse("{device}").expect("a template");
        let device = self.device.clone();
        let mut sender = Sender {
            intake: ingest.intake(stream, &key),
            device: &device,
        };
        let lane = sender.lane();
        let home = Home::new(stream, &self.gateway, lane);
        let new = || self.site.ledger.producer(&self.machine, &home);
        let identity = *self.identities.entry(home.clone()).or_insert_with(new);
        loop {
            let is_end = self.site.finish.load(Ordering::Relaxed);
            if self.left > 0 || is_end {
                let events = self.events(identity, is_end);
                let sent = tokio::select! {
                    biased;
                    // There is another one, or none.
                    _ = way_in.changed() => return,
                    sent = sender.send(lane, &events) => sent,
                };
                if sent {
                    let numbers: Vec<u64> = events.iter().map(|(number, _)| *number).collect();
                    self.site.ledger.acknowledged(identity, &numbers);
                    self.left = self.left.saturating_sub(numbers.len() as u64);
                    self.said_last = is_end;
                } else {
                    // The log takes nothing more: its gateway ends soon.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            if self.said_last || way_in.has_changed().unwrap_or(true) || way_in.borrow().is_none() {
                return;
            }
            let slow = self.site.slowness.load(Ordering::Relaxed).max(1);
            let pause = self
                .random
                .below(self.site.options.pause.as_micros() as u64 * 2);
            let pause = Duration::from_micros(pause) * slow;
            tokio::select! {
                biased;
                _ = way_in.changed() => return,
                () = tokio::time::sleep(pause.min(PAUSE_MOST)) => {}
            }
        }
    }

    /// The next burst.
    fn events(&mut self, identity: u32, is_end: bool) -> Vec<(u64, Vec<u8>)> {
        let count = match is_end {
            true => 1,
            false => self.left.min(1 + self.random.below(20)),
        };
        let bytes_max = self.site.options.value_bytes;
        let bytes = (0..count).map(|_| 12 + self.random.index(bytes_max));
        let ledger = &self.site.ledger;
        bytes.map(|bytes| ledger.event(identity, bytes)).collect()
    }
}

/// A way in that is used.
struct Sender<'a> {
    intake: Intake,
    device: &'a str,
}

impl Sender<'_> {
    fn lane(&mut self) -> u16 {
        let subject = Subject {
            topic: "",
            device: self.device,
            payload: b"",
        };
        self.intake.lane_of(&subject).expect("a device has a name")
    }

    /// Whether all of it is on the disk.
    async fn send(&mut self, lane: u16, events: &[(u64, Vec<u8>)]) -> bool {
        self.lane();
        for (_, value) in events {
            self.intake.record(lane, None, &[], value, &[]);
        }
        let mut receipts: Vec<Receipt> = Vec::new();
        if self.intake.stage_all(&mut receipts).await.is_err() {
            return false;
        }
        for receipt in receipts {
            self.intake.wait(receipt).await;
        }
        true
    }
}

/// Longest pause between two bursts, while nobody reaches the hub.
const PAUSE_MOST: Duration = Duration::from_secs(600);
