//! The screen of `sedge top`, as a function of the model. Colours say nothing that is not said in words.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use super::model::Model;
use super::table::{self, Cell, Column, Row, cut_end};
use crate::cli::status::{bytes, rate, wear_line};
use crate::cli::{count, span};
use crate::outlook::Outlook;
use crate::status::{Partition, Source, Status, Stream, Uplink};

/// Draws all of it into `area`.
pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let paint = Paint {
        colours: model.colours,
    };
    let status = &model.seen.status;
    let mut rest = area;
    line(&mut rest, buffer, &headline(status), paint.title());
    match &model.trouble {
        Some(why) => line(&mut rest, buffer, &format!("NO ANSWER: {why}"), paint.bad()),
        None => line(&mut rest, buffer, &sums(status), Style::new()),
    }
    let tables = [
        sources(status, paint),
        streams(status, paint),
        uplinks(model, area.width, paint),
    ];
    let wanted = tables.each_ref().map(|table| table.rows.len() as u16);
    let heights = heights(rest.height, wanted);
    for (table, height) in tables.iter().zip(heights) {
        let space = u16::from(rest.height > height);
        skip(&mut rest, space);
        let own = Rect { height, ..rest }.intersection(rest);
        table::draw(table.name, &table.columns, &table.rows, own, buffer);
        skip(&mut rest, height);
    }
    log(model, rest, paint, buffer);
}

/// Which looks there are. The same without colours, but for those.
#[derive(Clone, Copy)]
struct Paint {
    colours: bool,
}

impl Paint {
    fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn doubtful(self) -> Style {
        self.of(Color::Yellow)
    }

    fn good(self) -> Style {
        self.of(Color::Green)
    }

    fn of(self, colour: Color) -> Style {
        match self.colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }
}

/// A table and what stands in it.
struct Table {
    name: &'static str,
    columns: Vec<Column>,
    rows: Vec<Row>,
}

const fn number(head: &'static str, width: u16, yields: u8) -> Column {
    Column {
        head,
        width,
        right: true,
        yields,
    }
}

const fn words(head: &'static str, width: u16, yields: u8) -> Column {
    Column {
        head,
        width,
        right: false,
        yields,
    }
}

fn headline(status: &Status) -> String {
    format!(
        "{}   up {}   sedge {}   q: leave",
        table::cut_middle(&status.gateway, 24),
        span(status.uptime_s as f64),
        status.version
    )
}

/// All of it together.
fn sums(status: &Status) -> String {
    let partitions = || status.streams.iter().flat_map(|stream| &stream.partitions);
    let came: f64 = partitions().map(|partition| partition.rate).sum();
    let left: f64 = status.uplinks.iter().map(|uplink| uplink.rate).sum();
    let held: u64 = partitions().map(|partition| partition.held).sum();
    let lost: u64 = partitions().map(lost).sum();
    let mut sums = format!(
        "in {}/s   out {}/s   held {}   lost {}",
        rate(came),
        rate(left),
        count(held),
        count(lost)
    );
    if let Some(wear) = wear_line(&status.wear) {
        let short = status.wear.bytes_per_day.map(bytes);
        let short = short.map_or(wear, |a_day| format!("disk {a_day} a day"));
        sums.push_str(&format!("   {short}"));
    }
    if let Some(doubt) = &status.clock {
        sums.push_str(&format!("   CLOCK: {doubt}"));
    }
    sums
}

fn lost(partition: &Partition) -> u64 {
    partition.losses.lost() + partition.losses.refused
}

fn sources(status: &Status, paint: Paint) -> Table {
    let row = |source: &Source| {
        let dropped: u64 = source.dropped.values().sum();
        Row {
            name: Cell::plain(&source.name),
            cells: vec![
                Cell::plain(rate(source.rate)),
                Cell::plain(count(source.clients)),
                numbered(dropped, paint),
                Cell::plain(&source.kind),
                state(source.up, &source.state, paint),
            ],
        }
    };
    Table {
        name: "SOURCE",
        columns: vec![
            number("EVENTS/S", 8, 0),
            number("CLIENTS", 7, 3),
            number("DROPPED", 7, 1),
            words("TYPE", 11, 4),
            words("STATE", 20, 0),
        ],
        rows: status.sources.iter().map(row).collect(),
    }
}

