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

/// Events of the stream that is read from.
const STORED: usize = 96_000;

/// Measures appends and reads of one event at every rate.
pub fn run(lab: &Lab) -> Result<Report, Failure> {
    let server = lab.server()?;
    let client = lab.client(&server)?;
    let stored = work::stream(&client, "stored")?;
    work::append_rate(&client, stored, 16, 100, STORED)?;
    let appended = work::stream(&client, "appended")?;
    let client = client.to_async();
    let mut appends = Sweep::new("appends a second due", count);
    let mut reads = Sweep::new("reads a second due", count);
    let seconds = lab.amount(2.0, 0.3);
    for _ in lab.rounds() {
        for rate in APPENDS {
            record(&mut appends, rate, &append(&client, appended, rate, seconds)?);
        }
        for rate in READS {
            record(&mut reads, rate, &read(&client, stored, rate, seconds)?);
        }
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

fn record(sweep: &mut Sweep, rate: f64, outcome: &Outcome) {
    sweep.add("answered", "a second", rate, outcome.answered_per_second);
    for (name, percent) in PERCENTILES {
        sweep.add(name, "µs", rate, outcome.latencies.micros(percent));
    }
}

fn append(client: &Client, to: StreamId, rate: f64, seconds: f64) -> Result<Outcome, Failure> {
    let one = work::batch(1)?;
    open_loop::run(rate, seconds, || {
        let (client, one) = (client.clone(), one.clone());
        async move {
            let options = CallOptions::default();
            client.append(to, ExpectedOffset::Any, one, &options).await?;
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
            client.read(from, offset, 1, 0, &CallOptions::default()).await?;
            Ok::<(), Error>(())
        }
    })
}
