//! From a source's messages to the partitions of its stream.
//!
//! ```text
//! message ─Subject→ key ─murmur2→ lane ─Unit→ Batch ─stage→ Ticket ─commit→ settled: acknowledge
//! ```
//! [`Ingest`] is what all sources share: the streams, the dead letters, the memory budget. [`Intake`] is one connection's way in.
//! Knows nothing of protocols.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sedge_config::Template;
use sedge_config::checked::DEAD_LETTER;
use sedge_core::Micros;
use sedge_core::entry::Notice;
use sedge_store::watch;
use sedge_store::{Batch, Partition, Producer, StageError, Ticket, Unit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dead_letter::{self, DeadLetter};
use crate::owner::Claims;
use crate::route::{self, KeyError, KeyTemplate, Subject};

/// What all sources share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ingest(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    streams: BTreeMap<String, StreamHandle>,
    budget: Budget,
    record_bytes_max: usize,
    batches: Mutex<Vec<Batch>>,
}

/// A stream's partitions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StreamHandle(Arc<[Lane]>);

/// One partition, and what its log remembers for sources.
#[derive(Clone, Debug)]
pub struct Lane {
    partition: Partition,
    claims: Claims,
}

impl Ingest {
    /// `streams` are all that are declared, by name; `dead-letter` is among them.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    pub fn new(
        streams: BTreeMap<String, StreamHandle>,
        record_bytes_max: u32,
        memory_bytes: u64,
    ) -> Self {
        assert!(
            streams.contains_key(DEAD_LETTER),
            "the stream of dead letters is always declared"
        );
        Self(Arc::new(Shared {
            streams,
            budget: Budget::new(memory_bytes),
            record_bytes_max: record_bytes_max as usize,
            batches: Mutex::default(),
        }))
    }

    /// A stream by its name.
    #[must_use]
    pub fn stream(&self, name: &str) -> Option<&StreamHandle> {
        self.0.streams.get(name)
    }

    /// Memory for events that are not yet on disk.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.0.budget
    }

    /// The largest event: key, headers and value together.
    #[must_use]
    pub fn record_bytes_max(&self) -> usize {
        self.0.record_bytes_max
    }

    /// A connection's way into `stream`, with keys made by `key`.
    ///
    /// # Panics
    /// If the stream is not declared.
    #[must_use]
    pub fn intake(&self, stream: &str, key: &Template) -> Intake {
        let stream = self.stream(stream).expect("a source's stream is declared");
        let dead = self
            .stream(DEAD_LETTER)
            .expect("the stream of dead letters is always declared");
        let lanes: Vec<_> = stream
            .lanes()
            .iter()
            .chain(&dead.lanes()[..1])
            .cloned()
            .collect();
        // A log that is small, or was made for smaller ones, takes no event of any size.
        let of_lane = |lane: &Lane| {
            let unit_bytes_max = lane.partition.unit_bytes_max();
            unit_bytes_max.saturating_sub(UNIT_OVERHEAD_BYTES)
        };
        let of_stream = stream.lanes().iter().map(of_lane).min();
        let record_bytes_max = self.record_bytes_max();
        Intake {
            shared: Arc::clone(&self.0),
            record_bytes_max: of_stream.map_or(record_bytes_max, |most| most.min(record_bytes_max)),
            template: key.into(),
            key: Vec::new(),
            partitions: stream.lanes().len(),
            ways: lanes.into_iter().map(Way::new).collect(),
            window_bound: false,
        }
    }
}

impl StreamHandle {
    /// A stream of these partitions, in their order.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn new(lanes: Vec<Lane>) -> Self {
        assert!(
            !lanes.is_empty() && lanes.len() < usize::from(u16::MAX),
            "a stream has 1 to 65,534 partitions"
        );
        if lanes.len() > 1 {
            lanes.iter().for_each(|lane| lane.claims.shared());
        }
        Self(lanes.into())
    }

    /// Its partitions, in their order.
    #[must_use]
    pub fn lanes(&self) -> &[Lane] {
        &self.0
    }

    /// The place of the partition in which `key` always lands.
    #[must_use]
    pub fn lane_of(&self, key: &[u8]) -> usize {
        route::partition_of(key, self.0.len())
    }
}

