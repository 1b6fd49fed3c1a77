//! Blocks, chains, row batches and packed events: what is stored and sent to readers.

use bytes::Bytes;
use kimberlite_wire::block::{
    BLOCK_HEADER_BYTES, BLOCK_MAGIC, BlockDraft, BlockError, BlockView, ChainVerifier,
    content_hash, genesis, write_block,
};
use kimberlite_wire::rows::{ROW_BATCH_HEADER_BYTES, RowBatch, RowBatchBuilder};
use kimberlite_wire::{DataClass, EventBatch};

use crate::PLANTED;
use crate::input::Input;

const NAME: &str = "orders";

/// The input: which of the formats, then its script.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    match input.below(4) {
        0 => raw_blocks(&mut input),
        1 => chain(&mut input),
        2 => rows(&mut input),
        _ => events(&mut input),
    }
}

/// Bytes that may be blocks, with fitting checksums where the first byte asks for them.
fn raw_blocks(input: &mut Input<'_>) {
    let fixed = input.flag();
    let mut bytes = input.rest().to_vec();
    if fixed {
        fix_block(&mut bytes);
    }
    let mut rest = &bytes[..];
    let mut verifier: Option<ChainVerifier> = None;
    while let Ok(Some((view, consumed))) = BlockView::parse(rest) {
        check_view(&view, &rest[..consumed]);
        match &mut verifier {
            Some(verifier) => drop(verifier.check(&view)),
            None => verifier = ChainVerifier::after(&view).ok(),
        }
        rest = &rest[consumed..];
    }
}

