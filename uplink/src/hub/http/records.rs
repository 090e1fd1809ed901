//! What stands in a stream, from a place on: at once or as soon as something comes, as lines of JSON, or as events that go on and on.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use sedge_core::Micros;
use tokio::time::Instant;

use super::cursor;
use super::packing::{Packing, weighed};
use super::query::{From, Limits, Query};
use super::{At, Refusal, Seat, Site, Visitor, packed};
use crate::client::positions::{Positions, RunKey};
use crate::client::{Item, Origin, Start, decode};
use crate::hub::guard::Grant;
use crate::hub::reading::{Read, Reading};
use crate::json::write_line;
use crate::wire::{self, Place, Want};

pub(super) async fn of_partition(
    visitor: Visitor,
    At((stream, number)): At<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let partition = visitor.partition_of(&stream, &number)?;
    let query = Query::parse(&uri, &["from", "max", "bytes", "wait", "only"])?;
    let asked = match query.group() {
        Some(group) => visitor.place_of(group, &partition).await?,
        None => query.from()?,
    };
    let from = match last_event(&headers)? {
        Some(id) => From::Start(Start::Offset(id.parse().map_err(|_| bad_id())?)),
        None => asked,
    };
    let at = first_in(&visitor, &partition, from).await?;
    let course = Course::of_partition(visitor, &partition, at);
    course.answer(query.limits()?, &headers).await
}

pub(super) async fn merged(
    visitor: Visitor,
    At(stream): At<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let listed = visitor.partitions_of(&stream)?;
    let query = Query::parse(&uri, &["from", "cursor", "max", "bytes", "wait", "only"])?;
    let cursor = query.get("cursor");
    if cursor.is_some() && query.get("from").is_some() {
        return Err(Refusal::bad(
            "cursor: says where to go on; leave `from` out",
        ));
    }
    let from = match query.group() {
        Some(_) => None,
        None => Some(query.from()?),
    };
    // A browser comes again to the address it came to first, whatever that says.
    let word = last_event(&headers)?.or_else(|| cursor.map(str::to_owned));
    let course = match (word, from) {
        (Some(word), _) => {
            let (places, turn) = cursor::read(&stream, &word, &listed)?;
            Course::going_on(visitor, &listed, &places, turn)
        }
        (None, Some(from)) => Course::of_stream(visitor, &listed, from).await?,
        (None, None) => {
            let group = query.group().unwrap_or_default();
            let places = visitor.places_of(group, &stream).await?;
            Course::going_on(visitor, &listed, &places, (0, 0))
        }
    };
    course.answer(query.limits()?, &headers).await
}

/// How much of the log is fetched for `left` more lines of an answer that has `written` bytes.
fn bytes_for(limits: Limits, written: usize, left: usize) -> usize {
    (limits.bytes - written).min(left.saturating_mul(RECORD_BYTES))
}

/// Whether a reader names events, and does not name lines as well and like them as much.
fn wants_events(headers: &HeaderMap) -> bool {
    let written = headers.get_all(ACCEPT).iter();
    let lists: Vec<&str> = written.filter_map(|list| list.to_str().ok()).collect();
    let weight = |of: &str| {
        let items = lists.iter().flat_map(|list| list.split(',').map(weighed));
        let named = items.filter(|(kind, _)| kind.eq_ignore_ascii_case(of));
        named.map(|(_, weight)| weight).max().unwrap_or(0)
    };
    weight(EVENTS) > weight(LINES)
}

/// What a browser says when it comes again.
fn last_event(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(id) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id = id.to_str().map_err(|_| bad_id())?;
    Ok(Some(id.to_owned()).filter(|id| !id.is_empty()))
}

fn bad_id() -> Refusal {
    Refusal::bad("Last-Event-ID: accepted is the id of an event from here")
}

