//! What arrives on a connection, frame by frame.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kimberlite_wire::frame::{Frame, FrameHeader, flag};
use kimberlite_wire::{CreditBody, Error, ErrorCode, FrameKind, Operation, Request, limit};

use super::slots::{Entry, Work};
use super::streaming::defect;
use super::{Connection, Phase};
use crate::budget::Refused;
use crate::metrics::Bound;
use crate::shared::{Handling, Place};

/// What a ping may carry.
const MAX_PING_BYTES: usize = 4_096;
/// Frames that are taken before answers are sent and others get their turn.
pub(super) const FRAMES_AT_ONCE: usize = 256;
/// How long a client is told to wait where there was no room for its request.
const RETRY_AFTER_MS: u32 = 20;
/// A payload that is shorter than this is copied, so that it does not hold the buffer in which it
/// came together with others.
const COPY_BELOW_BYTES: usize = 32 << 10;

impl Connection {
    /// Whether another frame may be taken: not while the peer leaves its answers unread, or has
    /// more under way than it may.
    pub(super) fn may_take(&self) -> bool {
        !matches!(self.phase, Phase::Ending(_))
            && self.outbox.waiting_bytes() < self.allowance
            && self.queued_bytes < self.shared.limits.connection_queue_bytes
    }

    /// Takes frames that have arrived as a whole, and tells how many: as many as may be taken at
    /// once, there may be more.
    pub(super) fn take_frames(&mut self) -> usize {
        let mut taken = 0;
        while taken < FRAMES_AT_ONCE && self.may_take() {
            taken += 1;
            match self.decoder.next() {
                Ok(Some(frame)) => {
                    self.large_frame = None;
                    self.stalls.frame_done();
                    self.take_frame(frame);
                }
                Ok(None) => {
                    if !self.decoder.buffer_mut().is_empty() {
                        self.stalls.frame_begun(self.decoder.missing());
                    }
                    return taken - 1;
                }
                Err(error) => {
                    let request_id = self.refused_request(&error);
                    self.fail(request_id, error);
                }
            }
        }
        taken
    }

    /// The request that a frame over the limit would have been; 0 where that cannot be known.
    fn refused_request(&mut self, error: &Error) -> u64 {
        let header = self.decoder.buffer_mut().first_chunk().map(FrameHeader::decode);
        match header {
            Some(Ok(header))
                if error.code == ErrorCode::LimitExceeded && header.kind == FrameKind::Request =>
            {
                header.request_id
            }
            _ => 0,
        }
    }

    fn take_frame(&mut self, frame: Frame) {
        let id = frame.header.request_id;
        match frame.header.kind {
            FrameKind::Request => self.take_request(frame),
            FrameKind::Credit => match CreditBody::decode(&frame.body) {
                Ok(credit) => self.grant(id, credit.bytes),
                Err(error) => self.fail(0, Error::from(error)),
            },
            FrameKind::Cancel => self.cancel(id),
            FrameKind::Ping => self.pong(&frame),
            // A client has nothing to move away from: there is nothing to do.
            FrameKind::Goaway => {}
            FrameKind::Response => {
                self.fail(0, Error::protocol("a client sent a response frame"));
            }
        }
    }

    fn grant(&mut self, request_id: u64, bytes: u64) {
        let Some(slot) = self.slots.find(request_id) else { return };
        let Some((entry, _)) = self.slots.get_mut(slot) else { return };
        entry.credit = entry.credit.saturating_add(bytes);
        if matches!(entry.work, Work::Streaming(_)) && !entry.queued {
            entry.queued = true;
            self.sending.push_back(slot);
        }
    }

    fn cancel(&mut self, request_id: u64) {
        // The answer may have ended just before: then there is nothing to cancel.
        if let Some(slot) = self.slots.find(request_id) {
            let error = Error::new(ErrorCode::Cancelled, "the client cancelled the request");
            self.end(slot, &error);
        }
    }

    fn pong(&mut self, ping: &Frame) {
        let len = ping.body.len() + ping.payload.len();
        if len > MAX_PING_BYTES {
            let bound = MAX_PING_BYTES as u64;
            return self.fail(0, Error::limit("a ping's length", len as u64, bound));
        }
        let FrameHeader { operation, request_id, .. } = ping.header;
        let payload = ping.payload.clone();
        self.outbox.frame(FrameKind::Ping, flag::END, operation, request_id, payload, |out| {
            out.extend_from_slice(&ping.body);
        });
    }

