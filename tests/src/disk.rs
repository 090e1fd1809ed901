//! Segment files in memory: what is on the disk, what is only in the page cache, and what a cut makes of the difference.
//!
//! ```text
//! program ──► page cache ──sync──► disk          kill: the page cache stays
//!             (what reads show)                  cut:  the disk stays, and any part of what was not synced
//! ```
//!
//! Knows nothing of the log's format.

use std::sync::Arc;

use crate::random::Random;
use crate::sim::{Counts, Fault, Sim};

/// The segment files of one log.
#[derive(Clone, Debug)]
pub struct SimDisk {
    segment_bytes: u32,
    disk: Vec<Option<Arc<Vec<u8>>>>,
    cache: Vec<Option<Arc<Vec<u8>>>>,
    created: Vec<u32>,
    pending: Vec<Write>,
    unfinished: Option<Write>,
    plans: Vec<Plan>,
    sync_lies: bool,
    armed: Option<u64>,
    down: bool,
    counts: Counts,
}

/// What a cut leaves of the writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskTear {
    /// None of them.
    Nothing,
    /// All of them.
    Everything,
    /// The first ones, the last of these in part.
    Prefix,
    /// The last ones only.
    Suffix,
    /// For each write none, all, a prefix, any of its 512-byte sectors or any of its bytes, in any order.
    Any,
    /// The process was killed: everything that a write call took stays in the page cache, the interrupted call in part.
    Kill,
}

impl DiskTear {
    /// Every way to interrupt.
    pub const ALL: [Self; 6] = [
        Self::Nothing,
        Self::Everything,
        Self::Prefix,
        Self::Suffix,
        Self::Any,
        Self::Kill,
    ];
}

/// An operation that fails by plan.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Which kind of operation.
    pub on: On,
    /// How many of that kind pass before.
    pub after: u64,
    /// Whether all later ones fail too.
    pub for_ever: bool,
    /// With what.
    pub fault: Fault,
}

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// A read.
    Read,
    /// A write: it may have written a part.
    Program,
    /// An erase, which is where a missing file is made and its space reserved.
    Erase,
    /// A sync: it reports the error once and marks the pages clean, so the cache shows the new bytes and the disk has the old.
    Sync,
}

/// What a sync that failed leaves of what it was to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncLeaves {
    /// All is dirty still: the next sync writes it.
    Dirty,
    /// It counts as written: reads show it, and the disk does not have it.
    Clean,
    /// It is thrown away: reads show what the disk has.
    Old,
    /// It was written.
    Written,
}

#[derive(Clone, Debug)]
struct Write {
    segment: u32,
    position: u32,
    bytes: Vec<u8>,
}

const SECTOR_BYTES: usize = 512;

impl SimDisk {
    /// Segment files full of zeros, as reserved space is.
    #[must_use]
    pub fn new(segments: u32, segment_bytes: u32) -> Self {
        Self::with_files(
            vec![Some(zeros(segment_bytes)); segments as usize],
            segment_bytes,
        )
    }

    /// No file exists yet: each reads as `0xFF` until an erase makes it.
    #[must_use]
    pub fn without_files(segments: u32, segment_bytes: u32) -> Self {
        Self::with_files(vec![None; segments as usize], segment_bytes)
    }

    /// Files that hold `image`, cut into segments.
    #[must_use]
    pub fn with_image(segments: u32, segment_bytes: u32, image: &[u8]) -> Self {
        let mut disk = Self::new(segments, segment_bytes);
        for (segment, bytes) in image.chunks(segment_bytes as usize).enumerate() {
            write_into(&mut disk.disk[segment], 0, bytes);
        }
        disk.cache = disk.disk.clone();
        disk
    }

    fn with_files(files: Vec<Option<Arc<Vec<u8>>>>, segment_bytes: u32) -> Self {
        Self {
            segment_bytes,
            counts: Counts::new(files.len() as u32),
            cache: files.clone(),
            disk: files,
            created: Vec::new(),
            pending: Vec::new(),
            unfinished: None,
            plans: Vec::new(),
            sync_lies: false,
            armed: None,
            down: false,
        }
    }

    /// Makes an operation fail.
    pub fn plan(&mut self, plan: Plan) {
        self.plans.push(plan);
    }

    /// Whether a planned fault has not come yet.
    #[must_use]
    pub const fn has_plan(&self) -> bool {
        !self.plans.is_empty()
    }

    /// The planned faults are over.
    pub fn heal(&mut self) {
        self.plans.clear();
        self.sync_lies = false;
    }

    /// From now on a sync reports success and makes nothing durable.
    pub fn lie(&mut self) {
        self.sync_lies = true;
    }

