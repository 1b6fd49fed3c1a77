//! What is known of a segment that is complete, kept in memory for each of them: 48 bytes beside
//! some 64 MiB.

use crate::bytes_io::u64_at;
use crate::sequence::Sequence;

/// A complete segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub first_index: u64,
    /// One below `first_index` in a segment without entries.
    pub last_index: u64,
    /// Of the last entry of the log up to its end.
    pub last_timestamp_ns: u64,
    /// The byte after its seal.
    pub end: u64,
    /// Where the sequencer stands at its end.
    pub sequence: Sequence,
}

impl SegmentFacts {
    pub(crate) const BYTES: usize = 48;

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let words = [
            self.first_index,
            self.last_index,
            self.last_timestamp_ns,
            self.end,
            self.sequence.epoch,
            self.sequence.ordinal,
        ];
        words.into_iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }

    /// Decodes 48 bytes.
    pub(crate) fn decode(bytes: &[u8]) -> SegmentFacts {
        SegmentFacts {
            first_index: u64_at(bytes, 0),
            last_index: u64_at(bytes, 8),
            last_timestamp_ns: u64_at(bytes, 16),
            end: u64_at(bytes, 24),
            sequence: Sequence { epoch: u64_at(bytes, 32), ordinal: u64_at(bytes, 40) },
        }
    }
}
