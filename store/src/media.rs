//! Segments as files: `seg-00000.log`, `seg-00001.log`, … in one directory, all of one length. The ring is the files in the order
//! of their numbers: where some are missing, the next one follows.
//!
//! A file is made whole under a temporary name, renamed, and the directory synced. Just before its first use it is
//! written through with zeros, in the background; from then on it is overwritten in place for ever, so that
//! a sync has nothing to say to the file system's journal (research: 1.0 device bytes a byte against 6.0 for appending).
//! This file knows nothing of frames.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use sedge_core::media::Media;
use sedge_core::planted::Fault;

use crate::budget::{Budget, Share};
use crate::disk::{self, File};
use crate::durable_file::{self, TEMPORARY};
use crate::identity::is_unreadable;
use crate::patience::Patience;
use crate::world;

/// The files of one log, as core's log machine sees them.
#[derive(Debug)]
pub struct FileMedia {
    dir: PathBuf,
    segment_bytes: u32,
    /// The files' numbers, in the order of the ring; beyond these, a segment's place is its file's number.
    numbers: Vec<u32>,
    /// What a file that is missing is taken from.
    share: Share,
    /// Descriptors by segment, the most recently used last. One with unsynced writes is never closed:
    /// the kernel reports a failed write-back once for each open file.
    open: Vec<Open>,
    preparing: Option<Preparing>,
    /// Nothing is written once something could not be read.
    careful: bool,
    unread: Option<Unread>,
    /// Pages that were written since the last sync: segment, first page, one past the last.
    dirty: Vec<(u32, u32, u32)>,
    /// Files that could not be written through.
    refused: BTreeSet<u32>,
    written: Arc<Written>,
}

/// What a log has had written to its device in this life, as far as it can be told from here: whole pages, as a sync finds them.
#[derive(Debug, Default)]
pub(crate) struct Written {
    bytes: AtomicU64,
    syncs: AtomicU64,
}

impl Written {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Relaxed)
    }

    fn synced(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.syncs.fetch_add(1, Relaxed);
    }
}

/// What could not be read first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unread {
    /// The file's number.
    pub(crate) number: u32,
    errno: Option<i32>,
}

impl Unread {
    pub(crate) fn of(number: u32, error: &io::Error) -> Self {
        Self {
            number,
            errno: error.raw_os_error(),
        }
    }

    pub(crate) fn error(self) -> io::Error {
        self.errno
            .map_or_else(|| io::ErrorKind::Other.into(), io::Error::from_raw_os_error)
    }

    /// An error, unless patience is over.
    pub(crate) fn try_again_later(self, patience: &Patience) -> io::Result<()> {
        patience.try_again_later(&file_name(self.number), &self.error())
    }
}

#[derive(Debug)]
struct Open {
    segment: u32,
    file: File,
    unsynced: bool,
}

#[derive(Debug)]
struct Preparing {
    segment: u32,
    thread: JoinHandle<io::Result<()>>,
}

