//! The sedge log, its entries and the custody protocol, for microcontrollers and Linux alike.
//!
//! A log is a ring of segments; the bits are in `docs/spec/log.md`.
//!
//! ```text
//! segment   | stamp 32 B | open header | frame | frame | frame | …        |
//! compact     tag | count | payload_len 2 | crc 4 | entries                                       flash
//! explicit    tag | flags | count 2 | payload_len 4 | first 8 | time 8 | crc 4 | entries          files and wire
//! entry       tag | [time] | [key] | [headers] | value
//! ```
//!
//! [`log::Log`] writes one, [`read::Reader`] reads it beside the writer, [`custody`] hands its frames to the next place over the wires of
//! [`framing`]. Nothing here allocates, waits or knows what time it is.
//!
//! # Firmware
//!
//! [`driver`] holds the media: RAM that outlives a reset, and NOR flash by the traits that chips' crates implement. [`log::Log`] calls and has it done;
//! [`log::AsyncLog`] is the same for an executor, and its futures may be dropped anywhere. [`intake`] stands between interrupt handlers and either.
//!
//! | feature | brings |
//! |---|---|
//! | `embedded-storage` | `driver::Nor` on a blocking `NorFlash` (0.3) |
//! | `embedded-storage-async` | `driver::AsyncNor` on one that is waited for (0.4) |
//! | `embedded-io` | `framing::link::uart` on a blocking UART (0.7) |
//! | `embedded-io-async` | its twins that are waited for (0.7) |
//! | `defmt` | `Format` for errors and ids (1) |
//! | `files` | logs on files and mirrors; without it they are refused, and firmware has no code for them |
//! | `std` | CRC by the processor's instruction, and `files` |
//!
//! None is on by default, and none takes anything away. The minimum supported Rust version is 1.95 (`rust-version` of the workspace).
//!
//! ```
//! use sedge_core::driver::Ram;
//! use sedge_core::entry::{Entry, Record};
//! use sedge_core::frame::{self, Form, Label};
//! use sedge_core::log::{Fresh, Log, Options, WhenFull};
//! use sedge_core::read::{Read, Reader};
//! use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
//! use sedge_core::{LogId, Micros};
//!
//! let geometry = Geometry::new(Dimensions {
//!     medium: Medium::Nor,
//!     role: Role::Origin,
//!     write_unit: 4,
//!     segment_bytes: 4096,
//!     segment_count: 4,
//!     frame_bytes_max: 256,
//!     commit_offsets_max: 255,
//! })
//! .unwrap();
//! let flash = Ram::new([0xFF; 4 * 4096], 4096);
//! let now = Micros::new(1_763_633_000_000_000);
//! let fresh = Fresh { log_id: LogId::new(*b"16 random bytes!"), now, boot: 1 };
//! let options = Options::new(geometry, WhenFull::EvictOldest);
//! let (mut log, found) = Log::open(flash, options, fresh, [0; 768]).unwrap();
//! assert!(found.formatted);
//!
//! // One record makes a frame, one frame a commit.
//! let mut entries = [0; 64];
//! let record = Record { key: Some(b"boiler-1"), value: b"21.5", ..Record::default() };
//! let len = Entry::Record(record).encode(&mut entries).unwrap();
//! let label = Label { form: Form::Compact, first: log.next(), time: now, first_of_commit: true };
//! let mut buffer = [0; 256];
//! let len = frame::emit_data(&mut buffer, &log.log_id(), label, 1, &[], &entries[..len]).unwrap();
//! let committed = log.commit(&buffer[..len], 1, &[], now).unwrap();
//! assert_eq!(committed.next, log.next());
//! log.maintain(now).unwrap(); // in idle time: a segment is erased ahead
//!
//! let mut reader = Reader::new(log.log_id(), geometry, committed.first);
//! let Read::Frame { frame, .. } = log.read(&mut reader) else { panic!("it was committed") };
//! assert_eq!(frame.entries().next(), Some((committed.first, Entry::Record(record))));
//! ```
#![no_std]
#![forbid(unsafe_code)]
#![allow(
    clippy::duplicate_mod,
    reason = "`machine` is compiled twice: as calls and as futures"
)]

#[cfg(any(test, feature = "std"))]
extern crate std;

pub mod blocking;
pub mod crc;
pub mod custody;
pub mod driver;
pub mod entry;
pub mod frame;
pub mod framing;
pub mod gap;
pub mod ids;
pub mod intake;
pub mod ledger;
pub mod log;
pub mod media;
pub mod octets;
#[doc(hidden)]
pub mod planted;
pub mod read;
pub mod segment;
pub mod uptime;
pub mod varint;
pub mod waiting;
pub mod walk;
pub mod wire;

pub use gap::{Cause, Gap};
pub use ids::{LogId, Micros, Offset};
