//! The log: opened on a flash, filled by batches, kept ready, released.

use core::ffi::c_int;

use sedge_core::entry::{Entry, Headers, Record};
use sedge_core::frame::{self, Form, Label};
use sedge_core::log::{CommitError, Fresh, Log, Maintained, Options, Tail, WhenFull};
use sedge_core::media::Media;
use sedge_core::octets;
use sedge_core::{LogId, Micros, Offset};

use crate::error::{number, sedge_error};
use crate::flash::{Failed, Flash, geometry, sedge_config, sedge_tail, sedge_when_full};
use crate::handle::{Opaque, at, bytes, bytes_mut, forget, keep, kept, tell};
use sedge_error::{
    SEDGE_ERR_ARGUMENT, SEDGE_ERR_BATCH_FULL, SEDGE_ERR_BUFFER, SEDGE_ERR_CONSUMERS,
    SEDGE_ERR_EXHAUSTED, SEDGE_ERR_FULL, SEDGE_ERR_INTERNAL, SEDGE_ERR_MEDIA, SEDGE_ERR_NONE,
    SEDGE_ERR_TOO_LARGE,
};

/// Words of a `sedge_log`.
pub const SEDGE_LOG_WORDS: usize = 64;
/// The most headers of a record that is appended.
pub const SEDGE_HEADERS_MAX: usize = 4;
/// The most consumers whose cursors a log keeps.
pub const SEDGE_CONSUMERS_MAX: usize = 4;
/// A point in time that nobody knows.
pub const SEDGE_TIME_UNKNOWN: i64 = i64::MIN;

const _: () = assert!(SEDGE_CONSUMERS_MAX == sedge_core::ledger::CURSORS_MAX);

/// A log: memory of the caller, zeroed before its first use and then opened by `sedge_log_open`. One log is used by one thread at a time, and not by an interrupt
/// handler beside it. A copy of it is not a second log.
#[derive(Debug)]
#[repr(C)]
pub struct sedge_log {
    /// Not to be looked at.
    words: [u64; SEDGE_LOG_WORDS],
}

impl Opaque for sedge_log {
    type State = LogState;
    const MAGIC: u64 = u64::from_be_bytes(*b"sedgeLOG");
}

/// What stands in a [`sedge_log`].
#[derive(Debug)]
pub(crate) struct LogState {
    pub(crate) log: Log<Flash, &'static mut [u8]>,
    batch: Batch,
}

/// Records that wait for the flush: encoded, behind the place of the frame's header.
#[derive(Debug)]
struct Batch {
    buffer: &'static mut [u8],
    /// Bytes of the entries.
    len: usize,
    count: u16,
    records_max: u16,
    /// The time of the last of them, from which the next one counts.
    time: Micros,
}

/// Bytes that stand somewhere else.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct sedge_bytes {
    /// The first; may be NULL if there are none.
    pub start: *const u8,
    /// How many.
    pub len: usize,
}

/// A name with a value, beside the value of a record.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct sedge_header {
    /// The name, in UTF-8.
    pub name: sedge_bytes,
    /// The value, any bytes.
    pub value: sedge_bytes,
}

/// A record to be appended. Its bytes are copied.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct sedge_record {
    /// When it happened, in microseconds since 1970 UTC, kept to the millisecond; or `SEDGE_TIME_UNKNOWN`. A log that began without a clock takes no times
    /// before its next segment.
    pub time_us: i64,
    /// What it is about, any bytes; with a `start` of NULL there is no key.
    pub key: sedge_bytes,
    /// The measurement itself, any bytes.
    pub value: sedge_bytes,
    /// Names and values beside it; NULL if there are none.
    pub headers: *const sedge_header,
    /// How many headers, at most `SEDGE_HEADERS_MAX`.
    pub header_count: usize,
}

/// What `sedge_log_open` found.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct sedge_report {
    /// There was no log, and one was created.
    pub formatted: bool,
    /// The life before did not end in the middle of a write.
    pub clean: bool,
    /// The newest segment's beginning was damaged: what it held became a gap.
    pub head_lost: bool,
    /// Segments whose beginning is damaged.
    pub unreadable_segments: u32,
    /// Offsets that stay unused, because a write that was interrupted may have taken them.
    pub burned: u64,
}

