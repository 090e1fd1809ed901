//! The network between simulated machines: connections of bytes that take their time, break, or go nowhere.
//!
//! A machine is named by the host in the address: what connects to `gw-0:7443` travels the link of `gw-0` to the one hub there is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sedge::source::mqtt_listen::socket::{self, Arriving};
use sedge_uplink::net::{Connecting, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::ear::{Ear, Speaker};
use super::ledger::Ledger;
use super::site::HUB;
use super::story::Story;
use crate::random::{Random, seed_for};
use crate::rig::packets::{self, Packet};

/// All links. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Network {
    state: Arc<Mutex<State>>,
    story: Story,
    ledger: Ledger,
}

#[derive(Debug)]
struct State {
    seed: u64,
    listening: Option<mpsc::UnboundedSender<(Box<dyn Socket>, SocketAddr)>>,
    links: BTreeMap<String, Link>,
    /// Ports of gateways, by number.
    doors: BTreeMap<u16, Door>,
    connections: Vec<Connection>,
    made: u64,
    /// By the reader of the second stream, which may connect at the moment at which the other one does: who is first is not drawn from the seed.
    made_aside: u64,
}

/// What lies between a machine and the hub.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// What it does with bytes.
    pub(super) weather: Weather,
    /// How long a byte is under way at least.
    pub(super) latency: Duration,
}

/// What a link does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weather {
    /// It carries them.
    Fair,
    /// It swallows them, without a word.
    BlackHole,
    /// It says that nobody is there.
    Down,
}

#[derive(Debug)]
struct Connection {
    /// Who made it, and to whom.
    host: String,
    to: String,
    to_hub: Arc<Mutex<Pipe>>,
    from_hub: Arc<Mutex<Pipe>>,
}

/// A port at which a gateway's clients come in.
#[derive(Debug)]
struct Door {
    machine: String,
    /// How often it was opened.
    life: u64,
    listening: Option<mpsc::UnboundedSender<Box<dyn socket::Socket>>>,
}

/// Packet ids of PUBACKs that were said, or tried to be, to one client.
pub(super) type Said = Arc<Mutex<BTreeSet<u16>>>;

/// A connection to a gateway.
#[derive(Debug)]
pub(super) struct Dialled {
    /// The client's end.
    pub(super) socket: End,
    /// How often the port was opened before, this time included.
    pub(super) life: u64,
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    random: Random,
    latency: Duration,
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    closed: bool,
    reset: bool,
    /// Nothing goes through.
    holds: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Network {
    /// No link, nobody listens.
    #[must_use]
    pub(super) fn new(seed: u64, story: Story, ledger: Ledger) -> Self {
        let state = State {
            seed,
            listening: None,
            links: BTreeMap::new(),
            doors: BTreeMap::new(),
            connections: Vec::new(),
            made: 0,
            made_aside: ASIDE,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            story,
            ledger,
        }
    }

    /// The hub listens; what arrives comes out of the receiver.
    #[must_use]
    pub(super) fn listen(&self) -> mpsc::UnboundedReceiver<(Box<dyn Socket>, SocketAddr)> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().listening = Some(sender);
        receiver
    }

    /// Who connects to the hub now is heard.
    #[must_use]
    pub(super) fn hub_listens(&self) -> bool {
        self.lock().listening.is_some()
    }

    /// The hub is gone; who is connected to it hears of it, unless the machine lost its power.
    pub(super) fn hub_is_gone(&self, silently: bool) {
        let mut state = self.lock();
        state.listening = None;
        state.end(|connection| connection.to == HUB, silently);
    }

    /// The machine `host` is gone.
    pub(super) fn is_gone(&self, host: &str, silently: bool) {
        let mut state = self.lock();
        for door in state.doors.values_mut().filter(|d| d.machine == host) {
            door.listening = None;
        }
        let is_of_it = |connection: &Connection| connection.host == host || connection.to == host;
        state.end(is_of_it, silently);
    }

    /// Clients of `machine` come in at `port`, when it listens there.
    pub(super) fn cut_door(&self, machine: &str, port: u16) {
        let door = Door {
            machine: machine.to_owned(),
            life: 0,
            listening: None,
        };
        self.lock().doors.insert(port, door);
    }

    /// Sets what lies between `host` and the hub. Connections live on, except where the link is down.
    pub(super) fn set_link(&self, host: &str, link: Link) {
        let mut state = self.lock();
        state.links.insert(host.to_owned(), link);
        state.connections.retain(|connection| {
            let is_cut = connection.host == host && link.weather == Weather::Down;
            if connection.host == host {
                connection.hold(link.weather == Weather::BlackHole);
            }
            if is_cut {
                connection.end(false);
            }
            !is_cut
        });
    }

