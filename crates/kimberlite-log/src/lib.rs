//! Kimberlite's log: segment files, group commit, recovery.

mod bytes_io;
mod disk;
mod entry;
mod fs_disk;
mod memory_disk;
mod reader;
mod writer;

use std::sync::Arc;

use kimberlite_wire::{Error, ErrorCode};

pub use disk::{Disk, DiskFile, DiskLock};
pub use entry::{
    ENTRY_HEADER_BYTES, EntryDraft, EntryHeader, EntryKind, EntryPlace, EntryView,
    REQUEST_ROW_BYTES, RequestRow,
};
pub use fs_disk::FsDisk;
pub use memory_disk::MemoryDisk;
pub use reader::LogReader;
pub use writer::LogWriter;

/// How a log lays out its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// How large a segment file becomes, in bytes.
    pub segment_bytes: u64,
    /// How many bytes stay reserved for audit and control entries.
    pub reserve_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { segment_bytes: 64 << 20, reserve_bytes: 16 << 20 }
    }
}

/// Opens a log, recovers it, and visits every committed entry in order.
pub fn open(
    _disk: Arc<dyn Disk>,
    _options: LogOptions,
    _visit: &mut dyn FnMut(&EntryView<'_>, EntryPlace) -> Result<(), Error>,
) -> Result<(LogWriter, LogReader), Error> {
    Err(Error::new(ErrorCode::Storage, "not built yet"))
}
