//! A segment that is written to, or will be.

use std::sync::Arc;

use crate::disk::DiskFile;
use crate::format::{SEAL_BYTES, SEGMENT_HEADER_BYTES};

#[derive(Debug)]
pub(crate) struct Segment {
    pub number: u64,
    pub file: Arc<dyn DiskFile>,
    /// How large it may become, in bytes.
    pub size: u64,
    /// Up to where it is filled with zeroes, durably; all bits set where nothing needs filling.
    pub zeroed: u64,
    /// Up to where it is written and durable; 0 until its header is.
    pub end: u64,
    pub first_index: u64,
    pub sealed: bool,
}

impl Segment {
    /// Where the next frame goes.
    pub(crate) fn next_frame(&self) -> u64 {
        self.end.max(SEGMENT_HEADER_BYTES)
    }

    /// How many bytes of frames it can still take, the seal set aside.
    pub(crate) fn room(&self) -> u64 {
        if self.sealed { 0 } else { self.size.saturating_sub(self.next_frame() + SEAL_BYTES) }
    }

    /// The least size of a segment that takes `bytes` of frames.
    pub(crate) fn size_for(bytes: u64) -> u64 {
        SEGMENT_HEADER_BYTES + bytes + SEAL_BYTES
    }
}
