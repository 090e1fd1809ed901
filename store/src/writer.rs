//! The thread that writes a partition: takes a group, commits it with one write and one sync, tells who waits.
//!
//! It is the only one that touches the log machine. Nothing is told before the sync returned; a failed sync ends
//! everything, it is never tried again (docs/spec/log.md, section 7).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::watch;
use sedge_core::Offset;
use sedge_core::frame::Control;
use sedge_core::ledger;
use sedge_core::planted::Fault;
use tokio::time::Instant;

use crate::clock::Timekeeping;
use crate::group::{Group, Limits};
use crate::index::Index;
use crate::owner::Owner;
use crate::pace::WriteBudget;
use crate::partition::PartitionOptions;
use crate::pulse::Pulse;
use crate::queue::{Errand, Queue, Ticket, Work};
use crate::ring::Ring;
use crate::stats::Counters;
use crate::unsent::Unsent;

pub(crate) struct Writer {
    pub(crate) ring: Ring,
    pub(crate) owner: Box<dyn Owner>,
    pub(crate) limits: Limits,
    pub(crate) queue: Arc<Queue>,
    pub(crate) index: Arc<Index>,
    pub(crate) unsent: Arc<Unsent>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) settled: watch::Sender<Ticket>,
    pub(crate) durable: watch::Sender<Offset>,
    pub(crate) pulse: Pulse,
    pub(crate) on_fatal: Arc<dyn Fn(&str) + Send + Sync>,
    pub(crate) group: Group,
    /// A group that the full log did not take.
    pub(crate) held_back: Option<Ticket>,
    /// There was no segment to recycle, and no errand has come since that could have changed it.
    pub(crate) in_vain: bool,
    pub(crate) checkpoint: Vec<u8>,
    pub(crate) ledger: LedgerFrames,
    pub(crate) retention: Option<Retention>,
    /// What is written is paid from it.
    pub(crate) purse: Option<Arc<WriteBudget>>,
    /// Bytes that were.
    pub(crate) paid: u64,
    /// What it waits for, when it has been told to come again.
    pub(crate) until: Option<Instant>,
}

/// When the ledger with its cursors was last written, and whether it has changed since.
#[derive(Debug)]
pub(crate) struct LedgerFrames {
    pub(crate) written: Instant,
    pub(crate) changed: bool,
}

/// How old records may become, and when it is looked for older ones next.
pub(crate) struct Retention {
    age_max: Duration,
    time: Arc<dyn Timekeeping>,
    look_at: Instant,
}

impl Retention {
    /// None if records may become as old as they like.
    pub(crate) fn of(options: &PartitionOptions) -> Option<Self> {
        Some(Self {
            age_max: options.retention?,
            time: options.time.clone()?,
            look_at: Instant::now(),
        })
    }

    /// Whether it is time to look.
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.look_at <= now;
        if is_due {
            self.look_at = now + (self.age_max / 16).min(RETENTION_LOOK_MAX);
        }
        is_due
    }
}

/// How a round of the writer ended.
pub(crate) enum Round {
    Again,
    /// Nothing is to be done before this, unless the queue's bell rings. Only in a simulation.
    Later(Instant),
    Over,
}

impl Writer {
    /// Works until it is told to stop or the disk fails.
    pub(crate) fn run(mut self) {
        while let Round::Again = self.step() {}
    }

    /// Does what is to be done next, and takes note of how it ends.
    pub(crate) fn step(&mut self) -> Round {
        let round = self.round().unwrap_or_else(|error| {
            self.fail(&error);
            Round::Over
        });
        if let Round::Over = round {
            self.queue.poison();
            self.pulse.rest();
        }
        round
    }

