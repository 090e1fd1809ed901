//! Opening a log: finds the head, walks it to its end, judges the tail, and makes durable what it found (docs/spec/log.md, section 7).
//!
//! Every loop is bounded by the geometry, and no image of bytes makes it fail: what is unreadable is passed over, what is not ours is refused.

use super::desk::Held;
use super::slot;
use super::survey::Survey;
use super::{Burn, Desk, Head, Operations, RingLog, Spare, State, twin};
use crate::frame::{Control, Form, time_behind};
use crate::gap::Cause;
use crate::ids::{Micros, Offset};
use crate::ledger::Ledger;
use crate::log::{CommitError, Fresh, OpenError, Opened, Options, Recovered, Slot};
use crate::planted::Fault;
use crate::segment::{Medium, OpenHeader, STAMP_LEN};
use crate::walk::{End, Found, Step, Walk, Why};

#[twin]
impl RingLog {
    /// Opens the log that stands on the medium, or creates one.
    ///
    /// # Errors
    /// Only if a segment is refused, the geometry does not fit the medium, the medium fails while writing, or the scratch is too small; never because of damaged bytes.
    pub async fn open<O: Operations>(
        desk: &mut Desk<'_, O>,
        options: Options,
        fresh: Fresh,
    ) -> Result<(Self, Recovered), OpenError<O::Error>> {
        let mut log = Self::unopened(&options, &fresh);
        let recovered = log.recover(desk, &options, &fresh).await?;
        Ok((log, recovered))
    }

    /// A log that knows of no segment yet.
    fn unopened(options: &Options, fresh: &Fresh) -> Self {
        let head = Head {
            segment: 0,
            seq: 0,
            base: Offset::ZERO,
            data_start: 0,
            position: 0,
            is_full: true,
            is_lost_behind: false,
        };
        Self {
            geometry: options.geometry,
            when_full: options.when_full,
            boot: fresh.boot,
            log_id: fresh.log_id,
            ledger: Ledger::starting_at(Offset::ZERO),
            head,
            end: Offset::ZERO,
            burn: None,
            spare: None,
            torn_at: None,
            blank_at: None,
            tail: options.tail,
            half_opened: None,
            passed_over: 0,
            unsaved: false,
            last_time: fresh.now,
            state: State::Open,
        }
    }

