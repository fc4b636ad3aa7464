//! TLS as a client of brokers: whose certificates are believed, and which one we show.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;

use super::client::SetupError;
use crate::config::ClientTls;

/// Reads the files, and makes what connections encrypt with. Without `ca_file` the system's authorities are believed.
pub(super) fn encryption(files: &ClientTls) -> Result<Arc<ClientConfig>, SetupError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the versions of TLS that are default");
    let builder = match &files.ca_file {
        Some(file) => builder.with_root_certificates(authorities(file)?),
        None => builder.with_platform_verifier().map_err(SetupError::Tls)?,
    };
    let config = match (&files.certificate_file, &files.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|source| unusable(key, source))?;
            builder.with_client_auth_cert(chain, key).map_err(SetupError::Tls)?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

fn authorities(file: &Path) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(SetupError::Tls)?;
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let read = CertificateDer::pem_file_iter(file).and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>());
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unusable(file, pem::Error::NoItemsFound)),
        read => read.map_err(|source| unusable(file, source)),
    }
}

fn unusable(file: &Path, source: pem::Error) -> SetupError {
    SetupError::File { file: PathBuf::from(file), source }
}
