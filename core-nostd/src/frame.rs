//! Frames: entries, a gap or a control item, written and checked as a unit (docs/spec/log.md, section 4).
//!
//! ```text
//! compact   tag | count | payload_len 2 | crc 4 | payload                                         flash
//! explicit  tag | flags | count 2 | payload_len 4 | first 8 | time 8 | crc 4 | payload            files and wire
//! ```
//! This file knows nothing of segments: where a frame stands, and what an implied first offset is, the caller says.

use crate::crc::Digest;
use crate::entry::Entry;
use crate::gap::{Cause, Gap};
use crate::ids::{LogId, Micros, Offset};
use crate::octets::{Reader, Writer};
use crate::segment::{Medium, Role};

/// A frame that passed its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What stands before the payload.
    pub header: Header,
    /// All that stands behind the header, annotation included.
    pub payload: &'a [u8],
    span: u64,
}

/// What stands before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which of the two forms.
    pub form: Form,
    /// What the payload is.
    pub kind: Kind,
    /// Set on the first frame of each commit of an origin.
    pub first_of_commit: bool,
    /// The payload begins with an annotation (explicit form only).
    pub annotated: bool,
    /// Entries in a data frame, else 0.
    pub count: u16,
    /// Bytes behind the header.
    pub payload_len: u32,
    /// The offset of the first entry; of the next one, for a control frame.
    pub first: Offset,
    /// When the frame was made at the origin (explicit form only, else unknown).
    pub time: Micros,
    /// CRC-32C over log id, first offset, the header before this field, the payload.
    pub crc: u32,
}

/// The two forms of a frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// 8 bytes; the first offset follows from the frames before it. On NOR flash.
    Compact,
    /// 28 bytes; stands for itself. On files and on the wire.
    Explicit,
}

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Entries; takes `count` offsets.
    Data,
    /// A range of offsets without entries; takes that range.
    Gap,
    /// Something about the log it stands in; takes no offset, is not forwarded.
    Control,
}

/// The content of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control<'a> {
    /// The ledger and the cursors, as [`crate::ledger::Ledger::parse`] reads them.
    Ledger(&'a [u8]),
    /// A commit of a mirror begins.
    Mark,
    /// A note of the log's owner.
    Owner(&'a [u8]),
    /// A clean stop.
    Close,
    /// This log is closed, its end is here.
    End,
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Bad {
    /// They may be the beginning of one that takes `needed` bytes in all.
    Incomplete {
        /// How many bytes to come back with.
        needed: usize,
    },
    /// They are none.
    Corrupt,
}

impl<'a> Frame<'a> {
    /// Reads the frame at the front of `bytes`, checks it, and says how many bytes it takes.
    ///
    /// A compact frame needs `implied_first`; an explicit one says its own first offset, and whether that is the expected one is for the caller to judge.
    ///
    /// # Errors
    /// [`Bad::Incomplete`] if more bytes are needed to tell, [`Bad::Corrupt`] if these are no frame of this log at this offset.
    pub fn parse(
        bytes: &'a [u8],
        log: &LogId,
        implied_first: Option<Offset>,
    ) -> Result<(Self, usize), Bad> {
        let header = Header::parse(bytes, implied_first)?;
        let len = header.frame_len();
        let frame = bytes.get(..len).ok_or(Bad::Incomplete { needed: len })?;
        let (before, payload) = frame
            .split_at_checked(header.form.header_len())
            .ok_or(Bad::Corrupt)?;
        if checksum(log, header.first, before, payload) != Some(header.crc) {
            return Err(Bad::Corrupt);
        }
        let span = match header.kind {
            Kind::Data => u64::from(header.count),
            Kind::Gap => {
                let fields = GapFields::take(payload, header.form).ok_or(Bad::Corrupt)?;
                if fields.first.is_some_and(|first| first != header.first) {
                    return Err(Bad::Corrupt);
                }
                fields.span
            }
            Kind::Control => 0,
        };
        header.first.checked_add(span).ok_or(Bad::Corrupt)?;
        Ok((
            Self {
                header,
                payload,
                span,
            },
            len,
        ))
    }

    /// How many offsets the frame takes.
    #[must_use]
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// Whether a commit of such a log begins with this frame. On flash each frame is one.
    #[must_use]
    pub fn begins_commit(&self, medium: Medium, role: Role) -> bool {
        match (medium, role) {
            (Medium::Nor, _) => true,
            (Medium::File, Role::Origin) => self.header.first_of_commit,
            (Medium::File, Role::Mirror) => matches!(
                self.control(),
                Some(Control::Mark | Control::Close | Control::End)
            ),
        }
    }

    /// The offset behind the frame.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.header.first + self.span
    }

    /// What the owner of the log wrote beside the entries; empty if nothing.
    #[must_use]
    pub fn annotation(&self) -> &'a [u8] {
        self.split_payload().0
    }

    /// The entries with their offsets. Ends early at a malformed entry, which only a faulty writer can have sealed.
    #[must_use]
    pub fn entries(&self) -> Entries<'a> {
        let left = if self.header.kind == Kind::Data {
            self.header.count
        } else {
            0
        };
        Entries {
            next: self.header.first,
            left,
            rest: self.split_payload().1,
        }
    }

    /// The gap, if this is a gap frame.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        if self.header.kind != Kind::Gap {
            return None;
        }
        let fields = GapFields::take(self.payload, self.header.form)?;
        Some(Gap {
            from: self.header.first,
            to: self.end(),
            lost: fields.lost,
            cause: fields.cause,
            when: fields.when,
            when_last: fields.when_last,
        })
    }

    /// The control item, if this is a control frame of a type that this version knows.
    #[must_use]
    pub fn control(&self) -> Option<Control<'a>> {
        if self.header.kind != Kind::Control {
            return None;
        }
        let (&code, rest) = self.payload.split_first()?;
        Some(match code {
            CONTROL_LEDGER => Control::Ledger(rest),
            CONTROL_MARK => Control::Mark,
            CONTROL_OWNER => Control::Owner(rest),
            CONTROL_CLOSE => Control::Close,
            CONTROL_END => Control::End,
            _ => return None,
        })
    }

    fn split_payload(&self) -> (&'a [u8], &'a [u8]) {
        if !self.header.annotated {
            return (&[], self.payload);
        }
        let mut reader = Reader::new(self.payload);
        let annotation = reader.bytes().unwrap_or_default();
        (annotation, reader.rest())
    }
}

