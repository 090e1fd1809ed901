//! `sedge status`: one screen, or the same as JSON. The agent gathers, this file only shows.

use std::path::Path;
use std::time::Duration;

use sedge_uplink::trust::unix_s;

use super::reach::{self, Reach};
use super::{COLUMNS, Failure, folded, print};
use crate::control;
use crate::outlook::{Outlook, Wear};
use crate::status::{Diverged, Partition, Source, Status, Stream, Uplink};

/// Which agent, and how to show it.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    reach: Reach,
    /// As JSON, with every field
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let socket = arguments.reach.socket()?;
    let answer = reach::ask(&socket, control::STATUS, PATIENCE)
        .map_err(|error| reach::nobody_at(&socket, &error))?;
    let status: Status = serde_json::from_str(&answer).map_err(|error| {
        Failure::unavailable(format!(
            "{} gives another answer: {error}",
            socket.display()
        ))
    })?;
    print(&match arguments.json {
        true => format!("{}\n", answer.trim_end()),
        false => screen(&status),
    })
}

/// All of it in 80 columns.
fn screen(status: &Status) -> String {
    let mut screen = String::new();
    let mut line = |text: String| {
        screen.push_str(&cut(text.trim_end(), COLUMNS));
        screen.push('\n');
    };
    line(format!(
        "{}   up {}   sedge {}   pid {}",
        status.gateway,
        span(status.uptime_s as f64),
        status.version,
        status.pid
    ));
    line(status.data_dir.clone());
    line(String::new());
    line(format!(
        "{:<14} {:<11} {:>8} {:>7} {:>7}  {}",
        "SOURCE", "TYPE", "EVENTS/S", "EVENTS", "DROPPED", "STATE"
    ));
    for source in &status.sources {
        stated(source_line(source), &source.state).for_each(&mut line);
    }
    line(String::new());
    let head = [
        "STREAM", "EVENTS/S", "HELD", "FILL", "LAG", "OLDEST", "LOST",
    ];
    line(format!(
        "{:<20} {:>8} {:>8} {:>5} {:>8} {:>8} {:>8}",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6]
    ));
    for stream in &status.streams {
        for partition in &stream.partitions {
            line(partition_line(stream, partition));
            notes(status, partition).for_each(&mut line);
        }
    }
    line(String::new());
    line(format!(
        "{:<16} {:>8} {:>8} {:>8} {:>6}  {}",
        "UPLINK", "EVENTS/S", "LAG", "OLDEST", "LOST", "STATE"
    ));
    for uplink in &status.uplinks {
        stated(uplink_line(uplink), &uplink.state).for_each(&mut line);
        uplink_notes(uplink, unix_s()).for_each(&mut line);
    }
    if let Some(wear) = wear_line(&status.wear) {
        line(String::new());
        line(wear);
    }
    if let Some(doubt) = &status.clock {
        folded(doubt, NOTE, NOTE).for_each(&mut line);
    }
    if status.write_budget_left.is_some_and(|left| left < 0.0) {
        folded(OVERDRAWN, NOTE, NOTE).for_each(&mut line);
    }
    screen
}

/// The line that ends in `state`; if there is no room for that, as many of its words as there is room for, and beneath it all of them. Half a word may be
/// another: an address without its last digit is one, too.
fn stated(whole: String, state: &str) -> impl Iterator<Item = String> {
    let is_long = whole.chars().count() > COLUMNS;
    let beneath = is_long.then(|| folded(state, NOTE, NOTE));
    let line = match is_long {
        true => {
            let room: String = whole.chars().take(COLUMNS).collect();
            let end = room.rfind(' ').unwrap_or(room.len());
            format!("{}…", room[..end].trim_end())
        }
        false => whole,
    };
    std::iter::once(line).chain(beneath.into_iter().flatten())
}

/// What there is to say of an uplink in words: what the hub does not take, and a certificate that ends soon.
fn uplink_notes(uplink: &Uplink, now: u64) -> impl Iterator<Item = String> {
    let refused = uplink.refused.iter().map(|log| log.to_string());
    let refused = refused.flat_map(|what| folded(&what, NOTE, NOTE));
    let left = uplink.certificate_ends.map(|end| end.saturating_sub(now));
    let ends = left.filter(|left| *left < SOON_S).map(|left| match left {
        0 => "  its certificate has ended: `sedge enroll` gets another".to_owned(),
        left => format!("  its certificate ends in {}", span(left as f64)),
    });
    let eta = uplink.empty_in_s.map(|outlook| match outlook {
        Outlook::In(seconds) => format!(
            "  empty in {}, at the rates of the last minutes",
            span(seconds)
        ),
        Outlook::Never(_) => "  not empty at this rate: as much comes in as goes out".to_owned(),
    });
    refused.chain(eta).chain(ends)
}

