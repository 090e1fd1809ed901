//! `cargo xtask package`: the Debian package, put together from what `[package.metadata.deb]` in `agent/Cargo.toml` lists.
//!
//! It takes `dpkg-deb`, which every Debian has; who has `cargo deb` gets the same files from it. What the package promises of its units, its manual and
//! the libraries that it needs is looked at before it is made.

mod manual;
mod metadata;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::arm64;
use crate::ci::release_binary;
use crate::run::{cargo, expect_success, is_there, say, skip, target_folder, workspace_root};
pub(crate) use manual::write as write_manual;
use metadata::{Asset, Metadata};

/// The profile of what users get.
pub(crate) const SMALL: &str = "small";

/// Whom a package is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Machine {
    Amd64,
    Arm64,
}

impl Machine {
    /// As Debian calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    fn strip(self) -> &'static str {
        match self {
            Self::Amd64 => "strip",
            Self::Arm64 => "aarch64-linux-gnu-strip",
        }
    }
}

/// Builds the program and its package, for this machine or with `--arm64`.
pub(crate) fn build(arguments: &[String]) -> Result<()> {
    let (machine, program) = match arguments {
        [] => (Machine::Amd64, small()?),
        [flag] if flag == "--arm64" => (Machine::Arm64, arm64::release()?),
        _ => bail!("usage: cargo xtask package [--arm64]"),
    };
    package(machine, &program)
}

/// The program as users get it: small rather than built soon.
fn small() -> Result<PathBuf> {
    let program = ["--package", "sedge", "--bin", "sedge"];
    let build = ["build", "--profile", SMALL, "--locked"];
    expect_success("small binary", cargo(&build).args(program))?;
    Ok(target_folder().join(SMALL).join("sedge"))
}

/// The package of the release binary that is there already, to see that a package comes of it.
pub(crate) fn of_what_is_built() -> Result<()> {
    if !is_there("dpkg-deb") {
        return skip("the package", "dpkg-deb");
    }
    package(Machine::Amd64, &release_binary())
}

fn package(machine: Machine, program: &Path) -> Result<()> {
    let metadata = Metadata::read()?;
    needs_no_newer_library(program, &metadata)?;
    write_manual()?;
    let name = format!("sedge_{}_{}", metadata.version, machine.name());
    let folder = target_folder().join("deb");
    let tree = folder.join(&name);
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    fill(&tree, &metadata, machine, program)?;
    units(&tree)?;
    let file = folder.join(name + ".deb");
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]);
    build.arg(&tree).arg(&file).stdout(Stdio::null());
    expect_success("package", &mut build)?;
    let mut list = Command::new("dpkg-deb");
    expect_success("contents", list.arg("--contents").arg(&file))?;
    say(&format!(
        "{}: {} bytes, the program in it {} bytes",
        file.display(),
        fs::metadata(&file)?.len(),
        fs::metadata(tree.join("usr/bin/sedge"))?.len(),
    ))
}

