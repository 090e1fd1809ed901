//! What the two ends of a custody conversation say to each other: messages as bytes and as meaning.
//!
//! Parsing borrows from the body and ends all doubt: lists are walked once here, names are checked for length, and what comes
//! out can be used without looking again. When a message may be said is the machines' business, not this file's.

pub use super::list::{Items, List};
use crate::octets::{self, Reader, Writer};
use crate::wire::{Wire, emit, take_from, whole, wire};
use crate::{Gap, LogId, Micros, Offset};
#[cfg(test)]
use serde::{Deserialize, Serialize};

/// The protocol version of this code.
pub const VERSION: u8 = 1;
/// Longest identity and stream name, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// Longest credential in a Hello.
pub const CREDENTIAL_LEN_MAX: usize = 1024;
/// Longest reason in a refusal or a Bye.
pub const REASON_LEN_MAX: usize = 256;
/// What a Data message needs beside its frames, at most.
pub const DATA_HEAD_LEN_MAX: usize = 3 + 10 + 10;

/// What a receiver may understand beyond what every receiver does, one bit each.
pub mod feature {
    /// Data that were made smaller, which this crate itself neither makes nor reads.
    pub const PACKED: u32 = 1;
    /// In Hello: not every log is named in it, the others follow as Offer.
    pub const MORE_FOLLOW: u32 = 1 << 1;
    /// How a gateway is doing, which this crate itself neither makes nor reads.
    pub const REPORT: u32 = 1 << 2;
}

/// The type byte of each message.
pub mod kind {
    #![allow(missing_docs)]
    pub const HELLO: u8 = 0x01;
    pub const WELCOME: u8 = 0x02;
    pub const DATA: u8 = 0x03;
    pub const ACK: u8 = 0x04;
    pub const GAP: u8 = 0x05;
    pub const REWIND: u8 = 0x06;
    pub const CLOSE: u8 = 0x07;
    pub const PING: u8 = 0x08;
    pub const BYE: u8 = 0x09;
    pub const OFFER: u8 = 0x0A;
    pub const ANSWER: u8 = 0x0B;
}

/// Any message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The sender opens a session.
    Hello(Hello<'a>),
    /// The receiver opens its side, or asks for a Hello (generation 0).
    Welcome(Welcome<'a>),
    /// Frames of one log.
    Data(Data<'a>),
    /// Custody taken up to an offset.
    Ack(Ack),
    /// Loss, in its place.
    Gap(SlotGap),
    /// The receiver misses something.
    Rewind(Rewind),
    /// A log has ended.
    Close(Close),
    /// Are you there?
    Ping(Ping),
    /// The session ends.
    Bye(Bye<'a>),
    /// A further log inside a session.
    Offer(Offer<'a>),
    /// The answer to one.
    Answer(Answer<'a>),
    /// A type that this version does not know; skipped.
    Unknown(u8),
}

/// Opens a session and names the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Everything but the logs.
    pub intro: Intro<'a>,
    /// The logs that are offered. One that did not fit follows as [`Offer`] inside the session.
    pub logs: List<'a, Offer<'a>>,
}

/// Who opens a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Intro<'a> {
    /// Lowest protocol version spoken.
    pub protocol_min: u8,
    /// Highest protocol version spoken.
    pub protocol_max: u8,
    /// What there is to know of this Hello: [`feature`].
    pub features: u32,
    /// Who is speaking: a device or gateway name.
    pub identity: &'a str,
    /// Grows with each session of one identity.
    pub generation: u64,
    /// What the sender takes the time to be.
    pub clock: Clock,
    /// Empty for now.
    #[cfg_attr(test, serde(with = "raw"))]
    pub credential: &'a [u8],
}

/// Answers a Hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// Everything but the logs.
    pub terms: Terms,
    /// One answer for each log of the Hello.
    pub logs: List<'a, Answer<'a>>,
}

/// What the receiver agrees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Terms {
    /// The protocol version of this session.
    pub chosen: u8,
    /// What the receiver understands beyond what every receiver does: [`feature`].
    pub features: u32,
    /// The Hello's generation; 0 asks for a Hello.
    pub generation: u64,
    /// What the receiver takes the time to be.
    pub clock: Clock,
    /// Bytes of Data that the receiver holds beyond what it acknowledged.
    pub credit: u32,
}

/// What one end takes the time to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Clock {
    /// Microseconds since 1970 UTC, if known at all.
    pub unix_us: Option<i64>,
    /// Microseconds since this end started.
    pub uptime_us: u64,
    /// Names this start.
    pub boot: u64,
    /// The wall time was set by something worth trusting.
    pub trusted: bool,
}

