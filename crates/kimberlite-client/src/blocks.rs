//! Raw blocks as they arrive: found in a sequence of chunks, and checked.

use std::fmt;

use bytes::Bytes;
use kimberlite_wire::block::{BLOCK_HEADER_BYTES, BlockHeader, BlockView};
use kimberlite_wire::session::Answer;
use kimberlite_wire::{Error, ErrorCode, Response};

use crate::client::{StreamId, unexpected};

/// Stored blocks of one stream, in order, byte for byte as they lie in the log; their checksums
/// were checked. [`crate::verify_blocks`] proves their contents and their chain.
pub struct Blocks {
    bytes: Bytes,
    end_offset: u64,
    position: u64,
}

impl Blocks {
    /// The blocks, one after the other.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The stream's next offset when it was read.
    pub fn end_offset(&self) -> u64 {
        self.end_offset
    }

    /// The position that they reflect.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The blocks one by one.
    pub fn iter(&self) -> impl Iterator<Item = Result<BlockView<'_>, Error>> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            match next_block(rest) {
                Ok((view, used)) => {
                    rest = &rest[used..];
                    Some(Ok(view))
                }
                Err(e) => {
                    rest = &[];
                    Some(Err(e))
                }
            }
        })
    }

    pub(crate) fn from_read(asked: &Asked, answer: Answer) -> Result<Blocks, Error> {
        let mut intact = 0;
        let bytes = join(answer.payload);
        let answer = Answer { payload: vec![bytes.clone()], ..answer };
        let (end_offset, position) = asked.check(&answer, &mut |block| {
            intact += block.header.block_len();
            Ok(())
        })?;
        Ok(Blocks { bytes: bytes.slice(..intact), end_offset, position })
    }
}

impl fmt::Debug for Blocks {
    /// Shows the shape, never the data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocks")
            .field("bytes", &self.bytes.len())
            .field("end_offset", &self.end_offset)
            .finish()
    }
}

/// Puts the chunks of an answer together; a single one is not copied.
pub(crate) fn join(mut chunks: Vec<Bytes>) -> Bytes {
    if chunks.len() <= 1 {
        return chunks.pop().unwrap_or_default();
    }
    let mut all = Vec::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
    Bytes::from(all)
}

/// What a read asked for, by which its answer is judged.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) tenant_id: u64,
    pub(crate) stream: StreamId,
    pub(crate) from_offset: u64,
    pub(crate) max_events: u64,
}

impl Asked {
    /// Hands each block of a read's answer to `visit` and tells the stream's next offset and the
    /// position. The blocks must hold the events asked for, one after the other from the first on.
    /// Where one is damaged the answer ends before it; CORRUPTION only where it is the first.
    pub(crate) fn check(
        &self,
        answer: &Answer,
        visit: &mut dyn FnMut(&BlockView<'_>) -> Result<(), Error>,
    ) -> Result<(u64, u64), Error> {
        let (end_offset, position) = match &answer.body {
            Response::Read(body) => (body.next_offset, body.position),
            other => return Err(unexpected(other)),
        };
        let mut source = BlockSource::default();
        let mut next_offset = None;
        let mut block = |block: &BlockView<'_>| {
            self.check_block(block, next_offset, end_offset)?;
            next_offset = Some(block.end_offset());
            visit(block)
        };
        let mut fed = Ok(());
        for chunk in &answer.payload {
            fed = source.feed(chunk, &mut block);
            if fed.is_err() {
                break;
            }
        }
        if !answer.cut && fed.is_ok() {
            fed = source.finish();
        }
        match fed {
            Err(e) if e.code != ErrorCode::Corruption => Err(e),
            // What is intact before the damage can still be read.
            Err(_) if next_offset.is_some() => Ok((end_offset, position)),
            Err(e) => Err(if e.value == 0 { e.with_value(self.from_offset) } else { e }),
            Ok(()) if next_offset.is_none() && self.from_offset < end_offset => {
                Err(Error::protocol(format!(
                    "the answer holds no event from offset {} on, though the next one is {end_offset}",
                    self.from_offset
                )))
            }
            Ok(()) => Ok((end_offset, position)),
        }
    }

    fn check_block(
        &self,
        block: &BlockView<'_>,
        next_offset: Option<u64>,
        end_offset: u64,
    ) -> Result<(), Error> {
        check_owner(block, self.tenant_id, self.stream)?;
        let (first, end) = (block.header.first_offset, block.end_offset());
        let until = self.from_offset.saturating_add(self.max_events);
        let continues = match next_offset {
            Some(next) => first == next && first < until,
            None => first <= self.from_offset && end > self.from_offset,
        };
        if continues && end <= end_offset {
            return Ok(());
        }
        let next = next_offset.unwrap_or(self.from_offset);
        Err(Error::protocol(format!(
            "the answer holds a block of the offsets {first} to {end}, where {next} was expected, \
             before {until} and the stream's end at {end_offset}"
        )))
    }
}

fn next_block(bytes: &[u8]) -> Result<(BlockView<'_>, usize), Error> {
    BlockView::parse(bytes).map_err(Error::from)?.ok_or_else(cut_short)
}

fn cut_short() -> Error {
    Error::protocol("the answer ends in the middle of a block")
}

