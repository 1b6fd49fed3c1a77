//! One connection: how far it is, what waits to be written, which requests are under way.

use bytes::Bytes;

use super::types::CallId;
use super::util::IdMap;
use crate::error::Error;
use crate::frame::{FRAME_HEADER_BYTES, FrameDecoder, FrameHeader, encode_frame};
use crate::generated::{CreditBody, FrameKind, Request, limit};

/// Payloads up to this many bytes are copied behind their frame's head: cheaper than a piece.
const COPIED_PAYLOAD_BYTES: usize = 4096;
/// This many requests given up and never answered mean that the other side is not well.
const MAX_ABANDONED: usize = 1024;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The driver opens the transport.
    Dialing,
    /// Hello was sent.
    Greeting,
    /// Welcome came.
    Ready,
    /// It takes no new requests; it is dropped when the last one is answered.
    Draining,
}

/// Whose a request under way is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pending {
    /// A call waits for the answer.
    Call(CallId),
    /// Nobody does any more; the answer is let pass.
    Abandoned,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) address: usize,
    pub(super) phase: Phase,
    /// Until when Welcome must have come.
    pub(super) dial_deadline_ms: u64,
    pub(super) decoder: FrameDecoder,
    pub(super) requests: IdMap<Pending>,
    abandoned: usize,
    next_request: u64,
    tail: Vec<u8>,
    pieces: Vec<Bytes>,
    pub(super) last_received_ms: u64,
    pub(super) ping_sent_ms: Option<u64>,
    pub(super) initial_credit: u64,
    pub(super) max_request_bytes: u64,
    /// Whether a request was answered: the connection is of use.
    pub(super) answered: bool,
}

impl Connection {
    pub(super) fn new(address: usize, dial_deadline_ms: u64) -> Connection {
        Connection {
            address,
            phase: Phase::Dialing,
            dial_deadline_ms,
            decoder: FrameDecoder::for_client(),
            requests: IdMap::default(),
            abandoned: 0,
            next_request: 1,
            tail: Vec::new(),
            pieces: Vec::new(),
            last_received_ms: 0,
            ping_sent_ms: None,
            initial_credit: limit::INITIAL_CREDIT_BYTES,
            max_request_bytes: limit::REQUEST_FRAME_BYTES,
            answered: false,
        }
    }

    pub(super) const fn is_dialing(&self) -> bool {
        matches!(self.phase, Phase::Dialing | Phase::Greeting)
    }

    pub(super) fn has_room(&self) -> bool {
        (self.requests.len() as u64) < limit::INFLIGHT_REQUESTS
    }

    /// Whether too many answers are overdue for the connection to be worth keeping.
    pub(super) const fn is_clogged(&self) -> bool {
        self.abandoned >= MAX_ABANDONED
    }

    pub(super) fn is_drained(&self) -> bool {
        self.phase == Phase::Draining && self.requests.is_empty()
    }

    /// Writes a request and tells its number. LIMIT_EXCEEDED where the server takes none as long.
    pub(super) fn send_request(
        &mut self,
        request: &Request,
        payload: &Bytes,
        timeout_ms: u32,
    ) -> Result<u64, Error> {
        let request_id = self.next_request;
        let header = FrameHeader {
            operation: request.operation().number(),
            timeout_ms,
            // A longer one than 4 GiB is refused below.
            payload_len: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            ..empty_header(FrameKind::Request, request_id)
        };
        let start = self.tail.len();
        encode_frame(&header, &mut self.tail, |out| request.encode(out));
        let len = (self.tail.len() - start - FRAME_HEADER_BYTES + payload.len()) as u64;
        if len > self.max_request_bytes {
            self.tail.truncate(start);
            return Err(Error::limit("the request's length", len, self.max_request_bytes));
        }
        self.put_payload(payload);
        self.next_request += 1;
        Ok(request_id)
    }

    fn put_payload(&mut self, payload: &Bytes) {
        if payload.len() <= COPIED_PAYLOAD_BYTES {
            self.tail.extend_from_slice(payload);
            return;
        }
        self.pieces.push(Bytes::from(std::mem::take(&mut self.tail)));
        self.pieces.push(payload.clone());
    }

    pub(super) fn send_cancel(&mut self, request_id: u64) {
        encode_frame(&empty_header(FrameKind::Cancel, request_id), &mut self.tail, |_| {});
    }

    pub(super) fn send_credit(&mut self, request_id: u64, bytes: u64) {
        let header = empty_header(FrameKind::Credit, request_id);
        encode_frame(&header, &mut self.tail, |out| CreditBody { bytes }.encode(out));
    }

    /// Sends a ping, or the answer to one.
    pub(super) fn send_ping(&mut self, flags: u8, request_id: u64, body: &[u8]) {
        let header = FrameHeader { flags, ..empty_header(FrameKind::Ping, request_id) };
        encode_frame(&header, &mut self.tail, |out| out.extend_from_slice(body));
    }

    /// Everything that waits to be written.
    pub(super) fn take_output(&mut self) -> Vec<Bytes> {
        let mut pieces = std::mem::take(&mut self.pieces);
        if !self.tail.is_empty() {
            pieces.push(Bytes::from(std::mem::take(&mut self.tail)));
        }
        pieces
    }

    /// The answer is complete, whoever waited for it.
    pub(super) fn forget(&mut self, request_id: u64) {
        if self.requests.remove(&request_id) == Some(Pending::Abandoned) {
            self.abandoned -= 1;
        }
    }

    /// Nobody waits for the answer any more: tells the server to stop.
    pub(super) fn abandon(&mut self, request_id: u64) {
        if let Some(pending @ Pending::Call(_)) = self.requests.get_mut(&request_id) {
            *pending = Pending::Abandoned;
            self.abandoned += 1;
            self.send_cancel(request_id);
        }
    }
}

fn empty_header(kind: FrameKind, request_id: u64) -> FrameHeader {
    FrameHeader {
        kind,
        flags: 0,
        operation: 0,
        request_id,
        body_len: 0,
        payload_len: 0,
        timeout_ms: 0,
    }
}
