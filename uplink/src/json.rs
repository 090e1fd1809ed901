//! One item as one line of JSON, field for field as the contract of `sedge pull --format json` has it.
//!
//! ```text
//! {"stream":…,"gateway":…,"partition":0,"offset":12,"epoch":0,"time":…,"ingested":…,"key":…,"value":…,"headers":{…}}
//! {"stream":…,"gateway":…,"partition":0,"epoch":0,"gap":{"from":13,"to":20,"lost":7,"cause":"evicted","when":…}}
//! ```
//! A value that is JSON which any strict reader takes (`embedded` judges) is embedded as it is, less white space between tokens, so that it stays on its
//! line; other UTF-8 is a string, the rest is base64 and `"encoding":"base64"` follows. What is unknown is `null`. `"clock":"corrected"` or `"clock":"unknown"` follows `ingested` where the gateway did
//! not know the time when it took the event.

mod embedded;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::client::{Gap, Item, Origin, Record};

/// Appends `item` to `into`, with a line feed.
pub fn write_line(into: &mut Vec<u8>, item: &Item) {
    match item {
        Item::Record(record) => write_record(into, record),
        Item::Gap(gap) => write_gap(into, gap),
    }
    into.push(b'\n');
}

fn write_record(into: &mut Vec<u8>, record: &Record) {
    write_origin(into, &record.origin);
    field(into, "offset", record.offset);
    field(into, "epoch", record.epoch);
    into.extend_from_slice(b",\"time\":");
    write_time(into, record.time);
    into.extend_from_slice(b",\"ingested\":");
    write_time(into, record.ingested);
    if let Some(clock) = record.clock {
        into.extend_from_slice(b",\"clock\":");
        write_string(into, clock.name());
    }
    into.extend_from_slice(b",\"key\":");
    match &record.key {
        Some(key) => write_text_or_base64(into, key),
        None => into.extend_from_slice(b"null"),
    }
    write_value(into, &record.value);
    into.extend_from_slice(b",\"headers\":{");
    for (i, (name, value)) in record.headers.iter().enumerate() {
        if i > 0 {
            into.push(b',');
        }
        write_string(into, name);
        into.push(b':');
        write_text_or_base64(into, value);
    }
    into.extend_from_slice(b"}}");
}

fn write_gap(into: &mut Vec<u8>, gap: &Gap) {
    write_origin(into, &gap.origin);
    field(into, "epoch", gap.epoch);
    into.extend_from_slice(b",\"gap\":{\"from\":");
    into.extend_from_slice(gap.from.to_string().as_bytes());
    field(into, "to", gap.to);
    field(into, "lost", gap.lost);
    into.extend_from_slice(b",\"cause\":");
    write_string(into, gap.cause);
    into.extend_from_slice(b",\"when\":");
    write_time(into, gap.when);
    into.extend_from_slice(b"}}");
}

fn write_origin(into: &mut Vec<u8>, origin: &Origin) {
    into.extend_from_slice(b"{\"stream\":");
    write_string(into, &origin.stream);
    into.extend_from_slice(b",\"gateway\":");
    write_string(into, &origin.gateway);
    field(into, "partition", origin.partition);
}

fn write_value(into: &mut Vec<u8>, value: &[u8]) {
    into.extend_from_slice(b",\"value\":");
    match std::str::from_utf8(value) {
        Ok(text) if embedded::write(into, text) => {}
        Ok(text) => write_string(into, text),
        Err(_) => {
            write_string(into, &STANDARD.encode(value));
            into.extend_from_slice(b",\"encoding\":\"base64\"");
        }
    }
}

/// Keys and header values have no room for an `encoding` beside them.
fn write_text_or_base64(into: &mut Vec<u8>, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => write_string(into, text),
        Err(_) => {
            into.extend_from_slice(b"{\"base64\":");
            write_string(into, &STANDARD.encode(bytes));
            into.push(b'}');
        }
    }
}

fn write_string(into: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(into, text).expect("a string is always JSON, and a Vec takes it");
}

fn field(into: &mut Vec<u8>, name: &str, number: impl Into<u64>) {
    into.extend_from_slice(b",\"");
    into.extend_from_slice(name.as_bytes());
    into.extend_from_slice(b"\":");
    into.extend_from_slice(number.into().to_string().as_bytes());
}

/// RFC 3339 in UTC with six digits, or `null` for a time that is unknown or beyond what the form can say. A clock that was never set says 1970, and means
/// that it does not know.
fn write_time(into: &mut Vec<u8>, micros: Option<i64>) {
    match time_of(micros) {
        Some(time) => into.extend_from_slice(format!("\"{time}\"").as_bytes()),
        None => into.extend_from_slice(b"null"),
    }
}

