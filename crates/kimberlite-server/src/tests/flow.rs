//! Pipelining, credits, fairness, cancelling and deadlines.

use std::time::{Duration, Instant};

use kimberlite_wire::frame::flag;
use kimberlite_wire::{ErrorCode, EventBatch, FrameKind, Response, limit};

use super::common::{ANY, Raw, append, assert_error, error_of, read, request_bytes};
use super::{Stub, TOKEN, eventually, pattern, small, stream, subscribe};

const QUIET: Duration = Duration::from_millis(150);
const CHUNK: usize = limit::RESPONSE_PAYLOAD_BYTES as usize;
const INITIAL: usize = limit::INITIAL_CREDIT_BYTES as usize;

/// A thousand requests sent before any answer is read are all answered, each under its id.
#[test]
fn requests_are_pipelined() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let ids: Vec<u64> = (0..1_000).map(|number| raw.send(&small(number), &[])).collect();
    for (number, id) in ids.into_iter().enumerate().rev() {
        match raw.answer(id).unwrap().0 {
            Response::Verify(verified) => assert_eq!(verified.count, number as u64),
            other => panic!("{other:?}"),
        }
    }
}

/// Appends reach the engine in the order in which they were sent, however the bytes are cut.
#[test]
fn appends_stay_in_order() {
    let (server, stub) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let mut bytes = Vec::new();
    for number in 1..=300 {
        let batch = EventBatch::from_events([vec![7; number * 13]]).unwrap();
        let (request, payload) = append(1, ANY, &batch);
        bytes.extend(request_bytes(1_000 + number as u64, &request, &payload, 0));
    }
    for part in bytes.chunks(4_093) {
        raw.send_bytes(part);
    }
    for number in 1..=300 {
        raw.appended(1_000 + number).unwrap();
    }
    let wanted: Vec<usize> = (1..=300).map(|number| 4 + number * 13).collect();
    assert_eq!(*stub.appended.lock().unwrap(), wanted);
}

/// An answer sends what its credit allows and not a byte more; another request is served
/// meanwhile; credit lets it go on to the byte.
#[test]
fn credit_paces_an_answer() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let total = 3 * INITIAL + 12_345;
    let id = raw.send(&read(stream::BYTES, 0, total as u64), &[]);
    let mut got = Vec::new();
    while got.len() < INITIAL {
        let frame = raw.receive_for(id);
        assert!(frame.header.has(flag::MORE) && frame.payload.len() <= CHUNK);
        got.extend_from_slice(&frame.payload);
    }
    assert_eq!(got.len(), INITIAL);
    assert!(raw.is_quiet(QUIET), "it sent beyond its credit");
    raw.call(&small(1)).unwrap();
    raw.credit(id, 1_000);
    let frame = raw.receive_for(id);
    assert_eq!(frame.payload.len(), 1_000);
    got.extend_from_slice(&frame.payload);
    assert!(raw.is_quiet(QUIET));
    raw.credit(id, u64::MAX);
    let (_, rest) = rest_of(&mut raw, id);
    got.extend_from_slice(&rest);
    assert!(got == pattern(0, total), "the bytes differ");
}

/// Receives until the end without granting anything.
fn rest_of(raw: &mut Raw<std::net::TcpStream>, id: u64) -> (usize, Vec<u8>) {
    let (mut frames, mut bytes) = (0, Vec::new());
    loop {
        let frame = raw.receive_for(id);
        assert!(!frame.header.has(flag::ERROR), "{:?}", error_of(&frame));
        frames += 1;
        bytes.extend_from_slice(&frame.payload);
        if frame.header.has(flag::END) {
            return (frames, bytes);
        }
    }
}

/// An answer that uses up its credit to the byte says that it has ended without further credit,
/// and a small one is a single frame.
#[test]
fn the_last_frame_says_so() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    for (bytes, frames) in [(0, 1), (1, 1), (CHUNK, 1), (CHUNK + 1, 2), (INITIAL, 4)] {
        let id = raw.send(&read(stream::BYTES, 0, bytes as u64), &[]);
        let (count, got) = rest_of(&mut raw, id);
        assert_eq!((count, got.len()), (frames, bytes));
    }
}

/// Big answers of one connection take turns, and a small one does not wait for them.
#[test]
fn big_answers_do_not_block_small_ones() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let total = 64 << 20;
    let big: Vec<u64> = (0..2).map(|_| raw.send(&read(stream::BYTES, 0, total), &[])).collect();
    for id in &big {
        raw.credit(*id, total);
    }
    let mut counts = [0_u64; 2];
    let mut small_id = None;
    let mut small_after = None;
    while counts.iter().sum::<u64>() < 2 * total {
        let frame = raw.receive().unwrap();
        let id = frame.header.request_id;
        if let Some(place) = big.iter().position(|big| *big == id) {
            counts[place] += frame.payload.len() as u64;
            let gap = counts[0].abs_diff(counts[1]);
            // The first got its initial credit's worth before the second was asked for.
            let bound = (INITIAL + 3 * CHUNK) as u64;
            assert!(gap <= bound || counts[place] == total, "no turns: {counts:?}");
        } else if Some(id) == small_id {
            small_after = Some(counts.iter().sum::<u64>());
        }
        if small_id.is_none() && counts[0] >= total / 4 {
            small_id = Some(raw.send(&small(1), &[]));
        }
    }
    let after = small_after.expect("the small answer came last");
    assert!(after < 2 * total * 9 / 10, "the small answer waited for {after} bytes");
}

