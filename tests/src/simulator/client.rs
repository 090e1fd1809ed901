//! MQTT clients of a gateway: they publish at QoS 1, and some of it at QoS 0, and do what MQTT 3.1.1 asks of them. What has no PUBACK is sent again on
//! the next connection, in the same order and under the same packet id: with DUP if the gateway still has the session, and as a new publish if it has not.
//!
//! A client also knows when a redelivery must be recognised ([decision 0003](../../../docs/decisions/0003-when-dup-is-a-duplicate.md)); all others may
//! come twice.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::network::{Dialled, Said};
use super::site::Site;
use crate::random::{Random, seed_for};
use crate::rig::packets::{self, Packet};

/// A client, connected or not.
#[derive(Debug)]
pub(super) struct Client {
    site: Site,
    name: String,
    port: u16,
    identity: u32,
    random: Random,
    habit: Habit,
    /// Packet ids of PUBACKs that the gateway may have said.
    said: Said,
    in_flight: VecDeque<Unsettled>,
    next_id: u16,
    left: u64,
    publish_at: Instant,
    /// When the gateway last had a session of this client for certain.
    session_at: Option<Instant>,
    /// Publishes that were acknowledged since the gateway may last have lost count of the packet ids.
    run: u64,
    dials: u64,
    failures: u32,
    said_last: bool,
}

/// How a client is.
#[derive(Clone, Copy, Debug)]
struct Habit {
    /// Publishes without PUBACK, at most.
    window: usize,
    /// Packet ids are counted up; else the lowest is taken that is free.
    counts_up: bool,
    /// One in so many publishes is of QoS 0; 0 for none.
    unasked: u64,
    /// For how long it waits for a PUBACK before it connects anew.
    patience: Duration,
}

/// A publish without PUBACK.
#[derive(Debug)]
struct Unsettled {
    number: u64,
    value: Vec<u8>,
    id: u16,
    /// In which life of the gateway's door it was sent first.
    life: u64,
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There is nothing more to say, for now.
    Left,
    /// By itself.
    Broken,
}

impl Client {
    /// The client with this number, of the gateway `machine` that listens on `port`.
    #[must_use]
    pub(super) fn new(site: &Site, machine: &str, number: usize, port: u16) -> Self {
        let name = name(number);
        let mut random = Random::new(seed_for(site.options.seed, 5000 + number as u64));
        let habit = Habit {
            window: random.pick(&[1, 5, INFLIGHT_MAX as usize]),
            counts_up: !random.one_in(4),
            unasked: random.pick(&[0, 0, 5]),
            patience: Duration::from_secs(random.pick(&[15, 120])),
        };
        let home = site.home_of(machine, &name);
        Self {
            identity: site.ledger.client(machine, &home),
            next_id: match random.one_in(3) {
                true => u16::MAX - 300,
                false => 1,
            },
            site: site.clone(),
            name,
            port,
            random,
            habit,
            said: Arc::new(Mutex::new(BTreeSet::new())),
            in_flight: VecDeque::new(),
            left: site.options.client_events,
            publish_at: Instant::now(),
            session_at: None,
            run: 0,
            dials: 0,
            failures: 0,
            said_last: false,
        }
    }

    /// Connects, again and again, until everything is said.
    pub(super) async fn run(mut self) {
        while !self.said_last {
            let end = self.converse().await;
            self.site.story.mix(&[50, self.identity.into(), self.dials]);
            let pause = match end {
                Some(End::Left) => self.publish_at.saturating_duration_since(Instant::now()),
                Some(End::Broken) | None => self.backoff(),
            };
            // Who sleeps through an outage still wants to hear that it is over.
            let wakes = Instant::now() + pause;
            while Instant::now() < wakes && !self.is_end() {
                let rest = wakes - Instant::now();
                tokio::time::sleep(rest.min(LOOK_UP)).await;
            }
        }
        self.site.ledger.retire(self.identity);
    }

    fn is_end(&self) -> bool {
        self.site.finish.load(Ordering::Relaxed)
    }

    /// The longer the hub cannot be reached, the longer are all pauses.
    fn slowness(&self) -> u32 {
        self.site.slowness.load(Ordering::Relaxed).max(1)
    }

