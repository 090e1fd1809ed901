//! A NOR flash that is waited for: each operation lets its user wait before it takes effect and behind, and may be given up at either place.
//!
//! ```text
//! write: ──Pending──► effect ──Pending──► Ready
//!            │ dropped          │ dropped
//!            ▼                  ▼
//!      torn, as it is set     done, only nobody was told
//! ```
//! What was given up has come to its end when the next operation begins, as the log's driver asks of every flash.

use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use crate::flash::{FlashTear, SimFlash};
use crate::sim::{Fault, Shared, Sim};

/// Bytes of one erase block; segments are multiples of it.
pub const ERASE_BYTES: u32 = 1024;

/// A flash with the write unit `UNIT`.
#[derive(Clone, Debug)]
pub struct WaitingFlash<const UNIT: usize> {
    sim: Shared<SimFlash>,
    /// What is left of an operation that is given up before its effect.
    tear: FlashTear,
    seed: u64,
}

impl<const UNIT: usize> WaitingFlash<UNIT> {
    /// The same cells, waited for.
    #[must_use]
    pub const fn new(sim: Shared<SimFlash>, tear: FlashTear, seed: u64) -> Self {
        Self { sim, tear, seed }
    }

    fn place(&self, offset: u32) -> (u32, u32) {
        let segment_bytes = self.sim.sim().shape().segment_bytes;
        (offset / segment_bytes, offset % segment_bytes)
    }

    async fn change(
        &self,
        change: impl Fn(&mut SimFlash) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut underway = Underway {
            flash: self,
            change: Some(change),
        };
        wait_once().await;
        let change = underway.change.take().expect("taken once");
        let outcome = change(&mut self.sim.sim_mut());
        wait_once().await;
        outcome
    }
}

/// An operation that has begun. Dropped with its change still to be made, it leaves what a cut would.
struct Underway<'f, const UNIT: usize, C: Fn(&mut SimFlash) -> Result<(), Fault>> {
    flash: &'f WaitingFlash<UNIT>,
    change: Option<C>,
}

impl<const UNIT: usize, C: Fn(&mut SimFlash) -> Result<(), Fault>> Drop for Underway<'_, UNIT, C> {
    fn drop(&mut self) {
        let Some(change) = self.change.take() else {
            return;
        };
        let mut sim = self.flash.sim.sim_mut();
        sim.arm(0);
        assert_eq!(change(&mut sim), Err(Fault::PowerCut), "it is cut short");
        sim.revive(self.flash.tear, self.flash.seed);
    }
}

impl NorFlashError for Fault {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl<const UNIT: usize> ErrorType for WaitingFlash<UNIT> {
    type Error = Fault;
}

impl<const UNIT: usize> ReadNorFlash for WaitingFlash<UNIT> {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let (segment, position) = self.place(offset);
        wait_once().await;
        self.sim.sim_mut().read(segment, position, bytes)
    }

    fn capacity(&self) -> usize {
        let shape = self.sim.sim().shape();
        (shape.segments * shape.segment_bytes) as usize
    }
}

impl<const UNIT: usize> NorFlash for WaitingFlash<UNIT> {
    const WRITE_SIZE: usize = UNIT;
    const ERASE_SIZE: usize = ERASE_BYTES as usize;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        let (segment, position) = self.place(from);
        let segment_bytes = self.sim.sim().shape().segment_bytes;
        assert_eq!((position, to - from), (0, segment_bytes), "a whole segment");
        self.change(|sim| sim.erase(segment)).await
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        let (segment, position) = self.place(offset);
        self.change(|sim| sim.program(segment, position, bytes))
            .await
    }
}

async fn wait_once() {
    let mut waited = false;
    poll_fn(|_| match core::mem::replace(&mut waited, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// How often futures may still wait before one is dropped.
#[derive(Clone, Copy, Debug)]
pub struct Patience(Option<u64>);

impl Patience {
    /// The future that waits the next time after `waits` is dropped.
    #[must_use]
    pub const fn of(waits: u64) -> Self {
        Self(Some(waits))
    }

    /// Whether a future was dropped; none is any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        self.0.is_none()
    }

    /// Polls until it is ready; `None` if it was dropped.
    pub fn poll<F: Future>(&mut self, work: F) -> Option<F::Output> {
        let mut work = pin!(work);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(outcome) = work.as_mut().poll(&mut context) {
                return Some(outcome);
            }
            match &mut self.0 {
                Some(0) => {
                    self.0 = None;
                    return None;
                }
                Some(left) => *left -= 1,
                None => {}
            }
        }
    }
}
