//! Throughput against clients: separate clients, each with one append of one event under way, beside
//! PostgreSQL with as many connections.

use std::time::{Duration, Instant};

use kimberlite_client::{CallOptions, Client, ExpectedOffset, StreamId};
use tokio::task::JoinSet;

use crate::coprocess::Coprocess;
use crate::figures::count;
use crate::lab::{Lab, config};
use crate::plot::Axis;
use crate::report::Report;
use crate::server::Server;
use crate::stats::Latencies;
use crate::sweep::Sweep;
use crate::{Failure, lab, work};

const CLIENTS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Measures both in turn.
pub fn run(lab: &Lab) -> Result<Report, Failure> {
    let server = lab.server()?;
    let stream = work::stream(&lab.client(&server)?, "clients")?;
    let folder = lab.path("peers");
    lab::remove(&folder)?;
    let mut peer = match &lab.arguments.peers {
        None => None,
        Some(program) => {
            let words = format!("{} -serve postgres -folder", program.display());
            Some(Coprocess::start(&format!("{words} {}", folder.display()))?)
        }
    };
    let seconds = lab.amount(1.5, 0.2);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut sweep = Sweep::new("clients", count);
    for _ in lab.rounds() {
        for clients in CLIENTS {
            let at = clients as f64;
            let ours = runtime.block_on(together(&server, stream, clients, seconds))?;
            record(&mut sweep, "Kimberlite", at, ours);
            sweep.add("server's memory", "MB", at, server.resident_mb()?);
            if let Some(peer) = &mut peer {
                let told = peer.ask(&format!("{clients} {seconds}"))?;
                let [rate, p50, p99] = told[..] else { return Err("peers told less".into()) };
                record(&mut sweep, "PostgreSQL", at, (rate, p50, p99));
            }
        }
    }
    drop(peer);
    server.stop()?;
    let mut report = Report::default();
    report.text(&format!("One event of 100 bytes an append, {seconds} s at each number."));
    report.text(&sweep.markdown());
    for (name, title, what, label) in [
        ("clients-rate", "Appends by separate clients, one each under way", "", "events a second"),
        ("clients-latency", "Their latency at the 99th percentile", " p99", "latency, µs"),
    ] {
        let y = Axis { label: label.into(), log: true, spell: count, ticks: Vec::new() };
        let names = ["Kimberlite", "PostgreSQL"].map(|system| format!("{system}{what}"));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        report.plot(name, &sweep.plot(title, &names, y));
    }
    Ok(report)
}

fn record(sweep: &mut Sweep, system: &str, at: f64, (rate, p50, p99): (f64, f64, f64)) {
    sweep.add(system, "events/s", at, rate);
    sweep.add(format!("{system} p50"), "µs", at, p50);
    sweep.add(format!("{system} p99"), "µs", at, p99);
}

/// Events a second, and two percentiles of the latency in microseconds.
async fn together(
    server: &Server,
    stream: StreamId,
    count: usize,
    seconds: f64,
) -> Result<(f64, f64, f64), Failure> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = Client::connect(config(server)).await?;
        // The first append makes the client's producer; that is no part of the steady state.
        one(&client, stream).await?;
        clients.push(client);
    }
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for client in clients.clone() {
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let begun = Instant::now();
                if begun >= end {
                    return Ok::<_, kimberlite_client::Error>(latencies);
                }
                one(&client, stream).await?;
                latencies.push(begun.elapsed());
            }
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    let rate = all.len() as f64 / start.elapsed().as_secs_f64();
    for client in clients {
        client.close(5000).await?;
    }
    let latencies = Latencies::from(all);
    Ok((rate, latencies.micros(50.0), latencies.micros(99.0)))
}

async fn one(client: &Client, stream: StreamId) -> Result<(), kimberlite_client::Error> {
    let batch = work::batch(1)?;
    client.append(stream, ExpectedOffset::Any, batch, &CallOptions::default()).await.map(drop)
}
