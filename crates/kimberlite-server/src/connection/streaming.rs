//! An answer with a payload on its way: cut into frames, paced by credit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use bytes::Bytes;
use kimberlite_engine::PayloadStream;
use kimberlite_wire::frame::flag;
use kimberlite_wire::{Error, ErrorCode, FrameKind, Response, limit};

use super::outbox::Outbox;

/// Payload bytes of one frame.
const CHUNK_BYTES: usize = limit::RESPONSE_PAYLOAD_BYTES as usize;
/// What is fetched at least, and at most where there is no credit to send it: enough to learn
/// whether the answer has ended.
const PEEK_BYTES: usize = 4 << 10;

/// What the answers of one connection may hold.
pub(super) struct Room<'a> {
    /// What they hold while they wait for credit.
    pub(super) held_bytes: &'a mut usize,
    /// What the connection may buffer in all.
    pub(super) allowance: usize,
}

impl Room<'_> {
    /// How much may be fetched with so much credit; none where too much is held already, so that a
    /// client that grants nothing cannot fill the memory.
    fn chunk_bytes(&self, credit: u64) -> Option<usize> {
        let left = self.allowance.saturating_sub(*self.held_bytes);
        if credit == 0 {
            return (left >= PEEK_BYTES).then_some(PEEK_BYTES);
        }
        let credit = usize::try_from(credit).unwrap_or(usize::MAX);
        Some(CHUNK_BYTES.min(left).min(credit).max(PEEK_BYTES))
    }
}

/// Which request the frames belong to.
#[derive(Clone, Copy)]
pub(super) struct Address {
    pub(super) request_id: u64,
    pub(super) operation: u16,
}

/// What one step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame was added; there may be more at once.
    Sent,
    /// It waits for its source or for credit.
    Parked,
    /// The last frame was added.
    Done,
}

/// An answer with a payload on its way.
pub(super) struct Streaming {
    source: Box<dyn PayloadStream>,
    /// The body, until the first frame has carried it.
    body: Option<Response>,
    /// Fetched bytes that were not sent yet; never empty.
    held: Option<Bytes>,
}

impl Streaming {
    pub(super) fn new(body: Response, source: Box<dyn PayloadStream>) -> Streaming {
        Streaming { source, body: Some(body), held: None }
    }

    /// Bytes that it holds, to be taken off the connection's sum when it is dropped.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, Bytes::len)
    }

    /// Adds at most one frame of payload.
    pub(super) fn step(
        &mut self,
        to: Address,
        credit: &mut u64,
        room: &mut Room<'_>,
        outbox: &mut Outbox,
        cx: &mut Context<'_>,
    ) -> Step {
        if self.held.is_none() {
            match self.fetch(*credit, room, cx) {
                Fetched::Held => {}
                Fetched::Later => {
                    self.send_body(to, outbox);
                    return Step::Parked;
                }
                Fetched::End => {
                    self.frame(to, flag::END, Bytes::new(), outbox);
                    return Step::Done;
                }
                Fetched::Failed(error) => {
                    outbox.error(to.operation, to.request_id, &error);
                    return Step::Done;
                }
            }
        }
        let Some(part) = self.take_part(credit, room.held_bytes) else {
            self.send_body(to, outbox);
            return Step::Parked;
        };
        if self.held.is_some() {
            self.frame(to, flag::MORE, part, outbox);
            return Step::Sent;
        }
        // Looking ahead lets the last frame say that it is the last.
        let next = self.fetch(*credit, room, cx);
        let flags = if matches!(next, Fetched::End) { flag::END } else { flag::MORE };
        self.frame(to, flags, part, outbox);
        match next {
            Fetched::Held => Step::Sent,
            Fetched::Later => Step::Parked,
            Fetched::End => Step::Done,
            Fetched::Failed(error) => {
                outbox.error(to.operation, to.request_id, &error);
                Step::Done
            }
        }
    }

    fn fetch(&mut self, credit: u64, room: &mut Room<'_>, cx: &mut Context<'_>) -> Fetched {
        let Some(chunk_bytes) = room.chunk_bytes(credit) else { return Fetched::Later };
        let source = &mut self.source;
        // A defect in one answer must not take the connection's other requests with it.
        let polled = catch_unwind(AssertUnwindSafe(|| source.poll_chunk(cx, chunk_bytes)));
        match polled {
            Ok(Poll::Pending) => Fetched::Later,
            Ok(Poll::Ready(None)) => Fetched::End,
            Ok(Poll::Ready(Some(Err(error)))) => Fetched::Failed(error),
            Ok(Poll::Ready(Some(Ok(chunk)))) if chunk.is_empty() => {
                cx.waker().wake_by_ref();
                Fetched::Later
            }
            Ok(Poll::Ready(Some(Ok(chunk)))) => {
                *room.held_bytes += chunk.len();
                self.held = Some(chunk);
                Fetched::Held
            }
            Err(_) => Fetched::Failed(defect()),
        }
    }

    /// Cuts off what the credit and a frame allow; `None` without credit.
    fn take_part(&mut self, credit: &mut u64, held_bytes: &mut usize) -> Option<Bytes> {
        let held = self.held.as_mut()?;
        let len = held.len().min(CHUNK_BYTES).min(usize::try_from(*credit).unwrap_or(usize::MAX));
        if len == 0 {
            return None;
        }
        let part = held.split_to(len);
        if held.is_empty() {
            self.held = None;
        }
        *credit -= len as u64;
        *held_bytes -= len;
        Some(part)
    }

    fn send_body(&mut self, to: Address, outbox: &mut Outbox) {
        if self.body.is_some() {
            self.frame(to, flag::MORE, Bytes::new(), outbox);
        }
    }

    fn frame(&mut self, to: Address, flags: u8, payload: Bytes, outbox: &mut Outbox) {
        let body = self.body.take();
        let kind = FrameKind::Response;
        outbox.frame(kind, flags, to.operation, to.request_id, payload, |out| {
            if let Some(body) = body {
                body.encode(out);
            }
        });
    }
}

enum Fetched {
    Held,
    Later,
    End,
    Failed(Error),
}

/// The error for a panic that was caught.
pub(super) fn defect() -> Error {
    Error::new(
        ErrorCode::Internal,
        "the server met a defect of its own in this request; its log holds the place",
    )
}
