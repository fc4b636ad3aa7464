//! Iguazu beside others that take events over HTTP and put them into Kafka.
//!
//! In: programs of the others (`benches/compare/run.sh` builds them), Kafka's jars. Out: for each of them, with the same generator,
//! the same payloads, the same real Kafka and waiting for its acknowledgement: requests and records a second, CPU per record,
//! latencies, memory, and whether Kafka holds as many records as were acknowledged; as a table and as JSON. Never: a number of a run
//! in which a request failed without saying so.
//!
//! The program under test has one core to itself, Kafka and the generator have the others. `benches/compare/run.sh` runs all of it;
//! `cargo bench --bench compare -- --peer URL --body-template FILE` measures any other program that already runs. Without `--bench`
//! (`cargo test --benches`) a few requests go through the floor and Iguazu, and what Kafka then holds is compared.

#[path = "../drive.rs"]
mod drive;
#[allow(dead_code, reason = "each bench uses its part of it")]
mod kafka;
#[allow(dead_code, reason = "each bench uses its part of it")]
mod peers;
#[path = "../process.rs"]
#[allow(dead_code, reason = "each bench uses its part of it")]
mod process;
#[path = "../support.rs"]
#[allow(dead_code, reason = "each bench uses its part of it")]
mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use drive::{Seen, Until};
use kafka::Kafka;
use peers::{Peer, Running};
use process::Cpu;
use serde_json::{Value, json};

/// What is sent to a program, and how.
#[derive(Clone, Copy)]
struct Cell {
    name: &'static str,
    records: usize,
    connections: usize,
    /// Requests a second of an open loop; a closed loop without.
    rate: Option<usize>,
}

const CELLS: [Cell; 5] = [
    Cell { name: "single, 64 connections", records: 1, connections: 64, rate: None },
    Cell { name: "single, 1,000 connections", records: 1, connections: 1_000, rate: None },
    Cell { name: "batch of 10", records: 10, connections: 64, rate: None },
    Cell { name: "batch of 100", records: 100, connections: 64, rate: None },
    Cell { name: "single, 1,000/s open loop", records: 1, connections: 256, rate: Some(1_000) },
];

/// Names of those that `cargo test` runs.
const CHECKED: [&str; 2] = ["single, 64 connections", "batch of 10"];

/// What is to be measured.
struct Options {
    /// Whether this is `cargo test --benches`.
    check: bool,
    seconds: usize,
    /// Of Iguazu, where it waits for Kafka; the others linger little or not at all.
    linger_ms: u32,
    /// Folder with the programs of the others.
    programs: Option<PathBuf>,
    /// Names that a peer must contain.
    only: Option<String>,
    external: Option<peers::External>,
    jars: PathBuf,
    out: Option<PathBuf>,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--serve-floor") => drive::block_on(process::serve_floor()),
        Some("--serve-registry") => drive::block_on(peers::serve_registry()),
        _ => run(&Options::parse(&args)),
    }
}

impl Options {
    fn parse(args: &[String]) -> Options {
        let has = |flag: &str| args.iter().any(|arg| arg == flag);
        let after = |flag: &str| args.iter().position(|arg| arg == flag).and_then(|at| args.get(at + 1)).cloned();
        let fetched = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../tests/kafka/lib");
        let external = after("--peer").map(|url| peers::External {
            url,
            template: PathBuf::from(after("--body-template").expect("--peer needs --body-template FILE")),
            content_type: after("--content-type").unwrap_or_else(|| "application/json".to_owned()),
            pid: after("--pid").map(|pid| pid.parse().expect("--pid is a number")),
        });
        Options {
            check: !has("--bench"),
            seconds: after("--seconds").map_or(6, |seconds| seconds.parse().expect("--seconds is a number")),
            linger_ms: after("--linger-ms").map_or(1, |linger| linger.parse().expect("--linger-ms is a number")),
            programs: after("--programs").map(PathBuf::from),
            only: after("--only"),
            external,
            jars: after("--jars").map_or(fetched, PathBuf::from),
            out: after("--out").map(PathBuf::from),
        }
    }
}

