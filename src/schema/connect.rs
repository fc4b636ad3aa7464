//! A registry's settings -> an HTTP client and checked URLs.
//!
//! In: URLs, credentials, an authorities' file. Out: a client that trusts only those authorities, follows no redirect and
//! takes no proxy from the environment; or what is wrong, without showing a credential. Never: sends anything.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Url};

use crate::config::{self, RegistryAuth};

/// Media type of the registry's API (Confluent Schema Registry, API v1).
pub(super) const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// One URL of a registry.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub base: Url,
    /// Host and port: what messages show.
    pub host: String,
}

/// The base URLs, checked. An error is for a message and shows nothing of them.
pub(super) fn endpoints(urls: &[String]) -> Result<Vec<Endpoint>, String> {
    if urls.is_empty() {
        return Err("has no URL".to_owned());
    }
    let mut hosts = HashMap::new();
    urls.iter()
        .enumerate()
        .map(|(number, url)| {
            // The text of a URL that does not parse may hold a password, so it is not shown.
            let base = Url::parse(url).map_err(|error| format!("URL {} is not one: {error}", number + 1))?;
            if !matches!(base.scheme(), "http" | "https") {
                return Err(format!("URL {} is neither http nor https", number + 1));
            }
            let host = match (base.host_str(), base.port()) {
                (Some(host), Some(port)) => format!("{host}:{port}"),
                (Some(host), None) => host.to_owned(),
                (None, _) => return Err(format!("URL {} has no host", number + 1)),
            };
            match hosts.insert(base.clone(), number) {
                Some(other) => Err(format!("URLs {} and {} are the same", other + 1, number + 1)),
                None => Ok(Endpoint { base, host }),
            }
        })
        .collect()
}

/// The HTTP client by the registry's settings. Reads the authorities' file.
pub(super) fn http_client(settings: &config::Registry, endpoints: &[Endpoint]) -> Result<reqwest::Client, String> {
    install_crypto();
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(auth) = &settings.auth {
        headers.insert(AUTHORIZATION, authorization(auth)?);
    }
    let mut builder = reqwest::Client::builder()
        .default_headers(headers)
        // A redirect could carry the credentials elsewhere, and no registry needs one.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(8)
        .user_agent(concat!("iguazu/", env!("CARGO_PKG_VERSION")));
    if let Some(file) = &settings.ca_file {
        let pem = std::fs::read(file).map_err(|error| format!("cannot read ca_file {}: {error}", file.display()))?;
        let authorities = Certificate::from_pem_bundle(&pem).unwrap_or_default();
        if authorities.is_empty() {
            return Err(format!("ca_file {} holds no PEM certificate", file.display()));
        }
        builder = builder.tls_certs_only(authorities);
    } else if endpoints.iter().all(|endpoint| endpoint.base.scheme() == "http") {
        // Without TLS there is no need to read the system's authorities.
        builder = builder.tls_certs_only([]);
    }
    builder.build().map_err(|error| format!("cannot set up TLS: {error}"))
}

/// reqwest is built without a crypto provider of its own and takes the process's; ours is ring everywhere.
fn install_crypto() {
    // An error only says that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn authorization(auth: &RegistryAuth) -> Result<HeaderValue, String> {
    let text = match auth {
        RegistryAuth::Basic { username, password } => {
            format!("Basic {}", BASE64.encode(format!("{username}:{}", password.expose())))
        }
        RegistryAuth::Bearer(token) => format!("Bearer {}", token.expose()),
    };
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| "the credentials hold a character that an HTTP header cannot".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
