//! The oracle: what producers were told, what consumers were given, and whether the two agree.
//!
//! Each event names its producer and its number, and the rest of it follows from these two. A producer's events all go to one partition. So for each
//! partition, in order: every number that was acknowledged comes once, or is one of those that a gap before the next event counts as lost.
//!
//! A disk that is exchanged, or put back to an earlier state, takes with it what was only there: such events may be missing without a gap. What the
//! hub said it has may not: the offsets of all its logs together are those that the consumer was led over.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::{Arc, Mutex, MutexGuard};

use sedge_core::LogId;
use sedge_uplink::client::{Gap, Item, Record};

use super::home::Home;
use super::missing::{Missing, Told};
use super::partition::Partition;
use super::story::Story;
use crate::random::{Random, seed_for};

/// The books of a run. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    books: Arc<Mutex<Books>>,
    story: Story,
}

#[derive(Debug, Default)]
struct Books {
    producers: Vec<Producer>,
    partitions: BTreeMap<Home, Partition>,
    /// Machines whose disk was put back, by partition: what they take may turn out to stand in a log that no hub will have.
    adrift: BTreeSet<(String, Home)>,
    /// Events of a machine that were acknowledged since the hub last said that it had something of it, by partition.
    unsent: BTreeMap<(String, Home), u64>,
    /// All machines whose disk was ever put back.
    put_back: BTreeSet<String>,
    /// Those, and those whose disk was exchanged.
    forgot: BTreeSet<String>,
    /// Two machines have one log here, and one of them will learn that it is not the hub's.
    shared: BTreeSet<Home>,
    /// Gateways of whose name there were two. Whether what a producer sends stays in its order.
    alike: BTreeMap<String, bool>,
    /// The hub was put back to an earlier state.
    hub_was_put_back: bool,
    /// How many logs of a partition the hub has heard of since it was put back, where its gateway has not come to it yet.
    hub_knows: BTreeMap<Home, usize>,
    /// Places of disks that rotted, and gaps that tell of one.
    hits: u64,
    hit_gaps: u64,
    wrong: Option<String>,
    acked: u64,
    seen: u64,
    lost: u64,
    gone: u64,
    of_devices: u64,
    of_clients: u64,
    copies: u64,
}

#[derive(Debug)]
struct Producer {
    machine: String,
    home: Home,
    /// What is known of each event, by number.
    told: Vec<Told>,
    /// Nothing more comes of it.
    retired: bool,
    /// The number that is expected next.
    next: u64,
    /// Events before it that may still come, where an order is not kept.
    late: BTreeMap<u64, Told>,
    kind: Kind,
    /// Events that may come again, and how often.
    copies: BTreeMap<u64, u32>,
}

/// How a producer's events come to its gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Straight.
    Straight,
    /// By way of a log of its own, which may lose some before a gateway has them.
    Device,
    /// By MQTT.
    Client,
}

/// What became of the events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Acknowledged to producers.
    pub acked: u64,
    /// Given to the consumer.
    pub seen: u64,
    /// Counted in gaps.
    pub lost: u64,
    /// Gone with a disk, and with nothing else.
    pub gone: u64,
    /// Of those acknowledged, what devices did with their own logs.
    pub of_devices: u64,
    /// Of those acknowledged, what clients were told by PUBACK.
    pub of_clients: u64,
    /// Given to the consumer a second time, as MQTT allows.
    pub copies: u64,
}

impl Ledger {
    /// Empty books.
    #[must_use]
    pub(super) fn new(story: Story) -> Self {
        Self {
            books: Arc::default(),
            story,
        }
    }

    /// A producer whose events `machine` takes into `home`.
    #[must_use]
    pub(super) fn producer(&self, machine: &str, home: &Home) -> u32 {
        self.begin(machine, home, Kind::Straight)
    }

    /// As [`Ledger::producer`], with a log of its own: an event counts as acknowledged when it is there.
    #[must_use]
    pub(super) fn device(&self, machine: &str, home: &Home) -> u32 {
        self.begin(machine, home, Kind::Device)
    }

    /// As [`Ledger::producer`], by MQTT.
    #[must_use]
    pub(super) fn client(&self, machine: &str, home: &Home) -> u32 {
        self.begin(machine, home, Kind::Client)
    }

