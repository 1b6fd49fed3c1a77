//! Commits on the caller's own thread. Where there is no disk, a small append takes a few
//! microseconds, and waking another thread for it many times as long. Where there is one, waking the
//! commit thread and being woken by it take a good part of what the disk takes.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::core::Core;
use crate::job::Job;
use crate::options::Storage;
use crate::state::closed;
use crate::waiters::lock;

/// So often a caller also commits what others have queued meanwhile; then the commit thread does.
const MAX_ROUNDS: usize = 4;

/// Commits a job that [`crate::queue::Queue::push_or_enter`] gave back, and tells what became of it.
pub(crate) fn commit(core: &Core, job: Job) {
    let mut jobs = VecDeque::from([job]);
    let done = catch_unwind(AssertUnwindSafe(|| commit_all(core, &mut jobs)));
    if let Err(panic) = done {
        drop(lock(&core.seat).take());
        core.end(Some(&*panic));
    }
}

fn commit_all(core: &Core, jobs: &mut VecDeque<Job>) {
    let has_disk = !matches!(core.options.storage, Storage::Memory);
    // One that waits for a disk does not wait for others' turns as well.
    let rounds = if has_disk { 1 } else { MAX_ROUNDS };
    let mut seated = lock(&core.seat);
    for round in 1.. {
        match seated.as_mut() {
            Some(committer) if committer.has_room(jobs) && (!has_disk || committer.is_calm()) => {
                while !jobs.is_empty() {
                    committer.commit_some(jobs);
                }
            }
            Some(_) => return drop(core.queue.leave(false, std::mem::take(jobs))),
            None => {
                let end = core.queue.end().unwrap_or_else(closed);
                jobs.drain(..).for_each(|job| job.reply.send(Err(end.clone())));
            }
        }
        match core.queue.leave(round < rounds, VecDeque::new()) {
            Some(more) => *jobs = more,
            None => return,
        }
    }
}