    /// A bad sector that the device replaced by zeros.
    pub fn zero_sector(&mut self, segment: u32, sector: u32) {
        let from = sector as usize * SECTOR_BYTES;
        for files in [&mut self.disk, &mut self.cache] {
            let Some(file) = files[segment as usize].as_mut() else {
                continue;
            };
            let end = (from + SECTOR_BYTES).min(file.len());
            Arc::make_mut(file)[from..end].fill(0);
        }
    }

    /// A file that someone removed.
    pub fn remove(&mut self, segment: u32) {
        self.disk[segment as usize] = None;
        self.cache[segment as usize] = None;
    }

    /// A sync has failed, and this is what it leaves.
    pub fn leave_unsynced(&mut self, leaves: SyncLeaves) {
        match leaves {
            SyncLeaves::Dirty => {}
            SyncLeaves::Clean => {
                self.pending.clear();
                // Whoever makes a file has the directory synced: it is there, whatever is in it.
                self.promote(Vec::new());
            }
            SyncLeaves::Old => {
                self.pending.clear();
                self.promote(Vec::new());
                self.cache.clone_from(&self.disk);
            }
            SyncLeaves::Written => {
                let writes = std::mem::take(&mut self.pending);
                self.promote(writes);
            }
        }
    }

    /// Power fails outside of any operation: the page cache is gone. A killed process before it changes nothing in that.
    pub fn cut(&mut self, tear: DiskTear, seed: u64) {
        self.down = true;
        self.revive(tear, seed);
    }

    fn planned(&mut self, on: On) -> Option<Fault> {
        let mut fault = None;
        self.plans.retain_mut(|plan| {
            if plan.on != on || fault.is_some() {
                return true;
            }
            if plan.after > 0 {
                plan.after -= 1;
                return true;
            }
            fault = Some(plan.fault);
            plan.for_ever
        });
        fault
    }

    fn cut_here(&mut self) -> bool {
        self.counts.ops += 1;
        match self.armed.as_mut() {
            Some(0) => self.down = true,
            Some(left) => *left -= 1,
            None => {}
        }
        self.down
    }

    /// What becomes dirty is whole sectors, with all that the cache shows in them.
    fn write(&mut self, write: Write) {
        let file = &mut self.cache[write.segment as usize];
        write_into(file, write.position, &write.bytes);
        let Some(file) = file else { return };
        let from = write.position as usize / SECTOR_BYTES * SECTOR_BYTES;
        let end = (write.position as usize + write.bytes.len()).next_multiple_of(SECTOR_BYTES);
        let bytes = file[from..end.min(file.len())].to_vec();
        self.pending.push(Write {
            segment: write.segment,
            position: from as u32,
            bytes,
        });
    }

    fn kill(&mut self, mut random: Random) {
        let Some(mut write) = self.unfinished.take() else {
            return;
        };
        let kept = random.index(write.bytes.len() + 1);
        write.bytes.truncate(kept);
        if kept > 0 {
            self.write(write);
        }
    }

    fn lose_power(&mut self, tear: DiskTear, mut random: Random) {
        let mut writes: Vec<Write> = self
            .pending
            .drain(..)
            .chain(self.unfinished.take())
            .collect();
        match tear {
            DiskTear::Nothing | DiskTear::Kill => {
                writes.clear();
                self.created.clear();
            }
            DiskTear::Everything => {}
            DiskTear::Prefix => keep_prefix(&mut writes, &mut random),
            DiskTear::Suffix => {
                let lost = random.index(writes.len() + 1);
                writes.drain(..lost);
            }
            DiskTear::Any => {
                self.created.retain(|_| random.one_in(2));
                random.shuffle(&mut writes);
                writes = writes
                    .iter()
                    .flat_map(|write| any_part(write, &mut random))
                    .collect();
            }
        }
        self.promote(writes);
        self.cache.clone_from(&self.disk);
    }

    /// A write into a file whose directory entry was lost is lost with it.
    fn promote(&mut self, writes: Vec<Write>) {
        for segment in self.created.drain(..) {
            self.disk[segment as usize].get_or_insert_with(|| zeros(self.segment_bytes));
        }
        for write in writes {
            write_into(
                &mut self.disk[write.segment as usize],
                write.position,
                &write.bytes,
            );
        }
    }
}

impl Sim for SimDisk {
    type Tear = DiskTear;

    fn arm(&mut self, ops: u64) {
        self.armed = Some(ops);
    }

    fn disarm(&mut self) {
        self.armed = None;
    }

    fn is_down(&self) -> bool {
        self.down
    }

    fn revive(&mut self, tear: DiskTear, seed: u64) {
        let random = Random::new(seed);
        if tear == DiskTear::Kill {
            self.kill(random);
        } else {
            self.lose_power(tear, random);
        }
        self.down = false;
        self.armed = None;
    }

