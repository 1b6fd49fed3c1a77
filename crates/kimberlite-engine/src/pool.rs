//! The threads that run queries and verify chains: a few, started when they are needed.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kimberlite_wire::{Error, ErrorCode};

use crate::pipe::Pipe;
use crate::state::closed;
use crate::sync::{Condvar, Mutex};
use crate::waiters::lock;

/// How many tasks may wait for a thread, beyond which new ones are refused.
const MAX_WAITING: usize = 4_096;
/// How many of them may be one tenant's.
const MAX_WAITING_OF_TENANT: usize = MAX_WAITING / 2;
/// How many tasks may be aside, beyond which new ones are refused.
const MAX_ASIDE: usize = 96;
/// A tenant may have at most this part of what the others leave: a lone one 48, the next one 24 …
/// However many take all that they may, something is left for one more.
const ASIDE_PART_OF_TENANT: usize = 2;
/// Work that goes on for longer than this is slow: it may not keep others waiting.
const SLOW_AFTER: Duration = Duration::from_secs(1);
/// How often a thread that waits for a place looks for one.
const LOOK_FOR_PLACE: Duration = Duration::from_millis(100);
/// How long closing waits for the threads to end, and how often it looks.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
const CLOSE_LOOK: Duration = Duration::from_micros(200);
/// The pause that a refused caller is advised to make.
const RETRY_AFTER_MS: u32 = 100;

/// Work for a thread of the pool.
pub(crate) type Run = Box<dyn FnOnce() + Send>;

struct Task {
    pipe: Arc<Pipe>,
    run: Run,
}

/// A bounded pool. Closed by [`Pool::close`].
///
/// The bound is on the tasks that are at work. A task that waits for its reader, or that runs on
/// beyond its time without listening, is set aside: another one gets its place, on one more thread.
/// So does a slow one, once others wait. How many may be aside and slow is bounded, too. Where there
/// are three places or more, one tenant gets all but one.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    max_at_work: usize,
    max_slow: usize,
    inner: Mutex<Inner>,
    woken: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Task>,
    running: Vec<Running>,
    /// The threads, those that have not begun to run yet among them.
    threads: usize,
    /// How many of them wait for something to do.
    idle: usize,
    closed: bool,
}

struct Running {
    pipe: Arc<Pipe>,
    started: Instant,
    aside: bool,
    slow: bool,
}

impl Running {
    fn is_at_work(&self) -> bool {
        !self.aside && !self.slow
    }

    fn is_slow_of(&self, tenant_id: u64) -> bool {
        self.slow && self.pipe.tenant_id() == tenant_id
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}

impl Inner {
    fn aside(&self) -> usize {
        self.running.iter().filter(|running| running.aside).count()
    }

    fn at_work(&self) -> usize {
        self.running.iter().filter(|running| running.is_at_work()).count()
    }

    fn at_work_of(&self, tenant_id: u64) -> usize {
        let own = |r: &&Running| r.is_at_work() && r.pipe.tenant_id() == tenant_id;
        self.running.iter().filter(own).count()
    }

    /// How many threads there are beside those whose task has no place.
    fn useful_threads(&self) -> usize {
        self.threads.saturating_sub(self.running.len() - self.at_work())
    }

    /// Lets what has run for long go on without a place, where others wait for one.
    fn look_for_slow(&mut self, max_slow: usize) {
        if self.waiting.is_empty() || max_slow == 0 {
            return;
        }
        let now = Instant::now();
        for at in 0..self.running.len() {
            let Some(running) = self.running.get(at) else { return };
            let tenant_id = running.pipe.tenant_id();
            let is_long = now.saturating_duration_since(running.started) > SLOW_AFTER;
            let slow = self.running.iter().filter(|other| other.slow).count();
            let own = self.running.iter().filter(|other| other.is_slow_of(tenant_id)).count();
            if running.is_at_work() && is_long && slow < max_slow && own < max_slow.div_ceil(2) {
                self.running[at].slow = true;
            }
        }
    }

    /// The first waiting task whose tenant may have one more place.
    fn take_waiting(&mut self, max_at_work: usize) -> Option<Task> {
        let of_one = if max_at_work < 3 { max_at_work } else { max_at_work - 1 };
        let may = |task: &Task| self.at_work_of(task.pipe.tenant_id()) < of_one;
        let first = self.waiting.iter().position(may)?;
        self.waiting.remove(first)
    }

