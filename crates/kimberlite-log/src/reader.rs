//! Reads of what is committed, from any thread.

use std::sync::Arc;

use kimberlite_wire::Error;

use crate::errors::{corrupt, storage};
use crate::files::SegmentFiles;
use crate::index::LogIndex;

/// Reads bytes of segments, from any thread. Clones share their open files. It goes on working
/// after the writer has failed or was closed; reading only what was committed is the caller's part.
#[derive(Clone, Debug)]
pub struct LogReader {
    files: Arc<SegmentFiles>,
    index: LogIndex,
}

impl LogReader {
    pub(crate) fn new(files: Arc<SegmentFiles>, index: LogIndex) -> LogReader {
        LogReader { files, index }
    }

    /// Where blocks lie in complete segments.
    pub fn index(&self) -> &LogIndex {
        &self.index
    }

    /// Fills the buffer from a position of a segment. STORAGE where the disk fails, CORRUPTION
    /// where the segment ends before; the bytes themselves are not checked here.
    pub fn read_at(&self, segment: u64, position: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let read = self.files.get(segment).and_then(|file| file.read_at(position, buffer));
        let count = read.map_err(|e| {
            storage(
                format_args!("read {} bytes at {position} of segment {segment}", buffer.len()),
                &e,
            )
        })?;
        if count < buffer.len() {
            let why = format!("it ends where {} more bytes belong", buffer.len() - count);
            return Err(corrupt(segment, position + count as u64, why));
        }
        Ok(())
    }
}