/// One log, as its sender offers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Offer<'a> {
    /// The log's number in this session.
    pub slot: u16,
    /// Which log.
    pub log: LogId,
    /// The stream's name.
    pub stream: &'a str,
    /// The partition's number.
    pub partition: u16,
    /// First offset held.
    pub oldest: Offset,
    /// One past the last offset held.
    pub next: Offset,
    /// The `crc` of the frame that ends at `next`; none if it is not held or is a gap.
    pub tail_crc: Option<u32>,
    /// Nothing will follow `next`.
    pub closed: bool,
    /// Place of this log in its partition's chain, as the sender counts.
    pub chain: u16,
}

/// The receiver's answer to one offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Answer<'a> {
    /// Of the offer.
    pub slot: u16,
    /// Where to go on, or why not.
    #[cfg_attr(test, serde(borrow))]
    pub verdict: Verdict<'a>,
}

/// Whether and from where the receiver takes a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub enum Verdict<'a> {
    /// Send from here.
    Resume {
        /// One past the last offset that the receiver has durable.
        next: Offset,
        /// The `crc` of its frame that ends there.
        crc_below: Option<u32>,
    },
    /// This log is not taken in this session.
    Refused {
        /// As in [`Bye`].
        code: Code,
        /// For people.
        reason: &'a str,
    },
}

/// Whole frames of one log, verbatim and contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Which log.
    pub slot: u16,
    /// First offset of the first frame.
    pub first: Offset,
    /// What the first compact frame's time counts from; none if that is the time at which the Data before it ended.
    pub base_time: Option<Micros>,
    /// The frames.
    pub frames: &'a [u8],
}

/// Custody: everything below `next` survives a power cut at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Ack {
    /// Which log.
    pub slot: u16,
    /// One past the last offset taken.
    pub next: Offset,
    /// Bytes of Data that the receiver holds beyond what it acknowledged, for the whole session.
    pub credit: u32,
    /// The receiver has Close, and that survives a power cut too.
    pub ended: bool,
}

/// A gap of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct SlotGap {
    /// Which log.
    pub slot: u16,
    /// What is missing.
    pub gap: Gap,
}

/// Send again from `next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Rewind {
    /// Which log.
    pub slot: u16,
    /// What the receiver expects.
    pub next: Offset,
}

/// A log has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Close {
    /// Which log.
    pub slot: u16,
    /// One past its last offset.
    pub end: Offset,
}

/// Are you there? The reply carries the same token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Ping {
    /// Chosen by who asks.
    pub token: u64,
    /// Whether this is the reply.
    pub reply: bool,
}

/// The session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct Bye<'a> {
    /// Why, for machines.
    pub code: Code,
    /// Why, for people.
    pub reason: &'a str,
}

/// Why a session or an offer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
#[cfg_attr(test, serde(transparent))]
pub struct Code(pub u16);

impl Code {
    /// Bytes that are no message, or a message that breaks the rules.
    pub const MALFORMED: Self = Self(1);
    /// Longer than allowed.
    pub const TOO_LARGE: Self = Self(2);
    /// No common protocol version.
    pub const VERSION: Self = Self(3);
    /// An identity that is not accepted.
    pub const IDENTITY: Self = Self(4);
    /// A newer connection of the same identity has taken over.
    pub const REPLACED: Self = Self(5);
    /// Try later.
    pub const BUSY: Self = Self(6);
    /// The other end is being stopped.
    pub const SHUTTING_DOWN: Self = Self(7);
    /// No room to take custody.
    pub const DISK_FULL: Self = Self(8);
    /// A fault at the other end.
    pub const INTERNAL: Self = Self(9);
    /// Not allowed for this identity.
    pub const NOT_ALLOWED: Self = Self(10);
}

impl core::fmt::Display for Code {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self.0 {
            1 => "malformed",
            2 => "too large",
            3 => "version",
            4 => "identity",
            5 => "replaced",
            6 => "busy",
            7 => "shutting down",
            8 => "disk full",
            9 => "internal",
            10 => "not allowed",
            other => return write!(f, "code {other}"),
        })
    }
}

