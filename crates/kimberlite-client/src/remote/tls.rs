//! How `tls://` addresses are trusted.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use kimberlite_wire::{ClientOptions, Error, ErrorCode};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::TlsConnector;

/// The system's certificate authorities, read once: that takes many milliseconds.
static SYSTEM_ROOTS: OnceLock<Result<Arc<RootCertStore>, Error>> = OnceLock::new();

/// What a client needs to speak TLS.
pub(super) struct TlsSetup {
    connector: TlsConnector,
    /// The name to demand instead of the address's host.
    server_name: Option<ServerName<'static>>,
}

impl TlsSetup {
    /// Reads the files that the options name. INVALID_ARGUMENT names the option that is wrong,
    /// CONNECTION_FAILED says where the system has no certificate authorities.
    pub(super) fn new(options: &ClientOptions) -> Result<TlsSetup, Error> {
        let roots = match options.tls_ca_file.as_str() {
            "" => SYSTEM_ROOTS.get_or_init(system_roots).clone()?,
            path => Arc::new(roots_of_file(path)?),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::new(ErrorCode::Internal, format!("TLS cannot be set up: {e}")))?
            .with_root_certificates(roots);
        let config = match (&*options.tls_client_cert_file, &*options.tls_client_key_file) {
            ("", "") => builder.with_no_client_auth(),
            (cert, key) => {
                let chain = certificates("tls_client_cert_file", cert)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|e| bad_file("tls_client_key_file", key, &e))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| {
                    let what = "tls_client_cert_file and tls_client_key_file do not go together";
                    Error::invalid(format!("{what}: {e}"))
                })?
            }
        };
        let server_name = match options.tls_server_name.as_str() {
            "" => None,
            name => Some(server_name(name).map_err(|e| {
                Error::invalid(format!("tls_server_name {name:?} is no name of a server: {e}"))
            })?),
        };
        Ok(TlsSetup { connector: TlsConnector::from(Arc::new(config)), server_name })
    }

    pub(super) fn connector(&self) -> &TlsConnector {
        &self.connector
    }

    /// The name that the certificate of the server at `host` must carry.
    pub(super) fn name_for(&self, host: &str) -> Result<ServerName<'static>, Error> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => server_name(host).map_err(|e| {
                let detail = format!("{host} is no name that a certificate may carry: {e}");
                Error::new(ErrorCode::ConnectionFailed, detail)
            }),
        }
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, rustls_pki_types::InvalidDnsNameError> {
    ServerName::try_from(name.to_string())
}

fn certificates(option: &str, path: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(Path::new(path))
        .and_then(|found| found.collect::<Result<Vec<_>, _>>());
    let found = read.map_err(|e| bad_file(option, path, &e))?;
    if found.is_empty() {
        return Err(bad_file(option, path, &"it holds no certificate"));
    }
    Ok(found)
}

fn roots_of_file(path: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_ca_file", path)? {
        roots.add(certificate).map_err(|e| bad_file("tls_ca_file", path, &e))?;
    }
    Ok(roots)
}

fn system_roots() -> Result<Arc<RootCertStore>, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (_, unusable) = roots.add_parsable_certificates(found.certs);
    if unusable > 0 {
        tracing::debug!(unusable, "some of the system's certificate authorities are unusable");
    }
    if roots.is_empty() {
        let causes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let detail = format!(
            "the system has no certificate authorities ({}); name a file by tls_ca_file",
            causes.join("; ")
        );
        return Err(Error::new(ErrorCode::ConnectionFailed, detail));
    }
    Ok(Arc::new(roots))
}

fn bad_file(option: &str, path: &str, why: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("{option} {path:?} cannot be used: {why}"))
}
