//! What was read from a log on this machine, turned into items as if it had come from a hub: a gateway shows its own log so.

use std::sync::Arc;

use sedge_core::{LogId, Offset};
use sedge_store::Chunk;

use super::decode;
use super::item::{Item, Origin};
use crate::wire::{Gap, PartHead};

/// The items at and behind `from` in what was read from there. Offsets are those of the log, which no hub has shifted.
pub fn items_of(
    origin: &Arc<Origin>,
    log: LogId,
    epoch: u32,
    from: Offset,
    chunk: &Chunk,
) -> Vec<Item> {
    let gap = chunk.gap.as_ref().map(|gap| Gap {
        from: gap.from.get(),
        to: gap.to.get(),
        lost: gap.lost,
        cause: gap.cause.code(),
        when: gap.when.get(),
        when_last: gap.when_last.get(),
    });
    let head = PartHead {
        number: origin.number,
        log_id: *log.as_bytes(),
        epoch,
        shift: 0,
        from: from.get(),
        next: chunk.next.get(),
        earliest: 0,
        end: chunk.next.get(),
        gaps: gap.into_iter().collect(),
        beginnings: Vec::new(),
        frames_len: 0,
    };
    let mut items = Vec::new();
    decode::part(&head, &chunk.frames, origin, from.get(), &mut items);
    items
}
