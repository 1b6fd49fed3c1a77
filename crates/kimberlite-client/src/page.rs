//! Pages of events: one contiguous run of data and a few columns, in recycled buffers.

use std::fmt;
use std::sync::PoisonError;

use kimberlite_wire::block::BlockView;
use kimberlite_wire::session::Answer;
use kimberlite_wire::{Error, limit};

use crate::blocks::{Asked, check_owner};
use crate::client::StreamId;
use crate::process;
use crate::subscription::CreditGrant;
use crate::sync::Mutex;

#[cfg(all(test, shuttle))]
#[path = "page_schedules.rs"]
pub(crate) mod schedules;

/// At most this many sets of buffers wait for reuse.
const POOLED_PAGES: usize = 8;
/// At most this many bytes wait for reuse in all.
const POOLED_BYTES: usize = 32 << 20;

/// Events in order, unpacked: all their data in one run, and a column each of where they end, how
/// long they are and when they were committed. Every slice lives as long as the page; dropping it
/// recycles the buffers.
pub struct Page {
    buffers: Buffers,
    first_offset: u64,
    position: u64,
    end_offset: u64,
    /// Returned to the subscription that the page came from when the page goes.
    credit: Option<CreditGrant>,
}

impl Page {
    /// How many events the page holds.
    pub fn count(&self) -> usize {
        self.buffers.ends.len()
    }

    /// Whether it holds none: the stream's end.
    pub fn is_empty(&self) -> bool {
        self.buffers.ends.is_empty()
    }

    /// The offset of the first event; the others follow without gaps.
    pub fn first_offset(&self) -> u64 {
        self.first_offset
    }

    /// The offset after the last event: where to read on.
    pub fn next_offset(&self) -> u64 {
        self.first_offset + self.count() as u64
    }

    /// The stream's next offset when it was read; for a page of a subscription, of its start or of
    /// the page's end, whichever is larger.
    pub fn end_offset(&self) -> u64 {
        self.end_offset.max(self.next_offset())
    }

    /// The position that the page reflects; 0 for a page of a subscription.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The data of all events, one after the other.
    pub fn data(&self) -> &[u8] {
        &self.buffers.data
    }

    /// For each event where its data ends in [`Page::data`].
    pub fn ends(&self) -> &[u32] {
        &self.buffers.ends
    }

    /// For each event how many bytes it has.
    pub fn lens(&self) -> &[u32] {
        &self.buffers.lens
    }

    /// For each event when it was committed, in nanoseconds since the Unix epoch.
    pub fn timestamps(&self) -> &[u64] {
        &self.buffers.timestamps
    }

    /// The data of one event of the page, counted from 0; `None` where there is no such event.
    pub fn event(&self, index: usize) -> Option<&[u8]> {
        (index < self.count()).then(|| self.data_of(index))
    }

    /// The data of an event that the page has.
    fn data_of(&self, index: usize) -> &[u8] {
        let end = self.buffers.ends[index] as usize;
        &self.buffers.data[end - self.buffers.lens[index] as usize..end]
    }

    /// The data of each event in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.count()).map(|index| self.data_of(index))
    }

    /// Each event in order, with its offset and time.
    pub fn events(&self) -> impl ExactSizeIterator<Item = Event<'_>> {
        (0..self.count()).map(|index| Event {
            offset: self.first_offset + index as u64,
            timestamp_ns: self.buffers.timestamps[index],
            data: self.data_of(index),
        })
    }

    /// Builds the page of a read's answer and cuts it to what was asked for.
    pub(crate) fn from_read(asked: &Asked, max_bytes: u64, answer: &Answer) -> Result<Page, Error> {
        let mut builder = PageBuilder::new(asked, max_bytes);
        let (end_offset, position) = asked.check(answer, &mut |block| builder.add(block))?;
        Ok(builder.build(position, end_offset, None))
    }
}

/// One event of a page, in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its offset in the stream.
    pub offset: u64,
    /// When it was committed, in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// Its data.
    pub data: &'a [u8],
}

impl fmt::Debug for Event<'_> {
    /// Shows the shape, never the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("offset", &self.offset)
            .field("timestamp_ns", &self.timestamp_ns)
            .field("data_bytes", &self.data.len())
            .finish()
    }
}

impl fmt::Debug for Page {
    /// Shows the shape, never the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("first_offset", &self.first_offset)
            .field("count", &self.count())
            .field("data_bytes", &self.buffers.data.len())
            .finish()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if process::is_forked() {
            return;
        }
        recycle(std::mem::take(&mut self.buffers));
        if let Some(credit) = self.credit.take() {
            credit.give();
        }
    }
}

/// Takes blocks in order and copies the wanted events into a page.
pub(crate) struct PageBuilder {
    tenant_id: u64,
    stream: StreamId,
    from_offset: u64,
    next_offset: u64,
    max_events: usize,
    max_bytes: usize,
    full: bool,
    buffers: Buffers,
}

impl PageBuilder {
    fn new(asked: &Asked, max_bytes: u64) -> PageBuilder {
        let bound = limit::READ_BYTES;
        let max_bytes = if max_bytes == 0 { bound } else { max_bytes.min(bound) };
        PageBuilder {
            tenant_id: asked.tenant_id,
            stream: asked.stream,
            from_offset: asked.from_offset,
            next_offset: asked.from_offset,
            max_events: usize::try_from(asked.max_events).unwrap_or(usize::MAX),
            max_bytes: max_bytes as usize,
            full: false,
            buffers: take_buffers(),
        }
    }

