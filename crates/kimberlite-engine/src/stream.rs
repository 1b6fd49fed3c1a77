//! A stream as the log has it: what it is, where its blocks lie, and who waits for more.

use std::sync::PoisonError;

use kimberlite_log::{BlockPlace, LogIndex};
use kimberlite_wire::block::{self, BLOCK_HEADER_BYTES, BlockHeader, Hash};
use kimberlite_wire::{DataClass, Error, ErrorCode, StreamInfo};

use crate::names::AUDIT_STREAM;
use crate::places::LastBlock;
use crate::runs::Runs;
use crate::sync::{AtomicBool, Ordering, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::waiters::Waiters;

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

/// A stream's end, and its blocks where the log's index does not tell of them yet.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) runs: Runs,
    pub(crate) next_offset: u64,
    pub(crate) data_bytes: u64,
    pub(crate) head: Hash,
    /// Of the last block; 0 where there is none.
    pub(crate) last_timestamp_ns: u64,
    /// The position of the last block; 0 where there is none.
    pub(crate) last_index: u64,
}

impl Stream {
    pub(crate) fn new(identity: StreamIdentity) -> Stream {
        let head = identity.genesis();
        let blocks = Blocks {
            runs: Runs::default(),
            next_offset: 0,
            data_bytes: 0,
            head,
            last_timestamp_ns: 0,
            last_index: 0,
        };
        Stream::with_blocks(identity, blocks)
    }

    /// One that has blocks already.
    pub(crate) fn with_blocks(identity: StreamIdentity, blocks: Blocks) -> Stream {
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

    /// Adds a committed block; tells whether it is the stream's first in its segment. CORRUPTION
    /// where it is not the next one.
    pub(crate) fn add(
        &self,
        header: &BlockHeader,
        index: u64,
        segment: u64,
        start: u64,
    ) -> Result<bool, Error> {
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
        let is_first = blocks.runs.push(place);
        blocks.next_offset = place.end_offset();
        blocks.data_bytes += place.data_bytes();
        blocks.head = header.chain;
        (blocks.last_timestamp_ns, blocks.last_index) = (place.timestamp_ns, index);
        Ok(is_first)
    }

    /// Lets go of where blocks lie in segments up to this one: the log's index tells.
    pub(crate) fn forget_places(&self, upto_segment: u64) {
        let gone = self.blocks_mut().runs.forget(upto_segment);
        drop(gone);
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
            last_timestamp_ns: blocks.last_timestamp_ns,
            data_bytes: blocks.data_bytes,
            head: blocks.head,
            ..self.bare_info()
        }
    }

    /// What was told about it at a position. Where it has grown since, the head is not at hand: the
    /// block that holds it comes beside.
    pub(crate) fn info_at(
        &self,
        index: &LogIndex,
        position: u64,
    ) -> Result<(StreamInfo, Option<BlockPlace>), Error> {
        let genesis = StreamInfo { head: self.identity.genesis(), ..self.bare_info() };
        let last = match self.last_at(index, position)? {
            None => return Ok((genesis, None)),
            Some(LastBlock::Older(last)) => last,
            Some(LastBlock::Newest { end_offset }) => {
                let blocks = self.blocks();
                if blocks.next_offset == end_offset {
                    return Ok((self.info_of(&blocks), None));
                }
                drop(blocks);
                // It has grown just now.
                match self.last_at(index, position)? {
                    Some(LastBlock::Older(last)) => last,
                    Some(LastBlock::Newest { .. }) => return Ok((self.info(), None)),
                    None => return Ok((genesis, None)),
                }
            }
        };
        let info = StreamInfo {
            next_offset: last.end_offset(),
            last_timestamp_ns: last.timestamp_ns,
            data_bytes: self.data_bytes_before(index, last.end_offset())?,
            ..genesis
        };
        Ok((info, Some(last)))
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
