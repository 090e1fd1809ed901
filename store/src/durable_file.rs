//! Small files that must be whole after a power cut: written under a temporary name, synced,
//! renamed, and the directory synced. Segments are not such files, see `media.rs`.

use std::io;
use std::path::Path;

use sedge_core::planted::Fault;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::{self, File};

pub(crate) use crate::disk::sync_dir;

/// Replaces `path` by `bytes`; afterwards the old or the new content is there, never a mixture.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, Sync::Yes)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// The same without the sync of the directory: a power cut may take it back.
pub(crate) fn replace(path: &Path, bytes: &[u8], sync: Sync) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!("{TEMPORARY}{name}"));
    let file = File::create(&temporary)?;
    file.write_all_at(bytes, 0)?;
    if sync == Sync::Yes && !Fault::RenameBeforeSync.is_planted() {
        file.sync_all()?;
    }
    disk::rename(&temporary, path)
}

/// Whether the content is durable before the file has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Yes,
    /// For what can do without: after a power cut it may be anything.
    No,
}

/// Removes `path`, durably, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match disk::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => sync_dir(path.parent().unwrap_or(Path::new("."))),
    }
}

/// Creates `dir` and what is missing above it, durably.
pub(crate) fn create_dir_all(dir: &Path) -> io::Result<()> {
    if disk::is_dir(dir) {
        return Ok(());
    }
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_dir_all(parent)?;
    }
    match disk::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    dir.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .map_or(Ok(()), sync_dir)
}

/// Makes durable what an earlier attempt may have made or renamed in `dir`, and `dir` itself where it stands: it may have failed at just that, and whoever
/// finds it now relies on it.
pub(crate) fn settle(dir: &Path) -> io::Result<()> {
    sync_dir(dir)?;
    dir.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .map_or(Ok(()), sync_dir)
}

/// Writes `value` as TOML, durably.
pub fn write_toml<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let text = toml::to_string(value).map_err(io::Error::other)?;
    write(path, text.as_bytes())
}

/// Reads a TOML file. What cannot be understood is `InvalidData`.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let text = disk::read_to_string(path)?;
    toml::from_str(&text).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// Begins the name of every file and directory that is not finished.
pub(crate) const TEMPORARY: &str = ".new-";
