//! How a hub is to be.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sedge_core::Micros;
use sedge_core::log::WhenFull;
use sedge_store::{Clock, system_clock};

use crate::pattern::fits;
use crate::trust::accept::ServerFiles;
use crate::trust::authority::{CA_CERTIFICATE, HUB_CERTIFICATE, HUB_KEY};

/// How a hub is to be.
#[derive(Clone, Debug)]
pub struct HubOptions {
    /// Where everything durable stands.
    pub data_dir: PathBuf,
    /// The most that all mirrors together take on the disk, in bytes.
    pub disk_max: u64,
    /// How streams are kept; the first whose name fits counts.
    pub streams: Vec<StreamOptions>,
    /// Connections at a time.
    pub connections_max: usize,
    /// Bytes that a gateway may have on their way.
    pub credit_bytes: u32,
    /// Bytes that all gateways together may have on their way, as long as that leaves 64 KiB and a frame for each.
    pub waiting_bytes: u64,
    /// How often the catalog is copied.
    pub catalog_copy_every: Duration,
    /// How often it is looked what is older than its retention.
    pub retention_every: Duration,
    /// What mirrors go by: when something arrived, and how old it is now.
    pub clock: HubClock,
    /// Who may come, and how they are known; without it only this machine is served.
    pub trust: Option<HubTrust>,
}

/// How a hub knows those who come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubTrust {
    /// The hub's certificate, its key, and what those of gateways and consumers are signed by.
    pub files: ServerFiles,
    /// Directory of the register, and of the authority if the hub has one of its own.
    pub dir: PathBuf,
}

impl HubTrust {
    /// With the authority that was made in `dir`.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            files: ServerFiles {
                certificate: dir.join(HUB_CERTIFICATE),
                key: dir.join(HUB_KEY),
                client_ca: Some(dir.join(CA_CERTIFICATE)),
                client_required: false,
            },
            dir: dir.into(),
        }
    }
}

/// A clock that can stand in a struct that is printed.
#[derive(Clone)]
pub struct HubClock(Clock);

/// How the mirrors of a stream are kept.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Which streams: a name in which `*` stands for any run of characters.
    pub name: String,
    /// The most that one mirror takes on the disk, in bytes.
    pub capacity: u64,
    /// Records older than this go.
    pub retention: Option<Duration>,
    /// What gives way when a mirror is full: the oldest records (`EvictOldest`), or the acknowledgements (`Refuse`).
    pub when_full: WhenFull,
}

impl HubOptions {
    /// A hub in `data_dir` with everything else as it comes.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            disk_max: 100 << 30,
            streams: vec![StreamOptions::default()],
            connections_max: 1_024,
            credit_bytes: 4 << 20,
            waiting_bytes: 128 << 20,
            catalog_copy_every: Duration::from_secs(600),
            retention_every: Duration::from_secs(60),
            clock: HubClock(system_clock()),
            trust: None,
        }
    }

    /// How `stream` is kept.
    pub(crate) fn stream(&self, stream: &str) -> StreamOptions {
        let fitting = self.streams.iter().find(|s| fits(&s.name, stream));
        fitting.cloned().unwrap_or_default()
    }
}

impl HubClock {
    /// The time.
    pub(crate) fn now(&self) -> Micros {
        (self.0)()
    }

    /// The clock itself.
    pub(crate) fn clock(&self) -> Clock {
        self.0.clone()
    }
}

impl From<Clock> for HubClock {
    fn from(clock: Clock) -> Self {
        Self(clock)
    }
}

impl fmt::Debug for HubClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            name: "*".into(),
            capacity: 1 << 30,
            retention: None,
            when_full: WhenFull::EvictOldest,
        }
    }
}
