//! The acceptor of a listener: takes connections from the kernel and gives each to the seat with the fewest.
//!
//! One acceptor and a choice, rather than `SO_REUSEPORT` and the kernel's: HTTP/2 connections live long, and the kernel
//! would leave some workers with many of them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::connection::{Ground, Handler, NoHttp, protocols, run};
use super::{Drain, Encryption, Limits, Listener, Peer, Seat};

/// What a connection over the limit is told. Written before anything is read.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\n\
    retry-after: 1\r\n\
    connection: close\r\n\
    content-length: 82\r\n\r\n\
    {\"code\":\"overloaded\",\"message\":\"too many open connections; wait 1 s\",\"retry\":true}";

/// Most connections over the limit that are told so at one time; the others are just closed.
const REFUSALS_MAX: usize = 64;

/// How long a refused connection has to read its refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the acceptor rests when the system has no descriptors or memory left for another socket.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// A listener about to serve.
#[derive(Debug)]
pub struct Server {
    /// Where connections come from.
    pub listener: Listener,
    /// Where they are served; at least one.
    pub seats: Vec<Arc<Seat>>,
    /// What they are encrypted with, if they are.
    pub tls: Option<Encryption>,
    /// What they may take.
    pub limits: Limits,
    /// What ends them.
    pub drain: Drain,
}

/// Numbers of one listener. All but `open` only grow.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections that are open.
    pub open: AtomicUsize,
    /// Connections that were accepted and served.
    pub accepted: AtomicU64,
    /// Connections over the limit.
    pub refused: AtomicU64,
    /// Connections whose TLS handshake failed.
    pub tls_failed: AtomicU64,
    /// Times that the system could give no socket.
    pub exhausted: AtomicU64,
}

impl Server {
    /// Starts the acceptor on the runtime around the call. It ends, and the listener closes, when the drain begins.
    pub fn start<H: Handler>(self, handler: Arc<H>) -> Arc<Counts> {
        let Server { listener, seats, tls, limits, drain } = self;
        let counts = Arc::new(Counts::default());
        let protocols = protocols(drain.tasks());
        let ground = Arc::new(Ground { handler, tls, limits, drain: drain.clone(), protocols });
        let acceptor = Acceptor { ground, seats, counts: Arc::clone(&counts), refusals: Arc::default() };
        drain.tasks().spawn(acceptor.run(listener));
        counts
    }
}

struct Acceptor<H> {
    ground: Arc<Ground<H>>,
    seats: Vec<Arc<Seat>>,
    counts: Arc<Counts>,
    /// Refusals that are being told, held by those who tell them.
    refusals: Arc<()>,
}

impl<H: Handler> Acceptor<H> {
    async fn run(self, listener: Listener) {
        let drain = self.ground.drain.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                () = drain.begun() => break,
                accepted = listener.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => self.admit(stream, address),
                Err(error) if is_exhausted(&error) => {
                    self.counts.exhausted.fetch_add(1, Relaxed);
                    tracing::warn!(address = %listener.address, %error, "no socket for another connection");
                    tokio::time::sleep(EXHAUSTED).await;
                }
                // The peer was gone before we took it.
                Err(_) => {}
            }
        }
        self.admit_queued(listener);
    }

    /// Takes the connections that wait in the kernel, which would be reset if the listener just closed.
    fn admit_queued(&self, listener: Listener) {
        let Ok(listener) = listener.socket.into_std() else { return };
        loop {
            match listener.accept() {
                Ok((stream, address)) => {
                    if stream.set_nonblocking(true).is_ok()
                        && let Ok(stream) = TcpStream::from_std(stream)
                    {
                        self.admit(stream, address);
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                }
                Err(_) => return,
            }
        }
    }

    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let ground = Arc::clone(&self.ground);
        if self.counts.open.load(Relaxed) >= ground.limits.connections_max {
            return self.refuse(stream);
        }
        // Replies are written whole; there is nothing that waiting could add to a packet.
        let _ = stream.set_nodelay(true);
        let Ok(socket) = stream.into_std() else { return };
        self.counts.accepted.fetch_add(1, Relaxed);
        let seat = Seat::freest(&self.seats);
        let held = (seat.take(), ground.drain.count_connection(), Open::new(&self.counts));
        let peer = Peer { address, tls: ground.tls.is_some(), names: Arc::default() };
        let tasks = ground.drain.tasks().clone();
        let serve = async move {
            if run(ground, socket, peer).await == Err(NoHttp::Tls) {
                held.2.0.tls_failed.fetch_add(1, Relaxed);
            }
            drop(held);
        };
        tasks.spawn_on(serve, seat.runtime());
    }

    fn refuse(&self, mut stream: TcpStream) {
        self.counts.refused.fetch_add(1, Relaxed);
        if self.ground.tls.is_some() || Arc::strong_count(&self.refusals) > REFUSALS_MAX {
            return;
        }
        let told = Arc::clone(&self.refusals);
        let tell = async move {
            let _told = told;
            stream.write_all(REFUSAL).await?;
            stream.shutdown().await?;
            // Closing with bytes unread would send a reset, which overtakes the refusal.
            let mut scratch = [0; 4096];
            while stream.read(&mut scratch).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        self.ground.drain.tasks().spawn(tokio::time::timeout(REFUSAL_TIMEOUT, tell));
    }
}

/// Whether the system, rather than the peer, is why there is no connection.
fn is_exhausted(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Counts an open connection for as long as it lives.
struct Open(Arc<Counts>);

impl Open {
    fn new(counts: &Arc<Counts>) -> Self {
        counts.open.fetch_add(1, Relaxed);
        Open(Arc::clone(counts))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_how_long_it_is() {
        let text = std::str::from_utf8(REFUSAL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{head} but {}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok(), "{body}");
    }
}
