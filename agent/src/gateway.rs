//! A gateway from its configuration to its end: opens the logs, starts what feeds and drains them, and stops in order.
//!
//! ```text
//! sources ─Ingest→ partitions ─Forwarder→ hub        control socket, /metrics: look at all of it
//! ```
//! `main`, the demo and tests enter by [`run`]. A *life* ends with the shutdown, with a failed disk, or when a hub turns out
//! to hold another history of a log (a restored or cloned disk): then the next life opens new logs in those chains.

mod disk;
mod diverged;
mod look;
mod measure;
pub mod reload;
mod shown;
mod take_over;
mod trust;
mod uplinks;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sedge_config::checked;
use sedge_core::LogId;
use sedge_store::{Partition, Timekeeping, WriteBudget, world};
use sedge_uplink::forward::ForwardEvent;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use disk::{DiskError, WhenTooLarge};
pub(crate) use trust::{clock as trust_clock, files as trust_files};

use crate::control::Within;
use crate::http::{self, Pages};
use crate::ingest::{Ingest, Refusals, StreamHandle};
use crate::shutdown::{self, Shutdown, Trigger};
use crate::status::Status;
use crate::telemetry::{self, Telemetry};
use crate::timekeeper::Timekeeper;
use crate::vitals::{self, Vitals};
use crate::{control, source, tail};
use disk::{Disk, Drained, OnFatal, Outfit};
use diverged::Untold;
use look::Looker;
use reload::{NotReloaded, Owed, Reloader, Reloads, Trial, Wish};
use shown::Shown;
use uplinks::{Listed, carriers, start_forwarders};

/// Why a gateway ends.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Its directory cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A disk failed while running. Nothing was acknowledged after that.
    #[error("the disk failed: {0}")]
    Store(String),
    /// A port or socket cannot be had.
    #[error("{what}: {source}")]
    Listen {
        /// Which, by its key and value.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A part of this program panicked.
    #[error("a part of the agent panicked")]
    Panicked,
}

impl GatewayError {
    /// Whether it may pass when somebody makes room on the disk.
    fn is_want_of_room(&self) -> bool {
        match self {
            Self::Disk(error) => error.is_want_of_room(),
            Self::Listen { source, .. } => disk::is_full(source),
            Self::Store(_) | Self::Panicked => false,
        }
    }
}

/// Runs a gateway until `shutdown`, then commits and acknowledges what was taken.
///
/// # Errors
/// When it cannot start, or its disk fails.
pub async fn run(
    agent: checked::Agent,
    when_too_large: WhenTooLarge,
    shutdown: Shutdown,
) -> Result<(), GatewayError> {
    let entrance = Entrance::Doors(None);
    let vitals = Vitals::default();
    run_with(agent, when_too_large, entrance, vitals, shutdown).await
}

/// As [`run`] with the file that `load` reads, which it reads again when it is told to, and shows in `vitals` how it goes.
///
/// # Errors
/// As [`run`].
pub async fn run_seen(
    agent: checked::Agent,
    load: Load,
    when_too_large: WhenTooLarge,
    vitals: Vitals,
    shutdown: Shutdown,
) -> Result<(), GatewayError> {
    let entrance = Entrance::Doors(Some(load));
    run_with(agent, when_too_large, entrance, vitals, shutdown).await
}

/// Reads and checks the configuration again; what is wrong with it, in words.
pub type Load = Arc<dyn Fn() -> Result<checked::Agent, String> + Send + Sync>;

/// As [`run`], but nobody can look at it or push into it from outside: the caller is given the way in, anew in each life.
///
/// # Errors
/// As [`run`].
pub async fn run_without_doors(
    agent: checked::Agent,
    when_too_large: WhenTooLarge,
    way_in: Arc<dyn Fn(&Ingest) + Send + Sync>,
    shutdown: Shutdown,
) -> Result<(), GatewayError> {
    let (entrance, vitals) = (Entrance::Given(way_in), Vitals::default());
    run_with(agent, when_too_large, entrance, vitals, shutdown).await
}