impl Header {
    /// Reads a header without looking at the payload: a claim, to be believed once the whole frame passed its check.
    ///
    /// # Errors
    /// As [`Frame::parse`].
    pub fn parse(bytes: &[u8], implied_first: Option<Offset>) -> Result<Self, Bad> {
        let (form, kind, first_of_commit) =
            parse_tag(*bytes.first().ok_or(Bad::Incomplete { needed: 1 })?)?;
        let needed = form.header_len();
        let mut reader = Reader::new(bytes.get(1..needed).ok_or(Bad::Incomplete { needed })?);
        let header = match form {
            Form::Compact => take_compact(&mut reader, kind, first_of_commit, implied_first),
            Form::Explicit => take_explicit(&mut reader, kind, first_of_commit),
        };
        header.filter(Self::is_plausible).ok_or(Bad::Corrupt)
    }

    /// How many bytes header and payload take.
    #[must_use]
    pub const fn frame_len(&self) -> usize {
        self.form
            .header_len()
            .saturating_add(self.payload_len as usize)
    }

    /// The first of `bytes` that an explicit frame may begin with.
    ///
    /// Most of what a hunt goes over is empty, so blocks are looked at whole.
    #[must_use]
    pub(crate) fn find_explicit(bytes: &[u8]) -> Option<usize> {
        const BLOCK: usize = 64;
        let begins = |byte: u8| matches!(parse_tag(byte), Ok((Form::Explicit, ..)));
        let none_in = |block: &[u8]| !block.iter().fold(false, |any, &byte| any | begins(byte));
        let empty = bytes
            .chunks_exact(BLOCK)
            .take_while(|block| none_in(block))
            .count()
            .saturating_mul(BLOCK);
        let rest = bytes.get(empty..)?;
        let ahead = rest.iter().position(|&byte| begins(byte))?;
        Some(empty.saturating_add(ahead))
    }

    fn is_plausible(&self) -> bool {
        let counts = (self.kind == Kind::Data) == (self.count > 0);
        counts && (self.kind == Kind::Data || !self.annotated)
    }
}

impl Form {
    /// How many bytes the header takes.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Compact => COMPACT_HEADER_LEN,
            Self::Explicit => EXPLICIT_HEADER_LEN,
        }
    }
}

