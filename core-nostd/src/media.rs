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

    /// How finely what can be read is told from what cannot: bytes become unreadable in pieces of this size, aligned to it. The write unit on NOR flash, a sector on files.
    fn grain(&self) -> u32 {
        SECTOR_BYTES
    }
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

    fn grain(&self) -> u32 {
        (**self).grain()
    }
}

/// The same operations for whoever must wait for them.
///
/// A future that is dropped before it is ready may leave its operation undone, done in part, or done. Whichever it is must be settled before
/// the next operation, a read too, is carried out: an operation that takes effect behind a later one breaks the log. What is left the log looks at, and
/// treats as it treats a failure (docs/decisions/0004-log-machine.md).
pub trait Operations {
    /// Why an operation failed.
    type Error;

    /// As [`Media::read`].
    fn read(
        &mut self,
        segment: u32,
        position: u32,
        into: &mut [u8],
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// As [`Media::program`].
    fn program(
        &mut self,
        segment: u32,
        position: u32,
        bytes: &[u8],
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// As [`Media::erase`].
    fn erase(&mut self, segment: u32) -> impl Future<Output = Result<(), Self::Error>>;

    /// As [`Media::sync`].
    fn sync(&mut self) -> impl Future<Output = Result<(), Self::Error>>;

    /// As [`Media::grain`].
    fn grain(&self) -> u32 {
        SECTOR_BYTES
    }
}

/// A borrowed medium is a medium. Lend it to a log whose `open` may be dropped: what a dropped future owns is gone.
impl<O: Operations> Operations for &mut O {
    type Error = O::Error;

    async fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), O::Error> {
        (**self).read(segment, position, into).await
    }

    async fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), O::Error> {
        (**self).program(segment, position, bytes).await
    }

    async fn erase(&mut self, segment: u32) -> Result<(), O::Error> {
        (**self).erase(segment).await
    }

    async fn sync(&mut self) -> Result<(), O::Error> {
        (**self).sync().await
    }

    fn grain(&self) -> u32 {
        (**self).grain()
    }
}

/// What a disk cannot read comes in sectors.
const SECTOR_BYTES: u32 = 512;
