//! One partition of one gateway: the logs of its chain, mirrors at a hub and its own at a gateway, read as one run of shifted offsets.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use sedge_core::frame::Header;
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use sedge_store::{
    AppendError, Beginning, Chunk, Mirror, MirrorOptions, Name, Numbered, ReadError,
};

use super::chain::{self, Identity, Link};
use super::own::{End, OwnLog, OwnPartition};
use crate::wire;

/// A partition.
#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) gateway: Name,
    pub(crate) stream: Name,
    pub(crate) partition: u16,
    /// In the stream, for ever.
    pub(crate) number: u32,
    /// In the order of their epochs.
    logs: RwLock<Vec<Log>>,
    /// Of a gateway's own: where the logs end that are removed.
    removed_to: Option<AtomicU64>,
}

/// A log of the chain, as it is read.
#[derive(Clone, Debug)]
enum Log {
    Mirror(Arc<Member>),
    Own(Arc<OwnLog>),
}

/// A mirror in the chain.
#[derive(Debug)]
pub(crate) struct Member {
    identity: Mutex<Numbered<Identity>>,
    pub(crate) mirror: Mirror,
    /// Held while frames are appended, and while it is made known where the log ends.
    turn: Mutex<()>,
    /// Bytes of a frame that it could not take; 0 as long as it took all.
    outgrown_by: AtomicUsize,
}

/// What a consumer gets of a partition.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) head: wire::PartHead,
    pub(crate) frames: Bytes,
}

