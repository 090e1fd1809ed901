//! Another configuration for a gateway that runs: tried, and taken back if what worked before does not come back with it.
//!
//! The change is a new life, as after a start: sources and uplinks begin anew, nothing that was accepted is lost, and devices that keep a session send again what
//! was not acknowledged. On trial no uplink loses its place in the logs, so that taking it back costs nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sedge_config::checked;
use sedge_store::world;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Load;
use crate::status::Status;

/// The way to a gateway for those who want it changed.
#[derive(Clone, Debug)]
pub struct Reloader(mpsc::Sender<Wish>);

/// Where a gateway hears of wishes.
#[derive(Debug)]
pub struct Reloads(mpsc::Receiver<Wish>);

/// Somebody wants another configuration.
#[derive(Debug)]
pub(super) struct Wish {
    agent: checked::Agent,
    confirm: Duration,
    answer: oneshot::Sender<Result<(), NotReloaded>>,
}

/// Why the configuration is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReloaded {
    /// It cannot be changed while the agent runs.
    #[error("{0} takes a restart; everything is as before")]
    NeedsRestart(&'static str),
    /// It does not start.
    #[error("it does not start: {0}; everything is as before")]
    NotStarted(String),
    /// Something that worked before does not work with it.
    #[error("{0} did not come back within {1:?}; everything is as before")]
    NotBack(String, Duration),
    /// Another one is on trial.
    #[error("another change is on trial")]
    Busy,
    /// The agent is stopping.
    #[error("the agent is being stopped")]
    Stopping,
}

/// A way to a gateway, and its end there.
#[must_use]
pub fn pair() -> (Reloader, Reloads) {
    let (sender, receiver) = mpsc::channel(1);
    (Reloader(sender), Reloads(receiver))
}

impl Reloader {
    /// Tries `agent`. What worked before has to work again within `confirm`.
    ///
    /// # Errors
    /// When everything is as before.
    pub async fn reload(
        &self,
        agent: checked::Agent,
        confirm: Duration,
    ) -> Result<(), NotReloaded> {
        let (answer, answered) = oneshot::channel();
        let wish = Wish {
            agent,
            confirm,
            answer,
        };
        self.0.try_send(wish).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => NotReloaded::Busy,
            mpsc::error::TrySendError::Closed(_) => NotReloaded::Stopping,
        })?;
        answered.await.unwrap_or(Err(NotReloaded::Stopping))
    }
}

impl Reloads {
    /// The next wish; never, when nobody is left to have one.
    pub(super) async fn next(&mut self) -> Wish {
        match self.0.recv().await {
            Some(wish) => wish,
            None => std::future::pending().await,
        }
    }
}

/// A configuration on trial.
#[derive(Debug)]
pub(super) struct Trial {
    /// What held before.
    before: Arc<checked::Agent>,
    /// What worked with it, and is in both.
    worked: BTreeSet<String>,
    confirm: Duration,
    until: Instant,
    answer: oneshot::Sender<Result<(), NotReloaded>>,
}

impl Trial {
    /// Takes `wish` on, if it can be done without a restart: the new configuration, and its trial.
    pub(super) fn begin(
        wish: Wish,
        before: &Arc<checked::Agent>,
        status: &Status,
    ) -> Option<(Arc<checked::Agent>, Self)> {
        if let Some(key) = needs_restart(before, &wish.agent) {
            wish.refuse(NotReloaded::NeedsRestart(key));
            return None;
        }
        let stays = named(&wish.agent);
        let worked = working(status).intersection(&stays).cloned().collect();
        tracing::info!(confirm = ?wish.confirm, "another configuration is tried");
        let trial = Self {
            before: Arc::clone(before),
            worked,
            confirm: wish.confirm,
            until: Instant::now() + wish.confirm,
            answer: wish.answer,
        };
        Some((Arc::new(wish.agent), trial))
    }

    /// What held before.
    pub(super) fn before(&self) -> Arc<checked::Agent> {
        Arc::clone(&self.before)
    }

