//! A firmware's calls into the core and nothing else: `cargo xtask firmware-report` weighs what they link, and runs them to see how deep the stack goes.
//!
//! The flash is three functions that somebody else brings. All state and all buffers are given by the caller, so that what is left on the stack is the core's own.
#![no_std]

use core::slice;

use sedge_core::custody::message::{Offer, kind};
use sedge_core::custody::{
    Below, Framing, Now, Run, Sender, SenderEvent, SenderSettings, SenderSlot, Sent,
};
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::framing::link::{self, Decoder};
use sedge_core::log::{Fresh, Log, Options, WhenFull};
use sedge_core::media::Media;
use sedge_core::read::{Read, Reader};
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
use sedge_core::{LogId, Micros, Offset};

unsafe extern "C" {
    /// Fills `len` bytes at `into`; 0 if that went well.
    fn flash_read(segment: u32, position: u32, into: *mut u8, len: usize) -> i32;
    /// Programs `len` bytes; 0 if that went well.
    fn flash_program(segment: u32, position: u32, bytes: *const u8, len: usize) -> i32;
    /// Erases a segment; 0 if that went well.
    fn flash_erase(segment: u32) -> i32;
}

/// The flash, by those functions.
#[derive(Debug)]
pub struct Flash;

impl Flash {
    fn done(code: i32) -> Result<(), i32> {
        if code == 0 { Ok(()) } else { Err(code) }
    }
}

impl Media for Flash {
    type Error = i32;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), i32> {
        // SAFETY: the memory is borrowed for the call.
        Self::done(unsafe { flash_read(segment, position, into.as_mut_ptr(), into.len()) })
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), i32> {
        // SAFETY: as above.
        Self::done(unsafe { flash_program(segment, position, bytes.as_ptr(), bytes.len()) })
    }

    fn erase(&mut self, segment: u32) -> Result<(), i32> {
        // SAFETY: no memory is passed.
        Self::done(unsafe { flash_erase(segment) })
    }

    fn sync(&mut self) -> Result<(), i32> {
        Ok(())
    }

    fn grain(&self) -> u32 {
        WRITE_UNIT
    }
}

/// A log with its buffer.
pub type ProbeLog = Log<Flash, &'static mut [u8; SCRATCH_BYTES]>;
/// The sending end of the link.
pub type ProbeSender = Sender<[SenderSlot; 1], &'static str>;
/// The hearing end of the link.
pub type ProbeDecoder = Decoder<[u8; HEAR_BYTES]>;

/// Opens the log; 0 if that went well.
#[unsafe(no_mangle)]
pub extern "C" fn log_boot(
    log: &mut Option<ProbeLog>,
    scratch: &'static mut [u8; SCRATCH_BYTES],
    segment_count: u32,
    now: i64,
    boot: u64,
) -> i32 {
    let Ok(geometry) = Geometry::new(Dimensions {
        medium: Medium::Nor,
        role: Role::Origin,
        write_unit: WRITE_UNIT,
        segment_bytes: SEGMENT_BYTES,
        segment_count,
        frame_bytes_max: FRAME_BYTES as u32,
        commit_offsets_max: 255,
    }) else {
        return -1;
    };
    let fresh = Fresh {
        log_id: LogId::new(*b"16 random bytes!"),
        now: Micros::new(now),
        boot,
    };
    let options = Options::new(geometry, WhenFull::EvictOldest);
    match Log::open(Flash, options, fresh, scratch) {
        Ok((opened, _)) => {
            *log = Some(opened);
            0
        }
        Err(_) => -2,
    }
}

/// Appends one record; 0 if it survives a power cut.
#[unsafe(no_mangle)]
pub extern "C" fn log_append(
    log: &mut ProbeLog,
    value: &[u8; 24],
    buffers: &mut [[u8; FRAME_BYTES]; 2],
    now: i64,
) -> i32 {
    let [entry, buffer] = buffers;
    let now = Micros::new(now);
    let last = log.last_time();
    let ms_later = now.get().saturating_sub(last.get()) / 1000;
    let record = Record {
        time: (now.is_known() && last.is_known()).then_some(ms_later),
        key: Some(b"key4"),
        headers: Headers::NONE,
        value,
    };
    let label = Label {
        form: Form::Compact,
        first: log.next(),
        time: now,
        first_of_commit: true,
    };
    let len = Entry::Record(record).encode(entry).unwrap_or(0);
    let entries = entry.get(..len).unwrap_or_default();
    let Some(len) = frame::emit_data(buffer, &log.log_id(), label, 1, &[], entries) else {
        return -1;
    };
    match log.commit(buffer.get(..len).unwrap_or_default(), 1, &[], now) {
        Ok(_) => 0,
        Err(_) => -2,
    }
}

/// Makes room; 0 if a segment is ready.
#[unsafe(no_mangle)]
pub extern "C" fn log_maintain(log: &mut ProbeLog, now: i64) -> i32 {
    log.maintain(Micros::new(now)).map_or(-1, |_| 0)
}

/// Whether it is time for that.
#[unsafe(no_mangle)]
pub extern "C" fn log_needs_maintain(log: &ProbeLog) -> bool {
    log.needs_maintain()
}

/// A reader from `from` on.
#[unsafe(no_mangle)]
pub extern "C" fn log_reader(log: &ProbeLog, reader: &mut Option<Reader>, from: u64) {
    *reader = Some(Reader::new(
        log.log_id(),
        *log.geometry(),
        Offset::new(from),
    ));
}

