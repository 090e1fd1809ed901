//! The file system, as this crate uses it: the kernel's, or the one of the [`World`](crate::world::World) that the thread is in.
//!
//! The functions are those of `std::fs` by name and meaning. A path is looked up when a file is opened; from then on the `File` knows where it belongs,
//! so that a write and a sync cost no more than the system calls.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, FlockOperation};
use rustix::io::Errno;
use sedge_core::planted::Fault;

use crate::world;

/// A file system that a simulation brings.
pub trait Files {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// As a kernel would.
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn Opened>>;
    /// What stands at `path`.
    fn kind(&self, path: &Path) -> Option<Kind>;
    /// Renames `from`, a file or a directory, and replaces a file that is called `to`.
    ///
    /// # Errors
    /// As a kernel would.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// As a kernel would.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    /// As a kernel would.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory.
    ///
    /// # Errors
    /// As a kernel would.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The paths of what stands in a directory.
    ///
    /// # Errors
    /// As a kernel would.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes durable what was made, renamed or removed in a directory.
    ///
    /// # Errors
    /// As a kernel would.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Bytes that are free on the disk of `path`.
    ///
    /// # Errors
    /// As a kernel would.
    fn free(&self, path: &Path) -> io::Result<u64>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To be read.
    Read,
    /// To be read and written.
    Write,
    /// To be written, empty; made if it is missing.
    Create,
    /// To be read and written as it is; made if it is missing.
    Keep,
}

/// What a path can lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// An open file of a simulated file system.
pub trait Opened: std::fmt::Debug + Send + Sync {
    /// Reads from `position` on; fewer bytes than there is room for where the file ends.
    ///
    /// # Errors
    /// As a kernel would.
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes all of `bytes`; what lies between the end of the file and `position` becomes zeros.
    ///
    /// # Errors
    /// As a kernel would.
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    /// The length of the file.
    ///
    /// # Errors
    /// As a kernel would.
    fn length(&self) -> io::Result<u64>;
    /// Cuts the file, or lengthens it with zeros; `reserve` takes the room for them.
    ///
    /// # Errors
    /// As a kernel would.
    fn set_len(&self, bytes: u64, reserve: bool) -> io::Result<()>;
    /// Makes what was written durable.
    ///
    /// # Errors
    /// As a kernel would: what was written since the last sync that succeeded may be lost.
    fn sync(&self) -> io::Result<()>;
    /// Reads come from the medium again.
    fn forget_cached(&self);
    /// Takes the file's lock for as long as it is open; `false` if somebody else has it.
    ///
    /// # Errors
    /// As a kernel would.
    fn lock(&self) -> io::Result<bool>;
}

/// An open file.
#[derive(Debug)]
pub(crate) enum File {
    Real(fs::File),
    Simulated(Box<dyn Opened>),
}

