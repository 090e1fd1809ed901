//! The end that has the logs: offers them, sends from where the receiver says, goes back when it must, and learns what may be released.
//!
//! It keeps no frames and no names: the log is the retransmission buffer, and its driver is asked for both. It knows nothing of
//! sockets, files and clocks.

mod slot;

use super::liveness::Liveness;
use super::message::{
    self, Ack, Answer, Bye, Clock, Code, DATA_HEAD_LEN_MAX, Data, Intro, Message, Offer, Rewind,
    VERSION, Verdict, Welcome, kind,
};
use super::window::{Retransmit, TIMEOUT_US_MAX, TIMEOUT_US_MIN};
use super::{Framing, Now, Transmit};
use crate::planted::Fault;
use crate::{Gap, Micros, Offset};
pub use slot::SenderSlot;
use slot::{SlotState, Stop};

/// What a sender needs to know of itself.
#[derive(Clone, Copy, Debug)]
pub struct SenderSettings<I> {
    /// Its name, at most 64 bytes.
    pub identity: I,
    /// Names this start of the sender's program.
    pub boot: u64,
    /// Of the first session; each further one adds 1. Above all that this identity ever used, and never 0.
    pub generation: u64,
    /// What carries the messages.
    pub framing: Framing,
    /// Longest body that it may send: what the receiver's decoder holds.
    pub body_bytes_max: usize,
    /// Silence that ends a session.
    pub idle_timeout_us: u64,
}

/// One end of a conversation: the one with the logs.
///
/// `S` is the memory for the slots (an array, a `Vec`, a borrowed slice), `I` the identity.
#[derive(Debug)]
pub struct Sender<S, I> {
    settings: SenderSettings<I>,
    slots: S,
    phase: Phase,
    generation: u64,
    credit: u64,
    /// After a timeout: one Data at a time until something is acknowledged.
    probing: bool,
    retransmit: Retransmit,
    liveness: Liveness,
    bye: Option<(Code, &'static str)>,
    /// The receiver's clock and features.
    welcomed: Option<(Clock, u32)>,
    ended: Option<Code>,
    /// Where the next [`Want`] looks first.
    turn: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A Hello is to be said at this time; `attempt` were said before it.
    Greeting {
        at_us: u64,
        attempt: u8,
    },
    Live,
    /// A stream is over; a link never is.
    Ended,
}

/// What a sender's driver must hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderEvent {
    /// A session has begun; this is the receiver's clock.
    Welcomed {
        /// The receiver's clock.
        clock: Clock,
        /// What it understands beyond what every receiver does: [`message::feature`].
        features: u32,
    },
    /// The receiver stands at `next`: answer with [`Sender::checked`].
    Check {
        /// Which log.
        slot: u16,
        /// The offset in question.
        next: Offset,
    },
    /// Everything below `next` is in the receiver's custody. After a resume it may be lower than before.
    Released {
        /// Which log.
        slot: u16,
        /// One past the last released offset.
        next: Offset,
    },
    /// The receiver holds another history of this log. Nothing more is sent on this slot.
    Diverged {
        /// Which log.
        slot: u16,
    },
    /// The receiver does not take this log in this session.
    Refused {
        /// Which log.
        slot: u16,
        /// Why.
        code: Code,
    },
    /// The receiver has all of a closed log.
    Closed {
        /// Which log.
        slot: u16,
    },
    /// The session is over. A stream is to be closed; a link greets again by itself.
    Ended {
        /// Why.
        code: Code,
    },
}

/// Frames that the sender would send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Of which log.
    pub slot: u16,
    /// From where.
    pub from: Offset,
    /// At most so many bytes, but always one whole frame.
    pub bytes_max: usize,
}

/// Frames that the driver found for a [`Want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First offset of the first frame.
    pub first: Offset,
    /// One past the last offset of the last.
    pub next: Offset,
    /// What the first compact frame's time counts from; anything for explicit frames.
    pub base_time: Micros,
    /// What the time of the frame behind the last would count from: that of the last record, if frames are compact.
    pub next_base_time: Micros,
    /// Bytes of all frames.
    pub len: usize,
}

