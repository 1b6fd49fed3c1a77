//! One consistent view of a tenant's streams, as SQL sees it: what was visible at a position.

use std::sync::Arc;

use bytes::Bytes;
use kimberlite_log::BlockPlace;
use kimberlite_wire::block::BLOCK_HEADER_BYTES;
use kimberlite_wire::{DataClass, Error, ErrorCode, StreamInfo};

use crate::loader::Loader;
use crate::places::Near;
use crate::sql::{Cut, EventTable};
use crate::state::Applied;
use crate::stream::{Stream, header_at};
use crate::sync::Mutex;
use crate::waiters::lock;

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
    fn table(&self, stream: &Arc<Stream>) -> Result<Option<Arc<dyn EventTable>>, Error> {
        if stream.identity.created_at > self.position {
            return Ok(None);
        }
        let count = stream.end_at(self.loader.index(), self.position)?;
        let (stream, loader) = (stream.clone(), self.loader.clone());
        Ok(Some(Arc::new(StreamTable { stream, loader, count, near: Mutex::new(None) })))
    }

    /// What was told about a stream at the cut's position.
    pub(crate) fn info(&self, stream: &Stream) -> Result<StreamInfo, Error> {
        let (mut info, last) = stream.info_at(self.loader.index(), self.position)?;
        if let Some(last) = last {
            info.head = self.head(&last)?;
        }
        Ok(info)
    }

    fn head(&self, last: &BlockPlace) -> Result<[u8; 32], Error> {
        let header = self.loader.load_part(last, 0..BLOCK_HEADER_BYTES)?;
        Ok(header_at(&header)?.chain)
    }
}

impl Cut for TenantCut {
    fn stream(&self, name: &str) -> Result<Option<Arc<dyn EventTable>>, Error> {
        let find = || self.applied.catalogue().tenant(self.tenant_id)?.by_name(name).cloned();
        find().map_or(Ok(None), |stream| self.table(&stream))
    }

    fn streams(&self) -> Result<Vec<StreamInfo>, Error> {
        let streams: Vec<Arc<Stream>> = {
            let catalogue = self.applied.catalogue();
            let tenant = catalogue.tenant(self.tenant_id);
            tenant.map_or_else(Vec::new, |tenant| tenant.streams_after(0).cloned().collect())
        };
        let visible = streams.iter().filter(|s| s.identity.created_at <= self.position);
        visible.map(|stream| self.info(stream)).collect()
    }

    fn audit(&self) -> Result<Option<Arc<dyn EventTable>>, Error> {
        if !self.sees_audit {
            return Ok(None);
        }
        let find = || Some(self.applied.catalogue().tenant(self.tenant_id)?.audit.clone());
        find().map_or(Ok(None), |audit| self.table(&audit))
    }
}

/// A stream's first blocks.
struct StreamTable {
    stream: Arc<Stream>,
    loader: Loader,
    count: u64,
    near: Mutex<Near>,
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

    fn first_id_at_or_after(&self, timestamp_ns: u64) -> Result<u64, Error> {
        self.stream.first_at_or_after(self.loader.index(), timestamp_ns, self.count)
    }

    fn load(&self, id: u64, max_bytes: usize, backwards: bool) -> Result<(Bytes, usize), Error> {
        self.stream.check_alive()?;
        if id >= self.count {
            let detail = format!("event {id} of {} was asked for", self.count);
            return Err(Error::new(ErrorCode::Internal, detail));
        }
        let (stream, mut near) = (&self.stream, lock(&self.near).clone());
        let places = if backwards {
            self.loader.gather_back(stream, &mut near, id, max_bytes)?
        } else {
            self.loader.gather(stream, &mut near, id..self.count, max_bytes)?
        };
        *lock(&self.near) = near;
        Ok((self.loader.load(&places)?, places.len()))
    }
}
