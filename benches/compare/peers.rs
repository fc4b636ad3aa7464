//! The programs that are compared: how each is set up and started, and what a request to it looks like.
//!
//! Each waits for the acknowledgement of all in-sync replicas before it answers, compresses nothing and logs no requests, so that the
//! work is the same but for what a program does with a payload: Bento and the OpenTelemetry Collector store it as it came. Bento
//! can make Avro of JSON as well; its schema has the members as they are in JSON, because it does not know Protobuf's JSON mapping.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use iguazu::dev::registry::{EmbeddedRegistry, Options};
use iguazu::route::SchemaType;
use iguazu::schema::source::Schema;
use serde_json::json;

use crate::drive;
use crate::kafka::Kafka;
use crate::process::{self, wait_for};
use crate::support::{self, BenchEvent};

/// A program to compare.
pub enum Peer {
    /// Bare hyper: reads the body and answers. What HTTP itself costs.
    Floor,
    Iguazu(Iguazu),
    Bento {
        program: PathBuf,
        is_avro: bool,
    },
    OpenTelemetry(PathBuf),
    External(External),
}

/// One way to run Iguazu.
pub struct Iguazu {
    /// What becomes of a payload: `raw_json` as it came, or `avro` checked against a schema and converted.
    pub encoding: &'static str,
    pub reply: &'static str,
    pub linger_ms: u32,
    pub compression: &'static str,
    pub envelope: &'static str,
}

/// A program of the reader's own, that already runs.
#[derive(Clone)]
pub struct External {
    /// `http://host:port/path`.
    pub url: String,
    /// A body in which `{payload}` is one payload, `{lines}` several of them one a line, `{array}` a JSON array of them.
    pub template: PathBuf,
    pub content_type: String,
    pub pid: Option<u32>,
}

