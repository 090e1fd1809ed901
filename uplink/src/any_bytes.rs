//! What a peer may send, read as a connection reads it, without a connection: the door for tests that try bytes from anywhere.
//! Nothing of sedge itself goes through it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use sedge_core::LogId;
use serde::de::DeserializeOwned;

use crate::client::decode;
use crate::client::{Item, Origin};
use crate::stream;
use crate::wire::{self, Message, kind};

/// Gives each message in `bytes` to `each`, with its type and body, as a connection hears it that brings at most `piece_bytes` at once. Returns the code of
/// the Bye with which the connection ends if a rule is broken.
pub fn hear(
    bytes: &[u8],
    piece_bytes: usize,
    message_bytes_max: usize,
    mut each: impl FnMut(u8, Bytes),
) -> Option<u16> {
    let mut buffered = BytesMut::new();
    let mut rest = bytes;
    loop {
        match stream::first(&mut buffered, message_bytes_max) {
            Ok(Some(message)) => each(message.kind, message.body),
            Ok(None) if rest.is_empty() => return None,
            Ok(None) => {
                stream::make_room(&mut buffered, message_bytes_max);
                let room = buffered.capacity() - buffered.len();
                let (piece, behind) = rest.split_at(piece_bytes.min(room).min(rest.len()));
                buffered.extend_from_slice(piece);
                rest = behind;
            }
            Err(error) => return error.bye(),
        }
    }
}

/// The body of a message of the consumers' conversation, read and written again; `None` if it does not parse, or is none of them.
#[must_use]
pub fn written_again(kind: u8, body: &[u8]) -> Option<Vec<u8>> {
    match kind {
        kind::PING => again::<wire::Ping>(body),
        kind::BYE => again::<wire::Bye>(body),
        kind::REPORT => wire::parse_report(body)
            .ok()
            .and_then(|_| again::<wire::Report>(body)),
        kind::OPEN => again::<wire::Open>(body),
        kind::OPENED => again::<wire::Opened>(body),
        kind::LIST => again::<wire::List>(body),
        kind::LISTED => again::<wire::Listed>(body),
        kind::FETCH => again::<wire::Fetch>(body),
        kind::FETCHED => fetched_again(body),
        kind::FIND => again::<wire::Find>(body),
        kind::FOUND => again::<wire::Found>(body),
        kind::JOIN => again::<wire::Join>(body),
        kind::JOINED => again::<wire::Joined>(body),
        kind::COMMIT => again::<wire::Commit>(body),
        kind::LEAVE => again::<wire::Leave>(body),
        kind::DONE => again::<wire::Done>(body),
        kind::FAILED => again::<wire::Failed>(body),
        kind::ENROL => again::<wire::Enrol>(body),
        kind::ENROLLED => again::<wire::Enrolled>(body),
        _ => None,
    }
}

/// A request of Kafka's protocol: how many things it names, none if it is malformed or not spoken.
#[cfg(feature = "hub")]
#[must_use]
pub fn kafka_request(bytes: &[u8]) -> Option<usize> {
    use crate::kafka::api::{self, Api, Head, Known};
    use crate::kafka::octets::Reader;
    use crate::kafka::streams::Topics;
    use crate::kafka::{groups, streams};
    fn count<T>(topics: &Topics<T>) -> usize {
        topics.iter().map(|(_, of)| 1 + of.len()).sum()
    }
    let mut from = Reader::new(bytes);
    let head = Head::read(&mut from).ok()?;
    let Known::Yes(api) = head.known() else {
        return None;
    };
    let (from, version) = (&mut from, head.version);
    let named = match api {
        Api::Produce => streams::Produce::read(from).map(|of| count(&of.topics)),
        Api::Fetch => streams::Fetch::read(from, version).map(|of| count(&of.topics)),
        Api::ListOffsets => streams::read_list_offsets(from, version).map(|of| count(&of)),
        Api::Metadata => {
            streams::read_metadata(from, version).map(|of| of.map_or(0, |of| of.len()))
        }
        Api::OffsetCommit => groups::Commit::read(from, version).map(|of| count(&of.topics)),
        Api::OffsetFetch => {
            groups::read_offset_fetch(from, version).map(|(_, of)| of.map_or(0, |of| count(&of)))
        }
        Api::FindCoordinator | Api::SaslHandshake => from.string().map(|_| 1),
        Api::JoinGroup => groups::Join::read(from, version).map(|of| of.protocols.len()),
        Api::Heartbeat => groups::MemberOf::read_heartbeat(from, version).map(|_| 1),
        Api::LeaveGroup => groups::read_leave(from, version).map(|(_, of)| of.len()),
        Api::SyncGroup => groups::Sync::read(from, version).map(|of| of.assignments.len()),
        Api::DescribeGroups => groups::read_describe(from, version).map(|of| of.len()),
        Api::ListGroups | Api::InitProducerId => Ok(0),
        Api::ApiVersions => api::read_versions(from, version).map(|_| 0),
        Api::OffsetForLeaderEpoch => streams::read_epochs(from, version).map(|of| count(&of)),
        Api::DescribeConfigs => streams::read_configs(from, version).map(|of| of.len()),
        Api::SaslAuthenticate => from.bytes().map(|of| groups::read_plain(of).iter().count()),
        Api::DeleteGroups => from.list(Reader::string).map(|of| of.len()),
        Api::OffsetDelete => groups::read_offset_delete(from).map(|(_, of)| count(&of)),
    };
    named.ok()
}

