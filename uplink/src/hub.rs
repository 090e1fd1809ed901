//! The hub: takes custody of what gateways send, and gives it to consumers.
//!
//! `guard.rs` knows who comes, `lobby.rs` holds those who have not said it yet. `gateway.rs` is the conversation with one gateway, `consume.rs` the one with one consumer. Both work on the `registry.rs`: the partitions, the
//! chains of logs that they are (`chain.rs`), their mirrors on disk. What can be read of them is the `library.rs`, which a gateway has of its own logs, too (`own.rs`). `catalog.rs` and `groups.rs` keep what consumers have read.

mod catalog;
mod chain;
mod consume;
mod fleet;
mod gateway;
mod groups;
mod guard;
mod http;
mod kafka;
mod library;
mod lobby;
mod options;
mod own;
mod partition;
mod quarrel;
mod reading;
mod registry;
mod seats;
mod status;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use sedge_store::watch;
use sedge_store::{DataDirError, Pulse, Underway, world};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::net::{Connection, Listener};
use crate::stream::{Incoming, Stream, StreamError};
use crate::trust::{TrustError, explain};
use crate::wire::{self, bye, kind};
use catalog::Catalog;
pub use catalog::CatalogError;
use fleet::Fleet;
pub use fleet::{GatewayReport, PartitionReport};
use groups::Groups;
use guard::{Caller, Guard};
pub use http::{Gate, Newcomer, Origin, Stay};
pub use kafka::{Advertised, KafkaDoor, KafkaOptions};
use lobby::{Chairs, Lobby};
pub use options::{HubClock, HubOptions, HubTrust, StreamOptions};
pub use own::{OwnLog, OwnPartition, OwnStreams};
use partition::Member;
use registry::Registry;
pub use seats::IdentityStatus;
use seats::Seats;
use status::{Ages, Counters};
pub use status::{GatewayStatus, GroupStatus, HubStatus, PartitionStatus};

/// A hub whose directory is open.
#[derive(Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

/// A way to look at a hub from outside.
#[derive(Clone, Debug)]
pub struct HubHandle {
    shared: Arc<Shared>,
}

/// A gateway may have so much on its way however many there are: some pieces of the size in which they come.
const CREDIT_BYTES_MIN: u32 = 64 << 10;

/// What all connections work on.
#[derive(Debug)]
struct Shared {
    options: HubOptions,
    started: Instant,
    registry: Registry,
    catalog: Arc<Catalog>,
    groups: Groups,
    seats: Seats,
    fleet: Fleet,
    ages_of_groups: Ages,
    ages_of_streams: Ages,
    /// Who looks at all of the hub, or through much of a stream, waits here for those who are at it.
    looks: Arc<Semaphore>,
    counters: Arc<Counters>,
    /// Who may come; without it this machine only.
    guard: Option<Guard>,
    lobby: Arc<Lobby>,
    chairs: Arc<Chairs>,
    /// Of connections over HTTP that have left the lobby.
    http_chairs: Arc<Chairs>,
    /// The disk did not keep what it was given: the reason. Nothing is acknowledged after it.
    failed: watch::Sender<Option<String>>,
    /// Turns true once, when the hub is told to stop.
    stopping: watch::Sender<bool>,
    /// Of the loop that accepts connections.
    pulse: Pulse,
    /// What is done at the disk for gateways.
    underway: Underway,
    connections: AtomicU64,
    /// Connections that are past the lobby.
    served: AtomicUsize,
    /// Each gateway that is connected has one of it.
    share: Arc<()>,
}

/// Opens a hub and runs it: [`Hub::open`], then [`Hub::run`].
///
/// # Errors
/// As those two.
pub async fn run(
    listener: impl Into<Listener> + Send,
    options: HubOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), HubError> {
    Hub::open(options).await?.run(listener, shutdown).await
}

impl Shared {
    /// Bytes that each gateway may have on their way now: its part of what the hub has room for in memory.
    fn credit(&self) -> u32 {
        let gateways = Arc::strong_count(&self.share).saturating_sub(1).max(1);
        let part = self.options.waiting_bytes / gateways as u64;
        let most = self.options.credit_bytes;
        u32::try_from(part)
            .unwrap_or(most)
            .clamp(CREDIT_BYTES_MIN.min(most), most)
    }
}

