//! How a caller hears what became of its request.
//!
//! Telling and waking are two steps, so that the callers of a whole group are told before the first
//! of them is woken: a task that waits for many of them then finds all their answers at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::Mutex;
use crate::waiters::lock;

/// A place for one value, and the two who meet there.
pub(crate) fn channel<T>() -> (Teller<T>, Told<T>) {
    let place = Arc::new(Mutex::new(State::Open(None)));
    (Teller(Some(place.clone())), Told(place))
}

#[derive(Debug)]
enum State<T> {
    /// Nothing was told; whom to wake when it is.
    Open(Option<Waker>),
    Told(T),
    /// Whoever was to tell is gone, or the value was taken.
    Closed,
}

/// Tells a value; dropped without that, the other side hears that nothing will come.
#[derive(Debug)]
pub(crate) struct Teller<T>(Option<Arc<Mutex<State<T>>>>);

impl<T> Teller<T> {
    /// Tells it, and gives whom to wake.
    pub(crate) fn put(mut self, value: T) -> Option<Waker> {
        self.0.take().and_then(|place| settle(&place, State::Told(value)))
    }
}

impl<T> Drop for Teller<T> {
    fn drop(&mut self) {
        if let Some(waker) = self.0.take().and_then(|place| settle(&place, State::Closed)) {
            waker.wake();
        }
    }
}

fn settle<T>(place: &Mutex<State<T>>, state: State<T>) -> Option<Waker> {
    match std::mem::replace(&mut *lock(place), state) {
        State::Open(waker) => waker,
        State::Told(_) | State::Closed => None,
    }
}

/// The value, once it is told; `None` where it never will be.
#[derive(Debug)]
pub(crate) struct Told<T>(Arc<Mutex<State<T>>>);

impl<T> Future for Told<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.0);
        if let State::Open(waker) = &mut *state {
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        match std::mem::replace(&mut *state, State::Closed) {
            State::Told(value) => Poll::Ready(Some(value)),
            _ => Poll::Ready(None),
        }
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use super::*;
    use crate::wait::block_on;

    /// What is told is heard, before and after it is waited for; a teller that goes is heard too.
    #[test]
    fn values_are_heard_once() {
        let (teller, told) = channel();
        assert!(teller.put(1).is_none());
        assert_eq!(block_on(told), Some(1));
        let (teller, told) = channel();
        let other = std::thread::spawn(move || block_on(told));
        std::thread::sleep(std::time::Duration::from_millis(10));
        if let Some(waker) = teller.put(2) {
            waker.wake();
        }
        assert_eq!(other.join().unwrap(), Some(2));
        let (teller, told) = channel::<u8>();
        drop(teller);
        assert_eq!(block_on(told), None);
    }
}