    fn backoff(&mut self) -> Duration {
        let most = 500_u64 << self.failures.min(6);
        let pause = Duration::from_millis(10 + self.random.below(most)) * self.slowness();
        pause.min(PAUSE_MOST)
    }

    /// One connection; `None` if it did not come about.
    async fn converse(&mut self) -> Option<End> {
        self.dials += 1;
        self.failures += 1;
        let network = self.site.network.clone();
        let dialled = network.dial(&self.name, self.port, self.dials, &self.said);
        let Dialled { mut socket, life } = timeout(CONNECT_PATIENCE, dialled).await.ok()?.ok()?;
        let mut input = Vec::new();
        let hello = packets::connect(&self.name, false, KEEP_ALIVE_S);
        socket.write_all(&hello).await.ok()?;
        let connack = loop {
            if let Some((
                Packet::ConnAck {
                    session_present,
                    code,
                },
                used,
            )) = packets::first(&input)
            {
                input.drain(..used);
                break (code == 0).then_some(session_present)?;
            }
            let read = timeout(CONNECT_PATIENCE, socket.read_buf(&mut input)).await;
            read.ok()?.ok().filter(|read| *read > 0)?;
        };
        self.failures = 0;
        let again = self.again(connack, life);
        socket.write_all(&again).await.ok()?;
        let mut heard = Instant::now();
        let mut pinged = Instant::now();
        let mut progress = Instant::now();
        loop {
            let rests = self.publish_at > Instant::now() || !self.has_more();
            if self.slowness() > 1 && self.in_flight.is_empty() && rests {
                if !self.has_more() {
                    self.publish_at = Instant::now() + PAUSE_MOST;
                }
                socket.write_all(&packets::DISCONNECT).await.ok()?;
                self.session_at = Some(Instant::now());
                return Some(End::Left);
            }
            if self.is_end() && self.in_flight.is_empty() && self.left_last() {
                socket.write_all(&packets::DISCONNECT).await.ok()?;
                self.said_last = true;
                return Some(End::Left);
            }
            let may_publish = self.in_flight.len() < self.habit.window && self.has_more();
            let gives_up = match self.in_flight.is_empty() {
                true => heard + HEAR_PATIENCE,
                false => {
                    (heard + HEAR_PATIENCE).min(progress + self.habit.patience * self.slowness())
                }
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(gives_up) => {
                    self.site.story.tell(&format!("{} gives up its connection", self.name));
                    return Some(End::Broken);
                }
                read = socket.read_buf(&mut input) => {
                    read.ok().filter(|read| *read > 0)?;
                    (heard, self.session_at) = (Instant::now(), Some(Instant::now()));
                    while let Some((packet, used)) = packets::first(&input) {
                        if let Packet::PubAck { id } = packet {
                            progress = Instant::now();
                            self.acknowledged(id);
                        }
                        input.drain(..used);
                    }
                }
                () = tokio::time::sleep_until(self.publish_at), if may_publish => {
                    if self.in_flight.is_empty() {
                        progress = Instant::now();
                    }
                    let burst = self.publish(life);
                    socket.write_all(&burst).await.ok()?;
                }
                () = tokio::time::sleep_until(heard.max(pinged) + PING_EVERY) => {
                    pinged = Instant::now();
                    socket.write_all(&packets::PING).await.ok()?;
                }
            }
        }
    }

    fn has_more(&self) -> bool {
        !self.left_last() && (self.left > 0 || self.is_end())
    }

    /// The last event of all has been sent.
    fn left_last(&self) -> bool {
        self.left == LAST_SENT
    }