/// How far a log goes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct sedge_range {
    /// The first offset that is held.
    pub oldest: u64,
    /// One past the last offset that is on flash: what readers and the link see.
    pub durable: u64,
    /// The offset of the next record that is appended, if the flush goes well.
    pub next: u64,
    /// Records that wait for the flush.
    pub waiting: u32,
}

/// Where the offsets have gone that a log no longer holds, over its whole life.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct sedge_ledger {
    /// Records that every consumer had released.
    pub handed_over: u64,
    /// Records that made room for newer ones and that somebody had not got.
    pub evicted: u64,
    /// Offsets whose bytes no longer pass their check.
    pub corrupt: u64,
    /// Offsets that never were records.
    pub skipped: u64,
    /// Records that were not taken; `sedge_log_refused` counts them.
    pub refused: u64,
}

/// Opens the log that stands on the flash of `config`, or creates one where there is none. `unix_us` is the time of day in microseconds since 1970 UTC, or
/// `SEDGE_TIME_UNKNOWN`. `report` may be NULL. Takes as long as reading one segment.
///
/// After a failure `log` is not open. An open log may be opened again; what was not flushed is gone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_open(
    log: *mut sedge_log,
    config: *const sedge_config,
    unix_us: i64,
    report: *mut sedge_report,
) -> c_int {
    number((|| {
        // SAFETY: the promises of the header: `log` is the caller's memory, `config` points to a configuration.
        let config = unsafe {
            forget(log)?;
            at(config)?
        };
        // SAFETY: callbacks and buffers live and belong to the log as long as it is used, by the promise of `sedge_config`.
        let (state, found) = unsafe { open(config, Micros::new(unix_us))? };
        // SAFETY: both are the caller's memory, or null.
        unsafe {
            keep(log, state)?;
            tell(report, found)
        }
    })())
}

/// # Safety
/// Callbacks and buffers of `config` are what it says, as long as the log is used.
unsafe fn open(
    config: &sedge_config,
    now: Micros,
) -> Result<(LogState, sedge_report), sedge_error> {
    let geometry = geometry(config)?;
    if config.log_id == [0; 16] {
        return Err(SEDGE_ERR_ARGUMENT);
    }
    if config.scratch_len < geometry.scratch_bytes()
        || config.batch_len < config.frame_bytes_max as usize
    {
        return Err(SEDGE_ERR_BUFFER);
    }
    let options = Options {
        tail: tail(config.tail)?,
        ..Options::new(geometry, when_full(config.when_full)?)
    };
    let fresh = Fresh {
        log_id: LogId::new(config.log_id),
        now,
        boot: config.boot,
    };
    // SAFETY: the caller's promise.
    let (flash, scratch, batch) = unsafe {
        (
            Flash::new(config)?,
            bytes_mut(config.scratch, config.scratch_len)?,
            bytes_mut(config.batch, config.frame_bytes_max as usize)?,
        )
    };
    let (log, found) = Log::open(flash, options, fresh, scratch)?;
    let report = sedge_report {
        formatted: found.formatted,
        clean: found.clean,
        head_lost: found.lost_head.is_some(),
        unreadable_segments: found.unreadable_segments,
        burned: found.burned,
    };
    let batch = Batch {
        buffer: batch,
        len: 0,
        count: 0,
        records_max: u16::try_from(config.batch_records_max).map_err(|_| SEDGE_ERR_ARGUMENT)?,
        time: Micros::UNKNOWN,
    };
    Ok((LogState { log, batch }, report))
}

fn when_full(word: u32) -> Result<WhenFull, sedge_error> {
    const EVICT: u32 = sedge_when_full::SEDGE_EVICT_OLDEST as u32;
    const REFUSE: u32 = sedge_when_full::SEDGE_REFUSE as u32;
    match word {
        EVICT => Ok(WhenFull::EvictOldest),
        REFUSE => Ok(WhenFull::Refuse),
        _ => Err(SEDGE_ERR_ARGUMENT),
    }
}