/// A program that runs; killed when dropped, if we started it.
pub struct Running {
    pub addr: SocketAddr,
    /// Where Iguazu tells of itself.
    pub admin: Option<SocketAddr>,
    pub pid: Option<u32>,
    child: Option<Child>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Peer {
    /// All that are compared, with those of the others that were built, and with this linger where Kafka is waited for.
    pub fn all(programs: Option<&Path>, linger_ms: u32) -> Vec<Peer> {
        let mut peers = vec![Peer::Floor, Peer::iguazu("raw_json", linger_ms), Peer::iguazu("avro", linger_ms)];
        peers.extend(
            ["acknowledged", "enqueued"].map(|reply| Peer::Iguazu(Iguazu { reply, ..Iguazu::new("avro", 75) })),
        );
        let programs = programs.expect("--programs FOLDER; benches/compare/run.sh builds them and passes it");
        peers.extend([false, true].map(|is_avro| Peer::Bento { program: programs.join("bento"), is_avro }));
        peers.push(Peer::OpenTelemetry(programs.join("otelcol")));
        peers
    }

    /// Iguazu as it is compared with those that linger little or not at all.
    pub fn iguazu(encoding: &'static str, linger_ms: u32) -> Peer {
        Peer::Iguazu(Iguazu::new(encoding, linger_ms))
    }

    pub fn name(&self) -> String {
        match self {
            Peer::Floor => "floor: bare hyper, no Kafka".to_owned(),
            Peer::Iguazu(Iguazu { encoding: "avro", linger_ms, .. }) => {
                format!("Iguazu, JSON -> Avro, linger {linger_ms} ms")
            }
            Peer::Iguazu(Iguazu { linger_ms, .. }) => format!("Iguazu, stored as sent, linger {linger_ms} ms"),
            Peer::Bento { is_avro: true, .. } => "Bento, JSON -> Avro".to_owned(),
            Peer::Bento { .. } => "Bento, stored as sent".to_owned(),
            Peer::OpenTelemetry(_) => "OpenTelemetry Collector, stored as sent".to_owned(),
            Peer::External(external) => external.url.clone(),
        }
    }

    /// What it waits for before it answers.
    pub fn waits(&self) -> &str {
        match self {
            Peer::Floor => "nothing",
            Peer::Iguazu(iguazu) => iguazu.reply,
            Peer::Bento { .. } | Peer::OpenTelemetry(_) => "acknowledged",
            Peer::External(_) => "unknown",
        }
    }

    /// Whether its records can be counted in Kafka.
    pub fn produces(&self) -> bool {
        !matches!(self, Peer::Floor | Peer::External(_))
    }

    /// Whether it takes so many records in a request.
    pub fn takes(&self, records: usize) -> bool {
        match self {
            Peer::External(external) => external.text().contains("{payload}") == (records == 1),
            _ => true,
        }
    }

    /// Requests of so many records each.
    pub fn wire(&self, events: &[BenchEvent], records: usize, topic: &str) -> Vec<Vec<u8>> {
        let bodies = events.chunks_exact(records);
        match self {
            Peer::Floor | Peer::Bento { .. } => {
                bodies.map(|chunk| drive::request("/post", "application/x-ndjson", &lines(chunk))).collect()
            }
            // The bare payload has a door of its own; several go as lines, each in its envelope.
            Peer::Iguazu(_) if records == 1 => bodies
                .map(|chunk| drive::request(&format!("/v1/events/{topic}"), "application/json", &chunk[0].json))
                .collect(),
            Peer::Iguazu(_) => bodies
                .map(|chunk| {
                    let line = |e: &BenchEvent| {
                        [format!("{{\"event\":\"{topic}\",\"payload\":").as_bytes(), &e.json, b"}"].concat()
                    };
                    let lines = chunk.iter().map(line).collect::<Vec<_>>().join(&b'\n');
                    drive::request("/v1/events", "application/x-ndjson", &lines)
                })
                .collect(),
            Peer::OpenTelemetry(_) => {
                bodies.map(|chunk| drive::request("/v1/logs", "application/json", &otlp(chunk))).collect()
            }
            Peer::External(external) => {
                let (text, path) = (external.text(), external.address().1);
                bodies
                    .map(|chunk| {
                        let joined = |separator: &str| chunk.iter().map(text_of).collect::<Vec<_>>().join(separator);
                        let body = text
                            .replace("{payload}", text_of(&chunk[0]))
                            .replace("{lines}", &joined("\n"))
                            .replace("{array}", &format!("[{}]", joined(",")));
                        drive::request(&path, &external.content_type, body.as_bytes())
                    })
                    .collect()
            }
        }
    }

    /// Starts it, with a core to itself if it is `pinned`, and waits until it takes requests.
    pub fn start(
        &self,
        folder: &Path,
        kafka: &Kafka,
        registry: &Registry,
        topic: &str,
        connections: usize,
        pinned: bool,
    ) -> Running {
        let port = free_port();
        let password = || std::fs::read_to_string(&kafka.password_file).expect("Kafka's start wrote it");
        let write = |name: &str, text: String| {
            let file = folder.join(name);
            std::fs::write(&file, text).expect("the settings are written");
            file
        };
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        match self {
            Peer::Floor => {
                let mut child =
                    spawn(&std::env::current_exe().expect("our own path"), &["--serve-floor".into()], pinned);
                let addr = first_line(&mut child).parse().expect("an address");
                Running { addr, admin: None, pid: Some(child.id()), child: Some(child) }
            }
            Peer::Iguazu(iguazu) => {
                // Several may run at once, of one topic.
                static STARTED: AtomicUsize = AtomicUsize::new(0);
                let number = STARTED.fetch_add(1, Relaxed);
                let file = write(&format!("iguazu-{number}.toml"), iguazu.settings(kafka, registry, topic));
                let ready = folder.join(format!("iguazu-{number}.ready"));
                let args =
                    ["proxy".into(), "--ready-file".into(), ready.clone().into_os_string(), file.into_os_string()];
                // Killed though it may never be ready.
                let child = Some(spawn(Path::new(env!("CARGO_BIN_EXE_iguazu")), &args, pinned));
                let mut running = Running { addr, admin: None, pid: child.as_ref().map(Child::id), child };
                let addresses: serde_json::Value =
                    wait_for("the proxy is ready", || serde_json::from_slice(&std::fs::read(&ready).ok()?).ok());
                let addr = |name: &str| -> SocketAddr {
                    addresses[name].as_str().expect("an address").parse().expect("an address")
                };
                let is_ready = || process::get(addr("admin"), "/ready").is_ok_and(|(status, _)| status == 200);
                wait_for("the event type is served", || is_ready().then_some(()));
                (running.addr, running.admin) = (addr("http"), Some(addr("admin")));
                running
            }
            Peer::Bento { program, is_avro } => {
                let mut processors = vec![json!({ "unarchive": { "format": "lines" } })];
                if *is_avro {
                    let encode = json!({ "url": registry.url, "subject": LITERAL_SUBJECT, "avro_raw_json": true });
                    processors.push(json!({ "schema_registry_encode": encode }));
                }
                let settings = json!({
                    "http": { "enabled": false },
                    "logger": { "level": "ERROR" },
                    "input": { "http_server": { "address": addr.to_string(), "path": "/post" } },
                    "pipeline": { "processors": processors },
                    "output": { "kafka_franz": {
                        "seed_brokers": [&kafka.bootstrap], "topic": topic, "compression": "none",
                        "max_in_flight": connections.max(64),
                        "sasl": [{ "mechanism": "PLAIN", "username": &kafka.username, "password": password() }],
                    } },
                });
                let file = write("bento.yaml", settings.to_string());
                listening(addr, spawn(program, &["-c".into(), file.into_os_string()], pinned))
            }
            Peer::OpenTelemetry(program) => {
                let settings = json!({
                    "receivers": { "otlp": { "protocols": { "http": { "endpoint": addr.to_string() } } } },
                    "exporters": { "kafka": {
                        "brokers": [&kafka.bootstrap],
                        "logs": { "topic": topic, "encoding": "raw" },
                        "auth": { "sasl": { "mechanism": "PLAIN", "username": &kafka.username, "password": password() } },
                        "sending_queue": { "enabled": false }, "retry_on_failure": { "enabled": false },
                        "producer": { "required_acks": -1, "compression": "none" },
                    } },
                    "service": {
                        "telemetry": { "metrics": { "level": "none" }, "logs": { "level": "error" } },
                        "pipelines": { "logs": { "receivers": ["otlp"], "exporters": ["kafka"] } },
                    },
                });
                let file = write("otelcol.yaml", settings.to_string());
                listening(addr, spawn(program, &["--config".into(), file.into_os_string()], pinned))
            }
            Peer::External(external) => {
                Running { addr: external.address().0, admin: None, pid: external.pid, child: None }
            }
        }
    }
}

impl Iguazu {
    /// As it is compared: like the others it waits for Kafka and compresses nothing.
    pub fn new(encoding: &'static str, linger_ms: u32) -> Iguazu {
        Iguazu { encoding, reply: "acknowledged", linger_ms, compression: "none", envelope: "cloudevents" }
    }

