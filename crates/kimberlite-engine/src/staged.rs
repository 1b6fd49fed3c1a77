//! What a group of requests has decided and the log does not hold yet. Dropped where the group
//! fails, so that the applied state needs no undoing.

use std::collections::{HashMap, HashSet};

use kimberlite_wire::block::{BlockDraft, Hash, content_hash, write_block};
use kimberlite_wire::{DataClass, EventBatch};

use crate::blocks;
use crate::producers::Outcome;

/// A stream's end within a group.
#[derive(Debug)]
pub(crate) struct StagedStream {
    pub(crate) tenant_id: u64,
    pub(crate) stream_id: u64,
    pub(crate) is_audit: bool,
    pub(crate) next_offset: u64,
    head: Hash,
    /// Small requests that wait to share a block.
    waiting: Vec<EventBatch>,
    waiting_bytes: usize,
    waiting_count: u32,
    /// Whether the entry under way lists it among its streams.
    pub(crate) listed: bool,
}

impl StagedStream {
    pub(crate) fn new(
        tenant_id: u64,
        stream_id: u64,
        is_audit: bool,
        (next_offset, head): (u64, Hash),
    ) -> StagedStream {
        StagedStream {
            tenant_id,
            stream_id,
            is_audit,
            next_offset,
            head,
            waiting: Vec::new(),
            waiting_bytes: 0,
            waiting_count: 0,
            listed: false,
        }
    }

    /// Takes a small request's events; a block that is full goes to `out`.
    pub(crate) fn push_small(&mut self, batch: &EventBatch, out: &mut BlockSink) {
        if self.waiting_bytes + batch.payload().len() > blocks::SHARED_BODY_BYTES {
            self.flush(out);
        }
        self.waiting_bytes += batch.payload().len();
        self.waiting_count += batch.count();
        self.next_offset += u64::from(batch.count());
        self.waiting.push(batch.clone());
    }

    /// Writes a block of a body that was digested before.
    pub(crate) fn push_body(&mut self, events: &EventBatch, content: Hash, out: &mut BlockSink) {
        self.flush(out);
        let first_offset = self.next_offset;
        self.next_offset += u64::from(events.count());
        self.write(first_offset, events.count(), content, events.crc(), events.payload(), out);
    }

    /// Writes the block of what waits.
    pub(crate) fn flush(&mut self, out: &mut BlockSink) {
        let waiting = std::mem::take(&mut self.waiting);
        let count = std::mem::take(&mut self.waiting_count);
        self.waiting_bytes = 0;
        let first_offset = self.next_offset - u64::from(count);
        match waiting.as_slice() {
            [] => {}
            [only] => {
                let body = only.payload();
                self.write(first_offset, count, content_hash(body), only.crc(), body, out);
            }
            several => {
                let mut body = std::mem::take(&mut out.scratch);
                body.clear();
                blocks::join(several, &mut body);
                let crc = crc32c::crc32c(&body);
                self.write(first_offset, count, content_hash(&body), crc, &body, out);
                out.scratch = body;
            }
        }
        // The room that it took is used again by the next block.
        self.waiting = waiting;
        self.waiting.clear();
    }

    fn write(
        &mut self,
        first_offset: u64,
        count: u32,
        content: Hash,
        body_crc: u32,
        body: &[u8],
        out: &mut BlockSink,
    ) {
        let draft = BlockDraft {
            tenant_id: self.tenant_id,
            stream_id: self.stream_id,
            first_offset,
            timestamp_ns: out.timestamp_ns,
            count,
            content,
            body_crc,
        };
        self.head = write_block(&mut out.blocks, &self.head, &draft, body);
        out.block_count += 1;
    }
}

/// Where the blocks of the entry under way go.
#[derive(Debug, Default)]
pub(crate) struct BlockSink {
    pub(crate) blocks: Vec<u8>,
    pub(crate) block_count: u32,
    pub(crate) timestamp_ns: u64,
    scratch: Vec<u8>,
}

impl BlockSink {
    /// A sink that writes into `blocks`, an empty buffer.
    pub(crate) fn new(blocks: Vec<u8>, timestamp_ns: u64) -> BlockSink {
        BlockSink { blocks, timestamp_ns, ..BlockSink::default() }
    }
}

/// What became of a tenant's number within the group.
#[derive(Clone, Copy, Debug)]
pub(crate) enum StagedTenant {
    Created { audit_stream_id: u64, position: u64 },
    Deleted { position: u64 },
}

/// A stream that the group creates.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedName {
    pub(crate) stream_id: u64,
    pub(crate) data_class: DataClass,
    pub(crate) position: u64,
}

/// What the group did for a producer.
#[derive(Debug, Default)]
pub(crate) struct StagedProducer {
    /// For one that the group opens: its tenant and principal.
    pub(crate) opened: Option<(u64, String)>,
    pub(crate) acked_below: u64,
    pub(crate) outcomes: HashMap<u64, Outcome>,
}

/// Everything that a group has decided.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    pub(crate) streams: HashMap<u64, StagedStream>,
    pub(crate) tenants: HashMap<u64, StagedTenant>,
    pub(crate) names: HashMap<(u64, String), StagedName>,
    /// By tenant: how many streams the group creates, audit streams left out.
    pub(crate) more_streams: HashMap<u64, u64>,
    pub(crate) producers: HashMap<u64, StagedProducer>,
    pub(crate) expired: HashSet<u64>,
    /// By tenant: how many more producers it has than before the group.
    pub(crate) more_producers: HashMap<u64, i64>,
    pub(crate) outcomes: usize,
    /// How many outcomes of the applied state went with the producers that were expired.
    pub(crate) forgotten: usize,
    pub(crate) last_stream_id: u64,
    pub(crate) last_producer_id: u64,
}
