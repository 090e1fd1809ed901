//! The device's program: measure, keep, make room in idle time, hand over.
//!
//! One loop, no queue, no interrupt of its own: the log is the only memory of what is to be sent. What a turn of the loop does is written in
//! [`Device::turn`]. The device has no clock; it knows the time of day after the gateway has told it, and until then its records say how long it had
//! been running.

use core::convert::Infallible;
use core::fmt::Write as _;

use embedded_storage::nor_flash::{NorFlash, NorFlashErrorKind};
use heapless::String;
use sedge_core::custody::message::{DATA_HEAD_LEN_MAX, kind};
use sedge_core::custody::{
    Framing, Now, Sender, SenderEvent, SenderSettings, SenderSlot, Sent, Stretch,
};
use sedge_core::driver::{BadRegion, Nor, NorError};
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::framing::link::{self, Decoder, uart};
use sedge_core::log::{CommitError, Fresh, Log, MaintainError, OpenError, Options, WhenFull};
use sedge_core::read::Reader;
use sedge_core::segment::{BadGeometry, Dimensions, Geometry, Medium, Role};
use sedge_core::uptime::{HEADER, Uptime};
use sedge_core::{LogId, Micros, Offset};

use crate::board::Board;
use crate::boots;
use crate::chip::{BLOCK, Chip, Counts, UNIT};
use crate::sensor::Sensor;

/// What makes this device this device.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Its name at the gateway.
    pub identity: &'static str,
    /// From one measurement to the next.
    pub sample_every_us: u64,
    /// Bytes of a segment of the log, at least [`SEGMENT_BYTES_MIN`]. The log takes as many as fit.
    pub segment_bytes: u32,
}

/// Why the device cannot work: its flash is not what it was built for.
#[derive(Debug)]
pub enum Broken {
    /// There is no log of these dimensions.
    Geometry(BadGeometry),
    /// They do not fit the chip's erase blocks.
    Region(BadRegion),
    /// The log cannot be opened.
    Open(OpenError<Fault>),
    /// A record cannot be kept.
    Commit(CommitError<Fault>),
    /// No room can be made.
    Maintain(MaintainError<Fault>),
    /// The chip fails outside of the log.
    Chip(NorFlashErrorKind),
}

/// An error of the log's medium.
pub type Fault = NorError<NorFlashErrorKind>;

/// The device from here on, as long as it has power.
///
/// # Errors
/// [`Broken`] when it cannot go on.
pub fn run<B: Board>(
    board: &mut B,
    mut chip: Chip<'_>,
    settings: &Settings,
) -> Result<Infallible, Broken> {
    let mut memory = Memory {
        scratch: [0; SCRATCH_BYTES],
        heard: [0; HEAR_BYTES],
    };
    loop {
        let mut device = Device::start(board, chip, settings, &mut memory)?;
        while !device.diverged {
            device.turn()?;
        }
        chip = device.leave_log()?;
    }
}

/// The buffers that are too large to be moved about on a small stack.
struct Memory {
    scratch: [u8; SCRATCH_BYTES],
    heard: [u8; HEAR_BYTES],
}

/// A log on the chip, with a buffer that it does not own.
type ChipLog<'b, 'c> = Log<Nor<Chip<'c>>, &'b mut [u8; SCRATCH_BYTES]>;

/// A started device.
struct Device<'b, 'c, B> {
    board: &'b mut B,
    settings: &'b Settings,
    log: ChipLog<'b, 'c>,
    reader: Reader,
    sender: Sender<[SenderSlot; 1], &'static str>,
    decoder: Decoder<&'b mut [u8; HEAR_BYTES]>,
    sensor: Sensor,
    /// Which start of the device this is, from 1.
    boot: u32,
    /// Measurements of this start.
    measured: u32,
    sample_at_us: u64,
    report_at_us: u64,
    /// The time of day when the device started, as the gateway's clock says.
    started: Micros,
    released: Offset,
    /// The gateway knows another past of this log.
    diverged: bool,
}