/// Reads on: 1 for a frame, whose values are summed, 2 for a gap, 0 at the end.
#[unsafe(no_mangle)]
pub extern "C" fn log_read(log: &mut ProbeLog, reader: &mut Reader, sum: &mut u32) -> i32 {
    match log.read(reader) {
        Read::Frame { frame, .. } => {
            for (_, entry) in frame.entries() {
                if let Entry::Record(record) = entry {
                    *sum += record
                        .value
                        .iter()
                        .map(|&byte| u32::from(byte))
                        .sum::<u32>();
                }
            }
            1
        }
        Read::CaughtUp => 0,
        _ => 2,
    }
}

/// Moves the cursor of the uplink; 0 if it has one.
#[unsafe(no_mangle)]
pub extern "C" fn log_release(log: &mut ProbeLog, next: u64) -> i32 {
    log.set_cursor(1, Offset::new(next)).map_or(-1, |()| 0)
}

/// Begins the conversation.
#[unsafe(no_mangle)]
pub extern "C" fn link_init(sender: &mut Option<ProbeSender>, uptime_us: u64) {
    let settings = SenderSettings {
        identity: "probe",
        boot: 1,
        generation: 1 << 32,
        framing: Framing::Link,
        body_bytes_max: BODY_BYTES,
        idle_timeout_us: 30_000_000,
    };
    let mut begun = Sender::new(settings, [SenderSlot::default()], at(uptime_us));
    begun.offer(0);
    *sender = Some(begun);
}

/// Takes one byte of the line.
#[unsafe(no_mangle)]
pub extern "C" fn link_rx(
    sender: &mut ProbeSender,
    decoder: &mut ProbeDecoder,
    byte: u8,
    uptime_us: u64,
) {
    if let Some(packet) = decoder.push(byte) {
        sender.handle_message(at(uptime_us), packet.kind, packet.body);
    }
}

/// What the conversation has come to: 1 welcomed, 2 checked, 3 released up to `next`, 4 diverged, 5 something else, 0 nothing.
#[unsafe(no_mangle)]
pub extern "C" fn link_event(sender: &mut ProbeSender, next: &mut u64) -> i32 {
    match sender.poll_event() {
        None => 0,
        Some(SenderEvent::Welcomed { .. }) => 1,
        Some(SenderEvent::Check { slot, .. }) => {
            sender.checked(slot, Below::Unknown);
            2
        }
        Some(SenderEvent::Released { next: released, .. }) => {
            *next = released.get();
            3
        }
        Some(SenderEvent::Diverged { .. }) => 4,
        Some(_) => 5,
    }
}

/// Writes the next message for the line; how many bytes it takes.
#[unsafe(no_mangle)]
pub extern "C" fn link_tx(
    sender: &mut ProbeSender,
    ends: &[u64; 2],
    buffers: &mut Line,
    uptime_us: u64,
) -> usize {
    let Line { body, line } = buffers;
    let offer = |slot| {
        Some(Offer {
            slot,
            log: LogId::new(*b"16 random bytes!"),
            stream: "",
            partition: 0,
            oldest: Offset::new(ends[0]),
            next: Offset::new(ends[1]),
            tail_crc: None,
            closed: false,
            chain: 0,
        })
    };
    sender.handle_timeout(at(uptime_us));
    let said = sender.poll_transmit(at(uptime_us), offer, body);
    said.and_then(|said| link::encode(said.kind, &[body.get(..said.len)?], line))
        .unwrap_or(0)
}

/// Writes `frames` for the line, if they may be sent now; how many bytes that takes.
///
/// # Safety
/// `frames` are `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn link_data(
    sender: &mut ProbeSender,
    frames: *const u8,
    len: usize,
    ends: &[u64; 2],
    buffers: &mut Line,
) -> usize {
    // SAFETY: the caller promises it.
    let frames = unsafe { slice::from_raw_parts(frames, len) };
    let Some(want) = sender.want() else {
        return 0;
    };
    let run = Run {
        first: Offset::new(ends[0]),
        next: Offset::new(ends[1]),
        base_time: Micros::UNKNOWN,
        next_base_time: Micros::UNKNOWN,
        len,
    };
    match sender.data(at(0), &want, run) {
        Sent::Data { head, head_len } => {
            let head = head.get(..head_len).unwrap_or_default();
            link::encode(kind::DATA, &[head, frames], &mut buffers.line).unwrap_or(0)
        }
        Sent::NotNow => 0,
    }
}

/// When the link must be asked again, in µs since the start.
#[unsafe(no_mangle)]
pub extern "C" fn link_deadline(sender: &ProbeSender) -> u64 {
    sender.next_timeout().unwrap_or(u64::MAX)
}

/// What the caller lends for sending.
#[derive(Debug)]
pub struct Line {
    /// A message.
    pub body: [u8; BODY_BYTES],
    /// Its bytes on the line.
    pub line: [u8; link::encoded_len_max(BODY_BYTES)],
}

fn at(uptime_us: u64) -> Now {
    Now {
        uptime_us,
        unix_us: None,
        trusted: false,
    }
}

#[cfg(feature = "alone")]
#[panic_handler]
fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Bytes of the write unit.
pub const WRITE_UNIT: u32 = 4;
/// Bytes of a segment.
pub const SEGMENT_BYTES: u32 = 4096;
/// Bytes of the largest frame.
pub const FRAME_BYTES: usize = 256;
/// Bytes of the log's buffer.
pub const SCRATCH_BYTES: usize = FRAME_BYTES + 512;
/// Bytes of the longest message.
pub const BODY_BYTES: usize = FRAME_BYTES + 32;
/// Bytes of the longest message that is heard.
pub const HEAR_BYTES: usize = 384;
