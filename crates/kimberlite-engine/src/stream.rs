//! A stream as the log has it: what it is, where its blocks lie, and who waits for more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kimberlite_wire::block::{self, BLOCK_HEADER_BYTES, BlockHeader, Hash, block_len};
use kimberlite_wire::{DataClass, Error, ErrorCode, StreamInfo};

use crate::chunked::Chunked;
use crate::names::AUDIT_STREAM;
use crate::waiters::Waiters;

/// Where one block lies; 40 bytes in memory for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    pub(crate) first_offset: u64,
    pub(crate) timestamp_ns: u64,
    /// The index of its entry: the position at which it becomes visible.
    pub(crate) index: u64,
    pub(crate) segment: u32,
    /// The byte of the segment's file at which it begins.
    pub(crate) start: u32,
    pub(crate) body_len: u32,
    pub(crate) count: u32,
}

const _: () = assert!(size_of::<BlockPlace>() == 40);

impl BlockPlace {
    pub(crate) fn len(&self) -> usize {
        block_len(self.body_len as usize)
    }

    pub(crate) fn end_offset(&self) -> u64 {
        self.first_offset + u64::from(self.count)
    }

    pub(crate) fn data_bytes(&self) -> u64 {
        u64::from(self.body_len) - 4 * u64::from(self.count)
    }
}

/// What a stream is from its creation on.
#[derive(Clone, Debug)]
pub(crate) struct StreamIdentity {
    pub(crate) stream_id: u64,
    pub(crate) tenant_id: u64,
    pub(crate) name: String,
    pub(crate) data_class: DataClass,
    pub(crate) created_ns: u64,
    /// The position of its creation.
    pub(crate) created_at: u64,
}

impl StreamIdentity {
    pub(crate) fn genesis(&self) -> Hash {
        block::genesis(self.tenant_id, self.stream_id, &self.name, self.data_class)
    }
}

/// A stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) identity: StreamIdentity,
    blocks: RwLock<Blocks>,
    /// Woken after blocks were added, and when the stream ends.
    pub(crate) waiters: Waiters,
    deleted: AtomicBool,
}

/// The blocks of a stream in order, and their end.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) places: Chunked<BlockPlace>,
    pub(crate) next_offset: u64,
    pub(crate) data_bytes: u64,
    pub(crate) head: Hash,
}

impl Blocks {
    /// How many blocks were there at a position.
    pub(crate) fn count_at(&self, position: u64) -> usize {
        match self.places.last() {
            Some(last) if last.index > position => {
                self.places.partition_point(|place| place.index <= position)
            }
            _ => self.places.len(),
        }
    }

    /// The next offset where only the first `count` blocks are looked at.
    pub(crate) fn next_offset_of(&self, count: usize) -> u64 {
        let last = count.checked_sub(1).and_then(|last| self.places.get(last));
        last.map_or(0, |place| place.end_offset())
    }

    /// The number of the block that holds an offset; the count of blocks where none does.
    pub(crate) fn block_of(&self, offset: u64) -> usize {
        self.places.partition_point(|place| place.end_offset() <= offset)
    }
}

impl Stream {
    pub(crate) fn new(identity: StreamIdentity) -> Stream {
        let head = identity.genesis();
        let blocks = Blocks { places: Chunked::new(), next_offset: 0, data_bytes: 0, head };
        Stream {
            identity,
            blocks: RwLock::new(blocks),
            waiters: Waiters::default(),
            deleted: AtomicBool::new(false),
        }
    }

    /// Whether it is its tenant's audit stream.
    pub(crate) fn is_audit(&self) -> bool {
        self.identity.name == AUDIT_STREAM
    }