/// What of a log ends at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Below {
    /// A frame with this `crc`.
    Frame(u32),
    /// Nothing: one of its frames begins before it and ends behind it.
    Inside,
    /// What cannot be told from another past: a gap, or what is not held any more.
    Unknown,
}

/// What a log has for a [`Want`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Frames, for [`Sender::data`].
    Frames(Run),
    /// A gap, for [`Sender::gap`].
    Gap(Gap),
}

/// What became of a [`Run`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Put a Data message on the wire: this head, then the frames.
    Data {
        /// The head's bytes.
        head: [u8; DATA_HEAD_LEN_MAX],
        /// How many of them.
        head_len: usize,
    },
    /// Not now: the receiver moved on, or has no room for so much. The want will come again.
    NotNow,
}

impl<S: AsRef<[SenderSlot]> + AsMut<[SenderSlot]>, I: AsRef<str>> Sender<S, I> {
    /// A sender whose wire was just opened; its first message is a Hello.
    pub fn new(settings: SenderSettings<I>, slots: S, now: Now) -> Self {
        Self {
            generation: settings.generation.max(1),
            liveness: Liveness::new(settings.idle_timeout_us, now.uptime_us),
            settings,
            slots,
            phase: Phase::Greeting {
                at_us: now.uptime_us,
                attempt: 0,
            },
            credit: 0,
            probing: false,
            retransmit: Retransmit::new(),
            bye: None,
            welcomed: None,
            ended: None,
            turn: 0,
        }
    }

    /// Offers the log that now stands at `slot`, in the next Hello or inside the running session. `false` if there is no such slot.
    pub fn offer(&mut self, slot: u16) -> bool {
        let offered = SenderSlot {
            state: SlotState::Offered,
            offer_due: true,
            ..SenderSlot::default()
        };
        self.slot_mut(slot).map(|place| *place = offered).is_some()
    }

    /// The log at `slot` is no longer this conversation's business.
    pub fn withdraw(&mut self, slot: u16) {
        if let Some(place) = self.slot_mut(slot) {
            *place = SenderSlot::default();
        }
    }

    /// The log has grown to `next`.
    pub fn grew(&mut self, slot: u16, next: Offset) {
        if let Some(place) = self.slot_mut(slot) {
            place.next = place.next.max(next);
        }
    }

    /// The log is closed: nothing will follow `end`.
    pub fn closed(&mut self, slot: u16, end: Offset) {
        if let Some(place) = self.slot_mut(slot) {
            place.next = end;
            place.closed = true;
        }
    }

    /// Ends this session and begins another, from Hello.
    pub fn start_over(&mut self, now: Now) {
        self.greet(now.uptime_us, 0);
    }

    /// Says Bye and ends.
    pub fn leave(&mut self, code: Code, reason: &'static str) {
        self.bye = Some((code, reason));
    }

    /// Takes a message. What is not in order is dropped; what is malformed ends the session.
    pub fn handle_message(&mut self, now: Now, kind: u8, body: &[u8]) {
        self.tick(now.uptime_us);
        let Ok(message) = Message::parse_for_sender(kind, body) else {
            return self.malformed();
        };
        self.liveness.heard(now.uptime_us);
        match message {
            Message::Welcome(welcome) => self.welcome(now.uptime_us, &welcome),
            Message::Ping(ping) => self.liveness.pinged(ping),
            Message::Bye(bye) => self.over(now.uptime_us, bye.code),
            Message::Ack(ack) if self.is_live() => self.ack(now.uptime_us, ack),
            Message::Rewind(rewind) if self.is_live() => self.rewind(rewind),
            Message::Answer(answer) if self.is_live() => self.answer(answer),
            _ => {}
        }
    }

