//! A gate in front of a server on loopback that can be shut, slowed and opened again: a registry that stops, without
//! stopping the one that all tests share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the gate does with connections, open ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Bytes pass.
    Open,
    /// Every chunk of an answer waits this long first.
    Slow(Duration),
    /// Connections are accepted, and then nothing is ever answered.
    Silent,
    /// Open connections are cut; new ones are cut as soon as they are made.
    Shut,
}

/// A listening gate; closed when dropped.
#[derive(Debug)]
pub struct Gatekeeper {
    state: watch::Sender<Gate>,
    address: SocketAddr,
    asked_bytes: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Gatekeeper {
    /// An open gate in front of `target` (`host:port`).
    pub async fn start(target: &str) -> Gatekeeper {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (state, watched) = watch::channel(Gate::Open);
        let target: Arc<str> = target.into();
        let asked_bytes = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&asked_bytes);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, Arc::clone(&target), watched.clone(), Arc::clone(&counted)));
            }
        });
        Gatekeeper { state, address, asked_bytes, task }
    }

    /// `host:port` of the gate.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that clients have sent through it so far.
    pub fn asked_bytes(&self) -> u64 {
        self.asked_bytes.load(Relaxed)
    }

    /// Changes what it does, at once and for open connections too.
    pub fn set(&self, gate: Gate) {
        self.state.send_replace(gate);
    }
}

impl Drop for Gatekeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, target: Arc<str>, mut gate: watch::Receiver<Gate>, asked_bytes: Arc<AtomicU64>) {
    if *gate.borrow() == Gate::Shut {
        return;
    }
    let Ok(server) = TcpStream::connect(&*target).await else { return };
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let answered_bytes = AtomicU64::new(0);
    tokio::select! {
        () = copy(client_in, server_out, None, &asked_bytes) => {}
        () = copy(server_in, client_out, Some(gate.clone()), &answered_bytes) => {}
        _ = gate.wait_for(|gate| *gate == Gate::Shut) => {}
    }
}

/// Copies and counts until an end closes; holds chunks back as the gate says.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut gate: Option<watch::Receiver<Gate>>,
    bytes: &AtomicU64,
) {
    let mut chunk = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        bytes.fetch_add(read as u64, Relaxed);
        if let Some(gate) = &mut gate {
            let now = *gate.borrow();
            match now {
                Gate::Slow(pause) => tokio::time::sleep(pause).await,
                Gate::Silent => drop(gate.wait_for(|gate| *gate != Gate::Silent).await),
                Gate::Open | Gate::Shut => {}
            }
        }
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}
