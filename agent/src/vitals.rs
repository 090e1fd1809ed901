//! What an agent or a hub lets a service manager and `/readyz` know: whether it is ready, whether its parts still turn, and one line of words.
//!
//! The parts write here what they are, `notify` passes it on. Knows nothing of sockets and service managers.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sedge_store::Pulse;
use sedge_store::watch;
use tokio::time::Instant;

use crate::cli::span;

/// The vitals of one program. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Vitals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    phase: watch::Sender<Phase>,
    /// Of what opens the logs, between lives too.
    opening: Pulse,
    life: Mutex<Option<Life>>,
}

/// How far the start has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing can come in yet.
    #[default]
    Starting,
    /// It would start, but must wait.
    Waiting {
        /// For what, in words.
        why: String,
        /// It says more within this time.
        at_most: Duration,
    },
    /// Events can come in.
    Ready,
}

/// What can be seen of what runs.
pub struct Life {
    /// Each part.
    pub parts: Vec<Part>,
    /// What keeps events out, a line each, beside parts that stand. Must not block.
    pub hindrances: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// How it goes, in one line. Blocks for the disk.
    pub line: Arc<dyn Fn() -> String + Send + Sync>,
}

/// A part that works in rounds.
pub struct Part {
    /// Its name.
    pub name: String,
    /// Signs of its life.
    pub late: Late,
    /// Whether events come in by it: an uplink only lets them out.
    pub lets_in: bool,
}

/// How late a part is; must not block.
pub type Late = Box<dyn Fn() -> Duration + Send>;

impl Vitals {
    /// Events can come in.
    pub fn ready(&self) {
        self.0.phase.send_if_modified(|phase| {
            let news = *phase != Phase::Ready;
            *phase = Phase::Ready;
            news
        });
    }

    /// The start must wait; another word comes within `at_most`. Who was ready once stays it.
    pub fn waits(&self, why: impl fmt::Display, at_most: Duration) {
        self.0.opening.next_by(Instant::now() + at_most);
        self.0.phase.send_if_modified(|phase| {
            let starting = *phase != Phase::Ready;
            if starting {
                let why = why.to_string();
                *phase = Phase::Waiting { why, at_most };
            }
            starting
        });
    }

    /// The logs are being opened. Nothing is to be seen of the life before, if there was one.
    pub fn opens(&self) {
        self.life().take();
        self.0.opening.next_by(Instant::now() + OPEN_PATIENCE);
    }

    /// They are open, and this runs now.
    pub fn lives(&self, life: Life) {
        *self.life() = Some(life);
        self.0.opening.rest();
    }

    /// How far the start has come, and each further step.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Why events cannot come in now, a line each; nothing if they can. Does not block.
    pub fn hindrances(&self) -> Vec<String> {
        let start = match &*self.0.phase.borrow() {
            Phase::Starting => Some("starting".to_owned()),
            Phase::Waiting { why, .. } => Some(why.clone()),
            Phase::Ready => None,
        };
        let life = self.life();
        let Some(life) = life.as_ref() else {
            return vec![start.unwrap_or_else(|| "the logs are being opened".to_owned())];
        };
        let parts = life.parts.iter().filter(|part| part.lets_in);
        let late = parts.map(|part| (&part.name, (part.late)()));
        let stand = late.filter(|(_, late)| *late > STANDS);
        let stand =
            stand.map(|(name, late)| format!("{name} stands since {}", span(late.as_secs_f64())));
        let others = (life.hindrances)();
        start.into_iter().chain(stand).chain(others).collect()
    }

    /// The part that is latest, and how late.
    pub fn latest(&self) -> Option<(String, Duration)> {
        let life = self.life();
        let parts = life.iter().flat_map(|life| &life.parts);
        let opening = ("opening the logs", self.0.opening.late());
        let late = parts.map(|part| (part.name.as_str(), (part.late)()));
        let latest = late.chain([opening]).max_by_key(|(_, late)| *late)?;
        (!latest.1.is_zero()).then(|| (latest.0.to_owned(), latest.1))
    }

    /// What says in one line how it goes; it blocks for the disk.
    pub fn line(&self) -> Option<Arc<dyn Fn() -> String + Send + Sync>> {
        self.life().as_ref().map(|life| Arc::clone(&life.line))
    }

    fn life(&self) -> MutexGuard<'_, Option<Life>> {
        // Each change under this lock is complete by itself.
        self.0.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Inner {
    fn default() -> Self {
        let opening = Pulse::new();
        opening.rest();
        Self {
            phase: watch::Sender::default(),
            opening,
            life: Mutex::default(),
        }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.parts.iter().map(|part| &part.name))
            .finish()
    }
}

/// A part that is later than this lets nothing in: a commit on a slow card is done long before.
const STANDS: Duration = Duration::from_secs(10);
/// For all logs to be opened, by a slow card that has much to look at.
const OPEN_PATIENCE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, seconds: u64) -> Part {
        Part {
            name: name.to_owned(),
            late: Box::new(move || Duration::from_secs(seconds)),
            lets_in: !name.contains("uplink"),
        }
    }

    fn life(parts: Vec<Part>) -> Life {
        Life {
            parts,
            hindrances: Arc::new(Vec::new),
            line: Arc::new(|| "well".into()),
        }
    }

    #[test]
    fn the_latest_part_is_named_and_an_ended_life_is_not_asked() {
        let vitals = Vitals::default();
        assert_eq!(vitals.latest(), None);
        vitals.lives(life(vec![part("a", 3), part("b", 9), part("c", 0)]));
        assert_eq!(vitals.latest(), Some(("b".into(), Duration::from_secs(9))));
        vitals.opens();
        assert_eq!(vitals.latest(), None);
    }

    #[test]
    fn who_was_ready_stays_it_while_another_life_waits_for_room() {
        let vitals = Vitals::default();
        vitals.waits("no room", Duration::from_secs(60));
        assert!(matches!(&*vitals.phase().borrow(), Phase::Waiting { .. }));
        vitals.ready();
        vitals.waits("no room", Duration::from_secs(60));
        assert_eq!(*vitals.phase().borrow(), Phase::Ready);
    }

    #[test]
    fn what_lets_nothing_in_is_a_hindrance_and_an_uplink_is_none() {
        let vitals = Vitals::default();
        assert_eq!(vitals.hindrances(), ["starting"]);
        vitals.ready();
        let uplink = part("the uplink hq", 3_600);
        vitals.lives(life(vec![part("the writer of a/0", 3), uplink]));
        assert_eq!(vitals.hindrances(), [""; 0]);
        vitals.lives(Life {
            hindrances: Arc::new(|| vec!["source direct: no port".into()]),
            ..life(vec![part("the writer of a/0", 61)])
        });
        assert_eq!(
            vitals.hindrances(),
            [
                "the writer of a/0 stands since 1m 1s",
                "source direct: no port"
            ]
        );
        vitals.opens();
        assert_eq!(vitals.hindrances(), ["the logs are being opened"]);
    }
}
