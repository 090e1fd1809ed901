//! Microcontrollers: each keeps its own log on a simulated chip, hands it over to the gateway at the end of its line, and loses its power when it likes.
//!
//! The program is that of `firmware/common`: one loop, no queue, the log is the only memory of what is to be sent. What is in the log has been
//! acknowledged: it comes to the consumer, or a gap counts it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sedge_core::custody::message::{DATA_HEAD_LEN_MAX, kind};
use sedge_core::custody::{
    Framing, Now, Sender, SenderEvent, SenderSettings, SenderSlot, Sent, Stretch,
};
use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::framing::link::{self, Decoder};
use sedge_core::log::{CommitError, Fresh, Log, Options, Tail, WhenFull};
use sedge_core::media::Media;
use sedge_core::read::Reader;
use sedge_core::segment::{Dimensions, Geometry, Medium, Role};
use sedge_core::uptime::{HEADER, Uptime};
use sedge_core::{Gap, LogId, Micros, Offset};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::home::Home;
use super::kept::{Kept, Verdict};
use super::line::Line;
use super::site::Site;
use crate::flash::{FlashShape, FlashTear, SimFlash};
use crate::random::{Random, seed_for};
use crate::sim::{Fault, Sim};

/// What can be done to a device.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    /// Its name.
    pub(super) name: String,
    /// What it is plugged in with.
    pub(super) line: Line,
    /// Its flash.
    pub(super) chip: Chip,
    /// To whom an order goes.
    pub(super) orders: mpsc::UnboundedSender<Order>,
}

/// What is done to a device. All but a rest end its program.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Its power fails, or its processor is reset, for so long.
    Reset(Duration),
    /// It writes its last word and is switched off, for so long.
    SwitchOff(Duration),
    /// It does nothing, for so long.
    StandStill(Duration),
    /// It comes back with an empty chip.
    Exchange(Duration),
}

/// A flash chip: keeps its bytes without power. Cheap to clone; a clone is the same chip.
#[derive(Clone, Debug)]
pub(super) struct Chip(Arc<Mutex<SimFlash>>);

/// A device, with power or without.
#[derive(Debug)]
pub(super) struct Device {
    site: Site,
    name: String,
    home: Home,
    identity: u32,
    line: Line,
    chip: Chip,
    orders: mpsc::UnboundedReceiver<Order>,
    random: Random,
    geometry: Geometry,
    tail: Tail,
    /// Records in one frame, at most.
    batch: u64,
    /// Counts its starts; stands beside the log on the chip.
    boot: u64,
    left: u64,
    measure_at: Instant,
    kept: Kept,
    said_last: bool,
}

/// Why a program ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// There is no power, though nobody said so.
    Cut,
    /// An order.
    Ordered(Order),
}

/// The program between two starts.
struct Firmware {
    log: Log<Chip, Vec<u8>>,
    reader: Reader,
    sender: Sender<[SenderSlot; 1], String>,
    decoder: Decoder<Vec<u8>>,
    booted: Instant,
    boot: u64,
    /// The time of day when it started, as the gateway's clock says.
    started: Micros,
}

impl Chip {
    /// Its power fails in an operation, after so many others.
    pub(super) fn arm(&self, operations: u64) {
        self.lock().arm(operations);
    }

    /// Its power does not fail any more.
    pub(super) fn disarm(&self) {
        self.lock().disarm();
    }