/// Which streams take nothing, because the disk has no room for their logs.
#[derive(Clone, Debug)]
pub(crate) struct Refusals(Arc<Shared>);

impl Refusals {
    pub(crate) fn of(ingest: &Ingest) -> Self {
        Self(Arc::clone(&ingest.0))
    }

    /// A line for each, in words. Touches no disk.
    pub(crate) fn lines(&self) -> Vec<String> {
        let streams = self.0.streams.iter();
        streams
            .filter_map(|(name, stream)| Some(format!("stream {name}: {}", stream.refused()?)))
            .collect()
    }

    /// A line for each stream that is full and may not evict. Touches no disk.
    pub(crate) fn full(&self) -> Vec<String> {
        let full = self.0.streams.iter().filter(|(_, stream)| stream.is_full());
        full.map(|(name, _)| format!("stream {name}: {FULL}"))
            .collect()
    }
}

impl StreamHandle {
    /// Why one of its partitions takes nothing, if that is so.
    #[must_use]
    pub fn refused(&self) -> Option<Arc<str>> {
        let refused = |lane: &Lane| lane.partition.intake_refused().borrow().clone();
        self.0.iter().find_map(refused)
    }

    /// Whether all of its partitions are full and may not evict.
    #[must_use]
    pub fn is_all_full(&self) -> bool {
        self.0.iter().all(|lane| lane.partition.stats().full)
    }

    /// Whether one of its partitions is full and may not evict.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let mut lanes = self.0.iter();
        lanes.any(|lane| lane.partition.stats().full)
    }
}

/// Why a log takes nothing that has to keep what it has.
pub(crate) const FULL: &str = "full, and nothing may be evicted";

impl Lane {
    /// A partition that has just been opened with the owner of `claims`.
    #[must_use]
    pub fn new(partition: Partition, claims: Claims) -> Self {
        claims.opened();
        Self { partition, claims }
    }

    /// The log.
    #[must_use]
    pub fn partition(&self) -> &Partition {
        &self.partition
    }

    /// What it remembers for sources.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }
}

/// One connection's way into a stream. Records gather in one batch for each lane until they are staged.
#[derive(Debug)]
pub struct Intake {
    shared: Arc<Shared>,
    /// Key, headers and value together that any lane of the stream takes.
    record_bytes_max: usize,
    template: KeyTemplate,
    key: Vec<u8>,
    partitions: usize,
    /// The stream's lanes, then that of the dead letters.
    ways: Vec<Way>,
    window_bound: bool,
}

#[derive(Debug)]
struct Way {
    lane: Lane,
    settled: watch::Receiver<Ticket>,
    /// Made with the first batch: most connections use one lane only.
    producer: Option<Producer>,
    batch: Option<Batch>,
}

/// What was staged in a lane of an [`Intake`]: durable when the lane has settled the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The lane.
    pub lane: u16,
    /// What it has to settle.
    pub ticket: Ticket,
}

impl Intake {
    /// Makes the key of a message, which [`Intake::record`] uses next, and says in which lane it lands.
    ///
    /// # Errors
    /// If the message has no key: it belongs to the dead letters.
    pub fn lane_of(&mut self, subject: &Subject<'_>) -> Result<u16, KeyError> {
        self.template.render(subject, &mut self.key)?;
        Ok(if self.partitions == 1 {
            0
        } else {
            route::partition_of(&self.key, self.partitions) as u16
        })
    }

    /// The key that was made last.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Whether a message is larger than a record may be, given the lengths of value and headers.
    #[must_use]
    pub fn is_oversize(&self, bytes: usize) -> bool {
        bytes + self.key.len() > self.record_bytes_max
    }

