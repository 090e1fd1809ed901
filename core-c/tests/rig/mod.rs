//! A device on the C API: a flash that can fail, and all the memory that a C program would have as statics.

use std::ffi::{c_int, c_void};
use std::ptr;

use sedge_core_c::*;

/// A flash with the rules of a strict part, and troubles to come.
#[derive(Debug)]
pub(crate) struct Flash {
    pub(crate) bytes: Vec<u8>,
    programmed: Vec<bool>,
    /// What becomes of the next program.
    pub(crate) next_program: Trouble,
    pub(crate) programs: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    None,
    /// It fails before it has touched anything.
    Untouched,
    /// It fails when half of the bytes are written.
    Half,
    /// All is written, and it says that it failed.
    Whole,
}

unsafe extern "C" fn read(context: *mut c_void, address: u32, into: *mut u8, len: u32) -> c_int {
    // SAFETY: the rig's flash, and a buffer of the log.
    let (flash, into) = unsafe {
        (
            &*context.cast::<Flash>(),
            std::slice::from_raw_parts_mut(into, len as usize),
        )
    };
    into.copy_from_slice(&flash.bytes[address as usize..][..len as usize]);
    0
}

unsafe extern "C" fn program(
    context: *mut c_void,
    address: u32,
    bytes: *const u8,
    len: u32,
) -> c_int {
    // SAFETY: as in `read`.
    let (flash, bytes) = unsafe {
        (
            &mut *context.cast::<Flash>(),
            std::slice::from_raw_parts(bytes, len as usize),
        )
    };
    let trouble = std::mem::replace(&mut flash.next_program, Trouble::None);
    let written = match trouble {
        Trouble::None | Trouble::Whole => bytes.len(),
        Trouble::Untouched => 0,
        Trouble::Half => bytes.len() / 2 / UNIT * UNIT,
    };
    assert!((address as usize).is_multiple_of(UNIT) && bytes.len().is_multiple_of(UNIT));
    for at in (0..written).step_by(UNIT) {
        let unit = (address as usize + at) / UNIT;
        let before = std::mem::replace(&mut flash.programmed[unit], true);
        assert!(!before, "unit {unit} is programmed twice");
    }
    flash.bytes[address as usize..][..written].copy_from_slice(&bytes[..written]);
    flash.programs += 1;
    c_int::from(trouble != Trouble::None)
}

unsafe extern "C" fn erase(context: *mut c_void, address: u32, len: u32) -> c_int {
    // SAFETY: the rig's flash.
    let flash = unsafe { &mut *context.cast::<Flash>() };
    let (from, to) = (address as usize, (address + len) as usize);
    flash.bytes[from..to].fill(0xFF);
    flash.programmed[from / UNIT..to / UNIT].fill(false);
    0
}

/// A device with its log; a link when [`Device::open_link`] was called. Boxed: states and buffers stay in their place.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) flash: Box<Flash>,
    pub(crate) log: Box<sedge_log>,
    pub(crate) link: Box<sedge_link>,
    pub(crate) config: sedge_config,
    buffers: Vec<Box<[u8]>>,
}

impl Device {
    /// A device whose flash was never used; its log is not open yet.
    pub(crate) fn new() -> Self {
        let mut flash = Box::new(Flash {
            bytes: vec![0xFF; SEGMENTS * SEGMENT],
            programmed: vec![false; SEGMENTS * SEGMENT / UNIT],
            next_program: Trouble::None,
            programs: 0,
        });
        let mut buffers: Vec<Box<[u8]>> = vec![vec![0; FRAME + 512].into(), vec![0; FRAME].into()];
        let config = sedge_config {
            context: (&raw mut *flash).cast(),
            read: Some(read),
            program: Some(program),
            erase: Some(erase),
            write_unit: UNIT as u32,
            segment_bytes: SEGMENT as u32,
            segment_count: SEGMENTS as u32,
            frame_bytes_max: FRAME as u32,
            batch_records_max: BATCH,
            when_full: sedge_when_full::SEDGE_EVICT_OLDEST as u32,
            tail: sedge_tail::SEDGE_TAIL_BEHIND as u32,
            boot: 1,
            log_id: *b"16 random bytes!",
            scratch: buffers[0].as_mut_ptr(),
            scratch_len: buffers[0].len(),
            batch: buffers[1].as_mut_ptr(),
            batch_len: buffers[1].len(),
        };
        Self {
            flash,
            // SAFETY: all zeros are a state that was not opened.
            log: unsafe { Box::new(std::mem::zeroed()) },
            // SAFETY: as above.
            link: unsafe { Box::new(std::mem::zeroed()) },
            config,
            buffers,
        }
    }

    /// A device with an open log.
    pub(crate) fn started() -> Self {
        let mut device = Self::new();
        assert_eq!(device.open(), OK);
        device
    }

    pub(crate) fn open(&mut self) -> c_int {
        // SAFETY: memory of the rig.
        unsafe { sedge_log_open(&mut *self.log, &self.config, NOW, ptr::null_mut()) }
    }

    /// What a power cut leaves.
    pub(crate) fn power_cut(&mut self) {
        // SAFETY: all zeros are a state that was not opened.
        *self.log = unsafe { std::mem::zeroed() };
        self.buffers[..2]
            .iter_mut()
            .for_each(|buffer| buffer.fill(0));
        assert_eq!(self.open(), OK);
    }

    pub(crate) fn append(&mut self, value: &[u8]) -> c_int {
        let record = sedge_record {
            time_us: NOW,
            key: bytes(b""),
            value: bytes(value),
            headers: ptr::null(),
            header_count: 0,
        };
        // SAFETY: memory of the rig.
        unsafe { sedge_log_append(&mut *self.log, &record, ptr::null_mut()) }
    }