    fn lock(&self) -> MutexGuard<'_, SimFlash> {
        // It refuses to be programmed where it must not be, which ends the device and not the run.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Media for Chip {
    type Error = Fault;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> Result<(), Fault> {
        self.lock().read(segment, position, into)
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> Result<(), Fault> {
        self.lock().program(segment, position, bytes)
    }

    fn erase(&mut self, segment: u32) -> Result<(), Fault> {
        self.lock().erase(segment)
    }

    fn sync(&mut self) -> Result<(), Fault> {
        self.lock().sync()
    }

    fn grain(&self) -> u32 {
        self.lock().grain()
    }
}

impl Device {
    /// The device with this number, on `line` to a gateway, with its events in `home`.
    #[must_use]
    pub(super) fn new(site: &Site, machine: &str, number: usize, line: Line) -> (Self, Handle) {
        let name = format!("node-{number}");
        let mut random = Random::new(seed_for(site.options.seed, 3000 + number as u64));
        let dimensions = Dimensions {
            medium: Medium::Nor,
            role: Role::Origin,
            write_unit: random.pick(&[4, 8, 32]),
            segment_bytes: random.pick(&[3072, 4096]),
            segment_count: random.pick(&[3, 5, 12]),
            frame_bytes_max: 256,
            commit_offsets_max: 4,
        };
        let geometry = Geometry::new(dimensions).expect("a legal geometry");
        let chip = Chip(Arc::new(Mutex::new(empty(&geometry, random.bits()))));
        let home = site.home_of(machine, &name);
        let (orders, received) = mpsc::unbounded_channel();
        let handle = Handle {
            name: name.clone(),
            line: line.clone(),
            chip: chip.clone(),
            orders,
        };
        let device = Self {
            identity: site.ledger.device(machine, &home),
            geometry,
            tail: random.pick(&[Tail::Behind, Tail::Behind, Tail::Fresh]),
            batch: random.pick(&[1, 3]),
            site: site.clone(),
            name,
            home,
            line,
            chip,
            orders: received,
            random,
            boot: 0,
            left: site.options.device_events,
            measure_at: Instant::now(),
            kept: Kept::default(),
            said_last: false,
        };
        (device, handle)
    }

    /// Lives its lives.
    pub(super) async fn run(mut self) {
        loop {
            self.line.power(true);
            let end = match self.boot() {
                Some(firmware) => self.live(firmware).await,
                None => End::Cut,
            };
            self.line.power(false);
            let (order, what) = match end {
                End::Cut => (Order::Reset(self.breath()), "has no power"),
                End::Ordered(order) => (order, "ends its program"),
            };
            let (name, pause) = (self.name.clone(), order.pause());
            self.site.story.tell(&format!("{name} {what}: {order:?}"));
            self.revive();
            if let Order::Exchange(_) = order {
                self.exchange();
            }
            tokio::time::sleep(pause).await;
            while self.orders.try_recv().is_ok() {}
            self.site.story.tell(&format!("{name} starts"));
        }
    }

    fn breath(&mut self) -> Duration {
        Duration::from_millis(10 + self.random.below(3000))
    }

    /// Power comes back: what it left of the last operation shows.
    fn revive(&mut self) {
        let torn = match self.tail {
            Tail::Behind => self.random.pick(&FlashTear::STEADY),
            Tail::Fresh => FlashTear::Flicker,
        };
        let seed = self.random.bits();
        self.chip.lock().revive(torn, seed);
    }

    /// An empty chip takes the place of the old one, with what was nowhere else.
    fn exchange(&mut self) {
        *self.chip.lock() = empty(&self.geometry, self.random.bits());
        if let Some(number) = std::mem::take(&mut self.kept).first() {
            self.site.ledger.chip_is_gone(self.identity, number);
        }
    }

    /// Opens the log; `None` if power fails meanwhile.
    fn boot(&mut self) -> Option<Firmware> {
        self.boot += 1;
        let mut id = [0; 16];
        self.random.fill(&mut id);
        let fresh = Fresh {
            log_id: LogId::new(id),
            now: Micros::UNKNOWN,
            boot: self.boot,
        };
        let options = Options {
            tail: self.tail,
            ..Options::new(self.geometry, WhenFull::EvictOldest)
        };
        let scratch = vec![0; self.geometry.scratch_bytes()];
        match Log::open(self.chip.clone(), options, fresh, scratch) {
            Ok((log, recovered)) => {
                if self.tail == Tail::Fresh {
                    let next = log.next().get();
                    self.kept.burn(next.saturating_sub(recovered.burned)..next);
                }
                Some(Firmware::new(log, self.name.clone(), self.boot))
            }
            Err(_) if self.chip.lock().is_down() => None,
            Err(e) => panic!("{}: its log does not open: {e:?}", self.name),
        }
    }

    async fn live(&mut self, mut firmware: Firmware) -> End {
        loop {
            let rests = self.site.slowness.load(Ordering::Relaxed) > 1;
            let Some(wake) = self.turn(&mut firmware, rests) else {
                return End::Cut;
            };
            let order = tokio::select! {
                biased;
                Some(order) = self.orders.recv() => order,
                () = self.line.stirs.notified() => continue,
                () = tokio::time::sleep_until(wake) => continue,
            };
            match self.stand_still(order).await {
                None | Some(Order::StandStill(_)) => {}
                Some(order @ Order::SwitchOff(_)) => {
                    let now = firmware.time_of_day();
                    // Without the last word it is as if its power had failed.
                    firmware.log.close(now).ok();
                    return End::Ordered(order);
                }
                Some(order @ (Order::Reset(_) | Order::Exchange(_))) => {
                    return End::Ordered(order);
                }
            }
        }
    }

