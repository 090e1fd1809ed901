//! A simulated sensor node: the real log on simulated flash and the real custody protocol, at the far end of a pseudo-terminal.
//!
//! ```text
//! record() ─► Log on Flash ─► Sender ─► COBS ─► Cable ═ pty ═► the agent's serial source
//! ```
//! [`Flash`] is what survives when the power fails, [`Cable`] is what can be pulled, [`Device`] is the program that runs between
//! them. It is written as firmware would be: one loop, no queue, the log is the only memory of what is to be sent.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use sedge_core::custody::message::{DATA_HEAD_LEN_MAX, kind};
use sedge_core::custody::{
    Framing, Now, Sender, SenderEvent, SenderSettings, SenderSlot, Sent, Stretch,
};
use sedge_core::driver::{OutOfBounds, Ram};
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::framing::link::{self, Decoder};
use sedge_core::log::{Fresh, Log, Options, WhenFull};
use sedge_core::media::Media;
use sedge_core::read::Reader;
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
use sedge_core::uptime::{HEADER, Uptime};
use sedge_core::{LogId, Micros, Offset};

/// Flash memory: keeps its bytes when the device has no power. Cheap to clone; a clone is the same chip.
#[derive(Clone, Debug)]
pub struct Flash(Arc<Mutex<Ram<Vec<u8>>>>);

/// A pseudo-terminal: the device holds one end, the agent opens the other as a serial port. Dropped, it is unplugged.
#[derive(Debug)]
pub struct Cable {
    master: Arc<File>,
    path: PathBuf,
    /// Held open so that bytes that were sent before the agent listens are kept.
    _port: File,
}

/// A running device. Dropped, its power fails.
#[derive(Debug)]
pub struct Device {
    firmware: Arc<Mutex<Firmware>>,
    off: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What one start of a device is given.
#[derive(Clone, Debug)]
pub struct Start {
    /// Its name.
    pub identity: String,
    /// Counts its starts; each one is larger than the one before.
    pub boot: u32,
    /// One in so many bytes that it sends is damaged on the way.
    pub noise: Option<u32>,
    /// It has no clock: its records say how long it had been running.
    pub clockless: bool,
}

/// Numbers of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Custody {
    /// One past the last record written.
    pub next: u64,
    /// Below this the gateway has custody.
    pub released: u64,
    /// The oldest held.
    pub oldest: u64,
}

impl Flash {
    /// An erased chip.
    #[must_use]
    pub fn erased() -> Self {
        let bytes = vec![0xFF; (SEGMENT_BYTES * SEGMENTS) as usize];
        Self(Arc::new(Mutex::new(Ram::new(bytes, SEGMENT_BYTES))))
    }

    /// Another chip that holds the same.
    #[cfg(test)]
    pub(crate) fn copied(&self) -> Self {
        Self(Arc::new(Mutex::new(self.chip().clone())))
    }

    fn chip(&self) -> MutexGuard<'_, Ram<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Media for Flash {
    type Error = OutOfBounds;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), OutOfBounds> {
        self.chip().read(segment, position, into)
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        self.chip().program(segment, position, bytes)
    }

    fn erase(&mut self, segment: u32) -> Result<(), OutOfBounds> {
        self.chip().erase(segment)
    }

    fn sync(&mut self) -> Result<(), OutOfBounds> {
        Ok(())
    }
}

impl Cable {
    /// Plugs a new port in; [`Cable::path`] is its name.
    ///
    /// # Errors
    /// If the system has no more pseudo-terminals.
    pub fn plug() -> io::Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        rustix::fs::fcntl_setfl(&master, OFlags::NONBLOCK)?;
        let path = PathBuf::from(ptsname(&master, Vec::new())?.to_string_lossy().into_owned());
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let port: OwnedFd = rustix::fs::open(&path, flags, rustix::fs::Mode::empty())?;
        let mut modes = rustix::termios::tcgetattr(&port)?;
        modes.make_raw(); // a fresh terminal would echo
        rustix::termios::tcsetattr(&port, rustix::termios::OptionalActions::Now, &modes)?;
        Ok(Self {
            master: Arc::new(master.into()),
            path,
            _port: port.into(),
        })
    }

    /// What the agent opens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sends bytes as they are, as a device that just prints does.
    ///
    /// # Errors
    /// If nobody reads and the buffer is full.
    pub fn print(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.master).write_all(bytes)
    }
}

