//! What is said to groups and their members.

use std::time::Duration;

use bytes::Bytes;

use super::connection::Broken;
use super::coordinator::{self, Answer, Caller, Code, Leaving};
use super::streams::{once, signed};
use super::visit::Visit;
use crate::hub::catalog::Kept;
use crate::hub::groups::{GroupError, MEMBERS, is_name};
use crate::kafka::code;
use crate::kafka::groups::{
    self as wire, Commit, GroupShown, Join, Joined, Member, MemberOf, MemberShown, PlaceFetched,
    Sync,
};
use crate::kafka::octets::{Reader, Writer};
use crate::kafka::streams::Topics;
use crate::wire::Place;

impl Visit {
    pub(super) fn find_coordinator(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        from.string()?;
        wire::write_coordinator(into, version, &self.here.host, self.here.port);
        Ok(())
    }

    /// Whether it may see and change `group`: over Kafka's protocol a group is one over all its streams, so it has to be able to read each in which the group has a place.
    async fn may_use(&self, group: &str) -> Result<(), i16> {
        let Some(known) = &self.reader else {
            return Err(code::GROUP_AUTHORIZATION_FAILED);
        };
        if known.reading.may_read_all() {
            return Ok(());
        }
        let kept = self.shared.groups.kept(group).await;
        let kept = kept.map_err(|why| code_of_failure(group, &why))?;
        let is_readable = |of: &Kept| known.reading.may_read(&of.stream).is_ok();
        match kept.iter().all(is_readable) {
            true => Ok(()),
            false => Err(code::GROUP_AUTHORIZATION_FAILED),
        }
    }

    pub(super) async fn join(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
        client: Option<String>,
    ) -> Result<(), Broken> {
        let join = Join::read(from, version)?;
        let groups = &self.shared.groups;
        let answer = if !is_name(&join.group) {
            Err(code::INVALID_GROUP_ID)
        } else if let Err(code) = self.may_use(&join.group).await {
            Err(code)
        } else if let Some(holder) = groups.holder(&join.group).await {
            tracing::info!(
                group = join.group,
                holder,
                "a member over Kafka's protocol waits"
            );
            Err(code::COORDINATOR_NOT_AVAILABLE)
        } else {
            let millis = |ms: i32| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            let protocols = join.protocols.into_iter();
            let asked = coordinator::Join {
                member: join.member.id,
                instance: join.member.instance,
                client: client.unwrap_or_default(),
                host: format!("/{}", self.host),
                session: millis(join.session_ms),
                rebalance: millis(join.rebalance_ms),
                protocol_type: join.protocol_type,
                protocols: protocols
                    .map(|(name, of)| (name, Bytes::from(of)))
                    .collect(),
                asks_for_id: version >= 4,
            };
            Ok(groups.members().join(&join.group, asked).await)
        };
        let none = Joined {
            code: code::NONE,
            generation: -1,
            protocol: "",
            leader: "",
            member: "",
            members: Vec::new(),
        };
        match &answer {
            Ok(Answer::Joined(joined)) => {
                let members = joined.members.iter();
                let members =
                    members.map(|(id, instance, of)| (id.as_str(), instance.as_deref(), &of[..]));
                let joined = Joined {
                    code: code::NONE,
                    generation: joined.generation,
                    protocol: &joined.protocol,
                    leader: &joined.leader,
                    member: &joined.member,
                    members: members.collect(),
                };
                joined.write(into, version);
            }
            Ok(Answer::Refused(code, member)) => {
                let code = *code as i16;
                Joined {
                    code,
                    member,
                    ..none
                }
                .write(into, version);
            }
            Ok(Answer::Synced { .. }) => {
                let code = code::UNKNOWN_SERVER_ERROR;
                Joined { code, ..none }.write(into, version);
            }
            Err(code) => Joined {
                code: *code,
                ..none
            }
            .write(into, version),
        }
        Ok(())
    }

