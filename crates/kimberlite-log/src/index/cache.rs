//! The parts of footers that were used last, in bounded memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::footer::{Fence, NodeId, Root, Run};
use crate::place::BlockPlace;

/// What a part takes beside its elements.
const OVERHEAD: usize = 160;

/// A part of a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Root,
    /// A chunk of runs, by its number.
    Runs(usize),
    /// By the byte at which they begin.
    Fences(u64),
    Page(u64),
    /// A page of timestamps, by its number.
    Times(usize),
}

/// A part, decoded.
#[derive(Clone, Debug)]
pub(super) enum Cached {
    Root(Arc<Root>),
    Runs(Arc<Vec<Run>>),
    Fences(Arc<Vec<Fence>>),
    Page(Arc<Vec<BlockPlace>>),
    Times(Arc<Vec<u64>>),
}

impl Cached {
    fn bytes(&self) -> usize {
        OVERHEAD
            + match self {
                Cached::Root(root) => {
                    size_of::<Root>()
                        + root.chunks.len() * 16
                        + root.times.len() * 24
                        + root.pieces.len() * 48
                }
                Cached::Runs(runs) => runs.len() * size_of::<Run>(),
                Cached::Fences(fences) => fences.len() * size_of::<Fence>(),
                Cached::Page(places) => places.len() * size_of::<BlockPlace>(),
                Cached::Times(times) => times.len() * 8,
            }
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    most_bytes: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    parts: HashMap<(NodeId, Part), Entry>,
    bytes: usize,
    uses: u64,
}

#[derive(Debug)]
struct Entry {
    cached: Cached,
    last_use: u64,
}

impl Cache {
    pub(super) fn new(most_bytes: usize) -> Cache {
        Cache { most_bytes, inner: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves at worst a wrong sum of bytes.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, node: NodeId, part: Part) -> Option<Cached> {
        let mut inner = self.lock();
        inner.uses += 1;
        let now = inner.uses;
        let entry = inner.parts.get_mut(&(node, part))?;
        entry.last_use = now;
        Some(entry.cached.clone())
    }

    pub(super) fn put(&self, node: NodeId, part: Part, cached: Cached) {
        let bytes = cached.bytes();
        let mut inner = self.lock();
        inner.uses += 1;
        let last_use = inner.uses;
        if let Some(old) = inner.parts.insert((node, part), Entry { cached, last_use }) {
            inner.bytes -= old.cached.bytes();
        }
        inner.bytes += bytes;
        if inner.bytes > self.most_bytes {
            inner.make_room(self.most_bytes / 4 * 3);
        }
    }

    /// Forgets everything of a footer.
    pub(super) fn forget(&self, node: NodeId) {
        let mut inner = self.lock();
        let gone = inner.parts.extract_if(|(of, _), _| *of == node);
        let bytes: usize = gone.map(|(_, entry)| entry.cached.bytes()).sum();
        inner.bytes -= bytes;
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.lock().bytes
    }
}

impl Inner {
    /// Drops what was used longest ago, many at a time, so that one look through all is rare.
    fn make_room(&mut self, most_bytes: usize) {
        let mut uses: Vec<(u64, usize)> =
            self.parts.values().map(|entry| (entry.last_use, entry.cached.bytes())).collect();
        uses.sort_unstable();
        let mut left = self.bytes;
        let kept = uses.iter().position(|(_, bytes)| {
            let fits = left <= most_bytes;
            left -= if fits { 0 } else { *bytes };
            fits
        });
        let since = kept.map_or(u64::MAX, |at| uses[at].0);
        self.parts.retain(|_, entry| entry.last_use >= since);
        self.bytes = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cache never holds more than it may, keeps what was used last, and forgets a footer whole.
    #[test]
    fn memory_is_bounded() {
        let cache = Cache::new(100_000);
        let times = |n: usize| Cached::Times(Arc::new(vec![0; n]));
        for number in 0..1000 {
            cache.put(NodeId::segment(1 + number % 7), Part::Times(number as usize), times(100));
            assert!(cache.bytes() <= 100_000);
            assert!(cache.get(NodeId::segment(1), Part::Times(0)).is_some(), "used all the time");
        }
        assert!(cache.get(NodeId::segment(1 + 998 % 7), Part::Times(998)).is_some());
        (1..8).for_each(|number| cache.forget(NodeId::segment(number)));
        assert_eq!(cache.bytes(), 0);
    }
}
