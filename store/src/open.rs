//! Opening a partition: the ring, what the owner had said, the index for readers, then the thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::watch;
use sedge_core::entry::Entry;
use sedge_core::frame::{Control, Frame, Kind};
use sedge_core::ledger::Ledger;
use sedge_core::segment::{Geometry, Role};
use sedge_core::{LogId, Micros, Offset, varint};
use tokio::time::Instant;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::disk::File;
use crate::frames;
use crate::group::{Group, Items, Limits};
use crate::identity::is_unreadable;
use crate::index::{Index, Place};
use crate::media::{UNREADABLE, file_name};
use crate::owner::{NoOwner, Owner};
use crate::partition::{Partition, PartitionOptions, Shared};
use crate::patience::Patience;
use crate::pulse::Pulse;
use crate::queue::{Begin, Queue, Ticket};
use crate::read::Reading;
use crate::ring::{self, OpenError, Opened, Ring, RingOptions};
use crate::stats::Counters;
use crate::survey;
use crate::unsent::Unsent;
use crate::work::{Job, Worker};
use crate::writer::{LedgerFrames, Retention, Writer};

pub(crate) fn open(
    dir: PathBuf,
    options: PartitionOptions,
    mut owner: Box<dyn Owner>,
    clock: Clock,
) -> Result<(Partition, Opened), OpenError> {
    let opening = clock();
    let mut ring_options = RingOptions {
        budget: Budget::default(),
        role: Role::Origin,
        capacity_bytes: options.capacity_bytes,
        frame_bytes_max: options.frame_bytes_max(),
        when_full: options.when_full,
        log_id: None,
    };
    let (mut ring, mut opened) = match Ring::open(dir.clone(), &ring_options, &mut *owner, opening)
    {
        Ok((ring, opened)) => (Some(ring), opened),
        Err(error) => (None, without_room(error)?),
    };
    let shrink_for = options
        .shrink_for
        .as_deref()
        .filter(|_| opened.keeps_more());
    if let (Some(uplinks), Some(too_large)) = (shrink_for, ring.take_if(|_| shrink_for.is_some())) {
        let now = clock();
        ring = Some(shrunk(
            too_large,
            &ring_options,
            uplinks,
            &mut *owner,
            &mut opened,
            now,
        )?);
    }
    let seen = match &mut ring {
        Some(ring) => Seen::of(ring).map_err(io(&dir))?,
        None => Seen::without_ring(&dir, &ring_options, opening)?,
    };
    let made = ring.is_some() || !seen.index.held().is_empty();
    let unsent = Arc::new(Unsent::of(&dir, seen.log_id));
    let index = Arc::new(seen.index.unsent_from(unsent.known()));
    let reading = Reading::new(dir.clone(), seen.geometry, seen.log_id, index.clone());
    match restore(&dir, &index, &reading, &mut *owner, seen.is_patient) {
        // An open that had no room has not gone through all of it, and counted nothing.
        Err(e) if ring.is_none() && is_unreadable(&e) => {
            let patience = Patience::with(dir.join(UNREADABLE), opening);
            patience.try_again_later("the log", &e).map_err(io(&dir))?;
            restore(&dir, &index, &reading, &mut *owner, false)
        }
        restored => restored,
    }
    .map_err(io(&dir))?;
    ring_options.log_id = Some(seen.log_id);
    let queue = Queue::new(options.pace(), clock).with_time(options.time.clone());
    let queue = Arc::new(queue);
    let settled = watch::Sender::new(Ticket::RECOVERED);
    let durable = watch::Sender::new(index.durable());
    let (settled_seen, durable_seen) = (settled.subscribe(), durable.subscribe());
    let outfit = Outfit {
        dir: dir.clone(),
        ring_options,
        options,
        owner,
        queue: queue.clone(),
        index: index.clone(),
        unsent: unsent.clone(),
        counters: Arc::default(),
        settled,
        durable,
        pulse: Pulse::new(),
    };
    let pulse = outfit.pulse.clone();
    let counters = Arc::clone(&outfit.counters);
    if let Some(why) = &opened.intake_refused {
        queue.refuse(why);
    }
    let job = match ring {
        Some(ring) => Job::Write(Box::new(outfit.writer(ring, opened.ended))),
        None => Job::WaitForRoom(Box::new(outfit.and_wait())),
    };
    let shared = Shared {
        reading,
        index,
        unsent,
        counters,
        log_id: seen.log_id,
        made,
        settled: settled_seen,
        durable: durable_seen,
        pulse,
        worker: Worker::start(job, queue.clone()).map_err(io(&dir))?,
        queue,
    };
    Ok((Partition(Arc::new(shared)), opened))
}

