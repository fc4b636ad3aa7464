//! The whole process against a floor measured in the same run.
//!
//! Starts a bare hyper server (same body read, constant reply), then the real proxy with the embedded brokers and registry
//! in another process, drives both with the same generator, and prints CPU (user + system) of the server process per
//! *event* as a ratio to the floor's CPU per single-event *request*. CPU time is what the machine's noise disturbs least;
//! the ratio takes out the machine.
//!
//! `cargo bench --bench ingest` runs everything; `-- --only single` runs the cells whose name contains a word;
//! `-- --quick` runs a tenth of the load; `-- --instructions` counts user instructions instead, with callgrind. Without
//! `--bench` (`cargo test --benches`) it runs a few requests of each cell and checks the replies.

#[path = "drive.rs"]
#[allow(dead_code, reason = "each bench uses its part of it")]
mod drive;
#[path = "process.rs"]
mod process;
#[path = "support.rs"]
#[allow(dead_code, reason = "each bench uses its part of it")]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use drive::{Until, block_on};
use process::{Cpu, wait_for};
use prost::Message as _;
use support::BenchEvent;

/// Connections of the closed-loop cells.
const CONNECTIONS: usize = 64;
/// Events of a batch request.
const BATCH: usize = 100;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--serve-floor") => block_on(process::serve_floor()),
        Some("--serve-kafka") => serve_kafka(args[1].parse().expect("a number of topics")),
        _ if args.iter().any(|arg| arg == "--instructions") => instructions(&Options::parse(&args)),
        _ => run(&Options::parse(&args)),
    }
}

/// How much to run.
struct Options {
    /// Single-event requests of a cell; batch cells send a tenth as many requests.
    requests: usize,
    /// Rounds; medians are printed.
    rounds: usize,
    only: Option<String>,
    /// Whether this is `cargo test --benches`: few requests, no figures.
    check: bool,
}

impl Options {
    fn parse(args: &[String]) -> Options {
        let has = |flag: &str| args.iter().any(|arg| arg == flag);
        let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1)).cloned();
        match (has("--bench"), has("--quick")) {
            (false, _) => Options { requests: 640, rounds: 1, only, check: true },
            (true, true) => Options { requests: 40_000, rounds: 1, only, check: false },
            (true, false) => Options { requests: 200_000, rounds: 3, only, check: false },
        }
    }

    fn wants(&self, cell: &str) -> bool {
        self.only.as_ref().is_none_or(|word| cell.contains(word.as_str()))
    }
}

/// One line of the table.
struct Cell {
    name: &'static str,
    path: &'static str,
    content_type: &'static str,
    events_per_request: usize,
    /// Bodies to send in turn.
    bodies: Vec<Vec<u8>>,
    /// The ratio that we hold ourselves to.
    limit: Option<f64>,
}

impl Cell {
    fn wire(&self) -> Vec<Vec<u8>> {
        self.bodies.iter().map(|body| drive::request(self.path, self.content_type, body)).collect()
    }
}

