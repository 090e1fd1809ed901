//! Gathers the status of a running gateway. Reads what others count; changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sedge_config::checked;
use sedge_core::frame::Header;
use sedge_core::{LogId, Micros};
use sedge_store::{Partition, Pulse, Timekeeping, WriteBudget};
use sedge_uplink::forward::{ForwardHandle, ForwardStatus};

use sedge_uplink::trust::clock::ClockState;
use tokio::time::Instant;

use super::disk::{Chain, Disk};
use super::measure::{self, Measure};
use crate::control::Gather;
use crate::outlook::{self, Flow, Outlook, Wear};
use crate::rates::Rates;
use crate::status::{self, Losses, Status};
use crate::telemetry::{self, Telemetry};
use crate::timekeeper::Timekeeper;
use crate::vitals::Part;

/// Looks at a gateway.
pub(super) struct Looker {
    agent: Arc<checked::Agent>,
    telemetry: Telemetry,
    chains: Vec<Seen>,
    forwarders: Vec<ForwardHandle>,
    time: Arc<Timekeeper>,
    budget: Option<Arc<WriteBudget>>,
    rates: Rates,
    measure: Measure,
}

/// What an uplink has not got.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    events: u64,
    /// When the oldest of them came; µs since 1970.
    oldest: Option<i64>,
}

impl Waiting {
    /// What `uplink` has not got of `log`. A log that cannot be read has nothing that could be told.
    fn of(log: &Partition, uplink: u32) -> Self {
        let (ledger, next) = (log.ledger(), log.next());
        let acked = ledger.cursor(uplink).map_or(ledger.oldest, |c| c.next);
        let from = acked.max(ledger.oldest);
        if from >= next {
            return Self::default();
        }
        let events = log.events_from(from).unwrap_or(next.since(from));
        let chunk = log.read(from, 1).ok();
        let made =
            chunk.and_then(|chunk| Some(Header::parse(&chunk.frames, None).ok()?.time.get()));
        Self {
            events,
            oldest: made.filter(|_| events > 0),
        }
    }

    /// Both together.
    fn with(self, other: Self) -> Self {
        let oldest = self.oldest.into_iter().chain(other.oldest).min();
        Self {
            events: self.events + other.events,
            oldest,
        }
    }

    /// The worse of two views of the same events.
    fn max(self, other: Self) -> Self {
        let oldest = self.oldest.into_iter().chain(other.oldest).min();
        Self {
            events: self.events.max(other.events),
            oldest,
        }
    }
}

/// What must turn in a gateway, by its name: the writer of each log, and each uplink.
pub(super) fn parts(
    agent: &checked::Agent,
    disk: &Disk,
    forwarders: &[ForwardHandle],
) -> Vec<Part> {
    let part = |name: String, pulse: Pulse, lets_in| Part {
        name,
        late: Box::new(move || pulse.late()),
        lets_in,
    };
    let writers = disk.chains.iter().flat_map(|chain| {
        let name = format!("the writer of {}/{}", chain.stream, chain.partition);
        let logs = chain.logs.iter();
        logs.map(move |log| part(name.clone(), log.partition.pulse(), true))
    });
    let named = agent.uplinks.iter().zip(forwarders);
    let uplinks = named.map(|(uplink, forwarder)| {
        let name = format!("the uplink {}", uplink.name);
        part(name, forwarder.pulse(), false)
    });
    writers.chain(uplinks).collect()
}

/// What gives the status of a gateway.
pub(super) fn gather(looker: &Arc<Mutex<Looker>>) -> Gather {
    let looker = Arc::clone(looker);
    Arc::new(move || looker.lock().unwrap_or_else(PoisonError::into_inner).look())
}

/// What says in one line how a gateway goes.
pub(super) fn line(looker: &Arc<Mutex<Looker>>) -> Arc<dyn Fn() -> String + Send + Sync> {
    let gather = gather(looker);
    Arc::new(move || gather().line())
}

/// What there is to look at of one chain.
struct Seen {
    stream: String,
    partition: u16,
    capacity_bytes: u64,
    draining: bool,
    logs: Vec<Partition>,
    /// Ended because a hub holds them otherwise, each with its directory.
    diverged: Vec<(PathBuf, Partition)>,
    /// Why the newest takes nothing, as it was told last.
    refused: Option<Arc<str>>,
}

impl Looker {
    pub(super) fn new(
        agent: &Arc<checked::Agent>,
        disk: &Disk,
        telemetry: Telemetry,
        forwarders: Vec<ForwardHandle>,
        time: &Arc<Timekeeper>,
        budget: Option<Arc<WriteBudget>>,
    ) -> Arc<Mutex<Self>> {
        let chains = disk.chains.iter().map(Seen::of).collect();
        Arc::new(Mutex::new(Self {
            agent: Arc::clone(agent),
            telemetry,
            chains,
            forwarders,
            time: Arc::clone(time),
            budget,
            rates: Rates::new(RATES_SPAN, RATES_EVERY),
            measure: Measure::new(),
        }))
    }

