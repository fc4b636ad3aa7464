//! Login tokens for `OAUTHBEARER`, by OAuth 2.0 client credentials (RFC 6749 §4.4).
//!
//! In: librdkafka's wish for a token, on the poll thread, a fifth of its lifetime before the old one ends. Out: a token.
//! Never: the client's secret or a token in a log or an error. While the endpoint is slow no report is handled, for ten
//! seconds at most; records and reports wait in librdkafka meanwhile.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use rdkafka::client::OAuthToken;
use serde::Deserialize;

use crate::config::{Cluster, Sasl, Secret};
use crate::outbound;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Assumed when the endpoint does not say how long its token is valid (`expires_in` is only recommended, §5.1).
const LIFETIME_DEFAULT_SECONDS: u64 = 300;
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 65_536;

/// Where a cluster's tokens come from.
pub(super) struct TokenSource {
    url: String,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
}

/// Why there is no token. The messages go to librdkafka, which reports them through the error callback.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("token endpoint `{url}` cannot be asked: {source}")]
    Request { url: String, source: reqwest::Error },
    #[error("token endpoint `{url}` answered with status {status}")]
    Status { url: String, status: u16 },
    #[error("token endpoint `{url}` did not answer with a JSON object that has an `access_token`")]
    Answer { url: String },
    #[error("no thread to ask token endpoint `{url}` on")]
    Thread { url: String },
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

impl TokenSource {
    /// None when the cluster does not use tokens.
    pub(super) fn new(cluster: &Cluster) -> Option<Self> {
        let Some(Sasl::OAuth { token_url, client_id, client_secret, scope }) = &cluster.sasl else { return None };
        let (url, client_id, client_secret) = (token_url.clone(), client_id.clone(), client_secret.clone());
        Some(TokenSource { url, client_id, client_secret, scope: scope.clone() })
    }

    /// Fetches a new token. Blocking, ten seconds at most. On a thread of its own, because whoever polls may already be
    /// inside a runtime.
    pub(super) fn fetch(&self) -> Result<OAuthToken, TokenError> {
        let no_thread = || TokenError::Thread { url: self.url.clone() };
        let ask = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|_| no_thread())?.block_on(self.ask())
        };
        let answer = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("kafka-token".to_owned()).spawn_scoped(scope, ask);
            thread.map_err(|_| no_thread())?.join().map_err(|_| no_thread())?
        })?;
        let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(LIFETIME_DEFAULT_SECONDS));
        let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_add(lifetime);
        Ok(OAuthToken {
            token: answer.access_token,
            principal_name: self.client_id.clone(),
            lifetime_ms: i64::try_from(expires.as_millis()).unwrap_or(i64::MAX),
        })
    }

    async fn ask(&self) -> Result<Answer, TokenError> {
        let unasked =
            |source: reqwest::Error| TokenError::Request { url: self.url.clone(), source: source.without_url() };
        let unusable = || TokenError::Answer { url: self.url.clone() };
        let client = outbound::common().timeout(TIMEOUT).build().map_err(unasked)?;
        let request = client.post(&self.url);
        let request = request
            .header("authorization", self.basic())
            .header("content-type", "application/x-www-form-urlencoded")
            .header("accept", "application/json")
            .body(self.form());
        let mut response = request.send().await.map_err(unasked)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(TokenError::Status { url: self.url.clone(), status });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unasked)? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(unusable());
            }
        }
        serde_json::from_slice(&body).map_err(|_| unusable())
    }

    /// Id and secret are form-encoded before they are joined (RFC 6749 §2.3.1).
    fn basic(&self) -> String {
        let pair = format!("{}:{}", form_encode(&self.client_id), form_encode(self.client_secret.expose()));
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
    }

    fn form(&self) -> String {
        let scope = self.scope.as_deref().map(|scope| format!("&scope={}", form_encode(scope))).unwrap_or_default();
        format!("grant_type=client_credentials{scope}")
    }
}

/// `application/x-www-form-urlencoded` of one value.
fn form_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;

    fn source(url: String) -> TokenSource {
        let client_secret = Secret::new("a:b c".to_owned());
        TokenSource { url, client_id: "iguazu".to_owned(), client_secret, scope: Some("kafka write".to_owned()) }
    }

    /// What came of one fetch from an endpoint that gives this answer, and the request it saw.
    fn fetch(answer: &'static str) -> (Result<OAuthToken, TokenError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let url = format!("http://{}/token", listener.local_addr().expect("it is bound"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("the client connects");
            let mut reader = BufReader::new(stream.try_clone().expect("sockets can be cloned"));
            let (mut request, mut line, mut length) = (String::new(), String::new(), 0);
            while reader.read_line(&mut line).expect("the request is text") > 2 {
                if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                    length = n.trim().parse().expect("a length is a number");
                }
                request.push_str(&std::mem::take(&mut line));
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("the body is as long as announced");
            stream.write_all(answer.as_bytes()).expect("the client reads");
            request + &String::from_utf8(body).expect("a form is text")
        });
        let token = source(url).fetch();
        (token, server.join().expect("the endpoint does not panic"))
    }

    #[test]
    fn an_endpoint_that_refuses_or_makes_no_sense_gives_no_token_and_shows_no_secret() {
        let (refused, _) = fetch("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
        let message = refused.err().expect("401 is a refusal").to_string();
        assert!(message.ends_with("answered with status 401") && !message.contains("a:b c"), "{message}");
        let (senseless, _) = fetch("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        assert!(matches!(senseless, Err(TokenError::Answer { .. })));
        assert!(matches!(source("http://127.0.0.1:1/token".to_owned()).fetch(), Err(TokenError::Request { .. })));
    }

    #[test]
    fn a_token_comes_with_the_time_at_which_it_ends() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_millis() as i64;
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n{\"access_token\":\"t0ken\",\"expires_in\":3600}";
        let (token, request) = fetch(answer);
        let token = token.expect("the endpoint gives one");
        assert_eq!((token.token.as_str(), token.principal_name.as_str()), ("t0ken", "iguazu"));
        assert!((before + 3_600_000..before + 3_700_000).contains(&token.lifetime_ms), "{}", token.lifetime_ms);
        assert!(request.contains("Basic aWd1YXp1OmElM0FiK2M="), "{request}");
        assert!(request.ends_with("grant_type=client_credentials&scope=kafka+write"), "{request}");
    }
}
