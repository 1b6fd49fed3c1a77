//! The client's session, driven by a script of inputs: calls, cancels, time, connections that come
//! and go, answers that are right, wrong, torn or forged.
//!
//! What must hold, whatever the servers do: every call ends exactly once and by its deadline;
//! nothing is sent on a connection that is not open, nor for a call that has ended; an append that
//! may have happened is only sent again under its number; no server is told to forget an outcome
//! that somebody may still ask for; a tick does all that is due.

mod calls;
mod links;
mod script;

use std::collections::BTreeMap;

use kimberlite_wire::session::{Action, CallId, ConnectionId, Session, SessionConfig};
use kimberlite_wire::{ClientOptions, ErrorCode};

use crate::PLANTED;
use crate::input::Input;
use calls::Calls;
use links::Link;

/// More actions after one input than this would be a session that never rests.
const MAX_ACTIONS: usize = 20_000;
/// What one answer may hold; small, so that scripts reach it.
const MAX_RESPONSE_BYTES: u64 = 3000;

/// The input: a few options, then steps until the bytes end.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut world = World::new(&mut input);
    while !input.is_empty() && world.steps < 400 {
        world.steps += 1;
        world.step(&mut input);
    }
    world.finish();
}

/// A session, the connections that it asked for, and everything that was promised.
struct World {
    session: Session,
    now_ms: u64,
    steps: usize,
    /// Whether to say what happens, for whoever looks into a finding.
    traced: bool,
    closed: bool,
    links: BTreeMap<ConnectionId, Link>,
    calls: Calls,
    next_producer: u64,
}

impl World {
    fn new(input: &mut Input<'_>) -> World {
        let addresses = (0..input.below(4)).map(|number| format!("server{number}:5432")).collect();
        let options = ClientOptions {
            timeout_ms: 1 + input.number() % 100_000,
            connect_timeout_ms: 1 + input.number() % 100_000,
            pool_connections: 1 + input.number() % 4,
            max_response_bytes: MAX_RESPONSE_BYTES,
            keepalive_ms: 100 + input.number() % 10_000,
            reconnect_backoff_ms: 1 + input.number() % 1000,
            ..ClientOptions::default()
        };
        let config = SessionConfig {
            addresses,
            tenant_id: 1,
            auth_token: "secret".to_string(),
            client_version: "0".to_string(),
            options,
            seed: u64::from(input.u8()),
        };
        let now_ms = 1000;
        World {
            session: Session::new(config, now_ms),
            now_ms,
            steps: 0,
            traced: std::env::var_os("KIMBERLITE_FUZZ_TRACE").is_some(),
            closed: false,
            links: BTreeMap::new(),
            calls: Calls::default(),
            next_producer: 0,
        }
    }

    /// Does what the session says after an input, and checks it.
    fn act(&mut self) {
        let mut actions = Vec::new();
        while let Some(action) = self.session.poll_action() {
            assert!(actions.len() < MAX_ACTIONS, "the session never rests");
            if self.traced {
                eprintln!("{} ms: {action:?}", self.now_ms);
            }
            actions.push(action);
        }
        self.calls.ending(actions.iter().filter_map(|action| match action {
            Action::End { call } | Action::Done { call, result: Ok(_) } => Some((*call, false)),
            Action::Done { call, result: Err(e) } => Some((*call, e.outcome_unknown.is_some())),
            _ => None,
        }));
        // What is written comes first, so that a server can work meanwhile; but it was decided in
        // the knowledge of the connections that are dropped and of the calls that end.
        actions.sort_by_key(|action| match action {
            Action::Dial { .. } => 0,
            Action::Drop { .. } => 1,
            Action::Send { .. } => 2,
            _ => 3,
        });
        actions.into_iter().for_each(|action| self.act_on(action));
        assert!(self.session.poll_action().is_none());
        self.calls.check_deadlines(self.now_ms);
        let pending = self.session.pending_calls();
        let open = self.calls.open_count();
        // One more: the session's own call for a producer.
        assert!(pending == open || pending == open + 1, "{pending} calls pend, {open} are open");
    }

    fn act_on(&mut self, action: Action) {
        match action {
            Action::Dial { connection, address } => {
                assert!(!self.session.address(address).is_empty(), "an address that is none");
                let before = self.links.insert(connection, Link::new());
                assert!(before.is_none(), "a connection's number is used again");
            }
            Action::Send { connection, pieces } => {
                let link = self.links.get_mut(&connection).expect("it was dialled");
                assert!(link.is_open(), "something is sent on a connection that is not open");
                for frame in link.take(&pieces) {
                    self.calls.sent(connection, &frame, &self.links);
                    if let Some(link) = self.links.get_mut(&connection) {
                        link.ask(frame);
                    }
                }
            }
            Action::Drop { connection } => {
                let link = self.links.get_mut(&connection).expect("it was dialled");
                assert!(!link.is_gone(), "a connection is dropped twice");
                link.close();
                self.calls.lost(connection);
            }
            Action::Answer { call, .. } => self.calls.answered(call),
            Action::Chunk { call, payload } => self.calls.chunk(call, payload.len()),
            Action::End { call } => self.calls.ended(call, None, self.now_ms),
            Action::Done { call, result } => {
                let again = PLANTED && self.calls.is_answered(call) && result.is_err();
                self.calls.ended(call, Some(&result), self.now_ms);
                let is_cancelled = matches!(&result, Err(e) if e.code == ErrorCode::Cancelled);
                if again && is_cancelled {
                    // The planted bug: a stream that is cancelled within its answer ends twice.
                    self.calls.ended(call, Some(&result), self.now_ms);
                }
            }
        }
    }

    /// Lets time pass, as a driver does that wakes when it is told to.
    fn advance(&mut self, ms: u64) {
        let end_ms = self.now_ms.saturating_add(ms);
        for _ in 0..500 {
            let Some(wake_ms) = self.session.next_wake_ms().filter(|wake| *wake <= end_ms) else {
                break;
            };
            self.tick(wake_ms.max(self.now_ms));
        }
        self.tick(end_ms);
    }

    fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.session.tick(now_ms);
        self.act();
        let wake_ms = self.session.next_wake_ms();
        assert!(wake_ms.is_none_or(|wake_ms| wake_ms > now_ms), "a tick leaves something due");
    }

    fn disconnect(&mut self, id: ConnectionId, error: kimberlite_wire::Error) {
        if let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_gone()) {
            link.close();
            self.calls.lost(id);
            self.session.disconnected(id, error, self.now_ms);
            self.act();
        }
    }

    /// Everything ends at the close, and nothing begins after it.
    fn finish(&mut self) {
        self.session.close(self.now_ms);
        self.closed = true;
        self.act();
        assert_eq!(self.calls.open_count(), 0, "a call survives the close");
        assert_eq!((self.session.pending_calls(), self.session.next_wake_ms()), (0, None));
        let deadline_ms = self.now_ms + 1000;
        let call = self.session.connect(deadline_ms, self.now_ms);
        self.calls.connecting(call, deadline_ms);
        self.act();
        assert_eq!(self.calls.open_count(), 0, "a call is taken after the close");
        self.session.close(self.now_ms);
        self.session.tick(self.now_ms + 1);
        assert!(self.session.poll_action().is_none());
        let gone = |link: &Link| link.is_gone();
        assert!(self.links.values().all(gone), "a connection survives the close");
    }

    /// The id of one of the calls so far.
    fn some_call(&self, input: &mut Input<'_>) -> CallId {
        self.calls.pick(input.u8())
    }
}
