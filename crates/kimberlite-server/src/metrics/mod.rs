//! What the server counts, and how it tells.
//!
//! Labels have few values, known from the start: never a tenant, a stream, a principal or an
//! address.

mod process;
mod render;
mod text;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kimberlite_engine::Histogram;
use kimberlite_wire::{Error, ErrorCode, Operation};

pub(crate) use process::descriptor_limit;
pub(crate) use render::render;

/// More than the largest number of an operation, and of an error.
const OPERATIONS: usize = 32;
const CODES: usize = 64;

/// A bound of the server's own that refused or closed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Connections,
    Handshakes,
    HandshakeTimeout,
    IdleTimeout,
    StallTimeout,
    InflightRequests,
    TotalInflightRequests,
    TenantQueueBytes,
    TotalQueueBytes,
    TotalBufferBytes,
    AuthFailures,
    OpenFiles,
}

impl Bound {
    pub(crate) const ALL: [Bound; 12] = [
        Bound::Connections,
        Bound::Handshakes,
        Bound::HandshakeTimeout,
        Bound::IdleTimeout,
        Bound::StallTimeout,
        Bound::InflightRequests,
        Bound::TotalInflightRequests,
        Bound::TenantQueueBytes,
        Bound::TotalQueueBytes,
        Bound::TotalBufferBytes,
        Bound::AuthFailures,
        Bound::OpenFiles,
    ];

    /// The option that sets it.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Bound::Connections => "limits.max_connections",
            Bound::Handshakes => "limits.max_handshakes",
            Bound::HandshakeTimeout => "limits.handshake_timeout_ms",
            Bound::IdleTimeout => "limits.idle_timeout_ms",
            Bound::StallTimeout => "limits.stall_timeout_ms",
            Bound::InflightRequests => "limits.inflight_requests",
            Bound::TotalInflightRequests => "limits.total_inflight_requests",
            Bound::TenantQueueBytes => "limits.tenant_queue_bytes",
            Bound::TotalQueueBytes => "limits.total_queue_bytes",
            Bound::TotalBufferBytes => "limits.total_buffer_bytes",
            Bound::AuthFailures => "limits.auth_failures_burst",
            Bound::OpenFiles => "open files",
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted of one operation.
#[derive(Debug)]
struct PerOperation {
    answered: Counter,
    failed: [Counter; CODES],
    latency: Histogram,
}

/// What the server counts.
#[derive(Debug)]
pub(crate) struct Metrics {
    started_ms: u64,
    pub(crate) accepted: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) opened: Counter,
    /// Connections that were refused with an error, by its number.
    refused: [Counter; CODES],
    /// Connections that went away before their hello, or spoke no TLS that fits.
    pub(crate) lost: Counter,
    pub(crate) wrong_tokens: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    bounds: [Counter; Bound::ALL.len()],
    operations: Vec<PerOperation>,
    pub(crate) reloads: Counter,
    pub(crate) failed_reloads: Counter,
}

fn counters<const N: usize>() -> [Counter; N] {
    std::array::from_fn(|_| Counter::default())
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let operation = || PerOperation {
            answered: Counter::default(),
            failed: counters(),
            latency: Histogram::of_durations(),
        };
        Metrics {
            started_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            accepted: Counter::default(),
            accept_errors: Counter::default(),
            opened: Counter::default(),
            refused: counters(),
            lost: Counter::default(),
            wrong_tokens: Counter::default(),
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            bounds: counters(),
            operations: (0..OPERATIONS).map(|_| operation()).collect(),
            reloads: Counter::default(),
            failed_reloads: Counter::default(),
        }
    }

    /// Counts that a bound refused or closed something.
    pub(crate) fn reached(&self, bound: Bound) {
        self.bounds[bound as usize].add(1);
    }

    /// Counts a connection that was refused with this error.
    pub(crate) fn refused(&self, error: &Error) {
        count_code(&self.refused, error.code);
    }

    /// Counts a request that was answered, or whose answer has begun, after so long.
    pub(crate) fn answered(&self, operation: Operation, after: Duration) {
        if let Some(counted) = self.operations.get(usize::from(operation.number())) {
            counted.answered.add(1);
            counted.latency.observe_duration(after);
        }
    }

    /// Counts a request that ended with an error.
    pub(crate) fn failed(&self, operation: Operation, error: &Error) {
        if let Some(counted) = self.operations.get(usize::from(operation.number())) {
            count_code(&counted.failed, error.code);
        }
    }
}

fn count_code(counters: &[Counter; CODES], code: ErrorCode) {
    if let Some(counter) = counters.get(code.number() as usize) {
        counter.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation, error and bound has its place among the counters.
    #[test]
    fn everything_has_a_counter() {
        for number in 0..=u16::MAX {
            let operation = Operation::from_number(number);
            assert!(operation.is_none() || usize::from(number) < OPERATIONS, "{operation:?}");
            let code = ErrorCode::from_number(u32::from(number));
            assert!(code.is_none() || usize::from(number) < CODES, "{code:?}");
        }
        for (place, bound) in Bound::ALL.into_iter().enumerate() {
            assert_eq!(bound as usize, place);
        }
    }
}
