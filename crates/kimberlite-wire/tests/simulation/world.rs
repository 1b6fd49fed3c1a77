//! The world around a session: time, a network that delays, tears and cuts, servers, and callers.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use kimberlite_wire::session::*;
use kimberlite_wire::*;

use crate::random::Random;
use crate::server::{Database, Mood, Output, ServerSide, goaway, pattern};

/// How much goes wrong, each in permille.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    pub dial_fails: u64,
    pub dial_hangs: u64,
    pub cut: u64,
    pub overloaded: u64,
    pub unavailable: u64,
    pub silent: u64,
    pub expire: u64,
    pub goaway: u64,
    pub cancel: u64,
}

enum Event {
    DialDone(ConnectionId, bool),
    ToServer(ConnectionId, Bytes),
    ToClient(ConnectionId, Bytes),
    Advance(ConnectionId, u64),
    Say(ConnectionId, Bytes),
    Cut(ConnectionId),
    Start(Call),
    Cancel(CallId),
}

struct Link {
    server: ServerSide,
    to_server_ms: u64,
    to_client_ms: u64,
    /// The client hears nothing more.
    client_gone: bool,
    /// The server hears nothing that arrives later.
    server_gone_ms: u64,
}

/// A call that was started and what is known of it.
pub struct Started {
    pub call: Call,
    pub chunks: Vec<Bytes>,
    pub answered: bool,
    pub result: Option<Result<Option<Answer>, Error>>,
}

pub struct World {
    pub now_ms: u64,
    pub random: Random,
    pub faults: Faults,
    pub session: Session,
    pub database: Database,
    pub calls: BTreeMap<CallId, Started>,
    pub dials: u64,
    pub acknowledged: u64,
    pub addresses_dialled: Vec<usize>,
    pub leader: String,
    pub log_ids: HashMap<usize, [u8; 16]>,
    pub reject: Option<ErrorCode>,
    /// The server sends more than it was granted.
    pub lies: bool,
    /// Callers take what comes without granting more.
    pub grants_nothing: bool,
    links: HashMap<ConnectionId, Link>,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    to_start: usize,
    ended: usize,
}

impl World {
    pub fn new(seed: u64, addresses: usize, faults: Faults) -> World {
        let mut random = Random::new(seed);
        let options = ClientOptions {
            keepalive_ms: 2000,
            max_response_bytes: 2 << 20,
            ..ClientOptions::default()
        };
        let config = SessionConfig {
            addresses: (0..addresses).map(|i| format!("server{i}:5432")).collect(),
            tenant_id: 1,
            auth_token: "secret".to_string(),
            client_version: "0.1.0".to_string(),
            options,
            seed: random.next(),
        };
        World {
            now_ms: 1000,
            random,
            faults,
            session: Session::new(config, 1000),
            database: Database::default(),
            calls: BTreeMap::new(),
            dials: 0,
            acknowledged: 0,
            addresses_dialled: Vec::new(),
            leader: String::new(),
            log_ids: HashMap::new(),
            reject: None,
            lies: false,
            grants_nothing: false,
            links: HashMap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            to_start: 0,
            ended: 0,
        }
    }

    fn schedule(&mut self, at_ms: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((at_ms, self.next_event), event);
    }

    /// A call that starts after a while.
    pub fn start_at(&mut self, at_ms: u64, call: Call) {
        self.to_start += 1;
        self.schedule(at_ms, Event::Start(call));
    }

    pub fn start(&mut self, call: Call) -> CallId {
        let id = self.session.call(call.clone(), self.now_ms);
        let started = Started { call, chunks: Vec::new(), answered: false, result: None };
        assert!(self.calls.insert(id, started).is_none(), "call ids are not used twice");
        id
    }

    pub fn connect(&mut self, timeout_ms: u64) -> CallId {
        let deadline_ms = self.now_ms + timeout_ms;
        let id = self.session.connect(deadline_ms, self.now_ms);
        let request = Request::Hello(HelloRequest::default());
        let kind = CallKind::Collect;
        let call = Call { request, payload: Bytes::new(), deadline_ms, kind };
        let started = Started { call, chunks: Vec::new(), answered: false, result: None };
        self.calls.insert(id, started);
        id
    }

    /// Runs until every call has ended and no more are to start.
    pub fn run(&mut self) {
        loop {
            self.act();
            if self.to_start == 0 && self.ended == self.calls.len() {
                return;
            }
            self.step();
        }
    }

    /// Runs for some time.
    pub fn run_for(&mut self, span_ms: u64) {
        let end_ms = self.now_ms + span_ms;
        self.act();
        while self.next_ms().is_some_and(|at_ms| at_ms <= end_ms) {
            self.step();
            self.act();
        }
        self.now_ms = end_ms;
    }

