//! Subscriptions that outlive connections.

mod credit;
mod worker;

use std::fmt;
use std::sync::{Arc, PoisonError};
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
use crate::sync::{Mutex, MutexGuard};

#[cfg(all(test, shuttle))]
mod schedules;

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
        let shared = Arc::new(Shared::new(worker, door.closed()));
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

/// What brings the pages: a worker, or what a test puts in its place.
trait Feed: Send + 'static {
    /// The next page. An error is final.
    fn poll_page(&mut self, context: &mut Context<'_>) -> Poll<Result<Page, Error>>;

    /// The offset that the next page begins at.
    fn next_offset(&self) -> u64;
}

struct Shared<F = Worker> {
    state: Mutex<State<F>>,
    /// Who waits for a page. Beside the state, so that waking needs no other lock.
    waiters: Mutex<Waiters>,
    client: ClosedFlag,
}

struct State<F> {
    next_offset: u64,
    /// Away while a caller polls it, and after the end.
    worker: Option<Box<F>>,
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

impl<F: Feed> Wake for Shared<F> {
    fn wake(self: Arc<Self>) {
        self.wake_waiters();
    }
}

impl<F: Feed> Shared<F> {
    fn new(worker: F, client: ClosedFlag) -> Shared<F> {
        let state = State {
            next_offset: worker.next_offset(),
            worker: Some(Box::new(worker)),
            missed: false,
            page: None,
            ended: None,
        };
        Shared { state: Mutex::new(state), waiters: Mutex::default(), client }
    }

    fn state(&self) -> MutexGuard<'_, State<F>> {
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

    /// The next page goes to the caller.
    fn poll_page(self: &Arc<Self>) -> Poll<Result<Page, Error>> {
        self.poll(|state, page| {
            state.next_offset = page.next_offset();
            page
        })
    }

    /// Ready where a page is there, which stays for who asks next, or nothing will come any more.
    fn poll_ready(self: &Arc<Self>) -> Poll<()> {
        let polled = self.poll(|state, page| {
            state.next_offset = page.first_offset();
            state.page = Some(page);
        });
        polled.map(|_| ())
    }

    /// What `hand` makes of the next page, under the lock: between its coming and its handing out
    /// nobody else may get the one after it.
    fn poll<T>(
        self: &Arc<Self>,
        hand: impl FnOnce(&mut State<F>, Page) -> T,
    ) -> Poll<Result<T, Error>> {
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
                return Poll::Ready(Ok(hand(&mut state, page)));
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
        self.put_back(worker, polled, hand)
    }

    fn put_back<T>(
        &self,
        worker: Box<F>,
        polled: Poll<Result<Page, Error>>,
        hand: impl FnOnce(&mut State<F>, Page) -> T,
    ) -> Poll<Result<T, Error>> {
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
        state.worker = Some(worker);
        let handed = polled.map_ok(|page| hand(&mut state, page));
        drop(state);
        if missed {
            self.wake_waiters();
        }
        handed
    }
}

/// One waiting call: it is woken with the others, and forgotten when it goes.
struct Waiter<'a, F: Feed = Worker> {
    shared: &'a Arc<Shared<F>>,
    id: Option<u64>,
}

impl<'a, F: Feed> Waiter<'a, F> {
    fn new(shared: &'a Arc<Shared<F>>) -> Waiter<'a, F> {
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

impl<F: Feed> Drop for Waiter<'_, F> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.shared.waiters().wakers.retain(|(other, _)| *other != id);
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorCode::Closed, "the subscription is closed")
}
