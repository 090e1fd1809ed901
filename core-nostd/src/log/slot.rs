//! What stands before the frames of a segment, as the log sees it.

use crate::ids::{LogId, Micros, Offset};
use crate::segment::Geometry;

/// What a segment is good for.
#[derive(Clone, Copy, Debug)]
pub enum Slot {
    /// To be erased and stamped before use: blank, torn, foreign or stamped with other sizes.
    Unready {
        /// How often it is known to have been erased.
        erase_count: u32,
        /// Whether its beginning could be read.
        readable: bool,
    },
    /// Stamped, and not opened since.
    Spare {
        /// How often it was erased.
        erase_count: u32,
    },
    /// Part of a log.
    Open(Opened),
}

/// A segment that is part of a log.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// The geometry it is written with.
    pub geometry: Geometry,
    /// How often it was erased.
    pub erase_count: u32,
    /// Segment sequence.
    pub seq: u64,
    /// The log.
    pub log_id: LogId,
    /// The first frame's first offset.
    pub base: Offset,
    /// When it was opened.
    pub base_time: Micros,
    /// Where its frames begin.
    pub data_start: u32,
    /// How many offsets the log had skipped before.
    pub skipped: u64,
    /// Whether the stamp before the header is valid. Without it the segment is read like any other, with the log's own sizes, but not written.
    pub is_stamped: bool,
}

impl Slot {
    /// How often the segment is known to have been erased.
    #[must_use]
    pub const fn erase_count(&self) -> u32 {
        match self {
            Self::Unready { erase_count, .. } | Self::Spare { erase_count } => *erase_count,
            Self::Open(opened) => opened.erase_count,
        }
    }
}
