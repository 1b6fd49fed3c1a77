//! The fixed parts of a segment file: its header, group frames, and the seal.
//!
//! ```text
//! segment header, 64 bytes at byte 0
//!   0 magic 4 "KMBS"   4 crc 4 (CRC-32C of 8..64)   8 version 2   10 reserved 2   12 salt 4
//!  16 log_id 16       32 segment 8                 40 first_index 8   48 reserved 16
//! group frame, 40 bytes
//!   0 magic 4 "KMBG"   4 crc 4 (CRC-32C of 8..40)   8 segment 8   16 durable_upto 8
//!  24 committed 8     32 length 4                  36 salt 4
//! seal, 64 bytes: the whole content of a segment's last frame
//!   0 magic 4 "KMBZ"   4 crc 4 (CRC-32C of 8..64)   8 segment 8   16 first_index 8
//!  24 last_index 8    32 last_timestamp_ns 8       40 reserved 16     56 next_segment 8
//! ```
//! `durable_upto` is the byte of this segment up to which everything was durable when the frame was
//! written, and so it tells damage from a write that never finished. `committed` is the last index
//! known to be committed then. `length` counts the bytes after the frame: entries, a seal, or
//! nothing at a clean shutdown.
//!
//! The salt is drawn once for a log and never leaves its folder. Without it an event whose bytes
//! look like a frame could pass for one while a damaged tail is searched.
//!
//! `next_segment` is the segment that was there already, with its name durable, when this one was
//! sealed: it proves that one which is missing has existed. It is 0 where there was none, and in
//! seals that were written before the field had a meaning.

use crate::bytes_io::{u16_at, u32_at, u64_at};

pub(crate) const SEGMENT_HEADER_BYTES: u64 = 64;
pub(crate) const FRAME_BYTES: u64 = 40;
const SEAL_BODY_BYTES: u32 = 64;
/// The seal with its frame. Every segment keeps this much room at its end.
pub(crate) const SEAL_BYTES: u64 = FRAME_BYTES + SEAL_BODY_BYTES as u64;

const SEGMENT_MAGIC: [u8; 4] = *b"KMBS";
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"KMBG";
const SEAL_MAGIC: [u8; 4] = *b"KMBZ";
/// The version of the folder's format that this code writes and reads.
pub(crate) const FORMAT_VERSION: u16 = 1;

/// What makes a log this one: drawn when it is made, repeated in every segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogIdentity {
    pub log_id: [u8; 16],
    pub salt: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub identity: LogIdentity,
    pub segment: u64,
    pub first_index: u64,
}

