//! Messages about topics and what stands in them: Metadata, ListOffsets, Fetch, OffsetForLeaderEpoch, DescribeConfigs, and Produce, which is refused.

use super::octets::{Malformed, Reader, Writer};

/// Something about each of several partitions of several topics.
pub(crate) type Topics<T> = Vec<(String, Vec<T>)>;

pub(super) fn read_topics<'a, T>(
    from: &mut Reader<'a>,
    mut each: impl FnMut(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Topics<T>, Malformed> {
    from.list(|from| Ok((from.string()?, from.list(&mut each)?)))
}

pub(super) fn write_topics<T>(
    into: &mut Writer,
    topics: &Topics<T>,
    mut each: impl FnMut(&mut Writer, &T),
) {
    into.list(topics, |into, (topic, partitions)| {
        into.string(topic);
        into.list(partitions, &mut each);
    });
}

/// The topics that are asked for; all of them if it is none.
pub(crate) fn read_metadata(
    from: &mut Reader<'_>,
    version: i16,
) -> Result<Option<Vec<String>>, Malformed> {
    let topics = from.nullable_list(Reader::string)?;
    if version >= 4 {
        // Whether topics may be made by asking for them. They may not.
        from.bool()?;
    }
    if version >= 8 {
        from.bool()?;
        from.bool()?;
    }
    Ok(topics.filter(|topics| version > 0 || !topics.is_empty()))
}

/// The answer to Metadata.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) cluster: String,
    pub(crate) topics: Vec<Topic>,
}

#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) code: i16,
    pub(crate) name: String,
    /// Number and leader epoch of each partition.
    pub(crate) partitions: Vec<(i32, i32)>,
}

impl Metadata {
    pub(crate) fn write(&self, into: &mut Writer, version: i16) {
        if version >= 3 {
            into.i32(0);
        }
        into.list(&[NODE], |into, node| {
            into.i32(*node);
            into.string(&self.host);
            into.i32(self.port.into());
            if version >= 1 {
                into.nullable_string(None);
            }
        });
        if version >= 2 {
            into.string(&self.cluster);
        }
        if version >= 1 {
            into.i32(NODE);
        }
        into.list(&self.topics, |into, topic| topic.write(into, version));
        if version >= 8 {
            into.i32(OPERATIONS_UNKNOWN);
        }
    }
}

impl Topic {
    fn write(&self, into: &mut Writer, version: i16) {
        into.i16(self.code);
        into.string(&self.name);
        if version >= 1 {
            into.bool(false);
        }
        into.list(&self.partitions, |into, (number, epoch)| {
            into.i16(super::code::NONE);
            into.i32(*number);
            into.i32(NODE);
            if version >= 7 {
                into.i32(*epoch);
            }
            into.list(&[NODE], |into, node| into.i32(*node));
            into.list(&[NODE], |into, node| into.i32(*node));
            if version >= 5 {
                into.list(&[] as &[i32], |into, node| into.i32(*node));
            }
        });
        if version >= 8 {
            into.i32(OPERATIONS_UNKNOWN);
        }
    }
}

/// Where something begins in a partition: asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OffsetAsked {
    pub(crate) number: i32,
    pub(crate) epoch: i32,
    /// ms since 1970, or one of those below.
    pub(crate) time: i64,
}

/// One past the last.
pub(crate) const LATEST: i64 = -1;
/// The first that is held.
pub(crate) const EARLIEST: i64 = -2;

pub(crate) fn read_list_offsets(
    from: &mut Reader<'_>,
    version: i16,
) -> Result<Topics<OffsetAsked>, Malformed> {
    from.i32()?;
    if version >= 2 {
        from.i8()?;
    }
    read_topics(from, |from| {
        Ok(OffsetAsked {
            number: from.i32()?,
            epoch: if version >= 4 { from.i32()? } else { -1 },
            time: from.i64()?,
        })
    })
}

/// Where something begins in a partition: answered.
#[derive(Debug)]
pub(crate) struct OffsetListed {
    pub(crate) number: i32,
    pub(crate) code: i16,
    pub(crate) time: i64,
    pub(crate) offset: i64,
    pub(crate) epoch: i32,
}

pub(crate) fn write_list_offsets(into: &mut Writer, version: i16, topics: &Topics<OffsetListed>) {
    if version >= 2 {
        into.i32(0);
    }
    write_topics(into, topics, |into, listed| {
        into.i32(listed.number);
        into.i16(listed.code);
        into.i64(listed.time);
        into.i64(listed.offset);
        if version >= 4 {
            into.i32(listed.epoch);
        }
    });
}

/// What is to be fetched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) wait_ms: i32,
    pub(crate) bytes_max: i32,
    pub(crate) session: i32,
    pub(crate) session_epoch: i32,
    pub(crate) topics: Topics<FetchAsked>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FetchAsked {
    pub(crate) number: i32,
    pub(crate) epoch: i32,
    pub(crate) offset: i64,
    pub(crate) bytes_max: i32,
}

impl Fetch {
    pub(crate) fn read(from: &mut Reader<'_>, version: i16) -> Result<Self, Malformed> {
        from.i32()?;
        let wait_ms = from.i32()?;
        // How many bytes are to be waited for: what is there is given at once.
        from.i32()?;
        let bytes_max = from.i32()?;
        from.i8()?;
        let (session, session_epoch) = match version {
            7.. => (from.i32()?, from.i32()?),
            _ => (0, -1),
        };
        let topics = read_topics(from, |from| {
            let number = from.i32()?;
            let epoch = if version >= 9 { from.i32()? } else { -1 };
            let offset = from.i64()?;
            if version >= 5 {
                from.i64()?;
            }
            let bytes_max = from.i32()?;
            Ok(FetchAsked {
                number,
                epoch,
                offset,
                bytes_max,
            })
        })?;
        if version >= 7 {
            read_topics(from, Reader::i32)?;
        }
        if version >= 11 {
            from.string()?;
        }
        Ok(Self {
            wait_ms,
            bytes_max,
            session,
            session_epoch,
            topics,
        })
    }
}

