//! Core's log machine on segment files, with the buffer it works in. Blocking; one owner at a time.
//!
//! Opening looks at what is there first: what is foreign or damaged beyond use is set aside, a directory of an earlier capacity
//! keeps its segment size, and what does not fit on the disk is done without (`found`). `space` makes a log smaller, `worn` copies what cannot be written any more.

mod found;
mod space;
mod worn;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sedge_core::blocking::Desk;
use sedge_core::ledger::{Ledger, TooManyCursors};
use sedge_core::log::{
    self, CommitError, Committed, Fresh, LostHead, MaintainError, Maintained, Options, Refusal,
    RingLog, WhenFull,
};
use sedge_core::segment::{Dimensions, Geometry, Role};
use sedge_core::{LogId, Micros, Offset};
use serde::Serialize;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::data_dir::{SET_ASIDE, set_aside_into};
use crate::durable_file;
use crate::index::{Held, Index};
use crate::media::{self, FileMedia, UNREADABLE, Written, file_name};
use crate::mend;
use crate::owner::Owner;
use crate::patience::Patience;
use crate::survey::{self, Surveyed};
use crate::world;

use found::SEGMENTS_MIN;

pub use found::COMMIT_OFFSETS_MAX;
pub(crate) use found::{capacity_for, geometry_to_be, survey_patiently};

/// A log that can be written.
#[derive(Debug)]
pub(crate) struct Ring {
    log: RingLog,
    media: FileMedia,
    dir: PathBuf,
    /// Empty between uses that are far apart.
    scratch: Vec<u8>,
    scratch_bytes: usize,
    /// The segment that the last commit opened.
    opened: Option<Held>,
    /// When the head was opened, or the log.
    rolled: Instant,
    /// Whether the open took nothing for lost that it could not read.
    is_patient: bool,
}

/// How a ring is to be.
#[derive(Clone, Debug)]
pub(crate) struct RingOptions {
    pub(crate) role: Role,
    pub(crate) capacity_bytes: u64,
    pub(crate) frame_bytes_max: u32,
    pub(crate) when_full: WhenFull,
    /// The id of the log, where it is known; drawn otherwise.
    pub(crate) log_id: Option<LogId>,
    /// What new segments are taken from.
    pub(crate) budget: Budget,
}

/// What opening a log found and did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Opened {
    /// Nothing was there: the log begins now.
    pub created: bool,
    /// The log was closed for good in an earlier life.
    pub ended: bool,
    /// The last life ended without a clean stop.
    pub unclean: bool,
    /// Bytes of each segment.
    pub segment_bytes: u32,
    /// Segments that are used.
    pub segments: u32,
    /// Segments that the capacity asks for; more than `segments` if the disk had no room.
    pub segments_wanted: u32,
    /// Bytes of the largest frame.
    pub frame_bytes_max: u32,
    /// It was made smaller, to the capacity.
    pub shrunk: Option<Shrunk>,
    /// Why nothing is taken for now; reading goes on, and the log begins to take when the disk has room.
    pub intake_refused: Option<String>,
    /// Files that were set aside, and why.
    pub set_aside: Vec<(PathBuf, String)>,
    /// Segments that a failed sync had left in doubt; their tail was written anew.
    pub suspects: Vec<u32>,
    /// Segments whose beginning was damaged and was written anew, as their frames and neighbours prove it.
    pub mended: Vec<u32>,
    /// A head whose beginning was damaged and could not be mended: what it held is a gap, and its file was set aside.
    pub lost_head: Option<LostHead>,
}

/// What became of the records in the segments that were taken away from a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shrunk {
    /// Segments before.
    pub segments: u32,
    /// Records that not every uplink had: they are lost, and counted.
    pub evicted: u64,
    /// Records that every uplink had.
    pub handed_over: u64,
}

impl Opened {
    /// It takes more on the disk than the capacity asks for, because all of it was used once.
    #[must_use]
    pub const fn keeps_more(&self) -> bool {
        self.segments > self.segments_wanted
    }

