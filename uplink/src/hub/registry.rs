//! All partitions of the hub, and how a log that a gateway offers finds its place among them.
//!
//! Everything here may block for the disk. Joining takes turns; reading does not wait for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use sedge_core::custody::message::{Code, Verdict};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use sedge_store::watch;
use sedge_store::{AppendError, Budget, DataDir, Mirror, MirrorOptions, Name, Numbered, OpenError};

use super::HubError;
use super::catalog::{Catalog, KnownPartition};
use super::chain::{self, Identity, Join, LogHex, Offered};
use super::options::HubOptions;
use super::partition::{Member, Partition};
use crate::wire;

/// The partitions of a hub.
#[derive(Debug)]
pub(crate) struct Registry {
    data: DataDir,
    options: HubOptions,
    /// What all mirrors together may take on the disk.
    budget: Budget,
    streams: RwLock<BTreeMap<String, Stream>>,
    /// Held while a log joins.
    joining: Mutex<()>,
    /// Logs with a place in a chain whose mirrors could not be opened, for want of room or because of a disk that gave no answer: tried again when a
    /// log of their partition is offered.
    waiting: Mutex<Vec<Numbered<Identity>>>,
    /// Moves whenever something new can be read.
    progress: watch::Sender<u64>,
}

/// The partitions of a stream, by number.
#[derive(Debug, Default)]
struct Stream {
    partitions: BTreeMap<u32, Arc<Partition>>,
    /// Numbers below this were given, even if their partitions are gone.
    next_number: u32,
    /// What the catalog remembers of partitions whose mirrors are gone.
    remembered: Vec<KnownPartition>,
}

/// A log that a gateway offers.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) log: LogId,
    pub(crate) stream: String,
    pub(crate) partition: u16,
    /// The first offset that the gateway holds.
    pub(crate) oldest: Offset,
    pub(crate) next: Offset,
    /// Of the frame that ends there.
    pub(crate) tail_crc: Option<u32>,
    pub(crate) closed: bool,
}

/// A log that a gateway has named in its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) log: LogId,
    pub(crate) stream: String,
    pub(crate) partition: u16,
}

/// A log that has its place.
#[derive(Clone, Debug)]
pub(crate) struct Admitted {
    pub(crate) partition: Arc<Partition>,
    pub(crate) member: Arc<Member>,
    pub(crate) verdict: Verdict<'static>,
}

/// Why a log has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    pub(crate) reason: &'static str,
}

impl Registry {
    /// Takes the directory and opens every mirror in it.
    pub(crate) fn open(options: &HubOptions) -> Result<Self, HubError> {
        let data = DataDir::open(&options.data_dir)?;
        let mut identities = data.numbered::<Identity>(MIRRORS)?.found().to_vec();
        identities.sort_by_key(|n| n.identity.epoch);
        let registry = Self {
            data,
            options: options.clone(),
            budget: Budget::new(options.disk_max),
            streams: RwLock::default(),
            joining: Mutex::default(),
            waiting: Mutex::default(),
            progress: watch::Sender::new(0),
        };
        for numbered in identities {
            let path = numbered.path.clone();
            match registry.open_member(numbered) {
                Ok(_) => {}
                Err(e) if is_full(&e) => {
                    tracing::error!(mirror = %path.display(), error = %e, "the disk has no room for a mirror: its log is not taken for now");
                }
                Err(e) => {
                    tracing::error!(mirror = %path.display(), error = %e, "a mirror cannot be opened: its partition takes nothing for now");
                }
            }
        }
        Ok(registry)
    }

    /// Brings catalog and partitions together: the catalog learns what is there, and remembers numbers that were given.
    pub(crate) fn reconcile(&self, catalog: &Catalog) -> Result<(), HubError> {
        for known in catalog.partitions()? {
            let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
            let stream = streams.entry(known.stream.clone()).or_default();
            stream.next_number = stream.next_number.max(known.number + 1);
            if !stream.partitions.contains_key(&known.number) {
                stream.remembered.push(known);
            }
        }
        let known: Vec<_> = self.partitions(None).iter().map(|p| known(p)).collect();
        Ok(catalog.note(&known)?)
    }