    /// Sets aside what should have ended and goes on.
    fn look_for_overdue(&mut self) {
        let now = Instant::now();
        let mut aside = self.aside();
        for running in self.running.iter_mut().filter(|running| !running.aside) {
            if aside < MAX_ASIDE && running.pipe.is_overdue(now) {
                tracing::warn!("a query runs on beyond its time; its thread is replaced");
                running.aside = true;
                aside += 1;
            }
        }
    }

    fn aside_of(&self, tenant_id: u64) -> usize {
        let own = |running: &&Running| running.aside && running.pipe.tenant_id() == tenant_id;
        self.running.iter().filter(own).count()
    }

    fn set_aside(&mut self, pipe: &Arc<Pipe>, aside: bool) -> Result<(), Error> {
        if aside {
            self.check_aside(pipe.tenant_id())?;
        }
        let running = self.running.iter_mut().find(|running| Arc::ptr_eq(&running.pipe, pipe));
        if let Some(running) = running {
            running.aside = aside;
        }
        Ok(())
    }

    /// Whether one more task of this tenant may be aside.
    fn check_aside(&self, tenant_id: u64) -> Result<(), Error> {
        let (all, own) = (self.aside(), self.aside_of(tenant_id));
        let may = MAX_ASIDE.saturating_sub(all - own) / ASIDE_PART_OF_TENANT;
        let (count, whose) = if all >= MAX_ASIDE {
            (MAX_ASIDE, "")
        } else if own >= may.max(1) {
            (own, " of this tenant")
        } else {
            return Ok(());
        };
        Err(overloaded(format!(
            "{count} queries{whose} are open whose rows nobody takes, or run beyond their time; \
             read results to their ends, or drop them"
        )))
    }

    fn check_room(&self, tenant_id: u64) -> Result<(), Error> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(overloaded(format!("{MAX_WAITING} queries wait for a thread")));
        }
        let own = |task: &&Task| task.pipe.tenant_id() == tenant_id;
        if self.waiting.iter().filter(own).take(MAX_WAITING_OF_TENANT).count()
            == MAX_WAITING_OF_TENANT
        {
            let detail =
                format!("{MAX_WAITING_OF_TENANT} queries of this tenant wait for a thread");
            return Err(overloaded(detail));
        }
        self.check_aside(tenant_id)
    }
}

fn overloaded(detail: String) -> Error {
    let mut error = Error::new(ErrorCode::Overloaded, detail);
    error.retry_after_ms = RETRY_AFTER_MS;
    error
}

impl Pool {
    /// A pool that runs so many tasks at a time, at least one, and as many slow ones beside them.
    pub(crate) fn new(max_at_work: usize, max_slow: usize) -> Pool {
        let shared = Shared {
            max_at_work: max_at_work.max(1),
            max_slow,
            inner: Mutex::default(),
            woken: Condvar::new(),
            threads: Mutex::default(),
        };
        Pool { shared: Arc::new(shared) }
    }

    /// Runs it on a thread of the pool, unless the pipe is cancelled before. OVERLOADED where too
    /// much waits already, or is aside.
    pub(crate) fn submit(&self, pipe: &Arc<Pipe>, run: Run) -> Result<(), Error> {
        let mut inner = lock(&self.shared.inner);
        if inner.closed {
            return Err(closed());
        }
        inner.look_for_overdue();
        inner.check_room(pipe.tenant_id())?;
        inner.waiting.push_back(Task { pipe: pipe.clone(), run });
        drop(inner);
        self.shared.woken.notify_one();
        self.shared.add_thread()
    }

    /// How many tasks are at work, wait, and are aside.
    pub(crate) fn load(&self) -> (usize, usize, usize) {
        let inner = lock(&self.shared.inner);
        (inner.at_work(), inner.waiting.len(), inner.aside())
    }

    /// Tells that the pipe's task, which is running, waits for its reader: another one may run.
    /// OVERLOADED where too many do: then it should end, because it would hold a place for nothing.
    pub(crate) fn set_aside(&self, pipe: &Arc<Pipe>) -> Result<(), Error> {
        lock(&self.shared.inner).set_aside(pipe, true)?;
        self.shared.woken.notify_one();
        if let Err(error) = self.shared.add_thread() {
            tracing::warn!(%error, "no thread for what waits");
        }
        Ok(())
    }