    /// The driver's answer to [`SenderEvent::Check`]: what of its log ends there. Where the receiver stands inside one of its frames, that is found out without
    /// it as well, but what the receiver has never had counts as released until then.
    pub fn checked(&mut self, slot: u16, ours: Below) {
        let Some(place) = self.slot_mut(slot) else {
            return;
        };
        if let SlotState::Checking { next, theirs, .. } = place.state {
            let differs = match ours {
                Below::Frame(ours) => ours != theirs && !Fault::IgnoreOtherHistory.is_planted(),
                Below::Inside => true,
                Below::Unknown => false,
            };
            if differs {
                place.stop(Stop::Diverged);
            } else {
                place.go_on_from(next);
            }
        }
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        self.tick(now.uptime_us);
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] have something to do, if nothing else happens. In `uptime_us`.
    pub fn next_timeout(&self) -> Option<u64> {
        match self.phase {
            Phase::Greeting {
                at_us: u64::MAX, ..
            } => Some(self.liveness.silent_at_us()),
            Phase::Greeting { at_us, .. } => Some(at_us),
            Phase::Live => {
                let idle = self.liveness.next_timeout_us();
                Some(
                    self.retransmit
                        .deadline_us()
                        .map_or(idle, |deadline| deadline.min(idle)),
                )
            }
            Phase::Ended => None,
        }
    }

