//! Messages about groups, their offsets, and who asks: FindCoordinator to DeleteGroups, and SASL.

use super::octets::{Malformed, Reader, Writer};
use super::streams::{NODE, Topics, read_topics, write_topics};

/// The answer to FindCoordinator: it is here.
pub(crate) fn write_coordinator(into: &mut Writer, version: i16, host: &str, port: u16) {
    if version >= 1 {
        into.i32(0);
    }
    into.i16(super::code::NONE);
    if version >= 1 {
        into.nullable_string(None);
    }
    into.i32(NODE);
    into.string(host);
    into.i32(port.into());
}

/// A member, as it names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
}

/// A member of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberOf {
    pub(crate) group: String,
    pub(crate) generation: i32,
    pub(crate) member: Member,
}

impl MemberOf {
    fn read(from: &mut Reader<'_>, has_instance: bool) -> Result<Self, Malformed> {
        let (group, generation, id) = (from.string()?, from.i32()?, from.string()?);
        let instance = match has_instance {
            true => from.nullable_string()?,
            false => None,
        };
        Ok(Self {
            group,
            generation,
            member: Member { id, instance },
        })
    }

    pub(crate) fn read_heartbeat(from: &mut Reader<'_>, version: i16) -> Result<Self, Malformed> {
        Self::read(from, version >= 3)
    }
}

/// Who wants to be a member.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Join {
    pub(crate) group: String,
    pub(crate) session_ms: i32,
    pub(crate) rebalance_ms: i32,
    pub(crate) member: Member,
    pub(crate) protocol_type: String,
    pub(crate) protocols: Vec<(String, Vec<u8>)>,
}

impl Join {
    pub(crate) fn read(from: &mut Reader<'_>, version: i16) -> Result<Self, Malformed> {
        let (group, session_ms) = (from.string()?, from.i32()?);
        let rebalance_ms = match version {
            1.. => from.i32()?,
            _ => session_ms,
        };
        let id = from.string()?;
        let instance = match version {
            5.. => from.nullable_string()?,
            _ => None,
        };
        let protocol_type = from.string()?;
        let protocols = from.list(|from| Ok((from.string()?, from.bytes()?.to_vec())))?;
        Ok(Self {
            group,
            session_ms,
            rebalance_ms,
            member: Member { id, instance },
            protocol_type,
            protocols,
        })
    }
}

/// The answer to JoinGroup.
#[derive(Debug)]
pub(crate) struct Joined<'a> {
    pub(crate) code: i16,
    pub(crate) generation: i32,
    pub(crate) protocol: &'a str,
    pub(crate) leader: &'a str,
    pub(crate) member: &'a str,
    /// Id, instance and what it says of itself.
    pub(crate) members: Vec<(&'a str, Option<&'a str>, &'a [u8])>,
}

impl Joined<'_> {
    pub(crate) fn write(&self, into: &mut Writer, version: i16) {
        if version >= 2 {
            into.i32(0);
        }
        into.i16(self.code);
        into.i32(self.generation);
        into.string(self.protocol);
        into.string(self.leader);
        into.string(self.member);
        into.list(&self.members, |into, (id, instance, metadata)| {
            into.string(id);
            if version >= 5 {
                into.nullable_string(*instance);
            }
            into.bytes(metadata);
        });
    }
}

/// A member that wants its part of the work; the leader says who has which.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sync {
    pub(crate) of: MemberOf,
    pub(crate) assignments: Vec<(String, Vec<u8>)>,
}

impl Sync {
    pub(crate) fn read(from: &mut Reader<'_>, version: i16) -> Result<Self, Malformed> {
        Ok(Self {
            of: MemberOf::read(from, version >= 3)?,
            assignments: from.list(|from| Ok((from.string()?, from.bytes()?.to_vec())))?,
        })
    }
}

pub(crate) fn write_synced(into: &mut Writer, version: i16, code: i16, assignment: &[u8]) {
    write_code(into, version, code);
    into.bytes(assignment);
}

/// An answer that is one code: Heartbeat, and how others begin.
pub(crate) fn write_code(into: &mut Writer, version: i16, code: i16) {
    if version >= 1 {
        into.i32(0);
    }
    into.i16(code);
}

/// The group, and who goes.
pub(crate) fn read_leave(
    from: &mut Reader<'_>,
    version: i16,
) -> Result<(String, Vec<Member>), Malformed> {
    let group = from.string()?;
    let members = match version {
        3.. => from.list(|from| {
            Ok(Member {
                id: from.string()?,
                instance: from.nullable_string()?,
            })
        })?,
        _ => vec![Member {
            id: from.string()?,
            instance: None,
        }],
    };
    Ok((group, members))
}

pub(crate) fn write_left(into: &mut Writer, version: i16, left: &[(Member, i16)]) {
    // Before there could be several the one's code was the whole's.
    let whole = match version {
        3.. => super::code::NONE,
        _ => left.first().map_or(super::code::NONE, |(_, code)| *code),
    };
    write_code(into, version, whole);
    if version >= 3 {
        into.list(left, |into, (member, code)| {
            into.string(&member.id);
            into.nullable_string(member.instance.as_deref());
            into.i16(*code);
        });
    }
}

/// How far a group has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) of: MemberOf,
    pub(crate) topics: Topics<CommitPlace>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitPlace {
    pub(crate) number: i32,
    pub(crate) offset: i64,
    pub(crate) epoch: i32,
    pub(crate) note: Option<String>,
}

