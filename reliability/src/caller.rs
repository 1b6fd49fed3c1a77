//! The Rust program of the leak test: calls of every kind, then connects and closes.
//!
//! Each language has one like it. It is called with PLACE WRONG_PLACE TOKEN CALLS CONNECTS, says
//! `mark PHASE` at the set points, and goes on when a line comes back: whoever started it looks at
//! its memory, files and threads meanwhile.

use std::io::{BufRead, Write};
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use kimberlite_client::blocking::Client;
use kimberlite_client::{
    At, CallOptions, Config, DataClass, Error, ErrorCode, EventBatch, ExpectedOffset, StreamId,
};

/// How often each phase is looked at, after a look at its begin.
pub const LOOKS: u64 = 20;

/// What a program loses on purpose, to show that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// Eight kilobytes with each call.
    Memory,
    /// An open file with each connect.
    File,
    /// A thread that never ends with each connect.
    Thread,
}

/// What the program does.
pub struct Calls {
    /// The address.
    pub place: String,
    /// An address where nothing can be reached.
    pub wrong_place: String,
    /// The token.
    pub token: String,
    /// How many calls, after a tenth as many to warm up.
    pub calls: u64,
    /// How many connects, likewise.
    pub connects: u64,
    /// What it loses; a program without a defect loses nothing.
    pub plant: Option<Plant>,
}

/// Says that a set point is reached, and waits until it was looked at.
fn mark(phase: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "mark {phase}").and_then(|()| out.flush()).map_err(|e| e.to_string())?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| e.to_string())?;
    if line.is_empty() { Err("nobody looks any more".to_string()) } else { Ok(()) }
}

/// Does something so often, after a tenth of it to warm up, and marks the set points.
fn phase(
    name: &str,
    count: u64,
    mut each: impl FnMut(u64) -> Result<(), Error>,
) -> Result<(), String> {
    let warm_up = (count / 10).max(10);
    for number in 0..warm_up + count {
        if number >= warm_up && (number - warm_up).is_multiple_of((count / LOOKS).max(1)) {
            mark(name)?;
        }
        each(number).map_err(|e| format!("{name} {number}: {e}"))?;
    }
    mark(name)
}

/// Runs both phases.
pub fn run(calls: &Calls) -> Result<(), String> {
    let client = connect(&calls.place, &calls.token).map_err(|e| e.to_string())?;
    let streams = prepare(&client).map_err(|e| e.to_string())?;
    phase("calls", calls.calls, |number| {
        if calls.plant == Some(Plant::Memory) {
            std::mem::forget(std::hint::black_box(vec![number as u8; 8 << 10]));
        }
        call(&client, &streams, number)
    })?;
    client.close(10_000).map_err(|e| e.to_string())?;
    drop(client);
    phase("connects", calls.connects, |number| {
        match calls.plant {
            Some(Plant::File) => std::mem::forget(std::fs::File::open("/proc/self/stat")),
            Some(Plant::Thread) => drop(std::thread::spawn(std::thread::park)),
            _ => {}
        }
        if number % 10 == 9 {
            return fails(connect(&calls.wrong_place, &calls.token).map(drop));
        }
        let client = connect(&calls.place, &calls.token)?;
        client.stream_info(streams.fixed, &CallOptions::default())?;
        client.close(10_000)
    })
}

/// The streams of the calls: one that grows, and one that does not, for everything that reads.
struct Streams {
    grows: StreamId,
    fixed: StreamId,
}

fn connect(place: &str, token: &str) -> Result<Client, Error> {
    Client::connect(Config::new([place]).tenant(1).token(token))
}

fn prepare(client: &Client) -> Result<Streams, Error> {
    let patient = CallOptions::default();
    let grows = client.create_stream("leaks_grows", DataClass::NonPhi, &patient)?;
    let fixed = client.create_stream("leaks_fixed", DataClass::NonPhi, &patient)?;
    let missing = 5_000 - client.stream_info(fixed, &patient)?.next_offset;
    for _ in 0..missing / 1_000 {
        let events = EventBatch::from_events(vec![[b'x'; 100]; 1_000])?;
        client.append(fixed, ExpectedOffset::Any, events, &patient)?;
    }
    Ok(Streams { grows, fixed })
}

/// What must fail fails.
fn fails(answer: Result<(), Error>) -> Result<(), Error> {
    match answer {
        Err(_) => Ok(()),
        Ok(()) => Err(Error::new(ErrorCode::Internal, "a call that must fail did not")),
    }
}

/// One call of the kind that is next.
fn call(client: &Client, streams: &Streams, number: u64) -> Result<(), Error> {
    let (patient, fixed) = (CallOptions::default(), streams.fixed);
    match number % 10 {
        0 => {
            let events = EventBatch::from_events([[b'y'; 100]])?;
            client.append(streams.grows, ExpectedOffset::Any, events, &patient).map(drop)
        }
        1 | 2 => client.read(fixed, number % 4_000, 100, 0, &patient).map(drop),
        3 => {
            let sql = "SELECT count(*), max(id) FROM leaks_fixed WHERE id >= ?1";
            let from = kimberlite_client::Value::Int64((number % 4_000) as i64);
            client.query(sql, &[from], At::Now, &patient).map(drop)
        }
        4 => client.stream_info(fixed, &patient).map(drop),
        5 => fails(client.read(StreamId(u64::MAX - number), 0, 1, 0, &patient).map(drop)),
        6 => fails(client.query("SELECT nothing FROM nowhere", &[], At::Now, &patient).map(drop)),
        7 => {
            let asked = client.to_async();
            let mut dropped = pin!(asked.read(fixed, 0, 5_000, 0, &patient));
            // It may be done at once; else it is given up under way.
            let _ = dropped.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            Ok(())
        }
        8 => {
            let sql = "SELECT id, data FROM leaks_fixed";
            let mut cursor = client.query_cursor(sql, &[], At::Now, &patient)?;
            cursor.next_batch().map(drop)
        }
        _ => {
            let subscription = client.subscribe(fixed, 4_000, &patient)?;
            subscription.next(Some(Duration::from_secs(10))).map(drop)
        }
    }
}
