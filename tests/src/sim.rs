//! What simulated media have in common: one operation at a time, a cut at any of them, and a clone at any moment.

use std::cell::{Ref, RefCell, RefMut};
use std::rc::Rc;

use sedge_core::media::Media;

/// A simulated medium.
///
/// Only what changes it (program, erase, sync) counts as an operation that can be cut.
pub trait Sim: Clone {
    /// What a cut may leave of the unfinished operations.
    type Tear: Copy + core::fmt::Debug + 'static;

    /// Whether what this tear leaves may read differently each time.
    fn flickers(_tear: Self::Tear) -> bool {
        false
    }
    /// Lets `ops` more operations pass; the one after them does not return, nor does anything until [`Self::revive`].
    fn arm(&mut self, ops: u64);
    /// Calls the armed cut off.
    fn disarm(&mut self);
    /// Whether the armed cut has happened.
    fn is_down(&self) -> bool;
    /// Decides by `tear` and `seed` what is left of the unfinished operations, and starts again. Disarms.
    fn revive(&mut self, tear: Self::Tear, seed: u64);
    /// Flips one stored bit.
    fn flip(&mut self, segment: u32, position: u32, bit: u8);
    /// Other bytes are stored than were written.
    fn overwrite(&mut self, segment: u32, position: u32, bytes: &[u8]);
    /// All bytes as they read now, segment after segment.
    fn image(&self) -> Vec<u8>;
    /// How finely it tells readable bytes from others.
    fn grain(&self) -> u32;
    /// What was asked of it so far.
    fn counts(&self) -> &Counts;

    /// What follows is looked at by the test, or asked for by the log again: only what the log asks for can fail.
    fn is_looked_at(&mut self, _by_the_test: bool) {}
    /// A log is about to be opened.
    fn begin_open(&mut self) {}
    /// The log was opened. `false`: something could not be read, and who opens logs on such a medium takes that for a failure.
    fn end_open(&mut self) -> bool {
        true
    }
    /// The segments that were written to since a sync last succeeded, where somebody keeps account of that.
    fn unsynced(&self) -> Option<Vec<u32>> {
        None
    }

    /// Reads.
    ///
    /// # Errors
    /// Down, or unreadable here.
    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Fault>;
    /// Writes.
    ///
    /// # Errors
    /// Down, or a planned fault.
    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Fault>;
    /// Erases, where the medium has that.
    ///
    /// # Errors
    /// Down, or a planned fault.
    fn erase(&mut self, segment: u32) -> Result<(), Fault>;
    /// Makes what was written survive a power cut.
    ///
    /// # Errors
    /// Down, or a planned fault.
    fn sync(&mut self) -> Result<(), Fault>;
}

/// Why a simulated operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There is no power, or the process was killed.
    PowerCut,
    /// The unit is not readable until it is erased.
    Ecc,
    /// The device reports an error.
    Io,
    /// The file system is full.
    NoSpace,
}

/// What was asked of a medium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Programs, erases and syncs: the places where a cut can fall.
    pub ops: u64,
    /// Reads.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Programs.
    pub programs: u64,
    /// Bytes programmed.
    pub programmed_bytes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Erases of each segment.
    pub erases: Vec<u32>,
}

impl Counts {
    pub(crate) fn new(segments: u32) -> Self {
        Self {
            erases: vec![0; segments as usize],
            ..Self::default()
        }
    }
}

/// A medium that the log under test and the test around it hold together.
#[derive(Debug)]
pub struct Shared<S>(Rc<RefCell<S>>);

impl<S> Shared<S> {
    /// Shares `sim`.
    pub fn new(sim: S) -> Self {
        Self(Rc::new(RefCell::new(sim)))
    }

    /// To look at.
    #[must_use]
    pub fn sim(&self) -> Ref<'_, S> {
        self.0.borrow()
    }

    /// To break.
    #[must_use]
    pub fn sim_mut(&self) -> RefMut<'_, S> {
        self.0.borrow_mut()
    }
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S: Sim> Media for Shared<S> {
    type Error = Fault;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Fault> {
        self.sim_mut().read(segment, position, into)
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Fault> {
        self.sim_mut().program(segment, position, bytes)
    }

    fn erase(&mut self, segment: u32) -> Result<(), Fault> {
        self.sim_mut().erase(segment)
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.sim_mut().sync()
    }

    fn grain(&self) -> u32 {
        self.sim().grain()
    }
}
