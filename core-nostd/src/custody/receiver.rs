//! The end that takes custody: says where to go on, takes what follows, asks again for what is missing, and acknowledges what its
//! driver made durable.
//!
//! It keeps no frames: what is new in a Data message is handed out at once, borrowed from the message. It is the authority on the
//! next offset of each log, and knows nothing of how its driver keeps them.

use super::liveness::Liveness;
use super::message::{
    self, Ack, Answer, Bye, Close, Code, Data, Hello, Message, Offer, Rewind, SlotGap, Terms,
    VERSION, Verdict, kind,
};
use super::{Framing, Now, Transmit};
use crate::frame::Frame;
use crate::frame::time_behind;
use crate::planted::Fault;
use crate::{LogId, Micros, Offset};

/// What a receiver needs to know of itself.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverSettings {
    /// Names this start of the receiver's program.
    pub boot: u64,
    /// What carries the messages.
    pub framing: Framing,
    /// Longest body that it may send.
    pub body_bytes_max: usize,
    /// Bytes of Data that it holds beyond what it acknowledged.
    pub credit: u32,
    /// Silence that ends a session on a stream.
    pub idle_timeout_us: u64,
    /// What its driver understands beyond what every receiver does: [`message::feature`].
    pub features: u32,
}

/// One end of a conversation: the one that takes custody. `S` is the memory for the slots: an array, a `Vec`, a borrowed slice.
#[derive(Debug)]
pub struct Receiver<S> {
    settings: ReceiverSettings,
    slots: S,
    phase: Phase,
    liveness: Liveness,
    /// The chosen generation of the session.
    generation: u64,
    /// When a Hello was last asked for, in `uptime_us`.
    invited_us: u64,
    bye: Option<(Code, &'static str)>,
    ended: Option<Code>,
}

/// The receiver's view of one log. A vacant slot is `ReceiverSlot::default()`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReceiverSlot {
    state: SlotState,
    log: LogId,
    /// The first offset that was not handed out yet.
    expected: Offset,
    /// The time there, as far as the session's Data have told it.
    time: Option<Micros>,
    /// The first offset that is not durable yet.
    durable: Offset,
    crc_below: Option<u32>,
    /// Where the log ends, once its sender said so.
    end: Option<Offset>,
    end_told: bool,
    /// The driver has written the end.
    ended: bool,
    answer_due: bool,
    ack_due: bool,
    rewind_due: bool,
    /// When a Rewind was said for the present hole, in `uptime_us`.
    rewound_us: Option<u64>,
    /// Where the last one began that was not taken because of a hole.
    missed: Offset,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SlotState {
    #[default]
    Vacant,
    Live,
    Refused {
        code: Code,
        reason: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No Hello yet. On a link a Hello is asked for at this time.
    Waiting {
        invite_us: u64,
    },
    /// A Hello is being answered by the driver.
    Answering,
    /// All is answered, and a Welcome is to be said.
    Welcoming,
    Live,
    Ended,
}

/// What a message asks of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<'m> {
    /// Nothing.
    Nothing,
    /// A session begins anew: [`Receiver::answer`] each offer from what is durable, then [`Receiver::welcome`].
    Hello(Hello<'m>),
    /// One more log: [`Receiver::answer`] it.
    Offer(Offer<'m>),
    /// Make these durable, then [`Receiver::stored`].
    Store(Store<'m>),
    /// Make this gap durable, then [`Receiver::stored`] with `gap.to`.
    Gap(SlotGap),
}

/// Frames to be made durable: whole, checked, contiguous, and never handed out before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Store<'m> {
    /// Of which log.
    pub slot: u16,
    /// First offset of the first frame.
    pub first: Offset,
    /// One past the last offset of the last.
    pub next: Offset,
    /// What the first frame's time counts from, if it is compact.
    pub base_time: Micros,
    /// The frames, verbatim.
    pub frames: &'m [u8],
}

/// What a receiver's driver must hear beside the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverEvent {
    /// All of a closed log is durable: write its end, then [`Receiver::stored`] with `end` once more.
    Closed {
        /// Which log.
        slot: u16,
        /// Its end.
        end: Offset,
    },
    /// The session is over. A stream is to be closed; a link waits for the next Hello.
    Ended {
        /// Why.
        code: Code,
    },
}

impl<S: AsRef<[ReceiverSlot]> + AsMut<[ReceiverSlot]>> Receiver<S> {
    /// A receiver whose wire was just opened.
    pub fn new(settings: ReceiverSettings, slots: S, now: Now) -> Self {
        Self {
            settings,
            slots,
            phase: Phase::Waiting {
                invite_us: now.uptime_us,
            },
            liveness: Liveness::new(settings.idle_timeout_us, now.uptime_us),
            generation: 0,
            invited_us: 0,
            bye: None,
            ended: None,
        }
    }

    /// Takes a message. What is not in order is dropped; what is malformed ends a session on a stream.
    pub fn handle_message<'m>(&mut self, now: Now, kind: u8, body: &'m [u8]) -> Received<'m> {
        self.handle_timeout(now);
        if self.phase == Phase::Ended {
            return Received::Nothing;
        }
        let Ok(message) = Message::parse(kind, body) else {
            return self.malformed();
        };
        self.liveness.heard(now.uptime_us);
        match message {
            Message::Hello(hello) => return self.hello(hello),
            Message::Ping(ping) if !self.is_waiting() => self.liveness.pinged(ping),
            Message::Bye(bye) => self.over(now.uptime_us, bye.code),
            Message::Offer(offer) if self.is_live() => return Received::Offer(offer),
            Message::Data(data) if self.is_live() => return self.data(now.uptime_us, &data),
            Message::Gap(gap) if self.is_live() => return self.gap(now.uptime_us, gap),
            Message::Close(close) if self.is_live() => self.close(close),
            _ => self.invite(now.uptime_us),
        }
        Received::Nothing
    }

