//! What becomes of a device's frames in the gateway's log: records under the device's key, notices for its gaps, and the device
//! cursor beside them.
//!
//! Knows nothing of the line and of when things are durable.

use sedge_core::custody::Now;
use sedge_core::custody::message::Clock;
use sedge_core::entry::{Entry, Notice, Record};
use sedge_core::frame::{Form, Frame, Kind};
use sedge_core::uptime;
use sedge_core::{Cause, Gap, LogId, Micros, Offset};

use crate::dead_letter::{DeadLetter, Reason, Remains};
use crate::ingest::{Ingest, Intake};
use crate::owner::{ITEM_BYTES_MAX, Stood};
use crate::route::Subject;
use crate::telemetry::Source;

use super::starts::{Quality, Starts};

/// Who the device is, and when it started.
#[derive(Debug, Default)]
pub(super) struct Logbook {
    identity: String,
    pub(super) starts: Starts,
}

/// One checked frame of a device, and the time at its begin and end.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeviceFrame<'a> {
    frame: Frame<'a>,
    base_time: Micros,
    pub(super) next: Offset,
    pub(super) base_time_after: Micros,
}

/// An entry of the device, with what the gateway says of it.
struct Taken<'a> {
    entry: Entry<'a>,
    key: Vec<u8>,
    time: Option<Micros>,
    /// Of a time that the gateway has found, or not.
    quality: Option<Quality>,
}

impl<'a> DeviceFrame<'a> {
    /// The next frame of what the receiver handed out; `None` at its end.
    pub(super) fn take(
        rest: &mut &'a [u8],
        log: &LogId,
        first: Offset,
        base_time: Micros,
    ) -> Option<Self> {
        let (frame, len) = Frame::parse(rest, log, Some(first)).ok()?;
        *rest = rest.get(len..)?;
        let mut taken = Self {
            frame,
            base_time,
            next: frame.end(),
            base_time_after: base_time,
        };
        if frame.header.form == Form::Compact {
            taken.base_time_after = taken.times().last().unwrap_or(base_time);
        }
        Some(taken)
    }

    /// What tells it from a frame of another past; a gap has nothing of the kind.
    fn crc(&self) -> Option<u32> {
        let header = &self.frame.header;
        (header.kind == Kind::Data).then_some(header.crc)
    }

    /// The running time behind each entry.
    fn times(&self) -> impl Iterator<Item = Micros> + use<'a> {
        let compact = self.frame.header.form == Form::Compact;
        let mut at = if compact {
            self.base_time
        } else {
            self.frame.header.time
        };
        let frame_time = at;
        self.frame.entries().map(move |(_, entry)| {
            let delta = entry.time().unwrap_or(0);
            at = match (compact, at.is_known()) {
                (_, false) => at,
                (true, true) => Micros::new(at.get().saturating_add(delta.saturating_mul(1000))),
                (false, true) => Micros::new(frame_time.get().saturating_add(delta)),
            };
            at
        })
    }

    /// The entries and, where the device knew it, their time.
    fn entries(&self) -> impl Iterator<Item = (Entry<'a>, Option<Micros>)> + use<'a> {
        let times = self.times();
        let entries = self.frame.entries();
        entries.zip(times).map(|((_, entry), time)| {
            let known = time.is_known() && entry.time().is_some();
            (entry, known.then_some(time))
        })
    }
}

impl<'a> Taken<'a> {
    fn put(&self, unit: &mut sedge_store::Unit<'_>) {
        match &self.entry {
            Entry::Record(record) => {
                unit.record(
                    self.time,
                    Some(&self.key),
                    &self.headers(record),
                    record.value,
                );
            }
            Entry::Notice(notice) => unit.notice(
                self.time,
                &Notice {
                    key: Some(&self.key),
                    ..*notice
                },
            ),
        }
    }

    /// The device's own. Where the gateway has something to say of the time, the name for that is the gateway's alone.
    fn headers(&self, record: &Record<'a>) -> Vec<(&'a str, &'a [u8])> {
        let Some(quality) = self.quality else {
            return record.headers.iter().collect();
        };
        let own = record.headers.iter().filter(|&(name, _)| name != QUALITY);
        own.chain([(QUALITY, quality.label().as_bytes())]).collect()
    }

    fn growth(&self) -> usize {
        self.key.len() + GROWTH + self.quality.map_or(0, |_| QUALITY_BYTES)
    }
}

impl Logbook {
    /// A device has said who it is, and how long it has been running.
    pub(super) fn meet(&mut self, identity: &str, clock: &Clock, now: Now) {
        if self.identity != identity {
            self.starts = Starts::default();
        }
        identity.clone_into(&mut self.identity);
        self.starts.hello(clock, now);
    }

    /// Where all records of this device go, whatever their keys: one place for its records and its cursor.
    pub(super) fn lane(&self, ingest: &Ingest, stream: &str) -> u16 {
        let lane = ingest
            .stream(stream)
            .map_or(0, |stream| stream.lane_of(self.identity.as_bytes()));
        u16::try_from(lane).unwrap_or(0)
    }

