//! Submitting: starts an operation's future and posts its end to a queue.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use kimberlite_client::{Stop, runtime};
use kimberlite_wire::{CompletionKind, Error, ErrorCode};

use crate::arguments::Out;
use crate::boundary::panicked;
use crate::client::{self, ClientState, KmbClient, Pending};
use crate::completion::Completion;
pub(crate) use crate::completion::Outcome;
use crate::operation::{self, Canceller};
use crate::queue::{self, KmbQueue, Queue};

type BoxedFuture = Pin<Box<dyn Future<Output = Result<Outcome, Error>> + Send>>;

/// An operation of a client whose arguments are being checked.
pub(crate) struct Submission {
    client: Arc<ClientState>,
    queue: Arc<Queue>,
    kind: CompletionKind,
    tag: u64,
    stop: Option<Arc<Stop>>,
}

impl Submission {
    pub(crate) fn new(
        client: *const KmbClient,
        queue: *const KmbQueue,
        kind: CompletionKind,
        tag: u64,
    ) -> Result<Submission, Error> {
        let (client, queue) = (client::get(client)?, queue::get(queue)?);
        Ok(Submission { client, queue, kind, tag, stop: None })
    }

    /// The same, cancelled by a stop rather than dropped.
    pub(crate) fn stopped_by(mut self, stop: Arc<Stop>) -> Submission {
        self.stop = Some(stop);
        self
    }

    /// Starts the operation.
    ///
    /// # Safety
    /// `operation_out` must be NULL or valid for writing.
    pub(crate) unsafe fn start<F, Fut>(
        self,
        operation_out: *mut u64,
        operation: F,
    ) -> Result<(), Error>
    where
        F: FnOnce(Arc<ClientState>) -> Fut,
        Fut: Future<Output = Result<Outcome, Error>> + Send + 'static,
    {
        let pending = self.client.begin()?;
        let future = Box::pin(operation(Arc::clone(&self.client)));
        let Submission { queue, kind, tag, stop, .. } = self;
        let target = Target { queue, kind, tag, stop };
        // SAFETY: the caller's promise.
        unsafe { start(target, Some(pending), operation_out, future) }
    }
}

/// Where an operation completes, and as what.
pub(crate) struct Target {
    pub(crate) queue: Arc<Queue>,
    pub(crate) kind: CompletionKind,
    pub(crate) tag: u64,
    pub(crate) stop: Option<Arc<Stop>>,
}

impl Target {
    /// An operation that is cancelled by dropping it.
    pub(crate) fn new(queue: Arc<Queue>, kind: CompletionKind, tag: u64) -> Target {
        Target { queue, kind, tag, stop: None }
    }
}

/// Starts an operation. Its first step runs on the caller's thread, so that the requests of one
/// thread leave in the order of their submission.
///
/// # Safety
/// `operation_out` must be NULL or valid for writing.
pub(crate) unsafe fn start(
    target: Target,
    pending: Option<Pending>,
    operation_out: *mut u64,
    future: BoxedFuture,
) -> Result<(), Error> {
    let runtime = runtime::handle()?;
    let (id, canceller) = operation::begin(&target.queue, target.stop.clone());
    // SAFETY: the caller's promise. It is written first, so that the id is known before the
    // completion can be.
    unsafe { Out::optional(operation_out).put(id) };
    let mut operation = Operation { id, target, canceller, future: Some(future), pending };
    match operation.step(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => drop(runtime.spawn(operation)),
        // A callback must not run inside the submitting call: its caller may hold a lock.
        Poll::Ready(result) if operation.target.queue.calls_back() => {
            drop(runtime.spawn(async move { operation.post(result) }));
        }
        Poll::Ready(result) => operation.post(result),
    }
    Ok(())
}

/// An operation under way; as a future it ends when its completion is posted.
struct Operation {
    id: u64,
    target: Target,
    canceller: Arc<Canceller>,
    /// `None` once it is done.
    future: Option<BoxedFuture>,
    pending: Option<Pending>,
}

impl Operation {
    fn step(&mut self, context: &mut Context<'_>) -> Poll<Result<Outcome, Error>> {
        if self.canceller.poll(context.waker()) {
            self.future = None;
            let error = Error::new(ErrorCode::Cancelled, "the operation was cancelled");
            return Poll::Ready(Err(error));
        }
        let Some(future) = self.future.as_mut() else {
            return Poll::Pending;
        };
        let result = match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(payload) => Err(panicked(self.target.kind.name(), &*payload)),
        };
        self.future = None;
        Poll::Ready(result)
    }

    fn post(&mut self, result: Result<Outcome, Error>) {
        operation::end(self.id);
        let Target { queue, kind, tag, .. } = &self.target;
        queue.post(Completion::new(self.id, *tag, *kind, result));
        self.pending = None;
    }
}

impl Future for Operation {
    type Output = ();

    fn poll(mut self: Pin<&mut Operation>, context: &mut Context<'_>) -> Poll<()> {
        self.step(context).map(|result| self.post(result))
    }
}
