//! What is left of a log when it is removed: its id, its place and where it ended.
//!
//! A hub that is put back to an older copy may have forgotten such a log, or the rest of it. It is offered what is left, so that what follows in the chain has
//! the offsets that it had, and what is gone is counted ([decision 0028](../../../../docs/decisions/0028-what-a-hub-forgets.md)).

use std::collections::BTreeSet;

use sedge_core::{LogId, Offset};
use sedge_uplink::forward::Handle;
use serde::{Deserialize, Serialize};

use super::{OpenLog, PartitionIdentity};

/// What is left of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Removed {
    pub(crate) stream: String,
    pub(crate) partition: u16,
    pub(crate) log: LogId,
    /// Place in the chain.
    pub(crate) place: u16,
    /// One past its last offset.
    pub(crate) end: Offset,
    /// The uplinks whose hubs have had all of it.
    pub(crate) uplinks: BTreeSet<u32>,
}

/// The same, as it stands in the partition's identity file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RemovedLog {
    /// The log's id, 32 hex digits.
    log: String,
    place: u16,
    end: u64,
    uplinks: BTreeSet<u32>,
}

impl Removed {
    /// How an uplink offers it.
    pub(crate) fn handle(&self) -> Handle {
        Handle::Removed {
            log: self.log,
            end: self.end,
            told: false,
        }
    }
}

impl OpenLog {
    /// What hubs are offered of it. One that waits for the announced end of another history of it hears that nothing more comes.
    pub(crate) fn handle(&self) -> Option<Handle> {
        let known = &self.identity.identity;
        match (known.diverged, known.announced) {
            (false, _) => Some(self.partition.clone().into()),
            (true, false) => None,
            (true, true) => Some(Handle::Removed {
                log: self.partition.log_id(),
                end: self.partition.next(),
                told: true,
            }),
        }
    }
}

/// Those of one partition. A log whose removal was cut short is there itself.
pub(super) fn of(stream: &str, identity: &PartitionIdentity, logs: &[OpenLog]) -> Vec<Removed> {
    let known = identity.removed.iter().filter_map(|removed| {
        Some(Removed {
            stream: stream.to_owned(),
            partition: identity.partition,
            log: removed.log.parse().ok()?,
            place: removed.place,
            end: Offset::new(removed.end),
            uplinks: removed.uplinks.clone(),
        })
    });
    let is_there = |log: LogId| logs.iter().any(|open| open.partition.log_id() == log);
    known.filter(|removed| !is_there(removed.log)).collect()
}

/// `known` and one more, the longest gone left out where they become too many.
pub(super) fn with(known: &[RemovedLog], left: &Removed) -> Vec<RemovedLog> {
    let log = left.log.to_string();
    let mut all: Vec<RemovedLog> = known.to_vec();
    all.retain(|removed| removed.log != log);
    all.push(RemovedLog {
        log,
        place: left.place,
        end: left.end.get(),
        uplinks: left.uplinks.clone(),
    });
    all.sort_by_key(|removed| removed.place);
    all.drain(..all.len().saturating_sub(REMOVED_MAX));
    all
}

/// How many offsets they had, if these are all that ever were removed; else nobody knows.
pub(super) fn sum_of_all(removed: &[RemovedLog]) -> u64 {
    let are_all = (0..).zip(removed).all(|(place, log)| log.place == place);
    let ends = removed.iter().filter(|_| are_all);
    ends.map(|log| log.end).fold(0, u64::saturating_add)
}

/// Of one partition: each is offered in each session. A hub that has forgotten more than these counts offsets otherwise.
pub(super) const REMOVED_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn removed(place: u16) -> Removed {
        Removed {
            stream: "telemetry".into(),
            partition: 0,
            log: LogId::new([place as u8; 16]),
            place,
            end: Offset::new(7),
            uplinks: BTreeSet::from([1]),
        }
    }

    #[test]
    fn the_longest_gone_are_forgotten_when_they_become_too_many() {
        let most = REMOVED_MAX as u16;
        let known = (0..most + 3).fold(Vec::new(), |known, place| with(&known, &removed(place)));
        let places: Vec<u16> = known.iter().map(|removed| removed.place).collect();
        assert_eq!(places, Vec::from_iter(3..most + 3));
        assert_eq!(
            with(&known, &removed(5)),
            known,
            "one that is removed again"
        );
        assert_eq!(sum_of_all(&known), 0, "some are forgotten");
        let few = (0..3).fold(Vec::new(), |known, place| with(&known, &removed(place)));
        assert_eq!(sum_of_all(&few), 3 * 7);
    }
}
