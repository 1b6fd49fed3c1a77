//! The calls that are pending at an engine, so that a close reaches each of them.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use kimberlite_wire::{Error, ErrorCode};

use crate::deadlines::Timer;
use crate::process;
use crate::stop::{Stop, cancelled};

/// A client's pending calls.
#[derive(Default)]
pub(super) struct Calls {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    closed: bool,
    next_id: u64,
    wakers: HashMap<u64, Waker>,
}

impl Calls {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every pending call, and each later one, with CLOSED.
    pub(super) fn close(&self) {
        let wakers = {
            let mut table = self.table();
            table.closed = true;
            std::mem::take(&mut table.wakers)
        };
        wakers.into_values().for_each(Waker::wake);
    }

    /// Waits for `future`, but not beyond the deadline or the close. A future that is ready is
    /// taken whatever the time: what is done is done.
    pub(super) async fn bounded<T>(
        self: &Arc<Calls>,
        future: impl Future<Output = T>,
        limit: &Limit<'_>,
    ) -> Result<T, Error> {
        let mut future = std::pin::pin!(future);
        let mut entry = Entry::new(Arc::clone(self));
        let mut timer = Timer::at(limit.deadline);
        std::future::poll_fn(move |context| {
            if let Poll::Ready(output) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(output));
            }
            if limit.stop.is_some_and(|stop| stop.poll(context).is_ready()) {
                return Poll::Ready(Err(cancelled()));
            }
            if let Err(e) = entry.register(context) {
                return Poll::Ready(Err(e));
            }
            timer.poll(context).map(|fired| fired.and(Err(limit.passed())))
        })
        .await
    }
}

/// When a call must be done, and how its error says so.
#[derive(Clone, Copy)]
pub(super) struct Limit<'a> {
    pub(super) deadline: Instant,
    timeout: Duration,
    operation: &'static str,
    stop: Option<&'a Stop>,
}

impl<'a> Limit<'a> {
    pub(super) fn new(
        operation: &'static str,
        timeout: Duration,
        stop: Option<&'a Stop>,
    ) -> Limit<'a> {
        // Timeouts are at most a day.
        Limit { deadline: Instant::now() + timeout, timeout, operation, stop }
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// TIMEOUT.
    fn passed(&self) -> Error {
        let (operation, timeout_ms) = (self.operation, self.timeout.as_millis());
        let detail = format!("{operation} took longer than its deadline of {timeout_ms} ms");
        Error::new(ErrorCode::Timeout, detail)
    }
}

/// One pending call's place in the table.
pub(super) struct Entry {
    calls: Arc<Calls>,
    id: Option<u64>,
}

impl Entry {
    pub(super) fn new(calls: Arc<Calls>) -> Entry {
        Entry { calls, id: None }
    }

    /// Has the waker woken by a close. CLOSED where that has come.
    pub(super) fn register(&mut self, context: &Context<'_>) -> Result<(), Error> {
        let mut table = self.calls.table();
        if table.closed {
            return Err(closed());
        }
        let id = *self.id.get_or_insert_with(|| {
            table.next_id += 1;
            table.next_id
        });
        match table.wakers.get_mut(&id) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                table.wakers.insert(id, context.waker().clone());
            }
        }
        Ok(())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(id) = self.id
            && !process::is_forked()
        {
            let waker = self.calls.table().wakers.remove(&id);
            drop(waker);
        }
    }
}

/// CLOSED.
pub(super) fn closed() -> Error {
    Error::new(ErrorCode::Closed, "the client is closed")
}