    /// Bytes that it takes on the disk.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        u64::from(self.segment_bytes) * u64::from(self.segments)
    }
}

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was written by a later version of this program.
    #[error("{}: segment {segment} has format version {version}, which this program does not know", dir.display())]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// The segment.
        segment: u32,
        /// Its version.
        version: u8,
    },
    /// There is another log in the directory.
    #[error("{}: holds log {found}, expected {expected}", dir.display())]
    OtherLog {
        /// The directory.
        dir: PathBuf,
        /// The log that is there.
        found: LogId,
        /// The one that should be.
        expected: LogId,
    },
    /// Fewer than three segments can be used.
    #[error("{}: room for {usable} segments of {segment_bytes} bytes, a log needs {SEGMENTS_MIN}", dir.display())]
    NoRoom {
        /// The directory.
        dir: PathBuf,
        /// Segments that are there.
        usable: u32,
        /// Bytes of each.
        segment_bytes: u32,
    },
    /// The capacity is too small for any log.
    #[error("{}: a log of {capacity_bytes} bytes is too small", dir.display())]
    TooSmall {
        /// The directory.
        dir: PathBuf,
        /// What was asked for.
        capacity_bytes: u64,
    },
    /// The file system refused.
    #[error("{}: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl Ring {
    /// Opens the log in `dir`, or makes one. What the tail says is durable when this returns. The `owner` lends a hand where a beginning must be mended.
    pub(crate) fn open(
        dir: PathBuf,
        options: &RingOptions,
        owner: &mut dyn Owner,
        now: Micros,
    ) -> Result<(Self, Opened), OpenError> {
        let io = |source| OpenError::Io {
            dir: dir.clone(),
            source,
        };
        durable_file::create_dir_all(&dir).map_err(io)?;
        durable_file::settle(&dir).map_err(io)?;
        let suspects = media::sync_failed(&dir).map_err(io)?;
        let patience = Patience::with(dir.join(UNREADABLE), now);
        let mut opened = Opened {
            suspects,
            ..Opened::default()
        };
        found::tidy(&dir, &mut opened).map_err(io)?;
        // What a failed sync left in doubt proves nothing.
        if opened.suspects.is_empty() {
            opened.mended = mend::beginnings(&dir, options.role, owner);
        }
        let mut found = found::survey_usable(&dir, options.role, &mut opened, &patience)?;
        let geometry = found::geometry_for(&found, options).ok_or_else(|| OpenError::TooSmall {
            dir: dir.clone(),
            capacity_bytes: options.capacity_bytes,
        })?;
        let gone = worn::replace(&dir, &geometry, &mut opened, &found).map_err(io)?;
        found.retain(|surveyed| !gone.contains(&surveyed.segment));
        let (media, geometry) = Self::reserve(&dir, geometry, &found, options, &mut opened)?;
        Self::start(dir, media, geometry, options, now, opened, patience)
    }
}

impl Ring {
    /// Reserves the files of an origin; a mirror's come one by one.
    fn reserve(
        dir: &Path,
        wanted: Geometry,
        found: &[Surveyed],
        options: &RingOptions,
        opened: &mut Opened,
    ) -> Result<(FileMedia, Geometry), OpenError> {
        let io = |source| OpenError::Io {
            dir: dir.into(),
            source,
        };
        let segment_bytes = wanted.segment_bytes();
        let aside = match options.role {
            Role::Origin => found::segments_aside(dir, segment_bytes).map_err(io)?,
            // The number of its segments is part of where they stand.
            Role::Mirror => 0,
        };
        let count_wanted = wanted.segment_count().saturating_sub(aside);
        let count_wanted = count_wanted.max(SEGMENTS_MIN);
        let media = FileMedia::new(dir, segment_bytes)
            .within(options.budget.clone())
            .map_err(io)?;
        let (media, usable) = match options.role {
            Role::Origin => {
                let numbers = found::reserve_files(dir, &media, found, count_wanted).map_err(io)?;
                let usable = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                (media.made_of(numbers), usable)
            }
            Role::Mirror => (media, count_wanted.max(survey::used_up_to(found))),
        };
        (
            opened.segment_bytes,
            opened.segments,
            opened.segments_wanted,
        ) = (segment_bytes, usable, count_wanted);
        opened.frame_bytes_max = wanted.frame_bytes_max();
        if usable < SEGMENTS_MIN {
            found::give_back(dir, found).map_err(io)?;
            return Err(OpenError::NoRoom {
                dir: dir.into(),
                usable,
                segment_bytes,
            });
        }
        if usable < count_wanted {
            tracing::warn!(dir = %dir.display(), usable, count_wanted, "the disk has no room for the whole capacity");
        }
        let dimensions = Dimensions {
            segment_count: usable,
            ..*wanted.dimensions()
        };
        Ok((
            media,
            Geometry::new(dimensions).expect("only the count changed, and it is enough"),
        ))
    }

