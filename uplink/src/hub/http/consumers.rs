//! Where groups have come to: seen, moved and forgotten. The same places as those of `sedge pull --group` and of members over Kafka's protocol.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sedge_core::Micros;
use serde_json::{Value, json};

use super::body::{Asked, Word};
use super::query::From;
use super::records::{end_of, last_of};
use super::{At, Refusal, Visitor, body, cursor};
use crate::client::Start;
use crate::client::positions::stand;
use crate::hub::catalog::{Kept, Revision};
use crate::hub::groups::{GroupError, GroupName, is_name};
use crate::wire::{self, NAME_BYTES_MAX, Place};

pub(super) async fn list(visitor: Visitor) -> Result<Response, Refusal> {
    let mut all = visitor.site.hub()?.groups.streams().await?;
    all.retain(|(_, stream)| visitor.reading.may_read(stream).is_ok());
    let shown = |of: &[(String, String)]| {
        let streams: Vec<&str> = of.iter().map(|(_, stream)| stream.as_str()).collect();
        json!({ "consumer": of[0].0, "streams": streams })
    };
    let consumers: Vec<Value> = all
        .chunk_by(|one, next| one.0 == next.0)
        .map(shown)
        .collect();
    visitor.page(&json!({ "consumers": consumers })).await
}

pub(super) async fn offsets(visitor: Visitor, At(group): At<String>) -> Result<Response, Refusal> {
    let kept = visitor.kept_of(&group).await?;
    match kept.is_empty() {
        true => Err(nothing_of(&group)),
        false => visitor.shown(&group, &kept).await,
    }
}

/// Moves a group.
pub(super) async fn put(
    visitor: Visitor,
    At(group): At<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    named(&group)?;
    let only_if = Condition::of(&headers)?;
    let text = body::whole(body, BODY_BYTES_MAX, BODY_PATIENCE).await?;
    let mut revision = Revision::default();
    for (stream, asked) in body::read(&text)? {
        visitor.revise(&stream, &asked, &mut revision).await?;
    }
    let now = visitor.done(&group, revision, only_if).await?;
    visitor.shown(&group, &now).await
}

pub(super) async fn forget_all(
    visitor: Visitor,
    At(group): At<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    visitor.forget(&group, None, &headers).await
}

pub(super) async fn forget_stream(
    visitor: Visitor,
    At((group, stream)): At<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    visitor
        .forget(&group, Some((&stream, None)), &headers)
        .await
}

pub(super) async fn forget_partition(
    visitor: Visitor,
    At((group, stream, number)): At<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    // It may be of a partition that is no more.
    let number = number.parse().map_err(|_| {
        let what = format!("{number:?} is no number of a partition");
        Refusal::new(StatusCode::NOT_FOUND, what)
    })?;
    let of = Some((stream.as_str(), Some(number)));
    visitor.forget(&group, of, &headers).await
}

impl Visitor {
    /// The places of `group` in `stream`.
    pub(super) async fn places_of(&self, group: &str, stream: &str) -> Result<Vec<Place>, Refusal> {
        let kept = self.kept_of(group).await?.into_iter();
        let here = kept.filter(|of| of.stream == stream);
        Ok(here.map(|of| of.place).collect())
    }

    /// Where a reader of one partition alone goes on for `group`, as Kafka's do: in its first run.
    pub(super) async fn place_of(
        &self,
        group: &str,
        partition: &wire::Partition,
    ) -> Result<From, Refusal> {
        let places = self.places_of(group, &partition.stream).await?;
        let mut here = places.iter().filter(|at| at.number == partition.number);
        let place = here.find(|at| at.first == 0);
        let start = place.map_or(Start::Earliest, |at| Start::Offset(at.next));
        Ok(From::Start(start))
    }

    /// The places of `group` that this visitor may see.
    async fn kept_of(&self, group: &str) -> Result<Vec<Kept>, Refusal> {
        named(group)?;
        let mut kept = self.site.hub()?.groups.kept(group).await?;
        kept.retain(|of| self.reading.may_read(&of.stream).is_ok());
        Ok(kept)
    }

