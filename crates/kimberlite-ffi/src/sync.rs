//! What threads meet at: the standard library's, or, in tests that are built with `--cfg shuttle`,
//! what lets a test choose which thread goes on. docs/RELIABILITY.md tells how they are run.

#[cfg(not(all(test, shuttle)))]
mod chosen {
    pub(crate) use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use std::thread::{Builder, ThreadId, current};
    pub(crate) use std::thread_local;

    /// A call of the system, in which any other thread may overtake.
    #[inline]
    pub(crate) fn system_call() {}
}

#[cfg(all(test, shuttle))]
mod chosen {
    pub(crate) use shuttle::sync::atomic::{AtomicU8, AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard, RwLock};
    pub(crate) use shuttle::thread::{Builder, ThreadId, current};
    pub(crate) use shuttle::thread_local;

    static PLACE: AtomicU8 = AtomicU8::new(0);

    /// A call of the system, in which any other thread may overtake.
    pub(crate) fn system_call() {
        PLACE.load(Ordering::SeqCst);
    }
}

pub(crate) use chosen::*;