    fn round(&mut self) -> io::Result<Round> {
        let mut errands = Vec::new();
        let until = self.until.take().unwrap_or_else(|| self.wake_at());
        self.pulse.next_by(until);
        let work = match self.held_back {
            Some(_) => self.queue.wait_for_errand(until, &mut errands),
            None => self.queue.next_work(&mut self.group, until, &mut errands),
        };
        self.pulse.works();
        self.pay();
        let last = self.run_errands(&errands);
        match (work, self.held_back) {
            (Work::Commit(ticket), _) | (Work::Idle, Some(ticket)) => self.commit(ticket)?,
            (Work::Idle, None) => self.idle()?,
            (Work::Later(wake), _) => {
                self.until = Some(until);
                return Ok(Round::Later(wake));
            }
        }
        match last {
            Some(last) => self.finish(last).map(|()| Round::Over),
            None => self
                .maintain()
                .and_then(|()| self.expire())
                .map(|()| Round::Again),
        }
    }

    fn run_errands(&mut self, errands: &[Errand]) -> Option<Errand> {
        let mut last = None;
        self.in_vain &= errands.is_empty();
        for &errand in errands {
            match errand {
                Errand::SetCursor { uplink, next } => {
                    let known = self.ring.ledger().cursor(uplink).map(|c| c.next);
                    self.ledger.changed |= known != Some(next);
                    if self.ring.set_cursor(uplink, next).is_err() {
                        tracing::warn!(uplink, "no place for a cursor of this uplink");
                    }
                }
                Errand::PassCursor {
                    uplink,
                    from,
                    next,
                    records,
                } => {
                    self.ledger.changed = true;
                    self.ring.pass_cursor(uplink, from, next, records);
                }
                Errand::DropCursor { uplink } => {
                    self.ledger.changed = true;
                    self.ring.drop_cursor(uplink);
                }
                Errand::End | Errand::Close | Errand::Abandon => last = Some(errand),
            }
        }
        last
    }

    fn commit(&mut self, ticket: Ticket) -> io::Result<()> {
        let entries = self.group.next().since(self.group.first());
        if self.ledger.is_due(LEDGER_INTERVAL) && self.ledger_may_ride() {
            self.put_ledger();
        }
        let started = Instant::now();
        if Fault::AckBeforeCommit.is_planted() {
            self.settled.send_replace(ticket);
        }
        if !self.commit_frames(entries)? {
            self.held_back = Some(ticket);
            return Ok(());
        }
        let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters
            .committed(entries, self.group.frames().len(), took);
        self.group.tell(&mut *self.owner);
        self.durable.send_replace(self.group.next());
        self.settled.send_replace(ticket);
        self.held_back = None;
        Ok(())
    }

    /// What the owner needs when a segment is opened now.
    fn take_checkpoint(&mut self) {
        self.checkpoint.clear();
        let most = self.ring.geometry().checkpoint_bytes_max();
        self.owner.checkpoint(&mut self.checkpoint, most);
    }

    /// Writes and syncs the frames of the group. `false`: the log is full and may not evict.
    fn commit_frames(&mut self, span: u64) -> io::Result<bool> {
        self.checkpoint.clear();
        if self.ring.would_roll(self.group.frames().len()) {
            self.take_checkpoint();
        }
        self.unsent.keep(|| self.index.given_to());
        let now = self.queue.now();
        if !self
            .ring
            .commit(self.group.frames(), span, &self.checkpoint, now)?
        {
            self.counters.set_full(true);
            self.in_vain = true;
            return Ok(false);
        }
        self.counters.set_full(false);
        self.index.committed(
            self.ring.next(),
            self.ring.head_bytes(),
            self.ring.opened(),
            self.ring.ledger(),
        );
        Ok(true)
    }

    /// Nothing was staged for a while: what rides along with commits otherwise gets one of its own.
    fn idle(&mut self) -> io::Result<()> {
        if self.ledger.is_due(LEDGER_INTERVAL_IDLE) && !self.ring.is_ended() {
            self.ring.save_ledger(self.queue.now())?;
            self.ledger = LedgerFrames {
                written: Instant::now(),
                changed: false,
            };
            let (durable, head_bytes) = (self.ring.durable(), self.ring.head_bytes());
            self.index
                .committed(durable, head_bytes, None, self.ring.ledger());
            self.durable.send_replace(durable);
        }
        Ok(())
    }

