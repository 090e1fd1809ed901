//! The book of one partition: where the consumer stands, what is missing, what gaps have counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sedge_core::LogId;
use sedge_uplink::client::Item;

use super::missing::Missing;

/// What is known of a partition.
#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) next: u64,
    pub(super) epoch: u32,
    /// Where that begins.
    pub(super) begin: u64,
    /// What gaps counted as lost.
    pub(super) lost: u64,
    /// Where the last gap ends that tells of a hit: what was written into the same place shows right behind it.
    pub(super) hit_to: u64,
    /// Of it, what may be too much: where nobody knows any more how many of the offsets were events.
    pub(super) loose: u64,
    /// What notices in this log told that the consumer has.
    pub(super) told_here: u64,
    pub(super) missing: Missing,
    /// What devices said they had lost themselves, by their log and its offset. A gateway keeps that as one entry, and whoever evicts it counts it as one event.
    pub(super) notices: BTreeMap<(LogId, u64), (u64, u64)>,
    /// What gaps counted of it, above one event for each, and what gaps of any other kind counted.
    pub(super) noticed: u64,
    pub(super) lost_behind: u64,
    /// Some gap counts offsets, and not what notices in there told.
    hides: bool,
    /// Events that may have come once more, and were not seen again yet: if they are lost, they are counted.
    pub(super) copies: u64,
    /// What gateways told the hub to be lost: how many offsets, and how many events of them.
    pub(super) told_lost: BTreeSet<(u64, u64)>,
    /// What the hub said it has of each log.
    pub(super) promised: BTreeMap<LogId, u64>,
    /// What stands where.
    pub(super) places: BTreeMap<u64, (u32, u64)>,
    /// What was given of later logs while older ones are still on their way to the hub: of each run, in order.
    ahead: Vec<Stretch>,
}

/// What was given of a run, as it stands there without a hole.
#[derive(Debug)]
struct Stretch {
    items: VecDeque<Item>,
    next: u64,
}

impl Stretch {
    fn first(&self) -> u64 {
        self.items.front().map_or(self.next, Item::first)
    }
}

impl Partition {
    /// Offsets that the hub said it has, in all logs together.
    pub(super) fn promised(&self) -> u64 {
        self.promised.values().sum()
    }

    /// Keeps `item` where it goes on in its run, or where a log and with it a run begins; else says where the runs stand.
    pub(super) fn comes_ahead(&mut self, item: &Item) -> Result<(), Vec<u64>> {
        let (first, next) = (item.first(), item.next());
        // Runs that have met go on in the later one.
        let mut known = self.ahead.iter_mut().rev();
        if let Some(run) = known.find(|run| run.next == first) {
            run.items.push_back(item.clone());
            run.next = next;
            return Ok(());
        }
        let begins = matches!(item, Item::Gap(gap) if gap.cause == "new-log" && gap.from == gap.to);
        let at = self.ahead.partition_point(|run| run.next < first);
        let is_between = self.ahead.get(at).is_none_or(|run| first < run.first());
        if !begins || !is_between {
            return Err(self.ahead.iter().map(|run| run.next).collect());
        }
        let items = VecDeque::from([item.clone()]);
        self.ahead.insert(at, Stretch { items, next });
        Ok(())
    }

    /// What was given ahead and is next now.
    pub(super) fn follows(&mut self) -> Option<Item> {
        let run = self.ahead.first_mut()?;
        if run.first() > self.next {
            return None;
        }
        let item = run.items.pop_front();
        if run.items.is_empty() {
            self.ahead.remove(0);
        }
        item
    }

    /// A gap counts offsets, which may be more than the events that are lost, and fewer where notices stood.
    pub(super) const fn by_offsets(&mut self, lost: u64) {
        self.loose += lost;
        self.hides = true;
    }

    /// Events that devices have lost and that no gap counts: what said so may have stood where a gap counts offsets.
    pub(super) fn hidden(&self) -> u64 {
        if !self.hides {
            return 0;
        }
        let said = self
            .notices
            .values()
            .map(|(lost, _)| lost.saturating_sub(1));
        said.sum::<u64>().saturating_sub(self.noticed)
    }

    /// What gaps may count too much.
    pub(super) fn loose(&self) -> u64 {
        let of_devices = self.notices.values().map(|(_, loose)| loose);
        let of_clients = match self.lost_behind {
            0 => 0,
            _ => self.copies,
        };
        self.loose + of_devices.sum::<u64>() + of_clients
    }

    /// Offsets only grow, and none is left out.
    pub(super) fn advance(&mut self, from: u64, to: u64, epoch: u32) -> Result<(), String> {
        if from != self.next || to < from || epoch < self.epoch {
            return Err(format!(
                "offsets {from}..{to} of epoch {epoch} come behind {} of epoch {}",
                self.next, self.epoch
            ));
        }
        if epoch > self.epoch {
            (self.begin, self.told_here) = (from, 0);
        }
        (self.next, self.epoch) = (to, epoch);
        Ok(())
    }
}
