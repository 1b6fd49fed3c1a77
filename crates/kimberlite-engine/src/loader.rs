//! Reads blocks from the log.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kimberlite_log::{BlockPlace, LogIndex, LogReader};
use kimberlite_wire::{Error, ErrorCode};

use crate::buffers::Buffers;
use crate::places::Near;
use crate::stream::Stream;

/// Blocks that lie no further apart than this are read by one call: copying the gap away is cheaper
/// than another call.
const MAX_GAP_BYTES: u32 = 4 << 10;

/// Reads blocks of any stream; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    log: LogReader,
    buffers: Arc<Buffers>,
}

impl Loader {
    pub(crate) fn new(log: LogReader) -> Loader {
        Loader { log, buffers: Arc::default() }
    }

    /// Where blocks lie that are told of nowhere else.
    pub(crate) fn index(&self) -> &LogIndex {
        self.log.index()
    }

    /// The blocks of a list, whole and together.
    pub(crate) fn load(&self, places: &[BlockPlace]) -> Result<Bytes, Error> {
        let bytes = places.iter().map(BlockPlace::len).sum();
        self.buffers.fill(bytes, |buffer| self.fill(places, buffer))
    }

    /// Bytes of one block.
    pub(crate) fn load_part(&self, place: &BlockPlace, part: Range<usize>) -> Result<Bytes, Error> {
        let start = u64::from(place.start) + part.start as u64;
        self.buffers.fill(part.len(), |buffer| {
            self.log.read_at(u64::from(place.segment), start, &mut buffer[..part.len()])?;
            Ok(part.len())
        })
    }

    fn fill(&self, places: &[BlockPlace], buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        let mut rest = places;
        while let Some(first) = rest.first() {
            let (count, span) = dense_run(rest, buffer.len() - filled);
            let into = &mut buffer[filled..filled + span];
            self.log.read_at(u64::from(first.segment), u64::from(first.start), into)?;
            let base = filled;
            for place in &rest[..count] {
                let at = base + (place.start - first.start) as usize;
                if at != filled {
                    buffer.copy_within(at..at + place.len(), filled);
                }
                filled += place.len();
            }
            rest = &rest[count..];
        }
        Ok(filled)
    }
}

/// How many of the first blocks one read of at most `room` bytes takes, and how many bytes it is.
fn dense_run(places: &[BlockPlace], room: usize) -> (usize, usize) {
    let Some(first) = places.first() else { return (0, 0) };
    let (mut count, mut span) = (1, first.len());
    for place in &places[1..] {
        let end = first.start as usize + span;
        let gap = (place.start as usize).checked_sub(end);
        let near = gap.is_some_and(|gap| gap <= MAX_GAP_BYTES as usize);
        if place.segment != first.segment || !near {
            break;
        }
        let longer = (place.start - first.start) as usize + place.len();
        if longer > room {
            break;
        }
        (count, span) = (count + 1, longer);
    }
    (count, span)
}

/// Walks over a stream's blocks in chunks of bytes.
#[derive(Debug)]
pub(crate) struct BlockCursor {
    stream: Arc<Stream>,
    loader: Loader,
    near: Near,
    /// An offset of the block under way.
    next: u64,
    /// How many of its bytes were given out.
    given: usize,
}

/// A chunk and the offsets of the blocks that it has bytes of.
pub(crate) struct Chunk {
    pub(crate) bytes: Bytes,
    pub(crate) first_offset: u64,
    pub(crate) end_offset: u64,
}

impl BlockCursor {
    pub(crate) fn new(stream: Arc<Stream>, loader: Loader, from_offset: u64) -> BlockCursor {
        BlockCursor { stream, loader, near: None, next: from_offset, given: 0 }
    }

    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub(crate) fn loader(&self) -> &Loader {
        &self.loader
    }

    /// Whether it stands between two blocks.
    pub(crate) fn is_between_blocks(&self) -> bool {
        self.given == 0
    }

    /// Whether there is something left to give out before the offset `end`.
    pub(crate) fn is_before(&self, end: u64) -> bool {
        self.next < end
    }

    /// The next bytes, at most `max_bytes`, of the blocks that begin before the offset `end`; none
    /// where there are none.
    pub(crate) fn next(&mut self, end: u64, max_bytes: usize) -> Result<Option<Chunk>, Error> {
        let max_bytes = max_bytes.max(1);
        // The lock is not held while the disk is read.
        let range = self.next..end;
        let places = self.loader.gather(&self.stream, &mut self.near, range, max_bytes)?;
        let (Some(first), Some(last)) = (places.first(), places.last()) else {
            return Ok(None);
        };
        let first_offset = first.first_offset;
        if self.given > 0 || first.len() > max_bytes {
            let part_end = first.len().min(self.given + max_bytes);
            let bytes = self.loader.load_part(first, self.given..part_end)?;
            let whole = part_end == first.len();
            self.next = if whole { first.end_offset() } else { first_offset };
            self.given = if whole { 0 } else { part_end };
            return Ok(Some(Chunk { bytes, first_offset, end_offset: first.end_offset() }));
        }
        let mut end_offset = last.end_offset();
        let bytes = match self.loader.load(&places) {
            // Only what is damaged is to be missing: the intact blocks before it are given first.
            Err(error) if error.code == ErrorCode::Corruption && places.len() > 1 => {
                end_offset = first.end_offset();
                self.loader.load(std::slice::from_ref(first))?
            }
            bytes => bytes?,
        };
        self.next = end_offset;
        Ok(Some(Chunk { bytes, first_offset, end_offset }))
    }
}

impl Loader {
    /// The first blocks that hold offsets of a range and fit into `max_bytes`, at least one where
    /// the range has any.
    pub(crate) fn gather(
        &self,
        stream: &Stream,
        near: &mut Near,
        offsets: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<BlockPlace>, Error> {
        let mut bytes = 0;
        let mut places = Vec::new();
        stream.walk(self.index(), near, offsets.start, offsets.end, |place| {
            bytes += place.len();
            let fits = places.is_empty() || bytes <= max_bytes;
            if fits {
                places.push(*place);
            }
            fits && bytes < max_bytes
        })?;
        Ok(places)
    }

    /// The block that holds an offset and those before it that fit into `max_bytes`, in ascending
    /// order, at least one.
    pub(crate) fn gather_back(
        &self,
        stream: &Stream,
        near: &mut Near,
        offset: u64,
        max_bytes: usize,
    ) -> Result<Vec<BlockPlace>, Error> {
        let mut bytes = 0;
        let mut places = Vec::new();
        stream.walk_back(self.index(), near, offset, |place| {
            bytes += place.len();
            let fits = places.is_empty() || bytes <= max_bytes;
            if fits {
                places.push(*place);
            }
            fits && bytes < max_bytes
        })?;
        places.reverse();
        Ok(places)
    }
}
