//! Segments with a place that can be read and not written any more: a log that writes there ends, in each life again.
//!
//! A sync that failed may have been a moment's trouble. What the next life finds in doubt is written once more as it is, which changes nothing, and only what is
//! refused then, too, is copied: the copy takes its place, and the file with the bad place is set aside and keeps it to itself, if there are not too many of them.
//!
//! ```text
//! .new-seg-00003.log   being copied
//! seg-00003.copy       the whole of it is durable; from here on it is one or the other:
//! seg-00003.log        is still there (the copy goes), or was set aside (the copy is it)
//! ```

use std::io;
use std::path::Path;

use rustix::io::Errno;
use sedge_core::planted::Fault;
use sedge_core::segment::Geometry;

use super::Opened;
use super::found::{self, segments_aside};
use crate::disk::{self, File};
use crate::durable_file::{self, TEMPORARY};
use crate::media::{file_name, is_full, read_or_zeros};
use crate::survey::{self, Surveyed};

/// Whether an earlier life has made it of a segment.
pub(super) fn is_copy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == COPY)
}

/// A copy becomes its segment, unless that is still there.
///
/// # Errors
/// As the disk says.
pub(super) fn put_in_place(dir: &Path, copy: &Path) -> io::Result<()> {
    let segment = copy.with_extension(SEGMENT);
    match disk::exists(&segment) {
        true => disk::remove_file(copy)?,
        false => disk::rename(copy, &segment)?,
    }
    durable_file::sync_dir(dir)
}

/// Of the segments in doubt, copies those that cannot be written to another place. Where the disk has no room for that, those that are unused go out of use:
/// they are told.
///
/// # Errors
/// As the disk says, but for what cannot be read, which stays as it is.
pub(super) fn replace(
    dir: &Path,
    geometry: &Geometry,
    opened: &mut Opened,
    found: &[Surveyed],
) -> io::Result<Vec<u32>> {
    let mut gone = Vec::new();
    if Fault::UseWornSegments.is_planted() {
        return Ok(gone);
    }
    for number in opened.suspects.clone() {
        let name = file_name(number);
        let file = dir.join(&name);
        if !is_worn(&file) {
            continue;
        }
        let aside = segments_aside(dir, geometry.segment_bytes())?;
        let may_be_kept = aside < (geometry.segment_count() / ASIDE_ONE_OF).max(1);
        let temporary = dir.join(format!("{TEMPORARY}{name}"));
        match copied(&file, &temporary) {
            Ok(true) if may_be_kept => {
                let copy = file.with_extension(COPY);
                disk::rename(&temporary, &copy)?;
                durable_file::sync_dir(dir)?;
                opened.set_aside(dir, &file, WORN)?;
                put_in_place(dir, &copy)?;
            }
            Ok(true) => {
                tracing::warn!(file = %file.display(), why = WORN, "removed");
                disk::rename(&temporary, &file)?;
                durable_file::sync_dir(dir)?;
            }
            Ok(false) => disk::remove_file(&temporary)?,
            Err(e) => {
                disk::remove_file(&temporary)?;
                if !is_full(&e) {
                    return Err(e);
                }
                if may_be_kept && is_unused(dir, number, found) {
                    opened.set_aside(dir, &file, WORN)?;
                    gone.push(number);
                }
            }
        }
    }
    Ok(gone)
}

/// Of what cannot be read nobody knows.
fn is_unused(dir: &Path, number: u32, found: &[Surveyed]) -> bool {
    let used = survey::used_up_to(found);
    let mut without_header = found.iter().filter(|s| s.header.is_none());
    let surveyed = without_header.find(|s| s.segment == number);
    surveyed.is_some_and(|s| found::is_unused(dir, s, used).unwrap_or(false))
}

/// Whether the disk refuses what stands in `file` itself, time and again.
fn is_worn(file: &Path) -> bool {
    let refuses = |e: io::Error| e.raw_os_error() == Some(Errno::IO.raw_os_error());
    (0..ATTEMPTS).all(|_| write_again(file).is_err_and(refuses))
}

/// Writes what can be read of `file` in its place, and syncs it.
fn write_again(file: &Path) -> io::Result<()> {
    let file = File::open_to_write(file)?;
    let mut piece = vec![0; PIECE_BYTES];
    for (at, len) in pieces(file.len()?) {
        let piece = &mut piece[..len];
        if read_or_zeros(&file, piece, at).is_ok() {
            file.write_all_at(piece, at)?;
        }
    }
    file.sync_all()
}

