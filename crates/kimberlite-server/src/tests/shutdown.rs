//! What a shutdown does to the connections.

use std::thread;
use std::time::{Duration, Instant};

use kimberlite_wire::{ErrorCode, FrameKind, GoawayBody};

use super::common::{Raw, assert_error, read};
use super::{Stub, TOKEN, eventually, small, stream, subscribe};

/// Clients are told to go, what is under way is finished, what comes later is refused as not
/// done, subscriptions end as retryable, and then everything is closed.
#[test]
fn a_shutdown_finishes_what_is_under_way() {
    let (server, stub) = Stub::server(|_| {});
    let address = server.local_addr();
    let mut idle = Raw::open(address, 1, TOKEN);
    let mut raw = Raw::open(address, 1, TOKEN);
    let held = raw.send(&read(stream::HELD, 0, 1), &[]);
    let subscribed = raw.send(&subscribe(0), &[]);
    eventually("both are started", || stub.started() == 2);
    let stopping = thread::spawn(move || server.shutdown(Duration::from_secs(30)));
    let goaway = idle.receive().unwrap();
    assert_eq!(goaway.header.kind, FrameKind::Goaway);
    assert!(GoawayBody::decode(&goaway.body).unwrap().reason.contains("shutting down"));
    assert!(idle.receive().is_none());
    let error = raw.answer(subscribed).unwrap_err();
    assert_eq!(error.code, ErrorCode::ClusterUnavailable);
    assert!(error.is_retryable());
    assert_error(raw.call(&small(1)), ErrorCode::ClusterUnavailable, "nothing was done");
    stub.release();
    raw.answer(held).unwrap();
    assert_eq!(raw.receive().unwrap().header.kind, FrameKind::Goaway);
    assert!(raw.receive().is_none());
    stopping.join().unwrap().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
}

/// What is not done within the grace period is answered CLOSED.
#[test]
fn the_grace_period_ends() {
    let (server, stub) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let id = raw.send(&read(stream::SILENT, 0, 1), &[]);
    let endless = raw.send(&read(stream::ENDLESS, 0, 1), &[]);
    eventually("both are started", || stub.started() == 2);
    let start = Instant::now();
    let stopping = thread::spawn(move || server.shutdown(Duration::from_millis(200)));
    assert_error(raw.answer(id), ErrorCode::Closed, "shut down");
    assert_error(raw.answer(endless), ErrorCode::Closed, "shut down");
    assert!(start.elapsed() >= Duration::from_millis(200));
    drop(raw);
    stopping.join().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(stub.dropped(), 2);
}

/// A peer that never reads cannot hold a shutdown up.
#[test]
fn a_peer_that_never_reads_does_not_hold_it_up() {
    let (server, stub) = Stub::server(|_| {});
    let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
    let id = raw.send(&read(stream::BYTES, 0, 1 << 40), &[]);
    raw.credit(id, 1 << 40);
    eventually("it is started", || stub.started() == 1);
    let start = Instant::now();
    server.shutdown(Duration::from_millis(100)).unwrap();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

/// Dropping a server stops it, also on a thread of another runtime.
#[test]
fn a_dropped_server_is_gone() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (server, _) = Stub::server(|_| {});
        let mut raw = Raw::open(server.local_addr(), 1, TOKEN);
        raw.call(&small(1)).unwrap();
        let address = server.local_addr();
        drop(server);
        while raw.receive().is_some() {}
        assert!(std::net::TcpStream::connect(address).is_err());
    });
}
