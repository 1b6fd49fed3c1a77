//! Checks of what a caller passes: pointers, strings, lengths. Every error names the argument.

use std::ffi::{CStr, c_char};

use kimberlite_wire::{Error, ErrorCode, limit};

/// NULL_POINTER for an argument.
pub(crate) fn null(argument: &str) -> Error {
    Error::new(ErrorCode::NullPointer, format!("{argument} is NULL"))
}

fn not_utf8(argument: &str, valid_up_to: usize) -> Error {
    let detail = format!("{argument} is not valid UTF-8 from its byte {valid_up_to} on");
    Error::new(ErrorCode::InvalidUtf8, detail)
}

/// Elements by pointer and count; NULL is allowed where there are none.
///
/// # Safety
/// A pointer that is not NULL must be valid for `len` elements while the slice is used.
pub(crate) unsafe fn slice<'a, T>(
    argument: &str,
    pointer: *const T,
    len: usize,
) -> Result<&'a [T], Error> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(null(argument));
    }
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        let detail = format!("the length of {argument} is {len}, which no memory holds");
        return Err(Error::invalid(detail));
    }
    if !pointer.is_aligned() {
        let bytes = align_of::<T>();
        return Err(Error::invalid(format!("{argument} is not aligned to {bytes} bytes")));
    }
    // SAFETY: not NULL, aligned, a possible length; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, len) })
}

/// LIMIT_EXCEEDED for a count that no request may have. It comes before any element is read or
/// memory is taken, so that a count that is nonsense cannot lead beyond the caller's array.
pub(crate) fn bounded(argument: &str, count: usize, bound: u64) -> Result<(), Error> {
    if count as u64 > bound {
        return Err(Error::limit(argument, count as u64, bound));
    }
    Ok(())
}

/// Text by pointer and length in bytes. LIMIT_EXCEEDED where it is longer than any request.
///
/// # Safety
/// As [`slice`].
pub(crate) unsafe fn text<'a>(
    argument: &str,
    pointer: *const c_char,
    len: usize,
) -> Result<&'a str, Error> {
    bounded(&format!("the length of {argument} in bytes"), len, limit::REQUEST_FRAME_BYTES)?;
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(argument, pointer.cast::<u8>(), len)? };
    std::str::from_utf8(bytes).map_err(|e| not_utf8(argument, e.valid_up_to()))
}

/// Text that ends with a NUL.
///
/// # Safety
/// A pointer that is not NULL must point to bytes with a NUL among them.
pub(crate) unsafe fn c_text<'a>(argument: &str, pointer: *const c_char) -> Result<&'a str, Error> {
    if pointer.is_null() {
        return Err(null(argument));
    }
    // SAFETY: not NULL; the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|e| not_utf8(argument, e.valid_up_to()))
}

/// The place of an output, checked before the work and written only after it succeeded.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// NULL_POINTER where there is no place.
    pub(crate) fn new(argument: &str, place: *mut T) -> Result<Out<T>, Error> {
        if place.is_null() { Err(null(argument)) } else { Ok(Out(place)) }
    }

    /// A place that may be NULL, where the caller does not want to know.
    pub(crate) fn optional(place: *mut T) -> Out<T> {
        Out(place)
    }

    /// Writes the output.
    ///
    /// # Safety
    /// The place must be NULL or valid for writing a `T`.
    pub(crate) unsafe fn put(self, value: T) {
        if !self.0.is_null() {
            // SAFETY: the caller's promise; the place may be unaligned.
            unsafe { self.0.write_unaligned(value) };
        }
    }
}

// SAFETY: only the address travels; it is written by the thread of the call that brought it.
unsafe impl<T> Send for Out<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slice is refused where its pointer is NULL, misaligned or of an impossible length, and each
    /// error names the argument.
    #[test]
    fn slices_are_checked() {
        let words = [1u64, 2];
        let odd = words.as_ptr().cast::<u8>().wrapping_add(1).cast::<u32>();
        // SAFETY: the bad pointers are refused, not followed.
        let (none, bad, long, misaligned) = unsafe {
            (
                slice::<u32>("lens", std::ptr::null(), 0),
                slice::<u32>("lens", std::ptr::null(), 1),
                slice::<u32>("lens", words.as_ptr().cast(), usize::MAX),
                slice::<u32>("lens", odd, 1),
            )
        };
        assert_eq!(none, Ok(&[][..]));
        assert_eq!(
            bad.map_err(|e| (e.code, e.detail)),
            Err((ErrorCode::NullPointer, "lens is NULL".into()))
        );
        assert_eq!(long.map_err(|e| e.code), Err(ErrorCode::InvalidArgument));
        assert_eq!(misaligned.map_err(|e| e.code), Err(ErrorCode::InvalidArgument));
    }

    /// Text that is not UTF-8 is refused with the place of the first bad byte.
    #[test]
    fn text_is_checked() {
        let bytes = b"ab\xff\0";
        // SAFETY: the bytes are there, with a NUL.
        let (by_length, by_nul) = unsafe {
            (text("sql", bytes.as_ptr().cast(), 3), c_text("sql", bytes.as_ptr().cast()))
        };
        let wanted =
            (ErrorCode::InvalidUtf8, "sql is not valid UTF-8 from its byte 2 on".to_string());
        assert_eq!(by_length.map_err(|e| (e.code, e.detail)), Err(wanted.clone()));
        assert_eq!(by_nul.map_err(|e| (e.code, e.detail)), Err(wanted));
    }
}
