//! The flash by the C program's callbacks, and how a log lies on it.

use core::ffi::{c_int, c_void};

use sedge_core::media::Media;
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};

use crate::error::sedge_error;
use sedge_error::{SEDGE_ERR_ARGUMENT, SEDGE_ERR_GEOMETRY, SEDGE_ERR_NULL};

/// Reads `len` bytes from `address` on, counted from the beginning of the log's region, to `into`. Any address and any length. Returns 0, or
/// anything else if they cannot be read: the log takes them as damaged and goes on.
pub type sedge_read = Option<
    unsafe extern "C" fn(context: *mut c_void, address: u32, into: *mut u8, len: u32) -> c_int,
>;

/// Programs `len` bytes at `address`; both are multiples of the write unit, and each unit is programmed at most once between two erases. Returns 0 when they
/// survive a power cut, or anything else if that is not certain.
pub type sedge_program = Option<
    unsafe extern "C" fn(context: *mut c_void, address: u32, bytes: *const u8, len: u32) -> c_int,
>;

/// Erases the segment of `len` bytes at `address`: all its bytes become 0xFF. Returns 0, or anything else if it is not certain that all were.
pub type sedge_erase =
    Option<unsafe extern "C" fn(context: *mut c_void, address: u32, len: u32) -> c_int>;

/// What makes a log: its flash, its dimensions, its memory. `sedge_log_open` copies it; buffers, `context` and callbacks must live as long as the log is used.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct sedge_config {
    /// Given to each callback; may be NULL.
    pub context: *mut c_void,
    /// Reads the flash.
    pub read: sedge_read,
    /// Programs the flash.
    pub program: sedge_program,
    /// Erases a segment of the flash.
    pub erase: sedge_erase,
    /// Bytes that the flash programs at once: 1, 2, 4, 8, 16 or 32.
    pub write_unit: u32,
    /// Bytes of a segment: whole erase blocks, and at least 4 * (`frame_bytes_max` + 512).
    pub segment_bytes: u32,
    /// Segments of the log, at least 3; all together less than 4 GiB.
    pub segment_count: u32,
    /// Bytes of the largest frame, which is a batch with all that stands around it: 256 to 65,543. A record with key and headers fits if it is about 24 bytes smaller.
    pub frame_bytes_max: u32,
    /// The most records of a batch, 1 to 255. A write that a power cut interrupts leaves so many offsets unused.
    pub batch_records_max: u32,
    /// What happens when all segments are full: a `sedge_when_full`.
    pub when_full: u32,
    /// Where writing goes on after a start: a `sedge_tail`.
    pub tail: u32,
    /// Which start of the device this is, if it counts them; for whoever looks at the flash.
    pub boot: u64,
    /// The name of the log if one must be created: 16 random bytes, drawn anew for each call, that never come twice on any device. Not all 0.
    pub log_id: [u8; 16],
    /// `SEDGE_SCRATCH_BYTES(frame_bytes_max)` bytes that the log works in.
    pub scratch: *mut u8,
    /// How many they are.
    pub scratch_len: usize,
    /// `frame_bytes_max` bytes, in which records wait for the flush.
    pub batch: *mut u8,
    /// How many they are.
    pub batch_len: usize,
}

/// What happens when all segments are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum sedge_when_full {
    /// The oldest records make room for new ones; what was lost is counted, and told to whoever had not got it.
    SEDGE_EVICT_OLDEST = 0,
    /// Nothing is taken until every consumer has released the oldest segment.
    SEDGE_REFUSE = 1,
}

/// Where writing goes on after a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum sedge_tail {
    /// Right behind the last valid frame: for flash that reads the same each time, or reports an error (ECC).
    SEDGE_TAIL_BEHIND = 0,
    /// With some room between, for flash on which a program that was cut may read well now and badly later. The first flush of each start then
    /// costs up to two times `frame_bytes_max`, and `batch_records_max` offsets.
    SEDGE_TAIL_FRESH = 1,
}

/// The flash of one log.
#[derive(Debug)]
pub(crate) struct Flash {
    context: *mut c_void,
    read: unsafe extern "C" fn(*mut c_void, u32, *mut u8, u32) -> c_int,
    program: unsafe extern "C" fn(*mut c_void, u32, *const u8, u32) -> c_int,
    erase: unsafe extern "C" fn(*mut c_void, u32, u32) -> c_int,
    segment_bytes: u32,
    grain: u32,
}

/// A callback did not return 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

impl Flash {
    /// # Safety
    /// The callbacks do what their types say, as long as the flash is used.
    pub(crate) unsafe fn new(config: &sedge_config) -> Result<Self, sedge_error> {
        Ok(Self {
            context: config.context,
            read: config.read.ok_or(SEDGE_ERR_NULL)?,
            program: config.program.ok_or(SEDGE_ERR_NULL)?,
            erase: config.erase.ok_or(SEDGE_ERR_NULL)?,
            segment_bytes: config.segment_bytes,
            grain: config.write_unit,
        })
    }

    fn place(&self, segment: u32, position: u32, len: usize) -> Result<(u32, u32), Failed> {
        let len = u32::try_from(len).map_err(|_| Failed)?;
        let start = segment.checked_mul(self.segment_bytes).ok_or(Failed)?;
        let inside = position
            .checked_add(len)
            .is_some_and(|end| end <= self.segment_bytes);
        let address = start.checked_add(position).filter(|_| inside);
        Ok((address.ok_or(Failed)?, len))
    }
}

impl Media for Flash {
    type Error = Failed;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Failed> {
        let (address, len) = self.place(segment, position, into.len())?;
        // SAFETY: the callback writes `len` bytes at most, by the promise at `new`.
        outcome(unsafe { (self.read)(self.context, address, into.as_mut_ptr(), len) })
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Failed> {
        let (address, len) = self.place(segment, position, bytes.len())?;
        // SAFETY: the callback reads `len` bytes at most, by the promise at `new`.
        outcome(unsafe { (self.program)(self.context, address, bytes.as_ptr(), len) })
    }

    fn erase(&mut self, segment: u32) -> Result<(), Failed> {
        let (address, len) = self.place(segment, 0, self.segment_bytes as usize)?;
        // SAFETY: the callback touches no memory of ours, by the promise at `new`.
        outcome(unsafe { (self.erase)(self.context, address, len) })
    }

    fn sync(&mut self) -> Result<(), Failed> {
        Ok(())
    }

    fn grain(&self) -> u32 {
        self.grain
    }
}

fn outcome(returned: c_int) -> Result<(), Failed> {
    if returned == 0 { Ok(()) } else { Err(Failed) }
}

/// The dimensions that `config` names, if they can be worked with.
pub(crate) fn geometry(config: &sedge_config) -> Result<Geometry, sedge_error> {
    if !(1..=BATCH_RECORDS_MAX).contains(&config.batch_records_max) {
        return Err(SEDGE_ERR_ARGUMENT);
    }
    let all = config.segment_bytes.checked_mul(config.segment_count);
    all.ok_or(SEDGE_ERR_GEOMETRY)?;
    Geometry::new(Dimensions {
        medium: Medium::Nor,
        role: Role::Origin,
        write_unit: config.write_unit,
        segment_bytes: config.segment_bytes,
        segment_count: config.segment_count,
        frame_bytes_max: config.frame_bytes_max,
        commit_offsets_max: config.batch_records_max,
    })
    .map_err(|_| SEDGE_ERR_GEOMETRY)
}

/// What a compact frame can count.
const BATCH_RECORDS_MAX: u32 = u8::MAX as u32;