fn tail(word: u32) -> Result<Tail, sedge_error> {
    const BEHIND: u32 = sedge_tail::SEDGE_TAIL_BEHIND as u32;
    const FRESH: u32 = sedge_tail::SEDGE_TAIL_FRESH as u32;
    match word {
        BEHIND => Ok(Tail::Behind),
        FRESH => Ok(Tail::Fresh),
        _ => Err(SEDGE_ERR_ARGUMENT),
    }
}

/// Puts a record into the batch in memory. It is NOT durable before `sedge_log_flush` has returned 0: a reset in between loses it.
///
/// `offset`, which may be NULL, is told the offset that it will have if the next flush goes well. `SEDGE_ERR_BATCH_FULL`: flush, then append it again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_append(
    log: *mut sedge_log,
    record: *const sedge_record,
    offset: *mut u64,
) -> c_int {
    number((|| {
        // SAFETY: the promises of the header: a state that nobody else uses now, a record with all that it points to.
        let (state, record) = unsafe { (kept(log)?, at(record)?) };
        // SAFETY: as above.
        let will_be = unsafe { state.append(record)? };
        // SAFETY: the caller's memory, or null.
        unsafe { tell(offset, will_be.get()) }
    })())
}

/// Writes the batch to the flash, as one frame by one program operation. When this returns 0, all of its records survive a power cut; with an empty batch
/// there is nothing to do. `unix_us` is the time of day, or `SEDGE_TIME_UNKNOWN`.
///
/// `next`, which may be NULL, is told one past the last durable offset: a batch of `n` records has the `n` offsets below it.
///
/// `SEDGE_ERR_NEEDS_MAINTAIN` and `SEDGE_ERR_MEDIA` leave the batch as it was: flush again. After `SEDGE_ERR_MEDIA` its records may get higher offsets.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_flush(
    log: *mut sedge_log,
    unix_us: i64,
    next: *mut u64,
) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let state = unsafe { kept(log)? };
        state.flush(Micros::new(unix_us))?;
        // SAFETY: the caller's memory, or null.
        unsafe { tell(next, state.log.view().durable.get()) }
    })())
}

/// Empties the batch without writing it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_discard(log: *mut sedge_log) -> c_int {
    // SAFETY: the promise of the header: a state that nobody else uses now.
    number(unsafe { kept(log) }.map(|state| state.batch.clear()))
}

/// 1 if `sedge_log_maintain` has something to do, 0 if not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_needs_maintain(log: *mut sedge_log) -> c_int {
    // SAFETY: the promise of the header: a state that nobody else uses now.
    match unsafe { kept(log) } {
        Ok(state) => c_int::from(state.log.needs_maintain()),
        Err(error) => error as c_int,
    }
}

/// Makes the segment ready that is written when the present one is full: reads the oldest, erases it. Nothing else erases, so call this in idle time whenever
/// `sedge_log_needs_maintain` says so; it takes as long as your flash needs for a segment. `SEDGE_ERR_FULL`: the consumers must release first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_maintain(log: *mut sedge_log, unix_us: i64) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let state = unsafe { kept(log)? };
        match state.log.maintain(Micros::new(unix_us))? {
            Maintained::Ready => Ok(()),
            Maintained::Full => Err(SEDGE_ERR_FULL),
        }
    })())
}

/// Tells how far the log goes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_range(log: *mut sedge_log, range: *mut sedge_range) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let state = unsafe { kept(log)? };
        let view = state.log.view();
        let told = sedge_range {
            oldest: view.oldest.get(),
            durable: view.durable.get(),
            next: state.next().get(),
            waiting: u32::from(state.batch.count),
        };
        // SAFETY: the caller's memory, or null.
        unsafe { tell(range, told) }
    })())
}

/// Tells the 16 bytes that name the log.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_id(log: *mut sedge_log, id: *mut u8) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now, and 16 bytes of the caller.
        let (state, into) = unsafe { (kept(log)?, bytes_mut(id, 16)?) };
        octets::copy(state.log.log_id().as_bytes(), into).ok_or(SEDGE_ERR_INTERNAL)
    })())
}

