//! A small HTTP/1.1 client: one connection, one request at a time. For the demonstration and for `iguazu load`.
//!
//! In: requests with whole bodies. Out: whole replies, limited in size and time. Never: TLS, redirects, retries, which
//! would blur what is measured.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest reply that is read; that of a full batch with `?results=all` is about a tenth of it.
const REPLY_BYTES_MAX: usize = 32 << 20;

/// Where requests go: the parts of `http://host:port/prefix`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    authority: String,
    host: String,
    port: u16,
    prefix: String,
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ClientError {
    #[error("cannot connect to {authority}")]
    Connect { authority: String, source: std::io::Error },
    #[error("{authority} broke the connection")]
    Broken { authority: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{authority} did not answer within {seconds} s")]
    Timeout { authority: String, seconds: u64 },
}

/// A reply, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// What to post.
#[derive(Clone, Debug)]
pub struct Post {
    /// Path below the address, with its query.
    pub path: String,
    /// Headers, `content-type` among them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Address {
    /// Reads `http://host[:port][/prefix]`.
    pub fn parse(url: &str) -> Result<Address, String> {
        let uri: Uri = url.parse().map_err(|e| format!("`{url}` is not a URL: {e}"))?;
        match (uri.scheme_str(), uri.authority()) {
            (Some("http"), Some(authority)) => Ok(Address {
                authority: authority.to_string(),
                host: authority.host().trim_matches(['[', ']']).to_owned(),
                port: authority.port_u16().unwrap_or(80),
                prefix: uri.path().trim_end_matches('/').to_owned(),
            }),
            (Some("https"), _) => Err(format!("`{url}`: TLS is not spoken here; load the listener behind it by http")),
            _ => Err(format!("`{url}` is not a URL such as `http://127.0.0.1:8080`")),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

/// An open connection.
#[derive(Debug)]
pub struct Connection {
    address: Address,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    /// Connects; a task of the current runtime drives the connection until it is dropped or broken.
    pub async fn open(address: &Address, timeout: Duration) -> Result<Connection, ClientError> {
        let failed = |source| ClientError::Connect { authority: address.authority.clone(), source };
        let connect = async {
            let socket = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(failed)?;
            socket.set_nodelay(true).map_err(failed)?;
            http1::handshake(TokioIo::new(socket)).await.map_err(|e| broken(address, e))
        };
        let (sender, driver) = within(address, timeout, connect).await?;
        // It ends with the connection, which ends when its `SendRequest` is dropped; a failure shows in the request.
        tokio::spawn(driver);
        Ok(Connection { address: address.clone(), sender })
    }

    /// Whether it can take another request.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Posts and reads the whole reply.
    pub async fn post(&mut self, post: &Post, timeout: Duration) -> Result<Answer, ClientError> {
        let mut request = Request::post(format!("{}{}", self.address.prefix, post.path))
            .header(hyper::header::HOST, &self.address.authority);
        for (name, value) in &post.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(post.body.clone())).map_err(|e| broken(&self.address, e))?;
        self.send(request, timeout).await
    }

    /// Gets a path.
    pub async fn get(&mut self, path: &str, timeout: Duration) -> Result<Answer, ClientError> {
        let request = Request::get(format!("{}{path}", self.address.prefix))
            .header(hyper::header::HOST, &self.address.authority)
            .body(Full::default())
            .map_err(|e| broken(&self.address, e))?;
        self.send(request, timeout).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>, timeout: Duration) -> Result<Answer, ClientError> {
        let (address, sender) = (&self.address, &mut self.sender);
        let exchange = async {
            sender.ready().await.map_err(|e| broken(address, e))?;
            let reply = sender.send_request(request).await.map_err(|e| broken(address, e))?;
            let (head, body) = reply.into_parts();
            let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
            let body = body.map_err(|source| ClientError::Broken { authority: address.authority.clone(), source })?;
            Ok(Answer { status: head.status, body: body.to_bytes() })
        };
        within(address, timeout, exchange).await
    }
}

fn broken(address: &Address, source: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::Broken { authority: address.authority.clone(), source: Box::new(source) }
}

async fn within<T>(
    address: &Address,
    timeout: Duration,
    work: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    match tokio::time::timeout(timeout, work).await {
        Ok(result) => result,
        Err(_) => Err(ClientError::Timeout { authority: address.authority.clone(), seconds: timeout.as_secs() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_and_may_have_a_prefix() {
        for bad in ["", "127.0.0.1:8080", "https://a", "ftp://a", "http://", "http:///x", "http://a b"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        let address = Address::parse("http://[::1]:8080/in/").expect("an address");
        assert_eq!((address.host.as_str(), address.port, address.prefix.as_str()), ("::1", 8080, "/in"));
        assert_eq!(Address::parse("http://a").expect("an address").port, 80);
    }
}
