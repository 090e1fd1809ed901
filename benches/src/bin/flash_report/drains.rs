//! What handing over costs: reads for each record, and what is written to say that it was taken.

use sedge_core::Offset;
use sedge_core::read::{Read, Reader};

use crate::node::{Node, Reading};
use crate::nor::Chip;
use crate::rival::Queue;
use crate::row::{Row, ratio, thousands};

/// The rows about handing over.
pub(crate) fn rows() -> Vec<Row> {
    let mut node = Node::boot(Chip::<4, 4096>::blank(SEGMENTS, 1));
    node.fill(u64::from(SEGMENTS) + 300, &[RECORD]);
    let shared = drain(&mut node, Buffer::Shared);
    let own = drain(&mut node, Buffer::Own);
    let live = one_by_one(&mut node);
    let (released, saved) = acknowledge(&mut node);
    let queue = pops();
    vec![Row {
        what: "drain one record of 64 B, 1,024 × 4 KiB / one acknowledgement".into(),
        must: "≤ 2 reads, 0 programs / 1 program for the batch".into(),
        seen: format!(
            "{:.2} reads (reader with a buffer of its own {:.2}; record by record as they come {:.2}; finding the place {}), {} programs / {saved} program",
            shared.mean(),
            own.mean(),
            live.mean(),
            thousands(shared.first),
            released + shared.programs + own.programs,
        ),
        anchor: format!(
            "{:.0} reads (at most {}) and {:.0} program each",
            queue.mean(),
            thousands(queue.most),
            ratio(queue.programs, queue.records)
        ),
        met: shared.mean() <= 2.0 && live.mean() <= 2.0 && shared.first <= 100 && saved == 1,
    }]
}

/// Reads of many records.
#[derive(Default)]
struct Drained {
    records: u64,
    reads: u64,
    programs: u64,
    most: u64,
    /// Reads of the first one, which has to be found.
    first: u64,
}

impl Drained {
    fn mean(&self) -> f64 {
        ratio(self.reads - self.first, self.records)
    }

    fn add(&mut self, done: crate::nor::Done) {
        if self.records == 0 {
            self.first = done.reads;
        }
        self.records += 1;
        self.reads += done.reads;
        self.programs += done.programs;
        self.most = self.most.max(done.reads);
    }
}

/// Whose buffer a reader reads into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Buffer {
    /// The log's, which the log may need between two reads.
    Shared,
    Own,
}

/// From the middle of what is held, some laps of segments on.
fn drain(node: &mut Node<4, 4096>, buffer: Buffer) -> Drained {
    let middle = node.log.oldest().get() / 2 + node.log.next().get() / 2;
    let mut reader = Reader::new(node.log.log_id(), *node.log.geometry(), Offset::new(middle));
    let mut own = vec![0; node.log.geometry().scratch_bytes()];
    let mut drained = Drained::default();
    while drained.records < DRAINED {
        let before = node.chip().done();
        let is_record = if buffer == Buffer::Shared {
            matches!(node.log.read(&mut reader), Read::Frame { .. })
        } else {
            let view = node.log.view();
            let mut media = node.log.media_mut();
            let read = reader.read(&mut media, &mut own, view);
            matches!(read, Read::Frame { .. })
        };
        assert!(is_record, "what is held is read");
        drained.add(node.chip().done().since(before));
    }
    drained
}

/// A reader at the end of the log: each record is read as soon as it is there.
fn one_by_one(node: &mut Node<4, 4096>) -> Drained {
    let mut reader = Reader::new(node.log.log_id(), *node.log.geometry(), node.log.next());
    let mut drained = Drained::default();
    while drained.records < DRAINED {
        node.rest();
        node.append(&[RECORD]).expect("a healthy chip");
        let before = node.chip().done();
        let is_record = matches!(node.log.read(&mut reader), Read::Frame { .. });
        assert!(is_record, "what was appended is read");
        drained.add(node.chip().done().since(before));
    }
    drained
}

/// Programs of many acknowledgements, and of the one that makes the last of them durable.
fn acknowledge(node: &mut Node<4, 4096>) -> (u64, u64) {
    let before = node.chip().done();
    for behind in (0..100).rev() {
        let next = Offset::new(node.log.next().get() - behind);
        node.log.set_cursor(7, next).expect("one uplink");
    }
    let released = node.chip().done().since(before).programs;
    let before = node.chip().done();
    node.log
        .save_ledger(sedge_core::Micros::UNKNOWN)
        .expect("a healthy chip");
    (released, node.chip().done().since(before).programs)
}

fn pops() -> Drained {
    let mut queue = Queue::boot(Chip::<4, 4096>::blank(SEGMENTS, 1));
    queue.fill(u64::from(SEGMENTS) + 300, &[7; 64]);
    let mut drained = Drained::default();
    while drained.records < POPPED {
        let before = queue.chip().done();
        let popped = queue.pop().expect("a healthy chip");
        assert!(popped.is_some(), "what is held is taken");
        drained.add(queue.chip().done().since(before));
    }
    drained
}

const SEGMENTS: u32 = 1024;
const RECORD: Reading<'static> = Reading {
    key: None,
    value: &[7; 64],
};
const DRAINED: u64 = 5_000;
const POPPED: u64 = 2_000;