    /// A log is removed from its chain.
    pub(super) fn forget(&mut self, log: LogId) {
        for chain in &mut self.chains {
            chain.logs.retain(|known| known.log_id() != log);
        }
        self.chains.retain(|chain| !chain.logs.is_empty());
    }

    /// Remembers the counts of this moment, to make rates of.
    pub(super) fn sample(&mut self) {
        let mut counts = BTreeMap::new();
        for source in self.telemetry.sources() {
            counts.insert(
                format!("source/{}", source.name()),
                source.counts().accepted,
            );
        }
        for chain in &mut self.chains {
            chain.tell_refusal(&self.agent.gateway.data_dir);
            counts.insert(
                chain.id(),
                chain.logs.iter().map(|log| log.next().get()).sum(),
            );
        }
        for (uplink, forwarder) in self.agent.uplinks.iter().zip(&self.forwarders) {
            counts.insert(
                format!("uplink/{}", uplink.name),
                forwarder.status().acked_offsets,
            );
        }
        let now = Instant::now();
        self.rates.sample(now, counts);
        self.measure(now);
    }

    /// Shows what there is to measure.
    fn measure(&mut self, now: Instant) {
        for (uplink, forwarder) in self.agent.uplinks.iter().zip(&self.forwarders) {
            let number = super::uplinks::uplink_number(&uplink.name);
            self.measure.uplink(number, forwarder.sessions());
        }
        let chains: Vec<(&Seen, Vec<u32>)> = self
            .chains
            .iter()
            .map(|chain| (chain, carriers(&self.agent, &chain.stream)))
            .collect();
        let logs = chains.iter().flat_map(|(chain, uplinks)| {
            let head = chain.logs.len() - 1;
            let logs = chain.logs.iter().enumerate();
            logs.map(move |(at, log)| measure::Seen {
                chain: chain.id(),
                log,
                uplinks,
                is_head: at == head,
            })
        });
        self.measure.sample(now, logs, outlook::written_bytes);
    }

    /// The status at this moment. Blocks for the disk.
    pub(super) fn look(&mut self) -> Status {
        let forwarded: Vec<ForwardStatus> =
            self.forwarders.iter().map(ForwardHandle::status).collect();
        let uplinks = self
            .agent
            .uplinks
            .iter()
            .zip(&forwarded)
            .map(|(uplink, seen)| self.uplink(uplink, seen));
        Status {
            gateway: self.agent.gateway.id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.telemetry.started().elapsed().as_secs(),
            data_dir: self.agent.gateway.data_dir.display().to_string(),
            clock: doubt(&self.time),
            time: self.time.standing().by.map(str::to_owned),
            write_budget_left: self.budget.as_ref().map(|budget| budget.left()),
            sources: self
                .telemetry
                .sources()
                .iter()
                .map(|source| self.source(source))
                .collect(),
            streams: self.streams(),
            uplinks: uplinks.collect(),
            wear: Wear::of(
                outlook::written_bytes(),
                self.measure.written(),
                self.agent.gateway.disk_tbw_bytes,
            ),
        }
    }

    /// How long ago something was stamped.
    fn age(&self, made: Option<i64>) -> Option<f64> {
        let age = self.time.apparent_age(Micros::new(made?));
        age.map(|age| age.as_secs_f64())
    }

