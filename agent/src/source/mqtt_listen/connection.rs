//! One connection: moves bytes between a socket, the [`Session`] and the [`Intake`], and waits for whatever comes first.
//!
//! ```text
//! socket → buffer → wire::step → Session → Intake batch → stage ─ commit ─ settled → Session → PUBACKs → socket
//! ```
//! A socket is read only when there is room: in the memory budget, in the client's in-flight window, in its lane.

mod messages;
mod presence;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sedge_store::Ticket;
use tokio::time::{Sleep, sleep_until};

use crate::ingest::{Intake, Receipt, Reserved};
use crate::owner::SessionId;
use crate::shutdown::Shutdown;

use super::Listener;
use super::seats::Seat;
use super::session::{Ending, Opening, Session};
use super::socket::Stream;
use super::wire::Version;
use messages::Skim;

/// A connection from its acceptance to its end.
pub(super) struct Connection {
    stream: Arc<Stream>,
    listener: Arc<Listener>,
    session: Session,
    intake: Intake,
    seat: Option<Seat>,
    /// The session that outlives this connection, and how many of its publishes each lane has.
    durable: Option<(SessionId, Vec<u64>)>,
    /// What was read and is not yet understood: the front of a packet, or packets that must wait.
    held: Vec<u8>,
    /// Bytes of `held` with which there will be something to do.
    needed: usize,
    skim: Option<Skim>,
    opening: Option<Opening>,
    out: Vec<u8>,
    /// Holds for `held` and for publishes that are not yet settled; the latter are `unsettled` bytes.
    reserved: Reserved,
    unsettled: usize,
    /// A lane without room for the batch that is in it.
    stuck: Option<(u16, Instant)>,
    /// What was staged first of all that is not settled, and since when that is so.
    awaited: Option<((u16, Ticket), Instant)>,
    /// When bytes came last.
    heard: Instant,
    /// Bytes in batches that are not staged.
    batched: usize,
    accepted: (u64, u64),
}

/// What a connection waits for.
enum Event {
    Readable(Reserved),
    Settled,
    Writable,
    Room,
    Timeout,
    SeatWanted,
    Shutdown,
}

/// Readable, with the memory to read into.
type Reading = Pin<Box<dyn Future<Output = Reserved> + Send>>;

impl Connection {
    pub(super) fn new(stream: Stream, listener: Arc<Listener>, now: Instant) -> Self {
        Self {
            stream: Arc::new(stream),
            session: Session::new(listener.limits, now),
            intake: listener.intake(),
            listener,
            seat: None,
            durable: None,
            held: Vec::new(),
            needed: 0,
            skim: None,
            opening: None,
            out: Vec::new(),
            reserved: Reserved::nothing(),
            unsettled: 0,
            stuck: None,
            awaited: None,
            heard: now,
            batched: 0,
            accepted: (0, 0),
        }
    }

    /// Talks until one side ends it; then waits until everything that was taken is settled.
    pub(super) async fn run(mut self, mut shutdown: Shutdown) -> Ending {
        let ending = self.converse(&mut shutdown).await;
        tokio::select! {
            biased;
            () = self.leave(ending) => {}
            () = presence::patience(shutdown) => {}
        }
        ending
    }

    async fn converse(&mut self, shutdown: &mut Shutdown) -> Ending {
        let mut reading = None;
        let mut timer = Box::pin(sleep_until(self.timeout_at().into()));
        loop {
            // A reading that is not looked at must not stand in the queue for memory.
            reading = reading.filter(|_| self.may_read());
            if self.may_read() && reading.is_none() {
                reading = Some(self.reading());
            }
            let event = self.wait(&mut reading, timer.as_mut(), shutdown).await;
            let now = super::now();
            let ending = match event {
                Event::Readable(reserved) => {
                    reading = None;
                    self.read(now, reserved)
                }
                Event::Settled => self.settle(now),
                Event::Room => {
                    self.heard = now;
                    // What was read and could not be taken is not read again.
                    self.stage().or_else(|| self.go_on(now))
                }
                Event::Writable => None,
                Event::Timeout => self.handle_timeout(now),
                Event::SeatWanted => Some(Ending::TakenOver),
                Event::Shutdown => return self.stop().await,
            };
            if let Some(ending) = ending.or_else(|| self.flush().err().map(|_| Ending::Lost)) {
                return ending;
            }
            if let Some(opening) = self.opening.take()
                && let Some(ending) = self.open(&opening, shutdown).await
            {
                return ending;
            }
            self.look_what_is_awaited(now);
            // Mostly the time to end moves away, and then a timer that comes too early does no harm.
            let timeout_at = self.timeout_at().into();
            if timer.is_elapsed() || timeout_at < timer.deadline() {
                timer.as_mut().reset(timeout_at);
            }
        }
    }

    async fn wait(
        &mut self,
        reading: &mut Option<Reading>,
        timer: Pin<&mut Sleep>,
        shutdown: &mut Shutdown,
    ) -> Event {
        let may_read = self.may_read();
        let settled = self
            .session
            .waits_for()
            .map(|(lane, ticket)| self.intake.wait(Receipt { lane, ticket }));
        let room = self.stuck.map(|(lane, _)| self.intake.room(lane));
        // What comes seldom is asked for first, and bytes, which may come without an end, last.
        tokio::select! {
            biased;
            () = shutdown.requested() => Event::Shutdown,
            () = wanted(&mut self.seat) => Event::SeatWanted,
            () = optional(settled) => Event::Settled,
            () = optional(room) => Event::Room,
            () = timer => Event::Timeout,
            ready = self.stream.writable(), if !self.out.is_empty() || self.stream.holds_back() => {
                // An error shows again when it is written.
                drop(ready);
                Event::Writable
            }
            reserved = optional(reading.as_mut()), if may_read => Event::Readable(reserved),
        }
    }

