//! Databases in this process.

mod appends;
mod calls;
mod registry;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kimberlite_engine::{Engine, PayloadStream, Session, blocking};
use kimberlite_wire::session::{Answer, first_block_bytes};
use kimberlite_wire::{Error, ErrorCode, Request, Response, Role};

use self::appends::Numbers;
use self::calls::{Calls, Entry, Limit, closed};
use self::registry::Lease;
use crate::address::EmbeddedAddress;
use crate::config::Config;
use crate::deadlines::sleep;
use crate::offload::offload;
use crate::park;
use crate::process;
use crate::stop::Stop;

/// A chunk of an answer is asked for with at most this many bytes: what stays in a core's cache
/// between the engine's copy and the reader's.
const CHUNK_BYTES: usize = 256 << 10;
/// The shortest pause before the engine is asked again after it had no room.
const RETRY_MS: u64 = 10;

/// One client of a database in this process.
pub(crate) struct Local {
    log_id: [u8; 16],
    session: Arc<Session>,
    max_response_bytes: u64,
    calls: Arc<Calls>,
    numbers: Numbers,
    /// Until the client is closed.
    lease: Mutex<Option<Lease>>,
}

impl Local {
    pub(crate) async fn open(
        config: &Config,
        address: EmbeddedAddress,
    ) -> Result<Arc<Local>, Error> {
        let timeout = Duration::from_millis(config.options.connect_timeout_ms);
        let limit = Limit::new("opening the database", timeout, None);
        let (tenant_id, max_response_bytes) = (config.tenant_id, config.options.max_response_bytes);
        let deadline = limit.deadline;
        let opened = offload("kimberlite-open", move || {
            Local::open_blocking(address, tenant_id, max_response_bytes, deadline)
        })?;
        // Where nobody waits any more, the client that comes is dropped, and with it its lease.
        let calls = Arc::new(Calls::default());
        let opened = calls.bounded(opened, &limit).await?;
        opened.unwrap_or_else(|_| {
            Err(Error::new(ErrorCode::Panic, "opening the database panicked; see the log"))
        })
    }

    fn open_blocking(
        address: EmbeddedAddress,
        tenant_id: u64,
        max_response_bytes: u64,
        deadline: Instant,
    ) -> Result<Arc<Local>, Error> {
        let lease = Lease::acquire(address, deadline)?;
        let engine = lease.engine();
        engine.ensure_tenant(tenant_id).map_err(deleted)?;
        Ok(Arc::new(Local {
            log_id: engine.log_id(),
            session: engine.session("local", tenant_id, Role::Admin, true),
            max_response_bytes,
            calls: Arc::default(),
            numbers: Numbers::default(),
            lease: Mutex::new(Some(lease)),
        }))
    }