async fn run_with(
    agent: checked::Agent,
    when_too_large: WhenTooLarge,
    entrance: Entrance,
    vitals: Vitals,
    shutdown: Shutdown,
) -> Result<(), GatewayError> {
    let mut agent = Arc::new(agent);
    let telemetry = Telemetry::new();
    let time = Timekeeper::open(&agent);
    let (reloader, mut reloads) = reload::pair();
    // In a set, so that it ends with this future however that ends.
    let mut hangups = JoinSet::new();
    let mut trial: Option<Trial> = None;
    let mut owed: Option<Owed> = None;
    if let Entrance::Doors(Some(load)) = &entrance {
        let load = Arc::clone(load);
        hangups.spawn(reload::on_hangup(reloader.clone(), load));
    }
    loop {
        let about = About {
            agent: Arc::clone(&agent),
            // What goes on trial cannot be taken back.
            when_too_large: match &trial {
                Some(_) => WhenTooLarge::Keep,
                None => when_too_large,
            },
            before: trial.as_ref().map(Trial::before),
            reloader: &reloader,
            entrance: &entrance,
            telemetry: &telemetry,
            time: &time,
            vitals: &vitals,
        };
        let life = match Life::begin_when_there_is_room(about, shutdown.clone()).await {
            Ok(Some(life)) => life,
            Ok(None) => return Ok(()),
            Err(error) => {
                let Some(trial) = trial.take() else {
                    return Err(error);
                };
                let (before, answer) = trial.take_back(NotReloaded::NotStarted(error.to_string()));
                (agent, owed) = (before, Some(answer));
                telemetry.forget_sources();
                continue;
            }
        };
        if let Some(owed) = owed.take() {
            owed.tell();
        }
        match life.run(&mut trial, &mut reloads, shutdown.clone()).await? {
            Ended::Shutdown => return Ok(()),
            Ended::Diverged => {
                tracing::warn!("opening new logs behind those that the hub holds otherwise")
            }
            Ended::Passed => {
                tracing::info!("opening new logs, so that live records pass the backlog")
            }
            Ended::Changed(other, answer) => (agent, owed) = (other, answer),
        }
        telemetry.forget_sources();
    }
}

/// What a life begins with.
struct About<'a> {
    agent: Arc<checked::Agent>,
    when_too_large: WhenTooLarge,
    /// What may hold again, if this is on trial.
    before: Option<Arc<checked::Agent>>,
    reloader: &'a Reloader,
    entrance: &'a Entrance,
    telemetry: &'a Telemetry,
    time: &'a Arc<Timekeeper>,
    vitals: &'a Vitals,
}

/// How a life ends well.
enum Ended {
    Shutdown,
    Diverged,
    /// Another log follows one whose backlog is old.
    Passed,
    /// Another configuration holds; who is told so when it does.
    Changed(Arc<checked::Agent>, Option<Owed>),
}

/// Everything that runs between an open and a close of the directory.
struct Life {
    agent: Arc<checked::Agent>,
    /// What may hold again, if this is on trial.
    before: Option<Arc<checked::Agent>>,
    disk: Disk,
    looker: Arc<Mutex<Looker>>,
    /// What each uplink is to send.
    lists: Vec<Listed>,
    sources: JoinSet<()>,
    others: JoinSet<()>,
    stop_sources: Trigger,
    stop_others: Trigger,
    fatal: mpsc::UnboundedReceiver<String>,
    forward: mpsc::UnboundedReceiver<ForwardEvent>,
    /// What readers are shown at the HTTP port.
    shown: Option<Shown>,
    /// A log that another one is to follow, when there was no room to write that down; and when it is tried again.
    unwritten: Option<(LogId, tokio::time::Instant)>,
}

/// How others than the configured sources come in.
enum Entrance {
    /// By the control socket and the port for metrics; with what reads the configuration again, if it can be.
    Doors(Option<Load>),
    /// As the caller likes.
    Given(Arc<dyn Fn(&Ingest) + Send + Sync>),
}

/// Sockets are taken before anything else, so that a second agent touches nothing.
struct Doors {
    control: UnixListener,
    http: Option<TcpListener>,
}

