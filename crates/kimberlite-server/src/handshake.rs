//! From an accepted socket to an authenticated connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kimberlite_wire::frame::{FrameDecoder, FrameHeader, flag};
use kimberlite_wire::{
    Error, ErrorCode, FrameKind, HelloRequest, HelloResponse, MINIMUM_PROTOCOL_VERSION, Operation,
    PROTOCOL_VERSION, Role, limit,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::connection::Outbox;
use crate::directory::Grant;
use crate::metrics::Bound;
use crate::shared::{Place, Shared};
use crate::transport::Transport;

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// A fatal TLS alert, unexpected_message: what a TLS client understands where there is no TLS. No
/// server that speaks TLS answers a first message so, which lets clients tell the two apart.
const TLS_ALERT: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x0a];
/// What a browser or a health check gets.
const HTTP_ANSWER: &[u8] = b"HTTP/1.1 501 Not Implemented\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Length: 84\r\nConnection: close\r\n\r\n\
    This is a Kimberlite server. It speaks its own protocol here, not HTTP or WebSocket.";
/// How long a close waits for the peer to have read everything; shorter in a shutdown, which
/// waits for it.
const LINGER: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(100));
/// What the log keeps of a name that the client gave.
const MAX_LOGGED_BYTES: usize = 128;
/// How long a peer is told to wait where the server is full.
const FULL_RETRY_MS: u32 = 1_000;

/// An authenticated client.
pub(crate) struct Authenticated {
    pub(crate) transport: Transport,
    pub(crate) decoder: FrameDecoder,
    pub(crate) grant: Grant,
    pub(crate) tenant_id: u64,
    pub(crate) client_name: String,
    pub(crate) client_version: String,
    /// Its place among the connections.
    pub(crate) place: Place,
}

