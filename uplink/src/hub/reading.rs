//! Reading, for whoever asks by whatever door: what may be read, whole frames of many partitions, waiting for what is not there yet.
//!
//! Only what is durable is read.

use std::sync::Arc;

use sedge_core::Micros;
use sedge_store::{READ_AGAIN_AFTER, ReadError, world};
use tokio::time::Instant;

use super::Shared;
use super::guard::Streams;
use super::library::Library;
use super::partition::{Part, Partition};
use super::status::Counters;
use crate::wire::{self, Place, Want};

/// What somebody may read.
#[derive(Clone)]
pub(super) struct Reading {
    library: Arc<Library>,
    counters: Arc<Counters>,
    streams: Streams,
}

/// Why nothing is read.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRead {
    /// The stream is not for this reader.
    #[error("this stream is not among those that you may read")]
    NotAllowed,
    /// There is no such partition.
    #[error("{stream} has no partition {number}")]
    Unknown { stream: String, number: u32 },
    /// There is more, and the disk does not give it.
    #[error("what follows cannot be read from the disk at the moment: ask again")]
    Unread,
    /// The disk, or the end of the hub.
    #[error("{0}")]
    Internal(String),
}

/// A partition and what is wanted of it.
pub(super) type Wanted = (Arc<Partition>, Want);

/// What there was.
pub(super) struct Read {
    /// The mark of the runs that the stream has.
    pub(super) runs: u32,
    pub(super) parts: Vec<Part>,
}

impl Reading {
    /// At a hub.
    pub(super) fn new(shared: &Shared, streams: Streams) -> Self {
        Self::of(shared.registry.library(), &shared.counters, streams)
    }

    /// Of `streams` in `library`; `counters` hear what is served.
    pub(super) fn of(library: &Arc<Library>, counters: &Arc<Counters>, streams: Streams) -> Self {
        Self {
            library: Arc::clone(library),
            counters: Arc::clone(counters),
            streams,
        }
    }

    pub(super) fn may_read(&self, stream: &str) -> Result<(), NotRead> {
        match self.streams.has(stream) {
            true => Ok(()),
            false => Err(NotRead::NotAllowed),
        }
    }

    /// Whether everything may be read.
    pub(super) fn may_read_all(&self) -> bool {
        self.streams.are_all()
    }

    /// The partitions of `stream`, or of all streams, that may be read, in the order of streams and numbers.
    pub(super) fn partitions(&self, stream: Option<&str>) -> Vec<Arc<Partition>> {
        let mut partitions = self.library.partitions(stream);
        partitions.retain(|p| self.streams.has(p.stream.as_str()));
        partitions
    }

    /// Reads what is wanted, about `bytes_max` in all. Waits until there is some of it, the stream has other runs than those of the mark `known`, or `deadline`.
    pub(super) async fn fetch(
        &self,
        stream: &str,
        wants: &[Want],
        bytes_max: usize,
        known: u32,
        deadline: Instant,
    ) -> Result<Read, NotRead> {
        let mut runs = known;
        let is_other = || {
            let there = self.library.partitions(Some(stream));
            runs = wire::mark(there.iter().flat_map(|p| p.runs()));
            runs != known
        };
        let parts = self.parts(stream, wants, bytes_max, deadline, is_other);
        let parts = match parts.await {
            // Other runs are an answer.
            Err(NotRead::Unread) if runs != known => Vec::new(),
            parts => parts?,
        };
        Ok(Read { runs, parts })
    }

    /// The same, whatever runs the stream has.
    pub(super) async fn fetch_parts(
        &self,
        stream: &str,
        wants: &[Want],
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<Part>, NotRead> {
        self.parts(stream, wants, bytes_max, deadline, || false)
            .await
    }

    async fn parts(
        &self,
        stream: &str,
        wants: &[Want],
        bytes_max: usize,
        deadline: Instant,
        is_enough: impl FnMut() -> bool,
    ) -> Result<Vec<Part>, NotRead> {
        self.may_read(stream)?;
        let wanted = Arc::new(self.wanted(stream, wants)?);
        let parts = self.once_there(&wanted, bytes_max, PART_BYTES_MAX, deadline, is_enough);
        let parts: Vec<Part> = parts.await?.into_iter().map(|(_, part)| part).collect();
        // It may have been taken back while this waited.
        self.may_read(stream)?;
        self.served(parts.iter());
        Ok(parts)
    }

    /// Reads what is wanted of any streams, about `bytes_max` in all and `part_bytes_max` of one partition, each part with the place of its want in `wanted`. Waits until
    /// there is some of it, or `deadline`.
    pub(super) async fn fetch_all(
        &self,
        wanted: &Arc<Vec<Wanted>>,
        bytes_max: usize,
        part_bytes_max: usize,
        deadline: Instant,
    ) -> Result<Vec<(usize, Part)>, NotRead> {
        let parts = self.once_there(wanted, bytes_max, part_bytes_max, deadline, || false);
        let mut parts = parts.await?;
        // It may have been taken back while this waited.
        parts.retain(|(at, _)| self.streams.has(wanted[*at].0.stream.as_str()));
        self.served(parts.iter().map(|(_, part)| part));
        Ok(parts)
    }

    /// What is wanted, as soon as there is some of it; or what there is when `is_enough`, or at `deadline`.
    async fn once_there(
        &self,
        wanted: &Arc<Vec<Wanted>>,
        bytes_max: usize,
        part_bytes_max: usize,
        deadline: Instant,
        mut is_enough: impl FnMut() -> bool,
    ) -> Result<Vec<(usize, Part)>, NotRead> {
        let mut progress = self.library.progress();
        loop {
            // Marked as seen before looking, so that nothing that comes meanwhile is missed.
            progress.mark_unchanged();
            let is_over = is_enough();
            let (mut parts, mut is_unread) = (Vec::new(), false);
            if wanted.iter().any(|(p, want)| p.has_news(want)) {
                let wanted = Arc::clone(wanted);
                let read = move || read(&wanted, bytes_max, part_bytes_max);
                (parts, is_unread) = blocking(read).await?;
            }
            if !parts.is_empty() || is_over || Instant::now() >= deadline {
                return match is_unread && parts.is_empty() {
                    true => Err(NotRead::Unread),
                    false => Ok(parts),
                };
            }
            // A disk that gives nothing is not asked at every event.
            let again = Instant::now() + READ_AGAIN_AFTER;
            tokio::select! {
                biased;
                _ = progress.changed(), if !is_unread => {}
                () = tokio::time::sleep_until(again.min(deadline)), if is_unread => {}
                () = tokio::time::sleep_until(deadline), if !is_unread => {}
            }
        }
    }

    fn served<'p>(&self, parts: impl Iterator<Item = &'p Part>) {
        let bytes = parts.map(|part| part.frames.len()).sum();
        self.counters.served(bytes);
    }