    /// A ledger that rides along is made before the commit. What the commit itself would change in it, by burning or by
    /// recycling, it could not know, and standing last it would be believed.
    fn ledger_may_ride(&self) -> bool {
        let burns = self.ring.will_burn() && !Fault::LedgerRidesWithBurn.is_planted();
        !burns && !self.ring.needs_maintain()
    }

    fn put_ledger(&mut self) {
        let mut bytes = [0; ledger::ENCODED_LEN_MAX];
        let len = self
            .ring
            .ledger()
            .emit(&mut bytes)
            .expect("the largest ledger fits");
        self.group
            .put_control(&self.limits, Control::Ledger(&bytes[..len]), len);
        self.ledger = LedgerFrames {
            written: Instant::now(),
            changed: false,
        };
    }
}

impl Writer {
    /// Gets a segment ready for the next roll, when the one just opened has settled.
    fn maintain(&mut self) -> io::Result<()> {
        if self.ring.needs_maintain() && self.ring.is_time_to_maintain() {
            self.recycle()?;
        }
        Ok(())
    }

    /// Pays for what was written since the last time.
    fn pay(&mut self) {
        if let Some(purse) = &self.purse {
            let written = self.ring.written().bytes();
            purse.spend(written - self.paid);
            self.paid = written;
        }
    }

    /// Lets go of segments in which all is too old.
    fn expire(&mut self) -> io::Result<()> {
        let Some(retention) = self.retention.as_mut().filter(|_| !self.ring.is_ended()) else {
            return Ok(());
        };
        if !retention.is_due() {
            return Ok(());
        }
        let (age_max, time) = (retention.age_max, Arc::clone(&retention.time));
        // What is in the oldest segment came before the second was opened.
        while let Some(opened) = self.index.held().get(1).map(|second| second.base_time)
            && time.age(opened).is_some_and(|age| age > age_max)
            && self.ring.expire(opened, self.queue.now())?
        {
            self.in_vain = false;
            self.recycled();
        }
        Ok(())
    }

    fn recycle(&mut self) -> io::Result<()> {
        self.in_vain = !self.ring.maintain(self.queue.now())?;
        if !self.in_vain {
            self.recycled();
        }
        Ok(())
    }

    fn recycled(&mut self) {
        self.counters.recycled();
        // The ledger that says so may have come behind a RESUME frame.
        let durable = self.ring.durable();
        self.index
            .recycled(durable, self.ring.head_bytes(), self.ring.ledger());
        self.durable.send_replace(durable);
    }