impl Life {
    /// Begins, or tries again as long as the disk lacks the room for the directory itself, unless that is for trial only. None if it is told to stop before.
    async fn begin_when_there_is_room(
        about: About<'_>,
        mut shutdown: Shutdown,
    ) -> Result<Option<Self>, GatewayError> {
        let mut pause = ROOM_FIRST;
        loop {
            about.vitals.opens();
            let error = match Self::begin(&about).await {
                Err(error) if error.is_want_of_room() && about.before.is_none() => error,
                begun => return begun.map(Some),
            };
            about.vitals.waits(&error, pause + OPEN_AGAIN);
            if pause == ROOM_FIRST {
                tracing::error!(%error, "the disk has no room for the directory of the logs; nothing is taken until it has");
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(None),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(ROOM_MOST),
            }
        }
    }

    async fn begin(about: &About<'_>) -> Result<Self, GatewayError> {
        let About {
            entrance,
            telemetry,
            time,
            vitals,
            ..
        } = about;
        let agent = Arc::clone(&about.agent);
        let began = Instant::now();
        let (fatal_sender, fatal) = mpsc::unbounded_channel();
        let budget = agent.gateway.write_budget_bytes.map(WriteBudget::a_day);
        let disk = open_disk(
            &agent,
            about.when_too_large,
            time,
            budget.clone(),
            fatal_sender,
        );
        let mut disk = disk.await?;
        let doors = match entrance {
            Entrance::Doors(_) => Some(Doors::open(&agent).await?),
            Entrance::Given(_) => None,
        };
        settle_cursors(&agent, &disk, about.before.is_some());
        take_over::sessions(&disk).await;
        let told = diverged::tell_all(
            untold(&agent, about.before.as_deref(), &mut disk),
            Arc::clone(time) as _,
        )
        .await;
        let still_telling = match told {
            Ok(told) => {
                disk = have_told(disk, told).await?;
                None
            }
            Err(rest) => Some(rest),
        };
        let (stop_sources, sources_shutdown) = shutdown::pair();
        let (stop_others, others_shutdown) = shutdown::pair();
        let (events, forward) = mpsc::unbounded_channel();
        let ingest = ingest(&agent, &disk);
        let mut others = JoinSet::new();
        if let Some(rest) = still_telling {
            others.spawn(rest);
        }
        let (forwarders, lists) =
            start_forwarders(&agent, &disk, time, &events, &others_shutdown, &mut others);
        let parts = look::parts(&agent, &disk, &forwarders);
        let looker = Looker::new(
            &agent,
            &disk,
            (*telemetry).clone(),
            forwarders,
            time,
            budget,
        );
        others.spawn(Arc::clone(time).watch(others_shutdown.clone()));
        let shown = Shown::of(&agent, &disk, time).filter(|_| doors.is_some());
        if let Some(doors) = doors {
            let reload = match entrance {
                Entrance::Doors(Some(load)) => Some((about.reloader.clone(), Arc::clone(load))),
                _ => None,
            };
            let within = Within {
                ingest: ingest.clone(),
                gather: look::gather(&looker),
                tails: tails(&agent, &disk),
                reload,
            };
            start_doors(
                doors,
                within,
                shown.clone(),
                &looker,
                vitals,
                &others_shutdown,
                &mut others,
            );
        }
        if let Entrance::Given(way_in) = entrance {
            way_in(&ingest);
        }
        let mut sources = JoinSet::new();
        let mut listening = Vec::new();
        for config in &agent.sources {
            let counts = telemetry.source(config.name(), config.kind(), config.stream());
            if let checked::Source::MqttListen(_) = config {
                listening.push(Arc::clone(&counts));
            }
            start_source(
                &mut sources,
                config.clone(),
                ingest.clone(),
                counts,
                sources_shutdown.clone(),
            );
        }
        vitals.lives(vitals::Life {
            parts,
            hindrances: hindrances(listening.clone(), Refusals::of(&ingest)),
            line: look::line(&looker),
        });
        others.spawn(ready(listening, (*vitals).clone(), others_shutdown));
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(gateway = %agent.gateway.id, logs = disk.chains.len(), took_ms, "ready");
        Ok(Self {
            agent,
            before: about.before.clone(),
            disk,
            looker,
            lists,
            sources,
            others,
            stop_sources,
            stop_others,
            fatal,
            forward,
            shown,
            unwritten: None,
        })
    }

