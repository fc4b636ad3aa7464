//! HTTP clients for the services that Iguazu asks itself: registries, the control plane, issuers of tokens, vaults.
//!
//! In: which authorities are trusted, and credentials. Out: a client that trusts only those, follows no redirect and takes no proxy
//! from the environment; or what is wrong, without showing a credential. Never: sends anything, decides how long to wait.

use std::path::Path;

use reqwest::header::HeaderValue;
use reqwest::{Certificate, Client, ClientBuilder};

/// A client to be, with authorities from this file, else the system's. `plain` says that no address of the service is `https`.
pub fn builder(ca_file: Option<&Path>, plain: bool) -> Result<ClientBuilder, String> {
    let builder = common();
    match ca_file {
        Some(file) => Ok(builder.tls_certs_only(authorities(file)?)),
        // Without TLS there is no need to read the system's authorities.
        None if plain => Ok(builder.tls_certs_only([])),
        None => Ok(builder),
    }
}

/// What all clients have in common.
pub fn common() -> ClientBuilder {
    // reqwest is built without a crypto provider of its own and takes the process's; ours is ring everywhere. An error only says
    // that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        // A redirect could carry the credentials elsewhere, and no such service needs one.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("iguazu/", env!("CARGO_PKG_VERSION")))
}

/// The client itself.
pub fn build(builder: ClientBuilder) -> Result<Client, String> {
    builder.build().map_err(|error| format!("cannot set up TLS: {error}"))
}

/// A header's value that is never shown.
pub fn credential(text: String) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| "the credentials hold a character that an HTTP header cannot".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(file).map_err(|error| format!("cannot read ca_file {}: {error}", file.display()))?;
    let authorities = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if authorities.is_empty() {
        return Err(format!("ca_file {} holds no PEM certificate", file.display()));
    }
    Ok(authorities)
}
