//! A medium whose operations fail: any of them, in each way in which one can, once, for a while, or until the log is opened again.
//!
//! ```text
//! log ──► Failing ──► SimFlash, SimDisk         the n-th operation fails, and what it leaves is done to the medium
//!            ▲
//!          the test looks through it, and nothing that it looks at fails
//! ```
//! While a log is opened in files, nothing is written behind a read that failed, and such an open has failed: that is what the store sees to
//! ([decision 0016](../../docs/decisions/0016-unreadable-places.md)). On flash a place that cannot be read is as good as torn.
//!
//! Knows nothing of the log's format.

use std::collections::BTreeSet;

use crate::disk::{DiskTear, SimDisk, SyncLeaves};
use crate::flash::{FlashTear, SimFlash};
use crate::random::Random;
use crate::sim::{Counts, Fault, Sim};

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// A read.
    Read,
    /// A write.
    Program,
    /// An erase; in files, where one is made.
    Erase,
    /// A sync.
    Sync,
}

/// A medium whose operations can fail in its own ways.
pub trait Fails: Sim {
    /// How one of its operations fails.
    type Way: Copy + core::fmt::Debug + 'static;
    /// Whether nothing may be written behind a read that failed while a log is opened.
    const IS_CAREFUL: bool;
    /// Whether a read can fail behind another failure.
    const READS_FAIL_AGAIN: bool;
    /// What else fails behind the first operation, and for how long.
    const LASTING: &'static [(Scope, Length)];

    /// The ways in which an operation of this kind can fail; with others that fail there are fewer.
    fn ways(op: Op, alone: bool) -> &'static [Self::Way];
    /// A write fails in this way.
    fn fail_program(
        &mut self,
        segment: u32,
        position: u32,
        bytes: &[u8],
        way: Self::Way,
        seed: u64,
    );
    /// An erase fails in this way.
    fn fail_erase(&mut self, segment: u32, way: Self::Way, seed: u64);
    /// A sync fails in this way.
    fn fail_sync(&mut self, way: Self::Way);
    /// Power fails between two operations.
    fn lose_power(&mut self, seed: u64);
}

/// What fails, from when on, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Trouble<W> {
    /// The operation with this number is the first.
    pub at: u64,
    /// How it fails.
    pub way: W,
    /// What fails behind it.
    pub scope: Scope,
    /// When it is over.
    pub length: Length,
}

/// What fails behind the first operation; each in any way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Operations of the same kind.
    Same,
    /// What changes the medium: it has become read-only.
    Changes,
    /// Everything.
    All,
}

/// When trouble is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// When so many operations have failed.
    Ops(u64),
    /// When the log is opened again, behind so many opens that it spoils.
    Opens(u32),
}

impl Length {
    /// The operation fails, and the next one does not.
    pub const ONCE: Self = Self::Ops(1);
}

/// A medium, and the trouble it is to have.
#[derive(Clone, Debug)]
pub struct Failing<S: Fails> {
    inner: S,
    made: u64,
    /// What was asked of it, if somebody wants to know.
    record: Option<Vec<Op>>,
    troubles: Vec<Planned<S::Way>>,
    /// Something has failed.
    has_failed: bool,
    is_looked_at: bool,
    is_opened: bool,
    /// A read has failed in this open.
    unread: bool,
    unsynced: BTreeSet<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Planned<W> {
    trouble: Trouble<W>,
    /// The kind of the first that failed.
    first: Option<Op>,
}

impl<S: Fails> Failing<S> {
    /// `inner`, which is well.
    #[must_use]
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            made: 0,
            record: None,
            troubles: Vec::new(),
            has_failed: false,
            is_looked_at: false,
            is_opened: false,
            unread: false,
            unsynced: BTreeSet::new(),
        }
    }

    /// Takes down what is asked of it.
    pub fn record(&mut self) {
        self.record = Some(Vec::new());
    }

    /// What was asked of it.
    #[must_use]
    pub fn recorded(&self) -> &[Op] {
        self.record.as_deref().unwrap_or_default()
    }

    /// Trouble is to come.
    pub fn plan(&mut self, trouble: Trouble<S::Way>) {
        self.troubles.push(Planned {
            trouble,
            first: None,
        });
    }

    /// No more trouble.
    pub fn heal(&mut self) {
        self.troubles.clear();
    }

    /// The kinds of operation with which the trouble that was planned began, in that order; `None` where it did not.
    #[must_use]
    pub fn began(&self) -> Vec<Option<Op>> {
        self.troubles.iter().map(|planned| planned.first).collect()
    }

    /// How many operations it was asked for.
    #[must_use]
    pub const fn made(&self) -> u64 {
        self.made
    }

    /// The medium itself.
    pub const fn inner_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Whether this operation fails, and how.
    fn fails(&mut self, op: Op) -> Option<(S::Way, u64)> {
        if self.is_looked_at {
            return None;
        }
        let number = self.made;
        self.made += 1;
        if let Some(record) = &mut self.record {
            record.push(op);
        }
        if op == Op::Read && self.has_failed && !S::READS_FAIL_AGAIN {
            return None;
        }
        let is_alone = self.troubles.len() < 2;
        let planned = self
            .troubles
            .iter_mut()
            .find(|planned| planned.meets(number, op))?;
        let way = match planned.first {
            None => planned.trouble.way,
            Some(_) => Random::new(number).pick(S::ways(op, is_alone)),
        };
        planned.first.get_or_insert(op);
        self.has_failed = true;
        if let Length::Ops(left) = &mut planned.trouble.length {
            *left -= 1;
        }
        Some((way, number))
    }
}

