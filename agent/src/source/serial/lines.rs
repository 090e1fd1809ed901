//! Devices that just print: one event a text line, plain or JSON.
//!
//! A line that is too long, is not UTF-8, or lacks what the configuration asks for goes to the dead letters; the next line is
//! taken as if nothing had been. There is nobody to acknowledge to: backpressure leaves bytes in the kernel's buffer, and what
//! the line itself loses is not known here. Knows nothing of logs but how to put a record into one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sedge_config::checked::{Lines, TimeUnit};
use sedge_core::Micros;
use serde_json::Value;
use tokio::time::Instant;

use crate::dead_letter::{DeadLetter, Reason, Remains};
use crate::ingest::{Ingest, Intake, Receipt, Reserved};
use crate::route::Subject;
use crate::shutdown::Shutdown;
use crate::telemetry::Source;

use super::port::{Gone, Port};

/// Reads lines, over all openings of the port.
pub(super) struct LineReader {
    name: String,
    config: Lines,
    ingest: Ingest,
    intake: Intake,
    telemetry: Arc<Source>,
    unsettled: VecDeque<Unsettled>,
}

struct Unsettled {
    receipts: Vec<Receipt>,
    events: u64,
    _reserved: Reserved,
}

/// The lines in a stream of bytes, with bounded memory.
#[derive(Debug)]
pub struct Splitter {
    line: Vec<u8>,
    line_bytes_max: usize,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// The line was opened in the middle of what was being said.
    Hunting,
    Inside,
    /// The line is too long.
    Overlong(Box<Overlong>),
}

/// What is kept of a line that is too long.
#[derive(Clone, Debug, Default)]
struct Overlong {
    remains: Remains,
    /// The last byte was a carriage return: of the line's end, if a line feed follows.
    returned: bool,
}

/// One line of the device.
#[derive(Debug)]
pub enum Line<'a> {
    /// Without its end.
    Whole(&'a [u8]),
    /// Longer than lines may be; what is kept of it.
    Overlong(Box<Remains>),
    /// What came before the first line end after the opening.
    Partial,
}

impl Splitter {
    /// `in_the_middle`: what comes before the first line end may be half a line.
    #[must_use]
    pub fn new(line_bytes_max: usize, in_the_middle: bool) -> Self {
        Self {
            line: Vec::new(),
            line_bytes_max,
            state: if in_the_middle {
                State::Hunting
            } else {
                State::Inside
            },
        }
    }

    /// Takes bytes from the front of `bytes` up to the next line end. `None` when they are used up.
    pub fn advance(&mut self, bytes: &mut &[u8]) -> Option<Line<'_>> {
        if matches!(self.state, State::Inside) && self.line.last() == Some(&b'\n') {
            self.line.clear();
        }
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (piece, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
        *bytes = rest;
        self.take(piece);
        end?;
        match std::mem::replace(&mut self.state, State::Inside) {
            State::Hunting => Some(Line::Partial),
            State::Overlong(line) => Some(Line::Overlong(Box::new(line.remains))),
            State::Inside => Some(Line::Whole(trimmed(&self.line))),
        }
    }

    fn take(&mut self, piece: &[u8]) {
        match &mut self.state {
            State::Hunting => {}
            State::Overlong(line) => line.take(piece),
            State::Inside => {
                // A carriage return at the end may be of the line's end.
                let kept = piece.len().min(self.line_bytes_max + 3 - self.line.len());
                let (piece, rest) = piece.split_at(kept);
                self.make_room(kept);
                self.line.extend_from_slice(piece);
                if trimmed(&self.line).len() > self.line_bytes_max {
                    let mut line = Box::<Overlong>::default();
                    line.take(&std::mem::take(&mut self.line));
                    line.take(rest);
                    self.state = State::Overlong(line);
                }
            }
        }
    }
}

