//! A running server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use kimberlite_engine::{Engine, EngineOptions, Storage};
use kimberlite_wire::{Error, ErrorCode};
use tokio::runtime::{Handle, Runtime};

use crate::config::{Problems, ServerConfig};
use crate::shared::{Handler, Reloadable, Shared, Stage};
use crate::{accept, admin, listen};

/// Threads that serve connections where the configuration names none.
const MAX_DEFAULT_THREADS: usize = 4;
/// How many turns of connections a busy thread gives before it looks for what has arrived on
/// others: a few, so that a flood on some connections keeps nobody else waiting.
const TURNS_BETWEEN_EVENTS: u32 = 7;
/// How long answers and closes may take once the grace period is over.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the database may take to close after that. What is accepted is written much sooner,
/// and statements that do not stop are left behind; a disk that hangs can take longer.
const DATABASE_CLOSING_TIMEOUT: Duration = Duration::from_secs(5);

/// A running server. Dropping it stops it without grace; [`Server::shutdown`] lets it finish first.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    admin_addresses: Vec<SocketAddr>,
    /// Gone once the server was stopped.
    threads: Option<Threads>,
}

impl Server {
    /// Opens the database, binds every address and serves. It blocks until then, and has threads
    /// of its own from then on. INVALID_ARGUMENT names the option that is wrong or the address
    /// that cannot be bound, STORAGE what is wrong with the data folder.
    pub fn start(config: ServerConfig) -> Result<Server, Error> {
        Server::start_with(config, |engine| {
            Box::new(move |session, request, payload, timeout| {
                engine.handle(session, request, payload, timeout)
            })
        })
    }

    /// Starts with something else than the engine to take the requests.
    pub(crate) fn start_with(
        config: ServerConfig,
        handler: impl FnOnce(Engine) -> Box<Handler>,
    ) -> Result<Server, Error> {
        let mut problems = Problems::default();
        config.find_problems(&mut problems);
        let endpoints = listen::resolve(&config, &mut problems);
        let admin_endpoints = listen::resolve_admin(&config, &mut problems);
        let reloadable = problems.note(Reloadable::load(&config));
        problems.into_result()?;
        // It is only missing where there was a problem.
        let reloadable = reloadable.map_or_else(|| Reloadable::load(&config), Ok)?;
        let threads = Threads::start(&config)?;
        let entered = threads.handle.enter();
        // Bound before the database is opened, so that a port in use is told at once; listening
        // only after it, so that no client waits for a recovery.
        let sockets = listen::bind(&endpoints)?;
        let admin_sockets = listen::bind(&admin_endpoints)?;
        let engine = Engine::open(engine_options(&config)).map_err(|error| {
            let place = config.data_dir.display();
            let detail =
                if config.memory { error.detail } else { format!("{place}: {}", error.detail) };
            Error { detail, ..error }
        })?;
        let handler = handler(engine.clone());
        let shared = Shared::new(&config, engine, handler, reloadable);
        ensure_tenants(&shared.engine, &config)?;
        let listeners = listen::listen(sockets)?;
        let addresses = listeners.iter().map(|(_, address)| *address).collect();
        for (listener, _) in listeners {
            threads.handle.spawn(accept::accept(shared.clone(), listener));
        }
        let admin_listeners = listen::listen(admin_sockets)?;
        let admin_addresses = admin_listeners.iter().map(|(_, address)| *address).collect();
        for (listener, _) in admin_listeners {
            threads.handle.spawn(admin::serve(shared.clone(), listener));
        }
        drop(entered);
        Ok(Server { shared, addresses, admin_addresses, threads: Some(threads) })
    }

    /// The first address that it listens on, with the port that was really bound.
    pub fn local_addr(&self) -> SocketAddr {
        // A checked configuration has at least one address, and the first of each is bound.
        self.addresses[0]
    }

    /// Every address that it listens on.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Every address of the admin port.
    pub fn admin_addrs(&self) -> &[SocketAddr] {
        &self.admin_addresses
    }

