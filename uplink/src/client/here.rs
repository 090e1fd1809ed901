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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sedge_core::frame::{Form, Label, emit_data};
    use sedge_core::{Cause, Micros};

    use super::*;

    #[test]
    fn a_log_on_this_machine_is_shown_with_its_own_offsets() {
        let log = LogId::new([7; 16]);
        let label = Label {
            form: Form::Explicit,
            first: Offset::new(5),
            time: Micros::new(1),
            first_of_commit: false,
        };
        let mut frame = [0; 64];
        let len = emit_data(&mut frame, &log, label, 1, &[], &[0; 2]).unwrap();
        let gap = sedge_core::Gap {
            from: Offset::new(2),
            to: Offset::new(5),
            lost: 3,
            cause: Cause::Evicted,
            when: Micros::UNKNOWN,
            when_last: Micros::UNKNOWN,
        };
        let chunk = Chunk {
            gap: Some(gap),
            first: Offset::new(5),
            next: Offset::new(6),
            frames: Bytes::copy_from_slice(&frame[..len]),
        };
        let origin = Arc::new(Origin {
            stream: "s".into(),
            gateway: "g".into(),
            partition: 0,
            number: 0,
        });
        let items = items_of(&origin, log, 3, Offset::new(2), &chunk);
        let [Item::Gap(gap), Item::Record(record)] = items.as_slice() else {
            panic!("a gap and a record, not {items:?}")
        };
        assert_eq!((gap.from, gap.to, gap.lost, gap.epoch), (2, 5, 3, 3));
        assert_eq!(record.offset, 5);
    }
}
