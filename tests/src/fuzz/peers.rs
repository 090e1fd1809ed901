//! Any bytes on a TCP connection of the uplink, and any answer of a hub to a consumer.

use bytes::Bytes;
use sedge_core::crc::crc32c;
use sedge_core::frame::{self, Control, Form, Label};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use sedge_uplink::any_bytes::{self, Part};
use sedge_uplink::client::{Item, Record};
use sedge_uplink::json;
use serde_json::Value;

/// A request of a client of Kafka's. Nothing is taken for there that has no bytes.
pub fn kafka_request(input: &[u8]) {
    let named = any_bytes::kafka_request(input);
    assert!(named.is_none_or(|named| named <= input.len()), "{named:?}");
}

/// `piece 1 | bytes on the connection`. However they are cut, the same messages are heard and the same rule is broken; a message is written as it was read.
pub fn stream_messages(input: &[u8]) {
    let Some((&piece, bytes)) = input.split_first() else {
        return;
    };
    let whole = heard(bytes, bytes.len().max(1));
    let pieces = heard(bytes, usize::from(piece).max(1));
    assert_eq!(whole, pieces, "it matters how the bytes are cut");
    let (messages, broken) = whole;
    let framed: usize = messages.iter().map(|(_, body)| 5 + body.len()).sum();
    assert!(framed <= bytes.len(), "more came out than went in");
    if broken.is_none() {
        let rest = &bytes[framed..];
        let announced = rest
            .first_chunk()
            .map(|length| u32::from_le_bytes(*length) as usize);
        assert!(announced.is_none_or(|length| 0 < length && length <= MESSAGE_BYTES_MAX));
    }
    for (kind, body) in &messages {
        assert!(body.len() < MESSAGE_BYTES_MAX);
        let Some(written) = any_bytes::written_again(*kind, body) else {
            continue;
        };
        assert!(written.len() <= body.len(), "longer than it was");
        let again = any_bytes::written_again(*kind, &written);
        assert_eq!(again.as_ref(), Some(&written), "not what was written");
    }
}

type Messages = Vec<(u8, Vec<u8>)>;

fn heard(bytes: &[u8], piece_bytes: usize) -> (Messages, Option<u16>) {
    let mut messages = Vec::new();
    let broken = any_bytes::hear(bytes, piece_bytes, MESSAGE_BYTES_MAX, |kind, body| {
        messages.push((kind, body.to_vec()));
    });
    (messages, broken)
}

/// `shift 8 | from 8 | length 2 | gaps 1 |` each `from, length, lost, cause 1 |` then frames `kind 1 | skipped 1 | count 1 | length 1 | entries`, of which a
/// faulty writer seals anything. What a consumer is shown is in order and covers the part without a hole, and each item is one line of JSON that says all that it
/// holds.
pub fn fetched(input: &[u8]) {
    let Some(part) = part(input) else {
        return;
    };
    let items = any_bytes::shown(&part);
    let mut expected = part.from;
    for item in &items {
        assert_eq!(item.first(), expected, "a hole, or twice: {item:?}");
        assert!(item.next() >= expected);
        expected = item.next();
        is_one_line(item);
    }
    assert!(expected >= part.next, "{expected} of {}", part.next);
    for shows_gaps in [false, true] {
        in_batches(&part, &items, shows_gaps);
    }
}

/// A client of Kafka's gets the same records, and goes on behind the part.
fn in_batches(part: &Part, items: &[Item], shows_gaps: bool) {
    let bytes = any_bytes::kafka_batches(part, shows_gaps);
    let (mut rest, mut next, mut count) = (&bytes[..], None, 0);
    while !rest.is_empty() {
        let number = |at: usize| i32::from_be_bytes(rest[at..at + 4].try_into().expect("four"));
        let first = u64::from_be_bytes(rest[..8].try_into().expect("eight"));
        let len = 12 + usize::try_from(number(8)).expect("a length");
        let sum = crc32c(&rest[21..len]).to_be_bytes();
        assert_eq!(sum, rest[17..21], "the checksum");
        assert!(next.is_none_or(|next| next <= first), "{next:?} {first}");
        let delta = u64::try_from(number(23)).expect("a delta");
        next = Some(first.saturating_add(delta).saturating_add(1));
        count += usize::try_from(number(57)).expect("a count");
        rest = &rest[len..];
    }
    let shown = |item: &&Item| match item {
        Item::Record(_) => true,
        Item::Gap(gap) => shows_gaps && gap.from < gap.to,
    };
    assert_eq!(count, items.iter().filter(shown).count());
    let behind = items.last().map_or(part.next, Item::next).max(part.next);
    assert!(next.unwrap_or(behind) >= part.next, "{next:?} of {part:?}");
}