/// Tells where the offsets have gone that the log no longer holds.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_ledger(log: *mut sedge_log, ledger: *mut sedge_ledger) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let held = unsafe { kept(log)? }.log.ledger();
        let told = sedge_ledger {
            handed_over: held.handed_over,
            evicted: held.evicted.saturating_add(held.expired),
            corrupt: held.corrupt,
            skipped: held.skipped,
            refused: held.refused,
        };
        // SAFETY: the caller's memory, or null.
        unsafe { tell(ledger, told) }
    })())
}

/// `consumer`, a number of your choice, has all records below `next`: their space may be used again first. Lower than before is allowed. Durable with the next
/// `sedge_log_maintain` or `sedge_log_save`, or with a segment that a flush begins; losing it costs no more than reading again. The link does this by itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_release(log: *mut sedge_log, consumer: u32, next: u64) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let state = unsafe { kept(log)? };
        let moved = state.log.set_cursor(consumer, Offset::new(next));
        moved.map_err(|_| SEDGE_ERR_CONSUMERS)
    })())
}

/// Tells up to where `consumer` has released; `SEDGE_ERR_NONE` if it never has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_released(
    log: *mut sedge_log,
    consumer: u32,
    next: *mut u64,
) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let state = unsafe { kept(log)? };
        let cursor = state.log.ledger().cursor(consumer).ok_or(SEDGE_ERR_NONE)?;
        // SAFETY: the caller's memory, or null.
        unsafe { tell(next, cursor.next.get()) }
    })())
}

/// `consumer` is no more: nothing is held back for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_drop_consumer(log: *mut sedge_log, consumer: u32) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let state = unsafe { kept(log)? };
        let dropped = state.log.drop_cursor(consumer);
        dropped.then_some(()).ok_or(SEDGE_ERR_NONE)
    })())
}

/// Counts `records` that the program did not append because the log was full.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_refused(log: *mut sedge_log, records: u64) -> c_int {
    // SAFETY: the promise of the header: a state that nobody else uses now.
    number(unsafe { kept(log) }.map(|state| state.log.count_refused(records)))
}

/// Makes durable what the consumers have released and what was counted, before power is switched off; the batch is not written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_save(log: *mut sedge_log, unix_us: i64) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let state = unsafe { kept(log)? };
        Ok(state.log.save_ledger(Micros::new(unix_us))?)
    })())
}

/// Erases every segment: the log is gone, and `log` is not open. For a gateway that knows another past of it (`SEDGE_LINK_DIVERGED`); open it again with a
/// new `log_id`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sedge_log_erase(log: *mut sedge_log) -> c_int {
    number((|| {
        // SAFETY: the promise of the header: a state that nobody else uses now.
        let state = unsafe { kept(log)? };
        let segments = state.log.geometry().segment_count();
        for segment in 0..segments {
            let erased = state.log.media_mut().erase(segment);
            erased.map_err(|Failed| SEDGE_ERR_MEDIA)?;
        }
        // SAFETY: as above; the state is not used any more.
        unsafe { forget(log) }
    })())
}

impl LogState {
    /// The offset that the next record gets.
    fn next(&self) -> Offset {
        self.log.next() + u64::from(self.batch.count)
    }

    /// # Safety
    /// All that `record` points to is there.
    unsafe fn append(&mut self, record: &sedge_record) -> Result<Offset, sedge_error> {
        let mut pairs = [("", &[][..]); SEDGE_HEADERS_MAX];
        // SAFETY: the caller's promise.
        let (headers, key, value) = unsafe {
            (
                headers(record, &mut pairs)?,
                bytes(record.key.start, record.key.len)?,
                bytes(record.value.start, record.value.len)?,
            )
        };
        let key = (!record.key.start.is_null()).then_some(key);
        let will_be = self.next();
        if will_be.checked_add(1).is_none() {
            return Err(SEDGE_ERR_EXHAUSTED);
        }
        let before = if self.batch.count == 0 {
            self.log.last_time()
        } else {
            self.batch.time
        };
        let (time, behind) = millis_behind(before, Micros::new(record.time_us));
        let record = Record {
            time,
            key,
            headers: Headers::new(headers),
            value,
        };
        self.batch.put(&Entry::Record(record), behind)?;
        Ok(will_be)
    }