    pub(super) async fn sync(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let Sync { of, assignments } = Sync::read(from, version)?;
        let assignments = assignments.into_iter();
        let asked = coordinator::Sync {
            member: of.member.id,
            instance: of.member.instance,
            generation: of.generation,
            protocol_type: None,
            protocol: None,
            assignments: assignments
                .map(|(id, part)| (id, Bytes::from(part)))
                .collect(),
        };
        match self.shared.groups.members().sync(&of.group, asked).await {
            Answer::Synced { assignment } => {
                wire::write_synced(into, version, code::NONE, &assignment);
            }
            Answer::Refused(code, _) => wire::write_synced(into, version, code as i16, &[]),
            Answer::Joined(_) => {
                wire::write_synced(into, version, code::UNKNOWN_SERVER_ERROR, &[]);
            }
        }
        Ok(())
    }

    pub(super) fn heartbeat(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let of = MemberOf::read_heartbeat(from, version)?;
        let (group, caller) = caller(of);
        let heard = self.shared.groups.members().heartbeat(&group, &caller);
        wire::write_code(into, version, code_of(heard));
        Ok(())
    }

    pub(super) async fn leave(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let (group, members) = wire::read_leave(from, version)?;
        let may = self.may_use(&group).await;
        let leave = |member: Member| {
            if let Err(code) = may {
                return (member, code);
            }
            let leaving = Leaving {
                member: member.id.clone(),
                instance: member.instance.clone(),
            };
            let left = self.shared.groups.members().leave(&group, &leaving);
            (member, code_of(left))
        };
        let left: Vec<_> = members.into_iter().map(leave).collect();
        wire::write_left(into, version, &left);
        Ok(())
    }

    pub(super) async fn commit(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let Commit { of, topics } = Commit::read(from, version)?;
        let (group, caller) = caller(of);
        let groups = &self.shared.groups;
        let mut kept = Vec::new();
        let mut codes: Topics<(i32, i16)> = Vec::with_capacity(topics.len());
        let may = match (is_name(&group), self.may_use(&group).await) {
            (false, _) => code::INVALID_GROUP_ID,
            (true, Err(code)) => code,
            (true, Ok(())) => code_of(groups.members().may_commit(&group, &caller)),
        };
        for (topic, places) in topics {
            let mut of_topic = Vec::with_capacity(places.len());
            for place in places {
                let checked = match may {
                    code::NONE => self.checked(&topic, &place),
                    code => Err(code),
                };
                of_topic.push((place.number, checked.as_ref().err().copied().unwrap_or(0)));
                kept.extend(checked.ok());
            }
            codes.push((topic, of_topic));
        }
        if !kept.is_empty() {
            let by = match groups.members().are_in(&group) {
                true => MEMBERS,
                false => self.shared.next_connection(),
            };
            if let Err(why) = groups.keep(&group, by, kept).await {
                let failed = code_of_failure(&group, &why);
                let all = codes.iter_mut().flat_map(|(_, codes)| codes);
                all.filter(|(_, code)| *code == code::NONE)
                    .for_each(|(_, code)| *code = failed);
            }
        }
        wire::write_committed(into, version, &codes);
        Ok(())
    }

    fn checked(&self, topic: &str, place: &wire::CommitPlace) -> Result<Kept, i16> {
        let partition = self.partition(topic, place.number)?;
        let note = place.note.clone().unwrap_or_default();
        if note.len() > NOTE_BYTES_MAX {
            return Err(code::OFFSET_METADATA_TOO_LARGE);
        }
        Ok(Kept {
            stream: topic.to_owned(),
            place: Place {
                number: partition.number,
                first: 0,
                next: u64::try_from(place.offset).map_err(|_| code::INVALID_REQUEST)?,
            },
            epoch: place.epoch,
            note,
        })
    }

