//! An authenticated connection: one task that reads requests, polls the engine's answers and
//! writes them.
//!
//! Requests are handed to the engine in the order in which they arrive, so that the appends of a
//! connection stay in order. Nothing is spawned for a request: its future is polled here.

mod answers;
mod dispatch;
mod outbox;
mod receive;
mod slots;
mod stalls;
mod streaming;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use kimberlite_engine::Session;
use kimberlite_wire::frame::FrameDecoder;
use kimberlite_wire::{Error, ErrorCode, FrameKind, GoawayBody, Operation, limit};
use tokio::time::Sleep;

use crate::budget::{Buffered, Share, TenantRequests};
use crate::directory::Grant;
use crate::metrics::Bound;
use crate::shared::{Shared, Signal, Stage};
use crate::transport::Transport;
pub(crate) use outbox::Outbox;

/// How often answers are looked for before what is there is written.
const GATHER_ROUNDS: usize = 32;
/// After this much was moved the task lets others run.
const TURN_BYTES: usize = 256 << 10;
/// What a frame counts of that beside its bytes.
const FRAME_COST_BYTES: usize = 1 << 10;
/// A connection that was quiet this long gives its receive buffer back.
const TRIM_AFTER: Duration = Duration::from_secs(2);
/// How long a connection stays for requests that its client sent before it heard of the shutdown.
const DRAINED_QUIET: Duration = Duration::from_millis(100);
/// How long a connection that ends may take to send what it still has to say.
const ENDING_TIMEOUT: Duration = Duration::from_secs(2);

type Changed = Pin<Box<dyn Future<Output = tokio::sync::watch::Receiver<Signal>> + Send>>;

/// Where a connection stands.
enum Phase {
    /// Requests are taken.
    Open,
    /// Since then requests under way are finished, new ones refused.
    Draining(Instant),
    /// What waits to be sent is sent, then the connection is closed for this reason.
    Ending(String),
}

/// How a connection ended.
pub(crate) struct Ended {
    /// Why, for the log.
    pub(crate) reason: String,
    /// Whether the peer still listens, so that it should get the rest and an orderly close.
    pub(crate) orderly: bool,
}

/// An authenticated connection.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    transport: Transport,
    decoder: FrameDecoder,
    outbox: Outbox,
    session: Arc<Session>,
    grant: Grant,
    slots: slots::Slots,
    /// Slots that were woken and not looked at yet.
    woken: Vec<u32>,
    /// Answers that have payload to send, whose turn comes in this order.
    sending: VecDeque<u32>,
    /// Bytes that answers hold while they wait for credit.
    held_bytes: usize,
    /// Bytes of requests that the engine has not answered.
    queued_bytes: usize,
    /// What the tenant's requests draw from.
    budget: TenantRequests,
    /// What the connection buffers, and how much that may be at the moment: neither requests are
    /// taken nor answers fetched while more waits to be sent.
    buffered: Buffered,
    allowance: usize,
    /// The room taken for a large frame that is still arriving.
    large_frame: Option<Share>,
    /// When to look again whether there is room for a large frame, and since when there is none.
    room_retry: Option<Instant>,
    no_room_since: Option<Instant>,
    /// Bytes to come of a request that was refused already.
    discarding: usize,
    /// No request's deadline is before this.
    next_deadline: Option<Instant>,
    phase: Phase,
    ending_since: Option<Instant>,
    signal: Signal,
    signal_changed: Changed,
    timer: Pin<Box<Sleep>>,
    timer_at: Instant,
    last_read: Instant,
    last_moved: Instant,
    stalls: stalls::Stalls,
    requests_taken: u64,
}

impl Connection {
    /// A connection whose hello was answered; the decoder may hold what came after it.
    pub(crate) fn new(
        shared: Arc<Shared>,
        transport: Transport,
        mut decoder: FrameDecoder,
        session: Arc<Session>,
        grant: Grant,
    ) -> Connection {
        decoder.set_max_frame_bytes(limit::REQUEST_FRAME_BYTES as usize);
        let now = Instant::now();
        let mut receiver = shared.signal.subscribe();
        // The stage may have changed during the handshake: it is looked at on the first turn.
        receiver.mark_changed();
        let mut buffered = Buffered::new(&shared.buffers);
        let allowance = buffered.set(0);
        Connection {
            transport,
            decoder,
            outbox: Outbox::default(),
            grant,
            slots: slots::Slots::default(),
            woken: Vec::new(),
            sending: VecDeque::new(),
            held_bytes: 0,
            queued_bytes: 0,
            budget: shared.requests.of(session.tenant_id()),
            buffered,
            allowance,
            large_frame: None,
            room_retry: None,
            no_room_since: None,
            discarding: 0,
            next_deadline: None,
            phase: Phase::Open,
            ending_since: None,
            signal: Signal::default(),
            signal_changed: changed(receiver),
            timer: Box::pin(tokio::time::sleep_until(now.into())),
            timer_at: now,
            last_read: now,
            last_moved: now,
            stalls: stalls::Stalls::default(),
            requests_taken: 0,
            session,
            shared,
        }
    }

