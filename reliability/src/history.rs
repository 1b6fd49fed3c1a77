//! Clients in several languages append to and read one stream while the server is killed and the
//! network cut; each writes down what it was told and when. `reliability/history` judges it.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use kimberlite_client::blocking::Client;
use kimberlite_client::{Config, DataClass, Error, EventBatch, ExpectedOffset};
use rustix::time::{ClockId, clock_gettime};

use crate::proxy::Proxy;
use crate::random::Random;
use crate::server::{Server, TOKEN};
use crate::storm::{Fault, strike};
use crate::workers;

/// The stream that every client works on.
const STREAM: &str = "history";
const FAULTS: [Fault; 4] = [Fault::Kill, Fault::Cut, Fault::CutInside, Fault::Pause];

/// What a history is made of.
pub struct History {
    /// The program `kimberlite-server`.
    pub program: PathBuf,
    /// Where its data and the histories go.
    pub folder: PathBuf,
    /// What the clients and the faults choose follows from it.
    pub seed: u64,
    /// The clients' commands, to which ADDRESS TOKEN STREAM CLIENT CALLS SEED OUT are appended.
    pub clients: Vec<String>,
    /// How many calls each makes.
    pub calls: u64,
}

/// Runs the clients to their end and tells the files.
pub fn run(history: &History) -> Result<Vec<PathBuf>, String> {
    let mut random = Random::new(history.seed);
    let mut server = Server::start(&history.program, &history.folder)?;
    let proxy = Proxy::start(server.address()).map_err(|e| e.to_string())?;
    let address = proxy.address().to_string();
    let client = connect(&address).map_err(|e| e.to_string())?;
    workers::create(&client, STREAM, DataClass::NonPhi).map_err(|e| e.to_string())?;

    let mut running = Vec::new();
    let mut files = Vec::new();
    for (number, command) in history.clients.iter().enumerate() {
        let out = history.folder.join(format!("client-{number}.jsonl"));
        running.push(start(history, command, &address, number, &out)?);
        files.push(out);
    }
    let mut faults = 0;
    loop {
        let mut ended = true;
        for child in &mut running {
            match child.try_wait().map_err(|e| e.to_string())? {
                Some(status) if !status.success() => return Err(format!("a client: {status}")),
                status => ended &= status.is_some(),
            }
        }
        if ended {
            println!("{faults} faults while the clients worked");
            return Ok(files);
        }
        strike(&mut server, &proxy, *random.pick(&FAULTS), &mut random)?;
        faults += 1;
        std::thread::sleep(Duration::from_millis(random.between(100, 400)));
    }
}

fn start(
    history: &History,
    command: &str,
    address: &str,
    number: usize,
    out: &Path,
) -> Result<Child, String> {
    let mut words = command.split_whitespace();
    let program = words.next().ok_or("a client's command is empty")?;
    Command::new(program)
        .args(words)
        .args([address, TOKEN, STREAM])
        .args([number.to_string(), history.calls.to_string(), history.seed.to_string()])
        .arg(out)
        .spawn()
        .map_err(|e| format!("{command}: {e}"))
}

fn connect(address: &str) -> Result<Client, Error> {
    let mut config = Config::new([address]).tenant(1).token(TOKEN);
    config.options.keepalive_ms = 1_000;
    config.options.timeout_ms = 20_000;
    Client::connect(config)
}

/// The Rust client of a history.
pub struct Recorder {
    /// Where the database is.
    pub address: String,
    /// The stream's name.
    pub stream: String,
    /// The client's number in the history.
    pub number: u64,
    /// How many calls it makes.
    pub calls: u64,
    /// What it chooses follows from it.
    pub seed: u64,
    /// Where its lines go.
    pub out: PathBuf,
}

/// Makes the calls and writes them down.
pub fn record(recorder: &Recorder) -> Result<(), String> {
    let shown = |e: Error| e.to_string();
    let file = File::create(&recorder.out).map_err(|e| e.to_string())?;
    let mut out = BufWriter::new(file);
    let mut random = Random::new(recorder.seed * 1_000 + recorder.number);
    let client = connect(&recorder.address).map_err(shown)?;
    let none = Default::default();
    let found = client.stream_by_name(&recorder.stream, &none).map_err(shown)?;
    let stream = kimberlite_client::StreamId(found.stream_id);
    let (mut length, mut digest) = (0, 0xcbf2_9ce4_8422_2325_u64);
    for call in 0..recorder.calls {
        let value = recorder.number << 32 | call;
        let appends = random.between(0, 1) == 0;
        let begin = now_ns();
        let (end, told) = if appends {
            let events = EventBatch::from_events([value.to_le_bytes()]).map_err(shown)?;
            let answer = client.append(stream, ExpectedOffset::Any, events, &none);
            (now_ns(), appended(answer.map(|done| done.first_offset)))
        } else {
            let answer = client.read(stream, length, 100_000, 0, &none);
            let end = now_ns();
            let told = match answer {
                Err(e) => failed(&e),
                Ok(page) => {
                    for byte in page.data() {
                        digest = (digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
                    }
                    length += page.count() as u64;
                    format!(r#""length": {length}, "digest": "{digest}""#)
                }
            };
            (end, told)
        };
        let (client, op) = (recorder.number, if appends { "append" } else { "read" });
        writeln!(
            out,
            r#"{{"client": {client}, "op": "{op}", "value": {value}, "begin": {begin}, "end": {end}, {told}}}"#
        )
        .map_err(|e| e.to_string())?;
    }
    out.flush().map_err(|e| e.to_string())
}

fn appended(answer: Result<u64, Error>) -> String {
    match answer {
        Ok(offset) => format!(r#""offset": {offset}"#),
        Err(e) => format!(r#""unknown": {}, {}"#, e.outcome_unknown.is_some(), failed(&e)),
    }
}

fn failed(error: &Error) -> String {
    format!(r#""error": "{}""#, error.code.name())
}

/// The clock that every process of the machine shares.
fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
