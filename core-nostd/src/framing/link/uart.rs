//! The link over a UART that speaks `embedded-io`: bytes that are there are taken without waiting, a message goes out whole.
//!
//! Firmware calls [`receive`] from its idle loop, or when the receive interrupt says so, and [`send`] for what its machine has to say. Nothing here
//! knows what a message says.

use embedded_io::{Read, ReadReady, Write};

use super::{Decoder, encode};
use crate::framing::Packet;

/// The next message of the line, if its last byte has come; `None` when the UART has nothing more.
///
/// # Errors
/// What the UART says. Bytes that it lost are no more than line noise: the decoder finds the next message.
pub fn receive<'d, U, B>(
    uart: &mut U,
    decoder: &'d mut Decoder<B>,
) -> Result<Option<Packet<'d>>, U::Error>
where
    U: Read + ReadReady,
    B: AsRef<[u8]> + AsMut<[u8]>,
{
    let mut byte = [0];
    while uart.read_ready()? {
        if uart.read(&mut byte)? == 0 {
            break;
        }
        let [byte] = byte;
        if decoder.step(byte) {
            return Ok(decoder.packet());
        }
    }
    Ok(None)
}

/// Sends one message of this `kind` whose body is `parts` one after the other. `line` holds it while it is sent.
///
/// # Errors
/// [`SendError::TooLarge`] if it does not fit into `line`, or what the UART says.
pub fn send<U: Write>(
    uart: &mut U,
    kind: u8,
    parts: &[&[u8]],
    line: &mut [u8],
) -> Result<(), SendError<U::Error>> {
    let len = encode(kind, parts, line).ok_or(SendError::TooLarge)?;
    let bytes = line.get(..len).ok_or(SendError::TooLarge)?;
    uart.write_all(bytes).map_err(SendError::Uart)
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError<E> {
    /// It does not fit into the buffer.
    TooLarge,
    /// The UART failed.
    Uart(E),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A UART whose line is a loop.
    #[derive(Default)]
    struct Loop(VecDeque<u8>);

    impl embedded_io::ErrorType for Loop {
        type Error = core::convert::Infallible;
    }

    impl Read for Loop {
        fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error> {
            let mut read = 0;
            for (place, byte) in into.iter_mut().zip(self.0.drain(..1)) {
                *place = byte;
                read += 1;
            }
            Ok(read)
        }
    }

    impl ReadReady for Loop {
        fn read_ready(&mut self) -> Result<bool, Self::Error> {
            Ok(!self.0.is_empty())
        }
    }

    impl Write for Loop {
        fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
            // A UART with a short queue takes a little at a time.
            let taken = bytes.len().min(3);
            self.0.extend(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> Result<(), Self::Error> {
            Ok(())
        }
    }

    #[test]
    fn message_passes_a_uart_that_takes_and_gives_little() {
        let mut uart = Loop::default();
        uart.0.extend(b"boot: ok\n");
        send(&mut uart, 3, &[b"frames", b" and more"], &mut [0; 64]).expect("sent");
        let mut decoder = Decoder::new([0; 64]);
        let packet = receive(&mut uart, &mut decoder)
            .expect("read")
            .expect("a message");
        assert_eq!((packet.kind, packet.body), (3, &b"frames and more"[..]));
        assert!(receive(&mut uart, &mut decoder).expect("read").is_none());
    }

    #[test]
    fn message_that_does_not_fit_the_buffer_is_not_begun() {
        let mut uart = Loop::default();
        assert_eq!(
            send(&mut uart, 3, &[&[7; 64]], &mut [0; 32]),
            Err(SendError::TooLarge)
        );
        assert!(uart.0.is_empty());
    }
}
