//! What readers know of a log, in memory: which segments it holds, how far it is durable, the ledger.
//!
//! The writer changes it after each step that is durable, and takes a segment out before it recycles it; a reader looks here
//! before it reads and again after. Its size is bounded by the count of segments.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sedge_core::ledger::Ledger;
use sedge_core::{Gap, Micros, Offset};

use crate::breaks::Breaks;

/// A segment that continues the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) segment: u32,
    pub(crate) seq: u64,
    pub(crate) base: Offset,
    pub(crate) base_time: Micros,
    /// Offsets of gap frames in all segments before it.
    pub(crate) skipped: u64,
    /// Where its frames begin.
    pub(crate) data_start: u32,
}

/// Shared by the writer and all readers of a log.
#[derive(Debug)]
pub(crate) struct Index(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// By seq, the head last.
    held: VecDeque<Held>,
    durable: Offset,
    /// The end of what is durable in the head.
    head_bytes: u32,
    ledger: Ledger,
    breaks: Breaks,
    hints: VecDeque<Hint>,
    /// It stands in the log that nothing follows.
    ended: bool,
    given: Given,
}

/// What others can have of a log.
#[derive(Clone, Copy, Debug)]
struct Given {
    /// Nobody was given a record at or behind this.
    to: Offset,
    /// The gap that was told last, with those right before it.
    told: (Offset, Offset),
}

/// A place where a frame stands: where the last reader stopped, so that it need not look for it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) seq: u64,
    pub(crate) first: Offset,
    pub(crate) position: u32,
}

/// Where to read what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) held: Held,
    /// A frame stands here, with this first offset.
    pub(crate) position: u32,
    pub(crate) first: Offset,
    /// The offset at which this segment ends for readers.
    pub(crate) limit: Offset,
    /// The byte at which it ends, at most.
    pub(crate) bytes: u32,
}

/// What lies at and behind an offset, as far as it can be told without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The offset, or the oldest that is held.
    pub(crate) from: Offset,
    pub(crate) durable: Offset,
    /// The beginning of the segment that holds it.
    pub(crate) segment: Place,
    /// Offsets of gap frames in that segment.
    pub(crate) skipped_here: u64,
    /// Offsets of gap frames in the segments behind it.
    pub(crate) skipped_behind: u64,
}

/// Where an offset is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Located {
    /// Nowhere any more.
    Evicted(Gap),
    /// In a segment, unless that has rotted.
    At(Place),
    /// Not durable yet.
    End,
}

impl Index {
    /// `in_head` is asked for the offsets that were skipped in the head, if there are any.
    pub(crate) fn new(
        held: Vec<Held>,
        durable: Offset,
        head_bytes: u32,
        ledger: Ledger,
        in_head: impl FnOnce() -> Vec<Range<Offset>>,
    ) -> Self {
        Self(Mutex::new(Inner {
            breaks: Breaks::of(&held, durable, &ledger, in_head),
            held: held.into(),
            durable,
            head_bytes,
            ledger,
            hints: VecDeque::new(),
            ended: false,
            // Nobody knows what lives before this one have given away.
            given: Given {
                to: durable,
                told: (durable, durable),
            },
        }))
    }

    /// For the index of a writer: what lies before `next`, from which on it writes, it burns.
    pub(crate) fn written_from(mut self, next: Offset) -> Self {
        let inner = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.breaks.add(inner.durable..next);
        self
    }

    /// For the index of an origin, which burns so many offsets at least where it burns any.
    pub(crate) fn burning(mut self, least: u32) -> Self {
        let inner = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        inner.breaks.never_fewer_than(least.into());
        self
    }

    /// For the index of a log of which nothing at or behind `from` has left in earlier lives, if that is known.
    pub(crate) fn unsent_from(mut self, from: Option<Offset>) -> Self {
        let inner = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let to = inner.given.to;
        inner.given.to = from.map_or(to, |from| from.min(to));
        self
    }

    /// Nobody was given a record at or behind this.
    pub(crate) fn given_to(&self) -> Offset {
        self.lock().given.to
    }

