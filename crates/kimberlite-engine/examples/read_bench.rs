//! Prints the processor time that reading takes, in blocks of one event each: where the log's index
//! tells of the blocks, and where they are still told of in memory.
//!
//! `cargo run --profile fast -p kimberlite-engine --example read_bench`
#![allow(clippy::unwrap_used, missing_docs)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use kimberlite_engine::{Answer, Engine, EngineOptions, Session, Storage};
use kimberlite_wire::{
    AppendRequest, CreateStreamRequest, EventBatch, ReadRequest, Request, Response, Role,
};

const EVENTS: u64 = 1_500_000;
const PAGE: u64 = 10_000;
const ROUNDS: usize = 7;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::yield_now(),
        }
    }
}

/// The processor time of this thread, in nanoseconds.
fn processor_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

struct Bench {
    engine: Engine,
    session: Arc<Session>,
    stream_id: u64,
}

impl Bench {
    fn call(&self, request: Request, payload: Bytes) -> Answer {
        block_on(self.engine.handle(&self.session, request, payload, None)).unwrap()
    }

    /// Nanoseconds an event, the best of some rounds.
    fn read(&self, from: u64, end: u64) -> f64 {
        let mut best = f64::MAX;
        for _ in 0..ROUNDS {
            let started = processor_ns();
            for from_offset in (from..end).step_by(PAGE as usize) {
                let (stream_id, max_events) = (self.stream_id, PAGE);
                let request =
                    ReadRequest { stream_id, from_offset, max_events, ..Default::default() };
                let answer = self.call(Request::Read(request), Bytes::new());
                let mut payload = answer.payload.unwrap();
                while let Some(chunk) = block_on(poll_fn(|cx| payload.poll_chunk(cx, 256 << 10))) {
                    drop(chunk.unwrap());
                }
            }
            best = best.min((processor_ns() - started) as f64 / (end - from) as f64);
        }
        best
    }
}

fn main() {
    let storage = match std::env::args().nth(1) {
        Some(folder) => Storage::Folder(folder.into()),
        None => Storage::Memory,
    };
    let engine = Engine::open(EngineOptions { storage, ..Default::default() }).unwrap();
    engine.ensure_tenant(1).unwrap();
    let session = engine.session("bench", 1, Role::Admin, true);
    let mut bench = Bench { engine, session, stream_id: 0 };
    let request = CreateStreamRequest { name: "events".to_string(), data_class: 1 };
    let Response::CreateStream(made) =
        bench.call(Request::CreateStream(request), Bytes::new()).body
    else {
        panic!("a stream")
    };
    bench.stream_id = made.stream_id;
    let one = EventBatch::from_events([[7u8; 100]]).unwrap();
    for _ in 0..EVENTS {
        let request = AppendRequest {
            stream_id: bench.stream_id,
            expected_offset: u64::MAX,
            count: one.count(),
            payload_crc: one.crc(),
            ..Default::default()
        };
        bench.call(Request::Append(request), one.payload().clone());
    }
    println!("by the index   {:6.1} ns an event", bench.read(0, EVENTS / 2));
    println!("by the memory  {:6.1} ns an event", bench.read(EVENTS - PAGE, EVENTS));
}
