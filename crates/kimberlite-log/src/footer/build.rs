//! Makes the footer of one segment from its entries.

use std::collections::BTreeMap;

use kimberlite_wire::block::{BLOCK_HEADER_BYTES, BlockHeader};
use kimberlite_wire::{Error, ErrorCode};
use sha2::{Digest, Sha256};

use super::format::{
    Fence, Key, NodeId, PAGE_BLOCKS, PAGE_TIMES, Piece, Root, Run, TimesFence, assemble,
};
use crate::entry::{EntryKind, EntryPlace, EntryView};
use crate::facts::SegmentFacts;
use crate::place::{BlockPlace, encode_places, encode_times};
use crate::sequence::Sequence;

/// How many bytes of entries a digest stands for, so that a copy can be resumed and checked in
/// pieces.
const PIECE_BYTES: u64 = 4 << 20;

/// Takes a segment's entries in order, and makes its footer.
#[derive(Debug)]
pub(crate) struct FooterBuilder {
    segment: u64,
    sequence: Sequence,
    streams: BTreeMap<u64, Vec<BlockPlace>>,
    times: Vec<u64>,
    piece: Sha256,
    piece_bytes: u64,
    pieces: Vec<Piece>,
}

impl FooterBuilder {
    /// `sequence` is where the sequencer stands before the segment.
    pub(crate) fn new(segment: u64, sequence: Sequence) -> FooterBuilder {
        FooterBuilder {
            segment,
            sequence,
            streams: BTreeMap::new(),
            times: Vec::new(),
            piece: Sha256::new(),
            piece_bytes: 0,
            pieces: Vec::new(),
        }
    }

    /// Takes the next entry. Fails where a place is beyond what an index can tell.
    pub(crate) fn entry(&mut self, view: &EntryView<'_>, place: EntryPlace) -> Result<(), Error> {
        let header = view.header();
        self.times.push(header.timestamp_ns);
        self.piece.update(view.bytes());
        self.piece_bytes += view.bytes().len() as u64;
        if self.piece_bytes >= PIECE_BYTES {
            self.end_piece(header.index);
        }
        if !self.sequence.admit_header(header) || header.kind != EntryKind::Append {
            return Ok(());
        }
        let mut blocks = view.blocks();
        let mut start = place.position + view.blocks_position() as u64;
        while blocks.len() >= BLOCK_HEADER_BYTES {
            let block = BlockHeader::decode(blocks)?;
            self.streams.entry(block.stream_id).or_default().push(BlockPlace {
                first_offset: block.first_offset,
                timestamp_ns: block.timestamp_ns,
                index: header.index,
                segment: narrow("segment", self.segment)?,
                start: narrow("position", start)?,
                body_len: block.body_len,
                count: block.count,
            });
            let len = block.block_len().min(blocks.len());
            blocks = &blocks[len..];
            start += len as u64;
        }
        Ok(())
    }

    fn end_piece(&mut self, last_index: u64) {
        let sha256 = std::mem::take(&mut self.piece).finalize().into();
        let entry_bytes = std::mem::take(&mut self.piece_bytes);
        self.pieces.push(Piece { last_index, entry_bytes, sha256 });
    }

    /// The footer's bytes.
    pub(crate) fn finish(mut self, facts: &SegmentFacts, log_id: [u8; 16]) -> Vec<u8> {
        if self.piece_bytes > 0 {
            self.end_piece(facts.last_index);
        }
        let mut digest = Sha256::new();
        self.pieces.iter().for_each(|piece| digest.update(piece.sha256));
        let mut pages = Vec::new();
        let runs = self.streams.iter().map(|(id, places)| run(*id, places, &mut pages)).collect();
        let times = self.times.chunks(PAGE_TIMES).map(|times| {
            let at = pages.len();
            encode_times(times.iter().copied(), &mut pages);
            let (len, crc) = ((pages.len() - at) as u32, crc32c::crc32c(&pages[at..]));
            TimesFence { first_timestamp_ns: times[0], at: at as u64, len, crc }
        });
        let root = Root {
            id: NodeId::segment(self.segment),
            log_id,
            first_index: facts.first_index,
            last_index: facts.last_index,
            last_timestamp_ns: facts.last_timestamp_ns,
            end: facts.end,
            digest: digest.finalize().into(),
            streams: 0,
            runs_at: 0,
            chunks: Vec::new(),
            times: times.collect(),
            pieces: self.pieces,
        };
        assemble(root, runs, &pages)
    }
}

/// A stream's run and its fences; the pages go to `pages`.
fn run(stream_id: u64, places: &[BlockPlace], pages: &mut Vec<u8>) -> (Run, Vec<Fence>) {
    let mut data_bytes = 0;
    let mut fences = Vec::with_capacity(places.len().div_ceil(PAGE_BLOCKS));
    for page in places.chunks(PAGE_BLOCKS) {
        let at = pages.len();
        encode_places(page.iter().copied(), pages);
        fences.push(Fence {
            first: key(&page[0]),
            data_before: data_bytes,
            at: at as u64,
            len: (pages.len() - at) as u32,
            crc: crc32c::crc32c(&pages[at..]),
        });
        data_bytes += page.iter().map(BlockPlace::data_bytes).sum::<u64>();
    }
    // A stream is listed with its first block.
    let last = places[places.len() - 1];
    let run = Run {
        stream_id,
        first: key(&places[0]),
        end_offset: last.end_offset(),
        last_index: last.index,
        data_bytes,
        fences_at: 0,
        fences: 0,
        crc: 0,
    };
    (run, fences)
}

/// What a block is ordered by.
pub(crate) fn key(place: &BlockPlace) -> Key {
    let BlockPlace { first_offset, timestamp_ns, index, .. } = *place;
    Key { first_offset, timestamp_ns, index }
}

fn narrow(what: &str, number: u64) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| {
        let detail = format!("the {what} of a block is {number}, beyond the index's 32 bits");
        Error::new(ErrorCode::LimitExceeded, detail)
    })
}
