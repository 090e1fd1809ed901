//! The numbers by which functions say that something is not so, and a sentence for each.

use core::ffi::{CStr, c_char, c_int};

use sedge_core::log::{CommitError, MaintainError, OpenError};

/// What functions return: 0, or the negative number of the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum sedge_error {
    /// It is done.
    SEDGE_OK = 0,
    /// A pointer that must point to something is NULL.
    SEDGE_ERR_NULL = -1,
    /// An argument is not in its range, a name is not UTF-8, or a state is not aligned like a `uint64_t`.
    SEDGE_ERR_ARGUMENT = -2,
    /// This state was never opened, or its opening failed.
    SEDGE_ERR_NOT_OPEN = -3,
    /// The dimensions break a rule that `sedge_config` names.
    SEDGE_ERR_GEOMETRY = -4,
    /// A buffer is smaller than its macro says.
    SEDGE_ERR_BUFFER = -5,
    /// The flash failed, by the word of a callback. Nothing that was durable is lost; call again.
    SEDGE_ERR_MEDIA = -6,
    /// The flash holds a log of a newer version or of other dimensions, which is not touched.
    SEDGE_ERR_FOREIGN = -7,
    /// The record does not fit into the largest frame, not even alone.
    SEDGE_ERR_TOO_LARGE = -8,
    /// The batch has no room for this record: flush, then append it again.
    SEDGE_ERR_BATCH_FULL = -9,
    /// The log is written up to the end of its segment, and no other is ready: call `sedge_log_maintain`, then again.
    SEDGE_ERR_NEEDS_MAINTAIN = -10,
    /// Everything is held back until the consumers have taken over the oldest segment (`SEDGE_REFUSE` only).
    SEDGE_ERR_FULL = -11,
    /// No segment can be made ready: each is of a newer version or cannot be erased.
    SEDGE_ERR_NO_SEGMENT = -12,
    /// The log keeps cursors for at most `SEDGE_CONSUMERS_MAX` consumers.
    SEDGE_ERR_CONSUMERS = -13,
    /// There are no more offsets.
    SEDGE_ERR_EXHAUSTED = -14,
    /// The log has ended for good.
    SEDGE_ERR_ENDED = -15,
    /// Cursor or link belong to another log than the one given.
    SEDGE_ERR_OTHER_LOG = -16,
    /// There is no such thing: no header of this number, no cursor of this consumer.
    SEDGE_ERR_NONE = -17,
    /// A fault of the library.
    SEDGE_ERR_INTERNAL = -18,
}

use sedge_error::{
    SEDGE_ERR_ARGUMENT, SEDGE_ERR_BATCH_FULL, SEDGE_ERR_BUFFER, SEDGE_ERR_CONSUMERS,
    SEDGE_ERR_ENDED, SEDGE_ERR_EXHAUSTED, SEDGE_ERR_FOREIGN, SEDGE_ERR_FULL, SEDGE_ERR_GEOMETRY,
    SEDGE_ERR_INTERNAL, SEDGE_ERR_MEDIA, SEDGE_ERR_NEEDS_MAINTAIN, SEDGE_ERR_NO_SEGMENT,
    SEDGE_ERR_NONE, SEDGE_ERR_NOT_OPEN, SEDGE_ERR_NULL, SEDGE_ERR_OTHER_LOG, SEDGE_ERR_TOO_LARGE,
    SEDGE_OK,
};

/// A sentence about a number that a function returned, in English, without a full stop. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sedge_error_text(error: c_int) -> *const c_char {
    text(error).as_ptr()
}

fn text(error: c_int) -> &'static CStr {
    let known = TEXTS.iter().find(|(number, _)| *number as c_int == error);
    match known {
        Some((_, text)) => text,
        None if error > 0 => c"done",
        None => c"no error of this version",
    }
}

