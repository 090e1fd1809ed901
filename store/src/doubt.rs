//! How long readers of an open log wait for what the disk does not give ([decision 0033](../../docs/decisions/0033-readers-wait.md)).
//!
//! A read that fails may be a moment's trouble of the disk, its end, or rot. What a reader takes for rot is lost to whoever it reads for: a hub goes on behind it
//! and never asks again. So a segment has to fail several times over a while and never read well in between, and the disk has to take a write each time, last of all
//! right before and right behind the read that decides: of a disk that is gone nothing is rot.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use crate::disk::{self, File, sync_dir};
use crate::durable_file::TEMPORARY;
use crate::media;

/// Segments of a log that could not be read lately.
#[derive(Debug)]
pub(crate) struct Doubts {
    dir: PathBuf,
    known: Mutex<Vec<Doubt>>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    seq: u64,
    /// A place that could not be read.
    position: u32,
    /// So many times, each [`APART`] or more behind the one before.
    times: u32,
    /// When the disk was last asked whether it takes a write.
    asked: Option<Instant>,
    /// Whether it did.
    took: bool,
}

impl Doubts {
    pub(crate) fn in_dir(dir: PathBuf) -> Self {
        Self {
            dir,
            known: Mutex::default(),
        }
    }

    /// The place `position` of the segment with this number could not be read. Whether it is rot if it is read once more and does not read then either, and
    /// the disk is [still there](Self::disk_takes): it has just taken a write. Otherwise it may be seen later.
    pub(crate) fn may_be_rot(&self, segment: u32, seq: u64, position: u32) -> bool {
        let now = Instant::now();
        let mut doubt = self.recall(seq, position);
        let was_rot = doubt.times > TIMES_MAX;
        // What is rot for long is so at any time, but of a disk that is not there.
        let pause = match was_rot && doubt.took {
            true => Duration::ZERO,
            false => APART,
        };
        if doubt.asked.is_some_and(|asked| now - asked < pause) {
            return false;
        }
        // Nobody waits for a disk with the lock.
        let takes = self.disk_takes();
        (doubt.asked, doubt.took) = (Some(Instant::now()), takes.is_ok());
        doubt.times = doubt.times.saturating_add(doubt.took.into());
        self.note(doubt);
        let (dir, is_rot) = (self.dir.display(), doubt.times > TIMES_MAX);
        match takes {
            Err(error) => {
                tracing::warn!(%dir, segment, %error, "cannot be read, and the disk takes no writes: nothing is taken for lost");
            }
            Ok(()) if doubt.times == 1 => {
                let (times, apart) = (TIMES_MAX + 1, APART.as_secs());
                tracing::warn!(%dir, segment, "cannot be read; when that was so {times} times, each {apart} s behind the one before, it is taken for lost");
            }
            Ok(()) if is_rot && !was_rot => {
                tracing::error!(%dir, segment, "cannot be read, and what stands there is taken for lost");
            }
            Ok(()) => {}
        }
        doubt.took && is_rot
    }

    /// These bytes of a segment have just been read: what was in doubt there is not.
    pub(crate) fn was_read(&self, seq: u64, bytes: &Range<u32>) {
        self.lock()
            .retain(|doubt| doubt.seq != seq || !bytes.contains(&doubt.position));
    }

    /// Whether what cannot be read of a segment is rot already.
    pub(crate) fn is_rot(&self, seq: u64) -> bool {
        let known = self.lock();
        known.iter().any(|d| d.seq == seq && d.times > TIMES_MAX)
    }

    /// What is known of a segment, a place of which has failed.
    fn recall(&self, seq: u64, position: u32) -> Doubt {
        let mut known = self.lock();
        let doubt = match known.iter().position(|doubt| doubt.seq == seq) {
            // What failed last is forgotten last.
            Some(at) => known.remove(at),
            None => Doubt {
                seq,
                position,
                times: 0,
                asked: None,
                took: false,
            },
        };
        if known.len() >= DOUBTS_MAX {
            known.remove(0);
        }
        known.push(doubt);
        doubt
    }

