//! The rig of the whole-system tests: real programs started and killed by pid, devices that speak MQTT, and what they know.
//!
//! Nothing here knows how sedge works inside. It sees ports, exit codes, and the lines of `sedge pull`.

pub mod board;
pub mod broker;
pub mod browser;
pub mod calls;
pub mod clock;
pub mod daemon;
pub mod device;
pub mod kafka;
pub mod ledger;
pub mod manager;
pub mod memory;
pub mod packets;
pub mod peers;
pub mod prometheus;
pub mod pull;
pub mod scratch;
pub mod site;
pub mod tap;
pub mod wire;
pub mod write_log;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::random::Random;

/// Chance for one test. The seed is told, and can be given again as `SEDGE_SEED`.
#[must_use]
pub fn chance(test: &str) -> Random {
    let seed = std::env::var("SEDGE_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| {
            let now = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default();
            now.as_nanos() as u64
        });
    tell(&format!("{test}: SEDGE_SEED={seed}"));
    Random::new(seed)
}

/// How many times something is to be tried: `usual` times, or as often as the environment variable `name` says.
///
/// # Panics
/// If it says no number.
#[must_use]
pub fn times(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

/// A seed for what is to be another thing each day: `SEDGE_SEED`, or one that the day decides. A day's seeds are further from the next day's than a
/// day's machine comes.
///
/// # Panics
/// If `SEDGE_SEED` is no number.
#[must_use]
pub fn seed_of_the_day() -> u64 {
    let of_the_day = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let day = now.unwrap_or_default().as_secs() / (24 * 60 * 60);
        day * 10_000_000_000
    };
    std::env::var("SEDGE_SEED")
        .map_or_else(|_| of_the_day(), |text| text.parse().expect("a number"))
}

/// Held by a test that starts programs: such tests of one binary run one after the other, so that none is late because of another.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed has left nothing behind that could disturb the next.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line that is seen also when the test passes.
pub fn tell(line: &str) {
    // Written past the test runner's capture on purpose; a closed stderr is nobody's loss.
    writeln!(std::io::stderr(), "{line}").ok();
}

/// Says loudly that `test` did not run. Where the build machine was told to be strict, that is a failure.
///
/// # Panics
/// If `SEDGE_TESTS` is `strict` and what is missing is something that `.ci/run` installs.
pub fn skip(test: &str, missing: &Missing) {
    tell(&format!("SKIPPED {test}: {missing:?}"));
    let strict = std::env::var("SEDGE_TESTS").is_ok_and(|value| value == "strict");
    assert!(
        !(strict && matches!(missing, Missing::Program(_))),
        "{test} must run here: {missing:?}"
    );
}

/// Why a test cannot run on this machine.
#[derive(Debug)]
pub enum Missing {
    /// A program that a package would bring.
    Program(&'static str),
    /// Something that the machine itself does not give.
    Machine(String),
}

/// Polls `condition` until it gives a value.
///
/// # Panics
/// With `what` when `within` has passed.
pub fn eventually<T>(within: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// A loopback address that nothing listens on. Ports are below the range from which the kernel takes ports of clients, so that a port stays
/// free while its listener is down.
///
/// # Panics
/// If every port is taken.
#[must_use]
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() % 400) as u16 * PORTS_PER_PROCESS;
    for _ in 0..10_000 {
        let port = 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port")
}

const POLL: Duration = Duration::from_millis(5);
const PORTS_PER_PROCESS: u16 = 30;
