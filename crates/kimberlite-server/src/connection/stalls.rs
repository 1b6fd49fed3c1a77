//! Peers that begin something and do not go on: a frame without its end, answers that nobody reads.

use std::time::{Duration, Instant};

use kimberlite_wire::{Error, ErrorCode};
use tracing::debug;

use super::Connection;
use crate::metrics::Bound;

/// A peer that takes at least so much of what waits for it within the stall timeout is slow, but
/// reads.
const LEAST_READ_BYTES: u64 = 64 << 10;
/// A frame that is begun has a second more for so much that is missing of it.
const LEAST_BYTES_PER_SECOND: u64 = 64 << 10;

/// What a connection's peer is waited for.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    /// Bytes sent in all.
    sent: u64,
    /// Since when something waits to be sent, and how much was sent by then.
    unread: Option<(Instant, u64)>,
    /// Since when a frame is unfinished, and how long its bytes may take beside the stall timeout.
    unfinished: Option<(Instant, Duration)>,
}

impl Stalls {
    /// Notes what was sent, and whether something still waits.
    pub(super) fn sent(&mut self, bytes: usize, nothing_waits: bool) {
        self.sent += bytes as u64;
        if nothing_waits {
            self.unread = None;
        } else if self.unread.is_none() {
            self.unread = Some((Instant::now(), self.sent));
        }
    }

    /// When the peer counts as one that does not read.
    pub(super) fn unread_at(&self, stall: Duration) -> Option<Instant> {
        self.unread.map(|(since, _)| since + stall)
    }

    /// Whether the peer has read too little for too long.
    fn is_unread(&mut self, now: Instant, stall: Duration) -> bool {
        let Some((since, before)) = self.unread else { return false };
        if since + stall > now {
            return false;
        }
        let reads = self.sent - before >= LEAST_READ_BYTES;
        if reads {
            self.unread = Some((now, self.sent));
        }
        !reads
    }

    /// Notes that a whole frame was taken, or that none is under way.
    pub(super) fn frame_done(&mut self) {
        self.unfinished = None;
    }

    /// Notes that a frame is under way of which so much is missing.
    pub(super) fn frame_begun(&mut self, missing: usize) {
        if self.unfinished.is_none() {
            let time = Duration::from_secs(missing as u64 / LEAST_BYTES_PER_SECOND);
            self.unfinished = Some((Instant::now(), time));
        }
    }

    /// Notes that the peer is not being read from.
    pub(super) fn not_reading(&mut self) {
        if let Some((since, _)) = &mut self.unfinished {
            *since = Instant::now();
        }
    }

    /// When the frame under way should have ended.
    pub(super) fn unfinished_at(&self, stall: Duration) -> Option<Instant> {
        self.unfinished.map(|(since, time)| since + stall + time)
    }
}

impl Connection {
    /// Ends the connection where its peer does not go on.
    pub(super) fn end_stalled(&mut self, now: Instant) {
        let stall_ms = self.shared.limits.stall_timeout_ms;
        let stall = Duration::from_millis(stall_ms);
        if self.stalls.is_unread(now, stall) {
            self.shared.metrics.reached(Bound::StallTimeout);
            debug!("a client does not read");
            self.end_quietly("the client does not read its answers (limits.stall_timeout_ms)");
        }
        if self.stalls.unfinished_at(stall).is_some_and(|at| at <= now) {
            self.stalls.frame_done();
            self.shared.metrics.reached(Bound::StallTimeout);
            let detail = format!(
                "a frame was begun, and its rest did not come within {stall_ms} ms and a second \
                 for each 64 KiB (limits.stall_timeout_ms)"
            );
            self.fail(0, Error::new(ErrorCode::Timeout, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALL: Duration = Duration::from_secs(30);

    /// A peer that takes nothing, or next to nothing, is noticed; one that takes something is
    /// waited for once more; one that takes all is not waited for.
    #[test]
    fn who_does_not_read_is_noticed() {
        let mut stalls = Stalls::default();
        assert_eq!(stalls.unread_at(STALL), None);
        stalls.sent(100, false);
        let late = stalls.unread_at(STALL).unwrap();
        assert!(!stalls.is_unread(late - Duration::from_millis(1), STALL));
        stalls.sent(LEAST_READ_BYTES as usize - 1, false);
        assert!(stalls.is_unread(late, STALL));
        stalls.sent(1, false);
        assert!(!stalls.is_unread(late, STALL));
        assert_eq!(stalls.unread_at(STALL), Some(late + STALL));
        stalls.sent(0, true);
        assert!(!stalls.is_unread(late + STALL, STALL));
    }

    /// A frame has its time from its beginning on, the longer the larger it is, and none while it
    /// is the server that does not read.
    #[test]
    fn unfinished_frames_are_noticed() {
        let mut stalls = Stalls::default();
        stalls.not_reading();
        assert_eq!(stalls.unfinished_at(STALL), None);
        stalls.frame_begun(16 << 20);
        let at = stalls.unfinished_at(STALL).unwrap();
        assert!(at > Instant::now() + Duration::from_secs(285));
        stalls.frame_begun(1);
        assert_eq!(stalls.unfinished_at(STALL), Some(at));
        std::thread::sleep(Duration::from_millis(2));
        stalls.not_reading();
        assert!(stalls.unfinished_at(STALL).unwrap() > at);
        stalls.frame_done();
        assert_eq!(stalls.unfinished_at(STALL), None);
    }
}
