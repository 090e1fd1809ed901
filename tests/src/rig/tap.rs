//! A tap between a broker and the agent: what passes is written down, and what can be known of redeliveries is computed from it.
//!
//! Knows the rule of docs/decisions/0003 from the outside, by what was on the wire.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::free_address;
use super::packets::{self, Packet};

/// Stands between the agent and the broker and writes down what passes.
#[derive(Debug)]
pub struct Tap {
    /// Where the agent connects instead.
    pub address: SocketAddr,
    traffic: Arc<Traffic>,
}

/// A packet that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Since the tap was set.
    pub at: Duration,
    /// Connections are counted from 1.
    pub connection: u32,
    /// What it was.
    pub packet: Passed,
}

/// What is written down of a packet, and the end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// CONNECT, from the agent.
    Connect,
    /// CONNACK, from the broker.
    ConnAck {
        /// The broker kept the agent's session.
        session_present: bool,
    },
    /// A delivery, from the broker.
    Publish {
        /// Its topic.
        topic: String,
        /// The number in its payload; `u64::MAX` if it has none.
        number: u64,
        /// Its packet id.
        id: u16,
        /// With DUP set.
        dup: bool,
    },
    /// PUBACK, from the agent. Whether the broker came to read it, nobody knows.
    PubAck {
        /// The packet id.
        id: u16,
    },
    /// One of the two has closed.
    End,
    /// The agent was killed.
    Killed,
}

/// How often the broker sent one message towards the agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// As new. Also with DUP set, if the packet id had not passed in this session: the broker had sent it, and a broken connection swallowed it.
    pub fresh: u32,
    /// Again, with DUP set.
    pub dup: u32,
}

impl Tap {
    /// Listens; each connection is carried on to `broker`.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn before(broker: SocketAddr) -> Self {
        let address = free_address();
        let listener = TcpListener::bind(address).expect("a free port");
        let traffic = Arc::new(Traffic {
            begin: Instant::now(),
            passages: Mutex::default(),
        });
        let theirs = Arc::clone(&traffic);
        // Ends with the test's process; a tap holds nothing that must be put back.
        std::thread::spawn(move || {
            for (agent, connection) in listener.incoming().flatten().zip(1..) {
                let traffic = Arc::clone(&theirs);
                std::thread::spawn(move || carry(agent, broker, connection, &traffic));
            }
        });
        Self { address, traffic }
    }

    /// To be called when the agent has been killed.
    pub fn agent_killed(&self) {
        self.traffic.passed(0, Passed::Killed);
    }

    /// Everything that passed so far, in order.
    #[must_use]
    pub fn passages(&self) -> Vec<Passage> {
        self.traffic.passages().clone()
    }

    /// How often each message was delivered so far, by topic and number.
    #[must_use]
    pub fn deliveries(&self) -> HashMap<(String, u64), Deliveries> {
        deliveries(&self.traffic.passages())
    }

    /// Redeliveries of each message of which docs/decisions/0003 cannot say whether they are news; `window` is the agent's `inflight_max`.
    #[must_use]
    pub fn in_doubt(&self, window: u16) -> HashMap<(String, u64), u32> {
        in_doubt(&self.traffic.passages(), window)
    }

    /// What passed under the packet ids that this message had, with the connections around it: to be shown when a test fails. Of messages
    /// without number, only what was redelivered.
    #[must_use]
    pub fn story_of(&self, topic: &str, number: u64) -> String {
        let passages = self.passages();
        let is_it = |passage: &&Passage| match &passage.packet {
            Passed::Publish {
                topic: of,
                number: n,
                dup,
                ..
            } => of == topic && *n == number && (*dup || number != u64::MAX),
            _ => false,
        };
        let ids: HashSet<u16> = passages
            .iter()
            .filter(is_it)
            .filter_map(Passage::id)
            .collect();
        let is_of_it = |passage: &Passage| passage.id().is_none_or(|id| ids.contains(&id));
        let told = passages.iter().enumerate().filter(|(index, passage)| {
            let around = index.saturating_sub(NEIGHBOURS)..passages.len().min(index + NEIGHBOURS);
            is_of_it(passage) || passages[around].iter().any(|near| is_it(&near))
        });
        told.map(|(_, passage)| format!("{passage}\n")).collect()
    }
}

