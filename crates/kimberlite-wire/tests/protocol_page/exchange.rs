//! The session that docs/PROTOCOL.md shows, frame by frame, with what each byte is.

use bytes::Bytes;
use kimberlite_wire::block::{BlockDraft, Hash, content_hash, genesis, write_block};
use kimberlite_wire::frame::{FrameHeader, encode_frame, flag};
use kimberlite_wire::*;

/// Who sends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// What a frame's body is.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Request(Request),
    Response(Response),
    Error(ErrorBody),
    Credit(CreditBody),
    Goaway(GoawayBody),
    None,
}

impl Body {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Body::Request(body) => body.encode(out),
            Body::Response(body) => body.encode(out),
            Body::Error(body) => body.encode(out),
            Body::Credit(body) => body.encode(out),
            Body::Goaway(body) => body.encode(out),
            Body::None => {}
        }
    }
}

/// One frame of the session.
pub struct Step {
    pub side: Side,
    pub title: &'static str,
    pub header: FrameHeader,
    pub body: Body,
    pub payload: Bytes,
    /// What the bytes behind the header are: how many, and what.
    notes: Vec<(usize, String)>,
}

impl Step {
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode_frame(&self.header, &mut out, |out| self.body.encode(out));
        out.extend_from_slice(&self.payload);
        out
    }

    /// The frame as the page shows it: up to 16 bytes a line, and what they are.
    pub fn shown(&self) -> String {
        let bytes = self.bytes();
        let header = &self.header;
        let flags = [(flag::END, "END"), (flag::MORE, "MORE"), (flag::ERROR, "ERROR")];
        let flags: Vec<&str> =
            flags.iter().filter(|(bit, _)| header.has(*bit)).map(|(_, name)| *name).collect();
        let flags = if flags.is_empty() { "none".to_string() } else { flags.join(", ") };
        let operation = Operation::from_number(header.operation);
        let mut notes = vec![
            (4, "magic".to_string()),
            (1, format!("kind: {}", header.kind.name())),
            (1, format!("flags: {flags}")),
            (2, format!("operation: {}", operation.map_or("none", |o| o.name()))),
            (8, format!("request_id: {}", header.request_id)),
            (4, format!("body_len: {}", self.body_len())),
            (4, format!("payload_len: {}", header.payload_len)),
            (4, format!("timeout_ms: {}", header.timeout_ms)),
            (4, "crc".to_string()),
        ];
        notes.extend(self.notes.iter().cloned());
        let mut out = format!("#### {:?}: {}\n\n```hex\n", self.side, self.title);
        let mut rest = &bytes[..];
        for (len, note) in notes {
            let (taken, after) = rest.split_at(len);
            for (line, chunk) in taken.chunks(16).enumerate() {
                let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
                let note = if line == 0 { &note[..] } else { "…" };
                out.push_str(&format!("{:<47}  {note}\n", hex.join(" ")));
            }
            rest = after;
        }
        assert!(rest.is_empty(), "{}: {} bytes have no note", self.title, rest.len());
        out.push_str("```\n");
        out
    }

    fn body_len(&self) -> usize {
        let mut body = Vec::new();
        self.body.encode(&mut body);
        body.len()
    }
}

fn note(len: usize, text: &str) -> (usize, String) {
    (len, text.to_string())
}

/// A string's notes: its length and its text.
fn text(name: &str, value: &str) -> [(usize, String); 2] {
    let length = (8, format!("{name}: {} bytes", value.len()));
    [length, (value.len(), format!("{value:?}"))]
}

fn number(len: usize, name: &str, value: u64) -> (usize, String) {
    (len, format!("{name}: {value}"))
}

