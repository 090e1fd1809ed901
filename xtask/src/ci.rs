//! The steps of `cargo xtask ci`, cheapest first, tests last so that their closing lines end the output.

use std::path::PathBuf;
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};

use crate::arm64;
use crate::binaries::{self, FEATURE};
use crate::disk::Watch;
use crate::firmware;
use crate::fuzz;
use crate::header;
use crate::package;
use crate::planted;
use crate::run::{cargo, expect_success, say, target_folder, with_each, workspace_root};
use crate::tests;
use crate::tidy;

/// Format, tidy, the header for C, clippy, docs, firmware, fuzz targets, planted faults, the simulator, tests. The tests of the core run with the features that the package of the simulated media switches on.
///
/// With `--once`, for a machine with a small disk that builds this tree once, what no later step needs is removed as soon as it has been used.
pub(crate) fn everything(arguments: &[String]) -> Result<()> {
    let once = match arguments {
        [] => false,
        [flag] if flag == "--once" => true,
        _ => bail!("usage: cargo xtask ci [--once]"),
    };
    let _watch = Watch::begin();
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
    // As the smallest program is built. What is left out leaves nothing unused.
    let gateway = ["--package", "sedge", "--no-default-features", "--locked"];
    let strict = ["--", "-D", "warnings"];
    expect_success(
        "clippy on a gateway alone",
        cargo(&["clippy"]).args(gateway).args(strict),
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
    // They build in folders of their own, and for long stretches each keeps one processor busy.
    let side_by_side: [Step; 4] = [
        &|| firmware::build_and_run(&[]),
        &schedules,
        &one_of_three,
        &|| build_simulator().and_then(|()| tests::build_release_binary()),
    ];
    with_each(&side_by_side, side_by_side.len(), |step| step())?;
    if once {
        remove_used()?;
    }
    planted::find(&[])?;
    simulate()?;
    power_cuts()?;
    package::of_what_is_built()?;
    tests::run(&[])
}

/// What only the steps before the tests look at. The images of the firmware are for tests as well.
fn remove_used() -> Result<()> {
    for name in ["arm64", "doc", "fuzz"] {
        let folder = target_folder().join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("removing {folder:?}"))?;
        }
    }
    Ok(())
}

type Step<'a> = &'a (dyn Fn() -> Result<()> + Sync);

/// Each builds much once more, in its own way, and all of them do not fit into the time: on one day the fuzz targets under libFuzzer, on the next the demo on
/// arm64, on the third the example for embassy. What stands in the fuzz targets also runs among the tests, each time.
fn one_of_three() -> Result<()> {
    let (today, work): (&str, Step<'_>) = match Turn::today()? {
        Turn::Fuzz => ("fuzz", &|| fuzz::run(&[])),
        Turn::Arm64 => ("arm64", &arm64::build_and_run),
        Turn::Embassy => ("firmware (embassy)", &firmware::build_embassy),
    };
    say(&format!(
        "of fuzz, arm64 and embassy, today: {today}; the others by hand with `cargo xtask`"
    ))?;
    work()
}

/// What its day comes for, every third one.
#[derive(PartialEq, Eq)]
enum Turn {
    Fuzz,
    Arm64,
    Embassy,
}

impl Turn {
    fn today() -> Result<Self> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let days_since_1970 = now.as_secs() / 86_400;
        Ok(match days_since_1970 % 3 {
            0 => Self::Fuzz,
            1 => Self::Arm64,
            _ => Self::Embassy,
        })
    }
}

/// A million power cuts and kills, at other seeds each day; the test tells which.
fn power_cuts() -> Result<()> {
    let binaries = binaries::tests()?;
    let mut named = binaries.iter().filter(|it| it.target == "scripts");
    let scripts = named.next().context("no test is called scripts")?;
    let mut command = scripts.command();
    expect_success("power cuts", command.env("SEDGE_CUTS", CUTS_ON_EACH_MEDIUM))
}

/// It is the one in which faults can be planted; none is.
fn build_simulator() -> Result<()> {
    let package = ["--package", "sedge-tests", "--bin", "simulate"];
    let build = [&["build", "--release", "--locked"], &package[..]].concat();
    expect_success("simulator", cargo(&build).args(FEATURE))
}

/// The whole system from a thousand seeds, and from some hundred on the longest of three days. `SEDGE_SEED` and `SEDGE_SEEDS` choose.
fn simulate() -> Result<()> {
    build_simulator()?;
    let first = number("SEDGE_SEED")?.unwrap_or(SEED_FIRST);
    let (seeds, exchanges) = match (number("SEDGE_SEEDS")?, Turn::today()?) {
        (Some(seeds), _) => (seeds, seeds),
        (None, Turn::Fuzz) => SEEDS_OF_A_LONG_DAY,
        (None, _) => SEEDS,
    };
    systems(first, seeds, &[])?;
    systems(first, exchanges, &["--exchanges"])
}

fn systems(first: u64, seeds: u64, kind: &[&str]) -> Result<()> {
    let jobs = std::thread::available_parallelism()?;
    let mut command = Command::new(released("simulate"));
    command.arg("--brief").args(kind);
    for (name, value) in [
        ("--seed", first),
        ("--seeds", seeds),
        ("--jobs", jobs.get() as u64),
    ] {
        command.args([name, &value.to_string()]);
    }
    let kind = kind.concat();
    let what = format!("simulated systems: {seeds} seeds from {first} {kind}");
    expect_success(what.trim_end(), &mut command)
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

/// The binary that users get.
pub(crate) fn release_binary() -> PathBuf {
    released("sedge")
}

fn released(name: &str) -> PathBuf {
    target_folder().join("release").join(name)
}

/// On flash and in files.
const CUTS_ON_EACH_MEDIUM: &str = "500000";

/// Simulated systems in one run, and those with exchanged disks. They are the same each time: what one in some thousand of the others may show is for runs by
/// hand, so that a change that has nothing to do with it can land.
const SEEDS: (u64, u64) = (750, 250);
const SEEDS_OF_A_LONG_DAY: (u64, u64) = (120, 40);
const SEED_FIRST: u64 = 100;
