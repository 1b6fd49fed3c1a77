//! Walking a stream's hash chain, on the server or here.

use kimberlite_client::StreamId;
use kimberlite_wire::{CompletionKind, VerifyResponse};

use crate::arguments::Out;
use crate::boundary::{boundary, quietly};
use crate::call::{self, KmbCallOptions, wait};
use crate::client::{self, KmbClient};
use crate::detail::{KmbDetail, KmbError};
use crate::queue::KmbQueue;
use crate::submit::{Outcome, Submission};

/// What a walk of a chain found.
///
/// Ownership: kmb_verify writes into the caller's; one of a completion is freed once by
/// kmb_verification_free.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KmbVerification {
    /// Events that were verified.
    pub count: u64,
    /// The first offset of the block that does not fit; KMB_NO_OFFSET where all fit.
    pub first_bad_offset: u64,
    /// The position that the walk reflects.
    pub position: u64,
    /// 1 where every block fits, else 0.
    pub valid: u8,
    /// 0.
    pub reserved: [u8; 7],
    /// The chain's last hash that fits.
    pub head: [u8; 32],
}

impl From<VerifyResponse> for KmbVerification {
    fn from(from: VerifyResponse) -> KmbVerification {
        KmbVerification {
            count: from.count,
            first_bad_offset: from.first_bad_offset,
            position: from.position,
            valid: u8::from(from.valid),
            reserved: [0; 7],
            head: from.head,
        }
    }
}

/// Frees a verification of a completion; NULL is harmless.
///
/// # Safety
/// It must not be freed yet.
pub(crate) unsafe fn free(verification: *mut KmbVerification) {
    if !verification.is_null() {
        // SAFETY: the submission made it from such a box, and the caller frees it once.
        drop(unsafe { Box::from_raw(verification) });
    }
}

/// Lets the database walk a stream's hash chain. OK also where a block does not fit: valid tells.
///
/// verification_out: receives what was found.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_verify(
    client: *mut KmbClient,
    stream_id: u64,
    call: *const KmbCallOptions,
    verification_out: *mut KmbVerification,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("verification_out", verification_out)?;
        let options = call::options(call)?;
        out.put(wait(client.verify(StreamId(stream_id), &options))?.into());
        Ok(())
    })
}

/// Submits kmb_verify. The completion's result: a KmbVerification of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_verify(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    stream_id: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::Verify, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            let found = client.verify(StreamId(stream_id), &options).await?;
            Ok(Outcome::result(Box::into_raw(Box::new(KmbVerification::from(found)))))
        })
    })
}

/// Reads a stream up to the end that it has now and walks its hash chain in this process: the
/// database is believed nothing but the stream's name, class and head. OK also where a block does
/// not fit: valid tells. It is 1 only where the walk comes to that end with that head; a block that
/// is damaged, changed or withheld, and a last one that makes another head, is the first that does
/// not fit. Events that are appended meanwhile are left out.
///
/// call: its deadline holds for each read. verification_out: receives what was found.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_verify_locally(
    client: *mut KmbClient,
    stream_id: u64,
    call: *const KmbCallOptions,
    verification_out: *mut KmbVerification,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("verification_out", verification_out)?;
        let options = call::options(call)?;
        out.put(wait(client.verify_locally(StreamId(stream_id), &options))?.into());
        Ok(())
    })
}

/// Submits kmb_verify_locally. The completion is one of KMB_COMPLETION_VERIFY; its result: a
/// KmbVerification of its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_verify_locally(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    stream_id: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::Verify, tag)?;
        let options = call::options(call)?;
        submission.start(operation_out, async move |client| {
            let found = client.verify_locally(StreamId(stream_id), &options).await?;
            Ok(Outcome::result(Box::into_raw(Box::new(KmbVerification::from(found)))))
        })
    })
}

/// Frees a verification that a completion gave, once; NULL is harmless. Never one that kmb_verify
/// wrote into the caller's memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_verification_free(verification: *mut KmbVerification) {
    // SAFETY: the caller passes NULL or a verification of its own.
    quietly(|| unsafe { free(verification) });
}