    /// How many records stood from `from` up to `to`, be they held or not; `None` where that is not known any more.
    pub(crate) fn records_between(&self, from: Offset, to: Offset) -> Option<u64> {
        let inner = self.lock();
        inner.breaks.records(&inner.ledger, from, to)
    }

    /// What lies below `next` leaves for an uplink.
    pub(crate) fn give(&self, next: Offset) {
        let mut inner = self.lock();
        inner.given.to = inner.given.to.max(next);
    }

    /// An uplink is told that there is nothing from `from` up to `to`.
    pub(crate) fn tell(&self, from: Offset, to: Offset) {
        let told = &mut self.lock().given.told;
        *told = match told.1 == from {
            true => (told.0, to),
            false => (from, to),
        };
    }

    /// Of what a hub has that stands at `next`, where that ends which it can have from here.
    pub(crate) fn given_below(&self, next: Offset) -> Offset {
        self.lock().given.below(next)
    }

    /// A commit is durable up to `durable`, at `head_bytes` of the head; `opened` if it opened that.
    pub(crate) fn committed(
        &self,
        durable: Offset,
        head_bytes: u32,
        opened: Option<Held>,
        ledger: &Ledger,
    ) {
        let mut inner = self.lock();
        inner.held.extend(opened);
        (inner.durable, inner.head_bytes) = (durable, head_bytes);
        inner.take_ledger(ledger);
    }

    /// Segments below the oldest offset of `ledger` are about to be used again. Making that ledger durable may have moved the end.
    pub(crate) fn recycled(&self, durable: Offset, head_bytes: u32, ledger: &Ledger) {
        self.committed(durable, head_bytes, None, ledger);
    }

    /// The log has been opened: what `now` says is so. Uplinks stand where they stand.
    pub(crate) fn opened(&self, now: Self) {
        let now = now.0.into_inner().expect("no holder panics");
        let mut inner = self.lock();
        inner.held = now.held;
        inner.breaks = now.breaks;
        inner.hints.clear();
        (inner.durable, inner.head_bytes) = (now.durable, now.head_bytes);
        inner.given.to = inner.given.to.max(now.given.to);
        inner.take_ledger(&now.ledger);
    }