/// The offset that `from` means in `partition`.
async fn first_in(
    visitor: &Visitor,
    partition: &wire::Partition,
    from: From,
) -> Result<u64, Refusal> {
    let last = end_of(partition);
    match from {
        From::Start(Start::Earliest) => Ok(0),
        From::Start(Start::Latest) => Ok(last),
        From::Last(count) => Ok(last_of(partition, count)),
        From::Start(Start::Time(time)) => {
            let (stream, numbers) = (&partition.stream, [partition.number]);
            let found = visitor
                .reading
                .offsets_for_time(stream, &numbers, Micros::new(time));
            let ends = std::iter::once(partition.end).chain(partition.ahead.iter().map(|r| r.end));
            // The first run that has something of that time, if one has.
            let found = found.await?;
            let mut within = found
                .iter()
                .zip(ends)
                .filter(|(place, end)| place.next < *end);
            Ok(within.next().map_or(last, |(place, _)| place.next))
        }
        From::Start(Start::Offset(offset)) if offset > last => Err(Refusal::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            format!("from: {offset} is beyond the end, {last}"),
        )),
        From::Start(Start::Offset(offset)) => Ok(offset),
    }
}

/// One past the last offset that can be read, live records that passed a backlog included.
pub(super) fn end_of(partition: &wire::Partition) -> u64 {
    partition.ahead.last().map_or(partition.end, |run| run.end)
}

/// Where the last `count` offsets begin, within the last run.
pub(super) fn last_of(partition: &wire::Partition, count: u64) -> u64 {
    let first = partition
        .ahead
        .last()
        .map_or(partition.earliest, |run| run.first);
    end_of(partition).saturating_sub(count).max(first)
}

/// A way through a partition, or through all partitions of a stream.
struct Course {
    site: Arc<Site>,
    reading: Reading,
    grant: Grant,
    packing: Packing,
    seat: Seat,
    stream: String,
    /// Items that are still to be made into events.
    queue: VecDeque<Item>,
    stand: Stand,
}

enum Stand {
    One(Box<One>),
    All(All),
}

struct One {
    origin: Arc<Origin>,
    /// Next offset behind what was given, and behind what was fetched.
    given: u64,
    fetch: u64,
    epoch: Option<u32>,
}

#[derive(Default)]
struct All {
    positions: Positions,
    turn: RunKey,
    /// The partitions and runs that are known, and their mark.
    listed: Vec<wire::Partition>,
    runs: u32,
}

impl Course {
    fn new(visitor: Visitor, stream: &str, stand: Stand) -> Self {
        let Visitor {
            site,
            grant,
            reading,
            packing,
            seat,
        } = visitor;
        Self {
            site,
            reading,
            grant,
            packing,
            seat,
            stream: stream.to_owned(),
            queue: VecDeque::new(),
            stand,
        }
    }

    fn of_partition(visitor: Visitor, partition: &wire::Partition, at: u64) -> Self {
        let one = One {
            origin: Arc::new(Origin::of(partition)),
            given: at,
            fetch: at,
            epoch: None,
        };
        Self::new(visitor, &partition.stream, Stand::One(Box::new(one)))
    }

    async fn of_stream(
        visitor: Visitor,
        listed: &[wire::Partition],
        from: From,
    ) -> Result<Self, Refusal> {
        let stream = &listed[0].stream;
        let by_time = match from {
            From::Start(Start::Time(time)) => {
                let found = visitor
                    .reading
                    .offsets_for_time(stream, &[], Micros::new(time));
                found.await?
            }
            _ => Vec::new(),
        };
        let mut all = All::knowing(listed);
        for partition in listed {
            let start = match from {
                From::Start(start) => start,
                From::Last(count) => Start::Offset(last_of(partition, count)),
            };
            all.positions.begin(partition, start, &[], &by_time);
        }
        Ok(Self::new(visitor, stream, Stand::All(all)))
    }

    /// Goes on at `places`; what has come since is read from its beginning.
    fn going_on(
        visitor: Visitor,
        listed: &[wire::Partition],
        places: &[Place],
        turn: RunKey,
    ) -> Self {
        let mut all = All {
            turn,
            ..All::knowing(listed)
        };
        all.positions.meet(listed, Start::Earliest, places, &[]);
        Self::new(visitor, &listed[0].stream, Stand::All(all))
    }

    fn given(&mut self, item: &Item) {
        match &mut self.stand {
            Stand::One(one) => one.given = item.next(),
            Stand::All(all) => {
                let number = item.origin().number;
                all.positions.given(number, item.first(), item.next());
            }
        }
    }

    /// Where to go on behind what was given.
    fn place(&self) -> String {
        match &self.stand {
            Stand::One(one) => one.given.to_string(),
            Stand::All(all) => {
                let places = all.positions.places(all.turn);
                cursor::write(&self.stream, &places, &all.listed)
            }
        }
    }

