//! How fast a server is over loopback, client included. Not run by default: it measures.
//!
//! `cargo test --profile fast -p kimberlite-server --test throughput -- --ignored --nocapture`

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::{ANY, Raw, append, read, request_bytes};
use kimberlite_server::{Server, ServerConfig};
use kimberlite_wire::frame::{FrameDecoder, encode_frame_head, flag};
use kimberlite_wire::{CreditBody, EventBatch, FrameKind};

const TOKEN: &str = "secret";
const MEASURED: Duration = Duration::from_secs(3);

/// A connection that only counts: as little client as possible.
struct Driver {
    stream: TcpStream,
    decoder: FrameDecoder,
    next_id: u64,
}

impl Driver {
    fn open(address: SocketAddr) -> Driver {
        let raw = Raw::open(address, 1, TOKEN);
        Driver { stream: raw.stream, decoder: FrameDecoder::for_client(), next_id: 100 }
    }

    /// Sends `count` appends in one write.
    fn send(&mut self, stream_id: u64, batch: &EventBatch, count: usize) {
        let (request, payload) = append(stream_id, ANY, batch);
        let mut out = Vec::new();
        for _ in 0..count {
            out.extend(request_bytes(self.next_id, &request, &payload, 0));
            self.next_id += 1;
        }
        self.stream.write_all(&out).unwrap();
    }

    /// Waits for answers and tells how many ended.
    fn receive(&mut self) -> usize {
        self.fill();
        let mut ended = 0;
        while let Some(frame) = self.decoder.next().unwrap() {
            assert!(!frame.header.has(flag::ERROR), "{:?}", common::error_of(&frame));
            ended += usize::from(frame.header.has(flag::END));
        }
        ended
    }

    fn fill(&mut self) {
        let buffer = self.decoder.buffer_mut();
        let len = buffer.len();
        buffer.resize(len + (256 << 10), 0);
        let count = self.stream.read(&mut buffer[len..]).unwrap();
        assert!(count > 0, "the server closed");
        buffer.truncate(len + count);
    }

    /// Keeps `window` appends under way for a while; tells how many were answered.
    fn append_for(&mut self, stream_id: u64, batch: &EventBatch, window: usize) -> usize {
        let end = Instant::now() + MEASURED;
        let (mut under_way, mut done) = (0, 0);
        while Instant::now() < end {
            self.send(stream_id, batch, window - under_way);
            under_way = window;
            let ended = self.receive();
            under_way -= ended;
            done += ended;
        }
        while under_way > 0 {
            under_way -= self.receive();
        }
        done
    }
}

/// Runs one driver per connection, each with its own stream; prints events per second.
fn appends(address: SocketAddr, name: &str, connections: usize, window: usize, events: usize) {
    let batch = EventBatch::from_events(vec![[7; 100]; events]).unwrap();
    let start = Instant::now();
    let drivers: Vec<_> = (0..connections)
        .map(|number| {
            let batch = batch.clone();
            let stream = format!("{name}_{number}");
            thread::spawn(move || {
                let stream_id = Raw::open(address, 1, TOKEN).create_stream(&stream);
                Driver::open(address).append_for(stream_id, &batch, window)
            })
        })
        .collect();
    let done: usize = drivers.into_iter().map(|driver| driver.join().unwrap()).sum();
    let seconds = start.elapsed().as_secs_f64();
    let per_second = done as f64 * events as f64 / seconds;
    println!("{name}: {connections} × {window} in flight, {events} a batch: {per_second:.0}/s");
}

fn latency(address: SocketAddr) {
    let batch = EventBatch::from_events([[7; 100]]).unwrap();
    let stream_id = Raw::open(address, 1, TOKEN).create_stream("latency");
    let mut driver = Driver::open(address);
    let mut taken: Vec<Duration> = (0..5_000)
        .map(|_| {
            let start = Instant::now();
            driver.send(stream_id, &batch, 1);
            while driver.receive() == 0 {}
            start.elapsed()
        })
        .collect();
    taken.sort();
    println!("one at a time: p50 {:?}, p99 {:?}", taken[2_500], taken[4_950]);
}

/// Reads a stream with reads that follow each other, two under way, credit granted as it comes.
fn sequential_read(address: SocketAddr) {
    let events = 2_000_000_u64;
    let batch = EventBatch::from_events(vec![[7; 100]; 10_000]).unwrap();
    let stream_id = Raw::open(address, 1, TOKEN).create_stream("sequential");
    let mut driver = Driver::open(address);
    for _ in 0..events / 10_000 {
        driver.send(stream_id, &batch, 1);
        while driver.receive() == 0 {}
    }
    for round in 0..3 {
        let start = Instant::now();
        let bytes = read_all(&mut driver, stream_id, events);
        let seconds = start.elapsed().as_secs_f64();
        let (millions, mib) = (events as f64 / seconds / 1e6, bytes as f64 / seconds / 1e6);
        println!("sequential read {round}: {millions:.1}M/s, {mib:.0} MB/s");
    }
}

fn read_all(driver: &mut Driver, stream_id: u64, events: u64) -> u64 {
    const PAGE: u64 = 50_000;
    let (mut from, mut ended, mut bytes) = (0, 0, 0);
    let mut ask = |driver: &mut Driver| {
        if from < events {
            let request = read(stream_id, from, PAGE);
            let id = driver.next_id;
            driver.next_id += 1;
            driver.stream.write_all(&request_bytes(id, &request, &[], 0)).unwrap();
            from += PAGE;
        }
    };
    ask(driver);
    ask(driver);
    let mut grants = BytesMut::new();
    while ended < events / PAGE {
        driver.fill();
        grants.clear();
        while let Some(frame) = driver.decoder.next().unwrap() {
            bytes += frame.payload.len() as u64;
            if frame.header.has(flag::END) {
                ended += 1;
                ask(driver);
            } else {
                let (mut body, mut out) = (Vec::new(), Vec::new());
                CreditBody { bytes: frame.payload.len() as u64 }.encode(&mut body);
                let id = frame.header.request_id;
                encode_frame_head(FrameKind::Credit, 0, 0, id, 0, &body, 0, &mut out);
                grants.extend_from_slice(&out);
            }
        }
        driver.stream.write_all(&grants).unwrap();
    }
    bytes
}

#[test]
#[ignore = "it measures"]
fn throughput() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = ServerConfig {
        memory: false,
        data_dir: folder.path().join("data"),
        ..ServerConfig::development(TOKEN)
    };
    let server = Server::start(config).unwrap();
    let address = server.local_addr();
    latency(address);
    appends(address, "single", 1, 64, 1);
    appends(address, "spread", 4, 16, 1);
    appends(address, "batch", 1, 8, 1_000);
    appends(address, "batches", 2, 8, 1_000);
    sequential_read(address);
}