impl File {
    /// To be read.
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_as(path.as_ref(), Open::Read)
    }

    /// To be read and written.
    pub(crate) fn open_to_write(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_as(path.as_ref(), Open::Write)
    }

    /// To be written, empty.
    pub(crate) fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_as(path.as_ref(), Open::Create)
    }

    /// To be read and written as it is, or made.
    pub(crate) fn create_or_keep(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_as(path.as_ref(), Open::Keep)
    }

    fn open_as(path: &Path, how: Open) -> io::Result<Self> {
        if let Some(files) = simulated(path) {
            return files.open(path, how).map(Self::Simulated);
        }
        let mut options = fs::OpenOptions::new();
        match how {
            Open::Read => options.read(true),
            Open::Write => options.read(true).write(true),
            Open::Create => options.write(true).create(true).truncate(true),
            Open::Keep => options.read(true).write(true).create(true),
        };
        options.open(path).map(Self::Real)
    }

    pub(crate) fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::Real(file) => file.read_at(into, position),
            Self::Simulated(file) => file.read_at(into, position),
        }
    }

    /// Reads behind what `into` holds, as much as it has room for.
    pub(crate) fn read_into_spare(
        &self,
        into: &mut Vec<u8>,
        position: u64,
    ) -> Result<usize, Errno> {
        match self {
            Self::Real(file) => {
                rustix::io::pread(file, rustix::buffer::spare_capacity(into), position)
            }
            Self::Simulated(file) => {
                let held = into.len();
                into.resize(into.capacity(), 0);
                let read = file.read_at(&mut into[held..], position);
                into.truncate(held + read.as_ref().map_or(0, |n| *n));
                read.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
            }
        }
    }

    pub(crate) fn read_all(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Real(file) => {
                file.read_to_end(&mut bytes)?;
            }
            Self::Simulated(file) => {
                bytes.resize(usize::try_from(file.length()?).unwrap_or(0), 0);
                let read = file.read_at(&mut bytes, 0)?;
                bytes.truncate(read);
            }
        }
        Ok(bytes)
    }

    pub(crate) fn read_to_string(&mut self) -> io::Result<String> {
        let text = String::from_utf8(self.read_all()?);
        text.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        match self {
            #[cfg(test)]
            Self::Real(file) if worn_out::takes(file, bytes, position) => Ok(()),
            Self::Real(file) => file.write_all_at(bytes, position),
            Self::Simulated(file) => file.write_all_at(bytes, position),
        }
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Real(file) => Ok(file.metadata()?.len()),
            Self::Simulated(file) => file.length(),
        }
    }

    pub(crate) fn set_len(&self, bytes: u64) -> io::Result<()> {
        match self {
            Self::Real(file) => file.set_len(bytes),
            Self::Simulated(file) => file.set_len(bytes, false),
        }
    }

    /// Takes room on the disk for `bytes`.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<(), Errno> {
        match self {
            Self::Real(file) => rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes),
            Self::Simulated(file) => file
                .set_len(bytes, true)
                .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO)),
        }
    }

    /// The same; a file system that cannot take it in advance only has the file made so long.
    pub(crate) fn reserve_or_lengthen(&self, bytes: u64) -> io::Result<()> {
        match self.reserve(bytes) {
            Err(Errno::OPNOTSUPP) => self.set_len(bytes),
            reserved => Ok(reserved?),
        }
    }

    pub(crate) fn sync_all(&self) -> io::Result<()> {
        match self {
            #[cfg(test)]
            Self::Real(file) if worn_out::refuses(file) => Err(Errno::IO.into()),
            Self::Real(file) => file.sync_all(),
            Self::Simulated(file) => file.sync(),
        }
    }

    pub(crate) fn sync_data(&self) -> io::Result<()> {
        match self {
            #[cfg(test)]
            Self::Real(file) if worn_out::refuses(file) => Err(Errno::IO.into()),
            Self::Real(file) => Ok(rustix::fs::fdatasync(file)?),
            Self::Simulated(file) => file.sync(),
        }
    }

    /// Asks for the file to be at hand.
    pub(crate) fn will_need(&self) {
        if let Self::Real(file) = self {
            // A hint: without it the reading takes longer.
            rustix::fs::fadvise(file, 0, None, Advice::WillNeed).ok();
        }
    }

    /// Only what is asked for will be read: nothing behind it need be fetched.
    pub(crate) fn need_nothing_more(&self) {
        if let Self::Real(file) = self {
            // A hint: without it the disk reads more.
            rustix::fs::fadvise(file, 0, None, Advice::Random).ok();
        }
    }

    /// What is read next comes from the medium, not from memory.
    pub(crate) fn forget_cached(&self) -> io::Result<()> {
        match self {
            Self::Real(file) => Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?),
            Self::Simulated(file) => {
                file.forget_cached();
                Ok(())
            }
        }
    }

    /// `false`: somebody else holds it.
    pub(crate) fn lock(&self) -> io::Result<bool> {
        match self {
            Self::Real(file) => {
                match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => Ok(true),
                    Err(Errno::WOULDBLOCK) => Ok(false),
                    Err(e) => Err(e.into()),
                }
            }
            Self::Simulated(file) => file.lock(),
        }
    }
}

pub(crate) fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    match simulated(from.as_ref()) {
        None => fs::rename(from, to),
        Some(files) => files.rename(from.as_ref(), to.as_ref()),
    }
}

pub(crate) fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    match simulated(path.as_ref()) {
        None => fs::remove_file(path),
        Some(files) => files.remove_file(path.as_ref()),
    }
}

