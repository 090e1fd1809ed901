//! One connection: requests come in one after the other and are answered in that order.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::visit::{Handshake, Known, Visit};
use super::{Advertised, KafkaOptions};
use crate::hub::guard::Caller;
use crate::hub::lobby::Place;
use crate::hub::{Admitted, HANDSHAKE_PATIENCE, Shared};
use crate::kafka::api::{self, Api, Head};
use crate::kafka::octets::{Malformed, Reader, Writer};
use crate::kafka::streams::Produce;
use crate::kafka::{code, streams};
use crate::stream::slowest;
use crate::trust::explain;

/// Why a connection ends before its client wants it to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    NoHandshake(String),
    #[error("a request of {0} bytes")]
    TooLarge(i64),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("request {key} in version {version}, which is not spoken")]
    Unknown { key: i16, version: i16 },
    #[error("a request before it is known who asks")]
    NotKnown,
    #[error("{0}")]
    Denied(String),
    #[error("no request in time")]
    Silent,
    #[error("answers are not taken")]
    Stuck,
    #[error("too many connections")]
    Full,
}

/// Serves `socket` until its client goes, or something ends it.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    socket: TcpStream,
    peer: SocketAddr,
    options: &Arc<KafkaOptions>,
) -> Result<(), Broken> {
    let mut place = shared.lobby.enter(peer.ip());
    let known_by = Instant::now() + HANDSHAKE_PATIENCE;
    let arrived = tokio::select! {
        biased;
        arrived = timeout_at(known_by, arrive(shared, socket, options)) => arrived,
        () = shared.stopped() => return Ok(()),
        () = place.pushed_out() => return Err(Broken::Full),
    };
    let (socket, caller, here) = arrived.map_err(|_| Broken::Silent)??;
    let mut visit = Visit {
        shared: Arc::clone(shared),
        options: Arc::clone(options),
        caller,
        here,
        host: peer.ip().to_canonical(),
        handshake: Handshake::None,
        reader: None,
    };
    visit.known_at_once();
    let (read, write) = tokio::io::split(socket);
    let conversation = Conversation {
        visit,
        incoming: Incoming {
            read,
            buffer: BytesMut::new(),
        },
        write,
        lobby: Some((place, known_by)),
        shared,
        admitted: None,
        ahead: None,
    };
    conversation.run().await
}

/// Shakes hands, where the hub has certificates: who comes, and where it is told to connect.
async fn arrive(
    shared: &Arc<Shared>,
    socket: TcpStream,
    options: &KafkaOptions,
) -> Result<(Socket, Caller, Advertised), Broken> {
    socket.set_nodelay(true)?;
    let local = socket.local_addr()?;
    let mut here = Advertised {
        host: local.ip().to_canonical().to_string(),
        port: local.port(),
    };
    let (socket, caller) = match &shared.guard {
        None => (Box::new(socket) as Socket, Caller::Local),
        Some(guard) => {
            let met = guard.meet(socket).await;
            let (tls, caller) = met.map_err(|e| Broken::NoHandshake(explain(&e)))?;
            // What the client calls this machine is what it can reach it by.
            if let tokio_rustls::TlsStream::Server(server) = &tls
                && let Some(name) = server.get_ref().1.server_name()
            {
                name.clone_into(&mut here.host);
            }
            (Box::new(tls) as Socket, caller)
        }
    };
    Ok((socket, caller, options.advertised.clone().unwrap_or(here)))
}

/// A connection whose hands are shaken.
struct Conversation<'s> {
    visit: Visit,
    incoming: Incoming,
    write: WriteHalf<Socket>,
    /// Its place there, and until when it is to have said who it is; none once it is known.
    lobby: Option<(Place, Instant)>,
    shared: &'s Shared,
    /// One of those that are served, once it is known: who has a place in the lobby takes none from others.
    admitted: Option<Admitted<'s>>,
    /// A request that came while the one before it was worked on.
    ahead: Option<Bytes>,
}

