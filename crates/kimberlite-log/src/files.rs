//! The open segment files, shared by the writer and all readers.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::disk::{Disk, DiskFile};
use crate::names;

/// So many segments stay open at most, so that a large log does not use up the process's files.
const MOST_OPEN: usize = 128;

#[derive(Debug)]
pub(crate) struct SegmentFiles {
    disk: Arc<dyn Disk>,
    open: RwLock<HashMap<u64, OpenFile>>,
    uses: AtomicU64,
}

#[derive(Debug)]
struct OpenFile {
    file: Arc<dyn DiskFile>,
    last_use: AtomicU64,
}

impl SegmentFiles {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> SegmentFiles {
        SegmentFiles { disk, open: RwLock::default(), uses: AtomicU64::new(0) }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The file of a segment, opened if need be.
    pub(crate) fn get(&self, segment: u64) -> io::Result<Arc<dyn DiskFile>> {
        {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = open.get(&segment) {
                let now = self.uses.fetch_add(1, Ordering::Relaxed);
                found.last_use.store(now, Ordering::Relaxed);
                return Ok(Arc::clone(&found.file));
            }
        }
        let file = self.disk.open(&names::segment(segment))?;
        self.keep(segment, &file);
        Ok(file)
    }

    /// Keeps an open file; the one that was used longest ago is closed where there are too many. A
    /// reader in the middle of it, and the writer, hold on to theirs.
    pub(crate) fn keep(&self, segment: u64, file: &Arc<dyn DiskFile>) {
        let last_use = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(segment, OpenFile { file: Arc::clone(file), last_use });
        if open.len() > MOST_OPEN {
            let oldest = open.iter().min_by_key(|(_, file)| file.last_use.load(Ordering::Relaxed));
            let oldest = oldest.map(|(segment, _)| *segment);
            oldest.and_then(|segment| open.remove(&segment));
        }
    }
}
