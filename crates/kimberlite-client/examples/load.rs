//! Measures a client against a server in the same process, or a database of its own.
//!
//! `cargo run --profile fast -p kimberlite-client --example load -- tcp` (or an address)

use std::time::{Duration, Instant};

use kimberlite_client::blocking::Client;
use kimberlite_client::{CallOptions, Config, DataClass, Error, EventBatch, ExpectedOffset};
use kimberlite_server::{Server, ServerConfig};

const NONE: CallOptions = CallOptions { timeout_ms: None, min_position: 0, stale: false };
const EVENT: [u8; 100] = [b'x'; 100];

fn main() -> Result<(), Error> {
    let door = std::env::args().nth(1).unwrap_or_else(|| "tcp".to_string());
    let mut server = None;
    let config = match door.as_str() {
        "tcp" => {
            let started = Server::start(ServerConfig::development("secret"))?;
            let address = started.local_addr().to_string();
            server = Some(started);
            Config::new([address]).token("secret")
        }
        address => Config::new([address]).token("secret"),
    };
    let client = Client::connect(config)?;
    let stream = client.create_stream("load", DataClass::NonPhi, &NONE)?;
    one_at_a_time(&client, stream)?;
    in_flight(&client, stream, 64)?;
    batches(&client, stream)?;
    reads(&client, stream)?;
    client.close(5_000)?;
    server.map_or(Ok(()), |server| server.shutdown(Duration::from_secs(5)))
}

fn one_at_a_time(client: &Client, stream: kimberlite_client::StreamId) -> Result<(), Error> {
    let batch = EventBatch::from_events([EVENT])?;
    let mut took = Vec::new();
    for _ in 0..20_000 {
        let started = Instant::now();
        client.append(stream, ExpectedOffset::Any, batch.clone(), &NONE)?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    println!("one append at a time: p50 {:?}, p99 {:?}", took[10_000], took[19_800]);
    Ok(())
}

fn in_flight(
    client: &Client,
    stream: kimberlite_client::StreamId,
    width: usize,
) -> Result<(), Error> {
    const EACH: usize = 4_000;
    let batch = EventBatch::from_events([EVENT])?;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|e| Error::invalid(e.to_string()))?;
    let started = Instant::now();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let tasks: Vec<_> = (0..width)
            .map(|_| {
                let (client, batch) = (client.to_async(), batch.clone());
                tokio::task::spawn_local(async move {
                    for _ in 0..EACH {
                        let done = client.append(stream, ExpectedOffset::Any, batch.clone(), &NONE);
                        done.await?;
                    }
                    Ok::<(), Error>(())
                })
            })
            .collect();
        for task in tasks {
            task.await.map_err(|e| Error::invalid(e.to_string()))??;
        }
        Ok::<(), Error>(())
    })?;
    let rate = (width * EACH) as f64 / started.elapsed().as_secs_f64();
    println!("{width} appends in flight: {rate:.0}/s");
    Ok(())
}

fn batches(client: &Client, stream: kimberlite_client::StreamId) -> Result<(), Error> {
    let batch = EventBatch::from_events(vec![EVENT; 1_000])?;
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..125 {
                    let done = client.append(stream, ExpectedOffset::Any, batch.clone(), &NONE);
                    done.expect("the measurement needs every append");
                }
            });
        }
    });
    let rate = 1_000_000.0 / started.elapsed().as_secs_f64();
    println!("8 × batches of 1,000: {:.2}M events/s", rate / 1e6);
    Ok(())
}

fn reads(client: &Client, stream: kimberlite_client::StreamId) -> Result<(), Error> {
    for page_events in [1_000, 10_000, 100_000] {
        let started = Instant::now();
        let mut events = 0;
        for page in client.pages(stream, 276_000, page_events) {
            events += page?.count();
        }
        let rate = events as f64 / started.elapsed().as_secs_f64();
        println!("reading pages of {page_events}: {:.2}M events/s", rate / 1e6);
    }
    let started = Instant::now();
    let subscription = client.subscribe(stream, 276_000, &NONE)?;
    let mut events = 0;
    while events < 1_000_000 {
        events += subscription.next(None)?.map_or(0, |page| page.count());
    }
    let rate = events as f64 / started.elapsed().as_secs_f64();
    println!("subscribing: {:.2}M events/s", rate / 1e6);
    Ok(())
}
