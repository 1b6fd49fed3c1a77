//! The calls: what was promised to each, and every copy of it that was sent.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kimberlite_wire::frame::Frame;
use kimberlite_wire::session::{Answer, Call, CallId, CallKind, ConnectionId};
use kimberlite_wire::{AppendKey, Error, ErrorCode, EventBatch, FrameKind, Operation, Request};

use super::MAX_RESPONSE_BYTES;
use super::links::Link;

/// A copy of a request that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It may be answered yet.
    Open,
    /// The server answered with this error, or with success (OK).
    Answered(ErrorCode),
    /// Its connection was lost first.
    Lost,
}

#[derive(Clone, Debug)]
struct Copy {
    connection: ConnectionId,
    request_id: u64,
    key: Option<AppendKey>,
    fate: Fate,
}

/// One call.
#[derive(Debug)]
struct Started {
    kind: CallKind,
    deadline_ms: u64,
    /// For an append: its stream.
    stream_id: Option<u64>,
    /// The key that the caller gave.
    given: Option<AppendKey>,
    copies: Vec<Copy>,
    answered: bool,
    ended: bool,
}

/// Every call so far. A call's tag stands in its request, so that the server's side knows whose it
/// is; tags count up like the calls do.
#[derive(Debug, Default)]
pub(super) struct Calls {
    calls: BTreeMap<CallId, Started>,
    by_tag: BTreeMap<u64, CallId>,
    next_tag: u64,
    /// Keys that callers were told to settle by.
    unknown: BTreeSet<(u64, u64)>,
    /// Calls that end with the input that is handled, and whether their outcome is unknown.
    ending: BTreeMap<CallId, bool>,
}

