//! Hostile peers and wrong certificates against a server with TLS.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Raw, Stream, hello, read};
use kimberlite_server::{Server, ServerConfig, TlsConfig};
use kimberlite_wire::ErrorCode;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{CertificateError, ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

const TOKEN: &str = "secret";

type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Stream for Tls {
    fn patience(&self, patience: Duration) {
        self.sock.set_read_timeout(Some(patience)).unwrap();
    }
}

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// An authority, with files for a server.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Authority { folder, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for a name, valid in these years.
    fn sign(&self, name: &str, years: std::ops::Range<i32>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        Identity { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }

    /// A server with this certificate, which asks clients for one of this authority or for none.
    fn server(&self, identity: &Identity, asks: bool) -> Server {
        std::fs::write(self.path("server.pem"), identity.certificate.pem()).unwrap();
        std::fs::write(self.path("server.key"), identity.key.serialize_pem()).unwrap();
        let mut config = ServerConfig::development(TOKEN);
        config.limits.handshake_timeout_ms = 2_000;
        config.limits.max_handshakes = 32;
        config.tls = Some(TlsConfig {
            certificate_file: self.path("server.pem"),
            key_file: self.path("server.key"),
            client_ca_file: asks.then(|| self.path("ca.pem")),
        });
        Server::start(config).unwrap()
    }

    fn usual_server(&self) -> Server {
        self.server(&self.sign("localhost", 2020..4000), false)
    }

    fn connect(&self, address: SocketAddr, name: &str, own: Option<&Identity>) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain: Vec<CertificateDer<'static>> = vec![own.certificate.der().clone()];
                let key = PrivateKeyDer::try_from(own.key.serialize_der()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from(name.to_string()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(connection, TcpStream::connect(address).unwrap())
    }

    /// A client that means well is served.
    fn assert_served(&self, address: SocketAddr, own: Option<&Identity>) {
        let mut raw = Raw::over(self.connect(address, "localhost", own));
        raw.hello(1, TOKEN).unwrap();
        raw.create_stream("visits");
    }
}

/// Says hello over TLS; whether the server has answered it.
fn is_welcomed(mut tls: Tls) -> Result<bool, rustls::Error> {
    tls.patience(Duration::from_secs(20));
    let bytes = common::request_bytes(1, &hello(1, TOKEN), &[], 0);
    let mut answer = [0; 1];
    let talk =
        tls.write_all(&bytes).and_then(|()| tls.flush()).and_then(|()| tls.read(&mut answer));
    match talk {
        Ok(count) => Ok(count > 0),
        Err(error) => match error.downcast::<rustls::Error>() {
            Ok(error) => Err(error),
            Err(_) => Ok(false),
        },
    }
}

/// A ClientHello that offers nothing newer than this version, as an old client sends it.
fn old_client_hello(version: [u8; 2]) -> Vec<u8> {
    let mut body = version.to_vec();
    body.extend([7; 32]);
    body.push(0);
    // Two cipher suites of that time, and no compression.
    body.extend([0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
    let mut record = vec![0x16, 0x03, 0x01];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// TLS 1.0, 1.1 and a 1.2 without what is safe are refused by an alert.
#[test]
fn old_tls_is_refused() {
    let authority = Authority::new();
    let server = authority.usual_server();
    for version in [[3, 1], [3, 2], [3, 0]] {
        let mut tcp = TcpStream::connect(server.local_addr()).unwrap();
        tcp.patience(Duration::from_secs(20));
        tcp.write_all(&old_client_hello(version)).unwrap();
        let mut answer = Vec::new();
        let _ = tcp.read_to_end(&mut answer);
        assert_eq!(answer.first(), Some(&0x15), "{version:?} got no alert: {answer:?}");
        // A fatal one.
        assert_eq!(answer.get(5), Some(&2), "{answer:?}");
    }
    authority.assert_served(server.local_addr(), None);
}

/// A plain client of a port that takes TLS only is told so in frames that it understands.
#[test]
fn plain_is_told_to_use_tls() {
    let authority = Authority::new();
    let server = authority.usual_server();
    let mut raw = Raw::connect(server.local_addr());
    raw.send(&hello(1, TOKEN), &[]);
    let error = raw.last_error();
    assert_eq!(error.code, ErrorCode::Protocol);
    assert!(error.detail.contains("TLS only") && error.detail.contains("tls://"), "{error}");
}

/// Handshakes that are never finished, cut anywhere or sent byte by byte, are pushed out or time
/// out; a client that means well gets through all the while.
#[test]
fn unfinished_handshakes_keep_nobody_out() {
    let authority = Authority::new();
    let server = authority.usual_server();
    let address = server.local_addr();
    // What a real client would begin with.
    let mut client = authority.connect(address, "localhost", None);
    let mut first = Vec::new();
    client.conn.write_tls(&mut first).unwrap();
    let mut held = Vec::new();
    for number in 0..200 {
        let mut tcp = TcpStream::connect(address).unwrap();
        let cut = 1 + number * first.len() / 200;
        tcp.write_all(&first[..cut.min(first.len())]).unwrap();
        held.push(tcp);
        if number % 50 == 49 {
            authority.assert_served(address, None);
        }
    }
    let start = Instant::now();
    for mut tcp in held {
        tcp.patience(Duration::from_secs(20));
        // Whole handshakes are answered; then the server closes all the same.
        let _ = tcp.read_to_end(&mut Vec::new());
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    authority.assert_served(address, None);
}

/// What comes over TLS and is no frame, or stops being TLS amid a connection, ends it.
#[test]
fn garbage_within_tls_ends_the_connection() {
    let authority = Authority::new();
    let server = authority.usual_server();
    let mut raw = Raw::over(authority.connect(server.local_addr(), "localhost", None));
    raw.send_bytes(b"GARBAGE");
    assert_eq!(raw.last_error().code, ErrorCode::Protocol);
    let mut raw = Raw::over(authority.connect(server.local_addr(), "localhost", None));
    raw.hello(1, TOKEN).unwrap();
    let stream_id = raw.create_stream("visits");
    raw.append(stream_id, &[b"one"]).unwrap();
    raw.call(&read(stream_id, 0, 1)).unwrap();
    raw.stream.sock.write_all(&[0x17, 3, 3, 0, 32, 1, 2, 3]).unwrap();
    raw.stream.sock.write_all(&[9; 64]).unwrap();
    let mut rest = Vec::new();
    let _ = raw.stream.sock.read_to_end(&mut rest);
    authority.assert_served(server.local_addr(), None);
}

/// Of clients that must show a certificate only those with a valid one of the authority get in: not
/// without one, with an expired or future one, one that signs itself, or one of another authority.
#[test]
fn wrong_client_certificates_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server(&authority.sign("localhost", 2020..4000), true);
    let address = server.local_addr();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client".to_string()]).unwrap();
    let own = Identity { certificate: params.self_signed(&key).unwrap(), key };
    let wrong = [
        ("none", None),
        ("expired", Some(authority.sign("client", 2000..2001))),
        ("not valid yet", Some(authority.sign("client", 3990..4000))),
        ("self-signed", Some(own)),
        ("of another authority", Some(other.sign("client", 2020..4000))),
    ];
    for (name, identity) in &wrong {
        let tls = authority.connect(address, "localhost", identity.as_ref());
        assert_ne!(is_welcomed(tls), Ok(true), "{name}");
    }
    authority.assert_served(address, Some(&authority.sign("client", 2020..4000)));
}

/// A client refuses a server whose certificate is expired, signs itself, is of another authority or
/// for another name, before it shows its token.
#[test]
fn wrong_server_certificates_are_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_string()]).unwrap();
    let own = Identity { certificate: params.self_signed(&key).unwrap(), key };
    let cases = [
        ("expired", authority.sign("localhost", 2000..2001)),
        ("self-signed", own),
        ("of another authority", other.sign("localhost", 2020..4000)),
        ("for another name", authority.sign("elsewhere", 2020..4000)),
    ];
    for (name, identity) in cases {
        let server = authority.server(&identity, false);
        let tls = authority.connect(server.local_addr(), "localhost", None);
        let refused = is_welcomed(tls).expect_err(name);
        let rustls::Error::InvalidCertificate(why) = &refused else { panic!("{name}: {refused}") };
        let fits = match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                name == "expired"
            }
            // By another key under the same name, which authorities of tests have.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                name.contains("self") || name.contains("authority")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                name == "for another name"
            }
            // A certificate that signs itself may be taken for an authority's.
            _ => name == "self-signed",
        };
        assert!(fits, "{name}: {refused}");
    }
}