    /// Does nothing for as long as `order` says so. What ends the program ends it then as well: an order that waited for its turn could come when there are to be
    /// no more faults.
    async fn stand_still(&mut self, mut order: Order) -> Option<Order> {
        while let Order::StandStill(length) = order {
            tokio::select! {
                biased;
                Some(next) = self.orders.recv() => order = next,
                () = tokio::time::sleep(length) => return None,
            }
        }
        Some(order)
    }

    /// One turn of the main loop, and when the next one is due; `None` if power has failed. Who rests does not talk.
    fn turn(&mut self, firmware: &mut Firmware, rests: bool) -> Option<Instant> {
        firmware.hear(&self.line.receive());
        if !rests {
            firmware.sender.handle_timeout(firmware.now());
            self.events(firmware);
        }
        let may_speak = !rests && self.line.idle_at() <= Instant::now();
        let spoke = may_speak && (firmware.say(&self.line) || self.hand_over(firmware));
        if self.measure_at <= Instant::now() {
            self.measure(firmware)?;
        } else if firmware.log.needs_maintain() {
            firmware.maintain().ok()?;
        }
        let soon = Instant::now() + TICK;
        let speaks = match (rests, spoke, may_speak) {
            (true, ..) => None,
            (_, true, _) | (_, _, false) => Some(self.line.idle_at().max(soon)),
            _ => firmware.next_timeout().map(|at| at.max(soon)),
        };
        let hears = self.line.next_arrival();
        let times = [speaks, hears, Some(self.measure_at.max(soon))];
        times.into_iter().flatten().min()
    }

    fn events(&mut self, firmware: &mut Firmware) {
        while let Some(event) = firmware.sender.poll_event() {
            match event {
                SenderEvent::Welcomed { clock, .. } => {
                    let uptime_us = firmware.now().uptime_us as i64;
                    let told = clock.unix_us.filter(|_| clock.trusted);
                    let started = told.map(|us| Micros::new(us.saturating_sub(uptime_us)));
                    firmware.started = started.unwrap_or(firmware.started);
                }
                SenderEvent::Check { slot, next } => {
                    let below = firmware.log.below(&mut firmware.reader, next);
                    firmware.sender.checked(slot, below);
                }
                SenderEvent::Released { next, .. } => {
                    let log = &mut firmware.log;
                    let cursor = log.ledger().cursor(UPLINK).unwrap_or_default();
                    self.kept.release(cursor.next, log.oldest(), next);
                    let set = log.set_cursor(UPLINK, next);
                    set.expect("there is one uplink");
                }
                SenderEvent::Diverged { .. } | SenderEvent::Refused { .. } => {
                    self.site.ledger.fail(format!("{}: {event:?}", self.name));
                }
                SenderEvent::Closed { .. } | SenderEvent::Ended { .. } => {}
            }
        }
    }

    /// Sends what stands in the log next, if it may be sent now.
    fn hand_over(&mut self, firmware: &mut Firmware) -> bool {
        let Some(want) = firmware.sender.want() else {
            return false;
        };
        let mut frames = [0; BODY_BYTES_MAX];
        let (log, reader) = (&mut firmware.log, &mut firmware.reader);
        match log.stretch(reader, UPLINK, &want, &mut frames) {
            None => false,
            Some(Stretch::Gap(gap)) => {
                self.judge(firmware.log.log_id(), &gap);
                firmware.sender.gap(&want, gap);
                true
            }
            Some(Stretch::Frames(run)) => match firmware.sender.data(firmware.now(), &want, run) {
                Sent::Data { head, head_len } => {
                    let body = [&head[..head_len], &frames[..run.len]];
                    self.line.send(&message(kind::DATA, &body));
                    true
                }
                Sent::NotNow => false,
            },
        }
    }

    fn judge(&self, log: LogId, gap: &Gap) {
        let Verdict {
            gone,
            doubts,
            late,
            loose,
            is_right,
        } = self.kept.judge(gap);
        let (name, from) = (&self.name, gap.from.get());
        self.site.story.tell(&format!(
            "{name} says that {} from {from} to {} are lost, {:?}: {gone} it had kept, {doubts} are in doubt, of {late} it heard too late",
            gap.lost, gap.to, gap.cause
        ));
        let ledger = &self.site.ledger;
        if !is_right {
            ledger.fail(format!(
                "{name}: {gone} events are gone, {doubts} may be, the gateway has {late} of which the log heard when it had let go of them: {gap:?}"
            ));
        }
        ledger.device_lost(&self.home, (log, from), gap.lost, loose);
    }

