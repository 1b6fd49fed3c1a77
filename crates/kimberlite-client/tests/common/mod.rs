//! What the tests of the client share: the doors to a database, and events that tell which they are.
#![allow(dead_code)]

pub mod proxy;

use std::any::Any;
use std::ops::Range;

use kimberlite_client::blocking::Client;
use kimberlite_client::{CallOptions, Config, DataClass, EventBatch, Page, StreamId};
use kimberlite_server::{Server, ServerConfig, TlsConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// Options that ask nothing.
pub const NONE: CallOptions = CallOptions { timeout_ms: None, min_position: 0, stale: false };

/// The token of every server of the tests.
pub const TOKEN: &str = "secret";

/// A way to a database, and what must live as long.
pub struct Door {
    pub name: &'static str,
    pub client: Client,
    keep: Vec<Box<dyn Any>>,
}

/// Every way: in memory, in a folder, over TCP, over TLS.
pub fn doors() -> Vec<Door> {
    let folder = tempfile::tempdir().expect("a folder");
    let address = format!("embedded:{}", folder.path().display());
    let embedded = Client::connect(Config::new([address])).expect("the folder opens");
    let server = server();
    let tcp = connect(&server);
    let secure = SecureServer::start(false);
    let tls = Client::connect(secure.config()).expect("connects over TLS");
    vec![
        Door { name: "memory", client: memory(), keep: Vec::new() },
        Door { name: "embedded", client: embedded, keep: vec![Box::new(folder)] },
        Door { name: "tcp", client: tcp, keep: vec![Box::new(server)] },
        Door { name: "tls", client: tls, keep: vec![Box::new(secure)] },
    ]
}

/// A server in memory.
pub fn server() -> Server {
    Server::start(ServerConfig::development(TOKEN)).expect("a server starts")
}

/// The configuration of a client of a server.
pub fn config(server: &Server) -> Config {
    Config::new([server.local_addr().to_string()]).token(TOKEN)
}

/// A client of a server.
pub fn connect(server: &Server) -> Client {
    Client::connect(config(server)).expect("connects")
}

/// A client of a memory of its own.
pub fn memory() -> Client {
    Client::connect(Config::new(["memory:"])).expect("a memory opens")
}

/// A server behind TLS, with an authority of its own.
pub struct SecureServer {
    pub server: Server,
    pub folder: TempDir,
}

impl SecureServer {
    /// Starts one, which may demand a certificate of its clients.
    pub fn start(demands_certificate: bool) -> SecureServer {
        let folder = tempfile::tempdir().expect("a folder");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("the folder takes it");
        };
        write("ca.pem", authority.pem());
        for name in ["localhost", "client"] {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![name.to_string()]).expect("parameters");
            let certificate = params.signed_by(&key, &authority).expect("a certificate");
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        let config = ServerConfig {
            tls: Some(TlsConfig {
                certificate_file: folder.path().join("localhost.pem"),
                key_file: folder.path().join("localhost.key"),
                client_ca_file: demands_certificate.then(|| folder.path().join("ca.pem")),
            }),
            ..ServerConfig::development(TOKEN)
        };
        let server = Server::start(config).expect("a server starts");
        SecureServer { server, folder }
    }

    /// A file of the folder.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Its address by number; the certificate is for `localhost`.
    pub fn address(&self) -> String {
        format!("tls://{}", self.server.local_addr())
    }

    /// The configuration of a client that trusts it.
    pub fn config(&self) -> Config {
        Config::new([self.address()])
            .token(TOKEN)
            .tls_ca_file(self.file("ca.pem"))
            .tls_server_name("localhost")
    }
}

/// A stream of this name.
pub fn stream(client: &Client, name: &str) -> StreamId {
    client.create_stream(name, DataClass::NonPhi, &NONE).expect("a stream")
}

/// Events that tell which they are.
pub fn events(range: Range<u64>) -> EventBatch {
    EventBatch::from_events(range.map(|i| format!("{{\"n\":{i}}}"))).expect("within the limits")
}

/// The data of a page's events as text.
pub fn texts(page: &Page) -> Vec<String> {
    page.iter().map(|event| String::from_utf8_lossy(event).into_owned()).collect()
}

/// What [`texts`] gives for [`events`].
pub fn expected(range: Range<u64>) -> Vec<String> {
    range.map(|i| format!("{{\"n\":{i}}}")).collect()
}
