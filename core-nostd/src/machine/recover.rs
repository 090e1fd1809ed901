//! Opening a log: finds the head, walks it to its end, judges the tail, and makes durable what it found (docs/spec/log.md, section 7).
//!
//! Every loop is bounded by the geometry, and no image of bytes makes it fail: what is unreadable is passed over, what is not ours is refused.

use super::desk::Held;
use super::slot;
use super::{Burn, Desk, Head, Operations, RingLog, Spare, State, twin};
use crate::frame::{COMPACT_HEADER_LEN, Control, Frame, GAP_PAYLOAD_MAX, time_behind};
use crate::gap::Cause;
use crate::ids::{Micros, Offset};
use crate::ledger::Ledger;
use crate::log::{Fresh, OpenError, Opened, Options, Recovered, Refusal, Slot};
use crate::segment::{Geometry, Medium, OpenHeader, STAMP_LEN};
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
            if self.geometry.medium() == Medium::File && recovered.unreadable_segments > 0 {
                return Err(OpenError::Unreadable);
            }
            recovered.formatted = true;
            recovered.clean = true;
            let erased_before = survey.erase_count_of_first;
            self.format(desk, fresh.now, erased_before)
                .await
                .map_err(OpenError::Media)?;
            return Ok(recovered);
        };
        recovered.copied = self.resume(desk, options, segment, &head).await?;
        recovered.lost_head = self.account_for_lost_head(desk, fresh.now).await?;
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
        desk.media.sync().await?;
        if self.distrusts() {
            // Whoever finds it knows that the header before was not torn.
            self.mark(desk, now).await?;
        }
        Ok(())
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
        };
        self.end = tail.next;
        self.last_time = tail.time;
        self.state = match tail.last {
            Last::End => State::Ended,
            Last::Close => State::Closed,
            Last::Other => State::Open,
        };
        if self.geometry.medium() == Medium::Nor {
            self.judge_flash_tail(desk, head, &tail, end.why, options.tail)
                .await;
            return Ok(false);
        }
        let suspect = options.suspect;
        let copied = self.secure_file_tail(desk, suspect, head, &tail).await?;
        self.judge_file_tail(head, &tail);
        Ok(copied)
    }

    /// Files: what a torn commit left is overwritten, but its offsets may have been seen by nobody: an origin burns them.
    fn judge_file_tail(&mut self, head: &Opened, tail: &Tail) {
        if self.is_mirror() || tail.last != Last::Other {
            return;
        }
        self.burn_at_most(self.commit_offsets_max(head), Cause::Burned);
    }

    pub(super) fn commit_offsets_max(&self, head: &Opened) -> u64 {
        u64::from(
            head.geometry
                .commit_offsets_max()
                .max(self.geometry.commit_offsets_max()),
        )
    }

    fn burn_at_most(&mut self, offsets: u64, cause: Cause) {
        self.burn = Some(Burn {
            to: self.end + offsets,
            cause,
            lost: 0,
        });
    }

    /// Flash: bytes that may have been touched are never programmed again. Writing goes on at the next untouched grid point.
    #[inline(never)]
    async fn judge_flash_tail<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        head: &Opened,
        tail: &Tail,
        why: Why,
        how: super::Tail,
    ) {
        let torn = match (why, how) {
            (Why::Bad, _) => {
                self.torn_at(desk, self.head.segment, head, tail.position)
                    .await
            }
            (_, super::Tail::Fresh) if self.state != State::Ended => Torn {
                end: tail.position,
                offsets: self.commit_offsets_max(head),
                cause: Cause::Burned,
            },
            _ => return,
        };
        self.head.position = untouched_grid(desk, self.head.segment, &head.geometry, torn.end)
            .await
            .unwrap_or(head.geometry.segment_bytes());
        let doubtful = match how {
            super::Tail::Behind => 0,
            super::Tail::Fresh => {
                let (_, begins) = begin_of_records(desk, self.head.segment, head).await;
                self.doubtful_before(head, begins).since(self.end)
            }
        };
        self.burn_at_most(torn.offsets.max(doubtful), torn.cause);
    }

    /// Flash whose torn cells may read well now and badly later, or the other way: one past the highest offset that may turn up before the place where the
    /// head goes on, whichever of the frames before it read well then. A data frame has no more offsets than bytes, and of RESUME frames each
    /// grid point has one, which adds to these what its own torn place may have taken.
    fn doubtful_before(&self, head: &Opened, begins: Offset) -> Offset {
        let stride = head.geometry.grid_stride();
        let points = 1 + self.head.position / stride - head.data_start / stride;
        let resumes = u64::from(points).saturating_mul(4 * self.commit_offsets_max(head));
        begins + u64::from(self.head.position.saturating_sub(head.data_start)) + resumes
    }

    /// Flash whose torn cells may read well now and badly later: an open header with nothing behind it is not to be relied upon, for if it was torn, what is
    /// written behind it goes with it. The segment before is the head then, and this one is erased before it is used; a first segment is made anew.
    #[inline(never)]
    async fn distrust_header<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        survey: &mut Survey,
    ) {
        let Some((segment, head)) = survey.newest else {
            return;
        };
        let (begins_at, _) = begin_of_records(desk, segment, &head).await;
        let end = self.geometry.segment_bytes();
        if !desk.is_blank(segment, begins_at, end).await {
            return;
        }
        self.log_id = head.log_id;
        let mut before: Option<(u32, Opened)> = None;
        for other in (0..self.geometry.segment_count()).filter(|&other| other != segment) {
            if let Some(opened) = self.opened(desk, other).await
                && before.is_none_or(|(_, before)| before.seq < opened.seq)
            {
                before = Some((other, opened));
            }
        }
        if before.is_some() {
            self.half_opened = Some(segment);
            survey.newest = before;
        } else if head.base == Offset::ZERO {
            survey.erase_count_of_first = head.erase_count;
            survey.newest = None;
        }
    }

    /// Flash: how much of `segment` was touched from `position` on, where its valid frames end, and how many offsets that may have taken.
    #[inline(never)]
    pub(super) async fn torn_at<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        head: &Opened,
        position: u32,
    ) -> Torn {
        let torn_to = position
            .saturating_add(head.geometry.frame_bytes_max())
            .min(head.geometry.segment_bytes());
        let offsets = self.commit_offsets_max(head);
        match used_behind(desk, segment, head, torn_to).await {
            // A torn program and torn RESUME frames leave nothing beyond.
            None => Torn {
                end: torn_to,
                offsets,
                cause: Cause::Burned,
            },
            // More was written here than one torn program: frames that were durable are rotten, and nobody knows how many. Each
            // offset of a data frame took a byte or more, each RESUME a grid point.
            Some(used_to) => {
                let bytes = used_to.saturating_sub(position);
                let resumes = u64::from(bytes / head.geometry.grid_stride()) + 2;
                Torn {
                    end: used_to.max(torn_to),
                    offsets: u64::from(bytes) + offsets.saturating_mul(resumes),
                    cause: Cause::Corrupt,
                }
            }
        }
    }

    /// Files: makes durable, once more, what was found behind the last durable commit. Says whether that took a fresh segment.
    #[inline(never)]
    async fn secure_file_tail<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        suspect: Option<u32>,
        head: &Opened,
        tail: &Tail,
    ) -> Result<bool, OpenError<O::Error>> {
        let segment = self.head.segment;
        if suspect != Some(segment) {
            // A segment that was opened by its last commit is written again from its stamp on.
            let from = if tail.commit_position == head.data_start {
                0
            } else {
                tail.commit_position
            };
            if copy(desk, (segment, from), segment, from, tail.position)
                .await
                .is_ok()
                && desk.media.sync().await.is_ok()
            {
                return Ok(false);
            }
        }
        self.copy_head(desk, head, tail).await?;
        Ok(true)
    }

    /// Copies the whole head into a fresh segment, whose base then bounds the old one to nothing.
    async fn copy_head<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        head: &Opened,
        tail: &Tail,
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
        copy(
            desk,
            (old, head.data_start),
            fresh,
            head.data_start,
            tail.position,
        )
        .await
        .map_err(OpenError::Media)?;
        desk.media.sync().await.map_err(OpenError::Media)?;
        self.head.segment = fresh;
        self.head.seq = seq;
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

