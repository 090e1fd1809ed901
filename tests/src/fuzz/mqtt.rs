//! Any bytes from an MQTT device: to the wire format and the conversation of `mqtt-listen`, by the steps of its connection.
//!
//! ```text
//! input   piece 1 | what the device sends
//! ```

use std::time::{Duration, Instant};

use sedge::source::mqtt_listen::session::{Action, Ending, Limits, Session};
use sedge::source::mqtt_listen::wire::{self, Packet, Step};
use sedge_store::Ticket;

/// A device that sends these bytes, all at once and in pieces. However they are cut, the same is understood and answered; nothing is acknowledged that was
/// not handed over before and settled, nothing twice, and in the order in which it came.
pub fn mqtt_session(input: &[u8]) {
    let Some((&piece, bytes)) = input.split_first() else {
        return;
    };
    let now = Instant::now();
    let whole = heard(bytes, bytes.len().max(1), now);
    let pieces = heard(bytes, usize::from(piece).max(1), now);
    assert_eq!(whole, pieces, "it matters how the bytes are cut");
}

/// What a connection brought.
#[derive(Debug, Default, PartialEq, Eq)]
struct Heard {
    taken: Vec<(u16, Vec<u8>)>,
    oversize: usize,
    /// All that was answered.
    said: Vec<u8>,
    ending: Option<Ending>,
}

/// The connection, with a log that settles everything at once but only after a look: what is asked before that is not settled.
struct Connection {
    session: Session,
    now: Instant,
    heard: Heard,
    /// Bytes of an oversize payload that are still to come.
    skim: usize,
    tickets: u64,
}

fn heard(bytes: &[u8], piece_bytes: usize, now: Instant) -> Heard {
    let mut connection = Connection {
        session: Session::new(LIMITS, now),
        now,
        heard: Heard::default(),
        skim: 0,
        tickets: 0,
    };
    let mut held: Vec<u8> = Vec::new();
    for piece in bytes.chunks(piece_bytes) {
        held.extend_from_slice(piece);
        let used = connection.understand(&held);
        held.drain(..used);
        if connection.heard.ending.is_some() {
            break;
        }
        assert!(
            held.len() < HELD_BYTES_MAX,
            "{} bytes are held for one packet",
            held.len()
        );
    }
    connection.heard
}

impl Connection {
    /// Goes through what has come; how much of it is used up.
    fn understand(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && self.heard.ending.is_none() {
            let skimmed = self.skim.min(bytes.len() - at);
            (at, self.skim) = (at + skimmed, self.skim - skimmed);
            let rest = &bytes[at..];
            let step = wire::step(rest, self.session.version(), PACKET_BYTES_MAX);
            match step {
                Ok(Step::Incomplete(needed)) => {
                    assert!(needed > rest.len(), "asks for {needed}, has {}", rest.len());
                    assert!(needed <= HELD_BYTES_MAX, "asks for {needed} bytes");
                    break;
                }
                Ok(Step::Packet(packet, length)) => {
                    assert!(0 < length && length <= rest.len());
                    at += length;
                    self.handle(packet, false);
                }
                Ok(Step::Oversize { publish, head, end }) => {
                    assert!(head <= rest.len() && head <= end && end > PACKET_BYTES_MAX);
                    at += head;
                    self.skim = end - head;
                    self.handle(Packet::Publish(publish), true);
                }
                Err(fault) => {
                    let ending = self.session.handle_fault(fault, &mut self.heard.said);
                    self.heard.ending = Some(ending);
                }
            }
        }
        at
    }

    fn handle(&mut self, packet: Packet<'_>, oversize: bool) {
        let name = || "assigned".to_owned();
        let said = &mut self.heard.said;
        match self.session.handle_packet(self.now, packet, name, said) {
            Action::None => {}
            Action::Open(opening) => {
                assert!(!opening.client.is_empty() && !self.session.listens());
                self.session.opened(self.now, false, said);
            }
            Action::Take { publish, again } => {
                assert!(!again, "a session that was not resumed knows no repetition");
                assert!(publish.qos < 2 && (publish.qos == 0) == (publish.packet == 0));
                assert!(!publish.topic.is_empty() && !publish.topic.contains(['+', '#', '\0']));
                self.heard.oversize += usize::from(oversize);
                let payload = if oversize { &[] } else { publish.payload };
                self.heard.taken.push((publish.packet, payload.to_vec()));
                self.take(publish.packet);
            }
            Action::End(ending) => self.heard.ending = Some(ending),
        }
    }

    /// Hands a message to the log: before it is staged, and before it is settled, nothing may be acknowledged.
    fn take(&mut self, packet: u16) {
        let (lane, before) = (self.tickets as u16 % 2, self.heard.said.len());
        self.session.taken(packet, lane, 100, 0, 0);
        self.settle(self.tickets);
        self.tickets += 1;
        self.session.staged(lane, Ticket(self.tickets));
        self.settle(self.tickets - 1);
        assert_eq!(
            self.heard.said.len(),
            before,
            "acknowledged before it was settled"
        );
        self.settle(self.tickets);
        let puback: &[u8] = &match packet {
            0 => vec![],
            _ => [&[0x40, 2], packet.to_be_bytes().as_slice()].concat(),
        };
        let said = &self.heard.said[before..];
        // Version 5 may add a reason.
        let fits =
            said == puback || (packet > 0 && said.get(2..4) == Some(&packet.to_be_bytes()[..]));
        assert!(fits, "packet {packet} is answered by {said:?}");
        assert_eq!(self.session.unanswered(), 0);
    }

    fn settle(&mut self, ticket: u64) {
        let said = &mut self.heard.said;
        self.session
            .settle(self.now, |_| Ticket(ticket), |_, _| {}, said);
    }
}

const PACKET_BYTES_MAX: usize = 1024;

/// Packets other than PUBLISH may have 80 KiB, and the front of a PUBLISH 32.
const HELD_BYTES_MAX: usize = 80 * 1024 + 4;

const LIMITS: Limits = Limits {
    inflight_max: 100,
    packet_bytes_max: PACKET_BYTES_MAX as u32,
    expiry_s_max: 3600,
    keep_alive_max: Duration::from_secs(600),
    connect_timeout: Duration::from_secs(10),
};
