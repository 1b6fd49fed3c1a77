//! The way to the commit thread: its queue of jobs, and the deadlines that it watches while idle.
//!
//! A database has no thread of its own for timers. The commit thread sleeps until the next deadline
//! at the latest, and looks at the deadlines between groups.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;
use std::task::Waker;
use std::time::Instant;

use kimberlite_wire::{Error, ErrorCode};

use crate::job::Job;
use crate::state::closed;
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::waiters::lock;

/// How many bytes of requests may wait, beyond which new ones are refused.
const MAX_QUEUED_BYTES: usize = 128 << 20;
/// The pause that a refused caller is advised to make.
const RETRY_AFTER_MS: u32 = 50;

/// The queue of jobs and the deadlines.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    woken: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: VecDeque<Job>,
    bytes: usize,
    /// The commit thread sleeps, or is about to.
    sleeping: bool,
    /// A caller commits on its own thread, and will look here once more.
    direct: bool,
    closed: bool,
    /// Why it was abandoned, where that was not for closing.
    failure: Option<Error>,
    deadlines: BTreeMap<(Instant, u64), Waker>,
    next_deadline_id: u64,
}

/// Why the commit thread woke.
pub(crate) enum Woken {
    /// There are jobs.
    Jobs(VecDeque<Job>),
    /// The moment that it asked to be woken at has come.
    Idle,
    /// The queue is closed, and nothing is left in it.
    Closed,
}

impl Inner {
    fn end(&self) -> Error {
        self.failure.clone().unwrap_or_else(closed)
    }

    /// CLOSED once the queue is closed, OVERLOADED while too much waits.
    fn check(&self) -> Result<(), Error> {
        if self.closed {
            return Err(self.end());
        }
        if self.bytes > MAX_QUEUED_BYTES {
            let detail = format!("{} bytes of requests wait to be committed", self.bytes);
            let mut error = Error::new(ErrorCode::Overloaded, detail);
            error.retry_after_ms = RETRY_AFTER_MS;
            return Err(error);
        }
        Ok(())
    }

    fn add(&mut self, job: Job) {
        self.bytes += job.bytes();
        self.jobs.push_back(job);
    }

    /// Adds jobs before all others.
    fn put_back(&mut self, jobs: VecDeque<Job>) {
        for job in jobs.into_iter().rev() {
            self.bytes += job.bytes();
            self.jobs.push_front(job);
        }
    }
}

impl Queue {
    /// Adds a job. CLOSED once the queue is closed, OVERLOADED while too much waits; the job is
    /// dropped then.
    pub(crate) fn push(&self, job: Job) -> Result<(), Error> {
        let mut inner = lock(&self.inner);
        inner.check()?;
        // Whoever commits on its own thread takes what is like its own job.
        let waits = inner.direct && job.is_quick() && inner.jobs.iter().all(Job::is_quick);
        inner.add(job);
        let wake = !waits && std::mem::take(&mut inner.sleeping);
        drop(inner);
        if wake {
            self.woken.notify_one();
        }
        Ok(())
    }

    /// Adds a job, or gives it back to be committed by the caller: where it is quick, nothing is
    /// before it, and the commit thread would have to be woken for it. [`Queue::leave`] follows.
    pub(crate) fn push_or_enter(&self, job: Job) -> Result<Option<Job>, Error> {
        if job.is_quick() {
            let mut inner = lock(&self.inner);
            inner.check()?;
            if inner.sleeping && !inner.direct && inner.jobs.is_empty() {
                inner.direct = true;
                return Ok(Some(job));
            }
        }
        self.push(job).map(|()| None)
    }

    /// For whoever was let in: takes what came meanwhile where that is `wanted` and as quick, else
    /// leaves it to the commit thread; `None` where the caller is done. `undone` is left as well.
    pub(crate) fn leave(&self, wanted: bool, undone: VecDeque<Job>) -> Option<VecDeque<Job>> {
        let mut inner = lock(&self.inner);
        inner.put_back(undone);
        if wanted && !inner.jobs.is_empty() && inner.jobs.iter().all(Job::is_quick) {
            inner.bytes = 0;
            return Some(std::mem::take(&mut inner.jobs));
        }
        inner.direct = false;
        let wake = !inner.jobs.is_empty() && std::mem::take(&mut inner.sleeping);
        drop(inner);
        if wake {
            self.woken.notify_one();
        }
        None
    }

