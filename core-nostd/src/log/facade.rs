//! The log on a medium that never waits: [`RingLog`] with its medium and its buffer, so that callers call and have it done.

use super::slot::{self, Slot};
use super::{
    CommitError, Committed, Fresh, MaintainError, Maintained, OpenError, Options, Recovered,
    RingLog,
};
use crate::ids::{Micros, Offset};
use crate::media::{Blocking, Desk, Held, Media, run};
use crate::read::{Read, Reader};
use crate::segment::STAMP_LEN;
use crate::walk::{Found, Step, Walk};

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
        let mut blocking = Blocking(&mut media);
        let mut desk = Desk {
            media: &mut blocking,
            scratch: scratch.as_mut(),
        };
        let (ring, recovered) = run(RingLog::open(&mut desk, options, fresh))?;
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
        self.with(|ring, desk| run(ring.commit(desk, frames, span, checkpoint, now)))
    }

    /// See [`RingLog::maintain`].
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub fn maintain(&mut self, now: Micros) -> Result<Maintained, MaintainError<M::Error>> {
        self.with(|ring, desk| run(ring.maintain(desk, now)))
    }

    /// See [`RingLog::expire`].
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub fn expire(&mut self, before: Micros, now: Micros) -> Result<bool, MaintainError<M::Error>> {
        self.with(|ring, desk| run(ring.expire(desk, before, now)))
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
        self.with(|ring, desk| run(ring.expire_ended(desk, before, now)))
    }

    /// See [`RingLog::vacate`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn vacate(&mut self, count: u32, now: Micros) -> Result<(), CommitError<M::Error>> {
        self.with(|ring, desk| run(ring.vacate(desk, count, now)))
    }

    /// See [`RingLog::save_ledger`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn save_ledger(&mut self, now: Micros) -> Result<(), CommitError<M::Error>> {
        self.with(|ring, desk| run(ring.save_ledger(desk, now)))
    }

    /// See [`RingLog::close`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn close(&mut self, now: Micros) -> Result<(), CommitError<M::Error>> {
        self.with(|ring, desk| run(ring.close(desk, now)))
    }

    /// See [`RingLog::end`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn end(&mut self, checkpoint: &[u8], now: Micros) -> Result<(), CommitError<M::Error>> {
        self.with(|ring, desk| run(ring.end(desk, checkpoint, now)))
    }

    /// What stands before the frames of `segment`; `None` if it is not ours to touch.
    pub fn slot(&mut self, segment: u32) -> Option<Slot> {
        let geometry = *self.ring.geometry();
        self.with(|_, desk| run(slot::look(desk, segment, &geometry)).ok())
    }

    /// The owner's state as the head's open header carries it: what [`Log::replay`] builds upon.
    pub fn checkpoint(&mut self) -> &[u8] {
        let (segment, header_len) = self.ring.head_header();
        let mut blocking = Blocking(&mut self.media);
        let mut desk = Desk {
            media: &mut blocking,
            scratch: self.scratch.as_mut(),
        };
        run(desk.fill(segment, STAMP_LEN as u32, header_len));
        let header = self
            .scratch
            .as_mut()
            .get(..header_len)
            .and_then(crate::segment::OpenHeader::parse);
        header.map_or(&[], |(header, _)| header.checkpoint)
    }

    /// Shows each frame of the head, control frames too, from the first to the last that is durable.
    pub fn replay(&mut self, mut each: impl FnMut(&Found<'_>)) {
        let (segment, mut walk) = self.ring.head_walk();
        let (segment_bytes, end) = (self.ring.geometry().segment_bytes(), self.ring.head().1);
        self.with(|_, desk| {
            let mut held = Held::default();
            loop {
                match walk.step(desk.window(held)) {
                    Step::Read { position, .. } => {
                        held = run(desk.load(segment, position, segment_bytes))
                    }
                    Step::Frame(found) if found.end_position <= end => each(&found),
                    // What lies behind the end was dropped.
                    Step::Frame(_) | Step::End(_) => return,
                }
            }
        });
    }

    /// Lets a reader read on, with the log's own buffer: what it reads ahead it reads again if the log is used in between.
    pub fn read(&mut self, reader: &mut Reader) -> Read<'_> {
        reader.forget_read_ahead();
        let view = self.ring.view();
        let mut blocking = Blocking(&mut self.media);
        run(reader.read(&mut blocking, self.scratch.as_mut(), view))
    }

    /// See [`Reader::offset_for_time`].
    pub fn offset_for_time(&mut self, reader: &Reader, time: Micros) -> Offset {
        let view = self.ring.view();
        self.with(|_, desk| run(reader.offset_for_time(desk, view, time)))
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

    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut RingLog, &mut Desk<'_, Blocking<'_, M>>) -> T,
    ) -> T {
        let mut blocking = Blocking(&mut self.media);
        work(
            &mut self.ring,
            &mut Desk {
                media: &mut blocking,
                scratch: self.scratch.as_mut(),
            },
        )
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

impl RingLog {
    fn head_header(&self) -> (u32, usize) {
        (
            self.head.segment,
            self.head.data_start.saturating_sub(STAMP_LEN as u32) as usize,
        )
    }

    fn head_walk(&self) -> (u32, Walk) {
        let walk = Walk::new(
            self.log_id,
            self.geometry,
            self.head.data_start,
            self.head.base,
            None,
        );
        (self.head.segment, walk)
    }
}
