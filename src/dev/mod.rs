//! What `iguazu dev` and tests run on one machine instead of a platform: brokers, a registry, sample events, the proxy.
//!
//! In: Protobuf files or a configuration. Out: a [`Dev`], everything on loopback. Never: for production.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::config;
use crate::outcome::Balance;
use crate::produce::settings;
use crate::proxy::{Extras, Proxy, SiteReply, StartError};
use crate::route::EventType;
use crate::schema::protos::{ProtoError, ProtoFiles};
use crate::schema::repository::Repository;
use crate::schema::repository::merge::{self, MergeError};
use crate::schema::{Registry, RegistryError};

pub mod brokers;
pub mod admin;
pub mod kafka;
pub mod cluster;
pub mod control;
pub mod registry;
pub mod read_back;
pub mod window;
mod samples;
pub mod example;
pub mod example_schema;
pub mod site;
pub mod client;
pub mod trust;
pub mod decode;
pub mod seen;
pub mod rejected;
pub mod pages;
pub mod screen;
pub mod plan;
pub mod demo;

use brokers::BrokersError;
use cluster::Cluster;
use control::DevControl;
use decode::{Decoder, DecoderError};
use pages::{Page, Pages};
use registry::EmbeddedRegistry;
use rejected::Rejected;
use seen::{Seen, SeenError};
use site::{Addresses, SiteFile};

pub use site::SITE_FILE;

/// Partitions of each topic: enough to see keys spread.
const PARTITIONS: i32 = 3;

/// How long everything may take to become ready; it takes a fraction of a second.
const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Folders with Protobuf files; none: the samples.
    pub protos: Vec<PathBuf>,
    /// A configuration whose event types are served instead of one for each message.
    pub config: Option<PathBuf>,
    /// Port of the doors; 0 takes a free one.
    pub port: u16,
    /// Port of the probes; 0 takes a free one.
    pub admin_port: u16,
    /// Port of the management API; 0 takes a free one.
    pub control_port: u16,
    /// The proxy serves what the management plane has, and no event types of its own.
    pub self_serve: bool,
    /// A real Kafka in place of the embedded brokers.
    pub kafka: Option<kafka::Installation>,
}

/// A running dev.
#[derive(Debug)]
pub struct Dev {
    /// Where its parts are.
    pub addresses: Addresses,
    /// Its event types, and the message of those that have a schema.
    pub events: Vec<DevEvent>,
    /// Settings of the user's configuration that do not apply here.
    pub left_out: Vec<String>,
    /// What it answers beside the proxy.
    pub pages: Arc<Pages>,
    config: toml::Table,
    proxy: Proxy,
    control: DevControl,
    registry: EmbeddedRegistry,
    // Dropped in this order: the proxy was stopped before.
    runtime: tokio::runtime::Runtime,
    cluster: Cluster,
    /// Its files; removed at the end, when nothing writes there any more.
    pub folder: Folder,
}

/// An event type of a dev.
#[derive(Clone, Debug)]
pub struct DevEvent {
    /// Its settings.
    pub event_type: EventType,
    /// Its message; none without a schema.
    pub message: Option<MessageDescriptor>,
}

