//! What a pending call has received so far.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kimberlite_wire::session::Answer;
use kimberlite_wire::{Error, Response};

/// One call's mailbox between the threads that receive and the one that waits.
#[derive(Default)]
pub(super) struct Slot {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waker: Option<Waker>,
    body: Option<Response>,
    chunks: VecDeque<Bytes>,
    /// The last word: a collected answer, the end of a stream, or a failure.
    done: Option<Result<Option<Answer>, Error>>,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Each of these returns whom to wake, which the caller does without any lock.
    pub(super) fn body(&self, body: Response) -> Option<Waker> {
        let mut state = self.state();
        state.body = Some(body);
        state.waker.take()
    }

    pub(super) fn chunk(&self, chunk: Bytes) -> Option<Waker> {
        let mut state = self.state();
        state.chunks.push_back(chunk);
        state.waker.take()
    }

    pub(super) fn done(&self, result: Result<Option<Answer>, Error>) -> Option<Waker> {
        let mut state = self.state();
        state.done = Some(result);
        state.waker.take()
    }

    /// The last word of a collecting call.
    pub(super) fn poll_done(&self, context: &Context<'_>) -> Poll<Result<Option<Answer>, Error>> {
        let mut state = self.state();
        match state.done.take() {
            Some(done) => Poll::Ready(done),
            None => state.wait(context),
        }
    }

    /// The body of a streaming call's answer.
    pub(super) fn poll_body(&self, context: &Context<'_>) -> Poll<Result<Response, Error>> {
        let mut state = self.state();
        if let Some(body) = state.body.take() {
            return Poll::Ready(Ok(body));
        }
        match state.done.take() {
            Some(Err(e)) => Poll::Ready(Err(e)),
            Some(Ok(_)) => Poll::Ready(Err(Error::protocol("the answer ended without a body"))),
            None => state.wait(context),
        }
    }

    /// The next chunk of a streaming call's answer; `None` at its end.
    pub(super) fn poll_chunk(&self, context: &Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let mut state = self.state();
        if let Some(chunk) = state.chunks.pop_front() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        match &state.done {
            Some(Ok(_)) => Poll::Ready(None),
            Some(Err(e)) => Poll::Ready(Some(Err(e.clone()))),
            None => state.wait(context),
        }
    }
}

impl State {
    fn wait<T>(&mut self, context: &Context<'_>) -> Poll<T> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}
