//! The memory of a server does not grow with its log.
#![cfg(target_os = "linux")]

mod common;
mod process;

use common::{ANY, Raw, append};
use kimberlite_wire::{EventBatch, Request};
use process::{Process, TOKEN};

const MIB: u64 = 1 << 20;
/// The smallest segments that a server may have, so that few bytes make many.
const SMALL_SEGMENTS: &str = "[storage]\nsegment_bytes = 33554432\n";
/// Small enough to share blocks, so that the index has much to hold.
const EVENT_BYTES: usize = 2000;
/// How many appends are under way.
const WINDOW: usize = 64;

/// Appends so many bytes of events, each by a call of its own.
fn grow(raw: &mut Raw<std::net::TcpStream>, stream_id: u64, bytes: u64) {
    let batch = EventBatch::from_events([[7; EVENT_BYTES]]).unwrap();
    let (request, payload): (Request, _) = append(stream_id, ANY, &batch);
    let mut left = bytes / EVENT_BYTES as u64;
    while left > 0 {
        let count = left.min(WINDOW as u64);
        let ids: Vec<u64> = (0..count).map(|_| raw.send(&request, &payload)).collect();
        for id in ids {
            raw.appended(id).unwrap();
        }
        left -= count;
    }
}

/// A server stays below 64 MiB, caches included, and a log of nine times the size takes hardly more
/// of it, all of it read once.
#[test]
fn memory_does_not_grow_with_the_log() {
    let server = Process::start_on_disk(SMALL_SEGMENTS);
    let mut raw = Raw::open(server.address, 1, TOKEN);
    let stream_id = raw.create_stream("events");
    grow(&mut raw, stream_id, 32 * MIB);
    let small = server.anonymous_bytes();
    for _ in 0..8 {
        grow(&mut raw, stream_id, 32 * MIB);
        assert!(server.anonymous_bytes() < 64 * MIB, "{}", server.anonymous_bytes());
    }
    let grown = server.anonymous_bytes();
    let events = 9 * (32 * MIB / EVENT_BYTES as u64);
    let mut next = 0;
    while next < events {
        let (_, blocks) = raw.call(&common::read(stream_id, next, 4_096)).unwrap();
        let page = common::events_of(&blocks, next);
        assert!(page.iter().all(|event| event.len() == EVENT_BYTES) && !page.is_empty());
        next += page.len() as u64;
    }
    let read = server.anonymous_bytes();
    let figures = format!("small {small}, grown {grown}, read {read}");
    assert!(read < 64 * MIB && grown < small + 8 * MIB && read < small + 16 * MIB, "{figures}");
}
