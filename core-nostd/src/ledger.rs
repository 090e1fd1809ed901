//! The ledger: where every offset that a log no longer holds has gone, and where its uplinks stand (docs/spec/log.md, section 6).
//!
//! Plain sums; what is counted, and when it is durable, is the log's affair.

use serde::{Deserialize, Serialize};

use crate::gap::{Cause, Gap};
use crate::ids::{Micros, Offset};
use crate::octets::{Reader, Writer};
use crate::wire::{Wire, emit, take_from, wire};

/// Counts over the life of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The first offset that is held.
    pub oldest: Offset,
    /// Records recycled below the release point: every uplink had them.
    pub handed_over: u64,
    /// Records recycled above it, to make room.
    pub evicted: u64,
    /// Records recycled above it because of their age.
    pub expired: u64,
    /// Offsets recycled without a valid frame.
    pub corrupt: u64,
    /// Offsets that gap frames took when they were written: burned, or lost before this log.
    pub skipped: u64,
    /// Records that were not taken, because the log was full. They never had an offset.
    pub refused: u64,
    /// When something was first lost here.
    pub loss_first: Micros,
    /// When something was last lost here.
    pub loss_last: Micros,
    /// Where the uplinks stand.
    pub cursors: Cursors,
}

/// How far one uplink has taken custody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which uplink.
    pub uplink: u32,
    /// The first offset that it has not got.
    pub next: Offset,
    /// Records that were recycled at or above `next`, and what gaps and notices among them told: what the next gap to this uplink will say.
    pub lost: u64,
}

wire!(Ledger {
    oldest,
    handed_over,
    evicted,
    expired,
    corrupt,
    skipped,
    refused,
    loss_first,
    loss_last,
    cursors
});
wire!(Cursor { uplink, next, lost });

impl Wire<'_> for Cursors {
    fn put(&self, to: &mut Writer<'_>) -> Option<()> {
        to.varint(self.len() as u64)?;
        self.iter().try_for_each(|cursor| cursor.put(to))
    }

    fn take(from: &mut Reader<'_>) -> Option<Self> {
        let mut cursors = Self::new();
        for _ in 0..from.varint()? {
            cursors.push(Cursor::take(from)?).ok()?;
        }
        Some(cursors)
    }
}

/// Up to [`CURSORS_MAX`] cursors.
pub type Cursors = heapless::Vec<Cursor, CURSORS_MAX>;

impl Cursor {
    /// What is lost beyond one record for each offset that was recycled: what notices told that are gone.
    #[must_use]
    pub const fn told_beyond(&self, oldest: Offset) -> u64 {
        self.lost.saturating_sub(oldest.since(self.next))
    }
}

impl Ledger {
    /// The empty ledger of a log that begins at `first`.
    #[must_use]
    pub fn starting_at(first: Offset) -> Self {
        Self {
            oldest: first,
            ..Self::default()
        }
    }

