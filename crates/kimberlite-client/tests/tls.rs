//! TLS: what is trusted, and what is said where it is not.

mod common;

use std::io::Write;
use std::net::TcpListener;

use common::{NONE, SecureServer, TOKEN, server, stream};
use kimberlite_client::blocking::Client;
use kimberlite_client::{Config, Error, ErrorCode};
use kimberlite_server::{Server, ServerConfig};

fn refused(config: Config) -> Error {
    let e = Client::connect(config.connect_timeout_ms(3_000)).expect_err("not trusted");
    assert_eq!(e.code, ErrorCode::ConnectionFailed, "{e}");
    e
}

/// The host's name in an address is the name that the certificate must carry.
#[test]
fn the_hosts_name_is_demanded() {
    let secure = SecureServer::start(false);
    let port = secure.server.local_addr().port();
    let named = Config::new([format!("tls://localhost:{port}")])
        .token(TOKEN)
        .tls_ca_file(secure.file("ca.pem"));
    stream(&Client::connect(named).expect("trusted"), "s");
    let numbered = Config::new([secure.address()]).token(TOKEN).tls_ca_file(secure.file("ca.pem"));
    let e = refused(numbered);
    assert!(e.detail.contains("not valid for name"), "{e}");
    assert!(e.detail.contains(&secure.address()), "the address is named: {e}");
}

/// A certificate of an unknown authority is refused with the cause and what to do.
#[test]
fn an_unknown_authority_is_refused() {
    let (secure, other) = (SecureServer::start(false), SecureServer::start(false));
    let e = refused(secure.config().tls_ca_file(other.file("ca.pem")));
    assert!(e.detail.contains("certificate") && e.detail.contains("tls_ca_file"), "{e}");
    let e = refused(Config::new([secure.address()]).token(TOKEN).tls_server_name("localhost"));
    assert!(e.detail.contains("certificate"), "the system's authorities do not know it: {e}");
}

/// A server that demands a certificate gets one, and refuses who has none.
#[test]
fn client_certificates() {
    let secure = SecureServer::start(true);
    let (cert, key) = (secure.file("client.pem"), secure.file("client.key"));
    let client = Client::connect(secure.config().tls_client_cert(cert, key)).expect("trusted");
    assert!(client.list_streams(&NONE).is_ok());
    refused(secure.config());
}

/// Files that cannot be used are named by their option; speaking TLS to a plain port, or plainly to
/// a TLS port, ends clearly and soon.
#[test]
fn mistakes_are_named() {
    let secure = SecureServer::start(false);
    for (config, option) in [
        (secure.config().tls_ca_file("/nonexistent"), "tls_ca_file"),
        (secure.config().tls_ca_file(secure.file("client.key")), "tls_ca_file"),
        (secure.config().tls_client_cert("/nonexistent", "/nonexistent"), "tls_client_cert_file"),
        (secure.config().tls_server_name("not a name"), "tls_server_name"),
    ] {
        let e = Client::connect(config).expect_err("unusable");
        assert_eq!(e.code, ErrorCode::InvalidArgument, "{e}");
        assert!(e.detail.contains(option), "{e}");
    }
    let plain = server();
    let mut config = secure.config();
    config.addresses = vec![format!("tls://{}", plain.local_addr())];
    let e = refused(config);
    let address = format!("tls://{}", plain.local_addr());
    assert!(e.detail.contains(&address) && e.detail.contains("speaks no TLS"), "{e}");
    let address = secure.server.local_addr().to_string();
    let e = refused(Config::new([address.clone()]).token(TOKEN));
    assert!(e.detail.contains(&address) && e.detail.contains("TLS only"), "{e}");
}

/// A server that speaks only TLS, and another protocol than this one, is told from one that is
/// broken: it says so by an alert.
#[test]
fn a_foreign_tls_server_is_noticed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let _ = stream.write_all(&[0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x46]);
        }
    });
    let e = refused(Config::new([address.clone()]).token(TOKEN));
    assert!(e.detail.contains(&address) && e.detail.contains("put tls:// before it"), "{e}");
}

/// Whom the server makes wait after wrong tokens is told OVERLOADED, with the pause, whatever the
/// token is now; the wrong tokens themselves get AUTH_FAILED.
#[test]
fn a_lockout_is_overloaded() {
    let mut config = ServerConfig::development(TOKEN);
    config.limits.auth_failures_burst = 2;
    config.limits.auth_failures_per_minute = 1;
    let server = Server::start(config).expect("a server starts");
    let connect = |token: &str| {
        let config = Config::new([server.local_addr().to_string()]).token(token);
        Client::connect(config.connect_timeout_ms(3_000)).expect_err("refused")
    };
    for _ in 0..2 {
        assert_eq!(connect("a guess").code, ErrorCode::AuthFailed);
    }
    for token in [TOKEN, "a guess"] {
        let e = connect(token);
        assert_eq!(e.code, ErrorCode::Overloaded, "{e}");
        assert!(e.is_retryable() && e.retry_after_ms > 1_000, "{e:?}");
        assert!(e.detail.contains("wrong tokens"), "{e}");
    }
}

/// What protects a connection is refused where no address speaks TLS, before anything is sent, and
/// so is a certificate without its key: the caller would believe in a protection that is not there.
#[test]
fn half_of_tls_is_refused() {
    let plain = server();
    let config = || Config::new([plain.local_addr().to_string()]).token(TOKEN);
    for (config, named) in [
        (config().tls_ca_file("ca.pem"), ["tls_ca_file", "tls://"]),
        (config().tls_client_cert("a.pem", "a.key"), ["tls_client_cert_file", "tls://"]),
        (config().tls_server_name("localhost"), ["tls_server_name", "tls://"]),
        (config().tls_client_cert("a.pem", ""), ["tls_client_cert_file", "tls_client_key_file"]),
        (config().tls_client_cert("", "a.key"), ["tls_client_cert_file", "tls_client_key_file"]),
    ] {
        let e = Client::connect(config).expect_err("half of it");
        assert_eq!(e.code, ErrorCode::InvalidArgument, "{e}");
        assert!(named.iter().all(|name| e.detail.contains(name)), "{e}");
    }
    // One address that speaks TLS is enough to need them.
    let secure = SecureServer::start(false);
    let mut config = secure.config();
    config.addresses.push("127.0.0.1:1".to_string());
    assert!(Client::connect(config).is_ok());
}
