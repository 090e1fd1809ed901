//! What comes into a stream of the agent now, for `sedge tail`: the newest events, then those that follow.
//!
//! It reads the log as an uplink does, up to what is durable: nothing of it stands in the way of what comes in, and memory holds one
//! piece of the log. Who reads more slowly than events come is led back to the newest, and told how many it was not shown.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use sedge_core::Offset;
use sedge_store::watch;
use sedge_store::{Partition, READ_AGAIN_AFTER, ReadError, world};
use sedge_uplink::client::{Item, Origin, items_of};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::task::JoinSet;

use crate::lines::{self, Format};
use crate::shutdown::Shutdown;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The stream.
    pub(crate) stream: String,
    /// So many of the newest events of each partition first.
    pub(crate) last: u32,
    /// End after so many events.
    pub(crate) limit: Option<u64>,
    /// JSON, or text for people.
    pub(crate) json: bool,
}

/// The newest log of each partition, by stream. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<BTreeMap<String, Vec<Log>>>);

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    partition: Partition,
    origin: Arc<Origin>,
    epoch: u32,
}

impl Streams {
    pub(crate) fn new(logs: impl Iterator<Item = Log>) -> Self {
        let mut streams: BTreeMap<String, Vec<Log>> = BTreeMap::new();
        for log in logs {
            let stream = log.origin.stream.clone();
            streams.entry(stream).or_default().push(log);
        }
        Self(Arc::new(streams))
    }

    /// The logs of a stream.
    pub(crate) fn logs(&self, stream: &str) -> Option<&[Log]> {
        self.0.get(stream).map(Vec::as_slice)
    }
}

impl Log {
    /// The log at place `epoch` of its chain.
    pub(crate) fn new(
        gateway: &str,
        stream: &str,
        number: u16,
        epoch: u16,
        partition: Partition,
    ) -> Self {
        let origin = Origin {
            stream: stream.to_owned(),
            gateway: gateway.to_owned(),
            partition: number,
            number: number.into(),
        };
        Self {
            partition,
            origin: Arc::new(origin),
            epoch: epoch.into(),
        }
    }
}

/// Shows what is wanted of `logs` until the limit, until who is shown it goes away, or until the shutdown: pieces of whole lines, each behind a
/// line with its length in bytes, and [`END`].
pub(crate) async fn serve(
    request: &Request,
    logs: &[Log],
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut shutdown: Shutdown,
) -> io::Result<()> {
    let mut followers = Followers::begin(request, logs).await?;
    let mut gone = [0];
    tokio::select! {
        biased;
        () = shutdown.requested() => Ok(()),
        // Nothing is said any more: only the end can come.
        _ = from.read(&mut gone) => Ok(()),
        shown = followers.show(to) => shown,
    }
}

/// Who follows each of the logs.
struct Followers {
    all: Vec<Follower>,
    left: Option<u64>,
    format: Format,
}

impl Followers {
    async fn begin(request: &Request, logs: &[Log]) -> io::Result<Self> {
        let mut all = Vec::new();
        for log in logs.iter().cloned() {
            let last = u64::from(request.last);
            let begin = move || Follower::begin(log, last);
            all.push(world::blocking(begin).await.map_err(io::Error::other)??);
        }
        Ok(Self {
            all,
            left: request.limit,
            format: match request.json {
                true => Format::Json,
                false => Format::Text,
            },
        })
    }

