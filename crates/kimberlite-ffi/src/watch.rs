//! Tells a queue when a subscription has pages.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use kimberlite_client::runtime;
use kimberlite_wire::{CompletionKind, Error, ErrorCode};
use tokio::sync::Notify;

use crate::client::Pending;
use crate::completion::{Completion, Outcome};
use crate::operation::{self, Canceller};
use crate::queue::Queue;
use crate::subscription::SubscriptionState;

/// Whether a ready completion is outstanding, so that there is at most one.
#[derive(Default)]
pub(crate) struct Readiness {
    watched: AtomicBool,
    /// A completion was posted and the pages behind it were not all taken yet.
    outstanding: AtomicBool,
    /// The subscription has ended: nothing further will come.
    ended: AtomicBool,
    changed: Notify,
}

impl Readiness {
    /// Lets the watch look for pages again, or end.
    pub(crate) fn rearm(&self, ended: bool) {
        if ended {
            self.ended.store(true, Ordering::Release);
        }
        if self.outstanding.swap(false, Ordering::AcqRel) || ended {
            self.changed.notify_one();
        }
    }

    async fn until_taken(&self) {
        while self.outstanding.load(Ordering::Acquire) {
            self.changed.notified().await;
        }
    }
}

/// Starts the watch of a subscription and gives its operation's id.
pub(crate) fn start(
    state: Arc<SubscriptionState>,
    queue: Arc<Queue>,
    tag: u64,
) -> Result<u64, Error> {
    let runtime = runtime::handle()?;
    let pending = state.client.begin()?;
    if state.readiness.watched.swap(true, Ordering::AcqRel) {
        return Err(Error::invalid("the subscription is watched already; cancel that watch first"));
    }
    let (id, canceller) = operation::begin(&queue, None);
    let watch = Watch { id, tag, queue, state, canceller };
    drop(runtime.spawn(watch.run(pending)));
    Ok(id)
}

struct Watch {
    id: u64,
    tag: u64,
    queue: Arc<Queue>,
    state: Arc<SubscriptionState>,
    canceller: Arc<Canceller>,
}

impl Watch {
    async fn run(self, pending: Pending) {
        let cancelled = self.cancelled_before(self.tell()).await;
        operation::end(self.id);
        self.state.readiness.outstanding.store(false, Ordering::Release);
        self.state.readiness.watched.store(false, Ordering::Release);
        if cancelled {
            self.post(Err(Error::new(ErrorCode::Cancelled, "the watch was cancelled")));
        }
        drop(pending);
    }

    /// Posts until the subscription has ended or its client is being closed.
    async fn tell(&self) {
        let readiness = &self.state.readiness;
        loop {
            self.state.subscription.ready().await;
            readiness.outstanding.store(true, Ordering::Release);
            self.post(Ok(Outcome::none()));
            // An end is told once more than needed rather than not at all.
            if readiness.ended.load(Ordering::Acquire)
                || self.state.client.closing_before(readiness.until_taken()).await
                || readiness.ended.load(Ordering::Acquire)
            {
                return;
            }
        }
    }

    fn post(&self, result: Result<Outcome, Error>) {
        let kind = CompletionKind::SubscriptionReady;
        self.queue.post(Completion::new(self.id, self.tag, kind, result));
    }

    /// Runs a future; true where it was cancelled first.
    async fn cancelled_before(&self, future: impl Future<Output = ()>) -> bool {
        let mut future = pin!(future);
        poll_fn(|context| {
            if self.canceller.poll(context.waker()) {
                return Poll::Ready(true);
            }
            future.as_mut().poll(context).map(|()| false)
        })
        .await
    }
}
