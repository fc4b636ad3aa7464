//! The example senders of `deploy/examples`, each run as its page says, against a real proxy and a real Kafka, through a network
//! that fails them: the first request is answered 503 with `Retry-After`, the second arrives and its reply does not. Every event
//! is in Kafka once or more, as it was sent; what was refused, and what was accepted, is never sent again.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::oracle::Oracle;
use super::support::process::{Process, command};
use super::support::proxy::Proxy;
use super::support::read_back::Reader;
use super::support::{PATIENCE, folder, http};

#[path = "../../deploy/examples/sender.rs"]
mod sender;

/// The senders that are programs, and how their first lines say that they are run.
const PROGRAMS: [(&str, &[&str]); 5] = [
    ("curl", &["bash", "sender.sh"]),
    ("python", &["python3", "sender.py"]),
    ("go", &["go", "run", "sender.go"]),
    ("java", &["java", "Sender.java"]),
    ("node", &["node", "sender.mjs"]),
];

/// Events of each sender that have a number: more than one batch of them.
const NUMBERED: u64 = 129;
/// Less than a batch, so that the first batch is taken in parts: 207, with `retry` for the rest.
const EVENTS_PER_SECOND: u64 = 50;
const RETRY_AFTER: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_sender_delivers_what_it_is_given_through_a_network_that_fails_it() {
    let fixture = Fixture::new();
    let (topic, own_topic) = (fixture.topic("it.examples"), fixture.topic("it.examples.own"));
    let languages: Vec<&str> = PROGRAMS.iter().map(|(language, _)| *language).chain(["rust"]).collect();
    let mut config = fixture.config() + &fixture.event_type("it.examples.own", &own_topic, "");
    for language in &languages {
        let limit = format!("limits = {{ events_per_second = {EVENTS_PER_SECOND} }}");
        config += &fixture.event_type(&format!("it.examples.{language}"), &topic, &limit);
    }
    let proxy = Proxy::start(&config).await;

    let mut oracle = Oracle::default();
    let mut running = Vec::new();
    for (position, language) in languages.iter().enumerate() {
        let first = 1 + 1000 * position as u64;
        let lines = lines(language, first);
        let refused = first + NUMBERED;
        (first..=refused).for_each(|number| oracle.sent(number));
        (first..refused).for_each(|number| oracle.acknowledged(number));
        oracle.refused(refused);
        let (network, program) = (Network::start(proxy.http()), PROGRAMS.get(position).map(|(_, program)| *program));
        running.push(tokio::spawn(async move {
            let said = match program {
                Some(program) => tokio::task::spawn_blocking({
                    let url = network.url();
                    move || run(program, &url, &lines)
                })
                .await
                .expect("the program is run"),
                None => run_rust(&network.url(), &lines).await,
            };
            assert_eq!(said, format!("accepted {}, refused 1, given up 0\n", NUMBERED + 1), "{program:?}");
            check(&network.finish());
        }));
    }
    // All of them first: one that fails must not take the proxy away from the others.
    let mut ended = Vec::new();
    for sender in running {
        ended.push(sender.await);
    }
    ended.into_iter().for_each(|end| end.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())));
    proxy.settled().await;
    proxy.finish();

    let reader = Reader::new(&fixture.cluster, fixture.registry);
    let findings = oracle.check(&reader.read(&topic, languages.len() * NUMBERED as usize));
    assert_eq!(findings.events, languages.len() * NUMBERED as usize);
    // The request whose reply was lost, and the one after it.
    let records = reader.read(&own_topic, 2 * languages.len());
    for language in &languages {
        let events = records.iter().filter_map(|record| record.cloud_event.as_ref());
        let of_sender = events.filter(|event| event["source"] == format!("it/{language}"));
        let ids: Vec<&Value> = of_sender.map(|event| &event["id"]).collect();
        assert!(ids.len() == 2 && ids[0] == ids[1], "{language} chose its id once: {ids:?}");
    }
}

