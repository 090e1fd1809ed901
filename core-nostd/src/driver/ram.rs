//! A log in memory: for tests, and for memory that keeps its content over a warm reset.

use crate::media::Media;

/// Segments that lie one behind the other in a buffer.
#[derive(Clone, Debug)]
pub struct Ram<B> {
    bytes: B,
    segment_bytes: u32,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Ram<B> {
    /// A medium over `bytes`, as they are. Fill them with `0xFF` for one that was never used.
    pub const fn new(bytes: B, segment_bytes: u32) -> Self {
        Self {
            bytes,
            segment_bytes,
        }
    }

    /// The buffer.
    pub fn into_inner(self) -> B {
        self.bytes
    }

    fn range(&mut self, segment: u32, position: u32, len: usize) -> Result<&mut [u8], OutOfBounds> {
        let segment_bytes = self.segment_bytes as usize;
        let start = (segment as usize)
            .checked_mul(segment_bytes)
            .ok_or(OutOfBounds)?;
        let end = start.checked_add(segment_bytes).ok_or(OutOfBounds)?;
        let segment = self.bytes.as_mut().get_mut(start..end).ok_or(OutOfBounds)?;
        segment
            .get_mut(position as usize..)
            .and_then(|rest| rest.get_mut(..len))
            .ok_or(OutOfBounds)
    }
}

/// Beyond the end of a segment or of the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfBounds;

impl core::fmt::Display for OutOfBounds {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("outside of the buffer")
    }
}

impl core::error::Error for OutOfBounds {}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Media for Ram<B> {
    type Error = OutOfBounds;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), OutOfBounds> {
        let from = self.range(segment, position, into.len())?;
        into.copy_from_slice(from);
        Ok(())
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        self.range(segment, position, bytes.len())?
            .copy_from_slice(bytes);
        Ok(())
    }

    fn erase(&mut self, segment: u32) -> Result<(), OutOfBounds> {
        let segment_bytes = self.segment_bytes as usize;
        self.range(segment, 0, segment_bytes)?.fill(0xFF);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), OutOfBounds> {
        Ok(())
    }
}
