//! Reading a log frame by frame, from any offset or point in time, beside a writer that goes on.
//!
//! A reader shares with the writer only [`View`]: the oldest offset and the durable one. It keeps its place in one segment, and looks after each
//! read whether that is still the same segment: being overtaken is told apart from damage. It writes nothing and has no part in the log's state.

use super::desk::Held;
use super::{Desk, Operations, look, survey, twin};
use crate::frame::{Form, Frame, entry_time, time_behind};
use crate::gap::{Cause, Gap};
use crate::ids::{LogId, Micros, Offset};
use crate::log::{Opened, Slot, View};
use crate::read::Read;
use crate::segment::{Geometry, OPEN_FIELDS_LEN, OpenClaim, STAMP_LEN};
use crate::walk::{Step, Walk};

/// A reader's place in a log.
#[derive(Clone, Debug)]
pub struct Reader {
    log_id: LogId,
    geometry: Geometry,
    next: Offset,
    place: Option<Place>,
    /// The segment that was read to its end, and its sequence.
    left: Option<(u32, u64)>,
    held: Held,
    /// The durable end when that was read: what stands behind may have been written since.
    held_to: Offset,
    /// The writer stands still: what the view holds is surely there.
    alone: bool,
}

#[derive(Clone, Debug)]
struct Place {
    segment: u32,
    seq: u64,
    base: Offset,
    /// The first offset of the segment behind; none if this is the last one.
    limit: Option<Offset>,
    /// Where its frames begin, and the time that the first of them counts from.
    start: u32,
    base_time: Micros,
    walk: Walk,
    /// The time of the record before the walk's position (compact frames count from it).
    time: Micros,
}

impl Place {
    /// At the beginning of a segment.
    fn new(segment: u32, opened: &Opened, limit: Option<Offset>) -> Self {
        Self {
            segment,
            seq: opened.seq,
            base: opened.base,
            limit,
            start: opened.data_start,
            base_time: opened.base_time,
            walk: Walk::new(
                opened.log_id,
                opened.geometry,
                opened.data_start,
                opened.base,
                limit,
            ),
            time: opened.base_time,
        }
    }

    fn holds(&self, offset: Offset) -> bool {
        self.base <= offset && self.limit.is_none_or(|limit| offset < limit)
    }

    fn begin_again(&mut self) {
        self.walk = self.walk.begun_at(self.start, self.base);
        self.time = self.base_time;
    }
}

#[twin]
impl Reader {
    /// A reader that begins at the offset `from`.
    #[must_use]
    pub fn new(log_id: LogId, geometry: Geometry, from: Offset) -> Self {
        Self {
            log_id,
            geometry,
            next: from,
            place: None,
            left: None,
            held: Held::default(),
            held_to: Offset::ZERO,
            alone: false,
        }
    }

    /// The offset that is read next.
    #[must_use]
    pub const fn next(&self) -> Offset {
        self.next
    }

    /// The time behind the frame that was read last: what the next one in its segment counts from.
    pub(crate) fn time(&self) -> Micros {
        self.place
            .as_ref()
            .map_or(Micros::UNKNOWN, |place| place.time)
    }

    /// Goes to another offset. One in the segment that is read is found without a search.
    pub fn seek(&mut self, to: Offset) {
        self.next = to;
        self.left = None;
        self.place = self.place.take().filter(|place| place.holds(to));
        if let Some(place) = &mut self.place {
            place.begin_again();
        }
    }

