//! The two threads that serve all clients of the process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kimberlite_wire::{Error, ErrorCode};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::process;

/// How many threads serve the sockets and clocks of all clients of the process.
pub const IO_THREADS: usize = 2;

/// The name of these threads.
pub const IO_THREAD_NAME: &str = "kimberlite-io";

/// What waits for the system, which is resolving names and reading ahead from a disk, runs on at most
/// this many threads of their own, which end soon after.
const WAIT_THREADS: usize = 4;
const WAIT_THREAD_NAME: &str = "kimberlite-wait";
const WAIT_THREAD_IDLE: Duration = Duration::from_secs(1);

static RUNTIME: OnceLock<Runtime> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

/// The runtime that serves all clients, started by the first call. It is never stopped: threads are
/// not joined while a host process exits. OVERLOADED where the system refuses a thread.
pub fn handle() -> Result<Handle, Error> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    process::mark_used();
    let runtime = Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .thread_name_fn(thread_name)
        .max_blocking_threads(WAIT_THREADS)
        .thread_keep_alive(WAIT_THREAD_IDLE)
        .enable_io()
        .enable_time()
        .build()
        .map_err(|e| {
            let detail = format!("the client's threads could not be started: {e}");
            Error::new(ErrorCode::Overloaded, detail)
        })?;
    Ok(RUNTIME.get_or_init(|| runtime).handle().clone())
}

/// The runtime starts its own threads first, and those that block later and one by one.
fn thread_name() -> String {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    let earlier = STARTED.fetch_add(1, Ordering::Relaxed);
    if earlier < IO_THREADS { IO_THREAD_NAME } else { WAIT_THREAD_NAME }.to_string()
}