    async fn answer(self, limits: Limits, headers: &HeaderMap) -> Result<Response, Refusal> {
        match wants_events(headers) {
            true if self.packing == Packing::Always => Err(Refusal::new(
                StatusCode::NOT_ACCEPTABLE,
                "Accept-Encoding: events come as they are (identity)",
            )),
            true if limits.only_gaps => Err(Refusal::bad(
                "only: gaps come as lines (application/x-ndjson), not as events",
            )),
            true => Ok(self.events()),
            false if limits.only_gaps => self.gaps(limits).await,
            false => self.lines(limits).await,
        }
    }

    /// As much as is there, within `limits`.
    async fn lines(mut self, limits: Limits) -> Result<Response, Refusal> {
        let mut deadline = Instant::now() + limits.wait;
        let (mut body, mut left) = (Vec::new(), limits.items);
        while left > 0 && body.len() < limits.bytes {
            let bytes_max = bytes_for(limits, body.len(), left);
            let found = tokio::select! {
                biased;
                denied = self.grant.withdrawn() => {
                    return Err(Refusal::new(StatusCode::UNAUTHORIZED, denied.0));
                }
                found = self.stand.more(&self.reading, &self.stream, bytes_max, deadline) => found,
                () = self.site.stopped() => Ok(Vec::new()),
            };
            let found = match found {
                // What was read is given; who comes again is told.
                Err(refusal) if refusal.is_passing() && !body.is_empty() => break,
                found => found?,
            };
            if found.is_empty() {
                break;
            }
            for item in found {
                write_line(&mut body, &item);
                self.given(&item);
                // Behind a seam one stands where one stood before it: no answer ends there.
                if item.next() == item.first() {
                    continue;
                }
                left -= 1;
                if left == 0 || body.len() >= limits.bytes {
                    break;
                }
            }
            // What is there now is enough.
            deadline = Instant::now();
        }
        self.answered(body).await
    }

    /// The gaps in a stretch of what is there: as much as is looked at for one answer.
    async fn gaps(mut self, limits: Limits) -> Result<Response, Refusal> {
        let mut deadline = Instant::now() + limits.wait;
        let (mut body, mut left) = (Vec::new(), limits.items);
        let (mut is_at_end, mut looked) = (false, false);
        for _ in 0..STRETCHES {
            let runs = self.stand.runs();
            let found = tokio::select! {
                biased;
                denied = self.grant.withdrawn() => {
                    return Err(Refusal::new(StatusCode::UNAUTHORIZED, denied.0));
                }
                found = self.stand.more(&self.reading, &self.stream, STRETCH_BYTES, deadline) => found,
                () = self.site.stopped() => break,
            };
            let found = match found {
                // As in `lines`; the stretch that was looked at is the answer.
                Err(refusal) if refusal.is_passing() && looked => break,
                found => found?,
            };
            looked = true;
            // Runs that have just come are yet to be looked at.
            is_at_end = found.is_empty() && self.stand.runs() == runs;
            for item in &found {
                self.given(item);
                let Item::Gap(_) = item else { continue };
                write_line(&mut body, item);
                // No answer ends behind a seam, as in `lines`.
                if item.next() == item.first() {
                    continue;
                }
                left -= 1;
                if left == 0 || body.len() >= limits.bytes {
                    break;
                }
            }
            if is_at_end || left == 0 || body.len() >= limits.bytes {
                break;
            }
            deadline = Instant::now();
        }
        let mut response = self.answered(body).await?;
        let at_end = HeaderValue::from_static(if is_at_end { "true" } else { "false" });
        let name = HeaderName::from_static(END_REACHED);
        response.headers_mut().insert(name, at_end);
        Ok(response)
    }