impl Hub {
    /// Takes the directory, opens every mirror and the catalog. What cannot be used is set aside.
    ///
    /// # Errors
    /// When another process has the directory, or nothing can be written there.
    pub async fn open(options: HubOptions) -> Result<Self, HubError> {
        let opened = world::blocking(move || {
            let registry = Registry::open(&options)?;
            let catalog = Arc::new(Catalog::open(&options.data_dir)?);
            registry.reconcile(&catalog)?;
            let guard = options.trust.as_ref().map(Guard::new).transpose()?;
            Ok::<_, HubError>((options, registry, catalog, guard))
        });
        let (options, registry, catalog, guard) =
            opened.await.map_err(|_| HubError::Interrupted)??;
        Ok(Self {
            shared: Arc::new(Shared {
                groups: Groups::new(Arc::clone(&catalog)),
                seats: Seats::default(),
                fleet: Fleet::default(),
                ages_of_groups: Ages::default(),
                ages_of_streams: Ages::default(),
                looks: Arc::new(Semaphore::new(LOOKS_MAX)),
                counters: Arc::default(),
                failed: watch::Sender::new(None),
                stopping: watch::Sender::new(false),
                pulse: Pulse::new(),
                underway: Underway::default(),
                connections: AtomicU64::new(0),
                served: AtomicUsize::new(0),
                share: Arc::default(),
                lobby: Arc::default(),
                chairs: Arc::default(),
                http_chairs: Arc::default(),
                guard,
                started: Instant::now(),
                options,
                registry,
                catalog,
            }),
        })
    }

    /// A way to ask how it goes.
    pub fn handle(&self) -> HubHandle {
        HubHandle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Serves everyone who connects to `listener`, until `shutdown`.
    ///
    /// # Errors
    /// [`HubError::NotLoopback`] when the listener could be reached from elsewhere and nothing says who may come; [`HubError::Disk`] when the disk failed:
    /// nothing was acknowledged after that, and the next start finds out what is there.
    pub async fn run(
        self,
        listener: impl Into<Listener> + Send,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), HubError> {
        let mut listener = listener.into();
        let address = listener.address()?;
        if !address.ip().is_loopback() && self.shared.guard.is_none() {
            return Err(HubError::NotLoopback { address });
        }
        tracing::info!(%address, tls = self.shared.guard.is_some(), data_dir = %self.shared.options.data_dir.display(), "hub listens");
        let mut shutdown = pin!(shutdown);
        let mut connections = JoinSet::new();
        // In a set, so that it ends with this future however that ends.
        let mut upkeep_tasks = JoinSet::new();
        upkeep_tasks.spawn(upkeep(Arc::clone(&self.shared)));
        let outcome = loop {
            let turn = Instant::now() + TURN_EVERY;
            self.shared.pulse.next_by(turn);
            tokio::select! {
                biased;
                () = &mut shutdown => break Ok(()),
                reason = self.shared.disk_failed() => break Err(HubError::Disk { reason }),
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => self.accepted(accepted, &mut connections).await,
                // With nobody at the door it turns all the same, so that whoever watches sees it.
                () = sleep_until(turn) => {}
            }
        };
        self.shared.pulse.rest();
        upkeep_tasks.shutdown().await;
        self.stop(connections).await;
        outcome
    }

    async fn accepted(
        &self,
        accepted: std::io::Result<(Connection, SocketAddr)>,
        connections: &mut JoinSet<()>,
    ) {
        match accepted {
            Ok((arrived, peer)) => {
                connections.spawn(connection(Arc::clone(&self.shared), arrived, peer));
            }
            Err(e) => not_accepted(&e).await,
        }
    }

    /// Tells every connection to end, and waits for what is being committed.
    async fn stop(self, mut connections: JoinSet<()>) {
        self.shared.stopping.send_replace(true);
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(STOP_PATIENCE, all).await.is_err() {
            connections.shutdown().await;
        }
    }
}

impl HubHandle {
    /// How it goes. Reads the catalog: not for a thread that must not block.
    pub fn status(&self) -> HubStatus {
        self.shared.status()
    }

