//! `cargo xtask bench`: builds everything that is measured, runs the comparison, and puts its table into docs/performance.md.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, expect_success, say, workspace_root};

const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- measured by `cargo xtask bench`, not written by hand -->\n";
const END: &str = "<!-- end of what was measured -->";

/// Measures, with `arguments` for `sedge-compare`, and replaces the measured part of the page.
pub(crate) fn compare(arguments: &[String]) -> Result<()> {
    let build = [
        "build",
        "--release",
        "--locked",
        "--package",
        "sedge",
        "--package",
        "sedge-benches",
    ];
    expect_success("release build", &mut cargo(&build))?;
    let release = crate::ci::release_binary();
    let compare = release.with_file_name("sedge-compare");
    say("comparing; the machine should do nothing else meanwhile")?;
    let mut command = Command::new(compare);
    command
        .args(arguments)
        .env("SEDGE_BIN", &release)
        .stderr(Stdio::inherit());
    let output = command.output().context("cannot start sedge-compare")?;
    if !output.status.success() {
        bail!("sedge-compare: {}", output.status);
    }
    let table = String::from_utf8(output.stdout).context("the table is text")?;
    let path = workspace_root().join(PAGE);
    let page = std::fs::read_to_string(&path).context(PAGE)?;
    std::fs::write(&path, replaced(&page, &table)?)?;
    say(&format!("wrote {PAGE}\n{table}"))
}

fn replaced(page: &str, table: &str) -> Result<String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .context("the page has no place for what is measured")?;
    let (_, after) = rest
        .split_once(END)
        .context("the place for what is measured has no end")?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{BEGIN, END, replaced};

    #[test]
    fn only_what_was_measured_is_replaced() {
        let page = format!("above\n{BEGIN}old\n{END}\nbelow\n");
        assert_eq!(
            replaced(&page, "new\n").unwrap(),
            format!("above\n{BEGIN}new\n{END}\nbelow\n")
        );
        assert!(replaced("no place", "new").is_err());
    }
}