impl Conversation<'_> {
    async fn run(mut self) -> Result<(), Broken> {
        loop {
            if self.visit.reader.is_some() && self.lobby.is_some() {
                self.admitted = Some(self.shared.admit_one().ok_or(Broken::Full)?);
                self.lobby = None;
            }
            let Some(request) = self.request().await? else {
                return Ok(());
            };
            let Some(answer) = self.answer(request).await? else {
                return Ok(());
            };
            if let Some(bytes) = &answer.bytes {
                self.give(bytes).await?;
            }
            if !answer.goes_on {
                return Ok(());
            }
        }
    }

    /// Sends it; one who is not known yet takes it while it has its place.
    async fn give(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        tokio::select! {
            biased;
            why = to_go(&mut self.lobby) => Err(why),
            sent = send(&mut self.write, bytes) => sent,
        }
    }

    /// What a request may have: less before it is known who asks.
    const fn request_bytes_max(&self) -> usize {
        match self.lobby {
            Some(_) => UNKNOWN_BYTES_MAX,
            None => REQUEST_BYTES_MAX,
        }
    }

    /// The next request; none at the end of the connection or of the hub.
    async fn request(&mut self) -> Result<Option<Bytes>, Broken> {
        if let Some(request) = self.ahead.take() {
            return Ok(Some(request));
        }
        let bytes_max = self.request_bytes_max();
        let shared = Arc::clone(&self.visit.shared);
        tokio::select! {
            biased;
            () = shared.stopped() => Ok(None),
            why = to_go(&mut self.lobby) => Err(why),
            denied = withdrawn(&mut self.visit.reader) => Err(Broken::Denied(denied)),
            request = timeout(IDLE_PATIENCE, self.incoming.request(bytes_max)) => {
                request.map_err(|_| Broken::Silent)?
            }
        }
    }

    /// The answer; none at the end of the connection or of the hub. A client that goes while it is waited for something is noticed; what it sends meanwhile is kept,
    /// one request of it.
    async fn answer(&mut self, request: Bytes) -> Result<Option<Answer>, Broken> {
        let bytes_max = self.request_bytes_max();
        let shared = Arc::clone(&self.visit.shared);
        let mut answering = pin!(self.visit.answer(request));
        loop {
            tokio::select! {
                biased;
                answer = &mut answering => return answer.map(Some),
                () = shared.stopped() => return Ok(None),
                request = self.incoming.request(bytes_max), if self.ahead.is_none() => match request? {
                    Some(request) => self.ahead = Some(request),
                    None => return Ok(None),
                },
            }
        }
    }
}

/// Sends it all, as long as some of it is taken, and for as long as that may take on the slowest link.
async fn send(write: &mut (impl AsyncWrite + Unpin), mut bytes: &[u8]) -> Result<(), Broken> {
    let end = Instant::now() + 2 * ANSWER_PATIENCE + slowest(bytes.len());
    while !bytes.is_empty() {
        let due = end.min(Instant::now() + ANSWER_PATIENCE);
        let taken = timeout_at(due, write.write(bytes)).await;
        match taken.map_err(|_| Broken::Stuck)?? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            taken => bytes = &bytes[taken..],
        }
    }
    let flushed = timeout(ANSWER_PATIENCE, write.flush()).await;
    Ok(flushed.map_err(|_| Broken::Stuck)??)
}

/// Why one who is not known yet has to go: others need its place, or its time is over.
async fn to_go(lobby: &mut Option<(Place, Instant)>) -> Broken {
    let Some((place, known_by)) = lobby else {
        return std::future::pending().await;
    };
    tokio::select! {
        biased;
        () = place.pushed_out() => Broken::Full,
        () = tokio::time::sleep_until(*known_by) => Broken::Silent,
    }
}