fn streams(status: &Status, paint: Paint) -> Table {
    let rows = status.streams.iter().flat_map(|stream| {
        let partitions = stream.partitions.iter();
        partitions.map(|partition| stream_row(stream, partition, paint))
    });
    Table {
        name: "STREAM",
        columns: vec![
            number("EVENTS/S", 8, 0),
            number("HELD", 6, 4),
            words("FILL", 10, 2),
            number("LAG", 6, 0),
            number("OLDEST", 7, 3),
            number("LOST", 6, 1),
            words("FULL IN", 16, 0),
        ],
        rows: rows.collect(),
    }
}

fn stream_row(stream: &Stream, partition: &Partition, paint: Paint) -> Row {
    let name = match stream.partitions.len() {
        1 => stream.name.clone(),
        _ => format!("{}/{}", stream.name, partition.partition),
    };
    Row {
        name: Cell::plain(name),
        cells: vec![
            Cell::plain(rate(partition.rate)),
            Cell::plain(count(partition.held)),
            Cell::plain(bar(partition.fill)),
            Cell::plain(partition.lag.map_or("-".to_owned(), count)),
            Cell::plain(partition.oldest_unacked_s.map_or("-".to_owned(), span)),
            numbered(lost(partition), paint),
            full_in(stream, partition, paint),
        ],
    }
}

/// When it is full, or what it is instead.
fn full_in(stream: &Stream, partition: &Partition, paint: Paint) -> Cell {
    match partition.full_in_s {
        _ if partition.refused.is_some() => Cell::styled("NO ROOM ON DISK", paint.bad()),
        _ if partition.full => Cell::styled("FULL, takes none", paint.bad()),
        _ if stream.draining => Cell::plain("draining"),
        Some(Outlook::In(seconds)) if seconds < 1.0 => {
            Cell::styled("FULL, oldest go", paint.doubtful())
        }
        Some(Outlook::In(seconds)) if seconds < HOUR_S => {
            Cell::styled(format!("{} !", span(seconds)), paint.bad())
        }
        Some(Outlook::In(seconds)) => Cell::plain(span(seconds)),
        Some(Outlook::Never(_)) => Cell::plain("not at this rate"),
        None => Cell::plain("measuring"),
    }
}

fn uplinks(model: &Model, width: u16, paint: Paint) -> Table {
    let spark = match width {
        0..100 => 12,
        100..160 => 30,
        _ => 60,
    };
    let row = |uplink: &Uplink| {
        let lags = model.lags(&uplink.name, spark);
        Row {
            name: Cell::plain(&uplink.name),
            cells: vec![
                Cell::plain(rate(uplink.rate)),
                Cell::plain(count(uplink.lag)),
                Cell::plain(sparkline(&lags, spark)),
                Cell::plain(uplink.oldest_unacked_s.map_or("-".to_owned(), span)),
                Cell::plain(empty_in(uplink)),
                match uplink.refused.first() {
                    Some(log) => Cell::styled(log.to_string(), paint.bad()),
                    None => state(uplink.up, &uplink.state, paint),
                },
            ],
        }
    };
    Table {
        name: "UPLINK",
        columns: vec![
            number("EVENTS/S", 8, 0),
            number("LAG", 6, 0),
            words(
                match spark {
                    12 => "LAG, 12 S",
                    30 => "LAG, LAST 30 SECONDS",
                    _ => "LAG, LAST 60 SECONDS",
                },
                spark as u16,
                3,
            ),
            number("OLDEST", 7, 2),
            number("EMPTY IN", 8, 1),
            words("STATE", 16, 0),
        ],
        rows: model.seen.status.uplinks.iter().map(row).collect(),
    }
}

fn empty_in(uplink: &Uplink) -> String {
    match uplink.empty_in_s {
        Some(Outlook::In(seconds)) => span(seconds),
        Some(Outlook::Never(_)) => "grows".to_owned(),
        None => "-".to_owned(),
    }
}

