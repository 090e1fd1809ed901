//! One row of the report: what is asked, what was seen, and what the other contender does.

use std::io::Write as _;

use anyhow::Result;

/// A row. Whoever prints the table puts the rows of several programs into one.
#[derive(Debug)]
pub(crate) struct Row {
    /// What is measured.
    pub(crate) what: String,
    /// The bound.
    pub(crate) must: String,
    /// What the log does.
    pub(crate) seen: String,
    /// What `sequential-storage`'s queue does with the same script on the same flash.
    pub(crate) anchor: String,
    /// Whether what was seen is within the bound.
    pub(crate) met: bool,
}

impl Row {
    /// One line of JSON on standard output.
    pub(crate) fn print(&self) -> Result<()> {
        let line = serde_json::json!({
            "what": self.what,
            "must": self.must,
            "seen": self.seen,
            "anchor": self.anchor,
            "met": self.met,
        });
        writeln!(std::io::stdout(), "{line}")?;
        Ok(())
    }
}

/// `part` of `whole`, with as many digits as matter.
pub(crate) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// A number with separators between thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
