//! The way out of a message that is too large to be read: over a connection of its own the oversize PUBLISH is streamed away, its beginning is kept, and it is acknowledged.
//!
//! MQTT 3.1.1 has no means to tell the broker our limit, so such a message comes again on every connection, for ever, and everything behind it waits.
//! This conversation uses the same client id (the same session), keeps no more of a payload than a dead letter does, acknowledges nothing but the one message,
//! and leaves. This file knows nothing of rumqttc's event loop, streams or commits.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use rumqttc::mqttbytes::v4;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};

use super::broker::Target;
use super::way::{self, Way};
use crate::dead_letter::Remains;

/// What is kept of a message that is streamed away.
#[derive(Debug)]
pub(super) struct Oversize {
    /// Topic name.
    pub(super) topic: Vec<u8>,
    /// What is kept of the payload.
    pub(super) remains: Remains,
    /// None for QoS 0.
    packet_id: Option<u16>,
}

/// The connection that met an oversize message and can acknowledge it.
pub(super) struct Escape {
    stream: BufReader<Box<dyn Way>>,
    packet_id: Option<u16>,
}

impl Escape {
    /// Connects and reads until a PUBLISH above the limit has passed by. `None` when the broker sends none within the time:
    /// the message has expired, or another one comes first.
    ///
    /// # Errors
    /// Whatever the network or the broker's CONNACK says.
    pub(super) async fn meet(target: &Target) -> io::Result<Option<(Self, Oversize)>> {
        match tokio::time::timeout(MEET_TIMEOUT, Self::search(target)).await {
            Ok(met) => met,
            Err(_elapsed) => Ok(None),
        }
    }

    /// Acknowledges the message (once it is kept) and leaves.
    ///
    /// # Errors
    /// When the broker is gone; the message will come again and be recognised as already kept or be kept twice.
    pub(super) async fn acknowledge(mut self) -> io::Result<()> {
        if let Some(packet_id) = self.packet_id {
            let [high, low] = packet_id.to_be_bytes();
            self.stream.write_all(&[PUBACK, 2, high, low]).await?;
        }
        self.stream.write_all(&[DISCONNECT, 0]).await?;
        self.stream.flush().await?;
        // Waiting for the broker to close shows that it has read the PUBACK.
        let closed = async {
            while self.stream.read(&mut [0; 512]).await? > 0 {}
            io::Result::Ok(())
        };
        tokio::time::timeout(CLOSE_TIMEOUT, closed)
            .await
            .unwrap_or(Ok(()))
    }

    async fn search(target: &Target) -> io::Result<Option<(Self, Oversize)>> {
        let stream = way::connect(target).await?;
        let mut stream = BufReader::with_capacity(READ_BYTES, stream);
        stream.write_all(&connect_packet(target)?).await?;
        expect_connack(&mut stream).await?;
        for _ in 0..PACKETS_MAX {
            let (first, len) = read_fixed_header(&mut stream).await?;
            if first >> 4 != PUBLISH || len <= target.packet_bytes_max {
                skip(&mut stream, u64::from(len)).await?;
                continue;
            }
            let oversize = read_oversize(&mut stream, first, len).await?;
            let packet_id = oversize.packet_id;
            return Ok(Some((Self { stream, packet_id }, oversize)));
        }
        Ok(None)
    }
}

fn connect_packet(target: &Target) -> io::Result<BytesMut> {
    let mut connect = v4::Connect::new(target.client_id.clone());
    connect.clean_session = false;
    connect.keep_alive = u16::try_from(target.keep_alive.as_secs()).unwrap_or(u16::MAX);
    if let Some((user, password)) = &target.credentials {
        connect.set_login(user.clone(), password.clone());
    }
    let mut bytes = BytesMut::new();
    connect.write(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

async fn expect_connack(stream: &mut BufReader<Box<dyn Way>>) -> io::Result<()> {
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    match connack {
        [0x20, 2, _, 0] => Ok(()),
        [0x20, 2, _, code] => Err(io::Error::other(format!(
            "the broker refused the connection with code {code}"
        ))),
        _ => Err(io::Error::other(
            "the broker did not answer CONNECT with CONNACK",
        )),
    }
}

async fn read_fixed_header(stream: &mut BufReader<Box<dyn Way>>) -> io::Result<(u8, u32)> {
    let first = stream.read_u8().await?;
    let mut len = 0;
    for shift in [0, 7, 14, 21] {
        let byte = stream.read_u8().await?;
        len |= u32::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok((first, len));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "remaining length longer than four bytes",
    ))
}

async fn read_oversize(
    stream: &mut BufReader<Box<dyn Way>>,
    first: u8,
    len: u32,
) -> io::Result<Oversize> {
    let mut topic = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut topic).await?;
    let has_packet_id = first & 0b0110 != 0;
    let packet_id = if has_packet_id {
        Some(stream.read_u16().await?)
    } else {
        None
    };
    let before = 2 + topic.len() as u64 + if has_packet_id { 2 } else { 0 };
    let payload_len = u64::from(len).checked_sub(before).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "topic longer than its packet")
    })?;

    let mut remains = Remains::default();
    let mut left = payload_len;
    let mut chunk = vec![0; READ_BYTES];
    while left > 0 {
        let wanted = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = stream.read(&mut chunk[..wanted]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = &chunk[..read];
        remains.add(bytes);
        left -= read as u64;
    }
    Ok(Oversize {
        topic,
        remains,
        packet_id,
    })
}

async fn skip(stream: &mut BufReader<Box<dyn Way>>, bytes: u64) -> io::Result<()> {
    let skipped = tokio::io::copy(&mut stream.take(bytes), &mut tokio::io::sink()).await?;
    if skipped == bytes {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

const READ_BYTES: usize = 16 * 1024;
/// A broker sends at most its in-flight window before it waits for acknowledgements; packet ids bound that.
const PACKETS_MAX: u32 = 65_535;
const MEET_TIMEOUT: Duration = Duration::from_secs(60);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
const PUBLISH: u8 = 3;
const PUBACK: u8 = 0x40;
const DISCONNECT: u8 = 0xE0;

#[cfg(test)]
mod tests {
    use super::super::fake_broker::FakeBroker;
    use super::*;
    use rumqttc::mqttbytes::v4::Packet;

    /// Small messages before it are left alone, the large one is kept in part and acknowledged after that, in the session that holds it.
    #[tokio::test]
    async fn oversize_message_is_streamed_away_and_acknowledged() {
        let broker = FakeBroker::start().await;
        let target = broker.target();
        let escape = tokio::spawn(async move { Escape::meet(&target).await });
        let mut conversation = broker.accept(true).await;
        assert!(!conversation.clean_session);
        conversation.publish(1, true, b"small").await;
        conversation.publish(2, true, &[b'x'; 100_000]).await;
        let (escape, oversize) = escape
            .await
            .expect("joined")
            .expect("met")
            .expect("one is there");
        assert_eq!(oversize.topic, b"sensors/boiler/temp");
        let whole = Remains::of(&[b'x'; 100_000]);
        assert_eq!(format!("{:?}", oversize.remains), format!("{whole:?}"));

        let left = tokio::spawn(escape.acknowledge());
        assert_eq!(conversation.acknowledged().await, 2);
        assert_eq!(conversation.hear().await, Packet::Disconnect);
        drop(conversation);
        left.await.expect("joined").expect("acknowledged");
    }
}
