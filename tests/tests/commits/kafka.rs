//! Consumers over Kafka's protocol, whose every message is made and read by another implementation of it. They take a place from the hub each time they connect.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::RecordBatchDecoder;
use sedge_tests::rig::kafka::TOPIC;

use crate::promise::Promise;

/// A consumer of a group.
pub(crate) struct Consumer<'a> {
    pub(crate) hub: SocketAddr,
    pub(crate) group: &'static str,
    pub(crate) promise: &'a Promise,
    pub(crate) partitions: u32,
    pub(crate) over: &'a AtomicBool,
}

/// Who it is to the group: nobody in particular, or a member of a generation.
#[derive(Clone, Debug)]
struct Seat {
    member: String,
    generation: i32,
    partitions: Vec<u32>,
}

struct Talk {
    socket: TcpStream,
    correlation: i32,
}

impl Consumer<'_> {
    /// Reads and commits without a seat in the group, over a new connection each time something ends.
    pub(crate) fn goes_alone(&self) {
        let seat = Seat {
            member: String::new(),
            generation: -1,
            partitions: (0..self.partitions).collect(),
        };
        self.until_over(|talk| self.work(talk, &seat));
    }

    /// Joins the group and shares its partitions with others.
    pub(crate) fn joins(&self) {
        let mut member = String::new();
        self.until_over(|talk| match self.seat(talk, &mut member)? {
            Some(seat) => self.work(talk, &seat),
            None => Ok(()),
        });
    }

    fn until_over(&self, mut turn: impl FnMut(&mut Talk) -> Result<()>) {
        while !self.over.load(Ordering::Acquire) {
            let done = Talk::with(self.hub).and_then(|mut talk| turn(&mut talk));
            if let Err(error) = done {
                assert!(
                    error.kind() != ErrorKind::InvalidData,
                    "{}: {error}",
                    self.group
                );
                std::thread::sleep(AGAIN_AFTER);
            }
        }
    }

    /// A place in the group. None when this connection is not the one for it.
    fn seat(&self, talk: &mut Talk, member: &mut String) -> Result<Option<Seat>> {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("by-number"));
        let join = JoinGroupRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_session_timeout_ms(6_000)
            .with_rebalance_timeout_ms(6_000)
            .with_member_id(text(member))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let answer = talk.ask(ApiKey::JoinGroup, 5, RequestKind::JoinGroup(join))?;
        let ResponseKind::JoinGroup(joined) = answer else {
            return Err(strange(&answer));
        };
        match joined.error_code {
            NONE => {}
            MEMBER_ID_REQUIRED => {
                *member = joined.member_id.to_string();
                return self.seat(talk, member);
            }
            UNKNOWN_MEMBER_ID => {
                member.clear();
                return Ok(None);
            }
            COORDINATOR_NOT_AVAILABLE | REBALANCE_IN_PROGRESS => return Ok(None),
            _ => return Err(strange(&joined)),
        }
        *member = joined.member_id.to_string();
        let mut assignments = Vec::new();
        if joined.leader == joined.member_id {
            let mut shares = vec![Vec::new(); joined.members.len()];
            for number in 0..self.partitions {
                let at = number as usize % shares.len();
                shares[at].push(number as u8);
            }
            for (of, share) in joined.members.iter().zip(shares) {
                let assignment = SyncGroupRequestAssignment::default();
                let assignment = assignment.with_member_id(of.member_id.clone());
                assignments.push(assignment.with_assignment(share.into()));
            }
        }
        let sync = SyncGroupRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_generation_id(joined.generation_id)
            .with_member_id(text(member))
            .with_assignments(assignments);
        let answer = talk.ask(ApiKey::SyncGroup, 3, RequestKind::SyncGroup(sync))?;
        let ResponseKind::SyncGroup(synced) = answer else {
            return Err(strange(&answer));
        };
        Ok((synced.error_code == NONE).then(|| Seat {
            member: member.clone(),
            generation: joined.generation_id,
            partitions: synced.assignment.iter().map(|n| u32::from(*n)).collect(),
        }))
    }

    /// Takes the group's places, and reads and commits from there on until it is to join again.
    fn work(&self, talk: &mut Talk, seat: &Seat) -> Result<()> {
        let mut places = self.places(talk, seat)?;
        // Not for ever: who comes again is what is tried here.
        for _ in 0..ROUNDS {
            if self.over.load(Ordering::Acquire) {
                return Ok(());
            }
            self.fetch(talk, &mut places)?;
            let goes_on = self.commit(talk, seat, &places)? && self.is_seated(talk, seat)?;
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    fn places(&self, talk: &mut Talk, seat: &Seat) -> Result<Vec<(u32, u64)>> {
        let floors = seat.partitions.iter().map(|n| self.promise.floor(*n));
        let floors: Vec<_> = floors.collect();
        let numbers = seat.partitions.iter().map(|n| *n as i32).collect();
        let of = OffsetFetchRequestTopic::default()
            .with_name(topic())
            .with_partition_indexes(numbers);
        let fetch = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_topics(Some(vec![of]));
        let answer = talk.ask(ApiKey::OffsetFetch, 5, RequestKind::OffsetFetch(fetch))?;
        let ResponseKind::OffsetFetch(answer) = answer else {
            return Err(strange(&answer));
        };
        let mut places = Vec::new();
        for (of, floor) in answer.topics[0].partitions.iter().zip(floors) {
            if of.error_code != NONE {
                return Err(strange(of));
            }
            let (number, place) = (of.partition_index as u32, of.committed_offset.max(0) as u64);
            self.promise.found(number, floor, place);
            places.push((number, place));
        }
        Ok(places)
    }

    fn fetch(&self, talk: &mut Talk, places: &mut [(u32, u64)]) -> Result<()> {
        let wants = places.iter().map(|(number, place)| {
            FetchPartition::default()
                .with_partition(*number as i32)
                .with_fetch_offset(*place as i64)
                .with_partition_max_bytes(PIECE)
        });
        let of = FetchTopic::default()
            .with_topic(topic())
            .with_partitions(wants.collect());
        let fetch = FetchRequest::default()
            .with_max_wait_ms(50)
            .with_min_bytes(1)
            .with_max_bytes(2 * PIECE)
            .with_topics(vec![of]);
        let answer = talk.ask(ApiKey::Fetch, 11, RequestKind::Fetch(fetch))?;
        let ResponseKind::Fetch(answer) = answer else {
            return Err(strange(&answer));
        };
        for of in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            match of.error_code {
                NONE => {}
                // Of a hub that just began: it has not met the gateway's logs yet.
                NOT_LEADER | UNKNOWN_TOPIC => return Err(ErrorKind::NotFound.into()),
                _ => return Err(strange(of)),
            }
            let number = of.partition_index as u32;
            let at = places.iter_mut().find(|(of, _)| *of == number);
            let (_, place) = at.ok_or_else(|| strange(of))?;
            let mut batches = of.records.clone().unwrap_or_default();
            let sets =
                RecordBatchDecoder::decode_all(&mut batches).map_err(|error| strange(&error))?;
            for record in sets.into_iter().flat_map(|set| set.records) {
                // A batch may begin before what was asked for.
                if record.offset as u64 >= *place {
                    let value = record.value.ok_or_else(|| strange(&"no value"))?;
                    (self.promise).read(number, record.offset as u64, value);
                    *place = record.offset as u64 + 1;
                }
            }
        }
        Ok(())
    }

    /// False: it is to join again.
    fn commit(&self, talk: &mut Talk, seat: &Seat, places: &[(u32, u64)]) -> Result<bool> {
        let sent = places.iter();
        let sent: Vec<_> = sent.map(|(n, at)| self.promise.sends(*n, *at)).collect();
        let partitions = places.iter().map(|(number, place)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*number as i32)
                .with_committed_offset(*place as i64)
                .with_committed_leader_epoch(-1)
        });
        let of = OffsetCommitRequestTopic::default()
            .with_name(topic())
            .with_partitions(partitions.collect());
        let commit = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_generation_id_or_member_epoch(seat.generation)
            .with_member_id(text(&seat.member))
            .with_topics(vec![of]);
        let answer = talk.ask(ApiKey::OffsetCommit, 7, RequestKind::OffsetCommit(commit))?;
        let ResponseKind::OffsetCommit(answer) = answer else {
            return Err(strange(&answer));
        };
        let mut goes_on = true;
        for (of, sent) in answer.topics[0].partitions.iter().zip(sent) {
            match of.error_code {
                NONE => self.promise.answered(sent),
                UNKNOWN_MEMBER_ID | ILLEGAL_GENERATION | REBALANCE_IN_PROGRESS => goes_on = false,
                UNKNOWN_TOPIC => return Err(ErrorKind::NotFound.into()),
                _ => return Err(strange(of)),
            }
        }
        Ok(goes_on)
    }

    fn is_seated(&self, talk: &mut Talk, seat: &Seat) -> Result<bool> {
        if seat.generation < 0 {
            return Ok(true);
        }
        let heartbeat = HeartbeatRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_generation_id(seat.generation)
            .with_member_id(text(&seat.member));
        match talk.ask(ApiKey::Heartbeat, 3, RequestKind::Heartbeat(heartbeat))? {
            ResponseKind::Heartbeat(answer) => Ok(answer.error_code == NONE),
            other => Err(strange(&other)),
        }
    }
}

