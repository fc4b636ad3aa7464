//! A registry's settings -> an HTTP client and checked URLs.
//!
//! In: URLs, credentials, an authorities' file. Out: a client, or what is wrong, without showing a credential. Never: sends anything.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue};

use crate::config::{self, RegistryAuth};
use crate::outbound;

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
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
    if let Some(auth) = &settings.auth {
        headers.insert(AUTHORIZATION, authorization(auth)?);
    }
    let plain = endpoints.iter().all(|endpoint| endpoint.base.scheme() == "http");
    let builder = outbound::builder(settings.ca_file.as_deref(), plain)?;
    outbound::build(builder.default_headers(headers).pool_max_idle_per_host(8))
}

fn authorization(auth: &RegistryAuth) -> Result<HeaderValue, String> {
    let text = match auth {
        RegistryAuth::Basic { username, password } => {
            format!("Basic {}", BASE64.encode(format!("{username}:{}", password.expose())))
        }
        RegistryAuth::Bearer(token) => format!("Bearer {}", token.expose()),
    };
    outbound::credential(text)
}
