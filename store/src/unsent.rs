//! From which offset on nothing of a log has left for an uplink, in this life and those before it: a file beside the log.
//!
//! ```text
//! 0000/unsent    log id, offset, and the CRC-32C of the two:  0a1b… 97 1a2b3c4d
//! ```
//! It is written before the first commit of a life in which nothing has left yet, and removed before something leaves. So without it nothing is known. A hub that
//! goes on behind that offset has what it has there from another history of the log: of a disk that was put back since, or of a clone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use sedge_core::crc::crc32c;
use sedge_core::{LogId, Offset};

use crate::disk;
use crate::durable_file;

/// What is kept of it, and what this life has done.
#[derive(Debug)]
pub(crate) struct Unsent {
    file: PathBuf,
    log: LogId,
    /// What lives before this one have left.
    known: Option<Offset>,
    stands: Mutex<Stands>,
}

/// Whether the file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// It is not, and nothing has left.
    Missing,
    /// It may be.
    Written,
    /// Something may have left: it is not written any more.
    Sent,
}

impl Unsent {
    /// As lives before this one have left it in `dir`.
    pub(crate) fn of(dir: &Path, log: LogId) -> Self {
        let file = dir.join(UNSENT);
        let (known, stands) = match disk::read_to_string(&file) {
            Ok(text) => {
                let known = offset_in(&text, log);
                (known, known.map_or(Stands::Missing, |_| Stands::Written))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => (None, Stands::Missing),
            // It may be there again tomorrow.
            Err(_) => (None, Stands::Written),
        };
        Self {
            file,
            log,
            known,
            stands: Mutex::new(stands),
        }
    }

    /// Nothing at or behind this had left when this life began.
    pub(crate) const fn known(&self) -> Option<Offset> {
        self.known
    }

    /// Something is about to be committed, and nothing at or behind `from` has left: that is durable when this returns. A disk that does not take it keeps nobody
    /// from going on, and is asked once in a life.
    pub(crate) fn keep(&self, from: impl FnOnce() -> Offset) {
        let mut stands = self.lock();
        if *stands != Stands::Missing {
            return;
        }
        *stands = Stands::Written;
        let line = line(self.log, from());
        if let Err(error) = durable_file::write(&self.file, line.as_bytes()) {
            tracing::debug!(file = %self.file.display(), %error, "from where on nothing was sent is not kept");
        }
    }

    /// Something is about to leave. Where the file cannot be removed that is no reason to keep it back: what is lost may be counted too high then.
    pub(crate) fn sends(&self) {
        let mut stands = self.lock();
        let before = std::mem::replace(&mut *stands, Stands::Sent);
        if before != Stands::Written {
            return;
        }
        if let Err(error) = durable_file::remove(&self.file) {
            tracing::warn!(file = %self.file.display(), %error, "it cannot be removed: if the log is evicted before the next session, too much may be counted as lost");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Stands> {
        self.stands.lock().expect("no holder panics")
    }
}

fn line(log: LogId, from: Offset) -> String {
    let said = format!("{log} {}", from.get());
    let sum = crc32c(said.as_bytes());
    format!("{said} {sum:08x}\n")
}

/// What `text` says of `log`; `None` if it is damaged, or about another one.
fn offset_in(text: &str, log: LogId) -> Option<Offset> {
    let from = Offset::new(text.split(' ').nth(1)?.parse().ok()?);
    (text == line(log, from)).then_some(from)
}

/// Its name.
pub(crate) const UNSENT: &str = "unsent";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LOG: LogId = LogId::new([7; 16]);

    fn at(offset: u64) -> impl FnOnce() -> Offset {
        move || Offset::new(offset)
    }

    /// Two lives without a session, then one with: the first of the two says from where on.
    #[test]
    fn it_is_known_until_something_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let life = || Unsent::of(dir.path(), LOG);
        let first = life();
        assert_eq!(first.known(), None);
        first.keep(at(97));
        let second = life();
        second.keep(at(188));
        assert_eq!(second.known(), Some(Offset::new(97)));
        second.sends();
        second.keep(at(300));
        assert_eq!(life().known(), None, "something has left");
    }

    #[test]
    fn nothing_is_written_behind_what_has_left() {
        let dir = tempfile::tempdir().unwrap();
        let life = Unsent::of(dir.path(), LOG);
        life.sends();
        life.keep(at(97));
        assert!(!dir.path().join(UNSENT).exists());
    }

    #[test]
    fn what_rotted_or_is_of_another_log_says_nothing_and_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(UNSENT);
        let life = |log| Unsent::of(dir.path(), log);
        life(LOG).keep(at(97));
        let other = LogId::new([8; 16]);
        assert_eq!(life(other).known(), None);
        let sound = fs::read(&file).unwrap();
        for at_byte in 0..sound.len() {
            let mut rotten = sound.clone();
            rotten[at_byte] ^= 1;
            fs::write(&file, rotten).unwrap();
            assert_eq!(life(LOG).known(), None, "byte {at_byte}");
        }
        life(LOG).keep(at(98));
        assert_eq!(life(LOG).known(), Some(Offset::new(98)));
    }

    /// A file system that is read-only: what is in the log can still be sent.
    #[test]
    fn what_cannot_be_written_or_removed_stops_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let life = Unsent::of(&dir.path().join("gone"), LOG);
        life.keep(at(97));
        life.sends();
        assert_eq!(*life.lock(), Stands::Sent);
    }
}