    /// The next thing to tell the driver; until `None`.
    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        if let Some((clock, features)) = self.welcomed.take() {
            return Some(SenderEvent::Welcomed { clock, features });
        }
        if let Some(code) = self.ended.take() {
            return Some(SenderEvent::Ended { code });
        }
        let slots = self.slots.as_mut().iter_mut();
        slots
            .zip(0..=u16::MAX)
            .find_map(|(place, slot)| place.event(slot))
    }

    /// The next message to send, written into `body`; until `None`. `offers` tells what a slot's log is now.
    ///
    /// `body` must hold an Offer (about 130 bytes) or, for a Hello, the identity and one Offer.
    pub fn poll_transmit<'o>(
        &mut self,
        now: Now,
        offers: impl FnMut(u16) -> Option<Offer<'o>>,
        body: &mut [u8],
    ) -> Option<Transmit> {
        self.tick(now.uptime_us);
        let len_max = body.len().min(self.settings.body_bytes_max);
        let body = body.get_mut(..len_max)?;
        if let Some((code, reason)) = self.bye.take() {
            self.over(now.uptime_us, code);
            return transmit(&Message::Bye(Bye { code, reason }), body);
        }
        match self.phase {
            Phase::Greeting { at_us, attempt } if now.uptime_us >= at_us => {
                self.hello(now, attempt, offers, body)
            }
            Phase::Live => match self.liveness.ping(now.uptime_us) {
                Some(ping) => transmit(&Message::Ping(ping), body),
                None => self.slot_message(now.uptime_us, offers, body),
            },
            _ => None,
        }
    }

    /// The frames to send next, if there are any and the receiver has room. Ask when [`Self::poll_transmit`] has nothing.
    pub fn want(&mut self) -> Option<Want> {
        if !self.is_live() {
            return None;
        }
        let room = self.room()?;
        let slots = self.slots.as_ref();
        let turn = self.turn.checked_rem(slots.len())?;
        let (at, place) = (slots.iter().enumerate().cycle().skip(turn))
            .take(slots.len())
            .find(|(_, place)| room.lets_go(place))?;
        let (slot, from) = (u16::try_from(at).ok()?, place.position);
        self.turn = at + 1;
        Some(self.wanted(slot, from, &room))
    }

    /// As [`Self::want`], of the log that the driver ranks first: the smallest rank; one without a rank is not sent now. If the receiver has no room for
    /// what that log sends next, none behind it takes the room that comes free.
    pub fn want_by<R: Ord>(&mut self, mut rank: impl FnMut(u16) -> Option<R>) -> Option<Want> {
        if !self.is_live() {
            return None;
        }
        let room = self.room()?;
        let ranked = (self.slots.as_ref().iter().zip(0..=u16::MAX))
            .filter(|(place, _)| place.has_data())
            .filter_map(|(place, slot)| Some((rank(slot)?, slot, place)));
        let (_, slot, place) = ranked.min_by(|a, b| a.0.cmp(&b.0))?;
        let from = place.position;
        room.lets_go(place).then(|| self.wanted(slot, from, &room))
    }

    /// The frames that the driver found for `want`.
    pub fn data(&mut self, now: Now, want: &Want, run: Run) -> Sent {
        let too_large = run.len
            > self
                .settings
                .body_bytes_max
                .saturating_sub(DATA_HEAD_LEN_MAX);
        let room = self.room();
        let Some(place) = self
            .slot_mut(want.slot)
            .filter(|place| place.is_at(want.from))
        else {
            return Sent::NotNow;
        };
        if run.first < want.from && run.next > want.from {
            place.stop(Stop::Diverged); // the receiver stands inside one of our frames: it has another history
            return Sent::NotNow;
        }
        if too_large {
            place.stop(Stop::Refused(Code::TOO_LARGE));
            return Sent::NotNow;
        }
        let bytes = run.len as u64;
        if run.first != want.from
            || run.next <= run.first
            || !room.is_some_and(|room| room.takes(bytes))
        {
            place.needs = bytes;
            return Sent::NotNow;
        }
        let base_time = place.sending(&run);
        self.await_answer(now.uptime_us);
        self.retransmit.time(want.slot, run.next, now.uptime_us);
        head(want.slot, run.first, base_time)
    }

    /// What `want` asked for is gone: the gap that stands there instead, from `want.from`. It is sent in its place.
    pub fn gap(&mut self, want: &Want, gap: Gap) {
        if let Some(place) = self
            .slot_mut(want.slot)
            .filter(|place| place.is_at(want.from))
            && gap.from == want.from
            && gap.from < gap.to
        {
            place.gap = Some(gap);
        }
    }

    /// Whether a session is running.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// When something was last heard from the other end, in `uptime_us`.
    pub fn heard_us(&self) -> u64 {
        self.liveness.heard_us()
    }

    /// The slots' memory, for a driver that must make room for more of them.
    pub fn slots_mut(&mut self) -> &mut S {
        &mut self.slots
    }

    fn tick(&mut self, now_us: u64) {
        let waits = matches!(self.phase, Phase::Greeting { attempt: 1.., .. })
            && self.settings.framing == Framing::Stream;
        if (self.is_live() || waits) && self.liveness.silent(now_us) {
            return self.silence(now_us);
        }
        if self
            .retransmit
            .deadline_us()
            .is_some_and(|deadline| now_us >= deadline)
        {
            self.retransmit.expired();
            if self.retransmit.failures > FAILURES_MAX {
                return self.greet(now_us, 0);
            }
            self.go_back();
        }
    }

    fn go_back(&mut self) {
        self.probing = true;
        self.slots.as_mut().iter_mut().for_each(SenderSlot::go_back);
    }

    fn greet(&mut self, now_us: u64, attempt: u8) {
        if attempt == 0 {
            self.generation = self.generation.wrapping_add(1).max(1);
        }
        self.phase = Phase::Greeting {
            at_us: now_us.saturating_add(back_off_us(attempt)),
            attempt,
        };
        self.slots.as_mut().iter_mut().for_each(SenderSlot::restart);
    }

    fn silence(&mut self, now_us: u64) {
        match self.settings.framing {
            Framing::Link => self.greet(now_us, 0),
            Framing::Stream => self.leave(Code::BUSY, "nothing was heard for too long"),
        }
    }

    /// On a link the CRC has passed, so it is a foreign message; on a stream the place in the bytes may be lost.
    fn malformed(&mut self) {
        if self.settings.framing == Framing::Stream {
            self.leave(Code::MALFORMED, "malformed message");
        }
    }

    /// The session is over for `code`; a link greets again after a pause.
    fn over(&mut self, now_us: u64, code: Code) {
        self.ended = Some(code);
        self.retransmit.restart();
        match self.settings.framing {
            Framing::Link => {
                self.greet(now_us, 0);
                self.phase = Phase::Greeting {
                    at_us: now_us.saturating_add(TIMEOUT_US_MAX),
                    attempt: 0,
                };
            }
            Framing::Stream => self.phase = Phase::Ended,
        }
    }

    fn hello<'o>(
        &mut self,
        now: Now,
        attempt: u8,
        mut offers: impl FnMut(u16) -> Option<Offer<'o>>,
        body: &mut [u8],
    ) -> Option<Transmit> {
        let intro = Intro {
            protocol_min: VERSION,
            protocol_max: VERSION,
            features: 0,
            identity: self.settings.identity.as_ref(),
            generation: self.generation,
            clock: now.clock(self.settings.boot),
            credential: &[],
        };
        let slots = self.slots.as_mut();
        let offered = slots
            .iter_mut()
            .zip(0..=u16::MAX)
            .filter(|(place, _)| place.state == SlotState::Offered);
        let mut there = 0;
        let described = offered.filter_map(|(place, slot)| {
            let Some(offer) = offers(slot) else {
                *place = SenderSlot::default();
                return None;
            };
            place.described(&offer);
            there += 1;
            Some(Offer { slot, ..offer })
        });
        let (len, count) = message::emit_hello(&intro, described, body)?;
        if there > count {
            message::mark_cut(&intro, body);
        }
        let offered = slots
            .iter_mut()
            .filter(|place| place.state == SlotState::Offered);
        offered
            .enumerate()
            .for_each(|(at, place)| place.offer_due = at >= count);
        self.retransmit.restart();
        let attempt = attempt.saturating_add(1);
        let patience_us = match self.settings.framing {
            Framing::Link => back_off_us(attempt),
            Framing::Stream => u64::MAX, // a connection delivers it: the idle timeout decides
        };
        self.phase = Phase::Greeting {
            at_us: now.uptime_us.saturating_add(patience_us),
            attempt,
        };
        Some(Transmit {
            kind: kind::HELLO,
            len,
        })
    }

    fn welcome(&mut self, now_us: u64, welcome: &Welcome<'_>) {
        let terms = &welcome.terms;
        if terms.generation == 0 {
            return self.invited(now_us);
        }
        let greeting = matches!(self.phase, Phase::Greeting { attempt: 1.., .. });
        if !greeting || terms.generation != self.generation {
            return;
        }
        if terms.chosen != VERSION {
            return self.over(now_us, Code::VERSION);
        }
        self.phase = Phase::Live;
        self.probing = false;
        self.credit = u64::from(terms.credit);
        self.welcomed = Some((terms.clock, terms.features));
        self.liveness = Liveness::new(self.settings.idle_timeout_us, now_us);
        welcome.logs.iter().for_each(|answer| self.answer(answer));
    }

    /// The receiver has just started and asks for a Hello. Not more often than the back-off allows.
    fn invited(&mut self, now_us: u64) {
        if self.phase == Phase::Live {
            self.greet(now_us, 0);
        }
    }

    fn answer(&mut self, answer: Answer<'_>) {
        // A receiver that finds no room later refuses what it took before.
        let refused = matches!(answer.verdict, Verdict::Refused { .. });
        let Some(place) = self.slot_mut(answer.slot).filter(|place| {
            place.state == SlotState::Offered || (refused && place.state == SlotState::Live)
        }) else {
            return;
        };
        place.offer_due = false;
        match answer.verdict {
            Verdict::Refused { code, .. } => place.stop(Stop::Refused(code)),
            Verdict::Resume { next, .. } if next > place.next => place.stop(Stop::Diverged),
            Verdict::Resume {
                next,
                crc_below: Some(theirs),
            } => {
                place.state = SlotState::Checking {
                    next,
                    theirs,
                    asked: false,
                };
            }
            Verdict::Resume {
                next,
                crc_below: None,
            } => place.go_on_from(next),
        }
    }

    fn ack(&mut self, now_us: u64, ack: Ack) {
        let Some(place) = self.slot_mut(ack.slot) else {
            return;
        };
        if place.state != SlotState::Live || ack.next < place.acked || ack.next > place.sent {
            return;
        }
        let progress = place.acknowledged(ack.next, ack.ended);
        self.credit = u64::from(ack.credit);
        if progress {
            self.probing = false;
            let waiting = self.is_waiting();
            self.retransmit
                .progress(ack.slot, ack.next, waiting, now_us);
        }
    }

    fn rewind(&mut self, rewind: Rewind) {
        let Some(place) = self.slot_mut(rewind.slot) else {
            return;
        };
        if Fault::IgnoreRewind.is_planted() {
            return;
        }
        if place.state == SlotState::Live && place.rewind(rewind.next) {
            self.retransmit.forget_sample();
        }
    }

    fn slot_message<'o>(
        &mut self,
        now_us: u64,
        mut offers: impl FnMut(u16) -> Option<Offer<'o>>,
        body: &mut [u8],
    ) -> Option<Transmit> {
        let slots = self.slots.as_mut();
        let due = slots
            .iter_mut()
            .zip(0..=u16::MAX)
            .find_map(|(place, slot)| {
                let message = place.message(slot, &mut offers)?;
                Some((place, message))
            });
        let (place, message) = due?;
        let sent = transmit(&message, body)?;
        place.said(&message);
        self.await_answer(now_us);
        Some(sent)
    }

    fn await_answer(&mut self, now_us: u64) {
        if self.settings.framing == Framing::Link {
            self.retransmit.sent(now_us);
        }
    }

    fn is_waiting(&self) -> bool {
        self.slots.as_ref().iter().any(SenderSlot::is_waiting)
    }

    /// What may be sent now; `None` if the window is full.
    fn room(&self) -> Option<Room> {
        let in_flight: u64 = self
            .slots
            .as_ref()
            .iter()
            .map(|place| place.flight.bytes())
            .sum();
        let all_is_quiet = in_flight == 0;
        let bytes = if self.probing {
            0
        } else {
            self.credit.saturating_sub(in_flight)
        };
        (bytes > 0 || all_is_quiet).then_some(Room {
            bytes,
            all_is_quiet,
        })
    }

    fn wanted(&self, slot: u16, from: Offset, room: &Room) -> Want {
        let body_max = self
            .settings
            .body_bytes_max
            .saturating_sub(DATA_HEAD_LEN_MAX);
        let room = usize::try_from(room.bytes).unwrap_or(usize::MAX);
        Want {
            slot,
            from,
            bytes_max: room.min(body_max),
        }
    }

    fn slot_mut(&mut self, slot: u16) -> Option<&mut SenderSlot> {
        self.slots.as_mut().get_mut(usize::from(slot))
    }
}