    /// Takes a few measurements, if any are left, and keeps them: they are in the log then. `None` if power fails meanwhile.
    fn measure(&mut self, firmware: &mut Firmware) -> Option<()> {
        let is_end = self.site.finish.load(Ordering::Relaxed);
        let slow = self.site.slowness.load(Ordering::Relaxed).max(1);
        let pause = self.site.options.device_pause.as_micros() as u64;
        let pause = Duration::from_micros(self.random.below(pause * 2)) * slow;
        self.measure_at = Instant::now() + pause.min(PAUSE_MOST);
        let count = match is_end {
            true => u64::from(!self.said_last),
            false => self.left.min(1 + self.random.below(self.batch)),
        };
        if count == 0 {
            return Some(());
        }
        while firmware.log.needs_maintain() {
            firmware.maintain().ok()?;
        }
        let ledger = &self.site.ledger;
        let sizes = (0..count).map(|_| 12 + self.random.index(VALUE_BYTES - 12));
        let events: Vec<_> = sizes
            .map(|bytes| ledger.event(self.identity, bytes))
            .collect();
        self.kept.begin(count);
        let first = firmware.keep(&events).ok()?;
        let numbers: Vec<u64> = events.iter().map(|(number, _)| *number).collect();
        self.kept.end(first, &numbers);
        ledger.acknowledged(self.identity, &numbers);
        firmware.sender.grew(0, firmware.log.next());
        self.left -= self.left.min(count);
        if is_end {
            self.said_last = true;
            ledger.retire(self.identity);
        }
        Some(())
    }
}

impl Order {
    const fn pause(self) -> Duration {
        match self {
            Self::Reset(pause)
            | Self::SwitchOff(pause)
            | Self::StandStill(pause)
            | Self::Exchange(pause) => pause,
        }
    }
}

/// There is no power.
#[derive(Clone, Copy, Debug)]
struct Cut;

impl Firmware {
    fn new(log: Log<Chip, Vec<u8>>, identity: String, boot: u64) -> Self {
        let settings = SenderSettings {
            identity,
            boot,
            generation: boot << 32 | 1,
            framing: Framing::Link,
            body_bytes_max: BODY_BYTES_MAX,
            idle_timeout_us: IDLE_TIMEOUT_US,
        };
        let mut sender = Sender::new(settings, [SenderSlot::default()], Now::default());
        sender.offer(0);
        Self {
            reader: Reader::new(log.log_id(), *log.geometry(), log.oldest()),
            log,
            sender,
            decoder: Decoder::new(vec![0; HEAR_BYTES]),
            booted: Instant::now(),
            boot,
            started: Micros::UNKNOWN,
        }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        let now = self.now();
        while let Some(packet) = self.decoder.advance(&mut bytes) {
            self.sender.handle_message(now, packet.kind, packet.body);
        }
    }

    /// Says one message of the protocol, if there is one to say.
    fn say(&mut self, line: &Line) -> bool {
        let mut body = [0; BODY_BYTES_MAX];
        let (now, log) = (self.now(), &self.log);
        let offer = |slot| Some(log.offer(slot));
        let said = self.sender.poll_transmit(now, offer, &mut body);
        if let Some(said) = said {
            line.send(&message(said.kind, &[&body[..said.len]]));
        }
        said.is_some()
    }

    fn maintain(&mut self) -> Result<(), Cut> {
        let now = self.time_of_day();
        match self.log.maintain(now) {
            Ok(_) => Ok(()),
            Err(_) if self.log.media().lock().is_down() => Err(Cut),
            Err(e) => panic!("a chip that is well: {e:?}"),
        }
    }

    /// Writes the values of `events` as one frame. Where it begins.
    fn keep(&mut self, events: &[(u64, Vec<u8>)]) -> Result<Offset, Cut> {
        let now = self.time_of_day();
        loop {
            let frame = self.frame(events, now);
            match self.log.commit(&frame, events.len() as u64, &[], now) {
                Ok(committed) => return Ok(committed.first),
                Err(CommitError::NeedsMaintain) => self.maintain()?,
                Err(_) if self.log.media().lock().is_down() => return Err(Cut),
                Err(e) => panic!("a chip that is well: {e:?}"),
            }
        }
    }