    /// The signs of life of the loop that accepts connections.
    pub fn accepting(&self) -> Pulse {
        self.shared.pulse.clone()
    }

    /// What is under way at the disk before a gateway can be answered.
    pub fn committing(&self) -> Underway {
        self.shared.underway.clone()
    }
}

impl Shared {
    /// The disk failed under a mirror: everything ends.
    fn fail(&self, member: &Member, error: &dyn std::fmt::Display) {
        let reason = format!("{}: {error}", member.path().display());
        tracing::error!(reason, "the disk failed");
        self.failed
            .send_modify(|failed| *failed = failed.take().or(Some(reason)));
    }

    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// When the hub is told to stop, or its disk has failed.
    async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        tokio::select! {
            biased;
            _ = self.disk_failed() => {}
            // The sender lives as long as this does.
            _ = async { stopping.wait_for(|s| *s).await.is_ok() } => {}
        }
    }

    /// When the disk has failed: what it said.
    async fn disk_failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        loop {
            if let Some(reason) = failed.borrow_and_update().clone() {
                return reason;
            }
            if failed.changed().await.is_err() {
                std::future::pending().await
            }
        }
    }
}

/// Out of descriptors, most likely: connections that end make room.
async fn not_accepted(e: &std::io::Error) {
    tracing::warn!(error = %e, "cannot accept");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// One connection, from its handshake to its end.
async fn connection(shared: Arc<Shared>, arrived: Connection, peer: SocketAddr) {
    let mut place = shared.lobby.enter(peer.ip());
    let first = tokio::select! {
        biased;
        first = timeout(HANDSHAKE_PATIENCE, shared.meet(arrived)) => first,
        () = shared.stopped() => return,
        () = place.pushed_out() => return shared.counters.refused(),
    };
    // Whoever it is has said so.
    drop(place);
    let ended = match first {
        Ok(Ok((stream, caller, Ok(first)))) => match shared.admit_one() {
            Some(_admitted) => shared.converse(stream, caller, first, peer).await,
            None => {
                shared.counters.refused();
                Err(Farewell::new(stream, bye::BUSY, "too many connections"))
            }
        },
        Ok(Ok((stream, _, Err(e)))) => broken(stream, &e),
        Ok(Err(why)) => {
            shared.counters.unknown();
            tracing::info!(%peer, why, "no TLS connection");
            return;
        }
        Err(_) => {
            shared.counters.broken();
            tracing::debug!(%peer, "no first message in time");
            return;
        }
    };
    if let Err(farewell) = ended {
        let Farewell {
            mut stream,
            code,
            reason,
        } = *farewell;
        match code {
            bye::NOT_ALLOWED => shared.counters.unknown(),
            _ => shared.counters.broken(),
        }
        tracing::info!(%peer, code, reason, "connection ended");
        stream.end(code, &reason).await;
    }
}

/// Somebody who has shown who it is, if it had to, and what it said first.
type Met = (Stream, Caller, Result<Incoming, StreamError>);

/// A connection that is served, until it is dropped.
struct Admitted<'a>(&'a AtomicUsize);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    /// One more connection that is served, unless there are as many as may be.
    fn admit_one(&self) -> Option<Admitted<'_>> {
        let before = self.served.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(&self.served);
        (before < self.options.connections_max).then_some(admitted)
    }

    /// Shakes hands, and hears the first message; or why there was no handshake.
    async fn meet(&self, arrived: Connection) -> Result<Met, String> {
        let met = match (&self.guard, arrived) {
            (Some(guard), Connection::Tcp(tcp)) => {
                let met = guard.meet(tcp).await;
                met.map(|(tls, caller)| (Connection::Tls(Box::new(tls)), caller))
            }
            (_, arrived) => Ok((arrived, Caller::Local)),
        };
        let stream = met.and_then(|(connection, caller)| {
            Ok((Stream::new(connection, wire::REQUEST_BYTES_MAX)?, caller))
        });
        let (mut stream, caller) = stream.map_err(|e| explain(&e))?;
        stream.bound_outgoing(OUTGOING_BYTES_MAX);
        let first = stream.receive().await;
        Ok((stream, caller, first))
    }

    async fn converse(
        self: &Arc<Self>,
        stream: Stream,
        caller: Caller,
        first: Incoming,
        peer: SocketAddr,
    ) -> Ended {
        match first.kind {
            kind::HELLO => gateway::serve(self, stream, first, peer, caller).await,
            kind::OPEN => consume::serve(self, stream, first, &caller).await,
            kind::ENROL => guard::enrol(self, stream, first, caller).await,
            _ => Err(Farewell::new(
                stream,
                bye::MALFORMED,
                "neither a gateway nor a consumer",
            )),
        }
    }
}

