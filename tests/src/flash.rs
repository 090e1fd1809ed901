//! NOR flash in memory, with the rules of the strictest parts and the ways in which power cuts break them.
//!
//! ```text
//! cell (one write unit):   Erased ──program──► Programmed ──erase──► Erased
//!                             │ torn program                torn erase │
//!                             ▼                                        ▼
//!                   Programmed, Poison or Flicker          Spent (looks blank, is not), Poison, …
//! ```
//!
//! A program that is not aligned, or that touches a unit which is not `Erased`, is a bug of the log and panics.
//! Knows nothing of the log's format.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::random::Random;
use crate::sim::{Counts, Fault, Sim};

/// A region of NOR flash, divided into segments.
#[derive(Clone, Debug)]
pub struct SimFlash {
    shape: FlashShape,
    segments: Vec<Arc<Segment>>,
    flickers: BTreeMap<(u32, u32), Flicker>,
    broken: BTreeMap<u32, BadBlock>,
    random: Random,
    armed: Option<u64>,
    torn: Option<Torn>,
    counts: Counts,
    /// Bits may be cleared in units that were programmed already.
    rewritable: bool,
}

/// How a flash is divided.
#[derive(Clone, Copy, Debug)]
pub struct FlashShape {
    /// Segments in the region.
    pub segments: u32,
    /// Bytes of one segment.
    pub segment_bytes: u32,
    /// Erase blocks of one segment; a cut may fall between two of them.
    pub blocks: u32,
    /// Bytes that are programmed at once.
    pub write_unit: u32,
}

/// What is wrong with a worn-out segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBlock {
    /// A program leaves anything and reports an error.
    ProgramFails,
    /// An erase leaves everything and reports an error.
    EraseFails,
    /// Both of these.
    BothFail,
    /// Every read reports an error.
    ReadFails,
}

/// What a power cut leaves of the operation that it interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashTear {
    /// The operation never began.
    Nothing,
    /// It was complete, only its answer was lost.
    Everything,
    /// Its first units, at least one and not all.
    Prefix,
    /// Its last units.
    Suffix,
    /// Any of its units.
    Subset,
    /// All units but the first.
    AllButFirst,
    /// Any of its bits.
    Bits,
    /// Its units report ECC errors until they are erased.
    Poison,
    /// Its units read differently each time, and settle after a few reads.
    Flicker,
    /// An erase that made everything blank, but not for long: it cannot be programmed.
    Spent,
}

impl FlashTear {
    /// Every way to interrupt an operation after which cells read the same each time.
    pub const STEADY: [Self; 9] = [
        Self::Nothing,
        Self::Everything,
        Self::Prefix,
        Self::Suffix,
        Self::Subset,
        Self::AllButFirst,
        Self::Bits,
        Self::Poison,
        Self::Spent,
    ];
}

#[derive(Clone, Debug)]
struct Segment {
    bytes: Vec<u8>,
    cells: Vec<Cell>,
    /// Some cells may not read as they stand: since the last erase one was unreadable, or changed its mind.
    is_odd: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Erased,
    Programmed,
    /// Reads blank, but the erase was cut short: programming it would not hold.
    Spent,
    Poison,
    Flicker,
}

#[derive(Clone, Debug)]
struct Flicker {
    meant: Vec<u8>,
    /// One bit that surely took, so that a touched range never looks untouched.
    anchor: Option<(usize, u8)>,
    reads_left: u32,
}

#[derive(Clone, Debug)]
enum Torn {
    Program {
        segment: u32,
        position: u32,
        bytes: Vec<u8>,
    },
    Erase {
        segment: u32,
    },
    Sync,
}

