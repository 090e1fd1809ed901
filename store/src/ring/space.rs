//! How a log lets go of space: it is made smaller, or what expired in an ended one is taken away. What goes is accounted for before its files go.

use std::io;

use sedge_core::Micros;
use sedge_core::frame::{self, Control, Form, Label};
use sedge_core::log::WhenFull;
use sedge_core::planted::Fault;

use super::{OpenError, Opened, Ring, RingOptions, Shrunk, commit_io};
use crate::disk;
use crate::durable_file;
use crate::media::file_name;
use crate::owner::NoOwner;

impl Ring {
    /// Makes a log of more than `wanted` segments one of as many: the oldest go, and what `uplinks` do not have of them is lost.
    /// `None`: it stays as it is, because it is not larger, or cannot be written now.
    ///
    /// A kill at any moment leaves a log: what goes is durably accounted for before the first file goes, and whichever files are
    /// left are a ring.
    pub(crate) fn shrink(
        mut self,
        options: &RingOptions,
        wanted: u32,
        uplinks: &[u32],
        checkpoint: &[u8],
        now: Micros,
    ) -> Result<(Self, Option<(Shrunk, Opened)>), OpenError> {
        let dir = self.dir.clone();
        let io = |source| OpenError::Io {
            dir: dir.clone(),
            source,
        };
        let segments = self.geometry().segment_count();
        let surplus = segments.saturating_sub(wanted);
        if surplus == 0 || self.is_ended() {
            return Ok((self, None));
        }
        let before = self.ledger().clone();
        let ready = self.prepare_to_vacate(uplinks, checkpoint, now);
        if !ready.map_err(io)? {
            return Ok((self, None));
        }
        // A log that evicts would let go of one more at once, for its next segment; it is counted with the others.
        let spare = u32::from(options.when_full == WhenFull::EvictOldest);
        if !Fault::UnlinkBeforeLedger.is_planted() {
            self.vacate(surplus + spare, now).map_err(io)?;
        }
        let after = self.ledger();
        let shrunk = Shrunk {
            segments,
            evicted: after.evicted - before.evicted,
            handed_over: after.handed_over - before.handed_over,
        };
        self.close(now).map_err(io)?;
        self.remove_behind_head(surplus).map_err(io)?;
        // What could be mended was mended when it was opened before.
        let (ring, opened) = Self::open(dir.clone(), options, &mut NoOwner, now)?;
        Ok((ring, Some((shrunk, opened))))
    }

    /// Removes the files of the `count` segments behind the head; what goes on without them is to be opened again.
    fn remove_behind_head(self, count: u32) -> io::Result<()> {
        let (head, segments) = (self.log.head().0, self.geometry().segment_count());
        let number_of = |steps| self.media.number_of((head + steps) % segments);
        let numbers: Vec<u32> = (1..=count).map(number_of).collect();
        let dir = self.dir.clone();
        // A segment that is being prepared would be made again.
        drop(self);
        for number in numbers {
            disk::remove_file(dir.join(file_name(number)))?;
        }
        durable_file::sync_dir(&dir)
    }

    /// Lets only `uplinks` hold records back, and makes sure that the head has room for a ledger. `false`: it cannot have any now.
    fn prepare_to_vacate(
        &mut self,
        uplinks: &[u32],
        checkpoint: &[u8],
        now: Micros,
    ) -> io::Result<bool> {
        let known: Vec<u32> = self.ledger().cursors.iter().map(|c| c.uplink).collect();
        for gone in known.iter().filter(|uplink| !uplinks.contains(uplink)) {
            self.drop_cursor(*gone);
        }
        let oldest = self.ledger().oldest;
        for new in uplinks.iter().filter(|uplink| !known.contains(uplink)) {
            self.set_cursor(*new, oldest).map_err(io::Error::other)?;
        }
        // A commit leaves room behind it, in the next segment if need be.
        let mut mark = [0; MARK_BYTES_MAX];
        let label = Label {
            form: Form::Explicit,
            first: self.next(),
            time: now,
            first_of_commit: true,
        };
        let len = frame::emit_control(&mut mark, &self.log_id(), label, Control::Mark)
            .expect("a mark is small");
        self.commit(&mark[..len], 0, checkpoint, now)
    }

    fn vacate(&mut self, count: u32, now: Micros) -> io::Result<()> {
        self.at_desk(|log, desk| log.vacate(desk, count, now))
            .map_err(commit_io)
    }

    /// As [`Ring::expire`], for a log that has ended: says how many segments behind the head can be taken away.
    pub(crate) fn expire_ended(&mut self, before: Micros, now: Micros) -> io::Result<u32> {
        let expired = self.at_desk(|log, desk| log.expire_ended(desk, before, now));
        self.scratch = Vec::new();
        expired.map_err(commit_io)
    }

    /// Removes the files of so many segments behind the head, which hold nothing any more; says how many there were.
    pub(crate) fn take_away(&mut self, count: u32) -> io::Result<u32> {
        let (head, segments) = (self.log.head().0, self.geometry().segment_count());
        let mut removed = 0;
        for steps in 1..=count {
            removed += u32::from(self.media.remove((head + steps) % segments)?);
        }
        if removed > 0 {
            durable_file::sync_dir(&self.dir)?;
        }
        Ok(removed)
    }
}

/// A header and a type.
const MARK_BYTES_MAX: usize = 32;
