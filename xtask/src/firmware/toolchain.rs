//! The Rust that compiles for microcontrollers here, and where what it makes is put. Knows no board.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{cargo, is_there, target_folder, workspace_root};

/// What compiles for a microcontroller here.
pub(super) enum Toolchain {
    /// The compiler that runs us has the target's core library.
    Ready,
    /// Debian's newer Rust, which comes with the sources of the core library.
    Sources,
}

impl Toolchain {
    pub(super) fn find(target: &str) -> Option<Self> {
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

    /// Builds an image of the firmware's workspace.
    pub(super) fn image(&self, package: &str, target: &str) -> Command {
        let mut command = self.cargo("build", target);
        command.args(["--release", "--package", package]);
        in_firmware(command)
    }

    /// Builds the library of a package of the firmware's workspace as an archive, with a feature.
    pub(super) fn archive(&self, package: &str, target: &str, feature: &str) -> Command {
        let mut command = self.cargo("rustc", target);
        command.args(["--release", "--package", package, "--features", feature]);
        command.args(["--lib", "--crate-type", "staticlib"]);
        in_firmware(command)
    }

    /// Builds the core for C programs, as a library that is still to be linked.
    pub(super) fn c_library(&self, target: &str) -> Command {
        let mut command = self.cargo("rustc", target);
        command.args(["--profile", C_PROFILE, "--package", "sedge-core-c"]);
        command.args(["--lib", "--crate-type", "staticlib"]);
        command.args(["--features", "panic-handler"]);
        command
    }

    fn cargo(&self, what: &str, target: &str) -> Command {
        let arguments = [what, "--locked", "--target", target];
        let mut command = match self {
            Self::Ready => cargo(&arguments),
            Self::Sources => {
                let mut command = Command::new(DEBIAN_CARGO);
                command.current_dir(workspace_root());
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
pub(super) fn in_firmware(mut command: Command) -> Command {
    command.current_dir(workspace_root().join("firmware"));
    command
}

/// Where [`Toolchain::c_library`] is built.
pub(super) fn c_library(target: &str) -> PathBuf {
    let folder = images_folder().join(target).join(C_PROFILE);
    folder.join("libsedge_core_c.a")
}

/// Everything that is built for microcontrollers, apart from what is built for this machine.
pub(crate) fn images_folder() -> PathBuf {
    target_folder().join("firmware")
}

/// In the workspace's `Cargo.toml`.
const C_PROFILE: &str = "firmware";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/src/rust/library/core";
