//! One connection to a broker: frames, correlation, the versions that both sides speak.
//!
//! In: a request. Out: its response, or whether the request was sent at all: what was sent and not answered may have been done.
//! Never: waits longer than it was told, reads a frame over [`FRAME_BYTES_MAX`], carries two requests at a time.
//!
//! The broker is believed about the lengths inside a frame; only brokers that the settings name, or that those name, are asked.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable as _, Encodable as _, HeaderVersion as _, Message, Request, StrBytes};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use zeroize::Zeroize as _;

use super::error::{AdminError, NO_ANSWER, check};
use super::login::Login;

/// Kafka's own limit of a request (`socket.request.max.bytes`); what all topics of a large cluster take is a tenth of it.
const FRAME_BYTES_MAX: usize = 100 * 1024 * 1024;
/// A broker closes connections that are idle for ten minutes (`connections.max.idle.ms`); one that is kept for less is there.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Every broker since 2.4 speaks it.
const API_VERSIONS_VERSION: i16 = 3;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How connections are secured.
pub(super) struct Security {
    pub tls: Option<Arc<ClientConfig>>,
    pub login: Option<Login>,
}

/// A request that has no response.
#[derive(Debug)]
pub(super) enum CallError {
    /// The broker did not get it, or not whole, so nothing was done.
    NotSent(AdminError),
    /// It was sent; what came of it is unknown.
    Unanswered(String),
}

/// An open connection whose versions are known and whose user is logged in.
pub(super) struct Connection {
    socket: Box<dyn Socket>,
    address: Address,
    /// By API key: lowest and highest version that the broker speaks.
    versions: HashMap<i16, (i16, i16)>,
    next_id: i32,
    last_used: Instant,
    /// When the broker wants to see the credentials again; it then refuses everything else.
    expires: Option<Instant>,
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

impl Connection {
    /// Connects, encrypts, asks for the versions, logs in. Nothing was asked of the cluster when this fails.
    pub async fn open(address: &Address, security: &Security, until: Instant) -> Result<Connection, AdminError> {
        let opened = timeout_at(until, Connection::open_unlimited(address, security, until)).await;
        opened.unwrap_or_else(|_| Err(unreachable(address, NO_ANSWER)))
    }

    async fn open_unlimited(address: &Address, security: &Security, until: Instant) -> Result<Connection, AdminError> {
        let socket = connect(address, security.tls.as_ref()).await?;
        let mut connection = Connection {
            socket,
            address: address.clone(),
            versions: HashMap::new(),
            next_id: 1,
            last_used: Instant::now(),
            expires: None,
        };
        connection.ask_versions(until).await?;
        if let Some(login) = &security.login {
            let lifetime = login.log_in(&mut connection, until).await?;
            // A call that begins before the session ends may still be under way when it does.
            connection.expires = lifetime.map(|lifetime| Instant::now() + lifetime.mul_f32(0.8));
        }
        Ok(connection)
    }

    async fn ask_versions(&mut self, until: Instant) -> Result<(), AdminError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("iguazu"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let response = self.exchange(&request, API_VERSIONS_VERSION, until).await;
        let response = response.map_err(|error| self.before_use(error))?;
        check(response.error_code, None)?;
        let versions = response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version)));
        self.versions = versions.collect();
        Ok(())
    }

    /// An error of a request that changes nothing in the cluster, such as a login.
    pub fn before_use(&self, error: CallError) -> AdminError {
        match error {
            CallError::NotSent(error) => error,
            CallError::Unanswered(reason) => unreachable(&self.address, reason),
        }
    }

    /// Whether it can carry another request. What comes unasked, even the end, says that it cannot.
    pub async fn is_usable(&mut self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.last_used) > IDLE_MAX || self.expires.is_some_and(|expires| now >= expires) {
            return false;
        }
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        let socket = &mut self.socket;
        std::future::poll_fn(|context| {
            Poll::Ready(std::pin::Pin::new(&mut *socket).poll_read(context, &mut byte).is_pending())
        })
        .await
    }

    /// Sends a request in the highest version that both sides speak, and waits for its response.
    pub async fn call<Q: Request>(&mut self, request: &Q, until: Instant) -> Result<Q::Response, CallError> {
        let version = self.version_of::<Q>().map_err(CallError::NotSent)?;
        self.exchange(request, version, until).await
    }

    fn version_of<Q: Request>(&self) -> Result<i16, AdminError> {
        let Some(&(lowest, highest)) = self.versions.get(&Q::KEY) else {
            let what = format!("{} does not offer {}", self.address, api_name::<Q>());
            return Err(AdminError::NotSupported { what });
        };
        // A response may be known in another range than its request.
        let ours = (
            Q::VERSIONS.min.max(<Q::Response as Message>::VERSIONS.min),
            Q::VERSIONS.max.min(<Q::Response as Message>::VERSIONS.max),
        );
        let version = highest.min(ours.1);
        if version < lowest.max(ours.0) {
            let what = format!(
                "{} speaks {} in versions {lowest} to {highest}, this client in {} to {}",
                self.address,
                api_name::<Q>(),
                ours.0,
                ours.1
            );
            return Err(AdminError::NotSupported { what });
        }
        Ok(version)
    }

    async fn exchange<Q: Request>(
        &mut self,
        request: &Q,
        version: i16,
        until: Instant,
    ) -> Result<Q::Response, CallError> {
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let mut frame = encode(request, version, id).map_err(CallError::NotSent)?;
        let sent = timeout_at(until, async {
            self.socket.write_all(&frame).await?;
            self.socket.flush().await
        });
        let sent = sent.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        // It may hold a password, or what a password was salted to.
        frame.zeroize();
        sent.map_err(|error| CallError::NotSent(unreachable(&self.address, error)))?;

        let unanswered = |reason: String| CallError::Unanswered(format!("{}: {reason}", self.address));
        let answer = timeout_at(until, read_frame(&mut self.socket)).await;
        let mut answer = match answer {
            Ok(Ok(answer)) => answer.freeze(),
            Ok(Err(error)) => return Err(unanswered(error.to_string())),
            Err(_) => return Err(unanswered(NO_ANSWER.to_owned())),
        };
        self.last_used = Instant::now();
        let header = ResponseHeader::decode(&mut answer, Q::Response::header_version(version))
            .map_err(|error| unanswered(format!("no header of a response: {error}")))?;
        if header.correlation_id != id {
            return Err(unanswered(format!("answered request {} instead of {id}", header.correlation_id)));
        }
        Q::Response::decode(&mut answer, version)
            .map_err(|error| unanswered(format!("no response of version {version}: {error}")))
    }
}