/// Why no connection came about.
pub(crate) enum Refused {
    /// The peer was told.
    Told(Error),
    /// The peer went away or spoke no TLS that fits.
    Failed(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Refused {
        Refused::Failed(error)
    }
}

/// Brings a socket to an authenticated connection, or refuses it with `refusal` or an error of its
/// own. The caller bounds the time.
pub(crate) async fn establish(
    shared: &Arc<Shared>,
    tcp: TcpStream,
    peer: SocketAddr,
    refusal: Option<Error>,
) -> Result<Authenticated, Refused> {
    // Answers are gathered before they are written, so waiting for more would only delay them.
    tcp.set_nodelay(true)?;
    let mut transport = open(shared, tcp).await?;
    if let Some(error) = refusal {
        return refuse(shared, transport, 0, error).await;
    }
    let bound = limit::UNAUTHENTICATED_FRAME_BYTES as usize;
    let mut decoder = FrameDecoder::new(bound);
    let (header, hello) = match read_hello(&mut transport, &mut decoder).await? {
        Ok(hello) => hello,
        Err(_) if is_http(decoder.buffer_mut()) => {
            transport.write_all(HTTP_ANSWER).await?;
            linger(shared, &mut transport).await;
            return Err(Refused::Told(Error::protocol("the client speaks HTTP")));
        }
        Err(error) => return refuse(shared, transport, 0, error).await,
    };
    match admit(shared, &hello, peer) {
        Ok((grant, place)) => {
            welcome(shared, &mut transport, &header, &hello, &grant).await?;
            Ok(Authenticated {
                transport,
                decoder,
                grant,
                tenant_id: hello.tenant_id,
                client_name: shortened(&hello.client_name),
                client_version: shortened(&hello.client_version),
                place,
            })
        }
        Err(error) => refuse(shared, transport, header.request_id, error).await,
    }
}

/// Tells TLS from plain connections by their first byte and does the TLS handshake.
async fn open(shared: &Arc<Shared>, mut tcp: TcpStream) -> Result<Transport, Refused> {
    let mut first = [0];
    if tcp.peek(&mut first).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    match (first[0] == TLS_HANDSHAKE, shared.tls()) {
        (true, Some(acceptor)) => {
            let tls = acceptor.accept(tcp).await?;
            Ok(Transport::Tls(Box::new(tls)))
        }
        (true, None) => {
            tcp.write_all(&TLS_ALERT).await?;
            linger(shared, &mut Transport::Plain(tcp)).await;
            Err(Refused::Told(Error::protocol(
                "the client speaks TLS, and this server has none at this address; the client \
                 should leave tls:// out, or the server be given [tls]",
            )))
        }
        // HTTP gets its answer in its own words further on.
        (false, _) if shared.allow_plaintext || first[0] == b'G' => Ok(Transport::Plain(tcp)),
        (false, _) => {
            let detail = "this server takes TLS only at this address; put tls:// before it";
            refuse(shared, Transport::Plain(tcp), 0, Error::protocol(detail)).await
        }
    }
}

fn is_http(received: &[u8]) -> bool {
    const GET: &[u8] = b"GET ";
    !received.is_empty() && (received.starts_with(GET) || GET.starts_with(received))
}

/// Reads the first frame, which must be a hello. The inner error is for the peer.
async fn read_hello(
    transport: &mut Transport,
    decoder: &mut FrameDecoder,
) -> io::Result<Result<(FrameHeader, HelloRequest), Error>> {
    loop {
        match decoder.next() {
            Ok(Some(frame)) => {
                let header = frame.header;
                let hello = header.kind == FrameKind::Request
                    && header.operation == Operation::Hello.number();
                if !hello || header.request_id == 0 {
                    let detail = "the first frame must be a hello request with an id";
                    return Ok(Err(Error::protocol(detail)));
                }
                let body = HelloRequest::decode(&frame.body).map_err(Error::from);
                return Ok(body.map(|hello| (header, hello)));
            }
            Ok(None) => {}
            Err(error) => return Ok(Err(error)),
        }
        let wanted = decoder.missing().max(1_024);
        let buffer = decoder.buffer_mut();
        buffer.reserve(wanted);
        if transport.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Gives an authenticated client its place. Whether there is one is looked at first, because it
/// costs nothing.
fn admit(
    shared: &Arc<Shared>,
    hello: &HelloRequest,
    peer: SocketAddr,
) -> Result<(Grant, Place), Error> {
    let full = || {
        shared.metrics.reached(Bound::Connections);
        let bound = shared.max_connections;
        let option = Bound::Connections.option();
        let detail = format!(
            "the server has the {bound} connections that it may have ({option}); try again later"
        );
        let mut error = Error::new(ErrorCode::Overloaded, detail);
        error.retry_after_ms = FULL_RETRY_MS;
        error
    };
    let place = shared.take_place().ok_or_else(full)?;
    Ok((authenticate(shared, hello, peer)?, place))
}

/// Judges version, token and tenant, in this order: who has no token learns nothing of tenants.
fn authenticate(
    shared: &Arc<Shared>,
    hello: &HelloRequest,
    peer: SocketAddr,
) -> Result<Grant, Error> {
    if hello.protocol_version < MINIMUM_PROTOCOL_VERSION {
        let detail = format!(
            "the client speaks protocol versions up to {}, this server {} from \
             {MINIMUM_PROTOCOL_VERSION} to {PROTOCOL_VERSION}; use versions that overlap",
            hello.protocol_version,
            env!("CARGO_PKG_VERSION"),
        );
        return Err(Error::new(ErrorCode::VersionMismatch, detail));
    }
    if let Some(wait) = shared.guessing_wait(peer.ip()) {
        shared.metrics.reached(Bound::AuthFailures);
        let detail = "too many wrong tokens came from this address; it has to wait, with the right \
                      token too (limits.auth_failures_burst, limits.auth_failures_per_minute)";
        let mut error = Error::new(ErrorCode::Overloaded, detail);
        error.retry_after_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
        return Err(error);
    }
    let tenant_id = hello.tenant_id;
    let Some(grant) = check_token(shared, hello, peer)? else {
        let detail = "no token was given; set the client's auth token";
        return Err(Error::new(ErrorCode::AuthFailed, detail));
    };
    if !shared.engine.tenant_exists(tenant_id) {
        let detail = format!("tenant {tenant_id} does not exist");
        return Err(Error::new(ErrorCode::TenantNotFound, detail));
    }
    if grant.role == Role::None {
        let name = &grant.principal;
        let detail = format!("the token of {name:?} grants nothing on tenant {tenant_id}");
        return Err(Error::new(ErrorCode::PermissionDenied, detail));
    }
    Ok(grant)
}

/// What the token grants; `None` where there is none to guess with.
fn check_token(
    shared: &Arc<Shared>,
    hello: &HelloRequest,
    peer: SocketAddr,
) -> Result<Option<Grant>, Error> {
    if hello.auth_token.is_empty() {
        return Ok(None);
    }
    let length = hello.auth_token.len() as u64;
    if length > limit::TOKEN_BYTES {
        return Err(Error::limit("the token's length in bytes", length, limit::TOKEN_BYTES));
    }
    let grant = shared.directory().grant(&hello.auth_token, hello.tenant_id);
    if grant.is_none() {
        shared.metrics.wrong_tokens.add(1);
        shared.guessed_wrong(peer.ip());
        let detail = "the token is none of those that this server was configured with";
        return Err(Error::new(ErrorCode::AuthFailed, detail));
    }
    Ok(grant)
}

async fn welcome(
    shared: &Arc<Shared>,
    transport: &mut Transport,
    header: &FrameHeader,
    hello: &HelloRequest,
    grant: &Grant,
) -> io::Result<()> {
    let welcome = HelloResponse {
        protocol_version: hello.protocol_version.min(PROTOCOL_VERSION),
        server_version: env!("CARGO_PKG_VERSION").to_string(),
        log_id: shared.engine.log_id(),
        principal: grant.principal.clone(),
        role: grant.role.number(),
        leader: String::new(),
        members: Vec::new(),
        max_request_bytes: limit::REQUEST_FRAME_BYTES as u32,
        initial_credit_bytes: limit::INITIAL_CREDIT_BYTES as u32,
        position: shared.engine.position(),
    };
    let mut outbox = Outbox::default();
    let (kind, operation) = (FrameKind::Response, Operation::Hello.number());
    outbox.frame(kind, flag::END, operation, header.request_id, Bytes::new(), |out| {
        welcome.encode(out);
    });
    send(transport, outbox).await
}

async fn send(transport: &mut Transport, mut outbox: Outbox) -> io::Result<()> {
    std::future::poll_fn(|cx| outbox.poll_send(transport, cx, &mut 0)).await
}

/// Tells the peer why, closes, and returns the reason.
async fn refuse<T>(
    shared: &Shared,
    mut transport: Transport,
    request_id: u64,
    error: Error,
) -> Result<T, Refused> {
    let mut outbox = Outbox::default();
    outbox.error(Operation::Hello.number(), request_id, &error);
    send(&mut transport, outbox).await?;
    linger(shared, &mut transport).await;
    Err(Refused::Told(error))
}

/// Closes in order: says that nothing more comes, then reads what the peer was still sending, for
/// unread bytes would make the system reset the connection and drop what the peer has not read.
pub(crate) async fn linger(shared: &Shared, transport: &mut Transport) {
    let drained = async {
        transport.shutdown().await?;
        let mut scrap = vec![0; 16 << 10];
        while transport.read(&mut scrap).await? > 0 {}
        io::Result::Ok(())
    };
    // A peer that does not go is cut off; whether it went in order changes nothing here.
    let bound = if shared.is_shutting_down() { LINGER.1 } else { LINGER.0 };
    let _ = tokio::time::timeout(bound, drained).await;
}

/// What the log keeps of a text that the client chose: whole characters only.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(MAX_LOGGED_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long name is cut to 128 bytes, between characters.
    #[test]
    fn names_are_shortened() {
        assert_eq!(shortened("a short one"), "a short one");
        assert_eq!(shortened(&"x".repeat(500)), "x".repeat(128));
        assert_eq!(shortened(&"€".repeat(500)), "€".repeat(42));
    }

    /// The HTTP answer announces its true length.
    #[test]
    fn http_answer_is_well_formed() {
        let text = std::str::from_utf8(HTTP_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        assert!(is_http(b"GET / HTTP/1.1") && is_http(b"G") && !is_http(b"") && !is_http(b"GIT "));
    }
}
