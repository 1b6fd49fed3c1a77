//! What the engine answers with.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use kimberlite_wire::{Error, Response};

/// A future on the heap that any executor can run.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The answer to one request.
pub struct Answer {
    /// The answer's body, which comes first.
    pub body: Response,
    /// What follows it, for the operations that answer with blocks or rows.
    pub payload: Option<Box<dyn PayloadStream>>,
}

impl Answer {
    /// An answer without a payload.
    pub(crate) fn of(body: Response) -> Answer {
        Answer { body, payload: None }
    }

    /// An answer that `payload` follows.
    pub(crate) fn streaming(body: Response, payload: Box<dyn PayloadStream>) -> Answer {
        Answer { body, payload: Some(payload) }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("body", &self.body)
            .field("payload", &self.payload.is_some())
            .finish()
    }
}

/// The payload of an answer, pulled at the pace of whoever sends it on. Dropping it stops the work
/// behind it.
pub trait PayloadStream: Send {
    /// The next bytes, at least 1 and at most `max_bytes` (0 counts as 1). A chunk may end in the
    /// middle of a block or a batch of rows: the receiver joins before it reads.
    ///
    /// `None` is the end; a subscription has none. After the end or an error there is nothing more.
    /// While it is pending, the context's waker is woken once it is worth asking again; a later
    /// call's waker replaces an earlier one's.
    fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        max_bytes: usize,
    ) -> Poll<Option<Result<Bytes, Error>>>;
}
