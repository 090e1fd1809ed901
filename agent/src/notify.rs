//! Tells the service manager how it goes, in systemd's protocol (`sd_notify(3)`): `READY=1`, `STATUS=`, `STOPPING=1`, `WATCHDOG=1`.
//!
//! The watchdog is told only while no part is late. A part that hangs keeps the word back, and the manager ends a program that looks alive and is not.
//! Without `NOTIFY_SOCKET` in the environment nothing happens.

use std::ffi::{OsStr, OsString};
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, interval_at, timeout};

use crate::cli::span;
use crate::shutdown::Shutdown;
use crate::vitals::{Phase, Vitals};

/// The manager that has started this program.
#[derive(Debug)]
pub struct Manager {
    address: SocketAddr,
    /// It ends the program when it has heard nothing for so long.
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names.
    #[must_use]
    pub fn of_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var_os(name);
        let address = match address(&variable("NOTIFY_SOCKET")?) {
            Ok(address) => address,
            Err(error) => {
                tracing::warn!(%error, "the service manager's socket cannot be used");
                return None;
            }
        };
        let pid = std::process::id();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), pid);
        Some(Self { address, watchdog })
    }

    /// Passes on what `vitals` say, until the shutdown.
    pub async fn hears(self, vitals: Vitals, mut shutdown: Shutdown) {
        let mut phase = vitals.phase();
        phase.mark_changed();
        let mut watchdog = self.watchdog.map(Watchdog::new);
        let mut lines = interval_at(Instant::now() + LINE_FIRST, LINE_EVERY);
        lines.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return self.tell("STOPPING=1\nSTATUS=stopping").await,
                // The sender lives as long as `vitals`.
                Ok(()) = phase.changed() => {
                    let word = of_phase(&phase.borrow_and_update());
                    self.tell(&word).await;
                }
                watchdog = due(&mut watchdog) => if let Some(word) = watchdog.look(&vitals) {
                    self.tell(&word).await;
                },
                // A disk that hangs may hold up the line, but nothing else.
                _ = lines.tick() => self.tell_line(&vitals).await,
            }
        }
    }

    async fn tell_line(&self, vitals: &Vitals) {
        let ready = *vitals.phase().borrow() == Phase::Ready;
        let Some(line) = vitals.line().filter(|_| ready) else {
            return;
        };
        let line = timeout(LINE_PATIENCE, tokio::task::spawn_blocking(move || line()));
        if let Ok(Ok(line)) = line.await {
            self.tell(&status(&line)).await;
        }
    }

    async fn tell(&self, word: &str) {
        if let Err(error) = self.send(word).await {
            tracing::warn!(%error, "the service manager does not listen");
        }
    }

    /// Each time anew: the manager may have been started again itself.
    async fn send(&self, word: &str) -> io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&self.address)?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixDatagram::from_std(socket)?;
        timeout(SEND_PATIENCE, socket.send(word.as_bytes())).await??;
        Ok(())
    }
}

/// When the manager is to hear that all is well.
struct Watchdog {
    interval: Interval,
    /// Who is later than this keeps the word back.
    patience: Duration,
    kept_back: bool,
}

impl Watchdog {
    fn new(period: Duration) -> Self {
        // Half the time is for a part to be late in, a quarter for the word to come.
        let mut interval = interval(period / 4);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            interval,
            patience: period / 2,
            kept_back: false,
        }
    }

    /// What to tell, if anything.
    fn look(&mut self, vitals: &Vitals) -> Option<String> {
        let late = vitals.latest().filter(|(_, late)| *late > self.patience);
        let before = std::mem::replace(&mut self.kept_back, late.is_some());
        match late {
            None => Some("WATCHDOG=1".into()),
            Some(_) if before => None,
            Some((part, late)) => {
                let late = span(late.as_secs_f64());
                tracing::error!(part, late, "hangs: the watchdog is not told any more");
                Some(status(&format!("{part} hangs since {late}")))
            }
        }
    }
}

/// When the watchdog's next word is due; without one, never.
async fn due(watchdog: &mut Option<Watchdog>) -> &mut Watchdog {
    match watchdog {
        Some(watchdog) => {
            watchdog.interval.tick().await;
            watchdog
        }
        None => pending().await,
    }
}

fn of_phase(phase: &Phase) -> String {
    match phase {
        Phase::Starting => status("starting"),
        Phase::Waiting { why, at_most } => {
            let us = (*at_most * 2).as_micros();
            format!("EXTEND_TIMEOUT_USEC={us}\n{}", status(why))
        }
        Phase::Ready => format!("READY=1\n{}", status("ready")),
    }
}

