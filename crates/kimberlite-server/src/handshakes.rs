//! The connections that have not authenticated yet. When there are too many, the oldest goes: a
//! client that means it needs milliseconds, so that strangers who hold connections and say nothing
//! only push each other out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The connections that have not authenticated yet.
#[derive(Debug)]
pub(crate) struct Handshakes {
    bound: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    /// By age, the oldest first.
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Handshake {
    of: Arc<Handshakes>,
    number: u64,
    pushed_out: Arc<Notify>,
}

impl Handshakes {
    pub(crate) fn new(bound: usize) -> Arc<Handshakes> {
        Arc::new(Handshakes { bound, inner: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing can panic while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a new one. The second tells whether the oldest had to go for it.
    pub(crate) fn enter(self: &Arc<Handshakes>) -> (Handshake, bool) {
        let mut inner = self.lock();
        let number = inner.next;
        inner.next += 1;
        let oldest =
            if inner.waiting.len() >= self.bound { inner.waiting.pop_first() } else { None };
        let pushed_out = Arc::new(Notify::new());
        inner.waiting.insert(number, pushed_out.clone());
        drop(inner);
        let pushed = oldest.is_some();
        if let Some((_, oldest)) = oldest {
            // Kept for it where it does not wait yet.
            oldest.notify_one();
        }
        (Handshake { of: self.clone(), number, pushed_out }, pushed)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }
}

impl Handshake {
    /// Waits until a newer one takes its place.
    pub(crate) async fn pushed_out(&self) {
        self.pushed_out.notified().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.of.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oldest goes first, even where it does not wait to be told yet; who has left makes room.
    #[tokio::test]
    async fn the_oldest_goes() {
        let handshakes = Handshakes::new(2);
        let (first, pushed) = handshakes.enter();
        let (second, _) = handshakes.enter();
        assert!(!pushed && handshakes.len() == 2);
        let (third, pushed) = handshakes.enter();
        assert!(pushed && handshakes.len() == 2);
        first.pushed_out().await;
        drop(second);
        assert_eq!(handshakes.len(), 1);
        let (_fourth, pushed) = handshakes.enter();
        assert!(!pushed);
        let (_fifth, pushed) = handshakes.enter();
        assert!(pushed);
        third.pushed_out().await;
    }
}
