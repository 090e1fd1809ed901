//! What goes wrong, and when.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::device::{self, Handle};
use super::files::Down;
use super::files::rot::Rotten;
use super::line::{GOOD, Line, Quality};
use super::network::{Link, READER, Weather};
use super::site::{HUB, Machine, Order, Site, TWIN, ToDisk};
use super::sum::{EVENTS_LEAST, KINDS_LEAST};
use crate::random::{Random, seed_for};

/// Brings trouble until its time is over.
#[derive(Debug)]
pub(super) struct Fate<'a> {
    site: &'a Site,
    machines: &'a [Machine],
    random: Random,
    /// Of what happens to disks, if anything does.
    days: Random,
    /// Of places that wear out, if any do.
    wear: Random,
    /// Of what happens to devices, if there are any.
    nodes: Random,
    /// Of what happens to the connections of clients, if there are any.
    talks: Random,
    /// The twin does not run yet.
    twin_is_to_come: bool,
}

impl<'a> Fate<'a> {
    /// For these machines; the last of them is the hub.
    #[must_use]
    pub(super) fn new(site: &'a Site, machines: &'a [Machine]) -> Self {
        Self {
            site,
            machines,
            random: Random::new(seed_for(site.options.seed, 2)),
            days: Random::new(seed_for(site.options.seed, 6)),
            wear: Random::new(seed_for(site.options.seed, 14)),
            nodes: Random::new(seed_for(site.options.seed, 8)),
            talks: Random::new(seed_for(site.options.seed, 9)),
            twin_is_to_come: site.options.twins,
        }
    }

    /// Trouble, for as long as it is to come or until something is wrong.
    pub(super) async fn run(&mut self) {
        let mut outage = self.site.options.outage;
        while self.site.story.elapsed() < self.site.options.duration || self.is_thin() {
            let calm = self.site.options.calm.as_millis() as u64;
            let pause = Duration::from_millis(self.random.below(calm * 2));
            tokio::time::sleep(pause).await;
            for machine in self.machines {
                machine.check_bound(&self.site.ledger);
            }
            if self.site.ledger.wrong().is_some() {
                return;
            }
            match outage.filter(|_| self.random.one_in(10)) {
                Some(length) => {
                    outage = None;
                    self.outage(length).await;
                }
                None => self.trouble().await,
            }
            self.day_two();
            self.decay();
            self.wear_out();
            self.small_trouble();
            self.trouble_of_clients();
        }
        if let Some(length) = outage {
            self.outage(length).await;
        }
    }

    /// Too little has happened to show anything. What has not come by then does not come.
    fn is_thin(&self) -> bool {
        let kinds = self.site.story.faults().len();
        let is_early = self.site.story.elapsed()
            < self.site.options.duration * 8 + self.site.options.outage.unwrap_or_default();
        is_early && (kinds < KINDS_LEAST || self.site.ledger.totals().acked < EVENTS_LEAST)
    }

    /// Nothing goes wrong any more.
    pub(super) fn relent(&self) {
        for machine in self.machines {
            machine.disk.heal();
        }
        for device in self.machines.iter().flat_map(|m| &m.devices) {
            device.chip.disarm();
            device.line.set_quality(GOOD);
            device.line.plug(true);
        }
        let clients = self.machines.iter().flat_map(|m| m.clients.clone());
        for host in self.hosts().into_iter().chain(clients) {
            self.site.network.set_link(&host, FAIR);
        }
        self.site.clock.set(Some(0));
        self.site.clock.set_latency(Duration::from_millis(1));
        self.site.slowness.store(1, Ordering::Relaxed);
    }

    async fn trouble(&mut self) {
        let at = self.random.index(self.machines.len());
        let machine = &self.machines[at];
        let name = &machine.name;
        match self.random.below(13) {
            12 => self.bring_down(machine, Down::Stop),
            0 | 1 => self.bring_down(machine, Down::Kill),
            2 | 3 => self.bring_down(machine, Down::PowerCut),
            4 | 5 => {
                let operations = self.random.below(400);
                self.note(
                    "down inside an operation",
                    &format!("{name} will go down in its {operations}th operation"),
                );
                machine.disk.arm(operations);
            }
            6 | 7 => self.weather().await,
            8 => {
                let host = self.host();
                self.note("connections break", &format!("connections of {host} break"));
                self.site.network.reset(&host);
            }
            9 => {
                let syncs = self.random.below(20);
                self.note(
                    "a sync fails",
                    &format!("the {syncs}th sync of {name} will fail"),
                );
                machine.disk.spoil_sync(syncs);
            }
            10 => {
                let free = self.random.below(2 << 20);
                let length = self.length(300);
                self.note(
                    "the disk is full",
                    &format!("the disk of {name} has {free} bytes left, for {length:?}"),
                );
                machine.disk.leave_free(Some(free));
                tokio::time::sleep(length).await;
                machine.disk.leave_free(None);
            }
            _ => self.time(),
        }
    }

