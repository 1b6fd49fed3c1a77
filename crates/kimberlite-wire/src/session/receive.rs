//! What comes in from a server.

use bytes::Bytes;

use super::Session;
use super::answers;
use super::calls::Place;
use super::connection::{Connection, Pending, Phase};
use super::types::{Action, CallId, CallKind, ConnectionId};
use crate::error::Error;
use crate::frame::{Frame, flag};
use crate::generated::{
    ErrorBody, ErrorCode, FrameKind, GoawayBody, HelloResponse, Operation, Response,
};

impl Session {
    /// Handles every frame that is complete.
    pub(super) fn receive(&mut self, id: ConnectionId, now_ms: u64) {
        // Any bytes show that the other side lives.
        if let Some(link) = self.connections.get_mut(&id) {
            link.last_received_ms = now_ms;
            link.ping_sent_ms = None;
        }
        while let Some(link) = self.connections.get_mut(&id) {
            let result = match link.decoder.next() {
                Ok(Some(frame)) => self.frame(id, frame, now_ms),
                Ok(None) => break,
                Err(e) => Err(e),
            };
            if let Err(e) = result {
                return self.drop_connection(id, e, now_ms);
            }
        }
        self.drop_if_drained(id);
    }

    /// Handles one frame; an error means that the connection is of no more use.
    fn frame(&mut self, id: ConnectionId, frame: Frame, now_ms: u64) -> Result<(), Error> {
        match frame.header.kind {
            FrameKind::Response => match self.connections.get(&id).map(|link| link.phase) {
                Some(Phase::Greeting) => self.hello_answer(id, frame, now_ms),
                Some(Phase::Ready | Phase::Draining) => self.response(id, frame, now_ms),
                _ => Err(Error::protocol("a frame came before Hello")),
            },
            FrameKind::Ping => {
                if !frame.header.has(flag::END)
                    && let Some(link) = self.connections.get_mut(&id)
                {
                    link.send_ping(flag::END, frame.header.request_id, &frame.body);
                    self.dirty.insert(id);
                }
                Ok(())
            }
            FrameKind::Goaway => {
                let goaway = GoawayBody::decode(&frame.body)?;
                if self.connections.get(&id).is_some_and(Connection::is_dialing) {
                    let detail = format!("the server goes away: {}", goaway.reason);
                    return Err(Error::new(ErrorCode::ConnectionFailed, detail));
                }
                self.go_away(id, &goaway, now_ms);
                Ok(())
            }
            kind @ (FrameKind::Request | FrameKind::Credit | FrameKind::Cancel) => {
                Err(Error::protocol(format!("a server sent a {} frame", kind.name())))
            }
        }
    }

    fn hello_answer(&mut self, id: ConnectionId, frame: Frame, now_ms: u64) -> Result<(), Error> {
        if frame.header.has(flag::ERROR) {
            return Err(Error::from_body(ErrorBody::decode(&frame.body)?));
        }
        if frame.header.request_id != 1 || frame.header.operation != Operation::Hello.number() {
            return Err(Error::protocol("the first answer was not the one to Hello"));
        }
        self.welcomed(id, HelloResponse::decode(&frame.body)?, now_ms);
        Ok(())
    }

    fn go_away(&mut self, id: ConnectionId, goaway: &GoawayBody, now_ms: u64) {
        let Some(address) = self.connections.get(&id).map(|link| link.address) else {
            return;
        };
        self.drain(id);
        if self.usable.is_empty() {
            self.follow(&goaway.leader, address, now_ms);
            self.book.prefer(self.leader.take().unwrap_or((address + 1) % self.book.len().max(1)));
        }
    }

    fn response(&mut self, id: ConnectionId, frame: Frame, now_ms: u64) -> Result<(), Error> {
        let Some(link) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        let header = frame.header;
        let is_error = header.has(flag::ERROR);
        let ends = is_error || header.has(flag::END);
        if !ends && !header.has(flag::MORE) {
            return Err(Error::protocol("a response frame has none of the flags END, MORE, ERROR"));
        }
        let pending = link.requests.get(&header.request_id).copied();
        if ends {
            link.forget(header.request_id);
        }
        match pending {
            Some(Pending::Call(call)) if is_error => {
                link.answered = true;
                self.book.proved();
                self.error_answer(id, call, &frame.body, now_ms)
            }
            Some(Pending::Call(call)) => {
                link.answered = true;
                self.book.proved();
                self.answer(id, call, frame, ends)
            }
            Some(Pending::Abandoned) => Ok(()),
            None if is_error && header.request_id == 0 => {
                Err(Error::from_body(ErrorBody::decode(&frame.body)?))
            }
            None => {
                let detail = format!("an answer to request {}, which is none", header.request_id);
                Err(Error::protocol(detail))
            }
        }
    }

    /// A call was answered with an error.
    fn error_answer(
        &mut self,
        connection: ConnectionId,
        id: CallId,
        body: &[u8],
        now_ms: u64,
    ) -> Result<(), Error> {
        let error = match ErrorBody::decode(body) {
            // It does not tell what became of the call.
            Ok(body) if body.code == ErrorCode::Ok.number() => {
                return self.answer_broken(id, Error::from_body(body));
            }
            Ok(body) => Error::from_body(body),
            Err(e) => return self.answer_broken(id, e.into()),
        };
        if error.code == ErrorCode::ClusterUnavailable && self.book.len() > 1 {
            // This member cannot; perhaps another one can.
            self.go_away(connection, &GoawayBody::default(), now_ms);
        }
        self.land(id);
        self.refused(id, error, now_ms);
        Ok(())
    }

