//! Errors: their numbers, their static texts, and the detail of one failure.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use kimberlite_wire::{Error, ErrorCode};

use crate::boundary::quietly;
use crate::generated::{KMB_DETAIL_OUTCOME_UNKNOWN, KMB_DETAIL_RETRYABLE, KMB_OK};

/// An error's number: `KMB_OK` or one of `KMB_ERR_*`. A newer server may send a number that this
/// version does not know.
pub type KmbError = u32;

/// What went wrong in one call.
///
/// Ownership: one that a `detail_out` or a completion gave belongs to the receiver, who frees it
/// with kmb_detail_free; the one of kmb_last_error_detail belongs to its thread.
/// Threads: it never changes, so any thread may read it.
#[repr(C)]
pub struct KmbDetail {
    /// The error's number.
    pub code: KmbError,
    /// `KMB_DETAIL_*`, or-ed together.
    pub flags: u32,
    /// Where retryable: how long to wait first, in milliseconds; 0 for no advice.
    pub retry_after_ms: u32,
    /// 0.
    pub reserved: u32,
    /// By error: the actual next offset (OFFSET_MISMATCH, OFFSET_OUT_OF_RANGE), the byte in the
    /// statement (QUERY_SYNTAX), the bound (LIMIT_EXCEEDED), the offset (CORRUPTION); else 0.
    pub value: u64,
    /// Where the outcome is unknown: the key's producer; else 0.
    pub key_producer_id: u64,
    /// Where the outcome is unknown: the key's sequence number; else 0.
    pub key_sequence: u64,
    /// What was wrong with which field, length or bound: UTF-8 with a NUL behind it, valid until the
    /// detail is freed. It never holds a token, event data or a parameter's value.
    pub message: *const c_char,
    /// Bytes of the message, without the NUL.
    pub message_len: usize,
}

/// A detail with the text that it points into. The public part is its first field, so that a
/// pointer to one is a pointer to the other.
#[repr(C)]
struct OwnedDetail {
    public: KmbDetail,
    _message: CString,
}

/// The number that C gets for an error. The fields of an error are open, so that one without a
/// number can be made; a failure must not look like a success, whose outputs would be read.
pub(crate) fn number(e: &Error) -> KmbError {
    if e.number == KMB_OK { ErrorCode::Internal.number() } else { e.number }
}

impl OwnedDetail {
    fn new(e: Error) -> Box<OwnedDetail> {
        let code = number(&e);
        let message = c_string(e.detail);
        let mut flags = 0;
        if e.code.is_retryable() {
            flags |= KMB_DETAIL_RETRYABLE;
        }
        if e.outcome_unknown.is_some() {
            flags |= KMB_DETAIL_OUTCOME_UNKNOWN;
        }
        let public = KmbDetail {
            code,
            flags,
            retry_after_ms: e.retry_after_ms,
            reserved: 0,
            value: e.value,
            key_producer_id: e.outcome_unknown.map_or(0, |key| key.producer_id),
            key_sequence: e.outcome_unknown.map_or(0, |key| key.sequence),
            message: message.as_ptr(),
            message_len: message.as_bytes().len(),
        };
        Box::new(OwnedDetail { public, _message: message })
    }
}

/// A text for C; a NUL inside it, which only a strange server sends, becomes a space.
fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|e| {
        let bytes = e.into_vec().iter().map(|&b| if b == 0 { b' ' } else { b }).collect::<Vec<_>>();
        CString::new(bytes).unwrap_or_default()
    })
}

/// A detail for the caller, who frees it.
pub(crate) fn give(e: Error) -> *mut KmbDetail {
    Box::into_raw(OwnedDetail::new(e)).cast()
}

/// Frees a detail that [`give`] made; NULL is harmless.
pub(crate) unsafe fn free(detail: *mut KmbDetail) {
    if !detail.is_null() {
        // SAFETY: `give` made it from such a box, and the caller frees it once.
        drop(unsafe { Box::from_raw(detail.cast::<OwnedDetail>()) });
    }
}