    /// Puts one frame into the batch as one unit, with the cursor behind it. How many records, and their bytes.
    pub(super) fn put(
        &mut self,
        (intake, lane): (&mut Intake, u16),
        log: &LogId,
        frame: &DeviceFrame<'_>,
        now: Now,
        telemetry: &Source,
    ) -> (u64, u64) {
        let mut item = [0; ITEM_BYTES_MAX];
        let item = cursor(log, frame.next, frame.crc(), &mut item);
        let taken: Vec<_> = frame
            .entries()
            .map(|(entry, time)| self.take(intake, entry, time, now, telemetry))
            .collect();
        let grown: usize = taken.iter().map(Taken::growth).sum();
        if intake.is_oversize(frame.frame.payload.len() + grown) {
            return self.put_oversize(intake, lane, frame, item);
        }
        let fill = |unit: &mut sedge_store::Unit<'_>| {
            taken.iter().for_each(|taken| taken.put(unit));
            if let Some(gap) = frame.frame.gap() {
                self.notice(unit, &gap);
            }
        };
        intake.unit(lane, fill, item);
        records(&taken).fold((0, 0), |(count, bytes), record| {
            (count + 1, bytes + record.value.len() as u64)
        })
    }

    /// What the gateway says of an entry: its key, and its time, if the device left that to the gateway.
    fn take<'a>(
        &mut self,
        intake: &mut Intake,
        entry: Entry<'a>,
        time: Option<Micros>,
        now: Now,
        telemetry: &Source,
    ) -> Taken<'a> {
        let key = self.key(intake, &entry, telemetry);
        let uptime = match &entry {
            Entry::Record(record) if time.is_none() => record.headers.find(uptime::HEADER),
            _ => None,
        };
        let stamp = uptime.map(|header| self.starts.stamp(header, now));
        Taken {
            entry,
            key,
            time: stamp.map_or(time, |stamp| stamp.time),
            quality: stamp.map(|stamp| stamp.quality),
        }
    }

    /// The device's own gap, told by a Gap message.
    pub(super) fn put_gap(&self, intake: &mut Intake, lane: u16, log: &LogId, gap: &Gap) {
        let mut item = [0; ITEM_BYTES_MAX];
        let item = cursor(log, gap.to, None, &mut item);
        intake.unit(lane, |unit| self.notice(unit, gap), item);
    }

    /// Burned offsets were never records: nothing is said of them, and the cursor passes them with what follows.
    fn notice(&self, unit: &mut sedge_store::Unit<'_>, gap: &Gap) {
        if gap.lost == 0 {
            return;
        }
        let notice = Notice {
            time: None,
            key: Some(self.identity.as_bytes()),
            cause: gap.cause,
            from: gap.from,
            to: gap.to,
            lost: gap.lost,
            when: gap.when,
        };
        let when = gap.when.is_known().then_some(gap.when);
        unit.notice(when, &notice);
    }

    /// A frame that this gateway's record limit cannot hold: its records go to the dead letters, and a notice takes their place.
    fn put_oversize(
        &self,
        intake: &mut Intake,
        lane: u16,
        frame: &DeviceFrame<'_>,
        item: &[u8],
    ) -> (u64, u64) {
        let mut lost = 0;
        for (entry, _) in frame.entries() {
            if let Entry::Record(record) = entry {
                lost += 1;
                intake.dead_letter(&DeadLetter {
                    reason: &Reason::Oversize,
                    source: "serial",
                    device: &self.identity,
                    topic: "",
                    payload: &Remains::of(record.value),
                });
            }
        }
        let gap = Gap {
            from: frame.frame.header.first,
            to: frame.next,
            lost,
            cause: Cause::Device,
            when: Micros::UNKNOWN,
            when_last: Micros::UNKNOWN,
        };
        intake.unit(lane, |unit| self.notice(unit, &gap), item);
        (0, 0)
    }

    /// The record's own key, else what the template makes of it, else the device.
    fn key(&self, intake: &mut Intake, entry: &Entry<'_>, telemetry: &Source) -> Vec<u8> {
        if let Some(key) = entry.key() {
            return key.to_vec();
        }
        let payload = match entry {
            Entry::Record(record) => record.value,
            Entry::Notice(_) => return self.identity.clone().into_bytes(),
        };
        let subject = Subject {
            topic: "",
            device: &self.identity,
            payload,
        };
        match intake.lane_of(&subject) {
            Ok(_) => intake.key().to_vec(),
            Err(_) => {
                telemetry.incident("bad-key");
                self.identity.clone().into_bytes()
            }
        }
    }
}

fn records<'t>(taken: &'t [Taken<'_>]) -> impl Iterator<Item = &'t Record<'t>> {
    taken.iter().filter_map(|taken| match &taken.entry {
        Entry::Record(record) => Some(record),
        Entry::Notice(_) => None,
    })
}

fn cursor<'b>(log: &LogId, next: Offset, crc_below: Option<u32>, into: &'b mut [u8]) -> &'b [u8] {
    let stood = Stood {
        log: *log.as_bytes(),
        next: next.get(),
        crc_below,
    };
    stood.encode(into)
}

/// What an entry grows by at most when its time becomes microseconds and it gets a key.
const GROWTH: usize = 16;
/// The header that says how good a time is that the gateway has found for a record. Named in docs/spec/log.md, section 5.
pub(super) const QUALITY: &str = "sedge-time";
/// The header count, two lengths, the name and the longest word.
const QUALITY_BYTES: usize = 3 + QUALITY.len() + 7;
