//! Accepts connections and sees each through its life.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kimberlite_wire::{Error, ErrorCode};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info, warn};

use crate::connection::Connection;
use crate::handshake::{self, Authenticated, Refused};
use crate::handshakes::Handshake;
use crate::metrics::Bound;
use crate::shared::Shared;

/// How long accepting pauses after the system refused it, as it does where files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the log tells that connections cannot be accepted.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How long a peer has to take the news that there is no file left for its connection.
const REFUSAL_TIMEOUT: Duration = Duration::from_millis(200);
/// How long a peer is told to wait where files have run out.
const FILES_RETRY_MS: u32 = 1_000;

/// Accepts until the server shuts down.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut door = Door { spare: spare_file(), told: None, untold: 0 };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => welcome(&shared, tcp, peer),
                Err(error) => door.failed(&shared, &listener, &error).await,
            },
            () = shared.shutting_down() => return,
        }
    }
}

/// Keeps one file open, to be closed when a connection has to be accepted in its place: where no
/// file is left, the system keeps connections waiting without an end.
struct Door {
    spare: Option<File>,
    told: Option<Instant>,
    /// Failures that the log has not told of.
    untold: u64,
}

fn spare_file() -> Option<File> {
    // Any file does; the program's own is there as long as it runs.
    File::open(std::env::current_exe().ok()?).ok()
}

impl Door {
    async fn failed(&mut self, shared: &Arc<Shared>, listener: &TcpListener, error: &io::Error) {
        shared.metrics.accept_errors.add(1);
        self.untold += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            warn!(%error, times = self.untold, "connections cannot be accepted");
            (self.told, self.untold) = (Some(Instant::now()), 0);
        }
        if self.spare.take().is_some() {
            self.refuse_one(shared, listener).await;
            self.spare = spare_file();
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    /// Accepts a connection in the place of the spare file, if one waits, and tells it why it
    /// cannot stay.
    async fn refuse_one(&self, shared: &Arc<Shared>, listener: &TcpListener) {
        let refused = async {
            let (tcp, peer) = listener.accept().await?;
            shared.metrics.reached(Bound::OpenFiles);
            let detail = "the server has no file left for one more connection; try again later";
            let mut error = Error::new(ErrorCode::Overloaded, detail);
            error.retry_after_ms = FILES_RETRY_MS;
            shared.metrics.refused(&error);
            // The result is the refusal itself.
            let _ = handshake::establish(shared, tcp, peer, Some(error)).await;
            io::Result::Ok(())
        };
        // Nobody may be waiting, or the peer may take its time: others must not wait for it.
        let _ = tokio::time::timeout(REFUSAL_TIMEOUT, refused).await;
    }
}

fn welcome(shared: &Arc<Shared>, tcp: TcpStream, peer: SocketAddr) {
    shared.metrics.accepted.add(1);
    let (handshake, pushed_out) = shared.handshakes.enter();
    if pushed_out {
        shared.metrics.reached(Bound::Handshakes);
    }
    let task = shared.begin_task();
    let shared = shared.clone();
    tokio::spawn(async move {
        serve(shared, tcp, peer, handshake).await;
        drop(task);
    });
}

async fn serve(shared: Arc<Shared>, tcp: TcpStream, peer: SocketAddr, handshake: Handshake) {
    let bound = Duration::from_millis(shared.limits.handshake_timeout_ms);
    let established = tokio::select! {
        established = handshake::establish(&shared, tcp, peer, None) => established,
        () = tokio::time::sleep(bound) => {
            shared.metrics.reached(Bound::HandshakeTimeout);
            info!(%peer, "connection refused: no hello in time");
            return;
        }
        () = handshake.pushed_out() => {
            debug!(%peer, "connection cut off: too many others came before its hello");
            return;
        }
        // Who has not authenticated has nothing under way.
        () = shared.shutting_down() => return,
    };
    drop(handshake);
    match established {
        Ok(authenticated) => converse(shared, authenticated, peer).await,
        Err(Refused::Told(error)) => {
            shared.metrics.refused(&error);
            info!(%peer, code = error.code.name(), detail = error.detail, "connection refused");
        }
        Err(Refused::Failed(error)) => {
            shared.metrics.lost.add(1);
            if error.kind() == io::ErrorKind::InvalidData {
                info!(%peer, %error, "connection refused: no TLS came about");
            } else {
                debug!(%peer, %error, "connection lost before its hello");
            }
        }
    }
}

async fn converse(shared: Arc<Shared>, authenticated: Authenticated, peer: SocketAddr) {
    let Authenticated {
        transport,
        decoder,
        grant,
        tenant_id,
        client_name,
        client_version,
        place: _place,
    } = authenticated;
    shared.metrics.opened.add(1);
    let connection = shared.next_id();
    let started = Instant::now();
    info!(
        connection,
        %peer,
        over = transport.name(),
        principal = grant.principal,
        tenant = tenant_id,
        role = grant.role.name(),
        client = client_name,
        version = client_version,
        "connection open"
    );
    let session =
        shared.engine.session(&grant.principal, tenant_id, grant.role, grant.admin_of_all);
    let mut open = Connection::new(shared.clone(), transport, decoder, session, grant.clone());
    let ended = open.run().await;
    let (mut transport, requests) = open.into_transport();
    info!(
        connection,
        %peer,
        principal = grant.principal,
        tenant = tenant_id,
        client = client_name,
        requests,
        open_ms = started.elapsed().as_millis() as u64,
        reason = ended.reason,
        "connection closed"
    );
    if ended.orderly {
        handshake::linger(&shared, &mut transport).await;
    }
}
