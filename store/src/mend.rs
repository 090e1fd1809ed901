//! Writes the beginning of a segment anew, where it is damaged and the frames behind it prove what it must have said.
//!
//! ```text
//! before │ stamp · open header     frames … │   its end, ledger and owner's state are those of the segment to mend
//! damaged│ ?????   ???????????     frames … │   first offset, time: in its frames, whose check holds the log's id
//! behind │ stamp · open header     frames … │   nothing but its base
//! ```
//! A header shorter than the one that stood there is no harm: every walk finds the first frame behind it. What cannot be proven is left
//! as it is, for the log machine to account for.

use std::io;
use std::path::Path;

use sedge_core::ledger::{ENCODED_LEN_MAX, Ledger};
use sedge_core::segment::{
    Geometry, Medium, OPEN_FIELDS_LEN, OPEN_HEADER_FIXED_LEN, OpenHeader, Role, STAMP_LEN, Stamp,
};
use sedge_core::{LogId, Micros, Offset};

use crate::disk::File;
use crate::frames;
use crate::media::{file_name, read_or_zeros};
use crate::open::tell;
use crate::owner::Owner;
use crate::survey::{self, HeaderSeen, StampSeen, Surveyed};

/// Mends what can be mended in `dir`, and says which segments that was. What it wrote is durable when this returns. What cannot be read or
/// written stays as it is.
pub(crate) fn beginnings(dir: &Path, role: Role, owner: &mut dyn Owner) -> Vec<u32> {
    let mut mended = Vec::new();
    // Each round makes one more segment whole, which may be what proves the next one.
    loop {
        match mend_one(dir, role, owner) {
            Ok(Some(segment)) if !mended.contains(&segment) => {
                tracing::warn!(dir = %dir.display(), segment, "the beginning of a segment was damaged, and is written anew from what its frames prove");
                mended.push(segment);
            }
            Ok(_) => return mended,
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the beginning of a segment is damaged and cannot be mended");
                return mended;
            }
        }
    }
}

fn mend_one(dir: &Path, role: Role, owner: &mut dyn Owner) -> io::Result<Option<u32>> {
    let surveyed = survey::survey(dir)?;
    let Some(geometry) = survey::geometry_of(&surveyed).filter(|g| g.role() == role) else {
        return Ok(None);
    };
    let newest = survey::newest(&surveyed).and_then(|s| Some((s.segment, s.header.as_ref()?)));
    let mut oldest_held = None;
    for damaged in surveyed.iter().filter(|s| s.header.is_none()) {
        if is_unused(dir, damaged, is_used_behind(&surveyed, damaged.segment))? {
            continue;
        }
        let Some(frames) = Frames::in_damaged(dir, damaged, newest, geometry)? else {
            continue;
        };
        if let Some((segment, head)) = newest.filter(|_| oldest_held.is_none()) {
            oldest_held = Some(frames::ledger_of(dir, segment, head, geometry)?.oldest);
        }
        // What was recycled is of an earlier lap.
        if oldest_held.is_some_and(|oldest| frames.first < oldest) {
            continue;
        }
        let neighbours = Neighbours::of(&surveyed, &frames);
        if let Some(header) = proven(dir, geometry, &frames, &neighbours, owner)? {
            write(dir, damaged, geometry, &header)?;
            return Ok(Some(damaged.segment));
        }
    }
    Ok(None)
}

/// Whether a segment without a valid header was simply not opened since it was made ready: it has the header of an earlier lap, or it is blank and those behind
/// it were never used either.
pub(crate) fn is_unused(dir: &Path, surveyed: &Surveyed, is_used_behind: bool) -> io::Result<bool> {
    let file = File::open(dir.join(file_name(surveyed.segment)))?;
    let mut fields = [0; OPEN_FIELDS_LEN];
    read_or_zeros(&file, &mut fields, STAMP_LEN as u64)?;
    if survey::header_of(&file, &fields, surveyed.bytes)?.is_some() {
        return Ok(true);
    }
    if is_used_behind {
        return Ok(false);
    }
    let mut behind_stamp = vec![0; LOOKED_AT_BYTES];
    read_or_zeros(&file, &mut behind_stamp, STAMP_LEN as u64)?;
    Ok(behind_stamp.iter().all(|byte| *byte == 0))
}