    fn begin(&self, machine: &str, home: &Home, kind: Kind) -> u32 {
        let mut books = self.lock();
        books.partitions.entry(home.clone()).or_default();
        books.producers.push(Producer {
            machine: machine.to_owned(),
            home: home.clone(),
            told: Vec::new(),
            retired: false,
            next: 0,
            late: BTreeMap::new(),
            kind,
            copies: BTreeMap::new(),
        });
        books.producers.len() as u32 - 1
    }

    /// The next event of `producer`, of about `bytes` bytes: its number and its value.
    pub(super) fn event(&self, producer: u32, bytes: usize) -> (u64, Vec<u8>) {
        let mut books = self.lock();
        let told = &mut books.producers[producer as usize].told;
        told.push(Told::Doubt);
        let number = told.len() as u64 - 1;
        (number, value(producer, number, bytes))
    }

    /// These events were acknowledged.
    pub(super) fn acknowledged(&self, producer: u32, numbers: &[u64]) {
        let mut books = self.lock();
        let told = books.told_now(&books.producers[producer as usize]);
        for &number in numbers {
            books.producers[producer as usize].told[number as usize] = told;
        }
        let Producer { machine, home, .. } = &books.producers[producer as usize];
        let place = (machine.clone(), home.clone());
        *books.unsent.entry(place).or_default() += numbers.len() as u64;
        books.acked += numbers.len() as u64;
        match books.producers[producer as usize].kind {
            Kind::Straight => {}
            Kind::Device => books.of_devices += numbers.len() as u64,
            Kind::Client => books.of_clients += numbers.len() as u64,
        }
        drop(books);
        self.story.mix(&[30, producer.into(), numbers.len() as u64]);
    }

    /// `producer` sends no more.
    pub(super) fn retire(&self, producer: u32) {
        self.lock().producers[producer as usize].retired = true;
    }

    /// The device `producer` has lost its log, which held all that it had kept from event `number` on.
    pub(super) fn chip_is_gone(&self, producer: u32, number: u64) {
        let told = &mut self.lock().producers[producer as usize].told;
        let held = told[number as usize..].iter_mut();
        held.filter(|told| **told == Told::Acked)
            .for_each(|told| *told = Told::Gone);
    }

    /// An event was sent again, and nothing tells the gateway for certain that it has it.
    pub(super) fn may_be_copied(&self, producer: u32, number: u64) {
        let mut books = self.lock();
        let producer = &mut books.producers[producer as usize];
        *producer.copies.entry(number).or_default() += 1;
        let home = producer.home.clone();
        let partition = books.partitions.get_mut(&home).expect("it has one");
        partition.copies += 1;
    }

    /// A device says to the gateway that its log has lost so many events from here on, before anybody had them; `loose` of them may be too many.
    pub(super) fn device_lost(&self, home: &Home, from: (LogId, u64), lost: u64, loose: u64) {
        let mut books = self.lock();
        let partition = books.partitions.entry(home.clone()).or_default();
        let said = partition.notices.entry(from).or_default();
        *said = (lost.max(said.0), loose.max(said.1));
    }

    /// How many events there are of each producer of `machine`.
    #[must_use]
    pub(super) fn heads(&self, machine: &str) -> Vec<(u32, u64)> {
        let books = self.lock();
        let of_it = books.producers.iter().enumerate();
        of_it
            .filter(|(_, p)| p.machine == machine)
            .map(|(at, p)| (at as u32, p.told.len() as u64))
            .collect()
    }

    /// The disk of `machine` holds nothing any more of what came behind `heads`. `adrift`: it holds something, and goes on with that.
    pub(super) fn forgets(&self, machine: &str, heads: &[(u32, u64)], adrift: bool) {
        let mut books = self.lock();
        let Books {
            producers,
            adrift: all,
            put_back,
            forgot,
            ..
        } = &mut *books;
        forgot.insert(machine.to_owned());
        put_back.extend(adrift.then(|| machine.to_owned()));
        for (at, producer) in producers.iter_mut().enumerate() {
            if producer.machine != machine {
                continue;
            }
            let kept = heads.iter().find(|(known, _)| *known == at as u32);
            let from = kept.map_or(0, |(_, head)| *head as usize);
            for told in &mut producer.told[from..] {
                if matches!(told, Told::Acked | Told::Adrift) {
                    *told = Told::Gone;
                }
            }
            if adrift {
                all.insert((machine.to_owned(), producer.home.clone()));
            }
        }
        if !adrift {
            all.retain(|(of, _)| of != machine);
        }
    }