impl SimFlash {
    /// A blank region.
    #[must_use]
    pub fn new(shape: FlashShape, seed: u64) -> Self {
        assert!(
            shape
                .segment_bytes
                .is_multiple_of(shape.write_unit * shape.blocks)
        );
        let segment = Arc::new(Segment {
            bytes: vec![0xFF; shape.segment_bytes as usize],
            cells: vec![Cell::Erased; (shape.segment_bytes / shape.write_unit) as usize],
            is_odd: false,
        });
        Self {
            shape,
            segments: vec![segment; shape.segments as usize],
            flickers: BTreeMap::new(),
            broken: BTreeMap::new(),
            random: Random::new(seed),
            armed: None,
            torn: None,
            counts: Counts::new(shape.segments),
            rewritable: false,
        }
    }

    /// A laxer part from here on: bits may be cleared in units that were programmed already, and nobody checks whether an erase was cut short.
    pub fn allow_rewrites(&mut self) {
        self.rewritable = true;
    }

    /// A region that holds `image`, every unit of it programmed unless it is blank.
    #[must_use]
    pub fn with_image(shape: FlashShape, image: &[u8], seed: u64) -> Self {
        let mut flash = Self::new(shape, seed);
        for (segment, bytes) in flash
            .segments
            .iter_mut()
            .zip(image.chunks(shape.segment_bytes as usize))
        {
            let segment = Arc::make_mut(segment);
            segment.bytes[..bytes.len()].copy_from_slice(bytes);
            let units = segment.bytes.chunks(shape.write_unit as usize);
            for (cell, unit) in segment.cells.iter_mut().zip(units) {
                *cell = cell_of(unit);
            }
        }
        flash
    }

    /// How it is divided.
    #[must_use]
    pub const fn shape(&self) -> FlashShape {
        self.shape
    }

    /// Wears a segment out.
    pub fn break_segment(&mut self, segment: u32, how: BadBlock) {
        self.broken.insert(segment, how);
    }

    fn tear_program(&mut self, segment: u32, position: u32, bytes: &[u8], tear: FlashTear) {
        let unit = self.shape.write_unit as usize;
        let count = bytes.len() / unit;
        let first = position / self.shape.write_unit;
        let split = if count > 1 {
            1 + self.random.index(count - 1)
        } else {
            0
        };
        let mut flickering = false;
        for (index, meant) in bytes.chunks(unit).enumerate() {
            let takes = match tear {
                FlashTear::Nothing | FlashTear::Spent => false,
                FlashTear::Everything | FlashTear::Bits => true,
                FlashTear::Prefix => index < split,
                FlashTear::Suffix => index >= split,
                FlashTear::AllButFirst => index > 0,
                FlashTear::Subset | FlashTear::Poison | FlashTear::Flicker => self.random.one_in(2),
            };
            if !takes {
                continue;
            }
            let at = first + index as u32;
            match tear {
                FlashTear::Poison => self.set_cell(segment, at, Cell::Poison),
                FlashTear::Flicker => {
                    flickering |= self.set_flicker(segment, at, meant, !flickering)
                }
                FlashTear::Bits => {
                    let mut mask = vec![0; unit];
                    self.random.fill(&mut mask);
                    let torn: Vec<u8> = meant
                        .iter()
                        .zip(&mask)
                        .map(|(byte, mask)| byte | mask)
                        .collect();
                    self.clear_bits(segment, at, &torn);
                }
                _ => self.clear_bits(segment, at, meant),
            }
        }
    }

    fn tear_erase(&mut self, segment: u32, tear: FlashTear) {
        if tear == FlashTear::Nothing {
            return;
        }
        let units = self.shape.segment_bytes / self.shape.write_unit;
        let units_of_block = units / self.shape.blocks;
        let mut blocks: Vec<u32> = (0..self.shape.blocks).collect();
        if self.random.one_in(2) {
            blocks.reverse();
        }
        let done = if tear == FlashTear::Everything {
            blocks.len()
        } else {
            self.random.index(blocks.len())
        };
        for (index, block) in blocks.into_iter().enumerate().take(done + 1) {
            let range = block * units_of_block..(block + 1) * units_of_block;
            if index < done {
                range.for_each(|at| self.blank(segment, at, Cell::Erased));
            } else {
                self.tear_erase_block(segment, range, tear);
            }
        }
    }