impl Partition {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self {
            gateway: identity.gateway.clone(),
            stream: identity.stream.clone(),
            partition: identity.partition,
            number: identity.number,
            logs: RwLock::default(),
            removed_to: None,
        }
    }

    /// One of a gateway's own.
    pub(crate) fn own(of: OwnPartition) -> Self {
        let logs = of.logs.into_iter().map(|log| Log::Own(Arc::new(log)));
        Self {
            gateway: of.gateway,
            stream: of.stream,
            partition: of.partition,
            number: of.partition.into(),
            logs: RwLock::new(logs.collect()),
            removed_to: Some(AtomicU64::new(of.removed_to)),
        }
    }

    /// Whether a log with this identity belongs to it.
    pub(crate) fn is_of(&self, identity: &Identity) -> bool {
        self.number == identity.number && self.stream == identity.stream
    }

    /// The mirrors in their order: at a hub all logs are.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        let mirror = |log| match log {
            Log::Mirror(member) => Some(member),
            Log::Own(_) => None,
        };
        self.logs().into_iter().filter_map(mirror).collect()
    }

    /// A log joins at the end.
    pub(crate) fn push(&self, member: Arc<Member>) {
        self.logs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Log::Mirror(member));
    }

    /// A gateway's own log is removed: its files are held open no more.
    pub(crate) fn let_go(&self, gone: LogId) {
        let is_it = |log: &Log| matches!(log, Log::Own(own) if own.log.log_id() == gone);
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        if let (Some(log), Some(removed_to)) =
            (logs.iter().find(|log| is_it(log)), &self.removed_to)
        {
            let link = log.link();
            removed_to.fetch_max(link.shift + link.next, Relaxed);
        }
        logs.retain(|log| !is_it(log));
    }

    /// Where those logs end that are a gateway's own.
    pub(crate) fn own_ends(&self) -> Vec<End> {
        let end = |log: &Log| match log {
            Log::Own(own) => Some(own.log.durable()),
            Log::Mirror(_) => None,
        };
        self.logs().iter().filter_map(end).collect()
    }

    fn logs(&self) -> Vec<Log> {
        self.logs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The chain as numbers.
    pub(crate) fn links(&self) -> Vec<Link> {
        self.logs().iter().map(Log::link).collect()
    }

    /// How a consumer sees it.
    pub(crate) fn describe(&self) -> wire::Partition {
        let links = self.links();
        let (end, epoch) = self.end_of(&links);
        wire::Partition {
            number: self.number,
            stream: self.stream.to_string(),
            gateway: self.gateway.to_string(),
            partition: self.partition,
            epoch,
            earliest: self.earliest(),
            end,
            ahead: chain::ahead(&links),
        }
    }

    /// Where `links` end, as far as they are whole. What is removed is no less read for it.
    fn end_of(&self, links: &[Link]) -> (u64, u32) {
        let (end, epoch) = chain::end(links);
        (end.max(self.removed_to()), epoch)
    }

    fn removed_to(&self) -> u64 {
        self.removed_to.as_ref().map_or(0, |to| to.load(Relaxed))
    }

    /// Where a gap ends that begins at `from`, and the log behind it or the last one, if a gateway's own logs are all removed that had anything there. At a hub nothing is
    /// removed: what is missing between two mirrors, or before the first, was set aside. One that only waits to be opened leaves none, for those behind it wait as well.
    fn hole<'l>(&self, links: &'l [Link], from: u64) -> Option<(u64, Option<&'l Link>)> {
        let at = links.iter().position(|link| from < link.base());
        let before = at.unwrap_or(links.len()).checked_sub(1);
        let is_over = |before: usize| {
            let link = &links[before];
            link.is_filled() && link.shift + link.next <= from
        };
        if !before.is_none_or(is_over) {
            return None;
        }
        match at {
            Some(at) => Some((links[at].base(), Some(&links[at]))),
            None => Some((self.removed_to(), links.last())).filter(|(to, _)| from < *to),
        }
    }

    /// What `look` finds in the logs, which come with their numbers. One may be removed under it: then it looks again.
    fn in_logs<T>(
        &self,
        look: impl Fn(&[Log], &[Link]) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        loop {
            let logs = self.logs();
            let links: Vec<Link> = logs.iter().map(Log::link).collect();
            match look(&logs, &links) {
                Err(_) if self.logs().len() < logs.len() => {}
                found => return found,
            }
        }
    }

    /// Where each run begins that it can be read in: one, unless a log of its chain is being filled while others follow.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u32, u64)> {
        let ahead = match self.logs().len() {
            0 | 1 => Vec::new(),
            _ => chain::ahead(&self.links()),
        };
        let ahead = ahead.into_iter().map(|run| run.first);
        std::iter::once(0)
            .chain(ahead)
            .map(|first| (self.number, first))
    }

    /// The first shifted offset that is held; the end if none is.
    pub(crate) fn earliest(&self) -> u64 {
        let logs = self.logs();
        let held = logs.iter().find_map(|log| {
            let link = log.link();
            let oldest = log.oldest().get().max(link.start);
            (oldest < link.next).then_some(link.shift + oldest)
        });
        held.unwrap_or_else(|| self.end_of(&self.links()).0)
    }

    /// The epoch of the log in which the chain ends, as far as it is whole.
    pub(crate) fn epoch(&self) -> u32 {
        chain::end(&self.links()).1
    }

    /// The epoch of the log in which `offset` stands, or would stand next.
    pub(crate) fn epoch_at(&self, offset: u64) -> u32 {
        let links = self.links();
        chain::holding(&links, offset).map_or(0, |at| links[at].epoch)
    }

    /// Where what was written in `epoch` and before ends, and the newest epoch of those; nowhere if such an epoch is not known.
    pub(crate) fn end_of_epoch(&self, epoch: u32) -> Option<(u32, u64)> {
        let links = self.links();
        let (end, newest) = chain::end(&links);
        if epoch > newest {
            return None;
        }
        let at = links.iter().rposition(|l| l.epoch <= epoch)?;
        let behind = links.get(at + 1).map_or(end, |next| next.base().min(end));
        Some((links[at].epoch, behind))
    }

    /// Whether [`Partition::read`] would find something. Touches no disk.
    pub(crate) fn has_news(&self, want: &wire::Want) -> bool {
        let links = self.links();
        let from = from_in(&links, want);
        self.hole(&links, from).is_some() || readable(&links, from).is_some()
    }

    /// Whole frames from what is wanted on, of one log, at most about `bytes_max`; `None` at the end of its run. Blocks for the disk.
    pub(crate) fn read(
        &self,
        want: &wire::Want,
        bytes_max: usize,
    ) -> Result<Option<Part>, ReadError> {
        self.in_logs(|logs, links| self.read_in(logs, links, want, bytes_max))
    }

    fn read_in(
        &self,
        logs: &[Log],
        links: &[Link],
        want: &wire::Want,
        bytes_max: usize,
    ) -> Result<Option<Part>, ReadError> {
        let (from, (end, _)) = (from_in(links, want), self.end_of(links));
        if let Some((to, link)) = self.hole(links, from) {
            return Ok(Some(self.part_of_hole(from, to, link, end)));
        }
        let Some(at) = readable(links, from) else {
            return Ok(None);
        };
        let link = &links[at];
        let own = Offset::new(from - link.shift);
        let chunk = logs[at].read(own, bytes_max)?;
        if chunk.frames.is_empty() && chunk.gap.is_none() {
            return Ok(None);
        }
        let seam = (link.epoch > 0 && own.get() == link.start).then(|| seam(own, &chunk.frames));
        let gaps = seam
            .into_iter()
            .chain(chunk.gap)
            .map(|gap| shifted(&gap, link.shift))
            .collect();
        let head = wire::PartHead {
            number: self.number,
            log_id: link.log,
            epoch: link.epoch,
            shift: link.shift,
            from,
            next: link.shift + chunk.next.get(),
            earliest: self.earliest(),
            end,
            gaps,
            frames_len: u32::try_from(chunk.frames.len()).expect("a read is far below 4 GiB"),
            beginnings: beginnings(logs, at, &chunk.frames),
        };
        Ok(Some(Part {
            head,
            frames: chunk.frames,
        }))
    }

    /// What stands for logs that are removed, or set aside: the most that can have been in them.
    fn part_of_hole(&self, from: u64, to: u64, link: Option<&Link>, end: u64) -> Part {
        let cause = match self.removed_to {
            Some(_) => Cause::Evicted,
            None => Cause::Corrupt,
        };
        let gap = wire::Gap {
            from,
            to,
            lost: to - from,
            cause: cause.code(),
            when: Micros::UNKNOWN.get(),
            when_last: Micros::UNKNOWN.get(),
        };
        let head = wire::PartHead {
            number: self.number,
            log_id: link.map_or([0; 16], |link| link.log),
            epoch: link.map_or(0, |link| link.epoch),
            shift: link.map_or(0, |link| link.shift),
            from,
            next: to,
            earliest: self.earliest(),
            end,
            gaps: vec![gap],
            frames_len: 0,
            beginnings: Vec::new(),
        };
        Part {
            head,
            frames: Bytes::new(),
        }
    }

    /// The last shifted offset that can be read; none if none can.
    pub(crate) fn last_offset(&self) -> Option<u64> {
        let links = self.links();
        let readable = links.iter().rev().find(|link| link.next > link.start)?;
        Some(readable.shift + readable.next - 1)
    }

    /// How many offsets of all runs stand before each of `times`, which are in their order. Given up with an error when it is no longer asked. Blocks for the disk.
    pub(crate) fn offsets_before(
        &self,
        times: &[Micros],
        is_asked: &dyn Fn() -> bool,
    ) -> Result<Vec<u64>, ReadError> {
        self.in_logs(|logs, links| offsets_before_in(logs, links, times, is_asked))
    }

    /// When what stands at `offset` was taken, or lost, µs since 1970; none if nothing stands there, or nobody knows. Blocks for the disk.
    pub(crate) fn taken_at(&self, offset: u64) -> Result<Option<i64>, ReadError> {
        let want = wire::Want {
            number: self.number,
            from: offset,
            epoch: None,
        };
        let Some(part) = self.read(&want, 1)? else {
            return Ok(None);
        };
        let lost = part.head.gaps.iter().find(|gap| gap.to > gap.from);
        let time = match Header::parse(&part.frames, None) {
            Ok(header) => header.time,
            Err(_) => lost.map_or(Micros::UNKNOWN, |gap| Micros::new(gap.when)),
        };
        let beginnings = part.head.beginnings.iter();
        Ok(match time.uptime() {
            Some((start, up_us)) => beginnings
                .filter(|(told, _)| *told == start)
                .map(|(_, began)| began.saturating_add_unsigned(up_us))
                .next(),
            None => Some(time).filter(|time| time.is_known()).map(Micros::get),
        })
    }

    /// For each run, the first shifted offset whose frame was made at `time` or later, or its end. Blocks for the disk.
    pub(crate) fn offsets_for_time(&self, time: Micros) -> Result<Vec<wire::Place>, ReadError> {
        self.in_logs(|logs, links| self.offsets_for_time_in(logs, links, time))
    }

    fn offsets_for_time_in(
        &self,
        logs: &[Log],
        links: &[Link],
        time: Micros,
    ) -> Result<Vec<wire::Place>, ReadError> {
        let runs = chain::runs(links);
        let mut places = Vec::with_capacity(runs.len());
        for run in runs {
            let mut next = run.end;
            let within = |link: &Link| (run.first..run.end).contains(&link.base());
            for (log, link) in logs.iter().zip(links).filter(|(_, link)| within(link)) {
                let own = log.offset_for_time(time)?.get().max(link.start);
                if own < link.next {
                    next = link.shift + own;
                    break;
                }
            }
            places.push(wire::Place {
                number: self.number,
                first: run.first,
                next,
            });
        }
        Ok(places)
    }
}

