//! The framing of a serial line: `00 COBS(type · body · crc32c) 00`.
//!
//! ```text
//! noise … 00 | code ≤254 bytes | code ≤254 bytes | … | 00 00 | code … | 00
//!            └─ decoded: type u8 · body · crc32c u32 LE ─┘
//! ```
//! A delimiter stands on both sides, so that one lost delimiter costs one message and not two. The decoder takes one
//! byte at a time, never looks back, and its memory is the buffer it was given. Nothing here knows what a message says.

#[cfg(feature = "embedded-io")]
pub mod uart;

use super::Packet;
use crate::crc::Digest;

/// Finds messages in the bytes of a serial line.
///
/// `B` is the memory for one decoded message with its type and CRC: an array, a `Vec` or a borrowed slice. What is longer is
/// dropped and counted.
///
/// ```
/// use sedge_core::framing::link;
///
/// let mut line = [0u8; 32];
/// let len = link::encode(8, &[b"hello, ", b"gateway"], &mut line).unwrap();
/// let mut decoder = link::Decoder::new([0u8; 64]);
/// let mut bytes = &line[..len];
/// let packet = decoder.advance(&mut bytes).unwrap();
/// assert_eq!((packet.kind, packet.body), (8, &b"hello, gateway"[..]));
/// ```
#[derive(Debug)]
pub struct Decoder<B> {
    buffer: B,
    filled: usize,
    /// The code byte that began the present COBS block.
    code: u8,
    /// Bytes of the present block that are still to come.
    remaining: u8,
    state: State,
    damaged: u64,
    damaged_kind: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No delimiter seen since the line was opened: whatever comes began before us, and is no damage.
    Hunting,
    /// After a delimiter.
    Inside,
    /// What came since the last delimiter is already known to be no message.
    Skipping,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Decoder<B> {
    /// A decoder for a line that was just opened.
    pub const fn new(buffer: B) -> Self {
        Self {
            buffer,
            filled: 0,
            code: 0,
            remaining: 0,
            state: State::Hunting,
            damaged: 0,
            damaged_kind: None,
        }
    }

    /// The line was opened again: what was half read is forgotten, the counter stays.
    pub fn reopen(&mut self) {
        self.begin(State::Hunting);
    }

    /// Takes one byte; a message if this byte completed one.
    pub fn push(&mut self, byte: u8) -> Option<Packet<'_>> {
        if self.step(byte) { self.packet() } else { None }
    }

    /// Takes bytes from the front of `bytes` up to the end of the next message. `None` when they are used up.
    pub fn advance(&mut self, bytes: &mut &[u8]) -> Option<Packet<'_>> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            if self.step(byte) {
                return self.packet();
            }
        }
        None
    }

    /// What stood between two delimiters and was no message: line noise, torn messages, log text on the same wire.
    pub const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// The type of the last message that was dropped as damaged since this was asked before, as far as it could be read: it may be wrong
    /// like any byte of it, or have been no message.
    pub const fn take_damaged(&mut self) -> Option<u8> {
        self.damaged_kind.take()
    }

    /// Whether this byte completed a message that now stands in the buffer.
    fn step(&mut self, byte: u8) -> bool {
        match (byte, self.state) {
            (0, State::Hunting) => self.begin(State::Inside),
            (0, _) => return self.delimiter(),
            (_, State::Hunting | State::Skipping) => {}
            (_, State::Inside) => self.inside(byte),
        }
        false
    }

    fn delimiter(&mut self) -> bool {
        if self.state == State::Inside && self.code == 0 {
            return false; // an empty frame: the delimiter before the next message
        }
        let whole = self.state == State::Inside && self.remaining == 0 && self.crc_fits();
        if !whole {
            self.damaged = self.damaged.saturating_add(1);
            self.damaged_kind = self.read().first().copied();
            self.begin(State::Inside);
            return false;
        }
        self.code = 0; // the next byte begins a new message; `filled` still says how long this one is
        self.remaining = 0;
        true
    }

    fn inside(&mut self, byte: u8) {
        if self.remaining > 0 {
            self.remaining -= 1;
            self.store(byte);
            return;
        }
        match self.code {
            0 => self.filled = 0,
            0xFF => {}
            _ => self.store(0),
        }
        self.code = byte;
        self.remaining = byte.saturating_sub(1);
    }

    fn store(&mut self, byte: u8) {
        match self.buffer.as_mut().get_mut(self.filled) {
            Some(place) => {
                *place = byte;
                self.filled += 1;
            }
            None => self.state = State::Skipping,
        }
    }

    fn begin(&mut self, state: State) {
        self.filled = 0;
        self.code = 0;
        self.remaining = 0;
        self.state = state;
    }

    fn crc_fits(&self) -> bool {
        let Some((covered, crc)) = self.split() else {
            return false;
        };
        let mut digest = Digest::new();
        digest.update(covered);
        !covered.is_empty() && digest.finish() == u32::from_le_bytes(*crc)
    }

    fn split(&self) -> Option<(&[u8], &[u8; CRC_LEN])> {
        self.read().split_last_chunk()
    }

    fn read(&self) -> &[u8] {
        self.buffer.as_ref().get(..self.filled).unwrap_or(&[])
    }

    fn packet(&self) -> Option<Packet<'_>> {
        let (covered, _) = self.split()?;
        let (&kind, body) = covered.split_first()?;
        Some(Packet { kind, body })
    }
}

