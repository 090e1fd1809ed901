//! Both ends of a custody conversation over a pipe that can do what wires do, under a clock that only moves when told.
//!
//! The logs and the receiver's disk are models: a list of frames, and what was stored from them.

#![allow(unreachable_pub)]

mod wire;

use sedge_core::custody::message::{self, Code, Message, Offer, Verdict};
use sedge_core::custody::{
    Below, Framing, Now, Received, Receiver, ReceiverEvent, ReceiverSettings, ReceiverSlot, Run,
    Sender, SenderEvent, SenderSettings, SenderSlot, Sent,
};
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Frame, Kind, Label};
use sedge_core::framing::{link, stream};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
pub use wire::{Fault, Wire};

pub const SLOTS: usize = 8;
pub const BODY_MAX: usize = 600;
pub const IDLE_US: u64 = 30_000_000;
const LATENCY_US: u64 = 2_000;

/// A log at the sender: frames that are held, and how much was evicted before them.
#[derive(Clone, Debug)]
pub struct ModelLog {
    pub id: LogId,
    pub form: Form,
    pub frames: VecDeque<ModelFrame>,
    pub oldest: u64,
    pub next: u64,
    pub closed: bool,
    pub retired: bool,
    /// Written since the last copy was put back; such a log is not evicted, for then nobody could tell.
    pub forked: bool,
    /// It has gaps.
    pub gapped: bool,
    clock_ms: i64,
    salt: u64,
}

#[derive(Clone, Debug)]
pub struct ModelFrame {
    pub first: u64,
    pub next: u64,
    pub base_time: Micros,
    /// The time of its last record.
    pub next_base_time: Micros,
    pub crc: Option<u32>,
    pub bytes: Vec<u8>,
}

impl ModelLog {
    pub fn new(number: u8, form: Form) -> Self {
        Self {
            id: LogId::new([number; 16]),
            form,
            frames: VecDeque::new(),
            oldest: 0,
            next: 0,
            closed: false,
            retired: false,
            forked: false,
            gapped: false,
            clock_ms: 1_000_000,
            salt: 0,
        }
    }

    fn label(&self) -> Label {
        Label {
            form: self.form,
            first: Offset::new(self.next),
            time: Micros::new(self.clock_ms * 1000),
            first_of_commit: true,
        }
    }

    /// The clock is set: the next frame counts from another time than that of the record before it, as in a new segment.
    pub fn set_clock(&mut self, ahead_ms: i64) {
        self.clock_ms += ahead_ms;
    }

    /// One frame of `count` records that say who they are.
    pub fn append(&mut self, count: u16) {
        let base_time = Micros::new(self.clock_ms * 1000);
        let (mut entries, mut len) = (vec![0; 64 * usize::from(count)], 0);
        for i in 0..u64::from(count) {
            let value = format!("{} {} {}", self.id, self.next + i, self.salt);
            let elapsed_ms = 1 + ((self.next + i + self.salt) % 11) as i64;
            let record = Record {
                time: Some(elapsed_ms),
                key: None,
                headers: Headers::NONE,
                value: value.as_bytes(),
            };
            len += Entry::Record(record)
                .encode(&mut entries[len..])
                .expect("room");
            self.clock_ms += elapsed_ms;
        }
        let mut bytes = vec![0; len + frame::EXPLICIT_HEADER_LEN];
        let taken = frame::emit_data(
            &mut bytes,
            &self.id,
            self.label(),
            count,
            &[],
            &entries[..len],
        );
        bytes.truncate(taken.expect("room"));
        self.push(bytes, u64::from(count), base_time);
    }

    /// A gap that stands in the log itself, as after a torn commit.
    pub fn burn(&mut self, span: u64) {
        self.gapped = true;
        let gap = Gap {
            from: Offset::new(self.next),
            to: Offset::new(self.next + span),
            lost: 0,
            cause: Cause::Burned,
            when: Micros::UNKNOWN,
            when_last: Micros::UNKNOWN,
        };
        let mut bytes = vec![0; 80];
        let len = frame::emit_gap(&mut bytes, &self.id, self.label(), &gap).expect("room");
        bytes.truncate(len);
        self.push(bytes, span, Micros::new(self.clock_ms * 1000));
    }

