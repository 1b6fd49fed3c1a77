//! Medians, percentiles and the load of the machine.

use std::time::{Duration, Instant};

/// Latencies of one piece of work, sorted.
pub struct Latencies(Vec<Duration>);

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
        all.sort();
        Ok(Latencies(all))
    }

    /// The latency below which `percent` of them lie, in microseconds.
    pub fn micros(&self, percent: f64) -> f64 {
        let place = ((self.0.len() as f64 - 1.0) * percent / 100.0).round() as usize;
        self.0.get(place).map_or(0.0, |d| d.as_secs_f64() * 1e6)
    }
}

/// The middle of some figures.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}

/// The machine's load over the last minute, where it tells.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_string()
}
