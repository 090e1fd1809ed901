//! An origin log on files, with the thread that writes it: what sources stage into and uplinks read from.
//!
//! A partition is a handle: cheap to clone, and everything on it may be called from any thread. `writer.rs` is the other side.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::watch;
use sedge_core::ledger::{Cursor, Ledger};
use sedge_core::log::WhenFull;
use sedge_core::{LogId, Micros, Offset};

use crate::clock::{Clock, Timekeeping};
use crate::group::{FRAME_BYTES_WANTED, FRAME_OVERHEAD_MAX};
use crate::index::Index;
use crate::open;
use crate::owner::Owner;
use crate::pace::{Pace, WriteBudget};
use crate::pulse::Pulse;
use crate::queue::{Errand, Producer, Queue, Ticket};
use crate::read::{Chunk, ReadError, Reading};
use crate::ring::{OpenError, Opened};
use crate::stats::{Counters, Stats};
use crate::unsent::Unsent;
use crate::work::Worker;

/// An origin log and its writer. The thread ends with [`Partition::close`] or with the last handle; the latter is what
/// a kill would do.
#[derive(Clone)]
pub struct Partition(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) queue: Arc<Queue>,
    pub(crate) reading: Reading,
    pub(crate) index: Arc<Index>,
    pub(crate) unsent: Arc<Unsent>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) log_id: LogId,
    /// It was there when it was opened, or made then.
    pub(crate) made: bool,
    pub(crate) settled: watch::Receiver<Ticket>,
    pub(crate) durable: watch::Receiver<Offset>,
    pub(crate) pulse: Pulse,
    pub(crate) worker: Worker,
}

/// How a partition is to be.
#[derive(Clone)]
pub struct PartitionOptions {
    /// Bytes on the disk, fixed.
    pub capacity_bytes: u64,
    /// What gives way when they are full.
    pub when_full: WhenFull,
    /// A log that is larger than its capacity is made smaller when it is opened: its oldest records go, whether or not these
    /// uplinks have them. Without this it stays as large as it was.
    pub shrink_for: Option<Vec<u32>>,
    /// Records older than this go, whether or not the uplinks have them: a segment at a time, and not from the one that is written. Needs
    /// [`time`](Self::time) to tell how old they are.
    pub retention: Option<Duration>,
    /// How long a commit waits for company.
    pub linger: Duration,
    /// … and how long it may, when the budget is used up.
    pub at_risk_max: Duration,
    /// What all logs that share it should write in a day.
    pub write_budget: Option<Arc<WriteBudget>>,
    /// The largest unit: entries and annotation item, encoded.
    pub record_bytes_max: usize,
    /// The most that waits to be committed, in bytes; as much again is being committed.
    pub staged_bytes_max: usize,
    /// What is known of time beside what the clock says.
    pub time: Option<Arc<dyn Timekeeping>>,
    /// Called once, on the writer's thread, when the disk did not keep what it was given. Nothing is acknowledged after it.
    pub on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Default for PartitionOptions {
    fn default() -> Self {
        Self {
            capacity_bytes: 256 << 20,
            when_full: WhenFull::EvictOldest,
            shrink_for: None,
            retention: None,
            linger: Duration::from_millis(5),
            at_risk_max: Duration::from_secs(1),
            write_budget: None,
            record_bytes_max: 256 << 10,
            staged_bytes_max: 1 << 20,
            time: None,
            on_fatal: Arc::new(|_| {}),
        }
    }
}

impl PartitionOptions {
    pub(crate) fn pace(&self) -> Pace {
        Pace {
            linger: self.linger,
            at_risk_max: self.at_risk_max,
            budget: self.write_budget.clone(),
        }
    }

    /// The largest frame that is made, in bytes: it holds one unit of any allowed size.
    #[must_use]
    pub fn frame_bytes_max(&self) -> u32 {
        let bytes = self.record_bytes_max.max(FRAME_BYTES_WANTED) + FRAME_OVERHEAD_MAX;
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }
}

impl Partition {
    /// Opens the log in `dir`, or makes one there, and starts its writer. What the tail says is durable when this returns.
    ///
    /// # Errors
    /// When the directory cannot be used at all. Damaged content is no error, and a disk that is too full for the log to begin or
    /// go on only means that nothing is taken until it has room: see [`Partition::intake_refused`].
    pub fn open(
        dir: impl Into<PathBuf>,
        options: PartitionOptions,
        owner: Box<dyn Owner>,
        clock: Clock,
    ) -> Result<(Self, Opened), OpenError> {
        open::open(dir.into(), options, owner, clock)
    }

