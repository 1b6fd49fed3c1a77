//! docs/PROTOCOL.md against the code: the session that it shows byte by byte is what the codec
//! writes and reads.
//!
//! With the environment variable KIMBERLITE_WRITE_PAGE set, the session is written into the page.

mod exchange;

use std::path::PathBuf;

use bytes::Bytes;
use kimberlite_wire::block::{BLOCK_MAGIC, BlockView, ChainVerifier};
use kimberlite_wire::frame::{FRAME_MAGIC, Frame, FrameDecoder, flag};
use kimberlite_wire::*;

use crate::exchange::{Body, Side, events, start_of_chain, steps};

const BEGIN: &str = "<!-- session, held against the codec by a test -->\n";
const END: &str = "<!-- /session -->\n";

fn page_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/PROTOCOL.md")
}

fn page() -> String {
    std::fs::read_to_string(page_path()).expect("the page is part of the repository")
}

/// The page's frames: who sends each, and its bytes.
fn frames_of(page: &str) -> Vec<(Side, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut side = None;
    let mut in_hex = false;
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("#### ") {
            side = match title.split(':').next() {
                Some("Client") => Some(Side::Client),
                Some("Server") => Some(Side::Server),
                _ => None,
            };
        } else if line == "```hex" {
            in_hex = true;
            frames.push((side.expect("a heading says who sends a frame"), Vec::new()));
        } else if line == "```" {
            in_hex = false;
        } else if in_hex {
            let hex = line.split("  ").next().unwrap_or("");
            let bytes = hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("hex"));
            frames.last_mut().expect("a frame has begun").1.extend(bytes);
        }
    }
    frames
}

/// Shows that the page's session is, byte for byte, what the codec writes.
#[test]
fn the_codec_writes_the_page() {
    let shown: Vec<String> = steps().iter().map(|step| step.shown()).collect();
    let shown = format!("{BEGIN}\n{}\n{END}", shown.join("\n"));
    let (before, rest) = {
        let page = page();
        let (before, rest) = page.split_once(BEGIN).expect("the page has its session");
        (before.to_string(), rest.to_string())
    };
    let (_, after) = rest.split_once(END).expect("the session has an end");
    let expected = format!("{before}{shown}{after}");
    if std::env::var_os("KIMBERLITE_WRITE_PAGE").is_some() {
        std::fs::write(page_path(), &expected).expect("the page can be written");
    }
    assert!(page() == expected, "docs/PROTOCOL.md shows another session than the codec writes");
    let written: Vec<(Side, Vec<u8>)> =
        steps().iter().map(|step| (step.side, step.bytes())).collect();
    assert_eq!(frames_of(&page()), written);
}

/// Shows that the page's bytes are read as what its words say.
#[test]
fn the_codec_reads_the_page() {
    let mut decoders = [FrameDecoder::new(1 << 20), FrameDecoder::new(1 << 20)];
    let frames = frames_of(&page());
    assert_eq!(frames.len(), steps().len());
    let mut payload_of_read = Vec::new();
    for ((side, bytes), step) in frames.iter().zip(steps()) {
        let decoder = &mut decoders[*side as usize];
        decoder.push(bytes);
        let frame = decoder.next().unwrap().expect("each block of hex is one frame");
        assert_eq!((frame.header.kind, frame.header.flags), (step.header.kind, step.header.flags));
        assert_eq!(frame.header.request_id, step.header.request_id);
        assert_eq!(body_of(&frame), step.body);
        if frame.header.request_id == 5 && *side == Side::Server {
            payload_of_read.extend_from_slice(&frame.payload);
        }
        if let Body::Request(Request::Append(append)) = body_of(&frame) {
            let crc = append.payload_crc;
            let batch = EventBatch::from_wire(append.count, frame.payload.clone(), crc).unwrap();
            assert_eq!(batch, events());
        }
    }
    let (block, consumed) = BlockView::parse(&payload_of_read).unwrap().unwrap();
    assert_eq!(consumed, payload_of_read.len());
    ChainVerifier::new(start_of_chain(), 0).check(&block).unwrap();
    assert_eq!(block.events().collect::<Vec<_>>(), [&b"hello"[..], b"world!"]);
}

fn body_of(frame: &Frame) -> Body {
    let operation = Operation::from_number(frame.header.operation);
    let body: &Bytes = &frame.body;
    match frame.header.kind {
        FrameKind::Request => Body::Request(Request::decode(operation.unwrap(), body).unwrap()),
        FrameKind::Response if frame.header.has(flag::ERROR) => {
            Body::Error(ErrorBody::decode(body).unwrap())
        }
        FrameKind::Response if body.is_empty() => Body::None,
        FrameKind::Response => Body::Response(Response::decode(operation.unwrap(), body).unwrap()),
        FrameKind::Credit => Body::Credit(CreditBody::decode(body).unwrap()),
        FrameKind::Goaway => Body::Goaway(GoawayBody::decode(body).unwrap()),
        FrameKind::Cancel | FrameKind::Ping => Body::None,
    }
}

/// Shows that the constants that the page names are the code's.
#[test]
fn the_page_names_the_constants() {
    let page = page();
    let hex = |bytes: &[u8]| {
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(" ")
    };
    assert!(page.contains(&format!("`{}`", hex(&FRAME_MAGIC))));
    assert!(page.contains(&format!("`{}`", hex(&BLOCK_MAGIC))));
    assert!(page.contains("`kmb-chain-1`"));
    for region in ["operations", "messages", "structs", "enums", "errors", "limits"] {
        assert!(page.contains(&format!("<!-- generated:{region} -->")), "{region}");
    }
}
