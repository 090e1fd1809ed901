//! Bytes from anywhere, given to what must cope with any bytes: the bodies of the fuzz targets in `fuzz/`, and the inputs that are kept.
//!
//! Each body takes bytes and panics if a promise is broken. libFuzzer calls it from `fuzz/fuzz_targets`; `tests/tests/fuzz.rs` calls it on a stable
//! compiler with what is kept in `fuzz/corpus`, and with mutations of that.

pub mod corpus;
pub mod image;
pub mod wire;

use crate::random::Random;

/// A fuzz target: its name is that of its file and of the folder of its inputs.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// What is done with the bytes.
    pub body: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 4] = [
    Target {
        name: "open_flash_image",
        body: image::open_flash_image,
    },
    Target {
        name: "open_file_image",
        body: image::open_file_image,
    },
    Target {
        name: "link_decoder",
        body: wire::link_decoder,
    },
    Target {
        name: "custody_message",
        body: wire::custody_message,
    },
];

/// `input`, changed in up to a handful of places. The same for the same seed.
#[must_use]
pub fn mutated(input: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(6) {
        if bytes.is_empty() {
            return bytes;
        }
        let from = random.index(bytes.len());
        let longest = if random.one_in(2) { 16 } else { 600 };
        let end = (from + 1 + random.index(longest)).min(bytes.len());
        match random.below(8) {
            0 => bytes[from] ^= 1 << random.below(8),
            1 => bytes[from] = random.bits() as u8,
            2 => bytes[from..end].fill(0),
            3 => bytes[from..end].fill(0xFF),
            4 => random.fill(&mut bytes[from..end]),
            5 => bytes.truncate(end),
            6 => {
                let source = random.index(bytes.len() - (end - from) + 1);
                bytes.copy_within(source..source + (end - from), from);
            }
            _ => {
                let piece = bytes[from..end].to_vec();
                let at = random.index(bytes.len());
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}
