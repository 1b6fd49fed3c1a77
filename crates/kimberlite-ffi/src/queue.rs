//! The completion queue.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kimberlite_wire::{Error, ErrorCode};

use crate::arguments::Out;
use crate::boundary::boundary;
use crate::completion::{Completion, KmbCompletion};
use crate::detail::{KmbDetail, KmbError};
use crate::handle::Table;
use crate::library;
use crate::operation;
use crate::sync::{Condvar, Mutex, MutexGuard, thread_local};
use crate::wake_fd::WakeFd;

#[cfg(all(test, shuttle))]
#[path = "queue_schedules.rs"]
mod schedules;

/// Where submitted operations complete.
///
/// Ownership: made by kmb_queue_new, closed by kmb_queue_close. Threads: safe from every thread;
/// several may poll one queue.
pub struct KmbQueue {
    _private: [u8; 0],
}

/// Called when a queue becomes non-empty; NULL for none. It runs on a thread of the library, one
/// call at a time for each queue, and must not block or call anything that does: kmb_queue_poll with
/// a timeout of 0, kmb_submit_*, kmb_cancel and every `_free` are fine. It is not called again until
/// the queue was emptied, so whoever takes completions takes all of them.
pub type KmbWakeCallback = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

static QUEUES: Table<Queue> = Table::new(3, "KmbQueue");

#[derive(Clone, Copy)]
struct Wake {
    callback: unsafe extern "C" fn(user_data: *mut c_void),
    user_data: *mut c_void,
}

// SAFETY: the caller of kmb_submit_callback promises that the callback may run on any thread.
unsafe impl Send for Wake {}

struct State {
    completions: VecDeque<Completion>,
    closed: bool,
    fd: Option<WakeFd>,
    wake: Option<Wake>,
    /// A thread is inside the callback.
    waking: bool,
    /// The queue became non-empty again meanwhile.
    wake_again: bool,
    /// Threads inside kmb_queue_poll.
    pollers: usize,
}

/// A queue behind its handle.
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    woken: Condvar,
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a queue's callback now.
pub(crate) fn in_callback() -> bool {
    IN_CALLBACK.try_with(Cell::get).unwrap_or(false)
}

/// The queue of a handle.
pub(crate) fn get(queue: *const KmbQueue) -> Result<Arc<Queue>, Error> {
    QUEUES.get("queue", queue)
}

/// Closes every queue.
pub(crate) fn close_all() {
    QUEUES.drain().iter().for_each(Queue::close);
}

fn closed() -> Error {
    Error::new(ErrorCode::Closed, "queue is a KmbQueue that was closed")
}

impl Queue {
    fn new(fd: Option<WakeFd>) -> Queue {
        let state = State {
            completions: VecDeque::new(),
            closed: false,
            fd,
            wake: None,
            waking: false,
            wake_again: false,
            pollers: 0,
        };
        Queue { state: Mutex::new(state), arrived: Condvar::new(), woken: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether posting may call back.
    pub(crate) fn calls_back(&self) -> bool {
        self.state().wake.is_some()
    }

    /// Adds a completion and wakes who waits; a closed queue discards it. Returns after the callback
    /// where there is one.
    pub(crate) fn post(&self, completion: Completion) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            drop(completion);
            return;
        }
        state.completions.push_back(completion);
        if state.completions.len() > 1 {
            let pollers = state.pollers;
            drop(state);
            if pollers > 0 {
                self.arrived.notify_one();
            }
            return;
        }
        if let Some(fd) = &state.fd {
            fd.signal();
        }
        if state.pollers > 0 {
            self.arrived.notify_one();
        }
        self.wake(state);
    }

