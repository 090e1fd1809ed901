//! Where in the bytes of a chip a log stands, and with which dimensions: told by the stamps of its segments, or by whoever asks.
//!
//! ```text
//! image   … other things … | stamp, segment 0 | stamp, segment 1 | …
//!                          ^ start            ^ start + segment_bytes
//! ```
//! A stamp does not say which segment it belongs to. If the first one is damaged, the sequences in the open headers tell, since a ring is opened in order.

use sedge_core::segment::{
    BadGeometry, BadStamp, Dimensions, Geometry, Medium, OpenHeader, Role, STAMP_LEN, Stamp,
};

use super::FlashHints;

/// A log's place in an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where segment 0 begins.
    pub(super) start: usize,
    /// How the start is known.
    pub(super) start_from: &'static str,
    pub(super) geometry: Geometry,
    /// Whether the dimensions stand in a stamp.
    pub(super) stamped: bool,
}

/// Why nothing can be said about an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlashImageError {
    /// The file has no bytes.
    #[error("the image is empty: there is not one byte of flash in it")]
    Empty,
    /// No log is so small.
    #[error(
        "the image has {bytes} bytes, and the smallest log takes {LOG_BYTES_MIN} (3 segments of {SEGMENT_BYTES_MIN})"
    )]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// The log is said to begin where nothing is.
    #[error("the log is said to begin at {start:#x}, and the image ends at {bytes:#x}")]
    StartBeyond {
        /// Where.
        start: usize,
        /// Bytes of the image.
        bytes: usize,
    },
    /// No segment's stamp was found.
    #[error("{}", no_stamp(*.from, *.to, *.damaged, *.filled))]
    NoStamp {
        /// Where the search began.
        from: usize,
        /// Where it ended.
        to: usize,
        /// The first place that begins like a stamp and does not pass its check, and how many there are.
        damaged: Option<(usize, usize)>,
        /// The byte that the whole range is filled with, if it is.
        filled: Option<u8>,
    },
    /// A later version of sedge wrote this.
    #[error(
        "the segment at {at:#x} has format version {version}, which is newer than this program: read it with a newer sedge"
    )]
    Newer {
        /// Where the stamp stands.
        at: usize,
        /// The version in it.
        version: u8,
    },
    /// The stamp is that of a segment file.
    #[error(
        "the segment at {at:#x} belongs to a log on files, not on flash: give its directory to `sedge inspect`"
    )]
    OnFiles {
        /// Where the stamp stands.
        at: usize,
    },
    /// There are stamps, and none of them where they were said to be.
    #[error(
        "no stamp stands where a segment of a log from {start:#x} on would begin; stamps stand at {}",
        addresses(.found)
    )]
    StartBetween {
        /// Where the log was said to begin.
        start: usize,
        /// Where stamps are.
        found: Vec<usize>,
    },
    /// There are stamps that cannot belong to one log.
    #[error("the image holds segments of {} logs; say which one with --start: {}", .firsts.len(), addresses(.firsts))]
    Several {
        /// The first stamp of each.
        firsts: Vec<usize>,
    },
    /// The image ends before the log does.
    #[error(
        "the image ends at {ends:#x}, {into} bytes into segment {segment} of {segments}; the log takes {start:#x} to {needed:#x}: read out the rest"
    )]
    Truncated {
        /// The segment that is not whole.
        segment: usize,
        /// How many bytes of it are there.
        into: usize,
        /// How many segments the log has.
        segments: u32,
        /// Where the log begins.
        start: usize,
        /// Bytes of the image.
        ends: usize,
        /// Where the log ends.
        needed: u64,
    },
    /// No log has the dimensions that were given.
    #[error("no log has these dimensions: {0}")]
    Geometry(BadGeometry),
}

impl Place {
    pub(super) fn find(image: &[u8], hints: &FlashHints) -> Result<Self, FlashImageError> {
        if image.is_empty() {
            return Err(FlashImageError::Empty);
        }
        if image.len() < LOG_BYTES_MIN {
            return Err(FlashImageError::Short { bytes: image.len() });
        }
        if let Some(start) = hints.start.filter(|&start| start >= image.len()) {
            let bytes = image.len();
            return Err(FlashImageError::StartBeyond { start, bytes });
        }
        let seen = Seen::in_image(image, hints.start.unwrap_or(0));
        let place = match hints.segment_bytes {
            Some(segment_bytes) => Self::told(image, hints, segment_bytes, &seen)?,
            None => Self::stamped(image, hints, &seen)?,
        };
        place.is_whole(image.len())?;
        Ok(place)
    }