    /// Lives until it is told to stop, or to live otherwise. A configuration `on_trial` is confirmed or taken back meanwhile.
    async fn run(
        mut self,
        on_trial: &mut Option<Trial>,
        reloads: &mut Reloads,
        mut shutdown: Shutdown,
    ) -> Result<Ended, GatewayError> {
        let mut looks = tokio::time::interval(reload::LOOK_EVERY);
        let outcome = loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => break Ok(Ended::Shutdown),
                Some(what) = self.fatal.recv() => break Err(GatewayError::Store(what)),
                Some(event) = self.forward.recv() => {
                    if let Some(outcome) = self.heard(event).await {
                        break outcome;
                    }
                }
                Some(ended) = self.sources.join_next() => match ended {
                    Ok(()) => tracing::debug!("a source ended by itself"),
                    Err(_) => break Err(GatewayError::Panicked),
                },
                Some(Err(_)) = self.others.join_next() => break Err(GatewayError::Panicked),
                wish = reloads.next() => if let Some(ended) = self.wished(wish, on_trial).await {
                    break Ok(ended);
                },
                log = due(self.unwritten) => {
                    if let Some(outcome) = self.diverged(log) {
                        break outcome;
                    }
                }
                _ = looks.tick(), if on_trial.is_some() => if let Some(ended) = self.tried(on_trial).await {
                    break Ok(ended);
                },
            }
        };
        self.end(outcome).await
    }

    /// Somebody wants another configuration.
    async fn wished(&self, wish: Wish, on_trial: &mut Option<Trial>) -> Option<Ended> {
        if on_trial.is_some() {
            wish.refuse(NotReloaded::Busy);
            return None;
        }
        let status = self.status().await?;
        let (agent, trial) = Trial::begin(wish, &self.agent, &status)?;
        *on_trial = Some(trial);
        Some(Ended::Changed(agent, None))
    }

    /// Looks how it goes with a configuration on trial.
    async fn tried(&mut self, on_trial: &mut Option<Trial>) -> Option<Ended> {
        let status = self.status().await?;
        match on_trial.as_ref()?.judge(&status)? {
            Ok(()) => {
                on_trial.take()?.confirm();
                self.before = None;
                settle_cursors(&self.agent, &self.disk, false);
                None
            }
            Err(why) => {
                let (before, owed) = on_trial.take()?.take_back(why);
                Some(Ended::Changed(before, Some(owed)))
            }
        }
    }

    async fn status(&self) -> Option<Status> {
        let looker = Arc::clone(&self.looker);
        let look = move || looker.lock().unwrap_or_else(PoisonError::into_inner).look();
        world::blocking(look).await.ok()
    }

    /// What a forwarder has to tell; an outcome if this life is over.
    async fn heard(&mut self, event: ForwardEvent) -> Option<Result<Ended, GatewayError>> {
        match event {
            ForwardEvent::Drained { log, uplink } => {
                let (agent, before) = (&self.agent, self.before.as_deref());
                let all = |stream: &str| uplinks::all_carriers(agent, before, stream);
                if let Some(drained) = self.disk.drained(log, uplink, all) {
                    self.remove(log, drained).await;
                }
                None
            }
            ForwardEvent::Diverged { log } => self.diverged(log),
            ForwardEvent::Behind { log } if self.pass(log) => {
                self.pass_others().await;
                Some(Ok(Ended::Passed))
            }
            ForwardEvent::Behind { log } => {
                uplinks::let_pass(&self.lists, |known| {
                    known.may_be_passed && known.handle.log_id() != log
                });
                None
            }
        }
    }

    /// Other logs that are behind are told of within a moment: one life is enough for all. What else is told is told again in the next.
    async fn pass_others(&mut self) {
        let until = tokio::time::Instant::now() + OTHERS_TOLD_WITHIN;
        while let Ok(Some(event)) = tokio::time::timeout_at(until, self.forward.recv()).await {
            if let ForwardEvent::Behind { log } = event {
                self.pass(log);
            }
        }
    }

    /// What the hub lacks of a log is old. It ends here, and the next life opens the log that is sent beside it, unless the disk has no room for both. Whether
    /// it does.
    fn pass(&mut self, log: LogId) -> bool {
        // What is on trial may be taken back, and a log that has ended has ended.
        let passed = match &self.before {
            None => self.disk.pass(log),
            Some(_) => Err(io::Error::other("the configuration is on trial")),
        };
        passed.unwrap_or_else(|error| {
            tracing::warn!(%log, %error, "the backlog is sent first: the log cannot be closed and another one opened");
            false
        })
    }

    /// A log has done its service. It is taken from those who read it, its directory removed, and its files in the background.
    async fn remove(&mut self, log: LogId, drained: Drained) {
        uplinks::let_go(&self.lists, &drained.left());
        if let Some(shown) = &self.shown {
            shown.let_go(&drained.left());
        }
        let disk = &self.disk;
        uplinks::let_pass(&self.lists, |known| {
            disk.may_be_passed(known.handle.log_id())
        });
        self.looker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .forget(log);
        let removed = world::blocking(move || drained.remove()).await;
        let gone = match removed.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(gone) => gone,
            Err(error) => {
                tracing::warn!(%log, %error, "a drained log could not be removed; the next start tries again");
                return;
            }
        };
        tracing::info!(%log, "an ended log is at every hub as a whole, and removed");
        world::blocking_in(&mut self.others, move || {
            if let Err(error) = gone.finish() {
                tracing::warn!(%log, %error, "a removed log still takes space; the next start tries again");
            }
        });
    }

    fn diverged(&mut self, log: LogId) -> Option<Result<Ended, GatewayError>> {
        tracing::error!(%log, "the hub holds another history of this log (restored or cloned disk?); a new log follows it");
        let path = self.agent.gateway.data_dir.clone();
        match self.disk.renew(log) {
            Ok(()) => Some(Ok(Ended::Diverged)),
            Err(error) if disk::is_full(&error) => {
                // This log goes on taking.
                self.unwritten = Some((log, tokio::time::Instant::now() + ROOM_MOST));
                tracing::error!(%log, %error, "no room to write that down; nothing of this log is handed over until there is");
                None
            }
            Err(source) => Some(Err(DiskError::Io { path, source }.into())),
        }
    }

    /// Stop taking, commit, acknowledge; then close. All within two seconds, whatever hangs.
    async fn end(mut self, outcome: Result<Ended, GatewayError>) -> Result<Ended, GatewayError> {
        self.stop_sources.stop();
        let late = tokio::time::timeout(SOURCES_PATIENCE, async {
            while self.sources.join_next().await.is_some() {}
        });
        if late.await.is_err() {
            tracing::warn!("a source did not stop in time");
            self.sources.abort_all();
        }
        self.stop_others.stop();
        let Self {
            disk, mut others, ..
        } = self;
        let closed = world::blocking(move || {
            disk.close();
            disk
        });
        // Another life needs the directory; a process that ends does not.
        let patience = match outcome {
            Ok(Ended::Diverged | Ended::Passed | Ended::Changed(..)) => Duration::MAX,
            _ => CLOSE_PATIENCE,
        };
        let disk = tokio::time::timeout(patience, closed).await;
        let stopped = tokio::time::timeout(OTHERS_PATIENCE, async {
            while others.join_next().await.is_some() {}
        });
        if stopped.await.is_err() {
            others.abort_all();
        }
        match disk {
            Ok(_) => tracing::info!("stopped"),
            Err(_) => tracing::warn!(
                "stopped before the logs were closed; the next start will look at their tails"
            ),
        }
        outcome
    }
}

