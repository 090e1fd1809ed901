//! `cargo xtask fuzz`: the targets of `fuzz/` built for libFuzzer with the stable compiler, each run for some seconds.
//!
//! Needs a C++ compiler and nothing that is installed by hand. The kept inputs are read and never written; what a run adds, and what it stumbles over, is put
//! below the target folder.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::run::{cargo, expect_success, say, target_folder, with_each, workspace_root};

/// Runs the targets that are named, or all; `--seconds N` says how long each.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let known = targets(&std::fs::read_to_string(
        workspace_root().join("fuzz/Cargo.toml"),
    )?)?;
    let order = Order::read(arguments, known)?;
    let folder = Folder::new()?;
    folder.build(&order.targets)?;
    let failed = Mutex::new(Vec::new());
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    with_each(&order.targets, processors, |target| {
        if let Err(error) = folder.fuzz(target, order.seconds) {
            let wrong = format!("{target}: {error:#}");
            failed.lock().expect("nobody panics").push(wrong);
        }
        Ok(())
    })?;
    let failed = failed.into_inner()?;
    if !failed.is_empty() {
        bail!("fuzz:\n  {}", failed.join("\n  "));
    }
    Ok(())
}

/// Set where cargo starts this program in place of the compiler.
const COMPILES: &str = "SEDGE_FUZZ_COMPILES";

/// Whether cargo starts us in place of the compiler.
pub(crate) fn is_compiler() -> bool {
    std::env::var_os(COMPILES).is_some()
}

/// The compiler, with coverage for the crates that read what others wrote: the rest would only be weight, in each build and for each input.
pub(crate) fn compile() -> Result<bool> {
    let mut arguments = std::env::args().skip(1);
    let compiler = arguments.next().context("cargo names the compiler")?;
    let arguments: Vec<String> = arguments.collect();
    let mut command = Command::new(compiler);
    command.args(&arguments);
    if is_covered(&arguments) {
        command.args(COVERAGE);
    }
    Ok(command.status()?.success())
}

/// True for a crate that is to be covered and is compiled for the target, which macros and build scripts are not.
fn is_covered(arguments: &[String]) -> bool {
    let mut pairs = arguments.windows(2);
    let name = pairs.find(|pair| pair[0] == "--crate-name");
    let is_named = name.is_some_and(|pair| COVERED.contains(&pair[1].as_str()));
    is_named && arguments.iter().any(|argument| argument == "--target")
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    targets: Vec<String>,
    seconds: u32,
}

impl Order {
    fn read(arguments: &[String], known: Vec<String>) -> Result<Self> {
        let (mut targets, mut seconds) = (Vec::new(), SECONDS);
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            if argument == "--seconds" {
                let number = arguments.next().and_then(|number| number.parse().ok());
                seconds = number.context("--seconds takes a number")?;
            } else if known.contains(argument) {
                targets.push(argument.clone());
            } else {
                bail!("no target {argument}; there are {}", known.join(", "));
            }
        }
        if targets.is_empty() {
            targets = known;
        }
        Ok(Self { targets, seconds })
    }
}

/// The names in the manifest of the targets.
fn targets(manifest: &str) -> Result<Vec<String>> {
    let manifest: Table = manifest.parse()?;
    let programs = manifest.get("bin").and_then(Value::as_array);
    let named = programs.into_iter().flatten();
    Ok(named
        .filter_map(|program| program.get("name")?.as_str())
        .map(str::to_owned)
        .collect())
}

/// Where everything is put: programs, logs, inputs that were added, inputs that failed.
struct Folder {
    path: PathBuf,
    host: String,
}

impl Folder {
    fn new() -> Result<Self> {
        Ok(Self {
            path: target_folder().join("fuzz"),
            host: host()?,
        })
    }

    fn build(&self, targets: &[String]) -> Result<()> {
        let mut command = cargo(&["build", "--release", "--locked", "--target", &self.host]);
        command.current_dir(workspace_root().join("fuzz"));
        command.arg("--target-dir").arg(&self.path);
        for target in targets {
            command.args(["--bin", target]);
        }
        command.env("RUSTC_WRAPPER", std::env::current_exe()?);
        command.env(COMPILES, "1");
        expect_success("fuzz targets", &mut command)
    }

