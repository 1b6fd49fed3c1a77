//! The client's side of the protocol, without I/O.
//!
//! A [`Session`] is one client: it spans connections, so that retries, failover, deadlines and
//! exactly-once are the same under tokio, in a browser and in a simulation. The driver feeds it
//! bytes and time and does what [`Session::poll_action`] says; after every input it polls until
//! nothing is left, then asks [`Session::next_wake_ms`] when to call [`Session::tick`].
//!
//! The parts: `calls` is a call's life, `lanes` each stream's appends in order, `send` what is sent
//! when and where, `receive` what comes in, `answers` what an answer must say, `links` the connections, `book` the addresses.

mod answers;
mod book;
mod calls;
mod connection;
mod lanes;
mod links;
mod receive;
mod send;
mod types;
mod util;

pub use calls::first_block_bytes;
pub use types::{Action, Answer, Call, CallId, CallKind, ConnectionId, SessionConfig};

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;

use self::book::AddressBook;
use self::calls::{CallState, Owner};
use self::connection::{Connection, Phase};
use self::lanes::Lanes;
use self::util::{IdMap, Random};
use crate::error::Error;
use crate::generated::{ErrorCode, HelloResponse, Response};
use crate::producer::ProducerTable;

/// Somebody who waits for a first connection.
#[derive(Clone, Copy, Debug)]
struct Connect {
    deadline_ms: u64,
    /// How many rounds of dialling had failed before.
    failed_rounds: u64,
}

/// One client's protocol state.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    closed: bool,
    /// Somebody asked for a connection, and no server's final no came since.
    wanted: bool,

    calls: IdMap<CallState>,
    next_call: u64,
    deadlines: BTreeSet<(u64, CallId)>,
    /// Refused calls that are sent again at a time.
    delayed: BTreeSet<(u64, CallId)>,
    /// Calls to send, but for appends.
    waiting: BTreeSet<CallId>,
    /// Appends.
    lanes: Lanes,
    /// Who waits for a first connection.
    connects: BTreeMap<CallId, Connect>,

    producers: ProducerTable,
    /// The session's own call for a producer.
    opening: Option<CallId>,

    connections: BTreeMap<ConnectionId, Connection>,
    next_connection: u64,
    /// Connections that take requests; all to one server.
    usable: Vec<ConnectionId>,
    /// One connection was busy: the pool may grow.
    grow: bool,
    book: AddressBook,
    last_dial_ms: u64,
    /// Another address where appends are best sent.
    leader: Option<usize>,
    /// When it may be dialled.
    leader_due_ms: u64,
    /// When a leader was last dialled.
    followed_ms: Option<u64>,
    log_id: Option<[u8; 16]>,
    welcome: Option<HelloResponse>,

    actions: VecDeque<Action>,
    /// Connections with something to write.
    dirty: BTreeSet<ConnectionId>,
}

