//! What the demo shows while it runs: one live line on a terminal, a line a second elsewhere.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use crate::cli::{count, span};

/// Standard output.
pub(super) struct Show {
    terminal: bool,
    /// A live line stands there and is to be replaced.
    standing: bool,
    last_plain: Option<Duration>,
}

/// The world at one moment.
pub(super) struct Moment {
    pub(super) at: Duration,
    pub(super) sent: u64,
    pub(super) acked: u64,
    pub(super) pulled: u64,
    /// None while the agent does not answer.
    pub(super) lag: Option<u64>,
    pub(super) oldest: Option<f64>,
    pub(super) cut: bool,
}

impl Show {
    pub(super) fn new() -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
            standing: false,
            last_plain: None,
        }
    }

    /// Replaces the live line.
    pub(super) fn live(&mut self, moment: &Moment) {
        let line = line(moment);
        if self.terminal {
            put(&format!("\r{line:<COLUMNS$}"));
            self.standing = true;
        } else if self
            .last_plain
            .is_none_or(|last| moment.at >= last + PLAIN_EVERY)
        {
            put(&format!("{line}\n"));
            self.last_plain = Some(moment.at);
        }
    }

    /// Tells what happens.
    pub(super) fn event(&mut self, at: Duration, what: &str) {
        self.end();
        put(&format!("{:>5.1}s  {what}\n", at.as_secs_f64()));
    }

    pub(super) fn say(&mut self, text: &str) {
        self.end();
        put(&format!("{text}\n"));
    }

    /// Leaves the live line as it is.
    pub(super) fn end(&mut self) {
        if std::mem::take(&mut self.standing) {
            put("\n");
        }
    }
}

fn line(moment: &Moment) -> String {
    let lag = match moment.lag {
        Some(lag) => format!("lag {:<6} {}", count(lag), bar(lag)),
        None => format!("{:<21}", "agent does not answer"),
    };
    let oldest = moment
        .oldest
        .filter(|_| moment.lag.is_some_and(|lag| lag > 0))
        .map_or(String::new(), span);
    format!(
        "{:>5.1}s  sent {:<6} acked {:<6} {lag} {oldest:<5} pulled {:<6}{}",
        moment.at.as_secs_f64(),
        count(moment.sent),
        count(moment.acked),
        count(moment.pulled),
        if moment.cut { " CUT" } else { "" },
    )
}

/// Ten cells, each for a hundred events.
fn bar(lag: u64) -> String {
    let full = usize::try_from(lag.div_ceil(100))
        .unwrap_or(CELLS)
        .min(CELLS);
    format!("{}{}", "█".repeat(full), "·".repeat(CELLS - full))
}

/// If nobody looks, the demo goes on: it ends with an exit code.
fn put(text: &str) {
    let mut out = io::stdout().lock();
    drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

const COLUMNS: usize = 79;
const CELLS: usize = 10;
const PLAIN_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_fits_a_terminal() {
        let moment = Moment {
            at: Duration::from_secs(999),
            sent: 999_999,
            acked: 999_999,
            pulled: 999_999,
            lag: Some(999_999),
            oldest: Some(59.0),
            cut: true,
        };
        let line = line(&moment);
        assert!(
            line.chars().count() <= COLUMNS,
            "{} {line}",
            line.chars().count()
        );
    }
}
