//! A memory control group: what runs in it gets so much memory, and is killed by the kernel when it needs more.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Missing, tell};

/// A control group of our own; it is removed when this value goes, and whatever ran in it must have ended before.
#[derive(Debug)]
pub struct MemoryLimit {
    group: PathBuf,
    words: &'static Words,
}

/// How the two versions of control groups call things.
#[derive(Debug)]
struct Words {
    parent: &'static str,
    limit: &'static str,
    events: &'static str,
}

impl MemoryLimit {
    /// Makes one of `kib` KiB.
    ///
    /// # Errors
    /// What this machine lacks for it.
    pub fn of(kib: u64) -> Result<Self, Missing> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("sedge-{}-{number}", std::process::id());
        let mut why = String::from("no memory control group is mounted");
        for words in &VERSIONS {
            let limit = Self {
                group: Path::new(words.parent).join(&name),
                words,
            };
            if std::fs::create_dir(&limit.group).is_err() {
                std::mem::forget(limit);
                continue;
            }
            match std::fs::write(limit.group.join(words.limit), (kib << 10).to_string()) {
                Ok(()) => return Ok(limit),
                Err(error) => why = format!("{}: {error}", limit.group.display()),
            }
        }
        Err(Missing::Machine(why))
    }

    /// `command`, to run within the limit. The process that is started is the program itself.
    #[must_use]
    pub fn around(&self, command: &Command) -> Command {
        let mut within = Command::new("sh");
        within.arg("-c");
        within.arg("echo $$ > \"$0\" && exec \"$@\"");
        within.arg(self.group.join("cgroup.procs"));
        within.arg(command.get_program()).args(command.get_args());
        within
    }

    /// Processes that the kernel has killed for want of memory.
    ///
    /// # Panics
    /// If the kernel does not say.
    #[must_use]
    pub fn killed(&self) -> u64 {
        let events = std::fs::read_to_string(self.group.join(self.words.events));
        let events = events.expect("a control group of our own");
        let killed = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        killed
            .and_then(|count| count.parse().ok())
            .expect("the kernel counts whom it kills")
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // A process that was killed is still in its group for a moment.
        let removed = (0..100).any(|_| {
            let removed = std::fs::remove_dir(&self.group).is_ok();
            if !removed {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            removed
        });
        if !removed {
            tell(&format!("left behind: {}", self.group.display()));
        }
    }
}

const VERSIONS: [Words; 2] = [
    Words {
        parent: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        events: "memory.oom_control",
    },
    Words {
        parent: "/sys/fs/cgroup",
        limit: "memory.max",
        events: "memory.events",
    },
];
