//! One connection from its first byte to its last: TLS, HTTP/1.1 or HTTP/2 as the client speaks it, requests, drain.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::net::TcpStream as StdTcpStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::activity::{Activity, Patrol, Reading, Verdict, Watched};
use super::outgoing::Outgoing;
use super::tls::names_in;
use super::{Drain, Encryption, Limits, Peer};

/// Most bytes of a request's head; also the most that is read from a socket at once. The longest real heads carry a few
/// kilobytes of cookies and tokens.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Most requests that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 256;

/// How often a silent HTTP/2 connection is asked whether its peer is alive, and how long it has to answer.
const PING: Duration = Duration::from_secs(20);

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// What its responses hold. One that is made while it is read (a stream) is read to its end within a minute, or its
    /// connection is closed: whoever has more to say ends before, and is asked again.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;

    /// The response to a request. Dropped where it stands when the sender goes away.
    fn respond(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<Self::Body>> + Send;
}

impl<F, R, B> Handler for F
where
    F: Fn(Request<Incoming>, Peer) -> R + Send + Sync + 'static,
    R: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static,
{
    type Body = B;

    fn respond(&self, request: Request<Incoming>, peer: Peer) -> impl Future<Output = Response<B>> + Send {
        self(request, peer)
    }
}

/// What the connections of one listener have in common.
pub(super) struct Ground<H> {
    pub(super) handler: Arc<H>,
    pub(super) tls: Option<Encryption>,
    pub(super) limits: Limits,
    pub(super) drain: Drain,
    pub(super) protocols: auto::Builder<Tracked>,
}

/// How HTTP is spoken. HTTP/2 requests run as tasks of their own, and are entered in the list.
pub(super) fn protocols(tasks: &TaskTracker) -> auto::Builder<Tracked> {
    let mut builder = auto::Builder::new(Tracked(tasks.clone()));
    // Slow heads are the patrol's business: hyper's timer is made and dropped with every request, and would also close
    // connections that are merely idle.
    //
    // `pipeline_flush` stays off: with it a response is not written while bytes wait to be read, so that the replies to a
    // head that is too large and to a body that was refused unread (431, 401, 413) are lost when the connection closes.
    //
    // Head and body go out in one buffer: replies are short, and copying them costs less than a vectored write.
    builder.http1().header_read_timeout(None).max_buf_size(HEAD_BYTES_MAX).writev(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    builder
}

/// Spawns on the runtime of the connection, and enters the task in the list of the drain.
#[derive(Clone)]
pub(super) struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// Why a connection never came to speak HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoHttp {
    /// The TLS handshake failed or took too long.
    Tls,
    /// The socket could not be used, or the drain's deadline passed.
    Gone,
}

/// Serves a socket until it is closed.
pub(super) async fn run<H: Handler>(
    ground: Arc<Ground<H>>,
    socket: StdTcpStream,
    mut peer: Peer,
) -> Result<(), NoHttp> {
    let stream = TcpStream::from_std(socket).map_err(|_| NoHttp::Gone)?;
    let Some(tls) = &ground.tls else {
        drive(&ground, stream, peer).await;
        return Ok(());
    };
    let handshake = tokio::time::timeout(ground.limits.head_timeout, tls.acceptor().accept(stream));
    let stream = tokio::select! {
        shaken = handshake => shaken.ok().and_then(Result::ok).ok_or(NoHttp::Tls)?,
        () = ground.drain.cut_off() => return Err(NoHttp::Gone),
    };
    if let Some(certificate) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        peer.names = names_in(certificate).into();
    }
    drive(&ground, stream, peer).await;
    Ok(())
}

/// What the requests of one connection have in common.
struct Connection<H> {
    handler: Arc<H>,
    drain: Drain,
    peer: Peer,
    activity: Arc<Activity>,
}

async fn drive<H, S>(ground: &Ground<H>, stream: S, peer: Peer)
where
    H: Handler,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (limits, drain) = (ground.limits, &ground.drain);
    let activity = Arc::new(Activity::default());
    let connection = Arc::new(Connection {
        handler: Arc::clone(&ground.handler),
        drain: drain.clone(),
        peer,
        activity: Arc::clone(&activity),
    });
    let service = service_fn(move |request| {
        let connection = Arc::clone(&connection);
        async move { Ok::<_, Infallible>(connection.respond(request).await) }
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let mut http = pin!(ground.protocols.serve_connection(io, service));

    // A wake-up is nearly always for HTTP. The three other things that can wake us are polled once, which leaves our waker
    // with them; after that a look at an atomic tells whether one of them happened, where polling would take a lock.
    let mut begun = pin!(drain.begun());
    let mut cut_off = pin!(drain.cut_off());
    let mut round = pin!(tokio::time::sleep(limits.head_timeout));
    let mut waker_left = false;
    let mut when_begun = Reading::default();
    let mut phase = Phase::Serving;
    let mut patrol = Patrol::new(limits.head_timeout, limits.idle_timeout);
    poll_fn(|cx| {
        loop {
            // How it ended is of no use to anybody: the peer went away, spoke something else, or was too slow.
            if http.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if !std::mem::replace(&mut waker_left, true) {
                let _ = (begun.as_mut().poll(cx), cut_off.as_mut().poll(cx), round.as_mut().poll(cx));
            }
            if drain.is_cut_off() {
                return Poll::Ready(());
            }
            if phase == Phase::Serving && drain.is_begun() {
                phase = Phase::Lingering;
                when_begun = activity.read();
                // HTTP/2 can say "no more" without losing what is on its way; HTTP/1.1 cannot, so it gets the linger.
                let pause = if when_begun.h2 { Duration::ZERO } else { limits.linger };
                round.as_mut().reset(Instant::now() + pause);
                let _ = round.as_mut().poll(cx);
            }
            if !round.is_elapsed() {
                return Poll::Pending;
            }
            let verdict = if phase == Phase::Lingering {
                phase = Phase::Finishing;
                patrol.finish();
                if activity.read().is_idle_since(when_begun) {
                    activity.let_go();
                }
                Verdict::Finish
            } else if activity.next_round() {
                Verdict::Close
            } else {
                patrol.judge(activity.read())
            };
            match verdict {
                Verdict::Keep => {}
                Verdict::Finish => http.as_mut().graceful_shutdown(),
                Verdict::Close => return Poll::Ready(()),
            }
            round.as_mut().reset(Instant::now() + limits.head_timeout);
            let _ = round.as_mut().poll(cx);
        }
    })
    .await;
}

/// How far the drain has come for one connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It has not begun.
    Serving,
    /// Requests are still taken, and answered with `connection: close`.
    Lingering,
    /// What has begun is finished.
    Finishing,
}

impl<H: Handler> Connection<H> {
    async fn respond(&self, request: Request<Incoming>) -> Response<Outgoing<H::Body>> {
        let h2 = request.version() == Version::HTTP_2;
        self.activity.begin(h2);
        let _ended = Ended(&self.activity);
        let mut response = self.handler.respond(request, self.peer.clone()).await;
        if self.drain.is_begun() && !h2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| Outgoing::new(body, self.activity.unread(h2)))
    }
}

/// Ends a request also when its future is dropped, which is what happens when the sender goes away.
struct Ended<'a>(&'a Activity);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
