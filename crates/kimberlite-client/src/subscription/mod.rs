//! Subscriptions that outlive connections.

mod credit;
mod worker;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use kimberlite_wire::{Error, ErrorCode, SubscribeRequest};

use self::credit::Credit;
pub(crate) use self::credit::CreditGrant;
use self::worker::Worker;
use crate::client::StreamId;
use crate::config::CallOptions;
use crate::deadlines::Timer;
use crate::door::{ClosedFlag, Door};
use crate::page::Page;
use crate::process;

/// Everything of a stream from an offset on, then every event as it is committed. When a connection
/// is lost it resumes by itself at the next offset: nothing is skipped or repeated. It is safe from
/// every thread; dropping it ends it.
pub struct Subscription {
    stream: StreamId,
    shared: Arc<Shared>,
}

impl Subscription {
    pub(crate) async fn open(
        door: &Arc<Door>,
        request: SubscribeRequest,
        options: &CallOptions,
    ) -> Result<Subscription, Error> {
        let credit = Arc::new(Credit::new(door.options().subscription_buffer_bytes));
        let mut worker = Worker::new(Arc::clone(door), &request, *options, credit);
        std::future::poll_fn(|context| worker.poll_opened(context)).await?;
        let state = State {
            next_offset: request.from_offset,
            worker: Some(Box::new(worker)),
            missed: false,
            page: None,
            ended: None,
        };
        let client = door.closed();
        let (state, waiters) = (Mutex::new(state), Mutex::default());
        let shared = Arc::new(Shared { state, waiters, client });
        Ok(Subscription { stream: StreamId(request.stream_id), shared })
    }

    /// The stream.
    pub fn stream(&self) -> StreamId {
        self.stream
    }

    /// The offset after the last page that was taken: where to subscribe to go on later.
    pub fn next_offset(&self) -> u64 {
        self.shared.state().next_offset
    }

    /// The next page, as soon as anything is there; `None` where nothing came within `timeout`
    /// (`None`: waits for ever). CLOSED after a close. Any error ends the subscription, and later
    /// calls get it again; what mends itself, such as a lost connection, is no error.
    pub async fn next(&self, timeout: Option<Duration>) -> Result<Option<Page>, Error> {
        let mut timer = timeout.map(Timer::after);
        let mut waiter = Waiter::new(&self.shared);
        std::future::poll_fn(|context| {
            if let Poll::Ready(page) = waiter.poll_page(context) {
                return Poll::Ready(page.map(Some));
            }
            match timer.as_mut().map(|timer| timer.poll(context)) {
                Some(Poll::Ready(Ok(()))) => Poll::Ready(Ok(None)),
                Some(Poll::Ready(Err(e))) => Poll::Ready(Err(e)),
                Some(Poll::Pending) | None => Poll::Pending,
            }
        })
        .await
    }

