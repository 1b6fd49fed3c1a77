//! Blocks: events of one stream as they are stored, sent to readers, and chained by hash. A block
//! is a header of 128 bytes and a body, padded with zeros to a multiple of 8 bytes.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::events::PackedEvents;
pub use crate::generated::constant::{BLOCK_HEADER_BYTES, BLOCK_VERSION};
use crate::generated::{DataClass, ErrorCode, limit};

/// The first four bytes of a block.
pub const BLOCK_MAGIC: [u8; 4] = *b"KMBK";
/// Bodies of several events are at most this long; a single event may be larger.
pub const BLOCK_BODY_BYTES: usize = 256 << 10;
/// No body is longer: one event of the largest size, its end, and room for a nonce and a tag.
pub const MAX_BLOCK_BODY_BYTES: usize = limit::EVENT_BYTES as usize + 4 + 60;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// What starts every chain hash, so that it can be mistaken for no other digest.
const CHAIN_DOMAIN: &[u8] = b"kmb-chain-1";

/// The hash that a stream's chain starts from.
pub fn genesis(tenant_id: u64, stream_id: u64, name: &str, data_class: DataClass) -> Hash {
    let mut hash = Sha256::new();
    hash.update(tenant_id.to_le_bytes());
    hash.update(stream_id.to_le_bytes());
    hash.update(name.as_bytes());
    hash.update([data_class.number()]);
    hash.finalize().into()
}

/// The digest of a body as it is stored.
pub fn content_hash(body: &[u8]) -> Hash {
    Sha256::digest(body).into()
}

/// How many bytes a block with such a body takes, header and padding included.
pub const fn block_len(body_len: usize) -> usize {
    BLOCK_HEADER_BYTES.saturating_add(body_len.div_ceil(8).saturating_mul(8))
}

/// Why bytes are not a block, or a block not the next one of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockError {
    what: &'static str,
    offset: Option<u64>,
}

impl BlockError {
    const fn new(what: &'static str) -> BlockError {
        BlockError { what, offset: None }
    }

    const fn at(self, offset: u64) -> BlockError {
        BlockError { offset: Some(offset), ..self }
    }

    /// The first offset of the block, where its header could be trusted.
    pub const fn offset(&self) -> Option<u64> {
        self.offset
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "the block at offset {offset}: {}", self.what),
            None => write!(f, "a block: {}", self.what),
        }
    }
}

impl std::error::Error for BlockError {}

impl From<BlockError> for Error {
    fn from(e: BlockError) -> Error {
        Error::new(ErrorCode::Corruption, e.to_string()).with_value(e.offset.unwrap_or(0))
    }
}

/// A block's header. Magic, version, lengths of itself and checksum are added and checked by
/// [`BlockHeader::encode`] and [`BlockHeader::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// None is defined yet; encryption will be.
    pub flags: u8,
    /// Bytes of the body, without padding.
    pub body_len: u32,
    /// CRC-32C of the body.
    pub body_crc: u32,
    /// How many events the body holds; at least one.
    pub count: u32,
    /// The tenant.
    pub tenant_id: u64,
    /// The stream.
    pub stream_id: u64,
    /// The offset of the first event.
    pub first_offset: u64,
    /// When the events were committed, in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// The key of an encrypted body; 0 for none.
    pub key_id: u32,
    /// SHA-256 of the body as stored.
    pub content: Hash,
    /// The chain's hash after this block.
    pub chain: Hash,
}