    /// Adds to `revision` what is asked for `stream`: each partition that is named loses the places it had.
    async fn revise(
        &self,
        stream: &str,
        asked: &Asked,
        revision: &mut Revision,
    ) -> Result<(), Refusal> {
        let within = |refusal: Refusal| Refusal {
            what: format!("{stream}: {}", refusal.what),
            ..refusal
        };
        let listed = self.partitions_of(stream).map_err(within)?;
        let mut places = Vec::new();
        match asked {
            Asked::Cursor(word) => {
                (places, _) = cursor::read(stream, word, &listed).map_err(within)?;
            }
            Asked::All(word) => {
                for partition in &listed {
                    places.extend(self.places_for(partition, *word).await?);
                }
            }
            Asked::Each(each) => {
                for (number, word) in each {
                    let at = listed.binary_search_by_key(number, |p| p.number);
                    let at = at.map_err(|_| {
                        let what = format!("{stream}.{number}: no such partition");
                        Refusal::new(StatusCode::NOT_FOUND, what)
                    })?;
                    places.extend(self.places_for(&listed[at], *word).await?);
                }
            }
        }
        places.sort_unstable_by_key(|at| (at.number, at.first));
        let mut numbers: Vec<u32> = places.iter().map(|at| at.number).collect();
        numbers.dedup();
        let forgotten = numbers.into_iter().map(|n| (stream.to_owned(), Some(n)));
        revision.forgotten.extend(forgotten);
        let kept = places.into_iter().map(|place| Kept {
            stream: stream.to_owned(),
            place,
            epoch: -1,
            note: String::new(),
        });
        revision.kept.extend(kept);
        Ok(())
    }

    /// What `word` means in `partition`.
    async fn places_for(
        &self,
        partition: &wire::Partition,
        word: Word,
    ) -> Result<Vec<Place>, Refusal> {
        let number = partition.number;
        let next = match word {
            // What is gone is not to be read any more, what is only on its way to the hub is.
            From::Start(Start::Earliest) => partition.earliest.min(partition.end),
            From::Start(Start::Latest) => end_of(partition),
            From::Start(Start::Offset(offset)) => offset,
            From::Last(count) => last_of(partition, count),
            From::Start(Start::Time(time)) => {
                let (stream, numbers) = (&partition.stream, [number]);
                let found = self
                    .reading
                    .offsets_for_time(stream, &numbers, Micros::new(time));
                return Ok(found.await?);
            }
        };
        Ok(vec![Place {
            number,
            first: 0,
            next,
        }])
    }

    async fn forget(
        &self,
        group: &str,
        of: Option<(&str, Option<u32>)>,
        headers: &HeaderMap,
    ) -> Result<Response, Refusal> {
        let only_if = Condition::of(headers)?;
        if let Some((stream, _)) = of {
            self.reading.may_read(stream)?;
        }
        let concerned = |kept: &Kept| {
            of.is_none_or(|(stream, number)| {
                kept.stream == stream && number.is_none_or(|number| number == kept.place.number)
            })
        };
        let mut kept = self.kept_of(group).await?;
        kept.retain(concerned);
        if kept.is_empty() {
            return Err(nothing_of(group));
        }
        let number = of.and_then(|(_, number)| number);
        kept.dedup_by(|one, other| one.stream == other.stream);
        let forgotten = kept.into_iter().map(|of| (of.stream, number));
        let revision = Revision {
            forgotten: forgotten.collect(),
            ..Revision::default()
        };
        self.done(group, revision, only_if).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    /// Does it, for one who comes and goes: its places now, of the streams that this visitor may see.
    async fn done(
        &self,
        group: &str,
        revision: Revision,
        only_if: Condition,
    ) -> Result<Vec<Kept>, Refusal> {
        let by = self.site.hub()?.next_connection();
        let reading = self.reading.clone();
        let holds = move |kept: &[Kept]| {
            let mut kept = kept.to_vec();
            kept.retain(|of| reading.may_read(&of.stream).is_ok());
            only_if.holds(&kept)
        };
        let groups = &self.site.hub()?.groups;
        let revised = groups.revise(group, by, revision, Some(holds));
        let mut after = revised.await.map_err(|why| match why {
            GroupError::Held { holder } => Refusal::new(
                StatusCode::CONFLICT,
                format!("{group} is held by {holder}: it can be moved when that one has left"),
            ),
            why => why.into(),
        })?;
        after.retain(|of| self.reading.may_read(&of.stream).is_ok());
        Ok(after)
    }

    /// The page of a group whose places are `kept`.
    async fn shown(&self, group: &str, kept: &[Kept]) -> Result<Response, Refusal> {
        let mut streams = Vec::new();
        for of in kept.chunk_by(|one, next| one.stream == next.stream) {
            let stream = &of[0].stream;
            let partitions = self.reading.partitions(Some(stream));
            let listed: Vec<_> = partitions.iter().map(|p| p.describe()).collect();
            let places: Vec<Place> = of.iter().map(|of| of.place).collect();
            let partitions: Vec<Value> = listed.iter().map(|p| partition(p, &places)).collect();
            let name = GroupName {
                group: group.to_owned(),
                stream: stream.clone(),
            };
            streams.push(json!({
                "stream": stream,
                "held_by": self.site.hub()?.groups.active_in(&name).await,
                "cursor": cursor::write(stream, &places, &listed),
                "partitions": partitions,
            }));
        }
        let shown = json!({ "consumer": group, "streams": streams });
        let mut response = self.page(&shown).await?;
        let tag = HeaderValue::from_str(&tag_of(kept)).expect("hex digits are of ASCII");
        response.headers_mut().insert(ETAG, tag);
        Ok(response)
    }
}

/// A partition with the places that a group has in it, of all its `places` in the stream.
fn partition(partition: &wire::Partition, places: &[Place]) -> Value {
    let here = places.iter().filter(|at| at.number == partition.number);
    let here: Vec<Place> = here.copied().collect();
    let stood = match here.is_empty() {
        true => Vec::new(),
        false => stand(partition, &here),
    };
    let lag = |(at, end): &(Place, u64)| end.saturating_sub(at.next);
    let ahead = stood.iter().skip(1).map(|(at, end)| {
        json!({ "first": at.first, "offset": at.next, "end": end, "lag": end.saturating_sub(at.next) })
    });
    json!({
        "number": partition.number,
        "gateway": partition.gateway,
        "partition": partition.partition,
        "offset": stood.first().map(|(at, _)| at.next),
        "earliest": partition.earliest,
        "end": partition.end,
        "lag": stood.iter().map(lag).reduce(|one, other| one + other),
        "ahead": ahead.collect::<Vec<_>>(),
    })
}

/// What must be true of the places of a group, so that they may be changed.
struct Condition {
    /// They have one of these tags; `*` is any.
    tags: Option<String>,
    /// There are none.
    is_new: bool,
}

impl Condition {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let lists = |name: &HeaderName, is_good: fn(&str) -> bool, accepted: &str| {
            let mut lists = Vec::new();
            for written in headers.get_all(name) {
                let list = written.to_str().ok().filter(|list| is_good(list));
                let bad = || Refusal::bad(format!("{name}: accepted is {accepted}"));
                lists.push(list.ok_or_else(bad)?);
            }
            Ok::<_, Refusal>((!lists.is_empty()).then(|| lists.join(",")))
        };
        Ok(Self {
            tags: lists(&IF_MATCH, is_list_of_tags, "* or the ETag of an answer")?,
            is_new: lists(&IF_NONE_MATCH, |list| list.trim() == "*", "*")?.is_some(),
        })
    }

