//! One connection of the forwarder: core's sender on one side, a socket and the logs on the other.
//!
//! The loop is: tell the machine what is new, do what it asks, say what it has to say, read ahead what it wants to send, wait.
//! Frames are read by a thread that may block, one piece at a time, while the piece before it leaves.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sedge_core::custody::message::{Code, Offer, feature};
use sedge_core::custody::{
    Below, Framing, Now, Run, Sender, SenderEvent, SenderSettings, SenderSlot, Sent, Want,
};
use sedge_core::planted::Fault;
use sedge_core::{Gap, LogId, Micros, Offset};
use sedge_store::watch;
use sedge_store::world::Blocking;
use sedge_store::{Pulse, READ_AGAIN_AFTER, ReadError, system_clock, world};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::found::{Found, trim};
use super::handle::{self, Handle};
use super::loss::{Follow, Loss};
use super::pace::Pace;
use super::report::{Facts, Reports};
use super::status::{self, Board};
use super::turns::Turns;
use super::{ForwardEvent, ForwardOptions, Log, Priority};
use crate::net::{Connection, Unsent};
use crate::packed::Packer;
use crate::stream::{Stream, StreamError, Turn};
use crate::trust::unix_s;
use crate::wire::{self, kind};

/// A running connection.
pub(super) struct Session<'a> {
    options: &'a ForwardOptions,
    pace: &'a mut Pace,
    /// When that lets the next piece go, or what could not be read is read again.
    paced: Option<Instant>,
    turns: Turns,
    packer: Packer,
    /// Whether the hub has said that it unpacks.
    unpacks: bool,
    reports: Reports,
    stream: Stream,
    /// How much of it the kernel may hold, and what that was set to.
    unsent: Option<Unsent>,
    unsent_bytes: u32,
    sender: Sender<Vec<SenderSlot>, String>,
    /// By slot number; a slot is never used for a second log.
    slots: Vec<Slot>,
    logs: watch::Receiver<Vec<Log>>,
    /// It has changed, or was not looked at yet.
    relisted: bool,
    events: mpsc::UnboundedSender<ForwardEvent>,
    board: Arc<Mutex<Board>>,
    pulse: Pulse,
    /// When the forwarder was made.
    started: Instant,
    has_rival: bool,
    /// Some log has grown.
    growth: Arc<Notify>,
    watchers: JoinSet<()>,
    reading: Option<(Want, Blocking<Result<Found, ReadError>>)>,
    /// When that began.
    reading_since: Instant,
    /// The last read brought nothing: wait for growth before the next.
    dry: bool,
    began: Instant,
    body: Vec<u8>,
    /// Received and sent, as far as it is counted.
    traffic: (u64, u64),
    /// What the hub said with its Bye.
    farewell: String,
}

/// What a session shares with the world around it.
pub(super) struct Outside {
    pub(super) logs: watch::Receiver<Vec<Log>>,
    pub(super) events: mpsc::UnboundedSender<ForwardEvent>,
    pub(super) board: Arc<Mutex<Board>>,
    pub(super) pulse: Pulse,
    /// When the forwarder was made.
    pub(super) started: Instant,
    /// Another gateway of this name took its place a while ago.
    pub(super) has_rival: bool,
}

/// A log in this session.
struct Slot {
    log: Log,
    listed: bool,
    closed: bool,
    loss: Loss,
    acked: Option<Offset>,
    offer: Description,
    /// When a refused log is offered again.
    again: Option<Instant>,
    /// When what could not be read is read again.
    unread: Option<Instant>,
    standing: Standing,
}

/// Whether a log's backlog is passed by live records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has yet to be seen how far the hub is behind.
    Unseen,
    /// The hub has said where it stands.
    Heard,
    /// So far that the owner was told. Nothing is sent until it has decided.
    Behind,
    /// It goes on.
    Settled,
}

/// What an Offer says about a log, read from disk before it is needed.
#[derive(Clone, Copy, Debug)]
struct Description {
    oldest: Offset,
    next: Offset,
    tail_crc: Option<u32>,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// We were told to stop.
    ShutDown,
    /// One of the two ended it, with a code of the protocol and what the hub said with it.
    Bye(Code, String),
    /// The disk does not give what the session begins with.
    Unread(String),
    /// The connection or the disk failed.
    Failed(String),
}