/// Flash: a range behind the last valid frame that is not blank.
pub(super) struct Torn {
    /// One past the last byte that may have been touched.
    end: u32,
    /// How many offsets may have been given in it.
    pub(super) offsets: u64,
    cause: Cause,
}

/// What the headers of all segments say.
struct Survey {
    newest: Option<(u32, Opened)>,
    erase_count_of_first: u32,
    report: Recovered,
}

#[twin]
impl Survey {
    #[inline(never)]
    async fn of<O: Operations>(
        desk: &mut Desk<'_, O>,
        geometry: &Geometry,
    ) -> Result<Self, Refusal> {
        let mut survey = Self {
            newest: None,
            erase_count_of_first: 0,
            report: Recovered::default(),
        };
        if geometry.segment_count() >= BISECTED_COUNT_MIN {
            survey.newest = bisect(desk, geometry).await;
            if survey.newest.is_some() {
                return Ok(survey);
            }
        }
        for segment in 0..geometry.segment_count() {
            let slot = slot::look(desk, segment, geometry).await?;
            if segment == 0 {
                survey.erase_count_of_first = slot.erase_count();
            }
            match slot {
                Slot::Open(opened) => survey.take(segment, opened),
                Slot::Unready {
                    readable: false, ..
                } => survey.report.unreadable_segments += 1,
                Slot::Unready { .. } | Slot::Spare { .. } => {}
            }
        }
        Ok(survey)
    }