    /// Something is done to a disk, at times.
    fn day_two(&mut self) {
        let options = &self.site.options;
        let (exchanges, puts_back_hub) = (options.exchanges, options.hub_put_back);
        if !(exchanges || puts_back_hub || self.twin_is_to_come) || !self.days.one_in(4) {
            return;
        }
        let gateways = self.machines.len() - 1;
        let (at, disk) = match (exchanges, puts_back_hub) {
            (true, _) => {
                let todo = match self.days.below(4) {
                    0 => ToDisk::Exchange,
                    1 => ToDisk::Copy,
                    _ => ToDisk::PutBack,
                };
                (self.days.index(gateways), todo)
            }
            (_, true) => (gateways, ToDisk::PutBack),
            _ => {
                self.twin_is_to_come = false;
                let twin = self.machines.iter().find(|m| m.name == TWIN);
                (
                    0,
                    ToDisk::Twin(Box::new(twin.expect("it is there").clone())),
                )
            }
        };
        let down = self.days.pick(&[Down::Stop, Down::Kill, Down::PowerCut]);
        let pause = Duration::from_millis(300 + self.days.below(60_000));
        self.machines[at]
            .orders
            .send(Order { down, pause, disk })
            .ok();
    }

    /// A disk loses what it had, for a moment or for ever.
    fn decay(&mut self) {
        let options = &self.site.options;
        let machine = &self.machines[self.days.index(self.machines.len())];
        let name = &machine.name;
        if options.read_errors && self.days.one_in(3) {
            let length = Duration::from_millis(self.days.below(READ_AGAIN_MS));
            if machine.disk.hide_page(length) {
                let what = format!("a page of {name} cannot be read for {length:?}");
                self.note("a read fails", &what);
            }
        }
        if options.rot
            && self.days.one_in(4)
            && let Some(of) = machine.disk.rot()
        {
            // Of an identity there are two.
            if of == Rotten::Segment {
                self.site.ledger.is_hit();
            }
            self.note("bits rot", &format!("bits rot on {name}, in {of:?}"));
        }
    }

    /// A place of a disk takes no writes any more, for ever.
    fn wear_out(&mut self) {
        if !self.site.options.wears || !self.wear.one_in(8) {
            return;
        }
        let machine = &self.machines[self.wear.index(self.machines.len())];
        if machine.disk.worn() < WORN_MAX && machine.disk.wear_out() {
            let what = format!("a page of {} takes no writes any more", machine.name);
            self.note("a page wears out", &what);
        }
    }

    /// Something happens to a device, at times.
    fn small_trouble(&mut self) {
        let devices: Vec<&Handle> = self.machines.iter().flat_map(|m| &m.devices).collect();
        if devices.is_empty() || self.nodes.one_in(2) {
            return;
        }
        let Handle {
            name,
            line,
            chip,
            orders,
        } = devices[self.nodes.index(devices.len())];
        let most = self.nodes.pick(&[1, 30, 1200]);
        let length = Duration::from_millis(50 + self.nodes.below(most * 1000));
        let order = |order| {
            orders.send(order).ok();
        };
        match self.nodes.below(9) {
            0 | 1 => {
                self.site.story.count("a device is reset");
                order(device::Order::Reset(length));
            }
            2 | 3 => {
                let operations = self.nodes.below(60);
                self.note(
                    "a device loses its power inside an operation",
                    &format!("{name} will lose its power in its {operations}th operation"),
                );
                chip.arm(operations);
            }
            4 => {
                self.site.story.count("a device is switched off");
                order(device::Order::SwitchOff(length));
            }
            5 => {
                self.note(
                    "a device stands still",
                    &format!("{name} stands still for {length:?}"),
                );
                order(device::Order::StandStill(length));
            }
            6 => {
                self.note(
                    "a line is unplugged",
                    &format!("the line of {name} is unplugged for {length:?}"),
                );
                line.plug(false);
                later(length, line, |line| line.plug(true));
            }
            7 if self.site.options.empty_chips && self.nodes.one_in(3) => {
                self.site.story.count("a device with an empty chip");
                order(device::Order::Exchange(length));
            }
            _ => {
                let quality = Quality {
                    damages: self.nodes.pick(&[0, 200, 2000]),
                    loses: self.nodes.pick(&[0, 200, 2000]),
                    latency: Duration::from_millis(self.nodes.pick(&[1, 50, 700])),
                };
                self.note(
                    "a bad line",
                    &format!("the line of {name}: {quality:?}, for {length:?}"),
                );
                line.set_quality(quality);
                later(length, line, |line| line.set_quality(GOOD));
            }
        }
    }