    /// Serves until it ends.
    pub(crate) async fn run(&mut self) -> Ended {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The byte stream, for the close.
    pub(crate) fn into_transport(self) -> (Transport, u64) {
        (self.transport, self.requests_taken)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut moved = 0;
        loop {
            self.poll_signal(cx);
            let before = moved;
            match self.turn(cx, &mut moved) {
                Ok(progress) => {
                    if let Some(ended) = self.ended() {
                        return Poll::Ready(ended);
                    }
                    if moved > before {
                        self.last_moved = Instant::now();
                    }
                    if !progress && !self.poll_timer(cx) {
                        return Poll::Pending;
                    }
                }
                Err(error) => {
                    return Poll::Ready(Ended { reason: describe(&error), orderly: false });
                }
            }
            if moved > TURN_BYTES {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }

    /// One round of everything; tells whether another may find something to do.
    fn turn(&mut self, cx: &mut Context<'_>, moved: &mut usize) -> io::Result<bool> {
        let mut progress = false;
        // The engine answers the requests of a group one after the other: looking again gathers
        // their answers into one write. One that is alone leaves at once.
        for _ in 0..GATHER_ROUNDS {
            if !self.poll_woken(cx) {
                break;
            }
            progress = true;
        }
        let received = self.poll_receive(cx)?;
        if received > 0 {
            self.last_read = Instant::now();
            *moved += received;
            self.shared.metrics.received_bytes.add(received as u64);
            progress = true;
        }
        let taken = self.take_frames();
        // Small frames take more time than their bytes tell.
        *moved += taken * FRAME_COST_BYTES;
        progress |= taken == dispatch::FRAMES_AT_ONCE;
        self.note_buffered();
        progress |= self.send_payloads();
        let mut sent = 0;
        let done = self.outbox.poll_send(&mut self.transport, cx, &mut sent);
        *moved += sent;
        self.note_buffered();
        self.shared.metrics.sent_bytes.add(sent as u64);
        self.stalls.sent(sent, self.outbox.is_empty());
        // With the outbox emptied, frames and answers that waited for that can go on.
        progress |= sent > 0;
        if let Poll::Ready(result) = done {
            result?;
        }
        Ok(progress)
    }

    /// Tells how much is buffered, and learns how much that may be.
    fn note_buffered(&mut self) {
        // What is missing of a large frame has room of its own.
        let received = match self.large_frame {
            Some(_) => 0,
            None => self.decoder.buffer_mut().len(),
        };
        let bytes = received + self.held_bytes + self.outbox.waiting_bytes();
        self.allowance = self.buffered.set(bytes);
    }

    fn ended(&mut self) -> Option<Ended> {
        match &self.phase {
            Phase::Ending(reason) if self.outbox.is_empty() => {
                Some(Ended { reason: reason.clone(), orderly: true })
            }
            Phase::Draining(_) if self.drained_at().is_some_and(|at| at <= Instant::now()) => {
                Some(Ended { reason: "the server shuts down".to_string(), orderly: true })
            }
            _ => None,
        }
    }

    /// When a connection that drains may be closed: everything was answered, and its client has
    /// had time to hear that it should send nothing more.
    fn drained_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Draining(since) if self.outbox.is_empty() && self.slots.is_empty() => {
                Some(since.max(self.last_read) + DRAINED_QUIET)
            }
            _ => None,
        }
    }

    /// Ends the connection with an error frame; what is under way is dropped.
    fn fail(&mut self, request_id: u64, error: Error) {
        let closed = Error::new(ErrorCode::Closed, "the server closes the connection");
        self.end_all(|_| true, &closed);
        let operation = 0;
        self.outbox.error(operation, request_id, &error);
        self.phase = Phase::Ending(error.to_string());
    }

    fn poll_signal(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(mut receiver) = self.signal_changed.as_mut().poll(cx) {
            let signal = *receiver.borrow_and_update();
            self.signal_changed = changed(receiver);
            self.heed(signal);
            if matches!(signal.stage, Stage::Closing) {
                // Nothing comes after it, and a server that is gone would signal for ever.
                self.signal_changed = Box::pin(std::future::pending());
            }
        }
    }

    fn heed(&mut self, signal: Signal) {
        let before = std::mem::replace(&mut self.signal, signal);
        if matches!(self.phase, Phase::Ending(_)) {
            return;
        }
        if before.generation != signal.generation {
            let directory = self.shared.directory();
            if !directory.still_grants(&self.grant, self.session.tenant_id()) {
                let detail = "the token was changed or taken back in the server's configuration";
                return self.fail(0, Error::new(ErrorCode::AuthFailed, detail));
            }
        }
        match signal.stage {
            Stage::Running => {}
            Stage::Draining if matches!(self.phase, Phase::Open) => self.drain(),
            Stage::Draining => {}
            Stage::Closing => {
                let detail = "the server shut down before the request was done";
                self.end_all(|_| true, &Error::new(ErrorCode::Closed, detail));
                self.phase = Phase::Ending("the server shuts down".to_string());
            }
        }
    }

    /// Says goodbye: what is under way is finished, subscriptions go on elsewhere.
    fn drain(&mut self) {
        self.phase = Phase::Draining(Instant::now());
        let goaway =
            GoawayBody { leader: String::new(), reason: "the server is shutting down".to_string() };
        self.outbox.frame(FrameKind::Goaway, 0, 0, 0, bytes::Bytes::new(), |out| {
            goaway.encode(out);
        });
        let subscriptions = |operation| operation == Operation::Subscribe;
        self.end_all(subscriptions, &dispatch::shutting_down());
    }

    /// Heeds the clock and sets the timer. Returns whether something became due.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let wake_at = self.wake_at(now);
        if wake_at <= now {
            self.be_due(now);
            return true;
        }
        if wake_at < self.timer_at || self.timer_at <= now {
            self.timer_at = wake_at;
            self.timer.as_mut().reset(wake_at.into());
        }
        // A timer that was set for something that is done by now is set anew.
        while self.timer.as_mut().poll(cx).is_ready() {
            self.timer_at = wake_at;
            self.timer.as_mut().reset(wake_at.into());
        }
        false
    }