/// What was fetched.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) code: i16,
    pub(crate) topics: Topics<PartitionFetched>,
}

#[derive(Debug)]
pub(crate) struct PartitionFetched {
    pub(crate) number: i32,
    pub(crate) code: i16,
    pub(crate) earliest: i64,
    pub(crate) end: i64,
    /// Whole batches.
    pub(crate) records: Vec<u8>,
}

impl Fetched {
    pub(crate) fn write(&self, into: &mut Writer, version: i16) {
        into.i32(0);
        if version >= 7 {
            into.i16(self.code);
            into.i32(0);
        }
        write_topics(into, &self.topics, |into, partition| {
            into.i32(partition.number);
            into.i16(partition.code);
            into.i64(partition.end);
            // Nothing is written in transactions, so everything is settled.
            into.i64(partition.end);
            if version >= 5 {
                into.i64(partition.earliest);
            }
            into.i32(-1);
            if version >= 11 {
                into.i32(-1);
            }
            into.bytes(&partition.records);
        });
    }
}

/// Where the log of a leader epoch ends: asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EpochAsked {
    pub(crate) number: i32,
    /// That of the partition as the asker knows it.
    pub(crate) current: i32,
    pub(crate) epoch: i32,
}

pub(crate) fn read_epochs(
    from: &mut Reader<'_>,
    version: i16,
) -> Result<Topics<EpochAsked>, Malformed> {
    if version >= 3 {
        from.i32()?;
    }
    read_topics(from, |from| {
        Ok(EpochAsked {
            number: from.i32()?,
            current: from.i32()?,
            epoch: from.i32()?,
        })
    })
}

/// Where the log of a leader epoch ends: answered.
#[derive(Debug)]
pub(crate) struct EpochEnd {
    pub(crate) code: i16,
    pub(crate) number: i32,
    pub(crate) epoch: i32,
    pub(crate) end: i64,
}

pub(crate) fn write_epochs(into: &mut Writer, topics: &Topics<EpochEnd>) {
    into.i32(0);
    write_topics(into, topics, |into, end| {
        into.i16(end.code);
        into.i32(end.number);
        into.i32(end.epoch);
        into.i64(end.end);
    });
}

/// Whose settings are asked for, and which; all if it is none.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ConfigsAsked {
    pub(crate) kind: i8,
    pub(crate) name: String,
    pub(crate) keys: Option<Vec<String>>,
}

/// The kind of a topic, and of the server.
pub(crate) const KIND_TOPIC: i8 = 2;
pub(crate) const KIND_BROKER: i8 = 4;

pub(crate) fn read_configs(
    from: &mut Reader<'_>,
    version: i16,
) -> Result<Vec<ConfigsAsked>, Malformed> {
    let asked = from.list(|from| {
        Ok(ConfigsAsked {
            kind: from.i8()?,
            name: from.string()?,
            keys: from.nullable_list(Reader::string)?,
        })
    })?;
    from.bool()?;
    if version >= 3 {
        from.bool()?;
    }
    Ok(asked)
}

/// Settings of a topic.
#[derive(Debug)]
pub(crate) struct Configs {
    pub(crate) code: i16,
    pub(crate) why: Option<String>,
    pub(crate) kind: i8,
    pub(crate) name: String,
    pub(crate) settings: Vec<(&'static str, String)>,
}

pub(crate) fn write_configs(into: &mut Writer, version: i16, configs: &[Configs]) {
    into.i32(0);
    into.list(configs, |into, of| {
        into.i16(of.code);
        into.nullable_string(of.why.as_deref());
        into.i8(of.kind);
        into.string(&of.name);
        into.list(&of.settings, |into, (key, value)| {
            into.string(key);
            into.string(value);
            into.bool(true);
            // From the server's own file.
            into.i8(4);
            into.bool(false);
            into.list(&[] as &[()], |_, ()| {});
            if version >= 3 {
                // What kind of value it is, and what is written about it.
                into.i8(0);
                into.nullable_string(None);
            }
        });
    });
}

/// What is to be written, of which only the names matter: it is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Produce {
    pub(crate) acks: i16,
    pub(crate) topics: Topics<i32>,
}

impl Produce {
    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.nullable_string()?;
        let acks = from.i16()?;
        from.i32()?;
        let topics = read_topics(from, |from| {
            let number = from.i32()?;
            from.nullable_bytes()?;
            Ok(number)
        })?;
        Ok(Self { acks, topics })
    }

    /// The refusal.
    pub(crate) fn refuse(&self, into: &mut Writer, version: i16, code: i16, why: &str) {
        write_topics(into, &self.topics, |into, number| {
            into.i32(*number);
            into.i16(code);
            into.i64(-1);
            into.i64(-1);
            if version >= 5 {
                into.i64(-1);
            }
            if version >= 8 {
                into.list(&[] as &[()], |_, ()| {});
                into.string(why);
            }
        });
        into.i32(0);
    }
}

/// The answer to InitProducerId: an id, so that a producer goes on to what tells it why it may not write.
pub(crate) fn write_producer_id(into: &mut Writer) {
    into.i32(0);
    into.i16(super::code::NONE);
    into.i64(0);
    into.i16(0);
}

/// The one server.
pub(crate) const NODE: i32 = 0;
/// What somebody may do is not told.
const OPERATIONS_UNKNOWN: i32 = i32::MIN;
