//! The conversation with one gateway: core's receiver on one side, a socket and mirrors on the other.
//!
//! Frames that arrive wait beside their mirror. While one commit is under way the next one collects, so the slower the disk, the larger
//! the commits: one sync and one Ack for all that came since the last.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use sedge_core::custody::message::{Code, Hello, Verdict, feature};
use sedge_core::custody::{
    Framing, Now, Received, Receiver, ReceiverEvent, ReceiverSettings, ReceiverSlot,
};
use sedge_core::frame::{Form, Label, emit_gap};
use sedge_core::{Gap, Offset};
use sedge_store::{AppendError, MirrorOptions, Name, world};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::guard::{Caller, Grant};
use super::quarrel::Claim;
use super::registry::{Admitted, Named, Offer, Refusal};
use super::seats::{Replaced, Seat};
use super::{Ended, Farewell, Shared, broken};
use crate::forward::unix_us;
use crate::packed::unpack;
use crate::stream::{Incoming, Stream, Turn};
use crate::trust::register::Denied;
use crate::wire::{self, LogReport, bye, kind};

/// A running conversation.
struct Session {
    shared: Arc<Shared>,
    stream: Stream,
    receiver: Receiver<Vec<ReceiverSlot>>,
    /// Who is at the other end.
    caller: Caller,
    /// What it may write.
    grant: Option<Grant>,
    gateway: Option<Name>,
    /// All logs that the gateway has offered.
    named: Vec<Named>,
    seat: Option<Seat>,
    /// Its part of what all gateways may have on their way.
    share: Option<Arc<()>>,
    slots: Vec<Option<Slot>>,
    commits: JoinSet<Committed>,
    began: Instant,
    peer: SocketAddr,
    body: Vec<u8>,
}

/// A log of this session.
struct Slot {
    admitted: Admitted,
    stream: String,
    /// Frames that wait for the next commit.
    waiting: BytesMut,
    /// Where they end.
    waiting_to: Offset,
    /// Bytes of the commit that is under way.
    committing: usize,
}

/// What became of a commit.
struct Committed {
    slot: u16,
    /// What was to be committed; given back when there was no room.
    frames: BytesMut,
    from: Offset,
    outcome: Result<Offset, AppendError>,
}

/// Why the conversation is over.
enum Over {
    /// The machine ended it; what it has to say is to be sent.
    Said,
    /// The connection is gone.
    Gone,
    /// The peer broke a rule.
    Broke(u16, String),
    /// A newer connection of this gateway has taken its seat.
    Replaced(Replaced),
}

/// Serves the gateway that said `first`, a Hello.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    mut stream: Stream,
    first: Incoming,
    peer: SocketAddr,
    caller: Caller,
) -> Ended {
    // Whoever has not said a name that is known gets no room for large messages.
    if shared.guard.is_none() {
        stream.allow(wire::MESSAGE_BYTES_MAX);
    }
    let began = Instant::now();
    let settings = ReceiverSettings {
        boot: std::process::id().into(),
        framing: Framing::Stream,
        body_bytes_max: wire::MESSAGE_BYTES_MAX - 1,
        credit: shared.options.credit_bytes,
        idle_timeout_us: IDLE_TIMEOUT.as_micros() as u64,
        features: feature::PACKED | feature::REPORT,
    };
    let mut session = Session {
        shared: Arc::clone(shared),
        stream,
        receiver: Receiver::new(settings, Vec::new(), now(began)),
        caller,
        grant: None,
        gateway: None,
        named: Vec::new(),
        seat: None,
        share: None,
        slots: Vec::new(),
        commits: JoinSet::new(),
        began,
        peer,
        body: vec![0; BODY_BYTES],
    };
    let over = match session.message(first).await {
        Ok(()) => session.run().await,
        Err(over) => over,
    };
    session.end(over).await
}

impl Session {
    async fn run(&mut self) -> Over {
        loop {
            if let Err(over) = self.work().await {
                return over;
            }
            if let Err(over) = self.wait().await {
                return over;
            }
        }
    }

