//! Proves what was read: from raw blocks alone, without trusting whoever sent them.

use kimberlite_wire::block::{BlockView, ChainVerifier, Hash, genesis};
use kimberlite_wire::{DataClass, Error, ErrorCode, StreamInfo};

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
