//! What the Cortex-M boards share: ticks from SysTick, a console over semihosting, chance from the tick counter, the end of a panic.
//!
//! Only the registers of the core itself are touched here, at the addresses that every ARMv6-M and ARMv7-M has.
#![no_std]

use core::arch::asm;
use core::fmt::{self, Arguments, Write};
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use cortex_m_rt::exception;
use sedge_firmware::{Board, Registers, Uart};

/// A board with a Cortex-M core: the UART is its own, the rest is the core's.
#[derive(Debug)]
pub struct CortexM<R> {
    uart: Uart<R>,
    /// Ticks that were seen last, and how often their number has wrapped.
    ticks: u32,
    wraps: u32,
}

impl<R: Registers> CortexM<R> {
    /// Starts the ticks. `clock_hz` is the frequency of the core's clock.
    pub fn start(uart: R, clock_hz: u32) -> Self {
        write(SYST_RVR, clock_hz / TICKS_PER_SECOND - 1);
        write(SYST_CVR, 0);
        write(SYST_CSR, ENABLE | TICK_INTERRUPT | CORE_CLOCK);
        Self {
            uart: Uart(uart),
            ticks: 0,
            wraps: 0,
        }
    }
}

impl<R: Registers> Board for CortexM<R> {
    type Registers = R;

    fn uart(&mut self) -> &mut Uart<R> {
        &mut self.uart
    }

    fn uptime_us(&mut self) -> u64 {
        let ticks = TICKS.load(Ordering::Relaxed);
        self.wraps += u32::from(ticks < self.ticks);
        self.ticks = ticks;
        (u64::from(self.wraps) << 32 | u64::from(ticks)) * (1_000_000 / u64::from(TICKS_PER_SECOND))
    }

    fn rest(&mut self) {
        // SAFETY: waits for an interrupt; the tick is one.
        unsafe { asm!("wfi", options(nomem, nostack, preserves_flags)) };
    }

    /// These boards have no random number generator. How far the tick counter has come after each sleep depends on the world outside; 64 sleeps are stirred.
    fn draw(&mut self) -> [u8; 16] {
        let mut pot = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
        for _ in 0..64 {
            self.rest();
            pot = (pot ^ u128::from(read(SYST_CVR)))
                .wrapping_mul(FNV_PRIME)
                .rotate_left(29);
        }
        pot.to_le_bytes()
    }

    fn print(&mut self, line: Arguments<'_>) {
        print(line);
    }
}

/// One line for whoever watches, by semihosting.
pub fn print(line: Arguments<'_>) {
    let mut console = Console::new();
    // The console takes everything.
    _ = console.write_fmt(line);
    _ = console.write_str("\n");
    console.flush();
}

/// Gathers a line, because each call of the host takes long.
struct Console {
    bytes: [u8; 96],
    len: usize,
}

impl Console {
    const fn new() -> Self {
        Self {
            bytes: [0; 96],
            len: 0,
        }
    }

    /// The text must end with a zero byte for the host, so one byte of the buffer stays free.
    fn flush(&mut self) {
        self.bytes[self.len] = 0;
        let text = self.bytes.as_ptr();
        // SAFETY: operation SYS_WRITE0 reads memory up to the zero byte that was just written.
        unsafe {
            asm!("bkpt 0xAB", inout("r0") SYS_WRITE0 => _, in("r1") text, options(nostack));
        }
        self.len = 0;
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.len == self.bytes.len() - 1 {
                self.flush();
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

#[exception]
fn SysTick() {
    // The only writer; a load and a store are enough, and all that an M0 has.
    TICKS.store(
        TICKS.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Relaxed,
    );
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    print(format_args!("{info}"));
    loop {
        core::hint::spin_loop();
    }
}

fn read(register: usize) -> u32 {
    // SAFETY: a register of the core that may always be read.
    unsafe { (register as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: a register of SysTick, which nobody else uses.
    unsafe { (register as *mut u32).write_volatile(value) }
}

static TICKS: AtomicU32 = AtomicU32::new(0);
const TICKS_PER_SECOND: u32 = 1000;
const SYST_CSR: usize = 0xE000_E010;
const SYST_RVR: usize = 0xE000_E014;
const SYST_CVR: usize = 0xE000_E018;
const ENABLE: u32 = 1;
const TICK_INTERRUPT: u32 = 1 << 1;
const CORE_CLOCK: u32 = 1 << 2;
const SYS_WRITE0: usize = 4;
/// Of the 128-bit FNV hash.
const FNV_PRIME: u128 = (1 << 88) | 0x13B;
