//! What the operations of a log come to, and why they do not.

use core::fmt;

use super::Refusal;
use crate::ids::Offset;
use crate::media::Misfit;

/// What an open found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// There was no log; one was created.
    pub formatted: bool,
    /// The last life ended with CLOSE, or on flash between two programs.
    pub clean: bool,
    /// Offsets that will be burned, because a torn commit may have taken them.
    pub burned: u64,
    /// Segments whose beginning is neither blank nor valid nor a leftover.
    pub unreadable_segments: u32,
    /// The tail was copied to a fresh segment, because it could not be made durable in its place.
    pub copied: bool,
    /// The oldest segment had been recycled before its ledger was durable; what it held was counted again from the sums.
    pub recounted: bool,
    /// The segment behind the head was the head once, and its beginning is damaged: what it held is a gap.
    pub lost_head: Option<LostHead>,
}

/// What a head with a damaged beginning held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LostHead {
    /// The segment.
    pub segment: u32,
    /// The first offset that was given in it.
    pub from: Offset,
    /// One past the last that may have been.
    pub to: Offset,
    /// Records that were surely there.
    pub lost: u64,
}

/// Why a log cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum OpenError<E> {
    /// A segment is not ours to touch.
    Refused(Refusal),
    /// The geometry does not fit the medium. Nothing was read or written.
    Misfit(Misfit),
    /// The scratch buffer is too small for the geometry.
    Scratch {
        /// How many bytes it must have.
        needed: usize,
    },
    /// Files: no segment holds a log, but some could not be read. Creating a log might destroy one.
    Unreadable,
    /// The tail must be copied, and there is no fresh segment for it.
    NoSpare,
    /// The medium failed.
    Media(E),
}

impl<E: fmt::Display> fmt::Display for OpenError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Misfit(misfit) => misfit.fmt(f),
            Self::Scratch { needed } => write!(f, "the scratch buffer needs {needed} bytes"),
            Self::Unreadable => f.write_str("no segment holds a log, and some cannot be read"),
            Self::NoSpare => {
                f.write_str("no fresh segment for a tail that could not be made durable")
            }
            Self::Media(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for OpenError<E> {}

/// A commit that survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The first offset it took.
    pub first: Offset,
    /// One past the last.
    pub next: Offset,
    /// Where its frames stand: the segment.
    pub segment: u32,
    /// Where its frames stand: the position of the first.
    pub position: u32,
}

/// Why nothing was committed. Except for [`CommitError::Media`], nothing was written either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum CommitError<E> {
    /// The head is full and there is no spare: call `maintain`, then come again.
    NeedsMaintain,
    /// The frames do not fit into one segment, or one of them is larger than the geometry allows.
    TooLarge,
    /// More offsets than a commit may take.
    TooManyOffsets,
    /// These are not whole frames of this log in the right form; in an origin on files, with `first_of_commit` on the first and no other.
    Malformed,
    /// The frames do not continue the log at this offset.
    Misplaced {
        /// The offset to encode from.
        expected: Offset,
    },
    /// The log has ended for good.
    Ended,
    /// An earlier write failed and what stands on the file is unknown: open the log again.
    Failed,
    /// There are no more offsets.
    Exhausted,
    /// The medium failed. On flash, come again with frames encoded from the new `next`; on files, open the log again.
    Media(E),
}

impl<E: fmt::Display> fmt::Display for CommitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeedsMaintain => f.write_str("the head is full and no segment is ready"),
            Self::TooLarge => f.write_str("the commit does not fit into a segment"),
            Self::TooManyOffsets => f.write_str("the commit takes too many offsets"),
            Self::Malformed => f.write_str("the commit is not a sequence of frames of this log"),
            Self::Misplaced { expected } => {
                write!(f, "the commit does not begin at offset {expected}")
            }
            Self::Ended => f.write_str("the log has ended"),
            Self::Failed => f.write_str("an earlier write failed; the log must be opened again"),
            Self::Exhausted => f.write_str("the log has no more offsets"),
            Self::Media(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for CommitError<E> {}

/// What `maintain` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintained {
    /// A spare is ready.
    Ready,
    /// Everything is held back until an uplink takes over the oldest segment.
    Full,
}

/// Why no spare could be made ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum MaintainError<E> {
    /// The ledger could not be written first.
    Ledger(CommitError<E>),
    /// Erasing or stamping failed; the next call tries the segment behind.
    Media(E),
    /// No segment may be touched.
    NoSegment,
}

impl<E: fmt::Display> fmt::Display for MaintainError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(error) => error.fmt(f),
            Self::Media(error) => error.fmt(f),
            Self::NoSegment => f.write_str("no segment can be made ready"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> core::error::Error for MaintainError<E> {}
