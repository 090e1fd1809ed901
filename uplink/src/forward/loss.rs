//! What a Gap says when a log no longer holds what the hub wants next. Pure.

use sedge_core::ledger::Ledger;
use sedge_core::planted::Fault;
use sedge_core::{Cause, Gap, Offset};

/// Losses of one log that this session has told and the cursor does not cover yet.
///
/// The cursor counts what was recycled at or above its `next`. A gap that was told while more is being recycled must not be told again by the
/// next one, so where the cursor cannot follow the hub, it stays where it is until the hub has reached what is held, and what was told is taken off.
#[derive(Clone, Debug, Default)]
pub(super) struct Loss {
    /// Where each gap began that was told, and what it counted.
    told: Vec<(Offset, u64)>,
    /// Where the cursor was sent last; the ledger may not show it yet.
    moved: Option<Offset>,
}

/// How the cursor follows the hub's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// What the hub has next is held, or lies before the cursor.
    Set,
    /// The hub had so many records, from there on, that were recycled: what stands behind them was counted as lost with them.
    Pass(Offset, u64),
    /// How many these were is not known: what the hub has may be counted as lost, but nothing that is lost goes uncounted.
    Wait,
}

impl Loss {
    /// The gap from `from` to the oldest offset that is held; `None` if `from` is held. The hub cannot have had the last `besides` records before it from here.
    pub(super) fn gap(
        &mut self,
        ledger: &Ledger,
        uplink: u32,
        from: Offset,
        besides: u64,
    ) -> Option<Gap> {
        let mut gap = ledger.gap_before_oldest(from, Some(uplink))?;
        let most = gap.span().saturating_add(besides);
        let cursor = ledger.cursor(uplink);
        // Below the cursor the hub had custody once. It was restored from an older copy, and these are gone there and here.
        let forgotten = cursor.map_or(0, |c| c.next.min(gap.to).since(from));
        if forgotten > 0 {
            gap.cause = Cause::Corrupt;
        }
        if let Some(cursor) = cursor {
            // What is asked for again did not arrive.
            self.told.retain(|(begin, _)| *begin < from);
            let told = self.told.iter().map(|(_, lost)| lost).sum();
            let lost = cursor.lost.saturating_sub(told).saturating_add(forgotten);
            // Where the cursor stands it is exact: more than there are offsets where notices are among what was recycled.
            gap.lost = match cursor.next < from {
                true => lost.min(most.saturating_add(cursor.told_beyond(gap.to))),
                false => lost,
            };
        } else {
            // All that is gone may stand behind `from` already, where offsets were burned.
            let most = ledger.gone().max(gap.lost);
            gap.lost = gap.lost.saturating_add(besides).min(most);
        }
        if !Fault::TellLossTwice.is_planted() {
            self.told.push((from, gap.lost.saturating_sub(forgotten)));
        }
        Some(gap)
    }

    /// The hub has custody below `next`. `records_had` knows how many records stood in a stretch that it can have from here.
    pub(super) fn acknowledged(
        &mut self,
        ledger: &Ledger,
        uplink: u32,
        next: Offset,
        records_had: impl FnOnce(Offset, Offset) -> Option<u64>,
    ) -> Follow {
        let follows = Self {
            told: Vec::new(),
            moved: Some(next),
        };
        if next >= ledger.oldest {
            *self = follows;
            return Follow::Set;
        }
        let stands = self
            .moved
            .or(ledger.cursor(uplink).map(|cursor| cursor.next));
        // What was told of a stretch is all that was lost in it, with what notices had told.
        let told = self.told.iter().filter(|(begin, _)| *begin < next);
        let told: u64 = told.map(|(_, lost)| lost).sum();
        let passed = stands
            .filter(|stands| *stands < next)
            .and_then(|stands| Some((stands, records_had(stands, next)?.max(told))));
        let Some((from, records)) = passed else {
            return Follow::Wait;
        };
        *self = follows;
        Follow::Pass(from, records)
    }