impl<'b, 'c, B: Board> Device<'b, 'c, B> {
    fn start(
        board: &'b mut B,
        mut chip: Chip<'c>,
        settings: &'b Settings,
        memory: &'b mut Memory,
    ) -> Result<Self, Broken> {
        let boot = boots::count(&mut chip, 0).map_err(Broken::Chip)?;
        let geometry = geometry(&chip, settings)?;
        let fresh = Fresh {
            log_id: LogId::new(board.draw()),
            now: Micros::UNKNOWN,
            boot: u64::from(boot),
        };
        let nor = Nor::new(chip, LOG_START, settings.segment_bytes).map_err(Broken::Region)?;
        let options = Options::new(geometry, WhenFull::EvictOldest);
        let (log, found) =
            Log::open(nor, options, fresh, &mut memory.scratch).map_err(Broken::Open)?;
        let how = if found.formatted {
            "a new log"
        } else {
            "the log"
        };
        board.print(format_args!(
            "start {boot} of {}: {how} holds {} to {}, {} burned",
            settings.identity,
            log.oldest(),
            log.next(),
            found.burned
        ));
        let decoder = Decoder::new(&mut memory.heard);
        Ok(Self::with(board, log, decoder, settings, boot))
    }

    fn with(
        board: &'b mut B,
        log: ChipLog<'b, 'c>,
        decoder: Decoder<&'b mut [u8; HEAR_BYTES]>,
        settings: &'b Settings,
        boot: u32,
    ) -> Self {
        let now_us = board.uptime_us();
        let now = Now {
            uptime_us: now_us,
            ..Now::default()
        };
        let link = SenderSettings {
            identity: settings.identity,
            boot: u64::from(boot),
            generation: u64::from(boot) << 32 | 1,
            framing: Framing::Link,
            body_bytes_max: BODY_BYTES,
            idle_timeout_us: IDLE_TIMEOUT_US,
        };
        let mut sender = Sender::new(link, [SenderSlot::default()], now);
        sender.offer(0);
        Self {
            reader: Reader::new(log.log_id(), *log.geometry(), log.oldest()),
            released: log
                .ledger()
                .cursor(UPLINK)
                .map_or(Offset::ZERO, |cursor| cursor.next),
            board,
            settings,
            log,
            sender,
            decoder,
            sensor: Sensor::new(boot),
            boot,
            measured: 0,
            sample_at_us: now_us,
            report_at_us: now_us,
            started: Micros::UNKNOWN,
            diverged: false,
        }
    }

    /// One turn of the main loop. At most one message goes out, so that a slow line keeps no measurement waiting.
    fn turn(&mut self) -> Result<(), Broken> {
        self.hear();
        let now = self.now();
        self.sender.handle_timeout(now);
        self.events();
        let said = self.say() || self.hand_over();
        if now.uptime_us >= self.sample_at_us {
            self.sample_at_us += self.settings.sample_every_us;
            self.measure()?;
        } else if self.log.needs_maintain() {
            self.maintain()?;
        } else if !said {
            self.report(now.uptime_us);
            self.board.rest();
        }
        Ok(())
    }

    /// Takes a measurement and keeps it: it is on flash when this returns.
    fn measure(&mut self) -> Result<(), Broken> {
        let centi = self.sensor.measure();
        self.measured += 1;
        let mut value: String<VALUE_BYTES> = String::new();
        // The buffer holds the largest numbers.
        _ = write!(
            value,
            r#"{{"boot":{},"n":{},"celsius":{}.{:02}}}"#,
            self.boot,
            self.measured,
            centi / 100,
            centi % 100
        );
        let kept = self.keep(value.as_bytes())?;
        self.sender.grew(0, kept + 1);
        self.board.print(format_args!(
            "kept {} {} at {kept}",
            self.boot, self.measured
        ));
        Ok(())
    }

    fn keep(&mut self, value: &[u8]) -> Result<Offset, Broken> {
        if self.log.needs_maintain() {
            self.maintain()?; // the idle time was too short for it
        }
        let uptime_us = self.board.uptime_us();
        let now = self.time_of_day_at(uptime_us);
        let mut buffer = [0; FRAME_BYTES];
        let len = self.frame(value, uptime_us, &mut buffer);
        let committed = self
            .log
            .commit(&buffer[..len], 1, &[], now)
            .map_err(Broken::Commit)?;
        Ok(committed.first)
    }

