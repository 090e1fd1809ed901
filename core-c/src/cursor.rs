//! Reading a log record by record, for whoever wants to show or use on the device what it has kept.

use core::ffi::c_int;

use sedge_core::entry::Entry;
use sedge_core::frame::Frame;
use sedge_core::read::{Read, Reader};
use sedge_core::{Gap, LogId, Micros, Offset};

use crate::error::{number, sedge_error};
use crate::handle::{Opaque, at, bytes, forget, keep, kept, tell};
use crate::log::{LogState, sedge_bytes, sedge_header, sedge_log, time_behind};
use sedge_error::{SEDGE_ERR_MEDIA, SEDGE_ERR_NONE, SEDGE_ERR_NULL, SEDGE_ERR_OTHER_LOG};

/// Words of a `sedge_cursor`.
pub const SEDGE_CURSOR_WORDS: usize = 40;

/// A place in a log: memory of the caller, zeroed before its first use and then opened by `sedge_cursor_open`.
#[derive(Debug)]
#[repr(C)]
pub struct sedge_cursor {
    /// Not to be looked at.
    words: [u64; SEDGE_CURSOR_WORDS],
}

impl Opaque for sedge_cursor {
    type State = CursorState;
    const MAGIC: u64 = u64::from_be_bytes(*b"sedgeCUR");
}

/// What stands in a [`sedge_cursor`].
#[derive(Debug)]
pub(crate) struct CursorState {
    log_id: LogId,
    /// Stands before the frame that holds `next`: frames are read anew for each of their records, since the log's scratch is used by others in between.
    reader: Reader,
    next: Offset,
}

/// What a `sedge_item` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum sedge_item_kind {
    /// A record.
    SEDGE_ITEM_RECORD = 1,
    /// Offsets that have no records to show: sum `lost`, which is how many records were lost in it.
    SEDGE_ITEM_GAP = 2,
    /// An entry that tells of records lost before they came to this log; takes one offset.
    SEDGE_ITEM_NOTICE = 3,
}

/// Why records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum sedge_cause {
    /// Nothing was lost.
    SEDGE_CAUSE_NONE = 0,
    /// They made room for newer ones.
    SEDGE_CAUSE_EVICTED = 1,
    /// They were too old.
    SEDGE_CAUSE_EXPIRED = 2,
    /// Their bytes no longer pass their check.
    SEDGE_CAUSE_CORRUPT = 3,
    /// The offsets were never used, after a write that was interrupted: nothing was lost.
    SEDGE_CAUSE_BURNED = 4,
    /// A seam between two logs.
    SEDGE_CAUSE_NEW_LOG = 5,
    /// They were lost before they came to this log.
    SEDGE_CAUSE_DEVICE = 6,
}

/// What stands in a log at a place. All that it points to is the log's memory, and is good until the log is used again.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct sedge_item {
    /// A `sedge_item_kind`.
    pub kind: u32,
    /// A `sedge_cause`.
    pub cause: u32,
    /// Its offset; of a gap, the first.
    pub offset: u64,
    /// The offset behind it.
    pub next: u64,
    /// Gaps and notices: how many records were lost, at most.
    pub lost: u64,
    /// When it happened, in microseconds since 1970 UTC, or `SEDGE_TIME_UNKNOWN`.
    pub time_us: i64,
    /// Its key; `start` is NULL if there is none.
    pub key: sedge_bytes,
    /// Records: the value.
    pub value: sedge_bytes,
    /// Records: how many headers `sedge_item_header` can tell.
    pub header_count: usize,
    /// The bytes of the whole entry, as they stand in the log.
    pub entry: sedge_bytes,
}

/// Opens a cursor that begins at the offset `from` of `log`. The log holds nothing back for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_cursor_open(
    cursor: *mut sedge_cursor,
    log: *mut sedge_log,
    from: u64,
) -> c_int {
    number((|| {
        // SAFETY: the promises of the header: memory of the caller, and a log that nobody else uses now.
        let log = unsafe {
            forget(cursor)?;
            &kept(log)?.log
        };
        let next = Offset::new(from);
        let state = CursorState {
            log_id: log.log_id(),
            reader: Reader::new(log.log_id(), *log.geometry(), next),
            next,
        };
        // SAFETY: memory of the caller.
        unsafe { keep(cursor, state) }
    })())
}

/// Tells the next item and goes behind it. Returns 1 if there was one, and 0 if the cursor has come to the end of what is durable; more may follow later.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_cursor_next(
    cursor: *mut sedge_cursor,
    log: *mut sedge_log,
    item: *mut sedge_item,
) -> c_int {
    let advanced = (|| {
        // SAFETY: the promises of the header: states that nobody else uses now.
        let (state, log) = unsafe { (kept(cursor)?, kept(log)?) };
        if item.is_null() {
            return Err(SEDGE_ERR_NULL);
        }
        match state.advance(log)? {
            // SAFETY: the caller's memory.
            Some(found) => unsafe { tell(item, found) }.map(|()| 1),
            None => Ok(0),
        }
    })();
    advanced.unwrap_or_else(|error| error as c_int)
}

