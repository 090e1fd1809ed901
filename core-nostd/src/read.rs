//! What a reader of a log meets.

use crate::frame::Frame;
use crate::gap::Gap;
use crate::ids::{Micros, Offset};

pub use crate::blocking::Reader;

/// What a reader meets next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read<'s> {
    /// A data frame or a gap frame. The first one after a seek may begin before the offset that was asked for.
    Frame {
        /// The frame.
        frame: Frame<'s>,
        /// Its bytes, to be handed on verbatim.
        bytes: &'s [u8],
        /// Compact frames: the time of the record before it.
        base_time: Micros,
    },
    /// Offsets whose bytes no longer pass the check, or what is left of a gap frame that begins before the reader's place.
    Gap(Gap),
    /// The reader stood before the oldest offset, and goes on there. What was lost the ledger says.
    Evicted {
        /// Where the reader stood.
        from: Offset,
        /// The oldest offset.
        to: Offset,
    },
    /// The segment was recycled while it was read: come again with a new view.
    Overtaken,
    /// There is nothing more that is durable.
    CaughtUp,
}