impl<'a> Session<'a> {
    pub(super) fn new(
        options: &'a ForwardOptions,
        pace: &'a mut Pace,
        connection: Connection,
        generation: u64,
        outside: Outside,
    ) -> std::io::Result<Self> {
        let Outside {
            logs,
            events,
            board,
            pulse,
            started,
            has_rival,
        } = outside;
        let began = Instant::now();
        let settings = SenderSettings {
            identity: options.identity.clone(),
            boot: std::process::id().into(),
            generation,
            framing: Framing::Stream,
            body_bytes_max: wire::MESSAGE_BYTES_MAX - 1,
            idle_timeout_us: IDLE_TIMEOUT.as_micros() as u64,
        };
        let unsent = connection.unsent();
        let mut session = Self {
            options,
            pace,
            paced: None,
            turns: Turns::default(),
            packer: Packer::default(),
            unpacks: false,
            reports: Reports::default(),
            unsent,
            unsent_bytes: 0,
            stream: Stream::new(connection, wire::MESSAGE_BYTES_MAX)?,
            sender: Sender::new(settings, Vec::new(), now(began)),
            slots: Vec::new(),
            logs,
            relisted: true,
            events,
            board,
            pulse,
            started,
            has_rival,
            growth: Arc::new(Notify::new()),
            watchers: JoinSet::new(),
            reading: None,
            reading_since: began,
            dry: false,
            began,
            body: vec![0; GREETING_BYTES],
            traffic: (0, 0),
            farewell: String::new(),
        };
        session.bound_unsent();
        Ok(session)
    }

