//! HashiCorp Vault's key-value store, version 2, and what speaks its API (OpenBao):
//! `POST /v1/MOUNT/data/PATH` with `{"data": {…}}` and the header `X-Vault-Token`.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{Delivery, Put, Sink, SinkError};
use crate::config::VaultSettings;
use crate::outbound;

/// How long it may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// See the module.
pub struct VaultSink {
    settings: VaultSettings,
    http: reqwest::Client,
}

impl VaultSink {
    /// A client by its settings. Reads the authorities' file; asks nobody.
    pub fn new(settings: VaultSettings) -> Result<VaultSink, String> {
        let mut headers = HeaderMap::new();
        let token = outbound::credential(settings.token.expose().to_owned())?;
        headers.insert(HeaderName::from_static("x-vault-token"), token);
        if let Some(namespace) = &settings.namespace {
            let namespace = HeaderValue::try_from(namespace).map_err(|_| "the namespace is no header's value")?;
            headers.insert(HeaderName::from_static("x-vault-namespace"), namespace);
        }
        let builder = outbound::builder(settings.ca_file.as_deref(), settings.url.starts_with("http:"))?;
        let http = outbound::build(builder.default_headers(headers).timeout(TIMEOUT))?;
        Ok(VaultSink { settings, http })
    }

    /// The generation that is there.
    async fn kept(&self, url: &str) -> Result<Option<u64>, SinkError> {
        let response = self.http.get(url).send().await.map_err(unreachable)?;
        match response.status() {
            StatusCode::OK => {
                let value: Value = serde_json::from_slice(&body(response).await?)
                    .map_err(|error| SinkError::for_now(format!("the vault's answer cannot be read: {error}")))?;
                Ok(value["data"]["data"]["generation"].as_u64())
            }
            // Also what was deleted is answered so.
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(refused("reading", status)),
        }
    }
}

impl Sink for VaultSink {
    fn put<'a>(&'a self, delivery: Delivery<'a>) -> Put<'a> {
        Box::pin(async move {
            let Delivery { service, cluster, user, generation, mechanism, password } = delivery;
            let VaultSettings { url, mount, prefix, .. } = &self.settings;
            let url = format!("{url}/v1/{mount}/data/{prefix}/{service}/{cluster}/{user}");
            // What a node that died has put there is not put again: each write is a version of its own.
            if self.kept(&url).await? == Some(u64::from(generation)) {
                return Ok(());
            }
            let secret = json!({ "data": {
                "username": user,
                "password": password.expose(),
                "mechanism": mechanism,
                "generation": generation,
            } });
            let text = zeroize::Zeroizing::new(secret.to_string());
            let request =
                self.http.post(&url).header("content-type", "application/json").body(text.as_bytes().to_vec());
            let response = request.send().await.map_err(unreachable)?;
            match response.status() {
                StatusCode::OK | StatusCode::NO_CONTENT => Ok(()),
                status => Err(refused("writing", status)),
            }
        })
    }
}

fn unreachable(error: reqwest::Error) -> SinkError {
    // Without the address: it is the operators', and messages are for everybody who asks.
    SinkError::for_now(format!("the vault does not answer: {}", error.without_url()))
}

fn refused(what: &str, status: StatusCode) -> SinkError {
    let problem = format!("the vault refuses {what} ({status})");
    // 429 standby, 472 and 473 replication, 503 sealed: all of that passes.
    let may_pass = status.is_server_error() || matches!(status.as_u16(), 429 | 472 | 473);
    SinkError { problem, may_pass }
}

async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, SinkError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(SinkError::for_good(format!("the vault's answer is over {ANSWER_BYTES_MAX} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