    /// The log says that nothing follows.
    pub(crate) fn ended(&self) {
        self.lock().ended = true;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    pub(crate) fn head_bytes(&self) -> u32 {
        self.lock().head_bytes
    }

    pub(crate) fn change_ledger<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        change(&mut self.lock().ledger)
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    pub(crate) fn durable(&self) -> Offset {
        self.lock().durable
    }

    pub(crate) fn oldest(&self) -> Offset {
        self.lock().ledger.oldest
    }

    /// Segments from the one that holds `from` to the head, that included, and the end of what is durable in the head.
    pub(crate) fn segments_from(&self, from: Offset) -> (usize, u32) {
        let inner = self.lock();
        let before = inner.held.partition_point(|h| h.base <= from).max(1) - 1;
        (
            inner.held.len() - before.min(inner.held.len()),
            inner.head_bytes,
        )
    }

    pub(crate) fn held(&self) -> Vec<Held> {
        self.lock().held.iter().copied().collect()
    }

    /// Where a reader that expects `offset` finds it. One look: what is evicted meanwhile is evicted for the next one.
    pub(crate) fn locate(&self, offset: Offset) -> Located {
        let inner = self.lock();
        let ledger = &inner.ledger;
        let uplink = ledger
            .cursors
            .iter()
            .find(|c| c.next == offset)
            .map(|c| c.uplink);
        match ledger.gap_before_oldest(offset, uplink) {
            Some(gap) => Located::Evicted(gap),
            None => inner.place(offset).map_or(Located::End, Located::At),
        }
    }

    /// The place from which `offset` can be found, or the next one held; `None` if nothing is durable there.
    pub(crate) fn place(&self, offset: Offset) -> Option<Place> {
        self.lock().place(offset)
    }

    /// The beginning of the segment that holds `offset`.
    pub(crate) fn place_of_segment(&self, offset: Offset) -> Option<Place> {
        self.place(offset).map(Place::at_start)
    }

    /// What lies at and behind `from`; `None` if nothing durable does. One look: the sums belong together.
    pub(crate) fn standing(&self, from: Offset) -> Option<Standing> {
        let inner = self.lock();
        let from = from.max(inner.ledger.oldest);
        let segment = inner.place(from)?.at_start();
        let behind = inner.held.iter().find(|h| h.seq > segment.held.seq);
        let skipped_all = inner.ledger.skipped;
        let skipped_before_next = behind.map_or(skipped_all, |next| next.skipped);
        Some(Standing {
            from,
            durable: inner.durable,
            segment,
            skipped_here: skipped_before_next.saturating_sub(segment.held.skipped),
            skipped_behind: skipped_all.saturating_sub(skipped_before_next),
        })
    }

    /// Whether what was read from `held` was still its content.
    pub(crate) fn still_holds(&self, held: &Held) -> bool {
        self.lock().held.iter().any(|h| h.seq == held.seq)
    }

    pub(crate) fn remember(&self, hint: Hint) {
        let mut inner = self.lock();
        inner.hints.retain(|h| *h != hint);
        if inner.hints.len() >= HINTS_MAX {
            inner.hints.pop_front();
        }
        inner.hints.push_back(hint);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder panics")
    }
}

impl Given {
    fn below(&self, next: Offset) -> Offset {
        let (begin, end) = self.told;
        match begin < next && next <= end {
            true => next,
            false => next.min(self.to),
        }
    }
}

impl Place {
    fn at_start(self) -> Self {
        Self {
            position: self.held.data_start,
            first: self.held.base,
            ..self
        }
    }
}

impl Inner {
    fn place(&self, offset: Offset) -> Option<Place> {
        if offset >= self.durable {
            return None;
        }
        let at = self
            .held
            .partition_point(|h| h.base <= offset)
            .saturating_sub(1);
        let held = *self.held.get(at)?;
        let near = self
            .hints
            .iter()
            .filter(|h| h.seq == held.seq && h.first <= offset);
        let (position, first) = near
            .max_by_key(|h| h.first)
            .map_or((held.data_start, held.base), |h| (h.position, h.first));
        let next = self.held.get(at + 1);
        let limit = next.map_or(self.durable, |next| next.base);
        let bytes = if next.is_none() {
            self.head_bytes
        } else {
            u32::MAX
        };
        Some(Place {
            held,
            position,
            first,
            limit,
            bytes,
        })
    }

    /// What lies below its oldest offset is gone for readers. Which uplinks there are and where they stand, callers know first.
    fn take_ledger(&mut self, ledger: &Ledger) {
        let mut now = ledger.clone();
        for known in &ledger.cursors {
            if self.ledger.cursor(known.uplink).is_none() {
                now.drop_cursor(known.uplink);
            }
        }
        for cursor in std::mem::take(&mut self.ledger.cursors) {
            let known = now.cursor(cursor.uplink).map(|known| known.next);
            // The writer will hear of it: what it has counted as lost since is not all lost, and what it will count is.
            let passed = known
                .filter(|known| *known < cursor.next && cursor.next < now.oldest)
                .and_then(|known| {
                    let had = self.given.below(cursor.next).max(known);
                    let records = self.breaks.records(&now, known, had)?;
                    Some((known, records))
                });
            match passed {
                Some((from, records)) => {
                    now.pass_cursor(cursor.uplink, from, cursor.next, records);
                }
                None if known != Some(cursor.next) => {
                    let placed = now.set_cursor(cursor.uplink, cursor.next);
                    debug_assert_eq!(placed, Ok(()), "a log has a place for each uplink");
                }
                None => {}
            }
        }
        self.ledger = now;
        while self.held.len() > 1 && self.held.front().is_some_and(|h| h.base < ledger.oldest) {
            self.held.pop_front();
        }
    }
}

/// Readers that can go on at different places without looking for them.
const HINTS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn held(seq: u64, base: u64) -> Held {
        Held {
            segment: 0,
            seq,
            base: Offset::new(base),
            base_time: Micros::UNKNOWN,
            skipped: 0,
            data_start: 0,
        }
    }

