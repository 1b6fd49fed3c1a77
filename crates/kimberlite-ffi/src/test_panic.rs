//! Two exports that panic, for the tests of the boundary. The shipped library is built without them.

use kimberlite_wire::CompletionKind;

use crate::boundary::boundary;
use crate::client::KmbClient;
use crate::detail::{KmbDetail, KmbError};
use crate::queue::KmbQueue;
use crate::submit::{Outcome, Submission};

/// Panics within the boundary.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_test_panic(detail_out: *mut *mut KmbDetail) -> KmbError {
    boundary!(detail_out, { panic!("a forced panic") })
}

/// Panics within a submitted operation.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_test_submit_panic(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::Append, tag)?;
        submission.start(operation_out, async move |_client| {
            if tag != u64::MAX {
                panic!("a forced panic");
            }
            Ok(Outcome::none())
        })
    })
}
