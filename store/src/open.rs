//! Opening a partition: the ring, what the owner had said, the index for readers, then the thread.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sedge_core::entry::Entry;
use sedge_core::frame::{Control, Frame, Kind};
use sedge_core::segment::{Geometry, Role};
use sedge_core::{LogId, Offset, varint};
use tokio::sync::watch;

use crate::budget::Budget;
use crate::clock::Clock;
use crate::group::{Group, Items, Limits};
use crate::index::{Index, Place};
use crate::inspect;
use crate::media::file_name;
use crate::owner::Owner;
use crate::partition::{Partition, PartitionOptions, Shared};
use crate::queue::{Queue, Ticket};
use crate::read::Reading;
use crate::ring::{OpenError, Opened, Ring, RingOptions};
use crate::stats::Counters;
use crate::survey;
use crate::writer::{LedgerFrames, Writer};

pub(crate) fn open(
    dir: PathBuf,
    options: PartitionOptions,
    mut owner: Box<dyn Owner>,
    clock: Clock,
) -> Result<(Partition, Opened), OpenError> {
    let ring_options = RingOptions {
        budget: Budget::default(),
        role: Role::Origin,
        capacity_bytes: options.capacity_bytes,
        frame_bytes_max: options.frame_bytes_max(),
        when_full: options.when_full,
        log_id: None,
    };
    let (mut ring, mut opened) = match Ring::open(dir.clone(), &ring_options, &mut *owner, clock()) {
        Err(error @ OpenError::NoRoom { .. }) => return read_only(dir, error, &options, clock),
        opened => opened?,
    };
    let (mut index, mut reading) = reading_half(&ring)?;
    restore(&ring, &index, &reading, &mut *owner).map_err(io(&dir))?;
    if let Some(uplinks) = options.shrink_for.as_ref().filter(|_| opened.keeps_more()) {
        let mut checkpoint = Vec::new();
        owner.checkpoint(&mut checkpoint);
        let shrunk;
        (ring, shrunk) = ring.shrink(
            &ring_options,
            opened.segments_wanted,
            uplinks,
            &checkpoint,
            clock(),
        )?;
        if let Some((shrunk, now)) = shrunk {
            opened.shrunk = Some(shrunk);
            opened.segments = now.segments;
        }
        // Whatever became of it, it was written.
        (index, reading) = reading_half(&ring)?;
    }
    let limits = Limits {
        log_id: ring.log_id(),
        frame_bytes_max: ring.geometry().frame_bytes_max() as usize,
        commit_bytes_max: options.staged_bytes_max.min(ring.commit_bytes_max()),
        commit_offsets_max: ring.geometry().commit_offsets_max().into(),
    };
    let queue = Arc::new(Queue::new(limits, options.linger, clock, ring.next()));
    if opened.ended {
        queue.poison();
    }
    let counters = Arc::new(Counters::default());
    counters.set_segments(opened.segments);
    let settled = watch::Sender::new(Ticket::RECOVERED);
    let durable = watch::Sender::new(ring.durable());
    let (log_id, settled_seen, durable_seen) =
        (ring.log_id(), settled.subscribe(), durable.subscribe());
    let group = Group::new(ring.next());
    let writer = Writer {
        ring,
        owner,
        limits,
        queue: queue.clone(),
        index: index.clone(),
        counters: counters.clone(),
        settled,
        durable,
        on_fatal: options.on_fatal,
        group,
        held_back: None,
        checkpoint: Vec::new(),
        ledger: LedgerFrames {
            written: Instant::now(),
            changed: false,
        },
    };
    let thread = std::thread::Builder::new()
        .name("sedge-writer".into())
        .stack_size(WRITER_STACK_BYTES)
        .spawn(move || writer.run())
        .map_err(io(&dir))?;
    let (settled, durable) = (settled_seen, durable_seen);
    let thread = Mutex::new(Some(thread));
    let shared = Shared {
        queue,
        reading,
        index,
        counters,
        log_id,
        settled,
        durable,
        thread,
    };
    Ok((Partition(Arc::new(shared)), opened))
}

/// What readers work with.
fn reading_half(ring: &Ring) -> Result<(Arc<Index>, Reading), OpenError> {
    let dir = ring.dir().to_path_buf();
    let index = Arc::new(ring.index().map_err(io(&dir))?);
    let reading = Reading::new(dir, ring.geometry(), ring.log_id(), index.clone());
    Ok((index, reading))
}

/// A partition that takes nothing, because its log cannot be written: what is there is read all the same.
fn read_only(
    dir: PathBuf,
    why: OpenError,
    options: &PartitionOptions,
    clock: Clock,
) -> Result<(Partition, Opened), OpenError> {
    let Some((index, geometry, log_id)) = look(&dir).map_err(io(&dir))? else {
        return Err(why);
    };
    tracing::error!(error = %why, "nothing is taken, reading goes on");
    let next = index.durable();
    let index = Arc::new(index);
    let reading = Reading::new(dir, geometry, log_id, index.clone());
    let limits = Limits {
        log_id,
        frame_bytes_max: 0,
        commit_bytes_max: 0,
        commit_offsets_max: 0,
    };
    let queue = Arc::new(Queue::new(limits, options.linger, clock, next));
    queue.poison();
    let shared = Shared {
        queue,
        reading,
        index,
        counters: Arc::new(Counters::default()),
        log_id,
        settled: watch::Sender::new(Ticket::RECOVERED).subscribe(),
        durable: watch::Sender::new(next).subscribe(),
        thread: Mutex::new(None),
    };
    let opened = Opened {
        intake_refused: Some(why.to_string()),
        ..Opened::default()
    };
    Ok((Partition(Arc::new(shared)), opened))
}

/// What a reader needs to know of a log that has no writer; `None` if there is no log.
fn look(dir: &Path) -> std::io::Result<Option<(Index, Geometry, LogId)>> {
    let surveyed = survey::survey(dir)?;
    let newest = survey::newest(&surveyed);
    let Some((head, header, geometry)) =
        newest.and_then(|s| Some((s, s.header.as_ref()?, survey::geometry_of(&surveyed)?)))
    else {
        return Ok(None);
    };
    // What is shown survives a power cut, here as everywhere.
    File::open(dir.join(file_name(head.segment)))?.sync_data()?;
    let ledger = inspect::ledger_of(dir, head.segment, header, geometry)?;
    let end = inspect::walk(dir, head.segment, header, geometry, None, |_| {})?;
    let held = survey::held(&surveyed, header.log_id, ledger.oldest);
    Ok(Some((
        Index::new(held, end.expected, end.position, ledger),
        geometry,
        header.log_id,
    )))
}

fn io(dir: &Path) -> impl Fn(std::io::Error) -> OpenError {
    move |source| OpenError::Io {
        dir: dir.into(),
        source,
    }
}

/// Tells the owner what it had said: the checkpoint of the head, then all that stands behind it.
fn restore(
    ring: &Ring,
    index: &Index,
    reading: &Reading,
    owner: &mut dyn Owner,
) -> std::io::Result<()> {
    let Some(head) = index.held().last().copied() else {
        return Ok(());
    };
    let header = survey::look_at(ring.dir(), head.segment)?.header;
    owner.restore(&header.map(|h| h.checkpoint).unwrap_or_default());
    let end = ring.head_bytes();
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
    reading.walk(&all, |at| {
        if at.end_position > end {
            return false;
        }
        tell(&at.frame, owner);
        at.end_position < end
    })
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

/// The writer's thread holds nothing large on its stack.
const WRITER_STACK_BYTES: usize = 256 << 10;
