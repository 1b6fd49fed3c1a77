//! What a fork does to the clients that the child inherits.
//!
//! The child of a fork has copies of the sockets but none of the threads that serve them. Whoever
//! can watch forks (the C ABI does, by `pthread_atfork`) calls [`mark_forked`] in the child; from
//! then on every call fails with FORKED at once, without touching an inherited descriptor or lock, and
//! what is dropped is left alone: a lock that a thread of the parent held stays locked for ever.

use std::sync::atomic::{AtomicBool, Ordering};

use kimberlite_wire::{Error, ErrorCode};

static FORKED: AtomicBool = AtomicBool::new(false);
static USED: AtomicBool = AtomicBool::new(false);

/// Says that this process is the child of a fork. It matters only where the library was used before:
/// a process that loads it, forks and connects in the child is well off. Safe to call from a handler
/// of fork: it reads and stores a flag.
pub fn mark_forked() {
    if USED.load(Ordering::Relaxed) {
        FORKED.store(true, Ordering::Relaxed);
    }
}

/// The descriptors of the locks on folders of embedded databases that this process, or the one that
/// it was forked from, holds. A child that keeps them open keeps the folders locked beyond its
/// parent's end; it may put other files in their places. Safe to call from a handler of fork.
#[cfg(all(unix, feature = "embedded"))]
pub use kimberlite_engine::held_locks;

/// Threads, sockets or databases are there that a child would not have.
pub(crate) fn mark_used() {
    USED.store(true, Ordering::Relaxed);
}

/// Whether [`mark_forked`] was called.
pub fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

pub(crate) fn check() -> Result<(), Error> {
    if is_forked() {
        return Err(Error::new(
            ErrorCode::Forked,
            "this process was forked after Kimberlite was used in its parent",
        ));
    }
    Ok(())
}
