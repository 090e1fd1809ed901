//! A microcontroller under QEMU that runs the firmware, and the wire from its UART to a serial port of this machine.
//!
//! ```text
//! QEMU ═ UART ═ socket ═ Wire (noise) ═ pseudo-terminal ═══► the agent's serial source
//!   ├ console: what the device says, by semihosting, into a file
//!   └ monitor: reset, stop, go on
//! ```
//! Knows nothing of what is said on the wire.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;

use super::daemon::Daemon;
use super::{Missing, eventually};
use crate::random::Random;

/// A board that QEMU knows, and the image for it.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// The image's name.
    pub package: &'static str,
    /// What it is built for.
    pub target: &'static str,
    /// QEMU's name of the board.
    pub machine: &'static str,
    /// The memory that holds the flash is kept in a file of so many bytes: the chip outlives QEMU.
    pub memory_file: Option<u32>,
}

/// A Cortex-M3; a reset leaves its chip alone.
pub const CORTEX_M3: Model = Model {
    package: "cortex-m3",
    target: "thumbv7m-none-eabi",
    machine: "lm3s6965evb",
    memory_file: None,
};

/// The same board with the firmware in C.
pub const C_EXAMPLE: Model = Model {
    package: "c-example",
    ..CORTEX_M3
};

/// A Cortex-M4F whose chip outlives QEMU.
pub const CORTEX_M4F: Model = Model {
    package: "cortex-m4f",
    target: "thumbv7em-none-eabihf",
    machine: "mps2-an386",
    memory_file: Some(16 << 20),
};

/// A board on the bench: its chip, its console, its wire. It has power when it was given some.
#[derive(Debug)]
pub struct Bench {
    model: Model,
    image: PathBuf,
    folder: TempDir,
    port: PathBuf,
    noise: Random,
    powered: Option<Powered>,
}

#[derive(Debug)]
struct Powered {
    qemu: Daemon,
    monitor: Monitor,
    wire: Wire,
}

impl Bench {
    /// A board whose serial port is at `port`.
    ///
    /// # Errors
    /// What is missing to have one.
    ///
    /// # Panics
    /// If the disk does not take its memory.
    pub fn new(model: Model, port: PathBuf, noise: Random) -> Result<Self, Missing> {
        let image = images()
            .join(model.target)
            .join("release")
            .join(model.package);
        if !image.exists() {
            return Err(Missing::Program("the image; run `cargo xtask firmware`"));
        }
        if Command::new(QEMU).arg("--version").output().is_err() {
            return Err(Missing::Program(QEMU));
        }
        let bench = Self {
            model,
            image,
            folder: TempDir::new().expect("a temporary directory"),
            port,
            noise,
            powered: None,
        };
        std::fs::write(bench.file("console"), "").expect("a console");
        if let Some(bytes) = model.memory_file {
            let memory = File::create(bench.file("memory")).expect("a memory");
            memory.set_len(u64::from(bytes)).expect("a memory");
        }
        Ok(bench)
    }

    /// Gives the board power, and plugs its wire in.
    ///
    /// # Panics
    /// If QEMU does not start.
    pub fn power_on(&mut self) {
        for socket in ["uart", "monitor"] {
            std::fs::remove_file(self.file(socket)).ok();
        }
        let qemu = Daemon::start(
            self.model.machine,
            &mut self.command(),
            &self.file("qemu.log"),
        );
        let monitor = Monitor::of(&self.file("monitor"));
        let wire = Wire::between(&self.file("uart"), &self.port, &mut self.noise);
        self.powered = Some(Powered {
            qemu,
            monitor,
            wire,
        });
    }

    /// Takes the power away between two instructions, whatever is done: QEMU is killed, and the serial adapter is gone with it.
    ///
    /// # Panics
    /// If the board had no power, or its chip does not outlive it.
    pub fn power_fails(&mut self) {
        assert!(self.model.memory_file.is_some(), "the chip would be lost");
        let powered = self.powered.take().expect("it has power");
        powered.qemu.kill();
        drop(powered.wire);
    }

