//! Frames: what is written is read, in whatever pieces it comes.

use bytes::BytesMut;
use kimberlite_wire::frame::*;
use kimberlite_wire::{ErrorCode, FrameKind};
use proptest::prelude::*;

fn frame(body: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_frame_head(
        FrameKind::Request,
        flag::END,
        3,
        0x0102_0304_0506_0708,
        30_000,
        body,
        payload.len() as u32,
        &mut out,
    );
    out.extend_from_slice(payload);
    out
}

/// Shows the bytes of a header, and that they come back.
#[test]
fn a_header_byte_by_byte() {
    let bytes = frame(b"body", b"payload");
    assert_eq!(bytes[..8], *b"KMB\x01\x01\x01\x03\x00");
    assert_eq!(bytes[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(bytes[16..28], [4, 0, 0, 0, 7, 0, 0, 0, 0x30, 0x75, 0, 0]);
    let crc = crc32c::crc32c(&[&bytes[..28], b"body"].concat());
    assert_eq!(bytes[28..32], crc.to_le_bytes());
    let mut decoder = FrameDecoder::new(11);
    decoder.push(&bytes);
    let frame = decoder.next().unwrap().unwrap();
    assert_eq!((frame.header.kind, frame.header.operation), (FrameKind::Request, 3));
    assert!(frame.header.has(flag::END) && !frame.header.has(flag::MORE));
    assert_eq!((&frame.body[..], &frame.payload[..]), (&b"body"[..], &b"payload"[..]));
    assert_eq!(decoder.next().unwrap(), None);
}

/// Shows that another protocol, a damaged header or body, an unknown kind and a frame that is too
/// large are refused, the last two before the rest has come.
#[test]
fn what_is_no_frame() {
    let code = |max: usize, bytes: &[u8]| {
        let mut decoder = FrameDecoder::new(max);
        decoder.push(bytes);
        decoder.next().unwrap_err().code
    };
    assert_eq!(code(100, b"GET"), ErrorCode::Protocol);
    assert_eq!(code(10, &frame(b"body", b"payload")[..32]), ErrorCode::LimitExceeded);
    let good = frame(b"body", b"payload");
    for at in [5, 6, 8, 24, 28, 32, 35] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert_eq!(code(100, &bytes), ErrorCode::Protocol, "byte {at}");
    }
    let mut bytes = good[..32].to_vec();
    bytes[4] = 9;
    assert_eq!(code(100, &bytes), ErrorCode::Protocol);
    bytes[4] = 1;
    bytes[16..24].fill(0xff);
    assert_eq!(code(u32::MAX as usize, &bytes), ErrorCode::LimitExceeded);
}

/// Shows that a lying length takes no memory, and that the decoder tells how much is missing.
#[test]
fn lengths_come_before_memory() {
    let mut bytes = frame(b"", b"");
    bytes[20..24].copy_from_slice(&0x1000_0000u32.to_le_bytes());
    let mut decoder = FrameDecoder::new(usize::MAX >> 1);
    decoder.push(&bytes[..20]);
    assert_eq!(decoder.missing(), 12);
    decoder.push(&bytes[20..]);
    assert_eq!(decoder.next().unwrap(), None);
    assert_eq!(decoder.missing(), 0x1000_0000);
    assert!(decoder.buffer_mut().capacity() < 1000);
}

proptest! {
    /// Shows that frames come out as they went in, however the bytes are torn, and by either way of
    /// adding them.
    #[test]
    fn torn_anywhere(
        bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 1..6),
        payload_len in 0usize..60,
        cuts in prop::collection::vec(1usize..120, 1..10),
        in_place in any::<bool>(),
    ) {
        let payload = vec![7; 300];
        // Each payload has another length.
        let lens = (1..).map(|times| times * payload_len);
        let frames: Vec<(Vec<u8>, usize)> = bodies.into_iter().zip(lens).collect();
        let sent: Vec<u8> =
            frames.iter().flat_map(|(body, len)| frame(body, &payload[..*len])).collect();
        let mut decoder = FrameDecoder::new(400);
        let mut whole = BytesMut::from(&sent[..]);
        let mut received = Vec::new();
        let mut cuts = cuts.iter().cycle();
        while !whole.is_empty() {
            let piece = whole.split_to((*cuts.next().unwrap()).min(whole.len()));
            if in_place {
                decoder.push_buffer(piece);
            } else {
                decoder.push(&piece);
            }
            while let Some(frame) = decoder.next().unwrap() {
                received.push((frame.body.to_vec(), frame.payload.len()));
            }
        }
        prop_assert_eq!(received, frames);
    }
}