impl Session {
    /// A session that has not dialled yet; it does with the first call.
    pub fn new(config: SessionConfig, now_ms: u64) -> Session {
        let random = Random::new(config.seed);
        let book = AddressBook::new(&config.addresses, config.options.reconnect_backoff_ms, random);
        Session {
            config,
            closed: false,
            wanted: false,
            calls: IdMap::default(),
            next_call: 0,
            deadlines: BTreeSet::new(),
            delayed: BTreeSet::new(),
            waiting: BTreeSet::new(),
            lanes: Lanes::default(),
            connects: BTreeMap::new(),
            producers: ProducerTable::new(),
            opening: None,
            connections: BTreeMap::new(),
            next_connection: 0,
            usable: Vec::new(),
            grow: false,
            book,
            last_dial_ms: now_ms,
            leader: None,
            leader_due_ms: 0,
            followed_ms: None,
            log_id: None,
            welcome: None,
            actions: VecDeque::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// An address by the index that [`Action::Dial`] names. Members that a server named stand
    /// behind those of the configuration.
    pub fn address(&self, index: usize) -> &str {
        self.book.address(index)
    }

    /// The database's identity, once a server was reached.
    pub const fn log_id(&self) -> Option<[u8; 16]> {
        self.log_id
    }

    /// What the last server said at Welcome, once one was reached.
    pub const fn welcome(&self) -> Option<&HelloResponse> {
        self.welcome.as_ref()
    }

    /// How many calls are pending.
    pub fn pending_calls(&self) -> usize {
        self.calls.len() + self.connects.len()
    }

    /// Waits until a server was reached. Done with the server's Welcome; fails with
    /// CONNECTION_FAILED once every address was tried, or at once where the server refuses the
    /// token, the tenant or the version.
    pub fn connect(&mut self, deadline_ms: u64, now_ms: u64) -> CallId {
        let id = self.next_call_id();
        if self.closed {
            self.actions.push_back(Action::Done { call: id, result: Err(closed()) });
            return id;
        }
        if let Some(welcome) = self.welcome.clone().filter(|_| !self.usable.is_empty()) {
            let answer = Answer { body: Response::Hello(welcome), payload: Vec::new(), cut: false };
            self.actions.push_back(Action::Done { call: id, result: Ok(answer) });
            return id;
        }
        self.wanted = true;
        let failed_rounds = self.book.failed_rounds;
        self.connects.insert(id, Connect { deadline_ms, failed_rounds });
        self.deadlines.insert((deadline_ms, id));
        self.turn(now_ms);
        id
    }

    /// The transport of a dialled connection is open.
    pub fn connected(&mut self, id: ConnectionId, now_ms: u64) {
        self.greet(id, now_ms);
        self.turn(now_ms);
    }

    /// Bytes came in. They are copied.
    pub fn received(&mut self, id: ConnectionId, bytes: &[u8], now_ms: u64) {
        if let Some(link) = self.receiving(id) {
            link.decoder.push(bytes);
            self.receive(id, now_ms);
            self.turn(now_ms);
        }
    }

    /// Bytes came in. They are not copied where they continue the last ones in one allocation: what
    /// `BytesMut::split` gives when one buffer is received into again and again.
    pub fn received_buffer(&mut self, id: ConnectionId, bytes: BytesMut, now_ms: u64) {
        if let Some(link) = self.receiving(id) {
            link.decoder.push_buffer(bytes);
            self.receive(id, now_ms);
            self.turn(now_ms);
        }
    }

    fn receiving(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id).filter(|link| link.phase != Phase::Dialing)
    }

    /// A connection could not be opened or was lost, and why.
    pub fn disconnected(&mut self, id: ConnectionId, error: Error, now_ms: u64) {
        self.lost(id, error, now_ms);
        self.turn(now_ms);
    }

    /// Starts a call. It ends by exactly one [`Action::Done`] or [`Action::End`].
    pub fn call(&mut self, call: Call, now_ms: u64) -> CallId {
        if self.closed {
            let id = self.next_call_id();
            self.actions.push_back(Action::Done { call: id, result: Err(closed()) });
            return id;
        }
        self.wanted = true;
        let id = self.admit(call, Owner::Caller);
        self.turn(now_ms);
        id
    }

    /// Gives a call up: it ends with CANCELLED at once, and the server is told. Nothing happens
    /// where it has ended.
    pub fn cancel(&mut self, id: CallId, now_ms: u64) {
        let error = Error::new(ErrorCode::Cancelled, "");
        if self.connects.contains_key(&id) {
            self.fail_connect(id, error);
        } else if self.calls.get(&id.0).is_some_and(|call| call.owner == Owner::Caller) {
            self.fail(id, error);
            self.drop_clogged(now_ms);
        }
        self.turn(now_ms);
    }

    /// Allows the server to send more of a streaming call's payload.
    pub fn grant(&mut self, id: CallId, bytes: u64) {
        self.grant_call(id, bytes);
    }

    /// Time has passed.
    pub fn tick(&mut self, now_ms: u64) {
        self.watch_connections(now_ms);
        self.drop_clogged(now_ms);
        self.turn(now_ms);
    }

    /// After every input: what is overdue ends, what can be sent is sent.
    fn turn(&mut self, now_ms: u64) {
        if !self.closed {
            self.expire(now_ms);
            self.pump(now_ms);
        }
    }

    /// Ends everything: each pending call with CLOSED, each later one too. Idempotent.
    pub fn close(&mut self, now_ms: u64) {
        self.closed = true;
        for id in self.connects.keys().copied().collect::<Vec<CallId>>() {
            self.fail_connect(id, closed());
        }
        for id in self.calls_where(|_| true) {
            self.fail(id, closed());
        }
        for id in std::mem::take(&mut self.connections).into_keys() {
            self.actions.push_back(Action::Drop { connection: id });
        }
        self.usable.clear();
        self.dirty.clear();
        self.turn(now_ms);
    }

    /// What to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        // What is to be written goes first: the server can work while the rest is handled.
        while let Some(id) = self.dirty.pop_first() {
            let pieces = self.connections.get_mut(&id).map(Connection::take_output);
            if let Some(pieces) = pieces.filter(|pieces| !pieces.is_empty()) {
                return Some(Action::Send { connection: id, pieces });
            }
        }
        self.actions.pop_front()
    }

    /// When to call [`Session::tick`] at the latest, in the driver's milliseconds.
    pub fn next_wake_ms(&self) -> Option<u64> {
        if self.closed {
            return None;
        }
        let deadline = self.deadlines.first().map(|(at_ms, _)| *at_ms);
        let delayed = self.delayed.first().map(|(at_ms, _)| *at_ms);
        let wakes = [deadline, delayed, self.lanes.next_wake_ms(), self.links_wake_ms()];
        wakes.into_iter().flatten().min().filter(|at_ms| *at_ms != u64::MAX)
    }
}

fn closed() -> Error {
    Error::new(ErrorCode::Closed, "the client is closed")
}
