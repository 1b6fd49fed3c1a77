//! The usual pieces of work, on the device, the server and the embedded database, beside peers.

use kimberlite_client::{Config, Value, blocking};

use crate::lab::{Lab, config};
use crate::report::Report;
use crate::table::Table;
use crate::{Failure, device, lab, peers, work};

/// Measures them in every round.
pub fn run(lab: &Lab) -> Result<Report, Failure> {
    let server = lab.server()?;
    let mut table = Table::default();
    for round in lab.rounds() {
        let memory = "server: resident memory";
        let idle = format!("{memory} before any work");
        if round == 0 {
            table.add(idle, server.resident_mb()?, "MB", "≤ 64 MB + caches");
        }
        let folder = &lab.arguments.folder;
        let sync = device::sync_4k(folder, lab.amount(1000, 200))?;
        let trip = device::round_trip(5000)?;
        table.add("device: fdatasync of 4 KiB, p50", sync.micros(50.0), "µs", "");
        table.add("device: TCP round trip, p50", trip.micros(50.0), "µs", "");
        let rate = device::write_8m(folder, lab.amount(32, 8))?;
        table.add("device: sequential writes of 8 MiB, each synced", rate / 1e6, "MB/s", "");

        let remote = blocking::Client::connect(config(&server))?;
        let budget = "≤ 1.3 × (fdatasync + trip)";
        let floor = Floor { micros: sync.micros(50.0) + trip.micros(50.0), budget };
        measure(lab, &mut table, "server", &remote, round, &floor)?;
        remote.close(5000)?;
        table.add(format!("{memory} after it"), server.resident_mb()?, "MB", "≤ 64 MB + caches");

        let folder = lab.path("embedded");
        lab::remove(&folder)?;
        let address = format!("embedded:{}", folder.display());
        let embedded = blocking::Client::connect(Config::new([address]).tenant(1))?;
        let floor = Floor { micros: sync.micros(50.0), budget: "≤ 1.2 × fdatasync" };
        measure(lab, &mut table, "embedded", &embedded, round, &floor)?;
        embedded.close(60_000)?;
        lab::remove(&folder)?;

        if let Some(program) = &lab.arguments.peers {
            peers::measure(lab, &mut table, program, round)?;
        }
    }
    server.stop()?;
    let mut report = Report::default();
    report.table(&table);
    Ok(report)
}

/// What the device alone takes for one durable append.
struct Floor {
    micros: f64,
    budget: &'static str,
}

fn measure(
    lab: &Lab,
    table: &mut Table,
    door: &str,
    client: &blocking::Client,
    round: usize,
    floor: &Floor,
) -> Result<(), Failure> {
    let name = |what: &str| format!("{door}: {what}");
    let single = work::stream(client, &format!("single-{round}"))?;
    let one = work::append_latency(client, single, lab.amount(1000, 200))?;
    table.add(name("one append at a time, p50"), one.micros(50.0), "µs", "");
    table.add(name("one append at a time, p99"), one.micros(99.0), "µs", "");
    let beside = one.micros(50.0) / floor.micros;
    table.add(name("the same p50 beside the device"), beside, "×", floor.budget);

    let many = work::stream(client, &format!("many-{round}"))?;
    let rate = work::append_rate(client, many, 64, 1, 64 * lab.amount(1500, 150))?;
    table.add(name("64 appends in flight"), rate, "events/s", "≥ 60k");

    let stream = format!("batches{round}");
    let big = work::stream(client, &stream)?;
    let rate = work::append_rate(client, big, 16, 1000, lab.amount(1_000_000, 100_000))?;
    table.add(name("16 batches of 1,000 in flight"), rate, "events/s", "≥ 2M");
    table.add(name("sequential read"), work::read_rate(client, big)?, "events/s", "≥ 5M");

    let rows = client.stream_info(big, &Default::default())?.next_offset as usize;
    let count = format!("SELECT COUNT(*) FROM {stream}");
    table.add(name("SQL count"), work::query_rate(client, &count, &[], rows)?, "rows/s", "≥ 50M");
    // Ten per cent of the stream by time: from the commit time of the event nine tenths in.
    let page = client.read(big, rows as u64 * 9 / 10, 1, 0, &Default::default())?;
    let from = page.timestamps().first().copied().unwrap_or(0);
    let filter =
        format!("SELECT COUNT(*), SUM(length(data)) FROM {stream} WHERE timestamp_ns >= ?");
    let params = [Value::Int64(i64::try_from(from)?)];
    let rate = work::query_rate(client, &filter, &params, rows)?;
    table.add(name("SQL over the last 10 % by time"), rate, "rows/s", "≥ 50M");
    Ok(())
}
