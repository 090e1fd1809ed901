//! A device that publishes at QoS 1 and does what MQTT 3.1.1 asks of it: what has no PUBACK is sent again after a reconnect, in the same
//! order, under the same packet id, with DUP set if the listener still has the session, and as a new publish if it has not.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::eventually;
use super::packets::{self, Packet};

/// How a device behaves.
#[derive(Clone, Debug)]
pub struct Habit {
    /// The listener.
    pub to: SocketAddr,
    /// Client id, and a level of the topic.
    pub name: String,
    /// Same payload every time; else it carries the event's number.
    pub constant: bool,
    /// Publishes without PUBACK, at most.
    pub in_flight: usize,
    /// Stops by itself after so many events.
    pub count: u64,
    /// Rest after each batch of publishes.
    pub rest: Duration,
    /// Bytes that each payload is filled up to.
    pub payload_bytes: usize,
}

impl Habit {
    /// A device that goes on until it is told to stop, with 20 publishes in flight.
    #[must_use]
    pub fn new(to: SocketAddr, name: &str) -> Self {
        let rest = Duration::from_millis(1);
        Self {
            to,
            name: name.into(),
            constant: false,
            in_flight: 20,
            count: u64::MAX,
            rest,
            payload_bytes: 0,
        }
    }

    /// The topic of its publishes.
    #[must_use]
    pub fn topic(&self) -> String {
        format!("sensors/{}/temp", self.name)
    }
}

/// A device at work.
#[derive(Debug)]
pub struct Device {
    shared: Arc<Shared>,
    work: Option<JoinHandle<()>>,
}

/// What a device knows: told by it, not by what it talks to.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Topic of everything it published.
    pub topic: String,
    /// The payload carries no number.
    pub constant: bool,
    /// For each number: how often it was sent as a new publish.
    pub fresh: Vec<u32>,
    /// For each number: whether a PUBACK came.
    pub acked: Vec<bool>,
    /// Reconnects at which the listener had forgotten the session.
    pub sessions_lost: u64,
    /// Publishes sent again with DUP.
    pub redelivered: u64,
}

impl Told {
    /// Numbers with a PUBACK.
    #[must_use]
    pub fn acked_count(&self) -> u64 {
        self.acked.iter().filter(|acked| **acked).count() as u64
    }
}

#[derive(Debug, Default)]
struct Shared {
    stop_sending: AtomicBool,
    give_up: AtomicBool,
    acked: AtomicU64,
    told: Mutex<Told>,
}

impl Device {
    /// Switches it on.
    #[must_use]
    pub fn start(habit: Habit) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        theirs.told.lock().expect("no panic under this lock").topic = habit.topic();
        theirs
            .told
            .lock()
            .expect("no panic under this lock")
            .constant = habit.constant;
        let work = std::thread::spawn(move || Firmware::new(habit, theirs).run());
        Self {
            shared,
            work: Some(work),
        }
    }

    /// Events with PUBACK so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.shared.acked.load(Ordering::Acquire)
    }

    /// Waits until the device has counted its packet ids up for longer than its window of `window_max`: from then on redeliveries are recognised
    /// ([decision 0003](../../../docs/decisions/0003-when-dup-is-a-duplicate.md)).
    pub fn wait_for_a_run(&self, window_max: u16, patience: Duration) {
        let run = u64::from(window_max) * 4;
        eventually(patience, "the device has a run", || {
            (self.acked() > run).then_some(())
        });
    }

    /// What it knows at this moment.
    #[must_use]
    pub fn told(&self) -> Told {
        self.shared
            .told
            .lock()
            .expect("no panic under this lock")
            .clone()
    }

    /// Publishes nothing new, waits for every PUBACK, disconnects.
    ///
    /// # Panics
    /// If PUBACKs are missing after `within`.
    pub fn finish(mut self, within: Duration) -> Told {
        self.shared.stop_sending.store(true, Ordering::Release);
        let work = self.work.take().expect("finished once");
        eventually(
            within,
            "every publish of the device is acknowledged",
            || work.is_finished().then_some(()),
        );
        work.join().expect("the device panicked");
        self.told()
    }

    /// Waits until it has sent its count, then as [`Self::finish`].
    pub fn finish_count(mut self, within: Duration) -> Told {
        let work = self.work.take().expect("finished once");
        eventually(within, "the device has sent its events", || {
            work.is_finished().then_some(())
        });
        work.join().expect("the device panicked");
        self.told()
    }

    /// Switches it off as it is, whatever is in flight.
    pub fn abandon(mut self) -> Told {
        self.shared.give_up.store(true, Ordering::Release);
        self.work
            .take()
            .expect("finished once")
            .join()
            .expect("the device panicked");
        self.told()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.give_up.store(true, Ordering::Release);
        if let Some(work) = self.work.take() {
            work.join().ok();
        }
    }
}

/// A publish without PUBACK.
struct Unsettled {
    number: u64,
    id: u16,
}

struct Firmware {
    habit: Habit,
    topic: String,
    shared: Arc<Shared>,
    next: u64,
    next_id: u16,
    unsettled: VecDeque<Unsettled>,
}

/// Why a conversation ended.
enum End {
    Done,
    Broken,
}

impl Firmware {
    fn new(habit: Habit, shared: Arc<Shared>) -> Self {
        let topic = habit.topic();
        Self {
            habit,
            topic,
            shared,
            next: 0,
            next_id: 1,
            unsettled: VecDeque::new(),
        }
    }

    fn run(&mut self) {
        while !self.shared.give_up.load(Ordering::Acquire) {
            match self.converse() {
                Ok(End::Done) => return,
                Ok(End::Broken) | Err(_) => std::thread::sleep(RECONNECT_AFTER),
            }
        }
    }

