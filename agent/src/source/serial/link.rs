//! The custody protocol with firmware: this end takes custody of the device's log and puts it into the gateway's.
//!
//! ```text
//! port ─bytes→ Decoder ─message→ Receiver ─Store→ units (records + device cursor) ─stage→ ticket
//!      ←Ack──                    Receiver ←stored──────────────────────────── settled ◄───┘
//! ```
//! Each frame of the device becomes one unit: its records under the device's key, and the device cursor behind them, durable
//! together or not at all. So where the device goes on is always exactly behind what the log holds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sedge_core::custody::message::{Code, Hello, Offer, SlotGap, Verdict};
use sedge_core::custody::{
    Framing, Now, Received, Receiver, ReceiverEvent, ReceiverSettings, ReceiverSlot, Store,
};
use sedge_core::framing::link::{self, Decoder};
use sedge_core::{LogId, Micros, Offset};
use sedge_store::{Clock, system_clock, world};
use tokio::time::Instant;

use crate::ingest::{Ingest, Intake, Receipt, Reserved};
use crate::shutdown::Shutdown;
use crate::telemetry::Source;

use super::port::{Gone, Port, Writer};
use super::unit::{DeviceFrame, Logbook};

/// This end of the conversation, over all openings of the port.
pub(super) struct Link {
    book: Logbook,
    ingest: Ingest,
    intake: Intake,
    telemetry: Arc<Source>,
    /// Staged, in order, not yet durable.
    unsettled: VecDeque<Unsettled>,
    logs: Vec<Option<DeviceLog>>,
    started: Instant,
    clock: Clock,
    boot: u64,
}

/// A log that the device has offered, by its slot.
#[derive(Clone, Debug)]
struct DeviceLog {
    id: LogId,
    lane: u16,
}

/// What the log was given and has not settled.
struct Unsettled {
    slot: u16,
    next: Offset,
    receipts: Vec<Receipt>,
    events: u64,
    /// Memory held until then.
    _reserved: Reserved,
}

/// One opening of the port.
struct Session {
    receiver: Receiver<Vec<ReceiverSlot>>,
    decoder: Decoder<Vec<u8>>,
    damaged: u64,
    hellos: u64,
    /// To be written: encoded messages.
    outbox: Vec<u8>,
}

impl Link {
    pub(super) fn new(ingest: Ingest, intake: Intake, telemetry: Arc<Source>) -> Self {
        Self {
            book: Logbook::default(),
            ingest,
            intake,
            telemetry,
            unsettled: VecDeque::new(),
            logs: Vec::new(),
            started: Instant::now(),
            clock: system_clock(),
            boot: boot_id(),
        }
    }

    /// Talks until the port is gone or the agent stops.
    pub(super) async fn converse(&mut self, port: Port, shutdown: &mut Shutdown) -> Gone {
        let Port {
            mut reader,
            mut writer,
        } = port;
        let mut session = Session::new(self.settings(), self.now());
        let mut buffer = vec![0; READ_BYTES];
        loop {
            session.say(self.now());
            let next_settled = self.next_settled();
            let wake = session
                .receiver
                .next_timeout()
                .map(|us| self.started + Duration::from_micros(us));
            // What comes seldom is asked for first, and bytes, which may come without an end, last.
            tokio::select! {
                biased;
                () = shutdown.requested() => return self.leave(session, writer).await,
                () = next_settled => self.settled(&mut session.receiver),
                written = writer.write(&session.outbox), if !session.outbox.is_empty() => match written {
                    Ok(len) => drop(session.outbox.drain(..len)),
                    Err(gone) => return gone,
                },
                // As long as there is no place for what it would say, it is not due.
                () = sleep_until(wake), if session.outbox.len() < OUTBOX_BYTES_MAX => {
                    session.receiver.handle_timeout(self.now());
                }
                heard = reader.read(&mut buffer) => {
                    let outcome = match heard {
                        Ok(bytes) => tokio::select! {
                            biased;
                            () = shutdown.requested() => return self.leave(session, writer).await,
                            outcome = self.hear(&mut session, bytes) => outcome,
                        },
                        Err(gone) => Err(gone),
                    };
                    if let Err(gone) = outcome {
                        return gone;
                    }
                }
            }
        }
    }

    /// All messages in `bytes`, one after the other.
    async fn hear(&mut self, session: &mut Session, mut bytes: &[u8]) -> Result<(), Gone> {
        let Session {
            receiver,
            decoder,
            hellos,
            ..
        } = session;
        while let Some(packet) = decoder.advance(&mut bytes) {
            let now = self.now();
            match receiver.handle_message(now, packet.kind, packet.body) {
                Received::Nothing => {}
                Received::Hello(hello) => {
                    *hellos += 1;
                    if *hellos > 1 {
                        self.telemetry.incident("link-restart");
                    }
                    self.hello(receiver, &hello, now).await;
                }
                Received::Offer(offer) => self.answer(receiver, &offer),
                Received::Store(store) => self.store(receiver, &store).await?,
                Received::Gap(gap) => self.gap(gap).await?,
            }
            while let Some(event) = receiver.poll_event() {
                if let ReceiverEvent::Closed { slot, end } = event {
                    receiver.stored(slot, end); // no mirror here, so no end to be written
                }
            }
        }
        self.notice_damage(session);
        Ok(())
    }

