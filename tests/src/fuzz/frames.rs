//! Any bytes as a frame and as entries: what is read is written as it was read, and what is sealed is read as it was given.

use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Bad, Control, Form, Frame, Kind, Label};
use sedge_core::{LogId, Micros, Offset};

/// `form 1 | first offset 8 | bytes`: as a frame that somebody sent, and as the payload of one that a faulty writer sealed.
pub fn frame(input: &[u8]) {
    let Some((&[form, ref first @ ..], bytes)) = input.split_first_chunk::<9>() else {
        return;
    };
    let first = Offset::new(u64::from_le_bytes(*first));
    if let Ok((frame, len)) = Frame::parse(bytes, &LOG, Some(first)) {
        assert!(len <= bytes.len(), "{len} bytes of {}", bytes.len());
        is_bounded(&frame);
        is_written_as_read(&frame, &bytes[..len]);
    }
    a_cut_asks_for_more_or_is_refused(bytes, first);
    let form = match form & 1 {
        0 => Form::Compact,
        _ => Form::Explicit,
    };
    sealed_is_read_as_given(form, first, bytes);
}

/// Each offset is in the frame, in order, and a gap is what the frame takes.
fn is_bounded(frame: &Frame<'_>) {
    let mut expected = frame.header.first;
    for (offset, _) in frame.entries() {
        assert!(offset == expected && offset < frame.end());
        expected = offset + 1;
    }
    if let Some(gap) = frame.gap() {
        assert_eq!((gap.from, gap.to), (frame.header.first, frame.end()));
    }
    assert_eq!(frame.span(), frame.end().since(frame.header.first));
    assert!(frame.annotation().len() <= frame.payload.len());
}

/// Only numbers that take more bytes than they need are written otherwise, and those are written shorter.
fn is_written_as_read(frame: &Frame<'_>, bytes: &[u8]) {
    let label = Label {
        form: frame.header.form,
        first: frame.header.first,
        time: frame.header.time,
        first_of_commit: frame.header.first_of_commit,
    };
    let mut again = vec![0; bytes.len()];
    let header = &frame.header;
    let len = match (header.kind, frame.gap(), frame.control()) {
        (Kind::Data, ..) => {
            again[header.form.header_len()..].copy_from_slice(frame.payload);
            let (count, annotated) = (header.count, header.annotated);
            frame::seal_data(
                &mut again,
                &LOG,
                label,
                count,
                annotated,
                frame.payload.len(),
            )
        }
        (Kind::Gap, Some(gap), _) => frame::emit_gap(&mut again, &LOG, label, &gap),
        (Kind::Control, _, Some(control)) => frame::emit_control(&mut again, &LOG, label, control),
        // A type that this version does not know.
        _ => return,
    };
    again.truncate(len.expect("no longer than it was"));
    let (read, len) =
        Frame::parse(&again, &LOG, Some(label.first)).expect("what was written is a frame");
    assert_eq!(len, again.len());
    assert_eq!(
        (read.gap(), read.control(), read.annotation()),
        (frame.gap(), frame.control(), frame.annotation())
    );
    assert!(read.entries().eq(frame.entries()));
    if header.kind == Kind::Data {
        assert_eq!(again, bytes);
    }
}

/// Whoever waits for as many bytes as he is asked to comes to an end.
fn a_cut_asks_for_more_or_is_refused(bytes: &[u8], first: Offset) {
    let mut have = 0;
    while let Err(Bad::Incomplete { needed }) =
        Frame::parse(&bytes[..have.min(bytes.len())], &LOG, Some(first))
    {
        assert!(needed > have, "asks for {needed} bytes and has {have}");
        if needed > bytes.len() {
            return;
        }
        have = needed;
    }
}

fn sealed_is_read_as_given(form: Form, first: Offset, bytes: &[u8]) {
    let Some((&[count, annotation_len], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let (annotation, entries) = rest.split_at(usize::from(annotation_len).min(rest.len()));
    // The compact form has no place for one.
    let annotation = if form == Form::Compact {
        &[]
    } else {
        annotation
    };
    let label = Label {
        form,
        first,
        time: NOW,
        first_of_commit: true,
    };
    let mut sealed = vec![0; bytes.len() + 64];
    let count = u16::from(count);
    let len = frame::emit_data(&mut sealed, &LOG, label, count, annotation, entries);
    let Some(len) = len else {
        return;
    };
    let Ok((frame, read)) = Frame::parse(&sealed[..len], &LOG, Some(first)) else {
        // A count of zero, or offsets that end before the frame does, are no frame.
        let is_none = count == 0 || first.checked_add(u64::from(count)).is_none();
        assert!(is_none, "a sealed frame is not read");
        return;
    };
    assert_eq!(read, len);
    assert_eq!(frame.annotation(), annotation);
    is_bounded(&frame);
    let mut rest = entries;
    for (_, entry) in frame.entries() {
        let (same, len) = Entry::decode(rest).expect("it stands there");
        assert_eq!(entry, same);
        rest = &rest[len..];
    }
    let other = LogId::new([8; 16]);
    assert!(
        Frame::parse(&sealed[..len], &other, Some(first)).is_err(),
        "a frame passes for one of another log"
    );
    let mut control = vec![0; bytes.len() + 64];
    let said = Control::Owner(rest);
    if let Some(len) = frame::emit_control(&mut control, &LOG, label, said) {
        let (frame, _) = Frame::parse(&control[..len], &LOG, Some(first)).expect("it was sealed");
        assert_eq!(frame.control(), Some(said));
    }
}

/// Entries one behind the other: each is written as it was read, in no more bytes, and is the same when it is read again.
pub fn entries(input: &[u8]) {
    let mut rest = input;
    while let Some((entry, len)) = Entry::decode(rest) {
        assert!(0 < len && len <= rest.len());
        let mut again = vec![0; len];
        let written = entry.encode(&mut again).expect("no longer than it was");
        assert_eq!(written, entry.encoded_len());
        assert_eq!(Entry::decode(&again[..written]), Some((entry, written)));
        assert!(
            entry.encode(&mut again[..written - 1]).is_none(),
            "an entry fits into less than it takes"
        );
        if let Entry::Record(record) = entry {
            is_made_of_its_headers(&record, &again[..written]);
        }
        rest = &rest[len..];
    }
}

/// A consumer takes the headers out one by one; a source puts them in so.
fn is_made_of_its_headers(record: &Record<'_>, written: &[u8]) {
    let pairs: Vec<(&str, &[u8])> = record.headers.iter().collect();
    assert_eq!(pairs.len(), record.headers.len());
    for (name, _) in &pairs {
        let first = pairs.iter().find(|(other, _)| other == name);
        assert_eq!(record.headers.find(name), first.map(|(_, value)| *value));
    }
    let rebuilt = Record {
        headers: Headers::new(&pairs),
        ..*record
    };
    let mut bytes = vec![0; written.len()];
    let len = Entry::Record(rebuilt).encode(&mut bytes);
    assert_eq!(len.map(|len| &bytes[..len]), Some(written));
}

const LOG: LogId = LogId::new([7; 16]);
const NOW: Micros = Micros::new(1_700_000_000_000_000);