    fn finish(&mut self, last: Errand) -> io::Result<()> {
        let now = self.queue.now();
        match last {
            Errand::Close => self.ring.close(now),
            Errand::End => {
                self.take_checkpoint();
                self.ring.end(&self.checkpoint, now)?;
                // Offsets may have been burned before it, and they are part of the log.
                let durable = self.ring.durable();
                let (head_bytes, opened) = (self.ring.head_bytes(), self.ring.opened());
                self.index
                    .committed(durable, head_bytes, opened, self.ring.ledger());
                if self.ring.is_ended() {
                    self.index.ended();
                }
                self.durable.send_replace(durable);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Nothing is acknowledged any more; who waits learns that it is over when the agent ends.
    fn fail(&mut self, error: &io::Error) {
        self.queue.poison();
        self.counters.set_failed();
        self.ring.mark_sync_failed();
        let what = format!("{}: {error}", self.ring.dir().display());
        tracing::error!(error = %what, "the disk did not keep what was written to it");
        (self.on_fatal)(&what);
    }

    fn wake_at(&self) -> Instant {
        // In a log that has ended nothing expires.
        let retention = self.retention.as_ref().filter(|_| !self.ring.is_ended());
        let look_at = retention.map(|retention| retention.look_at);
        let work_at = self.work_at();
        look_at.map_or(work_at, |look_at| look_at.min(work_at))
    }

    fn work_at(&self) -> Instant {
        let now = Instant::now();
        if self.ring.needs_maintain() {
            return now
                + if self.in_vain {
                    FULL_POLL
                } else {
                    MAINTAIN_POLL
                };
        }
        if self.ledger.changed && !self.ring.is_ended() {
            (self.ledger.written + LEDGER_INTERVAL_IDLE).max(now)
        } else {
            now + LONG
        }
    }
}

impl Drop for Writer {
    /// A writer that breaks a promise of its own must not leave an agent behind that waits for ever.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.queue.poison();
            self.counters.set_failed();
            (self.on_fatal)("the writer of a partition panicked");
        }
    }
}

impl LedgerFrames {
    fn is_due(&self, interval: Duration) -> bool {
        self.changed && self.written.elapsed() >= interval
    }
}

/// A cursor is at most that much older on the disk than in memory while events come in …
const LEDGER_INTERVAL: Duration = if cfg!(test) {
    Duration::ZERO
} else {
    Duration::from_secs(1)
};
/// … and that much while none do.
const LEDGER_INTERVAL_IDLE: Duration = Duration::from_secs(10);
const MAINTAIN_POLL: Duration = Duration::from_millis(20);
/// A log that is full goes on by errand; a disk that is, without one.
const FULL_POLL: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(10);
/// What is too old stays for so much longer, at most.
const RETENTION_LOOK_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::sync::mpsc;
    use std::time::Duration;

    use crate::media::{FAIL_SYNC, SYNC_FAILED};
    use sedge_core::Offset;

    use crate::{
        Batch, NoOwner, Opened, Owner, Partition, PartitionOptions, StageError, Ticket,
        system_clock,
    };

    /// An owner that breaks its promise.
    struct Broken;

    impl Owner for Broken {
        fn restore(&mut self, _: &[u8]) {}
        fn apply(&mut self, _: &[u8], _: &[u8], _: Offset, _: Ticket) {
            panic!("as planned");
        }
        fn note(&mut self, _: &[u8]) {}
        fn checkpoint(&mut self, _: &mut Vec<u8>, _: usize) {}
    }

    /// An owner that goes on only when it is let go, as if the disk hung.
    struct Slow {
        came: mpsc::Sender<()>,
        go: mpsc::Receiver<()>,
    }

    impl Owner for Slow {
        fn restore(&mut self, _: &[u8]) {}
        fn apply(&mut self, _: &[u8], _: &[u8], _: Offset, _: Ticket) {
            self.came.send(()).unwrap();
            self.go.recv().unwrap();
        }
        fn note(&mut self, _: &[u8]) {}
        fn checkpoint(&mut self, _: &mut Vec<u8>, _: usize) {}
    }

    struct Given {
        dir: tempfile::TempDir,
        fatal: (mpsc::Sender<String>, mpsc::Receiver<String>),
    }

    impl Given {
        fn new() -> Self {
            Self {
                dir: tempfile::tempdir().unwrap(),
                fatal: mpsc::channel(),
            }
        }

        fn open(&self) -> (Partition, Opened) {
            self.open_with(Box::new(NoOwner))
        }

        fn open_with(&self, owner: Box<dyn Owner>) -> (Partition, Opened) {
            let fatal = self.fatal.0.clone();
            let options = PartitionOptions {
                capacity_bytes: 1 << 20,
                linger: Duration::ZERO,
                on_fatal: Arc::new(move |what| fatal.send(what.into()).unwrap()),
                ..PartitionOptions::default()
            };
            Partition::open(self.dir.path(), options, owner, system_clock()).unwrap()
        }
    }

    fn stage(partition: &Partition) -> Result<Ticket, StageError> {
        let mut batch = Batch::new();
        batch.push(|unit| unit.record(None, None, &[], b"value"), b"");
        partition.producer().stage(&batch)
    }