    /// A new session asks again.
    pub(super) fn restart(&mut self) {
        self.told = Vec::new();
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

    fn lost(gap: Option<Gap>) -> u64 {
        gap.expect("there is one").lost
    }

    #[test]
    fn a_gap_tells_exactly_what_was_recycled_unsent() {
        let gap = Loss::default()
            .gap(&ledger(200, 100, 95), 1, Offset::new(100), 0)
            .unwrap();
        assert_eq!(
            (gap.from.get(), gap.to.get(), gap.lost, gap.cause),
            (100, 200, 95, Cause::Evicted)
        );
    }

    /// The cursor on the disk was older than the hub's word when the power failed; then the log let go of what lies above both. Ten of the offsets were
    /// burned.
    #[test]
    fn what_the_hub_has_above_an_older_cursor_is_not_lost() {
        let hub = Offset::new(130);
        let (mut loss, mut ledger) = (Loss::default(), ledger(200, 100, 90));
        let follow = loss.acknowledged(&ledger, 1, hub, |from, to| Some(to.since(from) - 10));
        assert_eq!(follow, Follow::Pass(Offset::new(100), 20));
        ledger.pass_cursor(1, Offset::new(100), hub, 20);
        assert_eq!(lost(loss.gap(&ledger, 1, hub, 0)), 70);
    }

    /// A notice that told of 258 lost records was among what was recycled: it is told with that, and once, be more recycled meanwhile or not.
    #[test]
    fn what_notices_told_that_are_gone_is_told_once() {
        let (mut loss, hub) = (Loss::default(), Offset::new(200));
        let first = loss.gap(&ledger(200, 100, 99 + 258), 1, Offset::new(100), 0);
        assert_eq!(lost(first), 357);
        let mut more = ledger(250, 100, 99 + 258 + 50);
        let follow = loss.acknowledged(&more, 1, hub, |from, to| Some(to.since(from)));
        assert_eq!(follow, Follow::Pass(Offset::new(100), 357));
        more.pass_cursor(1, Offset::new(100), hub, 357);
        assert_eq!(lost(loss.gap(&more, 1, hub, 0)), 50);
    }

    #[test]
    fn where_records_stood_is_not_known_all_of_the_loss_is_told() {
        let (mut loss, ledger) = (Loss::default(), ledger(200, 100, 60));
        let follow = loss.acknowledged(&ledger, 1, Offset::new(130), |_, _| None);
        assert_eq!(follow, Follow::Wait);
        assert_eq!(lost(loss.gap(&ledger, 1, Offset::new(130), 0)), 60);
    }

    /// What was told in the session before may not have arrived: if the hub stands inside of it, what lies behind may be lost, all of it.
    #[test]
    fn a_new_session_does_not_take_for_told_what_the_one_before_said() {
        let (mut loss, ledger) = (Loss::default(), ledger(200, 100, 95));
        let told = |loss: &mut Loss, from| lost(loss.gap(&ledger, 1, Offset::new(from), 0));
        assert_eq!(told(&mut loss, 100), 95);
        assert_eq!(told(&mut loss, 150), 0, "in the same session");
        loss.restart();
        assert_eq!(told(&mut loss, 150), 50);
    }

    /// Its message was lost, or the hub had no room for it.
    #[test]
    fn a_gap_that_is_asked_for_again_counts_the_same() {
        let mut loss = Loss::default();
        let mut told = |oldest, from, sum| {
            let gap = loss.gap(&ledger(oldest, 100, sum), 1, Offset::new(from), 0);
            lost(gap)
        };
        assert_eq!((told(200, 100, 95), told(200, 100, 95)), (95, 95));
        assert_eq!((told(250, 200, 140), told(250, 200, 140)), (45, 45));
        assert_eq!(told(250, 100, 140), 140);
    }

    #[test]
    fn loss_that_goes_on_while_it_is_told_is_told_once() {
        let (mut loss, more) = (Loss::default(), ledger(250, 100, 140));
        let first = loss.gap(&ledger(200, 100, 95), 1, Offset::new(100), 0);
        let follow = loss.acknowledged(&more, 1, Offset::new(200), |_, _| None);
        assert_eq!(follow, Follow::Wait);
        let second = loss.gap(&more, 1, Offset::new(200), 0).unwrap();
        assert_eq!((second.from.get(), second.to.get()), (200, 250));
        assert_eq!(lost(first) + second.lost, 140);
        let follow = loss.acknowledged(&more, 1, Offset::new(260), |_, _| None);
        assert_eq!(follow, Follow::Set);
    }

    /// The same where it is known what stood there: the cursor has followed.
    #[test]
    fn loss_that_goes_on_behind_a_cursor_that_followed_is_told_once() {
        let (mut loss, mut more) = (Loss::default(), ledger(250, 100, 140));
        let first = lost(loss.gap(&ledger(200, 100, 95), 1, Offset::new(100), 0));
        let follow = loss.acknowledged(&more, 1, Offset::new(200), |_, _| Some(95));
        assert_eq!(follow, Follow::Pass(Offset::new(100), 95));
        more.pass_cursor(1, Offset::new(100), Offset::new(200), 95);
        assert_eq!(first + lost(loss.gap(&more, 1, Offset::new(200), 0)), 140);
    }

    /// The writer has shown its own state before it heard of the cursor: the ledger that is looked at is a step behind.
    #[test]
    fn a_cursor_that_the_ledger_does_not_show_yet_is_where_it_was_sent() {
        let (mut loss, stale) = (Loss::default(), ledger(250, 100, 150));
        let all = |from: Offset, to: Offset| Some(to.since(from));
        let mut pass = |next| loss.acknowledged(&stale, 1, Offset::new(next), all);
        let (first, second) = (pass(200), pass(220));
        assert_eq!(first, Follow::Pass(Offset::new(100), 100));
        assert_eq!(second, Follow::Pass(Offset::new(200), 20));
        let mut shown = stale;
        shown.pass_cursor(1, Offset::new(100), Offset::new(200), 100);
        shown.pass_cursor(1, Offset::new(200), Offset::new(220), 20);
        assert_eq!(lost(loss.gap(&shown, 1, Offset::new(220), 0)), 30);
    }

    /// Its disk was put back, and the hub has other events where these stood: it goes on there, and what it cannot have is lost with what was recycled.
    #[test]
    fn what_a_hub_has_from_another_history_is_lost_here() {
        let (mut loss, mut ledger) = (Loss::default(), ledger(200, 100, 100));
        let hub = Offset::new(130);
        let follow = loss.acknowledged(&ledger, 1, hub, |from, _| Some(110 - from.get()));
        assert_eq!(follow, Follow::Pass(Offset::new(100), 10));
        ledger.pass_cursor(1, Offset::new(100), hub, 10);
        assert_eq!(lost(loss.gap(&ledger, 1, hub, 20)), 90);
        let (mut loss, none) = (
            Loss::default(),
            Ledger {
                cursors: Default::default(),
                ..ledger
            },
        );
        assert_eq!(lost(loss.gap(&none, 1, hub, 20)), 90, "without a cursor");
        let burned = Ledger {
            evicted: 85,
            ..none
        };
        assert_eq!(lost(loss.gap(&burned, 1, hub, 20)), 85, "and no more");
    }

    #[test]
    fn what_a_restored_hub_forgot_and_nobody_holds_is_corrupt() {
        let gap = Loss::default()
            .gap(&ledger(200, 180, 20), 1, Offset::new(150), 0)
            .unwrap();
        assert_eq!((gap.lost, gap.cause), (50, Cause::Corrupt));
    }

    #[test]
    fn what_is_held_is_no_gap() {
        let gap = Loss::default().gap(&ledger(200, 200, 0), 1, Offset::new(200), 0);
        assert_eq!(gap, None);
    }

    /// A hub that was put back had some of it once; of what is recycled while that is told, each is counted once.
    #[test]
    fn what_is_forgotten_is_told_beside_what_was_never_sent() {
        let mut loss = Loss::default();
        let first = loss.gap(&ledger(200, 180, 20), 1, Offset::new(150), 0);
        assert_eq!(lost(first), 50);
        let second = loss.gap(&ledger(260, 180, 75), 1, Offset::new(200), 0);
        assert_eq!(lost(second), 75 - 20);
    }

    #[test]
    fn a_cursor_follows_to_what_is_held_and_passes_nothing_twice() {
        let (mut loss, ledger) = (Loss::default(), ledger(200, 100, 60));
        let all = |from: Offset, to: Offset| Some(to.since(from));
        let mut follow = |next| loss.acknowledged(&ledger, 1, Offset::new(next), all);
        assert_eq!(follow(150), Follow::Pass(Offset::new(100), 50));
        assert_eq!(follow(150), Follow::Wait, "there it is already");
        assert_eq!(follow(199), Follow::Pass(Offset::new(150), 49));
        assert_eq!(follow(200), Follow::Set);
    }
}
