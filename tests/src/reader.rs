//! Reads a whole log as a consumer would, with the log's own reader, up to the durable watermark.

use sedge_core::entry::Entry;
use sedge_core::frame::Frame;
use sedge_core::gap::{Cause, Gap};
use sedge_core::ids::LogId;
use sedge_core::log::View;
use sedge_core::read::{Read, Reader};
use sedge_core::segment::Geometry;

use crate::oracle::{Seen, Why};
use crate::sim::{Shared, Sim};

/// Everything from the oldest offset to the durable one.
///
/// # Panics
/// If the reader does not come to an end.
#[must_use]
pub fn read<S: Sim>(sim: &Shared<S>, geometry: &Geometry, log: &LogId, view: View) -> Vec<Seen> {
    let mut reader = Reader::new(*log, *geometry, view.oldest);
    let mut scratch = vec![0; geometry.scratch_bytes()];
    let mut media = sim.clone();
    let mut seen = Vec::new();
    let steps_max = u64::from(geometry.segment_bytes()) * u64::from(geometry.segment_count());
    for _ in 0..steps_max {
        match reader.read(&mut media, &mut scratch, view) {
            Read::Frame { frame, .. } => show(&frame, &mut seen),
            Read::Gap(gap) => seen.push(seen_gap(&gap)),
            Read::CaughtUp => return seen,
            other => panic!("nobody writes, but the reader met {other:?} after {seen:?}"),
        }
    }
    panic!("the reader does not end; at {}", reader.next());
}

pub(crate) fn show(frame: &Frame<'_>, seen: &mut Vec<Seen>) {
    for (offset, entry) in frame.entries() {
        if let Entry::Record(record) = entry {
            seen.push(Seen::Record {
                offset: offset.get(),
                value: record.value.to_vec(),
            });
        }
    }
    seen.extend(frame.gap().as_ref().map(seen_gap));
}

pub(crate) fn seen_gap(gap: &Gap) -> Seen {
    Seen::Gap {
        from: gap.from.get(),
        to: gap.to.get(),
        lost: gap.lost,
        why: why(gap.cause),
    }
}

/// The cause, as far as the oracle tells them apart.
#[must_use]
pub const fn why(cause: Cause) -> Why {
    match cause {
        Cause::Burned => Why::Burned,
        Cause::Corrupt => Why::Corrupt,
        _ => Why::Other,
    }
}