    /// The kernel holds about half a piece, so that what is urgent waits for no more.
    fn bound_unsent(&mut self) {
        let bytes = (self.pace.piece_bytes() / 2).max(UNSENT_BYTES_MIN);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut self.unsent_bytes, bytes);
        if let Some(unsent) = self.unsent.as_ref().filter(|_| bytes != before) {
            unsent.bound(bytes);
        }
    }

    /// Sends until something ends it.
    pub(super) async fn run(mut self, shutdown: impl Future<Output = ()>) -> Ended {
        let mut shutdown = pin!(shutdown);
        loop {
            self.pulse.works();
            if let Err(ended) = self.work().await {
                return self.end(ended).await;
            }
            tokio::select! {
                biased;
                () = &mut shutdown => {
                    self.sender.leave(Code::SHUTTING_DOWN, "the gateway is being stopped");
                    return self.end(Ended::ShutDown).await;
                }
                waited = self.wait() => if let Err(ended) = waited {
                    return self.end(ended).await;
                },
            }
        }
    }

    /// Everything that can be done without waiting for the peer.
    async fn work(&mut self) -> Result<(), Ended> {
        // Once its owner is gone, the list says no more whether it has changed.
        if std::mem::take(&mut self.relisted) || self.logs.has_changed().unwrap_or(false) {
            self.meet_logs().await?;
        }
        self.tell_growth();
        self.offer_again().await?;
        self.hear().await?;
        self.look_behind().await?;
        self.say();
        self.count();
        self.read_ahead();
        self.report();
        Ok(())
    }

    /// How the gateway is doing is looked at, when it is time to tell it.
    fn report(&mut self) {
        let (slots, board) = (&self.slots, &self.board);
        let numbered = slots.iter().enumerate().filter(|(_, slot)| slot.listed);
        self.reports.make(self.pace, || Facts {
            uptime: self.started.elapsed(),
            time: self.options.time.clone(),
            uplink: self.options.uplink,
            held: status::lock(board).why_held(),
            logs: numbered
                .map(|(at, slot)| (number(at), slot.log.clone(), slot.acked))
                .collect(),
        });
    }

    /// What has moved since the last turn.
    fn count(&mut self) {
        let (received, sent) = self.stream.traffic();
        let out = sent - self.traffic.1;
        let both = out + received - self.traffic.0;
        self.traffic = (received, sent);
        let waiting = !self.stream.outgoing.is_empty();
        let local = self.pace.local(self.options.time.0.now());
        self.pace.moved(out, both, waiting, Instant::now(), local);
        self.bound_unsent();
        status::lock(&self.board).sent(out);
    }

    /// Until there is something to do.
    async fn wait(&mut self) -> Result<(), Ended> {
        let now_us = self.now().uptime_us;
        let due = self.sender.next_timeout().map_or(IDLE_TIMEOUT, |at| {
            Duration::from_micros(at.saturating_sub(now_us))
        });
        let retry = self.dry.then(|| Instant::now() + DRY_PATIENCE);
        let again = self.slots.iter().filter_map(|s| s.again);
        let again = again.chain(retry).chain(self.paced);
        let again = again.chain(self.reports.due()).min();
        let timer =
            (Instant::now() + due).min(again.unwrap_or_else(|| Instant::now() + IDLE_TIMEOUT));
        // A read that hangs is not cured by timers that go on.
        let sign = self.reading.as_ref().map_or(timer, |_| self.reading_since);
        self.pulse.next_by(sign);
        // Bytes may move without an end: what comes seldom is asked for first.
        tokio::select! {
            biased;
            read = finished(&mut self.reading) => self.send(read),
            () = self.growth.notified() => { self.dry = false; Ok(()) }
            // Without its owner the list stays as it is, and everything else goes on.
            Ok(()) = self.logs.changed() => {
                self.relisted = true;
                Ok(())
            }
            report = self.reports.made() => {
                report.iter().for_each(|report| wire::emit(&mut self.stream.outgoing, report));
                Ok(())
            }
            turn = self.stream.turn() => self.turned(turn),
            () = tokio::time::sleep_until(timer) => { self.sender.handle_timeout(self.now()); self.dry = false; Ok(()) }
        }
    }

    fn turned(&mut self, turn: Result<Turn, StreamError>) -> Result<(), Ended> {
        match turn {
            Ok(Turn::Received(message)) => {
                let now = self.now();
                if message.kind == kind::BYE {
                    let bye: Option<wire::Bye> = wire::parse(&message.body).ok();
                    self.farewell = bye.map_or_else(String::new, |bye| bye.reason);
                }
                self.sender.handle_message(now, message.kind, &message.body);
                Ok(())
            }
            Ok(Turn::Sent) => Ok(()),
            Err(e) => Err(Ended::Failed(e.to_string())),
        }
    }

    /// Compares the list of logs with what this session has. A change begins the session anew, so that the hub sees the whole chain
    /// of each partition at once: which log ends where, and which one follows it.
    async fn meet_logs(&mut self) -> Result<(), Ended> {
        let mut logs = self.logs.borrow_and_update().clone();
        logs.sort_by(|a, b| {
            (&a.stream, a.partition, a.chain).cmp(&(&b.stream, b.partition, b.chain))
        });
        let begun = !self.slots.is_empty();
        let mut changed = self.part_from(&logs);
        let mut unread = None;
        for log in &logs {
            let known = |s: &Slot| s.listed && s.log.handle.log_id() == log.handle.log_id();
            if self.slots.iter().any(known) {
                continue;
            }
            match self.add(log.clone()).await {
                // What is in doubt in the others is seen as well, or each would be waited for behind the one before.
                Err(Ended::Unread(why)) => unread = Some(why),
                added => added?,
            }
            changed = true;
        }
        if let Some(why) = unread {
            return Err(Ended::Unread(why));
        }
        status::lock(&self.board).logs(&logs);
        if begun && changed {
            for slot in self.slots.iter_mut().filter(|s| s.listed) {
                slot.offer = describe(&slot.log).await?;
                slot.loss.restart();
            }
            self.sender.start_over(self.now());
        }
        Ok(())
    }

    /// Withdraws logs that are no longer listed, notes those that were closed. Whether there were any.
    fn part_from(&mut self, logs: &[Log]) -> bool {
        let listed: HashMap<LogId, &Log> = logs.iter().map(|l| (l.handle.log_id(), l)).collect();
        let mut changed = false;
        for (at, slot) in self.slots.iter_mut().enumerate().filter(|(_, s)| s.listed) {
            match listed.get(&slot.log.handle.log_id()) {
                Some(log) => {
                    changed |= log.closed && !slot.closed;
                    slot.closed |= log.closed;
                    slot.log.may_be_passed = log.may_be_passed;
                    slot.log.handle = log.handle.clone();
                    let is_decided = log.closed || !log.may_be_passed;
                    if is_decided && slot.standing == Standing::Behind {
                        slot.standing = Standing::Settled;
                    }
                }
                None => {
                    slot.listed = false;
                    // Nobody would wait for it, and the time would be over for ever.
                    slot.again = None;
                    self.sender.withdraw(number(at));
                    changed = true;
                }
            }
        }
        changed
    }

    async fn add(&mut self, log: Log) -> Result<(), Ended> {
        let offer = describe(&log).await?;
        if let Some(mut durable) = log.handle.durable() {
            let growth = Arc::clone(&self.growth);
            self.watchers.spawn(async move {
                while durable.changed().await.is_ok() {
                    growth.notify_one();
                }
            });
        }
        let closed = log.closed;
        self.slots.push(Slot {
            log,
            listed: true,
            closed,
            loss: Loss::default(),
            acked: None,
            offer,
            again: None,
            unread: None,
            standing: Standing::Unseen,
        });
        self.sender.slots_mut().push(SenderSlot::default());
        self.sender.offer(number(self.slots.len() - 1));
        Ok(())
    }

    fn tell_growth(&mut self) {
        for (at, slot) in self.slots.iter().enumerate().filter(|(_, s)| s.listed) {
            self.sender.grew(number(at), slot.log.handle.next());
        }
    }

    /// A log that the hub could not take may find room later.
    async fn offer_again(&mut self) -> Result<(), Ended> {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if slot.listed && slot.again.is_some_and(|due| Instant::now() >= due) {
                slot.again = None;
                slot.offer = describe(&slot.log).await?;
                slot.loss.restart();
                self.sender.offer(number(at));
            }
        }
        Ok(())
    }

    /// What the machine has to tell.
    async fn hear(&mut self) -> Result<(), Ended> {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Welcomed { clock, features } => {
                    self.unpacks = features & feature::PACKED != 0;
                    let are_read = features & feature::REPORT != 0;
                    self.reports.welcomed(self.pace, are_read);
                    self.welcomed(clock.unix_us);
                }
                SenderEvent::Check { slot, next } => self.check(slot, next).await?,
                SenderEvent::Released { slot, next } => self.released(slot, next),
                SenderEvent::Diverged { slot } => self.diverged(slot),
                SenderEvent::Refused { slot, code } => self.refused(slot, code),
                SenderEvent::Closed { slot } => self.drained(slot),
                SenderEvent::Ended { code } => {
                    let said = std::mem::take(&mut self.farewell);
                    return Err(Ended::Bye(code, said));
                }
            }
        }
        Ok(())
    }

    fn welcomed(&mut self, hub_time: Option<i64>) {
        if let (Some(trust), Some(us)) = (&self.options.trust, hub_time)
            && self.stream.is_secret()
        {
            trust.clock.learn(us.max(0) as u64 / 1_000_000, unix_s());
        }
        tracing::info!(hub = %self.options.url, logs = self.slots.len(), "uplink up");
        status::lock(&self.board).connected();
    }

    async fn check(&mut self, slot: u16, next: Offset) -> Result<(), Ended> {
        let Some(log) = self
            .slots
            .get(usize::from(slot))
            .map(|s| s.log.handle.clone())
        else {
            return Ok(());
        };
        let below = blocking(move || match log.crc_below(next)? {
            Some(crc) => Ok(Below::Frame(crc)),
            None if log.has_inside(next)? => Ok(Below::Inside),
            None => Ok(Below::Unknown),
        });
        self.sender.checked(slot, below.await?);
        Ok(())
    }

    /// The cursor follows the hub's word, in either direction.
    fn released(&mut self, at: u16, next: Offset) {
        let Some(slot) = self.slots.get_mut(usize::from(at)) else {
            return;
        };
        if slot.standing == Standing::Unseen {
            slot.standing = Standing::Heard;
        }
        let heard = slot.acked.replace(next);
        let before = heard.unwrap_or(next);
        let mut board = status::lock(&self.board);
        board.acked(next.since(before));
        // A mirror that is full is taken up again at the same place, only to be refused with the next data.
        if heard.is_none_or(|heard| next > heard) {
            board.refused(slot.log.handle.log_id(), None);
        }
        drop(board);
        let Some(log) = slot.log.handle.log() else {
            return;
        };
        let (ledger, uplink) = (log.ledger(), self.options.uplink);
        let next = if Fault::CursorRunsAhead.is_planted() {
            slot.offer.next.max(next)
        } else {
            next
        };
        let records = |from, to| log.records_had(from, to);
        match slot.loss.acknowledged(&ledger, uplink, next, records) {
            Follow::Set => log.set_cursor(uplink, next),
            Follow::Pass(from, records) => log.pass_cursor(uplink, from, next, records),
            Follow::Wait => {}
        }
    }

    /// Where a session begins long after the last, live records are to pass what has gathered meanwhile: that is for the owner to do.
    async fn look_behind(&mut self) -> Result<(), Ended> {
        for at in 0..self.slots.len() {
            let slot = &mut self.slots[at];
            if slot.standing != Standing::Heard {
                continue;
            }
            slot.standing = Standing::Settled;
            let (log, next) = (slot.log.clone(), slot.acked);
            // Two of one name take turns: each turn would end a log, and each log takes room at the hub for good.
            let may = log.may_be_passed && !slot.closed && !self.has_rival;
            let (Some(most), Some(next)) = (self.options.live_first_after.filter(|_| may), next)
            else {
                continue;
            };
            let id = log.handle.log_id();
            let made = world::blocking(move || status::made_at(&log, next)).await;
            let age = made
                .ok()
                .flatten()
                .and_then(|made| self.options.time.0.apparent_age(made));
            if let Some(age) = age.filter(|age| *age > most) {
                self.slots[at].standing = Standing::Behind;
                tracing::info!(log = %id, age_s = age.as_secs(), "what the hub lacks is old: live records are to pass it");
                self.tell(ForwardEvent::Behind { log: id });
            }
        }
        Ok(())
    }

    fn diverged(&mut self, slot: u16) {
        let Some(log) = self.log_id(slot) else { return };
        if self.is_removed(slot) {
            tracing::error!(%log, "the hub holds another history of a log that is removed");
            return;
        }
        tracing::error!(%log, "the hub holds another history of this log: a new log is needed");
        status::lock(&self.board).diverged(log);
        self.tell(ForwardEvent::Diverged { log });
    }

    fn refused(&mut self, at: u16, code: Code) {
        let Some(slot) = self.slots.get_mut(usize::from(at)) else {
            return;
        };
        let log = slot.log.handle.log_id();
        slot.again = Some(Instant::now() + REFUSED_PATIENCE);
        tracing::warn!(%log, stream = %slot.log.stream, %code, "the hub does not take this log now");
        status::lock(&self.board).refused(log, Some(code.to_string()));
    }

    fn drained(&mut self, slot: u16) {
        let Some(log) = self.log_id(slot).filter(|_| !self.is_removed(slot)) else {
            return;
        };
        tracing::info!(%log, "the hub has all of a closed log");
        let uplink = self.options.uplink;
        self.tell(ForwardEvent::Drained { log, uplink });
    }

    fn tell(&self, event: ForwardEvent) {
        // An owner that does not listen cannot be told; the state stays visible in the status.
        if let Err(unheard) = self.events.send(event) {
            tracing::debug!(event = ?unheard.0, "nobody listens");
        }
    }

    fn say(&mut self) {
        let (now, slots) = (self.now(), &self.slots);
        while let Some(sent) =
            self.sender
                .poll_transmit(now, |slot| offer(slots, slot), &mut self.body)
        {
            wire::emit_raw(
                &mut self.stream.outgoing,
                sent.kind,
                &[&self.body[..sent.len]],
            );
        }
    }

    /// Starts to read what is sent next, unless enough waits to leave already.
    fn read_ahead(&mut self) {
        self.paced = None;
        let piece_bytes = self.pace.piece_bytes();
        if self.reading.is_some() || self.dry || self.stream.outgoing.len() >= piece_bytes {
            return;
        }
        let now = Instant::now();
        let local = self.pace.local(self.options.time.0.now());
        let held = self.pace.held(local);
        let wait = self.pace.wait(now);
        self.paced = wait.or(held.map(|_| HELD_PATIENCE)).map(|wait| now + wait);
        let unread = self.slots.iter().filter_map(|slot| slot.unread);
        let unread = unread.filter(|again| *again > now);
        self.paced = self.paced.into_iter().chain(unread).min();
        status::lock(&self.board).held(held);
        if wait.is_some() {
            return;
        }
        let (slots, turns) = (&self.slots, &self.turns);
        let rank = |at: u16| {
            let slot = slots.get(usize::from(at))?;
            let waits = slot.standing == Standing::Behind
                || slot.unread.is_some_and(|unread| unread > now)
                || (held.is_some() && slot.log.priority != Priority::Urgent);
            (!waits).then(|| turns.rank(usize::from(at), slot.log.priority))
        };
        let Some(want) = self.sender.want_by(rank) else {
            return;
        };
        let Some(slot) = self.slots.get(usize::from(want.slot)) else {
            return;
        };
        let (log, mut loss) = (slot.log.handle.clone(), slot.loss.clone());
        let uplink = self.options.uplink;
        let bytes_max = want.bytes_max.min(piece_bytes);
        let read = world::blocking(move || {
            let log = match log {
                Handle::Log(log) => log,
                Handle::Removed { end, told, .. } => {
                    return Ok(Found::Gap(handle::forgotten(want.from, end, told)));
                }
            };
            if let Some(gap) = loss.gap(&log.ledger(), uplink, want.from, 0) {
                log.begin_giving();
                return Ok(Found::Gap(gap));
            }
            let chunk = log.read(want.from, bytes_max)?;
            log.begin_giving();
            Ok(match chunk.gap {
                // Evicted since the ledger was asked: the next read finds it there.
                Some(gap) if gap.to <= log.ledger().oldest => Found::Nothing,
                Some(gap) => Found::Gap(gap),
                None if chunk.frames.is_empty() => Found::Nothing,
                None => trim(chunk.first, chunk.next, chunk.frames, bytes_max),
            })
        });
        (self.reading, self.reading_since) = (Some((want, read)), Instant::now());
    }

    /// What was read goes out, if it is still wanted.
    fn send(&mut self, (want, found): (Want, Result<Found, ReadError>)) -> Result<(), Ended> {
        match found {
            Ok(Found::Frames {
                first,
                next,
                frames,
            }) => {
                let run = Run {
                    first,
                    next,
                    base_time: Micros::UNKNOWN,
                    next_base_time: Micros::UNKNOWN,
                    len: frames.len(),
                };
                let now = self.now();
                if let Sent::Data { head, head_len } = self.sender.data(now, &want, run) {
                    self.put(&[&head[..head_len], &frames]);
                    let at = usize::from(want.slot);
                    let slot = self.slots.get(at);
                    if let Some(log) = slot.and_then(|slot| slot.log.handle.log()) {
                        log.give(next);
                    }
                    let is_backlog = slot.is_some_and(|slot| slot.closed);
                    self.turns.took(at, frames.len(), is_backlog);
                    self.pace.began();
                }
            }
            Ok(Found::Gap(gap)) => self.send_gap(&want, gap),
            Ok(Found::Nothing) | Err(ReadError::Beyond { .. }) => self.dry = true,
            // The other logs go on meanwhile.
            Err(ReadError::Unread { .. }) => {
                let again = Instant::now() + READ_AGAIN_AFTER;
                let slot = self.slots.get_mut(usize::from(want.slot));
                slot.into_iter().for_each(|slot| slot.unread = Some(again));
            }
            Err(e) => return Err(Ended::Failed(e.to_string())),
        }
        Ok(())
    }

    /// A Data message goes to the connection, smaller if that pays.
    fn put(&mut self, parts: &[&[u8]]) {
        let packed = match self.unpacks && self.pace.packs() {
            true => self.packer.pack(parts),
            false => None,
        };
        let outgoing = &mut self.stream.outgoing;
        match packed {
            Some(packed) => wire::emit_raw(outgoing, kind::PACKED, &[&packed]),
            None => wire::emit_raw(outgoing, kind::DATA, parts),
        }
    }

    fn send_gap(&mut self, want: &Want, read: Gap) {
        let Some(slot) = self.slots.get_mut(usize::from(want.slot)) else {
            return;
        };
        // Asked again, because more may have been recycled since: what is counted as told must be what is told.
        let (log, uplink) = (slot.log.handle.log(), self.options.uplink);
        let gap = log
            .and_then(|log| {
                let besides = log.records_never_had(want.from);
                let gap = slot.loss.gap(&log.ledger(), uplink, want.from, besides);
                gap.inspect(|gap| log.tell(gap.from, gap.to))
            })
            .unwrap_or(read);
        tracing::warn!(log = %slot.log.handle.log_id(), from = gap.from.get(), to = gap.to.get(), lost = gap.lost,
            cause = gap.cause.name(), "the hub gets a gap");
        self.sender.gap(want, gap);
    }

    async fn end(mut self, ended: Ended) -> Ended {
        self.pulse.next_by(Instant::now() + FAREWELL);
        self.say();
        // The peer may be gone already; then there is nobody to say goodbye to.
        let Ok(_) = tokio::time::timeout(FAREWELL, self.stream.flush()).await else {
            return ended;
        };
        if matches!(ended, Ended::Bye(Code::REPLACED, _)) {
            status::lock(&self.board).replaced();
        }
        ended
    }

    fn log_id(&self, slot: u16) -> Option<LogId> {
        self.slots
            .get(usize::from(slot))
            .map(|s| s.log.handle.log_id())
    }

    fn is_removed(&self, slot: u16) -> bool {
        let slot = self.slots.get(usize::from(slot));
        slot.is_some_and(|s| s.log.handle.log().is_none())
    }

    fn now(&self) -> Now {
        now(self.began)
    }
}

