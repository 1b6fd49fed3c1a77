//! One open connection: what waits to be written, and who writes it.
//!
//! A caller's thread writes by itself where nobody else does, so that a call reaches the socket
//! without a change of threads. Whoever writes also writes what others queue meanwhile. Where the
//! socket is full, a task takes over until it is not.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use kimberlite_wire::session::ConnectionId;
use rustls::ClientConnection;
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use super::dial::Transport;

/// At most this many pieces go into one system call.
const MAX_SLICES: usize = 64;
/// The receive buffer is renewed when it has less room than this.
const MIN_ROOM: usize = 4 << 10;
/// The receive buffer's size for a quiet connection, and for a busy one: frames of large answers
/// then mostly lie within one buffer and need not be copied together.
const QUIET_BUFFER: usize = 16 << 10;
const BUSY_BUFFER: usize = 1 << 20;

/// The writing side of a connection, and TLS for both.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    tcp: OwnedWriteHalf,
    tls: Option<Mutex<ClientConnection>>,
    outbox: Mutex<Outbox>,
    /// The connection's task is to write.
    wanted: Notify,
}

#[derive(Default)]
struct Outbox {
    queue: VecDeque<Bytes>,
    /// Somebody writes, and will see what is queued meanwhile.
    writing: bool,
}

/// How far writing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// There is nothing left, or somebody else writes it.
    All,
    /// The socket is full; the caller is still the writer and must go on when it is not.
    Blocked,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, transport: Transport) -> (Arc<Connection>, Receiver) {
        let (read, write) = transport.tcp.into_split();
        let connection = Arc::new(Connection {
            id,
            tcp: write,
            tls: transport.tls.map(Mutex::new),
            outbox: Mutex::default(),
            wanted: Notify::new(),
        });
        let receiver = Receiver {
            tcp: read,
            connection: Arc::clone(&connection),
            buffer: BytesMut::new(),
            encrypted: BytesMut::new(),
            target: QUIET_BUFFER,
        };
        (connection, receiver)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues pieces, behind what was queued before.
    pub(super) fn queue(&self, pieces: Vec<Bytes>) {
        self.outbox().queue.extend(pieces);
    }

    /// Asks the connection's task to write what is queued.
    pub(super) fn want_flush(&self) {
        self.wanted.notify_one();
    }

    /// Resolves when that was asked since the last time.
    pub(super) async fn flush_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Writes what is queued, unless somebody else does.
    pub(super) fn flush(&self) -> io::Result<Written> {
        {
            let mut outbox = self.outbox();
            if outbox.writing || (outbox.queue.is_empty() && !self.tls_pending()) {
                return Ok(Written::All);
            }
            outbox.writing = true;
        }
        self.write_on()
    }

    /// Writes as the writer that [`Connection::flush`] made of the caller. After an error nobody
    /// writes any more.
    pub(super) fn write_on(&self) -> io::Result<Written> {
        let mut batch = VecDeque::new();
        loop {
            if batch.is_empty() {
                let mut outbox = self.outbox();
                std::mem::swap(&mut batch, &mut outbox.queue);
                if batch.is_empty() && !self.tls_pending() {
                    outbox.writing = false;
                    return Ok(Written::All);
                }
            }
            match self.write_batch(&mut batch) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let mut outbox = self.outbox();
                    batch.append(&mut outbox.queue);
                    outbox.queue = batch;
                    return Ok(Written::Blocked);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Resolves when the socket has room.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }

    fn write_batch(&self, batch: &mut VecDeque<Bytes>) -> io::Result<()> {
        let Some(mut tls) = self.tls() else {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut used = 0;
            for (slice, piece) in slices.iter_mut().zip(batch.iter()) {
                *slice = IoSlice::new(piece);
                used += 1;
            }
            let written = self.tcp.try_write_vectored(&slices[..used])?;
            advance(batch, written);
            return Ok(());
        };
        // The library takes a bounded amount at a time, and then wants it written.
        while let Some(piece) = batch.front_mut() {
            let taken = tls.writer().write(piece)?;
            piece.advance(taken);
            if !piece.is_empty() {
                break;
            }
            batch.pop_front();
        }
        while tls.wants_write() {
            tls.write_tls(&mut Socket(&self.tcp))?;
        }
        Ok(())
    }

    fn tls(&self) -> Option<MutexGuard<'_, ClientConnection>> {
        Some(self.tls.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tls_pending(&self) -> bool {
        self.tls().is_some_and(|tls| tls.wants_write())
    }
}

/// Forgets the first `written` bytes.
fn advance(batch: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(piece) = batch.front_mut() {
        if written < piece.len() {
            return piece.advance(written);
        }
        written -= piece.len();
        batch.pop_front();
    }
}

/// The socket as the TLS library writes to it: never waiting.
struct Socket<'a>(&'a OwnedWriteHalf);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reading side of a connection.
pub(super) struct Receiver {
    tcp: OwnedReadHalf,
    connection: Arc<Connection>,
    buffer: BytesMut,
    encrypted: BytesMut,
    /// How large the next buffer is to be.
    target: usize,
}

impl Receiver {
    /// The next bytes of the protocol; none at the end. Dropping the future loses nothing.
    pub(super) async fn receive(&mut self) -> io::Result<BytesMut> {
        loop {
            let connection = Arc::clone(&self.connection);
            let Some(tls) = connection.tls.as_ref() else {
                self.read(false).await?;
                return Ok(self.buffer.split());
            };
            let ended = self.encrypted.is_empty() && self.read(true).await? == 0;
            let mut tls = tls.lock().unwrap_or_else(PoisonError::into_inner);
            self.decrypt(&mut tls)?;
            if ended || !self.buffer.is_empty() {
                return Ok(self.buffer.split());
            }
        }
    }

    /// What arrived together with the end of the TLS handshake.
    pub(super) fn early(&mut self) -> io::Result<BytesMut> {
        let connection = Arc::clone(&self.connection);
        if let Some(mut tls) = connection.tls() {
            self.decrypt(&mut tls)?;
        }
        Ok(self.buffer.split())
    }

    async fn read(&mut self, encrypted: bool) -> io::Result<usize> {
        let buffer = if encrypted { &mut self.encrypted } else { &mut self.buffer };
        if buffer.capacity() - buffer.len() < MIN_ROOM {
            buffer.reserve(self.target);
        }
        let room = buffer.capacity() - buffer.len();
        let received = self.tcp.read_buf(buffer).await?;
        self.target = if received == room { BUSY_BUFFER } else { self.target };
        if received < QUIET_BUFFER / 4 {
            self.target = QUIET_BUFFER;
        }
        Ok(received)
    }

    fn decrypt(&mut self, tls: &mut ClientConnection) -> io::Result<()> {
        loop {
            let state = tls.process_new_packets().map_err(io::Error::other)?;
            let plain = state.plaintext_bytes_to_read();
            if plain > 0 {
                let start = self.buffer.len();
                self.buffer.resize(start + plain, 0);
                tls.reader().read_exact(&mut self.buffer[start..])?;
            }
            if self.encrypted.is_empty() {
                return Ok(());
            }
            let mut input = &self.encrypted[..];
            let taken = tls.read_tls(&mut input)?;
            self.encrypted.advance(taken);
            if taken == 0 {
                return Err(io::Error::other("TLS takes no more bytes"));
            }
        }
    }
}
