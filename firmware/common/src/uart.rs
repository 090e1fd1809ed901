//! A UART as `embedded-io` sees it, made of the three things that every UART's registers can do.

use core::convert::Infallible;

use embedded_io::{ErrorType, Read, ReadReady, Write};

/// The registers of a UART that is switched on.
pub trait Registers {
    /// Whether a byte has come that was not taken yet.
    fn has_byte(&mut self) -> bool;

    /// The byte that has come; only after [`Self::has_byte`].
    fn take(&mut self) -> u8;

    /// Sends a byte, as soon as there is room for it.
    fn put(&mut self, byte: u8);
}

/// A UART over its registers: read by looking, written by waiting.
#[derive(Debug)]
pub struct Uart<R>(pub R);

impl<R> ErrorType for Uart<R> {
    type Error = Infallible;
}

impl<R: Registers> ReadReady for Uart<R> {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.has_byte())
    }
}

impl<R: Registers> Read for Uart<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let Some(place) = into.first_mut() else {
            return Ok(0);
        };
        while !self.0.has_byte() {}
        *place = self.0.take();
        Ok(1)
    }
}

impl<R: Registers> Write for Uart<R> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        bytes.iter().for_each(|&byte| self.0.put(byte));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
