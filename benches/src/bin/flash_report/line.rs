//! The serial link, in virtual time: a node's log, the sender and the receiver of the custody protocol, and a line of 115,200 baud that flips bits.
//!
//! ```text
//! log ─ sender ─ COBS ─► 10 bits a byte, each bit wrong by chance ─► decoder ─ receiver ─ disk (one sync after another)
//!              ◄──────── the same line the other way ◄────────────── acknowledgements
//! ```
//! A byte whose start or stop bit is wrong arrives as a wrong byte: as bad as any other.

use std::collections::VecDeque;

use sedge_core::Offset;
use sedge_core::custody::message::{Message, Offer, Verdict, kind};
use sedge_core::custody::{
    Below, Framing, Now, Received, Receiver, ReceiverSettings, ReceiverSlot, Run, Sender,
    SenderEvent, SenderSettings, SenderSlot, Sent, Stretch, Want,
};
use sedge_core::framing::link;
use sedge_core::read::Reader;
use sedge_tests::random::Random;

use crate::node::{Node, Reading};
use crate::nor::Chip;
use crate::row::Row;

/// The row about the link.
pub(crate) fn row() -> Row {
    let clean = Line::new(0.0).run();
    let bad = Line::new(1e-5).run();
    let recovery = Line::new(0.0).hit_once();
    Row {
        what: format!(
            "UART link, {BAUD} 8N1, bodies up to {BODY_BYTES} B: overhead a message beside COBS' 1 in 254; goodput clean / at bit error rate 1e-5; recovery"
        ),
        must: "≤ 12 B; ≥ 95 % / ≥ 85 % of line rate; 1 round trip".into(),
        seen: format!(
            "{} B, and {} B where a session begins or something is sent again; {:.1} % / {:.1} % ({} of {} messages damaged); {} round trip ({} ms)",
            clean.overhead,
            bad.overhead_begun,
            clean.goodput(),
            bad.goodput(),
            bad.damaged,
            bad.messages,
            recovery.rewinds,
            recovery.millis,
        ),
        anchor: "none does it".into(),
        met: clean.overhead <= 12
            && clean.goodput() >= 95.0
            && bad.goodput() >= 85.0
            && recovery.rewinds == 1,
    }
}

/// What came through.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    /// Bytes of frames that were acknowledged.
    payload: u64,
    micros: u64,
    /// Largest overhead on the line, beside the stuffing, of a Data message that goes on from the one before.
    overhead: u64,
    /// Of one that says its base time.
    overhead_begun: u64,
    messages: u64,
    damaged: u64,
}

impl Passed {
    /// Percent of what the line can carry.
    fn goodput(&self) -> f64 {
        let line_bytes = self.micros as f64 / BYTE_US;
        100.0 * self.payload as f64 / line_bytes
    }
}

/// What a damaged message costs.
struct Recovery {
    /// Questions of the receiver, each answered by the frames from there on: round trips.
    rewinds: u64,
    millis: u64,
}

/// Both ends and the line between them.
struct Line {
    node: Node<4, 4096>,
    reader: Reader,
    sender: Sender<[SenderSlot; 1], &'static str>,
    receiver: Receiver<[ReceiverSlot; 1]>,
    up: Wire,
    down: Wire,
    now_us: u64,
    /// What the disk is syncing: until when, and up to which offset.
    syncing: Option<(u64, Offset)>,
    staged: Option<Offset>,
    stored: Offset,
    /// Bytes of frames below each offset that was stored.
    accepted_bytes: u64,
    passed: Passed,
    rewinds: u64,
}

/// One direction.
struct Wire {
    /// When the last byte that was given to it has left.
    free_at: f64,
    flying: VecDeque<(u64, Vec<u8>)>,
    decoder: link::Decoder<Vec<u8>>,
    error_rate: f64,
    random: Random,
    sent: u64,
    hits: u64,
    hit_next: bool,
}

impl Wire {
    fn new(error_rate: f64, seed: u64) -> Self {
        Self {
            free_at: 0.0,
            flying: VecDeque::new(),
            decoder: link::Decoder::new(vec![0; link::decoded_len(BODY_BYTES)]),
            error_rate,
            random: Random::new(seed),
            sent: 0,
            hits: 0,
            hit_next: false,
        }
    }

    /// The whole message arrives when its last byte does.
    fn send(&mut self, now_us: u64, kind: u8, body: &[&[u8]]) -> usize {
        let len: usize = body.iter().map(|part| part.len()).sum();
        let mut line = vec![0; link::encoded_len_max(len)];
        let encoded = link::encode(kind, body, &mut line).expect("the line has room");
        line.truncate(encoded);
        self.sent += 1;
        if self.damage(&mut line) {
            self.hits += 1;
        }
        self.free_at = self.free_at.max(now_us as f64) + encoded as f64 * BYTE_US;
        self.flying
            .push_back((self.free_at as u64 + LATENCY_US, line));
        encoded
    }