impl FileMedia {
    /// The files in `dir`, each of `segment_bytes`.
    pub fn new(dir: impl Into<PathBuf>, segment_bytes: u32) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes,
            numbers: Vec::new(),
            share: Share::default(),
            open: Vec::new(),
            preparing: None,
            careful: false,
            unread: None,
            dirty: Vec::new(),
            refused: BTreeSet::new(),
            written: Arc::default(),
        }
    }

    /// What is written, counted on as it goes.
    pub(crate) fn written(&self) -> Arc<Written> {
        Arc::clone(&self.written)
    }

    /// From now on, or no longer, nothing is written once something could not be read: what a disk does not give for a moment looks to recovery like what was
    /// never written, and would be written over.
    pub(crate) fn be_careful(&mut self, careful: bool) {
        self.careful = careful;
    }

    /// What could not be read first, since this was asked last.
    pub(crate) fn take_unread(&mut self) -> Option<Unread> {
        self.unread.take()
    }

    fn may_write(&self) -> io::Result<()> {
        match self.unread {
            Some(unread) if self.careful && !Fault::UnreadableIsBlank.is_planted() => {
                Err(unread.error())
            }
            _ => Ok(()),
        }
    }

    /// The same, with the files of these numbers as its segments.
    pub(crate) fn made_of(mut self, numbers: Vec<u32>) -> Self {
        self.numbers = numbers;
        self
    }

    /// The number of the file that is this segment.
    pub(crate) fn number_of(&self, segment: u32) -> u32 {
        let listed = self.numbers.get(segment as usize);
        listed.copied().unwrap_or(segment)
    }

    /// The segment that this file is.
    pub(crate) fn segment_of(&self, number: u32) -> Option<u32> {
        if self.numbers.is_empty() {
            return Some(number);
        }
        let at = self.numbers.iter().position(|n| *n == number)?;
        u32::try_from(at).ok()
    }

    /// The same, with files that are missing taken from `budget`, and those that are there counted in it, for as long as this lives.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn within(mut self, budget: Budget) -> io::Result<Self> {
        let there = segments_in(&self.dir)?.len() as u64;
        self.share = Share::of(budget);
        self.share.count(there * u64::from(self.segment_bytes));
        Ok(self)
    }

    /// Reserves the file of this number on the disk, unless it is there and whole. One that lost its end and `is_held` stays as it is until it is used again: its length
    /// tells that something is missing. `false`: the disk is full.
    ///
    /// # Errors
    /// Anything but a full disk.
    pub(crate) fn reserve(&self, number: u32, is_held: bool) -> io::Result<bool> {
        match self.reserve_one(number, is_held) {
            Ok(()) => Ok(true),
            Err(e) if is_full(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes the file of this segment, and says whether there was one.
    ///
    /// # Errors
    /// When the file system refuses.
    pub(crate) fn remove(&mut self, segment: u32) -> io::Result<bool> {
        if let Some(preparing) = self.preparing.take() {
            // It would make the file again.
            drop(preparing.thread.join());
        }
        self.open.retain(|o| o.segment != segment);
        match disk::remove_file(self.dir.join(file_name(self.number_of(segment)))) {
            Ok(()) => {
                self.share.give_back(self.segment_bytes.into());
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Starts to write `segment` through with zeros, unless that was done (it may hold records) or another is being prepared.
    pub fn prepare(&mut self, segment: u32) {
        let is_used = self.is_written_through(segment).unwrap_or(true)
            && !Fault::PrepareLiveSegment.is_planted();
        if self.preparing.is_some() || is_used {
            return;
        }
        let (dir, bytes, share) = (self.dir.clone(), self.segment_bytes, self.share.clone());
        let (number, written) = (self.number_of(segment), self.written());
        if world::is_simulated() {
            // There is no other thread. What fails here is tried again in line.
            drop(write_through(&dir, number, bytes, &share, &self.written));
            return;
        }
        let thread = std::thread::Builder::new()
            .name("sedge-prepare".into())
            .stack_size(PREPARE_STACK_BYTES)
            .spawn(move || write_through(&dir, number, bytes, &share, &written));
        match thread {
            Ok(thread) => self.preparing = Some(Preparing { segment, thread }),
            Err(e) => {
                tracing::debug!(error = %e, "no thread to prepare a segment, it will be done in line")
            }
        }
    }

    /// Asks the kernel to have `segment` at hand: it will be read from end to end soon.
    pub fn expect_read(&mut self, segment: u32) {
        if let Ok(open) = self.file(segment) {
            open.file.will_need();
        }
    }

    /// Where the preparation has come to an end, or there is none.
    pub fn is_prepared(&self) -> bool {
        self.preparing
            .as_ref()
            .is_none_or(|p| p.thread.is_finished())
    }

    /// Leaves word for the next start that the disk refused to keep what was written to the segments
    /// with unsynced writes or which could not be written through, beside those that are named already. Best effort: the disk is failing.
    pub fn mark_sync_failed(&self) {
        let unsynced = self.open.iter().filter(|o| o.unsynced);
        let mut numbers: BTreeSet<u32> = unsynced.map(|o| self.number_of(o.segment)).collect();
        numbers.extend(&self.refused);
        if numbers.is_empty() {
            return;
        }
        numbers.extend(sync_failed_names(&self.dir).unwrap_or_default());
        let names: String = numbers.iter().map(|n| file_name(*n) + "\n").collect();
        if let Err(e) = durable_file::write(&self.dir.join(SYNC_FAILED), names.as_bytes()) {
            tracing::warn!(dir = %self.dir.display(), error = %e, "the failed sync could not be marked");
        }
    }

    /// The length of each segment.
    pub fn segment_bytes(&self) -> u32 {
        self.segment_bytes
    }

    fn reserve_one(&self, number: u32, is_held: bool) -> io::Result<()> {
        let path = self.dir.join(file_name(number));
        let length = u64::from(self.segment_bytes);
        match File::open_to_write(&path) {
            Ok(file) if file.len()? == length => return Ok(()),
            Ok(_) if is_held => return Ok(()),
            Ok(file) => return file.reserve(length).map_err(Into::into),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        let temporary = self.dir.join(format!("{TEMPORARY}{}", file_name(number)));
        let file = File::create(&temporary)?;
        // A segment is written through before its first use anyway.
        if let Err(e) = file.reserve_or_lengthen(length) {
            disk::remove_file(&temporary)?;
            return Err(e);
        }
        file.sync_all()?;
        disk::rename(&temporary, &path)
    }

    fn file(&mut self, segment: u32) -> io::Result<&mut Open> {
        if let Some(at) = self.open.iter().position(|o| o.segment == segment) {
            let last = self.open.len() - 1;
            self.open[at..].rotate_left(1);
            return Ok(&mut self.open[last]);
        }
        let path = self.dir.join(file_name(self.number_of(segment)));
        let file = File::open_to_write(path)?;
        file.need_nothing_more();
        if self.open.len() >= DESCRIPTORS_MAX
            && let Some(idle) = self.open.iter().position(|o| !o.unsynced)
        {
            self.open.remove(idle);
        }
        self.open.push(Open {
            segment,
            file,
            unsynced: false,
        });
        Ok(self.open.last_mut().expect("one was just pushed"))
    }

    /// Pages from `from` up to `to` are to be written with the next sync, once, however often they were written to.
    fn soil(&mut self, segment: u32, from: u32, to: u32) {
        let last = self.dirty.last_mut();
        match last.filter(|(at, first, end)| *at == segment && from <= *end && to >= *first) {
            Some((_, first, end)) => (*first, *end) = (from.min(*first), to.max(*end)),
            None => self.dirty.push((segment, from, to)),
        }
    }

    fn write_through_once(&mut self, segment: u32, number: u32) -> io::Result<()> {
        if let Some(preparing) = self.preparing.take() {
            match preparing.thread.join() {
                Ok(outcome) if preparing.segment == segment => return outcome,
                _ => {}
            }
        }
        if self.is_written_through(segment)? {
            let bytes = u64::from(self.segment_bytes);
            let file = &self.file(segment)?.file;
            return match file.len()? < bytes {
                true => file.reserve_or_lengthen(bytes),
                false => Ok(()),
            };
        }
        self.open.retain(|o| o.segment != segment);
        let (dir, bytes) = (&self.dir, self.segment_bytes);
        write_through(dir, number, bytes, &self.share, &self.written)
    }

    fn is_written_through(&mut self, segment: u32) -> io::Result<bool> {
        match self.file(segment) {
            Ok(open) => is_used(&open.file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

impl Drop for FileMedia {
    /// No zeros may be written once somebody else has opened the log.
    fn drop(&mut self) {
        if let Some(preparing) = self.preparing.take() {
            // It was for later; whoever comes then finds the segment as it is.
            drop(preparing.thread.join());
        }
    }
}

impl Media for FileMedia {
    type Error = io::Error;

    fn read(&mut self, segment: u32, position: u32, into: &mut [u8]) -> io::Result<()> {
        let read = match self.file(segment) {
            Ok(open) => match read_up_to(&open.file, into, position.into()) {
                // A file that was cut shorter has lost what stood there: that is neither blank nor worth waiting for. Of the sector with the cut nothing is shown: zeros
                // in the place of zeros would make a frame of what is not there to be copied.
                Ok(read) if read < into.len() && is_used(&open.file)? => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                read => read.map(drop),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                into.fill(0xFF);
                Ok(())
            }
            Err(e) => Err(e),
        };
        read.inspect_err(|e| {
            let unread = Unread::of(self.number_of(segment), e);
            self.unread.get_or_insert(unread);
        })
    }

    fn program(&mut self, segment: u32, position: u32, bytes: &[u8]) -> io::Result<()> {
        self.may_write()?;
        let open = self.file(segment)?;
        open.unsynced = true;
        open.file.write_all_at(bytes, position.into())?;
        let end = position.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        self.soil(segment, position / PAGE_BYTES, end.div_ceil(PAGE_BYTES));
        Ok(())
    }

    /// On files nothing is erased: the stamp that follows makes the old content void. A segment
    /// that was never used is written through here, unless that was done in the background.
    fn erase(&mut self, segment: u32) -> io::Result<()> {
        self.may_write()?;
        let number = self.number_of(segment);
        let outcome = self.write_through_once(segment, number);
        if outcome.as_ref().is_err_and(|e| !is_full(e)) {
            self.refused.insert(number);
        }
        outcome
    }

    fn sync(&mut self) -> io::Result<()> {
        self.may_write()?;
        #[cfg(test)]
        if self.dir.join(FAIL_SYNC).exists() {
            return Err(rustix::io::Errno::IO.into());
        }
        for open in self.open.iter_mut().filter(|o| o.unsynced) {
            match open.file.sync_data() {
                Err(_) if Fault::RetryFailedSync.is_planted() => open.file.sync_data()?,
                synced => synced?,
            }
            open.unsynced = false;
        }
        let pages: u64 = self
            .dirty
            .drain(..)
            .map(|(_, from, to)| u64::from(to - from))
            .sum();
        if pages > 0 {
            self.written.synced(pages * u64::from(PAGE_BYTES));
        }
        Ok(())
    }
}

/// The segments that a failed sync of an earlier life names, and what the page cache holds of them dropped:
/// it may show bytes that the disk does not have.
pub(crate) fn sync_failed(dir: &Path) -> io::Result<Vec<u32>> {
    let segments = sync_failed_names(dir)?;
    for segment in &segments {
        match File::open(dir.join(file_name(*segment))) {
            Ok(_) if Fault::TrustAfterFailedSync.is_planted() => {}
            Ok(file) => file.forget_cached()?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(segments)
}

/// The segments that a failed sync of an earlier life names: all there are, if what it says cannot be read.
pub(crate) fn sync_failed_names(dir: &Path) -> io::Result<Vec<u32>> {
    // What has rotted in it names nothing, and keeps nobody from the rest.
    let names = disk::read(dir.join(SYNC_FAILED));
    match names.map(|names| String::from_utf8_lossy(&names).into_owned()) {
        Ok(names) => Ok(names.lines().filter_map(segment_of).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) if is_unreadable(&e) => {
            tracing::warn!(dir = %dir.display(), error = %e, "which segments a failed sync left in doubt cannot be read: all of them are");
            segments_in(dir)
        }
        Err(e) => Err(e),
    }
}

/// Removes the mark, after what it named has been copied.
pub(crate) fn clear_sync_failed(dir: &Path) -> io::Result<()> {
    durable_file::remove(&dir.join(SYNC_FAILED))
}

/// The segment files in `dir`, by number.
pub(crate) fn segments_in(dir: &Path) -> io::Result<Vec<u32>> {
    let mut segments = Vec::new();
    for path in disk::read_dir(dir)? {
        segments.extend(segment_of(&name_of(&path)));
    }
    segments.sort_unstable();
    Ok(segments)
}

/// The last part of `path`.
pub(crate) fn name_of(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// `seg-00012.log`
pub(crate) fn file_name(segment: u32) -> String {
    format!("seg-{segment:05}.log")
}

/// A stamp is only ever written to a segment that was written through.
fn is_used(file: &File) -> io::Result<bool> {
    let mut stamp = [0; 4];
    read_or_zeros(file, &mut stamp, 0)?;
    Ok(stamp != [0; 4])
}

/// Reads what the file has; where it ends, zeros follow.
pub(crate) fn read_or_zeros(file: &File, into: &mut [u8], position: u64) -> io::Result<()> {
    read_up_to(file, into, position).map(drop)
}

/// Reads what the file has, and says how much that is; where it ends, zeros follow.
fn read_up_to(file: &File, into: &mut [u8], position: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], position + read as u64) {
            Ok(0) => {
                into[read..].fill(0);
                break;
            }
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

/// A disk that has no room, or no more room for us.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

pub(crate) fn segment_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("seg-")?.strip_suffix(".log")?;
    (digits.len() == 5).then(|| digits.parse().ok())?
}

/// Writes every byte of the file and syncs it; makes it first, whole, if it is missing.
fn write_through(
    dir: &Path,
    number: u32,
    bytes: u32,
    share: &Share,
    counted: &Written,
) -> io::Result<()> {
    let path = dir.join(file_name(number));
    let (file, temporary) = match File::open_to_write(&path) {
        Ok(file) => (file, None),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if !share.take(bytes.into()) {
                return Err(io::ErrorKind::QuotaExceeded.into());
            }
            let temporary = dir.join(format!("{TEMPORARY}{}", file_name(number)));
            let made = File::create(&temporary);
            let made = made.inspect_err(|_| share.give_back(bytes.into()));
            (made?, Some(temporary))
        }
        Err(e) => return Err(e),
    };
    let written = write_zeros(&file, bytes).and_then(|()| file.sync_all());
    counted.synced(bytes.into());
    match (written, temporary) {
        (Ok(()), Some(temporary)) => {
            disk::rename(&temporary, &path)?;
            durable_file::sync_dir(dir)
        }
        // It may have been made by an attempt that failed at this.
        (Ok(()), None) => durable_file::sync_dir(dir),
        (Err(e), Some(temporary)) => {
            share.give_back(bytes.into());
            disk::remove_file(&temporary)?;
            Err(e)
        }
        (Err(e), None) => Err(e),
    }
}

fn write_zeros(file: &File, bytes: u32) -> io::Result<()> {
    let zeros = [0_u8; ZEROS_BYTES];
    let mut position = 0;
    while position < bytes {
        let n = (bytes - position).min(ZEROS_BYTES as u32);
        file.write_all_at(&zeros[..n as usize], position.into())?;
        position += n;
    }
    Ok(())
}

/// Head, spare, and two that recycling or recovery look at.
const DESCRIPTORS_MAX: usize = 4;
const ZEROS_BYTES: usize = 64 << 10;
/// What a kernel writes at least, where a part of it has changed.
const PAGE_BYTES: u32 = 4096;
/// Zeros stand on the stack.
const PREPARE_STACK_BYTES: usize = 192 << 10;
const _: () = assert!(PREPARE_STACK_BYTES > 2 * ZEROS_BYTES);
pub(crate) const SYNC_FAILED: &str = "sync-failed";
/// Says how often in a row a log could not be read.
pub(crate) const UNREADABLE: &str = "unreadable";

/// While this file stands in the directory of a log, its syncs fail.
#[cfg(test)]
pub(crate) const FAIL_SYNC: &str = "fail-sync";

#[cfg(test)]
mod tests {
    use super::*;

    /// The second file is there and does not open to be read: it may hold what the first one is about to be written over for.
    #[test]
    fn nothing_is_written_behind_a_failed_read_while_that_decides_what_may_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut media = FileMedia::new(dir.path(), 1 << 16);
        assert!(media.reserve(0, false).unwrap());
        std::fs::create_dir(dir.path().join(file_name(1))).unwrap();
        media.be_careful(true);
        media.program(0, 0, &[1]).unwrap();
        assert!(media.read(1, 0, &mut [0]).is_err());
        assert!(media.program(0, 1, &[2]).is_err());
        assert!(media.erase(0).is_err() && media.sync().is_err());
        assert!(media.take_unread().is_some());
        media.program(0, 1, &[2]).unwrap();
        media.sync().unwrap();
    }

    #[test]
    fn a_reserved_segment_is_whole_and_reads_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let mut media = FileMedia::new(dir.path(), 1 << 16);
        for number in 0..3 {
            assert!(media.reserve(number, false).unwrap());
        }
        assert_eq!(segments_in(dir.path()).unwrap(), [0, 1, 2]);
        let mut bytes = [1; 8];
        media.read(2, (1 << 16) - 8, &mut bytes).unwrap();
        assert_eq!(bytes, [0; 8]);
    }

    #[test]
    fn a_segment_is_written_through_once_and_then_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let mut media = FileMedia::new(dir.path(), 1 << 16);
        media.prepare(1);
        media.erase(1).unwrap();
        media.program(1, 0, b"sdg1").unwrap();
        media.program(1, 100, b"kept").unwrap();
        media.sync().unwrap();
        media.prepare(1);
        media.erase(1).unwrap();
        let mut kept = [0; 4];
        media.read(1, 100, &mut kept).unwrap();
        assert_eq!(&kept, b"kept");
    }

    /// What is written into a file is lost with its name.
    #[test]
    fn a_file_is_made_only_when_its_name_is_durable() {
        let dir = tempfile::tempdir().unwrap();
        let mut media = FileMedia::new(dir.path(), 1 << 16);
        let fails = dir.path().join(disk::FAIL_SYNC_DIR);
        std::fs::write(&fails, "").unwrap();
        assert!(media.erase(1).is_err());
        assert!(media.erase(1).is_err());
        std::fs::remove_file(&fails).unwrap();
        media.erase(1).unwrap();
    }

    #[test]
    fn a_mark_that_rotted_still_names_what_can_be_read_of_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(SYNC_FAILED),
            b"seg-\xFF0001.log\nseg-00004.log\n",
        )
        .unwrap();
        assert_eq!(sync_failed_names(dir.path()).unwrap(), [4]);
    }

    #[test]
    fn a_mark_that_cannot_be_read_names_every_segment() {
        let dir = tempfile::tempdir().unwrap();
        let media = FileMedia::new(dir.path(), 1 << 16);
        for number in [0, 4] {
            assert!(media.reserve(number, false).unwrap());
        }
        crate::identity::make_unreadable(&dir.path().join(SYNC_FAILED));
        assert_eq!(sync_failed(dir.path()).unwrap(), [0, 4]);
        clear_sync_failed(dir.path()).unwrap();
        assert!(sync_failed(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_failed_sync_is_remembered_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let media = FileMedia::new(dir.path(), 1 << 16);
        for number in [0, 4, 7] {
            assert!(media.reserve(number, false).unwrap());
        }
        let mut media = media.made_of(vec![0, 4, 7]);
        media.program(2, 0, b"x").unwrap();
        media.mark_sync_failed();
        assert_eq!(sync_failed(dir.path()).unwrap(), [7]);
        // The next life copies it to another, and that fails too.
        media.sync().unwrap();
        media.program(0, 0, b"x").unwrap();
        media.mark_sync_failed();
        assert_eq!(sync_failed(dir.path()).unwrap(), [0, 7]);
        clear_sync_failed(dir.path()).unwrap();
        assert!(sync_failed(dir.path()).unwrap().is_empty());
    }
}