    fn start(
        dir: PathBuf,
        mut media: FileMedia,
        geometry: Geometry,
        options: &RingOptions,
        now: Micros,
        mut opened: Opened,
        patience: Patience,
    ) -> Result<(Self, Opened), OpenError> {
        let io = |source| OpenError::Io {
            dir: dir.clone(),
            source,
        };
        let fresh = Fresh {
            log_id: options.log_id.map_or_else(drawn, Ok).map_err(io)?,
            now,
            boot: boot(),
        };
        // Several files may have been in doubt; what counts is the one that ends the log.
        let surveyed = survey_patiently(&dir, &patience).map_err(io)?;
        let head = survey::newest(&surveyed).map(|s| s.segment);
        let in_doubt = |s: &&u32| Some(**s) == head;
        let suspect = opened.suspects.iter().find(in_doubt);
        let suspect = suspect.and_then(|number| media.segment_of(*number));
        let how = Options {
            suspect,
            ..Options::new(geometry, options.when_full)
        };
        let scratch_bytes = found::scratch_bytes(&dir, &geometry).map_err(io)?;
        let mut scratch = vec![0; scratch_bytes];
        let mut desk = Desk {
            media: &mut media,
            scratch: &mut scratch,
        };
        desk.media.be_careful(!patience.is_over());
        let result = RingLog::open(&mut desk, how, fresh);
        desk.media.be_careful(false);
        if result.is_err() {
            // A page that could not be written passes for clean, here as in a commit.
            media.mark_sync_failed();
        }
        if let Some(unread) = media.take_unread() {
            unread.try_again_later(&patience).map_err(io)?;
        }
        let (log, recovered) = result.map_err(|e| OpenError::of(&dir, e))?;
        let is_patient = !patience.has_excused();
        patience.end().map_err(io)?;
        if options
            .log_id
            .is_some_and(|expected| expected != log.log_id())
        {
            return Err(OpenError::OtherLog {
                dir,
                found: log.log_id(),
                expected: fresh.log_id,
            });
        }
        if !opened.suspects.is_empty() {
            media::clear_sync_failed(&dir).map_err(io)?;
        }
        (opened.created, opened.ended, opened.unclean) =
            (recovered.formatted, log.is_ended(), !recovered.clean);
        if let Some(lost) = recovered.lost_head {
            let lost = LostHead {
                segment: media.number_of(lost.segment),
                ..lost
            };
            opened.lost_head = Some(lost);
            tracing::error!(dir = %dir.display(), segment = lost.segment, from = %lost.from, records = lost.lost, "the beginning of the newest segment is damaged; what it held is a gap");
            // As long as its offsets are not burned, the frames in it are the only proof that they were given.
            if log.next() == log.view().durable {
                let file = dir.join(file_name(lost.segment));
                opened
                    .set_aside(&dir, &file, "its beginning is damaged")
                    .map_err(io)?;
            }
        }
        Ok((
            Self {
                log,
                media,
                dir,
                scratch: Vec::new(),
                is_patient,
                scratch_bytes,
                opened: None,
                rolled: Instant::now(),
            },
            opened,
        ))
    }

