//! Places for data: a temporary directory, a tmpfs, or an ext4 of its own on a loop device, whose image can be copied as a power cut leaves it; and a file of
//! somebody else's that takes as much of it as a test wants taken.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Missing, tell};

/// An ext4 file system on a loop device, mounted; unmounted and removed when this value goes.
#[derive(Debug)]
pub struct Ext4 {
    folder: TempDir,
}

impl Ext4 {
    /// Makes one of `mib` MiB.
    ///
    /// # Errors
    /// What this machine lacks for it.
    pub fn create(mib: u64) -> Result<Self, Missing> {
        let disk = Self {
            folder: TempDir::new().expect("a temporary directory"),
        };
        format(&disk.image(), mib)?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// A second disk with what this one's device holds at this moment: what has not been written to the device is not in it.
    ///
    /// # Errors
    /// If it cannot be mounted: that is a finding, not a missing tool.
    pub fn as_after_power_cut(&self) -> Result<Self, Missing> {
        Self::of(|image| copy_sparse(&self.image(), image))
    }

    /// Mounts the image that `make` makes.
    ///
    /// # Errors
    /// As [`Self::as_after_power_cut`].
    pub fn of(make: impl FnOnce(&Path)) -> Result<Self, Missing> {
        let disk = Self {
            folder: TempDir::new().expect("a temporary directory"),
        };
        make(&disk.image());
        disk.mount()?;
        Ok(disk)
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&self) -> Result<(), Missing> {
        std::fs::create_dir_all(self.path()).expect("a mount point");
        run(
            "mount",
            Command::new("mount")
                .args(["-t", "ext4", "-o", "loop"])
                .arg(self.image())
                .arg(self.path()),
        )
    }
}

/// Makes an empty ext4 of `mib` MiB, with the block size of a disk that is larger.
///
/// # Errors
/// If mkfs is not there.
pub fn format(image: &Path, mib: u64) -> Result<(), Missing> {
    let file = File::create(image).expect("an image file");
    file.set_len(mib << 20).expect("an image file");
    run(
        "mkfs.ext4",
        Command::new("mkfs.ext4")
            .args(["-q", "-F", "-b", "4096"])
            .arg(image),
    )
}

/// Copies a file and leaves out what is empty.
///
/// # Panics
/// If that fails.
pub fn copy_sparse(from: &Path, to: &Path) {
    let copied = Command::new("cp")
        .arg("--sparse=always")
        .arg(from)
        .arg(to)
        .status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "cannot copy {}",
        from.display()
    );
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        unmount(&self.path());
    }
}

/// A file system in memory, mounted; unmounted when this value goes.
#[derive(Debug)]
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Makes one of `kib` KiB.
    ///
    /// # Errors
    /// What this machine lacks for it.
    pub fn create(kib: u64) -> Result<Self, Missing> {
        let folder = TempDir::new().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={kib}k"), "tmpfs"]);
        run("mount", mount.arg(folder.path()))?;
        Ok(Self { folder })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.path());
    }
}

/// Somebody else's file, which takes all of a disk but what it is told to leave.
#[derive(Debug)]
pub struct Ballast {
    path: PathBuf,
}

impl Ballast {
    /// Fills the disk at `folder` to the last byte, and then gives `free_kib` KiB back.
    ///
    /// # Panics
    /// If the file cannot be made.
    #[must_use]
    pub fn leaving(free_kib: u64, folder: &Path) -> Self {
        let path = folder.join("somebody-elses");
        let mut file = File::create(&path).expect("a file");
        for bytes in [1 << 20, 4096, 1] {
            let piece = vec![0x55; bytes];
            while file.write_all(&piece).is_ok() {}
        }
        let taken = file.metadata().expect("our own file").len();
        let rest = taken.saturating_sub(free_kib << 10);
        file.set_len(rest).expect("a file can be made smaller");
        // What was given back is free once it is written down that it is.
        file.sync_all().expect("a disk that is full can be synced");
        Self { path }
    }

    /// Gives everything back.
    ///
    /// # Panics
    /// If it is gone already.
    pub fn remove(self) {
        std::fs::remove_file(&self.path).expect("our own file");
    }
}

/// Unmounts `path` if something is mounted there.
pub(super) fn unmount(path: &Path) {
    if is_mount_point(path) {
        let unmounted = Command::new("umount").arg(path).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            tell(&format!(
                "left mounted, something still uses it: {}",
                path.display()
            ));
        }
    }
}

fn is_mount_point(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .any(|line| line.split(' ').nth(1) == path.to_str())
}

pub(super) fn run(program: &'static str, command: &mut Command) -> Result<(), Missing> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|_| Missing::Program(program))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Missing::Machine(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
