//! `cargo xtask planted`: each fault of `core-nostd/src/planted.rs` must be found by the test that is named here ([decision 0017](../../docs/decisions/0017-planted-faults.md)).
//!
//! Everything is built once, with the feature `planted`; which fault a process has is an environment variable. A fault is found if its test fails with it and
//! passes without it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::binaries::{self, Binary, FEATURE};
use crate::run::{cargo, say, with_each, workspace_root};

/// A test that finds faults: a test binary of a package and a filter of its tests, or seeds of the simulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Finder {
    Test {
        package: &'static str,
        target: &'static str,
        filter: &'static str,
    },
    /// So many seeds from [`SEED_FIRST`] on.
    Seeds(u32),
}

const fn test(package: &'static str, target: &'static str, filter: &'static str) -> Finder {
    Finder::Test {
        package,
        target,
        filter,
    }
}

/// Which test finds which fault, in the lowest layer that can.
const TABLE: &[(&str, Finder)] = &[
    ("ack-before-sync", test("sedge-tests", "lives", "file_log")),
    ("ack-before-commit", test("sedge-store", "partition", "")),
    ("burn-nothing", test("sedge-tests", "lives", "file_log")),
    ("burn-one-offset", test("sedge-tests", "lives", "file_log")),
    (
        "burn-by-commit-only",
        test(
            "sedge-core",
            "recovery",
            "frames_behind_one_that_does_not_say",
        ),
    ),
    ("mirror-burns", test("sedge-tests", "lives", "mirror")),
    (
        "append-after-torn-tail",
        test("sedge-tests", "lives", "flash_log_outlives_any_cuts"),
    ),
    ("trust-page-cache", test("sedge-tests", "lives", "file_log")),
    (
        "trust-after-failed-sync",
        test("sedge-tests", "damage", "sync"),
    ),
    ("retry-failed-sync", Finder::Seeds(150)),
    ("rot-is-the-end", test("sedge-core", "recovery", "")),
    ("pass-over-lost-head", test("sedge-core", "recovery", "")),
    (
        "recycle-before-ledger",
        test("sedge-tests", "lives", "flash_log_outlives_any_cuts"),
    ),
    ("unlink-before-ledger", test("sedge-store", "capacity", "")),
    (
        "skip-erase",
        test("sedge-tests", "lives", "flash_log_outlives_any_cuts"),
    ),
    ("refusing-log-evicts", test("sedge-core", "recycle", "")),
    ("forget-loss", test("sedge-core", "recycle", "")),
    ("prepare-live-segment", test("sedge-store", "partition", "")),
    (
        "ledger-rides-with-burn",
        test("sedge-store", "sedge_store", "writer::"),
    ),
    ("skip-directory-sync", Finder::Seeds(5)),
    ("rename-before-sync", Finder::Seeds(5)),
    (
        "unreadable-is-blank",
        test("sedge-store", "sedge_store", "media::"),
    ),
    ("readers-wait-for-nothing", Finder::Seeds(310)),
    ("use-worn-segments", Finder::Seeds(40)),
    ("accept-hole", test("sedge-core", "custody", "")),
    ("accept-repeated", test("sedge-core", "custody", "")),
    ("ack-before-stored", test("sedge-core", "custody", "")),
    ("ignore-other-history", test("sedge-core", "custody", "")),
    ("ignore-rewind", test("sedge-core", "custody", "")),
    (
        "tell-loss-twice",
        test("sedge-uplink", "sedge_uplink", "forward::loss"),
    ),
    ("cursor-runs-ahead", Finder::Seeds(5)),
    (
        "stale-puback",
        test("sedge", "sedge", "source::mqtt::stories"),
    ),
    ("store-redelivery", test("sedge", "sedge", "owner::")),
    ("every-dup-is-known", test("sedge", "sedge", "owner::")),
];

/// Builds everything with the feature, lets each test run once without a fault, and looks whether each fault is found. `names` chooses some.
pub(crate) fn find(names: &[String]) -> Result<()> {
    let rows = chosen(names)?;
    say("planted faults: build")?;
    let binaries = build()?;
    let binary_of = |finder: Finder| {
        let of = binaries.get(&key(finder));
        of.with_context(|| format!("no binary for {finder:?}"))
    };
    let finders: BTreeSet<Finder> = rows.iter().map(|(_, finder)| *finder).collect();
    let mut runs = Vec::new();
    for finder in finders {
        runs.push((None, finder, binary_of(finder)?));
    }
    for (fault, finder) in &rows {
        runs.push((Some(*fault), *finder, binary_of(*finder)?));
    }
    let wrong = two_at_a_time(&runs)?;
    if !wrong.is_empty() {
        bail!("planted faults: {}", wrong.join("; "));
    }
    say(&format!("all {} planted faults are found", rows.len()))
}

