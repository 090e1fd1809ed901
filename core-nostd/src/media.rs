//! What a log stands on, seen from the log: numbered segments of bytes. Drivers implement [`Media`]; the log knows nothing else of the world.

use crate::segment::Geometry;

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

    /// Why a log of this geometry cannot stand here; asked when it is opened. None for a medium that adapts itself.
    fn misfit(&self, _geometry: &Geometry) -> Option<Misfit> {
        None
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

    fn misfit(&self, geometry: &Geometry) -> Option<Misfit> {
        (**self).misfit(geometry)
    }
}

/// Why a geometry does not fit the medium that it is to be used on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Misfit {
    /// The write unit is no multiple of what the medium programs at once.
    WriteUnit {
        /// Bytes of the unit in the geometry.
        geometry: u32,
        /// Bytes that the medium programs at once.
        medium: u32,
    },
    /// The driver divides the medium into other segments.
    SegmentBytes {
        /// Bytes of a segment in the geometry.
        geometry: u32,
        /// Bytes of a segment of the driver.
        medium: u32,
    },
    /// The medium ends before the last segment does.
    Capacity {
        /// Where the last segment ends.
        end: u64,
        /// Bytes of the medium.
        medium: u64,
    },
}

impl Misfit {
    /// Whether the segments of `geometry` stand in a medium of `capacity` bytes, if they begin at `start` and the driver takes them for `segment_bytes` long.
    pub(crate) fn of_segments(
        geometry: &Geometry,
        segment_bytes: u32,
        start: u32,
        capacity: usize,
    ) -> Option<Self> {
        if geometry.segment_bytes() != segment_bytes {
            return Some(Self::SegmentBytes {
                geometry: geometry.segment_bytes(),
                medium: segment_bytes,
            });
        }
        let segments = u64::from(segment_bytes) * u64::from(geometry.segment_count());
        let end = segments.saturating_add(start.into());
        let medium = capacity as u64;
        (end > medium).then_some(Self::Capacity { end, medium })
    }
}

impl core::fmt::Display for Misfit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::WriteUnit { geometry, medium } => {
                write!(
                    f,
                    "the write unit is {geometry} bytes, which is no multiple of the {medium} that the medium programs at once"
                )
            }
            Self::SegmentBytes { geometry, medium } => {
                write!(
                    f,
                    "a segment has {geometry} bytes in the geometry, and {medium} in the driver"
                )
            }
            Self::Capacity { end, medium } => {
                write!(f, "the log ends at {end:#x}, and the medium at {medium:#x}")
            }
        }
    }
}

impl core::error::Error for Misfit {}

/// The same operations for whoever must wait for them.
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

    /// As [`Media::misfit`].
    fn misfit(&self, _geometry: &Geometry) -> Option<Misfit> {
        None
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

    fn misfit(&self, geometry: &Geometry) -> Option<Misfit> {
        (**self).misfit(geometry)
    }
}

/// What a disk cannot read comes in sectors.
const SECTOR_BYTES: u32 = 512;
