//! A mirrored log: an origin's frames, kept byte for byte at the offsets they had there.
//!
//! It has no thread: who appends waits for the disk. Nothing is ever burned here; what a crash takes, the sender fills again.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::watch;
use sedge_core::frame::{self, EXPLICIT_HEADER_LEN, Form, Frame, Kind, Label};
use sedge_core::ledger::Ledger;
use sedge_core::log::WhenFull;
use sedge_core::segment::Role;
use sedge_core::{Gap, LogId, Micros, Offset};
use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::clock::{Beginning, Clock};
use crate::durable_file::{read_toml, write_toml};
use crate::index::Index;
use crate::owner::NoOwner;
use crate::read::{Chunk, ReadError, Reading};
use crate::ring::{self, OpenError, Opened, Ring, RingOptions};

/// A log's copy. Cheap to clone, and usable from any thread; appends take turns.
#[derive(Clone)]
pub struct Mirror(Arc<Shared>);

struct Shared {
    writing: Mutex<Writing>,
    reading: Reading,
    index: Arc<Index>,
    log_id: LogId,
    durable: watch::Sender<Offset>,
    clock: Clock,
    /// What the uptimes are that stand in the log for times, as far as it has told.
    beginnings: Mutex<Beginnings>,
}

/// `beginnings.toml`: written before the frames that tell it are, which may be gone before those that need it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Beginnings {
    #[serde(default, rename = "beginning")]
    known: Vec<Beginning>,
}

struct Writing {
    ring: Ring,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed,
}

/// How a mirror is to be.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    /// The most it takes on the disk; allocated segment by segment.
    pub capacity_bytes: u64,
    /// What gives way when that is full: the oldest records, or the acknowledgements.
    pub when_full: WhenFull,
    /// The largest frame it takes.
    pub frame_bytes_max: u32,
    /// What its segments are taken from, with those of other mirrors.
    pub budget: Budget,
}

impl Default for MirrorOptions {
    fn default() -> Self {
        Self {
            capacity_bytes: 1 << 30,
            when_full: WhenFull::EvictOldest,
            frame_bytes_max: (1 << 20) - 512,
            budget: Budget::default(),
        }
    }
}

impl MirrorOptions {
    /// The smallest [`capacity_bytes`](Self::capacity_bytes) with which a new mirror takes a frame of `frame_bytes`, up to
    /// [`frame_bytes_max`](Self::frame_bytes_max). The segments of one that is there stay as they are.
    #[must_use]
    pub fn capacity_for(frame_bytes: usize) -> u64 {
        ring::capacity_for(frame_bytes as u64)
    }
}

impl Mirror {
    /// Opens the copy of the log `log_id` in `dir`, or begins one there. What it says is durable when this returns.
    ///
    /// # Errors
    /// When the directory cannot be used, or holds another log.
    pub fn open(
        dir: impl Into<PathBuf>,
        log_id: LogId,
        options: MirrorOptions,
        clock: Clock,
    ) -> Result<(Self, Opened), OpenError> {
        let ring_options = RingOptions {
            budget: options.budget,
            role: Role::Mirror,
            capacity_bytes: options.capacity_bytes,
            frame_bytes_max: options.frame_bytes_max,
            when_full: options.when_full,
            log_id: Some(log_id),
        };
        let (mut ring, opened) = Ring::open(dir.into(), &ring_options, &mut NoOwner, clock())?;
        if ring.ledger().cursor(READERS).is_none() {
            ring.set_cursor(READERS, Offset::ZERO)
                .map_err(|e| OpenError::Io {
                    dir: ring.dir().into(),
                    source: io::Error::other(e),
                })?;
        }
        let index = ring.index().map_err(|source| OpenError::Io {
            dir: ring.dir().into(),
            source,
        })?;
        let index = Arc::new(index);
        // Whatever has become of the file, it says nothing that the records need to be read.
        let beginnings = read_toml(&ring.dir().join(BEGINNINGS)).unwrap_or_default();
        let reading = Reading::new(ring.dir().into(), ring.geometry(), log_id, index.clone());
        let durable = watch::Sender::new(ring.next());
        let state = if opened.ended {
            State::Ended
        } else {
            State::Open
        };
        let writing = Mutex::new(Writing { ring, state });
        Ok((
            Self(Arc::new(Shared {
                writing,
                reading,
                index,
                log_id,
                durable,
                clock,
                beginnings: Mutex::new(beginnings),
            })),
            opened,
        ))
    }

