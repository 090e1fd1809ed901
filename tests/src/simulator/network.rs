//! The network between simulated machines: connections of bytes that take their time, break, or go nowhere.
//!
//! A machine is named by the host in the address: what connects to `gw-0:7443` travels the link of `gw-0` to the one hub there is.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sedge_uplink::net::{Connecting, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use super::ear::{Ear, Speaker};
use super::ledger::Ledger;
use super::story::Story;
use crate::random::{Random, seed_for};

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
    host: String,
    to_hub: Arc<Mutex<Pipe>>,
    from_hub: Arc<Mutex<Pipe>>,
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

    /// The hub is gone; who is connected to it hears of it, unless the machine lost its power.
    pub(super) fn hub_is_gone(&self, silently: bool) {
        let mut state = self.lock();
        state.listening = None;
        for connection in state.connections.drain(..) {
            connection.end(silently);
        }
    }

    /// The machine `host` is gone.
    pub(super) fn is_gone(&self, host: &str, silently: bool) {
        let mut state = self.lock();
        state.connections.retain(|connection| {
            if connection.host == host {
                connection.end(silently);
            }
            connection.host != host
        });
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

    /// Breaks all connections of `host`.
    pub(super) fn reset(&self, host: &str) {
        self.is_gone(host, false);
    }

    fn open(&self, host: &str) -> io::Result<Option<Box<dyn Socket>>> {
        let is_second = host == SECOND_READER;
        let host = if is_second { READER } else { host };
        let mut state = self.lock();
        let link = state.links.get(host).copied().unwrap_or(Link {
            weather: Weather::Fair,
            latency: Duration::from_millis(1),
        });
        match link.weather {
            Weather::Fair => {}
            Weather::BlackHole => return Ok(None),
            Weather::Down => return Err(io::ErrorKind::HostUnreachable.into()),
        }
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
struct End {
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
        let this = &mut *self;
        loop {
            let mut pipe = this.reads.lock().expect("no holder panics");
            if pipe.reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            pipe.reader = Some(context.waker().clone());
            if pipe.holds {
                return Poll::Pending;
            }
            let Some((arrives, chunk)) = pipe.chunks.front_mut() else {
                return match pipe.closed {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Pending,
                };
            };
            if *arrives <= Instant::now() {
                let n = chunk.len().min(into.remaining());
                into.put_slice(&chunk[..n]);
                chunk.drain(..n);
                if chunk.is_empty() {
                    pipe.chunks.pop_front();
                }
                pipe.bytes -= n;
                if let Some(writer) = pipe.writer.take() {
                    writer.wake();
                }
                this.story.mix(&[21, this.name, n as u64]);
                return Poll::Ready(Ok(()));
            }
            let mut sleep = Box::pin(tokio::time::sleep_until(*arrives));
            drop(pipe);
            let waits = sleep.as_mut().poll(context).is_pending();
            this.sleep = Some(sleep);
            if waits {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.writes.lock().expect("no holder panics");
        if pipe.reset || (pipe.closed && !pipe.holds) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = PIPE_BYTES.saturating_sub(pipe.bytes);
        if room == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
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
        Poll::Ready(Ok(n))
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
/// Until a connection stands.
const HANDSHAKE: Duration = Duration::from_millis(2);
/// Buffers of both ends.
const PIPE_BYTES: usize = 128 << 10;