impl Calls {
    /// The tag of the next call.
    pub(super) fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }

    pub(super) fn started(&mut self, id: CallId, tag: u64, call: &Call) {
        let (stream_id, given) = match &call.request {
            Request::Append(append) => {
                let key = AppendKey { producer_id: append.producer_id, sequence: append.sequence };
                (Some(append.stream_id), Some(key).filter(|key| key.producer_id != 0))
            }
            _ => (None, None),
        };
        self.insert(id, call.kind, call.deadline_ms, stream_id, given);
        self.by_tag.insert(tag, id);
    }

    pub(super) fn connecting(&mut self, id: CallId, deadline_ms: u64) {
        self.insert(id, CallKind::Collect, deadline_ms, None, None);
    }

    fn insert(
        &mut self,
        id: CallId,
        kind: CallKind,
        deadline_ms: u64,
        stream_id: Option<u64>,
        given: Option<AppendKey>,
    ) {
        let started = Started {
            kind,
            deadline_ms,
            stream_id,
            given,
            copies: Vec::new(),
            answered: false,
            ended: false,
        };
        let before = self.calls.insert(id, started);
        assert!(before.is_none(), "a call's number is used again");
    }

    /// These calls end with the input that is handled; what is sent was decided knowing that.
    pub(super) fn ending(&mut self, calls: impl Iterator<Item = (CallId, bool)>) {
        self.ending = calls.collect();
    }

    pub(super) fn open_count(&self) -> usize {
        self.calls.values().filter(|call| !call.ended).count()
    }

    /// One of the calls; a number that is none where there are none.
    pub(super) fn pick(&self, choice: u8) -> CallId {
        let index = usize::from(choice) % self.calls.len().max(1);
        self.calls.keys().rev().nth(index).copied().unwrap_or(CallId(u64::MAX))
    }

    /// One of the keys that settle an append.
    pub(super) fn pick_key(&self, choice: u8) -> Option<AppendKey> {
        let index = usize::from(choice) % self.unknown.len().max(1);
        let key = self.unknown.iter().nth(index);
        key.map(|(producer_id, sequence)| AppendKey {
            producer_id: *producer_id,
            sequence: *sequence,
        })
    }

    pub(super) fn check_deadlines(&self, now_ms: u64) {
        let overdue = self.calls.values().find(|call| !call.ended && call.deadline_ms <= now_ms);
        assert!(overdue.is_none(), "at {now_ms} a call is overdue: {overdue:?}");
    }

    pub(super) fn is_answered(&self, id: CallId) -> bool {
        self.calls.get(&id).is_some_and(|call| call.answered)
    }

    pub(super) fn answered(&mut self, id: CallId) {
        let call = self.calls.get_mut(&id).expect("a call that was started");
        assert!(call.kind == CallKind::Stream && !call.answered && !call.ended, "one answer");
        call.answered = true;
    }

    pub(super) fn chunk(&mut self, id: CallId, bytes: usize) {
        let call = self.calls.get_mut(&id).expect("a call that was started");
        assert!(call.answered && !call.ended && bytes > 0, "chunks lie between answer and end");
    }

    /// A call ended; `None` is a stream's good end.
    pub(super) fn ended(
        &mut self,
        id: CallId,
        result: Option<&Result<Answer, Error>>,
        now_ms: u64,
    ) {
        let call = self.calls.get_mut(&id).expect("a call that was started");
        assert!(!call.ended, "a call ends twice");
        call.ended = true;
        match result {
            None => assert!(call.answered, "a stream ends without an answer"),
            Some(Ok(answer)) => {
                let bytes: usize = answer.payload.iter().map(Bytes::len).sum();
                assert!(bytes as u64 <= MAX_RESPONSE_BYTES, "an answer of {bytes} bytes");
                assert!(now_ms <= call.deadline_ms, "an answer after the deadline");
                if let Some(given) = call.given {
                    self.unknown.remove(&(given.producer_id, given.sequence));
                }
            }
            Some(Err(e)) => {
                check_outcome(call, e);
                if let Some(key) = e.outcome_unknown {
                    self.unknown.insert((key.producer_id, key.sequence));
                } else if let Some(given) = call.given {
                    self.unknown.remove(&(given.producer_id, given.sequence));
                }
            }
        }
    }

    /// A connection is gone, and the copies on it have no answer.
    pub(super) fn lost(&mut self, connection: ConnectionId) {
        for copy in self.calls.values_mut().flat_map(|call| &mut call.copies) {
            if copy.connection == connection && copy.fate == Fate::Open {
                copy.fate = Fate::Lost;
            }
        }
    }

    /// The server sends the end of an answer.
    pub(super) fn answer_sent(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        code: ErrorCode,
    ) {
        for copy in self.calls.values_mut().flat_map(|call| &mut call.copies) {
            if (copy.connection, copy.request_id) == (connection, request_id) {
                copy.fate = Fate::Answered(code);
            }
        }
    }

    /// A frame was sent: checks that it may be.
    pub(super) fn sent(
        &mut self,
        connection: ConnectionId,
        frame: &Frame,
        links: &BTreeMap<ConnectionId, Link>,
    ) {
        if frame.header.kind != FrameKind::Request {
            return;
        }
        let operation = Operation::from_number(frame.header.operation).expect("it exists");
        let request = Request::decode(operation, &frame.body).expect("a good body");
        let Some(tag) = tag_of(&request, frame) else { return };
        let id = *self.by_tag.get(&tag).expect("a tag of ours");
        let key = match &request {
            Request::Append(append) => {
                self.check_acked_below(id, append);
                self.check_lane(append.stream_id, connection, links);
                Some(AppendKey { producer_id: append.producer_id, sequence: append.sequence })
            }
            _ => None,
        };
        let call = &self.calls[&id];
        assert!(!call.ended, "a call that has ended is sent");
        check_copies(call, key);
        let request_id = frame.header.request_id;
        let copy = Copy { connection, request_id, key, fate: Fate::Open };
        self.check_key_is_its_own(id, key);
        if let Some(call) = self.calls.get_mut(&id) {
            call.copies.push(copy);
        }
    }

    /// No server may be told to forget what a caller, or the session itself, may still ask for.
    fn check_acked_below(&self, id: CallId, append: &kimberlite_wire::AppendRequest) {
        let producer_id = append.producer_id;
        assert!(producer_id != 0, "an append without a producer");
        assert!(append.acked_below <= append.sequence, "an append is acknowledged by itself");
        let unknown = self.unknown.range((producer_id, 0)..=(producer_id, u64::MAX));
        for (_, sequence) in unknown.filter(|(_, sequence)| !self.settles(producer_id, *sequence)) {
            assert!(append.acked_below <= *sequence, "an unknown outcome is given up");
        }
        for (other, call) in &self.calls {
            // What ends now and is settled may be forgotten.
            let is_open = !call.ended && self.ending.get(other) != Some(&false);
            let last = call.copies.last().filter(|_| is_open && *other != id);
            if let Some(key) = last.and_then(|copy| copy.key)
                && key.producer_id == producer_id
                && !last.is_some_and(|copy| copy.fate == Fate::Answered(ErrorCode::ProducerExpired))
            {
                assert!(append.acked_below <= key.sequence, "an open append is given up");
            }
        }
    }

    /// Whether a call that ends now settles what was unknown under this key.
    fn settles(&self, producer_id: u64, sequence: u64) -> bool {
        let key = Some(AppendKey { producer_id, sequence });
        let settled = self.ending.iter().filter(|(_, is_unknown)| !**is_unknown);
        let mut calls = settled.filter_map(|(id, _)| self.calls.get(id));
        calls.any(|call| call.given == key)
    }

    /// A stream's appends under way are all on one connection.
    fn check_lane(
        &self,
        stream_id: u64,
        connection: ConnectionId,
        links: &BTreeMap<ConnectionId, Link>,
    ) {
        let open = self.calls.iter().filter(|(id, call)| {
            !call.ended && call.stream_id == Some(stream_id) && !self.ending.contains_key(id)
        });
        for copy in open.flat_map(|(_, call)| &call.copies).filter(|copy| copy.fate == Fate::Open) {
            let elsewhere = copy.connection != connection
                && links.get(&copy.connection).is_some_and(|link| !link.is_gone());
            assert!(!elsewhere, "a stream's appends go two ways at once");
        }
    }

    fn check_key_is_its_own(&self, id: CallId, key: Option<AppendKey>) {
        let Some(key) = key.filter(|_| self.calls[&id].given.is_none()) else { return };
        let others =
            self.calls.iter().filter(|(other, call)| **other != id && call.given.is_none());
        let shared = others.flat_map(|(_, call)| &call.copies).any(|copy| copy.key == Some(key));
        assert!(!shared, "two appends have one number");
    }
}

