//! The options of one call, and how blocking calls wait.

use std::future::Future;

use kimberlite_client::CallOptions;
use kimberlite_wire::Error;

use crate::generated::KMB_CALL_STALE;
use crate::queue;

/// Options of one call. Where a function takes a pointer to them, NULL means all zero. It is read
/// before the function returns.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct KmbCallOptions {
    /// The call's deadline in milliseconds; 0 takes the client's option `timeout_ms`.
    pub timeout_ms: u64,
    /// A read or query must reflect at least this position; 0 asks nothing.
    pub min_position: u64,
    /// `KMB_CALL_*`, or-ed together.
    pub flags: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Must be 0.
    pub reserved_2: u64,
}

/// The options behind a pointer, which may be NULL.
///
/// # Safety
/// The pointer must be NULL or valid for reading.
pub(crate) unsafe fn options(call: *const KmbCallOptions) -> Result<CallOptions, Error> {
    if call.is_null() {
        return Ok(CallOptions::default());
    }
    // SAFETY: the caller's promise; it may be unaligned.
    let call = unsafe { call.read_unaligned() };
    let unknown = call.flags & !KMB_CALL_STALE;
    if unknown != 0 {
        return Err(Error::invalid(format!("call.flags has the unknown flags {unknown:#x}")));
    }
    if call.reserved != 0 || call.reserved_2 != 0 {
        return Err(Error::invalid("call.reserved is not 0; set the whole struct to zero first"));
    }
    Ok(CallOptions {
        timeout_ms: (call.timeout_ms != 0).then_some(call.timeout_ms),
        min_position: call.min_position,
        stale: call.flags & KMB_CALL_STALE != 0,
    })
}

/// Waits on the caller's thread. Refused on a thread that runs a queue's callback: it belongs to the
/// library, and what is waited for may need it.
pub(crate) fn wait<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    if queue::in_callback() {
        return Err(Error::invalid(
            "a blocking call was made from a queue's callback; submit it, or call from another thread",
        ));
    }
    kimberlite_client::block_on(future)
}
