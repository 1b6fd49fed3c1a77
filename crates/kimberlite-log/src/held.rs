//! The descriptors of the locks that this process holds, where a handler of fork finds them.
//!
//! A lock belongs to the open file, not to the process: a forked child that keeps its copy of the
//! descriptor keeps the folder locked beyond its parent's end. The table is of atomics alone, since
//! the handler may neither allocate nor lock.

use std::sync::atomic::{AtomicI32, Ordering};

/// Locks beyond these are not in the table; their folders stay locked as long as a child lives.
const MOST_LOCKS: usize = 256;

/// A descriptor plus one, or 0.
static HELD: [AtomicI32; MOST_LOCKS] = [const { AtomicI32::new(0) }; MOST_LOCKS];

/// A descriptor's place in the table.
#[derive(Debug)]
pub(crate) struct Held(Option<&'static AtomicI32>);

impl Held {
    /// Takes note of a descriptor until this is dropped.
    pub(crate) fn new(descriptor: i32) -> Held {
        let free = |place: &&AtomicI32| {
            let taken =
                place.compare_exchange(0, descriptor + 1, Ordering::AcqRel, Ordering::Relaxed);
            taken.is_ok()
        };
        Held(HELD.iter().find(free))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(place) = self.0 {
            place.store(0, Ordering::Release);
        }
    }
}

/// The descriptors of the locks that this process, or the one that it was forked from, holds.
pub fn held_locks() -> impl Iterator<Item = i32> {
    HELD.iter().map(|place| place.load(Ordering::Acquire) - 1).filter(|descriptor| *descriptor >= 0)
}
