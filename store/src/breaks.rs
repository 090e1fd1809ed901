//! Where offsets were skipped, as far back as that is known: how many records a stretch held, be it still there or not.

use std::collections::VecDeque;
use std::ops::Range;

use sedge_core::Offset;
use sedge_core::ledger::Ledger;

use crate::index::Held;

/// Bounded: of many the newest are known.
#[derive(Clone, Debug)]
pub(crate) struct Breaks {
    known_from: Offset,
    skipped: VecDeque<Range<Offset>>,
    /// No stretch of skipped offsets is shorter.
    least: u64,
}

impl Breaks {
    /// What the sums of the segments say of a log that is durable up to `durable`, from the segment on in which the furthest uplink stands behind. `in_head`
    /// tells what was skipped in the head, and is asked only if something was.
    pub(crate) fn of(
        held: &[Held],
        durable: Offset,
        ledger: &Ledger,
        in_head: impl FnOnce() -> Vec<Range<Offset>>,
    ) -> Self {
        let Some(head) = held.last() else {
            return Self::known_from(durable);
        };
        let slowest = ledger.cursors.iter().map(|cursor| cursor.next).min();
        let same_sum = held.iter().rev();
        let begin = same_sum
            .take_while(|held| held.skipped == head.skipped)
            .find(|held| slowest.is_some_and(|slowest| held.base <= slowest))
            .unwrap_or(head);
        let mut breaks = Self::known_from(begin.base);
        if head.skipped != ledger.skipped {
            in_head().into_iter().for_each(|range| breaks.add(range));
        }
        breaks
    }

    const fn known_from(known_from: Offset) -> Self {
        Self {
            known_from,
            skipped: VecDeque::new(),
            least: 0,
        }
    }

    /// The same of a log that never skips fewer than `least` offsets at once: an origin burns what the largest commit may take.
    pub(crate) const fn never_fewer_than(&mut self, least: u64) {
        self.least = least;
    }

    /// No record has one of these offsets.
    pub(crate) fn add(&mut self, skipped: Range<Offset>) {
        if skipped.is_empty() {
            return;
        }
        self.skipped.push_back(skipped);
        if self.skipped.len() > BREAKS_MAX
            && let Some(oldest) = self.skipped.pop_front()
        {
            self.known_from = self.known_from.max(oldest.end);
        }
    }

    /// How many records stood from `from` up to `to`; `None` where that is not known any more. Neither lies within a skipped stretch: a hub goes on behind whole
    /// frames. So in what is shorter than any such stretch stood records alone, whatever life that was in.
    fn records_between(&self, from: Offset, to: Offset) -> Option<u64> {
        let within = |range: &Range<Offset>| range.end.min(to).since(range.start.max(from));
        let skipped: u64 = self.skipped.iter().map(within).sum();
        let is_known = self.known_from <= from || to.since(from) < self.least;
        is_known.then(|| to.since(from).saturating_sub(skipped))
    }

    /// How many records stood from `from` up to `to`, for an uplink that may stand at `from` in `ledger`.
    pub(crate) fn records(&self, ledger: &Ledger, from: Offset, to: Offset) -> Option<u64> {
        let passed = || self.records_passed(ledger, from, to);
        self.records_between(from, to).or_else(passed)
    }

    /// The same for an uplink that stands at `from` in `ledger`, whose log has let go of all up to `to` and was opened since: how many records went from there on is
    /// known. Where they are fewer than what is burned at once, which is as much each time, they are what is left of the stretch when all of that is taken off.
    fn records_passed(&self, ledger: &Ledger, from: Offset, to: Offset) -> Option<u64> {
        let cursor = ledger.cursors.iter().find(|cursor| cursor.next == from)?;
        let is_exact = ledger.corrupt == 0 && ledger.skipped.checked_rem(self.least) == Some(0);
        let records = to.since(from).checked_rem(self.least)?;
        let went = cursor.lost.min(self.least - 1);
        let is_known = is_exact && to <= ledger.oldest && cursor.lost == went && records <= went;
        is_known.then_some(records)
    }
}