    /// Breaks all connections that `host` has made.
    pub(super) fn reset(&self, host: &str) {
        self.lock().end(|connection| connection.host == host, false);
    }

    /// Connects `client` to a gateway, for the `dials`th time.
    ///
    /// # Errors
    /// Nobody listens there, or the link is down.
    pub(super) async fn dial(
        &self,
        client: &str,
        port: u16,
        dials: u64,
        said: &Said,
    ) -> io::Result<Dialled> {
        tokio::time::sleep(HANDSHAKE).await;
        match self.knock(client, port, dials, said)? {
            Some(dialled) => Ok(dialled),
            None => std::future::pending().await,
        }
    }

    fn knock(
        &self,
        client: &str,
        port: u16,
        dials: u64,
        said: &Said,
    ) -> io::Result<Option<Dialled>> {
        let mut state = self.lock();
        let Some(link) = state.link(client)? else {
            return Ok(None);
        };
        let seed = seed_for(state.seed, CLIENTS + u64::from(port));
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let door = state.doors.get(&port).ok_or_else(refused)?;
        let (machine, life) = (door.machine.clone(), door.life);
        let listening = door.listening.clone().ok_or_else(refused)?;
        // Not by the order in which clients connect, which is not drawn from the seed.
        let name = sedge_core::crc::crc32c(client.as_bytes()) as u64;
        let seed = seed_for(seed_for(seed, name), dials);
        let pipe = |side| {
            let pipe = Pipe::new(seed_for(seed, side), link.latency);
            Arc::new(Mutex::new(pipe))
        };
        let (to_gateway, from_gateway) = (pipe(0), pipe(1));
        let end = |reads: &Arc<Mutex<Pipe>>, writes: &Arc<Mutex<Pipe>>, side| End {
            reads: Arc::clone(reads),
            writes: Arc::clone(writes),
            sleep: None,
            story: self.story.clone(),
            name: name << 24 | dials << 1 | side,
            ear: None,
            speaker: Speaker::Gateway,
        };
        let inner = Inner {
            end: end(&to_gateway, &from_gateway, 0),
            held: Vec::new(),
            said: Arc::clone(said),
        };
        let accepted = Box::new(Accepted(Mutex::new(inner)));
        listening.send(accepted).map_err(|_| refused())?;
        let socket = end(&from_gateway, &to_gateway, 1);
        state.connections.retain(|c| !c.is_over());
        state.connections.push(Connection {
            host: client.to_owned(),
            to: machine,
            to_hub: to_gateway,
            from_hub: from_gateway,
        });
        Ok(Some(Dialled { socket, life }))
    }

