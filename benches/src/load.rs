//! A QoS 1 publisher that costs as little as a publisher can, so that what is measured is the other end.
//!
//! One connection is one thread when it runs flat out (a window of publishes is written at once, then acknowledgements are read as they
//! come) and two when it keeps a rate. Packets are copies of one template in which the packet id and the number are replaced.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use sedge_tests::rig::packets;

/// What to send, to whom, how fast, and how long.
#[derive(Clone, Debug)]
pub struct Load {
    /// An MQTT listener.
    pub to: SocketAddr,
    /// Connections, each with a window of its own.
    pub connections: u32,
    /// Publishes without PUBACK, at most, on each connection.
    pub in_flight: u16,
    /// Events a second over all connections; none: as fast as the window allows.
    pub rate: Option<f64>,
    /// When to stop sending. What was sent is always waited for.
    pub until: Until,
    /// Payload bytes of an event.
    pub payload_bytes: usize,
    /// The topic of the first connection; the others append their number.
    pub topic: String,
}

/// The end of a run.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    /// After so many events on all connections.
    Count(u64),
    /// After so long.
    For(Duration),
}

/// What came back.
pub struct Outcome {
    /// Events with a PUBACK: all that were sent.
    pub acked: u64,
    /// From the first publish to the last PUBACK.
    pub elapsed: Duration,
    /// Nanoseconds from a publish to its PUBACK.
    pub to_puback: Histogram<u64>,
}

impl Load {
    /// Runs the load to its end.
    ///
    /// # Errors
    /// If a connection cannot be made, is refused, or ends early.
    pub fn run(&self) -> Result<Outcome> {
        let connections: Vec<Connection> = (0..self.connections)
            .map(|number| Connection::open(self, number))
            .collect::<Result<_>>()?;
        let begun = Instant::now();
        let results: Vec<Result<Histogram<u64>>> = std::thread::scope(|scope| {
            let runs: Vec<_> = connections
                .into_iter()
                .map(|connection| {
                    scope.spawn(move || match self.rate {
                        None => connection.flat_out(begun),
                        Some(rate) => connection.paced(begun, rate / f64::from(self.connections)),
                    })
                })
                .collect();
            runs.into_iter()
                .map(|run| run.join().expect("a publisher panicked"))
                .collect()
        });
        let elapsed = begun.elapsed();
        let mut to_puback = latencies();
        for result in results {
            to_puback.add(result?).context("merging latencies")?;
        }
        Ok(Outcome {
            acked: to_puback.len(),
            elapsed,
            to_puback,
        })
    }
}

impl Outcome {
    /// Events a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.acked as f64 / self.elapsed.as_secs_f64()
    }
}

struct Connection {
    stream: TcpStream,
    template: Template,
    window: u64,
    until: Until,
}

