//! The log machine as futures, for media that must be waited for.

use sedge_core_macros::waiting as twin;

use crate::media::Operations;

#[path = "machine/mod.rs"]
mod machine;

pub use machine::{Desk, Reader, RingLog, look};