/// A body that is not what its type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The message type.
    pub kind: u8,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "malformed message of type {}", self.kind)
    }
}

impl core::error::Error for Malformed {}

impl<'a> Message<'a> {
    /// Reads the body of a message of type `kind`.
    ///
    /// # Errors
    /// The body is not what the type says, has bytes left over, or holds a name longer than allowed.
    pub fn parse(kind: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_body(kind, body).ok_or(Malformed { kind })
    }

    /// As [`Self::parse`], of what a sender hears; anything else is nothing to it, and it has no code for reading it.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(super) fn parse_for_sender(kind: u8, body: &'a [u8]) -> Result<Self, Malformed> {
        let message = match kind {
            kind::WELCOME => Welcome::parse(body).map(Self::Welcome),
            kind::ACK => whole(body).map(Self::Ack),
            kind::REWIND => whole(body).map(Self::Rewind),
            kind::PING => whole(body).map(Self::Ping),
            kind::BYE => whole::<Bye<'a>>(body).and_then(Bye::check).map(Self::Bye),
            kind::ANSWER => whole::<Answer<'a>>(body)
                .and_then(Answer::check)
                .map(Self::Answer),
            other => Some(Self::Unknown(other)),
        };
        message.ok_or(Malformed { kind })
    }

    fn parse_body(kind: u8, body: &'a [u8]) -> Option<Self> {
        Some(match kind {
            kind::HELLO => Self::Hello(Hello::parse(body)?),
            kind::WELCOME => Self::Welcome(Welcome::parse(body)?),
            kind::DATA => Self::Data(Data::parse(body)?),
            kind::ACK => Self::Ack(whole(body)?),
            kind::GAP => Self::Gap(whole::<SlotGap>(body)?.check()?),
            kind::REWIND => Self::Rewind(whole(body)?),
            kind::CLOSE => Self::Close(whole(body)?),
            kind::PING => Self::Ping(whole(body)?),
            kind::BYE => Self::Bye(whole::<Bye<'a>>(body)?.check()?),
            kind::OFFER => Self::Offer(whole::<Offer<'a>>(body)?.check()?),
            kind::ANSWER => Self::Answer(whole::<Answer<'a>>(body)?.check()?),
            other => Self::Unknown(other),
        })
    }

    /// The message's type.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Welcome(_) => kind::WELCOME,
            Self::Data(_) => kind::DATA,
            Self::Ack(_) => kind::ACK,
            Self::Gap(_) => kind::GAP,
            Self::Rewind(_) => kind::REWIND,
            Self::Close(_) => kind::CLOSE,
            Self::Ping(_) => kind::PING,
            Self::Bye(_) => kind::BYE,
            Self::Offer(_) => kind::OFFER,
            Self::Answer(_) => kind::ANSWER,
            Self::Unknown(other) => *other,
        }
    }

    /// Writes the body into `bytes`; its length, or `None` if it does not fit.
    pub fn emit(&self, bytes: &mut [u8]) -> Option<usize> {
        match self {
            Self::Hello(hello) => {
                emit_hello(&hello.intro, hello.logs.iter(), bytes).map(|emitted| emitted.0)
            }
            Self::Welcome(welcome) => {
                emit_welcome(&welcome.terms, welcome.logs.iter(), bytes).map(|emitted| emitted.0)
            }
            Self::Data(data) => data.emit(bytes),
            Self::Ack(ack) => emit(ack, bytes),
            Self::Gap(gap) => emit(gap, bytes),
            Self::Rewind(rewind) => emit(rewind, bytes),
            Self::Close(close) => emit(close, bytes),
            Self::Ping(ping) => emit(ping, bytes),
            Self::Bye(bye) => emit(bye, bytes),
            Self::Offer(offer) => emit(offer, bytes),
            Self::Answer(answer) => emit(answer, bytes),
            Self::Unknown(_) => Some(0),
        }
    }
}

impl<'a> Hello<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let (intro, rest) = take_from::<Intro<'a>>(body)?;
        let fits =
            intro.identity.len() <= NAME_LEN_MAX && intro.credential.len() <= CREDENTIAL_LEN_MAX;
        let logs = List::parse(rest)?;
        let names_fit = logs.iter().all(|offer: Offer<'a>| offer.check().is_some());
        (fits && names_fit).then_some(Self { intro, logs })
    }
}