async fn withdrawn(reader: &mut Option<Known>) -> String {
    match reader {
        Some(known) => known.grant.withdrawn().await.0,
        None => std::future::pending().await,
    }
}

/// What is said to a request, and whether the connection goes on after it.
struct Answer {
    bytes: Option<Vec<u8>>,
    goes_on: bool,
}

impl Visit {
    async fn answer(&mut self, request: Bytes) -> Result<Answer, Broken> {
        if self.handshake == Handshake::Bare {
            let is_good = self.authenticate_bare(&request);
            // An empty message says so; who is not let in sees the end.
            return Ok(Answer {
                bytes: is_good.then(|| vec![0; LENGTH_BYTES]),
                goes_on: is_good,
            });
        }
        let mut from = Reader::new(&request);
        let head = Head::read(&mut from)?;
        let mut into = Writer::on(vec![0; LENGTH_BYTES]);
        into.i32(head.correlation);
        let (from, version) = (&mut from, head.version);
        let mut goes_on = true;
        let api = match head.known() {
            api::Known::Yes(api) => api,
            api::Known::Otherwise(Api::ApiVersions) => {
                api::write_versions(&mut into, version, false);
                return Ok(Answer::of(into, true));
            }
            _ => {
                let key = head.key;
                return Err(Broken::Unknown { key, version });
            }
        };
        match api {
            Api::ApiVersions => {
                let named = api::read_versions(from, version)?;
                if let Some((software, number)) = named {
                    tracing::debug!(
                        software,
                        number,
                        client = head.client,
                        "a client of Kafka's"
                    );
                }
                api::write_versions(&mut into, version, true);
            }
            Api::SaslHandshake => self.handshake(from, &mut into, version)?,
            Api::SaslAuthenticate => goes_on = self.authenticate(from, &mut into, version)?,
            _ if self.reader.is_none() => return Err(Broken::NotKnown),
            Api::Produce => {
                let produce = Produce::read(from)?;
                if produce.acks == 0 {
                    // It does not listen: the end of the connection is what it notices.
                    return Ok(Answer {
                        bytes: None,
                        goes_on: false,
                    });
                }
                produce.refuse(&mut into, version, code::POLICY_VIOLATION, READ_ONLY);
            }
            Api::InitProducerId => streams::write_producer_id(&mut into),
            Api::Metadata => self.metadata(from, &mut into, version)?,
            Api::ListOffsets => self.list_offsets(from, &mut into, version).await?,
            Api::Fetch => self.fetch(from, &mut into, version).await?,
            Api::OffsetForLeaderEpoch => self.epochs(from, &mut into, version)?,
            Api::DescribeConfigs => self.configs(from, &mut into, version)?,
            Api::FindCoordinator => self.find_coordinator(from, &mut into, version)?,
            Api::JoinGroup => self.join(from, &mut into, version, head.client).await?,
            Api::SyncGroup => self.sync(from, &mut into, version).await?,
            Api::Heartbeat => self.heartbeat(from, &mut into, version)?,
            Api::LeaveGroup => self.leave(from, &mut into, version).await?,
            Api::OffsetCommit => self.commit(from, &mut into, version).await?,
            Api::OffsetFetch => self.offset_fetch(from, &mut into, version).await?,
            Api::DescribeGroups => self.describe_groups(from, &mut into, version).await?,
            Api::ListGroups => self.list_groups(&mut into, version).await?,
            Api::DeleteGroups => self.delete_groups(from, &mut into).await?,
            Api::OffsetDelete => self.delete_offsets(from, &mut into).await?,
        }
        Ok(Answer::of(into, goes_on))
    }
}

impl Answer {
    fn of(into: Writer, goes_on: bool) -> Self {
        let mut bytes = into.into_bytes();
        let len = u32::try_from(bytes.len() - LENGTH_BYTES).expect("it is far below 4 GiB");
        bytes[..LENGTH_BYTES].copy_from_slice(&len.to_be_bytes());
        Self {
            bytes: Some(bytes),
            goes_on,
        }
    }
}