/// The log, made as small as its capacity, if it can be.
fn shrunk(
    mut ring: Ring,
    options: &RingOptions,
    uplinks: &[u32],
    owner: &mut dyn Owner,
    opened: &mut Opened,
    now: Micros,
) -> Result<Ring, OpenError> {
    let dir = ring.dir().to_path_buf();
    let seen = Seen::of(&mut ring).map_err(io(&dir))?;
    let index = Arc::new(seen.index);
    let reading = Reading::new(dir.clone(), seen.geometry, seen.log_id, index.clone());
    restore(&dir, &index, &reading, owner, seen.is_patient).map_err(io(&dir))?;
    let mut checkpoint = Vec::new();
    owner.checkpoint(&mut checkpoint, seen.geometry.checkpoint_bytes_max());
    let (ring, shrunk) = ring.shrink(options, opened.segments_wanted, uplinks, &checkpoint, now)?;
    if let Some((shrunk, now)) = shrunk {
        opened.shrunk = Some(shrunk);
        opened.segments = now.segments;
    }
    Ok(ring)
}

/// What there is to say of an opening that failed for want of room alone: what is there is read all the same.
fn without_room(error: OpenError) -> Result<Opened, OpenError> {
    match error.want_of_room() {
        Some(why) => Ok(Opened {
            intake_refused: Some(why),
            ..Opened::default()
        }),
        None => Err(error),
    }
}

/// All that a writer needs beside the log itself.
pub(crate) struct Outfit {
    dir: PathBuf,
    ring_options: RingOptions,
    options: PartitionOptions,
    owner: Box<dyn Owner>,
    queue: Arc<Queue>,
    index: Arc<Index>,
    unsent: Arc<Unsent>,
    counters: Arc<Counters>,
    settled: watch::Sender<Ticket>,
    durable: watch::Sender<Offset>,
    pulse: Pulse,
}

impl Outfit {
    /// A writer of `ring`; from now on the queue takes what is staged.
    fn writer(self, ring: Ring, ended: bool) -> Writer {
        let limits = Limits {
            log_id: ring.log_id(),
            frame_bytes_max: ring.geometry().frame_bytes_max() as usize,
            commit_bytes_max: self.options.staged_bytes_max.min(ring.commit_bytes_max()),
            commit_offsets_max: ring.geometry().commit_offsets_max().into(),
        };
        self.counters.set_segments(ring.geometry().segment_count());
        if ended {
            self.index.ended();
            self.queue.poison();
        }
        self.queue.begin(limits, ring.next());
        self.counters.set_written(ring.written());
        let purse = self.options.write_budget.clone();
        let retention = Retention::of(&self.options);
        Writer {
            group: Group::new(ring.next()),
            ring,
            owner: self.owner,
            limits,
            queue: self.queue,
            index: self.index,
            unsent: self.unsent,
            counters: self.counters,
            settled: self.settled,
            durable: self.durable,
            pulse: self.pulse,
            on_fatal: self.options.on_fatal,
            held_back: None,
            in_vain: false,
            checkpoint: Vec::new(),
            ledger: LedgerFrames {
                written: Instant::now(),
                changed: false,
            },
            retention,
            purse,
            paid: 0,
            until: None,
        }
    }

    /// Waits for room on the disk.
    fn and_wait(self) -> Waiting {
        Waiting {
            outfit: self,
            pause: TRY_AGAIN_FIRST,
            until: Instant::now() + TRY_AGAIN_FIRST,
        }
    }

    fn try_again(&self) -> Result<(Ring, bool), OpenError> {
        let now = self.queue.now();
        // What could be mended was mended the first time.
        let (mut ring, opened) =
            Ring::open(self.dir.clone(), &self.ring_options, &mut NoOwner, now)?;
        let index = ring.index().map_err(io(&self.dir))?;
        self.index.opened(index.unsent_from(self.unsent.known()));
        self.durable.send_replace(ring.durable());
        Ok((ring, opened.ended))
    }
}

/// A writer whose log has no room on the disk yet.
pub(crate) struct Waiting {
    outfit: Outfit,
    pause: Duration,
    until: Instant,
}

/// What came of a look at the disk.
pub(crate) enum Looked {
    /// There is room: the log can be written.
    Begun(Box<Writer>),
    /// There is none.
    Still(Box<Waiting>),
    /// As [`Work::Later`](crate::queue::Work).
    Later(Box<Waiting>, Instant),
    /// It was told to stop.
    Stopped,
}

impl Waiting {
    /// Waits for its time and tries again, ever more seldom.
    pub(crate) fn look(mut self) -> Looked {
        self.outfit.pulse.next_by(self.until);
        match self.outfit.queue.wait_to_begin(self.until) {
            Begin::Try => self.outfit.pulse.works(),
            Begin::Stop => {
                self.outfit.pulse.rest();
                return Looked::Stopped;
            }
            Begin::Later(at) => return Looked::Later(Box::new(self), at),
        }
        self.pause = (self.pause * 2).min(TRY_AGAIN_MOST);
        self.until = Instant::now() + self.pause;
        match self.outfit.try_again() {
            Ok((ring, ended)) => Looked::Begun(Box::new(self.outfit.writer(ring, ended))),
            Err(error) => {
                let why = error.want_of_room();
                let why = why.unwrap_or_else(|| error.to_string());
                self.outfit.queue.refuse(&why);
                Looked::Still(Box::new(self))
            }
        }
    }
}

/// What readers begin with.
struct Seen {
    index: Index,
    geometry: Geometry,
    log_id: LogId,
    /// Whether nothing of it was taken for lost because it could not be read.
    is_patient: bool,
}

