//! Connections: dialling, the handshake, the pool, keepalive, and losing them.

use super::calls::{CallState, Place};
use super::connection::{Connection, Pending, Phase};
use super::types::{Action, Answer, CallId, ConnectionId};
use super::{Connect, Session};
use crate::error::Error;
use crate::generated::{
    ErrorCode, HelloRequest, HelloResponse, MINIMUM_PROTOCOL_VERSION, PROTOCOL_VERSION, Request,
    Response, limit,
};

/// While an address does not answer, the next one is dialled beside it after this long.
const STAGGER_MS: u64 = 300;
/// One dial gets a third of the time that connecting may take in all, but no less than this where
/// there is as much: one lost packet must not use it up.
const MIN_DIAL_MS: u64 = 1000;
/// What a server says about its leader is followed at most this often.
const LEADER_PAUSE_MS: u64 = 1000;

/// Whether a server's no at Hello is its last word for this token, tenant and version.
const fn is_final_at_hello(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::AuthFailed
            | ErrorCode::PermissionDenied
            | ErrorCode::TenantNotFound
            | ErrorCode::VersionMismatch
    )
}

impl Session {
    /// Dials where a connection is needed and its time has come.
    pub(super) fn dial(&mut self, now_ms: u64) {
        if self.closed || !self.wanted {
            return;
        }
        // A pool may lack more than one connection; each dial changes what is due next.
        while let Some(address) = self.address_to_dial(now_ms) {
            self.start_dial(address, now_ms);
        }
        if self.book.len() == 0 && now_ms >= self.book.not_before_ms {
            self.round_failed(now_ms);
        }
    }

    fn address_to_dial(&self, now_ms: u64) -> Option<usize> {
        (self.next_dial_ms()? <= now_ms).then(|| self.dial_candidate()).flatten()
    }

    /// Which address is dialled next, once [`Session::next_dial_ms`] has come.
    fn dial_candidate(&self) -> Option<usize> {
        if self.usable.is_empty() {
            return self.book.next_untried();
        }
        let in_use = self.connections.get(self.usable.first()?)?.address;
        let dialing = |address: usize| {
            self.connections.values().filter(|l| l.is_dialing() && l.address == address).count()
        };
        if let Some(leader) = self.leader.filter(|leader| *leader != in_use) {
            return (dialing(leader) == 0).then_some(leader);
        }
        let planned = self.usable.len() + dialing(in_use);
        let pool = self.config.options.pool_connections as usize;
        (self.grow && planned < pool).then_some(in_use)
    }

    /// When the next dial is due; `None` where there is none to make.
    fn next_dial_ms(&self) -> Option<u64> {
        if self.closed || !self.wanted {
            return None;
        }
        self.dial_candidate()?;
        let dialing = self.connections.values().any(Connection::is_dialing);
        let earliest_ms = if !self.usable.is_empty() && self.leader.is_some() {
            self.leader_due_ms
        } else if self.usable.is_empty() && dialing {
            self.last_dial_ms.saturating_add(STAGGER_MS)
        } else {
            0
        };
        Some(earliest_ms.max(self.book.not_before_ms))
    }

    /// How long one dial may take, handshake included.
    fn dial_limit_ms(&self) -> u64 {
        let connect_ms = self.config.options.connect_timeout_ms;
        (connect_ms / 3).max(MIN_DIAL_MS).min(connect_ms)
    }

    fn start_dial(&mut self, address: usize, now_ms: u64) {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let deadline_ms = now_ms.saturating_add(self.dial_limit_ms());
        self.connections.insert(connection, Connection::new(address, deadline_ms));
        self.book.dialled(address);
        self.last_dial_ms = now_ms;
        if self.leader == Some(address) {
            self.followed_ms = Some(now_ms);
        }
        self.actions.push_back(Action::Dial { connection, address });
    }

    /// The transport is open: says Hello, and nothing else before Welcome.
    pub(super) fn greet(&mut self, id: ConnectionId, now_ms: u64) {
        let Some(link) = self.connections.get_mut(&id).filter(|l| l.phase == Phase::Dialing) else {
            return;
        };
        let config = &self.config;
        let hello = Request::Hello(HelloRequest {
            protocol_version: PROTOCOL_VERSION,
            tenant_id: config.tenant_id,
            auth_token: config.auth_token.clone(),
            client_name: config.options.client_name.clone(),
            client_version: config.client_version.clone(),
        });
        link.max_request_bytes = limit::UNAUTHENTICATED_FRAME_BYTES;
        link.phase = Phase::Greeting;
        link.last_received_ms = now_ms;
        let timeout_ms = u32::try_from(link.dial_deadline_ms.saturating_sub(now_ms)).unwrap_or(0);
        match link.send_request(&hello, &Default::default(), timeout_ms) {
            Ok(_) => {
                self.dirty.insert(id);
            }
            Err(e) => self.drop_connection(id, e, now_ms),
        }
    }

