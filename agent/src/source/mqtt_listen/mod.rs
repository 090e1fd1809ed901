//! `mqtt-listen`: devices connect straight to the agent, and a PUBACK means "on disk".
//!
//! `wire` knows where packets begin and end, `session` the conversation, `answer` our half of it, `rhythm` when lingering is
//! vain, `seats` who is here, `logins` who may come. `connection` moves the bytes of a `socket`, which `tls` may wrap. What is supported and refused: docs/guide/mqtt.md.

pub mod answer;
mod connection;
pub mod logins;
#[cfg(test)]
mod protected;
mod rhythm;
mod seats;
pub mod session;
pub mod socket;
#[cfg(test)]
mod tests;
mod tls;
pub mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sedge_config::Template;
use sedge_config::checked::MqttListen;
use sedge_store::world;
use sedge_uplink::trust::accept::{Acceptor, ServerFiles};
use sedge_uplink::trust::explain;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at};

use crate::ingest::{Ingest, Intake};
use crate::owner::{Item, SESSION_NOTE_BYTES_MAX, SessionId};
use crate::shutdown::Shutdown;
use crate::telemetry::Source;

use connection::{CHUNK_BYTES, Connection};
use logins::{Login, Logins};
use seats::Seats;
use session::Limits;
use socket::{Door, Stream};
use tls::TlsStream;

/// Lets devices in until the shutdown. An address that cannot be had is tried again.
pub async fn run(
    config: MqttListen,
    ingest: Ingest,
    telemetry: Arc<Source>,
    mut shutdown: Shutdown,
) {
    loop {
        match Door::open(config.listen).await {
            Ok(door) => return serve(door, config, ingest, telemetry, shutdown).await,
            Err(e) => telemetry.down(format!("cannot listen on {}: {e}", config.listen)),
        }
        tokio::select! {
            biased;
            () = shutdown.requested() => return,
            () = tokio::time::sleep(BIND_AGAIN) => {}
        }
    }
}

/// As [`run`], on a socket that listens already.
pub async fn serve(
    door: impl Into<Door>,
    config: MqttListen,
    ingest: Ingest,
    telemetry: Arc<Source>,
    mut shutdown: Shutdown,
) {
    let mut door = door.into();
    let address = door
        .address()
        .map_or_else(|_| config.listen.to_string(), |address| address.to_string());
    let Some(acceptor) = certified(&config, &telemetry, &mut shutdown).await else {
        return;
    };
    let listener = Arc::new(Listener::new(config, acceptor, ingest, telemetry));
    listener.tell(&address).await;
    listener.expect_sessions(now());
    let mut connections = JoinSet::new();
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    let mut users = interval_at((now() + USERS_EVERY).into(), USERS_EVERY);
    users.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut telling = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            _ = sweep.tick() => Arc::clone(&listener).sweep(now()).await,
            // A disk that hangs holds up nobody who is here.
            _ = users.tick(), if listener.logins.is_some() && telling.is_empty() => {
                let (listener, address) = (Arc::clone(&listener), address.clone());
                telling.spawn(async move { listener.tell(&address).await });
            }
            Some(_) = telling.join_next() => {}
            Some(_) = connections.join_next() => {}
            accepted = door.accept(), if connections.len() < listener.sockets_max() => match accepted {
                Ok(stream) => drop(connections.spawn(Arc::clone(&listener).attend(stream, shutdown.clone()))),
                // Out of descriptors, most likely: others have to leave first.
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            },
        }
        listener.count_clients();
    }
    while connections.join_next().await.is_some() {}
}

/// The files that TLS is spoken with, if it is.
pub(crate) fn server_files(config: &MqttListen) -> Option<ServerFiles> {
    let own = config.certificate.as_ref()?;
    Some(ServerFiles {
        certificate: own.certificate.clone(),
        key: own.key.clone(),
        client_ca: config.client_ca.clone(),
        client_required: config.password_file.is_none(),
    })
}

