//! Looks at the flash of a microcontroller as a probe read it out: where the log stands in it, what each segment says, and what the device would make of it.
//!
//! The image is only read; the log is opened, with the core's own code, in a copy. Nothing here knows a chip: what it can tell stands in the bytes.

mod place;

use std::cmp::Reverse;

use sedge_core::blocking::{Desk, look};
use sedge_core::driver::Ram;
use sedge_core::entry::{Entry, Record};
use sedge_core::frame::{Control, Kind};
use sedge_core::ledger::Ledger;
use sedge_core::log::{Fresh, Log, OpenError, Opened, Options, Recovered, Slot, WhenFull};
use sedge_core::read::{Read, Reader};
use sedge_core::segment::{OpenHeader, STAMP_LEN, Stamp};
use sedge_core::walk::{End, Found, Step, Walk, Window};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use serde::Serialize;

use crate::inspect::{LogReport, SegmentReport, Sum, known};
pub use place::FlashImageError;
use place::Place;

/// What is known beside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct FlashHints {
    /// Where in the image the log begins; found by its stamps if it is not given.
    pub start: Option<usize>,
    /// For a log without one good stamp: bytes of a segment.
    pub segment_bytes: Option<u32>,
    /// And its write unit.
    pub write_unit: u32,
    /// And its largest frame.
    pub frame_bytes_max: u32,
}

/// A log in an image.
#[derive(Debug)]
pub struct FlashImage<'i> {
    image: &'i [u8],
    place: Place,
}

/// What stands in an image.
#[derive(Clone, Debug, Serialize)]
pub struct FlashReport {
    /// Bytes of the image.
    pub bytes: usize,
    /// Where in it the log begins.
    pub start: usize,
    /// How that is known: `given`, by the `stamps`, by the `sequences` in the open headers because the first stamps are gone, or by the first of the `headers`.
    pub start_from: &'static str,
    /// The dimensions.
    pub geometry: GeometryReport,
    /// The log, as the device has it once it is opened; none if it would begin a new one.
    pub log: Option<LogReport>,
    /// All segments, by number.
    pub segments: Vec<SegmentReport>,
    /// What a device does that opens this.
    pub open: OpenReport,
}

/// Dimensions, as plain numbers.
#[derive(Clone, Debug, Serialize)]
#[expect(
    missing_docs,
    reason = "the fields are those of the log's dimensions, but one"
)]
pub struct GeometryReport {
    pub write_unit: u32,
    pub segment_bytes: u32,
    pub segment_count: u32,
    pub frame_bytes_max: u32,
    pub commit_offsets_max: u32,
    /// They stand in a stamp; else they were given.
    pub stamped: bool,
}

/// What the open of a log says ([`Recovered`]), or why there is none.
#[derive(Clone, Debug, Default, Serialize)]
#[expect(
    missing_docs,
    reason = "the fields are those of `Recovered`, but three"
)]
pub struct OpenReport {
    /// It would be refused, and why.
    pub refused: Option<String>,
    pub formatted: bool,
    pub clean: bool,
    pub burned: u64,
    pub unreadable_segments: u32,
    pub recounted: bool,
    pub lost_head: Option<LostHeadReport>,
    /// The offset that the next record gets.
    pub next: u64,
    /// Whether the open itself writes.
    pub writes: bool,
}

/// A head whose beginning is damaged, as plain numbers.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of `LostHead`")]
pub struct LostHeadReport {
    pub segment: u32,
    pub from: u64,
    pub to: u64,
    pub lost: u64,
}

/// What a reader of the log meets.
#[derive(Clone, Copy, Debug)]
pub enum FlashItem<'r> {
    /// A record.
    Record {
        /// Its offset.
        offset: Offset,
        /// When it was made, if the device knew.
        time: Micros,
        /// The record.
        record: Record<'r>,
    },
    /// Offsets without records.
    Gap(Gap),
}

type CopyLog = Log<Ram<Vec<u8>>, Vec<u8>>;