    /// Welcome came.
    pub(super) fn welcomed(&mut self, id: ConnectionId, welcome: HelloResponse, now_ms: u64) {
        if let Err(e) = self.check_welcome(id, &welcome) {
            return self.drop_connection(id, e, now_ms);
        }
        let Some(link) = self.connections.get_mut(&id) else {
            return;
        };
        let address = link.address;
        link.phase = Phase::Ready;
        link.initial_credit = u64::from(welcome.initial_credit_bytes);
        link.max_request_bytes = match welcome.max_request_bytes {
            0 => limit::REQUEST_FRAME_BYTES,
            bytes => bytes.into(),
        };
        if self.is_superfluous(address) {
            self.connections.remove(&id);
            self.actions.push_back(Action::Drop { connection: id });
            return;
        }
        self.move_to(address);
        self.usable.push(id);
        self.book.reached(address);
        self.log_id = Some(welcome.log_id);
        self.follow(&welcome.leader, address, now_ms);
        for (call, connect) in std::mem::take(&mut self.connects) {
            self.deadlines.remove(&(connect.deadline_ms, call));
            let body = Response::Hello(welcome.clone());
            let answer = Answer { body, payload: Vec::new(), cut: false };
            self.actions.push_back(Action::Done { call, result: Ok(answer) });
        }
        self.welcome = Some(welcome);
    }

    fn check_welcome(&self, id: ConnectionId, welcome: &HelloResponse) -> Result<(), Error> {
        let version = welcome.protocol_version;
        if !(MINIMUM_PROTOCOL_VERSION..=PROTOCOL_VERSION).contains(&version) {
            let detail = format!(
                "The server {} speaks protocol version {version}; this client speaks \
                 {MINIMUM_PROTOCOL_VERSION} to {PROTOCOL_VERSION}.",
                welcome.server_version
            );
            return Err(Error::new(ErrorCode::VersionMismatch, detail));
        }
        match self.log_id {
            Some(known) if known != welcome.log_id => {
                let address = self.connections.get(&id).map_or(0, |link| link.address);
                let detail = format!(
                    "{} serves the database {}, but this client works with {}; all addresses must \
                     be members of one database",
                    self.book.address(address),
                    hex(&welcome.log_id),
                    hex(&known),
                );
                Err(Error::new(ErrorCode::ConnectionFailed, detail))
            }
            _ => Ok(()),
        }
    }

    /// Whether a connection to this address lost the race against one to another server.
    fn is_superfluous(&self, address: usize) -> bool {
        let in_use = self.usable.first().and_then(|id| self.connections.get(id));
        in_use.is_some_and(|link| link.address != address) && self.leader != Some(address)
    }

