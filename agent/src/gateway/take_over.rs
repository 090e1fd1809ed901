//! What a log knew of MQTT sessions goes on in the log that follows it, where nothing but the log has changed.

use sedge_core::Offset;
use sedge_store::{Batch, Partition, Producer, StageError, Ticket};

use super::disk::Disk;

/// Each log that follows one which was passed takes over its sessions, durably, before anything else goes into it. Where that does not succeed, clients start
/// anew, and the next life tries again.
pub(super) async fn sessions(disk: &Disk) {
    for chain in disk.chains.iter().filter(|chain| !chain.draining) {
        let [.., older, head] = &chain.logs[..] else {
            continue;
        };
        if older.is_passed() && !head.claims.has_taken_over() {
            let mut notes = older.claims.for_the_next();
            // Clients that have begun anew meanwhile are not led back. A log without records is one in which that was cut short.
            let (begin, end) = (Offset::ZERO, head.partition.next());
            if head.partition.records_between(begin, end) != Some(0) {
                notes.drain(..notes.len() - 1);
            }
            note(&head.partition, &notes).await;
        }
    }
}

async fn note(partition: &Partition, items: &[Vec<u8>]) {
    if partition.intake_refused().borrow().is_some() {
        return;
    }
    let (mut producer, mut settled) = (partition.producer(), partition.settled());
    // Nobody else has anything to write yet.
    producer.set_window_bound(true);
    let mut batch = Batch::new();
    let mut last = None;
    for item in items {
        batch.clear();
        batch.push_note(item);
        match staged(&mut producer, &batch).await {
            Ok(ticket) => last = Some(ticket),
            Err(error) => {
                tracing::warn!(log = %partition.log_id(), ?error, "MQTT sessions are not taken over: their clients start anew");
                return;
            }
        }
    }
    if let Some(last) = last {
        // A log that fails meanwhile ends the gateway.
        drop(settled.wait_for(|settled| *settled >= last).await);
    }
}

/// Stages `batch` when there is room for it.
pub(super) async fn staged(producer: &mut Producer, batch: &Batch) -> Result<Ticket, StageError> {
    loop {
        let room = producer.staged_room();
        match producer.stage(batch) {
            Err(StageError::Full) => room.await,
            outcome => return outcome,
        }
    }
}