    fn push(&mut self, bytes: Vec<u8>, span: u64, base_time: Micros) {
        let (frame, _) =
            Frame::parse(&bytes, &self.id, Some(Offset::new(self.next))).expect("sound");
        let crc = (frame.header.kind == Kind::Data).then_some(frame.header.crc);
        self.frames.push_back(ModelFrame {
            first: self.next,
            next: self.next + span,
            base_time,
            next_base_time: Micros::new(self.clock_ms * 1000),
            crc,
            bytes,
        });
        self.next += span;
    }

    pub fn evict(&mut self) {
        if self.forked || self.frames.len() < 2 {
            return;
        }
        if let Some(gone) = self.frames.pop_front() {
            self.oldest = gone.next;
            self.gapped = true;
        }
    }

    /// An older copy of the disk is put back, and other things are written from there on.
    pub fn restore(&mut self, frames: usize) {
        for _ in 0..frames.min(self.frames.len()) {
            if let Some(gone) = self.frames.pop_back() {
                self.next = gone.first;
                self.clock_ms = gone.base_time.get() / 1000;
            }
        }
        self.salt += 1;
        self.forked = true;
    }

    fn crc_below(&self, next: u64) -> Option<u32> {
        self.frames.iter().find(|f| f.next == next)?.crc
    }

    fn offer(&self, slot: u16) -> Offer<'static> {
        Offer {
            slot,
            log: self.id,
            stream: "telemetry",
            partition: slot,
            oldest: Offset::new(self.oldest),
            next: Offset::new(self.next),
            tail_crc: self.crc_below(self.next),
            closed: self.closed,
            chain: 0,
        }
    }

    fn read(&self, from: u64, bytes_max: usize) -> (Run, Vec<u8>) {
        let mut at = self.frames.iter().skip_while(|f| f.next <= from).peekable();
        let first = at.peek().expect("a want is below next");
        let mut run = Run {
            first: Offset::new(first.first),
            next: Offset::new(first.first),
            base_time: first.base_time,
            next_base_time: first.base_time,
            len: 0,
        };
        let mut bytes = Vec::new();
        for frame in at {
            let follows = bytes.len() + frame.bytes.len() <= bytes_max
                && frame.base_time == run.next_base_time;
            if !bytes.is_empty() && !follows {
                break;
            }
            bytes.extend(&frame.bytes);
            (run.next, run.next_base_time) = (Offset::new(frame.next), frame.next_base_time);
        }
        run.len = bytes.len();
        (run, bytes)
    }
}

/// What the receiver has of one log.
#[derive(Clone, Debug, Default)]
pub struct ModelMirror {
    /// Value and, for compact frames, time of each record.
    pub records: BTreeMap<u64, (Vec<u8>, i64)>,
    pub gaps: Vec<Gap>,
    pub next: u64,
    pub crc_below: Option<u32>,
    pub ended: bool,
}

impl ModelMirror {
    fn append(&mut self, id: &LogId, store: &Staged) {
        assert_eq!(
            store.first, self.next,
            "what is stored follows what is there"
        );
        let (mut rest, mut base) = (&store.frames[..], store.base_time.get());
        while !rest.is_empty() {
            let (frame, len) = Frame::parse(rest, id, Some(Offset::new(self.next)))
                .expect("checked by the receiver");
            for (offset, entry) in frame.entries() {
                let Entry::Record(record) = entry else {
                    panic!("a record was sent")
                };
                base += record.time.unwrap_or(0) * 1000;
                self.records
                    .insert(offset.get(), (record.value.to_vec(), base));
            }
            self.gaps.extend(frame.gap());
            self.crc_below = (frame.header.kind == Kind::Data).then_some(frame.header.crc);
            self.next = frame.end().get();
            rest = &rest[len..];
        }
    }
}

