//! Peers that break the protocol, on purpose or not.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use kimberlite_wire::frame::{FRAME_HEADER_BYTES, encode_frame_head};
use kimberlite_wire::{ErrorCode, FrameKind, HelloRequest, Operation, Request, limit};

use super::common::{Raw, assert_error, error_of, hello, read, request_bytes};
use super::{Stub, TOKEN, eventually, small, stream};

/// The header of a request frame that announces more than it brings.
fn lying_header(body_len: u32, payload_len: u32) -> Vec<u8> {
    let mut bytes = request_bytes(9, &small(1), &[], 0);
    bytes.truncate(FRAME_HEADER_BYTES);
    bytes[16..20].copy_from_slice(&body_len.to_le_bytes());
    bytes[20..24].copy_from_slice(&payload_len.to_le_bytes());
    bytes
}

/// Bytes that are no frame get a PROTOCOL error and a close, whatever their number.
#[test]
fn garbage_is_refused() {
    let (server, _) = Stub::server(|_| {});
    for garbage in [&b"HELP\r\n"[..], b"\0", b"KMB\x02 of another framing", &[0xff; 100_000]] {
        let mut raw = Raw::connect(server.local_addr());
        raw.send_bytes(garbage);
        let error = raw.last_error();
        assert_eq!(error.code, ErrorCode::Protocol, "{error}");
    }
    for seed in 0..50_u32 {
        let mut raw = Raw::connect(server.local_addr());
        let mut bytes = request_bytes(1, &hello(1, TOKEN), &[], 0);
        let at = (seed as usize * 7) % bytes.len();
        bytes[at] ^= 1 << (seed % 8);
        // The server may answer and close before all is sent.
        let _ = raw.stream.write_all(&bytes);
        let _ = raw.stream.shutdown(std::net::Shutdown::Write);
        while raw.receive().is_some() {}
    }
    Raw::open(server.local_addr(), 1, TOKEN).call(&small(1)).unwrap();
}

/// Before the hello only 64 KiB are taken, after it 17 MiB; the error names the bound, comes
/// before anything was sent, and belongs to the request where there is one.
#[test]
fn lying_lengths_are_refused() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::connect(server.local_addr());
    raw.send_bytes(&lying_header(65_537, 0));
    let error = raw.last_error();
    assert_eq!((error.code, error.value), (ErrorCode::LimitExceeded, 65_536));
    for (body_len, payload_len) in [(u32::MAX, u32::MAX), (0, 17_825_793), (17_825_793, 0)] {
        let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
        let waiting = raw.send(&read(stream::SILENT, 0, 1), &[]);
        raw.send_bytes(&lying_header(body_len, payload_len));
        assert_error(raw.answer(waiting), ErrorCode::Closed, "closes");
        let frame = raw.receive().unwrap();
        assert_eq!(frame.header.request_id, 9);
        let error = error_of(&frame);
        assert_eq!((error.code, error.value), (ErrorCode::LimitExceeded, 17_825_792));
        assert!(raw.receive().is_none());
    }
}

/// A frame whose bytes were changed on the way ends the connection with a PROTOCOL error.
#[test]
fn bad_checksums_are_refused() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let mut bytes = request_bytes(5, &small(1), &[], 0);
    *bytes.last_mut().unwrap() ^= 1;
    raw.send_bytes(&bytes);
    assert_error(Err::<(), _>(raw.last_error()), ErrorCode::Protocol, "checksum");
}

/// A peer that goes amid a frame leaves nothing behind.
#[test]
fn truncated_frames_end_quietly() {
    let (server, stub) = Stub::server(|_| {});
    let bytes = request_bytes(5, &small(1), &[], 0);
    for cut in [1, 4, 31, 32, bytes.len() - 1] {
        let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
        raw.send_bytes(&bytes[..cut]);
        raw.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(raw.receive().is_none());
    }
    assert_eq!(stub.started(), 0);
}

