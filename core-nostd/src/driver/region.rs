//! Where the segments of a log lie in a flash, and how any range is read from one that reads in units. What both NOR drivers share; touches no flash.

use crate::media::Misfit;
use crate::segment::Geometry;

/// Segments that lie one behind the other, from `start` on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Region {
    start: u32,
    segment_bytes: u32,
}

/// Why an operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NorError<E> {
    /// The flash failed.
    Flash(E),
    /// Beyond the end of the segment or of the address range.
    OutOfBounds,
}

impl<E: core::fmt::Debug> core::fmt::Display for NorError<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Flash(error) => write!(f, "flash: {error:?}"),
            Self::OutOfBounds => f.write_str("outside of the flash region"),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for NorError<E> {}

/// Why a flash has no such region for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum BadRegion {
    /// It does not begin with an erase block.
    Start {
        /// Where it begins.
        start: u32,
        /// Bytes of an erase block.
        block: usize,
    },
    /// A segment is not a whole number of erase blocks.
    SegmentBytes {
        /// Bytes of a segment.
        segment_bytes: u32,
        /// Bytes of an erase block.
        block: usize,
    },
    /// The flash reads in units of more than 32 bytes.
    ReadUnit {
        /// Bytes of a unit.
        unit: usize,
    },
}

impl core::fmt::Display for BadRegion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Start { start, block } => {
                write!(
                    f,
                    "the log begins at {start:#x}, which is no multiple of the erase block of {block} bytes"
                )
            }
            Self::SegmentBytes {
                segment_bytes,
                block,
            } => {
                write!(
                    f,
                    "a segment has {segment_bytes} bytes, which is no multiple of the erase block of {block} bytes"
                )
            }
            Self::ReadUnit { unit } => {
                write!(
                    f,
                    "the flash reads in units of {unit} bytes, and {READ_UNIT_MAX} are the most"
                )
            }
        }
    }
}

impl core::error::Error for BadRegion {}

/// How a flash is read and erased.
#[derive(Clone, Copy, Debug)]
pub(super) struct Units {
    pub(super) read: usize,
    pub(super) write: usize,
    pub(super) erase: usize,
}

impl Units {
    /// How finely what can be read is told from what cannot.
    pub(super) fn grain(self) -> u32 {
        u32::try_from(self.write.max(self.read)).unwrap_or(u32::MAX)
    }

    /// What to ask the flash for next, to have bytes from `address` on for a buffer with place for `left` more.
    pub(super) fn piece(self, address: u32, left: usize) -> Piece {
        let unit = self.read.clamp(1, READ_UNIT_MAX);
        let ahead = address as usize % unit;
        let whole = left - left % unit;
        if ahead == 0 && whole > 0 {
            return Piece::Whole(whole);
        }
        Piece::Part {
            start: address.saturating_sub(u32::try_from(ahead).unwrap_or(0)),
            unit,
            ahead,
        }
    }
}

/// One read of the flash.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    /// So many bytes, into the caller's buffer.
    Whole(usize),
    /// The unit that begins at `start`, into a [`UnitBuffer`]; what is wanted stands `ahead` bytes behind its start.
    Part {
        start: u32,
        unit: usize,
        ahead: usize,
    },
}

/// Place for one unit.
pub(super) type UnitBuffer = [u8; READ_UNIT_MAX];

/// Copies the wanted part of a unit to the front of `into`, and says how much that was.
pub(super) fn take_part(unit: &[u8], ahead: usize, into: &mut [u8]) -> usize {
    let from = unit.get(ahead..).unwrap_or_default();
    into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    from.len().min(into.len())
}

impl Region {
    pub(super) const fn new(
        start: u32,
        segment_bytes: u32,
        units: Units,
    ) -> Result<Self, BadRegion> {
        let block = units.erase;
        if !(start as usize).is_multiple_of(block) {
            return Err(BadRegion::Start { start, block });
        }
        if segment_bytes == 0 || !(segment_bytes as usize).is_multiple_of(block) {
            return Err(BadRegion::SegmentBytes {
                segment_bytes,
                block,
            });
        }
        if units.read > READ_UNIT_MAX {
            return Err(BadRegion::ReadUnit { unit: units.read });
        }
        Ok(Self {
            start,
            segment_bytes,
        })
    }

    /// Whether a log of this geometry can stand in the region, on a flash of so many bytes.
    pub(super) fn misfit(
        &self,
        geometry: &Geometry,
        units: Units,
        capacity: usize,
    ) -> Option<Misfit> {
        let unit = u32::try_from(units.write).unwrap_or(u32::MAX);
        if !geometry.write_unit().is_multiple_of(unit) {
            return Some(Misfit::WriteUnit {
                geometry: geometry.write_unit(),
                medium: unit,
            });
        }
        Misfit::of_segments(geometry, self.segment_bytes, self.start, capacity)
    }

    /// Where `len` bytes from `position` on stand in the flash.
    pub(super) fn address<E>(
        &self,
        segment: u32,
        position: u32,
        len: usize,
    ) -> Result<u32, NorError<E>> {
        let inside = u32::try_from(len)
            .ok()
            .and_then(|len| position.checked_add(len))
            .is_some_and(|end| end <= self.segment_bytes);
        let start = segment
            .checked_mul(self.segment_bytes)
            .and_then(|at| at.checked_add(self.start));
        start
            .and_then(|at| at.checked_add(position))
            .filter(|_| inside)
            .ok_or(NorError::OutOfBounds)
    }

    /// From where to where a whole segment stands in the flash.
    pub(super) fn range<E>(&self, segment: u32) -> Result<(u32, u32), NorError<E>> {
        let start = self.address(segment, 0, self.segment_bytes as usize)?;
        Ok((start, start.saturating_add(self.segment_bytes)))
    }
}

const READ_UNIT_MAX: usize = 32;