impl Connection {
    fn open(load: &Load, number: u32) -> Result<Self> {
        let mut stream = TcpStream::connect(load.to)
            .with_context(|| format!("cannot connect to {}", load.to))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.write_all(&packets::connect(
            &format!("load-{}-{number}", std::process::id()),
            true,
            0,
        ))?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).context("no CONNACK")?;
        ensure!(answer == [0x20, 2, 0, 0], "refused: CONNACK {answer:02x?}");
        let topic = if number == 0 {
            load.topic.clone()
        } else {
            format!("{}-{number}", load.topic)
        };
        let until = match load.until {
            Until::Count(count) => {
                let share = count / u64::from(load.connections);
                let rest = count % u64::from(load.connections);
                Until::Count(share + u64::from(u64::from(number) < rest))
            }
            Until::For(duration) => Until::For(duration),
        };
        let template = Template::new(&topic, load.payload_bytes)?;
        Ok(Self {
            stream,
            template,
            window: u64::from(load.in_flight.clamp(1, WINDOW_MAX)),
            until,
        })
    }

    fn flat_out(mut self, begun: Instant) -> Result<Histogram<u64>> {
        let mut latency = latencies();
        let mut sent_at = vec![begun; IDS];
        let mut out = Vec::new();
        let mut acks = Acks::new();
        let (mut sent, mut acked) = (0, 0);
        loop {
            let now = Instant::now();
            let may_send = self
                .until
                .allows(sent, now - begun)
                .min(self.window - (sent - acked));
            out.clear();
            for number in sent..sent + may_send {
                sent_at[slot(number)] = now;
                self.template.append(&mut out, number);
            }
            sent += may_send;
            self.stream.write_all(&out).context("publishing")?;
            if acked == sent {
                return Ok(latency);
            }
            acks.read(&mut self.stream)?;
            let now = Instant::now();
            acked += acks.take(acked, |number| {
                latency.saturating_record((now - sent_at[slot(number)]).as_nanos() as u64);
            })?;
        }
    }

    /// An event's time to PUBACK counts from when it was due, also if the window was full then.
    fn paced(mut self, begun: Instant, rate: f64) -> Result<Histogram<u64>> {
        let due_at = Mutex::new(vec![begun; IDS]);
        let acked = AtomicU64::new(0);
        let sent_all = AtomicU64::new(u64::MAX);
        let failed = AtomicBool::new(false);
        let mut input = self.stream.try_clone()?;
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let result = collect(&mut input, &due_at, &acked, &sent_all);
                failed.store(result.is_err(), Ordering::Release);
                result
            });
            let (mut due, mut sent) = (0, 0);
            let mut out = Vec::new();
            while !failed.load(Ordering::Acquire) {
                let now = Instant::now();
                let elapsed = now - begun;
                let settled = acked.load(Ordering::Acquire);
                let wanted = ((elapsed.as_secs_f64() * rate) as u64).min(settled + IDS as u64 / 2);
                let wanted = wanted.min(due + self.until.allows(due, elapsed));
                if wanted > due {
                    let mut due_at = due_at.lock().expect("the reader does not panic");
                    (due..wanted).for_each(|number| due_at[slot(number)] = now);
                    due = wanted;
                }
                let may_send = (due - sent).min(self.window - (sent - settled));
                out.clear();
                (sent..sent + may_send).for_each(|number| self.template.append(&mut out, number));
                sent += may_send;
                self.stream.write_all(&out).context("publishing")?;
                if sent == due && self.until.allows(due, elapsed) == 0 {
                    break;
                }
                let next = Duration::from_secs_f64((due + 1) as f64 / rate);
                let pause = next.saturating_sub(begun.elapsed());
                std::thread::sleep(pause.clamp(PAUSE_MIN, PAUSE_MAX));
            }
            sent_all.store(sent, Ordering::Release);
            // Whoever groups acknowledgements may answer a PING before those of events that came first.
            while acked.load(Ordering::Acquire) < sent && !failed.load(Ordering::Acquire) {
                std::thread::sleep(PAUSE_MIN);
            }
            // A PINGRESP wakes the reader if the last PUBACK came before it could know that it was the last.
            self.stream.write_all(&packets::PING).context("pinging")?;
            reader.join().expect("the reader panicked")
        })
    }
}

/// Reads acknowledgements until `sent_all` of them have come.
fn collect(
    input: &mut TcpStream,
    due_at: &Mutex<Vec<Instant>>,
    acked: &AtomicU64,
    sent_all: &AtomicU64,
) -> Result<Histogram<u64>> {
    let mut latency = latencies();
    let mut acks = Acks::new();
    let mut taken = 0;
    while taken < sent_all.load(Ordering::Acquire) {
        acks.read(input)?;
        let now = Instant::now();
        let due_at = due_at.lock().expect("the sender does not panic");
        taken += acks.take(taken, |number| {
            latency.saturating_record(
                now.saturating_duration_since(due_at[slot(number)])
                    .as_nanos() as u64,
            );
        })?;
        acked.store(taken, Ordering::Release);
    }
    Ok(latency)
}

impl Until {
    /// How many more may be sent after `sent` of them and `elapsed`.
    fn allows(self, sent: u64, elapsed: Duration) -> u64 {
        match self {
            Self::Count(count) => count - sent,
            Self::For(duration) if elapsed >= duration => 0,
            Self::For(_) => u64::MAX / 2,
        }
    }
}

/// A publish packet with holes for the packet id and the number.
struct Template {
    bytes: Vec<u8>,
    id_at: usize,
    number_at: usize,
}

impl Template {
    fn new(topic: &str, payload_bytes: usize) -> Result<Self> {
        let mut payload = format!("{{\"n\":{:0>NUMBER_DIGITS$},\"pad\":\"", 1).into_bytes();
        if payload_bytes < payload.len() + 2 {
            bail!("a payload has at least {} bytes", payload.len() + 2);
        }
        payload.resize(payload_bytes - 2, b'x');
        payload.extend(b"\"}");
        payload[NUMBER_IN_PAYLOAD] = b'1';
        let mut bytes = Vec::new();
        packets::publish(&mut bytes, topic, 1, false, &payload);
        let payload_at = bytes.len() - payload_bytes;
        Ok(Self {
            bytes,
            id_at: payload_at - 2,
            number_at: payload_at + NUMBER_IN_PAYLOAD + 1,
        })
    }

