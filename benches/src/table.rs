//! Tables of medians in Markdown, sedge beside its yardsticks.

/// Rows in the order in which they were first seen.
#[derive(Debug)]
pub struct Table {
    yardsticks: &'static [&'static str],
    rows: Vec<Row>,
}

/// A figure for each of those who are measured.
#[derive(Debug)]
struct Row {
    name: &'static str,
    unit: &'static str,
    goal: &'static str,
    values: Vec<(&'static str, Vec<f64>)>,
}

impl Table {
    /// A table of sedge and what it is compared with.
    #[must_use]
    pub const fn beside(yardsticks: &'static [&'static str]) -> Self {
        Self {
            yardsticks,
            rows: Vec::new(),
        }
    }

    /// Adds what was measured of `who` in one round.
    pub fn add(
        &mut self,
        name: &'static str,
        unit: &'static str,
        goal: &'static str,
        who: &'static str,
        value: f64,
    ) {
        let row = match self.rows.iter().position(|row| row.name == name) {
            Some(place) => &mut self.rows[place],
            None => {
                self.rows.push(Row {
                    name,
                    unit,
                    goal,
                    values: Vec::new(),
                });
                self.rows.last_mut().expect("just pushed")
            }
        };
        match row.values.iter_mut().find(|(known, _)| *known == who) {
            Some((_, values)) => values.push(value),
            None => row.values.push((who, vec![value])),
        }
    }

    /// The medians, and how many times its yardsticks sedge is.
    #[must_use]
    pub fn markdown(&self) -> String {
        let ratios = self
            .yardsticks
            .iter()
            .map(|name| format!("{SEDGE} : {name}"));
        let names = self.yardsticks.iter().map(|name| (*name).to_owned());
        let columns = names.chain([SEDGE.to_owned()]).chain(ratios);
        let head: Vec<String> = ["what".to_owned()]
            .into_iter()
            .chain(columns)
            .chain(["goal".to_owned()])
            .collect();
        let mut text = line(&head);
        text.push_str(&format!("|{}\n", "---|".repeat(head.len())));
        for row in &self.rows {
            let others: Vec<_> = self
                .yardsticks
                .iter()
                .map(|who| row.median_of(who))
                .collect();
            let sedge = row.median_of(SEDGE);
            // What is all but nothing is no yardstick.
            let ratio = |other: &Option<f64>| {
                let other = other.filter(|other| *other > 0.05);
                sedge.zip(other).map(|(sedge, other)| sedge / other)
            };
            let figures = others.iter().copied().chain([sedge]);
            let cells = figures.chain(others.iter().map(ratio)).map(shown);
            let cells: Vec<String> = [row.label()]
                .into_iter()
                .chain(cells)
                .chain([row.goal.to_owned()])
                .collect();
            text.push_str(&line(&cells));
        }
        text
    }
}

impl Row {
    fn label(&self) -> String {
        if self.unit.is_empty() {
            self.name.to_owned()
        } else {
            format!("{}, {}", self.name, self.unit)
        }
    }

    fn median_of(&self, who: &str) -> Option<f64> {
        let (_, values) = self.values.iter().find(|(known, _)| *known == who)?;
        median(values.clone())
    }
}

/// The middle one of what was measured.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// One row of a Markdown table.
#[must_use]
pub fn line(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

/// Three digits or more, thousands grouped.
#[must_use]
pub fn shown(value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(value) if !value.is_finite() => "–".into(),
        Some(value) if value >= 1_000.0 => grouped(value.round() as u64),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn grouped(value: u64) -> String {
    if value < 1_000 {
        value.to_string()
    } else {
        format!("{},{:03}", grouped(value / 1_000), value % 1_000)
    }
}

/// The column of what is measured here.
pub const SEDGE: &str = "sedge";

#[cfg(test)]
mod tests {
    use super::{SEDGE, Table};

    #[test]
    fn a_row_has_the_medians_and_how_they_relate() {
        let mut table = Table::beside(&["other"]);
        for value in [1.0, 3_000.0, 2_000.0] {
            table.add("rate", "events/s", "≥ 1", SEDGE, value);
            table.add("rate", "events/s", "≥ 1", "other", 2.0 * value);
        }
        table.add("memory", "", "", SEDGE, 7.0);
        assert_eq!(
            table.markdown(),
            "| what | other | sedge | sedge : other | goal |\n\
             |---|---|---|---|---|\n\
             | rate, events/s | 4,000 | 2,000 | 0.50 | ≥ 1 |\n\
             | memory | – | 7.00 | – |  |\n"
        );
    }
}