impl BlockHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut out = [0; BLOCK_HEADER_BYTES];
        out[0..4].copy_from_slice(&BLOCK_MAGIC);
        out[8] = BLOCK_VERSION;
        out[9] = self.flags;
        out[10..12].copy_from_slice(&(BLOCK_HEADER_BYTES as u16).to_le_bytes());
        out[12..16].copy_from_slice(&self.body_len.to_le_bytes());
        out[16..20].copy_from_slice(&self.body_crc.to_le_bytes());
        out[20..24].copy_from_slice(&self.count.to_le_bytes());
        out[24..32].copy_from_slice(&self.tenant_id.to_le_bytes());
        out[32..40].copy_from_slice(&self.stream_id.to_le_bytes());
        out[40..48].copy_from_slice(&self.first_offset.to_le_bytes());
        out[48..56].copy_from_slice(&self.timestamp_ns.to_le_bytes());
        out[56..60].copy_from_slice(&self.key_id.to_le_bytes());
        out[64..96].copy_from_slice(&self.content);
        out[96..128].copy_from_slice(&self.chain);
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header at the start of `bytes`: its checksum, version and bounds.
    pub fn decode(bytes: &[u8]) -> Result<BlockHeader, BlockError> {
        let bytes: &[u8; BLOCK_HEADER_BYTES] =
            bytes.first_chunk().ok_or(BlockError::new("its header of 128 bytes is cut short"))?;
        if bytes[0..4] != BLOCK_MAGIC {
            return Err(BlockError::new("it does not start with the block magic"));
        }
        if u32_at(bytes, 4) != crc32c::crc32c(&bytes[8..]) {
            return Err(BlockError::new("its header's checksum does not fit"));
        }
        let header = BlockHeader {
            flags: bytes[9],
            body_len: u32_at(bytes, 12),
            body_crc: u32_at(bytes, 16),
            count: u32_at(bytes, 20),
            tenant_id: u64_at(bytes, 24),
            stream_id: u64_at(bytes, 32),
            first_offset: u64_at(bytes, 40),
            timestamp_ns: u64_at(bytes, 48),
            key_id: u32_at(bytes, 56),
            content: hash_at(bytes, 64),
            chain: hash_at(bytes, 96),
        };
        header.check(bytes).map_err(|e| e.at(header.first_offset))?;
        Ok(header)
    }

    fn check(&self, bytes: &[u8; BLOCK_HEADER_BYTES]) -> Result<(), BlockError> {
        let header_len = u32_at(bytes, 8) >> 16;
        if bytes[8] != BLOCK_VERSION || header_len as usize != BLOCK_HEADER_BYTES {
            return Err(BlockError::new("its version is unknown"));
        }
        if self.flags != 0 || self.key_id != 0 || u32_at(bytes, 60) != 0 {
            return Err(BlockError::new("it uses something that this version does not know"));
        }
        if self.body_len as usize > MAX_BLOCK_BODY_BYTES {
            return Err(BlockError::new("its body is longer than allowed"));
        }
        if self.count == 0 || u64::from(self.count) * 4 > u64::from(self.body_len) {
            return Err(BlockError::new("its count of events does not fit its body"));
        }
        if self.first_offset.checked_add(u64::from(self.count)).is_none() {
            return Err(BlockError::new("its offsets exceed 64 bits"));
        }
        Ok(())
    }

    /// How many bytes the whole block takes.
    pub const fn block_len(&self) -> usize {
        block_len(self.body_len as usize)
    }

    /// The offset after its last event.
    pub const fn end_offset(&self) -> u64 {
        // A decoded header was checked; one that is being built counts up from a real offset.
        self.first_offset.saturating_add(self.count as u64)
    }

    /// The chain's hash after this block, where it was `previous` before.
    pub fn chain_after(&self, previous: &Hash) -> Hash {
        let mut hash = Sha256::new();
        hash.update(CHAIN_DOMAIN);
        hash.update(previous);
        hash.update(self.tenant_id.to_le_bytes());
        hash.update(self.stream_id.to_le_bytes());
        hash.update(self.first_offset.to_le_bytes());
        hash.update(self.timestamp_ns.to_le_bytes());
        hash.update(self.count.to_le_bytes());
        hash.update(self.key_id.to_le_bytes());
        hash.update(self.content);
        hash.finalize().into()
    }
}

fn u32_at(bytes: &[u8; BLOCK_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8; BLOCK_HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

fn hash_at(bytes: &[u8; BLOCK_HEADER_BYTES], at: usize) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(&bytes[at..at + 32]);
    hash
}

/// What is known of a block before its place in the chain is: enough to finish its header when the
/// body's digests were made earlier, by another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockDraft {
    /// The tenant.
    pub tenant_id: u64,
    /// The stream.
    pub stream_id: u64,
    /// The offset of the first event.
    pub first_offset: u64,
    /// When the events are committed, in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// How many events the body holds.
    pub count: u32,
    /// SHA-256 of the body, as [`content_hash`] tells it.
    pub content: Hash,
    /// CRC-32C of the body.
    pub body_crc: u32,
}

/// Appends a finished block to `out` and tells the chain's hash after it. The body holds `count`
/// packed events and is at most [`MAX_BLOCK_BODY_BYTES`] long; readers refuse another one.
pub fn write_block(out: &mut Vec<u8>, previous: &Hash, draft: &BlockDraft, body: &[u8]) -> Hash {
    let mut header = BlockHeader {
        flags: 0,
        body_len: body.len() as u32,
        body_crc: draft.body_crc,
        count: draft.count,
        tenant_id: draft.tenant_id,
        stream_id: draft.stream_id,
        first_offset: draft.first_offset,
        timestamp_ns: draft.timestamp_ns,
        key_id: 0,
        content: draft.content,
        chain: [0; 32],
    };
    header.chain = header.chain_after(previous);
    out.reserve(header.block_len());
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(body);
    out.resize(out.len() + (body.len().next_multiple_of(8) - body.len()), 0);
    header.chain
}

