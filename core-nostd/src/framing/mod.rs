//! How messages travel: COBS and CRC-32C on a serial line, a length in front on a byte stream.
//!
//! Both know a message only as a type byte and a body; what stands in the body is [`crate::custody`]'s business.
//! The bytes are described in docs/spec/custody.md, "Framings".

pub mod link;
pub mod stream;

/// One message as it left its framing: whole, and (on a link) checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The message type.
    pub kind: u8,
    /// The message body.
    pub body: &'a [u8],
}
