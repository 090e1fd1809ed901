//! What is said about topics, and what stands in them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sedge_core::Micros;
use tokio::time::Instant;

use super::connection::Broken;
use super::visit::{Known, Visit};
use crate::client::decode;
use crate::hub::partition::{Part, Partition};
use crate::hub::reading::{NotRead, Wanted};
use crate::kafka::batch::Batches;
use crate::kafka::code;
use crate::kafka::octets::{Reader, Writer};
use crate::kafka::streams::{
    self, Configs, EARLIEST, EpochAsked, EpochEnd, Fetch, FetchAsked, Fetched, LATEST, Metadata,
    OffsetAsked, OffsetListed, PartitionFetched, Topic, Topics,
};
use crate::wire::Want;

impl Visit {
    /// The partition with this number, or why there is none for this reader.
    pub(super) fn partition(&self, topic: &str, number: i32) -> Result<Arc<Partition>, i16> {
        let may = self
            .reader
            .as_ref()
            .map(|known| known.reading.may_read(topic));
        if may.is_none_or(|may| may.is_err()) {
            return Err(code::TOPIC_AUTHORIZATION_FAILED);
        }
        let number = u32::try_from(number).ok();
        let found = number.and_then(|number| self.shared.registry.partition(topic, number));
        found.ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)
    }

    /// Who reads. It is known before anything but its name is asked for.
    pub(super) fn known(&self) -> Result<&Known, Broken> {
        self.reader.as_ref().ok_or(Broken::NotKnown)
    }

    pub(super) fn metadata(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let asked = streams::read_metadata(from, version)?;
        let reading = &self.known()?.reading;
        let names = asked.map(once).unwrap_or_else(|| {
            let all = reading.partitions(None);
            let streams = all.chunk_by(|one, next| one.stream == next.stream);
            streams.map(|of| of[0].stream.to_string()).collect()
        });
        let topic = |name: String| {
            let there = reading.partitions(Some(&name));
            let shown = |p: &Arc<Partition>| (number(p), epoch(p.epoch()));
            Topic {
                code: match there.is_empty() {
                    false => code::NONE,
                    true if reading.may_read(&name).is_err() => code::TOPIC_AUTHORIZATION_FAILED,
                    true => code::UNKNOWN_TOPIC_OR_PARTITION,
                },
                partitions: there.iter().map(shown).collect(),
                name,
            }
        };
        let topics = names.into_iter().map(topic).collect();
        let metadata = Metadata {
            host: self.here.host.clone(),
            port: self.here.port,
            cluster: CLUSTER.to_owned(),
            topics,
        };
        metadata.write(into, version);
        Ok(())
    }

    pub(super) async fn list_offsets(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let asked = streams::read_list_offsets(from, version)?;
        let mut listed: Topics<OffsetListed> = Vec::with_capacity(asked.len());
        for (topic, partitions) in asked {
            let mut of_topic = Vec::with_capacity(partitions.len());
            for asked in partitions {
                of_topic.push(self.offset_listed(&topic, &asked).await?);
            }
            listed.push((topic, of_topic));
        }
        streams::write_list_offsets(into, version, &listed);
        Ok(())
    }

    async fn offset_listed(
        &self,
        topic: &str,
        asked: &OffsetAsked,
    ) -> Result<OffsetListed, Broken> {
        let known = self.known()?;
        let none = OffsetListed {
            number: asked.number,
            code: code::NONE,
            time: -1,
            offset: -1,
            epoch: -1,
        };
        let failed = |code| OffsetListed { code, ..none };
        let partition = match self.partition(topic, asked.number) {
            Ok(partition) => partition,
            Err(code) => return Ok(failed(code)),
        };
        let described = partition.describe();
        if is_fenced(asked.epoch, described.epoch) {
            return Ok(failed(code::FENCED_LEADER_EPOCH));
        }
        let (offset, time) = match asked.time {
            LATEST => (described.end, -1),
            EARLIEST => (described.earliest.min(described.end), -1),
            time if time < 0 => return Ok(failed(code::INVALID_REQUEST)),
            time => {
                let micros = Micros::new(time.saturating_mul(1_000));
                let numbers = [partition.number];
                let found = known.reading.offsets_for_time(topic, &numbers, micros);
                // What passes a backlog is read behind it.
                let first = match found.await {
                    Ok(places) => places.first().map(|place| place.next),
                    Err(why) => return Ok(failed(code_of(&why))),
                };
                match first.filter(|at| *at < described.end) {
                    Some(at) => (at, time),
                    None => return Ok(none),
                }
            }
        };
        Ok(OffsetListed {
            time,
            offset: signed(offset),
            epoch: epoch(partition.epoch_at(offset)),
            ..none
        })
    }

    pub(super) async fn fetch(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let asked = Fetch::read(from, version)?;
        if asked.session != 0 || asked.session_epoch > 0 {
            // Each fetch says all that it wants: nothing is kept between two.
            let none = Fetched {
                code: code::FETCH_SESSION_ID_NOT_FOUND,
                topics: Vec::new(),
            };
            none.write(into, version);
            return Ok(());
        }
        let known = self.known()?;
        let mut wanted: Vec<Wanted> = Vec::new();
        // Where in the answer each want stands.
        let mut places = Vec::new();
        let mut topics: Topics<PartitionFetched> = Vec::with_capacity(asked.topics.len());
        let mut fails = false;
        let mut part_bytes_max = 0;
        for (topic, partitions) in asked.topics {
            let mut fetched = Vec::with_capacity(partitions.len());
            for asked in partitions {
                let found = self
                    .partition(&topic, asked.number)
                    .and_then(|partition| want(&partition, &asked).map(|want| (partition, want)));
                let mut this = PartitionFetched {
                    number: asked.number,
                    code: code::NONE,
                    earliest: -1,
                    end: -1,
                    records: Vec::new(),
                };
                match found {
                    Ok((partition, want)) => {
                        part_bytes_max = part_bytes_max.max(asked.bytes_max);
                        places.push((topics.len(), fetched.len()));
                        wanted.push((partition, want));
                    }
                    Err(code) => (this.code, fails) = (code, true),
                }
                fetched.push(this);
            }
            topics.push((topic, fetched));
        }
        let wait = Duration::from_millis(u64::try_from(asked.wait_ms).unwrap_or(0));
        let deadline = match fails {
            true => Instant::now(),
            false => Instant::now() + wait.min(FETCH_WAIT_MAX),
        };
        let at_most = |bytes: i32| {
            usize::try_from(bytes)
                .unwrap_or(0)
                .clamp(1, FETCH_BYTES_MAX)
        };
        let (bytes_max, part_bytes_max) = (at_most(asked.bytes_max), at_most(part_bytes_max));
        let wanted = Arc::new(wanted);
        let parts = known
            .reading
            .fetch_all(&wanted, bytes_max, part_bytes_max, deadline);
        match parts.await {
            Ok(parts) => {
                for (at, part) in parts {
                    let (topic, place) = places[at];
                    topics[topic].1[place].records = self.batches(&part, wanted[at].1.from);
                }
            }
            // Its consumer waits, as for what has yet to come.
            Err(NotRead::Unread) => {}
            Err(why) => {
                for (topic, place) in &places {
                    topics[*topic].1[*place].code = code_of(&why);
                }
            }
        }
        for ((topic, place), (partition, want)) in places.iter().zip(&*wanted) {
            let described = partition.describe();
            let this = &mut topics[*topic].1[*place];
            let end = described.end.max(readable_end(&described, want.from));
            (this.earliest, this.end) = (signed(described.earliest), signed(end));
        }
        let fetched = Fetched {
            code: code::NONE,
            topics,
        };
        fetched.write(into, version);
        Ok(())
    }

    fn batches(&self, part: &Part, from: u64) -> Vec<u8> {
        let room = part.frames.len() + part.frames.len() / 8;
        let mut batches = Batches::new(part.head.epoch, self.options.shows_gaps, room);
        decode::walk(&part.head, &part.frames, from, &mut batches);
        batches.up_to(part.head.next)
    }

    pub(super) fn epochs(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let asked = streams::read_epochs(from, version)?;
        let end = |topic: &str, asked: &EpochAsked| {
            let none = EpochEnd {
                code: code::NONE,
                number: asked.number,
                epoch: -1,
                end: -1,
            };
            let partition = match self.partition(topic, asked.number) {
                Ok(partition) => partition,
                Err(code) => return EpochEnd { code, ..none },
            };
            if is_fenced(asked.current, partition.epoch()) {
                let code = code::FENCED_LEADER_EPOCH;
                return EpochEnd { code, ..none };
            }
            let wanted = u32::try_from(asked.epoch).ok();
            match wanted.and_then(|wanted| partition.end_of_epoch(wanted)) {
                Some((of, end)) => EpochEnd {
                    epoch: epoch(of),
                    end: signed(end),
                    ..none
                },
                None => none,
            }
        };
        let ends: Topics<EpochEnd> = asked
            .into_iter()
            .map(|(topic, asked)| {
                let ends = asked.iter().map(|asked| end(&topic, asked)).collect();
                (topic, ends)
            })
            .collect();
        streams::write_epochs(into, &ends);
        Ok(())
    }

    pub(super) fn configs(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let asked = streams::read_configs(from, version)?;
        let reading = &self.known()?.reading;
        let configs = |asked: streams::ConfigsAsked| {
            let (mut code, mut why, mut settings) = (code::NONE, None, Vec::new());
            match asked.kind {
                streams::KIND_TOPIC if !reading.partitions(Some(&asked.name)).is_empty() => {
                    settings = TOPIC_SETTINGS
                        .iter()
                        .filter(|(key, _)| {
                            let keys = asked.keys.as_ref();
                            keys.is_none_or(|keys| keys.iter().any(|asked| asked == key))
                        })
                        .map(|(key, value)| (*key, (*value).to_owned()))
                        .collect();
                }
                streams::KIND_TOPIC => {
                    code = code::UNKNOWN_TOPIC_OR_PARTITION;
                    why = Some(format!("there is no topic {}", asked.name));
                }
                streams::KIND_BROKER => {}
                _ => {
                    code = code::INVALID_REQUEST;
                    why = Some("settings of topics and of the server are told".to_owned());
                }
            }
            Configs {
                code,
                why,
                kind: asked.kind,
                name: asked.name,
                settings,
            }
        };
        let configs: Vec<Configs> = asked.into_iter().map(configs).collect();
        streams::write_configs(into, version, &configs);
        Ok(())
    }
}