const TEXTS: [(sedge_error, &CStr); 19] = [
    (SEDGE_OK, c"done"),
    (SEDGE_ERR_NULL, c"a pointer is null"),
    (SEDGE_ERR_ARGUMENT, c"an argument is not in its range"),
    (SEDGE_ERR_NOT_OPEN, c"this was never opened"),
    (
        SEDGE_ERR_GEOMETRY,
        c"the dimensions of the log break a rule",
    ),
    (SEDGE_ERR_BUFFER, c"a buffer is too small"),
    (SEDGE_ERR_MEDIA, c"the flash failed"),
    (
        SEDGE_ERR_FOREIGN,
        c"the flash holds a log of a newer version or of other dimensions",
    ),
    (SEDGE_ERR_TOO_LARGE, c"the record does not fit into a frame"),
    (
        SEDGE_ERR_BATCH_FULL,
        c"the batch has no room for the record",
    ),
    (
        SEDGE_ERR_NEEDS_MAINTAIN,
        c"the segment is full and no other is ready",
    ),
    (SEDGE_ERR_FULL, c"the log is full"),
    (SEDGE_ERR_NO_SEGMENT, c"no segment can be made ready"),
    (SEDGE_ERR_CONSUMERS, c"the log has too many consumers"),
    (SEDGE_ERR_EXHAUSTED, c"the log has no more offsets"),
    (SEDGE_ERR_ENDED, c"the log has ended"),
    (SEDGE_ERR_OTHER_LOG, c"this belongs to another log"),
    (SEDGE_ERR_NONE, c"there is no such thing"),
    (SEDGE_ERR_INTERNAL, c"a fault of the library"),
];

/// What a function came to, as the number for C.
pub(crate) fn number(outcome: Result<(), sedge_error>) -> c_int {
    match outcome {
        Ok(()) => SEDGE_OK as c_int,
        Err(error) => error as c_int,
    }
}

impl<E> From<OpenError<E>> for sedge_error {
    fn from(error: OpenError<E>) -> Self {
        match error {
            OpenError::Refused(_) => SEDGE_ERR_FOREIGN,
            OpenError::Scratch { .. } => SEDGE_ERR_BUFFER,
            OpenError::Misfit(_) => SEDGE_ERR_GEOMETRY,
            OpenError::NoSpare => SEDGE_ERR_NO_SEGMENT,
            OpenError::Unreadable | OpenError::Media(_) => SEDGE_ERR_MEDIA,
        }
    }
}

impl<E> From<CommitError<E>> for sedge_error {
    fn from(error: CommitError<E>) -> Self {
        match error {
            CommitError::NeedsMaintain => SEDGE_ERR_NEEDS_MAINTAIN,
            CommitError::TooLarge => SEDGE_ERR_TOO_LARGE,
            CommitError::Ended => SEDGE_ERR_ENDED,
            CommitError::Exhausted => SEDGE_ERR_EXHAUSTED,
            CommitError::Media(_) => SEDGE_ERR_MEDIA,
            CommitError::TooManyOffsets
            | CommitError::Malformed
            | CommitError::Misplaced { .. }
            | CommitError::Failed => SEDGE_ERR_INTERNAL,
        }
    }
}

impl<E> From<MaintainError<E>> for sedge_error {
    fn from(error: MaintainError<E>) -> Self {
        match error {
            MaintainError::Ledger(error) => error.into(),
            MaintainError::Media(_) => SEDGE_ERR_MEDIA,
            MaintainError::NoSegment => SEDGE_ERR_NO_SEGMENT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_a_sentence_of_its_own() {
        for (at, (number, said)) in TEXTS.iter().enumerate() {
            assert_eq!(*number as c_int, -(at as c_int), "without holes");
            assert_eq!(text(*number as c_int), *said);
        }
        assert_eq!(text(-(TEXTS.len() as c_int)), c"no error of this version");
        assert_eq!(text(17), c"done", "a number of bytes is no error");
    }
}
