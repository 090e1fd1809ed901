//! What a Gap says when a log no longer holds what the hub wants next. Pure.

use sedge_core::ledger::Ledger;
use sedge_core::planted::Fault;
use sedge_core::{Cause, Gap, Offset};

/// Losses of one log that this session has told and the cursor does not cover yet.
///
/// The cursor counts what was recycled at or above its `next`. A gap that was told while more is being recycled must not be told again by the
/// next one, so the cursor stays where it is until the hub has reached what is held, and what was told is taken off.
#[derive(Clone, Debug, Default)]
pub(super) struct Loss {
    /// Where each gap began that was told, and what it counted.
    told: Vec<(Offset, u64)>,
    /// What stood between the cursor and the first of them, which the hub has: the cursor counts it as well, if it was recycled.
    handed_over: u64,
}

impl Loss {
    /// The gap from `from` to the oldest offset that is held; `None` if `from` is held. `is_unbroken` knows whether each offset of a stretch was that
    /// of a record; where it does not, what the hub has may be counted as lost, but nothing that is lost goes uncounted.
    pub(super) fn gap(
        &mut self,
        ledger: &Ledger,
        uplink: u32,
        from: Offset,
        is_unbroken: impl FnOnce(Offset, Offset) -> bool,
    ) -> Option<Gap> {
        let to = ledger.oldest;
        if from >= to {
            return None;
        }
        let mut gap = ledger.gap_before_oldest(from, Some(uplink))?;
        let cursor = ledger.cursor(uplink);
        // Below the cursor the hub had custody once. It was restored from an older copy, and these are gone there and here.
        let forgotten = cursor.map_or(0, |c| c.next.min(to).since(from));
        if forgotten > 0 {
            gap.cause = Cause::Corrupt;
        }
        if let Some(cursor) = cursor {
            // What is asked for again did not arrive.
            self.told.retain(|(begin, _)| *begin < from);
            if self.told.is_empty() {
                let known = from > cursor.next && is_unbroken(cursor.next, from);
                self.handed_over = if known { from.since(cursor.next) } else { 0 };
            }
            let told = self.told.iter().map(|(_, lost)| lost).sum();
            let lost = cursor
                .lost
                .saturating_sub(told)
                .saturating_sub(self.handed_over)
                .saturating_add(forgotten);
            gap.lost = lost.min(gap.span());
        }
        if !Fault::TellLossTwice.is_planted() {
            self.told.push((from, gap.lost.saturating_sub(forgotten)));
        }
        Some(gap)
    }

    /// The hub has custody below `next`: whether the cursor may follow.
    pub(super) fn acknowledged(&mut self, ledger: &Ledger, next: Offset) -> bool {
        let held = next >= ledger.oldest;
        if held {
            *self = Self::default();
        }
        held
    }

    /// A new session asks again.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(oldest: u64, cursor: u64, lost: u64) -> Ledger {
        let mut ledger = Ledger {
            oldest: Offset::new(cursor),
            evicted: oldest,
            ..Ledger::default()
        };
        ledger.set_cursor(1, Offset::new(cursor)).unwrap();
        ledger.oldest = Offset::new(oldest);
        ledger.cursors.iter_mut().for_each(|c| c.lost = lost);
        ledger
    }

    #[test]
    fn a_gap_tells_exactly_what_was_recycled_unsent() {
        let gap = Loss::default()
            .gap(&ledger(200, 100, 95), 1, Offset::new(100), |_, _| true)
            .unwrap();
        assert_eq!(
            (gap.from.get(), gap.to.get(), gap.lost, gap.cause),
            (100, 200, 95, Cause::Evicted)
        );
    }

    /// The cursor on the disk was older than the hub's word when the power failed; then the log let go of what lies above both.
    #[test]
    fn what_the_hub_has_above_an_older_cursor_is_not_lost() {
        let hub = Offset::new(130);
        let mut loss = Loss::default();
        let gap = loss.gap(&ledger(200, 100, 100), 1, hub, |from, to| {
            (from.get(), to.get()) == (100, 130)
        });
        assert_eq!(gap.unwrap().lost, 70);
        // It goes on while it is told: nothing is taken off twice.
        let gap = loss.gap(&ledger(220, 100, 120), 1, Offset::new(200), |_, _| true);
        assert_eq!(gap.unwrap().lost, 20);
    }

    /// Its message was lost, or the hub had no room for it.
    #[test]
    fn a_gap_that_is_asked_for_again_counts_the_same() {
        let mut loss = Loss::default();
        let mut lost = |oldest, from, lost| {
            let gap = loss.gap(&ledger(oldest, 100, lost), 1, Offset::new(from), |_, _| {
                true
            });
            gap.unwrap().lost
        };
        assert_eq!((lost(200, 100, 95), lost(200, 100, 95)), (95, 95));
        assert_eq!((lost(250, 200, 140), lost(250, 200, 140)), (45, 45));
        assert_eq!(lost(250, 100, 140), 140);
    }

    #[test]
    fn where_records_stood_is_not_known_all_of_the_loss_is_told() {
        let ledger = ledger(200, 100, 60);
        let gap = Loss::default().gap(&ledger, 1, Offset::new(130), |_, _| false);
        assert_eq!(gap.unwrap().lost, 60);
    }

    #[test]
    fn loss_that_goes_on_while_it_is_told_is_told_once() {
        let mut loss = Loss::default();
        let first = loss
            .gap(&ledger(200, 100, 95), 1, Offset::new(100), |_, _| true)
            .unwrap();
        assert!(
            !loss.acknowledged(&ledger(250, 100, 140), Offset::new(200)),
            "the cursor waits"
        );
        let second = loss
            .gap(&ledger(250, 100, 140), 1, Offset::new(200), |_, _| true)
            .unwrap();
        assert_eq!((second.from.get(), second.to.get()), (200, 250));
        assert_eq!(first.lost + second.lost, 140);
        assert!(loss.acknowledged(&ledger(250, 100, 140), Offset::new(260)));
    }

    #[test]
    fn what_a_restored_hub_forgot_and_nobody_holds_is_corrupt() {
        let gap = Loss::default()
            .gap(&ledger(200, 180, 20), 1, Offset::new(150), |_, _| true)
            .unwrap();
        assert_eq!((gap.lost, gap.cause), (50, Cause::Corrupt));
    }

    #[test]
    fn what_is_held_is_no_gap() {
        assert_eq!(
            Loss::default().gap(&ledger(200, 200, 0), 1, Offset::new(200), |_, _| true),
            None
        );
    }
}