    fn holds(&self, kept: &[Kept]) -> bool {
        let tag = tag_of(kept);
        let is_named = |list: &String| {
            let mut tags = list.split(',').map(str::trim);
            !kept.is_empty() && tags.any(|one| one == "*" || one == tag)
        };
        let is_as_new = !self.is_new || kept.is_empty();
        is_as_new && self.tags.as_ref().is_none_or(is_named)
    }
}

fn is_list_of_tags(list: &str) -> bool {
    let is_tag = |one: &str| {
        let one = one.strip_prefix("W/").unwrap_or(one);
        one == "*" || (one.len() >= 2 && one.starts_with('"') && one.ends_with('"'))
    };
    list.split(',').map(str::trim).all(is_tag)
}

/// A name for `kept` that nothing else has. The ends of partitions are not in it: who moves a group does not mind that they move.
fn tag_of(kept: &[Kept]) -> String {
    let all: Vec<_> = kept
        .iter()
        .map(|of| (&of.stream, of.place, of.epoch, &of.note))
        .collect();
    let bytes = postcard::to_allocvec(&all).expect("postcard writes every place");
    format!(
        "\"{}\"",
        crate::trust::hex(&crate::trust::sha256(&bytes)[..16])
    )
}

fn named(group: &str) -> Result<(), Refusal> {
    match is_name(group) {
        true => Ok(()),
        false => Err(Refusal::bad(format!(
            "{group:?} is no name of a consumer (accepted: 1 to {NAME_BYTES_MAX} bytes)"
        ))),
    }
}

fn nothing_of(group: &str) -> Refusal {
    let what = format!("{group:?} has come to no place here that you may read");
    Refusal::new(StatusCode::NOT_FOUND, what)
}

impl std::convert::From<GroupError> for Refusal {
    fn from(why: GroupError) -> Self {
        let status = match why {
            GroupError::Held { .. } | GroupError::Fenced => StatusCode::CONFLICT,
            GroupError::IsOtherwise => StatusCode::PRECONDITION_FAILED,
            GroupError::TooMany | GroupError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            GroupError::Catalog(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::warn!(error = %why, "offsets of a group are not to be had");
        }
        Self::new(status, why.to_string())
    }
}

/// Places in each of some ten thousand partitions.
const BODY_BYTES_MAX: usize = 512 * 1024;
/// How long one may take to say it.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
