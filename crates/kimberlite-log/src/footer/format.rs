//! The layout of a footer's file.
//!
//! ```text
//! root
//!    0 magic "KMBF" 4   4 crc 4 (CRC-32C of 8..root_len)    8 version 2   10 level 2   12 root_len 4
//!   16 log_id 16       32 number 8 (of the segment, or of the node within its level, from 1)
//!   40 first_index 8   48 last_index 8   56 last_timestamp_ns 8   64 end 8 (of the segment's file)
//!   72 digest 32      104 streams 8     112 runs_at 8   120 times 4   124 pieces 4
//!  128 per 64 runs: first_stream 8, crc 4, reserved 4
//!      per 1,024 entries: first_timestamp 8, at 8, len 4, crc 4
//!      per piece of the segment: last_index 8, entry_bytes 8, sha256 32
//! runs, 80 bytes for each stream, by its id, at runs_at
//!    0 stream 8   8 first_offset 8   16 first_timestamp 8   24 first_index 8   32 end_offset 8
//!   40 last_index 8   48 data_bytes 8   56 fences_at 8   64 fences 4   68 crc 4   72 reserved 8
//! fences, 48 bytes for each page of 256 blocks, or for each footer below
//!    0 first_offset 8   8 first_timestamp 8   16 first_index 8   24 data_bytes before it 8
//!   32 at 8 (of the page, or the number of the footer below)   40 len 4   44 crc 4
//! pages of places and of timestamps, as differences
//! ```
//! A piece is the entries of some 4 MiB, counted without frames and padding: the same bytes on every
//! member, however its groups were framed. The digest is the SHA-256 of the pieces' digests.

use crate::bytes_io::{u16_at, u32_at, u64_at};

pub(crate) const VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"KMBF";
const ROOT_BYTES: usize = 128;
const RUN_BYTES: usize = 80;
const FENCE_BYTES: usize = 48;
const CHUNK_BYTES: usize = 16;
const TIMES_BYTES: usize = 24;
const PIECE_BYTES: usize = 48;
/// How many runs share a checksum and are read together.
pub(crate) const CHUNK_RUNS: usize = 64;
/// How many blocks a page tells of.
pub(crate) const PAGE_BLOCKS: usize = 256;
/// How many timestamps a page has.
pub(crate) const PAGE_TIMES: usize = 1024;
/// How many footers of one level the next joins.
pub(crate) const FAN_OUT: u64 = 16;
/// Levels beyond this one would join more segments than there are.
pub(crate) const MAX_LEVEL: u8 = 7;
/// What is read of a footer first; most roots are shorter.
pub(crate) const ROOT_READ_BYTES: usize = 4096;

/// A footer: a segment's at level 0, of sixteen of the level below at the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId {
    pub level: u8,
    /// From 1. The segment's number at level 0.
    pub number: u64,
}

impl NodeId {
    pub(crate) fn segment(number: u64) -> NodeId {
        NodeId { level: 0, number }
    }

    /// The segments that it tells of.
    pub(crate) fn segments(self) -> std::ops::RangeInclusive<u64> {
        let each = FAN_OUT.pow(u32::from(self.level));
        (self.number - 1) * each + 1..=self.number * each
    }

    /// The footers that it joins.
    pub(crate) fn children(self) -> impl Iterator<Item = NodeId> {
        let numbers = (self.number - 1) * FAN_OUT + 1..=self.number * FAN_OUT;
        numbers.map(move |number| NodeId { level: self.level - 1, number })
    }

    /// The footer that joins it and others, where it is the last of them.
    pub(crate) fn completes(self) -> Option<NodeId> {
        let last = self.number.is_multiple_of(FAN_OUT) && self.level < MAX_LEVEL;
        last.then(|| NodeId { level: self.level + 1, number: self.number / FAN_OUT })
    }
}

/// What blocks are ordered by: all three grow together within a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub first_offset: u64,
    pub timestamp_ns: u64,
    pub index: u64,
}

