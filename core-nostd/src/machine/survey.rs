//! What the headers of all segments say: which of them is the head.

use super::{Desk, Operations, twin};
use super::{recover, slot};
use crate::log::{Opened, Recovered, Refusal, Slot};
use crate::segment::Geometry;

/// What the headers of all segments say.
pub(super) struct Survey {
    pub(super) newest: Option<(u32, Opened)>,
    pub(super) erase_count_of_first: u32,
    pub(super) report: Recovered,
}

#[twin]
impl Survey {
    #[inline(never)]
    pub(super) async fn of<O: Operations>(
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
                Slot::Open(opened) if let Some(newest) = survey.told_twice(&opened) => {
                    survey.newest = Some(longer(desk, newest, (segment, opened)).await);
                }
                Slot::Open(opened) => survey.take(segment, opened),
                Slot::Unready {
                    readable: false, ..
                } => survey.report.unreadable_segments += 1,
                Slot::Unready { .. } | Slot::Spare { .. } => {}
            }
        }
        Ok(survey)
    }

    /// The newest, if `opened` has its sequence number.
    fn told_twice(&self, opened: &Opened) -> Option<(u32, Opened)> {
        self.newest
            .filter(|(_, newest)| (newest.log_id, newest.seq) == (opened.log_id, opened.seq))
    }

    pub(super) fn take(&mut self, segment: u32, opened: Opened) {
        if self
            .newest
            .is_none_or(|(_, newest)| newest.seq < opened.seq)
        {
            self.newest = Some((segment, opened));
        }
    }
}

/// No two segments are opened with one sequence number: one of the two has got a copy of the other's header, and holds no more frames than were copied with it.
#[twin]
#[inline(never)]
pub(super) async fn longer<O: Operations>(
    desk: &mut Desk<'_, O>,
    first: (u32, Opened),
    second: (u32, Opened),
) -> (u32, Opened) {
    let end = recover::end_of(desk, first.0, &first.1).await;
    if end < recover::end_of(desk, second.0, &second.1).await {
        second
    } else {
        first
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
            Ok(Slot::Open(opened)) if opened.seq == newest.seq => return Err(Unclear),
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

/// Below this a look at every segment costs no more.
const BISECTED_COUNT_MIN: u32 = 32;

/// How many segments of a ring in order may stand before the first that is open, and one more.
const ANCHORS: u32 = 3;

/// How many blocks in a row that cannot be erased are expected.
const PASSED_OVER_MAX: u32 = 7;

/// How many such places are passed in one search.
const RUNS_MAX: u32 = 8;

const _: () = assert!(ANCHORS < BISECTED_COUNT_MIN && PASSED_OVER_MAX + 1 < BISECTED_COUNT_MIN);