/// Iterates over the entries of a data frame.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    next: Offset,
    left: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = (Offset, Entry<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (entry, len) = Entry::decode(self.rest)?;
        self.rest = self.rest.get(len..)?;
        let offset = self.next;
        self.next = offset + 1;
        Some((offset, entry))
    }
}

/// What the maker of a frame says about it; length and CRC follow from the payload.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Which of the two forms.
    pub form: Form,
    /// The offset of the first entry; of the next one, for a control frame.
    pub first: Offset,
    /// When the frame is made (kept in the explicit form only).
    pub time: Micros,
    /// Whether this is the first frame of a commit of an origin.
    pub first_of_commit: bool,
}

/// Writes a data frame of `count` encoded entries to the front of `into`; an empty `annotation` is none.
/// Says how many bytes it took; `None` if it does not fit into `into` or into the form.
#[must_use]
pub fn emit_data(
    into: &mut [u8],
    log: &LogId,
    label: Label,
    count: u16,
    annotation: &[u8],
    entries: &[u8],
) -> Option<usize> {
    let mut writer = Writer::new(into.get_mut(label.form.header_len()..)?);
    if !annotation.is_empty() {
        writer.bytes(annotation)?;
    }
    writer.put(entries)?;
    let payload_len = writer.len();
    seal_data(into, log, label, count, !annotation.is_empty(), payload_len)
}

/// As [`emit_data`], for a payload of `payload_len` bytes that already stands in `into` behind the place of the header.
#[must_use]
pub fn seal_data(
    into: &mut [u8],
    log: &LogId,
    label: Label,
    count: u16,
    annotated: bool,
    payload_len: usize,
) -> Option<usize> {
    seal(into, log, label, Kind::Data, count, annotated, payload_len)
}

/// Writes the frame of `gap` to the front of `into`; `label.first` must be `gap.from`. Says how many bytes it took; `None` if it does not fit.
#[must_use]
pub fn emit_gap(into: &mut [u8], log: &LogId, label: Label, gap: &Gap) -> Option<usize> {
    debug_assert_eq!(
        label.first, gap.from,
        "a gap frame stands at its first offset"
    );
    let mut writer = Writer::new(into.get_mut(label.form.header_len()..)?);
    if label.form == Form::Compact {
        writer.varint(gap.from.get())?;
    }
    writer.varint(gap.span())?;
    writer.varint(gap.lost)?;
    writer.byte(gap.cause.code())?;
    writer.signed(gap.when.get())?;
    writer.signed(gap.when_last.get())?;
    let payload_len = writer.len();
    seal(into, log, label, Kind::Gap, 0, false, payload_len)
}

/// Writes a control frame to the front of `into`. Says how many bytes it took; `None` if it does not fit.
#[must_use]
pub fn emit_control(
    into: &mut [u8],
    log: &LogId,
    label: Label,
    control: Control<'_>,
) -> Option<usize> {
    let mut writer = Writer::new(into.get_mut(label.form.header_len()..)?);
    let (code, rest): (u8, &[u8]) = match control {
        Control::Ledger(bytes) => (CONTROL_LEDGER, bytes),
        Control::Mark => (CONTROL_MARK, &[]),
        Control::Owner(bytes) => (CONTROL_OWNER, bytes),
        Control::Close => (CONTROL_CLOSE, &[]),
        Control::End => (CONTROL_END, &[]),
    };
    writer.byte(code)?;
    writer.put(rest)?;
    let payload_len = writer.len();
    seal(into, log, label, Kind::Control, 0, false, payload_len)
}

struct GapFields {
    /// Where the gap begins (compact form only): whoever comes to it behind a bad place cannot know.
    first: Option<Offset>,
    span: u64,
    lost: u64,
    cause: Cause,
    when: Micros,
    when_last: Micros,
}

impl GapFields {
    fn take(payload: &[u8], form: Form) -> Option<Self> {
        let mut reader = Reader::new(payload);
        Some(Self {
            first: match form {
                Form::Compact => Some(Offset::new(reader.varint()?)),
                Form::Explicit => None,
            },
            span: reader.varint()?,
            lost: reader.varint()?,
            cause: Cause::from_code(reader.byte()?)?,
            when: Micros::new(reader.signed()?),
            when_last: Micros::new(reader.signed()?),
        })
    }
}

/// The offsets that a gap frame's payload claims to take, whether or not it passed its check.
pub(crate) fn claimed_span(payload: &[u8], form: Form) -> Option<u64> {
    GapFields::take(payload, form).map(|fields| fields.span)
}

