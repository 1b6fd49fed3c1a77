//! Entries: the unit of the log, the same bytes on every member of a database.
//!
//! ```text
//! 0  magic 4 "KMBE"    4  header_crc 4 (CRC-32C of 8..72)
//! 8  version 1         9  kind 1          10 flags 2       12 entry_len 4
//! 16 term 8           24 index 8          32 epoch 8       40 ordinal 8
//! 48 timestamp_ns 8   56 request_count 4  60 block_count 4
//! 64 meta_crc 4 (CRC-32C of the request rows or of the body)   68 reserved 4
//! 72 request rows of 56 bytes each, or a command's body; then blocks
//! ```
//! `entry_len` counts the header, the rows or body, and the blocks. Entries begin at multiples of
//! eight; the bytes between `entry_len` and the next such multiple are zero.

use kimberlite_wire::block::{BLOCK_HEADER_BYTES, BLOCK_MAGIC, BlockView};

use crate::bytes_io::{padded, u16_at, u32_at, u64_at};

/// The length of an entry's header, in bytes.
pub const ENTRY_HEADER_BYTES: usize = 72;
/// The length of a request row, in bytes.
pub const REQUEST_ROW_BYTES: usize = 56;

pub(crate) const ENTRY_MAGIC: [u8; 4] = *b"KMBE";
const ENTRY_VERSION: u8 = 1;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// Accepted appends: request rows and the blocks that hold their events.
    Append = 1,
    /// Nothing: what a new leader commits to learn what is committed.
    Blank = 2,
    /// The members of the cluster; has a body.
    Membership = 3,
    /// A decision of the state machine (catalogue, producers, tenants); has a body.
    Command = 4,
    /// The start of a sequencer's epoch.
    Begin = 5,
    /// Only a timestamp, so that a cut at a time can be answered.
    Time = 6,
}

impl EntryKind {
    /// The kind of this number, if there is one.
    pub const fn from_number(number: u8) -> Option<EntryKind> {
        Some(match number {
            1 => EntryKind::Append,
            2 => EntryKind::Blank,
            3 => EntryKind::Membership,
            4 => EntryKind::Command,
            5 => EntryKind::Begin,
            6 => EntryKind::Time,
            _ => return None,
        })
    }

    /// Whether entries of this kind carry a body instead of request rows and blocks.
    pub const fn has_body(self) -> bool {
        matches!(self, EntryKind::Membership | EntryKind::Command)
    }
}

/// The header of an entry, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// What the entry is.
    pub kind: EntryKind,
    /// Reserved; zero.
    pub flags: u16,
    /// The entry's length in bytes: header, rows or body, and blocks, without padding.
    pub entry_len: u32,
    /// The Raft term; 1 for a log that stands alone.
    pub term: u64,
    /// The entry's index, from 1, without gaps.
    pub index: u64,
    /// The epoch of the sequencer that made it.
    pub epoch: u64,
    /// The entry's number within its epoch.
    pub ordinal: u64,
    /// Nanoseconds since the Unix epoch; never below the entry before.
    pub timestamp_ns: u64,
    /// How many request rows follow.
    pub request_count: u32,
    /// How many blocks follow the rows.
    pub block_count: u32,
    /// The CRC-32C of the rows or of the body.
    pub meta_crc: u32,
}

/// What the log remembers of one request whose events an entry holds: enough to answer a repeat of
/// it with its first outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RequestRow {
    /// The producer that sent the request; 0 for none.
    pub producer_id: u64,
    /// The producer's number for it.
    pub sequence: u64,
    /// Every sequence below this one is settled for the producer.
    pub acked_below: u64,
    /// The tenant of the stream.
    pub tenant_id: u64,
    /// The stream appended to.
    pub stream_id: u64,
    /// The offset of the request's first event.
    pub first_offset: u64,
    /// How many events it has.
    pub count: u32,
    /// The CRC-32C of the request's payload.
    pub digest: u32,
}

/// An entry to be committed. The writer gives it its term and index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryDraft {
    /// What the entry is.
    pub kind: EntryKind,
    /// The epoch of the sequencer.
    pub epoch: u64,
    /// The entry's number within the epoch.
    pub ordinal: u64,
    /// Nanoseconds since the Unix epoch; not below the entry before.
    pub timestamp_ns: u64,
    /// The requests, for `Append`; else empty.
    pub rows: Vec<RequestRow>,
    /// The body, for `Command` and `Membership`; else empty.
    pub command: Vec<u8>,
    /// Finished blocks, one after the other, for `Append`; a multiple of eight bytes.
    pub blocks: Vec<u8>,
    /// How many blocks `blocks` holds.
    pub block_count: u32,
}

