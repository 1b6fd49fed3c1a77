//! Proves what was read: from raw blocks alone, without trusting whoever sent them.

use kimberlite_wire::block::{BlockView, ChainVerifier, Hash, genesis};
use kimberlite_wire::constant::{NO_OFFSET, PAGE_EVENTS};
use kimberlite_wire::{DataClass, Error, ErrorCode, StreamInfo, VerifyResponse};

use crate::blocks::Blocks;

/// How far a stream's chain is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedHead {
    /// The chain's hash after the last proven block.
    pub head: Hash,
    /// The offset after the last proven event.
    pub next_offset: u64,
}

/// Where a stream's chain begins: proven up to offset 0, by the stream's tenant, id, name and
/// class. INVALID_DATA_CLASS where the information names none that this version knows.
pub fn genesis_of(tenant_id: u64, stream: &StreamInfo) -> Result<VerifiedHead, Error> {
    let class = DataClass::from_number(stream.data_class).ok_or_else(|| {
        let class = stream.data_class;
        let detail = format!("data_class is {class}; use PHI (0), NonPHI (1) or Deidentified (2)");
        Error::new(ErrorCode::InvalidDataClass, detail)
    })?;
    let head = genesis(tenant_id, stream.stream_id, &stream.name, class);
    Ok(VerifiedHead { head, next_offset: 0 })
}

/// Proves raw blocks, whole and in order, that continue what was proven before: every content hash,
/// every link of the chain, no gap. Blocks that end at or before the proven offset are passed over.
/// CORRUPTION names the first offset that does not fit, also as the error's value.
pub fn verify_blocks(proven: VerifiedHead, blocks: &[u8]) -> Result<VerifiedHead, Error> {
    let mut verifier = ChainVerifier::new(proven.head, proven.next_offset);
    let mut rest = blocks;
    while !rest.is_empty() {
        let misfit = |what: &dyn std::fmt::Display| {
            let next_offset = verifier.next_offset();
            let detail = format!("the block at offset {next_offset} does not fit: {what}");
            Error::new(ErrorCode::Corruption, detail).with_value(next_offset)
        };
        let (block, used) = BlockView::parse(rest)
            .map_err(|e| misfit(&e))?
            .ok_or_else(|| misfit(&"it is cut short"))?;
        if block.end_offset() > proven.next_offset {
            let refused = verifier.check(&block).map_err(|e| e.to_string());
            if let Err(what) = refused {
                let next_offset = verifier.next_offset();
                let detail = format!("the block at offset {next_offset} does not fit: {what}");
                return Err(Error::new(ErrorCode::Corruption, detail).with_value(next_offset));
            }
        }
        rest = &rest[used..];
    }
    Ok(VerifiedHead { head: *verifier.head(), next_offset: verifier.next_offset() })
}

/// A walk over a stream's chain, from its beginning to the end that the database told before.
pub(crate) struct Walk {
    chain: ChainVerifier,
    told: VerifiedHead,
    first_bad_offset: Option<u64>,
}

impl Walk {
    pub(crate) fn new(from: VerifiedHead, told: &StreamInfo) -> Walk {
        let mut walk = Walk {
            chain: ChainVerifier::new(from.head, from.next_offset),
            told: VerifiedHead { head: told.head, next_offset: told.next_offset },
            first_bad_offset: None,
        };
        if walk.at_end() && from.head != told.head {
            walk.first_bad_offset = Some(from.next_offset);
        }
        walk
    }

    fn at_end(&self) -> bool {
        self.chain.next_offset() >= self.told.next_offset
    }

    /// The offset to read from and how many events at most; `None` at the end of the walk.
    pub(crate) fn wanted(&self) -> Option<(u64, u64)> {
        let next_offset = self.chain.next_offset();
        if self.at_end() || self.first_bad_offset.is_some() {
            return None;
        }
        Some((next_offset, PAGE_EVENTS.min(self.told.next_offset - next_offset)))
    }

    /// Goes on over what was read. Damage, and a stream that ends too early, is what the walk is to
    /// find; any other error is handed on.
    pub(crate) fn read(&mut self, blocks: Result<Blocks, Error>) -> Result<(), Error> {
        let from_offset = self.chain.next_offset();
        match blocks {
            Ok(blocks) => {
                for block in blocks.iter() {
                    if !block.is_ok_and(|block| self.block(&block)) {
                        self.first_bad_offset = Some(self.chain.next_offset());
                        return Ok(());
                    }
                }
                if self.chain.next_offset() == from_offset {
                    self.first_bad_offset = Some(from_offset);
                }
                Ok(())
            }
            Err(e) if matches!(e.code, ErrorCode::Corruption | ErrorCode::OffsetOutOfRange) => {
                self.first_bad_offset = Some(from_offset);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Whether the block is the next one, and where it is the last makes the head that was told.
    fn block(&mut self, block: &BlockView<'_>) -> bool {
        let VerifiedHead { head, next_offset } = self.told;
        let end_offset = block.end_offset();
        end_offset <= next_offset
            && (end_offset < next_offset || block.header.chain == head)
            && self.chain.check(block).is_ok()
    }

    /// What was found, as of the position of the end.
    pub(crate) fn found(&self, position: u64) -> VerifyResponse {
        VerifyResponse {
            valid: self.first_bad_offset.is_none(),
            count: self.chain.next_offset(),
            first_bad_offset: self.first_bad_offset.unwrap_or(NO_OFFSET),
            head: *self.chain.head(),
            position,
        }
    }
}
