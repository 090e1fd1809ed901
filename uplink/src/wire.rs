//! The messages between consumers and the hub, as `docs/spec/hub.md` numbers them.
//!
//! Values only: how they travel is `stream.rs`, what they mean is `hub/consume.rs` and `client`.

use bytes::{Bytes, BytesMut};
use sedge_core::crc::Digest;
use sedge_core::custody::message::DATA_HEAD_LEN_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The one version of the consumers' conversation so far.
pub(crate) const PROTOCOL: u8 = 1;
/// What a consumer may send in one message.
pub(crate) const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// What anyone may send in one message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// What a Fetched needs beside its frames, at most.
pub(crate) const FETCHED_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest name of anything.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// Bytes of the largest frame that goes the whole way: from a gateway to its hub in one message, and from there to a consumer in another.
pub const FRAME_BYTES_MAX: usize = MESSAGE_BYTES_MAX - FETCHED_HEAD_BYTES_MAX;

const _: () = assert!(FETCHED_HEAD_BYTES_MAX < MESSAGE_BYTES_MAX / 2);
// Before the frames stand a kind and a head.
const _: () = assert!(1 + DATA_HEAD_LEN_MAX + FRAME_BYTES_MAX <= MESSAGE_BYTES_MAX);

/// Message types, those of the custody protocol that both conversations share included.
pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const DATA: u8 = 0x03;
    pub(crate) const PING: u8 = 0x08;
    pub(crate) const BYE: u8 = 0x09;
    pub(crate) const PACKED: u8 = 0x0C;
    pub(crate) const REPORT: u8 = 0x0D;
    pub(crate) const OPEN: u8 = 0x20;
    pub(crate) const OPENED: u8 = 0x21;
    pub(crate) const LIST: u8 = 0x22;
    pub(crate) const LISTED: u8 = 0x23;
    pub(crate) const FETCH: u8 = 0x24;
    pub(crate) const FETCHED: u8 = 0x25;
    pub(crate) const FIND: u8 = 0x26;
    pub(crate) const FOUND: u8 = 0x27;
    pub(crate) const JOIN: u8 = 0x28;
    pub(crate) const JOINED: u8 = 0x29;
    pub(crate) const COMMIT: u8 = 0x2A;
    pub(crate) const LEAVE: u8 = 0x2B;
    pub(crate) const DONE: u8 = 0x2C;
    pub(crate) const FAILED: u8 = 0x2D;
    pub(crate) const ENROL: u8 = 0x30;
    pub(crate) const ENROLLED: u8 = 0x31;
}

/// Codes of Bye, from the custody protocol.
pub(crate) mod bye {
    pub(crate) const MALFORMED: u16 = 1;
    pub(crate) const TOO_LARGE: u16 = 2;
    pub(crate) const VERSION: u16 = 3;
    pub(crate) const REPLACED: u16 = 5;
    pub(crate) const BUSY: u16 = 6;
    pub(crate) const SHUTTING_DOWN: u16 = 7;
    pub(crate) const INTERNAL: u16 = 9;
    pub(crate) const NOT_ALLOWED: u16 = 10;
}

/// Codes of Failed.
pub(crate) mod code {
    pub(crate) const UNKNOWN: u16 = 20;
    pub(crate) const NOT_ALLOWED: u16 = 21;
    pub(crate) const HELD: u16 = 22;
    pub(crate) const FENCED: u16 = 23;
    pub(crate) const BUSY: u16 = 24;
    pub(crate) const MALFORMED: u16 = 25;
    pub(crate) const INTERNAL: u16 = 26;
}

/// A message body that postcard writes, and its type.
pub(crate) trait Message: Serialize {
    const KIND: u8;
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $kind:ident { $($field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub(crate) struct $name { $(pub(crate) $field: $type),* }
        impl Message for $name { const KIND: u8 = kind::$kind; }
    )*};
}

