//! The load generator of the benches: HTTP/1.1 over keep-alive connections, closed loop or open.
//!
//! In: requests as they go over the wire, sent in turn. Out: how each was answered and after how long. Every request that was begun is
//! answered or counted as broken before a run ends, so that what the server acknowledged can be compared with what Kafka holds.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// How long a reply may take; a server that takes longer is broken.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest latency that is told apart, in microseconds.
const LATENCY_MAX: u64 = 600_000_000;

/// When a closed loop ends.
#[derive(Clone, Copy)]
pub enum Until {
    /// After so many requests.
    Requests(usize),
    /// When it has gone on for so long.
    Elapsed(Duration),
}

/// What came of a run.
pub struct Seen {
    /// Requests by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests whose connection ended before the reply did.
    pub broken: u64,
    /// From when a request was due (open loop) or sent (closed loop) to the end of its reply, in microseconds.
    pub latencies: Histogram<u64>,
    /// From the first request to the last reply.
    pub took: Duration,
    /// Text of the first reply that was no 2xx.
    pub first_refusal: Option<String>,
}

impl Seen {
    /// Requests that were answered with 2xx.
    pub fn succeeded(&self) -> u64 {
        self.statuses.range(200..300).map(|(_, count)| count).sum()
    }

    /// Requests that were not.
    pub fn refused(&self) -> u64 {
        self.statuses.values().sum::<u64>() - self.succeeded() + self.broken
    }

    /// Panics unless each was answered with 2xx.
    pub fn assert_all_succeeded(&self) {
        let Seen { statuses, broken, first_refusal, .. } = self;
        assert!(self.refused() == 0, "{statuses:?}, {broken} broken: {}", first_refusal.as_deref().unwrap_or(""));
    }
}

/// A request as it goes over the wire.
pub fn request(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut wire = format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\nuser-agent: iguazu-bench\r\naccept: */*\r\n\
         content-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    wire.extend_from_slice(body);
    wire
}

/// Closed loop: each connection sends its next request when it has the reply to the last one.
pub fn closed(addr: SocketAddr, wire: &[Vec<u8>], connections: usize, until: Until) -> Seen {
    let run = Run::new();
    block_on(async {
        let start = Instant::now();
        let sent = Cell::new(0);
        let goes_on = || match until {
            Until::Requests(most) => sent.get() < most,
            Until::Elapsed(time) => start.elapsed() < time,
        };
        let connection = async |offset: usize| {
            let mut socket = None;
            let mut at = offset;
            while goes_on() {
                sent.set(sent.get() + 1);
                run.round_trip(&mut socket, addr, &wire[at % wire.len()], Instant::now()).await;
                at += 1;
            }
        };
        let connections = match until {
            Until::Requests(most) => connections.min(most),
            Until::Elapsed(_) => connections,
        };
        join_all((0..connections).map(|c| connection(c * 7))).await;
        run.took.set(start.elapsed());
    });
    run.seen()
}

/// Open loop: requests are due at a fixed rate, over as many connections as there are, however long replies take.
pub fn open(addr: SocketAddr, wire: &[Vec<u8>], rate: usize, seconds: usize, connections: usize) -> Seen {
    let run = Run::new();
    block_on(async {
        let start = Instant::now() + Duration::from_millis(100);
        let connection = async |offset: usize| {
            let mut socket = None;
            let mut at = offset;
            while at < rate * seconds {
                let due = start + Duration::from_secs_f64(at as f64 / rate as f64);
                tokio::time::sleep_until(due).await;
                run.round_trip(&mut socket, addr, &wire[at % wire.len()], due).await;
                at += connections;
            }
        };
        join_all((0..connections).map(connection)).await;
        run.took.set(start.elapsed());
    });
    run.seen()
}

/// A run that goes on.
struct Run {
    statuses: RefCell<BTreeMap<u16, u64>>,
    broken: Cell<u64>,
    latencies: RefCell<Histogram<u64>>,
    took: Cell<Duration>,
    first_refusal: RefCell<Option<String>>,
}

impl Run {
    fn new() -> Run {
        Run {
            statuses: RefCell::default(),
            broken: Cell::default(),
            latencies: RefCell::new(Histogram::new_with_bounds(1, LATENCY_MAX, 3).expect("valid bounds")),
            took: Cell::default(),
            first_refusal: RefCell::default(),
        }
    }

    fn seen(self) -> Seen {
        Seen {
            statuses: self.statuses.into_inner(),
            broken: self.broken.get(),
            latencies: self.latencies.into_inner(),
            took: self.took.get(),
            first_refusal: self.first_refusal.into_inner(),
        }
    }

    async fn round_trip(&self, socket: &mut Option<Connection>, addr: SocketAddr, wire: &[u8], since: Instant) {
        let work = async {
            if socket.is_none() {
                *socket = Some(Connection::open(addr).await?);
            }
            socket.as_mut().expect("just opened").round_trip(wire).await
        };
        let reply = tokio::time::timeout(REPLY_TIMEOUT, work).await.unwrap_or(Err(std::io::ErrorKind::TimedOut.into()));
        match reply {
            Ok(status) => {
                *self.statuses.borrow_mut().entry(status).or_default() += 1;
                self.latencies.borrow_mut().saturating_record(since.elapsed().as_micros() as u64);
                if !(200..300).contains(&status) {
                    let text = || String::from_utf8_lossy(&socket.as_ref().expect("it answered").buffer).into_owned();
                    self.first_refusal.borrow_mut().get_or_insert_with(text);
                }
            }
            Err(error) => {
                *socket = None;
                self.broken.set(self.broken.get() + 1);
                self.first_refusal.borrow_mut().get_or_insert_with(|| error.to_string());
                // A server that refuses connections is not asked a million times a second.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// A keep-alive connection.
struct Connection {
    socket: tokio::net::TcpStream,
    /// The last reply.
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(addr: SocketAddr) -> std::io::Result<Connection> {
        let socket = tokio::net::TcpStream::connect(addr).await?;
        socket.set_nodelay(true)?;
        Ok(Connection { socket, buffer: Vec::with_capacity(4096) })
    }

    async fn round_trip(&mut self, wire: &[u8]) -> std::io::Result<u16> {
        self.socket.write_all(wire).await?;
        self.buffer.clear();
        loop {
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(status) = complete(&self.buffer) {
                return Ok(status);
            }
        }
    }
}

/// The status of a reply that is here whole; its end is said by a length or by its last chunk.
fn complete(reply: &[u8]) -> Option<u16> {
    let end = memchr::memmem::find(reply, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&reply[..end]).expect("a reply's head is ASCII");
    let status = head.get(9..12)?.parse().expect("a status");
    let field = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let body = &reply[end + 4..];
    let is_whole = match field("content-length") {
        Some(length) => body.len() >= length.parse().expect("a length"),
        None if field("transfer-encoding").is_some() => body.ends_with(b"0\r\n\r\n"),
        None => true,
    };
    is_whole.then_some(status)
}

async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    use futures_util::StreamExt as _;
    futures.collect::<futures_util::stream::FuturesUnordered<_>>().collect::<()>().await;
}

/// Runs a future on this thread.
pub fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future);
}
