//! The Rust client's work beside which SDKs are measured, a piece of work for each line of standard
//! input, so that another language's can be measured in turn with it. On a `memory:` database:
//!
//! - `append BATCHES`, `pages` and `query` print events or rows per second;
//! - `latency append COUNT` and `latency read COUNT` print two percentiles, 50 and 99, in µs.
//!
//! `remote ADDRESS TOKEN STREAM` does a fixed piece of all work on a server, prints a 0, and leaves the
//! client open, so that the memory of this process can be read. `small` prints the bytes that the
//! managed heap takes for small objects, and `large`, where that is not 0, those of the large ones.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

use kimberlite_client::blocking::Client;
use kimberlite_client::{
    At, CallOptions, Config, DataClass, EventBatch, ExpectedOffset, StreamId, ValueRef,
};

const DEFAULTS: CallOptions = CallOptions { timeout_ms: None, min_position: 0, stale: false };

fn main() -> Result<(), Box<dyn Error>> {
    let mut work = None;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        if let ["remote", address, token, stream] = words[..] {
            let config = Config::new([address]).tenant(1).token(token);
            let remote = Work::new(config, stream)?;
            remote.everything()?;
            give_back();
            println!("0");
            work = Some(remote);
        } else if words == ["small"] {
            println!("0");
        } else {
            if work.is_none() {
                work = Some(Work::new(Config::new(["memory:"]).tenant(1), "events")?);
            }
            let Some(work) = &work else { return Err("there is no client".into()) };
            println!("{}", work.answer(&words)?);
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// A client, a stream, and what is appended to it.
struct Work {
    client: Client,
    stream: StreamId,
    name: String,
    events: Vec<Vec<u8>>,
}

impl Work {
    fn new(config: Config, name: &str) -> Result<Work, Box<dyn Error>> {
        let client = Client::connect(config)?;
        let stream = client.create_stream(name, DataClass::NonPhi, &DEFAULTS)?;
        Ok(Work { client, stream, name: name.into(), events: vec![vec![0u8; 100]; 1000] })
    }

    fn answer(&self, words: &[&str]) -> Result<String, Box<dyn Error>> {
        let start = Instant::now();
        let done = match *words {
            ["append", batches] => self.append(batches.parse()?)?,
            ["pages"] => self.pages()?,
            ["query"] => self.query()?,
            ["latency", "append", count] => {
                let one = EventBatch::from_events([[b'x'; 100]])?;
                return latency(count.parse()?, || {
                    let any = ExpectedOffset::Any;
                    self.client.append(self.stream, any, one.clone(), &DEFAULTS).map(drop)
                });
            }
            ["latency", "read", count] => {
                return latency(count.parse()?, || {
                    self.client.read(self.stream, 0, 1, 0, &DEFAULTS).map(drop)
                });
            }
            _ => return Err(format!("{words:?} is no work").into()),
        };
        Ok((done as f64 / start.elapsed().as_secs_f64()).to_string())
    }

    /// Packs and appends batches, one in flight.
    fn append(&self, batches: usize) -> Result<usize, Box<dyn Error>> {
        for _ in 0..batches {
            let batch = EventBatch::from_events(&self.events)?;
            self.client.append(self.stream, ExpectedOffset::Any, batch, &DEFAULTS)?;
        }
        Ok(batches * self.events.len())
    }

    /// Reads the stream in pages of 10,000.
    fn pages(&self) -> Result<usize, Box<dyn Error>> {
        let mut events = 0;
        for page in self.client.pages(self.stream, 0, 10_000) {
            events += black_box(page?.data()).len() / 100;
        }
        Ok(events)
    }

    /// Reads the stream by SQL and looks at every cell.
    fn query(&self) -> Result<usize, Box<dyn Error>> {
        let sql = format!("SELECT id, timestamp, data FROM {}", self.name);
        let mut cursor = self.client.query_cursor(&sql, &[], At::Now, &DEFAULTS)?;
        let mut rows = 0;
        while let Some(batch) = cursor.next_batch()? {
            for row in batch.rows() {
                for column in 0..row.len() {
                    match row.value(column)? {
                        ValueRef::Int64(value) => drop(black_box(value)),
                        value => drop(black_box(value)),
                    }
                }
                rows += 1;
            }
        }
        Ok(rows)
    }

    /// What the memory of every SDK is measured after.
    fn everything(&self) -> Result<(), Box<dyn Error>> {
        self.append(100)?;
        // Other languages cannot but copy a page into memory of their own; while they do, the next
        // one is read.
        for page in self.client.pages(self.stream, 0, 10_000) {
            black_box(page?.data().to_vec());
        }
        self.query()?;
        for offset in 0..1000 {
            self.client.read(self.stream, offset, 1, 0, &DEFAULTS)?;
        }
        Ok(())
    }
}

/// Gives the system what the allocator keeps free: which freed megabyte it keeps is chance.
fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: it takes a number and touches free memory only.
        unsafe { malloc_trim(0) };
    }
}

fn latency(
    count: usize,
    mut call: impl FnMut() -> Result<(), kimberlite_client::Error>,
) -> Result<String, Box<dyn Error>> {
    for _ in 0..count / 10 {
        call()?;
    }
    let mut micros = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        call()?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    let at = |share: usize| micros.get((count - 1) * share / 100).copied().unwrap_or(0.0);
    Ok(format!("{} {}", at(50), at(99)))
}
