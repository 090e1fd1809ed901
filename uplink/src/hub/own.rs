//! What a gateway shows of its own streams at its HTTP port: the logs on its disk, read by a hub's door.
//!
//! A partition has its own number in the stream, and its logs are one run of shifted offsets, as at a hub. Nothing is kept for groups.

use std::sync::Arc;

use axum::Router;
use sedge_core::{LogId, Offset};
use sedge_store::{Name, Partition as Origin, Timekeeping, watch};
use tokio::task::JoinSet;

use super::chain::Link;
use super::http::{self, Site};
use super::library::Library;
use super::partition::Partition;

/// The streams of a gateway, for readers. Cheap to clone.
#[derive(Clone)]
pub struct OwnStreams {
    library: Arc<Library>,
    site: Arc<Site>,
    stopping: watch::Sender<bool>,
}

/// A partition of a gateway, with its logs in their order.
pub struct OwnPartition {
    /// The gateway.
    pub gateway: Name,
    /// The stream.
    pub stream: Name,
    /// Its number.
    pub partition: u16,
    /// Of them, the last one takes events.
    pub logs: Vec<OwnLog>,
    /// Where those end that are removed.
    pub removed_to: u64,
}

/// A log of a gateway.
pub struct OwnLog {
    /// The log.
    pub log: Origin,
    /// Its place in the chain.
    pub epoch: u32,
    /// What is added to its offsets.
    pub shift: u64,
    /// Nothing more will come into it.
    pub is_ended: bool,
    /// What its times are that are uptimes.
    pub time: Arc<dyn Timekeeping>,
}

impl std::fmt::Debug for OwnLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let link = self.link();
        f.debug_struct("OwnLog").field("link", &link).finish()
    }
}

impl OwnLog {
    pub(super) fn link(&self) -> Link {
        let next = self.log.next().get();
        Link {
            log: *self.log.log_id().as_bytes(),
            epoch: self.epoch,
            shift: self.shift,
            start: 0,
            end: self.is_ended.then_some(next),
            next,
        }
    }
}

impl OwnStreams {
    /// Those of `partitions`.
    #[must_use]
    pub fn new(partitions: Vec<OwnPartition>) -> Self {
        let library = Arc::new(Library::default());
        for of in partitions {
            library.put(Arc::new(Partition::own(of)));
        }
        let stopping = watch::Sender::new(false);
        Self {
            site: Arc::new(Site::of_gateway(Arc::clone(&library), stopping.subscribe())),
            library,
            stopping,
        }
    }

    /// The paths from which they are read, by whoever is on this machine.
    pub fn http(&self) -> Router {
        http::of_gateway(Arc::clone(&self.site))
    }

    /// Tells those who wait that something has come, for as long as this runs.
    pub async fn follow(&self) {
        let mut followers = JoinSet::new();
        for mut durable in self.library.own_ends() {
            let library = Arc::clone(&self.library);
            followers.spawn(async move {
                while durable.changed().await.is_ok() {
                    library.progressed();
                }
            });
        }
        // A log without a writer gets nothing more.
        while followers.join_next().await.is_some() {}
        std::future::pending::<()>().await;
    }

    /// A log is removed: who reads it goes on behind it.
    pub fn let_go(&self, stream: &str, partition: u16, gone: LogId) {
        if let Some(partition) = self.library.partition(stream, partition.into()) {
            partition.let_go(gone);
            self.library.progressed();
        }
    }

    /// Those who wait or follow are told that this ends.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }
}

/// Where a log ends that is still written.
pub(super) type End = watch::Receiver<Offset>;