messages! {
    /// Is a connection alive?
    Ping = PING { token: u64, reply: bool }
    /// How a gateway is doing.
    Report = REPORT {
        version: String, uptime_s: u64, unix_us: Option<i64>, voucher: Option<String>, lag: u64, oldest_unacked_us: Option<i64>,
        waiting_bytes: u64, capacity_bytes: u64, lost: u64, held: Option<String>, logs: Vec<LogReport>,
    }
    /// Why a connection ends.
    Bye = BYE { code: u16, reason: String }
    /// A consumer introduces itself.
    Open = OPEN { protocol_min: u8, protocol_max: u8, features: u32, name: String, credential: Vec<u8> }
    /// The hub takes it.
    Opened = OPENED { chosen: u8, features: u32, message_bytes_max: u32 }
    /// Which partitions are there?
    List = LIST { request: u32, stream: Option<String>, after: Option<(String, u32)> }
    /// These.
    Listed = LISTED { request: u32, partitions: Vec<Partition>, more: bool }
    /// Frames of many partitions, wanted.
    Fetch = FETCH { request: u32, stream: String, wait_ms: u32, bytes_max: u32, known: u32, wants: Vec<Want> }
    /// Where does a time begin?
    Find = FIND { request: u32, stream: String, time: i64, numbers: Vec<u32> }
    /// There.
    Found = FOUND { request: u32, places: Vec<Place> }
    /// A member asks for its group's lease.
    Join = JOIN {
        request: u32, group: String, stream: String, member: String, generation: Option<u64>, wait_ms: u32,
    }
    /// It has it.
    Joined = JOINED { request: u32, generation: u64, lease_ms: u32, places: Vec<Place> }
    /// The group has come this far.
    Commit = COMMIT { request: u32, group: String, stream: String, generation: u64, places: Vec<Place> }
    /// The member goes.
    Leave = LEAVE { request: u32, group: String, stream: String, generation: u64 }
    /// A request is done.
    Done = DONE { request: u32 }
    /// A request cannot be met.
    Failed = FAILED { request: u32, code: u16, reason: String }
    /// A gateway asks for a certificate of its public key, with a token's secret or the certificate that it has.
    Enrol = ENROL { gateway: String, secret: Vec<u8>, public_key: Vec<u8> }
    /// Here it is, and what it is signed by.
    Enrolled = ENROLLED { certificates: Vec<Vec<u8>> }
}

/// How a log at a gateway is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogReport {
    /// Its number in the session.
    pub(crate) slot: u16,
    /// The first offset that is not acknowledged, and the one behind the last.
    pub(crate) acked: u64,
    pub(crate) next: u64,
    /// When the first was taken, µs since 1970, if that is known.
    pub(crate) oldest_unacked_us: Option<i64>,
    /// What they take, the places included that a segment keeps with them.
    pub(crate) waiting_bytes: u64,
    /// What all may take.
    pub(crate) capacity_bytes: u64,
}

/// Logs that a report names, at most.
pub(crate) const LOGS_REPORTED_MAX: usize = 64;
/// Longest report, with what a later version may put behind it.
pub(crate) const REPORT_BYTES_MAX: usize = 16 * 1024;
/// Longest text in a report, in bytes.
pub(crate) const REPORT_TEXT_MAX: usize = 200;

/// How far somebody has come in a run of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The partition's number in the stream.
    pub number: u32,
    /// Where the run begins; 0 for that of the partition's beginning.
    pub first: u64,
    /// The next offset there.
    pub next: u64,
}

/// A stretch of a partition that can be read without a hole in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First shifted offset.
    pub first: u64,
    /// One past the last shifted offset that may be read.
    pub end: u64,
    /// Place in the chain of the log that `end` stands in.
    pub epoch: u32,
}

/// A partition as the hub lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Its number in the stream, given once and for ever.
    pub number: u32,
    /// The stream.
    pub stream: String,
    /// The gateway that the records come from.
    pub gateway: String,
    /// The partition's number at the gateway.
    pub partition: u16,
    /// Place in the chain of the log that `end` stands in.
    pub epoch: u32,
    /// First shifted offset that is held.
    pub earliest: u64,
    /// One past the last shifted offset up to which nothing is missing that is still to come.
    pub end: u64,
    /// What can be read beyond: the logs behind one that is still being filled.
    pub ahead: Vec<Run>,
}

