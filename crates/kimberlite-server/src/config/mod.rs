//! The configuration: one structure for the TOML file, the flags and programs that embed a server.

mod bounds;
mod check;
mod entry;
mod file;
mod problems;

use std::collections::BTreeSet;
use std::path::PathBuf;

use kimberlite_wire::{Error, Role, limit};
use serde::{Deserialize, Serialize};

use crate::token::{Tenants, TokenHash};

pub use file::{Purpose, TEMPLATE};
pub(crate) use problems::Problems;

/// Where a server listens, what it keeps where, who may do what, and every limit.
///
/// The fields carry the names of the TOML file; `kimberlite-server config` explains each there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Addresses to listen on, `host:port`; `localhost` is both loopback addresses, as far as the
    /// machine has them. Port 0 takes a free one.
    pub listen: Vec<String>,
    /// Takes back the safeguard that nothing listens beyond loopback without TLS.
    pub insecure_listen: bool,
    /// With TLS configured: whether connections without it are taken too.
    pub allow_plaintext: bool,
    /// The database's folder; created where it does not exist.
    pub data_dir: PathBuf,
    /// Keeps the database in memory, ignoring `data_dir`: it is gone with the server.
    pub memory: bool,
    /// Tenants that exist from the start, beside those that tokens name.
    pub tenants: Vec<u64>,
    /// Threads that serve connections; 0 for one a core, at most 4.
    pub io_threads: usize,
    /// How long a shutdown waits for the requests under way, in ms.
    pub shutdown_grace_ms: u64,
    /// The port for metrics and health checks; none by default.
    pub admin: AdminConfig,
    /// TLS; without it connections are plain.
    pub tls: Option<TlsConfig>,
    /// Bounds against mistakes and attacks.
    pub limits: LimitsConfig,
    /// How the log is kept.
    pub storage: StorageConfig,
    /// Bounds of SQL statements.
    pub query: QueryConfig,
    /// How access to health data is recorded.
    pub audit: AuditConfig,
    /// The server's own log lines; only the binary heeds it.
    pub log: LogConfig,
    /// Who may connect.
    #[serde(rename = "token")]
    pub tokens: Vec<TokenConfig>,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            listen: vec![format!("localhost:{}", kimberlite_wire::DEFAULT_PORT)],
            insecure_listen: false,
            allow_plaintext: false,
            data_dir: PathBuf::from("./kimberlite-data"),
            memory: false,
            tenants: vec![1],
            io_threads: 0,
            shutdown_grace_ms: 10_000,
            admin: AdminConfig::default(),
            tls: None,
            limits: LimitsConfig::default(),
            storage: StorageConfig::default(),
            query: QueryConfig::default(),
            audit: AuditConfig::default(),
            log: LogConfig::default(),
            tokens: Vec::new(),
        }
    }
}

impl ServerConfig {
    /// Every tenant that exists from the start: those of `tenants` and those that tokens name.
    pub fn tenants_from_start(&self) -> BTreeSet<u64> {
        let of_tokens = self.tokens.iter().filter_map(|token| match &token.tenants {
            Tenants::Some(list) => Some(list),
            Tenants::All => None,
        });
        self.tenants.iter().chain(of_tokens.flatten()).copied().collect()
    }

    /// A server for a test: in memory, on a free port of 127.0.0.1, with tenant 1 and one token
    /// that is admin of every tenant. An unusable token is refused by
    /// [`Server::start`](crate::Server::start).
    pub fn development(token: &str) -> ServerConfig {
        ServerConfig {
            listen: vec!["127.0.0.1:0".to_string()],
            memory: true,
            tokens: TokenConfig::new("development", Role::Admin, Tenants::All, token)
                .into_iter()
                .collect(),
            ..ServerConfig::default()
        }
    }
}

/// The port for metrics and health checks, which speaks HTTP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Addresses to listen on, `host:port`; none: there is no such port.
    pub listen: Vec<String>,
    /// Takes back the safeguard that it listens on loopback only: what it tells is neither
    /// encrypted nor kept from anybody.
    pub exposed: bool,
}

/// Files for TLS, all in PEM.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain, the server's own first.
    pub certificate_file: PathBuf,
    /// The private key of the server's certificate.
    pub key_file: PathBuf,
    /// Authorities whose certificates clients must show, beside their token; none: clients need
    /// no certificate.
    #[serde(default)]
    pub client_ca_file: Option<PathBuf>,
}

