//! What a board gives the device, beside memory.

use core::fmt::Arguments;

use crate::uart::{Registers, Uart};

/// The board, as far as the device needs it.
pub trait Board {
    /// The registers of the UART that leads to the gateway.
    type Registers: Registers;

    /// The UART that leads to the gateway.
    fn uart(&mut self) -> &mut Uart<Self::Registers>;

    /// Microseconds since the start; never goes back.
    fn uptime_us(&mut self) -> u64;

    /// Sleeps until something may have happened: a tick at the latest.
    fn rest(&mut self);

    /// 16 bytes that no other device and no other call will draw. They name a log for ever: take a true random number generator where there is one.
    fn draw(&mut self) -> [u8; 16];

    /// One line for whoever watches.
    fn print(&mut self, line: Arguments<'_>);
}
