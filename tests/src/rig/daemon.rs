//! A program that runs beside the test: started with its output in a file, signalled by pid, never left behind.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{eventually, tell};

/// A running program; it is killed when this value goes.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`; what it prints is appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        Self::start_apart(name, command, log, log)
    }

    /// The same, but what it prints on standard output is appended to `output`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_apart(name: &str, command: &mut Command, log: &Path, output: &Path) -> Self {
        let appended = |path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.expect("a log file")
        };
        let child = command
            .stdin(Stdio::null())
            .stdout(appended(output))
            .stderr(appended(log))
            .spawn();
        let child =
            child.unwrap_or_else(|error| panic!("cannot start {name} ({command:?}): {error}"));
        Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Panics
    /// If it had ended by itself: nobody but the test ends it.
    pub fn kill(mut self) {
        self.kill_now();
    }

    /// The same for one that another takes the place of.
    ///
    /// # Panics
    /// As [`Self::kill`].
    pub fn kill_now(&mut self) {
        if let Some(status) = self.exit_status() {
            panic!("{} had ended by itself: {status}", self.name);
        }
        self.signal(Signal::KILL);
        self.child.wait().expect("our own child");
    }

    /// SIGTERM; returns how it ended.
    ///
    /// # Panics
    /// If it is still there after `within`.
    pub fn terminate(mut self, within: Duration) -> ExitStatus {
        self.stop(within)
    }

    /// The same for one that another takes the place of.
    ///
    /// # Panics
    /// As [`Self::terminate`].
    pub fn stop(&mut self, within: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(within)
    }

    /// Waits for its own end.
    ///
    /// # Panics
    /// If it is still there after `within`.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(within, &what, || self.exit_status())
    }

    /// SIGSTOP: not one more instruction of the program runs.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let stat = format!("/proc/{}/stat", self.pid());
        eventually(Duration::from_secs(10), "the process has stopped", || {
            let stat = std::fs::read_to_string(&stat).ok()?;
            stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
        });
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// The most memory that it had so far, in KiB.
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn most_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("it runs");
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let most = most.and_then(|most| most.trim().strip_suffix(" kB"));
        most.and_then(|most| most.parse().ok())
            .expect("the kernel counts")
    }

    /// All that it and its forerunners with the same log have printed.
    #[must_use]
    pub fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).expect("a pid is not 0");
        // It is our child and has not been waited for, so the number is still its own.
        kill_process(pid, signal).expect("our own child can be signalled");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        if std::thread::panicking() {
            let printed = self.printed();
            let tail: Vec<&str> = printed.lines().rev().take(25).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            tell(&format!(
                "--- last lines of {} ({})\n{}",
                self.name,
                self.log.display(),
                tail.join("\n")
            ));
        }
    }
}

/// The binary under test: what `cargo xtask test` built, else the newest one beside this test.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn sedge() -> PathBuf {
    if let Some(path) = std::env::var_os("SEDGE_BIN") {
        return path.into();
    }
    // target/PROFILE/deps/this-test
    let this = std::env::current_exe().expect("a test has a path");
    let target = this
        .ancestors()
        .nth(3)
        .expect("tests run in a target folder");
    let built = ["release", "debug"].map(|profile| target.join(profile).join("sedge"));
    let age = |path: &PathBuf| {
        File::open(path)
            .and_then(|file| file.metadata()?.modified())
            .ok()
    };
    let newest = built
        .into_iter()
        .filter(|path| path.exists())
        .max_by_key(age);
    newest.expect("no binary to test: run `cargo xtask test`, or `cargo build --release` first")
}
