//! Log lines: logfmt on standard error, and repeated ones summed up.
//!
//! ```text
//! ts=2026-11-21T02:00:00.123Z level=info area=sedge::gateway msg="ready" gateway=gw-7
//! ts=2026-11-21T02:00:10.004Z level=warn area=sedge::source msg="connection refused" source=plant repeated=17 within=10s
//! ```
//! A line that says the same as three in the last ten seconds is only counted; what was counted is told when they are over.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::Write as _;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging; `SEDGE_LOG` sets another level than this, such as `debug` or `warn,sedge_uplink=trace`.
pub(super) fn start(level: Level) {
    let asked = std::env::var("SEDGE_LOG").unwrap_or_default();
    let understood = levels(&asked, level);
    let filter = understood.clone().unwrap_or_else(|| levels_of(level));
    // A second start (a test in one process) keeps the first.
    drop(registry().with(filter).with(Lines).try_init());
    if understood.is_none() {
        let accepted =
            "off, error, warn, info, debug, trace, or for a part: warn,sedge_uplink=debug";
        tracing::error!(%asked, %accepted, used = %level, "SEDGE_LOG is not understood");
    }
    // Without this thread, repeats are told at the end.
    drop(
        std::thread::Builder::new()
            .name("log-repeats".to_owned())
            .spawn(tell_repeats),
    );
}

/// What `asked` says, and `level` of whatever it does not name; `None` if it cannot be understood.
fn levels(asked: &str, level: Level) -> Option<Targets> {
    let parts = asked.split(',').map(str::trim);
    let mut targets = levels_of(level);
    for part in parts.filter(|part| !part.is_empty()) {
        targets = match part.split_once('=') {
            None => targets.with_default(part.parse::<LevelFilter>().ok()?),
            Some((target, _)) if target.is_empty() || target.contains(' ') => return None,
            Some((target, level)) => {
                targets.with_target(target, level.parse::<LevelFilter>().ok()?)
            }
        };
    }
    Some(targets)
}

fn levels_of(level: Level) -> Targets {
    Targets::new().with_default(level)
}

/// Tells what was counted and not told.
pub(super) fn flush() {
    recent().tell(|_| true);
}

struct Lines;

/// What was written in the last ten seconds, by everything but its time.
#[derive(Default)]
struct Recent {
    lines: HashMap<String, Seen>,
}

struct Seen {
    first: Instant,
    times: u64,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = metadata.level().as_str().to_ascii_lowercase();
        let line = format!(
            "level={level} area={} msg={}{}",
            metadata.target(),
            fields.message,
            fields.others
        );
        if recent().is_new(&line) {
            write(&line);
        }
    }
}

impl Recent {
    fn is_new(&mut self, line: &str) -> bool {
        if let Some(seen) = self.lines.get_mut(line) {
            seen.times += 1;
            return seen.times <= TIMES_MAX;
        }
        if self.lines.len() < LINES_MAX {
            self.lines.insert(
                line.to_owned(),
                Seen {
                    first: Instant::now(),
                    times: 1,
                },
            );
        }
        true
    }

    /// Forgets the lines that are `over`, and tells of those that were repeated.
    fn tell(&mut self, over: impl Fn(&Seen) -> bool) {
        self.lines.retain(|line, seen| {
            let over = over(seen);
            if over && seen.times > TIMES_MAX {
                let within = seen.first.elapsed().as_secs().max(1);
                let repeated = seen.times - TIMES_MAX;
                write(&format!("{line} repeated={repeated} within={within}s"));
            }
            !over
        });
    }
}

fn recent() -> MutexGuard<'static, Recent> {
    static RECENT: OnceLock<Mutex<Recent>> = OnceLock::new();
    RECENT
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn tell_repeats() {
    loop {
        std::thread::sleep(WINDOW / 10);
        recent().tell(|seen| seen.first.elapsed() >= WINDOW);
    }
}