/// Where the compact gap frame at the front of `bytes` claims to begin, whether or not it passes its check; `None` if there is none.
pub(crate) fn claimed_first(bytes: &[u8]) -> Option<Offset> {
    let (header, payload) = bytes.split_at_checked(COMPACT_HEADER_LEN)?;
    let header = Header::parse(header, Some(Offset::ZERO)).ok()?;
    if (header.form, header.kind) != (Form::Compact, Kind::Gap) {
        return None;
    }
    GapFields::take(payload, header.form)?.first
}

fn parse_tag(tag: u8) -> Result<(Form, Kind, bool), Bad> {
    let form = match tag & 0xF0 {
        TAG_COMPACT => Form::Compact,
        TAG_EXPLICIT => Form::Explicit,
        _ => return Err(Bad::Corrupt),
    };
    let kind = match tag & 0x07 {
        1 => Kind::Data,
        2 => Kind::Gap,
        3 => Kind::Control,
        _ => return Err(Bad::Corrupt),
    };
    Ok((form, kind, tag & TAG_FIRST_OF_COMMIT != 0))
}

fn tag_of(label: &Label, kind: Kind) -> u8 {
    let form = match label.form {
        Form::Compact => TAG_COMPACT,
        Form::Explicit => TAG_EXPLICIT,
    };
    let kind = match kind {
        Kind::Data => 1,
        Kind::Gap => 2,
        Kind::Control => 3,
    };
    form | kind
        | if label.first_of_commit {
            TAG_FIRST_OF_COMMIT
        } else {
            0
        }
}

/// What the bytes at the front of a compact frame say, however damaged the rest is: how many entries, and how many bytes of payload.
pub(crate) fn compact_claim(bytes: &[u8]) -> Option<(u8, u16)> {
    let mut reader = Reader::new(bytes.get(1..)?);
    Some((reader.byte()?, reader.u16()?))
}

fn take_compact(
    reader: &mut Reader<'_>,
    kind: Kind,
    first_of_commit: bool,
    first: Option<Offset>,
) -> Option<Header> {
    Some(Header {
        form: Form::Compact,
        kind,
        first_of_commit,
        annotated: false,
        count: u16::from(reader.byte()?),
        payload_len: u32::from(reader.u16()?),
        first: first?,
        time: Micros::UNKNOWN,
        crc: reader.u32()?,
    })
}

fn take_explicit(reader: &mut Reader<'_>, kind: Kind, first_of_commit: bool) -> Option<Header> {
    let flags = reader.byte()?;
    if flags & !FLAG_ANNOTATED != 0 {
        return None;
    }
    Some(Header {
        form: Form::Explicit,
        kind,
        first_of_commit,
        annotated: flags & FLAG_ANNOTATED != 0,
        count: reader.u16()?,
        payload_len: reader.u32()?,
        first: Offset::new(reader.u64()?),
        time: Micros::new(reader.i64()?),
        crc: reader.u32()?,
    })
}

fn seal(
    into: &mut [u8],
    log: &LogId,
    label: Label,
    kind: Kind,
    count: u16,
    annotated: bool,
    payload_len: usize,
) -> Option<usize> {
    let header_len = label.form.header_len();
    let len = header_len.checked_add(payload_len)?;
    let (before, payload) = into.get_mut(..len)?.split_at_mut_checked(header_len)?;
    if (kind == Kind::Data) != (count > 0) {
        return None;
    }
    let mut writer = Writer::new(before);
    writer.byte(tag_of(&label, kind))?;
    match label.form {
        Form::Compact if annotated => return None,
        Form::Compact => {
            writer.byte(u8::try_from(count).ok()?)?;
            writer.put(&u16::try_from(payload_len).ok()?.to_le_bytes())?;
        }
        Form::Explicit => {
            writer.byte(if annotated { FLAG_ANNOTATED } else { 0 })?;
            writer.put(&count.to_le_bytes())?;
            writer.put(&u32::try_from(payload_len).ok()?.to_le_bytes())?;
            writer.put(&label.first.get().to_le_bytes())?;
            writer.put(&label.time.get().to_le_bytes())?;
        }
    }
    let crc = checksum(log, label.first, before, payload)?;
    *before.last_chunk_mut::<4>()? = crc.to_le_bytes();
    Some(len)
}

