//! What says whose a numbered directory is: a file, and a copy of it for when the file rots.
//!
//! ```text
//! 0001/identity.toml          the identity, and in the last line the CRC-32C of all lines before it:  # sum 1a2b3c4d
//!      identity-copy.toml     the same
//!      identity-unreadable    starts in a row that could read neither
//! ```
//! The copy is durable before the file changes, so it is never older: whoever cannot read the file finds in the copy what the file said, or what it was just about to say.
//! Knows nothing of what stands in an identity.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use sedge_core::crc::crc32c;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk;
use crate::durable_file::{self, Sync};

/// What stands in an identity file.
struct Said<T> {
    /// Without the sum.
    text: String,
    /// It had one.
    is_sealed: bool,
    identity: T,
}

/// Writes the identity of a directory that has no number yet: durable when this returns, but for the directory's own name.
pub(crate) fn write_first<T: Serialize>(dir: &Path, identity: &T) -> io::Result<()> {
    let bytes = sealed(&text_of(identity)?);
    durable_file::replace(&dir.join(COPY), &bytes, Sync::Yes)?;
    durable_file::write(&dir.join(IDENTITY), &bytes)
}

/// Replaces the identity of a directory, durably. The two files are never both in the making.
pub(crate) fn rewrite<T: Serialize>(dir: &Path, identity: &T) -> io::Result<()> {
    let bytes = sealed(&text_of(identity)?);
    durable_file::write(&dir.join(COPY), &bytes)?;
    durable_file::write(&dir.join(IDENTITY), &bytes)
}

/// What the identity of `dir` says, by its file or the copy of it. Writes nothing.
///
/// # Errors
/// When neither can be read, that which may pass, if one may. What cannot be understood is `InvalidData`.
pub fn read<T: DeserializeOwned>(dir: &Path) -> io::Result<T> {
    let said = match look(dir) {
        (Err(why), copied) if may_be_copied(&why) => copied.map_err(|e| graver(why, e)),
        (said, _) => said,
    };
    said.map(|said| said.identity)
}

/// The same, and each of the two is written anew that is not as it should be. A file that is damaged is set aside first. What cannot be written keeps nobody
/// from reading: the next start tries again.
pub(crate) fn read_and_mend<T: DeserializeOwned>(
    dir: &Path,
    set_aside: impl FnOnce(&Path, &str) -> io::Result<()>,
) -> io::Result<T> {
    let (file, of_copy) = (dir.join(IDENTITY), dir.join(COPY));
    let (why, said) = match look(dir) {
        (Ok(said), copied) => {
            tell_if_in_vain(&of_copy, mend_copy(&of_copy, &said, copied));
            return Ok(said.identity);
        }
        (Err(why), Ok(said)) if may_be_copied(&why) => (why, said),
        (Err(why), Err(e)) if may_be_copied(&why) => return Err(graver(why, e)),
        (Err(why), _) => return Err(why),
    };
    tracing::warn!(file = %file.display(), error = %why, "an identity file is damaged: its copy takes its place");
    let moved = match why.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => set_aside(&file, &why.to_string()),
    };
    let mended = moved.and_then(|()| durable_file::write(&file, &sealed(&said.text)));
    tell_if_in_vain(&file, mended);
    Ok(said.identity)
}

/// What the file says, and what its copy says.
fn look<T: DeserializeOwned>(dir: &Path) -> (io::Result<Said<T>>, io::Result<Said<T>>) {
    let [said, copied] = [IDENTITY, COPY].map(|name| read_said::<T>(&dir.join(name)));
    let no_sum = || Err(damaged("its sum is missing"));
    // A version that wrote no sum made no copy either: whatever has none beside a copy has lost its end.
    let copied = copied.and_then(|copy| if copy.is_sealed { Ok(copy) } else { no_sum() });
    match (&said, &copied) {
        (Ok(file), Ok(copy)) if !file.is_sealed && file.text != copy.text => (no_sum(), copied),
        _ => (said, copied),
    }
}

/// Writes the copy anew if it is not as `said` is. Only what could pass for a copy must be replaced durably: a thousand directories of a version that made none,
/// or whose copies a power cut has taken, need no thousand syncs.
fn mend_copy<T>(copy: &Path, said: &Said<T>, copied: io::Result<Said<T>>) -> io::Result<()> {
    let bytes = sealed(&said.text);
    match copied {
        Ok(copied) if copied.text == said.text => Ok(()),
        Ok(_) => durable_file::write(copy, &bytes),
        Err(why) => {
            if why.kind() != io::ErrorKind::NotFound {
                tracing::warn!(file = %copy.display(), error = %why, "the copy of an identity file is damaged: it is written anew");
            }
            durable_file::replace(copy, &bytes, Sync::No)
        }
    }
}