/// Handed out by the receiver, not yet synced.
#[derive(Clone, Debug)]
struct Staged {
    slot: u16,
    first: u64,
    base_time: Micros,
    frames: Vec<u8>,
    gap: Option<Gap>,
}

/// Everything.
pub struct World {
    pub framing: Framing,
    pub now_us: u64,
    pub logs: Vec<ModelLog>,
    pub mirrors: BTreeMap<LogId, ModelMirror>,
    staged: VecDeque<Staged>,
    pub sender: Sender<Vec<SenderSlot>, &'static str>,
    pub receiver: Receiver<Vec<ReceiverSlot>>,
    pub up: Wire,
    pub down: Wire,
    heard_up: Ear,
    heard_down: Ear,
    generation: u64,
    /// Messages said by either end.
    pub said: usize,
    pub acked: BTreeMap<LogId, u64>,
    pub diverged: usize,
    pub closed: usize,
    pub transcript: String,
    /// How long the receiver's disk takes to sync.
    pub sync_us: u64,
    sync_at: Option<u64>,
}

/// The receiving side of a framing.
enum Ear {
    Link(link::Decoder<Vec<u8>>),
    Stream(Vec<u8>),
}

impl Ear {
    fn new(framing: Framing) -> Self {
        match framing {
            Framing::Link => Self::Link(link::Decoder::new(vec![0; link::decoded_len(BODY_MAX)])),
            Framing::Stream => Self::Stream(Vec::new()),
        }
    }

    /// Hands out what was heard; the type of what was damaged.
    fn hear(&mut self, bytes: &[u8], mut take: impl FnMut(u8, &[u8])) -> Option<u8> {
        match self {
            Self::Link(decoder) => {
                let mut bytes = bytes;
                while let Some(packet) = decoder.advance(&mut bytes) {
                    take(packet.kind, packet.body);
                }
                decoder.take_damaged()
            }
            Self::Stream(buffer) => {
                buffer.extend(bytes);
                while let Some((packet, len)) =
                    stream::split(buffer, 1 << 16).expect("a connection keeps its bytes")
                {
                    take(packet.kind, packet.body);
                    buffer.drain(..len);
                }
                None
            }
        }
    }
}

impl World {
    pub fn new(framing: Framing, logs: usize) -> Self {
        let form = match framing {
            Framing::Link => Form::Compact,
            Framing::Stream => Form::Explicit,
        };
        let logs: Vec<_> = (1..=logs).map(|n| ModelLog::new(n as u8, form)).collect();
        let now = Now::default();
        let mut world = Self {
            framing,
            now_us: 0,
            sender: new_sender(framing, 1, &logs, now),
            receiver: new_receiver(framing, now),
            logs,
            mirrors: BTreeMap::new(),
            staged: VecDeque::new(),
            up: Wire::default(),
            down: Wire::default(),
            heard_up: Ear::new(framing),
            heard_down: Ear::new(framing),
            generation: 1,
            said: 0,
            acked: BTreeMap::new(),
            diverged: 0,
            closed: 0,
            transcript: String::new(),
            sync_us: 5_000,
            sync_at: None,
        };
        world.step();
        world
    }

    fn now(&self) -> Now {
        Now {
            uptime_us: self.now_us,
            unix_us: None,
            trusted: false,
        }
    }

    /// Power fails at the sender.
    pub fn reset_sender(&mut self) {
        self.note("sender starts again");
        self.generation += 1000;
        self.sender = new_sender(self.framing, self.generation, &self.logs, self.now());
        self.heard_down = Ear::new(self.framing);
        self.reconnect();
    }

    /// Power fails at the receiver: what was not synced is gone.
    pub fn reset_receiver(&mut self) {
        self.note("receiver starts again");
        self.staged.clear();
        self.sync_at = None;
        self.receiver = new_receiver(self.framing, self.now());
        self.heard_up = Ear::new(self.framing);
        self.reconnect();
    }

