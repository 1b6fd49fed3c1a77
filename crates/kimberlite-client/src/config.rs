//! What a client is told when it connects, and what a call is told beside its arguments.

use std::fmt;

use kimberlite_wire::constant::ANY_OFFSET;
use kimberlite_wire::{AtKind, ClientOptions, Error, limit};

use crate::address::ServerAddress;

/// How to reach a database, and as whom.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// `host:port`, `host`, `tls://host:port` (members of one database, tried in order), or one of
    /// `embedded:<folder>`, `memory:` (private to the client), `memory:<name>` (shared within the
    /// process until its last client closes).
    pub addresses: Vec<String>,
    /// The tenant; not 0.
    pub tenant_id: u64,
    /// The token; embedded databases ignore it.
    pub auth_token: Option<String>,
    /// Deadlines, limits and TLS.
    pub options: ClientOptions,
}

impl Config {
    /// A configuration for tenant 1, without a token, with every option at its default.
    pub fn new<I>(addresses: I) -> Config
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        Config {
            addresses: addresses.into_iter().map(Into::into).collect(),
            tenant_id: 1,
            auth_token: None,
            options: ClientOptions::default(),
        }
    }

    /// Names the tenant.
    pub fn tenant(mut self, tenant_id: u64) -> Config {
        self.tenant_id = tenant_id;
        self
    }

    /// Sets the token.
    pub fn token(mut self, token: impl Into<String>) -> Config {
        self.auth_token = Some(token.into());
        self
    }

    /// Replaces the options.
    pub fn options(mut self, options: ClientOptions) -> Config {
        self.options = options;
        self
    }

    /// Sets the deadline of calls that name none, in milliseconds.
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Config {
        self.options.timeout_ms = timeout_ms;
        self
    }

    /// Sets how long connecting may take in all, in milliseconds.
    pub fn connect_timeout_ms(mut self, connect_timeout_ms: u64) -> Config {
        self.options.connect_timeout_ms = connect_timeout_ms;
        self
    }

    /// Names a PEM file of certificate authorities for `tls://` addresses.
    pub fn tls_ca_file(mut self, path: impl Into<String>) -> Config {
        self.options.tls_ca_file = path.into();
        self
    }

    /// Names the PEM files of the client's certificate chain and of its private key.
    pub fn tls_client_cert(mut self, cert: impl Into<String>, key: impl Into<String>) -> Config {
        self.options.tls_client_cert_file = cert.into();
        self.options.tls_client_key_file = key.into();
        self
    }

    /// Names what the server's certificate must carry where it is not the address's host.
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Config {
        self.options.tls_server_name = name.into();
        self
    }

    /// INVALID_ARGUMENT or LIMIT_EXCEEDED for what no database would take.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.tenant_id == 0 {
            return Err(Error::invalid("tenant_id is 0; tenants are numbered from 1"));
        }
        let token_bytes = self.auth_token.as_ref().map_or(0, String::len) as u64;
        if token_bytes > limit::TOKEN_BYTES {
            return Err(Error::limit(
                "the length of auth_token in bytes",
                token_bytes,
                limit::TOKEN_BYTES,
            ));
        }
        self.options.check()?;
        self.check_client_certificate()
    }

    /// INVALID_ARGUMENT for a certificate without its key, or the reverse.
    fn check_client_certificate(&self) -> Result<(), Error> {
        let ClientOptions { tls_client_cert_file: cert, tls_client_key_file: key, .. } =
            &self.options;
        let (given, missing) = match (cert.is_empty(), key.is_empty()) {
            (false, true) => ("tls_client_cert_file", "tls_client_key_file"),
            (true, false) => ("tls_client_key_file", "tls_client_cert_file"),
            _ => return Ok(()),
        };
        Err(Error::invalid(format!("{given} is given, but {missing} is not; give both or neither")))
    }

    /// INVALID_ARGUMENT where what makes TLS safe is given for servers that are spoken to without:
    /// the caller believes the connection to be protected.
    pub(crate) fn check_tls_is_used(&self, servers: &[ServerAddress]) -> Result<(), Error> {
        if servers.iter().any(|server| server.tls) {
            return Ok(());
        }
        let options = &self.options;
        let given = [
            ("tls_ca_file", &options.tls_ca_file),
            ("tls_client_cert_file", &options.tls_client_cert_file),
            ("tls_server_name", &options.tls_server_name),
        ];
        match given.iter().find(|(_, value)| !value.is_empty()) {
            None => Ok(()),
            Some((name, _)) => Err(Error::invalid(format!(
                "{name} is given, but no address begins with tls://; without that nothing is \
                 encrypted"
            ))),
        }
    }
}

impl From<&str> for Config {
    /// One address, tenant 1, no token.
    fn from(address: &str) -> Config {
        Config::new([address])
    }
}

impl fmt::Debug for Config {
    /// Shows whether there is a token, never the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("addresses", &self.addresses)
            .field("tenant_id", &self.tenant_id)
            .field("auth_token", &self.auth_token.as_ref().map(|_| "<hidden>"))
            .field("options", &self.options)
            .finish()
    }
}

/// What a call may ask beside its arguments. The default asks nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// The call's deadline in milliseconds; `None` takes `ClientOptions::timeout_ms`.
    pub timeout_ms: Option<u64>,
    /// A read or query must reflect at least this position, as an append or another read told it.
    pub min_position: u64,
    /// Allows a read or query to be answered by a member that may lag behind.
    pub stale: bool,
}

impl CallOptions {
    /// Options that set the deadline alone.
    pub const fn timeout_ms(timeout_ms: u64) -> CallOptions {
        CallOptions { timeout_ms: Some(timeout_ms), min_position: 0, stale: false }
    }
}

/// Where an append's first event must land.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpectedOffset {
    /// At the stream's end, wherever that is.
    #[default]
    Any,
    /// At exactly this offset, else the append fails with OFFSET_MISMATCH.
    Exact(u64),
}

impl ExpectedOffset {
    /// The number on the wire and in C: 2^64 - 1 for any.
    pub const fn number(self) -> u64 {
        match self {
            ExpectedOffset::Any => ANY_OFFSET,
            ExpectedOffset::Exact(offset) => offset,
        }
    }

    /// The expectation with this number.
    pub const fn from_number(number: u64) -> ExpectedOffset {
        if number == ANY_OFFSET { ExpectedOffset::Any } else { ExpectedOffset::Exact(number) }
    }
}

/// Which cut a query sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The newest.
    #[default]
    Now,
    /// As of a position.
    Position(u64),
    /// As of a time, in nanoseconds since the Unix epoch.
    TimestampNs(u64),
}

impl At {
    pub(crate) const fn parts(self) -> (AtKind, u64) {
        match self {
            At::Now => (AtKind::Now, 0),
            At::Position(position) => (AtKind::Position, position),
            At::TimestampNs(timestamp_ns) => (AtKind::Timestamp, timestamp_ns),
        }
    }
}
