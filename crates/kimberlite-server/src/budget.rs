//! How many bytes of requests the server holds in all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that every connection draws from.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    total: usize,
}

impl Budget {
    pub(crate) fn new(total: usize) -> Arc<Budget> {
        Arc::new(Budget { used: AtomicUsize::new(0), total })
    }

    /// Takes `bytes` where they fit under `bound` of the whole.
    fn take(self: &Arc<Budget>, bytes: usize, bound: usize) -> Option<Share> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= bound);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Share { budget: self.clone(), bytes })
    }

    /// Takes room for a request that has arrived.
    pub(crate) fn request(self: &Arc<Budget>, bytes: usize) -> Option<Share> {
        self.take(bytes, self.total)
    }

    /// Takes room for a large frame of which only the header has arrived. A quarter of the whole
    /// is kept from those, so that small requests find room beside them.
    pub(crate) fn large_frame(self: &Arc<Budget>, bytes: usize) -> Option<Share> {
        self.take(bytes, self.total / 4 * 3)
    }

    /// The whole.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Bytes taken from a budget, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    /// How many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares add up to at most the whole, large frames to three quarters, and come back.
    #[test]
    fn shares_are_bounded_and_come_back() {
        let budget = Budget::new(100);
        let large = budget.large_frame(75).unwrap();
        assert!(budget.large_frame(1).is_none());
        let small = budget.request(25).unwrap();
        assert!(budget.request(1).is_none() && budget.request(usize::MAX).is_none());
        assert_eq!((large.bytes(), small.bytes(), budget.total()), (75, 25, 100));
        drop(large);
        assert_eq!(budget.used(), 25);
        drop(small);
        assert_eq!(budget.used(), 0);
    }
}
