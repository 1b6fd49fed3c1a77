//! Receives, unpacks and resumes. It belongs to one caller at a time, who polls it without a lock:
//! whatever that wakes may come back to the subscription.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kimberlite_wire::{Error, ErrorCode, Request, Response, SubscribeRequest};

use super::Feed;
use super::credit::{Credit, CreditGrant};
use crate::blocks::BlockSource;
use crate::client::{StreamId, unexpected};
use crate::config::CallOptions;
use crate::deadlines::sleep;
use crate::door::{Door, Pull};
use crate::page::{Page, PageBuilder};

/// A page takes no further chunk once it came in this many bytes.
const PAGE_BYTES: u64 = 1 << 20;
/// The longest pause between two attempts to resume.
const MAX_PAUSE_MS: u64 = 2_000;

type Opening = Pin<Box<dyn Future<Output = Result<(Response, Pull), Error>> + Send>>;

pub(super) struct Worker {
    door: Arc<Door>,
    stream: StreamId,
    options: CallOptions,
    credit: Arc<Credit>,
    next_offset: u64,
    end_offset: u64,
    source: Source,
    failures: u32,
}

enum Source {
    /// The subscription is being opened, or resumed.
    Opening(Opening),
    /// Blocks come in.
    Live(Box<Live>),
    /// The last words of a source; what came before them was handed out.
    Failed(Error),
}

struct Live {
    pull: Pull,
    blocks: BlockSource,
    builder: PageBuilder,
    /// Bytes that came in since the last page.
    page_bytes: u64,
}

impl Worker {
    pub(super) fn new(
        door: Arc<Door>,
        request: &SubscribeRequest,
        options: CallOptions,
        credit: Arc<Credit>,
    ) -> Worker {
        let stream = StreamId(request.stream_id);
        let next_offset = request.from_offset;
        let source = Source::Opening(open(Arc::clone(&door), stream, next_offset, options));
        let end_offset = next_offset;
        Worker { door, stream, options, credit, next_offset, end_offset, source, failures: 0 }
    }

    /// Waits for the first answer; any failure is final.
    pub(super) fn poll_opened(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Source::Opening(opening) = &mut self.source else {
            return Poll::Ready(Ok(()));
        };
        opening.as_mut().poll(context).map(|opened| {
            let (body, pull) = opened?;
            self.opened(body, pull)
        })
    }

    fn opened(&mut self, body: Response, pull: Pull) -> Result<(), Error> {
        let Response::Subscribe(body) = body else {
            return Err(unexpected(&body));
        };
        self.end_offset = self.end_offset.max(body.next_offset);
        self.credit.restart(Some(pull.granter()));
        self.source = Source::Live(Box::new(Live {
            pull,
            blocks: BlockSource::default(),
            builder: PageBuilder::unbounded(self.door.tenant_id(), self.stream, self.next_offset),
            page_bytes: 0,
        }));
        Ok(())
    }

    /// Opens again at the next offset, after a pause that grows with the attempts in vain.
    fn resume(&mut self, cause: &Error) {
        let backoff_ms = self.door.options().reconnect_backoff_ms;
        let pause_ms = match self.failures {
            0 => u64::from(cause.retry_after_ms),
            failures => (backoff_ms << failures.min(10)).max(u64::from(cause.retry_after_ms)),
        };
        let pause_ms = pause_ms.min(MAX_PAUSE_MS);
        self.failures += 1;
        let (stream, from_offset) = (self.stream, self.next_offset);
        tracing::debug!(stream = stream.0, from_offset, pause_ms, %cause, "resuming");
        let opening = open(Arc::clone(&self.door), stream, from_offset, self.options);
        self.source = Source::Opening(Box::pin(async move {
            if pause_ms > 0 {
                sleep(Duration::from_millis(pause_ms)).await?;
            }
            opening.await
        }));
    }

    /// Fills a page with what has come in, and hands it out when there is no more or enough.
    fn receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Page, Error>> {
        let Source::Live(live) = &mut self.source else {
            return Poll::Pending;
        };
        let failure = loop {
            if live.page_bytes >= PAGE_BYTES && live.builder.count() > 0 {
                return Poll::Ready(Ok(self.hand_out()));
            }
            match live.pull.poll_chunk(context) {
                Poll::Ready(Some(Ok(chunk))) => {
                    live.page_bytes += chunk.len() as u64;
                    self.credit.received(chunk.len() as u64);
                    if let Err(e) = live.unpack(&chunk) {
                        break e;
                    }
                }
                Poll::Ready(Some(Err(e))) => break e,
                Poll::Ready(None) => break ended_by_server(),
                Poll::Pending if live.builder.count() > 0 => {
                    return Poll::Ready(Ok(self.hand_out()));
                }
                Poll::Pending => {
                    self.credit.reader_waits();
                    return Poll::Pending;
                }
            }
        };
        let last = (live.builder.count() > 0).then(|| self.hand_out());
        self.credit.restart(None);
        self.source = Source::Failed(failure.clone());
        Poll::Ready(last.ok_or(failure))
    }

    fn hand_out(&mut self) -> Page {
        let next_offset = self.next_offset;
        let mut fresh = PageBuilder::unbounded(self.door.tenant_id(), self.stream, next_offset);
        let mut bytes = 0;
        if let Source::Live(live) = &mut self.source {
            let next_offset = live.builder.next_offset();
            fresh = PageBuilder::unbounded(self.door.tenant_id(), self.stream, next_offset);
            std::mem::swap(&mut fresh, &mut live.builder);
            bytes = std::mem::take(&mut live.page_bytes);
            self.next_offset = next_offset;
        }
        self.failures = 0;
        let credit = CreditGrant { credit: Arc::downgrade(&self.credit), bytes };
        fresh.build(0, self.end_offset, Some(credit))
    }
}

impl Feed for Worker {
    fn next_offset(&self) -> u64 {
        self.next_offset
    }

    fn poll_page(&mut self, context: &mut Context<'_>) -> Poll<Result<Page, Error>> {
        loop {
            let polled = match &mut self.source {
                Source::Opening(opening) => match opening.as_mut().poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok((body, pull))) => match self.opened(body, pull) {
                        Ok(()) => continue,
                        Err(e) => return Poll::Ready(Err(e)),
                    },
                    Poll::Ready(Err(e)) => Err(e),
                },
                Source::Live(_) => match self.receive(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(page) => page,
                },
                Source::Failed(e) => Err(e.clone()),
            };
            match polled {
                Err(e) if passes(&e) => self.resume(&e),
                page_or_error => return Poll::Ready(page_or_error),
            }
        }
    }
}

impl Live {
    fn unpack(&mut self, chunk: &Bytes) -> Result<(), Error> {
        let builder = &mut self.builder;
        self.blocks.feed(chunk, &mut |block| builder.add(block))
    }
}

fn open(door: Arc<Door>, stream: StreamId, from_offset: u64, options: CallOptions) -> Opening {
    let window_bytes = door.options().subscription_buffer_bytes;
    let request = Request::Subscribe(SubscribeRequest {
        stream_id: stream.0,
        from_offset,
        credit_bytes: u32::try_from(window_bytes).unwrap_or(u32::MAX),
    });
    Box::pin(async move { door.stream(request, &options).await })
}

/// Whether a subscription outlives this error: whatever a later attempt may mend. It changes
/// nothing, so that trying again is harmless where an append would have to be settled.
fn passes(error: &Error) -> bool {
    error.is_retryable() || error.code == ErrorCode::Timeout
}

fn ended_by_server() -> Error {
    Error::new(ErrorCode::ClusterUnavailable, "the server ended the subscription")
}