    /// Tells that it goes on. It does so at once, even where as many others are at work by now as
    /// may be: what it can do before it waits again is little.
    pub(crate) fn take_back(&self, pipe: &Arc<Pipe>) {
        // Only setting aside is refused.
        let _ = lock(&self.shared.inner).set_aside(pipe, false);
        // A thread that nobody needs any more may end.
        self.shared.woken.notify_one();
    }

    /// Drops what waits, cancels what runs, and waits for the threads to end; not for ever, because
    /// SQLite cannot be stopped within some functions. A thread that it leaves behind owns what it
    /// uses, and ends after the statement.
    pub(crate) fn close(&self) {
        let (waiting, running) = {
            let mut inner = lock(&self.shared.inner);
            inner.closed = true;
            let running: Vec<_> = inner.running.iter().map(|task| task.pipe.clone()).collect();
            (std::mem::take(&mut inner.waiting), running)
        };
        drop(waiting);
        running.iter().for_each(|pipe| pipe.cancel());
        self.shared.woken.notify_all();
        let deadline = Instant::now() + CLOSE_PATIENCE;
        let threads = std::mem::take(&mut *lock(&self.shared.threads));
        for thread in threads {
            while !thread.is_finished() && !is_this(&thread) && Instant::now() < deadline {
                std::thread::sleep(CLOSE_LOOK);
            }
            if thread.is_finished() {
                tell_panic(thread.join());
            } else {
                tracing::warn!("a query does not end; its thread is left behind");
            }
        }
    }
}

fn is_this(thread: &JoinHandle<()>) -> bool {
    thread.thread().id() == std::thread::current().id()
}

/// Logs it where a thread ended with a panic.
pub(crate) fn tell_panic(ended: std::thread::Result<()>) {
    if ended.is_err() {
        tracing::error!("a thread of the database panicked");
    }
}

