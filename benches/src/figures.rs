//! The figures of one run, as a person and as a program want them.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::load::Outcome;

/// Figures in the order in which they are shown.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<(&'static str, f64, &'static str)>);

impl Figures {
    /// Rate and times to PUBACK.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let mut figures = Self::default();
        figures.add("events", outcome.acked as f64, "");
        figures.add("seconds", outcome.elapsed.as_secs_f64(), "s");
        figures.add("events_per_second", outcome.rate(), "/s");
        figures.add(
            "puback_p50_us",
            micros(outcome.to_puback.value_at_quantile(0.5)),
            "us",
        );
        figures.add(
            "puback_p99_us",
            micros(outcome.to_puback.value_at_quantile(0.99)),
            "us",
        );
        figures.add("puback_max_us", micros(outcome.to_puback.max()), "us");
        figures
    }

    /// Adds one figure; the name carries the unit.
    pub fn add(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.0.push((name, value, unit));
    }

    /// The figure `name`; not a number if there is none.
    #[must_use]
    pub fn value(&self, name: &str) -> f64 {
        self.0
            .iter()
            .find(|(known, ..)| *known == name)
            .map_or(f64::NAN, |(_, value, _)| *value)
    }

    /// One JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        Value::Object(
            self.0
                .iter()
                .map(|(name, value, _)| ((*name).to_owned(), json!(value)))
                .collect::<Map<_, _>>(),
        )
    }

    /// Writes them to standard output, as one JSON object or one figure a line.
    ///
    /// # Errors
    /// If nobody takes them.
    pub fn print(&self, as_json: bool) -> io::Result<()> {
        let shown = if as_json {
            format!("{}\n", self.json())
        } else {
            self.text()
        };
        io::stdout().write_all(shown.as_bytes())
    }

    /// One figure a line.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |(name, value, unit): &(&str, f64, &str)| {
            format!("{name:<28}{:>16} {unit}\n", readable(*value))
        };
        self.0.iter().map(line).collect()
    }
}

/// Fraction `quantile` of `sorted`, which is not empty.
#[must_use]
pub fn quantile(sorted: &[Duration], quantile: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * quantile).round() as usize]
}

fn readable(value: f64) -> String {
    if value.abs() >= 1_000.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.3}")
    }
}
