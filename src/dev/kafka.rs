//! A real Apache Kafka beside `iguazu dev`: one node, with users (SCRAM) and access rules.
//!
//! In: a folder with Kafka's jars, and a Java runtime. Out: a broker on free ports of loopback, and the login of its administrator.
//! Never: for production; on other than loopback; outlives this process in order. Its data is in the dev's folder, gone at its end.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;

use super::site::Login;

/// Name of the administrator; known to the broker by its file, so that nothing that is done to users locks it out.
pub const ADMIN: &str = "admin";

/// How long Kafka may take to format its storage, and then to answer; it takes some seconds.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How long an orderly stop may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Last bytes of its log that are told when it does not start.
const LOG_BYTES: usize = 2_000;

/// Where Kafka is to be found.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The folder with its jars.
    pub jars: PathBuf,
    /// The Java runtime.
    pub java: PathBuf,
}

/// Why there is no Kafka.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum KafkaError {
    #[error("{} holds none of Kafka's jars; `./deploy/dev.sh --kafka` fetches them", folder.display())]
    NoJars { folder: PathBuf },
    #[error("{} cannot be started; Kafka needs Java 17 or newer", java.display())]
    Java { java: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("no port of loopback is free")]
    Ports(#[source] io::Error),
    #[error("Kafka ended before it was ready; the end of its log:\n{log}")]
    Ended { log: String },
    #[error("Kafka is not ready after {} s; the end of its log:\n{log}", START_TIMEOUT.as_secs())]
    Slow { log: String },
}

/// A running Kafka; stopped when dropped.
#[derive(Debug)]
pub struct RealKafka {
    child: Child,
    port: u16,
    password_file: PathBuf,
}

impl RealKafka {
    /// Formats a new storage below a folder and starts a broker on it. Blocking, until it listens.
    pub fn start(installation: &Installation, folder: &Path) -> Result<RealKafka, KafkaError> {
        let jars = &installation.jars;
        let is_jar = |entry: io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|e| e.file_name().to_string_lossy().starts_with("kafka-server-"))
        };
        if !std::fs::read_dir(jars).is_ok_and(|mut entries| entries.any(is_jar)) {
            return Err(KafkaError::NoJars { folder: jars.clone() });
        }
        let home = folder.join("kafka");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| KafkaError::Write { path, source }
        };
        std::fs::create_dir_all(&home).map_err(failed(&home))?;
        let password = random();
        let password_file = home.join("admin-password");
        write_private(&password_file, &password).map_err(failed(&password_file))?;
        // Free now; another process may still take one in between, and then Kafka's log tells.
        let (port, controller) = two_free_ports().map_err(KafkaError::Ports)?;
        let settings = home.join("server.properties");
        write_private(&settings, &properties(&home, port, controller, &password)).map_err(failed(&settings))?;
        let logging = home.join("log4j2.properties");
        std::fs::write(&logging, LOGGING).map_err(failed(&logging))?;
        let log = home.join("log");

        let id = cluster_id();
        let mut format = java(installation, &home, "kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", &id, "--config"]).arg(&settings);
        let mut format = spawn(format, &log, &installation.java)?;
        let until = Instant::now() + START_TIMEOUT;
        wait(&mut format, &log, until, |ended| ended)?;

        let mut serve = java(installation, &home, "kafka.Kafka");
        serve.arg(&settings);
        let child = spawn(serve, &log, &installation.java)?;
        let mut kafka = RealKafka { child, port, password_file };
        let listens = || std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        wait(&mut kafka.child, &log, until, |ended| !ended && listens())?;
        Ok(kafka)
    }

    /// `host:port` of the listener with users and access rules: the only one that there is for clients.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The broker's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The administrator's login.
    pub fn login(&self) -> Login {
        let password_file = self.password_file.display().to_string();
        Login { mechanism: "PLAIN", username: ADMIN, password_file }
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        #[cfg(unix)]
        {
            // As ^C does it: Kafka closes its logs. What is left after a while is killed below.
            let pid = rustix::process::Pid::from_child(&self.child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let until = Instant::now() + STOP_TIMEOUT;
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
                std::thread::sleep(LOOK_EVERY);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a child to end well, or for what `is_ready` says of one that runs.
fn wait(child: &mut Child, log: &Path, until: Instant, is_ready: impl Fn(bool) -> bool) -> Result<(), KafkaError> {
    loop {
        let ended = match child.try_wait() {
            Ok(Some(status)) if !status.success() => return Err(KafkaError::Ended { log: end_of(log) }),
            Ok(Some(_)) => true,
            Ok(None) => false,
            Err(_) => return Err(KafkaError::Ended { log: end_of(log) }),
        };
        if is_ready(ended) {
            return Ok(());
        }
        if ended {
            return Err(KafkaError::Ended { log: end_of(log) });
        }
        if Instant::now() >= until {
            let _ = child.kill();
            let _ = child.wait();
            return Err(KafkaError::Slow { log: end_of(log) });
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn java(installation: &Installation, home: &Path, class: &str) -> Command {
    let mut command = Command::new(&installation.java);
    command.args(["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    // The JVM expands the star.
    command.arg(installation.jars.join("*"));
    command.arg(format!("-Dlog4j2.configurationFile={}", home.join("log4j2.properties").display())).arg(class);
    command
}

fn spawn(mut command: Command, log: &Path, java: &Path) -> Result<Child, KafkaError> {
    let failed = |source| KafkaError::Write { path: log.to_owned(), source };
    let file = File::options().create(true).append(true).open(log).map_err(failed)?;
    command.stdin(Stdio::null()).stdout(file.try_clone().map_err(failed)?).stderr(file);
    // A process group of its own: ^C at the terminal is for this process, which then stops Kafka in order.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.spawn().map_err(|source| KafkaError::Java { java: java.to_owned(), source })
}

fn end_of(log: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    let from = text.len().saturating_sub(LOG_BYTES);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[from..].trim().to_owned()
}

fn two_free_ports() -> io::Result<(u16, u16)> {
    let (one, other) = (TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    Ok((one.local_addr()?.port(), other.local_addr()?.port()))
}

fn random() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A UUID as Kafka writes it. Never one with a dash in front, which Kafka's tools take for a flag.
fn cluster_id() -> String {
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes());
    if text.starts_with('-') { cluster_id() } else { text }
}

pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    io::Write::write_all(&mut options.open(path)?, text.as_bytes())
}

/// Only what is worth reading when it does not start.
const LOGGING: &str = "rootLogger.level=WARN\nrootLogger.appenderRef.console.ref=console\n\
                       appender.console.type=Console\nappender.console.name=console\n\
                       appender.console.layout.type=PatternLayout\nappender.console.layout.pattern=[%d] %p %m (%c)%n\n";

/// One node that is broker and controller. The controller's listener is the only one without login; nobody is told of it.
fn properties(home: &Path, port: u16, controller: u16, password: &str) -> String {
    let login = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"{ADMIN}\" password=\"{password}\" user_{ADMIN}=\"{password}\";"
    );
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENTS://127.0.0.1:{port}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENTS:SASL_PLAINTEXT
inter.broker.listener.name=CLIENTS
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=SCRAM-SHA-512,SCRAM-SHA-256,PLAIN
listener.name.clients.plain.sasl.jaas.config={login}
listener.name.clients.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.clients.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{ADMIN};User:ANONYMOUS
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=2097152
num.network.threads=2
num.io.threads=2
",
        data = home.join("data").display(),
    )
}
