//! Reading a log while it is written: own descriptors, never past the durable watermark.
//!
//! A reader takes a place from the index, reads the segment, walks its frames and asks the index again whether the
//! segment still was what it was: being overtaken is a gap with cause evicted, never corruption.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use rustix::io::Errno;
use sedge_core::frame::{Frame, Kind};
use sedge_core::ledger::CURSORS_MAX;
use sedge_core::planted::Fault;
use sedge_core::segment::Geometry;
use sedge_core::walk::{Found, Step, Walk, Window};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};

use crate::disk::File;
use crate::doubt::Doubts;
use crate::group::FRAME_BYTES_WANTED;
use crate::identity;
use crate::index::{Held, Hint, Index, Located, Place, Standing};
use crate::media::file_name;

/// Whole data and gap frames, verbatim, one behind the other without a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// What is missing before `first`, if anything is.
    pub gap: Option<Gap>,
    /// The first offset of the first frame. It may lie below the offset that was asked for, when that is inside a frame.
    pub first: Offset,
    /// The offset behind the last frame: read on from here.
    pub next: Offset,
    /// The frames; control frames are left out. Empty at the end of what is durable, and behind a gap that goes on.
    pub frames: Bytes,
}

impl Chunk {
    fn none(gap: Option<Gap>, at: Offset) -> Self {
        Self {
            gap,
            first: at,
            next: at,
            frames: Bytes::new(),
        }
    }
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset lies beyond what is durable.
    #[error("offset {from} is beyond {durable}, the end of what is durable")]
    Beyond {
        /// What was asked for.
        from: Offset,
        /// What there is.
        durable: Offset,
    },
    /// The disk does not give what stands there. It is tried again, and not yet taken for lost.
    #[error("segment {segment} cannot be read at the moment")]
    Unread {
        /// The number of its file.
        segment: u32,
    },
    /// The file system refused.
    #[error("reading a segment: {0}")]
    Io(#[from] io::Error),
}

/// The reading half of a log.
#[derive(Debug)]
pub(crate) struct Reading {
    dir: PathBuf,
    geometry: Geometry,
    log_id: LogId,
    index: Arc<Index>,
    doubts: Doubts,
    /// Descriptors by segment, the last used last.
    open: Mutex<Vec<(u32, Arc<File>)>>,
    /// Of segments that were counted in, the last one last.
    skips: Mutex<Vec<Skips>>,
}

/// What gap frames took in one segment.
#[derive(Debug)]
struct Skips {
    seq: u64,
    /// Offsets in all of them.
    sum: u64,
    ranges: Vec<Range<Offset>>,
}

impl Reading {
    pub(crate) fn new(dir: PathBuf, geometry: Geometry, log_id: LogId, index: Arc<Index>) -> Self {
        Self {
            doubts: Doubts::in_dir(dir.clone()),
            dir,
            geometry,
            log_id,
            index,
            open: Mutex::new(Vec::new()),
            skips: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Frames from `from` on, about `bytes_max` of them, at least one.
    pub(crate) fn read(&self, from: Offset, bytes_max: usize) -> Result<Chunk, ReadError> {
        let durable = self.index.durable();
        if from > durable {
            return Err(ReadError::Beyond { from, durable });
        }
        let mut gap: Option<Gap> = None;
        loop {
            let at = gap.map_or(from, |g| g.to);
            let missing = match self.index.locate(at) {
                Located::End => return Ok(Chunk::none(gap, at)),
                Located::Evicted(evicted) => evicted,
                Located::At(place) => {
                    let found = self.collect(place, at, bytes_max);
                    if !self.index.still_holds(&place.held) {
                        // Overtaken: whatever was read, the ledger knows better now.
                        continue;
                    }
                    // A gap that is known is told before it is waited for what follows.
                    if let (Err(ReadError::Unread { .. }), Some(_)) = (&found, gap) {
                        return Ok(Chunk::none(gap, at));
                    }
                    match found? {
                        Collected::Frames(chunk) => return Ok(Chunk { gap, ..chunk }),
                        Collected::Hole(hole) => hole,
                    }
                }
            };
            // Two gaps of different causes: this one now, the other with the next read.
            match gap {
                Some(gap) if gap.cause != missing.cause => return Ok(Chunk::none(Some(gap), at)),
                gap_before => gap = Some(joined(gap_before, missing)),
            }
        }
    }

    /// The first offset whose frame was made at `time` or later; the durable end if there is none.
    pub(crate) fn offset_for_time(&self, time: Micros) -> Result<Offset, ReadError> {
        Ok(self.offsets_for_times(&[time], &|| true)?[0])
    }

    /// The same for each of `times`, which are in their order. No segment is gone through twice, and none that none of them stands in.
    pub(crate) fn offsets_for_times(
        &self,
        times: &[Micros],
        is_asked: &dyn Fn() -> bool,
    ) -> Result<Vec<Offset>, ReadError> {
        let begins = self.segments_before(times)?;
        let mut found = Vec::with_capacity(times.len());
        // Those from `found.len()` up to here are looked for.
        let (mut begun, mut at) = (0, Offset::ZERO);
        while found.len() < times.len() {
            if !is_asked() {
                return Err(io::Error::from(io::ErrorKind::Interrupted).into());
            }
            if found.len() == begun {
                at = begins[begun];
            }
            begun += begins[begun..].partition_point(|base| *base <= at);
            let Some(place) = self.index.place_of_segment(at) else {
                found.resize(begun, self.index.durable());
                continue;
            };
            let known = found.len();
            self.surely(&place, |failures| {
                found.truncate(known);
                let walked = self.walk_to(&place, failures, |at| {
                    let header = &at.frame.header;
                    if header.kind == Kind::Data {
                        let sought = &times[found.len()..begun];
                        let reached = sought.partition_point(|t| *t <= header.time);
                        found.resize(found.len() + reached, header.first);
                    }
                    found.len() < begun
                });
                Ok(((), walked?))
            })?;
            at = place.limit;
        }
        Ok(found)
    }

    /// Where the search for each of `times` begins: the newest segment whose first record is older.
    fn segments_before(&self, times: &[Micros]) -> Result<Vec<Offset>, ReadError> {
        let held = self.index.held();
        let oldest = held.first().map_or(Offset::ZERO, |h| h.base);
        let mut begins = vec![oldest; times.len()];
        let mut left = times.len();
        for h in held.iter().rev().take_while(|h| h.base > oldest) {
            let first = self.first_time(h.base)?.filter(|first| first.is_known());
            if let Some(first) = first {
                let later = times[..left].partition_point(|time| *time <= first);
                begins[later..left].fill(h.base);
                left = later;
            }
            if left == 0 {
                break;
            }
        }
        Ok(begins)
    }

    /// Durable offsets at or behind `from` that no gap frame took: records, and what has rotted. One segment is read at most,
    /// and only once for all offsets in it.
    pub(crate) fn events_from(&self, from: Offset) -> io::Result<u64> {
        loop {
            let Some(standing) = self.index.standing(from) else {
                return Ok(0);
            };
            let skipped = standing.skipped_behind + self.skipped_in(&standing)?;
            // Overtaken: the oldest offset is another now.
            if self.index.still_holds(&standing.segment.held) {
                let span = standing.durable.since(standing.from);
                return Ok(span.saturating_sub(skipped));
            }
        }
    }

    /// Offsets at or behind `standing.from` that gap frames of its segment took.
    fn skipped_in(&self, standing: &Standing) -> io::Result<u64> {
        let (held, sum) = (standing.segment.held, standing.skipped_here);
        if sum == 0 || standing.from <= held.base {
            return Ok(sum);
        }
        let mut skips = self.skips.lock().expect("no holder panics");
        let known = skips.iter().position(|s| s.seq == held.seq && s.sum == sum);
        let (known, is_whole) = match known {
            Some(at) => (skips.remove(at), true),
            None => {
                let (seq, mut ranges) = (held.seq, Vec::new());
                let is_whole = self.gaps_in(&standing.segment, &mut ranges)?;
                (Skips { seq, sum, ranges }, is_whole)
            }
        };
        let behind = |range: &Range<Offset>| range.end.since(range.start.max(standing.from));
        let skipped = known.ranges.iter().map(behind).sum();
        if !is_whole {
            return Ok(skipped);
        }
        skips.retain(|s| s.seq != held.seq);
        if skips.len() >= CURSORS_MAX {
            skips.remove(0);
        }
        skips.push(known);
        Ok(skipped)
    }

    /// Adds what gap frames of `segment` take. `false`: the disk did not give all of it.
    fn gaps_in(&self, segment: &Place, ranges: &mut Vec<Range<Offset>>) -> io::Result<bool> {
        self.walk(segment, |at| {
            if at.frame.header.kind == Kind::Gap {
                ranges.push(at.frame.header.first..at.frame.end());
            }
            at.frame.end() < segment.limit
        })
    }

    /// The crc of the data frame that ends at `next`, if there is one.
    pub(crate) fn crc_below(&self, next: Offset) -> Result<Option<u32>, ReadError> {
        self.crc_of_last(next, |frame| frame.header.kind == Kind::Data)
    }

    /// The same, or that of a gap of burned offsets: where those end in one history of a log, no record does in it.
    pub(crate) fn fingerprint(&self, next: Offset) -> Result<Option<u32>, ReadError> {
        let is_burned = |gap: Gap| gap.cause == Cause::Burned;
        self.crc_of_last(next, |frame| {
            frame.header.kind == Kind::Data || frame.gap().is_some_and(is_burned)
        })
    }

    /// The crc of the frame that ends at `next`, if it `counts`.
    fn crc_of_last(
        &self,
        next: Offset,
        counts: impl Fn(&Frame<'_>) -> bool,
    ) -> Result<Option<u32>, ReadError> {
        let below = Offset::new(next.get().saturating_sub(1));
        let place = self.index.place(below);
        let Some(place) = place.filter(|p| next > Offset::ZERO && p.first <= below) else {
            return Ok(None);
        };
        let crc = self.surely(&place, |failures| {
            let mut crc = None;
            let unread = self.walk_to(&place, failures, |at| {
                if at.frame.end() == next && counts(&at.frame) {
                    crc = Some(at.frame.header.crc);
                }
                at.frame.end() < next
            })?;
            Ok((crc, unread.filter(|_| crc.is_none())))
        })?;
        Ok(crc.filter(|_| self.index.still_holds(&place.held)))
    }
}

/// What the walk over one segment brought.
enum Collected {
    Frames(Chunk),
    Hole(Gap),
}

impl Reading {
    /// What `read` brings of the segment of `place`. Where that lacks something that the disk did not give, which `read` says then, only when it is taken for lost.
    /// `read` is told how often it may fail: what is rot is to hide nothing beside it, and the rest is waited for anyway.
    fn surely<T>(
        &self,
        place: &Place,
        mut read: impl FnMut(u32) -> Result<(T, Option<u32>), ReadError>,
    ) -> Result<T, ReadError> {
        let Held { segment, seq, .. } = place.held;
        let mut decides = Fault::ReadersWaitForNothing.is_planted();
        loop {
            let failures = match self.doubts.is_rot(seq) {
                true => u32::MAX,
                false => FAILURES_MAX,
            };
            let (found, unread) = read(failures)?;
            let Some(position) = unread else {
                return Ok(found);
            };
            // Where the file system was mounted anew, the file is another one.
            self.lock_open().retain(|(open, _)| *open != segment);
            if decides && self.doubts.disk_takes().is_ok() {
                return Ok(found);
            }
            if decides || !self.doubts.may_be_rot(segment, seq, position) {
                return Err(ReadError::Unread { segment });
            }
            decides = true;
        }
    }

    /// Reads whole frames that hold `from` and what follows, in one segment and with one read if it can.
    fn collect(
        &self,
        place: Place,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Collected, ReadError> {
        self.surely(&place, |failures| {
            self.collect_once(place, from, bytes_max, failures)
        })
    }

    /// The same; with a hole, the place in it that the disk did not give.
    fn collect_once(
        &self,
        place: Place,
        from: Offset,
        bytes_max: usize,
        failures: u32,
    ) -> Result<(Collected, Option<u32>), ReadError> {
        if place.first > from {
            return Ok((Collected::Hole(corrupt(from, place.first)), None));
        }
        let (file, mut walk, mut window) = match self.begin(&place, failures) {
            // All of it is what the disk does not give.
            Err(e) if identity::is_unreadable(&e) => {
                let hole = Collected::Hole(corrupt(from, place.limit));
                return Ok((hole, Some(place.position)));
            }
            begun => begun?,
        };
        let mut kept = Kept::default();
        let hole = loop {
            match walk.step(window.as_window()) {
                Step::Read { .. } if kept.bytes > 0 => break None,
                Step::Read { position, len } => {
                    let wanted = bytes_max.saturating_add(FRAME_BYTES_WANTED);
                    let end = place.bytes.min(self.geometry.segment_bytes());
                    let most = end.saturating_sub(position).max(len) as usize;
                    window.fill(&file, position, wanted.clamp(len as usize, most))?;
                }
                Step::End(end) => break Some((end.expected, place.limit)),
                Step::Frame(found) => {
                    let (header, end) = (&found.frame.header, found.frame.end());
                    if found.expected < header.first && header.first > from {
                        break Some((found.expected, header.first));
                    }
                    if end <= from || header.kind == Kind::Control {
                        continue;
                    }
                    if kept.bytes > 0 && kept.bytes + found.bytes.len() > bytes_max {
                        break None;
                    }
                    let at = (found.position - window.position) as usize;
                    kept.add(at, at + found.bytes.len(), header.first, end);
                }
            }
        };
        self.was_read(&place, &window);
        match (kept.span, hole) {
            (Some((first, next)), _) => {
                let position = window.position
                    + u32::try_from(kept.end).expect("a window is no larger than a segment");
                self.index.remember(Hint {
                    seq: place.held.seq,
                    first: next,
                    position,
                });
                let chunk = Chunk {
                    gap: None,
                    first,
                    next,
                    frames: kept.cut_from(window.bytes),
                };
                Ok((Collected::Frames(chunk), None))
            }
            (None, hole) => {
                let (begin, end) = hole.unwrap_or((from, place.limit));
                let hole = Collected::Hole(corrupt(begin.max(from), end));
                Ok((hole, window.unread_at))
            }
        }
    }

    /// A walk from `place`, the file that it goes through, and a window that holds nothing yet.
    /// After so many `failures` nothing more is asked of the disk.
    fn begin(&self, place: &Place, failures: u32) -> io::Result<(Arc<File>, Walk, Span)> {
        let file = self.file(place.held.segment)?;
        let walk = Walk::new(
            self.log_id,
            self.geometry,
            place.position,
            place.first,
            Some(place.limit),
        );
        let window = Span {
            position: place.position,
            failures_left: failures,
            ..Span::default()
        };
        Ok((file, walk, window))
    }

    /// What `window` went through before its first failure is in doubt no more.
    fn was_read(&self, place: &Place, window: &Span) {
        let end = window.unread_at.unwrap_or(window.covered.end);
        self.doubts
            .was_read(place.held.seq, &(window.covered.start..end));
    }

    /// Walks from `place` to the end of its segment or until `each` says no. `false`: the disk did not give all of it.
    pub(crate) fn walk(
        &self,
        place: &Place,
        each: impl FnMut(&Found<'_>) -> bool,
    ) -> io::Result<bool> {
        Ok(self.walk_to(place, u32::MAX, each)?.is_none())
    }

    /// The same, for as long as no more than so many `failures` are met; says the first place that the disk did not give.
    fn walk_to(
        &self,
        place: &Place,
        failures: u32,
        mut each: impl FnMut(&Found<'_>) -> bool,
    ) -> io::Result<Option<u32>> {
        let (file, mut walk, mut window) = match self.begin(place, failures) {
            Err(e) if identity::is_unreadable(&e) => return Ok(Some(place.position)),
            begun => begun?,
        };
        loop {
            match walk.step(window.as_window()) {
                Step::End(_) => break,
                Step::Read { position, len } => {
                    let end = place.bytes.min(self.geometry.segment_bytes());
                    let most = end.saturating_sub(position).max(len) as usize;
                    window.fill(&file, position, WALK_BYTES.clamp(len as usize, most))?;
                }
                Step::Frame(found) if each(&found) => {}
                Step::Frame(_) => break,
            }
        }
        self.was_read(place, &window);
        Ok(window.unread_at)
    }

    /// When the first data frame of the segment that begins at `base` was made.
    fn first_time(&self, base: Offset) -> io::Result<Option<Micros>> {
        let Some(place) = self.index.place_of_segment(base) else {
            return Ok(None);
        };
        let mut time = None;
        self.walk(&place, |at| {
            time = (at.frame.header.kind == Kind::Data).then_some(at.frame.header.time);
            time.is_none()
        })?;
        Ok(time)
    }

    /// Closes every file.
    pub(crate) fn let_go(&self) {
        self.lock_open().clear();
    }

    fn lock_open(&self) -> MutexGuard<'_, Vec<(u32, Arc<File>)>> {
        self.open.lock().expect("no holder panics")
    }

    fn file(&self, segment: u32) -> io::Result<Arc<File>> {
        let mut open = self.lock_open();
        if let Some(at) = open.iter().position(|(s, _)| *s == segment) {
            open[at..].rotate_left(1);
        } else {
            let file = File::open(self.dir.join(file_name(segment)))?;
            if open.len() >= DESCRIPTORS_MAX {
                open.remove(0);
            }
            open.push((segment, Arc::new(file)));
        }
        Ok(open.last().expect("it was just put there").1.clone())
    }
}

/// Bytes of a segment that begin at `position`.
#[derive(Debug)]
pub(crate) struct Span {
    position: u32,
    bytes: Vec<u8>,
    /// All that it was ever filled with.
    covered: Range<u32>,
    /// The first place of that which the disk did not give.
    unread_at: Option<u32>,
    /// After so many failures nothing more is asked of the disk.
    failures_left: u32,
}

impl Default for Span {
    fn default() -> Self {
        Self {
            position: 0,
            bytes: Vec::new(),
            covered: 0..0,
            unread_at: None,
            failures_left: u32::MAX,
        }
    }
}

impl Span {
    pub(crate) fn as_window(&self) -> Window<'_> {
        Window {
            position: self.position,
            bytes: &self.bytes,
        }
    }

    /// Reads `len` bytes from `position` on; zeros where the file ends, and where the medium cannot be read: neither is a frame.
    pub(crate) fn fill(&mut self, file: &File, position: u32, len: usize) -> io::Result<()> {
        self.fill_by(position, len, |into, at| file.read_into_spare(into, at))
    }

    fn fill_by(
        &mut self,
        position: u32,
        len: usize,
        mut pread: impl FnMut(&mut Vec<u8>, u64) -> Result<usize, Errno>,
    ) -> io::Result<()> {
        self.covers(position, len);
        self.position = position;
        self.bytes.clear();
        self.bytes.reserve_exact(len);
        if self.failures_left == 0 {
            self.bytes.resize(len, 0);
        }
        let mut piece = Vec::new();
        // From the first place that cannot be read on, sector by sector, so that it hides nothing beside it.
        let mut is_whole = true;
        while self.bytes.len() < len {
            let at = u64::from(position) + self.bytes.len() as u64;
            let left = len - self.bytes.len();
            if is_whole {
                match pread(&mut self.bytes, at) {
                    // A file that lost its end: the walk finds nothing in zeros.
                    Ok(0) => self.bytes.resize(len, 0),
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(e) if is_no_answer(e) => is_whole = false,
                    Err(e) => return Err(e.into()),
                }
                continue;
            }
            let to_border = SECTOR_BYTES - at % SECTOR_BYTES;
            let wanted = left.min(usize::try_from(to_border).unwrap_or(usize::MAX));
            piece.clear();
            piece.reserve_exact(wanted);
            match pread(&mut piece, at) {
                Ok(0) => self.bytes.resize(len, 0),
                Ok(n) => self.bytes.extend_from_slice(&piece[..n.min(wanted)]),
                Err(Errno::INTR) => {}
                Err(e) if is_no_answer(e) => {
                    self.unread_at
                        .get_or_insert(u32::try_from(at).unwrap_or(u32::MAX));
                    self.failures_left = self.failures_left.saturating_sub(1);
                    let hidden = match self.failures_left {
                        0 => left,
                        _ => wanted,
                    };
                    self.bytes.resize(self.bytes.len() + hidden, 0);
                }
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn covers(&mut self, position: u32, len: usize) {
        let end = position.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        match self.covered.is_empty() {
            true => self.covered = position..end,
            false => self.covered.end = self.covered.end.max(end),
        }
    }
}

/// Whether the medium does not give what stands there.
fn is_no_answer(error: Errno) -> bool {
    identity::is_unreadable(&error.into())
}

/// Which parts of a window are wanted.
#[derive(Default)]
struct Kept {
    ranges: Vec<(usize, usize)>,
    bytes: usize,
    end: usize,
    span: Option<(Offset, Offset)>,
}

impl Kept {
    fn add(&mut self, from: usize, to: usize, first: Offset, next: Offset) {
        match self.ranges.last_mut() {
            Some(last) if last.1 == from => last.1 = to,
            _ => self.ranges.push((from, to)),
        }
        self.bytes += to - from;
        self.end = to;
        self.span = Some((self.span.map_or(first, |(first, _)| first), next));
    }

    /// The wanted bytes, one behind the other; copied only if something between them is left out.
    fn cut_from(self, mut window: Vec<u8>) -> Bytes {
        let [(from, mut at), ref rest @ ..] = self.ranges[..] else {
            return Bytes::new();
        };
        for (from, to) in rest {
            window.copy_within(*from..*to, at);
            at += to - from;
        }
        Bytes::from(window).slice(from..at)
    }
}

/// What is missing has no valid frame: at most each of its offsets was a record.
fn corrupt(from: Offset, to: Offset) -> Gap {
    let unknown = Micros::UNKNOWN;
    Gap {
        from,
        to,
        lost: to.since(from),
        cause: Cause::Corrupt,
        when: unknown,
        when_last: unknown,
    }
}

/// `further` begins where `gap` ends.
fn joined(gap: Option<Gap>, further: Gap) -> Gap {
    gap.map_or(further, |gap| Gap {
        to: further.to,
        lost: gap.lost.saturating_add(further.lost),
        when_last: further.when_last,
        ..gap
    })
}

/// Segments that readers look at at the same time.
const DESCRIPTORS_MAX: usize = 4;
const WALK_BYTES: usize = 256 << 10;
/// So many failures of a disk in a row tell that there is no hurry.
const FAILURES_MAX: u32 = 16;
/// What a disk cannot read comes in sectors, or in several of them.
const SECTOR_BYTES: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk on which one sector cannot be read, and reads that go beyond its end.
    #[test]
    fn a_sector_that_cannot_be_read_hides_nothing_beside_it() {
        let disk: Vec<u8> = (0..4000_u32).map(|n| (n % 251) as u8 + 1).collect();
        let bad = 1024..1536;
        let mut reads = 0;
        for (position, len) in [
            (0, 4096),
            (700, 2000),
            (1100, 100),
            (1030, 1000),
            (3900, 500),
        ] {
            let mut span = Span::default();
            let filled = span.fill_by(position, len, |into, at| {
                reads += 1;
                let at = at as usize;
                let end = disk.len().min(at + into.capacity() - into.len());
                if at < bad.end && end > bad.start {
                    return Err(Errno::IO);
                }
                let bytes = disk.get(at..end).unwrap_or_default();
                into.extend_from_slice(bytes);
                Ok(bytes.len())
            });
            filled.unwrap();
            let seen = span.as_window().bytes;
            assert_eq!(seen.len(), len);
            for (at, byte) in (position as usize..).zip(seen) {
                let stored = disk.get(at).filter(|_| !bad.contains(&at));
                assert_eq!(*byte, stored.copied().unwrap_or(0), "byte {at}");
            }
        }
        assert!(reads < 40, "{reads} reads");
    }
}