    /// What is still missing.
    fn missing(&self, status: &Status) -> Vec<String> {
        let now = working(status);
        self.worked.difference(&now).cloned().collect()
    }

    /// How it ends, if it does now.
    pub(super) fn judge(&self, status: &Status) -> Option<Result<(), NotReloaded>> {
        let missing = self.missing(status);
        if missing.is_empty() {
            return Some(Ok(()));
        }
        let is_over = Instant::now() >= self.until;
        is_over.then(|| Err(NotReloaded::NotBack(missing.join(", "), self.confirm)))
    }

    /// It stays.
    pub(super) fn confirm(self) {
        tracing::info!("the new configuration holds");
        tell(self.answer, Ok(()));
    }

    /// It goes: what held before, and the answer, which is true once that runs again.
    pub(super) fn take_back(self, why: NotReloaded) -> (Arc<checked::Agent>, Owed) {
        tracing::error!(%why, "the configuration is taken back");
        let owed = Owed {
            answer: self.answer,
            why,
        };
        (self.before, owed)
    }
}

/// An answer that is to be given.
#[derive(Debug)]
pub(super) struct Owed {
    answer: oneshot::Sender<Result<(), NotReloaded>>,
    why: NotReloaded,
}

impl Owed {
    pub(super) fn tell(self) {
        tell(self.answer, Err(self.why));
    }
}

impl Wish {
    pub(super) fn refuse(self, why: NotReloaded) {
        tracing::error!(%why, "the configuration is not taken");
        tell(self.answer, Err(why));
    }
}

/// Who has asked may have gone meanwhile.
fn tell(answer: oneshot::Sender<Result<(), NotReloaded>>, outcome: Result<(), NotReloaded>) {
    answer.send(outcome).unwrap_or_default();
}

fn needs_restart(before: &checked::Agent, after: &checked::Agent) -> Option<&'static str> {
    let (before, after) = (&before.gateway, &after.gateway);
    [
        ("gateway.id", before.id == after.id),
        ("gateway.data_dir", before.data_dir == after.data_dir),
        ("gateway.control", before.control == after.control),
    ]
    .into_iter()
    .find_map(|(key, same)| (!same).then_some(key))
}

fn named(agent: &checked::Agent) -> BTreeSet<String> {
    let sources = agent.sources.iter().map(|s| source(s.name()));
    let uplinks = agent.uplinks.iter().map(|u| uplink(&u.name));
    sources.chain(uplinks).collect()
}

fn working(status: &Status) -> BTreeSet<String> {
    let sources = status.sources.iter().filter(|s| s.up);
    let uplinks = status.uplinks.iter().filter(|u| u.up);
    sources
        .map(|s| source(&s.name))
        .chain(uplinks.map(|u| uplink(&u.name)))
        .collect()
}

fn source(name: &str) -> String {
    format!("source {name}")
}

fn uplink(name: &str) -> String {
    format!("uplink {name}")
}

/// SIGHUP reads the configuration again.
pub(super) async fn on_hangup(reloader: Reloader, load: Load) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        return tracing::warn!("SIGHUP cannot be heard");
    };
    while hangups.recv().await.is_some() {
        // What became of it is in the log.
        drop(read_again(&reloader, &load, CONFIRM).await);
    }
}

/// Reads the configuration with `load`, and tries it.
///
/// # Errors
/// In words, when everything is as before.
pub async fn read_again(reloader: &Reloader, load: &Load, confirm: Duration) -> Result<(), String> {
    let load = Arc::clone(load);
    let loaded = world::blocking(move || load()).await;
    let loaded = loaded.unwrap_or_else(|_| Err("interrupted".into()));
    let agent = loaded.inspect_err(|problems| {
        tracing::error!(%problems, "the configuration is wrong; everything is as before");
    })?;
    let outcome = reloader.reload(agent, confirm).await;
    outcome.map_err(|why| why.to_string())
}

/// How often a trial is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);
/// And no longer than this.
pub const CONFIRM_MAX: Duration = Duration::from_secs(86_400);
/// How long what worked before may take to come back, if nobody says otherwise.
pub const CONFIRM: Duration = Duration::from_secs(60);
