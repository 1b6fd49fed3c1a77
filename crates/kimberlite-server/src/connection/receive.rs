//! Receiving, in bounded memory.
//!
//! A connection on which nothing arrives holds no buffer: all connections of a thread receive into
//! one, and keep only what is not a whole frame yet.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use kimberlite_wire::frame::FrameHeader;
use kimberlite_wire::{FrameKind, Operation};
use tokio::io::{AsyncRead, ReadBuf};

use super::Connection;
use crate::budget::Refused;

/// What is received at once, unless a frame needs more.
const SCRATCH_BYTES: usize = 64 << 10;
/// The least that is received at once, however little a connection may buffer.
const LEAST_BYTES: usize = 4 << 10;
/// A frame of which more than this is missing is received where it will lie.
const DIRECT_BYTES: usize = 32 << 10;
/// A frame of which more than this is missing draws on the server's total before it is read.
const LARGE_FRAME_BYTES: usize = 4 << 10;
/// How long a connection waits for room for a large frame before it looks again.
const ROOM_RETRY: Duration = Duration::from_millis(10);
/// How long it waits until it refuses the request instead.
const ROOM_PATIENCE: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

impl Connection {
    /// Receives once, where there is room for more. Returns how many bytes came.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>) -> io::Result<usize> {
        if !self.may_take() || !self.room_for_large_frame() {
            // Whatever is missing of a frame, it is not the peer that holds it up.
            self.stalls.not_reading();
            return Ok(0);
        }
        let missing = self.decoder.missing();
        if missing == 0 {
            // What is there is looked at first.
            return Ok(0);
        }
        let received = if missing > DIRECT_BYTES {
            self.poll_direct(cx, missing)
        } else {
            self.poll_scratch(cx)
        };
        match received {
            Poll::Pending => Ok(0),
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Poll::Ready(Ok(count)) => Ok(count),
        }
    }

    fn poll_direct(&mut self, cx: &mut Context<'_>, missing: usize) -> Poll<io::Result<usize>> {
        let buffer = self.decoder.buffer_mut();
        if buffer.capacity() - buffer.len() < missing {
            buffer.reserve(missing);
        }
        let reading = tokio::io::AsyncReadExt::read_buf(&mut self.transport, buffer);
        std::future::Future::poll(std::pin::pin!(reading), cx)
    }

    fn poll_scratch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let most = self.allowance.clamp(LEAST_BYTES, SCRATCH_BYTES);
        SCRATCH.with_borrow_mut(|scratch| {
            let mut into = ReadBuf::new(&mut scratch[..most]);
            let read = Pin::new(&mut self.transport).poll_read(cx, &mut into);
            read.map_ok(|()| {
                let past = self.discarding.min(into.filled().len());
                self.discarding -= past;
                self.decoder.push(&into.filled()[past..]);
                into.filled().len()
            })
        })
    }

    /// Takes room in the server's total before a large frame is read into memory.
    fn room_for_large_frame(&mut self) -> bool {
        let missing = self.decoder.missing();
        if missing <= LARGE_FRAME_BYTES || self.large_frame.is_some() {
            return true;
        }
        match self.budget.frame(missing) {
            Ok(share) => {
                (self.large_frame, self.room_retry, self.no_room_since) = (Some(share), None, None);
                true
            }
            Err(refused) => {
                let now = Instant::now();
                if *self.no_room_since.get_or_insert(now) + ROOM_PATIENCE > now {
                    self.room_retry = Some(now + ROOM_RETRY);
                    return false;
                }
                (self.room_retry, self.no_room_since) = (None, None);
                self.discard(missing, refused);
                true
            }
        }
    }

    /// Refuses the request that is arriving and reads past it, so that the connection lives on.
    fn discard(&mut self, missing: usize, refused: Refused) {
        let buffer = self.decoder.buffer_mut();
        let header = buffer.first_chunk().map(FrameHeader::decode);
        let Some(Ok(header)) = header else { return };
        buffer.clear();
        let error = self.no_room(refused);
        if header.kind != FrameKind::Request || header.request_id == 0 {
            return self.fail(0, error);
        }
        if let Some(operation) = Operation::from_number(header.operation) {
            self.shared.metrics.failed(operation, &error);
        }
        self.outbox.error(header.operation, header.request_id, &error);
        self.discarding = missing;
    }
}
