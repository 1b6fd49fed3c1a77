//! A raw client for tests: frames over a socket, nothing clever.
#![allow(dead_code)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kimberlite_wire::block::BlockView;
use kimberlite_wire::frame::{Frame, FrameDecoder, encode_frame_head, flag};
use kimberlite_wire::{
    AppendRequest, AppendResponse, CreateStreamRequest, CreditBody, DataClass, Error, ErrorBody,
    ErrorCode, EventBatch, FrameKind, HelloRequest, HelloResponse, Operation, ReadRequest, Request,
    Response,
};

/// How long a test waits for a frame that has to come.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// An append that takes any offset.
pub const ANY: u64 = u64::MAX;

/// A byte stream that a test drives.
pub trait Stream: Read + Write {
    /// How long a read may take.
    fn patience(&self, patience: Duration);
}

impl Stream for TcpStream {
    fn patience(&self, patience: Duration) {
        self.set_read_timeout(Some(patience)).unwrap();
    }
}

/// A connection of frames.
pub struct Raw<S> {
    pub stream: S,
    decoder: FrameDecoder,
    stash: VecDeque<Frame>,
    next_id: u64,
}

/// An answer: its body and its whole payload.
pub type Answered = Result<(Response, Bytes), Error>;

impl Raw<TcpStream> {
    /// Connects without a word.
    pub fn connect(address: SocketAddr) -> Raw<TcpStream> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Raw::over(stream)
    }

    /// Connects and authenticates.
    pub fn open(address: SocketAddr, tenant_id: u64, token: &str) -> Raw<TcpStream> {
        let mut raw = Raw::connect(address);
        raw.hello(tenant_id, token).unwrap();
        raw
    }
}

/// A hello as an SDK sends it.
pub fn hello(tenant_id: u64, token: &str) -> Request {
    Request::Hello(HelloRequest {
        protocol_version: 1,
        tenant_id,
        auth_token: token.to_string(),
        client_name: "raw".to_string(),
        client_version: "1".to_string(),
    })
}

/// The bytes of a request frame.
pub fn request_bytes(id: u64, request: &Request, payload: &[u8], timeout_ms: u32) -> Vec<u8> {
    let mut body = Vec::new();
    request.encode(&mut body);
    let mut out = Vec::new();
    let (kind, operation) = (FrameKind::Request, request.operation().number());
    encode_frame_head(kind, 0, operation, id, timeout_ms, &body, payload.len() as u32, &mut out);
    out.extend_from_slice(payload);
    out
}

/// The bytes of a frame without payload that is no request.
fn frame_bytes(kind: FrameKind, id: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame_head(kind, 0, 0, id, 0, body, 0, &mut out);
    out
}

/// The bytes of a grant of payload bytes.
pub fn credit_bytes(id: u64, bytes: u64) -> Vec<u8> {
    let mut body = Vec::new();
    CreditBody { bytes }.encode(&mut body);
    frame_bytes(FrameKind::Credit, id, &body)
}

/// An append of a batch.
pub fn append(stream_id: u64, expected_offset: u64, batch: &EventBatch) -> (Request, Bytes) {
    let request = Request::Append(AppendRequest {
        stream_id,
        expected_offset,
        producer_id: 0,
        sequence: 0,
        acked_below: 0,
        count: batch.count(),
        payload_crc: batch.crc(),
    });
    (request, batch.payload().clone())
}

/// A read of as much as the limits allow.
pub fn read(stream_id: u64, from_offset: u64, max_events: u64) -> Request {
    Request::Read(ReadRequest { stream_id, from_offset, max_events, ..ReadRequest::default() })
}

impl<S: Stream> Raw<S> {
    /// Frames over a stream that is connected already.
    pub fn over(stream: S) -> Raw<S> {
        stream.patience(PATIENCE);
        let decoder = FrameDecoder::for_client();
        Raw { stream, decoder, stash: VecDeque::new(), next_id: 1 }
    }

    /// Authenticates.
    pub fn hello(&mut self, tenant_id: u64, token: &str) -> Result<HelloResponse, Error> {
        match self.call(&hello(tenant_id, token))?.0 {
            Response::Hello(welcome) => Ok(welcome),
            other => panic!("{other:?}"),
        }
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends a request and returns its id.
    pub fn send(&mut self, request: &Request, payload: &[u8]) -> u64 {
        self.send_within(request, payload, 0)
    }

    /// Sends a request with a time limit and returns its id.
    pub fn send_within(&mut self, request: &Request, payload: &[u8], timeout_ms: u32) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_bytes(&request_bytes(id, request, payload, timeout_ms));
        id
    }

    /// Sends a frame without payload that is no request.
    pub fn send_frame(&mut self, kind: FrameKind, id: u64, body: &[u8]) {
        self.send_bytes(&frame_bytes(kind, id, body));
    }

    /// Grants payload bytes.
    pub fn credit(&mut self, id: u64, bytes: u64) {
        self.send_bytes(&credit_bytes(id, bytes));
    }

    /// The next frame, whatever it is about; `None` once the server has closed.
    pub fn receive(&mut self) -> Option<Frame> {
        if let Some(frame) = self.stash.pop_front() {
            return Some(frame);
        }
        self.receive_new()
    }