impl<'i> FlashImage<'i> {
    /// Finds the log in `image`.
    ///
    /// # Errors
    /// When there is none, or not one whole.
    pub fn find(image: &'i [u8], hints: &FlashHints) -> Result<Self, FlashImageError> {
        let place = Place::find(image, hints)?;
        Ok(Self { image, place })
    }

    /// What stands in it.
    #[must_use]
    pub fn report(&self) -> FlashReport {
        let geometry = self.place.geometry;
        let opened = self.open();
        let open = self.open_report(&opened);
        let (bytes, ledger, log_id) = match opened {
            Ok((log, found)) if !found.formatted => {
                let (ledger, log_id) = (log.ledger().clone(), log.log_id());
                (log.into_media().into_inner(), Some(ledger), Some(log_id))
            }
            _ => (self.region().to_vec(), None, None),
        };
        let mut segments = self.slots();
        let log_id = log_id.or_else(|| newest(&segments).map(|opened| opened.log_id));
        let log = log_id.map(|log_id| {
            let ledger = ledger.unwrap_or_else(|| self.ledger_in_head(&bytes, &segments));
            self.sum(&bytes, log_id, ledger, &mut segments)
        });
        let dimensions = geometry.dimensions();
        FlashReport {
            bytes: self.image.len(),
            start: self.place.start,
            start_from: self.place.start_from,
            geometry: GeometryReport {
                write_unit: dimensions.write_unit,
                segment_bytes: dimensions.segment_bytes,
                segment_count: dimensions.segment_count,
                frame_bytes_max: dimensions.frame_bytes_max,
                commit_offsets_max: dimensions.commit_offsets_max,
                stamped: self.place.stamped,
            },
            log,
            segments: segments.into_iter().map(|looked| looked.report).collect(),
            open,
        }
    }

    /// Shows all that is held, in order, gaps in their place, as the device would hand it over. A log that would be formatted holds nothing.
    ///
    /// # Errors
    /// Why the device would not open the log.
    pub fn read(&self, mut each: impl FnMut(FlashItem<'_>)) -> Result<(), String> {
        let (mut log, found) = self.open()?;
        if found.formatted {
            return Ok(());
        }
        let mut reader = Reader::new(log.log_id(), *log.geometry(), Offset::ZERO);
        let lost = log.ledger().gap_before_oldest(Offset::ZERO, None);
        loop {
            match log.read(&mut reader) {
                Read::Frame {
                    frame, base_time, ..
                } => match frame.gap() {
                    Some(gap) => each(FlashItem::Gap(gap)),
                    None => show(frame.entries(), base_time, &mut each),
                },
                Read::Gap(gap) => each(FlashItem::Gap(gap)),
                Read::Evicted { .. } => lost.into_iter().for_each(|gap| each(FlashItem::Gap(gap))),
                Read::Overtaken | Read::CaughtUp => return Ok(()),
            }
        }
    }

    /// The bytes of the log.
    fn region(&self) -> &'i [u8] {
        let end = usize::try_from(self.place.end()).expect("the image is as long");
        &self.image[self.place.start..end]
    }

    /// Opens the log in a copy. A device may be built otherwise than the stamps say; then it says something else.
    fn open(&self) -> Result<(CopyLog, Recovered), String> {
        let geometry = self.place.geometry;
        let ram = Ram::new(self.region().to_vec(), geometry.segment_bytes());
        let fresh = Fresh {
            log_id: LogId::new([0; 16]),
            now: Micros::UNKNOWN,
            boot: 0,
        };
        let options = Options::new(geometry, WhenFull::EvictOldest);
        Log::open(ram, options, fresh, vec![0; self.scratch_bytes()]).map_err(|error| match error {
            OpenError::Refused(refusal) => refusal.to_string(),
            other => other.to_string(),
        })
    }

