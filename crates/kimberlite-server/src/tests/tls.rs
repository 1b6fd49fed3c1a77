//! TLS, plain connections beside it, and client certificates.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kimberlite_wire::ErrorCode;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::common::{Raw, Stream, assert_error, hello, read};
use super::{Stub, TOKEN, pattern, small, stream};
use crate::TlsConfig;

type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Stream for Tls {
    fn patience(&self, patience: Duration) {
        self.sock.set_read_timeout(Some(patience)).unwrap();
    }
}

/// An authority and what it has signed, as files in a folder.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        let authority = Authority { folder, issuer };
        authority.renew();
        authority
    }

    /// A certificate and its key.
    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_string()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Writes a new certificate for the server.
    fn renew(&self) {
        let (certificate, key) = self.sign("localhost");
        std::fs::write(self.path("server.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("server.key"), key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn config(&self) -> TlsConfig {
        TlsConfig {
            certificate_file: self.path("server.pem"),
            key_file: self.path("server.key"),
            client_ca_file: None,
        }
    }

    /// A TLS connection that trusts this authority, with a certificate of the client or without.
    fn connect(&self, address: SocketAddr, client: Option<(rcgen::Certificate, KeyPair)>) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        StreamOwned::new(connection, TcpStream::connect(address).unwrap())
    }

    fn open(&self, address: SocketAddr) -> Raw<Tls> {
        let mut raw = Raw::over(self.connect(address, None));
        raw.hello(1, TOKEN).unwrap();
        raw
    }
}

/// Everything works over TLS: small requests, large answers, errors.
#[test]
fn tls_carries_the_protocol() {
    let authority = Authority::new();
    let (server, _) = Stub::server(|config| config.tls = Some(authority.config()));
    let mut raw = authority.open(server.local_addr());
    raw.call(&small(1)).unwrap();
    let (_, payload) = raw.call(&read(stream::BYTES, 0, 5_000_000)).unwrap();
    assert!(payload == pattern(0, 5_000_000));
    let mut wrong = Raw::over(authority.connect(server.local_addr(), None));
    assert_error(wrong.hello(1, "wrong"), ErrorCode::AuthFailed, "none of those");
}

/// With TLS configured a plain connection is told to use it, unless plain ones are allowed too.
#[test]
fn plain_is_refused_beside_tls() {
    let authority = Authority::new();
    let (server, _) = Stub::server(|config| config.tls = Some(authority.config()));
    let mut raw = Raw::connect(server.local_addr());
    raw.send(&hello(1, TOKEN), &[]);
    assert_error(Err::<(), _>(raw.last_error()), ErrorCode::Protocol, "tls://");
    let (server, _) = Stub::server(|config| {
        config.tls = Some(authority.config());
        config.allow_plaintext = true;
    });
    Raw::open(server.local_addr(), 1, TOKEN).call(&small(1)).unwrap();
    authority.open(server.local_addr()).call(&small(1)).unwrap();
}

/// Where client certificates are asked for, a client without one, or with one of a stranger, is
/// refused; with one of the authority it still needs its token.
#[test]
fn client_certificates_are_checked() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (server, _) = Stub::server(|config| {
        let client_ca_file = Some(authority.path("ca.pem"));
        config.tls = Some(TlsConfig { client_ca_file, ..authority.config() });
    });
    let address = server.local_addr();
    let fails = |client| {
        let mut tls = authority.connect(address, client);
        // The server's refusal may only show at the first read.
        tls.write_all(b"KMB\x01").and_then(|()| tls.flush()).is_err() || {
            let mut byte = [0];
            std::io::Read::read(&mut tls, &mut byte).is_err()
        }
    };
    assert!(fails(None) && fails(Some(stranger.sign("client"))));
    let mut raw = Raw::over(authority.connect(address, Some(authority.sign("client"))));
    assert!(raw.hello(1, "wrong").is_err());
    let mut raw = Raw::over(authority.connect(address, Some(authority.sign("client"))));
    raw.hello(1, TOKEN).unwrap();
    raw.call(&small(1)).unwrap();
}

/// A reload takes new certificates for new connections, and leaves open ones alone; where the
/// files are unusable, everything stays as it was.
#[test]
fn reload_takes_new_certificates() {
    let authority = Authority::new();
    let mut used = None;
    let (server, _) = Stub::server(|config| {
        config.tls = Some(authority.config());
        used = Some(config.clone());
    });
    let config = used.unwrap();
    let peer = |raw: &Raw<Tls>| raw.stream.conn.peer_certificates().unwrap()[0].to_vec();
    let mut before = authority.open(server.local_addr());
    authority.renew();
    server.reload(&config).unwrap();
    let after = authority.open(server.local_addr());
    assert_ne!(peer(&before), peer(&after));
    before.call(&small(1)).unwrap();
    std::fs::write(authority.path("server.key"), "no key").unwrap();
    assert_error(server.reload(&config), ErrorCode::InvalidArgument, "tls.key_file");
    authority.open(server.local_addr()).call(&small(1)).unwrap();
}

/// Unusable files are named by option and path, and their content is not repeated.
#[test]
fn unusable_files_are_named() {
    let authority = Authority::new();
    std::fs::write(authority.path("empty.pem"), "hush").unwrap();
    let with = |change: fn(&mut TlsConfig, &Path)| {
        let mut tls = authority.config();
        change(&mut tls, authority.folder.path());
        super::super::tls::load(&tls).map(drop).unwrap_err()
    };
    let cases = [
        (with(|tls, folder| tls.certificate_file = folder.join("none")), "certificate_file"),
        (with(|tls, folder| tls.certificate_file = folder.join("empty.pem")), "no certificate"),
        (with(|tls, folder| tls.key_file = folder.join("empty.pem")), "tls.key_file"),
        (with(|tls, folder| tls.client_ca_file = Some(folder.join("none"))), "client_ca_file"),
        (with(|tls, folder| tls.certificate_file = folder.join("ca.pem")), "do not fit"),
    ];
    for (error, words) in cases {
        assert!(error.detail.contains(words) && !error.detail.contains("hush"), "{error}");
    }
}