struct Room {
    bytes: u64,
    /// Nothing is on its way: one frame may go, whatever the credit.
    all_is_quiet: bool,
}

impl Room {
    const fn lets_go(&self, place: &SenderSlot) -> bool {
        place.has_data() && (place.needs <= self.bytes || self.all_is_quiet)
    }

    const fn takes(&self, bytes: u64) -> bool {
        bytes <= self.bytes || self.all_is_quiet
    }
}

fn head(slot: u16, first: Offset, base_time: Option<Micros>) -> Sent {
    let data = Data {
        slot,
        first,
        base_time,
        frames: &[],
    };
    let mut head = [0; DATA_HEAD_LEN_MAX];
    match data.emit_head(&mut head) {
        Some(head_len) => Sent::Data { head, head_len },
        None => Sent::NotNow,
    }
}

fn transmit(message: &Message<'_>, body: &mut [u8]) -> Option<Transmit> {
    let len = message.emit(body)?;
    Some(Transmit {
        kind: message.kind(),
        len,
    })
}

/// How long to wait before Hello number `attempt`, counted from 0.
fn back_off_us(attempt: u8) -> u64 {
    match attempt.checked_sub(1) {
        None => 0,
        Some(doublings) => (TIMEOUT_US_MIN << doublings.min(6)).min(TIMEOUT_US_MAX),
    }
}

/// Timeouts in a row after which the receiver has surely forgotten this session.
const FAILURES_MAX: u8 = 3;