    /// Makes of it what stands on the medium.
    #[inline(never)]
    async fn recover<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        options: &Options,
        fresh: &Fresh,
    ) -> Result<Recovered, OpenError<O::Error>> {
        let needed = self.geometry.scratch_bytes();
        if desk.scratch.len() < needed {
            return Err(OpenError::Scratch { needed });
        }
        if let Some(misfit) = desk.media.misfit(&self.geometry) {
            return Err(OpenError::Misfit(misfit));
        }
        let mut survey = Survey::of(desk, &self.geometry)
            .await
            .map_err(OpenError::Refused)?;
        if self.distrusts() {
            self.distrust_header(desk, &mut survey).await;
        }
        let mut recovered = survey.report;
        let Some((segment, head)) = survey.newest else {
            // On flash a first segment whose making was cut short may read as an error until it is erased. Where nothing can be read, it is the medium.
            let is_mute = recovered.unreadable_segments >= self.geometry.segment_count();
            if recovered.unreadable_segments > 0
                && (is_mute || self.geometry.medium() == Medium::File)
            {
                return Err(OpenError::Unreadable);
            }
            recovered.formatted = true;
            recovered.clean = true;
            let erased_before = survey.erase_count_of_first;
            self.format(desk, fresh.now, erased_before)
                .await
                .map_err(OpenError::Media)?;
            // Whoever finds it knows that the header before was not torn.
            if self.distrusts()
                && let Err(CommitError::Media(error)) =
                    self.append_control(desk, Control::Mark, fresh.now).await
            {
                return Err(OpenError::Media(error));
            }
            return Ok(recovered);
        };
        recovered.copied = self
            .resume(desk, options, segment, &head, fresh.now)
            .await?;
        recovered.lost_head = self.account_for_lost_head(desk, fresh.now).await?;
        self.go_on_behind_the_gone();
        recovered.recounted = self.count_recycled(desk, fresh.now).await;
        self.spare = self.find_spare(desk).await.filter(|spare| {
            let lost = recovered.lost_head.as_ref().map(|lost| lost.segment);
            Some(spare.segment) != lost
        });
        recovered.clean = self.burn.is_none();
        recovered.burned = self.next().since(self.end);
        Ok(recovered)
    }

    /// Creates a log in the first segment.
    #[inline(never)]
    async fn format<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        now: Micros,
        erased_before: u32,
    ) -> Result<(), O::Error> {
        let erase_count = slot::prepare(desk, 0, self.geometry, erased_before).await?;
        let spare = Spare {
            segment: 0,
            erase_count,
        };
        self.open_segment(desk, spare, &[], now).await?;
        desk.media.sync().await
    }

    /// Flash whose torn cells may read well now and badly later.
    pub(super) fn distrusts(&self) -> bool {
        self.tail == super::Tail::Fresh && self.geometry.medium() == Medium::Nor
    }

    /// Goes on where the head ends. Says whether that took a fresh segment.
    #[inline(never)]
    async fn resume<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        options: &Options,
        segment: u32,
        head: &Opened,
        now: Micros,
    ) -> Result<bool, OpenError<O::Error>> {
        let (mut tail, end) = walk_head(desk, segment, head).await;
        self.log_id = head.log_id;
        self.ledger = core::mem::take(&mut tail.ledger);
        self.head = Head {
            segment,
            seq: head.seq,
            base: head.base,
            data_start: head.data_start,
            position: tail.position,
            // Frames of other sizes do not go with its stamp; without one nobody knows.
            is_full: !head.is_stamped || !slot::same_sizes(&head.geometry, &self.geometry),
            is_lost_behind: false,
        };
        self.end = tail.next;
        self.last_time = tail.time;
        self.state = match tail.last {
            Last::End => State::Ended,
            Last::Close => State::Closed,
            Last::Other => State::Open,
        };
        if self.geometry.medium() == Medium::Nor {
            self.judge_flash_tail(desk, head, end.why).await;
            return Ok(false);
        }
        self.judge_file_tail(head, &tail);
        let suspect = options.suspect;
        self.secure_file_tail(desk, suspect, head, &tail, now).await
    }

    /// Files: what a torn commit left is overwritten, but its offsets may have been seen by nobody: an origin burns them.
    fn judge_file_tail(&mut self, head: &Opened, tail: &Tail) {
        let burns = !self.is_mirror() || Fault::MirrorBurns.is_planted();
        // Behind END nothing was written.
        self.head.is_lost_behind = tail.unread_to > tail.position && tail.last != Last::End;
        if burns && self.head.is_lost_behind {
            return self.burn_unread(head, tail);
        }
        if !burns || tail.last != Last::Other || Fault::BurnNothing.is_planted() {
            return;
        }
        self.burn_at_most(self.commit_offsets_max(head), Cause::Burned);
    }

    /// Files: the end of the head cannot be read, so there may have been durable commits, and nobody knows how many. Each offset of a data frame took a byte or
    /// more, and each RESUME frame at least its header. Nothing is written there any more: a disk writes part of a page only where it can read the rest.
    fn burn_unread(&mut self, head: &Opened, tail: &Tail) {
        let bytes = u64::from(tail.unread_to.saturating_sub(tail.position));
        let resumes = bytes / Form::Explicit.header_len() as u64 + 2;
        let most = self.commit_offsets_max(head);
        self.state = State::Open;
        self.burn_at_most(
            bytes.saturating_add(most.saturating_mul(resumes)),
            Cause::Corrupt,
        );
    }

    /// What is below the ledger's oldest offset is held no more, so nobody would be shown what is written there: where the end was lost, an origin goes on behind it,
    /// and a mirror, whose source says what comes next, or a log that has ended, holds everything from its end on.
    fn go_on_behind_the_gone(&mut self) {
        let gone = self.ledger.oldest.since(self.next());
        if gone == 0 {
            return;
        }
        if self.is_mirror() || self.state == State::Ended {
            self.ledger.oldest = self.end;
        } else {
            self.burn = Some(Burn {
                to: self.ledger.oldest,
                cause: Cause::Corrupt,
                lost: self.burn.as_ref().map_or(0, |burn| burn.lost),
            });
        }
    }

    pub(super) fn commit_offsets_max(&self, head: &Opened) -> u64 {
        if Fault::BurnOneOffset.is_planted() {
            return 1;
        }
        u64::from(
            head.geometry
                .commit_offsets_max()
                .max(self.geometry.commit_offsets_max()),
        )
    }

    pub(super) fn burn_at_most(&mut self, offsets: u64, cause: Cause) {
        self.burn = Some(Burn {
            to: self.end + offsets,
            cause,
            lost: 0,
        });
    }

    /// Files: makes durable, once more, what was found behind the last durable commit. Says whether that took a fresh segment.
    #[inline(never)]
    async fn secure_file_tail<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        suspect: Option<u32>,
        head: &Opened,
        tail: &Tail,
        now: Micros,
    ) -> Result<bool, OpenError<O::Error>> {
        let segment = self.head.segment;
        let is_suspect = suspect == Some(segment);
        let trusts = is_suspect && Fault::TrustAfterFailedSync.is_planted();
        if trusts || Fault::TrustPageCache.is_planted() {
            return Ok(false);
        }
        // A segment that was opened by its last commit is written again from its stamp on.
        let from = if tail.commit_position == head.data_start {
            0
        } else {
            tail.commit_position
        };
        if !is_suspect && write_again(desk, segment, from, tail.position).await {
            return Ok(false);
        }
        match self.copy_head(desk, head, tail, now).await {
            // Nothing else is free. The medium was asked to forget what it could not keep, so these are the bytes that it has, and whoever loses power
            // meanwhile finds them old or new, which is the same.
            Err(OpenError::NoSpare)
                if is_suspect && write_again(desk, segment, 0, tail.position).await =>
            {
                Ok(false)
            }
            outcome => outcome.map(|()| true),
        }
    }

    /// Copies the whole head into a fresh segment, whose base then bounds the old one to nothing.
    async fn copy_head<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        head: &Opened,
        tail: &Tail,
        now: Micros,
    ) -> Result<(), OpenError<O::Error>> {
        let old = self.head.segment;
        let fresh = self.ahead(old, 1);
        let erase_count = match slot::look(desk, fresh, &self.geometry)
            .await
            .map_err(OpenError::Refused)?
        {
            Slot::Spare { erase_count } => erase_count,
            Slot::Unready { erase_count, .. } => {
                slot::prepare(desk, fresh, self.geometry, erase_count)
                    .await
                    .map_err(OpenError::Media)?
            }
            Slot::Open(leftover) if self.is_leftover(desk, fresh, &leftover).await => {
                slot::prepare(desk, fresh, self.geometry, leftover.erase_count)
                    .await
                    .map_err(OpenError::Media)?
            }
            Slot::Open(_) => return Err(OpenError::NoSpare),
        };
        copy(
            desk,
            (old, head.data_start),
            fresh,
            head.data_start,
            tail.position,
        )
        .await
        .map_err(OpenError::Media)?;
        let told = self.tell_corrupt(desk, fresh, tail.position, now).await;
        let told = told.map_err(OpenError::Media)?;
        desk.media.sync().await.map_err(OpenError::Media)?;
        // With its header it becomes the head, so all that it holds is there before: what ends here must not be taken for the end of the log.
        let seq = head.seq.saturating_add(1);
        let header_len = head.data_start.saturating_sub(STAMP_LEN as u32) as usize;
        desk.fill(old, STAMP_LEN as u32, header_len).await;
        let Some(header) = desk
            .scratch
            .get_mut(..header_len)
            .filter(|header| OpenHeader::parse(header).is_some())
        else {
            return Err(OpenError::NoSpare);
        };
        // Ledger and checkpoint stay what they are.
        OpenHeader::renumber(header, erase_count, seq);
        desk.media
            .program(fresh, STAMP_LEN as u32, header)
            .await
            .map_err(OpenError::Media)?;
        desk.media.sync().await.map_err(OpenError::Media)?;
        (self.head.segment, self.head.seq) = (fresh, seq);
        self.head.is_lost_behind = false;
        if told > 0 {
            self.head.position = tail.position.saturating_add(told);
            self.have_burned();
        }
        Ok(())
    }

    /// Whether `opened` was about to be recycled when its stamp tore: the ledger no longer holds any of it.
    async fn is_leftover<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        opened: &Opened,
    ) -> bool {
        let successor = self.successor(desk, segment, Some(opened)).await;
        !opened.is_stamped
            && successor.is_some_and(|successor| successor.base <= self.ledger.oldest)
    }

    /// The segment behind the head, if it is stamped and nothing is to be accounted for before it is used.
    #[inline(never)]
    pub(super) async fn find_spare<O: Operations>(&self, desk: &mut Desk<'_, O>) -> Option<Spare> {
        let segment = self.ahead(self.head.segment, 1);
        let Some(Slot::Spare { erase_count }) = self.slot(desk, segment).await else {
            return None;
        };
        let spare = Spare {
            segment,
            erase_count,
        };
        // On the first lap the oldest segment is where the ring begins, and all between is blank.
        let first = self.opened(desk, 0).await;
        if first.is_some_and(|first| first.base == self.ledger.oldest) {
            return Some(spare);
        }
        let successor = self.successor(desk, segment, None).await?;
        (successor.base <= self.ledger.oldest).then_some(spare)
    }
}