    /// Everything that can be done without waiting for the peer.
    async fn work(&mut self) -> Result<(), Over> {
        for at in 0..self.slots.len() {
            self.commit(at);
        }
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Closed { slot, end } => self.complete(slot, end).await?,
                ReceiverEvent::Ended { .. } => return Err(Over::Said),
            }
        }
        self.say();
        Ok(())
    }

    /// Until there is something to do.
    async fn wait(&mut self) -> Result<(), Over> {
        let now_us = self.now().uptime_us;
        let due = self.receiver.next_timeout().map_or(IDLE_TIMEOUT, |at| {
            Duration::from_micros(at.saturating_sub(now_us))
        });
        let timer = Instant::now() + due;
        let shared = Arc::clone(&self.shared);
        // Bytes may move without an end: what comes seldom is asked for first.
        tokio::select! {
            biased;
            Some(committed) = self.commits.join_next() => match committed {
                Ok(committed) => self.committed(committed),
                Err(_) => Err(Over::Gone),
            },
            replaced = lost(&mut self.seat) => {
                self.shared.counters.replaced();
                Err(Over::Replaced(replaced))
            }
            changed = changed(&mut self.grant) => match changed {
                Ok(()) => {
                    self.drop_what_is_not_granted();
                    Ok(())
                }
                Err(denied) => Err(Over::Broke(bye::NOT_ALLOWED, denied.0)),
            },
            () = shared.stopped() => {
                self.receiver.leave(Code::SHUTTING_DOWN, "the hub is being stopped");
                Err(Over::Said)
            }
            turn = self.stream.turn() => match turn {
                Ok(turn) => {
                    let heard = self.stream.heard().saturating_duration_since(self.began);
                    self.receiver.handle_part(heard.as_micros() as u64);
                    match turn {
                        Turn::Received(message) => self.message(message).await,
                        Turn::Sent => Ok(()),
                    }
                }
                Err(e) => Err(e.bye().map_or(Over::Gone, |code| Over::Broke(code, e.to_string()))),
            },
            () = tokio::time::sleep_until(timer) => {
                let now = self.now();
                self.receiver.handle_timeout(now);
                if self.stream.is_overdue(MESSAGE_PATIENCE) {
                    return Err(Over::Broke(bye::BUSY, "a message was begun and not ended".into()));
                }
                Ok(())
            }
        }
    }

    async fn message(&mut self, Incoming { kind, body }: Incoming) -> Result<(), Over> {
        let now = self.now();
        let (kind, body) = match kind {
            // Who has not said who it is has nothing unpacked.
            kind::PACKED if self.gateway.is_none() => return Ok(()),
            kind::PACKED => match unpack(&body) {
                Some(body) => (kind::DATA, body),
                None => {
                    let what = "a packed message that cannot be unpacked";
                    return Err(Over::Broke(bye::MALFORMED, what.into()));
                }
            },
            kind::REPORT => return self.reported(&body),
            kind => (kind, body),
        };
        match self.receiver.handle_message(now, kind, &body) {
            Received::Nothing => Ok(()),
            Received::Hello(hello) => self.hello(&hello).await,
            Received::Offer(offer) => self.offer(&offer).await,
            Received::Store(store) if self.is_beyond(store.slot, store.next) => self.beyond(),
            Received::Gap(gap) if self.is_beyond(gap.slot, gap.gap.to) => self.beyond(),
            Received::Store(store) => {
                self.collect(store.slot, store.next, |waiting, _| {
                    waiting.extend_from_slice(store.frames)
                });
                self.within_credit()
            }
            Received::Gap(gap) => {
                self.collect(gap.slot, gap.gap.to, |waiting, admitted| {
                    gap_frame(waiting, admitted, &gap.gap)
                });
                Ok(())
            }
        }
    }

    /// The gateway tells how it is. Who has not said its name is not heard.
    fn reported(&self, body: &[u8]) -> Result<(), Over> {
        let Some(gateway) = &self.gateway else {
            return Ok(());
        };
        let report = wire::parse_report(body)
            .map_err(|_| Over::Broke(bye::MALFORMED, "a report that does not parse".into()))?;
        let slot_of = |log: &LogReport| self.slots.get(usize::from(log.slot))?.as_ref();
        let taken = |log: &LogReport| Some((log.clone(), slot_of(log)?.admitted.clone()));
        let logs = report.logs.iter().filter_map(taken).collect();
        self.shared
            .fleet
            .reported(gateway.as_str(), unix_us(), report, logs);
        Ok(())
    }

    /// A session begins: every log gets its place, and the gateway is told where to go on.
    async fn hello(&mut self, hello: &Hello<'_>) -> Result<(), Over> {
        self.settle().await?;
        let Ok(gateway) = Name::new(hello.intro.identity) else {
            self.receiver.leave(
                Code::IDENTITY,
                "a gateway's name has 1 to 64 of a-z, 0-9, '.', '_' and '-'",
            );
            return Ok(());
        };
        if let Some(why) = hello.logs.iter().find_map(|offer| too_large(&offer)) {
            self.receiver.leave(Code::TOO_LARGE, why);
            return Ok(());
        }
        match self.shared.admit_gateway(&self.caller, &gateway) {
            Ok(grant) => {
                let (shared, grant) = (Arc::clone(&self.shared), grant);
                let settled = world::blocking(move || {
                    grant.settle_certificate(&shared);
                    grant
                });
                self.grant = Some(settled.await.map_err(|_| Over::Gone)?);
            }
            Err(denied) => return Err(Over::Broke(bye::NOT_ALLOWED, denied.0)),
        }
        self.stream.allow(wire::MESSAGE_BYTES_MAX);
        self.sit_down(&gateway, hello.intro.generation).await?;
        let logs: Vec<_> = hello.logs.iter().collect();
        self.named = logs.iter().map(named).collect();
        self.slots.clear();
        let offers = logs.iter().map(offer_of).collect();
        // Of a log that may still be named nobody can say that it is gone.
        let names_all = hello.intro.features & feature::MORE_FOLLOW == 0;
        let answers = self.admit(gateway.clone(), offers, names_all).await?;
        tracing::info!(%gateway, peer = %self.peer, logs = logs.len(), "gateway connected");
        for (offer, answer) in logs.iter().zip(answers) {
            self.answer(offer, answer);
        }
        self.share = Some(Arc::clone(&self.shared.share));
        self.receiver.set_credit(self.shared.credit());
        self.receiver.welcome();
        self.gateway = Some(gateway);
        Ok(())
    }

    async fn offer(&mut self, offer: &sedge_core::custody::message::Offer<'_>) -> Result<(), Over> {
        let Some(gateway) = self.gateway.clone() else {
            return Ok(());
        };
        if let Some(why) = too_large(offer) {
            self.receiver.leave(Code::TOO_LARGE, why);
            return Ok(());
        }
        // A log may end where this one begins: what has come of it is to be there then.
        self.commit_all().await?;
        // One that is offered again keeps its place.
        if !self.named.iter().any(|named| named.log == offer.log) {
            self.named.push(named(offer));
        }
        let answers = self.admit(gateway, vec![offer_of(offer)], false).await?;
        for answer in answers {
            self.answer(offer, answer);
        }
        Ok(())
    }

    /// Takes the gateway's seat; the connection that has it ends first.
    async fn sit_down(&mut self, gateway: &Name, generation: u64) -> Result<(), Over> {
        if self.gateway.as_ref() == Some(gateway) {
            return Ok(());
        }
        self.seat = None;
        let claim = Claim {
            peer: self.peer,
            generation,
        };
        let taking = self
            .shared
            .seats
            .take(gateway.as_str(), claim, Instant::now());
        self.seat = Some(taking.await.map_err(Over::Replaced)?);
        Ok(())
    }

    async fn admit(
        &self,
        gateway: Name,
        offers: Vec<Offer>,
        all: bool,
    ) -> Result<Vec<Result<Admitted, Refusal>>, Over> {
        let shared = Arc::clone(&self.shared);
        let named = self.named.clone();
        let taken = self.slots.iter().flatten();
        let taken: Vec<_> = taken.map(|s| s.admitted.member.log_id()).collect();
        let mut untaken = named.clone();
        untaken.retain(|named| !taken.contains(&named.log));
        let streams = self.grant.as_ref().map(Grant::streams);
        let piece = shared.underway.begin();
        let admitting = world::blocking(move || {
            let _piece = piece;
            let admit = |o: &Offer| {
                if streams.as_ref().is_some_and(|s| !s.has(&o.stream)) {
                    return Err(Refusal {
                        code: Code::NOT_ALLOWED,
                        reason: NOT_GRANTED,
                    });
                }
                let admitted = shared
                    .registry
                    .admit(&shared.catalog, &gateway, o, &untaken);
                if admitted.is_ok() {
                    untaken.retain(|named| named.log != o.log);
                }
                admitted
            };
            let answers: Vec<_> = offers.iter().map(admit).collect();
            let admitted: Vec<_> = answers
                .iter()
                .filter_map(|a| a.as_ref().ok().cloned())
                .collect();
            if all && let Err(e) = shared.registry.seal_forsaken(&gateway, &admitted, &named) {
                tracing::error!(%gateway, error = %e, "a log that is gone cannot be sealed");
            }
            answers
        });
        admitting.await.map_err(|_| Over::Gone)
    }

    fn answer(
        &mut self,
        offer: &sedge_core::custody::message::Offer<'_>,
        answer: Result<Admitted, Refusal>,
    ) {
        let at = usize::from(offer.slot);
        let slots = self.receiver.slots_mut();
        slots.resize_with(slots.len().max(at + 1), ReceiverSlot::default);
        self.slots
            .resize_with(self.slots.len().max(at + 1), || None);
        match answer {
            Ok(admitted) => {
                self.receiver.answer(offer, admitted.verdict);
                self.slots[at] = Some(Slot {
                    admitted,
                    stream: offer.stream.into(),
                    waiting: BytesMut::new(),
                    waiting_to: Offset::ZERO,
                    committing: 0,
                });
            }
            Err(Refusal { code, reason }) => {
                self.receiver
                    .answer(offer, Verdict::Refused { code, reason });
                self.slots[at] = None;
            }
        }
    }

    /// Logs of streams that the register no longer lets the gateway write are taken no further. What was committed stays.
    fn drop_what_is_not_granted(&mut self) {
        let Some(streams) = self.grant.as_ref().map(Grant::streams) else {
            return;
        };
        for (slot, number) in self.slots.iter_mut().zip(0_u16..) {
            let taken = slot.as_ref().map(|s| s.stream.as_str());
            if taken.is_some_and(|stream| !streams.has(stream)) {
                self.receiver.refuse(number, Code::NOT_ALLOWED, NOT_GRANTED);
                *slot = None;
            }
        }
    }

    /// Offsets that nobody could count with, or a log has an end, and there is more: what stands behind it in the chain would be overwritten.
    fn is_beyond(&self, slot: u16, next: Offset) -> bool {
        let slot = self.slots.get(usize::from(slot)).and_then(Option::as_ref);
        let Some(link) = slot.map(|s| s.admitted.member.link()) else {
            return false;
        };
        let is_too_far = link.shift.saturating_add(next.get()) > OFFSETS_MAX;
        is_too_far || link.end.is_some_and(|end| next.get() > end)
    }

    fn beyond(&mut self) -> Result<(), Over> {
        Err(Over::Broke(
            bye::MALFORMED,
            "frames beyond the end of a closed log, or of all offsets".into(),
        ))
    }

    /// New frames of a log wait for its next commit.
    fn collect(&mut self, slot: u16, to: Offset, put: impl FnOnce(&mut BytesMut, &Admitted)) {
        if let Some(Some(slot)) = self.slots.get_mut(usize::from(slot)) {
            put(&mut slot.waiting, &slot.admitted);
            slot.waiting_to = to;
        }
    }

    /// Who keeps the rules has no more on its way than its credit, or one message.
    fn within_credit(&self) -> Result<(), Over> {
        let slots = self.slots.iter().flatten();
        let held: usize = slots.map(|s| s.waiting.len() + s.committing).sum();
        if held <= self.shared.options.credit_bytes as usize + wire::MESSAGE_BYTES_MAX {
            return Ok(());
        }
        Err(Over::Broke(
            bye::MALFORMED,
            "more was sent than there was credit for".into(),
        ))
    }

    /// Starts a commit of what waits, unless one is under way.
    fn commit(&mut self, at: usize) {
        let Some(slot) = &mut self.slots[at] else {
            return;
        };
        if slot.waiting.is_empty() || slot.committing > 0 {
            return;
        }
        slot.committing = slot.waiting.len();
        let (frames, to) = (std::mem::take(&mut slot.waiting), slot.waiting_to);
        let member = Arc::clone(&slot.admitted.member);
        // The directory stays ours until the last write to it has ended, whatever becomes of this task.
        let shared = Arc::clone(&self.shared);
        let piece = shared.underway.begin();
        world::blocking_in(&mut self.commits, move || {
            let from = member.mirror.next();
            let outcome = member.append(&frames, to);
            drop((shared, piece));
            Committed {
                slot: at as u16,
                frames,
                from,
                outcome,
            }
        });
    }

    fn committed(&mut self, committed: Committed) -> Result<(), Over> {
        let Committed {
            slot: number,
            mut frames,
            from,
            outcome,
        } = committed;
        let Some(Some(slot)) = self.slots.get_mut(usize::from(number)) else {
            return Ok(());
        };
        slot.committing = 0;
        match outcome {
            Ok(next) => {
                self.shared.counters.stored(frames.len(), next.since(from));
                self.receiver.set_credit(self.shared.credit());
                self.receiver.stored(number, next);
                self.shared.registry.progressed();
                if slot.waiting.is_empty() && frames.capacity() <= KEPT_BYTES_MAX {
                    frames.clear();
                    slot.waiting = frames;
                }
                Ok(())
            }
            Err(AppendError::Full) => {
                self.refuse_for_want_of_room(number);
                Ok(())
            }
            Err(AppendError::TooLarge { bytes, bytes_max }) => {
                self.refuse_too_large(number, bytes, bytes_max);
                Ok(())
            }
            Err(e @ (AppendError::Io(_) | AppendError::Failed)) => {
                self.shared.fail(&slot.admitted.member, &e);
                Err(Over::Gone)
            }
            Err(e) => {
                tracing::error!(log = %slot.admitted.member.log_id(), error = %e, "frames were not taken");
                Err(Over::Broke(bye::INTERNAL, e.to_string()))
            }
        }
    }

    /// Its bytes are not to hold up the gateway's other logs; it is offered again after a while.
    fn refuse_for_want_of_room(&mut self, number: u16) {
        let Some(slot) = self.slots[usize::from(number)].take() else {
            return;
        };
        let data_dir = self.shared.options.data_dir.display();
        tracing::warn!(log = %slot.admitted.member.log_id(), %data_dir, "{MIRROR_FULL}");
        self.shared.counters.full();
        self.receiver.refuse(number, Code::DISK_FULL, MIRROR_FULL);
    }

    /// What stands before the large frame is taken. The gateway's other logs go on.
    fn refuse_too_large(&mut self, number: u16, frame_bytes: usize, frame_bytes_max: usize) {
        let Some(slot) = self.slots[usize::from(number)].take() else {
            return;
        };
        let (member, stream) = (&slot.admitted.member, &slot.stream);
        let capacity = MirrorOptions::capacity_for(frame_bytes);
        let configured = self.shared.options.stream(stream).capacity;
        tracing::warn!(log = %member.log_id(), %stream, frame_bytes, frame_bytes_max, capacity_needed = capacity, capacity = configured, "{FRAME_TOO_LARGE}");
        member.outgrown_by(frame_bytes);
        self.shared.registry.progressed();
        self.receiver
            .refuse(number, Code::TOO_LARGE, FRAME_TOO_LARGE);
    }

    /// A closed log is here to its end.
    async fn complete(&mut self, slot: u16, end: Offset) -> Result<(), Over> {
        let Some(Some(at)) = self.slots.get(usize::from(slot)) else {
            return Ok(());
        };
        let (shared, member) = (Arc::clone(&self.shared), Arc::clone(&at.admitted.member));
        let piece = shared.underway.begin();
        let completed = Arc::clone(&member);
        let completing = world::blocking(move || {
            let _piece = piece;
            shared.registry.complete(&completed, end)
        });
        match completing.await {
            Ok(Ok(())) => {
                self.receiver.stored(slot, end);
                Ok(())
            }
            Ok(Err(e)) if e.kind() == ErrorKind::StorageFull => {
                self.refuse_for_want_of_room(slot);
                Ok(())
            }
            Ok(Err(e)) => {
                self.shared.fail(&member, &e);
                Err(Over::Gone)
            }
            Err(_) => Err(Over::Gone),
        }
    }

    /// Waits until no commit is under way, so that what is said to be durable is all there is. One that has gone wrong is no reason to leave the others to themselves.
    async fn settle(&mut self) -> Result<(), Over> {
        let mut settled = Ok(());
        while let Some(committed) = self.commits.join_next().await {
            let outcome = match committed {
                Ok(committed) => self.committed(committed),
                Err(_) => Err(Over::Gone),
            };
            settled = settled.and(outcome);
        }
        settled
    }

    /// Commits all that waits.
    async fn commit_all(&mut self) -> Result<(), Over> {
        self.settle().await?;
        (0..self.slots.len()).for_each(|at| self.commit(at));
        self.settle().await
    }

    fn say(&mut self) {
        let now = self.now();
        while let Some(sent) = self.receiver.poll_transmit(now, &mut self.body) {
            wire::emit_raw(
                &mut self.stream.outgoing,
                sent.kind,
                &[&self.body[..sent.len]],
            );
        }
    }

    /// What is being committed is committed before the seat is given up.
    async fn end(mut self, over: Over) -> Ended {
        let settled = self.settle().await;
        if let Some(gateway) = &self.gateway {
            self.shared.fleet.left(gateway.as_str(), unix_us());
            tracing::info!(%gateway, peer = %self.peer, settled = settled.is_ok(), "gateway disconnected");
        }
        match over {
            Over::Gone => Ok(()),
            Over::Broke(code, reason) => Err(Farewell::new(self.stream, code, reason)),
            Over::Replaced(replaced) => {
                // What was committed last is acknowledged first.
                self.say();
                self.stream.end(bye::REPLACED, &replaced.to_string()).await;
                Ok(())
            }
            Over::Said => {
                self.say();
                match tokio::time::timeout(FAREWELL, self.stream.flush()).await {
                    Ok(Err(e)) => broken(self.stream, &e.into()),
                    _ => Ok(()),
                }
            }
        }
    }

    fn now(&self) -> Now {
        now(self.began)
    }
}

