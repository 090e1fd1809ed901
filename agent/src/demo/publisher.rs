//! A simulated MQTT device: numbered payloads at QoS 1, and what was not acknowledged is sent again after a reconnect, with DUP.
//!
//! It keeps count by itself, outside agent and hub: what it sent, and which of it was acknowledged.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4::{Connect, Packet, Publish};
use rumqttc::mqttbytes::{Error, QoS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::shutdown::Shutdown;

/// What a device knows of its own events.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Events made; they are numbered from 0.
    pub sent: u64,
    /// Those that were acknowledged.
    pub acked: BTreeSet<u64>,
    /// Publishes repeated with DUP.
    pub repeated: u64,
    /// Publishes repeated as new ones, because the other side had forgotten the session: each may become a copy.
    pub anew: u64,
}

/// A device.
#[derive(Debug)]
pub struct Publisher {
    name: String,
    listener: SocketAddr,
    pause: Duration,
    told: Arc<Mutex<Told>>,
    /// Sent and not acknowledged, in order: packet id and number.
    unsettled: VecDeque<(u16, u64)>,
    packet: u16,
}

impl Publisher {
    /// A device called `name` that makes an event every `pause`.
    #[must_use]
    pub fn new(name: &str, listener: SocketAddr, pause: Duration) -> Self {
        let told = Arc::default();
        Self {
            name: name.to_owned(),
            listener,
            pause,
            told,
            unsettled: VecDeque::new(),
            packet: 0,
        }
    }

    /// What it will tell.
    #[must_use]
    pub fn told(&self) -> Arc<Mutex<Told>> {
        Arc::clone(&self.told)
    }

    /// Makes events until the shutdown, and goes on until the last of them is acknowledged.
    pub async fn run(mut self, shutdown: Shutdown) {
        while !shutdown.is_requested() || !self.unsettled.is_empty() {
            // Whatever ended the connection: a device tries again.
            drop(self.converse(shutdown.clone()).await);
            sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn converse(&mut self, mut shutdown: Shutdown) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.listener).await?;
        let (mut incoming, mut outgoing) = (BytesMut::new(), BytesMut::new());
        let mut connect = Connect::new(&self.name);
        connect.clean_session = false;
        write(&mut outgoing, &Packet::Connect(connect))?;
        stream.write_all(&outgoing.split()).await?;
        let Packet::ConnAck(connack) = read(&mut stream, &mut incoming).await? else {
            return Err(unexpected());
        };
        self.repeat(connack.session_present, &mut outgoing)?;
        let mut tick = interval(self.pause);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            stream.write_all(&outgoing.split()).await?;
            let stopping = shutdown.is_requested();
            if stopping && self.unsettled.is_empty() {
                write(&mut outgoing, &Packet::Disconnect)?;
                return stream.write_all(&outgoing).await;
            }
            tokio::select! {
                packet = read(&mut stream, &mut incoming) => match packet? {
                    Packet::PubAck(ack) => self.acknowledged(ack.pkid),
                    _ => return Err(unexpected()),
                },
                _ = tick.tick(), if !stopping && self.unsettled.len() < IN_FLIGHT_MAX => self.publish(&mut outgoing)?,
                () = shutdown.requested(), if !stopping => {}
            }
        }
    }

    fn publish(&mut self, outgoing: &mut BytesMut) -> io::Result<()> {
        self.packet = if self.packet == u16::MAX {
            1
        } else {
            self.packet + 1
        };
        let number = {
            let mut told = locked(&self.told);
            told.sent += 1;
            told.sent - 1
        };
        self.unsettled.push_back((self.packet, number));
        self.write(self.packet, number, false, outgoing)
    }

    /// Everything unsettled again, in its order; with DUP if the session is the same.
    fn repeat(&mut self, same_session: bool, outgoing: &mut BytesMut) -> io::Result<()> {
        let count = self.unsettled.len() as u64;
        match same_session {
            true => locked(&self.told).repeated += count,
            false => locked(&self.told).anew += count,
        }
        for (packet, number) in self.unsettled.clone() {
            self.write(packet, number, same_session, outgoing)?;
        }
        Ok(())
    }

    fn write(
        &self,
        packet: u16,
        number: u64,
        dup: bool,
        outgoing: &mut BytesMut,
    ) -> io::Result<()> {
        let topic = format!("sensors/{}/temp", self.name);
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, super::payload(&self.name, number));
        (publish.pkid, publish.dup) = (packet, dup);
        write(outgoing, &Packet::Publish(publish))
    }

    fn acknowledged(&mut self, packet: u16) {
        if let Some(place) = self
            .unsettled
            .iter()
            .position(|(unsettled, _)| *unsettled == packet)
            && let Some((_, number)) = self.unsettled.remove(place)
        {
            locked(&self.told).acked.insert(number);
        }
    }
}

/// Reads one packet. Can be dropped and called again: what was read stays in `incoming`.
async fn read(stream: &mut TcpStream, incoming: &mut BytesMut) -> io::Result<Packet> {
    loop {
        match Packet::read(incoming, PACKET_BYTES_MAX) {
            Ok(packet) => return Ok(packet),
            Err(Error::InsufficientBytes(_)) => {}
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
        if stream.read_buf(incoming).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn write(outgoing: &mut BytesMut, packet: &Packet) -> io::Result<()> {
    packet
        .write(outgoing, PACKET_BYTES_MAX)
        .map(drop)
        .map_err(|error| io::Error::other(error.to_string()))
}

fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not what a listener says here")
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// Publishes without PUBACK, at most.
pub(super) const IN_FLIGHT_MAX: usize = 20;
const PACKET_BYTES_MAX: usize = 64 << 10;