    /// The partitions of `stream` by number, or those of all streams.
    pub(crate) fn partitions(&self, stream: Option<&str>) -> Vec<Arc<Partition>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = streams
            .iter()
            .filter(|(name, _)| stream.is_none_or(|s| s == name.as_str()));
        wanted
            .flat_map(|(_, s)| s.partitions.values().cloned())
            .collect()
    }

    /// One partition.
    pub(crate) fn partition(&self, stream: &str, number: u32) -> Option<Arc<Partition>> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(stream)?.partitions.get(&number).cloned()
    }

    /// Moves whenever something new can be read.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Something new can be read.
    pub(crate) fn progressed(&self) {
        self.progress.send_modify(|n| *n += 1);
    }

    /// Gives `offer` its place in a chain, durably, and says from where to go on. `untaken` are logs that the gateway has as well, in the order in which it
    /// named them, and that have not been taken: what is left of them comes before what joins behind them, so nothing does for now.
    pub(crate) fn admit(
        &self,
        catalog: &Catalog,
        gateway: &Name,
        offer: &Offer,
        untaken: &[Named],
    ) -> Result<Admitted, Refusal> {
        let stream = Name::new(offer.stream.as_str()).map_err(|_| Refusal::NAME)?;
        let _turn = self.joining.lock().unwrap_or_else(PoisonError::into_inner);
        self.admit_in_turn(catalog, gateway, stream, offer, untaken).map_err(|e| {
            tracing::error!(%gateway, stream = %offer.stream, log = %offer.log, error = %e, "a log cannot be taken");
            match is_full(&e) {
                true => Refusal::DISK_FULL,
                false => Refusal::INTERNAL,
            }
        })
    }

    /// Logs with a known end that `gateway` no longer offers, although others of the same partition are taken, are sealed. One that was named and not
    /// taken is not forsaken: the gateway has it, and offers it again.
    pub(crate) fn seal_forsaken(
        &self,
        gateway: &Name,
        taken: &[Admitted],
        named: &[Named],
    ) -> io::Result<()> {
        for partition in self
            .partitions(None)
            .iter()
            .filter(|p| p.gateway == *gateway)
        {
            if !taken.iter().any(|a| Arc::ptr_eq(&a.partition, partition)) {
                continue;
            }
            for member in partition.members() {
                if !named.iter().any(|named| named.log == member.log_id()) {
                    self.seal(&member, Offset::ZERO)?;
                }
            }
        }
        Ok(())
    }

    /// A log is in the hub's custody to its announced end. If it was once said to be longer, other logs may stand where that would have ended: what lies between
    /// is lost.
    pub(crate) fn complete(&self, member: &Member, end: Offset) -> io::Result<()> {
        match member.link().end {
            Some(_) => self.seal(member, end)?,
            None => member.fix_end(end.get())?,
        }
        member.mirror.end().map_err(append_failed)
    }

    /// Lets go of what is older than its stream's retention.
    ///
    /// # Errors
    /// When a disk failed, here or before: that mirror takes nothing more until it is opened again.
    pub(crate) fn expire(&self) -> Result<(), AppendError> {
        for partition in self.partitions(None) {
            let retention = self.options.stream(partition.stream.as_str()).retention;
            let before = retention.map(|retention| {
                let age = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
                Micros::new(self.options.clock.now().get().saturating_sub(age))
            });
            for member in partition.members() {
                let outcome = match before {
                    Some(before) => member.mirror.expire(before).map(drop),
                    None if member.mirror.has_failed() => Err(AppendError::Failed),
                    None => Ok(()),
                };
                if let Err(e) = &outcome {
                    tracing::error!(stream = %partition.stream, log = %member.log_id(), error = %e, "retention failed");
                }
                outcome?;
            }
        }
        Ok(())
    }

    /// Bytes that all mirrors take on the disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.budget.taken()
    }

    fn admit_in_turn(
        &self,
        catalog: &Catalog,
        gateway: &Name,
        stream: Name,
        offer: &Offer,
        untaken: &[Named],
    ) -> io::Result<Admitted> {
        let offered = Offered {
            log: *offer.log.as_bytes(),
            next: offer.next.get(),
            closed: offer.closed,
        };
        let known = self.find(gateway, &stream, offer.partition);
        if let Some(partition) = &known {
            self.open_waiting(catalog, partition)?;
        }
        let links = known.as_ref().map(|p| p.links()).unwrap_or_default();
        let (partition, at) = match (chain::join(&links, &offered), known) {
            (Join::Resume(at), Some(partition)) => {
                let member = &partition.members()[at];
                if let Some(end) = chain::announced_end(&links[at], &offered) {
                    member.fix_end(end)?;
                }
                (partition, at)
            }
            (Join::Resume(_), None) => unreachable!("a chain without logs has none to resume"),
            (
                Join::New {
                    epoch,
                    shift,
                    start,
                    supersedes,
                },
                known,
            ) => {
                let last = known.as_ref().and_then(|p| p.members().pop());
                let last = last.filter(|_| supersedes.is_some());
                let is_last =
                    |named: &Named| last.as_ref().is_some_and(|last| last.log_id() == named.log);
                if untaken.iter().any(is_last) || comes_behind(offer, untaken) {
                    return Err(io::Error::other("the log before it is not taken yet"));
                }
                if let (Some(end), Some(last)) = (supersedes, last) {
                    last.fix_end(end)?;
                }
                let number = known.map_or_else(
                    || self.number_for(gateway, &stream, offer.partition),
                    |p| p.number,
                );
                let (log, partition) = (LogHex(offered.log), offer.partition);
                let end = offer.closed.then_some(offered.next);
                let gateway = gateway.clone();
                let identity = Identity {
                    format: 1,
                    gateway,
                    stream,
                    partition,
                    log,
                    number,
                    epoch,
                    shift,
                    start,
                    end,
                };
                let partition = self.create(catalog, identity)?;
                (partition, links.len())
            }
        };
        let verdict = verdict(&partition, at, offer)?;
        let members = partition.members();
        let member = Arc::clone(&members[at]);
        // What goes on in a further mirror does not fill the one before to its end: what the gateway still has of that comes in the new one.
        for before in members[..at].iter().filter(|m| m.log_id() == offer.log) {
            self.seal(before, offer.next)?;
        }
        Ok(Admitted {
            partition,
            member,
            verdict,
        })
    }

    /// A new mirror: its identity is durable before anything is said about it.
    fn create(&self, catalog: &Catalog, identity: Identity) -> io::Result<Arc<Partition>> {
        let Identity {
            gateway,
            stream,
            number,
            epoch,
            ..
        } = &identity;
        tracing::info!(%gateway, %stream, number, epoch, log = %String::from(identity.log), "a log joins");
        // Checked before anything is made, so that a hub without room does not collect empty directories.
        let capacity = self.options.stream(stream.as_str()).capacity;
        if self.budget.left() < capacity.min(LOG_BYTES_MIN) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let numbered = self.data.add(MIRRORS, identity)?;
        let partition = self.open_member(numbered)?;
        self.joined(catalog, &partition);
        Ok(partition)
    }

    fn joined(&self, catalog: &Catalog, partition: &Partition) {
        // An index that lags behind is repaired at the next start.
        if let Err(e) = catalog.note(&[known(partition)]) {
            tracing::error!(error = %e, "the catalog did not take a partition");
        }
        self.progressed();
    }

    /// Opens the mirrors of `partition` that could not be opened before, in their order. The error is that of the first one.
    fn open_waiting(&self, catalog: &Catalog, partition: &Partition) -> io::Result<()> {
        let waiting: Vec<_> = {
            let mut all = self.waiting();
            all.extract_if(.., |n| partition.is_of(&n.identity))
                .collect()
        };
        let mut outcome = Ok(());
        for numbered in waiting {
            match self.open_member(numbered) {
                Ok(partition) => self.joined(catalog, &partition),
                Err(e) => outcome = outcome.and(Err(e)),
            }
        }
        outcome
    }

    fn open_member(&self, numbered: Numbered<Identity>) -> io::Result<Arc<Partition>> {
        let partition = self.make_known(&numbered.identity);
        let behind_another = self.waiting().iter().any(|n| partition.is_of(&n.identity));
        let opened = match behind_another {
            // A chain has no holes.
            true => Err(io::Error::other("an earlier log of the chain is not open")),
            false => self.open_mirror(&numbered),
        };
        match opened {
            Ok(mirror) => partition.push(Arc::new(Member::new(numbered, mirror))),
            Err(e) => {
                self.waiting().push(numbered);
                return Err(e);
            }
        }
        Ok(partition)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Numbered<Identity>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition of `identity`, which is there from now on.
    fn make_known(&self, identity: &Identity) -> Arc<Partition> {
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        let entry = streams.entry(identity.stream.to_string()).or_default();
        entry.next_number = entry.next_number.max(identity.number + 1);
        let partition = entry.partitions.entry(identity.number);
        Arc::clone(partition.or_insert_with(|| Arc::new(Partition::new(identity))))
    }

    fn open_mirror(&self, numbered: &Numbered<Identity>) -> io::Result<Mirror> {
        let identity = &numbered.identity;
        let stream = self.options.stream(identity.stream.as_str());
        let options = MirrorOptions {
            capacity_bytes: stream.capacity,
            when_full: stream.when_full,
            budget: self.budget.clone(),
            ..Default::default()
        };
        let (dir, log) = (numbered.path.join("log"), LogId::new(identity.log.0));
        let clock = self.options.clock.clock();
        let refused = |e: OpenError| match e.want_of_room() {
            Some(why) => {
                let why = format!("{}: {why}", dir.display());
                io::Error::new(io::ErrorKind::StorageFull, why)
            }
            None => io::Error::other(e),
        };
        let (mirror, _) = Mirror::open(&dir, log, options, clock).map_err(refused)?;
        if mirror.next().get() < identity.start {
            let (from, to) = (mirror.next(), Offset::new(identity.start));
            let gap = gap_of(from, to, 0, self.options.clock.now());
            mirror.append_gap(&gap).map_err(io::Error::other)?;
        }
        Ok(mirror)
    }

    fn find(&self, gateway: &Name, stream: &Name, partition: u16) -> Option<Arc<Partition>> {
        let all = self.partitions(Some(stream.as_str()));
        all.into_iter()
            .find(|p| p.gateway == *gateway && p.partition == partition)
    }

    /// The number of a partition that has no mirror: the one it once had, or a new one.
    fn number_for(&self, gateway: &Name, stream: &Name, partition: u16) -> u32 {
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        let entry = streams.entry(stream.to_string()).or_default();
        let is = |k: &&KnownPartition| k.gateway == gateway.as_str() && k.partition == partition;
        let number = entry
            .remembered
            .iter()
            .find(is)
            .map_or(entry.next_number, |k| k.number);
        entry.next_number = entry.next_number.max(number + 1);
        number
    }

    /// The rest of a log, up to its known end, becomes a gap; what lies below `held` is not lost.
    fn seal(&self, member: &Member, held: Offset) -> io::Result<()> {
        let link = member.link();
        let Some(end) = link.end.filter(|end| link.next < *end) else {
            return Ok(());
        };
        let (from, to) = (Offset::new(link.next), Offset::new(end));
        let lost = to.since(held.max(from).min(to));
        tracing::warn!(log = %member.log_id(), from = link.next, to = end, lost, "the gateway no longer has the rest of a log");
        let gap = gap_of(from, to, lost, self.options.clock.now());
        member.mirror.append_gap(&gap).map_err(append_failed)?;
        self.progressed();
        Ok(())
    }
}

