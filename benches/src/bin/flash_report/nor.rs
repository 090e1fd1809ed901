//! The simulated flash behind `embedded-storage`, blocking and waited for: both contenders stand on the same cells and are counted by the same counters.

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};
use embedded_storage_async::nor_flash as waited;
use sedge_tests::flash::{FlashShape, SimFlash};
use sedge_tests::sim::{Counts, Fault, Shared, Sim};

/// A flash that programs `UNIT` bytes and erases `PAGE` bytes at once.
#[derive(Clone, Debug)]
pub(crate) struct Chip<const UNIT: usize, const PAGE: usize>(Shared<SimFlash>);

impl<const UNIT: usize, const PAGE: usize> Chip<UNIT, PAGE> {
    /// A blank one.
    pub(crate) fn blank(pages: u32, seed: u64) -> Self {
        let shape = FlashShape {
            segments: pages,
            segment_bytes: PAGE as u32,
            blocks: 1,
            write_unit: UNIT as u32,
        };
        Self::of(SimFlash::new(shape, seed))
    }

    /// These cells.
    pub(crate) fn of(sim: SimFlash) -> Self {
        Self(Shared::new(sim))
    }

    /// The same content in other cells.
    pub(crate) fn copied(&self) -> Self {
        Self::of(self.0.sim().clone())
    }

    /// The cells.
    pub(crate) const fn cells(&self) -> &Shared<SimFlash> {
        &self.0
    }

    /// What was asked of it so far.
    pub(crate) fn done(&self) -> Done {
        Done::of(self.0.sim().counts())
    }

    fn place(offset: u32) -> (u32, u32) {
        (offset / PAGE as u32, offset % PAGE as u32)
    }

    fn read_cells(&self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        let (segment, position) = Self::place(offset);
        self.0.sim_mut().read(segment, position, bytes)
    }

    fn write_cells(&self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        let (segment, position) = Self::place(offset);
        self.0.sim_mut().program(segment, position, bytes)
    }

    fn erase_cells(&self, from: u32, to: u32) -> Result<(), Fault> {
        let pages = Self::place(from).0..Self::place(to).0;
        pages
            .into_iter()
            .try_for_each(|page| self.0.sim_mut().erase(page))
    }

    fn bytes(&self) -> usize {
        self.0.sim().shape().segments as usize * PAGE
    }
}

/// Operations and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) reads: u64,
    pub(crate) programs: u64,
    pub(crate) programmed_bytes: u64,
    pub(crate) erases: u64,
}

impl Done {
    fn of(counts: &Counts) -> Self {
        Self {
            reads: counts.reads,
            programs: counts.programs,
            programmed_bytes: counts.programmed_bytes,
            erases: counts.ops - counts.programs - counts.syncs,
        }
    }

    /// What was done since.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            programs: self.programs - before.programs,
            programmed_bytes: self.programmed_bytes - before.programmed_bytes,
            erases: self.erases - before.erases,
        }
    }
}

impl std::ops::AddAssign for Done {
    fn add_assign(&mut self, more: Self) {
        self.reads += more.reads;
        self.programs += more.programs;
        self.programmed_bytes += more.programmed_bytes;
        self.erases += more.erases;
    }
}

impl<const UNIT: usize, const PAGE: usize> ErrorType for Chip<UNIT, PAGE> {
    type Error = Fault;
}

impl<const UNIT: usize, const PAGE: usize> ReadNorFlash for Chip<UNIT, PAGE> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        self.read_cells(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.bytes()
    }
}

impl<const UNIT: usize, const PAGE: usize> NorFlash for Chip<UNIT, PAGE> {
    const WRITE_SIZE: usize = UNIT;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        self.erase_cells(from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        self.write_cells(offset, bytes)
    }
}

impl<const UNIT: usize, const PAGE: usize> waited::ReadNorFlash for Chip<UNIT, PAGE> {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Fault> {
        self.read_cells(offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.bytes()
    }
}

impl<const UNIT: usize, const PAGE: usize> waited::NorFlash for Chip<UNIT, PAGE> {
    const WRITE_SIZE: usize = UNIT;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), Fault> {
        self.erase_cells(from, to)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        self.write_cells(offset, bytes)
    }
}

/// The queue marks what was taken by writing the item's header again.
impl<const UNIT: usize, const PAGE: usize> waited::MultiwriteNorFlash for Chip<UNIT, PAGE> {}
