//! The one that appends.

use kimberlite_wire::{Error, ErrorCode};

use crate::entry::{EntryDraft, EntryPlace};

/// Appends to the log. There is one for an open log; the thread that owns it commits.
#[derive(Debug)]
pub struct LogWriter {
    log_id: [u8; 16],
    next_index: u64,
    last_timestamp_ns: u64,
}

impl LogWriter {
    /// The log's id, drawn when it was made.
    pub fn log_id(&self) -> [u8; 16] {
        self.log_id
    }

    /// The index that the next entry will get; the first is 1.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// The timestamp of the last entry; 0 where there is none.
    pub fn last_timestamp_ns(&self) -> u64 {
        self.last_timestamp_ns
    }

    /// Writes the entries as one group and makes them durable before it returns.
    pub fn commit(&mut self, _entries: &[EntryDraft]) -> Result<Vec<EntryPlace>, Error> {
        Err(Error::new(ErrorCode::Storage, "not built yet"))
    }

    /// The same for audit and control entries, which may also use the reserved space when the disk
    /// is full.
    pub fn commit_reserved(&mut self, _entries: &[EntryDraft]) -> Result<Vec<EntryPlace>, Error> {
        Err(Error::new(ErrorCode::Storage, "not built yet"))
    }

    /// Writes the frame that proves the last group, and lets the folder go.
    pub fn close(self) -> Result<(), Error> {
        Ok(())
    }
}
