//! The promises of a listener, over real sockets.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::*;

/// Answers with the request's path; `/wait` when a permit is there; `/large` with more than sockets buffer.
#[derive(Debug)]
struct Echo {
    begun: Semaphore,
    permits: Semaphore,
}

impl Handler for Echo {
    type Body = Full<Bytes>;

    async fn respond(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        if request.uri().path() == "/wait" {
            self.begun.add_permits(1);
            self.permits.acquire().await.expect("never closed").forget();
        }
        if request.uri().path() == "/large" {
            self.begun.add_permits(1);
            return Response::new(Full::new(Bytes::from(vec![b'x'; LARGE])));
        }
        let said = format!("{} {}", request.uri().path(), if peer.tls { "encrypted" } else { "plain" });
        Response::new(Full::new(Bytes::from(said)))
    }
}

const LARGE: usize = 16 << 20;

struct Site {
    address: SocketAddr,
    echo: Arc<Echo>,
    drain: Drain,
    counts: Arc<Counts>,
    workers: Workers,
}

fn limits() -> Limits {
    Limits { linger: Duration::from_millis(50), ..Limits::new(100, Duration::from_secs(5)) }
}

/// For tests that wait for a head to time out.
fn impatient() -> Limits {
    Limits { head_timeout: Duration::from_millis(300), ..limits() }
}

fn site(limits: Limits, tls: Option<Arc<rustls::ServerConfig>>) -> Site {
    let tls = tls.map(Encryption::new);
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), "a test").unwrap();
    let workers = Workers::start(2).unwrap();
    let drain = Drain::new();
    let echo = Arc::new(Echo { begun: Semaphore::new(0), permits: Semaphore::new(0) });
    let address = listener.address;
    let server = Server { listener, seats: workers.seats(), tls, limits, drain: drain.clone() };
    let counts = server.start(Arc::clone(&echo));
    Site { address, echo, drain, counts, workers }
}

impl Site {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn stop(self) -> Drained {
        let drained = self.drain.finish(Duration::from_secs(5)).await;
        tokio::task::spawn_blocking(|| self.workers.stop()).await.unwrap();
        assert_eq!(self.counts.open.load(Relaxed), 0, "every connection gave its place back");
        drained
    }
}

/// Sends bytes and reads until the server closes.
async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8(reply).unwrap()
}

/// Reads one response with a body of known length.
async fn read_response(stream: &mut TcpStream) -> String {
    let mut reply = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&reply);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
            if body.len() >= length.parse().unwrap() {
                return text.into_owned();
            }
        }
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).await.unwrap(), 1, "closed in the middle of {text:?}");
        reply.push(byte[0]);
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_setting_to_change() {
    let holder = Listener::bind("127.0.0.1:0".parse().unwrap(), "--port").unwrap();
    let error = Listener::bind(holder.address, "--port").unwrap_err();
    assert_eq!(error.to_string(), format!("address {} is in use; choose another with --port", holder.address));
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let site = site(impatient(), None);
    assert_eq!(exchange(site.connect().await, b"").await, "");
    assert_eq!(exchange(site.connect().await, b"PRI * HT").await, "", "the beginning of an HTTP/2 preface");
    assert_eq!(exchange(site.connect().await, b"POST /v1/events HTTP/1.1\r\nx: ").await, "");
    site.stop().await;
}

#[tokio::test]
async fn half_a_second_head_is_closed_too() {
    let site = site(impatient(), None);
    let mut stream = site.connect().await;
    stream.write_all(b"GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(read_response(&mut stream).await.ends_with("/one plain"));
    assert_eq!(exchange(stream, b"GET /two HT").await, "");
    site.stop().await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_answered_431() {
    let site = site(limits(), None);
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(80_000));
    let reply = exchange(site.connect().await, head.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101));
    let reply = exchange(site.connect().await, head.as_bytes()).await;
    assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
    site.stop().await;
}

#[tokio::test]
async fn a_connection_over_the_limit_is_told_so_and_closed() {
    let site = site(Limits { connections_max: 1, ..limits() }, None);
    let mut first = site.connect().await;
    first.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    site.echo.begun.acquire().await.unwrap().forget();
    let mut second = site.connect().await;
    let mut reply = String::new();
    second.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("retry-after: 1\r\n"), "{reply}");
    assert_eq!(site.counts.refused.load(Relaxed), 1);
    site.echo.permits.add_permits(1);
    assert!(read_response(&mut first).await.ends_with("/wait plain"));
    drop((first, second));
    site.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let site = site(limits(), None);
    let ask = |path| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    let last = "GET /three HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let reply = exchange(site.connect().await, (ask("/one") + &ask("/two") + last).as_bytes()).await;
    let order = ["/one plain", "/two plain", "/three plain"].map(|said| reply.find(said).expect(said));
    assert!(order.is_sorted(), "{reply}");
    site.stop().await;
}

