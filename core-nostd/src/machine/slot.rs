//! What stands before the frames of a segment, as the log sees it: not ready, spare, or open. Reads it and writes it; decides nothing.

use super::{Desk, Operations, RingLog, twin};
use crate::ledger::Ledger;
use crate::log::{Opened, Refusal, Slot};
use crate::planted::Fault;
use crate::segment::{
    BadStamp, Geometry, Medium, OPEN_FIELDS_LEN, OpenClaim, OpenHeader, STAMP_LEN, Stamp,
};

/// Looks at what stands before the frames of `segment`.
///
/// # Errors
/// If the segment is not ours to touch.
#[twin]
pub async fn look<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    geometry: &Geometry,
) -> Result<Slot, Refusal> {
    let mut front = [0; FRONT_LEN];
    let readable = desk.media.read(segment, 0, &mut front).await.is_ok();
    if !readable {
        // A unit that was torn may read as an error until it is erased; its neighbours may not.
        let bytes = desk.fill(segment, 0, FRONT_LEN).await;
        front
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
    }
    let (stamp, rest) = front
        .split_first_chunk::<STAMP_LEN>()
        .unwrap_or((&[0; STAMP_LEN], &[]));
    let claim = OpenClaim::parse(rest);
    let stamp = match Stamp::parse(stamp) {
        Ok(stamp) => stamp,
        Err(BadStamp::Newer(version)) => return Err(Refusal::NewerVersion { segment, version }),
        Err(BadStamp::Corrupt) => {
            return Ok(unstamped(desk, segment, *geometry, claim, readable).await);
        }
    };
    if !agrees(&stamp.geometry, geometry, desk.scratch.len()) {
        let found = *stamp.geometry.dimensions();
        return Err(Refusal::OtherGeometry { segment, found });
    }
    if let Some(claim) = claim.filter(|claim| claim.erase_count == stamp.erase_count)
        && let Some(opened) = read_opened(desk, segment, stamp.geometry, claim).await
    {
        return Ok(Slot::Open(opened));
    }
    let erase_count = stamp.erase_count;
    let ready = same_sizes(&stamp.geometry, geometry) && is_unopened(desk, segment, geometry).await;
    Ok(if ready {
        Slot::Spare { erase_count }
    } else {
        Slot::Unready {
            erase_count,
            readable,
        }
    })
}

/// Reads the whole open header of `segment` to the front of the scratch.
#[twin]
pub(crate) async fn read_open_header<'d, O: Operations>(
    desk: &'d mut Desk<'_, O>,
    segment: u32,
    encoded_len: u64,
) -> Option<(OpenHeader<'d>, usize)> {
    let len = usize::try_from(encoded_len)
        .ok()
        .filter(|&len| len <= desk.scratch.len())?;
    OpenHeader::parse(desk.fill(segment, STAMP_LEN as u32, len).await)
}

/// Behind a stamp that rotted, or that a cut tore before it voided the header, a valid header still tells what the frames are. If the segment
/// was about to be recycled, a ledger that no longer holds its offsets was durable before.
#[twin]
async fn unstamped<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    geometry: Geometry,
    claim: Option<OpenClaim>,
    readable: bool,
) -> Slot {
    let Some(claim) = claim else {
        return Slot::Unready {
            erase_count: 0,
            readable,
        };
    };
    match read_opened(desk, segment, geometry, claim).await {
        Some(opened) => Slot::Open(Opened {
            is_stamped: false,
            ..opened
        }),
        // A leftover header must stay void, whatever the next stamp says.
        None => Slot::Unready {
            erase_count: claim.erase_count,
            readable,
        },
    }
}

#[twin]
async fn read_opened<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    geometry: Geometry,
    claim: OpenClaim,
) -> Option<Opened> {
    let (header, len) = read_open_header(desk, segment, claim.encoded_len()).await?;
    let data_start = geometry.data_start(u32::try_from(len).ok()?);
    Some(Opened {
        geometry,
        erase_count: claim.erase_count,
        seq: header.seq,
        log_id: header.log_id,
        base: header.base,
        base_time: header.base_time,
        data_start,
        skipped: Ledger::parse(header.ledger).map_or(0, |ledger| ledger.skipped),
        is_stamped: true,
    })
}