    fn converse(&mut self) -> std::io::Result<End> {
        let mut stream = TcpStream::connect(self.habit.to)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_UP))?;
        stream.set_write_timeout(Some(STUCK_AFTER))?;
        stream.write_all(&packets::connect(&self.habit.name, false, 60))?;
        let mut input = Input::default();
        let Some(session_present) = self.await_conn_ack(&mut stream, &mut input)? else {
            return Ok(End::Broken);
        };
        self.send_again(&mut stream, session_present)?;
        loop {
            if self.shared.give_up.load(Ordering::Acquire) {
                return Ok(End::Done);
            }
            let sent = self.send_new(&mut stream)?;
            if self.unsettled.is_empty() && !self.may_send() {
                stream.write_all(&packets::DISCONNECT)?;
                return Ok(End::Done);
            }
            if !self.settle(&mut stream, &mut input)? {
                return Ok(End::Broken);
            }
            if sent && !self.habit.rest.is_zero() {
                std::thread::sleep(self.habit.rest);
            }
        }
    }

    /// `None`: the connection ended, or was refused, before the listener was ready.
    fn await_conn_ack(
        &self,
        stream: &mut TcpStream,
        input: &mut Input,
    ) -> std::io::Result<Option<bool>> {
        for _ in 0..CONN_ACK_LOOKS {
            let open = input.read(stream)?;
            if let Some((
                Packet::ConnAck {
                    session_present,
                    code,
                },
                used,
            )) = packets::first(&input.bytes)
            {
                input.bytes.drain(..used);
                return Ok((code == 0).then_some(session_present));
            }
            if !open || self.shared.give_up.load(Ordering::Acquire) {
                break;
            }
        }
        Ok(None)
    }

    fn send_again(&mut self, stream: &mut TcpStream, session_present: bool) -> std::io::Result<()> {
        let mut told = self.shared.told.lock().expect("no panic under this lock");
        if !session_present && !self.unsettled.is_empty() {
            told.sessions_lost += 1;
        }
        let mut out = Vec::new();
        for publish in &self.unsettled {
            if session_present {
                told.redelivered += 1;
            } else {
                told.fresh[publish.number as usize] += 1;
            }
            packets::publish(
                &mut out,
                &self.topic,
                publish.id,
                session_present,
                &payload(&self.habit, publish.number),
            );
        }
        drop(told);
        stream.write_all(&out)
    }

    fn may_send(&self) -> bool {
        self.next < self.habit.count && !self.shared.stop_sending.load(Ordering::Acquire)
    }

    fn send_new(&mut self, stream: &mut TcpStream) -> std::io::Result<bool> {
        let mut out = Vec::new();
        let mut told = self.shared.told.lock().expect("no panic under this lock");
        while self.unsettled.len() < self.habit.in_flight && self.may_send() {
            let (number, id) = (self.next, self.next_id);
            packets::publish(
                &mut out,
                &self.topic,
                id,
                false,
                &payload(&self.habit, number),
            );
            self.unsettled.push_back(Unsettled { number, id });
            told.fresh.push(1);
            told.acked.push(false);
            self.next += 1;
            self.next_id = if id == u16::MAX { 1 } else { id + 1 };
        }
        drop(told);
        stream.write_all(&out)?;
        Ok(!out.is_empty())
    }

    /// Reads what has come. False if the connection has ended.
    fn settle(&mut self, stream: &mut TcpStream, input: &mut Input) -> std::io::Result<bool> {
        let open = input.read(stream)?;
        let mut told = self.shared.told.lock().expect("no panic under this lock");
        let mut used = 0;
        while let Some((packet, len)) = packets::first(&input.bytes[used..]) {
            used += len;
            let Packet::PubAck { id } = packet else {
                continue;
            };
            let place = self.unsettled.iter().position(|publish| publish.id == id);
            let place = place.unwrap_or_else(|| {
                panic!("{}: a PUBACK for {id}, which is not in flight", self.topic)
            });
            let publish = self.unsettled.remove(place).expect("it was just found");
            told.acked[publish.number as usize] = true;
            self.shared.acked.fetch_add(1, Ordering::AcqRel);
        }
        input.bytes.drain(..used);
        Ok(open)
    }
}

/// Bytes that have come and are not yet a whole packet.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
}

impl Input {
    /// Reads what is there, waiting for a moment. False if the other end has closed.
    fn read(&mut self, stream: &mut TcpStream) -> std::io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(read) => {
                self.bytes.extend_from_slice(&buffer[..read]);
                Ok(true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                Ok(true)
            }
            Err(error) => Err(error),
        }
    }
}

fn payload(habit: &Habit, number: u64) -> Vec<u8> {
    let mut payload = if habit.constant {
        String::from("{\"t\":20.5")
    } else {
        format!("{{\"n\":{number}")
    };
    let fill = habit.payload_bytes.saturating_sub(payload.len() + 1);
    if fill > PAD_FRAME {
        payload.push_str(",\"pad\":\"");
        payload.push_str(&"x".repeat(fill - PAD_FRAME));
        payload.push('"');
    }
    payload.push('}');
    payload.into_bytes()
}

const PAD_FRAME: usize = ",\"pad\":\"\"".len();
const RECONNECT_AFTER: Duration = Duration::from_millis(3);
/// How long a read waits before the device looks whether it should stop.
const LOOK_UP: Duration = Duration::from_millis(20);
const STUCK_AFTER: Duration = Duration::from_secs(20);
const CONN_ACK_LOOKS: u32 = 500;