    fn take(&mut self, segment: u32, opened: Opened) {
        if self
            .newest
            .is_none_or(|(_, newest)| newest.seq < opened.seq)
        {
            self.newest = Some((segment, opened));
        }
    }
}

/// The head of a large ring, found without looking at all of it; `None` if it is not certain.
///
/// From one segment to the next the sequence grows by one, up to the head or to a block that was passed over because it could not be erased. Such a block keeps
/// what an earlier lap wrote and looks like the oldest segment; what is newer begins right behind it, so a few segments behind each end are looked at.
#[twin]
#[inline(never)]
async fn bisect<O: Operations>(
    desk: &mut Desk<'_, O>,
    geometry: &Geometry,
) -> Option<(u32, Opened)> {
    let mut anchor = anchor(desk, geometry).await?;
    for _ in 0..RUNS_MAX {
        let end = end_of_run(desk, geometry, anchor).await;
        match newer_behind(desk, geometry, &end).await {
            Ok(None) => return Some(end),
            Ok(Some(newer)) => anchor = newer,
            Err(Unclear) => return None,
        }
    }
    None
}

/// The first segment that is open: the one before it may be a spare, or torn while it was made one.
#[twin]
async fn anchor<O: Operations>(
    desk: &mut Desk<'_, O>,
    geometry: &Geometry,
) -> Option<(u32, Opened)> {
    for segment in 0..ANCHORS {
        if let Some(opened) = opened(desk, geometry, segment).await {
            return Some((segment, opened));
        }
    }
    None
}

/// The last segment of those that follow `from` without a step in the sequence.
#[twin]
async fn end_of_run<O: Operations>(
    desk: &mut Desk<'_, O>,
    geometry: &Geometry,
    from: (u32, Opened),
) -> (u32, Opened) {
    let (start, first) = from;
    let (mut end, mut beyond) = (from, geometry.segment_count());
    while beyond.saturating_sub(end.0) > 1 {
        let middle = end.0 + (beyond - end.0) / 2;
        let seq = first.seq.saturating_add(u64::from(middle - start));
        match opened(desk, geometry, middle).await {
            Some(opened) if opened.log_id == first.log_id && opened.seq == seq => {
                end = (middle, opened);
            }
            _ => beyond = middle,
        }
    }
    end
}

/// The ring holds something that is not for a search to judge.
struct Unclear;

/// The first segment behind `end` that is newer.
#[twin]
async fn newer_behind<O: Operations>(
    desk: &mut Desk<'_, O>,
    geometry: &Geometry,
    end: &(u32, Opened),
) -> Result<Option<(u32, Opened)>, Unclear> {
    let (segment, newest) = end;
    for steps in 1..=PASSED_OVER_MAX + 1 {
        let beyond = segment.saturating_add(steps);
        let behind = beyond
            .checked_sub(geometry.segment_count())
            .unwrap_or(beyond);
        match slot::look(desk, behind, geometry).await {
            Ok(Slot::Open(opened)) if opened.log_id != newest.log_id => return Err(Unclear),
            Ok(Slot::Open(opened)) if opened.seq > newest.seq => return Ok(Some((behind, opened))),
            Ok(_) => {}
            Err(_) => return Err(Unclear),
        }
    }
    Ok(None)
}