/// Bounds against mistakes and attacks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Authenticated connections at a time; further ones are refused with OVERLOADED.
    pub max_connections: usize,
    /// Connections at a time that have not authenticated yet; a further one takes the place of the
    /// oldest.
    pub max_handshakes: usize,
    /// How long a new connection may take until it has authenticated, TLS included, in ms.
    pub handshake_timeout_ms: u64,
    /// A connection on which nothing moves for this long is closed, in ms. Clients ping.
    pub idle_timeout_ms: u64,
    /// How long a connection may leave a frame unfinished, or unread what was sent to it, in ms.
    pub stall_timeout_ms: u64,
    /// The longest that a request may take, whatever its client says, in ms.
    pub max_request_timeout_ms: u64,
    /// Requests under way on one connection; further ones get OVERLOADED.
    pub inflight_requests: usize,
    /// Requests under way on all connections, subscriptions among them; further ones get
    /// OVERLOADED.
    pub total_inflight_requests: usize,
    /// Bytes of requests under way on one connection; beyond them it is not read further.
    pub connection_queue_bytes: usize,
    /// Bytes of requests under way of one tenant; beyond them its requests get OVERLOADED.
    pub tenant_queue_bytes: usize,
    /// Bytes of requests under way on all connections; beyond them requests get OVERLOADED.
    pub total_queue_bytes: usize,
    /// Bytes that were received and not looked at yet, or that wait to be sent, on all
    /// connections. The more of it is used, the less of it one connection gets.
    pub total_buffer_bytes: usize,
    /// Streams that a tenant may have; a further one is refused with LIMIT_EXCEEDED.
    pub max_streams_per_tenant: u64,
    /// Wrong tokens that one peer address may show at once.
    pub auth_failures_burst: u32,
    /// Wrong tokens that one peer address may show per minute in the long run.
    pub auth_failures_per_minute: u32,
}

impl Default for LimitsConfig {
    fn default() -> LimitsConfig {
        LimitsConfig {
            max_connections: 4_096,
            max_handshakes: 1_024,
            handshake_timeout_ms: 10_000,
            idle_timeout_ms: 90_000,
            stall_timeout_ms: 30_000,
            max_request_timeout_ms: 600_000,
            inflight_requests: limit::INFLIGHT_REQUESTS as usize,
            total_inflight_requests: 65_536,
            connection_queue_bytes: 32 << 20,
            tenant_queue_bytes: 64 << 20,
            total_queue_bytes: 128 << 20,
            total_buffer_bytes: 64 << 20,
            max_streams_per_tenant: 200_000,
            auth_failures_burst: 50,
            auth_failures_per_minute: 60,
        }
    }
}

/// How the log is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Size of one file of the log, in bytes.
    pub segment_bytes: u64,
}

impl Default for StorageConfig {
    fn default() -> StorageConfig {
        StorageConfig { segment_bytes: 64 << 20 }
    }
}

/// Bounds of SQL statements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// The longest that a statement may run, in ms.
    pub timeout_ms: u64,
    /// Memory that one statement may use, in bytes.
    pub memory_bytes: u64,
    /// Memory that all statements may use together, in bytes, beside 1 MiB for each; beyond it one
    /// that needs more gets OVERLOADED.
    pub total_memory_bytes: u64,
    /// The same for the statements of one tenant.
    pub tenant_memory_bytes: u64,
    /// Rows that one statement may return.
    pub rows: u64,
    /// Statements that run at a time. Of three or more, one tenant's get all but one.
    pub threads: usize,
    /// Statements that have run for a second and may go on beside those while others wait; at most
    /// half of them are one tenant's.
    pub slow_threads: usize,
}

impl Default for QueryConfig {
    fn default() -> QueryConfig {
        QueryConfig {
            timeout_ms: 30_000,
            memory_bytes: 256 << 20,
            total_memory_bytes: 512 << 20,
            tenant_memory_bytes: 384 << 20,
            rows: 10_000_000,
            threads: 3,
            slow_threads: 4,
        }
    }
}

/// How access to health data is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// Repeats of one principal's access within this long fold into one record, in ms.
    pub window_ms: u64,
}

impl Default for AuditConfig {
    fn default() -> AuditConfig {
        AuditConfig { window_ms: 60_000 }
    }
}

/// The server's own log lines, on standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,kimberlite=debug`.
    pub level: String,
    /// How a line is written.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { level: "info".to_string(), format: LogFormat::Text }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A token: who holds it and what it grants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The principal: what the log and `_audit` call its holder.
    pub name: String,
    /// What it grants.
    #[serde(with = "role_name")]
    pub role: Role,
    /// Where it grants it.
    pub tenants: Tenants,
    /// The salted hash of the token.
    pub hash: TokenHash,
}

impl TokenConfig {
    /// A token whose text is known. INVALID_ARGUMENT or LIMIT_EXCEEDED where that is unusable.
    pub fn new(
        name: &str,
        role: Role,
        tenants: Tenants,
        token: &str,
    ) -> Result<TokenConfig, Error> {
        Ok(TokenConfig { name: name.to_string(), role, tenants, hash: TokenHash::of(token)? })
    }
}

/// The role with this name in the configuration: `reader`, `writer` or `admin`. INVALID_ARGUMENT
/// for another.
pub fn parse_role(text: &str) -> Result<Role, Error> {
    match text {
        "reader" => Ok(Role::Reader),
        "writer" => Ok(Role::Writer),
        "admin" => Ok(Role::Admin),
        _ => Err(Error::invalid(format!("role {text:?} is unknown; use reader, writer or admin"))),
    }
}

/// A role's name in the configuration: its name in the contract in lower case.
mod role_name {
    use super::{Deserialize, Role};

    pub(super) fn serialize<S: serde::Serializer>(role: &Role, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&role.name().to_ascii_lowercase())
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Role, D::Error> {
        let text = String::deserialize(d)?;
        // The text is not repeated: somebody may have put the token there.
        let unknown = "the role is unknown; use reader, writer or admin";
        super::parse_role(&text).map_err(|_| serde::de::Error::custom(unknown))
    }
}