fn tell_if_in_vain(file: &Path, mended: io::Result<()>) {
    if let Err(error) = mended {
        tracing::warn!(file = %file.display(), %error, "it could not be written anew: the next start tries again");
    }
}

fn text_of<T: Serialize>(identity: &T) -> io::Result<String> {
    toml::to_string(identity).map_err(io::Error::other)
}

/// With its sum, so that no rot passes for another identity.
fn sealed(text: &str) -> Vec<u8> {
    let break_or_none = match text.ends_with('\n') || text.is_empty() {
        true => "",
        false => "\n",
    };
    let lines = format!("{text}{break_or_none}");
    let sum = crc32c(lines.as_bytes());
    format!("{lines}{SUM}{sum:08x}\n").into_bytes()
}

fn read_said<T: DeserializeOwned>(path: &Path) -> io::Result<Said<T>> {
    let mut text = disk::read_to_string(path)?;
    let sum = text.rfind(SUM);
    if let Some(at) = sum {
        if sealed(&text[..at]) != text.as_bytes() {
            return Err(damaged("its sum is wrong"));
        }
        text.truncate(at);
    }
    let identity = toml::from_str(&text).map_err(|e| damaged(&e.to_string()))?;
    Ok(Said {
        is_sealed: sum.is_some(),
        text,
        identity,
    })
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Of two errors the one that may pass.
fn graver(of_file: io::Error, of_copy: io::Error) -> io::Error {
    match is_foreign(&of_file) && !is_foreign(&of_copy) {
        true => of_copy,
        false => of_file,
    }
}

fn may_be_copied(e: &io::Error) -> bool {
    is_foreign(e) || is_unreadable(e)
}

/// The file is not ours, or not any more; the disk itself is fine.
pub(crate) fn is_foreign(e: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotADirectory, NotFound};
    matches!(e.kind(), InvalidData | NotADirectory | NotFound)
}

/// The medium does not give it, or the file system has found it damaged. Who may not read, or has too many files open, has lost nothing.
pub fn is_unreadable(e: &io::Error) -> bool {
    let media = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::NODATA];
    Errno::from_io_error(e).is_some_and(|errno| media.contains(&errno))
}

pub(crate) const IDENTITY: &str = "identity.toml";
const COPY: &str = "identity-copy.toml";
/// Counts starts that could read neither of them.
pub(crate) const UNREADABLE: &str = "identity-unreadable";
/// All that stands of an identity in its directory.
pub(crate) const FILES: [&str; 3] = [IDENTITY, COPY, UNREADABLE];
/// Begins the last line.
const SUM: &str = "# sum ";

