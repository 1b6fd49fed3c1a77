//! The mixed load: writers of every kind, readers, followers, queries and new streams, all at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kimberlite_client::blocking::Client;
use kimberlite_client::{
    At, CallOptions, DataClass, Error, ErrorCode, EventBatch, ExpectedOffset, StreamId,
};

use crate::ledger::{Append, Ledger, Told};
use crate::random::Random;

/// What the workers of one storm share.
pub struct Shared {
    /// Where answers are noted.
    pub ledger: Ledger,
    /// Where appends go.
    pub streams: Vec<StreamId>,
    /// A stream of health data, whose reads must be on record.
    pub health: StreamId,
    /// How many reads of it were answered since the last check.
    pub health_reads: AtomicU64,
    /// Ends the load.
    pub stop: AtomicBool,
    /// The next append's number.
    pub next_id: AtomicU64,
    /// What no fault excuses.
    pub failures: std::sync::Mutex<Vec<String>>,
}

/// A client and its place among the clients.
pub struct Caller {
    /// The client.
    pub client: Client,
    /// Its place.
    pub at: usize,
}

/// A kind of load.
pub type Worker = fn(&Shared, &Caller, &mut Random) -> Result<(), Error>;

/// Every kind of load, by name; each runs on threads of its own.
pub const WORKERS: [(&str, usize, Worker); 8] = [
    ("single", 6, single),
    ("batch", 2, batch),
    ("large", 1, large),
    ("expected", 2, expected),
    ("hurried", 2, hurried),
    ("read", 2, read),
    ("follow", 1, follow),
    ("query", 1, query),
];

impl Shared {
    /// Whether the load ends.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Notes what should not have happened.
    pub fn fail(&self, text: String) {
        if let Ok(mut failures) = self.failures.lock() {
            failures.push(text);
        }
    }

    fn append(&self, caller: &Caller, stream: StreamId, count: u32, padding: usize) -> Append {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        Append { id, stream, count, padding, client: caller.at }
    }

    /// Sends one append and notes what was told of it.
    fn send(
        &self,
        client: &Client,
        append: &Append,
        expected: ExpectedOffset,
        options: &CallOptions,
    ) -> Result<u64, Error> {
        self.ledger.begin(append);
        let events = EventBatch::from_events(append.events())?;
        let answer = client.append(append.stream, expected, events, options);
        let told = match &answer {
            Ok(done) => Told::Done(done.first_offset),
            Err(Error { outcome_unknown: Some(key), .. }) => Told::Unknown(*key),
            Err(_) => Told::Refused,
        };
        self.ledger.end(append.id, told);
        answer.map(|done| done.first_offset)
    }
}

/// Runs one kind of load until it is stopped. Faults may end calls in these ways, and in no others.
pub fn run(shared: &Shared, caller: &Caller, name: &str, work: Worker, mut random: Random) {
    use ErrorCode::{ClusterUnavailable, OffsetMismatch, Overloaded, Timeout};
    while !shared.stopped() {
        match work(shared, caller, &mut random) {
            Ok(()) => {}
            Err(error) => match error.code {
                Timeout | OffsetMismatch => {}
                ClusterUnavailable | Overloaded => std::thread::sleep(Duration::from_millis(2)),
                _ => return shared.fail(format!("{name}: {error}")),
            },
        }
    }
}

fn patient() -> CallOptions {
    CallOptions::timeout_ms(20_000)
}

fn single(shared: &Shared, caller: &Caller, random: &mut Random) -> Result<(), Error> {
    let append =
        shared.append(caller, *random.pick(&shared.streams), 1, random.between(0, 200) as usize);
    shared.send(&caller.client, &append, ExpectedOffset::Any, &patient()).map(drop)
}

fn batch(shared: &Shared, caller: &Caller, random: &mut Random) -> Result<(), Error> {
    let count = random.between(2, 1_000) as u32;
    let append = shared.append(caller, *random.pick(&shared.streams), count, 84);
    shared.send(&caller.client, &append, ExpectedOffset::Any, &patient()).map(drop)
}

