//! `cargo xtask firmware-report`: measures what the log costs a microcontroller and prints the table; with `--write`, puts it into docs/firmware.md.
//!
//! The table is put together from sections, each of which measures something and gives its rows.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::firmware::weigh;
use crate::run::{cargo, expect_success, say, workspace_root};

const PAGE: &str = "docs/firmware.md";
const BEGIN: &str =
    "<!-- measured by `cargo xtask firmware-report --write`, not written by hand -->\n";
const END: &str = "<!-- end of what was measured -->";

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    /// The bound.
    pub(crate) must: String,
    pub(crate) seen: String,
    /// What the best other one does.
    pub(crate) anchor: String,
    /// Whether what was seen is within the bound.
    pub(crate) met: bool,
}

/// Something that is measured. The arguments are those of the command but `--write`.
type Section = fn(&[String]) -> Result<Vec<Row>>;

/// In the order of the table.
const SECTIONS: &[Section] = &[on_simulated_flash, weighed];

/// Measures every section. A bound that is missed is shown, and is no error: the table says what is.
pub(crate) fn report(arguments: &[String]) -> Result<()> {
    let is_write = |argument: &String| argument == "--write";
    let write = arguments.iter().any(is_write);
    let arguments: Vec<String> = arguments
        .iter()
        .filter(|argument| !is_write(argument))
        .cloned()
        .collect();
    let mut rows = Vec::new();
    for section in SECTIONS {
        rows.extend(section(&arguments)?);
    }
    let table = table(&rows);
    if write {
        let path = workspace_root().join(PAGE);
        let page = std::fs::read_to_string(&path).context(PAGE)?;
        std::fs::write(&path, crate::bench::replaced(&page, BEGIN, &table, END)?)?;
    }
    say(&format!("measured\n{table}"))
}

/// What the log does on simulated flash and on a simulated line, beside the queue of `sequential-storage`.
fn on_simulated_flash(arguments: &[String]) -> Result<Vec<Row>> {
    if is_only_weighed(arguments) {
        return Ok(Vec::new());
    }
    let build = [
        "build",
        "--release",
        "--locked",
        "--package",
        "sedge-benches",
        "--bin",
        "sedge-flash-report",
    ];
    expect_success("release build", &mut cargo(&build))?;
    say("random scripts, then counted operations; some minutes")?;
    let program = crate::ci::release_binary().with_file_name("sedge-flash-report");
    let output = Command::new(&program)
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("sedge-flash-report: {}", output.status);
    }
    let lines = String::from_utf8(output.stdout).context("rows are text")?;
    lines.lines().map(row).collect()
}

/// What firmware links, and how deep its stack goes.
fn weighed(arguments: &[String]) -> Result<Vec<Row>> {
    if arguments.iter().any(|argument| argument == "--only") && !is_only_weighed(arguments) {
        return Ok(Vec::new());
    }
    weigh::rows()
}

fn is_only_weighed(arguments: &[String]) -> bool {
    arguments == ["--only", "weighed"]
}

fn row(line: &str) -> Result<Row> {
    let value: Value = serde_json::from_str(line).context("a row is JSON")?;
    let text = |name: &str| {
        value[name]
            .as_str()
            .map(str::to_owned)
            .context("a row has text")
    };
    Ok(Row {
        what: text("what")?,
        must: text("must")?,
        seen: text("seen")?,
        anchor: text("anchor")?,
        met: value["met"].as_bool().context("a row is met or not")?,
    })
}

fn table(rows: &[Row]) -> String {
    let mut table = "| what | asked | seen | | others |\n|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let verdict = if row.met { "" } else { "**missed**" };
        let Row {
            what,
            must,
            seen,
            anchor,
            ..
        } = row;
        table.push_str(&format!(
            "| {what} | {must} | {seen} | {verdict} | {anchor} |\n"
        ));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{row, table};

    #[test]
    fn a_bound_that_is_missed_is_shown() {
        let line = r#"{"what":"reads","must":"0","seen":"2","anchor":"9","met":false}"#;
        let rows = [row(line).unwrap()];
        assert!(table(&rows).ends_with("| reads | 0 | 2 | **missed** | 9 |\n"));
        assert!(row("{}").is_err());
    }
}
