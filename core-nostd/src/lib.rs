//! The sedge log, its entries and the custody protocol, for microcontrollers and Linux alike.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod crc;
pub mod custody;
pub mod driver;
pub mod entry;
pub mod frame;
pub mod framing;
pub mod gap;
pub mod ids;
pub mod ledger;
pub mod log;
pub mod media;
pub mod octets;
pub mod read;
pub mod segment;
pub mod varint;
pub mod walk;

pub use gap::{Cause, Gap};
pub use ids::{LogId, Micros, Offset};
