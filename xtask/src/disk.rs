//! How full the disk gets: a run that fails on a full one says nothing of the tree.

use std::process::Command;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::run::{say, workspace_root};

/// Looks at the disk of this workspace until it is dropped, and says then how little was free.
pub(crate) struct Watch {
    thread: Option<(mpsc::Sender<()>, JoinHandle<Option<u64>>)>,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        let (end, ended) = mpsc::channel();
        let look = move || {
            let mut least = free_mb();
            while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                least = least.min(free_mb());
            }
            least
        };
        Self {
            thread: Some((end, std::thread::spawn(look))),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some((end, thread)) = self.thread.take() else {
            return;
        };
        drop(end);
        if let Ok(Some(least)) = thread.join() {
            // What cannot be said now is no reason to fail.
            say(&format!("the disk had {least} MB free at least")).ok();
        }
    }
}

/// What `df` says of it.
fn free_mb() -> Option<u64> {
    let df = Command::new("df")
        .args(["--block-size=1000000", "--output=avail"])
        .arg(workspace_root())
        .output()
        .ok()?;
    let said = String::from_utf8(df.stdout).ok()?;
    said.lines().nth(1)?.trim().parse().ok()
}

const EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod stories {
    use super::free_mb;

    #[test]
    fn a_disk_says_what_is_free() {
        assert!(free_mb().is_some_and(|free| free > 0));
    }
}
