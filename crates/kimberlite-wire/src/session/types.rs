//! What goes into a session and what comes out of it.

use std::fmt;

use bytes::Bytes;

use crate::error::Error;
use crate::generated::{ClientOptions, Request, Response};

/// What a session is told when it is made.
#[derive(Clone)]
pub struct SessionConfig {
    /// Where the members of the database are: `host:port` or `tls://host:port`. The session only
    /// compares them with what a server says about its leader.
    pub addresses: Vec<String>,
    /// The tenant that every connection works for.
    pub tenant_id: u64,
    /// The token; empty for none.
    pub auth_token: String,
    /// The SDK's version, for the server's log.
    pub client_version: String,
    /// The options.
    pub options: ClientOptions,
    /// Any number that differs from client to client; it spreads their reconnects.
    pub seed: u64,
}

impl fmt::Debug for SessionConfig {
    // Written by hand so that the token is in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionConfig")
            .field("addresses", &self.addresses)
            .field("tenant_id", &self.tenant_id)
            .field("client_version", &self.client_version)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A connection, by the session's number. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A call, by the session's number. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// How a call's answer is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// Whole, by [`Action::Done`]; up to the option `max_response_bytes`, which the session grants
    /// as it receives. A larger one is LIMIT_EXCEEDED, but a read's is cut there: its caller goes on
    /// where it ends.
    Collect,
    /// As it comes: [`Action::Answer`], [`Action::Chunk`]s, then [`Action::End`] or a failed
    /// [`Action::Done`]. The owner grants by [`Session::grant`](super::Session::grant).
    Stream,
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request. In an append whose producer is 0 the session fills in producer, sequence and
    /// acked_below; a key that is there is kept, and only acked_below is filled in.
    pub request: Request,
    /// An append's packed events; else empty.
    pub payload: Bytes,
    /// When the call must be done, in the driver's monotonic milliseconds; `u64::MAX` for a stream
    /// without end, whose owner minds its time by itself.
    pub deadline_ms: u64,
    /// How its answer is handed over.
    pub kind: CallKind,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Its body.
    pub body: Response,
    /// Its payload in the pieces that it came in; a piece may end anywhere.
    pub payload: Vec<Bytes>,
    /// The rest of a read's payload was left out for the option `max_response_bytes`; the last
    /// piece may end in the middle of a block.
    pub cut: bool,
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open a transport to an address (see [`Session::address`](super::Session::address)), then say
    /// [`Session::connected`](super::Session::connected) or
    /// [`Session::disconnected`](super::Session::disconnected).
    Dial {
        /// The new connection.
        connection: ConnectionId,
        /// The address's index.
        address: usize,
    },
    /// Write these pieces, in order, behind what was written before.
    Send {
        /// Where.
        connection: ConnectionId,
        /// What. Large payloads are pieces of their own, so that nothing copies them.
        pieces: Vec<Bytes>,
    },
    /// Close this connection or give up dialling it, and speak of it no more. What was to be
    /// written on it need not be.
    Drop {
        /// Which.
        connection: ConnectionId,
    },
    /// The body of a streaming call's answer.
    Answer {
        /// Whose.
        call: CallId,
        /// The body.
        body: Response,
    },
    /// A piece of a streaming call's payload; it may end anywhere.
    Chunk {
        /// Whose.
        call: CallId,
        /// The piece; its length is what may be granted again.
        payload: Bytes,
    },
    /// A streaming call's answer is complete. The last word about this call.
    End {
        /// Whose.
        call: CallId,
    },
    /// The last word about a call: a collecting one's answer, or any one's failure.
    Done {
        /// Whose.
        call: CallId,
        /// The answer. An error of an append that may have happened carries its key.
        result: Result<Answer, Error>,
    },
}