/// How a conversation ends: well, or with something to say first.
type Ended = Result<(), Box<Farewell>>;

/// Why a conversation ends, and the stream on which to say it.
struct Farewell {
    stream: Stream,
    code: u16,
    reason: String,
}

impl Farewell {
    fn new(stream: Stream, code: u16, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            stream,
            code,
            reason: reason.into(),
        })
    }
}

/// The end of a connection that brought `e`.
fn broken(stream: Stream, e: &StreamError) -> Ended {
    match e.bye() {
        Some(code) => Err(Farewell::new(stream, code, e.to_string())),
        None => Ok(()),
    }
}

/// What is done at intervals: the catalog's copy and retention.
async fn upkeep(shared: Arc<Shared>) {
    let mut copy = interval(shared.options.catalog_copy_every);
    let mut retention = interval(shared.options.retention_every);
    let mut register = interval(REGISTER_EVERY);
    copy.set_missed_tick_behavior(MissedTickBehavior::Delay);
    retention.set_missed_tick_behavior(MissedTickBehavior::Delay);
    register.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let shared = Arc::clone(&shared);
        let step = tokio::select! {
            biased;
            _ = copy.tick() => world::blocking(move || shared.copy_catalog()),
            _ = register.tick(), if shared.guard.is_some() => world::blocking(move || shared.look()),
            _ = retention.tick() => {
                shared.seats.settle(Instant::now());
                world::blocking(move || shared.expire())
            }
        };
        if step.await.is_err() {
            tracing::error!("upkeep was interrupted");
        }
    }
}

impl Shared {
    /// A mirror whose disk failed is read again from the disk with the hub's next start, as after a failed commit.
    fn expire(&self) {
        if let Err((member, e)) = self.registry.expire() {
            self.fail(&member, &e);
        }
    }

    fn look(&self) {
        if let Some(guard) = &self.guard {
            guard.look();
        }
    }

    fn copy_catalog(&self) {
        self.registry.note(&self.catalog);
        if let Err(e) = self.catalog.copy() {
            tracing::error!(error = %e, "the catalog could not be copied");
        }
    }
}

/// Why a hub does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The directory is not to be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// No catalog can be made.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The address can be reached from elsewhere.
    #[error(
        "{address} can be reached from the network, and this hub has no certificate to show and no register of who may come: `sedge hub init` makes them (or name them in [hub])"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// Certificates or keys cannot be used.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The disk did not keep what it was given.
    #[error("the disk failed: {reason}")]
    Disk {
        /// What it said.
        reason: String,
    },
    /// The runtime is going down.
    #[error("interrupted while opening")]
    Interrupted,
}

/// What a peer may leave unread: two of the largest messages, and the answers that are being made.
const OUTGOING_BYTES_MAX: usize = 2 * wire::MESSAGE_BYTES_MAX;
/// How soon a change of the register is seen.
const REGISTER_EVERY: Duration = Duration::from_secs(1);
/// Each may go through much of the disk, and commits for gateways are done by the same threads.
const LOOKS_MAX: usize = 2;
/// From the connection to the end of the first message.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
const TURN_EVERY: Duration = Duration::from_secs(10);
/// How long a commit under way may take when the hub stops.
const STOP_PATIENCE: Duration = Duration::from_millis(1_500);