impl Splitter {
    /// By doubling, but never for more than a line may have.
    fn make_room(&mut self, bytes: usize) {
        let (len, longest) = (self.line.len(), self.line_bytes_max + 3);
        if len + bytes > self.line.capacity() {
            self.line
                .reserve_exact((2 * (len + bytes)).min(longest) - len);
        }
    }
}

impl Overlong {
    fn take(&mut self, piece: &[u8]) {
        let is_end = piece.starts_with(b"\n");
        if self.returned && !is_end && !piece.is_empty() {
            self.remains.add(b"\r");
            self.returned = false;
        }
        self.remains.add(trimmed(piece));
        self.returned |= piece.ends_with(b"\r");
    }
}

/// Without its end.
fn trimmed(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

impl LineReader {
    pub(super) fn new(
        name: String,
        config: Lines,
        ingest: Ingest,
        intake: Intake,
        telemetry: Arc<Source>,
    ) -> Self {
        Self {
            name,
            config,
            ingest,
            intake,
            telemetry,
            unsettled: VecDeque::new(),
        }
    }

    /// Listens until the port is gone or the agent stops.
    pub(super) async fn listen(&mut self, port: Port, shutdown: &mut Shutdown) -> Gone {
        let (mut reader, _writer) = (port.reader, port.writer);
        let opened = Instant::now();
        let mut splitter: Option<Splitter> = None;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            tokio::select! {
                () = shutdown.requested() => return self.leave().await,
                heard = reader.read(&mut buffer) => {
                    let bytes = match heard {
                        Ok(bytes) => bytes,
                        Err(gone) => return gone,
                    };
                    let line_bytes_max = self.config.line_bytes_max as usize;
                    let splitter = splitter
                        .get_or_insert_with(|| Splitter::new(line_bytes_max, opened.elapsed() < QUIET));
                    tokio::select! {
                        outcome = self.hear(splitter, bytes) => if let Err(gone) = outcome {
                            return gone;
                        },
                        () = shutdown.requested() => return self.leave().await,
                    }
                }
                () = self.next_settled() => self.settled(),
            }
        }
    }

    async fn hear(&mut self, splitter: &mut Splitter, mut bytes: &[u8]) -> Result<(), Gone> {
        let reserved = self.reserve(bytes.len()).await;
        let (mut events, mut receipts) = (0, Vec::new());
        while let Some(line) = splitter.advance(&mut bytes) {
            let bytes = match &line {
                Line::Whole(line) => line.len(),
                Line::Overlong(_) | Line::Partial => 0,
            };
            if self.intake.is_too_much_with(bytes) {
                self.stage(&mut receipts).await?;
            }
            match line {
                Line::Whole([]) => continue,
                Line::Whole(line) => match Event::of(line, &self.config) {
                    Ok(event) => self.event(line, &event),
                    Err(why) => self.dead_letter(&Reason::Malformed(why), &Remains::of(line)),
                },
                Line::Overlong(remains) => self.dead_letter(&Reason::Oversize, &remains),
                Line::Partial => {
                    self.telemetry.incident("partial-line");
                    continue;
                }
            }
            events += 1;
        }
        self.stage(&mut receipts).await?;
        self.unsettled.push_back(Unsettled {
            receipts,
            events,
            _reserved: reserved,
        });
        Ok(())
    }

    async fn stage(&mut self, receipts: &mut Vec<Receipt>) -> Result<(), Gone> {
        let staged = self.intake.stage_all(receipts).await;
        staged.map_err(|_| Gone::LogClosed)
    }

    fn event(&mut self, line: &[u8], event: &Event<'_>) {
        let subject = Subject {
            topic: "",
            device: &self.name,
            payload: line,
        };
        match self.intake.lane_of(&subject) {
            Err(e) => self.dead_letter(&Reason::BadKey(e), &Remains::of(line)),
            Ok(_) if self.intake.is_oversize(event.value.len()) => {
                self.dead_letter(&Reason::Oversize, &Remains::of(line));
            }
            Ok(lane) => {
                if event.time_is_bad {
                    self.telemetry.incident("bad-time");
                }
                self.intake.record(lane, event.time, &[], &event.value, &[]);
                self.telemetry.accepted(1, event.value.len() as u64);
            }
        }
    }

    fn dead_letter(&mut self, reason: &Reason, payload: &Remains) {
        self.telemetry.dropped(reason.label(), 1);
        self.intake.dead_letter(&DeadLetter {
            reason,
            source: &self.name,
            device: &self.name,
            topic: "",
            payload,
        });
    }

    async fn reserve(&mut self, bytes: usize) -> Reserved {
        let ingest = self.ingest.clone();
        let mut reserved = std::pin::pin!(ingest.budget().reserve(bytes, bytes));
        loop {
            tokio::select! {
                reserved = &mut reserved => return reserved,
                () = self.next_settled() => self.settled(),
            }
        }
    }

    fn next_settled(&self) -> impl Future<Output = ()> + Send + 'static {
        let oldest = self.unsettled.front();
        self.intake
            .next_settled(oldest.map(|first| &*first.receipts))
    }

    fn settled(&mut self) {
        while let Some(first) = self.unsettled.front() {
            if !self.intake.are_settled(&first.receipts) {
                break;
            }
            self.telemetry.settled(first.events);
            self.unsettled.pop_front();
        }
    }

    async fn leave(&mut self) -> Gone {
        let rest = async {
            while !self.unsettled.is_empty() {
                self.next_settled().await;
                self.settled();
            }
        };
        drop(tokio::time::timeout(LAST_WORDS, rest).await);
        Gone::Shutdown
    }
}

