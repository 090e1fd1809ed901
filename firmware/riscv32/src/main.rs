//! The sensor node on RISC-V: QEMU's `virt`, its one UART to the gateway, the console by semihosting.
#![no_std]
#![no_main]

mod console;

use core::arch::{asm, global_asm};
use core::fmt::Arguments;
use core::panic::PanicInfo;
use core::ptr::addr_of_mut;

use console::print;
use sedge_firmware::chip::Cells;
use sedge_firmware::device::{self, Settings};
use sedge_firmware::{Board, Registers, Uart};

// The processor begins here: a stack, memory that is zero, then Rust. A hart other than the first is not started by this machine.
global_asm!(
    ".section .text.start, \"ax\"",
    ".global _start",
    "_start:",
    "    la sp, _stack",
    "    la t0, _bss_start",
    "    la t1, _bss_end",
    "1:  bgeu t0, t1, 2f",
    "    sw zero, 0(t0)",
    "    addi t0, t0, 4",
    "    j 1b",
    "2:  la t0, trapped",
    "    csrw mtvec, t0",
    "    j begin",
    ".balign 4",
    "trapped:",
    "    la sp, _stack",
    "    j caught",
);

#[unsafe(no_mangle)]
extern "C" fn begin() -> ! {
    let mut board = Virt::start();
    // SAFETY: the linker gives this memory to nobody else, this is run once a start, and any bytes are cells.
    let cells = unsafe { &mut *addr_of_mut!(_chip) };
    let Err(broken) = device::run(&mut board, cells.power_on(), &SETTINGS);
    print(format_args!("broken: {broken:?}"));
    loop {
        core::hint::spin_loop();
    }
}

/// The processor met what it cannot do.
#[unsafe(no_mangle)]
extern "C" fn caught() -> ! {
    panic!("a trap");
}

/// The board: time and sleep from its timer.
struct Virt {
    uart: Uart<Ns16550>,
}

impl Virt {
    fn start() -> Self {
        // SAFETY: lets a pending timer end a sleep; interrupts as such stay off.
        unsafe { asm!("csrw mie, {}", in(reg) TIMER_INTERRUPT, options(nomem, nostack)) };
        Self {
            uart: Uart(Ns16550::start()),
        }
    }

    fn ticks() -> u64 {
        loop {
            let (before, low, after) = (read(MTIME + 4), read(MTIME), read(MTIME + 4));
            if before == after {
                return u64::from(before) << 32 | u64::from(low);
            }
        }
    }
}

impl Board for Virt {
    type Registers = Ns16550;

    fn uart(&mut self) -> &mut Uart<Ns16550> {
        &mut self.uart
    }

    fn uptime_us(&mut self) -> u64 {
        Self::ticks() / TICKS_PER_US
    }

    fn rest(&mut self) {
        let until = Self::ticks() + 1000 * TICKS_PER_US;
        write(MTIMECMP + 4, u32::MAX); // no moment in between may be in the past
        write(MTIMECMP, until as u32);
        write(MTIMECMP + 4, (until >> 32) as u32);
        // SAFETY: waits for the timer.
        unsafe { asm!("wfi", options(nomem, nostack)) };
    }

    /// How late each sleep ends depends on the world outside, and the machine has a clock of nanoseconds; both are stirred.
    fn draw(&mut self) -> [u8; 16] {
        let mut pot = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
        for _ in 0..64 {
            self.rest();
            let seen = u64::from(read(CLOCK_NS)) << 32 ^ Self::ticks();
            pot = (pot ^ u128::from(seen))
                .wrapping_mul(FNV_PRIME)
                .rotate_left(29);
        }
        pot.to_le_bytes()
    }

    fn print(&mut self, line: Arguments<'_>) {
        print(line);
    }
}

/// The UART: an NS16550A with its queues.
struct Ns16550;

impl Ns16550 {
    fn start() -> Self {
        write_byte(UART_FIFO_CONTROL, 1);
        Self
    }
}

impl Registers for Ns16550 {
    fn has_byte(&mut self) -> bool {
        read_byte(UART_LINE_STATUS) & DATA_READY != 0
    }

    fn take(&mut self) -> u8 {
        read_byte(UART_DATA)
    }

    fn put(&mut self, byte: u8) {
        while read_byte(UART_LINE_STATUS) & TRANSMIT_EMPTY == 0 {}
        write_byte(UART_DATA, byte);
    }
}

#[panic_handler]
fn panicked(info: &PanicInfo<'_>) -> ! {
    print(format_args!("{info}"));
    loop {
        core::hint::spin_loop();
    }
}

fn read(register: usize) -> u32 {
    // SAFETY: a register of the timer or the clock, which only this file uses.
    unsafe { (register as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: a register of the timer, which only this file uses.
    unsafe { (register as *mut u32).write_volatile(value) }
}

fn read_byte(register: usize) -> u8 {
    // SAFETY: a register of the UART, which only this file uses.
    unsafe { (register as *const u8).read_volatile() }
}

fn write_byte(register: usize, value: u8) {
    // SAFETY: a register of the UART, which only this file uses.
    unsafe { (register as *mut u8).write_volatile(value) }
}

unsafe extern "C" {
    /// From memory.x.
    static mut _chip: Cells<CHIP_BYTES, { CHIP_BYTES / 32 }>;
}

const SETTINGS: Settings = Settings {
    identity: "riscv32",
    sample_every_us: 20_000,
    segment_bytes: 16 << 10,
};
/// The counter of starts, and 16 segments.
const CHIP_BYTES: usize = 1024 + 16 * (16 << 10);
// What memory.x keeps free.
const _: () = assert!(size_of::<Cells<CHIP_BYTES, { CHIP_BYTES / 32 }>>() <= 512 << 10);

const MTIMECMP: usize = 0x0200_4000;
const MTIME: usize = 0x0200_BFF8;
const TICKS_PER_US: u64 = 10;
const TIMER_INTERRUPT: u32 = 1 << 7;
/// Of the machine's real-time clock: the lower half of the nanoseconds.
const CLOCK_NS: usize = 0x0010_1000;
const UART_DATA: usize = 0x1000_0000;
const UART_FIFO_CONTROL: usize = 0x1000_0002;
const UART_LINE_STATUS: usize = 0x1000_0005;
const DATA_READY: u8 = 1;
const TRANSMIT_EMPTY: u8 = 1 << 5;
/// Of the 128-bit FNV hash.
const FNV_PRIME: u128 = (1 << 88) | 0x13B;
