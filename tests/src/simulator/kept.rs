//! What a device has kept, and what a gap may say of it: each event that is gone, and none that the gateway has, but where the log had let go of it before
//! the device heard so.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use sedge_core::{Cause, Gap, Offset};

/// Events that the log has acknowledged.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Offset and number of each that the gateway is not known to have.
    held: VecDeque<(u64, u64)>,
    /// Offset of each that it has.
    released: Vec<u64>,
    /// Those of them that the log had let go of by then. Where offsets are burned behind its cursor it cannot tell them from what is lost.
    late: BTreeSet<u64>,
    /// Events in commits that were cut short: the log may hold them.
    doubts: u64,
    /// Offsets that were burned where torn cells may read well at one time and badly at another: so may the frame that says that they were.
    burned: Vec<Range<u64>>,
}

/// What there is to say of a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Events that are gone and that the gateway is not known to have.
    pub(super) gone: u64,
    /// Events that may be gone as well.
    pub(super) doubts: u64,
    /// Events that the gateway has and the gap may count nevertheless.
    pub(super) late: u64,
    /// How many of those it counts, at most.
    pub(super) loose: u64,
    /// Whether it says what it may.
    pub(super) is_right: bool,
}

impl Kept {
    /// So many events are about to be kept.
    pub(super) fn begin(&mut self, count: u64) {
        self.doubts += count;
    }

    /// The events with these `numbers` are, from offset `first` on.
    pub(super) fn end(&mut self, first: Offset, numbers: &[u64]) {
        self.doubts -= numbers.len() as u64;
        self.held
            .extend((first.get()..).zip(numbers.iter().copied()));
    }

    /// An open burned these offsets, on flash whose torn cells flicker.
    pub(super) fn burn(&mut self, offsets: Range<u64>) {
        self.burned.push(offsets);
    }

    /// The device hears that the gateway has all below `next`. Up to now its log took it to stand at `cursor`, and has let go of all below `oldest`.
    pub(super) fn release(&mut self, cursor: Offset, oldest: Offset, next: Offset) {
        while let Some((at, _)) = self.held.pop_front_if(|(at, _)| *at < next.get()) {
            self.released.push(at);
        }
        if next >= oldest {
            self.late.clear();
        } else {
            let between = cursor.get()..next.get();
            let late = self.released.iter().filter(|at| between.contains(at));
            self.late.extend(late);
        }
    }

    /// The number of the first event that is nowhere else, as far as is known.
    #[must_use]
    pub(super) fn first(&self) -> Option<u64> {
        self.held.front().map(|(_, number)| *number)
    }

    /// What there is to say of `gap`, which the device is about to tell.
    #[must_use]
    pub(super) fn judge(&self, gap: &Gap) -> Verdict {
        let span = gap.from.get()..gap.to.get();
        let gone = self.held.iter().filter(|(at, _)| span.contains(at)).count() as u64;
        let (doubts, late) = (self.doubts, self.late.len() as u64);
        let too_many = gap.lost.saturating_sub(gone);
        let inside = |burned: &Range<u64>| {
            let end = burned.end.min(span.end);
            end.saturating_sub(burned.start.max(span.start))
        };
        let burned = match gap.cause {
            Cause::Corrupt => self.burned.iter().map(inside).sum(),
            _ => 0,
        };
        Verdict {
            gone,
            doubts,
            late,
            loose: too_many.min(late + burned),
            is_right: gap.lost >= gone
                && too_many <= doubts + late + burned
                && (gap.cause == Cause::Evicted || gone == 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(count: u64) -> Kept {
        let mut kept = Kept::default();
        for number in 0..count {
            kept.begin(1);
            kept.end(Offset::new(number), &[number]);
        }
        kept
    }

    /// A gap from offset `from` up to 1,000.
    fn gap(from: u64, lost: u64) -> Gap {
        Gap {
            from: Offset::new(from),
            to: Offset::new(1000),
            lost,
            cause: Cause::Evicted,
            when: sedge_core::Micros::UNKNOWN,
            when_last: sedge_core::Micros::UNKNOWN,
        }
    }

    /// A reset takes the cursor back from 7 to 4 and burns offsets, and the ring goes around. The gateway had got 7 and 8 just before, and the device had
    /// not heard so: all five from 4 to 9 may be counted, and not one more.
    #[test]
    fn what_the_gateway_had_before_a_reset_without_the_device_hearing_of_it_may_be_counted() {
        let mut kept = kept(20);
        let at = Offset::new;
        kept.release(at(4), at(0), at(7));
        kept.release(at(4), at(1000), at(9));
        let told = |lost| kept.judge(&gap(9, lost));
        assert_eq!((told(16).gone, told(16).late), (11, 5));
        let right = [10, 11, 16, 17].map(|lost| told(lost).is_right);
        assert_eq!(right, [false, true, true, false]);
        assert_eq!(told(13).loose, 2);
    }

    /// What was released while it was held is in no gap, nor is what was told of too late once the gateway has the gap that may have counted it.
    #[test]
    fn what_the_log_knew_is_not_counted() {
        let mut kept = kept(20);
        let at = Offset::new;
        kept.release(at(0), at(0), at(9));
        assert!(!kept.judge(&gap(9, 12)).is_right);
        kept.release(at(4), at(1000), at(9));
        assert!(kept.judge(&gap(9, 12)).is_right);
        kept.release(at(9), at(1000), at(1000));
        assert!(!kept.judge(&gap(1000, 1)).is_right);
    }

    /// The gateway was told of 4 and 5 twice: that makes no more of them.
    #[test]
    fn what_is_heard_again_after_a_second_reset_counts_once() {
        let mut kept = kept(20);
        let at = Offset::new;
        kept.release(at(4), at(1000), at(6));
        kept.release(at(4), at(1000), at(6));
        assert!(kept.judge(&gap(6, 16)).is_right);
        assert!(!kept.judge(&gap(6, 17)).is_right);
    }

    /// A commit that was cut short may stand in the log.
    #[test]
    fn what_is_in_doubt_may_be_counted() {
        let mut kept = kept(20);
        kept.begin(3);
        let right = [19, 20, 23, 24].map(|lost| kept.judge(&gap(0, lost)).is_right);
        assert_eq!(right, [false, true, true, false]);
    }
}
