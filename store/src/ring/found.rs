//! What stands in a directory before a log is opened in it: which files belong to it, which are set aside, its dimensions.

use std::io;
use std::path::Path;

use sedge_core::segment::{BadStamp, Dimensions, Geometry, Medium, Role, STAMP_LEN};

use super::{OpenError, Opened, RingOptions, worn};
use crate::data_dir::SET_ASIDE;
use crate::disk::{self, File};
use crate::durable_file;
use crate::identity;
use crate::media::{self, FileMedia, SYNC_FAILED, UNREADABLE, Unread, file_name, read_or_zeros};
use crate::mend;
use crate::mirror::BEGINNINGS;
use crate::patience::Patience;
use crate::survey::{self, StampSeen, Surveyed};
use crate::unsent::UNSENT;

/// Sets aside what is foreign, removes what was never finished, and finishes what was.
pub(super) fn tidy(dir: &Path, opened: &mut Opened) -> io::Result<()> {
    let of_the_log = [SET_ASIDE, SYNC_FAILED, UNREADABLE, BEGINNINGS, UNSENT];
    let known = [&of_the_log[..], &identity::FILES].concat();
    let (foreign, unfinished) = survey::foreign_in(dir, &known)?;
    for path in unfinished {
        disk::remove_file(path)?;
    }
    for path in foreign {
        if worn::is_copy(&path) {
            worn::put_in_place(dir, &path)?;
            continue;
        }
        opened.set_aside(dir, &path, "not a segment of a log")?;
    }
    Ok(())
}

/// The files of a log that is to have `wanted`, in the order of their numbers: those that were ever used, and blank ones as far
/// as the disk has room.
pub(super) fn reserve_files(
    dir: &Path,
    media: &FileMedia,
    found: &[Surveyed],
    wanted: u32,
) -> io::Result<Vec<u32>> {
    let wanted = wanted as usize;
    let used = survey::used_up_to(found);
    let mut numbers = Vec::new();
    for (at, surveyed) in found.iter().enumerate() {
        let number = surveyed.segment;
        // What was used is kept, whatever the capacity; a file that lost its end as well: what is missing is told.
        let kept = number < used || at < wanted;
        if kept && (media.reserve(number, surveyed.header.is_some())? || number < used) {
            numbers.push(number);
        } else {
            disk::remove_file(dir.join(file_name(number)))?;
        }
    }
    let mut free = (0..).filter(|number| found.iter().all(|s| s.segment != *number));
    while numbers.len() < wanted {
        let number = free.next().expect("a free number exists");
        if !media.reserve(number, false)? {
            break;
        }
        numbers.push(number);
    }
    numbers.sort_unstable();
    durable_file::sync_dir(dir)?;
    Ok(numbers)
}

/// All segments.
///
/// # Errors
/// While something of one that cannot be read is waited for.
pub(crate) fn survey_patiently(dir: &Path, patience: &Patience) -> io::Result<Vec<Surveyed>> {
    let found = survey::survey(dir)?;
    if let Some(unread) = survey::unread(&found) {
        unread.try_again_later(patience)?;
    }
    Ok(found)
}

/// The segments that belong together; the others are set aside.
pub(super) fn survey_usable(
    dir: &Path,
    role: Role,
    opened: &mut Opened,
    patience: &Patience,
) -> Result<Vec<Surveyed>, OpenError> {
    let io = |source| OpenError::Io {
        dir: dir.into(),
        source,
    };
    let found = survey_patiently(dir, patience).map_err(io)?;
    let segment_bytes = survey::geometry_of(&found).map(|g| g.segment_bytes());
    let is_log = found.iter().any(|s| s.header.is_some());
    let used = survey::used_up_to(&found);
    let is_unused = |surveyed: &Surveyed, patience: &Patience| {
        is_unused(dir, surveyed, used).or_else(|e| {
            let unread = Unread::of(surveyed.segment, &e);
            unread.try_again_later(patience).map_err(io)?;
            Ok(false)
        })
    };
    let mut usable = Vec::new();
    for surveyed in found {
        let fits = |g: Geometry| {
            Some(g.segment_bytes()) == segment_bytes
                && g.role() == role
                && g.medium() == Medium::File
        };
        let why = match surveyed.stamp {
            StampSeen::Bad(BadStamp::Newer(version)) => {
                return Err(OpenError::Newer {
                    dir: dir.into(),
                    segment: surveyed.segment,
                    version,
                });
            }
            StampSeen::Bad(BadStamp::Corrupt) if surveyed.header.is_none() => {
                if holds_nothing(dir, &surveyed).unwrap_or(false) {
                    let file = dir.join(file_name(surveyed.segment));
                    tracing::warn!(file = %file.display(), "a segment that was never used is damaged, and made anew");
                    disk::remove_file(file).map_err(io)?;
                    continue;
                }
                "its stamp is damaged"
            }
            StampSeen::Good(stamp) if !fits(stamp.geometry) => {
                "it belongs to a log of other dimensions"
            }
            // Without any header a new log would be made here, over whatever there is.
            StampSeen::Good(_) if !is_log && !is_unused(&surveyed, patience)? => {
                "its beginning is damaged"
            }
            StampSeen::Good(_) | StampSeen::Blank | StampSeen::Bad(BadStamp::Corrupt) => {
                usable.push(surveyed);
                continue;
            }
        };
        opened
            .set_aside(dir, &dir.join(file_name(surveyed.segment)), why)
            .map_err(io)?;
    }
    Ok(usable)
}