impl Device {
    /// Power on: the log is recovered, and the device talks over `cable`, if it is plugged in.
    ///
    /// # Panics
    /// If the flash holds something that no device wrote.
    #[must_use]
    pub fn power_on(flash: &Flash, cable: Option<&Cable>, start: &Start) -> Self {
        let firmware = Arc::new(Mutex::new(Firmware::boot(flash.clone(), cable, start)));
        let off = Arc::new(AtomicBool::new(false));
        let thread = {
            let (firmware, off) = (Arc::clone(&firmware), Arc::clone(&off));
            std::thread::spawn(move || {
                while !off.load(Ordering::Relaxed) {
                    lock(&firmware).turn();
                    std::thread::sleep(TICK);
                }
            })
        };
        Self {
            firmware,
            off,
            thread: Some(thread),
        }
    }

    /// Takes a measurement: it is on flash when this returns. Its offset.
    pub fn record(&self, value: &[u8]) -> u64 {
        lock(&self.firmware).record(value)
    }

    /// Pulls the cable out of the device.
    pub fn unplug(&self) {
        lock(&self.firmware).wire = None;
    }

    /// Plugs a cable in.
    pub fn plug(&self, cable: &Cable) {
        lock(&self.firmware).wire = Some(Arc::clone(&cable.master));
    }

