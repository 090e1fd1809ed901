//! Where readers come to: a hub, or a gateway that shows its own streams.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::http::{HeaderMap, StatusCode};
use sedge_store::watch;
use tokio::sync::Semaphore;

use super::{Origin, Refusal, is_of_this_machine};
use crate::hub::guard::{self, Grant};
use crate::hub::library::Library;
use crate::hub::lobby::CONNECTIONS_OF_ONE_MAX;
use crate::hub::status::Counters;
use crate::hub::{LOOKS_MAX, Shared};

/// The place, and what all who are there share.
pub(in crate::hub) struct Site {
    pub(super) library: Arc<Library>,
    pub(super) counters: Arc<Counters>,
    /// Requests that are being answered.
    pub(super) visitors: AtomicUsize,
    /// … and how many may be at the same time: each may hold an answer.
    pub(super) visitors_max: usize,
    /// Who looks through much of a disk waits here for those who are at it.
    pub(super) looks: Arc<Semaphore>,
    owner: Owner,
}

enum Owner {
    Hub(Arc<Shared>),
    /// Turns true when the gateway stops.
    Gateway(watch::Receiver<bool>),
}

impl Site {
    pub(super) fn of_hub(shared: &Arc<Shared>) -> Self {
        Self {
            library: Arc::clone(shared.registry.library()),
            counters: Arc::clone(&shared.counters),
            visitors: AtomicUsize::new(0),
            visitors_max: 256,
            looks: Arc::clone(&shared.looks),
            owner: Owner::Hub(Arc::clone(shared)),
        }
    }

    pub(in crate::hub) fn of_gateway(
        library: Arc<Library>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            library,
            counters: Arc::default(),
            visitors: AtomicUsize::new(0),
            // Some 4 MiB each at most, on a machine that may have 512 MiB in all.
            visitors_max: 16,
            looks: Arc::new(Semaphore::new(LOOKS_MAX)),
            owner: Owner::Gateway(stopping),
        }
    }

    /// The hub, if it is one.
    pub(super) fn hub(&self) -> Result<&Arc<Shared>, Refusal> {
        match &self.owner {
            Owner::Hub(shared) => Ok(shared),
            Owner::Gateway(_) => Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "a gateway keeps nothing for consumers; its hub does",
            )),
        }
    }

    /// What one may read who asks with `headers`, and the seat of a consumer that is known.
    pub(super) fn admit(
        &self,
        origin: Option<&Origin>,
        headers: &HeaderMap,
    ) -> Result<(Grant, Option<guard::Seat>), Refusal> {
        let Owner::Hub(shared) = &self.owner else {
            is_of_this_machine(headers)?;
            return Ok((Grant::everything(), None));
        };
        if shared.guard.is_none() {
            is_of_this_machine(headers)?;
        }
        let grant = shared.granted(origin, headers)?;
        let seat = shared.seat(&grant).ok_or_else(|| {
            let what =
                format!("{CONNECTIONS_OF_ONE_MAX} requests of this consumer are open already");
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, what)
        })?;
        Ok((grant, Some(seat)))
    }

    /// Returns when nothing more is served.
    pub(super) async fn stopped(&self) {
        match &self.owner {
            Owner::Hub(shared) => shared.stopped().await,
            Owner::Gateway(stopping) => {
                // One that has gone without a word has stopped, too.
                drop(stopping.clone().wait_for(|stops| *stops).await);
            }
        }
    }

    /// Why somebody who follows hears nothing more.
    pub(super) const fn farewell(&self) -> &'static str {
        match self.owner {
            Owner::Hub(_) => "the hub is being stopped",
            Owner::Gateway(_) => "the gateway is being stopped, or begins anew",
        }
    }

    /// Why there is no such stream.
    pub(super) fn has_no(&self, stream: &str) -> String {
        match self.owner {
            Owner::Hub(_) => format!("no gateway has sent a stream \"{stream}\""),
            Owner::Gateway(_) => format!("this gateway has no stream \"{stream}\""),
        }
    }
}
