//! Tasks that wait for something to change.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::task::Waker;

use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// Locks; a panic of another holder leaves these tables in a usable state, each change being one
/// insertion or removal.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The wakers of those who wait. One registers, then looks again whether what it waits for has
/// happened; who makes it happen does so under a lock that the other looks under, then wakes.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    armed: AtomicBool,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    next: u64,
    wakers: HashMap<u64, Waker>,
}

/// One waiter's place among [`Waiters`]; the waiter removes it when it goes.
#[derive(Debug, Default)]
pub(crate) struct Slot(Option<u64>);

impl Waiters {
    /// Remembers to wake this waker, instead of the slot's earlier one.
    pub(crate) fn register(&self, slot: &mut Slot, waker: &Waker) {
        let mut slots = lock(&self.slots);
        let id = *slot.0.get_or_insert_with(|| {
            slots.next += 1;
            slots.next
        });
        match slots.wakers.get_mut(&id) {
            Some(present) => present.clone_from(waker),
            None => drop(slots.wakers.insert(id, waker.clone())),
        }
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Forgets the slot's waker.
    pub(crate) fn remove(&self, slot: &mut Slot) {
        if let Some(id) = slot.0.take() {
            lock(&self.slots).wakers.remove(&id);
        }
    }

    /// Wakes everybody once.
    pub(crate) fn wake_all(&self) {
        if !self.armed.load(Ordering::SeqCst) {
            return;
        }
        let woken = {
            let mut slots = lock(&self.slots);
            self.armed.store(false, Ordering::SeqCst);
            std::mem::take(&mut slots.wakers)
        };
        woken.into_values().for_each(Waker::wake);
    }
}
