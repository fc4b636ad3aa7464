//! What every proof of delivery is made of: a cluster to break, a proxy with a spool, event types of several kinds under load;
//! and at its end the conservation oracle, the ledger law, the memory, and every duplicate with a cause that permits it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::kafka::{self, Alone, Topic};
use super::load::{Load, Sent, Stream};
use super::oracle;
use super::proxy::{Ledger, Proxy, config_with, event_type, with_settings};
use super::read_back::Reader;
use super::registry::{self, Registry};
use super::wait_until;

/// What the proxy may log of it.
const TOLD: [&str; 7] = [
    "breaker opened",
    "kafka client reports an error",
    "record was not delivered and waits on disk",
    "producer stopped before everything was delivered",
    "event type is not available",
    "event type is no longer available",
    "some event types are not available",
];

/// Bytes of each budget: a producer's buffer, bodies in flight, the spool's queue (a constant of the spool).
const BUFFER_BYTES: u64 = 16 << 20;
const IN_FLIGHT_BYTES: u64 = 16 << 20;
const SPOOL_QUEUE_BYTES: u64 = 32 << 20;

/// A kind of event type.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    encoding: &'static str,
    settings: &'static str,
    topic: Topic<'static>,
    query: &'static str,
    /// Whether one replica's word is enough, so that its death may take acknowledged events along, and a lost response makes
    /// a duplicate.
    by_leader: bool,
}

const CRITICAL: Topic<'static> = Topic { partitions: 3, replicas: 3, settings: &[("min.insync.replicas", "2")] };
const STANDARD: Topic<'static> = Topic { partitions: 3, replicas: 2, settings: &[("min.insync.replicas", "1")] };

const KINDS: [Kind; 5] = [
    Kind {
        name: "durable",
        encoding: "avro",
        settings: "reply = \"durable\"\nordered = true",
        topic: CRITICAL,
        query: "",
        by_leader: false,
    },
    Kind { name: "all", encoding: "avro", settings: "acks = \"all\"", topic: CRITICAL, query: "", by_leader: false },
    Kind {
        name: "waits",
        encoding: "protobuf",
        settings: "acks = \"all\"",
        topic: CRITICAL,
        query: "reply=acknowledged",
        by_leader: false,
    },
    Kind {
        name: "leader",
        encoding: "raw_json",
        settings: "acks = \"leader\"",
        topic: STANDARD,
        query: "",
        by_leader: true,
    },
    Kind {
        name: "slow",
        encoding: "json",
        settings: "acks = \"leader\"\nlow_rate = true",
        topic: STANDARD,
        query: "reply=acknowledged",
        by_leader: true,
    },
];

/// What happened, and so what is permitted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Happened {
    /// Partitions got other leaders, in order or not: what only the old one had may be gone.
    pub leaders_changed: bool,
    /// Connections to brokers broke while requests were under way.
    pub connections_broke: bool,
    /// The proxy died without a word: what was in its memory is gone.
    pub proxy_died: bool,
    /// The proxy stopped in order.
    pub proxy_stopped: bool,
}

/// A cluster to break, and what is sent to it.
pub struct Ordeal {
    /// The cluster.
    pub cluster: Alone,
    registry: &'static Registry,
    subjects: (String, String),
    /// Topics, in the order of [`KINDS`].
    topics: Vec<String>,
    name: String,
}

/// What came of it.
#[derive(Debug)]
pub struct Verdict {
    /// The ledger of the proxy that was there at the end.
    pub ledger: Ledger,
    /// What each kind sent, by name.
    pub sent: BTreeMap<&'static str, Sent>,
    /// Acknowledged events that only a leader had that is one no longer, by kind; only where that is permitted.
    pub missing: BTreeMap<&'static str, usize>,
    /// Events that are in Kafka more than once, by kind.
    pub duplicates: BTreeMap<&'static str, usize>,
}

impl Ordeal {
    /// A topic of its own for each kind, on the cluster that others share at other times.
    pub fn new(name: &str) -> Ordeal {
        let (cluster, registry) = (kafka::alone(), registry::shared());
        let subjects = oracle::register(registry);
        let topics = KINDS.iter().map(|kind| cluster.topic(&format!("{name}.{}", kind.name), kind.topic)).collect();
        Ordeal { cluster, registry, subjects, topics, name: name.to_owned() }
    }

    /// A proxy to these brokers, with small budgets, a spool, and records that are given up soon.
    pub fn config(&self, brokers: &str) -> String {
        let cluster = format!(
            "buffer_bytes_max = {BUFFER_BYTES}\nmessage_timeout_ms = 3000\nlinger_ms = 20\nslow_linger_ms = 100"
        );
        let http = format!(
            "drain_seconds = 8\nread_timeout_seconds = 5\nworkers = 1\nack_timeout_seconds = 10\n\
             body_bytes_max = 1048576\nin_flight_bytes_max = {IN_FLIGHT_BYTES}\nbatch_events_max = 1000"
        );
        let config = with_settings(&config_with(brokers, &self.registry.url()), "clusters.core", &cluster);
        let config = with_settings(&config, "http", &http);
        let event_types = KINDS.iter().zip(&self.topics).map(|(kind, topic)| self.event_type(kind, topic));
        config + "[spool]\nfolder = \"spool\"\n\n" + &event_types.collect::<String>()
    }

    fn event_type(&self, kind: &Kind, topic: &str) -> String {
        let (subject, avro_subject) = &self.subjects;
        let schema = match kind.encoding {
            "raw_json" => String::new(),
            "avro" => format!("subject = {subject:?}\navro_subject = {avro_subject:?}\n"),
            _ => format!("subject = {subject:?}\n"),
        };
        event_type(&self.event(kind), topic, kind.encoding, &(schema + kind.settings))
    }

