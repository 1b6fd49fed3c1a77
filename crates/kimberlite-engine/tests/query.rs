//! SQL through the door: cuts, limits, streaming, and who may see what.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kimberlite_engine::{Clock, Engine, EngineOptions};
use kimberlite_wire::*;
use support::*;

/// Every stream is a table of its events, `_streams` lists them, and parameters are bound.
#[test]
fn streams_are_tables() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("Events");
    writer.append(stream, &[br#"{"kind":"a"}"#, br#"{"kind":"b"}"#]).unwrap();
    writer.append(stream, &[br#"{"kind":"a"}"#]).unwrap();
    assert_eq!(writer.count("SELECT count(*) FROM events"), 3);
    assert_eq!(writer.count("SELECT count(*) FROM events WHERE data ->> 'kind' = 'a'"), 2);
    assert_eq!(writer.count("SELECT sum(id) FROM \"EVENTS\""), 3);
    let rows = writer.query("SELECT name FROM _streams").unwrap();
    assert_eq!(rows, [[Value::String("Events".to_string())]]);
    let request = QueryRequest {
        sql: "SELECT id FROM events WHERE id > ?1".to_string(),
        params: vec![Value::Int64(1)],
        ..Default::default()
    };
    let answer = writer.call(Request::Query(request)).unwrap();
    let Response::Query(body) = &answer.body else { panic!("a query") };
    assert_eq!(body.columns[0].name, "id");
    assert_eq!(body.position, engine.position());
}

/// A query of the past sees one cut over all streams: neither later events nor later streams.
#[test]
fn the_past_stays_as_it_was() {
    let engine = memory();
    let writer = writer(&engine);
    let (a, b) = (writer.stream("a"), writer.stream("b"));
    let mut cuts = vec![(engine.position(), 0, 0)];
    for number in 1..=20i64 {
        writer.append(a, &[b"x"]).unwrap();
        let done = writer.append(b, &[b"y", b"z"]).unwrap();
        cuts.push((done.position, number, 2 * number));
    }
    let late = writer.create_stream("late", DataClass::NonPhi).unwrap();
    let sql = "SELECT (SELECT count(*) FROM a), (SELECT max(id) + 1 FROM b)";
    for (position, in_a, in_b) in cuts {
        let rows = writer.query_at(sql, AtKind::Position, position).unwrap();
        let in_b = if in_b == 0 { Value::Null } else { Value::Int64(in_b) };
        assert_eq!(rows.rows, [[Value::Int64(in_a), in_b]]);
        assert_eq!(rows.body.position, position);
        let early = writer.query_at("SELECT * FROM late", AtKind::Position, position);
        assert_eq!(code(early), ErrorCode::QuerySyntax);
        let sql = "SELECT next_offset FROM _streams WHERE name = 'a'";
        let rows = writer.query_at(sql, AtKind::Position, position).unwrap();
        assert_eq!(rows.rows, [[Value::Int64(in_a)]]);
    }
    writer.query_at("SELECT * FROM late", AtKind::Position, late.position).unwrap();
    let nothing = writer.query_at("SELECT count(*) FROM _streams", AtKind::Position, 0).unwrap();
    assert_eq!(nothing.rows, [[Value::Int64(0)]]);
    let above = writer.query_at("SELECT 1", AtKind::Position, engine.position() + 1).unwrap_err();
    assert_eq!((above.code, above.value), (ErrorCode::InvalidArgument, engine.position()));
    assert_eq!(code(engine_kind(&writer, 3)), ErrorCode::InvalidArgument);
}

fn engine_kind(writer: &Caller, at_kind: u8) -> Result<(), Error> {
    let request = QueryRequest { sql: "SELECT 1".to_string(), at_kind, ..Default::default() };
    writer.call(Request::Query(request)).map(|_| ())
}

/// A wall clock that stands where the test puts it.
#[derive(Debug)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn wall_ns(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn with_clock() -> (Engine, Arc<Hands>) {
    let hands = Arc::new(Hands(AtomicU64::new(1_000)));
    (open(EngineOptions { clock: hands.clone(), ..small() }), hands)
}

/// A query as of a time sees what was committed up to it, stays so when asked again later, and
/// cannot look into the future.
#[test]
fn queries_as_of_a_time() {
    let (engine, hands) = with_clock();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    for time in [2_000, 3_000, 3_000, 4_000] {
        hands.0.store(time, Ordering::SeqCst);
        assert_eq!(writer.append(stream, &[b"x"]).unwrap().timestamp_ns, time);
    }
    let count_at = |time| -> Result<i64, Error> {
        let rows = writer.query_at("SELECT count(*) FROM events", AtKind::Timestamp, time)?;
        match rows.rows[0][0] {
            Value::Int64(count) => Ok(count),
            _ => panic!("not a count"),
        }
    };
    let expected = [(1_999, 0), (2_000, 1), (2_999, 1), (3_000, 3), (3_999, 3), (4_000, 4)];
    for (time, count) in expected {
        assert_eq!(count_at(time).unwrap(), count, "at {time}");
    }
    // The cut at 4,000 is closed: an append while the clock still says 4,000 comes after it.
    let later = writer.append(stream, &[b"x"]).unwrap();
    assert!(later.timestamp_ns > 4_000);
    for (time, count) in expected {
        assert_eq!(count_at(time).unwrap(), count, "at {time}, again");
    }
    hands.0.store(9_000, Ordering::SeqCst);
    assert_eq!(count_at(9_000).unwrap(), 5);
    let future = count_at(9_100).unwrap_err();
    assert_eq!(future.code, ErrorCode::InvalidArgument);
    assert!(future.value >= 9_000 && future.value < 9_100);
}

/// Times never decrease although the wall clock does.
#[test]
fn a_clock_that_goes_back_does_no_harm() {
    let (engine, hands) = with_clock();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    hands.0.store(5_000, Ordering::SeqCst);
    writer.append(stream, &[b"x"]).unwrap();
    hands.0.store(10, Ordering::SeqCst);
    assert_eq!(writer.append(stream, &[b"y"]).unwrap().timestamp_ns, 5_000);
}

/// A wall clock that jumps ahead of the monotonic one stops changes, not reads, until it is
/// confirmed.
#[test]
fn a_clock_that_jumps_ahead_stops_changes() {
    #[derive(Debug)]
    struct Jumping(AtomicU64);
    impl Clock for Jumping {
        fn wall_ns(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
        fn monotonic_ns(&self) -> u64 {
            0
        }
    }
    let hands = Arc::new(Jumping(AtomicU64::new(0)));
    let engine = open(EngineOptions { clock: hands.clone(), ..small() });
    let writer = writer(&engine);
    let stream = writer.stream("events");
    writer.append(stream, &[b"x"]).unwrap();
    hands.0.store(2 * 3_600 * 1_000_000_000, Ordering::SeqCst);
    let stopped = writer.append(stream, &[b"y"]).unwrap_err();
    assert_eq!(stopped.code, ErrorCode::Internal);
    assert!(stopped.detail.contains("clock"), "{stopped}");
    assert_eq!(writer.data(stream), [b"x"]);
    engine.confirm_clock();
    writer.append(stream, &[b"y"]).unwrap();
}

/// Rows are streamed: a result far larger than what is sent ahead arrives whole, at the reader's
/// pace, and a reader that goes stops the query.
#[test]
fn results_are_streamed() {
    let engine = memory();
    let writer = writer(&engine);
    let stream = writer.stream("events");
    let list: Vec<Vec<u8>> = (0..20_000u32).map(|n| n.to_le_bytes().repeat(50)).collect();
    for part in list.chunks(5_000) {
        writer.append_with(stream, ANY, &events(part), NO_KEY).unwrap();
    }
    let rows = writer.query("SELECT id, data FROM events").unwrap();
    assert_eq!(rows.len(), list.len());
    assert!(
        (0i64..)
            .zip(&rows)
            .zip(&list)
            .all(|((id, row), data)| { *row == [Value::Int64(id), Value::Bytes(data.clone())] })
    );
    for _ in 0..5 {
        let sql = "SELECT e.data FROM events e, events f".to_string();
        let request = QueryRequest { sql, ..Default::default() };
        let mut answer = writer.call(Request::Query(request)).unwrap();
        let payload = answer.payload.as_mut().unwrap();
        assert!(next_chunk(&mut **payload, 1000).unwrap().is_ok());
    }
    // The threads that those ran on are free again.
    assert_eq!(writer.count("SELECT count(*) FROM events"), 20_000);
}

/// A query that takes longer than the caller gives it ends with TIMEOUT, soon, and frees its
/// thread.
#[test]
fn slow_queries_end() {
    let engine = memory();
    let writer = writer(&engine);
    let sql =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    for _ in 0..4 {
        let request = QueryRequest { sql: sql.to_string(), ..Default::default() };
        let timeout = Some(Duration::from_millis(50));
        let started = Instant::now();
        let done = engine.handle(&writer.session, Request::Query(request), Bytes::new(), timeout);
        let outcome = block_on(done).and_then(|answer| drain(answer.payload.unwrap(), 1000));
        assert_eq!(code(outcome), ErrorCode::Timeout);
        assert!(started.elapsed() < Duration::from_secs(5));
    }
    assert_eq!(writer.query("SELECT 1").unwrap(), [[Value::Int64(1)]]);
}

/// What is wrong with a statement is said: where it cannot be understood, and what it may not do.
#[test]
fn bad_statements_are_refused() {
    let engine = memory();
    let writer = writer(&engine);
    writer.stream("events");
    assert_eq!(code(writer.query("SELEC 1")), ErrorCode::QuerySyntax);
    assert_eq!(code(writer.query("SELECT * FROM nowhere")), ErrorCode::QuerySyntax);
    for sql in ["DELETE FROM events", "CREATE TABLE x(a)", "PRAGMA user_version", "ATTACH 'x' AS y"]
    {
        assert!(writer.query(sql).is_err(), "{sql}");
    }
    let long = format!("SELECT '{}'", "x".repeat(limit::SQL_BYTES as usize));
    assert_eq!(code(writer.query(&long)), ErrorCode::LimitExceeded);
}