/// What shakes hands, if TLS is spoken, as soon as its files can be used. None when it is told to stop before.
async fn certified(
    config: &MqttListen,
    telemetry: &Source,
    shutdown: &mut Shutdown,
) -> Option<Option<Acceptor>> {
    let Some(files) = server_files(config) else {
        return Some(None);
    };
    loop {
        match Acceptor::new(files.clone()) {
            Ok(acceptor) => return Some(Some(acceptor)),
            Err(e) => telemetry.down(e.to_string()),
        }
        tokio::select! {
            biased;
            () = shutdown.requested() => return None,
            () = tokio::time::sleep(BIND_AGAIN) => {}
        }
    }
}

/// What the connections of one listener share.
struct Listener {
    name: String,
    stream: String,
    key: Template,
    limits: Limits,
    clients_max: u32,
    sessions_max: usize,
    session_expiry: Duration,
    ingest: Ingest,
    telemetry: Arc<Source>,
    seats: Seats,
    /// Shakes hands; without it there is no TLS.
    acceptor: Option<Acceptor>,
    asks_for_certificates: bool,
    /// Who may come by name and password; without it everybody may.
    logins: Option<Arc<Logins>>,
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Listener {
    fn new(
        config: MqttListen,
        acceptor: Option<Acceptor>,
        ingest: Ingest,
        telemetry: Arc<Source>,
    ) -> Self {
        let limits = Limits {
            inflight_max: config.inflight_max,
            packet_bytes_max: u32::try_from(ingest.record_bytes_max())
                .unwrap_or(u32::MAX)
                .saturating_add(HEADROOM_BYTES),
            expiry_s_max: u32::try_from(config.session_expiry.as_secs()).unwrap_or(u32::MAX),
            keep_alive_max: config.keep_alive_max,
            connect_timeout: CONNECT_TIMEOUT,
        };
        Self {
            name: config.name.to_string(),
            stream: config.stream.to_string(),
            key: config.key,
            limits,
            clients_max: config.clients_max,
            sessions_max: config.sessions_max as usize,
            session_expiry: config.session_expiry,
            ingest,
            telemetry,
            seats: Seats::new(config.clients_max),
            acceptor,
            asks_for_certificates: config.client_ca.is_some(),
            logins: config.password_file.map(|path| Arc::new(Logins::new(path))),
            buffers: Mutex::default(),
        }
    }

    /// Says whether devices can come: not where the file of their passwords cannot be read, and a password is all that they can show.
    async fn tell(&self, address: &str) {
        let looking = self.logins.as_ref().map(|logins| {
            let logins = Arc::clone(logins);
            world::blocking(move || logins.trouble())
        });
        let trouble = match looking {
            Some(looking) => looking.await.ok().flatten(),
            None => None,
        };
        let listening = format!("listening on {address}");
        match trouble {
            None => self.telemetry.up(listening),
            Some(why) if self.asks_for_certificates => self
                .telemetry
                .up(format!("{listening}; nobody comes in by a password: {why}")),
            Some(why) => self
                .telemetry
                .down(format!("{listening}, and nobody comes in: {why}")),
        }
    }

    /// One connection, from accept to end.
    async fn attend(self: Arc<Self>, stream: Stream, shutdown: Shutdown) {
        let stream = match self.shake_hands(stream, shutdown.clone()).await {
            Ok(stream) => stream,
            Err(why) => {
                self.telemetry.incident("tls");
                return tracing::debug!(source = self.name, why, "no TLS connection");
            }
        };
        let ending = Connection::new(stream, Arc::clone(&self), now())
            .run(shutdown)
            .await;
        if let Some(label) = ending.label() {
            self.telemetry.incident(label);
        }
        tracing::debug!(source = self.name, "connection ended: {ending}");
    }

    /// The connection as it is spoken on, or why there is none.
    async fn shake_hands(&self, stream: Stream, mut shutdown: Shutdown) -> Result<Stream, String> {
        let (acceptor, tcp) = match (&self.acceptor, stream) {
            (Some(acceptor), Stream::Tcp(tcp)) => (acceptor, tcp),
            (_, stream) => return Ok(stream),
        };
        tokio::select! {
            biased;
            () = shutdown.requested() => Err("stopping".into()),
            () = tokio::time::sleep(CONNECT_TIMEOUT) => Err("no handshake in time".into()),
            shaken = TlsStream::accept(tcp, acceptor.config()) => {
                shaken.map(|tls| Stream::Tls(Box::new(tls))).map_err(|e| explain(&e))
            }
        }
    }

    /// Whether a client that shows this may come.
    async fn is_welcome(&self, is_certified: bool, login: Option<&Login>) -> bool {
        match (&self.logins, login) {
            (None, _) => true,
            _ if is_certified => true,
            (Some(_), None) => false,
            (Some(logins), Some(login)) => Arc::clone(logins).is_right(login.clone()).await,
        }
    }

    fn count_clients(&self) {
        self.telemetry.clients(self.seats.taken() as u64);
    }

    fn intake(&self) -> Intake {
        self.ingest.intake(&self.stream, &self.key)
    }

    /// The stream's own lanes.
    fn lanes(&self) -> std::ops::Range<u16> {
        0..self
            .ingest
            .stream(&self.stream)
            .map_or(0, |stream| stream.lanes().len() as u16)
    }

    /// Some more than the clients: who comes too much is to be told so.
    fn sockets_max(&self) -> usize {
        self.clients_max as usize + SOCKETS_SPARE
    }

    /// Two listeners may write to one stream, so a session's name begins with the source's.
    fn session_name(&self, client: &str) -> String {
        format!("{}/{client}", self.name)
    }

    /// Puts a note about a session into the batches of all lanes.
    fn note(&self, intake: &mut Intake, name: &str, id: SessionId, ended: bool) {
        let note = Item::Session {
            number: id.number,
            client: name,
            generation: id.generation,
            ended,
        };
        let mut bytes = [0; SESSION_NOTE_BYTES_MAX];
        for lane in self.lanes() {
            intake.note(lane, note.encode(&mut bytes));
        }
    }

    /// Ends the session of `client`, who has the seat. If the log takes nothing, the session lasts: that does no harm.
    async fn end(&self, intake: &mut Intake, client: &str, id: SessionId) {
        self.note(intake, &self.session_name(client), id, true);
        if intake.stage_all(&mut Vec::new()).await.is_err() {
            tracing::debug!(source = self.name, client, "the session could not be ended");
        }
    }

    /// The sessions of an earlier life wait for their clients from now on.
    fn expect_sessions(&self, now: Instant) {
        let prefix = self.session_name("");
        let intake = self.intake();
        for name in intake.claims(0).session_names() {
            if let Some(client) = name.strip_prefix(&prefix) {
                self.seats.expect_back(client, now, self.session_expiry);
            }
        }
    }

    /// Ends the sessions for whose clients nobody waits any more.
    async fn sweep(self: Arc<Self>, now: Instant) {
        for client in self.seats.given_up(now, self.sessions_max) {
            let Some(_seat) = self.seats.take_free(&client) else {
                continue;
            };
            let mut intake = self.intake();
            if let Some(id) = intake.claims(0).session(&self.session_name(&client)) {
                self.end(&mut intake, &client, id).await;
            }
        }
    }

    /// A buffer to read into. Buffers are used between two waits only, so a few serve all connections.
    fn buffer(&self, bytes: usize) -> Vec<u8> {
        let spare = self
            .buffers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut buffer = spare.unwrap_or_default();
        if buffer.len() < bytes {
            buffer.resize(bytes, 0);
        }
        buffer
    }

    fn put_back(&self, buffer: Vec<u8>) {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() == CHUNK_BYTES && buffers.len() < SPARE_BUFFERS_MAX {
            buffers.push(buffer);
        }
    }
}

/// A name for a client that has none.
fn name_client() -> String {
    let mut bytes = [0; 8];
    world::entropy(&mut bytes).expect("the kernel gives random bytes");
    format!("anonymous-{:016x}", u64::from_le_bytes(bytes))
}

/// By the runtime's clock, which a simulation sets.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A packet may be this much larger than the largest record: topic, properties, header. What is between becomes a dead letter.
const HEADROOM_BYTES: u32 = 4096;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const BIND_AGAIN: Duration = Duration::from_secs(2);
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// How often the file of passwords is looked at while nobody comes.
const USERS_EVERY: Duration = Duration::from_secs(2);

/// Connections beyond `clients_max` that may be open at one time, to be refused in words.
const SOCKETS_SPARE: usize = 32;

/// Buffers that are kept for the next read; as many as threads read at one time.
const SPARE_BUFFERS_MAX: usize = 2;
