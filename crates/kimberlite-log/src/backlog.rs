//! How far what complete segments need is behind the writer, and the writer's wait for it.
//!
//! Blocks of segments without a footer are indexed in memory, and a start after a crash reads them
//! again. Both would grow without bound behind a writer that never rests, so that it waits, a group
//! at a time, as soon as a bound is reached.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So many segments' bytes may be without a footer, those of the present segment counted.
const MOST_SEGMENTS: u64 = 2;
/// The writer goes on where nothing has happened for so long, whatever the bound says.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Backlog {
    most_bytes: u64,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of complete segments without a footer.
    waiting: u64,
    /// How much of the first of them is done.
    done: u64,
    /// Counts what was done.
    steps: u64,
    /// Nobody works on it, or to no effect: waiting for it is of no use.
    stalled: bool,
}

impl State {
    fn bytes(&self) -> u64 {
        self.waiting.saturating_sub(self.done)
    }
}

impl Backlog {
    pub(crate) fn new(segment_bytes: u64) -> Backlog {
        let most_bytes = segment_bytes.saturating_mul(MOST_SEGMENTS);
        Backlog { most_bytes, state: Mutex::default(), moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, each valid by itself.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts anew, when a segment is complete or has its footer.
    pub(crate) fn count(&self, waiting: impl FnOnce() -> u64) {
        let mut state = self.lock();
        let waiting = waiting();
        if waiting < state.waiting {
            state.done = 0;
        }
        (state.waiting, state.steps) = (waiting, state.steps + 1);
        self.moved.notify_all();
    }

    /// So many bytes more of the first segment are done.
    pub(crate) fn step(&self, bytes: u64) {
        let mut state = self.lock();
        (state.done, state.steps) = (state.done + bytes, state.steps + 1);
        self.moved.notify_all();
    }

    /// Somebody works on it from now on, or has given it up.
    pub(crate) fn set_stalled(&self, stalled: bool) {
        let mut state = self.lock();
        (state.stalled, state.done) = (stalled, 0);
        self.moved.notify_all();
    }

    /// Whether it is so much that the work for it should not pause.
    pub(crate) fn presses(&self) -> bool {
        self.lock().bytes() > self.most_bytes / 2
    }

    /// Waits until the writer may write more, where the present segment holds so many bytes.
    pub(crate) fn wait(&self, active: u64) {
        let mut state = self.lock();
        while state.bytes() > 0
            && state.bytes().saturating_add(active) > self.most_bytes
            && !state.stalled
        {
            let steps = state.steps;
            let still = |state: &mut State| state.steps == steps && !state.stalled;
            let waited = self.moved.wait_timeout_while(state, LONGEST_WAIT, still);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = next;
            if timeout.timed_out() {
                tracing::warn!("the index of the log's newest segments is made late");
                state.stalled = true;
            }
        }
    }
}