    /// Bytes of the jobs that wait.
    pub(crate) fn bytes(&self) -> usize {
        lock(&self.inner).bytes
    }

    /// Takes every job that waits; sleeps until there is one, or until `wake_at`. Wakes the tasks
    /// whose deadlines have passed. For the commit thread alone.
    pub(crate) fn take(&self, wake_at: Option<Instant>) -> Woken {
        let mut inner = lock(&self.inner);
        loop {
            inner = self.wake_expired(inner);
            if !inner.jobs.is_empty() {
                inner.bytes = 0;
                return Woken::Jobs(std::mem::take(&mut inner.jobs));
            }
            if inner.closed {
                return Woken::Closed;
            }
            let now = Instant::now();
            if wake_at.is_some_and(|at| at <= now) {
                return Woken::Idle;
            }
            let first = inner.deadlines.keys().next().map(|(at, _)| *at);
            inner.sleeping = true;
            inner = match first.into_iter().chain(wake_at).min() {
                None => self.woken.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let pause = at.saturating_duration_since(now);
                    let waited = self.woken.wait_timeout(inner, pause);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            inner.sleeping = false;
        }
    }

    /// Takes whatever waits without sleeping.
    pub(crate) fn take_more(&self, into: &mut VecDeque<Job>) {
        let mut inner = self.wake_expired(lock(&self.inner));
        inner.bytes = 0;
        into.append(&mut inner.jobs);
    }

    fn wake_expired<'a>(&'a self, mut inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        if inner.deadlines.is_empty() {
            return inner;
        }
        let later = inner.deadlines.split_off(&(Instant::now(), 0));
        let expired = std::mem::replace(&mut inner.deadlines, later);
        if expired.is_empty() {
            return inner;
        }
        // A waker runs code of the executor, which may come back to this queue.
        drop(inner);
        expired.into_values().for_each(Waker::wake);
        lock(&self.inner)
    }

    /// Refuses new jobs. Those that wait are still done.
    pub(crate) fn close(&self) {
        lock(&self.inner).closed = true;
        self.woken.notify_one();
    }

    /// What a caller is told once the queue is closed.
    pub(crate) fn end(&self) -> Option<Error> {
        let inner = lock(&self.inner);
        inner.closed.then(|| inner.end())
    }

    /// Refuses what waits and whatever comes: nobody will do it. `failure` is the defect that is
    /// the reason, if one is.
    pub(crate) fn abandon(&self, failure: Option<Error>) {
        let (jobs, deadlines, end) = {
            let mut inner = lock(&self.inner);
            inner.closed = true;
            // The first reason is the reason.
            inner.failure = inner.failure.take().or(failure);
            let end = inner.end();
            (std::mem::take(&mut inner.jobs), std::mem::take(&mut inner.deadlines), end)
        };
        self.woken.notify_one();
        jobs.into_iter().for_each(|job| job.reply.send(Err(end.clone())));
        deadlines.into_values().for_each(Waker::wake);
    }

    /// Wakes a task at a moment. The id takes it back or, given again, replaces it.
    pub(crate) fn wake_at(&self, at: Instant, id: &mut Option<u64>, waker: &Waker) {
        let mut inner = lock(&self.inner);
        let id = *id.get_or_insert_with(|| {
            inner.next_deadline_id += 1;
            inner.next_deadline_id
        });
        let first = inner.deadlines.keys().next().copied();
        inner.deadlines.insert((at, id), waker.clone());
        let is_first = first.is_none_or(|first| (at, id) < first);
        let wake = is_first && std::mem::take(&mut inner.sleeping);
        drop(inner);
        if wake {
            self.woken.notify_one();
        }
    }

    /// Takes back what [`Queue::wake_at`] asked for.
    pub(crate) fn forget(&self, at: Instant, id: u64) {
        lock(&self.inner).deadlines.remove(&(at, id));
    }
}
