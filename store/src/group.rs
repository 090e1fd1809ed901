//! Units become frames: a group is what one commit writes.
//!
//! Frames are closed as they fill, so that they are made and checked while the group before is being synced.
//! It knows nothing of locks, files and who waits.

use sedge_core::entry::{Entry, Notice, Record};
use sedge_core::frame::{self, Control, Form, Label};
use sedge_core::octets::Reader;
use sedge_core::{LogId, Micros, Offset, varint};

use crate::batch::{Batch, Part, put_entry};
use crate::clock::{BEGINNING_BYTES_MAX, Beginning};
use crate::owner::Owner;
use crate::queue::{StageError, Ticket};

/// What frames and commits of a log may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) log_id: LogId,
    /// Header and payload of the largest frame; only one unit alone makes one above [`FRAME_BYTES_WANTED`].
    pub(crate) frame_bytes_max: usize,
    pub(crate) commit_bytes_max: usize,
    pub(crate) commit_offsets_max: u64,
}

impl Limits {
    fn frame_bytes_wanted(&self) -> usize {
        FRAME_BYTES_WANTED.min(self.frame_bytes_max)
    }
}

/// Frames that are made, the frame that fills, and how many bytes each unit has.
#[derive(Debug, Default)]
pub(crate) struct Group {
    frames: Vec<u8>,
    sealed: Vec<Sealed>,
    filling: Filling,
    units: Vec<UnitShape>,
    first: Offset,
    next: Offset,
    /// What the frame that fills is to tell of the uptimes before it.
    beginning: Option<Beginning>,
}

/// The frame that fills.
#[derive(Debug, Default)]
struct Filling {
    annotation: Vec<u8>,
    entries: Vec<u8>,
    count: u32,
    units: usize,
    said: bool,
    time: Micros,
    first: Offset,
}

/// A frame that is made: where its annotation and entries lie in `frames`.
#[derive(Clone, Copy, Debug)]
enum Sealed {
    Data {
        annotation: usize,
        entries: usize,
        first: Offset,
        units: usize,
    },
    Note {
        from: usize,
        to: usize,
    },
}

#[derive(Clone, Copy, Debug)]
struct UnitShape {
    entries_bytes: usize,
    ticket: Ticket,
}

impl Group {
    pub(crate) fn new(first: Offset) -> Self {
        Self {
            first,
            next: first,
            ..Self::default()
        }
    }

    /// Takes all of `batch` or nothing.
    pub(crate) fn take(
        &mut self,
        limits: &Limits,
        batch: &Batch,
        now: Micros,
        ticket: Ticket,
    ) -> Result<(), StageError> {
        self.check(limits, batch)?;
        let (mut entries_at, mut annotation_at, mut note_at) = (0, 0, 0);
        for part in &batch.parts {
            match *part {
                Part::Unit {
                    entries_end,
                    annotation_end,
                    count,
                    said,
                } => {
                    let entries = &batch.entries[entries_at..entries_end];
                    let annotation = &batch.annotation[annotation_at..annotation_end];
                    (entries_at, annotation_at) = (entries_end, annotation_end);
                    self.room_for(limits, entries.len() + annotation.len(), count, now);
                    let before = self.filling.entries.len();
                    self.filling.put_entries(entries, batch.base);
                    self.filling.annotation.extend_from_slice(annotation);
                    self.filling.count += count;
                    self.filling.units += 1;
                    self.filling.said |= said;
                    self.next = self.next + u64::from(count);
                    self.units.push(UnitShape {
                        entries_bytes: self.filling.entries.len() - before,
                        ticket,
                    });
                }
                Part::Note { end } => {
                    self.seal(limits);
                    self.put_note(limits, batch.note(note_at, end));
                    note_at = end;
                }
            }
        }
        Ok(())
    }

    /// Tells, with the next frame, when a start of the machine began.
    pub(crate) fn tell_beginning(&mut self, beginning: Beginning) {
        self.beginning = Some(beginning);
    }