/// Gives a header and its body the checksums that they should have.
fn fix_block(bytes: &mut [u8]) {
    if bytes.len() < BLOCK_HEADER_BYTES {
        return;
    }
    bytes[..4].copy_from_slice(&BLOCK_MAGIC);
    let body_len = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
    if let Some(body) = bytes[BLOCK_HEADER_BYTES..].get(..body_len) {
        let crc = crc32c::crc32c(body);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[8..BLOCK_HEADER_BYTES]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// What must hold of a block that was taken for good.
fn check_view(view: &BlockView<'_>, bytes: &[u8]) {
    let header = &view.header;
    assert_eq!(header.encode()[..], bytes[..BLOCK_HEADER_BYTES], "a header reads otherwise");
    assert_eq!(header.block_len(), bytes.len());
    assert!(bytes.len().is_multiple_of(8) && header.count > 0);
    assert_eq!(view.events().len(), header.count as usize);
    assert_eq!(view.end_offset(), header.first_offset + u64::from(header.count));
    let joined: Vec<u8> = view.events().flatten().copied().collect();
    assert_eq!(joined, view.data(), "the events are not the data");
    let ends: Vec<u32> = view.ends().collect();
    assert!(ends.is_sorted(), "an event ends before it starts");
    assert!(view.event(header.count as usize).is_none(), "an event behind the last one");
    for index in [0, header.count as usize / 2, header.count as usize - 1] {
        assert!(view.events().nth(index) == view.event(index));
    }
}

/// A chain that is written, damaged, and walked along: no block is taken but those written, in
/// their order.
fn chain(input: &mut Input<'_>) {
    let start = genesis(1, 7, NAME, DataClass::Phi);
    let blocks = write_chain(input, start);
    let mut bytes = blocks.concat();
    damage(input, &mut bytes, &blocks);
    let mut verifier = ChainVerifier::new(start, 0);
    let mut rest = &bytes[..];
    let mut taken = 0;
    while let Ok(Some((view, consumed))) = BlockView::parse(rest) {
        let (block, after) = rest.split_at(consumed);
        check_view(&view, block);
        rest = after;
        if check(&mut verifier, &view).is_ok() {
            assert!(blocks.get(taken).is_some_and(|b| b == block), "a block that nobody wrote");
            assert_eq!(verifier.next_offset(), view.end_offset());
            assert_eq!(*verifier.head(), view.header.chain);
            taken += 1;
        }
    }
}

fn check(verifier: &mut ChainVerifier, view: &BlockView<'_>) -> Result<(), BlockError> {
    let len = |index| view.event(index).map_or(0, <[u8]>::len);
    if PLANTED && view.header.count == 3 && len(0) == 0 && len(2) > 4 {
        // The planted bug: the content of some blocks is not looked at.
        *verifier = ChainVerifier::new(view.header.chain, view.end_offset());
        return Ok(());
    }
    verifier.check(view)
}

fn write_chain(input: &mut Input<'_>, start: [u8; 32]) -> Vec<Vec<u8>> {
    let (mut head, mut first_offset, mut timestamp_ns) = (start, 0, 0);
    let mut blocks = Vec::new();
    for _ in 0..input.below(6) {
        let count = 1 + input.below(5);
        let events: Vec<&[u8]> = (0..count).map(|_| input.short()).collect();
        let Ok(batch) = EventBatch::from_events(&events) else { continue };
        timestamp_ns += input.number() >> 8;
        let draft = BlockDraft {
            tenant_id: 1,
            stream_id: 7,
            first_offset,
            timestamp_ns,
            count: batch.count(),
            content: content_hash(batch.payload()),
            body_crc: batch.crc(),
        };
        let mut block = Vec::new();
        head = write_block(&mut block, &head, &draft, batch.payload());
        first_offset += u64::from(batch.count());
        blocks.push(block);
    }
    blocks
}

/// Changes bytes, repeats, removes and swaps blocks, and mends checksums as an attacker would.
fn damage(input: &mut Input<'_>, bytes: &mut Vec<u8>, blocks: &[Vec<u8>]) {
    while !input.is_empty() && !bytes.is_empty() {
        let at = usize::from(input.u16()) % bytes.len();
        match input.below(6) {
            0 => bytes[at] ^= input.u8(),
            1 => bytes.truncate(at),
            2 if !blocks.is_empty() && bytes.len() < 1 << 16 => {
                bytes.extend_from_slice(&blocks[input.below(blocks.len())]);
            }
            3 if !blocks.is_empty() => {
                let count = blocks[input.below(blocks.len())].len();
                bytes.drain(..count.min(bytes.len()));
            }
            4 => {
                let number = input.number().to_le_bytes();
                let end = bytes.len().min(at + 8);
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            _ => mend_around(bytes, at),
        }
    }
}

/// Mends the checksums of the block that `at` lies in.
fn mend_around(bytes: &mut [u8], at: usize) {
    let starts = (0..=at).rev().filter(|start| start % 8 == 0);
    for start in starts.take(512) {
        if bytes[start..].starts_with(&BLOCK_MAGIC) {
            return fix_block(&mut bytes[start..]);
        }
    }
}

/// Bytes that may be row batches, with fitting checksums where the first byte asks for them.
fn rows(input: &mut Input<'_>) {
    let fixed = input.flag();
    let mut bytes = input.rest().to_vec();
    if fixed && bytes.len() >= ROW_BATCH_HEADER_BYTES {
        let value_bytes = (bytes.len() - ROW_BATCH_HEADER_BYTES) as u32;
        bytes[..4].copy_from_slice(&value_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    }
    let bytes = Bytes::from(bytes);
    let Ok(Some((batch, consumed))) = RowBatch::parse(&bytes) else { return };
    assert_eq!(RowBatch::needed(&bytes), Some(consumed));
    let mut builder = RowBatchBuilder::new(batch.column_count() as u32);
    for row in 0..batch.row_count() {
        for column in 0..batch.column_count() {
            let cell = batch.cell(row, column).expect("the cell is there");
            builder.push_value(&cell.to_value());
        }
        builder.finish_row();
    }
    let again = builder.finish();
    assert_eq!(again.is_none(), batch.row_count() == 0);
    if let Some(again) = again {
        assert_eq!(again, bytes[..consumed], "a row batch changes when it is built again");
    }
}

/// Bytes that may be an append's payload.
fn events(input: &mut Input<'_>) {
    let count = input.number() as u32;
    let (first, second) = (input.u8(), input.u8());
    let payload = Bytes::copy_from_slice(input.rest());
    let crc = crc32c::crc32c(&payload);
    assert!(EventBatch::from_wire(count, payload.clone(), crc ^ 1).is_err(), "a wrong checksum");
    let Ok(batch) = EventBatch::from_wire(count, payload, crc) else { return };
    let again = EventBatch::from_events(batch.iter()).expect("what was taken is within limits");
    assert_eq!(again, batch, "events change when they are packed again");
    let lens: Vec<u32> = batch.iter().map(|event| event.len() as u32).collect();
    let packed = EventBatch::from_packed(batch.packed().data(), &lens);
    assert_eq!(packed.as_ref(), Ok(&batch), "events change when they are packed by lengths");
    let start = u32::from(first) % batch.count();
    let end = start + 1 + u32::from(second) % (batch.count() - start);
    let part = batch.slice(start..end).expect("a part of the batch");
    let whole = batch.iter().skip(start as usize).take((end - start) as usize);
    assert!(part.iter().eq(whole), "a part of a batch has other events");
}