/// The rows that are asked for. None may be missing: a fault without a row, a row without a fault.
fn chosen(names: &[String]) -> Result<Vec<(&'static str, Finder)>> {
    let source = std::fs::read_to_string(workspace_root().join("core-nostd/src/planted.rs"))?;
    let there: BTreeSet<&str> = source.lines().filter_map(name_in).collect();
    let listed: BTreeSet<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    if let Some(odd) = there.symmetric_difference(&listed).next() {
        bail!("{odd} stands in core-nostd/src/planted.rs or in the table of xtask, not in both");
    }
    if let Some(unknown) = names.iter().find(|name| !listed.contains(name.as_str())) {
        bail!("no fault is called {unknown}");
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    let rows = TABLE.iter().copied();
    Ok(rows.filter(|(name, _)| wanted(name)).collect())
}

/// `    AckBeforeSync = "ack-before-sync",`
fn name_in(line: &str) -> Option<&str> {
    let (_, name) = line.split_once(" = \"")?;
    name.strip_suffix("\",")
}

/// The binaries by package and target.
fn build() -> Result<BTreeMap<(String, String), Binary>> {
    let mut simulator = cargo(&["build", "--release", "--locked"]);
    simulator.args(["--package", SIMULATOR.0, "--bin", SIMULATOR.1]);
    simulator.args(FEATURE);
    let tests = binaries::tests()?;
    // A library, and a program of the same name, are both tested.
    let tests = tests.into_iter().filter(|binary| !binary.is_program);
    let simulator = binaries::build(&mut simulator)?;
    let all = tests.chain(simulator);
    Ok(all
        .map(|binary| ((binary.package.clone(), binary.target.clone()), binary))
        .collect())
}

fn key(finder: Finder) -> (String, String) {
    let (package, target) = match finder {
        Finder::Test {
            package, target, ..
        } => (package, target),
        Finder::Seeds(_) => SIMULATOR,
    };
    (package.into(), target.into())
}

type Run<'a> = (Option<&'static str>, Finder, &'a Binary);

/// Does all runs; says what was not as it must be.
fn two_at_a_time(runs: &[Run<'_>]) -> Result<Vec<String>> {
    let wrong = Mutex::new(Vec::new());
    with_each(runs, 2, |run| {
        let (fault, finder, _) = run;
        let began = Instant::now();
        let ended = end_of(run)?;
        let took = began.elapsed().as_secs_f32();
        let (name, good) = match fault {
            None => ("without a fault", ended == End::Passed),
            Some(fault) => (*fault, ended == End::Failed),
        };
        let line = format!("{name}: {} {ended} in {took:.1} s", named(*finder));
        say(&format!("{}{line}", if good { "" } else { "WRONG " }))?;
        if !good {
            wrong.lock().expect("nobody panics with it").push(line);
        }
        Ok(())
    })?;
    Ok(wrong.into_inner().expect("nobody panics with it"))
}

fn named(finder: Finder) -> String {
    match finder {
        Finder::Test {
            package,
            target,
            filter,
        } => format!("{package} {target} {filter}"),
        Finder::Seeds(seeds) => format!("simulator, {seeds} seeds from {SEED_FIRST},"),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Passed,
    Failed,
    /// It did neither.
    Stuck,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Stuck => "did not end",
        })
    }
}

fn end_of((fault, finder, binary): &Run<'_>) -> Result<End> {
    let mut command = binary.command();
    match finder {
        Finder::Test { filter, .. } => {
            command.arg(filter);
        }
        Finder::Seeds(seeds) => {
            let (first, count) = (SEED_FIRST.to_string(), seeds.to_string());
            command.args(["--seed", &first, "--seeds", &count]);
        }
    }
    command
        .env_remove("SEDGE_PLANTED")
        // What a planted fault fails on is no case to keep.
        .env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(fault) = fault {
        command.env("SEDGE_PLANTED", fault);
    }
    wait(command.spawn()?)
}

fn wait(mut child: Child) -> Result<End> {
    let limit = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() {
                End::Passed
            } else {
                End::Failed
            });
        }
        if Instant::now() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(End::Stuck);
        }
        std::thread::sleep(POLL);
    }
}

/// The package and the binary of the simulator.
const SIMULATOR: (&str, &str) = ("sedge-tests", "simulate");
const SEED_FIRST: u32 = 1000;
const PATIENCE: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::{TABLE, chosen, name_in};

    #[test]
    fn every_fault_has_a_test_that_finds_it() {
        assert_eq!(chosen(&[]).expect("none is missing").len(), TABLE.len());
        assert!(chosen(&["no-such-fault".into()]).is_err());
        assert_eq!(
            name_in("    SkipErase = \"skip-erase\","),
            Some("skip-erase")
        );
    }
}