    /// How far it is.
    #[must_use]
    pub fn custody(&self) -> Custody {
        let firmware = lock(&self.firmware);
        Custody {
            next: firmware.log.next().get(),
            released: firmware.released.get(),
            oldest: firmware.log.oldest().get(),
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.off.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The program: log, sender and wire, and a turn of its main loop.
#[derive(Debug)]
struct Firmware {
    log: Log<Flash, Vec<u8>>,
    reader: Reader,
    sender: Sender<[SenderSlot; 1], String>,
    decoder: Decoder<[u8; HEAR_BYTES]>,
    wire: Option<Arc<File>>,
    outbox: Vec<u8>,
    released: Offset,
    started: Instant,
    boot: u64,
    clockless: bool,
    noise: Option<u32>,
    dice: u32,
}

impl Firmware {
    fn boot(flash: Flash, cable: Option<&Cable>, start: &Start) -> Self {
        let log = open_log(flash, start.boot);
        let started = Instant::now();
        let settings = SenderSettings {
            identity: start.identity.clone(),
            boot: u64::from(start.boot),
            generation: u64::from(start.boot) << 32 | 1,
            framing: Framing::Link,
            body_bytes_max: BODY_BYTES_MAX,
            idle_timeout_us: 30_000_000,
        };
        let mut sender = Sender::new(settings, [SenderSlot::default()], Now::default());
        sender.offer(0);
        let released = log
            .ledger()
            .cursor(UPLINK)
            .map_or(Offset::ZERO, |cursor| cursor.next);
        Self {
            reader: reader(&log),
            log,
            sender,
            decoder: Decoder::new([0; HEAR_BYTES]),
            wire: cable.map(|cable| Arc::clone(&cable.master)),
            outbox: Vec::new(),
            released,
            started,
            boot: u64::from(start.boot),
            clockless: start.clockless,
            noise: start.noise,
            dice: start.boot | 1,
        }
    }

    /// One turn of the main loop.
    fn turn(&mut self) {
        let wire = self.wire.clone();
        self.hear(wire.as_deref());
        self.sender.handle_timeout(self.now());
        self.events();
        while self.outbox.is_empty() && (self.say() || self.send()) {
            self.write(wire.as_deref());
        }
        self.write(wire.as_deref());
    }

    fn record(&mut self, value: &[u8]) -> u64 {
        if self.log.needs_maintain() {
            self.log
                .maintain(self.time_of_day())
                .expect("memory does not fail");
        }
        let first = self.log.next();
        let now = self.time_of_day();
        let time_ms = now.get().saturating_sub(self.log.last_time().get()) / 1000;
        let mut uptime = [0; Uptime::ENCODED_LEN_MAX];
        let headers = self.uptime(&mut uptime).map(|value| [(HEADER, value)]);
        let record = Record {
            time: now.is_known().then_some(time_ms.max(0)),
            key: None,
            headers: headers
                .as_ref()
                .map_or(Headers::NONE, |pairs| Headers::new(pairs)),
            value,
        };
        let (mut entry, mut bytes) = ([0; FRAME_BYTES_MAX as usize], [0; FRAME_BYTES_MAX as usize]);
        let len = Entry::Record(record)
            .encode(&mut entry)
            .expect("a record fits into a frame");
        let label = Label {
            form: Form::Compact,
            first,
            time: now,
            first_of_commit: true,
        };
        let len = frame::emit_data(&mut bytes, &self.log.log_id(), label, 1, &[], &entry[..len]);
        let frames = &bytes[..len.expect("a record fits into a frame")];
        let committed = match self.log.commit(frames, 1, &[], now) {
            Ok(committed) => committed,
            Err(e) => panic!("memory does not fail: {e}"),
        };
        self.sender.grew(0, committed.next);
        committed.first.get()
    }

    fn hear(&mut self, wire: Option<&File>) {
        let mut bytes = [0; 256];
        while let Some(Ok(len @ 1..)) = wire.map(|mut wire| wire.read(&mut bytes)) {
            let mut heard = &bytes[..len];
            let now = self.now();
            while let Some(packet) = self.decoder.advance(&mut heard) {
                self.sender.handle_message(now, packet.kind, packet.body);
            }
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Check { slot, next } => {
                    let below = self.log.below(&mut self.reader, next);
                    self.sender.checked(slot, below);
                }
                SenderEvent::Released { next, .. } => {
                    self.released = next;
                    self.log
                        .set_cursor(UPLINK, next)
                        .expect("there is one uplink");
                }
                SenderEvent::Diverged { .. } => self.format_again(),
                SenderEvent::Welcomed { .. }
                | SenderEvent::Refused { .. }
                | SenderEvent::Closed { .. }
                | SenderEvent::Ended { .. } => {}
            }
        }
    }

    /// The gateway knows another past of this log (the chip is a copy): a new log begins.
    fn format_again(&mut self) {
        let flash = self.log.media().clone();
        *flash.chip() = Ram::new(
            vec![0xFF; (SEGMENT_BYTES * SEGMENTS) as usize],
            SEGMENT_BYTES,
        );
        self.log = open_log(flash, 0);
        self.reader = reader(&self.log);
        self.sender.offer(0);
        self.sender.start_over(self.now());
    }

    /// Says one message of the protocol, if there is one to say.
    fn say(&mut self) -> bool {
        let mut body = [0; BODY_BYTES_MAX];
        let log = &self.log;
        let offer = |slot| Some(log.offer(slot));
        let said = self.sender.poll_transmit(self.now(), offer, &mut body);
        if let Some(said) = said {
            self.put(said.kind, &[&body[..said.len]]);
        }
        said.is_some()
    }

    /// Sends what stands in the log next, if it may be sent now.
    fn send(&mut self) -> bool {
        let Some(want) = self.sender.want() else {
            return false;
        };
        let mut frames = [0; BODY_BYTES_MAX];
        let stretch = self
            .log
            .stretch(&mut self.reader, UPLINK, &want, &mut frames);
        match stretch {
            None => false,
            Some(Stretch::Gap(gap)) => {
                self.sender.gap(&want, gap);
                true
            }
            Some(Stretch::Frames(run)) => match self.sender.data(self.now(), &want, run) {
                Sent::Data { head, head_len } => {
                    self.put(kind::DATA, &[&head[..head_len], &frames[..run.len]]);
                    true
                }
                Sent::NotNow => false,
            },
        }
    }

    fn put(&mut self, kind: u8, body: &[&[u8]]) {
        self.outbox.resize(link::encoded_len_max(BODY_BYTES_MAX), 0);
        let len = link::encode(kind, body, &mut self.outbox)
            .expect("a body is no longer than the longest");
        self.outbox.truncate(len);
        if let Some(one_in) = self.noise {
            for byte in &mut self.outbox {
                self.dice = self
                    .dice
                    .wrapping_mul(1_664_525)
                    .wrapping_add(1_013_904_223);
                if (self.dice >> 8).is_multiple_of(one_in) {
                    *byte ^= 1 << (self.dice >> 29);
                }
            }
        }
    }

    /// A UART sends into the void when nothing is plugged in; a full buffer is a slow line.
    fn write(&mut self, wire: Option<&File>) {
        match wire.map(|mut wire| wire.write(&self.outbox)) {
            Some(Ok(len)) => drop(self.outbox.drain(..len)),
            Some(Err(e)) if e.kind() == io::ErrorKind::WouldBlock => {}
            Some(Err(_)) | None => self.outbox.clear(),
        }
    }

    fn now(&self) -> Now {
        Now {
            uptime_us: u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            unix_us: (!self.clockless).then(|| unix().get()),
            trusted: !self.clockless,
        }
    }

    fn time_of_day(&self) -> Micros {
        self.now().unix_us.map_or(Micros::UNKNOWN, Micros::new)
    }

    /// What a record says for want of a time.
    fn uptime<'b>(&self, into: &'b mut [u8]) -> Option<&'b [u8]> {
        let uptime = Uptime {
            boot: self.boot,
            ms: self.now().uptime_us / 1000,
        };
        self.clockless.then(|| uptime.encode(into)).flatten()
    }
}