    /// The server at this address is the one in use from now on.
    fn move_to(&mut self, address: usize) {
        for id in std::mem::take(&mut self.usable) {
            match self.connections.get(&id) {
                Some(link) if link.address == address => self.usable.push(id),
                _ => self.drain(id),
            }
        }
        let elsewhere = |link: &Connection| link.is_dialing() && link.address != address;
        let raced: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, l)| elsewhere(l)).map(|(id, _)| *id).collect();
        for id in raced {
            self.connections.remove(&id);
            self.actions.push_back(Action::Drop { connection: id });
        }
    }

    /// Takes note of where a server says that appends are best sent.
    pub(super) fn follow(&mut self, leader: &str, named_by: usize, now_ms: u64) {
        let named = Some(leader).filter(|leader| !leader.is_empty());
        let found = named.and_then(|leader| self.book.find_or_add(leader, named_by));
        self.leader = found.filter(|found| *found != named_by);
        // Members that disagree about their leader must not make clients run in circles.
        if self.leader.is_some() && self.leader_due_ms <= now_ms {
            self.leader_due_ms = match self.followed_ms {
                Some(at_ms) => now_ms.max(at_ms.saturating_add(LEADER_PAUSE_MS)),
                None => now_ms,
            };
        }
    }

    /// Sends nothing new on a connection; it ends when what is under way has ended.
    pub(super) fn drain(&mut self, id: ConnectionId) {
        self.usable.retain(|usable| *usable != id);
        if let Some(link) = self.connections.get_mut(&id) {
            link.phase = Phase::Draining;
        }
        self.drop_if_drained(id);
    }

    pub(super) fn drop_if_drained(&mut self, id: ConnectionId) {
        if self.connections.get(&id).is_some_and(Connection::is_drained) {
            self.connections.remove(&id);
            self.actions.push_back(Action::Drop { connection: id });
        }
    }

    /// Drops a connection for a reason of our own.
    pub(super) fn drop_connection(&mut self, id: ConnectionId, error: Error, now_ms: u64) {
        if self.connections.contains_key(&id) {
            self.actions.push_back(Action::Drop { connection: id });
            self.lost(id, error, now_ms);
        }
    }

    /// A connection is gone, or was never made.
    pub(super) fn lost(&mut self, id: ConnectionId, error: Error, now_ms: u64) {
        let Some(link) = self.connections.remove(&id) else {
            return;
        };
        self.dirty.remove(&id);
        if link.is_dialing() {
            return self.dial_failed(link.address, error, now_ms);
        }
        let was_usable = self.usable.contains(&id);
        self.usable.retain(|usable| *usable != id);
        let mut cut: Vec<CallId> = link.requests.into_values().filter_map(call_of).collect();
        cut.sort_unstable();
        for call in cut {
            self.cut(call, &error);
        }
        if was_usable && self.usable.is_empty() {
            self.leader = None;
            self.grow = false;
            self.book.lost(link.address, error, link.answered, now_ms);
        }
    }

    fn dial_failed(&mut self, address: usize, error: Error, now_ms: u64) {
        let pause_ms = u64::from(error.retry_after_ms);
        let is_final = is_final_at_hello(error.code);
        self.book.set_error(address, error.clone());
        if !self.usable.is_empty() {
            // What is in use goes on; only the pool or the way to the leader waits.
            self.leader = self.leader.filter(|leader| *leader != address);
            self.book.pause(now_ms);
        } else if is_final {
            self.book.round_failed(now_ms);
            self.wanted = false;
            self.refuse_everybody(&error);
        } else if self.book.next_untried().is_none()
            && !self.connections.values().any(Connection::is_dialing)
        {
            self.round_failed(now_ms);
        }
        self.book.pause_at_least(now_ms, pause_ms);
    }

    /// Every address was tried in vain. Whoever only waits for a first connection is told so;
    /// calls wait for the next round until their deadlines.
    fn round_failed(&mut self, now_ms: u64) {
        self.book.round_failed(now_ms);
        let rounds = self.book.failed_rounds;
        let tried = |connect: &Connect| connect.failed_rounds < rounds;
        let tried: Vec<CallId> =
            self.connects.iter().filter(|(_, c)| tried(c)).map(|(id, _)| *id).collect();
        for id in tried {
            self.fail_connect(id, self.book.unreachable(self.log_id.is_some()));
        }
    }

    /// The server's no is final: ends whatever waits for a connection.
    fn refuse_everybody(&mut self, error: &Error) {
        for id in self.connects.keys().copied().collect::<Vec<CallId>>() {
            self.fail_connect(id, error.clone());
        }
        let not_sent = |call: &CallState| !matches!(call.place, Place::Sent { .. });
        for id in self.calls_where(not_sent) {
            self.fail(id, error.clone());
        }
    }

    pub(super) fn fail_connect(&mut self, id: CallId, error: Error) {
        if let Some(connect) = self.connects.remove(&id) {
            self.deadlines.remove(&(connect.deadline_ms, id));
            self.actions.push_back(Action::Done { call: id, result: Err(error) });
        }
    }

    /// Gives up dials that take too long, pings idle connections, drops those that do not answer.
    pub(super) fn watch_connections(&mut self, now_ms: u64) {
        let due = |link: &Connection| self.watch_ms(link) <= now_ms;
        let due: Vec<ConnectionId> =
            self.connections.iter().filter(|(_, l)| due(l)).map(|(id, _)| *id).collect();
        for id in due {
            self.watch_connection(id, now_ms);
        }
    }

    fn watch_connection(&mut self, id: ConnectionId, now_ms: u64) {
        let (dial_ms, keepalive_ms) = (self.dial_limit_ms(), self.config.options.keepalive_ms);
        let Some(link) = self.connections.get_mut(&id) else {
            return;
        };
        if link.is_dialing() {
            let detail = format!("no answer within {dial_ms} ms");
            self.drop_connection(id, Error::new(ErrorCode::ConnectionFailed, detail), now_ms);
        } else if link.ping_sent_ms.is_some() {
            let detail = format!("no answer to a ping within {keepalive_ms} ms");
            self.drop_connection(id, Error::new(ErrorCode::ConnectionFailed, detail), now_ms);
        } else {
            link.ping_sent_ms = Some(now_ms);
            link.send_ping(0, 0, &[]);
            self.dirty.insert(id);
        }
    }

    /// When a connection is to be looked at next.
    fn watch_ms(&self, link: &Connection) -> u64 {
        if link.is_dialing() {
            return link.dial_deadline_ms;
        }
        let since_ms = link.ping_sent_ms.unwrap_or(link.last_received_ms);
        since_ms.saturating_add(self.config.options.keepalive_ms)
    }

    /// When connections next need a tick.
    pub(super) fn links_wake_ms(&self) -> Option<u64> {
        let watch = self.connections.values().map(|link| self.watch_ms(link)).min();
        watch.into_iter().chain(self.next_dial_ms()).min()
    }
}

fn call_of(pending: Pending) -> Option<CallId> {
    match pending {
        Pending::Call(id) => Some(id),
        Pending::Abandoned => None,
    }
}

fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
