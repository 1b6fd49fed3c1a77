//! Something that is used by one call at a time and can be closed in the middle of one.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use kimberlite_wire::{Error, ErrorCode};
use tokio::sync::{Mutex, MutexGuard, Semaphore};

/// Wraps a reader or a cursor: calls take turns, and a close ends the one under way with CLOSED.
pub(crate) struct Closable<T> {
    inner: Mutex<T>,
    /// Never has a permit; closing it wakes whoever waits for one.
    closing: Semaphore,
    noun: &'static str,
}

impl<T> Closable<T> {
    pub(crate) fn new(noun: &'static str, inner: T) -> Closable<T> {
        Closable { inner: Mutex::new(inner), closing: Semaphore::new(0), noun }
    }

    /// Ends the call under way and all later ones with CLOSED.
    pub(crate) fn close(&self) {
        self.closing.close();
    }

    /// This call's turn.
    pub(crate) async fn lock(&self) -> Result<MutexGuard<'_, T>, Error> {
        self.until_closed(async { Ok(self.inner.lock().await) }).await
    }

    /// Takes a turn if it is free.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.inner.try_lock().ok()
    }

    /// CLOSED.
    pub(crate) fn closed(&self) -> Error {
        Error::new(ErrorCode::Closed, format!("the {} was closed", self.noun))
    }

    /// Runs a future to its end or to the close.
    pub(crate) async fn until_closed<R>(
        &self,
        future: impl Future<Output = Result<R, Error>>,
    ) -> Result<R, Error> {
        let mut future = pin!(future);
        let mut closing = pin!(self.closing.acquire());
        poll_fn(|cx| {
            if closing.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(self.closed()));
            }
            future.as_mut().poll(cx)
        })
        .await
    }
}