    pub(super) async fn offset_fetch(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let (group, asked) = wire::read_offset_fetch(from, version)?;
        let reading = &self.known()?.reading;
        let kept = match self.shared.groups.kept(&group).await {
            Ok(kept) => kept,
            Err(why) => {
                let failed = code_of_failure(&group, &why);
                let none = |number: &i32| PlaceFetched::none(*number, failed);
                let topics = asked.unwrap_or_default().into_iter();
                let topics = topics
                    .map(|(topic, numbers)| (topic, numbers.iter().map(none).collect()))
                    .collect();
                wire::write_offset_fetch(into, version, &topics, failed);
                return Ok(());
            }
        };
        // Further runs, which were read before a backlog behind which they stand, are for those who read by runs.
        let whole = |of: &&Kept| of.place.first == 0 && reading.may_read(&of.stream).is_ok();
        let place = |of: &Kept| PlaceFetched {
            number: i32::try_from(of.place.number).unwrap_or(i32::MAX),
            offset: signed(of.place.next),
            epoch: of.epoch,
            note: of.note.clone(),
            code: code::NONE,
        };
        let fetched: Vec<(String, PlaceFetched)> = match asked {
            Some(asked) => {
                let find = |(topic, number): (String, i32)| {
                    let mut here = kept.iter().filter(whole);
                    let number_of = u32::try_from(number).ok();
                    let found =
                        here.find(|of| of.stream == topic && Some(of.place.number) == number_of);
                    let none = || PlaceFetched::none(number, code::NONE);
                    (topic, found.map_or_else(none, place))
                };
                let one_by_one = asked.into_iter().flat_map(|(topic, numbers)| {
                    let of_topic = numbers.into_iter();
                    of_topic.map(move |number| (topic.clone(), number))
                });
                let named = once(one_by_one.collect());
                named.into_iter().map(find).collect()
            }
            // They come in the order of their streams.
            None => {
                let shown = kept.iter().filter(whole);
                shown.map(|of| (of.stream.clone(), place(of))).collect()
            }
        };
        let mut topics: Topics<PlaceFetched> = Vec::new();
        for (topic, place) in fetched {
            match topics.last_mut().filter(|(last, _)| *last == topic) {
                Some((_, places)) => places.push(place),
                None => topics.push((topic, vec![place])),
            }
        }
        wire::write_offset_fetch(into, version, &topics, code::NONE);
        Ok(())
    }

    pub(super) async fn describe_groups(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
        version: i16,
    ) -> Result<(), Broken> {
        let asked = wire::read_describe(from, version)?;
        let names = self.shared.groups.names().await;
        let names = names.unwrap_or_default();
        let shown = |(name, may): (String, Result<(), i16>)| {
            if let Err(code) = may {
                return GroupShown {
                    code,
                    name,
                    ..GroupShown::default()
                };
            }
            let Some(group) = self.shared.groups.members().describe(&name) else {
                let state = match names.contains(&name) {
                    true => "Empty",
                    false => "Dead",
                };
                return GroupShown {
                    name,
                    state: state.to_owned(),
                    ..GroupShown::default()
                };
            };
            let members = group.members.into_iter().map(|member| MemberShown {
                id: member.member,
                instance: member.instance,
                client: member.client,
                host: member.host,
                metadata: member.metadata.to_vec(),
                assignment: member.assignment.to_vec(),
            });
            GroupShown {
                code: code::NONE,
                name,
                state: group.state.to_string(),
                protocol_type: group.protocol_type,
                protocol: group.protocol,
                members: members.collect(),
            }
        };
        let mut allowed = Vec::new();
        for name in once(asked) {
            let may = self.may_use(&name).await;
            allowed.push((name, may));
        }
        let shown: Vec<GroupShown> = allowed.into_iter().map(shown).collect();
        wire::write_described(into, version, &shown);
        Ok(())
    }

