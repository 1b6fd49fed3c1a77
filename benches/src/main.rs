//! `kimberlite-bench`: what Kimberlite does on this machine, beside what the machine does raw.
//!
//! `cargo xtask bench` builds everything, starts a server and runs this; see docs/BENCHMARKS.md.

mod device;
mod sqlite;
mod stats;
mod work;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use kimberlite_client::{Config, Value, blocking};

use stats::{Latencies, median};

#[derive(Parser)]
struct Arguments {
    /// A folder on the disk that is measured.
    #[arg(long)]
    folder: PathBuf,
    /// The address of a server whose data lies on the same disk.
    #[arg(long)]
    server: String,
    /// The server's token.
    #[arg(long)]
    token: String,
    /// Rounds; each runs every piece of work once, and medians of the rounds are printed.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Events of the streams that are read and queried.
    #[arg(long, default_value_t = 1_000_000)]
    events: usize,
    /// `NAME=PROGRAM`: measures the overhead of an SDK; the program prints `append P50 P99` and
    /// `read P50 P99` in microseconds, on a `memory:` database.
    #[arg(long)]
    sdk: Vec<String>,
    /// A program that prints the microseconds of one cold start; it is run 15 times a round.
    #[arg(long)]
    cold_start: Option<String>,
    /// The stripped library, whose size is told.
    #[arg(long)]
    library: Option<PathBuf>,
    /// The program `peers`, which measures other databases at the same work; SQLite is measured too.
    #[arg(long)]
    peers: Option<PathBuf>,
}

/// One line of the table: the name, the figure of each round, its unit, and its budget.
struct Row {
    name: String,
    figures: Vec<f64>,
    unit: &'static str,
    budget: String,
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn add(&mut self, name: impl Into<String>, figure: f64, unit: &'static str, budget: &str) {
        let name = name.into();
        if let Some(row) = self.0.iter_mut().find(|row| row.name == name) {
            row.figures.push(figure);
        } else {
            self.0.push(Row { name, figures: vec![figure], unit, budget: budget.into() });
        }
    }

    /// The newest figure of a row.
    fn newest(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|row| row.name == name)?.figures.last().copied()
    }

    fn print(&mut self) {
        println!("| work | median | lowest to highest | budget |\n| --- | --- | --- | --- |");
        for row in &mut self.0 {
            let middle = median(&mut row.figures);
            let (low, high) = (row.figures.first(), row.figures.last());
            println!(
                "| {} | {} {} | {} to {} | {} |",
                row.name,
                short(middle),
                row.unit,
                short(low.copied().unwrap_or(0.0)),
                short(high.copied().unwrap_or(0.0)),
                row.budget
            );
        }
    }
}

