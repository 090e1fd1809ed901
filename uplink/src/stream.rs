//! A TCP connection as messages: `length u32 LE · type u8 · body` in both directions.
//!
//! One task owns both directions. What is to be sent waits in `outgoing` and leaves while the task listens, so two peers that
//! both have much to say never wait for each other. Nothing is allocated for a length that is not allowed.

use std::future::{Future as _, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::net::{Connection, Reading, Writing};
use crate::trust::explain;
use crate::wire::{self, Message};

/// One message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Incoming {
    pub(crate) kind: u8,
    pub(crate) body: Bytes,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Stream {
    reader: Box<dyn Reading>,
    writer: Box<dyn Writing>,
    /// Which direction has its turn first; they alternate.
    writes_first: bool,
    buffered: BytesMut,
    /// Framed messages that have not left.
    pub(crate) outgoing: BytesMut,
    is_secret: bool,
    /// The peer has said something.
    has_spoken: bool,
    /// With more than this that has not left, nothing is read: a peer that does not listen is not listened to.
    outgoing_bytes_max: usize,
    /// What was written may still be held back, by TLS.
    unflushed: bool,
    limit: usize,
    heard: Instant,
    /// When bytes moved last, in either direction.
    moved: Instant,
    /// Since when a message is under way.
    begun: Option<Instant>,
    received_bytes: u64,
    sent_bytes: u64,
}

/// Bytes that have moved.
enum Moved {
    In(usize),
    Out(usize),
}

/// What a turn of the connection brought.
#[derive(Debug)]
pub(crate) enum Turn {
    /// A message.
    Received(Incoming),
    /// Bytes have moved, and no message is whole.
    Sent,
}

impl Stream {
    /// Takes `connection`, with messages of at most `limit` bytes until [`Stream::allow`] says otherwise.
    pub(crate) fn new(connection: Connection, limit: usize) -> io::Result<Self> {
        let is_secret = matches!(connection, Connection::Tls(_));
        let (reader, writer) = connection.split()?;
        let (buffered, outgoing) = (BytesMut::new(), BytesMut::new());
        Ok(Self {
            reader,
            writer,
            writes_first: false,
            buffered,
            outgoing,
            is_secret,
            has_spoken: false,
            outgoing_bytes_max: usize::MAX,
            unflushed: false,
            limit,
            heard: Instant::now(),
            moved: Instant::now(),
            begun: None,
            received_bytes: 0,
            sent_bytes: 0,
        })
    }

    /// With more than `bytes` that have not left, nothing is read.
    pub(crate) fn bound_outgoing(&mut self, bytes: usize) {
        self.outgoing_bytes_max = bytes;
    }

    /// Messages may have `limit` bytes from now on.
    pub(crate) fn allow(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Queues `message`.
    pub(crate) fn push<M: Message>(&mut self, message: &M) {
        wire::emit(&mut self.outgoing, message);
    }

    /// Queues Bye and sends what is queued, for as long as a second.
    pub(crate) async fn end(&mut self, code: u16, reason: &str) {
        self.push(&wire::Bye {
            code,
            reason: reason.into(),
        });
        // The peer may be gone already; then there is nobody to tell.
        let farewell = async {
            self.flush().await?;
            self.writer.shutdown().await
        };
        drop(tokio::time::timeout(FAREWELL, farewell).await);
    }

    /// Sends everything that is queued.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            let n = self.writer.write_buf(&mut self.outgoing).await?;
            self.sent_bytes += n as u64;
        }
        self.unflushed = false;
        self.writer.flush().await
    }

    /// The next message, while what is queued leaves. Cancelling loses nothing.
    pub(crate) async fn turn(&mut self) -> Result<Turn, StreamError> {
        if self.may_read()
            && let Some(message) = self.take()?
        {
            return Ok(Turn::Received(message));
        }
        make_room(&mut self.buffered, self.limit);
        let moved = self.moves().await?;
        self.moved = Instant::now();
        match moved {
            Moved::In(0) => Err(StreamError::Closed),
            Moved::In(n) => {
                self.heard = self.moved;
                self.received_bytes += n as u64;
                self.begun.get_or_insert(self.heard);
                Ok(self.take()?.map_or(Turn::Sent, Turn::Received))
            }
            Moved::Out(n) => {
                self.sent_bytes += n as u64;
                self.give_back();
                Ok(Turn::Sent)
            }
        }
    }

    fn may_read(&self) -> bool {
        self.outgoing.len() <= self.outgoing_bytes_max
    }

    /// Moves some bytes, in the direction that can. Where both can they take turns, so that neither waits for the other for long.
    async fn moves(&mut self) -> io::Result<Moved> {
        let may_read = self.may_read();
        let (has_news, writes_first) = (!self.outgoing.is_empty(), self.writes_first);
        self.writes_first = !writes_first;
        let mut read = pin!(self.reader.read_buf(&mut self.buffered));
        let (writer, outgoing) = (&mut self.writer, &mut self.outgoing);
        let unflushed = &mut self.unflushed;
        let mut write = pin!(async {
            if has_news {
                *unflushed = true;
                return writer.write_buf(outgoing).await;
            }
            if *unflushed {
                writer.flush().await?;
                *unflushed = false;
            }
            pending().await
        });
        poll_fn(|context| {
            for writes in [writes_first, !writes_first] {
                let moved = match writes {
                    true => write.as_mut().poll(context).map_ok(Moved::Out),
                    false if may_read => read.as_mut().poll(context).map_ok(Moved::In),
                    false => Poll::Pending,
                };
                if moved.is_ready() {
                    return moved;
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next message, however many turns it takes. Cancelling loses nothing.
    pub(crate) async fn receive(&mut self) -> Result<Incoming, StreamError> {
        loop {
            if let Turn::Received(message) = self.turn().await? {
                return Ok(message);
            }
        }
    }

    /// Whether TLS is spoken, so that the peer has shown a certificate.
    pub(crate) fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// When the peer was heard last.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    /// When bytes moved last, in either direction: what the peer has taken is a sign of life too.
    pub(crate) fn moved(&self) -> Instant {
        self.moved
    }

    /// A message was begun more than `patience` ago, beside what it takes on the slowest link that is waited for, and the rest is missing.
    pub(crate) fn is_overdue(&self, patience: Duration) -> bool {
        let length = length(&self.buffered, self.limit).ok().flatten();
        let due = patience + slowest(length.unwrap_or(0));
        self.begun.is_some_and(|begun| begun.elapsed() > due)
    }

    /// Bytes received and sent so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        (self.received_bytes, self.sent_bytes)
    }

    fn take(&mut self) -> Result<Option<Incoming>, StreamError> {
        if !self.has_spoken && !self.is_secret && is_alert(&self.buffered) {
            return Err(StreamError::Secret);
        }
        let message = first(&mut self.buffered, self.limit)?;
        if message.is_some() {
            self.has_spoken = true;
            self.begun = (!self.buffered.is_empty()).then(Instant::now);
        }
        Ok(message)
    }

    /// A long transfer is over: its buffer need not stay.
    fn give_back(&mut self) {
        if self.outgoing.is_empty() && self.outgoing.capacity() > KEPT_BYTES_MAX {
            self.outgoing = BytesMut::new();
        }
    }
}

/// The head of an alert, where a first message should be: the peer has taken ours for a greeting in TLS. A length like this no first message has.
fn is_alert(buffered: &[u8]) -> bool {
    matches!(buffered, [0x15, 0x03, minor, ..] if *minor != 0)
}

/// Takes the message at the front of what has come, once it is whole.
pub(crate) fn first(
    buffered: &mut BytesMut,
    limit: usize,
) -> Result<Option<Incoming>, StreamError> {
    let Some(length) = length(buffered, limit)? else {
        return Ok(None);
    };
    if buffered.len() < HEAD_BYTES + length {
        return Ok(None);
    }
    buffered.advance(HEAD_BYTES);
    let mut body = buffered.split_to(length).freeze();
    let kind = body.get_u8();
    Ok(Some(Incoming { kind, body }))
}

/// Makes room for what is missing of the message at the front, within bounds.
pub(crate) fn make_room(buffered: &mut BytesMut, limit: usize) {
    let missing = match length(buffered, limit) {
        Ok(Some(length)) => (HEAD_BYTES + length).saturating_sub(buffered.len()),
        _ => READ_BYTES_MIN,
    };
    buffered.reserve(missing.clamp(READ_BYTES_MIN, READ_BYTES_MAX));
}

fn length(buffered: &[u8], limit: usize) -> Result<Option<usize>, StreamError> {
    let Some(head) = buffered.first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    match u32::from_le_bytes(*head) as usize {
        0 => Err(StreamError::Malformed),
        length if length > limit => Err(StreamError::TooLarge { length, limit }),
        length => Ok(Some(length)),
    }
}

/// Why no more messages come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// The network did, or TLS.
    #[error("{}", explain(.0))]
    Io(#[source] io::Error),
    /// A length of zero.
    #[error("a message without a type")]
    Malformed,
    /// It is TLS.
    #[error("the peer speaks TLS: it needs a token, or a `ca` by which it is known")]
    Secret,
    /// A message above the limit.
    #[error("a message of {length} bytes; {limit} are allowed")]
    TooLarge {
        /// What it announced.
        length: usize,
        /// What is allowed.
        limit: usize,
    },
}

impl From<io::Error> for StreamError {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            // TLS says goodbye; a process that was killed did not.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(e),
        }
    }
}

impl StreamError {
    /// What the peer is told, if it broke a rule.
    pub(crate) fn bye(&self) -> Option<u16> {
        match self {
            Self::Closed | Self::Io(_) | Self::Secret => None,
            Self::Malformed => Some(wire::bye::MALFORMED),
            Self::TooLarge { .. } => Some(wire::bye::TOO_LARGE),
        }
    }
}

/// What `bytes` take on the slowest link that is waited for.
pub(crate) fn slowest(bytes: usize) -> Duration {
    Duration::from_secs((bytes / SLOWEST_BYTES_A_SECOND) as u64)
}

/// A modem of 2,400 bits a second, and TCP's part of it.
const SLOWEST_BYTES_A_SECOND: usize = 256;
const HEAD_BYTES: usize = 4;
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;
/// An idle connection keeps no more than this.
const KEPT_BYTES_MAX: usize = 64 * 1024;
const FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Socket;

    fn stream(limit: usize) -> (Stream, tokio::io::DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let ours: Box<dyn Socket> = Box::new(ours);
        (
            Stream::new(Connection::Simulated(ours), limit).unwrap(),
            theirs,
        )
    }

    fn message(length: usize) -> Vec<u8> {
        let mut bytes = (length as u32).to_le_bytes().to_vec();
        bytes.resize(4 + length, 7);
        bytes
    }

    /// 0x010315: the head of an alert, and the length of one message of 65,536.
    #[tokio::test]
    async fn a_message_whose_length_looks_like_an_alert_is_a_message_but_for_the_first() {
        let (mut ours, mut theirs) = stream(1 << 20);
        for length in [5, 0x01_03_15, 0x0F_03_15] {
            theirs.write_all(&message(length)).await.unwrap();
            let heard = ours.receive().await.unwrap();
            assert_eq!((heard.kind, heard.body.len()), (7, length - 1));
        }
        let (mut ours, mut theirs) = stream(1 << 20);
        theirs.write_all(&[0x15, 3, 3, 0, 2, 2, 80]).await.unwrap();
        assert!(matches!(ours.receive().await, Err(StreamError::Secret)));
    }

    /// It asks and does not listen: what waits for it stays bounded, and when it listens it is heard again.
    #[tokio::test]
    async fn a_peer_that_does_not_listen_is_not_listened_to() {
        let (mut ours, mut theirs) = stream(1 << 20);
        ours.bound_outgoing(1_000);
        ours.outgoing.extend_from_slice(&vec![9; (1 << 20) + 2_000]);
        theirs.write_all(&message(5)).await.unwrap();
        let turns = async {
            loop {
                match ours.turn().await.unwrap() {
                    Turn::Received(_) => break,
                    Turn::Sent => {}
                }
            }
        };
        let waited = tokio::time::timeout(Duration::from_millis(200), turns);
        assert!(waited.await.is_err(), "it was listened to");
        let mut rest = vec![0; (1 << 20) + 2_000];
        let (heard, read) = tokio::join!(ours.receive(), theirs.read_exact(&mut rest));
        assert_eq!(heard.unwrap().kind, 7);
        read.unwrap();
    }
}
