//! Frames: a header of 32 bytes, a body in the codec's layout, and a payload of raw bytes.

use bytes::{Buf, Bytes, BytesMut};

use crate::error::Error;
pub use crate::generated::constant::FRAME_HEADER_BYTES;
use crate::generated::{FrameKind, limit};

/// The first four bytes of every frame; the last of them is the version of the framing.
pub const FRAME_MAGIC: [u8; 4] = *b"KMB\x01";

/// The bits of a frame's `flags`.
pub mod flag {
    pub use crate::generated::constant::{
        FRAME_END as END, FRAME_ERROR as ERROR, FRAME_MORE as MORE,
    };
}

/// What stands in a frame's header beside magic and checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is.
    pub kind: FrameKind,
    /// Bits of [`flag`].
    pub flags: u8,
    /// The number of the operation; 0 in credit, cancel, ping and goaway frames.
    pub operation: u16,
    /// The request that the frame is about, by the client's number; 0 for the connection.
    pub request_id: u64,
    /// Bytes of the body.
    pub body_len: u32,
    /// Bytes of the payload.
    pub payload_len: u32,
    /// On a request: the milliseconds that it may take; 0: as long as the server allows.
    pub timeout_ms: u32,
}

impl FrameHeader {
    /// Whether every bit of `flags` is set.
    pub const fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Reads the header at the start of `bytes`. PROTOCOL where it is none. The checksum covers the
    /// body too, so that [`FrameDecoder`] checks it.
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, Error> {
        if bytes[0..4] != FRAME_MAGIC {
            return Err(Error::protocol("a frame does not start with the magic KMB 1"));
        }
        let kind = FrameKind::from_number(bytes[4]).ok_or_else(|| {
            Error::protocol(format!("a frame's kind is {}; it must be from 1 to 6", bytes[4]))
        })?;
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Ok(FrameHeader {
            kind,
            flags: bytes[5],
            operation: u16::from_le_bytes([bytes[6], bytes[7]]),
            request_id: u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32,
            body_len: u32_at(16),
            payload_len: u32_at(20),
            timeout_ms: u32_at(24),
        })
    }
}

/// A frame as it was received. Body and payload share the receive buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: FrameHeader,
    /// Its body.
    pub body: Bytes,
    /// Its payload, of which the frame's checksum says nothing.
    pub payload: Bytes,
}

/// Appends a frame's header and body to `out`; `payload_len` bytes of payload are to follow them.
#[allow(clippy::too_many_arguments)]
pub fn encode_frame_head(
    kind: FrameKind,
    flags: u8,
    operation: u16,
    request_id: u64,
    timeout_ms: u32,
    body: &[u8],
    payload_len: u32,
    out: &mut Vec<u8>,
) {
    let header =
        FrameHeader { kind, flags, operation, request_id, body_len: 0, payload_len, timeout_ms };
    encode_frame(&header, out, |out| out.extend_from_slice(body));
}

/// Appends a frame's header and the body that `write_body` appends; the header's `body_len` is
/// what was written, whatever `header` says, and `payload_len` bytes of payload are to follow.
pub fn encode_frame(
    header: &FrameHeader,
    out: &mut Vec<u8>,
    write_body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    let mut bytes = [0; FRAME_HEADER_BYTES];
    bytes[0..4].copy_from_slice(&FRAME_MAGIC);
    bytes[4] = header.kind.number();
    bytes[5] = header.flags;
    bytes[6..8].copy_from_slice(&header.operation.to_le_bytes());
    bytes[8..16].copy_from_slice(&header.request_id.to_le_bytes());
    bytes[20..24].copy_from_slice(&header.payload_len.to_le_bytes());
    bytes[24..28].copy_from_slice(&header.timeout_ms.to_le_bytes());
    out.extend_from_slice(&bytes);
    write_body(out);
    let body_start = start + FRAME_HEADER_BYTES;
    // Bodies are bounded by the limits, far below 4 GiB.
    let body_len = (out.len() - body_start) as u32;
    out[start + 16..start + 20].copy_from_slice(&body_len.to_le_bytes());
    let crc = frame_crc(&out[start..start + 28], &out[body_start..]);
    out[start + 28..body_start].copy_from_slice(&crc.to_le_bytes());
}

