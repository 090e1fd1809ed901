//! Values that a test can make again from a seed and a number, some of them chosen to mislead a scanner.

use crate::random::{Random, seed_for};

/// The value of record `number` in the scenario `seed`: up to `bytes_max` bytes, never empty.
#[must_use]
pub fn value(seed: u64, number: u64, bytes_max: usize) -> Vec<u8> {
    let mut random = Random::new(seed_for(seed, number));
    let mut bytes = vec![0; 1 + random.index(bytes_max)];
    match random.below(8) {
        0 => bytes.fill(0xFF),
        1 => bytes.fill(0x00),
        2 => fill_with_headers(&mut bytes, &mut random),
        _ => random.fill(&mut bytes),
    }
    let tag = number.to_le_bytes();
    let tagged = bytes.len().min(tag.len());
    bytes[..tagged].copy_from_slice(&tag[..tagged]);
    bytes
}

/// Bytes that look like frame headers of both forms, and like stamps.
fn fill_with_headers(bytes: &mut [u8], random: &mut Random) {
    for chunk in bytes.chunks_mut(8) {
        let looks_like = random.pick(&[
            *b"\x59\x01\x10\x00\0\0\0\0",
            *b"\xA9\x00\x01\x00\x10\0\0\0",
            *b"sdg1\x01\x00\x00\x02",
            *b"open\x01\x00\x00\x00",
        ]);
        chunk.copy_from_slice(&looks_like[..chunk.len()]);
    }
}
