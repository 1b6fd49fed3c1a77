//! Everything of a stream from an offset on, then live.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use kimberlite_wire::{
    DataClass, Error, ErrorCode, Operation, Response, SubscribeRequest, SubscribeResponse,
};

use crate::answer::{Answer, PayloadStream};
use crate::audit::Ticket;
use crate::core::{Core, Outcome};
use crate::loader::{BlockCursor, Chunk};
use crate::read::{access, check_offset};
use crate::session::Session;
use crate::stream::Stream;
use crate::wait::Deadline;
use crate::waiters::Slot;

pub(crate) async fn subscribe(
    core: Arc<Core>,
    session: Arc<Session>,
    request: SubscribeRequest,
    mut deadline: Deadline,
) -> Outcome {
    core.check(&session, Operation::Subscribe)?;
    let stream = core.stream(&session, request.stream_id)?;
    let position = core.applied.position();
    let next_offset = stream.end_at(core.loader.index(), position)?;
    check_offset(&stream, request.from_offset, next_offset)?;
    let mut gate = Gate::Open;
    if stream.identity.data_class == DataClass::Phi {
        let access = access(&stream, "subscribe", request.from_offset, None);
        let ticket = core.audit.access(&session, &access);
        gate = Gate::Fresh(deadline.bound("the audit record of a subscription", ticket).await?);
    }
    let body = Response::Subscribe(SubscribeResponse { next_offset, position });
    let cursor = BlockCursor::new(stream, core.loader.clone(), request.from_offset);
    let from_offset = request.from_offset;
    let slot = Slot::default();
    let payload = Subscription { core, session, cursor, from_offset, gate, slot, ended: false };
    Ok(Answer::streaming(body, Box::new(payload)))
}

type Entering = Pin<Box<dyn Future<Output = Result<Ticket, Error>> + Send>>;

/// Whether what comes next is on record.
enum Gate {
    /// Nothing needs to be.
    Open,
    /// It was put there just now: the next chunk may go even if the window has ended meanwhile,
    /// or else a window that is shorter than writing a record takes would let nothing through.
    Fresh(Ticket),
    /// It is, for as long as the ticket holds.
    Under(Ticket),
    /// It is about to be.
    Entering(Entering),
}

impl Gate {
    /// Notes that these events have passed.
    fn passed(&mut self, first_offset: u64, end_offset: u64) {
        if let Gate::Fresh(ticket) | Gate::Under(ticket) = self {
            ticket.add(first_offset, end_offset);
        }
        *self = match std::mem::replace(self, Gate::Open) {
            Gate::Fresh(ticket) => Gate::Under(ticket),
            other => other,
        };
    }
}

struct Subscription {
    core: Arc<Core>,
    session: Arc<Session>,
    cursor: BlockCursor,
    /// The first offset that was not given out yet.
    from_offset: u64,
    gate: Gate,
    slot: Slot,
    ended: bool,
}

impl Subscription {
    fn poll_next(&mut self, cx: &mut Context<'_>, max_bytes: usize) -> Poll<Result<Chunk, Error>> {
        if !self.has_more()? {
            self.cursor.stream().waiters.register(&mut self.slot, cx.waker());
            // More may have come before the waker was there to be woken.
            if !self.has_more()? {
                return Poll::Pending;
            }
        }
        if self.poll_gate(cx)?.is_pending() {
            return Poll::Pending;
        }
        let end = self.end()?;
        match self.cursor.next(end, max_bytes)? {
            Some(chunk) => Poll::Ready(Ok(chunk)),
            None => Poll::Ready(Err(Error::new(ErrorCode::Internal, "a block has vanished"))),
        }
    }

    /// Whether there are blocks that were not given out. An error where there will be none.
    fn has_more(&self) -> Result<bool, Error> {
        self.core.applied.check_open()?;
        self.cursor.stream().check_alive()?;
        Ok(self.cursor.is_before(self.end()?))
    }

    /// The offset after what is visible.
    fn end(&self) -> Result<u64, Error> {
        let position = self.core.applied.position();
        self.cursor.stream().end_at(self.cursor.loader().index(), position)
    }

    /// Ready once what comes next is on record.
    fn poll_gate(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match &mut self.gate {
                Gate::Open | Gate::Fresh(_) => return Poll::Ready(Ok(())),
                Gate::Under(ticket) if ticket.is_current() => return Poll::Ready(Ok(())),
                Gate::Under(_) => {
                    let entering = enter(
                        self.core.clone(),
                        self.session.clone(),
                        self.cursor.stream().clone(),
                        self.from_offset,
                    );
                    self.gate = Gate::Entering(Box::pin(entering));
                }
                Gate::Entering(entering) => match entering.as_mut().poll(cx) {
                    Poll::Ready(ticket) => self.gate = Gate::Fresh(ticket?),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

async fn enter(
    core: Arc<Core>,
    session: Arc<Session>,
    stream: Arc<Stream>,
    from_offset: u64,
) -> Result<Ticket, Error> {
    core.audit.access(&session, &access(&stream, "subscribe", from_offset, None)).await
}

impl PayloadStream for Subscription {
    fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        max_bytes: usize,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.poll_next(cx, max_bytes).map(|chunk| match chunk {
            Ok(chunk) => {
                // A chunk that ends within a block repeats its offsets: they count once.
                let first = chunk.first_offset.max(self.from_offset);
                self.gate.passed(first, chunk.end_offset);
                self.from_offset = self.from_offset.max(chunk.end_offset);
                Some(Ok(chunk.bytes))
            }
            Err(error) => {
                self.ended = true;
                Some(Err(error))
            }
        })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cursor.stream().waiters.remove(&mut self.slot);
    }
}
