//! The link over a UART that speaks `embedded-io`: bytes that are there are taken without waiting, a message goes out whole.
//!
//! Firmware calls [`receive`] from its idle loop, or when the receive interrupt says so, and [`send`] for what its machine has to say. Nothing here
//! knows what a message says.
//!
//! With the feature `embedded-io-async`, `receive_next` and `send_next` do the same for a task that waits.

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
    let bytes = encoded(kind, parts, line).ok_or(SendError::TooLarge)?;
    uart.write_all(bytes).map_err(SendError::Uart)
}

/// Waits for the next message of the line. `None` when the line has ended.
///
/// May be dropped and called again: what came is in the decoder, and no byte is taken from the UART before it is known to go there.
///
/// # Errors
/// As [`receive`].
#[cfg(feature = "embedded-io-async")]
pub async fn receive_next<'d, U, B>(
    uart: &mut U,
    decoder: &'d mut Decoder<B>,
) -> Result<Option<Packet<'d>>, U::Error>
where
    U: embedded_io_async::Read,
    B: AsRef<[u8]> + AsMut<[u8]>,
{
    let mut byte = [0];
    // One at a time: what a future that is dropped had read in vain would be lost.
    while uart.read(&mut byte).await? > 0 {
        let [byte] = byte;
        if decoder.step(byte) {
            return Ok(decoder.packet());
        }
    }
    Ok(None)
}

/// Sends one message as [`send`] does, and waits for the UART to take it. Dropped in the middle it leaves half a message, which the other side passes
/// over as noise: the next one begins with a delimiter.
///
/// # Errors
/// As [`send`].
#[cfg(feature = "embedded-io-async")]
pub async fn send_next<U: embedded_io_async::Write>(
    uart: &mut U,
    kind: u8,
    parts: &[&[u8]],
    line: &mut [u8],
) -> Result<(), SendError<U::Error>> {
    let bytes = encoded(kind, parts, line).ok_or(SendError::TooLarge)?;
    uart.write_all(bytes).await.map_err(SendError::Uart)
}

fn encoded<'l>(kind: u8, parts: &[&[u8]], line: &'l mut [u8]) -> Option<&'l [u8]> {
    let len = encode(kind, parts, line)?;
    line.get(..len)
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
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
    pub(super) struct Loop(VecDeque<u8>);

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

    #[cfg(feature = "embedded-io-async")]
    mod waiting {
        use core::pin::pin;
        use core::task::{Context, Poll, Waker};

        use super::*;

        /// A UART that lets its user wait before each byte that it gives and each piece that it takes.
        #[derive(Default)]
        struct Slow(Loop);

        impl embedded_io::ErrorType for Slow {
            type Error = core::convert::Infallible;
        }

        impl embedded_io_async::Read for Slow {
            async fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Error> {
                wait_once().await;
                if self.0.0.is_empty() {
                    return Ok(0);
                }
                self.0.read(into)
            }
        }

        impl embedded_io_async::Write for Slow {
            async fn write(&mut self, bytes: &[u8]) -> Result<usize, Self::Error> {
                wait_once().await;
                self.0.write(bytes)
            }

            async fn flush(&mut self) -> Result<(), Self::Error> {
                Ok(())
            }
        }

        async fn wait_once() {
            let mut waited = false;
            core::future::poll_fn(|_| match core::mem::replace(&mut waited, true) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            })
            .await;
        }

        /// Polls at most so often, then drops.
        fn polled<F: Future>(work: F, polls: usize) -> Option<F::Output> {
            let mut work = pin!(work);
            let mut context = Context::from_waker(Waker::noop());
            (0..polls).find_map(|_| match work.as_mut().poll(&mut context) {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            })
        }

        #[test]
        fn message_comes_through_though_its_reader_is_dropped_at_any_byte() {
            let mut line = [0; 64];
            for polls in 1..40 {
                let mut uart = Slow::default();
                let sent = polled(send_next(&mut uart, 3, &[b"frames"], &mut line), 40);
                assert_eq!(sent, Some(Ok(())));
                let mut decoder = Decoder::new([0; 64]);
                let early = polled(receive_next(&mut uart, &mut decoder), polls).map(|read| {
                    read.expect("never fails")
                        .map(|packet| packet.body.to_vec())
                });
                let body = match early {
                    Some(body) => body,
                    None => polled(receive_next(&mut uart, &mut decoder), 40)
                        .expect("within 40 polls")
                        .expect("never fails")
                        .map(|packet| packet.body.to_vec()),
                };
                assert_eq!(body.as_deref(), Some(&b"frames"[..]), "{polls} polls");
            }
        }

        #[test]
        fn message_behind_one_that_was_dropped_half_sent_is_heard() {
            let mut uart = Slow::default();
            let mut line = [0; 64];
            assert!(polled(send_next(&mut uart, 3, &[b"never heard"], &mut line), 3).is_none());
            let sent = polled(send_next(&mut uart, 4, &[b"heard"], &mut line), 40);
            assert_eq!(sent, Some(Ok(())));
            let mut decoder = Decoder::new([0; 64]);
            let packet = polled(receive_next(&mut uart, &mut decoder), 80)
                .expect("within 80 polls")
                .expect("never fails")
                .expect("a message");
            assert_eq!((packet.kind, packet.body), (4, &b"heard"[..]));
        }
    }
}
