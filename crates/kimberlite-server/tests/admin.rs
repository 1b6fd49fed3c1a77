//! The admin port: metrics that move with real traffic, health checks, and its own limits.
#![cfg(unix)]

mod common;
mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Raw, assert_error};
use kimberlite_wire::{
    CreateStreamRequest, DataClass, ErrorCode, QueryRequest, ReadRequest, Request, Response,
    SubscribeRequest,
};
use process::{PATIENCE, Process, TOKEN, http};

/// The page is what Prometheus reads: a parser of the format takes every line, every metric is
/// described, names and labels follow the conventions, and no label tells of tenants or streams.
#[test]
fn metrics_are_in_the_format() {
    let server = Process::start("");
    let mut raw = Raw::open(server.address, 1, TOKEN);
    let stream_id = raw.create_stream("a-private-name");
    raw.append(stream_id, &[b"one"]).unwrap();
    let answer = server.get("/metrics");
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("version=0.0.4"), "{head}");
    let scrape = prometheus_parse::Scrape::parse(page.lines().map(|l| Ok(l.to_string()))).unwrap();
    let values = page.lines().filter(|line| !line.starts_with('#')).count();
    let parsed: usize = scrape
        .samples
        .iter()
        .map(|sample| match &sample.value {
            // A histogram's sum and count are samples of their own to this parser.
            prometheus_parse::Value::Histogram(buckets) => buckets.len(),
            _ => 1,
        })
        .sum();
    assert_eq!(parsed, values, "a line is not of the format");
    for sample in &scrape.samples {
        let name = sample.metric.as_str();
        let base = ["_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let described = |name: &str| scrape.docs.contains_key(name);
        assert!(described(name) || base.is_some_and(described), "{name} is not described");
        assert!(name.starts_with("kimberlite_") || name.starts_with("process_"), "{name}");
        let labels: Vec<&String> = sample.labels.keys().collect();
        for label in labels {
            let known = ["state", "error", "bound", "outcome", "operation", "held_by", "version"];
            assert!(known.contains(&label.as_str()), "{name} has the label {label}");
        }
    }
    assert!(!page.contains("a-private-name") && !page.contains(TOKEN));
}