/// What is known about the end of the head.
#[derive(Clone, Debug)]
struct Tail {
    position: u32,
    next: Offset,
    ledger: Ledger,
    /// Where the last commit begins.
    commit_position: u32,
    time: Micros,
    last: Last,
    /// Where the last place of the segment ends that cannot be read; 0 if there is none.
    unread_to: u32,
}

/// The last frame of the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Close,
    End,
    Other,
}

impl Tail {
    fn advance(&mut self, found: &Found<'_>, begins_commit: bool) {
        let frame = &found.frame;
        if begins_commit {
            self.commit_position = found.position;
        }
        self.position = found.end_position;
        self.next = frame.end();
        self.time = time_behind(self.time, frame);
        if let Some(gap) = frame.gap() {
            self.ledger.skipped = self.ledger.skipped.saturating_add(gap.span());
        }
        self.last = match frame.control() {
            Some(Control::Close) => Last::Close,
            Some(Control::End) => Last::End,
            _ => Last::Other,
        };
        if let Some(Control::Ledger(bytes)) = frame.control()
            && let Some(ledger) = Ledger::parse(bytes)
        {
            self.ledger = ledger;
        }
    }
}

/// The offset behind the last frame that is proven, if `segment` is the head.
#[twin]
pub(super) async fn end_of<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    head: &Opened,
) -> Offset {
    walk_head(desk, segment, head).await.0.next
}