/// `header` includes the place of the CRC itself, which is left out.
fn checksum(log: &LogId, first: Offset, header: &[u8], payload: &[u8]) -> Option<u32> {
    let (before_crc, _) = header.split_last_chunk::<4>()?;
    let mut digest = Digest::new();
    digest.update(log.as_bytes());
    digest.update(&first.get().to_le_bytes());
    digest.update(before_crc);
    digest.update(payload);
    Some(digest.finish())
}

/// Bytes of a compact header.
pub const COMPACT_HEADER_LEN: usize = 8;
/// The longest payload of a gap frame: first offset, span, lost, cause and two times.
pub(crate) const GAP_PAYLOAD_MAX: usize = 10 + 10 + 10 + 1 + 10 + 10;
/// The longest compact gap frame.
pub(crate) const COMPACT_GAP_LEN_MAX: usize = COMPACT_HEADER_LEN + GAP_PAYLOAD_MAX;
/// Bytes of an explicit header.
pub const EXPLICIT_HEADER_LEN: usize = 28;

const TAG_COMPACT: u8 = 0x50;
const TAG_EXPLICIT: u8 = 0xA0;
const TAG_FIRST_OF_COMMIT: u8 = 1 << 3;
const FLAG_ANNOTATED: u8 = 1;

const CONTROL_LEDGER: u8 = 1;
const CONTROL_MARK: u8 = 2;
const CONTROL_OWNER: u8 = 3;
const CONTROL_CLOSE: u8 = 4;
const CONTROL_END: u8 = 5;

// A frame must never begin like erased flash or a zeroed page.
const _: () =
    assert!(TAG_COMPACT != 0xF0 && TAG_EXPLICIT != 0xF0 && TAG_COMPACT != 0 && TAG_EXPLICIT != 0);

/// Compact frames: the time of the last record that says one, in milliseconds after the one before.
pub(crate) fn time_behind(time: Micros, frame: &Frame<'_>) -> Micros {
    if frame.header.form == Form::Explicit {
        return time;
    }
    frame
        .entries()
        .fold(time, |time, (_, entry)| entry_time(time, &entry))
}