    fn source(&self, source: &telemetry::Source) -> status::Source {
        let (counts, state) = (source.counts(), source.state());
        let named = |map: BTreeMap<&'static str, u64>| {
            map.into_iter()
                .map(|(name, n)| (name.to_owned(), n))
                .collect()
        };
        status::Source {
            name: source.name().to_owned(),
            kind: source.kind().to_owned(),
            stream: source.stream().to_owned(),
            up: state.up,
            state: state.what,
            clients: counts.clients,
            rate: self.rates.rate(&format!("source/{}", source.name())),
            accepted: counts.accepted,
            accepted_bytes: counts.accepted_bytes,
            settled: counts.settled,
            duplicates: counts.duplicates,
            dropped: named(counts.dropped),
            incidents: named(counts.incidents),
        }
    }

    fn streams(&self) -> Vec<status::Stream> {
        let mut streams: Vec<status::Stream> = Vec::new();
        for chain in &self.chains {
            let partition = self.partition(chain);
            match streams
                .iter_mut()
                .find(|stream| stream.name == chain.stream)
            {
                Some(stream) => stream.partitions.push(partition),
                None => streams.push(status::Stream {
                    name: chain.stream.clone(),
                    draining: chain.draining,
                    partitions: vec![partition],
                }),
            }
        }
        streams
    }

    fn partition(&self, chain: &Seen) -> status::Partition {
        let head = chain.logs.last().expect("a chain has a log");
        let (stats, ledger) = (head.stats(), head.ledger());
        let numbers = carriers(&self.agent, &chain.stream);
        // The slowest of them holds the events back.
        let waiting = numbers.iter().map(|uplink| chain.waiting(*uplink));
        let waiting = waiting.reduce(|one, other| one.max(other));
        status::Partition {
            partition: chain.partition,
            log: head.log_id().to_string(),
            oldest: head.oldest().get(),
            next: head.next().get(),
            held: head
                .events_from(head.oldest())
                .unwrap_or(head.next().since(head.oldest())),
            fill: stats.segments_held as f64 / stats.segments.max(1) as f64,
            capacity_bytes: chain.capacity_bytes,
            rate: self.rates.rate(&chain.id()),
            full: stats.full,
            refused: chain.refusal().as_deref().map(str::to_owned),
            lag: waiting.map(|waiting| waiting.events),
            oldest_unacked_s: waiting.and_then(|waiting| self.age(waiting.oldest)),
            full_in_s: self.full_in(chain, &numbers),
            losses: losses(&ledger),
            commits: stats.commits,
            commit_s: stats.commit_us as f64 / 1e6,
            commit_max_s: stats.commit_us_max as f64 / 1e6,
            bytes: stats.bytes,
            written_bytes: stats.written_bytes,
            syncs: stats.syncs,
            linger_s: stats.linger_us as f64 / 1e6,
            diverged: chain.diverged(&numbers),
        }
    }

    /// When the newest log of a chain is full. The slowest of the uplinks that carry it holds the events back.
    fn full_in(&self, chain: &Seen, uplinks: &[u32]) -> Option<Outlook> {
        let head = chain.logs.last().filter(|head| head.is_made())?;
        let id = chain.id();
        let rates = uplinks
            .iter()
            .map(|uplink| self.measure.came_and_left(&id, *uplink));
        let slower = |one: (Flow, f64), other: (Flow, f64)| match one.1 <= other.1 {
            true => one,
            false => other,
        };
        let slowest = rates.reduce(|one, other| Some(slower(one?, other?)));
        let (came, left) = match slowest {
            Some(rates) => rates?,
            None => (self.measure.came(&id)?, 0.0),
        };
        let acked = uplinks.iter().map(|uplink| head.cursor(*uplink));
        let acked = acked.map(|cursor| cursor.map_or(head.oldest(), |cursor| cursor.next));
        let from = acked.min().unwrap_or(head.oldest()).max(head.oldest());
        Some(outlook::full(head.room_before(from), came, left))
    }

    /// When an uplink has handed over the `lag` events that wait for it.
    fn empty_in(&self, uplink: &checked::Uplink, lag: u64) -> Option<Outlook> {
        let number = super::uplinks::uplink_number(&uplink.name);
        let (mut came, mut left) = (0.0, 0.0);
        for chain in &self.chains {
            if uplink.carries(&chain.stream) {
                let rates = self.measure.came_and_left(&chain.id(), number)?;
                (came, left) = (came + rates.0.events, left + rates.1);
            }
        }
        outlook::empty(lag, came, left)
    }

    fn uplink(&self, uplink: &checked::Uplink, seen: &ForwardStatus) -> status::Uplink {
        let number = super::uplinks::uplink_number(&uplink.name);
        let chains = || {
            self.chains
                .iter()
                .filter(|chain| uplink.carries(&chain.stream))
        };
        let logs = chains().flat_map(|chain| &chain.logs);
        let lost = logs
            .filter_map(|log| log.ledger().cursor(number))
            .map(|cursor| cursor.lost)
            .fold(0, u64::saturating_add);
        let waiting = chains()
            .map(|chain| chain.waiting(number))
            .reduce(|one, other| one.with(other));
        let waiting = waiting.unwrap_or_default();
        status::Uplink {
            name: uplink.name.to_string(),
            hub: uplink.hub.to_string(),
            up: seen.connected,
            state: match (&seen.last_error, &seen.held) {
                (_, None) if seen.connected => format!("connected to {}", uplink.hub),
                (_, Some(why)) if seen.connected => {
                    format!(
                        "connected to {}; only what is urgent goes: {why}",
                        uplink.hub
                    )
                }
                (Some(error), _) => error.clone(),
                (None, _) => format!("connecting to {}", uplink.hub),
            },
            lag: waiting.events,
            oldest_unacked_s: self.age(waiting.oldest),
            rate: self.rates.rate(&format!("uplink/{}", uplink.name)),
            empty_in_s: self
                .empty_in(uplink, waiting.events)
                .filter(|_| seen.connected),
            lost,
            refused: refused_of(seen),
            certificate_ends: super::trust_files(uplink).life().map(|(_, end)| end),
        }
    }
}