    /// Another machine begins with what `machine` has, and under the same name. What the consumer has not yet may come from either, and both may count it
    /// as lost.
    pub(super) fn is_cloned(&self, machine: &str) {
        let mut books = self.lock();
        let Books {
            producers,
            partitions,
            shared,
            ..
        } = &mut *books;
        for producer in producers.iter().filter(|p| p.machine == machine) {
            let rest = &producer.told[producer.next as usize..];
            let partition = partitions.entry(producer.home.clone()).or_default();
            partition.loose += rest.len() as u64;
        }
        let homes = partitions.keys();
        shared.extend(homes.filter(|home| home.gateway == machine).cloned());
    }

    /// There are two machines with the name `gateway` from now on. The hub takes what either has of a log, in turns: of two logs that a machine has at one time,
    /// as when live records pass a backlog or the number of partitions has changed, the rest of the older may come behind the younger.
    pub(super) fn is_named_alike(&self, gateway: &str, keeps_order: bool) {
        self.lock().alike.insert(gateway.to_owned(), keeps_order);
    }

    /// A place of some disk has rotted.
    pub(super) fn is_hit(&self) {
        self.lock().hits += 1;
    }

    /// The hub was put back to an earlier state.
    pub(super) fn hub_is_put_back(&self, knows: &BTreeMap<Home, usize>) {
        let mut books = self.lock();
        books.hub_was_put_back = true;
        let known = |home: &Home| (home.clone(), knows.get(home).copied().unwrap_or(0));
        books.hub_knows = books.partitions.keys().map(known).collect();
    }

    /// How many logs of each partition the hub has heard of.
    #[must_use]
    pub(super) fn logs_known(&self) -> BTreeMap<Home, usize> {
        let mut known = self.logs_offered();
        known.extend(self.lock().hub_knows.clone());
        known
    }

    /// The hub has something of every partition: a reader that follows would be told by an older hub that there is no such partition.
    #[must_use]
    pub(super) fn all_are_known(&self) -> bool {
        let books = self.lock();
        let mut homes = books.producers.iter().map(|p| &p.home);
        homes.all(|home| books.partitions[home].promised() > 0)
    }

    /// How many logs of each partition were ever offered to the hub.
    #[must_use]
    pub(super) fn logs_offered(&self) -> BTreeMap<Home, usize> {
        let books = self.lock();
        let offered = books.partitions.iter();
        offered
            .map(|(home, p)| (home.clone(), p.promised.len()))
            .collect()
    }

    /// `machine` offers `log` to the hub.
    pub(super) fn offered(&self, machine: &str, home: &Home, log: LogId) {
        let mut books = self.lock();
        books.hub_knows.remove(home);
        let partition = books.partitions.entry(home.clone()).or_default();
        if let Entry::Vacant(new) = partition.promised.entry(log) {
            new.insert(0);
            // What comes from now on stands in that one.
            books.adrift.remove(&(machine.to_owned(), home.clone()));
            books.shared.remove(home);
        }
    }

    /// The hub has all of `log` below `next`.
    pub(super) fn promised(&self, home: &Home, log: LogId, next: u64) {
        let mut books = self.lock();
        let partition = books.partitions.entry(home.clone()).or_default();
        let promised = partition.promised.entry(log).or_default();
        *promised = next.max(*promised);
    }

    /// A gateway tells the hub of a gap: exactly so many events are lost in it.
    pub(super) fn told_lost(&self, home: &Home, offsets: u64, lost: u64) {
        let mut books = self.lock();
        let partition = books.partitions.entry(home.clone()).or_default();
        partition.told_lost.insert((offsets, lost));
    }

    /// The hub has taken something of what `machine` has for `home`: both mean the same log.
    pub(super) fn taken(&self, machine: &str, home: &Home) {
        let key = (machine.to_owned(), home.clone());
        let mut books = self.lock();
        books.adrift.remove(&key);
        books.unsent.remove(&key);
    }

    /// How many events of `machine` the hub may not have had yet, by partition.
    #[must_use]
    pub(super) fn unsent(&self, machine: &str) -> Vec<(Home, u64)> {
        let books = self.lock();
        let of_it = books.unsent.iter().filter(|((of, _), _)| of == machine);
        of_it
            .map(|((_, home), count)| (home.clone(), *count))
            .collect()
    }

