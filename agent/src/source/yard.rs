//! For tests of sources: a stream `telemetry` and the dead letters on real logs in a temporary directory, and what is in them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sedge_config::checked::DEAD_LETTER;
use sedge_core::entry::Entry;
use sedge_core::frame::Frame;
use sedge_store::{Partition, PartitionOptions, system_clock};

use crate::ingest::{Ingest, Lane, StreamHandle, unit_bytes_max};
use crate::owner::Claims;
use crate::shutdown::{self, Shutdown, Trigger};
use crate::telemetry::{Counts, Source, Telemetry};

/// A place where sources can be tried.
pub(crate) struct Yard {
    pub(crate) ingest: Ingest,
    pub(crate) telemetry: Arc<Source>,
    trigger: Option<Trigger>,
    shutdown: Shutdown,
    dir: tempfile::TempDir,
}

/// A record as a consumer would see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When it happened, in microseconds since 1970.
    pub(crate) time: Option<i64>,
    pub(crate) key: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) value: Vec<u8>,
}

impl Yard {
    pub(crate) fn new() -> Self {
        Self::with_memory(MEMORY_BYTES)
    }

    pub(crate) fn with_memory(memory_bytes: u64) -> Self {
        Self::on(dir(), memory_bytes, LINGER)
    }

    /// A lone message waits so long before it is committed.
    pub(crate) fn lingering(linger: Duration) -> Self {
        Self::on(dir(), MEMORY_BYTES, linger)
    }

    fn on(dir: tempfile::TempDir, memory_bytes: u64, linger: Duration) -> Self {
        let streams = ["telemetry", DEAD_LETTER]
            .map(|name| (name.to_owned(), stream(&dir.path().join(name), linger)));
        let telemetry = Telemetry::new().source("direct", "mqtt-listen", "telemetry");
        let (trigger, shutdown) = shutdown::pair();
        let ingest = Ingest::new(streams.into(), RECORD_BYTES_MAX, memory_bytes);
        Self {
            ingest,
            telemetry,
            trigger: Some(trigger),
            shutdown,
            dir,
        }
    }

    /// What a kill and a start leave. Sources must have been stopped.
    pub(crate) fn restarted(self) -> Self {
        let Self { ingest, dir, .. } = self;
        drop(ingest);
        Self::on(dir, MEMORY_BYTES, LINGER)
    }

    pub(crate) fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Asks the sources to stop.
    pub(crate) fn stop(&mut self) {
        self.trigger = None;
    }

    pub(crate) fn counts(&self) -> Counts {
        self.telemetry.counts()
    }

    /// All durable records of `telemetry`.
    pub(crate) fn records(&self) -> Vec<Seen> {
        self.all("telemetry")
    }

    pub(crate) fn values(&self) -> Vec<String> {
        self.records()
            .into_iter()
            .map(|seen| String::from_utf8_lossy(&seen.value).into_owned())
            .collect()
    }

    pub(crate) fn dead_letters(&self) -> Vec<Seen> {
        self.all(DEAD_LETTER)
    }

    /// Records lost before this log, as its notices say.
    pub(crate) fn lost(&self) -> u64 {
        let mut lost = 0;
        self.each("telemetry", |entry| {
            if let Entry::Notice(notice) = entry {
                lost += notice.lost;
            }
        });
        lost
    }

    fn all(&self, stream: &str) -> Vec<Seen> {
        let mut seen = Vec::new();
        self.walk(stream, |frame, entry| {
            let time = entry.time().map(|delta| frame.header.time.get() + delta);
            seen.extend(Seen::of(entry, time));
        });
        seen
    }

    /// Shows all durable entries of a stream.
    pub(crate) fn each(&self, stream: &str, mut see: impl FnMut(&Entry<'_>)) {
        self.walk(stream, |_, entry| see(entry));
    }

    fn walk(&self, stream: &str, mut see: impl FnMut(&Frame<'_>, &Entry<'_>)) {
        let partition = self.ingest.stream(stream).expect("a stream").lanes()[0].partition();
        let mut from = partition.oldest();
        while from < partition.next() {
            let chunk = partition.read(from, 1 << 20).expect("readable");
            let mut frames = &chunk.frames[..];
            while !frames.is_empty() {
                let (frame, length) =
                    Frame::parse(frames, &partition.log_id(), None).expect("a frame");
                frame.entries().for_each(|(_, entry)| see(&frame, &entry));
                frames = &frames[length..];
            }
            from = chunk.next;
        }
    }
}

impl Seen {
    fn of(entry: &Entry<'_>, time: Option<i64>) -> Option<Self> {
        let Entry::Record(record) = entry else {
            return None;
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(Self {
            time,
            key: text(record.key.unwrap_or_default()),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), text(value)))
                .collect(),
            value: record.value.to_vec(),
        })
    }
}

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

fn stream(dir: &Path, linger: Duration) -> StreamHandle {
    std::fs::create_dir_all(dir).expect("a directory");
    let (claims, owner) = Claims::new();
    let options = PartitionOptions {
        capacity_bytes: 16 << 20,
        linger,
        record_bytes_max: unit_bytes_max(RECORD_BYTES_MAX),
        ..PartitionOptions::default()
    };
    let (partition, _) =
        Partition::open(dir, options, Box::new(owner), system_clock()).expect("a log");
    StreamHandle::new(vec![Lane::new(partition, claims)])
}

/// Returns as soon as `condition` holds.
///
/// # Panics
/// If that takes ten seconds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within ten seconds: {what}");
}

const LINGER: Duration = Duration::from_millis(1);
const MEMORY_BYTES: u64 = 16 << 20;
/// Small, so that oversize is cheap.
pub(crate) const RECORD_BYTES_MAX: u32 = 16 * 1024;
