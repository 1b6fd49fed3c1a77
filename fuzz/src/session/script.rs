//! One step of a script.

use bytes::Bytes;
use kimberlite_wire::frame::flag;
use kimberlite_wire::session::{Call, CallKind, ConnectionId};
use kimberlite_wire::*;

use super::World;
use super::links::{frame, response};
use crate::input::Input;

impl World {
    /// Does what the next bytes say.
    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        match input.below(16) {
            0..=2 => self.start(input),
            3 => {
                let call = self.some_call(input);
                self.session.cancel(call, self.now_ms);
                self.act();
            }
            4 => {
                let (call, bytes) = (self.some_call(input), input.number());
                self.session.grant(call, bytes);
                self.act();
            }
            5 => {
                let ms = input.number() % 200_000;
                self.advance(ms);
            }
            6 => {
                // A driver that was late: what is overdue ends now.
                let ms = input.number() % 200_000;
                self.tick(self.now_ms + ms);
            }
            7 | 8 => self.dialled(input),
            9 => self.cut(input),
            10..=13 => self.answer(input),
            14 => self.speak(input),
            _ => {
                let deadline_ms = self.now_ms + 1 + input.number() % 100_000;
                let id = self.session.connect(deadline_ms, self.now_ms);
                self.calls.connecting(id, deadline_ms);
                self.act();
            }
        }
    }

    fn start(&mut self, input: &mut Input<'_>) {
        let tag = self.calls.tag();
        let kind = if input.flag() { CallKind::Stream } else { CallKind::Collect };
        let mut payload = Bytes::new();
        let request = match input.below(8) {
            0 => Request::Read(ReadRequest { from_offset: tag, ..Default::default() }),
            1 => Request::Subscribe(SubscribeRequest {
                from_offset: tag,
                credit_bytes: input.number() as u32,
                stream_id: 1,
            }),
            2 => Request::Query(QueryRequest { at: tag, ..Default::default() }),
            3 => Request::CreateTenant(CreateTenantRequest { tenant_id: tag }),
            4 => Request::DeleteTenant(DeleteTenantRequest { tenant_id: tag }),
            _ => {
                let (request, bytes) = self.append(tag, input);
                payload = bytes;
                Request::Append(request)
            }
        };
        let kind = if payload.is_empty() { kind } else { CallKind::Collect };
        let deadline_ms = self.now_ms + 1 + input.number() % 100_000;
        let call = Call { request, payload, deadline_ms, kind };
        let id = self.session.call(call.clone(), self.now_ms);
        self.calls.started(id, tag, &call);
        self.act();
    }

    /// An append whose event begins with the tag; sometimes under the key of an earlier one.
    fn append(&mut self, tag: u64, input: &mut Input<'_>) -> (AppendRequest, Bytes) {
        let mut data = tag.to_le_bytes().to_vec();
        data.resize(8 + usize::from(input.u8()) * 20, 0);
        let batch = EventBatch::from_events([data]).expect("a small event is a batch");
        let mut request = AppendRequest {
            stream_id: u64::from(input.u8() % 3),
            expected_offset: u64::MAX,
            count: 1,
            payload_crc: batch.crc(),
            ..Default::default()
        };
        let choice = input.u8();
        if choice >= 192
            && let Some(key) = self.calls.pick_key(choice)
        {
            (request.producer_id, request.sequence) = (key.producer_id, key.sequence);
        }
        (request, batch.payload().clone())
    }

    /// A connection that is being dialled opens, or does not.
    fn dialled(&mut self, input: &mut Input<'_>) {
        let dialing: Vec<ConnectionId> =
            self.links.iter().filter(|(_, link)| link.is_dialing()).map(|(id, _)| *id).collect();
        let Some(id) = dialing.get(input.below(dialing.len())).copied() else { return };
        let choice = input.u8();
        if choice >= 224 {
            let error = Error::new(ErrorCode::ConnectionFailed, "refused");
            return self.disconnect(id, error);
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.open();
        }
        self.session.connected(id, self.now_ms);
        self.act();
        if choice < 192 {
            self.welcome(id, input);
        }
    }

    /// The server's side of Hello, mostly good.
    fn welcome(&mut self, id: ConnectionId, input: &mut Input<'_>) {
        let choice = input.u8();
        let leader = match choice & 1 {
            1 => format!("server{}:5432", choice >> 6),
            _ => String::new(),
        };
        let welcome = HelloResponse {
            protocol_version: if choice & 6 == 6 { input.u16() } else { 1 },
            log_id: [if choice & 24 == 24 { input.u8() } else { 7 }; 16],
            leader,
            max_request_bytes: if choice & 96 == 96 { input.number() as u32 } else { 1 << 20 },
            initial_credit_bytes: 1000,
            ..Default::default()
        };
        let mut body = Vec::new();
        welcome.encode(&mut body);
        if let Some(link) = self.links.get_mut(&id) {
            link.welcomed = true;
        }
        self.say(id, &response(1, Operation::Hello.number(), flag::END, &body, &[]), input);
    }

    fn cut(&mut self, input: &mut Input<'_>) {
        let Some(id) = self.some_link(input) else { return };
        let code = ErrorCode::ALL[input.below(ErrorCode::ALL.len())];
        let mut error = Error::new(code, "cut");
        error.retry_after_ms = input.number() as u32;
        self.disconnect(id, error);
    }

    fn some_link(&self, input: &mut Input<'_>) -> Option<ConnectionId> {
        let open: Vec<ConnectionId> =
            self.links.iter().filter(|(_, link)| link.is_open()).map(|(id, _)| *id).collect();
        open.get(input.below(open.len())).copied()
    }

    /// A server answers one of its requests: rightly, in part, or with an error.
    fn answer(&mut self, input: &mut Input<'_>) {
        let Some(id) = self.some_link(input) else { return };
        let Some(link) = self.links.get(&id) else { return };
        let choice = input.below(link.asked.len());
        let Some(asked) = link.asked.get(choice) else { return };
        let (request_id, operation) = (asked.request_id, asked.operation);
        if operation == Operation::Hello {
            return self.welcome(id, input);
        }
        let shape = input.u8();
        let bytes = if shape >= 176 {
            let code = ErrorCode::ALL[input.below(ErrorCode::ALL.len())];
            let mut error = Error::new(code, "").with_value(input.number());
            error.retry_after_ms = input.number() as u32;
            let mut body = Vec::new();
            error.to_body().encode(&mut body);
            response(request_id, operation.number(), flag::ERROR | flag::END, &body, &[])
        } else {
            self.next_producer += 1;
            let body = good_body(operation, self.next_producer);
            let payload = vec![7; payload_len(operation, input.u8())];
            let flags = if shape < 112 { flag::END } else { flag::MORE };
            response(request_id, operation.number(), flags, &body, &payload)
        };
        self.say(id, &bytes, input);
    }

    /// A server says something by itself, or something senseless.
    fn speak(&mut self, input: &mut Input<'_>) {
        let Some(id) = self.some_link(input) else { return };
        let bytes = match input.below(4) {
            0 => {
                let leader = format!("server{}:5432", input.below(5));
                let mut body = Vec::new();
                GoawayBody { leader, reason: "restart".to_string() }.encode(&mut body);
                frame(FrameKind::Goaway, 0, 0, 0, &body, &[])
            }
            1 => frame(FrameKind::Ping, input.number(), 0, input.u8(), input.short(), &[]),
            2 => {
                let kind = FrameKind::ALL[input.below(FrameKind::ALL.len())];
                let (request_id, operation) = (input.number(), u16::from(input.u8()));
                if operation == Operation::OpenProducer.number() {
                    // Who gives one producer to two clients breaks more than a client can mend.
                    return;
                }
                frame(kind, request_id, operation, input.u8(), input.short(), input.short())
            }
            _ => input.short().to_vec(),
        };
        self.say(id, &bytes, input);
    }

    /// Bytes go to the client: whole, in two parts, or with a byte changed.
    fn say(&mut self, id: ConnectionId, bytes: &[u8], input: &mut Input<'_>) {
        let mut bytes = bytes.to_vec();
        let shape = input.u8();
        if shape >= 240 && !bytes.is_empty() {
            let at = usize::from(input.u8()) % bytes.len();
            bytes[at] ^= input.u8();
        }
        let middle = if shape >= 192 { bytes.len() / 2 } else { 0 };
        let (first, second) = bytes.split_at(middle);
        self.receive(id, first);
        self.receive(id, second);
    }

    fn receive(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&id).filter(|link| link.is_open()) else { return };
        // What the client will understand as an answer's end is one, whoever meant it so.
        for (request_id, code) in link.tell(bytes) {
            self.calls.answer_sent(id, request_id, code);
        }
        self.session.received(id, bytes, self.now_ms);
        self.act();
    }
}

/// A body that the operation's answer may have.
fn good_body(operation: Operation, number: u64) -> Vec<u8> {
    let mut body = Vec::new();
    let out = &mut body;
    match operation {
        Operation::OpenProducer => {
            OpenProducerResponse { producer_id: number, position: 1 }.encode(out);
        }
        Operation::Append => AppendResponse { count: 1, ..Default::default() }.encode(out),
        Operation::Read => ReadResponse::default().encode(out),
        Operation::Subscribe => SubscribeResponse::default().encode(out),
        Operation::Query => QueryResponse::default().encode(out),
        Operation::CreateTenant => CreateTenantResponse::default().encode(out),
        Operation::DeleteTenant => DeleteTenantResponse::default().encode(out),
        // No call of the script's is answered with these.
        _ => {}
    }
    body
}

/// How much payload an answer has: some, where the operation has any; rarely a senseless one.
fn payload_len(operation: Operation, choice: u8) -> usize {
    match operation {
        Operation::Read | Operation::Subscribe | Operation::Query => usize::from(choice) * 8,
        _ => usize::from(choice > 240) * 8,
    }
}