    /// Appends whole data and gap frames, the first of them at [`Mirror::next`], and returns the offset behind them when they are
    /// durable. Blocks for the disk.
    ///
    /// # Errors
    /// Nothing was taken, or (after [`AppendError::Io`]) nothing more will be. Of [`AppendError::TooLarge`] what stands before that frame was taken.
    pub fn append(&self, frames: &[u8]) -> Result<Offset, AppendError> {
        let mut writing = self.writing(false)?;
        let limits = SizeLimits {
            frame: writing.ring.geometry().frame_bytes_max() as usize,
            commit: writing.ring.commit_bytes_max(),
        };
        let Split {
            parts,
            told,
            too_large,
        } = split(frames, &self.0.log_id, writing.ring.next(), &limits)?;
        self.remember(writing.ring.dir(), &told);
        for part in parts {
            let bytes = &frames[part.bytes];
            self.commit(&mut writing, bytes, part.span)?;
        }
        too_large.map_or_else(|| Ok(writing.ring.next()), Err)
    }

    /// Appends a gap that the sender told of; it begins at [`Mirror::next`].
    ///
    /// # Errors
    /// As [`Mirror::append`].
    pub fn append_gap(&self, gap: &Gap) -> Result<Offset, AppendError> {
        let mut writing = self.writing(false)?;
        let expected = writing.ring.next();
        if gap.from != expected || gap.span() == 0 {
            return Err(AppendError::OutOfPlace {
                expected,
                found: gap.from,
            });
        }
        let mut frame = [0; GAP_FRAME_BYTES_MAX];
        let label = self.label(gap.from);
        let len = frame::emit_gap(&mut frame, &self.0.log_id, label, gap)
            .expect("the largest gap frame fits");
        self.commit(&mut writing, &frame[..len], gap.span())?;
        Ok(writing.ring.next())
    }

    /// Writes that the origin closed this log at [`Mirror::next`]: nothing will follow. Once is enough.
    ///
    /// # Errors
    /// As [`Mirror::append`].
    pub fn end(&self) -> Result<(), AppendError> {
        let mut writing = match self.writing(false) {
            Err(AppendError::Ended) => return Ok(()),
            writing => writing?,
        };
        writing
            .ring
            .end(&[], (self.0.clock)())
            .map_err(|e| self.fail(&mut writing, e))?;
        writing.state = State::Ended;
        Ok(())
    }

    /// Lets go of the oldest segments if everything in them arrived before `before`; says whether any went. The head stays. The files of
    /// a log that has ended go with their records.
    ///
    /// # Errors
    /// As [`Mirror::append`].
    pub fn expire(&self, before: Micros) -> Result<bool, AppendError> {
        let mut writing = self.writing(true)?;
        if writing.state == State::Failed {
            return Err(AppendError::Failed);
        }
        if writing.state == State::Ended {
            let expired = self.expire_ended(&mut writing.ring, before);
            return expired.map_err(|e| self.fail(&mut writing, e));
        }
        let mut any = false;
        loop {
            match writing.ring.expire(before, (self.0.clock)()) {
                Ok(true) => any = true,
                Ok(false) => return Ok(any),
                Err(e) => return Err(self.fail(&mut writing, e)),
            }
            self.recycled(&writing.ring);
        }
    }

    /// Readers let go of the segments before their files go.
    fn expire_ended(&self, ring: &mut Ring, before: Micros) -> io::Result<bool> {
        let expired = ring.expire_ended(before, (self.0.clock)())?;
        self.recycled(ring);
        let removed = ring.take_away(expired)? > 0;
        if removed {
            self.0.reading.let_go();
        }
        Ok(removed)
    }

    /// What the uptimes are that stand in the log for times, as far as it has told.
    pub fn beginnings(&self) -> Vec<Beginning> {
        self.beginnings_known().known.clone()
    }

