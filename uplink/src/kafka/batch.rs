//! Batches of records, version 2: <https://kafka.apache.org/documentation/#recordbatch>. Written where a consumer reads, from frames.

use sedge_core::{crc, entry, varint};

use super::octets::{Writer, put_varint};
use crate::client::decode::{Missing, Seen, Sink};

/// Makes batches of what it is given.
#[derive(Debug)]
pub(crate) struct Batches {
    bytes: Vec<u8>,
    /// Epoch of the log that it all stands in.
    epoch: u32,
    shows_gaps: bool,
    open: Option<Open>,
    /// Where the last batch begins.
    last: Option<Last>,
    /// What is lost before the next record and has no offset of its own.
    before: Option<Missing>,
    /// Scratch for one record.
    record: Vec<u8>,
}

/// The batch that is being filled.
#[derive(Clone, Copy, Debug)]
struct Open {
    at: usize,
    first: u64,
    last: u64,
    time: i64,
    time_max: i64,
    count: i32,
}

/// The batch that was closed last.
#[derive(Clone, Copy, Debug)]
struct Last {
    at: usize,
    first: u64,
}

impl Batches {
    pub(crate) fn new(epoch: u32, shows_gaps: bool, room: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(room),
            epoch,
            shows_gaps,
            open: None,
            last: None,
            before: None,
            record: Vec::new(),
        }
    }

    /// All of it, up to `next`: whoever has read it goes on there, also if nothing stands right below.
    pub(crate) fn up_to(mut self, next: u64) -> Vec<u8> {
        let Some(last) = next.checked_sub(1) else {
            self.close();
            return self.bytes;
        };
        let stretched = self
            .open
            .as_mut()
            .map(|open| match last.checked_sub(open.first) {
                Some(delta) if is_delta(delta) => {
                    open.last = open.last.max(last);
                    true
                }
                Some(_) => false,
                None => true,
            });
        self.close();
        let reaches = stretched.unwrap_or_else(|| self.reaches(last));
        if !reaches {
            self.hole(last);
        }
        self.bytes
    }

    /// Whether the batch that was closed last can be made to end at `last`; then it does.
    fn reaches(&mut self, last: u64) -> bool {
        let Some(Last { at, first }) = self.last else {
            return false;
        };
        let Some(delta) = last.checked_sub(first).filter(|delta| is_delta(*delta)) else {
            return last < first;
        };
        let delta = (delta as i32).to_be_bytes();
        self.bytes[at + DELTA_AT..at + DELTA_AT + 4].copy_from_slice(&delta);
        self.seal(at);
        true
    }

    /// A batch without records, which ends at `last`.
    fn hole(&mut self, last: u64) {
        self.open = Some(Open::new(self.bytes.len(), last, NO_TIME));
        self.bytes.resize(self.bytes.len() + HEAD_BYTES, 0);
        self.close();
    }

    fn put(
        &mut self,
        offset: u64,
        time: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, &[u8])],
        more: entry::Headers<'_>,
    ) {
        let is_full = |open: &Open, len: usize| {
            len - open.at >= BATCH_BYTES || !offset.checked_sub(open.first).is_some_and(is_delta)
        };
        if self
            .open
            .is_some_and(|open| is_full(&open, self.bytes.len()))
        {
            self.close();
        }
        let open = match self.open {
            Some(open) => open,
            None => {
                let open = Open::new(self.bytes.len(), offset, time);
                self.bytes.resize(self.bytes.len() + HEAD_BYTES, 0);
                open
            }
        };
        let record = &mut self.record;
        record.clear();
        record.push(0);
        signed(record, time.wrapping_sub(open.time));
        signed(record, (offset - open.first) as i64);
        octets(record, key);
        octets(record, value);
        signed(record, (headers.len() + more.iter().count()) as i64);
        for (name, value) in headers.iter().copied().chain(more.iter()) {
            octets(record, Some(name.as_bytes()));
            octets(record, Some(value));
        }
        signed(&mut self.bytes, record.len() as i64);
        self.bytes.extend_from_slice(&self.record);
        self.open = Some(Open {
            last: offset,
            time_max: open.time_max.max(time),
            count: open.count + 1,
            ..open
        });
    }

    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        let len = self.bytes.len() - open.at;
        let mut head = Writer::on(Vec::with_capacity(HEAD_BYTES));
        head.i64(open.first.cast_signed());
        head.i32((len - NOT_COUNTED_BYTES) as i32);
        head.i32(self.epoch.cast_signed());
        // The version of batches; the checksum comes when the rest stands.
        head.i8(2);
        head.i32(0);
        head.i16(0);
        head.i32((open.last - open.first) as i32);
        head.i64(open.time);
        head.i64(open.time_max);
        // No producer: its id, epoch and sequence.
        head.i64(-1);
        head.i16(-1);
        head.i32(-1);
        head.i32(open.count);
        self.bytes[open.at..open.at + HEAD_BYTES].copy_from_slice(&head.into_bytes());
        self.last = Some(Last {
            at: open.at,
            first: open.first,
        });
        self.seal(open.at);
    }

    /// Puts the checksum into the last batch, which begins at `at`.
    fn seal(&mut self, at: usize) {
        let sum = crc::crc32c(&self.bytes[at + CRC_AT + 4..]);
        self.bytes[at + CRC_AT..at + CRC_AT + 4].copy_from_slice(&sum.to_be_bytes());
    }
}

