//! The log machine: one writer over a ring of segments (docs/spec/log.md), and readers beside it.
//!
//! ```text
//!            ┌── recycled, stamped ──┐
//!   spare ──► head ──► … ──► … ──► oldest
//!   open()    commit()              maintain()
//! ```
//! `recover` makes a [`RingLog`] out of whatever stands on the medium (`survey` finds the head, `flash_tail` judges where it may go on), `lost_head` accounts for a head whose own beginning is damaged, `commit` appends to the head and rolls into the spare, `in_doubt` finds out what a write left that did not end well,
//! `recycle` turns the oldest segment into the next spare, `slot` reads and writes what stands before the frames, `read` reads beside all of it, `hand_over` gathers what a sender wants. The machine hands one
//! operation at a time to its medium and changes its own state only after that has succeeded. It reads no clock: time is an argument.
//!
//! Each of these lines is compiled twice: `blocking` makes calls of it, `waiting` futures. What [`Operations`] and [`twin`] are here, the one that loads
//! this module says.

mod commit;
mod desk;
mod flash_tail;
mod hand_over;
mod in_doubt;
mod lost_head;
mod read;
mod recover;
mod recycle;
mod replay;
mod slot;
mod survey;

use super::{Operations, twin};
use crate::frame::{Form, Label};
use crate::gap::Cause;
use crate::ids::{LogId, Micros, Offset};
use crate::ledger::{Ledger, TooManyCursors};
use crate::log::{Continuation, Tail, View, WhenFull};
use crate::segment::{Geometry, Medium, Role};

pub use desk::Desk;
pub use read::Reader;
pub use slot::look;

/// The writer of a log: what it must remember between two operations.
#[derive(Debug)]
pub struct RingLog {
    geometry: Geometry,
    when_full: WhenFull,
    boot: u64,
    log_id: LogId,
    ledger: Ledger,
    head: Head,
    /// The offset behind the last frame that was written.
    end: Offset,
    /// Offsets that a torn commit may have taken; a RESUME frame burns them before anything else is written.
    burn: Option<Burn>,
    spare: Option<Spare>,
    /// Where a write to the head began that did not end well, until it is known what it left.
    torn_at: Option<u32>,
    /// Where such a write left nothing, and was tried again.
    blank_at: Option<u32>,
    tail: Tail,
    /// A spare whose opening did not end well: it may already be the newest segment, and behind its base nothing may be written elsewhere.
    half_opened: Option<u32>,
    /// Candidates for recycling to pass over, because erasing them failed.
    passed_over: u32,
    /// The ledger in memory says more than the one that is durable.
    unsaved: bool,
    /// The time of the last record (compact frames count from it).
    last_time: Micros,
    state: State,
}

/// The segment that is written.
#[derive(Clone, Copy, Debug)]
struct Head {
    segment: u32,
    seq: u64,
    base: Offset,
    data_start: u32,
    /// Where the next frame goes.
    position: u32,
    /// Nothing more may be written into it.
    is_full: bool,
    /// What may stand behind its frames cannot be read. Nothing is written there.
    is_lost_behind: bool,
}

#[derive(Clone, Copy, Debug)]
struct Burn {
    to: Offset,
    cause: Cause,
    /// Records that are known to have had offsets in it.
    lost: u64,
}

/// A stamped segment, ready to become the head.
#[derive(Clone, Copy, Debug)]
struct Spare {
    segment: u32,
    erase_count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Ready to append.
    Open,
    /// An operation that writes to the head has begun; if this is seen at the start of the next one, it did not end well.
    Writing,
    /// The last frame is CLOSE: nothing was written since.
    Closed,
    /// The log has ended for good.
    Ended,
    /// What stands on the file is unknown: the log must be opened again.
    Failed,
}

impl RingLog {
    /// The offset that the next record gets, burned ones passed over. Encode frames from here.
    #[must_use]
    pub fn next(&self) -> Offset {
        match self.burn {
            Some(burn) => burn.to,
            // A future was dropped: the next call burns what it may have taken.
            None if self.state == State::Writing && self.geometry.medium() == Medium::Nor => {
                self.torn_to()
            }
            None => self.end,
        }
    }

    /// The first offset that is held.
    #[must_use]
    pub const fn oldest(&self) -> Offset {
        self.ledger.oldest
    }

    /// Which log this is.
    #[must_use]
    pub const fn log_id(&self) -> LogId {
        self.log_id
    }

    /// The dimensions that the log is written with.
    #[must_use]
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Where the offsets that are no longer held have gone, and where the uplinks stand.
    #[must_use]
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The segment that is written, and the position in it where the next frame goes.
    #[must_use]
    pub const fn head(&self) -> (u32, u32) {
        (self.head.segment, self.head.position)
    }

    /// The first offset of the head.
    #[must_use]
    pub const fn head_base(&self) -> Offset {
        self.head.base
    }

    /// Which segment of the log the head is, and where in it the frames begin.
    #[must_use]
    pub const fn head_begin(&self) -> (u64, u32) {
        (self.head.seq, self.head.data_start)
    }

    /// The time of the last record, from which the next compact frame counts.
    #[must_use]
    pub const fn last_time(&self) -> Micros {
        self.last_time
    }

    /// What the next frame has to continue.
    #[must_use]
    pub fn continuation(&self) -> Continuation {
        Continuation {
            log_id: self.log_id,
            next: self.next(),
            last_time: self.last_time,
        }
    }

    /// What readers may see: nothing beyond is durable.
    #[must_use]
    pub const fn view(&self) -> View {
        View {
            oldest: self.ledger.oldest,
            durable: self.end,
            head: self.head.base,
        }
    }

    /// Whether the log has ended for good.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether there is no segment ready for the time when the head is full.
    #[must_use]
    pub const fn needs_maintain(&self) -> bool {
        self.spare.is_none()
    }

    /// Moves the cursor of an uplink, no further than the log goes. It becomes durable with the next ledger that is written; one that is lost costs a re-send.
    ///
    /// # Errors
    /// If there is no place for another uplink.
    pub fn set_cursor(&mut self, uplink: u32, next: Offset) -> Result<(), TooManyCursors> {
        self.unsaved = true;
        self.ledger.set_cursor(uplink, next.min(self.next()))
    }

    /// Moves the cursor of an uplink over `records` that it has and the log holds no more: they are not counted as lost to it.
    pub fn pass_cursor(&mut self, uplink: u32, from: Offset, next: Offset, records: u64) {
        self.unsaved = true;
        self.ledger.pass_cursor(uplink, from, next, records);
    }

    /// Forgets an uplink.
    pub fn drop_cursor(&mut self, uplink: u32) -> bool {
        self.unsaved = true;
        self.ledger.drop_cursor(uplink)
    }

    /// Counts records that were not taken because the log is full.
    pub const fn count_refused(&mut self, records: u64) {
        self.unsaved = true;
        self.ledger.refused = self.ledger.refused.saturating_add(records);
    }

    /// How far the offsets may have been used by a commit that did not end well.
    fn torn_to(&self) -> Offset {
        self.end + u64::from(self.geometry.commit_offsets_max())
    }

    fn label(&self, first: Offset, time: Micros) -> Label {
        Label {
            form: self.form(),
            first,
            time,
            first_of_commit: true,
        }
    }

    fn form(&self) -> Form {
        match self.geometry.medium() {
            Medium::Nor => Form::Compact,
            Medium::File => Form::Explicit,
        }
    }

    fn is_mirror(&self) -> bool {
        self.geometry.role() == Role::Mirror
    }
}
