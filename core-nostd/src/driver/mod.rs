//! Drivers: media that the log can stand on.

#[cfg(feature = "embedded-storage-async")]
mod async_nor;
#[cfg(feature = "embedded-storage")]
mod nor;
mod ram;
#[cfg(any(feature = "embedded-storage", feature = "embedded-storage-async"))]
mod region;

#[cfg(feature = "embedded-storage-async")]
pub use async_nor::AsyncNor;
#[cfg(feature = "embedded-storage")]
pub use nor::Nor;
pub use ram::{OutOfBounds, Ram};
#[cfg(any(feature = "embedded-storage", feature = "embedded-storage-async"))]
pub use region::{BadRegion, NorError};