    /// A connection has two ends and ends for both; what was on its way is gone. A link knows nothing of that.
    fn reconnect(&mut self) {
        if self.framing == Framing::Link {
            return;
        }
        self.generation += 1;
        self.settle_disk();
        let now = self.now();
        self.sender = new_sender(self.framing, self.generation, &self.logs, now);
        self.receiver = new_receiver(self.framing, now);
        (self.heard_up, self.heard_down) = (Ear::new(self.framing), Ear::new(self.framing));
        (self.up, self.down) = (Wire::default(), Wire::default());
    }

    /// The connection breaks (nothing on a link).
    pub fn cut(&mut self) {
        self.note("connection cut");
        self.reconnect();
    }

    /// An older copy of the receiver's disk is put back.
    pub fn restore_receiver(&mut self, copy: BTreeMap<LogId, ModelMirror>) {
        self.mirrors = copy;
        self.acked.clear();
        self.staged.clear();
        self.reset_receiver();
        if self.framing == Framing::Link {
            self.reset_sender(); // what the old disk acknowledged may still be on the line
            (self.up, self.down) = (Wire::default(), Wire::default());
        }
    }

    pub fn may_be_written(&self, log: usize) -> bool {
        !self.logs[log].closed && !self.logs[log].retired
    }

    pub fn append(&mut self, log: usize, count: u16) {
        let slot = log % self.logs.len();
        let log = &mut self.logs[slot];
        if !log.closed && !log.retired {
            log.append(count);
            self.sender.grew(slot as u16, Offset::new(log.next));
        }
    }

    /// Lets the time go on, event by event.
    pub fn run(&mut self, us: u64) {
        let until = self.now_us + us;
        loop {
            self.step();
            let next = self.next_event();
            if next > until {
                break;
            }
            self.now_us = next.max(self.now_us + 1);
        }
        self.now_us = until;
        self.step();
    }

