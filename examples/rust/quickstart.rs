//! The main job in Rust: write, read, follow live, query, query the past, verify.
//!
//! `quickstart ADDRESS [TOKEN CA_FILE]`, where ADDRESS is `memory:`, `embedded:FOLDER`, `host:port`
//! or `tls://host:port`.

use std::time::Duration;

use kimberlite::blocking::{Client, Subscription};
use kimberlite::{At, Config, DataClass, Error, Offset};

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

    // cut-begin
    let client = Client::connect(config)?;
    let visits = client.create_stream("visits_rust", DataClass::Phi)?;
    let before = client.append(visits, [r#"{"patient": 7, "reason": "check-up"}"#])?;
    client.append(visits, [r#"{"patient": 9, "reason": "fracture"}"#])?;

    for event in client.read(visits, Offset::START, 100)?.events() {
        println!("read: offset {}: {}", event.offset, String::from_utf8_lossy(event.data));
    }

    // A subscription gives what is there, then what comes.
    let subscription = client.subscribe(visits, Offset::START)?;
    follow(&subscription, 2)?;
    client.append(visits, [r#"{"patient": 7, "reason": "follow-up"}"#])?;
    follow(&subscription, 1)?;

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
    client.close()
    // cut-end
}

/// Prints events until `wanted` came.
fn follow(subscription: &Subscription, wanted: usize) -> Result<(), Error> {
    let mut seen = 0;
    while seen < wanted {
        let Some(page) = subscription.next(Some(Duration::from_secs(10)))? else { continue };
        for event in page.events() {
            println!("live: offset {}: {}", event.offset, String::from_utf8_lossy(event.data));
        }
        seen += page.count();
    }
    Ok(())
}
