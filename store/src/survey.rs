//! What the segment files of a directory say of themselves: stamps and open headers, and of the frames only where two headers are the same.
//! Opening, `inspect` and `salvage` begin here.

use std::cmp::Reverse;
use std::io;
use std::path::{Path, PathBuf};

use sedge_core::ledger::Ledger;
use sedge_core::segment::{
    BadStamp, Geometry, OPEN_FIELDS_LEN, OpenClaim, OpenHeader, STAMP_LEN, Stamp,
};
use sedge_core::{LogId, Micros, Offset};

use crate::disk::{self, File};
use crate::durable_file::TEMPORARY;
use crate::frames;
use crate::index::Held;
use crate::media::{self, Unread, file_name, read_or_zeros};

/// A segment file.
#[derive(Clone, Debug)]
pub(crate) struct Surveyed {
    pub(crate) segment: u32,
    pub(crate) bytes: u64,
    pub(crate) stamp: StampSeen,
    /// The open header, if it is valid and belongs to the stamp. Where the stamp is damaged, a valid header speaks for itself.
    pub(crate) header: Option<HeaderSeen>,
    /// Some of it could not be read.
    pub(crate) unread: Option<Unread>,
    /// Where its frames end, if another file says to be the same segment.
    told_twice: Option<Offset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StampSeen {
    Good(Stamp),
    /// Never used.
    Blank,
    Bad(BadStamp),
}

#[derive(Clone, Debug)]
pub(crate) struct HeaderSeen {
    pub(crate) log_id: LogId,
    pub(crate) erase_count: u32,
    pub(crate) seq: u64,
    pub(crate) base: Offset,
    pub(crate) base_time: Micros,
    pub(crate) ledger: Ledger,
    pub(crate) checkpoint: Vec<u8>,
    pub(crate) data_start: u32,
}

impl Surveyed {
    pub(crate) fn geometry(&self) -> Option<Geometry> {
        match self.stamp {
            StampSeen::Good(stamp) => Some(stamp.geometry),
            _ => None,
        }
    }

    /// Segments in this order are a log. Of two with one sequence number, one has got a copy of the other's header, and the log goes on in the longer.
    pub(crate) fn order(&self) -> Option<(u64, Option<Offset>, Reverse<u32>)> {
        let header = self.header.as_ref()?;
        Some((header.seq, self.told_twice, Reverse(self.segment)))
    }

    pub(crate) fn held(&self) -> Option<Held> {
        let header = self.header.as_ref()?;
        let HeaderSeen {
            seq,
            base,
            base_time,
            data_start,
            ref ledger,
            ..
        } = *header;
        Some(Held {
            segment: self.segment,
            seq,
            base,
            base_time,
            skipped: ledger.skipped,
            data_start,
        })
    }
}

/// Looks at every segment file in `dir`.
pub(crate) fn survey(dir: &Path) -> io::Result<Vec<Surveyed>> {
    let segments = media::segments_in(dir)?;
    let surveyed = segments.into_iter().map(|segment| look_at(dir, segment));
    let mut surveyed: Vec<Surveyed> = surveyed.collect::<io::Result<_>>()?;
    for twin in told_twice(&surveyed) {
        surveyed[twin].told_twice = end_of(dir, &surveyed[twin])?;
    }
    Ok(surveyed)
}

/// Those that are not the only one of their log with that sequence number.
fn told_twice(surveyed: &[Surveyed]) -> Vec<usize> {
    let header_of = |at: &usize| {
        let header = surveyed[*at].header.as_ref()?;
        Some((header.log_id.as_bytes(), header.seq))
    };
    let mut opened: Vec<usize> = (0..surveyed.len())
        .filter(|at| header_of(at).is_some())
        .collect();
    opened.sort_by_key(header_of);
    let groups = opened.chunk_by(|one, other| header_of(one) == header_of(other));
    groups
        .filter(|group| group.len() > 1)
        .flatten()
        .copied()
        .collect()
}

fn end_of(dir: &Path, surveyed: &Surveyed) -> io::Result<Option<Offset>> {
    let (Some(header), Some(geometry)) = (&surveyed.header, surveyed.geometry()) else {
        return Ok(None);
    };
    let end = frames::walk(dir, surveyed.segment, header, geometry, None, |_| {})?;
    Ok(Some(end.expected))
}

/// Looks at one. A place that cannot be read looks damaged.
pub(crate) fn look_at(dir: &Path, segment: u32) -> io::Result<Surveyed> {
    let file = File::open(dir.join(file_name(segment)))?;
    file.need_nothing_more();
    let mut begin = [0; STAMP_LEN + OPEN_FIELDS_LEN];
    let begun = read_or_zeros(&file, &mut begin, 0);
    let readable = begun.is_ok();
    let (stamp, fields) = begin.split_at(STAMP_LEN);
    let stamp = match Stamp::parse(stamp.try_into().expect("split there")) {
        Ok(stamp) => StampSeen::Good(stamp),
        Err(_) if readable && begin.iter().all(|b| *b == 0) => StampSeen::Blank,
        Err(bad) => StampSeen::Bad(bad),
    };
    let bytes = file.len()?;
    let header = match stamp {
        StampSeen::Good(stamp) => {
            let longest = stamp.geometry.scratch_bytes() as u64;
            let header = header_of(&file, fields, longest);
            header.map(|header| header.filter(|h| h.erase_count == stamp.erase_count))
        }
        StampSeen::Bad(BadStamp::Corrupt) => header_of(&file, fields, bytes),
        StampSeen::Bad(BadStamp::Newer(_)) | StampSeen::Blank => Ok(None),
    };
    let failed = begun.as_ref().err().or(header.as_ref().err());
    Ok(Surveyed {
        segment,
        bytes,
        stamp,
        unread: failed.map(|e| Unread::of(segment, e)),
        told_twice: None,
        header: header.unwrap_or_default(),
    })
}

/// What could not be read, if anything.
pub(crate) fn unread(surveyed: &[Surveyed]) -> Option<Unread> {
    surveyed.iter().find_map(|s| s.unread)
}

/// The open header that `fields` begin, whatever stamp it belongs to.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn header_of(
    file: &File,
    fields: &[u8],
    longest: u64,
) -> io::Result<Option<HeaderSeen>> {
    let Some(claim) = OpenClaim::parse(fields).filter(|claim| claim.encoded_len() <= longest)
    else {
        return Ok(None);
    };
    let mut bytes = vec![0; usize::try_from(claim.encoded_len()).unwrap_or(0)];
    read_or_zeros(file, &mut bytes, STAMP_LEN as u64)?;
    Ok(header_in(&bytes, &claim))
}

