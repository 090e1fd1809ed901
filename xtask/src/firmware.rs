//! `cargo xtask firmware`: builds the image of each board, starts it under QEMU, resets it in the middle of its work, and reads on its console that
//! the log was there again.
//!
//! The embassy example is built too, and not run: QEMU has no such chip.
//!
//! Installs nothing. Where the toolchain or QEMU is missing it says so and skips; where `SEDGE_TESTS` is `strict`, that is a failure.

mod c_example;
mod c_object;
mod toolchain;
pub(crate) mod weigh;

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, expect_success, is_there, say, target_folder, workspace_root};
use toolchain::{Toolchain, in_firmware};

pub(crate) use c_object::build as build_objects;
pub(crate) use toolchain::images_folder;

/// A board that QEMU knows.
struct Board {
    /// The package under `firmware/`, and the folder's name.
    package: &'static str,
    target: &'static str,
    language: Language,
    qemu: &'static str,
    machine: &'static str,
    /// Further arguments for QEMU.
    more: &'static [&'static str],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    /// On the core's object.
    C,
}

const BOARDS: [Board; 5] = [
    Board {
        package: "cortex-m3",
        target: "thumbv7m-none-eabi",
        language: Language::Rust,
        qemu: "qemu-system-arm",
        machine: "lm3s6965evb",
        more: &[],
    },
    Board {
        package: "cortex-m4f",
        target: "thumbv7em-none-eabihf",
        language: Language::Rust,
        qemu: "qemu-system-arm",
        machine: "mps2-an386",
        more: &[],
    },
    Board {
        package: "cortex-m0",
        target: "thumbv6m-none-eabi",
        language: Language::Rust,
        qemu: "qemu-system-arm",
        machine: "microbit",
        more: &["-global", "nrf51-soc.sram-size=32768"],
    },
    Board {
        package: "riscv32",
        target: "riscv32imac-unknown-none-elf",
        language: Language::Rust,
        qemu: "qemu-system-riscv32",
        machine: "virt",
        more: &["-bios", "none"],
    },
    Board {
        package: c_example::NAME,
        target: c_example::TARGET,
        language: Language::C,
        qemu: "qemu-system-arm",
        machine: "lm3s6965evb",
        more: &[],
    },
];

/// Builds and runs the images of the boards that are named, or of all, and builds what is only built.
pub(crate) fn everything(names: &[String]) -> Result<()> {
    build_and_run(names)?;
    build_embassy()
}

/// Builds and runs the images of the boards that are named, or of all.
pub(crate) fn build_and_run(names: &[String]) -> Result<()> {
    let known = |name: &String| BOARDS.iter().any(|board| board.package == name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        bail!("there is no board {unknown} in firmware/");
    }
    host_checks()?;
    let asked = |board: &&Board| names.is_empty() || names.iter().any(|it| it == board.package);
    for board in BOARDS.iter().filter(asked) {
        let Some(toolchain) = Toolchain::find(board.target) else {
            skip(board.package, NO_RUST)?;
            continue;
        };
        if board.language == Language::C && !is_there(c_example::COMPILER) {
            skip(board.package, c_example::COMPILER)?;
            continue;
        }
        let begun = Instant::now();
        build(board, &toolchain)?;
        let built = begun.elapsed().as_secs();
        let image = image(board.package, board.target);
        say(&format!(
            "{}: built in {built} s, {}",
            board.package,
            size(&image)
        ))?;
        if !is_there(board.qemu) {
            skip(board.package, board.qemu)?;
            continue;
        }
        run(board, &image).with_context(|| format!("{} under {}", board.package, board.machine))?;
    }
    Ok(())
}

/// Builds the example for a chip that QEMU does not know.
pub(crate) fn build_embassy() -> Result<()> {
    let Some(toolchain) = Toolchain::find(EMBASSY_TARGET) else {
        return skip(EMBASSY, NO_RUST);
    };
    let begun = Instant::now();
    let mut command = toolchain.image(EMBASSY, EMBASSY_TARGET);
    command.current_dir(workspace_root().join("firmware/embassy"));
    expect_success(&format!("firmware for {EMBASSY}"), &mut command)?;
    let image = image(EMBASSY, EMBASSY_TARGET);
    say(&format!(
        "{EMBASSY}: built in {} s, {}; not run",
        begun.elapsed().as_secs(),
        size(&image)
    ))
}

fn build(board: &Board, toolchain: &Toolchain) -> Result<()> {
    match board.language {
        Language::Rust => expect_success(
            &format!("firmware for {}", board.package),
            &mut toolchain.image(board.package, board.target),
        ),
        Language::C => c_example::build(toolchain, &image(board.package, board.target)),
    }
}

/// Format, lints and tests of the part that belongs to no board.
fn host_checks() -> Result<()> {
    expect_success(
        "firmware format",
        &mut in_firmware(cargo(&["fmt", "--all", "--check"])),
    )?;
    let mut embassy = cargo(&["fmt", "--check"]);
    embassy.current_dir(workspace_root().join("firmware/embassy"));
    expect_success("embassy format", &mut embassy)?;
    let host = |arguments: &[&str]| {
        let mut command = in_firmware(cargo(arguments));
        command.args(["--locked", "--package", "sedge-firmware"]);
        command.env("CARGO_TARGET_DIR", target_folder());
        command
    };
    let mut clippy = host(&["clippy", "--all-targets"]);
    expect_success("firmware clippy", clippy.args(["--", "-D", "warnings"]))?;
    expect_success("firmware tests", &mut host(&["test"]))
}

