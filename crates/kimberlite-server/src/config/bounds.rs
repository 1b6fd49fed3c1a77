//! The bounds of every number in a configuration.

use kimberlite_wire::limit;

use super::ServerConfig;
use super::problems::Problems;

const DAY_MS: u64 = 86_400_000;
const FRAME: u64 = limit::REQUEST_FRAME_BYTES;
/// Larger than any machine's memory, and still exact as a JSON number.
const MANY_BYTES: u64 = 1 << 40;

/// The bounds of one option, and where its value stands.
pub(super) struct Bound {
    /// The option as the file has it, with its section.
    pub(super) option: &'static str,
    low: u64,
    high: u64,
    value: fn(&ServerConfig) -> u64,
}

const fn bound(
    option: &'static str,
    low: u64,
    high: u64,
    value: fn(&ServerConfig) -> u64,
) -> Bound {
    Bound { option, low, high, value }
}

pub(super) const BOUNDS: &[Bound] = &[
    bound("io_threads", 0, 64, |c| c.io_threads as u64),
    bound("shutdown_grace_ms", 0, DAY_MS, |c| c.shutdown_grace_ms),
    bound("limits.max_connections", 1, 1_000_000, |c| c.limits.max_connections as u64),
    bound("limits.max_handshakes", 1, 1_000_000, |c| c.limits.max_handshakes as u64),
    bound("limits.handshake_timeout_ms", 10, 600_000, |c| c.limits.handshake_timeout_ms),
    bound("limits.idle_timeout_ms", 100, DAY_MS, |c| c.limits.idle_timeout_ms),
    bound("limits.stall_timeout_ms", 100, DAY_MS, |c| c.limits.stall_timeout_ms),
    bound("limits.max_request_timeout_ms", 1, DAY_MS, |c| c.limits.max_request_timeout_ms),
    bound("limits.inflight_requests", 1, limit::INFLIGHT_REQUESTS, |c| {
        c.limits.inflight_requests as u64
    }),
    bound("limits.total_inflight_requests", 1, 100_000_000, |c| {
        c.limits.total_inflight_requests as u64
    }),
    bound("limits.connection_queue_bytes", FRAME, MANY_BYTES, |c| {
        c.limits.connection_queue_bytes as u64
    }),
    bound("limits.tenant_queue_bytes", FRAME + (1 << 20), MANY_BYTES, |c| {
        c.limits.tenant_queue_bytes as u64
    }),
    // A quarter is kept from large frames, so that small requests still find room.
    bound("limits.total_queue_bytes", 2 * FRAME, MANY_BYTES, |c| c.limits.total_queue_bytes as u64),
    bound("limits.total_buffer_bytes", 1 << 20, MANY_BYTES, |c| c.limits.total_buffer_bytes as u64),
    bound("limits.max_streams_per_tenant", 1, 100_000_000, |c| c.limits.max_streams_per_tenant),
    bound("limits.auth_failures_burst", 1, 1_000_000, |c| u64::from(c.limits.auth_failures_burst)),
    bound("limits.auth_failures_per_minute", 1, 1_000_000, |c| {
        u64::from(c.limits.auth_failures_per_minute)
    }),
    bound("storage.segment_bytes", 32 << 20, 2 << 30, |c| c.storage.segment_bytes),
    bound("query.timeout_ms", 1, DAY_MS, |c| c.query.timeout_ms),
    bound("query.memory_bytes", 1 << 20, MANY_BYTES, |c| c.query.memory_bytes),
    bound("query.total_memory_bytes", 1 << 20, MANY_BYTES, |c| c.query.total_memory_bytes),
    bound("query.tenant_memory_bytes", 1 << 20, MANY_BYTES, |c| c.query.tenant_memory_bytes),
    bound("query.rows", 1, 1 << 53, |c| c.query.rows),
    bound("query.threads", 1, 64, |c| c.query.threads as u64),
    bound("query.slow_threads", 0, 64, |c| c.query.slow_threads as u64),
    bound("audit.window_ms", 0, 3_600_000, |c| c.audit.window_ms),
];

impl Bound {
    /// What to say of a value that is none of those allowed.
    pub(super) fn problem(&self, value: impl std::fmt::Display) -> String {
        let Bound { option, low, high, .. } = self;
        let default = (self.value)(&ServerConfig::default());
        format!(
            "{option} is {value}; it must be a whole number from {low} to {high}; leave it out for \
             the default, {default}"
        )
    }
}

/// Notes every number out of its bounds.
pub(super) fn check(config: &ServerConfig, problems: &mut Problems) {
    for bound in BOUNDS {
        let value = (bound.value)(config);
        if !(bound.low..=bound.high).contains(&value) {
            problems.add(bound.problem(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of the configuration has its bounds here, within which its default lies.
    #[test]
    fn every_number_is_bounded() {
        let mut problems = Problems::default();
        check(&ServerConfig::default(), &mut problems);
        problems.into_result().unwrap();
        let text = toml::to_string(&ServerConfig::default()).unwrap();
        let mut section = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = format!("{}.", name.trim_end_matches(']'));
            } else if let Some((key, value)) = line.split_once(" = ")
                && value.parse::<u64>().is_ok()
            {
                let option = format!("{section}{key}");
                assert!(BOUNDS.iter().any(|bound| bound.option == option), "{option}");
            }
        }
    }
}