fn status(line: &str) -> String {
    // A line break would begin another word.
    format!("STATUS={}", line.replace(['\n', '\r'], " "))
}

/// A path, or a name in the kernel's own space behind `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::other("neither a path nor an abstract name")),
    }
}

/// Unless the watchdog watches another process.
fn watchdog(usec: Option<OsString>, watched: Option<OsString>, pid: u32) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    if watched.is_some_and(|watched| number(watched) != Some(pid.into())) {
        return None;
    }
    let usec = usec.and_then(number).filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec))
}

const SEND_PATIENCE: Duration = Duration::from_secs(1);
const LINE_FIRST: Duration = Duration::from_secs(2);
const LINE_EVERY: Duration = Duration::from_secs(20);
const LINE_PATIENCE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;
    use crate::shutdown;
    use crate::vitals::{Life, Part};

    #[test]
    fn a_watchdog_for_another_process_is_none_of_ours() {
        let text = |text: &str| Some(OsString::from(text));
        assert_eq!(
            watchdog(text("2000000"), text("7"), 7),
            Some(Duration::from_secs(2))
        );
        assert_eq!(
            watchdog(text("2000000"), None, 7),
            Some(Duration::from_secs(2))
        );
        assert_eq!(watchdog(text("2000000"), text("8"), 7), None);
        assert_eq!(watchdog(text("0"), None, 7), None);
        assert_eq!(watchdog(None, None, 7), None);
    }

    #[test]
    fn a_socket_is_a_path_or_an_abstract_name() {
        assert!(address(OsStr::new("/run/systemd/notify")).is_ok());
        assert!(address(OsStr::new("@notify")).is_ok());
        assert!(address(OsStr::new("vsock:2:1234")).is_err());
    }

    /// One part is made late and in time again: the watchdog is told until half its time has passed, then the status says once who hangs,
    /// and when it turns again the watchdog hears so.
    #[tokio::test]
    async fn a_late_part_keeps_the_watchdogs_word_back() {
        let late = Arc::new(AtomicU64::new(0));
        let vitals = Vitals::default();
        let seen = Arc::clone(&late);
        vitals.lives(Life {
            parts: vec![Part {
                name: "the writer".into(),
                late: Box::new(move || Duration::from_secs(seen.load(Relaxed))),
                lets_in: true,
            }],
            hindrances: Arc::new(Vec::new),
            line: Arc::new(String::new),
        });
        let mut watchdog = Watchdog::new(Duration::from_secs(120));
        let well = Some("WATCHDOG=1".to_owned());
        assert_eq!(watchdog.look(&vitals), well);
        late.store(60, Relaxed);
        assert_eq!(watchdog.look(&vitals), well);
        late.store(61, Relaxed);
        assert_eq!(
            watchdog.look(&vitals).as_deref(),
            Some("STATUS=the writer hangs since 1m 1s")
        );
        assert_eq!(watchdog.look(&vitals), None);
        late.store(0, Relaxed);
        assert_eq!(watchdog.look(&vitals), well);
    }

    /// A manager on an abstract socket hears of the wait for room, of readiness and of the end.
    #[tokio::test]
    async fn the_manager_hears_each_step_in_its_order() {
        let name = format!("@sedge-notify-{}", std::process::id());
        let address = address(OsStr::new(&name)).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        manager.set_nonblocking(true).unwrap();
        let manager = tokio::net::UnixDatagram::from_std(manager).unwrap();
        let hear = async || {
            let mut word = [0; 256];
            let len = manager.recv(&mut word).await.unwrap();
            String::from_utf8_lossy(&word[..len]).into_owned()
        };
        let vitals = Vitals::default();
        let (trigger, shutdown) = shutdown::pair();
        let told = Manager {
            address,
            watchdog: None,
        };
        let told = tokio::spawn(told.hears(vitals.clone(), shutdown));
        assert_eq!(hear().await, "STATUS=starting");
        vitals.waits("no room\nat all", Duration::from_secs(30));
        assert_eq!(
            hear().await,
            "EXTEND_TIMEOUT_USEC=60000000\nSTATUS=no room at all"
        );
        vitals.ready();
        assert_eq!(hear().await, "READY=1\nSTATUS=ready");
        trigger.stop();
        assert_eq!(hear().await, "STOPPING=1\nSTATUS=stopping");
        told.await.unwrap();
    }
}