impl Ended {
    /// The least time to wait before the next attempt.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Bye(Code::VERSION | Code::IDENTITY | Code::NOT_ALLOWED, _) => {
                Duration::from_secs(30)
            }
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ShutDown => f.write_str("stopped"),
            Self::Bye(code, said) if said.is_empty() => write!(f, "{code}"),
            Self::Bye(code, said) => write!(f, "{code}: {said}"),
            Self::Unread(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

/// The read that is under way, when it has ended. Without one, never. Cancelling loses nothing.
async fn finished(
    reading: &mut Option<(Want, Blocking<Result<Found, ReadError>>)>,
) -> (Want, Result<Found, ReadError>) {
    let Some((want, read)) = reading else {
        return std::future::pending().await;
    };
    let (want, found) = (*want, read.await);
    *reading = None;
    (want, found.unwrap_or(Ok(Found::Nothing)))
}

fn offer<'a>(slots: &'a [Slot], at: u16) -> Option<Offer<'a>> {
    let slot = slots.get(usize::from(at)).filter(|s| s.listed)?;
    Some(Offer {
        slot: at,
        log: slot.log.handle.log_id(),
        stream: &slot.log.stream,
        partition: slot.log.partition,
        oldest: slot.offer.oldest,
        next: slot.offer.next,
        tail_crc: slot.offer.tail_crc,
        closed: slot.closed,
        chain: slot.log.chain,
    })
}