    fn notice_damage(&self, session: &mut Session) {
        let damaged = session.decoder.damaged();
        (session.damaged..damaged).for_each(|_| self.telemetry.incident("damaged-message"));
        session.damaged = damaged;
        if let Some(kind) = session.decoder.take_damaged() {
            session.receiver.damaged(self.now(), kind);
        }
    }

    /// A device begins anew. Its cursor is asked for only when everything that was staged of it is durable: what is still on its way
    /// would otherwise be sent, and stored, a second time.
    async fn hello(
        &mut self,
        receiver: &mut Receiver<Vec<ReceiverSlot>>,
        hello: &Hello<'_>,
        heard: Now,
    ) {
        while !self.unsettled.is_empty() {
            self.next_settled().await;
            self.settled(receiver);
        }
        self.logs.clear();
        self.book
            .meet(hello.intro.identity, &hello.intro.clock, heard);
        self.telemetry.clients(1);
        // A name may hold anything; in a log line it must not begin another one.
        let name = hello.intro.identity.escape_debug();
        self.telemetry.up(format!("device {name}"));
        for offer in &hello.logs {
            self.answer(receiver, &offer);
        }
        receiver.welcome();
    }

    fn answer(&mut self, receiver: &mut Receiver<Vec<ReceiverSlot>>, offer: &Offer<'_>) {
        let slot = usize::from(offer.slot);
        if slot >= LOGS_MAX {
            return;
        }
        let places = self.logs.len().max(slot + 1);
        self.logs.resize(places, None);
        let slots = receiver.slots_mut();
        slots.resize(slots.len().max(places), ReceiverSlot::default());
        let id = offer.log;
        let lane = self.book.lane(&self.ingest, self.telemetry.stream());
        self.logs[slot] = Some(DeviceLog { id, lane });
        receiver.answer(offer, self.verdict(&id));
    }