/// What the hub says of single logs holds as long as the connection on which it said so.
fn refused_of(seen: &ForwardStatus) -> Vec<status::Refused> {
    let logs = seen.logs.iter().filter(|_| seen.connected);
    let refused = logs.filter_map(|log| {
        Some(status::Refused {
            stream: log.stream.clone(),
            partition: log.partition,
            why: log.refused.clone()?,
        })
    });
    refused.collect()
}

/// The numbers of the cursors of the uplinks that carry a stream.
fn carriers(agent: &checked::Agent, stream: &str) -> Vec<u32> {
    super::carriers(agent, stream).into_keys().collect()
}

/// What is wrong with the clock, in words.
fn doubt(time: &Timekeeper) -> Option<String> {
    let span = |apart: Duration| crate::cli::span(apart.as_secs_f64());
    let standing = time.standing();
    let aside = |(off, ahead)| {
        let side = if ahead { "ahead" } else { "behind" };
        format!(
            "the clock was set {} {side}, and neither NTP nor a hub vouches for that; the time goes on by the uptime",
            span(off)
        )
    };
    match time.last_good().state() {
        ClockState::Plausible if standing.by.is_none() => Some(
            "nobody vouches for the clock yet; events have an uptime until NTP or a hub does"
                .to_owned(),
        ),
        ClockState::Plausible => standing.off.map(aside),
        ClockState::Behind(apart) => Some(format!(
            "the clock is {} behind a time that has been; certificates are judged by that",
            span(apart)
        )),
        ClockState::Ahead(apart) => Some(format!(
            "the clock is {} ahead of the last time known to be good; certificates are judged by both",
            span(apart)
        )),
    }
}

impl Seen {
    fn of(chain: &Chain) -> Self {
        let head = chain.head().place;
        let offered = chain
            .logs
            .iter()
            .filter(|log| log.is_offered() || log.place == head);
        let diverged = chain
            .logs
            .iter()
            .filter(|log| !log.is_offered())
            .map(|log| (log.path().to_owned(), log.partition.clone()));
        Self {
            stream: chain.stream.clone(),
            partition: chain.partition,
            capacity_bytes: chain.head().disk_bytes(),
            draining: chain.draining,
            logs: offered.map(|log| log.partition.clone()).collect(),
            diverged: diverged.collect(),
            refused: None,
        }
    }

    /// What an uplink has not got of this chain. Reads the time of the oldest of it from disk.
    fn waiting(&self, uplink: u32) -> Waiting {
        self.logs
            .iter()
            .map(|log| Waiting::of(log, uplink))
            .fold(Waiting::default(), Waiting::with)
    }

    fn diverged(&self, uplinks: &[u32]) -> Vec<status::Diverged> {
        let seen = |(path, log): &(PathBuf, Partition)| {
            let waiting = uplinks
                .iter()
                .map(|uplink| Waiting::of(log, *uplink).events);
            status::Diverged {
                log: log.log_id().to_string(),
                path: path.display().to_string(),
                events: waiting.max().unwrap_or(0),
            }
        };
        self.diverged.iter().map(seen).collect()
    }

    /// Why it takes nothing, if it should.
    fn refusal(&self) -> Option<Arc<str>> {
        let head = self.logs.last().filter(|_| !self.draining)?;
        head.intake_refused().borrow().clone()
    }

    /// One log line when the disk turns out to have no room, and one when it has.
    fn tell_refusal(&mut self, data_dir: &Path) {
        let refused = self.refusal();
        if refused == self.refused {
            return;
        }
        let (stream, partition) = (self.stream.as_str(), self.partition);
        match &refused {
            Some(why) => {
                tracing::error!(
                    partition,
                    data_dir = %data_dir.display(),
                    "stream {stream}: {why}; nothing is taken until it has"
                )
            }
            None => tracing::info!(
                partition,
                "stream {stream}: the disk has room, events are taken"
            ),
        }
        self.refused = refused;
    }

    fn id(&self) -> String {
        format!("stream/{}/{}", self.stream, self.partition)
    }
}

fn losses(ledger: &sedge_core::ledger::Ledger) -> Losses {
    let known = |time: Micros| {
        time.is_known()
            .then(|| time.get())
            .filter(|time| *time != 0)
    };
    Losses {
        handed_over: ledger.handed_over,
        evicted: ledger.evicted,
        expired: ledger.expired,
        corrupt: ledger.corrupt,
        burned: ledger.skipped,
        refused: ledger.refused,
        first: known(ledger.loss_first),
        last: known(ledger.loss_last),
    }
}

/// The rates that are shown as such are those of the last ten seconds.
const RATES_SPAN: Duration = Duration::from_secs(10);
const RATES_EVERY: Duration = Duration::from_secs(1);
