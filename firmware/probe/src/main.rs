//! Runs each call on a painted stack, and says how deep it went: QEMU's `lm3s6965evb`, with the flash in its memory.
//!
//! The log lives three laps, with an append that is cut short and a new boot every 40 records; the link says Hello, is welcomed, sends and is acknowledged.
#![no_std]
#![no_main]

use core::arch::asm;
use core::ptr::addr_of_mut;

use cortex_m_rt::entry;
use probe::{
    FRAME_BYTES, HEAR_BYTES, Line, ProbeDecoder, ProbeLog, ProbeSender, SCRATCH_BYTES,
    SEGMENT_BYTES, link_data, link_deadline, link_event, link_init, link_rx, link_tx, log_append,
    log_boot, log_maintain, log_needs_maintain, log_read, log_reader, log_release,
};
use sedge_core::Offset;
use sedge_core::custody::message::{
    Ack, Answer, Clock, Message, Terms, Verdict, emit_welcome, kind,
};
use sedge_core::framing::link::{self, Decoder};
use sedge_core::read::Reader;
use sedge_firmware_cortex_m::print;

#[entry]
fn main() -> ! {
    let mut depths = Depths::default();
    log_lives(&mut depths);
    link_talks(&mut depths);
    print(format_args!(
        "stack boot {} append {} maintain {} read {} release {} rx {} tx {} data {}",
        depths.boot,
        depths.append,
        depths.maintain,
        depths.read,
        depths.release,
        depths.rx,
        depths.tx,
        depths.data
    ));
    print(format_args!("done"));
    loop {
        core::hint::spin_loop();
    }
}

/// The deepest that each call went, in bytes.
#[derive(Default)]
struct Depths {
    boot: u32,
    append: u32,
    maintain: u32,
    read: u32,
    release: u32,
    rx: u32,
    tx: u32,
    data: u32,
}

fn log_lives(depths: &mut Depths) {
    // SAFETY: borrowed once, here.
    let memory = unsafe { &mut *addr_of_mut!(MEMORY) };
    let mut now = 1_763_633_000_000_000;
    let mut released = 0;
    for life in 0..12_u64 {
        let scratch = addr_of_mut!(memory.scratch);
        // SAFETY: the log of the life before is gone.
        let scratch = unsafe { &mut *scratch };
        let mut code = 0;
        let log = &mut memory.log;
        *log = None;
        painted(&mut depths.boot, || {
            code = log_boot(log, scratch, SEGMENTS as u32, now, life);
        });
        let Some(log) = log.as_mut().filter(|_| code == 0) else {
            return print(format_args!("broken: boot says {code}"));
        };
        for number in 0..40_u8 {
            now += 1_000_000;
            if log_needs_maintain(log) {
                painted(&mut depths.maintain, || code = log_maintain(log, now));
                if code != 0 {
                    return print(format_args!("broken: maintain says {code}"));
                }
            }
            let value = [number; 24];
            painted(&mut depths.append, || {
                code = log_append(log, &value, &mut memory.buffers, now);
            });
            if code != 0 {
                return print(format_args!("broken: append says {code}"));
            }
        }
        log_reader(log, &mut memory.reader, 0);
        let Some(reader) = &mut memory.reader else {
            return;
        };
        let mut found = 1;
        while found != 0 {
            painted(&mut depths.read, || {
                found = log_read(log, reader, &mut memory.sum)
            });
        }
        released += 30;
        painted(&mut depths.release, || {
            log_release(log, released);
        });
        // SAFETY: one core, no interrupts.
        unsafe { CUT = true };
        log_append(log, &[0xAA; 24], &mut memory.buffers, now);
        // SAFETY: as above.
        unsafe { CUT = false };
    }
}

fn link_talks(depths: &mut Depths) {
    // SAFETY: borrowed once, here.
    let memory = unsafe { &mut *addr_of_mut!(LINK) };
    let ends = [0, 100];
    link_init(&mut memory.sender, 0);
    let Some(sender) = &mut memory.sender else {
        return;
    };
    let mut len = 0;
    painted(&mut depths.tx, || {
        len = link_tx(sender, &ends, &mut memory.line, 0)
    });
    if len == 0 {
        return print(format_args!("broken: no Hello"));
    }
    let verdict = Verdict::Resume {
        next: Offset::ZERO,
        crc_below: None,
    };
    let terms = Terms {
        chosen: 1,
        features: 0,
        generation: 1 << 32,
        clock: Clock::default(),
        credit: 65_536,
    };
    let mut body = [0; 128];
    let answers = [Answer { slot: 0, verdict }];
    let Some((len, _)) = emit_welcome(&terms, answers.into_iter(), &mut body) else {
        return;
    };
    hear(depths, kind::WELCOME, &body[..len], 1000);
    let data = [0x55; 200];
    painted(&mut depths.data, || {
        // SAFETY: these are the array's bytes.
        len_of(unsafe { link_data(sender, data.as_ptr(), data.len(), &[0, 8], &mut memory.line) });
    });
    let ack = Message::Ack(Ack {
        slot: 0,
        next: Offset::new(8),
        credit: 65_536,
        ended: false,
    });
    let Some(len) = ack.emit(&mut body) else {
        return;
    };
    hear(depths, kind::ACK, &body[..len], 2000);
    let mut released = 0;
    while link_event(sender, &mut released) != 0 {}
    if released != 8 {
        print(format_args!("broken: released up to {released}"));
    }
    painted(&mut depths.tx, || {
        link_tx(sender, &ends, &mut memory.line, link_deadline(sender));
    });
}