/// A time in µs since 1970 as RFC 3339 writes it; none if it is none, or of 1970.
#[must_use]
pub fn time_of(micros: Option<i64>) -> Option<String> {
    let micros = micros.filter(|micros| !IN_1970.contains(micros))?;
    let time = jiff::Timestamp::from_microsecond(micros).ok()?;
    Some(format!("{time:.6}"))
}

/// Times in that year, in µs: what a clock shows that was never set.
pub const IN_1970: std::ops::Range<i64> = 0..365 * 86_400_000_000;

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use super::*;
    use crate::client::Clock;

    fn record(value: &'static [u8]) -> Record {
        let origin = Origin {
            stream: "telemetry".into(),
            gateway: "gw-7".into(),
            partition: 0,
            number: 4,
        };
        Record {
            origin: Arc::new(origin),
            offset: 12,
            epoch: 0,
            time: Some(1_795_168_800_000_001),
            ingested: None,
            clock: None,
            key: Some("boiler-1".into()),
            value: value.into(),
            headers: vec![(Cow::Borrowed("topic"), "sensors/boiler-1/temp".into())],
        }
    }

    fn line(item: &Item) -> String {
        let mut out = Vec::new();
        write_line(&mut out, item);
        assert_eq!(
            out.iter().filter(|b| **b == b'\n').count(),
            1,
            "one object, one line"
        );
        serde_json::from_slice::<serde_json::Value>(&out).expect("what is written is JSON");
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_written_as_the_contract_says() {
        assert_eq!(
            line(&Item::Record(record(
                b"{ \"t\": 1.50,\n\"s\": \"a b\\\" c\" }"
            ))),
            "{\"stream\":\"telemetry\",\"gateway\":\"gw-7\",\"partition\":0,\"offset\":12,\"epoch\":0,\
             \"time\":\"2026-11-20T10:00:00.000001Z\",\"ingested\":null,\"key\":\"boiler-1\",\
             \"value\":{\"t\":1.50,\"s\":\"a b\\\" c\"},\"headers\":{\"topic\":\"sensors/boiler-1/temp\"}}\n"
        );
    }

    #[test]
    fn nothing_says_that_it_is_1970() {
        let in_1970 = Record {
            time: Some(86_400_000_000),
            ingested: Some(0),
            ..record(b"1")
        };
        assert!(line(&Item::Record(in_1970)).contains("\"time\":null,\"ingested\":null,"));
    }

    #[test]
    fn a_time_that_the_gateway_did_not_know_is_marked() {
        let marked = |clock| {
            let record = Record {
                clock,
                ..record(b"1")
            };
            line(&Item::Record(record))
        };
        let corrected = marked(Some(Clock::Corrected));
        assert!(corrected.contains("\"ingested\":null,\"clock\":\"corrected\",\"key\""));
        assert!(marked(Some(Clock::Unknown)).contains("\"clock\":\"unknown\""));
        assert!(!marked(None).contains("clock"));
    }

    #[test]
    fn a_value_keeps_what_it_is() {
        for (value, written) in [
            (&b"12.50"[..], "\"value\":12.50,"),
            (b"21 C\n", "\"value\":\"21 C\\n\","),
            (b"", "\"value\":\"\","),
            (b"\xff\x00", "\"value\":\"/wA=\",\"encoding\":\"base64\","),
            (b"\"a\\\\\" ", "\"value\":\"a\\\\\","),
            (b"\"\\ud800\"", "\"value\":\"\\\"\\\\ud800\\\"\","),
        ] {
            let line = line(&Item::Record(record(value)));
            assert!(line.contains(written), "{line} lacks {written}");
        }
    }

    #[test]
    fn a_gap_is_written_as_the_contract_says() {
        let origin = record(b"").origin;
        let gap = Gap {
            origin,
            epoch: 2,
            from: 13,
            to: 20,
            lost: 7,
            cause: "evicted",
            when: Some(1_795_168_800_000_001),
        };
        assert_eq!(
            line(&Item::Gap(gap)),
            "{\"stream\":\"telemetry\",\"gateway\":\"gw-7\",\"partition\":0,\"epoch\":2,\
             \"gap\":{\"from\":13,\"to\":20,\"lost\":7,\"cause\":\"evicted\",\"when\":\"2026-11-20T10:00:00.000001Z\"}}\n"
        );
    }
}
