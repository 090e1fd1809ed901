//! How long a log waits for what the disk does not give.
//!
//! A read that fails while a log is opened may be a moment's trouble of the disk or its end. Taken for the second, what stands there would be written over; so at
//! first the log does not open, and whoever starts it again finds it as it was. A place that stays unreadable is then taken for rot, for a log must start.

use std::io;
use std::path::{Path, PathBuf};

use sedge_core::Micros;
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::durable_file::{self, read_toml, write_toml};
use crate::media::{UNREADABLE, Unread, file_name};

/// What is known of earlier opens of one log.
#[derive(Debug)]
pub(super) struct Patience {
    file: PathBuf,
    now: Micros,
    spent: Option<Spent>,
}

/// Opens in a row that could not read everything.
#[derive(Debug, Deserialize, Serialize)]
struct Spent {
    opens: u32,
    last_us: i64,
}

impl Patience {
    /// What is left of it for the log in `dir`.
    pub(super) fn with(dir: &Path, now: Micros) -> io::Result<Self> {
        let file = dir.join(UNREADABLE);
        let spent = match read_toml(&file) {
            Ok(spent) => Some(spent),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            // What has rotted in it counts as nothing.
            Err(e) if e.kind() == io::ErrorKind::InvalidData => None,
            Err(e) => return Err(e),
        };
        Ok(Self { file, now, spent })
    }

    /// Whether what cannot be read now is taken for lost.
    pub(super) fn is_over(&self) -> bool {
        self.spent
            .as_ref()
            .is_some_and(|spent| spent.opens >= OPENS_MAX)
    }

    /// Something could not be read. An error, unless patience is over.
    pub(super) fn try_again_later(&mut self, unread: Unread) -> io::Result<()> {
        let (name, error) = (file_name(unread.number), unread.error());
        if self.is_over() {
            tracing::error!(file = %self.file.with_file_name(&name).display(), error = %error, "cannot be read, and what stands there is taken for lost");
            return Ok(());
        }
        let spent = Spent {
            opens: self.spent.as_ref().map_or(0, |spent| spent.opens) + 1,
            last_us: self.now.get(),
        };
        if self.has_waited()
            && let Err(e) = write_toml(&self.file, &spent)
        {
            tracing::warn!(file = %self.file.display(), error = %e, "it could not be noted that the log cannot be read");
        }
        Err(io::Error::new(
            error.kind(),
            format!(
                "{name} cannot be read ({error}); nothing was written, and at the {}th start in a row, each {} s or more behind the one before, it is taken for lost",
                OPENS_MAX + 1,
                APART_US / 1_000_000
            ),
        ))
    }

    /// Who tries again at once has not waited. A clock that does not go, or went back, says nothing.
    fn has_waited(&self) -> bool {
        let Some(spent) = self.spent.as_ref().filter(|_| self.now.is_known()) else {
            return true;
        };
        let since = self.now.get().saturating_sub(spent.last_us);
        !(0..APART_US).contains(&since)
    }

    /// The log is open: the next trouble is another.
    pub(super) fn end(self) -> io::Result<()> {
        if self.spent.is_none() {
            return Ok(());
        }
        match disk::remove_file(&self.file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
            Ok(()) => durable_file::sync_dir(self.file.parent().unwrap_or(Path::new("."))),
        }
    }
}

/// So many opens in a row may fail.
const OPENS_MAX: u32 = 3;
/// How far they must be apart to count.
const APART_US: i64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros::new(1_700_000_000_000_000);

    fn unread() -> Unread {
        Unread::of(3, &rustix::io::Errno::IO.into())
    }

    #[test]
    fn patience_ends_at_the_fourth_open_that_waited() {
        let dir = tempfile::tempdir().unwrap();
        for open in 0..3 {
            let now = Micros::new(NOW.get() + open * APART_US);
            let mut patience = Patience::with(dir.path(), now).unwrap();
            assert!(!patience.is_over());
            let error = patience.try_again_later(unread()).unwrap_err();
            assert!(error.to_string().starts_with("seg-00003.log"), "{error}");
        }
        let mut patience = Patience::with(dir.path(), NOW).unwrap();
        assert!(patience.is_over());
        patience.try_again_later(unread()).unwrap();
        patience.end().unwrap();
        assert!(!Patience::with(dir.path(), NOW).unwrap().is_over());
    }

    #[test]
    fn who_tries_again_at_once_has_not_waited() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..9 {
            let mut patience = Patience::with(dir.path(), NOW).unwrap();
            patience.try_again_later(unread()).unwrap_err();
        }
    }

    #[test]
    fn an_open_that_reads_everything_gives_all_patience_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut patience = Patience::with(dir.path(), NOW).unwrap();
        patience.try_again_later(unread()).unwrap_err();
        Patience::with(dir.path(), NOW).unwrap().end().unwrap();
        assert!(Patience::with(dir.path(), NOW).unwrap().spent.is_none());
    }
}