    /// A disk was put back to a copy with so many events that the hub had not had when it was taken, and may have had since: if they are gone when the gateway asks,
    /// nothing tells them from others that the hub cannot have, and they are counted.
    pub(super) fn may_count_again(&self, unsent: &[(Home, u64)]) {
        let mut books = self.lock();
        for (home, count) in unsent {
            let partition = books.partitions.entry(home.clone()).or_default();
            partition.loose += count;
        }
    }

    /// The consumer that follows was given this.
    pub(super) fn given(&self, item: &Item) {
        let mut books = self.lock();
        if let Item::Gap(gap) = item {
            let Gap {
                epoch,
                from,
                to,
                lost,
                cause,
                ..
            } = gap;
            self.story.tell(&format!(
                "a gap in {:?}: {from} to {to} of epoch {epoch}, {lost} lost, {cause}",
                Home::of(&gap.origin)
            ));
        }
        let outcome = match books.is_ahead(item) {
            Ok(true) => Ok(()),
            Ok(false) => books.take(item),
            Err(wrong) => Err(wrong),
        };
        if let Err(wrong) = outcome {
            books.wrong.get_or_insert(wrong);
        }
        drop(books);
        self.story.mix(&[31, item.first(), item.next()]);
    }

    /// Somebody who comes later was given this: what he sees of it is what stood there before.
    pub(super) fn given_later(&self, item: &Item) {
        let Item::Record(record) = item else { return };
        let mut books = self.lock();
        let there = books.home_of(record).and_then(|(producer, number)| {
            let home = home(record);
            match books.partitions[&home].places.get(&record.offset) {
                Some(place) if *place == (producer, number) => Ok(()),
                // What could not be read then can be read now, and a hub that was put back may be given again what it had let go of.
                None if books.hits > 0 || books.hub_was_put_back => Ok(()),
                other => Err(format!("offset {} of {home:?} is producer {producer}'s event {number}, and was {other:?}", record.offset)),
            }
        });
        if let Err(wrong) = there {
            books.wrong.get_or_insert(wrong);
        }
    }

    /// Something else is wrong.
    pub(super) fn fail(&self, wrong: String) {
        self.lock().wrong.get_or_insert(wrong);
    }

    /// The first thing that was wrong.
    #[must_use]
    pub(super) fn wrong(&self) -> Option<String> {
        self.lock().wrong.clone()
    }

    /// Whether the consumer has come to the last event of every producer.
    #[must_use]
    pub(super) fn is_complete(&self) -> bool {
        let books = self.lock();
        books.producers.iter().all(|p| {
            let partition = &books.partitions[&p.home];
            // What all of it wait for together: a gap that counts one's events does not count another's.
            let theirs = books.producers.iter().filter(|of| of.home == p.home);
            let rests = theirs.map(|of| Missing::of(&of.told[of.next as usize..]).told());
            let missing = partition.missing.told() + rests.sum::<u64>();
            let is_counted = missing <= partition.lost + partition.hidden();
            p.retired && is_counted && partition.next >= partition.promised()
        })
    }

    /// Whom the consumer still waits for.
    #[must_use]
    pub(super) fn outstanding(&self) -> String {
        let books = self.lock();
        let producers = books.producers.iter().enumerate();
        let open = producers.filter(|(_, p)| !books.is_through(p));
        let mut text: String = open
            .map(|(at, p)| {
                format!(
                    "producer {at} of {:?}: {} of {}; ",
                    p.home,
                    p.next,
                    p.told.len()
                )
            })
            .collect();
        for (home, p) in &books.partitions {
            let promised = p.promised();
            let (lost, missing) = (p.lost, p.missing.told());
            text += &format!(
                "{home:?} to {} of {promised}, {missing} missing, {lost} counted; ",
                p.next
            );
        }
        text
    }