/// When the register has changed, or the grant is taken back; without one, never.
async fn changed(grant: &mut Option<Grant>) -> Result<(), Denied> {
    match grant {
        Some(grant) => grant.changed().await,
        None => std::future::pending().await,
    }
}

/// When the seat is lost; without one, never.
async fn lost(seat: &mut Option<Seat>) -> Replaced {
    match seat {
        Some(seat) => seat.lost().await,
        None => std::future::pending().await,
    }
}

fn named(offer: &sedge_core::custody::message::Offer<'_>) -> Named {
    Named {
        log: offer.log,
        stream: offer.stream.into(),
        partition: offer.partition,
    }
}

fn offer_of(offer: &sedge_core::custody::message::Offer<'_>) -> Offer {
    Offer {
        log: offer.log,
        stream: offer.stream.into(),
        partition: offer.partition,
        oldest: offer.oldest,
        next: offer.next,
        tail_crc: offer.tail_crc,
        closed: offer.closed,
    }
}

/// Why a log is larger than any that is taken, if it is.
fn too_large(offer: &sedge_core::custody::message::Offer<'_>) -> Option<&'static str> {
    if usize::from(offer.slot) >= LOGS_MAX {
        return Some("too many logs");
    }
    let furthest = offer.next.max(offer.oldest).get();
    (furthest > OFFSETS_MAX).then_some("a log has offsets up to 2^53")
}

/// A gap that was told becomes a frame among the frames.
fn gap_frame(into: &mut BytesMut, admitted: &Admitted, gap: &Gap) {
    let mut frame = [0; 128];
    let label = Label {
        form: Form::Explicit,
        first: gap.from,
        time: gap.when,
        first_of_commit: false,
    };
    let len = emit_gap(&mut frame, &admitted.member.log_id(), label, gap)
        .expect("a gap frame has less than 128 bytes");
    into.extend_from_slice(&frame[..len]);
}

fn now(began: Instant) -> Now {
    Now {
        uptime_us: began.elapsed().as_micros() as u64,
        unix_us: Some(unix_us()),
        trusted: false,
    }
}

/// Silence that ends a conversation.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const MESSAGE_PATIENCE: Duration = Duration::from_secs(30);
/// By its capacity or `disk_max`, if it may not evict; else for want of room on the disk, while it has too few segments to do without one.
const MIRROR_FULL: &str =
    "a mirror is full: no room for another segment, and nothing in it may be evicted";
/// Seen again each time the log is offered.
const FRAME_TOO_LARGE: &str =
    "a frame is larger than its mirror takes: raise `capacity` of its [[hub.stream]] in hub.toml";
const NOT_GRANTED: &str = "this stream is not among those that the gateway may write";
const FAREWELL: Duration = Duration::from_secs(1);
/// One past the last offset, shifted: so many every reader of JSON can hold, and sums of them.
const OFFSETS_MAX: u64 = 1 << 53;
/// Logs of one gateway.
const LOGS_MAX: usize = 4_096;
/// Answers that do not fit into the Welcome follow one by one.
const BODY_BYTES: usize = 16 * 1024;
/// A log at rest keeps no more than this.
const KEPT_BYTES_MAX: usize = 64 * 1024;