/// Everything that the package brings, as it will stand, and what dpkg must know of it.
fn fill(tree: &Path, metadata: &Metadata, machine: Machine, program: &Path) -> Result<()> {
    for asset in &metadata.assets {
        put(tree, asset, program)?;
    }
    let strip = ["--strip-all", "--remove-section=.comment"];
    let mut strip_program = Command::new(machine.strip());
    strip_program.args(strip).arg(tree.join("usr/bin/sedge"));
    expect_success("strip", &mut strip_program)?;
    let pages = files(&tree.join("usr/share/man/man1"))?;
    expect_success("gzip", Command::new("gzip").arg("-9n").args(pages))?;
    let installed = files(tree)?;
    let bytes = installed.iter().map(|file| Ok(fs::metadata(file)?.len()));
    let bytes: u64 = bytes.sum::<Result<u64>>()?;
    let control = tree.join("DEBIAN");
    fs::create_dir_all(&control)?;
    fs::write(control.join("md5sums"), sums(tree, &installed)?)?;
    let described = metadata.control(machine.name(), bytes.div_ceil(1024));
    fs::write(control.join("control"), described)?;
    for script in ["postinst", "prerm", "postrm"] {
        let (from, to) = (metadata.scripts.join(script), control.join(script));
        fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        fs::set_permissions(&to, Permissions::from_mode(0o755))?;
    }
    for folder in folders(tree)? {
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn put(tree: &Path, asset: &Asset, program: &Path) -> Result<()> {
    let sources = match asset.is_program() {
        true => vec![program.to_path_buf()],
        false => asset.sources()?,
    };
    for source in sources {
        let name = source.file_name().unwrap_or_default();
        let to = tree.join(asset.place(name));
        fs::create_dir_all(to.parent().context("a file stands in a folder")?)?;
        fs::copy(&source, &to).with_context(|| source.display().to_string())?;
        fs::set_permissions(&to, Permissions::from_mode(asset.mode))?;
    }
    Ok(())
}

/// What `dpkg --verify` goes by.
fn sums(tree: &Path, files: &[PathBuf]) -> Result<Vec<u8>> {
    let relative = files.iter().map(|file| file.strip_prefix(tree));
    let relative: Vec<&Path> = relative.collect::<Result<_, _>>()?;
    let output = Command::new("md5sum")
        .args(relative)
        .current_dir(tree)
        .output()?;
    ensure!(output.status.success(), "md5sum: {}", output.status);
    Ok(output.stdout)
}

/// systemd understands the units, and finds them as closed as they are said to be.
fn units(tree: &Path) -> Result<()> {
    if !is_there("systemd-analyze") {
        return skip("a look at the units", "systemd-analyze");
    }
    let units: Vec<PathBuf> = files(&tree.join("usr/lib/systemd/system"))?;
    for unit in &units {
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--no-pager", EXPOSURE_MAX]);
        security.arg(unit).stdout(Stdio::null());
        let name = unit.file_name().unwrap_or_default().to_string_lossy();
        expect_success(&format!("exposure of {name}"), &mut security)?;
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no", "--recursive-errors=no", "--root"]);
    let names = units.iter().filter_map(|unit| unit.file_name());
    verify.arg(tree).args(names);
    let output = verify.output()?;
    // It has words for what it only ignores, and ends well.
    let said = String::from_utf8_lossy(&output.stderr);
    let ours = said.lines().find(|line| line.contains("sedge-"));
    match ours {
        None if output.status.success() => say("units are verified"),
        _ => bail!("systemd-analyze verify: {}: {said}", output.status),
    }
}

/// The program asks for no newer C library than the package does.
fn needs_no_newer_library(program: &Path, metadata: &Metadata) -> Result<()> {
    let output = Command::new("readelf")
        .args(["--version-info", "--wide"])
        .arg(program)
        .output()
        .context("readelf")?;
    ensure!(output.status.success(), "readelf: {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let needed = newest_glibc(&text).context("a program without a C library")?;
    let (major, minor) = metadata.glibc()?;
    ensure!(
        needed <= (major, minor),
        "the program needs glibc {}.{}, the package asks for {major}.{minor}",
        needed.0,
        needed.1
    );
    Ok(())
}

/// The newest of the versions `GLIBC_2.34` in a text.
fn newest_glibc(text: &str) -> Option<(u32, u32)> {
    let versions = text.split("GLIBC_").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit());
        metadata::version(&rest[..end.unwrap_or(rest.len())])
    });
    versions.max()
}

/// All files below `folder`, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(walk(folder)?.1)
}

/// `folder` and all folders below it.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(walk(folder)?.0)
}

fn walk(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut folders, mut files) = (vec![folder.to_path_buf()], Vec::new());
    let mut at = 0;
    while let Some(folder) = folders.get(at).cloned() {
        at += 1;
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    files.sort();
    Ok((folders, files))
}

/// Whether a file's name ends so.
fn ends(path: &Path, ending: &str) -> bool {
    path.extension() == Some(OsStr::new(ending))
}

/// A file of the repository.
fn in_workspace(path: &str) -> PathBuf {
    workspace_root().join(path)
}

/// In tenths, as systemd-analyze wants it.
const EXPOSURE_MAX: &str = "--threshold=15";

#[cfg(test)]
mod tests {
    use super::newest_glibc;

    #[test]
    fn the_newest_version_is_not_the_one_with_the_largest_letters() {
        let text = "0x0010:   Name: GLIBC_2.9  Flags: none\n0x0020:   Name: GLIBC_2.34  Flags\nGLIBC_2.2.5";
        assert_eq!(newest_glibc(text), Some((2, 34)));
        assert_eq!(newest_glibc("nothing"), None);
    }
}
