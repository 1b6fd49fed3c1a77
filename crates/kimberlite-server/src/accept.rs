//! Accepts connections and sees each through its life.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kimberlite_wire::{Error, ErrorCode};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info, warn};

use crate::connection::Connection;
use crate::handshake::{self, Authenticated, Refused};
use crate::shared::Shared;

/// Peers beyond the limit that are told so at a time; further ones are cut off.
const MAX_REFUSALS: usize = 64;
/// How long accepting pauses after the system refused it, as it does where descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a peer is told to wait where the server is full.
const FULL_RETRY_MS: u32 = 1_000;

/// Accepts until the server shuts down.
pub(crate) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((tcp, peer)) => welcome(&shared, tcp, peer),
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            () = shared.shutting_down() => return,
        }
    }
}

fn welcome(shared: &Arc<Shared>, tcp: TcpStream, peer: SocketAddr) {
    let (task, before) = shared.begin_task();
    let bound = shared.limits.max_connections;
    let refusal = (before >= bound).then(|| {
        let detail = format!("the server has its {bound} connections; try again later");
        let mut error = Error::new(ErrorCode::Overloaded, detail);
        error.retry_after_ms = FULL_RETRY_MS;
        error
    });
    if before >= bound + MAX_REFUSALS {
        debug!(%peer, "connection cut off: the server is full");
        return;
    }
    let shared = shared.clone();
    tokio::spawn(async move {
        serve(shared, tcp, peer, refusal).await;
        drop(task);
    });
}

async fn serve(shared: Arc<Shared>, tcp: TcpStream, peer: SocketAddr, refusal: Option<Error>) {
    let bound = Duration::from_millis(shared.limits.handshake_timeout_ms);
    let established = tokio::select! {
        established = handshake::establish(&shared, tcp, peer, refusal) => established,
        () = tokio::time::sleep(bound) => {
            info!(%peer, "connection refused: no hello in time");
            return;
        }
        // Who has not authenticated has nothing under way.
        () = shared.shutting_down() => return,
    };
    match established {
        Ok(authenticated) => converse(shared, authenticated, peer).await,
        Err(Refused::Told(error)) => {
            info!(%peer, code = error.code.name(), detail = error.detail, "connection refused");
        }
        Err(Refused::Failed(error)) => debug!(%peer, %error, "connection lost before its hello"),
    }
}

async fn converse(shared: Arc<Shared>, authenticated: Authenticated, peer: SocketAddr) {
    let Authenticated { transport, decoder, grant, tenant_id, client_name, client_version } =
        authenticated;
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