    /// Puts a record with the key that was made last into the batch of `lane`, with the annotation `item`.
    /// Returns the bytes that it takes.
    pub fn record(
        &mut self,
        lane: u16,
        time: Option<Micros>,
        headers: &[(&str, &[u8])],
        value: &[u8],
        item: &[u8],
    ) -> usize {
        let key = std::mem::take(&mut self.key);
        let bytes = self.unit(
            lane,
            |unit| unit.record(time, Some(&key), headers, value),
            item,
        );
        self.key = key;
        bytes
    }

    /// Puts a notice of loss before this log into the batch of `lane`.
    pub fn notice(
        &mut self,
        lane: u16,
        time: Option<Micros>,
        notice: &Notice<'_>,
        item: &[u8],
    ) -> usize {
        self.unit(lane, |unit| unit.notice(time, notice), item)
    }

    /// Puts the entries that `fill` makes into the batch of `lane`, as one unit. Returns the bytes that they take.
    pub fn unit(&mut self, lane: u16, fill: impl FnOnce(&mut Unit<'_>), item: &[u8]) -> usize {
        let batch = self.batch(lane);
        let before = batch.bytes();
        batch.push(fill, item);
        batch.bytes() - before
    }

    /// Puts a message that could not be taken into the batch of the dead letters. Returns their lane and the bytes.
    pub fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> (u16, usize) {
        let lane = self.partitions as u16;
        (lane, self.unit(lane, |unit| letter.record(unit), &[]))
    }

    /// Puts a note for the owner into the batch of `lane`.
    pub fn note(&mut self, lane: u16, item: &[u8]) {
        self.batch(lane).push_note(item);
    }

    /// Stages the batch of `lane`, if anything is in it.
    ///
    /// # Errors
    /// [`StageError::Full`]: the batch is kept; wait for [`Intake::room`] and stage again.
    pub fn stage(&mut self, lane: u16) -> Result<Option<Ticket>, StageError> {
        let way = &mut self.ways[usize::from(lane)];
        let Some(batch) = way.batch.as_mut().filter(|batch| !batch.is_empty()) else {
            return Ok(None);
        };
        let producer = way
            .producer
            .get_or_insert_with(|| way.lane.partition.producer());
        producer.set_window_bound(self.window_bound);
        let ticket = producer.stage(batch)?;
        batch.clear();
        if let Some(batch) = way.batch.take() {
            self.shared.put_back(batch);
        }
        Ok(Some(ticket))
    }

    /// Stages all batches, waiting for room where a lane has none. `receipts` gets what is to be waited for.
    ///
    /// # Errors
    /// If a log takes nothing more.
    pub async fn stage_all(&mut self, receipts: &mut Vec<Receipt>) -> Result<(), StageError> {
        for lane in self.lanes() {
            loop {
                match self.stage(lane) {
                    Ok(Some(ticket)) => receipts.push(Receipt { lane, ticket }),
                    Ok(None) => {}
                    Err(StageError::Full) => {
                        self.room(lane).await;
                        continue;
                    }
                    Err(e) => return Err(e),
                }
                break;
            }
        }
        Ok(())
    }

    /// Whether an event of so many bytes, or the dead letter that it may become, and what a batch holds may be too much for one commit of a small log: then that
    /// is staged first.
    #[must_use]
    pub fn is_too_much_with(&self, bytes: usize) -> bool {
        let most = bytes + dead_letter::OVERHEAD_BYTES_MAX;
        let is_too_much =
            |batch: &Batch| !batch.is_empty() && batch.bytes() + most > TOGETHER_BYTES_MAX;
        let mut batches = self.ways.iter().filter_map(|way| way.batch.as_ref());
        batches.any(is_too_much)
    }

    /// Forgets what no log has taken: who gave it gives it again.
    pub fn drop_unstaged(&mut self) {
        for way in &mut self.ways {
            if let Some(mut batch) = way.batch.take() {
                batch.clear();
                self.shared.put_back(batch);
            }
        }
    }

    /// Resolves when a lane that was full may have room.
    pub fn room(&self, lane: u16) -> impl Future<Output = ()> + Send + 'static {
        let room = self.ways[usize::from(lane)]
            .producer
            .as_ref()
            .map(Producer::staged_room);
        async move {
            if let Some(room) = room {
                room.await;
            }
        }
    }