    /// Bytes that are accounted for: of requests under way, and buffered for connections.
    pub fn accounted_bytes(&self) -> (usize, usize) {
        (self.shared.requests.used(), self.shared.buffers.used())
    }

    /// The database behind it.
    pub fn engine(&self) -> &Engine {
        &self.shared.engine
    }

    /// Stops accepting, finishes the requests under way for at most `grace`, answers the rest with
    /// CLOSED and closes the database. It blocks until all of that is done, but only for some
    /// seconds beyond `grace`: TIMEOUT where the database was still not closed then, STORAGE where
    /// its log could not be closed in good order. What was acknowledged is durable in any case.
    pub fn shutdown(mut self, grace: Duration) -> Result<(), Error> {
        self.stop(grace)
    }

    fn stop(&mut self, grace: Duration) -> Result<(), Error> {
        let Some(threads) = self.threads.take() else { return Ok(()) };
        let shared = self.shared.clone();
        let (done, finished) = mpsc::sync_channel(1);
        threads.handle.spawn(async move {
            shared.enter(Stage::Draining);
            if tokio::time::timeout(grace, shared.all_tasks_done()).await.is_err() {
                shared.enter(Stage::Closing);
                // What is still there then is cut off with the runtime.
                let _ = tokio::time::timeout(CLOSING_TIMEOUT, shared.all_tasks_done()).await;
            }
            // The receiver waits below.
            let _ = done.send(());
        });
        let finished = finished.recv();
        let engine = self.shared.engine.clone();
        let closing = engine.clone();
        let is_proven = || engine.commit_stats().proven.load(Ordering::Relaxed);
        let closed = within(DATABASE_CLOSING_TIMEOUT, is_proven, move || {
            closing.close();
            closed_cleanly(&closing)
        });
        finished
            .map_err(|_| Error::new(ErrorCode::Internal, "the server's runtime has stopped"))?;
        closed
    }

    /// Counts a reload that failed before there was a configuration to reload.
    pub fn note_failed_reload(&self) {
        self.shared.metrics.failed_reloads.add(1);
    }

    /// Takes over the tokens and the certificates of another configuration, and nothing else of
    /// it. Connections whose token is gone or grants something else now are closed. Where it
    /// fails, everything stays as it was. INVALID_ARGUMENT names what is wrong.
    pub fn reload(&self, config: &ServerConfig) -> Result<(), Error> {
        config.check().inspect_err(|_| self.shared.metrics.failed_reloads.add(1))?;
        self.shared.reload(config)?;
        ensure_tenants(&self.shared.engine, config)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nobody is left to tell an error to.
        let _ = self.stop(Duration::ZERO);
    }
}

/// The threads that serve connections. They are not waited for when this is dropped: that would
/// panic where the owner is a thread of another runtime.
#[derive(Debug)]
struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    fn start(config: &ServerConfig) -> Result<Threads, Error> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = match config.io_threads {
            0 => cores.min(MAX_DEFAULT_THREADS),
            threads => threads,
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("kimberlite-net")
            .event_interval(TURNS_BETWEEN_EVENTS)
            .enable_all()
            .build()
            .map_err(|e| {
                Error::new(ErrorCode::Internal, format!("no threads can be started: {e}"))
            })?;
        Ok(Threads { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Closes on a thread of its own and waits for that at most so long. What takes longer is an error
/// unless the end of the log `is_proven`.
fn within(
    bound: Duration,
    is_proven: impl FnOnce() -> bool,
    close: impl FnOnce() -> Result<(), Error> + Clone + Send + 'static,
) -> Result<(), Error> {
    let (done, closed) = mpsc::sync_channel(1);
    let closing = close.clone();
    let thread = std::thread::Builder::new().name("kimberlite-close".to_string());
    let spawned = thread.spawn(move || {
        // Nobody waits any more where it took too long.
        let _ = done.send(closing());
    });
    if spawned.is_err() {
        // Without a thread it can only be waited for without a bound.
        return close();
    }
    match closed.recv_timeout(bound) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(Error::new(ErrorCode::Internal, "closing the database met a defect"))
        }
        Err(mpsc::RecvTimeoutError::Timeout) if is_proven() => {
            tracing::warn!("the disk was too slow for the last state; the next start takes longer");
            Ok(())
        }
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let bound_ms = bound.as_millis();
            let detail = format!(
                "the database was not closed within {bound_ms} ms and is left behind as it is, \
                 most likely because the disk does not answer; everything acknowledged is durable"
            );
            tracing::error!(detail, "the shutdown overstayed");
            Err(Error::new(ErrorCode::Timeout, detail))
        }
    }
}