/// The log, when it is time to try again to write down that another one follows it; without one, never.
async fn due(unwritten: Option<(LogId, tokio::time::Instant)>) -> LogId {
    match unwritten {
        Some((log, at)) => {
            tokio::time::sleep_until(at).await;
            log
        }
        None => std::future::pending().await,
    }
}

impl Doors {
    async fn open(agent: &checked::Agent) -> Result<Self, GatewayError> {
        let gateway = &agent.gateway;
        let refused = |what: String| move |source| GatewayError::Listen { what, source };
        let path = gateway.control.display();
        let control = control::listen(&gateway.control)
            .map_err(refused(format!("gateway.control = \"{path}\"")))?;
        let http = match gateway.http {
            Some(address) => Some(
                http::listen(address)
                    .await
                    .map_err(refused(format!("gateway.http = \"{address}\"")))?,
            ),
            None => None,
        };
        Ok(Self { control, http })
    }
}

async fn open_disk(
    agent: &Arc<checked::Agent>,
    when_too_large: WhenTooLarge,
    time: &Arc<Timekeeper>,
    budget: Option<Arc<WriteBudget>>,
    fatal: mpsc::UnboundedSender<String>,
) -> Result<Disk, GatewayError> {
    let on_fatal: OnFatal = Arc::new(move |what| {
        // Nobody hears it when the gateway is ending anyway.
        drop(fatal.send(what.to_owned()));
    });
    let (agent, time) = (Arc::clone(agent), Arc::clone(time));
    let open = move || {
        let outfit = Outfit {
            when_too_large,
            write_budget: budget,
            time: Some(time as Arc<dyn Timekeeping>),
            on_fatal,
        };
        Disk::open(&agent, &outfit)
    };
    let opened = world::blocking(open).await;
    Ok(opened.map_err(|_| GatewayError::Panicked)??)
}

