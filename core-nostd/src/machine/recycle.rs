//! Recycling: the oldest segment becomes the next spare. It is read once before, so that every offset it held is accounted for (docs/spec/log.md, section 6).

use super::desk::Held;
use super::slot;
use super::{Desk, Operations, RingLog, Spare, twin};
use crate::entry::Entry;
use crate::frame::Kind;
use crate::gap::Cause;
use crate::ids::{Micros, Offset};
use crate::ledger::{Cursor, Ledger};
use crate::log::{CommitError, MaintainError, Maintained, Opened, Slot, WhenFull};
use crate::planted::Fault;
use crate::walk::{Step, Walk};

#[twin]
impl RingLog {
    /// Makes a spare ready, if there is none: counts what the oldest segment holds, makes the ledger that no longer holds it durable, erases, stamps.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn maintain<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        now: Micros,
    ) -> Result<Maintained, MaintainError<O::Error>> {
        self.begin(desk).await.map_err(MaintainError::Ledger)?;
        if self.passed_over == 0
            && let Err(error) = self.take_back_half_opened(desk).await
        {
            self.passed_over = self.passed_over.saturating_add(1);
            return Err(MaintainError::Media(error));
        }
        if self.spare.is_some() {
            return Ok(Maintained::Ready);
        }
        let count = self.geometry.segment_count();
        for steps in self.passed_over.saturating_add(1)..count {
            let segment = self.ahead(self.head.segment, steps);
            // What is refused is not ours to wipe.
            let Some(slot) = self.slot(desk, segment).await else {
                continue;
            };
            let own = self.as_held(&slot);
            let Some(successor) = self.successor(desk, segment, own.as_ref()).await else {
                continue;
            };
            let held_back =
                successor.base > self.ledger.oldest && successor.base > self.ledger.release_point();
            let may_evict =
                self.when_full == WhenFull::EvictOldest || Fault::RefusingLogEvicts.is_planted();
            if held_back && !may_evict {
                return Ok(Maintained::Full);
            }
            self.recycle(desk, segment, slot, &successor, Cause::Evicted, now)
                .await?;
            return Ok(Maintained::Ready);
        }
        self.passed_over = 0;
        Err(MaintainError::NoSegment)
    }

    /// Recycles the oldest segment if every record in it was committed before `before`; says whether it was so.
    ///
    /// # Errors
    /// See [`MaintainError`].
    pub async fn expire<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        before: Micros,
        now: Micros,
    ) -> Result<bool, MaintainError<O::Error>> {
        self.begin(desk).await.map_err(MaintainError::Ledger)?;
        for steps in 1..self.geometry.segment_count() {
            let segment = self.ahead(self.head.segment, steps);
            let Some(slot) = self.slot(desk, segment).await else {
                continue;
            };
            let Some(oldest) = self.as_held(&slot) else {
                continue;
            };
            let Some(successor) = self.successor(desk, segment, Some(&oldest)).await else {
                return Ok(false);
            };
            if !successor.base_time.is_surely_by(before) {
                return Ok(false);
            }
            self.recycle(desk, segment, slot, &successor, Cause::Expired, now)
                .await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Lets go of the segments of an ended log in which every record was committed before `before`: they may be taken away. Says how many
    /// segments behind the head that are. Each time takes room behind END, and there is not much: at the last but the head must be what goes.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn expire_ended<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        before: Micros,
        now: Micros,
    ) -> Result<u32, CommitError<O::Error>> {
        if !self.is_ended() {
            return Ok(0);
        }
        let (mut count, mut is_all) = (0, true);
        let mut ledger = self.ledger.clone();
        for steps in 1..self.geometry.segment_count() {
            let segment = self.ahead(self.head.segment, steps);
            let slot = self.slot(desk, segment).await;
            let Some(opened) = slot.as_ref().and_then(|slot| self.as_own(slot)) else {
                continue;
            };
            let successor = self.successor(desk, segment, Some(&opened)).await;
            let Some(successor) = successor.filter(|next| next.base_time.is_surely_by(before))
            else {
                is_all = false;
                break;
            };
            count = steps;
            if successor.base > ledger.oldest {
                let mut tally = Tally::new(ledger, Cause::Expired);
                tally.count(desk, segment, Some(opened), &successor).await;
                ledger = tally.into_ledger(successor.base, now);
            }
        }
        if ledger.oldest > self.ledger.oldest {
            if self.ledgers_behind_end() < 1 + u32::from(!is_all) {
                return Ok(0);
            }
            self.write_ledger_behind_end(desk, &ledger, now).await?;
        }
        Ok(count)
    }

    /// Lets go of all that the `count` segments behind the head hold, oldest first, and makes the ledger that says so durable.
    /// Whoever owns the medium may take them away then, and open the log again without them. The head stays, whatever `count` says.
    ///
    /// # Errors
    /// See [`CommitError`]; [`CommitError::NeedsMaintain`] if the head has no room for the ledger.
    pub async fn vacate<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        count: u32,
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        self.begin(desk).await?;
        let mut ledger = self.ledger.clone();
        for steps in 1..=count.min(self.geometry.segment_count().saturating_sub(1)) {
            let segment = self.ahead(self.head.segment, steps);
            let slot = self.slot(desk, segment).await;
            let Some(opened) = slot.as_ref().and_then(|slot| self.as_own(slot)) else {
                continue;
            };
            let Some(successor) = self.successor(desk, segment, Some(&opened)).await else {
                continue;
            };
            if successor.base > ledger.oldest {
                let mut tally = Tally::new(ledger, Cause::Evicted);
                tally.count(desk, segment, Some(opened), &successor).await;
                ledger = tally.into_ledger(successor.base, now);
            }
        }
        // It may be one of those that go.
        self.spare = None;
        if ledger.oldest > self.ledger.oldest {
            self.write_ledger(desk, ledger, now).await?;
        }
        Ok(())
    }

    #[inline(never)]
    async fn recycle<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        slot: Slot,
        successor: &Opened,
        cause: Cause,
        now: Micros,
    ) -> Result<(), MaintainError<O::Error>> {
        if successor.base > self.ledger.oldest {
            let mut tally = Tally::new(self.ledger.clone(), cause);
            tally
                .count(desk, segment, self.as_held(&slot), successor)
                .await;
            let ledger = tally.into_ledger(successor.base, now);
            // Without room for it in the head, the next open header carries the ledger; a power cut before that leaves it to `count_recycled`.
            if self.has_room_for_ledger() && !Fault::RecycleBeforeLedger.is_planted() {
                self.write_ledger(desk, ledger, now)
                    .await
                    .map_err(MaintainError::Ledger)?;
            } else {
                self.ledger = ledger;
            }
        }
        let erase_count = match slot {
            Slot::Spare { erase_count } => erase_count,
            Slot::Unready { .. } | Slot::Open(_) => {
                match slot::prepare(desk, segment, self.geometry, slot.erase_count()).await {
                    Ok(erase_count) => erase_count,
                    Err(error) => {
                        self.passed_over = self.passed_over.saturating_add(1);
                        return Err(MaintainError::Media(error));
                    }
                }
            }
        };
        self.passed_over = 0;
        self.spare = self.spare.or(Some(Spare {
            segment,
            erase_count,
        }));
        Ok(())
    }
}

