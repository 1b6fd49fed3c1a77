//! The client's side of the protocol, without I/O.
//!
//! A [`Session`] is one client: it spans connections, so that retries, failover, deadlines and
//! exactly-once are the same under tokio, in a browser and in a simulation. The driver feeds it
//! bytes and time and does what [`Session::poll_action`] says; after every input it polls until
//! nothing is left, then asks [`Session::next_wake_ms`] when to call [`Session::tick`].

mod types;

pub use types::{Action, Answer, Call, CallId, CallKind, ConnectionId, SessionConfig};

use bytes::BytesMut;

use crate::error::Error;

/// One client's protocol state.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
}

impl Session {
    /// A session that has not dialled yet; it does with the first call.
    pub fn new(config: SessionConfig, now_ms: u64) -> Session {
        let _ = now_ms;
        Session { config }
    }

    /// An address by the index that [`Action::Dial`] names. Members that a server named stand
    /// behind those of the configuration.
    pub fn address(&self, index: usize) -> &str {
        self.config.addresses.get(index).map_or("", String::as_str)
    }

    /// The database's identity, once a server was reached.
    pub fn log_id(&self) -> Option<[u8; 16]> {
        None
    }

    /// Waits until a server was reached. Done with the server's Welcome; fails with
    /// CONNECTION_FAILED once every address was tried, or at once where the server refuses the
    /// token, the tenant or the version.
    pub fn connect(&mut self, deadline_ms: u64, now_ms: u64) -> CallId {
        let _ = (deadline_ms, now_ms);
        CallId(0)
    }

    /// The transport of a dialled connection is open.
    pub fn connected(&mut self, id: ConnectionId, now_ms: u64) {
        let _ = (id, now_ms);
    }

    /// Bytes came in. They are copied.
    pub fn received(&mut self, id: ConnectionId, bytes: &[u8], now_ms: u64) {
        let _ = (id, bytes, now_ms);
    }

    /// Bytes came in. They are not copied where they continue the last ones in one allocation: what
    /// `BytesMut::split` gives when one buffer is received into again and again.
    pub fn received_buffer(&mut self, id: ConnectionId, bytes: BytesMut, now_ms: u64) {
        let _ = (id, bytes, now_ms);
    }

    /// A connection could not be opened or was lost, and why.
    pub fn disconnected(&mut self, id: ConnectionId, error: Error, now_ms: u64) {
        let _ = (id, error, now_ms);
    }

    /// Starts a call. It ends by exactly one [`Action::Done`] or [`Action::End`].
    pub fn call(&mut self, call: Call, now_ms: u64) -> CallId {
        let _ = (call, now_ms);
        CallId(0)
    }

    /// Gives a call up: it ends with CANCELLED at once, and the server is told.
    pub fn cancel(&mut self, id: CallId, now_ms: u64) {
        let _ = (id, now_ms);
    }

    /// Allows the server to send more of a streaming call's payload.
    pub fn grant(&mut self, id: CallId, bytes: u64) {
        let _ = (id, bytes);
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        let _ = now_ms;
    }

    /// Ends everything: each pending call with CLOSED, each later one too.
    pub fn close(&mut self, now_ms: u64) {
        let _ = now_ms;
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        None
    }

    /// When to call [`Session::tick`] at the latest, in the driver's milliseconds.
    pub fn next_wake_ms(&self) -> Option<u64> {
        None
    }
}