    /// Its blocks, to look at briefly: the commit thread waits for whoever holds this.
    pub(crate) fn blocks(&self) -> RwLockReadGuard<'_, Blocks> {
        // A writer that panicked had either added a block or not: the list is whole either way.
        self.blocks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn blocks_mut(&self) -> RwLockWriteGuard<'_, Blocks> {
        self.blocks.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a committed block. CORRUPTION where it is not the next one.
    pub(crate) fn add(
        &self,
        header: &BlockHeader,
        index: u64,
        segment: u64,
        start: u64,
    ) -> Result<(), Error> {
        let mut blocks = self.blocks_mut();
        if header.first_offset != blocks.next_offset {
            let detail = format!(
                "entry {index} holds a block at offset {} of stream {}, whose next offset is {}",
                header.first_offset, self.identity.stream_id, blocks.next_offset
            );
            return Err(Error::new(ErrorCode::Corruption, detail));
        }
        let place = |what: &str, number: u64| {
            u32::try_from(number).map_err(|_| {
                let detail = format!("the {what} of entry {index} is {number}, beyond 32 bits");
                Error::new(ErrorCode::Corruption, detail)
            })
        };
        let place = BlockPlace {
            first_offset: header.first_offset,
            timestamp_ns: header.timestamp_ns,
            index,
            segment: place("segment", segment)?,
            start: place("position", start)?,
            body_len: header.body_len,
            count: header.count,
        };
        blocks.places.push(place);
        blocks.next_offset = place.end_offset();
        blocks.data_bytes += place.data_bytes();
        blocks.head = header.chain;
        Ok(())
    }

    /// The next offset and the chain's hash.
    pub(crate) fn head(&self) -> (u64, Hash) {
        let blocks = self.blocks();
        (blocks.next_offset, blocks.head)
    }

    /// Ends it: its tenant is gone.
    pub(crate) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::SeqCst);
        self.waiters.wake_all();
    }

    /// TENANT_NOT_FOUND once its tenant is gone.
    pub(crate) fn check_alive(&self) -> Result<(), Error> {
        if self.deleted.load(Ordering::SeqCst) {
            let detail = format!("tenant {} was deleted", self.identity.tenant_id);
            return Err(Error::new(ErrorCode::TenantNotFound, detail));
        }
        Ok(())
    }

    /// What is told about it now.
    pub(crate) fn info(&self) -> StreamInfo {
        self.info_of(&self.blocks())
    }

    fn info_of(&self, blocks: &Blocks) -> StreamInfo {
        StreamInfo {
            next_offset: blocks.next_offset,
            last_timestamp_ns: blocks.places.last().map_or(0, |place| place.timestamp_ns),
            data_bytes: blocks.data_bytes,
            head: blocks.head,
            ..self.bare_info()
        }
    }

    /// What was told about it at a position. Where it has grown since, the head is not at hand: the
    /// block that holds it comes beside.
    pub(crate) fn info_at(&self, position: u64) -> (StreamInfo, Option<BlockPlace>) {
        let blocks = self.blocks();
        let count = blocks.count_at(position);
        if count == blocks.places.len() {
            return (self.info_of(&blocks), None);
        }
        let places = || blocks.places.iter_from(0).take(count);
        let last = count.checked_sub(1).and_then(|last| blocks.places.get(last));
        let info = StreamInfo {
            next_offset: blocks.next_offset_of(count),
            last_timestamp_ns: last.map_or(0, |place| place.timestamp_ns),
            data_bytes: places().map(|place| place.data_bytes()).sum(),
            head: self.identity.genesis(),
            ..self.bare_info()
        };
        (info, last)
    }

    fn bare_info(&self) -> StreamInfo {
        StreamInfo {
            stream_id: self.identity.stream_id,
            name: self.identity.name.clone(),
            data_class: self.identity.data_class.number(),
            created_ns: self.identity.created_ns,
            ..StreamInfo::default()
        }
    }
}

/// The header at the start of `bytes`, which the log's checksums vouch for.
pub(crate) fn header_at(bytes: &[u8]) -> Result<BlockHeader, Error> {
    debug_assert!(bytes.len() >= BLOCK_HEADER_BYTES);
    Ok(BlockHeader::decode(bytes)?)
}