impl Shared {
    /// Starts a thread where one is of use: as many as may be at work, and one more that watches
    /// for a place to be free. An error only where no thread is there to run anything.
    fn add_thread(self: &Arc<Shared>) -> Result<(), Error> {
        let mut threads = lock(&self.threads);
        {
            let mut inner = lock(&self.inner);
            let useful = inner.useful_threads();
            if inner.closed || inner.waiting.len() <= inner.idle || useful > self.max_at_work {
                return Ok(());
            }
            inner.threads += 1;
        }
        threads.retain(|thread| !thread.is_finished());
        let shared = self.clone();
        let thread = std::thread::Builder::new().name("kimberlite-query".to_string());
        match thread.spawn(move || shared.run()) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                let mut inner = lock(&self.inner);
                inner.threads -= 1;
                if inner.threads == 0 {
                    inner.waiting.clear();
                    let detail = format!("no thread could be started for a query: {error}");
                    return Err(Error::new(ErrorCode::Overloaded, detail));
                }
                tracing::warn!(%error, "a thread for queries could not be started");
            }
        }
        Ok(())
    }

    fn run(self: &Arc<Shared>) {
        while let Some(Task { pipe, run }) = self.next() {
            // Another thread may be of use by now, since this one has found a place.
            let _ = self.add_thread();
            if !pipe.is_cancelled() {
                // A task reports its own panic; this one keeps the thread for the next.
                let _ = catch_unwind(AssertUnwindSafe(run));
            }
            lock(&self.inner).running.retain(|other| !Arc::ptr_eq(&other.pipe, &pipe));
        }
    }

    /// The next task, which counts as running from now on; none where the thread is to end.
    fn next(&self) -> Option<Task> {
        let mut inner = lock(&self.inner);
        loop {
            inner.look_for_overdue();
            inner.look_for_slow(self.max_slow);
            let has_place = inner.at_work() < self.max_at_work;
            let is_spare = inner.waiting.is_empty() && inner.useful_threads() > self.max_at_work;
            if inner.closed || is_spare {
                inner.threads -= 1;
                return None;
            }
            if has_place && let Some(task) = inner.take_waiting(self.max_at_work) {
                let (pipe, started) = (task.pipe.clone(), Instant::now());
                inner.running.push(Running { pipe, started, aside: false, slow: false });
                return Some(task);
            }
            inner.idle += 1;
            inner = if inner.waiting.is_empty() {
                self.woken.wait(inner).unwrap_or_else(PoisonError::into_inner)
            } else {
                // Nobody tells when a task becomes overdue.
                let waited = self.woken.wait_timeout(inner, LOOK_FOR_PLACE);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
            inner.idle -= 1;
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

    use super::*;

    /// Threads start on demand up to the bound, survive a panicking task, and end on close.
    #[test]
    fn runs_everything_on_few_threads() {
        let pool = Pool::new(2, 0);
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
        assert!(lock(&pool.shared.inner).threads <= 3);
        pool.close();
        let error = pool.submit(&Arc::default(), Box::new(|| ())).unwrap_err();
        assert_eq!(error.code, ErrorCode::Closed);
    }

    /// Closing drops what waits and cancels what runs.
    #[test]
    fn closing_cancels() {
        let pool = Pool::new(1, 0);
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

    /// A task for the tests: tells that it runs, and ends when it is told to.
    fn held(pool: &Pool, pipe: &Arc<Pipe>) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let run = Box::new(move || {
            tell.send(()).unwrap();
            let _ = released.recv();
        });
        pool.submit(pipe, run).unwrap();
        (told, release)
    }

    /// Tasks that are set aside give their places to others, up to a bound; once they are back or
    /// gone, the threads that nobody needs end.
    #[test]
    fn what_is_aside_takes_no_place() {
        let pool = Pool::new(1, 0);
        let patience = Duration::from_secs(10);
        let mut aside = Vec::new();
        let mut taken = Vec::new();
        for tenant_id in 1..=MAX_ASIDE as u64 {
            let pipe = || Arc::new(Pipe::of(tenant_id, None));
            let before = aside.len();
            while lock(&pool.shared.inner).check_aside(tenant_id).is_ok() {
                let pipe = pipe();
                let (told, release) = held(&pool, &pipe);
                told.recv_timeout(patience).unwrap();
                pool.set_aside(&pipe).unwrap();
                aside.push((pipe, release));
            }
            if aside.len() == MAX_ASIDE {
                break;
            }
            taken.push(aside.len() - before);
            let error = pool.submit(&pipe(), Box::new(|| ())).unwrap_err();
            assert!(error.detail.contains("of this tenant"), "{error}");
        }
        // Each of the first gets half of what is left, and each of the last one.
        assert_eq!(taken[..6], [48, 24, 12, 6, 3, 1]);
        assert_eq!(aside.len(), MAX_ASIDE);
        let error = pool.submit(&Arc::default(), Box::new(|| ())).unwrap_err();
        assert_eq!(error.code, ErrorCode::Overloaded);
        assert!(error.retry_after_ms > 0 && error.detail.contains("drop"), "{error}");
        pool.take_back(&aside[0].0);
        drop(aside);
        let (told, _release) = held(&pool, &Arc::default());
        told.recv_timeout(patience).unwrap();
        let deadline = Instant::now() + patience;
        while lock(&pool.shared.inner).threads > 2 {
            assert!(Instant::now() < deadline, "threads are left over");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A task that does not end when it should loses its place to one that waits, and closing does
    /// not wait for it without end.
    #[test]
    fn what_does_not_listen_is_replaced() {
        let pool = Pool::new(1, 0);
        let deaf = Arc::new(Pipe::of(1, Some(Instant::now())));
        let (told, release) = held(&pool, &deaf);
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        let (told, _other) = held(&pool, &Arc::default());
        told.recv_timeout(Duration::from_secs(10)).unwrap();
        let started = Instant::now();
        pool.close();
        assert!(started.elapsed() < CLOSE_PATIENCE * 2, "{:?}", started.elapsed());
        drop(release);
    }

    /// Work that goes on for long gives its place to what waits, but not more of it than may, nor more
    /// of one tenant than half of that; and one tenant does not get every place.
    #[test]
    fn what_is_slow_keeps_nobody_waiting() {
        let pool = Pool::new(3, 2);
        let patience = Duration::from_secs(10);
        let mut endless = Vec::new();
        let mut begin = |tenant_id: u64| {
            let (told, release) = held(&pool, &Arc::new(Pipe::of(tenant_id, None)));
            endless.push(release);
            told
        };
        // Two at work, one of them slow after a while: a third, and no more of this tenant.
        for _ in 0..3 {
            begin(1).recv_timeout(patience).unwrap();
        }
        let waiting = begin(1);
        assert!(waiting.recv_timeout(SLOW_AFTER * 2).is_err(), "tenant 1 got every place");
        // Another tenant is not kept waiting, by its own slow work neither.
        for _ in 0..2 {
            begin(2).recv_timeout(patience).unwrap();
        }
        assert_eq!(pool.load().0, 3);
        drop(endless);
        waiting.recv_timeout(patience).unwrap();
        pool.close();
    }
}