/// A stream in a footer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub stream_id: u64,
    /// Of its first block.
    pub first: Key,
    pub end_offset: u64,
    pub last_index: u64,
    pub data_bytes: u64,
    pub fences_at: u64,
    pub fences: u32,
    pub crc: u32,
}

/// A page of a run, or a footer below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    /// Of its first block.
    pub first: Key,
    /// Of the blocks of the run that come before.
    pub data_before: u64,
    /// Where the page begins, or the number of the footer.
    pub at: u64,
    pub len: u32,
    pub crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub first_stream: u64,
    pub crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimesFence {
    pub first_timestamp_ns: u64,
    pub at: u64,
    pub len: u32,
    pub crc: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub last_index: u64,
    pub entry_bytes: u64,
    pub sha256: [u8; 32],
}

/// The first part, which leads to all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub id: NodeId,
    pub log_id: [u8; 16],
    pub first_index: u64,
    pub last_index: u64,
    pub last_timestamp_ns: u64,
    pub end: u64,
    pub digest: [u8; 32],
    pub streams: u64,
    pub runs_at: u64,
    pub chunks: Vec<Chunk>,
    pub times: Vec<TimesFence>,
    pub pieces: Vec<Piece>,
}

fn put_words<const N: usize>(words: [u64; N], out: &mut Vec<u8>) {
    words.into_iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

fn put_halves<const N: usize>(halves: [u32; N], out: &mut Vec<u8>) {
    halves.into_iter().for_each(|half| out.extend_from_slice(&half.to_le_bytes()));
}

impl Key {
    fn put(self, out: &mut Vec<u8>) {
        put_words([self.first_offset, self.timestamp_ns, self.index], out);
    }

    fn at(bytes: &[u8], at: usize) -> Key {
        Key {
            first_offset: u64_at(bytes, at),
            timestamp_ns: u64_at(bytes, at + 8),
            index: u64_at(bytes, at + 16),
        }
    }
}

impl Run {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_words([self.stream_id], out);
        self.first.put(out);
        put_words([self.end_offset, self.last_index, self.data_bytes, self.fences_at], out);
        put_halves([self.fences, self.crc, 0, 0], out);
    }

    pub(crate) fn decode_all(bytes: &[u8]) -> Vec<Run> {
        let decode = |bytes: &[u8]| Run {
            stream_id: u64_at(bytes, 0),
            first: Key::at(bytes, 8),
            end_offset: u64_at(bytes, 32),
            last_index: u64_at(bytes, 40),
            data_bytes: u64_at(bytes, 48),
            fences_at: u64_at(bytes, 56),
            fences: u32_at(bytes, 64),
            crc: u32_at(bytes, 68),
        };
        bytes.chunks_exact(RUN_BYTES).map(decode).collect()
    }

    /// How many bytes its fences take.
    pub(crate) fn fences_len(&self) -> usize {
        (self.fences as usize).saturating_mul(FENCE_BYTES)
    }
}

impl Fence {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        self.first.put(out);
        put_words([self.data_before, self.at], out);
        put_halves([self.len, self.crc], out);
    }

    pub(crate) fn decode_all(bytes: &[u8]) -> Vec<Fence> {
        let decode = |bytes: &[u8]| Fence {
            first: Key::at(bytes, 0),
            data_before: u64_at(bytes, 24),
            at: u64_at(bytes, 32),
            len: u32_at(bytes, 40),
            crc: u32_at(bytes, 44),
        };
        bytes.chunks_exact(FENCE_BYTES).map(decode).collect()
    }
}

/// Why a root cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootFault {
    Damaged,
    /// It is longer than what was read: so many bytes.
    Longer(usize),
}

