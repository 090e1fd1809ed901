//! The streams of a gateway for readers at its HTTP port, by the door that a hub has: all logs on its disk, the ended ones before the one that takes events.

use std::sync::Arc;

use axum::Router;
use sedge_config::checked;
#[cfg(feature = "hub")]
use sedge_store::Name;
use sedge_store::Timekeeping;
#[cfg(feature = "hub")]
use sedge_uplink::hub::{OwnLog, OwnPartition, OwnStreams};

use super::disk::{Disk, Removed};
use crate::shutdown::Shutdown;

/// What readers are shown, for one life.
#[derive(Clone)]
pub(super) struct Shown {
    #[cfg(feature = "hub")]
    streams: OwnStreams,
}

#[cfg(feature = "hub")]
impl Shown {
    /// What is in `disk`, if it is to be shown.
    pub(super) fn of(
        agent: &checked::Agent,
        disk: &Disk,
        time: &Arc<impl Timekeeping + 'static>,
    ) -> Option<Self> {
        let name = |name: &str| Name::new(name).expect("both crates have one rule for names");
        let partition = |chain: &super::disk::Chain| OwnPartition {
            gateway: name(&agent.gateway.id),
            stream: name(&chain.stream),
            partition: chain.partition,
            logs: chain.logs.iter().map(|log| own(log, time)).collect(),
            removed_to: chain.removed_to(),
        };
        agent.gateway.http_streams.then(|| Self {
            streams: OwnStreams::new(disk.chains.iter().map(partition).collect()),
        })
    }

    pub(super) fn pages(&self) -> Router {
        self.streams.http()
    }

    /// Wakes those who wait as events come, and lets them go at the shutdown.
    pub(super) async fn follow(self, mut shutdown: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.requested() => self.streams.stop(),
            () = self.streams.follow() => {}
        }
    }

    /// A log is being removed.
    pub(super) fn let_go(&self, gone: &Removed) {
        let Removed {
            stream,
            partition,
            log,
            ..
        } = gone;
        self.streams.let_go(stream, *partition, *log);
    }
}

#[cfg(feature = "hub")]
fn own(log: &super::disk::OpenLog, time: &Arc<impl Timekeeping + 'static>) -> OwnLog {
    OwnLog {
        log: log.partition.clone(),
        epoch: log.place.into(),
        shift: log.shift,
        is_ended: log.is_ended(),
        time: Arc::clone(time) as _,
    }
}

/// Readers come by the hub's door, which this program does not have.
#[cfg(not(feature = "hub"))]
impl Shown {
    pub(super) fn of(
        agent: &checked::Agent,
        _: &Disk,
        _: &Arc<impl Timekeeping + 'static>,
    ) -> Option<Self> {
        if agent.gateway.http_streams {
            tracing::warn!(
                "http_streams: this program was built without the hub, and shows no streams"
            );
        }
        None
    }

    pub(super) fn pages(&self) -> Router {
        Router::new()
    }

    pub(super) async fn follow(self, _: Shutdown) {}

    pub(super) fn let_go(&self, _: &Removed) {}
}