    /// An erase lifts all cells of a block together: what is left is a matter of how far it came, not of which units.
    fn tear_erase_block(&mut self, segment: u32, units: std::ops::Range<u32>, tear: FlashTear) {
        let progress = self
            .random
            .pick(&[1, 2, 5, 20, 50, 200, 500, 900, 990, 999]);
        for at in units {
            match tear {
                FlashTear::Spent => self.blank(segment, at, Cell::Spent),
                FlashTear::Poison => {
                    if self.random.one_in(2) {
                        self.set_cell(segment, at, Cell::Poison);
                    }
                }
                _ => self.lift_bits(segment, at, progress),
            }
        }
    }

    /// What was unreadable stays so.
    fn lift_bits(&mut self, segment: u32, at: u32, per_mille: u64) {
        if self.segments[segment as usize].cells[at as usize] == Cell::Poison {
            return;
        }
        let range = self.range(at);
        let mut bytes = self.segments[segment as usize].bytes[range].to_vec();
        for byte in &mut bytes {
            for bit in 0..8 {
                if self.random.below(1000) < per_mille {
                    *byte |= 1 << bit;
                }
            }
        }
        let blank = bytes.iter().all(|&byte| byte == 0xFF);
        self.set_unit(segment, at, &bytes);
        if blank {
            self.set_cell(segment, at, Cell::Spent);
        }
    }

    fn range(&self, at: u32) -> std::ops::Range<usize> {
        let unit = self.shape.write_unit as usize;
        at as usize * unit..(at as usize + 1) * unit
    }

    /// A torn unit that took nothing but ones is as good as untouched.
    fn set_unit(&mut self, segment: u32, at: u32, bytes: &[u8]) {
        let range = self.range(at);
        let segment = Arc::make_mut(&mut self.segments[segment as usize]);
        segment.bytes[range].copy_from_slice(bytes);
        segment.cells[at as usize] = cell_of(bytes);
    }

    /// A program clears bits and sets none. What is unreadable stays so.
    fn clear_bits(&mut self, segment: u32, at: u32, bytes: &[u8]) {
        let range = self.range(at);
        let segment = Arc::make_mut(&mut self.segments[segment as usize]);
        let cells = &mut segment.bytes[range];
        cells
            .iter_mut()
            .zip(bytes)
            .for_each(|(cell, byte)| *cell &= byte);
        if segment.cells[at as usize] != Cell::Poison {
            segment.cells[at as usize] = cell_of(cells);
        }
    }

    fn set_cell(&mut self, segment: u32, at: u32, cell: Cell) {
        let segment = Arc::make_mut(&mut self.segments[segment as usize]);
        segment.cells[at as usize] = cell;
        segment.is_odd |= matches!(cell, Cell::Poison | Cell::Flicker);
    }

    fn set_flicker(&mut self, segment: u32, at: u32, meant: &[u8], anchored: bool) -> bool {
        let bit = meant.iter().position(|&byte| byte != 0xFF);
        let Some(byte) = bit else { return false };
        let anchor = anchored.then(|| (byte, meant[byte].trailing_ones() as u8));
        let reads_left = 1 + self.random.below(4) as u32;
        self.flickers.insert(
            (segment, at),
            Flicker {
                meant: meant.to_vec(),
                anchor,
                reads_left,
            },
        );
        self.set_cell(segment, at, Cell::Flicker);
        true
    }

    fn blank(&mut self, segment: u32, at: u32, cell: Cell) {
        let range = self.range(at);
        let stored = Arc::make_mut(&mut self.segments[segment as usize]);
        stored.bytes[range].fill(0xFF);
        stored.cells[at as usize] = cell;
        self.flickers.remove(&(segment, at));
    }