    fn flip(&mut self, segment: u32, position: u32, bit: u8) {
        for files in [&mut self.disk, &mut self.cache] {
            if let Some(file) = files[segment as usize].as_mut() {
                Arc::make_mut(file)[position as usize] ^= 1 << bit;
            }
        }
    }

    fn overwrite(&mut self, segment: u32, position: u32, bytes: &[u8]) {
        for files in [&mut self.disk, &mut self.cache] {
            write_into(&mut files[segment as usize], position, bytes);
        }
    }

    fn image(&self) -> Vec<u8> {
        let missing = vec![0xFF; self.segment_bytes as usize];
        self.cache
            .iter()
            .flat_map(|file| file.as_deref().unwrap_or(&missing).clone())
            .collect()
    }

    fn grain(&self) -> u32 {
        SECTOR_BYTES as u32
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Fault> {
        if self.down {
            return Err(Fault::PowerCut);
        }
        self.counts.reads += 1;
        self.counts.read_bytes += into.len() as u64;
        let end = position as usize + into.len();
        assert!(
            end <= self.segment_bytes as usize,
            "read of {} bytes at {segment}:{position} leaves the segment",
            into.len()
        );
        if let Some(fault) = self.planned(On::Read) {
            return Err(fault);
        }
        match &self.cache[segment as usize] {
            Some(file) => into.copy_from_slice(&file[position as usize..end]),
            None => into.fill(0xFF),
        }
        Ok(())
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Fault> {
        if self.down {
            return Err(Fault::PowerCut);
        }
        assert!(
            position as usize + bytes.len() <= self.segment_bytes as usize,
            "write of {} bytes at {segment}:{position} leaves the segment",
            bytes.len()
        );
        let mut write = Write {
            segment,
            position,
            bytes: bytes.to_vec(),
        };
        if self.cut_here() {
            self.unfinished = Some(write);
            return Err(Fault::PowerCut);
        }
        if let Some(fault) = self.planned(On::Program) {
            write.bytes.truncate(bytes.len() / 2);
            self.write(write);
            return Err(fault);
        }
        self.counts.programs += 1;
        self.counts.programmed_bytes += bytes.len() as u64;
        self.write(write);
        Ok(())
    }

    fn erase(&mut self, segment: u32) -> Result<(), Fault> {
        if self.down || self.cut_here() {
            return Err(Fault::PowerCut);
        }
        self.counts.erases[segment as usize] += 1;
        if let Some(fault) = self.planned(On::Erase) {
            return Err(fault);
        }
        if self.cache[segment as usize].is_none() {
            self.cache[segment as usize] = Some(zeros(self.segment_bytes));
            self.created.push(segment);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Fault> {
        if self.down || self.cut_here() {
            return Err(Fault::PowerCut);
        }
        self.counts.syncs += 1;
        if let Some(fault) = self.planned(On::Sync) {
            self.leave_unsynced(SyncLeaves::Clean);
            return Err(fault);
        }
        if self.sync_lies {
            return Ok(());
        }
        let writes = std::mem::take(&mut self.pending);
        self.promote(writes);
        Ok(())
    }
}

fn zeros(bytes: u32) -> Arc<Vec<u8>> {
    Arc::new(vec![0; bytes as usize])
}

fn write_into(file: &mut Option<Arc<Vec<u8>>>, position: u32, bytes: &[u8]) {
    if let Some(file) = file {
        let at = position as usize;
        Arc::make_mut(file)[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

fn keep_prefix(writes: &mut Vec<Write>, random: &mut Random) {
    let kept = random.index(writes.len() + 1);
    writes.truncate(kept);
    if let Some(last) = writes.last_mut() {
        let bytes = random.index(last.bytes.len() + 1);
        last.bytes.truncate(bytes);
    }
}

fn any_part(write: &Write, random: &mut Random) -> Vec<Write> {
    match random.below(5) {
        0 => Vec::new(),
        1 => vec![write.clone()],
        2 => {
            let kept = random.index(write.bytes.len() + 1);
            vec![Write {
                bytes: write.bytes[..kept].to_vec(),
                ..write.clone()
            }]
        }
        3 => any_pieces(write, SECTOR_BYTES, random),
        _ => {
            let bytes = random.pick(&[1, 4, 8, 64]);
            any_pieces(write, bytes, random)
        }
    }
}

/// Some of the pieces of a write, where pieces end at multiples of `piece_bytes` in the file.
fn any_pieces(write: &Write, piece_bytes: usize, random: &mut Random) -> Vec<Write> {
    let mut kept = Vec::new();
    let mut from = 0;
    while from < write.bytes.len() {
        let position = write.position as usize + from;
        let end = (from + piece_bytes - position % piece_bytes).min(write.bytes.len());
        if random.one_in(2) {
            kept.push(Write {
                segment: write.segment,
                position: position as u32,
                bytes: write.bytes[from..end].to_vec(),
            });
        }
        from = end;
    }
    kept
}