    fn next_ms(&self) -> Option<u64> {
        let event = self.events.first_key_value().map(|((at_ms, _), _)| *at_ms);
        self.session.next_wake_ms().into_iter().chain(event).min()
    }

    fn step(&mut self) {
        let next_ms = self.next_ms().expect("calls are pending, so something will happen");
        self.now_ms = self.now_ms.max(next_ms);
        if self.session.next_wake_ms().is_some_and(|at_ms| at_ms <= self.now_ms) {
            self.session.tick(self.now_ms);
            let wake = self.session.next_wake_ms();
            assert!(wake.is_none_or(|at| at > self.now_ms), "a tick does all that is due");
            return;
        }
        if let Some(((_, _), event)) = self.events.pop_first() {
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        let now_ms = self.now_ms;
        match event {
            Event::DialDone(id, true) => self.session.connected(id, now_ms),
            Event::DialDone(id, false) => {
                let error = Error::new(ErrorCode::ConnectionFailed, "connection refused");
                self.session.disconnected(id, error, now_ms);
            }
            Event::ToServer(id, bytes) => self.serve(id, &bytes),
            Event::ToClient(id, bytes) => {
                if self.links.get(&id).is_some_and(|link| !link.client_gone) {
                    self.session.received(id, &bytes, now_ms);
                }
            }
            Event::Advance(id, request_id) => {
                let link = self.links.get_mut(&id).unwrap();
                if let Some(bytes) = link.server.advance(request_id) {
                    self.send_to_client(id, bytes.into());
                    let pause_ms = self.random.below(4);
                    self.schedule(now_ms + pause_ms, Event::Advance(id, request_id));
                }
            }
            Event::Say(id, bytes) => self.send_to_client(id, bytes),
            Event::Cut(id) => self.cut(id),
            Event::Start(call) => {
                self.to_start -= 1;
                let id = self.start(call);
                if self.random.chance(self.faults.cancel) {
                    let pause_ms = self.random.below(60);
                    self.schedule(now_ms + pause_ms, Event::Cancel(id));
                }
            }
            Event::Cancel(id) => self.session.cancel(id, now_ms),
        }
    }

    /// Cuts every connection.
    pub fn cut_all(&mut self) {
        let ids: Vec<ConnectionId> = self.links.keys().copied().collect();
        ids.into_iter().for_each(|id| self.cut(id));
        self.act();
    }

    /// The servers send their clients away.
    pub fn send_away(&mut self) {
        let ids: Vec<ConnectionId> = self.links.keys().copied().collect();
        ids.into_iter().for_each(|id| self.send_to_client(id, goaway().into()));
    }

    /// From now on nothing passes over the connections there are, and nobody is told.
    pub fn stall(&mut self) {
        for link in self.links.values_mut() {
            link.server_gone_ms = 0;
        }
    }

    fn cut(&mut self, id: ConnectionId) {
        let link = self.links.get_mut(&id).unwrap();
        if link.client_gone {
            return;
        }
        link.client_gone = true;
        link.server_gone_ms = self.now_ms + self.random.below(60);
        let error = Error::new(ErrorCode::ConnectionFailed, "connection reset");
        self.session.disconnected(id, error, self.now_ms);
    }

    fn serve(&mut self, id: ConnectionId, bytes: &[u8]) {
        let link = self.links.get_mut(&id).unwrap();
        if self.now_ms > link.server_gone_ms {
            return;
        }
        link.server.push(bytes);
        while let Some(frame) = self.links.get_mut(&id).unwrap().server.next_frame() {
            let mood = self.mood();
            if self.random.chance(self.faults.expire) {
                self.database.expire_producers();
            }
            let link = self.links.get_mut(&id).unwrap();
            match link.server.handle(frame, &mut self.database, mood) {
                Output::Bytes(bytes) => {
                    let at_ms = self.now_ms + self.random.below(40);
                    self.schedule(at_ms, Event::Say(id, bytes.into()));
                }
                Output::Begin(request_id) => {
                    let at_ms = self.now_ms + self.random.below(40);
                    self.schedule(at_ms, Event::Advance(id, request_id));
                }
                Output::Nothing => {}
            }
            if self.random.chance(self.faults.goaway) {
                self.send_to_client(id, goaway().into());
            }
            if self.random.chance(self.faults.cut) {
                let at_ms = self.now_ms + self.random.below(30);
                self.schedule(at_ms, Event::Cut(id));
            }
        }
    }

    fn mood(&mut self) -> Mood {
        if self.random.chance(self.faults.overloaded) {
            Mood::Overloaded
        } else if self.random.chance(self.faults.unavailable) {
            Mood::Unavailable
        } else if self.random.chance(self.faults.silent) {
            Mood::Silent
        } else {
            Mood::Serve
        }
    }

    /// Bytes arrive in order, torn anywhere, after a while.
    fn send_to_client(&mut self, id: ConnectionId, mut bytes: Bytes) {
        while !bytes.is_empty() {
            let piece = bytes.split_to(1 + self.random.below(bytes.len() as u64) as usize);
            let delay_ms = self.random.below(6);
            let link = self.links.get_mut(&id).unwrap();
            link.to_client_ms = link.to_client_ms.max(self.now_ms + delay_ms);
            let at_ms = link.to_client_ms;
            self.schedule(at_ms, Event::ToClient(id, piece));
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Dial { connection, address } => self.dial(connection, address),
                Action::Send { connection, pieces } => {
                    for piece in pieces {
                        let delay_ms = self.random.below(6);
                        let link = self.links.get_mut(&connection).unwrap();
                        link.to_server_ms = link.to_server_ms.max(self.now_ms + delay_ms);
                        let at_ms = link.to_server_ms;
                        self.schedule(at_ms, Event::ToServer(connection, piece));
                    }
                }
                Action::Drop { connection } => {
                    let link = self.links.get_mut(&connection).unwrap();
                    link.client_gone = true;
                    link.server_gone_ms = self.now_ms + self.random.below(60);
                }
                Action::Answer { call, .. } => {
                    let started = self.calls.get_mut(&call).unwrap();
                    assert!(!started.answered && started.result.is_none(), "one answer a call");
                    started.answered = true;
                }
                Action::Chunk { call, payload } => self.chunk(call, payload),
                Action::End { call } => self.ended(call, Ok(None)),
                Action::Done { call, result } => self.ended(call, result.map(Some)),
            }
        }
    }