fn run(options: &Options) {
    let events = support::events();
    let kafka = Server::start_self(&["--serve-kafka", "100"]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let floor = Server::start_self(&["--serve-floor"]);
    let proxy = Server::start_proxy(&folder.path().join("iguazu.toml"), &kafka, &[]);

    let cells = cells(&events);
    let floor_cell = Cell {
        name: "floor: bare hyper, the same single JSON request",
        path: "/v1/events",
        content_type: "application/json",
        events_per_request: 1,
        bodies: events.iter().map(|e| json_event("bench.cloudevents", e)).collect(),
        limit: None,
    };
    let mut cpu: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..options.rounds {
        for (server, cell) in std::iter::once((&floor, &floor_cell)).chain(cells.iter().map(|c| (&proxy, c))) {
            if cell.limit.is_some() && !options.wants(cell.name) {
                continue;
            }
            // The first requests of a round warm connections and caches up, and are not measured.
            drive_closed(server.addr(), cell, options.requests / 20);
            proxy.wait_drained();
            let before = server.cpu();
            let requests = if cell.events_per_request == 1 { options.requests } else { options.requests / 10 };
            drive_closed(server.addr(), cell, requests);
            // What is queued is still to be sent to Kafka, and its CPU is the event's too.
            proxy.wait_drained();
            let [user, system, both] = server.cpu().since(before, requests * cell.events_per_request);
            cpu.entry(cell.name).or_default().push(both);
            eprintln!("round {round}: {}: {both:.2} us/event ({user:.2} user, {system:.2} system)", cell.name);
        }
    }
    if options.check {
        println!("ingest: {} cells answered as they should", cpu.len());
        return;
    }
    print_table(&cpu, &floor_cell, &cells);
    if options.wants("memory") {
        memory(&kafka);
    }
    if options.wants("latency") {
        latency(&proxy);
    }
    if options.wants("topics") {
        many_topics(&proxy, &events);
    }
    proxy.stop();
    floor.stop();
    kafka.stop();
}

/// The cells of the table: what services send, in both forms of the envelope.
fn cells(events: &[BenchEvent]) -> Vec<Cell> {
    let mut cells = vec![];
    for (event, limits) in [("bench.cloudevents", [1.5, 0.45, 0.32]), ("bench.single", [1.4, 0.38, 0.26])] {
        let form = event.trim_start_matches("bench.");
        let name = |what: &str| -> &'static str { Box::leak(format!("{what}, {form}").into_boxed_str()) };
        let single = events.iter().map(|e| json_event(event, e)).collect::<Vec<_>>();
        let ndjson =
            batches(events, |chunk| chunk.iter().map(|e| json_event(event, e)).collect::<Vec<_>>().join(&b'\n'));
        let protobuf = batches(events, |chunk| protobuf_batch(event, chunk));
        let cell = |what, content_type, events_per_request, bodies, limit| Cell {
            name: name(what),
            path: "/v1/events",
            content_type,
            events_per_request,
            bodies,
            limit: Some(limit),
        };
        cells.push(cell("single JSON -> Avro", "application/json", 1, single, limits[0]));
        cells.push(cell("NDJSON of 100 -> Avro", "application/x-ndjson", BATCH, ndjson, limits[1]));
        cells.push(cell("Protobuf batch of 100 -> Avro", "application/x-protobuf", BATCH, protobuf, limits[2]));
    }
    cells
}

/// User instructions of each cell, counted by callgrind: they hardly depend on how busy the machine is. `callgrind_annotate`
/// shows where they go; the profiles stay in `target/callgrind`.
fn instructions(options: &Options) {
    const EVENTS: usize = 40_000;
    let events = support::events();
    let kafka = Server::start_self(&["--serve-kafka", "100"]);
    let profiles = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../callgrind");
    std::fs::create_dir_all(&profiles).expect("a folder for the profiles");
    println!("\nUser instructions an event\n\n| cell | instructions |\n|---|---|");
    for cell in cells(&events).iter().filter(|cell| options.wants(cell.name)) {
        let file = profiles.join(cell.name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wrapper = ["valgrind", "--quiet", "--tool=callgrind", "--callgrind-out-file"];
        let mut wrapper: Vec<String> = wrapper.map(str::to_owned).to_vec();
        let last = wrapper.pop().expect("the file's flag");
        wrapper.push(format!("{last}={}", file.display()));
        let proxy = Server::start_proxy(&folder.path().join("iguazu.toml"), &kafka, &wrapper);
        let control = |what: &str| {
            let status = Command::new("callgrind_control").args([what, &proxy.child.id().to_string()]).output();
            assert!(status.expect("callgrind_control runs").status.success());
        };
        drive_closed(proxy.addr(), cell, EVENTS / cell.events_per_request / 5);
        proxy.wait_drained();
        control("--zero");
        drive_closed(proxy.addr(), cell, EVENTS / cell.events_per_request);
        proxy.wait_drained();
        control("--dump");
        let dump = std::fs::read_to_string(file.with_extension("1")).expect("callgrind has written its profile");
        let total = dump.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a total");
        println!("| {} | {} |", cell.name, total.parse::<u64>().expect("a number") / EVENTS as u64);
        proxy.stop();
    }
}

/// The event in the envelope of a `POST /v1/events`.
fn json_event(event: &str, payload: &BenchEvent) -> Vec<u8> {
    [format!("{{\"event\":\"{event}\",\"payload\":").as_bytes(), &payload.json, b"}"].concat()
}

/// Events as an `iguazu.v1.EventBatch`.
fn protobuf_batch(event: &str, payloads: &[BenchEvent]) -> Vec<u8> {
    use iguazu::envelope::proto;
    let event = |payload: &BenchEvent| proto::Event {
        event: event.to_owned(),
        payload_form: Some(proto::event::PayloadForm::Payload(payload.protobuf.clone())),
        ..proto::Event::default()
    };
    proto::EventBatch { events: payloads.iter().map(event).collect() }.encode_to_vec()
}

/// Groups of [`BATCH`] events, each made into one body.
fn batches(events: &[BenchEvent], body: impl Fn(&[BenchEvent]) -> Vec<u8>) -> Vec<Vec<u8>> {
    events.chunks_exact(BATCH).map(body).collect()
}

fn print_table(cpu: &BTreeMap<&str, Vec<f64>>, floor: &Cell, cells: &[Cell]) {
    let floor_us = median(&cpu[floor.name]);
    println!("\nCPU per event as a ratio to the floor's CPU per request (median of the rounds)\n");
    println!("| cell | us/event | ratio | limit |\n|---|---|---|---|");
    println!("| {} | {floor_us:.2} | 1.00 | |", floor.name);
    for cell in cells {
        let Some(values) = cpu.get(cell.name) else { continue };
        let us = median(values);
        let limit = cell.limit.map(|l| format!("{l:.2}")).unwrap_or_default();
        println!("| {} | {us:.2} | {:.2} | {limit} |", cell.name, us / floor_us);
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// RSS per queued event: the brokers are stopped (SIGSTOP), so that records stay in the producer's buffer.
fn memory(kafka: &Server) {
    const QUEUED: usize = 200_000;
    println!(
        "\nMemory per queued event, {QUEUED} events queued while the brokers hang\n\n| envelope | B/event | limit |\n|---|---|---|"
    );
    let events = support::events();
    for (event, limit) in [("bench.cloudevents", 1200), ("bench.single", 850)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let proxy = Server::start_proxy(&folder.path().join("iguazu.toml"), kafka, &[]);
        let cell = Cell {
            name: "memory",
            path: "/v1/events",
            content_type: "application/x-protobuf",
            events_per_request: BATCH,
            bodies: batches(&events, |chunk| protobuf_batch(event, chunk)),
            limit: None,
        };
        drive_closed(proxy.addr(), &cell, 200);
        proxy.wait_drained();
        kafka.signal("STOP");
        let before = proxy.rss();
        drive_closed(proxy.addr(), &cell, QUEUED / BATCH);
        let queued = proxy.in_memory();
        let per_event = (proxy.rss() - before) as f64 / queued as f64;
        kafka.signal("CONT");
        println!("| {} | {per_event:.0} | {limit} |", event.trim_start_matches("bench."));
        proxy.stop();
    }
}

/// What waiting for acknowledgements costs in CPU, at the same open-loop rate.
fn latency(proxy: &Server) {
    const RATE: usize = 5_000;
    const SECONDS: usize = 10;
    let events = support::events();
    let mut used = vec![];
    println!("\nCPU at {RATE} single events a second, open loop\n\n| reply | us/event |\n|---|---|");
    for (reply, path) in [("enqueued", "/v1/events?reply=enqueued"), ("acknowledged", "/v1/events?reply=acknowledged")]
    {
        let cell = Cell {
            name: "latency",
            path,
            content_type: "application/json",
            events_per_request: 1,
            bodies: events.iter().map(|e| json_event("bench.cloudevents", e)).collect(),
            limit: None,
        };
        proxy.wait_drained();
        let before = proxy.cpu();
        // 5,000/s times a linger of 75 ms and an acknowledgement are some 500 requests under way; 2,000 leave room.
        let connections = if reply == "acknowledged" { 2_000 } else { 200 };
        drive_open(proxy.addr(), &cell, RATE, SECONDS, connections);
        proxy.wait_drained();
        let [_, _, per_event] = proxy.cpu().since(before, RATE * SECONDS);
        println!("| {reply} | {per_event:.2} |");
        used.push(per_event);
    }
    println!("\nacknowledged / enqueued = {:.2} (limit 1.30)", used[1] / used[0]);
}

/// What spreading over many topics costs: librdkafka pays per topic-partition and request.
fn many_topics(proxy: &Server, events: &[BenchEvent]) {
    const TOPICS: usize = 100;
    const SECONDS: usize = 10;
    println!(
        "\nCPU with events spread over {TOPICS} topics, NDJSON batches, open loop\n\n\
         | events/s | us/event | Produce requests per 1,000 records |\n|---|---|---|"
    );
    let line = |(n, event): (usize, &BenchEvent)| json_event(&format!("bench.t{}", n % TOPICS), event);
    let bodies = events.chunks_exact(BATCH).map(|c| c.iter().enumerate().map(line).collect::<Vec<_>>().join(&b'\n'));
    let cell = Cell {
        name: "topics",
        path: "/v1/events",
        content_type: "application/x-ndjson",
        events_per_request: BATCH,
        bodies: bodies.collect(),
        limit: None,
    };
    drive_open(proxy.addr(), &cell, 20, 1, 16);
    for rate in [20_000, 100_000] {
        proxy.wait_drained();
        let (requests, before) = (proxy.produce_requests(), proxy.cpu());
        drive_open(proxy.addr(), &cell, rate / BATCH, SECONDS, 64);
        proxy.wait_drained();
        let events = rate * SECONDS;
        let [_, _, per_event] = proxy.cpu().since(before, events);
        let per_thousand = (proxy.produce_requests() - requests) as f64 * 1_000.0 / events as f64;
        println!("| {rate} | {per_event:.2} | {per_thousand:.1} |");
    }
}

/// So many requests in a closed loop, each answered as it should.
fn drive_closed(addr: SocketAddr, cell: &Cell, requests: usize) {
    drive::closed(addr, &cell.wire(), CONNECTIONS, Until::Requests(requests)).assert_all_succeeded();
}

/// So many requests a second in an open loop, each answered as it should.
fn drive_open(addr: SocketAddr, cell: &Cell, rate: usize, seconds: usize, connections: usize) {
    drive::open(addr, &cell.wire(), rate, seconds, connections).assert_all_succeeded();
}

/// A process under test, or beside it. Killed when dropped.
struct Server {
    child: Child,
    /// Where it serves; for the brokers, all their addresses.
    addrs: String,
    admin: Option<SocketAddr>,
    registry: String,
}

impl Server {
    /// Starts this very program in another role; its first line of output is its address (and the registry's).
    fn start_self(args: &[&str]) -> Server {
        let this = std::env::current_exe().expect("our own path");
        let mut child = Command::new(this).args(args).stdout(Stdio::piped()).spawn().expect("our own program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
        let mut words = line.split_whitespace();
        let addrs = words.next().expect("an address").to_owned();
        Server { child, addrs, admin: None, registry: words.next().unwrap_or_default().to_owned() }
    }

    /// Starts the proxy with the two event types of the benchmark, and a hundred more for the cell of many topics.
    fn start_proxy(config: &PathBuf, kafka: &Server, wrapper: &[String]) -> Server {
        let ready = config.with_extension("ready");
        let mut text = format!(
            "[http]\nlisten = \"127.0.0.1:0\"\nack_timeout_seconds = 310\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [registries.main]\nurls = [\"{}\"]\n\
             [clusters.core]\nbrokers = [\"{}\"]\nregistry = \"main\"\nbuffer_bytes_max = 1_073_741_824\nmessage_timeout_ms = 300_000\ncompression = \"none\"\n",
            kafka.registry,
            kafka.addrs.replace(',', "\", \"")
        );
        let mut event = |name: &str, topic: &str, envelope: &str| {
            text += &format!(
                "[events.\"{name}\"]\ncluster = \"core\"\ntopic = \"{topic}\"\nsubject = \"{}\"\nencoding = \"avro\"\nenvelope = \"{envelope}\"\n",
                support::MESSAGE
            );
        };
        event("bench.cloudevents", "bench", "cloudevents");
        event("bench.single", "bench", "single");
        for n in 0..100 {
            event(&format!("bench.t{n}"), &format!("bench{n}"), "cloudevents");
        }
        std::fs::write(config, text).expect("the configuration is written");
        let program = env!("CARGO_BIN_EXE_iguazu").to_owned();
        let mut words: Vec<String> = wrapper.iter().cloned().chain([program]).collect();
        let child = Command::new(words.remove(0))
            .args(words)
            .args(["proxy", "--ready-file"])
            .arg(&ready)
            .arg(config)
            .spawn()
            .expect("the proxy starts");
        let addresses: serde_json::Value =
            wait_for("the proxy is ready", || serde_json::from_slice(&std::fs::read(&ready).ok()?).ok());
        let addr =
            |name: &str| -> SocketAddr { addresses[name].as_str().expect("an address").parse().expect("an address") };
        let server =
            Server { child, addrs: addr("http").to_string(), admin: Some(addr("admin")), registry: String::new() };
        let is_ready = || process::get(addr("admin"), "/ready").is_ok_and(|(status, _)| status == 200);
        wait_for("every event type is served", || is_ready().then_some(()));
        server
    }

    fn addr(&self) -> SocketAddr {
        self.addrs.parse().expect("one address")
    }

    /// User and system CPU of the process so far.
    fn cpu(&self) -> Cpu {
        Cpu::of(self.child.id())
    }

    /// Resident bytes.
    fn rss(&self) -> u64 {
        process::rss(self.child.id())
    }

    /// Events in the producers' buffers, by the ledger.
    fn in_memory(&self) -> u64 {
        self.metric("iguazu_events_in_memory")
    }

    /// Produce requests sent so far, all lanes. Waits until the metric, which is read now and then, has counted them all.
    fn produce_requests(&self) -> u64 {
        std::thread::sleep(iguazu::produce::settings::STATISTICS_INTERVAL + Duration::from_secs(1));
        self.metric("iguazu_producer_requests_total")
    }

    fn metric(&self, name: &str) -> u64 {
        process::metric(self.admin.expect("only the proxy has an admin listener"), name)
    }

    fn wait_drained(&self) {
        // Asking too often would be measured, too.
        std::thread::sleep(Duration::from_millis(200));
        wait_for("the producers are empty", || (self.in_memory() == 0).then_some(()));
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    fn stop(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The embedded brokers and registry, with the topics of the benchmark and its schema registered.
fn serve_kafka(topics: usize) {
    use iguazu::dev::brokers::EmbeddedBrokers;
    use iguazu::dev::registry::{EmbeddedRegistry, Options};
    let brokers = EmbeddedBrokers::start(3).expect("the embedded brokers start");
    for topic in ["bench".to_owned()].into_iter().chain((0..topics).map(|n| format!("bench{n}"))) {
        brokers.create_topic(&topic, 12, 2).expect("a new topic");
    }
    block_on(async {
        let registry = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
        support::register(&registry.url()).await;
        println!("{} {}", brokers.bootstrap(), registry.url());
        // Until the benchmark kills this process.
        std::future::pending::<()>().await;
    });
}
