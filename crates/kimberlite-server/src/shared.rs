//! What the connections of a server share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kimberlite_engine::{Answer, BoxFuture, Engine, Session};
use kimberlite_wire::{Error, Request};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use crate::budget::{Buffers, Requests};
use crate::config::{LimitsConfig, ServerConfig};
use crate::directory::Directory;
use crate::guard::Guard;
use crate::handshakes::Handshakes;
use crate::metrics::{self, Metrics};
use crate::tls;

/// Files beside those of connections: the log's, the admin port's, and what the system needs.
const OTHER_FILES: u64 = 256;
/// A server that may have hardly any files open still takes so many connections.
const LEAST_CONNECTIONS: u64 = 16;

/// What a server is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Serving.
    #[default]
    Running,
    /// Finishing what is under way.
    Draining,
    /// Answering the rest and closing.
    Closing,
}

/// What every connection watches.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signal {
    pub(crate) stage: Stage,
    /// Counts reloads of the tokens.
    pub(crate) generation: u64,
}

/// The engine's work on one request.
pub(crate) type Handling = BoxFuture<'static, Result<Answer, Error>>;
/// What takes requests: the engine, or what a test puts in its place.
pub(crate) type Handler =
    dyn Fn(&Arc<Session>, Request, Bytes, Option<Duration>) -> Handling + Send + Sync;

/// What the connections of a server share.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) handler: Box<Handler>,
    pub(crate) limits: LimitsConfig,
    /// Authenticated connections at a time: what the configuration says, or what there are files
    /// for.
    pub(crate) max_connections: usize,
    pub(crate) requests: Requests,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) query_total_bytes: u64,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) metrics: Metrics,
    pub(crate) signal: watch::Sender<Signal>,
    pub(crate) allow_plaintext: bool,
    reloadable: RwLock<Reloadable>,
    guard: Mutex<Guard>,
    connections: Arc<AtomicUsize>,
    inflight: Arc<AtomicUsize>,
    subscriptions: Arc<AtomicUsize>,
    /// Tasks that serve or refuse a peer.
    tasks: AtomicUsize,
    tasks_done: Notify,
    next_id: AtomicUsize,
}

