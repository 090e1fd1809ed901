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
            let text = format!(
                "{time} {gateway}/{partition} {offset} {key} {}",
                value.escape_debug()
            );
            into.extend_from_slice(text.replace("\\\"", "\"").as_bytes());
            into.push(b'\n');
        }
        (Format::Text, Item::Gap(gap)) => {
            let (gateway, partition) = (&gap.origin.gateway, gap.origin.partition);
            let when = shown(gap.when);
            let text = format!(
                "{when} {gateway}/{partition} {}..{} GAP {}, {} lost\n",
                gap.from, gap.to, gap.cause, gap.lost
            );
            into.extend_from_slice(text.as_bytes());
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

fn shown(micros: Option<i64>) -> String {
    let known = micros.filter(|micros| !json::IN_1970.contains(micros));
    match known.map(jiff::Timestamp::from_microsecond) {
        Some(Ok(time)) => format!("{time:.3}"),
        _ => "-".to_owned(),
    }
}