/// A client that grants nothing to a hundred answers stalls only itself: another connection and
/// small requests on the same one go on.
#[test]
fn stalled_answers_stall_nothing_else() {
    let (server, stub) = Stub::server(|_| {});
    let mut stalled = Raw::open(server.local_addr(), 1, TOKEN);
    for _ in 0..100 {
        stalled.send(&read(stream::BYTES, 0, 1 << 40), &[]);
    }
    eventually("all are started", || stub.started() == 100);
    let mut other = Raw::open(server.local_addr(), 1, TOKEN);
    other.call(&small(1)).unwrap();
    other.call(&read(stream::BYTES, 0, 5_000_000)).unwrap();
    // What the credit allows has to be read first: it was sent before.
    stalled.call(&small(1)).unwrap();
}

/// Cancelling drops the work, answers CANCELLED once, and says nothing about what has ended.
#[test]
fn cancel_stops_the_work() {
    let (server, stub) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let silent = raw.send(&read(stream::SILENT, 0, 1), &[]);
    let endless = raw.send(&read(stream::ENDLESS, 0, 1), &[]);
    assert_eq!(raw.receive_for(endless).payload, pattern(0, 1_000));
    assert_eq!(stub.dropped(), 0);
    for id in [silent, endless] {
        raw.send_frame(FrameKind::Cancel, id, &[]);
        assert_error(raw.answer(id), ErrorCode::Cancelled, "client");
        // Late and repeated cancels, and credit for what is gone, mean nothing.
        raw.send_frame(FrameKind::Cancel, id, &[]);
        raw.credit(id, 5);
    }
    assert_eq!(stub.dropped(), 2);
    raw.call(&small(1)).unwrap();
    assert!(raw.is_quiet(QUIET));
}

/// What a client had under way is dropped when it goes.
#[test]
fn a_lost_client_stops_its_work() {
    let (server, stub) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    raw.send(&read(stream::SILENT, 0, 1), &[]);
    raw.send(&subscribe(0), &[]);
    eventually("both are started", || stub.started() == 2);
    drop(raw);
    eventually("both are dropped", || stub.dropped() == 2);
}

/// A request's time limit is kept, waiting or amid its answer; so is the server's own; a
/// subscription that has begun has none.
#[test]
fn deadlines_are_kept() {
    let (server, stub) = Stub::server(|config| config.limits.max_request_timeout_ms = 300);
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let start = Instant::now();
    let subscribed = raw.send_within(&subscribe(0), &[], 50);
    let silent = raw.send_within(&read(stream::SILENT, 0, 1), &[], 50);
    let endless = raw.send_within(&read(stream::ENDLESS, 0, 1), &[], 100);
    let forever = raw.send_within(&read(stream::SILENT, 0, 1), &[], 3_600_000);
    assert_error(raw.answer(silent), ErrorCode::Timeout, "deadline");
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_error(raw.answer(endless), ErrorCode::Timeout, "deadline");
    assert_error(raw.answer(forever), ErrorCode::Timeout, "deadline");
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(stub.dropped(), 3);
    raw.send_frame(FrameKind::Cancel, subscribed, &[]);
    assert_error(raw.answer(subscribed), ErrorCode::Cancelled, "client");
}

/// A subscription starts with the credit that it names.
#[test]
fn a_subscription_names_its_credit() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let id = raw.send(&subscribe(10), &[]);
    let mut got = 0;
    while got < 10 {
        got += raw.receive_for(id).payload.len();
    }
    assert_eq!(got, 10);
    assert!(raw.is_quiet(QUIET));
    raw.credit(id, 990);
    assert_eq!(raw.receive_for(id).payload.len(), 990);
}

/// A defect in one request becomes INTERNAL for it; the connection and its other requests go on.
/// An answer that fails amid its payload ends with the error.
#[test]
fn failures_stay_with_their_request() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let waiting = raw.send(&read(stream::ENDLESS, 0, 1), &[]);
    for id in [stream::PANIC_AT_ONCE, stream::PANIC_LATER, stream::PANIC_AMID] {
        assert_error(raw.call(&read(id, 0, 1)), ErrorCode::Internal, "defect");
    }
    assert_error(raw.call(&read(stream::FAIL_AMID, 0, 1)), ErrorCode::InvalidArgument, "command");
    raw.call(&small(1)).unwrap();
    assert_eq!(raw.receive_for(waiting).payload.len(), 1_000);
}

/// A ping comes back as it was sent, with the END flag.
#[test]
fn pings_come_back() {
    let (server, _) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    raw.send_frame(FrameKind::Ping, 77, b"anyone there");
    let frame = raw.receive().unwrap();
    assert_eq!((frame.header.kind, frame.header.flags), (FrameKind::Ping, flag::END));
    assert_eq!((frame.header.request_id, &frame.body[..]), (77, &b"anyone there"[..]));
}
