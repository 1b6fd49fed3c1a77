//! An audit trail: who read which patient's file, what was known when, and proof that it stands.
//!
//!     cargo run -p kimberlite --example audit_trail [ADDRESS [TOKEN [CA_FILE]]]

use kimberlite::blocking::Client;
use kimberlite::{At, Config, DataClass, Error, FromRow, Row, genesis_of, verify_blocks};

const DOSES: &str = "
SELECT data ->> '$.drug' AS drug, data ->> '$.dose_mg' AS dose_mg
FROM prescriptions_rust WHERE data ->> '$.patient' = ? ORDER BY id";

#[derive(Debug)]
struct Dose {
    drug: String,
    dose_mg: i64,
}

impl FromRow for Dose {
    fn from_row(row: &Row<'_>) -> Result<Dose, Error> {
        Ok(Dose { drug: row.get("drug")?, dose_mg: row.get("dose_mg")? })
    }
}

/// Returns whether the chain that this process walked has the head that the server told.
pub fn run(config: Config) -> Result<bool, Error> {
    let tenant_id = config.tenant_id;
    let client = Client::connect(config)?;
    let stream = client.create_stream("prescriptions_rust", DataClass::Phi)?;
    let prescribe = |patient: u32, drug: &str, dose_mg: u32| {
        let event = format!(r#"{{"patient": {patient}, "drug": "{drug}", "dose_mg": {dose_mg}}}"#);
        client.append(stream, [event]).map(|appended| appended.position)
    };

    let first = prescribe(7, "amoxicillin", 500)?;
    prescribe(7, "amoxicillin", 750)?;
    prescribe(9, "ibuprofen", 400)?;

    let tell = |when: &str, doses: Vec<Dose>| {
        for dose in doses {
            println!("{when}: {} {} mg", dose.drug, dose.dose_mg);
        }
    };
    tell("now", client.query_as(DOSES, (7,))?);
    tell("then", client.query_at(DOSES, (7,), At::Position(first))?.rows_as()?);

    // Each read of protected health information left a record, before its first byte was sent.
    let records = "SELECT text FROM _audit ORDER BY id DESC LIMIT 5";
    for (record,) in client.query_as::<(String,)>(records, ())? {
        println!("audit: {record}");
    }

    // The server walks the hash chain, and so does this process, which need not trust it.
    let told = client.verify(stream)?;
    let mut proven = genesis_of(tenant_id, &client.stream_info(stream)?)?;
    let core = client.to_core();
    loop {
        let blocks =
            core.read_blocks(stream, proven.next_offset, 10_000, 0, &Default::default())?;
        if blocks.bytes().is_empty() {
            break;
        }
        proven = verify_blocks(proven, blocks.bytes())?;
    }
    let equal = proven.head == told.head;
    println!("proof: {} events, heads equal: {equal}", proven.next_offset);
    client.close()?;
    Ok(equal)
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
