//! Kinds of SQL statements over a stream of JSON events, from the server and from an embedded
//! database, beside a table of SQLite in this process.

use std::time::Instant;

use kimberlite_client::{At, CallOptions, Config, EventBatch, ExpectedOffset, StreamId, blocking};
use rusqlite::Connection;

use crate::lab::{Lab, remove};
use crate::report::Report;
use crate::table::Table;
use crate::{Failure, work};

/// What a statement does, and its text over the table `t`, whose cells both sides can read.
const STATEMENTS: [(&str, &str); 7] = [
    ("count", "SELECT COUNT(*) FROM t"),
    ("one row by its offset", "SELECT data FROM t WHERE id = 4711"),
    ("count of the last 10 % by time", "SELECT COUNT(*) FROM t WHERE timestamp_ns >= $from"),
    ("JSON filter", "SELECT COUNT(*) FROM t WHERE data ->> '$.status' = 'failed'"),
    ("JSON sum", "SELECT SUM(data ->> '$.amount') FROM t"),
    ("group by JSON", "SELECT data ->> '$.status' AS s, COUNT(*) FROM t GROUP BY s"),
    ("every row", "SELECT id, timestamp_ns, data FROM t"),
];

/// Measures every statement on each of the three in turn.
pub fn run(lab: &Lab) -> Result<Report, Failure> {
    let rows = lab.amount(500_000, 20_000);
    let server = lab.server()?;
    let remote = lab.client(&server)?;
    let folder = lab.path("embedded");
    remove(&folder)?;
    let address = format!("embedded:{}", folder.display());
    let embedded = blocking::Client::connect(Config::new([address]).tenant(1))?;
    let from = fill(&remote, rows)?;
    let from_embedded = fill(&embedded, rows)?;
    let (native, from_native) = sqlite(rows)?;
    let mut table = Table::default();
    for _ in lab.rounds() {
        for (what, sql) in STATEMENTS {
            let one = sql.contains("WHERE id");
            let mut record = |system: &str, seconds: f64| {
                let name = format!("{what}: {system}");
                if one {
                    table.add(name, seconds * 1e6, "µs", "");
                } else {
                    table.add(name, rows as f64 / seconds, "rows/s", budget(what, system));
                }
            };
            record("server", time(|| ask(&remote, sql, from))?);
            record("embedded", time(|| ask(&embedded, sql, from_embedded))?);
            record("SQLite", time(|| ask_sqlite(&native, sql, from_native))?);
        }
    }
    embedded.close(60_000)?;
    remote.close(5000)?;
    server.stop()?;
    let mut report = Report::default();
    report.text(&format!("{rows} JSON events; rows are those of the whole stream."));
    report.table(&table);
    Ok(report)
}

fn budget(what: &str, system: &str) -> &'static str {
    let ours = system != "SQLite" && (what == "count" || what.contains("by time"));
    if ours { "≥ 50M" } else { "" }
}

/// Seconds of the second run; the first one warms caches up.
fn time(mut work: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    work()?;
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}

fn event(number: usize) -> String {
    let status = ["paid", "open", "failed", "refunded"].get(number % 7 % 4).copied();
    let (status, amount) = (status.unwrap_or("paid"), number * 31 % 10_000);
    format!(r#"{{"order":{number},"status":"{status}","amount":{amount},"note":"one of many"}}"#)
}

/// Appends the events, and tells the commit time of the one nine tenths in.
fn fill(client: &blocking::Client, rows: usize) -> Result<u64, Failure> {
    let stream: StreamId = work::stream(client, "t")?;
    for first in (0..rows).step_by(500) {
        let batch = EventBatch::from_events((first..first + 500).map(event))?;
        client.append(stream, ExpectedOffset::Any, batch, &CallOptions::default())?;
    }
    let page = client.read(stream, rows as u64 * 9 / 10, 1, 0, &CallOptions::default())?;
    Ok(page.timestamps().first().copied().unwrap_or(0))
}

/// Runs a statement and looks at every batch of its rows.
fn ask(client: &blocking::Client, sql: &str, from: u64) -> Result<(), Failure> {
    let sql = sql.replace("$from", &from.to_string());
    let mut cursor = client.query_cursor(&sql, &[], At::Now, &CallOptions::default())?;
    let mut rows = 0;
    while let Some(batch) = cursor.next_batch()? {
        rows += batch.row_count();
    }
    if rows == 0 { Err(format!("{sql}: no row").into()) } else { Ok(()) }
}

/// A table in memory with an index of the times, which are numbers here.
fn sqlite(rows: usize) -> Result<(Connection, u64), Failure> {
    let db = Connection::open_in_memory()?;
    db.execute_batch("CREATE TABLE t (id INTEGER PRIMARY KEY, timestamp_ns INTEGER, data); BEGIN")?;
    let mut insert = db.prepare("INSERT INTO t VALUES (?, ?, ?)")?;
    for number in 0..rows {
        insert.execute((number as i64, number as i64, event(number)))?;
    }
    drop(insert);
    db.execute_batch("COMMIT; CREATE INDEX by_time ON t (timestamp_ns)")?;
    Ok((db, rows as u64 * 9 / 10))
}

fn ask_sqlite(db: &Connection, sql: &str, from: u64) -> Result<(), Failure> {
    let sql = sql.replace("$from", &from.to_string());
    let mut statement = db.prepare(&sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            std::hint::black_box(row.get_ref(column)?);
        }
    }
    Ok(())
}