impl Open {
    const fn new(at: usize, first: u64, time: i64) -> Self {
        Self {
            at,
            first,
            last: first,
            time,
            time_max: time,
            count: 0,
        }
    }
}

impl Sink for Batches {
    fn record(&mut self, seen: &Seen, record: &entry::Record<'_>) {
        let time = seen.time.or(seen.ingested).map_or(NO_TIME, millis);
        let clock = seen.clock.map(|clock| clock.name());
        let before = self.before.take().map(|missing| told(&missing));
        let mut extra: Vec<(&str, &[u8])> = Vec::new();
        if let Some(clock) = clock {
            extra.push((CLOCK, clock.as_bytes()));
        }
        if let Some(before) = &before {
            extra.push((GAP_BEFORE, before.as_bytes()));
        }
        self.put(
            seen.offset,
            time,
            record.key,
            Some(record.value),
            &extra,
            record.headers,
        );
    }

    fn gap(&mut self, missing: &Missing) {
        if !self.shows_gaps {
            return;
        }
        if missing.from == missing.to {
            self.before = Some(*missing).filter(|missing| missing.lost > 0);
            return;
        }
        let time = missing.when.map_or(NO_TIME, millis);
        let told = told(missing);
        let headers = [(GAP, told.as_bytes())];
        self.put(
            missing.from,
            time,
            None,
            None,
            &headers,
            entry::Headers::NONE,
        );
    }
}

/// What a gap is, as JSON.
fn told(missing: &Missing) -> String {
    serde_json::json!({
        "from": missing.from,
        "to": missing.to,
        "lost": missing.lost,
        "cause": missing.cause.name(),
    })
    .to_string()
}

fn millis(micros: i64) -> i64 {
    micros.div_euclid(1_000)
}

fn is_delta(offsets: u64) -> bool {
    i32::try_from(offsets).is_ok()
}

/// A number whose magnitude is mostly small.
fn signed(into: &mut Vec<u8>, value: i64) {
    put_varint(into, varint::zigzag(value));
}

fn octets(into: &mut Vec<u8>, octets: Option<&[u8]>) {
    match octets {
        Some(octets) => {
            signed(into, octets.len() as i64);
            into.extend_from_slice(octets);
        }
        None => signed(into, -1),
    }
}

/// Header of a record that stands for a gap, and of the first one behind a gap that has no offset of its own.
const GAP: &str = "sedge-gap";
const GAP_BEFORE: &str = "sedge-gap-before";
/// Header of a record that was taken without a clock.
const CLOCK: &str = "sedge-clock";
const NO_TIME: i64 = -1;
const HEAD_BYTES: usize = 61;
/// What a batch's length does not count: its first offset, and the length itself.
const NOT_COUNTED_BYTES: usize = 12;
const CRC_AT: usize = 17;
const DELTA_AT: usize = 23;
/// A batch is closed when it has grown beyond this.
const BATCH_BYTES: usize = 64 * 1024;
