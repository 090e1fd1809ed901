//! The directory that everything durable stands in: who holds it, what is where, what was set aside.
//!
//! ```text
//! data_dir/lock                          pid of the one process that holds it
//!          streams/0001/identity.toml    names stand in identity files, directories carry numbers; a copy stands beside each
//!          streams/0001/0000/log-0000/seg-00000.log
//!          set-aside/…                   what could not be understood; never deleted
//!          streams/0001/.gone-0002/      removed, but not to its last file: the next look finishes it
//! ```
//! It knows nothing of what the identities say, nor of logs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::system_clock;
use crate::disk::{self, File};
use crate::durable_file::{self, TEMPORARY};
use crate::identity::{self, IDENTITY};
use crate::media::is_full;
use crate::patience::Patience;

/// A data directory, held by this process until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    /// Numbered directories that could neither be made durable nor be unmade.
    half_made: Mutex<Vec<PathBuf>>,
    _lock: File,
}

/// A numbered directory and what its identity file says.
#[derive(Clone, Debug)]
pub struct Numbered<T> {
    /// The directory's number, which is its name.
    pub number: u32,
    /// Where it is.
    pub path: PathBuf,
    /// What `identity.toml` in it says.
    pub identity: T,
}

impl DataDir {
    /// Creates `root` if it is missing and takes its lock.
    ///
    /// # Errors
    /// [`DataDirError::Held`] when another process has it.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, DataDirError> {
        let root = root.into();
        let io = |source| DataDirError::Io {
            path: root.clone(),
            source,
        };
        durable_file::create_dir_all(&root).map_err(io)?;
        let mut lock = File::create_or_keep(root.join("lock")).map_err(io)?;
        if !lock.lock().map_err(io)? {
            return Err(DataDirError::Held {
                pid: pid_in(&mut lock),
                path: root,
            });
        }
        lock.set_len(0).map_err(io)?;
        match lock.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0) {
            // It is for people: who is refused is not told the pid then, but refused.
            Err(e) if is_full(&e) => {}
            written => written.map_err(io)?,
        }
        Ok(Self {
            root,
            half_made: Mutex::default(),
            _lock: lock,
        })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The numbered directories with identities of kind `T` in `within` (relative to the root), by number.
    /// What is there and is none of them is set aside.
    ///
    /// # Errors
    /// When the directory cannot be read or created.
    pub fn numbered<T>(&self, within: impl AsRef<Path>) -> io::Result<Section<'_, T>>
    where
        T: Serialize + DeserializeOwned,
    {
        let path = self.root.join(within);
        durable_file::create_dir_all(&path)?;
        self.unmake_half_made()?;
        durable_file::settle(&path)?;
        let (mut found, mut unread) = (Vec::new(), None);
        for entry in disk::read_dir(&path)? {
            let name = entry
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with(GONE) {
                remove_gone(&entry)?;
                continue;
            }
            if name.starts_with(TEMPORARY) || identity::FILES.contains(&&*name) {
                continue;
            }
            let Some(number) = number_of(&name) else {
                self.set_aside(&entry, "not a numbered directory")?;
                continue;
            };
            match self.identity_of(&entry) {
                Ok(identity) => found.push(Numbered {
                    number,
                    path: entry,
                    identity,
                }),
                Err(e) if identity::is_foreign(&e) => {
                    self.set_aside(&entry, &format!("{IDENTITY}: {e}"))?;
                }
                // The others that cannot be read need the same starts for their patience, and no more.
                Err(e) => unread = unread.or(Some(e)),
            }
        }
        if let Some(e) = unread {
            return Err(e);
        }
        found.sort_by_key(|n| n.number);
        Ok(Section {
            path,
            found,
            data: self,
        })
    }

    /// What the identity of the numbered directory `dir` says. Of its two files what is damaged is set aside, and each is written anew that is not as it should be.
    fn identity_of<T: DeserializeOwned>(&self, dir: &Path) -> io::Result<T> {
        let set_aside = |file: &Path, why: &str| self.set_aside(file, why).map(drop);
        let patience = Patience::with(dir.join(identity::UNREADABLE), system_clock()());
        match identity::read_and_mend(dir, set_aside) {
            Err(e) if identity::is_unreadable(&e) => {
                let name = dir.file_name().unwrap_or_default().to_string_lossy();
                patience.try_again_later(&format!("{name}/{IDENTITY}"), &e)?;
                Err(io::Error::new(io::ErrorKind::InvalidData, e))
            }
            Err(e) => Err(e),
            Ok(identity) => {
                patience.end()?;
                Ok(identity)
            }
        }
    }

    /// Makes the next directory for `identity` in `within`, durably, without a look at what the others say: with a thousand of them that would take longer
    /// than all the rest. [`Self::numbered`] was asked for them before.
    ///
    /// # Errors
    /// When it cannot be made; nothing is left half made.
    pub fn add<T: Serialize>(
        &self,
        within: impl AsRef<Path>,
        identity: T,
    ) -> io::Result<Numbered<T>> {
        let path = self.root.join(within);
        self.unmake_half_made()?;
        let there = disk::read_dir(&path)?;
        let numbers = there.iter().filter_map(|entry| {
            let name = entry.file_name().unwrap_or_default().to_string_lossy();
            number_of(&name)
        });
        let number = numbers.max().map_or(0, |last| last + 1);
        self.make(&path, number, identity)
    }

    fn make<T: Serialize>(
        &self,
        within: &Path,
        number: u32,
        identity: T,
    ) -> io::Result<Numbered<T>> {
        let path = within.join(format!("{number:04}"));
        let unfinished = within.join(format!("{TEMPORARY}{number:04}"));
        if disk::exists(&unfinished) {
            disk::remove_dir_all(&unfinished)?;
        }
        disk::create_dir(&unfinished)?;
        identity::write_first(&unfinished, &identity)?;
        disk::rename(&unfinished, &path)?;
        if let Err(e) = durable_file::sync_dir(within) {
            if unmake(&path).is_err() {
                self.half_made().push(path);
            }
            return Err(e);
        }
        Ok(Numbered {
            number,
            path,
            identity,
        })
    }

    /// Whoever asked for them was told that they were not made.
    fn unmake_half_made(&self) -> io::Result<()> {
        let mut half_made = self.half_made();
        while let Some(path) = half_made.last() {
            unmake(path)?;
            half_made.pop();
        }
        Ok(())
    }

    fn half_made(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.half_made
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves `path` into `set-aside/`, with a log line that says why.
    ///
    /// # Errors
    /// When it cannot be moved.
    pub fn set_aside(&self, path: &Path, why: &str) -> io::Result<PathBuf> {
        set_aside_into(&self.root.join(SET_ASIDE), path, why)
    }
}

