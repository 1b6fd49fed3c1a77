//! What the SDKs add to the Rust client: latency, throughput, native memory; and what everybody pays
//! for the library: its size and a cold start.

use std::process::Command;

use crate::coprocess::Coprocess;
use crate::figures::median;
use crate::lab::{Lab, TOKEN};
use crate::report::Report;
use crate::server::Server;
use crate::table::Table;
use crate::{Failure, lab};

/// An SDK beside the Rust client: its name, the budgets of the added p50 and of its throughput, and
/// the pieces of work of which the throughput is told, beside the Rust client's.
struct Sdk {
    name: &'static str,
    added_p50: &'static str,
    works: &'static [(&'static str, &'static str, &'static str, &'static str)],
}

const APPEND: &str = "append BATCHES";

/// Each work: what it is called, what the SDK is asked, what Rust is asked, the budget.
const SDKS: [Sdk; 3] = [
    Sdk {
        name: "c",
        added_p50: "≤ 1 µs",
        works: &[
            ("pages of 10,000", "pages", "pages", "≥ 90 %"),
            ("SQL rows", "query", "query", ""),
            ("batches of 1,000", APPEND, APPEND, "≥ 90 %"),
        ],
    },
    Sdk {
        name: "python",
        added_p50: "≤ 25 µs",
        works: &[
            ("pages of 10,000, as columns", "pages", "pages", "≥ 90 %"),
            ("pages of 10,000, a view of each event", "views", "pages", ""),
            ("pages of 10,000, as Arrow batches", "arrow", "pages", "≥ 90 %"),
            ("pages of 10,000, cut into `bytes`", "payloads", "pages", "≥ 60 %"),
            ("SQL rows", "query", "query", ""),
            ("batches of 1,000", APPEND, APPEND, "≥ 90 %"),
        ],
    },
    Sdk {
        name: "python-asyncio",
        added_p50: "≤ 40 µs",
        works: &[
            ("pages of 10,000, as columns", "pages", "pages", "≥ 90 %"),
            ("batches of 1,000", APPEND, APPEND, "≥ 90 %"),
        ],
    },
];

/// What the mission allows at most: an SDK's added p99 in µs, native memory beside the Rust client's,
/// the library in MB, and a cold start in ms.
const CEILINGS: (f64, f64, f64, f64) = (10_000.0, 1.05, 10.0, 100.0);

/// Measures each SDK in turn with the Rust client, round by round.
pub fn run(lab: &Lab) -> Result<Report, Failure> {
    let (mut latency, mut rate) = (Table::default(), Table::default());
    let (mut memory, mut library) = (Table::default(), Table::default());
    let server = lab.server()?;
    for round in lab.rounds() {
        for (name, program) in pairs(&lab.arguments.sdk)? {
            if name != "rust" {
                let sdk = SDKS.iter().find(|sdk| sdk.name == name);
                let sdk = sdk.ok_or_else(|| format!("{name} has no budgets"))?;
                let rust = find(&lab.arguments.sdk, "rust")?;
                let mut rust = Coprocess::start(rust)?;
                let mut other = Coprocess::start(program)?;
                latencies(lab, &mut latency, sdk, &mut rust, &mut other)?;
                rates(lab, &mut rate, sdk, &mut rust, &mut other)?;
            }
        }
        memories(lab, &mut memory, &server, round)?;
        cold_start(lab, &mut library)?;
    }
    server.stop()?;
    if let Some(path) = &lab.arguments.library {
        let megabytes = std::fs::metadata(path)?.len() as f64 / 1e6;
        let name = "the stripped library, SQL and embedded database included";
        library.add_below(name, megabytes, "MB", "≤ 5 MB", Some(CEILINGS.2));
    }
    let mut report = Report::default();
    report.text("One call at a time on a `memory:` database, and what the SDK adds:");
    report.table(&latency);
    report
        .text("Throughput on a `memory:` database, one call at a time, beside the Rust client's:");
    report.table(&rate);
    report.text(
        "Memory of a process, without what files back, after the same work on a server, above an \
         empty program of its runtime; Python's objects are told apart:",
    );
    report.table(&memory);
    report.text("The library:");
    report.table(&library);
    Ok(report)
}

/// The names and programs of `NAME=PROGRAM`.
fn pairs(all: &[String]) -> Result<Vec<(&str, &str)>, Failure> {
    let pairs = all.iter().map(|text| {
        text.split_once('=').ok_or_else(|| format!("{text}: want NAME=PROGRAM").into())
    });
    pairs.collect()
}

fn find<'a>(all: &'a [String], name: &str) -> Result<&'a str, Failure> {
    let found = pairs(all)?.into_iter().find(|(found, _)| *found == name);
    Ok(found.ok_or_else(|| format!("no program is given for {name}"))?.1)
}

/// Both percentiles of both, one after the other.
fn latencies(
    lab: &Lab,
    table: &mut Table,
    sdk: &Sdk,
    rust: &mut Coprocess,
    other: &mut Coprocess,
) -> Result<(), Failure> {
    for work in ["append", "read"] {
        let line = format!("latency {work} {}", lab.amount(20_000, 2_000));
        let (base, told) = (rust.ask(&line)?, other.ask(&line)?);
        let ([p50, p99], [sdk_p50, sdk_p99]) = (&base[..], &told[..]) else {
            return Err(format!("{line} was answered by {base:?} and {told:?}").into());
        };
        let rust = format!("rust beside {}: one {work}", sdk.name);
        table.add(format!("{rust}, p50"), *p50, "µs", "");
        table.add(format!("{rust}, p99"), *p99, "µs", "");
        let name = format!("{} over rust: {work}", sdk.name);
        table.add(format!("{name}, p50 added"), sdk_p50 - p50, "µs", sdk.added_p50);
        let ceiling = Some(CEILINGS.0);
        table.add_below(format!("{name}, p99 added"), sdk_p99 - p99, "µs", "≤ 100 µs", ceiling);
    }
    Ok(())
}