    fn open(&self, host: &str) -> io::Result<Option<Box<dyn Socket>>> {
        let is_second = host == SECOND_READER;
        let host = if is_second { READER } else { host };
        let mut state = self.lock();
        let Some(link) = state.link(host)? else {
            return Ok(None);
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let listening = state.listening.clone().ok_or_else(refused)?;
        let counter = match is_second {
            true => &mut state.made_aside,
            false => &mut state.made,
        };
        *counter += 1;
        let (made, seed) = (*counter, state.seed);
        let pipe = |side: u64| {
            Arc::new(Mutex::new(Pipe::new(
                seed_for(seed, made * 2 + side),
                link.latency,
            )))
        };
        let (to_hub, from_hub) = (pipe(0), pipe(1));
        let ear = (host != READER).then(|| {
            let ear = Ear::new(host, self.ledger.clone());
            Arc::new(Mutex::new(ear))
        });
        let end =
            |reads: &Arc<Mutex<Pipe>>, writes: &Arc<Mutex<Pipe>>, side: u64| -> Box<dyn Socket> {
                Box::new(End {
                    reads: Arc::clone(reads),
                    writes: Arc::clone(writes),
                    sleep: None,
                    story: self.story.clone(),
                    name: made * 2 + side,
                    ear: ear.clone(),
                    speaker: [Speaker::Hub, Speaker::Gateway][side as usize],
                })
            };
        let peer = SocketAddr::from(([10, 0, 0, 1], (made % 60_000) as u16 + 1));
        if listening.send((end(&to_hub, &from_hub, 0), peer)).is_err() {
            return Err(refused());
        }
        let socket = end(&from_hub, &to_hub, 1);
        state.connections.retain(|c| !c.is_over());
        state.connections.push(Connection {
            host: host.to_owned(),
            to: HUB.to_owned(),
            to_hub,
            from_hub,
        });
        Ok(Some(socket))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl sedge_uplink::net::Network for Network {
    fn connect(&self, address: &str) -> Connecting {
        let host = address.split(':').next().unwrap_or_default().to_owned();
        let network = self.clone();
        Box::pin(async move {
            tokio::time::sleep(HANDSHAKE).await;
            network.story.mix(&[20, host.len() as u64]);
            match network.open(&host)? {
                Some(socket) => Ok(socket),
                None => std::future::pending().await,
            }
        })
    }
}

impl socket::Network for Network {
    fn listen(&self, address: SocketAddr) -> io::Result<Arriving> {
        let mut state = self.lock();
        let door = state.doors.get_mut(&address.port());
        let door = door.ok_or(io::ErrorKind::AddrNotAvailable)?;
        if door.listening.as_ref().is_some_and(|l| !l.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        door.life += 1;
        door.listening = Some(sender);
        Ok(receiver)
    }
}

impl State {
    /// The link of `host`; `None` if it swallows everything.
    fn link(&self, host: &str) -> io::Result<Option<Link>> {
        let link = self.links.get(host).copied().unwrap_or(Link {
            weather: Weather::Fair,
            latency: Duration::from_millis(1),
        });
        match link.weather {
            Weather::Fair => Ok(Some(link)),
            Weather::BlackHole => Ok(None),
            Weather::Down => Err(io::ErrorKind::HostUnreachable.into()),
        }
    }

    fn end(&mut self, which: impl Fn(&Connection) -> bool, silently: bool) {
        self.connections.retain(|connection| {
            let ends = which(connection);
            if ends {
                connection.end(silently);
            }
            !ends
        });
    }
}

impl Connection {
    fn pipes(&self) -> [MutexGuard<'_, Pipe>; 2] {
        [&self.to_hub, &self.from_hub].map(|pipe| pipe.lock().expect("no holder panics"))
    }

    fn end(&self, silently: bool) {
        for mut pipe in self.pipes() {
            match silently {
                true => pipe.holds = true,
                false => pipe.reset = true,
            }
            pipe.wake();
        }
    }

    fn hold(&self, holds: bool) {
        for mut pipe in self.pipes() {
            pipe.holds = holds;
            pipe.wake();
        }
    }

    fn is_over(&self) -> bool {
        self.pipes().iter().all(|pipe| pipe.closed || pipe.reset)
    }
}

impl Pipe {
    fn new(seed: u64, latency: Duration) -> Self {
        Self {
            random: Random::new(seed),
            latency,
            chunks: VecDeque::new(),
            bytes: 0,
            closed: false,
            reset: false,
            holds: false,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()]
            .into_iter()
            .flatten()
        {
            waker.wake();
        }
    }

    /// When the next byte arrives.
    fn arrives(&mut self) -> Instant {
        let jitter = Duration::from_micros(self.random.below(self.latency.as_micros() as u64 + 1));
        let arrives = Instant::now() + self.latency + jitter;
        // Bytes do not overtake each other.
        self.chunks
            .back()
            .map_or(arrives, |(last, _)| arrives.max(*last))
    }
}

/// One machine's end.
#[derive(Debug)]
pub(super) struct End {
    reads: Arc<Mutex<Pipe>>,
    writes: Arc<Mutex<Pipe>>,
    sleep: Option<Pin<Box<Sleep>>>,
    story: Story,
    name: u64,
    ear: Option<Arc<Mutex<Ear>>>,
    speaker: Speaker,
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_readable(context));
        let n = self.take(into.initialize_unfilled())?;
        into.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl End {
    /// Whether [`End::take`] has something to say.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut pipe = self.reads.lock().expect("no holder panics");
            if pipe.reset {
                return Poll::Ready(());
            }
            pipe.reader = Some(context.waker().clone());
            if pipe.holds {
                return Poll::Pending;
            }
            let Some((arrives, _)) = pipe.chunks.front() else {
                return match pipe.closed {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                };
            };
            if *arrives <= Instant::now() {
                return Poll::Ready(());
            }
            let mut sleep = Box::pin(tokio::time::sleep_until(*arrives));
            drop(pipe);
            let waits = sleep.as_mut().poll(context).is_pending();
            self.sleep = Some(sleep);
            if waits {
                return Poll::Pending;
            }
        }
    }

    /// Takes what is there.
    ///
    /// # Errors
    /// The connection is broken; or `WouldBlock`.
    fn take(&self, into: &mut [u8]) -> io::Result<usize> {
        let mut pipe = self.reads.lock().expect("no holder panics");
        if pipe.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let is_closed = pipe.closed && !pipe.holds;
        let chunk = match pipe.chunks.front_mut() {
            None if is_closed => return Ok(0),
            Some((arrives, chunk)) if *arrives <= Instant::now() => chunk,
            _ => return Err(io::ErrorKind::WouldBlock.into()),
        };
        let n = chunk.len().min(into.len());
        into[..n].copy_from_slice(&chunk[..n]);
        chunk.drain(..n);
        if chunk.is_empty() {
            pipe.chunks.pop_front();
        }
        pipe.bytes -= n;
        if let Some(writer) = pipe.writer.take() {
            writer.wake();
        }
        self.story.mix(&[21, self.name, n as u64]);
        Ok(n)
    }

    /// Gives what finds room.
    ///
    /// # Errors
    /// The connection is broken; or `WouldBlock`.
    fn give(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.writes.lock().expect("no holder panics");
        if pipe.reset || (pipe.closed && !pipe.holds) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = PIPE_BYTES.saturating_sub(pipe.bytes);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // A part, at times: nobody may count on more.
        let most = match pipe.random.one_in(8) {
            true => 1 + pipe.random.index(bytes.len()),
            false => bytes.len(),
        };
        let n = most.min(room).min(bytes.len());
        let arrives = pipe.arrives();
        pipe.chunks.push_back((arrives, bytes[..n].to_vec()));
        pipe.bytes += n;
        if let Some(ear) = &self.ear {
            let mut ear = ear.lock().expect("no holder panics");
            ear.hear(self.speaker, &bytes[..n]);
        }
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Ok(n)
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.give(bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let mut pipe = self.writes.lock().expect("no holder panics");
                pipe.writer = Some(context.waker().clone());
                Poll::Pending
            }
            given => Poll::Ready(given),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.writes.lock().expect("no holder panics");
        pipe.closed = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

/// A gateway's end of a connection to a client.
#[derive(Debug)]
struct Accepted(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    end: End,
    /// What the gateway has said and is no whole packet yet.
    held: Vec<u8>,
    said: Said,
}

impl Accepted {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder panics")
    }
}

impl Inner {
    /// Notes the PUBACKs in what the gateway has said and tries to say now, whether it gets away or not.
    fn note(&self, bytes: &[u8]) {
        let all = [&self.held, bytes].concat();
        let mut rest = &all[..];
        while let Some((packet, len)) = packets::first(rest) {
            if let Packet::PubAck { id } = packet {
                self.said.lock().expect("no holder panics").insert(id);
            }
            rest = &rest[len..];
        }
    }
}

impl socket::Socket for Accepted {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().end.poll_readable(context).map(Ok)
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = self.lock();
        let mut pipe = inner.end.writes.lock().expect("no holder panics");
        if pipe.reset || pipe.closed || pipe.bytes < PIPE_BYTES {
            return Poll::Ready(Ok(()));
        }
        pipe.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.lock().end.take(into)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.lock();
        inner.note(bytes);
        let n = inner.end.give(bytes)?;
        inner.held.extend_from_slice(&bytes[..n]);
        while let Some((_, len)) = packets::first(&inner.held) {
            inner.held.drain(..len);
        }
        Ok(n)
    }

    fn shut_down(&self) {
        let inner = self.lock();
        let mut pipe = inner.end.writes.lock().expect("no holder panics");
        pipe.closed = true;
        pipe.wake();
    }
}

impl Drop for End {
    /// The kernel closes what a program leaves open.
    fn drop(&mut self) {
        for pipe in [&self.writes, &self.reads] {
            let mut pipe = pipe.lock().expect("no holder panics");
            pipe.closed = true;
            pipe.wake();
        }
    }
}

/// The machine of those who read.
pub(super) const READER: &str = "reader";
/// The same, for the second stream.
pub(super) const SECOND_READER: &str = "reader-2";
/// Numbers of its connections are above this.
const ASIDE: u64 = 1 << 32;
/// Their connections draw from sequences above this.
const CLIENTS: u64 = 1 << 33;
/// Until a connection stands.
const HANDSHAKE: Duration = Duration::from_millis(2);
/// Buffers of both ends.
const PIPE_BYTES: usize = 128 << 10;
