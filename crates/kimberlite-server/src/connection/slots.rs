//! The requests under way on a connection, each with a waker that tells which one to look at.
//!
//! Answers are polled inside the connection's own task: no task is spawned for a request, and a
//! wake-up costs one push onto a list. Slots and their wakers are used again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Instant;

use kimberlite_wire::Operation;

use super::streaming::Streaming;
use crate::budget::Share;
use crate::shared::{Handling, Place};

/// Which slots were woken, and whom to tell.
#[derive(Debug, Default)]
struct Woken {
    state: Mutex<WokenState>,
}

#[derive(Debug, Default)]
struct WokenState {
    slots: Vec<u32>,
    task: Option<Waker>,
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, WokenState> {
        // Nothing can panic while it is held; a poisoned lock would still hold a valid list.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct SlotWaker {
    slot: u32,
    listed: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<SlotWaker>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<SlotWaker>) {
        if self.listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut state = self.woken.lock();
        state.slots.push(self.slot);
        // Whoever made the list non-empty wakes the task; it takes the whole list.
        let task = if state.slots.len() == 1 { state.task.take() } else { None };
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// What a request is doing.
pub(super) enum Work {
    /// The engine has not answered yet.
    Waiting(Handling),
    /// The answer's payload is being sent.
    Streaming(Streaming),
}

/// A request under way.
pub(super) struct Entry {
    pub(super) request_id: u64,
    pub(super) operation: Operation,
    /// When it is answered with TIMEOUT; a subscription that has begun has none.
    pub(super) deadline: Option<Instant>,
    /// When it arrived.
    pub(super) started: Instant,
    /// Its place among the requests of the server, and among the subscriptions where it is one.
    pub(super) _place: Place,
    pub(super) subscription: Option<Place>,
    /// Payload bytes that may be sent.
    pub(super) credit: u64,
    /// The room that the request takes; given back once the engine has answered.
    pub(super) share: Option<Share>,
    pub(super) work: Work,
    /// Whether it stands in the queue of answers that have something to send.
    pub(super) queued: bool,
}

struct Slot {
    flag: Arc<SlotWaker>,
    waker: Waker,
    entry: Option<Entry>,
}

/// The requests under way.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: HashMap<u64, u32>,
    woken: Arc<Woken>,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn find(&self, request_id: u64) -> Option<u32> {
        self.by_id.get(&request_id).copied()
    }

    /// Adds a request; its id must not be under way.
    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| self.grow());
        self.by_id.insert(entry.request_id, slot);
        self.slots[slot as usize].entry = Some(entry);
        slot
    }

    fn grow(&mut self) -> u32 {
        // At most limit::INFLIGHT_REQUESTS are under way.
        let slot = self.slots.len() as u32;
        let woken = self.woken.clone();
        let flag = Arc::new(SlotWaker { slot, listed: AtomicBool::new(false), woken });
        let waker = Waker::from(flag.clone());
        self.slots.push(Slot { flag, waker, entry: None });
        slot
    }

    /// The request in a slot, if there still is one, with its waker.
    pub(super) fn get_mut(&mut self, slot: u32) -> Option<(&mut Entry, &Waker)> {
        let slot = self.slots.get_mut(slot as usize)?;
        Some((slot.entry.as_mut()?, &slot.waker))
    }

    /// Takes a request out.
    pub(super) fn remove(&mut self, slot: u32) -> Option<Entry> {
        let entry = self.slots.get_mut(slot as usize)?.entry.take()?;
        self.by_id.remove(&entry.request_id);
        self.free.push(slot);
        Some(entry)
    }

    /// The slots of all requests that `wanted` accepts.
    pub(super) fn select(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<u32> {
        let live = self.by_id.values().copied();
        live.filter(|slot| self.slots[*slot as usize].entry.as_ref().is_some_and(&wanted)).collect()
    }

    /// Every request under way.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().filter_map(|slot| slot.entry.as_ref())
    }

    /// Moves the woken slots to the end of `out` and sees to it that the task is woken for later
    /// ones.
    pub(super) fn take_woken(&mut self, cx: &Context<'_>, out: &mut Vec<u32>) {
        let start = out.len();
        let mut state = self.woken.lock();
        out.append(&mut state.slots);
        if !state.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        drop(state);
        for slot in &out[start..] {
            // Cleared before the slot is polled, so that no later wake-up is lost.
            self.slots[*slot as usize].flag.listed.store(false, Ordering::Release);
        }
    }
}