/// PROTOCOL: the block belongs to another stream than the one asked for.
pub(crate) fn check_owner(
    block: &BlockView<'_>,
    tenant_id: u64,
    stream: StreamId,
) -> Result<(), Error> {
    if (block.header.tenant_id, block.header.stream_id) == (tenant_id, stream.0) {
        return Ok(());
    }
    Err(Error::protocol(format!(
        "the answer holds a block of stream {} of tenant {} where stream {stream} of tenant \
         {tenant_id} was asked for",
        block.header.stream_id, block.header.tenant_id
    )))
}

/// Finds the blocks in chunks that are cut anywhere. A block within one chunk is used in place;
/// only those across a cut are copied together.
#[derive(Default)]
pub(crate) struct BlockSource {
    carry: Vec<u8>,
}

impl BlockSource {
    /// Hands each block that is complete by now to `visit`. An error is final.
    pub(crate) fn feed(
        &mut self,
        chunk: &[u8],
        visit: &mut dyn FnMut(&BlockView<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut rest = chunk;
        while !self.carry.is_empty() && !rest.is_empty() {
            let wanted = self.missing()?.min(rest.len());
            self.carry.extend_from_slice(&rest[..wanted]);
            rest = &rest[wanted..];
            if let Some(used) = visit_one(&self.carry, visit)? {
                debug_assert_eq!(used, self.carry.len());
                self.carry.clear();
            }
        }
        while !rest.is_empty() {
            match visit_one(rest, visit)? {
                Some(used) => rest = &rest[used..],
                None => {
                    self.carry.extend_from_slice(rest);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// How many bytes the block under way still needs, as far as can be told.
    fn missing(&self) -> Result<usize, Error> {
        let have = self.carry.len();
        let Some(header) = self.carry.first_chunk::<BLOCK_HEADER_BYTES>() else {
            return Ok(BLOCK_HEADER_BYTES - have);
        };
        let header = BlockHeader::decode(header).map_err(Error::from)?;
        Ok(header.block_len().saturating_sub(have).max(1))
    }

    /// PROTOCOL where the bytes ended in the middle of a block.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.carry.is_empty() { Ok(()) } else { Err(cut_short()) }
    }
}

fn visit_one(
    bytes: &[u8],
    visit: &mut dyn FnMut(&BlockView<'_>) -> Result<(), Error>,
) -> Result<Option<usize>, Error> {
    let Some((view, used)) = BlockView::parse(bytes).map_err(Error::from)? else {
        return Ok(None);
    };
    visit(&view)?;
    Ok(Some(used))
}

#[cfg(test)]
mod tests {
    use kimberlite_wire::EventBatch;
    use kimberlite_wire::block::{BlockDraft, content_hash, write_block};

    use super::*;

    fn blocks(count: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let mut head = [0; 32];
        for first_offset in 0..count {
            let data = vec![first_offset as u8; first_offset as usize * 3];
            let batch = EventBatch::from_events([data]).expect("fits");
            let draft = BlockDraft {
                tenant_id: 1,
                stream_id: 2,
                first_offset,
                timestamp_ns: 5,
                count: 1,
                content: content_hash(batch.payload()),
                body_crc: batch.crc(),
            };
            head = write_block(&mut out, &head, &draft, batch.payload());
        }
        out
    }

    fn offsets(chunks: &[&[u8]]) -> Result<Vec<u64>, Error> {
        let mut source = BlockSource::default();
        let mut found = Vec::new();
        for chunk in chunks {
            source.feed(chunk, &mut |block| {
                assert!(
                    block
                        .event(0)
                        .expect("an event")
                        .iter()
                        .all(|byte| u64::from(*byte) == found.len() as u64)
                );
                found.push(block.header.first_offset);
                Ok(())
            })?;
        }
        source.finish().map(|()| found)
    }

    /// Wherever an answer is cut into chunks, its blocks come out whole and in order; an end in the
    /// middle of a block is noticed.
    #[test]
    fn blocks_survive_any_cut() {
        let bytes = blocks(9);
        let all: Vec<u64> = (0..9).collect();
        for cut in 0..=bytes.len() {
            let (one, two) = bytes.split_at(cut);
            assert_eq!(offsets(&[one, two]), Ok(all.clone()), "cut at {cut}");
            let three = two.split_at(two.len() / 3);
            assert_eq!(offsets(&[one, three.0, three.1]), Ok(all.clone()), "cut at {cut}");
        }
        for size in [1, 7, 100, 129] {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(offsets(&chunks), Ok(all.clone()), "chunks of {size}");
        }
        assert!(offsets(&[&bytes[..bytes.len() - 1]]).is_err());
    }

    /// A changed bit anywhere is an error, never a wrong event.
    #[test]
    fn damage_is_noticed() {
        let bytes = blocks(4);
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 0x10;
            assert!(offsets(&[&damaged]).is_err(), "byte {index}");
        }
        // The last byte of the last block's data, before its padding: the header tells the offset.
        let mut damaged = bytes.clone();
        let last = bytes.iter().rposition(|byte| *byte != 0).expect("data");
        damaged[last] ^= 1;
        let e = offsets(&[&damaged]).expect_err("damaged");
        assert_eq!((e.code, e.value), (kimberlite_wire::ErrorCode::Corruption, 3));
        assert!(e.detail.starts_with("the block at offset 3:"), "{}", e.detail);
    }
}