/// What is written to the disk, and how long that lasts.
pub(super) fn wear_line(wear: &Wear) -> Option<String> {
    let written = bytes(wear.written_bytes? as f64);
    let a_day = wear.bytes_per_day.map_or("no rate yet".to_owned(), |rate| {
        format!("{} a day", bytes(rate))
    });
    let lasts = wear.tbw_bytes.map(|tbw| match wear.lasts_days {
        Some(days) => format!("; a card of {} lasts {}", bytes(tbw as f64), years(days)),
        None => format!("; the card has {}", bytes(tbw as f64)),
    });
    Some(format!(
        "written to disk: {written}, {a_day}{}",
        lasts.unwrap_or_default()
    ))
}

/// Bytes as people buy them: `712 kB`, `4.2 GB`, `30 TB`.
pub(super) fn bytes(number: f64) -> String {
    let (mut number, mut unit) = (number, 0);
    while number >= 999.5 && unit + 1 < BYTE_UNITS.len() {
        (number, unit) = (number / 1000.0, unit + 1);
    }
    match unit {
        1.. if number < 9.95 => format!("{number:.1} {}", BYTE_UNITS[unit]),
        _ => format!("{number:.0} {}", BYTE_UNITS[unit]),
    }
}

fn years(days: f64) -> String {
    match days / 365.25 {
        0.0..2.0 => format!("{days:.0} days"),
        years @ 2.0..10.0 => format!("{years:.1} years"),
        10.0..100.0 => format!("{:.0} years", days / 365.25),
        _ => "more than 100 years".to_owned(),
    }
}

fn source_line(source: &Source) -> String {
    let dropped: u64 = source.dropped.values().sum();
    let clients = if source.clients > 0 {
        format!("{} clients, ", count(source.clients))
    } else {
        String::new()
    };
    format!(
        "{:<14} {:<11} {:>8} {:>7} {:>7}  {}{clients}{}",
        cut(&source.name, 14),
        source.kind,
        rate(source.rate),
        count(source.accepted),
        count(dropped),
        if source.up { "" } else { "DOWN " },
        source.state,
    )
}

fn partition_line(stream: &Stream, partition: &Partition) -> String {
    let name = match stream.partitions.len() {
        1 => cut(&stream.name, 20),
        _ => format!("{}/{}", cut(&stream.name, 16), partition.partition),
    };
    let state = match partition {
        Partition {
            refused: Some(_), ..
        } => " NO ROOM",
        Partition { full: true, .. } => " FULL",
        _ if stream.draining => " draining",
        _ => "",
    };
    format!(
        "{name:<20} {:>8} {:>8} {:>4.0}% {:>8} {:>8} {:>8}{state}",
        rate(partition.rate),
        count(partition.held),
        partition.fill * 100.0,
        partition.lag.map_or("-".to_owned(), count),
        partition.oldest_unacked_s.map_or("-".to_owned(), span),
        count(partition.losses.lost() + partition.losses.refused),
    )
}

/// What there is to say of a partition in words.
fn notes(status: &Status, partition: &Partition) -> impl Iterator<Item = String> {
    let diverged = |log: &Diverged| {
        let path = Path::new(&log.path);
        let within = path.strip_prefix(&status.data_dir).unwrap_or(path);
        let events = count(log.events);
        format!(
            "  diverged, {events} events not at the hub: {}",
            within.display()
        )
    };
    let refused = partition.refused.iter();
    let refused = refused.flat_map(|why| folded(why, NOTE, NOTE));
    let diverged = partition.diverged.iter().map(diverged);
    refused.chain(full_note(partition)).chain(diverged)
}

/// When it is full; nothing where nothing waits and all goes well, or nothing was measured.
fn full_note(partition: &Partition) -> Option<String> {
    let waits = partition.lag.is_none_or(|lag| lag > 0);
    match partition.full_in_s? {
        _ if partition.full => None,
        Outlook::In(seconds) if seconds < 1.0 => {
            Some("  full: what comes takes the place of the oldest".to_owned())
        }
        Outlook::In(seconds) => Some(format!(
            "  full in {}, at the rates of the last minutes",
            span(seconds)
        )),
        Outlook::Never(_) if waits && partition.held > 0 => {
            Some("  not full at this rate".to_owned())
        }
        Outlook::Never(_) => None,
    }
}

fn uplink_line(uplink: &Uplink) -> String {
    format!(
        "{:<16} {:>8} {:>8} {:>8} {:>6}  {}{}",
        cut(&uplink.name, 16),
        rate(uplink.rate),
        count(uplink.lag),
        uplink.oldest_unacked_s.map_or("-".to_owned(), span),
        count(uplink.lost),
        if uplink.up { "" } else { "DOWN " },
        uplink.state,
    )
}