    /// Where the device goes on. The lane may have been another one once, so all are asked.
    fn verdict(&self, id: &LogId) -> Verdict<'static> {
        let known = self
            .intake
            .lanes()
            .filter_map(|lane| self.intake.claims(lane).device(id.as_bytes()));
        let stood = known.max_by_key(|stood| stood.next);
        Verdict::Resume {
            next: stood.map_or(Offset::ZERO, |stood| Offset::new(stood.next)),
            crc_below: stood.and_then(|stood| stood.crc_below),
        }
    }

    async fn store(
        &mut self,
        receiver: &mut Receiver<Vec<ReceiverSlot>>,
        store: &Store<'_>,
    ) -> Result<(), Gone> {
        let Some(log) = self.logs.get(usize::from(store.slot)).cloned().flatten() else {
            return Ok(());
        };
        let reserved = self.reserve(receiver, store.frames.len()).await;
        let now = self.now();
        let (mut rest, mut next, mut base_time, mut events) =
            (store.frames, store.first, store.base_time, 0);
        while let Some(frame) = DeviceFrame::take(&mut rest, &log.id, next, base_time) {
            (next, base_time) = (frame.next, frame.base_time_after);
            let lane = (&mut self.intake, log.lane);
            let (count, bytes) = self.book.put(lane, &log.id, &frame, now, &self.telemetry);
            self.telemetry.accepted(count, bytes);
            events += count;
        }
        self.stage(store.slot, store.next, events, reserved).await
    }

    async fn gap(&mut self, gap: SlotGap) -> Result<(), Gone> {
        let Some(log) = self.logs.get(usize::from(gap.slot)).cloned().flatten() else {
            return Ok(());
        };
        self.book
            .put_gap(&mut self.intake, log.lane, &log.id, &gap.gap);
        self.stage(gap.slot, gap.gap.to, 0, Reserved::nothing())
            .await
    }

    async fn stage(
        &mut self,
        slot: u16,
        next: Offset,
        events: u64,
        reserved: Reserved,
    ) -> Result<(), Gone> {
        let mut receipts = Vec::new();
        let staged = self.intake.stage_all(&mut receipts).await;
        // What a log did take is waited for, and acknowledged by nobody: the device gives all of it again.
        let (next, events) = match staged {
            Ok(()) => (next, events),
            Err(_) => {
                self.intake.drop_unstaged();
                (Offset::ZERO, 0)
            }
        };
        self.unsettled.push_back(Unsettled {
            slot,
            next,
            receipts,
            events,
            _reserved: reserved,
        });
        staged.map_err(|_| Gone::LogClosed)
    }

    /// Memory for what was received. What this device holds itself is given back meanwhile, as it settles.
    async fn reserve(
        &mut self,
        receiver: &mut Receiver<Vec<ReceiverSlot>>,
        bytes: usize,
    ) -> Reserved {
        let ingest = self.ingest.clone();
        let mut reserved = std::pin::pin!(ingest.budget().reserve(bytes, bytes));
        loop {
            tokio::select! {
                biased;
                reserved = &mut reserved => return reserved,
                () = self.next_settled() => self.settled(receiver),
            }
        }
    }

    fn next_settled(&self) -> impl Future<Output = ()> + Send + 'static {
        let oldest = self.unsettled.front();
        self.intake
            .next_settled(oldest.map(|first| &*first.receipts))
    }

    /// Acknowledges what is durable by now.
    fn settled(&mut self, receiver: &mut Receiver<Vec<ReceiverSlot>>) {
        while let Some(first) = self.unsettled.front() {
            if !self.intake.are_settled(&first.receipts) {
                break;
            }
            receiver.stored(first.slot, first.next);
            self.telemetry.settled(first.events);
            self.unsettled.pop_front();
        }
    }

    /// Takes nothing more, acknowledges what becomes durable in short time, says Bye.
    async fn leave(&mut self, mut session: Session, mut writer: Writer) -> Gone {
        let last_words = async {
            while !self.unsettled.is_empty() {
                self.next_settled().await;
                self.settled(&mut session.receiver);
            }
            session.say(self.now());
            session
                .receiver
                .leave(Code::SHUTTING_DOWN, "the gateway stops");
            session.say(self.now());
            while !session.outbox.is_empty() {
                let Ok(len) = writer.write(&session.outbox).await else {
                    break;
                };
                session.outbox.drain(..len);
            }
        };
        // A device that takes no bytes does not hold up the end.
        drop(tokio::time::timeout(LAST_WORDS, last_words).await);
        Gone::Shutdown
    }

    fn settings(&self) -> ReceiverSettings {
        ReceiverSettings {
            boot: self.boot,
            framing: Framing::Link,
            body_bytes_max: SAY_BYTES_MAX,
            credit: CREDIT_BYTES,
            idle_timeout_us: IDLE_TIMEOUT_US,
            features: 0,
        }
    }

    fn now(&self) -> Now {
        let unix_us = known_us((self.clock)());
        Now {
            uptime_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            unix_us,
            trusted: unix_us.is_some_and(|us| us >= PLAUSIBLE_US),
        }
    }
}

impl Session {
    fn new(settings: ReceiverSettings, now: Now) -> Self {
        Self {
            receiver: Receiver::new(settings, Vec::new(), now),
            decoder: Decoder::new(vec![0; link::decoded_len(HEAR_BYTES_MAX)]),
            damaged: 0,
            hellos: 0,
            outbox: Vec::new(),
        }
    }

    /// Puts all that the receiver has to say into the outbox.
    fn say(&mut self, now: Now) {
        let mut body = [0; SAY_BYTES_MAX];
        while self.outbox.len() < OUTBOX_BYTES_MAX
            && let Some(said) = self.receiver.poll_transmit(now, &mut body)
        {
            let at = self.outbox.len();
            self.outbox.resize(at + link::encoded_len_max(said.len), 0);
            let len = link::encode(said.kind, &[&body[..said.len]], &mut self.outbox[at..]);
            self.outbox
                .truncate(at + len.expect("encoded_len_max is enough"));
        }
    }
}

fn known_us(time: Micros) -> Option<i64> {
    time.is_known().then(|| time.get())
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// Names this start of the agent to the device.
fn boot_id() -> u64 {
    let mut bytes = [0; 8];
    let drawn = world::entropy(&mut bytes).map(|()| u64::from_le_bytes(bytes));
    drawn.unwrap_or_default()
}

const READ_BYTES: usize = 4096;
/// Longest body from a device: one frame of the compact form, whose payload is below 64 KiB, and its head.
const HEAR_BYTES_MAX: usize = (64 << 10) + 64;
/// Longest body to a device; also what a small device must be able to hold.
const SAY_BYTES_MAX: usize = 512;
/// Beyond this nothing more is said until the line has taken some of it.
const OUTBOX_BYTES_MAX: usize = 8 << 10;
/// What a device may have on its way: about a second and a half at 115,200 baud.
const CREDIT_BYTES: u32 = 16 << 10;
const IDLE_TIMEOUT_US: u64 = 30_000_000;
/// Logs of one device.
const LOGS_MAX: usize = 16;
const LAST_WORDS: Duration = Duration::from_secs(1);
/// 2025: a clock before it was not set since the machine started.
const PLAUSIBLE_US: i64 = 1_735_689_600_000_000;