    /// Appends `frames`, which take `span` offsets from [`Ring::next`] on, and syncs. `false`: the log is full and may not evict.
    pub(crate) fn commit(
        &mut self,
        frames: &[u8],
        span: u64,
        checkpoint: &[u8],
        now: Micros,
    ) -> io::Result<bool> {
        let (head, _) = self.log.head();
        let skipped = self.log.ledger().skipped;
        match self.try_commit(frames, span, checkpoint, now) {
            Err(CommitError::NeedsMaintain) if !self.maintain(now)? => return Ok(false),
            Err(CommitError::NeedsMaintain) => self
                .try_commit(frames, span, checkpoint, now)
                .map_err(commit_io)?,
            outcome => outcome.map_err(commit_io)?,
        };
        self.look_at_head(head, skipped, now);
        Ok(true)
    }

    /// The head was `head` before, with so much skipped: if it is another one now, readers are to know of it.
    fn look_at_head(&mut self, head: u32, skipped: u64, now: Micros) {
        self.opened = None;
        if self.log.head().0 != head {
            let number = self.media.number_of(self.log.head().0);
            let seen = survey::look_at(&self.dir, number).ok();
            let seen = seen.and_then(|seen| seen.held());
            self.opened = Some(seen.unwrap_or_else(|| self.as_written(number, skipped, now)));
            self.rolled = Instant::now();
            self.prepare_next();
        }
    }

    /// The head, of which the disk does not give back for a moment what was just written: readers must know of it all the same. What was skipped before it
    /// counts for the lag alone.
    fn as_written(&self, segment: u32, skipped: u64, base_time: Micros) -> Held {
        let (seq, data_start) = self.log.head_begin();
        Held {
            segment,
            seq,
            base: self.log.head_base(),
            base_time,
            skipped,
            data_start,
        }
    }

    fn try_commit(
        &mut self,
        frames: &[u8],
        span: u64,
        checkpoint: &[u8],
        now: Micros,
    ) -> Result<Committed, CommitError<io::Error>> {
        self.at_desk(|log, desk| log.commit(desk, frames, span, checkpoint, now))
    }

    /// Recycles the oldest segment, if that is allowed: it is accounted for, and ready for the next roll. `false`: it is not.
    pub(crate) fn maintain(&mut self, now: Micros) -> io::Result<bool> {
        let mut outcome = Ok(false);
        for _ in 0..self.geometry().segment_count() {
            outcome = match self.at_desk(|log, desk| log.maintain(desk, now)) {
                Ok(Maintained::Ready) => Ok(true),
                Ok(Maintained::Full) => Ok(false),
                // No room for a segment that was never there: the one behind it may do.
                Err(MaintainError::Media(e)) if media::is_full(&e) => continue,
                Err(MaintainError::Media(e)) => Err(e),
                Err(MaintainError::Ledger(e)) => Err(commit_io(e)),
                Err(MaintainError::NoSegment) => Ok(false),
            };
            break;
        }
        // It is large, and wanted again when this segment is full.
        self.scratch = Vec::new();
        outcome
    }

    /// Whether a commit of `bytes` opens the next segment.
    pub(crate) fn would_roll(&self, bytes: usize) -> bool {
        self.log
            .would_roll(u32::try_from(bytes).unwrap_or(u32::MAX))
    }
}

impl Ring {
    /// Writes that this life ends cleanly. Behind the end of a log nothing is written.
    pub(crate) fn close(&mut self, now: Micros) -> io::Result<()> {
        if self.is_ended() {
            return Ok(());
        }
        self.at_desk(|log, desk| log.close(desk, now))
            .map_err(commit_io)
    }

    /// Writes that the log ends here, once. Without room for it, and nothing that may be recycled, a later life has to.
    pub(crate) fn end(&mut self, checkpoint: &[u8], now: Micros) -> io::Result<()> {
        self.opened = None;
        if self.is_ended() {
            return Ok(());
        }
        let (head, _) = self.log.head();
        let skipped = self.log.ledger().skipped;
        for attempt in 0..2 {
            match self.at_desk(|log, desk| log.end(desk, checkpoint, now)) {
                Err(CommitError::NeedsMaintain) if attempt == 0 => drop(self.maintain(now)?),
                Err(CommitError::NeedsMaintain) => return Ok(()),
                outcome => {
                    outcome.map_err(commit_io)?;
                    break;
                }
            }
        }
        self.look_at_head(head, skipped, now);
        Ok(())
    }