/// At most five characters up to 999G: `9999`, `12.3k`, `456k`, `1.2M`.
pub(crate) fn count(number: u64) -> String {
    let (unit, sign) = match number {
        0..10_000 => return number.to_string(),
        10_000..1_000_000 => (1_000, 'k'),
        1_000_000..1_000_000_000 => (1_000_000, 'M'),
        _ => (1_000_000_000, 'G'),
    };
    match number / unit {
        whole @ 0..100 => format!("{whole}.{}{sign}", number / (unit / 10) % 10),
        whole => format!("{whole}{sign}"),
    }
}

pub(super) fn rate(per_second: f64) -> String {
    if per_second < 10.0 {
        format!("{per_second:.1}")
    } else {
        count(per_second.round() as u64)
    }
}

/// A time span in one or two units: `0.4s`, `17s`, `3m 5s`, `4h 12m`, `9d 3h`.
pub(crate) fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    match whole {
        0..10 => format!("{:.1}s", seconds.max(0.0)),
        10..60 => format!("{whole}s"),
        60..3_600 => format!("{}m {}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {}h", whole / 86_400, whole / 3_600 % 24),
    }
}

fn cut(name: &str, characters: usize) -> String {
    match name.chars().count() > characters {
        true => name.chars().take(characters - 1).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

/// Sets in what belongs to the line before.
const NOTE: &str = "  ";
/// A certificate from `sedge enroll` is renewed long before.
const SOON_S: u64 = 30 * 86_400;
const BYTE_UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
const PATIENCE: Duration = Duration::from_secs(5);

const OVERDRAWN: &str = "more is written than write_budget allows, although commits wait as long as at_risk_max; nothing is lost by that, and the disk wears";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outlook::Never;
    use crate::status::Refused;

    #[test]
    fn the_screen_fits_80_columns_whatever_the_numbers() {
        let long = "a-very-long-name-that-nobody-should-ever-give-to-anything-at-all".to_owned();
        let losses = crate::status::Losses {
            evicted: u64::MAX / 4,
            ..Default::default()
        };
        let partition = Partition {
            held: u64::MAX,
            fill: 1.0,
            rate: 1e9,
            lag: Some(u64::MAX),
            oldest_unacked_s: Some(1e9),
            full_in_s: Some(Outlook::In(1e12)),
            refused: Some(long.clone()),
            diverged: vec![Diverged {
                path: long.repeat(2),
                events: u64::MAX,
                ..Default::default()
            }],
            losses,
            ..Default::default()
        };
        let status = Status {
            gateway: long.clone(),
            data_dir: long.repeat(3),
            sources: vec![Source {
                name: long.clone(),
                kind: "mqtt-listen".into(),
                state: long.clone(),
                ..Default::default()
            }],
            streams: vec![Stream {
                name: long.clone(),
                draining: false,
                partitions: vec![partition.clone(), partition],
            }],
            uplinks: vec![Uplink {
                name: long.clone(),
                state: long,
                lag: u64::MAX,
                empty_in_s: Some(Outlook::In(1e12)),
                ..Default::default()
            }],
            wear: Wear::of(Some(u64::MAX), Some(1e3), Some(u64::MAX)),
            ..Default::default()
        };
        let screen = screen(&status);
        assert!(
            screen.lines().all(|line| line.chars().count() <= 80),
            "{screen}"
        );
        assert!(screen.lines().count() <= 24, "{screen}");
    }

    #[test]
    fn why_an_uplink_is_down_is_told_to_its_end() {
        let reason = "cannot connect: the peer's certificate is for another name than the one that was called";
        let uplink = Uplink {
            name: "hq".into(),
            state: reason.into(),
            certificate_ends: Some(1_000 + 86_400),
            ..Default::default()
        };
        let lines: Vec<String> = stated(uplink_line(&uplink), reason).collect();
        assert!(
            lines.iter().all(|line| line.chars().count() <= COLUMNS),
            "{lines:?}"
        );
        let (first, why) = lines.split_first().unwrap();
        assert!(first.ends_with("DOWN cannot connect: the…"), "{first}");
        let why: Vec<&str> = why.iter().map(|line| line.trim()).collect();
        assert_eq!(why.join(" "), reason);
        let notes: Vec<String> = uplink_notes(&uplink, 1_000).collect();
        assert_eq!(notes, ["  its certificate ends in 1d 0h"]);
        let up = Uplink {
            up: true,
            certificate_ends: Some(1_000 + 31 * 86_400),
            ..uplink
        };
        assert_eq!(uplink_notes(&up, 1_000).count(), 0);
    }

    /// Half an address is another address.
    #[test]
    fn what_a_source_does_is_never_cut_to_something_else() {
        let source = |state: &str, up, clients| Source {
            name: "direct".into(),
            kind: "mqtt-listen".into(),
            state: state.into(),
            up,
            clients,
            ..Default::default()
        };
        let down = "cannot listen on 127.0.0.1:1883: Address already in use (os error 98)";
        let status = Status {
            sources: vec![
                source("listening on 127.0.0.1:1883", true, 0),
                source("listening on 127.0.0.1:21883", true, 0),
                source("listening on 127.0.0.1:1883", true, 3),
                source(down, false, 0),
            ],
            streams: vec![Stream {
                name: "telemetry".into(),
                partitions: vec![Partition {
                    refused: Some(
                        "the disk has 3 MiB of the 8 MiB that a log needs at least; it is tried again each minute".into(),
                    ),
                    ..Default::default()
                }],
                ..Default::default()
            }],
            ..Default::default()
        };
        let screen = screen(&status);
        let lines: Vec<&str> = screen.lines().collect();
        assert!(
            lines.iter().all(|line| line.chars().count() <= COLUMNS),
            "{screen}"
        );
        assert!(
            lines[4].ends_with("listening on 127.0.0.1:1883"),
            "{screen}"
        );
        assert!(lines[5].ends_with(" listening on…"), "{screen}");
        assert_eq!(lines[6], "  listening on 127.0.0.1:21883");
        assert!(lines[7].ends_with(" 3 clients, listening on…"), "{screen}");
        assert_eq!(lines[8], "  listening on 127.0.0.1:1883");
        assert!(lines[9].ends_with(" DOWN cannot listen on…"), "{screen}");
        assert_eq!(lines[10], format!("  {down}"));
        let whole = screen.replace("\n  ", " ");
        assert!(
            whole.contains("that a log needs at least; it is tried again each minute\n"),
            "{screen}"
        );
    }

    #[test]
    fn what_a_hub_does_not_take_is_told_beneath_its_uplink() {
        let refused = |partition| Refused {
            stream: "telemetry".into(),
            partition,
            why: "disk full".into(),
        };
        let uplink = Uplink {
            name: "hq".into(),
            up: true,
            state: "connected to hub.example:7443".into(),
            refused: vec![refused(0), refused(3)],
            ..Default::default()
        };
        let notes: Vec<String> = uplink_notes(&uplink, 1_000).collect();
        let told =
            |partition| format!("  telemetry/{partition}: the hub does not take it now: disk full");
        assert_eq!(notes, [told(0), told(3)]);
    }

    #[test]
    fn when_a_log_is_full_is_told_as_far_as_it_is_known() {
        let partition = |full_in_s, lag| Partition {
            full_in_s,
            lag,
            held: 5,
            ..Default::default()
        };
        let never = Some(Outlook::Never(Never::NotAtThisRate));
        for (full_in_s, lag, note) in [
            (None, Some(5), None),
            (
                Some(Outlook::In(273_600.0)),
                Some(5),
                Some("  full in 3d 4h, at the rates of the last minutes"),
            ),
            (never, Some(5), Some("  not full at this rate")),
            (never, Some(0), None),
            (never, None, Some("  not full at this rate")),
            (
                Some(Outlook::In(0.0)),
                None,
                Some("  full: what comes takes the place of the oldest"),
            ),
        ] {
            assert_eq!(full_note(&partition(full_in_s, lag)).as_deref(), note);
        }
    }

    #[test]
    fn wear_is_bytes_a_day_and_years_where_the_card_is_known() {
        let line = |wear| wear_line(&wear).unwrap();
        assert_eq!(wear_line(&Wear::default()), None);
        assert_eq!(
            line(Wear::of(Some(4_096), None, None)),
            "written to disk: 4.1 kB, no rate yet"
        );
        assert_eq!(
            line(Wear::of(
                Some(12_345_678_901),
                Some(50_000.0),
                Some(30_000_000_000_000)
            )),
            "written to disk: 12 GB, 4.3 GB a day; a card of 30 TB lasts 19 years"
        );
    }

    #[test]
    fn numbers_and_spans_are_short() {
        assert_eq!(
            (count(0), count(9_999), count(12_345)),
            ("0".into(), "9999".into(), "12.3k".into())
        );
        assert_eq!(
            (count(1_234_567), count(7_000_000_000)),
            ("1.2M".into(), "7.0G".into())
        );
        assert_eq!(
            (span(0.42), span(185.0), span(90_000.0)),
            ("0.4s".into(), "3m 5s".into(), "1d 1h".into())
        );
    }
}
