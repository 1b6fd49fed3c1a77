//! Latency and throughput against the size of an event, from 16 bytes to 1 MiB.

use kimberlite_client::{CallOptions, EventBatch, ExpectedOffset, blocking};

use crate::figures::{bytes, count};
use crate::lab::Lab;
use crate::plot::Axis;
use crate::report::Report;
use crate::stats::Latencies;
use crate::sweep::Sweep;
use crate::{Failure, work};

const SIZES: [usize; 9] = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];

/// Measures every size in every round, each round on an empty server.
pub fn run(lab: &Lab) -> Result<Report, Failure> {
    let mut sweep = Sweep::new("bytes an event", bytes);
    for _ in lab.rounds() {
        let server = lab.server()?;
        let client = lab.client(&server)?;
        for size in SIZES {
            measure(lab, &mut sweep, &client, size)?;
            sweep.add("server's memory", "MB", size as f64, server.resident_mb()?);
        }
        client.close(5000)?;
        server.stop()?;
    }
    let mut report = Report::default();
    report.text(
        "One append of one event at a time; 16 batches in flight of up to 1,000 events and up to \
         256 KiB or one event; reads in order, in pages of up to 16 MiB.",
    );
    report.text(&sweep.markdown());
    let axis =
        |label: &str| Axis { label: label.into(), log: true, spell: count, ticks: Vec::new() };
    let title = "One append at a time, by the size of its event";
    report.plot("sizes-latency", &sweep.plot(title, &["p50", "p99"], axis("latency, µs")));
    let title = "Throughput by the size of an event";
    let names = ["append, data", "read, data"];
    report.plot("sizes-rate", &sweep.plot(title, &names, axis("MB a second")));
    Ok(report)
}

fn measure(
    lab: &Lab,
    sweep: &mut Sweep,
    client: &blocking::Client,
    size: usize,
) -> Result<(), Failure> {
    let at = size as f64;
    let event = vec![b'x'; size];
    let options = CallOptions::default();
    let single = work::stream(client, &format!("one-{size}"))?;
    let one = EventBatch::from_events([&event])?;
    let latencies = Latencies::of(lab.amount(300, 30), || {
        client.append(single, ExpectedOffset::Any, one.clone(), &options).map(drop)
    })?;
    sweep.add("p50", "µs", at, latencies.micros(50.0));
    sweep.add("p99", "µs", at, latencies.micros(99.0));

    let each = ((256 << 10) / size).clamp(1, 1000);
    let most_bytes = lab.amount(192 << 20, 8 << 20);
    let total = (most_bytes / size).min(lab.amount(1_000_000, 100_000)).max(16 * each);
    let stream = work::stream(client, &format!("many-{size}"))?;
    let batch = EventBatch::from_events(vec![&event; each])?;
    let rate = work::batch_rate(client, stream, 16, &batch, total)?;
    sweep.add("append", "events/s", at, rate);
    sweep.add("append, data", "MB/s", at, rate * at / 1e6);
    let rate = work::read_rate_of(client, stream, size)?;
    sweep.add("read", "events/s", at, rate);
    sweep.add("read, data", "MB/s", at, rate * at / 1e6);
    Ok(())
}