/// The numbered directories of one kind.
#[derive(Debug)]
pub struct Section<'a, T> {
    path: PathBuf,
    found: Vec<Numbered<T>>,
    data: &'a DataDir,
}

impl<T: Serialize + Clone> Section<'_, T> {
    /// Makes the next directory for `identity`, durably.
    ///
    /// # Errors
    /// When it cannot be made; nothing is left half made.
    pub fn create(&mut self, identity: T) -> io::Result<Numbered<T>> {
        let number = self.found.last().map_or(0, |n| n.number + 1);
        let made = self.data.make(&self.path, number, identity)?;
        self.found.push(made.clone());
        Ok(made)
    }

    /// Those that are there, by number.
    pub fn found(&self) -> &[Numbered<T>] {
        &self.found
    }

    /// The first whose identity `is` the wanted one.
    pub fn find(&self, is: impl Fn(&T) -> bool) -> Option<&Numbered<T>> {
        self.found.iter().find(|n| is(&n.identity))
    }
}

impl<T: Serialize> Numbered<T> {
    /// Replaces the identity file, durably.
    ///
    /// # Errors
    /// When it cannot be written; the old one stays.
    pub fn rewrite(&mut self, identity: T) -> io::Result<()> {
        identity::rewrite(&self.path, &identity)?;
        self.identity = identity;
        Ok(())
    }

    /// Removes the directory, durably; its files follow with [`Gone::finish`], or when somebody looks at the directories beside it.
    ///
    /// # Errors
    /// When it cannot be renamed; then all of it is still there.
    pub fn remove(self) -> io::Result<Gone> {
        let parent = self.path.parent().unwrap_or(Path::new("."));
        let gone = parent.join(format!("{GONE}{:04}", self.number));
        remove_gone(&gone)?;
        disk::rename(&self.path, &gone)?;
        durable_file::sync_dir(parent)?;
        Ok(Gone(gone))
    }
}

