//! A wall clock for one program that a test moves by hand while the program runs (libfaketime). Time that only goes on, as timeouts have it, is left alone.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Missing;

/// What a program takes for the time of day: the right time, so far off.
#[derive(Debug)]
pub struct WallClock {
    library: &'static str,
    file: PathBuf,
    off_s: i64,
}

impl WallClock {
    /// One that is right, as long as it is not moved. How far off it is stands in `file`.
    ///
    /// # Errors
    /// What this machine lacks for it.
    pub fn new(file: PathBuf) -> Result<Self, Missing> {
        let library = LIBRARIES
            .into_iter()
            .find(|library| Path::new(library).exists())
            .ok_or(Missing::Program("libfaketime"))?;
        let mut clock = Self {
            library,
            file,
            off_s: 0,
        };
        clock.move_to(0);
        let mut date = Command::new("date");
        date.arg("+%s");
        let shown = clock.for_program(&date).output();
        clock.move_to(10_000_000);
        let later = clock.for_program(&date).output();
        clock.move_to(0);
        let seconds = |output: std::io::Result<std::process::Output>| {
            let output = output.ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse().ok()
        };
        let (Some(shown), Some(later)): (Option<i64>, Option<i64>) =
            (seconds(shown), seconds(later))
        else {
            return Err(Missing::Machine("libfaketime is not believed".into()));
        };
        if later - shown < 9_000_000 {
            return Err(Missing::Machine("libfaketime does not move".into()));
        }
        Ok(clock)
    }

    /// From now on it is so many seconds ahead of the right time, or behind.
    ///
    /// # Panics
    /// If the disk does not take the file.
    pub fn move_to(&mut self, off_s: i64) {
        self.off_s = off_s;
        let next = self.file.with_extension("next");
        std::fs::write(&next, format!("{off_s:+}\n")).expect("a file");
        // A program that looks at this moment sees one or the other.
        std::fs::rename(&next, &self.file).expect("a file of our own");
    }

    /// The same, from where it stands.
    pub fn jump(&mut self, seconds: i64) {
        self.move_to(self.off_s + seconds);
    }

    /// Sets it to so many seconds after the beginning of 1970.
    ///
    /// # Panics
    /// If this machine's own clock stands before 1970.
    pub fn set_to(&mut self, unix_s: i64) {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        let now = now.map(|now: Duration| now.as_secs() as i64);
        self.move_to(unix_s - now.expect("a time of day"));
    }

    /// `command`, believing in this clock.
    #[must_use]
    pub fn for_program(&self, command: &Command) -> Command {
        let mut believing = Command::new(command.get_program());
        believing
            .args(command.get_args())
            .env("LD_PRELOAD", self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_DISABLE_SHM", "1")
            .env("NO_FAKE_STAT", "1");
        believing
    }
}

const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/arm-linux-gnueabihf/faketime/libfaketimeMT.so.1",
];
