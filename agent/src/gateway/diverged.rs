//! What only a log has of which a hub holds another history. No hub will have it, so the log that takes events counts it: by a notice of loss, once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sedge_core::entry::{Entry, Notice};
use sedge_core::frame::Frame;
use sedge_core::{Cause, LogId, Micros, Offset};
use sedge_store::{Batch, Partition, READ_AGAIN_AFTER, ReadError, Timekeeping, world};

use super::take_over;
use crate::owner::{ITEM_BYTES_MAX, Item};

/// A log that was set aside, and is told of nowhere.
pub(super) struct Untold {
    /// The log itself.
    pub(super) log: Partition,
    /// Who is to tell it.
    pub(super) heir: Partition,
    /// The uplinks that it was for.
    pub(super) uplinks: BTreeSet<u32>,
}

/// Tells of all of them, before anything else goes into their heirs: how much of each, where that is known. What takes long is to be done beside the rest.
pub(super) async fn tell_all(
    untold: Vec<Untold>,
    time: Arc<dyn Timekeeping>,
) -> Result<Vec<(LogId, u64)>, impl Future<Output = ()> + Send + use<>> {
    let mut telling = Box::pin(async move {
        let mut told = Vec::new();
        for untold in untold {
            let log = untold.log.log_id();
            told.extend(tell(untold, &*time).await.map(|lost| (log, lost)));
        }
        told
    });
    match tokio::time::timeout(PATIENCE, &mut telling).await {
        Ok(told) => Ok(told),
        Err(_) => Err(async move { drop(telling.await) }),
    }
}

/// Puts into the heir what is lost, and says how much that is, if it could. A life that ends before that is durable leaves it to the next. The unit carries the log's id and end, as one of a device does:
/// by that it is known to be told.
async fn tell(untold: Untold, time: &dyn Timekeeping) -> Option<u64> {
    let Untold { log, heir, uplinks } = untold;
    let (id, end) = (log.log_id(), log.next());
    let lost = loop {
        let (log, uplinks) = (log.clone(), uplinks.clone());
        let counting = world::blocking(move || {
            let lost = uplinks.iter().map(|uplink| unacknowledged(&log, *uplink));
            lost.reduce(|one, other| Ok(one?.max(other?)))
        });
        match counting.await {
            Ok(Some(Ok(0))) => return Some(0),
            Ok(Some(Ok(lost))) => break lost,
            // In the end it is counted as lost.
            Ok(Some(Err(ReadError::Unread { .. }))) => tokio::time::sleep(READ_AGAIN_AFTER).await,
            Ok(Some(Err(error))) => {
                tracing::warn!(log = %id, %error, "what only this log has cannot be counted; the next start tries again");
                return None;
            }
            _ => return None,
        }
    };
    let when = Some(time.now()).filter(|now| now.is_known());
    let mut batch = Batch::new();
    let notice = Notice {
        time: None,
        key: None,
        cause: Cause::NewLog,
        from: Offset::new(end.get().saturating_sub(lost)),
        to: end,
        lost,
        when: when.unwrap_or(Micros::UNKNOWN),
    };
    let item = Item::DeviceCursor {
        log: *id.as_bytes(),
        next: end.get(),
    };
    batch.push(
        |unit| unit.notice(None, &notice),
        item.encode(&mut [0; ITEM_BYTES_MAX]),
    );
    match take_over::staged(&mut heir.producer(), &batch).await {
        Ok(_) => {
            tracing::warn!(log = %id, lost, "a log that was set aside has events that no hub may have: they count as lost");
            Some(lost)
        }
        Err(error) => {
            tracing::warn!(log = %id, lost, ?error, "what only this log has is not told now; the next start tries again");
            None
        }
    }
}

/// What the hub of `uplink` has not acknowledged of `log`: an upper bound of what it lacks. What a device or another log has lost, and only this log tells, is
/// among it. Blocks for the disk.
fn unacknowledged(log: &Partition, uplink: u32) -> Result<u64, ReadError> {
    let (ledger, id, end) = (log.ledger(), log.log_id(), log.next());
    let cursor = ledger.cursor(uplink);
    let mut from = cursor.map_or(ledger.oldest, |cursor| cursor.next.max(ledger.oldest));
    let mut lost: u64 = cursor.map_or(0, |cursor| cursor.lost);
    while from < end {
        let chunk = log.read(from, PIECE_BYTES)?;
        lost = lost.saturating_add(chunk.gap.map_or(0, |gap| gap.lost));
        let mut at = 0;
        while let Ok((frame, len)) = Frame::parse(&chunk.frames[at..], &id, None) {
            lost = lost.saturating_add(in_frame(&frame, from));
            at += len;
        }
        if chunk.next <= from {
            break;
        }
        from = chunk.next;
    }
    Ok(lost)
}

fn in_frame(frame: &Frame<'_>, from: Offset) -> u64 {
    let entries = frame.entries().filter(|(offset, _)| *offset >= from);
    let events = entries.map(|(_, entry)| match entry {
        Entry::Record(_) => 1,
        Entry::Notice(notice) => notice.lost,
    });
    let of_gap = frame.gap().map_or(0, |gap| gap.lost);
    events.fold(of_gap, u64::saturating_add)
}

/// Sources wait no longer for what is to stand before their records.
const PATIENCE: Duration = Duration::from_secs(1);
/// Read at once.
const PIECE_BYTES: usize = 256 << 10;