    fn damage(&mut self, line: &mut [u8]) -> bool {
        let mut hit = std::mem::take(&mut self.hit_next);
        if hit {
            let middle = line.len() / 2;
            line[middle] ^= 0x10;
        }
        let chance = (self.error_rate * 1e9) as u64;
        for byte in line {
            for bit in 0..10 {
                if chance > 0 && self.random.below(1_000_000_000) < chance {
                    *byte ^= 1 << (bit % 8);
                    hit = true;
                }
            }
        }
        hit
    }

    fn is_idle(&self, now_us: u64) -> bool {
        self.free_at <= now_us as f64 + QUEUE_US
    }

    fn heard(&mut self, now_us: u64) -> Vec<(u8, Vec<u8>)> {
        let mut heard = Vec::new();
        while self.flying.front().is_some_and(|(at, _)| *at <= now_us) {
            let (_, bytes) = self.flying.pop_front().expect("it was there");
            let mut bytes = &bytes[..];
            while let Some(packet) = self.decoder.advance(&mut bytes) {
                heard.push((packet.kind, packet.body.to_vec()));
            }
        }
        heard
    }
}

impl Line {
    fn new(error_rate: f64) -> Self {
        let mut node = Node::boot(Chip::<4, 4096>::blank(64, 1));
        node.fill(60, &[READING]);
        let now = Now::default();
        let sender_settings = SenderSettings {
            identity: "node",
            boot: 1,
            generation: 1,
            framing: Framing::Link,
            body_bytes_max: BODY_BYTES,
            idle_timeout_us: IDLE_US,
        };
        let receiver_settings = ReceiverSettings {
            boot: 1,
            framing: Framing::Link,
            body_bytes_max: BODY_BYTES,
            credit: CREDIT,
            idle_timeout_us: IDLE_US,
            features: 0,
        };
        let mut sender = Sender::new(sender_settings, [SenderSlot::default()], now);
        sender.offer(0);
        Self {
            reader: Reader::new(node.log.log_id(), *node.log.geometry(), node.log.oldest()),
            node,
            sender,
            receiver: Receiver::new(receiver_settings, [ReceiverSlot::default()], now),
            up: Wire::new(error_rate, 1),
            down: Wire::new(error_rate, 2),
            now_us: 0,
            syncing: None,
            staged: None,
            stored: Offset::ZERO,
            accepted_bytes: 0,
            passed: Passed::default(),
            rewinds: 0,
        }
    }

    /// Until all of the log has passed, over and over: the line is busy for [`RUN_US`].
    fn run(mut self) -> Passed {
        while self.now_us < RUN_US {
            self.step();
            if self.node.log.next().since(self.stored) < 400 {
                self.node.rest();
                let kept = self.node.append(&[READING]).expect("a healthy chip");
                self.sender.grew(0, kept.next);
            }
        }
        self.passed.payload = self.accepted_bytes;
        self.passed.micros = self.now_us;
        self.passed.messages = self.up.sent;
        self.passed.damaged = self.up.hits;
        self.passed
    }

    /// Damages one message in the middle of the flow: how often the receiver had to ask, and how long it took until frames were accepted again.
    fn hit_once(mut self) -> Recovery {
        while self.now_us < 2_000_000 {
            self.step();
        }
        self.up.hit_next = true;
        let (sent, rewinds) = (self.up.sent, self.rewinds);
        while self.up.sent == sent {
            self.step();
        }
        let lost_at = self.up.flying.back().map_or(self.now_us, |(at, _)| *at);
        while self.now_us <= lost_at {
            self.step();
        }
        let before = self.accepted_bytes;
        while self.accepted_bytes == before {
            self.step();
        }
        Recovery {
            rewinds: self.rewinds - rewinds,
            millis: (self.now_us - lost_at) / 1000,
        }
    }

    fn now(&self) -> Now {
        Now {
            uptime_us: self.now_us,
            unix_us: Some(1_790_000_000_000_000 + self.now_us as i64),
            trusted: true,
        }
    }

