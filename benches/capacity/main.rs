//! What a capacity plan is reckoned from, and a small fleet that checks the reckoning.
//!
//! In: Kafka's jars. Out, as tables: CPU of proxy and broker and Produce requests by linger; bytes on a broker's disk by envelope and
//! compression; memory by open connections; and for a fleet of proxies beside one Kafka what the plan says of connections, Produce requests and registry requests against what is counted.
//!
//! `cargo bench --bench capacity` takes two minutes; `-- --proxies N --rate R` makes another fleet. Without `--bench`
//! (`cargo test --benches`) two proxies take a few events and must have delivered all of them.

#[path = "../drive.rs"]
#[allow(dead_code, reason = "each bench uses its part of it")]
mod drive;
#[path = "../compare/kafka.rs"]
mod kafka;
#[path = "../compare/peers.rs"]
#[allow(dead_code, reason = "each bench uses its part of it")]
mod peers;
#[path = "../process.rs"]
#[allow(dead_code, reason = "each bench uses its part of it")]
mod process;
#[path = "../support.rs"]
#[allow(dead_code, reason = "each bench uses its part of it")]
mod support;

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use drive::Until;
use kafka::Kafka;
use peers::{Iguazu, Peer, Registry, Running};
use process::Cpu;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientContext, Statistics};

/// Single events a second with which lingers are compared.
const RATE: usize = 4_000;
const SECONDS: usize = 8;
/// Events of a request to the fleet.
const BATCH: usize = 100;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--serve-registry") {
        return drive::block_on(peers::serve_registry());
    }
    let after = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1));
    let number = |flag: &str, default: usize| {
        after(flag).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{flag} is a number, not {text}")))
    };
    let jars = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../tests/kafka/lib");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plant = Plant { kafka: Kafka::start(&jars, folder.path()), registry: Registry::start(), folder: folder.path() };
    if !args.iter().any(|arg| arg == "--bench") {
        let (sent, found) = plant.fleet(2, 10, 1).delivered;
        assert_eq!(sent, found, "every event that was taken is in Kafka");
        println!("capacity: a fleet of two delivered all {sent} events");
        return;
    }
    plant.lingers();
    plant.sizes();
    plant.connections();
    let (proxies, rate) = (number("--proxies", 10), number("--rate", 20_000));
    plant.fleet(proxies, rate / BATCH, SECONDS).print(proxies);
}

/// What everything here runs beside.
struct Plant<'f> {
    kafka: Kafka,
    registry: Registry,
    folder: &'f Path,
}