    /// Best effort: without it times are unknown, and nothing else is lost.
    fn remember(&self, dir: &Path, told: &[Beginning]) {
        let mut beginnings = self.beginnings_known();
        if told
            .iter()
            .all(|beginning| beginnings.known.contains(beginning))
        {
            return;
        }
        for beginning in told {
            beginnings
                .known
                .retain(|known| known.start != beginning.start);
            beginnings.known.push(*beginning);
        }
        let extra = beginnings.known.len().saturating_sub(BEGINNINGS_MAX);
        beginnings.known.drain(..extra);
        if let Err(error) = write_toml(&dir.join(BEGINNINGS), &*beginnings) {
            tracing::warn!(dir = %dir.display(), %error, "it cannot be kept when the gateway started");
        }
    }

    fn beginnings_known(&self) -> MutexGuard<'_, Beginnings> {
        self.0
            .beginnings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the origin closed this log and all of it is here.
    pub fn is_ended(&self) -> bool {
        matches!(self.writing(false), Err(AppendError::Ended))
    }

    /// Whether its disk failed, so that nothing more is taken until it is opened again. Does not wait for a commit that is under way.
    pub fn has_failed(&self) -> bool {
        let writing = self.0.writing.try_lock();
        writing.is_ok_and(|writing| writing.state == State::Failed)
    }

    /// The offset behind what is durable: what the origin is asked for next.
    pub fn next(&self) -> Offset {
        self.0.index.durable()
    }

    /// The first offset that is held.
    pub fn oldest(&self) -> Offset {
        self.0.index.oldest()
    }

    /// The log's id.
    pub fn log_id(&self) -> LogId {
        self.0.log_id
    }

    /// Rises with each append.
    pub fn durable(&self) -> watch::Receiver<Offset> {
        self.0.durable.subscribe()
    }

    /// Where every offset that is no longer held has gone.
    pub fn ledger(&self) -> Ledger {
        self.0.index.ledger()
    }

    /// Bytes it takes on the disk.
    pub fn disk_bytes(&self) -> u64 {
        self.writing(true).map_or(0, |w| w.ring.disk_bytes())
    }

    /// As [`Partition::read`](crate::Partition::read).
    ///
    /// # Errors
    /// When `from` is not durable yet, or the file system refuses.
    pub fn read(&self, from: Offset, bytes_max: usize) -> Result<Chunk, ReadError> {
        self.0.reading.read(from, bytes_max)
    }

    /// As [`Partition::offset_for_time`](crate::Partition::offset_for_time).
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn offset_for_time(&self, time: Micros) -> Result<Offset, ReadError> {
        self.0.reading.offset_for_time(time)
    }

    /// The same for each of `times`, which are in their order, for less than as many calls. Between two segments it looks whether that `is_asked` still.
    ///
    /// # Errors
    /// When the file system refuses, or it is not.
    pub fn offsets_for_times(
        &self,
        times: &[Micros],
        is_asked: &dyn Fn() -> bool,
    ) -> Result<Vec<Offset>, ReadError> {
        self.0.reading.offsets_for_times(times, is_asked)
    }

    /// As [`Partition::crc_below`](crate::Partition::crc_below), and what a gap of burned offsets has there: an origin that has a record there has another history.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn crc_below(&self, next: Offset) -> Result<Option<u32>, ReadError> {
        self.0.reading.fingerprint(next)
    }

    fn commit(&self, writing: &mut Writing, frames: &[u8], span: u64) -> Result<(), AppendError> {
        match writing.ring.commit(frames, span, &[], (self.0.clock)()) {
            Ok(true) => {}
            Ok(false) => return Err(AppendError::Full),
            Err(e) => return Err(self.fail(writing, e)),
        }
        self.0.index.committed(
            writing.ring.next(),
            writing.ring.head_bytes(),
            writing.ring.opened(),
            writing.ring.ledger(),
        );
        self.0.durable.send_replace(writing.ring.next());
        self.maintain(writing)
    }

    fn maintain(&self, writing: &mut Writing) -> Result<(), AppendError> {
        if !writing.ring.needs_maintain() || !writing.ring.is_time_to_maintain() {
            return Ok(());
        }
        match writing.ring.maintain((self.0.clock)()) {
            Ok(_) => {
                self.recycled(&writing.ring);
                Ok(())
            }
            Err(e) => Err(self.fail(writing, e)),
        }
    }

    fn recycled(&self, ring: &Ring) {
        self.0
            .index
            .recycled(ring.durable(), ring.head_bytes(), ring.ledger());
    }

    fn fail(&self, writing: &mut Writing, error: io::Error) -> AppendError {
        writing.state = State::Failed;
        writing.ring.mark_sync_failed();
        AppendError::Io(error)
    }

    fn writing(&self, even_closed: bool) -> Result<MutexGuard<'_, Writing>, AppendError> {
        let writing = self.0.writing.lock().expect("no holder panics");
        match writing.state {
            _ if even_closed => Ok(writing),
            State::Open => Ok(writing),
            State::Ended => Err(AppendError::Ended),
            State::Failed => Err(AppendError::Failed),
        }
    }

    fn label(&self, first: Offset) -> Label {
        Label {
            form: Form::Explicit,
            first,
            time: (self.0.clock)(),
            first_of_commit: false,
        }
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("log_id", &self.0.log_id)
            .field("next", &self.next())
            .finish_non_exhaustive()
    }
}