#[twin]
impl RingLog {
    /// Where torn places used up the head, the segment behind it was recycled with the ledger in memory only, or was about to be when its erase was
    /// cut short. Counts again what that one held, from the sums alone; says whether it did.
    #[inline(never)]
    pub(super) async fn count_recycled<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        now: Micros,
    ) -> bool {
        let behind = self.ahead(self.head.segment, 1);
        if self.had_room_for_ledger() || self.is_whole(desk, behind).await {
            return false;
        }
        let Some(successor) = self.successor(desk, behind, None).await else {
            return false;
        };
        let (oldest, base) = (self.ledger.oldest, successor.base);
        if base <= oldest {
            return false;
        }
        // Whatever is before the oldest and not gone was skipped.
        let skipped_before = oldest.get().saturating_sub(self.ledger.gone());
        let records = base
            .since(oldest)
            .saturating_sub(successor.skipped.saturating_sub(skipped_before));
        match self.when_full {
            // Nothing was recycled before all uplinks had it, whatever became of their cursors.
            WhenFull::Refuse => {
                self.ledger.handed_over = self.ledger.handed_over.saturating_add(records);
                self.ledger.oldest = base;
            }
            WhenFull::EvictOldest => {
                let mut tally = Tally::new(self.ledger.clone(), Cause::Evicted);
                // Where the skipped ones stood is not known any more. Taken as the first, they let no loss pass for custody.
                let skipped = base.since(oldest).saturating_sub(records);
                tally.let_go(oldest + skipped, base);
                self.ledger = tally.into_ledger(base, now);
            }
        }
        self.unsaved = true;
        true
    }
}

#[twin]
impl RingLog {
    /// Whether `segment` is part of this log and has a valid frame for each of its offsets. An erase that was cut short may leave the header and break the rest.
    #[inline(never)]
    async fn is_whole<O: Operations>(&self, desk: &mut Desk<'_, O>, segment: u32) -> bool {
        let Some(opened) = self.opened(desk, segment).await else {
            return false;
        };
        let Some(successor) = self.successor(desk, segment, Some(&opened)).await else {
            return false;
        };
        let mut tally = Tally::new(Ledger::starting_at(opened.base), Cause::Evicted);
        tally
            .walk_through(desk, segment, &opened, successor.base)
            .await;
        opened.is_stamped && tally.missing == 0
    }
}