    fn lease(&self) -> MutexGuard<'_, Option<Lease>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> Result<Engine, Error> {
        self.lease().as_ref().map(|lease| lease.engine().clone()).ok_or_else(closed)
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
        let limit = Limit::new(request.operation().name(), timeout, stop);
        loop {
            let outcome = match request.clone() {
                Request::Append(append) => self.append(append, payload.clone(), &limit).await,
                other => self.ask(other, payload.clone(), &limit).await,
            };
            match outcome {
                Err(e) if e.is_retryable() => self.pause(e, &limit).await?,
                outcome => return outcome,
            }
        }
    }

    /// Waits before the engine is asked again; gives up with its refusal where the deadline comes
    /// first.
    async fn pause(&self, refusal: Error, limit: &Limit<'_>) -> Result<(), Error> {
        let pause = Duration::from_millis(u64::from(refusal.retry_after_ms).max(RETRY_MS));
        if pause >= limit.left() {
            return Err(refusal);
        }
        self.calls.bounded(sleep(pause), limit).await?
    }

    async fn ask(
        &self,
        request: Request,
        payload: Bytes,
        limit: &Limit<'_>,
    ) -> Result<Answer, Error> {
        let bound = Some(limit.left());
        let (body, stream) = self.begin(request, payload, bound, limit).await?;
        let mut chunks = Vec::new();
        let Some(mut stream) = stream else {
            return Ok(Answer { body, payload: chunks, cut: false });
        };
        let (mut bytes, mut cut) = (0, false);
        let is_read = matches!(body, Response::Read(_));
        let next = async {
            while let Some(chunk) = next_chunk(&mut *stream).await {
                let chunk = chunk?;
                bytes += chunk.len() as u64;
                if bytes > self.max_response_bytes && is_read {
                    chunks.push(chunk);
                    // As behind a server: a read ends there, but holds its first block.
                    cut = bytes > first_block_bytes(&chunks);
                    if cut {
                        break;
                    }
                    continue;
                }
                if bytes > self.max_response_bytes {
                    let what =
                        "the answer (option max_response_bytes; use a cursor or an iterator)";
                    return Err(Error::limit(what, bytes, self.max_response_bytes));
                }
                chunks.push(chunk);
            }
            Ok(())
        };
        self.calls.bounded(next, limit).await??;
        Ok(Answer { body, payload: chunks, cut })
    }

    /// Waits for an answer's body within `limit`. `bound` is the engine's for the whole answer.
    async fn begin(
        &self,
        request: Request,
        payload: Bytes,
        bound: Option<Duration>,
        limit: &Limit<'_>,
    ) -> Result<(Response, Option<Box<dyn PayloadStream>>), Error> {
        let engine = self.engine()?;
        let alone = matches!(request, Request::Append(_)) && self.numbers.is_alone();
        let handle = || engine.handle(&self.session, request, payload, bound);
        let future = if alone && park::waits() { blocking(handle) } else { handle() };
        let answer = self.calls.bounded(future, limit).await??;
        Ok((answer.body, answer.payload))
    }

    /// Asks, and takes the answer's payload as it comes. The timeout is for its beginning; a query
    /// goes on after that within the database's own limit, as behind a server.
    pub(crate) async fn stream(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<(Response, LocalPull), Error> {
        let limit = Limit::new(request.operation().name(), timeout, None);
        loop {
            let bound = (!matches!(request, Request::Query(_))).then(|| limit.left());
            match self.begin(request.clone(), Bytes::new(), bound, &limit).await {
                Err(e) if e.is_retryable() => self.pause(e, &limit).await?,
                outcome => {
                    let (body, stream) = outcome?;
                    let entry = Entry::new(Arc::clone(&self.calls));
                    return Ok((body, LocalPull { stream, entry }));
                }
            }
        }
    }

    /// Ends every pending call with CLOSED, gives the lease back, and waits for that.
    pub(crate) async fn close(&self, timeout: Duration) -> Result<(), Error> {
        self.calls.close();
        let Some(lease) = self.lease().take() else {
            return Ok(());
        };
        let limit = Limit::new("closing the database", timeout, None);
        let released = offload("kimberlite-close", move || drop(lease))?;
        let waiting = Arc::new(Calls::default());
        waiting
            .bounded(released, &limit)
            .await?
            .map_err(|_| Error::new(ErrorCode::Panic, "closing the database panicked; see the log"))
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let lease = self.lease().take();
        if process::is_forked() {
            // The engine's threads and files belong to the parent: nothing of it may be touched.
            return std::mem::forget(lease);
        }
        if let Some(lease) = lease {
            // Where there is no thread to be had, it is given back here.
            if let Err(e) = offload("kimberlite-close", move || drop(lease)) {
                tracing::debug!(error = %e, "an embedded database was closed in place");
            }
        }
    }
}

/// A number that was used up is refused as an argument where a tenant is made; to a client that
/// connects the tenant does not exist, as a server says too. (Number 0 was refused before.)
fn deleted(error: Error) -> Error {
    match error.code {
        ErrorCode::InvalidArgument => Error::new(ErrorCode::TenantNotFound, error.detail),
        _ => error,
    }
}

async fn next_chunk(stream: &mut dyn PayloadStream) -> Option<Result<Bytes, Error>> {
    std::future::poll_fn(|context| stream.poll_chunk(context, CHUNK_BYTES)).await
}

/// The payload of a streaming answer.
pub(crate) struct LocalPull {
    stream: Option<Box<dyn PayloadStream>>,
    entry: Entry,
}

impl LocalPull {
    pub(crate) fn poll_chunk(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        if let Err(e) = self.entry.register(context) {
            self.stream = None;
            return Poll::Ready(Some(Err(e)));
        }
        match &mut self.stream {
            Some(stream) => stream.poll_chunk(context, CHUNK_BYTES),
            None => Poll::Ready(None),
        }
    }
}
