//! The configuration file: parse, check, refuse.
//!
//! In: one TOML file, and the secret files that it names. Out: a [`Config`] in which everything is checked, or *all*
//! problems at once, each with its key and line. Never: an environment variable, a default that depends on the machine
//! (but for `http.workers`), a secret in the file itself or in a problem.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::route::{Brake, EventType, Limits};

mod check;
mod http;
mod clusters;
mod librdkafka;
mod registries;
mod routes;
mod events;
mod senders;
mod schemas;
mod spool;
mod failed;
mod dead_letters;
mod telemetry;
mod names;
mod files;
mod change;
mod control;
mod reader;
mod asked;
mod reference;
mod nearest;

pub use change::{is_changed_cluster, is_changed_registry, restarts_for};
pub use check::{load, load_with_files, parse};
pub use control::{
    Certificate, Control, ControlConfig, IsFor, ManagedCluster, Oidc, Roles, Sink, SinkPlace, VaultSettings, is_for,
    load_control,
};
pub use failed::FOLDER as FAILED_FOLDER;
pub use files::Files;
pub use http::RESULT_BYTES;
pub use nearest::nearest;
pub(crate) use reader::quoted;
pub use reference::{explain, reference};
pub use routes::{
    Accepted, Document, DocumentKey, DocumentLimits, DocumentSender, DocumentWaiting, FORMAT as ROUTES_FORMAT, Good,
    Held, Merged, PublicKey, Refusal, Routes, Settings, Signature, Signed, SigningKey, Statement, accept, check_beside,
    check_event_type, digest, merge,
};
pub use schemas::{EventMessage, SCHEMAS_FILE, Schemas, events_of, load_schemas, parse_mapping};

/// Why a secret in the file itself is refused.
const NO_SECRETS_HERE: &str = "a secret must not stand here; put it into a file of its own and name that (`…_file`), so that this one can be shared";

/// A whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listener of the doors.
    pub http: Http,
    /// The listener of probes and metrics.
    pub admin: Admin,
    /// Kafka clusters by name.
    pub clusters: Vec<Cluster>,
    /// Schema registries by name.
    pub registries: Vec<Registry>,
    /// Event types; names are distinct.
    pub events: Vec<EventType>,
    /// Event types of a control plane that cannot be served yet, and what each waits for.
    pub waiting: BTreeMap<String, DocumentWaiting>,
    /// Senders; names and key hashes are distinct. None: everybody may send everything, unless they come from a control plane.
    pub senders: Vec<Sender>,
    /// The disk beside the producers. None: what Kafka does not take is in memory only.
    pub spool: Option<Spool>,
    /// The log on disk of what was accepted and then given up for good. None: it is counted only.
    pub failed: Option<Failed>,
    /// Where event types and senders come from. None: from this file; else from a control plane, and none stand here.
    pub routes: Option<Routes>,
    /// Revision of what a control plane sent that event types and senders are of; none before anything came.
    pub revision: Option<u64>,
    /// The file that mappings are taken from, if it is named.
    pub schemas: Option<Schemas>,
    /// How many dead letters of rejected events are kept, for each event type that has a topic for them.
    pub dead_letters: crate::produce::Sampling,
    /// How much is shown.
    pub telemetry: Telemetry,
    /// Folder for the schema snapshot and the last good routes. None: nothing is kept there.
    pub state_dir: Option<PathBuf>,
    /// How long start-up waits for everything to be warm before the proxy starts degraded.
    pub startup_wait: Duration,
    /// How often `latest` versions are looked up again.
    pub schema_refresh: Duration,
    /// What is allowed but looks like a mistake; for `iguazu check` and the log.
    pub warnings: Vec<Problem>,
    /// The files that it was made from.
    pub files: Files,
}

impl Config {
    /// Whether whoever sends must be known. A control plane that names no sender has let nobody in.
    pub fn asks_senders(&self) -> bool {
        !self.senders.is_empty() || (self.routes.is_some() && !self.http.unauthenticated)
    }
}

/// `[http]`: the listener of the doors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `address:port`; port 0 takes a free one.
    pub listen: std::net::SocketAddr,
    /// Certificate chain and key, PEM files.
    pub tls: Option<Tls>,
    /// Whether a listener on other than loopback may go without senders or TLS.
    pub unauthenticated: bool,
    /// Worker threads; each is a current-thread runtime. Default: the machine's cores.
    pub workers: usize,
    /// Most bytes of one body, as sent and after decompression.
    pub body_bytes_max: usize,
    /// Most events of one request.
    pub batch_events_max: usize,
    /// Most bytes of bodies being read or worked on, and of replies being written, over all requests.
    pub in_flight_bytes_max: usize,
    /// Most open connections.
    pub connections_max: usize,
    /// How long a body may pause between two chunks, and how long request headers may take.
    pub read_timeout: Duration,
    /// How long a request waits for acknowledgements.
    pub ack_timeout: Duration,
    /// How long a shutdown goes on as before, but for `/ready`, so that a load balancer sends no more.
    pub drain_delay: Duration,
    /// How long a shutdown may take from then on.
    pub drain: Duration,
}

/// A certificate of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// PEM file with the certificate chain.
    pub certificate_file: PathBuf,
    /// PEM file with the private key.
    pub key_file: PathBuf,
    /// PEM file of the authorities whose certificates callers may show; none: they show none.
    pub client_ca_file: Option<PathBuf>,
}

/// `[admin]`: the listener of `/live /ready /startup /metrics`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `address:port`; port 0 takes a free one.
    pub listen: std::net::SocketAddr,
}

/// `[telemetry]`: how much is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Telemetry {
    /// Event types that have metrics of their own.
    pub event_types_max: usize,
    /// Where traces go. None: nowhere.
    pub traces: Option<Traces>,
}

