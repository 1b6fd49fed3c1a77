//! Opens a transport to a server: names, sockets, TLS.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kimberlite_wire::{Error, ErrorCode};
use rustls::{AlertDescription, ClientConnection};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::tls::TlsSetup;
use crate::address::ServerAddress;

/// While one of a host's addresses does not answer, the next is tried beside it after this long.
const STAGGER: Duration = Duration::from_millis(250);

/// An open transport.
pub(super) struct Transport {
    pub(super) tcp: TcpStream,
    pub(super) tls: Option<ClientConnection>,
}

/// Opens one. CONNECTION_FAILED names the cause. The session bounds the time.
pub(super) async fn dial(
    address: &ServerAddress,
    tls: Option<&TlsSetup>,
) -> Result<Transport, Error> {
    let tcp = connect(resolve(address).await?).await?;
    // Small frames must not wait for acknowledgements of earlier ones.
    if let Err(e) = tcp.set_nodelay(true) {
        tracing::debug!(%address, error = %e, "TCP_NODELAY could not be set");
    }
    let Some(tls) = tls else {
        return Ok(Transport { tcp, tls: None });
    };
    let name = tls.name_for(&address.host)?;
    let stream = tls.connector().connect(name, tcp).await.map_err(|e| refused_tls(&e))?;
    let (tcp, connection) = stream.into_inner();
    Ok(Transport { tcp, tls: Some(connection) })
}

/// All addresses of a host, those of one family after those of the other, one of each at a time.
async fn resolve(address: &ServerAddress) -> Result<VecDeque<SocketAddr>, Error> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(VecDeque::from([SocketAddr::new(ip, address.port)]));
    }
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let found = found.map_err(|e| failed(format!("{} cannot be resolved: {e}", address.host)))?;
    let (mut first, mut other): (VecDeque<_>, VecDeque<_>) = (VecDeque::new(), VecDeque::new());
    for ip in found {
        let same = first.front().is_none_or(|one: &SocketAddr| one.is_ipv4() == ip.is_ipv4());
        if same { first.push_back(ip) } else { other.push_back(ip) }
    }
    let mut mixed = VecDeque::new();
    while !(first.is_empty() && other.is_empty()) {
        mixed.extend(first.pop_front());
        mixed.extend(other.pop_front());
    }
    if mixed.is_empty() {
        return Err(failed(format!("{} has no address", address.host)));
    }
    Ok(mixed)
}

/// Connects to the first of a host's addresses that answers, begun in order.
async fn connect(mut targets: VecDeque<SocketAddr>) -> Result<TcpStream, Error> {
    let mut attempts = JoinSet::new();
    let mut causes = Vec::new();
    loop {
        if let Some(target) = targets.pop_front() {
            attempts.spawn(async move {
                TcpStream::connect(target).await.map_err(|e| format!("{target}: {e}"))
            });
        }
        let patience = if targets.is_empty() { Duration::MAX } else { STAGGER };
        match timeout(patience, attempts.join_next()).await {
            // The next one is tried beside those that have not answered.
            Err(_) => {}
            Ok(Some(Ok(Ok(tcp)))) => return Ok(tcp),
            Ok(Some(Ok(Err(cause)))) => causes.push(cause),
            Ok(Some(Err(e))) => causes.push(e.to_string()),
            Ok(None) if targets.is_empty() => return Err(failed(causes.join("; "))),
            Ok(None) => {}
        }
    }
}

fn failed(detail: String) -> Error {
    Error::new(ErrorCode::ConnectionFailed, detail)
}

/// Why no TLS came about. What is wrong with a certificate is said in full.
fn refused_tls(e: &io::Error) -> Error {
    let inner = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let advice = match inner {
        Some(rustls::Error::InvalidCertificate(_)) => {
            " (tls_ca_file names the authorities to trust, tls_server_name the name to expect)"
        }
        // A server that speaks TLS answers a first message with neither of these.
        Some(
            rustls::Error::AlertReceived(AlertDescription::UnexpectedMessage)
            | rustls::Error::InvalidMessage(_),
        ) => {
            "; the server speaks no TLS at this address: leave tls:// out, or let the server have \
             a certificate"
        }
        Some(rustls::Error::AlertReceived(_)) => {
            " (the server refused; it may ask for a client's certificate)"
        }
        None if e.kind() == io::ErrorKind::UnexpectedEof => {
            " (the server closed the connection; does it speak TLS at this address?)"
        }
        _ => "",
    };
    failed(format!("TLS failed: {e}{advice}"))
}
