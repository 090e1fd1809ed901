//! How the hub is doing: what it tells its operator.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::catalog::GroupPlace;
use super::partition::Partition;
use super::{GatewayReport, IdentityStatus, Shared};
use crate::client::positions::stand;
use crate::forward::unix_us;
use crate::json::IN_1970;

/// A snapshot of a hub.
#[derive(Clone, Debug, Default)]
pub struct HubStatus {
    /// Gateways that are connected now.
    pub gateways: Vec<String>,
    /// Every gateway that was connected since the start, and whether two of them have its name.
    pub identities: Vec<IdentityStatus>,
    /// Consumers that are connected now.
    pub consumers: u64,
    /// Connections that were refused for want of room.
    pub refused: u64,
    /// Connections that ended because the peer broke a rule.
    pub broken: u64,
    /// Connections of those who have not shown who they are, or may not do what they came for.
    pub unknown: u64,
    /// Connections that a newer one of the same gateway has replaced.
    pub replaced: u64,
    /// Bytes of frames that were made durable since the start.
    pub stored_bytes: u64,
    /// Offsets that were made durable since the start.
    pub stored_offsets: u64,
    /// Commits since the start.
    pub commits: u64,
    /// Bytes of frames that were given to consumers since the start.
    pub served_bytes: u64,
    /// Appends that found their mirror full.
    pub full: u64,
    /// Bytes that all mirrors take on the disk.
    pub disk_bytes: u64,
    /// The most that they may take.
    pub disk_max: u64,
    /// Every partition.
    pub partitions: Vec<PartitionStatus>,
    /// Every gateway that is known: it came since the start, or sent something once.
    pub fleet: Vec<GatewayStatus>,
    /// Every group.
    pub groups: Vec<GroupStatus>,
    /// What is wrong with the catalog, if anything.
    pub catalog_error: Option<String>,
}

/// A snapshot of a partition.
#[derive(Clone, Debug)]
pub struct PartitionStatus {
    /// The stream.
    pub stream: String,
    /// The gateway.
    pub gateway: String,
    /// The partition's number at the gateway.
    pub partition: u16,
    /// Its number in the stream.
    pub number: u32,
    /// How many logs its chain has.
    pub logs: u32,
    /// First shifted offset that is held.
    pub earliest: u64,
    /// One past the last that may be read.
    pub end: u64,
    /// Records that the hub let go of: evicted, expired or corrupt here.
    pub lost: u64,
}

/// A snapshot of a gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GatewayStatus {
    /// Its name.
    pub gateway: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Whether two of them have its name.
    pub in_use: bool,
    /// When it was last connected, µs since 1970: now, if it is; none if it was not since the start.
    pub heard_us: Option<i64>,
    /// What it told last.
    pub report: Option<GatewayReport>,
}

/// A snapshot of a group in a stream.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// The group.
    pub group: String,
    /// The stream.
    pub stream: String,
    /// Offsets that it has not committed.
    pub lag: u64,
    /// How long ago the oldest of them was taken, in seconds, by the hub's clock; none if nothing waits, or nobody knows.
    pub lag_s: Option<f64>,
    /// Partitions in which retention has overtaken it.
    pub overtaken: u64,
}

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(super) struct Counters {
    consumers: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    unknown: AtomicU64,
    replaced: AtomicU64,
    stored_bytes: AtomicU64,
    stored_offsets: AtomicU64,
    commits: AtomicU64,
    served_bytes: AtomicU64,
    full: AtomicU64,
}

impl Counters {
    pub(super) fn consumer_came(&self) {
        self.consumers.fetch_add(1, Relaxed);
    }