    pub(crate) fn flush(&mut self) -> c_int {
        // SAFETY: memory of the rig.
        unsafe { sedge_log_flush(&mut *self.log, NOW, ptr::null_mut()) }
    }

    pub(crate) fn maintain(&mut self) -> c_int {
        // SAFETY: memory of the rig.
        unsafe { sedge_log_maintain(&mut *self.log, NOW) }
    }

    /// Appends and flushes, with the maintenance that it needs.
    pub(crate) fn keep(&mut self, value: &[u8]) {
        assert_eq!(self.append(value), OK);
        let flushed = self.flush();
        if flushed == sedge_error::SEDGE_ERR_NEEDS_MAINTAIN as c_int {
            assert_eq!(self.maintain(), OK);
            assert_eq!(self.flush(), OK);
        } else {
            assert_eq!(flushed, OK);
        }
    }

    pub(crate) fn range(&mut self) -> sedge_range {
        let mut range = sedge_range::default();
        // SAFETY: memory of the rig.
        let outcome = unsafe { sedge_log_range(&mut *self.log, &mut range) };
        assert_eq!(outcome, OK);
        range
    }

    /// Everything from `from` on: offset and value of records, a gap as its range and what was lost.
    pub(crate) fn read(&mut self, from: u64) -> Vec<Seen> {
        // SAFETY: plain numbers and pointers, and states of the rig.
        let (mut cursor, mut item) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        // SAFETY: memory of the rig.
        let opened = unsafe { sedge_cursor_open(&mut cursor, &mut *self.log, from) };
        assert_eq!(opened, OK);
        let mut seen = Vec::new();
        // SAFETY: memory of the rig.
        while unsafe { sedge_cursor_next(&mut cursor, &mut *self.log, &mut item) } == 1 {
            seen.push(Seen::of(&item));
        }
        seen
    }

    /// The values of all records.
    pub(crate) fn values(&mut self) -> Vec<String> {
        let seen = self.read(0).into_iter();
        seen.filter_map(|seen| match seen {
            Seen::Record(_, value) => Some(value),
            Seen::Gap { .. } => None,
        })
        .collect()
    }

    pub(crate) fn open_link(&mut self) {
        let (body, heard) = (
            vec![0; FRAME + 23].into(),
            vec![0; SEDGE_HEARD_BYTES].into(),
        );
        self.buffers.truncate(2);
        self.buffers.extend::<[Box<[u8]>; 2]>([body, heard]);
        let config = sedge_link_config {
            identity: bytes(b"device-in-c"),
            boot: 1,
            consumer: GATEWAY,
            idle_timeout_us: 0,
            body: self.buffers[2].as_mut_ptr(),
            body_len: self.buffers[2].len(),
            heard: self.buffers[3].as_mut_ptr(),
            heard_len: self.buffers[3].len(),
        };
        // SAFETY: memory of the rig.
        let opened = unsafe { sedge_link_open(&mut *self.link, &mut *self.log, &config, &at(0)) };
        assert_eq!(opened, OK);
    }

    /// All that the device has to say at this uptime.
    pub(crate) fn say(&mut self, uptime_us: u64) -> Vec<u8> {
        let mut said = Vec::new();
        loop {
            let mut line = [0; FRAME + 40];
            let (to, len) = (line.as_mut_ptr(), line.len());
            // SAFETY: memory of the rig.
            let len =
                unsafe { sedge_link_tx(&mut *self.link, &mut *self.log, &at(uptime_us), to, len) };
            assert!(len >= 0, "{len}");
            if len == 0 {
                return said;
            }
            said.extend_from_slice(&line[..len as usize]);
        }
    }

    pub(crate) fn hear(&mut self, uptime_us: u64, line: &[u8]) {
        let (from, len) = (line.as_ptr(), line.len());
        // SAFETY: memory of the rig.
        let heard =
            unsafe { sedge_link_rx(&mut *self.link, &mut *self.log, &at(uptime_us), from, len) };
        assert_eq!(heard, OK);
    }

    pub(crate) fn link(&mut self) -> sedge_link_report {
        let mut report = sedge_link_report::default();
        // SAFETY: memory of the rig.
        let outcome = unsafe { sedge_link_state(&mut *self.link, &mut report) };
        assert_eq!(outcome, OK);
        report
    }
}

/// What a cursor showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Record(u64, String),
    Gap { from: u64, to: u64, lost: u64 },
}

impl Seen {
    fn of(item: &sedge_item) -> Self {
        if item.kind != sedge_item_kind::SEDGE_ITEM_RECORD as u32 {
            return Self::Gap {
                from: item.offset,
                to: item.next,
                lost: item.lost,
            };
        }
        // SAFETY: the log was not used since the item was told.
        let value = unsafe { std::slice::from_raw_parts(item.value.start, item.value.len) };
        Self::Record(item.offset, String::from_utf8_lossy(value).into_owned())
    }
}

pub(crate) fn bytes(of: &[u8]) -> sedge_bytes {
    sedge_bytes {
        start: of.as_ptr(),
        len: of.len(),
    }
}

fn at(uptime_us: u64) -> sedge_now {
    sedge_now {
        uptime_us,
        unix_us: SEDGE_TIME_UNKNOWN,
    }
}

pub(crate) const OK: c_int = 0;
pub(crate) const GATEWAY: u32 = 1;
pub(crate) const BATCH: u32 = 4;
pub(crate) const FRAME: usize = 256;
const NOW: i64 = 1_763_633_000_000_000;
const UNIT: usize = 4;
const SEGMENT: usize = 4096;
const SEGMENTS: usize = 4;
