//! Stops a call that is still wanted for what its error says.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[cfg(feature = "embedded")]
use kimberlite_wire::{Error, ErrorCode};

/// Cancels a call without dropping it: the call ends with CANCELLED, and an append that was sent
/// then tells the key that settles it. Dropping a call's future cancels it as well, but nobody is
/// left to be told.
#[derive(Debug, Default)]
pub struct Stop {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    requested: bool,
    waker: Option<Waker>,
}

impl Stop {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels the call; again is harmless.
    pub fn request(&self) {
        let waker = {
            let mut state = self.state();
            state.requested = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ready once it was requested; serves one task at a time.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.requested {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            waker => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// CANCELLED. A remote call's comes from the session.
#[cfg(feature = "embedded")]
pub(crate) fn cancelled() -> Error {
    Error::new(ErrorCode::Cancelled, "the call was cancelled")
}