fn ingest(agent: &checked::Agent, disk: &Disk) -> Ingest {
    let streams = disk
        .lanes()
        .into_iter()
        .map(|(name, lanes)| (name, StreamHandle::new(lanes)))
        .collect();
    Ingest::new(
        streams,
        agent.gateway.record_bytes_max,
        agent.gateway.memory_bytes,
    )
}

/// Every uplink has a cursor in the logs that it carries, and nobody else has one: so only what they all have is released. On trial nobody loses one.
fn settle_cursors(agent: &checked::Agent, disk: &Disk, on_trial: bool) {
    for chain in &disk.chains {
        let wanted = carriers(agent, &chain.stream);
        for log in &chain.logs {
            let ledger = log.partition.ledger();
            for cursor in ledger
                .cursors
                .iter()
                .filter(|cursor| !on_trial && !wanted.contains_key(&cursor.uplink))
            {
                let (stream, partition) = (chain.stream.as_str(), chain.partition);
                tracing::info!(
                    stream,
                    partition,
                    next = cursor.next.get(),
                    "an uplink that is gone holds nothing back any more"
                );
                log.partition.drop_cursor(cursor.uplink);
            }
            for uplink in wanted
                .keys()
                .filter(|uplink| ledger.cursor(**uplink).is_none())
            {
                log.partition.set_cursor(*uplink, log.partition.oldest());
            }
        }
    }
}

/// Logs that hubs hold otherwise and that are told of nowhere.
fn untold(agent: &checked::Agent, before: Option<&checked::Agent>, disk: &mut Disk) -> Vec<Untold> {
    let untold = disk.untold().into_iter();
    let with_uplinks = |(stream, log, heir): (String, Partition, Partition)| Untold {
        log,
        heir,
        uplinks: uplinks::all_carriers(agent, before, &stream),
    };
    untold.map(with_uplinks).collect()
}

/// Logs that were opened to tell of others have done that.
async fn have_told(mut disk: Disk, told: Vec<(LogId, u64)>) -> Result<Disk, GatewayError> {
    if told.is_empty() {
        return Ok(disk);
    }
    let ending = move || {
        disk.have_told(&told);
        disk
    };
    let ended = world::blocking(ending).await;
    ended.map_err(|_| GatewayError::Panicked)
}