impl<'a> Welcome<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let (terms, rest) = take_from::<Terms>(body)?;
        let logs = List::parse(rest)?;
        let reasons_fit = logs
            .iter()
            .all(|answer: Answer<'a>| answer.check().is_some());
        reasons_fit.then_some(Self { terms, logs })
    }
}

impl Offer<'_> {
    fn check(self) -> Option<Self> {
        (self.stream.len() <= NAME_LEN_MAX && self.oldest <= self.next).then_some(self)
    }
}

impl Answer<'_> {
    fn check(self) -> Option<Self> {
        match self.verdict {
            Verdict::Refused { reason, .. } if reason.len() > REASON_LEN_MAX => None,
            _ => Some(self),
        }
    }
}

impl Bye<'_> {
    fn check(self) -> Option<Self> {
        (self.reason.len() <= REASON_LEN_MAX).then_some(self)
    }
}

impl SlotGap {
    fn check(self) -> Option<Self> {
        (self.gap.from < self.gap.to).then_some(self)
    }
}

impl<'a> Data<'a> {
    fn parse(body: &'a [u8]) -> Option<Self> {
        let (head, frames) = take_from::<DataHead>(body)?;
        let DataHead {
            slot,
            first,
            base_time,
        } = head;
        Some(Self {
            slot,
            first,
            base_time,
            frames,
        })
    }

    /// Writes all of a Data body but the frames, which follow verbatim; the head's length.
    pub fn emit_head(&self, bytes: &mut [u8]) -> Option<usize> {
        let Self {
            slot,
            first,
            base_time,
            ..
        } = *self;
        let head = DataHead {
            slot,
            first,
            base_time,
        };
        emit(&head, bytes)
    }

    fn emit(&self, bytes: &mut [u8]) -> Option<usize> {
        let head = self.emit_head(bytes)?;
        octets::copy(self.frames, bytes.get_mut(head..)?)?;
        Some(head + self.frames.len())
    }
}

/// Writes a Hello with as many of `logs` as fit; the body's length and how many did.
pub fn emit_hello<'l>(
    intro: &Intro<'_>,
    logs: impl Iterator<Item = Offer<'l>>,
    bytes: &mut [u8],
) -> Option<(usize, usize)> {
    let head = emit(intro, bytes)?;
    emit_list(head, logs, bytes)
}

/// Marks the Hello in `bytes`, which begins with `intro`, as one that does not name every log.
pub(crate) fn mark_cut(intro: &Intro<'_>, bytes: &mut [u8]) {
    let features = intro.features | feature::MORE_FOLLOW;
    // One byte of features, as before.
    emit(&Intro { features, ..*intro }, bytes);
}

/// Writes a Welcome with as many of `logs` as fit; the body's length and how many did.
pub fn emit_welcome<'l>(
    terms: &Terms,
    logs: impl Iterator<Item = Answer<'l>>,
    bytes: &mut [u8],
) -> Option<(usize, usize)> {
    let head = emit(terms, bytes)?;
    emit_list(head, logs, bytes)
}

/// Writes the items behind room for their count, then the count, then closes the room that it did not need.
fn emit_list<'a, T: Wire<'a>>(
    head: usize,
    items: impl Iterator<Item = T>,
    bytes: &mut [u8],
) -> Option<(usize, usize)> {
    let room = head.checked_add(COUNT_LEN_MAX)?;
    let (mut end, mut count) = (room, 0u16);
    bytes.get(..room)?;
    for item in items.take(usize::from(u16::MAX)) {
        let Some(len) = emit(&item, bytes.get_mut(end..)?) else {
            break;
        };
        end += len;
        count += 1;
    }
    let items_at = head + emit(&count, bytes.get_mut(head..room)?)?;
    let unneeded = room.checked_sub(items_at)?;
    for at in room..end {
        let byte = *bytes.get(at)?;
        *bytes.get_mut(at.checked_sub(unneeded)?)? = byte;
    }
    Some((end.checked_sub(unneeded)?, usize::from(count)))
}

/// A varint of 16 bits.
const COUNT_LEN_MAX: usize = 3;

