//! What there is of a log that is to be sent: the log, or the knowledge that there was one.

use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use sedge_store::watch;
use sedge_store::{Partition, ReadError};

/// A log, or what is left of it.
#[derive(Clone, Debug)]
pub enum Handle {
    /// The log itself.
    Log(Partition),
    /// Nothing but where it ended: the hub had all of it once, and it is removed. Where the hub was put back to an older copy meanwhile, it hears how
    /// much there was, so that what stands behind keeps its offsets and what is gone is counted. Or the hub has another history of it, and waits for the end of it
    /// that was announced.
    Removed {
        /// Which log it was.
        log: LogId,
        /// One past its last offset.
        end: Offset,
        /// What of it does not come is told elsewhere, and does not count here.
        told: bool,
    },
}

impl Handle {
    /// The log's id.
    pub fn log_id(&self) -> LogId {
        match self {
            Self::Log(log) => log.log_id(),
            Self::Removed { log, .. } => *log,
        }
    }

    /// The log itself, if it is there.
    pub fn log(&self) -> Option<&Partition> {
        match self {
            Self::Log(log) => Some(log),
            Self::Removed { .. } => None,
        }
    }

    /// One past the last durable offset.
    pub(super) fn next(&self) -> Offset {
        match self {
            Self::Log(log) => *log.durable().borrow(),
            Self::Removed { end, .. } => *end,
        }
    }

    /// The first offset that is held; [`Self::next`] if none is.
    pub(super) fn oldest(&self) -> Offset {
        match self {
            Self::Log(log) => log.ledger().oldest.min(self.next()),
            Self::Removed { end, .. } => *end,
        }
    }

    /// Moves when the log grows, if it can.
    pub(super) fn durable(&self) -> Option<watch::Receiver<Offset>> {
        self.log().map(Partition::durable)
    }

    /// As [`Partition::crc_below`].
    pub(super) fn crc_below(&self, next: Offset) -> Result<Option<u32>, ReadError> {
        self.log().map_or(Ok(None), |log| log.crc_below(next))
    }

    /// Whether `at` is inside one of the frames.
    pub(super) fn has_inside(&self, at: Offset) -> Result<bool, ReadError> {
        let Some(log) = self.log() else {
            return Ok(false);
        };
        if at <= self.oldest() || at >= self.next() {
            return Ok(false);
        }
        let chunk = log.read(at, 1)?;
        Ok(chunk.first < at && chunk.next > at)
    }
}

impl From<Partition> for Handle {
    fn from(log: Partition) -> Self {
        Self::Log(log)
    }
}

/// What the hub had of a removed log from `from` on, and has no more: how many of the offsets were records nobody knows any longer. Or what it is not to wait for,
/// which is `told` elsewhere.
pub(super) fn forgotten(from: Offset, end: Offset, told: bool) -> Gap {
    let (lost, cause) = match told {
        true => (0, Cause::NewLog),
        false => (end.since(from), Cause::Corrupt),
    };
    Gap {
        from,
        to: end,
        lost,
        cause,
        when: Micros::UNKNOWN,
        when_last: Micros::UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tests::{log_in, stage_each};

    /// Where a frame begins or ends is not inside of it, and where nothing is held there is none.
    #[tokio::test(start_paused = true)]
    async fn an_offset_is_inside_a_frame_only_between_its_records() {
        let dir = tempfile::tempdir().unwrap();
        let log = log_in(dir.path(), 1).await;
        stage_each(&log, 1, 3, b"of three").await;
        let inside = (0..6).filter(|at| log.handle.has_inside(Offset::new(*at)).unwrap());
        assert_eq!(inside.collect::<Vec<_>>(), [2, 3]);
    }
}