    /// A way to stage events; one for each connection.
    pub fn producer(&self) -> Producer {
        Producer::new(self.0.queue.clone())
    }

    /// The last ticket that is durable, with all before it.
    pub fn settled(&self) -> watch::Receiver<Ticket> {
        self.0.settled.clone()
    }

    /// The offset behind what is durable: readers come this far.
    pub fn durable(&self) -> watch::Receiver<Offset> {
        self.0.durable.clone()
    }

    /// The largest unit that the log takes, in bytes: as its segments are, be they made for smaller ones than [`PartitionOptions::record_bytes_max`].
    pub fn unit_bytes_max(&self) -> usize {
        let frame_bytes_max = self.0.reading.geometry().frame_bytes_max() as usize;
        frame_bytes_max.saturating_sub(FRAME_OVERHEAD_MAX)
    }

    /// Why nothing is taken, while the disk has no room for the log. A producer is told [`StageError::Full`] meanwhile, and woken
    /// when there is room: then this is `None`, for good.
    ///
    /// [`StageError::Full`]: crate::StageError::Full
    pub fn intake_refused(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.0.queue.refused()
    }

    /// Whether the log, with its id, stands on the disk. If not, it is made when there is room.
    pub fn is_made(&self) -> bool {
        self.0.made || self.0.queue.refused().borrow().is_none()
    }

    /// The first offset that is held.
    pub fn oldest(&self) -> Offset {
        self.0.index.oldest()
    }

    /// The offset behind what is durable.
    pub fn next(&self) -> Offset {
        self.0.index.durable()
    }

    /// The log's id.
    pub fn log_id(&self) -> LogId {
        self.0.log_id
    }

    /// Where every offset that is no longer held has gone, and where the uplinks stand.
    pub fn ledger(&self) -> Ledger {
        self.0.index.ledger()
    }

    /// How many records stood from `from` up to `to`, be they held or not; `None` where that is not known any more.
    pub fn records_between(&self, from: Offset, to: Offset) -> Option<u64> {
        self.0.index.records_between(from, to)
    }

    /// Something of the log, or a gap in it, is about to leave for an uplink: before the first time in a life that is written down. Blocks for the disk.
    pub fn begin_giving(&self) {
        self.0.unsent.sends();
    }

    /// What lies below `next` leaves for an uplink.
    pub fn give(&self, next: Offset) {
        self.0.index.give(next);
    }

    /// An uplink is told that there is nothing from `from` up to `to`.
    pub fn tell(&self, from: Offset, to: Offset) {
        self.0.index.tell(from, to);
    }

    /// As [`Partition::records_between`], of what a hub that stands at `to` can have from this log, in this life or before. What it has behind that is another history
    /// of the log: of a disk that was put back since, or of a clone.
    pub fn records_had(&self, from: Offset, to: Offset) -> Option<u64> {
        let end = self.0.index.given_below(to);
        self.records_between(from, end.max(from))
    }

    /// How many records stood right before `at` that a hub which stands there cannot have from this log; none where that is not known.
    pub fn records_never_had(&self, at: Offset) -> u64 {
        let end = self.0.index.given_below(at);
        self.records_between(end, at).unwrap_or(0)
    }

    /// What the partition has done in this life.
    pub fn stats(&self) -> Stats {
        self.0.counters.read(&self.0.queue, &self.0.index)
    }

    /// The signs of life of the writer. One whose work is over rests.
    pub fn pulse(&self) -> Pulse {
        self.0.pulse.clone()
    }

    /// Whole frames from `from` on, about `bytes_max` bytes of them, at least one. Blocks for the disk.
    ///
    /// # Errors
    /// When `from` is not durable yet, or the file system refuses.
    pub fn read(&self, from: Offset, bytes_max: usize) -> Result<Chunk, ReadError> {
        self.0.reading.read(from, bytes_max)
    }

    /// The first offset whose frame was made at `time` or later; the durable end if there is none.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn offset_for_time(&self, time: Micros) -> Result<Offset, ReadError> {
        self.0.reading.offset_for_time(time)
    }

