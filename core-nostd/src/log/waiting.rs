//! The log on a medium that must be waited for: [`RingLog`] with its medium and its buffer, the twin of [`Log`](super::Log).

use super::{
    CommitError, Committed, Fresh, MaintainError, Maintained, OpenError, Options, Recovered,
};
use crate::custody::{Below, Stretch, Want};
use crate::ids::{Micros, Offset};
use crate::media::Operations;
use crate::read::Read;
use crate::waiting::{Desk, Reader, RingLog};
use crate::walk::Found;

/// A log on [`Operations`], with a scratch buffer of at least [`Geometry::scratch_bytes`]. What is only looked up, and [`RingLog::set_cursor`], stand in
/// [`RingLog`], to which this dereferences.
///
/// Any of its futures may be dropped at any time, and the log goes on: what was acknowledged stays, no offset is given twice, no unit of flash is
/// programmed twice. After a dropped `commit` encode again from [`RingLog::next`]: whether that commit is part of the log shows a reader, once the next
/// one is in. After a dropped `open` lend the medium again; the medium itself is lost with the future unless it was lent (`&mut`).
///
/// ```
/// use core::pin::pin;
/// use core::task::{Context, Poll, Waker};
///
/// use sedge_core::driver::{OutOfBounds, Ram};
/// use sedge_core::entry::{Entry, Record};
/// use sedge_core::frame::{self, Form, Label};
/// use sedge_core::log::{AsyncLog, CommitError, Fresh, Options, WhenFull};
/// use sedge_core::media::{Media, Operations};
/// use sedge_core::read::Read;
/// use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
/// use sedge_core::waiting::Reader;
/// use sedge_core::{LogId, Micros};
///
/// /// Stands for a flash: firmware has `AsyncNor` on the flash of its chip.
/// struct Flash(Ram<[u8; 4 * 4096]>);
///
/// impl Operations for Flash {
///     type Error = OutOfBounds;
///
///     async fn read(&mut self, segment: u32, at: u32, into: &mut [u8]) -> Result<(), OutOfBounds> {
///         self.0.read(segment, at, into)
///     }
///     async fn program(&mut self, segment: u32, at: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
///         self.0.program(segment, at, bytes)
///     }
///     async fn erase(&mut self, segment: u32) -> Result<(), OutOfBounds> {
///         self.0.erase(segment)
///     }
///     async fn sync(&mut self) -> Result<(), OutOfBounds> {
///         Ok(())
///     }
/// }
///
/// async fn keep(flash: &mut Flash) -> Result<(), CommitError<OutOfBounds>> {
///     let geometry = Geometry::new(Dimensions {
///         medium: Medium::Nor,
///         role: Role::Origin,
///         write_unit: 4,
///         segment_bytes: 4096,
///         segment_count: 4,
///         frame_bytes_max: 256,
///         commit_offsets_max: 255,
///     })
///     .unwrap();
///     let now = Micros::new(1_763_633_000_000_000);
///     let fresh = Fresh { log_id: LogId::new(*b"16 random bytes!"), now, boot: 1 };
///     let options = Options::new(geometry, WhenFull::EvictOldest);
///     let (mut log, _) = AsyncLog::open(flash, options, fresh, [0; 768]).await.unwrap();
///
///     let mut entries = [0; 64];
///     let record = Record { value: b"21.5", ..Record::default() };
///     let len = Entry::Record(record).encode(&mut entries).unwrap();
///     let label = Label { form: Form::Compact, first: log.next(), time: now, first_of_commit: true };
///     let mut buffer = [0; 256];
///     let len = frame::emit_data(&mut buffer, &log.log_id(), label, 1, &[], &entries[..len]).unwrap();
///     let committed = log.commit(&buffer[..len], 1, &[], now).await?;
///     log.maintain(now).await.unwrap(); // in a task of its own time: a segment is erased ahead
///
///     let mut reader = Reader::new(log.log_id(), geometry, committed.first);
///     let Read::Frame { frame, .. } = log.read(&mut reader).await else { panic!("committed") };
///     assert_eq!(frame.entries().next(), Some((committed.first, Entry::Record(record))));
///     log.set_cursor(1, committed.next).unwrap();
///     log.save_ledger(now).await?;
///     log.close(now).await
/// }
///
/// // An executor has more to do than this; the log needs no more.
/// let mut flash = Flash(Ram::new([0xFF; 4 * 4096], 4096));
/// let mut work = pin!(keep(&mut flash));
/// let mut context = Context::from_waker(Waker::noop());
/// let outcome = loop {
///     if let Poll::Ready(outcome) = work.as_mut().poll(&mut context) {
///         break outcome;
///     }
/// };
/// outcome.unwrap();
/// ```
///
/// [`Geometry::scratch_bytes`]: crate::segment::Geometry::scratch_bytes
#[derive(Debug)]
pub struct AsyncLog<O, S> {
    ring: RingLog,
    media: O,
    scratch: S,
}

