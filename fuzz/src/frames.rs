//! Frames: a byte stream, cut anywhere, against a second decoder written from the protocol's page.

use bytes::BytesMut;
use kimberlite_wire::frame::{FRAME_HEADER_BYTES, Frame, FrameDecoder, encode_frame_head};
use kimberlite_wire::{Error, ErrorCode, FrameKind, limit};

use crate::PLANTED;
use crate::input::Input;

/// Where the checksum stands in a header.
const CRC_AT: usize = 28;

/// The input: how to make the stream, the bound, how to cut it, then the stream or its frames.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mode = input.u8();
    let max_frame_bytes = match input.below(4) {
        0 => 40,
        1 => 1000,
        2 => limit::UNAUTHENTICATED_FRAME_BYTES as usize,
        _ => (limit::RESPONSE_BODY_BYTES + limit::RESPONSE_PAYLOAD_BYTES) as usize,
    };
    let cuts = input.short();
    let mut stream = if mode & 1 == 1 { written(&mut input) } else { input.rest().to_vec() };
    if mode & 2 == 2 {
        fix_checksums(&mut stream);
    }
    let expected = by_the_page(&stream, max_frame_bytes);
    let found = by_pieces(&stream, cuts, max_frame_bytes);
    assert_eq!(found.frames.len(), expected.frames.len(), "another number of frames");
    for (found, expected) in found.frames.iter().zip(&expected.frames) {
        assert_eq!(&bytes_of(found), expected, "a frame came out changed");
    }
    assert_eq!(found.end, expected.end, "the stream ends otherwise");
}

/// What a decoder makes of a stream: its frames, and what stops it, `None` for a want of bytes.
struct Decoded<F> {
    frames: Vec<F>,
    end: Option<ErrorCode>,
}

/// Frames as the script describes them, with their own checksums.
fn written(input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < 1 << 16 {
        let kind = FrameKind::ALL[input.below(FrameKind::ALL.len())];
        let (flags, operation) = (input.u8(), input.u16());
        let (request_id, timeout_ms) = (input.number(), input.number() as u32);
        let (body, payload) = (input.short(), input.short());
        let payload_len = payload.len() as u32;
        encode_frame_head(
            kind,
            flags,
            operation,
            request_id,
            timeout_ms,
            body,
            payload_len,
            &mut stream,
        );
        stream.extend_from_slice(payload);
        if let (edit, true) = (input.u8(), stream.len() > 40) {
            // Most frames stay as they are; some get one wrong byte.
            if edit >= 224 {
                let at = stream.len() - 1 - usize::from(edit - 224);
                stream[at] ^= input.u8();
            }
        }
    }
    stream
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}

/// Gives what looks like a frame the checksum that it should have.
fn fix_checksums(stream: &mut [u8]) {
    let mut at = 0;
    while let Some(frame) = stream.get_mut(at..).filter(|rest| rest.len() >= FRAME_HEADER_BYTES) {
        let (body_len, payload_len) = (u32_at(frame, 16), u32_at(frame, 20));
        let body_end = FRAME_HEADER_BYTES.saturating_add(body_len);
        let Some(body) = frame.get(FRAME_HEADER_BYTES..body_end) else { return };
        let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), body);
        frame[CRC_AT..FRAME_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        at = at.saturating_add(body_end).saturating_add(payload_len);
    }
}

/// The decoder as docs/PROTOCOL.md describes it, over the whole stream at once.
fn by_the_page(stream: &[u8], max_frame_bytes: usize) -> Decoded<Vec<u8>> {
    let mut frames = Vec::new();
    let mut rest = stream;
    let end = loop {
        let start = rest.len().min(4);
        if rest[..start] != b"KMB\x01"[..start] {
            break Some(ErrorCode::Protocol);
        }
        if rest.len() < FRAME_HEADER_BYTES {
            break None;
        }
        if !(1..=6).contains(&rest[4]) {
            break Some(ErrorCode::Protocol);
        }
        let (body_len, payload_len) = (u32_at(rest, 16), u32_at(rest, 20));
        if body_len + payload_len > max_frame_bytes {
            break Some(ErrorCode::LimitExceeded);
        }
        let Some(frame) = rest.get(..FRAME_HEADER_BYTES + body_len + payload_len) else {
            break None;
        };
        let body = &frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + body_len];
        let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[..CRC_AT]), body);
        if crc as usize != u32_at(frame, CRC_AT) {
            break Some(ErrorCode::Protocol);
        }
        frames.push(frame.to_vec());
        rest = &rest[frame.len()..];
    };
    Decoded { frames, end }
}

/// The decoder under test, which gets the stream in pieces of these lengths, again and again.
fn by_pieces(stream: &[u8], cuts: &[u8], max_frame_bytes: usize) -> Decoded<Frame> {
    let mut decoder = FrameDecoder::new(max_frame_bytes);
    let mut frames = Vec::new();
    let mut rest = stream;
    for turn in 0.. {
        loop {
            match next(&mut decoder) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(e) => return Decoded { frames, end: Some(e.code) },
            }
        }
        assert!(decoder.missing() > 0, "nothing is ready, and nothing is missing");
        if rest.is_empty() {
            break;
        }
        let cut = cuts.get(turn % cuts.len().max(1)).map_or(rest.len(), |cut| usize::from(*cut));
        let (piece, after) = rest.split_at(cut.max(1).min(rest.len()));
        let count = frames.len();
        let needed = decoder.missing();
        match cut % 3 {
            0 => decoder.push(piece),
            1 => decoder.buffer_mut().extend_from_slice(piece),
            _ => decoder.push_buffer(BytesMut::from(piece)),
        }
        if piece.len() < needed
            && let Ok(Some(_)) = next(&mut decoder)
        {
            panic!("a frame came out of {} of the {needed} bytes that it needs", piece.len());
        }
        assert_eq!(count, frames.len());
        rest = after;
    }
    Decoded { frames, end: None }
}

fn next(decoder: &mut FrameDecoder) -> Result<Option<Frame>, Error> {
    let mut frame = decoder.next()?;
    if PLANTED
        && let Some(frame) = &mut frame
        && frame.header.kind == FrameKind::Credit
        && frame.body.len() == 8
        && frame.payload.len() > 20
    {
        // The planted bug: credit frames lose the end of a payload that they never have.
        frame.payload.truncate(20);
    }
    Ok(frame)
}

/// A frame's bytes, encoded anew.
fn bytes_of(frame: &Frame) -> Vec<u8> {
    let header = &frame.header;
    let mut out = Vec::new();
    let payload_len = frame.payload.len() as u32;
    assert_eq!(frame.body.len(), header.body_len as usize);
    encode_frame_head(
        header.kind,
        header.flags,
        header.operation,
        header.request_id,
        header.timeout_ms,
        &frame.body,
        payload_len,
        &mut out,
    );
    out.extend_from_slice(&frame.payload);
    out
}
