//! Where the logs of a chain stand when it is read as one run of offsets: each behind the end of the one before, for as long as its directory is there.

use sedge_store::COMMIT_OFFSETS_MAX;

use super::{LogIdentity, OpenLog, PartitionIdentity, removed};

/// What is added to the offsets of the log at `place`, which follows `logs`. What is removed may have stood behind it.
pub(super) fn shift_behind(logs: &[OpenLog], partition: &PartitionIdentity, place: u16) -> u64 {
    let behind = logs.last().map_or(0, OpenLog::shift_behind);
    match place < partition.next_place {
        true => behind,
        false => behind.max(partition.removed_to()),
    }
}

/// For readers, who come by the hub's door.
#[cfg(feature = "hub")]
impl super::Chain {
    /// Where its logs end that are removed.
    pub(crate) fn removed_to(&self) -> u64 {
        super::lock(&self.identity).identity.removed_to()
    }
}

impl PartitionIdentity {
    /// The same. A version that did not write that down knew where the last ones ended.
    pub(super) fn removed_to(&self) -> u64 {
        self.next_shift
            .unwrap_or_else(|| removed::sum_of_all(&self.removed))
    }
}

impl OpenLog {
    /// It follows what ended at `behind`, unless it is written down already where it stands. The first of a chain stands at 0. That a full disk does not take it
    /// keeps nobody from starting: the next start finds out the same.
    pub(super) fn stands_behind(&mut self, behind: u64) {
        if self.identity.identity.shift.is_some() || self.place == 0 {
            return;
        }
        self.shift = behind;
        let placed = LogIdentity {
            shift: Some(behind),
            ..self.identity.identity.clone()
        };
        if let Err(error) = self.identity.rewrite(placed) {
            tracing::debug!(log = %self.partition.log_id(), %error, "where a log stands in its chain is found out again at the next start");
        }
    }

    /// What is added to the offsets of the next one. Where a full disk has kept its end from being written, a later start may burn offsets behind what is there now.
    pub(super) fn shift_behind(&self) -> u64 {
        let in_doubt = match self.partition.is_ended() {
            true => 0,
            false => u64::from(COMMIT_OFFSETS_MAX),
        };
        let next = self.partition.next().get();
        self.shift.saturating_add(next).saturating_add(in_doubt)
    }
}
