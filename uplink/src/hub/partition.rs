//! One partition of one gateway at the hub: the mirrors of its chain, read as one run of shifted offsets.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use sedge_core::frame::Header;
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use sedge_store::{Beginning, Mirror, Name, Numbered, ReadError};

use super::chain::{self, Identity, Link};
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
    members: RwLock<Vec<Arc<Member>>>,
}

/// A log of the chain.
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
            members: RwLock::default(),
        }
    }

    /// Whether a log with this identity belongs to it.
    pub(crate) fn is_of(&self, identity: &Identity) -> bool {
        self.number == identity.number && self.stream == identity.stream
    }

    /// The logs in order.
    pub(crate) fn members(&self) -> Vec<Arc<Member>> {
        self.members
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A log joins at the end.
    pub(crate) fn push(&self, member: Arc<Member>) {
        self.members
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(member);
    }

    /// The chain as numbers.
    pub(crate) fn links(&self) -> Vec<Link> {
        self.members().iter().map(|m| m.link()).collect()
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
        let ahead = match self.members().len() {
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
        let members = self.members();
        let held = members.iter().find_map(|m| {
            let link = m.link();
            let oldest = m.mirror.oldest().get().max(link.start);
            (oldest < link.next).then_some(link.shift + oldest)
        });
        held.unwrap_or_else(|| chain::end(&self.links()).0)
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
        readable(&links, from_in(&links, want)).is_some()
    }

    /// Whole frames from what is wanted on, of one log, at most about `bytes_max`; `None` at the end of its run. Blocks for the disk.
    pub(crate) fn read(
        &self,
        want: &wire::Want,
        bytes_max: usize,
    ) -> Result<Option<Part>, ReadError> {
        let members = self.members();
        let links: Vec<Link> = members.iter().map(|m| m.link()).collect();
        let (from, (end, _)) = (from_in(&links, want), chain::end(&links));
        let Some(at) = readable(&links, from) else {
            return Ok(None);
        };
        let (link, mirror) = (&links[at], &members[at].mirror);
        let own = Offset::new(from - link.shift);
        let chunk = mirror.read(own, bytes_max)?;
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
            beginnings: beginnings(&members, at, &chunk.frames),
        };
        Ok(Some(Part {
            head,
            frames: chunk.frames,
        }))
    }

    /// For each run, the first shifted offset whose frame was made at `time` or later, or its end. Blocks for the disk.
    pub(crate) fn offsets_for_time(&self, time: Micros) -> Result<Vec<wire::Place>, ReadError> {
        let members = self.members();
        let links: Vec<Link> = members.iter().map(|m| m.link()).collect();
        let runs = chain::runs(&links);
        let mut places = Vec::with_capacity(runs.len());
        for run in runs {
            let mut next = run.end;
            let within = |link: &Link| (run.first..run.end).contains(&link.base());
            for (member, link) in members.iter().zip(&links).filter(|(_, link)| within(link)) {
                let own = member.mirror.offset_for_time(time)?.get().max(link.start);
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
fn beginnings(members: &[Arc<Member>], at: usize, frames: &[u8]) -> Vec<(u16, i64)> {
    let from_here = members.iter().skip(at).chain(members.iter().take(at));
    let told: Vec<_> = from_here.flat_map(|m| m.mirror.beginnings()).collect();
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

    use super::*;

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
