//! Drivers: media that the log can stand on.

#[cfg(feature = "embedded-storage")]
mod nor;
mod ram;

#[cfg(feature = "embedded-storage")]
pub use nor::{Nor, NorError};
pub use ram::{OutOfBounds, Ram};
