//! TLS: certificates, keys and, where clients must show certificates, their authorities.

use std::path::Path;
use std::sync::Arc;

use kimberlite_wire::Error;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore, ServerConfig as Rustls};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::config::TlsConfig;

/// Reads the files. INVALID_ARGUMENT names the file and what is wrong with it, never its content.
pub(crate) fn load(config: &TlsConfig) -> Result<Arc<Rustls>, Error> {
    let chain = certificates(&config.certificate_file, "tls.certificate_file")?;
    let key = PrivateKeyDer::from_pem_file(&config.key_file)
        .map_err(|e| unusable("tls.key_file", &config.key_file, &e))?;
    let provider = Arc::new(ring::default_provider());
    if let Some(problem) = untimely(&chain, &provider, UnixTime::now()) {
        // Not refused: clients may have their reasons to accept it, and the clock may be wrong.
        let file = config.certificate_file.display();
        tracing::warn!(%file, "the server's certificate {problem}; clients will refuse it");
    }
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

/// What is wrong with the time for which the server's certificate is valid, if anything. Whoever
/// checks a certificate looks at its time before its issuer, so that any authority does here.
fn untimely(
    chain: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
    now: UnixTime,
) -> Option<&'static str> {
    let (first, rest) = chain.split_first()?;
    let mut roots = RootCertStore::empty();
    roots.add(chain.last()?.clone()).ok()?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let name = ServerName::try_from("localhost").ok()?;
    match verifier.build().ok()?.verify_server_cert(first, rest, &name, &[], now) {
        Err(rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => Some("has expired"),
        Err(rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        )) => Some("is not valid yet"),
        _ => None,
    }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};

    use super::*;

    /// A certificate's time is judged whether it signs itself, comes with its issuer or without.
    #[test]
    fn untimely_certificates_are_noticed() {
        let provider = Arc::new(ring::default_provider());
        let mut params = CertificateParams::new(vec!["db.example".to_string()]).unwrap();
        params.not_before = date_time_ymd(2010, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap().der().clone();
        let issuer_key = KeyPair::generate().unwrap();
        let issuer_params = CertificateParams::new(vec!["ca.example".to_string()]).unwrap();
        let authority = issuer_params.self_signed(&issuer_key).unwrap().der().clone();
        let issuer = Issuer::new(issuer_params, issuer_key);
        let signed = params.signed_by(&key, &issuer).unwrap().der().clone();
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        for chain in [vec![own], vec![signed.clone(), authority], vec![signed]] {
            let judged = |seconds| untimely(&chain, &provider, at(seconds));
            assert_eq!(judged(1_000_000_000), Some("is not valid yet"));
            assert_eq!(judged(1_400_000_000), None);
            assert_eq!(judged(1_700_000_000), Some("has expired"));
        }
    }
}
