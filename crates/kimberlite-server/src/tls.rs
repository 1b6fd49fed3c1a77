//! TLS: certificates, keys and, where clients must show certificates, their authorities.

use std::path::Path;
use std::sync::Arc;

use kimberlite_wire::Error;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig as Rustls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsConfig;

/// Reads the files. INVALID_ARGUMENT names the file and what is wrong with it, never its content.
pub(crate) fn load(config: &TlsConfig) -> Result<Arc<Rustls>, Error> {
    let chain = certificates(&config.certificate_file, "tls.certificate_file")?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file)
        .map_err(|e| unusable("tls.key_file", &config.key_file, &e))?;
    let provider = Arc::new(ring::default_provider());
    let builder = Rustls::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::invalid(format!("tls: {e}")))?;
    let builder = match &config.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(path) => {
            const OPTION: &str = "tls.client_ca_file";
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path, OPTION)? {
                roots.add(certificate).map_err(|e| unusable(OPTION, path, &e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| unusable(OPTION, path, &e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let rustls = builder.with_single_cert(chain, key).map_err(|e| {
        Error::invalid(format!("tls.certificate_file and tls.key_file do not fit: {e}"))
    })?;
    Ok(Arc::new(rustls))
}

fn certificates(path: &Path, option: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| unusable(option, path, &e))?;
    if certificates.is_empty() {
        return Err(unusable(option, path, &"it holds no certificate"));
    }
    Ok(certificates)
}

fn unusable(option: &str, path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("{option} {}: {why}", path.display()))
}
