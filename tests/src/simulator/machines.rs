//! The simulated machines as the code under test meets them: their disks by path, one clock, chance from the seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use sedge_core::Micros;
use sedge_store::disk::Files;
use sedge_store::world::World;
use tokio::time::Instant;

use super::files::Disk;
use crate::random::Random;

/// All machines of a run.
#[derive(Debug)]
pub(super) struct Machines {
    disks: BTreeMap<String, Disk>,
    clock: Arc<Clock>,
    chance: RefCell<Random>,
}

/// The time of day, and how long a disk takes.
#[derive(Debug)]
pub(super) struct Clock {
    began: Instant,
    offset: AtomicI64,
    latency_us: AtomicU64,
}

impl Machines {
    /// Machines with these disks, by name.
    #[must_use]
    pub(super) fn new(disks: BTreeMap<String, Disk>, clock: Arc<Clock>, seed: u64) -> Self {
        Self {
            disks,
            clock,
            chance: RefCell::new(Random::new(seed)),
        }
    }
}

impl World for Machines {
    fn files(&self, path: &Path) -> Option<Arc<dyn Files>> {
        let rest = path.strip_prefix(super::ROOT).ok()?;
        let machine = rest.components().next()?.as_os_str().to_str()?;
        let disk = self.disks.get(machine)?;
        Some(Arc::new(disk.clone()))
    }

    fn now(&self) -> Micros {
        self.clock.now()
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.chance.borrow_mut().fill(bytes);
    }

    fn latency(&self) -> Duration {
        self.clock.latency()
    }
}

impl Clock {
    /// A clock that is right.
    #[must_use]
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            offset: AtomicI64::new(RIGHT_US),
            latency_us: AtomicU64::new(1000),
        }
    }

    /// The time that it shows.
    #[must_use]
    pub(super) fn now(&self) -> Micros {
        let elapsed = self.began.elapsed().as_micros() as i64;
        Micros::new(self.offset.load(Ordering::Relaxed) + elapsed)
    }

    /// Sets it to so many seconds before or behind the right time; `None`: to 1970.
    pub(super) fn set(&self, wrong_by_s: Option<i64>) {
        let elapsed = self.began.elapsed().as_micros() as i64;
        let offset = wrong_by_s.map_or(1_000_000 - elapsed, |s| RIGHT_US + s * 1_000_000);
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// Jobs at a disk take so long from now on.
    pub(super) fn set_latency(&self, latency: Duration) {
        self.latency_us
            .store(latency.as_micros() as u64, Ordering::Relaxed);
    }

    fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Ordering::Relaxed))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// A day in 2026, in µs since 1970.
const RIGHT_US: i64 = 1_790_000_000_000_000;