/// What stands there cannot be read any more: of `/proc/self/mem` the first page never can.
#[cfg(test)]
pub(crate) fn make_unreadable(path: &Path) {
    std::fs::remove_file(path).ok();
    std::os::unix::fs::symlink("/proc/self/mem", path).unwrap();
    assert!(is_unreadable(&std::fs::read(path).unwrap_err()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    type Identity = BTreeMap<String, u64>;

    fn identity(end: u64) -> Identity {
        BTreeMap::from([("end".into(), end), ("shift".into(), 70)])
    }

    /// A directory with an identity, and where damaged files go.
    struct Given {
        dir: tempfile::TempDir,
        aside: tempfile::TempDir,
    }

    impl Given {
        fn new() -> Self {
            let [dir, aside] = [(); 2].map(|()| tempfile::tempdir().unwrap());
            write_first(dir.path(), &identity(9)).unwrap();
            Self { dir, aside }
        }

        fn bytes(&self, name: &str) -> Option<Vec<u8>> {
            fs::read(self.dir.path().join(name)).ok()
        }

        fn both(&self) -> [Option<Vec<u8>>; 2] {
            [IDENTITY, COPY].map(|name| self.bytes(name))
        }

        fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
            let path = self.dir.path().join(name);
            fs::remove_file(&path).ok();
            fs::write(path, bytes).unwrap();
        }

        fn make_unreadable(&self, name: &str) {
            make_unreadable(&self.dir.path().join(name));
        }

        fn start(&self) -> io::Result<Identity> {
            let looked_at = read(self.dir.path());
            let aside = self.aside.path();
            let found = read_and_mend(self.dir.path(), |file, _| {
                let free = aside.join(fs::read_dir(aside)?.count().to_string());
                fs::rename(file, free)
            });
            assert_eq!(looked_at.ok(), found.as_ref().ok().cloned());
            found
        }

        fn set_aside(&self) -> usize {
            fs::read_dir(self.aside.path()).unwrap().count()
        }
    }

    /// Whichever byte it is, and also where what it makes can be understood.
    #[test]
    fn a_bit_that_rots_in_either_file_is_nothing() {
        let given = Given::new();
        let sound = given.both();
        assert_eq!(sound[0], sound[1]);
        let sound = sound[0].clone().unwrap();
        for name in [IDENTITY, COPY] {
            for at in 0..8 * sound.len() {
                let mut rotten = sound.clone();
                rotten[at / 8] ^= 1 << (at % 8);
                given.write(name, &rotten);
                assert_eq!(given.start().unwrap(), identity(9), "{name}, bit {at}");
                assert_eq!(given.both(), [Some(sound.clone()), Some(sound.clone())]);
                given.write(IDENTITY, &sound);
                given.write(COPY, &sound);
            }
        }
        assert_eq!(given.set_aside(), 8 * sound.len(), "it is never deleted");
    }

    #[test]
    fn a_file_that_has_lost_its_end_is_damaged() {
        let given = Given::new();
        let sound = given.bytes(IDENTITY).unwrap();
        for end in 0..sound.len() {
            given.write(IDENTITY, &sound[..end]);
            assert_eq!(given.start().unwrap(), identity(9), "{end}");
            assert!(
                given
                    .bytes(IDENTITY)
                    .unwrap()
                    .starts_with(b"end = 9\nshift = 70\n")
            );
        }
        given.write(IDENTITY, "end = ");
        given.write(COPY, "end = 9\n");
        given.start().unwrap_err();
    }

    #[test]
    fn what_is_gone_or_cannot_be_read_is_in_the_other_file() {
        for name in [IDENTITY, COPY] {
            let given = Given::new();
            let sound = given.both();
            fs::remove_file(given.dir.path().join(name)).unwrap();
            assert_eq!(given.start().unwrap(), identity(9));
            assert_eq!(given.both(), sound);
            given.make_unreadable(name);
            assert_eq!(given.start().unwrap(), identity(9));
            assert_eq!(given.both(), sound);
        }
        let given = Given::new();
        given.make_unreadable(IDENTITY);
        given.write(COPY, "end = ");
        assert!(is_unreadable(&given.start().unwrap_err()));
        given.make_unreadable(COPY);
        given.write(IDENTITY, "end = ");
        assert!(is_unreadable(&given.start().unwrap_err()));
        assert_eq!(given.set_aside(), 0, "it may be there again tomorrow");
    }

    /// The power goes between the two: what was never said to be written may be there or not, but not the one now and the other later.
    #[test]
    fn a_change_that_came_to_one_of_the_two_files_is_settled_by_the_next_start() {
        let given = Given::new();
        let before = given.bytes(IDENTITY).unwrap();
        rewrite(given.dir.path(), &identity(10)).unwrap();
        let after = given.both();
        assert_eq!(after[0], after[1]);
        given.write(IDENTITY, &before);
        assert_eq!(given.start().unwrap(), identity(9));
        given.write(IDENTITY, "");
        assert_eq!(given.start().unwrap(), identity(9));
    }

    /// The copy is durable first, so that it is never older than what somebody relies on.
    #[test]
    fn nothing_changes_where_the_copy_cannot_be_written() {
        let given = Given::new();
        let before = given.both();
        fs::create_dir(given.dir.path().join(".new-identity-copy.toml")).unwrap();
        rewrite(given.dir.path(), &identity(10)).unwrap_err();
        assert_eq!(given.both(), before);
    }

    #[test]
    fn a_directory_of_a_version_before_gets_its_copy_at_the_next_start() {
        let given = Given::new();
        given.write(IDENTITY, "shift = 70\nend = 9\n");
        fs::remove_file(given.dir.path().join(COPY)).unwrap();
        assert_eq!(given.start().unwrap(), identity(9));
        assert_eq!(
            given.bytes(IDENTITY).unwrap(),
            b"shift = 70\nend = 9\n",
            "it is not touched before it changes"
        );
        given.write(IDENTITY, "shift = ");
        assert_eq!(given.start().unwrap(), identity(9));
    }

    /// The way to the set-aside directory, or the disk's room, may be what is wrong.
    #[test]
    fn what_cannot_be_written_anew_keeps_nobody_from_reading() {
        let given = Given::new();
        given.write(IDENTITY, "end = ");
        let refuse = |_: &Path, _: &str| Err(Errno::NOSPC.into());
        let found: io::Result<Identity> = read_and_mend(given.dir.path(), refuse);
        assert_eq!(found.unwrap(), identity(9));
        assert_eq!(given.bytes(IDENTITY).unwrap(), b"end = ");
    }
}
