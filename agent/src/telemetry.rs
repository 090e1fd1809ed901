//! What the sources tell about themselves: counters and a state, shared with `status`, `/metrics` and the log.
//!
//! Counting is the source's business, adding up and showing that of `status` and `metrics`.
//! Nothing here blocks for longer than a counter takes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sedge_store::watch;

/// All sources of one agent. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Telemetry {
    started: Instant,
    sources: Arc<Mutex<Vec<Arc<Source>>>>,
}

/// One source's counters and state.
#[derive(Debug)]
pub struct Source {
    name: String,
    kind: &'static str,
    stream: String,
    accepted: AtomicU64,
    accepted_bytes: AtomicU64,
    settled: AtomicU64,
    duplicates: AtomicU64,
    clients: AtomicU64,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
    incidents: Mutex<BTreeMap<&'static str, u64>>,
    state: Mutex<State>,
    /// Whether it has said for the first time what it is doing.
    begun: watch::Sender<bool>,
}

/// What a source is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether events can come in.
    pub up: bool,
    /// In words: `connected to 127.0.0.1:1883`, `no such device`.
    pub what: String,
}

/// All numbers of a source at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Events taken over the wire and handed to the log.
    pub accepted: u64,
    /// Their payload bytes.
    pub accepted_bytes: u64,
    /// Events on disk and, where the protocol has it, acknowledged.
    pub settled: u64,
    /// Redeliveries recognised and not stored again.
    pub duplicates: u64,
    /// Connected devices.
    pub clients: u64,
    /// Events not taken, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Connections ended or refused, by reason.
    pub incidents: BTreeMap<&'static str, u64>,
}

impl Telemetry {
    /// Nothing counted yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it begins to measure time")]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            sources: Arc::default(),
        }
    }

    /// Adds a source.
    #[must_use]
    pub fn source(&self, name: &str, kind: &'static str, stream: &str) -> Arc<Source> {
        let source = Arc::new(Source {
            name: name.to_owned(),
            kind,
            stream: stream.to_owned(),
            accepted: AtomicU64::new(0),
            accepted_bytes: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            clients: AtomicU64::new(0),
            dropped: Mutex::default(),
            incidents: Mutex::default(),
            state: Mutex::new(State {
                up: false,
                what: "starting".to_owned(),
            }),
            begun: watch::Sender::new(false),
        });
        locked(&self.sources).push(Arc::clone(&source));
        source
    }

    /// The sources begin anew; what they counted is forgotten.
    pub fn forget_sources(&self) {
        locked(&self.sources).clear();
    }

    /// The sources, in the order they were added.
    #[must_use]
    pub fn sources(&self) -> Vec<Arc<Source>> {
        locked(&self.sources).clone()
    }

    /// When counting began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }
}

impl Source {
    /// Events were taken over the wire and handed to the log.
    pub fn accepted(&self, events: u64, bytes: u64) {
        self.accepted.fetch_add(events, Relaxed);
        self.accepted_bytes.fetch_add(bytes, Relaxed);
    }

    /// Events are on disk and acknowledged.
    pub fn settled(&self, events: u64) {
        self.settled.fetch_add(events, Relaxed);
    }

    /// Redeliveries were recognised and not stored again.
    pub fn duplicates(&self, events: u64) {
        self.duplicates.fetch_add(events, Relaxed);
    }

    /// So many devices are connected now.
    pub fn clients(&self, now: u64) {
        self.clients.store(now, Relaxed);
    }

    /// Events were not taken. The reason is a word or two for a label: `oversize`, `bad-key`, `qos0-overload`.
    pub fn dropped(&self, reason: &'static str, events: u64) {
        *locked(&self.dropped).entry(reason).or_default() += events;
    }

    /// A connection was refused or ended by the other side's fault: `malformed`, `clients-max`, `keep-alive`.
    pub fn incident(&self, reason: &'static str) {
        *locked(&self.incidents).entry(reason).or_default() += 1;
    }

    /// Events can come in. One log line if that, or the words, are new.
    pub fn up(&self, what: impl Into<String>) {
        self.enter(State {
            up: true,
            what: what.into(),
        });
    }

    /// No events can come in. The words must not change from try to try: there is one log line for each change.
    pub fn down(&self, what: impl Into<String>) {
        self.enter(State {
            up: false,
            what: what.into(),
        });
    }

    /// Returns once it has said for the first time whether events can come in.
    pub async fn begun(&self) {
        // The sender lives as long as this does.
        drop(self.begun.subscribe().wait_for(|begun| *begun).await);
    }

    /// What the source is doing.
    #[must_use]
    pub fn state(&self) -> State {
        locked(&self.state).clone()
    }

    /// All numbers at this moment.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            accepted: self.accepted.load(Relaxed),
            accepted_bytes: self.accepted_bytes.load(Relaxed),
            settled: self.settled.load(Relaxed),
            duplicates: self.duplicates.load(Relaxed),
            clients: self.clients.load(Relaxed),
            dropped: locked(&self.dropped).clone(),
            incidents: locked(&self.incidents).clone(),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its type as it is written in the file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The stream that its events go to.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    fn enter(&self, next: State) {
        let mut state = locked(&self.state);
        if *state == next {
            return;
        }
        match next.up {
            true => tracing::info!(source = self.name, state = "up", "{}", next.what),
            false => tracing::warn!(source = self.name, state = "down", "{}", next.what),
        }
        *state = next;
        self.begun.send_replace(true);
    }
}

/// A counter that a panicking task left behind is still a counter.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_counts_is_seen_from_outside() {
        let telemetry = Telemetry::new();
        let source = telemetry.source("direct", "mqtt-listen", "telemetry");
        source.accepted(2, 300);
        source.settled(1);
        source.dropped("oversize", 1);
        source.dropped("oversize", 2);
        source.up("listening on 127.0.0.1:1883");
        let [seen] = &telemetry.sources()[..] else {
            panic!("one source")
        };
        let counts = seen.counts();
        assert_eq!(
            (counts.accepted, counts.accepted_bytes, counts.settled),
            (2, 300, 1)
        );
        assert_eq!(counts.dropped["oversize"], 3);
        assert!(seen.state().up);
    }
}
