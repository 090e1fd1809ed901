//! Appending: one commit at a time, into the head or, when it is full, into the spare.
//!
//! Whatever is written to the head goes through `begin` before and `written` or `torn` behind: a write that does not
//! end well, or whose future is dropped, leaves a torn range that is never trusted and on flash never programmed again.

use super::{Burn, Desk, Head, Operations, RingLog, Spare, State, twin};
use crate::frame::{self, Control, Form, Frame, GAP_PAYLOAD_MAX, Header, Kind, claimed_span};
use crate::gap::{Cause, Gap};
use crate::ids::Micros;
use crate::ledger::{ENCODED_LEN_MAX, Ledger};
use crate::log::{CommitError, Committed};
use crate::octets;
use crate::planted::Fault;
use crate::segment::{Medium, OPEN_HEADER_FIXED_LEN, OpenHeader, Role, STAMP_LEN};

/// What a commit will take.
struct Measure {
    span: u64,
    skipped: u64,
    /// Bytes with all padding.
    room: u32,
}

#[twin]
impl RingLog {
    /// Appends whole frames, encoded from [`RingLog::next`] on, and returns when they survive a power cut.
    ///
    /// `span` is the number of offsets they take. `checkpoint` is the owner's state before them; it is written if the commit opens a segment.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        frames: &[u8],
        span: u64,
        checkpoint: &[u8],
        now: Micros,
    ) -> Result<Committed, CommitError<O::Error>> {
        self.begin(desk).await?;
        let measure = self.measure(frames)?;
        if measure.span != span {
            return Err(CommitError::Malformed);
        }
        let closed = self.state == State::Closed;
        self.make_room(
            desk,
            measure.room.saturating_add(self.mark_room()),
            checkpoint,
            now,
        )
        .await?;
        self.settle_burn(desk, now).await?;
        if closed {
            self.reopen(desk, now).await?;
        }
        let first = self.end;
        if self.is_mirror() {
            self.append_control(desk, Control::Mark, now).await?;
        }
        let (segment, position) = self.head();
        match self.geometry.medium() {
            Medium::Nor => self.append_each(desk, frames).await?,
            Medium::File => self.append_all(desk, frames, &measure).await?,
        }
        self.sync(desk).await?;
        Ok(Committed {
            first,
            next: self.end,
            segment,
            position,
        })
    }

    /// Writes the ledger, if it is not durable as it is.
    ///
    /// # Errors
    /// See [`CommitError`]; [`CommitError::NeedsMaintain`] if the head has no room for it.
    pub async fn save_ledger<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        self.begin(desk).await?;
        if !self.unsaved {
            return Ok(());
        }
        // What the next maintain needs is left for it.
        if !self.has_room(self.ledger_room().saturating_mul(2)) {
            return Err(CommitError::NeedsMaintain);
        }
        let ledger = self.ledger.clone();
        self.write_ledger(desk, ledger, now).await
    }

    /// Says that this life ends cleanly. Without room for it, or with offsets still to be burned, the next life simply does not know.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn close<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        self.begin(desk).await?;
        let room = self
            .ledger_room()
            .saturating_mul(2)
            .saturating_add(self.control_room(0));
        let said = self.state == State::Closed && !self.unsaved;
        if said || self.burn.is_some() || !self.has_room(room) {
            return Ok(());
        }
        self.save_ledger(desk, now).await?;
        if self.geometry.medium() == Medium::File {
            self.write_control(desk, Control::Close, now).await?;
            self.state = State::Closed;
        }
        Ok(())
    }

    /// Ends the log for good: nothing can be committed any more, in this life or another.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn end<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        checkpoint: &[u8],
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        self.begin(desk).await?;
        // Behind it a mirror still writes what expires. In an origin nothing follows, so it may stand where frames of other sizes may
        // not, and use up what is kept for others.
        let fits = if self.is_mirror() {
            self.has_room(self.reserve())
        } else {
            self.fits(self.control_room(0).saturating_add(self.resume_room()))
        };
        if !fits {
            self.make_room(desk, 0, checkpoint, now).await?;
        }
        self.settle_burn(desk, now).await?;
        self.write_control(desk, Control::End, now).await?;
        self.state = State::Ended;
        Ok(())
    }

    /// Writes `ledger` and END behind the END of a log that has ended; when this returns, both are durable. A power cut between them
    /// leaves a log that can be ended again.
    pub(super) async fn write_ledger_behind_end<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        ledger: &Ledger,
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        let mut bytes = [0; ENCODED_LEN_MAX];
        let len = ledger.emit(&mut bytes).ok_or(CommitError::TooLarge)?;
        let bytes = bytes.get(..len).unwrap_or_default();
        self.write_control(desk, Control::Ledger(bytes), now)
            .await?;
        self.write_control(desk, Control::End, now).await?;
        self.ledger = ledger.clone();
        self.unsaved = false;
        self.state = State::Ended;
        Ok(())
    }

    /// How often [`RingLog::write_ledger_behind_end`] surely has room.
    pub(super) fn ledgers_behind_end(&self) -> u32 {
        let left = self
            .geometry
            .segment_bytes()
            .saturating_sub(self.head.position);
        left.checked_div(self.ledger_room().saturating_add(self.control_room(0)))
            .unwrap_or(0)
    }

    /// Writes `ledger` to the head; when this returns, it is durable.
    #[inline(never)]
    pub(super) async fn write_ledger<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        mut ledger: Ledger,
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        if !self.has_room_for_ledger() {
            return Err(CommitError::NeedsMaintain);
        }
        if let Some(burn) = self.burn {
            ledger.skipped = ledger.skipped.saturating_add(burn.to.since(self.end));
        }
        self.settle_burn(desk, now).await?;
        let mut bytes = [0; ENCODED_LEN_MAX];
        let len = ledger.emit(&mut bytes).ok_or(CommitError::TooLarge)?;
        self.write_control(
            desk,
            Control::Ledger(bytes.get(..len).unwrap_or_default()),
            now,
        )
        .await?;
        self.ledger = ledger;
        self.unsaved = false;
        Ok(())
    }

    /// Opens `spare` as the new head. On files it is durable with the commit that follows.
    pub(super) async fn open_segment<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        spare: Spare,
        checkpoint: &[u8],
        now: Micros,
    ) -> Result<(), O::Error> {
        let mut ledger = [0; ENCODED_LEN_MAX];
        let ledger_len = self.ledger.emit(&mut ledger).unwrap_or(0);
        let base_time = if self.form() == Form::Compact && self.last_time.is_known() {
            self.last_time
        } else {
            now
        };
        let seq = self.head.seq.saturating_add(1);
        let header = OpenHeader {
            erase_count: spare.erase_count,
            seq,
            log_id: self.log_id,
            base: self.end,
            base_time,
            boot: self.boot,
            ledger: ledger.get(..ledger_len).unwrap_or_default(),
            checkpoint,
        };
        // A checkpoint that does not fit was refused before.
        let mut len = header.emit(desk.scratch).unwrap_or(0);
        let position = STAMP_LEN as u32;
        let data_start = position.saturating_add(self.padded(len));
        let told = self
            .tell_corrupt(desk, spare.segment, data_start, now)
            .await?;
        if self.corrupt_burn().is_some() {
            // The scratch held that in between.
            len = header.emit(desk.scratch).unwrap_or(0);
        }
        self.program_scratch(desk, spare.segment, position, len)
            .await?;
        self.head = Head {
            segment: spare.segment,
            seq,
            base: self.end,
            data_start,
            position: data_start.saturating_add(told),
            is_full: false,
            is_lost_behind: false,
        };
        if told > 0 {
            self.have_burned();
        }
        self.blank_at = None;
        self.last_time = base_time;
        self.unsaved = false;
        Ok(())
    }

    #[inline(never)]
    fn measure<E>(&self, frames: &[u8]) -> Result<Measure, CommitError<E>> {
        let flags_matter = self.geometry.role() == Role::Origin && self.form() == Form::Explicit;
        let mut measure = Measure {
            span: 0,
            skipped: 0,
            room: 0,
        };
        let mut rest = frames;
        while !rest.is_empty() || frames.is_empty() {
            let expected = self.next() + measure.span;
            let header = Header::parse(rest, Some(expected)).map_err(|_| CommitError::Malformed)?;
            let bytes = rest
                .get(..header.frame_len())
                .ok_or(CommitError::Malformed)?;
            if header.form != self.form()
                || (flags_matter && header.first_of_commit != (rest.len() == frames.len()))
            {
                return Err(CommitError::Malformed);
            }
            if header.first != expected {
                return Err(CommitError::Misplaced {
                    expected: self.next(),
                });
            }
            if bytes.len() > self.geometry.frame_bytes_max() as usize {
                return Err(CommitError::TooLarge);
            }
            let skipped = match header.kind {
                Kind::Gap => {
                    let payload = bytes.get(header.form.header_len()..).unwrap_or_default();
                    claimed_span(payload, header.form).ok_or(CommitError::Malformed)?
                }
                Kind::Data | Kind::Control => 0,
            };
            measure.skipped = measure.skipped.saturating_add(skipped);
            measure.span = measure
                .span
                .saturating_add(u64::from(header.count))
                .saturating_add(skipped);
            measure.room = measure.room.saturating_add(self.padded(bytes.len()));
            rest = rest.get(bytes.len()..).unwrap_or_default();
        }
        let most = u64::from(self.geometry.commit_offsets_max());
        if self.geometry.role() == Role::Origin && measure.span > most {
            return Err(CommitError::TooManyOffsets);
        }
        // A torn commit here must still leave offsets to burn.
        self.next()
            .checked_add(measure.span.saturating_add(most))
            .ok_or(CommitError::Exhausted)?;
        Ok(measure)
    }

    /// Rolls into the spare if the head has no room for `room` bytes and what may have to follow.
    #[inline(never)]
    async fn make_room<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        room: u32,
        checkpoint: &[u8],
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        let needed = room.saturating_add(self.reserve());
        if self.has_room(needed) {
            return Ok(());
        }
        let header_len = OPEN_HEADER_FIXED_LEN + ENCODED_LEN_MAX + checkpoint.len();
        let data_start = self
            .geometry
            .data_start(u32::try_from(header_len).unwrap_or(u32::MAX));
        let fits = checkpoint.len() <= self.geometry.checkpoint_bytes_max()
            && data_start
                .checked_add(needed)
                .is_some_and(|end| end <= self.geometry.segment_bytes());
        if !fits {
            return Err(CommitError::TooLarge);
        }
        // Taken before it is touched: whatever happens, it is a spare no longer.
        let spare = self.spare.take().ok_or(CommitError::NeedsMaintain)?;
        if self.half_opened.replace(spare.segment).is_some() {
            // It could not be erased, and keeps its number; nothing may come between it and what is opened now.
            self.head.seq = self.head.seq.saturating_add(1);
            self.head.position = self.geometry.segment_bytes();
        }
        match self.open_segment(desk, spare, checkpoint, now).await {
            Ok(()) => {
                self.half_opened = None;
                Ok(())
            }
            Err(error) => {
                self.fail_on_file();
                Err(CommitError::Media(error))
            }
        }
    }

    /// Writes the RESUME frame, with a sync of its own, if offsets are to be burned.
    pub(super) async fn settle_burn<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        let Some(burn) = self.burn else {
            return Ok(());
        };
        let len = self
            .emit_burn(desk, &burn, now)
            .ok_or(CommitError::TooLarge)?;
        self.append_scratch(desk, len).await?;
        self.sync(desk).await?;
        self.have_burned();
        Ok(())
    }

    /// Writes the RESUME frame to the front of the scratch.
    fn emit_burn<O>(&self, desk: &mut Desk<'_, O>, burn: &Burn, now: Micros) -> Option<usize> {
        let gap = Gap {
            from: self.end,
            to: burn.to,
            lost: burn.lost,
            cause: burn.cause,
            when: now,
            when_last: now,
        };
        let label = self.label(self.end, now);
        frame::emit_gap(desk.scratch, &self.log_id, label, &gap)
    }

    /// The RESUME frame is durable.
    pub(super) fn have_burned(&mut self) {
        if let Some(burn) = self.burn.take() {
            let span = burn.to.since(self.end);
            self.ledger.skipped = self.ledger.skipped.saturating_add(span);
            self.end = burn.to;
        }
    }

    fn corrupt_burn(&self) -> Option<Burn> {
        let is_file = self.geometry.medium() == Medium::File;
        self.burn
            .filter(|burn| is_file && burn.cause == Cause::Corrupt)
    }

    /// Files: what cannot be read any more, where `segment` is to go on with its first frames at `position`: durable before the header stands, for with that nobody
    /// looks at the segment before again. How many bytes it took; 0 if there is nothing to tell.
    pub(super) async fn tell_corrupt<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        position: u32,
        now: Micros,
    ) -> Result<u32, O::Error> {
        let Some(burn) = self.corrupt_burn() else {
            return Ok(0);
        };
        let room = self.geometry.segment_bytes().saturating_sub(position);
        let len = self.emit_burn(desk, &burn, now);
        let Some(len) = len.filter(|len| *len <= room as usize) else {
            return Ok(0);
        };
        let end = self.program_scratch(desk, segment, position, len).await?;
        desk.media.sync().await?;
        Ok(end.saturating_sub(position))
    }

    /// Files, an origin: takes CLOSE back, with a sync of its own. Were CLOSE still the last frame after a torn commit, the next life
    /// would give the offsets of that commit again, and what is left of it could be taken for the new one.
    async fn reopen<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        if self.is_mirror() {
            return Ok(());
        }
        self.write_control(desk, Control::Mark, now).await
    }

    /// Files: all frames in one write.
    async fn append_all<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        frames: &[u8],
        measure: &Measure,
    ) -> Result<(), CommitError<O::Error>> {
        self.state = State::Writing;
        match desk
            .media
            .program(self.head.segment, self.head.position, frames)
            .await
        {
            Ok(()) => {
                self.written(self.padded(frames.len()), measure.span);
                self.ledger.skipped = self.ledger.skipped.saturating_add(measure.skipped);
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Flash: each frame is a write of its own, and durable when it returns.
    #[inline(never)]
    async fn append_each<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        frames: &[u8],
    ) -> Result<(), CommitError<O::Error>> {
        let mut rest = frames;
        while !rest.is_empty() {
            let (frame, len) = Frame::parse(rest, &self.log_id, Some(self.end))
                .map_err(|_| CommitError::Malformed)?;
            let bytes = rest.get(..len).unwrap_or_default();
            octets::copy(bytes, desk.scratch).ok_or(CommitError::TooLarge)?;
            self.append_scratch(desk, len).await?;
            self.count_in(&frame);
            rest = rest.get(len..).unwrap_or_default();
        }
        Ok(())
    }

    /// Writes a control frame as a commit of its own; when this returns, it is durable.
    async fn write_control<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        control: Control<'_>,
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        if self.is_mirror() {
            self.append_control(desk, Control::Mark, now).await?;
        }
        self.append_control(desk, control, now).await?;
        self.sync(desk).await
    }

    pub(super) async fn append_control<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        control: Control<'_>,
        now: Micros,
    ) -> Result<(), CommitError<O::Error>> {
        let label = self.label(self.end, now);
        let len = frame::emit_control(desk.scratch, &self.log_id, label, control)
            .ok_or(CommitError::TooLarge)?;
        self.append_scratch(desk, len).await
    }

    /// Writes the frame of `len` bytes that stands in the scratch.
    async fn append_scratch<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        len: usize,
    ) -> Result<(), CommitError<O::Error>> {
        self.state = State::Writing;
        match self
            .program_scratch(desk, self.head.segment, self.head.position, len)
            .await
        {
            Ok(end) => {
                self.written(end.saturating_sub(self.head.position), 0);
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Programs the first `len` bytes of the scratch, padded to the write unit; says where they end.
    async fn program_scratch<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        position: u32,
        len: usize,
    ) -> Result<u32, O::Error> {
        let padded = self.padded(len);
        let bytes = desk.scratch.get_mut(..padded as usize).unwrap_or_default();
        bytes.get_mut(len..).unwrap_or_default().fill(0xFF);
        desk.media.program(segment, position, bytes).await?;
        Ok(position.saturating_add(padded))
    }

    async fn sync<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
    ) -> Result<(), CommitError<O::Error>> {
        if self.geometry.medium() == Medium::Nor || Fault::AckBeforeSync.is_planted() {
            return Ok(());
        }
        self.state = State::Writing;
        match desk.media.sync().await {
            Ok(()) => {
                self.state = State::Open;
                Ok(())
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn written(&mut self, bytes: u32, span: u64) {
        self.head.position = self.head.position.saturating_add(bytes);
        self.end = self.end + span;
        self.state = State::Open;
    }

    fn failed<E>(&mut self, error: E) -> CommitError<E> {
        self.torn();
        CommitError::Media(error)
    }

    /// Whether a commit of `bytes`, with all padding, opens a segment: the head has no room for them, or takes no frames of this geometry.
    #[must_use]
    pub fn would_roll(&self, bytes: u32) -> bool {
        let room = bytes.saturating_add(self.mark_room());
        !self.has_room(room.saturating_add(self.reserve()))
    }

    /// Whether the RESUME frame that settles a burn fits into the head.
    pub(super) fn has_room_for_resume(&self) -> bool {
        self.has_room(self.control_room(RESUME_PAYLOAD_MAX))
    }

    fn has_room(&self, room: u32) -> bool {
        !self.head.is_full && self.fits(room)
    }

    fn fits(&self, room: u32) -> bool {
        let end = self.head.position.checked_add(room);
        let is_open = self.half_opened.is_none() && !self.head.is_lost_behind;
        is_open && end.is_some_and(|end| end <= self.geometry.segment_bytes())
    }

    /// Whether a ledger fits into the head, behind the RESUME frame that may have to precede it.
    pub(super) fn has_room_for_ledger(&self) -> bool {
        self.has_room(self.ledger_behind_resume_room())
    }

    /// Whether it surely did in the life before: a last frame that reads well now and read badly then put the head a frame and a grid point further on.
    pub(super) fn had_room_for_ledger(&self) -> bool {
        let further = if self.distrusts() {
            self.geometry
                .frame_bytes_max()
                .saturating_add(self.geometry.grid_stride().get())
        } else {
            0
        };
        self.has_room(self.ledger_behind_resume_room().saturating_add(further))
    }

    fn ledger_behind_resume_room(&self) -> u32 {
        self.ledger_room().saturating_add(self.resume_room())
    }

    /// For the RESUME frame that has to come before anything else.
    fn resume_room(&self) -> u32 {
        if self.burn.is_some() {
            self.control_room(RESUME_PAYLOAD_MAX)
        } else {
            0
        }
    }

    /// What every commit leaves free in the head: a RESUME frame before it, and behind it a ledger and CLOSE for this life's end, a ledger for the next
    /// maintain, END.
    fn reserve(&self) -> u32 {
        self.control_room(RESUME_PAYLOAD_MAX)
            .saturating_add(self.ledger_room().saturating_mul(2))
            .saturating_add(self.control_room(0).saturating_mul(2))
    }

    pub(super) fn ledger_room(&self) -> u32 {
        self.control_room(ENCODED_LEN_MAX)
    }

    /// A control frame with this much behind its type, with the MARK that precedes it in a mirror.
    fn control_room(&self, len: usize) -> u32 {
        self.padded(self.form().header_len() + 1 + len)
            .saturating_add(self.mark_room())
    }

    fn mark_room(&self) -> u32 {
        if self.is_mirror() {
            self.padded(self.form().header_len() + 1)
        } else {
            0
        }
    }

    pub(super) fn padded(&self, len: usize) -> u32 {
        self.geometry
            .round_up(u32::try_from(len).unwrap_or(u32::MAX))
    }
}

/// A lost head's records are counted in a RESUME frame; they are fewer than a segment's bytes.
const RESUME_PAYLOAD_MAX: usize = GAP_PAYLOAD_MAX - 5;