    /// The place that the stamps tell.
    fn stamped(image: &[u8], hints: &FlashHints, seen: &Seen) -> Result<Self, FlashImageError> {
        let rows = seen.rows(hints.start);
        let row = match (rows.as_slice(), hints.start) {
            ([], _) => return Err(seen.nothing(image, hints.start.unwrap_or(0))),
            ([row], _) => row,
            // What begins right there is meant.
            (rows, Some(start)) => rows
                .iter()
                .find(|row| row.first == start)
                .ok_or_else(|| several(rows))?,
            (rows, None) => return Err(several(rows)),
        };
        let geometry = row.geometry(image);
        let (start, start_from) = match hints.start {
            Some(start) => (start, "given"),
            None => row.start(image, &geometry),
        };
        Ok(Self {
            start,
            start_from,
            geometry,
            stamped: true,
        })
    }

    /// The place that was told, where no stamp can tell.
    fn told(
        image: &[u8],
        hints: &FlashHints,
        segment_bytes: u32,
        seen: &Seen,
    ) -> Result<Self, FlashImageError> {
        let start = hints
            .start
            .or_else(|| first_header(image))
            .ok_or_else(|| seen.nothing(image, 0))?;
        let room = image.len() - start;
        let segments = (room / (segment_bytes as usize).max(1)).max(3);
        let dimensions = Dimensions {
            medium: Medium::Nor,
            role: Role::Origin,
            write_unit: hints.write_unit,
            segment_bytes,
            segment_count: u32::try_from(segments).unwrap_or(u32::MAX),
            frame_bytes_max: hints.frame_bytes_max,
            commit_offsets_max: COMMIT_OFFSETS_MAX,
        };
        let geometry = Geometry::new(dimensions).map_err(FlashImageError::Geometry)?;
        Ok(Self {
            start,
            start_from: if hints.start.is_some() {
                "given"
            } else {
                "headers"
            },
            geometry,
            stamped: false,
        })
    }

    /// One past the last byte of the log.
    pub(super) fn end(&self) -> u64 {
        let (segments, bytes) = (self.geometry.segment_count(), self.geometry.segment_bytes());
        self.start as u64 + u64::from(segments) * u64::from(bytes)
    }

    fn is_whole(&self, bytes: usize) -> Result<(), FlashImageError> {
        if bytes as u64 >= self.end() {
            return Ok(());
        }
        let there = bytes.saturating_sub(self.start);
        let segment_bytes = self.geometry.segment_bytes() as usize;
        Err(FlashImageError::Truncated {
            segment: there / segment_bytes,
            into: there % segment_bytes,
            segments: self.geometry.segment_count(),
            start: self.start,
            ends: bytes,
            needed: self.end(),
        })
    }
}

/// Everything in an image that looks like a stamp.
#[derive(Default)]
struct Seen {
    /// Stamps of logs on flash.
    good: Vec<(usize, Stamp)>,
    on_files: Option<usize>,
    newer: Option<(usize, u8)>,
    damaged: Vec<usize>,
}

/// Stamps that may belong to one log: their distances are whole segments.
struct Row {
    first: usize,
    stamps: Vec<(usize, Stamp)>,
}

impl Seen {
    fn in_image(image: &[u8], from: usize) -> Self {
        let mut seen = Self::default();
        let places = image.windows(STAMP_LEN).enumerate();
        for (at, bytes) in places.filter(|(_, bytes)| bytes.starts_with(STAMP_MAGIC)) {
            let bytes: &[u8; STAMP_LEN] = bytes.try_into().expect("a window of this size");
            match Stamp::parse(bytes) {
                Ok(stamp) if stamp.geometry.medium() == Medium::Nor => seen.good.push((at, stamp)),
                _ if at < from => {}
                Ok(_) => seen.on_files = seen.on_files.or(Some(at)),
                Err(BadStamp::Newer(version)) => seen.newer = seen.newer.or(Some((at, version))),
                Err(BadStamp::Corrupt) => seen.damaged.push(at),
            }
        }
        seen
    }

    /// The rows of stamps; those that fit a log from `start` on, if that is known.
    fn rows(&self, start: Option<usize>) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        for &(at, stamp) in &self.good {
            let bytes = stamp.geometry.segment_bytes() as usize;
            let fits = |from: usize| at >= from && (at - from).is_multiple_of(bytes);
            if start.is_some_and(|start| !fits(start)) {
                continue;
            }
            let same = |row: &&mut Row| {
                fits(row.first) && row.stamps[0].1.geometry.segment_bytes() as usize == bytes
            };
            match rows.iter_mut().find(same) {
                Some(row) => row.stamps.push((at, stamp)),
                None => rows.push(Row {
                    first: at,
                    stamps: vec![(at, stamp)],
                }),
            }
        }
        rows
    }

    /// Why there is no row.
    fn nothing(&self, image: &[u8], from: usize) -> FlashImageError {
        if !self.good.is_empty() {
            return FlashImageError::StartBetween {
                start: from,
                found: self.good.iter().map(|(at, _)| *at).collect(),
            };
        }
        if let Some((at, version)) = self.newer {
            return FlashImageError::Newer { at, version };
        }
        if let Some(at) = self.on_files {
            return FlashImageError::OnFiles { at };
        }
        let bytes = &image[from..];
        let filled = bytes
            .first()
            .copied()
            .filter(|first| bytes.iter().all(|byte| byte == first));
        FlashImageError::NoStamp {
            from,
            to: image.len(),
            damaged: self.damaged.first().map(|&at| (at, self.damaged.len())),
            filled,
        }
    }
}

