//! `cargo xtask arm64`: builds the program for a 64-bit Raspberry Pi and runs its demo in QEMU.
//!
//! Installs nothing. Where the toolchain or QEMU is missing it says so and skips; where `SEDGE_TESTS` is `strict`, that is a failure.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::package::SMALL;
use crate::run::{
    cargo, expect_success, forget_this_package, is_there, skip, target_folder, workspace_root,
};

/// What cargo calls it.
pub(crate) const TARGET: &str = "aarch64-unknown-linux-gnu";

/// Builds the program and plays the demo, which ends well only if the account balances.
///
/// It is linked statically, as a program that starts threads hangs in QEMU 7.2 otherwise, and QEMU knows nothing of what is asked of a pseudo serial line.
pub(crate) fn build_and_run() -> Result<()> {
    let Some(mut build) = cargo_for_arm64("rustc") else {
        return skip("arm64", NO_TOOLCHAIN);
    };
    let profile = ["--profile", PROFILE, "--package", "sedge", "--bin", "sedge"];
    build.args(profile);
    build.args(["--", "--codegen", "target-feature=+crt-static"]);
    expect_success("sedge for arm64", &mut build)?;
    if !is_there(QEMU) {
        return skip("the demo on arm64", QEMU);
    }
    let program = folder().join(TARGET).join(PROFILE).join("sedge");
    let mut demo = Command::new(QEMU);
    demo.arg(program)
        .args(["demo", "--without-serial", "--for", "10s"]);
    expect_success("the demo on arm64", &mut demo)
}

/// The program as users get it.
pub(crate) fn release() -> Result<PathBuf> {
    let Some(mut build) = cargo_for_arm64("build") else {
        bail!("{NO_TOOLCHAIN}");
    };
    build.args(["--profile", SMALL, "--package", "sedge", "--bin", "sedge"]);
    expect_success("small binary for arm64", &mut build)?;
    Ok(folder().join(TARGET).join(SMALL).join("sedge"))
}

/// A cargo whose compiler has the target's standard library, and the linker: of rustup if it was added there, else Debian's.
fn cargo_for_arm64(what: &str) -> Option<Command> {
    if !is_there(LINKER) {
        return None;
    }
    let arguments = [what, "--locked", "--target", TARGET];
    let mut command = if has_library("rustc") {
        cargo(&arguments)
    } else if has_library(DEBIAN_RUSTC) {
        let mut command = Command::new(DEBIAN_CARGO);
        command.args(arguments).current_dir(workspace_root());
        command.env("RUSTC", DEBIAN_RUSTC);
        // That it was started by another cargo is nothing it should know.
        command.env_remove("RUSTUP_TOOLCHAIN");
        forget_this_package(&mut command);
        command
    } else {
        return None;
    };
    command.env("CARGO_TARGET_DIR", folder());
    command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
    Some(command)
}

fn has_library(rustc: &str) -> bool {
    let mut asked = Command::new(rustc);
    asked.args(["--print", "target-libdir", "--target", TARGET]);
    let asked = asked.current_dir(workspace_root()).output();
    asked.is_ok_and(|output| {
        let library = String::from_utf8_lossy(&output.stdout).into_owned();
        Path::new(library.trim()).is_dir()
    })
}

/// Apart from what is built for this machine, so that both can be built at the same time.
fn folder() -> PathBuf {
    target_folder().join("arm64")
}

/// In the workspace's `Cargo.toml`.
const PROFILE: &str = "emulated";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const QEMU: &str = "qemu-aarch64-static";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const NO_TOOLCHAIN: &str = "a Rust and a linker for arm64 (rustup target add aarch64-unknown-linux-gnu, or Debian's rustc-web and libstd-rust-web-dev:arm64; gcc-aarch64-linux-gnu)";
