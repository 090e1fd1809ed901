//! A service manager for one program: it reads what the program says of itself on its notify socket, as systemd would.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The manager's end of the socket.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    period: Duration,
}

impl Manager {
    /// Listens at `path`, for a program whose watchdog has this period.
    ///
    /// # Panics
    /// If nobody can listen there.
    #[must_use]
    pub fn new(path: &Path, period: Duration) -> Self {
        Self {
            socket: UnixDatagram::bind(path).expect("a socket"),
            path: path.to_path_buf(),
            period,
        }
    }

    /// `command`, to be started as this manager's service.
    pub fn manages(&self, mut command: Command) -> Command {
        command.env("NOTIFY_SOCKET", &self.path);
        command.env("WATCHDOG_USEC", self.period.as_micros().to_string());
        command
    }

    /// What is said next; `None` if it is nothing for so long.
    ///
    /// # Panics
    /// If the socket fails.
    #[must_use]
    pub fn hears(&self, within: Duration) -> Option<String> {
        let within = within.max(Duration::from_millis(1));
        self.socket
            .set_read_timeout(Some(within))
            .expect("a timeout");
        let mut word = [0; 4096];
        let len = self.socket.recv(&mut word).ok()?;
        Some(String::from_utf8_lossy(&word[..len]).into_owned())
    }

    /// What was said until a word with `wanted` came, that word last.
    ///
    /// # Panics
    /// If it does not come in time.
    pub fn waits_for(&self, wanted: &str, within: Duration) -> Vec<String> {
        let deadline = Instant::now() + within;
        let mut said = Vec::new();
        while let Some(word) = self.hears(deadline.saturating_duration_since(Instant::now())) {
            let found = word.contains(wanted);
            said.push(word);
            if found {
                return said;
            }
        }
        panic!("no {wanted} within {within:?}, but {said:?}");
    }

    /// Watches for so long. The longest time without a word for the watchdog, and everything else that was said.
    #[must_use]
    pub fn watches(&self, watched: Duration) -> (Duration, Vec<String>) {
        let (began, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
        let mut said = Vec::new();
        while began.elapsed() < watched {
            match self.hears(watched.saturating_sub(began.elapsed())) {
                Some(word) if word == WELL => {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                Some(word) => said.push(word),
                None => break,
            }
        }
        (longest.max(last.elapsed()), said)
    }

    /// Waits until the watchdog has heard nothing for its whole period, which is when systemd would end the program.
    ///
    /// # Panics
    /// If it goes on hearing.
    pub fn waits_for_silence(&self, within: Duration) -> Vec<String> {
        let (began, mut last) = (Instant::now(), Instant::now());
        let mut said = Vec::new();
        while last.elapsed() < self.period {
            assert!(
                began.elapsed() < within,
                "the watchdog hears still: {said:?}"
            );
            match self.hears(self.period.saturating_sub(last.elapsed())) {
                Some(word) if word == WELL => last = Instant::now(),
                Some(word) => said.push(word),
                None => {}
            }
        }
        said
    }
}

const WELL: &str = "WATCHDOG=1";