    fn settings(&self, kafka: &Kafka, registry: &Registry, topic: &str) -> String {
        let Iguazu { encoding, reply, linger_ms, compression, envelope } = self;
        let schema = if *encoding == "avro" { format!("subject = \"{}\"\n", support::MESSAGE) } else { String::new() };
        format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [registries.main]\nurls = [\"{registry}\"]\n\
             [clusters.core]\nbrokers = [\"{kafka}\"]\nregistry = \"main\"\ncompression = \"{compression}\"\nlinger_ms = {linger_ms}\n\
             sasl = {{ mechanism = \"PLAIN\", username = \"{username}\", password_file = \"{password}\" }}\n\
             [events.\"{topic}\"]\ncluster = \"core\"\ntopic = \"{topic}\"\nencoding = \"{encoding}\"\nacks = \"all\"\nenvelope = \"{envelope}\"\nreply = \"{reply}\"\n{schema}",
            registry = registry.url,
            kafka = kafka.bootstrap,
            username = kafka.username,
            password = kafka.password_file.display(),
        )
    }
}

impl External {
    fn text(&self) -> String {
        let file = self.template.display();
        std::fs::read_to_string(&self.template).unwrap_or_else(|error| panic!("--body-template {file}: {error}"))
    }

    /// Where it is, and the path.
    fn address(&self) -> (SocketAddr, String) {
        let rest = self.url.strip_prefix("http://").expect("--peer is http://ADDRESS:PORT/PATH");
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut found = std::net::ToSocketAddrs::to_socket_addrs(host).expect("--peer names a host and a port");
        (found.next().expect("a host has an address"), format!("/{path}"))
    }
}

/// A registry with the benches' schema, in a process of its own.
pub struct Registry {
    pub url: String,
    child: Child,
}

impl Registry {
    pub fn start() -> Registry {
        let mut child = spawn(&std::env::current_exe().expect("our own path"), &["--serve-registry".into()], false);
        Registry { url: first_line(&mut child), child }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves the embedded registry with the benches' schema, until it is killed.
pub async fn serve_registry() {
    let registry = EmbeddedRegistry::start(Options::default()).await.expect("a free port");
    support::register(&registry.url()).await;
    register_literal(&registry.url()).await;
    println!("{}", registry.url());
    std::future::pending::<()>().await;
}

/// The subject of the Avro schema whose JSON is the payload as it is sent.
const LITERAL_SUBJECT: &str = "bench.literal";

async fn register_literal(url: &str) {
    let field = |(name, kind): (&str, serde_json::Value)| json!({ "name": name, "type": kind });
    let record = |name: &str, fields: &[(&str, serde_json::Value)]| {
        let fields: Vec<_> = fields.iter().cloned().map(field).collect();
        json!({ "type": "record", "name": name, "fields": fields })
    };
    let place = record("Place", &[("city", json!("string")), ("street", json!("string")), ("floor", json!("int"))]);
    let texts = ["deliveryId", "orderId", "courierId", "storeName", "appVersion", "createdMs", "status", "signature"];
    let mut fields: Vec<_> = texts.map(|name| (name, json!("string"))).into();
    fields.extend(
        [("attempt", "int"), ("totalCents", "long"), ("latitude", "double"), ("longitude", "double")]
            .map(|(name, kind)| (name, json!(kind))),
    );
    fields.push(("speed", json!("float")));
    fields.push(("tags", json!({ "type": "array", "items": "string" })));
    fields.push(("itemCounts", json!({ "type": "array", "items": "int" })));
    fields.push(("dropoff", place));
    fields.push(("attributes", json!({ "type": "map", "values": "string" })));
    let mut schema = record("BenchEvent", &fields);
    let optional = json!({ "name": "isPriority", "type": "boolean", "default": false });
    schema["fields"].as_array_mut().expect("it was made above").push(optional);
    let schema = Schema::new(SchemaType::Avro, schema.to_string());
    support::registry(url).register(LITERAL_SUBJECT, &schema).await.expect("the registry takes the schema");
}

fn text_of(event: &BenchEvent) -> &str {
    std::str::from_utf8(&event.json).expect("JSON is text")
}

fn lines(chunk: &[BenchEvent]) -> Vec<u8> {
    chunk.iter().map(|event| event.json.as_slice()).collect::<Vec<_>>().join(&b'\n')
}

/// Payloads as log records of the OpenTelemetry protocol.
fn otlp(chunk: &[BenchEvent]) -> Vec<u8> {
    let record = |event: &BenchEvent| json!({ "body": { "stringValue": text_of(event) } });
    let records: Vec<_> = chunk.iter().map(record).collect();
    json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": records }] }] }).to_string().into_bytes()
}

fn spawn(program: &Path, args: &[std::ffi::OsString], pinned: bool) -> Child {
    let mut command = if pinned { Command::new("taskset") } else { Command::new(program) };
    if pinned {
        // Replaces itself by the program, so that the process is the program's.
        command.args(["-c", "0"]).arg(program);
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
        panic!("{} does not start: {error}", program.display());
    })
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    line.trim().to_owned()
}

fn listening(addr: SocketAddr, child: Child) -> Running {
    let running = Running { addr, admin: None, pid: Some(child.id()), child: Some(child) };
    wait_for("the program listens", || std::net::TcpStream::connect(addr).ok());
    running
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}