impl Member {
    pub(crate) fn new(identity: Numbered<Identity>, mirror: Mirror) -> Self {
        Self {
            identity: Mutex::new(identity),
            mirror,
            turn: Mutex::new(()),
            outgrown_by: AtomicUsize::new(0),
        }
    }

    /// A frame of so many bytes came, which its segments are too small for.
    pub(crate) fn outgrown_by(&self, frame_bytes: usize) {
        self.outgrown_by.fetch_max(frame_bytes, Relaxed);
    }

    /// Whether what comes next is too large for it, and would not be for a new mirror of `capacity` bytes.
    pub(crate) fn is_outgrown(&self, capacity: u64) -> bool {
        let frame_bytes = self.outgrown_by.load(Relaxed);
        frame_bytes > 0 && MirrorOptions::capacity_for(frame_bytes) <= capacity
    }

    /// The directory of its mirror.
    pub(crate) fn path(&self) -> PathBuf {
        self.identity().path.clone()
    }

    pub(crate) fn link(&self) -> Link {
        let identity = &self.identity().identity;
        Link {
            log: identity.log.0,
            epoch: identity.epoch,
            shift: identity.shift,
            start: identity.start,
            end: identity.end,
            next: self.mirror.next().get().max(identity.start),
        }
    }

    pub(crate) fn log_id(&self) -> LogId {
        self.mirror.log_id()
    }