    fn next_event(&self) -> u64 {
        let arrivals = [&self.up, &self.down].map(|wire| wire.flying.front().map(|m| m.0));
        let timers = [
            self.sender.next_timeout(),
            self.receiver.next_timeout(),
            self.sync_at,
        ];
        arrivals
            .into_iter()
            .chain(timers)
            .flatten()
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Does all that is to be done now.
    fn step(&mut self) {
        if self.sync_at.is_some_and(|at| at <= self.now_us) {
            self.settle_disk();
        }
        while let Some(bytes) = self.up.due(self.now_us) {
            self.receiver_hears(&bytes);
        }
        while let Some(bytes) = self.down.due(self.now_us) {
            let now = self.now();
            let sender = &mut self.sender;
            self.heard_down
                .hear(&bytes, |kind, body| sender.handle_message(now, kind, body));
        }
        self.sender.handle_timeout(self.now());
        self.receiver.handle_timeout(self.now());
        self.sender_events();
        self.receiver_events();
        self.sender_says();
        self.receiver_says();
    }

    fn receiver_hears(&mut self, bytes: &[u8]) {
        let (ear, mut heard) = (&mut self.heard_up, Vec::new());
        let damaged = ear.hear(bytes, |kind, body| heard.push((kind, body.to_vec())));
        if let Some(kind) = damaged {
            self.receiver.damaged(self.now(), kind);
        }
        for (kind, body) in heard {
            match self.receiver.handle_message(self.now(), kind, &body) {
                Received::Nothing => {}
                Received::Hello(hello) => {
                    self.settle_disk();
                    hello.logs.iter().for_each(|offer| self.answer(&offer));
                    self.receiver.welcome();
                }
                Received::Offer(offer) => self.answer(&offer),
                Received::Store(store) => self.stage(Staged {
                    slot: store.slot,
                    first: store.first.get(),
                    base_time: store.base_time,
                    frames: store.frames.to_vec(),
                    gap: None,
                }),
                Received::Gap(gap) => self.stage(Staged {
                    slot: gap.slot,
                    first: gap.gap.from.get(),
                    base_time: Micros::UNKNOWN,
                    frames: Vec::new(),
                    gap: Some(gap.gap),
                }),
            }
        }
    }

    fn answer(&mut self, offer: &Offer<'_>) {
        let mirror = self.mirrors.entry(offer.log).or_default();
        let verdict = Verdict::Resume {
            next: Offset::new(mirror.next),
            crc_below: mirror.crc_below,
        };
        self.receiver.answer(offer, verdict);
    }

    fn stage(&mut self, staged: Staged) {
        self.staged.push_back(staged);
        self.sync_at.get_or_insert(self.now_us + self.sync_us);
    }

    /// The disk does not take what is handed to it.
    pub fn fail_disk(&mut self) {
        self.sync_at = None;
        self.staged.clear();
        (0..SLOTS as u16).for_each(|slot| self.receiver.unstored(slot));
    }

    fn settle_disk(&mut self) {
        self.sync_at = None;
        while let Some(staged) = self.staged.pop_front() {
            let id = self.logs[usize::from(staged.slot)].id;
            let mirror = self.mirrors.entry(id).or_default();
            match staged.gap {
                Some(gap) => {
                    assert_eq!(gap.from.get(), mirror.next);
                    mirror.gaps.push(gap);
                    mirror.next = gap.to.get();
                    mirror.crc_below = None;
                }
                None => mirror.append(&id, &staged),
            }
            self.receiver.stored(staged.slot, Offset::new(mirror.next));
        }
    }

    fn sender_events(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Check { slot, next } => {
                    let ours = self.logs[usize::from(slot)].crc_below(next.get());
                    self.sender
                        .checked(slot, ours.map_or(Below::Unknown, Below::Frame));
                }
                SenderEvent::Released { slot, next } => {
                    let log = &self.logs[usize::from(slot)];
                    let stored = self.mirrors.get(&log.id).map_or(0, |mirror| mirror.next);
                    assert!(next.get() <= stored, "released {next}, stored {stored}");
                }
                SenderEvent::Diverged { slot } => self.open_new_log(slot),
                SenderEvent::Closed { slot } => {
                    self.closed += 1;
                    assert!(self.mirrors[&self.logs[usize::from(slot)].id].ended);
                    self.note(&format!("slot {slot} is done"));
                }
                SenderEvent::Refused { slot, code } => panic!("slot {slot} refused: {code}"),
                SenderEvent::Ended { code } => {
                    self.note(&format!("session ended: {code}"));
                    assert!(self.framing == Framing::Stream && code == Code::BUSY);
                    return self.reconnect();
                }
                SenderEvent::Welcomed { .. } => {}
            }
        }
    }

    fn open_new_log(&mut self, slot: u16) {
        self.note(&format!("slot {slot} diverged"));
        self.diverged += 1;
        self.logs[usize::from(slot)].retired = true;
        self.sender.withdraw(slot);
        let new = self.logs.len();
        if new < SLOTS {
            self.logs
                .push(ModelLog::new(new as u8 + 100, self.logs[0].form));
            self.logs[new].append(1);
            self.sender.offer(new as u16);
        }
    }

    fn receiver_events(&mut self) {
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Closed { slot, end } => {
                    let id = self.logs[usize::from(slot)].id;
                    self.mirrors.entry(id).or_default().ended = true;
                    self.receiver.stored(slot, end);
                }
                ReceiverEvent::Ended { .. } => {}
            }
        }
    }

    fn sender_says(&mut self) {
        let mut body = [0; BODY_MAX];
        loop {
            let now = self.now();
            let logs = &self.logs;
            let offers = |slot: u16| logs.get(usize::from(slot)).map(|log| log.offer(slot));
            if let Some(said) = self.sender.poll_transmit(now, offers, &mut body) {
                self.say("S", said.kind, &body[..said.len]);
            } else if !self.sender_sends_data() {
                return;
            }
        }
    }

    fn sender_sends_data(&mut self) -> bool {
        let Some(want) = self.sender.want() else {
            return false;
        };
        let log = &self.logs[usize::from(want.slot)];
        if want.from.get() < log.oldest {
            let gap = Gap {
                from: want.from,
                to: Offset::new(log.oldest),
                lost: log.oldest - want.from.get(),
                cause: Cause::Evicted,
                when: Micros::UNKNOWN,
                when_last: Micros::UNKNOWN,
            };
            self.sender.gap(&want, gap);
            return true;
        }
        let (run, frames) = log.read(want.from.get(), want.bytes_max);
        match self.sender.data(self.now(), &want, run) {
            Sent::Data { head, head_len } => {
                let body = [&head[..head_len], &frames].concat();
                self.say("S", message::kind::DATA, &body);
            }
            Sent::NotNow => self.sender_events(),
        }
        true
    }

    fn receiver_says(&mut self) {
        let mut body = [0; BODY_MAX];
        while let Some(said) = self.receiver.poll_transmit(self.now(), &mut body) {
            self.say("R", said.kind, &body[..said.len]);
        }
    }

    fn say(&mut self, who: &str, kind: u8, body: &[u8]) {
        let message = Message::parse(kind, body).expect("what is said is well formed");
        self.check_custody(&message);
        self.said += 1;
        let line = self.describe(who, &message);
        self.note(&line);
        let mut bytes = vec![0; link::encoded_len_max(body.len()) + 8];
        let len = match self.framing {
            Framing::Link => link::encode(kind, &[body], &mut bytes),
            Framing::Stream => stream::encode(kind, &[body], &mut bytes),
        };
        bytes.truncate(len.expect("room"));
        let wire = if who == "S" {
            &mut self.up
        } else {
            &mut self.down
        };
        wire.send(self.now_us + LATENCY_US, bytes);
    }

    /// Nobody ever claims custody of what is not stored.
    fn check_custody(&mut self, message: &Message<'_>) {
        let claims: Vec<(u16, u64)> = match message {
            Message::Ack(ack) => vec![(ack.slot, ack.next.get())],
            Message::Welcome(welcome) => (welcome.logs.iter())
                .filter_map(|answer| match answer.verdict {
                    Verdict::Resume { next, .. } => Some((answer.slot, next.get())),
                    Verdict::Refused { .. } => None,
                })
                .collect(),
            _ => return,
        };
        for (slot, next) in claims {
            let id = self.logs[usize::from(slot)].id;
            let stored = self.mirrors.get(&id).map_or(0, |mirror| mirror.next);
            assert!(next <= stored, "claims {next}, stored {stored}");
            let acked = self.acked.entry(id).or_default();
            *acked = next.max(*acked);
        }
    }

    fn describe(&self, who: &str, message: &Message<'_>) -> String {
        let mut text = format!("{who} ");
        let said = match message {
            Message::Hello(hello) => {
                let logs = hello
                    .logs
                    .iter()
                    .map(|o| format!(" {}:{}..{}", o.slot, o.oldest, o.next));
                write!(
                    text,
                    "Hello g{}{}",
                    hello.intro.generation,
                    logs.collect::<String>()
                )
            }
            Message::Welcome(welcome) => {
                let logs = welcome
                    .logs
                    .iter()
                    .map(|a| format!(" {}", describe_verdict(&a)));
                write!(
                    text,
                    "Welcome g{}{}",
                    welcome.terms.generation,
                    logs.collect::<String>()
                )
            }
            Message::Data(data) => write!(
                text,
                "Data {}:{} ({} bytes{})",
                data.slot,
                data.first,
                data.frames.len(),
                data.base_time.map_or("", |_| ", and the time"),
            ),
            Message::Ack(ack) => write!(text, "Ack {}:{}", ack.slot, ack.next),
            Message::Gap(gap) => write!(text, "Gap {}:{}..{}", gap.slot, gap.gap.from, gap.gap.to),
            Message::Rewind(rewind) => write!(text, "Rewind {}:{}", rewind.slot, rewind.next),
            Message::Close(close) => write!(text, "Close {}:{}", close.slot, close.end),
            Message::Ping(ping) => write!(text, "{}", if ping.reply { "Pong" } else { "Ping" }),
            Message::Bye(bye) => write!(text, "Bye {}", bye.reason),
            Message::Offer(offer) => write!(
                text,
                "Offer {}:{}..{}",
                offer.slot, offer.oldest, offer.next
            ),
            Message::Answer(answer) => write!(text, "Answer {}", describe_verdict(answer)),
            Message::Unknown(kind) => write!(text, "type {kind}"),
        };
        said.expect("a string takes everything");
        text
    }

    pub fn note(&mut self, line: &str) {
        let (s, ms) = (self.now_us / 1_000_000, self.now_us / 1000 % 1000);
        writeln!(self.transcript, "{s:3}.{ms:03} {line}").expect("a string takes everything");
    }

    /// Every log that is still offered has arrived: each record once, as written, and gaps only for what is gone.
    pub fn check_arrival(&self) {
        for log in self.logs.iter().filter(|log| !log.retired) {
            let mirror = self
                .mirrors
                .get(&log.id)
                .unwrap_or_else(|| panic!("{} never arrived", log.id));
            assert_eq!(mirror.next, log.next, "all of {} has arrived", log.id);
            for frame in log.frames.iter().filter(|f| f.crc.is_some()) {
                let gap_covers = mirror
                    .gaps
                    .iter()
                    .any(|g| g.from.get() <= frame.first && frame.next <= g.to.get());
                if !gap_covers {
                    check_records(log, frame, mirror);
                }
            }
        }
    }
}

