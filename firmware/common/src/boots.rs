//! How often this device was started: a number that grows with each start, kept in two blocks of its flash.
//!
//! ```text
//! block | count u32 LE | !count u32 LE | count | !count | … blank |       the other block is erased when this one is full
//! ```
//! A count is used only after it was programmed whole, so none is used twice, wherever the power fails.

use embedded_storage::nor_flash::NorFlash;

/// Counts this start in the two blocks of `flash` that begin at `start`, and says which it is, from 1.
///
/// # Errors
/// What the flash says.
pub fn count<F: NorFlash>(flash: &mut F, start: u32) -> Result<u32, F::Error> {
    let begin = start as usize / F::ERASE_SIZE;
    let blocks = [Block::read(flash, begin)?, Block::read(flash, begin + 1)?];
    let [first, second] = &blocks;
    let (present, other, used) = if second.highest > first.highest {
        (begin + 1, begin, second.used)
    } else {
        (begin, begin + 1, first.used)
    };
    let boot = first.highest.max(second.highest).saturating_add(1);
    if used < entries::<F>() {
        put(flash, present, used, boot)?;
    } else {
        flash.erase(address::<F>(other, 0), address::<F>(other + 1, 0))?;
        put(flash, other, 0, boot)?;
    }
    Ok(boot)
}

/// What stands in one block.
struct Block {
    /// Entries before the first that may be programmed.
    used: usize,
    highest: u32,
}

impl Block {
    fn read<F: NorFlash>(flash: &mut F, block: usize) -> Result<Self, F::Error> {
        let mut found = Self {
            used: 0,
            highest: 0,
        };
        for entry in 0..entries::<F>() {
            let mut bytes = [0; ENTRY];
            flash.read(address::<F>(block, entry), &mut bytes)?;
            if bytes == [0xFF; ENTRY] {
                continue;
            }
            found.used = entry + 1;
            let [a, b, c, d, not @ ..] = bytes;
            let count = u32::from_le_bytes([a, b, c, d]);
            if u32::from_le_bytes(not) == !count {
                found.highest = found.highest.max(count);
            }
        }
        Ok(found)
    }
}

fn put<F: NorFlash>(flash: &mut F, block: usize, entry: usize, boot: u32) -> Result<(), F::Error> {
    let mut bytes = [0; ENTRY];
    let (count, not) = bytes.split_at_mut(ENTRY / 2);
    count.copy_from_slice(&boot.to_le_bytes());
    not.copy_from_slice(&(!boot).to_le_bytes());
    flash.write(address::<F>(block, entry), &bytes)
}

const fn entries<F: NorFlash>() -> usize {
    F::ERASE_SIZE / ENTRY
}

const fn address<F: NorFlash>(block: usize, entry: usize) -> u32 {
    (block * F::ERASE_SIZE + entry * ENTRY) as u32
}

const ENTRY: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chip::{BLOCK, Cells};

    fn cells() -> std::boxed::Box<Cells<2048, 64>> {
        std::boxed::Box::new(Cells::blank())
    }

    #[test]
    fn each_start_has_a_number_of_its_own_through_many_blocks() {
        let mut cells = cells();
        for start in 1..=500 {
            let mut chip = cells.power_on();
            assert_eq!(count(&mut chip, 0), Ok(start));
            assert_eq!(chip.counts().broken_rules, 0);
        }
    }

    /// The power fails in the middle of an entry, in the middle of an erase, and right after one.
    #[test]
    fn torn_entry_and_torn_erase_repeat_no_number() {
        let mut cells = cells();
        let mut chip = cells.power_on();
        assert_eq!(count(&mut chip, 0), Ok(1));
        chip.write(8, &2_u32.to_le_bytes()).unwrap();
        assert_eq!(count(&mut chip, 0), Ok(2), "the torn number was never used");
        for start in 3..=62 {
            assert_eq!(count(&mut chip, 0), Ok(start));
        }
        assert_eq!(count(&mut chip, 0), Ok(63), "the first block is full now");
        chip.write(BLOCK as u32 + 16, &[3; 4]).unwrap(); // the other was not erased to its end
        assert_eq!(count(&mut chip, 0), Ok(64));
        assert_eq!(count(&mut chip, 0), Ok(65));
        assert_eq!(chip.counts().broken_rules, 0);
    }
}