    fn may_read(&self) -> bool {
        self.stuck.is_none() && self.session.has_room() && self.out.len() < OUT_BYTES_MAX
    }

    fn reading(&self) -> Reading {
        let (stream, budget) = (
            Arc::clone(&self.stream),
            self.listener.ingest.budget().clone(),
        );
        Box::pin(async move {
            // An error shows again when it is read.
            drop(stream.readable().await);
            // With little memory left, packets that are small are still read.
            budget.reserve(READ_BYTES_MIN, CHUNK_BYTES).await
        })
    }

    /// Room for what is held and a good piece more.
    fn buffer_bytes(&self) -> usize {
        CHUNK_BYTES.max(self.held.len() + READ_BYTES_MIN)
    }

    fn read(&mut self, now: Instant, reserved: Reserved) -> Option<Ending> {
        if self.held.len() + READ_BYTES_MIN < self.needed {
            self.read_on(now, reserved)
        } else {
            self.read_chunk(now, reserved)
        }
    }

    /// More of a large packet, which is looked at again when it is whole: it may come in a thousand pieces.
    fn read_on(&mut self, now: Instant, reserved: Reserved) -> Option<Ending> {
        let held = self.held.len();
        let room = (self.needed - held).min(reserved.bytes()).min(CHUNK_BYTES);
        self.reserved.add(reserved);
        self.held.resize(held + room, 0);
        let read = self.stream.try_read(&mut self.held[held..]);
        self.held
            .truncate(held + read.as_ref().map_or(0, |count| *count));
        let ending = match read {
            Ok(1..) => {
                self.heard = now;
                (self.held.len() >= self.needed)
                    .then(|| self.go_on(now))
                    .flatten()
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Ok(0) | Err(_) => Some(Ending::Lost),
        };
        self.reserved.keep(self.unsettled + self.held.len());
        ending
    }

    fn read_chunk(&mut self, now: Instant, reserved: Reserved) -> Option<Ending> {
        let mut buffer = self.listener.buffer(self.buffer_bytes());
        let held = self.held.len();
        let end = buffer.len().min(held + reserved.bytes());
        self.reserved.add(reserved);
        buffer[..held].copy_from_slice(&self.held);
        let ending = match self.stream.try_read(&mut buffer[held..end]) {
            Ok(0) => Some(Ending::Lost),
            Ok(count) => {
                self.heard = now;
                self.held.clear();
                self.understand(now, &buffer[..held + count])
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some(Ending::Lost),
        };
        self.listener.put_back(buffer);
        self.reserved.keep(self.unsettled + self.held.len());
        ending
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        self.stream.try_flush()?;
        if self.out.capacity() > OUT_BYTES_MAX {
            self.out.shrink_to(OUT_BYTES_MAX);
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) -> Option<Ending> {
        if let Some(ending) = self
            .session
            .handle_timeout(now, self.may_read(), &mut self.out)
        {
            return Some(ending);
        }
        // A log that is full refuses; version 5 has a word for it, 3.1.1 only waits.
        if self.is_refused(now) {
            return Some(self.session.over(Ending::Quota, &mut self.out));
        }
        // Half a packet holds memory for others; who does not get on with it, or cannot, gives it back.
        let stalls = !self.held.is_empty() && self.may_read() && now >= self.heard + PACKET_TIMEOUT;
        stalls.then(|| self.session.over(Ending::Quota, &mut self.out))
    }

    fn look_what_is_awaited(&mut self, now: Instant) {
        let waits_for = self.session.waits_for();
        if self.awaited.map(|(awaited, _)| awaited) != waits_for {
            self.awaited = waits_for.map(|awaited| (awaited, now));
        }
    }

    /// What was staged waits for room, or did not even find room to be staged. A disk that is slow is no reason.
    fn is_refused(&mut self, now: Instant) -> bool {
        if self.session.version() != Some(Version::V5) {
            return false;
        }
        let is_long = |since: Instant| now >= since + REFUSE_AFTER;
        match (self.stuck, &mut self.awaited) {
            (Some((_, since)), _) => is_long(since),
            (None, Some(((lane, _), since))) if is_long(*since) => {
                let is_full = self.intake.is_full(*lane);
                // Asked again after as long a while.
                *since = now;
                is_full
            }
            _ => false,
        }
    }

    fn timeout_at(&self) -> Instant {
        let mut session = self.session.next_timeout();
        let awaited = self.awaited.map(|(_, since)| since);
        let waits_since = self.stuck.map(|(_, since)| since).or(awaited);
        if let (Some(since), Some(Version::V5)) = (waits_since, self.session.version()) {
            session = session.min(since + REFUSE_AFTER);
        }
        let stalls = !self.held.is_empty() && self.may_read();
        if stalls {
            session.min(self.heard + PACKET_TIMEOUT)
        } else {
            session
        }
    }
}

/// Never resolves if there is nothing to wait for.
async fn optional<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn wanted(seat: &mut Option<Seat>) {
    match seat {
        Some(seat) => seat.wanted().await,
        None => std::future::pending().await,
    }
}

/// What one read takes at most: some hundred small publishes.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// A read for less than this is not worth its system call.
const READ_BYTES_MIN: usize = 4096;

/// With this much unsent the client does not read its PUBACKs, and is not read from.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// A version 5 client whose messages find no room for this long is told so with 0x97; it keeps them and comes back.
const REFUSE_AFTER: Duration = Duration::from_secs(20);

/// Who does not get on with half a packet for this long is closed.
const PACKET_TIMEOUT: Duration = Duration::from_secs(30);
