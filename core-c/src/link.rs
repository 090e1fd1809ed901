//! The link: the log's records over a serial line to a gateway, which takes custody of them.
//!
//! What a turn of a device's loop does with `Sender`, `Decoder` and `Reader` is done here between `rx` and `tx`.

use core::ffi::c_int;

use sedge_core::custody::message::{DATA_HEAD_LEN_MAX, kind};
use sedge_core::custody::{
    Framing, Now, Sender, SenderEvent, SenderSettings, SenderSlot, Sent, Stretch,
};
use sedge_core::framing::link::{self, Decoder};
use sedge_core::octets;
use sedge_core::read::Reader;
use sedge_core::{LogId, Micros, Offset};

use crate::error::{number, sedge_error};
use crate::handle::{Opaque, at, bytes, bytes_mut, forget, keep, kept, tell};
use crate::log::{LogState, sedge_bytes, sedge_log};
use sedge_error::{
    SEDGE_ERR_ARGUMENT, SEDGE_ERR_BUFFER, SEDGE_ERR_INTERNAL, SEDGE_ERR_NONE, SEDGE_ERR_OTHER_LOG,
};

/// Words of a `sedge_link`.
pub const SEDGE_LINK_WORDS: usize = 128;
/// Bytes of the buffer for what is heard: the longest message of a gateway.
pub const SEDGE_HEARD_BYTES: usize = 384;
/// Bytes of the longest identity.
pub const SEDGE_IDENTITY_BYTES_MAX: usize = 64;

/// A link: memory of the caller, zeroed before its first use and then opened by `sedge_link_open`. Belongs to one log.
#[derive(Debug)]
#[repr(C)]
pub struct sedge_link {
    /// Not to be looked at.
    words: [u64; SEDGE_LINK_WORDS],
}

impl Opaque for sedge_link {
    type State = LinkState;
    const MAGIC: u64 = u64::from_be_bytes(*b"sedgeLNK");
}

/// What stands in a [`sedge_link`].
#[derive(Debug)]
pub(crate) struct LinkState {
    log_id: LogId,
    reader: Reader,
    sender: Sender<[SenderSlot; 1], Identity>,
    decoder: Decoder<&'static mut [u8]>,
    body: &'static mut [u8],
    consumer: u32,
    /// The time of day when the uptime was 0, as the gateway's clock says.
    started: Micros,
    released: Offset,
    stopped: Option<Stopped>,
}

/// Why nothing more is sent.
#[derive(Clone, Copy, Debug)]
enum Stopped {
    /// The gateway knows another past of this log.
    Diverged,
    /// The gateway does not take it in this session, and gave this reason.
    Refused(u16),
}

/// A copy of the caller's name: what was checked once stays as it was.
#[derive(Debug)]
struct Identity {
    bytes: [u8; SEDGE_IDENTITY_BYTES_MAX],
    len: usize,
}

/// What time it is.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct sedge_now {
    /// Microseconds since the device started; never goes back. The link's timers run on it.
    pub uptime_us: u64,
    /// Microseconds since 1970 UTC, told to the gateway and used for nothing else; or `SEDGE_TIME_UNKNOWN`.
    pub unix_us: i64,
}

/// What makes a link. `sedge_link_open` copies it, and the identity too; the buffers must live as long as the link is used.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct sedge_link_config {
    /// The device's name at the gateway, in UTF-8: 1 to `SEDGE_IDENTITY_BYTES_MAX` bytes.
    pub identity: sedge_bytes,
    /// A number that grows with each `sedge_link_open` of this device, over all its starts, and never comes twice: a counter on flash. Not 0.
    pub boot: u32,
    /// The gateway's number as a consumer of the log.
    pub consumer: u32,
    /// Silence, in microseconds, that makes the link greet again; 0 is 30 seconds.
    pub idle_timeout_us: u64,
    /// `SEDGE_BODY_BYTES(frame_bytes_max)` bytes or more, for a message on its way out. More than that lets several frames go in one message.
    pub body: *mut u8,
    /// How many they are.
    pub body_len: usize,
    /// `SEDGE_HEARD_BYTES` bytes or more, for a message on its way in.
    pub heard: *mut u8,
    /// How many they are.
    pub heard_len: usize,
}