    /// What has no PUBACK, once more.
    fn again(&mut self, session_present: bool, life: u64) -> Vec<u8> {
        let lost = !session_present && self.session_at.is_some();
        if lost
            && self
                .session_at
                .is_some_and(|at| at.elapsed() < SESSION_EXPIRY)
        {
            let name = &self.name;
            self.site
                .ledger
                .fail(format!("the session of {name} was forgotten"));
        }
        self.session_at = Some(Instant::now());
        let mut bytes = Vec::new();
        // One of a counted-up sequence cannot be another publish, if the sequence is longer than the window.
        let is_proven = self.habit.counts_up
            && self.site.options.partitions == 1
            && self.run > u64::from(INFLIGHT_MAX) * 4;
        let said = self.said.lock().expect("no holder panics").clone();
        for unsettled in &self.in_flight {
            let is_unsaid = unsettled.life == life && !said.contains(&unsettled.id);
            if !session_present || !(is_proven || is_unsaid) {
                self.site
                    .ledger
                    .may_be_copied(self.identity, unsettled.number);
                self.run = 0;
            }
            let Unsettled { id, value, .. } = unsettled;
            packets::publish(&mut bytes, TOPIC, *id, session_present, value);
        }
        if !self.in_flight.is_empty() {
            self.site.story.count("publishes are sent again");
            self.site.story.tell(&format!(
                "{} sends {} publishes again, its session is {}",
                self.name,
                self.in_flight.len(),
                if session_present { "there" } else { "new" }
            ));
        }
        bytes
    }

    /// The next burst.
    fn publish(&mut self, life: u64) -> Vec<u8> {
        let pause = self.site.options.client_pause.as_micros() as u64;
        let pause = Duration::from_micros(self.random.below(pause * 2)) * self.slowness();
        self.publish_at = Instant::now() + pause.min(PAUSE_MOST);
        let mut bytes = Vec::new();
        let is_end = self.is_end();
        let room = (self.habit.window - self.in_flight.len()) as u64;
        let count = match is_end {
            true => 1,
            false => self.left.min(1 + self.random.below(room.min(8))),
        };
        for _ in 0..count {
            let size = 12 + self.random.index(CLIENT_VALUE_BYTES);
            let (number, value) = self.site.ledger.event(self.identity, size);
            if !is_end && self.habit.unasked > 0 && self.random.one_in(self.habit.unasked) {
                packets::publish_unasked(&mut bytes, TOPIC, &value);
                continue;
            }
            let id = self.draw_id();
            self.said.lock().expect("no holder panics").remove(&id);
            packets::publish(&mut bytes, TOPIC, id, false, &value);
            self.in_flight.push_back(Unsettled {
                number,
                value,
                id,
                life,
            });
        }
        self.left = match is_end {
            true => LAST_SENT,
            false => self.left - count,
        };
        bytes
    }

    fn draw_id(&mut self) -> u16 {
        if self.habit.counts_up {
            let id = self.next_id;
            self.next_id = if id == u16::MAX { 1 } else { id + 1 };
            return id;
        }
        let is_free = |id: &u16| self.in_flight.iter().all(|publish| publish.id != *id);
        (1..=u16::MAX).find(is_free).expect("the window is smaller")
    }

    fn acknowledged(&mut self, id: u16) {
        let Some(at) = self.in_flight.iter().position(|publish| publish.id == id) else {
            let name = &self.name;
            let wrong = format!("{name}: a PUBACK for {id}, which is not in flight");
            return self.site.ledger.fail(wrong);
        };
        let publish = self.in_flight.remove(at).expect("it was just found");
        self.site
            .ledger
            .acknowledged(self.identity, &[publish.number]);
        self.run += 1;
    }
}

/// The name of a client, and of the machine it is in the network.
#[must_use]
pub(super) fn name(number: usize) -> String {
    format!("mqtt-{number}")
}

/// What a gateway takes of one client without PUBACK.
pub(super) const INFLIGHT_MAX: u16 = 20;
/// How long a gateway remembers a client that is away.
const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 86_400);
const TOPIC: &str = "sensors/room";
const CLIENT_VALUE_BYTES: usize = 200;
const KEEP_ALIVE_S: u16 = 60;
const PING_EVERY: Duration = Duration::from_secs(30);
/// Of a gateway that says nothing.
const HEAR_PATIENCE: Duration = Duration::from_secs(75);
const CONNECT_PATIENCE: Duration = Duration::from_secs(15);
const PAUSE_MOST: Duration = Duration::from_secs(600);
const LOOK_UP: Duration = Duration::from_secs(10);
/// There is nothing after the last event.
const LAST_SENT: u64 = u64::MAX;
