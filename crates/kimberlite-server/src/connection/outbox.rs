//! Bytes on their way to the peer: small frames are gathered, payloads are sent without a copy.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use kimberlite_wire::frame::{FrameHeader, encode_frame, flag};
use kimberlite_wire::{Error, FrameKind};
use tokio::io::AsyncWrite;

/// Payloads below this are copied behind their frame's head, which costs less than a slice of
/// their own.
const COPY_BELOW_BYTES: usize = 4_096;
/// Slices that one write takes at most.
const MAX_SLICES: usize = 64;
/// What the gathering buffer keeps when it runs empty.
const KEEP_BYTES: usize = 16_384;

/// The outgoing bytes of a connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Finished pieces, the oldest first.
    pieces: VecDeque<Bytes>,
    /// What follows them: frames still being gathered.
    tail: Vec<u8>,
    /// How much of the tail has been written already.
    tail_written: usize,
    /// Bytes of all pieces.
    piece_bytes: usize,
    /// Whether the transport below may hold written bytes back.
    unflushed: bool,
}

impl Outbox {
    /// Bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.piece_bytes + self.tail.len() - self.tail_written
    }

    /// Whether everything was handed to the system.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting_bytes() == 0 && !self.unflushed
    }

    /// Adds a frame of which `write_body` writes the body.
    pub(crate) fn frame(
        &mut self,
        kind: FrameKind,
        flags: u8,
        operation: u16,
        request_id: u64,
        payload: Bytes,
        write_body: impl FnOnce(&mut Vec<u8>),
    ) {
        // Payloads are cut to 256 KiB before they come here.
        let payload_len = payload.len() as u32;
        let header = FrameHeader {
            kind,
            flags,
            operation,
            request_id,
            body_len: 0,
            payload_len,
            timeout_ms: 0,
        };
        encode_frame(&header, &mut self.tail, write_body);
        if payload.len() < COPY_BELOW_BYTES {
            self.tail.extend_from_slice(&payload);
        } else {
            self.seal_tail();
            self.piece_bytes += payload.len();
            self.pieces.push_back(payload);
        }
    }

    /// Adds the frame that ends a request, or (id 0) speaks about the connection, with an error.
    pub(crate) fn error(&mut self, operation: u16, request_id: u64, error: &Error) {
        let flags = flag::ERROR | flag::END;
        self.frame(FrameKind::Response, flags, operation, request_id, Bytes::new(), |out| {
            error.to_body().encode(out);
        });
    }

    fn seal_tail(&mut self) {
        let mut piece = Bytes::from(std::mem::take(&mut self.tail));
        piece.advance(self.tail_written);
        self.tail_written = 0;
        if !piece.is_empty() {
            self.piece_bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Hands to the transport what it takes and tells how many bytes that were. Ready once
    /// everything is out.
    pub(crate) fn poll_send<T: AsyncWrite + Unpin>(
        &mut self,
        transport: &mut T,
        cx: &mut Context<'_>,
        sent: &mut usize,
    ) -> Poll<io::Result<()>> {
        while self.waiting_bytes() > 0 {
            let count = if self.pieces.is_empty() {
                let rest = &self.tail[self.tail_written..];
                ready!(Pin::new(&mut *transport).poll_write(cx, rest))?
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let mut filled = 0;
                let tail = &self.tail[self.tail_written..];
                let waiting = self.pieces.iter().map(|piece| &piece[..]).chain([tail]);
                for (slice, bytes) in slices.iter_mut().zip(waiting) {
                    *slice = IoSlice::new(bytes);
                    filled += 1;
                }
                ready!(Pin::new(&mut *transport).poll_write_vectored(cx, &slices[..filled]))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *sent += count;
            self.unflushed = true;
            self.advance(count);
        }
        if self.unflushed {
            ready!(Pin::new(transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut count: usize) {
        while count > 0 {
            let Some(first) = self.pieces.front_mut() else {
                self.tail_written += count;
                break;
            };
            let part = count.min(first.len());
            first.advance(part);
            if first.is_empty() {
                self.pieces.pop_front();
            }
            self.piece_bytes -= part;
            count -= part;
        }
        if self.tail_written == self.tail.len() {
            self.tail.clear();
            self.tail.shrink_to(KEEP_BYTES);
            self.tail_written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kimberlite_wire::frame::FrameDecoder;

    /// Takes a few bytes at a time, so that every cut is met.
    struct Narrow {
        width: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let narrow = self.get_mut();
            let count = bytes.len().min(narrow.width);
            narrow.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            slices: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let narrow = self.get_mut();
            let mut left = narrow.width;
            for slice in slices {
                let count = slice.len().min(left);
                narrow.taken.extend_from_slice(&slice[..count]);
                left -= count;
            }
            Poll::Ready(Ok(narrow.width - left))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Frames with and without large payloads arrive whole and in order, however the transport
    /// cuts them.
    #[test]
    fn frames_survive_every_cut() {
        for width in [1, 7, 33, 5_000, 1 << 20] {
            let mut outbox = Outbox::default();
            let payloads = [0, 10, 5_000, 3, 70_000, 4_096, 1];
            for (id, len) in payloads.into_iter().enumerate() {
                let payload = Bytes::from(vec![id as u8; len]);
                outbox.frame(FrameKind::Response, 0, 4, id as u64, payload, |out| out.push(9));
            }
            outbox.error(4, 99, &Error::invalid("why"));
            let total = outbox.waiting_bytes();
            let mut narrow = Narrow { width, taken: Vec::new() };
            let mut sent = 0;
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(outbox.poll_send(&mut narrow, &mut cx, &mut sent).is_ready());
            assert!(outbox.is_empty() && sent == total && narrow.taken.len() == total);
            let mut decoder = FrameDecoder::for_client();
            decoder.push(&narrow.taken);
            for (id, len) in payloads.into_iter().enumerate() {
                let frame = decoder.next().unwrap().unwrap();
                assert_eq!((frame.header.request_id, &frame.body[..]), (id as u64, &[9][..]));
                assert_eq!(frame.payload, vec![id as u8; len]);
            }
            assert_eq!(decoder.next().unwrap().unwrap().header.request_id, 99);
            assert!(decoder.next().unwrap().is_none());
        }
    }
}