fn header_in(bytes: &[u8], claim: &OpenClaim) -> Option<HeaderSeen> {
    let (header, len) = OpenHeader::parse(bytes)?;
    Some(HeaderSeen {
        log_id: header.log_id,
        erase_count: claim.erase_count,
        seq: header.seq,
        base: header.base,
        base_time: header.base_time,
        ledger: Ledger::parse(header.ledger)?,
        checkpoint: header.checkpoint.to_vec(),
        // On files nothing is padded.
        data_start: u32::try_from(STAMP_LEN + len).ok()?,
    })
}

/// The dimensions that the segments of a directory have; those of the newest with a valid stamp.
pub(crate) fn geometry_of(surveyed: &[Surveyed]) -> Option<Geometry> {
    let stamped = surveyed.iter().filter(|s| s.geometry().is_some());
    stamped
        .max_by_key(|s| s.order())
        .and_then(Surveyed::geometry)
}

/// The segment that was opened last.
pub(crate) fn newest(surveyed: &[Surveyed]) -> Option<&Surveyed> {
    newest_of(surveyed.iter())
}

/// That of some of them.
pub(crate) fn newest_of<'s>(some: impl Iterator<Item = &'s Surveyed>) -> Option<&'s Surveyed> {
    let opened = some.filter(|s| s.header.is_some());
    opened.max_by_key(|s| s.order())
}

/// One past the number of the last file that was ever used.
pub(crate) fn used_up_to(surveyed: &[Surveyed]) -> u32 {
    let ever_used = surveyed.iter().filter(|s| s.stamp != StampSeen::Blank);
    ever_used.map(|s| s.segment + 1).max().unwrap_or(0)
}

/// The segments that hold something of the log `log_id` at `oldest` or behind it, in order.
pub(crate) fn held(surveyed: &[Surveyed], log_id: LogId, oldest: Offset) -> Vec<Held> {
    let of_this_log = |s: &&Surveyed| s.header.as_ref().is_some_and(|h| h.log_id == log_id);
    let mut of_log: Vec<&Surveyed> = surveyed.iter().filter(of_this_log).collect();
    of_log.sort_by_key(|s| s.order());
    let held: Vec<Held> = of_log.into_iter().filter_map(Surveyed::held).collect();
    // What a segment holds ends where the next begins: one that begins no earlier voids it, and so does recycling.
    let ends: Vec<Offset> = held
        .iter()
        .skip(1)
        .map(|h| h.base)
        .chain([Offset::new(u64::MAX)])
        .collect();
    let held = held
        .into_iter()
        .zip(ends)
        .filter(|(h, end)| h.base < *end && oldest < *end);
    held.map(|(h, _)| h).collect()
}

/// Files in `dir` that are not of a log, and leftovers of a creation that was cut short.
pub(crate) fn foreign_in(dir: &Path, known: &[&str]) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut foreign, mut unfinished) = (Vec::new(), Vec::new());
    for path in disk::read_dir(dir)? {
        let name = media::name_of(&path).into_owned();
        if name.starts_with(TEMPORARY) {
            unfinished.push(path);
        } else if !known.contains(&name.as_str()) && media::segment_of(&name).is_none() {
            foreign.push(path);
        }
    }
    Ok((foreign, unfinished))
}
