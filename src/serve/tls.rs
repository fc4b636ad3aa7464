//! TLS as a server: certificate and key from PEM files, HTTP/2 and HTTP/1.1 by ALPN, and callers who show a certificate of
//! their own. The files may be renewed while it serves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config;

/// Why a listener cannot encrypt.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file is not readable, or holds nothing of use.
    #[error("{what} `{file}` cannot be used")]
    File {
        /// `certificate_file` or `key_file`.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The key does not belong to the certificate, or is of a kind that is not supported.
    #[error("certificate and key do not go together")]
    Pair(#[source] rustls::Error),
    /// The authorities of callers are of no use.
    #[error("the authorities of `client_ca_file` cannot be used")]
    Authorities(#[source] Box<VerifierBuilderError>),
}

/// What a listener encrypts with. Clones are the same.
#[derive(Clone, Debug)]
pub struct Encryption(Arc<ArcSwap<ServerConfig>>);

impl Encryption {
    /// With this certificate and key.
    pub fn new(config: Arc<ServerConfig>) -> Encryption {
        Encryption(Arc::new(ArcSwap::new(config)))
    }

    /// Connections from now on are encrypted with another certificate; those that are open go on as they are.
    pub fn renew(&self, config: Arc<ServerConfig>) {
        self.0.store(config);
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

/// Reads the files and makes what a listener encrypts with.
pub fn encryption(files: &config::Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let refuse = |what, file: &Path, source| TlsError::File { what, file: file.to_owned(), source };
    let chain = certificates(&files.certificate_file)
        .map_err(|source| refuse("certificate_file", &files.certificate_file, source))?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key_file).map_err(|source| refuse("key_file", &files.key_file, source))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
    let builder = match &files.client_ca_file {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut authorities = RootCertStore::empty();
            for authority in certificates(file).map_err(|source| refuse("client_ca_file", file, source))? {
                authorities.add(authority).map_err(TlsError::Pair)?;
            }
            // Whoever shows none may be known otherwise, by a token.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), provider);
            let verifier = verifier.allow_unauthenticated().build();
            builder.with_client_cert_verifier(verifier.map_err(|error| TlsError::Authorities(Box::new(error)))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    let chain: Vec<_> = CertificateDer::pem_file_iter(file)?.collect::<Result<_, _>>()?;
    if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) }
}

/// The names that a certificate was given: URIs first, as a workload's identity is one, then DNS names. Call it for one whose chain
/// was checked.
pub(super) fn names_in(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_uri_names().chain(certificate.valid_dns_names()).map(str::to_owned).collect()
}