/// What was dropped or lost: more than nothing is marked.
fn numbered(number: u64, paint: Paint) -> Cell {
    match number {
        0 => Cell::plain("0"),
        some => Cell::styled(count(some), paint.doubtful()),
    }
}

fn state(up: bool, words: &str, paint: Paint) -> Cell {
    match up {
        true => Cell::styled(words, paint.good()),
        false => Cell::styled(format!("DOWN {words}"), paint.bad()),
    }
}

/// `▓▓░░░  40%`.
fn bar(fill: f64) -> String {
    let fill = fill.clamp(0.0, 1.0);
    let full = (fill * BAR as f64).round() as usize;
    let (full, empty) = ("▓".repeat(full), "░".repeat(BAR - full));
    format!("{full}{empty} {:>3.0}%", fill * 100.0)
}

/// `width` columns, the newest at the right; the largest is as high as can be, and nothing is a dot.
fn sparkline(numbers: &[u64], width: usize) -> String {
    let most = numbers.iter().copied().max().unwrap_or(0).max(1);
    let step = |number: &u64| match *number {
        0 => '·',
        // In 128 bits: a backlog may be any number.
        number => {
            let eighth = (u128::from(number) * 8).div_ceil(u128::from(most));
            STEPS[eighth as usize - 1]
        }
    };
    let blank = std::iter::repeat_n(' ', width.saturating_sub(numbers.len()));
    blank.chain(numbers.iter().map(step)).collect()
}

/// The newest lines of the agent's log, in what is left.
fn log(model: &Model, mut rest: Rect, paint: Paint, buffer: &mut Buffer) {
    let space = u16::from(rest.height > 2);
    skip(&mut rest, space);
    line(&mut rest, buffer, "LOG", paint.title());
    let lines = &model.seen.log;
    let hidden = lines.len().saturating_sub(rest.height.into());
    for text in &lines[hidden..] {
        let style = match text {
            text if text.contains("level=error") => paint.bad(),
            text if text.contains("level=warn") => paint.doubtful(),
            _ => Style::new(),
        };
        line(&mut rest, buffer, &told(text), style);
    }
}

/// A line of the log without what a person at the screen knows: date and part of the program.
fn told(line: &str) -> String {
    let mut words = line.splitn(4, ' ');
    let (Some(time), Some(level), Some(_), Some(rest)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return line.to_owned();
    };
    let time = time.split_once('T').map_or(time, |(_, time)| time);
    let time = time.split_once('.').map_or(time, |(time, _)| time);
    let level = level.trim_start_matches("level=");
    format!("{time} {level} {}", rest.trim_start_matches("msg="))
}

/// Lines of each table with its head, so that all fit and the log has some lines left. The longest give way.
fn heights(height: u16, wanted: [u16; 3]) -> [u16; 3] {
    let mut heights = wanted.map(|rows| rows.max(1) + 1);
    let room = height.saturating_sub(wanted.len() as u16);
    let left = room.saturating_sub(heights.iter().sum());
    let room = room.saturating_sub(left.clamp(LOG_LEAST, LOG_LINES));
    while heights.iter().sum::<u16>() > room {
        let longest = heights.iter_mut().max_by_key(|height| **height);
        match longest.filter(|height| **height > 2) {
            Some(longest) => *longest -= 1,
            None => break,
        }
    }
    heights
}

fn line(rest: &mut Rect, buffer: &mut Buffer, text: &str, style: Style) {
    if rest.height > 0 {
        let text = cut_end(text, rest.width.into());
        buffer.set_stringn(rest.x, rest.y, text, rest.width.into(), style);
        skip(rest, 1);
    }
}

fn skip(rest: &mut Rect, lines: u16) {
    let lines = lines.min(rest.height);
    (rest.y, rest.height) = (rest.y + lines, rest.height - lines);
}

const BAR: usize = 5;
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The log has as many lines with its head, if others want the room.
const LOG_LINES: u16 = 6;
const LOG_LEAST: u16 = 2;
const HOUR_S: f64 = 3_600.0;

#[cfg(test)]
mod tests;
