//! Flash: where the head goes on behind a tail that is torn, or not trusted, and what may have been given there (docs/spec/log.md, section 7).

use core::ops::Range;

use super::survey::Survey;
use super::{Desk, Operations, RingLog, State, Tail, twin};
use crate::frame::{COMPACT_GAP_LEN_MAX, COMPACT_HEADER_LEN, Frame, compact_claim};
use crate::gap::Cause;
use crate::ids::Offset;
use crate::log::Opened;
use crate::planted::Fault;
use crate::segment::Geometry;
use crate::walk::Why;

#[twin]
impl RingLog {
    /// Flash: bytes that may have been touched are never programmed again. Writing goes on at the next untouched grid point.
    #[inline(never)]
    pub(super) async fn judge_flash_tail<O: Operations>(
        &mut self,
        desk: &mut Desk<'_, O>,
        head: &Opened,
        why: Why,
    ) {
        let position = self.head.position;
        let torn = match (why, self.tail) {
            (Why::Bad, _) => self.torn_at(desk, self.head.segment, head, position).await,
            (_, Tail::Fresh) if self.state != State::Ended => Torn {
                end: position,
                offsets: self.commit_offsets_max(head),
                cause: Cause::Burned,
            },
            _ => return,
        };
        if Fault::AppendAfterTornTail.is_planted() {
            return self.burn_at_most(torn.offsets, torn.cause);
        }
        self.head.position = untouched_grid(desk, self.head.segment, &head.geometry, torn.end)
            .await
            .unwrap_or(head.geometry.segment_bytes());
        let doubtful = match self.tail {
            Tail::Behind => 0,
            Tail::Fresh => {
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
    pub(super) async fn distrust_header<O: Operations>(
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
        survey.newest = None;
        for other in (0..self.geometry.segment_count()).filter(|&other| other != segment) {
            if let Some(opened) = self.opened(desk, other).await {
                survey.take(other, opened);
            }
        }
        if survey.newest.is_some() {
            self.half_opened = Some(segment);
        } else if head.base == Offset::ZERO {
            survey.erase_count_of_first = head.erase_count;
        } else {
            survey.newest = Some((segment, head));
        }
    }

    /// Flash: how much of `segment` was touched from `position` on, where its valid frames end, and how many offsets that may have taken.
    ///
    /// One torn program, or frames that are rotten: nobody knows how many then, but each offset of a data frame took a byte or more, and each RESUME frame
    /// a grid point.
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
        let most = self.commit_offsets_max(head);
        let used = used_behind(desk, segment, head, position..torn_to).await;
        let resumes = most.saturating_add(RESUME_BYTES_MAX.into());
        let behind_resumes = resumes.saturating_mul(used.traces.into());
        let bytes = u64::from(used.end.saturating_sub(position));
        if used.end > torn_to {
            // Behind each of these RESUME frames, too, a short frame may be rotten.
            let points = u64::from((used.end - position) / head.geometry.grid_stride()) + 2;
            return Torn {
                end: used.end,
                offsets: bytes + most.saturating_mul(points) + behind_resumes,
                cause: Cause::Corrupt,
            };
        }
        let is_rotten = self.is_rotten(desk, segment, position..used.end).await;
        let offsets = match Fault::BurnByCommitOnly.is_planted() {
            true => most,
            false => bytes.max(most) + behind_resumes,
        };
        Torn {
            end: torn_to,
            offsets,
            cause: if is_rotten {
                Cause::Corrupt
            } else {
                Cause::Burned
            },
        }
    }

    /// Flash: whether `bytes` are surely more than what one torn program left: more than the frame has that begins there (cells that were not programmed are
    /// ones, so a torn frame never claims less than it has), or a frame stands among them that goes on where that one ends.
    async fn is_rotten<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        bytes: Range<u32>,
    ) -> bool {
        let unit = self.geometry.write_unit().max(1);
        let used = bytes.end.saturating_sub(bytes.start);
        let held = desk.fill(segment, bytes.start, used as usize).await;
        let Some((count, claimed)) = compact_claim(held) else {
            return false;
        };
        if claimed != 0 && self.padded(COMPACT_HEADER_LEN.saturating_add(claimed.into())) < used {
            return true;
        }
        let next = self.end + u64::from(count);
        let mut behind = held.iter().enumerate().step_by(unit as usize).skip(1);
        behind.any(|(at, _)| {
            let rest = held.get(at..).unwrap_or_default();
            Frame::parse(rest, &self.log_id, Some(next)).is_ok()
        })
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

/// Flash: what is not blank behind a torn place.
struct Used {
    /// One past the last byte that is not, and not of a torn RESUME frame.
    end: u32,
    /// Grid points at which such a frame, or what looks like one, stands behind that.
    traces: u32,
}

/// Flash: what is not blank from the beginning of `torn` on. A torn program and torn RESUME frames leave nothing else behind the end of it.
#[twin]
async fn used_behind<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    head: &Opened,
    torn: Range<u32>,
) -> Used {
    let geometry = &head.geometry;
    let mut used = Used {
        end: torn.start,
        traces: 0,
    };
    let mut trace = None;
    let mut at = torn.start;
    while at < geometry.segment_bytes() {
        let len = geometry.segment_bytes().saturating_sub(at) as usize;
        let bytes = desk.fill(segment, at, len).await;
        if bytes.is_empty() {
            break;
        }
        for (position, _) in (at..).zip(bytes).filter(|&(_, &byte)| byte != 0xFF) {
            let point = position / geometry.grid_stride();
            if position < torn.end || position % geometry.grid_stride() >= RESUME_BYTES_MAX {
                used.end = position.saturating_add(1);
                used.traces = 0;
            } else if trace.replace(point) != Some(point) {
                used.traces = used.traces.saturating_add(1);
            }
        }
        at = at.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
    used
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

/// What a RESUME frame takes at most, padded to the largest write unit.
const RESUME_BYTES_MAX: u32 = (COMPACT_GAP_LEN_MAX as u32).next_multiple_of(32);
