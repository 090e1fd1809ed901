//! The firmware in C: `firmware/c-example` compiled by GCC, linked with the core's object and nothing else.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::c_object;
use super::toolchain::Toolchain;
use crate::run::{expect_success, workspace_root};

/// Makes the image at `image`.
pub(super) fn build(toolchain: &Toolchain, image: &Path) -> Result<()> {
    let object = c_object::build_with(toolchain, TARGET)?;
    let folder = workspace_root().join("firmware").join(NAME);
    std::fs::create_dir_all(image.parent().unwrap_or(image))?;
    let mut compile = Command::new(COMPILER);
    compile.args(FLAGS).current_dir(&folder);
    compile.arg("-I").arg(workspace_root().join("core-c"));
    compile.args(["main.c", "board.c", "chip.c"]).arg(object);
    compile
        .args(["-T", "lm3s6965.ld", "-lgcc", "-o"])
        .arg(image);
    expect_success("firmware in C", &mut compile)
}

pub(super) const NAME: &str = "c-example";
pub(super) const TARGET: &str = "thumbv7m-none-eabi";
/// Debian: gcc-arm-none-eabi, without a C library.
pub(super) const COMPILER: &str = "arm-none-eabi-gcc";
const FLAGS: [&str; 15] = [
    "-mcpu=cortex-m3",
    "-mthumb",
    "-std=c11",
    "-Os",
    "-g",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Werror",
    "-ffreestanding",
    "-nostdlib",
    // A loop that copies is not to become a call of the function it stands in.
    "-fno-tree-loop-distribute-patterns",
    "-ffunction-sections",
    "-Wl,--gc-sections",
    "-Wl,-z,noexecstack",
];