    /// The line dropped a damaged message, of this type as far as it could be read ([`Decoder::take_damaged`]). If only one log is on its
    /// way, and it was Data, that is asked for again now, and not when the next one shows that it is missing.
    ///
    /// [`Decoder::take_damaged`]: crate::framing::link::Decoder::take_damaged
    pub fn damaged(&mut self, now: Now, kind: u8) {
        if !self.is_live() || kind != kind::DATA {
            return;
        }
        let slots = self.slots.as_mut().iter_mut();
        let mut sent = slots.filter(|place| place.state == SlotState::Live && !place.ended);
        if let (Some(place), None) = (sent.next(), sent.next()) {
            place.ask(now.uptime_us);
        }
    }

    /// The verdict on an offer: where to go on from what is durable, or why not.
    ///
    /// There must be a slot of this number; see [`Self::slots_mut`]. An offer without one gets no answer.
    pub fn answer(&mut self, offer: &Offer<'_>, verdict: Verdict<'static>) {
        let live = self.is_live();
        let Some(place) = self.slots.as_mut().get_mut(usize::from(offer.slot)) else {
            return;
        };
        *place = ReceiverSlot {
            log: offer.log,
            answer_due: live,
            end: offer.closed.then_some(offer.next),
            ..ReceiverSlot::default()
        };
        match verdict {
            Verdict::Refused { code, reason } => place.state = SlotState::Refused { code, reason },
            Verdict::Resume { next, crc_below } => {
                place.state = SlotState::Live;
                (place.expected, place.durable) = (next, next);
                place.crc_below = crc_below;
            }
        }
    }

    /// All offers of the Hello are answered.
    pub fn welcome(&mut self) {
        if self.phase == Phase::Answering {
            self.phase = Phase::Welcoming;
        }
    }

    /// Everything of this log below `next` survives a power cut.
    pub fn stored(&mut self, slot: u16, next: Offset) {
        let Some(place) = self
            .live_slot(slot)
            .filter(|place| place.durable <= next && next <= place.expected)
        else {
            return;
        };
        place.durable = next;
        place.ended = place.end_told && place.end == Some(next);
        place.ack_due = true;
    }

    /// What was handed out beyond the durable place was not kept: it is to be sent again.
    pub fn unstored(&mut self, slot: u16) {
        if let Some(place) = self.live_slot(slot) {
            place.rewind_due |= place.expected != place.durable;
            (place.expected, place.time) = (place.durable, None);
        }
    }