    /// Appends frames that end at `to`. Blocks for the disk.
    pub(crate) fn append(&self, frames: &[u8], to: Offset) -> Result<Offset, AppendError> {
        let _turn = self.turn();
        if self.link().end.is_some_and(|end| to.get() > end) {
            return Err(AppendError::Ended);
        }
        self.mirror.append(frames)
    }

    /// Makes it known for ever that this log ends at `end`.
    pub(crate) fn fix_end(&self, end: u64) -> io::Result<()> {
        let _turn = self.turn();
        self.end_at(end)
    }

    /// As [`Member::fix_end`], if there is nothing behind that: another log is to follow it there.
    pub(crate) fn supersede(&self, end: u64) -> io::Result<()> {
        let _turn = self.turn();
        match self.link().next > end {
            true => Err(io::Error::other("more of the log before it has come")),
            false => self.end_at(end),
        }
    }

    fn end_at(&self, end: u64) -> io::Result<()> {
        let mut numbered = self.identity();
        if numbered.identity.end == Some(end) {
            return Ok(());
        }
        let identity = Identity {
            end: Some(end),
            ..numbered.identity.clone()
        };
        numbered.rewrite(identity)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn identity(&self) -> MutexGuard<'_, Numbered<Identity>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn link(&self) -> Link {
        match self {
            Self::Mirror(member) => member.link(),
            Self::Own(own) => own.link(),
        }
    }

    fn oldest(&self) -> Offset {
        match self {
            Self::Mirror(member) => member.mirror.oldest(),
            Self::Own(own) => own.log.oldest(),
        }
    }

    fn read(&self, from: Offset, bytes_max: usize) -> Result<Chunk, ReadError> {
        match self {
            Self::Mirror(member) => member.mirror.read(from, bytes_max),
            Self::Own(own) => own.log.read(from, bytes_max),
        }
    }

    fn offset_for_time(&self, time: Micros) -> Result<Offset, ReadError> {
        match self {
            Self::Mirror(member) => member.mirror.offset_for_time(time),
            Self::Own(own) => own.log.offset_for_time(time),
        }
    }

