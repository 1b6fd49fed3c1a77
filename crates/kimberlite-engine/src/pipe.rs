//! The way of rows from a query's thread to whoever asked: bounded, so that a slow reader slows its
//! own query, and cancelled when the reader goes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kimberlite_wire::Error;

use crate::answer::PayloadStream;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::waiters::lock;

/// A query runs ahead of its reader by about this many bytes.
const MAX_AHEAD_BYTES: usize = 1 << 20;
/// Work that goes on for this long after it should have ended does not listen.
const OVERDUE_AFTER: Duration = Duration::from_secs(1);

/// Batches on their way, and whether they are still wanted. Also stands for work without rows, to
/// cancel it.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    cancelled: AtomicBool,
    inner: Mutex<Inner>,
    room: Condvar,
    /// When the work is to end by itself, if that is known.
    ends: Option<Instant>,
    /// On whose behalf it is done.
    tenant_id: u64,
}

#[derive(Debug, Default)]
struct Inner {
    batches: VecDeque<Bytes>,
    bytes: usize,
    end: Option<Result<(), Error>>,
    waker: Option<Waker>,
    cancelled_at: Option<Instant>,
}

/// What became of a batch that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Taken,
    /// Nobody wants it.
    Cancelled,
    /// The reader did not make room in time.
    TooLate,
}

impl Pipe {
    /// The pipe of work for a tenant. Where `ends` is told, the work watches the clock itself and
    /// ends then at the latest.
    pub(crate) fn of(tenant_id: u64, ends: Option<Instant>) -> Pipe {
        Pipe { ends, tenant_id, ..Pipe::default() }
    }

    /// On whose behalf the work is done.
    pub(crate) fn tenant_id(&self) -> u64 {
        self.tenant_id
    }

    /// Whether the work should have ended, by its own clock or because it was cancelled, a good
    /// while before `now`.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        let cancelled_at = lock(&self.inner).cancelled_at;
        let end = self.ends.into_iter().chain(cancelled_at).min();
        end.is_some_and(|end| now.saturating_duration_since(end) > OVERDUE_AFTER)
    }

    /// True once nobody wants the work any more.
    pub(crate) fn cancelled(&self) -> &AtomicBool {
        &self.cancelled
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Tells the work to stop.
    pub(crate) fn cancel(&self) {
        // Under the lock, so that a sender is either before its look or in its sleep.
        let mut inner = lock(&self.inner);
        inner.cancelled_at.get_or_insert_with(Instant::now);
        self.cancelled.store(true, Ordering::SeqCst);
        drop(inner);
        self.room.notify_all();
    }

    /// Hands a batch on; sleeps while the reader is far behind, until `deadline`.
    pub(crate) fn send(&self, batch: Bytes, deadline: Instant) -> Sent {
        let mut inner = lock(&self.inner);
        while inner.bytes >= MAX_AHEAD_BYTES && !self.is_cancelled() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Sent::TooLate;
            }
            let waited = self.room.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if self.is_cancelled() {
            return Sent::Cancelled;
        }
        inner.bytes += batch.len();
        inner.batches.push_back(batch);
        wake(inner);
        Sent::Taken
    }

    /// Nothing more comes. Only the first end counts.
    pub(crate) fn finish(&self, end: Result<(), Error>) {
        let mut inner = lock(&self.inner);
        inner.end.get_or_insert(end);
        wake(inner);
    }

    fn poll(&self, cx: &mut Context<'_>, max_bytes: usize) -> Poll<Option<Result<Bytes, Error>>> {
        let mut inner = lock(&self.inner);
        if let Some(batch) = inner.batches.front_mut() {
            let chunk = batch.split_to(batch.len().min(max_bytes.max(1)));
            if batch.is_empty() {
                inner.batches.pop_front();
            }
            inner.bytes -= chunk.len();
            let has_room = inner.bytes < MAX_AHEAD_BYTES;
            drop(inner);
            if has_room {
                self.room.notify_one();
            }
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &mut inner.end {
            None => {
                inner.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            // After an error there is nothing more.
            Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
        }
    }
}

fn wake(mut inner: MutexGuard<'_, Inner>) {
    let waker = inner.waker.take();
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The reader's end. Dropping it cancels the work.
#[derive(Debug)]
pub(crate) struct PipeReader(pub(crate) Arc<Pipe>);

impl PayloadStream for PipeReader {
    fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        max_bytes: usize,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        self.0.poll(cx, max_bytes)
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kimberlite_wire::ErrorCode;

    use super::*;
    use crate::wait::block_on;

    fn next(reader: &mut PipeReader, max_bytes: usize) -> Option<Result<Bytes, Error>> {
        block_on(std::future::poll_fn(|cx| reader.poll_chunk(cx, max_bytes)))
    }

    /// Batches come out in order, cut as asked for, and the error after them once.
    #[test]
    fn gives_what_was_sent() {
        let pipe = Arc::new(Pipe::default());
        let mut reader = PipeReader(pipe.clone());
        let deadline = Instant::now() + Duration::from_secs(10);
        assert_eq!(pipe.send(Bytes::from_static(b"abcde"), deadline), Sent::Taken);
        pipe.finish(Err(Error::new(ErrorCode::QueryExecution, "late")));
        pipe.finish(Ok(()));
        assert_eq!(next(&mut reader, 3), Some(Ok(Bytes::from_static(b"abc"))));
        assert_eq!(next(&mut reader, 0), Some(Ok(Bytes::from_static(b"d"))));
        assert_eq!(next(&mut reader, 9), Some(Ok(Bytes::from_static(b"e"))));
        assert!(next(&mut reader, 9).unwrap().is_err());
        assert_eq!(next(&mut reader, 9), None);
    }

    /// A sender waits for a slow reader, not for ever, and not at all once the reader is gone.
    #[test]
    fn a_slow_reader_slows_the_sender() {
        let pipe = Arc::new(Pipe::default());
        let reader = PipeReader(pipe.clone());
        let big = Bytes::from(vec![0; MAX_AHEAD_BYTES]);
        let soon = || Instant::now() + Duration::from_millis(20);
        assert_eq!(pipe.send(big.clone(), soon()), Sent::Taken);
        assert_eq!(pipe.send(big.clone(), soon()), Sent::TooLate);
        let sender = {
            let (pipe, big) = (pipe.clone(), big.clone());
            std::thread::spawn(move || pipe.send(big, Instant::now() + Duration::from_secs(60)))
        };
        drop(reader);
        assert_eq!(sender.join().unwrap(), Sent::Cancelled);
    }
}