    /// This log is not taken any more in this session: its sender is told, and what it still sends is dropped. It may offer the log again.
    pub fn refuse(&mut self, slot: u16, code: Code, reason: &'static str) {
        if let Some(place) = self.live_slot(slot) {
            place.state = SlotState::Refused { code, reason };
            place.answer_due = true;
        }
    }

    /// What the next acknowledgements grant: bytes of Data beyond what was acknowledged.
    pub fn set_credit(&mut self, bytes: u32) {
        self.settings.credit = bytes;
    }

    /// Says Bye and ends.
    pub fn leave(&mut self, code: Code, reason: &'static str) {
        self.bye = Some((code, reason));
    }

    /// On a stream: a part of a message came at `at_us`, in `uptime_us`. A message may take longer than a silence may last.
    pub fn handle_part(&mut self, at_us: u64) {
        self.liveness.moved(at_us);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Now) {
        let stream = self.settings.framing == Framing::Stream;
        if stream && self.phase != Phase::Ended && self.liveness.silent(now.uptime_us) {
            self.leave(Code::BUSY, "nothing was heard for too long");
        }
    }

    /// When [`Self::handle_timeout`] and [`Self::poll_transmit`] have something to do, if nothing else happens. In `uptime_us`.
    pub fn next_timeout(&self) -> Option<u64> {
        match (self.settings.framing, self.phase) {
            (_, Phase::Ended) => None,
            (Framing::Stream, _) => Some(self.liveness.next_timeout_us()),
            (Framing::Link, Phase::Waiting { invite_us }) if invite_us < u64::MAX => {
                Some(invite_us)
            }
            (Framing::Link, _) => None,
        }
    }