    pub(super) fn consumer_went(&self) {
        self.consumers.fetch_sub(1, Relaxed);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(super) fn broken(&self) {
        self.broken.fetch_add(1, Relaxed);
    }

    pub(super) fn unknown(&self) {
        self.unknown.fetch_add(1, Relaxed);
    }

    pub(super) fn replaced(&self) {
        self.replaced.fetch_add(1, Relaxed);
    }

    pub(super) fn stored(&self, bytes: usize, offsets: u64) {
        self.commits.fetch_add(1, Relaxed);
        self.stored_bytes.fetch_add(bytes as u64, Relaxed);
        self.stored_offsets.fetch_add(offsets, Relaxed);
    }

    pub(super) fn served(&self, bytes: usize) {
        self.served_bytes.fetch_add(bytes as u64, Relaxed);
    }

    pub(super) fn full(&self) {
        self.full.fetch_add(1, Relaxed);
    }
}

impl Shared {
    pub(super) fn status(&self) -> HubStatus {
        let (groups, catalog_error) = match self.group_statuses() {
            Ok(groups) => (groups, None),
            Err(e) => (Vec::new(), Some(e.to_string())),
        };
        let c = &self.counters;
        let (gateways, partitions) = (self.seats.connected(), self.partition_statuses());
        let identities = self.seats.identities(Instant::now());
        HubStatus {
            fleet: self.gateway_statuses(&gateways, &identities, &partitions),
            gateways,
            identities,
            consumers: c.consumers.load(Relaxed),
            refused: c.refused.load(Relaxed),
            broken: c.broken.load(Relaxed),
            unknown: c.unknown.load(Relaxed),
            replaced: c.replaced.load(Relaxed),
            stored_bytes: c.stored_bytes.load(Relaxed),
            stored_offsets: c.stored_offsets.load(Relaxed),
            commits: c.commits.load(Relaxed),
            served_bytes: c.served_bytes.load(Relaxed),
            full: c.full.load(Relaxed),
            disk_bytes: self.registry.disk_bytes(),
            disk_max: self.options.disk_max,
            partitions,
            groups,
            catalog_error,
        }
    }

    fn gateway_statuses(
        &self,
        connected: &[String],
        identities: &[IdentityStatus],
        partitions: &[PartitionStatus],
    ) -> Vec<GatewayStatus> {
        let now_us = unix_us();
        let connected: BTreeSet<&String> = connected.iter().collect();
        let used_twice = identities.iter().filter(|identity| identity.in_use);
        let used_twice: BTreeSet<&String> = used_twice.map(|identity| &identity.gateway).collect();
        let mut names: BTreeSet<String> = self.fleet.names().into_iter().collect();
        names.extend(identities.iter().map(|identity| identity.gateway.clone()));
        names.extend(partitions.iter().map(|p| p.gateway.clone()));
        let status = |gateway: String| {
            let (left_us, report) = self.fleet.known(&gateway);
            let connected = connected.contains(&gateway);
            GatewayStatus {
                connected,
                in_use: used_twice.contains(&gateway),
                heard_us: if connected { Some(now_us) } else { left_us },
                report,
                gateway,
            }
        };
        names.into_iter().map(status).collect()
    }

    fn partition_statuses(&self) -> Vec<PartitionStatus> {
        let status = |p: &Arc<Partition>| {
            let (described, members) = (p.describe(), p.members());
            let lost = members.iter().map(|m| m.mirror.ledger().lost()).sum();
            PartitionStatus {
                stream: described.stream,
                gateway: described.gateway,
                partition: described.partition,
                number: described.number,
                logs: members.len() as u32,
                earliest: described.earliest,
                end: described.end,
                lost,
            }
        };
        self.registry.partitions(None).iter().map(status).collect()
    }

    fn group_statuses(&self) -> Result<Vec<GroupStatus>, super::CatalogError> {
        let mut groups: BTreeMap<(String, String), (GroupStatus, Vec<Waiting>)> = BTreeMap::new();
        let all = self.catalog.group_places()?;
        let of_one = |one: &GroupPlace, next: &GroupPlace| {
            (&one.group, &one.stream, one.place.number)
                == (&next.group, &next.stream, next.place.number)
        };
        for places in all.chunk_by(of_one) {
            let GroupPlace {
                group,
                stream,
                place,
            } = &places[0];
            let Some(partition) = self.registry.partition(stream, place.number) else {
                continue;
            };
            let described = partition.describe();
            let places: Vec<_> = places.iter().map(|of| of.place).collect();
            let key = (group.clone(), stream.clone());
            let begin = || GroupStatus {
                group: group.clone(),
                stream: stream.clone(),
                lag: 0,
                lag_s: None,
                overtaken: 0,
            };
            let (status, waiting) = groups.entry(key).or_insert_with(|| (begin(), Vec::new()));
            let unread = stand(&described, &places).into_iter();
            let unread = unread.map(|(at, end)| (at.next, end.saturating_sub(at.next)));
            for (next, lag) in unread.filter(|(_, lag)| *lag > 0) {
                status.lag = status.lag.saturating_add(lag);
                waiting.push((lag, Arc::clone(&partition), next));
            }
            let gone = places.iter().filter(|at| at.next < described.earliest);
            status.overtaken += gone.count() as u64;
        }
        Ok(self.with_ages(groups.into_values().collect()))
    }

