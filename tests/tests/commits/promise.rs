//! What a group was promised: seen from outside, by what it asked for and was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// The commits of a group and what it has read, whoever of its members did.
#[derive(Debug)]
pub(crate) struct Promise {
    group: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts how often the hub was put back.
    life: u32,
    commits: Commits,
    read: BTreeMap<(u32, u64), Bytes>,
}

/// Commits as they stood at some moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commits {
    /// By partition: the newest that was answered.
    answered: BTreeMap<u32, u64>,
    /// All that were sent.
    sent: BTreeSet<(u32, u64)>,
    answers: u64,
}

/// What a place that is told must not be below.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    life: u32,
    place: u64,
}

/// A commit on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    life: u32,
    partition: u32,
    place: u64,
}

impl Promise {
    pub(crate) fn of(group: &'static str) -> Self {
        Self {
            group,
            state: Mutex::default(),
        }
    }

    /// For who asks for a place from now on.
    pub(crate) fn floor(&self, partition: u32) -> Floor {
        let state = self.lock();
        Floor {
            life: state.life,
            place: (state.commits.answered.get(&partition)).map_or(0, |place| *place),
        }
    }

    /// The hub says that the group stands at `place`; what is not committed is the beginning. It had come to `floor` before it was asked.
    pub(crate) fn found(&self, partition: u32, floor: Floor, place: u64) {
        let (group, state) = (self.group, self.lock());
        assert!(
            place >= floor.place || state.life != floor.life,
            "{group} goes back in {partition}: {floor:?} was committed, {place} is what it is told"
        );
        assert!(
            place == 0 || state.commits.sent.contains(&(partition, place)),
            "{group} skips in {partition}: {place} is what it is told, and was never committed"
        );
    }

    /// A record was read there. It is the same each time.
    pub(crate) fn read(&self, partition: u32, offset: u64, value: Bytes) {
        let known = self.lock().read.insert((partition, offset), value.clone());
        assert!(
            known.is_none_or(|known| known == value),
            "{}: another record at {partition}/{offset}",
            self.group
        );
    }

    /// A commit is about to be sent.
    pub(crate) fn sends(&self, partition: u32, place: u64) -> Sent {
        let mut state = self.lock();
        state.commits.sent.insert((partition, place));
        Sent {
            life: state.life,
            partition,
            place,
        }
    }

    /// It was answered, with success.
    pub(crate) fn answered(&self, sent: Sent) {
        let mut state = self.lock();
        if state.life == sent.life {
            (state.commits.answered).insert(sent.partition, sent.place);
            state.commits.answers += 1;
        }
    }

    /// Commits as they stand while no hub runs.
    pub(crate) fn commits(&self) -> Commits {
        self.lock().commits.clone()
    }

    /// The hub was put back to what it was then.
    pub(crate) fn goes_back(&self, commits: Commits) {
        let mut state = self.lock();
        state.life += 1;
        state.commits = commits;
    }

    /// By offset, what stands in each record that was read; and how many commits were answered.
    pub(crate) fn all_read(&self) -> (Vec<(u64, Bytes)>, u64) {
        let state = self.lock();
        let read = state.read.iter();
        let mut read: Vec<_> = read
            .map(|((_, offset), value)| (*offset, value.clone()))
            .collect();
        read.sort();
        (read, state.commits.answers)
    }

    pub(crate) fn count(&self) -> u64 {
        self.lock().read.len() as u64
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
