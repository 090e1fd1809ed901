//! The sensor node on a Cortex-M0: QEMU's `microbit` with the 32 KiB of RAM that the larger nRF51822 has, of which the simulated chip takes a half.
#![no_std]
#![no_main]

use core::ptr::addr_of_mut;

use cortex_m_rt::entry;
use sedge_firmware::Registers;
use sedge_firmware::chip::Cells;
use sedge_firmware::device::{self, SEGMENT_BYTES_MIN, Settings};
use sedge_firmware_cortex_m::{CortexM, print};

#[entry]
fn main() -> ! {
    let mut board = CortexM::start(Nordic::start(), CLOCK_HZ);
    // SAFETY: the linker gives this memory to nobody else, this is run once a start, and any bytes are cells.
    let cells = unsafe { &mut *addr_of_mut!(_chip) };
    let Err(broken) = device::run(&mut board, cells.power_on(), &SETTINGS);
    print(format_args!("broken: {broken:?}"));
    loop {
        core::hint::spin_loop();
    }
}

/// The UART of the nRF51: events tell what has happened.
struct Nordic {
    /// A byte was given to the UART, and it has not said that it is out.
    sending: bool,
}

impl Nordic {
    fn start() -> Self {
        write(UART_ENABLE, ENABLED);
        write(UART_BAUD_RATE, BAUD_115200);
        write(UART_START_RECEIVE, 1);
        write(UART_START_TRANSMIT, 1);
        Self { sending: false }
    }
}

impl Registers for Nordic {
    fn has_byte(&mut self) -> bool {
        read(UART_RECEIVED) != 0
    }

    fn take(&mut self) -> u8 {
        write(UART_RECEIVED, 0); // before the byte is taken: the next one sets it again
        read(UART_BYTE_IN) as u8
    }

    fn put(&mut self, byte: u8) {
        while self.sending && read(UART_TRANSMITTED) == 0 {}
        write(UART_TRANSMITTED, 0);
        write(UART_BYTE_OUT, u32::from(byte));
        self.sending = true;
    }
}

fn read(register: usize) -> u32 {
    // SAFETY: a register of the UART, which only this file uses.
    unsafe { (register as *const u32).read_volatile() }
}

fn write(register: usize, value: u32) {
    // SAFETY: a register of the UART, which only this file uses.
    unsafe { (register as *mut u32).write_volatile(value) }
}

unsafe extern "C" {
    /// From memory.x.
    static mut _chip: Cells<CHIP_BYTES, { CHIP_BYTES / 32 }>;
}

const SETTINGS: Settings = Settings {
    identity: "cortex-m0",
    sample_every_us: 50_000,
    segment_bytes: SEGMENT_BYTES_MIN,
};
/// The counter of starts, and four of the smallest segments that make a log.
const CHIP_BYTES: usize = 1024 + 4 * SEGMENT_BYTES_MIN as usize;
// What memory.x keeps free.
const _: () = assert!(size_of::<Cells<CHIP_BYTES, { CHIP_BYTES / 32 }>>() <= 16 << 10);
const CLOCK_HZ: u32 = 16_000_000;

const UART_START_RECEIVE: usize = 0x4000_2000;
const UART_START_TRANSMIT: usize = 0x4000_2008;
const UART_RECEIVED: usize = 0x4000_2108;
const UART_TRANSMITTED: usize = 0x4000_211C;
const UART_ENABLE: usize = 0x4000_2500;
const UART_BYTE_IN: usize = 0x4000_2518;
const UART_BYTE_OUT: usize = 0x4000_251C;
const UART_BAUD_RATE: usize = 0x4000_2524;
const ENABLED: u32 = 4;
const BAUD_115200: u32 = 0x01D7_E000;