fn start_source(
    tasks: &mut JoinSet<()>,
    config: checked::Source,
    ingest: Ingest,
    counts: Arc<telemetry::Source>,
    shutdown: Shutdown,
) {
    tasks.spawn(async move {
        match config {
            checked::Source::MqttListen(config) => {
                source::mqtt_listen::run(config, ingest, counts, shutdown).await
            }
            checked::Source::Serial(config) => {
                source::serial::run(config, ingest, counts, shutdown).await
            }
            checked::Source::Mqtt(config) => {
                source::mqtt::run(config, ingest, counts, shutdown).await
            }
        }
    });
}

/// What keeps events out: a listener that has no port, a log that takes nothing. A broker or a device that is not there is not this machine's.
fn hindrances(
    listening: Vec<Arc<telemetry::Source>>,
    refusals: Refusals,
) -> Arc<dyn Fn() -> Vec<String> + Send + Sync> {
    Arc::new(move || {
        let listeners = listening
            .iter()
            .map(|source| (source.name(), source.state()));
        let down = listeners.filter(|(_, state)| !state.up);
        let down = down.map(|(name, state)| format!("source {name}: {}", state.what));
        down.chain(refusals.lines())
            .chain(refusals.full())
            .collect()
    })
}

/// A port that another program has is tried again; that must not keep the others from being ready.
async fn ready(listening: Vec<Arc<telemetry::Source>>, vitals: Vitals, mut shutdown: Shutdown) {
    let all = async {
        for source in listening {
            source.begun().await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.requested() => {}
        () = all => vitals.ready(),
    }
}

/// What `sedge tail` may read: the log of each partition that takes events. It stays as long as this life.
fn tails(agent: &checked::Agent, disk: &Disk) -> tail::Streams {
    let taking = disk.chains.iter().filter(|chain| !chain.draining);
    tail::Streams::new(taking.map(|chain| {
        let (gateway, head) = (&agent.gateway.id, chain.head());
        let log = head.partition.clone();
        tail::Log::new(gateway, &chain.stream, chain.partition, head.place, log)
    }))
}

fn start_doors(
    doors: Doors,
    within: Within,
    shown: Option<Shown>,
    looker: &Arc<Mutex<Looker>>,
    vitals: &Vitals,
    shutdown: &Shutdown,
    tasks: &mut JoinSet<()>,
) {
    if let Some(listener) = doors.http {
        let refusals = Refusals::of(&within.ingest);
        let pages = Pages {
            ailments: Arc::new(move || refusals.lines()),
            more: shown.as_ref().map(Shown::pages).unwrap_or_default(),
            limits: http::Limits::of_a_gateway(),
            ..Pages::here(http::of_agent(Arc::clone(&within.gather)), vitals.clone())
        };
        tasks.spawn(http::serve(listener, pages, shutdown.clone()));
        if let Some(shown) = shown {
            tasks.spawn(shown.follow(shutdown.clone()));
        }
    }
    tasks.spawn(control::serve(doors.control, within, shutdown.clone()));
    let (looker, mut shutdown) = (Arc::clone(looker), shutdown.clone());
    tasks.spawn(async move {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                _ = second.tick() => looker.lock().unwrap_or_else(PoisonError::into_inner).sample(),
            }
        }
    });
}

/// A disk without room for the directory is asked again after this long at first …
const ROOM_FIRST: Duration = Duration::from_secs(1);
/// … and no more often than this in the end.
const ROOM_MOST: Duration = Duration::from_secs(30);
/// Opening the directory again may take this long before there is another word of it.
const OPEN_AGAIN: Duration = Duration::from_secs(30);
/// A session looks at one log after the other, each with a read.
const OTHERS_TOLD_WITHIN: Duration = Duration::from_millis(200);
/// For a source to have its last events committed and acknowledged.
const SOURCES_PATIENCE: Duration = Duration::from_millis(1000);
/// For the logs to be closed.
const CLOSE_PATIENCE: Duration = Duration::from_millis(600);
/// For everything else.
const OTHERS_PATIENCE: Duration = Duration::from_millis(200);
