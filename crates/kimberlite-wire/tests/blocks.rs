//! Blocks and their chain: writing, reading in place, and finding every change.

use kimberlite_wire::block::*;
use kimberlite_wire::{DataClass, Error, ErrorCode, EventBatch};

fn draft(first_offset: u64, batch: &EventBatch) -> BlockDraft {
    BlockDraft {
        tenant_id: 1,
        stream_id: 7,
        first_offset,
        timestamp_ns: 1_700_000_000_000_000_000 + first_offset,
        count: batch.count(),
        content: content_hash(batch.payload()),
        body_crc: batch.crc(),
    }
}

/// Three blocks of a stream, their places in the bytes, and the chain's head behind them.
fn chain() -> (Vec<u8>, Hash) {
    let mut out = Vec::new();
    let mut head = genesis(1, 7, "orders", DataClass::NonPhi);
    let mut offset = 0;
    for events in [&["a", "bc"][..], &[""], &["def", "g", "hijklmnop"]] {
        let batch = EventBatch::from_events(events).unwrap();
        head = write_block(&mut out, &head, &draft(offset, &batch), batch.payload());
        offset += u64::from(batch.count());
    }
    (out, head)
}

/// Walks over blocks and verifies them.
fn verify(mut bytes: &[u8]) -> Result<ChainVerifier, Error> {
    let mut verifier = ChainVerifier::new(genesis(1, 7, "orders", DataClass::NonPhi), 0);
    while !bytes.is_empty() {
        let Some((block, consumed)) = BlockView::parse(bytes)? else {
            return Err(Error::protocol("cut short"));
        };
        verifier.check(&block)?;
        bytes = &bytes[consumed..];
    }
    Ok(verifier)
}

/// Shows that what was written is read in place, and that the chain fits to its head.
#[test]
fn round_trip() {
    let (bytes, head) = chain();
    assert_eq!(bytes.len() % 8, 0);
    let (block, consumed) = BlockView::parse(&bytes).unwrap().unwrap();
    assert_eq!(consumed, block.header.block_len());
    assert_eq!(block.events().collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
    assert_eq!(
        (block.event(1), block.data(), block.end_offset()),
        (Some(&b"bc"[..]), &b"abc"[..], 2)
    );
    assert_eq!(block.ends().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(BlockHeader::decode(&block.header.encode()), Ok(block.header));
    let verifier = verify(&bytes).unwrap();
    assert_eq!((verifier.head(), verifier.next_offset()), (&head, 6));
}

/// Shows that a reader that starts in the middle checks everything behind its first block.
#[test]
fn starting_in_the_middle() {
    let (bytes, head) = chain();
    let (_, first) = BlockView::parse(&bytes).unwrap().unwrap();
    let (second, len) = BlockView::parse(&bytes[first..]).unwrap().unwrap();
    let (third, _) = BlockView::parse(&bytes[first + len..]).unwrap().unwrap();
    let mut verifier = ChainVerifier::after(&second).unwrap();
    assert!(verifier.check(&second).is_err(), "a block does not follow itself");
    verifier.check(&third).unwrap();
    assert_eq!(verifier.head(), &head);
}

/// Shows that a block that has not come whole is waited for, at every length.
#[test]
fn more_bytes_are_needed() {
    let (bytes, _) = chain();
    let (_, len) = BlockView::parse(&bytes).unwrap().unwrap();
    for cut in 0..len {
        assert!(BlockView::parse(&bytes[..cut]).unwrap().is_none(), "{cut} bytes");
    }
}

/// Shows that no flipped bit goes unnoticed, wherever it is.
#[test]
fn every_bit_counts() {
    let (bytes, _) = chain();
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            assert!(verify(&bytes).is_err(), "bit {bit} of byte {at}");
        }
    }
}

/// Shows that blocks that are whole but left out, repeated or from elsewhere break the chain, with
/// CORRUPTION and the offset.
#[test]
fn blocks_in_wrong_places() {
    let (bytes, _) = chain();
    let (_, first) = BlockView::parse(&bytes).unwrap().unwrap();
    let error = verify(&bytes[first..]).unwrap_err();
    assert_eq!((error.code, error.value), (ErrorCode::Corruption, 2));
    assert!(verify(&[&bytes[..first], &bytes].concat()).is_err());

    // The same events, chained to another beginning.
    let batch = EventBatch::from_events(["a", "bc"]).unwrap();
    let mut forged = Vec::new();
    let other = genesis(1, 7, "orders", DataClass::Phi);
    write_block(&mut forged, &other, &draft(0, &batch), batch.payload());
    assert!(verify(&forged).is_err());
}

/// Shows that headers are refused whose lengths or counts make no sense, though their checksums
/// fit.
#[test]
fn senseless_headers() {
    let (bytes, _) = chain();
    let good = BlockHeader::decode(&bytes).unwrap();
    let refuse = |header: BlockHeader| assert!(BlockHeader::decode(&header.encode()).is_err());
    refuse(BlockHeader { count: 0, ..good });
    refuse(BlockHeader { count: 4, ..good });
    refuse(BlockHeader { count: u32::MAX, ..good });
    refuse(BlockHeader { body_len: u32::MAX, ..good });
    refuse(BlockHeader { first_offset: u64::MAX, ..good });
    refuse(BlockHeader { flags: 1, ..good });
    refuse(BlockHeader { key_id: 1, ..good });
}