/// Why a dev does not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum DevError {
    #[error("port {port} is taken; choose another one with `{flag} N`, or a free one with `{flag} 0`")]
    PortTaken { port: u16, flag: &'static str },
    #[error(transparent)]
    Protos(#[from] ProtoError),
    #[error("{text}")]
    Config { text: String },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Brokers(#[from] BrokersError),
    #[error(transparent)]
    Kafka(#[from] kafka::KafkaError),
    #[error("Kafka does not do what it is asked: {what}")]
    Admin { what: String },
    #[error("the embedded registry cannot be started")]
    Registry(#[source] std::io::Error),
    #[error(transparent)]
    RegistryClient(#[from] RegistryError),
    #[error("{text}")]
    Schemas { text: String },
    #[error(transparent)]
    Register(#[from] Box<MergeError>),
    #[error(transparent)]
    Seen(#[from] SeenError),
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    #[error("cannot start a runtime")]
    Runtime(#[source] std::io::Error),
    #[error("the management plane cannot be started")]
    Node(#[from] crate::control::node::StartError),
    #[error("the management plane does not do what it is asked: {what}")]
    Control { what: String },
    #[error("the proxy cannot be started")]
    Proxy(#[from] StartError),
    #[error("not everything is ready: {}", reasons.join("; "))]
    NotReady { reasons: Vec<String> },
}

impl DevError {
    /// Whether arguments or files that the user gave are the cause.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            DevError::PortTaken { .. }
                | DevError::Protos(_)
                | DevError::Config { .. }
                | DevError::Schemas { .. }
                | DevError::Kafka(kafka::KafkaError::NoJars { .. } | kafka::KafkaError::Java { .. })
        )
    }
}

impl Dev {
    /// Starts everything and waits until it is ready. Blocking; not from within a runtime.
    pub fn start(options: &Options) -> Result<Dev, DevError> {
        refuse_taken(options.port, "--port")?;
        refuse_taken(options.admin_port, "--admin-port")?;
        refuse_taken(options.control_port, "--control-port")?;
        let files = match options.protos.is_empty() {
            true => samples::files(),
            false => ProtoFiles::under(&options.protos)?,
        };
        let pool = files.compile()?;
        let folder = Folder::new()?;
        let cluster = Cluster::start(options.kafka.as_ref(), &folder.path)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("dev")
            .enable_all()
            .build()
            .map_err(DevError::Runtime)?;
        let registry_options = registry::Options { folder: Some(folder.path.clone()), ..Default::default() };
        let registry = runtime.block_on(EmbeddedRegistry::start(registry_options)).map_err(DevError::Registry)?;
        let mut addresses = Addresses {
            http: loopback(options.port).to_string(),
            admin: loopback(options.admin_port).to_string(),
            brokers: cluster.bootstrap(),
            registry: registry.url(),
            login: cluster.login(),
            control: String::new(),
        };
        let (mut config, left_out) = configuration(options, &files, &pool, &addresses)?;
        let mut checked = parse(&config)?;

        let topics = topics(&checked);
        let mut readers = Vec::new();
        let mut admins = BTreeMap::new();
        for named in &checked.clusters {
            let admin = cluster.admin(named)?;
            let of_canary = named.canary_topic.iter().cloned();
            let wanted: Vec<_> = topics.iter().cloned().chain(of_canary).collect();
            runtime.block_on(cluster::create_topics(&*admin, &wanted))?;
            readers = settings::connection(named);
            admins.insert(named.name.clone(), admin);
        }
        runtime.block_on(register(&checked, &files))?;
        let port = loopback(options.control_port);
        let control = DevControl::start(port, &config, &cluster, admins, &folder.path, &runtime)?;
        addresses.control = control.address.to_string();
        if options.self_serve {
            site::serve_control(&mut config, control.routes(), &folder.path);
            checked = parse(&config)?;
        }
        let seen = Seen::start(&readers, &topics, PARTITIONS)?;
        let decoder = Decoder::new(checked.registries.first(), Vec::new())?;
        let event_types = checked.events.clone();
        let rejected = Arc::new(Rejected::default());
        let pages = Arc::new(Pages::new(seen, Arc::clone(&rejected), decoder, event_types.clone()));
        let proxy = Proxy::start_with(checked, extras(&pages, rejected))?;
        proxy.wait_ready(READY_TIMEOUT).map_err(|reasons| DevError::NotReady { reasons })?;

        addresses.http = proxy.http_addr().to_string();
        addresses.admin = proxy.admin_addr().to_string();
        site::settle(&mut config, &addresses);
        let events = event_types.into_iter().map(|event_type| {
            let name = event_type.message.as_ref().or(event_type.subject.as_ref());
            let message = name.and_then(|name| pool.get_message_by_name(name));
            DevEvent { event_type, message }
        });
        let events = events.collect();
        Ok(Dev { addresses, events, left_out, pages, config, proxy, control, registry, runtime, cluster, folder })
    }

    /// Writes [`SITE_FILE`] into a folder, or a file of its own where another dev runs there; it is removed when what comes
    /// back is dropped.
    pub fn write_site(&self, folder: &Path) -> std::io::Result<SiteFile> {
        SiteFile::write(folder, &self.config, self.proxy.http_addr().port())
    }

    /// Tells `iguazu ctl` in a folder where the management API is; the file is removed when what comes back is dropped.
    pub fn write_ctl_site(&self, folder: &Path) -> std::io::Result<SiteFile> {
        SiteFile::write_ctl(folder, &self.addresses.control, &self.control.token_file)
    }

    /// Its management plane.
    pub fn control(&self) -> &DevControl {
        &self.control
    }

    /// Its Kafka.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Stops everything, the proxy first, and gives its ledger.
    pub fn stop(self) -> Balance {
        // The proxy asks the management plane, so it goes first.
        let balance = self.proxy.stop();
        self.control.stop();
        self.runtime.block_on(self.registry.stop());
        balance
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// What the proxy of a dev does beside: `/dev/…` on its own port, and remembering what it refused.
fn extras(pages: &Arc<Pages>, rejected: Arc<Rejected>) -> Extras {
    let pages = Arc::clone(pages);
    Extras {
        watch: Some(Box::new(move |event, id, error| rejected.note(event, id, error.code, &error.message))),
        site: Some(Arc::new(move |method, target| {
            let (path, query) = target.split_once('?').unwrap_or((target, ""));
            let Page { status, body } = pages.answer(method, path, query);
            SiteReply { status, body }
        })),
        file: None,
    }
}

/// Before anything is started. Another process may still take it in between; then the proxy tells.
fn refuse_taken(port: u16, flag: &'static str) -> Result<(), DevError> {
    match TcpListener::bind(loopback(port)) {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(DevError::PortTaken { port, flag }),
        // Any other reason is told when the proxy binds.
        _ => Ok(()),
    }
}

fn configuration(
    options: &Options,
    files: &ProtoFiles,
    pool: &DescriptorPool,
    addresses: &Addresses,
) -> Result<(toml::Table, Vec<String>), DevError> {
    if options.self_serve {
        return Ok((site::from_messages(&[], addresses), Vec::new()));
    }
    let Some(path) = &options.config else {
        return Ok((site::from_messages(&files.events(pool)?, addresses), Vec::new()));
    };
    let wrong = |what: String| DevError::Config { text: format!("{}: {what}", path.display()) };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    Ok(site::from_config(table, addresses))
}

fn parse(config: &toml::Table) -> Result<config::Config, DevError> {
    config::parse(&config.to_string(), Path::new("")).map_err(|problems| {
        // Lines are those of the moved text, which nobody has seen.
        let told = problems.into_iter().map(|problem| config::Problem { line: 0, ..problem }.to_string());
        DevError::Config { text: told.collect::<Vec<_>>().join("\n") }
    })
}

/// Every topic of an event that the configuration names.
fn topics(config: &config::Config) -> Vec<String> {
    let mut topics: Vec<_> = config.events.iter().map(|event_type| event_type.topic.clone()).collect();
    topics.sort();
    topics.dedup();
    topics
}

async fn register(config: &config::Config, files: &ProtoFiles) -> Result<(), DevError> {
    // Every registry of a configuration is the embedded one.
    let Some(settings) = config.registries.first() else { return Ok(()) };
    let registry = Registry::new(&config::Registry { negative_ttl: Duration::ZERO, ..settings.clone() })?;
    let repository = Repository::new(files.clone(), config::events_of(config, &settings.name))?;
    let entries = repository.entries().map_err(|faults| {
        let told: Vec<_> =
            faults.iter().map(|fault| format!("{}: {}; {}", fault.path, fault.reason, fault.fix)).collect();
        DevError::Schemas { text: told.join("\n") }
    })?;
    merge::merge(&registry, &entries, None, |_| Ok(())).await.map_err(Box::new)?;
    Ok(())
}

/// A folder of this dev's own, removed when it is dropped.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
}

impl Folder {
    fn new() -> Result<Folder, DevError> {
        let path = std::env::temp_dir().join(format!("iguazu-dev-{}", uuid::Uuid::now_v7()));
        let failed = |source| DevError::Write { path: path.clone(), source };
        std::fs::create_dir(&path).map_err(failed)?;
        Ok(Folder { path })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// An error and what caused it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some libraries repeat their cause in their own message.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