/// On flash a header that was begun can never be written again; on files it is simply overwritten.
#[twin]
async fn is_unopened<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    geometry: &Geometry,
) -> bool {
    if geometry.medium() == Medium::File {
        return true;
    }
    let touched = STAMP_LEN as u32 + u32::try_from(desk.scratch.len()).unwrap_or(u32::MAX);
    desk.is_blank(
        segment,
        STAMP_LEN as u32,
        touched.min(geometry.segment_bytes()),
    )
    .await
}

/// Whether a segment with the geometry `found` can be read as part of a log with the geometry `ours`.
fn agrees(found: &Geometry, ours: &Geometry, scratch_len: usize) -> bool {
    found.medium() == ours.medium()
        && found.role() == ours.role()
        && found.write_unit() == ours.write_unit()
        && found.segment_bytes() == ours.segment_bytes()
        && found.scratch_bytes() <= scratch_len
}

pub(super) fn same_sizes(found: &Geometry, ours: &Geometry) -> bool {
    found.frame_bytes_max() == ours.frame_bytes_max()
        && found.commit_offsets_max() == ours.commit_offsets_max()
}

/// Erases and stamps `segment`; when this returns, the stamp is durable.
#[twin]
pub(crate) async fn prepare<O: Operations>(
    desk: &mut Desk<'_, O>,
    segment: u32,
    geometry: Geometry,
    erased_before: u32,
) -> Result<u32, O::Error> {
    let erase_count = erased_before.saturating_add(1);
    if !Fault::SkipErase.is_planted() {
        desk.media.erase(segment).await?;
    }
    desk.media
        .program(
            segment,
            0,
            &Stamp {
                geometry,
                erase_count,
            }
            .emit(),
        )
        .await?;
    desk.media.sync().await?;
    Ok(erase_count)
}

#[twin]
impl RingLog {
    /// Looks at `segment`; what cannot be read or is not ours counts as nothing.
    pub(super) async fn slot<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
    ) -> Option<Slot> {
        look(desk, segment, &self.geometry).await.ok()
    }

    /// The segment `steps` behind `segment` in the ring.
    pub(super) const fn ahead(&self, segment: u32, steps: u32) -> u32 {
        let count = self.geometry.segment_count();
        // No sum of a segment and a step reaches twice the count.
        let sum = segment as u64 + steps as u64;
        (if sum < count as u64 {
            sum
        } else {
            sum - count as u64
        }) as u32
    }

    /// The segment of this log that holds what comes behind `opened`; behind a segment that is none of this log, the first offsets that are held.
    pub(super) async fn successor<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
        opened: Option<&Opened>,
    ) -> Option<Opened> {
        let fits = |candidate: &Opened| match opened {
            Some(opened) => candidate.seq > opened.seq,
            // In a damaged log all that is held may lie inside of the head.
            None => candidate.base >= self.ledger.oldest || candidate.seq == self.head.seq,
        };
        // Nearly always it is the next one in the ring.
        if let Some(next) = self.opened(desk, self.ahead(segment, 1)).await {
            let is_it = match opened {
                Some(opened) => next.seq == opened.seq.saturating_add(1),
                None => next.base == self.ledger.oldest,
            };
            if is_it {
                return Some(next);
            }
        }
        let mut first: Option<Opened> = None;
        let others = (0..self.geometry.segment_count()).filter(|&other| other != segment);
        for candidate in others {
            if let Some(candidate) = self.opened(desk, candidate).await
                && fits(&candidate)
                && first.is_none_or(|first| candidate.seq < first.seq)
            {
                first = Some(candidate);
            }
        }
        first
    }

    /// What stands before the frames of `segment`, if it is part of this log.
    pub(super) async fn opened<O: Operations>(
        &self,
        desk: &mut Desk<'_, O>,
        segment: u32,
    ) -> Option<Opened> {
        self.slot(desk, segment)
            .await
            .as_ref()
            .and_then(|slot| self.as_own(slot))
    }

    /// What stands before the frames of a segment behind the head, if these are part of this log. One that is called as the head is, or later, has got the
    /// header of another, and holds nothing.
    pub(super) fn as_held(&self, slot: &Slot) -> Option<Opened> {
        let own = self.as_own(slot);
        own.filter(|opened| opened.seq < self.head.seq)
    }

    pub(super) fn as_own(&self, slot: &Slot) -> Option<Opened> {
        match slot {
            Slot::Open(opened) if opened.log_id == self.log_id => Some(*opened),
            _ => None,
        }
    }
}

const FRONT_LEN: usize = STAMP_LEN + OPEN_FIELDS_LEN;
