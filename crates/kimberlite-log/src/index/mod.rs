//! Finds blocks by offset, time and position through the footers of complete segments.
//!
//! What the footers tell is only asked for segments up to the covered one; of later segments the
//! database itself knows where the blocks lie. A footer that is missing or damaged is made anew
//! when it is needed: the segment's bytes decide, never the footer alone.

mod cache;
mod lookup;
mod repair;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use kimberlite_wire::Error;

use crate::facts::SegmentFacts;
use crate::files::SegmentFiles;
use crate::footer::{Fence, Key, MAX_LEVEL, NodeId, PAGE_TIMES, key};
use crate::format::LogIdentity;
use crate::place::BlockPlace;
use cache::Cache;
use lookup::Looked;
pub(crate) use repair::STEP_BYTES;

/// The index of a log's complete segments. Cheap to clone; safe from every thread.
#[derive(Clone, Debug)]
pub struct LogIndex {
    pub(crate) shared: Arc<Shared>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) files: Arc<SegmentFiles>,
    pub(crate) identity: LogIdentity,
    cache: Cache,
    sealed: RwLock<Vec<SegmentFacts>>,
    /// Footers of higher levels that are there.
    merged: Mutex<BTreeSet<NodeId>>,
    /// The fewest footers that cover everything, the newest first.
    forest: RwLock<Arc<Vec<NodeId>>>,
    covered: AtomicU64,
    /// Held by whoever makes a footer because it was needed.
    repairing: Mutex<()>,
    /// Footers that could not be written, for now.
    loose: Mutex<HashMap<u64, Arc<Vec<u8>>>>,
}

/// The places of some blocks of a stream that follow each other.
#[derive(Clone, Debug)]
pub struct PlacePage {
    places: Arc<Vec<BlockPlace>>,
    stream_id: u64,
    node: NodeId,
    fences: Arc<Vec<Fence>>,
    at: usize,
}

impl PlacePage {
    /// The places, in order; at least one.
    pub fn places(&self) -> &[BlockPlace] {
        &self.places
    }

