//! `cargo xtask bench`: builds everything that is measured, runs the comparison or the parts, and puts its table into docs/performance.md.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, expect_success, say, workspace_root};

const PAGE: &str = "docs/performance.md";
const COMPARISON: &str = "<!-- measured by `cargo xtask bench`, not written by hand -->\n";
const PARTS: &str = "<!-- measured by `cargo xtask bench --criterion`, not written by hand -->\n";
const END: &str = "<!-- end of what was measured -->";

/// Measures, and replaces the measured part of the page. After `--criterion`, `arguments` are criterion's; else they are `sedge-compare`'s.
pub(crate) fn measure(arguments: &[String]) -> Result<()> {
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
    match arguments.split_first() {
        Some((first, arguments)) if first == "--criterion" => parts(arguments),
        _ => compare(arguments),
    }
}

/// sedge beside its yardsticks.
fn compare(arguments: &[String]) -> Result<()> {
    say("comparing; the machine should do nothing else meanwhile")?;
    let release = crate::ci::release_binary();
    let mut command = Command::new(release.with_file_name("sedge-compare"));
    command.args(arguments).env("SEDGE_BIN", &release);
    write(COMPARISON, &table("sedge-compare", &mut command)?)
}

/// The criterion benches. What earlier runs have left is removed first: a bench that is gone has no figure.
fn parts(arguments: &[String]) -> Result<()> {
    let release = crate::ci::release_binary();
    let figures = release.with_file_name("criterion");
    if figures.exists() {
        std::fs::remove_dir_all(&figures)?;
    }
    let benches = ["codec", "log", "forward"].map(|name| ["--bench", name]);
    let mut command = cargo(&["bench", "--locked", "--package", "sedge-benches"]);
    command
        .args(benches.as_flattened())
        .arg("--")
        .args(arguments)
        .env("CRITERION_HOME", &figures);
    expect_success(
        "the parts; the machine should do nothing else meanwhile",
        &mut command,
    )?;
    let mut command = Command::new(release.with_file_name("sedge-medians"));
    write(PARTS, &table("sedge-medians", command.arg(&figures))?)
}

/// What `command` prints.
fn table(name: &str, command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", output.status);
    }
    String::from_utf8(output.stdout).context("the table is text")
}

/// Puts `table` into the page, behind the line `begin`.
fn write(begin: &str, table: &str) -> Result<()> {
    let path = workspace_root().join(PAGE);
    let page = std::fs::read_to_string(&path).context(PAGE)?;
    std::fs::write(&path, replaced(&page, begin, table, END)?)?;
    say(&format!("wrote {PAGE}\n{table}"))
}

/// The page with `table` between the lines `begin` and `end`.
pub(crate) fn replaced(page: &str, begin: &str, table: &str, end: &str) -> Result<String> {
    let (before, rest) = page
        .split_once(begin)
        .context("the page has no place for what is measured")?;
    let (_, after) = rest
        .split_once(end)
        .context("the place for what is measured has no end")?;
    Ok(format!("{before}{begin}{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::{COMPARISON, END, PARTS, replaced};

    #[test]
    fn only_what_was_measured_is_replaced() {
        let page = format!("above\n{COMPARISON}old\n{END}\nbetween\n{PARTS}old\n{END}\nbelow\n");
        let page = replaced(&page, COMPARISON, "new\n", END).unwrap();
        assert_eq!(
            replaced(&page, PARTS, "newer\n", END).unwrap(),
            format!("above\n{COMPARISON}new\n{END}\nbetween\n{PARTS}newer\n{END}\nbelow\n")
        );
        assert!(replaced("no place", PARTS, "new", END).is_err());
    }
}