    /// A frame of one record, and how long it is. A value that no frame holds has none, and the log refuses it.
    ///
    /// Times are counted from the record before. A segment that began without one has none, and its records carry their uptime instead.
    fn frame(&self, value: &[u8], uptime_us: u64, into: &mut [u8; FRAME_BYTES]) -> usize {
        let (now, last) = (self.time_of_day_at(uptime_us), self.log.last_time());
        let ms_later = now.get().saturating_sub(last.get()) / 1000;
        let uptime = Uptime {
            boot: u64::from(self.boot),
            ms: uptime_us / 1000,
        };
        let mut header = [0; Uptime::ENCODED_LEN_MAX];
        // The buffer holds the largest numbers.
        let headers = [(HEADER, uptime.encode(&mut header).unwrap_or_default())];
        let timed = now.is_known() && last.is_known();
        let record = Record {
            time: timed.then_some(ms_later),
            key: None,
            headers: if timed {
                Headers::NONE
            } else {
                Headers::new(&headers)
            },
            value,
        };
        let label = Label {
            form: Form::Compact,
            first: self.log.next(),
            time: now,
            first_of_commit: true,
        };
        let mut entry = [0; VALUE_BYTES + ENTRY_EXTRA];
        let entry_len = Entry::Record(record).encode(&mut entry).unwrap_or(0);
        let entry = entry.get(..entry_len).unwrap_or_default();
        frame::emit_data(into, &self.log.log_id(), label, 1, &[], entry).unwrap_or(0)
    }

    fn maintain(&mut self) -> Result<(), Broken> {
        let now = self.time_of_day();
        self.log.maintain(now).map_err(Broken::Maintain)?;
        Ok(())
    }

    fn hear(&mut self) {
        let now = self.now();
        while let Ok(Some(packet)) = uart::receive(self.board.uart(), &mut self.decoder) {
            self.sender.handle_message(now, packet.kind, packet.body);
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Welcomed { clock, .. } => {
                    let uptime_us = i64::try_from(self.board.uptime_us()).unwrap_or(i64::MAX);
                    // A time that the gateway does not trust would be on flash for good; an uptime is dated when the gateway knows better.
                    let told = clock.unix_us.filter(|_| clock.trusted);
                    self.started = told.map_or(self.started, |unix_us| {
                        Micros::new(unix_us.saturating_sub(uptime_us))
                    });
                }
                SenderEvent::Check { slot, next } => {
                    let below = self.log.below(&mut self.reader, next);
                    self.sender.checked(slot, below);
                }
                SenderEvent::Released { next, .. } => {
                    self.released = next;
                    // There is one uplink, and the ledger has room for more.
                    _ = self.log.set_cursor(UPLINK, next);
                }
                SenderEvent::Diverged { .. } => self.diverged = true,
                SenderEvent::Refused { .. }
                | SenderEvent::Closed { .. }
                | SenderEvent::Ended { .. } => {}
            }
        }
    }

    /// Says one message of the protocol, if there is one to say.
    fn say(&mut self) -> bool {
        let now = self.now();
        let log = &self.log;
        let offer = |slot| Some(log.offer(slot));
        let mut body = [0; BODY_BYTES];
        let Some(said) = self.sender.poll_transmit(now, offer, &mut body) else {
            return false;
        };
        send(self.board, said.kind, &[&body[..said.len]]);
        true
    }

    /// Sends what stands in the log next, if it may be sent now.
    fn hand_over(&mut self) -> bool {
        let Some(want) = self.sender.want() else {
            return false;
        };
        let mut frames = [0; BODY_BYTES];
        let stretch = self
            .log
            .stretch(&mut self.reader, UPLINK, &want, &mut frames);
        match stretch {
            None => false,
            Some(Stretch::Gap(gap)) => {
                self.sender.gap(&want, gap);
                true
            }
            Some(Stretch::Frames(run)) => {
                let now = self.now();
                let sent = self.sender.data(now, &want, run);
                let Sent::Data { head, head_len } = sent else {
                    return false;
                };
                let body = [&head[..head_len], &frames[..run.len]];
                send(self.board, kind::DATA, &body);
                true
            }
        }
    }

    fn report(&mut self, now_us: u64) {
        if now_us < self.report_at_us {
            return;
        }
        self.report_at_us = now_us + REPORT_EVERY_US;
        let counts = self.counts();
        let (oldest, next, released) = (self.log.oldest(), self.log.next(), self.released);
        self.board.print(format_args!(
            "log {oldest} to {next}, released below {released}; {} blocks erased, {} units programmed, {} rules broken; {} messages damaged",
            counts.erased,
            counts.programmed,
            counts.broken_rules,
            self.decoder.damaged()
        ));
    }

    fn counts(&self) -> Counts {
        self.log.media().flash().counts()
    }

    /// The chip holds another device's past: its log is erased, and another will begin.
    fn leave_log(self) -> Result<Chip<'c>, Broken> {
        self.board.print(format_args!(
            "the gateway knows another past of this log: a new one begins"
        ));
        let segments = self.log.geometry().segment_count();
        let mut chip = self.log.into_media().into_inner();
        let end = LOG_START + segments * self.settings.segment_bytes;
        chip.erase(LOG_START, end).map_err(Broken::Chip)?;
        Ok(chip)
    }

    fn now(&mut self) -> Now {
        let uptime_us = self.board.uptime_us();
        Now {
            uptime_us,
            unix_us: None,
            trusted: false,
        }
    }

    /// The time of day, if the gateway has told it.
    fn time_of_day(&mut self) -> Micros {
        let uptime_us = self.board.uptime_us();
        self.time_of_day_at(uptime_us)
    }

    fn time_of_day_at(&self, uptime_us: u64) -> Micros {
        let uptime_us = i64::try_from(uptime_us).unwrap_or(i64::MAX);
        if self.started.is_known() {
            Micros::new(self.started.get().saturating_add(uptime_us))
        } else {
            Micros::UNKNOWN
        }
    }
}