    /// Times are counted from the record before. A segment that began without one has none, and its records carry their uptime instead.
    fn frame(&self, events: &[(u64, Vec<u8>)], now: Micros) -> Vec<u8> {
        let last = self.log.last_time();
        let timed = now.is_known() && last.is_known();
        let mut ms_later = now.get().saturating_sub(last.get()) / 1000;
        let uptime = Uptime {
            boot: self.boot,
            ms: self.now().uptime_us / 1000,
        };
        let mut header = [0; Uptime::ENCODED_LEN_MAX];
        let headers = [(HEADER, uptime.encode(&mut header).expect("it fits"))];
        let mut entries = Vec::new();
        for (_, value) in events {
            let record = Record {
                time: timed.then(|| std::mem::take(&mut ms_later)),
                key: None,
                headers: match timed {
                    true => Headers::NONE,
                    false => Headers::new(&headers),
                },
                value,
            };
            let mut entry = [0; FRAME_BYTES_MAX as usize];
            let len = Entry::Record(record).encode(&mut entry);
            entries.extend(&entry[..len.expect("a record fits into a frame")]);
        }
        let label = Label {
            form: Form::Compact,
            first: self.log.next(),
            time: now,
            first_of_commit: true,
        };
        let mut bytes = vec![0; FRAME_BYTES_MAX as usize];
        let (id, count) = (self.log.log_id(), events.len() as u16);
        let len = frame::emit_data(&mut bytes, &id, label, count, &[], &entries);
        bytes.truncate(len.expect("a burst fits into a frame"));
        bytes
    }

    fn now(&self) -> Now {
        let unix_us = self.time_of_day();
        Now {
            uptime_us: self.booted.elapsed().as_micros() as u64,
            unix_us: unix_us.is_known().then(|| unix_us.get()),
            trusted: unix_us.is_known(),
        }
    }

    fn time_of_day(&self) -> Micros {
        match self.started.is_known() {
            true => Micros::new(self.started.get() + self.booted.elapsed().as_micros() as i64),
            false => Micros::UNKNOWN,
        }
    }

    fn next_timeout(&self) -> Option<Instant> {
        let at = self.sender.next_timeout()?;
        Some(self.booted + Duration::from_micros(at))
    }
}

/// Flash that was never written, for a log of this geometry.
fn empty(geometry: &Geometry, seed: u64) -> SimFlash {
    let dimensions = geometry.dimensions();
    let shape = FlashShape {
        segments: dimensions.segment_count,
        segment_bytes: dimensions.segment_bytes,
        blocks: 2,
        write_unit: dimensions.write_unit,
    };
    SimFlash::new(shape, seed)
}

fn message(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0; link::encoded_len_max(BODY_BYTES_MAX)];
    let len = link::encode(kind, body, &mut bytes);
    bytes.truncate(len.expect("a body is no longer than the longest"));
    bytes
}

const FRAME_BYTES_MAX: u32 = 256;
/// A burst of them fits into a frame, with times and all.
const VALUE_BYTES: usize = 36;
/// Longest message body.
const BODY_BYTES_MAX: usize = 512 + DATA_HEAD_LEN_MAX;
/// Longest message that it hears: a Welcome for one log.
const HEAR_BYTES: usize = 512;
const UPLINK: u32 = 1;
const IDLE_TIMEOUT_US: u64 = 30_000_000;
/// It does nothing more often.
const TICK: Duration = Duration::from_millis(1);
/// Longest pause between two bursts.
const PAUSE_MOST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::simulator::in_virtual_time;
    use crate::simulator::options::Options;

    /// Its program hangs for an hour, and somebody switches it off meanwhile. If that waited until the hour is over, it would come when there are to be no more
    /// faults, and what it still has would come too late.
    #[test]
    fn a_device_that_stands_still_is_switched_off_at_once() {
        let told = in_virtual_time(async {
            let site = Site::of(Options::of(1));
            let line = site.lines.lay(Path::new("tty-0"), 1, site.story.clone());
            let (device, handle) = Device::new(&site, "gw-0", 0, line);
            tokio::spawn(device.run());
            let second = Duration::from_secs(1);
            let orders = [Order::StandStill(3600 * second), Order::SwitchOff(second)];
            for order in orders {
                handle.orders.send(order).expect("it lives");
                tokio::time::sleep(2 * second).await;
            }
            site.story.text()
        });
        assert!(told.contains("node-0 starts"), "{told}");
    }
}
