//! The manual pages and shell completions, which an example of `agent` makes of the command line's definition; and whether they can be read.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::{ends, files};
use crate::binaries::{self, FEATURE};
use crate::run::{cargo, expect_success, is_there, say, skip, target_folder};

/// Writes them into `manual` in the target folder, where the package finds them.
pub(crate) fn write() -> Result<()> {
    // Built as the tests are, so that it is built once.
    let mut build = cargo(&["build", "--workspace", "--locked", "--example", EXAMPLE]);
    let built = binaries::build(build.args(FEATURE))?;
    let example = built.iter().find(|binary| binary.target == EXAMPLE);
    let example = example.context("cargo built no manual")?;
    let folder = folder();
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    expect_success("manual", example.command().arg(&folder))?;
    let all = files(&folder)?;
    let pages: Vec<&PathBuf> = all.iter().filter(|file| ends(file, "1")).collect();
    lint(&pages)?;
    say(&format!(
        "{} manual pages in {}",
        pages.len(),
        folder.display()
    ))
}

/// A page says something, and mandoc has nothing to say of it that would show.
fn lint(pages: &[&PathBuf]) -> Result<()> {
    ensure!(!pages.is_empty(), "no page was made");
    if !is_there("mandoc") {
        return skip("a look at the manual", "mandoc");
    }
    let output = Command::new("mandoc")
        .args(["-Tlint", "-Wwarning"])
        .args(pages)
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let strange = said
        .lines()
        .filter(|line| !KNOWN.iter().any(|known| line.contains(known)));
    let strange: Vec<&str> = strange.collect();
    if !strange.is_empty() {
        bail!("mandoc: {}", strange.join("\n"));
    }
    Ok(())
}

fn folder() -> PathBuf {
    target_folder().join("manual")
}

const EXAMPLE: &str = "manual";

/// A version stands where a date might, and `clap_mangen` breaks a line before a paragraph, which no reader sees.
const KNOWN: [&str; 2] = ["cannot parse date", "skipping paragraph macro"];
