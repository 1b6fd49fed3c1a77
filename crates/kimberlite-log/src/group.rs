//! The bytes of a group: which entries go into which frame, and how they are laid out for one write.
//!
//! Small pieces (frames, headers, rows, small blocks) are gathered in a buffer that is used again;
//! large runs of blocks are written from where they are, without a copy.

use std::ops::Range;

use kimberlite_wire::block::BlockHeader;
use kimberlite_wire::{Error, ErrorCode};

use crate::bytes_io::padded;
use crate::entry::{EntryDraft, EntryPlace};
use crate::format::{FRAME_BYTES, GroupFrame};

/// No entry is longer: far above what one append may carry.
const MAX_ENTRY_BYTES: u64 = 256 << 20;
/// A frame takes entries up to this length, and one at least, so that recovery can check a frame at
/// a time in little memory.
const FRAME_CONTENT_BYTES: u64 = 1 << 20;
/// From this length on, writing a part of its own is cheaper than copying it.
const PART_BYTES: usize = 32 << 10;
/// How much of the buffer is kept between groups.
const KEPT_BYTES: usize = 1 << 20;

/// Checks drafts before anything is written; returns the entries' lengths.
pub(crate) fn check(entries: &[EntryDraft], last_timestamp_ns: u64) -> Result<Vec<u32>, Error> {
    let mut lens = Vec::with_capacity(entries.len());
    let mut last = last_timestamp_ns;
    for (number, entry) in entries.iter().enumerate() {
        check_parts(number, entry)?;
        if entry.timestamp_ns < last {
            return Err(wrong(
                number,
                &format!("timestamp_ns is {}; it must be at least {last}", entry.timestamp_ns),
            ));
        }
        last = entry.timestamp_ns;
        let len = entry.entry_len();
        if len > MAX_ENTRY_BYTES {
            return Err(Error::limit("the length of a log entry in bytes", len, MAX_ENTRY_BYTES));
        }
        lens.push(len as u32);
    }
    Ok(lens)
}

/// A group whose blocks do not parse would be taken for a torn one at recovery, so that their
/// headers are checked here; their bodies are trusted.
fn check_parts(number: usize, entry: &EntryDraft) -> Result<(), Error> {
    use crate::entry::EntryKind::Append;
    if entry.kind != Append && !(entry.rows.is_empty() && entry.blocks.is_empty()) {
        return Err(wrong(number, "only an append has rows and blocks"));
    }
    if !entry.kind.has_body() && !entry.command.is_empty() {
        return Err(wrong(number, "only a command or membership entry has a body"));
    }
    let mut blocks = &entry.blocks[..];
    for _ in 0..entry.block_count {
        let header = BlockHeader::decode(blocks).map_err(|e| wrong(number, &e.to_string()))?;
        blocks = blocks
            .get(header.block_len()..)
            .ok_or_else(|| wrong(number, "its last block is cut short"))?;
    }
    if blocks.is_empty() {
        Ok(())
    } else {
        Err(wrong(number, &format!("block_count is {}, but more follows", entry.block_count)))
    }
}

fn wrong(number: usize, why: &str) -> Error {
    Error::new(ErrorCode::Internal, format!("draft {number} of a group cannot be logged: {why}"))
}

/// What of a group goes into one segment, frame by frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The entries of each frame, and the length of its content.
    frames: Vec<(Range<usize>, u64)>,
}

impl Layout {
    /// Takes as many entries as have room, from the first of `entries` on.
    pub(crate) fn new(lens: &[u32], entries: Range<usize>, room: u64) -> Layout {
        let mut frames: Vec<(Range<usize>, u64)> = Vec::new();
        let mut used = 0;
        for number in entries {
            let len = padded(u64::from(lens[number]));
            match frames.last_mut() {
                Some((range, content)) if *content + len <= FRAME_CONTENT_BYTES => {
                    if used + len > room {
                        break;
                    }
                    range.end = number + 1;
                    *content += len;
                    used += len;
                }
                _ => {
                    if used + FRAME_BYTES + len > room {
                        break;
                    }
                    frames.push((number..number + 1, len));
                    used += FRAME_BYTES + len;
                }
            }
        }
        Layout { frames }
    }