    /// Whether it has the block of this offset.
    pub fn holds(&self, stream_id: u64, offset: u64) -> bool {
        let (first, last) = (self.places.first(), self.places.last());
        self.stream_id == stream_id
            && first.is_some_and(|first| first.first_offset <= offset)
            && last.is_some_and(|last| offset < last.end_offset())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is valid by itself after every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogIndex {
    pub(crate) fn new(
        files: Arc<SegmentFiles>,
        identity: LogIdentity,
        sealed: Vec<SegmentFacts>,
        merged: BTreeSet<NodeId>,
        cache_bytes: usize,
    ) -> LogIndex {
        let shared = Shared {
            files,
            identity,
            cache: Cache::new(cache_bytes),
            sealed: RwLock::new(sealed),
            merged: Mutex::new(merged),
            forest: RwLock::default(),
            covered: AtomicU64::new(0),
            repairing: Mutex::default(),
            loose: Mutex::default(),
        };
        LogIndex { shared: Arc::new(shared) }
    }

    /// The last segment that is covered: blocks up to its end are found here.
    pub fn covered(&self) -> u64 {
        self.shared.covered()
    }

    /// The page with the block that holds an offset of a stream; `None` where no covered segment
    /// has one. `near` is a page that is likely the one before, after or the same.
    pub fn page_of(
        &self,
        stream_id: u64,
        offset: u64,
        near: Option<&PlacePage>,
    ) -> Result<Option<PlacePage>, Error> {
        if let Some(near) = near {
            if near.holds(stream_id, offset) {
                return Ok(Some(near.clone()));
            }
            if let Some(page) = self.shared.beside(near, stream_id, offset) {
                return Ok(Some(page));
            }
        }
        let found = self.shared.last_where(stream_id, &|key| key.first_offset <= offset)?;
        Ok(found.map(|found| found.page).filter(|page| page.holds(stream_id, offset)))
    }

    /// The last block of a stream that was visible at a position; `None` where no covered segment
    /// has one.
    pub fn last_at(&self, stream_id: u64, position: u64) -> Result<Option<BlockPlace>, Error> {
        let found = self.shared.last_where(stream_id, &|key| key.index <= position)?;
        Ok(found.and_then(|found| found.place()))
    }

    /// The last block of a stream from before a time; `None` where no covered segment has one.
    pub fn last_before(
        &self,
        stream_id: u64,
        timestamp_ns: u64,
    ) -> Result<Option<BlockPlace>, Error> {
        let found = self.shared.last_where(stream_id, &|key| key.timestamp_ns < timestamp_ns)?;
        Ok(found.and_then(|found| found.place()))
    }

    /// How many bytes the events of a stream have in the blocks that begin before an offset, in
    /// covered segments.
    pub fn data_bytes_before(&self, stream_id: u64, offset: u64) -> Result<u64, Error> {
        self.shared.data_bytes_before(stream_id, offset)
    }

    /// The last entry with at most this timestamp, in covered segments; 0 where there is none.
    pub fn position_at(&self, timestamp_ns: u64) -> Result<u64, Error> {
        let covered = self.covered() as usize;
        let (before, of) = {
            let sealed = self.shared.sealed.read().unwrap_or_else(PoisonError::into_inner);
            let sealed = &sealed[..covered.min(sealed.len())];
            let at = sealed.partition_point(|facts| facts.last_timestamp_ns <= timestamp_ns);
            let before = at.checked_sub(1).map_or(0, |at| sealed[at].last_index);
            (before, sealed.get(at).map(|facts| (at as u64 + 1, facts.first_index)))
        };
        let Some((segment, first_index)) = of else { return Ok(before) };
        let within = self.shared.entries_until(segment, timestamp_ns)?;
        Ok(if within == 0 { before } else { first_index + within - 1 })
    }
}

/// A block that was looked for.
pub(crate) struct Found {
    page: PlacePage,
    at: usize,
}

impl Found {
    fn place(&self) -> Option<BlockPlace> {
        self.page.places.get(self.at).copied()
    }
}

impl Shared {
    pub(crate) fn covered(&self) -> u64 {
        self.covered.load(Ordering::Acquire)
    }

    /// From now on, segments up to this one are looked up here.
    pub(crate) fn cover(&self, segment: u64) {
        self.covered.fetch_max(segment, Ordering::AcqRel);
        self.plant();
    }

    /// What is known of a complete segment.
    pub(crate) fn facts(&self, segment: u64) -> Option<SegmentFacts> {
        let sealed = self.sealed.read().unwrap_or_else(PoisonError::into_inner);
        sealed.get(usize::try_from(segment.checked_sub(1)?).ok()?).copied()
    }

    /// How many segments are complete.
    pub(crate) fn sealed(&self) -> u64 {
        self.sealed.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// How many bytes the segments have that are complete and not covered.
    pub(crate) fn uncovered_bytes(&self) -> u64 {
        let covered = self.covered() as usize;
        let sealed = self.sealed.read().unwrap_or_else(PoisonError::into_inner);
        sealed.get(covered..).unwrap_or_default().iter().map(|facts| facts.end).sum()
    }

    /// What is known of the first segments.
    pub(crate) fn all_facts(&self, upto: u64) -> Vec<SegmentFacts> {
        let sealed = self.sealed.read().unwrap_or_else(PoisonError::into_inner);
        sealed.iter().take(upto as usize).copied().collect()
    }

    /// Adds the segment that was completed next.
    pub(crate) fn add_sealed(&self, facts: SegmentFacts) {
        self.sealed.write().unwrap_or_else(PoisonError::into_inner).push(facts);
    }

    /// A footer of a higher level is there.
    pub(crate) fn add_merged(&self, node: NodeId) {
        self.cache.forget(node);
        self.files.close_footer(node);
        lock(&self.merged).insert(node);
        self.plant();
    }

    /// A footer of a higher level is not there, or no good; nor are those that lead to it.
    pub(crate) fn drop_merged(&self, node: NodeId) {
        let first = *node.segments().start();
        let leads = |above: &NodeId| above.level >= node.level && above.segments().contains(&first);
        let gone: Vec<NodeId> = lock(&self.merged).iter().copied().filter(leads).collect();
        for node in gone {
            lock(&self.merged).remove(&node);
            self.cache.forget(node);
            self.files.close_footer(node);
        }
        self.plant();
    }

    /// The footers of higher levels that all segments up to the covered one allow and that are not
    /// there, the lowest level first.
    pub(crate) fn unmerged(&self) -> Option<NodeId> {
        let covered = self.covered();
        let merged = lock(&self.merged);
        for level in 1..=MAX_LEVEL {
            let complete = covered / NodeId { level, number: 1 }.segments().end();
            let there = merged.iter().filter(|n| n.level == level && n.number <= complete).count();
            if (there as u64) < complete {
                let mut numbers = 1..=complete;
                let missing = numbers.find(|n| !merged.contains(&NodeId { level, number: *n }));
                return missing.map(|number| NodeId { level, number });
            }
        }
        None
    }

    /// Chooses the fewest footers that cover everything.
    fn plant(&self) {
        let merged = lock(&self.merged);
        let mut forest = Vec::new();
        let mut last = self.covered();
        while last > 0 {
            let mut node = NodeId::segment(last);
            while let Some(above) = node.completes().filter(|above| merged.contains(above)) {
                node = above;
            }
            last = node.segments().start() - 1;
            forest.push(node);
        }
        *self.forest.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(forest);
    }

    fn forest(&self) -> Arc<Vec<NodeId>> {
        Arc::clone(&self.forest.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The page that begins or ends where this one ends or begins, where that is in the same
    /// segment and has the offset.
    fn beside(&self, near: &PlacePage, stream_id: u64, offset: u64) -> Option<PlacePage> {
        if near.stream_id != stream_id {
            return None;
        }
        let before = near.places.first().is_some_and(|first| offset < first.first_offset);
        let at = if before { near.at.checked_sub(1)? } else { near.at + 1 };
        let fence = near.fences.get(at)?;
        let places = self.page(near.node, fence).ok()?;
        let page = PlacePage { places, at, fences: Arc::clone(&near.fences), ..near.clone() };
        page.holds(stream_id, offset).then_some(page)
    }

    fn last_where(
        &self,
        stream_id: u64,
        holds: &dyn Fn(&Key) -> bool,
    ) -> Result<Option<Found>, Error> {
        self.repaired(|| {
            for node in self.forest().iter() {
                if let Some(found) = self.last_in(*node, stream_id, holds)? {
                    return Ok(Some(found));
                }
            }
            Ok(None)
        })
    }

    fn last_in(
        &self,
        node: NodeId,
        stream_id: u64,
        holds: &dyn Fn(&Key) -> bool,
    ) -> Looked<Option<Found>> {
        let Some(run) = self.run(node, stream_id)?.filter(|run| holds(&run.first)) else {
            return Ok(None);
        };
        let fences = self.fences(node, &run)?;
        let after = fences.partition_point(|fence| holds(&fence.first));
        // The run's first key is that of its first fence.
        let at = after.checked_sub(1).ok_or(node)?;
        if node.level > 0 {
            let child = NodeId { level: node.level - 1, number: fences[at].at };
            return self.last_in(child, stream_id, holds);
        }
        let places = self.page(node, &fences[at])?;
        let within = places.partition_point(|place| holds(&key(place)));
        let within = within.checked_sub(1).ok_or(node)?;
        let page = PlacePage { places, stream_id, node, fences, at };
        Ok(Some(Found { page, at: within }))
    }

    fn data_bytes_before(&self, stream_id: u64, offset: u64) -> Result<u64, Error> {
        self.repaired(|| {
            let mut sum = 0;
            let mut whole = false;
            for node in self.forest().iter() {
                match self.run(*node, stream_id)?.filter(|run| run.first.first_offset < offset) {
                    // All older ones end before this one begins.
                    Some(run) if whole => sum += run.data_bytes,
                    Some(_) => {
                        whole = true;
                        sum += self.data_bytes_in(*node, stream_id, offset)?;
                    }
                    None => {}
                }
            }
            Ok(sum)
        })
    }

    fn data_bytes_in(&self, node: NodeId, stream_id: u64, offset: u64) -> Looked<u64> {
        let Some(run) = self.run(node, stream_id)? else { return Ok(0) };
        let fences = self.fences(node, &run)?;
        let after = fences.partition_point(|fence| fence.first.first_offset < offset);
        let Some(at) = after.checked_sub(1) else { return Ok(0) };
        let fence = &fences[at];
        if node.level > 0 {
            let child = NodeId { level: node.level - 1, number: fence.at };
            return Ok(fence.data_before + self.data_bytes_in(child, stream_id, offset)?);
        }
        let places = self.page(node, fence)?;
        let within = places.iter().take_while(|place| place.first_offset < offset);
        Ok(fence.data_before + within.map(BlockPlace::data_bytes).sum::<u64>())
    }

    /// How many entries of a segment have at most this timestamp.
    fn entries_until(&self, segment: u64, timestamp_ns: u64) -> Result<u64, Error> {
        let node = NodeId::segment(segment);
        self.repaired(|| {
            let root = self.root(node)?;
            let after =
                root.times.partition_point(|fence| fence.first_timestamp_ns <= timestamp_ns);
            let Some(page) = after.checked_sub(1) else { return Ok(0) };
            let times = self.times(node, page)?;
            let within = times.partition_point(|time| *time <= timestamp_ns);
            Ok((page * PAGE_TIMES + within) as u64)
        })
    }
}