fn part(input: &[u8]) -> Option<Part> {
    let (shift, rest) = input.split_first_chunk()?;
    let (from, rest) = rest.split_first_chunk()?;
    let (&[low, high, gaps], mut rest) = rest.split_first_chunk()?;
    let from = u64::from_le_bytes(*from);
    let next = from.saturating_add(u16::from_le_bytes([low, high]).into());
    let mut part = Part {
        log: LOG,
        shift: u64::from_le_bytes(*shift),
        from,
        next,
        gaps: Vec::new(),
        frames: Bytes::new(),
    };
    for _ in 0..gaps & 3 {
        let (&[ahead, len, lost, cause], behind) = rest.split_first_chunk()?;
        let begin = from.saturating_add(ahead.into());
        part.gaps
            .push((begin, begin.saturating_add(len.into()), lost.into(), cause));
        rest = behind;
    }
    part.frames = frames(from.saturating_sub(part.shift), rest).into();
    Some(part)
}

/// The frames of a log from `first` on, its own offsets.
fn frames(first: u64, mut rest: &[u8]) -> Vec<u8> {
    let (mut all, mut at) = (Vec::new(), first);
    while let Some((&[kind, skipped, count, len], behind)) = rest.split_first_chunk() {
        let (entries, behind) = behind.split_at(usize::from(len).min(behind.len()));
        at = at.saturating_add(skipped.into());
        let label = Label {
            form: Form::Explicit,
            first: Offset::new(at),
            time: Micros::new(i64::from(kind) << 48),
            first_of_commit: true,
        };
        let gap = Gap {
            from: label.first,
            to: label.first + u64::from(count),
            lost: len.into(),
            cause: Cause::from_code(kind >> 4).unwrap_or(Cause::Burned),
            when: label.time,
            when_last: label.time,
        };
        let mut frame = [0; 512];
        let sealed = match kind & 3 {
            0 => frame::emit_gap(&mut frame, &LOG, label, &gap),
            1 => frame::emit_control(&mut frame, &LOG, label, Control::Owner(entries)),
            _ => frame::emit_data(&mut frame, &LOG, label, count.into(), &[], entries),
        };
        all.extend_from_slice(&frame[..sealed.unwrap_or_default()]);
        at = at.saturating_add(count.into());
        rest = behind;
    }
    all
}

fn is_one_line(item: &Item) {
    let mut line = Vec::new();
    json::write_line(&mut line, item);
    let (&end, line) = line.split_last().expect("a line");
    assert!(end == b'\n' && !line.contains(&b'\n') && !line.contains(&b'\r'));
    let json: Value = serde_json::from_slice(line).expect("what is written is JSON");
    match item {
        Item::Record(record) => says(record, &json),
        Item::Gap(gap) => {
            assert_eq!(json["gap"]["from"], gap.from);
            assert_eq!(json["gap"]["to"], gap.to);
            assert_eq!(json["gap"]["lost"], gap.lost);
        }
    }
}

fn says(record: &Record, json: &Value) {
    assert_eq!(json["offset"], record.offset);
    let text = std::str::from_utf8(&record.value);
    match (text, json.get("encoding")) {
        (Err(_), encoding) => assert_eq!(encoding, Some(&Value::from("base64"))),
        (Ok(text), _) => match serde_json::from_str::<Value>(text) {
            Ok(value) => assert_eq!(json["value"], value),
            Err(_) => assert_eq!(json["value"], text),
        },
    }
    if let Some(key) = record.key.as_deref().map(std::str::from_utf8) {
        assert_eq!(key.is_ok(), json["key"].is_string());
    }
}

/// Small, so that a message that is too long is found by chance.
const MESSAGE_BYTES_MAX: usize = 4096;
const LOG: LogId = LogId::new([7; 16]);