impl<'a> Wire<'a> for Verdict<'a> {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        match self {
            Self::Resume { next, crc_below } => {
                to.byte(0)?;
                next.put(to)?;
                crc_below.put(to)
            }
            Self::Refused { code, reason } => {
                to.byte(1)?;
                code.put(to)?;
                reason.put(to)
            }
        }
    }

    fn take(from: &mut Reader<'a>) -> Option<Self> {
        Some(match from.varint()? {
            0 => Self::Resume {
                next: Wire::take(from)?,
                crc_below: Wire::take(from)?,
            },
            1 => Self::Refused {
                code: Wire::take(from)?,
                reason: Wire::take(from)?,
            },
            _ => return None,
        })
    }
}

impl Wire<'_> for Code {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        self.0.put(to)
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        Wire::take(from).map(Self)
    }
}

/// What stands before the frames in a Data message.
struct DataHead {
    slot: u16,
    first: Offset,
    base_time: Option<Micros>,
}

/// Most messages of a link are Data, so whether there is a base time costs no byte: it is the lowest bit of the slot's varint.
impl Wire<'_> for DataHead {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.varint(u64::from(self.slot) << 1 | u64::from(self.base_time.is_some()))?;
        self.first.put(to)?;
        self.base_time.map_or(Some(()), |time| time.put(to))
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let slot = from.varint()?;
        let first = Wire::take(from)?;
        let base_time = match slot & 1 {
            0 => None,
            _ => Some(Wire::take(from)?),
        };
        Some(Self {
            slot: u16::try_from(slot >> 1).ok()?,
            first,
            base_time,
        })
    }
}

