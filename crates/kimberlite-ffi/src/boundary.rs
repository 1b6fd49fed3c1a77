//! The boundary that every export goes through: panics are caught, a forked child is refused, and
//! errors become numbers with details.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kimberlite_client::process;
use kimberlite_wire::{Error, ErrorCode};

use crate::detail::{self, KmbDetail, KmbError};
use crate::generated::KMB_OK;

/// Wraps the body of an export. `boundary!(detail_out, { … })` reports through the out-parameter,
/// `boundary!({ … })` through this thread's last detail; both bodies end in a `Result<(), Error>`.
macro_rules! boundary {
    ($detail_out:ident, $body:block) => {
        $crate::boundary::report($detail_out, move || {
            // SAFETY: an export's documentation demands of each pointer that it is NULL or valid for
            // what the argument says until the call returns; the helpers in `arguments` check the
            // rest. Handles are looked up and never followed.
            #[allow(unused_unsafe)]
            unsafe {
                $body
            }
        })
    };
    ($body:block) => {
        $crate::boundary::report_last(move || {
            // SAFETY: as above.
            #[allow(unused_unsafe)]
            unsafe {
                $body
            }
        })
    };
}
pub(crate) use boundary;

/// Runs a body; its error goes to `detail_out`, which may be NULL.
pub(crate) fn report<F>(detail_out: *mut *mut KmbDetail, body: F) -> KmbError
where
    F: FnOnce() -> Result<(), Error>,
{
    let result = caught(body);
    let number = result.as_ref().map_or_else(detail::number, |()| KMB_OK);
    if !detail_out.is_null() {
        let detail = result.map_or_else(detail::give, |()| std::ptr::null_mut());
        // SAFETY: the caller passes NULL or a place for a pointer.
        unsafe { detail_out.write_unaligned(detail) };
    }
    number
}

/// Runs a body; its error becomes this thread's last detail.
pub(crate) fn report_last<F>(body: F) -> KmbError
where
    F: FnOnce() -> Result<(), Error>,
{
    match caught(body) {
        Ok(()) => {
            detail::clear_last();
            KMB_OK
        }
        Err(e) => {
            let number = detail::number(&e);
            detail::keep_last(e);
            number
        }
    }
}

/// Runs the body of an export that has no way to report, such as a `_free`. In a forked child it
/// does nothing: memory pools may be locked by threads that the child does not have.
pub(crate) fn quietly<F: FnOnce()>(body: F) {
    let result = caught(move || {
        body();
        Ok(())
    });
    if let Err(e) = result
        && e.code != ErrorCode::Forked
    {
        tracing::error!("{e}");
    }
}

/// Runs a body; a panic becomes PANIC, and a forked child gets FORKED at once.
pub(crate) fn caught<T, F>(body: F) -> Result<T, Error>
where
    F: FnOnce() -> Result<T, Error>,
{
    if process::is_forked() {
        return Err(forked());
    }
    let place = std::any::type_name::<F>();
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| Err(panicked(place, &*payload)))
}

fn forked() -> Error {
    Error::new(
        ErrorCode::Forked,
        "this process was forked after Kimberlite was used in its parent, where closing the \
         clients makes no difference; fork before the parent uses it, or replace this process by \
         exec",
    )
}

/// PANIC. Only a literal message is passed on: a formatted one may hold a user's data.
pub(crate) fn panicked(place: &str, payload: &(dyn Any + Send)) -> Error {
    let place = place.trim_end_matches("::{{closure}}");
    let what = payload.downcast_ref::<&'static str>().copied().unwrap_or("see standard error");
    Error::new(ErrorCode::Panic, format!("in {place}: {what}"))
}
