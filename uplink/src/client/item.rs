//! What a consumer is given: records and gaps, with everything that tells where they come from.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use crate::wire::Partition;

/// One thing in the order of a partition.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// An event.
    Record(Record),
    /// Offsets that hold no event any more.
    Gap(Gap),
}

/// An event, with borrowed payload: key, values and headers share the memory of the frames they came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where it comes from.
    pub origin: Arc<Origin>,
    /// Its shifted offset.
    pub offset: u64,
    /// Place of its log in the partition's chain.
    pub epoch: u32,
    /// When it happened, as its source says; µs since 1970.
    pub time: Option<i64>,
    /// When the gateway took it; µs since 1970.
    pub ingested: Option<i64>,
    /// What is to be said of that, if the gateway did not know the time then.
    pub clock: Option<Clock>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Bytes,
    /// Its headers, in order.
    pub headers: Vec<(Cow<'static, str>, Bytes)>,
}

/// How a time is known that the gateway did not know when it took the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Counted from its uptime, once it knew the time.
    Corrected,
    /// Not at all, or not yet.
    Unknown,
}

impl Clock {
    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Corrected => "corrected",
            Self::Unknown => "unknown",
        }
    }
}

/// A range of shifted offsets in which something is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where it is.
    pub origin: Arc<Origin>,
    /// Place of the log in the partition's chain.
    pub epoch: u32,
    /// First offset.
    pub from: u64,
    /// One past the last offset. Equal to `from` at a seam between two logs.
    pub to: u64,
    /// Records that were accepted once and are lost.
    pub lost: u64,
    /// Why: `evicted`, `expired`, `corrupt`, `burned`, `new-log` or `device`.
    pub cause: &'static str,
    /// Since when; µs since 1970.
    pub when: Option<i64>,
}

/// The partition that an item stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The stream.
    pub stream: String,
    /// The gateway.
    pub gateway: String,
    /// The partition's number at the gateway.
    pub partition: u16,
    /// Its number in the stream at the hub.
    pub number: u32,
}

impl Origin {
    pub(crate) fn of(partition: &Partition) -> Self {
        Self {
            stream: partition.stream.clone(),
            gateway: partition.gateway.clone(),
            partition: partition.partition,
            number: partition.number,
        }
    }

    pub(crate) fn is_of(&self, partition: &Partition) -> bool {
        let here = (&self.stream, &self.gateway, self.partition);
        here == (&partition.stream, &partition.gateway, partition.partition)
    }
}

impl Item {
    /// The partition it stands in.
    pub fn origin(&self) -> &Arc<Origin> {
        match self {
            Self::Record(r) => &r.origin,
            Self::Gap(g) => &g.origin,
        }
    }

    /// The offset it stands at.
    pub fn first(&self) -> u64 {
        match self {
            Self::Record(r) => r.offset,
            Self::Gap(g) => g.from,
        }
    }

    /// The offset to go on from when this item is dealt with.
    pub fn next(&self) -> u64 {
        match self {
            Self::Record(r) => r.offset + 1,
            Self::Gap(g) => g.to,
        }
    }
}
