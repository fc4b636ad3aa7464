//! A gate in front of a server on loopback that can be shut, slowed, narrowed, silenced and opened again while connections go
//! through it: a registry that stops without stopping the one that all tests share, a network between the proxy and a broker.
//!
//! It runs on a thread of its own, so that a test that blocks does not hold it up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// What the gate does with connections, open ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Bytes pass.
    Open,
    /// Bytes arrive this much later, in both directions.
    Slow(Duration),
    /// So many bytes a second pass, in each direction of each connection.
    Narrow(u32),
    /// Connections are accepted and questions pass, but nothing is ever answered.
    Silent,
    /// Connections are accepted, and nothing passes in either direction: a network that drops packets, ends that do not know.
    Hole,
    /// Open connections are reset; new ones are reset as soon as they are made.
    Shut,
}

/// What every connection watches.
#[derive(Clone, Copy, Debug)]
struct Order {
    gate: Gate,
    /// Connections of an earlier round are reset.
    round: u64,
}

/// A listening gate; closed when dropped.
#[derive(Debug)]
pub struct Gatekeeper {
    order: watch::Sender<Order>,
    address: SocketAddr,
    asked_bytes: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Gatekeeper {
    /// An open gate in front of `target` (`host:port`), on any free port.
    pub fn start(target: &str) -> Gatekeeper {
        Gatekeeper::at(0, target)
    }

    /// An open gate on this port.
    pub fn at(port: u16, target: &str) -> Gatekeeper {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap_or_else(|e| panic!("port {port}: {e}"));
        let address = listener.local_addr().expect("a bound listener has an address");
        let (order, watched) = watch::channel(Order { gate: Gate::Open, round: 0 });
        let target: Arc<str> = target.into();
        let (asked_bytes, connections) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stop, stopped) = oneshot::channel();
        let counts = (Arc::clone(&asked_bytes), Arc::clone(&connections));
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                tokio::select! {
                    () = accept(listener, target, watched, counts) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("gate".into()).spawn(run).expect("a thread can be started");
        Gatekeeper { order, address, asked_bytes, connections, stop: Some(stop), thread: Some(thread) }
    }

    /// `host:port` of the gate.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that clients have sent through it so far.
    pub fn asked_bytes(&self) -> u64 {
        self.asked_bytes.load(Relaxed)
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Changes what it does, at once and for open connections too.
    pub fn set(&self, gate: Gate) {
        self.order.send_modify(|order| order.gate = gate);
    }

    /// Resets the connections that are open now, with what is on its way in them; new ones are as before.
    pub fn reset(&self) {
        self.order.send_modify(|order| order.round += 1);
    }
}

impl Drop for Gatekeeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the gate panicked");
        }
    }
}

async fn accept(
    listener: std::net::TcpListener,
    target: Arc<str>,
    order: watch::Receiver<Order>,
    (asked_bytes, connections): (Arc<AtomicU64>, Arc<AtomicU64>),
) {
    listener.set_nonblocking(true).expect("a socket can be made non-blocking");
    let listener = TcpListener::from_std(listener).expect("the runtime takes it");
    while let Ok((client, _)) = listener.accept().await {
        connections.fetch_add(1, Relaxed);
        tokio::spawn(pass(client, Arc::clone(&target), order.clone(), Arc::clone(&asked_bytes)));
    }
}

async fn pass(client: TcpStream, target: Arc<str>, mut order: watch::Receiver<Order>, asked_bytes: Arc<AtomicU64>) {
    // What is dropped without having been shut down properly is reset.
    let _ = client.set_zero_linger();
    let round = order.borrow().round;
    if order.borrow().gate == Gate::Shut {
        return;
    }
    let Ok(server) = TcpStream::connect(&*target).await else { return };
    let _ = (server.set_zero_linger(), server.set_nodelay(true), client.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let (questions, answers) = (order.clone(), order.clone());
    let both = async {
        tokio::join!(
            copy(client_in, server_out, Direction::Question(&asked_bytes), questions),
            copy(server_in, client_out, Direction::Answer, answers),
        )
    };
    tokio::select! {
        _ = both => {}
        _ = order.wait_for(|order| order.gate == Gate::Shut || order.round != round) => {}
    }
}

/// Which way bytes go.
#[derive(Clone, Copy)]
enum Direction<'a> {
    /// From the client; they are counted.
    Question(&'a AtomicU64),
    /// To the client.
    Answer,
}

/// Chunks that are on their way.
const CHUNKS_MAX: usize = 256;

/// Copies until an end closes; holds chunks back as the gate says. Reading goes on while chunks are late, so that a slow gate is
/// not a narrow one.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction<'_>,
    mut order: watch::Receiver<Order>,
) {
    let (send, mut chunks) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let read = async move {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            if let Direction::Question(bytes) = direction {
                bytes.fetch_add(read as u64, Relaxed);
            }
            if send.send((Instant::now(), chunk[..read].to_vec())).await.is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((came, chunk)) = chunks.recv().await {
            let is_held = |gate: Gate| match direction {
                Direction::Question(_) => gate == Gate::Hole,
                Direction::Answer => matches!(gate, Gate::Hole | Gate::Silent),
            };
            // It ends with the gate.
            let Ok(now) = order.wait_for(|order| !is_held(order.gate)).await.map(|order| order.gate) else { return };
            match now {
                Gate::Slow(pause) => tokio::time::sleep_until(came + pause).await,
                Gate::Narrow(bytes) => {
                    tokio::time::sleep(Duration::from_secs_f64(chunk.len() as f64 / f64::from(bytes))).await;
                }
                _ => {}
            }
            if to.write_all(&chunk).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    // When the far end has gone nothing more is read; what was read before still arrives.
    tokio::join!(read, write);
}