    /// Each read of a flickering unit shows any of its bits; after a few reads it stays with what it showed last.
    fn flicker(&mut self, segment: u32, at: u32) {
        let Some(flicker) = self.flickers.get_mut(&(segment, at)) else {
            return;
        };
        let mut shown = flicker.meant.clone();
        match self.random.below(4) {
            0 => {}
            1 => shown.fill(0xFF),
            _ => shown
                .iter_mut()
                .for_each(|byte| *byte |= self.random.bits() as u8),
        }
        if let Some((byte, bit)) = flicker.anchor {
            shown[byte] &= !(1 << bit);
        }
        flicker.reads_left -= 1;
        let settled = flicker.reads_left == 0;
        let range = self.range(at);
        Arc::make_mut(&mut self.segments[segment as usize]).bytes[range].copy_from_slice(&shown);
        if settled {
            self.flickers.remove(&(segment, at));
            self.set_cell(segment, at, Cell::Programmed);
        }
    }

    /// True when power fails at this operation, which is then left to be torn.
    fn cut_here(&mut self, torn: impl FnOnce() -> Torn) -> bool {
        self.counts.ops += 1;
        let Some(left) = self.armed.as_mut() else {
            return false;
        };
        if *left > 0 {
            *left -= 1;
            return false;
        }
        self.torn = Some(torn());
        true
    }

    fn check_program(&self, segment: u32, position: u32, bytes: &[u8]) {
        let unit = self.shape.write_unit;
        let length = bytes.len() as u32;
        assert!(
            position.is_multiple_of(unit) && length.is_multiple_of(unit) && length > 0,
            "program of {length} bytes at {segment}:{position} is not aligned to {unit}"
        );
        assert!(
            position + length <= self.shape.segment_bytes,
            "program of {length} bytes at {segment}:{position} leaves the segment"
        );
        if self.rewritable {
            return;
        }
        for at in position / unit..(position + length) / unit {
            let cell = self.segments[segment as usize].cells[at as usize];
            assert!(
                cell == Cell::Erased,
                "program at {segment}:{position} touches unit {at}, which is {cell:?}"
            );
        }
    }
}

impl Sim for SimFlash {
    type Tear = FlashTear;

    fn flickers(tear: FlashTear) -> bool {
        tear == FlashTear::Flicker
    }

    fn arm(&mut self, ops: u64) {
        self.armed = Some(ops);
    }

    fn disarm(&mut self) {
        self.armed = None;
    }

    fn is_down(&self) -> bool {
        self.torn.is_some()
    }

    fn revive(&mut self, tear: FlashTear, seed: u64) {
        self.random = Random::new(seed);
        self.armed = None;
        match self.torn.take() {
            Some(Torn::Program {
                segment,
                position,
                bytes,
            }) => self.tear_program(segment, position, &bytes, tear),
            Some(Torn::Erase { segment }) => self.tear_erase(segment, tear),
            Some(Torn::Sync) | None => {}
        }
    }

    fn flip(&mut self, segment: u32, position: u32, bit: u8) {
        let at = position / self.shape.write_unit;
        let stored = Arc::make_mut(&mut self.segments[segment as usize]);
        stored.bytes[position as usize] ^= 1 << bit;
        if stored.cells[at as usize] == Cell::Erased {
            stored.cells[at as usize] = Cell::Programmed;
        }
    }

    /// A unit that is all ones then is as good as erased. So is one behind it that was programmed with ones: nobody can tell that it belonged to a frame.
    fn overwrite(&mut self, segment: u32, position: u32, bytes: &[u8]) {
        let unit = self.shape.write_unit as usize;
        let stored = Arc::make_mut(&mut self.segments[segment as usize]);
        let end = position as usize + bytes.len();
        stored.bytes[position as usize..end].copy_from_slice(bytes);
        let units = position as usize / unit..end.div_ceil(unit);
        for at in units {
            stored.cells[at] = cell_of(&stored.bytes[at * unit..(at + 1) * unit]);
        }
        let behind = stored.cells.iter_mut().zip(stored.bytes.chunks(unit));
        for (cell, bytes) in behind.skip(end.div_ceil(unit)) {
            if *cell == Cell::Programmed {
                *cell = cell_of(bytes);
            }
        }
    }

