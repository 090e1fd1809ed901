//! The sensor node on a Cortex-M4F: QEMU's `mps2-an386`, its first UART to the gateway.
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
    let mut board = CortexM::start(Cmsdk::start(), CLOCK_HZ);
    // SAFETY: the linker gives this memory to nobody else, this is run once a start, and any bytes are cells.
    let cells = unsafe { &mut *addr_of_mut!(_chip) };
    let Err(broken) = device::run(&mut board, cells.power_on(), &SETTINGS);
    print(format_args!("broken: {broken:?}"));
    loop {
        core::hint::spin_loop();
    }
}

/// UART0: an ARM CMSDK APB UART. It holds one byte each way.
struct Cmsdk;

impl Cmsdk {
    fn start() -> Self {
        write(UART_BAUD_DIVIDER, CLOCK_HZ / 115_200);
        write(UART_CTRL, TRANSMIT | RECEIVE);
        Self
    }
}

impl Registers for Cmsdk {
    fn has_byte(&mut self) -> bool {
        read(UART_STATE) & RECEIVE_FULL != 0
    }

    fn take(&mut self) -> u8 {
        read(UART_DATA) as u8
    }

    fn put(&mut self, byte: u8) {
        while read(UART_STATE) & TRANSMIT_FULL != 0 {}
        write(UART_DATA, u32::from(byte));
    }
}

fn read(register: usize) -> u32 {
    // SAFETY: a register of UART0, which only this file uses.
    unsafe { (register as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: a register of UART0, which only this file uses.
    unsafe { (register as *mut u32).write_volatile(value) }
}

unsafe extern "C" {
    /// From memory.x.
    static mut _chip: Cells<CHIP_BYTES, { CHIP_BYTES / 32 }>;
}

const SETTINGS: Settings = Settings {
    identity: "cortex-m4f",
    sample_every_us: 20_000,
    segment_bytes: 16 << 10,
};
/// The counter of starts, and 16 segments.
const CHIP_BYTES: usize = 1024 + 16 * (16 << 10);
// What memory.x keeps free.
const _: () = assert!(size_of::<Cells<CHIP_BYTES, { CHIP_BYTES / 32 }>>() <= 512 << 10);
const CLOCK_HZ: u32 = 25_000_000;

const UART_DATA: usize = 0x4000_4000;
const UART_STATE: usize = 0x4000_4004;
const UART_CTRL: usize = 0x4000_4008;
const UART_BAUD_DIVIDER: usize = 0x4000_4010;
const TRANSMIT_FULL: u32 = 1;
const RECEIVE_FULL: u32 = 1 << 1;
const TRANSMIT: u32 = 1;
const RECEIVE: u32 = 1 << 1;
