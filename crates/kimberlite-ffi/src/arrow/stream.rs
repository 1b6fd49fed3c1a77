//! Streams of batches behind Arrow's C stream interface.

use std::ffi::{CString, c_char, c_int};

use kimberlite_wire::{Error, ErrorCode};

use super::columns::Column;
use super::interface::{Array, Field, Schema, Stream, array_of, no_array, schema_of};
use crate::boundary::{caught, quietly};

/// Rows of some columns.
pub(crate) struct Batch {
    pub(crate) length: usize,
    pub(crate) columns: Vec<Column>,
}

/// Where a stream's batches come from. Both functions may wait.
pub(crate) trait Batches: Send {
    /// The columns, the same at every call.
    fn fields(&mut self) -> Result<Vec<Field>, Error>;
    /// The next batch; `None` after the last.
    fn next(&mut self) -> Result<Option<Batch>, Error>;
}

/// What a stream points to.
struct StreamOwner {
    batches: Box<dyn Batches>,
    last_error: Option<CString>,
}

/// A stream for the caller, who releases it.
pub(crate) fn export(batches: impl Batches + 'static) -> Stream {
    let owner = Box::new(StreamOwner { batches: Box::new(batches), last_error: None });
    Stream {
        get_schema: Some(get_schema),
        get_next: Some(get_next),
        get_last_error: Some(get_last_error),
        release: Some(release),
        private_data: Box::into_raw(owner).cast(),
    }
}

/// Runs one of the stream's functions and keeps its error.
///
/// # Safety
/// The stream must be one of ours that was not released, and nobody else use it meanwhile.
unsafe fn run<T>(
    stream: *mut Stream,
    out: *mut T,
    work: impl FnOnce(&mut dyn Batches) -> Result<T, Error>,
) -> c_int {
    // SAFETY: the caller's promise.
    let owner = unsafe { &mut *(*stream).private_data.cast::<StreamOwner>() };
    let batches = &mut owner.batches;
    match caught(move || work(&mut **batches)) {
        Ok(value) => {
            // SAFETY: Arrow's consumer passes a place for it.
            unsafe { out.write(value) };
            owner.last_error = None;
            0
        }
        Err(e) => {
            owner.last_error = CString::new(e.to_string().replace('\0', " ")).ok();
            errno(e.code)
        }
    }
}

unsafe extern "C" fn get_schema(stream: *mut Stream, out: *mut Schema) -> c_int {
    // SAFETY: Arrow's rules are those that `run` demands.
    unsafe { run(stream, out, |batches| Ok(schema_of(&batches.fields()?))) }
}

unsafe extern "C" fn get_next(stream: *mut Stream, out: *mut Array) -> c_int {
    let next = |batches: &mut dyn Batches| {
        Ok(batches.next()?.map_or_else(no_array, |batch| array_of(batch.length, batch.columns)))
    };
    // SAFETY: as above.
    unsafe { run(stream, out, next) }
}

/// The text is the stream's, until its next call.
unsafe extern "C" fn get_last_error(stream: *mut Stream) -> *const c_char {
    // SAFETY: as above.
    let owner = unsafe { &*(*stream).private_data.cast::<StreamOwner>() };
    owner.last_error.as_ref().map_or(std::ptr::null(), |text| text.as_ptr())
}

unsafe extern "C" fn release(stream: *mut Stream) {
    quietly(|| {
        // SAFETY: the consumer passes a stream that it has not released; the owner is ours.
        drop(unsafe { Box::from_raw((*stream).private_data.cast::<StreamOwner>()) });
    });
    // SAFETY: as above. In a forked child this is all that is done.
    unsafe { (*stream).release = None };
}

/// The nearest that C has.
fn errno(code: ErrorCode) -> c_int {
    match code {
        ErrorCode::InvalidArgument => libc::EINVAL,
        ErrorCode::Timeout => libc::ETIMEDOUT,
        ErrorCode::Closed | ErrorCode::Cancelled => libc::ECANCELED,
        ErrorCode::LimitExceeded => libc::ENOMEM,
        _ => libc::EIO,
    }
}
