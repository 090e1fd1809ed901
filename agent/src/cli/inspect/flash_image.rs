//! `sedge inspect --flash-image`: the log of a microcontroller, out of a file that a probe has read from its flash.
//!
//! The file is read and never written: the device's open is carried out in memory.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use sedge_core::Micros;
use sedge_core::entry;
use sedge_store::{FlashHints, FlashImage, FlashItem, FlashReport, OpenReport, SegmentReport};
use sedge_uplink::client::{Gap, Item, Origin, Record};
use sedge_uplink::json;

use super::super::shown as given;
use super::{Code, Failure, print, shown_log};

/// What to look at.
#[derive(Debug, clap::Args)]
pub(super) struct Flash {
    /// Look into the flash of a microcontroller instead: a file with its bytes as they are
    #[arg(long, value_name = "FILE", conflicts_with = "salvage")]
    pub(super) flash_image: Option<PathBuf>,
    /// Where in the file the log begins, such as 0x400; found by its stamps if it is not given
    #[arg(long, value_name = "ADDRESS", requires = "flash_image", value_parser = number)]
    start: Option<u32>,
    /// If all stamps are damaged: the size of the log's segments, which then reach to the end of the file
    #[arg(long, value_name = "BYTES", requires = "flash_image", value_parser = number)]
    segment_bytes: Option<u32>,
    /// And its write unit
    #[arg(long, value_name = "BYTES", requires = "segment_bytes", value_parser = number, default_value = "4")]
    write_unit: u32,
    /// And its largest frame
    #[arg(long, value_name = "BYTES", requires = "segment_bytes", value_parser = number, default_value = "256")]
    frame_bytes_max: u32,
    /// Print what the log holds, one JSON object a line like `pull`, and nothing else
    #[arg(long, requires = "flash_image", conflicts_with = "json")]
    records: bool,
}

pub(super) fn run(arguments: &Flash, as_json: bool) -> Result<(), Failure> {
    let path = arguments
        .flash_image
        .as_ref()
        .expect("one of the two is required");
    let named = |what: String| format!("{}: {what}", path.display());
    let bytes = std::fs::read(path).map_err(|error| Failure::io(named(error.to_string())))?;
    let hints = FlashHints {
        start: arguments.start.map(|start| start as usize),
        segment_bytes: arguments.segment_bytes,
        write_unit: arguments.write_unit,
        frame_bytes_max: arguments.frame_bytes_max,
    };
    let image = FlashImage::find(&bytes, &hints)
        .map_err(|error| Failure::new(Code::Usage, named(error.to_string())))?;
    if arguments.records {
        return print_records(&image, &named);
    }
    let report = image.report();
    let text = match as_json {
        true => {
            let mut value = serde_json::to_value(&report).map_err(Failure::io)?;
            value["image"] = path.display().to_string().into();
            format!("{value}\n")
        }
        false => format!("{}  {} bytes\n", path.display(), report.bytes) + &shown(&report),
    };
    print(&text)?;
    match trouble(&report) {
        None => Ok(()),
        Some(trouble) => Err(Failure::io(named(trouble))),
    }
}

fn print_records(image: &FlashImage<'_>, named: &dyn Fn(String) -> String) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout());
    let mut written = Ok(());
    let mut line = Vec::new();
    // Nobody has given them names yet; the gateway will.
    let origin = Arc::new(Origin {
        stream: String::new(),
        gateway: String::new(),
        partition: 0,
        number: 0,
    });
    let read = image.read(|item| {
        line.clear();
        json::write_line(&mut line, &item_of(&origin, &item));
        if written.is_ok() {
            written = out.write_all(&line);
        }
    });
    read.map_err(|error| Failure::io(named(error)))?;
    given(written.and_then(|()| out.flush()))
}

/// As `pull` shows it; the time at a gateway is unknown.
fn item_of(origin: &Arc<Origin>, item: &FlashItem<'_>) -> Item {
    let origin = Arc::clone(origin);
    match item {
        FlashItem::Gap(gap) => Item::Gap(Gap {
            origin,
            epoch: 0,
            from: gap.from.get(),
            to: gap.to.get(),
            lost: gap.lost,
            cause: gap.cause.name(),
            when: known(gap.when),
        }),
        FlashItem::Record {
            offset,
            time,
            record,
        } => Item::Record(Record {
            origin,
            offset: offset.get(),
            epoch: 0,
            time: known(*time),
            ingested: None,
            clock: None,
            key: record.key.map(Bytes::copy_from_slice),
            value: Bytes::copy_from_slice(record.value),
            headers: headers(record),
        }),
    }
}