fn request(id: u64, title: &'static str, body: Request, notes: Vec<(usize, String)>) -> Step {
    let header = FrameHeader {
        kind: FrameKind::Request,
        flags: 0,
        operation: body.operation().number(),
        request_id: id,
        body_len: 0,
        payload_len: 0,
        timeout_ms: 30_000,
    };
    let (side, body, payload) = (Side::Client, Body::Request(body), Bytes::new());
    Step { side, title, header, body, payload, notes }
}

fn response(id: u64, title: &'static str, body: Response, notes: Vec<(usize, String)>) -> Step {
    let header = FrameHeader {
        kind: FrameKind::Response,
        flags: flag::END,
        operation: body.operation().number(),
        request_id: id,
        body_len: 0,
        payload_len: 0,
        timeout_ms: 0,
    };
    let (side, body, payload) = (Side::Server, Body::Response(body), Bytes::new());
    Step { side, title, header, body, payload, notes }
}

fn with_payload(mut step: Step, payload: Bytes, notes: Vec<(usize, String)>) -> Step {
    step.header.payload_len = payload.len() as u32;
    step.payload = payload;
    step.notes.extend(notes);
    step
}

/// The stream's beginning of the chain.
pub fn start_of_chain() -> Hash {
    genesis(1, 1, "orders", DataClass::NonPhi)
}

/// The events that the session appends.
pub fn events() -> EventBatch {
    EventBatch::from_events(["hello", "world!"]).unwrap()
}

fn block() -> Bytes {
    let batch = events();
    let draft = BlockDraft {
        tenant_id: 1,
        stream_id: 1,
        first_offset: 0,
        timestamp_ns: 1_704_067_200_000_000_000,
        count: batch.count(),
        content: content_hash(batch.payload()),
        body_crc: batch.crc(),
    };
    let mut out = Vec::new();
    write_block(&mut out, &start_of_chain(), &draft, batch.payload());
    out.into()
}

/// The whole session.
pub fn steps() -> Vec<Step> {
    let mut steps = hello();
    steps.extend(create());
    steps.extend(append());
    steps.extend(read());
    steps.extend(subscribe());
    steps.extend(connection_frames());
    steps
}

fn hello() -> Vec<Step> {
    let hello = HelloRequest {
        protocol_version: 1,
        tenant_id: 1,
        auth_token: "secret".into(),
        client_name: "example".into(),
        client_version: "0.1.0".into(),
    };
    let mut asked = vec![number(2, "protocol_version", 1), number(8, "tenant_id", 1)];
    asked.extend(text("auth_token", "secret"));
    asked.extend(text("client_name", "example"));
    asked.extend(text("client_version", "0.1.0"));
    let welcome = HelloResponse {
        protocol_version: 1,
        server_version: "0.1.0".into(),
        log_id: *b"0123456789abcdef",
        principal: "alice".into(),
        role: Role::Writer.number(),
        leader: String::new(),
        members: vec!["db1:5432".into()],
        max_request_bytes: limit::REQUEST_FRAME_BYTES as u32,
        initial_credit_bytes: limit::INITIAL_CREDIT_BYTES as u32,
        position: 41,
    };
    let mut told = vec![number(2, "protocol_version", 1)];
    told.extend(text("server_version", "0.1.0"));
    told.push(note(16, "log_id"));
    told.extend(text("principal", "alice"));
    told.push(note(1, "role: Writer"));
    told.push(note(8, "leader: 0 bytes"));
    told.push(note(8, "members: 1 element"));
    told.extend(text("the first", "db1:5432"));
    told.push(number(4, "max_request_bytes", limit::REQUEST_FRAME_BYTES));
    told.push(number(4, "initial_credit_bytes", limit::INITIAL_CREDIT_BYTES));
    told.push(number(8, "position", 41));
    vec![
        request(1, "Hello", Request::Hello(hello), asked),
        response(1, "Welcome", Response::Hello(welcome), told),
    ]
}

