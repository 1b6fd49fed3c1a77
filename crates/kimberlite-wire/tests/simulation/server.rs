//! A small model of the server: one database behind all addresses, with the judgement of repeats
//! that exactly-once rests on, and one half per connection.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::OnceLock;

use bytes::Bytes;
use kimberlite_wire::frame::{Frame, FrameDecoder, FrameHeader, encode_frame, flag};
use kimberlite_wire::*;

/// What a connection's answers may hold before the first credit.
pub const INITIAL_CREDIT: u64 = 40_000;
/// The most that the test reads.
pub const LONGEST_READ: usize = 3 << 20;
const FRAME_PAYLOAD: usize = 16_000;

/// A producer and the outcomes that are remembered for it.
#[derive(Default)]
struct Producer {
    acked_below: u64,
    outcomes: HashMap<u64, (u32, AppendResponse)>,
}

/// The database.
#[derive(Default)]
pub struct Database {
    pub streams: HashMap<u64, Vec<Bytes>>,
    producers: HashMap<u64, Producer>,
    next_producer: u64,
    position: u64,
    /// Events of appends that were refused for want of room, and so lost their place in the order.
    pub refused: HashSet<Bytes>,
    pub producers_opened: u64,
}

impl Database {
    pub fn expire_producers(&mut self) {
        self.producers.clear();
    }

    fn open_producer(&mut self) -> Response {
        self.next_producer += 1;
        self.position += 1;
        self.producers_opened += 1;
        self.producers.insert(self.next_producer, Producer::default());
        let position = self.position;
        Response::OpenProducer(OpenProducerResponse { producer_id: self.next_producer, position })
    }

    fn append(&mut self, request: &AppendRequest, payload: Bytes) -> Result<Response, Error> {
        let batch = EventBatch::from_wire(request.count, payload, request.payload_crc)?;
        let Some(producer) = self.producers.get_mut(&request.producer_id) else {
            return Err(Error::new(ErrorCode::ProducerExpired, ""));
        };
        producer.acked_below = producer.acked_below.max(request.acked_below);
        let acked_below = producer.acked_below;
        producer.outcomes.retain(|sequence, _| *sequence >= acked_below);
        if request.sequence < acked_below {
            return Err(Error::invalid("sequence lies below acked_below"));
        }
        if let Some((digest, outcome)) = producer.outcomes.get(&request.sequence) {
            assert_eq!(*digest, batch.crc(), "a sequence number was used for other content");
            return Ok(Response::Append(outcome.clone()));
        }
        assert!(producer.outcomes.len() < 1024, "too many appends are outstanding");
        let stream = self.streams.entry(request.stream_id).or_default();
        let next_offset = stream.len() as u64;
        if request.expected_offset != u64::MAX && request.expected_offset != next_offset {
            let error = Error::new(ErrorCode::OffsetMismatch, "").with_value(next_offset);
            return Err(error);
        }
        stream.extend(batch.iter().map(Bytes::copy_from_slice));
        self.position += 1;
        let outcome = AppendResponse {
            first_offset: next_offset,
            count: batch.count(),
            timestamp_ns: self.position,
            position: self.position,
        };
        producer.outcomes.insert(request.sequence, (batch.crc(), outcome.clone()));
        Ok(Response::Append(outcome))
    }
}

/// An answer under way.
struct Answering {
    operation: u16,
    body: Option<Vec<u8>>,
    payload: Bytes,
    credit: u64,
    endless: bool,
}

/// What the server does with a request beside answering it.
#[derive(Clone, Copy, PartialEq)]
pub enum Mood {
    Serve,
    Overloaded,
    Unavailable,
    /// Carries it out and never answers.
    Silent,
}

/// The server's half of a connection.
pub struct ServerSide {
    decoder: FrameDecoder,
    welcomed: bool,
    answers: BTreeMap<u64, Answering>,
    pub reject: Option<ErrorCode>,
    pub lies: bool,
    pub leader: String,
    pub log_id: [u8; 16],
}

/// What came out of a frame.
pub enum Output {
    /// Send now.
    Bytes(Vec<u8>),
    /// An answer begins; ask [`ServerSide::advance`] for its frames after a while.
    Begin(u64),
    Nothing,
}

impl ServerSide {
    pub fn new(leader: String) -> ServerSide {
        ServerSide {
            decoder: FrameDecoder::new(20 << 20),
            welcomed: false,
            answers: BTreeMap::new(),
            reject: None,
            lies: false,
            leader,
            log_id: [7; 16],
        }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
    }

    pub fn next_frame(&mut self) -> Option<Frame> {
        self.decoder.next().expect("the client sends good frames")
    }

    pub fn handle(&mut self, frame: Frame, database: &mut Database, mood: Mood) -> Output {
        let header = frame.header;
        match header.kind {
            FrameKind::Request if !self.welcomed => Output::Bytes(self.hello(&frame)),
            FrameKind::Request => self.request(&frame, database, mood),
            FrameKind::Credit => {
                let credit = CreditBody::decode(&frame.body).unwrap();
                if let Some(answer) = self.answers.get_mut(&header.request_id) {
                    answer.credit += credit.bytes;
                    assert!(
                        self.lies || answer.credit <= INITIAL_CREDIT,
                        "more credit than was used"
                    );
                    return Output::Begin(header.request_id);
                }
                Output::Nothing
            }
            FrameKind::Cancel => match self.answers.remove(&header.request_id) {
                Some(_) => Output::Bytes(error_frame(
                    header.request_id,
                    &Error::new(ErrorCode::Cancelled, ""),
                )),
                None => Output::Nothing,
            },
            FrameKind::Ping => {
                let mut out = Vec::new();
                encode_frame(&FrameHeader { flags: flag::END, ..header }, &mut out, |_| {});
                Output::Bytes(out)
            }
            kind => panic!("a client sent {kind:?}"),
        }
    }

