//! All partitions of the hub, and how a log that a gateway offers finds its place among them.
//!
//! Everything here may block for the disk. Joining takes turns; reading does not wait for it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sedge_core::custody::message::{Code, Verdict};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use sedge_store::{
    AppendError, Budget, DataDir, Held, Mirror, MirrorOptions, Name, Numbered, OpenError, world,
};

use super::HubError;
use super::catalog::{Catalog, KnownPartition};
use super::chain::{self, Identity, Join, LogHex, Offered};
use super::library::Library;
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
    /// What can be read of them.
    library: Arc<Library>,
    numbers: Mutex<BTreeMap<String, Numbers>>,
    /// Held while a log joins.
    joining: Mutex<()>,
    /// Logs with a place in a chain whose mirrors could not be opened, for want of room or because of a disk that gave no answer: tried again when a
    /// log of their partition is offered.
    waiting: Mutex<Vec<Waiting>>,
}

/// A log whose mirror is not open.
#[derive(Debug)]
struct Waiting {
    numbered: Numbered<Identity>,
    /// Its files are on the disk all the same.
    held: Held,
}

/// The numbers that partitions of a stream have had.
#[derive(Debug, Default)]
struct Numbers {
    /// Those below this were given, even if their partitions are gone.
    next: u32,
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
        let numbered = data.numbered::<Identity>(MIRRORS);
        let numbered = numbered.map_err(in_mirrors(&data))?;
        let mut identities = numbered.found().to_vec();
        identities.sort_by_key(|n| n.identity.epoch);
        let registry = Self {
            data,
            options: options.clone(),
            budget: Budget::new(options.disk_max),
            library: Arc::default(),
            numbers: Mutex::default(),
            joining: Mutex::default(),
            waiting: Mutex::default(),
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
        let noted = catalog.partitions()?;
        if noted.is_empty() && !self.partitions(None).is_empty() && !world::is_simulated() {
            let data_dir = self.data.root().display();
            tracing::warn!(%data_dir, "there are streams and no catalog, nor a copy of one: all groups begin anew, their offsets are gone");
        }
        for known in noted {
            let is_there = self.partition(&known.stream, known.number).is_some();
            let mut numbers = self.numbers();
            let numbers = numbers.entry(known.stream.clone()).or_default();
            numbers.next = numbers.next.max(known.number + 1);
            if !is_there {
                numbers.remembered.push(known);
            }
        }
        self.note(catalog);
        Ok(())
    }

    /// The catalog learns which partitions are there, if it does not know them. It is only needed once their mirrors are gone: what it cannot take now, it
    /// takes another time.
    pub(crate) fn note(&self, catalog: &Catalog) {
        let noted = catalog.partitions().and_then(|noted| {
            let partitions = self.partitions(None);
            let mut unknown: Vec<_> = partitions.iter().map(|p| known(p)).collect();
            unknown.retain(|known| !noted.contains(known));
            match unknown.is_empty() {
                true => Ok(()),
                false => catalog.note(&unknown),
            }
        });
        if let Err(e) = noted {
            let data_dir = self.data.root().display();
            tracing::warn!(%data_dir, error = %e, "the catalog did not take the partitions that are there; it is tried again");
        }
    }

    /// What can be read.
    pub(crate) fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// The partitions of `stream` by number, or those of all streams.
    pub(crate) fn partitions(&self, stream: Option<&str>) -> Vec<Arc<Partition>> {
        self.library.partitions(stream)
    }

    /// One partition.
    pub(crate) fn partition(&self, stream: &str, number: u32) -> Option<Arc<Partition>> {
        self.library.partition(stream, number)
    }