/// Where an entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryPlace {
    /// The entry's index.
    pub index: u64,
    /// The number of the segment that holds it, from 1.
    pub segment: u64,
    /// The byte at which its header begins in the segment's file.
    pub position: u64,
    /// Its length in bytes, header included.
    pub entry_len: u32,
}

/// A whole entry whose checksums were found to hold; borrows its bytes.
#[derive(Clone, Copy, Debug)]
pub struct EntryView<'a> {
    header: EntryHeader,
    bytes: &'a [u8],
}

impl<'a> EntryView<'a> {
    /// The header.
    pub fn header(&self) -> &EntryHeader {
        &self.header
    }

    /// The request rows, decoded one by one; none but for `Append`.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = RequestRow> + use<'a> {
        let rows = &self.bytes[ENTRY_HEADER_BYTES..self.blocks_position()];
        let rows = if self.header.kind.has_body() { &[][..] } else { rows };
        rows.chunks_exact(REQUEST_ROW_BYTES).map(RequestRow::decode)
    }

    /// The body of a command or membership entry; else empty.
    pub fn command(&self) -> &'a [u8] {
        if self.header.kind.has_body() { &self.bytes[ENTRY_HEADER_BYTES..] } else { &[] }
    }

    /// The blocks, one after the other; empty for a kind without.
    pub fn blocks(&self) -> &'a [u8] {
        &self.bytes[self.blocks_position()..]
    }

    /// The byte within the entry at which its first block begins; its length if it has none.
    pub fn blocks_position(&self) -> usize {
        if self.header.kind.has_body() {
            self.bytes.len()
        } else {
            ENTRY_HEADER_BYTES + self.header.request_count as usize * REQUEST_ROW_BYTES
        }
    }

    /// The entry's bytes, without padding.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl RequestRow {
    fn decode(row: &[u8]) -> RequestRow {
        RequestRow {
            producer_id: u64_at(row, 0),
            sequence: u64_at(row, 8),
            acked_below: u64_at(row, 16),
            tenant_id: u64_at(row, 24),
            stream_id: u64_at(row, 32),
            first_offset: u64_at(row, 40),
            count: u32_at(row, 48),
            digest: u32_at(row, 52),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for word in [
            self.producer_id,
            self.sequence,
            self.acked_below,
            self.tenant_id,
            self.stream_id,
            self.first_offset,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.digest.to_le_bytes());
    }
}