    /// How many bytes one entry takes at least.
    pub(crate) fn least_bytes(len: u32) -> u64 {
        FRAME_BYTES + padded(u64::from(len))
    }

    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> u64 {
        self.frames.iter().map(|(_, content)| FRAME_BYTES + content).sum()
    }

    /// The entries that it takes; empty where not even the first has room.
    pub(crate) fn entries(&self) -> Range<usize> {
        match (self.frames.first(), self.frames.last()) {
            (Some((first, _)), Some((last, _))) => first.start..last.end,
            _ => 0..0,
        }
    }
}

/// What every frame and entry of a write shares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupContext {
    pub segment: u64,
    pub salt: u32,
    /// Where the first frame goes.
    pub position: u64,
    /// Up to where the segment is durable now.
    pub durable_upto: u64,
    pub term: u64,
    /// The index of the layout's first entry.
    pub first_index: u64,
}

/// The bytes of a write, in order.
#[derive(Debug, Default)]
pub(crate) struct GroupBuffer {
    small: Vec<u8>,
    parts: Vec<Part>,
    /// From where the gathered bytes belong to no part yet.
    open_from: usize,
}

#[derive(Debug)]
enum Part {
    Gathered(Range<usize>),
    /// The blocks of this entry, in place.
    Blocks(usize),
}

impl GroupBuffer {
    /// Starts a new write; `head` comes before everything else.
    pub(crate) fn start(&mut self, head: &[u8]) {
        self.small.clear();
        self.small.shrink_to(KEPT_BYTES);
        self.parts.clear();
        self.open_from = 0;
        self.small.extend_from_slice(head);
    }

    /// Adds the frames of a layout; tells each entry's place.
    pub(crate) fn add(
        &mut self,
        entries: &[EntryDraft],
        layout: &Layout,
        context: &GroupContext,
        places: &mut Vec<EntryPlace>,
    ) {
        let mut position = context.position;
        let mut index = context.first_index;
        for (range, content) in &layout.frames {
            let frame = GroupFrame {
                segment: context.segment,
                durable_upto: context.durable_upto,
                committed: context.first_index.saturating_sub(1),
                // A frame holds one entry of a bounded length or a bounded sum.
                length: *content as u32,
                salt: context.salt,
            };
            self.small.extend_from_slice(&frame.encode());
            position += FRAME_BYTES;
            for number in range.clone() {
                let entry_len = self.add_entry(&entries[number], number, context.term, index);
                let segment = context.segment;
                places.push(EntryPlace { index, segment, position, entry_len });
                position += padded(u64::from(entry_len));
                index += 1;
            }
        }
        self.close_part();
    }

    fn add_entry(&mut self, entry: &EntryDraft, number: usize, term: u64, index: u64) -> u32 {
        entry.encode_head(term, index, &mut self.small);
        if entry.blocks.len() < PART_BYTES {
            self.small.extend_from_slice(&entry.blocks);
        } else {
            self.close_part();
            self.parts.push(Part::Blocks(number));
        }
        let entry_len = entry.entry_len();
        let padding = padded(entry_len) - entry_len;
        self.small.extend_from_slice(&[0; 8][..padding as usize]);
        entry_len as u32
    }

    fn close_part(&mut self) {
        if self.open_from < self.small.len() {
            self.parts.push(Part::Gathered(self.open_from..self.small.len()));
            self.open_from = self.small.len();
        }
    }

    /// The parts, to be written one after the other.
    pub(crate) fn parts<'a>(&'a self, entries: &'a [EntryDraft]) -> Vec<&'a [u8]> {
        let bytes = |part: &Part| match part {
            Part::Gathered(range) => &self.small[range.clone()],
            Part::Blocks(number) => &entries[*number].blocks[..],
        };
        self.parts.iter().map(bytes).collect()
    }
}