/// What is asked for of a partition that is there.
fn want(partition: &Partition, asked: &FetchAsked) -> Result<Want, i16> {
    if is_fenced(asked.epoch, partition.epoch()) {
        return Err(code::FENCED_LEADER_EPOCH);
    }
    // Beyond the end one waits: a hub that was put back to an older copy catches up, and a reset would skip or repeat.
    let from = u64::try_from(asked.offset).map_err(|_| code::OFFSET_OUT_OF_RANGE)?;
    Ok(Want {
        number: partition.number,
        from,
        epoch: None,
    })
}

/// A log has joined since the client asked for metadata: it is to look whether its place still stands. One that knows a later epoch has seen a hub that was put back since,
/// whose logs come again.
fn is_fenced(known: i32, epoch: u32) -> bool {
    u32::try_from(known).is_ok_and(|known| known < epoch)
}

/// The end of the run that `offset` stands in.
fn readable_end(described: &crate::wire::Partition, offset: u64) -> u64 {
    let within = |run: &&crate::wire::Run| (run.first..run.end).contains(&offset);
    described.ahead.iter().find(within).map_or(0, |run| run.end)
}

fn code_of(why: &NotRead) -> i16 {
    match why {
        NotRead::NotAllowed => code::TOPIC_AUTHORIZATION_FAILED,
        NotRead::Unknown { .. } => code::UNKNOWN_TOPIC_OR_PARTITION,
        NotRead::Unread | NotRead::Internal(_) => code::KAFKA_STORAGE_ERROR,
    }
}

pub(super) fn number(partition: &Partition) -> i32 {
    i32::try_from(partition.number).unwrap_or(i32::MAX)
}

pub(super) fn signed(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}

fn epoch(epoch: u32) -> i32 {
    i32::try_from(epoch).unwrap_or(i32::MAX)
}

const CLUSTER: &str = "sedge";
/// What tools that copy topics ask for.
const TOPIC_SETTINGS: [(&str, &str); 3] = [
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("message.timestamp.type", "CreateTime"),
];
const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);
/// Of frames, in one answer.
const FETCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Each of them once: what is named a hundred thousand times in one request is answered once.
pub(super) fn once<T: Ord + Clone>(mut named: Vec<T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    named.retain(|it| seen.insert(it.clone()));
    named
}

#[cfg(test)]
mod tests {
    use super::once;

    #[test]
    fn what_is_named_again_is_answered_once() {
        let named = ["b", "a", "b", "a", "c"];
        assert_eq!(once(named.to_vec()), ["b", "a", "c"]);
    }
}