thread_local! {
    static LAST: RefCell<Option<Box<OwnedDetail>>> = const { RefCell::new(None) };
}

/// Keeps an error as this thread's last. A thread that is ending has no place for one any more.
pub(crate) fn keep_last(e: Error) {
    let _ = LAST.try_with(|last| last.replace(Some(OwnedDetail::new(e))));
}

/// Says that this thread's last call succeeded.
pub(crate) fn clear_last() {
    let _ = LAST.try_with(|last| last.take());
}

/// The detail of the last call on this thread to a function that has neither a `detail_out` nor
/// another way to tell (kmb_client_connect, kmb_client_create_stream, kmb_client_append,
/// kmb_client_read, kmb_client_query, kmb_client_query_at, kmb_client_query_at_timestamp,
/// kmb_query_result_get_i64, kmb_query_result_get_string); NULL where it succeeded.
///
/// Ownership: belongs to the thread; valid until the thread's next call to one of these functions.
#[unsafe(no_mangle)]
pub extern "C" fn kmb_last_error_detail() -> *const KmbDetail {
    let last = LAST.try_with(|last| match last.borrow().as_deref() {
        Some(detail) => &raw const detail.public,
        None => std::ptr::null(),
    });
    last.unwrap_or(std::ptr::null())
}

/// Frees a detail that a `detail_out` or a completion gave, once; NULL is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_detail_free(detail: *mut KmbDetail) {
    // SAFETY: the caller passes NULL or a detail of its own.
    quietly(|| unsafe { free(detail) });
}

/// A static text of an error.
fn static_text(error: KmbError, of: fn(ErrorCode) -> &'static str) -> &'static CStr {
    let code = ErrorCode::from_number(error).unwrap_or(ErrorCode::Unknown);
    crate::texts::static_c_str(of(code))
}

/// The error's name in the contract, such as `STREAM_NOT_FOUND`; `UNKNOWN` for a number that this
/// version does not know. Static: valid for ever, never freed.
#[unsafe(no_mangle)]
pub extern "C" fn kmb_error_name(error: KmbError) -> *const c_char {
    static_text(error, ErrorCode::name).as_ptr()
}

/// What the error means. Static: valid for ever, never freed.
#[unsafe(no_mangle)]
pub extern "C" fn kmb_error_message(error: KmbError) -> *const c_char {
    static_text(error, ErrorCode::message).as_ptr()
}

/// What to do about the error. Static: valid for ever, never freed.
#[unsafe(no_mangle)]
pub extern "C" fn kmb_error_remedy(error: KmbError) -> *const c_char {
    static_text(error, ErrorCode::remedy).as_ptr()
}

/// Whether a fresh call may succeed later and cannot duplicate, for any operation.
#[unsafe(no_mangle)]
pub extern "C" fn kmb_error_is_retryable(error: KmbError) -> bool {
    ErrorCode::from_number(error).is_some_and(ErrorCode::is_retryable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boundary::{report, report_last};
    use crate::completion::Completion;
    use crate::generated::KMB_ERR_INTERNAL;

    /// Nothing that failed comes out as KMB_OK, even where an error without a number was made.
    #[test]
    fn a_failure_is_never_ok() {
        let hollow = Error { code: ErrorCode::Ok, number: 0, ..Error::invalid("hollow") };
        let mut detail = std::ptr::null_mut();
        assert_eq!(report(&raw mut detail, || Err(hollow.clone())), KMB_ERR_INTERNAL);
        // SAFETY: `report` gave it, and it is freed once.
        unsafe {
            assert_eq!((*detail).code, KMB_ERR_INTERNAL);
            free(detail);
        }
        assert_eq!(report_last(|| Err(hollow.clone())), KMB_ERR_INTERNAL);
        let kind = kimberlite_wire::CompletionKind::Append;
        let completion = Completion::new(1, 2, kind, Err(hollow)).into_raw();
        assert_eq!(completion.error, KMB_ERR_INTERNAL);
        // SAFETY: the completion gave it, and it is freed once.
        unsafe { free(completion.detail) };
    }
}
