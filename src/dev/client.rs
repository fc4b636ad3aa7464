//! A small HTTP/1.1 client: one connection, one request at a time. For the demonstration and for `iguazu load`.
//!
//! In: requests with whole bodies. Out: whole replies, limited in size and time. Never: redirects, retries, which would blur
//! what is measured.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::trust::{TrustError, trust};

/// Largest reply that is read; that of a full batch with `?results=all` is about a tenth of it.
const REPLY_BYTES_MAX: usize = 32 << 20;

/// Where requests go: the parts of `http[s]://host:port/prefix`.
#[derive(Clone, Debug)]
pub struct Address {
    authority: String,
    host: String,
    port: u16,
    prefix: String,
    /// What `https` encrypts with, and who must prove to be there.
    encryption: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// Why a URL is no [`Address`].
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AddressError {
    #[error("`{url}` is not a URL such as `http://127.0.0.1:8080`")]
    NoUrl { url: String },
    #[error("`{url}` has a user or password in it; name a file with `--api-key-file`")]
    Credentials { url: String },
    #[error("`{url}` is not encrypted, so there is no server for `--ca` to verify")]
    NotEncrypted { url: String },
    #[error(transparent)]
    Trust(#[from] TrustError),
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ClientError {
    #[error("cannot connect to {authority}")]
    Connect { authority: String, source: std::io::Error },
    #[error("{authority} does not prove to be it, or speaks no TLS")]
    Tls { authority: String, source: std::io::Error },
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
    /// Reads `http[s]://host[:port][/prefix]`. A server of `https` must be vouched for by an authority in the file, or by one of
    /// the system's without a file.
    pub fn parse(url: &str, authorities: Option<&Path>) -> Result<Address, AddressError> {
        let no_url = || AddressError::NoUrl { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| no_url())?;
        let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(no_url());
        };
        if let Some((_, place)) = authority.as_str().rsplit_once('@') {
            return Err(AddressError::Credentials { url: format!("{scheme}://…@{place}") });
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let encryption = match (scheme, authorities) {
            ("https", file) => Some((trust(file)?, ServerName::try_from(host.clone()).map_err(|_| no_url())?)),
            (_, Some(_)) => return Err(AddressError::NotEncrypted { url: url.to_owned() }),
            (_, None) => None,
        };
        let usual_port = if encryption.is_some() { 443 } else { 80 };
        Ok(Address {
            authority: authority.to_string(),
            host,
            port: authority.port_u16().unwrap_or(usual_port),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            encryption,
        })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.encryption.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.prefix)
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
            match &address.encryption {
                None => speak(address, socket).await,
                Some((config, name)) => {
                    let unproven = |source| ClientError::Tls { authority: address.authority.clone(), source };
                    let connector = TlsConnector::from(Arc::clone(config));
                    speak(address, connector.connect(name.clone(), socket).await.map_err(unproven)?).await
                }
            }
        };
        let sender = within(address, timeout, connect).await?;
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

/// Begins HTTP/1.1 on a stream.
async fn speak<S>(address: &Address, stream: S) -> Result<SendRequest<Full<Bytes>>, ClientError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(address, e))?;
    // It ends with the connection, which ends when its `SendRequest` is dropped; a failure shows in the request.
    tokio::spawn(driver);
    Ok(sender)
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
    fn an_address_is_http_or_https_and_may_have_a_prefix() {
        for bad in ["", "127.0.0.1:8080", "ftp://a", "http://", "http:///x", "http://a b", "http://u:secret@a"] {
            let told = Address::parse(bad, None).expect_err(bad).to_string();
            assert!(!told.contains("secret"), "{told}");
        }
        let parse = |url| Address::parse(url, None).expect("an address");
        let address = parse("http://[::1]:8080/in/");
        assert_eq!((address.host.as_str(), address.port, address.prefix.as_str()), ("::1", 8080, "/in"));
        assert_eq!(parse("http://a").port, 80);
        assert!(Address::parse("http://a", Some(Path::new("ca.pem"))).is_err(), "nothing to verify");
        assert!(Address::parse("https://a", Some(Path::new("no-such.pem"))).is_err(), "no authority");
    }
}
