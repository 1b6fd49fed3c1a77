//! What the number of streams costs, from 1 to 100,000: making them, appending and reading all over
//! them, the server's memory, and the next start.

use std::time::Instant;

use kimberlite_client::{CallOptions, Client, DataClass, Error, ExpectedOffset, StreamId};
use tokio::task::JoinSet;

use crate::figures::count;
use crate::lab::{Lab, remove};
use crate::plot::Axis;
use crate::report::Report;
use crate::sweep::Sweep;
use crate::{Failure, work};

const IN_FLIGHT: usize = 64;
const OPTIONS: CallOptions = CallOptions { timeout_ms: None, min_position: 0, stale: false };

/// Measures every number on an empty server.
pub fn run(lab: &Lab) -> Result<Report, Failure> {
    let most = lab.amount(100_000, 10_000);
    let mut sweep = Sweep::new("streams", count);
    for _ in lab.rounds() {
        for streams in [1, 10, 100, 1_000, 10_000, 100_000] {
            if streams <= most {
                measure(lab, &mut sweep, streams)?;
            }
        }
    }
    let mut report = Report::default();
    report.text(&format!(
        "One event of 100 bytes a call, {IN_FLIGHT} calls in flight on one client, the streams in \
         turn. The start is that of the process until its first answer, a read, after a clean stop.",
    ));
    report.text(&sweep.markdown());
    let axis = |label: &str, log| Axis { label: label.into(), log, spell: count, ticks: vec![] };
    let title = "Work all over the streams, by their number";
    let names = ["made", "appended", "read"];
    report.plot("streams-rate", &sweep.plot(title, &names, axis("a second", false)));
    let title = "The server's resident memory, by the number of streams";
    let axis = axis("MB", true);
    report.plot("streams-memory", &sweep.plot(title, &["memory", "memory after a start"], axis));
    Ok(report)
}

fn measure(lab: &Lab, sweep: &mut Sweep, streams: usize) -> Result<(), Failure> {
    let at = streams as f64;
    let server = lab.server()?;
    let client = lab.client(&server)?.to_async();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let calls = lab.amount(60_000, 6_000).max(streams);
    let ids = runtime.block_on(async {
        let start = Instant::now();
        let ids = make(&client, streams).await?;
        sweep.add("made", "a second", at, at / start.elapsed().as_secs_f64());
        let rate = in_turn(&client, &ids, calls, append).await?;
        sweep.add("appended", "a second", at, rate);
        let rate = in_turn(&client, &ids, calls, read).await?;
        sweep.add("read", "a second", at, rate);
        client.close(5000).await?;
        Ok::<_, Failure>(ids)
    })?;
    sweep.add("memory", "MB", at, server.resident_mb()?);
    server.stop()?;

    let start = Instant::now();
    let server = lab.server_in("server", false)?;
    let client = lab.client(&server)?;
    let last = ids.last().copied().ok_or("there is no stream")?;
    client.read(last, 0, 1, 0, &OPTIONS)?;
    sweep.add("start to the first answer", "ms", at, start.elapsed().as_secs_f64() * 1e3);
    sweep.add("memory after a start", "MB", at, server.resident_mb()?);
    client.close(5000)?;
    server.stop()?;
    remove(&lab.path("server"))
}

/// Makes them with many calls in flight.
async fn make(client: &Client, streams: usize) -> Result<Vec<StreamId>, Failure> {
    let mut tasks = JoinSet::new();
    for worker in 0..IN_FLIGHT.min(streams) {
        let client = client.clone();
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for number in (worker..streams).step_by(IN_FLIGHT) {
                let name = format!("stream-{number}");
                ids.push(client.create_stream(&name, DataClass::NonPhi, &OPTIONS).await?);
            }
            Ok::<_, Error>(ids)
        });
    }
    let mut all = Vec::new();
    while let Some(ids) = tasks.join_next().await {
        all.extend(ids??);
    }
    Ok(all)
}

/// Calls a second, over the streams in turn.
async fn in_turn<F>(
    client: &Client,
    ids: &[StreamId],
    calls: usize,
    call: fn(Client, StreamId) -> F,
) -> Result<f64, Failure>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for worker in 0..IN_FLIGHT {
        let client = client.clone();
        let turns = (worker..calls).step_by(IN_FLIGHT);
        let mine: Vec<StreamId> =
            turns.filter_map(|turn| ids.get(turn % ids.len()).copied()).collect();
        tasks.spawn(async move {
            for id in mine {
                call(client.clone(), id).await?;
            }
            Ok::<(), Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(calls as f64 / start.elapsed().as_secs_f64())
}

async fn append(client: Client, stream: StreamId) -> Result<(), Error> {
    client.append(stream, ExpectedOffset::Any, work::batch(1)?, &OPTIONS).await.map(drop)
}

async fn read(client: Client, stream: StreamId) -> Result<(), Error> {
    client.read(stream, 0, 1, 0, &OPTIONS).await.map(drop)
}
