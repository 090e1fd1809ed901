//! The other contender: the queue of `sequential-storage`, without a cache, as its own examples set it up.

use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use sedge_tests::sim::Fault;
use sequential_storage::Error;
use sequential_storage::cache::{Cache, Uncached};
use sequential_storage::queue::{QueueConfig, QueueStorage};

use crate::nor::Chip;

type Storage<const UNIT: usize, const PAGE: usize> =
    QueueStorage<Chip<UNIT, PAGE>, Cache<Uncached, Uncached, Uncached>>;

/// A queue on a chip.
pub(crate) struct Queue<const UNIT: usize, const PAGE: usize> {
    storage: Storage<UNIT, PAGE>,
    chip: Chip<UNIT, PAGE>,
}

/// Why something failed.
pub(crate) type Failed = Error<Fault>;

impl<const UNIT: usize, const PAGE: usize> Queue<UNIT, PAGE> {
    /// Power on.
    pub(crate) fn boot(chip: Chip<UNIT, PAGE>) -> Self {
        chip.cells().sim_mut().allow_rewrites();
        let end = chip.cells().sim().shape().segments * PAGE as u32;
        let config = QueueConfig::new(0..end);
        Self {
            storage: QueueStorage::new(chip.clone(), config, Cache::new_uncached()),
            chip,
        }
    }

    pub(crate) const fn chip(&self) -> &Chip<UNIT, PAGE> {
        &self.chip
    }

    /// Appends. With `overwrite`, the oldest page makes room.
    pub(crate) fn push(&mut self, item: &[u8], overwrite: bool) -> Result<(), Failed> {
        run(self.storage.push(item, overwrite))
    }

    /// Takes the oldest item.
    pub(crate) fn pop(&mut self) -> Result<Option<Vec<u8>>, Failed> {
        let mut buffer = [0; ITEM_BYTES_MAX];
        run(self.storage.pop(&mut buffer)).map(|item| item.map(|item| item.to_vec()))
    }

    /// All items, oldest first.
    pub(crate) fn items(&mut self) -> Result<Vec<Vec<u8>>, Failed> {
        run(async {
            let mut items = Vec::new();
            let mut iterator = self.storage.iter().await?;
            let mut buffer = [0; ITEM_BYTES_MAX];
            while let Some(entry) = iterator.next(&mut buffer).await? {
                items.push(entry.to_vec());
            }
            Ok(items)
        })
    }

    /// Pushes, the oldest making room, until `pages` pages were erased.
    pub(crate) fn fill(&mut self, pages: u64, item: &[u8]) {
        let before = self.chip.done();
        while self.chip.done().since(before).erases < pages {
            self.push(item, true).expect("a healthy chip");
        }
    }
}

const ITEM_BYTES_MAX: usize = 512;

/// Polls `work` until it is ready: the simulated flash never waits.
fn run<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(outcome) = work.as_mut().poll(&mut context) {
            return outcome;
        }
    }
}

/// Bytes of a queue beside its flash: its range and its cache.
pub(crate) const STATE_BYTES: usize = (size_of::<Range<u32>>()
    + size_of::<Cache<Uncached, Uncached, Uncached>>())
.next_multiple_of(4);
