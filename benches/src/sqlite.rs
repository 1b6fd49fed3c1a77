//! SQLite in this process at the same work: write-ahead log, synchronous=FULL, so that a commit is on
//! the disk before it is answered.

use std::path::Path;
use std::time::Instant;

use rusqlite::{Connection, params};

use crate::stats::Latencies;
use crate::work::EVENT_BYTES;

/// What SQLite came to, in the units of the table.
pub struct Figures {
    /// One insert at a time.
    pub one: Latencies,
    /// Events a second in transactions of 1,000.
    pub batches: f64,
    /// Events a second read in order.
    pub read: f64,
    /// Rows a second counted.
    pub count: f64,
    /// Rows a second of a statement over the last tenth by time.
    pub filter: f64,
}

/// Measures it in a new file of the folder.
pub fn measure(folder: &Path, round: usize, events: usize) -> rusqlite::Result<Figures> {
    let db = Connection::open(folder.join(format!("sqlite-{round}.db")))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, data BLOB NOT NULL);
         CREATE INDEX at ON events (at)",
    )?;
    let data = [b'x'; EVENT_BYTES];
    let insert = "INSERT INTO events (at, data) VALUES (?, ?)";
    let mut at = 0_i64;
    let mut statement = db.prepare(insert)?;
    let mut one_more = || {
        at += 1;
        statement.execute(params![at, data]).map(drop)
    };
    let one = Latencies::of(1_000, &mut one_more)?;
    let start = Instant::now();
    let batches = events / 1_000;
    for _ in 0..batches {
        db.execute_batch("BEGIN")?;
        for _ in 0..1_000 {
            one_more()?;
        }
        db.execute_batch("COMMIT")?;
    }
    let batches = (batches * 1_000) as f64 / start.elapsed().as_secs_f64();
    let per_second = |sql: &str| -> rusqlite::Result<f64> {
        let start = Instant::now();
        let mut statement = db.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            bytes += row.get_ref(0)?.as_bytes_or_null()?.map_or(0, <[u8]>::len);
        }
        std::hint::black_box(bytes);
        Ok(at as f64 / start.elapsed().as_secs_f64())
    };
    let read = per_second("SELECT data FROM events ORDER BY id")?;
    let scalar = |sql: &str| -> rusqlite::Result<f64> {
        let start = Instant::now();
        db.query_row(sql, [], |row| row.get::<_, i64>(0))?;
        Ok(at as f64 / start.elapsed().as_secs_f64())
    };
    let count = scalar("SELECT count(*) FROM events")?;
    let from = at / 10 * 9;
    let filter = format!("SELECT count(*), sum(length(data)) FROM events WHERE at >= {from}");
    let filter = scalar(&filter)?;
    Ok(Figures { one, batches, read, count, filter })
}
