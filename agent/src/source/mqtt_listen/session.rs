//! One device's conversation, without socket, clock or disk: packets and time go in; answers, and what is to be done, come out.
//!
//! ```text
//! Silent ─CONNECT→ Opening ─opened()→ Live ─DISCONNECT, fault, silence, take-over→ over
//! ```
//! A publish of quality of service 1 is *pending* from its arrival until its PUBACK is written. PUBACKs leave in the order in
//! which the publishes came, each after the commit that holds its record.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sedge_store::Ticket;

use super::answer::{self, Refusal};
use super::logins::Login;
use super::rhythm::Rhythm;
use super::wire::{Connect, Fault, Packet, Publish, Version};

/// What a client is held to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Unacknowledged publishes of one client.
    pub inflight_max: u16,
    /// The largest PUBLISH that is taken.
    pub packet_bytes_max: u32,
    /// Longest time in seconds for which a session outlives its connection.
    pub expiry_s_max: u32,
    /// Silence after which a client without keep-alive is dropped.
    pub keep_alive_max: Duration,
    /// Time for the CONNECT to come.
    pub connect_timeout: Duration,
}

/// A device's conversation.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    phase: Phase,
    version: Version,
    client: String,
    expiry_s: u32,
    keep_alive_s: u16,
    /// What the server fixes instead of the client's wish, if it does.
    server_keep_alive_s: Option<u16>,
    name_assigned: bool,
    /// When the connection ends for silence.
    deadline: Instant,
    resumed: bool,
    pending: VecDeque<Pending>,
    /// How many of `pending` have a ticket.
    staged: usize,
    rhythm: Rhythm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Silent,
    Opening,
    Live,
    Over,
}

/// A publish that is not yet answered.
#[derive(Clone, Copy, Debug)]
struct Pending {
    packet: u16,
    lane: u16,
    code: u8,
    /// What it holds of the memory budget.
    bytes: u32,
    ticket: Ticket,
    /// One past its index in the session's table; 0 if it stands in none.
    index_next: u64,
}

/// What is to be done about a packet. Answers are written without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing.
    None,
    /// Bring the session about, then call [`Session::opened`]; until then no packet is to be handed in.
    Open(Opening),
    /// Take this message: put it into a batch and call [`Session::taken`], or [`Session::recognised`].
    /// With `again` it may be another delivery of one that is stored.
    Take {
        /// The message.
        publish: Publish<'a>,
        /// DUP = 1 in a resumed session.
        again: bool,
    },
    /// Write what is to be written and close the connection.
    End(Ending),
}

/// What a CONNECT asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The client's name.
    pub client: String,
    /// An earlier session is to end.
    pub clean: bool,
    /// Whether the session outlives the connection.
    pub lasting: bool,
    /// By what the client is known.
    pub login: Option<Login>,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// DISCONNECT.
    #[error("left")]
    Left,
    /// The peer closed the connection, or it broke.
    #[error("connection lost")]
    Lost,
    /// No CONNECT, or a refused one.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// Not MQTT as it is spoken here.
    #[error("{0:?} (0x{code:02X})", code = .0.code())]
    Fault(Fault),
    /// A publish with quality of service 2.
    #[error("a publish with quality of service 2 (0x9B)")]
    QosTwo,
    /// Silence for one and a half times the keep-alive.
    #[error("keep-alive timeout (0x8D)")]
    Silence,
    /// The same client connected again.
    #[error("taken over by another connection of the same client (0x8E)")]
    TakenOver,
    /// The memory budget is used up while a packet of this client is half read.
    #[error("no memory for the rest of a packet (0x97)")]
    Quota,
    /// The agent stops.
    #[error("shutting down (0x8B)")]
    Stopping,
    /// The log takes nothing more.
    #[error("the log takes nothing more (0x83)")]
    LogClosed,
}

