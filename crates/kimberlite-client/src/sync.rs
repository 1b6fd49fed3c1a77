//! What threads meet at: the standard library's, or, in tests that are built with `--cfg shuttle`,
//! what lets a test choose which thread goes on. docs/RELIABILITY.md tells how they are run.

#[cfg(not(all(test, shuttle)))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(all(test, shuttle))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
