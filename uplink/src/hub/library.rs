//! The partitions that can be read here, and the sign that something new can be.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use sedge_store::watch;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::own::End;
use super::partition::Partition;

/// All partitions of all streams.
#[derive(Debug)]
pub(crate) struct Library {
    streams: RwLock<BTreeMap<String, BTreeMap<u32, Arc<Partition>>>>,
    progress: watch::Sender<u64>,
    /// Who searches by time waits here for those who are at it: each goes through a segment of every partition that it asks for, and what is committed
    /// for gateways is done by the same threads.
    searches: Arc<Semaphore>,
}

impl Default for Library {
    fn default() -> Self {
        Self {
            streams: RwLock::default(),
            progress: watch::Sender::new(0),
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
        }
    }
}

const SEARCHES_MAX: usize = 4;

impl Library {
    /// A turn to search, when others are not at it.
    pub(crate) async fn turn_to_search(&self) -> OwnedSemaphorePermit {
        let turn = Arc::clone(&self.searches).acquire_owned().await;
        turn.expect("it is never closed")
    }

    /// The partitions of `stream` by number, or those of all streams.
    pub(crate) fn partitions(&self, stream: Option<&str>) -> Vec<Arc<Partition>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = streams
            .iter()
            .filter(|(name, _)| stream.is_none_or(|s| s == name.as_str()));
        wanted.flat_map(|(_, of)| of.values().cloned()).collect()
    }

    /// One partition.
    pub(crate) fn partition(&self, stream: &str, number: u32) -> Option<Arc<Partition>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(stream)?.get(&number).cloned()
    }

    /// A partition comes, unless one with its number is there; which is here now.
    pub(crate) fn put(&self, partition: Arc<Partition>) -> Arc<Partition> {
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        let of = streams.entry(partition.stream.to_string()).or_default();
        Arc::clone(of.entry(partition.number).or_insert(partition))
    }

    /// Moves whenever something new can be read.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Something new can be read.
    pub(crate) fn progressed(&self) {
        self.progress.send_modify(|n| *n += 1);
    }

    /// Where the logs end that are a gateway's own.
    pub(super) fn own_ends(&self) -> Vec<End> {
        let partitions = self.partitions(None);
        partitions.iter().flat_map(|p| p.own_ends()).collect()
    }
}
