//! Operations under way, by their ids, so that they can be cancelled.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use kimberlite_client::Stop;

use crate::boundary::boundary;
use crate::detail::{KmbDetail, KmbError};
use crate::queue::Queue;

/// What cancels one operation.
pub(crate) struct Canceller {
    queue: Arc<Queue>,
    /// Of an operation that ends by itself when it is stopped, to tell what became of it.
    stop: Option<Arc<Stop>>,
    state: Mutex<CancelState>,
}

#[derive(Default)]
struct CancelState {
    requested: bool,
    waker: Option<Waker>,
}

impl Canceller {
    fn state(&self) -> MutexGuard<'_, CancelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        if let Some(stop) = &self.stop {
            return stop.request();
        }
        let waker = {
            let mut state = self.state();
            state.requested = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it was cancelled; if not, `waker` is woken when it is.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        let mut state = self.state();
        if !state.requested && !state.waker.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        state.requested
    }
}

/// The table is cut in parts, so that threads which submit and complete seldom meet.
const PARTS: usize = 16;

static NEXT: AtomicU64 = AtomicU64::new(1);
/// `None` until its first operation, because a map cannot be made at compile time.
type Part = Option<HashMap<u64, Arc<Canceller>>>;

static PENDING: [Mutex<Part>; PARTS] = [const { Mutex::new(None) }; PARTS];

fn part(id: u64) -> MutexGuard<'static, Part> {
    PENDING[(id % PARTS as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes an operation in; its id is unique in the process.
pub(crate) fn begin(queue: &Arc<Queue>, stop: Option<Arc<Stop>>) -> (u64, Arc<Canceller>) {
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let queue = Arc::clone(queue);
    let canceller = Arc::new(Canceller { queue, stop, state: Mutex::default() });
    part(id).get_or_insert_with(HashMap::new).insert(id, Arc::clone(&canceller));
    (id, canceller)
}

/// Forgets an operation that is done.
pub(crate) fn end(id: u64) {
    let canceller = part(id).as_mut().and_then(|pending| pending.remove(&id));
    drop(canceller);
}

/// Cancels every operation that completes at a queue of which the predicate holds.
pub(crate) fn cancel_where(of: impl Fn(&Arc<Queue>) -> bool) {
    for index in 0..PARTS as u64 {
        let found: Vec<_> = match part(index).as_ref() {
            Some(pending) => pending.values().filter(|c| of(&c.queue)).cloned().collect(),
            None => continue,
        };
        found.iter().for_each(|canceller| canceller.cancel());
    }
}

/// Cancels an operation: it completes with CANCELLED unless it was done already. It is not awaited:
/// the completion comes through the queue. Of an append that was sent, its detail then carries the
/// key that settles it. An unknown or finished operation is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_cancel(operation: u64, detail_out: *mut *mut KmbDetail) -> KmbError {
    boundary!(detail_out, {
        let canceller =
            part(operation).as_ref().and_then(|pending| pending.get(&operation).cloned());
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
        Ok(())
    })
}