fn len_of(len: usize) {
    if len == 0 {
        print(format_args!("broken: no Data"));
    }
}

/// Feeds a message to the sender, byte by byte.
fn hear(depths: &mut Depths, kind: u8, body: &[u8], uptime_us: u64) {
    // SAFETY: these two are borrowed nowhere else while this runs.
    let (sender, decoder) = unsafe {
        (
            &mut *addr_of_mut!(LINK.sender),
            &mut *addr_of_mut!(LINK.decoder),
        )
    };
    let mut line = [0; 160];
    let len = link::encode(kind, &[body], &mut line).unwrap_or(0);
    let Some(sender) = sender else {
        return;
    };
    for &byte in &line[..len] {
        painted(&mut depths.rx, || link_rx(sender, decoder, byte, uptime_us));
    }
}

/// Runs `work` on a stack of known bytes, and takes note of how deep it went.
#[inline(never)]
fn painted(depth: &mut u32, work: impl FnOnce()) {
    let top: u32;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) top, options(nomem, nostack, preserves_flags)) };
    let bottom = top - PAINTED_BYTES;
    let mut at = bottom;
    // What lies below the stack pointer belongs to nobody; this loop itself calls nothing.
    while at < top - MARGIN_BYTES {
        // SAFETY: RAM that nothing lives in.
        unsafe { (at as *mut u32).write_volatile(PAINT) };
        at += 4;
    }
    work();
    let mut at = bottom;
    // SAFETY: as above.
    while at < top && unsafe { (at as *const u32).read_volatile() } == PAINT {
        at += 4;
    }
    *depth = (*depth).max(top - at);
}

#[unsafe(no_mangle)]
extern "C" fn flash_read(segment: u32, position: u32, into: *mut u8, len: usize) -> i32 {
    let Some(from) = cells(segment, position, len) else {
        return -1;
    };
    // SAFETY: both are `len` bytes, and the flash is no buffer.
    unsafe { into.copy_from_nonoverlapping(from, len) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn flash_program(segment: u32, position: u32, bytes: *const u8, len: usize) -> i32 {
    // SAFETY: one core, no interrupts.
    let cut = unsafe { CUT };
    let whole = if cut { len / 8 * 4 } else { len };
    let Some(to) = cells(segment, position, len) else {
        return -1;
    };
    // SAFETY: both are at least `whole` bytes.
    unsafe { to.copy_from_nonoverlapping(bytes, whole) };
    -i32::from(cut)
}

#[unsafe(no_mangle)]
extern "C" fn flash_erase(segment: u32) -> i32 {
    let Some(to) = cells(segment, 0, SEGMENT_BYTES as usize) else {
        return -1;
    };
    // SAFETY: a whole segment of the flash.
    unsafe { to.write_bytes(0xFF, SEGMENT_BYTES as usize) };
    0
}

/// Where `len` bytes of the flash are; `None` outside of it.
fn cells(segment: u32, position: u32, len: usize) -> Option<*mut u8> {
    let at = (segment * SEGMENT_BYTES + position) as usize;
    // SAFETY: within the array.
    (at + len <= FLASH_BYTES).then(|| unsafe { addr_of_mut!(CELLS).cast::<u8>().add(at) })
}

/// What the log works with.
struct Memory {
    log: Option<ProbeLog>,
    reader: Option<Reader>,
    scratch: [u8; SCRATCH_BYTES],
    buffers: [[u8; FRAME_BYTES]; 2],
    sum: u32,
}

/// What the link works with.
struct LinkMemory {
    sender: Option<ProbeSender>,
    decoder: ProbeDecoder,
    line: Line,
}

static mut MEMORY: Memory = Memory {
    log: None,
    reader: None,
    scratch: [0; SCRATCH_BYTES],
    buffers: [[0; FRAME_BYTES]; 2],
    sum: 0,
};
static mut LINK: LinkMemory = LinkMemory {
    sender: None,
    decoder: Decoder::new([0; HEAR_BYTES]),
    line: Line {
        body: [0; probe::BODY_BYTES],
        line: [0; link::encoded_len_max(probe::BODY_BYTES)],
    },
};
static mut CELLS: [u8; FLASH_BYTES] = [0xFF; FLASH_BYTES];
/// The next program is cut short.
static mut CUT: bool = false;
const SEGMENTS: usize = 4;
const FLASH_BYTES: usize = SEGMENTS * SEGMENT_BYTES as usize;
const PAINT: u32 = 0xA5A5_5A5A;
const PAINTED_BYTES: u32 = 12 << 10;
/// Not painted, because the painter itself may use it.
const MARGIN_BYTES: u32 = 16;
