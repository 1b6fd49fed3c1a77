//! The end of an operation, as a queue hands it out.

use std::ffi::c_void;

use kimberlite_wire::{CompletionKind, Error};

use crate::boundary::quietly;
use crate::detail::{self, KmbDetail, KmbError};
use crate::generated::KMB_OK;
use crate::{
    blocks, client, cursor, page, query_result, stream, subscription, tenant, verification,
};

/// The end of an operation.
///
/// Ownership: result and detail belong to whoever took the completion from the queue: the result is
/// freed or closed by the function of its type, the detail by kmb_detail_free, or both by
/// kmb_completion_free.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KmbCompletion {
    /// The operation's id, as kmb_submit_* told it.
    pub operation: u64,
    /// The tag that was given to kmb_submit_*.
    pub tag: u64,
    /// KMB_OK or the error's number.
    pub error: KmbError,
    /// `KMB_COMPLETION_*`: what ended, and so what result and values are.
    pub kind: u32,
    /// The result by kind; NULL where there is none or error is not KMB_OK.
    pub result: *mut c_void,
    /// The error's detail; NULL where error is KMB_OK.
    pub detail: *mut KmbDetail,
    /// Numbers by kind; 0 where there are none.
    pub values: [u64; 3],
}

/// What an operation gave: the raw form of its result, and numbers.
pub(crate) struct Outcome {
    pub(crate) result: *mut c_void,
    pub(crate) values: [u64; 3],
}

// SAFETY: a result is owned by whoever has the pointer, and may go to any thread.
unsafe impl Send for Outcome {}

impl Outcome {
    /// Neither a result nor numbers.
    pub(crate) fn none() -> Outcome {
        Outcome { result: std::ptr::null_mut(), values: [0; 3] }
    }

    /// One number.
    pub(crate) fn value(value: u64) -> Outcome {
        Outcome { result: std::ptr::null_mut(), values: [value, 0, 0] }
    }

    /// A result.
    pub(crate) fn result<T>(result: *mut T) -> Outcome {
        Outcome { result: result.cast(), values: [0; 3] }
    }
}

/// A completion that frees what it owns unless it is handed out.
pub(crate) struct Completion(KmbCompletion);

// SAFETY: as of `Outcome`.
unsafe impl Send for Completion {}

impl Completion {
    pub(crate) fn new(
        operation: u64,
        tag: u64,
        kind: CompletionKind,
        result: Result<Outcome, Error>,
    ) -> Completion {
        let kind = u32::from(kind.number());
        let null = std::ptr::null_mut();
        Completion(match result {
            Ok(Outcome { result, values }) => {
                KmbCompletion { operation, tag, error: KMB_OK, kind, result, detail: null, values }
            }
            Err(e) => {
                let (error, detail) = (detail::number(&e), detail::give(e));
                let values = [0; 3];
                KmbCompletion { operation, tag, error, kind, result: null.cast(), detail, values }
            }
        })
    }

    /// Hands it out.
    pub(crate) fn into_raw(self) -> KmbCompletion {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        // SAFETY: it was not handed out, so what it owns is still there.
        unsafe { release(&mut self.0) };
    }
}

/// Frees what a completion owns.
///
/// # Safety
/// Its pointers must be NULL or what the library put there, and not freed yet.
unsafe fn release(completion: &mut KmbCompletion) {
    let result = std::mem::replace(&mut completion.result, std::ptr::null_mut());
    let detail = std::mem::replace(&mut completion.detail, std::ptr::null_mut());
    // SAFETY: the caller's promise, for all of these.
    unsafe {
        detail::free(detail);
        let kind = u8::try_from(completion.kind).ok().and_then(CompletionKind::from_number);
        if result.is_null() {
            return;
        }
        match kind {
            Some(CompletionKind::Connect) => client::discard(result.cast()),
            Some(
                CompletionKind::ReadPage
                | CompletionKind::ReaderNext
                | CompletionKind::SubscriptionNext,
            ) => page::free(result.cast()),
            Some(CompletionKind::Query | CompletionKind::CursorNext) => {
                query_result::free(result.cast());
            }
            Some(CompletionKind::Subscribe) => subscription::discard(result.cast()),
            Some(CompletionKind::QueryCursor) => cursor::discard(result.cast()),
            Some(CompletionKind::Verify) => verification::free(result.cast()),
            Some(CompletionKind::ListStreams | CompletionKind::StreamInfo) => {
                stream::free(result.cast());
            }
            Some(CompletionKind::ListTenants) => tenant::free(result.cast()),
            Some(CompletionKind::ReadBlocks) => blocks::free(result.cast()),
            Some(
                CompletionKind::CreateStream
                | CompletionKind::Append
                | CompletionKind::OpenProducer
                | CompletionKind::CreateTenant
                | CompletionKind::DeleteTenant
                | CompletionKind::SubscriptionReady
                | CompletionKind::Close,
            )
            | None => {}
        }
    }
}

/// Frees what a completion owns that nobody wants any more: its detail, and its result by its kind
/// (a client, cursor or subscription is closed in the background). Both become NULL, so that a
/// second call is harmless. NULL is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_completion_free(completion: *mut KmbCompletion) {
    quietly(|| {
        if !completion.is_null() {
            // SAFETY: the caller passes NULL or a completion that a queue gave.
            unsafe {
                let mut copy = completion.read_unaligned();
                release(&mut copy);
                completion.write_unaligned(copy);
            }
        }
    });
}
