//! Hostile peers against the real program, whose memory is watched from outside: whatever they do,
//! it stays within its bounds, and a client that means well is served all the while.
#![cfg(target_os = "linux")]

mod common;
mod process;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{ANY, Raw, append, assert_error, credit_bytes, hello, read, request_bytes};
use kimberlite_wire::frame::{FrameHeader, encode_frame_head};
use kimberlite_wire::{ErrorCode, EventBatch, FrameKind, Operation, QueryRequest, Request};
use process::{Process, TOKEN};

/// Small bounds, so that they are reached soon, but for a time that those who mean well need where
/// the machine has other work.
const TIGHT: &str = "tenants = [1, 2]\n[limits]\ntotal_queue_bytes = 37748736\n\
    tenant_queue_bytes = 18874368\nconnection_queue_bytes = 17825792\n\
    total_buffer_bytes = 8388608\nstall_timeout_ms = 2000\nmax_handshakes = 64\n\
    handshake_timeout_ms = 600000\n";
/// Whoever waits for longer than this waits for ever: how long an answer takes depends on what else
/// the machine does, and is not judged.
const FOR_EVER: Duration = Duration::from_secs(600);
const QUEUE_BYTES: f64 = 37_748_736.0;
const BUFFER_BYTES: f64 = 8_388_608.0;
/// What a connection may buffer however much others do.
const ALWAYS_BYTES: f64 = 4_096.0;
/// Above the accounted bytes: the program, its threads, what the allocator keeps, and the log in
/// memory.
const RESIDENT_MARGIN: u64 = 160 << 20;

/// Connects and authenticates, however long that takes.
fn open(address: SocketAddr, tenant_id: u64) -> Raw<TcpStream> {
    let mut raw = Raw::connect(address);
    raw.stream.set_read_timeout(Some(FOR_EVER)).unwrap();
    raw.hello(tenant_id, TOKEN).unwrap();
    raw
}

/// Appends and reads as tenant 2 until it is told to stop, and remembers its longest wait.
struct GoodClient {
    stop: Arc<AtomicBool>,
    longest_ms: Arc<AtomicU64>,
    thread: Option<JoinHandle<u64>>,
}

impl GoodClient {
    fn start(address: SocketAddr) -> GoodClient {
        let stop = Arc::new(AtomicBool::new(false));
        let longest_ms = Arc::new(AtomicU64::new(0));
        let (stopped, longest) = (stop.clone(), longest_ms.clone());
        let thread = thread::spawn(move || {
            let mut done = 0;
            while done <= 3 || !stopped.load(Ordering::SeqCst) {
                let start = Instant::now();
                // A new connection each time: those must get through, too.
                let mut raw = open(address, 2);
                let stream_id = raw.create_stream("good");
                let appended = raw.append(stream_id, &[b"a good event"]).unwrap();
                let last = read(stream_id, appended.first_offset, 1);
                assert!(!raw.call(&last).unwrap().1.is_empty());
                longest.fetch_max(start.elapsed().as_millis() as u64, Ordering::SeqCst);
                done += 1;
                thread::sleep(Duration::from_millis(5));
            }
            done
        });
        GoodClient { stop, longest_ms, thread: Some(thread) }
    }

    /// Stops it; it must have been served. How long that took depends on what else the machine
    /// does: it is told, not judged.
    fn finish(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let done = self.thread.take().unwrap().join().expect("the good client failed");
        let longest_ms = self.longest_ms.load(Ordering::SeqCst);
        println!("the good client: {done} rounds, the longest {longest_ms} ms");
        assert!(done > 3, "{done} rounds, the longest {longest_ms} ms");
    }
}