    /// Every loss is counted, and nothing else is.
    pub(super) fn balance(&self) {
        let mut books = self.lock();
        let Books {
            producers,
            partitions,
            gone,
            wrong,
            ..
        } = &mut *books;
        for producer in producers.iter_mut() {
            let rest = Missing::of(&producer.told[producer.next as usize..]);
            let partition = partitions.get_mut(&producer.home).expect("it has one");
            partition.missing.add(rest);
            producer.next = producer.told.len() as u64;
        }
        for (home, p) in partitions {
            let promised = p.promised();
            let acked = p.missing.told();
            let Missing {
                doubt,
                gone: may_be_gone,
                ..
            } = p.missing;
            *gone += (acked + doubt + may_be_gone)
                .saturating_sub(p.lost)
                .min(may_be_gone);
            if p.lost + p.hidden() < acked || p.lost > acked + doubt + may_be_gone + p.loose() {
                wrong.get_or_insert(format!(
                    "{home:?}: gaps count {} lost ({} of them at most, and up to {} in notices that were evicted); {acked} acknowledged events are missing, {doubt} in doubt, and {may_be_gone} that may have gone with a disk",
                    p.lost,
                    p.loose(),
                    p.hidden()
                ));
            }
            if p.next < promised && producers.iter().any(|of| of.home == *home) {
                wrong.get_or_insert(format!(
                    "{home:?}: the hub said it has {promised} offsets, and the consumer was led over {}: {:?}",
                    p.next, p.promised
                ));
            }
        }
    }

    /// What became of the events.
    #[must_use]
    pub(super) fn totals(&self) -> Totals {
        let books = self.lock();
        Totals {
            acked: books.acked,
            seen: books.seen,
            lost: books.lost,
            gone: books.gone,
            of_devices: books.of_devices,
            of_clients: books.of_clients,
            copies: books.copies,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("no holder panics")
    }
}

impl Books {
    /// What `producer` is told now. It may stand in a log that another machine of the same name has as well, and that the hub takes from that one.
    fn told_now(&self, producer: &Producer) -> Told {
        let Producer { machine, home, .. } = producer;
        let is_adrift = self.adrift.contains(&(machine.clone(), home.clone()));
        let is_alike = self.alike.contains_key(&home.gateway);
        match (is_adrift, self.shared.contains(home)) {
            (_, true) => Told::Gone,
            (true, _) if is_alike => Told::Gone,
            (true, _) => Told::Adrift,
            _ => Told::Acked,
        }
    }

    /// Nothing is to come of `producer` any more, or everything that is has come.
    fn is_through(&self, producer: &Producer) -> bool {
        if !producer.retired {
            return false;
        }
        if producer.next == producer.told.len() as u64 {
            return true;
        }
        let rest = Missing::of(&producer.told[producer.next as usize..]);
        let partition = &self.partitions[&producer.home];
        // Its last events may be among those that are lost.
        partition.missing.told() + rest.told() <= partition.lost + partition.hidden()
    }

    /// Whose event it is. Its value must be what the producer sent, and its place the producer's partition.
    fn home_of(&self, record: &Record) -> Result<(u32, u64), String> {
        let phantom = || {
            format!(
                "offset {} of {:?} holds what nobody sent",
                record.offset,
                home(record)
            )
        };
        let (producer, rest) = record.value.split_first_chunk().ok_or_else(phantom)?;
        let (number, _) = rest.split_first_chunk().ok_or_else(phantom)?;
        let (producer, number) = (u32::from_le_bytes(*producer), u64::from_le_bytes(*number));
        let is_known = self
            .producers
            .get(producer as usize)
            .is_some_and(|p| p.home == home(record) && (number as usize) < p.told.len());
        match is_known && value(producer, number, record.value.len()) == record.value {
            true => Ok((producer, number)),
            false => Err(phantom()),
        }
    }

    /// Whether `item` belongs to a log behind one that is still on its way. Then it is kept until that is whole: no event of a log comes out of its order, and
    /// logs of one partition are booked in theirs.
    fn is_ahead(&mut self, item: &Item) -> Result<bool, String> {
        let home = Home::of(item.origin());
        let Some(partition) = self.partitions.get_mut(&home) else {
            return Ok(false);
        };
        let is_later = epoch(item) > partition.epoch && item.first() > partition.next;
        if !is_later {
            return Ok(false);
        }
        partition.comes_ahead(item).map_err(|behind| {
            format!(
                "offset {} of {home:?} comes ahead, behind {behind:?}",
                item.first()
            )
        })?;
        Ok(true)
    }