/// How a link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum sedge_link_standing {
    /// It waits for the gateway's answer to its greeting.
    SEDGE_LINK_GREETING = 0,
    /// The gateway takes records.
    SEDGE_LINK_LIVE = 1,
    /// The gateway has another past of this log (an old copy of the flash was put in, or it was moved): nothing more is sent. Erase the log, open a new one and
    /// the link with it; what the gateway had not taken is lost with it.
    SEDGE_LINK_DIVERGED = 2,
    /// The gateway does not take this log now, for the reason in `refusal`; the next session asks again.
    SEDGE_LINK_REFUSED = 3,
}

/// How a link stands, with numbers.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct sedge_link_report {
    /// A `sedge_link_standing`.
    pub standing: u32,
    /// The gateway's reason for `SEDGE_LINK_REFUSED` (docs/spec/custody.md), else 0.
    pub refusal: u32,
    /// Everything below this offset is in the gateway's custody.
    pub released: u64,
    /// Messages of the line that were damaged.
    pub damaged: u64,
}

/// Opens the link of `log` to a gateway. Its first message is a greeting, which `sedge_link_tx` has at once. An open link may be opened again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_link_open(
    link: *mut sedge_link,
    log: *mut sedge_log,
    config: *const sedge_link_config,
    now: *const sedge_now,
) -> c_int {
    number((|| {
        // SAFETY: the promises of the header: memory of the caller, a log that nobody else uses now, what the pointers say.
        let (log, config, now) = unsafe {
            forget(link)?;
            (kept(log)?, at(config)?, core_now(now)?)
        };
        // SAFETY: buffers live and belong to the link as long as it is used, by the promise of `sedge_link_config`.
        let state = unsafe { LinkState::open(log, config, now)? };
        // SAFETY: memory of the caller.
        unsafe { keep(link, state) }
    })())
}

/// Takes `len` bytes that came over the line, in pieces of any length. Then ask `sedge_link_tx`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_link_rx(
    link: *mut sedge_link,
    log: *mut sedge_log,
    now: *const sedge_now,
    received: *const u8,
    len: usize,
) -> c_int {
    number((|| {
        // SAFETY: the promises of the header: states that nobody else uses now, bytes of the caller.
        let (state, log, now, received) = unsafe {
            (
                kept(link)?,
                kept(log)?,
                core_now(now)?,
                bytes(received, len)?,
            )
        };
        state.check(log)?;
        state.hear(log, now, received);
        Ok(())
    })())
}

/// Writes the next message for the line to `line`, and returns how many bytes it has; 0 if there is nothing to say now. The bytes must go out whole and in order. Call
/// it again until it returns 0: after `sedge_link_rx`, after `sedge_log_flush`, and when `sedge_link_deadline` has come.
///
/// `SEDGE_LINE_BYTES(body_len)` bytes are room enough for every message; less is `SEDGE_ERR_BUFFER`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_link_tx(
    link: *mut sedge_link,
    log: *mut sedge_log,
    now: *const sedge_now,
    line: *mut u8,
    capacity: usize,
) -> c_int {
    let said = (|| {
        // SAFETY: the promises of the header: states that nobody else uses now, bytes of the caller.
        let (state, log, now, line) = unsafe {
            (
                kept(link)?,
                kept(log)?,
                core_now(now)?,
                bytes_mut(line, capacity)?,
            )
        };
        state.check(log)?;
        let len = state.speak(log, now, line)?;
        c_int::try_from(len).map_err(|_| SEDGE_ERR_INTERNAL)
    })();
    said.unwrap_or_else(|error| error as c_int)
}

/// Tells when `sedge_link_tx` will have something to do though nothing happens before: an uptime in microseconds. Ask when it has returned 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_link_deadline(link: *mut sedge_link, uptime_us: *mut u64) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let state = unsafe { kept(link)? };
        // SAFETY: the caller's memory, or null.
        unsafe { tell(uptime_us, state.sender.next_timeout().unwrap_or(u64::MAX)) }
    })())
}

/// Tells how the link stands.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_link_state(
    link: *mut sedge_link,
    report: *mut sedge_link_report,
) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let told = unsafe { kept(link)? }.told();
        // SAFETY: the caller's memory, or null.
        unsafe { tell(report, told) }
    })())
}

