//! What a scenario commits: planned frames, and their bytes.

use sedge_core::entry::{Entry, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::gap::{Cause, Gap};
use sedge_core::ids::{LogId, Micros, Offset};

use crate::oracle::Planned;
use crate::payload;
use crate::random::{Random, seed_for};

/// Bytes of the largest value.
pub const VALUE_BYTES_MAX: usize = 36;

/// What the frame of an origin holds, whose log is mirrored, that begins at `offset`: it is always the same.
#[must_use]
pub fn of_origin(seed: u64, offset: u64) -> Planned {
    let mut random = Random::new(seed_for(seed ^ 0x6D69_7272_6F72, offset));
    if random.one_in(8) {
        return Planned::Gap(1 + random.below(6));
    }
    let count = 1 + random.below(4);
    Planned::Records(
        (offset..offset + count)
            .map(|offset| payload::value(seed, offset, VALUE_BYTES_MAX))
            .collect(),
    )
}

/// Encodes `frames` from `first` on, and says how many offsets they take.
#[must_use]
pub fn encode(
    form: Form,
    log: &LogId,
    first: u64,
    time: Micros,
    frames: &[Planned],
) -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let mut offset = first;
    for (at, planned) in frames.iter().enumerate() {
        let label = Label {
            form,
            first: Offset::new(offset),
            time,
            first_of_commit: at == 0,
        };
        let mut frame = vec![0; FRAME_BYTES_MAX];
        let len = match planned {
            Planned::Records(values) => encode_records(&mut frame, log, label, values),
            Planned::Gap(span) => {
                let gap = gap(label.first, *span, time);
                frame::emit_gap(&mut frame, log, label, &gap)
            }
        };
        frame.truncate(len.expect("a frame of a scenario is small"));
        bytes.extend(frame);
        offset += planned.span();
    }
    (bytes, offset - first)
}

fn gap(from: Offset, span: u64, when: Micros) -> Gap {
    let (cause, lost) = if span.is_multiple_of(2) {
        (Cause::Evicted, span)
    } else {
        (Cause::Burned, 0)
    };
    Gap {
        from,
        to: from + span,
        lost,
        cause,
        when,
        when_last: when,
    }
}

fn encode_records(
    frame: &mut [u8],
    log: &LogId,
    label: Label,
    values: &[Vec<u8>],
) -> Option<usize> {
    let mut entries = vec![0; FRAME_BYTES_MAX];
    let mut len = 0;
    for value in values {
        let entry = Entry::Record(Record {
            value,
            ..Record::default()
        });
        len += entry.encode(&mut entries[len..])?;
    }
    let count = u16::try_from(values.len()).ok()?;
    let annotation: &[u8] = if label.form == Form::Explicit && values.len() == 2 {
        b"\x02\x03own"
    } else {
        b""
    };
    frame::emit_data(frame, log, label, count, annotation, &entries[..len])
}

const FRAME_BYTES_MAX: usize = 1024;