/// An unknown operation, a body that does not parse, a payload where none belongs and a second
/// hello are errors of their request; the connection lives on.
#[test]
fn faulty_requests_get_error_frames() {
    let (server, stub) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let faulty = |id: u64, operation: u16, body: &[u8], payload: &[u8]| {
        let mut out = Vec::new();
        let payload_len = payload.len() as u32;
        encode_frame_head(FrameKind::Request, 0, operation, id, 0, body, payload_len, &mut out);
        out.extend_from_slice(payload);
        out
    };
    let query = Operation::Query.number();
    let lying_list = [&3_u64.to_le_bytes()[..], b"abc", &u64::MAX.to_le_bytes()].concat();
    let cases = [
        (faulty(100, 999, b"body", b"payload"), "operation 999"),
        (faulty(101, Operation::Read.number(), b"abc", b""), "ends too early"),
        (faulty(102, query, &u64::MAX.to_le_bytes(), b""), "ends too early"),
        (faulty(103, query, &lying_list, b""), "more than 65536"),
        (faulty(104, Operation::Verify.number(), &[0; 8], b"x"), "no payload"),
    ];
    for (number, (bytes, words)) in cases.iter().enumerate() {
        raw.send_bytes(bytes);
        assert_error(raw.answer(100 + number as u64), ErrorCode::Protocol, words);
    }
    assert_error(raw.call(&hello(1, TOKEN)), ErrorCode::Protocol, "once");
    assert_eq!(stub.started(), 0);
    raw.call(&small(1)).unwrap();
}

/// A request id that is still under way, the id 0, a response and an endless ping end the
/// connection: its frames could not be told apart any more.
#[test]
fn ambiguous_frames_end_the_connection() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let id = raw.send(&read(stream::SILENT, 0, 1), &[]);
    raw.send_bytes(&request_bytes(id, &small(1), &[], 0));
    assert_error(raw.answer(id), ErrorCode::Closed, "closes");
    assert_error(Err::<(), _>(raw.last_error()), ErrorCode::Protocol, "still under way");

    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    raw.send_bytes(&request_bytes(0, &small(1), &[], 0));
    assert_error(Err::<(), _>(raw.last_error()), ErrorCode::Protocol, "start at 1");

    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    raw.send_frame(FrameKind::Response, 3, &[]);
    assert_error(Err::<(), _>(raw.last_error()), ErrorCode::Protocol, "response");

    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    raw.send_frame(FrameKind::Ping, 3, &[0; 5_000]);
    assert_error(Err::<(), _>(raw.last_error()), ErrorCode::LimitExceeded, "ping");
}

/// An id may be used again once its answer has ended.
#[test]
fn ids_may_be_used_again() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    for _ in 0..3 {
        raw.send_bytes(&request_bytes(500, &small(1), &[], 0));
        raw.answer(500).unwrap();
    }
}

/// Whatever comes first must be a hello; nothing else is even looked at.
#[test]
fn hello_comes_first() {
    let (server, stub) = Stub::server(|_| {});
    let mut raw = Raw::connect(server.local_addr());
    raw.send(&small(1), &[]);
    assert_error(Err::<(), _>(raw.last_error()), ErrorCode::Protocol, "hello");
    let mut raw = Raw::connect(server.local_addr());
    raw.send_frame(FrameKind::Ping, 1, &[]);
    assert_error(Err::<(), _>(raw.last_error()), ErrorCode::Protocol, "hello");
    assert_eq!(stub.started(), 0);
}

/// A client that pipelines behind its hello is served.
#[test]
fn requests_may_follow_the_hello_at_once() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::connect(server.local_addr());
    let mut bytes = request_bytes(1, &hello(1, TOKEN), &[], 0);
    bytes.extend(request_bytes(2, &small(1), &[], 0));
    raw.send_bytes(&bytes);
    raw.answer(1).unwrap();
    raw.answer(2).unwrap();
}

