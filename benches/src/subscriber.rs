//! A QoS 1 subscriber that costs as little as a subscriber can, so that what is measured is the broker before it.
//!
//! It reads what has come and keeps nothing but the number that must come next. It acknowledges half a window with one write, or less when
//! nothing more comes: a broker that is told of each message alone spends its time on that.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sedge_tests::rig::packets::{self, Packet, first};

use crate::load;
use crate::peers::SUBSCRIBER_WINDOW as WINDOW;

/// A subscription that stands.
#[derive(Debug)]
pub struct Subscriber {
    stream: TcpStream,
    buffer: Vec<u8>,
    held: usize,
}

impl Subscriber {
    /// Subscribes to `filter` at the broker `at`.
    ///
    /// # Errors
    /// If the broker is not there or refuses.
    pub fn open(at: SocketAddr, filter: &str) -> Result<Self> {
        let mut stream =
            TcpStream::connect(at).with_context(|| format!("cannot connect to {at}"))?;
        stream.set_nodelay(true)?;
        stream.write_all(&packets::connect("subscriber", true, 0))?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).context("no CONNACK")?;
        ensure!(answer == [0x20, 2, 0, 0], "refused: CONNACK {answer:02x?}");
        stream.write_all(&packets::subscribe(1, filter))?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).context("no SUBACK")?;
        ensure!(
            answer == [0x90, 3, 0, 1, 1],
            "refused: SUBACK {answer:02x?}"
        );
        Ok(Self {
            stream,
            buffer: vec![0; 256 * 1024],
            held: 0,
        })
    }

    /// Takes what one run of a [`Load`](crate::load::Load) with one connection publishes: `count` events, each once and in order.
    ///
    /// # Errors
    /// If one is missing, or comes twice.
    pub fn take(&mut self, count: u64) -> Result<()> {
        let (mut taken, mut acks) = (0, Vec::new());
        while taken < count {
            let more = self
                .read(if acks.is_empty() { SILENCE } else { PAUSE })
                .with_context(|| format!("{taken} of {count} have come"))?;
            ensure!(more || !acks.is_empty(), "{taken} of {count} have come");
            self.take_whole(&mut taken, &mut acks)?;
            if !more || acks.len() >= ACKS_BYTES_WANTED || taken == count {
                self.stream.write_all(&acks).context("acknowledging")?;
                acks.clear();
            }
        }
        Ok(())
    }

    /// Whether anything came in time.
    fn read(&mut self, within: Duration) -> Result<bool> {
        let within = Timespec {
            tv_sec: within.as_secs() as i64,
            tv_nsec: i64::from(within.subsec_nanos()),
        };
        let input = PollFd::new(&self.stream, PollFlags::IN);
        if poll(&mut [input], Some(&within))? == 0 {
            return Ok(false);
        }
        let read = self.stream.read(&mut self.buffer[self.held..])?;
        ensure!(read > 0, "the broker closed the connection");
        self.held += read;
        Ok(true)
    }

    fn take_whole(&mut self, taken: &mut u64, acks: &mut Vec<u8>) -> Result<()> {
        let mut at = 0;
        while let Some((packet, len)) = first(&self.buffer[at..self.held]) {
            let Packet::Publish { id, payload, .. } = packet else {
                anyhow::bail!("expected PUBLISH, got {packet:?}");
            };
            let number = load::number_of(payload);
            ensure!(
                number == Some(*taken),
                "expected event {taken}, got {number:?}"
            );
            acks.extend(packets::pub_ack(id));
            *taken += 1;
            at += len;
        }
        self.buffer.copy_within(at..self.held, 0);
        self.held -= at;
        Ok(())
    }
}

const ACKS_BYTES_WANTED: usize = 4 * WINDOW as usize / 2;
const PAUSE: Duration = Duration::from_millis(1);
/// A broker that says nothing for so long has lost an event.
const SILENCE: Duration = Duration::from_secs(30);