/// Tells the time of day at `uptime_us` by the gateway's clock, in microseconds since 1970 UTC; `SEDGE_ERR_NONE` if it has not told it yet, or does not trust it itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_link_time(
    link: *mut sedge_link,
    uptime_us: u64,
    unix_us: *mut i64,
) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let started = unsafe { kept(link)? }.started;
        if !started.is_known() {
            return Err(SEDGE_ERR_NONE);
        }
        // SAFETY: the caller's memory, or null.
        unsafe { tell(unix_us, started.get().saturating_add(signed(uptime_us))) }
    })())
}

impl LinkState {
    /// # Safety
    /// The buffers of `config` are what it says, as long as the link is used.
    unsafe fn open(
        log: &LogState,
        config: &sedge_link_config,
        now: Now,
    ) -> Result<Self, sedge_error> {
        let log = &log.log;
        let body_min = log.geometry().frame_bytes_max() as usize + DATA_HEAD_LEN_MAX;
        if config.body_len < body_min || config.heard_len < SEDGE_HEARD_BYTES {
            return Err(SEDGE_ERR_BUFFER);
        }
        // SAFETY: the caller's promise.
        let (identity, body, heard) = unsafe {
            (
                Identity::copy(bytes(config.identity.start, config.identity.len)?)?,
                bytes_mut(config.body, config.body_len)?,
                bytes_mut(config.heard, config.heard_len)?,
            )
        };
        if config.boot == 0 {
            return Err(SEDGE_ERR_ARGUMENT);
        }
        let settings = SenderSettings {
            identity,
            boot: u64::from(config.boot),
            generation: u64::from(config.boot) << 32 | 1,
            framing: Framing::Link,
            body_bytes_max: config.body_len,
            idle_timeout_us: match config.idle_timeout_us {
                0 => IDLE_TIMEOUT_US,
                given => given,
            },
        };
        let mut sender = Sender::new(settings, [SenderSlot::default()], now);
        sender.offer(SLOT);
        let cursor = log.ledger().cursor(config.consumer);
        Ok(Self {
            log_id: log.log_id(),
            reader: Reader::new(log.log_id(), *log.geometry(), log.oldest()),
            sender,
            decoder: Decoder::new(heard),
            body,
            consumer: config.consumer,
            started: Micros::UNKNOWN,
            released: cursor.map_or(Offset::ZERO, |cursor| cursor.next),
            stopped: None,
        })
    }

    fn check(&self, log: &LogState) -> Result<(), sedge_error> {
        if self.log_id == log.log.log_id() {
            Ok(())
        } else {
            Err(SEDGE_ERR_OTHER_LOG)
        }
    }

    fn hear(&mut self, log: &mut LogState, now: Now, mut received: &[u8]) {
        while let Some(packet) = self.decoder.advance(&mut received) {
            self.sender.handle_message(now, packet.kind, packet.body);
        }
        self.events(log, now);
    }

