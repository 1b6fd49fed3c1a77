//! Servers that lie: whatever they answer, it is an error or the truth, never a wrong result.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use common::{NONE, events};
use kimberlite_client::blocking::Client;
use kimberlite_client::{
    AppendKey, At, Config, DataClass, Error, ErrorCode, ExpectedOffset, StreamId, StreamInfo,
};
use kimberlite_wire::block::{BlockDraft, content_hash, genesis, write_block};
use kimberlite_wire::frame::{FrameDecoder, FrameHeader, encode_frame, flag};
use kimberlite_wire::{
    AppendResponse, ErrorBody, EventBatch, FrameKind, HelloResponse, ListStreamsResponse,
    OpenProducerResponse, Operation, ReadRequest, ReadResponse, Request, Response,
    StreamInfoResponse, VerifyResponse,
};

/// What a liar says to a request: flags, body, payload.
type Said = (u8, Vec<u8>, Vec<u8>);
type Tongue = dyn Fn(&Request) -> Said + Send + Sync;

const STREAM: StreamId = StreamId(1);

/// A client of a server that greets well, opens producers, and says what it is told to else.
fn client_of(tongue: impl Fn(&Request) -> Said + Send + Sync + 'static) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let tongue: Arc<Tongue> = Arc::new(tongue);
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            let tongue = Arc::clone(&tongue);
            thread::spawn(move || serve(socket, &*tongue));
        }
    });
    Client::connect(Config::new([address]).token("x").timeout_ms(5_000)).expect("it greets")
}

fn serve(mut socket: TcpStream, tongue: &Tongue) {
    let mut decoder = FrameDecoder::new(20 << 20);
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        decoder.push(&buffer[..count]);
        while let Ok(Some(frame)) = decoder.next() {
            if frame.header.kind != FrameKind::Request {
                continue;
            }
            let operation = Operation::from_number(frame.header.operation).expect("known");
            let request =
                Request::decode(operation, &frame.body).expect("a client tells the truth");
            let (flags, body, payload) = match &request {
                Request::Hello(_) => said(&Response::Hello(welcome())),
                Request::OpenProducer(_) => said(&Response::OpenProducer(OpenProducerResponse {
                    producer_id: 5,
                    position: 5,
                })),
                other => tongue(other),
            };
            let header = FrameHeader {
                kind: FrameKind::Response,
                flags,
                payload_len: payload.len() as u32,
                ..frame.header
            };
            let mut out = Vec::new();
            encode_frame(&header, &mut out, |out| out.extend_from_slice(&body));
            out.extend_from_slice(&payload);
            if socket.write_all(&out).is_err() {
                return;
            }
        }
    }
}

fn welcome() -> HelloResponse {
    HelloResponse {
        protocol_version: 1,
        log_id: [7; 16],
        role: 3,
        max_request_bytes: 17 << 20,
        initial_credit_bytes: 1 << 20,
        ..Default::default()
    }
}

fn said(response: &Response) -> Said {
    let mut body = Vec::new();
    response.encode(&mut body);
    (flag::END, body, Vec::new())
}

fn error(code: u32) -> Said {
    let mut body = Vec::new();
    ErrorBody { code, ..Default::default() }.encode(&mut body);
    (flag::END | flag::ERROR, body, Vec::new())
}

fn read(next_offset: u64, payload: Vec<u8>) -> Said {
    let (flags, body, _) = said(&Response::Read(ReadResponse { next_offset, position: 9 }));
    (flags, body, payload)
}

/// Blocks of one event each that go from an offset to another, chained from a head.
fn blocks(tenant_id: u64, stream_id: u64, range: std::ops::Range<u64>) -> (Vec<u8>, [u8; 32]) {
    let mut head = genesis(1, 1, "visits", DataClass::NonPhi);
    let mut out = Vec::new();
    for first_offset in range {
        let batch = EventBatch::from_events([first_offset.to_string()]).expect("fits");
        let draft = BlockDraft {
            tenant_id,
            stream_id,
            first_offset,
            timestamp_ns: 5,
            count: 1,
            content: content_hash(batch.payload()),
            body_crc: batch.crc(),
        };
        head = write_block(&mut out, &head, &draft, batch.payload());
    }
    (out, head)
}

fn info(next_offset: u64, head: [u8; 32]) -> Said {
    let data_class = DataClass::NonPhi.number();
    let name = "visits".to_string();
    let stream =
        StreamInfo { stream_id: 1, name, data_class, next_offset, head, ..Default::default() };
    said(&Response::StreamInfo(StreamInfoResponse { stream, position: 9 }))
}

fn broken<T: std::fmt::Debug>(result: Result<T, Error>, what: &str) {
    let e = result.expect_err("a lie is no result");
    assert_eq!(e.code, ErrorCode::Protocol, "{e}");
    assert!(e.detail.contains(what), "{e}");
}

/// An error that calls itself a success is none, whatever was asked; an append's outcome is then
/// unknown.
#[test]
fn errors_with_code_0() {
    let client = client_of(|_| error(0));
    let zero = "an error with code 0";
    let append = client.append(STREAM, ExpectedOffset::Any, events(0..1), &NONE);
    assert!(append.as_ref().is_err_and(|e| e.outcome_unknown.is_some()));
    broken(append, zero);
    broken(client.read(STREAM, 0, 1, 0, &NONE), zero);
    broken(client.create_stream("s", DataClass::Phi, &NONE), zero);
    broken(client.verify(STREAM, &NONE), zero);
    broken(client.query("select 1", &[], At::Now, &NONE), zero);
    broken(client.query_cursor("select 1", &[], At::Now, &NONE), zero);
    broken(client.subscribe(STREAM, 0, &NONE), zero);
    broken(client.delete_tenant(3, &NONE), zero);
    broken(client.list_streams(&NONE), zero);
}

