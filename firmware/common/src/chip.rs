//! A NOR flash chip simulated in memory that keeps its content over a reset.
//!
//! ```text
//! mark 8 B | programmed: one bit a unit | bytes
//! ```
//! Rules of a strict part: a unit is programmed once between two erases, an erase is a whole block, and both take their time in steps, so that a reset
//! in the middle leaves half of it done. What a reset interrupts looks touched, or was not touched at all; a block whose erase was cut reads blank and is
//! not to be programmed. Whoever breaks a rule gets an error, which the device tells and counts.

use core::sync::atomic::{Ordering, compiler_fence};

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// The memory of a chip. `MAP` is `BYTES / 32`: a bit for each unit of 4 bytes.
#[derive(Debug)]
#[repr(C)]
pub struct Cells<const BYTES: usize, const MAP: usize> {
    mark: [u8; 8],
    programmed: [u8; MAP],
    bytes: [u8; BYTES],
}

/// A chip that is switched on.
#[derive(Debug)]
pub struct Chip<'m> {
    programmed: &'m mut [u8],
    bytes: &'m mut [u8],
    counts: Counts,
}

/// What was done since the chip was switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Blocks that were erased.
    pub erased: u32,
    /// Units that were programmed.
    pub programmed: u32,
    /// Times that somebody asked for what the rules forbid.
    pub broken_rules: u32,
}

impl<const BYTES: usize, const MAP: usize> Cells<BYTES, MAP> {
    /// A chip that was never used.
    #[cfg(test)]
    pub(crate) const fn blank() -> Self {
        Self {
            mark: MARK,
            programmed: [0; MAP],
            bytes: [0xFF; BYTES],
        }
    }

    const WHOLE: () = assert!(BYTES == MAP * 8 * UNIT && BYTES.is_multiple_of(BLOCK));

    /// Switches the chip on. Memory that was no chip before becomes one that was never used.
    pub fn power_on(&mut self) -> Chip<'_> {
        let () = Self::WHOLE;
        if self.mark != MARK {
            self.bytes.fill(0xFF);
            self.programmed.fill(0);
            compiler_fence(Ordering::SeqCst);
            self.mark = MARK;
        }
        Chip {
            programmed: &mut self.programmed,
            bytes: &mut self.bytes,
            counts: Counts::default(),
        }
    }
}

impl Chip<'_> {
    /// What was done since the chip was switched on.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    fn is_programmed(&self, unit: usize) -> bool {
        self.programmed
            .get(unit / 8)
            .is_none_or(|bits| bits >> (unit % 8) & 1 == 1)
    }

    /// One unit, byte by byte. The mark that it was programmed comes last: a unit that looks untouched may be programmed.
    fn program_unit(&mut self, unit: usize, bytes: &[u8]) {
        let at = unit * UNIT;
        if let Some(cells) = self.bytes.get_mut(at..at + UNIT) {
            cells.copy_from_slice(bytes);
        }
        compiler_fence(Ordering::SeqCst);
        if let Some(bits) = self.programmed.get_mut(unit / 8) {
            *bits |= 1 << (unit % 8);
        }
        compiler_fence(Ordering::SeqCst);
        self.counts.programmed = self.counts.programmed.wrapping_add(1);
    }

    /// One block. The marks go last: a block that was not erased to its end is not to be programmed, whatever it reads like.
    fn erase_block(&mut self, block: usize) {
        let cells = block * BLOCK..(block + 1) * BLOCK;
        let marks = cells.start / UNIT / 8..cells.end / UNIT / 8;
        self.bytes.get_mut(cells).unwrap_or_default().fill(0xFF);
        compiler_fence(Ordering::SeqCst);
        self.programmed.get_mut(marks).unwrap_or_default().fill(0);
        compiler_fence(Ordering::SeqCst);
        self.counts.erased = self.counts.erased.wrapping_add(1);
    }

    fn refuse<T>(&mut self, kind: NorFlashErrorKind) -> Result<T, NorFlashErrorKind> {
        self.counts.broken_rules = self.counts.broken_rules.wrapping_add(1);
        Err(kind)
    }
}

impl ErrorType for Chip<'_> {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Chip<'_> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        if let Err(kind) = check_read(self, offset, bytes.len()) {
            return self.refuse(kind);
        }
        let from = self.bytes.get(offset as usize..).unwrap_or_default();
        bytes
            .iter_mut()
            .zip(from)
            .for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for Chip<'_> {
    const WRITE_SIZE: usize = UNIT;
    const ERASE_SIZE: usize = BLOCK;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        if let Err(kind) = check_erase(self, from, to) {
            return self.refuse(kind);
        }
        (from as usize / BLOCK..to as usize / BLOCK).for_each(|block| self.erase_block(block));
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        if let Err(kind) = check_write(self, offset, bytes.len()) {
            return self.refuse(kind);
        }
        let first = offset as usize / UNIT;
        for (unit, bytes) in (first..).zip(bytes.chunks_exact(UNIT)) {
            if self.is_programmed(unit) {
                return self.refuse(NorFlashErrorKind::Other);
            }
            self.program_unit(unit, bytes);
        }
        Ok(())
    }
}

/// Bytes that are programmed at once.
pub const UNIT: usize = 4;
/// Bytes that are erased at once.
pub const BLOCK: usize = 512;
const MARK: [u8; 8] = *b"NORchip\x01";

#[cfg(test)]
mod tests {
    use super::*;

    fn cells() -> Cells<1024, 32> {
        Cells {
            mark: [0; 8],
            programmed: [0x55; 32],
            bytes: [0xAA; 1024],
        }
    }

    #[test]
    fn unit_is_programmed_once_between_two_erases() {
        let mut cells = cells();
        let mut chip = cells.power_on();
        assert_eq!(chip.write(4, &[0xFF; 4]), Ok(()), "also with ones");
        assert_eq!(chip.write(0, &[1; 8]), Err(NorFlashErrorKind::Other));
        assert_eq!(chip.write(510, &[1; 4]), Err(NorFlashErrorKind::NotAligned));
        assert_eq!(chip.counts().broken_rules, 2);
        chip.erase(0, 512).unwrap();
        assert_eq!(chip.write(0, &[1; 8]), Ok(()));
    }

    #[test]
    fn content_outlives_a_reset_and_foreign_memory_does_not() {
        let mut cells = cells();
        cells.power_on().write(512, b"kept").unwrap();
        let mut chip = cells.power_on();
        let mut bytes = [0; 6];
        chip.read(511, &mut bytes).unwrap();
        assert_eq!(bytes, *b"\xFFkept\xFF");
        assert_eq!(chip.write(512, b"twic"), Err(NorFlashErrorKind::Other));
    }
}
