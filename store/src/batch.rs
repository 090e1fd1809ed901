//! A reusable buffer in which a source encodes events before it takes the partition's lock.
//! It knows nothing of offsets and frames; those come when it is staged.

use sedge_core::Micros;
use sedge_core::entry::{Entry, Headers, Notice, Record};
use sedge_core::varint;

/// Units on their way into a log. A unit is one or more entries and one annotation item; they become durable
/// together, in one frame.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) entries: Vec<u8>,
    /// `varint entries of the unit · varint item length · item`, as it will stand in the frame.
    pub(crate) annotation: Vec<u8>,
    pub(crate) parts: Vec<Part>,
    /// Event times in `entries` count from here; none has one if this is `None`.
    pub(crate) base: Option<i64>,
    notes: Vec<u8>,
    note_count: usize,
    offsets: u64,
    unit_bytes_largest: usize,
}

/// A unit or a note, in the order in which they were pushed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Ends of the unit in `entries` and `annotation`, entries in it, whether its item says anything.
    Unit {
        entries_end: usize,
        annotation_end: usize,
        count: u32,
        said: bool,
    },
    /// End of the note in `notes`.
    Note { end: usize },
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the unit that `fill` makes, with its annotation `item` (empty: there is nothing to say).
    /// A unit into which nothing was put leaves no trace.
    pub fn push(&mut self, fill: impl FnOnce(&mut Unit<'_>), item: &[u8]) {
        let before = self.entries.len() + self.annotation.len();
        let mut unit = Unit {
            batch: self,
            count: 0,
        };
        fill(&mut unit);
        let count = unit.count;
        if count == 0 {
            return;
        }
        self.offsets += u64::from(count);
        put_varint(&mut self.annotation, count.into());
        put_varint(&mut self.annotation, item.len() as u64);
        self.annotation.extend_from_slice(item);
        // Times grow by some bytes when they are counted from the frame's time.
        let grows = if self.base.is_some() {
            varint::LEN_MAX * count as usize
        } else {
            0
        };
        let bytes = self.entries.len() + self.annotation.len() - before + grows;
        self.unit_bytes_largest = self.unit_bytes_largest.max(bytes);
        self.parts.push(Part::Unit {
            entries_end: self.entries.len(),
            annotation_end: self.annotation.len(),
            count,
            said: !item.is_empty(),
        });
    }

    /// Adds a note for the owner, durable in its place between the units.
    pub fn push_note(&mut self, item: &[u8]) {
        self.notes.extend_from_slice(item);
        self.note_count += 1;
        self.parts.push(Part::Note {
            end: self.notes.len(),
        });
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.annotation.clear();
        self.notes.clear();
        self.parts.clear();
        self.base = None;
        (self.note_count, self.offsets, self.unit_bytes_largest) = (0, 0, 0);
    }

    /// Nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes it will take in the log, near enough for budgets.
    pub fn bytes(&self) -> usize {
        self.entries.len() + self.annotation.len() + self.notes.len()
    }

    /// Offsets it will take.
    pub fn offsets(&self) -> u64 {
        self.offsets
    }

    pub(crate) fn unit_bytes_largest(&self) -> usize {
        self.unit_bytes_largest
    }

    pub(crate) fn notes(&self) -> usize {
        self.note_count
    }

    pub(crate) fn note(&self, from: usize, end: usize) -> &[u8] {
        &self.notes[from..end]
    }
}

/// The unit that is being pushed.
#[derive(Debug)]
pub struct Unit<'a> {
    batch: &'a mut Batch,
    count: u32,
}

impl Unit<'_> {
    /// Adds a record. `time` is the event's own time, if it has one; the time of ingest stands in the frame.
    pub fn record(
        &mut self,
        time: Option<Micros>,
        key: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        value: &[u8],
    ) {
        let time = time.map(|t| self.delta(t));
        let headers = Headers::new(headers);
        self.put(&Entry::Record(Record {
            time,
            key,
            headers,
            value,
        }));
    }

    /// Adds a notice of loss before this log; its own `time` is replaced by `time`.
    pub fn notice(&mut self, time: Option<Micros>, notice: &Notice<'_>) {
        let time = time.map(|t| self.delta(t));
        self.put(&Entry::Notice(Notice { time, ..*notice }));
    }

    fn put(&mut self, entry: &Entry<'_>) {
        put_entry(&mut self.batch.entries, entry);
        self.count += 1;
    }

    fn delta(&mut self, time: Micros) -> i64 {
        time.get()
            .wrapping_sub(*self.batch.base.get_or_insert(time.get()))
    }
}

pub(crate) fn put_entry(into: &mut Vec<u8>, entry: &Entry<'_>) {
    let from = into.len();
    into.resize(from + entry.encoded_len(), 0);
    let written = entry.encode(&mut into[from..]);
    assert_eq!(
        written,
        Some(into.len() - from),
        "an entry is as long as it says"
    );
}

pub(crate) fn put_varint(into: &mut Vec<u8>, value: u64) {
    let mut bytes = [0; varint::LEN_MAX];
    let len = varint::encode(value, &mut bytes).expect("ten bytes hold any u64");
    into.extend_from_slice(&bytes[..len]);
}