    async fn answered(self, body: Vec<u8>) -> Result<Response, Refusal> {
        let status = match body.is_empty() {
            true => StatusCode::NO_CONTENT,
            false => StatusCode::OK,
        };
        let head = [
            (CONTENT_TYPE, LINES),
            (CACHE_CONTROL, "no-store"),
            (VARY, VARIES),
        ];
        let places = self.places();
        let (body, is_packed) = self.packing.pack(body).await?;
        let answer = Answer {
            body,
            _seat: self.seat,
        };
        let mut response = packed(is_packed, (status, head, Bytes::from_owner(answer)));
        for (name, value) in places {
            let value = HeaderValue::from_str(&value).expect("digits and base64 are of ASCII");
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        Ok(response)
    }

    fn places(&self) -> Vec<(&'static str, String)> {
        match &self.stand {
            Stand::One(one) => {
                let number = one.origin.number;
                let partition = self.site.library.partition(&self.stream, number);
                let bounds = partition.map(|p| {
                    let p = p.describe();
                    [(START_OFFSET, p.earliest), (END_OFFSET, end_of(&p))]
                });
                let places = bounds
                    .into_iter()
                    .flatten()
                    .chain([(NEXT_OFFSET, one.given)]);
                places.map(|(name, at)| (name, at.to_string())).collect()
            }
            Stand::All(_) => vec![(CURSOR, self.place())],
        }
    }

    /// All that there is and all that will come, each with the place to go on from, until the reader has enough, may read no more, or the hub ends.
    fn events(self) -> Response {
        let steps = stream::unfold(Some(self), |course| async {
            let mut course = course?;
            let (bytes, goes_on) = course.next_events().await;
            Some((Ok::<_, Infallible>(bytes), goes_on.then_some(course)))
        });
        let head = [
            (CONTENT_TYPE, EVENTS),
            (CACHE_CONTROL, "no-store"),
            (VARY, VARIES),
        ];
        (head, Body::from_stream(steps)).into_response()
    }

    /// The text of some events, and whether there will be more.
    async fn next_events(&mut self) -> (Bytes, bool) {
        // Some may be left of what came before.
        let (is_empty, deadline) = (self.queue.is_empty(), Instant::now() + SIGN_OF_LIFE_EVERY);
        tokio::select! {
            biased;
            () = self.site.stopped() => return (failed(self.site.farewell()), false),
            denied = self.grant.withdrawn() => return (failed(&denied.0), false),
            found = self.stand.more(&self.reading, &self.stream, EVENTS_BYTES, deadline), if is_empty => match found {
                Ok(items) => self.queue.extend(items),
                // It goes on when the disk does.
                Err(refusal) if refusal.is_passing() => {}
                Err(refusal) => return (failed(&refusal.what), false),
            },
            () = std::future::ready(()), if !is_empty => {}
        }
        let mut text = Vec::new();
        while text.len() < EVENTS_TEXT_BYTES
            && let Some(item) = self.queue.pop_front()
        {
            self.given(&item);
            text.extend_from_slice(b"id: ");
            text.extend_from_slice(self.place().as_bytes());
            text.extend_from_slice(b"\ndata: ");
            write_line(&mut text, &item);
            text.push(b'\n');
        }
        if text.is_empty() {
            text.extend_from_slice(b": nothing yet\n\n");
        }
        (text.into(), true)
    }
}

impl Stand {
    /// The mark of the runs that are known.
    fn runs(&self) -> u32 {
        match self {
            Self::One(_) => 0,
            Self::All(all) => all.runs,
        }
    }

    /// What comes next, about `bytes_max` of frames; nothing if there is nothing until `deadline`.
    async fn more(
        &mut self,
        reading: &Reading,
        stream: &str,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<Item>, Refusal> {
        loop {
            let items = match self {
                Self::One(one) => one.more(reading, bytes_max, deadline).await?,
                Self::All(all) => all.more(reading, stream, bytes_max, deadline).await?,
            };
            if !items.is_empty() || Instant::now() >= deadline {
                return Ok(items);
            }
        }
    }
}

impl One {
    async fn more(
        &mut self,
        reading: &Reading,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<Item>, Refusal> {
        let wants = [Want {
            number: self.origin.number,
            from: self.fetch,
            epoch: self.epoch,
        }];
        let stream = &self.origin.stream;
        let read = reading.fetch_parts(stream, &wants, bytes_max, deadline);
        let mut items = Vec::new();
        for part in read.await? {
            let (head, from) = (&part.head, self.fetch.min(part.head.from));
            decode::part(head, &part.frames, &self.origin, from, &mut items);
            (self.fetch, self.epoch) = (head.next, Some(head.epoch));
        }
        Ok(items)
    }
}

impl All {
    fn knowing(listed: &[wire::Partition]) -> Self {
        Self {
            runs: wire::mark(listed.iter().flat_map(wire::Partition::runs)),
            listed: listed.to_vec(),
            ..Self::default()
        }
    }