impl Commit {
    pub(crate) fn read(from: &mut Reader<'_>, version: i16) -> Result<Self, Malformed> {
        let of = MemberOf::read(from, version >= 7)?;
        if version <= 4 {
            // How long it is to be kept: for ever.
            from.i64()?;
        }
        let topics = read_topics(from, |from| {
            Ok(CommitPlace {
                number: from.i32()?,
                offset: from.i64()?,
                epoch: if version >= 6 { from.i32()? } else { -1 },
                note: from.nullable_string()?,
            })
        })?;
        Ok(Self { of, topics })
    }
}

pub(crate) fn write_committed(into: &mut Writer, version: i16, topics: &Topics<(i32, i16)>) {
    if version >= 3 {
        into.i32(0);
    }
    write_topics(into, topics, |into, (number, code)| {
        into.i32(*number);
        into.i16(*code);
    });
}

/// The group, and the partitions that are asked for; all if it is none.
pub(crate) fn read_offset_fetch(
    from: &mut Reader<'_>,
    version: i16,
) -> Result<(String, Option<Topics<i32>>), Malformed> {
    let group = from.string()?;
    let topics = from.nullable_list(|from| Ok((from.string()?, from.list(Reader::i32)?)))?;
    if topics.is_none() && version < 2 {
        return Err(Malformed);
    }
    Ok((group, topics))
}

/// How far a group has come in one partition; -1 is nowhere yet.
#[derive(Debug)]
pub(crate) struct PlaceFetched {
    pub(crate) number: i32,
    pub(crate) offset: i64,
    pub(crate) epoch: i32,
    pub(crate) note: String,
    pub(crate) code: i16,
}

pub(crate) fn write_offset_fetch(
    into: &mut Writer,
    version: i16,
    topics: &Topics<PlaceFetched>,
    code: i16,
) {
    if version >= 3 {
        into.i32(0);
    }
    write_topics(into, topics, |into, place| {
        into.i32(place.number);
        into.i64(place.offset);
        if version >= 5 {
            into.i32(place.epoch);
        }
        into.string(&place.note);
        into.i16(place.code);
    });
    if version >= 2 {
        into.i16(code);
    }
}

pub(crate) fn read_describe(from: &mut Reader<'_>, version: i16) -> Result<Vec<String>, Malformed> {
    let groups = from.list(Reader::string)?;
    if version >= 3 {
        from.bool()?;
    }
    Ok(groups)
}

/// A group, shown.
#[derive(Debug, Default)]
pub(crate) struct GroupShown {
    pub(crate) code: i16,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<MemberShown>,
}

#[derive(Debug)]
pub(crate) struct MemberShown {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) client: String,
    pub(crate) host: String,
    pub(crate) metadata: Vec<u8>,
    pub(crate) assignment: Vec<u8>,
}

pub(crate) fn write_described(into: &mut Writer, version: i16, groups: &[GroupShown]) {
    if version >= 1 {
        into.i32(0);
    }
    into.list(groups, |into, group| {
        into.i16(group.code);
        into.string(&group.name);
        into.string(&group.state);
        into.string(&group.protocol_type);
        into.string(&group.protocol);
        into.list(&group.members, |into, member| {
            into.string(&member.id);
            if version >= 4 {
                into.nullable_string(member.instance.as_deref());
            }
            into.string(&member.client);
            into.string(&member.host);
            into.bytes(&member.metadata);
            into.bytes(&member.assignment);
        });
        if version >= 3 {
            into.i32(i32::MIN);
        }
    });
}

/// Each group with the type of its protocol.
pub(crate) fn write_groups(into: &mut Writer, version: i16, groups: &[(String, String)]) {
    write_code(into, version, super::code::NONE);
    into.list(groups, |into, (name, protocol_type)| {
        into.string(name);
        into.string(protocol_type);
    });
}

pub(crate) fn write_groups_deleted(into: &mut Writer, deleted: &[(String, i16)]) {
    into.i32(0);
    into.list(deleted, |into, (name, code)| {
        into.string(name);
        into.i16(*code);
    });
}

/// The group, and of which partitions it is to forget its place.
pub(crate) fn read_offset_delete(
    from: &mut Reader<'_>,
) -> Result<(String, Topics<i32>), Malformed> {
    Ok((from.string()?, read_topics(from, Reader::i32)?))
}

pub(crate) fn write_offsets_deleted(into: &mut Writer, code: i16, topics: &Topics<(i32, i16)>) {
    into.i16(code);
    into.i32(0);
    write_topics(into, topics, |into, (number, code)| {
        into.i32(*number);
        into.i16(*code);
    });
}

/// The answer to SaslHandshake: which mechanisms there are.
pub(crate) fn write_mechanisms(into: &mut Writer, code: i16) {
    into.i16(code);
    into.list(&[PLAIN], |into, mechanism| into.string(mechanism));
}

/// The answer to SaslAuthenticate.
pub(crate) fn write_authenticated(into: &mut Writer, version: i16, refused: Option<(i16, &str)>) {
    into.i16(refused.map_or(super::code::NONE, |(code, _)| code));
    into.nullable_string(refused.map(|(_, why)| why));
    into.bytes(&[]);
    if version >= 1 {
        // For as long as the connection lasts.
        into.i64(0);
    }
}

/// Name and password in a message of SASL's mechanism PLAIN (RFC 4616).
pub(crate) fn read_plain(message: &[u8]) -> Result<(&str, &str), Malformed> {
    let text = str::from_utf8(message).map_err(|_| Malformed)?;
    let parts: Vec<&str> = text.split('\0').collect();
    match parts[..] {
        [_, name, password] => Ok((name, password)),
        _ => Err(Malformed),
    }
}

pub(crate) const PLAIN: &str = "PLAIN";