#[twin]
async fn opened<O: Operations>(
    desk: &mut Desk<'_, O>,
    geometry: &Geometry,
    segment: u32,
) -> Option<Opened> {
    match slot::look(desk, segment, geometry).await {
        Ok(Slot::Open(opened)) => Some(opened),
        _ => None,
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
    };
    // Behind a bad place, and not proven yet.
    let mut doubtful: Option<Tail> = None;
    let mut walk = Walk::new(head.log_id, head.geometry, head.data_start, head.base, None);
    let mut held = Held::default();
    loop {
        match walk.step(desk.window(held)) {
            Step::Read { position, .. } => {
                held = desk
                    .load(segment, position, head.geometry.segment_bytes())
                    .await
            }
            Step::Frame(found) => {
                let (medium, role) = (head.geometry.medium(), head.geometry.role());
                let begins_commit = found.frame.begins_commit(medium, role);
                if found.bad.is_some() && !begins_commit && doubtful.is_none() {
                    doubtful = Some(tail.clone());
                }
                if begins_commit && let Some(proven) = doubtful.take() {
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

/// Flash: one past the last byte behind a torn place that is not blank and not of a torn RESUME frame.
#[twin]
async fn used_behind<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    head: &Opened,
    torn_to: u32,
) -> Option<u32> {
    let geometry = &head.geometry;
    let mut used_to = None;
    let mut at = torn_to;
    while at < geometry.segment_bytes() {
        let len = geometry.segment_bytes().saturating_sub(at) as usize;
        let bytes = desk.fill(segment, at, len).await;
        if bytes.is_empty() {
            break;
        }
        let used = (at..)
            .zip(bytes)
            .filter(|&(position, &byte)| {
                byte != 0xFF && position % geometry.grid_stride() >= RESUME_BYTES_MAX
            })
            .last();
        used_to = used
            .map(|(position, _)| position.saturating_add(1))
            .or(used_to);
        at = at.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
    used_to
}

/// Where the frames of `segment` begin that are no RESUME frame, torn or whole, and their offset.
#[twin]
#[inline(never)]
async fn begin_of_records<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    head: &Opened,
) -> (u32, Offset) {
    let len = head.geometry.frame_bytes_max() as usize;
    let bytes = desk.fill(segment, head.data_start, len).await;
    match Frame::parse(bytes, &head.log_id, Some(head.base)) {
        Ok((frame, len)) if frame.gap().is_some() => {
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            let behind = head.data_start.saturating_add(len);
            (head.geometry.round_up(behind), frame.end())
        }
        Ok(_) => (head.data_start, head.base),
        Err(_) => (head.data_start + RESUME_BYTES_MAX, head.base),
    }
}

/// The first grid point at or behind `from` from which on as many bytes are blank as a frame may take.
#[twin]
async fn untouched_grid<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    geometry: &Geometry,
    from: u32,
) -> Option<u32> {
    let mut from = from;
    while let Some(point) = geometry.grid_at_or_after(from) {
        let end = point
            .saturating_add(geometry.frame_bytes_max())
            .min(geometry.segment_bytes());
        if desk.is_blank(segment, point, end).await {
            return Some(point);
        }
        from = point.saturating_add(1);
    }
    None
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

/// Below this a look at every segment costs no more.
const BISECTED_COUNT_MIN: u32 = 32;

/// How many segments of a ring in order may stand before the first that is open, and one more.
const ANCHORS: u32 = 3;

/// How many blocks in a row that cannot be erased are expected.
const PASSED_OVER_MAX: u32 = 7;

/// How many such places are passed in one search.
const RUNS_MAX: u32 = 8;

const _: () = assert!(ANCHORS < BISECTED_COUNT_MIN && PASSED_OVER_MAX + 1 < BISECTED_COUNT_MIN);

/// What a RESUME frame takes at most, padded to the largest write unit.
const RESUME_BYTES_MAX: u32 =
    (COMPACT_HEADER_LEN as u32 + GAP_PAYLOAD_MAX as u32).next_multiple_of(32);
