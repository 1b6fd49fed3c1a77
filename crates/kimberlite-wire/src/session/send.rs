//! What is sent when, and where.

use super::Session;
use super::calls::Place;
use super::connection::{Connection, Pending, Phase};
use super::types::{CallId, ConnectionId};
use crate::error::AppendKey;
use crate::generated::Request;
use crate::producer::Take;

/// This many requests under way on a connection are reason enough to open one more of the pool.
const REQUESTS_BEFORE_GROWTH: usize = 8;

/// What became of a lane's turn.
enum Turn {
    /// Something was sent or ended; there may be more.
    Progress,
    /// There is nothing to send until something happens to the lane.
    Rest,
    /// Its connection takes no more for now.
    Busy,
    /// It needs a producer's number.
    Starved,
    /// There is no connection.
    Unreachable,
}

impl Session {
    /// Sends what can be sent, then dials where that is needed.
    pub(super) fn pump(&mut self, now_ms: u64) {
        if !self.usable.is_empty() {
            self.pump_lanes(now_ms);
            self.pump_waiting(now_ms);
        }
        self.dial(now_ms);
    }

    fn pump_waiting(&mut self, now_ms: u64) {
        while let Some(id) = self.waiting.first().copied() {
            let Some(connection) = self.least_busy() else {
                return;
            };
            self.waiting.pop_first();
            self.send(id, connection, now_ms);
        }
    }

    /// The connection with the fewest requests under way, where it has room.
    fn least_busy(&self) -> Option<ConnectionId> {
        let load = |id: &&ConnectionId| self.connections.get(id).map(|link| link.requests.len());
        let id = *self.usable.iter().min_by_key(load)?;
        self.connections.get(&id).filter(|link| link.has_room()).map(|_| id)
    }

    fn pump_lanes(&mut self, now_ms: u64) {
        let mut busy = 0;
        while busy <= self.lanes.ready_len()
            && let Some(stream_id) = self.lanes.next_ready(self.producers.has_number())
        {
            match self.lane_turn(stream_id, now_ms) {
                Turn::Progress => self.lanes.requeue(stream_id),
                Turn::Rest => self.lanes.rest(stream_id),
                Turn::Starved => self.lanes.starve(stream_id),
                Turn::Busy => {
                    busy += 1;
                    self.lanes.requeue(stream_id);
                }
                Turn::Unreachable => return self.lanes.put_back(stream_id),
            }
        }
        if self.lanes.is_starved() && self.producers.needs_producer() {
            self.open_producer(now_ms);
        }
    }

    fn lane_turn(&mut self, stream_id: u64, now_ms: u64) -> Turn {
        let Some(lane) = self.lanes.get(stream_id) else {
            return Turn::Rest;
        };
        let Some(id) = lane.waiting.first().copied().filter(|_| lane.held_until_ms <= now_ms)
        else {
            return Turn::Rest;
        };
        // Those under way bind the lane to their connection; a lane whose connection drains waits
        // until it is free to move.
        let bound = lane.connection.filter(|_| lane.in_flight > 0);
        let Some(connection) = bound.or_else(|| self.home_of(stream_id)) else {
            return Turn::Unreachable;
        };
        match self.connections.get(&connection) {
            Some(link) if link.phase == Phase::Ready && link.has_room() => {}
            Some(link) if link.phase == Phase::Ready => return Turn::Busy,
            _ => return Turn::Rest,
        }
        let producer_id = self.producer_of(id);
        if bound.is_some() && producer_id.is_some_and(|producer_id| producer_id != lane.producer_id)
        {
            return Turn::Rest;
        }
        let Some(key) = self.number(id) else {
            return Turn::Starved;
        };
        if self.send(id, connection, now_ms) {
            self.lanes.sent(stream_id, id, connection, key.producer_id);
        }
        Turn::Progress
    }

    /// Where a lane with nothing under way goes.
    fn home_of(&self, stream_id: u64) -> Option<ConnectionId> {
        let count = self.usable.len() as u64;
        let index = stream_id.checked_rem(count)?;
        self.usable.get(index as usize).copied()
    }

    /// Whose number an append has, or would get.
    fn producer_of(&self, id: CallId) -> Option<u64> {
        let key = self.calls.get(&id.0).and_then(|call| call.key);
        key.map(|key| key.producer_id).or(self.producers.producer_id())
    }

    /// An append's number, given now where it has none, with the newest word on what is settled.
    /// `None`: there is none to have.
    fn number(&mut self, id: CallId) -> Option<AppendKey> {
        let call = self.calls.get_mut(&id.0)?;
        let Request::Append(append) = &mut call.request else {
            return None;
        };
        let key = match call.key {
            Some(key) => key,
            None => match self.producers.take() {
                Take::Number { key, .. } => key,
                Take::Wait | Take::Open => return None,
            },
        };
        call.key = Some(key);
        append.producer_id = key.producer_id;
        append.sequence = key.sequence;
        append.acked_below = self.producers.acked_below(key);
        Some(key)
    }

    /// Sends a call, which was taken from its queue. False: it ended instead.
    fn send(&mut self, id: CallId, connection: ConnectionId, now_ms: u64) -> bool {
        let (Some(call), Some(link)) =
            (self.calls.get_mut(&id.0), self.connections.get_mut(&connection))
        else {
            return false;
        };
        // Without a deadline the server's own bound holds.
        let timeout_ms = u32::try_from(call.deadline_ms.saturating_sub(now_ms).max(1)).unwrap_or(0);
        let request_id = match link.send_request(&call.request, &call.bytes, timeout_ms) {
            Ok(request_id) => request_id,
            Err(e) => {
                self.fail(id, e);
                return false;
            }
        };
        call.place = Place::Sent { connection, request_id };
        call.credit_left = initial_credit(&call.request, link);
        link.requests.insert(request_id, Pending::Call(id));
        self.grow |= link.requests.len() > REQUESTS_BEFORE_GROWTH;
        self.dirty.insert(connection);
        true
    }
}

/// The payload bytes that the server may send before the first credit frame.
fn initial_credit(request: &Request, link: &Connection) -> u64 {
    match request {
        Request::Subscribe(subscribe) if subscribe.credit_bytes != 0 => {
            subscribe.credit_bytes.into()
        }
        _ => link.initial_credit,
    }
}