/// Why frames were not taken.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// They do not begin where the mirror ends, or have a hole.
    #[error("expected offset {expected}, found {found}")]
    OutOfPlace {
        /// Where the mirror ends.
        expected: Offset,
        /// What came.
        found: Offset,
    },
    /// They are not whole, valid data and gap frames of this log.
    #[error("not a frame of this log, behind offset {expected}")]
    Corrupt {
        /// The offset that should have come.
        expected: Offset,
    },
    /// A frame is larger than this mirror's segments were made for.
    #[error("a frame of {bytes} bytes, this mirror takes {bytes_max}")]
    TooLarge {
        /// What the frame has.
        bytes: usize,
        /// What it may have.
        bytes_max: usize,
    },
    /// The mirror is full and may not evict.
    #[error("the mirror is full")]
    Full,
    /// The origin closed this log.
    #[error("the log is closed")]
    Ended,
    /// The disk failed earlier.
    #[error("the disk failed")]
    Failed,
    /// The disk fails now; nothing was acknowledged and nothing will be.
    #[error("writing the mirror: {0}")]
    Io(#[from] io::Error),
}

/// A part of what was given that one commit takes.
struct Part {
    bytes: std::ops::Range<usize>,
    span: u64,
}

/// Bytes that a frame and a commit may have.
struct SizeLimits {
    frame: usize,
    commit: usize,
}

/// What was given, as far as it can be taken.
#[derive(Default)]
struct Split {
    parts: Vec<Part>,
    /// What it tells of the origin's starts.
    told: Vec<Beginning>,
    /// Behind `parts` stands a frame that no commit takes.
    too_large: Option<AppendError>,
}

/// Checks that `frames` continue the log at `next` and cuts them into commits.
fn split(
    frames: &[u8],
    log_id: &LogId,
    next: Offset,
    limits: &SizeLimits,
) -> Result<Split, AppendError> {
    let mut split = Split::default();
    let (mut at, mut expected) = (0, next);
    while at < frames.len() {
        let (frame, len) = Frame::parse(&frames[at..], log_id, None)
            .map_err(|_| AppendError::Corrupt { expected })?;
        if frame.header.kind == Kind::Control {
            return Err(AppendError::Corrupt { expected });
        }
        if len > limits.frame {
            split.too_large = Some(AppendError::TooLarge {
                bytes: len,
                bytes_max: limits.frame,
            });
            break;
        }
        split.told.extend(Beginning::told_in(frame.annotation()));
        if frame.header.first != expected {
            return Err(AppendError::OutOfPlace {
                expected,
                found: frame.header.first,
            });
        }
        match split.parts.last_mut() {
            Some(part) if part.bytes.len() + len <= limits.commit => {
                part.bytes.end += len;
                part.span += frame.span();
            }
            _ => split.parts.push(Part {
                bytes: at..at + len,
                span: frame.span(),
            }),
        }
        at += len;
        expected = frame.end();
    }
    Ok(split)
}

/// Stands at the beginning for ever, and so counts what every reader may have missed: records, and what gaps told that nobody can read any more.
const READERS: u32 = 0;
/// In a mirror's directory.
pub(crate) const BEGINNINGS: &str = "beginnings.toml";
/// Starts that a log knows the beginning of; a gateway has several hundred starts in its life, and few without the time.
const BEGINNINGS_MAX: usize = 64;
/// A header and five fields of at most ten bytes.
const GAP_FRAME_BYTES_MAX: usize = EXPLICIT_HEADER_LEN + 5 * 10;
