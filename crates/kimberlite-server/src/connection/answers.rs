//! What leaves a connection: answers that became ready, and payloads in turn.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use kimberlite_engine::Answer;
use kimberlite_wire::frame::flag;
use kimberlite_wire::{Error, ErrorCode, FrameKind, Operation};

use super::Connection;
use super::slots::{Entry, Work};
use super::streaming::{Address, Room, Step, Streaming, defect};

/// No further payload is added while this much waits to be sent, so that a small answer never
/// waits behind more than about this much and one frame.
const PAYLOAD_AHEAD_BYTES: usize = 256 << 10;

impl Connection {
    /// Looks at the requests that were woken. Returns whether it did anything.
    pub(super) fn poll_woken(&mut self, cx: &mut Context<'_>) -> bool {
        let mut woken = std::mem::take(&mut self.woken);
        self.slots.take_woken(cx, &mut woken);
        let mut done = 0;
        // An answer that is not fetched takes no memory: the rest waits until the peer has read.
        while done < woken.len() && self.outbox.waiting_bytes() < self.allowance {
            self.poll_slot(woken[done]);
            done += 1;
        }
        woken.drain(..done);
        self.woken = woken;
        done > 0
    }

    /// Polls one request, which may be gone by now.
    pub(super) fn poll_slot(&mut self, slot: u32) {
        let Some((entry, waker)) = self.slots.get_mut(slot) else { return };
        let future = match &mut entry.work {
            Work::Waiting(future) => future,
            Work::Streaming(_) => {
                if !entry.queued {
                    entry.queued = true;
                    self.sending.push_back(slot);
                }
                return;
            }
        };
        let mut cx = Context::from_waker(waker);
        // A defect in one request must not take the connection's other requests with it.
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        match polled {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(Ok(answer))) => self.answer(slot, answer),
            Ok(Poll::Ready(Err(error))) => self.end(slot, &error),
            Err(_) => self.end(slot, &defect()),
        }
    }

    fn answer(&mut self, slot: u32, answer: Answer) {
        if let Some(source) = answer.payload {
            let Some((entry, _)) = self.slots.get_mut(slot) else { return };
            if let Some(share) = entry.share.take() {
                self.queued_bytes -= share.bytes();
            }
            self.shared.metrics.answered(entry.operation, entry.started.elapsed());
            if entry.operation == Operation::Subscribe {
                entry.deadline = None;
                entry.subscription = self.shared.count_subscription();
            }
            entry.work = Work::Streaming(Streaming::new(answer.body, source));
            entry.queued = true;
            self.sending.push_back(slot);
            return;
        }
        if let Some(entry) = self.forget(slot) {
            let Entry { request_id: id, operation, started, .. } = entry;
            self.shared.metrics.answered(operation, started.elapsed());
            let (kind, number) = (FrameKind::Response, operation.number());
            self.outbox.frame(kind, flag::END, number, id, Bytes::new(), |out| {
                answer.body.encode(out);
            });
        }
    }

    /// Ends a request with an error; dropping its work stops it.
    pub(super) fn end(&mut self, slot: u32, error: &Error) {
        if let Some(entry) = self.forget(slot) {
            self.shared.metrics.failed(entry.operation, error);
            self.outbox.error(entry.operation.number(), entry.request_id, error);
        }
    }

    /// Takes a request out and gives back what it held.
    fn forget(&mut self, slot: u32) -> Option<Entry> {
        let entry = self.slots.remove(slot)?;
        if let Some(share) = &entry.share {
            self.queued_bytes -= share.bytes();
        }
        if let Work::Streaming(streaming) = &entry.work {
            self.held_bytes -= streaming.held_bytes();
        }
        Some(entry)
    }

    /// Adds frames of payload, one answer after the other, while there is room. Returns whether it
    /// did anything.
    pub(super) fn send_payloads(&mut self) -> bool {
        let mut any = false;
        while self.outbox.waiting_bytes() < PAYLOAD_AHEAD_BYTES.min(self.allowance) {
            let Some(slot) = self.sending.pop_front() else { break };
            let Some((entry, waker)) = self.slots.get_mut(slot) else { continue };
            let Work::Streaming(streaming) = &mut entry.work else { continue };
            let to = Address { request_id: entry.request_id, operation: entry.operation.number() };
            let mut cx = Context::from_waker(waker);
            any = true;
            let mut room = Room { held_bytes: &mut self.held_bytes, allowance: self.allowance };
            match streaming.step(to, &mut entry.credit, &mut room, &mut self.outbox, &mut cx) {
                Step::Sent => self.sending.push_back(slot),
                Step::Parked => entry.queued = false,
                Step::Done => {
                    self.forget(slot);
                }
            }
        }
        any
    }

    /// Answers with TIMEOUT what has taken too long, and finds the next deadline.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        if self.next_deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        for slot in self.slots.select(|entry| entry.deadline.is_some_and(|at| at <= now)) {
            let Some((entry, _)) = self.slots.get_mut(slot) else { continue };
            let error = Error::new(ErrorCode::Timeout, overdue(entry.operation));
            self.end(slot, &error);
        }
        self.next_deadline = self.slots.iter().filter_map(|entry| entry.deadline).min();
    }

    /// Ends every request that `wanted` accepts.
    pub(super) fn end_all(&mut self, wanted: impl Fn(Operation) -> bool, error: &Error) {
        for slot in self.slots.select(|entry| wanted(entry.operation)) {
            self.end(slot, error);
        }
    }
}

/// What is told where a request's deadline passes. Only what changes something may still happen.
const fn overdue(operation: Operation) -> &'static str {
    match operation {
        Operation::Append => {
            "the request's deadline passed on the server; the append may still happen"
        }
        Operation::CreateStream
        | Operation::OpenProducer
        | Operation::CreateTenant
        | Operation::DeleteTenant => {
            "the request's deadline passed on the server; the change may still happen"
        }
        _ => "the request's deadline passed on the server",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever reads is not told of a change that may still happen, and whoever changes is.
    #[test]
    fn only_changes_may_still_happen() {
        for operation in Operation::ALL {
            let name = operation.name();
            let starts = ["append", "open_", "create_", "delete_"];
            let changes = starts.iter().any(|start| name.starts_with(start));
            assert_eq!(overdue(operation).contains("may still happen"), changes, "{name}");
        }
        assert!(overdue(Operation::Append).contains("the append"));
    }
}