/// Writes one message for the line into `line`; the number of bytes, or `None` if it does not fit. The body may come in parts.
pub fn encode(kind: u8, body: &[&[u8]], line: &mut [u8]) -> Option<usize> {
    let mut digest = Digest::new();
    let mut cobs = Cobs::begin(line)?;
    let mut put = |part: &[u8]| {
        digest.update(part);
        cobs.extend(part)
    };
    put(&[kind])?;
    for part in body {
        put(part)?;
    }
    cobs.extend(&digest.finish().to_le_bytes())?;
    cobs.end()
}

/// The most bytes that a body of `body_len` takes on the line, and so what `line` of [`encode`] must hold.
pub const fn encoded_len_max(body_len: usize) -> usize {
    let decoded = decoded_len(body_len);
    2 + decoded + decoded / 254 + 1
}

/// What a [`Decoder`]'s buffer must hold for a body of `body_len`.
pub const fn decoded_len(body_len: usize) -> usize {
    1 + body_len + CRC_LEN
}

const CRC_LEN: usize = 4;

/// Consistent Overhead Byte Stuffing into a slice, with the delimiters.
struct Cobs<'a> {
    line: &'a mut [u8],
    at: usize,
    code_at: usize,
    code: u8,
}

impl<'a> Cobs<'a> {
    fn begin(line: &'a mut [u8]) -> Option<Self> {
        let mut cobs = Self {
            line,
            at: 0,
            code_at: 0,
            code: 1,
        };
        cobs.place(0)?;
        cobs.open_block()?;
        Some(cobs)
    }

    fn extend(&mut self, bytes: &[u8]) -> Option<()> {
        bytes.iter().try_for_each(|&byte| self.push(byte))
    }

    fn push(&mut self, byte: u8) -> Option<()> {
        if self.code == 0xFF {
            self.close_block()?;
            self.open_block()?;
        }
        if byte == 0 {
            self.close_block()?;
            return self.open_block();
        }
        self.code += 1;
        self.place(byte)
    }

    fn end(mut self) -> Option<usize> {
        self.close_block()?;
        self.place(0)?;
        Some(self.at)
    }

    fn open_block(&mut self) -> Option<()> {
        self.code_at = self.at;
        self.code = 1;
        self.place(0)
    }

    fn close_block(&mut self) -> Option<()> {
        *self.line.get_mut(self.code_at)? = self.code;
        Some(())
    }