impl Root {
    pub(crate) fn len_of(chunks: usize, times: usize, pieces: usize) -> usize {
        ROOT_BYTES + chunks * CHUNK_BYTES + times * TIMES_BYTES + pieces * PIECE_BYTES
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let len = Root::len_of(self.chunks.len(), self.times.len(), self.pieces.len());
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&MAGIC);
        put_halves([0], &mut out);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u16::from(self.id.level).to_le_bytes());
        put_halves([len as u32], &mut out);
        out.extend_from_slice(&self.log_id);
        put_words([self.id.number, self.first_index, self.last_index], &mut out);
        put_words([self.last_timestamp_ns, self.end], &mut out);
        out.extend_from_slice(&self.digest);
        put_words([self.streams, self.runs_at], &mut out);
        put_halves([self.times.len() as u32, self.pieces.len() as u32], &mut out);
        for chunk in &self.chunks {
            put_words([chunk.first_stream], &mut out);
            put_halves([chunk.crc, 0], &mut out);
        }
        for times in &self.times {
            put_words([times.first_timestamp_ns, times.at], &mut out);
            put_halves([times.len, times.crc], &mut out);
        }
        for piece in &self.pieces {
            put_words([piece.last_index, piece.entry_bytes], &mut out);
            out.extend_from_slice(&piece.sha256);
        }
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The root at the start of `bytes`. One of an unknown version counts as damaged: it is made
    /// anew.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Root, RootFault> {
        if bytes.len() < ROOT_BYTES || bytes[..4] != MAGIC || u16_at(bytes, 8) != VERSION {
            return Err(RootFault::Damaged);
        }
        let len = u32_at(bytes, 12) as usize;
        let Some(bytes) = bytes.get(..len) else { return Err(RootFault::Longer(len)) };
        if len < ROOT_BYTES || u32_at(bytes, 4) != crc32c::crc32c(&bytes[8..]) {
            return Err(RootFault::Damaged);
        }
        let streams = u64_at(bytes, 104);
        let chunks = streams.div_ceil(CHUNK_RUNS as u64) as usize;
        let (times, pieces) = (u32_at(bytes, 120) as usize, u32_at(bytes, 124) as usize);
        let level = u8::try_from(u16_at(bytes, 10)).map_err(|_| RootFault::Damaged)?;
        // The sum cannot overflow where it is no longer than what is there.
        if chunks > len || Root::len_of(chunks, times, pieces) != len {
            return Err(RootFault::Damaged);
        }
        let (chunk_part, rest) = bytes[ROOT_BYTES..].split_at(chunks * CHUNK_BYTES);
        let (times_part, piece_part) = rest.split_at(times * TIMES_BYTES);
        Ok(Root {
            id: NodeId { level, number: u64_at(bytes, 32) },
            log_id: array_at(bytes, 16),
            first_index: u64_at(bytes, 40),
            last_index: u64_at(bytes, 48),
            last_timestamp_ns: u64_at(bytes, 56),
            end: u64_at(bytes, 64),
            digest: array_at(bytes, 72),
            streams,
            runs_at: u64_at(bytes, 112),
            chunks: chunk_part.chunks_exact(CHUNK_BYTES).map(decode_chunk).collect(),
            times: times_part.chunks_exact(TIMES_BYTES).map(decode_times).collect(),
            pieces: piece_part.chunks_exact(PIECE_BYTES).map(decode_piece).collect(),
        })
    }

    /// Where a chunk of runs lies: its first byte and its length.
    pub(crate) fn chunk_place(&self, chunk: usize) -> (u64, usize) {
        let first = (chunk * CHUNK_RUNS) as u64;
        let runs = self.streams.saturating_sub(first).min(CHUNK_RUNS as u64);
        (self.runs_at + first * RUN_BYTES as u64, runs as usize * RUN_BYTES)
    }
}

fn decode_chunk(bytes: &[u8]) -> Chunk {
    Chunk { first_stream: u64_at(bytes, 0), crc: u32_at(bytes, 8) }
}

fn decode_times(bytes: &[u8]) -> TimesFence {
    TimesFence {
        first_timestamp_ns: u64_at(bytes, 0),
        at: u64_at(bytes, 8),
        len: u32_at(bytes, 16),
        crc: u32_at(bytes, 20),
    }
}

