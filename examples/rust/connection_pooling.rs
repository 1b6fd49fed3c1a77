//! One client for the whole program: addresses, pool, deadlines, threads, and a close that waits.
//!
//!     cargo run -p kimberlite --example connection_pooling [ADDRESS [TOKEN [CA_FILE]]]

use kimberlite::blocking::Client;
use kimberlite::{CallOptions, ClientOptions, Config, DataClass, Error, ErrorCode, StreamId};

fn configure(mut config: Config) -> Config {
    // cut-begin connect
    config.options = ClientOptions {
        pool_connections: 4,
        connect_timeout_ms: 5_000,
        timeout_ms: 10_000,
        client_name: "billing".into(),
        ..config.options
    };
    // cut-end
    config
}

fn share(client: &Client, visits: StreamId) -> Result<usize, Error> {
    // cut-begin share
    let offsets = std::thread::scope(|threads| {
        let work = |worker: usize| {
            let client = client.clone(); // the same client: clones share its connections
            threads.spawn(move || {
                (0..12)
                    .map(|_| client.append(visits, [format!(r#"{{"worker": {worker}}}"#)]))
                    .collect::<Result<Vec<_>, Error>>()
            })
        };
        let running: Vec<_> = (0..8).map(work).collect();
        running.into_iter().map(|thread| thread.join().expect("no thread panicked")).collect()
    });
    // cut-end
    let offsets: Result<Vec<_>, Error> = offsets;
    Ok(offsets?.concat().len())
}

fn bounded(client: &Client) -> Result<(), Error> {
    let slow =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n";
    // cut-begin deadline
    let hurried = client.with_options(CallOptions::timeout_ms(200));
    match hurried.query(slow, ()) {
        Err(error) if error.code == ErrorCode::Timeout => println!("too slow: {error}"),
        other => drop(other?),
    }
    // cut-end
    Ok(())
}

/// Returns how many appends eight threads made over one client.
pub fn run(config: Config) -> Result<usize, Error> {
    let client = Client::connect(configure(config))?;
    let visits = client.create_stream("pooled_visits_rust", DataClass::NonPhi)?;
    let appended = share(&client, visits)?;
    println!("{appended} appends from 8 threads over one client");
    bounded(&client)?;
    // cut-begin close
    client.close()?; // ends what is under way with CLOSED; nothing of it is lost unnoticed
    // cut-end
    Ok(appended)
}

#[allow(dead_code)] // The tests call `run` instead.
fn main() -> Result<(), Error> {
    let mut words = std::env::args().skip(1);
    let mut config = Config::new([words.next().unwrap_or("memory:".into())]).tenant(1);
    if let Some(token) = words.next() {
        config = config.token(token);
    }
    if let Some(ca_file) = words.next() {
        config = config.tls_ca_file(ca_file);
    }
    run(config).map(drop)
}