    /// Writes the ledger with its cursors. Without room for it in the head, the next open header carries it.
    pub(crate) fn save_ledger(&mut self, now: Micros) -> io::Result<()> {
        match self.at_desk(|log, desk| log.save_ledger(desk, now)) {
            Err(CommitError::NeedsMaintain) => Ok(()),
            saved => saved.map_err(commit_io),
        }
    }

    pub(crate) fn set_cursor(&mut self, uplink: u32, next: Offset) -> Result<(), TooManyCursors> {
        self.log.set_cursor(uplink, next)
    }

    pub(crate) fn pass_cursor(&mut self, uplink: u32, from: Offset, next: Offset, records: u64) {
        self.log.pass_cursor(uplink, from, next, records);
    }

    pub(crate) fn drop_cursor(&mut self, uplink: u32) {
        self.log.drop_cursor(uplink);
    }

    /// Leaves word for the next start that the tail is in doubt.
    pub(crate) fn mark_sync_failed(&self) {
        self.media.mark_sync_failed();
    }

    /// Whether what cannot be read now was read a moment ago: nothing of it is taken for lost yet.
    pub(crate) const fn is_patient(&self) -> bool {
        self.is_patient
    }

    /// What readers need to know, from the disk.
    ///
    /// # Errors
    /// When the disk does not give what it gave to the open.
    pub(crate) fn index(&mut self) -> io::Result<Index> {
        let ledger = self.ledger().clone();
        let surveyed = survey::survey(&self.dir)?;
        // A segment that is not in there is a gap for readers as long as this life lasts.
        if let Some(unread) = survey::unread(&surveyed).filter(|_| self.is_patient) {
            return Err(unread.error());
        }
        let held = survey::held(&surveyed, self.log_id(), ledger.oldest);
        let (durable, head_bytes) = (self.durable(), self.head_bytes());
        let index = Index::new(held, durable, head_bytes, ledger, || self.skipped_in_head());
        let index = index.written_from(self.next());
        Ok(match self.geometry().role() {
            Role::Origin => index.burning(self.geometry().commit_offsets_max()),
            Role::Mirror => index,
        })
    }

    /// Offsets without a record in the head: burned ones, and those of frames that cannot be read.
    fn skipped_in_head(&mut self) -> Vec<Range<Offset>> {
        let mut skipped = Vec::new();
        self.at_desk(|log, desk| {
            log.replay(desk, |found| {
                skipped.push(found.expected..found.frame.header.first);
                if found.frame.gap().is_some() {
                    skipped.push(found.frame.header.first..found.frame.end());
                }
            });
        });
        skipped
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.log.log_id()
    }

    pub(crate) fn geometry(&self) -> Geometry {
        *self.log.geometry()
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        self.log.ledger()
    }

    /// Offsets of a torn commit are still to be burned: the next commit begins with that.
    pub(crate) fn will_burn(&self) -> bool {
        self.log.next() != self.durable()
    }

    /// Where frames are encoded from: burned offsets are passed over.
    pub(crate) fn next(&self) -> Offset {
        self.log.next()
    }

    pub(crate) fn durable(&self) -> Offset {
        self.log.view().durable
    }

    pub(crate) fn head_bytes(&self) -> u32 {
        self.log.head().1
    }

    /// The segment that the last commit opened, if it did.
    pub(crate) fn opened(&self) -> Option<Held> {
        self.opened
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.log.is_ended()
    }

    pub(crate) fn needs_maintain(&self) -> bool {
        self.log.needs_maintain() && !self.is_ended()
    }

    /// Recycles the oldest segment if all in it was committed before `before`; says whether it was so.
    pub(crate) fn expire(&mut self, before: Micros, now: Micros) -> io::Result<bool> {
        if self.is_ended() {
            return Ok(false);
        }
        let expired = self.at_desk(|log, desk| log.expire(desk, before, now));
        self.scratch = Vec::new();
        match expired {
            Ok(expired) => Ok(expired),
            Err(MaintainError::Media(e)) => Err(e),
            Err(MaintainError::Ledger(e)) => Err(commit_io(e)),
            Err(MaintainError::NoSegment) => Ok(false),
        }
    }