    fn hello(&mut self, frame: &Frame) -> Vec<u8> {
        assert_eq!(frame.header.request_id, 1, "the first request has number 1");
        let Request::Hello(hello) = Request::decode(Operation::Hello, &frame.body).unwrap() else {
            panic!("the first frame is Hello")
        };
        assert_eq!(hello.auth_token, "secret");
        if let Some(code) = self.reject {
            return error_frame(1, &Error::new(code, "no"));
        }
        self.welcomed = true;
        let welcome = HelloResponse {
            protocol_version: 1,
            log_id: self.log_id,
            leader: self.leader.clone(),
            max_request_bytes: 17 << 20,
            initial_credit_bytes: INITIAL_CREDIT as u32,
            ..Default::default()
        };
        let mut out = Vec::new();
        let header = response_header(1, Operation::Hello.number(), flag::END, 0);
        encode_frame(&header, &mut out, |out| welcome.encode(out));
        out
    }

    fn request(&mut self, frame: &Frame, database: &mut Database, mood: Mood) -> Output {
        let (id, number) = (frame.header.request_id, frame.header.operation);
        assert_ne!(frame.header.timeout_ms, 0, "every call of the test has a deadline");
        let operation = Operation::from_number(number).unwrap();
        let request = Request::decode(operation, &frame.body).unwrap();
        let refusal = match mood {
            Mood::Overloaded => Some(ErrorCode::Overloaded),
            Mood::Unavailable => Some(ErrorCode::ClusterUnavailable),
            Mood::Serve | Mood::Silent => None,
        };
        if let Some(code) = refusal {
            if let Request::Append(append) = &request {
                let crc = append.payload_crc;
                let batch = EventBatch::from_wire(append.count, frame.payload.clone(), crc);
                let events = batch.unwrap();
                database.refused.extend(events.iter().map(Bytes::copy_from_slice));
            }
            return Output::Bytes(error_frame(id, &Error::new(code, "")));
        }
        let mut payload = Bytes::new();
        let mut endless = false;
        let answer = match request {
            Request::Append(append) => database.append(&append, frame.payload.clone()),
            Request::OpenProducer(_) => Ok(database.open_producer()),
            Request::Read(read) => {
                payload = pattern(read.max_bytes as usize);
                Ok(Response::Read(ReadResponse::default()))
            }
            Request::Query(query) => {
                payload = pattern(query.at as usize);
                Ok(Response::Query(QueryResponse::default()))
            }
            Request::Subscribe(subscribe) => {
                payload = pattern(subscribe.from_offset as usize);
                endless = true;
                let next_offset = subscribe.from_offset;
                Ok(Response::Subscribe(SubscribeResponse { next_offset, position: 1 }))
            }
            other => panic!("the test does not send {other:?}"),
        };
        if mood == Mood::Silent {
            return Output::Nothing;
        }
        match answer {
            Ok(response) => {
                let mut body = Vec::new();
                response.encode(&mut body);
                let answering = Answering {
                    operation: number,
                    body: Some(body),
                    payload,
                    credit: INITIAL_CREDIT,
                    endless,
                };
                self.answers.insert(id, answering);
                Output::Begin(id)
            }
            Err(e) => Output::Bytes(error_frame(id, &e)),
        }
    }

    /// The next frame of an answer, as its credit allows.
    pub fn advance(&mut self, id: u64) -> Option<Vec<u8>> {
        let answer = self.answers.get_mut(&id)?;
        let most =
            if self.lies { FRAME_PAYLOAD } else { FRAME_PAYLOAD.min(answer.credit as usize) };
        let len = answer.payload.len().min(most);
        if len == 0 && answer.body.is_none() {
            return None;
        }
        let piece = answer.payload.split_to(len);
        answer.credit = answer.credit.saturating_sub(len as u64);
        let ends = answer.payload.is_empty() && !answer.endless;
        let flags = if ends { flag::END } else { flag::MORE };
        let header = response_header(id, answer.operation, flags, len as u32);
        let body = answer.body.take().unwrap_or_default();
        let mut out = Vec::new();
        encode_frame(&header, &mut out, |out| out.extend_from_slice(&body));
        out.extend_from_slice(&piece);
        if ends {
            self.answers.remove(&id);
        }
        Some(out)
    }
}

/// The payload that a read of this many bytes gives.
pub fn pattern(len: usize) -> Bytes {
    static LONGEST: OnceLock<Bytes> = OnceLock::new();
    let byte = |i: usize| (i * 7 + i / 251) as u8;
    LONGEST.get_or_init(|| (0..LONGEST_READ).map(byte).collect()).slice(..len)
}

fn response_header(request_id: u64, operation: u16, flags: u8, payload_len: u32) -> FrameHeader {
    FrameHeader {
        kind: FrameKind::Response,
        flags,
        operation,
        request_id,
        body_len: 0,
        payload_len,
        timeout_ms: 0,
    }
}

fn error_frame(request_id: u64, error: &Error) -> Vec<u8> {
    let mut out = Vec::new();
    let header = response_header(request_id, 0, flag::ERROR | flag::END, 0);
    encode_frame(&header, &mut out, |out| error.to_body().encode(out));
    out
}

/// A goaway frame.
pub fn goaway() -> Vec<u8> {
    let mut out = Vec::new();
    let header = FrameHeader { kind: FrameKind::Goaway, ..response_header(0, 0, 0, 0) };
    encode_frame(&header, &mut out, |out| GoawayBody::default().encode(out));
    out
}
