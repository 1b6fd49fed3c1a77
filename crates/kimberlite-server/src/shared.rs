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

use crate::budget::Budget;
use crate::config::{LimitsConfig, ServerConfig};
use crate::directory::Directory;
use crate::guard::Guard;
use crate::tls;

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
    pub(crate) budget: Arc<Budget>,
    pub(crate) signal: watch::Sender<Signal>,
    pub(crate) allow_plaintext: bool,
    reloadable: RwLock<Reloadable>,
    guard: Mutex<Guard>,
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
            budget: Budget::new(config.limits.total_queue_bytes),
            signal: watch::Sender::new(Signal::default()),
            allow_plaintext: config.allow_plaintext || config.tls.is_none(),
            reloadable: RwLock::new(reloadable),
            guard: Mutex::new(Guard::new(&config.limits)),
            tasks: AtomicUsize::new(0),
            tasks_done: Notify::new(),
            next_id: AtomicUsize::new(1),
        })
    }

    /// Takes over tokens and certificates, and lets the connections look at their tokens again.
    pub(crate) fn reload(&self, config: &ServerConfig) -> Result<(), Error> {
        let new = Reloadable::load(config)?;
        {
            // Only replaced as a whole, so that a poisoned lock still holds a valid value.
            let mut old = self.reloadable.write().unwrap_or_else(PoisonError::into_inner);
            if old.tls.is_some() != new.tls.is_some() {
                return Err(Error::invalid(
                    "[tls] was added or removed; that needs a restart of the server",
                ));
            }
            *old = new;
        }
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

    /// Counts a task that serves a peer, until the result is dropped. The second is how many
    /// there were before.
    pub(crate) fn begin_task(self: &Arc<Shared>) -> (Task, usize) {
        let before = self.tasks.fetch_add(1, Ordering::AcqRel);
        (Task(self.clone()), before)
    }

    /// Waits until no task is left.
    pub(crate) async fn all_tasks_done(&self) {
        while self.tasks.load(Ordering::Acquire) > 0 {
            self.tasks_done.notified().await;
        }
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
