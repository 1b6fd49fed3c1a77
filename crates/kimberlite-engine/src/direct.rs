//! Commits on the caller's own thread. Where there is no disk, a small append takes a few
//! microseconds, and waking another thread for it many times as long.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::core::Core;
use crate::job::Job;
use crate::state::closed;
use crate::waiters::lock;

/// So often a caller also commits what others have queued meanwhile; then the commit thread does.
const MAX_ROUNDS: usize = 4;

/// Commits a job that [`crate::queue::Queue::push_or_enter`] gave back, and tells what became of it.
pub(crate) fn commit(core: &Core, job: Job) {
    let mut jobs = VecDeque::from([job]);
    let done = catch_unwind(AssertUnwindSafe(|| {
        let mut seated = lock(&core.seat);
        for round in 1.. {
            match seated.as_mut() {
                Some(committer) if committer.has_room(&jobs) => {
                    while !jobs.is_empty() {
                        committer.commit_some(&mut jobs);
                    }
                }
                Some(_) => return drop(core.queue.leave(false, std::mem::take(&mut jobs))),
                None => {
                    let end = core.queue.end().unwrap_or_else(closed);
                    jobs.drain(..).for_each(|job| job.reply.send(Err(end.clone())));
                }
            }
            match core.queue.leave(round < MAX_ROUNDS, VecDeque::new()) {
                Some(more) => jobs = more,
                None => return,
            }
        }
    }));
    if let Err(panic) = done {
        drop(lock(&core.seat).take());
        core.end(Some(&*panic));
    }
}
