//! What a log stands on, seen from the log: numbered segments of bytes. Drivers implement [`Media`]; the log knows nothing else of the world.

use core::pin::pin;
use core::task::{Context, Poll, Waker};

use crate::walk::Window;

/// Numbered segments that can be read, programmed, erased and made durable; each call returns when it is done.
///
/// A segment that does not exist yet (a file that was never allocated) reads as `0xFF`; [`Media::erase`] brings it into being.
pub trait Media {
    /// Why an operation failed.
    type Error;

    /// Fills `into` with the bytes of `segment` from `position` on.
    ///
    /// # Errors
    /// If the bytes cannot be read. The log takes them as corrupt and goes on.
    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes `bytes` into `segment` at `position`. On NOR flash both are multiples of the write unit, and each unit is programmed at most once between two erases.
    ///
    /// # Errors
    /// If it is not certain that all was written. The log takes the range as torn.
    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes `segment` ready to be stamped. On NOR flash all its bytes become `0xFF`; on files a missing segment is created and its space reserved, an existing one stays as it is.
    ///
    /// # Errors
    /// If it is not certain that all was erased, or there is no space for a new segment.
    fn erase(&mut self, segment: u32) -> Result<(), Self::Error>;

    /// Returns when everything programmed so far survives a power cut. Nothing to do on NOR flash.
    ///
    /// # Errors
    /// If that is not certain.
    fn sync(&mut self) -> Result<(), Self::Error>;

    /// How finely what can be read is told from what cannot: bytes become unreadable in pieces of this size, aligned to it. The write unit on NOR flash, a sector on files.
    fn grain(&self) -> u32 {
        SECTOR_BYTES
    }
}

/// A borrowed medium is a medium.
impl<M: Media> Media for &mut M {
    type Error = M::Error;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(segment, position, into)
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        (**self).program(segment, position, bytes)
    }

    fn erase(&mut self, segment: u32) -> Result<(), Self::Error> {
        (**self).erase(segment)
    }

    fn sync(&mut self) -> Result<(), Self::Error> {
        (**self).sync()
    }

    fn grain(&self) -> u32 {
        (**self).grain()
    }
}

/// The same operations for whoever must wait for them: the log is written against this trait, one operation at a time.
///
/// A driver that never waits implements [`Media`] and comes in through [`Blocking`].
///
/// A future that is dropped before it is ready may leave its operation undone, done in part, or done. Whichever it is must be settled before
/// the next operation, a read too, is carried out: an operation that takes effect behind a later one breaks the log. What is left the log looks at, and
/// treats as it treats a failure (docs/decisions/0004-log-machine.md).
pub trait Operations {
    /// Why an operation failed.
    type Error;

    /// As [`Media::read`].
    fn read(
        &mut self,
        segment: u32,
        position: u32,
        into: &mut [u8],
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// As [`Media::program`].
    fn program(
        &mut self,
        segment: u32,
        position: u32,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// As [`Media::erase`].
    fn erase(&mut self, segment: u32) -> impl Future<Output = Result<(), Self::Error>>;

    /// As [`Media::sync`].
    fn sync(&mut self) -> impl Future<Output = Result<(), Self::Error>>;

    /// As [`Media::grain`].
    fn grain(&self) -> u32 {
        SECTOR_BYTES
    }
}

/// A borrowed medium is a medium. Lend it to a log whose `open` may be dropped: what a dropped future owns is gone.
impl<O: Operations> Operations for &mut O {
    type Error = O::Error;

    async fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), O::Error> {
        (**self).read(segment, position, into).await
    }

    async fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), O::Error> {
        (**self).program(segment, position, bytes).await
    }

    async fn erase(&mut self, segment: u32) -> Result<(), O::Error> {
        (**self).erase(segment).await
    }

    async fn sync(&mut self) -> Result<(), O::Error> {
        (**self).sync().await
    }

    fn grain(&self) -> u32 {
        (**self).grain()
    }
}