    fn open_report(&self, opened: &Result<(CopyLog, Recovered), String>) -> OpenReport {
        let (log, found) = match opened {
            Ok(opened) => opened,
            Err(why) => {
                return OpenReport {
                    refused: Some(why.clone()),
                    ..OpenReport::default()
                };
            }
        };
        OpenReport {
            refused: None,
            formatted: found.formatted,
            clean: found.clean,
            burned: found.burned,
            unreadable_segments: found.unreadable_segments,
            recounted: found.recounted,
            lost_head: found.lost_head.as_ref().map(|lost| LostHeadReport {
                segment: lost.segment,
                from: lost.from.get(),
                to: lost.to.get(),
                lost: lost.lost,
            }),
            next: log.next().get(),
            writes: log.media().clone().into_inner() != self.region(),
        }
    }

    /// What stands before the frames of each segment.
    fn slots(&self) -> Vec<Looked> {
        let geometry = self.place.geometry;
        let mut ram = Ram::new(self.region().to_vec(), geometry.segment_bytes());
        let mut scratch = vec![0; self.scratch_bytes()];
        let mut desk = Desk {
            media: &mut ram,
            scratch: &mut scratch,
        };
        let segments = self.region().chunks(geometry.segment_bytes() as usize);
        let numbered = (0..).zip(segments);
        numbered
            .map(|(segment, bytes)| {
                let slot = look(&mut desk, segment, &geometry);
                let state = match slot {
                    Err(_) => "refused",
                    Ok(Slot::Open(_)) => "other-log",
                    Ok(Slot::Spare { .. }) => "spare",
                    Ok(Slot::Unready { .. }) if bytes.iter().all(|&byte| byte == 0xFF) => "blank",
                    Ok(Slot::Unready { .. }) => "unready",
                };
                Looked::new(segment, bytes.len(), state, slot.ok().as_ref())
            })
            .collect()
    }

    /// The ledger that the newest head says, where the core says none.
    fn ledger_in_head(&self, bytes: &[u8], segments: &[Looked]) -> Ledger {
        let Some((segment, head)) = newest_of(segments) else {
            return Ledger::default();
        };
        let bytes = self.segment(bytes, segment);
        let header = OpenHeader::parse(&bytes[STAMP_LEN..]);
        let mut ledger = header
            .and_then(|(header, _)| Ledger::parse(header.ledger))
            .unwrap_or_default();
        walk(bytes, &head, None, |found| {
            match (found.frame.control(), found.frame.header.kind) {
                (Some(Control::Ledger(said)), _) => {
                    ledger = Ledger::parse(said).unwrap_or_else(|| ledger.clone());
                }
                (_, Kind::Gap) => ledger.skipped += found.frame.span(),
                _ => {}
            }
        });
        ledger
    }

    /// Walks the segments of one log and adds them up.
    fn sum(
        &self,
        bytes: &[u8],
        log_id: LogId,
        ledger: Ledger,
        segments: &mut [Looked],
    ) -> LogReport {
        let mut chain: Vec<(usize, Opened)> = segments
            .iter()
            .enumerate()
            .filter_map(|(at, looked)| Some((at, looked.opened?)))
            .filter(|(_, opened)| opened.log_id == log_id)
            .collect();
        // Of two segments with one sequence number, one has got a copy of the other's header, and the log goes on in the longer.
        let numbers: Vec<u64> = chain.iter().map(|(_, opened)| opened.seq).collect();
        chain.sort_by_cached_key(|(at, opened)| {
            let is_told_twice = numbers.iter().filter(|seq| **seq == opened.seq).count() > 1;
            let end = is_told_twice
                .then(|| walk(self.segment(bytes, *at), opened, None, |_| {}).expected);
            (opened.seq, end, Reverse(*at))
        });
        let bases = chain.iter().skip(1).map(|(_, opened)| Some(opened.base));
        let ends: Vec<Option<Offset>> = bases.chain([None]).collect();
        let mut sum = Sum::new(ledger);
        for (&(at, opened), end) in chain.iter().zip(ends) {
            let report = &mut segments[at].report;
            if end.is_some_and(|end| end <= sum.ledger.oldest || end <= opened.base) {
                report.state = "recycled";
                continue;
            }
            report.state = "held";
            sum.begin(opened.base);
            let end = walk(self.segment(bytes, at), &opened, end, |found| {
                report.take(found);
                sum.take(found);
            });
            sum.finish(end, report);
        }
        sum.into_report(log_id, self.place.geometry.role())
    }