/// What a sender is given: an event whose id it chooses, those with a number, and one whose payload does not fit.
fn lines(language: &str, first: u64) -> String {
    let name = format!("it.examples.{language}");
    let source = format!("it/{language}");
    let own = json!({"event": "it.examples.own", "source": source, "payload": Oracle::payload(first)});
    let bad = first + NUMBERED;
    let event = |number: u64| {
        let payload = if number == bad { json!({"number": "no number"}) } else { Oracle::payload(number) };
        // The id stands first: the sender in Java, which has no JSON, looks for it there.
        format!("{{\"id\":{},\"event\":{},\"payload\":{payload}}}\n", json!(Oracle::id(number)), json!(name))
    };
    std::iter::once(format!("{own}\n")).chain((first..=bad).map(event)).collect()
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples")
}

/// Runs a sender's program; what it printed. It refused one event, says so, and exits with 1.
fn run(program: &[&str], url: &str, lines: &str) -> String {
    let place = folder(program[0]);
    let file = |name: &str| place.join(name);
    std::fs::write(file("events.ndjson"), lines).expect("the folder is ours");
    let create = |name: &str| File::create(file(name)).expect("the folder is ours");
    let (script, arguments) = program.split_last().expect("a script");
    let mut command = command(arguments[0]);
    command.args(&arguments[1..]).arg(examples().join(script)).arg(url).current_dir(&place).env("TMPDIR", &place);
    // What Go compiles of its own library is kept where `tests/run.sh --fetch` put it.
    command
        .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tests").join("go"))
        .env("GOTOOLCHAIN", "local");
    command
        .stdin(File::open(file("events.ndjson")).expect("it was written"))
        .stdout(create("stdout"))
        .stderr(create("stderr"));
    let status = Process::spawn(script, command).wait();
    let read = |name: &str| std::fs::read_to_string(file(name)).expect("it printed UTF-8");
    // `go run` adds a line of its own about the exit code.
    let refused: Vec<String> =
        read("stderr").lines().filter(|line| !line.starts_with("exit status")).map(str::to_owned).collect();
    assert_eq!(status.code(), Some(1), "{script}: {refused:?}");
    assert!(refused.len() == 1 && refused[0].contains("invalid_payload"), "{script}: {refused:?}");
    read("stdout")
}

async fn run_rust(url: &str, lines: &str) -> String {
    let events = lines.lines().map(|line| serde_json::from_str(line).expect("a line of ours")).collect();
    let mut sender =
        sender::Sender { client: http::client(), url: url.to_owned(), accepted: 0, refused: 0, given_up: 0 };
    sender.send(events).await;
    format!("accepted {}, refused {}, given up {}\n", sender.accepted, sender.refused, sender.given_up)
}

/// Checks what a sender sent against what it was told.
fn check(seen: &[Exchange]) {
    let ids: Vec<Vec<String>> = seen.iter().map(Exchange::ids).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "what may have been taken goes again, whole, with the same ids");
    assert!(seen[1].begin - seen[0].end >= RETRY_AFTER, "`Retry-After` is honoured");
    let is_partial =
        |exchange: &&Exchange| exchange.reply.starts_with("HTTP/1.1 207") && exchange.reply.contains("\"retry\":true");
    assert!(seen.iter().any(|exchange| is_partial(&exchange)), "the limit of the event type refused a part of a batch");
    for (position, exchange) in seen.iter().enumerate().skip(2) {
        let again = exchange.to_send_again();
        let done: BTreeSet<&String> = ids[position].iter().filter(|id| !again.contains(*id)).collect();
        for later in &ids[position + 1..] {
            let repeated: Vec<_> = later.iter().filter(|id| done.contains(id)).collect();
            assert!(repeated.is_empty(), "{repeated:?} are sent again, though a reply said what became of them");
        }
    }
}

/// A request that went into the network, and what came out.
#[derive(Clone, Debug)]
struct Exchange {
    begin: Instant,
    end: Instant,
    body: String,
    reply: String,
}

impl Exchange {
    /// The ids of its events: an array, or one a line.
    fn ids(&self) -> Vec<String> {
        let events: Vec<Value> = if self.body.starts_with('[') {
            serde_json::from_str(&self.body).expect("an array of events")
        } else {
            self.body.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
        };
        events
            .iter()
            .map(|event| event["id"].as_str().expect("every event that is sent has an id").to_owned())
            .collect()
    }