/// A medium whose operations are done when they return.
#[derive(Debug)]
pub struct Blocking<'m, M>(pub &'m mut M);

impl<M: Media> Operations for Blocking<'_, M> {
    type Error = M::Error;

    async fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), M::Error> {
        self.0.read(segment, position, into)
    }

    async fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), M::Error> {
        self.0.program(segment, position, bytes)
    }

    async fn erase(&mut self, segment: u32) -> Result<(), M::Error> {
        self.0.erase(segment)
    }

    async fn sync(&mut self) -> Result<(), M::Error> {
        self.0.sync()
    }

    fn grain(&self) -> u32 {
        self.0.grain()
    }
}

/// Polls `work` until it is ready: made for what stands on a [`Blocking`] medium, and therefore never waits.
pub fn run<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(outcome) = work.as_mut().poll(&mut context) {
            return outcome;
        }
    }
}

/// Where the log works: a medium, and a buffer of [`Geometry::scratch_bytes`] that holds nothing from one call to the next.
///
/// [`Geometry::scratch_bytes`]: crate::segment::Geometry::scratch_bytes
#[derive(Debug)]
pub struct Desk<'d, O> {
    /// The medium.
    pub media: &'d mut O,
    /// The buffer.
    pub scratch: &'d mut [u8],
}

/// What the scratch holds: bytes of one segment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    position: u32,
    len: usize,
}

impl Held {
    pub(crate) fn window(self, scratch: &[u8]) -> Window<'_> {
        Window {
            position: self.position,
            bytes: scratch.get(..self.len).unwrap_or_default(),
        }
    }
}

impl<O: Operations> Desk<'_, O> {
    /// Reads `len` bytes (no more than the scratch holds) to the front of the scratch. What cannot be read becomes zeros: neither blank nor a frame.
    pub(crate) async fn fill(&mut self, segment: u32, position: u32, len: usize) -> &[u8] {
        let len = len.min(self.scratch.len());
        let into = self.scratch.get_mut(..len).unwrap_or_default();
        if self.media.read(segment, position, into).await.is_err() {
            self.fill_in_pieces(segment, position, len).await;
        }
        self.scratch.get(..len).unwrap_or_default()
    }

    /// One bad place must not hide its neighbours: reads piece by piece, as finely as the medium can tell them apart.
    async fn fill_in_pieces(&mut self, segment: u32, position: u32, len: usize) {
        let grain = self.media.grain().max(1);
        let mut rest = self.scratch.get_mut(..len).unwrap_or_default();
        let mut at = position;
        while !rest.is_empty() {
            let up_to_border = (grain - at % grain) as usize;
            let Some((piece, behind)) = rest.split_at_mut_checked(up_to_border.min(rest.len()))
            else {
                return;
            };
            if self.media.read(segment, at, piece).await.is_err() {
                piece.fill(0);
            }
            at = at.saturating_add(u32::try_from(piece.len()).unwrap_or(u32::MAX));
            rest = behind;
        }
    }

    /// Reads as much as the scratch holds, or as the segment has, from `position` on.
    pub(crate) async fn load(&mut self, segment: u32, position: u32, segment_bytes: u32) -> Held {
        let len = segment_bytes.saturating_sub(position) as usize;
        let len = self.fill(segment, position, len).await.len();
        Held { position, len }
    }

    /// What a walk sees of the scratch.
    pub(crate) fn window(&self, held: Held) -> Window<'_> {
        held.window(self.scratch)
    }

    /// Whether `segment` reads as erased from `from` up to `to`.
    pub(crate) async fn is_blank(&mut self, segment: u32, from: u32, to: u32) -> bool {
        let mut at = from;
        while at < to {
            let bytes = self.fill(segment, at, (to - at) as usize).await;
            if bytes.is_empty() || bytes.iter().any(|&byte| byte != 0xFF) {
                return false;
            }
            at = at.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        }
        true
    }
}

/// What a disk cannot read comes in sectors.
const SECTOR_BYTES: u32 = 512;
