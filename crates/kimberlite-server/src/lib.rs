//! The Kimberlite server: sockets, TLS, tokens and limits around one database.
//!
//! [`Server::start`] runs it inside a process, for tests and tools; the binary `kimberlite-server`
//! adds flags, a configuration file, logs and signals. Either way a server has threads of its own
//! and works under any runtime, or none.
//!
//! ```no_run
//! # fn main() -> Result<(), kimberlite_wire::Error> {
//! use kimberlite_server::{Server, ServerConfig};
//!
//! let server = Server::start(ServerConfig::development("secret"))?;
//! println!("tenant 1 with the token \"secret\" at {}", server.local_addr());
//! server.shutdown(std::time::Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod accept;
mod admin;
mod budget;
mod config;
mod connection;
mod directory;
mod guard;
mod handshake;
mod handshakes;
mod listen;
mod metrics;
mod server;
mod shared;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod transport;

pub use config::{
    AdminConfig, AuditConfig, LimitsConfig, LogConfig, LogFormat, Purpose, QueryConfig,
    ServerConfig, StorageConfig, TEMPLATE, TlsConfig, TokenConfig, parse_role,
};
pub use server::Server;
pub use token::{Tenants, TokenHash, new_token};
