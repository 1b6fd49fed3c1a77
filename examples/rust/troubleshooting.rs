//! What to do with an error: ask its code, try again where that is safe, settle what is unknown.
//!
//!     cargo run -p kimberlite --example troubleshooting [ADDRESS [TOKEN [CA_FILE]]]

use std::time::Duration;

use kimberlite::blocking::Client;
use kimberlite::{CallOptions, Config, DataClass, Error, ErrorCode, StreamId};

fn catch(client: &Client) -> Result<(), Error> {
    // cut-begin catch
    match client.stream_by_name("vists") {
        Err(error) if error.code == ErrorCode::StreamNotFound => {
            println!("{} {}", error.code.name(), error.number); // the same in every language
            println!("{}", error.detail); // which stream of which tenant
        }
        other => drop(other?),
    }
    // cut-end
    Ok(())
}

// cut-begin retry
fn with_retries<T>(mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for attempt in 1..5 {
        match call() {
            Err(error) if error.is_retryable() => {
                let pause_ms = u64::from(error.retry_after_ms).max(50 << attempt);
                std::thread::sleep(Duration::from_millis(pause_ms));
            }
            done => return done,
        }
    }
    call()
}
// cut-end

fn settle(client: &Client, visits: StreamId) -> Result<u64, Error> {
    // cut-begin settle
    let events = [r#"{"patient": 7}"#];
    let hurried = client.with_options(CallOptions::timeout_ms(1));
    let appended = match hurried.append(visits, events) {
        Ok(appended) => appended,
        Err(error) => match error.outcome_unknown {
            None => return Err(error), // nothing was sent
            // It was sent, and nobody knows: the key tells what became of it, or does it now.
            Some(key) => client.append_with_key(key, visits, events)?,
        },
    };
    // cut-end
    Ok(appended.first_offset.0)
}

fn follow_the_log() {
    // cut-begin log
    // The crates log with `tracing`; any subscriber shows their lines.
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::INFO).init();
    // cut-end
}

/// Returns how often the event is there: once, or not at all where nothing was sent.
pub fn run(config: Config) -> Result<u64, Error> {
    follow_the_log();
    let client = Client::connect(config)?;
    catch(&client)?;
    let visits = with_retries(|| client.create_stream("settled_visits_rust", DataClass::NonPhi))?;
    let before = client.stream_info(visits)?.next_offset;
    let expected = match settle(&client, visits) {
        Ok(_) => 1,
        Err(error) if error.code == ErrorCode::Timeout => 0, // over before anything was sent
        Err(error) => return Err(error),
    };
    let there = client.stream_info(visits)?.next_offset - before;
    assert_eq!(there, expected, "an append is there once or not at all");
    println!("every error was understood");
    client.close()?;
    Ok(there)
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