/// A peer that sends its hello byte by byte, or nothing, is cut off when its time is up.
#[test]
fn slow_handshakes_are_cut_off() {
    let (server, _) = Stub::server(|config| config.limits.handshake_timeout_ms = 200);
    let start = Instant::now();
    let mut silent = Raw::connect(server.local_addr());
    let mut slow = Raw::connect(server.local_addr());
    let bytes = request_bytes(1, &hello(1, TOKEN), &[], 0);
    for byte in &bytes {
        if slow.stream.write_all(&[*byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(silent.receive().is_none() && slow.receive().is_none());
    assert!(start.elapsed() >= Duration::from_millis(200));
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// A version below what the server speaks is named with the server's.
#[test]
fn versions_are_negotiated() {
    let (server, _) = Stub::server(|_| {});
    let with_version = |protocol_version| {
        let mut raw = Raw::connect(server.local_addr());
        let Request::Hello(request) = hello(1, TOKEN) else { unreachable!() };
        raw.call(&Request::Hello(HelloRequest { protocol_version, ..request }))
    };
    assert_error(with_version(0), ErrorCode::VersionMismatch, "up to 0");
    assert_error(with_version(0), ErrorCode::VersionMismatch, "from 1 to 1");
    with_version(9).unwrap();
}

/// HTTP is answered in its own words, and the connection is closed.
#[test]
fn http_gets_an_http_answer() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::connect(server.local_addr());
    raw.send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\r\n");
    let mut text = String::new();
    raw.stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 501 ") && text.contains("Kimberlite"), "{text}");
}

/// A TLS client gets an alert where there is no TLS.
#[test]
fn tls_without_tls_gets_an_alert() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::connect(server.local_addr());
    raw.send_bytes(&[0x16, 0x03, 0x01, 0x00, 0x05, 0, 0, 0, 0, 0]);
    let mut bytes = Vec::new();
    raw.stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a]);
}

/// A connection on which nothing moves is closed; pings keep it, and so does a request that the
/// server has not answered.
#[test]
fn idle_connections_are_closed() {
    let (server, _) = Stub::server(|config| config.limits.idle_timeout_ms = 1_000);
    let mut idle = Raw::open(server.local_addr(), 1, TOKEN);
    let mut pinging = Raw::open(server.local_addr(), 1, TOKEN);
    let mut waiting = Raw::open(server.local_addr(), 1, TOKEN);
    waiting.send(&read(stream::SILENT, 0, 1), &[]);
    let mut subscribed = Raw::open(server.local_addr(), 1, TOKEN);
    let id = subscribed.send(&super::subscribe(0), &[]);
    assert_eq!(subscribed.receive_for(id).payload.len(), 1_000);
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(200));
        pinging.send_frame(FrameKind::Ping, 1, &[]);
        pinging.receive().unwrap();
    }
    assert!(idle.receive().is_none() && subscribed.receive().is_none());
    waiting.send(&small(1), &[]);
    assert!(waiting.receive().is_some());
}

/// A peer that sends requests and never reads is not read from for ever: what it can make the
/// server hold is bounded. Once it reads, everything comes.
#[test]
fn a_peer_that_never_reads_is_held_back() {
    let (server, stub) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    // Each answer is about 330 KB: all of them would be 200 MB.
    let (count, elements) = (600, 4_096);
    let mut writer = raw.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for id in 0..count {
            let bytes = request_bytes(10 + id, &super::long_list(elements), &[], 0);
            writer.write_all(&bytes).unwrap();
        }
    });
    let mut last = usize::MAX;
    eventually("the server holds back", || {
        std::thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut last, stub.started()) == stub.started()
    });
    // The system's socket buffers hold some megabytes, the outbox one and an answer.
    assert!(stub.started() < 60, "{} answers were made", stub.started());
    for id in 0..count {
        raw.answer(10 + id).unwrap();
    }
    sending.join().unwrap();
    assert!(limit::LIST_STREAMS >= u64::from(elements));
}