    async fn show(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        loop {
            let (mut any, mut any_unread) = (false, false);
            for at in 0..self.all.len() {
                let mut follower = self.all[at].clone();
                let (left, format) = (self.left, self.format);
                let read = move || {
                    let read = follower.read(format, left);
                    read.map(|read| (follower, read))
                };
                let read = world::blocking(read).await.map_err(io::Error::other)?;
                let (follower, read) = read?;
                let Piece {
                    lines,
                    records,
                    unread,
                } = read;
                self.all[at] = follower;
                any_unread |= unread;
                any |= !lines.is_empty();
                if !lines.is_empty() {
                    to.write_all(format!("{}\n", lines.len()).as_bytes())
                        .await?;
                    to.write_all(&lines).await?;
                }
                self.left = self.left.map(|left| left.saturating_sub(records));
                if self.left == Some(0) {
                    return to.write_all(END.as_bytes()).await;
                }
            }
            match (any, any_unread) {
                (true, _) => {}
                (false, true) => tokio::time::sleep(READ_AGAIN_AFTER).await,
                (false, false) => self.news().await,
            }
        }
    }

    /// Waits until there is more in one of the logs.
    async fn news(&self) {
        let mut waiting = JoinSet::new();
        for follower in &self.all {
            let (at, mut durable) = (follower.at, follower.durable.clone());
            waiting.spawn(async move {
                if durable.wait_for(|end| *end > at).await.is_err() {
                    // A log without a writer gets nothing more.
                    std::future::pending::<()>().await;
                }
            });
        }
        waiting.join_next().await;
    }
}

/// Who follows one log.
#[derive(Clone)]
struct Follower {
    log: Log,
    at: Offset,
    /// Records that stand before those that are wanted.
    skip: u64,
    durable: watch::Receiver<Offset>,
}

/// What was read at once.
#[derive(Default)]
struct Piece {
    lines: Vec<u8>,
    records: u64,
    /// There is more, and the disk does not give it.
    unread: bool,
}

impl Follower {
    /// Begins where `last` records follow, or at the oldest. Blocks for the disk.
    fn begin(log: Log, last: u64) -> io::Result<Self> {
        let (oldest, end) = (log.partition.oldest(), log.partition.next());
        let mut back = last;
        // Offsets that were burned are no events: there may have to be more of them than events are wanted.
        let (at, held) = loop {
            let at = back_from(end, back).max(oldest);
            let held = match at < end {
                true => log.partition.events_from(at).map_err(refused)?,
                false => 0,
            };
            if held >= last || at == oldest {
                break (at, held);
            }
            back = back.saturating_mul(4);
        };
        Ok(Self {
            durable: log.partition.durable(),
            log,
            at,
            skip: held.saturating_sub(last),
        })
    }

    /// What follows, up to `left` records; nothing if there is nothing. Blocks for the disk.
    fn read(&mut self, format: Format, left: Option<u64>) -> io::Result<Piece> {
        let mut piece = Piece::default();
        self.lead_back(&mut piece.lines, format);
        if self.at >= self.log.partition.next() {
            return Ok(piece);
        }
        let chunk = match self.log.partition.read(self.at, PIECE_BYTES) {
            Err(ReadError::Unread { .. }) => {
                piece.unread = true;
                return Ok(piece);
            }
            chunk => chunk.map_err(refused)?,
        };
        let log = self.log.partition.log_id();
        for item in items_of(&self.log.origin, log, self.log.epoch, self.at, &chunk) {
            if left.is_some_and(|left| piece.records >= left) {
                break;
            }
            match &item {
                Item::Record(_) if self.skip > 0 => self.skip -= 1,
                // What was burned before the first event that is shown is of no interest.
                Item::Gap(_) if self.skip > 0 => {}
                item => {
                    lines::write(&mut piece.lines, format, item);
                    piece.records += u64::from(matches!(item, Item::Record(_)));
                }
            }
        }
        self.at = chunk.next.max(self.at);
        Ok(piece)
    }