    /// How old what each group waits for is: looked at together, as what is not looked at is forgotten.
    fn with_ages(&self, groups: Vec<(GroupStatus, Vec<Waiting>)>) -> Vec<GroupStatus> {
        let now_us = unix_us();
        let (mut statuses, mut records, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for (status, waiting) in groups {
            let before = records.len();
            records.extend(most_of(waiting));
            counts.push(records.len() - before);
            statuses.push(status);
        }
        let ages = self.ages_of_groups.of(&records);
        let mut ages = ages.into_iter();
        for (status, count) in statuses.iter_mut().zip(counts) {
            let oldest = ages.by_ref().take(count).flatten().min();
            status.lag_s = oldest.map(|oldest| seconds_since(oldest, now_us));
        }
        statuses
    }
}

/// When records were taken that were looked at last: most of them are the same the next time, and each would cost a walk through a segment.
#[derive(Debug, Default)]
pub(super) struct Ages(Mutex<HashMap<AgeKey, Option<i64>>>);

/// A partition by stream and number, and a shifted offset in it.
type AgeKey = (String, u32, u64);

impl Ages {
    /// When each was taken, µs since 1970, if that is known. What is not looked at again is forgotten. Blocks for the disk.
    pub(super) fn of(&self, records: &[(Arc<Partition>, u64)]) -> Vec<Option<i64>> {
        let known = std::mem::take(&mut *self.lock());
        let mut now = HashMap::with_capacity(records.len());
        let mut ages = Vec::with_capacity(records.len());
        for (partition, offset) in records {
            let key = (partition.stream.to_string(), partition.number, *offset);
            let is_time = |time: &i64| !IN_1970.contains(time);
            let read = || partition.taken_at(*offset).ok().flatten().filter(is_time);
            let age = known.get(&key).copied().unwrap_or_else(read);
            now.insert(key, age);
            ages.push(age);
        }
        *self.lock() = now;
        ages
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgeKey, Option<i64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So much of a partition waits, from an offset on.
type Waiting = (u64, Arc<Partition>, u64);

/// The partitions in which most of it waits, and where there.
fn most_of(mut waiting: Vec<Waiting>) -> impl Iterator<Item = (Arc<Partition>, u64)> {
    waiting.sort_by_key(|(lag, ..)| Reverse(*lag));
    waiting.truncate(AGES_MAX);
    waiting
        .into_iter()
        .map(|(_, partition, next)| (partition, next))
}

fn seconds_since(unix_us: i64, now_us: i64) -> f64 {
    now_us.saturating_sub(unix_us).max(0) as f64 / 1e6
}

/// Partitions of a group whose oldest record is looked at.
const AGES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that only grows is seen by nobody until it is needed.
    #[test]
    fn each_thing_that_happens_is_counted_as_what_it_is() {
        let counters = Counters::default();
        counters.refused();
        (0..2).for_each(|_| counters.broken());
        (0..3).for_each(|_| counters.unknown());
        (0..4).for_each(|_| counters.replaced());
        (0..5).for_each(|_| counters.full());
        (0..8).for_each(|_| counters.consumer_came());
        (0..2).for_each(|_| counters.consumer_went());
        (0..7).for_each(|_| counters.stored(10, 3));
        counters.served(8);
        let c = &counters;
        let each = [
            &c.refused,
            &c.broken,
            &c.unknown,
            &c.replaced,
            &c.full,
            &c.consumers,
            &c.commits,
            &c.served_bytes,
        ];
        assert_eq!(each.map(|c| c.load(Relaxed)), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(c.stored_bytes.load(Relaxed), 70);
        assert_eq!(c.stored_offsets.load(Relaxed), 21);
    }
}
