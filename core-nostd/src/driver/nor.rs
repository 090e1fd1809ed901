//! A log on any `embedded-storage` NOR flash: one region of it, plain `NorFlash` only, no unit programmed twice.

use embedded_storage::nor_flash::NorFlash;

use super::region::{BadRegion, NorError, Piece, Region, UnitBuffer, Units, take_part};
use crate::media::{Media, Misfit};
use crate::segment::Geometry;

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
    /// If start or segments are no whole erase blocks, or the flash reads in units of more than 32 bytes. Whether the log fits is looked at when it is opened.
    pub fn new(flash: F, start: u32, segment_bytes: u32) -> Result<Self, BadRegion> {
        let region = Region::new(start, segment_bytes, Self::UNITS)?;
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

    fn misfit(&self, geometry: &Geometry) -> Option<Misfit> {
        self.region
            .misfit(geometry, Self::UNITS, self.flash.capacity())
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use embedded_storage::nor_flash::{
        ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
    };

    use super::*;
    use crate::ids::{LogId, Micros};
    use crate::log::{Fresh, Log, OpenError, Options, WhenFull};
    use crate::segment::{Dimensions, Medium, Role};

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

    /// What is torn comes in the larger of the two units.
    #[test]
    fn what_cannot_be_read_comes_in_units_that_are_programmed() {
        let nor = Nor::new(Strict(Vec::new()), 256, 256).unwrap();
        assert_eq!(nor.grain(), 8);
        let (read, write, erase) = (16, 8, 256);
        assert_eq!(Units { read, write, erase }.grain(), 16);
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
    fn region_of_half_erase_blocks_is_refused_with_the_number_that_is_wrong() {
        let refused = |start, segment_bytes| Nor::new(Strict(Vec::new()), start, segment_bytes);
        let block = 256;
        let start = BadRegion::Start { start: 128, block };
        assert_eq!(refused(128, 256).unwrap_err(), start);
        for segment_bytes in [0, 128, 300] {
            let segments = BadRegion::SegmentBytes {
                segment_bytes,
                block,
            };
            assert_eq!(refused(256, segment_bytes).unwrap_err(), segments);
        }
        assert_eq!(
            start.to_string(),
            "the log begins at 0x80, which is no multiple of the erase block of 256 bytes"
        );
    }

    /// The log is opened on a flash that is smaller, programs more at once, or is divided otherwise than its geometry says. Nothing is written.
    #[test]
    fn log_that_does_not_fit_its_flash_is_refused_at_the_open() {
        let open = |bytes: usize, driver_segment, write_unit, segment_count| {
            let dimensions = Dimensions {
                medium: Medium::Nor,
                role: Role::Origin,
                write_unit,
                segment_bytes: 4096,
                segment_count,
                frame_bytes_max: 256,
                commit_offsets_max: 16,
            };
            let geometry = Geometry::new(dimensions).unwrap();
            let fresh = Fresh {
                log_id: LogId::new([7; 16]),
                now: Micros::UNKNOWN,
                boot: 1,
            };
            let mut nor = Nor::new(Strict(std::vec![0xFF; bytes]), 256, driver_segment).unwrap();
            let options = Options::new(geometry, WhenFull::EvictOldest);
            let opened = Log::open(&mut nor, options, fresh, [0; 768]).map(|_| ());
            if opened.is_err() {
                assert!(nor.into_inner().0.iter().all(|&byte| byte == 0xFF));
            }
            opened
        };
        let whole = 256 + 3 * 4096;
        assert_eq!(open(whole, 4096, 8, 3), Ok(()));
        assert_eq!(
            open(whole, 4096, 16, 3),
            Ok(()),
            "units may be programmed in pairs"
        );
        let unit = Misfit::WriteUnit {
            geometry: 4,
            medium: 8,
        };
        assert_eq!(open(whole, 4096, 4, 3), Err(OpenError::Misfit(unit)));
        let segments = Misfit::SegmentBytes {
            geometry: 4096,
            medium: 2048,
        };
        assert_eq!(open(whole, 2048, 8, 3), Err(OpenError::Misfit(segments)));
        let capacity = Misfit::Capacity {
            end: whole as u64,
            medium: whole as u64 - 256,
        };
        let refused = open(whole - 256, 4096, 8, 3);
        assert_eq!(refused, Err(OpenError::Misfit(capacity)));
        assert_eq!(
            refused.unwrap_err().to_string(),
            "the log ends at 0x3100, and the medium at 0x3000"
        );
        // More than an address can say.
        let beyond = open(whole, 4096, 8, 1 << 20);
        assert!(matches!(
            beyond,
            Err(OpenError::Misfit(Misfit::Capacity { .. }))
        ));
    }
}
