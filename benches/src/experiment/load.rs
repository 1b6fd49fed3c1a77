//! Latencies against load: calls by a fixed schedule on one client, from little to more than it can
//! take, each latency counted from when its call was due.

use kimberlite_client::{CallOptions, Client, Error, ExpectedOffset, StreamId};

use crate::figures::count;
use crate::lab::Lab;
use crate::open_loop::{self, Outcome};
use crate::plot::Axis;
use crate::report::Report;
use crate::sweep::Sweep;
use crate::{Failure, work};

const APPENDS: [f64; 11] = [1e3, 2e3, 5e3, 10e3, 20e3, 40e3, 60e3, 80e3, 100e3, 120e3, 160e3];
const READS: [f64; 10] = [1e3, 2e3, 5e3, 10e3, 20e3, 40e3, 60e3, 80e3, 100e3, 120e3];
const PERCENTILES: [(&str, f64); 3] = [("p50", 50.0), ("p99", 99.0), ("p99.9", 99.9)];

/// Beyond the first rate that is not kept up with to this share a backlog only grows faster.
const KEPT_UP: f64 = 0.75;
/// Long enough for every backlog: what is measured is how late an answer comes, not that one fails.
const OPTIONS: CallOptions =
    CallOptions { timeout_ms: Some(120_000), min_position: 0, stale: false };

/// Events of the stream that is read from, in blocks as callers make them who append one by one.
const STORED: usize = 96_000;

/// Measures appends and reads of one event at every rate.
pub fn run(lab: &Lab) -> Result<Report, Failure> {
    let server = lab.server()?;
    let client = lab.client(&server)?;
    let stored = work::stream(&client, "stored")?;
    work::append_rate(&client, stored, 64, 1, STORED)?;
    let appended = work::stream(&client, "appended")?;
    let client = client.to_async();
    let mut appends = Sweep::new("appends a second due", count);
    let mut reads = Sweep::new("reads a second due", count);
    let seconds = lab.amount(2.0, 0.3);
    for _ in lab.rounds() {
        up(&mut appends, &APPENDS, |rate| append(&client, appended, rate, seconds))?;
        up(&mut reads, &READS, |rate| read(&client, stored, rate, seconds))?;
    }
    drop(client);
    server.stop()?;
    let mut report = Report::default();
    let each = format!("One client, one event of 100 bytes a call, {seconds} s at each rate.");
    report.text(&each);
    for (name, title, sweep) in [
        ("load-appends", "Appends: latency from when the call was due", &appends),
        ("load-reads", "Reads of one event: latency from when the call was due", &reads),
    ] {
        report.text(&sweep.markdown());
        let y = Axis { label: "latency, µs".into(), log: true, spell: count, ticks: Vec::new() };
        report.plot(name, &sweep.plot(title, &PERCENTILES.map(|(name, _)| name), y));
    }
    Ok(report)
}

/// Raises the rate until it is not kept up with.
fn up(
    sweep: &mut Sweep,
    rates: &[f64],
    mut measure: impl FnMut(f64) -> Result<Outcome, Failure>,
) -> Result<(), Failure> {
    for rate in rates {
        let outcome = measure(*rate)?;
        sweep.add("answered", "a second", *rate, outcome.answered_per_second);
        for (name, percent) in PERCENTILES {
            sweep.add(name, "µs", *rate, outcome.latencies.micros(percent));
        }
        if outcome.answered_per_second < rate * KEPT_UP {
            break;
        }
    }
    Ok(())
}

fn append(client: &Client, to: StreamId, rate: f64, seconds: f64) -> Result<Outcome, Failure> {
    let one = work::batch(1)?;
    open_loop::run(rate, seconds, || {
        let (client, one) = (client.clone(), one.clone());
        async move {
            client.append(to, ExpectedOffset::Any, one, &OPTIONS).await?;
            Ok::<(), Error>(())
        }
    })
}

fn read(client: &Client, from: StreamId, rate: f64, seconds: f64) -> Result<Outcome, Failure> {
    let mut next = 0;
    open_loop::run(rate, seconds, || {
        // A step that shares no factor with the length visits every event, in no order.
        next = (next + 61_801) % STORED as u64;
        let (client, offset) = (client.clone(), next);
        async move {
            client.read(from, offset, 1, 0, &OPTIONS).await?;
            Ok::<(), Error>(())
        }
    })
}