impl Plant<'_> {
    fn proxy(&self, topic: &str, linger_ms: u32) -> (Peer, Running) {
        self.proxy_with(topic, Iguazu { reply: "enqueued", ..Iguazu::new("avro", linger_ms) })
    }

    fn proxy_with(&self, topic: &str, settings: Iguazu) -> (Peer, Running) {
        let peer = Peer::Iguazu(settings);
        let running = peer.start(self.folder, &self.kafka, &self.registry, topic, 64, false);
        (peer, running)
    }

    /// What a longer linger saves proxy and broker.
    fn lingers(&self) {
        println!("\n{RATE} single events a second over 12 partitions\n");
        println!(
            "| linger ms | proxy CPU us/event | broker CPU us/event | Produce requests per 1,000 events |\n|--:|--:|--:|--:|"
        );
        let (broker, requests) = self.without_linger();
        println!("| 0 (a plain client, no proxy) | - | {broker:.1} | {requests:.0} |");
        let events = support::events();
        for linger_ms in [5, 25, 50, 75, 100] {
            let topic = self.kafka.new_topic();
            let (peer, running) = self.proxy(&topic, linger_ms);
            let wire = peer.wire(&events, 1, &topic);
            drive::open(running.addr, &wire, RATE, 2, 64).assert_all_succeeded();
            self.kafka.wait_for(&topic, 2 * RATE as u64);
            let pid = running.pid.expect("we started it");
            let (before, requests) = ((Cpu::of(pid), Cpu::of(self.kafka.pid())), running.produce_requests());
            drive::open(running.addr, &wire, RATE, SECONDS, 64).assert_all_succeeded();
            let events = RATE * SECONDS;
            assert_eq!(self.kafka.wait_for(&topic, (2 * RATE + events) as u64), (2 * RATE + events) as u64);
            let proxy = Cpu::of(pid).since(before.0, events)[2];
            let broker = Cpu::of(self.kafka.pid()).since(before.1, events)[2];
            let requests = (running.produce_requests() - requests) as f64 * 1e3 / events as f64;
            println!("| {linger_ms} | {proxy:.1} | {broker:.1} | {requests:.0} |");
        }
    }

    /// The broker's CPU per record and Produce requests per 1,000, when each record leaves at once.
    fn without_linger(&self) -> (f64, f64) {
        let topic = self.kafka.new_topic();
        let mut config = self.kafka.client();
        config.set("linger.ms", "0").set("acks", "1").set("statistics.interval.ms", "500");
        let producer: BaseProducer<Counting> = config.create_with_context(Counting::default()).expect("valid settings");
        let events = support::events();
        let send = |count: usize| {
            let start = Instant::now();
            for n in 0..count {
                let due = start + Duration::from_secs_f64(n as f64 / RATE as f64);
                while Instant::now() < due {
                    producer.poll(Duration::from_micros(200));
                }
                let record = BaseRecord::<(), [u8]>::to(&topic).payload(&events[n % events.len()].protobuf);
                producer.send(record).expect("a queue with room");
            }
            producer.flush(Duration::from_secs(30)).expect("Kafka answers");
        };
        send(2 * RATE);
        let before = (Cpu::of(self.kafka.pid()), producer.context().after(&producer));
        send(RATE * SECONDS);
        let broker = Cpu::of(self.kafka.pid()).since(before.0, RATE * SECONDS)[2];
        let requests = producer.context().after(&producer) - before.1;
        (broker, requests as f64 * 1e3 / (RATE * SECONDS) as f64)
    }

    /// What an event takes on a broker's disk, for each copy of it.
    fn sizes(&self) {
        const EVENTS: usize = 50_000;
        println!("\nBytes on a broker's disk, one copy, {EVENTS} events in batches of {BATCH}\n");
        println!("| envelope | compression | bytes an event | proxy CPU us/event |\n|---|---|--:|--:|");
        let events = support::events();
        for envelope in ["cloudevents", "single"] {
            for compression in ["none", "lz4", "zstd"] {
                let topic = self.kafka.new_topic();
                let settings = Iguazu { reply: "enqueued", compression, envelope, ..Iguazu::new("avro", 75) };
                let (peer, running) = self.proxy_with(&topic, settings);
                let wire = peer.wire(&events, BATCH, &topic);
                let pid = running.pid.expect("we started it");
                let before = Cpu::of(pid);
                drive::open(running.addr, &wire, 200, EVENTS / BATCH / 200, 16).assert_all_succeeded();
                let sent = (EVENTS / BATCH / 200 * 200 * BATCH) as u64;
                assert_eq!(self.kafka.wait_for(&topic, sent), sent);
                let cpu = Cpu::of(pid).since(before, sent as usize)[2];
                let bytes = self.kafka.bytes(self.folder, &topic) / sent;
                println!("| `{envelope}` | {compression} | {bytes} | {cpu:.2} |");
            }
        }
    }

    /// What a connection that was used and is kept takes.
    fn connections(&self) {
        println!("\nMemory by open connections, each of which has carried a request\n");
        println!("| connections | RSS MB | KB a connection |\n|--:|--:|--:|");
        let topic = self.kafka.new_topic();
        let (peer, running) = self.proxy(&topic, 75);
        let pid = running.pid.expect("we started it");
        let wire = peer.wire(&support::events(), 1, &topic);
        drive::closed(running.addr, &wire, 64, Until::Requests(6_400)).assert_all_succeeded();
        let none = process::rss(pid);
        println!("| 0 | {:.1} | |", none as f64 / 1e6);
        let mut open: Vec<TcpStream> = vec![];
        for target in [1_000, 5_000] {
            while open.len() < target {
                open.push(used_connection(running.addr, &wire[open.len() % wire.len()]));
            }
            let rss = process::rss(pid);
            let each = (rss - none) as f64 / 1e3 / target as f64;
            println!("| {target} | {:.1} | {each:.1} |", rss as f64 / 1e6);
        }
    }

    /// So many proxies that share a load of so many requests a second.
    fn fleet(&self, proxies: usize, requests_per_second: usize, seconds: usize) -> Fleet {
        let topic = self.kafka.new_topic();
        let connections = connections_to(&self.kafka.bootstrap);
        let running: Vec<(Peer, Running)> = (0..proxies).map(|_| self.proxy(&topic, 75)).collect();
        let wire = running[0].0.wire(&support::events(), BATCH, &topic);
        let pids: Vec<u32> = running.iter().map(|(_, running)| running.pid.expect("we started it")).collect();
        let before: Vec<Cpu> = pids.iter().map(|pid| Cpu::of(*pid)).collect();
        let broker = Cpu::of(self.kafka.pid());
        let took = Mutex::new(Duration::ZERO);
        let sent = Mutex::new(0);
        std::thread::scope(|scope| {
            for (_, proxy) in &running {
                scope.spawn(|| {
                    let rate = (requests_per_second / proxies).max(1);
                    let seen = drive::open(proxy.addr, &wire, rate, seconds, 8);
                    seen.assert_all_succeeded();
                    *sent.lock().expect("no panic") += seen.succeeded() * BATCH as u64;
                    let mut took = took.lock().expect("no panic");
                    *took = seen.took.max(*took);
                });
            }
        });
        let sent = sent.into_inner().expect("no panic");
        let found = self.kafka.wait_for(&topic, sent);
        let cpu = pids.iter().zip(before).map(|(pid, before)| Cpu::of(*pid).since(before, sent as usize)[2]).sum();
        let proxies_of = || running.iter().map(|(_, running)| running);
        Fleet {
            delivered: (sent, found),
            took: took.into_inner().expect("no panic"),
            proxy_cpu: cpu,
            broker_cpu: Cpu::of(self.kafka.pid()).since(broker, sent as usize)[2],
            connections: connections_to(&self.kafka.bootstrap) - connections,
            produce_requests: if seconds > 1 { proxies_of().map(Running::produce_requests).sum() } else { 0 },
            registry_requests: proxies_of().map(|proxy| proxy.metric("iguazu_registry_requests_total")).sum(),
        }
    }
}