/// An append that was answered STORAGE may have happened, unless the server says that nothing of it
/// was written. That tells nothing of a copy that was sent before.
#[test]
fn a_server_without_room() {
    for no_effect in [false, true] {
        let client = client_of(move |_| {
            let mut body = Vec::new();
            ErrorBody { code: 23, no_effect, ..Default::default() }.encode(&mut body);
            (flag::END | flag::ERROR, body, Vec::new())
        });
        let (any, batch) = (ExpectedOffset::Any, || events(0..1));
        let e = client.append(STREAM, any, batch(), &NONE).expect_err("there is no room");
        assert_eq!((e.code, e.outcome_unknown.is_none()), (ErrorCode::Storage, no_effect), "{e:?}");
        let key = AppendKey { producer_id: 5, sequence: 1 };
        let again = client.append_with_key(key, STREAM, any, batch(), &NONE);
        assert_eq!(again.expect_err("there is no room").outcome_unknown, Some(key));
    }
}

/// Answers without a body, and answers that contradict what was asked, are refused.
#[test]
fn answers_that_make_no_sense() {
    let client = client_of(|_| (flag::END, Vec::new(), Vec::new()));
    broken(client.append(STREAM, ExpectedOffset::Any, events(0..1), &NONE), "is missing");
    broken(client.read(STREAM, 0, 1, 0, &NONE), "is missing");
    broken(client.delete_tenant(3, &NONE), "is missing");
    let client = client_of(|request| match request {
        Request::Append(_) => {
            let position = 9;
            let body = AppendResponse { first_offset: 0, count: 99, timestamp_ns: 1, position };
            said(&Response::Append(body))
        }
        Request::Verify(_) => said(&Response::Verify(VerifyResponse {
            valid: true,
            count: 5,
            first_bad_offset: 3,
            ..Default::default()
        })),
        Request::ListStreams(_) => {
            let stream = StreamInfo { stream_id: 1, name: "s".into(), ..Default::default() };
            let body = ListStreamsResponse { streams: vec![stream], more: true, position: 9 };
            said(&Response::ListStreams(body))
        }
        _ => said(&Response::OpenProducer(OpenProducerResponse::default())),
    });
    let append = client.append(STREAM, ExpectedOffset::Any, events(0..1), &NONE);
    broken(append, "count is 99, but 1");
    broken(client.verify(STREAM, &NONE), "first_bad_offset 3");
    // The same stream again and again would go on for ever.
    broken(client.list_streams(&NONE), "stream 1 comes after 1");
}

/// Blocks of another tenant or stream, beside what was asked for, or none where there must be some,
/// are refused.
#[test]
fn reads_of_something_else() {
    let answers: [(Said, &str); 7] = [
        (read(5, Vec::new()), "holds no event from offset 2"),
        (read(1, Vec::new()), "next_offset is 1"),
        (read(5, blocks(9, 1, 2..4).0), "of tenant 9"),
        (read(5, blocks(1, 8, 2..4).0), "of stream 8"),
        (read(5, blocks(1, 1, 0..4).0), "offsets 0 to 1, where 2 was expected"),
        (read(3, blocks(1, 1, 2..4).0), "offsets 3 to 4"),
        (read(9, blocks(1, 1, 2..6).0), "before 5"),
    ];
    for (answer, what) in answers {
        let client = client_of(move |_| answer.clone());
        broken(client.read(STREAM, 2, 3, 0, &NONE), what);
        broken(client.read_blocks(STREAM, 2, 3, 0, &NONE), what);
    }
    let honest = client_of(|_| read(9, blocks(1, 1, 2..5).0));
    assert_eq!(honest.read(STREAM, 2, 3, 0, &NONE).expect("three events").count(), 3);
}

/// Local verification is valid only where the walk comes to the end and the head that were told:
/// not where events are withheld, and not where they make another head.
#[test]
fn local_verification_believes_nothing() {
    let walk = |next_offset: u64, head: [u8; 32], held: u64| {
        let client = client_of(move |request| match request {
            Request::Read(ReadRequest { from_offset, .. }) => {
                read(held.max(*from_offset), blocks_from(*from_offset, held))
            }
            _ => info(next_offset, head),
        });
        client.verify_locally(STREAM, &NONE).expect("it walks")
    };
    let (_, head) = blocks(1, 1, 0..5);
    let found = walk(5, head, 5);
    assert!(found.valid && found.count == 5 && found.head == head && found.position == 9);
    let found = walk(5, head, 3);
    assert_eq!((found.valid, found.count, found.first_bad_offset), (false, 3, 3), "withheld");
    let found = walk(5, head, 0);
    assert_eq!((found.valid, found.count, found.first_bad_offset), (false, 0, 0), "all withheld");
    let found = walk(5, [0xab; 32], 5);
    assert_eq!((found.valid, found.count, found.first_bad_offset), (false, 4, 4), "another head");
    let found = walk(0, [0xab; 32], 0);
    assert_eq!((found.valid, found.first_bad_offset), (false, 0), "empty, with another head");
    // What is appended meanwhile is left out.
    let (_, head) = blocks(1, 1, 0..3);
    let found = walk(3, head, 3);
    assert!(found.valid && found.count == 3);
}

fn blocks_from(from_offset: u64, end: u64) -> Vec<u8> {
    let (all, _) = blocks(1, 1, 0..end);
    let (before, _) = blocks(1, 1, 0..from_offset.min(end));
    all[before.len()..].to_vec()
}
