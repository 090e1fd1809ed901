//! Sends what a gateway's partitions hold to one hub, and learns what may be released.
//!
//! One connection carries all logs. The protocol is core's [`Sender`](sedge_core::custody::Sender); `session.rs` is its driver over TCP,
//! this file keeps a session going: connect, wait, connect again.

mod handle;
mod loss;
mod pace;
mod report;
mod session;
mod status;
#[cfg(test)]
mod tests;
mod turns;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sedge_core::LogId;
use sedge_core::custody::message::Code;
use sedge_store::watch;
use sedge_store::{Pulse, Timekeeping, system_clock};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use crate::address::{self, BadAddress};
use crate::backoff::Backoff;
use crate::net::Connection;
use crate::trust::clock::LastGood;
use crate::trust::enrol::GatewayFiles;
use crate::trust::explain;
pub use handle::Handle;
use pace::Pace;
pub use pace::{Limits, Window};
pub(crate) use session::unix_us;
use session::{Ended, Outside, Session};
use status::Board;
pub use status::{ForwardStatus, LogStatus};

/// Where to send, and as whom.
#[derive(Clone, Debug)]
pub struct ForwardOptions {
    /// The hub: `sedge://host:port`.
    pub url: String,
    /// The gateway's name.
    pub identity: String,
    /// Which cursor of each log is this uplink's.
    pub uplink: u32,
    /// The longest pause between two attempts to connect.
    pub retry_max: Duration,
    /// By what the hub and the gateway know each other; without it only a hub on this machine is spoken to.
    pub trust: Option<GatewayTrust>,
    /// What it may cost.
    pub limits: Limits,
    /// What time it is.
    pub time: Time,
    /// When the oldest record that the hub does not have is older than this as a session begins, the owner is told that the log is [`ForwardEvent::Behind`].
    pub live_first_after: Option<Duration>,
}

/// What time it is, by who keeps it; else by the system's clock.
#[derive(Clone)]
pub struct Time(pub Arc<dyn Timekeeping>);

impl Default for Time {
    fn default() -> Self {
        Self(Arc::new(system_clock()))
    }
}

impl std::fmt::Debug for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0.now())
    }
}

/// By what a gateway and its hub know each other.
#[derive(Clone, Debug)]
pub struct GatewayTrust {
    /// Read for each connection. Where they are not there, only a hub on this machine is spoken to, without TLS.
    pub files: GatewayFiles,
    /// The time that certificates are judged by.
    pub clock: Arc<LastGood>,
}

/// A log to be sent.
#[derive(Clone, Debug)]
pub struct Log {
    /// The stream it belongs to.
    pub stream: String,
    /// The partition's number in the stream.
    pub partition: u16,
    /// The log's place in the partition's chain, counted from 0.
    pub chain: u16,
    /// Nothing is appended to it any more.
    pub closed: bool,
    /// It may be closed so that live records pass its backlog.
    pub may_be_passed: bool,
    /// Whether it goes before others.
    pub priority: Priority,
    /// The log itself, or what is left of it.
    pub handle: Handle,
}

/// Which logs go first: one that is more urgent goes before all that are less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Also when nothing else may go, by what the uplink may cost.
    Urgent,
    /// Before most.
    High,
    /// Most.
    #[default]
    Normal,
    /// When nothing else is to be sent.
    Low,
}

/// What the owner of the partitions must hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardEvent {
    /// The hub holds another history of this log: close it, open a new one in its chain, and take this one out of the list.
    Diverged {
        /// Which log.
        log: LogId,
    },
    /// The hub has been away for long, and what this log holds for it is old: it waits for a moment, until it is closed or may not be passed any more.
    Behind {
        /// Which log.
        log: LogId,
    },
    /// The hub has all of this closed log. Told again by each session that finds it so.
    Drained {
        /// Which log.
        log: LogId,
        /// Whose hub, by the number of its cursor.
        uplink: u32,
    },
}

/// Ways to look at a forwarder from outside.
#[derive(Clone, Debug)]
pub struct ForwardHandle {
    board: Arc<Mutex<Board>>,
    pulse: Pulse,
}

/// Keeps sending until told to stop.
#[derive(Debug)]
pub struct Forwarder {
    options: ForwardOptions,
    logs: watch::Receiver<Vec<Log>>,
    events: mpsc::UnboundedSender<ForwardEvent>,
    board: Arc<Mutex<Board>>,
    pulse: Pulse,
    pace: Pace,
    started: Instant,
    /// Of the next session.
    generation: u64,
}

impl Forwarder {
    /// A forwarder of `logs`, a list that may change at any time. `events` tells its owner when it has to.
    ///
    /// # Errors
    /// When the hub's address is none.
    pub fn new(
        options: ForwardOptions,
        logs: watch::Receiver<Vec<Log>>,
        events: mpsc::UnboundedSender<ForwardEvent>,
    ) -> Result<Self, BadAddress> {
        address::of(&options.url)?;
        let board = Arc::new(Mutex::new(Board::new(&options)));
        Ok(Self {
            pace: Pace::new(options.limits.clone(), Instant::now()),
            options,
            logs,
            events,
            board,
            pulse: Pulse::new(),
            started: Instant::now(),
            generation: unix_us().unsigned_abs(),
        })
    }

