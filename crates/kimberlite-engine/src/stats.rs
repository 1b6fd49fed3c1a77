//! What an open database counts about itself, for whoever watches it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of durations, in microseconds.
const DURATION_BOUNDS_US: &[u64] = &[
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
/// Upper bounds of the buckets of counts.
const COUNT_BOUNDS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 4_096];

/// How values are distributed, counted by any number of threads at once.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what lies beyond the last.
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// An empty one for durations, in microseconds.
    pub fn of_durations() -> Histogram {
        Histogram::new(DURATION_BOUNDS_US)
    }

    /// An empty one for counts.
    pub fn of_counts() -> Histogram {
        Histogram::new(COUNT_BOUNDS)
    }

    fn new(bounds: &'static [u64]) -> Histogram {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { bounds, buckets, sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts a duration in microseconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// For each bound how many values were at most that, and then how many there were in all.
    /// Values that are counted meanwhile may or may not be in it.
    pub fn cumulative(&self) -> (Vec<(u64, u64)>, u64) {
        let mut total = 0;
        let mut at_most = Vec::with_capacity(self.bounds.len());
        for (bucket, bound) in self.buckets.iter().zip(self.bounds) {
            total += bucket.load(Ordering::Relaxed);
            at_most.push((*bound, total));
        }
        let beyond = self.buckets.last().map_or(0, |bucket| bucket.load(Ordering::Relaxed));
        (at_most, total + beyond)
    }

    /// The sum of the values.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// What the commit thread counts.
#[derive(Debug)]
pub struct CommitStats {
    /// Groups that became durable.
    pub groups: AtomicU64,
    /// Appends that were answered as durable; one that repeats an earlier one counts again.
    pub appends: AtomicU64,
    /// Their events.
    pub events: AtomicU64,
    /// Bytes of blocks that became durable.
    pub block_bytes: AtomicU64,
    /// Events of the audit that became durable.
    pub audit_records: AtomicU64,
    /// How many requests a group held.
    pub group_requests: Histogram,
    /// How long a group took to write and sync, in microseconds.
    pub commit: Histogram,
    /// How long the sync (fdatasync) of a group took, in microseconds.
    pub sync: Histogram,
    /// The number of the segment that holds the newest entry.
    pub segment: AtomicU64,
    /// Whether the log takes nothing more until it is opened again.
    pub failed: AtomicBool,
    /// Whether a close has come so far that the log's end is proven: what it still does only makes
    /// the next start quicker.
    pub proven: AtomicBool,
}

impl CommitStats {
    /// Nothing so far.
    pub(crate) fn new() -> CommitStats {
        CommitStats {
            groups: AtomicU64::new(0),
            appends: AtomicU64::new(0),
            events: AtomicU64::new(0),
            block_bytes: AtomicU64::new(0),
            audit_records: AtomicU64::new(0),
            group_requests: Histogram::of_counts(),
            commit: Histogram::of_durations(),
            sync: Histogram::of_durations(),
            segment: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            proven: AtomicBool::new(false),
        }
    }
}

/// What an open database holds at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Statements and verifications at work.
    pub queries_running: usize,
    /// Those that wait for a thread.
    pub queries_waiting: usize,
    /// Those whose rows nobody takes, or that run on beyond their time.
    pub queries_aside: usize,
    /// Memory that statements hold beyond what each may have by itself, in bytes.
    pub query_bytes: u64,
    /// Bytes of requests that wait to be committed.
    pub queued_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value falls into the first bucket whose bound it does not pass; what passes all is counted
    /// too.
    #[test]
    fn values_fall_into_their_buckets() {
        let histogram = Histogram::of_counts();
        for value in [0, 1, 2, 3, 4_096, 4_097] {
            histogram.observe(value);
        }
        let (at_most, count) = histogram.cumulative();
        assert_eq!(at_most[..3], [(1, 2), (2, 3), (4, 4)]);
        assert_eq!(at_most.last(), Some(&(4_096, 5)));
        assert_eq!((count, histogram.sum()), (6, 8_199));
        let durations = Histogram::of_durations();
        durations.observe_duration(Duration::from_micros(51));
        assert_eq!(durations.cumulative().0[..2], [(50, 0), (100, 1)]);
    }
}