/// Whether a segment behind `segment` was ever made ready, which happens in the order of the ring. Behind the last one comes the first, from the second lap on.
fn is_used_behind(all: &[Surveyed], segment: u32) -> bool {
    if segment + 1 < survey::used_up_to(all) {
        return true;
    }
    let [first, .., before, last] = all else {
        return false;
    };
    let newest = survey::newest(all).map(|newest| newest.segment);
    let begins = first.header.as_ref().map(|header| header.base);
    last.segment == segment
        && newest == Some(before.segment)
        && first.stamp != StampSeen::Blank
        && begins != Some(Offset::ZERO)
}

fn log_id_in(dir: &Path, damaged: &Surveyed) -> io::Result<LogId> {
    let file = File::open(dir.join(file_name(damaged.segment)))?;
    let mut id = [0; 16];
    // A place that cannot be read leaves an id that no frame has.
    drop(read_or_zeros(&file, &mut id, LOG_ID_AT));
    Ok(LogId::new(id))
}

/// The valid frames behind a damaged beginning.
struct Frames {
    log_id: LogId,
    /// Where the first one stands, and its offset and time.
    position: u32,
    first: Offset,
    time: Micros,
    /// Commits that begin with them, and the first offset of the first one.
    commits: u32,
    first_commit: Option<Offset>,
    /// Offsets of gaps among them.
    skipped: u64,
}

impl Frames {
    /// `None` if there are none.
    fn in_damaged(
        dir: &Path,
        damaged: &Surveyed,
        newest: Option<(u32, &HeaderSeen)>,
        geometry: Geometry,
    ) -> io::Result<Option<Self>> {
        let log_id = match newest {
            Some((_, header)) => header.log_id,
            // There is no other segment. Whatever else is damaged, the right id makes the frames pass.
            None => log_id_in(dir, damaged)?,
        };
        Self::of_log(dir, damaged.segment, log_id, geometry)
    }

    fn of_log(
        dir: &Path,
        segment: u32,
        log_id: LogId,
        geometry: Geometry,
    ) -> io::Result<Option<Self>> {
        let anything = HeaderSeen {
            log_id,
            erase_count: 0,
            seq: 0,
            base: Offset::ZERO,
            base_time: Micros::UNKNOWN,
            ledger: Ledger::default(),
            checkpoint: Vec::new(),
            data_start: STAMP_LEN as u32,
        };
        let mut frames: Option<Self> = None;
        frames::walk(dir, segment, &anything, geometry, None, |found| {
            let header = &found.frame.header;
            let begins = found.frame.begins_commit(Medium::File, geometry.role());
            let frames = frames.get_or_insert(Self {
                log_id,
                position: found.position,
                first: header.first,
                time: header.time,
                commits: 0,
                first_commit: None,
                skipped: 0,
            });
            if begins {
                frames.commits += 1;
                frames.first_commit.get_or_insert(header.first);
            }
            frames.skipped += found.frame.gap().map_or(0, |gap| gap.span());
        })?;
        Ok(frames)
    }
}

/// The whole segments before and behind in the order of the log.
struct Neighbours<'s> {
    before: Option<(u32, &'s HeaderSeen)>,
    behind: Option<&'s HeaderSeen>,
}

impl<'s> Neighbours<'s> {
    fn of(all: &'s [Surveyed], frames: &Frames) -> Self {
        let whole = || {
            let headers = all
                .iter()
                .filter_map(|s| Some((s.segment, s.header.as_ref()?)));
            headers.filter(|(_, h)| h.log_id == frames.log_id)
        };
        let before = whole().filter(|(_, h)| h.base <= frames.first);
        let behind = whole().filter(|(_, h)| h.base > frames.first);
        Self {
            before: before.max_by_key(|(_, h)| h.seq),
            behind: behind.min_by_key(|(_, h)| h.seq).map(|(_, h)| h),
        }
    }
}

