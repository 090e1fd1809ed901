//! The sedge log and link for firmware in C: `sedge_core.h` is made of this crate, and nothing stands here that is not in it.
//!
//! ```text
//! C program ─ sedge_* ─► handle (null? open?) ─► core's Log, Reader, Sender, Decoder
//!     ▲                                            │
//!     └────── read, program, erase ◄─── flash ◄────┘        caller's memory: state, scratch, batch, link's buffers
//! ```
//! All memory is the caller's: no heap, no globals. What the C program promises is written at the head of the header; each `unsafe` block here names which
//! promise it stands on. Numbers and pointers are checked at the door, and nothing inside panics.
#![no_std]
// A panic has nowhere to go on a microcontroller.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]
#![allow(
    non_camel_case_types,
    reason = "these are the names that C programs see"
)]
#![allow(
    clippy::missing_safety_doc,
    reason = "what callers promise is said once, at the head of the header"
)]

// A host has a handler for panics in its standard library; a microcontroller has none.
#[cfg(not(target_os = "none"))]
extern crate std;

mod cursor;
mod error;
mod flash;
mod handle;
mod link;
mod log;

pub use cursor::*;
pub use error::*;
pub use flash::*;
pub use link::*;
pub use log::*;

/// Nothing reaches this as far as is known; whoever does stands still until the watchdog bites.
#[cfg(all(target_os = "none", feature = "panic-handler", not(test)))]
#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