impl Passage {
    fn id(&self) -> Option<u16> {
        match self.packet {
            Passed::Publish { id, .. } | Passed::PubAck { id } => Some(id),
            _ => None,
        }
    }
}

impl fmt::Display for Passage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, connection) = (self.at.as_secs_f64(), self.connection);
        write!(f, "{at:9.4} s, connection {connection}: {:?}", self.packet)
    }
}

fn deliveries(passages: &[Passage]) -> HashMap<(String, u64), Deliveries> {
    let mut counts: HashMap<_, Deliveries> = HashMap::new();
    let mut passed = HashSet::new();
    for passage in passages {
        match &passage.packet {
            Passed::ConnAck {
                session_present: false,
            } => passed.clear(),
            Passed::Publish {
                topic,
                number,
                id,
                dup,
            } => {
                let deliveries = counts.entry((topic.clone(), *number)).or_default();
                let is_first = passed.insert(*id);
                let count = if is_first || !dup {
                    &mut deliveries.fresh
                } else {
                    &mut deliveries.dup
                };
                *count += 1;
            }
            _ => {}
        }
    }
    counts
}

/// Which redeliveries lack both proofs: that no PUBACK can have left for what stands under their packet id, and that the id cannot have been
/// used again.
fn in_doubt(passages: &[Passage], window: u16) -> HashMap<(String, u64), u32> {
    let (mut doubts, mut run) = (HashMap::new(), Run::default());
    let mut answers = Answers::default();
    for passage in passages {
        match &passage.packet {
            Passed::ConnAck {
                session_present: false,
            } => {
                run = Run::default();
                answers.are_unknown();
            }
            Passed::Publish {
                topic,
                number,
                id,
                dup,
            } => {
                let mut stored = true;
                if !dup || run.is_followed_by(*id) {
                    run.goes_on(*id);
                    answers.perhaps.remove(id);
                } else if !run.proves(*id, window) && answers.perhaps.remove(id) {
                    *doubts.entry((topic.clone(), *number)).or_default() += 1;
                    // If it was stored again, the ids in the log do not count up to here.
                    run.len = 0;
                } else {
                    stored = false;
                }
                answers.due.push_back((*id, stored));
            }
            Passed::PubAck { id } => answers.passed(*id),
            Passed::End => answers.ended(),
            Passed::Killed => answers.are_unknown(),
            Passed::Connect | Passed::ConnAck { .. } => {}
        }
    }
    doubts
}

/// PUBACKs, which leave in the order of the deliveries.
#[derive(Default)]
struct Answers {
    /// Of this connection, and not seen yet: the packet id, and whether its delivery was stored, as far as one can tell from here.
    due: VecDeque<(u16, bool)>,
    /// Of earlier connections, and certain to have stayed.
    never: HashSet<u16>,
    /// Those that the broker may have read.
    perhaps: HashSet<u16>,
}

impl Answers {
    fn passed(&mut self, id: u16) {
        while let Some((due, stored)) = self.due.pop_front() {
            self.may_have_left(due, stored);
            if due == id {
                return;
            }
        }
    }

    /// The agent cannot tell whether the next one had left.
    fn ended(&mut self) {
        if let Some((next, stored)) = self.due.pop_front() {
            self.may_have_left(next, stored);
        }
        self.never.extend(self.due.drain(..).map(|(id, _)| id));
    }

    /// The agent remembers how far in its table PUBACKs may have left: with one goes all that was stored before.
    fn may_have_left(&mut self, id: u16, stored: bool) {
        self.perhaps.insert(id);
        self.never.remove(&id);
        if stored {
            self.perhaps.extend(self.never.drain());
        }
    }

    /// The agent remembers nothing of what had left.
    fn are_unknown(&mut self) {
        self.perhaps.extend(self.due.drain(..).map(|(id, _)| id));
        self.perhaps.extend(self.never.drain());
    }
}