    /// Who is too far behind goes on with the newest.
    fn lead_back(&mut self, lines: &mut Vec<u8>, format: Format) {
        let partition = &self.log.partition;
        let end = partition.next();
        let between = |from: Offset, to: Offset| {
            partition
                .records_between(from, to)
                .unwrap_or(to.since(from))
        };
        if self.at >= end || between(self.at, end).saturating_sub(self.skip) <= BEHIND_MAX {
            return;
        }
        let on = back_from(end, BEHIND_AGAIN).max(self.at);
        let not_shown = between(self.at, on).saturating_sub(self.skip);
        (self.at, self.skip) = (on, 0);
        let origin = &self.log.origin;
        let line = match format {
            Format::Json => serde_json::json!({
                "stream": origin.stream,
                "gateway": origin.gateway,
                "partition": origin.partition,
                "not_shown": not_shown,
            })
            .to_string(),
            _ => format!("… {not_shown} not shown"),
        };
        lines.extend_from_slice(line.as_bytes());
        lines.push(b'\n');
    }
}

fn back_from(end: Offset, offsets: u64) -> Offset {
    Offset::new(end.get().saturating_sub(offsets))
}

fn refused(error: ReadError) -> io::Error {
    match error {
        ReadError::Io(error) => error,
        beyond => io::Error::other(beyond),
    }
}

