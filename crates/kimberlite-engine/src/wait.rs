//! Waiting, in async code and without: for a moment, for a position, for the commit thread.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use kimberlite_wire::{Error, ErrorCode};

use crate::queue::Queue;
use crate::state::Applied;
use crate::sync::thread::{self, Thread};
use crate::waiters::Slot;

/// The moment by which a call must be done.
#[derive(Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    timeout: Option<Duration>,
    queue: Arc<Queue>,
    registered: Option<u64>,
}

impl Deadline {
    pub(crate) fn after(timeout: Option<Duration>, queue: &Arc<Queue>) -> Deadline {
        // A timeout beyond what the clock can tell is none.
        let at = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Deadline { at, timeout, queue: queue.clone(), registered: None }
    }

    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// What is left of `bound` and of the time to the deadline; zero once that has passed.
    pub(crate) fn remaining(&self, bound: Duration) -> Duration {
        match self.at {
            Some(at) => at.saturating_duration_since(Instant::now()).min(bound),
            None => bound,
        }
    }

    /// TIMEOUT, naming what was waited for.
    pub(crate) fn error(&self, what: &str) -> Error {
        let after_ms = self.timeout.map_or(0, |timeout| timeout.as_millis());
        Error::new(ErrorCode::Timeout, format!("{what} took longer than {after_ms} ms"))
    }

    /// Ready once the moment has come.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        if at <= Instant::now() {
            return Poll::Ready(());
        }
        self.queue.wake_at(at, &mut self.registered, cx.waker());
        Poll::Pending
    }

    /// What the future gives, or TIMEOUT where the moment comes first.
    pub(crate) async fn bound<T>(
        &mut self,
        what: &str,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(result) = future.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            self.poll(cx).map(|()| Err(self.error(what)))
        })
        .await
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let (Some(at), Some(id)) = (self.at, self.registered) {
            self.queue.forget(at, id);
        }
    }
}

/// Waits until a position is applied. CLOSED where the engine closes before.
pub(crate) struct Reached {
    applied: Arc<Applied>,
    position: u64,
    slot: Slot,
}

impl Reached {
    pub(crate) fn new(applied: &Arc<Applied>, position: u64) -> Reached {
        Reached { applied: applied.clone(), position, slot: Slot::default() }
    }

    fn look(&self) -> Poll<Result<(), Error>> {
        match self.applied.check_open() {
            Ok(()) if self.applied.position() >= self.position => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl Future for Reached {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Poll::Ready(result) = self.look() {
            return Poll::Ready(result);
        }
        let this = &mut *self;
        this.applied.waiters.register(&mut this.slot, cx.waker());
        // It may have happened in between, when nobody was there to be woken.
        self.look()
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        self.applied.waiters.remove(&mut self.slot);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread, which sleeps while it is pending.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