/// Publishes whose packet ids count up. At least `window` of them before the one that comes again, and fewer than `window` since, prove that
/// its id has not been used again.
#[derive(Default)]
struct Run {
    newest: u16,
    len: u32,
}

impl Run {
    fn is_followed_by(&self, id: u16) -> bool {
        distance(self.newest, id) == 1
    }

    fn goes_on(&mut self, id: u16) {
        self.len = if self.is_followed_by(id) {
            self.len + 1
        } else {
            1
        };
        self.newest = id;
    }

    fn proves(&self, id: u16, window: u16) -> bool {
        let since = distance(id, self.newest);
        since < u32::from(window) && self.len > since + u32::from(window)
    }
}

/// Steps of a counter from packet id `from` to `to`; after 65,535 comes 1.
fn distance(from: u16, to: u16) -> u32 {
    (u32::from(to) + 65_535 - u32::from(from)) % 65_535
}

/// What a tap has seen.
#[derive(Debug)]
struct Traffic {
    begin: Instant,
    passages: Mutex<Vec<Passage>>,
}

impl Traffic {
    fn passed(&self, connection: u32, packet: Passed) {
        // The time is read under the lock: it never goes back from one passage to the next.
        let mut passages = self.passages();
        passages.push(Passage {
            at: self.begin.elapsed(),
            connection,
            packet,
        });
    }

    fn passages(&self) -> MutexGuard<'_, Vec<Passage>> {
        self.passages.lock().expect("no panic under this lock")
    }
}

impl Passed {
    fn of(packet: &Packet<'_>) -> Option<Self> {
        Some(match *packet {
            Packet::Connect { .. } => Self::Connect,
            Packet::ConnAck {
                session_present, ..
            } => Self::ConnAck { session_present },
            Packet::Publish {
                topic,
                id,
                dup,
                payload,
            } => Self::Publish {
                topic: topic.to_owned(),
                number: number_in(payload).unwrap_or(u64::MAX),
                id,
                dup,
            },
            Packet::PubAck { id } => Self::PubAck { id },
            Packet::Other(_) => return None,
        })
    }
}

fn number_in(payload: &[u8]) -> Option<u64> {
    let value: Value = serde_json::from_slice(payload).ok()?;
    value["n"].as_u64()
}

fn carry(agent: TcpStream, broker: SocketAddr, connection: u32, traffic: &Arc<Traffic>) {
    let Ok(broker) = TcpStream::connect(broker) else {
        return;
    };
    let (Ok(from_agent), Ok(to_broker)) = (agent.try_clone(), broker.try_clone()) else {
        return;
    };
    let theirs = Arc::clone(traffic);
    let up = std::thread::spawn(move || {
        // What the agent says after the broker has gone is written down too: it does not know.
        write_down(&from_agent, connection, &theirs, |bytes| {
            (&to_broker).write_all(bytes).ok();
            true
        });
        to_broker.shutdown(Shutdown::Write).ok();
    });
    write_down(&broker, connection, traffic, |bytes| {
        (&agent).write_all(bytes).is_ok()
    });
    agent.shutdown(Shutdown::Write).ok();
    up.join().ok();
    traffic.passed(connection, Passed::End);
}

/// Reads to the end, or until `pass` says no. Whole packets go on, so that what is written down is what was passed.
fn write_down(
    mut from: &TcpStream,
    connection: u32,
    traffic: &Traffic,
    mut pass: impl FnMut(&[u8]) -> bool,
) {
    let (mut held, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        held.extend_from_slice(&buffer[..read]);
        let mut used = 0;
        while let Some((packet, len)) = packets::first(&held[used..]) {
            if let Some(passed) = Passed::of(&packet) {
                traffic.passed(connection, passed);
            }
            used += len;
        }
        if !pass(&held[..used]) {
            return;
        }
        held.drain(..used);
    }
}

/// So many passages around each delivery are told with it.
const NEIGHBOURS: usize = 12;