    fn place(&mut self, byte: u8) -> Option<()> {
        *self.line.get_mut(self.at)? = byte;
        self.at += 1;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn line_of(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut line = std::vec![0; encoded_len_max(body.len())];
        let len = encode(kind, &[body], &mut line).expect("encoded_len_max is enough");
        line.truncate(len);
        line
    }

    fn heard(decoder: &mut Decoder<[u8; 1024]>, mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut packets = Vec::new();
        while let Some(packet) = decoder.advance(&mut bytes) {
            packets.push((packet.kind, packet.body.to_vec()));
        }
        packets
    }

    #[test]
    fn every_length_around_a_block_comes_back() {
        for len in (0..10).chain(245..260).chain(500..520) {
            for fill in [0u8, 1, 0xFF] {
                let body = std::vec![fill; len];
                let line = line_of(3, &body);
                assert!(line[1..line.len() - 1].iter().all(|&b| b != 0));
                let packets = heard(&mut Decoder::new([0; 1024]), &line);
                assert_eq!(packets, [(3, body)], "length {len}, fill {fill}");
            }
        }
    }

    #[test]
    fn a_line_opened_in_the_middle_of_a_message_counts_no_damage() {
        let mut line = line_of(1, b"half of this one is gone")[9..].to_vec();
        line.extend(line_of(2, b"whole"));
        let mut decoder = Decoder::new([0; 1024]);
        assert_eq!(heard(&mut decoder, &line), [(2, b"whole".to_vec())]);
        assert_eq!(decoder.damaged(), 0);
    }

    #[test]
    fn a_line_that_is_opened_again_in_the_middle_of_a_message_counts_no_damage() {
        let line = line_of(1, b"this one is never finished");
        let mut decoder = Decoder::new([0; 1024]);
        assert_eq!(heard(&mut decoder, &line[..9]), []);
        decoder.reopen();
        assert_eq!(heard(&mut decoder, &line[9..]), []);
        assert_eq!(decoder.damaged(), 0);
        let whole = line_of(2, b"whole");
        assert_eq!(heard(&mut decoder, &whole), [(2, b"whole".to_vec())]);
    }

    #[test]
    fn a_lost_delimiter_costs_one_message_and_log_text_costs_none() {
        let mut line = line_of(1, b"first");
        line.extend(b"E (312) wifi: no beacon\r\n");
        line.extend(line_of(2, b"second"));
        let mut torn = line_of(3, b"third");
        torn.pop();
        torn.pop();
        line.extend(torn);
        line.extend(line_of(4, b"fourth"));
        let mut decoder = Decoder::new([0; 1024]);
        let packets: Vec<u8> = heard(&mut decoder, &line).iter().map(|p| p.0).collect();
        assert_eq!(packets, [1, 2, 4]);
        assert_eq!(decoder.damaged(), 2);
    }

    #[test]
    fn a_damaged_message_still_tells_its_type() {
        let mut line = line_of(3, b"third");
        line[5] ^= 0x40;
        line.extend(line_of(4, b"fourth"));
        let mut decoder = Decoder::new([0; 1024]);
        assert_eq!(heard(&mut decoder, &line), [(4, b"fourth".to_vec())]);
        assert_eq!(decoder.take_damaged(), Some(3));
        assert_eq!(decoder.take_damaged(), None);
    }

    #[test]
    fn what_is_longer_than_the_buffer_is_dropped_up_to_the_next_delimiter() {
        let mut line = line_of(1, &[7; 2000]);
        line.extend(line_of(2, b"fits"));
        let mut decoder = Decoder::new([0; 1024]);
        assert_eq!(heard(&mut decoder, &line), [(2, b"fits".to_vec())]);
        assert_eq!(decoder.damaged(), 1);
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let whole = line_of(5, b"a reading, 21.5 degrees");
        for bit in 0..whole.len() * 8 {
            let mut line = whole.clone();
            line[bit / 8] ^= 1 << (bit % 8);
            line.extend(line_of(6, b"next"));
            let packets = heard(&mut Decoder::new([0; 1024]), &line);
            let outer = bit / 8 == 0 || bit / 8 == whole.len() - 1;
            let kinds: Vec<u8> = packets.iter().map(|p| p.0).collect();
            // A flipped outer delimiter may leave the message whole, thanks to its neighbour's.
            assert!(
                kinds == [6] || (outer && kinds == [5, 6]),
                "bit {bit}: {kinds:?}"
            );
        }
    }

    #[test]
    fn a_line_too_short_for_the_message_is_refused() {
        let whole = line_of(5, &[9; 300]);
        for short in 0..whole.len() {
            assert_eq!(encode(5, &[&[9; 300]], &mut std::vec![0; short]), None);
        }
    }
}
