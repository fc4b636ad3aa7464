//! Processes of the benches: what they use, and the floor that they are compared with.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// CPU time of a process in seconds.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// In its own code.
    pub user: f64,
    /// In the kernel for it.
    pub system: f64,
}

impl Cpu {
    /// What a process has used so far.
    pub fn of(pid: u32) -> Cpu {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a command in brackets").split_whitespace().collect();
        let seconds = |field: usize| fields[field].parse::<u64>().expect("clock ticks") as f64 / 100.0;
        Cpu { user: seconds(11), system: seconds(12) }
    }

    /// Microseconds of user, system and both for each of so many events.
    pub fn since(self, before: Cpu, events: usize) -> [f64; 3] {
        let (user, system) = (self.user - before.user, self.system - before.system);
        [user, system, user + system].map(|seconds| seconds * 1e6 / events as f64)
    }
}

/// Resident bytes of a process.
pub fn rss(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the process lives");
    statm.split_whitespace().nth(1).expect("a second field").parse::<u64>().expect("a number") * 4096
}

/// What a listener answers: the status and all of the reply.
pub fn get(addr: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let mut socket = std::net::TcpStream::connect(addr)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(socket, "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut reply = String::new();
    socket.read_to_string(&mut reply)?;
    let status = reply.get(9..12).and_then(|status| status.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::UnexpectedEof)?, reply))
}

/// The sum over the labels of a metric that an admin listener serves.
pub fn metric(admin: SocketAddr, name: &str) -> u64 {
    let (_, text) = get(admin, "/metrics").expect("the admin listener answers");
    let samples = text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    samples.map(|line| line.rsplit(' ').next().expect("a value").parse::<f64>().expect("a number") as u64).sum()
}

/// Looks until it is there.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The floor: hyper on a current-thread runtime, the body read whole, a constant reply. Prints its address and never ends.
pub async fn serve_floor() {
    use http_body_util::{BodyExt, Full};
    use hyper::body::{Bytes, Incoming};
    use hyper::{Request, Response};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("{}", listener.local_addr().expect("bound"));
    let serve = async {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            socket.set_nodelay(true).expect("a TCP option");
            let service = hyper::service::service_fn(async |request: Request<Incoming>| {
                let body = request.into_body().collect().await?.to_bytes();
                assert!(!body.is_empty());
                let reply =
                    Full::new(Bytes::from_static(br#"{"events":1,"succeeded":1,"failed":0,"reply":"enqueued"}"#));
                let response = Response::builder().status(202).header("content-type", "application/json");
                Ok::<_, hyper::Error>(response.body(reply).expect("a valid response"))
            });
            tokio::task::spawn_local(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(hyper_util::rt::TokioIo::new(socket), service),
            );
        }
    };
    tokio::task::LocalSet::new().run_until(serve).await;
}
