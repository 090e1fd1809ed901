//! An item as a line, as `sedge pull` and `sedge tail` show it.

use sedge_uplink::client::Item;
use sedge_uplink::json;

/// How an item is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// One JSON object.
    Json,
    /// A line for people.
    Text,
    /// The bare value.
    Raw,
}

/// Appends the line of `item`. A gap has no bare value: it is a line of the log.
pub(crate) fn write(into: &mut Vec<u8>, format: Format, item: &Item) {
    match (format, item) {
        (Format::Json, item) => json::write_line(into, item),
        (Format::Text, Item::Record(record)) => {
            let time = shown(record.time.or(record.ingested));
            let (gateway, partition, offset) = (
                &record.origin.gateway,
                record.origin.partition,
                record.offset,
            );
            let key = record
                .key
                .as_deref()
                .map(String::from_utf8_lossy)
                .unwrap_or_default();
            let value = String::from_utf8_lossy(&record.value);
            let text = format!("{time} {gateway}/{partition} {offset} {key} {value}");
            write_plain(into, &text);
        }
        (Format::Text, Item::Gap(gap)) => {
            let (gateway, partition) = (&gap.origin.gateway, gap.origin.partition);
            let when = shown(gap.when);
            let text = format!(
                "{when} {gateway}/{partition} {}..{} GAP {}, {} lost",
                gap.from, gap.to, gap.cause, gap.lost
            );
            write_plain(into, &text);
        }
        (Format::Raw, Item::Record(record)) => {
            into.extend_from_slice(&record.value);
            into.push(b'\n');
        }
        (Format::Raw, Item::Gap(gap)) => {
            let (gateway, partition) = (&gap.origin.gateway, gap.origin.partition);
            tracing::warn!(
                gateway,
                partition,
                from = gap.from,
                to = gap.to,
                lost = gap.lost,
                cause = gap.cause,
                "gap"
            );
        }
    }
}

/// Appends `text` as a line on which nothing can move the cursor or begin another line: names are a device's to choose, as values are.
fn write_plain(into: &mut Vec<u8>, text: &str) {
    let escaped = text.escape_debug().to_string();
    into.extend_from_slice(escaped.replace("\\\"", "\"").as_bytes());
    into.push(b'\n');
}

fn shown(micros: Option<i64>) -> String {
    let known = micros.filter(|micros| !json::IN_1970.contains(micros));
    match known.map(jiff::Timestamp::from_microsecond) {
        Some(Ok(time)) => format!("{time:.3}"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sedge_uplink::client::{Gap, Origin, Record};

    use super::*;

    /// What a device or a gateway calls itself is on the operator's screen like a value: it may not clear it, and makes no lines of its own.
    #[test]
    fn names_cannot_move_the_cursor_or_make_lines() {
        let origin = Arc::new(Origin {
            stream: "telemetry".into(),
            gateway: "gw\u{1b}[2J\n".into(),
            partition: 0,
            number: 0,
        });
        let record = Item::Record(Record {
            origin: Arc::clone(&origin),
            offset: 7,
            epoch: 0,
            time: None,
            ingested: None,
            clock: None,
            key: Some("pump \"1\"\x1b[2J\r\n- gw/0 8 pump\u{202e}\u{9b}".into()),
            value: "\"hot\"\n".into(),
            headers: Vec::new(),
        });
        let gap = Item::Gap(Gap {
            origin,
            epoch: 0,
            from: 8,
            to: 9,
            lost: 1,
            cause: "evicted",
            when: None,
        });
        let mut text = Vec::new();
        write(&mut text, Format::Text, &record);
        write(&mut text, Format::Text, &gap);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "- gw\\u{1b}[2J\\n/0 7 pump \"1\"\\u{1b}[2J\\r\\n- gw/0 8 pump\\u{202e}\\u{9b} \"hot\"\\n\n\
             - gw\\u{1b}[2J\\n/0 8..9 GAP evicted, 1 lost\n"
        );
    }
}
