//! Arbitrary bytes into every decoder: none panics, and none takes memory out of proportion.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use kimberlite_wire::block::{BlockHeader, BlockView};
use kimberlite_wire::events::PackedEvents;
use kimberlite_wire::frame::FrameDecoder;
use kimberlite_wire::rows::RowBatch;
use kimberlite_wire::*;
use proptest::prelude::*;

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on unchanged to the system's allocator; the counter is a plain
// thread-local number without a destructor, so that touching it allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + layout.size()));
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above with this layout, as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `decode` and checks that everything it allocated, freed again or not, is within a fixed
/// multiple of the input: a list's element may take a byte on the wire and some dozens in memory.
fn frugal<T>(input: &[u8], decode: impl FnOnce(&[u8]) -> T) {
    let before = ALLOCATED.with(Cell::get);
    let result = decode(input);
    let allocated = ALLOCATED.with(Cell::get) - before;
    drop(result);
    let bound = 4096 + 128 * input.len();
    assert!(allocated <= bound, "{allocated} bytes for an input of {}", input.len());
}

fn decode_everything(input: &[u8]) {
    for operation in Operation::ALL {
        frugal(input, |bytes| Request::decode(operation, bytes));
        frugal(input, |bytes| Response::decode(operation, bytes));
    }
    frugal(input, ErrorBody::decode);
    frugal(input, CreditBody::decode);
    frugal(input, GoawayBody::decode);
    frugal(input, BlockHeader::decode);
    frugal(input, |bytes| BlockView::parse(bytes).is_ok());
    frugal(input, |bytes| RowBatch::parse(&Bytes::copy_from_slice(bytes)).is_ok());
    for count in [0, 1, 3, u32::MAX] {
        frugal(input, |bytes| PackedEvents::parse(bytes, count, 100).is_ok());
        frugal(input, |bytes| {
            let crc = crc32c::crc32c(bytes);
            EventBatch::from_wire(count, Bytes::copy_from_slice(bytes), crc).is_ok()
        });
    }
    frugal(input, |bytes| {
        let mut decoder = FrameDecoder::for_client();
        decoder.push(bytes);
        while let Ok(Some(_)) = decoder.next() {}
    });
}

/// Puts the right checksums where a decoder would look for them, so that it looks further.
fn with_checksums(mut bytes: Vec<u8>) -> Vec<Vec<u8>> {
    let mut variants = vec![bytes.clone()];
    if bytes.len() >= 128 {
        let mut block = bytes.clone();
        block[0..4].copy_from_slice(b"KMBK");
        block[8..12].copy_from_slice(&[1, 0, 128, 0]);
        block[12..16].copy_from_slice(&((bytes.len() - 128) as u32 & !7).to_le_bytes());
        block[56..64].fill(0);
        let crc = crc32c::crc32c(&block[8..128]);
        block[4..8].copy_from_slice(&crc.to_le_bytes());
        variants.push(block);
    }
    if bytes.len() >= 16 {
        let len = bytes.len() as u32 - 16;
        bytes[0..4].copy_from_slice(&len.to_le_bytes());
        bytes[9..12].fill(0);
        bytes[13..16].fill(0);
        let crc = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        variants.push(bytes);
    }
    variants
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Shows that bytes at random do no harm.
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        with_checksums(bytes).iter().for_each(|bytes| decode_everything(bytes));
    }

    /// Shows that bytes that look like lengths and small numbers do no harm.
    #[test]
    fn mostly_zero(
        bytes in prop::collection::vec(prop_oneof![8 => Just(0), 2 => any::<u8>()], 0..400),
    ) {
        with_checksums(bytes).iter().for_each(|bytes| decode_everything(bytes));
    }

    /// Shows that messages with a byte changed or their end cut off do no harm.
    #[test]
    fn damaged_messages(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let query = Request::Query(QueryRequest {
            sql: "SELECT 1".into(),
            params: vec![Value::Null, Value::String("x".into()), Value::Bytes(vec![1])],
            ..Default::default()
        });
        let list = Response::ListStreams(ListStreamsResponse {
            streams: vec![StreamInfo { name: "orders".into(), ..Default::default() }; 2],
            ..Default::default()
        });
        let mut bodies = [Vec::new(), Vec::new()];
        query.encode(&mut bodies[0]);
        list.encode(&mut bodies[1]);
        for mut body in bodies {
            let index = at.index(body.len());
            body[index] = byte;
            decode_everything(&body);
            body.truncate(cut.index(body.len()));
            decode_everything(&body);
        }
    }
}