impl Partition {
    /// Its number and where each of its runs begins.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u32, u64)> {
        let ahead = self.ahead.iter().map(|run| run.first);
        std::iter::once(0)
            .chain(ahead)
            .map(|first| (self.number, first))
    }
}

/// What a Fetch wants of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Want {
    pub(crate) number: u32,
    pub(crate) from: u64,
    /// Of what was read before `from`.
    pub(crate) epoch: Option<u32>,
}

/// What stands before the frames in a Fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FetchedHead {
    pub(crate) request: u32,
    /// The mark of the runs that there are: [`mark`].
    pub(crate) runs: u32,
    pub(crate) parts: Vec<PartHead>,
}

/// One partition's part of a Fetched; its frames follow the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PartHead {
    pub(crate) number: u32,
    pub(crate) log_id: [u8; 16],
    pub(crate) epoch: u32,
    pub(crate) shift: u64,
    pub(crate) from: u64,
    pub(crate) next: u64,
    pub(crate) earliest: u64,
    pub(crate) end: u64,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) frames_len: u32,
    /// What the uptimes are that stand in the frames for times: the gateway's start, and when it began.
    pub(crate) beginnings: Vec<(u16, i64)>,
}

/// A gap, in shifted offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gap {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) lost: u64,
    pub(crate) cause: u8,
    pub(crate) when: i64,
    pub(crate) when_last: i64,
}

/// A whole Fetched, as its reader has it.
#[derive(Clone, Debug)]
pub(crate) struct Fetched {
    pub(crate) runs: u32,
    pub(crate) parts: Vec<(PartHead, Bytes)>,
}

/// Tells the runs of a stream from any others: of the partition's number and the run's first offset, for each run in order. One side makes it of what it has,
/// the other of what it was listed.
pub(crate) fn mark(runs: impl Iterator<Item = (u32, u64)>) -> u32 {
    let mut digest = Digest::new();
    for (number, first) in runs {
        digest.update(&number.to_le_bytes());
        digest.update(&first.to_le_bytes());
    }
    digest.finish()
}

/// The bytes were no such message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message does not parse")]
pub(crate) struct Malformed;

/// Reads a body, to its last byte.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(Malformed),
    }
}

/// Reads a report, and passes over what a later version may have put behind it.
pub(crate) fn parse_report(body: &[u8]) -> Result<Report, Malformed> {
    if body.len() > REPORT_BYTES_MAX {
        return Err(Malformed);
    }
    let (report, _) = postcard::take_from_bytes::<Report>(body).map_err(|_| Malformed)?;
    let texts = [
        Some(&report.version),
        report.voucher.as_ref(),
        report.held.as_ref(),
    ];
    let is_long = |text: &String| text.len() > REPORT_TEXT_MAX;
    match report.logs.len() > LOGS_REPORTED_MAX || texts.into_iter().flatten().any(is_long) {
        true => Err(Malformed),
        false => Ok(report),
    }
}

/// Appends `message` to `into`, framed.
pub(crate) fn emit<M: Message>(into: &mut BytesMut, message: &M) {
    emit_body(into, M::KIND, |body| append(body, message));
}

/// Appends a Fetched: the head, then the frames of each part.
pub(crate) fn emit_fetched(into: &mut BytesMut, head: &FetchedHead, frames: &[Bytes]) {
    debug_assert!(
        head.parts
            .iter()
            .map(|p| p.frames_len as usize)
            .eq(frames.iter().map(Bytes::len))
    );
    emit_body(into, kind::FETCHED, |body| {
        let head = postcard::to_allocvec(head).expect("postcard writes every head");
        append(body, &(head.len() as u32));
        body.extend_from_slice(&head);
        frames.iter().for_each(|f| body.extend_from_slice(f));
    });
}