/// Tells the header with the number `index`, from 0, of a record that `sedge_cursor_next` has told; while its bytes are good.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_item_header(
    item: *const sedge_item,
    index: usize,
    header: *mut sedge_header,
) -> c_int {
    number((|| {
        // SAFETY: the promises of the header: an item that `sedge_cursor_next` wrote, whose bytes are still there.
        let entry = unsafe {
            let item = at(item)?;
            bytes(item.entry.start, item.entry.len)?
        };
        let Some((Entry::Record(record), _)) = Entry::decode(entry) else {
            return Err(SEDGE_ERR_NONE);
        };
        let (name, value) = record.headers.iter().nth(index).ok_or(SEDGE_ERR_NONE)?;
        let told = sedge_header {
            name: sedge_bytes::of(name.as_bytes()),
            value: sedge_bytes::of(value),
        };
        // SAFETY: the caller's memory, or null.
        unsafe { tell(header, told) }
    })())
}

impl CursorState {
    fn advance(&mut self, log: &mut LogState) -> Result<Option<sedge_item>, sedge_error> {
        if self.log_id != log.log.log_id() {
            return Err(SEDGE_ERR_OTHER_LOG);
        }
        // Twice at most: behind a frame whose last entry was told already comes another, and that is one to be told.
        for _ in 0..2 {
            let before_oldest = log.log.ledger().gap_before_oldest(self.next, None);
            if let Some(gap) = before_oldest {
                self.reader.seek(gap.to);
                return Ok(Some(self.pass(gap)));
            }
            let mut reader = self.reader.clone();
            match log.log.read(&mut reader) {
                Read::Frame {
                    frame, base_time, ..
                } => {
                    if let Some(gap) = frame.gap() {
                        self.reader = reader;
                        return Ok(Some(self.pass(gap)));
                    }
                    let found = find(&frame, base_time, self.next);
                    if found.is_none_or(|item| item.next >= frame.end().get()) {
                        self.reader = reader;
                    }
                    if let Some(item) = found {
                        self.next = Offset::new(item.next);
                        return Ok(Some(item));
                    }
                    self.next = self.next.max(self.reader.next());
                }
                Read::Gap(gap) => {
                    self.reader = reader;
                    return Ok(Some(self.pass(gap)));
                }
                Read::CaughtUp => return Ok(None),
                Read::Evicted { .. } => self.reader = reader,
                Read::Overtaken => {}
            }
        }
        Err(SEDGE_ERR_MEDIA)
    }

    /// What of `gap` is not told yet.
    fn pass(&mut self, gap: Gap) -> sedge_item {
        let from = gap.from.max(self.next);
        self.next = gap.to.max(from);
        sedge_item {
            kind: sedge_item_kind::SEDGE_ITEM_GAP as u32,
            cause: u32::from(gap.cause.code()),
            offset: from.get(),
            next: self.next.get(),
            lost: gap.lost.min(self.next.since(from)),
            time_us: gap.when.get(),
            key: sedge_bytes::NONE,
            value: sedge_bytes::NONE,
            header_count: 0,
            entry: sedge_bytes::NONE,
        }
    }
}

/// The entry of `frame` that stands at `offset` or first behind it.
fn find(frame: &Frame<'_>, base_time: Micros, offset: Offset) -> Option<sedge_item> {
    let mut rest = frame.payload; // compact frames have no annotation
    let mut time = base_time;
    for at in 0..u64::from(frame.header.count) {
        let (entry, len) = Entry::decode(rest)?;
        let (whole, behind) = rest.split_at_checked(len)?;
        rest = behind;
        time = time_behind(time, entry.time());
        let here = frame.header.first + at;
        if here >= offset {
            return Some(item(&entry, here, time, whole));
        }
    }
    None
}

fn item(entry: &Entry<'_>, offset: Offset, time: Micros, whole: &[u8]) -> sedge_item {
    let told = sedge_item {
        kind: sedge_item_kind::SEDGE_ITEM_RECORD as u32,
        cause: sedge_cause::SEDGE_CAUSE_NONE as u32,
        offset: offset.get(),
        next: (offset + 1).get(),
        lost: 0,
        time_us: time.get(),
        key: entry.key().map_or(sedge_bytes::NONE, sedge_bytes::of),
        value: sedge_bytes::NONE,
        header_count: 0,
        entry: sedge_bytes::of(whole),
    };
    match entry {
        Entry::Record(record) => sedge_item {
            value: sedge_bytes::of(record.value),
            header_count: record.headers.len(),
            ..told
        },
        Entry::Notice(notice) => sedge_item {
            kind: sedge_item_kind::SEDGE_ITEM_NOTICE as u32,
            cause: u32::from(notice.cause.code()),
            lost: notice.lost,
            ..told
        },
    }
}

impl sedge_bytes {
    const NONE: Self = Self {
        start: core::ptr::null(),
        len: 0,
    };

    const fn of(bytes: &[u8]) -> Self {
        Self {
            start: bytes.as_ptr(),
            len: bytes.len(),
        }
    }
}