#[tokio::test]
async fn a_response_that_nobody_reads_ends_its_connection() {
    let site = site(Limits { head_timeout: Duration::from_millis(20), ..limits() }, None);
    let mut http1 = site.connect().await;
    http1.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut http2 = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let http2 = http2.initial_stream_window_size(1).handshake(TokioIo::new(site.connect().await)).await;
    let (mut client, connection) = http2.unwrap();
    let connection = tokio::spawn(connection);
    let get = |path: &str| Request::get(format!("http://a{path}")).body(Full::<Bytes>::default()).unwrap();
    // One that is short enough to leave our hands at once, and one that is not.
    let (short, large) = tokio::join!(client.clone().send_request(get("/")), client.send_request(get("/large")));
    site.echo.begun.acquire_many(2).await.unwrap().forget();
    while site.counts.open.load(Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    let mut read = Vec::new();
    let _ = http1.read_to_end(&mut read).await;
    assert!(read.len() < LARGE, "it was cut off");
    for response in [short, large] {
        assert!(response.unwrap().into_body().collect().await.is_err(), "it was cut off");
    }
    let _ = connection.await.unwrap();
    site.stop().await;
}

#[tokio::test]
async fn a_large_response_arrives_whole() {
    let site = site(limits(), None);
    let reply = exchange(site.connect().await, b"GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {LARGE}")), "{head}");
    assert_eq!(body.len(), LARGE);
    site.stop().await;
}

