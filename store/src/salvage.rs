//! Takes every valid frame out of the files of a damaged directory, set-aside ones included, and makes mirrors of them.
//! The directory itself is only read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sedge_core::frame::{Frame, Kind};
use sedge_core::log::WhenFull;
use sedge_core::segment::{OPEN_FIELDS_LEN, OpenClaim, STAMP_LEN};
use sedge_core::{Cause, Gap, LogId, Micros, Offset};
use serde::Serialize;

use crate::clock::system_clock;
use crate::data_dir::SET_ASIDE;
use crate::mirror::{AppendError, Mirror, MirrorOptions};
use crate::ring::OpenError;

/// One log that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Salvaged {
    /// Its id, in hexadecimal digits.
    pub log_id: String,
    /// Where it is now, a mirror that [`inspect`](crate::inspect()) and the hub can read.
    pub dir: PathBuf,
    /// Frames with entries.
    pub frames: u64,
    /// Entries in them.
    pub entries: u64,
    /// The first offset.
    pub from: u64,
    /// The offset behind the last.
    pub to: u64,
    /// Offsets between them that no file has.
    pub missing: u64,
}

/// Why nothing could be salvaged.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// A file cannot be read, or one cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The new log cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new log does not take a frame.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Copies what is valid in `dir` into new logs in `to`, one directory for each log id.
///
/// # Errors
/// When `dir` cannot be read or `to` cannot be written; what was written until then stays.
pub fn salvage(dir: &Path, to: &Path) -> Result<Vec<Salvaged>, SalvageError> {
    let files = files_in(dir)?;
    let mut logs = BTreeSet::new();
    for file in &files {
        logs.extend(log_id_of(&fs::read(file)?));
    }
    let mut salvaged = Vec::new();
    for log_id in logs {
        let mut places = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            find_frames(&fs::read(file)?, number, &log_id, &mut places);
        }
        if !places.is_empty() {
            salvaged.push(write(
                &files,
                &places,
                log_id,
                &to.join(log_id.to_string()),
            )?);
        }
    }
    Ok(salvaged)
}

/// Where a frame stands, by its first offset. The longest wins; equal ones are equal.
type Places = BTreeMap<Offset, Place>;

struct Place {
    file: usize,
    at: usize,
    len: usize,
    end: Offset,
    is_data: bool,
}

/// Notes every valid data and gap frame in `bytes`, wherever it stands.
fn find_frames(bytes: &[u8], file: usize, log_id: &LogId, places: &mut Places) {
    let mut at = 0;
    while at < bytes.len() {
        let Ok((frame, len)) = Frame::parse(&bytes[at..], log_id, None) else {
            at += 1;
            continue;
        };
        let (first, end) = (frame.header.first, frame.end());
        let is_data = frame.header.kind == Kind::Data;
        let longer = places.get(&first).is_none_or(|place| place.end < end);
        if frame.header.kind != Kind::Control && longer {
            places.insert(
                first,
                Place {
                    file,
                    at,
                    len,
                    end,
                    is_data,
                },
            );
        }
        at += len;
    }
}

fn write(
    files: &[PathBuf],
    places: &Places,
    log_id: LogId,
    dir: &Path,
) -> Result<Salvaged, SalvageError> {
    let bytes: usize = places.values().map(|place| place.len).sum();
    let options = MirrorOptions {
        capacity_bytes: (2 * bytes as u64).max(CAPACITY_BYTES_MIN),
        when_full: WhenFull::Refuse,
        ..MirrorOptions::default()
    };
    let (mirror, _) = Mirror::open(dir, log_id, options, system_clock())?;
    let first = *places.keys().next().expect("there is a frame");
    let mut salvaged = Salvaged {
        log_id: log_id.to_string(),
        dir: dir.into(),
        frames: 0,
        entries: 0,
        from: first.get(),
        to: first.get(),
        missing: 0,
    };
    let (mut open, mut content) = (usize::MAX, Vec::new());
    for (&first, place) in places {
        let next = mirror.next();
        if place.end <= next || first < next {
            continue;
        }
        if first > next {
            mirror.append_gap(&missing(next, first))?;
            salvaged.missing += first.since(next.max(Offset::new(salvaged.from)));
        }
        if open != place.file {
            (open, content) = (place.file, fs::read(&files[place.file])?);
        }
        mirror.append(&content[place.at..place.at + place.len])?;
        if place.is_data {
            salvaged.frames += 1;
            salvaged.entries += place.end.since(first);
        }
        salvaged.to = place.end.get();
    }
    Ok(salvaged)
}

fn missing(from: Offset, to: Offset) -> Gap {
    // What lies before the first frame may have been handed over; nobody can tell here.
    let (cause, when) = (Cause::Corrupt, Micros::UNKNOWN);
    Gap {
        from,
        to,
        lost: to.since(from),
        cause,
        when,
        when_last: when,
    }
}

/// The log that a segment says it continues, whether or not the rest of its beginning is valid.
fn log_id_of(bytes: &[u8]) -> Option<LogId> {
    let fields = bytes.get(STAMP_LEN..STAMP_LEN + OPEN_FIELDS_LEN)?;
    OpenClaim::parse(fields).map(|claim| claim.log_id)
}

/// Every file in `dir` and among what was set aside there.
fn files_in(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for within in [dir.to_path_buf(), dir.join(SET_ASIDE)] {
        if !within.is_dir() {
            continue;
        }
        for entry in fs::read_dir(within)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Room for the largest frames.
const CAPACITY_BYTES_MIN: u64 = 32 << 20;