/// `[telemetry.traces]`: a collector of traces.
#[derive(Clone, Debug, PartialEq)]
pub struct Traces {
    /// The URL that takes OTLP over HTTP.
    pub endpoint: String,
    /// The share of requests without a trace context that are sampled.
    pub sample_ratio: f64,
    /// As what this process shows itself.
    pub service_name: String,
    /// The token by which the collector knows it.
    pub token: Option<Secret>,
    /// PEM file of trusted authorities; none: the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[clusters.NAME]`: one Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// `host:port` of the brokers to start from.
    pub brokers: Vec<String>,
    /// Name of the registry of its schemas; needed by event types with a subject.
    pub registry: Option<String>,
    /// How long a record waits for others to share its batch, lanes `standard` and `all`.
    pub linger: Duration,
    /// The same for the lane `slow`.
    pub slow_linger: Duration,
    /// Most bytes of records in memory per lane, headers included.
    pub buffer_bytes_max: usize,
    /// How long librdkafka tries to deliver a record before it is given up.
    pub message_timeout: Duration,
    /// How long records may wait while none is acknowledged before the cluster's breaker opens.
    pub breaker_open_after: Duration,
    /// How long it stays open before the cluster is asked whether it is back.
    pub breaker_retry_after: Duration,
    /// Topic for warm-up and canary records; none: no canary.
    pub canary_topic: Option<String>,
    /// Compression codec of batches: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    pub compression: String,
    /// TLS to the brokers.
    pub tls: Option<ClientTls>,
    /// SASL to the brokers.
    pub sasl: Option<Sasl>,
    /// Settings from the allow-list, passed to librdkafka as they are.
    pub librdkafka: Vec<(String, String)>,
}

/// TLS as a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// PEM file of trusted authorities; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our certificate, for mutual TLS.
    pub certificate_file: Option<PathBuf>,
    /// PEM file of its key.
    pub key_file: Option<PathBuf>,
}

/// SASL credentials; the secret was read from its file.
#[derive(Clone, PartialEq, Eq)]
pub enum Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    Password {
        /// The mechanism's name.
        mechanism: String,
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// `OAUTHBEARER` by client credentials.
    OAuth {
        /// Token endpoint.
        token_url: String,
        /// Client id.
        client_id: String,
        /// Client secret.
        client_secret: Secret,
        /// Scope to ask for.
        scope: Option<String>,
    },
}

impl std::fmt::Debug for Sasl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Sasl::Password { mechanism, username, .. } => write!(f, "Sasl({mechanism}, {username})"),
            Sasl::OAuth { token_url, client_id, .. } => write!(f, "Sasl(OAUTHBEARER, {token_url}, {client_id})"),
        }
    }
}

/// A secret read from a file. Its `Debug` form shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: String) -> Self {
        Secret(secret)
    }

    /// The secret itself; for the client that needs it, never for a log.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    /// Memory that was given back may be read by whoever gets it next.
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// `[spool]`: the disk beside the producers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spool {
    /// The folder; each cluster has a folder in it.
    pub folder: PathBuf,
    /// Most bytes on disk of each cluster.
    pub bytes_max: u64,
    /// How long what was written may wait for others to share its sync; zero: not at all.
    pub sync_interval: Duration,
    /// Whether the folder goes with the process, as a volume of a pod may: then what is in it at the end is lost.
    pub is_ephemeral: bool,
}

/// `[failed]`: the log on disk of what was accepted and then given up for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The folder; each cluster has a folder in it.
    pub folder: PathBuf,
    /// Most bytes on disk of each cluster.
    pub bytes_max: u64,
    /// Whether the file names the folder: then it must be usable.
    pub is_named: bool,
}

/// `[registries.NAME]`: one schema registry, Confluent REST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Its name.
    pub name: String,
    /// Base URLs, tried in order.
    pub urls: Vec<String>,
    /// How to log in.
    pub auth: Option<RegistryAuth>,
    /// PEM file of trusted authorities; none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Limit of one try.
    pub timeout: Duration,
    /// How often an unknown answer is asked again at most.
    pub negative_ttl: Duration,
}

impl Registry {
    /// A registry without login, with the settings that a configuration has by default.
    pub fn at(url: &str) -> Registry {
        Registry {
            name: url.to_owned(),
            urls: vec![url.trim_end_matches('/').to_owned()],
            auth: None,
            ca_file: None,
            timeout: Duration::from_secs(5),
            negative_ttl: Duration::from_secs(30),
        }
    }
}

/// How to log in to a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryAuth {
    /// HTTP basic.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: Secret,
    },
    /// HTTP bearer token.
    Bearer(Secret),
}

/// `[senders.NAME]`: who may send what.
#[derive(Clone, Debug, PartialEq)]
pub struct Sender {
    /// Its name: default source of its events, header `iguazu-sender`, label of metrics.
    pub name: String,
    /// SHA-256 of its API keys; more than one while a key is rotated.
    pub key_hashes: Vec<[u8; 32]>,
    /// Event names it may send; `*` at the end of one matches any rest.
    pub events: Vec<String>,
    /// Limits over all its event types.
    pub limits: Limits,
    /// How much of what it sends operators let through for now.
    pub brake: Brake,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 when it is about no line.
    pub line: usize,
    /// Dotted key, `events."a.b".topic`.
    pub key: String,
    /// What is wrong and what would be right; lowercase, no full stop.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.line, self.key.as_str()) {
            (0, "") => write!(f, "{}", self.message),
            (0, key) => write!(f, "{key}: {}", self.message),
            (line, "") => write!(f, "line {line}: {}", self.message),
            (line, key) => write!(f, "line {line}: {key}: {}", self.message),
        }
    }
}