impl<W> Planned<W> {
    fn meets(&self, number: u64, op: Op) -> bool {
        let Some(first) = self.first else {
            return number == self.trouble.at;
        };
        let is_over = matches!(self.trouble.length, Length::Ops(0) | Length::Opens(OVER));
        !is_over
            && match self.trouble.scope {
                Scope::Same => op == first,
                Scope::Changes => op != Op::Read,
                Scope::All => true,
            }
    }

    fn next_open(&mut self) {
        if let (Some(_), Length::Opens(left)) = (self.first, &mut self.trouble.length) {
            // One less than none: it is over.
            *left = match *left {
                0 | OVER => OVER,
                opens => opens - 1,
            };
        }
    }
}

impl<S: Fails> Sim for Failing<S> {
    type Tear = S::Tear;

    fn flickers(tear: S::Tear) -> bool {
        S::flickers(tear)
    }

    fn arm(&mut self, ops: u64) {
        self.inner.arm(ops);
    }

    fn disarm(&mut self) {
        self.inner.disarm();
    }

    fn is_down(&self) -> bool {
        self.inner.is_down()
    }

    fn revive(&mut self, tear: S::Tear, seed: u64) {
        self.inner.revive(tear, seed);
    }

    fn flip(&mut self, segment: u32, position: u32, bit: u8) {
        self.inner.flip(segment, position, bit);
    }

    fn overwrite(&mut self, segment: u32, position: u32, bytes: &[u8]) {
        self.inner.overwrite(segment, position, bytes);
    }

    fn image(&self) -> Vec<u8> {
        self.inner.image()
    }

    fn grain(&self) -> u32 {
        self.inner.grain()
    }

    fn counts(&self) -> &Counts {
        self.inner.counts()
    }

    fn is_looked_at(&mut self, by_the_test: bool) {
        self.is_looked_at = by_the_test;
    }

    fn begin_open(&mut self) {
        self.troubles.iter_mut().for_each(Planned::next_open);
        (self.is_opened, self.unread) = (true, false);
    }

    fn end_open(&mut self) -> bool {
        self.is_opened = false;
        !(S::IS_CAREFUL && self.unread)
    }

    fn unsynced(&self) -> Option<Vec<u32>> {
        Some(self.unsynced.iter().copied().collect())
    }

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Fault> {
        if self.fails(Op::Read).is_some() {
            self.unread |= self.is_opened;
            return Err(Fault::Io);
        }
        self.inner.read(segment, position, into)
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Fault> {
        self.may_write()?;
        self.unsynced.insert(segment);
        if let Some((way, seed)) = self.fails(Op::Program) {
            self.inner.fail_program(segment, position, bytes, way, seed);
            return Err(Fault::Io);
        }
        self.inner.program(segment, position, bytes)
    }

    fn erase(&mut self, segment: u32) -> Result<(), Fault> {
        self.may_write()?;
        if let Some((way, seed)) = self.fails(Op::Erase) {
            self.inner.fail_erase(segment, way, seed);
            return Err(Fault::NoSpace);
        }
        self.inner.erase(segment)
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.may_write()?;
        if let Some((way, _)) = self.fails(Op::Sync) {
            self.inner.fail_sync(way);
            return Err(Fault::Io);
        }
        self.inner.sync()?;
        self.unsynced.clear();
        Ok(())
    }
}

impl<S: Fails> Failing<S> {
    fn may_write(&self) -> Result<(), Fault> {
        if S::IS_CAREFUL && self.is_opened && self.unread {
            return Err(Fault::Io);
        }
        Ok(())
    }
}

impl Fails for SimFlash {
    type Way = FlashTear;
    const IS_CAREFUL: bool = false;
    /// Cells that cannot be read are torn, and stay so until they are erased; for another reason one read fails, and nothing else.
    const READS_FAIL_AGAIN: bool = false;
    const LASTING: &'static [(Scope, Length)] = &[
        (Scope::Same, Length::ONCE),
        (Scope::Changes, Length::Ops(3)),
        (Scope::Changes, Length::Ops(6)),
        (Scope::Changes, Length::Opens(0)),
        (Scope::Changes, Length::Opens(2)),
    ];