    /// Reads on. The `scratch`, of [`Geometry::scratch_bytes`], is the reader's own between the calls: it keeps what was read ahead.
    pub async fn read<'s, O: Operations>(
        &mut self,
        media: &mut O,
        scratch: &'s mut [u8],
        view: View,
    ) -> Read<'s> {
        self.alone = false;
        self.read_on(media, scratch, view).await
    }

    /// Reads on while the writer stands still, with a scratch that was used for something else since the last call.
    pub(crate) async fn read_alone<'s, O: Operations>(
        &mut self,
        media: &mut O,
        scratch: &'s mut [u8],
        view: View,
    ) -> Read<'s> {
        self.alone = true;
        self.held = Held::default();
        self.read_on(media, scratch, view).await
    }

    async fn read_on<'s, O: Operations>(
        &mut self,
        media: &mut O,
        scratch: &'s mut [u8],
        view: View,
    ) -> Read<'s> {
        let mut desk = Desk {
            media,
            scratch: &mut *scratch,
        };
        let (position, len, first) = match self.advance(&mut desk, view).await {
            Advanced::Frame {
                position,
                len,
                first,
            } => (position, len, first),
            Advanced::Skipped(to) => return Read::Gap(self.skip(to)),
            Advanced::Evicted(from) => {
                return Read::Evicted {
                    from,
                    to: self.next,
                };
            }
            Advanced::Overtaken => return Read::Overtaken,
            Advanced::CaughtUp => return Read::CaughtUp,
        };
        let bytes = self.held.window(scratch).slice(position, len);
        let (Ok((frame, _)), Some(place)) = (
            Frame::parse(bytes, &self.log_id, Some(first)),
            &mut self.place,
        ) else {
            // The frame passed its check a moment ago.
            return Read::Overtaken;
        };
        let base_time = place.time;
        place.time = time_behind(base_time, &frame);
        let from = core::mem::replace(&mut self.next, frame.end());
        if let Some(gap) = frame.gap().filter(|gap| gap.from < from) {
            // A torn frame that reads well by now was shown in front of the offsets that are burned for it.
            return Read::Gap(Gap { from, ..gap });
        }
        Read::Frame {
            frame,
            bytes,
            base_time,
        }
    }

    /// Finds what comes next, and takes the reader's place right before or behind it.
    #[inline(never)]
    async fn advance<O: Operations>(&mut self, desk: &mut Desk<'_, O>, view: View) -> Advanced {
        if self.next < view.oldest {
            let from = self.next;
            self.seek(view.oldest);
            return Advanced::Evicted(from);
        }
        if self.next >= self.held_to {
            self.held = Held::default();
        }
        // Each round but the last leaves a segment behind.
        for _ in 0..=self.geometry.segment_count() {
            if self.next >= view.durable {
                return Advanced::CaughtUp;
            }
            let Some(mut place) = self.place_in_log(desk, view).await else {
                let to = self.first_base_behind(desk).await;
                return Advanced::Skipped(to.map_or(view.durable, |to| to.min(view.durable)));
            };
            let limit = place
                .limit
                .map_or(view.durable, |limit| limit.min(view.durable));
            place.walk.set_limit(Some(limit));
            match self.walk_on(desk, &mut place, view.durable).await {
                Walked::Overtaken => return Advanced::Overtaken,
                Walked::Left(expected) if expected < limit => return Advanced::Skipped(limit),
                Walked::Left(expected) => {
                    self.next = self.next.max(expected);
                    // A place at the durable end is kept.
                    if limit == view.durable {
                        self.place = Some(place);
                    } else {
                        self.left = Some((place.segment, place.seq));
                    }
                }
                Walked::Missing(to) => {
                    self.place = Some(place);
                    return Advanced::Skipped(to);
                }
                Walked::Frame {
                    position,
                    len,
                    first,
                } => {
                    self.place = Some(place);
                    return Advanced::Frame {
                        position,
                        len,
                        first,
                    };
                }
            }
        }
        Advanced::Overtaken
    }

    /// The first offset whose record was taken in at `time` or later; the durable end if there is none.
    pub async fn offset_for_time<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        view: View,
        time: Micros,
    ) -> Offset {
        let Some((segment, opened, limit)) =
            self.locate(desk, |opened| opened.base_time < time).await
        else {
            return view.oldest;
        };
        let limit = limit.map_or(view.durable, |limit| limit.min(view.durable));
        let mut walk = Walk::new(
            opened.log_id,
            opened.geometry,
            opened.data_start,
            opened.base,
            Some(limit),
        );
        let mut held = Held::default();
        let mut before = opened.base_time;
        loop {
            match walk.step(desk.window(held)) {
                Step::Read { position, .. } => {
                    held = desk
                        .load(segment, position, opened.geometry.segment_bytes())
                        .await
                }
                Step::Frame(found) if found.frame.header.form == Form::Explicit => {
                    if found.frame.span() > 0 && found.frame.header.time >= time {
                        return found.frame.header.first.max(view.oldest);
                    }
                }
                Step::Frame(found) => {
                    for (offset, entry) in found.frame.entries() {
                        before = entry_time(before, &entry);
                        if before >= time {
                            return offset.max(view.oldest);
                        }
                    }
                }
                Step::End(_) => return limit.max(view.oldest),
            }
        }
    }

    /// Where to read: where the last call stopped, in the segment behind it, or wherever the headers say.
    #[inline(never)]
    async fn place_in_log<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        view: View,
    ) -> Option<Place> {
        if let Some(place) = self.place.take()
            && let Some(place) = self.bounded(desk, place, view).await
        {
            return Some(place);
        }
        let next = self.next;
        let (segment, opened, limit) = match self.follow(desk, view).await {
            Some(followed) => followed,
            None => match self.search(desk, view).await {
                Some(found) => found,
                None => self.locate(desk, |opened| opened.base <= next).await?,
            },
        };
        self.held = Held::default();
        Some(Place::new(segment, &opened, limit))
    }

    /// The last segment may have got a successor meanwhile, and then ends where that one begins.
    async fn bounded<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        mut place: Place,
        view: View,
    ) -> Option<Place> {
        if place.limit.is_none() && view.head > place.base {
            let behind = self.opened(desk, self.behind(place.segment)).await?;
            if behind.seq != place.seq.saturating_add(1) {
                return None;
            }
            place.limit = Some(behind.base);
        }
        Some(place)
    }

    /// The segment that holds `next`, found by halving the ring; `None` if the ring is not in such an order that this is certain.
    async fn search<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        view: View,
    ) -> Option<(u32, Opened, Option<Offset>)> {
        let count = self.geometry.segment_count();
        if count < SEARCHED_COUNT_MIN {
            return None;
        }
        let mut start = 0;
        // The first one may be a spare.
        let first = loop {
            match self.opened(desk, start).await {
                Some(opened) => break opened,
                None if start < 1 => start += 1,
                None => return None,
            }
        };
        let is_in_first_part = first.base <= self.next;
        let (mut found, mut beyond) = (start, count);
        let mut best = is_in_first_part.then_some(first);
        while beyond.saturating_sub(found) > 1 {
            let middle = found + (beyond - found) / 2;
            let opened = self.opened(desk, middle).await;
            let opened = opened.filter(|opened| is_in_first_part == (opened.seq > first.seq));
            // What is of the other part lies behind what was written in this lap, and before what is left of the one before.
            match opened {
                Some(opened) if opened.base <= self.next => (found, best) = (middle, Some(opened)),
                Some(_) => beyond = middle,
                None if is_in_first_part => beyond = middle,
                None => found = middle,
            }
        }
        let best = best?;
        let behind = self.opened(desk, self.behind(found)).await;
        match behind.filter(|behind| behind.seq == best.seq.saturating_add(1)) {
            Some(behind) if behind.base <= self.next => None,
            Some(behind) => Some((found, best, Some(behind.base))),
            None if view.head > best.base => None,
            None => self
                .is_head(desk, found, &best)
                .await
                .then_some((found, best, None)),
        }
    }

    /// Whether nothing newer begins behind blocks that were passed over: a head whose first write failed leaves a segment with the same base.
    async fn is_head<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        opened: &Opened,
    ) -> bool {
        let mut segment = segment;
        for _ in 0..=PASSED_OVER_MAX {
            segment = self.behind(segment);
            let behind = self.opened(desk, segment).await;
            if behind.is_some_and(|behind| behind.seq > opened.seq) {
                return false;
            }
        }
        true
    }

    /// The segment behind the one that was left, if it is the next one in the ring, and the base of the one behind it.
    #[inline(never)]
    async fn follow<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        view: View,
    ) -> Option<(u32, Opened, Option<Offset>)> {
        let (left, seq) = self.left.take()?;
        let segment = self.behind(left);
        let here = self.opened(desk, segment).await?;
        if here.seq != seq.saturating_add(1) || here.base > self.next {
            return None;
        }
        let behind = self.opened(desk, self.behind(segment)).await;
        if behind.is_some_and(|behind| behind.seq == here.seq) {
            return None;
        }
        match behind.filter(|behind| behind.seq == here.seq.saturating_add(1)) {
            // A head that was copied to a fresh segment has the same base, and only the copy is continued.
            Some(behind) if behind.base <= self.next => None,
            Some(behind) => Some((segment, here, Some(behind.base))),
            None => (view.head <= here.base).then_some((segment, here, None)),
        }
    }

    const fn behind(&self, segment: u32) -> u32 {
        let next = segment.saturating_add(1);
        if next < self.geometry.segment_count() {
            next
        } else {
            0
        }
    }

    /// The last segment that `fits`, and the base of the one behind it.
    #[inline(never)]
    async fn locate<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        fits: impl Fn(&Opened) -> bool,
    ) -> Option<(u32, Opened, Option<Offset>)> {
        let mut best: Option<(u32, Opened)> = None;
        let mut behind: Option<Opened> = None;
        for segment in 0..self.geometry.segment_count() {
            let Some(opened) = self.opened(desk, segment).await else {
                continue;
            };
            if fits(&opened) {
                let here = (segment, opened);
                best = match best {
                    Some(best) if best.1.seq > opened.seq => Some(best),
                    Some(best) if best.1.seq == opened.seq => {
                        Some(survey::longer(desk, best, here).await)
                    }
                    _ => Some(here),
                };
            } else if behind.is_none_or(|behind| opened.seq < behind.seq) {
                behind = Some(opened);
            }
        }
        best.map(|(segment, best)| {
            (
                segment,
                best,
                behind
                    .filter(|behind| behind.seq > best.seq)
                    .map(|behind| behind.base),
            )
        })
    }

    #[inline(never)]
    async fn first_base_behind<O: Operations>(&self, desk: &mut Desk<'_, O>) -> Option<Offset> {
        let mut first: Option<Offset> = None;
        for segment in 0..self.geometry.segment_count() {
            if let Some(opened) = self.opened(desk, segment).await
                && opened.base > self.next
            {
                first = Some(first.map_or(opened.base, |first| first.min(opened.base)));
            }
        }
        first
    }

    async fn opened<O: Operations>(&self, desk: &mut Desk<'_, O>, segment: u32) -> Option<Opened> {
        match look(desk, segment, &self.geometry).await {
            Ok(Slot::Open(opened)) if opened.log_id == self.log_id => Some(opened),
            _ => None,
        }
    }

    /// Walks to the next frame that ends behind `next` and takes offsets.
    #[inline(never)]
    async fn walk_on<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        place: &mut Place,
        durable: Offset,
    ) -> Walked {
        loop {
            match place.walk.step(desk.window(self.held)) {
                Step::Read { position, .. } => {
                    self.held = desk
                        .load(place.segment, position, self.geometry.segment_bytes())
                        .await;
                    self.held_to = durable;
                    if !self.alone && !is_still_there(desk, place).await {
                        return Walked::Overtaken;
                    }
                }
                Step::End(end) => return Walked::Left(end.expected),
                Step::Frame(found) => {
                    let first = found.frame.header.first;
                    if first > self.next {
                        // Shown as a gap first; the next call begins right before the frame.
                        place.walk = place.walk.restarted(found.position, first);
                        return Walked::Missing(first);
                    }
                    if found.frame.span() > 0 && found.frame.end() > self.next {
                        return Walked::Frame {
                            position: found.position,
                            len: found.bytes.len(),
                            first,
                        };
                    }
                    place.time = time_behind(place.time, &found.frame);
                }
            }
        }
    }

    /// Offsets up to `to` have no valid bytes.
    fn skip(&mut self, to: Offset) -> Gap {
        let from = self.next;
        self.next = to.max(from);
        let lost = self.next.since(from);
        Gap {
            from,
            to: self.next,
            lost,
            cause: Cause::Corrupt,
            when: Micros::UNKNOWN,
            when_last: Micros::UNKNOWN,
        }
    }
}

