//! Lanes: each stream's appends, in order. A lane's appends under way share one connection; what
//! waits follows in the order of the calls, so that an append that has to be sent again goes before
//! those called after it.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::types::{CallId, ConnectionId};

/// One stream's appends.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// What waits to be sent, oldest call first.
    pub(super) waiting: BTreeSet<CallId>,
    /// How many are under way.
    pub(super) in_flight: usize,
    /// Where those under way went.
    pub(super) connection: Option<ConnectionId>,
    /// Whose numbers those under way have. Another producer's have to wait: were this one's refused
    /// because it has expired, they would be overtaken.
    pub(super) producer_id: u64,
    /// Nothing is sent before this time: the server had no room.
    pub(super) held_until_ms: u64,
    queued: bool,
}

/// All lanes with something to do.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    // The standard hasher: stream ids come from outside.
    lanes: HashMap<u64, Lane>,
    /// Lanes that may send.
    ready: VecDeque<u64>,
    /// Lanes that need a producer's number before they may send.
    starved: VecDeque<u64>,
    holds: BTreeSet<(u64, u64)>,
}

impl Lanes {
    pub(super) fn get(&self, stream_id: u64) -> Option<&Lane> {
        self.lanes.get(&stream_id)
    }

    /// An append waits to be sent.
    pub(super) fn push(&mut self, stream_id: u64, call: CallId) {
        self.lanes.entry(stream_id).or_default().waiting.insert(call);
        self.wake(stream_id);
    }

    /// An append waits no longer.
    pub(super) fn remove(&mut self, stream_id: u64, call: CallId) {
        if let Some(lane) = self.lanes.get_mut(&stream_id) {
            lane.waiting.remove(&call);
        }
        self.tidy(stream_id);
    }

    /// An append was sent.
    pub(super) fn sent(
        &mut self,
        stream_id: u64,
        call: CallId,
        connection: ConnectionId,
        producer_id: u64,
    ) {
        let lane = self.lanes.entry(stream_id).or_default();
        lane.waiting.remove(&call);
        lane.in_flight += 1;
        lane.connection = Some(connection);
        lane.producer_id = producer_id;
    }

    /// An append is no longer under way.
    pub(super) fn landed(&mut self, stream_id: u64) {
        let Some(lane) = self.lanes.get_mut(&stream_id) else {
            return;
        };
        lane.in_flight = lane.in_flight.saturating_sub(1);
        if lane.in_flight == 0 {
            lane.connection = None;
            // It may have waited for this moment to move to another connection.
            self.wake(stream_id);
        }
        self.tidy(stream_id);
    }

    /// Sends nothing of this stream before a time, so that what was refused is not overtaken.
    pub(super) fn hold(&mut self, stream_id: u64, until_ms: u64) {
        let lane = self.lanes.entry(stream_id).or_default();
        lane.held_until_ms = lane.held_until_ms.max(until_ms);
        self.holds.insert((lane.held_until_ms, stream_id));
    }

    /// When the first hold ends.
    pub(super) fn next_wake_ms(&self) -> Option<u64> {
        self.holds.first().map(|(until_ms, _)| *until_ms)
    }

    /// Ends holds whose time has come.
    pub(super) fn release(&mut self, now_ms: u64) {
        while let Some((until_ms, stream_id)) = self.holds.first().copied() {
            if until_ms > now_ms {
                break;
            }
            self.holds.pop_first();
            self.wake(stream_id);
        }
    }

    fn wake(&mut self, stream_id: u64) {
        if let Some(lane) = self.lanes.get_mut(&stream_id)
            && !lane.queued
            && !lane.waiting.is_empty()
        {
            lane.queued = true;
            self.ready.push_back(stream_id);
        }
    }

    fn tidy(&mut self, stream_id: u64) {
        // One that is queued stays until its turn, so that it never stands in a queue twice.
        let idle = |lane: &Lane| !lane.queued && lane.waiting.is_empty() && lane.in_flight == 0;
        if self.get(stream_id).is_some_and(idle) {
            self.lanes.remove(&stream_id);
        }
    }

    /// The next lane that may have something to send; one that lacks a number only where there is
    /// one to have.
    pub(super) fn next_ready(&mut self, has_number: bool) -> Option<u64> {
        let next = self.ready.pop_front();
        if next.is_none() && has_number { self.starved.pop_front() } else { next }
    }

    pub(super) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn is_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// The lane may have more to send.
    pub(super) fn requeue(&mut self, stream_id: u64) {
        self.ready.push_back(stream_id);
    }

    /// Nobody can send now; the lane keeps its turn.
    pub(super) fn put_back(&mut self, stream_id: u64) {
        self.ready.push_front(stream_id);
    }

    /// The lane needs a number.
    pub(super) fn starve(&mut self, stream_id: u64) {
        self.starved.push_back(stream_id);
    }

    /// Some lane may have got something to send that has its number already.
    pub(super) fn feed(&mut self) {
        self.ready.append(&mut self.starved);
    }

    /// The lane has nothing to send until something happens to it.
    pub(super) fn rest(&mut self, stream_id: u64) {
        if let Some(lane) = self.lanes.get_mut(&stream_id) {
            lane.queued = false;
        }
        self.tidy(stream_id);
    }
}
