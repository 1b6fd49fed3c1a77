//! Builds a log of some gigabytes and measures what depends on its size: the start up to the first
//! answer, memory, and reads of what no cache holds.
//!
//! `cargo run --profile fast -p kimberlite-engine --example start_bench -- FOLDER GIGABYTES`
//!
//! The folder is kept, so that a second run only measures; give another size to build more. Each
//! measurement runs in a process of its own, after the folder's pages were dropped from the cache.
#![allow(clippy::unwrap_used, missing_docs)]

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kimberlite_engine::{Answer, Engine, EngineOptions, Session};
use kimberlite_wire::{
    AppendRequest, CreateStreamRequest, EventBatch, QueryRequest, ReadRequest, Request, Response,
    Role, StreamInfo, StreamInfoRequest,
};

/// Large blocks; blocks of a few events, as callers one by one make them; now and then an event.
const STREAMS: [(&str, u32, usize); 3] = [("bulk", 1000, 100), ("some", 10, 100), ("rare", 1, 20)];

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
    fn open(folder: &str) -> Bench {
        let engine = Engine::open(EngineOptions::folder(folder)).unwrap();
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

    fn info(&self, name: &str) -> StreamInfo {
        let request = StreamInfoRequest { stream_id: 0, name: name.to_string() };
        match self.call(Request::StreamInfo(request)).body {
            Response::StreamInfo(found) => found.stream,
            other => panic!("{other:?}"),
        }
    }

    /// Appends to all streams until the folder has so many bytes.
    fn build(&self, folder: &str, bytes: u64) {
        self.engine.ensure_tenant(1).unwrap();
        let streams = STREAMS.map(|(name, count, len)| {
            let batch = EventBatch::from_events(vec![vec![7u8; len]; count as usize]).unwrap();
            (self.stream(name), batch)
        });
        let mut round = 0u64;
        while segment_bytes(folder) < bytes {
            let mut pending = Vec::new();
            for _ in 0..100 {
                round += 1;
                let rare = usize::from(!round.is_multiple_of(5_000));
                // Each request of ten events is a block of its own: it waits for those before.
                for (stream_id, batch) in &streams[..streams.len() - rare] {
                    let request = AppendRequest {
                        stream_id: *stream_id,
                        expected_offset: u64::MAX,
                        count: batch.count(),
                        payload_crc: batch.crc(),
                        ..Default::default()
                    };
                    let payload = batch.payload().clone();
                    let request = Request::Append(request);
                    pending.push(self.engine.handle(&self.session, request, payload, None));
                }
            }
            pending.into_iter().for_each(|done| drop(block_on(done).unwrap()));
        }
    }

    /// The bytes of a read's answer.
    fn read(&self, stream_id: u64, from_offset: u64, max_events: u64) -> usize {
        let request = ReadRequest { stream_id, from_offset, max_events, ..Default::default() };
        self.drain(Request::Read(request))
    }

    fn query(&self, sql: &str) -> usize {
        let request = QueryRequest { sql: sql.to_string(), ..Default::default() };
        self.drain(Request::Query(request))
    }

    fn drain(&self, request: Request) -> usize {
        let mut payload = self.call(request).payload.unwrap();
        let mut bytes = 0;
        while let Some(chunk) = block_on(poll_fn(|cx| payload.poll_chunk(cx, 256 << 10))) {
            bytes += chunk.unwrap().len();
        }
        bytes
    }
}

fn segment_bytes(folder: &str) -> u64 {
    files(folder, "segment-").iter().map(|(_, len)| len).sum()
}

fn files(folder: &str, prefix: &str) -> Vec<(std::path::PathBuf, u64)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix));
    named.map(|e| (e.path(), e.metadata().map_or(0, |found| found.len()))).collect()
}