/// A block in place.
#[derive(Clone, Copy, Debug)]
pub struct BlockView<'a> {
    /// Its header.
    pub header: BlockHeader,
    body: &'a [u8],
    events: PackedEvents<'a>,
}

impl<'a> BlockView<'a> {
    /// Reads the block at the start of `bytes` and tells how many bytes it takes; `None` where more
    /// bytes are needed. Checks everything but the content's hash and the chain, in one pass.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(BlockView<'a>, usize)>, BlockError> {
        if bytes.len() < BLOCK_HEADER_BYTES {
            let start = bytes.len().min(4);
            return if bytes[..start] == BLOCK_MAGIC[..start] {
                Ok(None)
            } else {
                Err(BlockError::new("it does not start with the block magic"))
            };
        }
        let header = BlockHeader::decode(bytes)?;
        let Some(block) = bytes.get(..header.block_len()) else {
            return Ok(None);
        };
        let (body, padding) = block[BLOCK_HEADER_BYTES..].split_at(header.body_len as usize);
        let fail = |what| Err(BlockError::new(what).at(header.first_offset));
        if crc32c::crc32c(body) != header.body_crc {
            return fail("its body's checksum does not fit");
        }
        if padding.iter().any(|byte| *byte != 0) {
            return fail("its padding is not zero");
        }
        match PackedEvents::parse(body, header.count, limit::EVENT_BYTES as u32) {
            Ok(events) => Ok(Some((BlockView { header, body, events }, block.len()))),
            Err(_) => fail("the ends of its events do not fit its body"),
        }
    }

    /// The body as stored, without padding.
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The packed events.
    pub const fn packed(&self) -> PackedEvents<'a> {
        self.events
    }

    /// The data of the event with this index in the block; `None` where there is no such event.
    pub fn event(&self, index: usize) -> Option<&'a [u8]> {
        self.events.event(index)
    }

    /// The events' data in order.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.events.iter()
    }

    /// Where in the block's data each event ends.
    pub fn ends(&self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.events.ends()
    }

    /// All data, event after event.
    pub const fn data(&self) -> &'a [u8] {
        self.events.data()
    }

    /// The offset after its last event.
    pub const fn end_offset(&self) -> u64 {
        self.header.end_offset()
    }

    /// Whether the body is what the header's hash says.
    pub fn verify_content(&self) -> Result<(), BlockError> {
        if content_hash(self.body) == self.header.content {
            return Ok(());
        }
        Err(BlockError::new("its content's hash does not fit").at(self.header.first_offset))
    }
}

/// Walks along a stream's chain and checks that each block is the next one.
#[derive(Clone, Debug)]
pub struct ChainVerifier {
    head: Hash,
    next_offset: u64,
    stream: Option<(u64, u64)>,
}

impl ChainVerifier {
    /// Starts where the chain's hash is `head` and the next event has `next_offset`; at a stream's
    /// start those are its [`genesis`] and 0.
    pub const fn new(head: Hash, next_offset: u64) -> ChainVerifier {
        ChainVerifier { head, next_offset, stream: None }
    }

    /// Starts after a block whose place in the chain is taken on trust; its content is checked.
    pub fn after(block: &BlockView<'_>) -> Result<ChainVerifier, BlockError> {
        block.verify_content()?;
        let header = &block.header;
        let stream = Some((header.tenant_id, header.stream_id));
        Ok(ChainVerifier { head: header.chain, next_offset: header.end_offset(), stream })
    }

    /// Checks that the block continues the chain, and moves on. Nothing changes where it does not.
    pub fn check(&mut self, block: &BlockView<'_>) -> Result<(), BlockError> {
        let header = &block.header;
        let stream = (header.tenant_id, header.stream_id);
        let fail = |what| Err(BlockError::new(what).at(header.first_offset));
        if self.stream.is_some_and(|expected| expected != stream) {
            return fail("it belongs to another stream");
        }
        if header.first_offset != self.next_offset {
            return fail("its first offset is not the next one of the chain");
        }
        block.verify_content()?;
        if header.chain_after(&self.head) != header.chain {
            return fail("its chain hash does not fit");
        }
        *self = ChainVerifier {
            head: header.chain,
            next_offset: header.end_offset(),
            stream: Some(stream),
        };
        Ok(())
    }

    /// The chain's hash after the last block that fitted.
    pub const fn head(&self) -> &Hash {
        &self.head
    }

    /// The offset that the next block must start at.
    pub const fn next_offset(&self) -> u64 {
        self.next_offset
    }
}