/// What a reload replaces: tokens and certificates.
pub(crate) struct Reloadable {
    directory: Arc<Directory>,
    tls: Option<TlsAcceptor>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Reloadable {
    /// Reads the files. INVALID_ARGUMENT names the one that is unusable.
    pub(crate) fn load(config: &ServerConfig) -> Result<Reloadable, Error> {
        Ok(Reloadable {
            directory: Arc::new(Directory::new(config.tokens.clone())),
            tls: config.tls.as_ref().map(tls::load).transpose()?.map(TlsAcceptor::from),
        })
    }
}

impl Shared {
    /// The configuration was checked before.
    pub(crate) fn new(
        config: &ServerConfig,
        engine: Engine,
        handler: Box<Handler>,
        reloadable: Reloadable,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            engine,
            handler,
            limits: config.limits.clone(),
            max_connections: max_connections(&config.limits),
            requests: Requests::new(
                config.limits.total_queue_bytes,
                config.limits.tenant_queue_bytes,
            ),
            buffers: Buffers::new(config.limits.total_buffer_bytes),
            query_total_bytes: config.query.total_memory_bytes,
            handshakes: Handshakes::new(config.limits.max_handshakes),
            metrics: Metrics::new(),
            signal: watch::Sender::new(Signal::default()),
            allow_plaintext: config.allow_plaintext || config.tls.is_none(),
            reloadable: RwLock::new(reloadable),
            guard: Mutex::new(Guard::new(&config.limits)),
            connections: Arc::default(),
            inflight: Arc::default(),
            subscriptions: Arc::default(),
            tasks: AtomicUsize::new(0),
            tasks_done: Notify::new(),
            next_id: AtomicUsize::new(1),
        })
    }

    /// Takes over tokens and certificates, and lets the connections look at their tokens again.
    pub(crate) fn reload(&self, config: &ServerConfig) -> Result<(), Error> {
        let new = Reloadable::load(config).inspect_err(|_| self.metrics.failed_reloads.add(1))?;
        {
            // Only replaced as a whole, so that a poisoned lock still holds a valid value.
            let mut old = self.reloadable.write().unwrap_or_else(PoisonError::into_inner);
            if old.tls.is_some() != new.tls.is_some() {
                self.metrics.failed_reloads.add(1);
                return Err(Error::invalid(
                    "[tls] was added or removed; that needs a restart of the server",
                ));
            }
            *old = new;
        }
        self.metrics.reloads.add(1);
        self.signal.send_modify(|signal| signal.generation += 1);
        Ok(())
    }

    /// The tokens in force.
    pub(crate) fn directory(&self) -> Arc<Directory> {
        self.reloadable.read().unwrap_or_else(PoisonError::into_inner).directory.clone()
    }

    /// The TLS in force, if any.
    pub(crate) fn tls(&self) -> Option<TlsAcceptor> {
        self.reloadable.read().unwrap_or_else(PoisonError::into_inner).tls.clone()
    }

    /// How long this peer has to wait before its token is looked at.
    pub(crate) fn guessing_wait(&self, address: IpAddr) -> Option<Duration> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).wait(address, Instant::now())
    }

    /// Counts a wrong token of this peer.
    pub(crate) fn guessed_wrong(&self, address: IpAddr) {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner).failed(address, Instant::now());
    }

    /// Moves on to a stage.
    pub(crate) fn enter(&self, stage: Stage) {
        self.signal.send_modify(|signal| signal.stage = stage);
    }

    /// Waits until the server shuts down.
    pub(crate) async fn shutting_down(&self) {
        let mut receiver = self.signal.subscribe();
        // The sender lives in `self`, so that this only ends with a stage.
        let _ = receiver.wait_for(|signal| signal.stage != Stage::Running).await;
    }

    /// Whether nothing new is taken any more.
    pub(crate) fn is_shutting_down(&self) -> bool {
        self.signal.borrow().stage != Stage::Running
    }

    /// A number for the log.
    pub(crate) fn next_id(&self) -> usize {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether the log takes changes: not once it has failed or the database has ended.
    pub(crate) fn takes_changes(&self) -> bool {
        self.engine.is_open() && !self.engine.commit_stats().failed.load(Ordering::Relaxed)
    }

    /// A place for an authenticated connection, if one is free.
    pub(crate) fn take_place(&self) -> Option<Place> {
        Place::take(&self.connections, self.max_connections)
    }

    /// A place for a request, if one is free.
    pub(crate) fn take_request_place(&self) -> Option<Place> {
        Place::take(&self.inflight, self.limits.total_inflight_requests)
    }

    /// Counts a subscription until the result is dropped.
    pub(crate) fn count_subscription(&self) -> Option<Place> {
        Place::take(&self.subscriptions, usize::MAX)
    }

    pub(crate) fn connections_open(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn requests_inflight(&self) -> usize {
        self.inflight.load(Ordering::Relaxed)
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// Counts a task that serves a peer, until the result is dropped.
    pub(crate) fn begin_task(self: &Arc<Shared>) -> Task {
        self.tasks.fetch_add(1, Ordering::AcqRel);
        Task(self.clone())
    }

    /// Waits until no task is left.
    pub(crate) async fn all_tasks_done(&self) {
        while self.tasks.load(Ordering::Acquire) > 0 {
            self.tasks_done.notified().await;
        }
    }
}

/// How many connections there are files for, at most those of the configuration.
fn max_connections(limits: &LimitsConfig) -> usize {
    let wanted = limits.max_connections as u64;
    let others = limits.max_handshakes as u64 + OTHER_FILES;
    let Some(files) = metrics::descriptor_limit().filter(|files| *files < wanted + others) else {
        return limits.max_connections;
    };
    let possible = files.saturating_sub(others).max(LEAST_CONNECTIONS).min(wanted);
    tracing::warn!(
        open_files = files,
        max_connections = possible,
        "limits.max_connections is {wanted}, but the process may only have {files} files open; \
         raise that limit (ulimit -n, LimitNOFILE) to {}, or lower limits.max_connections",
        wanted + others
    );
    // At most what the configuration says.
    possible as usize
}

/// One of a bounded number of places, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, bound: usize) -> Option<Place> {
        let more = |count: usize| (count < bound).then_some(count + 1);
        taken.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).ok()?;
        Some(Place(taken.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A task that serves a peer.
pub(crate) struct Task(Arc<Shared>);

impl Drop for Task {
    fn drop(&mut self) {
        if self.0.tasks.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.tasks_done.notify_one();
        }
    }
}
