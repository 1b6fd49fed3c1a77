//! Bounds on connections, requests and bytes.

use std::io::Write;
use std::time::Duration;

use kimberlite_wire::frame::{encode_frame_head, flag};
use kimberlite_wire::{AppendRequest, ErrorCode, FrameKind, Request};

use super::common::{Raw, assert_error, hello, read, request_bytes};
use super::{Stub, TOKEN, eventually, small, stream};

/// A connection too many is told so, and one that closes makes room.
#[test]
fn connections_are_bounded() {
    let (server, _) = Stub::server(|config| config.limits.max_connections = 2);
    let first = Raw::open(server.local_addr(), 1, TOKEN);
    let mut second = Raw::open(server.local_addr(), 1, TOKEN);
    let mut third = Raw::connect(server.local_addr());
    third.send(&hello(1, TOKEN), &[]);
    let error = third.last_error();
    assert_eq!(error.code, ErrorCode::Overloaded);
    assert!(error.detail.contains("2 connections") && error.retry_after_ms > 0, "{error:?}");
    second.call(&small(1)).unwrap();
    drop(first);
    eventually("there is room again", || {
        let mut raw = Raw::connect(server.local_addr());
        raw.send(&hello(1, TOKEN), &[]);
        raw.receive().is_some_and(|frame| !frame.header.has(flag::ERROR))
    });
}

/// A request too many on one connection gets OVERLOADED; it can be sent again once there is room.
#[test]
fn requests_under_way_are_bounded() {
    let (server, _) = Stub::server(|config| config.limits.inflight_requests = 3);
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let ids = [(); 3].map(|()| raw.send(&read(stream::SILENT, 0, 1), &[]));
    assert_error(raw.call(&small(1)), ErrorCode::Overloaded, "3 requests");
    raw.send_frame(FrameKind::Cancel, ids[1], &[]);
    assert_error(raw.answer(ids[1]), ErrorCode::Cancelled, "");
    raw.call(&small(1)).unwrap();
}

/// A frame of a read that never answers, made long by what its body holds beyond its fields.
fn long_silent(id: u64, bytes: usize) -> Vec<u8> {
    let mut body = Vec::new();
    read(stream::SILENT, 0, 1).encode(&mut body);
    body.resize(bytes, 0);
    let mut out = Vec::new();
    let operation = read(stream::SILENT, 0, 1).operation().number();
    let kind = FrameKind::Request;
    encode_frame_head(kind, 0, operation, id, 0, &body, 0, &mut out);
    out
}

/// A connection with too many bytes under way is not read further until some are answered.
#[test]
fn bytes_of_a_connection_are_bounded() {
    let frame = 8 << 20;
    let (server, stub) = Stub::server(|config| {
        config.limits.connection_queue_bytes = 17_825_792;
        config.limits.total_queue_bytes = 1 << 30;
        config.limits.tenant_queue_bytes = 1 << 30;
    });
    let raw = Raw::open(server.local_addr(), 1, TOKEN);
    let mut writer = raw.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for id in 100..106 {
            writer.write_all(&long_silent(id, frame)).unwrap();
        }
    });
    // The third frame passes the bound; nothing is read behind it.
    eventually("three are taken", || stub.started() == 3);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(stub.started(), 3);
    // A cancel would not be read either; the client's end is to cut the connection.
    raw.stream.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(sending.join().is_err());
}

/// All connections together hold a bounded number of bytes: large frames wait for room, small
/// requests get OVERLOADED only where the last quarter is used up too.
#[test]
fn bytes_of_all_connections_are_bounded() {
    let (server, stub) = Stub::server(|config| config.limits.total_queue_bytes = 35_651_584);
    let frame = 12 << 20;
    let mut one = Raw::open(server.local_addr(), 1, TOKEN);
    let mut two = Raw::open(server.local_addr(), 1, TOKEN);
    one.send_bytes(&long_silent(100, frame));
    one.send_bytes(&long_silent(101, frame));
    eventually("both are taken", || stub.started() == 2);
    let mut writer = two.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || writer.write_all(&long_silent(200, frame)).unwrap());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(stub.started(), 2, "a large frame was taken beyond the bound");
    // A small request on another connection finds room in what is kept from large frames.
    let mut three = Raw::open(server.local_addr(), 1, TOKEN);
    three.call(&small(1)).unwrap();
    one.send_frame(FrameKind::Cancel, 100, &[]);
    assert_error(one.answer(100), ErrorCode::Cancelled, "");
    eventually("the waiting frame is taken", || stub.started() == 4);
    sending.join().unwrap();
    two.call(&small(1)).unwrap();
}

