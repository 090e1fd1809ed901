//! Project chores, one command each: what a person runs here is what the build machine runs.
//!
//! `cargo xtask ci` is everything; the other commands are its parts.

mod arm64;
mod bench;
mod binaries;
mod ci;
mod disk;
mod firmware;
mod firmware_report;
mod fuzz;
mod header;
mod mutants;
mod package;
mod peers;
mod planted;
mod run;
mod tests;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci        format, tidy, header, clippy, docs, firmware, arm64, fuzz targets, planted faults, simulated systems, power cuts, the package, then every test; --once removes what no later step needs
  test      build the release binary and run every test of the workspace
  header    write core-c/sedge_core.h, the core's header for C; with --check, say whether it is up to date
  firmware  build the images for microcontrollers, all or those that are named, and run each under QEMU
  c-object  make sedge_core.o for microcontrollers, each target that is named or all, and check what it exports
  firmware-report
            measure what the core costs a microcontroller, beside sequential-storage; with --write, put it into docs/firmware.md; --only weighed and
            the like measure one part
  planted   plant faults, all or those that are named, and see each found by the test that must find it
  mutants   change the code in small ways, all in one build, and look whether a test notices; --part core or session, --sample N, --seed S, --fresh yes, --only ID,ID, --within SECONDS, --jobs J
  fuzz      run the fuzz targets, all or those that are named, under libFuzzer; --seconds N each
  package   make the Debian package, for this machine or with --arm64
  manual    write the manual pages and shell completions into target/manual
  arm64     build sedge for a 64-bit Raspberry Pi and run its demo under QEMU
  peers     install clients of Kafka's and schemathesis below target/peers and have each read a hub; --python: those in Python only; --install: nothing is run
  bench     measure beside mosquitto and the floor model, and write docs/performance.md; with --criterion, measure the parts
  tidy      what a machine can check about how the project is laid out
";

fn main() -> ExitCode {
    if fuzz::is_compiler() {
        return match fuzz::compile() {
            Ok(true) => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        };
    }
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if even stderr is gone.
            run::say(&format!("{error:#}")).ok();
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("ci") => ci::everything(&arguments[1..]),
        Some("test") => tests::run(&arguments[1..]),
        Some("firmware") => firmware::everything(&arguments[1..]),
        Some("c-object") => firmware::build_objects(&arguments[1..]),
        Some("header") => header::write_or_check(&arguments[1..]),
        Some("firmware-report") => firmware_report::report(&arguments[1..]),
        Some("planted") => planted::find(&arguments[1..]),
        Some("mutants") => mutants::run(&arguments[1..]),
        Some("fuzz") => fuzz::run(&arguments[1..]),
        Some("package") => package::build(&arguments[1..]),
        Some("manual") => package::write_manual(),
        Some("arm64") => arm64::build_and_run(),
        Some("peers") => peers::run(&arguments[1..]),
        Some("bench") => bench::measure(&arguments[1..]),
        Some("tidy") => tidy::check(&run::workspace_root()),
        _ => bail!("{USAGE}"),
    }
}