impl Running {
    fn metric(&self, name: &str) -> u64 {
        process::metric(self.admin.expect("Iguazu has an admin listener"), name)
    }

    /// Produce requests so far. Waits until the metric, which is read now and then, has counted them all.
    fn produce_requests(&self) -> u64 {
        std::thread::sleep(iguazu::produce::settings::STATISTICS_INTERVAL + Duration::from_secs(1));
        self.metric("iguazu_producer_requests_total")
    }
}

/// What a fleet did.
struct Fleet {
    /// Events that were taken, and found in Kafka.
    delivered: (u64, u64),
    took: Duration,
    /// Microseconds an event.
    proxy_cpu: f64,
    broker_cpu: f64,
    connections: usize,
    produce_requests: u64,
    registry_requests: u64,
}

impl Fleet {
    fn print(&self, proxies: usize) {
        let (sent, found) = self.delivered;
        let seconds = self.took.as_secs_f64();
        println!(
            "\n{proxies} proxies, {:.0} events/s among them in batches of {BATCH}, one broker, linger 75 ms\n",
            sent as f64 / seconds
        );
        println!("| | counted | by the plan |\n|---|--:|--:|");
        println!("| events taken and found in Kafka | {sent}, {found} | equal |");
        println!("| connections to the broker | {} | {proxies} |", self.connections);
        // A batch leaves for a partition leader when its linger is over; with one broker that is a request for all partitions.
        println!(
            "| Produce requests a second | {:.0} | at most {:.0} |",
            self.produce_requests as f64 / seconds,
            proxies as f64 * 1_000.0 / 75.0 * PARTITIONS
        );
        println!(
            "| registry requests at the start | {} | {} a proxy and subject |",
            self.registry_requests, REGISTRY_REQUESTS
        );
        println!("| proxy CPU us/event | {:.2} | |", self.proxy_cpu);
        println!("| broker CPU us/event | {:.2} | |", self.broker_cpu);
    }
}

const PARTITIONS: f64 = 12.0;
/// Versions and one version of the Protobuf subject, the same of the Avro one, and what a GUID takes.
const REGISTRY_REQUESTS: usize = 5;

/// A connection over which a request was answered.
fn used_connection(addr: std::net::SocketAddr, wire: &[u8]) -> TcpStream {
    use std::io::{Read as _, Write as _};
    let mut socket = TcpStream::connect(addr).expect("the proxy takes connections");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a valid time");
    socket.write_all(wire).expect("it reads");
    let mut reply = [0; 1024];
    let read = socket.read(&mut reply).expect("it answers");
    assert!(reply[..read].starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&reply[..read]));
    socket
}

/// Established connections to a port of loopback, seen from the clients' side.
fn connections_to(bootstrap: &str) -> usize {
    let port: u16 = bootstrap.rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address has a port");
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has the table");
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        let (remote, state) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        remote.ends_with(&format!(":{port:04X}")) && state == "01"
    };
    table.lines().filter(is_one).count()
}

/// Counts the Produce requests of a client.
#[derive(Default)]
struct Counting {
    requests: std::sync::atomic::AtomicI64,
    seen: std::sync::atomic::AtomicUsize,
}

impl Counting {
    /// Produce requests so far: as of statistics that come after now.
    fn after(&self, producer: &BaseProducer<Counting>) -> i64 {
        use std::sync::atomic::Ordering::Relaxed;
        let seen = self.seen.load(Relaxed);
        while self.seen.load(Relaxed) < seen + 2 {
            producer.poll(Duration::from_millis(100));
        }
        self.requests.load(Relaxed)
    }
}

impl ClientContext for Counting {
    fn stats(&self, statistics: Statistics) {
        use std::sync::atomic::Ordering::Relaxed;
        let requests = statistics.brokers.values().map(|broker| broker.req.get("Produce").copied().unwrap_or(0)).sum();
        self.requests.store(requests, Relaxed);
        self.seen.fetch_add(1, Relaxed);
    }
}

impl rdkafka::producer::ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &rdkafka::producer::DeliveryResult<'_>, _: ()) {
        assert!(result.is_ok(), "Kafka takes every record");
    }
}