/// Why a segment header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Damaged,
    /// Written by a version that this code does not know.
    Version(u16),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut out = [0; SEGMENT_HEADER_BYTES as usize];
        out[..4].copy_from_slice(&SEGMENT_MAGIC);
        out[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.identity.salt.to_le_bytes());
        out[16..32].copy_from_slice(&self.identity.log_id);
        out[32..40].copy_from_slice(&self.segment.to_le_bytes());
        out[40..48].copy_from_slice(&self.first_index.to_le_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Decodes 64 bytes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderFault> {
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES as usize).ok_or(HeaderFault::Damaged)?;
        if bytes[..4] != SEGMENT_MAGIC || u32_at(bytes, 4) != crc32c::crc32c(&bytes[8..]) {
            return Err(HeaderFault::Damaged);
        }
        let version = u16_at(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(HeaderFault::Version(version));
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&bytes[16..32]);
        Ok(SegmentHeader {
            identity: LogIdentity { log_id, salt: u32_at(bytes, 12) },
            segment: u64_at(bytes, 32),
            first_index: u64_at(bytes, 40),
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupFrame {
    pub segment: u64,
    pub durable_upto: u64,
    pub committed: u64,
    pub length: u32,
    pub salt: u32,
}

impl GroupFrame {
    pub(crate) fn encode(&self) -> [u8; FRAME_BYTES as usize] {
        let mut out = [0; FRAME_BYTES as usize];
        out[..4].copy_from_slice(&FRAME_MAGIC);
        out[8..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.durable_upto.to_le_bytes());
        out[24..32].copy_from_slice(&self.committed.to_le_bytes());
        out[32..36].copy_from_slice(&self.length.to_le_bytes());
        out[36..40].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The frame in these bytes if there is one that belongs at `position` of this segment.
    pub(crate) fn decode(
        bytes: &[u8],
        position: u64,
        segment: u64,
        salt: u32,
    ) -> Option<GroupFrame> {
        let bytes = bytes.get(..FRAME_BYTES as usize)?;
        if bytes[..4] != FRAME_MAGIC || u32_at(bytes, 4) != crc32c::crc32c(&bytes[8..]) {
            return None;
        }
        let frame = GroupFrame {
            segment: u64_at(bytes, 8),
            durable_upto: u64_at(bytes, 16),
            committed: u64_at(bytes, 24),
            length: u32_at(bytes, 32),
            salt: u32_at(bytes, 36),
        };
        let belongs = frame.segment == segment
            && frame.salt == salt
            && frame.durable_upto <= position
            && frame.length.is_multiple_of(8);
        belongs.then_some(frame)
    }
}

/// What stands at the end of a segment that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub segment: u64,
    pub first_index: u64,
    /// One below `first_index` in a segment without entries.
    pub last_index: u64,
    pub last_timestamp_ns: u64,
    /// The segment that is there already to go on with; 0 for none.
    pub next_segment: u64,
}

impl Seal {
    /// The seal with its frame, for the end of a segment that is durable up to `durable_upto`.
    pub(crate) fn encode(&self, durable_upto: u64, salt: u32) -> [u8; SEAL_BYTES as usize] {
        let frame = GroupFrame {
            segment: self.segment,
            durable_upto,
            committed: self.last_index,
            length: SEAL_BODY_BYTES,
            salt,
        };
        let mut out = [0; SEAL_BYTES as usize];
        let (head, body) = out.split_at_mut(FRAME_BYTES as usize);
        head.copy_from_slice(&frame.encode());
        body[..4].copy_from_slice(&SEAL_MAGIC);
        body[8..16].copy_from_slice(&self.segment.to_le_bytes());
        body[16..24].copy_from_slice(&self.first_index.to_le_bytes());
        body[24..32].copy_from_slice(&self.last_index.to_le_bytes());
        body[32..40].copy_from_slice(&self.last_timestamp_ns.to_le_bytes());
        body[56..64].copy_from_slice(&self.next_segment.to_le_bytes());
        let crc = crc32c::crc32c(&body[8..]);
        body[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Whether a frame's content says that it is a seal; it may still be a damaged one.
    pub(crate) fn is_one(content: &[u8]) -> bool {
        content.starts_with(&SEAL_MAGIC)
    }

    /// The seal in a frame's content, if it is whole.
    pub(crate) fn decode(content: &[u8]) -> Option<Seal> {
        let whole = content.len() == SEAL_BODY_BYTES as usize
            && Seal::is_one(content)
            && u32_at(content, 4) == crc32c::crc32c(&content[8..]);
        whole.then(|| Seal {
            segment: u64_at(content, 8),
            first_index: u64_at(content, 16),
            last_index: u64_at(content, 24),
            last_timestamp_ns: u64_at(content, 32),
            next_segment: u64_at(content, 56),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field comes back, and a flip of any bit is noticed: nothing in a frame, a header or a
    /// seal lies outside a checksum.
    #[test]
    fn fixed_parts_survive_and_notice_flips() {
        let identity = LogIdentity { log_id: [7; 16], salt: 0xfeed_f00d };
        let header = SegmentHeader { identity, segment: 3, first_index: 1 << 40 };
        let frame = GroupFrame { segment: 3, durable_upto: 64, committed: 9, length: 128, salt: 5 };
        let (last_timestamp_ns, next_segment) = (1 << 60, 4);
        let seal =
            Seal { segment: 3, first_index: 4, last_index: 9, last_timestamp_ns, next_segment };
        let (header_bytes, frame_bytes) = (header.encode(), frame.encode());
        let seal_bytes = seal.encode(640, 5);
        assert_eq!(SegmentHeader::decode(&header_bytes), Ok(header));
        assert_eq!(GroupFrame::decode(&frame_bytes, 64, 3, 5), Some(frame));
        assert_eq!(Seal::decode(&seal_bytes[40..]), Some(seal));
        for bit in 0..header_bytes.len() * 8 {
            let mut bytes = header_bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bytes).is_err(), "bit {bit} of the header");
        }
        for bit in 0..frame_bytes.len() * 8 {
            let mut bytes = frame_bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupFrame::decode(&bytes, 64, 3, 5).is_none(), "bit {bit} of the frame");
        }
        for bit in 320..seal_bytes.len() * 8 {
            let mut bytes = seal_bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Seal::decode(&bytes[40..]).is_none(), "bit {bit} of the seal");
        }
    }

    /// A frame is only taken at its own place: not in another segment or log, and not where it
    /// claims more than lies before it.
    #[test]
    fn frames_belong_to_one_place() {
        let frame = GroupFrame { segment: 3, durable_upto: 640, committed: 9, length: 0, salt: 5 };
        let bytes = frame.encode();
        assert!(GroupFrame::decode(&bytes, 640, 3, 5).is_some());
        assert!(GroupFrame::decode(&bytes, 632, 3, 5).is_none());
        assert!(GroupFrame::decode(&bytes, 640, 4, 5).is_none());
        assert!(GroupFrame::decode(&bytes, 640, 3, 6).is_none());
        assert!(GroupFrame::decode(&bytes[..39], 640, 3, 5).is_none());
    }
}