/// The header that must have stood before `frames`; `None` if that is not certain, or does not fit there.
fn proven(
    dir: &Path,
    geometry: Geometry,
    frames: &Frames,
    neighbours: &Neighbours<'_>,
    owner: &mut dyn Owner,
) -> io::Result<Option<HeaderSeen>> {
    // A header and the first commit behind it become durable together: what is left of them alone may be torn. A later commit proves them, or a
    // segment behind.
    let durable = |begins: Offset| {
        let is_later = frames.first_commit.is_some_and(|first| first > begins);
        neighbours.behind.is_some() || frames.commits >= 2 || is_later
    };
    let header = match neighbours.before {
        Some((segment, before)) => following(dir, segment, before, geometry, frames, owner)?,
        None => Some(oldest(frames, neighbours.behind)),
    };
    let Some(header) = header.filter(|header| durable(header.base)) else {
        return Ok(None);
    };
    let in_order = neighbours
        .behind
        .is_none_or(|behind| header.seq < behind.seq && header.base < behind.base);
    let fits =
        emitted(&header).is_some_and(|bytes| STAMP_LEN + bytes.len() <= frames.position as usize);
    Ok((in_order && fits).then_some(header))
}

/// The header behind the segment `before`, whose frames end where those of the damaged one begin.
fn following(
    dir: &Path,
    segment: u32,
    before: &HeaderSeen,
    geometry: Geometry,
    frames: &Frames,
    owner: &mut dyn Owner,
) -> io::Result<Option<HeaderSeen>> {
    owner.restore(&before.checkpoint);
    let end = frames::walk(dir, segment, before, geometry, None, |found| {
        tell(&found.frame, owner);
    })?;
    let ledger = frames::ledger_of(dir, segment, before, geometry)?;
    // Frames that the segment before has too are a copy of it.
    if end.expected > frames.first {
        return Ok(None);
    }
    let mut checkpoint = Vec::new();
    owner.checkpoint(&mut checkpoint, geometry.checkpoint_bytes_max());
    Ok(Some(HeaderSeen {
        log_id: frames.log_id,
        erase_count: 0,
        seq: before.seq + 1,
        base: end.expected,
        base_time: frames.time.max(before.base_time),
        ledger,
        checkpoint,
        data_start: 0,
    }))
}

/// The header of the oldest segment. Nobody asks it for more than where it stands and what was skipped before it.
fn oldest(frames: &Frames, behind: Option<&HeaderSeen>) -> HeaderSeen {
    let ledger = match behind {
        Some(behind) => Ledger {
            skipped: behind.ledger.skipped.saturating_sub(frames.skipped),
            ..behind.ledger.clone()
        },
        None => Ledger::starting_at(frames.first),
    };
    HeaderSeen {
        log_id: frames.log_id,
        erase_count: 0,
        seq: behind.map_or(1, |behind| behind.seq.saturating_sub(1)),
        base: frames.first,
        base_time: frames.time,
        ledger,
        checkpoint: Vec::new(),
        data_start: 0,
    }
}

fn write(
    dir: &Path,
    damaged: &Surveyed,
    geometry: Geometry,
    header: &HeaderSeen,
) -> io::Result<()> {
    let stamp = match damaged.stamp {
        StampSeen::Good(stamp) => stamp,
        StampSeen::Bad(_) | StampSeen::Blank => Stamp {
            geometry,
            erase_count: 0,
        },
    };
    let header = HeaderSeen {
        erase_count: stamp.erase_count,
        ..header.clone()
    };
    let Some(header) = emitted(&header) else {
        return Ok(());
    };
    let mut bytes = stamp.emit().to_vec();
    bytes.extend(header);
    let file = File::open_to_write(dir.join(file_name(damaged.segment)))?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()
}

fn emitted(header: &HeaderSeen) -> Option<Vec<u8>> {
    let mut ledger = [0; ENCODED_LEN_MAX];
    let ledger_len = header.ledger.emit(&mut ledger)?;
    let mut bytes = vec![0; OPEN_HEADER_FIXED_LEN + ledger_len + header.checkpoint.len()];
    let header = OpenHeader {
        erase_count: header.erase_count,
        seq: header.seq,
        log_id: header.log_id,
        base: header.base,
        base_time: header.base_time,
        boot: 0,
        ledger: &ledger[..ledger_len],
        checkpoint: &header.checkpoint,
    };
    let len = header.emit(&mut bytes)?;
    bytes.truncate(len);
    Some(bytes)
}

/// A segment that was never opened is blank this far and further. More than a sector, so that a lost one does not look so.
const LOOKED_AT_BYTES: usize = 64 << 10;
/// Where an open header has the log's id.
const LOG_ID_AT: u64 = STAMP_LEN as u64 + 16;