impl Row {
    /// The dimensions in the stamp of the segment that was opened last, which are those that the device was last built with.
    fn geometry(&self, image: &[u8]) -> Geometry {
        let seq_at = |at: usize| header_at(image, at).map(|header| header.seq);
        let newest = self.stamps.iter().max_by_key(|(at, _)| seq_at(*at));
        newest
            .map(|(_, stamp)| stamp.geometry)
            .expect("a row begins with a stamp")
    }

    /// Where the log begins: where most sequences fit, and at the first stamp if they do not tell.
    fn start(&self, image: &[u8], geometry: &Geometry) -> (usize, &'static str) {
        let bytes = geometry.segment_bytes() as usize;
        let count = geometry.segment_count() as usize;
        let last = self.stamps.last().map_or(self.first, |(at, _)| *at);
        let spare = count.saturating_sub((last - self.first) / bytes + 1);
        let before = spare.min(self.first / bytes);
        let fitting = |start: usize| {
            let fits = |at: usize, seq: u64| {
                let index = (at - start) / bytes;
                seq.saturating_sub(1) % count as u64 == index as u64
            };
            let headers = self.stamps.iter().filter_map(|(at, _)| {
                let header = header_at(image, *at)?;
                Some((*at, header.seq))
            });
            let is_whole = start + count * bytes <= image.len();
            (headers.filter(|&(at, seq)| fits(at, seq)).count(), is_whole)
        };
        // Of equals the last is taken.
        let starts = (0..=before)
            .rev()
            .map(|segments| self.first - segments * bytes);
        let start = starts.max_by_key(|&start| fitting(start));
        let start = start.unwrap_or(self.first);
        let how = if start == self.first {
            "stamps"
        } else {
            "sequences"
        };
        (start, how)
    }
}

/// The open header of a segment that begins at `at`.
fn header_at(image: &[u8], at: usize) -> Option<OpenHeader<'_>> {
    let (header, _) = OpenHeader::parse(image.get(at + STAMP_LEN..)?)?;
    Some(header)
}

/// Where the first segment with a valid open header begins.
fn first_header(image: &[u8]) -> Option<usize> {
    let last = image.len().checked_sub(STAMP_LEN)?;
    (0..last).find(|&at| {
        let begins = image[at + STAMP_LEN..].starts_with(OPEN_MAGIC);
        begins && header_at(image, at).is_some()
    })
}

fn several(rows: &[Row]) -> FlashImageError {
    FlashImageError::Several {
        firsts: rows.iter().map(|row| row.first).collect(),
    }
}

fn no_stamp(from: usize, to: usize, damaged: Option<(usize, usize)>, filled: Option<u8>) -> String {
    let found = match (damaged, filled) {
        (_, Some(0xFF)) => "; all of it is erased flash (0xff)".to_owned(),
        (_, Some(byte)) => format!("; all of it is {byte:#04x}"),
        (Some((at, 1)), None) => {
            format!("; at {at:#x} stands one that is damaged: --segment-bytes reads without stamps")
        }
        (Some((at, count)), None) => format!(
            "; {count} damaged ones stand at {at:#x} and behind: --segment-bytes reads without stamps"
        ),
        (None, None) => {
            "; if its stamps are damaged, --segment-bytes reads without them".to_owned()
        }
    };
    format!(
        "no log between {from:#x} and {to:#x}: looked for the stamp of a segment (\"sdg1\" and 28 bytes whose check passes){found}"
    )
}

fn addresses(found: &[usize]) -> String {
    let shown: Vec<String> = found.iter().take(8).map(|at| format!("{at:#x}")).collect();
    let more = if found.len() > 8 { ", …" } else { "" };
    shown.join(", ") + more
}

/// A stamp and an open header begin with these (docs/spec/log.md).
const STAMP_MAGIC: &[u8] = b"sdg1";
const OPEN_MAGIC: &[u8] = b"open";

/// What a compact frame can count to.
const COMMIT_OFFSETS_MAX: u32 = 255;
const SEGMENT_BYTES_MIN: usize = 4 * (256 + 512);
const LOG_BYTES_MIN: usize = 3 * SEGMENT_BYTES_MIN;