    /// The same for each of `times`, which are in their order. Given up with an error when it is no longer asked.
    ///
    /// # Errors
    /// When the file system refuses, or nobody asks any more.
    pub fn offsets_for_times(
        &self,
        times: &[Micros],
        is_asked: &dyn Fn() -> bool,
    ) -> Result<Vec<Offset>, ReadError> {
        self.0.reading.offsets_for_times(times, is_asked)
    }

    /// Events at or behind `from` that are held: what a reader at `from` has not got. Offsets that were burned are none; unreadable
    /// ones count, as each may have been one. Blocks for the disk, for one segment at most.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn events_from(&self, from: Offset) -> Result<u64, ReadError> {
        Ok(self.0.reading.events_from(from)?)
    }

    /// Bytes of frames that find room before what stands at `from` must give way for them or keep them out: the rest of the head, and
    /// the segments that hold nothing from there on but one, which is always kept ready for the head to go on in.
    pub fn room_before(&self, from: Offset) -> u64 {
        let segment_bytes = u64::from(self.0.reading.geometry().segment_bytes());
        let (needed, head_bytes) = self.0.index.segments_from(from);
        let free = self.stats().segments.saturating_sub(needed as u64 + 1);
        free * segment_bytes + segment_bytes.saturating_sub(head_bytes.into())
    }

    /// Bytes that what stands at `from` and behind it keeps from being used again, and the most that can be kept so, one segment less than there are. The segment in which
    /// `from` stands counts whole.
    pub fn fill_from(&self, from: Offset) -> (u64, u64) {
        let segment_bytes = u64::from(self.0.reading.geometry().segment_bytes());
        let most = self.stats().segments.saturating_sub(1) * segment_bytes;
        let is_behind = from < self.next();
        let kept = most.saturating_sub(self.room_before(from));
        (if is_behind { kept } else { 0 }, most)
    }

    /// The crc of the data frame that ends at `next`; `None` if none held does.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn crc_below(&self, next: Offset) -> Result<Option<u32>, ReadError> {
        self.0.reading.crc_below(next)
    }

    /// An uplink has taken custody of everything below `next`. Durable with some later commit; if it is lost, the uplink
    /// is offered what it has and refuses it.
    pub fn set_cursor(&self, uplink: u32, next: Offset) {
        let placed = self
            .0
            .index
            .change_ledger(|ledger| ledger.set_cursor(uplink, next));
        // A fifth uplink is refused by the configuration; here it would only never release.
        debug_assert_eq!(placed, Ok(()), "a log has a place for each uplink");
        self.0.queue.errand(Errand::SetCursor { uplink, next });
    }

    /// An uplink had everything below `next`, which is held no more: of what was counted as lost to it since its cursor stood at `from`, `records` were not.
    pub fn pass_cursor(&self, uplink: u32, from: Offset, next: Offset, records: u64) {
        let passed = Errand::PassCursor {
            uplink,
            from,
            next,
            records,
        };
        self.0
            .index
            .change_ledger(|ledger| ledger.pass_cursor(uplink, from, next, records));
        self.0.queue.errand(passed);
    }

    /// Forgets an uplink, and says whether there was such a one.
    pub fn drop_cursor(&self, uplink: u32) -> bool {
        self.0.queue.errand(Errand::DropCursor { uplink });
        self.0
            .index
            .change_ledger(|ledger| ledger.drop_cursor(uplink))
    }

    /// Where an uplink stands.
    pub fn cursor(&self, uplink: u32) -> Option<Cursor> {
        self.0.index.ledger().cursor(uplink)
    }

    /// Whether it stands in the log that nothing will follow. Of one that never had a writer in this life nobody knows.
    pub fn is_ended(&self) -> bool {
        self.0.index.is_ended()
    }

    /// Commits what is staged and writes that nothing will follow in this log, if it has room for that. Readers go on.
    pub fn end(&self) {
        self.0.queue.errand(Errand::End);
        self.0.worker.join();
    }

    /// Commits what is staged, writes that this was a clean stop, and ends the writer. Readers go on.
    pub fn close(&self) {
        self.0.queue.errand(Errand::Close);
        self.0.worker.join();
    }

    /// Closes the files that readers hold open, after the directory was removed: else its space would not return.
    pub fn let_go(&self) {
        self.0.reading.let_go();
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.errand(Errand::Abandon);
        self.worker.join();
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition")
            .field("log_id", &self.log_id())
            .field("next", &self.next())
            .finish_non_exhaustive()
    }
}
