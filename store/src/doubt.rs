//! How long readers of an open log wait for what the disk does not give ([decision 0033](../../docs/decisions/0033-readers-wait.md)).
//!
//! A read that fails may be a moment's trouble of the disk, its end, or rot. What a reader takes for rot is lost to whoever it reads for: a hub goes on behind it
//! and never asks again. So a segment has to fail several times over a while, and the disk has to take a write each time: of one that is gone nothing is rot.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use sedge_core::planted::Fault;
use tokio::time::Instant;

use crate::disk::{self, File};
use crate::durable_file::TEMPORARY;

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
    /// So many times, each [`APART`] or more behind the one before.
    times: u32,
    counted: Option<Instant>,
    failed: Instant,
}

impl Doubts {
    pub(crate) fn in_dir(dir: PathBuf) -> Self {
        Self {
            dir,
            known: Mutex::default(),
        }
    }

    /// Something of the segment with this number could not be read, just now. Whether it is taken for lost; touches the disk if it is not yet.
    pub(crate) fn is_lost(&self, segment: u32, seq: u64) -> bool {
        let now = Instant::now();
        let mut doubt = self.recall(seq, now);
        if doubt.times > TIMES_MAX || Fault::ReadersWaitForNothing.is_planted() {
            return true;
        }
        let is_due = doubt.counted.is_none_or(|counted| now - counted >= APART);
        if is_due {
            // Nobody waits for a disk with the lock.
            match self.disk_lives() {
                Ok(()) => (doubt.times, doubt.counted) = (doubt.times + 1, Some(now)),
                Err(error) => {
                    tracing::warn!(dir = %self.dir.display(), segment, %error, "cannot be read, and the disk takes no writes: nothing is taken for lost");
                }
            }
            self.note(doubt);
        }
        let is_lost = doubt.times > TIMES_MAX;
        match (is_due, is_lost) {
            (true, true) => {
                tracing::error!(dir = %self.dir.display(), segment, "cannot be read, and what stands there is taken for lost");
            }
            (true, false) if doubt.times == 1 => {
                let most = APART.as_secs() * u64::from(TIMES_MAX);
                tracing::warn!(dir = %self.dir.display(), segment, "cannot be read; after {most} s of that it is taken for lost");
            }
            _ => {}
        }
        is_lost
    }

    /// What is known of a segment that has failed at `now`.
    fn recall(&self, seq: u64, now: Instant) -> Doubt {
        let mut known = self.lock();
        known.retain(|doubt| now - doubt.failed < REMEMBERED);
        let Some(at) = known.iter().position(|doubt| doubt.seq == seq) else {
            if known.len() >= DOUBTS_MAX {
                known.remove(0);
            }
            let doubt = Doubt {
                seq,
                times: 0,
                counted: None,
                failed: now,
            };
            known.push(doubt);
            return doubt;
        };
        // Who failed last is forgotten last.
        let mut doubt = known.remove(at);
        doubt.failed = now;
        known.push(doubt);
        doubt
    }

    fn note(&self, doubt: Doubt) {
        let mut known = self.lock();
        if let Some(there) = known.iter_mut().find(|there| there.seq == doubt.seq) {
            // Two readers at once count once.
            if there.counted <= doubt.counted {
                *there = doubt;
            }
        }
    }

    /// Whether the disk takes what it is given. One that is only full does.
    fn disk_lives(&self) -> io::Result<()> {
        let probe = self.dir.join(format!("{TEMPORARY}probe"));
        let wrote = File::create(&probe).and_then(|file| {
            file.write_all_at(b"is the disk there?", 0)?;
            file.sync_all()
        });
        match wrote {
            Err(e) if !crate::media::is_full(&e) => Err(e),
            // The next start removes it otherwise.
            _ => disk::remove_file(&probe).or(Ok(())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Doubt>> {
        self.known.lock().expect("no holder panics")
    }
}

/// So many times a segment may fail …
const TIMES_MAX: u32 = 3;
/// … of those that are as far apart as opens that count ([`crate::patience`]).
const APART: Duration = Duration::from_secs(10);
/// A segment that has not failed for so long is trusted again.
const REMEMBERED: Duration = Duration::from_secs(600);
const DOUBTS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    async fn after(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_read_for_half_a_minute_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let doubts = Doubts::in_dir(dir.path().into());
        for _ in 0..30 {
            assert!(!doubts.is_lost(1, 7));
            after(1).await;
        }
        assert!(doubts.is_lost(1, 7));
        // What fails beside it is not.
        assert!(!doubts.is_lost(2, 8));
        assert!(doubts.is_lost(1, 7), "and stays so");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        after(601).await;
        assert!(!doubts.is_lost(1, 7), "that is long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_seldom_waits_for_as_many_tries() {
        let dir = tempfile::tempdir().unwrap();
        let doubts = Doubts::in_dir(dir.path().into());
        for _ in 0..3 {
            assert!(!doubts.is_lost(1, 7));
            after(300).await;
        }
        assert!(doubts.is_lost(1, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_lost_on_a_disk_that_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let doubts = Doubts::in_dir(gone.clone());
        for _ in 0..100 {
            assert!(!doubts.is_lost(1, 7));
            after(10).await;
        }
        std::fs::create_dir(&gone).unwrap();
        for _ in 0..3 {
            assert!(!doubts.is_lost(1, 7));
            after(10).await;
        }
        assert!(doubts.is_lost(1, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_are_remembered_are_forgotten_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let doubts = Doubts::in_dir(dir.path().into());
        for seq in 0..100 {
            doubts.is_lost(1, seq);
        }
        assert_eq!(doubts.lock().len(), DOUBTS_MAX);
        assert_eq!(doubts.lock()[0].seq, 36);
    }
}