    fn fuzz(&self, target: &str, seconds: u32) -> Result<()> {
        let (found, failed) = (self.part("found", target)?, self.part("failed", target)?);
        let log = self.path.join(format!("{target}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(self.path.join(&self.host).join("release").join(target));
        command
            .arg(&found)
            .arg(workspace_root().join("fuzz/corpus").join(target))
            .arg(format!("-artifact_prefix={}/", failed.display()))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"))
            .arg("-print_final_stats=1")
            // What a body leaves in the way of temporary files lies where a crash leaves it.
            .env("TMPDIR", self.part("tmp", target)?)
            .stdout(output.try_clone()?)
            .stderr(output);
        let status = command.status().context("cannot start it")?;
        let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
        if !status.success() {
            bail!(
                "{status}; the input is in {}\n{}",
                failed.display(),
                last_lines(&said, LINES_SHOWN)
            );
        }
        let executions = executions(&said).context("libFuzzer does not say how often it ran")?;
        if executions < EXECUTIONS_MIN {
            bail!("only {executions} executions, see {}", log.display());
        }
        say(&format!("{target}: {executions} executions in {seconds} s"))
    }

    fn part(&self, part: &str, target: &str) -> Result<PathBuf> {
        let path = self.path.join(part).join(target);
        std::fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

/// The machine that the compiler runs on, as it names it.
fn host() -> Result<String> {
    let told = Command::new("rustc")
        .arg("-vV")
        .current_dir(workspace_root())
        .output()
        .context("cannot start rustc")?;
    let told = String::from_utf8(told.stdout)?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// How many inputs libFuzzer tried.
fn executions(said: &str) -> Option<u64> {
    let count = said
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    count.trim().parse().ok()
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// Ours, and whose grammars the targets are about.
const COVERED: [&str; 13] = [
    "sedge_core",
    "sedge_store",
    "sedge_uplink",
    "sedge_config",
    "sedge",
    "sedge_tests",
    "rumqttc",
    "toml",
    "toml_parser",
    "winnow",
    "serde_json",
    "postcard",
    "httparse",
];

/// What libFuzzer sees of the code, by LLVM's own pass: which edges were taken, and what was compared with what. The sanitizers themselves want a nightly
/// compiler; with next to no `unsafe`, they would have little to say.
const COVERAGE: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// For each target, where nothing else is said: what a run of everything has time for.
const SECONDS: u32 = 4;
/// libFuzzer counts whole seconds of a clock; the bodies' own bound counts milliseconds of a processor.
const INPUT_SECONDS_MAX: u32 = 10;
const MEMORY_MB_MAX: u32 = 1024;
/// A target that hardly ran found nothing.
const EXECUTIONS_MIN: u64 = 100;
const LINES_SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::{Order, executions, is_covered, targets};

    #[test]
    fn the_targets_are_those_of_the_manifest() {
        let manifest = "[[bin]]\nname = \"frame\"\n[[bin]]\nname = \"entries\"\n";
        assert_eq!(targets(manifest).unwrap(), ["frame", "entries"]);
    }

    #[test]
    fn a_name_that_is_no_target_is_refused() {
        let known = || vec!["frame".to_owned(), "entries".to_owned()];
        let read = |arguments: &[&str]| {
            let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
            Order::read(&arguments, known())
        };
        let order = read(&["--seconds", "7", "entries"]).unwrap();
        assert_eq!((order.targets, order.seconds), (vec!["entries".into()], 7));
        assert_eq!(read(&[]).unwrap().targets, known());
        assert!(read(&["frames"]).is_err());
        assert!(read(&["--seconds"]).is_err());
    }

    #[test]
    fn what_runs_while_compiling_is_not_covered() {
        let covered = |arguments: &str| {
            let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
            is_covered(&arguments)
        };
        assert!(covered("--crate-name sedge_core --target here"));
        assert!(!covered("--crate-name sedge_core"));
        assert!(!covered("--crate-name tokio --target here"));
        assert!(!covered("- --crate-name ___ --print=file-names"));
    }

    #[test]
    fn executions_are_read_from_what_the_fuzzer_says() {
        let said = "#12 DONE\nstat::number_of_executed_units: 1234\nstat::slowest_unit_time_sec: 0";
        assert_eq!(executions(said), Some(1234));
        assert_eq!(executions("==1== ERROR: libFuzzer: deadly signal"), None);
    }
}