/// Copies all of `file`. `false`: not all of it can be read.
fn copied(file: &Path, to: &Path) -> io::Result<bool> {
    let (file, to) = (File::open(file)?, File::create(to)?);
    let bytes = file.len()?;
    to.reserve_or_lengthen(bytes)?;
    let mut piece = vec![0; PIECE_BYTES];
    for (at, len) in pieces(bytes) {
        let piece = &mut piece[..len];
        if read_or_zeros(&file, piece, at).is_err() {
            return Ok(false);
        }
        to.write_all_at(piece, at)?;
    }
    to.sync_all()?;
    Ok(true)
}

/// Where the pieces of so many bytes begin, and how long they are.
fn pieces(bytes: u64) -> impl Iterator<Item = (u64, usize)> {
    let begins = (0..bytes).step_by(PIECE_BYTES);
    begins.map(move |at| {
        (
            at,
            usize::try_from(bytes - at).map_or(PIECE_BYTES, |rest| rest.min(PIECE_BYTES)),
        )
    })
}

const WORN: &str = "it can be read and not written";
const SEGMENT: &str = "log";
const COPY: &str = "copy";
/// So often, as a disk may fail for a moment once more.
const ATTEMPTS: u32 = 3;
const PIECE_BYTES: usize = 64 << 10;
/// At most this part of a log's segments is set aside for it. Others are removed: what gets their bad places may meet them again.
const ASIDE_ONE_OF: u32 = 4;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;
    use std::time::Duration;

    use crate::disk::worn_out;
    use crate::media::{SYNC_FAILED, file_name};
    use crate::{Batch, NoOwner, Opened, Partition, PartitionOptions, system_clock};

    struct Given {
        dir: tempfile::TempDir,
    }

    impl Given {
        /// A log of four segments that was gone around so often.
        fn new(laps: u32) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let given = Self { dir };
            let (partition, _) = given.open();
            assert!((0..laps).all(|_| takes_a_lap(&partition)));
            partition.close();
            given
        }

        fn open(&self) -> (Partition, Opened) {
            let options = PartitionOptions {
                capacity_bytes: 1 << 20,
                linger: Duration::ZERO,
                on_fatal: Arc::new(|_| {}),
                ..PartitionOptions::default()
            };
            Partition::open(self.dir.path(), options, Box::new(NoOwner), system_clock()).unwrap()
        }

        /// Some lives end, and then none does.
        fn goes_on(&self, case: &str) {
            let lives = (0..LIVES_MAX).find(|_| takes_a_lap(&self.open().0));
            assert!(lives.is_some(), "{case}");
            let (partition, opened) = self.open();
            assert!(takes_a_lap(&partition), "{case}");
            assert!(opened.segments >= 3, "{case}");
            assert!(!self.dir.path().join(SYNC_FAILED).exists(), "{case}");
        }

        fn segment(&self, number: u32) -> PathBuf {
            self.dir.path().join(file_name(number))
        }
    }

    /// One that ends at the place, and one in which what was just written elsewhere is taken for in doubt as well.
    const LIVES_MAX: u32 = 3;

    /// Whether all of it comes to the disk.
    fn takes_a_lap(partition: &Partition) -> bool {
        let value = vec![7; 16_384];
        (0..80).all(|_| {
            let mut batch = Batch::new();
            batch.push(|unit| unit.record(None, None, &[], &value), b"");
            let Ok(ticket) = partition.producer().stage(&batch) else {
                return false;
            };
            while *partition.settled().borrow() < ticket {
                if partition.stats().failed {
                    return false;
                }
                std::thread::yield_now();
            }
            true
        })
    }

    /// Wherever the place is, and whatever the segment is at that moment: some lives end at it, and then the log does without.
    #[test]
    fn a_place_that_takes_no_writes_ends_a_few_lives() {
        let places = [10, 300, 100_000];
        let cases = [0, 1]
            .into_iter()
            .flat_map(|laps| [1, 3].map(|number| (laps, number)));
        for ((laps, number), position) in cases.flat_map(|case| places.map(|place| (case, place))) {
            let case = format!("{laps} laps, segment {number}, {position}");
            let given = Given::new(laps);
            let _first = worn_out::wear(&given.segment(number), position);
            given.goes_on(&case);
            // There is no room to set one more aside.
            let _second = worn_out::wear(&given.segment(0), position);
            given.goes_on(&case);
        }
    }
}
