//! Fills the next segment with zeroes ahead of the writer, and does what complete segments need.
//!
//! Writing into zeroes that are already on disk is twice as fast as growing a file, because a sync
//! then has no lengths and extents to bring along. The thread works in small steps and only as far
//! ahead as the writer's own pace asks for, so that it hardly delays commits, and a database that
//! stays small never fills much. What complete segments need is done between the steps: two MiB are
//! filled for each that is looked through, and one, without pauses, where the writer is ahead; where
//! that does not suffice, it waits.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::disk::{Disk, DiskFile};
use crate::errors::is_full;
use crate::files::SegmentFiles;
use crate::keeper::Keeper;
use crate::names;

/// How much is filled and synced at a time: what a commit may have to wait for.
const STEP_BYTES: u64 = 256 << 10;
/// The pause between two steps.
const PAUSE: Duration = Duration::from_millis(1);
/// How many steps of filling come between two steps for complete segments, of a MiB each.
const FILLS_BETWEEN: usize = 8;
/// The same where the writer may soon have to wait for complete segments.
const FILLS_PRESSED: usize = 4;
/// Where there is nothing to fill the thread rests as long as a step took, but no longer than this.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// The file that becomes the next segment.
#[derive(Debug)]
pub(crate) struct Spare {
    pub file: Arc<dyn DiskFile>,
    /// How large it shall become.
    pub size: u64,
    /// Up to where it is filled, durably.
    pub zeroed: u64,
}

#[derive(Debug)]
pub(crate) struct Preparer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Whether a thread may be started.
    background: bool,
}

#[derive(Debug)]
struct Shared {
    files: Arc<SegmentFiles>,
    keeper: Option<Arc<Keeper>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    spare: Option<Spare>,
    /// The thread works on the spare, outside of the lock.
    busy: bool,
    /// The writer waits for the spare.
    wanted: bool,
    /// How far the spare shall be filled now, and how large it shall become.
    target: u64,
    size: u64,
    /// Complete segments may need something.
    keep: bool,
    stop: bool,
}

impl State {
    fn fills(&self) -> bool {
        let zeroed = self.spare.as_ref().map_or(0, |spare| spare.zeroed);
        !self.wanted && zeroed < self.target
    }
}

impl Preparer {
    pub(crate) fn new(
        files: Arc<SegmentFiles>,
        background: bool,
        spare: Option<Spare>,
        keeper: Option<Arc<Keeper>>,
    ) -> Preparer {
        let state = Mutex::new(State { spare, ..State::default() });
        let shared = Arc::new(Shared { files, keeper, state, changed: Condvar::new() });
        Preparer { shared, thread: None, background }
    }

    /// Asks that the spare, of this size in the end, be filled up to `target`. The thread starts
    /// when it is first asked for something.
    pub(crate) fn pace(&mut self, target: u64, size: u64) {
        if !self.background {
            return;
        }
        {
            let mut state = self.shared.lock();
            state.target = target.min(size);
            state.size = size;
        }
        self.wake();
    }

    /// Asks that what complete segments need be done: by the thread, or at once where there is
    /// none.
    pub(crate) fn keep(&mut self) {
        let Some(keeper) = &self.shared.keeper else { return };
        if self.background {
            self.shared.lock().keep = true;
            self.wake();
        } else if keeper.is_due() {
            keeper.run(&mut || ControlFlow::Continue(()));
        }
    }