    fn image(&self) -> Vec<u8> {
        self.segments
            .iter()
            .flat_map(|segment| segment.bytes.iter().copied())
            .collect()
    }

    fn grain(&self) -> u32 {
        self.shape.write_unit
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Fault> {
        if self.is_down() {
            return Err(Fault::PowerCut);
        }
        self.counts.reads += 1;
        self.counts.read_bytes += into.len() as u64;
        let end = position as usize + into.len();
        assert!(
            end <= self.shape.segment_bytes as usize,
            "read of {} bytes at {segment}:{position} leaves the segment",
            into.len()
        );
        if self.broken.get(&segment) == Some(&BadBlock::ReadFails) {
            return Err(Fault::Ecc);
        }
        let units = position / self.shape.write_unit..(end as u32).div_ceil(self.shape.write_unit);
        let is_odd = self.segments[segment as usize].is_odd;
        for at in units.take_while(|_| is_odd) {
            match self.segments[segment as usize].cells[at as usize] {
                Cell::Poison => return Err(Fault::Ecc),
                Cell::Flicker => self.flicker(segment, at),
                Cell::Erased | Cell::Programmed | Cell::Spent => {}
            }
        }
        into.copy_from_slice(&self.segments[segment as usize].bytes[position as usize..end]);
        Ok(())
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Fault> {
        if self.is_down() {
            return Err(Fault::PowerCut);
        }
        self.check_program(segment, position, bytes);
        if self.cut_here(|| Torn::Program {
            segment,
            position,
            bytes: bytes.to_vec(),
        }) {
            return Err(Fault::PowerCut);
        }
        self.counts.programs += 1;
        self.counts.programmed_bytes += bytes.len() as u64;
        if matches!(
            self.broken.get(&segment),
            Some(BadBlock::ProgramFails | BadBlock::BothFail)
        ) {
            let tear = self.random.pick(&[
                FlashTear::Nothing,
                FlashTear::Bits,
                FlashTear::Prefix,
                FlashTear::Poison,
            ]);
            self.tear_program(segment, position, bytes, tear);
            return Err(Fault::Io);
        }
        let unit = self.shape.write_unit;
        if self.rewritable {
            let units = (position / unit..).zip(bytes.chunks(unit as usize));
            units.for_each(|(at, bytes)| self.clear_bits(segment, at, bytes));
            return Ok(());
        }
        let stored = Arc::make_mut(&mut self.segments[segment as usize]);
        stored.bytes[position as usize..position as usize + bytes.len()].copy_from_slice(bytes);
        stored.cells[(position / unit) as usize..(position as usize + bytes.len()) / unit as usize]
            .fill(Cell::Programmed);
        Ok(())
    }

    fn erase(&mut self, segment: u32) -> Result<(), Fault> {
        if self.is_down() {
            return Err(Fault::PowerCut);
        }
        if self.cut_here(|| Torn::Erase { segment }) {
            return Err(Fault::PowerCut);
        }
        self.counts.erases[segment as usize] += 1;
        if matches!(
            self.broken.get(&segment),
            Some(BadBlock::EraseFails | BadBlock::BothFail)
        ) {
            return Err(Fault::Io);
        }
        let stored = Arc::make_mut(&mut self.segments[segment as usize]);
        stored.bytes.fill(0xFF);
        stored.cells.fill(Cell::Erased);
        stored.is_odd = false;
        self.flickers
            .retain(|&(flickering, _), _| flickering != segment);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Fault> {
        if self.is_down() || self.cut_here(|| Torn::Sync) {
            return Err(Fault::PowerCut);
        }
        self.counts.syncs += 1;
        Ok(())
    }
}

fn cell_of(unit: &[u8]) -> Cell {
    if unit.iter().all(|&byte| byte == 0xFF) {
        Cell::Erased
    } else {
        Cell::Programmed
    }
}