    fn dial(&mut self, connection: ConnectionId, address: usize) {
        self.dials += 1;
        self.addresses_dialled.push(address);
        let mut server = ServerSide::new(self.leader.clone());
        server.reject = self.reject;
        server.lies = self.lies;
        if let Some(log_id) = self.log_ids.get(&address) {
            server.log_id = *log_id;
        }
        let link = Link {
            server,
            to_server_ms: 0,
            to_client_ms: 0,
            client_gone: false,
            server_gone_ms: u64::MAX,
        };
        self.links.insert(connection, link);
        if self.random.chance(self.faults.dial_hangs) {
            return;
        }
        let works = !self.random.chance(self.faults.dial_fails);
        let at_ms = self.now_ms + self.random.below(20);
        self.schedule(at_ms, Event::DialDone(connection, works));
    }

    fn chunk(&mut self, id: CallId, payload: Bytes) {
        let bytes = payload.len() as u64;
        let started = self.calls.get_mut(&id).unwrap();
        assert!(started.answered && started.result.is_none(), "chunks lie between answer and end");
        started.chunks.push(payload);
        if !self.grants_nothing {
            self.session.grant(id, bytes);
        }
    }

    fn ended(&mut self, id: CallId, result: Result<Option<Answer>, Error>) {
        let now_ms = self.now_ms;
        let started = self.calls.get_mut(&id).expect("only calls that were started end");
        assert!(started.result.is_none(), "a call ends once");
        assert!(now_ms <= started.call.deadline_ms, "a call ends by its deadline");
        if let (Request::Read(read), Ok(answer)) = (&started.call.request, &result) {
            let pieces = answer.as_ref().map_or(&started.chunks, |answer| &answer.payload);
            let (given, whole) = (pieces.concat(), pattern(read.max_bytes as usize));
            let cut = answer.as_ref().is_some_and(|answer| answer.cut);
            let fits = if cut { whole.starts_with(&given) } else { given == whole };
            assert!(fits, "a read gives its bytes");
        }
        started.result = Some(result);
        self.ended += 1;
    }
}

/// An append of one event whose data names it.
pub fn append(stream_id: u64, data: &[u8], deadline_ms: u64) -> Call {
    let batch = EventBatch::from_events([data]).unwrap();
    let request = Request::Append(AppendRequest {
        stream_id,
        expected_offset: u64::MAX,
        count: batch.count(),
        payload_crc: batch.crc(),
        ..Default::default()
    });
    Call { request, payload: batch.payload().clone(), deadline_ms, kind: CallKind::Collect }
}

/// A read that is answered with this many bytes.
pub fn read(max_bytes: u64, kind: CallKind, deadline_ms: u64) -> Call {
    let request = Request::Read(ReadRequest { max_bytes, ..Default::default() });
    Call { request, payload: Bytes::new(), deadline_ms, kind }
}
