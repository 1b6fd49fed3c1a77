//! What the size of the log costs, up to 20 GB: the start of the server, its memory, and reads of
//! what no cache holds.

use std::path::Path;
use std::time::Instant;

use kimberlite_client::{CallOptions, EventBatch, ExpectedOffset, StreamId, blocking};

use crate::figures::{count, median};
use crate::lab::{Lab, remove};
use crate::plot::Axis;
use crate::report::Report;
use crate::server::Server;
use crate::sweep::Sweep;
use crate::{Failure, work};

const OPTIONS: CallOptions = CallOptions { timeout_ms: None, min_position: 0, stale: false };
/// Large batches, as bulk writers make them, and small ones, as callers of some events make them.
const BULK: (&str, usize) = ("bulk", 1000);
const SMALL: (&str, usize) = ("small", 10);

/// Grows one log and measures at each size.
pub fn run(lab: &Lab) -> Result<Report, Failure> {
    let sizes: &[f64] = lab.amount(&[1.0, 5.0, 10.0, 20.0], &[0.2, 0.5]);
    enough_room(lab, sizes.last().copied().unwrap_or(0.0))?;
    let mut sweep = Sweep::new("log, GB", count);
    let mut server = lab.server()?;
    for size in sizes {
        eprintln!("  {size} GB");
        let client = lab.client(&server)?;
        let streams = Streams::new(&client)?;
        let start = Instant::now();
        grow(&client, &streams, &server.data, (size * 1e9) as u64)?;
        let seconds = start.elapsed().as_secs_f64();
        eprintln!("  grown in {seconds:.0} s");
        sweep.add("server's memory, grown", "MB", *size, server.resident_mb()?);
        server = crash(lab, &mut sweep, *size, server, &client, &streams)?;
        server = restart(lab, &mut sweep, *size, server, &streams)?;
        let client = lab.client(&server)?;
        cold_reads(lab, &mut sweep, *size, &server, &client, &streams)?;
        sweep.add("server's memory, read", "MB", *size, server.resident_mb()?);
        client.close(5000)?;
    }
    server.stop()?;
    remove(&lab.path("server"))?;
    report(&sweep)
}

/// A disk that fills up would harm more than this experiment.
#[cfg(unix)]
fn enough_room(lab: &Lab, gigabytes: f64) -> Result<(), Failure> {
    let found = rustix::fs::statvfs(&lab.arguments.folder)?;
    let free = (found.f_bavail * found.f_frsize) as f64 / 1e9;
    // The crashes append some more, and footers and states lie beside the log.
    let needed = gigabytes * 1.2 + 2.0;
    if free >= needed {
        return Ok(());
    }
    let folder = lab.arguments.folder.display();
    Err(format!("{folder} has {free:.0} GB free, {needed:.0} are needed").into())
}

/// Elsewhere that is for the caller to see to.
#[cfg(not(unix))]
fn enough_room(_lab: &Lab, _gigabytes: f64) -> Result<(), Failure> {
    Ok(())
}

fn report(sweep: &Sweep) -> Result<Report, Failure> {
    let mut report = Report::default();
    report.text(
        "One measurement at each size of a log that grows, of events of 100 bytes: five of seven \
         appended 1,000 at a time, two ten at a time with 64 appends in flight. Before every start \
         and read the folder's pages are dropped from the system's cache.",
    );
    report.text(&sweep.markdown());
    let axis = |label: &str, log| Axis { label: label.into(), log, spell: count, ticks: vec![] };
    let names = ["start after a stop", "start after a kill"];
    let title = "Start to the first answer, by the size of the log";
    report.plot("logs-start", &sweep.plot(title, &names, axis("ms", true)));
    let names = ["server's memory, grown", "server's memory, started", "server's memory, read"];
    let title = "Resident memory of the server, by the size of the log";
    report.plot("logs-memory", &sweep.plot(title, &names, axis("MB", false)));
    Ok(report)
}

struct Streams {
    bulk: StreamId,
    small: StreamId,
}

impl Streams {
    fn new(client: &blocking::Client) -> Result<Streams, Failure> {
        Ok(Streams { bulk: work::stream(client, BULK.0)?, small: work::stream(client, SMALL.0)? })
    }
}