    /// Lanes into which records may go, the dead letters' last.
    pub fn lanes(&self) -> std::ops::Range<u16> {
        0..self.ways.len() as u16
    }

    /// What the log of `lane` remembers.
    #[must_use]
    pub fn claims(&self, lane: u16) -> &Claims {
        &self.ways[usize::from(lane)].lane.claims
    }

    /// How far `lane` has settled.
    #[must_use]
    pub fn settled(&self, lane: u16) -> Ticket {
        *self.ways[usize::from(lane)].settled.borrow()
    }

    /// Whether the log of `lane` is full and may not evict.
    #[must_use]
    pub fn is_full(&self, lane: u16) -> bool {
        self.ways[usize::from(lane)].lane.partition.stats().full
    }

    /// Resolves when `receipt` is settled; never, if its log has failed. Safe to drop and call again.
    pub fn wait(&self, receipt: Receipt) -> impl Future<Output = ()> + Send + 'static {
        let mut settled = self.ways[usize::from(receipt.lane)].settled.clone();
        async move {
            if settled
                .wait_for(|ticket| *ticket >= receipt.ticket)
                .await
                .is_err()
            {
                // The partition is gone without having settled this: nothing may ever be said about it.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Resolves when the oldest of what was staged has come nearer to being durable, and at once if it is; never, if nothing waits.
    pub fn next_settled(
        &self,
        oldest: Option<&[Receipt]>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let first = oldest.map(|receipts| self.first_unsettled(receipts));
        let wait = first.map(|unsettled| unsettled.map(|receipt| self.wait(receipt)));
        async move {
            match wait {
                Some(Some(wait)) => wait.await,
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Whether all of `receipts` are settled.
    #[must_use]
    pub fn are_settled(&self, receipts: &[Receipt]) -> bool {
        self.first_unsettled(receipts).is_none()
    }

    /// Tells whether the peer sends nothing more before its messages are acknowledged.
    pub fn set_window_bound(&mut self, window_bound: bool) {
        self.window_bound = window_bound;
    }

    fn first_unsettled(&self, receipts: &[Receipt]) -> Option<Receipt> {
        let unsettled = |receipt: &&Receipt| self.settled(receipt.lane) < receipt.ticket;
        receipts.iter().find(unsettled).copied()
    }

    fn batch(&mut self, lane: u16) -> &mut Batch {
        self.ways[usize::from(lane)]
            .batch
            .get_or_insert_with(|| self.shared.batch())
    }
}

impl Way {
    fn new(lane: Lane) -> Self {
        let settled = lane.partition.settled();
        Self {
            lane,
            settled,
            producer: None,
            batch: None,
        }
    }
}

impl Shared {
    fn batch(&self) -> Batch {
        self.batches
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default()
    }

    fn put_back(&self, batch: Batch) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() < SPARE_BATCHES_MAX {
            batches.push(batch);
        }
    }
}

/// Memory for what was read and is not yet on disk, shared by all connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    limit: usize,
}

/// A part of the budget; given back when dropped.
#[derive(Debug, Default)]
pub struct Reserved(Option<OwnedSemaphorePermit>);

impl Budget {
    /// A budget of this many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let limit = usize::try_from(bytes)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS)
            .min(u32::MAX as usize);
        Self {
            bytes: Arc::new(Semaphore::new(limit)),
            limit,
        }
    }

    /// Takes `bytes`, or what there is of them, but at least `bytes_min`, for which it waits. Who asked first is served first.
    pub async fn reserve(&self, bytes_min: usize, bytes: usize) -> Reserved {
        let there_are = self
            .bytes
            .available_permits()
            .clamp(bytes_min, bytes.max(bytes_min));
        let held = |bytes: usize| Arc::clone(&self.bytes).try_acquire_many_owned(bytes as u32);
        if let Ok(held) = held(there_are.min(self.limit)) {
            return Reserved(Some(held));
        }
        let bytes_min = bytes_min.min(self.limit) as u32;
        Reserved(
            Arc::clone(&self.bytes)
                .acquire_many_owned(bytes_min)
                .await
                .ok(),
        )
    }

    /// Takes `bytes` if they are there.
    #[must_use]
    pub fn try_reserve(&self, bytes: usize) -> Option<Reserved> {
        let bytes = bytes.min(self.limit) as u32;
        let held = Arc::clone(&self.bytes).try_acquire_many_owned(bytes);
        held.ok().map(|held| Reserved(Some(held)))
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn used(&self) -> usize {
        self.limit - self.bytes.available_permits().min(self.limit)
    }
}

impl Reserved {
    /// Nothing.
    #[must_use]
    pub const fn nothing() -> Self {
        Self(None)
    }

    /// Bytes that are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Adds another part of the same budget.
    pub fn add(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(held), Some(other)) => held.merge(other),
            (held @ None, other) => *held = other,
            (Some(_), None) => {}
        }
    }

    /// Gives back what is more than `bytes`.
    pub fn keep(&mut self, bytes: usize) {
        let surplus = self.bytes().saturating_sub(bytes);
        if let Some(held) = &mut self.0 {
            drop(held.split(surplus));
        }
    }
}

/// How large units of a partition must be allowed to be, for records of `record_bytes_max` to fit with what stands around them.
#[must_use]
pub fn unit_bytes_max(record_bytes_max: u32) -> usize {
    record_bytes_max as usize + UNIT_OVERHEAD_BYTES
}

/// Tags, lengths and an annotation item around key, headers and value.
const UNIT_OVERHEAD_BYTES: usize = 256;

/// Batches that are kept for the next connection that needs one.
const SPARE_BATCHES_MAX: usize = 4;
/// So much goes into any commit, beside an event that is alone in it: a log of the smallest segments takes an eighth of 1 MiB at once.
const TOGETHER_BYTES_MAX: usize = 96 << 10;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sedge_config::schema::{MIRROR_BYTES_MIN, RECORD_BYTES_MAX};
    use sedge_store::{MirrorOptions, PartitionOptions};
    use sedge_uplink::FRAME_BYTES_MAX;