    /// Reads a ledger; `None` if it is malformed.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        take_from(bytes).map(|(ledger, _)| ledger)
    }

    /// Writes the ledger to the front of `into` and says how many bytes it took; `None` if it does not fit.
    #[must_use]
    pub fn emit(&self, into: &mut [u8]) -> Option<usize> {
        emit(self, into)
    }

    /// The offset below which every uplink has everything; with no uplink, the oldest: nothing is released.
    #[must_use]
    pub fn release_point(&self) -> Offset {
        self.cursors
            .iter()
            .map(|cursor| cursor.next)
            .min()
            .unwrap_or(self.oldest)
    }

    /// Where this uplink stands.
    #[must_use]
    pub fn cursor(&self, uplink: u32) -> Option<Cursor> {
        self.cursors
            .iter()
            .copied()
            .find(|cursor| cursor.uplink == uplink)
    }

    /// Moves the cursor of `uplink`, in either direction; a new uplink gets one.
    ///
    /// # Errors
    /// [`TooManyCursors`] if there is no place for a new one.
    pub fn set_cursor(&mut self, uplink: u32, next: Offset) -> Result<(), TooManyCursors> {
        let oldest = self.oldest;
        if let Some(cursor) = self
            .cursors
            .iter_mut()
            .find(|cursor| cursor.uplink == uplink)
        {
            // Back below the oldest: what lies between was not lost to this uplink before, but is now. Forward, where a cut took the cursor back: what lies
            // between is not lost, and no more than what lies behind is; what notices told that are gone may stand there.
            let gone = cursor.next.min(oldest).since(next);
            let most = if next <= cursor.next {
                u64::MAX
            } else if next >= oldest {
                0
            } else {
                let told = cursor.told_beyond(oldest);
                oldest.since(next).saturating_add(told)
            };
            cursor.lost = cursor.lost.saturating_add(gone).min(most);
            cursor.next = next;
            return Ok(());
        }
        let lost = if next < oldest {
            self.lost_since(next)
        } else {
            0
        };
        self.cursors
            .push(Cursor { uplink, next, lost })
            .map_err(|_| TooManyCursors)
    }

    /// The uplink had everything below `next`, which is held no more: of what was recycled at or above its cursor, the `records` from `from` on were not
    /// lost to it. If the cursor is not at `from`, how many were is not known: then no more was lost than what lies behind.
    pub fn pass_cursor(&mut self, uplink: u32, from: Offset, next: Offset, records: u64) {
        let oldest = self.oldest;
        let is_it = |cursor: &&mut Cursor| cursor.uplink == uplink && cursor.next < next;
        if let Some(cursor) = self.cursors.iter_mut().find(is_it) {
            cursor.lost = if cursor.next == from {
                cursor.lost.saturating_sub(records)
            } else {
                cursor.lost.min(oldest.since(next))
            };
            cursor.next = next;
        }
    }

    /// Forgets `uplink`; says whether there was such a cursor.
    pub fn drop_cursor(&mut self, uplink: u32) -> bool {
        let before = self.cursors.len();
        self.cursors.retain(|cursor| cursor.uplink != uplink);
        self.cursors.len() < before
    }

    /// Offsets that are neither held nor skipped any more.
    #[must_use]
    pub const fn gone(&self) -> u64 {
        self.handed_over.saturating_add(self.lost())
    }

    /// Those of them that nobody was given.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.evicted
            .saturating_add(self.expired)
            .saturating_add(self.corrupt)
    }

    /// What a reader that expects `from` meets before the oldest offset: for an uplink exactly its own loss, for any other reader the most that can have been lost.
    #[must_use]
    pub fn gap_before_oldest(&self, from: Offset, uplink: Option<u32>) -> Option<Gap> {
        if from >= self.oldest {
            return None;
        }
        let cursor = uplink
            .and_then(|uplink| self.cursor(uplink))
            .filter(|cursor| cursor.next == from);
        let cause = if self.expired > self.evicted {
            Cause::Expired
        } else {
            Cause::Evicted
        };
        Some(Gap {
            from,
            to: self.oldest,
            lost: cursor.map_or_else(|| self.lost_since(from), |cursor| cursor.lost),
            cause,
            when: self.loss_first,
            when_last: self.loss_last,
        })
    }

    /// Exact for `from` = 0. Who stands before all else knows also what gaps told that are gone themselves.
    fn lost_since(&self, from: Offset) -> u64 {
        let at_first = |cursor: &&Cursor| cursor.next == Offset::ZERO;
        let told = self.cursors.iter().find(at_first);
        let lost = told.map_or(0, |cursor| cursor.lost).max(self.gone());
        self.oldest.since(from).min(lost)
    }
}

/// The ledger has no place for another uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TooManyCursors;

impl core::fmt::Display for TooManyCursors {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a log keeps cursors for at most {CURSORS_MAX} uplinks")
    }
}

impl core::error::Error for TooManyCursors {}

/// How many uplinks a log can have.
pub const CURSORS_MAX: usize = 4;

