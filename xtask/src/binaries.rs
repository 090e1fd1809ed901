//! What cargo builds: programs and tests, where they are, and where they are to run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::cargo;

/// A built program, or a program of tests.
#[derive(Debug)]
pub(crate) struct Binary {
    pub(crate) package: String,
    pub(crate) target: String,
    /// A program of the package, or the tests in its source.
    pub(crate) is_program: bool,
    is_test: bool,
    path: PathBuf,
    folder: PathBuf,
}

impl Binary {
    /// What no other has.
    pub(crate) fn file_name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// It, as cargo would start it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        command
    }
}

/// Builds every test of the workspace.
pub(crate) fn tests() -> Result<Vec<Binary>> {
    let mut command = cargo(&["test", "--workspace", "--no-run", "--locked"]);
    let mut binaries = build(command.args(FEATURE))?;
    binaries.retain(|binary| binary.is_test);
    Ok(binaries)
}

/// Lets cargo build, and says what came of it.
pub(crate) fn build(command: &mut Command) -> Result<Vec<Binary>> {
    command.arg("--message-format=json-render-diagnostics");
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    let told = String::from_utf8_lossy(&output.stdout);
    told.lines()
        .filter_map(|line| built(line).transpose())
        .collect()
}

/// What a message of cargo says of a binary.
fn built(message: &str) -> Result<Option<Binary>> {
    let artifact: Value = serde_json::from_str(message)?;
    let Some(path) = artifact["executable"].as_str() else {
        return Ok(None);
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let manifest = text(&artifact["manifest_path"]);
    let folder = Path::new(&manifest)
        .parent()
        .context("a manifest has a folder")?;
    let package = toml::from_str::<toml::Table>(&std::fs::read_to_string(&manifest)?)?;
    Ok(Some(Binary {
        package: package["package"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        target: text(&artifact["target"]["name"]),
        is_program: artifact["target"]["kind"][0] == "bin",
        is_test: artifact["profile"]["test"] == true,
        path: path.into(),
        folder: folder.into(),
    }))
}

/// Lets faults be planted in what cargo builds.
pub(crate) const FEATURE: [&str; 2] = ["--features", "sedge-core/planted"];