/// Whether a segment without a header was never used, or is made ready to be used again, as far as its beginning tells; `used` is one past the last that was.
pub(super) fn is_unused(dir: &Path, surveyed: &Surveyed, used: u32) -> io::Result<bool> {
    let is_used_behind = surveyed.segment + 1 < used;
    mend::is_unused(dir, surveyed, is_used_behind)
}

/// Whether nothing was ever written into a segment, or a stamp and nothing else, but for bytes that rotted since.
fn holds_nothing(dir: &Path, surveyed: &Surveyed) -> io::Result<bool> {
    let file = File::open(dir.join(file_name(surveyed.segment)))?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut at, mut traces) = (STAMP_LEN as u64, 0);
    while at < surveyed.bytes && traces <= TRACES_MAX {
        read_or_zeros(&file, &mut piece, at)?;
        traces += piece.iter().filter(|byte| **byte != 0).count();
        at += PIECE_BYTES as u64;
    }
    Ok(traces <= TRACES_MAX)
}

/// As many segments as those that were set aside take the room of: a log and what it has lost keep within one capacity.
pub(super) fn segments_aside(dir: &Path, segment_bytes: u32) -> io::Result<u32> {
    let aside = dir.join(SET_ASIDE);
    if !disk::is_dir(&aside) {
        return Ok(0);
    }
    let mut bytes = 0;
    for file in disk::read_dir(&aside)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("-seg-") {
            bytes += disk::len(&file)?;
        }
    }
    Ok(u32::try_from(bytes / u64::from(segment_bytes)).unwrap_or(u32::MAX))
}

/// A log that cannot begin keeps no room from others: the segments that were just made, and none that was `found`, go again.
pub(super) fn give_back(dir: &Path, found: &[Surveyed]) -> io::Result<()> {
    for segment in media::segments_in(dir)? {
        if found.iter().all(|s| s.segment != segment) {
            disk::remove_file(dir.join(file_name(segment)))?;
        }
    }
    durable_file::sync_dir(dir)
}

/// The dimensions that a log in `dir` will have when there is room for it, but for the count of its segments.
pub(crate) fn geometry_to_be(dir: &Path, options: &RingOptions) -> Result<Geometry, OpenError> {
    let found = survey::survey(dir).unwrap_or_default();
    geometry_for(&found, options).ok_or_else(|| OpenError::TooSmall {
        dir: dir.into(),
        capacity_bytes: options.capacity_bytes,
    })
}

/// The dimensions of the log that is there, or of a new one; `None` if the capacity is too small for any.
pub(super) fn geometry_for(found: &[Surveyed], options: &RingOptions) -> Option<Geometry> {
    let there = found
        .iter()
        .find_map(Surveyed::geometry)
        .map(|g| g.segment_bytes());
    let needed = segment_for(options.frame_bytes_max.into());
    let share = (options.capacity_bytes / SEGMENTS_WANTED)
        .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
        .max(needed);
    // A small capacity still makes a ring, of four small segments; the largest record gives way.
    let share = share
        .next_multiple_of(PAGE_BYTES)
        .min(options.capacity_bytes / SEGMENTS_OF_SMALL / PAGE_BYTES * PAGE_BYTES);
    let segment_bytes = there.map_or(u32::try_from(share).ok(), Some)?;
    let frame_bytes_max = options
        .frame_bytes_max
        .min((segment_bytes / FRAMES_IN_SEGMENT).checked_sub(FRAME_EXTRA)?);
    let segment_count =
        u32::try_from(options.capacity_bytes / u64::from(segment_bytes.max(1))).ok()?;
    Geometry::new(Dimensions {
        medium: Medium::File,
        role: options.role,
        write_unit: 1,
        segment_bytes,
        segment_count: segment_count.max(SEGMENTS_MIN),
        frame_bytes_max,
        commit_offsets_max: COMMIT_OFFSETS_MAX,
    })
    .ok()
}

/// The smallest capacity of a new log that takes a frame of `frame_bytes`.
pub(crate) fn capacity_for(frame_bytes: u64) -> u64 {
    SEGMENTS_OF_SMALL * segment_for(frame_bytes).next_multiple_of(PAGE_BYTES)
}

/// What a segment has at least that takes a frame of `frame_bytes`.
fn segment_for(frame_bytes: u64) -> u64 {
    u64::from(FRAMES_IN_SEGMENT) * (frame_bytes + u64::from(FRAME_EXTRA))
}

/// Enough for the frames of any segment that is there, whatever was configured when it was written.
pub(super) fn scratch_bytes(dir: &Path, geometry: &Geometry) -> io::Result<usize> {
    let found = survey::survey(dir)?;
    let largest = found
        .iter()
        .filter_map(Surveyed::geometry)
        .map(|g| g.scratch_bytes())
        .max();
    Ok(largest.unwrap_or(0).max(geometry.scratch_bytes()))
}

/// Read at once.
const PIECE_BYTES: usize = 64 << 10;
/// Fewer bytes than the log id and the sum of an open header have, with which every segment begins that is used.
const TRACES_MAX: usize = 16;
/// A log has at least this many.
pub(super) const SEGMENTS_MIN: u32 = 3;
/// Segments in a log of usual size: recycling one takes away a 64th of what is held.
const SEGMENTS_WANTED: u64 = 64;
/// So many frames of the largest size go into a segment at least, each with so many bytes beside it.
const FRAMES_IN_SEGMENT: u32 = 4;
const FRAME_EXTRA: u32 = 512;
/// Segments in a log whose capacity is too small for more.
const SEGMENTS_OF_SMALL: u64 = 4;
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
const PAGE_BYTES: u64 = 4096;
/// What an unclean stop burns; more than a commit of the usual size ever holds.
pub const COMMIT_OFFSETS_MAX: u32 = 1 << 16;