fn frame_crc(header: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), body)
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    max_frame_bytes: usize,
}

impl FrameDecoder {
    /// A decoder that refuses frames whose body and payload together exceed `max_frame_bytes`.
    pub fn new(max_frame_bytes: usize) -> FrameDecoder {
        FrameDecoder { buffer: BytesMut::new(), max_frame_bytes }
    }

    /// A client's decoder: it takes what a server may send.
    pub fn for_client() -> FrameDecoder {
        FrameDecoder::new((limit::RESPONSE_BODY_BYTES + limit::RESPONSE_PAYLOAD_BYTES) as usize)
    }

    /// Changes the bound for frames to come, as a server does once a client is authenticated.
    pub fn set_max_frame_bytes(&mut self, max_frame_bytes: usize) {
        self.max_frame_bytes = max_frame_bytes;
    }

    /// Adds received bytes by copying them.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Adds received bytes; nothing is copied where they continue what was added before in the same
    /// allocation, or where nothing is left of it.
    pub fn push_buffer(&mut self, bytes: BytesMut) {
        self.buffer.unsplit(bytes);
    }

    /// The buffer of bytes that no frame was made of yet, to receive into its end.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// How many more bytes the frame under way needs: a good size for the next receive. A header
    /// that is not there yet counts as a whole; 0 where a frame or an error is ready.
    pub fn missing(&self) -> usize {
        let Some(header) = self.buffer.first_chunk() else {
            return FRAME_HEADER_BYTES - self.buffer.len();
        };
        match FrameHeader::decode(header).and_then(|header| self.frame_len(&header)) {
            Ok(frame_len) => frame_len.saturating_sub(self.buffer.len()),
            Err(_) => 0,
        }
    }

    fn frame_len(&self, header: &FrameHeader) -> Result<usize, Error> {
        let len = u64::from(header.body_len) + u64::from(header.payload_len);
        if len > self.max_frame_bytes as u64 {
            return Err(Error::limit(
                "a frame's length in bytes",
                len,
                self.max_frame_bytes as u64,
            ));
        }
        Ok(FRAME_HEADER_BYTES + len as usize)
    }

    /// The next frame; `None` where more bytes are needed. PROTOCOL or LIMIT_EXCEEDED where what
    /// comes is no frame or too large a one: then the connection is of no more use. Lengths are
    /// checked before any memory is taken for them.
    // A decoder is not an iterator: it ends only with its connection.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, Error> {
        let Some(head) = self.buffer.first_chunk::<FRAME_HEADER_BYTES>() else {
            self.check_magic()?;
            return Ok(None);
        };
        let header = FrameHeader::decode(head)?;
        let frame_len = self.frame_len(&header)?;
        if self.buffer.len() < frame_len {
            return Ok(None);
        }
        let mut rest = self.buffer.split_to(frame_len).freeze();
        let head = rest.split_to(FRAME_HEADER_BYTES);
        let body = rest.split_to(header.body_len as usize);
        let crc = (&head[28..]).get_u32_le();
        if crc != frame_crc(&head[..28], &body) {
            return Err(Error::protocol("a frame's checksum does not fit its header and body"));
        }
        Ok(Some(Frame { header, body, payload: rest }))
    }

    /// Refuses another protocol at its first bytes rather than waiting for a whole header.
    fn check_magic(&self) -> Result<(), Error> {
        let start = self.buffer.len().min(FRAME_MAGIC.len());
        if self.buffer[..start] == FRAME_MAGIC[..start] {
            return Ok(());
        }
        Err(Error::protocol("a frame does not start with the magic KMB 1"))
    }
}