/// Each counter moves by what was done, and by no more.
#[test]
fn counters_move_with_traffic() {
    let server = Process::start("[limits]\nauth_failures_burst = 1\nmax_connections = 2\n");
    let before = server.metrics();
    let mut raw = Raw::open(server.address, 1, TOKEN);
    let name = "patients".to_string();
    let data_class = DataClass::Phi.number();
    let created = raw.call(&Request::CreateStream(CreateStreamRequest { name, data_class }));
    let Response::CreateStream(created) = created.unwrap().0 else { panic!() };
    let stream_id = created.stream_id;
    for _ in 0..3 {
        raw.append(stream_id, &[b"one", b"two"]).unwrap();
    }
    let read = ReadRequest { stream_id, max_events: 10, ..ReadRequest::default() };
    raw.call(&Request::Read(read)).unwrap();
    let sql = "SELECT count(*) FROM patients".to_string();
    raw.call(&Request::Query(QueryRequest { sql, ..QueryRequest::default() })).unwrap();
    let missing = ReadRequest { stream_id: 99, max_events: 1, ..ReadRequest::default() };
    assert_error(raw.call(&Request::Read(missing)), ErrorCode::StreamNotFound, "");
    let subscribe = SubscribeRequest { stream_id, from_offset: 0, credit_bytes: 0 };
    let subscribed = raw.send(&Request::Subscribe(subscribe), &[]);
    raw.receive_for(subscribed);
    let _second = Raw::open(server.address, 1, TOKEN);
    assert_error(
        Raw::connect(server.address).hello(1, TOKEN),
        ErrorCode::Overloaded,
        "limits.max_connections",
    );
    drop(_second);
    server.eventually("the second is gone", |now| {
        now[r#"kimberlite_connections{state="open"}"#] == 1.0
    });
    assert!(Raw::connect(server.address).hello(1, "a guess").is_err());
    assert!(Raw::connect(server.address).hello(1, TOKEN).is_err());
    server.eventually("refusals are counted", |now| {
        now.get(r#"kimberlite_connections_refused_total{error="OVERLOADED"}"#) == Some(&2.0)
    });
    let now = server.metrics();
    let moved = |name: &str| now.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
    let exact = [
        (r#"kimberlite_requests_total{operation="append",outcome="ok"}"#, 3.0),
        (r#"kimberlite_requests_total{operation="create_stream",outcome="ok"}"#, 1.0),
        (r#"kimberlite_requests_total{operation="read",outcome="ok"}"#, 1.0),
        (r#"kimberlite_requests_total{operation="read",outcome="STREAM_NOT_FOUND"}"#, 1.0),
        (r#"kimberlite_requests_total{operation="query",outcome="ok"}"#, 1.0),
        (r#"kimberlite_requests_total{operation="subscribe",outcome="ok"}"#, 1.0),
        (r#"kimberlite_request_duration_seconds_count{operation="append"}"#, 3.0),
        ("kimberlite_subscriptions", 1.0),
        ("kimberlite_requests_inflight", 1.0),
        ("kimberlite_auth_failures_total", 1.0),
        ("kimberlite_connections_accepted_total", 5.0),
        ("kimberlite_connections_opened_total", 2.0),
        (r#"kimberlite_connections_refused_total{error="AUTH_FAILED"}"#, 1.0),
        (r#"kimberlite_bound_reached_total{bound="limits.max_connections"}"#, 1.0),
        (r#"kimberlite_bound_reached_total{bound="limits.auth_failures_burst"}"#, 1.0),
    ];
    for (name, wanted) in exact {
        assert_eq!(moved(name), wanted, "{name}");
    }
    // Those of the audit are counted by themselves.
    assert_eq!(moved("kimberlite_events_total"), 6.0);
    let growing = [
        "kimberlite_appends_total",
        "kimberlite_commits_total",
        "kimberlite_block_bytes_total",
        "kimberlite_audit_records_total",
        "kimberlite_commit_requests_count",
        "kimberlite_commit_duration_seconds_count",
        "kimberlite_fdatasync_duration_seconds_count",
        "kimberlite_log_position",
        "kimberlite_received_bytes_total",
        "kimberlite_sent_bytes_total",
    ];
    for name in growing {
        assert!(moved(name) > 0.0, "{name} did not move");
    }
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds"] {
        assert!(now[name] > 0.0, "{name}");
    }
}

/// Health checks tell what a server is fit for, also while it shuts down; reloads are counted.
#[test]
fn health_is_told() {
    let server = Process::start("shutdown_grace_ms = 20000\n");
    for path in ["/healthz", "/readyz"] {
        assert!(server.get(path).starts_with("HTTP/1.1 200 "), "{path}");
    }
    assert!(server.get("/nothing").starts_with("HTTP/1.1 404 "));
    let post =
        "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(http(server.admin, post).starts_with("HTTP/1.1 405 "));
    server.signal("-HUP");
    server.eventually("it was reloaded", |now| {
        now[r#"kimberlite_reloads_total{outcome="ok"}"#] == 1.0
    });
    // A statement under way holds the shutdown up.
    let mut raw = Raw::open(server.address, 1, TOKEN);
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
               SELECT count(*) FROM n"
        .to_string();
    raw.send(&Request::Query(QueryRequest { sql, ..QueryRequest::default() }), &[]);
    server.eventually("it runs", |now| now[r#"kimberlite_queries{state="running"}"#] == 1.0);
    server.signal("-TERM");
    let end = Instant::now() + PATIENCE;
    while !server.get("/readyz").starts_with("HTTP/1.1 503 ") {
        assert!(Instant::now() < end, "it stays ready");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200 "));
}

/// The port keeps to its limits: a head that is too long or never ends does no harm, and of more
/// connections than it takes the oldest that ask nothing give way, so that it goes on answering.
#[test]
fn the_admin_port_has_limits() {
    let server = Process::start("");
    let long = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(40_000));
    let mut stream = TcpStream::connect(server.admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    let held: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(server.admin).unwrap();
            let _ = stream.write_all(b"GET /met");
            stream
        })
        .collect();
    for _ in 0..40 {
        assert!(server.get("/healthz").starts_with("HTTP/1.1 200 "));
    }
    let start = Instant::now();
    for mut stream in held {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200 "));
    // Those who come over the other port are served all the while.
    Raw::open(server.address, 1, TOKEN);
}
