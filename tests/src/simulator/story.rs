//! What happened in a simulated run: a fingerprint of everything, and the moments that a person wants to read.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// Written by all parts of a run. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Story(Arc<Mutex<Told>>);

#[derive(Debug)]
struct Told {
    began: Instant,
    hash: u64,
    steps: u64,
    lines: String,
    faults: BTreeMap<&'static str, u64>,
}

impl Story {
    /// Begins now.
    #[must_use]
    pub(super) fn new() -> Self {
        BEGAN.set(Some(Instant::now()));
        Self(Arc::new(Mutex::new(Told {
            began: Instant::now(),
            hash: 0,
            steps: 0,
            lines: String::new(),
            faults: BTreeMap::new(),
        })))
    }

    /// Something happened, in numbers.
    pub(super) fn mix(&self, what: &[u64]) {
        let mut told = self.lock();
        let now = told.began.elapsed().as_micros() as u64;
        let mut event = 0xCBF2_9CE4_8422_2325_u64;
        for number in what.iter().chain(&[now]) {
            event = (event ^ number)
                .wrapping_mul(0x0100_0000_01B3)
                .rotate_left(23);
        }
        told.hash = (told.hash.rotate_left(5) ^ event).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        told.steps += 1;
    }

    /// Something worth reading happened.
    pub(super) fn tell(&self, line: &str) {
        let mut told = self.lock();
        let at = told.began.elapsed();
        writeln!(told.lines, "{} {line}", clock(at)).expect("a string takes everything");
        drop(told);
        self.mix(&[line.len() as u64]);
    }

    /// Trouble of this kind came.
    pub(super) fn count(&self, kind: &'static str) {
        *self.lock().faults.entry(kind).or_default() += 1;
    }

    /// How often which kind of trouble came.
    #[must_use]
    pub(super) fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.lock().faults.clone()
    }

    /// The fingerprint of all that happened so far.
    #[must_use]
    pub(super) fn hash(&self) -> u64 {
        self.lock().hash
    }

    /// How much happened so far.
    #[must_use]
    pub(super) fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Virtual time since the beginning.
    #[must_use]
    pub(super) fn elapsed(&self) -> Duration {
        self.lock().began.elapsed()
    }

    /// What was told.
    #[must_use]
    pub(super) fn text(&self) -> String {
        self.lock().lines.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().expect("no holder panics")
    }
}

impl Default for Story {
    fn default() -> Self {
        Self::new()
    }
}

/// The time since the story of this thread's system began.
#[must_use]
pub fn virtual_time() -> String {
    let began = BEGAN.get();
    began.map_or_else(String::new, |began| clock(began.elapsed()))
}

thread_local! {
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn clock(at: Duration) -> String {
    let (seconds, days) = (at.as_secs() % 86_400, at.as_secs() / 86_400);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let millis = at.subsec_millis();
    format!(
        "{days:>2}d {hours:02}:{minutes:02}:{:02}.{millis:03}",
        seconds % 60
    )
}
