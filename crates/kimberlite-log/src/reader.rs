//! Reads of what is committed, from any thread.

use kimberlite_wire::{Error, ErrorCode};

/// Reads bytes of segments. Clones share their open files.
#[derive(Clone, Debug)]
pub struct LogReader {}

impl LogReader {
    /// Fills the buffer from a position of a segment.
    pub fn read_at(&self, _segment: u64, _position: u64, _buffer: &mut [u8]) -> Result<(), Error> {
        Err(Error::new(ErrorCode::Storage, "not built yet"))
    }
}
