//! The threads that run queries and verify chains: a few, started when they are needed.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use kimberlite_wire::{Error, ErrorCode};

use crate::pipe::Pipe;
use crate::state::closed;
use crate::waiters::lock;

/// How many tasks may wait for a thread, beyond which new ones are refused.
const MAX_WAITING: usize = 4_096;
/// The pause that a refused caller is advised to make.
const RETRY_AFTER_MS: u32 = 100;

/// Work for a thread of the pool.
pub(crate) type Run = Box<dyn FnOnce() + Send>;

struct Task {
    pipe: Arc<Pipe>,
    run: Run,
}

/// A bounded pool. Closed by [`Pool::close`].
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    max_threads: usize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    woken: Condvar,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Task>,
    running: Vec<Arc<Pipe>>,
    idle: usize,
    closed: bool,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(max_threads: usize) -> Pool {
        Pool { shared: Arc::default(), max_threads: max_threads.max(1), threads: Mutex::default() }
    }

    /// Runs it on a thread of the pool, unless the pipe is cancelled before. OVERLOADED where too
    /// much waits already.
    pub(crate) fn submit(&self, pipe: &Arc<Pipe>, run: Run) -> Result<(), Error> {
        let mut inner = lock(&self.shared.inner);
        if inner.closed {
            return Err(closed());
        }
        if inner.waiting.len() >= MAX_WAITING {
            let detail = format!("{MAX_WAITING} queries wait for a thread");
            let mut error = Error::new(ErrorCode::Overloaded, detail);
            error.retry_after_ms = RETRY_AFTER_MS;
            return Err(error);
        }
        inner.waiting.push_back(Task { pipe: pipe.clone(), run });
        let needs_thread = inner.waiting.len() > inner.idle;
        drop(inner);
        self.shared.woken.notify_one();
        if needs_thread { self.add_thread() } else { Ok(()) }
    }

    /// An error only where no thread is there to run anything.
    fn add_thread(&self) -> Result<(), Error> {
        let mut threads = lock(&self.threads);
        if threads.len() >= self.max_threads || lock(&self.shared.inner).closed {
            return Ok(());
        }
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new().name("kimberlite-query".to_string());
        match thread.spawn(move || shared.run()) {
            Ok(thread) => threads.push(thread),
            Err(error) if threads.is_empty() => {
                lock(&self.shared.inner).waiting.clear();
                let detail = format!("no thread could be started for a query: {error}");
                return Err(Error::new(ErrorCode::Overloaded, detail));
            }
            Err(error) => tracing::warn!(%error, "a thread for queries could not be started"),
        }
        Ok(())
    }

    /// Drops what waits, cancels what runs, and waits for the threads to end.
    pub(crate) fn close(&self) {
        let (waiting, running) = {
            let mut inner = lock(&self.shared.inner);
            inner.closed = true;
            (std::mem::take(&mut inner.waiting), inner.running.clone())
        };
        drop(waiting);
        running.iter().for_each(|pipe| pipe.cancel());
        self.shared.woken.notify_all();
        let threads = std::mem::take(&mut *lock(&self.threads));
        threads.into_iter().for_each(join);
    }
}

/// Waits for a thread to end, unless it is this one.
pub(crate) fn join(thread: JoinHandle<()>) {
    if thread.thread().id() != std::thread::current().id() && thread.join().is_err() {
        tracing::error!("a thread of the database panicked");
    }
}

impl Shared {
    fn run(&self) {
        let mut inner = lock(&self.inner);
        loop {
            if inner.closed {
                return;
            }
            let Some(Task { pipe, run }) = inner.waiting.pop_front() else {
                inner.idle += 1;
                inner = self.woken.wait(inner).unwrap_or_else(PoisonError::into_inner);
                inner.idle -= 1;
                continue;
            };
            inner.running.push(pipe.clone());
            drop(inner);
            if !pipe.is_cancelled() {
                // A task reports its own panic; this one keeps the thread for the next.
                let _ = catch_unwind(AssertUnwindSafe(run));
            }
            inner = lock(&self.inner);
            inner.running.retain(|other| !Arc::ptr_eq(other, &pipe));
        }
    }
}

/// Runs something that may have a defect; PANIC where it panics.
pub(crate) fn guarded<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let detail = format!("the panic was: {}", panic_text(&*panic));
        Err(Error::new(ErrorCode::Panic, detail))
    })
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// Threads start on demand up to the bound, survive a panicking task, and end on close.
    #[test]
    fn runs_everything_on_few_threads() {
        let pool = Pool::new(2);
        let (tell, told) = mpsc::channel();
        for number in 0..20 {
            let tell = tell.clone();
            let run = Box::new(move || {
                tell.send(number).unwrap();
                assert!(number != 3, "task three panics");
            });
            pool.submit(&Arc::default(), run).unwrap();
        }
        let mut seen: Vec<i32> =
            (0..20).map(|_| told.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..20));
        assert!(lock(&pool.threads).len() <= 2);
        pool.close();
        let error = pool.submit(&Arc::default(), Box::new(|| ())).unwrap_err();
        assert_eq!(error.code, ErrorCode::Closed);
    }

    /// Closing drops what waits and cancels what runs.
    #[test]
    fn closing_cancels() {
        let pool = Pool::new(1);
        let pipe = Arc::new(Pipe::default());
        let (tell, told) = mpsc::channel();
        let running = pipe.clone();
        let run = Box::new(move || {
            tell.send(()).unwrap();
            while !running.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        pool.submit(&pipe, run).unwrap();
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        pool.submit(&Arc::default(), Box::new(|| panic!("this never runs"))).unwrap();
        pool.close();
        assert!(pipe.is_cancelled());
    }
}