async fn describe(log: &Log) -> Result<Description, Ended> {
    let handle = log.handle.clone();
    blocking(move || {
        let next = handle.next();
        Ok(Description {
            oldest: handle.oldest().min(next),
            next,
            tail_crc: handle.crc_below(next)?,
        })
    })
    .await
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Ended> {
    match world::blocking(read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e @ ReadError::Unread { .. })) => Err(Ended::Unread(e.to_string())),
        Ok(Err(e)) => Err(Ended::Failed(e.to_string())),
        Err(_) => Err(Ended::ShutDown),
    }
}

fn number(slot: usize) -> u16 {
    u16::try_from(slot).expect("a gateway has fewer logs than slots have numbers")
}

fn now(began: Instant) -> Now {
    Now {
        uptime_us: began.elapsed().as_micros() as u64,
        unix_us: Some(unix_us()),
        trusted: false,
    }
}

/// The time by the wall clock; 0 if it stands before 1970.
pub(crate) fn unix_us() -> i64 {
    let now = system_clock()();
    if now.is_known() { now.get() } else { 0 }
}

/// Silence that ends a session.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The kernel holds as much as this, however slow the link is.
const UNSENT_BYTES_MIN: usize = 4 * 1024;
/// What may not go now is looked at again after this long.
const HELD_PATIENCE: Duration = Duration::from_secs(10);
/// What a Hello may take, some 1,500 logs; those that do not fit are offered one by one, and then the hub seals none that is gone.
const GREETING_BYTES: usize = 60 * 1024;
const _: () = assert!(GREETING_BYTES < wire::REQUEST_BYTES_MAX);
/// A read that found nothing is tried again, even without growth.
const DRY_PATIENCE: Duration = Duration::from_millis(100);
const REFUSED_PATIENCE: Duration = Duration::from_secs(15);
const FAREWELL: Duration = Duration::from_secs(1);

mod found;
#[cfg(test)]
mod tests;
