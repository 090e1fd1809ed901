//! Forwarder, hub and consumer client of sedge: everything that moves events from a gateway's disk to a consumer.
//!
//! [`forward`] sends what a gateway's partitions hold, [`hub`] takes custody of it and serves it, [`client`] reads it. They meet only on the
//! wire: docs/spec/custody.md between the first two, docs/spec/hub.md between the last two.

// What both ends of a wire share is written once, and one of them may be left out.
#![cfg_attr(not(feature = "hub"), allow(dead_code))]

mod address;
pub mod any_bytes;
mod backoff;
pub mod client;
pub mod forward;
#[cfg(feature = "hub")]
pub mod hub;
pub mod json;
#[cfg(feature = "hub")]
mod kafka;
pub mod net;
mod packed;
mod pattern;
mod stream;
pub mod trust;
mod wire;

pub use wire::FRAME_BYTES_MAX;