    /// A builder that takes every event of every block: nothing of a subscription is left out.
    pub(crate) fn unbounded(tenant_id: u64, stream: StreamId, from_offset: u64) -> PageBuilder {
        let asked = Asked { tenant_id, stream, from_offset, max_events: u64::MAX };
        let mut builder = PageBuilder::new(&asked, 0);
        builder.max_bytes = usize::MAX;
        builder
    }

    /// The offset after the last event taken.
    pub(crate) fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// How many events the page has so far.
    pub(crate) fn count(&self) -> usize {
        self.buffers.ends.len()
    }

    /// Adds the block's events from the next offset on, as far as the bounds go. PROTOCOL where the
    /// block is of another stream or leaves a gap.
    pub(crate) fn add(&mut self, block: &BlockView<'_>) -> Result<(), Error> {
        check_owner(block, self.tenant_id, self.stream)?;
        if self.full || block.end_offset() <= self.next_offset {
            return Ok(());
        }
        if block.header.first_offset > self.next_offset {
            return Err(Error::protocol(format!(
                "the answer continues at offset {} where {} was expected",
                block.header.first_offset, self.next_offset
            )));
        }
        // Both lie within the block, so the difference is below its count.
        let first = (self.next_offset - block.header.first_offset) as usize;
        self.copy(block, first);
        Ok(())
    }

    fn copy(&mut self, block: &BlockView<'_>, first: usize) {
        let buffers = &mut self.buffers;
        let mut ends = block.ends();
        let room = self.max_events - buffers.ends.len();
        let wanted = (ends.len() - first).min(room);
        // The parser checked that the ends never fall and stay within the data.
        let start = if first == 0 { 0 } else { ends.nth(first - 1).unwrap_or(0) as usize };
        let base = buffers.data.len();
        let mut previous = start;
        buffers.ends.reserve(wanted);
        buffers.lens.reserve(wanted);
        for end in ends.take(wanted) {
            let end = end as usize;
            let total = base + (end - start);
            if total > self.max_bytes && !buffers.ends.is_empty() {
                self.full = true;
                break;
            }
            buffers.ends.push(total as u32);
            buffers.lens.push((end - previous) as u32);
            previous = end;
        }
        buffers.data.extend_from_slice(&block.data()[start..previous]);
        self.next_offset += (buffers.ends.len() - buffers.timestamps.len()) as u64;
        buffers.timestamps.resize(buffers.ends.len(), block.header.timestamp_ns);
        self.full |= buffers.ends.len() == self.max_events;
    }

    pub(crate) fn build(self, position: u64, end_offset: u64, credit: Option<CreditGrant>) -> Page {
        Page { buffers: self.buffers, first_offset: self.from_offset, position, end_offset, credit }
    }
}

/// The memory of a page.
#[derive(Default)]
struct Buffers {
    data: Vec<u8>,
    ends: Vec<u32>,
    lens: Vec<u32>,
    timestamps: Vec<u64>,
}

impl Buffers {
    fn capacity_bytes(&self) -> usize {
        self.data.capacity()
            + 4 * (self.ends.capacity() + self.lens.capacity())
            + 8 * self.timestamps.capacity()
    }

    fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
        self.lens.clear();
        self.timestamps.clear();
    }
}

/// Buffers that wait for reuse, and their bytes. Freeing a page of 100 KB to the system's allocator
/// costs several times what filling it does, because the heap is trimmed at every read.
struct Pool {
    free: Vec<Buffers>,
    bytes: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool { free: Vec::new(), bytes: 0 });

fn take_buffers() -> Buffers {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    match pool.free.pop() {
        Some(buffers) => {
            pool.bytes -= buffers.capacity_bytes();
            buffers
        }
        None => Buffers::default(),
    }
}

fn recycle(mut buffers: Buffers) {
    let bytes = buffers.capacity_bytes();
    if bytes == 0 {
        return;
    }
    buffers.clear();
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if pool.free.len() < POOLED_PAGES && pool.bytes + bytes <= POOLED_BYTES {
        pool.bytes += bytes;
        pool.free.push(buffers);
    }
    // What does not fit is freed after the lock.
}

/// Frees the buffers that wait for reuse (at most 32 MiB in the whole process).
pub fn trim_page_pool() {
    let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    pool.bytes = 0;
    let free = std::mem::take(&mut pool.free);
    drop(pool);
    drop(free);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits for reuse stays within its bounds, however many pages go at once.
    #[test]
    fn the_pool_is_bounded() {
        let large = |bytes: usize| {
            let mut builder = PageBuilder::unbounded(1, StreamId(1), 0);
            builder.buffers.data.reserve(bytes);
            builder.build(0, 0, None)
        };
        let pages: Vec<Page> = (0..40).map(|_| large(1 << 20)).collect();
        drop(pages);
        drop(large(POOLED_BYTES + 1));
        let pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(pool.free.len() <= POOLED_PAGES && pool.bytes <= POOLED_BYTES);
        assert_eq!(pool.bytes, pool.free.iter().map(Buffers::capacity_bytes).sum::<usize>());
    }
}