/// Lives that ended with a kill while one segment was the head.
const BREAKS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use sedge_core::Micros;

    use super::*;

    fn held(base: u64, skipped: u64) -> Held {
        Held {
            segment: 0,
            seq: 1,
            base: Offset::new(base),
            base_time: Micros::UNKNOWN,
            skipped,
            data_start: 0,
        }
    }

    fn ledger(skipped: u64, cursor: u64) -> Ledger {
        let mut ledger = Ledger::starting_at(Offset::ZERO);
        ledger.skipped = skipped;
        ledger.set_cursor(1, Offset::new(cursor)).unwrap();
        ledger
    }

    fn records(breaks: &Breaks, from: u64, to: u64) -> Option<u64> {
        breaks.records_between(Offset::new(from), Offset::new(to))
    }

    #[test]
    fn segments_with_the_same_sum_before_them_hold_nothing_but_records() {
        let segments = [held(0, 0), held(100, 10), held(200, 10), held(300, 10)];
        let nobody_asks = || unreachable!("the head holds nothing but records");
        let breaks = Breaks::of(&segments, Offset::new(350), &ledger(10, 120), nobody_asks);
        assert_eq!(records(&breaks, 120, 340), Some(220));
        assert_eq!(records(&breaks, 99, 340), None);
    }

    /// Two kills while a segment was the head.
    #[test]
    fn what_was_skipped_in_the_head_is_asked_for() {
        let in_head = || {
            vec![
                Offset::new(310)..Offset::new(320),
                Offset::new(330)..Offset::new(340),
            ]
        };
        let ledger = ledger(30, 305);
        let breaks = Breaks::of(&[held(300, 10)], Offset::new(350), &ledger, in_head);
        assert_eq!(records(&breaks, 305, 345), Some(20));
        assert_eq!(records(&breaks, 305, 315), Some(5));
        assert_eq!(records(&breaks, 299, 345), None);
    }

    /// The power failed twice, and between the two the log let go of where the uplink stood: of what the hub has since, all were records.
    #[test]
    fn what_is_shorter_than_anything_that_is_skipped_held_records_alone() {
        let mut breaks = Breaks::known_from(Offset::new(76_000));
        assert_eq!(records(&breaks, 44, 61), None);
        breaks.never_fewer_than(65_536);
        assert_eq!(records(&breaks, 44, 61), Some(17));
        assert_eq!(records(&breaks, 44, 44 + 65_536), None);
    }

    /// An outage with three kills in it: two before the log let go of where the uplink stood and of what the hub has, one behind that. 82 records went.
    #[test]
    fn what_is_left_of_a_stretch_without_what_was_burned_held_records_alone() {
        let mut breaks = Breaks::known_from(Offset::new(140_000));
        breaks.never_fewer_than(65_536);
        let passed = |ledger: &Ledger, to: u64| {
            let (from, to) = (Offset::new(1_000), Offset::new(1_000 + to));
            breaks.records_passed(ledger, from, to)
        };
        let mut gone = ledger(3 * 65_536, 1_000);
        gone.oldest = Offset::new(1_000 + 2 * 65_536 + 82);
        gone.cursors[0].lost = 82;
        assert_eq!(passed(&gone, 65_536 + 54), Some(54));
        assert_eq!(passed(&gone, 54), Some(54));
        assert_eq!(passed(&gone, 2 * 65_536 + 82), Some(82));
        assert_eq!(passed(&gone, 65_536 + 83), None, "more than went");
        assert_eq!(passed(&gone, 3 * 65_536), None, "it is held");
        let other = breaks.records_passed(&gone, Offset::new(1_001), Offset::new(1_010));
        assert_eq!(other, None, "nobody stands there");
        let with = |change: fn(&mut Ledger)| {
            let mut other = gone.clone();
            change(&mut other);
            passed(&other, 65_536 + 54)
        };
        assert_eq!(with(|ledger| ledger.cursors[0].lost = 65_536), None);
        assert_eq!(with(|ledger| ledger.corrupt = 1), None);
        assert_eq!(with(|ledger| ledger.skipped += 1), None);
        let mirror = Breaks::known_from(Offset::new(140_000));
        let never_burned = mirror.records_passed(&gone, Offset::new(1_000), Offset::new(1_010));
        assert_eq!(never_burned, None);
    }

    #[test]
    fn of_many_the_newest_are_known() {
        let mut breaks = Breaks::known_from(Offset::ZERO);
        for at in 0..1_000 {
            breaks.add(Offset::new(10 * at)..Offset::new(10 * at + 5));
        }
        assert_eq!(records(&breaks, 9_990, 10_000), Some(5));
        assert_eq!(records(&breaks, 9_400, 10_000), Some(300));
        assert_eq!(records(&breaks, 0, 10_000), None);
    }
}