impl<O: Operations, S: AsMut<[u8]>> AsyncLog<O, S> {
    /// Opens the log that stands on `media`, or creates one.
    ///
    /// # Errors
    /// See [`RingLog::open`].
    pub async fn open(
        mut media: O,
        options: Options,
        fresh: Fresh,
        mut scratch: S,
    ) -> Result<(Self, Recovered), OpenError<O::Error>> {
        let mut desk = Desk {
            media: &mut media,
            scratch: scratch.as_mut(),
        };
        let (ring, recovered) = RingLog::open(&mut desk, options, fresh).await?;
        let log = Self {
            ring,
            media,
            scratch,
        };
        Ok((log, recovered))
    }

    /// See [`RingLog::commit`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit(
        &mut self,
        frames: &[u8],
        span: u64,
        checkpoint: &[u8],
        now: Micros,
    ) -> Result<Committed, CommitError<O::Error>> {
        let (ring, mut desk) = self.parts();
        ring.commit(&mut desk, frames, span, checkpoint, now).await
    }

    /// See [`RingLog::maintain`].
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn maintain(&mut self, now: Micros) -> Result<Maintained, MaintainError<O::Error>> {
        let (ring, mut desk) = self.parts();
        ring.maintain(&mut desk, now).await
    }

    /// See [`RingLog::expire`].
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn expire(
        &mut self,
        before: Micros,
        now: Micros,
    ) -> Result<bool, MaintainError<O::Error>> {
        let (ring, mut desk) = self.parts();
        ring.expire(&mut desk, before, now).await
    }

    /// See [`RingLog::save_ledger`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn save_ledger(&mut self, now: Micros) -> Result<(), CommitError<O::Error>> {
        let (ring, mut desk) = self.parts();
        ring.save_ledger(&mut desk, now).await
    }

    /// See [`RingLog::close`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn close(&mut self, now: Micros) -> Result<(), CommitError<O::Error>> {
        let (ring, mut desk) = self.parts();
        ring.close(&mut desk, now).await
    }

    /// See [`RingLog::end`].
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn end(
        &mut self,
        checkpoint: &[u8],
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        let (ring, mut desk) = self.parts();
        ring.end(&mut desk, checkpoint, now).await
    }

    /// The owner's state as the head's open header carries it: what [`AsyncLog::replay`] builds upon.
    pub async fn checkpoint(&mut self) -> &[u8] {
        let (ring, mut desk) = self.parts();
        ring.load_checkpoint(&mut desk).await;
        self.ring.checkpoint(self.scratch.as_mut())
    }

    /// See [`RingLog::replay`].
    pub async fn replay(&mut self, each: impl FnMut(&Found<'_>)) {
        let (ring, mut desk) = self.parts();
        ring.replay(&mut desk, each).await;
    }

    /// Lets a reader read on, with the log's own buffer: what it reads ahead it reads again if the log is used in between.
    pub async fn read(&mut self, reader: &mut Reader) -> Read<'_> {
        let view = self.ring.view();
        reader
            .read_alone(&mut self.media, self.scratch.as_mut(), view)
            .await
    }

    /// What stands in the log where `want` begins: whole frames, gathered in `frames`, or the gap that is there instead, which before the
    /// oldest offset is the loss of `uplink` alone. `None` if there is nothing, or `frames` does not hold a single frame.
    pub async fn stretch(
        &mut self,
        reader: &mut Reader,
        uplink: u32,
        want: &Want,
        frames: &mut [u8],
    ) -> Option<Stretch> {
        let (ring, mut desk) = self.parts();
        ring.stretch(&mut desk, reader, uplink, want, frames).await
    }

    /// See [`Log::below`](super::Log::below).
    pub async fn below(&mut self, reader: &mut Reader, next: Offset) -> Below {
        let (ring, mut desk) = self.parts();
        ring.below(&mut desk, reader, next).await
    }

    /// See [`Reader::offset_for_time`].
    pub async fn offset_for_time(&mut self, reader: &Reader, time: Micros) -> Offset {
        let (ring, mut desk) = self.parts();
        reader.offset_for_time(&mut desk, ring.view(), time).await
    }

    /// The medium, to be used between two operations.
    pub const fn media_mut(&mut self) -> &mut O {
        &mut self.media
    }

    /// Gives the medium back, leaving the log as a power cut would.
    pub fn into_media(self) -> O {
        self.media
    }

    fn parts(&mut self) -> (&mut RingLog, Desk<'_, O>) {
        let desk = Desk {
            media: &mut self.media,
            scratch: self.scratch.as_mut(),
        };
        (&mut self.ring, desk)
    }
}

impl<O, S> core::ops::Deref for AsyncLog<O, S> {
    type Target = RingLog;

    fn deref(&self) -> &RingLog {
        &self.ring
    }
}

impl<O, S> core::ops::DerefMut for AsyncLog<O, S> {
    fn deref_mut(&mut self) -> &mut RingLog {
        &mut self.ring
    }
}
