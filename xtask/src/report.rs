//! `cargo xtask firmware-report`: what the core costs a microcontroller, each bound beside what was seen and what others do, into docs/firmware.md.
//!
//! Half of the rows are measured on simulated flash (`sedge-flash-report`, in `benches`), half on what firmware links (`firmware/weigh.rs`).

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bench::{table, write_into};
use crate::firmware::weigh;
use crate::run::{cargo, expect_success, say};

/// Measures, and replaces the measured part of the page. `arguments` are those of `sedge-flash-report`; `--weigh` alone only shows what
/// firmware links.
pub(crate) fn write(arguments: &[String]) -> Result<()> {
    if arguments == ["--weigh"] {
        return say(&page(&weighed()?));
    }
    let build = [
        "build",
        "--release",
        "--locked",
        "--package",
        "sedge-benches",
        "--bin",
        PROGRAM,
    ];
    expect_success("release build", &mut cargo(&build))?;
    say("measuring on simulated flash")?;
    let release = crate::ci::release_binary();
    let mut command = Command::new(release.with_file_name(PROGRAM));
    let measured = table(PROGRAM, command.args(arguments))?;
    let mut rows = measured.lines().map(row).collect::<Result<Vec<_>>>()?;
    rows.extend(weighed()?);
    write_into(PAGE, BEGIN, &page(&rows))
}

fn weighed() -> Result<Vec<String>> {
    let rows = weigh::rows()?.into_iter().map(|row| {
        let verdict = verdict(row.met);
        [row.what, row.must, &row.seen, row.anchor, verdict].join(" | ")
    });
    Ok(rows.collect())
}

fn row(line: &str) -> Result<String> {
    let row: Value = serde_json::from_str(line).with_context(|| format!("no row: {line}"))?;
    let cell = |name: &str| {
        let text = row[name].as_str();
        text.with_context(|| format!("a row without {name}: {line}"))
    };
    let met = row["met"].as_bool().unwrap_or(false);
    let cells = [
        cell("what")?,
        cell("must")?,
        cell("seen")?,
        cell("anchor")?,
        verdict(met),
    ];
    Ok(cells.join(" | "))
}

fn verdict(met: bool) -> &'static str {
    if met { "yes" } else { "**no**" }
}

fn page(rows: &[String]) -> String {
    let mut table = "| what | must | seen | others | within |\n|---|---|---|---|---|\n".to_owned();
    for row in rows {
        table.push_str(&format!("| {row} |\n"));
    }
    table
}

const PAGE: &str = "docs/firmware.md";
const PROGRAM: &str = "sedge-flash-report";
const BEGIN: &str = "<!-- measured by `cargo xtask firmware-report`, not written by hand -->\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_both_halves_stand_in_one_table() {
        let line = r#"{"what":"a","must":"0","seen":"1","anchor":"2","met":false}"#;
        let rows = [row(line).unwrap()];
        assert!(page(&rows).ends_with("| a | 0 | 1 | 2 | **no** |\n"));
        assert!(row(r#"{"what":"a"}"#).is_err());
    }
}