fn write(line: &str) {
    let time = jiff::Timestamp::now();
    let line = format!("ts={time:.3} {line}");
    // If nobody reads the log, the work goes on.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
    keep(&mut last(), line);
}

/// The last lines that were written, the newest last: for who looks at the program from outside.
pub(crate) fn last_lines() -> Vec<String> {
    last().iter().cloned().collect()
}

fn keep(last: &mut VecDeque<String>, line: String) {
    last.push_back(line.chars().take(LAST_CHARACTERS).collect());
    if last.len() > LAST_MAX {
        last.pop_front();
    }
}

fn last() -> MutexGuard<'static, VecDeque<String>> {
    static LAST: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
    LAST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The fields of one event as logfmt.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = format!("{text:?}"),
            name => self.others.push_str(&format!(" {name}={}", quoted(&text))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.others.push_str(&format!(" {name}={}", quoted(value))),
        }
    }
}

/// As it is when it is one word, else in quotes.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\'));
    if plain {
        text.to_owned()
    } else {
        format!("{text:?}")
    }
}

/// So often a line is written in ten seconds: a state that comes and goes is seen doing so, a flood is not.
const TIMES_MAX: u64 = 3;

/// So many of the last lines are kept, and no more of each than a wide screen shows: 50 KB.
const LAST_MAX: usize = 100;
const LAST_CHARACTERS: usize = 500;

const WINDOW: Duration = Duration::from_secs(10);

/// Different lines that are remembered; more than this in ten seconds are written without being remembered.
const LINES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_for_all_or_for_a_part() {
        let shows = |asked: &str, part: &str, level: Level| {
            let targets = levels(asked, Level::INFO).expect("it is understood");
            targets.would_enable(part, &level)
        };
        assert!(shows("", "sedge::gateway", Level::INFO));
        assert!(!shows("", "sedge::gateway", Level::DEBUG));
        assert!(shows("debug", "sedge::gateway", Level::DEBUG));
        assert!(shows(
            "warn,sedge_uplink=trace",
            "sedge_uplink::hub",
            Level::TRACE
        ));
        assert!(!shows(
            "warn,sedge_uplink=trace",
            "sedge::gateway",
            Level::INFO
        ));
        // What is not named stays as it was.
        assert!(shows("sedge_uplink=trace", "sedge::gateway", Level::INFO));
        assert!(!shows("off", "sedge::gateway", Level::ERROR));
        assert!(shows(
            "warn, sedge_uplink=trace,",
            "sedge_uplink::hub",
            Level::TRACE
        ));
        assert!(!shows(
            "warn, sedge_uplink=trace,",
            "sedge::gateway",
            Level::INFO
        ));
        for wrong in ["sedge_uplink=loud", "debgu", "=debug", "warn sedge=debug"] {
            assert_eq!(levels(wrong, Level::INFO), None, "{wrong}");
        }
    }

    #[test]
    fn a_repeated_line_is_counted_and_not_written() {
        let mut recent = Recent::default();
        let written = (0..10).filter(|_| recent.is_new("a")).count();
        assert_eq!((written as u64, recent.lines["a"].times), (TIMES_MAX, 10));
        assert!(recent.is_new("b"));
        recent.tell(|_| true);
        assert!(recent.is_new("a"));
    }

    #[test]
    fn the_last_lines_are_kept_and_no_more_than_is_shown_of_each() {
        let mut last = VecDeque::new();
        for number in 0..1000 {
            keep(&mut last, format!("{number:04} {}", "x".repeat(10_000)));
        }
        assert_eq!(last.len(), LAST_MAX);
        assert!(last[0].starts_with("0900 "), "{}", &last[0][..8]);
        assert!(last.iter().all(|line| line.len() == LAST_CHARACTERS));
    }

    #[test]
    fn only_what_is_not_one_word_is_quoted() {
        assert_eq!(quoted("gw-7"), "gw-7");
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted("two words"), "\"two words\"");
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
    }
}
