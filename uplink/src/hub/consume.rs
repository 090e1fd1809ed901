//! The conversation with one consumer: requests come in, each is worked on beside the others, answers go out.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sedge_core::Micros;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::groups::{Applicant, GroupError, GroupName, LEASE, is_name};
use super::guard::{Caller, Grant};
use super::lobby::CONNECTIONS_OF_ONE_MAX;
use super::partition::Partition;
use super::reading::{NotRead, Read, Reading};
use super::{Ended, Farewell, Shared, broken};
use crate::stream::{Incoming, Stream, StreamError, Turn, slowest};
use crate::trust::register::Denied;
use crate::wire::{self, FetchedHead, bye, code, kind};

/// A running conversation.
struct Session {
    shared: Arc<Shared>,
    stream: Stream,
    grant: Grant,
    requests: JoinSet<BytesMut>,
    member: Member,
}

/// Who asks.
#[derive(Clone)]
struct Member {
    connection: u64,
    reading: Reading,
}

/// A request that is not met.
struct Failure {
    code: u16,
    reason: String,
}

/// Serves the consumer that said `first`, an Open.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    mut stream: Stream,
    first: Incoming,
    caller: &Caller,
) -> Ended {
    let Ok(open) = wire::parse::<wire::Open>(&first.body) else {
        return Err(Farewell::new(stream, bye::MALFORMED, "malformed Open"));
    };
    if open.protocol_min > wire::PROTOCOL || open.protocol_max < wire::PROTOCOL {
        return Err(Farewell::new(
            stream,
            bye::VERSION,
            format!("this hub speaks version {}", wire::PROTOCOL),
        ));
    }
    let grant = match shared.admit_consumer(caller, &open.credential) {
        Ok(grant) => grant,
        Err(denied) => return Err(Farewell::new(stream, bye::NOT_ALLOWED, denied.0)),
    };
    let Some(_chair) = shared.chairs.take(grant.name()) else {
        return Err(Farewell::new(
            stream,
            bye::BUSY,
            format!("{CONNECTIONS_OF_ONE_MAX} connections of this consumer are open already"),
        ));
    };
    let message_bytes_max = wire::MESSAGE_BYTES_MAX as u32;
    stream.push(&wire::Opened {
        chosen: wire::PROTOCOL,
        features: 0,
        message_bytes_max,
    });
    let member = Member {
        connection: shared.next_connection(),
        reading: Reading::new(shared, grant.streams()),
    };
    let mut session = Session {
        shared: Arc::clone(shared),
        stream,
        grant,
        requests: JoinSet::new(),
        member,
    };
    shared.counters.consumer_came();
    let ended = session.run().await;
    shared.counters.consumer_went();
    session.requests.shutdown().await;
    shared
        .groups
        .connection_ended(session.member.connection)
        .await;
    match ended {
        Ok(()) => {
            session
                .stream
                .end(bye::SHUTTING_DOWN, "the hub is being stopped")
                .await;
            Ok(())
        }
        Err(Over::Stream(e)) => broken(session.stream, &e),
        Err(Over::Rule(code, reason)) => Err(Farewell::new(session.stream, code, reason)),
        Err(Over::Withdrawn(denied)) => {
            Err(Farewell::new(session.stream, bye::NOT_ALLOWED, denied.0))
        }
    }
}

