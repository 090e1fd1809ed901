//! One partition of one gateway: the logs of its chain, mirrors at a hub and its own at a gateway, read as one run of shifted offsets.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use sedge_core::frame::Header;
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use sedge_store::{Beginning, Chunk, Mirror, Name, Numbered, ReadError};

use super::chain::{self, Identity, Link};
use super::own::{End, OwnLog};
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
        }
    }

    /// One of a gateway's own, with its logs in their order.
    pub(crate) fn own(gateway: Name, stream: Name, partition: u16, logs: Vec<OwnLog>) -> Self {
        let logs = logs.into_iter().map(|log| Log::Own(Arc::new(log)));
        Self {
            gateway,
            stream,
            partition,
            number: partition.into(),
            logs: RwLock::new(logs.collect()),
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
        self.logs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|log| !is_it(log));
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
        let (end, epoch) = chain::end(&links);
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
        held.unwrap_or_else(|| chain::end(&self.links()).0)
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
        behind_hole(&links, from).is_some() || readable(&links, from).is_some()
    }

    /// Whole frames from what is wanted on, of one log, at most about `bytes_max`; `None` at the end of its run. Blocks for the disk.
    pub(crate) fn read(
        &self,
        want: &wire::Want,
        bytes_max: usize,
    ) -> Result<Option<Part>, ReadError> {
        let logs = self.logs();
        let links: Vec<Link> = logs.iter().map(Log::link).collect();
        let (from, (end, _)) = (from_in(&links, want), chain::end(&links));
        if let Some(behind) = behind_hole(&links, from) {
            return Ok(Some(self.hole_before(behind, from, end)));
        }
        let Some(at) = readable(&links, from) else {
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
            beginnings: beginnings(&logs, at, &chunk.frames),
        };
        Ok(Some(Part {
            head,
            frames: chunk.frames,
        }))
    }

    /// What stands for logs that a gateway had before `next`, and has removed: the most that can have been in them.
    fn hole_before(&self, next: &Link, from: u64, end: u64) -> Part {
        let gap = wire::Gap {
            from,
            to: next.base(),
            lost: next.base() - from,
            cause: Cause::Evicted.code(),
            when: Micros::UNKNOWN.get(),
            when_last: Micros::UNKNOWN.get(),
        };
        let head = wire::PartHead {
            number: self.number,
            log_id: next.log,
            epoch: next.epoch,
            shift: next.shift,
            from,
            next: next.base(),
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
        let logs = self.logs();
        let links: Vec<Link> = logs.iter().map(Log::link).collect();
        let mut before: Vec<u64> = vec![0; times.len()];
        for run in chain::runs(&links) {
            // A time that is in no log of the run stands behind it, as all that are later.
            let mut settled = 0;
            let within = |link: &Link| (run.first..run.end).contains(&link.base());
            for (log, link) in logs.iter().zip(&links).filter(|(_, link)| within(link)) {
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
        let logs = self.logs();
        let links: Vec<Link> = logs.iter().map(Log::link).collect();
        let runs = chain::runs(&links);
        let mut places = Vec::with_capacity(runs.len());
        for run in runs {
            let mut next = run.end;
            let within = |link: &Link| (run.first..run.end).contains(&link.base());
            for (log, link) in logs.iter().zip(&links).filter(|(_, link)| within(link)) {
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
        }
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

    /// Makes it known for ever that this log ends at `end`.
    pub(crate) fn fix_end(&self, end: u64) -> io::Result<()> {
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

/// Where to read: what is wanted, or the place where another log joined behind the epoch that the reader knows.
fn from_in(links: &[Link], want: &wire::Want) -> u64 {
    let cut = want
        .epoch
        .and_then(|known| links.iter().find(|l| l.epoch > known));
    cut.map_or(want.from, |link| want.from.min(link.base()))
}

/// The link behind `from`, if no log can have anything there. At a hub one always can.
fn behind_hole(links: &[Link], from: u64) -> Option<&Link> {
    let at = links.iter().position(|link| from < link.base())?;
    let before = at.checked_sub(1).map(|before| &links[before]);
    let is_over = |link: &Link| link.is_filled() && link.shift + link.next <= from;
    before.is_none_or(is_over).then(|| &links[at])
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
mod tests {
    use sedge_core::LogId;
    use sedge_core::frame::{Form, Label, emit_data};
    use sedge_store::{DataDir, MirrorOptions, system_clock};

    use super::*;
    use crate::hub::chain::LogHex;
    use crate::wire::{Place, Run, Want};

    /// A partition with the number 7 in a directory of its own.
    struct Given {
        partition: Partition,
        data: DataDir,
        _dir: tempfile::TempDir,
    }

    impl Given {
        /// A chain of logs: of each, where it ends if that is known, and how many offsets there are of it.
        fn chain(logs: &[(Option<u64>, u64)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let data = DataDir::open(dir.path()).unwrap();
            data.numbered::<Identity>("mirrors").unwrap();
            let partition = Partition::new(&identity(0, 0, None));
            let mut given = Self {
                partition,
                data,
                _dir: dir,
            };
            let mut shift = 0;
            for (&(end, next), epoch) in logs.iter().zip(0..) {
                given.join(identity(epoch, shift, end), next);
                shift += end.unwrap_or(next);
            }
            given
        }

        fn join(&mut self, identity: Identity, next: u64) {
            let (log, shift) = (LogId::new(identity.log.0), identity.shift);
            let numbered = self.data.add("mirrors", identity).unwrap();
            let options = MirrorOptions {
                capacity_bytes: 16 << 20,
                frame_bytes_max: 256 << 10,
                ..MirrorOptions::default()
            };
            let at = numbered.path.join("log");
            let (mirror, _) = Mirror::open(at, log, options, system_clock()).unwrap();
            for own in 0..next {
                let time = Micros::new(time_of(shift + own));
                mirror
                    .append(&frame_of(log, own, time, &[], b"ab"))
                    .unwrap();
            }
            self.partition.push(Arc::new(Member::new(numbered, mirror)));
        }

        fn read(&self, from: u64, epoch: Option<u32>) -> Option<wire::PartHead> {
            let want = Want {
                number: 7,
                from,
                epoch,
            };
            let part = self.partition.read(&want, 1 << 20).unwrap();
            assert_eq!(self.partition.has_news(&want), part.is_some(), "{want:?}");
            part.map(|part| {
                assert_eq!(part.head.frames_len as usize, part.frames.len());
                part.head
            })
        }
    }

    fn identity(epoch: u32, shift: u64, end: Option<u64>) -> Identity {
        Identity {
            format: 1,
            gateway: Name::new("gw-7").unwrap(),
            stream: Name::new("telemetry").unwrap(),
            partition: 3,
            log: LogHex([epoch as u8 + 1; 16]),
            number: 7,
            epoch,
            shift,
            start: 0,
            end,
        }
    }

    fn time_of(shifted: u64) -> i64 {
        1_000 * (shifted as i64 + 1)
    }

    fn frame_of(
        log: LogId,
        first: u64,
        time: Micros,
        annotation: &[u8],
        entries: &[u8],
    ) -> Vec<u8> {
        let label = Label {
            form: Form::Explicit,
            first: Offset::new(first),
            time,
            first_of_commit: true,
        };
        let mut bytes = vec![0; 128 + entries.len()];
        let len = emit_data(&mut bytes, &log, label, 1, annotation, entries).unwrap();
        bytes.truncate(len);
        bytes
    }

    /// The first log is whole, the second has three of eight, and the third stands behind what is still to come.
    fn split() -> Given {
        Given::chain(&[(Some(5), 5), (Some(8), 3), (None, 4)])
    }

    #[test]
    fn each_offset_is_read_in_the_log_that_it_stands_in_up_to_the_end_of_its_run() {
        let given = split();
        for epoch in [None, Some(0), Some(1), Some(2), Some(3)] {
            // Another log joined behind the epoch that the reader knows.
            let cut = epoch.and_then(|known| [0, 5, 13].into_iter().nth(known as usize + 1));
            for asked in 0..20 {
                let from = asked.min(cut.unwrap_or(asked));
                let stands = match from {
                    0..5 => Some((0, 0, 5)),
                    5..8 => Some((1, 5, 8)),
                    13..17 => Some((2, 13, 17)),
                    _ => None,
                };
                let read = given.read(asked, epoch);
                let head = read.as_ref().map(|h| (h.epoch, h.shift, h.next));
                assert_eq!(head, stands, "{asked} behind {epoch:?}");
                let Some(head) = read else { continue };
                assert_eq!((head.number, head.from), (7, from));
                assert_eq!((head.log_id[0], head.earliest), (head.epoch as u8 + 1, 0));
                assert_eq!(head.end, 8, "there the first run ends");
                let seam = wire::Gap {
                    from,
                    to: from,
                    lost: 0,
                    cause: Cause::NewLog.code(),
                    when: time_of(from),
                    when_last: time_of(from),
                };
                let is_seam = [5, 13].contains(&from);
                assert_eq!(head.gaps, is_seam.then_some(seam).as_slice(), "{from}");
            }
        }
    }

    #[test]
    fn a_partition_tells_its_runs() {
        let given = split();
        let told = given.partition.describe();
        assert_eq!(
            (
                told.number,
                told.partition,
                told.epoch,
                told.earliest,
                told.end
            ),
            (7, 3, 1, 0, 8)
        );
        assert_eq!(
            (told.gateway.as_str(), told.stream.as_str()),
            ("gw-7", "telemetry")
        );
        let ahead = Run {
            first: 13,
            end: 17,
            epoch: 2,
        };
        assert_eq!(told.ahead, [ahead]);
        let runs = |given: &Given| given.partition.runs().collect::<Vec<_>>();
        assert_eq!(runs(&given), [(7, 0), (7, 13)]);
        assert_eq!(runs(&Given::chain(&[(Some(5), 5), (None, 3)])), [(7, 0)]);
        assert_eq!(
            runs(&Given::chain(&[(Some(5), 3), (None, 3)])),
            [(7, 0), (7, 5)]
        );
        assert_eq!(runs(&Given::chain(&[])), [(7, 0)]);
    }

    #[test]
    fn a_time_is_found_in_each_run() {
        let given = split();
        for time in 0..20_000 {
            if !(time % 1_000 < 2 || time % 1_000 == 999) {
                continue;
            }
            let found = given.partition.offsets_for_time(Micros::new(time)).unwrap();
            let first_of = |mut run: std::ops::Range<u64>| {
                let end = run.end;
                run.find(|at| time_of(*at) >= time).unwrap_or(end)
            };
            let place = |first, next| Place {
                number: 7,
                first,
                next,
            };
            let each = [place(0, first_of(0..8)), place(13, first_of(13..17))];
            assert_eq!(found, each, "{time}");
        }
    }

    /// All times at once are found where each is alone: in runs, over the ends of logs and of segments, where many are of one frame and where clocks went back.
    #[test]
    fn many_times_are_found_where_each_is() {
        let split = split();
        let large = Given::chain(&[(Some(0), 0), (None, 0)]);
        let log = &large.partition.members()[1].mirror;
        let entries = vec![0; 250 << 10];
        // Four of them fill a segment.
        let taken = [5, 9, 9, 12, 12, 12, 30, 8, 31, 40, 41, 42, 3, 50];
        for (own, time) in (0..).zip(taken) {
            let frame = frame_of(log.log_id(), own, Micros::new(1_000 * time), &[], &entries);
            log.append(&frame).unwrap();
        }
        let every = |step: usize| {
            (0..60_000)
                .step_by(step)
                .map(Micros::new)
                .collect::<Vec<_>>()
        };
        for given in [split, large] {
            let partition = &given.partition;
            for times in [every(100), every(7_000), every(60_000)] {
                let each = |time: &Micros| {
                    let places = partition.offsets_for_time(*time).unwrap();
                    places.iter().map(|place| place.next - place.first).sum()
                };
                let one_by_one: Vec<u64> = times.iter().map(each).collect();
                assert_eq!(
                    partition.offsets_before(&times, &|| true).unwrap(),
                    one_by_one
                );
            }
            assert!(partition.offsets_before(&[], &|| true).unwrap().is_empty());
            let given_up = partition.offsets_before(&every(100), &|| false);
            assert!(given_up.is_err(), "nobody asks any more");
        }
    }

    #[test]
    fn it_is_known_when_something_was_taken() {
        let given = split();
        let taken = |offset| given.partition.taken_at(offset).unwrap();
        for offset in [0, 4, 5, 7, 13, 16] {
            assert_eq!(taken(offset), Some(time_of(offset)));
        }
        assert_eq!((taken(8), taken(12), taken(17)), (None, None, None));
        assert_eq!(given.partition.last_offset(), Some(16));
        assert_eq!(Given::chain(&[(None, 0)]).partition.last_offset(), None);
        // By the uptime of a start whose beginning was told.
        let mut given = Given::chain(&[]);
        given.join(identity(0, 0, None), 0);
        let mirror = &given.partition.members()[0].mirror;
        for (own, start, told) in [(0, 8, &[][..]), (1, 9, &[0, 3, 1, 9, 2 * 20])] {
            let time = Micros::of_uptime(start, 5);
            let frame = frame_of(mirror.log_id(), own, time, told, b"ab");
            mirror.append(&frame).unwrap();
        }
        let taken = |offset| given.partition.taken_at(offset).unwrap();
        assert_eq!((taken(0), taken(1)), (None, Some(25)));
    }

    /// Of what a log held some is gone, and one that holds nothing is none to begin with.
    #[test]
    fn the_earliest_is_the_first_that_is_held_in_any_log() {
        let given = Given::chain(&[(Some(2), 2), (None, 0)]);
        assert_eq!(given.partition.earliest(), 0);
        // Four of them fill a segment.
        let second = &given.partition.members()[1].mirror;
        let large = vec![0; 250 << 10];
        for own in 0..6 {
            let frame = frame_of(second.log_id(), own, Micros::new(1), &[], &large);
            second.append(&frame).unwrap();
        }
        let first = &given.partition.members()[0].mirror;
        let tomorrow = Micros::new(system_clock()().get() + 86_400_000_000);
        assert!(!first.expire(tomorrow).unwrap() && second.expire(tomorrow).unwrap());
        assert_eq!(given.partition.earliest(), 0);
        let gaps = given.read(3, None).unwrap().gaps;
        let gap = gaps.first().map(|gap| (gap.from, gap.to, gap.lost));
        assert_eq!(gap, Some((3, 6, 3)));
        let alone = Partition::new(&identity(0, 0, None));
        alone.push(Arc::clone(&given.partition.members()[1]));
        assert_eq!(alone.earliest(), 6);
        let nothing = Given::chain(&[(Some(5), 0), (None, 0)]);
        assert_eq!(nothing.partition.earliest(), 0);
        let later = Given::chain(&[(Some(5), 0), (None, 1)]);
        assert_eq!(later.partition.earliest(), 5);
    }

    /// The gateway learned the time in a log that came later, or had learned it in one before; what the log itself says goes before both.
    #[test]
    fn what_another_log_of_the_chain_told_of_a_start_is_known_in_all() {
        let mut given = Given::chain(&[]);
        // Of start 9, began at 20, 21 and 22 µs: count, length, kind, start and time in zigzag.
        let told = |unix_us: u8| [0, 3, 1, 9, 2 * unix_us];
        for (epoch, tells) in [(0, None), (1, Some(20)), (2, Some(21)), (3, None)] {
            given.join(identity(epoch, u64::from(epoch), Some(1)), 0);
            let member = given.partition.members().pop().unwrap();
            let time = Micros::of_uptime(9, 5);
            let annotation = tells.map(told);
            let annotation = annotation.as_ref().map_or(&[][..], |told| told);
            let frame = frame_of(member.log_id(), 0, time, annotation, b"ab");
            member.mirror.append(&frame).unwrap();
        }
        let beginnings = |from| given.read(from, None).unwrap().beginnings;
        assert_eq!(
            [0, 1, 2, 3].map(beginnings),
            [20, 20, 21, 20].map(|at| vec![(9, at)])
        );
    }

    #[test]
    fn an_end_is_fixed_once_and_stands_in_the_identity() {
        let given = Given::chain(&[(None, 3)]);
        let member = &given.partition.members()[0];
        for end in [9, 9] {
            member.fix_end(end).unwrap();
            assert_eq!(member.link().end, Some(9));
        }
        let there = given.data.numbered::<Identity>("mirrors").unwrap();
        assert_eq!(there.found()[0].identity, identity(0, 0, Some(9)));
        assert!(given.partition.is_of(&identity(4, 1, None)));
        for other in [
            Identity {
                number: 8,
                ..identity(0, 0, None)
            },
            Identity {
                stream: Name::new("alarms").unwrap(),
                ..identity(0, 0, None)
            },
        ] {
            assert!(!given.partition.is_of(&other));
        }
    }

    fn frame_at(time: Micros) -> Vec<u8> {
        let label = Label {
            form: Form::Explicit,
            first: Offset::ZERO,
            time,
            first_of_commit: false,
        };
        let mut bytes = [0; 64];
        let len = emit_data(&mut bytes, &LogId::new([7; 16]), label, 1, &[], b"ab").unwrap();
        bytes[..len].to_vec()
    }

    fn frames_of(starts: impl IntoIterator<Item = u16>) -> Vec<u8> {
        let starts = starts.into_iter();
        starts
            .flat_map(|start| frame_at(Micros::of_uptime(start, 9)))
            .collect()
    }

    #[test]
    fn beginnings_of_the_starts_in_the_frames_are_told_each_once() {
        let told: Vec<_> = (1..=9)
            .map(|start| Beginning {
                start,
                unix_us: i64::from(start) * 100,
            })
            .collect();
        let found = |frames: &[u8]| beginnings_told(&told, frames);
        assert_eq!(found(&frames_of([3, 3, 1, 77, 3])), [(3, 300), (1, 100)]);
        let with_time = [frame_at(Micros::new(5)), frames_of([2])].concat();
        assert_eq!(found(&with_time), [(2, 200)]);
        assert_eq!(found(&frames_of(1..=9)).len(), BEGINNINGS_MAX);
        assert_eq!(found(&[]), []);
        assert_eq!(beginnings_told(&[], &frames_of([1])), []);
    }
}