impl Talk {
    fn with(hub: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(hub)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        let correlation = 0;
        Ok(Self {
            socket,
            correlation,
        })
    }

    fn ask(&mut self, key: ApiKey, version: i16, request: RequestKind) -> Result<ResponseKind> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(text("a-test")));
        let mut body = BytesMut::new();
        let written = header
            .encode(&mut body, key.request_header_version(version))
            .and_then(|()| request.encode(&mut body, version));
        written.map_err(|error| strange(&error))?;
        let mut framed = (body.len() as u32).to_be_bytes().to_vec();
        framed.extend_from_slice(&body);
        self.socket.write_all(&framed)?;
        let mut len = [0; 4];
        self.socket.read_exact(&mut len)?;
        let mut answer = vec![0; u32::from_be_bytes(len) as usize];
        self.socket.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        ResponseHeader::decode(&mut answer, key.response_header_version(version))
            .and_then(|_| ResponseKind::decode(key, &mut answer, version))
            .map_err(|error| strange(&error))
    }
}

/// Something that a hub never says.
fn strange(what: &impl std::fmt::Debug) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{what:?}"))
}

fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

const NONE: i16 = 0;
const UNKNOWN_TOPIC: i16 = 3;
const NOT_LEADER: i16 = 6;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;

const PIECE: i32 = 4 << 10;
const ROUNDS: u32 = 20;
const AGAIN_AFTER: Duration = Duration::from_millis(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