/// One copy at a time; and once one may have been carried out, always the same number.
fn check_copies(call: &Started, key: Option<AppendKey>) {
    assert!(call.copies.iter().all(|copy| copy.fate != Fate::Open), "two copies are under way");
    if let (Some(given), Some(key)) = (call.given, key) {
        assert_eq!(given, key, "the caller's key is changed");
    }
    let may_have_happened = call.copies.iter().filter(|copy| copy.fate == Fate::Lost);
    for copy in may_have_happened {
        assert_eq!(copy.key, key, "an append that may have happened gets another number");
    }
}

/// What an append's failure says about whether it happened.
fn check_outcome(call: &Started, error: &Error) {
    let Some(key) = error.outcome_unknown else {
        let settled = [ErrorCode::OffsetMismatch, ErrorCode::ProducerExpired];
        let under_way = call.copies.iter().any(|copy| matches!(copy.fate, Fate::Open | Fate::Lost));
        let says_nothing = call.stream_id.is_some() && under_way && !settled.contains(&error.code);
        assert!(!says_nothing, "an append that may have happened ends without a key: {error}");
        return;
    };
    assert!(call.stream_id.is_some(), "only appends have keys");
    assert!(call.given.is_some() || !call.copies.is_empty(), "it was never sent");
    let last = call.copies.last().and_then(|copy| copy.key).or(call.given);
    assert_eq!(Some(key), last, "the key is another append's");
}

/// The tag in a request of ours; `None` in those that the session makes by itself.
fn tag_of(request: &Request, frame: &Frame) -> Option<u64> {
    match request {
        Request::Append(append) => {
            let batch =
                EventBatch::from_wire(append.count, frame.payload.clone(), append.payload_crc)
                    .expect("a client sends good payloads");
            let tag = batch.event(0).and_then(|event| event.first_chunk());
            let tag = tag.expect("the tag comes first");
            Some(u64::from_le_bytes(*tag))
        }
        Request::Read(read) => Some(read.from_offset),
        Request::Subscribe(subscribe) => Some(subscribe.from_offset),
        Request::Query(query) => Some(query.at),
        Request::CreateTenant(create) => Some(create.tenant_id),
        Request::DeleteTenant(delete) => Some(delete.tenant_id),
        _ => None,
    }
}