/// Below this a look at every segment costs no more than a search.
const SEARCHED_COUNT_MIN: u32 = 32;

/// How many blocks in a row that cannot be erased are expected.
const PASSED_OVER_MAX: u32 = 7;

/// What comes next for a reader.
enum Advanced {
    Frame {
        position: u32,
        len: usize,
        first: Offset,
    },
    /// No valid bytes up to here.
    Skipped(Offset),
    /// The reader stood here, before the oldest offset.
    Evicted(Offset),
    Overtaken,
    CaughtUp,
}

/// What a walk through one segment came to.
enum Walked {
    Frame {
        position: u32,
        len: usize,
        first: Offset,
    },
    /// No frame before the one that begins here.
    Missing(Offset),
    /// No more frames; this offset was expected.
    Left(Offset),
    Overtaken,
}

/// Whether the segment was recycled since the reader took its place.
#[twin]
async fn is_still_there<O: Operations>(desk: &mut Desk<'_, O>, place: &Place) -> bool {
    let mut fields = [0; OPEN_FIELDS_LEN];
    // What cannot be read now could be read before: damage, not a new lap.
    if desk
        .media
        .read(place.segment, STAMP_LEN as u32, &mut fields)
        .await
        .is_err()
    {
        return true;
    }
    OpenClaim::parse(&fields).is_some_and(|claim| claim.seq == place.seq)
}