fn send<B: Board>(board: &mut B, kind: u8, body: &[&[u8]]) {
    let mut line = [0; link::encoded_len_max(BODY_BYTES)];
    // A body is no longer than the longest, and a UART takes everything.
    _ = uart::send(board.uart(), kind, body, &mut line);
}

fn geometry(chip: &Chip<'_>, settings: &Settings) -> Result<Geometry, Broken> {
    use embedded_storage::nor_flash::ReadNorFlash;
    let log_bytes = chip.capacity().saturating_sub(LOG_START as usize);
    let segment_count = log_bytes.checked_div(settings.segment_bytes as usize);
    Geometry::new(Dimensions {
        medium: Medium::Nor,
        role: Role::Origin,
        write_unit: UNIT as u32,
        segment_bytes: settings.segment_bytes,
        segment_count: segment_count.unwrap_or(0) as u32,
        frame_bytes_max: FRAME_BYTES as u32,
        commit_offsets_max: 1,
    })
    .map_err(Broken::Geometry)
}

/// The smallest segment that the log works with.
pub const SEGMENT_BYTES_MIN: u32 = 4 * SCRATCH_BYTES as u32;
/// The log begins behind the two blocks that count the starts.
const LOG_START: u32 = 2 * BLOCK as u32;
/// The largest frame, as small as the format allows: a measurement takes a sixth of it.
const FRAME_BYTES: usize = 256;
const SCRATCH_BYTES: usize = FRAME_BYTES + 512;
const VALUE_BYTES: usize = 64;
/// Tag, length of a value, and a time or the header that stands for it: three lengths, the name and two numbers.
const ENTRY_EXTRA: usize = 2 + 3 + HEADER.len() + Uptime::ENCODED_LEN_MAX;
const _: () = assert!(VALUE_BYTES < 128, "its length takes one byte");
/// Longest message body: one largest frame, so that a damaged byte costs little.
const BODY_BYTES: usize = FRAME_BYTES + DATA_HEAD_LEN_MAX;
/// Longest message that it hears, a Welcome for one log, with type and CRC.
const HEAR_BYTES: usize = 384;
const UPLINK: u32 = 1;
const IDLE_TIMEOUT_US: u64 = 30_000_000;
const REPORT_EVERY_US: u64 = 1_000_000;