fn check_records(log: &ModelLog, held: &ModelFrame, mirror: &ModelMirror) {
    let (frame, _) =
        Frame::parse(&held.bytes, &log.id, Some(Offset::new(held.first))).expect("ours");
    let mut time = held.base_time.get();
    for (offset, entry) in frame.entries() {
        let Entry::Record(record) = entry else {
            panic!("only records are written")
        };
        time += record.time.expect("each has one") * 1000;
        let (value, at) = &mirror.records[&offset.get()];
        assert_eq!(value, record.value, "record {offset}");
        if log.form == Form::Compact {
            assert_eq!(*at, time, "time of record {offset}");
        }
    }
}

fn describe_verdict(answer: &message::Answer<'_>) -> String {
    match answer.verdict {
        Verdict::Resume { next, .. } => format!("{}:from {next}", answer.slot),
        Verdict::Refused { code, .. } => format!("{}:refused ({code})", answer.slot),
    }
}

fn new_sender(
    framing: Framing,
    generation: u64,
    logs: &[ModelLog],
    now: Now,
) -> Sender<Vec<SenderSlot>, &'static str> {
    let settings = SenderSettings {
        identity: "boiler-1",
        boot: generation,
        generation,
        framing,
        body_bytes_max: BODY_MAX,
        idle_timeout_us: IDLE_US,
    };
    let mut sender = Sender::new(settings, vec![SenderSlot::default(); SLOTS], now);
    let offered = logs.iter().enumerate().filter(|(_, log)| !log.retired);
    offered.for_each(|(slot, _)| assert!(sender.offer(slot as u16)));
    sender
}

fn new_receiver(framing: Framing, now: Now) -> Receiver<Vec<ReceiverSlot>> {
    let settings = ReceiverSettings {
        boot: 7,
        framing,
        body_bytes_max: BODY_MAX,
        credit: 1500,
        idle_timeout_us: IDLE_US,
        features: 0,
    };
    Receiver::new(settings, vec![ReceiverSlot::default(); SLOTS], now)
}
