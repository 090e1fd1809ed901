//! Forwarder, hub and consumer client of sedge: everything that moves events from a gateway's disk to a consumer.
//!
//! [`client`] reads streams from a hub, [`json`] writes what it reads; docs/spec/hub.md has what they say on the wire.
#![expect(
    dead_code,
    reason = "the hub's side of the messages comes with the hub"
)]

mod address;
mod backoff;
pub mod client;
pub mod json;
mod stream;
mod wire;