    pub(super) async fn list_groups(&self, into: &mut Writer, version: i16) -> Result<(), Broken> {
        let reading = &self.known()?.reading;
        let mut groups = self.shared.groups.members().names();
        let kept = self.shared.groups.streams().await.unwrap_or_default();
        for of_group in kept.chunk_by(|one, next| one.0 == next.0) {
            let name = &of_group[0].0;
            let mut streams = of_group.iter().map(|(_, stream)| stream);
            let is_readable = streams.all(|stream| reading.may_read(stream).is_ok());
            let is_live = groups.iter().any(|(known, _)| known == name);
            match (is_readable, is_live) {
                (true, false) => groups.push((name.clone(), CONSUMERS.to_owned())),
                (true, true) => {}
                (false, _) => groups.retain(|(known, _)| known != name),
            }
        }
        wire::write_groups(into, version, &groups);
        Ok(())
    }

    pub(super) async fn delete_groups(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
    ) -> Result<(), Broken> {
        let mut deleted = Vec::new();
        for name in from.list(Reader::string)? {
            let forgotten = match (
                self.may_use(&name).await,
                self.shared.groups.members().are_in(&name),
            ) {
                (Err(code), _) => code,
                (Ok(()), true) => code::NON_EMPTY_GROUP,
                (Ok(()), false) => match self.shared.groups.forget(&name, None).await {
                    Ok(true) => code::NONE,
                    Ok(false) => code::GROUP_ID_NOT_FOUND,
                    Err(GroupError::Held { .. }) => code::NON_EMPTY_GROUP,
                    Err(why) => code_of_failure(&name, &why),
                },
            };
            deleted.push((name, forgotten));
        }
        wire::write_groups_deleted(into, &deleted);
        Ok(())
    }

    pub(super) async fn delete_offsets(
        &self,
        from: &mut Reader<'_>,
        into: &mut Writer,
    ) -> Result<(), Broken> {
        let (group, asked) = wire::read_offset_delete(from)?;
        let live = self.shared.groups.members().are_in(&group);
        let mut deleted: Topics<(i32, i16)> = Vec::with_capacity(asked.len());
        for (topic, numbers) in asked {
            let mut of_topic = Vec::with_capacity(numbers.len());
            for number in numbers {
                let forgotten = match (live, self.partition(&topic, number)) {
                    (true, _) => code::NON_EMPTY_GROUP,
                    (_, Err(code)) => code,
                    (_, Ok(partition)) => {
                        let of = Some((topic.clone(), partition.number));
                        match self.shared.groups.forget(&group, of).await {
                            Ok(_) => code::NONE,
                            Err(GroupError::Held { .. }) => code::NON_EMPTY_GROUP,
                            Err(why) => code_of_failure(&group, &why),
                        }
                    }
                };
                of_topic.push((number, forgotten));
            }
            deleted.push((topic, of_topic));
        }
        let whole = if live {
            code::NON_EMPTY_GROUP
        } else {
            code::NONE
        };
        wire::write_offsets_deleted(into, whole, &deleted);
        Ok(())
    }
}

impl PlaceFetched {
    fn none(number: i32, code: i16) -> Self {
        Self {
            number,
            offset: -1,
            epoch: -1,
            note: String::new(),
            code,
        }
    }
}

fn caller(of: MemberOf) -> (String, Caller) {
    let caller = Caller {
        member: of.member.id,
        instance: of.member.instance,
        generation: of.generation,
    };
    (of.group, caller)
}

fn code_of(told: Result<(), Code>) -> i16 {
    told.map_or_else(|code| code as i16, |()| code::NONE)
}

fn code_of_failure(group: &str, why: &GroupError) -> i16 {
    match why {
        // It is tried again, and goes as soon as the other one has left.
        GroupError::Held { .. } => code::COORDINATOR_NOT_AVAILABLE,
        GroupError::TooMany => code::INVALID_GROUP_ID,
        why => {
            tracing::warn!(group, error = %why, "offsets cannot be kept");
            code::COORDINATOR_NOT_AVAILABLE
        }
    }
}

/// As Kafka's offset.metadata.max.bytes.
const NOTE_BYTES_MAX: usize = 4096;
const CONSUMERS: &str = "consumer";