    /// What is on the chip now, for [`Self::put_back`].
    ///
    /// # Panics
    /// If the chip does not outlive QEMU.
    pub fn copy_chip(&self) {
        std::fs::copy(self.file("memory"), self.file("copy")).expect("a memory");
    }

    /// The chip holds again what it held when it was copied. The board has no power meanwhile.
    ///
    /// # Panics
    /// If there is no copy.
    pub fn put_back(&mut self) {
        self.power_fails();
        std::fs::copy(self.file("copy"), self.file("memory")).expect("a copy");
        self.power_on();
    }

    /// The file that holds what is on the chip. The memory map of the board tells where in it: at its beginning, behind what the simulation keeps of each unit.
    ///
    /// # Panics
    /// If the chip does not outlive QEMU.
    #[must_use]
    pub fn chip_file(&self) -> PathBuf {
        assert!(self.model.memory_file.is_some(), "the chip would be lost");
        self.file("memory")
    }

    /// Resets the board between two instructions.
    pub fn reset(&mut self) {
        self.monitor().say("system_reset");
    }

    /// Stands still for `rest`, as a device does that is busy with something else. Its UART takes nothing meanwhile.
    pub fn stands_still(&mut self, rest: Duration) {
        self.monitor().say("stop");
        std::thread::sleep(rest);
        self.monitor().say("cont");
    }

    /// Whole lines of the console, of all starts.
    ///
    /// # Panics
    /// If the device says that something is broken.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file("console")).expect("a console");
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
        let bad = |line: &&String| {
            let broke_a_rule = line.contains(" rules broken") && !line.contains(" 0 rules broken");
            line.contains("panicked") || line.starts_with("broken") || broke_a_rule
        };
        if let Some(line) = lines.iter().find(bad) {
            panic!("the device says: {line}");
        }
        lines
    }

    fn monitor(&mut self) -> &mut Monitor {
        &mut self.powered.as_mut().expect("it has power").monitor
    }

    fn command(&self) -> Command {
        let mut command = Command::new(QEMU);
        command
            .arg("-kernel")
            .arg(&self.image)
            .args(["-display", "none"]);
        let mut machine = self.model.machine.to_owned();
        if let Some(bytes) = self.model.memory_file {
            let path = self.file("memory");
            command.arg("-object").arg(format!(
                "memory-backend-file,id=memory,size={bytes},share=on,mem-path={}",
                path.display()
            ));
            machine.push_str(",memory-backend=memory");
        }
        command.arg("-machine").arg(machine);
        let socket = |name| format!("unix:{},server=on,wait=off", self.file(name).display());
        command.arg("-serial").arg(socket("uart"));
        command.arg("-monitor").arg(socket("monitor"));
        command.arg("-chardev").arg(format!(
            "file,id=console,append=on,path={}",
            self.file("console").display()
        ));
        command.args([
            "-semihosting-config",
            "enable=on,target=native,chardev=console",
        ]);
        command
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Where `cargo xtask firmware` puts the images.
fn images() -> PathBuf {
    // target/PROFILE/deps/this-test
    let this = std::env::current_exe().expect("a test has a path");
    let target = this
        .ancestors()
        .nth(3)
        .expect("tests run in a target folder");
    target.join("firmware")
}

/// QEMU's monitor: one command at a time.
#[derive(Debug)]
struct Monitor(UnixStream);

impl Monitor {
    fn of(socket: &Path) -> Self {
        let stream = eventually(START_WITHIN, "QEMU has a monitor", || {
            UnixStream::connect(socket).ok()
        });
        stream
            .set_read_timeout(Some(START_WITHIN))
            .expect("a timeout");
        let mut monitor = Self(stream);
        monitor.await_prompt();
        monitor
    }

    fn say(&mut self, command: &str) {
        writeln!(self.0, "{command}").expect("QEMU listens");
        self.await_prompt();
    }

    /// The prompt stands at the end of what QEMU says when it has done what it was told.
    fn await_prompt(&mut self) {
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"(qemu) ") {
            self.0.read_exact(&mut byte).expect("QEMU answers");
            said.extend_from_slice(&byte);
        }
    }
}