    /// What `earlier` had no room to tell.
    pub(crate) fn tell_for(&mut self, earlier: &mut Self) {
        self.beginning = self.beginning.or(earlier.beginning.take());
    }

    /// Closes the frame that fills.
    pub(crate) fn seal(&mut self, limits: &Limits) {
        let filling = &mut self.filling;
        if filling.units == 0 {
            return;
        }
        if !filling.said {
            filling.annotation.clear();
        }
        let room = limits.frame_bytes_max.saturating_sub(FRAME_OVERHEAD_MAX);
        let tells = filling.bytes() + BEGINNING_BYTES_MAX <= room;
        if let Some(beginning) = self.beginning.take_if(|_| tells) {
            beginning.put(&mut filling.annotation);
        }
        let from = self.frames.len();
        let label = label(filling.first, filling.time, from == 0);
        let room = FRAME_OVERHEAD_MAX + filling.bytes();
        self.frames.resize(from + room, 0);
        let count =
            u16::try_from(filling.count).expect("room_for keeps frames below 65,536 entries");
        let (annotation, entries) = (&filling.annotation[..], &filling.entries[..]);
        let len = frame::emit_data(
            &mut self.frames[from..],
            &limits.log_id,
            label,
            count,
            annotation,
            entries,
        );
        self.frames
            .truncate(from + len.expect("the room was measured"));
        let entries = self.frames.len() - entries.len();
        self.sealed.push(Sealed::Data {
            annotation: entries - annotation.len(),
            entries,
            first: filling.first,
            units: filling.units,
        });
        filling.clear();
    }

    /// Tells `owner` what this group says, in order.
    pub(crate) fn tell(&self, owner: &mut dyn Owner) {
        let mut units = self.units.iter();
        for sealed in &self.sealed {
            match *sealed {
                Sealed::Note { from, to } => owner.note(&self.frames[from..to]),
                Sealed::Data {
                    annotation,
                    entries,
                    mut first,
                    units: n,
                } => {
                    let mut at = entries;
                    let mut items = Items::new(&self.frames[annotation..entries]);
                    for unit in units.by_ref().take(n) {
                        let Some((count, item)) = items.next() else {
                            continue;
                        };
                        let end = at + unit.entries_bytes;
                        if !item.is_empty() {
                            owner.apply(item, &self.frames[at..end], first, unit.ticket);
                        }
                        (at, first) = (end, first + count);
                    }
                }
            }
        }
    }

    pub(crate) fn clear(&mut self, first: Offset) {
        shrink(&mut self.frames);
        self.frames.clear();
        self.sealed.clear();
        shrink(&mut self.units);
        self.units.clear();
        self.filling.clear();
        (self.first, self.next) = (first, first);
    }

    pub(crate) fn frames(&mut self) -> &mut Vec<u8> {
        &mut self.frames
    }

    pub(crate) fn bytes(&self) -> usize {
        self.frames.len() + self.filling.bytes()
    }

    pub(crate) fn first(&self) -> Offset {
        self.first
    }

    pub(crate) fn next(&self) -> Offset {
        self.next
    }
}

impl Group {
    fn check(&self, limits: &Limits, batch: &Batch) -> Result<(), StageError> {
        let taken = self.next.since(self.first) + batch.offsets();
        let bytes = self.bytes() + batch.bytes() + frame::EXPLICIT_HEADER_LEN * (1 + batch.notes());
        if self.bytes() > 0
            && (bytes > limits.commit_bytes_max || taken > limits.commit_offsets_max)
        {
            return Err(StageError::Full);
        }
        let unit_bytes_max = limits.frame_bytes_max - FRAME_OVERHEAD_MAX;
        match batch.unit_bytes_largest() {
            bytes if bytes > unit_bytes_max => Err(StageError::TooLarge {
                bytes,
                bytes_max: unit_bytes_max,
            }),
            _ if bytes > limits.commit_bytes_max || taken > limits.commit_offsets_max => {
                Err(StageError::TooLarge {
                    bytes: batch.bytes(),
                    bytes_max: limits.commit_bytes_max,
                })
            }
            _ => Ok(()),
        }
    }