/// Whether a closed database's log was closed in good order.
fn closed_cleanly(engine: &Engine) -> Result<(), Error> {
    engine.close_error().map_or(Ok(()), |error| {
        let detail = format!("the log was not closed cleanly: {}", error.detail);
        Err(Error { detail, ..error })
    })
}

fn engine_options(config: &ServerConfig) -> EngineOptions {
    EngineOptions {
        storage: if config.memory {
            Storage::Memory
        } else {
            Storage::Folder(config.data_dir.clone())
        },
        segment_bytes: config.storage.segment_bytes,
        query_timeout_ms: config.query.timeout_ms,
        query_memory_bytes: config.query.memory_bytes,
        query_total_memory_bytes: config.query.total_memory_bytes,
        query_tenant_memory_bytes: config.query.tenant_memory_bytes,
        query_rows: config.query.rows,
        query_threads: config.query.threads,
        query_slow_threads: config.query.slow_threads,
        audit_window_ms: config.audit.window_ms,
        streams_per_tenant: config.limits.max_streams_per_tenant,
        ..EngineOptions::default()
    }
}

/// Creates the tenants that the configuration names, on their own or in a token.
fn ensure_tenants(engine: &Engine, config: &ServerConfig) -> Result<(), Error> {
    for tenant_id in config.tenants_from_start() {
        match engine.ensure_tenant(tenant_id) {
            // Its number is used up; the server still serves the others.
            Err(error) if error.code == ErrorCode::InvalidArgument => {
                tracing::warn!(tenant = tenant_id, detail = error.detail, "no such tenant");
            }
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the configuration says of statements reaches the database.
    #[test]
    fn bounds_of_statements_reach_the_database() {
        let mut config = ServerConfig::default();
        (config.query.threads, config.query.slow_threads) = (5, 7);
        (config.query.total_memory_bytes, config.query.tenant_memory_bytes) = (11 << 20, 9 << 20);
        let options = engine_options(&config);
        assert_eq!((options.query_threads, options.query_slow_threads), (5, 7));
        assert_eq!(options.query_total_memory_bytes, 11 << 20);
        assert_eq!(options.query_tenant_memory_bytes, 9 << 20);
    }

    /// What closes in time tells its result; what does not is left behind, with TIMEOUT unless the
    /// end of the log is proven, and what panics is told.
    #[test]
    fn closing_is_bounded() {
        let within_ms = |bound_ms, close: fn() -> Result<(), Error>, is_proven: bool| {
            within(Duration::from_millis(bound_ms), || is_proven, close)
        };
        let refused = || Err(Error::invalid("no"));
        assert_eq!(within_ms(60_000, || Ok(()), false), Ok(()));
        assert_eq!(within_ms(60_000, refused, true), refused());
        let long = || {
            std::thread::sleep(Duration::from_secs(60));
            Ok(())
        };
        assert_eq!(within_ms(20, long, false).unwrap_err().code, ErrorCode::Timeout);
        assert_eq!(within_ms(20, long, true), Ok(()));
        let defect = within_ms(60_000, || panic!("on command"), false);
        assert_eq!(defect.unwrap_err().code, ErrorCode::Internal);
    }
}
