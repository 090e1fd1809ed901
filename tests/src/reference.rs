//! A second reader, written from docs/spec/log.md alone: slow, greedy with memory, and in no way built like the log's own.
//!
//! It shares the codecs of single frames and headers with the log, and nothing else.

use sedge_core::entry::Entry;
use sedge_core::frame::{Control, Form, Frame, Header, Kind};
use sedge_core::gap::Cause;
use sedge_core::ids::{LogId, Offset};
use sedge_core::ledger::Ledger;
use sedge_core::log::Tail;
use sedge_core::segment::{Geometry, Medium, OpenHeader, Role, STAMP_LEN, Stamp};

use crate::oracle::{Seen, Why};
use crate::reader::why;
use crate::sim::Sim;

/// What a medium holds.
#[derive(Debug)]
pub struct Reading {
    /// The log's id, if there is a log.
    pub log_id: Option<LogId>,
    /// The ledger that is latest in log order.
    pub ledger: Ledger,
    /// Everything from the ledger's oldest offset on.
    pub seen: Vec<Seen>,
    /// One past the last thing seen.
    pub end: u64,
    /// Whether the last frame says that the log was left in order.
    pub closed: bool,
}

struct Segment {
    seq: u64,
    log_id: LogId,
    base: u64,
    ledger: Ledger,
    data_start: usize,
    bytes: Vec<u8>,
}

/// Reads everything, as a log sees it that trusts its tail in this way.
#[must_use]
pub fn read<S: Sim>(sim: &mut S, geometry: &Geometry, tail: Tail) -> Reading {
    let mut segments: Vec<Segment> = (0..geometry.segment_count())
        .filter_map(|number| segment(sim, geometry, number))
        .collect();
    segments.sort_by_key(|segment| segment.seq);
    let log_id = segments.last().map(|head| head.log_id);
    segments.retain(|segment| Some(segment.log_id) == log_id);
    if tail == Tail::Fresh && geometry.medium() == Medium::Nor {
        // A header that may have been torn, with nothing behind it that says otherwise.
        let in_doubt = segments.len() > 1 && segments.last().is_some_and(Segment::is_unused);
        segments.truncate(segments.len() - usize::from(in_doubt));
    }
    let walks: Vec<Walk> = segments
        .iter()
        .enumerate()
        .map(|(at, segment)| {
            let limit = segments.get(at + 1).map(|next| next.base);
            Walk::new(geometry, segment, limit).finished()
        })
        .collect();
    let Some(head) = walks.last() else {
        return Reading {
            log_id,
            ledger: Ledger::default(),
            seen: Vec::new(),
            end: 0,
            closed: false,
        };
    };
    let ledger = head.ledger.clone();
    let seen = join(&segments, &walks, ledger.oldest.get());
    Reading {
        log_id,
        seen,
        end: head.expected.max(ledger.oldest.get()),
        closed: head.closed,
        ledger,
    }
}

/// The number of the head, and where its frames begin.
#[must_use]
pub fn head<S: Sim>(sim: &mut S, geometry: &Geometry) -> Option<(u32, u32)> {
    let opened = |number| {
        segment(sim, geometry, number).map(|segment| (segment.seq, number, segment.data_start))
    };
    let newest = (0..geometry.segment_count()).filter_map(opened).max();
    newest.map(|(_, number, data_start)| (number, data_start as u32))
}

/// The first offset of each segment that is part of the newest log, in its order.
#[must_use]
pub fn bases<S: Sim>(sim: &mut S, geometry: &Geometry) -> Vec<u64> {
    let segments = (0..geometry.segment_count()).filter_map(|at| segment(sim, geometry, at));
    let mut segments: Vec<Segment> = segments.collect();
    segments.sort_by_key(|segment| segment.seq);
    let log_id = segments.last().map(|head| head.log_id);
    segments.retain(|segment| Some(segment.log_id) == log_id);
    segments.iter().map(|segment| segment.base).collect()
}

fn join(segments: &[Segment], walks: &[Walk<'_>], oldest: u64) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut expected = oldest;
    for (segment, walk) in segments.iter().zip(walks) {
        if segment.base < oldest {
            continue;
        }
        push_corrupt(&mut seen, expected, segment.base);
        seen.extend(walk.seen.iter().cloned());
        expected = walk.expected;
    }
    seen
}

fn push_corrupt(seen: &mut Vec<Seen>, from: u64, to: u64) {
    if from < to {
        seen.push(Seen::Gap {
            from,
            to,
            lost: to - from,
            why: Why::Corrupt,
        });
    }
}

fn segment<S: Sim>(sim: &mut S, geometry: &Geometry, number: u32) -> Option<Segment> {
    let bytes = readable(sim, geometry, number);
    let stamp = Stamp::parse(bytes.first_chunk::<STAMP_LEN>()?);
    let (open, len) = OpenHeader::parse(&bytes[STAMP_LEN..])?;
    if stamp.is_ok_and(|stamp| open.erase_count != stamp.erase_count) {
        return None;
    }
    Some(Segment {
        seq: open.seq,
        log_id: open.log_id,
        base: open.base.get(),
        ledger: Ledger::parse(open.ledger)?,
        data_start: geometry.data_start(len as u32) as usize,
        bytes,
    })
}

impl Segment {
    /// Nothing stands behind the header, or only a RESUME frame.
    fn is_unused(&self) -> bool {
        let bytes = &self.bytes[self.data_start..];
        let behind = match Frame::parse(bytes, &self.log_id, Some(Offset::new(self.base))) {
            Ok((frame, len)) if frame.gap().is_some() => len,
            Ok(_) => return false,
            Err(_) => 64,
        };
        bytes[behind..].iter().all(|&byte| byte == 0xFF)
    }
}

/// The bytes of a segment, with something that passes no check where it cannot be read.
fn readable<S: Sim>(sim: &mut S, geometry: &Geometry, number: u32) -> Vec<u8> {
    let mut bytes = vec![0; geometry.segment_bytes() as usize];
    if sim.read(number, 0, &mut bytes).is_err() {
        let grain = sim.grain() as usize;
        for (at, piece) in bytes.chunks_mut(grain).enumerate() {
            if sim.read(number, (at * grain) as u32, piece).is_err() {
                piece.fill(0xA7);
            }
        }
    }
    bytes
}

struct Walk<'a> {
    geometry: &'a Geometry,
    segment: &'a Segment,
    limit: Option<u64>,
    position: usize,
    expected: u64,
    ledger: Ledger,
    closed: bool,
    seen: Vec<Seen>,
}

