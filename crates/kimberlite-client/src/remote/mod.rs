//! The tokio driver of the protocol session.
//!
//! Every input locks the session, does what it says and unlocks; sockets are written and waiting
//! callers woken only after that, so that whatever a wake-up runs may come back here.

mod connection;
mod dial;
mod driver;
mod slot;
mod tls;

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use kimberlite_wire::session::{Answer, Call, CallId, CallKind};
use kimberlite_wire::{Error, ErrorCode, Request, Response};

use self::driver::Driver;
use self::slot::Slot;
use crate::address::ServerAddress;
use crate::config::Config;
use crate::deadlines::Timer;
use crate::process;
use crate::stop::Stop;

/// One client of a database behind sockets. Dropping it closes it.
pub(crate) struct Remote {
    driver: Arc<Driver>,
    log_id: [u8; 16],
}

impl Remote {
    /// Reaches a server. The session bounds each attempt, the option `connect_timeout_ms` all.
    pub(crate) async fn connect(
        config: Config,
        servers: Vec<ServerAddress>,
    ) -> Result<Remote, Error> {
        let timeout = Duration::from_millis(config.options.connect_timeout_ms);
        let driver = Driver::start(config, &servers)?;
        let mut remote = Remote { driver, log_id: [0; 16] };
        let connected = remote
            .pending(|core, slot, now_ms| core.connect(slot, deadline_ms(now_ms, timeout), now_ms));
        connected.done().await?;
        remote.log_id = remote.driver.log_id();
        Ok(remote)
    }

    pub(crate) fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// Asks, and holds the whole answer.
    pub(crate) async fn collect(
        &self,
        request: Request,
        payload: Bytes,
        timeout: Duration,
        stop: Option<&Stop>,
    ) -> Result<Answer, Error> {
        let pending = self.pending(|core, slot, now_ms| {
            let (deadline_ms, kind) = (deadline_ms(now_ms, timeout), CallKind::Collect);
            core.call(slot, Call { request, payload, deadline_ms, kind }, now_ms)
        });
        let answer = pending.done_or_stopped(stop).await?;
        answer.ok_or_else(|| Error::protocol("the answer ended without a body"))
    }

    /// Asks, and takes the answer's payload as it comes. The timeout is for its beginning: the
    /// session, for which a deadline is for the whole answer, gets none.
    pub(crate) async fn stream(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<(Response, RemotePull), Error> {
        let operation = request.operation().name();
        let mut pending = self.pending(|core, slot, now_ms| {
            let (payload, kind) = (Bytes::new(), CallKind::Stream);
            core.call(slot, Call { request, payload, deadline_ms: u64::MAX, kind }, now_ms)
        });
        let slot = Arc::clone(&pending.slot);
        let mut timer = Timer::after(timeout);
        let begun = std::future::poll_fn(|context| {
            if let Poll::Ready(begun) = slot.poll_body(context) {
                return Poll::Ready(Some(begun));
            }
            timer.poll(context).map(|fired| fired.err().map(Err))
        });
        match begun.await {
            Some(Ok(body)) => Ok((body, RemotePull { pending })),
            Some(Err(e)) => {
                pending.ended = true;
                Err(e)
            }
            None => Err(self.not_begun(operation, timeout).await),
        }
    }

    /// Why a stream did not begin in time: no server can be reached, or the one that is reached
    /// does not answer.
    async fn not_begun(&self, operation: &str, timeout: Duration) -> Error {
        let connected = self.pending(|core, slot, now_ms| core.connect(slot, now_ms, now_ms));
        match connected.done().await {
            Err(e) => e,
            Ok(_) => {
                let timeout_ms = timeout.as_millis();
                let detail = format!("{operation} was not answered within {timeout_ms} ms");
                Error::new(ErrorCode::Timeout, detail)
            }
        }
    }

    fn pending(&self, begin: impl FnOnce(&mut driver::Core, Arc<Slot>, u64) -> CallId) -> Pending {
        let slot = Arc::new(Slot::default());
        let given = Arc::clone(&slot);
        let id = self.driver.drive(|core, now_ms| begin(core, given, now_ms));
        Pending { driver: Arc::clone(&self.driver), id, slot, ended: false }
    }

    /// Ends every pending call with CLOSED, and waits until the sockets are closed.
    pub(crate) async fn close(&self, timeout: Duration) -> Result<(), Error> {
        let tasks = self.driver.close();
        let mut tasks = std::pin::pin!(async {
            for task in tasks {
                // A task that was told to stop ends with an error that says so.
                let _ = task.await;
            }
        });
        let mut timer = Timer::after(timeout);
        std::future::poll_fn(|context| {
            if tasks.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            timer.poll(context).map(|fired| {
                fired?;
                let detail = format!("closing took longer than {} ms", timeout.as_millis());
                Err(Error::new(ErrorCode::Timeout, detail))
            })
        })
        .await
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        if process::is_forked() {
            // The sockets are the parent's: not even closing a copy may happen under its locks.
            return std::mem::forget(Arc::clone(&self.driver));
        }
        drop(self.driver.close());
    }
}

fn deadline_ms(now_ms: u64, timeout: Duration) -> u64 {
    now_ms.saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
}

/// A call under way. Dropping it cancels the call.
struct Pending {
    driver: Arc<Driver>,
    id: CallId,
    slot: Arc<Slot>,
    /// The last word came, so that there is nothing to cancel.
    ended: bool,
}

impl Pending {
    async fn done(self) -> Result<Option<Answer>, Error> {
        self.done_or_stopped(None).await
    }

    /// The end of the call; where it is stopped, the session says how it ended.
    async fn done_or_stopped(mut self, stop: Option<&Stop>) -> Result<Option<Answer>, Error> {
        let slot = Arc::clone(&self.slot);
        let mut stop = stop;
        let done = std::future::poll_fn(|context| {
            if stop.is_some_and(|stop| stop.poll(context).is_ready()) {
                stop = None;
                self.driver.drive(|core, now_ms| core.cancel(self.id, now_ms));
            }
            slot.poll_done(context)
        })
        .await;
        self.ended = true;
        done
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.ended && !process::is_forked() {
            self.driver.drive(|core, now_ms| core.forget(self.id, now_ms));
        }
    }
}

/// The payload of a streaming answer.
pub(crate) struct RemotePull {
    pending: Pending,
}

impl RemotePull {
    pub(crate) fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        let polled = self.pending.slot.poll_chunk(context);
        self.pending.ended |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }

    pub(crate) fn granter(&self) -> RemoteGranter {
        RemoteGranter { driver: Arc::downgrade(&self.pending.driver), id: self.pending.id }
    }
}

/// Lets a server send more of an answer's payload.
#[derive(Clone)]
pub(crate) struct RemoteGranter {
    driver: Weak<Driver>,
    id: CallId,
}

impl RemoteGranter {
    pub(crate) fn grant(&self, bytes: u64) {
        if let Some(driver) = self.driver.upgrade()
            && !process::is_forked()
        {
            driver.drive(|core, _| core.grant(self.id, bytes));
        }
    }
}