    /// The call's request is answered: it is under way no longer.
    fn land(&mut self, id: CallId) {
        if let Some(call) = self.calls.get_mut(&id.0) {
            call.place = Place::Nowhere;
            let lane = call.lane();
            self.landed(lane);
        }
    }

    /// Takes a frame of an answer.
    fn answer(
        &mut self,
        connection: ConnectionId,
        id: CallId,
        frame: Frame,
        ends: bool,
    ) -> Result<(), Error> {
        let Some(call) = self.calls.get_mut(&id.0) else {
            return Ok(());
        };
        let operation = call.request.operation();
        if frame.header.operation != operation.number() {
            let detail = format!(
                "the answer to {} names operation {}",
                operation.name(),
                frame.header.operation
            );
            return self.answer_broken(id, Error::protocol(detail));
        }
        if !call.answered && call.body.is_none() {
            let body = match Response::decode(operation, &frame.body) {
                Ok(body) => body,
                Err(e) => return self.answer_broken(id, e.into()),
            };
            if let Err(e) = answers::check(&call.request, &body, call.settles) {
                return self.answer_broken(id, e);
            }
            if call.kind == CallKind::Collect {
                call.body = Some(body);
            } else {
                call.answered = true;
                self.actions.push_back(Action::Answer { call: id, body });
            }
        }
        if !frame.payload.is_empty() && !answers::has_payload(operation) {
            let detail = format!("the answer to {} has payload", operation.name());
            return self.answer_broken(id, Error::protocol(detail));
        }
        if !frame.payload.is_empty()
            && let Err(e) = self.payload(connection, id, frame.payload, ends)
        {
            return self.answer_broken(id, e);
        }
        if ends && self.calls.contains_key(&id.0) {
            self.land(id);
            self.succeed(id);
        }
        Ok(())
    }

    /// An answer makes no sense: asking again would not help, so that the call ends with it, and
    /// the connection too.
    fn answer_broken(&mut self, id: CallId, error: Error) -> Result<(), Error> {
        self.fail(id, error.clone());
        Err(error)
    }

    /// Takes payload, minds the credit, and grants more to a collecting call.
    fn payload(
        &mut self,
        connection: ConnectionId,
        id: CallId,
        payload: Bytes,
        ends: bool,
    ) -> Result<(), Error> {
        let (Some(call), Some(link)) =
            (self.calls.get_mut(&id.0), self.connections.get_mut(&connection))
        else {
            return Ok(());
        };
        let bytes = payload.len() as u64;
        let Some(credit_left) = call.credit_left.checked_sub(bytes) else {
            let detail = format!("{bytes} bytes of payload came on {} of credit", call.credit_left);
            return Err(Error::protocol(detail));
        };
        call.credit_left = credit_left;
        if call.kind == CallKind::Stream {
            self.actions.push_back(Action::Chunk { call: id, payload });
            return Ok(());
        }
        call.payload.push(payload);
        call.received_bytes += bytes;
        call.ungranted_bytes += bytes;
        let bound = self.config.options.max_response_bytes;
        if call.received_bytes > bound && call.received_bytes > call.bound(bound) {
            if call.may_be_cut() {
                self.cut_answer(id);
                return Ok(());
            }
            let what = "the answer (option max_response_bytes; use a cursor or an iterator)";
            let error = Error::limit(what, call.received_bytes, bound);
            self.fail(id, error);
        } else if !ends
            && call.ungranted_bytes * 2 >= link.initial_credit
            && let Place::Sent { request_id, .. } = call.place
        {
            let granted = std::mem::take(&mut call.ungranted_bytes);
            call.credit_left += granted;
            link.send_credit(request_id, granted);
            self.dirty.insert(connection);
        }
        Ok(())
    }

    /// Allows more of a streaming call's payload.
    pub(super) fn grant_call(&mut self, id: CallId, bytes: u64) {
        let Some(call) = self.calls.get_mut(&id.0).filter(|call| call.kind == CallKind::Stream)
        else {
            return;
        };
        let Place::Sent { connection, request_id } = call.place else {
            return;
        };
        if let Some(link) = self.connections.get_mut(&connection).filter(|_| bytes > 0) {
            call.credit_left = call.credit_left.saturating_add(bytes);
            link.send_credit(request_id, bytes);
            self.dirty.insert(connection);
        }
    }

    /// Drops connections on which too many answers are overdue.
    pub(super) fn drop_clogged(&mut self, now_ms: u64) {
        let clogged = self.connections.iter().filter(|(_, link)| link.is_clogged());
        for id in clogged.map(|(id, _)| *id).collect::<Vec<ConnectionId>>() {
            let error = Error::new(ErrorCode::ConnectionFailed, "it leaves requests unanswered");
            self.drop_connection(id, error, now_ms);
        }
    }
}