wire!(Intro<'a> { protocol_min, protocol_max, features, identity, generation, clock, credential });
wire!(Terms {
    chosen,
    features,
    generation,
    clock,
    credit
});
wire!(Clock {
    unix_us,
    uptime_us,
    boot,
    trusted
});
wire!(Offer<'a> { slot, log, stream, partition, oldest, next, tail_crc, closed, chain });
wire!(Answer<'a> { slot, verdict });
wire!(Ack {
    slot,
    next,
    credit,
    ended
});
wire!(SlotGap { slot, gap });
wire!(Rewind { slot, next });
wire!(Close { slot, end });
wire!(Ping { token, reply });
wire!(Bye<'a> { code, reason });

/// Bytes as postcard's byte array: a length and the bytes, borrowed.
#[cfg(test)]
mod raw {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &&[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de: 'a, 'a, D: Deserializer<'de>>(
        from: D,
    ) -> Result<&'a [u8], D::Error> {
        <&'a [u8]>::deserialize(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cause;

    const OFFER: Offer<'static> = Offer {
        slot: 3,
        log: LogId::new([7; 16]),
        stream: "telemetry",
        partition: 2,
        oldest: Offset::new(1000),
        next: Offset::new(70_000),
        tail_crc: Some(0xDEAD_BEEF),
        closed: false,
        chain: 1,
    };

    fn intro() -> Intro<'static> {
        Intro {
            protocol_min: 1,
            protocol_max: 1,
            features: 0,
            identity: "boiler-1",
            generation: 9,
            clock: Clock::default(),
            credential: &[],
        }
    }

    /// Writes, reads, and writes again: the bytes are the same.
    fn comes_back(message: &Message<'_>) {
        let (mut bytes, mut again) = ([0; 512], [0; 512]);
        let len = message.emit(&mut bytes).unwrap();
        let read = Message::parse(message.kind(), &bytes[..len]).unwrap();
        assert_eq!(read, *message);
        assert_eq!(read.emit(&mut again), Some(len));
        assert_eq!(bytes, again);
        for short in 0..len {
            assert_eq!(
                message.emit(&mut again[..short]),
                None,
                "{short} of {len} bytes"
            );
        }
    }

    #[test]
    fn every_message_comes_back() {
        let gap = Gap {
            from: Offset::new(5),
            to: Offset::new(9),
            lost: 3,
            cause: Cause::Evicted,
            when: Micros::new(-1),
            when_last: Micros::UNKNOWN,
        };
        let verdict = Verdict::Refused {
            code: Code::BUSY,
            reason: "later",
        };
        for message in [
            Message::Data(Data {
                slot: u16::MAX,
                first: OFFER.next,
                base_time: Some(Micros::UNKNOWN),
                frames: b"frames",
            }),
            Message::Data(Data {
                slot: 300,
                first: OFFER.next,
                base_time: None,
                frames: b"frames",
            }),
            Message::Ack(Ack {
                slot: 1,
                next: OFFER.next,
                credit: 65_536,
                ended: true,
            }),
            Message::Gap(SlotGap { slot: 1, gap }),
            Message::Rewind(Rewind {
                slot: 1,
                next: OFFER.oldest,
            }),
            Message::Close(Close {
                slot: 1,
                end: OFFER.next,
            }),
            Message::Ping(Ping {
                token: u64::MAX,
                reply: true,
            }),
            Message::Bye(Bye {
                code: Code::VERSION,
                reason: "",
            }),
            Message::Offer(OFFER),
            Message::Answer(Answer { slot: 1, verdict }),
        ] {
            comes_back(&message);
        }
    }

    #[test]
    fn a_hello_names_as_many_logs_as_fit() {
        let mut bytes = [0; 200];
        let (len, count) = emit_hello(&intro(), [OFFER; 9].into_iter(), &mut bytes).unwrap();
        assert!((1..9).contains(&count));
        let Ok(Message::Hello(hello)) = Message::parse(kind::HELLO, &bytes[..len]) else {
            panic!("a Hello was written");
        };
        assert_eq!((hello.intro, hello.logs.len()), (intro(), count));
        assert!(hello.logs.iter().all(|offer| offer == OFFER));
    }

    #[test]
    fn a_list_of_logs_may_be_empty_and_each_in_it_must_be_sound() {
        let reads = |offers: &[Offer<'static>]| {
            let mut bytes = [0; 512];
            let (len, count) = emit_hello(&intro(), offers.iter().copied(), &mut bytes).unwrap();
            assert_eq!(count, offers.len());
            Message::parse(kind::HELLO, &bytes[..len]).is_ok()
        };
        let unsound = Offer {
            oldest: OFFER.next + 1,
            ..OFFER
        };
        assert!(reads(&[]) && reads(&[OFFER, OFFER]));
        assert!(!reads(&[OFFER, unsound]) && !reads(&[unsound, OFFER]));
    }

    #[test]
    fn names_and_credentials_are_taken_up_to_their_longest() {
        let text = [b'x'; CREDENTIAL_LEN_MAX + 1];
        let name = |len| core::str::from_utf8(&text[..len]).unwrap();
        let is_taken = |identity, credential, stream| {
            let mut bytes = [0; 2048];
            let intro = Intro {
                identity: name(identity),
                credential: &text[..credential],
                ..intro()
            };
            let offer = Offer {
                stream: name(stream),
                ..OFFER
            };
            let (len, _) = emit_hello(&intro, [offer].into_iter(), &mut bytes).unwrap();
            Message::parse(kind::HELLO, &bytes[..len]).is_ok()
        };
        let (longest, most) = (NAME_LEN_MAX, CREDENTIAL_LEN_MAX);
        assert!(is_taken(longest, most, longest) && is_taken(1, 0, 1));
        assert!(!is_taken(longest + 1, 0, 1));
        assert!(!is_taken(1, most + 1, 1));
        assert!(!is_taken(1, 0, longest + 1));
    }

    #[test]
    fn a_body_that_says_more_or_less_than_its_type_is_malformed() {
        let long_name = core::str::from_utf8(&[b'x'; NAME_LEN_MAX + 1]).unwrap();
        let mut bytes = [0; 512];
        let len = Message::Offer(Offer {
            stream: long_name,
            ..OFFER
        })
        .emit(&mut bytes)
        .unwrap();
        assert_eq!(
            Message::parse(kind::OFFER, &bytes[..len]),
            Err(Malformed { kind: kind::OFFER })
        );
        let len = Message::Offer(Offer {
            oldest: OFFER.next + 1,
            ..OFFER
        })
        .emit(&mut bytes)
        .unwrap();
        assert!(Message::parse(kind::OFFER, &bytes[..len]).is_err());
        let len = emit_hello(&intro(), [OFFER].into_iter(), &mut bytes)
            .unwrap()
            .0;
        for cut in 0..len {
            assert!(Message::parse(kind::HELLO, &bytes[..cut]).is_err());
        }
        assert!(Message::parse(kind::HELLO, &bytes[..=len]).is_err());
        assert_eq!(
            Message::parse(0x7F, b"later versions"),
            Ok(Message::Unknown(0x7F))
        );
    }
}