    fn events(&mut self, log: &mut LogState, now: Now) {
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Welcomed { clock, .. } => {
                    self.stopped = None;
                    // A time that the gateway does not trust would be on flash for good; an uptime is dated when the gateway knows better.
                    let told = clock.unix_us.filter(|_| clock.trusted);
                    self.started = told.map_or(self.started, |unix_us| {
                        Micros::new(unix_us.saturating_sub(signed(now.uptime_us)))
                    });
                }
                SenderEvent::Check { slot, next } => {
                    let below = log.log.below(&mut self.reader, next);
                    self.sender.checked(slot, below);
                }
                SenderEvent::Released { next, .. } => {
                    self.released = next;
                    // Without a place for it nothing is held back for the gateway, and nothing is lost that it has.
                    _ = log.log.set_cursor(self.consumer, next);
                }
                SenderEvent::Diverged { .. } => self.stopped = Some(Stopped::Diverged),
                SenderEvent::Refused { code, .. } => {
                    self.stopped = Some(Stopped::Refused(code.0));
                }
                SenderEvent::Closed { .. } | SenderEvent::Ended { .. } => {}
            }
        }
    }

    fn speak(
        &mut self,
        log: &mut LogState,
        now: Now,
        line: &mut [u8],
    ) -> Result<usize, sedge_error> {
        if line.len() < link::encoded_len_max(self.body.len()) {
            return Err(SEDGE_ERR_BUFFER);
        }
        self.sender.grew(SLOT, log.log.view().durable);
        self.sender.handle_timeout(now);
        self.events(log, now);
        let len = match self.say(log, now, line) {
            Some(len) => len,
            None => match self.hand_over(log, now, line) {
                HandedOver::Data(len) => len,
                HandedOver::Gap => self.say(log, now, line).unwrap_or(0),
                HandedOver::Nothing => 0,
            },
        };
        self.events(log, now); // what stands in the log may show that the gateway has another past of it
        Ok(len)
    }

    /// One message of the protocol, if there is one to say.
    fn say(&mut self, log: &LogState, now: Now, line: &mut [u8]) -> Option<usize> {
        let log = &log.log;
        let offer = |slot| Some(log.offer(slot));
        let said = self.sender.poll_transmit(now, offer, self.body)?;
        link::encode(said.kind, &[self.body.get(..said.len)?], line)
    }

    /// What stands in the log next, if it may be sent now.
    fn hand_over(&mut self, log: &mut LogState, now: Now, line: &mut [u8]) -> HandedOver {
        let Some(want) = self.sender.want() else {
            return HandedOver::Nothing;
        };
        let reader = &mut self.reader;
        let stretch = log.log.stretch(reader, self.consumer, &want, self.body);
        match stretch {
            None => HandedOver::Nothing,
            Some(Stretch::Gap(gap)) => {
                self.sender.gap(&want, gap);
                HandedOver::Gap
            }
            Some(Stretch::Frames(run)) => {
                let Sent::Data { head, head_len } = self.sender.data(now, &want, run) else {
                    return HandedOver::Nothing;
                };
                let parts = [head.get(..head_len), self.body.get(..run.len)];
                let parts = parts.map(Option::unwrap_or_default);
                link::encode(kind::DATA, &parts, line).map_or(HandedOver::Nothing, HandedOver::Data)
            }
        }
    }

    fn told(&self) -> sedge_link_report {
        use sedge_link_standing::{
            SEDGE_LINK_DIVERGED, SEDGE_LINK_GREETING, SEDGE_LINK_LIVE, SEDGE_LINK_REFUSED,
        };
        let (standing, refusal) = match self.stopped {
            Some(Stopped::Diverged) => (SEDGE_LINK_DIVERGED, 0),
            Some(Stopped::Refused(code)) => (SEDGE_LINK_REFUSED, code),
            None if self.sender.is_live() => (SEDGE_LINK_LIVE, 0),
            None => (SEDGE_LINK_GREETING, 0),
        };
        sedge_link_report {
            standing: standing as u32,
            refusal: u32::from(refusal),
            released: self.released.get(),
            damaged: self.decoder.damaged(),
        }
    }
}

impl Identity {
    fn copy(name: &[u8]) -> Result<Self, sedge_error> {
        let mut bytes = [0; SEDGE_IDENTITY_BYTES_MAX];
        if name.is_empty() || str::from_utf8(name).is_err() {
            return Err(SEDGE_ERR_ARGUMENT);
        }
        octets::copy(name, &mut bytes).ok_or(SEDGE_ERR_ARGUMENT)?;
        let len = name.len();
        Ok(Self { bytes, len })
    }
}

impl AsRef<str> for Identity {
    fn as_ref(&self) -> &str {
        let name = self.bytes.get(..self.len).unwrap_or_default();
        str::from_utf8(name).unwrap_or_default()
    }
}

/// What became of a want.
enum HandedOver {
    /// So many bytes for the line.
    Data(usize),
    /// A gap, which the sender says next.
    Gap,
    Nothing,
}

/// # Safety
/// `now` is null or points to a time.
unsafe fn core_now(now: *const sedge_now) -> Result<Now, sedge_error> {
    // SAFETY: the caller's promise.
    let now = unsafe { at(now)? };
    let known = Micros::new(now.unix_us).is_known();
    Ok(Now {
        uptime_us: now.uptime_us,
        unix_us: known.then_some(now.unix_us),
        trusted: false, // nobody vouches for a device's clock
    })
}

fn signed(uptime_us: u64) -> i64 {
    i64::try_from(uptime_us).unwrap_or(i64::MAX)
}

/// The log's number in the conversation: there is one.
const SLOT: u16 = 0;
const IDLE_TIMEOUT_US: u64 = 30_000_000;
