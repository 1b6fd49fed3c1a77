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

use crate::bytes_io::{u16_at, u32_at, u64_at};

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