    fn take_request(&mut self, frame: Frame) {
        let FrameHeader { request_id, operation: number, .. } = frame.header;
        if request_id == 0 {
            return self.fail(0, Error::protocol("a request has the id 0; ids start at 1"));
        }
        if self.slots.find(request_id).is_some() {
            // Two answers under one id could not be told apart, so the connection ends here.
            return self.fail(
                0,
                Error::protocol(format!(
                    "request id {request_id} is still under way; give every request its own"
                )),
            );
        }
        if let Err(error) = self.admit(frame) {
            if let Some(operation) = Operation::from_number(number) {
                self.shared.metrics.failed(operation, &error);
            }
            self.outbox.error(number, request_id, &error);
        }
    }

    /// Starts a request, or says why not.
    fn admit(&mut self, frame: Frame) -> Result<(), Error> {
        let number = frame.header.operation;
        let operation = Operation::from_number(number).ok_or_else(|| {
            Error::protocol(format!("operation {number} is unknown to this server"))
        })?;
        if matches!(self.phase, Phase::Draining(_)) {
            return Err(shutting_down());
        }
        if operation == Operation::Hello {
            return Err(Error::protocol("hello was sent again; it opens a connection once"));
        }
        if operation != Operation::Append && !frame.payload.is_empty() {
            let name = operation.name();
            return Err(Error::protocol(format!("a request of {name} takes no payload")));
        }
        let place = self.find_place(operation)?;
        let request = Request::decode(operation, &frame.body)?;
        let bytes = frame.body.len() + frame.payload.len();
        let share = self.budget.request(bytes).map_err(|refused| self.no_room(refused))?;
        let timeout = self.timeout(&frame.header);
        let credit = match &request {
            Request::Subscribe(subscribe) if subscribe.credit_bytes != 0 => {
                u64::from(subscribe.credit_bytes)
            }
            _ => limit::INITIAL_CREDIT_BYTES,
        };
        let payload = if frame.payload.len() < COPY_BELOW_BYTES {
            Bytes::copy_from_slice(&frame.payload)
        } else {
            frame.payload
        };
        let future = self.start(request, payload, timeout)?;
        let started = Instant::now();
        let deadline = started + timeout;
        self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
        self.queued_bytes += share.bytes();
        self.requests_taken += 1;
        let slot = self.slots.insert(Entry {
            request_id: frame.header.request_id,
            operation,
            deadline: Some(deadline),
            started,
            _place: place,
            subscription: None,
            credit,
            share: Some(share),
            work: Work::Waiting(future),
            queued: false,
        });
        // Registers the slot's waker, and answers at once what is ready at once.
        self.poll_slot(slot);
        Ok(())
    }

    /// A place for one more request.
    fn find_place(&self, operation: Operation) -> Result<Place, Error> {
        let limits = &self.shared.limits;
        let bound = limits.inflight_requests;
        if self.slots.len() >= bound {
            let what = format!("{bound} requests are under way on this connection");
            return Err(self.overloaded(Bound::InflightRequests, &what));
        }
        // Their answers are large and made at once, so that they cannot be paced.
        let lists = matches!(operation, Operation::ListStreams | Operation::ListTenants);
        if lists && self.shared.buffers.is_full() {
            let total = self.shared.buffers.total();
            let what = format!("the {total} bytes that connections may buffer are in use");
            return Err(self.overloaded(Bound::TotalBufferBytes, &what));
        }
        self.shared.take_request_place().ok_or_else(|| {
            let bound = limits.total_inflight_requests;
            let what = format!("{bound} requests are under way on all connections");
            self.overloaded(Bound::TotalInflightRequests, &what)
        })
    }

    /// OVERLOADED where there is no memory for a request.
    pub(super) fn no_room(&self, refused: Refused) -> Error {
        let whose = match refused.bound {
            Bound::TenantQueueBytes => "this tenant's requests",
            _ => "requests",
        };
        let total = refused.total;
        let what = format!("{whose} under way hold the {total} bytes that they may hold");
        self.overloaded(refused.bound, &what)
    }

    /// OVERLOADED by a bound of the server.
    fn overloaded(&self, bound: Bound, what: &str) -> Error {
        self.shared.metrics.reached(bound);
        let detail = format!("{what} ({}); try again after a moment", bound.option());
        let mut error = Error::new(ErrorCode::Overloaded, detail);
        error.retry_after_ms = RETRY_AFTER_MS;
        error
    }

    fn start(
        &self,
        request: Request,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Handling, Error> {
        let handle = || (self.shared.handler)(&self.session, request, payload, Some(timeout));
        catch_unwind(AssertUnwindSafe(handle)).map_err(|_| defect())
    }

    fn timeout(&self, header: &FrameHeader) -> Duration {
        let longest = self.shared.limits.max_request_timeout_ms;
        let asked = u64::from(header.timeout_ms);
        Duration::from_millis(if asked == 0 { longest } else { asked.min(longest) })
    }
}

/// The error for what cannot be started any more; nothing of it happened.
pub(super) fn shutting_down() -> Error {
    Error::new(ErrorCode::ClusterUnavailable, "the server is shutting down; nothing was done")
}