/// Drops the folder's pages from the system's cache.
#[cfg(target_os = "linux")]
fn drop_caches(folder: &str) {
    for (path, _) in files(folder, "") {
        if let Ok(file) = std::fs::File::open(path) {
            let _ = file.sync_all();
            let advice = rustix::fs::Advice::DontNeed;
            let _ = rustix::fs::fadvise(&file, 0, None, advice);
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn drop_caches(_folder: &str) {}

fn rss_mb() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / 1e6
}

fn tell(what: &str, took: Duration) {
    println!("{what:<44} {:>10.1} ms   {:>6.1} MB resident", took.as_secs_f64() * 1e3, rss_mb());
}

fn timed(what: &str, work: impl FnOnce() -> usize) {
    let started = Instant::now();
    std::hint::black_box(work());
    tell(what, started.elapsed());
}

/// In a process of its own: opens, answers, reads.
fn measure(folder: &str, how: &str) {
    let before = rss_mb();
    let started = Instant::now();
    let bench = Bench::open(folder);
    let opened = started.elapsed();
    let rare = bench.info("rare");
    let first = bench.read(rare.stream_id, rare.next_offset - 1, 1);
    assert!(first > 0);
    println!("--- {how}; {before:.1} MB resident before, opened in {opened:.1?}");
    tell("start to the first answer (a read)", started.elapsed());
    if how.ends_with("crash") {
        std::process::exit(0);
    }
    for (name, ..) in STREAMS {
        let info = bench.info(name);
        let middle = info.next_offset / 2;
        timed(&format!("{name}: one event in the middle"), || {
            bench.read(info.stream_id, middle, 1)
        });
        timed(&format!("{name}: 1,000 events at a third"), || {
            bench.read(info.stream_id, info.next_offset / 3, 1000)
        });
        timed(&format!("{name}: COUNT(*)"), || {
            bench.query(&format!("SELECT COUNT(*) FROM {name}"))
        });
        let seconds = (info.created_ns / 2 + info.last_timestamp_ns / 2) / 1_000_000_000;
        let since = format!("SELECT COUNT(*) FROM {name} WHERE timestamp > {seconds}");
        timed(&format!("{name}: COUNT(*) of half the time"), || bench.query(&since));
    }
    let rare = bench.info("rare");
    timed("rare: every event, from the first segment on", || {
        bench.read(rare.stream_id, 0, u64::MAX)
    });
    let some = bench.info("some");
    let started = Instant::now();
    let (mut at, mut bytes) = (0, 0);
    while at < some.next_offset && bytes < 2 << 30 {
        bytes += bench.read(some.stream_id, at, 50_000);
        at += 50_000;
    }
    let seconds = started.elapsed().as_secs_f64();
    tell("some: everything or 2 GB, in order", started.elapsed());
    println!("{:>44} {:>10.0} MB/s", "", bytes as f64 / 1e6 / seconds);
    timed("close", || {
        bench.engine.close();
        1
    });
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, what, ..] = arguments.as_slice() else {
        panic!("give a folder and a number of gigabytes");
    };
    if let Some(how) = what.strip_prefix("measure ") {
        measure(folder, how);
        return;
    }
    let gigabytes: f64 = what.parse().unwrap();
    let started = Instant::now();
    let bench = Bench::open(folder);
    bench.build(folder, (gigabytes * 1e9) as u64);
    println!("built to {gigabytes} GB in {:.1?}, {:.1} MB resident", started.elapsed(), rss_mb());
    let started = Instant::now();
    bench.engine.close();
    println!("closed in {:.1?}, {} MB resident", started.elapsed(), rss_mb());
    drop(bench);
    let of = |prefix: &str| {
        let found = files(folder, prefix);
        let bytes: u64 = found.iter().map(|(_, len)| len).sum();
        format!("{} files of {:.1} MB", found.len(), bytes as f64 / 1e6)
    };
    println!("segments {}, footers {}, states {}", of("segment-"), of("footer-"), of("state-"));
    let program = std::env::current_exe().unwrap();
    let clean = ["after a clean close", "warm, after a clean close, then a crash", "after a crash"];
    for how in clean {
        if !how.starts_with("warm") {
            drop_caches(folder);
        }
        let run = Command::new(&program).arg(folder).arg(format!("measure {how}")).status();
        assert!(run.unwrap().success());
    }
    assert!(Path::new(folder).exists());
}