#[cfg(test)]
mod tests {
    use super::{Deliveries, Passage, Passed, deliveries, in_doubt};
    use std::time::Duration;

    const WINDOW: u16 = 3;

    fn connected(session_present: bool) -> Passed {
        Passed::ConnAck { session_present }
    }

    /// A delivery whose number is its packet id.
    fn publish(id: u16, dup: bool) -> Passed {
        Passed::Publish {
            topic: "t".into(),
            number: u64::from(id),
            id,
            dup,
        }
    }

    fn fresh(ids: std::ops::RangeInclusive<u16>) -> Vec<Passed> {
        ids.map(|id| publish(id, false)).collect()
    }

    fn answers(ids: std::ops::RangeInclusive<u16>) -> Vec<Passed> {
        ids.map(|id| Passed::PubAck { id }).collect()
    }

    fn passages(packets: &[Vec<Passed>]) -> Vec<Passage> {
        let passage = |packet: Passed| Passage {
            at: Duration::ZERO,
            connection: 1,
            packet,
        };
        packets.concat().into_iter().map(passage).collect()
    }

    /// The numbers in doubt, in order.
    fn doubts(packets: &[Vec<Passed>]) -> Vec<u64> {
        let doubts = in_doubt(&passages(packets), WINDOW);
        let mut numbers: Vec<_> = doubts.into_keys().map(|(_, number)| number).collect();
        numbers.sort_unstable();
        numbers
    }

    #[test]
    fn only_the_first_window_of_a_session_is_in_doubt() {
        let early = vec![connected(true), publish(3, true)];
        assert_eq!(doubts(&[fresh(1..=3), answers(1..=3), early]), [3]);
        let later = vec![connected(true), publish(4, true), publish(5, true)];
        assert!(doubts(&[fresh(1..=5), answers(1..=5), later]).is_empty());
    }

    #[test]
    fn what_has_no_answer_is_in_doubt_only_after_a_kill() {
        let again = vec![connected(true), publish(2, true)];
        assert!(doubts(&[fresh(1..=2), answers(1..=1), again.clone()]).is_empty());
        assert_eq!(doubts(&[fresh(1..=2), vec![Passed::Killed], again]), [2]);
    }

    /// The connection ended while the agent was writing: the PUBACK that was next may have left, those behind it not.
    #[test]
    fn of_what_was_being_answered_the_next_is_in_doubt() {
        let again = vec![connected(true), publish(2, true), publish(3, true)];
        let packets = [fresh(1..=3), answers(1..=1), vec![Passed::End], again];
        assert_eq!(doubts(&packets), [2]);
    }

    #[test]
    fn what_came_before_a_doubt_proves_nothing_after_it() {
        let doubt = vec![connected(true), publish(2, true), publish(3, true)];
        let packets = [
            fresh(1..=3),
            answers(1..=3),
            doubt,
            fresh(4..=7),
            answers(2..=7),
        ];
        let packets = packets.concat();
        assert_eq!(doubts(&[packets.clone(), vec![publish(7, true)]]), [2, 3]);
        assert_eq!(doubts(&[packets, vec![publish(6, true)]]), [2, 3, 6]);
    }

    /// The broker had it in flight and the connection broke before it passed.
    #[test]
    fn what_passes_for_the_first_time_with_dup_is_no_doubt() {
        let unseen = vec![connected(true), publish(4, true), publish(5, true)];
        let packets = [fresh(1..=3), answers(1..=3), unseen];
        assert!(doubts(&packets).is_empty());
        let counts = deliveries(&passages(&packets));
        let once = Deliveries { fresh: 1, dup: 0 };
        assert!(counts.len() == 5 && counts.values().all(|count| *count == once));
    }

    #[test]
    fn a_new_session_and_an_id_from_long_ago_are_in_doubt() {
        let before = [fresh(1..=9), answers(1..=9)].concat();
        let lost = vec![connected(false), publish(9, true)];
        assert_eq!(doubts(&[before.clone(), lost]), [9]);
        let old = vec![connected(true), publish(6, true)];
        assert_eq!(doubts(&[before, old]), [6]);
    }
}