    fn append(&self, out: &mut Vec<u8>, number: u64) {
        let start = out.len();
        out.extend_from_slice(&self.bytes);
        let packet = &mut out[start..];
        packet[self.id_at..self.id_at + 2].copy_from_slice(&packet_id(number).to_be_bytes());
        let mut rest = number;
        for digit in packet[self.number_at..self.number_at + NUMBER_DIGITS - 1]
            .iter_mut()
            .rev()
        {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
}

/// Reads PUBACKs in bulk. Any number of bytes may arrive; a packet cut in two waits for its rest.
struct Acks {
    buffer: Vec<u8>,
    held: usize,
}

impl Acks {
    fn new() -> Self {
        Self {
            buffer: vec![0; 64 * 1024],
            held: 0,
        }
    }

    /// Waits for bytes.
    fn read(&mut self, input: &mut TcpStream) -> Result<()> {
        let read = input
            .read(&mut self.buffer[self.held..])
            .context("waiting for PUBACK")?;
        ensure!(
            read > 0,
            "the connection was closed before every PUBACK had come"
        );
        self.held += read;
        // The one PINGRESP that is ever asked for comes at the very end; nothing follows it.
        if self.held % 4 == 2 && self.buffer[..self.held].ends_with(&[0xD0, 0]) {
            self.held -= 2;
        }
        Ok(())
    }

    /// Shows the numbers that the whole packets held acknowledge, the first of them `from`; returns how many.
    fn take(&mut self, from: u64, mut each: impl FnMut(u64)) -> Result<u64> {
        let bytes = self.held / 4 * 4;
        for (number, packet) in (from..).zip(self.buffer[..bytes].chunks_exact(4)) {
            let [high, low] = packet_id(number).to_be_bytes();
            ensure!(
                packet == [0x40, 2, high, low],
                "expected PUBACK {high:02x}{low:02x}, got {packet:02x?}"
            );
            each(number);
        }
        self.buffer.copy_within(bytes..self.held, 0);
        self.held -= bytes;
        Ok(bytes as u64 / 4)
    }
}

/// The number of an event, from 0 on in each run, by its payload.
#[must_use]
pub fn number_of(payload: &[u8]) -> Option<u64> {
    let digits = payload.get(NUMBER_IN_PAYLOAD..)?.get(..NUMBER_DIGITS)?;
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    number.checked_sub(NUMBER_BEFORE_FIRST)
}

fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("bounds are fixed")
}

fn packet_id(number: u64) -> u16 {
    (number % (IDS as u64 - 1)) as u16 + 1
}

fn slot(number: u64) -> usize {
    (number % IDS as u64) as usize
}

/// Packet ids, 0 included, which is never used.
const IDS: usize = 1 << 16;
/// Half the packet ids, so that an id is never in flight twice.
const WINDOW_MAX: u16 = 1 << 15;
const NUMBER_IN_PAYLOAD: usize = "{\"n\":".len();
const NUMBER_DIGITS: usize = 13;
/// JSON numbers have no leading zeros: the first digit is 1 and stays.
const NUMBER_BEFORE_FIRST: u64 = 10_u64.pow(NUMBER_DIGITS as u32 - 1);
/// A listener that says nothing for so long has lost an event.
const SILENCE: Duration = Duration::from_secs(30);
/// The kernel's timer slack is 50 µs; shorter pauses would be longer than asked for.
const PAUSE_MIN: Duration = Duration::from_micros(50);
const PAUSE_MAX: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::{NUMBER_BEFORE_FIRST, Template, number_of};
    use sedge_tests::rig::packets::{Packet, first};

    #[test]
    fn every_packet_is_a_publish_with_its_own_number() {
        let template = Template::new("a/b", 128).unwrap();
        let mut bytes = Vec::new();
        template.append(&mut bytes, 41);
        template.append(&mut bytes, 65_535);

        let (packet, used) = first(&bytes).unwrap();
        let Packet::Publish {
            topic: "a/b",
            id: 42,
            dup: false,
            payload,
        } = packet
        else {
            panic!("{packet:?}")
        };
        let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(payload.len(), 128);
        assert_eq!(value["n"], NUMBER_BEFORE_FIRST + 41);
        assert_eq!(number_of(payload), Some(41));

        let (packet, _) = first(&bytes[used..]).unwrap();
        assert!(
            matches!(packet, Packet::Publish { id: 1, .. }),
            "ids begin again after 65,535"
        );
    }
}