    /// A way to ask how it goes.
    pub fn handle(&self) -> ForwardHandle {
        ForwardHandle {
            board: Arc::clone(&self.board),
            pulse: self.pulse.clone(),
        }
    }

    /// Connects, sends, and connects again, until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        let mut shutdown = pin!(shutdown);
        let retry_max = self.options.retry_max;
        let mut backoff = Backoff::new(BACK_OFF_MIN.min(retry_max), retry_max);
        let mut rivalry = Backoff::new(REPLACED_FIRST, REPLACED_MOST);
        let mut replaced: Option<Instant> = None;
        loop {
            let began = Instant::now();
            let has_rival = replaced.is_some_and(|at| at.elapsed() < PEACE);
            self.pulse.next_by(began + CONNECT_PATIENCE);
            let ended = tokio::select! {
                biased;
                () = &mut shutdown => return,
                connected = self.connect() => match connected {
                    Ok(connection) => self.session(connection, has_rival, shutdown.as_mut()).await,
                    Err(e) => Ended::Failed(format!("cannot connect: {}", explain(&e))),
                },
            };
            if let Ended::ShutDown = ended {
                return;
            }
            if began.elapsed() > STEADY {
                backoff.reset();
            }
            if began.elapsed() > PEACE {
                rivalry.reset();
            }
            let wait = match ended {
                Ended::Bye(Code::REPLACED, _) => {
                    replaced = Some(Instant::now());
                    rivalry.next_wait()
                }
                // The hub is well: however long it was away, the disk is asked as often.
                Ended::Unread(_) => UNREAD_PATIENCE,
                _ => ended.patience().max(backoff.next_wait()),
            };
            self.disconnected(&ended, wait);
            self.pulse.next_by(Instant::now() + wait);
            tokio::select! {
                biased;
                () = &mut shutdown => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn connect(&self) -> std::io::Result<Connection> {
        let address = address::of(&self.options.url).map_err(std::io::Error::other)?;
        let trust = self.options.trust.as_ref();
        let connecting = async {
            match trust.filter(|t| t.files.ca.exists()) {
                Some(trust) => {
                    Connection::connect_tls(&address, &trust.files.caller(&trust.clock)).await
                }
                None => {
                    Connection::connect_local(&address, trust.map(|t| t.files.ca.as_path())).await
                }
            }
        };
        timeout(CONNECT_PATIENCE, connecting)
            .await
            .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?
    }

    async fn session(
        &mut self,
        connection: Connection,
        has_rival: bool,
        shutdown: impl Future<Output = ()>,
    ) -> Ended {
        // Each session counts on from the one before, and a new process begins with the time.
        self.generation += 1;
        let outside = Outside {
            logs: self.logs.clone(),
            events: self.events.clone(),
            board: Arc::clone(&self.board),
            pulse: self.pulse.clone(),
            started: self.started,
            has_rival,
        };
        let (options, pace) = (&self.options, &mut self.pace);
        pace.reconnected();
        let session = Session::new(options, pace, connection, self.generation, outside);
        let ended = match session {
            Ok(session) => session.run(shutdown).await,
            Err(e) => Ended::Failed(e.to_string()),
        };
        self.pace.keep();
        ended
    }

    fn disconnected(&self, ended: &Ended, wait: Duration) {
        let changed = status::lock(&self.board).disconnected(ended.to_string());
        if changed {
            tracing::warn!(hub = %self.options.url, reason = %ended, retry_ms = wait.as_millis() as u64, "uplink down");
        } else {
            tracing::debug!(hub = %self.options.url, reason = %ended, retry_ms = wait.as_millis() as u64, "uplink still down");
        }
    }
}

impl Drop for Forwarder {
    /// One that was told to stop owes nobody a sign.
    fn drop(&mut self) {
        self.pulse.rest();
    }
}

impl ForwardHandle {
    /// Its signs of life: one that has no connection turns all the same.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// How many sessions there were, and whether one is running.
    pub fn sessions(&self) -> (u64, bool) {
        status::lock(&self.board).sessions()
    }

    /// How it goes. Reads the time of the oldest unacknowledged frame from disk: not for a thread that must not block.
    pub fn status(&self) -> ForwardStatus {
        status::lock(&self.board).status()
    }
}

const UNREAD_PATIENCE: Duration = Duration::from_secs(10);
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// A session of this length was a good one: the next attempt comes soon.
const STEADY: Duration = Duration::from_secs(5);
/// Two gateways of one name would otherwise throw each other out many times a second: who was replaced waits about this long …
const REPLACED_FIRST: Duration = Duration::from_secs(10);
/// … and when it happens again and again, as long as this.
pub(crate) const REPLACED_MOST: Duration = Duration::from_secs(120);
/// A session of this length had no rival.
const PEACE: Duration = Duration::from_secs(300);
