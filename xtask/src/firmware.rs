//! `cargo xtask firmware`: builds the image of each board, starts it under QEMU, resets it in the middle of its work, and reads on its console that
//! the log was there again.
//!
//! The embassy example is built too, and not run: QEMU has no such chip.
//!
//! Installs nothing. Where the toolchain or QEMU is missing it says so and skips; where `SEDGE_TESTS` is `strict`, that is a failure.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, expect_success, say, workspace_root};

/// A board that QEMU knows.
struct Board {
    /// The package under `firmware/`, and the folder's name.
    package: &'static str,
    target: &'static str,
    qemu: &'static str,
    machine: &'static str,
    /// Further arguments for QEMU.
    more: &'static [&'static str],
}

const BOARDS: [Board; 4] = [
    Board {
        package: "cortex-m3",
        target: "thumbv7m-none-eabi",
        qemu: "qemu-system-arm",
        machine: "lm3s6965evb",
        more: &[],
    },
    Board {
        package: "cortex-m4f",
        target: "thumbv7em-none-eabihf",
        qemu: "qemu-system-arm",
        machine: "mps2-an386",
        more: &[],
    },
    Board {
        package: "cortex-m0",
        target: "thumbv6m-none-eabi",
        qemu: "qemu-system-arm",
        machine: "microbit",
        more: &["-global", "nrf51-soc.sram-size=32768"],
    },
    Board {
        package: "riscv32",
        target: "riscv32imac-unknown-none-elf",
        qemu: "qemu-system-riscv32",
        machine: "virt",
        more: &["-bios", "none"],
    },
];

/// Builds and runs every image.
pub(crate) fn build_and_run() -> Result<()> {
    host_checks()?;
    for board in &BOARDS {
        let Some(toolchain) = Toolchain::find(board.target) else {
            skip(board.package, NO_RUST)?;
            continue;
        };
        let begun = Instant::now();
        expect_success(
            &format!("firmware for {}", board.package),
            &mut toolchain.build(board.package, board.target),
        )?;
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
    build_embassy()
}

/// Builds the example for a chip that QEMU does not know.
fn build_embassy() -> Result<()> {
    let Some(toolchain) = Toolchain::find(EMBASSY_TARGET) else {
        return skip(EMBASSY, NO_RUST);
    };
    let begun = Instant::now();
    let mut command = toolchain.build(EMBASSY, EMBASSY_TARGET);
    command.current_dir(workspace_root().join("firmware/embassy"));
    expect_success(&format!("firmware for {EMBASSY}"), &mut command)?;
    let image = image(EMBASSY, EMBASSY_TARGET);
    say(&format!(
        "{EMBASSY}: built in {} s, {}; not run",
        begun.elapsed().as_secs(),
        size(&image)
    ))
}

/// Format, lints and tests of the part that belongs to no board.
fn host_checks() -> Result<()> {
    expect_success(
        "firmware format",
        &mut firmware(cargo(&["fmt", "--all", "--check"])),
    )?;
    let mut embassy = cargo(&["fmt", "--check"]);
    embassy.current_dir(workspace_root().join("firmware/embassy"));
    expect_success("embassy format", &mut embassy)?;
    let host = |arguments: &[&str]| {
        let mut command = firmware(cargo(arguments));
        command.args(["--locked", "--package", "sedge-firmware"]);
        command.env("CARGO_TARGET_DIR", target_folder());
        command
    };
    let mut clippy = host(&["clippy", "--all-targets"]);
    expect_success("firmware clippy", clippy.args(["--", "-D", "warnings"]))?;
    expect_success("firmware tests", &mut host(&["test"]))
}

/// What compiles for a microcontroller here.
enum Toolchain {
    /// The compiler that runs us has the target's core library.
    Ready,
    /// Debian's newer Rust, which comes with the sources of the core library.
    Sources,
}

impl Toolchain {
    fn find(target: &str) -> Option<Self> {
        let asked = Command::new("rustc")
            .args(["--print", "target-libdir", "--target", target])
            .current_dir(workspace_root())
            .output();
        let library = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        if library.is_ok_and(|library| Path::new(library.trim()).is_dir()) {
            return Some(Self::Ready);
        }
        let needed = [DEBIAN_CARGO, DEBIAN_RUSTC, DEBIAN_CORE];
        let there = needed.iter().all(|path| Path::new(path).exists()) && is_there("ld.lld");
        there.then_some(Self::Sources)
    }

    fn build(&self, package: &str, target: &str) -> Command {
        let arguments = [
            "build",
            "--release",
            "--locked",
            "--package",
            package,
            "--target",
            target,
        ];
        let mut command = match self {
            Self::Ready => firmware(cargo(&arguments)),
            Self::Sources => {
                let mut command = firmware(Command::new(DEBIAN_CARGO));
                command.args(arguments).arg("-Zbuild-std=core");
                // It is a stable compiler, and building the core library is not a stable feature. That it was started by another
                // cargo is nothing it should know.
                command.env("RUSTC_BOOTSTRAP", "1");
                command.env("RUSTC", DEBIAN_RUSTC);
                command.env_remove("RUSTUP_TOOLCHAIN");
                let name = target.to_uppercase().replace('-', "_");
                command.env(format!("CARGO_TARGET_{name}_LINKER"), "ld.lld");
                command
            }
        };
        command.env("CARGO_TARGET_DIR", images_folder());
        command
    }
}

/// `command` in the firmware's workspace.
fn firmware(mut command: Command) -> Command {
    command.current_dir(workspace_root().join("firmware"));
    command
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
    say(&format!("SKIPPED firmware for {package}: {missing}"))?;
    if std::env::var("SEDGE_TESTS").is_ok_and(|value| value == "strict") {
        bail!("firmware for {package} must be built and run here");
    }
    Ok(())
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

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Where the image of `package` is built.
fn image(package: &str, target: &str) -> PathBuf {
    images_folder().join(target).join("release").join(package)
}

/// Everything that is built for microcontrollers, apart from what is built for this machine.
pub(crate) fn images_folder() -> PathBuf {
    target_folder().join("firmware")
}

fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace_root().join("target"), Into::into)
}

const EMBASSY: &str = "embassy-nrf52840";
const EMBASSY_TARGET: &str = "thumbv7em-none-eabihf";
const NO_RUST: &str =
    "no Rust for it: `rustup target add`, or rustc-web, cargo-web, rust-web-src and lld";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/src/rust/library/core";
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
