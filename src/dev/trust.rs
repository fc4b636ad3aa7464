//! TLS as a client: whose certificates are believed.
//!
//! In: a PEM file with authorities, or none for the system's. Out: what a connection encrypts with. Never: an unverified server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, pem};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

/// Why no server could be verified.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TrustError {
    #[error("`{}` cannot be used as certificate authority", file.display())]
    File { file: PathBuf, source: pem::Error },
    #[error("a certificate in `{}` is none of an authority", file.display())]
    Certificate { file: PathBuf, source: rustls::Error },
    #[error("the certificate authorities of this system cannot be used; name a file with `--ca`")]
    System(#[source] rustls::Error),
}

/// What connections to servers encrypt with that one of the authorities in the file vouches for; without a file, one of the
/// system's.
pub fn trust(file: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the versions of TLS that are default");
    let builder = match file {
        Some(file) => builder.with_root_certificates(authorities(file)?),
        None => builder.with_platform_verifier().map_err(TrustError::System)?,
    };
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn authorities(file: &Path) -> Result<RootCertStore, TrustError> {
    let unusable = |source| TrustError::File { file: file.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(unusable)? {
        let certificate = certificate.map_err(unusable)?;
        let add = roots.add(certificate);
        add.map_err(|source| TrustError::Certificate { file: file.to_owned(), source })?;
    }
    if roots.is_empty() { Err(unusable(pem::Error::NoItemsFound)) } else { Ok(roots) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |name: &str| {
            let error = trust(Some(&folder.path().join(name))).expect_err("of no use").to_string();
            assert!(error.contains(name), "{error}");
        };
        check("absent.pem");
        std::fs::write(folder.path().join("empty.pem"), "no certificate").expect("written");
        check("empty.pem");
        let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(folder.path().join("wrong.pem"), wrong).expect("written");
        check("wrong.pem");
    }
}