    /// The next thing to tell the driver; until `None`.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        if let Some(code) = self.ended.take() {
            return Some(ReceiverEvent::Ended { code });
        }
        let slots = self.slots.as_mut().iter_mut();
        slots
            .zip(0..=u16::MAX)
            .find_map(|(place, slot)| place.event(slot))
    }

    /// The next message to send, written into `body` (which must hold 300 bytes); until `None`.
    pub fn poll_transmit(&mut self, now: Now, body: &mut [u8]) -> Option<Transmit> {
        self.handle_timeout(now);
        let len_max = body.len().min(self.settings.body_bytes_max);
        let body = body.get_mut(..len_max)?;
        if let Some((code, reason)) = self.bye.take() {
            self.over(now.uptime_us, code);
            return transmit(&Message::Bye(Bye { code, reason }), body);
        }
        match self.phase {
            Phase::Waiting { invite_us } if self.invites() && now.uptime_us >= invite_us => {
                self.phase = Phase::Waiting {
                    invite_us: u64::MAX,
                };
                self.invited_us = now.uptime_us;
                self.say_welcome(now, 0, body)
            }
            Phase::Welcoming => {
                self.phase = Phase::Live;
                self.say_welcome(now, self.generation, body)
            }
            Phase::Ended => None,
            _ => match self.ping(now.uptime_us) {
                Some(ping) => transmit(&Message::Ping(ping), body),
                None => self.slot_message(now.uptime_us, body),
            },
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

    /// The slots' memory, for a driver that must make room for more of them before it answers.
    pub fn slots_mut(&mut self) -> &mut S {
        &mut self.slots
    }

    fn hello<'m>(&mut self, hello: Hello<'m>) -> Received<'m> {
        self.slots.as_mut().fill(ReceiverSlot::default());
        self.generation = hello.intro.generation;
        if hello.intro.protocol_min > VERSION || hello.intro.protocol_max < VERSION {
            self.leave(Code::VERSION, "no common protocol version");
            return Received::Nothing;
        }
        self.phase = Phase::Answering;
        Received::Hello(hello)
    }

    fn data<'m>(&mut self, now_us: u64, data: &Data<'m>) -> Received<'m> {
        let Some(place) = self.live_slot(data.slot) else {
            return Received::Nothing;
        };
        let run = place.new_frames(data);
        match run {
            Frames::New { store, time, whole } => {
                (place.expected, place.time) = (store.next, time);
                place.rewound_us = None;
                if !whole {
                    place.hole(now_us, data.first);
                }
                Received::Store(store)
            }
            Frames::Known => {
                place.ack_due = true;
                Received::Nothing
            }
            Frames::Hole => {
                place.hole(now_us, data.first);
                Received::Nothing
            }
        }
    }

    fn gap<'m>(&mut self, now_us: u64, SlotGap { slot, gap }: SlotGap) -> Received<'m> {
        let Some(place) = self.live_slot(slot) else {
            return Received::Nothing;
        };
        if gap.from == place.expected {
            (place.expected, place.time) = (gap.to, None);
            place.rewound_us = None;
            return Received::Gap(SlotGap { slot, gap });
        }
        place.ack_due = true;
        if gap.to > place.expected {
            place.hole(now_us, gap.from); // also where it begins below: only the sender knows how much of `lost` was told
        }
        Received::Nothing
    }

    fn close(&mut self, close: Close) {
        if let Some(place) = self
            .live_slot(close.slot)
            .filter(|place| close.end >= place.expected)
        {
            place.end_told &= place.end == Some(close.end);
            place.end = Some(close.end);
            place.ack_due |= place.ended && place.end_told;
        }
    }

    /// A sender talks on, and this end has no session: on a link it is asked for a Hello, once a second at most.
    fn invite(&mut self, now_us: u64) {
        if self.phase
            == (Phase::Waiting {
                invite_us: u64::MAX,
            })
        {
            self.phase = Phase::Waiting {
                invite_us: now_us.max(self.invited_us.saturating_add(INVITE_EVERY_US)),
            };
        }
    }

    fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. }) && self.invites()
    }

    fn invites(&self) -> bool {
        self.settings.framing == Framing::Link
    }

    fn malformed<'m>(&mut self) -> Received<'m> {
        if self.settings.framing == Framing::Stream {
            self.leave(Code::MALFORMED, "malformed message");
        }
        Received::Nothing
    }

    fn over(&mut self, now_us: u64, code: Code) {
        self.ended = Some(code);
        self.slots.as_mut().fill(ReceiverSlot::default());
        self.phase = match self.settings.framing {
            Framing::Link => Phase::Waiting {
                invite_us: now_us.saturating_add(INVITE_EVERY_US),
            },
            Framing::Stream => Phase::Ended,
        };
    }

    /// A link's receiver answers Pings and asks none: a device may sleep.
    fn ping(&mut self, now_us: u64) -> Option<message::Ping> {
        match self.settings.framing {
            Framing::Stream => self.liveness.ping(now_us),
            Framing::Link => self.liveness.reply(),
        }
    }

    fn say_welcome(&mut self, now: Now, generation: u64, body: &mut [u8]) -> Option<Transmit> {
        let terms = Terms {
            chosen: VERSION,
            features: self.settings.features,
            generation,
            clock: now.clock(self.settings.boot),
            credit: self.settings.credit,
        };
        let slots = self.slots.as_mut();
        let answers = slots
            .iter()
            .zip(0..=u16::MAX)
            .filter_map(|(place, slot)| place.answer(slot));
        let (len, count) = message::emit_welcome(&terms, answers, body)?;
        let answered = slots
            .iter_mut()
            .filter(|place| place.state != SlotState::Vacant);
        answered
            .enumerate()
            .for_each(|(at, place)| place.answer_due = at >= count);
        Some(Transmit {
            kind: kind::WELCOME,
            len,
        })
    }

    fn slot_message(&mut self, now_us: u64, body: &mut [u8]) -> Option<Transmit> {
        if !self.is_live() {
            return None;
        }
        let credit = self.settings.credit;
        let mut slots = self.slots.as_mut().iter_mut().zip(0..=u16::MAX);
        let message = slots.find_map(|(place, slot)| place.message(slot, credit, now_us))?;
        transmit(&message, body)
    }

    fn live_slot(&mut self, slot: u16) -> Option<&mut ReceiverSlot> {
        let place = self.slots.as_mut().get_mut(usize::from(slot))?;
        (place.state == SlotState::Live).then_some(place)
    }
}

/// What a Data message holds for a slot.
enum Frames<'m> {
    /// Something new, and the time at its end; `whole` if nothing unsound follows it.
    New {
        store: Store<'m>,
        time: Option<Micros>,
        whole: bool,
    },
    /// Nothing that was not handed out before.
    Known,
    /// What is expected is not there, or not sound, or its times count from one that was not heard.
    Hole,
}

