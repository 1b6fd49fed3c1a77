//! Create, read, update and delete over an append-only log: the current state is a query.
//!
//!     cargo run -p kimberlite --example crud [ADDRESS [TOKEN [CA_FILE]]]

use kimberlite::blocking::Client;
use kimberlite::{Config, DataClass, Error, ErrorCode, StreamId};

const CURRENT: &str = "
SELECT data ->> '$.id', data ->> '$.name', data ->> '$.phone'
FROM contacts_rust
WHERE id IN (SELECT MAX(id) FROM contacts_rust GROUP BY data ->> '$.id')
  AND data ->> '$.deleted' IS NULL
ORDER BY 1";

/// Appends a contact's new state; nothing is overwritten.
fn save(client: &Client, contacts: StreamId, state: &str) -> Result<(), Error> {
    client.append(contacts, [state]).map(drop)
}

fn show(client: &Client, title: &str) -> Result<(), Error> {
    println!("{title}");
    for (id, name, phone) in client.query_as::<(i64, String, String)>(CURRENT, ())? {
        println!("  {id}: {name}, {phone}");
    }
    Ok(())
}

/// Returns how many events the history has.
pub fn run(config: Config) -> Result<i64, Error> {
    let client = Client::connect(config)?;
    let contacts = client.create_stream("contacts_rust", DataClass::NonPhi)?;
    save(&client, contacts, r#"{"id": 1, "name": "Ada", "phone": "100"}"#)?;
    save(&client, contacts, r#"{"id": 2, "name": "Grace", "phone": "200"}"#)?;
    show(&client, "created:")?;

    save(&client, contacts, r#"{"id": 2, "name": "Grace", "phone": "201"}"#)?;
    show(&client, "updated:")?;

    save(&client, contacts, r#"{"id": 1, "deleted": true}"#)?;
    show(&client, "deleted:")?;

    // Two writers: who read before the other wrote, is told so.
    let end = client.stream_info(contacts)?.next_offset;
    save(&client, contacts, r#"{"id": 2, "name": "Grace H.", "phone": "201"}"#)?;
    match client.append_at(contacts, end.into(), [r#"{"id": 2}"#]) {
        Err(error) if error.code == ErrorCode::OffsetMismatch => {
            println!("refused: the stream goes on at {}, not at {end}", error.value);
        }
        other => return other.map(|_| 0),
    }

    let counted = client.query_as::<(i64,)>("SELECT COUNT(*) FROM contacts_rust", ())?;
    let history = counted.first().map_or(0, |(count,)| *count);
    println!("history: {history} events, all still there");
    client.close()?;
    Ok(history)
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