/// What comes from a client.
struct Incoming {
    read: ReadHalf<Socket>,
    buffer: BytesMut,
}

impl Incoming {
    /// The next request; none when the client has gone. Safe to drop and call again.
    async fn request(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Broken> {
        loop {
            if let Some(head) = self.buffer.first_chunk::<LENGTH_BYTES>() {
                let said = i32::from_be_bytes(*head);
                let len = usize::try_from(said).ok().filter(|len| *len <= bytes_max);
                let len = len.ok_or(Broken::TooLarge(said.into()))?;
                if self.buffer.len() - LENGTH_BYTES >= len {
                    self.buffer.advance(LENGTH_BYTES);
                    return Ok(Some(self.buffer.split_to(len).freeze()));
                }
            }
            // Room for what comes, and not for what a length promises.
            self.buffer.reserve(READ_BYTES);
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

type Socket = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

const READ_ONLY: &str =
    "this hub is read-only over Kafka's protocol: its streams are written by sedge gateways";
const LENGTH_BYTES: usize = 4;
/// A request of somebody who is known, and of somebody who is not.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;
const UNKNOWN_BYTES_MAX: usize = 16 * 1024;
const READ_BYTES: usize = 8 * 1024;
/// As Kafka's connections.max.idle.ms.
const IDLE_PATIENCE: Duration = Duration::from_secs(600);
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::time::timeout;

    use super::*;

    /// Three bytes, and each takes twenty seconds; then nothing is taken any more. Who takes one at a time of very many is not waited for without an end.
    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_its_time_as_long_as_some_of_it_is_taken() {
        let (mut ours, mut theirs) = tokio::io::duplex(1);
        let took = async {
            for byte in 1..=3 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                assert_eq!(theirs.read_u8().await.unwrap(), byte);
            }
        };
        let (sent, ()) = tokio::join!(send(&mut ours, &[1, 2, 3]), took);
        sent.unwrap();
        let began = Instant::now();
        let stuck = send(&mut ours, &[7, 8]).await;
        assert!(matches!(stuck, Err(Broken::Stuck)), "{stuck:?}");
        assert_eq!(began.elapsed(), ANSWER_PATIENCE);
        let takes_forever = async {
            loop {
                theirs.read_u8().await.unwrap();
                tokio::time::sleep(Duration::from_secs(20)).await;
            }
        };
        let began = Instant::now();
        let stuck = tokio::select! {
            stuck = send(&mut ours, &[9; 2_560]) => stuck,
            () = takes_forever => unreachable!("it has no end"),
        };
        assert!(matches!(stuck, Err(Broken::Stuck)), "{stuck:?}");
        assert_eq!(began.elapsed().as_secs(), 70);
    }

    /// It comes byte by byte, the next one with its end, and behind them the promise of one that is too long.
    #[tokio::test(start_paused = true)]
    async fn a_request_is_taken_when_all_of_it_has_come() {
        let (mut ours, theirs) = tokio::io::duplex(1_024);
        let (read, _write) = tokio::io::split(Box::new(theirs) as Socket);
        let mut incoming = Incoming {
            read,
            buffer: BytesMut::new(),
        };
        for byte in [0, 0, 0, 3, 7, 8] {
            ours.write_all(&[byte]).await.unwrap();
            let moment = Duration::from_millis(1);
            assert!(timeout(moment, incoming.request(3)).await.is_err());
        }
        ours.write_all(&[9, 0, 0, 0, 1, 5, 0, 0, 0, 4])
            .await
            .unwrap();
        for expected in [&[7, 8, 9][..], &[5]] {
            let request = incoming.request(3).await.unwrap();
            assert_eq!(request.as_deref(), Some(expected));
        }
        let long = incoming.request(3).await;
        assert!(matches!(long, Err(Broken::TooLarge(4))), "{long:?}");
    }
}