    fn wake(&mut self) {
        self.shared.changed.notify_all();
        if self.thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let name = "kimberlite-prepare".to_owned();
            match std::thread::Builder::new().name(name).spawn(move || shared.run()) {
                Ok(thread) => self.thread = Some(thread),
                Err(e) => {
                    tracing::warn!(error = %e, "segments are prepared in the commit thread");
                    self.background = false;
                }
            }
        }
    }

    /// The spare as far as it is filled, at once or after the step under way. Nothing more is
    /// filled until the next `pace`.
    pub(crate) fn take(&mut self) -> Option<Spare> {
        let mut state = self.shared.lock();
        state.wanted = true;
        state.target = 0;
        // A thread that has ended in the middle of a step will never give the spare back.
        while state.busy && self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            let waited = self.shared.changed.wait_timeout(state, Duration::from_millis(100));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.wanted = false;
        state.spare.take()
    }

    /// Gives back a spare that could not be used yet.
    pub(crate) fn put_back(&mut self, spare: Spare) {
        self.shared.lock().spare = Some(spare);
    }

    /// Ends the thread, after the step under way.
    pub(crate) fn stop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that prepares segments has panicked");
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is plain values, each valid by itself, even after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.stop {
            if std::mem::take(&mut state.keep) {
                drop(state);
                self.keep();
                state = self.lock();
            } else if state.fills() {
                state = self.fill(state, PAUSE);
            } else {
                state = self.wait(state);
            }
        }
    }

    /// Fills one step, and pauses.
    fn fill<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        pause: Duration,
    ) -> MutexGuard<'a, State> {
        let size = state.size;
        let spare = state.spare.take();
        state.busy = true;
        drop(state);
        let (spare, result) = self.step(spare, size);
        state = self.lock();
        state.busy = false;
        state.spare = spare;
        if let Err(e) = result {
            // The writer meets the same trouble when it needs the room, and reports it.
            tracing::warn!(error = %e, "cannot fill the next segment of the log with zeroes");
            state.target = 0;
        }
        self.changed.notify_all();
        self.pause(state, pause)
    }

    fn pause<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        if time.is_zero() {
            return state;
        }
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.stop);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn keep(&self) {
        let Some(keeper) = self.keeper.as_ref().filter(|keeper| keeper.is_due()) else { return };
        let mut began = Instant::now();
        keeper.run(&mut || {
            let mut state = self.lock();
            let mut filled = 0;
            // A writer that must wait is not to wait for pauses.
            let pressed = keeper.is_pressed();
            let (most, pause) =
                if pressed { (FILLS_PRESSED, Duration::ZERO) } else { (FILLS_BETWEEN, PAUSE) };
            while !state.stop && state.fills() && filled < most {
                state = self.fill(state, pause);
                filled += 1;
            }
            if filled == 0 && !pressed {
                state = self.pause(state, began.elapsed().clamp(PAUSE, LONGEST_REST));
            }
            began = Instant::now();
            if state.stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }

    /// Fills one step; tells what is left of the spare.
    fn step(&self, spare: Option<Spare>, size: u64) -> (Option<Spare>, io::Result<()>) {
        let disk = self.files.disk();
        let spare = match spare {
            Some(spare) => spare,
            None => match create_spare(disk, size) {
                Ok(spare) => spare,
                Err(e) => return (None, Err(e)),
            },
        };
        let upto = (spare.zeroed + STEP_BYTES).min(spare.size.max(spare.zeroed));
        match zero_fill(&*spare.file, spare.zeroed, upto) {
            Ok(()) => (Some(Spare { zeroed: upto.max(spare.zeroed), ..spare }), Ok(())),
            Err(e) if is_full(&e) => (Some(spare), Err(e)),
            Err(e) => {
                // A file that failed once is not built upon. Should removing it fail as well, it is
                // emptied by the next attempt.
                let _ = disk.remove(names::SPARE);
                (None, Err(e))
            }
        }
    }
}

/// Makes an empty spare.
pub(crate) fn create_spare(disk: &dyn Disk, size: u64) -> io::Result<Spare> {
    Ok(Spare { file: disk.create(names::SPARE)?, size, zeroed: 0 })
}

/// Writes zeroes and makes them durable.
pub(crate) fn zero_fill(file: &dyn DiskFile, from: u64, upto: u64) -> io::Result<()> {
    let zeroes = vec![0; upto.saturating_sub(from).min(STEP_BYTES) as usize];
    let mut at = from;
    while at < upto {
        let count = (upto - at).min(STEP_BYTES);
        file.write_at(at, &zeroes[..count as usize])?;
        at += count;
    }
    file.sync_data()
}
