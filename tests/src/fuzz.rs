//! Bytes from anywhere, given to what must cope with any bytes: the bodies of the fuzz targets in `fuzz/`, and the inputs that are kept.
//!
//! Each body takes bytes and panics if a promise is broken. libFuzzer calls it from `fuzz/fuzz_targets`; `tests/tests/fuzz.rs` calls it on a stable
//! compiler with what is kept in `fuzz/corpus`, and with mutations of that.

pub mod corpus;
pub mod frames;
pub mod http;
pub mod image;
pub mod inspect;
pub mod mqtt;
pub mod peers;
mod seeds;
pub mod text;
pub mod wire;

use std::time::Duration;

use crate::random::Random;

/// A fuzz target: its name is that of its file and of the folder of its inputs.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name.
    pub name: &'static str,
    /// What is done with the bytes.
    pub body: fn(&[u8]),
}

impl Target {
    const fn new(name: &'static str, body: fn(&[u8])) -> Self {
        Self { name, body }
    }
}

/// All targets.
pub const TARGETS: [Target; 16] = [
    Target::new("open_flash_image", image::open_flash_image),
    Target::new("open_file_image", image::open_file_image),
    Target::new("inspect_directory", inspect::inspect_directory),
    Target::new("inspect_flash", inspect::inspect_flash),
    Target::new("frame", frames::frame),
    Target::new("entries", frames::entries),
    Target::new("link_decoder", wire::link_decoder),
    Target::new("custody_message", wire::custody_message),
    Target::new("stream_messages", peers::stream_messages),
    Target::new("fetched", peers::fetched),
    Target::new("mqtt_session", mqtt::mqtt_session),
    Target::new("serial_lines", text::serial_lines),
    Target::new("config_file", text::config_file),
    Target::new("key_template", text::key_template),
    Target::new("http_request", http::http_request),
    Target::new("kafka_request", peers::kafka_request),
];

/// What `body` takes of a processor for `input`. What is measured is the time in this thread: others do not count.
///
/// # Panics
/// If it hangs, or as the body does.
pub fn bounded(body: fn(&[u8]), input: &[u8]) -> Duration {
    let begun = processor_time();
    body(input);
    let took = processor_time() - begun;
    assert!(took < HANG, "{took:?} for one input");
    took
}

fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.try_into().expect("it only grows")
}

/// An input that takes so much of a processor hangs its reader: ten times what the slowest takes in a build that is not optimised.
const HANG: Duration = Duration::from_millis(100);

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