    /// Closes the frame that fills if a unit of that many `bytes` and entries does not go into it.
    fn room_for(&mut self, limits: &Limits, bytes: usize, count: u32, now: Micros) {
        let full = self.filling.bytes() + bytes + FRAME_OVERHEAD_MAX > limits.frame_bytes_wanted()
            || self.filling.count + count > u32::from(u16::MAX);
        if full {
            self.seal(limits);
        }
        if self.filling.units == 0 {
            self.filling.time = now;
            self.filling.first = self.next;
        }
    }

    fn put_note(&mut self, limits: &Limits, item: &[u8]) {
        self.put_control(limits, Control::Owner(item), item.len());
        let to = self.frames.len();
        self.sealed.push(Sealed::Note {
            from: to - item.len(),
            to,
        });
    }

    /// Adds a frame about the log, whose content has `len` bytes.
    pub(crate) fn put_control(&mut self, limits: &Limits, control: Control<'_>, len: usize) {
        let from = self.frames.len();
        self.frames.resize(from + FRAME_OVERHEAD_MAX + len, 0);
        let label = label(self.next, Micros::UNKNOWN, from == 0);
        let len = frame::emit_control(&mut self.frames[from..], &limits.log_id, label, control);
        self.frames
            .truncate(from + len.expect("the room was measured"));
    }
}

impl Filling {
    /// Takes the entries of one unit, whose event times count from `base`; from here on they count from the frame's time.
    fn put_entries(&mut self, mut entries: &[u8], base: Option<i64>) {
        let Some(base) = base else {
            return self.entries.extend_from_slice(entries);
        };
        let shift = base.wrapping_sub(self.time.get());
        while !entries.is_empty() {
            let (entry, len) = Entry::decode(entries).expect("a batch holds entries");
            let time = entry.time().map(|t| t.wrapping_add(shift));
            put_entry(
                &mut self.entries,
                &match entry {
                    Entry::Record(record) => Entry::Record(Record { time, ..record }),
                    Entry::Notice(notice) => Entry::Notice(Notice { time, ..notice }),
                },
            );
            entries = &entries[len..];
        }
    }

    fn bytes(&self) -> usize {
        self.annotation.len() + self.entries.len()
    }

    fn clear(&mut self) {
        shrink(&mut self.annotation);
        shrink(&mut self.entries);
        self.annotation.clear();
        self.entries.clear();
        (self.count, self.units, self.said) = (0, 0, false);
    }
}

/// Iterates over an annotation: how many entries each unit has, and its item.
pub(crate) struct Items<'a>(Reader<'a>);

impl<'a> Items<'a> {
    pub(crate) fn new(annotation: &'a [u8]) -> Self {
        Self(Reader::new(annotation))
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = (u64, &'a [u8]);

    /// What belongs to no entries is not the owner's.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (count, item) = (self.0.varint()?, self.0.bytes()?);
            if count > 0 {
                return Some((count, item));
            }
        }
    }
}

fn label(first: Offset, time: Micros, first_of_commit: bool) -> Label {
    Label {
        form: Form::Explicit,
        first,
        time,
        first_of_commit,
    }
}

/// Gives memory back that the last group had no use for.
fn shrink<T>(buffer: &mut Vec<T>) {
    let wanted = buffer.len().max(KEPT_BYTES / size_of::<T>());
    if buffer.capacity() > 4 * wanted {
        buffer.shrink_to(wanted);
    }
}

/// A frame of many units ends here (docs/spec/log.md, section 4).
pub(crate) const FRAME_BYTES_WANTED: usize = 64 << 10;
/// The header and the length of the annotation.
pub(crate) const FRAME_OVERHEAD_MAX: usize = frame::EXPLICIT_HEADER_LEN + varint::LEN_MAX;
/// What a buffer keeps while little is going on.
const KEPT_BYTES: usize = 16 << 10;
