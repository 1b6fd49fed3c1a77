//! Binds the addresses, after a look at whether they are safe to listen on.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use kimberlite_wire::{DEFAULT_PORT, Error};
use tokio::net::{TcpListener, TcpSocket};

use crate::config::{Problems, ServerConfig};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// The admin port where an address names none.
const ADMIN_PORT: u16 = 9432;

/// One address of the configuration, resolved.
pub(crate) struct Endpoint {
    option: &'static str,
    text: String,
    /// The first has to be bound; of the rest what can be.
    addresses: Vec<SocketAddr>,
}

impl Endpoint {
    fn is_exposed(&self) -> bool {
        self.addresses.iter().any(|at| !at.ip().to_canonical().is_loopback())
    }
}

/// Resolves every address and refuses what is not safe. Each problem names the address and what to
/// do.
pub(crate) fn resolve(config: &ServerConfig, problems: &mut Problems) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for text in &config.listen {
        let resolved = endpoint("listen", text, DEFAULT_PORT).and_then(|endpoint| {
            if endpoint.is_exposed() && !config.insecure_listen {
                check_safe(config, text)?;
            }
            Ok(endpoint)
        });
        endpoints.extend(problems.note(resolved));
    }
    endpoints
}

/// The same for the admin port, which has no TLS.
pub(crate) fn resolve_admin(config: &ServerConfig, problems: &mut Problems) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for text in &config.admin.listen {
        let resolved = endpoint("admin.listen", text, ADMIN_PORT);
        let Some(endpoint) = problems.note(resolved) else { continue };
        if endpoint.is_exposed() && !config.admin.exposed {
            problems.add(format!(
                "admin.listen {text:?} reaches beyond this machine, where what it tells is neither \
                 encrypted nor kept from anybody; listen on localhost, or say exposed = true in \
                 [admin] (--admin-exposed)"
            ));
        }
        endpoints.push(endpoint);
    }
    endpoints
}

/// Beyond loopback every connection needs TLS. Tokens it needs everywhere.
fn check_safe(config: &ServerConfig, text: &str) -> Result<(), Error> {
    let problem = if config.tls.is_none() {
        "there is no [tls]"
    } else if config.allow_plaintext {
        "allow_plaintext is true"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!(
        "listen {text:?} reaches beyond this machine, but {problem}, so that tokens and data would \
         cross the network for everybody to read; configure TLS, listen on localhost, or say \
         insecure_listen = true (--insecure-listen)"
    )))
}