/// Starts the board, resets it after some records, and reads that the next start found them.
fn run(board: &Board, image: &Path) -> Result<()> {
    let folder = images_folder().join("run").join(board.package);
    std::fs::create_dir_all(&folder)?;
    let console = folder.join("console.txt");
    let monitor = folder.join("monitor");
    std::fs::write(&console, "")?;
    let _machine = Machine::start(board, image, &console, &monitor)?;
    let deadline = Instant::now() + RUN_AT_MOST;
    let kept = await_line(&console, deadline, "30 records", |lines| {
        let mut kept = lines.iter().filter(|line| line.starts_with("kept 1 "));
        kept.next_back()
            .and_then(|line| line.split(" at ").nth(1)?.parse::<u64>().ok())
            .filter(|offset| *offset >= 30)
    })?;
    let mut monitor = UnixStream::connect(&monitor)?; // what a closed connection said last is not read
    monitor.write_all(b"system_reset\n")?;
    let held = await_line(&console, deadline, "the log after a reset", |lines| {
        let begun = lines.iter().find(|line| line.starts_with("start 2 "))?;
        let held = begun.split(" holds 0 to ").nth(1)?.split(',').next()?;
        held.parse::<u64>().ok()
    })?;
    if held <= kept {
        bail!("the record at {kept} was kept, and after a reset the log ends at {held}");
    }
    await_line(&console, deadline, "records after a reset", |lines| {
        let again = |line: &&String| line.starts_with("kept 2 5 ");
        lines.iter().any(|line| again(&line)).then_some(())
    })?;
    say(&format!(
        "{}: {held} records were there after a reset, and it went on",
        board.package
    ))
}

/// A running QEMU; ended when this value goes.
struct Machine(Child);

impl Machine {
    fn start(board: &Board, image: &Path, console: &Path, monitor: &Path) -> Result<Self> {
        std::fs::remove_file(monitor).ok(); // of a run before
        let mut command = Command::new(board.qemu);
        command.args(board.more);
        command.args(["-machine", board.machine, "-display", "none", "-kernel"]);
        command.arg(image);
        command.args(["-serial", "null", "-chardev"]);
        command.arg(format!("file,id=console,path={}", console.display()));
        command.args([
            "-semihosting-config",
            "enable=on,target=native,chardev=console",
            "-monitor",
        ]);
        command.arg(format!("unix:{},server,nowait", monitor.display()));
        let child = command
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", board.qemu))?;
        Ok(Self(child))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself; then the console has told what is wrong.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Reads the console again and again until `find` finds what it looks for. A rule of the flash that was broken, or a panic, ends it at once.
fn await_line<T>(
    console: &Path,
    deadline: Instant,
    what: &str,
    find: impl Fn(&[String]) -> Option<T>,
) -> Result<T> {
    loop {
        let text = std::fs::read_to_string(console)?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if let Some(bad) = lines.iter().find(|line| is_trouble(line)) {
            bail!("the device says: {bad}");
        }
        if let Some(found) = find(&lines) {
            return Ok(found);
        }
        if Instant::now() > deadline {
            let last = lines.last().map_or("nothing", String::as_str);
            bail!("not within {RUN_AT_MOST:?}: {what}; the device said last: {last}");
        }
        std::thread::sleep(POLL);
    }
}

fn is_trouble(line: &str) -> bool {
    let broke_a_rule = line.contains(" rules broken") && !line.contains(" 0 rules broken");
    line.starts_with("broken") || line.starts_with("panicked") || broke_a_rule
}

fn skip(package: &str, missing: &str) -> Result<()> {
    crate::run::skip(&format!("firmware for {package}"), missing)
}

/// Code, constants and memory of an image, as `size` tells them.
fn size(image: &Path) -> String {
    let told = Command::new("size").arg(image).output();
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let numbers: Option<Vec<u64>> = told.ok().and_then(|told| {
        let row = told.lines().nth(1)?.split_whitespace().take(3);
        row.map(|number| number.parse().ok()).collect()
    });
    match numbers.as_deref() {
        Some([text, data, bss]) => format!("{text} bytes of code, {} of memory", data + bss),
        _ => "of unknown size".to_owned(),
    }
}

/// Where the image of `package` is built.
fn image(package: &str, target: &str) -> PathBuf {
    images_folder().join(target).join("release").join(package)
}

const EMBASSY: &str = "embassy-nrf52840";
const EMBASSY_TARGET: &str = "thumbv7em-none-eabihf";
const NO_RUST: &str =
    "no Rust for it: `rustup target add`, or rustc-web, cargo-web, rust-web-src and lld";
const RUN_AT_MOST: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::is_trouble;

    #[test]
    fn device_that_breaks_a_rule_is_seen() {
        let report = |rules| format!("log 0 to 9; 3 units programmed, {rules} rules broken; 0");
        assert!(!is_trouble(&report(0)));
        assert!(is_trouble(&report(1)));
        assert!(is_trouble(&report(10)));
        assert!(is_trouble("panicked at common/src/device.rs:1:1:"));
    }
}
