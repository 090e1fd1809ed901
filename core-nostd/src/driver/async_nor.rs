//! A log on any `embedded-storage-async` NOR flash: the twin of the blocking driver, one region, plain `NorFlash` only, no unit programmed twice.
//!
//! # When a future is dropped
//!
//! A future that is dropped in the middle may leave its operation undone, done in part, or done. The log takes the range for torn, looks at it before it
//! writes again, and programs none of it a second time (docs/decisions/0004-log-machine.md). Of the flash's own driver it asks one thing:
//!
//! **An operation whose future was dropped has come to its end before the next operation on the same flash, a read too, is carried out.**
//!
//! A driver that starts the part and polls its busy flag keeps this, if it waits for the flag before each operation; so does one that works only while it
//! is polled. One that hands its operations to a queue or another task, which may carry out a dropped one behind a later one, does not: a late erase
//! would take away what was written since. Put such a driver behind one that waits for what it abandoned, or never drop the log's futures.

use embedded_storage_async::nor_flash::NorFlash;

use super::region::{BadRegion, NorError, Piece, Region, UnitBuffer, Units, take_part};
use crate::media::{Misfit, Operations};
use crate::segment::Geometry;

/// Segments that lie one behind the other in a flash.
#[derive(Debug)]
pub struct AsyncNor<F> {
    flash: F,
    region: Region,
}

impl<F: NorFlash> AsyncNor<F> {
    /// A medium over the region that begins at `start`.
    ///
    /// # Errors
    /// If start or segments are no whole erase blocks, or the flash reads in units of more than 32 bytes. Whether the log fits is looked at when it is opened.
    pub fn new(flash: F, start: u32, segment_bytes: u32) -> Result<Self, BadRegion> {
        let region = Region::new(start, segment_bytes, Self::UNITS)?;
        Ok(Self { flash, region })
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

impl<F: NorFlash> Operations for AsyncNor<F> {
    type Error = NorError<F::Error>;

    async fn read(
        &mut self,
        segment: u32,
        position: u32,
        into: &mut [u8],
    ) -> Result<(), Self::Error> {
        let mut address = self.region.address(segment, position, into.len())?;
        let mut rest = into;
        while !rest.is_empty() {
            let taken = match Self::UNITS.piece(address, rest.len()) {
                Piece::Whole(len) => {
                    let bytes = rest.get_mut(..len).ok_or(NorError::OutOfBounds)?;
                    self.flash
                        .read(address, bytes)
                        .await
                        .map_err(NorError::Flash)?;
                    len
                }
                Piece::Part { start, unit, ahead } => {
                    let mut buffer = UnitBuffer::default();
                    let bytes = buffer.get_mut(..unit).ok_or(NorError::OutOfBounds)?;
                    self.flash
                        .read(start, bytes)
                        .await
                        .map_err(NorError::Flash)?;
                    take_part(bytes, ahead, rest)
                }
            };
            rest = rest.get_mut(taken..).unwrap_or_default();
            address = address.saturating_add(u32::try_from(taken).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    async fn program(
        &mut self,
        segment: u32,
        position: u32,
        bytes: &[u8],
    ) -> Result<(), Self::Error> {
        let address = self.region.address(segment, position, bytes.len())?;
        self.flash
            .write(address, bytes)
            .await
            .map_err(NorError::Flash)
    }

    async fn erase(&mut self, segment: u32) -> Result<(), Self::Error> {
        let (from, to) = self.region.range(segment)?;
        self.flash.erase(from, to).await.map_err(NorError::Flash)
    }

    async fn sync(&mut self) -> Result<(), Self::Error> {
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
    use embedded_storage_async::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};

    use super::*;

    /// Only its units matter.
    struct Coarse;

    impl ErrorType for Coarse {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Coarse {
        const READ_SIZE: usize = 4;

        async fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            Ok(())
        }

        fn capacity(&self) -> usize {
            4096
        }
    }

    impl NorFlash for Coarse {
        const WRITE_SIZE: usize = 8;
        const ERASE_SIZE: usize = 256;

        async fn erase(&mut self, _: u32, _: u32) -> Result<(), NorFlashErrorKind> {
            Ok(())
        }

        async fn write(&mut self, _: u32, _: &[u8]) -> Result<(), NorFlashErrorKind> {
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_read_comes_in_units_that_are_programmed() {
        assert_eq!(AsyncNor::new(Coarse, 256, 256).unwrap().grain(), 8);
    }
}
