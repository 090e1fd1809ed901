//! The log machine as plain calls: each operation is done when it returns.

use sedge_core_macros::blocking as twin;

use crate::media::Media as Operations;

#[path = "machine/mod.rs"]
mod machine;

pub use machine::{Desk, Reader, RingLog, look};
