//! One connection: moves bytes between a socket, the [`Session`] and the [`Intake`], and waits for whatever comes first.
//!
//! ```text
//! socket → buffer → wire::step → Session → Intake batch → stage ─ commit ─ settled → Session → PUBACKs → socket
//! ```
//! A socket is read only when there is room: in the memory budget, in the client's in-flight window, in its lane.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sedge_store::StageError;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until, timeout};

use crate::dead_letter::{DeadLetter, Reason, Remains};
use crate::ingest::{Intake, Receipt, Reserved};
use crate::owner::{self, Item, SessionId};
use crate::route::Subject;
use crate::shutdown::Shutdown;

use super::Listener;
use super::answer::Refusal;
use super::seats::Seat;
use super::session::{Action, Ending, Opening, Session};
use super::wire::{self, Publish, Step, Version};

/// A connection from its acceptance to its end.
pub(super) struct Connection {
    stream: Arc<TcpStream>,
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
    /// When bytes came last.
    heard: Instant,
    /// Bytes in batches that are not staged.
    batched: usize,
    accepted: (u64, u64),
}

/// A publish that is too large, on its way to the dead letters without being kept.
struct Skim {
    packet: u16,
    topic: String,
    remains: Remains,
    left: usize,
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
    pub(super) fn new(stream: TcpStream, listener: Arc<Listener>, now: Instant) -> Self {
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
            heard: now,
            batched: 0,
            accepted: (0, 0),
        }
    }

    /// Talks until one side ends it; then waits until everything that was taken is settled.
    pub(super) async fn run(mut self, mut shutdown: Shutdown) -> Ending {
        let ending = self.converse(&mut shutdown).await;
        self.leave(ending).await;
        ending
    }

    async fn converse(&mut self, shutdown: &mut Shutdown) -> Ending {
        let mut reading = None;
        let mut timer = Box::pin(sleep_until(self.timeout_at().into()));
        loop {
            if self.may_read() && reading.is_none() {
                reading = Some(self.reading());
            }
            let event = self.wait(&mut reading, timer.as_mut(), shutdown).await;
            let now = Instant::now();
            let ending = match event {
                Event::Readable(reserved) => {
                    reading = None;
                    self.read(now, reserved)
                }
                Event::Settled => self.settle(now),
                Event::Room => {
                    self.heard = now;
                    self.stage()
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
        tokio::select! {
            () = optional(settled) => Event::Settled,
            reserved = optional(reading.as_mut()), if may_read => Event::Readable(reserved),
            () = optional(room) => Event::Room,
            ready = self.stream.writable(), if !self.out.is_empty() => {
                // An error shows again when it is written.
                drop(ready);
                Event::Writable
            }
            () = wanted(&mut self.seat) => Event::SeatWanted,
            () = timer => Event::Timeout,
            () = shutdown.requested() => Event::Shutdown,
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
        let bytes = self.buffer_bytes() - self.held.len();
        // With little memory left, packets that are small are still read.
        let bytes_min = READ_BYTES_MIN.max(self.needed.saturating_sub(self.held.len()));
        Box::pin(async move {
            // An error shows again when it is read.
            drop(stream.readable().await);
            budget.reserve(bytes_min, bytes).await
        })
    }

    /// Room for what is held and a good piece more.
    fn buffer_bytes(&self) -> usize {
        CHUNK_BYTES
            .max(self.needed)
            .max(self.held.len() + READ_BYTES_MIN)
    }

    fn read(&mut self, now: Instant, reserved: Reserved) -> Option<Ending> {
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

    /// Goes through the packets in `bytes`, stages what they brought and holds what remains.
    fn understand(&mut self, now: Instant, bytes: &[u8]) -> Option<Ending> {
        let unanswered = self.session.unanswered();
        let mut at = 0;
        let mut ending = None;
        self.needed = 0;
        while at < bytes.len() && ending.is_none() {
            at += self.skim(&bytes[at..]);
            if self.skim.is_some() || !self.session.listens() || !self.may_read() {
                break;
            }
            match wire::step(
                &bytes[at..],
                self.session.version(),
                self.packet_bytes_max(),
            ) {
                Ok(Step::Incomplete(needed)) => {
                    self.needed = needed;
                    break;
                }
                Ok(Step::Packet(packet, length)) => {
                    at += length;
                    ending = self.handle_packet(now, packet, length);
                }
                Ok(Step::Oversize { publish, head, end }) => {
                    at += head;
                    self.skim = Some(Skim::new(&publish, end - head));
                    ending = self.handle_packet(now, wire::Packet::Publish(publish), head);
                }
                Err(fault) => ending = Some(self.session.handle_fault(fault, &mut self.out)),
            }
            if self.batched >= BATCH_BYTES_WANTED {
                ending = ending.or_else(|| self.stage());
            }
        }
        self.held
            .extend_from_slice(bytes.get(at..).unwrap_or_default());
        if self.session.unanswered() > unanswered {
            self.session.heard(now);
        }
        ending.or_else(|| self.stage())
    }

    fn handle_packet(
        &mut self,
        now: Instant,
        packet: wire::Packet<'_>,
        length: usize,
    ) -> Option<Ending> {
        let action = self
            .session
            .handle_packet(now, packet, super::name_client, &mut self.out);
        match action {
            Action::Open(opening) => self.opening = Some(opening),
            Action::Take { publish, again } if self.skim.is_none() => {
                self.take(&publish, length, again);
            }
            Action::None | Action::Take { .. } => {}
            Action::End(ending) => return Some(ending),
        }
        None
    }

    /// Lets the payload of a publish that is too large pass by. Returns the bytes that were its.
    fn skim(&mut self, bytes: &[u8]) -> usize {
        let Some(skim) = &mut self.skim else { return 0 };
        let piece = &bytes[..bytes.len().min(skim.left)];
        skim.remains.add(piece);
        skim.left -= piece.len();
        if skim.left == 0
            && let Some(skim) = self.skim.take()
        {
            self.bury(skim.packet, &skim.topic, &skim.remains, &Reason::Oversize);
        }
        piece.len()
    }

    /// Takes a message that came in `length` bytes.
    fn take(&mut self, publish: &Publish<'_>, length: usize, again: bool) {
        let subject = Subject {
            topic: publish.topic,
            device: self.session.client(),
            payload: publish.payload,
        };
        let lane = match self.intake.lane_of(&subject) {
            Ok(_)
                if self
                    .intake
                    .is_oversize(publish.topic.len() + publish.payload.len()) =>
            {
                return self.bury_whole(publish, &Reason::Oversize);
            }
            Ok(lane) => lane,
            Err(e) => return self.bury_whole(publish, &Reason::BadKey(e)),
        };
        if again && let Some(index) = self.redelivered(lane, publish) {
            self.listener.telemetry.duplicates(1);
            return self.session.recognised(publish.packet, lane, index + 1);
        }
        let mut item = [0; owner::ITEM_BYTES_MAX];
        let (item, index_next) = self.item(lane, publish, &mut item);
        let headers = [("topic", publish.topic.as_bytes())];
        self.batched += self
            .intake
            .record(lane, None, &headers, publish.payload, item);
        self.accepted.0 += 1;
        self.accepted.1 += publish.payload.len() as u64;
        self.unsettled += length;
        self.session
            .taken(publish.packet, lane, length as u32, index_next, 0);
    }

    fn redelivered(&self, lane: u16, publish: &Publish<'_>) -> Option<u64> {
        let (id, _) = self.durable.as_ref()?;
        let hash = owner::content_hash(publish.topic.as_bytes(), publish.payload);
        self.intake.claims(lane).redelivered(
            id.number,
            publish.packet,
            hash,
            self.listener.limits.inflight_max,
        )
    }

    /// What stands beside the record of a publish, and one past its index in the session's table.
    fn item<'b>(
        &mut self,
        lane: u16,
        publish: &Publish<'_>,
        into: &'b mut [u8],
    ) -> (&'b [u8], u64) {
        let Some((id, counts)) = self.durable.as_mut().filter(|_| publish.packet != 0) else {
            return (&[], 0);
        };
        let count = &mut counts[usize::from(lane)];
        *count += 1;
        let (session, packet) = (id.number, publish.packet);
        let item = match publish.dup {
            true => Item::Republish { session, packet },
            false => Item::Publish { session, packet },
        };
        (item.encode(into), *count)
    }

    fn bury_whole(&mut self, publish: &Publish<'_>, reason: &Reason) {
        self.bury(
            publish.packet,
            publish.topic,
            &Remains::of(publish.payload),
            reason,
        );
    }

    /// A message that cannot be taken becomes a dead letter, and is answered when that is on disk.
    fn bury(&mut self, packet: u16, topic: &str, payload: &Remains, reason: &Reason) {
        let (source, device) = (&*self.listener.name, self.session.client());
        let letter = DeadLetter {
            reason,
            source,
            device,
            topic,
            payload,
        };
        let (lane, bytes) = self.intake.dead_letter(&letter);
        self.batched += bytes;
        self.listener.telemetry.dropped(reason.label(), 1);
        // Its payload is gone already, but for what the batch holds.
        self.session.taken(packet, lane, 0, 0, NOT_ACCEPTED);
    }

    fn stage(&mut self) -> Option<Ending> {
        self.intake.set_window_bound(self.session.is_window_bound());
        let stuck = self.stuck.take();
        for lane in self.intake.lanes() {
            match self.intake.stage(lane) {
                Ok(None) => {}
                Ok(Some(ticket)) => self.session.staged(lane, ticket),
                Err(StageError::Full) => {
                    let since = stuck.map_or_else(Instant::now, |(_, since)| since);
                    self.stuck = Some((lane, since));
                }
                Err(_) => return Some(self.session.over(Ending::LogClosed, &mut self.out)),
            }
        }
        self.batched = 0;
        let (events, bytes) = std::mem::take(&mut self.accepted);
        self.listener.telemetry.accepted(events, bytes);
        None
    }

    fn settle(&mut self, now: Instant) -> Option<Ending> {
        let had_room = self.session.has_room();
        let (intake, durable) = (&self.intake, &self.durable);
        let (count, freed) = self.session.settle(
            now,
            |lane| intake.settled(lane),
            |lane, next| {
                if let Some((id, _)) = durable {
                    intake.claims(lane).acknowledging(id.number, next);
                }
            },
            &mut self.out,
        );
        self.listener.telemetry.settled(count);
        self.unsettled -= freed;
        self.reserved.keep(self.unsettled + self.held.len());
        if had_room {
            return None;
        }
        self.heard = now;
        self.go_on(now)
    }

    /// Turns to packets that had to wait.
    fn go_on(&mut self, now: Instant) -> Option<Ending> {
        let held = std::mem::take(&mut self.held);
        self.understand(now, &held)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
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

    fn is_refused(&self, now: Instant) -> bool {
        let stuck = self
            .stuck
            .is_some_and(|(_, since)| now >= since + REFUSE_AFTER);
        stuck && self.session.version() == Some(Version::V5)
    }

    fn timeout_at(&self) -> Instant {
        let session = self.session.next_timeout();
        if let (Some((_, since)), Some(Version::V5)) = (self.stuck, self.session.version()) {
            return session.min(since + REFUSE_AFTER);
        }
        let stalls = !self.held.is_empty() && self.may_read();
        if stalls {
            session.min(self.heard + PACKET_TIMEOUT)
        } else {
            session
        }
    }

    fn packet_bytes_max(&self) -> usize {
        self.listener.limits.packet_bytes_max as usize
    }

    /// Brings the session about that a CONNECT asks for, and then turns to what came behind the CONNECT.
    async fn open(&mut self, opening: &Opening, shutdown: &mut Shutdown) -> Option<Ending> {
        let begun = tokio::select! {
            begun = timeout(OPEN_TIMEOUT, self.begin(opening)) => begun.unwrap_or(Err(Refusal::Busy)),
            () = shutdown.requested() => Err(Refusal::Busy),
        };
        let resumed = match begun {
            Ok(resumed) => resumed,
            Err(refusal) => return Some(self.session.refuse(refusal, &mut self.out)),
        };
        let now = Instant::now();
        self.session.opened(now, resumed, &mut self.out);
        tracing::debug!(
            source = self.listener.name,
            client = self.session.client(),
            resumed,
            "connected"
        );
        let ending = self.go_on(now);
        ending.or_else(|| self.flush().err().map(|_| Ending::Lost))
    }

    /// When this returns, the session is durable, and so is everything that an earlier connection of this client gave us.
    async fn begin(&mut self, opening: &Opening) -> Result<bool, Refusal> {
        self.seat = Some(
            self.listener
                .seats
                .take(&opening.client)
                .await
                .ok_or(Refusal::Busy)?,
        );
        let name = self.listener.session_name(&opening.client);
        let home = self.intake.claims(0).clone();
        let known = home.session(&name);
        if let (Some(id), false) = (known, opening.clean) {
            let counts = self
                .listener
                .lanes()
                .map(|lane| self.intake.claims(lane).publishes(id.number))
                .collect();
            self.durable = Some((id, counts));
            return Ok(true);
        }
        let begun = opening.lasting.then(|| home.draw_session(&name));
        if let Some(id) = known {
            self.listener.note(&mut self.intake, &name, id, true);
        }
        if let Some(id) = begun {
            self.listener.note(&mut self.intake, &name, id, false);
            self.durable = Some((id, self.listener.lanes().map(|_| 0).collect()));
        }
        let mut receipts = Vec::new();
        self.intake
            .stage_all(&mut receipts)
            .await
            .map_err(|_| Refusal::Busy)?;
        for receipt in receipts {
            self.intake.wait(receipt).await;
        }
        Ok(false)
    }

    /// The agent stops: what was taken is acknowledged, then the client is told.
    async fn stop(&mut self) -> Ending {
        self.settle_all(STOP_TIMEOUT).await;
        self.session.over(Ending::Stopping, &mut self.out)
    }

    /// Says good-bye, closes the socket and keeps the seat until everything that was taken is durable.
    async fn leave(&mut self, ending: Ending) {
        self.session.over(ending, &mut self.out);
        if ending != Ending::Lost {
            // Who does not listen to the reason will see the connection close.
            drop(timeout(GOODBYE_TIMEOUT, self.say_goodbye(ending)).await);
        }
        self.held = Vec::new();
        self.settle_all(Duration::MAX).await;
        self.end_session(ending).await;
    }

    async fn say_goodbye(&mut self, ending: Ending) -> io::Result<()> {
        while !self.out.is_empty() {
            self.stream.writable().await?;
            self.flush()?;
        }
        if let Some(stream) = Arc::get_mut(&mut self.stream) {
            stream.shutdown().await?;
        }
        if ending != Ending::Left {
            // Closing on unread bytes would tear the reason out of the client's hands.
            let mut rest = vec![0; 4096];
            for _ in 0..64 {
                self.stream.readable().await?;
                match self.stream.try_read(&mut rest) {
                    Ok(0) => break,
                    Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn settle_all(&mut self, limit: Duration) {
        let settle = async {
            while let Some((lane, ticket)) = self.session.waits_for() {
                self.intake.wait(Receipt { lane, ticket }).await;
                // Nothing is read any more, so nothing can end here.
                self.settle(Instant::now());
            }
        };
        // What is not settled in time is not acknowledged.
        drop(timeout(limit, settle).await);
    }

    /// A session that is not to last ends; any other one begins to wait for its client.
    async fn end_session(&mut self, ending: Ending) {
        let Some((id, _)) = self.durable.take() else {
            return;
        };
        let client = self.session.client().to_owned();
        if self.session.expiry_s() > 0 {
            let expiry = Duration::from_secs(self.session.expiry_s().into());
            return self
                .listener
                .seats
                .expect_back(&client, Instant::now(), expiry);
        }
        if ending == Ending::TakenOver {
            return;
        }
        self.listener.end(&mut self.intake, &client, id).await;
    }
}

impl Skim {
    fn new(publish: &Publish<'_>, left: usize) -> Self {
        Self {
            packet: publish.packet,
            topic: publish.topic.to_owned(),
            remains: Remains::default(),
            left,
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

/// What one read takes at most, unless a packet is larger: some hundred small publishes.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// A read for less than this is not worth its system call.
const READ_BYTES_MIN: usize = 4096;

/// With this much unsent the client does not read its PUBACKs, and is not read from.
const OUT_BYTES_MAX: usize = 64 * 1024;

/// The PUBACK reason code of version 5 for a dead letter: "implementation specific error", so it does not come again.
const NOT_ACCEPTED: u8 = 0x83;

const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// With this much in batches they are staged before more is read out of the buffer: less than a commit takes.
const BATCH_BYTES_WANTED: usize = 128 * 1024;

/// A version 5 client whose messages find no room for this long is told so with 0x97; it keeps them and comes back.
const REFUSE_AFTER: Duration = Duration::from_secs(20);

const PACKET_TIMEOUT: Duration = Duration::from_secs(30);
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);

/// SIGTERM leaves two seconds for everything.
const STOP_TIMEOUT: Duration = Duration::from_millis(1200);
