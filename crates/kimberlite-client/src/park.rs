//! Waits for a future by parking the calling thread.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// One thread's parking place.
struct Parker {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Parker {
    fn wake(self: Arc<Parker>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Parker>) {
        if !self.woken.swap(true, Ordering::Release) {
            self.thread.unpark();
        }
    }
}

impl Parker {
    fn new() -> Arc<Parker> {
        Arc::new(Parker { thread: thread::current(), woken: AtomicBool::new(false) })
    }
}

thread_local! {
    /// This thread's parking place while no wait uses it: a wait inside a wait must not take the
    /// outer one's wake-ups, so it makes a place of its own.
    static PLACE: Cell<Option<(Arc<Parker>, Waker)>> = const { Cell::new(None) };
    /// What this thread polls is waited for by it alone.
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// Takes back that the thread waits, after a panic too.
struct Waiting(bool);

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITS.set(self.0);
    }
}

/// Whether the thread does nothing else until what it polls at the moment is done.
#[cfg(feature = "embedded")]
pub(crate) fn waits() -> bool {
    WAITS.try_with(Cell::get).unwrap_or(false)
}

/// Runs a future to its end on this thread, parked while there is nothing to do. It needs no
/// runtime and disturbs none that the thread belongs to.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let future = pin!(future);
    // A thread that is being torn down has lost its locals; a fresh place serves it as well.
    let (parker, waker) = PLACE.try_with(Cell::take).ok().flatten().unwrap_or_else(|| {
        let parker = Parker::new();
        (Arc::clone(&parker), Waker::from(parker))
    });
    let output = run(&parker, &waker, future);
    let _ = PLACE.try_with(|place| place.set(Some((parker, waker))));
    output
}

fn run<F: Future>(parker: &Parker, waker: &Waker, mut future: Pin<&mut F>) -> F::Output {
    let mut context = Context::from_waker(waker);
    loop {
        let waiting = Waiting(WAITS.replace(true));
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        drop(waiting);
        while !parker.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A future that is woken from another thread ends the wait, and so does one that is ready.
    #[test]
    fn waits_for_another_thread() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let other = thread::spawn(move || {
            thread::sleep(std::time::Duration::from_millis(20));
            sender.send(7)
        });
        assert_eq!(block_on(receiver), Ok(7));
        assert_eq!(block_on(async { 8 }), 8);
        assert_eq!(other.join().ok(), Some(Ok(())));
    }

    /// A wait inside a wait (a future that blocks within its poll) loses no wake-up.
    #[test]
    fn nests() {
        let outer = async {
            let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
            drop(sender);
            let inner = block_on(async { receiver.await.is_err() });
            let (sender, receiver) = tokio::sync::oneshot::channel();
            thread::spawn(move || sender.send(inner));
            receiver.await
        };
        assert_eq!(block_on(outer), Ok(true));
    }
}