    fn settle(partition: &Partition) {
        let ticket = stage(partition).unwrap();
        // The spare is made ready behind the first commit, with a sync of its own.
        while *partition.settled().borrow() < ticket || partition.stats().recycled == 0 {
            std::thread::yield_now();
        }
    }

    /// The disk refuses one sync. Whoever waits is not told that all is well, whoever comes later is refused, and the agent
    /// is told to end. The next life does not trust the tail where it is: it writes it anew.
    #[test]
    fn a_failed_sync_ends_the_writer_before_anything_is_acknowledged() {
        let given = Given::new();
        let (partition, _) = given.open();
        settle(&partition);
        let (settled, next) = (*partition.settled().borrow(), partition.next());
        fs::write(given.dir.path().join(FAIL_SYNC), "").unwrap();
        stage(&partition).unwrap();
        given.fatal.1.recv().unwrap();
        assert_eq!(
            (*partition.settled().borrow(), partition.next()),
            (settled, next)
        );
        assert_eq!(stage(&partition), Err(StageError::Closed));
        assert!(partition.stats().failed);
        drop(partition);

        assert_eq!(
            fs::read_to_string(given.dir.path().join(SYNC_FAILED)).unwrap(),
            "seg-00000.log\n"
        );
        let (partition, opened) = given.open();
        assert_eq!(opened.suspects, [0]);
        assert!(!given.dir.path().join(SYNC_FAILED).exists());
        assert!(partition.next() >= next);
        let ticket = stage(&partition).unwrap();
        while *partition.settled().borrow() < ticket {
            std::thread::yield_now();
        }
    }

    /// In peace the writer promises a sign within seconds and gives it; in the middle of a commit that does not end it is later each moment.
    #[test]
    fn a_commit_that_hangs_is_seen_from_outside() {
        let given = Given::new();
        let ((came, comes), (goes, go)) = (mpsc::channel(), mpsc::channel());
        let (partition, _) = given.open_with(Box::new(Slow { came, go }));
        let pulse = partition.pulse();
        let mut batch = Batch::new();
        batch.push(|unit| unit.record(None, None, &[], b"value"), b"item");
        let ticket = partition.producer().stage(&batch).unwrap();
        comes.recv().unwrap();
        let hangs = pulse.late();
        while pulse.late() <= hangs {
            std::thread::yield_now();
        }
        goes.send(()).unwrap();
        while *partition.settled().borrow() < ticket || pulse.late() > Duration::ZERO {
            std::thread::yield_now();
        }
        partition.close();
        assert_eq!(pulse.late(), Duration::ZERO);
    }

    #[test]
    fn a_writer_that_panics_ends_the_agent_and_settles_nothing() {
        let given = Given::new();
        let (partition, _) = given.open_with(Box::new(Broken));
        let mut batch = Batch::new();
        batch.push(|unit| unit.record(None, None, &[], b"value"), b"item");
        partition.producer().stage(&batch).unwrap();
        given.fatal.1.recv().unwrap();
        assert_eq!(*partition.settled().borrow(), Ticket::RECOVERED);
        assert_eq!(stage(&partition), Err(StageError::Closed));
    }

    /// After a kill the first commit burns offsets. The cursor that came before it rides along with the second.
    #[test]
    fn a_cursor_rides_along_and_the_sum_stays_right_after_a_kill() {
        let given = Given::new();
        settle(&given.open().0);
        for life in 0..3 {
            let (partition, _) = given.open();
            partition.set_cursor(1, Offset::new(life));
            for _ in 0..3 {
                let ticket = stage(&partition).unwrap();
                while *partition.settled().borrow() < ticket {
                    std::thread::yield_now();
                }
            }
            drop(partition);
            let log = crate::inspect(given.dir.path()).unwrap().log.unwrap();
            assert!(log.balances, "{log:?}");
            assert_eq!(log.ledger.cursors[0].next, Offset::new(life));
        }
    }
}