fn create() -> Vec<Step> {
    let create = CreateStreamRequest { name: "orders".into(), data_class: 1 };
    let mut asked = text("name", "orders").to_vec();
    asked.push(note(1, "data_class: NonPHI"));
    let created = CreateStreamResponse { stream_id: 1, created: true, position: 42 };
    let told = vec![number(8, "stream_id", 1), note(1, "created: true"), number(8, "position", 42)];
    let opened = OpenProducerResponse { producer_id: 43, position: 43 };
    let open = Request::OpenProducer(OpenProducerRequest {});
    let told_opened = vec![number(8, "producer_id", 43), number(8, "position", 43)];
    vec![
        request(2, "create a stream", Request::CreateStream(create), asked),
        request(3, "open a producer, without waiting for the answer before", open, vec![]),
        response(
            3,
            "the producer (answers come in any order)",
            Response::OpenProducer(opened),
            told_opened,
        ),
        response(2, "the stream", Response::CreateStream(created), told),
    ]
}

fn append() -> Vec<Step> {
    let batch = events();
    let append = AppendRequest {
        stream_id: 1,
        expected_offset: u64::MAX,
        producer_id: 43,
        sequence: 1,
        acked_below: 1,
        count: 2,
        payload_crc: batch.crc(),
    };
    let asked = vec![
        number(8, "stream_id", 1),
        note(8, "expected_offset: any"),
        number(8, "producer_id", 43),
        number(8, "sequence", 1),
        number(8, "acked_below", 1),
        number(4, "count", 2),
        note(4, "payload_crc"),
    ];
    let payload = vec![
        note(4, "payload: the first event ends at 5"),
        note(4, "the second ends at 11"),
        note(5, "\"hello\""),
        note(6, "\"world!\""),
    ];
    let appended = AppendResponse {
        first_offset: 0,
        count: 2,
        timestamp_ns: 1_704_067_200_000_000_000,
        position: 44,
    };
    let told = vec![
        number(8, "first_offset", 0),
        number(4, "count", 2),
        note(8, "timestamp_ns: 2024-01-01 00:00:00 UTC"),
        number(8, "position", 44),
    ];
    let step = request(4, "append two events", Request::Append(append), asked);
    vec![
        with_payload(step, batch.payload().clone(), payload),
        response(4, "appended", Response::Append(appended), told),
    ]
}

fn block_notes() -> Vec<(usize, String)> {
    vec![
        note(4, "payload: the block's magic"),
        note(4, "header_crc"),
        note(1, "version: 1"),
        note(1, "flags: none"),
        note(2, "header_len: 128"),
        note(4, "body_len: 19"),
        note(4, "body_crc"),
        note(4, "count: 2"),
        note(8, "tenant_id: 1"),
        note(8, "stream_id: 1"),
        note(8, "first_offset: 0"),
        note(8, "timestamp_ns"),
        note(4, "key_id: none"),
        note(4, "reserved"),
        note(32, "content_sha256"),
    ]
}

fn read() -> Vec<Step> {
    let read = |from_offset| {
        Request::Read(ReadRequest {
            stream_id: 1,
            from_offset,
            max_events: 1000,
            ..Default::default()
        })
    };
    let asked = |from_offset| {
        vec![
            number(8, "stream_id", 1),
            number(8, "from_offset", from_offset),
            number(8, "max_events", 1000),
            note(8, "max_bytes: the limit"),
            number(8, "min_position", 0),
            note(1, "stale: false"),
        ]
    };
    let told = vec![number(8, "next_offset", 2), number(8, "position", 44)];
    let mut first_part = block();
    let second_part = first_part.split_off(96);
    let body = Response::Read(ReadResponse { next_offset: 2, position: 44 });
    let first = response(5, "the answer, cut within the block", body.clone(), told);
    let mut first = with_payload(first, first_part, block_notes());
    first.header.flags = flag::MORE;
    let rest = vec![
        note(32, "payload, continued: chain"),
        note(8, "the body: ends 5 and 11"),
        note(11, "\"hello\", \"world!\""),
        note(5, "padding"),
    ];
    let mut second = with_payload(response(5, "the rest", body, vec![]), second_part, rest);
    second.body = Body::None;
    let detail = "from_offset is 9; the stream's next offset is 2";
    let error = ErrorBody { code: 7, detail: detail.into(), value: 2, ..Default::default() };
    let mut error_notes = vec![note(4, "code: OFFSET_OUT_OF_RANGE")];
    error_notes.extend(text("detail", detail));
    error_notes.extend([
        number(8, "value", 2),
        number(4, "retry_after_ms", 0),
        number(1, "no_effect", 0),
    ]);
    vec![
        request(5, "read from the start", read(0), asked(0)),
        first,
        second,
        request(6, "read beyond the end", read(9), asked(9)),
        error_step(6, Operation::Read, "an error", error, error_notes),
    ]
}