fn headers(record: &entry::Record<'_>) -> Vec<(Cow<'static, str>, Bytes)> {
    let owned = |(name, value): (&str, &[u8])| {
        let name = Cow::Owned(name.to_owned());
        (name, Bytes::copy_from_slice(value))
    };
    record.headers.iter().map(owned).collect()
}

fn known(time: Micros) -> Option<i64> {
    time.is_known().then_some(time.get())
}

fn shown(report: &FlashReport) -> String {
    let geometry = &report.geometry;
    let (from, dimensions) = (
        match report.start_from {
            "given" => "as given",
            "sequences" => "found by the sequences of its segments, the first stamps are gone",
            "headers" => "found by the first open header",
            _ => "found by its stamps",
        },
        if geometry.stamped {
            "as its newest stamp says"
        } else {
            "as given"
        },
    );
    let mut text = format!(
        "  log at {:#x} ({from}): {} segments of {} bytes, write unit {}, frames up to {} bytes, commits up to {} offsets ({dimensions})\n",
        report.start,
        geometry.segment_count,
        geometry.segment_bytes,
        geometry.write_unit,
        geometry.frame_bytes_max,
        geometry.commit_offsets_max
    );
    if let Some(log) = &report.log {
        text.push_str(&shown_log(log));
        for cursor in &log.ledger.cursors {
            text.push_str(&format!(
                "  uplink {} has everything below {}; {} lost to it\n",
                cursor.uplink, cursor.next, cursor.lost
            ));
        }
    }
    text.push_str(
        "  segment  state           seq        base        next  erased  frames  records    used\n",
    );
    let rows = report.segments.iter().map(row);
    text.extend(rows);
    text.push_str(&shown_open(&report.open));
    text
}

fn row(segment: &SegmentReport) -> String {
    let or_dash = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    format!(
        "  {:>7}  {:<9} {:>9} {:>11} {:>11} {:>7} {:>7} {:>8} {:>7}\n",
        segment.segment,
        segment.state,
        or_dash(segment.seq),
        or_dash(segment.base),
        or_dash(segment.next),
        or_dash(segment.erase_count.map(u64::from)),
        segment.frames,
        segment.entries,
        segment.used
    )
}

/// What a device does that is built with these dimensions and opens this.
fn shown_open(open: &OpenReport) -> String {
    if let Some(why) = &open.refused {
        return format!("  a device would refuse it: {why}\n");
    }
    if open.formatted {
        return "  a device would begin a new log: no segment has a valid beginning\n".to_owned();
    }
    let mut text = format!("  a device would go on at offset {}", open.next);
    if open.burned > 0 {
        text.push_str(&format!(
            ", and burn {} that a torn write may have taken",
            open.burned
        ));
    }
    if let Some(lost) = &open.lost_head {
        text.push_str(&format!(
            "; the beginning of segment {} is damaged: {} records at {}..{} are a gap",
            lost.segment, lost.lost, lost.from, lost.to
        ));
    }
    if open.recounted {
        text.push_str("; the oldest segment was being recycled, and is counted again");
    }
    if open.writes {
        text.push_str("; it would write at the open");
    }
    text + "\n"
}

/// What is wrong with it, if anything is.
fn trouble(report: &FlashReport) -> Option<String> {
    if let Some(why) = &report.open.refused {
        return Some(format!("a device would refuse this log: {why}"));
    }
    if report.open.formatted {
        return Some("no segment has a valid beginning".to_owned());
    }
    let damaged = report.open.lost_head.is_some()
        || (report.log.as_ref()).is_some_and(|log| !log.balances || log.missing > 0);
    damaged.then(|| "the log is damaged".to_owned())
}

/// A number as it stands in a memory map: decimal, or hexadecimal behind 0x.
fn number(text: &str) -> Result<u32, String> {
    let digits = text.replace('_', "");
    let parsed = match digits.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    parsed.map_err(|_| "accepted: bytes such as 1024 or 0x400".to_owned())
}