/// Appends to both streams until the log's files have so many bytes.
fn grow(
    client: &blocking::Client,
    streams: &Streams,
    data: &Path,
    bytes: u64,
) -> Result<(), Failure> {
    while log_bytes(data)? < bytes {
        work::append_rate(client, streams.bulk, 16, BULK.1, 320_000)?;
        work::append_rate(client, streams.small, 64, SMALL.1, 128_000)?;
    }
    Ok(())
}

fn log_bytes(data: &Path) -> Result<u64, Failure> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(data)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("segment-") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Kills the server in the middle of appends and starts it again.
fn crash(
    lab: &Lab,
    sweep: &mut Sweep,
    size: f64,
    server: Server,
    client: &blocking::Client,
    streams: &Streams,
) -> Result<Server, Failure> {
    let (writer, bulk) = (client.clone(), streams.bulk);
    // It writes until the server is gone, which is how it ends.
    let writing = std::thread::spawn(move || {
        let Ok(batch) = EventBatch::from_events(vec![[b'x'; 100]; BULK.1]) else { return };
        let options = CallOptions { timeout_ms: Some(2000), ..OPTIONS };
        while writer.append(bulk, ExpectedOffset::Any, batch.clone(), &options).is_ok() {}
    });
    std::thread::sleep(std::time::Duration::from_millis(500));
    let data = server.data.clone();
    server.kill()?;
    writing.join().map_err(|_| "the writer panicked")?;
    drop_cache(&data)?;
    let (server, millis) = first_answer(lab, streams)?;
    sweep.add("start after a kill", "ms", size, millis);
    Ok(server)
}

/// Stops the server as it wants to be stopped and starts it again.
fn restart(
    lab: &Lab,
    sweep: &mut Sweep,
    size: f64,
    server: Server,
    streams: &Streams,
) -> Result<Server, Failure> {
    let data = server.data.clone();
    let start = Instant::now();
    server.stop()?;
    sweep.add("stop", "ms", size, start.elapsed().as_secs_f64() * 1e3);
    drop_cache(&data)?;
    let (server, millis) = first_answer(lab, streams)?;
    sweep.add("start after a stop", "ms", size, millis);
    sweep.add("server's memory, started", "MB", size, server.resident_mb()?);
    Ok(server)
}

/// From the start of the process until a read was answered, in milliseconds.
fn first_answer(lab: &Lab, streams: &Streams) -> Result<(Server, f64), Failure> {
    let start = Instant::now();
    let server = lab.server_in("server", false)?;
    let client = lab.client(&server)?;
    client.read(streams.small, 0, 1, 0, &OPTIONS)?;
    let millis = start.elapsed().as_secs_f64() * 1e3;
    client.close(5000)?;
    Ok((server, millis))
}

/// Events far from each other, each with cold caches; then a long read in order.
fn cold_reads(
    lab: &Lab,
    sweep: &mut Sweep,
    size: f64,
    server: &Server,
    client: &blocking::Client,
    streams: &Streams,
) -> Result<(), Failure> {
    for (name, stream) in [(BULK.0, streams.bulk), (SMALL.0, streams.small)] {
        let end = client.stream_info(stream, &OPTIONS)?.next_offset;
        let mut millis = Vec::new();
        for number in 0..lab.amount(15, 5) {
            // The golden ratio spreads them over the whole stream without order.
            let offset = (end as f64 * (f64::from(number) * 0.618_034).fract()) as u64;
            drop_cache(&server.data)?;
            let start = Instant::now();
            client.read(stream, offset, 1, 0, &OPTIONS)?;
            millis.push(start.elapsed().as_secs_f64() * 1e3);
        }
        sweep.add(format!("cold read of one, {name}"), "ms", size, median(millis));
        drop_cache(&server.data)?;
        let most = lab.amount(500_000_000, 50_000_000);
        let (start, mut bytes) = (Instant::now(), 0);
        for page in client.pages(stream, 0, 10_000) {
            bytes += page?.data().len();
            if bytes > most {
                break;
            }
        }
        let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
        sweep.add(format!("cold read in order, {name}"), "MB/s", size, rate);
    }
    Ok(())
}

/// Drops the folder's pages from the system's cache.
#[cfg(target_os = "linux")]
fn drop_cache(data: &Path) -> Result<(), Failure> {
    for entry in std::fs::read_dir(data)? {
        let file = std::fs::File::open(entry?.path())?;
        // What is not on the disk yet could not be dropped.
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(())
}

/// Elsewhere the figures are those of warm caches.
#[cfg(not(target_os = "linux"))]
fn drop_cache(_data: &Path) -> Result<(), Failure> {
    Ok(())
}