impl<'a> Walk<'a> {
    fn new(geometry: &'a Geometry, segment: &'a Segment, limit: Option<u64>) -> Self {
        Self {
            geometry,
            segment,
            limit,
            position: segment.data_start,
            expected: segment.base,
            ledger: segment.ledger.clone(),
            closed: false,
            seen: Vec::new(),
        }
    }

    fn finished(mut self) -> Self {
        while let Some((position, first)) = self.next_frame() {
            push_corrupt(&mut self.seen, self.expected, first);
            self.take(position, first);
        }
        if let Some(limit) = self.limit {
            push_corrupt(&mut self.seen, self.expected, limit);
            self.expected = self.expected.max(limit);
        }
        self
    }

    fn take(&mut self, position: usize, first: u64) {
        let Some((frame, len)) = self.frame_at(position, first) else {
            return;
        };
        self.closed = false;
        match frame.header.kind {
            Kind::Data => {
                for (offset, entry) in frame.entries() {
                    if let Entry::Record(record) = entry {
                        self.seen.push(Seen::Record {
                            offset: offset.get(),
                            value: record.value.to_vec(),
                        });
                    }
                }
            }
            Kind::Gap => {
                self.ledger.skipped += frame.span();
                self.seen.extend(frame.gap().map(|gap| Seen::Gap {
                    from: gap.from.get().max(self.expected),
                    to: gap.to.get(),
                    lost: gap.lost,
                    why: why(gap.cause),
                }));
            }
            Kind::Control => match frame.control() {
                Some(Control::Ledger(bytes)) => {
                    if let Some(ledger) = Ledger::parse(bytes) {
                        self.ledger = ledger;
                    }
                }
                Some(Control::Close) => self.closed = true,
                _ => {}
            },
        }
        self.expected = frame.end().get();
        self.position = self.round_up(position + len);
    }

    /// Where the next frame that counts stands, and with which first offset.
    fn next_frame(&self) -> Option<(usize, u64)> {
        let (at, expected) = (self.position, self.expected);
        if let Some((frame, _)) = self.frame_at(at, expected)
            && frame.header.first.get() == expected
        {
            return Some((at, expected));
        }
        match self.geometry.medium() {
            Medium::Nor => self
                .behind_one_corrupt_frame()
                .or_else(|| self.resume_on_grid()),
            Medium::File => self.search(),
        }
    }

    fn behind_one_corrupt_frame(&self) -> Option<(usize, u64)> {
        let header = Header::parse(
            self.segment.bytes.get(self.position..)?,
            Some(Offset::new(self.expected)),
        )
        .ok()?;
        let at = self.round_up(self.position + header.frame_len());
        let first = self.expected + u64::from(header.count);
        self.frame_at(at, first).map(|_| (at, first))
    }

    fn resume_on_grid(&self) -> Option<(usize, u64)> {
        let stride = self.geometry.grid_stride().get() as usize;
        (0..self.segment.bytes.len())
            .step_by(stride)
            .filter(|&at| at > self.position)
            .find_map(|at| {
                let (frame, _) = self.frame_at(at, self.expected)?;
                let resumes = frame.gap().is_some_and(|gap| gap.cause == Cause::Burned);
                resumes.then_some((at, self.expected))
            })
    }

    fn search(&self) -> Option<(usize, u64)> {
        let mut found = None;
        for at in self.position..self.segment.bytes.len() {
            let Some((frame, _)) = self.frame_at(at, self.expected) else {
                continue;
            };
            found = found.or(Some((at, frame.header.first.get())));
            if self.limit.is_some() || self.begins_a_commit(&frame) {
                return found;
            }
        }
        None
    }

    fn begins_a_commit(&self, frame: &Frame<'_>) -> bool {
        match self.geometry.role() {
            Role::Origin => frame.header.first_of_commit,
            Role::Mirror => matches!(frame.control(), Some(Control::Mark | Control::Close)),
        }
    }

    /// A valid frame of this log that does not begin below `expected` and ends within the segment's offsets.
    fn frame_at(&self, at: usize, expected: u64) -> Option<(Frame<'a>, usize)> {
        let bytes = self.segment.bytes.get(at..)?;
        let (frame, len) =
            Frame::parse(bytes, &self.segment.log_id, Some(Offset::new(expected))).ok()?;
        let fits = match frame.header.form {
            Form::Compact => self.geometry.medium() == Medium::Nor,
            Form::Explicit => self.geometry.medium() == Medium::File,
        };
        let in_range = frame.header.first.get() >= expected
            && self.limit.is_none_or(|limit| frame.end().get() <= limit);
        (fits && in_range).then_some((frame, len))
    }

    fn round_up(&self, position: usize) -> usize {
        position.next_multiple_of(self.geometry.write_unit() as usize)
    }
}