    fn flush(&mut self, now: Micros) -> Result<(), sedge_error> {
        if self.batch.count == 0 {
            return Ok(());
        }
        let first = self.log.next();
        let span = u64::from(self.batch.count);
        let frame = self.batch.seal(&self.log.log_id(), first)?;
        match self.log.commit(frame, span, &[], now) {
            Ok(_) => {}
            // A write that failed may have left the whole frame all the same. The log looks when it is asked for anything, and takes nothing
            // for this: a second copy of records that are there would be a duplicate for ever.
            Err(CommitError::Media(Failed)) => {
                _ = self.log.commit(&[], 0, &[], now);
                if self.log.view().durable <= first {
                    return Err(SEDGE_ERR_MEDIA);
                }
            }
            Err(error) => return Err(error.into()),
        }
        self.batch.clear();
        Ok(())
    }
}

impl Batch {
    fn put(&mut self, entry: &Entry<'_>, time: Micros) -> Result<(), sedge_error> {
        let is_empty = self.count == 0;
        if self.count >= self.records_max {
            return Err(SEDGE_ERR_BATCH_FULL);
        }
        let at = HEADER_LEN.saturating_add(self.len);
        let room = self.buffer.get_mut(at..).unwrap_or_default();
        let Some(len) = entry.encode(room) else {
            return Err(if is_empty || entry.encoded_len() > self.room_alone() {
                SEDGE_ERR_TOO_LARGE
            } else {
                SEDGE_ERR_BATCH_FULL
            });
        };
        self.len = self.len.saturating_add(len);
        self.count = self.count.saturating_add(1);
        self.time = time;
        Ok(())
    }

    /// What an entry has room for in an empty batch.
    fn room_alone(&self) -> usize {
        self.buffer.len().saturating_sub(HEADER_LEN)
    }

    /// The frame of all records, if the first one has the offset `first`.
    fn seal(&mut self, log_id: &LogId, first: Offset) -> Result<&[u8], sedge_error> {
        let label = Label {
            form: Form::Compact,
            first,
            time: Micros::UNKNOWN,
            first_of_commit: true,
        };
        let len = frame::seal_data(self.buffer, log_id, label, self.count, false, self.len);
        len.and_then(|len| self.buffer.get(..len))
            .ok_or(SEDGE_ERR_INTERNAL)
    }

    fn clear(&mut self) {
        (self.len, self.count) = (0, 0);
    }
}

/// # Safety
/// All that `record` points to is there.
unsafe fn headers<'r>(
    record: &'r sedge_record,
    pairs: &'r mut [(&'r str, &'r [u8]); SEDGE_HEADERS_MAX],
) -> Result<&'r [(&'r str, &'r [u8])], sedge_error> {
    let count = record.header_count;
    let pairs = pairs.get_mut(..count).ok_or(SEDGE_ERR_ARGUMENT)?;
    for (index, pair) in pairs.iter_mut().enumerate() {
        // SAFETY: as many headers stand there as the record says; `at` looks whether there are any.
        let (name, value) = unsafe {
            at(record.headers)?;
            let header = at(record.headers.add(index))?;
            (
                bytes(header.name.start, header.name.len)?,
                bytes(header.value.start, header.value.len)?,
            )
        };
        let name = str::from_utf8(name).map_err(|_| SEDGE_ERR_ARGUMENT)?;
        *pair = (name, value);
    }
    Ok(pairs)
}

/// A time as compact frames say it, in milliseconds behind the record before, and what a reader makes of that.
fn millis_behind(before: Micros, at: Micros) -> (Option<i64>, Micros) {
    if !before.is_known() || !at.is_known() {
        return (None, before);
    }
    let millis = at.get().saturating_sub(before.get()) / 1000;
    (Some(millis), time_behind(before, Some(millis)))
}

/// What a reader makes of a time that counts from `before`.
pub(crate) fn time_behind(before: Micros, millis: Option<i64>) -> Micros {
    match millis {
        Some(millis) if before.is_known() => {
            Micros::new(before.get().saturating_add(millis.saturating_mul(1000)))
        }
        _ => before,
    }
}

const HEADER_LEN: usize = Form::Compact.header_len();