    /// Books `item`, and what was given ahead of it if that follows now.
    fn take(&mut self, item: &Item) -> Result<(), String> {
        let mut next = Some(item.clone());
        while let Some(item) = next {
            match &item {
                Item::Record(record) => self.record(record)?,
                Item::Gap(gap) => self.gap(gap)?,
            }
            let home = Home::of(item.origin());
            let partition = self.partitions.get_mut(&home);
            next = partition.and_then(Partition::follows);
        }
        Ok(())
    }

    fn record(&mut self, record: &Record) -> Result<(), String> {
        let (producer, number) = self.home_of(record)?;
        let home = home(record);
        let book = &mut self.producers[producer as usize];
        if number < book.next && book.is_copy(number) {
            return self.copy(record, &home, (producer, number));
        }
        if let Some(told) = book.late.remove(&number) {
            return self.late(record, &home, (producer, number), told);
        }
        if number < book.next {
            let behind = book.next - 1;
            let place_of = |event| {
                let mut places = self.partitions[&home].places.iter();
                places.find(|(_, there)| **there == event).map(|(at, _)| at)
            };
            let before = place_of((producer, number));
            // A log that could not be read for so long that it was set aside takes with it where devices stand. They give again what they still have, and
            // what of it was counted as lost comes after all.
            let begin = self.partitions[&home].begin;
            if book.kind == Kind::Device && self.hits > 0 && begin > 0 {
                let told = book.told[number as usize];
                match before {
                    Some(at) if *at < begin => {
                        return self.again(record, &home, (producer, number));
                    }
                    Some(_) => {}
                    None => {
                        let partition = self.partitions.get_mut(&home).expect("it has one");
                        partition.loose += 1;
                        return self.late(record, &home, (producer, number), told);
                    }
                }
            }
            let how = match before {
                Some(offset) => format!("again, after offset {offset},"),
                None => "too late".to_owned(),
            };
            return Err(format!(
                "producer {producer}'s event {number} comes {how} at offset {} of epoch {} of {home:?}, behind {behind} at {:?}",
                record.offset,
                record.epoch,
                place_of((producer, behind)),
            ));
        }
        let first = book.next;
        let missing = Missing::of(&book.told[first as usize..number as usize]);
        let keeps_order = self.alike.get(&home.gateway).is_none_or(|keeps| *keeps);
        if !keeps_order {
            let skipped = first..number;
            book.late
                .extend(skipped.map(|number| (number, book.told[number as usize])));
        }
        book.next = number + 1;
        self.seen += 1;
        let partition = self.partitions.get_mut(&home).expect("a producer has one");
        partition.advance(record.offset, record.offset + 1, record.epoch)?;
        partition.missing.add(missing);
        partition.places.insert(record.offset, (producer, number));
        if keeps_order && partition.missing.acked > partition.lost + partition.hidden() {
            return Err(format!(
                "producer {producer}'s events from {first} to {number} ({missing:?}) are missing before offset {} of {home:?}, and no gap counts them: {:?}, {} lost",
                record.offset, partition.missing, partition.lost
            ));
        }
        Ok(())
    }

    /// An event that was missing so far, for which it was `told`.
    fn late(
        &mut self,
        record: &Record,
        home: &Home,
        event: (u32, u64),
        told: Told,
    ) -> Result<(), String> {
        self.seen += 1;
        let partition = self.partitions.get_mut(home).expect("a producer has one");
        partition.missing.take(told);
        partition.advance(record.offset, record.offset + 1, record.epoch)?;
        partition.places.insert(record.offset, event);
        Ok(())
    }

    /// An event that the consumer has, or that a gap has counted, and that MQTT allows to come once more.
    fn copy(&mut self, record: &Record, home: &Home, event: (u32, u64)) -> Result<(), String> {
        let partition = self.partitions.get_mut(home).expect("a producer has one");
        partition.copies -= 1;
        self.again(record, home, event)
    }

