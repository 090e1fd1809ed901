//! What is on its way: how many bytes, until which offset, and when to stop waiting for an answer.
//!
//! Knows numbers only; what is sent again is the sender's decision.

use crate::Offset;

/// Bytes sent and not yet acknowledged, of one log.
///
/// An acknowledgement names an offset, credit is in bytes. A few marks tie the two together; when they run out, two neighbours
/// become one, so that the count is never too low.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flight {
    marks: [Mark; MARKS],
    used: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    next: Offset,
    bytes: u64,
}

const MARKS: usize = 8;

impl Flight {
    pub(super) fn sent(&mut self, next: Offset, bytes: u64) {
        if self.used == MARKS {
            self.merge();
        }
        if let Some(free) = self.marks.get_mut(self.used) {
            *free = Mark { next, bytes };
            self.used += 1;
        }
    }

    pub(super) fn acknowledged(&mut self, next: Offset) {
        let done = self
            .live()
            .iter()
            .take_while(|mark| mark.next <= next)
            .count();
        for _ in 0..done {
            self.close_up(0);
        }
    }

    /// What was sent from `next` on will be sent again.
    pub(super) fn back_to(&mut self, next: Offset) {
        let kept = self
            .live()
            .iter()
            .take_while(|mark| mark.next <= next)
            .count();
        let at_a_mark = kept > 0
            && self
                .live()
                .get(kept - 1)
                .is_some_and(|mark| mark.next == next);
        let straddles = kept < self.used && !at_a_mark;
        self.used = kept;
        if let Some(mark) = self.marks.get_mut(kept).filter(|_| straddles) {
            mark.next = next;
            self.used += 1;
        }
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.live().iter().map(|mark| mark.bytes).sum()
    }

    fn live(&self) -> &[Mark] {
        self.marks.get(..self.used).unwrap_or(&[])
    }

    /// Joins the two neighbours that are the least together.
    fn merge(&mut self) {
        let sums = self
            .live()
            .windows(2)
            .map(|pair| pair.iter().map(|m| m.bytes).sum::<u64>());
        let Some((at, sum)) = sums.enumerate().min_by_key(|&(_, sum)| sum) else {
            return;
        };
        if let Some(later) = self.marks.get_mut(at + 1) {
            later.bytes = sum;
        }
        self.close_up(at);
    }

    /// Takes the mark at `at` out.
    fn close_up(&mut self, at: usize) {
        let mut behind = Mark::default();
        for mark in self.marks.iter_mut().skip(at).rev() {
            core::mem::swap(mark, &mut behind);
        }
        self.used -= 1;
    }
}

/// When an acknowledgement is overdue (RFC 6298, with the bounds of rule 7). Only a link has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retransmit {
    timeout_us: u64,
    smoothed: Option<Smoothed>,
    deadline_us: Option<u64>,
    sample: Option<Sample>,
    /// Timeouts since anything was acknowledged.
    pub(super) failures: u8,
}

#[derive(Clone, Copy, Debug)]
struct Smoothed {
    rtt_us: u64,
    variation_us: u64,
}

/// The message whose answer is being timed.
#[derive(Clone, Copy, Debug)]
struct Sample {
    slot: u16,
    next: Offset,
    at_us: u64,
}

pub(super) const TIMEOUT_US_MIN: u64 = 200_000;
pub(super) const TIMEOUT_US_MAX: u64 = 10_000_000;
const TIMEOUT_US_FIRST: u64 = 1_000_000;

const _: () = assert!(TIMEOUT_US_MIN < TIMEOUT_US_FIRST && TIMEOUT_US_FIRST < TIMEOUT_US_MAX);

impl Retransmit {
    pub(super) const fn new() -> Self {
        Self {
            timeout_us: TIMEOUT_US_FIRST,
            smoothed: None,
            deadline_us: None,
            sample: None,
            failures: 0,
        }
    }

    /// A new session: what was on its way is no longer waited for, what was learned about the line stays.
    pub(super) fn restart(&mut self) {
        self.deadline_us = None;
        self.sample = None;
        self.failures = 0;
    }

    pub(super) const fn deadline_us(&self) -> Option<u64> {
        self.deadline_us
    }

