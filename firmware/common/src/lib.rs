//! A sensor node on the sedge core, free of any board: what stands here runs unchanged on four processors.
//!
//! ```text
//! Sensor ─► Device ─► Log on Nor<Chip> ─► Sender ─► COBS ─► UART ═══► a gateway's serial source
//!              ▲ Board: uptime, UART, console, chance
//! ```
//! A board brings memory for the [`chip::Cells`] and implements [`Board`]; [`device::run`] does the rest and does not return.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod board;
pub mod boots;
pub mod chip;
pub mod device;
mod sensor;
mod uart;

pub use board::Board;
pub use uart::{Registers, Uart};