    fn receive_new(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next().unwrap() {
                return Some(frame);
            }
            let mut buffer = [0; 65_536];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&buffer[..count]),
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("nothing came: {e}"),
            }
        }
    }

    /// The next frame about this request; others wait.
    pub fn receive_for(&mut self, id: u64) -> Frame {
        if let Some(at) = self.stash.iter().position(|frame| frame.header.request_id == id) {
            return self.stash.remove(at).unwrap();
        }
        loop {
            let frame = self.receive_new().expect("the server closed the connection");
            if frame.header.request_id == id {
                return frame;
            }
            self.stash.push_back(frame);
        }
    }

    /// Whether nothing comes for so long.
    pub fn is_quiet(&mut self, wait: Duration) -> bool {
        if !self.stash.is_empty() {
            return false;
        }
        self.stream.patience(wait);
        let mut buffer = [0; 65_536];
        let quiet = match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.decoder.push(&buffer[..count]);
                false
            }
            Err(_) => true,
        };
        self.stream.patience(PATIENCE);
        quiet
    }

    /// The whole answer to a request, credit granted as it comes.
    pub fn answer(&mut self, id: u64) -> Answered {
        let mut body = None;
        let mut payload = BytesMut::new();
        loop {
            let frame = self.receive_for(id);
            if frame.header.has(flag::ERROR) {
                return Err(error_of(&frame));
            }
            if body.is_none() {
                let operation = Operation::from_number(frame.header.operation).unwrap();
                body = Some(Response::decode(operation, &frame.body).unwrap());
            }
            payload.extend_from_slice(&frame.payload);
            if frame.header.has(flag::END) {
                return Ok((body.unwrap(), payload.freeze()));
            }
            assert!(frame.header.has(flag::MORE), "neither the end nor more: {frame:?}");
            if !frame.payload.is_empty() {
                self.credit(id, frame.payload.len() as u64);
            }
        }
    }

    /// Sends a request and waits for its answer.
    pub fn call(&mut self, request: &Request) -> Answered {
        let id = self.send(request, &[]);
        self.answer(id)
    }

    /// Creates a stream.
    pub fn create_stream(&mut self, name: &str) -> u64 {
        let name = name.to_string();
        let data_class = DataClass::NonPhi.number();
        let request = Request::CreateStream(CreateStreamRequest { name, data_class });
        match self.call(&request).unwrap().0 {
            Response::CreateStream(created) => created.stream_id,
            other => panic!("{other:?}"),
        }
    }

    /// Appends and waits.
    pub fn append(&mut self, stream_id: u64, events: &[&[u8]]) -> Result<AppendResponse, Error> {
        let (request, payload) = append(stream_id, ANY, &EventBatch::from_events(events)?);
        let id = self.send(&request, &payload);
        self.appended(id)
    }

    /// The answer to an append.
    pub fn appended(&mut self, id: u64) -> Result<AppendResponse, Error> {
        match self.answer(id)?.0 {
            Response::Append(appended) => Ok(appended),
            other => panic!("{other:?}"),
        }
    }

    /// Every event of a stream from an offset on, with as many reads as it takes.
    pub fn read_all(&mut self, stream_id: u64, mut from_offset: u64) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let (_, payload) = self.call(&read(stream_id, from_offset, u64::MAX)).unwrap();
            let events = events_of(&payload, from_offset);
            if events.is_empty() {
                return all;
            }
            from_offset += events.len() as u64;
            all.extend(events);
        }
    }

    /// The error with which the server ends the connection, and that it ends.
    pub fn last_error(&mut self) -> Error {
        let frame = self.receive().expect("no error before the end");
        assert!(frame.header.has(flag::ERROR), "{frame:?}");
        assert!(self.receive().is_none(), "the connection lives on");
        error_of(&frame)
    }
}

/// The error in an error frame.
pub fn error_of(frame: &Frame) -> Error {
    assert!(frame.header.has(flag::ERROR | flag::END), "{frame:?}");
    Error::from_body(ErrorBody::decode(&frame.body).unwrap())
}

/// The events in blocks, from an offset on, which must follow each other.
pub fn events_of(blocks: &[u8], from_offset: u64) -> Vec<Vec<u8>> {
    let (mut rest, mut events, mut expected) = (blocks, Vec::new(), None);
    while !rest.is_empty() {
        let (block, consumed) = BlockView::parse(rest).unwrap().expect("a whole block");
        let first = block.header.first_offset;
        assert!(expected.is_none_or(|offset| offset == first), "offsets have a gap");
        block.verify_content().unwrap();
        let skipped = from_offset.saturating_sub(first) as usize;
        events.extend(block.events().skip(skipped).map(<[u8]>::to_vec));
        expected = Some(block.end_offset());
        rest = &rest[consumed..];
    }
    events
}

/// Asserts that a call failed so, and that the detail says as much.
#[track_caller]
pub fn assert_error<T: std::fmt::Debug>(result: Result<T, Error>, code: ErrorCode, words: &str) {
    let error = result.expect_err("it must fail");
    assert_eq!(error.code, code, "{error}");
    assert!(error.detail.contains(words), "{:?} lacks {words:?}", error.detail);
}