fn again<M: Message + DeserializeOwned>(body: &[u8]) -> Option<Vec<u8>> {
    let message: M = wire::parse(body).ok()?;
    let mut framed = BytesMut::new();
    wire::emit(&mut framed, &message);
    Some(framed[FRAMING_BYTES..].to_vec())
}

fn fetched_again(body: &[u8]) -> Option<Vec<u8>> {
    let (request, fetched) = wire::parse_fetched(Bytes::copy_from_slice(body)).ok()?;
    let (parts, frames): (Vec<_>, Vec<_>) = fetched.parts.into_iter().unzip();
    let runs = fetched.runs;
    let head = wire::FetchedHead {
        request,
        runs,
        parts,
    };
    let mut framed = BytesMut::new();
    wire::emit_fetched(&mut framed, &head, &frames);
    Some(framed[FRAMING_BYTES..].to_vec())
}

/// A partition's part of a Fetched: what it covers, in shifted offsets, and what the hub sends of it.
#[derive(Clone, Debug)]
pub struct Part {
    /// The log that the frames are of.
    pub log: LogId,
    /// What is added to the offsets in the frames.
    pub shift: u64,
    /// The first offset that is covered.
    pub from: u64,
    /// The offset behind the last one.
    pub next: u64,
    /// What the hub tells as missing before the frames: from, to, lost, code of the cause.
    pub gaps: Vec<(u64, u64, u64, u8)>,
    /// The frames, one behind the other.
    pub frames: Bytes,
}

/// The items that a consumer makes of a part.
#[must_use]
pub fn shown(part: &Part) -> Vec<Item> {
    let origin = Arc::new(Origin {
        stream: "any".into(),
        gateway: "bytes".into(),
        partition: 0,
        number: 0,
    });
    let mut items = Vec::new();
    decode::part(&head(part), &part.frames, &origin, part.from, &mut items);
    items
}

/// The batches that a client of Kafka's gets of a part.
#[cfg(feature = "hub")]
#[must_use]
pub fn kafka_batches(part: &Part, shows_gaps: bool) -> Vec<u8> {
    let mut batches = crate::kafka::batch::Batches::new(1, shows_gaps, 0);
    decode::walk(&head(part), &part.frames, part.from, &mut batches);
    batches.up_to(part.next)
}

fn head(part: &Part) -> wire::PartHead {
    let gap = |&(from, to, lost, cause): &(u64, u64, u64, u8)| wire::Gap {
        from,
        to,
        lost,
        cause,
        when: 0,
        when_last: 0,
    };
    wire::PartHead {
        number: 0,
        log_id: *part.log.as_bytes(),
        epoch: 0,
        shift: part.shift,
        from: part.from,
        next: part.next,
        earliest: 0,
        end: part.next,
        gaps: part.gaps.iter().map(gap).collect(),
        frames_len: 0,
        beginnings: Vec::new(),
    }
}

/// What [`wire::emit`] puts before a body: length and type.
const FRAMING_BYTES: usize = 5;
