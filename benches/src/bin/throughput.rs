//! The Rust client's throughput on a `memory:` database, a piece of work for each line of standard
//! input, so that another language's can be measured in turn with it:
//! `append BATCHES`, `pages` and `query`. Prints events or rows per second.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use kimberlite_client::blocking::Client;
use kimberlite_client::{
    At, CallOptions, Config, DataClass, EventBatch, ExpectedOffset, StreamId, ValueRef,
};

const DEFAULTS: CallOptions = CallOptions { timeout_ms: None, min_position: 0, stale: false };
const SQL: &str = "SELECT id, timestamp, data FROM events";

fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::connect(Config::new(["memory:"]).tenant(1))?;
    let stream = client.create_stream("events", DataClass::NonPhi, &DEFAULTS)?;
    let events = vec![vec![0u8; 100]; 1000];
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let start = Instant::now();
        let done = match line.split_once(' ').unwrap_or((&line, "")) {
            ("append", batches) => append(&client, stream, &events, batches.parse()?)?,
            ("pages", _) => pages(&client, stream)?,
            ("query", _) => query(&client)?,
            (other, _) => return Err(format!("{other:?} is no work").into()),
        };
        println!("{}", done as f64 / start.elapsed().as_secs_f64());
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Packs and appends batches, one in flight.
fn append(
    client: &Client,
    stream: StreamId,
    events: &[Vec<u8>],
    batches: usize,
) -> Result<usize, Box<dyn Error>> {
    for _ in 0..batches {
        let batch = EventBatch::from_events(events)?;
        client.append(stream, ExpectedOffset::Any, batch, &DEFAULTS)?;
    }
    Ok(batches * events.len())
}

/// Reads the stream in pages of 10,000.
fn pages(client: &Client, stream: StreamId) -> Result<usize, Box<dyn Error>> {
    let mut events = 0;
    for page in client.pages(stream, 0, 10_000) {
        events += black_box(page?.data()).len() / 100;
    }
    Ok(events)
}

/// Reads the stream by SQL and looks at every cell.
fn query(client: &Client) -> Result<usize, Box<dyn Error>> {
    let mut cursor = client.query_cursor(SQL, &[], At::Now, &DEFAULTS)?;
    let mut rows = 0;
    while let Some(batch) = cursor.next_batch()? {
        for row in batch.rows() {
            for column in 0..row.len() {
                match row.value(column)? {
                    ValueRef::Int64(value) => drop(black_box(value)),
                    value => drop(black_box(value)),
                }
            }
            rows += 1;
        }
    }
    Ok(rows)
}
