//! The sensor node on a Cortex-M3: QEMU's `lm3s6965evb`, its first UART to the gateway.
#![no_std]
#![no_main]

use core::ptr::addr_of_mut;

use cortex_m_rt::entry;
use sedge_firmware::Registers;
use sedge_firmware::chip::Cells;
use sedge_firmware::device::{self, Settings};
use sedge_firmware_cortex_m::{CortexM, print};

#[entry]
fn main() -> ! {
    let mut board = CortexM::start(Pl011::start(), CLOCK_HZ);
    // SAFETY: the linker gives this memory to nobody else, this is run once a start, and any bytes are cells.
    let cells = unsafe { &mut *addr_of_mut!(_chip) };
    let Err(broken) = device::run(&mut board, cells.power_on(), &SETTINGS);
    print(format_args!("broken: {broken:?}"));
    loop {
        core::hint::spin_loop();
    }
}

/// UART0: an ARM PL011 as TI built it in.
struct Pl011;

impl Pl011 {
    fn start() -> Self {
        write(SYSCTL_RCGC1, 1);
        // 115,200 baud of a clock of 12.5 MHz: 6 + 50/64.
        write(UART_IBRD, 6);
        write(UART_FBRD, 50);
        write(UART_LCRH, EIGHT_BITS | FIFO);
        write(UART_CTL, UART_ENABLE | TRANSMIT | RECEIVE);
        Self
    }
}

impl Registers for Pl011 {
    fn has_byte(&mut self) -> bool {
        read(UART_FR) & RECEIVE_EMPTY == 0
    }

    fn take(&mut self) -> u8 {
        read(UART_DR) as u8
    }

    fn put(&mut self, byte: u8) {
        while read(UART_FR) & TRANSMIT_FULL != 0 {}
        write(UART_DR, u32::from(byte));
    }
}

fn read(register: usize) -> u32 {
    // SAFETY: a register of UART0, which only this file uses.
    unsafe { (register as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: a register of UART0 or its clock gate, which only this file uses.
    unsafe { (register as *mut u32).write_volatile(value) }
}

unsafe extern "C" {
    /// From memory.x.
    static mut _chip: Cells<CHIP_BYTES, { CHIP_BYTES / 32 }>;
}

const SETTINGS: Settings = Settings {
    identity: "cortex-m3",
    sample_every_us: 20_000,
    segment_bytes: 4096,
};
/// The counter of starts, and 8 segments.
const CHIP_BYTES: usize = 1024 + 8 * 4096;
// What memory.x keeps free.
const _: () = assert!(size_of::<Cells<CHIP_BYTES, { CHIP_BYTES / 32 }>>() <= 36 << 10);
/// What QEMU gives the core after a reset.
const CLOCK_HZ: u32 = 12_500_000;

const SYSCTL_RCGC1: usize = 0x400F_E104;
const UART_DR: usize = 0x4000_C000;
const UART_FR: usize = 0x4000_C018;
const UART_IBRD: usize = 0x4000_C024;
const UART_FBRD: usize = 0x4000_C028;
const UART_LCRH: usize = 0x4000_C02C;
const UART_CTL: usize = 0x4000_C030;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;
const FIFO: u32 = 1 << 4;
const EIGHT_BITS: u32 = 3 << 5;
const UART_ENABLE: u32 = 1;
const TRANSMIT: u32 = 1 << 8;
const RECEIVE: u32 = 1 << 9;
