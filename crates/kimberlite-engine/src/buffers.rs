//! Buffers for what is read, used again and again.
//!
//! Freeing large buffers makes common allocators give the memory back to the system and fetch it
//! again at the next read, which costs more than the read.

use std::sync::Arc;

use bytes::Bytes;
use kimberlite_wire::Error;

use crate::sync::Mutex;
use crate::waiters::lock;

/// The size of a buffer that is kept.
const KEPT_BYTES: usize = 256 << 10;
/// How many idle buffers are kept, at most.
const KEPT: usize = 16;
/// Smaller reads get memory of their own, so that holding on to one does not hold a large buffer.
const SMALL_BYTES: usize = 32 << 10;

/// The idle buffers.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    idle: Mutex<Vec<Vec<u8>>>,
}

#[derive(Debug)]
struct Kept {
    buffer: Vec<u8>,
    len: usize,
    home: Arc<Buffers>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut idle = lock(&self.home.idle);
        if idle.len() < KEPT {
            idle.push(std::mem::take(&mut self.buffer));
        }
    }
}

impl Buffers {
    /// Bytes that `fill` writes into a buffer of at least `bytes` and tells the length of.
    pub(crate) fn fill(
        self: &Arc<Buffers>,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Error>,
    ) -> Result<Bytes, Error> {
        if !(SMALL_BYTES..=KEPT_BYTES).contains(&bytes) {
            let mut buffer = vec![0; bytes];
            let len = fill(&mut buffer)?;
            buffer.truncate(len);
            return Ok(Bytes::from(buffer));
        }
        let idle = lock(&self.idle).pop();
        let buffer = idle.unwrap_or_else(|| vec![0; KEPT_BYTES]);
        let mut kept = Kept { buffer, len: 0, home: self.clone() };
        kept.len = fill(&mut kept.buffer)?;
        Ok(Bytes::from_owner(kept))
    }
}
