//! A log on any `embedded-storage` NOR flash: one region of it, plain `NorFlash` only, no unit programmed twice.

use embedded_storage::nor_flash::NorFlash;

use super::region::{NorError, Piece, Region, UnitBuffer, Units, take_part};
use crate::media::Media;

/// Segments that lie one behind the other in a flash.
#[derive(Debug)]
pub struct Nor<F> {
    flash: F,
    region: Region,
}

impl<F: NorFlash> Nor<F> {
    /// A medium over the region that begins at `start`.
    ///
    /// # Errors
    /// [`NorError::OutOfBounds`] if start or segments are no whole erase blocks, or the flash reads in units of more than 32 bytes.
    pub fn new(flash: F, start: u32, segment_bytes: u32) -> Result<Self, NorError<F::Error>> {
        let region = Region::new(start, segment_bytes, Self::UNITS).ok_or(NorError::OutOfBounds)?;
        Ok(Self { flash, region })
    }

    /// The flash, to be looked at.
    pub const fn flash(&self) -> &F {
        &self.flash
    }

    /// The flash.
    pub fn into_inner(self) -> F {
        self.flash
    }

    const UNITS: Units = Units {
        read: F::READ_SIZE,
        write: F::WRITE_SIZE,
        erase: F::ERASE_SIZE,
    };
}

impl<F: NorFlash> Media for Nor<F> {
    type Error = NorError<F::Error>;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Self::Error> {
        let mut address = self.region.address(segment, position, into.len())?;
        let mut rest = into;
        while !rest.is_empty() {
            let taken = match Self::UNITS.piece(address, rest.len()) {
                Piece::Whole(len) => {
                    let bytes = rest.get_mut(..len).ok_or(NorError::OutOfBounds)?;
                    self.flash.read(address, bytes).map_err(NorError::Flash)?;
                    len
                }
                Piece::Part { start, unit, ahead } => {
                    let mut buffer = UnitBuffer::default();
                    let bytes = buffer.get_mut(..unit).ok_or(NorError::OutOfBounds)?;
                    self.flash.read(start, bytes).map_err(NorError::Flash)?;
                    take_part(bytes, ahead, rest)
                }
            };
            rest = rest.get_mut(taken..).unwrap_or_default();
            address = address.saturating_add(u32::try_from(taken).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        let address = self.region.address(segment, position, bytes.len())?;
        self.flash.write(address, bytes).map_err(NorError::Flash)
    }

    fn erase(&mut self, segment: u32) -> Result<(), Self::Error> {
        let (from, to) = self.region.range(segment)?;
        self.flash.erase(from, to).map_err(NorError::Flash)
    }

    fn sync(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn grain(&self) -> u32 {
        Self::UNITS.grain()
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use embedded_storage::nor_flash::{
        ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
    };

    use super::*;

    /// Reads in units of 4, writes in units of 8, erases in units of 256 bytes, and refuses anything else.
    #[derive(Debug)]
    struct Strict(Vec<u8>);

    impl ErrorType for Strict {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Strict {
        const READ_SIZE: usize = 4;

        fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            check_read(self, offset, bytes.len())?;
            bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.0.len()
        }
    }

    impl NorFlash for Strict {
        const WRITE_SIZE: usize = 8;
        const ERASE_SIZE: usize = 256;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
            check_erase(self, from, to)?;
            self.0[from as usize..to as usize].fill(0xFF);
            Ok(())
        }

        fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
            check_write(self, offset, bytes.len())?;
            self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
    }

    #[test]
    fn any_range_is_read_though_the_flash_reads_in_units() {
        let flash = Strict((0..=255).cycle().take(1024).collect());
        let mut nor = Nor::new(flash, 256, 256).unwrap();
        for (position, len) in [(0, 0), (0, 256), (1, 1), (3, 2), (5, 100), (4, 7), (255, 1)] {
            let mut bytes = std::vec![0xEE; len];
            nor.read(1, position, &mut bytes).unwrap();
            assert!(
                (position..)
                    .zip(&bytes)
                    .all(|(position, &byte)| u32::from(byte) == position)
            );
        }
        assert_eq!(
            nor.read(1, 250, &mut [0; 7]),
            Err(NorError::OutOfBounds),
            "the segment ends"
        );
    }

    #[test]
    fn segment_is_erased_and_programmed_where_it_lies() {
        let mut nor = Nor::new(Strict(std::vec![0; 1024]), 256, 256).unwrap();
        nor.erase(2).unwrap();
        nor.program(2, 8, &[1; 8]).unwrap();
        let bytes = nor.into_inner().0;
        assert!(bytes[..768].iter().all(|&byte| byte == 0));
        assert_eq!(bytes[768..792], [[0xFF; 8], [1; 8], [0xFF; 8]].concat());
    }

    #[test]
    fn half_an_erase_block_is_refused() {
        let refused = Nor::new(Strict(Vec::new()), 0, 128).unwrap_err();
        assert_eq!(refused, NorError::OutOfBounds);
    }
}