    fn offsets_for_times(
        &self,
        times: &[Micros],
        is_asked: &dyn Fn() -> bool,
    ) -> Result<Vec<Offset>, ReadError> {
        match self {
            Self::Mirror(member) => member.mirror.offsets_for_times(times, is_asked),
            Self::Own(own) => own.log.offsets_for_times(times, is_asked),
        }
    }

    /// What was told of the starts that its times may count from.
    fn beginnings(&self) -> Vec<Beginning> {
        match self {
            Self::Mirror(member) => member.mirror.beginnings(),
            Self::Own(own) => own.time.beginnings(),
        }
    }
}

/// [`Partition::offsets_before`] in these logs.
fn offsets_before_in(
    logs: &[Log],
    links: &[Link],
    times: &[Micros],
    is_asked: &dyn Fn() -> bool,
) -> Result<Vec<u64>, ReadError> {
    let mut before: Vec<u64> = vec![0; times.len()];
    for run in chain::runs(links) {
        // A time that is in no log of the run stands behind it, as all that are later.
        let mut settled = 0;
        let within = |link: &Link| (run.first..run.end).contains(&link.base());
        for (log, link) in logs.iter().zip(links).filter(|(_, link)| within(link)) {
            let founds = log.offsets_for_times(&times[settled..], is_asked)?;
            let owns = founds.iter().map(|own| own.get().max(link.start));
            let here = owns.take_while(|own| *own < link.next);
            for (own, sum) in here.zip(&mut before[settled..]) {
                *sum = sum.saturating_add(link.shift + own - run.first);
                settled += 1;
            }
        }
        for sum in &mut before[settled..] {
            *sum = sum.saturating_add(run.end - run.first);
        }
    }
    Ok(before)
}

/// Where to read: what is wanted, or the place where another log joined behind the epoch that the reader knows.
fn from_in(links: &[Link], want: &wire::Want) -> u64 {
    let cut = want
        .epoch
        .and_then(|known| links.iter().find(|l| l.epoch > known));
    cut.map_or(want.from, |link| want.from.min(link.base()))
}

/// The link in which there is something to read at `from`.
fn readable(links: &[Link], from: u64) -> Option<usize> {
    chain::holding(links, from).filter(|at| from - links[*at].shift < links[*at].next)
}

/// What the uptimes are that stand in `frames` for times. The gateway may have told it in a later log of the chain only.
fn beginnings(logs: &[Log], at: usize, frames: &[u8]) -> Vec<(u16, i64)> {
    let from_here = logs.iter().skip(at).chain(logs.iter().take(at));
    let told: Vec<_> = from_here.flat_map(Log::beginnings).collect();
    beginnings_told(&told, frames)
}

/// Those of `told` that times in `frames` count from, each once.
fn beginnings_told(told: &[Beginning], frames: &[u8]) -> Vec<(u16, i64)> {
    let mut found: Vec<(u16, i64)> = Vec::new();
    let mut at = 0;
    while !told.is_empty()
        && found.len() < BEGINNINGS_MAX
        && let Ok(header) = Header::parse(frames.get(at..).unwrap_or_default(), None)
    {
        at += header.frame_len();
        let start = header.time.uptime().map(|(start, _)| start);
        let is_new = found.iter().all(|(known, _)| Some(*known) != start);
        let told = told.iter().filter(|_| is_new);
        found.extend(
            told.clone()
                .find(|told| Some(told.start) == start)
                .map(|told| (told.start, told.unix_us)),
        );
    }
    found
}

/// Where one log ends and the next begins: nothing is known to be lost there.
fn seam(at: Offset, frames: &[u8]) -> Gap {
    let when = Header::parse(frames, None).map_or(Micros::UNKNOWN, |h| h.time);
    Gap {
        from: at,
        to: at,
        lost: 0,
        cause: Cause::NewLog,
        when,
        when_last: when,
    }
}

fn shifted(gap: &Gap, shift: u64) -> wire::Gap {
    wire::Gap {
        from: shift + gap.from.get(),
        to: shift + gap.to.get(),
        lost: gap.lost,
        cause: gap.cause.code(),
        when: gap.when.get(),
        when_last: gap.when_last.get(),
    }
}

/// Starts of one gateway that the frames of one part can be of: each had events, and less than a part of them.
pub(crate) const BEGINNINGS_MAX: usize = 4;

#[cfg(test)]
mod tests;
