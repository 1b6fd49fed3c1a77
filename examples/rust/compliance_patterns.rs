//! Who read it, what was known when, whose it is, and proof: the patterns of compliance.
//!
//!     cargo run -p kimberlite --example compliance_patterns [ADDRESS [TOKEN [CA_FILE]]]

use kimberlite::blocking::Client;
use kimberlite::{
    At, Config, DataClass, Error, ErrorCode, Offset, StreamId, genesis_of, verify_blocks,
};

fn correct(client: &Client, doses: StreamId) -> Result<u64, Error> {
    // cut-begin correct
    let wrong = client.append(doses, [r#"{"patient": 7, "drug": "amoxicillin", "mg": 5000}"#])?;
    let corrects = wrong.first_offset;
    let right =
        format!(r#"{{"patient": 7, "drug": "amoxicillin", "mg": 500, "corrects": {corrects}}}"#);
    client.append(doses, [right])?;
    // cut-end
    Ok(wrong.position)
}

fn known_then(client: &Client, before: u64) -> Result<(i64, i64), Error> {
    // cut-begin past
    let sql = "SELECT data ->> '$.mg' FROM doses_rust ORDER BY id DESC LIMIT 1";
    let then = client.query_at(sql, (), At::Position(before))?.rows_as::<(i64,)>()?;
    let now = client.query_as::<(i64,)>(sql, ())?;
    println!("the nurse saw {then:?} mg; today the record says {now:?} mg");
    // cut-end
    match (then.first(), now.first()) {
        (Some(then), Some(now)) => Ok((then.0, now.0)),
        _ => Ok((0, 0)),
    }
}

fn who_read(client: &Client, doses: StreamId) -> Result<usize, Error> {
    client.read(doses, Offset::START, 10)?;
    // cut-begin audit
    let records: Vec<(i64, String, String)> = client.query_as(
        "SELECT timestamp, data ->> '$.principal', data ->> '$.event'
         FROM _audit WHERE data ->> '$.stream' = ? ORDER BY id",
        ("doses_rust",),
    )?;
    for (timestamp, who, what) in &records {
        println!("{timestamp} {who} {what}");
    }
    // cut-end
    Ok(records.len())
}

/// Returns whether the decision was taken although the stream had gone on.
fn only_if_unchanged(client: &Client, doses: StreamId) -> Result<bool, Error> {
    // cut-begin expected
    let seen = client.stream_info(doses)?.next_offset;
    client.append(doses, [r#"{"patient": 9, "drug": "ibuprofen", "mg": 400}"#])?; // somebody else
    match client.append_at(doses, seen.into(), [r#"{"decision": "discharge"}"#]) {
        Err(error) if error.code == ErrorCode::OffsetMismatch => {
            println!("read what came since {seen} first: it now ends at {}", error.value);
        }
        other => return other.map(|_| true),
    }
    // cut-end
    Ok(false)
}

/// Returns whether the other tenant saw nothing; only a database of this process needs no token.
fn isolated(addresses: &[String]) -> Result<bool, Error> {
    if !addresses.iter().all(|address| address.starts_with("memory:")) {
        return Ok(true);
    }
    // cut-begin isolation
    let other = Client::connect(Config::new(addresses).tenant(2))?;
    let found = other.stream_by_name("doses_rust");
    let unseen = found.is_err_and(|error| error.code == ErrorCode::StreamNotFound);
    // cut-end
    other.close()?;
    Ok(unseen)
}

fn proof(client: &Client, tenant_id: u64, doses: StreamId) -> Result<bool, Error> {
    // cut-begin proof
    let server_says = client.verify(doses)?;
    let mut proven = genesis_of(tenant_id, &client.stream_info(doses)?)?;
    let core = client.to_core();
    while proven.next_offset < server_says.count {
        let blocks = core.read_blocks(doses, proven.next_offset, 10_000, 0, &Default::default())?;
        proven = verify_blocks(proven, blocks.bytes())?;
    }
    let same = proven.head == server_says.head;
    println!("{} events, proven here: {same}", proven.next_offset);
    // cut-end
    Ok(same)
}

/// Returns whether every pattern held.
pub fn run(config: Config) -> Result<bool, Error> {
    let (tenant_id, addresses) = (config.tenant_id, config.addresses.clone());
    let client = Client::connect(config)?;
    let doses = client.create_stream("doses_rust", DataClass::Phi)?;
    let before = correct(&client, doses)?;
    let held = known_then(&client, before)? == (5000, 500)
        && who_read(&client, doses)? > 0
        && !only_if_unchanged(&client, doses)?
        && isolated(&addresses)?
        && proof(&client, tenant_id, doses)?;
    println!("every pattern held: {held}");
    client.close()?;
    Ok(held)
}

#[allow(dead_code)] // The tests call `run` instead.
fn main() -> Result<(), Error> {
    let mut words = std::env::args().skip(1);
    let mut config = Config::new([words.next().unwrap_or("memory:patterns".into())]).tenant(1);
    if let Some(token) = words.next() {
        config = config.token(token);
    }
    if let Some(ca_file) = words.next() {
        config = config.tls_ca_file(ca_file);
    }
    run(config).map(drop)
}
