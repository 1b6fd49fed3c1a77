//! Runs what blocks, and happens seldom, on a thread of its own: opening and closing an embedded
//! database. The two threads that serve all clients must never wait for a disk.

use std::thread;

use kimberlite_wire::{Error, ErrorCode};
use tokio::sync::oneshot;

/// Runs `work` on a thread that lives as long as it. OVERLOADED where the system refuses one; the
/// work then went with it.
pub(crate) fn offload<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<oneshot::Receiver<T>, Error> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // Whoever waited may have gone; what the work gave then goes too, on this thread.
        drop(sender.send(work()));
    };
    thread::Builder::new().name(name.to_string()).spawn(run).map(|_| receiver).map_err(|e| {
        Error::new(ErrorCode::Overloaded, format!("the thread {name} could not be started: {e}"))
    })
}