/// Counts where the offsets of one segment go.
struct Tally {
    ledger: Ledger,
    release_point: Offset,
    cause: Cause,
    /// Offsets with neither a record nor a gap frame.
    missing: u64,
    /// Offsets of gap frames.
    skipped: u64,
    lost: bool,
}

#[twin]
impl Tally {
    fn new(ledger: Ledger, cause: Cause) -> Self {
        let release_point = ledger.release_point();
        Self {
            ledger,
            release_point,
            cause,
            missing: 0,
            skipped: 0,
            lost: false,
        }
    }

    /// Counts all from the oldest offset up to the base of `successor`, of which `victim` holds what is valid.
    #[inline(never)]
    async fn count<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        victim: Option<Opened>,
        successor: &Opened,
    ) {
        let limit = successor.base;
        let Some(victim) = victim else {
            self.miss(self.ledger.oldest, limit);
            return;
        };
        self.miss(self.ledger.oldest, victim.base);
        self.walk_through(desk, segment, &victim, limit).await;
        // A gap frame that rotted was counted as skipped when it was written.
        let skipped = successor.skipped.saturating_sub(victim.skipped);
        self.missing = self
            .missing
            .saturating_sub(skipped.saturating_sub(self.skipped));
    }

    /// Counts what has a valid frame in the segment, and what has none.
    async fn walk_through<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        victim: &Opened,
        limit: Offset,
    ) {
        let mut walk = Walk::new(
            victim.log_id,
            victim.geometry,
            victim.data_start,
            victim.base,
            Some(limit),
        );
        let mut held = Held::default();
        loop {
            match walk.step(desk.window(held)) {
                Step::Read { position, .. } => {
                    held = desk
                        .load(segment, position, victim.geometry.segment_bytes())
                        .await
                }
                Step::Frame(found) => {
                    if let Some((from, to)) = found.missing() {
                        self.miss(from, to);
                    }
                    let (first, end) = (found.frame.header.first, found.frame.end());
                    match found.frame.header.kind {
                        Kind::Data => {
                            self.let_go(first, end);
                            for (offset, entry) in found.frame.entries() {
                                if let Entry::Notice(notice) = entry {
                                    // As an entry it is counted as one already.
                                    self.forget_told(offset, notice.lost.saturating_sub(1));
                                }
                            }
                        }
                        Kind::Gap => {
                            self.skipped = self.skipped.saturating_add(end.since(first));
                            let told = found.frame.gap().map_or(0, |gap| gap.lost);
                            self.forget_told(first, told);
                        }
                        Kind::Control => {}
                    }
                }
                Step::End(end) => {
                    self.miss(end.expected, limit);
                    break;
                }
            }
        }
    }

    /// Records from `from` up to `to` leave the log.
    fn let_go(&mut self, from: Offset, to: Offset) {
        let from = from.max(self.ledger.oldest);
        let released_to = self.release_point.max(from).min(to.max(from));
        let kept = to.since(released_to);
        self.ledger.handed_over = self
            .ledger
            .handed_over
            .saturating_add(released_to.since(from));
        let count = match self.cause {
            Cause::Expired => &mut self.ledger.expired,
            _ => &mut self.ledger.evicted,
        };
        *count = count.saturating_add(kept);
        self.lose(from, to);
        self.lost |= kept > 0;
    }

    fn miss(&mut self, from: Offset, to: Offset) {
        let from = from.max(self.ledger.oldest);
        self.missing = self.missing.saturating_add(to.since(from));
        self.lose(from, to);
        self.lost |= to > from;
    }

    fn lose(&mut self, from: Offset, to: Offset) {
        if Fault::ForgetLoss.is_planted() {
            return;
        }
        for cursor in &mut self.ledger.cursors {
            cursor.lost = cursor.lost.saturating_add(to.since(from.max(cursor.next)));
        }
    }

    /// What stood at `from` leaves the log, a gap frame or a notice, and told of so many lost records: whoever has not come to it hears of them with what is lost here.
    fn forget_told(&mut self, from: Offset, told: u64) {
        let has_it_ahead = |cursor: &&mut Cursor| cursor.next <= from;
        for cursor in self.ledger.cursors.iter_mut().filter(has_it_ahead) {
            cursor.lost = cursor.lost.saturating_add(told);
        }
    }

    fn into_ledger(self, oldest: Offset, now: Micros) -> Ledger {
        let mut ledger = self.ledger;
        ledger.corrupt = ledger.corrupt.saturating_add(self.missing);
        ledger.oldest = oldest;
        if self.lost {
            if !ledger.loss_first.is_known() {
                ledger.loss_first = now;
            }
            ledger.loss_last = now;
        }
        ledger
    }
}