    use super::unit_bytes_max;

    /// The largest frame that a log makes of records of `record_bytes_max`.
    fn frame_bytes_max(record_bytes_max: u32) -> usize {
        let options = PartitionOptions {
            record_bytes_max: unit_bytes_max(record_bytes_max),
            ..PartitionOptions::default()
        };
        options.frame_bytes_max() as usize
    }

    #[test]
    fn the_largest_event_that_may_be_configured_goes_the_whole_way_to_a_consumer() {
        let largest = u32::try_from(RECORD_BYTES_MAX).unwrap();
        assert!(frame_bytes_max(largest) <= FRAME_BYTES_MAX);
        assert!(frame_bytes_max(largest + 1024) > FRAME_BYTES_MAX);
        let mirror = MirrorOptions::default();
        assert!(FRAME_BYTES_MAX <= mirror.frame_bytes_max as usize);
        assert!(MirrorOptions::capacity_for(frame_bytes_max(largest)) <= 16 << 20);
    }

    #[test]
    fn the_smallest_mirror_takes_the_largest_event_of_a_gateway_as_it_comes() {
        let agent =
            sedge_config::agent::parse("[gateway]\nid = \"gw-7\"\n", Path::new("a.toml"), None);
        let record_bytes_max = agent.unwrap().gateway.record_bytes_max;
        let needed = MirrorOptions::capacity_for(frame_bytes_max(record_bytes_max));
        assert!(needed <= MIRROR_BYTES_MIN, "{needed}");
        assert!(needed > MIRROR_BYTES_MIN - (1 << 20), "{needed}");
    }
}