    /// Something happens to a client's network, at times.
    fn trouble_of_clients(&mut self) {
        let clients: Vec<&String> = self.machines.iter().flat_map(|m| &m.clients).collect();
        if clients.is_empty() || self.talks.one_in(2) {
            return;
        }
        let name = clients[self.talks.index(clients.len())];
        if self.talks.one_in(2) {
            self.note(
                "a client's connection breaks",
                &format!("the connection of {name} breaks"),
            );
            return self.site.network.reset(name);
        }
        let weather = self
            .talks
            .pick(&[Weather::BlackHole, Weather::Down, Weather::Fair]);
        let latency = Duration::from_millis(self.talks.pick(&[1, 20, 300, 2000]));
        let most = self.talks.pick(&[3, 60, 600]);
        let length = Duration::from_millis(300 + self.talks.below(most * 1000));
        self.note(
            "a client's network",
            &format!("the link of {name}: {weather:?}, {latency:?}, for {length:?}"),
        );
        let (network, name) = (self.site.network.clone(), name.clone());
        network.set_link(&name, Link { weather, latency });
        tokio::spawn(async move {
            tokio::time::sleep(length).await;
            network.set_link(&name, FAIR);
        });
    }

    fn bring_down(&mut self, machine: &Machine, down: Down) {
        let most = self.random.pick(&[1, 20, 300]);
        let pause = self.length(most);
        // The machine tells of it; an order to one that is down already is void.
        let disk = ToDisk::Nothing;
        machine.orders.send(Order { down, pause, disk }).ok();
    }

    async fn weather(&mut self) {
        let host = self.host();
        let weather = self
            .random
            .pick(&[Weather::BlackHole, Weather::Down, Weather::Fair]);
        let latency = Duration::from_millis(self.random.pick(&[1, 20, 300, 2000]));
        let most = self.random.pick(&[3, 60, 600]);
        let length = self.length(most);
        let kind = match weather {
            Weather::BlackHole => "a black hole",
            Weather::Down => "a broken network",
            Weather::Fair => "a slow network",
        };
        self.note(
            kind,
            &format!("the link of {host}: {weather:?}, {latency:?}, for {length:?}"),
        );
        self.site.network.set_link(&host, Link { weather, latency });
        tokio::time::sleep(length).await;
        self.site.network.set_link(&host, FAIR);
    }

    /// Nobody reaches the hub for a long time.
    async fn outage(&mut self, length: Duration) {
        self.note(
            "an outage",
            &format!("nobody reaches the hub for {length:?}"),
        );
        let slower = u32::try_from(length.as_secs() / 3600)
            .unwrap_or(u32::MAX)
            .clamp(1, 50);
        self.site.slowness.store(slower, Ordering::Relaxed);
        self.site.reads.send_replace(false);
        let down = Link {
            weather: Weather::Down,
            ..FAIR
        };
        for host in self.hosts() {
            self.site.network.set_link(&host, down);
        }
        tokio::time::sleep(length).await;
        for host in self.hosts() {
            self.site.network.set_link(&host, FAIR);
        }
        self.site.slowness.store(1, Ordering::Relaxed);
        self.site.reads.send_replace(true);
        self.site.story.tell("the hub can be reached again");
    }

    fn time(&mut self) {
        if self.random.one_in(2) {
            let latency = Duration::from_micros(self.random.pick(&[200, 1000, 10_000, 90_000]));
            self.note("slow disks", &format!("disks take {latency:?}"));
            return self.site.clock.set_latency(latency);
        }
        let wrong_by = self.random.pick(&[
            None,
            Some(0),
            Some(-86_400),
            Some(3600),
            Some(40),
            Some(-40),
        ]);
        self.note(
            "a wrong clock",
            &format!("clocks are wrong by {wrong_by:?} s (none: 1970)"),
        );
        self.site.clock.set(wrong_by);
    }

    fn note(&self, kind: &'static str, what: &str) {
        self.site.story.count(kind);
        self.site.story.tell(what);
    }

    fn length(&mut self, most_s: u64) -> Duration {
        Duration::from_millis(300 + self.random.below(most_s * 1000))
    }

    fn hosts(&self) -> Vec<String> {
        let gateways = self
            .machines
            .iter()
            .map(|m| m.name.clone())
            .filter(|n| n != HUB);
        gateways.chain([READER.to_owned()]).collect()
    }

    fn host(&mut self) -> String {
        let hosts = self.hosts();
        hosts[self.random.index(hosts.len())].clone()
    }
}

/// A line is well again by itself.
fn later(length: Duration, line: &Line, heal: fn(&Line)) {
    let line = line.clone();
    tokio::spawn(async move {
        tokio::time::sleep(length).await;
        heal(&line);
    });
}

/// A page is well again before a log takes it for rotten ([decision 0016](../../../docs/decisions/0016-unreadable-places.md)).
const READ_AGAIN_MS: u64 = 25_000;
/// Pages of one disk that wear out.
const WORN_MAX: usize = 3;
/// As a network should be.
pub(super) const FAIR: Link = Link {
    weather: Weather::Fair,
    latency: Duration::from_millis(5),
};
