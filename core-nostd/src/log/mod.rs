//! A log, for who calls and has it done ([`Log`]) and for who must wait ([`AsyncLog`]): how it is opened, and what its operations come to.

mod facade;
mod outcome;
mod slot;
mod waiting;

use core::fmt;

use crate::ids::{LogId, Micros, Offset};
use crate::segment::{Dimensions, Geometry};

pub use crate::blocking::RingLog;
pub use facade::Log;
pub use outcome::{
    CommitError, Committed, LostHead, MaintainError, Maintained, OpenError, Recovered,
};
pub use slot::{Opened, Slot};
pub use waiting::AsyncLog;

/// How a log is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The dimensions of the log; those of an existing one must agree, except for the number of segments and the sizes of frames and commits.
    pub geometry: Geometry,
    /// What happens when there is no room.
    pub when_full: WhenFull,
    /// Files: the segment that a failed sync left in doubt in an earlier life. Its frames are copied to a fresh one.
    pub suspect: Option<u32>,
    /// Flash: whether writing goes on right behind the last frame.
    pub tail: Tail,
}

/// Flash: where writing goes on after an open, and behind a write that was given up and left nothing. Only a cut leaves a frame in doubt, but nobody tells a log how the life before ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Right behind the last frame that is valid. For flash whose cells read the same each time, or report an error.
    Behind,
    /// At the next grid point, so that a last frame whose cells read well now and not later hides nothing that is written behind it. The first commit of
    /// each life then costs up to two times the largest frame, and the offsets of one commit.
    Fresh,
}

impl Options {
    /// Options with nothing in doubt.
    #[must_use]
    pub const fn new(geometry: Geometry, when_full: WhenFull) -> Self {
        Self {
            geometry,
            when_full,
            suspect: None,
            tail: Tail::Behind,
        }
    }
}

/// What happens when all segments are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The oldest records make room for new ones.
    EvictOldest,
    /// Nothing is taken until the uplinks have taken over the oldest segment.
    Refuse,
}

/// What a log cannot know by itself when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// The id of the log, if one must be created.
    pub log_id: LogId,
    /// The time.
    pub now: Micros,
    /// The boot of this writer.
    pub boot: u64,
}

/// Where a frame has to continue a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Continuation {
    /// The log.
    pub log_id: LogId,
    /// The frame's first offset.
    pub next: Offset,
    /// The time that a compact frame counts from.
    pub last_time: Micros,
}

/// What readers share with the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The first offset that is held.
    pub oldest: Offset,
    /// One past the last offset that survives a power cut.
    pub durable: Offset,
    /// The first offset of the segment that is written.
    pub head: Offset,
}

/// Why a segment is not ours to touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Refusal {
    /// It was written by a later version of the format.
    NewerVersion {
        /// The segment.
        segment: u32,
        /// The version.
        version: u8,
    },
    /// It was written with dimensions that this log cannot be read with.
    OtherGeometry {
        /// The segment.
        segment: u32,
        /// The dimensions in its stamp.
        found: Dimensions,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewerVersion { segment, version } => {
                write!(
                    f,
                    "segment {segment} has format version {version}, which is newer than this program"
                )
            }
            Self::OtherGeometry { segment, found } => {
                write!(f, "segment {segment} has other dimensions: {found:?}")
            }
        }
    }
}
