//! What becomes of a device's frames in the gateway's log: records under the device's key, notices for its gaps, and the device
//! cursor beside them.
//!
//! Knows nothing of the line and of when things are durable.

use sedge_core::entry::{Entry, Notice};
use sedge_core::frame::{Form, Frame};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};

use crate::dead_letter::{DeadLetter, Reason, Remains};
use crate::ingest::{Ingest, Intake};
use crate::owner::{ITEM_BYTES_MAX, Item};
use crate::route::Subject;
use crate::telemetry::Source;

/// Who the device is.
#[derive(Debug, Default)]
pub(super) struct Logbook {
    identity: String,
}

/// One checked frame of a device, and the time at its begin and end.
#[derive(Clone, Copy, Debug)]
pub(super) struct DeviceFrame<'a> {
    frame: Frame<'a>,
    base_time: Micros,
    pub(super) next: Offset,
    pub(super) base_time_after: Micros,
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

    /// The entries with their offsets and, where the device knew it, their time.
    fn entries(&self) -> impl Iterator<Item = (Offset, Entry<'a>, Option<Micros>)> + use<'a> {
        let times = self.times();
        let entries = self.frame.entries();
        entries.zip(times).map(|((offset, entry), time)| {
            let known = time.is_known() && entry.time().is_some();
            (offset, entry, known.then_some(time))
        })
    }
}

impl Logbook {
    /// A device has said who it is.
    pub(super) fn meet(&mut self, identity: &str) {
        identity.clone_into(&mut self.identity);
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
        &self,
        intake: &mut Intake,
        lane: u16,
        log: &LogId,
        frame: &DeviceFrame<'_>,
        telemetry: &Source,
    ) -> (u64, u64) {
        let mut item = [0; ITEM_BYTES_MAX];
        let item = cursor(log, frame.next, &mut item);
        let keys: Vec<_> = frame
            .entries()
            .map(|(_, entry, _)| self.key(intake, &entry, telemetry))
            .collect();
        let grown: usize = keys.iter().map(|key| key.len() + GROWTH).sum();
        if intake.is_oversize(frame.frame.payload.len() + grown) {
            return self.put_oversize(intake, lane, frame, item);
        }
        let (mut count, mut bytes) = (0, 0);
        let fill = |unit: &mut sedge_store::Unit<'_>| {
            for ((_, entry, time), key) in frame.entries().zip(&keys) {
                match entry {
                    Entry::Record(record) => {
                        let headers: Vec<_> = record.headers.iter().collect();
                        unit.record(time, Some(key), &headers, record.value);
                        count += 1;
                        bytes += record.value.len() as u64;
                    }
                    Entry::Notice(notice) => unit.notice(
                        time,
                        &Notice {
                            key: Some(key),
                            ..notice
                        },
                    ),
                }
            }
            if let Some(gap) = frame.frame.gap() {
                self.notice(unit, &gap);
            }
        };
        intake.unit(lane, fill, item);
        (count, bytes)
    }

    /// The device's own gap, told by a Gap message.
    pub(super) fn put_gap(&self, intake: &mut Intake, lane: u16, log: &LogId, gap: &Gap) {
        let mut item = [0; ITEM_BYTES_MAX];
        let item = cursor(log, gap.to, &mut item);
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
        for (_, entry, _) in frame.entries() {
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

fn cursor<'b>(log: &LogId, next: Offset, into: &'b mut [u8]) -> &'b [u8] {
    let item = Item::DeviceCursor {
        log: *log.as_bytes(),
        next: next.get(),
    };
    item.encode(into)
}

/// What an entry grows by at most when its time becomes microseconds and it gets a key.
const GROWTH: usize = 16;