impl ReceiverSlot {
    /// Walks the frames: skips those below the expected place, takes what follows without a hole.
    fn new_frames<'m>(&self, data: &Data<'m>) -> Frames<'m> {
        let (mut at, mut next, mut time) = (0, data.first, data.base_time);
        let mut begin = None;
        while let Some(rest) = data.frames.get(at..).filter(|rest| !rest.is_empty()) {
            let Ok((frame, len)) = Frame::parse(rest, &self.log, Some(next)) else {
                break;
            };
            let first = frame.header.first;
            if first != next || frame.span() == 0 {
                break;
            }
            let expected = first == self.expected
                || (first > self.expected && Fault::AcceptHole.is_planted())
                || (first < self.expected && Fault::AcceptRepeated.is_planted());
            if begin.is_none() && expected {
                time = time.or(self.time);
                let Some(base_time) = time else {
                    break;
                };
                begin = Some((at, base_time));
            }
            at += len;
            next = frame.end();
            time = time.map(|time| time_behind(time, &frame));
        }
        let new =
            begin.and_then(|(begin, base_time)| Some((data.frames.get(begin..at)?, base_time)));
        match new {
            Some((frames, base_time)) => Frames::New {
                time,
                whole: at == data.frames.len(),
                store: Store {
                    slot: data.slot,
                    first: if Fault::AcceptRepeated.is_planted() {
                        data.first
                    } else {
                        self.expected
                    },
                    next,
                    base_time,
                    frames,
                },
            },
            None if at == data.frames.len() && next <= self.expected => Frames::Known,
            None => Frames::Hole,
        }
    }

    /// What arrived begins at `first` and does not follow. If that is no further than the last time, the sender has gone back meanwhile and
    /// what it sent again was lost: asked for at once. (Not what is there and unsound, for it would be so again at once.)
    fn hole(&mut self, now_us: u64, first: Offset) {
        self.rewind_due |= self.expected < first && first <= self.missed;
        self.missed = first;
        self.ask(now_us);
    }

    /// Asks for what is missing: at once the first time, then no more than once in a while.
    fn ask(&mut self, now_us: u64) {
        let lately = self
            .rewound_us
            .is_some_and(|at| now_us < at.saturating_add(REWIND_EVERY_US));
        self.rewind_due |= !lately;
    }

    fn answer(&self, slot: u16) -> Option<Answer<'static>> {
        let verdict = match self.state {
            SlotState::Vacant => return None,
            SlotState::Refused { code, reason } => Verdict::Refused { code, reason },
            SlotState::Live => Verdict::Resume {
                next: self.durable,
                crc_below: self.crc_below,
            },
        };
        Some(Answer { slot, verdict })
    }

    fn message(&mut self, slot: u16, credit: u32, now_us: u64) -> Option<Message<'static>> {
        if core::mem::take(&mut self.answer_due) {
            return self.answer(slot).map(Message::Answer);
        }
        if core::mem::take(&mut self.ack_due) {
            return Some(Message::Ack(Ack {
                slot,
                next: if Fault::AckBeforeStored.is_planted() {
                    self.expected
                } else {
                    self.durable
                },
                credit,
                ended: self.ended,
            }));
        }
        core::mem::take(&mut self.rewind_due).then(|| {
            self.rewound_us = Some(now_us);
            Message::Rewind(Rewind {
                slot,
                next: self.expected,
            })
        })
    }

    fn event(&mut self, slot: u16) -> Option<ReceiverEvent> {
        let end = self.end.filter(|&end| {
            !self.end_told && self.durable == end && self.state == SlotState::Live
        })?;
        self.end_told = true;
        Some(ReceiverEvent::Closed { slot, end })
    }
}

fn transmit(message: &Message<'_>, body: &mut [u8]) -> Option<Transmit> {
    let len = message.emit(body)?;
    Some(Transmit {
        kind: message.kind(),
        len,
    })
}

/// About a round trip: a hole is asked for again if nothing came of it.
const REWIND_EVERY_US: u64 = 250_000;

/// How often a receiver without a session asks for a Hello, if it hears a sender at all.
const INVITE_EVERY_US: u64 = 1_000_000;
