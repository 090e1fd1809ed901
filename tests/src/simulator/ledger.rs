//! The oracle: what producers were told, what consumers were given, and whether the two agree.
//!
//! Each event names its producer and its number, and the rest of it follows from these two. A producer's events all go to one partition. So for each
//! partition, in order: every number that was acknowledged comes once, or is one of those that a gap before the next event counts as lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use sedge_uplink::client::{Gap, Item, Record};

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
    partitions: BTreeMap<(String, u16), Partition>,
    wrong: Option<String>,
    acked: u64,
    seen: u64,
    lost: u64,
}

#[derive(Debug)]
struct Producer {
    home: (String, u16),
    /// By number: acknowledged, or in doubt for ever.
    acked: Vec<bool>,
    /// The number that is expected next.
    next: u64,
}

#[derive(Debug, Default)]
struct Partition {
    next: u64,
    epoch: u32,
    /// What gaps counted as lost.
    lost: u64,
    /// Acknowledged numbers that did not come, and others.
    missing: u64,
    missing_in_doubt: u64,
    /// What stands where.
    places: BTreeMap<u64, (u32, u64)>,
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

    /// A producer whose events land in this partition of `gateway`.
    #[must_use]
    pub(super) fn producer(&self, gateway: &str, partition: u16) -> u32 {
        let mut books = self.lock();
        let home = (gateway.to_owned(), partition);
        books.partitions.entry(home.clone()).or_default();
        books.producers.push(Producer {
            home,
            acked: Vec::new(),
            next: 0,
        });
        books.producers.len() as u32 - 1
    }

    /// The next event of `producer`, of about `bytes` bytes: its number and its value.
    pub(super) fn event(&self, producer: u32, bytes: usize) -> (u64, Vec<u8>) {
        let mut books = self.lock();
        let acked = &mut books.producers[producer as usize].acked;
        acked.push(false);
        let number = acked.len() as u64 - 1;
        (number, value(producer, number, bytes))
    }

    /// These events were acknowledged.
    pub(super) fn acknowledged(&self, producer: u32, numbers: &[u64]) {
        let mut books = self.lock();
        for &number in numbers {
            books.producers[producer as usize].acked[number as usize] = true;
        }
        books.acked += numbers.len() as u64;
        drop(books);
        self.story.mix(&[30, producer.into(), numbers.len() as u64]);
    }

    /// The consumer that follows was given this.
    pub(super) fn given(&self, item: &Item) {
        let mut books = self.lock();
        let outcome = match item {
            Item::Record(record) => books.record(record),
            Item::Gap(gap) => books.gap(gap),
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
        books
            .producers
            .iter()
            .all(|p| p.next == p.acked.len() as u64)
    }

    /// Whom the consumer still waits for.
    #[must_use]
    pub(super) fn outstanding(&self) -> String {
        let books = self.lock();
        let producers = books.producers.iter().enumerate();
        let open = producers.filter(|(_, p)| p.next < p.acked.len() as u64);
        open.map(|(at, p)| {
            format!(
                "producer {at} of {:?}: {} of {}; ",
                p.home,
                p.next,
                p.acked.len()
            )
        })
        .collect()
    }

    /// Every loss is counted, and nothing else is.
    pub(super) fn balance(&self) {
        let mut books = self.lock();
        let off = books
            .partitions
            .iter()
            .find(|(_, p)| p.lost < p.missing || p.lost > p.missing + p.missing_in_doubt);
        let wrong = off.map(|(home, p)| {
            format!(
                "{home:?}: gaps count {} lost; {} acknowledged events are missing, and {} in doubt",
                p.lost, p.missing, p.missing_in_doubt
            )
        });
        if let Some(wrong) = wrong {
            books.wrong.get_or_insert(wrong);
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
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("no holder panics")
    }
}

impl Books {
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
            .is_some_and(|p| p.home == home(record) && (number as usize) < p.acked.len());
        match is_known && value(producer, number, record.value.len()) == record.value {
            true => Ok((producer, number)),
            false => Err(phantom()),
        }
    }

    fn record(&mut self, record: &Record) -> Result<(), String> {
        let (producer, number) = self.home_of(record)?;
        let home = home(record);
        let book = &mut self.producers[producer as usize];
        if number < book.next {
            return Err(format!(
                "producer {producer}'s event {number} comes again or too late at offset {} of {home:?}, behind {}",
                record.offset,
                book.next - 1
            ));
        }
        let between = &book.acked[book.next as usize..number as usize];
        let missing = between.iter().filter(|acked| **acked).count() as u64;
        let missing_in_doubt = between.len() as u64 - missing;
        let first = book.next;
        book.next = number + 1;
        self.seen += 1;
        let partition = self.partitions.get_mut(&home).expect("a producer has one");
        partition.advance(record.offset, record.offset + 1, record.epoch)?;
        partition.missing += missing;
        partition.missing_in_doubt += missing_in_doubt;
        partition.places.insert(record.offset, (producer, number));
        if partition.missing > partition.lost {
            return Err(format!(
                "producer {producer}'s events from {first} to {number} ({missing} acknowledged) are missing before offset {} of {home:?}, and no gap counts them: {} missing, {} lost",
                record.offset, partition.missing, partition.lost
            ));
        }
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), String> {
        let home = (gap.origin.gateway.clone(), gap.origin.partition);
        let Some(partition) = self.partitions.get_mut(&home) else {
            return match gap.lost {
                0 => Ok(()),
                lost => Err(format!("{home:?} lost {lost} events and never had any")),
            };
        };
        partition.advance(gap.from, gap.to, gap.epoch)?;
        partition.lost += gap.lost;
        self.lost += gap.lost;
        match gap.cause {
            "burned" if gap.lost > 0 => Err(format!("burned offsets were never events: {gap:?}")),
            // Nothing rots here, and no disk is exchanged.
            "corrupt" | "new-log" if gap.lost > 0 => {
                Err(format!("nothing should be lost this way: {gap:?}"))
            }
            _ => Ok(()),
        }
    }
}

impl Partition {
    /// Offsets only grow, and none is left out.
    fn advance(&mut self, from: u64, to: u64, epoch: u32) -> Result<(), String> {
        if from != self.next || to < from || epoch < self.epoch {
            return Err(format!(
                "offsets {from}..{to} of epoch {epoch} come behind {} of epoch {}",
                self.next, self.epoch
            ));
        }
        (self.next, self.epoch) = (to, epoch);
        Ok(())
    }
}

fn home(record: &Record) -> (String, u16) {
    (record.origin.gateway.clone(), record.origin.partition)
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