impl Ending {
    /// A word for metrics; none if nobody is to be blamed.
    #[must_use]
    pub const fn label(self) -> Option<&'static str> {
        Some(match self {
            Self::Left | Self::Lost | Self::Stopping => return None,
            Self::Refused(refusal) => refusal.label(),
            Self::Fault(fault) => fault.label(),
            Self::QosTwo => "qos-2",
            Self::Silence => "keep-alive",
            Self::TakenOver => "taken-over",
            Self::Quota => "memory",
            Self::LogClosed => "log-closed",
        })
    }

    /// The reason code of the DISCONNECT that version 5 gets, if it gets one.
    const fn code(self) -> Option<u8> {
        match self {
            Self::Left | Self::Lost | Self::Refused(_) => None,
            Self::Fault(fault) => Some(fault.code()),
            Self::QosTwo => Some(0x9B),
            Self::Silence => Some(0x8D),
            Self::TakenOver => Some(0x8E),
            Self::Quota => Some(0x97),
            Self::Stopping => Some(0x8B),
            Self::LogClosed => Some(0x83),
        }
    }
}

impl Session {
    /// A conversation in which nothing was said.
    #[must_use]
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            phase: Phase::Silent,
            version: Version::V311,
            client: String::new(),
            expiry_s: 0,
            keep_alive_s: 0,
            server_keep_alive_s: None,
            name_assigned: false,
            deadline: now + limits.connect_timeout,
            resumed: false,
            pending: VecDeque::new(),
            staged: 0,
            rhythm: Rhythm::new(now),
        }
    }

    /// A packet has come. `name` is for a client that leaves its name to us.
    pub fn handle_packet<'a>(
        &mut self,
        now: Instant,
        packet: Packet<'a>,
        name: impl FnOnce() -> String,
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        if self.phase == Phase::Live {
            self.deadline = now + self.patience();
        }
        match (self.phase, packet) {
            (Phase::Silent, Packet::Connect(connect)) => self.handle_connect(connect, name, out),
            (Phase::Live, Packet::Publish(publish)) => self.handle_publish(publish, out),
            (Phase::Live, Packet::Ping) => {
                out.extend_from_slice(answer::PINGRESP);
                Action::None
            }
            (Phase::Live, Packet::Subscribe(packet, filters)) => {
                answer::suback(self.version, packet, filters, out);
                Action::None
            }
            (Phase::Live, Packet::Unsubscribe(packet, filters)) => {
                answer::unsuback(self.version, packet, filters, out);
                Action::None
            }
            (Phase::Live, Packet::Disconnect(expiry_s)) => self.handle_disconnect(expiry_s, out),
            _ => self.end(Ending::Fault(Fault::Protocol), out),
        }
    }

    /// The bytes are no packet.
    pub fn handle_fault(&mut self, fault: Fault, out: &mut Vec<u8>) -> Ending {
        if self.phase == Phase::Silent && fault == Fault::Version {
            // The peer's version is not known; all of them read this one.
            answer::connack_refused(Version::V311, Refusal::Version, out);
        }
        self.over(Ending::Fault(fault), out)
    }

    /// Time has passed. `reading` is false while we do not read: then silence is no fault of the client's.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        reading: bool,
        out: &mut Vec<u8>,
    ) -> Option<Ending> {
        if now < self.deadline {
            return None;
        }
        if !reading || self.phase == Phase::Opening {
            self.deadline = now + self.patience();
            return None;
        }
        let ending = if self.phase == Phase::Live {
            Ending::Silence
        } else {
            Ending::Refused(Refusal::Silent)
        };
        Some(self.over(ending, out))
    }

    /// When [`Session::handle_timeout`] is next of use.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        self.deadline
    }

    /// Ends the conversation from our side.
    pub fn over(&mut self, ending: Ending, out: &mut Vec<u8>) -> Ending {
        if let (Phase::Live, Version::V5, Some(code)) = (self.phase, self.version, ending.code()) {
            answer::disconnect(code, out);
        }
        self.phase = Phase::Over;
        ending
    }

    /// The session is durable, or needs not to be: the client is told.
    pub fn opened(&mut self, now: Instant, resumed: bool, out: &mut Vec<u8>) {
        self.phase = Phase::Live;
        self.resumed = resumed;
        self.deadline = now + self.patience();
        let welcome = answer::Welcome {
            session_present: resumed,
            name: self.name_assigned.then_some(&*self.client),
            expiry_s: self.expiry_s,
            keep_alive_s: self.server_keep_alive_s,
            limits: &self.limits,
        };
        answer::connack(self.version, &welcome, out);
    }

    /// The session cannot be had now.
    pub fn refuse(&mut self, refusal: Refusal, out: &mut Vec<u8>) -> Ending {
        answer::connack_refused(self.version, refusal, out);
        self.phase = Phase::Over;
        Ending::Refused(refusal)
    }

    /// The message stands in the batch of `lane` and holds `bytes` of the budget. `index_next` is one past its index in the
    /// session's table, `code` what its PUBACK will say.
    pub fn taken(&mut self, packet: u16, lane: u16, bytes: u32, index_next: u64, code: u8) {
        self.pending.push_back(Pending {
            packet,
            lane,
            code,
            bytes,
            ticket: NOT_STAGED,
            index_next,
        });
    }

    /// The message is another delivery of one that is durable.
    pub fn recognised(&mut self, packet: u16, lane: u16, index_next: u64) {
        self.pending.push_back(Pending {
            packet,
            lane,
            code: 0,
            bytes: 0,
            ticket: Ticket::RECOVERED,
            index_next,
        });
    }

    /// The batch of `lane` was staged.
    pub fn staged(&mut self, lane: u16, ticket: Ticket) {
        for pending in self.pending.iter_mut().skip(self.staged) {
            if pending.lane == lane && pending.ticket == NOT_STAGED {
                pending.ticket = ticket;
            }
        }
        while self
            .pending
            .get(self.staged)
            .is_some_and(|pending| pending.ticket != NOT_STAGED)
        {
            self.staged += 1;
        }
    }

    /// Writes the PUBACKs of all publishes at the front whose commit `settled` knows. Before they may leave, `acknowledging`
    /// is told for each lane how far they go in the session's table. When the conversation is over, nothing is written.
    /// Returns how many publishes were settled and what they held of the budget.
    pub fn settle(
        &mut self,
        now: Instant,
        mut settled: impl FnMut(u16) -> Ticket,
        mut acknowledging: impl FnMut(u16, u64),
        out: &mut Vec<u8>,
    ) -> (u64, usize) {
        let mut known = None;
        let mut told = None;
        let (mut count, mut freed) = (0, 0);
        while let Some(pending) = self.pending.front().copied() {
            let ticket = match known {
                Some((lane, ticket)) if lane == pending.lane => ticket,
                _ => settled(pending.lane),
            };
            known = Some((pending.lane, ticket));
            if pending.ticket > ticket {
                break;
            }
            self.pending.pop_front();
            self.staged = self.staged.saturating_sub(1);
            freed += pending.bytes as usize;
            count += 1;
            if pending.packet == 0 || self.phase != Phase::Live {
                continue;
            }
            if pending.index_next > 0 {
                match told.replace((pending.lane, pending.index_next)) {
                    Some((lane, next)) if lane != pending.lane => acknowledging(lane, next),
                    _ => {}
                }
            }
            answer::puback(self.version, pending.packet, pending.code, out);
        }
        if let Some((lane, next)) = told {
            acknowledging(lane, next);
        }
        if count > 0 {
            self.rhythm.acknowledged(now);
        }
        (count, freed)
    }

    /// Publishes have come in, to be called once for each read that brought some.
    pub fn heard(&mut self, now: Instant) {
        self.rhythm.heard(now);
    }

    /// Whether the client waits for our PUBACK before it sends more, as far as one can see.
    #[must_use]
    pub fn is_window_bound(&self) -> bool {
        self.rhythm.is_window_bound()
    }

    /// Lane and ticket for which the first unanswered publish waits.
    #[must_use]
    pub fn waits_for(&self) -> Option<(u16, Ticket)> {
        self.pending
            .front()
            .filter(|pending| pending.ticket != NOT_STAGED)
            .map(|pending| (pending.lane, pending.ticket))
    }

    /// Whether the client may send more publishes before we answer some.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.pending.len() < usize::from(self.limits.inflight_max)
    }

    /// Whether packets may be handed in now.
    #[must_use]
    pub fn listens(&self) -> bool {
        matches!(self.phase, Phase::Silent | Phase::Live)
    }

    /// Publishes that were taken and are not yet answered.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// The client's name; empty before its CONNECT.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The protocol, once it is known.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        (self.phase != Phase::Silent).then_some(self.version)
    }

    /// Seconds for which the session outlives the connection; `u32::MAX` is as long as we keep any.
    #[must_use]
    pub fn expiry_s(&self) -> u32 {
        self.expiry_s
    }

    fn handle_connect<'a>(
        &mut self,
        connect: Connect,
        name: impl FnOnce() -> String,
        out: &mut Vec<u8>,
    ) -> Action<'a> {
        self.version = connect.version;
        self.phase = Phase::Opening;
        if let Some(refusal) = refusal(&connect) {
            return Action::End(self.refuse(refusal, out));
        }
        self.name_assigned = connect.client.is_empty();
        self.client = if self.name_assigned {
            name()
        } else {
            connect.client
        };
        self.expiry_s = connect.expiry_s.min(self.limits.expiry_s_max);
        let keep_alive_s_max =
            u16::try_from(self.limits.keep_alive_max.as_secs()).unwrap_or(u16::MAX);
        let is_fixed = connect.keep_alive_s == 0 || connect.keep_alive_s > keep_alive_s_max;
        self.server_keep_alive_s = is_fixed.then_some(keep_alive_s_max);
        self.keep_alive_s = match connect.version {
            Version::V5 if is_fixed => keep_alive_s_max,
            _ => connect.keep_alive_s,
        };
        Action::Open(Opening {
            client: self.client.clone(),
            clean: connect.clean,
            lasting: self.expiry_s > 0,
            login: connect.login,
        })
    }

    fn handle_publish<'a>(&mut self, publish: Publish<'a>, out: &mut Vec<u8>) -> Action<'a> {
        if publish.qos == 2 {
            return self.end(Ending::QosTwo, out);
        }
        Action::Take {
            publish,
            again: publish.dup && self.resumed,
        }
    }

    fn handle_disconnect<'a>(&mut self, expiry_s: Option<u32>, out: &mut Vec<u8>) -> Action<'a> {
        match expiry_s {
            // A session that was to end with the connection cannot be made to last at its end.
            Some(wish) if wish > 0 && self.expiry_s == 0 => {
                return self.end(Ending::Fault(Fault::Protocol), out);
            }
            Some(wish) => self.expiry_s = wish.min(self.limits.expiry_s_max),
            None => {}
        }
        self.end(Ending::Left, out)
    }

    fn end<'a>(&mut self, ending: Ending, out: &mut Vec<u8>) -> Action<'a> {
        Action::End(self.over(ending, out))
    }

    /// One and a half times the keep-alive.
    fn patience(&self) -> Duration {
        match self.keep_alive_s {
            0 => self.limits.keep_alive_max,
            seconds => Duration::from_millis(u64::from(seconds) * 1500),
        }
    }
}

fn refusal(connect: &Connect) -> Option<Refusal> {
    if connect.wants_auth {
        return Some(Refusal::Auth);
    }
    if connect.will_qos == Some(2) && connect.version == Version::V5 {
        return Some(Refusal::WillQos);
    }
    let nameless = connect.client.is_empty() && connect.version == Version::V311 && !connect.clean;
    (nameless || connect.client.len() > CLIENT_BYTES_MAX || connect.client.contains('\0'))
        .then_some(Refusal::Client)
}

const NOT_STAGED: Ticket = Ticket(u64::MAX);

/// Longest client identifier. It stands in each record as its key by default, and in each checkpoint.
const CLIENT_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests;
