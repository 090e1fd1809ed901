//! A console by semihosting: the machine that QEMU runs on prints.

use core::arch::asm;
use core::fmt::{self, Arguments, Write};

/// One line for whoever watches.
pub(crate) fn print(line: Arguments<'_>) {
    let mut console = Console {
        bytes: [0; 96],
        len: 0,
    };
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
    /// The text must end with a zero byte for the host, so one byte of the buffer stays free.
    fn flush(&mut self) {
        self.bytes[self.len] = 0;
        let text = self.bytes.as_ptr();
        // SAFETY: operation SYS_WRITE0 reads memory up to the zero byte that was just written. The three instructions, none of them compressed, are what the host looks for.
        unsafe {
            asm!(
                ".option push",
                ".option norvc",
                ".balign 16",
                "slli x0, x0, 0x1f",
                "ebreak",
                "srai x0, x0, 7",
                ".option pop",
                inout("a0") SYS_WRITE0 => _,
                in("a1") text,
                options(nostack),
            );
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

const SYS_WRITE0: usize = 4;