/// Takes a Fetched apart without copying its frames.
pub(crate) fn parse_fetched(mut body: Bytes) -> Result<(u32, Fetched), Malformed> {
    let (head_len, rest) = postcard::take_from_bytes::<u32>(&body).map_err(|_| Malformed)?;
    let prefix = body.len() - rest.len();
    let head_len = head_len as usize;
    if rest.len() < head_len {
        return Err(Malformed);
    }
    let head: FetchedHead = parse(&rest[..head_len])?;
    drop(body.split_to(prefix + head_len));
    let mut parts = Vec::new();
    for part in head.parts {
        let len = part.frames_len as usize;
        if len > body.len() {
            return Err(Malformed);
        }
        parts.push((part, body.split_to(len)));
    }
    if !body.is_empty() {
        return Err(Malformed);
    }
    Ok((
        head.request,
        Fetched {
            runs: head.runs,
            parts,
        },
    ))
}

/// Appends a message whose body comes in parts.
pub(crate) fn emit_raw(into: &mut BytesMut, kind: u8, parts: &[&[u8]]) {
    emit_body(into, kind, |body| {
        parts.iter().for_each(|part| body.extend_from_slice(part))
    });
}

fn emit_body(into: &mut BytesMut, kind: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = into.len();
    into.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(into);
    let length = u32::try_from(into.len() - start - 4).expect("messages are far below 4 GiB");
    into[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

fn append<T: Serialize>(into: &mut BytesMut, value: &T) {
    let bytes = postcard::to_allocvec(value).expect("postcard writes every message");
    into.extend_from_slice(&bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(frames_len: u32) -> PartHead {
        PartHead {
            number: 3,
            log_id: [7; 16],
            epoch: 1,
            shift: 100,
            from: 100,
            next: 102,
            earliest: 0,
            end: 102,
            gaps: vec![Gap {
                from: 100,
                to: 100,
                lost: 0,
                cause: 5,
                when: 1,
                when_last: 1,
            }],
            frames_len,
            beginnings: vec![(9, 1)],
        }
    }

    /// One partition's runs have met, and in the same moment another one's chain splits: there are as many as before.
    #[test]
    fn runs_that_come_as_others_go_are_noticed() {
        let before = [(0, 0), (0, 300), (1, 0)];
        let after = [(0, 0), (1, 0), (1, 300)];
        assert_ne!(mark(before.into_iter()), mark(after.into_iter()));
        let elsewhere = [(0, 0), (0, 301), (1, 0)];
        assert_ne!(mark(before.into_iter()), mark(elsewhere.into_iter()));
        assert_eq!(mark(std::iter::empty()), 0);
    }

    #[test]
    fn a_fetched_gives_each_part_its_own_frames() {
        let head = FetchedHead {
            request: 9,
            runs: 2,
            parts: vec![part(3), part(2)],
        };
        let mut out = BytesMut::new();
        emit_fetched(
            &mut out,
            &head,
            &[Bytes::from_static(b"abc"), Bytes::from_static(b"de")],
        );
        assert_eq!(
            u32::from_le_bytes(out[..4].try_into().unwrap()) as usize,
            out.len() - 4
        );
        let (request, fetched) = parse_fetched(out.split_off(5).freeze()).unwrap();
        assert_eq!((request, fetched.runs), (9, 2));
        assert_eq!(fetched.parts[0].0, part(3));
        assert_eq!(&fetched.parts[1].1[..], b"de");
    }

    #[test]
    fn a_fetched_that_claims_more_than_it_has_is_malformed() {
        let head = FetchedHead {
            request: 9,
            runs: 1,
            parts: vec![part(3)],
        };
        let mut out = BytesMut::new();
        emit_fetched(&mut out, &head, &[Bytes::from_static(b"abc")]);
        let body = out.split_off(5).freeze();
        for cut in 0..body.len() {
            assert!(
                parse_fetched(body.slice(..cut)).is_err(),
                "{cut} bytes of {} parse",
                body.len()
            );
        }
    }
}
