//! The framing of a byte stream (TCP, later TLS): `length u32 LE · type u8 · body`, the length counting what follows it.
//!
//! The head is judged before a byte of the body is asked for or room is made for it. A driver reads the head, then the body
//! into a buffer of its own, and may pass that on without a copy; [`split`] is for one that has everything in one buffer.

use super::Packet;
use crate::octets;

/// Bytes of a head.
pub const HEAD_LEN: usize = 5;

/// The most that a message may be long: type and body.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The same, before the handshake is done.
pub const GREETING_BYTES_MAX: usize = 64 << 10;

const _: () =
    assert!(GREETING_BYTES_MAX < MESSAGE_BYTES_MAX && MESSAGE_BYTES_MAX < u32::MAX as usize);

/// What stands in front of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The message type.
    pub kind: u8,
    /// Bytes of the body that follows.
    pub body_len: usize,
}

/// A length that is zero or above the limit. There is no way to go on reading this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLength {
    /// The length as it was received: type and body.
    pub len: u32,
}

impl core::fmt::Display for BadLength {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a message of {} bytes is outside the limits", self.len)
    }
}

impl core::error::Error for BadLength {}

impl Head {
    /// Reads a head; `limit` is the most that type and body may be long.
    ///
    /// # Errors
    /// The length is zero or above `limit`.
    pub fn parse(bytes: [u8; HEAD_LEN], limit: usize) -> Result<Self, BadLength> {
        let [a, b, c, d, kind] = bytes;
        let len = u32::from_le_bytes([a, b, c, d]);
        match usize::try_from(len) {
            Ok(whole) if whole <= limit && whole > 0 => Ok(Self {
                kind,
                body_len: whole - 1,
            }),
            _ => Err(BadLength { len }),
        }
    }

    /// The head's bytes; `None` if the body is too long for any limit.
    pub fn emit(&self) -> Option<[u8; HEAD_LEN]> {
        let len = u32::try_from(self.body_len).ok()?.checked_add(1)?;
        let [a, b, c, d] = len.to_le_bytes();
        Some([a, b, c, d, self.kind])
    }
}

/// The first message of `bytes` and the length of all of it; `None` while it is not whole.
///
/// # Errors
/// The length is zero or above `limit`.
pub fn split(bytes: &[u8], limit: usize) -> Result<Option<(Packet<'_>, usize)>, BadLength> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_LEN>() else {
        return Ok(None);
    };
    let head = Head::parse(*head, limit)?;
    let packet = rest.get(..head.body_len).map(|body| Packet {
        kind: head.kind,
        body,
    });
    Ok(packet.map(|packet| (packet, HEAD_LEN + head.body_len)))
}

/// Writes one message into `bytes`; its length, or `None` if it does not fit. The body may come in parts.
pub fn encode(kind: u8, body: &[&[u8]], bytes: &mut [u8]) -> Option<usize> {
    let body_len = body.iter().map(|part| part.len()).sum();
    let head = Head { kind, body_len }.emit()?;
    octets::copy(&head, bytes)?;
    let mut at = HEAD_LEN;
    for part in body {
        octets::copy(part, bytes.get_mut(at..)?)?;
        at += part.len();
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_one_by_one_from_any_cut() {
        let mut bytes = [0; 64];
        let first = encode(3, &[b"one ", b"two"], &mut bytes).unwrap();
        let both = first + encode(8, &[], &mut bytes[first..]).unwrap();
        for cut in 0..first {
            assert_eq!(split(&bytes[..cut], 64), Ok(None));
        }
        let (packet, len) = split(&bytes[..both], 64).unwrap().unwrap();
        assert_eq!((packet.kind, packet.body, len), (3, &b"one two"[..], first));
        let (packet, len) = split(&bytes[len..both], 64).unwrap().unwrap();
        assert_eq!((packet.kind, packet.body, len), (8, &b""[..], both - first));
    }

    #[test]
    fn a_length_outside_the_limits_is_refused_from_the_head_alone() {
        assert_eq!(split(&[65, 0, 0, 0, 3], 64), Err(BadLength { len: 65 }));
        assert_eq!(split(&[0, 0, 0, 0, 3], 64), Err(BadLength { len: 0 }));
        assert_eq!(
            split(&[0xFF, 0xFF, 0xFF, 0xFF, 3], 64),
            Err(BadLength { len: u32::MAX })
        );
        assert_eq!(split(&[64, 0, 0, 0, 3], 64), Ok(None));
    }
}
