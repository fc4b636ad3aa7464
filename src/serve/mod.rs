//! Sockets: listeners, TLS, connections, worker threads, drain. Used by the doors and by the admin listener.
//!
//! In: an address, limits, and a function from request to response. Out: its responses on the wire, and at the end a
//! [`Drain`] that says whether everything that had begun was finished. Never: looks at a path or a body, or starts a task
//! that nobody waits for.
//!
//! ```text
//! Listener ── accept ──▶ Workers: the one with the fewest open connections ──▶ connection: TLS, HTTP/1.1 or h2 ──▶ handler
//!     one acceptor                one current-thread runtime each
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

mod accept;
mod activity;
mod connection;
mod outgoing;
mod drain;
mod listener;
mod open_files;
mod tls;
mod workers;

pub use accept::{Counts, Server};
pub use connection::Handler;
pub use drain::{Drain, Drained};
pub use listener::{BindError, Listener};
pub use open_files::raise_open_files;
pub use tls::{Encryption, TlsError, encryption};
pub use workers::{Seat, Workers};

/// What a connection may take. The settings of a listener that are not in the configuration are constants of this module.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most open connections of the listener; over it a connection is told 503 and closed.
    pub connections_max: usize,
    /// How long the first byte to the last of a request's head may take, and a TLS handshake. Checked once in this time, so
    /// a connection is closed between one and two times as late.
    pub head_timeout: Duration,
    /// How long a connection may stay open without a request. Longer than load balancers keep theirs (Google's: 600 s), so
    /// that the side that closes is the one that sends.
    pub idle_timeout: Duration,
    /// How long a drain still takes requests from connections that are open but idle: their senders may be writing one at
    /// this moment. Those are answered with `connection: close`.
    pub linger: Duration,
}

impl Limits {
    /// The limits of a listener with so many connections, and its head timeout.
    pub fn new(connections_max: usize, head_timeout: Duration) -> Self {
        let (idle_timeout, linger) = (Duration::from_secs(620), Duration::from_millis(500));
        Limits { connections_max, head_timeout, idle_timeout, linger }
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// The names in the certificate that it has shown, which an authority of ours vouches for; empty when it has shown none.
    pub names: Arc<[String]>,
}

#[cfg(test)]
mod tests;
