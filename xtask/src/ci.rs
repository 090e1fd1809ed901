//! The steps of `cargo xtask ci`, cheapest first, tests last so that their closing lines end the output.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::firmware;
use crate::fuzz;
use crate::header;
use crate::planted;
use crate::run::{cargo, expect_success, say, target_folder, watched, workspace_root};
use crate::tidy;

/// Format, tidy, the header for C, clippy, docs, firmware, fuzz targets, planted faults, the simulator, tests. The tests of the core run with the features that the package of the simulated media switches on.
pub(crate) fn everything() -> Result<()> {
    expect_success("format", &mut cargo(&["fmt", "--all", "--check"]))?;
    tidy::check(&workspace_root())?;
    header::check()?;
    expect_success(
        "clippy",
        &mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    // Whoever uses the core switches its features on; no crate of ours does with all of them.
    expect_success(
        "clippy of the core with every feature",
        &mut cargo(&[
            "clippy",
            "--package",
            "sedge-core",
            "--all-features",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    expect_success(
        "docs of the core with every feature",
        cargo(&[
            "doc",
            "--package",
            "sedge-core",
            "--all-features",
            "--no-deps",
            "--locked",
        ])
        .env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    expect_success(
        "docs",
        cargo(&["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    firmware::build_and_run(&[])?;
    schedules()?;
    fuzz::run(&[])?;
    planted::find(&[])?;
    simulate()?;
    power_cuts()?;
    test(&[])
}

/// A million power cuts and kills, at other seeds each day; the test tells which.
fn power_cuts() -> Result<()> {
    let arguments = ["test", "--workspace", "--locked", "--test", "scripts"];
    expect_success(
        "power cuts",
        cargo(&arguments)
            .args(planted::FEATURE)
            .env("SEDGE_CUTS", CUTS_ON_EACH_MEDIUM),
    )
}

/// The whole system from some hundred seeds. `SEDGE_SEED` and `SEDGE_SEEDS` choose.
fn simulate() -> Result<()> {
    let package = ["--package", "sedge-tests", "--bin", "simulate"];
    let build = [&["build", "--release", "--locked"], &package[..]].concat();
    // It is the one in which faults can be planted; none is.
    expect_success("simulator", cargo(&build).args(planted::FEATURE))?;
    let first = number("SEDGE_SEED")?.unwrap_or(SEED_FIRST);
    let seeds = number("SEDGE_SEEDS")?.unwrap_or(SEEDS);
    let jobs = std::thread::available_parallelism()?;
    let mut command = Command::new(released("simulate"));
    command.arg("--brief");
    for (name, value) in [
        ("--seed", first),
        ("--seeds", seeds),
        ("--jobs", jobs.get() as u64),
    ] {
        command.args([name, &value.to_string()]);
    }
    expect_success(
        &format!("simulated systems: {seeds} seeds from {first}"),
        &mut command,
    )
}

/// A number in the environment.
fn number(name: &str) -> Result<Option<u64>> {
    let text = std::env::var(name).ok();
    Ok(text.map(|text| text.parse()).transpose()?)
}

/// The writer's queue with locks and threads whose schedules a seed chooses; they work nowhere else, so they are built apart.
fn schedules() -> Result<()> {
    let arguments = [
        "test",
        "--locked",
        "--package",
        "sedge-store",
        "--features",
        "shuttle",
        "--lib",
        "queue::schedules",
    ];
    expect_success("schedules", &mut cargo(&arguments))
}

/// Builds the release binary that the whole-system tests start, then runs every test of the workspace.
/// `filter` goes to cargo as it is (`-p sedge-core`, a test's name).
pub(crate) fn test(filter: &[String]) -> Result<()> {
    let begun = Instant::now();
    expect_success(
        "release binary",
        &mut cargo(&[
            "build",
            "--release",
            "--locked",
            "--package",
            "sedge",
            "--bin",
            "sedge",
        ]),
    )?;
    say("tests")?;
    let mut tally = Tally::default();
    // With the feature, faults can be planted in what is built here; none is.
    let mut command = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    command.args(planted::FEATURE);
    command.args(filter).env("SEDGE_BIN", release_binary());
    let passed = watched(&mut command, |line| tally.read(line))?;
    tally.report(begun)?;
    if !passed || tally.failed > 0 {
        bail!("tests failed");
    }
    if tally.passed == 0 {
        bail!("no test ran");
    }
    Ok(())
}

/// The binary that users get.
pub(crate) fn release_binary() -> PathBuf {
    released("sedge")
}

fn released(name: &str) -> PathBuf {
    target_folder().join("release").join(name)
}

/// On flash and in files.
const CUTS_ON_EACH_MEDIUM: &str = "500000";

/// The sum over all test binaries, read from their own closing lines.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    fn read(&mut self, line: &str) {
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
        writeln!(
            std::io::stdout(),
            "{} passed, {} failed",
            self.passed,
            self.failed
        )?;
        Ok(())
    }
}

/// Simulated systems in one run. They are the same each time as long as one in two hundred of the others shows what stands under "Open findings" in
/// docs/reliability.md.
const SEEDS: u64 = 300;
const SEED_FIRST: u64 = 100;

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn the_closing_lines_of_several_binaries_are_summed() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        tally.read("test cuts::all ... ok");
        tally.read("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        assert_eq!((tally.passed, tally.failed), (15, 2));
    }
}
