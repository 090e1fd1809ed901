//! `cargo xtask test`: the release binary that the whole-system tests start, then every test of the workspace.
//!
//! Programs of tests run two at a time, since those of the whole system wait most of their time; the longest begin first. What a program says is shown when
//! it ends.

use std::fs::File;
use std::io::Write;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::binaries::{self, Binary, FEATURE};
use crate::ci::release_binary;
use crate::run::{cargo, expect_success, say, target_folder, watched, with_each};

/// Runs every test; with a `filter` (`-p sedge-core`, a test's name) it goes to cargo as it is.
pub(crate) fn run(filter: &[String]) -> Result<()> {
    let began = Instant::now();
    build_release_binary()?;
    let mut tally = Tally::default();
    let passed = if filter.is_empty() {
        say("tests: build")?;
        let binaries = longest_first(binaries::tests()?);
        say("tests")?;
        let programs = two_at_a_time(&binaries, &mut tally)?;
        say("tests in the documentation")?;
        let mut examples = cargo(&["test", "--workspace", "--locked", "--no-fail-fast", "--doc"]);
        watched(examples.args(FEATURE), |line| tally.read(line))? && programs
    } else {
        say("tests")?;
        let mut command = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
        command.args(FEATURE).args(filter);
        watched(command.env(RELEASE, release_binary()), |line| {
            tally.read(line)
        })?
    };
    tally.report(began)?;
    if !passed || tally.failed > 0 {
        bail!("tests failed");
    }
    if tally.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// The binary that users get.
pub(crate) fn build_release_binary() -> Result<()> {
    let program = ["--package", "sedge", "--bin", "sedge"];
    let release = ["build", "--release", "--locked"];
    expect_success("release binary", cargo(&release).args(program))
}

fn longest_first(mut binaries: Vec<Binary>) -> Vec<Binary> {
    let place = |binary: &Binary| LONGEST.iter().position(|name| *name == binary.target);
    binaries.sort_by_key(|binary| place(binary).unwrap_or(LONGEST.len()));
    binaries
}

/// Whether all of them succeeded.
fn two_at_a_time(binaries: &[Binary], tally: &mut Tally) -> Result<bool> {
    let sum = Mutex::new((tally, true));
    with_each(binaries, 2, |binary| {
        let began = Instant::now();
        let (said, succeeded) = outcome(binary)?;
        let took = began.elapsed().as_secs_f32();
        let mut sum = sum.lock().expect("nobody panics with it");
        say(&format!(
            "{} {}: {took:.1} s",
            binary.package, binary.target
        ))?;
        std::io::stdout().lock().write_all(said.as_bytes())?;
        said.lines().for_each(|line| sum.0.read(line));
        sum.1 &= succeeded;
        Ok(())
    })?;
    Ok(sum.into_inner().expect("nobody panics with it").1)
}

/// What a program of tests said, both streams in their order, and whether it succeeded.
fn outcome(binary: &Binary) -> Result<(String, bool)> {
    let folder = target_folder().join("said");
    std::fs::create_dir_all(&folder)?;
    // A file, and not a pipe: what a test leaves running keeps that open.
    let path = folder.join(binary.file_name());
    let said = File::create(&path)?;
    let status = binary
        .command()
        .env(RELEASE, release_binary())
        .stdout(said.try_clone()?)
        .stderr(said)
        .status()
        .with_context(|| format!("{binary:?}"))?;
    let said = std::fs::read(&path)?;
    Ok((
        String::from_utf8_lossy(&said).into_owned(),
        status.success(),
    ))
}

/// Where the tests find the binary that users get.
const RELEASE: &str = "SEDGE_BIN";
/// What takes longer than ten seconds, the longest first.
const LONGEST: [&str; 16] = [
    "firmware",
    "failing_disks",
    "cuts",
    "networks",
    "power_cuts",
    "simulator",
    "failing_calls",
    "managed",
    "stops",
    "full_disk",
    "page",
    "kills",
    "damage",
    "clocks",
    "bursts",
    "errors",
];

/// The sum over all test binaries, read from their own closing lines.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    /// What was said where something panicked: of a long log often no more is shown than the end.
    panics: Vec<String>,
    /// So many lines behind a panic are still its own.
    lines_left: usize,
}

impl Tally {
    fn read(&mut self, line: &str) {
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.lines_left = PANIC_LINES;
        }
        if line.starts_with("stack backtrace:") {
            self.lines_left = 0;
        }
        if self.lines_left > 0 && self.panics.len() < PANIC_LINES_MAX {
            self.lines_left -= 1;
            self.panics
                .push(line.chars().take(PANIC_CHARS_MAX).collect());
        }
        if !line.starts_with("test result:") {
            return;
        }
        let mut words = line.split_whitespace().peekable();
        while let Some(word) = words.next() {
            let Ok(count) = word.parse::<u64>() else {
                continue;
            };
            match words.peek().map(|next| next.trim_end_matches(';')) {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                _ => {}
            }
        }
    }

    fn report(&self, begun: Instant) -> Result<()> {
        say(&format!("tests took {} s", begun.elapsed().as_secs()))?;
        if self.failed > 0 {
            self.panics.iter().try_for_each(|line| say(line))?;
        }
        writeln!(
            std::io::stdout(),
            "{} passed, {} failed",
            self.passed,
            self.failed
        )?;
        Ok(())
    }
}

/// Lines of a panic that are said again at the end: where, and what.
const PANIC_LINES: usize = 6;
const PANIC_LINES_MAX: usize = 200;
const PANIC_CHARS_MAX: usize = 400;

#[cfg(test)]
mod stories {
    use super::Tally;

    #[test]
    fn the_closing_lines_of_several_binaries_are_summed() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        tally.read("test cuts::all ... ok");
        tally.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        assert_eq!((tally.passed, tally.failed), (15, 2));
    }

    #[test]
    fn what_panicked_is_said_once_more() {
        let mut tally = Tally::default();
        for line in [
            "test a ... ok",
            "thread 'a' (7) panicked at tests/cuts.rs:9:9:",
            "17: not there",
            "stack backtrace:",
            "   0: core",
            "test a ... FAILED",
        ] {
            tally.read(line);
        }
        assert_eq!(
            tally.panics,
            [
                "thread 'a' (7) panicked at tests/cuts.rs:9:9:",
                "17: not there"
            ]
        );
    }
}