impl EntryHeader {
    /// Writes the header into 72 bytes.
    fn encode_into(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&ENTRY_MAGIC);
        out[8] = ENTRY_VERSION;
        out[9] = self.kind as u8;
        out[10..12].copy_from_slice(&self.flags.to_le_bytes());
        out[12..16].copy_from_slice(&self.entry_len.to_le_bytes());
        let words = [self.term, self.index, self.epoch, self.ordinal, self.timestamp_ns];
        for (place, word) in out[16..56].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let halves = [self.request_count, self.block_count, self.meta_crc, 0];
        for (place, half) in out[56..72].chunks_exact_mut(4).zip(halves) {
            place.copy_from_slice(&half.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[8..72]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Result<EntryHeader, EntryFault> {
        let bytes =
            bytes.get(..ENTRY_HEADER_BYTES).ok_or(EntryFault::Damaged("an entry is cut short"))?;
        if bytes[..4] != ENTRY_MAGIC {
            return Err(EntryFault::Damaged("no entry begins where one should"));
        }
        if u32_at(bytes, 4) != crc32c::crc32c(&bytes[8..]) {
            return Err(EntryFault::Damaged("the checksum of an entry's header does not fit"));
        }
        let (version, kind, flags) = (bytes[8], bytes[9], u16_at(bytes, 10));
        let known = EntryKind::from_number(kind).filter(|_| version == ENTRY_VERSION && flags == 0);
        let Some(kind) = known else {
            return Err(EntryFault::Unknown(format!(
                "an entry of version {version}, kind {kind} and flags {flags}"
            )));
        };
        Ok(EntryHeader {
            kind,
            flags,
            entry_len: u32_at(bytes, 12),
            term: u64_at(bytes, 16),
            index: u64_at(bytes, 24),
            epoch: u64_at(bytes, 32),
            ordinal: u64_at(bytes, 40),
            timestamp_ns: u64_at(bytes, 48),
            request_count: u32_at(bytes, 56),
            block_count: u32_at(bytes, 60),
            meta_crc: u32_at(bytes, 64),
        })
    }
}

/// Why bytes are not an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryFault {
    /// Something does not fit: bytes changed or are missing.
    Damaged(&'static str),
    /// Whole, but of a kind or version that this code does not know; says which.
    Unknown(String),
}

impl EntryDraft {
    /// The length that the entry will have, without padding.
    pub(crate) fn entry_len(&self) -> u64 {
        let meta = self.rows.len() as u64 * REQUEST_ROW_BYTES as u64 + self.command.len() as u64;
        ENTRY_HEADER_BYTES as u64 + meta + self.blocks.len() as u64
    }

    /// Writes everything but the blocks and the padding, which follow.
    pub(crate) fn encode_head(&self, term: u64, index: u64, out: &mut Vec<u8>) {
        let header_at = out.len();
        out.resize(header_at + ENTRY_HEADER_BYTES, 0);
        for row in &self.rows {
            row.encode(out);
        }
        out.extend_from_slice(&self.command);
        let meta_crc = crc32c::crc32c(&out[header_at + ENTRY_HEADER_BYTES..]);
        let header = EntryHeader {
            kind: self.kind,
            flags: 0,
            // The writer has refused what does not fit 32 bits.
            entry_len: self.entry_len() as u32,
            term,
            index,
            epoch: self.epoch,
            ordinal: self.ordinal,
            timestamp_ns: self.timestamp_ns,
            request_count: self.rows.len() as u32,
            block_count: self.block_count,
            meta_crc,
        };
        header.encode_into(&mut out[header_at..header_at + ENTRY_HEADER_BYTES]);
    }
}

impl<'a> EntryView<'a> {
    /// The entry at the start of `bytes`, and how many bytes it takes with its padding. Every byte
    /// is under a checksum or must be zero.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<(EntryView<'a>, usize), EntryFault> {
        let header = EntryHeader::decode(bytes)?;
        if u32_at(bytes, 68) != 0 {
            return Err(EntryFault::Unknown("an entry that uses a reserved field".to_owned()));
        }
        let entry_len = header.entry_len as usize;
        let meta_end = if header.kind.has_body() {
            entry_len as u64
        } else {
            ENTRY_HEADER_BYTES as u64 + u64::from(header.request_count) * REQUEST_ROW_BYTES as u64
        };
        if entry_len < ENTRY_HEADER_BYTES || meta_end > entry_len as u64 {
            return Err(EntryFault::Damaged("an entry is shorter than its rows"));
        }
        let padded_len = padded(entry_len as u64) as usize;
        let Some(whole) = bytes.get(..padded_len) else {
            return Err(EntryFault::Damaged("an entry is longer than its group"));
        };
        let (entry, padding) = whole.split_at(entry_len);
        let (meta, blocks) =
            entry[ENTRY_HEADER_BYTES..].split_at(meta_end as usize - ENTRY_HEADER_BYTES);
        if crc32c::crc32c(meta) != header.meta_crc {
            return Err(EntryFault::Damaged(
                "the checksum of an entry's rows or body does not fit",
            ));
        }
        if padding.iter().any(|byte| *byte != 0) {
            return Err(EntryFault::Damaged("the padding after an entry is not zero"));
        }
        check_blocks(blocks, header.block_count)?;
        Ok((EntryView { header, bytes: entry }, padded_len))
    }
}

/// Checks that `blocks` is exactly so many whole blocks.
fn check_blocks(mut blocks: &[u8], count: u32) -> Result<(), EntryFault> {
    for _ in 0..count {
        match BlockView::parse(blocks) {
            Ok(Some((_, block_len))) => blocks = &blocks[block_len..],
            Ok(None) => return Err(EntryFault::Damaged("a block is longer than its entry")),
            Err(e) if is_intact_block(blocks) => return Err(EntryFault::Unknown(e.to_string())),
            Err(_) => return Err(EntryFault::Damaged("the checksums of a block do not fit")),
        }
    }
    if blocks.is_empty() {
        Ok(())
    } else {
        Err(EntryFault::Damaged("an entry is longer than its blocks"))
    }
}

/// Whether a block that was refused has fitting checksums and padding all the same. Such a block was
/// written so, by a version that this code does not know, and must never be cut off as torn.
fn is_intact_block(block: &[u8]) -> bool {
    let Some((header, rest)) = block.split_at_checked(BLOCK_HEADER_BYTES) else { return false };
    let body_len = u32_at(header, 12) as usize;
    let Some((body, after)) = rest.split_at_checked(body_len) else { return false };
    let padding = body_len.next_multiple_of(8) - body_len;
    header[..4] == BLOCK_MAGIC
        && u32_at(header, 4) == crc32c::crc32c(&header[8..])
        && u32_at(header, 16) == crc32c::crc32c(body)
        && after.iter().take(padding).all(|byte| *byte == 0)
}
