//! The life of a call: waiting, sent, refused and sent again, done.

use bytes::Bytes;

use super::Session;
use super::types::{Action, Answer, Call, CallId, CallKind, ConnectionId};
use crate::block::{BLOCK_HEADER_BYTES, BlockHeader};
use crate::error::{AppendKey, Error};
use crate::generated::{ErrorCode, OpenProducerRequest, Request, Response, SentTwice};

/// Where a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Between two places, while one input is handled.
    Nowhere,
    /// It waits to be sent: an append in its lane, another call in `waiting`.
    Waiting,
    /// It was refused and is sent again at this time.
    Delayed(u64),
    /// It was sent and is not answered yet.
    Sent {
        /// Where.
        connection: ConnectionId,
        /// Its number there.
        request_id: u64,
    },
}

/// Who waits for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The caller.
    Caller,
    /// The session, which needs a producer.
    Producer,
}

/// One call and what became of it so far.
#[derive(Debug)]
pub(super) struct CallState {
    pub(super) request: Request,
    pub(super) bytes: Bytes,
    pub(super) deadline_ms: u64,
    pub(super) kind: CallKind,
    pub(super) owner: Owner,
    pub(super) place: Place,
    /// An append's number, once it has one.
    pub(super) key: Option<AppendKey>,
    /// The caller gave the number, to learn what became of an earlier append.
    pub(super) settles: bool,
    /// A copy was sent whose answer never came: it may have been carried out.
    pub(super) copy_lost: bool,
    refusals: u32,
    refusal: Option<Error>,
    /// The answer so far.
    pub(super) body: Option<Response>,
    pub(super) answered: bool,
    pub(super) payload: Vec<Bytes>,
    pub(super) received_bytes: u64,
    pub(super) credit_left: u64,
    pub(super) ungranted_bytes: u64,
}

impl CallState {
    fn new(call: Call, owner: Owner) -> CallState {
        let key = match &call.request {
            Request::Append(append) if append.producer_id != 0 => {
                Some(AppendKey { producer_id: append.producer_id, sequence: append.sequence })
            }
            _ => None,
        };
        CallState {
            request: call.request,
            bytes: call.payload,
            deadline_ms: call.deadline_ms,
            kind: call.kind,
            owner,
            place: Place::Nowhere,
            key,
            settles: key.is_some(),
            // The call that gave the key sent a copy whose outcome is not known.
            copy_lost: key.is_some(),
            refusals: 0,
            refusal: None,
            body: None,
            answered: false,
            payload: Vec::new(),
            received_bytes: 0,
            credit_left: 0,
            ungranted_bytes: 0,
        }
    }

    /// The stream of an append.
    pub(super) const fn lane(&self) -> Option<u64> {
        match &self.request {
            Request::Append(append) => Some(append.stream_id),
            _ => None,
        }
    }

    /// Whether the request may have been carried out without our knowing.
    const fn may_have_happened(&self) -> bool {
        self.copy_lost || matches!(self.place, Place::Sent { .. })
    }

    /// How much payload is held at most. A read may hold its first block, so that it gets on.
    pub(super) fn bound(&self, max_response_bytes: u64) -> u64 {
        if !self.may_be_cut() {
            return max_response_bytes;
        }
        max_response_bytes.max(first_block_bytes(&self.payload))
    }

    /// Whether its answer is good for something without its end.
    pub(super) const fn may_be_cut(&self) -> bool {
        matches!(self.request, Request::Read(_))
    }

    /// Forgets what was received, to ask once more.
    fn start_over(&mut self) {
        self.body = None;
        self.payload.clear();
        self.received_bytes = 0;
        self.ungranted_bytes = 0;
    }
}

/// The length of the block that a payload begins with; 0 where it cannot be told.
pub fn first_block_bytes(payload: &[Bytes]) -> u64 {
    let bytes = payload.iter().flatten().copied();
    let header: Vec<u8> = bytes.take(BLOCK_HEADER_BYTES).collect();
    BlockHeader::decode(&header).map_or(0, |header| header.block_len() as u64)
}

/// Whether an append's refusal also says that no copy sent earlier was carried out: these are
/// judged behind the search for a repeat.
const fn settles_earlier_copies(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::OffsetMismatch)
}

/// Whether the session itself tries again after such an answer. A server says CLOSED when it shuts
/// down, and then carries nothing out any more.
pub(super) const fn is_tried_again(code: ErrorCode) -> bool {
    code.is_retryable() || matches!(code, ErrorCode::Closed)
}

/// A server's shutdown is no close of this client.
fn as_unavailable(error: Error) -> Error {
    if error.code != ErrorCode::Closed {
        return error;
    }
    Error::new(ErrorCode::ClusterUnavailable, format!("The server shuts down. {}", error.detail))
}

impl Session {
    pub(super) fn next_call_id(&mut self) -> CallId {
        self.next_call += 1;
        CallId(self.next_call)
    }