    /// Calls back once, and again while the queue became non-empty meanwhile.
    fn wake<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        if state.wake.is_none() {
            return;
        }
        if state.waking {
            state.wake_again = true;
            return;
        }
        state.wake_again = true;
        while std::mem::take(&mut state.wake_again) {
            let Some(wake) = state.wake else { break };
            state.waking = true;
            drop(state);
            let before = IN_CALLBACK.try_with(|inside| inside.replace(true)).unwrap_or(false);
            // SAFETY: kmb_submit_callback's caller keeps both valid until the callback is replaced
            // or the queue closed, which wait for this call.
            unsafe { (wake.callback)(wake.user_data) };
            let _ = IN_CALLBACK.try_with(|inside| inside.set(before));
            state = self.state();
            state.waking = false;
        }
        self.woken.notify_all();
    }

    /// Waits until no callback runs, except from within one.
    fn await_callback<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        while state.waking && !in_callback() {
            state = self.woken.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn set_callback(&self, wake: Option<Wake>) -> Result<(), Error> {
        let mut state = self.state();
        if state.closed {
            return Err(closed());
        }
        state.wake = wake;
        let mut state = self.await_callback(state);
        if wake.is_some() && !state.completions.is_empty() {
            // What waits already would otherwise never be told.
            if state.waking {
                state.wake_again = true;
            } else {
                self.wake(state);
            }
        }
        Ok(())
    }

    /// Moves completions to `out`, waiting for the first.
    fn poll(&self, out: &mut Vec<Completion>, max: usize, timeout_ms: u64) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(Duration::from_millis(timeout_ms));
        let mut state = self.state();
        while state.completions.is_empty() {
            if state.closed {
                return Err(closed());
            }
            if timeout_ms == 0 {
                return Ok(());
            }
            state.pollers += 1;
            state = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => {
                    state.pollers -= 1;
                    return Ok(());
                }
                Some(left) => {
                    let waited = self.arrived.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.pollers -= 1;
        }
        let take = max.min(state.completions.len());
        out.extend(state.completions.drain(..take));
        if state.completions.is_empty() {
            if let Some(fd) = &state.fd {
                fd.reset();
            }
        } else if state.pollers > 0 {
            self.arrived.notify_one();
        }
        Ok(())
    }

    fn close(self: &Arc<Queue>) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.closed = true;
        state.wake = None;
        let discarded = std::mem::take(&mut state.completions);
        let fd = state.fd.take();
        self.arrived.notify_all();
        drop(self.await_callback(state));
        drop(fd);
        drop(discarded);
        operation::cancel_where(|queue| Arc::ptr_eq(queue, self));
    }
}

/// Makes a queue.
///
/// with_fd: whether it has a descriptor for poll, epoll, kqueue or an event loop. queue_out:
/// receives the queue; the caller closes it with kmb_queue_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_queue_new(
    with_fd: bool,
    queue_out: *mut *mut KmbQueue,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let out = Out::new("queue_out", queue_out)?;
        library::start();
        let fd = if with_fd { Some(WakeFd::new()?) } else { None };
        out.put(QUEUES.insert(Arc::new(Queue::new(fd)))?);
        Ok(())
    })
}

/// The queue's descriptor: readable while the queue holds completions. INVALID_ARGUMENT where the
/// queue was made without one.
///
/// fd_out: receives the descriptor, which belongs to the queue: it is watched, but never read,
/// written or closed, and is gone after kmb_queue_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_queue_fd(
    queue: *mut KmbQueue,
    fd_out: *mut i32,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let queue = get(queue)?;
        let out = Out::new("fd_out", fd_out)?;
        let state = queue.state();
        let fd = state.fd.as_ref().map(WakeFd::number);
        drop(state);
        out.put(fd.ok_or_else(|| Error::invalid("queue was made without a descriptor"))?);
        Ok(())
    })
}

/// Takes completions, waiting for the first where there is none. OK with a count of 0 where nothing
/// came in time; CLOSED once the queue is closed.
///
/// completions_out: room for max_completions (at least 1); what is written there belongs to the
/// caller. timeout_ms: 0 does not wait, KMB_FOREVER waits for ever. count_out: receives how many were
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_queue_poll(
    queue: *mut KmbQueue,
    completions_out: *mut KmbCompletion,
    max_completions: usize,
    timeout_ms: u64,
    count_out: *mut usize,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let queue = get(queue)?;
        if completions_out.is_null() {
            return Err(crate::arguments::null("completions_out"));
        }
        let count = Out::new("count_out", count_out)?;
        if max_completions == 0 {
            return Err(Error::invalid("max_completions is 0; leave room for at least 1"));
        }
        if timeout_ms > 0 && in_callback() {
            return Err(Error::invalid("timeout_ms must be 0 within a queue's callback"));
        }
        let mut taken = Vec::new();
        queue.poll(&mut taken, max_completions, timeout_ms)?;
        count.put(taken.len());
        for (index, completion) in taken.into_iter().enumerate() {
            completions_out.add(index).write_unaligned(completion.into_raw());
        }
        Ok(())
    })
}

/// Closes a queue: cancels the operations that are to complete there, discards what waits, and
/// returns after the last callback, except from within one. Waiting polls get CLOSED. A second close
/// is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_queue_close(
    queue: *mut KmbQueue,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        if let Some(queue) = QUEUES.remove("queue", queue)? {
            queue.close();
        }
        Ok(())
    })
}

/// Has a function called whenever the queue becomes non-empty, where no descriptor can be watched;
/// at once where it is so already. See KmbWakeCallback for what it may do. NULL ends it; this and a
/// replacement return after the last call, except from within one.
///
/// user_data: passed on; must stay valid until the callback is replaced or the queue closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_callback(
    queue: *mut KmbQueue,
    callback: KmbWakeCallback,
    user_data: *mut c_void,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    let wake = callback.map(|callback| Wake { callback, user_data });
    boundary!(detail_out, { get(queue)?.set_callback(wake) })
}