    /// An erase that fails and leaves a header that can be read, before cells that cannot be programmed, is one failure too many.
    fn ways(op: Op, alone: bool) -> &'static [FlashTear] {
        match op {
            Op::Erase if !alone => &[FlashTear::Nothing, FlashTear::Everything],
            Op::Read | Op::Sync => &[FlashTear::Nothing],
            Op::Program => &[
                FlashTear::Nothing,
                FlashTear::Prefix,
                FlashTear::Everything,
                FlashTear::Bits,
                FlashTear::Poison,
            ],
            Op::Erase => &[
                FlashTear::Nothing,
                FlashTear::Prefix,
                FlashTear::Everything,
                FlashTear::Spent,
            ],
        }
    }

    /// What a cut would leave, and power stays.
    fn fail_program(
        &mut self,
        segment: u32,
        position: u32,
        bytes: &[u8],
        way: FlashTear,
        seed: u64,
    ) {
        self.arm(0);
        let cut = self.program(segment, position, bytes);
        assert_eq!(cut, Err(Fault::PowerCut));
        self.revive(way, seed);
    }

    fn fail_erase(&mut self, segment: u32, way: FlashTear, seed: u64) {
        self.arm(0);
        assert_eq!(self.erase(segment), Err(Fault::PowerCut));
        self.revive(way, seed);
    }

    fn fail_sync(&mut self, _: FlashTear) {}

    /// What was programmed is there.
    fn lose_power(&mut self, _: u64) {}
}

/// How an operation on a file fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileWay {
    /// Nothing of it is done.
    Nothing,
    /// A part of a write is done: a short write, and then no more.
    Part,
    /// All of it is done, and yet it is reported as failed.
    All,
    /// A sync: what it was to write stays dirty, and the next one may write it.
    Kept,
    /// A sync: it is no longer dirty, reads show it, and the disk does not have it.
    Dropped,
    /// A sync: it is thrown away, and reads show what the disk has.
    Reverted,
}

impl Fails for SimDisk {
    type Way = FileWay;
    const IS_CAREFUL: bool = true;
    const READS_FAIL_AGAIN: bool = true;
    const LASTING: &'static [(Scope, Length)] = &[
        (Scope::Same, Length::ONCE),
        (Scope::All, Length::Ops(3)),
        (Scope::Changes, Length::Ops(3)),
        (Scope::Same, Length::Ops(6)),
        (Scope::All, Length::Opens(0)),
        (Scope::Changes, Length::Opens(0)),
        (Scope::All, Length::Opens(2)),
        (Scope::Same, Length::Opens(2)),
    ];

    fn ways(op: Op, _: bool) -> &'static [FileWay] {
        match op {
            Op::Read => &[FileWay::Nothing],
            Op::Program => &[FileWay::Nothing, FileWay::Part, FileWay::All],
            Op::Erase => &[FileWay::Nothing, FileWay::All],
            Op::Sync => &[
                FileWay::Kept,
                FileWay::Dropped,
                FileWay::Reverted,
                FileWay::All,
            ],
        }
    }

    fn fail_program(&mut self, segment: u32, position: u32, bytes: &[u8], way: FileWay, seed: u64) {
        let written = match way {
            FileWay::Part => 1 + Random::new(seed).index(bytes.len()),
            FileWay::All => bytes.len(),
            _ => return,
        };
        let outcome = self.program(segment, position, &bytes[..written]);
        assert_eq!(outcome, Ok(()));
    }

    fn fail_erase(&mut self, segment: u32, way: FileWay, _: u64) {
        if way == FileWay::All {
            assert_eq!(self.erase(segment), Ok(()));
        }
    }

    fn fail_sync(&mut self, way: FileWay) {
        self.leave_unsynced(match way {
            FileWay::Dropped => SyncLeaves::Clean,
            FileWay::Reverted => SyncLeaves::Old,
            FileWay::All => SyncLeaves::Written,
            _ => SyncLeaves::Dirty,
        });
    }

    fn lose_power(&mut self, seed: u64) {
        let tear = Random::new(seed).pick(&[DiskTear::Nothing, DiskTear::Nothing, DiskTear::Any]);
        self.cut(tear, seed);
    }
}

/// Of a trouble's opens.
const OVER: u32 = u32::MAX;