    /// Takes a call in and puts it in its queue.
    pub(super) fn admit(&mut self, call: Call, owner: Owner) -> CallId {
        let id = self.next_call_id();
        self.deadlines.insert((call.deadline_ms, id));
        self.calls.insert(id.0, CallState::new(call, owner));
        self.enqueue(id);
        id
    }

    pub(super) fn enqueue(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id.0) else {
            return;
        };
        call.place = Place::Waiting;
        match call.lane() {
            Some(stream_id) => {
                self.lanes.push(stream_id, id);
                if call.key.is_some() {
                    self.lanes.feed();
                }
            }
            None => {
                self.waiting.insert(id);
            }
        }
    }

    /// Asks for a producer, unless that is under way.
    pub(super) fn open_producer(&mut self, now_ms: u64) {
        if self.opening.is_some() {
            return;
        }
        let call = Call {
            request: Request::OpenProducer(OpenProducerRequest {}),
            payload: Bytes::new(),
            deadline_ms: now_ms.saturating_add(self.config.options.timeout_ms),
            kind: CallKind::Collect,
        };
        self.opening = Some(self.admit(call, Owner::Producer));
    }

    /// Takes a call from wherever it is. The request of one that was sent is given up.
    pub(super) fn displace(&mut self, id: CallId) {
        let Some(call) = self.calls.get_mut(&id.0) else {
            return;
        };
        let lane = call.lane();
        match std::mem::replace(&mut call.place, Place::Nowhere) {
            Place::Nowhere => {}
            Place::Waiting => match lane {
                Some(stream_id) => self.lanes.remove(stream_id, id),
                None => {
                    self.waiting.remove(&id);
                }
            },
            Place::Delayed(at_ms) => {
                self.delayed.remove(&(at_ms, id));
            }
            Place::Sent { connection, request_id } => {
                self.landed(lane);
                if let Some(link) = self.connections.get_mut(&connection) {
                    link.abandon(request_id);
                    self.dirty.insert(connection);
                }
            }
        }
    }

    /// A call that was sent is no longer under way.
    pub(super) fn landed(&mut self, lane: Option<u64>) {
        if let Some(stream_id) = lane {
            self.lanes.landed(stream_id);
        }
    }

    /// The answer is complete and good.
    pub(super) fn succeed(&mut self, id: CallId) {
        let Some(call) = self.take(id) else {
            return;
        };
        if let Some(key) = call.key {
            self.producers.settled(key);
        }
        if call.owner == Owner::Producer {
            self.opening = None;
            if let Some(Response::OpenProducer(opened)) = call.body {
                self.producers.opened(opened.producer_id);
            }
            return;
        }
        self.actions.push_back(match call.body {
            Some(body) => {
                let answer = Answer { body, payload: call.payload, cut: false };
                Action::Done { call: id, result: Ok(answer) }
            }
            // A streaming call's body was handed over before.
            None => Action::End { call: id },
        });
    }

    /// The answer is as long as it may be: it ends here.
    pub(super) fn cut_answer(&mut self, id: CallId) {
        self.displace(id);
        if let Some(CallState { body: Some(body), payload, .. }) = self.take(id) {
            let answer = Answer { body, payload, cut: true };
            self.actions.push_back(Action::Done { call: id, result: Ok(answer) });
        }
    }

    /// The last word about a call that failed. An append that may have happened carries its key.
    pub(super) fn fail(&mut self, id: CallId, mut error: Error) {
        let may_have_happened = self.calls.get(&id.0).is_some_and(CallState::may_have_happened);
        self.displace(id);
        let Some(call) = self.take(id) else {
            return;
        };
        if let Some(key) = call.key {
            if may_have_happened {
                self.producers.unresolved(key);
                error.outcome_unknown = Some(key);
            } else {
                self.producers.settled(key);
            }
        }
        if call.owner == Owner::Producer {
            self.opening = None;
            self.fail_unnumbered(&error);
            return;
        }
        self.actions.push_back(Action::Done { call: id, result: Err(error) });
    }

    fn take(&mut self, id: CallId) -> Option<CallState> {
        let call = self.calls.remove(&id.0)?;
        self.deadlines.remove(&(call.deadline_ms, id));
        Some(call)
    }

    /// No producer is to be had: what waits for one fails, unless a later attempt may succeed.
    fn fail_unnumbered(&mut self, error: &Error) {
        if matches!(error.code, ErrorCode::Timeout) || error.is_retryable() {
            return;
        }
        let waits = |call: &CallState| {
            call.lane().is_some() && call.key.is_none() && call.place == Place::Waiting
        };
        // The caller knows of no producer: what failed for it is its append.
        let detail = format!("append opens a producer first: {}", error.detail);
        for id in self.calls_where(waits) {
            self.fail(id, Error { detail: detail.clone(), ..error.clone() });
        }
    }

    /// The ids of some calls, in order. Walks over all of them: not for hot paths.
    pub(super) fn calls_where(&self, wanted: impl Fn(&CallState) -> bool) -> Vec<CallId> {
        let matching = self.calls.iter().filter(|(_, call)| wanted(call));
        let mut ids: Vec<CallId> = matching.map(|(id, _)| CallId(*id)).collect();
        ids.sort_unstable();
        ids
    }

    /// A server answered a call with an error; the call is under way no longer.
    pub(super) fn refused(&mut self, id: CallId, error: Error, now_ms: u64) {
        let Some(call) = self.calls.get_mut(&id.0) else {
            return;
        };
        let expired = error.code == ErrorCode::ProducerExpired && call.key.is_some();
        if call.answered {
            // A stream under way cannot be asked for from its start.
            self.fail(id, as_unavailable(error));
        } else if expired {
            self.producer_expired(id, error);
        } else if is_tried_again(error.code) {
            self.try_again(id, as_unavailable(error), now_ms);
        } else {
            if settles_earlier_copies(error.code) {
                call.copy_lost = false;
            } else if call.key.is_some() && !error.is_refusal() {
                call.copy_lost = true;
            }
            self.fail(id, error);
        }
    }

    /// The server forgot the producer. An append of which this was the only copy was certainly not
    /// carried out and gets a number of a fresh producer; of any other nobody can tell any more.
    fn producer_expired(&mut self, id: CallId, error: Error) {
        let Some(call) = self.calls.get_mut(&id.0) else {
            return;
        };
        let (Some(key), lost) = (call.key.take(), call.copy_lost) else {
            return;
        };
        self.producers.expired(key.producer_id);
        if lost {
            self.fail(id, error);
        } else {
            if let Some(CallState { request: Request::Append(append), .. }) =
                self.calls.get_mut(&id.0)
            {
                append.producer_id = 0;
            }
            self.enqueue(id);
        }
    }

    /// Sends a refused call again after a pause; gives it up where its deadline comes first.
    fn try_again(&mut self, id: CallId, error: Error, now_ms: u64) {
        let Some(call) = self.calls.get_mut(&id.0) else {
            return;
        };
        call.refusals += 1;
        let pause_ms = self.book.retry_pause_ms(call.refusals).max(error.retry_after_ms.into());
        let at_ms = now_ms.saturating_add(pause_ms);
        call.refusal = Some(error);
        call.start_over();
        if at_ms >= call.deadline_ms {
            let error = self.overdue(id);
            return self.fail(id, error);
        }
        if let Some(stream_id) = call.lane() {
            self.lanes.hold(stream_id, at_ms);
            self.enqueue(id);
        } else {
            call.place = Place::Delayed(at_ms);
            self.delayed.insert((at_ms, id));
        }
    }

    /// A call's connection was lost before its answer was complete.
    pub(super) fn cut(&mut self, id: CallId, why: &Error) {
        let Some(call) = self.calls.get_mut(&id.0) else {
            return;
        };
        let lane = call.lane();
        call.place = Place::Nowhere;
        call.copy_lost = true;
        let (answered, may_repeat) =
            (call.answered, call.request.operation().sent_twice() != SentTwice::No);
        call.start_over();
        self.landed(lane);
        if answered {
            let detail = format!("The connection was lost within the answer: {}", why.detail);
            self.fail(id, Error::new(ErrorCode::ClusterUnavailable, detail));
        } else if may_repeat {
            self.enqueue(id);
        } else {
            let detail = format!("The connection was lost; it may have happened: {}", why.detail);
            self.fail(id, Error::new(ErrorCode::Timeout, detail));
        }
    }

    /// The error of a call whose time is over.
    pub(super) fn overdue(&self, id: CallId) -> Error {
        let Some(call) = self.calls.get(&id.0) else {
            return Error::new(ErrorCode::Timeout, "");
        };
        if call.key.is_some() && call.may_have_happened() {
            return Error::new(
                ErrorCode::Timeout,
                "The append was sent, but not answered in time.",
            );
        }
        if let (Some(refusal), false) = (&call.refusal, call.may_have_happened()) {
            return refusal.clone();
        }
        if matches!(call.place, Place::Sent { .. }) {
            return Error::new(ErrorCode::Timeout, "It was sent, but not answered in time.");
        }
        if self.usable.is_empty() {
            let unreachable = self.book.unreachable(self.log_id.is_some());
            if !call.copy_lost {
                return unreachable;
            }
            let detail = format!("Its connection was lost, and no other made. {unreachable}");
            return Error::new(ErrorCode::Timeout, detail);
        }
        Error::new(ErrorCode::Timeout, "It waited for room on a connection and was not sent.")
    }

    /// Ends calls whose deadline has come, and sends again those whose pause is over.
    pub(super) fn expire(&mut self, now_ms: u64) {
        while let Some((deadline_ms, id)) = self.deadlines.first().copied() {
            if deadline_ms > now_ms {
                break;
            }
            self.deadlines.pop_first();
            if self.connects.contains_key(&id) {
                self.fail_connect(id, self.book.unreachable(self.log_id.is_some()));
            } else {
                let error = self.overdue(id);
                self.fail(id, error);
            }
        }
        while let Some((at_ms, id)) = self.delayed.first().copied() {
            if at_ms > now_ms {
                break;
            }
            self.delayed.pop_first();
            self.enqueue(id);
        }
        self.lanes.release(now_ms);
    }
}