/// A directory that is removed, and still takes space.
#[derive(Debug)]
#[must_use = "its space returns when it is finished"]
pub struct Gone(PathBuf);

impl Gone {
    /// Removes what is in it. Somebody else may be doing the same.
    ///
    /// # Errors
    /// When the file system refuses; the next look tries again.
    pub fn finish(self) -> io::Result<()> {
        remove_gone(&self.0)
    }
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("{} is held by another process{}", path.display(), pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Held {
        /// The pid it left in the lock file.
        pid: Option<u32>,
        /// The directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

/// Moves `path` into the directory `aside`, under a name that is free there.
pub(crate) fn set_aside_into(aside: &Path, path: &Path, why: &str) -> io::Result<PathBuf> {
    durable_file::create_dir_all(aside)?;
    let parent = path.parent().unwrap_or(Path::new("."));
    let within = parent.file_name().unwrap_or_default().to_string_lossy();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (0..)
        .map(|n| aside.join(format!("{n:04}-{within}-{name}")))
        .find(|to| !disk::exists(to))
        .expect("a free number exists");
    disk::rename(path, &free)?;
    durable_file::sync_dir(parent)?;
    durable_file::sync_dir(aside)?;
    tracing::warn!(file = %path.display(), to = %free.display(), why, "set aside");
    Ok(free)
}

/// The directory is one that is not finished, as it was before it got its number.
fn unmake(path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!("{TEMPORARY}{name}"));
    remove_gone(&unfinished)?;
    match disk::rename(path, &unfinished) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn remove_gone(path: &Path) -> io::Result<()> {
    match disk::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn pid_in(lock: &mut File) -> Option<u32> {
    lock.read_to_string().ok()?.trim().parse().ok()
}

fn number_of(name: &str) -> Option<u32> {
    (name.len() >= 4 && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok())?
}

pub(crate) const SET_ASIDE: &str = "set-aside";
/// Begins the name of every directory that is removed.
const GONE: &str = ".gone-";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Name;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Stream {
        name: Name,
    }

    fn stream(name: &str) -> Stream {
        Stream {
            name: Name::new(name).unwrap(),
        }
    }

    #[test]
    fn the_second_holder_is_told_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataDir::open(dir.path()).unwrap();
        let Err(DataDirError::Held { pid, .. }) = DataDir::open(dir.path()) else {
            panic!("two processes hold one directory");
        };
        assert_eq!(pid, Some(std::process::id()));
        drop(first);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn identities_come_back_with_their_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let mut streams = data.numbered::<Stream>("streams").unwrap();
        streams.create(stream("telemetry")).unwrap();
        streams.create(stream("alarms")).unwrap();
        let streams = data.numbered::<Stream>("streams").unwrap();
        let alarms = streams.find(|s| s.name.as_str() == "alarms").unwrap();
        assert_eq!((alarms.number, streams.found().len()), (1, 2));
    }

    /// The ones beside it are not opened: one cannot even be understood.
    #[test]
    fn a_directory_that_is_added_comes_behind_all_that_have_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let mut streams = data.numbered::<Stream>("streams").unwrap();
        streams.create(stream("telemetry")).unwrap();
        let foreign = dir.path().join("streams/0007");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join(IDENTITY), "name = \"../../etc\"").unwrap();
        assert_eq!(data.add("streams", stream("alarms")).unwrap().number, 8);
        assert!(foreign.exists());
        let streams = data.numbered::<Stream>("streams").unwrap();
        let found: Vec<_> = streams.found().iter().map(|n| n.number).collect();
        assert_eq!(found, [0, 8]);
    }