/// What a line says.
#[derive(Debug, PartialEq)]
pub struct Event<'a> {
    /// The event's value.
    pub value: std::borrow::Cow<'a, [u8]>,
    /// When it happened, if the line says so.
    pub time: Option<Micros>,
    /// A time was asked for and is not there, or is none. The event is kept without one.
    pub time_is_bad: bool,
}

impl<'a> Event<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// What the configuration asks for and the line lacks.
    pub fn of(line: &'a [u8], config: &Lines) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(line).map_err(|_| "not UTF-8")?;
        if config.value.is_none() && config.time.is_none() {
            return Ok(Self {
                value: line.into(),
                time: None,
                time_is_bad: false,
            });
        }
        let json: Value = serde_json::from_str(text).map_err(|_| "not JSON")?;
        let value = match &config.value {
            None => line.into(),
            Some(pointer) => {
                let value = json
                    .pointer(pointer)
                    .ok_or("nothing where the value should be")?;
                value.to_string().into_bytes().into()
            }
        };
        let at = config.time.as_ref().map(|pointer| {
            json.pointer(pointer)
                .and_then(|at| time(at, config.time_unit))
        });
        Ok(Self {
            value,
            time: at.flatten(),
            time_is_bad: at == Some(None),
        })
    }
}

fn time(at: &Value, unit: TimeUnit) -> Option<Micros> {
    if let Some(text) = at.as_str() {
        let time: jiff::Timestamp = text.parse().ok()?;
        return Some(Micros::new(time.as_microsecond()));
    }
    let scale = match unit {
        TimeUnit::Seconds => 1_000_000,
        TimeUnit::Milliseconds => 1000,
        TimeUnit::Microseconds => 1,
    };
    let micros = match at.as_i64() {
        Some(whole) => whole.checked_mul(scale)?,
        None => {
            let micros = (at.as_f64()? * scale as f64).round();
            (micros.abs() < 9e18).then_some(micros as i64)?
        }
    };
    Some(Micros::new(micros))
}

const READ_BYTES: usize = 4096;
/// Bytes that come so soon after the opening may be the middle of a line. After a pause they begin one.
const QUIET: Duration = Duration::from_millis(100);
const LAST_WORDS: Duration = Duration::from_secs(1);