/// The time of a compact entry, given that of the one before.
pub(crate) fn entry_time(before: Micros, entry: &Entry<'_>) -> Micros {
    match entry.time() {
        Some(millis) if before.is_known() => {
            Micros::new(before.get().saturating_add(millis.saturating_mul(1000)))
        }
        _ => before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Record;
    use proptest::prelude::*;
    use std::vec::Vec;

    const LOG: LogId = LogId::new(*b"the log's own id");

    fn label(form: Form) -> Label {
        Label {
            form,
            first: Offset::new(41),
            time: Micros::new(1_000_000),
            first_of_commit: true,
        }
    }

    fn two_records() -> (u16, Vec<u8>) {
        let mut bytes = Vec::new();
        for value in [&b"one"[..], b"two"] {
            let entry = Entry::Record(Record {
                value,
                ..Record::default()
            });
            let at = bytes.len();
            bytes.resize(at + entry.encoded_len(), 0);
            entry.encode(&mut bytes[at..]).unwrap();
        }
        (2, bytes)
    }

    fn data(form: Form, annotation: &[u8]) -> Vec<u8> {
        let (count, entries) = two_records();
        let mut buffer = std::vec![0; 256];
        let len = emit_data(&mut buffer, &LOG, label(form), count, annotation, &entries).unwrap();
        buffer.truncate(len);
        buffer
    }

    #[test]
    fn the_first_byte_that_may_begin_a_frame_is_found_wherever_it_stands() {
        let mut bytes = [0_u8; 200];
        for byte in 0..=u8::MAX {
            let begins = parse_tag(byte).is_ok_and(|(form, ..)| form == Form::Explicit);
            for at in 0..bytes.len() {
                bytes[at] = byte;
                let found = Header::find_explicit(&bytes);
                assert_eq!(found, begins.then_some(at), "{byte:#x} at {at}");
                let before = Header::find_explicit(&bytes[..at]);
                assert_eq!(before, None, "{byte:#x} at {at}");
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn frame_gives_back_its_entries_at_their_offsets() {
        for (form, annotation) in [(Form::Compact, &b""[..]), (Form::Explicit, b"\x02\x01x")] {
            let bytes = data(form, annotation);
            let (frame, len) = Frame::parse(&bytes, &LOG, Some(Offset::new(41))).unwrap();
            assert_eq!(
                (len, frame.span(), frame.end()),
                (bytes.len(), 2, Offset::new(43))
            );
            assert!(frame.header.first_of_commit);
            assert_eq!(frame.annotation(), annotation);
            let seen: Vec<_> = frame.entries().map(|(offset, _)| offset.get()).collect();
            assert_eq!(seen, [41, 42]);
        }
    }

    #[test]
    fn golden_explicit_header() {
        let bytes = data(Form::Explicit, b"");
        assert_eq!(
            bytes[..24],
            *b"\xA9\x00\x02\x00\x0A\x00\x00\x00\x29\0\0\0\0\0\0\0\x40\x42\x0F\0\0\0\0\0"
        );
        assert_eq!(data(Form::Compact, b"")[..4], *b"\x59\x02\x0A\x00");
    }

    #[test]
    fn frame_of_another_log_or_offset_does_not_pass() {
        let bytes = data(Form::Compact, b"");
        assert_eq!(
            Frame::parse(&bytes, &LOG, Some(Offset::new(42))),
            Err(Bad::Corrupt)
        );
        assert_eq!(
            Frame::parse(&bytes, &LogId::new([0; 16]), Some(Offset::new(41))),
            Err(Bad::Corrupt)
        );
        assert_eq!(Frame::parse(&bytes, &LOG, None), Err(Bad::Corrupt));
    }

    #[test]
    fn gap_and_control_frames_read_back() {
        let gap = Gap {
            from: Offset::new(41),
            to: Offset::new(50),
            lost: 9,
            cause: Cause::Evicted,
            when: Micros::new(1),
            when_last: Micros::new(2),
        };
        let mut buffer = [0; 64];
        let len = emit_gap(&mut buffer, &LOG, label(Form::Explicit), &gap).unwrap();
        let (frame, _) = Frame::parse(&buffer[..len], &LOG, None).unwrap();
        assert_eq!(
            (frame.gap(), frame.end(), frame.control()),
            (Some(gap), gap.to, None)
        );

        for control in [
            Control::Ledger(b"l"),
            Control::Mark,
            Control::Owner(b"o"),
            Control::Close,
            Control::End,
        ] {
            let len = emit_control(&mut buffer, &LOG, label(Form::Compact), control).unwrap();
            let (frame, _) = Frame::parse(&buffer[..len], &LOG, Some(Offset::new(41))).unwrap();
            assert_eq!(
                (frame.control(), frame.span(), frame.gap()),
                (Some(control), 0, None)
            );
        }
    }

    #[test]
    fn range_that_leaves_the_offsets_is_corrupt() {
        let from = Offset::new(u64::MAX - 1);
        let gap = Gap {
            from,
            to: Offset::new(u64::MAX),
            lost: 0,
            cause: Cause::Burned,
            when: Micros::UNKNOWN,
            when_last: Micros::UNKNOWN,
        };
        let mut buffer = [0; 64];
        let label = Label {
            first: from,
            ..label(Form::Compact)
        };
        let len = emit_gap(&mut buffer, &LOG, label, &gap).unwrap();
        assert!(Frame::parse(&buffer[..len], &LOG, Some(from)).is_ok());
        assert_eq!(
            Frame::parse(&buffer[..len], &LOG, Some(Offset::new(u64::MAX))),
            Err(Bad::Corrupt)
        );
    }

    proptest! {
        #[test]
        fn one_flipped_bit_never_passes(explicit: bool, bit in 0_usize..8 * 38) {
            let mut bytes = data(if explicit { Form::Explicit } else { Form::Compact }, b"");
            let at = bit % (8 * bytes.len());
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert!(Frame::parse(&bytes, &LOG, Some(Offset::new(41))).is_err());
        }

        #[test]
        fn cut_off_frame_asks_for_what_is_missing(explicit: bool, cut in 0_usize..38) {
            let bytes = data(if explicit { Form::Explicit } else { Form::Compact }, b"");
            let cut = cut % bytes.len();
            let Err(Bad::Incomplete { needed }) = Frame::parse(&bytes[..cut], &LOG, Some(Offset::new(41))) else {
                panic!("a part of a frame is incomplete");
            };
            prop_assert!(needed > cut && needed <= bytes.len());
        }

        #[test]
        fn any_bytes_parse_without_panic(bytes: Vec<u8>, first: u64) {
            if let Ok((_, len)) = Frame::parse(&bytes, &LOG, Some(Offset::new(first))) {
                prop_assert!(len <= bytes.len());
            }
        }
    }
}
