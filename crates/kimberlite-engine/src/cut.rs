//! One consistent view of a tenant's streams, as SQL sees it: what was visible at a position.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kimberlite_wire::block::BLOCK_HEADER_BYTES;
use kimberlite_wire::{DataClass, Error, ErrorCode, StreamInfo};

use crate::loader::{Loader, gather, gather_back};
use crate::sql::{Cut, EventTable};
use crate::state::Applied;
use crate::stream::{BlockPlace, Stream, header_at};

/// A tenant's streams at a position.
pub(crate) struct TenantCut {
    pub(crate) applied: Arc<Applied>,
    pub(crate) loader: Loader,
    pub(crate) tenant_id: u64,
    pub(crate) position: u64,
    /// Whether the caller may look at the audit stream.
    pub(crate) sees_audit: bool,
}

impl TenantCut {
    fn table(&self, stream: &Arc<Stream>) -> Option<Arc<dyn EventTable>> {
        if stream.identity.created_at > self.position {
            return None;
        }
        let (blocks, count) = {
            let blocks = stream.blocks();
            let visible = blocks.count_at(self.position);
            (visible, blocks.next_offset_of(visible))
        };
        let (stream, loader) = (stream.clone(), self.loader.clone());
        Some(Arc::new(StreamTable { stream, loader, blocks, count }))
    }

    fn head(&self, last: &BlockPlace) -> Result<[u8; 32], Error> {
        let header = self.loader.load_part(last, 0..BLOCK_HEADER_BYTES)?;
        Ok(header_at(&header)?.chain)
    }
}

impl Cut for TenantCut {
    fn stream(&self, name: &str) -> Option<Arc<dyn EventTable>> {
        let stream = self.applied.catalogue().tenant(self.tenant_id)?.by_name(name)?.clone();
        self.table(&stream)
    }

    fn streams(&self) -> Vec<StreamInfo> {
        let streams: Vec<Arc<Stream>> = {
            let catalogue = self.applied.catalogue();
            let tenant = catalogue.tenant(self.tenant_id);
            tenant.map_or_else(Vec::new, |tenant| tenant.streams_after(0).cloned().collect())
        };
        let visible = streams.iter().filter(|s| s.identity.created_at <= self.position);
        let info = |stream: &Arc<Stream>| {
            let (mut info, last) = stream.info_at(self.position);
            if let Some(last) = last {
                info.head = self.head(&last).unwrap_or_else(|error| {
                    tracing::error!(%error, "a block's header could not be read");
                    [0; 32]
                });
            }
            info
        };
        visible.map(info).collect()
    }

    fn audit(&self) -> Option<Arc<dyn EventTable>> {
        if !self.sees_audit {
            return None;
        }
        let audit = self.applied.catalogue().tenant(self.tenant_id)?.audit.clone();
        self.table(&audit)
    }
}

/// A stream's first blocks.
struct StreamTable {
    stream: Arc<Stream>,
    loader: Loader,
    blocks: usize,
    count: u64,
}

impl EventTable for StreamTable {
    fn name(&self) -> &str {
        &self.stream.identity.name
    }

    fn data_class(&self) -> DataClass {
        self.stream.identity.data_class
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn first_id_at_or_after(&self, timestamp_ns: u64) -> u64 {
        let blocks = self.stream.blocks();
        let at = blocks.places.partition_point(|place| place.timestamp_ns < timestamp_ns);
        match blocks.places.get(at) {
            Some(place) if at < self.blocks => place.first_offset,
            _ => self.count,
        }
    }

    fn block_of(&self, id: u64) -> usize {
        self.stream.blocks().block_of(id)
    }

    fn block_count(&self) -> usize {
        self.blocks
    }

    fn load(
        &self,
        first_block: usize,
        max_bytes: usize,
        backwards: bool,
    ) -> Result<(Bytes, Range<usize>), Error> {
        self.stream.check_alive()?;
        if first_block >= self.blocks {
            let detail = format!("block {first_block} of {} was asked for", self.blocks);
            return Err(Error::new(ErrorCode::Internal, detail));
        }
        let (places, range) = if backwards {
            let places = gather_back(&self.stream, 0..first_block + 1, max_bytes);
            let range = first_block + 1 - places.len()..first_block + 1;
            (places, range)
        } else {
            let places = gather(&self.stream, first_block..self.blocks, max_bytes);
            let range = first_block..first_block + places.len();
            (places, range)
        };
        Ok((self.loader.load(&places)?, range))
    }
}