/// The wire between a UART and a serial port: one byte in [`ONE_IN`] is damaged on the way, and one is lost. Dropped, it is unplugged.
#[derive(Debug)]
struct Wire {
    uart: UnixStream,
    unplugged: Arc<AtomicBool>,
    ends: Vec<JoinHandle<()>>,
}

impl Wire {
    fn between(socket: &Path, port: &Path, noise: &mut Random) -> Self {
        let uart = eventually(START_WITHIN, "QEMU has a UART", || {
            UnixStream::connect(socket).ok()
        });
        let (terminal, held_open) = terminal(port);
        let up = (
            uart.try_clone().expect("a socket"),
            terminal.try_clone().expect("a terminal"),
        );
        let down = (terminal, uart.try_clone().expect("a socket"));
        let (up_noise, down_noise) = (Random::new(noise.bits()), Random::new(noise.bits()));
        let unplugged = Arc::new(AtomicBool::new(false));
        let (above, below) = (Arc::clone(&unplugged), Arc::clone(&unplugged));
        let ends = vec![
            std::thread::spawn(move || {
                carry(up.0, up.1, up_noise, &above);
                drop(held_open);
            }),
            std::thread::spawn(move || carry(down.0, down.1, down_noise, &below)),
        ];
        Self {
            uart,
            unplugged,
            ends,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.unplugged.store(true, Ordering::Relaxed);
        self.uart.shutdown(Shutdown::Both).ok();
        for end in self.ends.drain(..) {
            end.join().ok();
        }
    }
}

/// Carries bytes one way until the wire is unplugged or one of its ends is gone. What the other end does not take at once is lost, as on a line without flow control.
fn carry(mut from: impl Read, mut to: impl Write, mut noise: Random, unplugged: &AtomicBool) {
    let mut bytes = [0; 64];
    while !unplugged.load(Ordering::Relaxed) {
        let len = match from.read(&mut bytes) {
            Ok(0) => return,
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(BYTES_TAKE);
                continue;
            }
            Err(_) => return,
        };
        let heard: Vec<u8> = bytes[..len]
            .iter()
            .filter_map(|&byte| match noise.below(ONE_IN) {
                0 => None,
                1 => Some(byte ^ 1 << noise.below(8)),
                _ => Some(byte),
            })
            .collect();
        match to.write_all(&heard) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

/// A pseudo-terminal whose far end is linked at `port`, as udev does under `/dev/serial/by-id`. The second file keeps what was sent before anybody listens.
fn terminal(port: &Path) -> (File, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = openpt(flags).expect("a terminal");
    grantpt(&near).expect("a terminal");
    unlockpt(&near).expect("a terminal");
    rustix::fs::fcntl_setfl(&near, OFlags::NONBLOCK).expect("a terminal");
    let name = ptsname(&near, Vec::new()).expect("a terminal has a name");
    let path = PathBuf::from(name.to_string_lossy().into_owned());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let far: OwnedFd =
        rustix::fs::open(&path, flags, rustix::fs::Mode::empty()).expect("a terminal");
    let mut modes = rustix::termios::tcgetattr(&far).expect("a terminal");
    modes.make_raw(); // a fresh terminal would echo
    rustix::termios::tcsetattr(&far, rustix::termios::OptionalActions::Now, &modes)
        .expect("a terminal");
    std::fs::remove_file(port).ok();
    std::os::unix::fs::symlink(&path, port).expect("a link");
    (near.into(), far.into())
}

const QEMU: &str = "qemu-system-arm";
const START_WITHIN: Duration = Duration::from_secs(20);
/// A line at 115,200 baud brings 11 bytes meanwhile.
const BYTES_TAKE: Duration = Duration::from_millis(1);
const ONE_IN: u64 = 2000;