    /// Something that wants an answer was sent; a deadline that runs already is not moved.
    pub(super) fn sent(&mut self, now_us: u64) {
        let deadline = now_us.saturating_add(self.timeout_us);
        self.deadline_us.get_or_insert(deadline);
    }

    /// Times the answer to this one, unless another is being timed.
    pub(super) fn time(&mut self, slot: u16, next: Offset, now_us: u64) {
        self.sample.get_or_insert(Sample {
            slot,
            next,
            at_us: now_us,
        });
    }

    /// Something new was acknowledged; `waiting` says whether more is on its way.
    pub(super) fn progress(&mut self, slot: u16, next: Offset, waiting: bool, now_us: u64) {
        if let Some(sample) = self.sample.filter(|s| s.slot == slot && s.next <= next) {
            self.learn(now_us.saturating_sub(sample.at_us));
            self.sample = None;
        }
        self.failures = 0;
        self.timeout_us = self.smoothed.map_or(TIMEOUT_US_FIRST, |s| {
            s.rtt_us
                .saturating_add(s.variation_us.saturating_mul(4))
                .clamp(TIMEOUT_US_MIN, TIMEOUT_US_MAX)
        });
        self.deadline_us = waiting.then(|| now_us.saturating_add(self.timeout_us));
    }

    /// The deadline passed. An answer that comes now may be to either copy, so it is not timed (Karn).
    pub(super) fn expired(&mut self) {
        self.timeout_us = self.timeout_us.saturating_mul(2).min(TIMEOUT_US_MAX);
        self.deadline_us = None;
        self.sample = None;
        self.failures = self.failures.saturating_add(1);
    }

    /// What is being timed will be sent again.
    pub(super) fn forget_sample(&mut self) {
        self.sample = None;
    }

    fn learn(&mut self, rtt_us: u64) {
        self.smoothed = Some(match self.smoothed {
            None => Smoothed {
                rtt_us,
                variation_us: rtt_us / 2,
            },
            Some(old) => Smoothed {
                rtt_us: (old.rtt_us.saturating_mul(7).saturating_add(rtt_us)) / 8,
                variation_us: (old
                    .variation_us
                    .saturating_mul(3)
                    .saturating_add(old.rtt_us.abs_diff(rtt_us)))
                    / 4,
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_bytes_on_their_way_is_exact_with_few_messages_and_never_too_low_with_many() {
        let mut flight = Flight::default();
        for i in 1..=5 {
            flight.sent(Offset::new(i * 10), 100);
        }
        flight.acknowledged(Offset::new(30));
        assert_eq!(flight.bytes(), 200);
        for i in 6..=100 {
            flight.sent(Offset::new(i * 10), 100);
        }
        for acked in 4..=100 {
            flight.acknowledged(Offset::new(acked * 10));
            assert!(flight.bytes() >= (100 - acked) * 100, "acked {acked}");
        }
        assert_eq!(flight.bytes(), 0);
    }

    #[test]
    fn going_back_forgets_what_will_be_sent_again() {
        let mut flight = Flight::default();
        for i in 1..=4 {
            flight.sent(Offset::new(i * 10), 100);
        }
        flight.back_to(Offset::new(25));
        assert_eq!(
            flight.bytes(),
            300,
            "a message that may have been half taken still counts"
        );
        flight.back_to(Offset::new(20));
        assert_eq!(flight.bytes(), 200);
        flight.acknowledged(Offset::new(20));
        assert_eq!(flight.bytes(), 0);
    }

    #[test]
    fn the_timeout_follows_the_line_and_doubles_in_silence() {
        let mut timer = Retransmit::new();
        timer.sent(0);
        timer.time(0, Offset::new(1), 0);
        timer.progress(0, Offset::new(1), false, 20_000);
        assert_eq!(timer.deadline_us(), None);
        timer.sent(100_000);
        assert_eq!(timer.deadline_us(), Some(100_000 + TIMEOUT_US_MIN));
        timer.expired();
        timer.sent(300_000);
        assert_eq!(timer.deadline_us(), Some(300_000 + 2 * TIMEOUT_US_MIN));
    }
}