/// Walks the head. A bad place is rot if a later commit begins behind it; else it is torn, and all behind it is dropped.
#[twin]
#[inline(never)]
async fn walk_head<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    head: &Opened,
) -> (Tail, End) {
    let mut tail = Tail {
        position: head.data_start,
        next: head.base,
        ledger: read_ledger(desk, segment, head).await,
        commit_position: head.data_start,
        time: head.base_time,
        last: Last::Other,
        unread_to: 0,
    };
    // Behind a bad place, and not proven yet.
    let mut doubtful: Option<Tail> = None;
    let mut walk = Walk::new(head.log_id, head.geometry, head.data_start, head.base, None);
    let mut held = Held::default();
    let mut unread_to = 0;
    loop {
        match walk.step(desk.window(held)) {
            Step::Read { position, .. } => {
                held = desk
                    .load(segment, position, head.geometry.segment_bytes())
                    .await;
                unread_to = unread_to.max(held.unread_to);
            }
            Step::Frame(found) => {
                let (medium, role) = (head.geometry.medium(), head.geometry.role());
                let begins_commit = found.frame.begins_commit(medium, role);
                let torn = !begins_commit || Fault::RotIsTheEnd.is_planted();
                if found.bad.is_some() && torn && doubtful.is_none() {
                    doubtful = Some(tail.clone());
                }
                let proves = begins_commit && !Fault::RotIsTheEnd.is_planted();
                if proves && let Some(proven) = doubtful.take() {
                    tail = proven;
                }
                doubtful
                    .as_mut()
                    .unwrap_or(&mut tail)
                    .advance(&found, begins_commit);
            }
            Step::End(end) => {
                let why = if doubtful.is_some() {
                    Why::Bad
                } else {
                    end.why
                };
                tail.unread_to = unread_to;
                return (tail, End { why, ..end });
            }
        }
    }
}

#[twin]
#[inline(never)]
async fn read_ledger<O: Operations>(desk: &mut Desk<'_, O>, segment: u32, head: &Opened) -> Ledger {
    let header_len = u64::from(head.data_start.saturating_sub(STAMP_LEN as u32));
    let ledger = slot::read_open_header(desk, segment, header_len).await;
    ledger
        .and_then(|(header, _)| Ledger::parse(header.ledger))
        .unwrap_or_else(|| Ledger::starting_at(head.base))
}

/// Writes what stands in `segment` once more, in its place, and says whether that is durable.
#[twin]
async fn write_again<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    from: u32,
    to: u32,
) -> bool {
    let copied = copy(desk, (segment, from), segment, from, to).await;
    copied.is_ok() && desk.media.sync().await.is_ok()
}

/// Copies what stands from `source` on up to `end` of its segment to `position` of `target`.
#[twin]
async fn copy<O: Operations>(
    desk: &mut Desk<'_, O>,
    source: (u32, u32),
    target: u32,
    position: u32,
    end: u32,
) -> Result<(), O::Error> {
    let (segment, mut from) = source;
    let mut to = position;
    while from < end {
        let len = (end.saturating_sub(from) as usize).min(desk.scratch.len());
        let Some(bytes) = desk.scratch.get_mut(..len) else {
            break;
        };
        desk.media.read(segment, from, bytes).await?;
        desk.media.program(target, to, bytes).await?;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        (from, to) = (from.saturating_add(len), to.saturating_add(len));
    }
    Ok(())
}
