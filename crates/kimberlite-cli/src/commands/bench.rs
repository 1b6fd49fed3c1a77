//! `kimberlite bench`: a quick load, to see what a server or a folder does here.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use kimberlite::core::ExpectedOffset;
use kimberlite::{CallOptions, Client, DataClass, EventBatch, StreamId, limit};
use tokio::task::JoinSet;

use super::read::Pages;
use crate::connect::{Connection, Database};
use crate::failure::{Failure, Outcome};
use crate::histogram::Histogram;
use crate::output::{Output, note};
use crate::signals::Signals;

/// Puts a load on a database and tells latencies
///
/// It appends to a stream of its own, kimberlite_bench, where the events stay: use a database to
/// try things with. Without --rate each of --in-flight appends follows its predecessor; with it
/// they start on a schedule, and waiting behind schedule counts. docs/BENCHMARKS.md has numbers
/// that were measured with care; these are quick ones.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite bench --address embedded:/tmp/bench --in-flight 64
  kimberlite bench --rate 1000 --seconds 30 --batch 10")]
pub(crate) struct Args {
    /// What to do
    #[arg(long, value_enum, default_value_t = Work::All)]
    work: Work,

    /// How long to append
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,

    /// Appends under way at a time
    #[arg(long, value_name = "COUNT", default_value_t = 16,
          value_parser = clap::value_parser!(u64).range(1..=limit::OUTSTANDING_APPENDS))]
    in_flight: u64,

    /// Appends started per second, on a schedule
    #[arg(long, value_name = "PER_SECOND",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,

    /// Events in one append
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=limit::BATCH_EVENTS))]
    batch: u64,

    /// Bytes in one event
    #[arg(long, value_name = "BYTES", default_value_t = 100,
          value_parser = clap::value_parser!(u64).range(0..=limit::EVENT_BYTES))]
    event_bytes: u64,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Work {
    /// Appends, then reads what they wrote
    All,
    /// Appends alone
    Append,
    /// Reads of what earlier runs appended
    Read,
}

/// Runs the load and prints what came out.
pub(crate) async fn run(args: &Args, signals: &Signals) -> Outcome<()> {
    if args.batch * args.event_bytes > limit::BATCH_BYTES {
        let (bytes, bound) = (args.batch * args.event_bytes, limit::BATCH_BYTES);
        return Err(Failure::usage(format!(
            "--batch times --event-bytes is {bytes}; at most {bound} bytes fit one append"
        )));
    }
    let work = async |client: Client| signals.or(bench(args, &client)).await;
    args.connection.with_client(Database::MayBeNew, signals, work).await
}

async fn bench(args: &Args, client: &Client) -> Outcome<()> {
    if cfg!(debug_assertions) {
        note("this is a build for debugging: its numbers mean nothing");
    }
    let stream = client.create_stream("kimberlite_bench", DataClass::NonPhi).await?;
    let mut out = Output::stdout();
    let start_offset = client.stream_info(stream).await?.next_offset;
    if args.work != Work::Read {
        appends(args, client, stream, &mut out).await?;
    }
    if args.work != Work::Append {
        let from = if args.work == Work::Read { 0 } else { start_offset };
        reads(client, stream, from, &mut out).await?;
    }
    out.flush()
}

/// When appends start, shared by those that are under way.
struct Schedule {
    start: Instant,
    end: Instant,
    interval: Option<Duration>,
    started: u32,
}

impl Schedule {
    /// When the next append is due; none where the time is over.
    fn next(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let due = match self.interval {
            None => now,
            Some(interval) => self.start + interval * self.started,
        };
        self.started += 1;
        (due < self.end && now < self.end).then_some(due)
    }
}

async fn appends(args: &Args, client: &Client, stream: StreamId, out: &mut Output) -> Outcome<()> {
    let event = vec![b'x'; usize::try_from(args.event_bytes).unwrap_or(0)];
    let batch = EventBatch::from_events((0..args.batch).map(|_| &event))?;
    let start = Instant::now();
    let interval = args.rate.map(|rate| Duration::from_secs_f64(1.0 / rate as f64));
    let end = start + Duration::from_secs(args.seconds);
    let schedule = Rc::new(RefCell::new(Schedule { start, end, interval, started: 0 }));
    let latencies = Rc::new(RefCell::new(Histogram::new()));
    let local = tokio::task::LocalSet::new();
    let mut tasks = JoinSet::new();
    for _ in 0..args.in_flight {
        let (client, batch) = (client.clone(), batch.clone());
        let (schedule, latencies) = (schedule.clone(), latencies.clone());
        let work = async move {
            loop {
                let due = schedule.borrow_mut().next();
                let Some(due) = due else { return Ok::<(), Failure>(()) };
                tokio::time::sleep_until(due.into()).await;
                let (core, options) = (client.as_core(), CallOptions::default());
                core.append(stream, ExpectedOffset::Any, batch.clone(), &options).await?;
                let took = due.elapsed().as_micros();
                latencies.borrow_mut().record(u64::try_from(took).unwrap_or(u64::MAX));
            }
        };
        tasks.spawn_local_on(work, &local);
    }
    local
        .run_until(async {
            while let Some(done) = tasks.join_next().await {
                done.map_err(|e| Failure::failed(format!("an append met a defect: {e}")))??;
            }
            Ok::<(), Failure>(())
        })
        .await?;
    let seconds = start.elapsed().as_secs_f64();
    let latencies = latencies.borrow();
    let appends = latencies.total();
    let how = match args.rate {
        None => format!("{} in flight", args.in_flight),
        Some(rate) => format!("{rate} started a second"),
    };
    out.line(&format!(
        "append  {:.0} appends/s, {:.0} events/s  ({how}, {} x {} bytes each, {seconds:.1} s)",
        appends as f64 / seconds,
        (appends * args.batch) as f64 / seconds,
        args.batch,
        args.event_bytes,
    ))?;
    out.line(&percentiles(&latencies))
}

async fn reads(client: &Client, stream: StreamId, from: u64, out: &mut Output) -> Outcome<()> {
    let end = client.stream_info(stream).await?.next_offset;
    let mut pages = Pages::new(client, stream, from..end);
    let mut latencies = Histogram::new();
    let (mut events, mut bytes) = (0, 0);
    let start = Instant::now();
    loop {
        let begun = Instant::now();
        let Some(page) = pages.next().await? else { break };
        latencies.record(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        events += page.count();
        bytes += page.data().len();
    }
    let seconds = start.elapsed().as_secs_f64().max(f64::EPSILON);
    let pages = latencies.total();
    out.line(&format!(
        "read    {:.0} events/s, {:.1} MB/s  ({events} events in {pages} pages, {seconds:.1} s)",
        events as f64 / seconds,
        bytes as f64 / seconds / 1e6,
    ))?;
    out.line(&percentiles(&latencies))
}

fn percentiles(latencies: &Histogram) -> String {
    let ms = |us: u64| us as f64 / 1_000.0;
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|q| ms(latencies.quantile(q)));
    let max = ms(latencies.largest());
    format!("        ms: p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p999:.3}  max {max:.3}")
}
