//! The door between C and Rust: pointers that may be null, states that may never have been opened, bytes that are the caller's.

use core::mem::MaybeUninit;
use core::slice;

use crate::error::sedge_error;
use sedge_error::{SEDGE_ERR_ARGUMENT, SEDGE_ERR_NOT_OPEN, SEDGE_ERR_NULL};

/// A state of ours in memory of the caller: what C sees as an array of words is a [`Kept`] here.
pub(crate) trait Opaque: Sized {
    /// What stands there.
    type State;
    /// The word that says that it does.
    const MAGIC: u64;
    /// Whether it fits. Refer to it wherever the type is used.
    const FITS: () = assert!(
        size_of::<Kept<Self::State>>() <= size_of::<Self>()
            && align_of::<Kept<Self::State>>() <= align_of::<Self>()
    );
}

/// A state behind the word that says that it was opened.
#[repr(C)]
pub(crate) struct Kept<T> {
    magic: u64,
    state: MaybeUninit<T>,
}

/// Writes a state that was just opened.
///
/// # Safety
/// `place` is the caller's, for writing.
pub(crate) unsafe fn keep<O: Opaque>(place: *mut O, state: O::State) -> Result<(), sedge_error> {
    let () = O::FITS;
    let kept = Kept {
        magic: O::MAGIC,
        state: MaybeUninit::new(state),
    };
    // SAFETY: `FITS` says that there is room, `aligned` that it is aligned and not null.
    unsafe { aligned(place)?.cast::<Kept<O::State>>().write(kept) };
    Ok(())
}

/// Forgets what stands at `place`: using it is an error from here on.
///
/// # Safety
/// As [`keep`].
pub(crate) unsafe fn forget<O: Opaque>(place: *mut O) -> Result<(), sedge_error> {
    let () = O::FITS;
    // SAFETY: as in `keep`; the magic word stands in front.
    unsafe { aligned(place)?.cast::<u64>().write(0) };
    Ok(())
}

/// What stands at `place`.
///
/// # Safety
/// `place` is null or the caller's, and nobody else uses it now.
pub(crate) unsafe fn kept<'s, O: Opaque>(place: *mut O) -> Result<&'s mut O::State, sedge_error> {
    let () = O::FITS;
    let kept = aligned(place)?.cast::<Kept<O::State>>();
    // SAFETY: `FITS` says that the word is inside; any bytes are a word.
    if unsafe { (&raw const (*kept).magic).read() } != O::MAGIC {
        return Err(SEDGE_ERR_NOT_OPEN);
    }
    // SAFETY: only `keep` writes this word, with a state behind it; the caller says that it is used by nobody else.
    Ok(unsafe { (*kept).state.assume_init_mut() })
}

fn aligned<O>(place: *mut O) -> Result<*mut O, sedge_error> {
    if place.is_null() {
        return Err(SEDGE_ERR_NULL);
    }
    if !place.is_aligned() {
        return Err(SEDGE_ERR_ARGUMENT);
    }
    Ok(place)
}

/// What `place` points to.
///
/// # Safety
/// `place` is null or points to a `T` that nobody changes meanwhile.
pub(crate) unsafe fn at<'p, T>(place: *const T) -> Result<&'p T, sedge_error> {
    aligned(place.cast_mut())?;
    // SAFETY: not null, aligned, and the caller says that a `T` is there.
    Ok(unsafe { &*place })
}

/// Writes an answer; one that is not wanted has nowhere to go.
///
/// # Safety
/// `place` is null or the caller's, for writing.
pub(crate) unsafe fn tell<T>(place: *mut T, answer: T) -> Result<(), sedge_error> {
    if !place.is_null() {
        // SAFETY: not null, aligned, and the caller says that it may be written.
        unsafe { aligned(place)?.write(answer) };
    }
    Ok(())
}

/// The bytes of the caller from `start` on. None of them need no address.
///
/// # Safety
/// `start` points to `len` bytes that nobody changes meanwhile.
pub(crate) unsafe fn bytes<'b>(start: *const u8, len: usize) -> Result<&'b [u8], sedge_error> {
    check(start, len)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: not null, not longer than half of the address space, and the caller says that the bytes are there.
    Ok(unsafe { slice::from_raw_parts(start, len) })
}

/// The same, to be written.
///
/// # Safety
/// `start` points to `len` bytes that nobody else uses meanwhile.
pub(crate) unsafe fn bytes_mut<'b>(
    start: *mut u8,
    len: usize,
) -> Result<&'b mut [u8], sedge_error> {
    check(start, len)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: as in `bytes`.
    Ok(unsafe { slice::from_raw_parts_mut(start, len) })
}

fn check(start: *const u8, len: usize) -> Result<(), sedge_error> {
    if start.is_null() && len > 0 {
        return Err(SEDGE_ERR_NULL);
    }
    if len > isize::MAX as usize {
        return Err(SEDGE_ERR_ARGUMENT);
    }
    Ok(())
}