fn large(shared: &Shared, caller: &Caller, random: &mut Random) -> Result<(), Error> {
    let padding = random.between(100_000, 600_000) as usize;
    let append = shared.append(caller, *random.pick(&shared.streams), 1, padding);
    shared.send(&caller.client, &append, ExpectedOffset::Any, &patient())?;
    std::thread::sleep(Duration::from_millis(20));
    Ok(())
}

/// Appends where the stream ended when it was looked at; others append there too.
fn expected(shared: &Shared, caller: &Caller, random: &mut Random) -> Result<(), Error> {
    let stream = *random.pick(&shared.streams);
    let next_offset = caller.client.stream_info(stream, &patient())?.next_offset;
    let append = shared.append(caller, stream, 1, 50);
    match shared.send(&caller.client, &append, ExpectedOffset::Exact(next_offset), &patient()) {
        Ok(first) if first != next_offset => {
            shared.fail(format!("an append expected {next_offset} and got {first}"));
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Gives up quickly, so that outcomes stay unknown.
fn hurried(shared: &Shared, caller: &Caller, random: &mut Random) -> Result<(), Error> {
    let append =
        shared.append(caller, *random.pick(&shared.streams), random.between(1, 20) as u32, 30);
    let options = CallOptions::timeout_ms(random.between(1, 40));
    shared.send(&caller.client, &append, ExpectedOffset::Any, &options).map(drop)
}

fn read(shared: &Shared, caller: &Caller, random: &mut Random) -> Result<(), Error> {
    let client = &caller.client;
    let health = random.between(0, 9) == 0;
    let stream = if health { shared.health } else { *random.pick(&shared.streams) };
    let end = client.stream_info(stream, &patient())?.next_offset;
    let from = random.between(end.saturating_sub(2_000), end);
    let page = client.read(stream, from, 500, 0, &patient())?;
    if page.end_offset() < end {
        shared.fail(format!("{stream:?} ended at {end}, and then at {}", page.end_offset()));
    }
    if page.count() > 0 {
        shared.ledger.saw(stream, page.next_offset());
        shared.health_reads.fetch_add(u64::from(health), Ordering::SeqCst);
    }
    Ok(())
}

/// Follows a stream live for a while: nothing is skipped, nothing comes twice.
fn follow(shared: &Shared, caller: &Caller, random: &mut Random) -> Result<(), Error> {
    let client = &caller.client;
    let stream = *random.pick(&shared.streams);
    let mut next = client.stream_info(stream, &patient())?.next_offset;
    let subscription = client.subscribe(stream, next, &patient())?;
    for _ in 0..200 {
        if shared.stopped() {
            break;
        }
        let Some(page) = subscription.next(Some(Duration::from_millis(50)))? else { continue };
        if page.first_offset() != next {
            shared.fail(format!("after {next} a subscription gave {}", page.first_offset()));
        }
        next = page.next_offset();
        shared.ledger.saw(stream, next);
    }
    subscription.close();
    Ok(())
}

/// Counts by SQL; what was counted may not become less.
fn query(shared: &Shared, caller: &Caller, random: &mut Random) -> Result<(), Error> {
    let client = &caller.client;
    let at = random.between(0, shared.streams.len() as u64 - 1) as usize;
    let Some(stream) = shared.streams.get(at) else { return Ok(()) };
    let sql = format!("SELECT count(*), coalesce(max(id) + 1, 0) FROM storm_{at}");
    let rows = client.query(&sql, &[], At::Now, &patient())?.rows_as::<(i64, i64)>()?;
    match rows.first() {
        Some((count, end)) if count == end => shared.ledger.saw(*stream, *count as u64),
        other => shared.fail(format!("{sql}: {other:?}")),
    }
    std::thread::sleep(Duration::from_millis(5));
    Ok(())
}

/// A stream for the load.
pub fn create(client: &Client, name: &str, class: DataClass) -> Result<StreamId, Error> {
    client.create_stream(name, class, &patient())
}