    fn event(&self, kind: &Kind) -> String {
        format!("{}.{}", self.name, kind.name)
    }

    /// The topic of a kind.
    pub fn topic(&self, name: &str) -> &str {
        let at = KINDS.iter().position(|kind| kind.name == name);
        &self.topics[at.expect("it is one of the kinds")]
    }

    /// Starts a proxy and waits until it is ready.
    pub async fn start(&self, config: &str) -> Proxy {
        self.start_in(super::folder("proxy"), config).await
    }

    /// The same in the folder of one that has ended.
    pub async fn start_in(&self, folder: PathBuf, config: &str) -> Proxy {
        self.await_ready(Proxy::start_in(folder, config)).await
    }

    /// The same on a disk that is full after so many KiB.
    pub async fn start_with_small_files(&self, config: &str, kib: u32) -> Proxy {
        self.await_ready(Proxy::start_with_small_files(super::folder("proxy"), config, kib)).await
    }

    async fn await_ready(&self, mut proxy: Proxy) -> Proxy {
        TOLD.iter().for_each(|told| proxy.expect_log(told));
        proxy.await_ready().await;
        proxy
    }

    /// Load of all kinds on it.
    pub fn load(&self, proxy: &Proxy) -> Load {
        let stream = |kind: &Kind| Stream { event: self.event(kind), query: kind.query };
        Load::start(proxy.http(), &KINDS.iter().map(stream).collect::<Vec<_>>())
    }

    /// Ends load and proxy when everything is delivered, and judges. `resident_before` is what the proxy held before the load.
    pub async fn end(&self, proxy: Proxy, load: Load, resident_before: u64, happened: Happened) -> Verdict {
        let sent = load.stop();
        let ledger = wait_until("everything is delivered", async || {
            let ledger = proxy.ledger().await;
            if ledger.in_memory + ledger.in_spool == 0 { Ok(ledger) } else { Err(format!("{ledger:?}")) }
        })
        .await;
        proxy.settled().await;
        assert_eq!(ledger.failed, 0, "what passes costs time and no event: {ledger:?}");
        let spooled = proxy.metrics().await.into_iter().filter(|sample| sample.name == "iguazu_spool_written_total");
        let spooled = spooled.map(|sample| sample.value).sum::<f64>() as u64;
        self.check_memory(&proxy, resident_before);
        let ledger = proxy.finish();
        self.judge(sent, ledger, spooled, happened)
    }

    /// At most what the budgets allow, and 15 % for what is kept beside.
    fn check_memory(&self, proxy: &Proxy, before: u64) {
        const LANES: u64 = 3;
        let (peak, budgets) = (proxy.resident_peak_bytes(), LANES * BUFFER_BYTES + IN_FLIGHT_BYTES + SPOOL_QUEUE_BYTES);
        let grown = peak.saturating_sub(before);
        println!("memory: {} MiB at most, {} MiB before, budgets {} MiB", peak >> 20, before >> 20, budgets >> 20);
        assert!(grown <= budgets * 115 / 100, "grew by {grown} bytes, over the budgets of {budgets} and 15 %");
    }

    fn judge(&self, sent: Vec<Sent>, ledger: Ledger, spooled: u64, happened: Happened) -> Verdict {
        let reader = Reader::new(&self.cluster, self.registry);
        let mut verdict =
            Verdict { ledger, sent: BTreeMap::new(), missing: BTreeMap::new(), duplicates: BTreeMap::new() };
        for ((kind, topic), mut sent) in KINDS.iter().zip(&self.topics).zip(sent) {
            // What was in the memory of a proxy that died was enqueued, and promised no more than that.
            if !happened.proxy_died {
                sent.enqueued.iter().for_each(|number| sent.oracle.acknowledged(*number));
            }
            let records = reader.read_within(topic, sent.oracle.owed(), 15);
            let may_miss = kind.by_leader && happened.leaders_changed;
            if may_miss {
                let missing = sent.oracle.missing(&records);
                missing.iter().for_each(|number| sent.oracle.forgive(*number));
                verdict.missing.insert(kind.name, missing.len());
            }
            let findings = sent.oracle.judge(&records);
            let findings = findings.unwrap_or_else(|broken| panic!("{}: {broken}; {:?}", kind.name, sent.codes));
            let copies = findings.duplicates.len();
            let causes = causes(kind, spooled, happened);
            println!(
                "{}: {} events, {copies} more than once{}, {:?}, slowest {:?}",
                kind.name,
                findings.events,
                if copies > 0 { format!(" ({})", causes.join(" or ")) } else { String::new() },
                sent.codes,
                sent.slowest
            );
            assert!(copies == 0 || !causes.is_empty(), "{}: nothing permits {:?}", kind.name, findings.duplicates);
            verdict.duplicates.insert(kind.name, copies);
            verdict.sent.insert(kind.name, sent);
        }
        println!("missing: {:?}; {ledger:?}", verdict.missing);
        verdict
    }
}

/// What permits a duplicate.
fn causes(kind: &Kind, spooled: u64, happened: Happened) -> Vec<&'static str> {
    let broke = happened.connections_broke || happened.leaders_changed;
    [
        (spooled > 0, "timed out and had been written"),
        (kind.by_leader && broke, "sent again after a lost response"),
        (happened.proxy_died, "kill -9 between acknowledgement and cursor"),
        (happened.proxy_stopped, "on its way when the stop purged it"),
    ]
    .into_iter()
    .filter_map(|(permits, cause)| permits.then_some(cause))
    .collect()
}
