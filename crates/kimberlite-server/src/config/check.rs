//! Checks a configuration: every refusal names the option, its value and the bounds.

use std::fmt::Display;
use std::ops::RangeInclusive;

use kimberlite_wire::{Error, Role, limit};

use super::{LimitsConfig, ServerConfig, TokenConfig};
use crate::token::Tenants;

const DAY_MS: u64 = 86_400_000;
const MAX_TOKENS: usize = 4_096;
const MAX_TENANTS: usize = 65_536;
const MAX_LISTEN: usize = 64;
const MAX_NAME_BYTES: usize = 255;

impl ServerConfig {
    /// Checks every value. INVALID_ARGUMENT names the option, its value and the bounds.
    pub fn check(&self) -> Result<(), Error> {
        range("the number of addresses in listen", self.listen.len(), 1..=MAX_LISTEN)?;
        range("the number of tenants", self.tenants.len(), 0..=MAX_TENANTS)?;
        if self.tenants.contains(&0) {
            return Err(Error::invalid("tenants holds 0; tenants are numbered from 1"));
        }
        range("io_threads", self.io_threads, 0..=64)?;
        range("shutdown_grace_ms", self.shutdown_grace_ms, 0..=DAY_MS)?;
        if self.allow_plaintext && self.tls.is_none() {
            return Err(Error::invalid(
                "allow_plaintext is true but there is no [tls]; without TLS every connection is \
                 plain, so leave allow_plaintext out",
            ));
        }
        self.limits.check()?;
        range("storage.segment_bytes", self.storage.segment_bytes, 32 << 20..=2 << 30)?;
        range("query.timeout_ms", self.query.timeout_ms, 1..=DAY_MS)?;
        range("query.memory_bytes", self.query.memory_bytes, 1 << 20..=1 << 40)?;
        range("query.rows", self.query.rows, 1..=1 << 53)?;
        range("query.threads", self.query.threads, 1..=64)?;
        range("audit.window_ms", self.audit.window_ms, 0..=3_600_000)?;
        if self.tokens.is_empty() {
            return Err(Error::invalid(
                "no token is configured, so that nobody could connect; make one with \
                 `kimberlite-server token --name NAME --role ROLE --tenants LIST`",
            ));
        }
        range("the number of tokens", self.tokens.len(), 1..=MAX_TOKENS)?;
        self.tokens.iter().try_for_each(TokenConfig::check)
    }
}

impl LimitsConfig {
    fn check(&self) -> Result<(), Error> {
        let frame = limit::REQUEST_FRAME_BYTES as usize;
        let inflight = limit::INFLIGHT_REQUESTS as usize;
        range("limits.max_connections", self.max_connections, 1..=1_000_000)?;
        range("limits.handshake_timeout_ms", self.handshake_timeout_ms, 10..=600_000)?;
        range("limits.idle_timeout_ms", self.idle_timeout_ms, 100..=DAY_MS)?;
        range("limits.max_request_timeout_ms", self.max_request_timeout_ms, 1..=DAY_MS)?;
        range("limits.inflight_requests", self.inflight_requests, 1..=inflight)?;
        range("limits.connection_queue_bytes", self.connection_queue_bytes, frame..=1 << 40)?;
        // A quarter is kept from large frames, so that small requests still find room.
        range("limits.total_queue_bytes", self.total_queue_bytes, 2 * frame..=1 << 40)?;
        range("limits.auth_failures_burst", self.auth_failures_burst, 1..=1_000_000)?;
        range("limits.auth_failures_per_minute", self.auth_failures_per_minute, 1..=1_000_000)
    }
}

impl TokenConfig {
    /// Checks name, role and tenants. INVALID_ARGUMENT names what is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let name = &self.name;
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(Error::invalid(format!(
                "a token's name is {name:?}; it must be 1 to {MAX_NAME_BYTES} bytes without \
                 control characters"
            )));
        }
        if self.role == Role::None {
            return Err(Error::invalid(format!(
                "token {name:?} grants no role; use reader, writer or admin"
            )));
        }
        match &self.tenants {
            Tenants::Some(list) if list.is_empty() || list.contains(&0) => {
                Err(Error::invalid(format!(
                    "token {name:?} names no tenant or tenant 0; give numbers from 1, or \"*\""
                )))
            }
            _ => Ok(()),
        }
    }
}

fn range<T: PartialOrd + Display>(
    name: &str,
    value: T,
    bounds: RangeInclusive<T>,
) -> Result<(), Error> {
    if bounds.contains(&value) {
        return Ok(());
    }
    let (low, high) = bounds.into_inner();
    Err(Error::invalid(format!("{name} is {value}; it must be from {low} to {high}")))
}
