//! Prints how many durable appends a second the engine takes: one at a time, 64 in flight, and in
//! batches of 1,000, in memory and in a folder; and how fast it reads and verifies what is there.
//!
//! `cargo run --profile fast -p kimberlite-engine --example append_bench [-- FOLDER]`
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kimberlite_engine::{Answer, BoxFuture, Engine, EngineOptions, Session, Storage};
use kimberlite_wire::{
    AppendRequest, CreateStreamRequest, Error, EventBatch, ReadRequest, Request, Response, Role,
    VerifyRequest,
};

const RUN: Duration = Duration::from_secs(2);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Unpark>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

struct Bench {
    engine: Engine,
    session: Arc<Session>,
}

impl Bench {
    fn open(storage: Storage) -> Bench {
        let engine = Engine::open(EngineOptions { storage, ..Default::default() }).unwrap();
        engine.ensure_tenant(1).unwrap();
        let session = engine.session("bench", 1, Role::Admin, true);
        Bench { engine, session }
    }

    fn call(&self, request: Request) -> Answer {
        block_on(self.engine.handle(&self.session, request, Bytes::new(), None)).unwrap()
    }

    fn stream(&self, name: &str) -> u64 {
        let request = CreateStreamRequest { name: name.to_string(), data_class: 1 };
        match self.call(Request::CreateStream(request)).body {
            Response::CreateStream(created) => created.stream_id,
            other => panic!("{other:?}"),
        }
    }

    fn append(
        &self,
        stream_id: u64,
        batch: &EventBatch,
    ) -> BoxFuture<'static, Result<Answer, Error>> {
        let request = AppendRequest {
            stream_id,
            expected_offset: u64::MAX,
            count: batch.count(),
            payload_crc: batch.crc(),
            ..Default::default()
        };
        self.engine.handle(&self.session, Request::Append(request), batch.payload().clone(), None)
    }

    fn appends(&self, name: &str, in_flight: usize, batch: &EventBatch) -> u64 {
        let stream = self.stream(name);
        let mut pending = VecDeque::new();
        let mut times = Vec::new();
        let before = self.engine.position();
        let started = Instant::now();
        while started.elapsed() < RUN {
            while pending.len() < in_flight {
                pending.push_back((Instant::now(), self.append(stream, batch)));
            }
            let (began, done) = pending.pop_front().unwrap();
            block_on(done).unwrap();
            times.push(began.elapsed());
        }
        let done = times.len();
        pending.into_iter().for_each(|(_, done)| drop(block_on(done).unwrap()));
        times.sort_unstable();
        let per_second = done as f64 / started.elapsed().as_secs_f64();
        println!(
            "{name:<28} {:>10.0} appends/s {:>12.0} events/s  p50 {:>9.3?} p99 {:>9.3?}  \
             {:>5.1} appends a group",
            per_second,
            per_second * f64::from(batch.count()),
            times[done / 2],
            times[done * 99 / 100],
            done as f64 / (self.engine.position() - before) as f64,
        );
        stream
    }

    fn read(&self, name: &str, stream_id: u64) {
        let started = Instant::now();
        let (mut from_offset, mut bytes) = (0, 0);
        loop {
            let max_events = 100_000;
            let request = ReadRequest { stream_id, from_offset, max_events, ..Default::default() };
            let answer = self.call(Request::Read(request));
            let Response::Read(body) = answer.body else { panic!("a read") };
            let mut payload = answer.payload.unwrap();
            let mut last = Bytes::new();
            while let Some(chunk) = block_on(poll_fn(|cx| payload.poll_chunk(cx, 256 << 10))) {
                last = chunk.unwrap();
                bytes += last.len();
            }
            // Pages overlap by what the last block holds beyond the page; that is counted as read.
            from_offset = (from_offset + max_events).min(body.next_offset);
            if last.is_empty() || from_offset == body.next_offset {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!(
            "{name:<28} {:>10.0} events/s {:>10.0} MB/s",
            from_offset as f64 / seconds,
            bytes as f64 / 1e6 / seconds
        );
    }

    fn verify(&self, name: &str, stream_id: u64) {
        let started = Instant::now();
        let Response::Verify(found) = self.call(Request::Verify(VerifyRequest { stream_id })).body
        else {
            panic!("a verification")
        };
        assert!(found.valid);
        let seconds = started.elapsed().as_secs_f64();
        println!("{name:<28} {:>10.0} events/s", found.count as f64 / seconds);
    }
}

fn rss_mb() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4096 / 1_000_000
}

fn run(storage: Storage) {
    println!("--- {storage:?}, {} MB resident before", rss_mb());
    let bench = Bench::open(storage);
    println!("    {} MB resident after opening", rss_mb());
    let one = EventBatch::from_events([[7u8; 100]]).unwrap();
    let thousand = EventBatch::from_events(vec![[7u8; 100]; 1000]).unwrap();
    let single = bench.appends("one at a time", 1, &one);
    let many = bench.appends("64 in flight", 64, &one);
    bench.appends("1,000 a batch, 1 in flight", 1, &thousand);
    let large = bench.appends("1,000 a batch, 16 in flight", 16, &thousand);
    bench.read("read, one event a block", single);
    bench.read("read, shared blocks", many);
    bench.read("read, large blocks", large);
    bench.verify("verify, large blocks", large);
    println!("    {} MB resident at the end", rss_mb());
    let started = Instant::now();
    bench.engine.close();
    println!("    closed in {:.3?}", started.elapsed());
}

fn main() {
    let folder = std::env::args().nth(1);
    let path = folder.unwrap_or_else(|| "/tmp/kimberlite-append-bench".to_string());
    run(Storage::Memory);
    let _ = std::fs::remove_dir_all(&path);
    run(Storage::Folder(path.clone().into()));
    let started = Instant::now();
    let reopened = Engine::open(EngineOptions::folder(&path)).unwrap();
    println!("reopened in {:.3?}, position {}", started.elapsed(), reopened.position());
    reopened.close();
    let _ = std::fs::remove_dir_all(&path);
}
