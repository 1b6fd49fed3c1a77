//! States: what a database had made of its log up to an entry, so that a start reads only what comes
//! after it.
//!
//! ```text
//!   0 magic "KMBT" 4   4 crc 4 (CRC-32C of 8..header_len)   8 version 2   10 reserved 2
//!  12 header_len 4    16 log_id 16    32 salt 4    36 body_crc 4    40 index 8
//!  48 last_timestamp_ns 8    56 epoch 8    64 ordinal 8    72 segment 8    80 position 8
//!  88 body_len 8      96 segments 8     104 covered 8
//! 112 per complete segment: first_index 8, last_index 8, last_timestamp_ns 8, end 8, epoch 8,
//!     ordinal 8
//! header_len: the body, which is the database's own
//! ```
//! `segment` and `position` tell where the first frame after the state begins, `covered` the last
//! segment that had a footer: where blocks of later ones lie is part of the body. A state is written
//! only once everything in it is durable in the log, so that it also proves what must be there.
//!
//! A state that cannot be read, of whatever kind, is passed over: the one before it or the log from
//! its start serve as well.

use kimberlite_wire::Error;

use crate::bytes_io::{u16_at, u32_at, u64_at};
use crate::disk::Disk;
use crate::entry::{EntryPlace, EntryView};
use crate::facts::SegmentFacts;
use crate::format::LogIdentity;
use crate::names;
use crate::sequence::Sequence;

const MAGIC: [u8; 4] = *b"KMBT";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 112;
/// A state that says it is longer is no good.
const MOST_BYTES: u64 = 1 << 32;

/// What a database makes of the entries of its log.
pub trait StateMachine {
    /// Becomes what [`StateMachine::encode`] wrote. An error means that this is not possible; the
    /// machine must then be as new.
    fn restore(&mut self, state: &[u8]) -> Result<(), Error>;

    /// Applies the next entry.
    fn apply(&mut self, entry: &EntryView<'_>, place: EntryPlace) -> Result<(), Error>;

    /// What is applied, for a later [`StateMachine::restore`]. Where the blocks of segments before
    /// `first_segment` lie is not part of it.
    fn encode(&self, first_segment: u64) -> Vec<u8>;

    /// Where the blocks of segments up to this one lie is known to the index: it need not be kept.
    fn forget_places(&mut self, upto_segment: u64);
}

/// Everything about a state but the database's own part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateHeader {
    pub identity: LogIdentity,
    pub index: u64,
    pub last_timestamp_ns: u64,
    pub sequence: Sequence,
    /// Where the first frame after it begins.
    pub segment: u64,
    pub position: u64,
    /// The last segment whose footer was written.
    pub covered: u64,
    pub sealed: Vec<SegmentFacts>,
}

impl StateHeader {
    pub(crate) fn name(&self) -> String {
        names::state(self.index)
    }

    /// The file's bytes.
    pub(crate) fn encode(&self, body: &[u8]) -> Vec<u8> {
        let header_len = FIXED_BYTES + self.sealed.len() * SegmentFacts::BYTES;
        let mut out = Vec::with_capacity(header_len + body.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&(header_len as u32).to_le_bytes());
        out.extend_from_slice(&self.identity.log_id);
        out.extend_from_slice(&self.identity.salt.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
        for word in [
            self.index,
            self.last_timestamp_ns,
            self.sequence.epoch,
            self.sequence.ordinal,
            self.segment,
            self.position,
            body.len() as u64,
            self.sealed.len() as u64,
            self.covered,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        self.sealed.iter().for_each(|facts| facts.encode(&mut out));
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(body);
        out
    }

    /// A state's header and body; `None` where it is damaged or of an unknown version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(StateHeader, &[u8])> {
        let fixed = bytes.get(..FIXED_BYTES)?;
        if fixed[..4] != MAGIC || u16_at(fixed, 8) != VERSION {
            return None;
        }
        let (header, body) = bytes.split_at_checked(u32_at(fixed, 12) as usize)?;
        let table = header.get(FIXED_BYTES..)?;
        let sealed = usize::try_from(u64_at(fixed, 96)).ok()?;
        if u32_at(fixed, 4) != crc32c::crc32c(&header[8..])
            || sealed.checked_mul(SegmentFacts::BYTES)? != table.len()
            || u64_at(fixed, 88) != body.len() as u64
            || u32_at(fixed, 36) != crc32c::crc32c(body)
        {
            return None;
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&fixed[16..32]);
        let state = StateHeader {
            identity: LogIdentity { log_id, salt: u32_at(fixed, 32) },
            index: u64_at(fixed, 40),
            last_timestamp_ns: u64_at(fixed, 48),
            sequence: Sequence { epoch: u64_at(fixed, 56), ordinal: u64_at(fixed, 64) },
            segment: u64_at(fixed, 72),
            position: u64_at(fixed, 80),
            covered: u64_at(fixed, 104),
            sealed: table.chunks_exact(SegmentFacts::BYTES).map(SegmentFacts::decode).collect(),
        };
        // What follows the complete segments is the one to go on in.
        let fits = state.segment == sealed as u64 + 1 && state.covered <= sealed as u64;
        fits.then_some((state, body))
    }
}

/// The bytes of a state's file; `None` where it cannot be read.
pub(crate) fn read(disk: &dyn Disk, index: u64) -> Option<Vec<u8>> {
    let file = disk.open(&names::state(index)).ok()?;
    let len = file.len().ok().filter(|len| *len <= MOST_BYTES)?;
    let mut bytes = vec![0; usize::try_from(len).ok()?];
    let read = file.read_at(0, &mut bytes).ok()?;
    (read == bytes.len()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A state comes back whole, and any flip, cut or addition makes it none.
    #[test]
    fn states_survive_and_notice_flips() {
        let sequence = Sequence { epoch: 3, ordinal: 4 };
        let facts =
            SegmentFacts { first_index: 1, last_index: 8, last_timestamp_ns: 5, end: 99, sequence };
        let state = StateHeader {
            identity: LogIdentity { log_id: [7; 16], salt: 9 },
            index: 12,
            last_timestamp_ns: 77,
            sequence,
            segment: 2,
            position: 640,
            covered: 1,
            sealed: vec![facts],
        };
        let bytes = state.encode(b"the body");
        assert_eq!(StateHeader::decode(&bytes), Some((state, &b"the body"[..])));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(StateHeader::decode(&flipped), None, "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert_eq!(StateHeader::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(StateHeader::decode(&[&bytes[..], b"x"].concat()), None);
    }
}
