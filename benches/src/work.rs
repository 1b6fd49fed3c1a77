//! The pieces of work that are measured, through the Rust client.

use std::time::Instant;

use kimberlite_client::blocking;
use kimberlite_client::{
    At, CallOptions, DataClass, Error, EventBatch, ExpectedOffset, StreamId, Value,
};
use tokio::task::JoinSet;

use crate::stats::Latencies;

/// The size of every event, in bytes.
pub const EVENT_BYTES: usize = 100;

const DEFAULTS: CallOptions = CallOptions { timeout_ms: None, min_position: 0, stale: false };

/// A batch of events of [`EVENT_BYTES`].
pub fn batch(events: usize) -> Result<EventBatch, Error> {
    EventBatch::from_events((0..events).map(|_| [b'x'; EVENT_BYTES]))
}

/// Appends of one event, one at a time.
pub fn append_latency(
    client: &blocking::Client,
    stream: StreamId,
    count: usize,
) -> Result<Latencies, Error> {
    let one = batch(1)?;
    Latencies::of(count, || {
        client.append(stream, ExpectedOffset::Any, one.clone(), &DEFAULTS).map(drop)
    })
}

/// Appends of `events` each with `in_flight` under way: events per second.
pub fn append_rate(
    client: &blocking::Client,
    stream: StreamId,
    in_flight: usize,
    events: usize,
    total: usize,
) -> Result<f64, Error> {
    batch_rate(client, stream, in_flight, &batch(events)?, total)
}

/// Appends of a batch, `in_flight` under way, about `total` events in all: events per second.
pub fn batch_rate(
    client: &blocking::Client,
    stream: StreamId,
    in_flight: usize,
    batch: &EventBatch,
    total: usize,
) -> Result<f64, Error> {
    let client = client.to_async();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|e| Error::invalid(e.to_string()))?;
    let events = batch.count() as usize;
    let rounds = total / in_flight / events;
    let start = Instant::now();
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..in_flight {
            let (client, shared) = (client.clone(), batch.clone());
            tasks.spawn(async move {
                for _ in 0..rounds {
                    client.append(stream, ExpectedOffset::Any, shared.clone(), &DEFAULTS).await?;
                }
                Ok::<(), Error>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.map_err(|e| Error::invalid(e.to_string()))??;
        }
        Ok::<(), Error>(())
    })?;
    Ok((rounds * in_flight * events) as f64 / start.elapsed().as_secs_f64())
}

/// A sequential read of the whole stream in pages of 10,000: events per second.
pub fn read_rate(client: &blocking::Client, stream: StreamId) -> Result<f64, Error> {
    read_rate_of(client, stream, EVENT_BYTES)
}

/// The same where every event has `size` bytes.
pub fn read_rate_of(
    client: &blocking::Client,
    stream: StreamId,
    size: usize,
) -> Result<f64, Error> {
    let start = Instant::now();
    let mut events = 0;
    let mut bytes = 0;
    for page in client.pages(stream, 0, 10_000) {
        let page = page?;
        events += page.count();
        bytes += page.data().len();
    }
    assert_eq!(bytes, events * size, "every event has the same size");
    Ok(events as f64 / start.elapsed().as_secs_f64())
}

/// One statement over a stream of `rows` events: rows per second.
pub fn query_rate(
    client: &blocking::Client,
    sql: &str,
    params: &[Value],
    rows: usize,
) -> Result<f64, Error> {
    let start = Instant::now();
    client.query(sql, params, At::Now, &DEFAULTS)?;
    Ok(rows as f64 / start.elapsed().as_secs_f64())
}

/// A new stream.
pub fn stream(client: &blocking::Client, name: &str) -> Result<StreamId, Error> {
    client.create_stream(name, DataClass::NonPhi, &DEFAULTS)
}