    /// While the writer lets go of a segment, an uplink says that it has some of what stood there; the writer will hear of it. What is shown meanwhile must
    /// not be that nothing was lost: an uplink tells its hub so.
    #[test]
    fn what_is_recycled_before_the_writer_hears_of_a_cursor_is_shown_as_lost() {
        let mut ledger = Ledger::starting_at(Offset::ZERO);
        ledger.set_cursor(1, Offset::new(10)).unwrap();
        let segments = vec![held(1, 0), held(2, 100), held(3, 200)];
        let index = Index::new(segments, Offset::new(250), 0, ledger.clone(), Vec::new);
        let placed = index.change_ledger(|ledger| ledger.set_cursor(1, Offset::new(40)));
        assert_eq!(placed, Ok(()));
        // As the writer has it, who knows the cursor at 10.
        ledger.evicted = 100;
        ledger.oldest = Offset::new(100);
        ledger.cursors.iter_mut().for_each(|c| c.lost = 90);
        index.recycled(Offset::new(250), 0, &ledger);
        let shown = index.ledger().cursor(1).unwrap();
        assert_eq!((shown.next, shown.lost), (Offset::new(40), 60));
    }

    /// The same where the hub has another history of the log: the writer will hear how much of what it has can be from here.
    #[test]
    fn what_a_hub_cannot_have_from_here_is_shown_as_lost_before_the_writer_hears_of_it() {
        let mut ledger = Ledger::starting_at(Offset::ZERO);
        ledger.set_cursor(1, Offset::new(10)).unwrap();
        let segments = vec![held(1, 0), held(2, 100), held(3, 200)];
        let index = Index::new(segments, Offset::new(250), 0, ledger.clone(), Vec::new);
        let index = index.unsent_from(Some(Offset::new(15)));
        assert_eq!(index.given_below(Offset::new(40)), Offset::new(15));
        index.change_ledger(|ledger| ledger.pass_cursor(1, Offset::new(10), Offset::new(40), 5));
        ledger.evicted = 100;
        ledger.oldest = Offset::new(100);
        ledger.cursors.iter_mut().for_each(|c| c.lost = 90);
        index.recycled(Offset::new(250), 0, &ledger);
        let shown = index.ledger().cursor(1).unwrap();
        assert_eq!((shown.next, shown.lost), (Offset::new(40), 85));
    }

    /// Opened once more since it let go of where the uplink stands, and of what its hub has beyond that; at three kills 65,536 offsets were burned. An uplink learns
    /// it, and so does who looks before the writer has heard of it.
    #[test]
    fn what_a_hub_has_above_a_cursor_is_known_after_a_further_start() {
        let (from, to) = (Offset::new(1_000), Offset::new(1_000 + 65_536 + 54));
        let mut ledger = Ledger::starting_at(Offset::ZERO);
        ledger.set_cursor(1, from).unwrap();
        ledger.skipped = 3 * 65_536;
        ledger.oldest = Offset::new(1_000 + 2 * 65_536 + 82);
        ledger.cursors.iter_mut().for_each(|c| c.lost = 82);
        let head = Held {
            skipped: ledger.skipped,
            ..held(9, 200_000)
        };
        let durable = Offset::new(200_010);
        let index = Index::new(vec![head], durable, 0, ledger.clone(), Vec::new).burning(65_536);
        assert_eq!(index.records_between(from, to), Some(54));
        index.change_ledger(|ledger| ledger.pass_cursor(1, from, to, 54));
        index.recycled(durable, 0, &ledger);
        let shown = index.ledger().cursor(1).unwrap();
        assert_eq!((shown.next, shown.lost), (to, 28));
    }
}