fn error_step(
    id: u64,
    operation: Operation,
    title: &'static str,
    body: ErrorBody,
    notes: Vec<(usize, String)>,
) -> Step {
    let header = FrameHeader {
        kind: FrameKind::Response,
        flags: flag::ERROR | flag::END,
        operation: operation.number(),
        request_id: id,
        body_len: 0,
        payload_len: 0,
        timeout_ms: 0,
    };
    let (side, body, payload) = (Side::Server, Body::Error(body), Bytes::new());
    Step { side, title, header, body, payload, notes }
}

fn plain(side: Side, kind: FrameKind, title: &'static str, id: u64, body: Body) -> Step {
    let header = FrameHeader {
        kind,
        flags: 0,
        operation: 0,
        request_id: id,
        body_len: 0,
        payload_len: 0,
        timeout_ms: 0,
    };
    Step { side, title, header, body, payload: Bytes::new(), notes: vec![] }
}

fn subscribe() -> Vec<Step> {
    let body = SubscribeRequest { stream_id: 1, from_offset: 2, credit_bytes: 65_536 };
    let asked = vec![
        number(8, "stream_id", 1),
        number(8, "from_offset", 2),
        number(4, "credit_bytes", 65_536),
    ];
    let begun = Response::Subscribe(SubscribeResponse { next_offset: 2, position: 44 });
    let told = vec![number(8, "next_offset", 2), number(8, "position", 44)];
    let mut begun = response(7, "the beginning of an answer without end", begun, told);
    begun.header.flags = flag::MORE;
    let credit = Body::Credit(CreditBody { bytes: 4096 });
    let mut credit =
        plain(Side::Client, FrameKind::Credit, "credit for 4096 bytes more", 7, credit);
    credit.notes = vec![number(8, "bytes", 4096)];
    let cancel = plain(Side::Client, FrameKind::Cancel, "cancel the subscription", 7, Body::None);
    let error = ErrorBody { code: 21, ..Default::default() };
    let notes = vec![
        note(4, "code: CANCELLED"),
        note(8, "detail: 0 bytes"),
        number(8, "value", 0),
        number(4, "retry_after_ms", 0),
        number(1, "no_effect", 0),
    ];
    vec![
        request(7, "subscribe from the end on", Request::Subscribe(body), asked),
        begun,
        credit,
        cancel,
        error_step(7, Operation::Subscribe, "cancelled", error, notes),
    ]
}

fn connection_frames() -> Vec<Step> {
    let ping = plain(Side::Client, FrameKind::Ping, "ping", 0, Body::None);
    let mut pong = plain(Side::Server, FrameKind::Ping, "the same, with END", 0, Body::None);
    pong.header.flags = flag::END;
    let body = GoawayBody { leader: "db2:5432".into(), reason: "shutdown".into() };
    let mut goaway = plain(Side::Server, FrameKind::Goaway, "goaway", 0, Body::Goaway(body));
    goaway.notes = [text("leader", "db2:5432"), text("reason", "shutdown")].concat();
    vec![ping, pong, goaway]
}
