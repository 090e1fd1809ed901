//! What a write left that did not end well: its medium failed, or its future was dropped. On files nobody knows, and the log must be opened again.
//!
//! ```text
//! head   | frame | frame | ?????? | untouched        | RESUME | …       flash: a torn write to the head
//!                        └ torn_at                   └ next grid point
//! spare  | stamp | ?????? | untouched                                   flash: a spare that may be open already (half_opened)
//! ```
//! On flash the log looks before it writes on, and takes what it sees as it would after an open: a frame that is whole has its offsets, so that no sum
//! counts them twice; bytes that are all blank were not touched; anything else is programmed no more.

use super::{Burn, Desk, Operations, RingLog, Spare, State, slot, twin};
use crate::frame::{Control, Frame, time_behind};
use crate::gap::Cause;
use crate::log::{CommitError, Tail};
use crate::segment::Medium;

#[twin]
impl RingLog {
    /// Whether the log can be written; finds out what a write left that did not end well.
    #[inline(never)]
    pub(super) async fn begin<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
    ) -> Result<(), CommitError<O::Error>> {
        if self.state == State::Writing {
            self.torn();
        }
        if self.half_opened.is_some() {
            self.fail_on_file();
        }
        if let Some(position) = self.torn_at
            && self.state == State::Open
        {
            self.look_back(desk, position).await;
        }
        match self.state {
            State::Ended => Err(CommitError::Ended),
            State::Failed => Err(CommitError::Failed),
            State::Open | State::Closed | State::Writing => Ok(()),
        }
    }

    /// A write to the head did not end well.
    pub(super) fn torn(&mut self) {
        self.state = State::Open;
        self.fail_on_file();
        if self.geometry.medium() == Medium::File {
            return;
        }
        let to = self.torn_to();
        self.burn = self.burn.or(Some(Burn {
            to,
            cause: Cause::Burned,
            lost: 0,
        }));
        self.torn_at = Some(self.head.position);
        let touched = self
            .head
            .position
            .saturating_add(self.geometry.frame_bytes_max());
        self.head.position = self
            .geometry
            .grid_at_or_after(touched)
            .unwrap_or(self.geometry.segment_bytes());
    }

    pub(super) fn fail_on_file(&mut self) {
        if self.geometry.medium() == Medium::File {
            self.state = State::Failed;
        }
    }

    /// A frame that stands whole at `position` is part of the log, whoever was not told.
    #[inline(never)]
    async fn look_back<O: Operations>(&mut self, desk: &mut Desk<'_, O>, position: u32) {
        let segment = self.head.segment;
        let end = position
            .saturating_add(self.geometry.frame_bytes_max())
            .min(self.geometry.segment_bytes());
        if desk.is_blank(segment, position, end).await {
            self.torn_at = None;
            self.go_on_at_blank(position);
            return;
        }
        let len = end.saturating_sub(position) as usize;
        let bytes = desk.fill(segment, position, len).await;
        self.torn_at = None;
        let Ok((frame, len)) = Frame::parse(bytes, &self.log_id, Some(self.end)) else {
            return;
        };
        self.count_in(&frame);
        let is_last = frame.control() == Some(Control::End);
        if is_last {
            self.state = State::Ended;
        }
        // With nothing left to be burned there is no RESUME frame, and so no reader that looks for what follows at a grid point.
        if is_last || self.burn.is_some_and(|burn| burn.to <= self.end) {
            self.burn = None;
            self.head.position = position.saturating_add(self.padded(len));
        }
    }

    /// Blank bytes end the walk of every reader: what is written next stands right there, or in another segment.
    fn go_on_at_blank(&mut self, position: u32) {
        let is_again = self.blank_at.replace(position) == Some(position);
        self.head.position = if is_again || self.tail == Tail::Fresh {
            self.geometry.segment_bytes()
        } else {
            position
        };
    }

    /// A frame stands in the head.
    pub(super) fn count_in(&mut self, frame: &Frame<'_>) {
        let skipped = frame.gap().map_or(0, |gap| gap.span());
        self.ledger.skipped = self.ledger.skipped.saturating_add(skipped);
        self.end = frame.end();
        self.last_time = time_behind(self.last_time, frame);
    }

    /// Erases a spare that may be the newest segment already: nothing was written into it. Without that the head cannot be written, and the next
    /// open would take what was for the end of the log.
    pub(super) async fn take_back_half_opened<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
    ) -> Result<(), O::Error> {
        let Some(segment) = self.half_opened else {
            return Ok(());
        };
        let slot = self.slot(desk, segment).await;
        if let Some(opened) = slot.as_ref().and_then(|slot| self.as_own(slot))
            && opened.seq > self.head.seq
        {
            let erase_count =
                slot::prepare(desk, segment, self.geometry, opened.erase_count).await?;
            self.spare = Some(Spare {
                segment,
                erase_count,
            });
        }
        self.half_opened = None;
        Ok(())
    }
}