    /// Whoever asked for it was told that it was not made, and asks again: there must not be two then.
    #[test]
    fn a_directory_whose_name_could_not_be_made_durable_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let mut streams = data.numbered::<Stream>("streams").unwrap();
        let fails = dir.path().join("streams").join(disk::FAIL_SYNC_DIR);
        fs::write(&fails, "").unwrap();
        streams.create(stream("telemetry")).unwrap_err();
        fs::remove_file(&fails).unwrap();
        assert_eq!(data.add("streams", stream("telemetry")).unwrap().number, 0);
        let streams = data.numbered::<Stream>("streams").unwrap();
        assert_eq!(streams.found().len(), 1);
    }

    /// What an earlier attempt has made and could not sync is no base for anything.
    #[test]
    fn directories_are_not_shown_before_their_names_are_durable() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let mut streams = data.numbered::<Stream>("streams").unwrap();
        streams.create(stream("telemetry")).unwrap();
        let fails = dir.path().join("streams").join(disk::FAIL_SYNC_DIR);
        fs::write(&fails, "").unwrap();
        data.numbered::<Stream>("streams").unwrap_err();
        fs::remove_file(&fails).unwrap();
        assert_eq!(data.numbered::<Stream>("streams").unwrap().found().len(), 1);
    }

    /// The process is killed when the directory has its last name, before its files are gone.
    #[test]
    fn what_was_removed_is_gone_whenever_the_kill_came() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let mut streams = data.numbered::<Stream>("streams").unwrap();
        let removed = streams.create(stream("telemetry")).unwrap();
        streams.create(stream("alarms")).unwrap();
        fs::write(removed.path.join("seg-00000.log"), "bytes").unwrap();
        let unfinished = removed.remove().unwrap();
        assert!(unfinished.0.join("seg-00000.log").exists());
        let streams = data.numbered::<Stream>("streams").unwrap();
        assert_eq!(streams.found().len(), 1);
        assert!(!unfinished.0.exists() && !dir.path().join(SET_ASIDE).exists());
        unfinished.finish().unwrap();
    }

    #[test]
    fn what_is_foreign_is_set_aside_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.numbered::<Stream>("streams")
            .unwrap()
            .create(stream("telemetry"))
            .unwrap();
        let within = dir.path().join("streams");
        fs::write(within.join("notes.txt"), "mine").unwrap();
        fs::create_dir(within.join("0007")).unwrap();
        fs::write(within.join("0007/identity.toml"), "name = \"../../etc\"").unwrap();
        assert_eq!(data.numbered::<Stream>("streams").unwrap().found().len(), 1);
        assert_eq!(fs::read_dir(dir.path().join(SET_ASIDE)).unwrap().count(), 2);
        assert!(!within.join("notes.txt").exists());
    }

    #[test]
    fn a_directory_of_which_nobody_can_read_what_it_is_is_waited_for_and_then_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        let mut streams = data.numbered::<Stream>("streams").unwrap();
        let names = ["telemetry", "alarms", "audit"];
        let made = names.map(|name| streams.create(stream(name)).unwrap().path);
        for path in &made[..2] {
            for name in ["identity.toml", "identity-copy.toml"] {
                identity::make_unreadable(&path.join(name));
            }
        }
        let counted = |path: &Path| fs::read_to_string(path.join("identity-unreadable")).unwrap();
        let start = || data.numbered::<Stream>("streams");
        for _ in 0..5 {
            let error = start().unwrap_err().to_string();
            assert!(error.contains("/identity.toml cannot be read"), "{error}");
            let counts = made[..2].iter().map(|path| counted(path));
            assert!(counts.into_iter().all(|said| said.contains("opens = 1")));
        }
        fs::write(
            made[0].join("identity-unreadable"),
            "opens = 3\nlast_us = 0\n",
        )
        .unwrap();
        start().unwrap_err();
        assert!(!made[0].exists(), "only that one's patience was over");
        fs::write(
            made[1].join("identity-unreadable"),
            "opens = 2\nlast_us = 0\n",
        )
        .unwrap();
        start().unwrap_err();
        assert!(counted(&made[1]).contains("opens = 3"));
        // The disk gives it again.
        identity::rewrite(&made[1], &stream("alarms")).unwrap();
        let found = start().unwrap();
        assert!(found.find(|s| s.name.as_str() == "alarms").is_some());
        assert_eq!(found.found().len(), 2);
        assert!(!made[1].join("identity-unreadable").exists());
        assert_eq!(fs::read_dir(dir.path().join(SET_ASIDE)).unwrap().count(), 1);
    }
}