pub(crate) fn remove_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    match simulated(path.as_ref()) {
        None => fs::remove_dir_all(path),
        Some(files) => files.remove_dir_all(path.as_ref()),
    }
}

pub(crate) fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    match simulated(path.as_ref()) {
        None => fs::create_dir(path),
        Some(files) => files.create_dir(path.as_ref()),
    }
}

/// The paths of what stands in a directory, in any order.
///
/// # Errors
/// When it cannot be read.
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<Vec<PathBuf>> {
    match simulated(path.as_ref()) {
        None => fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect(),
        Some(files) => files.read_dir(path.as_ref()),
    }
}

pub(crate) fn sync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    if Fault::SkipDirectorySync.is_planted() {
        return Ok(());
    }
    #[cfg(test)]
    if path.as_ref().join(FAIL_SYNC_DIR).exists() {
        return Err(Errno::IO.into());
    }
    match simulated(path.as_ref()) {
        None => fs::File::open(path)?.sync_all(),
        Some(files) => files.sync_dir(path.as_ref()),
    }
}

pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    File::open(path)?.read_all()
}

pub(crate) fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    File::open(path)?.read_to_string()
}

/// Bytes of the file at `path`.
///
/// # Errors
/// When there is none.
pub fn len(path: &Path) -> io::Result<u64> {
    File::open(path)?.len()
}

/// Bytes that are free for us on the disk of `path`.
///
/// # Errors
/// When it does not say.
pub fn free(path: &Path) -> io::Result<u64> {
    match simulated(path) {
        None => {
            let space = rustix::fs::statvfs(path)?;
            Ok(space.f_bavail.saturating_mul(space.f_frsize))
        }
        Some(files) => files.free(path),
    }
}

pub(crate) fn exists(path: &Path) -> bool {
    match simulated(path) {
        None => path.exists(),
        Some(files) => files.kind(path).is_some(),
    }
}

/// Whether `path` leads to a directory.
pub fn is_dir(path: &Path) -> bool {
    match simulated(path) {
        None => path.is_dir(),
        Some(files) => files.kind(path) == Some(Kind::Directory),
    }
}

fn simulated(path: &Path) -> Option<Arc<dyn Files>> {
    world::current()?.files(path)
}

/// While this file stands in a directory, the directory cannot be synced.
#[cfg(test)]
pub(crate) const FAIL_SYNC_DIR: &str = "fail-sync-dir";

/// Places of files that can be read and not written.
#[cfg(test)]
pub(crate) mod worn_out {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;
    use std::sync::{Mutex, MutexGuard};

    /// By device and inode: the place, and whether a sync is to write it.
    static PLACES: Mutex<BTreeMap<(u64, u64), (u64, bool)>> = Mutex::new(BTreeMap::new());

    fn places() -> MutexGuard<'static, BTreeMap<(u64, u64), (u64, bool)>> {
        PLACES.lock().expect("nobody panics with it")
    }

    fn id(file: &File) -> (u64, u64) {
        let of = file.metadata().expect("it is open");
        (of.dev(), of.ino())
    }

    /// As long as this lives, a sync that is to write the byte at `position` fails, each time.
    pub(crate) fn wear(path: &Path, position: u64) -> Worn {
        let file = File::open(path).expect("it is there");
        places().insert(id(&file), (position, false));
        Worn(file)
    }

    /// As long as it is open its inode is given to no other file.
    pub(crate) struct Worn(File);

    impl Drop for Worn {
        fn drop(&mut self) {
            places().remove(&id(&self.0));
        }
    }

    /// Whether the write came to a worn place; what is beside that is not written either.
    pub(super) fn takes(file: &File, bytes: &[u8], position: u64) -> bool {
        let mut places = places();
        let place = (!places.is_empty()).then(|| places.get_mut(&id(file)));
        let Some((at, is_due)) = place.flatten() else {
            return false;
        };
        let is_hit = (position..position + bytes.len() as u64).contains(at);
        *is_due |= is_hit;
        is_hit
    }

    pub(super) fn refuses(file: &File) -> bool {
        let mut places = places();
        let place = (!places.is_empty()).then(|| places.get_mut(&id(file)));
        place
            .flatten()
            .is_some_and(|(_, is_due)| std::mem::take(is_due))
    }
}