    /// Something new can be read.
    pub(crate) fn progressed(&self) {
        self.library.progressed();
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
    pub(crate) fn expire(&self) -> Result<(), (Arc<Member>, AppendError)> {
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
                outcome.map_err(|e| (member, e))?;
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
            self.end_outgrown(partition, offer)?;
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
                    last.supersede(end)?;
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

    /// A log whose frames have become too large for its mirror goes on in a further one, if the capacity has been raised since.
    fn end_outgrown(&self, partition: &Partition, offer: &Offer) -> io::Result<()> {
        let members = partition.members();
        let Some(last) = members.last().filter(|m| m.log_id() == offer.log) else {
            return Ok(());
        };
        let (link, capacity) = (last.link(), self.options.stream(&offer.stream).capacity);
        if link.end.is_some() || offer.next.get() <= link.next || !last.is_outgrown(capacity) {
            return Ok(());
        }
        tracing::info!(log = %offer.log, from = link.next, "a log goes on in a mirror that takes larger frames");
        last.fix_end(link.next)
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
        let numbered = self.data.add(MIRRORS, identity);
        let numbered = numbered.map_err(in_mirrors(&self.data))?;
        let partition = self.open_member(numbered)?;
        self.joined(catalog, &partition);
        Ok(partition)
    }

    fn joined(&self, catalog: &Catalog, partition: &Partition) {
        // An index that lags behind is repaired before it is copied.
        if let Err(e) = catalog.note(&[known(partition)]) {
            tracing::error!(error = %e, "the catalog did not take a partition");
        }
        self.progressed();
    }

    /// Opens the mirrors of `partition` that could not be opened before, in their order. The error is that of the first one.
    fn open_waiting(&self, catalog: &Catalog, partition: &Partition) -> io::Result<()> {
        let waiting: Vec<_> = {
            let mut all = self.waiting();
            all.extract_if(.., |w| partition.is_of(&w.numbered.identity))
                .collect()
        };
        let mut outcome = Ok(());
        for Waiting { numbered, held } in waiting {
            drop(held);
            match self.open_member(numbered) {
                Ok(partition) => self.joined(catalog, &partition),
                Err(e) => outcome = outcome.and(Err(e)),
            }
        }
        outcome
    }

    fn open_member(&self, numbered: Numbered<Identity>) -> io::Result<Arc<Partition>> {
        let partition = self.make_known(&numbered.identity);
        let is_of = |w: &Waiting| partition.is_of(&w.numbered.identity);
        let behind_another = self.waiting().iter().any(is_of);
        let opened = match behind_another {
            // A chain has no holes.
            true => Err(io::Error::other("an earlier log of the chain is not open")),
            false => self.open_mirror(&numbered),
        };
        match opened {
            Ok(mirror) => partition.push(Arc::new(Member::new(numbered, mirror))),
            Err(e) => {
                let held = self.budget.hold(&numbered.path.join(LOG));
                self.waiting().push(Waiting { numbered, held });
                return Err(e);
            }
        }
        Ok(partition)
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partition of `identity`, which is there from now on.
    fn make_known(&self, identity: &Identity) -> Arc<Partition> {
        let mut numbers = self.numbers();
        let numbers = numbers.entry(identity.stream.to_string()).or_default();
        numbers.next = numbers.next.max(identity.number + 1);
        self.library.put(Arc::new(Partition::new(identity)))
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
        let (dir, log) = (numbered.path.join(LOG), LogId::new(identity.log.0));
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
        let mut numbers = self.numbers();
        let numbers = numbers.entry(stream.to_string()).or_default();
        let is = |k: &&KnownPartition| k.gateway == gateway.as_str() && k.partition == partition;
        let known = numbers.remembered.iter().find(is);
        let number = known.map_or(numbers.next, |k| k.number);
        numbers.next = numbers.next.max(number + 1);
        number
    }

    fn numbers(&self) -> MutexGuard<'_, BTreeMap<String, Numbers>> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
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
    let next = members[at].mirror.next();
    // What lies before the start of a log that came back stands in a mirror before: the last one that has anything of it.
    let log = members[at].log_id();
    let mut of_it = members[..=at].iter().rev().filter(|m| m.log_id() == log);
    let holder = of_it.find(|m| m.link().start < next.get());
    let holder = holder.unwrap_or(&members[at]);
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

/// Says where it was.
fn in_mirrors(data: &DataDir) -> impl Fn(io::Error) -> io::Error {
    let path = data.root().join(MIRRORS);
    move |e| io::Error::new(e.kind(), format!("{}: {e}", path.display()))
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
/// In the directory of a mirror.
const LOG: &str = "log";
/// Three segments of the largest size: no log can do with less.
const LOG_BYTES_MIN: u64 = 48 << 20;

#[cfg(test)]
mod tests;
