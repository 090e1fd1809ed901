//! `cargo xtask mutants`: the tool in `mutants/`, on this project.

use std::process::Command;

use anyhow::Result;

use crate::run::{expect_success, target_folder, workspace_root};

/// Builds the tool and runs it; `arguments` are its own.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["run", "--quiet", "--locked", "--target-dir"])
        .arg(target_folder().join("mutants/tool"))
        .arg("--")
        .args(arguments)
        .current_dir(workspace_root().join("mutants"))
        .env("SEDGE_ROOT", workspace_root());
    expect_success("mutants", &mut command)
}