    /// Takes the next page if one is there now, without waiting.
    pub fn try_next(&self) -> Result<Option<Page>, Error> {
        match self.shared.poll_page() {
            Poll::Ready(page) => page.map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Resolves when [`Subscription::try_next`] is worth a call: a page is there, or the
    /// subscription has ended.
    pub async fn ready(&self) {
        let mut waiter = Waiter::new(&self.shared);
        std::future::poll_fn(|context| waiter.poll_ready(context)).await;
    }

    /// Ends the subscription: waiting and later calls get CLOSED, pages that were handed out live
    /// on. Closing twice is fine.
    pub fn close(&self) {
        if !process::is_forked() {
            self.shared.close();
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if process::is_forked() {
            return std::mem::forget(Arc::clone(&self.shared));
        }
        self.shared.close();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("stream", &self.stream).finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    /// Who waits for a page. Beside the state, so that waking needs no other lock.
    waiters: Mutex<Waiters>,
    client: ClosedFlag,
}

struct State {
    next_offset: u64,
    /// Away while a caller polls it, and after the end.
    worker: Option<Box<Worker>>,
    /// Someone wanted the worker while it was away.
    missed: bool,
    /// A page that [`Subscription::ready`] found.
    page: Option<Page>,
    ended: Option<Error>,
}

#[derive(Default)]
struct Waiters {
    next_id: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Wake for Shared {
    fn wake(self: Arc<Shared>) {
        self.wake_waiters();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiters(&self) -> MutexGuard<'_, Waiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_waiters(&self) {
        let wakers = std::mem::take(&mut self.waiters().wakers);
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn close(&self) {
        self.close_with(closed());
    }

    fn close_with(&self, why: Error) {
        let gone = {
            let mut state = self.state();
            state.ended.get_or_insert(why);
            (state.worker.take(), state.page.take())
        };
        // Both have destructors that call on others, so they go outside the lock.
        drop(gone);
        self.wake_waiters();
    }

    fn poll_page(self: &Arc<Shared>) -> Poll<Result<Page, Error>> {
        if let Err(e) = process::check() {
            return Poll::Ready(Err(e));
        }
        if let Err(e) = self.client.check() {
            // What came in before the close is not handed out after it.
            self.close_with(e);
        }
        let mut worker = {
            let mut state = self.state();
            if let Some(page) = state.page.take() {
                state.next_offset = page.next_offset();
                return Poll::Ready(Ok(page));
            }
            if let Some(e) = &state.ended {
                return Poll::Ready(Err(e.clone()));
            }
            let Some(worker) = state.worker.take() else {
                state.missed = true;
                return Poll::Pending;
            };
            worker
        };
        let waker = Waker::from(Arc::clone(self));
        let polled = worker.poll_page(&mut Context::from_waker(&waker));
        self.put_back(worker, polled)
    }

    fn put_back(
        &self,
        worker: Box<Worker>,
        polled: Poll<Result<Page, Error>>,
    ) -> Poll<Result<Page, Error>> {
        let mut state = self.state();
        if let Poll::Ready(Err(e)) = &polled {
            state.ended.get_or_insert_with(|| e.clone());
        }
        let missed = std::mem::take(&mut state.missed);
        if let Some(e) = state.ended.clone() {
            drop(state);
            // It was closed meanwhile, or has failed: both go outside the lock.
            drop((worker, polled));
            self.wake_waiters();
            return Poll::Ready(Err(e));
        }
        state.next_offset = worker.next_offset();
        state.worker = Some(worker);
        drop(state);
        if missed {
            self.wake_waiters();
        }
        polled
    }

    fn poll_ready(self: &Arc<Shared>) -> Poll<()> {
        match self.poll_page() {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(page)) => {
                let mut state = self.state();
                if state.ended.is_none() {
                    state.next_offset = page.first_offset();
                    state.page = Some(page);
                }
                Poll::Ready(())
            }
        }
    }
}

/// One waiting call: it is woken with the others, and forgotten when it goes.
struct Waiter<'a> {
    shared: &'a Arc<Shared>,
    id: Option<u64>,
}

impl<'a> Waiter<'a> {
    fn new(shared: &'a Arc<Shared>) -> Waiter<'a> {
        Waiter { shared, id: None }
    }

    /// Registers before it looks, so that nothing between goes unseen.
    fn register(&mut self, context: &Context<'_>) {
        let mut waiters = self.shared.waiters();
        let id = *self.id.get_or_insert_with(|| {
            waiters.next_id += 1;
            waiters.next_id
        });
        match waiters.wakers.iter_mut().find(|(other, _)| *other == id) {
            Some((_, waker)) => waker.clone_from(context.waker()),
            None => waiters.wakers.push((id, context.waker().clone())),
        }
    }

    fn poll_page(&mut self, context: &Context<'_>) -> Poll<Result<Page, Error>> {
        self.register(context);
        self.shared.poll_page()
    }

    fn poll_ready(&mut self, context: &Context<'_>) -> Poll<()> {
        self.register(context);
        self.shared.poll_ready()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.waiters().wakers.retain(|(other, _)| *other != id);
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorCode::Closed, "the subscription is closed")
}