impl Seen {
    fn of(ring: &mut Ring) -> std::io::Result<Self> {
        Ok(Self {
            index: ring.index()?,
            geometry: ring.geometry(),
            log_id: ring.log_id(),
            is_patient: ring.is_patient(),
        })
    }

    /// The log that is there, or the one that is to be made.
    fn without_ring(dir: &Path, options: &RingOptions, now: Micros) -> Result<Self, OpenError> {
        // What will be written when there is room is read with the same dimensions.
        let geometry = ring::geometry_to_be(dir, options)?;
        let patience = Patience::with(dir.join(UNREADABLE), now);
        if let Some(seen) = look(dir, &patience).map_err(io(dir))? {
            return Ok(Self { geometry, ..seen });
        }
        let ledger = Ledger::starting_at(Offset::ZERO);
        Ok(Self {
            index: Index::new(Vec::new(), Offset::ZERO, 0, ledger, Vec::new),
            geometry,
            log_id: ring::drawn().map_err(io(dir))?,
            is_patient: true,
        })
    }
}

/// What a reader needs to know of a log that has no writer; `None` if there is no log.
fn look(dir: &Path, patience: &Patience) -> std::io::Result<Option<Seen>> {
    let surveyed = match ring::survey_patiently(dir, patience) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        surveyed => surveyed?,
    };
    let newest = survey::newest(&surveyed);
    let Some((head, header, geometry)) =
        newest.and_then(|s| Some((s, s.header.as_ref()?, survey::geometry_of(&surveyed)?)))
    else {
        return Ok(None);
    };
    // What is shown survives a power cut, here as everywhere.
    File::open(dir.join(file_name(head.segment)))?.sync_data()?;
    let ledger = frames::ledger_of(dir, head.segment, header, geometry)?;
    let end = frames::walk(dir, head.segment, header, geometry, None, |_| {})?;
    let held = survey::held(&surveyed, header.log_id, ledger.oldest);
    Ok(Some(Seen {
        // Nobody recycles it.
        index: Index::new(held, end.expected, end.position, ledger, Vec::new),
        geometry,
        log_id: header.log_id,
        is_patient: !patience.has_excused(),
    }))
}

fn io(dir: &Path) -> impl Fn(std::io::Error) -> OpenError {
    move |source| OpenError::Io {
        dir: dir.into(),
        source,
    }
}

/// Tells the owner what it had said: the checkpoint of the head, then all that stands behind it.
///
/// # Errors
/// When the disk does not give all of that, unless it `is_patient` no more: what is not told is forgotten.
fn restore(
    dir: &Path,
    index: &Index,
    reading: &Reading,
    owner: &mut dyn Owner,
    is_patient: bool,
) -> std::io::Result<()> {
    let Some(head) = index.held().last().copied() else {
        return Ok(());
    };
    let seen = survey::look_at(dir, head.segment)?;
    if let Some(unread) = seen.unread.filter(|_| is_patient) {
        return Err(unread.error());
    }
    owner.restore(&seen.header.map(|h| h.checkpoint).unwrap_or_default());
    let end = index.head_bytes();
    if end <= head.data_start {
        return Ok(());
    }
    let all = Place {
        held: head,
        position: head.data_start,
        first: head.base,
        limit: Offset::new(u64::MAX),
        bytes: end,
    };
    let is_whole = reading.walk(&all, |at| {
        if at.end_position > end {
            return false;
        }
        tell(&at.frame, owner);
        at.end_position < end
    })?;
    match is_whole || !is_patient {
        true => Ok(()),
        false => Err(rustix::io::Errno::IO.into()),
    }
}

/// Tells the owner what a frame says that an earlier life wrote.
pub(crate) fn tell(frame: &Frame<'_>, owner: &mut dyn Owner) {
    if let Some(Control::Owner(item)) = frame.control() {
        owner.note(item);
    }
    if frame.header.kind == Kind::Data {
        tell_units(frame, owner);
    }
}

fn tell_units(frame: &Frame<'_>, owner: &mut dyn Owner) {
    let annotation = frame.annotation();
    let before = if frame.header.annotated {
        varint::encoded_len(annotation.len() as u64)
    } else {
        0
    };
    let mut rest = &frame.payload[before + annotation.len()..];
    let mut first = frame.header.first;
    for (count, item) in Items::new(annotation) {
        let mut len = 0;
        for _ in 0..count {
            // The frame passed its check; only a faulty writer can have put something else there.
            let Some((_, entry_len)) = Entry::decode(&rest[len..]) else {
                return;
            };
            len += entry_len;
        }
        if !item.is_empty() {
            owner.apply(item, &rest[..len], first, Ticket::RECOVERED);
        }
        rest = &rest[len..];
        first = first + count;
    }
}

/// A disk without room is asked again after this long at first …
const TRY_AGAIN_FIRST: Duration = Duration::from_secs(1);
/// … and no more often than this in the end: each time may cost it some small writes.
const TRY_AGAIN_MOST: Duration = Duration::from_secs(30);
