//! What a log stands on, seen from the log: numbered segments of bytes. Drivers implement [`Media`]; the log knows nothing else of the world.

/// Numbered segments that can be read, programmed, erased and made durable; each call returns when it is done.
///
/// A segment that does not exist yet (a file that was never allocated) reads as `0xFF`; [`Media::erase`] brings it into being.
pub trait Media {
    /// Why an operation failed.
    type Error;

    /// Fills `into` with the bytes of `segment` from `position` on.
    ///
    /// # Errors
    /// If the bytes cannot be read. The log takes them as corrupt and goes on.
    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes `bytes` into `segment` at `position`. On NOR flash both are multiples of the write unit, and each unit is programmed at most once between two erases.
    ///
    /// # Errors
    /// If it is not certain that all was written. The log takes the range as torn.
    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Makes `segment` ready to be stamped. On NOR flash all its bytes become `0xFF`; on files a missing segment is created and its space reserved, an existing one stays as it is.
    ///
    /// # Errors
    /// If it is not certain that all was erased, or there is no space for a new segment.
    fn erase(&mut self, segment: u32) -> Result<(), Self::Error>;

    /// Returns when everything programmed so far survives a power cut. Nothing to do on NOR flash.
    ///
    /// # Errors
    /// If that is not certain.
    fn sync(&mut self) -> Result<(), Self::Error>;
}

/// A borrowed medium is a medium.
impl<M: Media> Media for &mut M {
    type Error = M::Error;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Self::Error> {
        (**self).read(segment, position, into)
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        (**self).program(segment, position, bytes)
    }

    fn erase(&mut self, segment: u32) -> Result<(), Self::Error> {
        (**self).erase(segment)
    }

    fn sync(&mut self) -> Result<(), Self::Error> {
        (**self).sync()
    }
}