/// Why a conversation is over before the hub is.
enum Over {
    Stream(StreamError),
    Rule(u16, &'static str),
    Withdrawn(Denied),
}

impl Session {
    async fn run(&mut self) -> Result<(), Over> {
        let shared = Arc::clone(&self.shared);
        loop {
            // Who takes what it was sent is there, at the pace of the slowest link or more.
            let quiet = self.stream.heard() + IDLE_TIMEOUT;
            let taken = quiet + slowest(self.stream.outgoing.len());
            let silent = quiet.max(taken.min(self.stream.moved() + IDLE_TIMEOUT));
            tokio::select! {
                biased;
                Some(answer) = self.requests.join_next() => match answer {
                    Ok(answer) => self.stream.outgoing.extend_from_slice(&answer),
                    Err(_) => return Err(Over::Rule(bye::INTERNAL, "a request failed")),
                },
                () = shared.stopped() => return Ok(()),
                denied = self.grant.withdrawn() => return Err(Over::Withdrawn(denied)),
                turn = self.stream.turn() => match turn {
                    Ok(Turn::Received(message)) => self.message(message)?,
                    Ok(Turn::Sent) => {}
                    Err(e) => return Err(Over::Stream(e)),
                },
                () = tokio::time::sleep_until(silent) => {
                    // An open request is a sign of life: its consumer waits for us.
                    if self.requests.is_empty() {
                        return Err(Over::Rule(bye::BUSY, "nothing was heard for too long"));
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            if self.stream.is_overdue(MESSAGE_PATIENCE) {
                return Err(Over::Rule(bye::BUSY, "a message was begun and not ended"));
            }
        }
    }

    fn message(&mut self, Incoming { kind, body }: Incoming) -> Result<(), Over> {
        let malformed = |_| Over::Rule(bye::MALFORMED, "malformed message");
        match kind {
            kind::PING => {
                let ping: wire::Ping = wire::parse(&body).map_err(malformed)?;
                if !ping.reply {
                    self.stream.push(&wire::Ping {
                        reply: true,
                        ..ping
                    });
                }
            }
            kind::BYE => return Err(Over::Stream(StreamError::Closed)),
            kind::LIST | kind::FETCH | kind::FIND | kind::JOIN | kind::COMMIT | kind::LEAVE => {
                self.request(kind, body).map_err(malformed)?;
            }
            // Types that this version does not know are skipped.
            _ => {}
        }
        Ok(())
    }

    fn request(&mut self, kind: u8, body: Bytes) -> Result<(), wire::Malformed> {
        let request = postcard::take_from_bytes::<u32>(&body)
            .map_err(|_| wire::Malformed)?
            .0;
        if self.requests.len() >= REQUESTS_MAX {
            self.stream.push(&wire::Failed {
                request,
                code: code::BUSY,
                reason: "too many requests".into(),
            });
            return Ok(());
        }
        let (shared, member) = (Arc::clone(&self.shared), self.member.clone());
        macro_rules! work {
            ($work:ident) => {{
                let message = wire::parse(&body)?;
                self.requests
                    .spawn(async move { answer(request, $work(&shared, &member, message).await) });
            }};
        }
        match kind {
            kind::LIST => work!(list),
            kind::FETCH => work!(fetch),
            kind::FIND => work!(find),
            kind::JOIN => work!(join),
            kind::COMMIT => work!(commit),
            _ => work!(leave),
        }
        Ok(())
    }
}

/// The framed answer to a request.
fn answer(request: u32, answered: Result<BytesMut, Failure>) -> BytesMut {
    answered.unwrap_or_else(|Failure { code, mut reason }| {
        while reason.len() > REASON_BYTES_MAX {
            reason.pop();
        }
        framed(&wire::Failed {
            request,
            code,
            reason,
        })
    })
}

fn framed<M: wire::Message>(message: &M) -> BytesMut {
    let mut into = BytesMut::new();
    wire::emit(&mut into, message);
    into
}

async fn list(_: &Arc<Shared>, member: &Member, list: wire::List) -> Result<BytesMut, Failure> {
    let after = list
        .after
        .as_ref()
        .map(|(stream, number)| (stream.as_str(), *number));
    let all = member.reading.partitions(list.stream.as_deref());
    let (page, more) = page(&all, after);
    let partitions = page.iter().map(|p| p.describe()).collect();
    Ok(framed(&wire::Listed {
        request: list.request,
        partitions,
        more,
    }))
}

/// Those of `all`, which are in order, that one Listed has room for and that stand behind `after`; and whether there are more.
fn page<'a>(all: &'a [Arc<Partition>], after: Option<(&str, u32)>) -> (&'a [Arc<Partition>], bool) {
    let is_told =
        |p: &Arc<Partition>| after.is_some_and(|after| (p.stream.as_str(), p.number) <= after);
    let rest = &all[all.partition_point(is_told)..];
    let page = &rest[..rest.len().min(LISTED_MAX)];
    (page, page.len() < rest.len())
}

async fn fetch(
    shared: &Arc<Shared>,
    member: &Member,
    fetch: wire::Fetch,
) -> Result<BytesMut, Failure> {
    member.reading.may_read(&fetch.stream)?;
    let known = shared.registry.partitions(Some(&fetch.stream));
    // A reader may not have heard yet that runs have become one, and a hub that was put back does not know them all.
    let runs: usize = known
        .iter()
        .map(|p| p.members().len() + RUNS_FORGOTTEN_MAX)
        .sum();
    bounded(fetch.wants.len(), runs)?;
    let bytes_max =
        (fetch.bytes_max as usize).min(wire::MESSAGE_BYTES_MAX - wire::FETCHED_HEAD_BYTES_MAX);
    let deadline = Instant::now() + Duration::from_millis(fetch.wait_ms.into()).min(FETCH_WAIT_MAX);
    let (stream, wants) = (&fetch.stream, &fetch.wants);
    let reading = &member.reading;
    let read = reading.fetch(stream, wants, bytes_max, fetch.known, deadline);
    let read = match read.await {
        // Its consumer waits, as for what has yet to come.
        Err(NotRead::Unread) => Read {
            runs: fetch.known,
            parts: Vec::new(),
        },
        read => read?,
    };
    Ok(fetched(fetch.request, read))
}

fn fetched(request: u32, Read { runs, parts }: Read) -> BytesMut {
    let (heads, frames): (Vec<_>, Vec<_>) = parts.into_iter().map(|p| (p.head, p.frames)).unzip();
    let bytes = frames.iter().map(Bytes::len).sum::<usize>();
    let mut into = BytesMut::with_capacity(bytes + 4_096);
    wire::emit_fetched(
        &mut into,
        &FetchedHead {
            request,
            runs,
            parts: heads,
        },
        &frames,
    );
    into
}

async fn find(
    shared: &Arc<Shared>,
    member: &Member,
    find: wire::Find,
) -> Result<BytesMut, Failure> {
    member.reading.may_read(&find.stream)?;
    let there = shared.registry.partitions(Some(&find.stream)).len();
    bounded(find.numbers.len(), there)?;
    let (stream, time) = (&find.stream, Micros::new(find.time));
    let found = member.reading.offsets_for_time(stream, &find.numbers, time);
    let places = found.await?;
    Ok(framed(&wire::Found {
        request: find.request,
        places,
    }))
}

async fn join(
    shared: &Arc<Shared>,
    member: &Member,
    join: wire::Join,
) -> Result<BytesMut, Failure> {
    member.reading.may_read(&join.stream)?;
    let name = group(join.group, join.stream)?;
    let applicant = Applicant {
        member: short(join.member),
        connection: member.connection,
        generation: join.generation,
    };
    let deadline = Instant::now() + Duration::from_millis(join.wait_ms.into());
    let (generation, places) = shared.groups.join(&name, &applicant, deadline).await?;
    // It may have been taken back while this waited; the lease goes with the connection.
    member.reading.may_read(&name.stream)?;
    let lease_ms = LEASE.as_millis() as u32;
    Ok(framed(&wire::Joined {
        request: join.request,
        generation,
        lease_ms,
        places,
    }))
}

async fn commit(
    shared: &Arc<Shared>,
    member: &Member,
    commit: wire::Commit,
) -> Result<BytesMut, Failure> {
    member.reading.may_read(&commit.stream)?;
    let known = |number: u32| shared.registry.partition(&commit.stream, number).is_some();
    if let Some(unknown) = commit.places.iter().find(|place| !known(place.number)) {
        return Err(Failure::unknown(&commit.stream, unknown.number));
    }
    let name = group(commit.group, commit.stream)?;
    let applicant = Applicant {
        member: String::new(),
        connection: member.connection,
        generation: None,
    };
    shared
        .groups
        .commit(&name, &applicant, commit.generation, commit.places)
        .await?;
    Ok(framed(&wire::Done {
        request: commit.request,
    }))
}

async fn leave(
    shared: &Arc<Shared>,
    member: &Member,
    leave: wire::Leave,
) -> Result<BytesMut, Failure> {
    member.reading.may_read(&leave.stream)?;
    let name = group(leave.group, leave.stream)?;
    shared.groups.leave(&name, leave.generation).await?;
    Ok(framed(&wire::Done {
        request: leave.request,
    }))
}

/// Nobody asks for more partitions than there are.
fn bounded(asked: usize, there: usize) -> Result<(), Failure> {
    match asked <= there.max(1) {
        true => Ok(()),
        false => Err(Failure {
            code: code::MALFORMED,
            reason: format!("{asked} partitions of a stream that has {there}"),
        }),
    }
}

fn group(group: String, stream: String) -> Result<GroupName, Failure> {
    if !is_name(&group) || !is_name(&stream) {
        let reason = format!("names have 1 to {} bytes", wire::NAME_BYTES_MAX);
        return Err(Failure {
            code: code::MALFORMED,
            reason,
        });
    }
    Ok(GroupName { group, stream })
}

fn short(mut name: String) -> String {
    while name.len() > wire::NAME_BYTES_MAX {
        name.pop();
    }
    name
}

impl Failure {
    fn unknown(stream: &str, number: u32) -> Self {
        Self {
            code: code::UNKNOWN,
            reason: format!("{stream} has no partition {number}"),
        }
    }
}

impl From<NotRead> for Failure {
    fn from(why: NotRead) -> Self {
        let code = match why {
            NotRead::NotAllowed => code::NOT_ALLOWED,
            NotRead::Unknown { .. } => code::UNKNOWN,
            NotRead::Unread | NotRead::Internal(_) => code::INTERNAL,
        };
        Self {
            code,
            reason: why.to_string(),
        }
    }
}

impl From<GroupError> for Failure {
    fn from(e: GroupError) -> Self {
        let code = match e {
            GroupError::Held { .. } => code::HELD,
            GroupError::Fenced => code::FENCED,
            GroupError::IsOtherwise
            | GroupError::TooMany
            | GroupError::ShuttingDown
            | GroupError::Catalog(_) => code::INTERNAL,
        };
        Self {
            code,
            reason: e.to_string(),
        }
    }
}

/// Open requests of one connection.
const REQUESTS_MAX: usize = 16;
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const MESSAGE_PATIENCE: Duration = Duration::from_secs(30);
const FETCH_WAIT_MAX: Duration = Duration::from_secs(60);
/// Runs of a partition that a reader may ask for though the hub has fewer logs of it.
const RUNS_FORGOTTEN_MAX: usize = 2;
/// Partitions in one Listed: with the longest names they take less than half of a message.
const LISTED_MAX: usize = 2_000;
const REASON_BYTES_MAX: usize = 256;

const _: () = assert!(LISTED_MAX * 180 < wire::MESSAGE_BYTES_MAX / 2);

#[cfg(test)]
mod tests {
    use sedge_store::Name;

    use super::super::chain::{Identity, LogHex};
    use super::*;

    /// So many partitions of each of these streams.
    fn partitions(of: &[(&str, u32)]) -> Vec<Arc<Partition>> {
        let partition = |stream: &str, number| {
            Arc::new(Partition::new(&Identity {
                format: 1,
                gateway: Name::new("gw-7").unwrap(),
                stream: Name::new(stream).unwrap(),
                partition: 0,
                log: LogHex([7; 16]),
                number,
                epoch: 0,
                shift: 0,
                start: 0,
                end: None,
            }))
        };
        let each = of.iter().flat_map(|(stream, count)| {
            let numbers = 0..*count;
            numbers.map(move |number| partition(stream, number))
        });
        each.collect()
    }

    #[test]
    fn more_partitions_than_an_answer_has_room_for_are_listed_page_by_page() {
        for (of, pages) in [
            (&[][..], &[0][..]),
            (&[("a", 2_000)], &[2_000]),
            (&[("a", 2_001)], &[2_000, 1]),
            (&[("a", 1_500), ("b", 2_600)], &[2_000, 2_000, 100]),
        ] {
            let (all, mut told, mut sizes) = (partitions(of), Vec::new(), Vec::new());
            loop {
                let last: Option<&Arc<Partition>> = told.last();
                let after = last.map(|p| (p.stream.as_str(), p.number));
                let (page, more) = page(&all, after);
                sizes.push(page.len());
                told.extend(page.iter().cloned());
                if !more {
                    break;
                }
            }
            assert_eq!(sizes, pages);
            let same = all
                .iter()
                .zip(&told)
                .all(|(one, other)| Arc::ptr_eq(one, other));
            assert!(same && all.len() == told.len(), "{of:?}");
        }
    }

    #[test]
    fn a_reason_is_cut_to_what_a_peer_has_room_for() {
        for (said, told) in [(255, 255), (256, 256), (400, 256)] {
            let failure = Failure {
                code: code::INTERNAL,
                reason: "r".repeat(said),
            };
            let framed = answer(7, Err(failure)).split_off(5);
            let failed: wire::Failed = wire::parse(&framed).unwrap();
            assert_eq!((failed.request, failed.code), (7, code::INTERNAL));
            assert_eq!(failed.reason.len(), told);
        }
    }
}