/// Whether a log of the same chain that is not taken yet was named before it.
fn comes_behind(offer: &Offer, untaken: &[Named]) -> bool {
    let at = untaken.iter().position(|named| named.log == offer.log);
    let before = &untaken[..at.unwrap_or(0)];
    before
        .iter()
        .any(|named| named.stream == offer.stream && named.partition == offer.partition)
}

/// Where a gateway goes on: behind what is durable, with the fingerprint of the frame before it.
fn verdict(partition: &Partition, at: usize, offer: &Offer) -> io::Result<Verdict<'static>> {
    let members = partition.members();
    if let Some(crc_below) = held_to_its_end(&members[..=at], offer)? {
        let next = offer.next;
        return Ok(Verdict::Resume { next, crc_below });
    }
    let (link, next) = (members[at].link(), members[at].mirror.next());
    // What lies before the start of a log that came back stands in its mirror before.
    let before = members[..at]
        .iter()
        .rev()
        .find(|m| m.log_id() == members[at].log_id());
    let holder = before
        .filter(|_| next.get() == link.start)
        .unwrap_or(&members[at]);
    let crc_below = holder.mirror.crc_below(next).map_err(io::Error::other)?;
    Ok(Verdict::Resume { next, crc_below })
}

/// Of a log that ends before its newest mirror does: the fingerprint at its end, if it is the beginning of what the mirrors have. Where the gateway holds nothing
/// of it any more there is nothing to compare.
fn held_to_its_end(mirrors: &[Arc<Member>], offer: &Offer) -> io::Result<Option<Option<u32>>> {
    let end = offer.next;
    let newest = mirrors.last().expect("it has its place");
    if !offer.closed || newest.mirror.next() <= end {
        return Ok(None);
    }
    if offer.oldest == end {
        return Ok(Some(None));
    }
    let of_it = mirrors.iter().rev().filter(|m| m.log_id() == offer.log);
    let mut holding = of_it.filter(|m| m.mirror.oldest() < end && end <= m.mirror.next());
    let crc = match holding.find(|m| m.link().start < end.get()) {
        Some(member) => member.mirror.crc_below(end).map_err(io::Error::other)?,
        None => None,
    };
    Ok((crc.is_some() && crc == offer.tail_crc).then_some(crc))
}

