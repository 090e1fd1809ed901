//! The few MQTT 3.1.1 packets that a device or a broker's client sends and meets, as plain bytes.
//!
//! Written apart from the codec that the agent uses, so that one mistake cannot hide in both.

/// A CONNECT without will or credentials.
#[must_use]
pub fn connect(client_id: &str, clean_session: bool, keep_alive_secs: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    open(&mut packet, 0x10, 12 + client_id.len());
    text(&mut packet, "MQTT");
    packet.extend([4, u8::from(clean_session) << 1]);
    packet.extend(keep_alive_secs.to_be_bytes());
    text(&mut packet, client_id);
    packet
}

/// Appends a QoS 1 PUBLISH.
pub fn publish(into: &mut Vec<u8>, topic: &str, id: u16, dup: bool, payload: &[u8]) {
    open(
        into,
        0x32 | u8::from(dup) << 3,
        4 + topic.len() + payload.len(),
    );
    text(into, topic);
    into.extend(id.to_be_bytes());
    into.extend(payload);
}

/// Appends a QoS 0 PUBLISH.
pub fn publish_unasked(into: &mut Vec<u8>, topic: &str, payload: &[u8]) {
    open(into, 0x30, 2 + topic.len() + payload.len());
    text(into, topic);
    into.extend(payload);
}

/// A SUBSCRIBE to one filter at QoS 1.
#[must_use]
pub fn subscribe(id: u16, filter: &str) -> Vec<u8> {
    let mut packet = Vec::new();
    open(&mut packet, 0x82, 5 + filter.len());
    packet.extend(id.to_be_bytes());
    text(&mut packet, filter);
    packet.push(1);
    packet
}

/// A PUBACK.
#[must_use]
pub fn pub_ack(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

/// A PINGREQ.
pub const PING: [u8; 2] = [0xC0, 0];

/// A DISCONNECT.
pub const DISCONNECT: [u8; 2] = [0xE0, 0];

/// A packet as one of the two ends meets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNECT, with its flags.
    Connect {
        /// The device's name.
        client_id: &'a str,
    },
    /// The answer to CONNECT.
    ConnAck {
        /// The broker still has this client's session.
        session_present: bool,
        /// 0 = accepted.
        code: u8,
    },
    /// A message.
    Publish {
        /// The topic it was published to.
        topic: &'a str,
        /// 0 at QoS 0.
        id: u16,
        /// It may have been sent before.
        dup: bool,
        /// The message itself.
        payload: &'a [u8],
    },
    /// A message of QoS 1 has been taken.
    PubAck {
        /// The message's packet id.
        id: u16,
    },
    /// Anything else, by its first byte.
    Other(u8),
}

/// The first packet in `bytes` and its length; `None` if it is not all there yet.
///
/// # Panics
/// If the bytes are not MQTT: in a test that is a failure.
#[must_use]
pub fn first(bytes: &[u8]) -> Option<(Packet<'_>, usize)> {
    let (remaining, start) = remaining_length(bytes)?;
    let end = start + remaining;
    let body = bytes.get(start..end)?;
    let packet = match bytes[0] >> 4 {
        1 => {
            let (_, rest) = split_text(body);
            Packet::Connect {
                client_id: split_text(&rest[4..]).0,
            }
        }
        2 => Packet::ConnAck {
            session_present: body[0] & 1 == 1,
            code: body[1],
        },
        3 => {
            let (topic, rest) = split_text(body);
            let id_len = if bytes[0] & 0x06 == 0 { 0 } else { 2 };
            let id = if id_len == 0 {
                0
            } else {
                u16::from_be_bytes([rest[0], rest[1]])
            };
            Packet::Publish {
                topic,
                id,
                dup: bytes[0] & 0x08 != 0,
                payload: &rest[id_len..],
            }
        }
        4 => Packet::PubAck {
            id: u16::from_be_bytes([body[0], body[1]]),
        },
        _ => Packet::Other(bytes[0]),
    };
    Some((packet, end))
}

/// The remaining length and where the body begins.
fn remaining_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.get(1..)?.iter().enumerate() {
        assert!(
            index < 4,
            "not MQTT: a remaining length of more than four bytes"
        );
        length |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((length, index + 2));
        }
    }
    None
}

fn split_text(bytes: &[u8]) -> (&str, &[u8]) {
    let end = 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    (
        std::str::from_utf8(&bytes[2..end]).expect("MQTT text is UTF-8"),
        &bytes[end..],
    )
}

fn open(into: &mut Vec<u8>, first: u8, mut remaining: usize) {
    into.push(first);
    while remaining >= 0x80 {
        into.push((remaining & 0x7F) as u8 | 0x80);
        remaining >>= 7;
    }
    into.push(remaining as u8);
}

fn text(into: &mut Vec<u8>, text: &str) {
    into.extend((text.len() as u16).to_be_bytes());
    into.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::{Packet, connect, first, pub_ack, publish};

    #[test]
    fn what_is_written_is_what_is_read() {
        let payload = [7; 300];
        let mut bytes = connect("dev-1", false, 30);
        let connect_len = bytes.len();
        publish(&mut bytes, "a/b", 515, true, &payload);
        bytes.extend(pub_ack(515));

        let (packet, used) = first(&bytes).unwrap();
        assert_eq!(
            (packet, used),
            (Packet::Connect { client_id: "dev-1" }, connect_len)
        );
        let (packet, more) = first(&bytes[used..]).unwrap();
        assert_eq!(
            packet,
            Packet::Publish {
                topic: "a/b",
                id: 515,
                dup: true,
                payload: &payload
            }
        );
        assert_eq!(
            first(&bytes[used + more..]),
            Some((Packet::PubAck { id: 515 }, 4))
        );
        assert_eq!(first(&bytes[used..used + 200]), None);
    }
}