fn reader(log: &Log<Flash, Vec<u8>>) -> Reader {
    Reader::new(log.log_id(), *log.geometry(), log.oldest())
}

fn open_log(flash: Flash, boot: u32) -> Log<Flash, Vec<u8>> {
    let geometry = Geometry::new(Dimensions {
        medium: Medium::Nor,
        role: Role::Origin,
        write_unit: 4,
        segment_bytes: SEGMENT_BYTES,
        segment_count: SEGMENTS,
        frame_bytes_max: FRAME_BYTES_MAX,
        commit_offsets_max: 1,
    })
    .expect("these dimensions are good");
    let fresh = Fresh {
        log_id: draw_log_id(),
        now: unix(),
        boot: u64::from(boot),
    };
    let options = Options::new(geometry, WhenFull::EvictOldest);
    let scratch = vec![0; geometry.scratch_bytes().max(SEGMENT_BYTES as usize)];
    match Log::open(flash, options, fresh, scratch) {
        Ok((log, _)) => log,
        Err(e) => panic!("a device's flash holds a device's log: {e}"),
    }
}

fn draw_log_id() -> LogId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has entropy");
    LogId::new(bytes)
}

fn unix() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_micros()).map_or(Micros::UNKNOWN, Micros::new)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const SEGMENT_BYTES: u32 = 16 << 10;
const SEGMENTS: u32 = 16;
const FRAME_BYTES_MAX: u32 = 256;
/// Longest message body: some frames at a time, so that a damaged byte costs little.
const BODY_BYTES_MAX: usize = 1024 + DATA_HEAD_LEN_MAX;
/// Longest message that it hears: a Welcome for one log.
const HEAR_BYTES: usize = 512;
const UPLINK: u32 = 1;
/// A UART at 115,200 baud fills 23 bytes of its buffer meanwhile.
const TICK: Duration = Duration::from_millis(2);
