//! What a partition has done in this life, for metrics and `sedge status`. Plain counters; nothing decides by them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use serde::Serialize;

use crate::index::Index;
use crate::media::Written;
use crate::queue::Queue;

/// Counts since the partition was opened, and how full it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Commits, each with one write and one sync.
    pub commits: u64,
    /// Entries in them.
    pub entries: u64,
    /// Bytes of frames in them.
    pub bytes: u64,
    /// Time spent in commits, in microseconds.
    pub commit_us: u64,
    /// The longest commit, in microseconds.
    pub commit_us_max: u64,
    /// Segments recycled.
    pub recycled: u64,
    /// Bytes of pages written to the device, syncs of the log's own bookkeeping and of segments that are made ready included.
    pub written_bytes: u64,
    /// Syncs that had something to write.
    pub syncs: u64,
    /// How long a commit waits for company now, in microseconds.
    pub linger_us: u64,
    /// Bytes staged and not yet being committed.
    pub staged_bytes: u64,
    /// Segments that hold something.
    pub segments_held: u64,
    /// Segments there are.
    pub segments: u64,
    /// The log is full and nothing may be evicted: staged events wait.
    pub full: bool,
    /// The disk failed: nothing is taken any more.
    pub failed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    commit_us: AtomicU64,
    commit_us_max: AtomicU64,
    recycled: AtomicU64,
    written: OnceLock<Arc<Written>>,
    segments: AtomicU64,
    full: AtomicBool,
    failed: AtomicBool,
}

impl Counters {
    pub(crate) fn committed(&self, entries: u64, bytes: usize, took_us: u64) {
        self.commits.fetch_add(1, Relaxed);
        self.entries.fetch_add(entries, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
        self.commit_us.fetch_add(took_us, Relaxed);
        self.commit_us_max.fetch_max(took_us, Relaxed);
    }

    pub(crate) fn recycled(&self) {
        self.recycled.fetch_add(1, Relaxed);
    }

    /// The log is open, and counts what it writes there.
    pub(crate) fn set_written(&self, written: Arc<Written>) {
        // A log is opened once.
        self.written.set(written).ok();
    }

    pub(crate) fn set_segments(&self, count: u32) {
        self.segments.store(count.into(), Relaxed);
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Relaxed);
    }

    pub(crate) fn set_failed(&self) {
        self.failed.store(true, Relaxed);
    }

    pub(crate) fn read(&self, queue: &Queue, index: &Index) -> Stats {
        Stats {
            commits: self.commits.load(Relaxed),
            entries: self.entries.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            commit_us: self.commit_us.load(Relaxed),
            commit_us_max: self.commit_us_max.load(Relaxed),
            recycled: self.recycled.load(Relaxed),
            written_bytes: self.written.get().map_or(0, |written| written.bytes()),
            syncs: self.written.get().map_or(0, |written| written.syncs()),
            linger_us: u64::try_from(queue.linger().as_micros()).unwrap_or(u64::MAX),
            staged_bytes: queue.staged_bytes() as u64,
            segments_held: index.held().len() as u64,
            segments: self.segments.load(Relaxed),
            full: self.full.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}