    /// For each run of the partitions with these numbers, or of all, where `time` begins.
    pub(super) async fn offsets_for_time(
        &self,
        stream: &str,
        numbers: &[u32],
        time: Micros,
    ) -> Result<Vec<Place>, NotRead> {
        self.may_read(stream)?;
        let mut partitions = self.library.partitions(Some(stream));
        let is_there = |number: &u32| partitions.iter().any(|p| p.number == *number);
        if let Some(unknown) = numbers.iter().find(|number| !is_there(number)) {
            return Err(NotRead::unknown(stream, *unknown));
        }
        partitions.retain(|p| numbers.is_empty() || numbers.contains(&p.number));
        let turn = self.library.turn_to_search().await;
        // Whoever asked may go; the turn is over when the work is.
        blocking(move || {
            let _turn = turn;
            let each = partitions.iter().map(|p| p.offsets_for_time(time));
            let places: Result<Vec<_>, _> = each.collect();
            Ok(places?.concat())
        })
        .await
    }

    fn wanted(&self, stream: &str, wants: &[Want]) -> Result<Vec<Wanted>, NotRead> {
        let find = |want: &Want| {
            let partition = self.library.partition(stream, want.number);
            partition
                .map(|p| (p, *want))
                .ok_or_else(|| NotRead::unknown(stream, want.number))
        };
        wants.iter().map(find).collect()
    }
}

impl NotRead {
    fn unknown(stream: &str, number: u32) -> Self {
        Self::Unknown {
            stream: stream.to_owned(),
            number,
        }
    }

    fn internal(e: impl std::fmt::Display) -> Self {
        Self::Internal(e.to_string())
    }
}

impl From<ReadError> for NotRead {
    fn from(e: ReadError) -> Self {
        match e {
            ReadError::Unread { .. } => Self::Unread,
            e => Self::internal(e),
        }
    }
}

/// Parts in the order of the wants, each with the place of its want, until `bytes_max` is used up; the first may be larger than that by a frame. With them, whether
/// there would be more if the disk gave it.
fn read(
    wanted: &[Wanted],
    bytes_max: usize,
    part_bytes_max: usize,
) -> Result<(Vec<(usize, Part)>, bool), NotRead> {
    let (mut parts, mut left): (Vec<(usize, Part)>, usize) = (Vec::new(), bytes_max);
    let mut is_unread = false;
    let there = wanted.iter().enumerate();
    for (at, (partition, want)) in there.filter(|(_, (p, want))| p.has_news(want)) {
        if parts.len() >= PARTS_MAX || (!parts.is_empty() && left < PART_BYTES_MIN) {
            break;
        }
        let part = match partition.read(want, left.min(part_bytes_max)) {
            // Whoever wants it waits; the other partitions do not.
            Err(ReadError::Unread { .. }) => {
                is_unread = true;
                continue;
            }
            part => part?,
        };
        let Some(part) = part else { continue };
        if !parts.is_empty() && part.frames.len() > left {
            break;
        }
        left = left.saturating_sub(part.frames.len());
        parts.push((at, part));
    }
    Ok((parts, is_unread))
}

async fn blocking<T: Send + 'static>(
    step: impl FnOnce() -> Result<T, NotRead> + Send + 'static,
) -> Result<T, NotRead> {
    world::blocking(step)
        .await
        .unwrap_or_else(|_| Err(NotRead::internal("interrupted")))
}

/// Parts in one answer: with two gaps and some beginnings each their heads take less than is kept for them.
pub(super) const PARTS_MAX: usize = 224;
/// No further part is begun when less room than this is left.
const PART_BYTES_MIN: usize = 16 * 1024;
/// One partition does not take all the room while others have something too.
const PART_BYTES_MAX: usize = 512 * 1024;

const _: () = assert!(
    PARTS_MAX * (200 + super::partition::BEGINNINGS_MAX * 13) < wire::FETCHED_HEAD_BYTES_MAX
);