/// Bytes of the largest ledger: nine varints of 64 bits, the count of cursors, and each cursor's three varints.
pub const ENCODED_LEN_MAX: usize = 9 * 10 + 1 + CURSORS_MAX * (5 + 10 + 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn largest_ledger_fits_its_bound() {
        let most = Offset::new(u64::MAX);
        let mut ledger = Ledger {
            oldest: most,
            handed_over: u64::MAX,
            evicted: u64::MAX,
            expired: u64::MAX,
            corrupt: u64::MAX,
            skipped: u64::MAX,
            refused: u64::MAX,
            loss_first: Micros::UNKNOWN,
            loss_last: Micros::UNKNOWN,
            cursors: Cursors::new(),
        };
        for uplink in 0..4 {
            ledger
                .cursors
                .push(Cursor {
                    uplink: u32::MAX - uplink,
                    next: most,
                    lost: u64::MAX,
                })
                .unwrap();
        }
        let mut buffer = [0; ENCODED_LEN_MAX];
        assert_eq!(ledger.emit(&mut buffer), Some(ENCODED_LEN_MAX));
        assert_eq!(Ledger::parse(&buffer), Some(ledger.clone()));
        assert_eq!(ledger.set_cursor(9, most), Err(TooManyCursors));
    }

    #[test]
    fn golden_ledger() {
        let mut ledger = Ledger {
            evicted: 300,
            loss_first: Micros::new(-1),
            loss_last: Micros::new(1),
            ..Ledger::starting_at(Offset::new(500))
        };
        ledger.set_cursor(1, Offset::new(600)).unwrap();
        let mut buffer = [0; 64];
        let len = ledger.emit(&mut buffer).unwrap();
        assert_eq!(
            buffer[..len],
            *b"\xF4\x03\x00\xAC\x02\0\0\0\0\x01\x02\x01\x01\xD8\x04\x00"
        );
    }

    #[test]
    fn slowest_uplink_holds_the_release_point() {
        let mut ledger = Ledger::starting_at(Offset::new(5));
        assert_eq!(ledger.release_point(), Offset::new(5));
        ledger.set_cursor(1, Offset::new(20)).unwrap();
        ledger.set_cursor(2, Offset::new(10)).unwrap();
        assert_eq!(ledger.release_point(), Offset::new(10));
        ledger.set_cursor(1, Offset::new(7)).unwrap();
        assert_eq!(ledger.release_point(), Offset::new(7), "a rewind is legal");
        assert!(ledger.drop_cursor(1) && !ledger.drop_cursor(1));
        assert_eq!(ledger.release_point(), Offset::new(10));
    }

    /// It was at 5 when all below 10 went; back at 2 it has lost three more.
    #[test]
    fn uplink_that_goes_back_lost_what_lies_between_too() {
        let mut ledger = Ledger::starting_at(Offset::ZERO);
        ledger.set_cursor(1, Offset::new(5)).unwrap();
        ledger.oldest = Offset::new(10);
        ledger.cursors[0].lost = 4;
        for (next, lost) in [(5, 4), (2, 7), (9, 1), (12, 0), (8, 2)] {
            ledger.set_cursor(1, Offset::new(next)).unwrap();
            assert_eq!(ledger.cursor(1).map(|cursor| cursor.lost), Some(lost));
        }
    }

    /// Among the five that went was a notice of 258 lost records. Whoever goes on behind them has lost no more than what lies there.
    #[test]
    fn what_a_notice_told_stays_lost_to_an_uplink_that_goes_to_and_fro() {
        let mut ledger = Ledger::starting_at(Offset::ZERO);
        ledger.set_cursor(1, Offset::new(5)).unwrap();
        ledger.oldest = Offset::new(10);
        ledger.cursors[0].lost = 4 + 258;
        for (next, lost) in [(2, 7 + 258), (9, 1 + 257), (10, 0)] {
            ledger.set_cursor(1, Offset::new(next)).unwrap();
            assert_eq!(ledger.cursor(1).map(|cursor| cursor.lost), Some(lost));
        }
    }

    #[test]
    fn uplink_is_told_its_own_loss() {
        let mut ledger = Ledger {
            evicted: 9,
            ..Ledger::starting_at(Offset::new(10))
        };
        ledger
            .cursors
            .push(Cursor {
                uplink: 1,
                next: Offset::new(4),
                lost: 5,
            })
            .unwrap();
        assert_eq!(
            ledger
                .gap_before_oldest(Offset::new(4), Some(1))
                .unwrap()
                .lost,
            5
        );
        assert_eq!(
            ledger.gap_before_oldest(Offset::new(0), None).unwrap().lost,
            9
        );
        ledger.pass_cursor(1, Offset::new(4), Offset::new(6), 2);
        assert_eq!(
            (
                ledger.cursor(1).unwrap().next,
                ledger.cursor(1).unwrap().lost
            ),
            (Offset::new(6), 3),
            "two of them it had"
        );
        assert_eq!(ledger.gap_before_oldest(Offset::new(10), Some(1)), None);
        ledger.set_cursor(1, Offset::new(10)).unwrap();
        assert_eq!(
            ledger.cursor(1).unwrap().lost,
            0,
            "the gap has been handed over"
        );
    }

    /// Who passes the cursor counted from a place where it is not any more: what may be lost stays counted.
    #[test]
    fn a_cursor_that_is_passed_from_elsewhere_counts_all_that_lies_behind_as_lost() {
        let mut ledger = Ledger {
            evicted: 100,
            ..Ledger::starting_at(Offset::new(200))
        };
        let (uplink, next, lost) = (1, Offset::new(150), 50);
        ledger.cursors.push(Cursor { uplink, next, lost }).unwrap();
        ledger.pass_cursor(uplink, Offset::new(100), Offset::new(160), 60);
        let cursor = ledger.cursor(uplink).unwrap();
        assert_eq!((cursor.next, cursor.lost), (Offset::new(160), 40));
    }

    /// A reset took the cursor back to where it was saved, and then the log let go of what lies above. The receiver says how far it really is.
    #[test]
    fn what_the_receiver_has_above_an_older_cursor_is_not_lost() {
        let mut ledger = Ledger {
            evicted: 100,
            ..Ledger::starting_at(Offset::new(200))
        };
        let (uplink, next, lost) = (1, Offset::new(100), 100);
        ledger.cursors.push(Cursor { uplink, next, lost }).unwrap();
        ledger.set_cursor(uplink, Offset::new(130)).unwrap();
        let gap = ledger.gap_before_oldest(Offset::new(130), Some(uplink));
        assert_eq!(gap.unwrap().lost, 70);
    }
}