/// Watches the memory until something has come about: accounted for within the bounds, and resident
/// not far above. It fails where nothing changes any more before.
fn watch(
    server: &Process,
    connections: usize,
    what: &str,
    is_so: impl Fn(&BTreeMap<String, f64>) -> bool,
) {
    let (mut most, mut requests, mut buffers) = (0, 0.0_f64, 0.0_f64);
    let (mut before, mut changed) = (BTreeMap::new(), Instant::now());
    loop {
        let now = server.metrics();
        requests = requests.max(now[r#"kimberlite_memory_bytes{held_by="requests"}"#]);
        buffers = buffers.max(now[r#"kimberlite_memory_bytes{held_by="buffers"}"#]);
        most = most.max(server.resident_bytes());
        if is_so(&now) {
            break;
        }
        let counted: BTreeMap<_, _> =
            now.into_iter().filter(|(name, _)| name.contains("_total")).collect();
        if counted != before {
            (before, changed) = (counted, Instant::now());
        }
        assert!(changed.elapsed() < process::PATIENCE, "never: {what}\n{before:#?}");
        thread::sleep(Duration::from_millis(50));
    }
    println!("most: requests {requests}, buffers {buffers}, resident {} MiB", most >> 20);
    assert!(requests <= QUEUE_BYTES, "{requests} bytes of requests");
    // One answer that was made as a whole may pass it, for each thread that makes one.
    let buffers_bound = BUFFER_BYTES + connections as f64 * ALWAYS_BYTES + (8 << 20) as f64;
    assert!(buffers <= buffers_bound, "{buffers} bytes are buffered");
    let bound = (QUEUE_BYTES + BUFFER_BYTES) as u64 + RESIDENT_MARGIN;
    assert!(most <= bound, "{most} bytes are resident");
}

fn big_append(stream_id: u64, bytes: usize) -> (Request, Bytes) {
    append(stream_id, ANY, &EventBatch::from_events([vec![7; bytes]]).unwrap())
}

/// A stream of tenant 1 with some megabytes in it.
fn fill(server: &Process, megabytes: usize) -> u64 {
    let mut raw = Raw::open(server.address, 1, TOKEN);
    let stream_id = raw.create_stream("big");
    for _ in 0..megabytes {
        let (request, payload) = big_append(stream_id, 1 << 20);
        let id = raw.send(&request, &payload);
        raw.appended(id).unwrap();
    }
    stream_id
}

/// Floods of appends, frames that announce 16 MiB and bring little, and reads whose answers nobody
/// takes: memory stays within its bounds, OVERLOADED names them, those who do not read are dropped,
/// and when they are gone everything is given back.
#[test]
fn floods_are_bounded() {
    let server = Process::start(TIGHT);
    let stream_id = fill(&server, 8);
    let good = GoodClient::start(server.address);
    let liars: Vec<_> = (0..40_u64)
        .map(|_| {
            let mut raw = open(server.address, 1);
            let (request, payload) = big_append(stream_id, 8 << 20);
            raw.send_bytes(&request_bytes(9, &request, &payload, 0)[..10_000]);
            raw
        })
        .collect();
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let mut raw = open(server.address, 1);
            // All in one write: it may be dropped right after the first of them.
            let mut bytes = Vec::new();
            for id in 100..120 {
                bytes.extend(request_bytes(id, &read(stream_id, 0, u64::MAX), &[], 0));
                bytes.extend(credit_bytes(id, u64::MAX));
            }
            raw.send_bytes(&bytes);
            raw
        })
        .collect();
    let mut flooding = Vec::new();
    for _ in 0..4 {
        let mut raw = open(server.address, 1);
        let wrong = read(stream_id, u64::MAX, 1);
        flooding.push(thread::spawn(move || {
            // Until the server drops it because it does not read.
            for id in 100..2_000_000 {
                if raw.stream.write_all(&request_bytes(id, &wrong, &[], 0)).is_err() {
                    return true;
                }
            }
            false
        }));
    }
    let dropped = r#"kimberlite_bound_reached_total{bound="limits.stall_timeout_ms"}"#;
    let none_reads = "those who do not read are dropped";
    watch(&server, 200, none_reads, |now| now.get(dropped).is_some_and(|count| *count >= 104.0));
    for flood in flooding {
        assert!(flood.join().unwrap(), "a flood without a reader goes on for ever");
    }
    good.finish();
    drop((liars, readers));
    server.eventually("everything is given back", |now| {
        now[r#"kimberlite_memory_bytes{held_by="requests"}"#] == 0.0
            && now[r#"kimberlite_memory_bytes{held_by="buffers"}"#] == 0.0
    });
}

/// Queries that need much memory are bounded together: one too many gets OVERLOADED and names the
/// bound, small ones go on, and later there is room again.
#[test]
fn memory_of_queries_is_bounded() {
    let toml = "tenants = [1, 2]\n[query]\nmemory_bytes = 67108864\ntotal_memory_bytes = 33554432\n\
        tenant_memory_bytes = 16777216\n";
    let server = Process::start(toml);
    let stream_id = fill(&server, 24);
    let mut raw = Raw::open(server.address, 1, TOKEN);
    let query = |sql: &str| {
        Request::Query(QueryRequest { sql: sql.to_string(), ..QueryRequest::default() })
    };
    let sorted = query("SELECT length(data), data FROM big ORDER BY hex(substr(data, 1, 9)), id");
    assert_error(raw.call(&sorted), ErrorCode::Overloaded, "query_tenant_memory_bytes");
    raw.call(&query("SELECT count(*) FROM big WHERE length(data) = 1048576")).unwrap();
    raw.call(&read(stream_id, 0, 1)).unwrap();
    server.eventually("it is given back", |now| {
        now[r#"kimberlite_memory_bytes{held_by="queries"}"#] == 0.0
    });
    let fits = query("SELECT id FROM big ORDER BY hex(substr(data, 1, 9)), id");
    raw.call(&fits).unwrap();
}

/// Strangers who send their hello byte by byte, or nothing, push each other out and nobody else.
#[test]
fn slow_hellos_keep_nobody_out() {
    let server = Process::start(TIGHT);
    let good = GoodClient::start(server.address);
    let bytes = request_bytes(1, &hello(1, TOKEN), &[], 0);
    let mut slow: Vec<TcpStream> = Vec::new();
    for round in 0..20 {
        for stream in &mut slow {
            // Those who were pushed out are gone.
            let _ = stream.write_all(&bytes[round..=round]);
        }
        slow.extend((0..25).map(|_| TcpStream::connect(server.address).unwrap()));
        thread::sleep(Duration::from_millis(100));
    }
    let now = server.metrics();
    assert!(now[r#"kimberlite_connections{state="handshake"}"#] <= 64.0);
    assert!(now[r#"kimberlite_bound_reached_total{bound="limits.max_handshakes"}"#] > 300.0);
    good.finish();
}

/// Where files run out, the server neither spins nor hangs: newcomers are told OVERLOADED one after
/// the other, who is in is served, and once there are files again so is everybody.
#[test]
fn files_may_run_out() {
    let server = Process::start_with_files(64, "[limits]\nhandshake_timeout_ms = 30000\n");
    assert!(server.errors().contains("LimitNOFILE"), "{}", server.errors());
    let mut inside = Raw::open(server.address, 1, TOKEN);
    let stream_id = inside.create_stream("inside");
    // These say nothing and hold their files; the others come after them.
    let held: Vec<_> = (0..60).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    let later: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(&request_bytes(1, &hello(1, TOKEN), &[], 0)).unwrap();
            stream
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let before = server.processor_ticks();
    let (start, mut told) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(3) {
        inside.append(stream_id, &[b"one"]).unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    let ticks = server.processor_ticks() - before;
    assert!(ticks < 100, "{ticks} hundredths of a second in three seconds of waiting");
    for mut stream in later {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 4_096];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            answer.extend_from_slice(&buffer[..count]);
            if answer.len() > 64 {
                break;
            }
        }
        told += u32::from(String::from_utf8_lossy(&answer).contains("no file left"));
    }
    assert!(told > 0, "nobody was told");
    assert!(server.errors().contains("connections cannot be accepted"), "{}", server.errors());
    inside.append(stream_id, &[b"two"]).unwrap();
    drop(held);
    Raw::open(server.address, 1, TOKEN);
}

/// A frame whose rest comes too slowly, or not at all, ends its connection with TIMEOUT, and the
/// bound's name, before long.
#[test]
fn unfinished_frames_end_their_connection() {
    let server = Process::start(TIGHT);
    let stream_id = fill(&server, 1);
    for len in [10, 40] {
        let mut raw = Raw::open(server.address, 1, TOKEN);
        let start = Instant::now();
        raw.send_bytes(&request_bytes(5, &read(stream_id, 0, 1), &[], 0)[..len]);
        let error = raw.last_error();
        assert_eq!(error.code, ErrorCode::Timeout, "{error}");
        assert!(error.detail.contains("limits.stall_timeout_ms"), "{error}");
        assert!(start.elapsed() >= Duration::from_secs(2));
    }
}

/// Ten thousand idle connections cost little memory each, and one more client is served as if they
/// were not there.
#[test]
fn ten_thousand_idle_connections() {
    const COUNT: usize = 10_000;
    // The program raises its own limit; the tests need as many sockets on their side.
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let possible = limit.maximum.unwrap_or(u64::MAX).saturating_sub(2_500) as usize;
    let count = COUNT.min(possible);
    let server = Process::start("tenants = [1, 2]\n[limits]\nmax_connections = 12000\n");
    let before = server.resident_bytes();
    let mut idle: Vec<Raw<TcpStream>> = Vec::with_capacity(count);
    while idle.len() < count {
        idle.push(Raw::open(server.address, 1, TOKEN));
    }
    let good = GoodClient::start(server.address);
    thread::sleep(Duration::from_secs(4));
    let each = server.resident_bytes().saturating_sub(before) / count as u64;
    println!("{count} idle connections, {each} bytes each");
    assert!(each < 12 << 10, "{each} bytes for an idle connection");
    assert_eq!(server.metrics()["kimberlite_memory_bytes{held_by=\"buffers\"}"], 0.0);
    idle[count / 2].call(&Request::ListStreams(Default::default())).unwrap();
    good.finish();
}

/// Credit that overflows, is granted twice or to nobody, and cancels of nobody do nothing; a number
/// that is under way ends the connection.
#[test]
fn credits_and_cancels_for_nobody() {
    let server = Process::start(TIGHT);
    let stream_id = fill(&server, 4);
    let mut raw = Raw::open(server.address, 1, TOKEN);
    for id in [0, 1, 77, u64::MAX] {
        raw.credit(id, u64::MAX);
        raw.send_frame(FrameKind::Cancel, id, &[]);
    }
    let id = raw.send(&read(stream_id, 0, u64::MAX), &[]);
    for _ in 0..100 {
        raw.credit(id, u64::MAX);
    }
    assert!(raw.answer(id).unwrap().1.len() > 4 << 20);
    raw.credit(id, u64::MAX);
    raw.send_frame(FrameKind::Cancel, id, &[]);
    raw.call(&read(stream_id, 0, 1)).unwrap();
    // A credit that is too short to be one ends the connection.
    raw.send_frame(FrameKind::Credit, id, &[1, 2, 3]);
    assert_eq!(raw.last_error().code, ErrorCode::Protocol);
}

/// A random number generator: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// What one hostile connection sends: frames that are well formed, and what is done to them.
fn damaged(random: &mut Random, stream_id: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..1 + random.below(6) as u64 {
        let (request, payload) = match random.below(4) {
            0 => big_append(stream_id, 1 + random.below(5_000)),
            1 => (Request::ListStreams(Default::default()), Bytes::new()),
            _ => (read(stream_id, random.below(9) as u64, 5), Bytes::new()),
        };
        let mut frame = request_bytes(number + 1, &request, &payload, 0);
        match random.below(8) {
            // A bit is flipped, anywhere.
            0 => {
                let at = random.below(frame.len());
                frame[at] ^= 1 << random.below(8);
            }
            // It ends too early, and the next begins within it.
            1 => frame.truncate(random.below(frame.len())),
            // A header of its own making, with a checksum that fits.
            2 => {
                frame.clear();
                let kind = FrameKind::from_number(random.below(6) as u8 + 1);
                let operation = random.below(20) as u16;
                let kind = kind.unwrap_or(FrameKind::Request);
                let body = vec![random.below(256) as u8; random.below(100)];
                let payload_len = random.below(1 << 20) as u32;
                let (id, flags) = (random.below(4) as u64, random.below(256) as u8);
                encode_frame_head(kind, flags, operation, id, 1, &body, payload_len, &mut frame);
            }
            // An unknown kind or version of the framing.
            3 => frame[if random.below(2) == 0 { 3 } else { 4 }] = random.below(256) as u8,
            // Lengths that lie, without and with a checksum.
            4 => frame[16 + random.below(8)] = random.below(256) as u8,
            _ => {}
        }
        bytes.extend(frame);
    }
    bytes
}

/// Streams of frames that lie about their lengths, are cut, mixed, flipped and of unknown kinds end
/// in answers, errors or closed connections, soon and without harm. The seed of a failure is told;
/// KIMBERLITE_SEED runs it again, KIMBERLITE_ROUNDS runs more.
#[test]
fn damaged_streams_do_no_harm() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("KIMBERLITE_SEED").unwrap_or(1);
    let rounds = number("KIMBERLITE_ROUNDS").unwrap_or(300);
    let server = Process::start(TIGHT);
    let stream_id = fill(&server, 1);
    let good = GoodClient::start(server.address);
    for seed in first..first + rounds {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut raw = Raw::open(server.address, 1, TOKEN);
        let bytes = damaged(&mut random, stream_id);
        // The server may close before all is sent.
        let _ = raw.stream.write_all(&bytes);
        let _ = raw.stream.shutdown(std::net::Shutdown::Write);
        let mut answers = 0;
        while let Some(frame) = raw.receive() {
            answers += 1;
            assert!(answers < 1_000, "seed {seed} is answered without an end");
            let known = Operation::from_number(frame.header.operation).is_some();
            let FrameHeader { operation, .. } = frame.header;
            assert!(known || operation < 20, "seed {seed}: {frame:?}");
        }
    }
    let now = server.metrics();
    assert_eq!(now.get(r#"kimberlite_requests_total{operation="read",outcome="INTERNAL"}"#), None);
    assert_eq!(
        now.get(r#"kimberlite_requests_total{operation="append",outcome="INTERNAL"}"#),
        None
    );
    assert!(!server.errors().contains("panic"), "{}", server.errors());
    good.finish();
}

/// Connects from another address of this machine.
fn connect_from(from: [u8; 4], to: SocketAddr) -> Raw<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        socket.connect(to).await.unwrap()
    });
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    Raw::over(stream)
}

/// Whoever guesses tokens is made to wait, and gets OVERLOADED for as long, with the right token
/// too; clients of other addresses, and connections that are open already, notice nothing.
#[test]
fn guessing_stops_the_guesser_only() {
    let toml =
        "tenants = [1, 2]\n[limits]\nauth_failures_burst = 20\nauth_failures_per_minute = 6\n";
    let server = Process::start(toml);
    let mut open = connect_from([127, 0, 0, 9], server.address);
    open.hello(1, TOKEN).unwrap();
    let good = GoodClient::start(server.address);
    let mut codes = Vec::new();
    for number in 0..200 {
        let mut raw = connect_from([127, 0, 0, 9], server.address);
        let token = if number == 150 { TOKEN.to_string() } else { format!("guess {number}") };
        codes.push(raw.hello(1, &token).unwrap_err().code);
    }
    let wrong = codes.iter().take_while(|code| **code == ErrorCode::AuthFailed).count();
    assert!((20..=23).contains(&wrong), "{wrong} guesses were looked at");
    let later = codes[wrong..].iter().filter(|code| **code == ErrorCode::AuthFailed).count();
    assert!(later <= 3, "{later} more guesses were looked at");
    assert!(
        codes[wrong..]
            .iter()
            .all(|code| { matches!(code, ErrorCode::Overloaded | ErrorCode::AuthFailed) })
    );
    open.call(&Request::ListStreams(Default::default())).unwrap();
    good.finish();
}

/// A peer that vanishes without a word costs nothing for long: its connection ends by the idle
/// timeout.
#[test]
fn half_open_connections_end() {
    let server = Process::start("[limits]\nidle_timeout_ms = 1000\n");
    let mut raw = Raw::open(server.address, 1, TOKEN);
    let start = Instant::now();
    assert_eq!(raw.stream.read(&mut [0; 16]).unwrap(), 0);
    assert!(start.elapsed() > Duration::from_millis(900));
    server.eventually("it is gone", |now| now[r#"kimberlite_connections{state="open"}"#] == 0.0);
}

/// How long the comparison of a token takes for right and wrong ones: measured by
/// `cargo test -p kimberlite-server --test hostile token_timing -- --ignored --nocapture`.
#[test]
#[ignore = "it measures"]
fn token_timing() {
    let hash = kimberlite_server::TokenHash::of(TOKEN).unwrap();
    let wrong: String = TOKEN.chars().rev().collect();
    let mut nanoseconds = [Vec::new(), Vec::new()];
    for round in 0..400_000 {
        let side = round % 2;
        let token = if side == 0 { TOKEN } else { &wrong };
        let start = Instant::now();
        assert_eq!(std::hint::black_box(hash.matches(std::hint::black_box(token))), side == 0);
        nanoseconds[side].push(start.elapsed().as_nanos() as f64);
    }
    let [right, wrong] = nanoseconds.map(|mut all| {
        all.sort_by(f64::total_cmp);
        // What the system interrupted is left out.
        all.truncate(all.len() * 95 / 100);
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|n| (n - mean) * (n - mean)).sum::<f64>() / all.len() as f64;
        (mean, variance / all.len() as f64)
    });
    let t = (right.0 - wrong.0) / (right.1 + wrong.1).sqrt();
    println!("right {:.1} ns, wrong {:.1} ns, Welch's t {t:.2}", right.0, wrong.0);
}
