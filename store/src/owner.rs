//! Who keeps state beside the records of an origin log, durable with them: device cursors, unsettled publishes, sessions.

use sedge_core::Offset;

use crate::queue::Ticket;

/// The keeper of what annotations and notes say. Everything here is called on the writer's thread, in log order,
/// and only about bytes that survive a power cut.
pub trait Owner: Send {
    /// Begins again from what [`Owner::checkpoint`] wrote, or from nothing (`checkpoint` is empty).
    /// What stands behind it in the log follows as [`Owner::apply`] and [`Owner::note`].
    fn restore(&mut self, checkpoint: &[u8]);

    /// A unit is durable: the annotation `item` it was staged with, its encoded `entries`, the `first` offset they took.
    /// `ticket` is that of the [`stage`](crate::Producer::stage) call, or [`Ticket::RECOVERED`].
    fn apply(&mut self, item: &[u8], entries: &[u8], first: Offset, ticket: Ticket);

    /// A note is durable.
    fn note(&mut self, item: &[u8]);

    /// Writes what [`Owner::restore`] needs into `into`, which is empty: `bytes_max` at most, and what is too much is to be forgotten. It is copied into each
    /// segment's open header, so that a segment can be recycled without a thought for the notes in it. A log whose header cannot carry it cannot go on.
    fn checkpoint(&mut self, into: &mut Vec<u8>, bytes_max: usize);
}

/// An owner of nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoOwner;

impl Owner for NoOwner {
    fn restore(&mut self, _: &[u8]) {}
    fn apply(&mut self, _: &[u8], _: &[u8], _: Offset, _: Ticket) {}
    fn note(&mut self, _: &[u8]) {}
    fn checkpoint(&mut self, _: &mut Vec<u8>, _: usize) {}
}
