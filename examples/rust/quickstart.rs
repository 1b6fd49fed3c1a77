//! The main job in Rust: write, read, follow live, query, query the past, verify.
//!
//! `quickstart ADDRESS [TOKEN CA_FILE]`, where ADDRESS is `memory:`, `embedded:FOLDER`, `host:port`
//! or `tls://host:port`.

use std::time::Duration;

use kimberlite::blocking::Client;
use kimberlite::{At, Config, DataClass, Error, VerifyResponse};

/// Returns what the walk over the stream's hash chain found.
pub fn run(config: Config) -> Result<VerifyResponse, Error> {
    let client = Client::connect(config)?;
    let visits = client.create_stream("visits_rust", DataClass::Phi)?;
    let before = client.append(visits, [r#"{"patient": 7, "reason": "check-up"}"#])?;
    client.append(visits, [r#"{"patient": 9, "reason": "fracture"}"#])?;

    for event in client.read(visits, before.first_offset, 100)?.events() {
        println!("read: offset {}: {}", event.offset, String::from_utf8_lossy(event.data));
    }

    // A subscription gives what is there from an offset on, then what comes.
    let end = client.stream_info(visits)?.next_offset;
    let subscription = client.subscribe(visits, end.into())?;
    let awaited = client.append(visits, [r#"{"patient": 7, "reason": "follow-up"}"#])?;
    let mut next = end;
    while next < awaited.next_offset.into() {
        let Some(page) = subscription.next(Some(Duration::from_secs(10)))? else { continue };
        for event in page.events() {
            println!("live: offset {}: {}", event.offset, String::from_utf8_lossy(event.data));
            next = event.offset + 1;
        }
    }

    let sql =
        "SELECT id, data ->> '$.reason' AS reason FROM visits_rust WHERE data ->> '$.patient' = ?";
    for (id, reason) in client.query_as::<(i64, String)>(sql, (7,))? {
        println!("sql: {id} {reason}");
    }

    // The same question, as of the moment of the first append.
    for row in client.query_at(sql, (7,), At::Position(before.position))?.rows() {
        let (id, reason): (i64, String) = (row.get("id")?, row.get("reason")?);
        println!("sql as of position {}: {id} {reason}", before.position);
    }

    let found = client.verify(visits)?;
    let head: String = found.head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    println!("verify: valid={}, {} events, head {head}…", found.valid, found.count);
    client.close()?;
    Ok(found)
}

#[allow(dead_code)] // The tests call `run` instead.
fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let Some(address) = arguments.next() else {
        eprintln!("usage: quickstart ADDRESS [TOKEN CA_FILE]");
        std::process::exit(2);
    };
    let mut config = Config::new([address]).tenant(1);
    if let Some(token) = arguments.next() {
        config = config.token(token);
    }
    if let Some(ca_file) = arguments.next() {
        config = config.tls_ca_file(ca_file);
    }
    run(config).map(drop)
}
