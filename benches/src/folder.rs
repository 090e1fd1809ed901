//! Where a run's data is: on an ext4 of its own if this machine gives one, else in the temporary directory, but never in memory.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use sedge_tests::rig::scratch::Ext4;
use tempfile::TempDir;

/// A place for data that is removed with it.
#[derive(Debug)]
pub enum Folder {
    /// What is written to its device was written here.
    OwnDisk(Ext4),
    /// A directory beside others.
    Shared(TempDir),
}

impl Folder {
    /// A file system of `mib` MiB with nothing else on it; a shared one if that needs rights or tools that are not there.
    ///
    /// # Errors
    /// If it would be in memory: a sync costs nothing there, and that is what is measured.
    pub fn own_disk(mib: u64) -> Result<Self> {
        on_a_disk(&std::env::temp_dir())?;
        match Ext4::create(mib) {
            Ok(disk) => Ok(Self::OwnDisk(disk)),
            Err(_) => Self::shared(),
        }
    }

    /// A directory in the temporary one.
    ///
    /// # Errors
    /// As [`Self::own_disk`].
    pub fn shared() -> Result<Self> {
        let folder = TempDir::new()?;
        on_a_disk(folder.path())?;
        Ok(Self::Shared(folder))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::OwnDisk(disk) => disk.path(),
            Self::Shared(folder) => folder.path().to_path_buf(),
        }
    }
}

fn on_a_disk(path: &Path) -> Result<()> {
    ensure!(
        rustix::fs::statfs(path)?.f_type != TMPFS_MAGIC,
        "{} is in memory: name a directory on a disk as TMPDIR",
        path.display()
    );
    Ok(())
}

/// Linux's number of tmpfs.
const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::on_a_disk;

    #[test]
    fn a_folder_in_memory_is_refused() {
        assert!(on_a_disk(Path::new(env!("CARGO_MANIFEST_DIR"))).is_ok());
        // Linux keeps POSIX shared memory here.
        assert!(on_a_disk(Path::new("/dev/shm")).is_err());
    }
}
