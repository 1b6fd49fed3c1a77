//! Batches of events: packing, limits, and what comes over the wire.

use bytes::Bytes;
use kimberlite_wire::{ErrorCode, EventBatch, limit};
use proptest::prelude::*;

/// Shows that both ways of packing give the same bytes, and that these come back through the wire.
#[test]
fn packing_is_one_thing() {
    let events: [&[u8]; 4] = [b"one", b"", b"three", b"4"];
    let batch = EventBatch::from_events(events).unwrap();
    assert_eq!(EventBatch::from_packed(b"onethree4", &[3, 0, 5, 1]).unwrap(), batch);
    let wire = EventBatch::from_wire(4, batch.payload().clone(), batch.crc()).unwrap();
    assert_eq!(wire, batch);
    assert_eq!((batch.count(), batch.data_bytes(), batch.event(2)), (4, 9, Some(&b"three"[..])));
    assert_eq!(batch.iter().collect::<Vec<_>>(), events);
    assert_eq!(batch.payload()[..16], [3, 0, 0, 0, 3, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0]);
}

/// Shows that each limit is enforced, and that the error names what exceeded it.
#[test]
fn limits() {
    let none: [&[u8]; 0] = [];
    assert_eq!(EventBatch::from_events(none).unwrap_err().code, ErrorCode::InvalidArgument);
    assert_eq!(EventBatch::from_packed(b"", &[]).unwrap_err().code, ErrorCode::InvalidArgument);
    assert_eq!(EventBatch::from_packed(b"ab", &[1]).unwrap_err().code, ErrorCode::InvalidArgument);

    let long = vec![0; limit::EVENT_BYTES as usize + 1];
    let error = EventBatch::from_events([&b"x"[..], &long]).unwrap_err();
    assert_eq!((error.code, error.value), (ErrorCode::LimitExceeded, limit::EVENT_BYTES));
    assert!(error.detail.contains("event 1"), "{}", error.detail);

    let largest = &long[1..];
    assert!(EventBatch::from_events([largest, largest]).is_ok());
    let error = EventBatch::from_events([largest, largest, b"x"]).unwrap_err();
    assert_eq!((error.code, error.value), (ErrorCode::LimitExceeded, limit::BATCH_BYTES));
    assert!(error.detail.contains("index 2"), "{}", error.detail);

    let many = limit::BATCH_EVENTS as usize;
    assert!(EventBatch::from_events(vec![b""; many]).is_ok());
    let error = EventBatch::from_events(std::iter::repeat(b"")).unwrap_err();
    assert_eq!((error.code, error.value), (ErrorCode::LimitExceeded, limit::BATCH_EVENTS));
}

/// Shows that a payload is refused whose checksum, count or ends do not fit it.
#[test]
fn damaged_payloads() {
    let batch = EventBatch::from_events([b"one", b"two"]).unwrap();
    let refuse = |count: u32, bytes: &[u8], code: ErrorCode| {
        let payload = Bytes::copy_from_slice(bytes);
        let crc = crc32c::crc32c(bytes);
        assert_eq!(EventBatch::from_wire(count, payload, crc).unwrap_err().code, code);
    };
    let good = batch.payload().clone();
    let wrong_crc = EventBatch::from_wire(2, good.clone(), batch.crc() ^ 1).unwrap_err();
    assert_eq!(wrong_crc.code, ErrorCode::Protocol);
    refuse(0, &good, ErrorCode::InvalidArgument);
    refuse(limit::BATCH_EVENTS as u32 + 1, &good, ErrorCode::LimitExceeded);
    refuse(1, &good, ErrorCode::Protocol);
    refuse(4, &good, ErrorCode::Protocol);
    refuse(2, &good[..good.len() - 1], ErrorCode::Protocol);
    refuse(2, &[6, 0, 0, 0, 3, 0, 0, 0, 1, 2, 3], ErrorCode::Protocol);
    refuse(2, &[0xff; 8], ErrorCode::LimitExceeded);
}

proptest! {
    /// Shows that any part of a batch is the batch of that part of the events.
    #[test]
    fn slices(
        events in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..40),
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        let batch = EventBatch::from_events(&events).unwrap();
        let (a, b) = (a.index(events.len()), b.index(events.len()));
        let range = a.min(b)..a.max(b) + 1;
        let slice = batch.slice(range.start as u32..range.end as u32).unwrap();
        prop_assert_eq!(&slice, &EventBatch::from_events(&events[range]).unwrap());
        let count = slice.count();
        prop_assert!(EventBatch::from_wire(count, slice.payload().clone(), slice.crc()).is_ok());
    }
}