    /// happens in the background while the head begins to fill, or for a moment when it does not.
    pub(crate) fn is_time_to_maintain(&self) -> bool {
        let some_used = self.head_bytes() > self.geometry().segment_bytes() / 8;
        self.media.is_prepared() && (some_used || self.rolled.elapsed() > MAINTAIN_DELAY)
    }

    /// The most that one commit takes. A commit that does not fit into the head leaves the rest of it unused.
    pub(crate) fn commit_bytes_max(&self) -> usize {
        let geometry = self.geometry();
        let largest_frame = geometry.frame_bytes_max() as usize + ROLL_MARGIN;
        (geometry.segment_bytes() as usize / 8).max(largest_frame)
    }

    /// What is written to the device, counted on as it goes.
    pub(crate) fn written(&self) -> Arc<Written> {
        self.media.written()
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        let count = media::segments_in(&self.dir).map_or(0, |s| s.len() as u64);
        count * u64::from(self.geometry().segment_bytes())
    }

    /// Gets the segment behind the head into shape while the head fills.
    fn prepare_next(&mut self) {
        let next = (self.log.head().0 + 1) % self.geometry().segment_count();
        self.media.prepare(next);
        self.media.expect_read(next);
    }

    /// Does some work with the log, in the buffer for it.
    fn at_desk<T>(&mut self, work: impl FnOnce(&mut RingLog, &mut Desk<'_, FileMedia>) -> T) -> T {
        if self.scratch.is_empty() {
            self.scratch = vec![0; self.scratch_bytes];
        }
        let mut desk = Desk {
            media: &mut self.media,
            scratch: &mut self.scratch,
        };
        work(&mut self.log, &mut desk)
    }
}

impl OpenError {
    /// In words for an operator, if the disk only lacks the room; what is in the directory is not at fault then.
    #[must_use]
    pub fn want_of_room(&self) -> Option<String> {
        match self {
            Self::NoRoom {
                usable,
                segment_bytes,
                ..
            } => Some(format!(
                "the disk has room for {usable} of the {SEGMENTS_MIN} segments ({segment_bytes} bytes each) that a log needs at least"
            )),
            Self::Io { source, .. } if media::is_full(source) => {
                Some(format!("the disk has no room: {source}"))
            }
            _ => None,
        }
    }

    fn of(dir: &Path, error: log::OpenError<io::Error>) -> Self {
        let dir = dir.to_path_buf();
        match error {
            log::OpenError::Refused(Refusal::NewerVersion { segment, version }) => Self::Newer {
                dir,
                segment,
                version,
            },
            log::OpenError::Media(source) => Self::Io { dir, source },
            other => Self::Io {
                dir,
                source: io::Error::other(other.to_string()),
            },
        }
    }
}

impl Opened {
    fn set_aside(&mut self, dir: &Path, path: &Path, why: &str) -> io::Result<()> {
        let to = set_aside_into(&dir.join(SET_ASIDE), path, why)?;
        self.set_aside.push((to, why.into()));
        Ok(())
    }
}

fn commit_io(error: CommitError<io::Error>) -> io::Error {
    match error {
        CommitError::Media(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

pub(crate) fn drawn() -> io::Result<LogId> {
    let mut bytes = [0; 16];
    world::entropy(&mut bytes)?;
    Ok(LogId::new(bytes))
}

/// The kernel's name for this boot, in short; 0 where it has none.
fn boot() -> u64 {
    if world::is_simulated() {
        return 0;
    }
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u64::from_str_radix(
        &text.replace('-', "").chars().take(16).collect::<String>(),
        16,
    )
    .unwrap_or(0)
}

/// Time for the kernel to read a segment ahead.
const MAINTAIN_DELAY: Duration = Duration::from_millis(200);
/// A RESUME frame and a ledger may come before the frames of a commit.
const ROLL_MARGIN: usize = 1024;