fn run(options: &Options) {
    if !options.check {
        leave_the_first_core();
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kafka = Kafka::start(&options.jars, folder.path());
    let registry = peers::Registry::start();
    let events = support::events();
    let mut peers = match (&options.external, options.check) {
        (Some(external), _) => vec![Peer::Floor, Peer::External(external.clone())],
        (None, true) => {
            vec![Peer::Floor, Peer::iguazu("raw_json", options.linger_ms), Peer::iguazu("avro", options.linger_ms)]
        }
        (None, false) => Peer::all(options.programs.as_deref(), options.linger_ms),
    };
    peers.retain(|peer| options.only.as_ref().is_none_or(|word| peer.name().contains(word.as_str())));
    let mut rows = vec![];
    for peer in &peers {
        let is_wanted = |cell: &&Cell| peer.takes(cell.records) && (!options.check || CHECKED.contains(&cell.name));
        for cell in CELLS.iter().filter(is_wanted) {
            let topic = kafka.new_topic();
            // A process for each cell: memory is what this load takes, not what the one before left.
            let running = peer.start(folder.path(), &kafka, &registry, &topic, cell.connections, !options.check);
            let wire = peer.wire(&events, cell.records, &topic);
            let row = measure(options, peer, cell, &running, &wire, &kafka, &topic);
            eprintln!("{}", line(&row));
            rows.push(row);
        }
    }
    if options.check {
        println!("compare: {} cells answered as they should", rows.len());
        return;
    }
    let result = json!({ "machine": machine(), "seconds": options.seconds, "rows": rows });
    if let Some(out) = &options.out {
        std::fs::write(out, format!("{result:#}\n")).expect("the results are written");
    }
    println!("\n{HEAD}");
    rows.iter().for_each(|row| println!("{}", line(row)));
}

fn measure(
    options: &Options,
    peer: &Peer,
    cell: &Cell,
    running: &Running,
    wire: &[Vec<u8>],
    kafka: &Kafka,
    topic: &str,
) -> Value {
    let drive = |until: Until| -> Seen {
        match (cell.rate, until) {
            (Some(rate), Until::Elapsed(time)) => {
                drive::open(running.addr, wire, rate, time.as_secs() as usize, cell.connections)
            }
            _ => drive::closed(running.addr, wire, cell.connections, until),
        }
    };
    // Connections, buffers and code are warm before anything is measured.
    let warm = drive::closed(running.addr, wire, cell.connections, Until::Requests(cell.connections * 3));
    warm.assert_all_succeeded();
    let warm_records = warm.succeeded() * cell.records as u64;
    if peer.produces() {
        kafka.wait_for(topic, warm_records);
    }
    let before = running.pid.map(Cpu::of);
    let seen = drive(if options.check {
        Until::Requests(cell.connections.min(64))
    } else {
        Until::Elapsed(Duration::from_secs(options.seconds as u64))
    });
    let records = seen.succeeded() * cell.records as u64;
    // What was answered and is still to be sent costs CPU, too.
    let in_kafka = peer.produces().then(|| kafka.wait_for(topic, warm_records + records) - warm_records);
    let cpu = running.pid.zip(before).map(|(pid, before)| Cpu::of(pid).since(before, records.max(1) as usize)[2]);
    let ms = |quantile: f64| seen.latencies.value_at_quantile(quantile) as f64 / 1e3;
    let seconds = seen.took.as_secs_f64();
    if options.check {
        seen.assert_all_succeeded();
        assert!(in_kafka.is_none_or(|found| found == records), "{records} acknowledged, {in_kafka:?} in Kafka");
    }
    json!({
        "peer": peer.name(), "waits": peer.waits(), "cell": cell.name, "records_per_request": cell.records,
        "open_loop": cell.rate.is_some(),
        "requests_per_second": seen.succeeded() as f64 / seconds, "records_per_second": records as f64 / seconds,
        "cpu_us_per_record": cpu, "p50_ms": ms(0.5), "p99_ms": ms(0.99), "p999_ms": ms(0.999),
        "rss_mb": running.pid.map(|pid| process::rss(pid) as f64 / 1e6),
        "acknowledged": records, "in_kafka": in_kafka, "refused": seen.refused(),
    })
}

const HEAD: &str = "| program | load | requests/s | records/s | CPU us/record | p50 ms | p99 ms | p99.9 ms | RSS MB | acknowledged | in Kafka | refused |\n\
                    |---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

fn line(row: &Value) -> String {
    let text = |key: &str| row[key].as_str().unwrap_or_default();
    let number = |key: &str, digits: usize| row[key].as_f64().map_or("-".to_owned(), |n| format!("{n:.digits$}"));
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
        text("peer"),
        text("cell"),
        number("requests_per_second", 0),
        number("records_per_second", 0),
        number("cpu_us_per_record", 2),
        number("p50_ms", 1),
        number("p99_ms", 1),
        number("p999_ms", 1),
        number("rss_mb", 0),
        number("acknowledged", 0),
        number("in_kafka", 0),
        number("refused", 0),
    )
}

/// Where it ran: what a reader needs to judge a number.
fn machine() -> Value {
    let first = |file: &str, start: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(start)).unwrap_or_default();
        line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
    };
    json!({
        "cpu": first("/proc/cpuinfo", "model name"),
        // Of the machine; this process has left one to the program under test.
        "cores": std::fs::read_to_string("/proc/cpuinfo").map_or(0, |text| text.matches("\nprocessor").count() + 1),
        "memory": first("/proc/meminfo", "MemTotal"),
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "load": std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim(),
    })
}

/// The first core is the program's under test; everything else that this process starts stays off it.
fn leave_the_first_core() {
    let cores = num_cores();
    assert!(cores >= 2, "the program under test needs a core to itself; this machine has {cores}");
    let pid = std::process::id().to_string();
    let status = Command::new("taskset").args(["-a", "-p", "-c", &format!("1-{}", cores - 1), &pid]).output();
    assert!(status.is_ok_and(|output| output.status.success()), "taskset (package util-linux) pins this process");
}

fn num_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
