//! The log on a medium that never waits: [`RingLog`] with its medium and its buffer, so that callers call and have it done.

use super::{
    CommitError, Committed, Fresh, MaintainError, Maintained, OpenError, Options, Recovered, Slot,
};
use crate::blocking::{Desk, Reader, RingLog, look};
use crate::custody::{Below, Stretch, Want};
use crate::ids::{Micros, Offset};
use crate::media::Media;
use crate::read::Read;
use crate::walk::Found;

/// A log on a [`Media`], with a scratch buffer of at least [`Geometry::scratch_bytes`]. What is only looked up stands in [`RingLog`], to which this dereferences.
///
/// [`Geometry::scratch_bytes`]: crate::segment::Geometry::scratch_bytes
#[derive(Debug)]
pub struct Log<M, S> {
    ring: RingLog,
    media: M,
    scratch: S,
}

impl<M: Media, S: AsMut<[u8]>> Log<M, S> {
    /// Opens the log that stands on `media`, or creates one.
    ///
    /// # Errors
    /// See [`RingLog::open`].
    pub fn open(
        mut media: M,
        options: Options,
        fresh: Fresh,
        mut scratch: S,
    ) -> Result<(Self, Recovered), OpenError<M::Error>> {
        let mut desk = Desk {
            media: &mut media,
            scratch: scratch.as_mut(),
        };
        let (ring, recovered) = RingLog::open(&mut desk, options, fresh)?;
        Ok((
            Self {
                ring,
                media,
                scratch,
            },
            recovered,
        ))
    }

    /// See [`RingLog::commit`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn commit(
        &mut self,
        frames: &[u8],
        span: u64,
        checkpoint: &[u8],
        now: Micros,
    ) -> Result<Committed, CommitError<M::Error>> {
        self.with(|ring, desk| ring.commit(desk, frames, span, checkpoint, now))
    }

    /// See [`RingLog::maintain`].
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub fn maintain(&mut self, now: Micros) -> Result<Maintained, MaintainError<M::Error>> {
        self.with(|ring, desk| ring.maintain(desk, now))
    }

    /// See [`RingLog::expire`].
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub fn expire(&mut self, before: Micros, now: Micros) -> Result<bool, MaintainError<M::Error>> {
        self.with(|ring, desk| ring.expire(desk, before, now))
    }

    /// See [`RingLog::expire_ended`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn expire_ended(
        &mut self,
        before: Micros,
        now: Micros,
    ) -> Result<u32, CommitError<M::Error>> {
        self.with(|ring, desk| ring.expire_ended(desk, before, now))
    }

    /// See [`RingLog::vacate`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn vacate(&mut self, count: u32, now: Micros) -> Result<(), CommitError<M::Error>> {
        self.with(|ring, desk| ring.vacate(desk, count, now))
    }

    /// See [`RingLog::save_ledger`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn save_ledger(&mut self, now: Micros) -> Result<(), CommitError<M::Error>> {
        self.with(|ring, desk| ring.save_ledger(desk, now))
    }

    /// See [`RingLog::close`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn close(&mut self, now: Micros) -> Result<(), CommitError<M::Error>> {
        self.with(|ring, desk| ring.close(desk, now))
    }

    /// See [`RingLog::end`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn end(&mut self, checkpoint: &[u8], now: Micros) -> Result<(), CommitError<M::Error>> {
        self.with(|ring, desk| ring.end(desk, checkpoint, now))
    }

    /// What stands before the frames of `segment`; `None` if it is not ours to touch.
    pub fn slot(&mut self, segment: u32) -> Option<Slot> {
        let geometry = *self.ring.geometry();
        self.with(|_, desk| look(desk, segment, &geometry).ok())
    }

    /// The owner's state as the head's open header carries it: what [`Log::replay`] builds upon.
    pub fn checkpoint(&mut self) -> &[u8] {
        let mut desk = Desk {
            media: &mut self.media,
            scratch: self.scratch.as_mut(),
        };
        self.ring.load_checkpoint(&mut desk);
        self.ring.checkpoint(self.scratch.as_mut())
    }

    /// See [`RingLog::replay`].
    pub fn replay(&mut self, each: impl FnMut(&Found<'_>)) {
        self.with(|ring, desk| ring.replay(desk, each));
    }

    /// Lets a reader read on, with the log's own buffer: what it reads ahead it reads again if the log is used in between.
    pub fn read(&mut self, reader: &mut Reader) -> Read<'_> {
        let view = self.ring.view();
        reader.read_alone(&mut self.media, self.scratch.as_mut(), view)
    }

    /// What stands in the log where `want` begins: whole frames, gathered in `frames`, or the gap that is there instead, which before the
    /// oldest offset is the loss of `uplink` alone. `None` if there is nothing, or `frames` does not hold a single frame.
    pub fn stretch(
        &mut self,
        reader: &mut Reader,
        uplink: u32,
        want: &Want,
        frames: &mut [u8],
    ) -> Option<Stretch> {
        self.with(|ring, desk| ring.stretch(desk, reader, uplink, want, frames))
    }

    /// What of the log ends at `next`: the answer to [`SenderEvent::Check`](crate::custody::SenderEvent::Check).
    pub fn below(&mut self, reader: &mut Reader, next: Offset) -> Below {
        self.with(|ring, desk| ring.below(desk, reader, next))
    }

    /// See [`Reader::offset_for_time`].
    pub fn offset_for_time(&mut self, reader: &Reader, time: Micros) -> Offset {
        let view = self.ring.view();
        self.with(|_, desk| reader.offset_for_time(desk, view, time))
    }

    /// The medium.
    pub const fn media(&self) -> &M {
        &self.media
    }

    /// The medium, to be used between two operations.
    pub const fn media_mut(&mut self) -> &mut M {
        &mut self.media
    }

    /// Gives the medium back, leaving the log as a power cut would.
    pub fn into_media(self) -> M {
        self.media
    }

    fn with<T>(&mut self, work: impl FnOnce(&mut RingLog, &mut Desk<'_, M>) -> T) -> T {
        let mut desk = Desk {
            media: &mut self.media,
            scratch: self.scratch.as_mut(),
        };
        work(&mut self.ring, &mut desk)
    }
}

impl<M, S> core::ops::Deref for Log<M, S> {
    type Target = RingLog;

    fn deref(&self) -> &RingLog {
        &self.ring
    }
}

impl<M, S> core::ops::DerefMut for Log<M, S> {
    fn deref_mut(&mut self) -> &mut RingLog {
        &mut self.ring
    }
}