/// Requests that are small enough to be taken without waiting are refused once everything is used.
#[test]
fn small_requests_are_refused_when_all_is_used() {
    let (server, stub) = Stub::server(|config| {
        config.limits.total_queue_bytes = 35_651_584;
        config.limits.connection_queue_bytes = 64 << 20;
    });
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let size = 100_000;
    // Each counts a KiB beside its own bytes.
    let fitting = 35_651_584 / (size as u64 + 1_024);
    for id in 0..fitting {
        raw.send_bytes(&long_silent(1_000 + id, size));
    }
    raw.send_bytes(&long_silent(9_000, size));
    assert_error(raw.answer(9_000), ErrorCode::Overloaded, "35651584 bytes");
    assert_eq!(stub.started() as u64, fitting);
}

/// An append that brings 16 MiB and its ends is taken.
#[test]
fn the_largest_append_is_taken() {
    let (server, stub) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let payload = vec![7; (16 << 20) + 4 * 65_536];
    let request = Request::Append(AppendRequest::default());
    raw.send_bytes(&request_bytes(50, &request, &payload, 0));
    raw.appended(50).unwrap();
    assert_eq!(*stub.appended.lock().unwrap(), [payload.len()]);
}

/// What one tenant has under way leaves room to others, and a request for which there is no room is
/// refused by the bound's name once it has waited a little; its connection lives on.
#[test]
fn bytes_of_a_tenant_are_bounded() {
    let (server, stub) = Stub::server(|config| {
        config.limits.tenant_queue_bytes = 18_874_368;
        config.limits.total_queue_bytes = 1 << 30;
        config.tenants = vec![1, 2];
    });
    let mut one = Raw::open(server.local_addr(), 1, TOKEN);
    one.send_bytes(&long_silent(100, 12 << 20));
    eventually("it is taken", || stub.started() == 1);
    let mut same = Raw::open(server.local_addr(), 1, TOKEN);
    same.send_bytes(&long_silent(200, 12 << 20));
    assert_error(same.answer(200), ErrorCode::Overloaded, "limits.tenant_queue_bytes");
    same.call(&small(1)).unwrap();
    let mut other = Raw::open(server.local_addr(), 2, TOKEN);
    other.send_bytes(&long_silent(300, 12 << 20));
    eventually("the other tenant's is taken", || stub.started() == 3);
    one.send_frame(FrameKind::Cancel, 100, &[]);
    assert_error(one.answer(100), ErrorCode::Cancelled, "");
    same.send_bytes(&long_silent(201, 12 << 20));
    eventually("there is room again", || stub.started() == 4);
}

/// Requests of all connections are counted together.
#[test]
fn requests_of_all_connections_are_bounded() {
    let (server, _) = Stub::server(|config| config.limits.total_inflight_requests = 3);
    let mut one = Raw::open(server.local_addr(), 1, TOKEN);
    let mut two = Raw::open(server.local_addr(), 1, TOKEN);
    let ids = [(); 3].map(|()| one.send(&read(stream::SILENT, 0, 1), &[]));
    eventually("they count", || {
        let refused = two.call(&small(1));
        refused.is_err_and(|e| e.detail.contains("limits.total_inflight_requests"))
    });
    one.send_frame(FrameKind::Cancel, ids[0], &[]);
    assert_error(one.answer(ids[0]), ErrorCode::Cancelled, "");
    two.call(&small(1)).unwrap();
}

/// Many more connections than there may be are each told so.
#[test]
fn a_crowd_is_told_that_the_server_is_full() {
    let (server, _) = Stub::server(|config| config.limits.max_connections = 2);
    let mut inside = [(); 2].map(|()| Raw::open(server.local_addr(), 1, TOKEN));
    let mut crowd: Vec<_> = (0..300).map(|_| Raw::connect(server.local_addr())).collect();
    for raw in &mut crowd {
        raw.send(&hello(1, TOKEN), &[]);
    }
    for raw in &mut crowd {
        let error = raw.last_error();
        assert_eq!(error.code, ErrorCode::Overloaded, "{error}");
        assert!(error.detail.contains("limits.max_connections"), "{error}");
    }
    inside.iter_mut().for_each(|raw| assert!(raw.call(&small(1)).is_ok()));
}