/// A figure with three digits that mean something.
fn short(figure: f64) -> String {
    match figure {
        f if f >= 1e6 => format!("{:.2}M", f / 1e6),
        f if f >= 1e4 => format!("{:.1}k", f / 1e3),
        f if f >= 100.0 => format!("{f:.0}"),
        f if f >= 10.0 => format!("{f:.1}"),
        f => format!("{f:.2}"),
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut table = Table::default();
    for round in 0..arguments.rounds {
        eprintln!("round {} of {}, load {}", round + 1, arguments.rounds, stats::load());
        if let Err(error) = run_round(&arguments, round, &mut table) {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    }
    println!("Medians of {} rounds; load at the end {}.\n", arguments.rounds, stats::load());
    table.print();
    ExitCode::SUCCESS
}

type Failure = Box<dyn std::error::Error>;

fn run_round(arguments: &Arguments, round: usize, table: &mut Table) -> Result<(), Failure> {
    let sync = device::sync_4k(&arguments.folder, 1000)?;
    let trip = device::round_trip(5000)?;
    table.add("device: fdatasync of 4 KiB, p50", sync.micros(50.0), "µs", "");
    table.add("device: TCP round trip, p50", trip.micros(50.0), "µs", "");
    let rate = device::write_8m(&arguments.folder, 32)?;
    table.add("device: sequential writes of 8 MiB, each synced", rate / 1e6, "MB/s", "");

    let floor = sync.micros(50.0) + trip.micros(50.0);
    let remote = blocking::Client::connect(
        Config::new([&arguments.server]).tenant(1).token(&arguments.token),
    )?;
    measure(
        table,
        "server",
        &remote,
        round,
        arguments.events,
        floor,
        "≤ 1.3 × (fdatasync + trip)",
    )?;
    remote.close(5000)?;

    let folder = arguments.folder.join(format!("embedded-{round}"));
    let address = format!("embedded:{}", folder.display());
    let embedded = blocking::Client::connect(Config::new([address]).tenant(1))?;
    let floor = sync.micros(50.0);
    measure(table, "embedded", &embedded, round, arguments.events, floor, "≤ 1.2 × fdatasync")?;
    embedded.close(60_000)?;
    std::fs::remove_dir_all(&folder)?;

    if let Some(program) = &arguments.peers {
        peers(table, program, &arguments.folder, round)?;
    }
    overhead(table, &arguments.sdk)?;
    if let Some(program) = &arguments.cold_start {
        let mut micros = Vec::new();
        for _ in 0..15 {
            micros.push(run(program)?.trim().parse::<f64>()?);
        }
        let name = "C: load the library, connect over TLS, first answer";
        table.add(name, median(&mut micros) / 1e3, "ms", "≤ 15 ms");
    }
    if let Some(library) = &arguments.library {
        let megabytes = std::fs::metadata(library)?.len() as f64 / 1e6;
        table.add(
            "the stripped library, SQL and embedded database included",
            megabytes,
            "MB",
            "≤ 5 MB",
        );
    }
    Ok(())
}

/// What a program prints; its arguments are separated by single spaces.
fn run(program: &str) -> Result<String, Failure> {
    let mut words = program.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output()?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program}: {errors}").into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn measure(
    table: &mut Table,
    door: &str,
    client: &blocking::Client,
    round: usize,
    events: usize,
    floor_micros: f64,
    budget: &str,
) -> Result<(), Failure> {
    let name = |what: &str| format!("{door}: {what}");
    let single = work::stream(client, &format!("single-{round}"))?;
    let one = work::append_latency(client, single, 1000)?;
    table.add(name("one append at a time, p50"), one.micros(50.0), "µs", "");
    table.add(name("one append at a time, p99"), one.micros(99.0), "µs", "");
    table.add(name("the same p50 beside the device"), one.micros(50.0) / floor_micros, "×", budget);

    let many = work::stream(client, &format!("many-{round}"))?;
    let rate = work::append_rate(client, many, 64, 1, 64 * 1500)?;
    table.add(name("64 appends in flight"), rate, "events/s", "≥ 60k");

    let stream = format!("batches{round}");
    let big = work::stream(client, &stream)?;
    let rate = work::append_rate(client, big, 16, 1000, events)?;
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

/// What other databases come to at the same work, and how many times as much Kimberlite does.
fn peers(table: &mut Table, program: &Path, folder: &Path, round: usize) -> Result<(), Failure> {
    let told = run(&format!("{} -folder {}", program.display(), folder.join("peers").display()))?;
    for line in told.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [peer, work, figure] = fields[..] else { return Err(line.into()) };
        beside(table, "server", peer, work, figure.parse()?);
    }
    let sqlite = sqlite::measure(folder, round, 200_000)?;
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

/// What an SDK adds to the Rust client's latency, both on a `memory:` database, one after the other.
fn overhead(table: &mut Table, sdks: &[String]) -> Result<(), Failure> {
    let client = blocking::Client::connect(Config::new(["memory:"]).tenant(1))?;
    let stream = work::stream(&client, "overhead")?;
    let append = work::append_latency(&client, stream, 20_000)?;
    let read = work::read_latency(&client, stream, 20_000)?;
    record(table, "rust", "append", &append);
    record(table, "rust", "read", &read);
    client.close(5000)?;
    for sdk in sdks {
        let (name, program) = sdk.split_once('=').ok_or("--sdk wants NAME=PROGRAM")?;
        for line in run(program)?.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [work, p50, p99] = fields[..] else { return Err(line.into()) };
            let base = if work == "append" { &append } else { &read };
            let added = p50.parse::<f64>()? - base.micros(50.0);
            let budget = match name {
                "c" => "≤ 1 µs",
                "python-asyncio" => "≤ 40 µs",
                _ => "≤ 25 µs",
            };
            table.add(format!("{name} over rust: {work}, p50 added"), added, "µs", budget);
            let added = p99.parse::<f64>()? - base.micros(99.0);
            table.add(format!("{name} over rust: {work}, p99 added"), added, "µs", "≤ 100 µs");
        }
    }
    Ok(())
}

fn record(table: &mut Table, sdk: &str, work: &str, found: &Latencies) {
    table.add(format!("{sdk}, memory: one {work}, p50"), found.micros(50.0), "µs", "");
    table.add(format!("{sdk}, memory: one {work}, p99"), found.micros(99.0), "µs", "");
}