    fn note(&self, doubt: Doubt) {
        let mut known = self.lock();
        let there = known.iter_mut().find(|there| there.seq == doubt.seq);
        // Two readers at once count once.
        if let Some(there) = there.filter(|there| there.asked <= doubt.asked) {
            *there = doubt;
        }
    }

    /// Whether the disk takes what it is given. One that is only full does.
    pub(crate) fn disk_takes(&self) -> io::Result<()> {
        let probe = self.dir.join(format!("{TEMPORARY}probe"));
        let full = |e: io::Error| match media::is_full(&e) {
            // It may have said so by what it remembers.
            true => sync_dir(&self.dir),
            false => Err(e),
        };
        let file = match File::create(&probe) {
            Ok(file) => file,
            Err(e) => return full(e),
        };
        let wrote = file.write_all_at(b"is the disk there?", 0);
        let synced = file.sync_all();
        // The next start removes it otherwise.
        disk::remove_file(&probe).ok();
        wrote.or_else(full).and(synced)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Doubt>> {
        self.known.lock().expect("no holder panics")
    }
}

/// What could not be read is read again after this long by whoever waits for it.
pub const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// So many times a segment may fail …
const TIMES_MAX: u32 = 3;
/// … of those that are as far apart as opens that count ([`crate::patience`]).
const APART: Duration = Duration::from_secs(10);
const DOUBTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    struct Given {
        dir: tempfile::TempDir,
        doubts: Doubts,
    }

    fn given() -> Given {
        let dir = tempfile::tempdir().unwrap();
        let doubts = Doubts::in_dir(dir.path().join("log"));
        std::fs::create_dir(dir.path().join("log")).unwrap();
        Given { dir, doubts }
    }

    impl Given {
        /// A read of the segment `seq` has just failed: whether that is rot.
        fn fails(&self, seq: u64) -> bool {
            self.doubts.may_be_rot(1, seq, 4096)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_for_half_a_minute_is_lost() {
        let given = given();
        for _ in 0..30 {
            assert!(!given.fails(7));
            assert!(!given.doubts.is_rot(7));
            after(1).await;
        }
        assert!(given.fails(7));
        assert!(given.doubts.is_rot(7));
        // What fails beside it is not.
        assert!(!given.fails(8));
        after(5).await;
        assert!(given.fails(7));
        let log = given.dir.path().join("log");
        assert_eq!(std::fs::read_dir(log).unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_seldom_waits_for_as_many_tries() {
        let given = given();
        for _ in 0..3 {
            assert!(!given.fails(7));
            after(3600).await;
        }
        assert!(given.fails(7));
    }

    /// Glitches of an hour do not add up.
    #[tokio::test(start_paused = true)]
    async fn what_reads_well_in_between_is_in_doubt_no_more() {
        let given = given();
        for _ in 0..10 {
            assert!(!given.fails(7));
            given.doubts.was_read(7, &(0..4096));
            given.doubts.was_read(8, &(0..8192));
            after(10).await;
            assert!(!given.fails(7));
            given.doubts.was_read(7, &(4096..4097));
            after(300).await;
        }
        for _ in 0..3 {
            assert!(!given.fails(7));
            after(10).await;
        }
        assert!(given.fails(7));
        given.doubts.was_read(7, &(0..8192));
        assert!(!given.fails(7), "rot does not read");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_on_a_disk_that_takes_nothing() {
        let given = given();
        let (log, gone) = (given.dir.path().join("log"), given.dir.path().join("gone"));
        std::fs::rename(&log, &gone).unwrap();
        for _ in 0..100 {
            assert!(!given.fails(7));
            after(10).await;
        }
        std::fs::rename(&gone, &log).unwrap();
        for _ in 0..3 {
            assert!(!given.fails(7));
            after(10).await;
        }
        assert!(given.fails(7));
        // It goes once more: what is rot for long is not lost now.
        std::fs::rename(&log, &gone).unwrap();
        after(5).await;
        for _ in 0..100 {
            assert!(!given.fails(7));
            after(1).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_are_remembered_are_forgotten_in_their_order() {
        let given = given();
        for seq in 0..100 {
            given.fails(seq);
        }
        let known = given.doubts.lock();
        assert_eq!((known.len(), known[0].seq), (DOUBTS_MAX, 36));
    }
}