/// A mirror that may not evict and is full has not failed.
fn append_failed(error: AppendError) -> io::Error {
    match error {
        AppendError::Full => io::ErrorKind::StorageFull.into(),
        error => io::Error::other(error),
    }
}

/// A disk that has no room, or no more room for us.
fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn gap_of(from: Offset, to: Offset, lost: u64, when: Micros) -> Gap {
    Gap {
        from,
        to,
        lost,
        cause: Cause::NewLog,
        when,
        when_last: when,
    }
}

fn known(partition: &Partition) -> KnownPartition {
    let wire::Partition {
        stream,
        gateway,
        number,
        partition,
        ..
    } = partition.describe();
    KnownPartition {
        stream,
        number,
        gateway,
        partition,
    }
}

impl Refusal {
    const DISK_FULL: Self = Self {
        code: Code::DISK_FULL,
        reason: "the hub has no room for another log",
    };
    const NAME: Self = Self {
        code: Code::NOT_ALLOWED,
        reason: "the stream's name is not one",
    };
    const INTERNAL: Self = Self {
        code: Code::INTERNAL,
        reason: "the hub's disk did not do it",
    };
}

const MIRRORS: &str = "mirrors";
/// Three segments of the largest size: no log can do with less.
const LOG_BYTES_MIN: u64 = 48 << 20;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use sedge_core::entry::{Entry, Headers, Record};
    use sedge_core::frame::{Form, Frame, Label, emit_data};

    use super::super::options::StreamOptions;
    use super::*;

    /// The disk fails once, where the end of the first log is to be written down; the log behind it comes in the same breath.
    #[test]
    fn a_log_joins_only_behind_one_that_was_taken() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let gateway = Name::new("gw-7").unwrap();
        let admit = |offer: &Offer, untaken: &[Named]| {
            let admitted = registry.admit(&catalog, &gateway, offer, untaken);
            admitted.map(|admitted| admitted.member.link())
        };
        let open = Offer {
            log: LogId::new([0xA; 16]),
            stream: "telemetry".into(),
            partition: 0,
            oldest: Offset::ZERO,
            next: Offset::new(0),
            tail_crc: None,
            closed: false,
        };
        assert_eq!(registry.disk_bytes(), 0);
        admit(&open, &[named(&open)]).unwrap();
        assert!(
            registry.disk_bytes() > 1_000_000,
            "a mirror has its segment"
        );
        let closed = Offer {
            next: Offset::new(50),
            closed: true,
            ..open.clone()
        };
        let behind = Offer {
            log: LogId::new([0xB; 16]),
            ..open.clone()
        };
        let named = [named(&closed), named(&behind)];
        // A directory where the new identity file would be made.
        let in_the_way = dir.path().join("mirrors/0000/.new-identity.toml");
        std::fs::create_dir(&in_the_way).unwrap();
        assert_eq!(admit(&closed, &named), Err(Refusal::INTERNAL));
        std::fs::remove_dir(&in_the_way).unwrap();
        assert_eq!(admit(&behind, &named), Err(Refusal::INTERNAL));
        assert_eq!(admit(&closed, &named).map(|l| l.end), Ok(Some(50)));
        assert_eq!(admit(&behind, &named[1..]).map(|l| l.shift), Ok(50));
    }

    /// The same where the first log is new as well: no directory can be made for it, and a moment later one can.
    #[test]
    fn a_log_joins_only_behind_those_that_were_named_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let gateway = Name::new("gw-7").unwrap();
        let offer = |log, closed, partition| Offer {
            log: LogId::new([log; 16]),
            stream: "telemetry".into(),
            partition,
            oldest: Offset::ZERO,
            next: Offset::new(50),
            tail_crc: None,
            closed,
        };
        let offers = [
            offer(0xA, true, 0),
            offer(0xB, false, 0),
            offer(0xC, false, 1),
        ];
        let admit = |at: usize, untaken: &[Named]| {
            let admitted = registry.admit(&catalog, &gateway, &offers[at], untaken);
            admitted.map(|admitted| admitted.member.link().shift)
        };
        let all = offers.each_ref().map(named);
        let in_the_way = dir.path().join("mirrors/.new-0000");
        std::fs::write(&in_the_way, "").unwrap();
        assert_eq!(admit(0, &all), Err(Refusal::INTERNAL));
        std::fs::remove_file(&in_the_way).unwrap();
        assert_eq!(admit(1, &all), Err(Refusal::INTERNAL));
        assert_eq!(admit(2, &all), Ok(0), "that is another chain");
        assert_eq!(admit(0, &all[..2]), Ok(0));
        assert_eq!(admit(1, &all[1..2]), Ok(50));
    }

    fn named(offer: &Offer) -> Named {
        Named {
            log: offer.log,
            stream: offer.stream.clone(),
            partition: offer.partition,
        }
    }

    /// A gateway's disk is put back to a time before its log had ended, and the hub has not had all of it: what there was then and is not there now is
    /// lost and counted, the rest comes behind it.
    #[test]
    fn a_log_that_had_ended_and_is_open_again_goes_on_behind_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let gateway = Name::new("gw-7").unwrap();
        let admit = |next: u64, closed| {
            let offer = Offer {
                log: LogId::new([0xA; 16]),
                stream: "telemetry".into(),
                partition: 0,
                oldest: Offset::ZERO,
                next: Offset::new(next),
                tail_crc: None,
                closed,
            };
            let admitted = registry.admit(&catalog, &gateway, &offer, &[]).unwrap();
            (admitted.member.link(), admitted.partition)
        };
        let (link, _) = admit(50, true);
        assert_eq!((link.epoch, link.end), (0, Some(50)));
        let (link, partition) = admit(20, false);
        assert_eq!(
            (link.epoch, link.shift, link.start, link.end),
            (1, 50, 0, None)
        );
        let given_up = partition.members()[0].link();
        assert_eq!(given_up.next, 50);
        let (link, _) = admit(25, false);
        assert_eq!(link.epoch, 1, "it goes on there");
    }

    /// Two gateways of one name, or one whose disk was put back: the log was said to be longer, and another one has joined behind that.
    #[test]
    fn a_log_that_ends_before_its_announced_end_leaves_no_hole() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let gateway = Name::new("gw-7").unwrap();
        let admit = |offer: &Offer| registry.admit(&catalog, &gateway, offer, &[]).unwrap();
        let longer = Offer {
            log: LogId::new([0xA; 16]),
            stream: "telemetry".into(),
            partition: 0,
            oldest: Offset::ZERO,
            next: Offset::new(50),
            tail_crc: None,
            closed: true,
        };
        let behind = Offer {
            log: LogId::new([0xB; 16]),
            next: Offset::ZERO,
            closed: false,
            ..longer.clone()
        };
        let (first, _) = (admit(&longer), admit(&behind));
        let (frame, crc) = frame_of(&longer.log, 30);
        first.member.mirror.append(&frame).unwrap();
        let end = Offset::new(30);
        registry.complete(&first.member, end).unwrap();
        let runs = chain::runs(&first.partition.links());
        assert_eq!((runs.len(), runs[0].end), (1, 50), "{runs:?}");
        let gap = first.member.mirror.read(end, 1_000).unwrap().frames;
        let gap = Frame::parse(&gap, &longer.log, None)
            .unwrap()
            .0
            .gap()
            .unwrap();
        assert_eq!((gap.to.get(), gap.lost, gap.cause), (50, 20, Cause::NewLog));
        // The Ack did not arrive, and the log is offered again.
        let again = |oldest: Offset, tail_crc| {
            let offer = Offer {
                oldest,
                next: end,
                tail_crc,
                ..longer.clone()
            };
            admit(&offer).verdict
        };
        let resume = |next, crc_below| Verdict::Resume { next, crc_below };
        assert_eq!(again(Offset::ZERO, Some(crc)), resume(end, Some(crc)));
        let other = again(Offset::ZERO, Some(crc ^ 1));
        assert_eq!(other, resume(Offset::new(50), None), "another history");
        assert_eq!(again(end, None), resume(end, None), "what is left of it");
    }

    /// A frame of `count` records from the first offset on, and its fingerprint.
    fn frame_of(log: &LogId, count: u16) -> (Vec<u8>, u32) {
        let label = Label {
            form: Form::Explicit,
            first: Offset::ZERO,
            time: Micros::new(1),
            first_of_commit: true,
        };
        let (mut entries, mut bytes) = ([0; 16], [0; 1_024]);
        let entry = Entry::Record(Record {
            time: None,
            key: None,
            headers: Headers::default(),
            value: b"v",
        });
        let len = entry.encode(&mut entries).unwrap();
        let entries = entries[..len].repeat(count.into());
        let len = emit_data(&mut bytes, log, label, count, &[], &entries).unwrap();
        let crc = Frame::parse(&bytes[..len], log, None).unwrap().0.header.crc;
        (bytes[..len].to_vec(), crc)
    }

    /// It was superseded by another one and has grown meanwhile: what it has goes on in a further mirror. The gateway is asked to show that it is the
    /// same history, by the frame that stands before: at first that is the last one of the mirror before, later one of its own.
    #[test]
    fn a_log_that_comes_back_is_known_by_the_frame_before() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let gateway = Name::new("gw-7").unwrap();
        let admit = |log: u8, next: u64| {
            let offer = Offer {
                log: LogId::new([log; 16]),
                stream: "telemetry".into(),
                partition: 0,
                next: Offset::new(next),
                closed: false,
            };
            registry.admit(&catalog, &gateway, &offer, &[]).unwrap()
        };
        let append = |admitted: &Admitted, offsets: std::ops::Range<u64>| {
            for first in offsets {
                let label = Label {
                    form: Form::Explicit,
                    first: Offset::new(first),
                    time: Micros::new(1),
                    first_of_commit: true,
                };
                let (mut frame, log) = ([0; 64], admitted.member.log_id());
                let len = emit_data(&mut frame, &log, label, 1, &[], &[0; 2]).unwrap();
                admitted.member.mirror.append(&frame[..len]).unwrap();
            }
        };
        let resumes = |admitted: &Admitted, holder: &Admitted, at: u64| {
            let (next, mirror) = (Offset::new(at), &holder.member.mirror);
            let crc_below = mirror.crc_below(next).unwrap();
            assert!(crc_below.is_some() || at == 0);
            assert_eq!(admitted.verdict, Verdict::Resume { next, crc_below });
        };
        let first = admit(0xA, 50);
        resumes(&first, &first, 0);
        append(&first, 0..12);
        resumes(&admit(0xA, 50), &first, 12);
        append(&admit(0xB, 0), 0..3);
        assert_eq!(first.member.link().end, Some(12));
        let further = admit(0xA, 50);
        let link = further.member.link();
        assert_eq!(
            (link.epoch, link.shift, link.start, link.next),
            (2, 3, 12, 12)
        );
        resumes(&further, &first, 12);
        append(&further, 12..14);
        resumes(&admit(0xA, 50), &further, 14);
        let partition = &further.partition;
        assert_eq!((partition.describe().end, partition.earliest()), (17, 0));
        let from = |from| {
            let want = wire::Want {
                number: 0,
                from,
                epoch: None,
            };
            let head = partition.read(&want, 1 << 20).unwrap().unwrap().head;
            (head.epoch, head.next, head.gaps.len())
        };
        assert_eq!(
            [0, 12, 14, 15, 16].map(from),
            [(0, 12, 0), (1, 15, 1), (1, 15, 0), (2, 17, 1), (2, 17, 0)]
        );
    }

    /// What the catalog remembers of partitions whose mirrors are gone: they have their numbers for ever, and nobody else gets them.
    #[test]
    fn a_partition_that_was_known_has_its_number_again() {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(&HubOptions::new(dir.path())).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let known = |number, gateway: &str, partition| KnownPartition {
            stream: "telemetry".into(),
            number,
            gateway: gateway.into(),
            partition,
        };
        let before = [
            known(2, "gw-7", 0),
            known(4, "gw-7", 1),
            known(5, "gw-8", 0),
        ];
        catalog.note(&before).unwrap();
        registry.reconcile(&catalog).unwrap();
        let number = |gateway: &str, stream: &str, partition| {
            let offer = Offer {
                log: LogId::new([partition as u8 + 1; 16]),
                stream: stream.into(),
                partition,
                next: Offset::ZERO,
                closed: false,
            };
            let gateway = Name::new(gateway).unwrap();
            let admitted = registry.admit(&catalog, &gateway, &offer, &[]);
            admitted.unwrap().partition.number
        };
        let numbers = [
            number("gw-7", "telemetry", 1),
            number("gw-7", "telemetry", 2),
            number("gw-8", "telemetry", 0),
            number("gw-8", "telemetry", 1),
            number("gw-7", "telemetry", 0),
            number("gw-7", "alarms", 0),
            number("gw-7", "alarms", 1),
            number("gw-7", "telemetry", 2),
        ];
        assert_eq!(numbers, [4, 6, 5, 7, 2, 0, 1, 6]);
        assert_eq!(catalog.partitions().unwrap().len(), 7);
        let of = |stream| registry.partitions(stream).len();
        assert_eq!((of(None), of(Some("alarms")), of(Some("none"))), (7, 2, 0));
    }

    /// Two streams, one of which keeps its records for an hour; four of the frames fill a segment.
    #[test]
    fn what_is_older_than_its_streams_retention_goes() {
        let (dir, hour) = (tempfile::tempdir().unwrap(), 3_600_000_000_i64);
        let now = Arc::new(AtomicI64::new(1_000 * hour));
        let clock: sedge_store::Clock = {
            let now = Arc::clone(&now);
            Arc::new(move || Micros::new(now.load(Ordering::Relaxed)))
        };
        let stream = |name: &str, retention| StreamOptions {
            name: name.into(),
            capacity: 64 << 20,
            retention,
            ..StreamOptions::default()
        };
        let options = HubOptions {
            streams: vec![
                stream("kept", None),
                stream("*", Some(Duration::from_secs(3_600))),
            ],
            clock: clock.into(),
            ..HubOptions::new(dir.path())
        };
        let registry = Registry::open(&options).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let partitions = ["kept", "telemetry"].map(|stream| {
            let offer = Offer {
                log: LogId::new([7; 16]),
                stream: stream.into(),
                partition: 0,
                next: Offset::ZERO,
                closed: false,
            };
            let gateway = Name::new("gw-7").unwrap();
            let admitted = registry.admit(&catalog, &gateway, &offer, &[]).unwrap();
            for first in 0..10 {
                let label = Label {
                    form: Form::Explicit,
                    first: Offset::new(first),
                    time: Micros::new(1),
                    first_of_commit: true,
                };
                let mut frame = vec![0; 1_010 << 10];
                let entries = vec![0; 1_000 << 10];
                let len = emit_data(&mut frame, &offer.log, label, 1, &[], &entries).unwrap();
                admitted.member.mirror.append(&frame[..len]).unwrap();
            }
            admitted.partition
        });
        let earliest = || partitions.each_ref().map(|p| p.earliest());
        now.fetch_add(hour - 1, Ordering::Relaxed);
        registry.expire();
        assert_eq!(earliest(), [0, 0]);
        now.fetch_add(2, Ordering::Relaxed);
        registry.expire();
        let [kept, gone] = earliest();
        assert_eq!((kept, gone), (0, 8));
    }
}
