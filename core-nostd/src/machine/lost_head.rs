//! A head whose own beginning is damaged: it is no longer found by its header, so the log would go on from the segment before it and give its offsets again.
//!
//! Its frames still prove that they were there, since a frame's check holds the log's id and its first offset. What they held cannot be read without a header
//! that says where they begin, so it becomes a gap, as large as what may have been given there.

use super::desk::Held;
use super::slot;
use super::{Burn, Desk, Operations, RingLog, State, twin};
use crate::gap::Cause;
use crate::ids::{LogId, Micros};
use crate::log::{CommitError, LostHead, OpenError, Opened, Slot};
use crate::planted::Fault;
use crate::segment::{Medium, OPEN_FIELDS_LEN, OPEN_HEADER_FIXED_LEN, OpenClaim, Role, STAMP_LEN};
use crate::walk::{End, Here, Step, Walk, Why};

#[twin]
impl RingLog {
    /// Looks behind the head for one that came after it, and makes it a gap. Mirrors burn nothing: the sender fills them again.
    #[inline(never)]
    pub(super) async fn account_for_lost_head<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        now: Micros,
    ) -> Result<Option<LostHead>, OpenError<O::Error>> {
        if self.geometry.role() == Role::Mirror || self.state == State::Ended {
            return Ok(None);
        }
        if Fault::PassOverLostHead.is_planted() {
            return Ok(None);
        }
        let Some(lost) = self.find_lost_head(desk).await else {
            return Ok(None);
        };
        self.burn = Some(Burn {
            to: lost.to,
            cause: Cause::Corrupt,
            lost: lost.lost,
        });
        // Before the segment is used again: its frames are the only proof. Where the head has no room for it, the next commit says it.
        if self.has_room_for_resume()
            && let Err(CommitError::Media(error)) = self.settle_burn(desk, now).await
        {
            return Err(OpenError::Media(error));
        }
        Ok(Some(lost))
    }

    /// Between the head and the oldest segment there are a spare and what was passed over; none of them holds frames that continue the head.
    async fn find_lost_head<O: Operations>(&self, desk: &mut Desk<'_, O>) -> Option<LostHead> {
        for steps in 1..self.geometry.segment_count() {
            let segment = self.ahead(self.head.segment, steps);
            let slot = self.slot(desk, segment).await?;
            let is_other = match &slot {
                Slot::Open(opened) => {
                    !self
                        .is_astray(desk, segment, opened.log_id, opened.seq)
                        .await
                }
                slot => self.is_unused(desk, segment, slot).await,
            };
            if is_other {
                return None;
            }
            if let Some(lost) = self.lost_in(desk, segment, &slot).await {
                return Some(lost);
            }
        }
        None
    }

    /// Whether `segment` surely was not opened since it was made ready: behind its stamp stands what an earlier lap left, or it is blank, as are those behind
    /// it on the first lap. Where they are not, what looks blank may have become so.
    async fn is_unused<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        slot: &Slot,
    ) -> bool {
        let is_spare = matches!(slot, Slot::Spare { .. });
        if is_spare && self.geometry.medium() == Medium::Nor {
            return true;
        }
        let mut fields = [0; OPEN_FIELDS_LEN];
        let behind_stamp = desk.media.read(segment, STAMP_LEN as u32, &mut fields);
        if behind_stamp.await.is_err() {
            return false;
        }
        if let Some(claim) = OpenClaim::parse(&fields).filter(|_| is_spare) {
            let len = claim.encoded_len();
            let leftover = match slot::read_open_header(desk, segment, len).await {
                Some((header, _)) => (header.log_id, header.seq),
                None => return false,
            };
            return !self.is_astray(desk, segment, leftover.0, leftover.1).await;
        }
        // A lost sector must not look like one that was never used.
        let from = if is_spare { STAMP_LEN as u32 } else { 0 };
        let len = self.geometry.scratch_bytes();
        let Some(bytes) = desk.scratch.get_mut(..len) else {
            return false;
        };
        if desk.media.read(segment, from, bytes).await.is_err() {
            return false;
        }
        is_blank(bytes)
            && (self.geometry.medium() == Medium::Nor || !self.is_used_behind(desk, segment).await)
    }

    /// Whether `segment` got its header, which has the number `seq`, from another one. Between the head and the oldest stands nothing that is newer than that.
    async fn is_astray<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        log_id: LogId,
        seq: u64,
    ) -> bool {
        if log_id != self.log_id {
            return false;
        }
        for steps in 1..self.geometry.segment_count().min(NEAR) {
            let behind = self.ahead(segment, steps);
            if let Some(opened) = self.opened(desk, behind).await {
                return opened.seq <= seq;
            }
        }
        false
    }

    /// Files: whether the segment behind `segment` was ever made ready. They are in the order of the ring, so then this one was too.
    async fn is_used_behind<O: Operations>(&self, desk: &mut Desk<'_, O>, segment: u32) -> bool {
        let mut stamp = [0; STAMP_LEN];
        let read = desk.media.read(self.ahead(segment, 1), 0, &mut stamp);
        read.await.is_err() || !is_blank(&stamp)
    }

    #[inline(never)]
    async fn lost_in<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        slot: &Slot,
    ) -> Option<LostHead> {
        let position = match self.geometry.medium() {
            Medium::Nor => self.first_frame_in(desk, segment).await?,
            Medium::File => STAMP_LEN as u32,
        };
        let (end, records, is_durable) = self.walk_headless(desk, segment, position).await;
        // The copy of the head that a cut left unfinished holds nothing beyond it.
        if !is_durable || end.expected == self.end {
            return None;
        }
        // A head without records was not relied upon, and what it burned is burned anyway.
        if self.distrusts() && records == 0 && end.why == Why::Blank {
            return None;
        }
        let like = Opened {
            geometry: self.geometry,
            erase_count: slot.erase_count(),
            seq: self.head.seq.saturating_add(1),
            log_id: self.log_id,
            base: self.end,
            base_time: Micros::UNKNOWN,
            data_start: position,
            skipped: self.ledger.skipped,
            is_stamped: false,
        };
        let beyond = if end.why == Why::Bad && self.geometry.medium() == Medium::Nor {
            self.torn_at(desk, segment, &like, end.position)
                .await
                .offsets
        } else {
            self.commit_offsets_max(&like)
        };
        Some(LostHead {
            segment,
            from: self.end,
            to: end.expected + beyond,
            lost: records,
        })
    }

    /// Flash: where the frame stands that continues the head, behind an open header of any length.
    #[inline(never)]
    async fn first_frame_in<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
    ) -> Option<u32> {
        let longest = u32::try_from(desk.scratch.len()).unwrap_or(u32::MAX);
        let beyond = (STAMP_LEN as u32 + longest).min(self.geometry.segment_bytes());
        let mut position = self.geometry.data_start(OPEN_HEADER_FIXED_LEN as u32);
        let mut held = Held::default();
        while position < beyond {
            let walk = self.walk_from(position);
            match walk.here(desk.window(held)) {
                Here::Frame => return Some(position),
                Here::Nothing => position += self.geometry.write_unit(),
                Here::Read { position } => {
                    held = desk
                        .load(segment, position, self.geometry.segment_bytes())
                        .await;
                }
            }
        }
        None
    }

    /// Where the frames from `position` on end, how many records they account for, and whether all of them were surely durable.
    ///
    /// On files the header and the first commit are made durable together, so alone, what is left of them may be torn. A later commit proves them,
    /// and one that does not begin where the head ends is a later one.
    async fn walk_headless<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        position: u32,
    ) -> (End, u64, bool) {
        let mut walk = self.walk_from(position);
        let mut held = Held::default();
        let mut records = 0_u64;
        let (mut begun, mut is_durable) = (self.geometry.medium() == Medium::Nor, false);
        loop {
            match walk.step(desk.window(held)) {
                Step::Read { position, .. } => {
                    held = desk
                        .load(segment, position, self.geometry.segment_bytes())
                        .await;
                }
                Step::Frame(found) => {
                    let (medium, role) = (self.geometry.medium(), self.geometry.role());
                    if found.frame.begins_commit(medium, role) {
                        is_durable |= begun || found.frame.header.first > self.end;
                        begun = true;
                    }
                    let offsets = found.frame.end().since(found.expected);
                    let gap = found.frame.gap().map_or(0, |gap| gap.span());
                    records = records.saturating_add(offsets.saturating_sub(gap));
                }
                Step::End(end) => return (end, records, is_durable),
            }
        }
    }

    const fn walk_from(&self, position: u32) -> Walk {
        Walk::new(self.log_id, self.geometry, position, self.end, None)
    }
}

/// Files that were never written to read as zeros, and those that are missing as ones.
fn is_blank(bytes: &[u8]) -> bool {
    let blank = bytes.first().copied().unwrap_or_default();
    (blank == 0 || blank == 0xFF) && bytes.iter().all(|&byte| byte == blank)
}

/// Nearly always the segment behind one that is ready is in use. One more than are looked at, so that an open has a bound.
const NEAR: u32 = 4;