async fn connect(address: &Address, tls: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Socket>, AdminError> {
    let socket = TcpStream::connect((address.host.as_str(), address.port)).await;
    let socket = socket.and_then(|socket| socket.set_nodelay(true).map(|()| socket));
    let socket = socket.map_err(|error| unreachable(address, error))?;
    let Some(tls) = tls else { return Ok(Box::new(socket)) };
    let untrusted = |reason: String| AdminError::Untrusted { broker: address.to_string(), reason };
    let name = ServerName::try_from(address.host.clone()).map_err(|error| untrusted(error.to_string()))?;
    match TlsConnector::from(Arc::clone(tls)).connect(name, socket).await {
        Ok(socket) => Ok(Box::new(socket)),
        // What rustls itself says; the rest is the network's.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(untrusted(error.to_string())),
        Err(error) => Err(unreachable(address, error)),
    }
}

fn encode<Q: Request>(request: &Q, version: i16, id: i32) -> Result<BytesMut, AdminError> {
    let header = RequestHeader::default()
        .with_request_api_key(Q::KEY)
        .with_request_api_version(version)
        .with_correlation_id(id)
        .with_client_id(Some(StrBytes::from_static_str("iguazu-control")));
    let header_version = Q::header_version(version);
    // The codec refuses a field that the version does not have.
    let not_in_version = |error: String| AdminError::NotSupported {
        what: format!("{} in version {version} of the cluster: {error}", api_name::<Q>()),
    };
    let size = |version, part: &dyn Fn(i16) -> Result<usize, String>| part(version);
    let header_size = size(header_version, &|v| header.compute_size(v).map_err(|e| e.to_string()));
    let body_size = size(version, &|v| request.compute_size(v).map_err(|e| e.to_string()));
    let length = header_size.map_err(not_in_version)? + body_size.map_err(not_in_version)?;
    let length_on_wire = u32::try_from(length).ok().filter(|length| *length as usize <= FRAME_BYTES_MAX);
    let length_on_wire =
        length_on_wire.ok_or_else(|| not_in_version(format!("{length} bytes are too many for one request")))?;
    // Room for all of it, so that no copy of a secret is left behind by growing.
    let mut frame = BytesMut::with_capacity(4 + length);
    frame.extend_from_slice(&length_on_wire.to_be_bytes());
    header.encode(&mut frame, header_version).map_err(|e| not_in_version(e.to_string()))?;
    request.encode(&mut frame, version).map_err(|e| not_in_version(e.to_string()))?;
    Ok(frame)
}

async fn read_frame(socket: &mut (impl AsyncRead + Unpin + ?Sized)) -> io::Result<BytesMut> {
    let length = socket.read_u32().await? as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::other(format!("a frame of {length} bytes; {FRAME_BYTES_MAX} is the limit")));
    }
    // The length is believed only as far as bytes come.
    let mut frame = BytesMut::with_capacity(length.min(64 * 1024));
    let mut rest = socket.take(length as u64);
    while rest.read_buf(&mut frame).await? > 0 {}
    if frame.remaining() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(frame)
}

fn unreachable(address: &Address, reason: impl ToString) -> AdminError {
    AdminError::Unreachable { broker: address.to_string(), reason: reason.to_string() }
}

/// `CreateTopics` of `kafka_protocol::messages::create_topics_request::CreateTopicsRequest`.
fn api_name<Q>() -> &'static str {
    let path = std::any::type_name::<Q>();
    path.rsplit("::").next().unwrap_or(path).trim_end_matches("Request")
}
