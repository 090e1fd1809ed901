//! How long a start waits for what the disk does not give.
//!
//! A read that fails while a log is opened may be a moment's trouble of the disk or its end. Taken for the second, what stands there would be written over; so at
//! first the log does not open, and whoever starts it again finds it as it was. A place that stays unreadable is then taken for rot, for a log must start. The same
//! holds of the small files without which nobody knows what a directory is.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use sedge_core::Micros;
use serde::{Deserialize, Serialize};

use crate::durable_file::{self, read_toml, write_toml};

/// What is known of earlier opens of one thing.
#[derive(Debug)]
pub struct Patience {
    file: PathBuf,
    now: Micros,
    /// Whether there is such a file, whatever it says.
    is_there: bool,
    spent: Option<Spent>,
    /// Something was taken for lost.
    excused: AtomicBool,
}

/// Opens in a row that could not read everything.
#[derive(Debug, Deserialize, Serialize)]
struct Spent {
    opens: u32,
    last_us: i64,
}

impl Patience {
    /// What is left of it, as `file` has it, which stands beside what is to be read. What has rotted in there, or cannot be read itself, counts as nothing.
    pub fn with(file: PathBuf, now: Micros) -> Self {
        let read = read_toml(&file);
        Self {
            is_there: !matches!(&read, Err(e) if e.kind() == io::ErrorKind::NotFound),
            spent: read.ok(),
            file,
            now,
            excused: AtomicBool::new(false),
        }
    }

    /// Whether what cannot be read now is taken for lost.
    pub fn is_over(&self) -> bool {
        self.spent
            .as_ref()
            .is_some_and(|spent| spent.opens >= OPENS_MAX)
    }

    /// Whether something was taken for lost, and may be missing again.
    pub fn has_excused(&self) -> bool {
        self.excused.load(Relaxed)
    }

    /// The file `name` could not be read.
    ///
    /// # Errors
    /// The same error, and what will come of it; none when patience is over.
    pub fn try_again_later(&self, name: &str, error: &io::Error) -> io::Result<()> {
        if self.is_over() {
            self.excused.store(true, Relaxed);
            tracing::error!(file = %self.file.with_file_name(name).display(), error = %error, "cannot be read, and what stands there is taken for lost");
            return Ok(());
        }
        let spent = Spent {
            opens: self.spent.as_ref().map_or(0, |spent| spent.opens) + 1,
            last_us: self.now.get(),
        };
        if self.has_waited()
            && let Err(e) = write_toml(&self.file, &spent)
        {
            tracing::warn!(file = %self.file.display(), error = %e, "it could not be noted that something cannot be read");
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

    /// All was read: the next trouble is another.
    ///
    /// # Errors
    /// When the file that counts cannot be removed.
    pub fn end(self) -> io::Result<()> {
        if !self.is_there {
            return Ok(());
        }
        durable_file::remove(&self.file)
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

    fn with(dir: &tempfile::TempDir, now: Micros) -> Patience {
        Patience::with(dir.path().join("unreadable"), now)
    }

    fn fail(patience: &Patience) -> io::Result<()> {
        patience.try_again_later("seg-00003.log", &rustix::io::Errno::IO.into())
    }

    #[test]
    fn patience_ends_at_the_fourth_open_that_waited() {
        let dir = tempfile::tempdir().unwrap();
        for open in 0..3 {
            let now = Micros::new(NOW.get() + open * APART_US);
            let patience = with(&dir, now);
            assert!(!patience.is_over());
            let error = fail(&patience).unwrap_err();
            assert!(error.to_string().starts_with("seg-00003.log"), "{error}");
        }
        let patience = with(&dir, NOW);
        assert!(patience.is_over());
        fail(&patience).unwrap();
        patience.end().unwrap();
        assert!(!with(&dir, NOW).is_over());
    }

    #[test]
    fn who_tries_again_at_once_has_not_waited() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..9 {
            let patience = with(&dir, NOW);
            fail(&patience).unwrap_err();
        }
    }

    #[test]
    fn an_open_that_reads_everything_gives_all_patience_back() {
        let dir = tempfile::tempdir().unwrap();
        let patience = with(&dir, NOW);
        fail(&patience).unwrap_err();
        with(&dir, NOW).end().unwrap();
        assert!(with(&dir, NOW).spent.is_none());
    }

    /// The sector under the file that counts may be the one that is gone.
    #[test]
    fn a_count_that_cannot_be_read_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("unreadable");
        std::fs::create_dir(&file).unwrap();
        assert!(!with(&dir, NOW).is_over());
        std::fs::remove_dir(&file).unwrap();
        std::fs::write(&file, "opens = many").unwrap();
        fail(&with(&dir, NOW)).unwrap_err();
        assert_eq!(with(&dir, NOW).spent.as_ref().unwrap().opens, 1);
        std::fs::write(&file, "opens = many").unwrap();
        with(&dir, NOW).end().unwrap();
        assert!(!file.exists());
    }
}
