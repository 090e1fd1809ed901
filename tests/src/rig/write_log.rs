//! An ext4 whose every block write and flush is logged, so that a power cut can be played at any of them afterwards.
//!
//! ```text
//! ext4 ── loop device ── FUSE export of qemu-storage-daemon ── blklogwrites ──► image
//!                                                                  └─────────► log (the format of the kernel's dm-log-writes)
//! ```
//! A device that flushes honestly keeps what was written before the last flush, and of what was written after it any subset of sectors.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::daemon::Daemon;
use super::scratch::{Ext4, copy_sparse, format, run, unmount};
use super::{Missing, eventually};
use crate::random::Random;

/// A mounted ext4 with a log of its writes.
#[derive(Debug)]
pub struct LoggedExt4 {
    // Ended after the file system is unmounted, before its files go.
    _storage: Daemon,
    folder: TempDir,
}

impl LoggedExt4 {
    /// Makes one of `mib` MiB.
    ///
    /// # Errors
    /// What this machine lacks for it.
    ///
    /// # Panics
    /// If the disk does not take its files.
    pub fn create(mib: u64) -> Result<Self, Missing> {
        let folder = TempDir::new().expect("a temporary directory");
        let file = |name: &str| folder.path().join(name);
        format(&file("base"), mib)?;
        copy_sparse(&file("base"), &file("image"));
        File::create(file("log")).expect("a log file");
        File::create(file("device")).expect("a mount point for one file");
        std::fs::create_dir(file("mounted")).expect("a mount point");
        let found = Command::new("qemu-storage-daemon")
            .arg("--version")
            .output();
        found.map_err(|_| Missing::Program("qemu-storage-daemon"))?;
        let mut command = Command::new("qemu-storage-daemon");
        for (option, value) in [
            (
                "--blockdev",
                format!(
                    "driver=file,node-name=image,filename={}",
                    file("image").display()
                ),
            ),
            (
                "--blockdev",
                format!(
                    "driver=file,node-name=log,filename={}",
                    file("log").display()
                ),
            ),
            ("--blockdev", LOGGING.to_owned()),
            (
                "--export",
                format!("{EXPORT},mountpoint={}", file("device").display()),
            ),
        ] {
            command.arg(option).arg(value);
        }
        let mut storage = Daemon::start("qemu-storage-daemon", &mut command, &file("storage.log"));
        let exported = eventually(Duration::from_secs(10), "the device is exported", || {
            let there = std::fs::metadata(file("device")).is_ok_and(|device| device.len() > 0);
            if there {
                Some(true)
            } else {
                storage.exit_status().map(|_| false)
            }
        });
        if !exported {
            return Err(Missing::Machine(format!(
                "no FUSE export: {}",
                storage.printed().trim()
            )));
        }
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "ext4", "-o", "loop"])
            .arg(file("device"))
            .arg(file("mounted"));
        run("mount", &mut mount)?;
        Ok(Self {
            _storage: storage,
            folder,
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// Writes and flushes logged so far.
    ///
    /// # Panics
    /// If the log cannot be read.
    #[must_use]
    pub fn entries(&self) -> u64 {
        let mut head = [0; 24];
        let log = File::open(self.folder.path().join("log")).expect("the log is there");
        log.read_exact_at(&mut head, 0).expect("the log has a head");
        u64::from_le_bytes(head[16..].try_into().expect("eight bytes"))
    }

    /// The disk as a power cut after the first `entries` of the log may have left it: all that was flushed, and of the rest some sectors.
    ///
    /// # Errors
    /// If it cannot be mounted: that is a finding, not a missing tool.
    ///
    /// # Panics
    /// If the log cannot be read.
    pub fn after_power_cut(&self, entries: u64, chance: &mut Random) -> Result<Ext4, Missing> {
        Ext4::of(|image| {
            copy_sparse(&self.folder.path().join("base"), image);
            let log = File::open(self.folder.path().join("log")).expect("the log is there");
            let image = File::options()
                .write(true)
                .open(image)
                .expect("an image file");
            replay(&log, entries, &image, chance);
        })
    }
}

impl Drop for LoggedExt4 {
    fn drop(&mut self) {
        unmount(&self.path());
    }
}

/// One write or flush.
struct Logged {
    sector: u64,
    sectors: u64,
    flags: u64,
    /// Where its data stands in the log.
    data_at: u64,
}

fn replay(log: &File, entries: u64, image: &File, chance: &mut Random) {
    let logged = read_log(log, entries);
    let flush = logged.iter().rposition(|logged| logged.flags & FLUSH != 0);
    let (flushed, rest) = logged.split_at(flush.map_or(0, |last| last + 1));
    for write in flushed {
        write.copy(log, image, 0, write.sectors);
    }
    for write in rest {
        match chance.below(4) {
            0 => {}
            1 => (0..write.sectors)
                .filter(|_| chance.one_in(2))
                .for_each(|sector| write.copy(log, image, sector, 1)),
            _ => write.copy(log, image, 0, write.sectors),
        }
    }
}

impl Logged {
    /// Plays `count` of its sectors from `first` on.
    fn copy(&self, log: &File, image: &File, first: u64, count: u64) {
        let mut data = vec![0; (count * SECTOR_BYTES) as usize];
        log.read_exact_at(&mut data, self.data_at + first * SECTOR_BYTES)
            .expect("the log is whole");
        image
            .write_all_at(&data, (self.sector + first) * SECTOR_BYTES)
            .expect("the image takes it");
    }
}

fn read_log(log: &File, entries: u64) -> Vec<Logged> {
    let mut at = SECTOR_BYTES;
    let mut logged = Vec::new();
    for _ in 0..entries {
        let mut entry = [0; 24];
        log.read_exact_at(&mut entry, at).expect("the log is whole");
        let [sector, sectors, flags] = [0, 8, 16].map(|field| {
            u64::from_le_bytes(entry[field..field + 8].try_into().expect("eight bytes"))
        });
        let data_at = at + SECTOR_BYTES;
        let data_sectors = if flags & DISCARD == 0 { sectors } else { 0 };
        at = data_at + data_sectors * SECTOR_BYTES;
        logged.push(Logged {
            sector,
            sectors: data_sectors,
            flags,
            data_at,
        });
    }
    logged
}

const LOGGING: &str =
    "driver=blklogwrites,node-name=logging,file=image,log=log,log-super-update-interval=1";
const EXPORT: &str = "type=fuse,id=device,node-name=logging,writable=on";
/// The log's default unit, which is also what a device writes whole.
const SECTOR_BYTES: u64 = 512;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

#[cfg(test)]
mod tests {
    use super::LoggedExt4;
    use crate::random::Random;
    use crate::rig::skip;
    use std::fs::File;

    #[test]
    fn what_was_synced_is_there_after_the_cut_and_what_came_later_is_not() {
        let disk = match LoggedExt4::create(32) {
            Ok(disk) => disk,
            Err(missing) => return skip("write_log", &missing),
        };
        let synced = disk.path().join("synced");
        std::fs::write(&synced, b"kept").unwrap();
        File::open(&synced).unwrap().sync_all().unwrap();
        File::open(disk.path()).unwrap().sync_all().unwrap();
        let entries = disk.entries();
        std::fs::write(disk.path().join("later"), b"gone").unwrap();
        rustix::fs::syncfs(File::open(disk.path()).unwrap()).unwrap();

        let cut = disk.after_power_cut(entries, &mut Random::new(1)).unwrap();
        assert_eq!(std::fs::read(cut.path().join("synced")).unwrap(), b"kept");
        assert!(!cut.path().join("later").exists());
    }
}
