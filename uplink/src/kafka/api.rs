//! Which requests there are, in which versions, and what stands before each.

use super::code;
use super::octets::{Malformed, Reader, Writer};

/// A request that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "they are called so")]
pub(crate) enum Api {
    Produce,
    Fetch,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    FindCoordinator,
    JoinGroup,
    Heartbeat,
    LeaveGroup,
    SyncGroup,
    DescribeGroups,
    ListGroups,
    SaslHandshake,
    ApiVersions,
    InitProducerId,
    OffsetForLeaderEpoch,
    DescribeConfigs,
    SaslAuthenticate,
    DeleteGroups,
    OffsetDelete,
}

/// Each request with its key, and the first and the last version of it that is spoken.
///
/// SaslHandshake 0 is what older versions of librdkafka look for, though they use 1. Produce and InitProducerId are only refused. librdkafka fetches nothing from who does not name Produce 3 to 7 and Fetch 4 to 10, since it takes
/// that for a server without batches of records.
pub(crate) const APIS: [(Api, i16, i16, i16); 21] = [
    (Api::Produce, 0, 3, 8),
    (Api::Fetch, 1, 4, 11),
    (Api::ListOffsets, 2, 1, 5),
    (Api::Metadata, 3, 0, 8),
    (Api::OffsetCommit, 8, 2, 7),
    (Api::OffsetFetch, 9, 1, 5),
    (Api::FindCoordinator, 10, 0, 2),
    (Api::JoinGroup, 11, 0, 5),
    (Api::Heartbeat, 12, 0, 3),
    (Api::LeaveGroup, 13, 0, 3),
    (Api::SyncGroup, 14, 0, 3),
    (Api::DescribeGroups, 15, 0, 4),
    (Api::ListGroups, 16, 0, 2),
    (Api::SaslHandshake, 17, 0, 1),
    (Api::ApiVersions, 18, 0, 4),
    (Api::InitProducerId, 22, 0, 1),
    (Api::OffsetForLeaderEpoch, 23, 2, 3),
    (Api::DescribeConfigs, 32, 1, 3),
    (Api::SaslAuthenticate, 36, 0, 1),
    (Api::DeleteGroups, 42, 0, 1),
    (Api::OffsetDelete, 47, 0, 0),
];

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) client: Option<String>,
}

/// What a request is, if it is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// In this version too.
    Yes(Api),
    /// In other versions.
    Otherwise(Api),
    No,
}

impl Head {
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let head = Self {
            key: from.i16()?,
            version: from.i16()?,
            correlation: from.i32()?,
            client: from.nullable_string()?,
        };
        if head.key == VERSIONS_KEY && head.version >= VERSIONS_FLEXIBLE {
            // Whatever stands there in a version that is not known is not looked at.
            match from.tagged_fields() {
                Err(e) if head.known() != Known::Otherwise(Api::ApiVersions) => return Err(e),
                _ => {}
            }
        }
        Ok(head)
    }

    pub(crate) fn known(&self) -> Known {
        let known = APIS.iter().find(|(_, key, ..)| *key == self.key);
        match known {
            Some((api, _, first, last)) if (*first..=*last).contains(&self.version) => {
                Known::Yes(*api)
            }
            Some((api, ..)) => Known::Otherwise(*api),
            None => Known::No,
        }
    }
}

/// The name and version that a client gives itself, if it does.
pub(crate) fn read_versions(
    from: &mut Reader<'_>,
    version: i16,
) -> Result<Option<(String, String)>, Malformed> {
    if version < VERSIONS_FLEXIBLE {
        return Ok(None);
    }
    let named = (from.compact_string()?, from.compact_string()?);
    from.tagged_fields()?;
    Ok(Some(named))
}

/// What is spoken. A version that is not known is answered in the first one, which every client understands, with all that is spoken.
pub(crate) fn write_versions(into: &mut Writer, version: i16, known: bool) {
    let version = if known { version } else { 0 };
    into.i16(match known {
        true => code::NONE,
        false => code::UNSUPPORTED_VERSION,
    });
    let range = |into: &mut Writer, (_, key, first, last): &(Api, i16, i16, i16)| {
        into.i16(*key);
        into.i16(*first);
        into.i16(*last);
    };
    if version < VERSIONS_FLEXIBLE {
        into.list(&APIS, range);
    } else {
        into.compact_count(APIS.len());
        for api in &APIS {
            range(into, api);
            into.no_tagged_fields();
        }
    }
    if version >= 1 {
        into.i32(0);
    }
    if version >= VERSIONS_FLEXIBLE {
        into.no_tagged_fields();
    }
}

const VERSIONS_KEY: i16 = 18;
/// From here on ApiVersions has compact strings and tagged fields. The head of its answer never has.
const VERSIONS_FLEXIBLE: i16 = 3;
