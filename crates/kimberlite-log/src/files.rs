//! The open files of segments and footers, shared by the writer and all readers.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::disk::{Disk, DiskFile};
use crate::footer::NodeId;
use crate::names;

/// So many files stay open at most, so that a large log does not use up the process's files.
const MOST_OPEN: usize = 128;

#[derive(Debug)]
pub(crate) struct SegmentFiles {
    disk: Arc<dyn Disk>,
    open: RwLock<HashMap<FileId, OpenFile>>,
    uses: AtomicU64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FileId {
    Segment(u64),
    Footer(NodeId),
}

impl FileId {
    fn name(self) -> String {
        match self {
            FileId::Segment(number) => names::segment(number),
            FileId::Footer(node) => names::footer(node.level, node.number),
        }
    }
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
        self.opened(FileId::Segment(segment))
    }

    /// The file of a footer, opened if need be.
    pub(crate) fn footer(&self, node: NodeId) -> io::Result<Arc<dyn DiskFile>> {
        self.opened(FileId::Footer(node))
    }

    /// Closes the file of a footer, which another one is about to replace or has replaced.
    pub(crate) fn close_footer(&self, node: NodeId) {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.remove(&FileId::Footer(node));
    }

    fn opened(&self, id: FileId) -> io::Result<Arc<dyn DiskFile>> {
        {
            let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(found) = open.get(&id) {
                let now = self.uses.fetch_add(1, Ordering::Relaxed);
                found.last_use.store(now, Ordering::Relaxed);
                return Ok(Arc::clone(&found.file));
            }
        }
        let file = self.disk.open(&id.name())?;
        self.keep_open(id, &file);
        Ok(file)
    }

    /// Keeps an open segment; the file that was used longest ago is closed where there are too
    /// many. A reader in the middle of it, and the writer, hold on to theirs.
    pub(crate) fn keep(&self, segment: u64, file: &Arc<dyn DiskFile>) {
        self.keep_open(FileId::Segment(segment), file);
    }

    fn keep_open(&self, id: FileId, file: &Arc<dyn DiskFile>) {
        let last_use = AtomicU64::new(self.uses.fetch_add(1, Ordering::Relaxed));
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.insert(id, OpenFile { file: Arc::clone(file), last_use });
        if open.len() > MOST_OPEN {
            let oldest = open.iter().min_by_key(|(_, file)| file.last_use.load(Ordering::Relaxed));
            let oldest = oldest.map(|(id, _)| *id);
            oldest.and_then(|id| open.remove(&id));
        }
    }
}
