//! Percentiles, medians, and what the machine tells of itself and of a process.

use std::time::{Duration, Instant};

use crate::Failure;

/// Latencies of one piece of work, sorted.
pub struct Latencies(Vec<Duration>);

impl From<Vec<Duration>> for Latencies {
    fn from(mut all: Vec<Duration>) -> Latencies {
        all.sort();
        Latencies(all)
    }
}

impl Latencies {
    /// Runs `work` `count` times, after a tenth of that to warm up, and keeps each duration.
    pub fn of<E>(count: usize, mut work: impl FnMut() -> Result<(), E>) -> Result<Latencies, E> {
        for _ in 0..count / 10 {
            work()?;
        }
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            work()?;
            all.push(start.elapsed());
        }
        Ok(all.into())
    }

    /// The latency below which `percent` of them lie, in microseconds.
    pub fn micros(&self, percent: f64) -> f64 {
        let place = ((self.0.len() as f64 - 1.0) * percent / 100.0).round() as usize;
        self.0.get(place).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    }
}

/// The machine's load over the last minute, where it tells.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_string()
}

/// The resident memory of a process, in bytes; Linux tells it exactly.
pub fn resident_bytes(process: u32) -> Result<f64, Failure> {
    memory(process, "Rss:")
}

/// The part of it that no file backs: heaps, stacks, and pages of files that the process changed.
/// The rest, such as a library's code, is shared by all processes and can be dropped at any time.
pub fn anonymous_bytes(process: u32) -> Result<f64, Failure> {
    memory(process, "Anonymous:")
}

fn memory(process: u32, what: &str) -> Result<f64, Failure> {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(what));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kibibytes.ok_or_else(|| format!("{path} does not tell {what}"))? * 1024.0)
}
