//! Forwarder, hub and consumer client of sedge: everything that moves events from a gateway's disk to a consumer.
//!
//! [`forward`] sends what a gateway's partitions hold, [`hub`] takes custody of it and serves it, [`client`] reads it. They meet only on the
//! wire: docs/spec/custody.md between the first two, docs/spec/hub.md between the last two.

mod address;
pub mod any_bytes;
mod backoff;
pub mod client;
pub mod forward;
pub mod hub;
pub mod json;
pub mod net;
mod packed;
mod stream;
pub mod trust;
mod wire;