    fn step(&mut self) {
        self.now_us += STEP_US;
        let now = self.now();
        if let Some((at, next)) = self.syncing
            && at <= self.now_us
        {
            self.stored = next;
            self.receiver.stored(0, next);
            self.syncing = None;
        }
        if self.syncing.is_none()
            && let Some(next) = self.staged.take()
        {
            self.syncing = Some((self.now_us + SYNC_US, next));
        }
        for (kind, body) in self.up.heard(self.now_us) {
            self.receiver_hears(kind, &body);
        }
        if let Some(kind) = self.up.decoder.take_damaged() {
            self.receiver.damaged(now, kind);
        }
        for (kind, body) in self.down.heard(self.now_us) {
            self.sender.handle_message(now, kind, &body);
        }
        self.sender.handle_timeout(now);
        self.receiver.handle_timeout(now);
        self.events();
        self.receiver_says();
        if self.up.is_idle(self.now_us) {
            self.sender_says();
        }
    }

    fn receiver_hears(&mut self, kind: u8, body: &[u8]) {
        let now = self.now();
        let offered = match self.receiver.handle_message(now, kind, body) {
            Received::Hello(hello) => {
                let offers: Vec<Offer<'_>> = hello.logs.iter().collect();
                for offer in &offers {
                    let verdict = resume(self.stored);
                    self.receiver.answer(offer, verdict);
                }
                self.receiver.welcome();
                return;
            }
            Received::Offer(offer) => offer,
            Received::Store(store) => {
                self.accepted_bytes += store.frames.len() as u64;
                self.staged = Some(store.next);
                return;
            }
            Received::Gap(gap) => {
                self.staged = Some(gap.gap.to);
                return;
            }
            Received::Nothing => return,
        };
        self.receiver.answer(&offered, resume(self.stored));
    }

    fn events(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            if let SenderEvent::Check { slot, .. } = event {
                self.sender.checked(slot, Below::Unknown);
            }
            if let SenderEvent::Released { next, .. } = event {
                self.node.log.set_cursor(UPLINK, next).expect("one uplink");
            }
        }
        while self.receiver.poll_event().is_some() {}
    }

    fn receiver_says(&mut self) {
        let now = self.now();
        let mut body = [0; BODY_BYTES];
        while let Some(said) = self.receiver.poll_transmit(now, &mut body) {
            self.rewinds += u64::from(said.kind == kind::REWIND);
            self.down.send(self.now_us, said.kind, &[&body[..said.len]]);
        }
    }

    fn sender_says(&mut self) {
        let now = self.now();
        let mut body = [0; BODY_BYTES];
        let log = &self.node.log;
        let offer = |slot| Some(log.offer(slot));
        if let Some(said) = self.sender.poll_transmit(now, offer, &mut body) {
            self.up.send(self.now_us, said.kind, &[&body[..said.len]]);
            return;
        }
        let Some(want) = self.sender.want() else {
            return;
        };
        let mut frames = [0; BODY_BYTES];
        match self
            .node
            .log
            .stretch(&mut self.reader, UPLINK, &want, &mut frames)
        {
            Some(Stretch::Gap(gap)) => self.sender.gap(&want, gap),
            Some(Stretch::Frames(run)) => self.send_data(&want, run, &frames),
            None => {}
        }
    }

    fn send_data(&mut self, want: &Want, run: Run, frames: &[u8]) {
        let now = self.now();
        let Sent::Data { head, head_len } = self.sender.data(now, want, run) else {
            return;
        };
        let body = [&head[..head_len], &frames[..run.len]];
        let encoded = self.up.send(self.now_us, kind::DATA, &body);
        let stuffing = (1 + head_len + run.len + 4) / 254;
        let overhead = (encoded - run.len - stuffing) as u64;
        let Ok(Message::Data(said)) = Message::parse(kind::DATA, &head[..head_len]) else {
            unreachable!("the head of a Data message")
        };
        let largest = match said.base_time {
            None => &mut self.passed.overhead,
            Some(_) => &mut self.passed.overhead_begun,
        };
        *largest = overhead.max(*largest);
    }
}

fn resume(next: Offset) -> Verdict<'static> {
    Verdict::Resume {
        next,
        crc_below: None,
    }
}

const BAUD: u32 = 115_200;
/// A start bit, eight bits, a stop bit.
const BYTE_US: f64 = 10.0 * 1e6 / BAUD as f64;
const BODY_BYTES: usize = 512;
const UPLINK: u32 = 7;
const CREDIT: u32 = 4096;
/// Of drivers and schedulers at either end.
const LATENCY_US: u64 = 1_000;
/// What a gateway's disk takes to sync.
const SYNC_US: u64 = 5_000;
const STEP_US: u64 = 200;
/// The next message is prepared while the last bytes of the one before leave a UART's buffer.
const QUEUE_US: f64 = 1_000.0;
const IDLE_US: u64 = 30_000_000;
const RUN_US: u64 = 600_000_000;
const READING: Reading<'static> = Reading {
    key: Some(b"t-07"),
    value: b"temperature 21.5 C, fine",
};