    fn segment<'b>(&self, bytes: &'b [u8], segment: usize) -> &'b [u8] {
        let len = self.place.geometry.segment_bytes() as usize;
        &bytes[segment * len..][..len]
    }

    /// What the device needs, and what segments need that were written with a larger frame.
    fn scratch_bytes(&self) -> usize {
        let geometry = self.place.geometry;
        let segments = self.region().chunks(geometry.segment_bytes() as usize);
        let stamps = segments.filter_map(|segment| Stamp::parse(segment.first_chunk()?).ok());
        let needed = stamps.map(|stamp| stamp.geometry.scratch_bytes());
        needed.fold(geometry.scratch_bytes(), usize::max)
    }
}

/// A segment and what stands before its frames.
struct Looked {
    opened: Option<Opened>,
    report: SegmentReport,
}

impl Looked {
    fn new(segment: u32, bytes: usize, state: &'static str, slot: Option<&Slot>) -> Self {
        let opened = match slot {
            Some(Slot::Open(opened)) => Some(*opened),
            _ => None,
        };
        let erased = slot.map(Slot::erase_count);
        let report = SegmentReport {
            segment,
            bytes: bytes as u64,
            state,
            erase_count: erased.filter(|&count| count > 0),
            seq: opened.map(|opened| opened.seq),
            base: opened.map(|opened| opened.base.get()),
            next: None,
            opened: opened.and_then(|opened| known(opened.base_time)),
            frames: 0,
            entries: 0,
            used: 0,
        };
        Self { opened, report }
    }
}

fn newest_of(segments: &[Looked]) -> Option<(usize, Opened)> {
    let opened = segments
        .iter()
        .enumerate()
        .filter_map(|(at, looked)| Some((at, looked.opened?)));
    opened.max_by_key(|(_, opened)| opened.seq)
}

fn newest(segments: &[Looked]) -> Option<Opened> {
    newest_of(segments).map(|(_, opened)| opened)
}

/// Walks the frames of one segment.
fn walk(
    bytes: &[u8],
    opened: &Opened,
    limit: Option<Offset>,
    mut each: impl FnMut(&Found<'_>),
) -> End {
    let Opened {
        log_id,
        geometry,
        data_start,
        base,
        ..
    } = *opened;
    let mut walk = Walk::new(log_id, geometry, data_start, base, limit);
    let window = Window { position: 0, bytes };
    loop {
        match walk.step(window) {
            Step::Frame(found) => each(&found),
            Step::End(end) => return end,
            Step::Read { position, len } => {
                unreachable!("a walk asks for what the segment has: {len} bytes at {position}")
            }
        }
    }
}

/// Shows the entries of a compact frame, whose times count from one to the next.
fn show<'r>(
    entries: impl Iterator<Item = (Offset, Entry<'r>)>,
    base_time: Micros,
    each: &mut impl FnMut(FlashItem<'_>),
) {
    let mut time = base_time;
    for (offset, entry) in entries {
        let told = entry.time().filter(|_| time.is_known());
        if let Some(millis) = told {
            time = Micros::new(time.get().saturating_add(millis.saturating_mul(1000)));
        }
        match entry {
            Entry::Record(record) => each(FlashItem::Record {
                offset,
                time: told.map_or(Micros::UNKNOWN, |_| time),
                record,
            }),
            Entry::Notice(notice) => each(FlashItem::Gap(Gap {
                from: offset,
                to: offset + 1,
                lost: notice.lost,
                cause: Cause::Device,
                when: notice.when,
                when_last: notice.when,
            })),
        }
    }
}
