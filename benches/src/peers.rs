//! Other databases at the same work: the Go program `peers` drives their servers, SQLite runs here.

use std::path::Path;
use std::process::Command;

use crate::lab::Lab;
use crate::table::Table;
use crate::{Failure, sqlite};

/// What each of them comes to in this round, and how many times as much Kimberlite does.
pub fn measure(lab: &Lab, table: &mut Table, program: &Path, round: usize) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.arg("-folder").arg(lab.path("peers"));
    command.args(["-seconds", lab.amount("3", "0.5")]);
    command.args(["-events", lab.amount("300000", "20000")]);
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {errors}").into());
    }
    for line in String::from_utf8(output.stdout)?.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [peer, work, figure] = fields[..] else { return Err(line.into()) };
        beside(table, "server", peer, work, figure.parse()?);
    }
    let events = lab.amount(200_000, 20_000);
    let sqlite = sqlite::measure(&lab.arguments.folder, round, events)?;
    let (p50, p99) = (sqlite.one.micros(50.0), sqlite.one.micros(99.0));
    for (work, figure) in [
        ("one append at a time, p50", p50),
        ("one append at a time, p99", p99),
        ("16 batches of 1,000 in flight", sqlite.batches),
        ("sequential read", sqlite.read),
        ("SQL count", sqlite.count),
        ("SQL over the last 10 % by time", sqlite.filter),
    ] {
        beside(table, "embedded", "SQLite", work, figure);
    }
    Ok(())
}

/// One figure of a peer, and how Kimberlite's of the same round compares.
fn beside(table: &mut Table, door: &str, peer: &str, work: &str, figure: f64) {
    let is_latency = work.ends_with("p50") || work.ends_with("p99");
    let unit = match work {
        _ if is_latency => "µs",
        _ if work.starts_with("SQL") => "rows/s",
        _ => "events/s",
    };
    table.add(format!("{peer}: {work}"), figure, unit, "");
    if let Some(ours) = table.newest(&format!("{door}: {work}")) {
        let times = if is_latency { figure / ours } else { ours / figure };
        let budget = match (peer, work) {
            ("PostgreSQL", "64 appends in flight" | "16 batches of 1,000 in flight") => "≥ 8 ×",
            _ => "",
        };
        table.add(format!("{door} beside {peer}: {work}"), times, "× better", budget);
    }
}
