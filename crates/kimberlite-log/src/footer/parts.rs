//! Reads the parts of a footer and checks each.

use super::format::{CHUNK_RUNS, Fence, ROOT_READ_BYTES, Root, RootFault, Run};
use crate::place::{BlockPlace, decode_places, decode_times};

/// A part that is not there, is damaged, or cannot be read: the footer must be made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartFault;

/// Fills a buffer from a position; tells how much there was.
pub(crate) type ReadAt<'a> = dyn Fn(u64, &mut [u8]) -> Result<usize, PartFault> + 'a;

/// The bytes of one footer.
pub(crate) struct Parts<'a> {
    pub read: &'a ReadAt<'a>,
}

impl Parts<'_> {
    pub(crate) fn root(&self) -> Result<Root, PartFault> {
        let mut len = ROOT_READ_BYTES;
        loop {
            let mut bytes = vec![0; len];
            let read = (self.read)(0, &mut bytes)?;
            bytes.truncate(read);
            match Root::decode(&bytes) {
                Ok(root) => return Ok(root),
                // It is that long only where its checksum says so, too: a wrong length costs one
                // read more, which ends with the file.
                Err(RootFault::Longer(longer)) if read == len && longer > len => {
                    len = longer.min(64 << 20);
                    if longer > len {
                        return Err(PartFault);
                    }
                }
                Err(_) => return Err(PartFault),
            }
        }
    }

    fn checked(&self, at: u64, len: usize, crc: u32) -> Result<Vec<u8>, PartFault> {
        let mut bytes = vec![0; len];
        let read = (self.read)(at, &mut bytes)?;
        if read < len || crc32c::crc32c(&bytes) != crc { Err(PartFault) } else { Ok(bytes) }
    }

    /// A chunk of runs.
    pub(crate) fn runs(&self, root: &Root, chunk: usize) -> Result<Vec<Run>, PartFault> {
        let crc = root.chunks.get(chunk).ok_or(PartFault)?.crc;
        let (at, len) = root.chunk_place(chunk);
        Ok(Run::decode_all(&self.checked(at, len, crc)?))
    }

    /// The fences of a run, which has at least one.
    pub(crate) fn fences(&self, run: &Run) -> Result<Vec<Fence>, PartFault> {
        let bytes = self.checked(run.fences_at, run.fences_len(), run.crc)?;
        if bytes.is_empty() { Err(PartFault) } else { Ok(Fence::decode_all(&bytes)) }
    }

    /// The page of a fence, which has at least one place.
    pub(crate) fn page(&self, segment: u64, fence: &Fence) -> Result<Vec<BlockPlace>, PartFault> {
        let bytes = self.checked(fence.at, fence.len as usize, fence.crc)?;
        let segment = u32::try_from(segment).map_err(|_| PartFault)?;
        decode_places(segment, &bytes).filter(|places| !places.is_empty()).ok_or(PartFault)
    }

    /// A page of timestamps.
    pub(crate) fn times(&self, root: &Root, page: usize) -> Result<Vec<u64>, PartFault> {
        let fence = root.times.get(page).ok_or(PartFault)?;
        decode_times(&self.checked(fence.at, fence.len as usize, fence.crc)?).ok_or(PartFault)
    }
}

/// The chunk that has the stream's run, if one does.
pub(crate) fn chunk_of(root: &Root, stream_id: u64) -> Option<usize> {
    debug_assert!(root.chunks.len() == root.streams.div_ceil(CHUNK_RUNS as u64) as usize);
    root.chunks.partition_point(|chunk| chunk.first_stream <= stream_id).checked_sub(1)
}