/// Behind the last piece, when the limit is reached.
pub(crate) const END: &str = "end\n";
/// What is read and shown at once.
const PIECE_BYTES: usize = 64 << 10;
/// Who is so many events behind is led back …
const BEHIND_MAX: u64 = 10_000;
/// … to so many.
const BEHIND_AGAIN: u64 = 1_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sedge_store::{Batch, NoOwner, PartitionOptions, system_clock};

    use super::*;
    use crate::shutdown;

    struct Given {
        _dir: tempfile::TempDir,
        log: Log,
    }

    impl Given {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let log = Self::open(dir.path());
            Self { _dir: dir, log }
        }

        fn open(dir: &std::path::Path) -> Log {
            let options = PartitionOptions {
                capacity_bytes: 8 << 20,
                linger: Duration::ZERO,
                ..PartitionOptions::default()
            };
            let (partition, _) =
                Partition::open(dir, options, Box::new(NoOwner), system_clock()).unwrap();
            Log::new("gw-1", "telemetry", 0, 0, partition)
        }

        async fn put(&self, numbers: std::ops::Range<u64>) {
            let mut producer = self.log.partition.producer();
            for from in numbers.clone().step_by(1000) {
                let mut batch = Batch::new();
                for number in from..numbers.end.min(from + 1000) {
                    let value = number.to_string();
                    batch.push(|unit| unit.record(None, None, &[], value.as_bytes()), b"");
                }
                let ticket = producer.stage(&batch).unwrap();
                let mut settled = self.log.partition.settled();
                settled.wait_for(|at| *at >= ticket).await.unwrap();
            }
        }

        /// What is shown of it, as the values of the records and the whole of other lines.
        async fn shown(&self, last: u32, limit: u64) -> Vec<String> {
            let request = Request {
                stream: "telemetry".into(),
                last,
                limit: Some(limit),
                json: false,
            };
            let (_trigger, shutdown) = shutdown::pair();
            let (_held, mut from) = tokio::io::duplex(1);
            let mut to = Vec::new();
            let logs = std::slice::from_ref(&self.log);
            serve(&request, logs, &mut from, &mut to, shutdown)
                .await
                .unwrap();
            values(&unpacked(&to))
        }
    }

    /// The lines of all pieces, of which the last one is at the limit.
    fn unpacked(mut pieces: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        while pieces != END.as_bytes() {
            let end = pieces.iter().position(|byte| *byte == b'\n').unwrap();
            let len = std::str::from_utf8(&pieces[..end]).unwrap();
            let (piece, rest) = pieces[end + 1..].split_at(len.parse().unwrap());
            lines.extend_from_slice(piece);
            pieces = rest;
        }
        lines
    }

    fn values(lines: &[u8]) -> Vec<String> {
        let lines = std::str::from_utf8(lines).unwrap().lines();
        let value = |line: &str| match line.starts_with('…') || line.contains("GAP") {
            true => line.to_owned(),
            false => line.rsplit(' ').next().unwrap().to_owned(),
        };
        lines.map(value).collect()
    }

    #[tokio::test]
    async fn the_last_events_are_shown_and_then_those_that_come() {
        let given = Given::new();
        given.put(0..100).await;
        assert_eq!(given.shown(3, 2).await, ["97", "98"]);
        let (shown, ()) = tokio::join!(given.shown(2, 4), given.put(100..102));
        // What came before it looked is among the last two.
        let first: u64 = shown[0].parse().unwrap();
        assert!((98..=100).contains(&first), "{shown:?}");
        let (shown, ()) = tokio::join!(given.shown(200, 105), async {
            given.put(102..200).await;
        });
        let numbers: Vec<String> = (0..105).map(|number: u64| number.to_string()).collect();
        assert_eq!(shown, numbers);
    }

    /// A kill burns 65,536 offsets, which are no events.
    #[tokio::test]
    async fn the_last_events_are_found_behind_burned_offsets() {
        let dir = tempfile::tempdir().unwrap();
        let mut given = Given {
            log: Given::open(dir.path()),
            _dir: dir,
        };
        given.put(0..5).await;
        let path = given._dir.path().to_owned();
        given.log = {
            // The last handle goes: that is what a kill would do.
            let other = Given::new();
            drop(std::mem::replace(&mut given.log, other.log));
            Given::open(&path)
        };
        given.put(5..6).await;
        assert!(
            given.log.partition.next().get() > 1000,
            "offsets are burned"
        );
        let shown = given.shown(3, 3).await;
        assert_eq!((&shown[0], &shown[1]), (&"3".into(), &"4".into()));
        assert!(shown[2].contains("GAP burned, 0 lost"), "{shown:?}");
        assert_eq!(shown[3], "5");
    }

    /// Who looks has not read a line while 20,000 events came: it is shown the newest, and is told of the others.
    #[tokio::test]
    async fn a_reader_that_falls_behind_is_led_back_and_told_how_many_it_missed() {
        let given = Given::new();
        given.put(0..1).await;
        let mut follower = Follower::begin(given.log.clone(), 1).unwrap();
        assert_eq!(follower.read(Format::Text, None).unwrap().records, 1);
        given.put(1..20_001).await;
        let mut lines = Vec::new();
        let mut records = 0;
        while follower.at < given.log.partition.next() {
            let piece = follower.read(Format::Text, None).unwrap();
            lines.extend(piece.lines);
            records += piece.records;
        }
        let values = values(&lines);
        assert_eq!((records, &*values[0]), (1000, "… 19000 not shown"));
        assert_eq!((&*values[1], &**values.last().unwrap()), ("19001", "20000"));
    }

    #[tokio::test]
    async fn what_is_not_shown_is_told_in_json_too() {
        let given = Given::new();
        given.put(0..10_002).await;
        let mut follower = Follower::begin(given.log.clone(), 20_000).unwrap();
        let piece = follower.read(Format::Json, Some(1)).unwrap();
        let lines: Vec<serde_json::Value> = String::from_utf8(piece.lines)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["not_shown"], 9_002);
        assert_eq!(lines[1]["value"], 9_002);
    }

    #[tokio::test]
    async fn it_ends_when_the_reader_has_gone_and_when_the_agent_stops() {
        let given = Given::new();
        let request = Request {
            stream: "telemetry".into(),
            last: 0,
            limit: None,
            json: true,
        };
        let logs = std::slice::from_ref(&given.log);
        let (held, mut from) = tokio::io::duplex(1);
        let (trigger, shutdown) = shutdown::pair();
        drop(held);
        serve(&request, logs, &mut from, &mut Vec::new(), shutdown.clone())
            .await
            .unwrap();
        let (_held, mut from) = tokio::io::duplex(1);
        trigger.stop();
        serve(&request, logs, &mut from, &mut Vec::new(), shutdown)
            .await
            .unwrap();
    }
}