    async fn more(
        &mut self,
        reading: &Reading,
        stream: &str,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<Item>, Refusal> {
        for _ in 0..2 {
            let wants: Vec<Want> = self.positions.wants(self.turn, true).collect();
            let read = reading.fetch(stream, &wants, bytes_max, self.runs, deadline);
            let Read { runs, parts } = read.await?;
            let mut items = Vec::new();
            for part in parts {
                let taken = self.positions.take(&part.head, &part.frames, true);
                if let Some((key, mut found)) = taken {
                    items.append(&mut found);
                    self.turn = (key.0, key.1.saturating_add(1));
                }
            }
            if runs == self.runs {
                return Ok(items);
            }
            self.meet(reading, stream);
            // Nothing is said of runs that have just come before they were looked at.
            if !items.is_empty() {
                return Ok(items);
            }
        }
        Ok(Vec::new())
    }

    /// Partitions and runs that have come, or are no more.
    fn meet(&mut self, reading: &Reading, stream: &str) {
        let partitions = reading.partitions(Some(stream));
        let listed: Vec<_> = partitions.iter().map(|p| p.describe()).collect();
        self.runs = wire::mark(listed.iter().flat_map(wire::Partition::runs));
        self.positions.compare(&listed);
        self.positions.meet(&listed, Start::Earliest, &[], &[]);
        self.listed = listed;
    }
}

/// The lines of an answer, and the reader's seat for as long as they are held.
struct Answer {
    body: Vec<u8>,
    _seat: Seat,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// The event that says why there will be no more.
fn failed(what: &str) -> Bytes {
    format!(
        "event: error\ndata: {}\n\n",
        serde_json::json!({ "error": what })
    )
    .into()
}

const LINES: &str = "application/x-ndjson";
const EVENTS: &str = "text/event-stream";
const VARIES: &str = "accept, accept-encoding";
const NEXT_OFFSET: &str = "sedge-next-offset";
const START_OFFSET: &str = "sedge-start-offset";
const END_OFFSET: &str = "sedge-end-offset";
const END_REACHED: &str = "sedge-end-reached";
const CURSOR: &str = "sedge-cursor";
/// Frames that are made into events at once.
const EVENTS_BYTES: usize = 64 * 1024;
/// Text of events that is made at once, but for the last of them.
const EVENTS_TEXT_BYTES: usize = 256 * 1024;
/// What a record may take of the log, as far as is known before it is read: so much is fetched for each line that is wanted, and more if it was too little.
const RECORD_BYTES: usize = 1024;
/// Frames that are looked through for gaps at once, and how often for one answer.
const STRETCH_BYTES: usize = 128 * 1024;
const STRETCHES: usize = 256;
/// So that proxies and readers know that nobody has gone.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_fetched_than_there_is_room_for_nor_than_so_many_lines_take() {
        let limits = Limits {
            only_gaps: false,
            items: 1_000,
            bytes: 1 << 20,
            wait: Duration::ZERO,
        };
        assert_eq!(bytes_for(limits, 0, 1), RECORD_BYTES);
        assert_eq!(bytes_for(limits, 0, 1_000), 1_000 * RECORD_BYTES);
        assert_eq!(bytes_for(limits, 0, 100_000), 1 << 20);
        assert_eq!(bytes_for(limits, (1 << 20) - 7, 1_000), 7);
    }

    #[test]
    fn events_are_for_those_who_want_them_more_than_lines() {
        let wants = |accept: &'static str| {
            let accept = [(ACCEPT, HeaderValue::from_static(accept))];
            wants_events(&accept.into_iter().collect())
        };
        assert!(wants("text/event-stream"));
        assert!(wants("Text/Event-Stream, */*"));
        assert!(wants(
            "application/x-ndjson;q=0.5, text/event-stream; q=0.6"
        ));
        assert!(!wants("application/x-ndjson, text/event-stream"));
        assert!(!wants("text/event-stream;q=0"));
        assert!(!wants("*/*") && !wants_events(&HeaderMap::new()));
    }
}