    fn again(&mut self, record: &Record, home: &Home, event: (u32, u64)) -> Result<(), String> {
        self.seen += 1;
        self.copies += 1;
        let partition = self.partitions.get_mut(home).expect("a producer has one");
        partition.advance(record.offset, record.offset + 1, record.epoch)?;
        partition.places.insert(record.offset, event);
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), String> {
        let home = Home::of(&gap.origin);
        let Some(partition) = self.partitions.get_mut(&home) else {
            return match gap.lost {
                0 => Ok(()),
                lost => Err(format!("{home:?} lost {lost} events and never had any")),
            };
        };
        partition.advance(gap.from, gap.to, gap.epoch)?;
        partition.lost += gap.lost;
        match gap.cause {
            "device" => partition.noticed += gap.lost - 1,
            _ => partition.lost_behind += gap.lost,
        }
        match gap.cause {
            // A log that lets go of a notice above its cursor counts what that told, though the hub may have it (docs/reliability.md, Open findings).
            "evicted" | "expired" => partition.loose += std::mem::take(&mut partition.told_here),
            "new-log" if gap.to == gap.from + 1 => partition.told_here += gap.lost,
            _ => {}
        }
        self.lost += gap.lost;
        if gap.lost == 0 {
            // Where the end of a log cannot be read, nobody knows how many events stood there.
            if gap.cause == "corrupt" && self.hits > 0 {
                for producer in self.producers.iter_mut().filter(|p| p.home == home) {
                    let not_seen = producer.told[producer.next as usize..].iter_mut();
                    let was_told = not_seen.filter(|told| **told != Told::Gone);
                    was_told.for_each(|told| *told = Told::Doubt);
                }
            }
            return Ok(());
        }
        let is_of = |machine: &String| self.put_back.contains(machine);
        // A partition that only some lives of a gateway have may have no producer.
        let is_used = self.producers.iter().any(|p| p.home == home);
        let has_forgotten = !is_used && self.forgot.contains(&home.gateway);
        let had_gone = |p: &Producer| {
            let may_be_gone = is_of(&p.machine) || p.told.contains(&Told::Gone);
            p.home == home && p.kind != Kind::Device && may_be_gone
        };
        match gap.cause {
            "burned" => Err(format!("burned offsets were never events: {gap:?}")),
            // A closed log whose rest is nowhere any more, and what a hub has forgotten and no gateway holds: offsets are counted.
            // With two gateways of one name, too, what the one has not handed over of a closed log when the other connects.
            "new-log"
                if self.alike.contains_key(&home.gateway)
                    || has_forgotten
                    || self.producers.iter().any(had_gone) =>
            {
                partition.by_offsets(gap.lost);
                Ok(())
            }
            // A log was set aside, for a place of it that rotted: what of it the hub had not acknowledged is counted.
            "new-log" if gap.to == gap.from + 1 && self.hits > 0 => {
                partition.loose += gap.lost;
                Ok(())
            }
            "corrupt" if self.hub_was_put_back => {
                partition.by_offsets(gap.lost);
                Ok(())
            }
            // How many of the offsets were burned stood there too.
            "corrupt" if partition.hit_to == gap.from || self.hit_gaps < self.hits => {
                partition.by_offsets(gap.lost);
                self.hit_gaps += u64::from(partition.hit_to != gap.from);
                partition.hit_to = gap.to;
                Ok(())
            }
            "corrupt" | "new-log" => Err(format!("nothing should be lost this way: {gap:?}")),
            // The hub itself has let go of what the reader had not got yet: that is told as the most that can have been lost.
            "evicted" | "expired"
                if !partition.told_lost.contains(&(gap.to - gap.from, gap.lost)) =>
            {
                partition.by_offsets(gap.lost);
                Ok(())
            }
            // With what stood at the beginning of a log went what told of the log before it, of which the hub has another history. It may have had of it what was
            // counted there (docs/reliability.md, Open findings).
            "evicted" | "expired"
                if gap.from == partition.begin
                    && (self.hits > 0 || self.producers.iter().any(had_gone)) =>
            {
                partition.loose += gap.lost.min(partition.begin);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Producer {
    /// Whether one more of this event may come; it has come then.
    fn is_copy(&mut self, number: u64) -> bool {
        let left = self.copies.get_mut(&number).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }
}

fn epoch(item: &Item) -> u32 {
    match item {
        Item::Record(record) => record.epoch,
        Item::Gap(gap) => gap.epoch,
    }
}

fn home(record: &Record) -> Home {
    Home::of(&record.origin)
}

/// The value of an event.
fn value(producer: u32, number: u64, bytes: usize) -> Vec<u8> {
    let mut value = producer.to_le_bytes().to_vec();
    value.extend(number.to_le_bytes());
    let head = value.len();
    value.resize(bytes.max(head), 0);
    Random::new(seed_for(producer.into(), number)).fill(&mut value[head..]);
    value
}
