//! What threads meet at: the standard library's, or, in tests that are built with `--cfg shuttle`,
//! what lets a test choose which thread goes on. docs/RELIABILITY.md tells how they are run.

#[cfg(not(all(test, shuttle)))]
mod chosen {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use std::sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    };
    pub(crate) use std::thread;
}

#[cfg(all(test, shuttle))]
mod chosen {
    pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    pub(crate) use shuttle::sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
    };
    pub(crate) use shuttle::thread;
}

pub(crate) use chosen::*;