    /// The ids of those that the reply asks for again.
    fn to_send_again(&self) -> BTreeSet<String> {
        let body = self.reply.split("\r\n\r\n").nth(1).expect("a reply has a body");
        let reply: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
        let ids = self.ids();
        let results = reply["results"].as_array().cloned().unwrap_or_default();
        let again = results.iter().filter(|result| result["retry"] == true);
        again.map(|result| ids[result["index"].as_u64().expect("an index") as usize].clone()).collect()
    }
}

/// The network between a sender and the proxy. Every connection carries one request.
struct Network {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Exchange>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Network {
    fn start(proxy: SocketAddr) -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let (seen, is_over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (exchanges, over) = (Arc::clone(&seen), Arc::clone(&is_over));
        let serve = move || {
            for connection in listener.incoming().map_while(Result::ok) {
                if over.load(Relaxed) {
                    return;
                }
                // One that breaks is one more failure of the network; what it leads to is checked.
                let _ = carry(connection, proxy, &exchanges);
            }
        };
        let thread = std::thread::Builder::new().name("network".into()).spawn(serve).expect("a thread can be started");
        Network { address, seen, is_over, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What went through it.
    fn finish(self) -> Vec<Exchange> {
        let seen = Arc::clone(&self.seen);
        drop(self);
        let seen = seen.lock().expect("no code panics while it holds this lock");
        seen.clone()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.is_over.store(true, Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Carries one request, or does not.
fn carry(mut sender: TcpStream, proxy: SocketAddr, exchanges: &Mutex<Vec<Exchange>>) -> io::Result<()> {
    sender.set_read_timeout(Some(PATIENCE))?;
    let Some((head, body)) = read_request(&mut sender)? else { return Ok(()) };
    let begin = Instant::now();
    let position = exchanges.lock().expect("no code panics while it holds this lock").len();
    let reply = match position {
        0 => {
            let told = r#"{"code":"overloaded","message":"of the test","retry":true}"#;
            let seconds = RETRY_AFTER.as_secs();
            let head =
                format!("HTTP/1.1 503 Service Unavailable\r\nretry-after: {seconds}\r\ncontent-type: application/json");
            format!("{head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{told}", told.len()).into_bytes()
        }
        _ => forward(&head, &body, proxy)?,
    };
    let exchange = Exchange {
        begin,
        end: Instant::now(),
        body: String::from_utf8_lossy(&body).into_owned(),
        reply: String::from_utf8_lossy(&reply).into_owned(),
    };
    exchanges.lock().expect("no code panics while it holds this lock").push(exchange);
    // The second request arrived; its reply does not.
    if position != 1 {
        sender.write_all(&reply)?;
    }
    sender.shutdown(Shutdown::Both)
}

/// The head of a request and its body; none where a connection ends before one.
fn read_request(sender: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 16_384];
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
            });
            let length = length.expect("every sender says how long its body is");
            if bytes.len() >= at + 4 + length {
                return Ok(Some((head, bytes[at + 4..at + 4 + length].to_vec())));
            }
        }
        match sender.read(&mut piece)? {
            0 => return Ok(None),
            read => bytes.extend_from_slice(&piece[..read]),
        }
    }
}

/// The proxy's reply, whole, on a connection that it closes.
fn forward(head: &str, body: &[u8], proxy: SocketAddr) -> io::Result<Vec<u8>> {
    let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let head: Vec<&str> = kept.chain(["connection: close"]).collect();
    let mut stream = TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{}\r\n\r\n", head.join("\r\n")).as_bytes())?;
    stream.write_all(body)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(reply)
}

/// The page says at most so many lines, so that a sender is read at a glance; and that they show the same.
#[test]
fn an_example_is_short_and_says_how_it_is_run() {
    let mut found = 0;
    for file in std::fs::read_dir(examples()).expect("there are examples").flatten() {
        let text = std::fs::read_to_string(file.path()).expect("an example is text");
        let name = file.file_name().to_string_lossy().into_owned();
        assert!(text.lines().count() <= 80, "{name} has {} lines", text.lines().count());
        let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or_default();
        assert!(text.contains("IGUAZU_KEY") && widest <= 132, "{name}: {widest}");
        found += 1;
    }
    assert_eq!(found, PROGRAMS.len() + 1);
}