fn decode_piece(bytes: &[u8]) -> Piece {
    Piece {
        last_index: u64_at(bytes, 0),
        entry_bytes: u64_at(bytes, 8),
        sha256: array_at(bytes, 16),
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// A footer put together: runs by stream id with their fences, and the pages, whose places in the
/// fences and in the root count from the first page.
pub(crate) fn assemble(mut root: Root, mut runs: Vec<(Run, Vec<Fence>)>, pages: &[u8]) -> Vec<u8> {
    root.streams = runs.len() as u64;
    let chunks = runs.len().div_ceil(CHUNK_RUNS);
    let root_len = Root::len_of(chunks, root.times.len(), root.pieces.len());
    root.runs_at = root_len.next_multiple_of(8) as u64;
    let fences_at = root.runs_at + (runs.len() * RUN_BYTES) as u64;
    let fence_count: usize = runs.iter().map(|(_, fences)| fences.len()).sum();
    let pages_at = fences_at + (fence_count * FENCE_BYTES) as u64;
    root.times.iter_mut().for_each(|times| times.at += pages_at);
    let (mut run_part, mut fence_part) = (Vec::new(), Vec::new());
    for (run, fences) in &mut runs {
        let from = fence_part.len();
        for fence in fences.iter_mut() {
            if root.id.level == 0 {
                fence.at += pages_at;
            }
            fence.encode(&mut fence_part);
        }
        run.fences_at = fences_at + from as u64;
        run.fences = fences.len() as u32;
        run.crc = crc32c::crc32c(&fence_part[from..]);
        run.encode(&mut run_part);
    }
    let firsts = runs.iter().step_by(CHUNK_RUNS).map(|(run, _)| run.stream_id);
    let crcs = run_part.chunks(CHUNK_RUNS * RUN_BYTES).map(crc32c::crc32c);
    root.chunks = firsts.zip(crcs).map(|(first_stream, crc)| Chunk { first_stream, crc }).collect();
    let mut out = root.encode();
    out.resize(root.runs_at as usize, 0);
    out.extend_from_slice(&run_part);
    out.extend_from_slice(&fence_part);
    out.extend_from_slice(pages);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> Root {
        Root {
            id: NodeId { level: 0, number: 7 },
            log_id: [3; 16],
            first_index: 9,
            last_index: 99,
            last_timestamp_ns: 1 << 60,
            end: 4096,
            digest: [5; 32],
            streams: 0,
            runs_at: 0,
            chunks: Vec::new(),
            times: vec![TimesFence { first_timestamp_ns: 3, at: 4, len: 5, crc: 6 }],
            pieces: vec![Piece { last_index: 99, entry_bytes: 1 << 40, sha256: [8; 32] }],
        }
    }

    /// A root comes back; every flip of a bit and every cut of it is noticed, never a panic.
    #[test]
    fn roots_survive_and_notice_flips() {
        let bytes = assemble(root(), Vec::new(), &[]);
        let decoded = Root::decode(&bytes).expect("a whole root");
        assert_eq!((decoded.id, decoded.pieces), (root().id, root().pieces));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let is_padding = bit / 8 >= u32_at(&bytes, 12) as usize;
            assert_eq!(Root::decode(&flipped).is_ok(), is_padding, "bit {bit}");
        }
        for end in 0..u32_at(&bytes, 12) as usize {
            assert!(Root::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    /// Nodes cover sixteen of the level below, and know when they complete the next level.
    #[test]
    fn nodes_and_what_they_join() {
        let node = NodeId { level: 2, number: 2 };
        assert_eq!(node.segments(), 257..=512);
        assert_eq!(node.children().next(), Some(NodeId { level: 1, number: 17 }));
        assert_eq!(NodeId::segment(16).completes(), Some(NodeId { level: 1, number: 1 }));
        assert_eq!(NodeId::segment(17).completes(), None);
    }
}