    /// When something is due next.
    fn wake_at(&mut self, now: Instant) -> Instant {
        let mut at = self.idle_at(now);
        if matches!(self.phase, Phase::Ending(_)) {
            at = at.min(*self.ending_since.get_or_insert(now) + ENDING_TIMEOUT);
        }
        if self.trimmable() {
            at = at.min(self.last_read + TRIM_AFTER);
        }
        let stall = Duration::from_millis(self.shared.limits.stall_timeout_ms);
        let stalled = [self.stalls.unread_at(stall), self.stalls.unfinished_at(stall)];
        let others = [self.next_deadline, self.room_retry, self.drained_at()];
        let others = others.into_iter().chain(stalled);
        others.flatten().fold(at, Instant::min)
    }

    /// When the connection counts as abandoned.
    fn idle_at(&self, now: Instant) -> Instant {
        let idle = Duration::from_millis(self.shared.limits.idle_timeout_ms);
        let at = self.last_moved + idle;
        let has_deadline = || self.slots.iter().any(|entry| entry.deadline.is_some());
        if at <= now && self.outbox.is_empty() && has_deadline() {
            // The peer waits for us, not we for the peer, and the request ends by itself.
            return now + idle;
        }
        at
    }

    fn trimmable(&mut self) -> bool {
        let buffer = self.decoder.buffer_mut();
        buffer.is_empty() && buffer.capacity() > 0
    }

    fn be_due(&mut self, now: Instant) {
        self.end_overdue(now);
        if self.room_retry.is_some_and(|at| at <= now) {
            self.room_retry = None;
        }
        if self.trimmable() && self.last_read + TRIM_AFTER <= now {
            *self.decoder.buffer_mut() = bytes::BytesMut::new();
        }
        self.end_stalled(now);
        let ending = self.ending_since.is_some_and(|since| since + ENDING_TIMEOUT <= now);
        let idle = self.idle_at(now) <= now;
        if idle {
            self.shared.metrics.reached(Bound::IdleTimeout);
        }
        if ending || idle {
            self.end_quietly("nothing moved for the idle timeout (limits.idle_timeout_ms)");
        }
    }

    /// Ends a connection to which nothing more can be said.
    fn end_quietly(&mut self, reason: &str) {
        self.outbox = Outbox::default();
        if !matches!(self.phase, Phase::Ending(_)) {
            self.phase = Phase::Ending(reason.to_string());
        }
    }
}

/// Waits for the next signal; the receiver comes back with it.
fn changed(mut receiver: tokio::sync::watch::Receiver<Signal>) -> Changed {
    Box::pin(async move {
        // An error means that the server is gone; its last stage tells that.
        let _ = receiver.changed().await;
        receiver
    })
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the client closed it".to_string(),
        _ => format!("the network failed: {error}"),
    }
}