fn endpoint(option: &'static str, text: &str, default_port: u16) -> Result<Endpoint, Error> {
    let wrong = |why: &str| Error::invalid(format!("{option} {text:?}: {why}"));
    let why = "it must be host:port or host, with a port from 0 to 65535";
    let (host, port) = split(text, default_port).ok_or_else(|| wrong(why))?;
    let addresses = if host.eq_ignore_ascii_case("localhost") {
        // Not asked of the resolver: the name must mean loopback, and both kinds of it.
        vec![
            SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
        ]
    } else if let Ok(ip) = host.parse::<IpAddr>() {
        vec![SocketAddr::from((ip, port))]
    } else {
        (host, port).to_socket_addrs().map_err(|e| wrong(&e.to_string()))?.collect()
    };
    if addresses.is_empty() {
        return Err(wrong("the name has no address"));
    }
    Ok(Endpoint { option, text: text.to_string(), addresses })
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`.
fn split(text: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
    } else {
        match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = port.map_or(Some(default_port), |port| port.parse().ok())?;
    (!host.is_empty()).then_some((host, port))
}

/// Binds the endpoints without accepting yet. A free port that the first address of a name got is
/// used for its others too.
pub(crate) fn bind(endpoints: &[Endpoint]) -> Result<Vec<TcpSocket>, Error> {
    let mut sockets = Vec::new();
    for endpoint in endpoints {
        let mut port = None;
        for (number, address) in endpoint.addresses.iter().enumerate() {
            let mut address = *address;
            let fixed = address.port() != 0;
            if let (0, Some(port)) = (address.port(), port) {
                address.set_port(port);
            }
            match bind_one(address) {
                Ok((socket, bound)) => {
                    port.get_or_insert(bound);
                    sockets.push(socket);
                }
                // Where another program has the port on the other loopback address, clients of
                // `localhost` would reach that one.
                Err(error) if number == 0 || (fixed && error.kind() == ErrorKind::AddrInUse) => {
                    let Endpoint { option, text, .. } = endpoint;
                    let detail = format!("{option} {text:?}: {address} cannot be bound: {error}");
                    return Err(Error::invalid(detail));
                }
                Err(error) => tracing::debug!(%address, %error, "not listening there"),
            }
        }
    }
    Ok(sockets)
}

fn bind_one(address: SocketAddr) -> std::io::Result<(TcpSocket, u16)> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // On Windows the option would let another process take the port over.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let port = socket.local_addr()?.port();
    Ok((socket, port))
}

/// Starts listening on what was bound.
pub(crate) fn listen(sockets: Vec<TcpSocket>) -> Result<Vec<(TcpListener, SocketAddr)>, Error> {
    let listen = |socket: TcpSocket| {
        let listener = socket.listen(BACKLOG)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    let failed = |e: std::io::Error| Error::invalid(format!("listening failed: {e}"));
    sockets.into_iter().map(|socket| listen(socket).map_err(failed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AdminConfig, TlsConfig};

    /// Addresses are read with and without a port, with names and with both kinds of numbers.
    #[test]
    fn splits_addresses() {
        let cases = [
            ("localhost", Some(("localhost", 5432))),
            ("localhost:0", Some(("localhost", 0))),
            ("127.0.0.1:99", Some(("127.0.0.1", 99))),
            ("[::1]", Some(("::1", 5432))),
            ("[::1]:7", Some(("::1", 7))),
            ("::1", Some(("::1", 5432))),
            ("[::1", None),
            ("[::1]7", None),
            (":80", None),
            ("", None),
            ("a:port", None),
            ("a:65536", None),
        ];
        for (text, wanted) in cases {
            assert_eq!(split(text, DEFAULT_PORT), wanted, "{text:?}");
        }
        assert_eq!(endpoint("listen", "localhost:1", 1).map(|e| e.addresses.len()).unwrap(), 2);
    }

    /// Nothing listens beyond loopback without TLS unless told so in so many words.
    #[test]
    fn refuses_unsafe_addresses() {
        let mut config =
            ServerConfig { listen: vec!["0.0.0.0:0".to_string()], ..ServerConfig::default() };
        let refused = |config: &ServerConfig| {
            let mut problems = Problems::default();
            resolve(config, &mut problems);
            resolve_admin(config, &mut problems);
            problems.into_result().err().map(|e| e.detail)
        };
        assert!(refused(&config).unwrap().contains("insecure_listen = true"));
        config.tls = Some(TlsConfig::default());
        assert_eq!(refused(&config), None);
        config.allow_plaintext = true;
        assert!(refused(&config).unwrap().contains("allow_plaintext"));
        config.insecure_listen = true;
        assert_eq!(refused(&config), None);
        for text in ["127.0.0.1:0", "[::1]:0", "localhost:0", "127.8.8.8:0"] {
            let loopback =
                ServerConfig { listen: vec![text.to_string()], ..ServerConfig::default() };
            assert_eq!(refused(&loopback), None, "{text}");
        }
        let listen = vec!["0.0.0.0:0".to_string(), "127.0.0.1:0".to_string()];
        let mut admin = ServerConfig { admin: AdminConfig { listen, exposed: false }, ..config };
        let detail = refused(&admin).unwrap();
        assert!(detail.contains("admin.listen \"0.0.0.0:0\" reaches beyond"), "{detail}");
        admin.admin.exposed = true;
        assert_eq!(refused(&admin), None);
    }
}
