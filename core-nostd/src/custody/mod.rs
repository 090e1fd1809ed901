//! The custody protocol: the one conversation at every hop, as two machines that know no socket and no clock.
//!
//! The [`Sender`] has logs, the [`Receiver`] takes custody of them. Each is told what arrived and what time it is, and is
//! asked what to say next. [`message`] has what is said; docs/spec/custody.md has the bytes and the rules.
//!
//! ```text
//! log ─ data() ─► Sender ─ poll_transmit() ─► framing ═══ wire ═══► framing ─ handle_message() ─► Receiver ─ Store ─► log
//!     ◄ Event ──         ◄ handle_message() ─                               ─ poll_transmit() ──           ◄ stored() ─
//! ```
//! A driver is a loop of the same few steps: say all that `poll_transmit` has, do what the events ask, then wait for
//! whichever comes first of a message, `next_timeout` or news from the log.

mod list;
mod liveness;
pub mod message;
mod receiver;
mod sender;
mod window;

pub use receiver::{Received, Receiver, ReceiverEvent, ReceiverSettings, ReceiverSlot, Store};
pub use sender::{
    Below, Run, Sender, SenderEvent, SenderSettings, SenderSlot, Sent, Stretch, Want,
};

/// The time, as the caller knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds since some moment that does not move: timers run on this.
    pub uptime_us: u64,
    /// Microseconds since 1970 UTC, if known: told to the peer, used for nothing here.
    pub unix_us: Option<i64>,
    /// The wall time was set by something worth trusting.
    pub trusted: bool,
}

impl Now {
    const fn clock(self, boot: u64) -> message::Clock {
        message::Clock {
            unix_us: self.unix_us,
            uptime_us: self.uptime_us,
            boot,
            trusted: self.trusted,
        }
    }
}

/// What carries the messages, and so who repeats what was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A serial line: messages may be lost, so the sender has a retransmission timer, and a session has no connection to end.
    Link,
    /// A connection: it delivers everything or ends; silence ends it.
    Stream,
}

/// A message to put on the wire: its body stands at the front of the buffer that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The message type.
    pub kind: u8,
    /// Bytes of the body.
    pub len: usize,
}
