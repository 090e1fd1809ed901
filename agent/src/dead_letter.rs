//! What could not be taken, kept as a record in the stream `dead-letter`: why, whence, how long, its checksum and its first 4 KiB.
//! It is acknowledged after its commit like any other record, so nothing waits behind it.

use std::fmt;

use sedge_core::crc;
use sedge_store::Unit;

use crate::route::KeyError;

/// A message that could not be taken.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// Why.
    pub reason: &'a Reason,
    /// Name of the source.
    pub source: &'a str,
    /// Client identifier or device.
    pub device: &'a str,
    /// MQTT topic; empty where there is none.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a Remains,
}

/// Why a message could not be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Larger than `record_max`.
    #[error("larger than a record may be")]
    Oversize,
    /// No key can be made of it.
    #[error(transparent)]
    BadKey(#[from] KeyError),
    /// It is not what the source's protocol says.
    #[error("{0}")]
    Malformed(&'static str),
}

impl Reason {
    /// A word for metrics and for the record's header.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Oversize => "oversize",
            Self::BadKey(_) => "bad-key",
            Self::Malformed(_) => "malformed",
        }
    }
}

/// What is kept of a payload, however long it is and in how many pieces it comes.
#[derive(Clone, Default)]
pub struct Remains {
    head: Vec<u8>,
    length: u64,
    digest: crc::Digest,
}

impl Remains {
    /// Of a payload that is here as a whole.
    #[must_use]
    pub fn of(payload: &[u8]) -> Self {
        let mut remains = Self::default();
        remains.add(payload);
        remains
    }

    /// The next piece.
    pub fn add(&mut self, piece: &[u8]) {
        let room = HEAD_BYTES_MAX - self.head.len();
        self.head.extend_from_slice(&piece[..piece.len().min(room)]);
        self.length += piece.len() as u64;
        self.digest.update(piece);
    }
}

impl DeadLetter<'_> {
    /// Writes the record. Its key is the device.
    pub fn record(&self, unit: &mut Unit<'_>) {
        let length = self.payload.length.to_string();
        let checksum = format!("{:08x}", self.payload.digest.clone().finish());
        let detail = self.reason.to_string();
        let headers = [
            ("topic", cut(self.topic.as_bytes())),
            ("reason", self.reason.label().as_bytes()),
            ("detail", cut(detail.as_bytes())),
            ("source", self.source.as_bytes()),
            ("length", length.as_bytes()),
            ("crc32c", checksum.as_bytes()),
        ];
        let headers = if self.topic.is_empty() {
            &headers[1..]
        } else {
            &headers[..]
        };
        unit.record(
            None,
            Some(cut(self.device.as_bytes())),
            headers,
            &self.payload.head,
        );
    }
}

impl fmt::Debug for Remains {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Remains")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(TEXT_BYTES_MAX)]
}

/// What a dead letter takes beside what is kept of its payload, at most: device, topic and detail, and some words.
pub(crate) const OVERHEAD_BYTES_MAX: usize = 3 * TEXT_BYTES_MAX + 256;
/// What is kept of a payload.
const HEAD_BYTES_MAX: usize = 4096;

/// What is kept of a topic, a device's name or a reason.
const TEXT_BYTES_MAX: usize = 1024;
