//! A connection as its server sees it: what came in, and what is still to be answered.

use bytes::Bytes;
use kimberlite_wire::frame::{Frame, FrameDecoder, FrameHeader, encode_frame, flag};
use kimberlite_wire::{CreditBody, ErrorBody, ErrorCode, FrameKind, Operation, Request};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Dialing,
    Open,
    Gone,
}

/// A request that was received and whose answer has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) request_id: u64,
    pub(super) operation: Operation,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    state: State,
    from_client: FrameDecoder,
    /// What the client got so far; `None` once it must see that this is no protocol.
    to_client: Option<FrameDecoder>,
    last_request: u64,
    pub(super) welcomed: bool,
    pub(super) asked: Vec<Asked>,
}

impl Link {
    pub(super) fn new() -> Link {
        Link {
            state: State::Dialing,
            from_client: FrameDecoder::new(20 << 20),
            to_client: Some(FrameDecoder::for_client()),
            last_request: 0,
            welcomed: false,
            asked: Vec::new(),
        }
    }

    pub(super) const fn is_dialing(&self) -> bool {
        matches!(self.state, State::Dialing)
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    pub(super) const fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    pub(super) fn open(&mut self) {
        self.state = State::Open;
    }

    pub(super) fn close(&mut self) {
        self.state = State::Gone;
        self.asked.clear();
    }

    /// The frames that these bytes complete. A client writes whole, good frames.
    pub(super) fn take(&mut self, pieces: &[Bytes]) -> Vec<Frame> {
        pieces.iter().for_each(|piece| self.from_client.push(piece));
        let mut frames = Vec::new();
        while let Some(frame) = self.from_client.next().expect("a client sends good frames") {
            frames.push(frame);
        }
        assert!(self.from_client.buffer_mut().is_empty(), "a frame is sent in part");
        frames
    }

    /// Takes note of a frame.
    pub(super) fn ask(&mut self, frame: Frame) {
        let header = frame.header;
        match header.kind {
            FrameKind::Request => {
                assert!(header.request_id > self.last_request, "a request's number is used again");
                self.last_request = header.request_id;
                let operation = Operation::from_number(header.operation).expect("it exists");
                let is_first = header.request_id == 1;
                assert_eq!(operation == Operation::Hello, is_first, "Hello comes first, and once");
                assert!(is_first || self.welcomed, "a request before Welcome");
                Request::decode(operation, &frame.body).expect("a client sends good bodies");
                let request_id = header.request_id;
                self.asked.push(Asked { request_id, operation });
            }
            FrameKind::Credit => {
                let credit = CreditBody::decode(&frame.body).expect("a client sends good bodies");
                assert!(credit.bytes > 0, "a grant of nothing");
            }
            FrameKind::Cancel => {
                assert!(header.request_id <= self.last_request, "a cancel of nothing");
            }
            FrameKind::Ping => {}
            kind => panic!("a client sends a {} frame", kind.name()),
        }
    }

    /// Bytes go to the client: tells which answers end with them, and how.
    pub(super) fn tell(&mut self, bytes: &[u8]) -> Vec<(u64, ErrorCode)> {
        let mut ended = Vec::new();
        let Some(decoder) = &mut self.to_client else { return ended };
        decoder.push(bytes);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => ended.extend(ending(&frame)),
                Ok(None) => break,
                Err(_) => {
                    self.to_client = None;
                    break;
                }
            }
        }
        let has_ended = |asked: &Asked| ended.iter().any(|(id, _)| *id == asked.request_id);
        self.asked.retain(|asked| !has_ended(asked));
        ended
    }
}

/// The request whose answer this frame ends, and with which error.
fn ending(frame: &Frame) -> Option<(u64, ErrorCode)> {
    let header = &frame.header;
    let ends = header.flags & (flag::END | flag::ERROR) != 0;
    if header.kind != FrameKind::Response || !ends {
        return None;
    }
    let code = match ErrorBody::decode(&frame.body) {
        Ok(body) if header.has(flag::ERROR) => {
            ErrorCode::from_number(body.code).unwrap_or(ErrorCode::Unknown)
        }
        _ => ErrorCode::Ok,
    };
    Some((header.request_id, code))
}

/// A response frame's bytes.
pub(super) fn response(
    request_id: u64,
    operation: u16,
    flags: u8,
    body: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    frame(FrameKind::Response, request_id, operation, flags, body, payload)
}

/// Any frame's bytes.
pub(super) fn frame(
    kind: FrameKind,
    request_id: u64,
    operation: u16,
    flags: u8,
    body: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let payload_len = payload.len() as u32;
    let header =
        FrameHeader { kind, flags, operation, request_id, body_len: 0, payload_len, timeout_ms: 0 };
    let mut out = Vec::new();
    encode_frame(&header, &mut out, |out| out.extend_from_slice(body));
    out.extend_from_slice(payload);
    out
}
