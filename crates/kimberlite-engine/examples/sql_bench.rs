//! Measures SQL over a million events beside the same statements over a native SQLite table.
//!
//! `cargo run --profile fast --example sql_bench -p kimberlite-engine`

#[path = "../tests/sql_support/mod.rs"]
mod sql_support;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use kimberlite_engine::sql::{Cut, QueryLimits, prepare};
use kimberlite_wire::DataClass;
use sql_support::{FakeCut, FakeTable};

const EVENTS: u64 = 1_000_000;
const EVENTS_PER_BLOCK: u64 = 500;
const RUNS: usize = 5;

/// One event a millisecond from 1,700,000,000 s on.
const FIRST_MS: u64 = 1_700_000_000_000;

const STATEMENTS: [(&str, &str); 8] = [
    ("count", "SELECT COUNT(*) FROM t"),
    (
        "count of 10 %",
        "SELECT COUNT(*) FROM t WHERE timestamp >= 1700000300 AND timestamp < 1700000400",
    ),
    ("count by SQLite", "SELECT COUNT(*) + 0 FROM t"),
    ("JSON filter", "SELECT COUNT(*) FROM t WHERE data ->> '$.status' = 'failed'"),
    (
        "sum of 10 %",
        "SELECT sum(data ->> '$.amount') FROM t WHERE timestamp >= 1700000300 AND \
         timestamp < 1700000400",
    ),
    ("time buckets", "SELECT timestamp / 60 * 60 AS minute, COUNT(*) FROM t GROUP BY minute"),
    ("group by JSON", "SELECT data ->> '$.status' AS s, COUNT(*) FROM t GROUP BY s"),
    ("every row", "SELECT id, timestamp, data FROM t"),
];

fn event(id: u64) -> Vec<u8> {
    let status = ["paid", "open", "failed", "refunded"][(id % 7 % 4) as usize];
    let amount = id * 31 % 10_000;
    format!(r#"{{"order":{id},"status":"{status}","amount":{amount},"note":"one of many events"}}"#)
        .into_bytes()
}

fn timestamp_ns(id: u64) -> u64 {
    (FIRST_MS + id) * 1_000_000
}

fn main() {
    let blocks: Vec<(u64, Vec<Vec<u8>>)> = (0..EVENTS / EVENTS_PER_BLOCK)
        .map(|block| {
            let ids = block * EVENTS_PER_BLOCK..(block + 1) * EVENTS_PER_BLOCK;
            (timestamp_ns(ids.start), ids.map(event).collect())
        })
        .collect();
    let cut = FakeCut::of(vec![FakeTable::new("t", DataClass::NonPhi, &blocks)]);
    set_up_cost(&cut);
    let native = native(&blocks);
    println!("{:<16} {:>14} {:>14} {:>8}", "", "events/s", "native", "ratio");
    for (name, sql) in STATEMENTS {
        let ours = fastest(|| run(&cut, sql));
        let theirs = fastest(|| run_native(&native, sql));
        let rate = |time: Duration| EVENTS as f64 / time.as_secs_f64() / 1e6;
        println!(
            "{name:<16} {:>12.2} M {:>12.2} M {:>8.2}",
            rate(ours),
            rate(theirs),
            theirs.as_secs_f64() / ours.as_secs_f64()
        );
    }
}

fn set_up_cost(cut: &Arc<FakeCut>) {
    for sql in ["SELECT 1", "SELECT data FROM t WHERE id = 5", "SELECT COUNT(*) FROM t"] {
        let repeats: u32 = 2_000;
        run(cut, sql);
        let start = Instant::now();
        for _ in 0..repeats {
            run(cut, sql);
        }
        println!("{sql:<34} {:>8.1} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(repeats));
    }
}

fn fastest(mut work: impl FnMut() -> usize) -> Duration {
    let once = |work: &mut dyn FnMut() -> usize| {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed()
    };
    (0..RUNS).map(|_| once(&mut work)).min().unwrap_or_default()
}

fn run(cut: &Arc<FakeCut>, sql: &str) -> usize {
    let cut = Arc::clone(cut) as Arc<dyn Cut>;
    let prepared =
        prepare(cut, sql, &[], &QueryLimits { memory_bytes: 256 << 20, ..QueryLimits::default() })
            .expect("it compiles");
    let mut bytes = 0;
    let mut sink = |batch: bytes::Bytes| {
        bytes += batch.len();
        true
    };
    prepared.run(&mut sink, &AtomicBool::new(false)).expect("it runs");
    bytes
}

fn native(blocks: &[(u64, Vec<Vec<u8>>)]) -> rusqlite::Connection {
    let db = rusqlite::Connection::open_in_memory().expect("SQLite opens");
    db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, timestamp INTEGER, data TEXT); BEGIN")
        .expect("the table is made");
    let mut id = 0i64;
    let mut insert = db.prepare("INSERT INTO t VALUES (?1, ?2, ?3)").expect("it compiles");
    for (timestamp_ns, events) in blocks {
        let seconds = (timestamp_ns / 1_000_000_000).cast_signed();
        for event in events {
            let text = std::str::from_utf8(event).expect("the events are text");
            insert.execute((id, seconds, text)).expect("the row goes in");
            id += 1;
        }
    }
    drop(insert);
    db.execute_batch("COMMIT; CREATE INDEX by_time ON t(timestamp)").expect("the index is made");
    db
}

fn run_native(db: &rusqlite::Connection, sql: &str) -> usize {
    let mut statement = db.prepare(sql).expect("it compiles");
    let columns = statement.column_count();
    let mut rows = statement.query([]).expect("it runs");
    let mut bytes = 0;
    while let Some(row) = rows.next().expect("it goes on") {
        for column in 0..columns {
            bytes += match row.get_ref_unwrap(column) {
                rusqlite::types::ValueRef::Text(text) => text.len(),
                _ => 8,
            };
        }
    }
    bytes
}