/// The share of the Rust client's throughput, from pairs of runs one right after the other.
fn rates(
    lab: &Lab,
    table: &mut Table,
    sdk: &Sdk,
    rust: &mut Coprocess,
    other: &mut Coprocess,
) -> Result<(), Failure> {
    let batches = lab.amount("300", "50");
    // What is read is as long on both sides; appends come last, so that it stays so.
    let filled = APPEND.replace("BATCHES", batches);
    for program in [&mut *rust, &mut *other] {
        program.ask(&filled)?;
    }
    for (title, mine, theirs, budget) in sdk.works {
        let (mine, theirs) = (mine.replace("BATCHES", batches), theirs.replace("BATCHES", batches));
        // The first run of each warms caches up.
        let mut shares = Vec::new();
        let mut rates = Vec::new();
        for turn in 0..lab.amount(6, 3) {
            let (base, told) = (rust.figure(&theirs)?, other.figure(&mine)?);
            if turn > 0 {
                shares.push(100.0 * told / base);
                rates.push(told);
            }
        }
        let name = format!("{}: {title}", sdk.name);
        let unit = if mine == "query" { "rows/s" } else { "events/s" };
        table.add(&name, median(rates), unit, "");
        table.add(format!("{name}, of Rust's"), median(shares), "%", budget);
    }
    Ok(())
}

/// What every process takes after the same work, less what an empty one of its runtime takes; medians
/// of some processes, because it depends on how threads meet.
fn memories(lab: &Lab, table: &mut Table, server: &Server, round: usize) -> Result<(), Failure> {
    let mut empties = Vec::new();
    for (name, _) in pairs(&lab.arguments.sdk)? {
        empties.push(footprint(find(&lab.arguments.empty, name)?, "nothing")?);
    }
    let mut taken = vec![(Vec::new(), Vec::new()); empties.len()];
    for turn in 0..lab.amount(5, 2) {
        for ((name, program), (natives, heaps)) in
            pairs(&lab.arguments.sdk)?.into_iter().zip(&mut taken)
        {
            let stream = format!("memory_{}_{round}_{turn}", name.replace('-', "_"));
            let line = format!("remote {} {TOKEN} {stream}", server.address);
            let (native, heap) = footprint(program, &line)?;
            natives.push(native);
            heaps.push(heap);
        }
    }
    let mut base = None;
    let names = pairs(&lab.arguments.sdk)?.into_iter().map(|(name, _)| name);
    for ((name, empty), (natives, heaps)) in names.zip(empties).zip(taken) {
        let (native, heap) = (median(natives) - empty.0, median(heaps) - empty.1);
        table.add(format!("{name}: native memory"), native / 1e6, "MB", "");
        if heap > 0.0 {
            table.add(format!("{name}: managed heap"), heap / 1e6, "MB", "");
        }
        match base {
            None => base = Some(native),
            Some(base) => {
                let ceiling = Some(CEILINGS.1);
                let title = format!("{name}: native memory beside Rust's");
                table.add_below(title, native / base, "×", "≤ 1.05 ×", ceiling);
            }
        }
    }
    Ok(())
}

/// The native memory and the managed heap of a process after a piece of work.
fn footprint(program: &str, line: &str) -> Result<(f64, f64), Failure> {
    let mut process = Coprocess::start(program)?;
    process.ask(line)?;
    let all = process.anonymous_bytes()?;
    let small = process.figure("small")?;
    if small == 0.0 {
        return Ok((all, 0.0));
    }
    // Only a process that traces its allocations knows its large objects, and it takes more itself.
    let mut traced = Coprocess::start_with(program, &[("PYTHONTRACEMALLOC", "1")])?;
    traced.ask(&line.replace("memory_", "traced_"))?;
    let heap = small + traced.figure("large")?;
    Ok((all - heap, heap))
}

/// Loads the library in new processes, each of which connects over TLS and gets an answer.
fn cold_start(lab: &Lab, table: &mut Table) -> Result<(), Failure> {
    let (Some(program), [certificate, key]) = (&lab.arguments.cold_start, &lab.arguments.tls[..])
    else {
        return Ok(());
    };
    let folder = lab.path("tls");
    lab::remove(&folder)?;
    let flags = ["--tls-cert", &certificate.to_string_lossy(), "--tls-key", &key.to_string_lossy()];
    let server = Server::start(&lab.arguments.built, &folder, &flags)?;
    let address = format!("tls://{}", server.address.replace("127.0.0.1", "localhost"));
    let mut millis = Vec::new();
    for _ in 0..lab.amount(15, 5) {
        let mut words = program.split(' ');
        let mut command = Command::new(words.next().unwrap_or_default());
        // The certificate is its own authority.
        command.args(words).args([&address, TOKEN]).arg(certificate);
        let output = command.output()?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{command:?}: {errors}").into());
        }
        millis.push(String::from_utf8(output.stdout)?.trim().parse::<f64>()? / 1e3);
    }
    let name = "C: load the library, connect over TLS, first answer";
    table.add_below(name, median(millis), "ms", "≤ 15 ms", Some(CEILINGS.3));
    server.stop()
}
