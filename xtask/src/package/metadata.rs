//! What `agent/Cargo.toml` says of the Debian package, in the words of `cargo deb`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use toml::{Table, Value};

use super::in_workspace;

/// `[package.metadata.deb]`, with what stands around it.
pub(super) struct Metadata {
    pub(super) version: String,
    pub(super) assets: Vec<Asset>,
    /// The folder of the maintainer's scripts.
    pub(super) scripts: PathBuf,
    description: String,
    deb: Table,
}

/// A file, or several, and where they go.
pub(super) struct Asset {
    source: String,
    to: String,
    pub(super) mode: u32,
}

impl Metadata {
    pub(super) fn read() -> Result<Self> {
        let workspace = table("Cargo.toml")?;
        let agent = table(MANIFEST)?;
        let version = at(&workspace, &["workspace", "package", "version"])?;
        let description = at(&agent, &["package", "description"])?;
        let deb = at(&agent, &["package", "metadata", "deb"])?;
        let deb = deb.as_table().context("the metadata are a table")?.clone();
        let assets = deb["assets"].as_array().context("assets are a list")?;
        Ok(Self {
            version: words(version)?,
            description: words(description)?,
            assets: assets.iter().map(Asset::of).collect::<Result<_>>()?,
            scripts: in_agent(&words(at(&deb, &["maintainer-scripts"])?)?),
            deb,
        })
    }

    /// The version of glibc that the package asks for.
    pub(super) fn glibc(&self) -> Result<(u32, u32)> {
        let depends = words(at(&self.deb, &["depends"])?)?;
        let asked = depends.split("libc6 (>= ").nth(1);
        let asked = asked.and_then(|rest| version(rest.split(')').next()?));
        asked.context("the package depends on no libc6")
    }

    /// The file that tells dpkg of the package.
    pub(super) fn control(&self, architecture: &str, installed_kib: u64) -> String {
        let deb = |key: &str| self.deb[key].as_str().unwrap_or_default();
        let more = deb("extended-description").trim();
        let more = more.lines().map(|line| format!(" {line}\n"));
        format!(
            "Package: sedge\nVersion: {}\nArchitecture: {architecture}\nMaintainer: {}\nInstalled-Size: {installed_kib}\n\
             Depends: {}\nSection: {}\nPriority: {}\nDescription: {}\n{}",
            self.version,
            deb("maintainer"),
            deb("depends"),
            deb("section"),
            deb("priority"),
            self.description,
            more.collect::<String>(),
        )
    }
}

impl Asset {
    fn of(value: &Value) -> Result<Self> {
        let parts = value.as_array().context("an asset is a list")?;
        let [source, to, mode] = &parts[..] else {
            anyhow::bail!("an asset is a source, a place and a mode: {value:?}");
        };
        Ok(Self {
            source: words(source)?,
            to: words(to)?,
            mode: u32::from_str_radix(&words(mode)?, 8)?,
        })
    }

    /// Whether it is what cargo built.
    pub(super) fn is_program(&self) -> bool {
        self.source == "target/release/sedge"
    }

    /// The files that it stands for. `*` may be in their names, once.
    pub(super) fn sources(&self) -> Result<Vec<PathBuf>> {
        let path = in_agent(&self.source);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some((begin, end)) = name.split_once('*') else {
            return Ok(vec![path]);
        };
        let folder = path.parent().context("a file stands in a folder")?;
        let mut found = Vec::new();
        for entry in folder.read_dir().with_context(|| self.source.clone())? {
            let name = entry?.file_name();
            let text = name.to_string_lossy();
            if text.starts_with(begin) && text.ends_with(end) {
                found.push(folder.join(name));
            }
        }
        ensure!(!found.is_empty(), "{}: there is none", self.source);
        found.sort();
        Ok(found)
    }

    /// Where a file of this name goes.
    pub(super) fn place(&self, name: &OsStr) -> PathBuf {
        match self.to.ends_with('/') {
            true => Path::new(&self.to).join(name),
            false => PathBuf::from(&self.to),
        }
    }
}

/// The first two numbers of a version.
pub(super) fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

fn table(path: &str) -> Result<Table> {
    let text = std::fs::read_to_string(in_workspace(path)).with_context(|| path.to_owned())?;
    Ok(text.parse()?)
}

fn at<'a>(table: &'a Table, keys: &[&str]) -> Result<&'a Value> {
    let (first, rest) = keys.split_first().context("a key")?;
    let mut value = table.get(*first).with_context(|| format!("no {first}"))?;
    for key in rest {
        value = value.get(key).with_context(|| format!("no {key}"))?;
    }
    Ok(value)
}

fn words(value: &Value) -> Result<String> {
    let text = value
        .as_str()
        .with_context(|| format!("no text: {value:?}"))?;
    Ok(text.to_owned())
}

/// Paths are seen from the manifest. What the build makes is in its folder, wherever that is.
fn in_agent(path: &str) -> PathBuf {
    match path.strip_prefix("../target/") {
        Some(built) => crate::run::target_folder().join(built),
        None => in_workspace("agent").join(path),
    }
}

const MANIFEST: &str = "agent/Cargo.toml";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_has_its_program_its_units_and_a_word_on_its_libraries() {
        let metadata = Metadata::read().expect("it can be read");
        assert!(metadata.assets.iter().any(Asset::is_program));
        let units = metadata
            .assets
            .iter()
            .filter(|asset| asset.source.ends_with(".service"));
        for unit in units {
            assert_eq!(unit.sources().expect("it is there").len(), 1);
            assert_eq!(unit.mode, 0o644);
        }
        assert!(metadata.glibc().expect("a version") >= (2, 17));
        let control = metadata.control("arm64", 1);
        assert!(control.lines().all(|line| !line.is_empty()), "{control}");
    }

    #[test]
    fn a_file_goes_into_a_folder_under_its_name_or_where_it_is_told() {
        let asset = |to: &str| Asset {
            source: "x".into(),
            to: to.into(),
            mode: 0o644,
        };
        let name = OsStr::new("sedge.1");
        assert_eq!(asset("usr/man/").place(name), Path::new("usr/man/sedge.1"));
        assert_eq!(asset("usr/_sedge").place(name), Path::new("usr/_sedge"));
    }
}
