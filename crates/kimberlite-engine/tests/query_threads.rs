//! A query takes a place from others only while it works.

mod support;

use std::time::{Duration, Instant};

use kimberlite_engine::{Engine, EngineOptions};
use kimberlite_wire::*;
use support::*;

/// Results that nobody reads stop nobody else, and can be read later; as many as may be open are
/// told from too many.
#[test]
fn slow_readers_slow_only_themselves() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    writer.append_with(stream, ANY, &events(vec![[7; 1000]; 4_000]), NO_KEY).unwrap();
    let sql = "SELECT data FROM events";
    let open = || {
        let request = QueryRequest { sql: sql.to_string(), ..Default::default() };
        writer.call(Request::Query(request)).map(|answer| answer.payload.unwrap())
    };
    let mut unread: Vec<_> = (0..10).map(|_| open().unwrap()).collect();
    let started = Instant::now();
    for _ in 0..10 {
        assert_eq!(writer.count("SELECT count(*) FROM events WHERE length(data) = 1000"), 4_000);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    for rows in unread.drain(..) {
        assert!(drain(rows, 1 << 18).unwrap().len() > 4_000_000);
    }
    let refused = loop {
        match open() {
            Ok(rows) => unread.push(rows),
            Err(error) => break error,
        }
        assert!(unread.len() < 200, "any number may be open");
        std::thread::sleep(Duration::from_millis(30));
    };
    assert_eq!(refused.code, ErrorCode::Overloaded, "{refused}");
    assert!(refused.is_retryable() && unread.len() >= 40, "{} open", unread.len());
    drop(unread);
    assert_eq!(writer.count("SELECT count(*) FROM events WHERE length(data) = 1000"), 4_000);
}

/// A function of SQLite that computes for very long cannot be stopped; it neither stops other
/// queries nor closing, after which the folder is free.
#[test]
fn what_cannot_be_stopped_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        || EngineOptions { segment_bytes: 1 << 20, ..EngineOptions::folder(folder.path()) };
    let engine = open(options());
    let writer = writer(&engine);
    let haystack = Value::Bytes(vec![0; 6 << 20]);
    let needle = Value::Bytes([vec![0; 3 << 20], vec![1]].concat());
    let params = vec![haystack, needle];
    let sql = "SELECT instr(?1, ?2)".to_string();
    let request = QueryRequest { sql, params, ..Default::default() };
    let answers =
        [(); 2].map(|()| writer.call(Request::Query(request.clone())).unwrap().payload.unwrap());
    // By now both compute.
    std::thread::sleep(Duration::from_millis(100));
    drop(answers);
    let started = Instant::now();
    assert_eq!(writer.query("SELECT 1").unwrap(), [[Value::Int64(1)]]);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let started = Instant::now();
    engine.close();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let again = Engine::open(options()).unwrap();
    again.close();
}