#[tokio::test]
async fn http2_is_understood_without_an_upgrade() {
    let site = site(limits(), None);
    let io = TokioIo::new(site.connect().await);
    let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let get = |path| Request::get(format!("http://a{path}")).body(Full::<Bytes>::default()).unwrap();
    let (one, two) = tokio::join!(client.clone().send_request(get("/one")), client.send_request(get("/two")));
    for (response, said) in [(one, "/one plain"), (two, "/two plain")] {
        assert_eq!(response.unwrap().into_body().collect().await.unwrap().to_bytes(), said);
    }
    drop(client);
    site.stop().await;
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_sender_that_goes_away_does_not_leave_its_connection_behind() {
    let site = site(limits(), None);
    let mut gone = site.connect().await;
    gone.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    site.echo.begun.acquire().await.unwrap().forget();
    drop(gone);
    assert_eq!(site.stop().await, Drained { cut_off: 0 });
}

#[tokio::test]
async fn a_drain_finishes_what_has_begun_and_says_close() {
    let site = site(limits(), None);
    let mut busy = site.connect().await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    site.echo.begun.acquire().await.unwrap().forget();
    site.drain.begin();
    site.echo.permits.add_permits(1);
    let reply = read_response(&mut busy).await;
    assert!(reply.contains("connection: close\r\n") && reply.ends_with("/wait plain"), "{reply}");
    drop(busy);
    assert_eq!(site.stop().await, Drained { cut_off: 0 });
}

#[tokio::test]
async fn a_drain_still_answers_an_idle_connection_that_is_about_to_send() {
    let site = site(Limits { linger: Duration::from_secs(60), ..limits() }, None);
    let mut idle = site.connect().await;
    idle.write_all(b"GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(!read_response(&mut idle).await.contains("connection: close"));
    site.drain.begin();
    let reply = exchange(idle, b"GET /two HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(reply.contains("connection: close\r\n") && reply.ends_with("/two plain"), "{reply}");
    assert_eq!(site.stop().await, Drained { cut_off: 0 });
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_refuses_new_ones() {
    let site = site(limits(), None);
    let mut idle = site.connect().await;
    idle.write_all(b"GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_response(&mut idle).await;
    site.drain.begin();
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0, "closed after the linger");
    drop(idle);
    assert!(TcpStream::connect(site.address).await.is_err());
    assert_eq!(site.stop().await, Drained { cut_off: 0 });
}

#[tokio::test]
async fn a_drain_waits_for_no_idle_connection_whose_sender_does_not_close() {
    let site = site(limits(), None);
    let mut idle = site.connect().await;
    idle.write_all(b"GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    read_response(&mut idle).await;
    let silent = site.connect().await;
    // Less than a connection that was closed is listened to for last words.
    assert_eq!(site.drain.finish(Duration::from_millis(1500)).await, Drained { cut_off: 0 });
    drop((idle, silent));
    site.stop().await;
}

#[tokio::test]
async fn a_drain_answers_connections_that_were_queued_when_it_began() {
    // Nothing of this runtime runs between connecting and beginning, so the acceptor has not seen the connections.
    let site = site(limits(), None);
    let queued: Vec<_> = (0..20)
        .map(|_| {
            use std::io::Write as _;
            let mut stream = std::net::TcpStream::connect(site.address).unwrap();
            stream.write_all(b"GET /queued HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            stream
        })
        .collect();
    assert_eq!(site.counts.accepted.load(Relaxed), 0);
    site.drain.begin();
    for stream in queued {
        stream.set_nonblocking(true).unwrap();
        let reply = exchange(TcpStream::from_std(stream).unwrap(), b"").await;
        assert!(reply.ends_with("/queued plain"), "{reply}");
    }
    assert_eq!(site.stop().await, Drained { cut_off: 0 });
}

#[tokio::test]
async fn what_is_not_finished_by_the_deadline_is_cut_off_and_counted() {
    let site = site(limits(), None);
    let mut stuck = site.connect().await;
    stuck.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    site.echo.begun.acquire().await.unwrap().forget();
    assert_eq!(site.drain.finish(Duration::from_millis(1)).await, Drained { cut_off: 1 });
    assert_eq!(stuck.read(&mut [0]).await.unwrap_or(0), 0);
    site.stop().await;
}

#[tokio::test]
async fn connections_are_spread_over_the_workers() {
    let site = site(limits(), None);
    let mut open = Vec::new();
    for _ in 0..10 {
        let mut stream = site.connect().await;
        stream.write_all(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        site.echo.begun.acquire().await.unwrap().forget();
        open.push(stream);
    }
    let seats: Vec<_> = site.workers.seats().iter().map(|seat| seat.open()).collect();
    assert_eq!(seats, [5, 5]);
    drop(open);
    site.stop().await;
}

#[tokio::test]
async fn a_worker_that_is_stuck_is_named() {
    let workers = Workers::start(2).unwrap();
    assert_eq!(workers.stalled(Duration::from_secs(60)), [""; 0]);
    let stop = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&stop);
    let seats = workers.seats();
    seats[1].runtime().spawn(async move {
        while !until.load(Relaxed) {
            std::thread::yield_now();
        }
    });
    while workers.stalled(Duration::from_millis(600)) != ["worker-1"] {
        tokio::task::yield_now().await;
    }
    stop.store(true, Relaxed);
    workers.stop();
}

#[tokio::test]
async fn a_tls_listener_speaks_what_alpn_chose_and_drops_what_is_not_tls() {
    let folder = tempfile::tempdir().unwrap();
    let files = self_signed(folder.path());
    let site = site(limits(), Some(encryption(&files).unwrap()));
    assert!(!exchange(site.connect().await, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.contains("HTTP"));

    for protocol in ["h2", "http/1.1"] {
        let (reply, chosen) = get_encrypted(site.connect().await, &files, protocol).await;
        assert_eq!((reply.as_str(), chosen.as_str()), ("/one encrypted", protocol));
    }
    let failed = Arc::clone(&site.counts);
    site.stop().await;
    assert_eq!(failed.tls_failed.load(Relaxed), 1);
}

#[test]
fn unusable_certificates_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let good = self_signed(folder.path());
    let absent = folder.path().join("absent.pem");
    let check = |files: &crate::config::Tls, expected: &str| {
        assert!(encryption(files).unwrap_err().to_string().contains(expected), "{expected}");
    };
    check(&crate::config::Tls { certificate_file: absent.clone(), ..good.clone() }, "certificate_file");
    check(&crate::config::Tls { certificate_file: good.key_file.clone(), ..good.clone() }, "certificate_file");
    check(&crate::config::Tls { key_file: absent, ..good.clone() }, "key_file");
    check(&crate::config::Tls { key_file: good.certificate_file.clone(), ..good.clone() }, "key_file");
}

/// A certificate for `localhost` that is its own authority, made by the `openssl` command.
fn self_signed(folder: &std::path::Path) -> crate::config::Tls {
    let files = crate::config::Tls {
        certificate_file: folder.join("cert.pem"),
        key_file: folder.join("key.pem"),
        client_ca_file: None,
    };
    let made = Command::new("openssl")
        .args(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost".split(' '),
        )
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&files.key_file)
        .arg("-out")
        .arg(&files.certificate_file)
        .output()
        .expect("the openssl command is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    files
}

async fn get_encrypted(stream: TcpStream, files: &crate::config::Tls, protocol: &str) -> (String, String) {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(&files.certificate_file).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    let chosen = String::from_utf8(stream.get_ref().1.alpn_protocol().unwrap().to_vec()).unwrap();
    let io = TokioIo::new(stream);
    let request = Request::get("https://localhost/one").body(Full::<Bytes>::default()).unwrap();
    let response = if protocol == "h2" {
        let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        client.send_request(request).await
    } else {
        let (mut client, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        client.send_request(request).await
    };
    let body = response.unwrap().into_body().collect().await.unwrap().to_bytes();
    (String::from_utf8(body.to_vec()).unwrap(), chosen)
}
