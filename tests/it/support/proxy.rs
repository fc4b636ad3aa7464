//! The proxy under test: the real binary with a written configuration, its doors, its metrics, its log, its end.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde::Deserialize;
use serde_json::Value;

use super::http::{self, Reply};
use super::kafka::Cluster;
use super::process::{Process, Signal, command};
use super::registry::Registry;
use super::{folder, wait_for, wait_until};

/// A running `iguazu proxy`. End it with [`Proxy::finish`]: that is where the ledger and the log are checked.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    addresses: Addresses,
    client: reqwest::Client,
    log: Arc<Mutex<Vec<LogLine>>>,
    log_reader: Option<JoinHandle<()>>,
    expected: Vec<String>,
    folder: PathBuf,
    finished: bool,
    told_to_stop: bool,
}

/// What the proxy writes into its `--ready-file` once it listens.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Addresses {
    http: SocketAddr,
    admin: SocketAddr,
}

/// One line of the proxy's log.
#[derive(Clone, Debug, Deserialize)]
pub struct LogLine {
    /// `ERROR`, `WARN`, `INFO`, …
    pub level: String,
    /// The fixed sentence under `message`, and the fields; time and target among them.
    #[serde(flatten)]
    pub fields: BTreeMap<String, Value>,
}

impl LogLine {
    /// The sentence.
    pub fn message(&self) -> &str {
        self.fields.get("message").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn is_trouble(&self) -> bool {
        self.level == "WARN" || self.level == "ERROR"
    }
}

/// The tables that most configurations begin with: listeners on free ports, the cluster `core`, the registry `main`. The test
/// adds its `[events]`.
pub fn config(cluster: &Cluster, registry: &Registry) -> String {
    config_with(&cluster.brokers(), &registry.url())
}

/// [`config`] for brokers (`host:port,…`) and a registry by address, such as a gate's.
pub fn config_with(brokers: &str, registry: &str) -> String {
    let brokers: Vec<_> = brokers.split(',').collect();
    format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n\n[admin]\nlisten = \"127.0.0.1:0\"\n\n\
         [clusters.core]\nbrokers = {brokers:?}\nregistry = \"main\"\n\n\
         [registries.main]\nurls = [{registry:?}]\n\n"
    )
}

/// A configuration with further lines in one of its tables.
pub fn with_settings(config: &str, table: &str, settings: &str) -> String {
    let header = format!("[{table}]\n");
    assert!(config.contains(&header), "no table {table} in {config}");
    config.replacen(&header, &format!("{header}{settings}\n"), 1)
}

/// A table `[events."NAME"]` on the cluster `core`; `settings` are further lines.
pub fn event_type(name: &str, topic: &str, encoding: &str, settings: &str) -> String {
    format!("[events.{name:?}]\ncluster = \"core\"\ntopic = {topic:?}\nencoding = {encoding:?}\n{settings}\n\n")
}

impl Proxy {
    /// Starts the proxy and waits until it is ready.
    pub async fn start(config: &str) -> Proxy {
        let mut proxy = Proxy::start_unready(config);
        proxy.await_ready().await;
        proxy
    }

    /// Starts the proxy and waits until it listens, ready or not.
    pub fn start_unready(config: &str) -> Proxy {
        Proxy::start_in(folder("proxy"), config)
    }

    /// Starts the proxy in a folder that another one ran in: relative paths of the configuration (`state_dir`) meet again.
    pub fn start_in(folder: PathBuf, config: &str) -> Proxy {
        Proxy::start_by(command(env!("CARGO_BIN_EXE_iguazu")), folder, config)
    }

    /// The same, with files that cannot grow over so many KiB, as on a disk that is full; [`Proxy::enlarge_files`] ends it.
    pub fn start_with_small_files(folder: PathBuf, config: &str, kib: u32) -> Proxy {
        let mut shell = command("sh");
        // `sh` counts in blocks of 512 bytes. A process that ignores the signal gets an error instead.
        let limit = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", 2 * kib);
        shell.args(["-c", &limit, "sh", env!("CARGO_BIN_EXE_iguazu")]);
        Proxy::start_by(shell, folder, config)
    }

    /// Its files may grow again.
    pub fn enlarge_files(&self) {
        let status = Command::new("prlimit").args(["--pid", &self.pid().to_string(), "--fsize=unlimited:"]).status();
        assert!(status.as_ref().is_ok_and(|status| status.success()), "prlimit: {status:?}");
    }

    fn start_by(mut command: Command, folder: PathBuf, config: &str) -> Proxy {
        let (file, ready) = (folder.join("iguazu.toml"), folder.join("ready.json"));
        std::fs::write(&file, config).expect("the folder is ours");
        let _ = std::fs::remove_file(&ready);
        command.current_dir(&folder).arg("proxy").arg(&file).arg("--ready-file").arg(&ready);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::spawn("iguazu proxy", command);
        let log = Arc::new(Mutex::new(Vec::new()));
        let log_reader = read_log(&mut process, folder.join("log"), Arc::clone(&log));
        let addresses = wait_for("proxy listens", || {
            if let Some(status) = process.exit_status() {
                let text = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                panic!("the proxy ended ({status}) before it listened:\n{text}");
            }
            let text = std::fs::read_to_string(&ready).map_err(|e| format!("{}: {e}", ready.display()))?;
            serde_json::from_str(&text).map_err(|e| e.to_string())
        });
        let client = http::client();
        let (expected, finished, told_to_stop) = (Vec::new(), false, false);
        Proxy {
            process,
            addresses,
            client,
            log,
            log_reader: Some(log_reader),
            expected,
            folder,
            finished,
            told_to_stop,
        }
    }

    /// Declares that log lines of level `warn` or `error` whose sentence or fields contain this text are part of the test.
    pub fn expect_log(&mut self, text: &str) {
        // What a client has errors of for long enough, its breaker opens for.
        let follows = text.contains("kafka client reports an error").then_some("breaker opened");
        self.expected.extend([text].into_iter().chain(follows).map(str::to_owned));
    }

    /// Waits until `/ready` answers 200.
    pub async fn await_ready(&mut self) {
        wait_until("proxy is ready", async || {
            if let Some(status) = self.process.exit_status() {
                panic!("the proxy ended: {status}");
            }
            let reply = self.admin("/ready").await;
            if reply.status == 200 { Ok(()) } else { Err(format!("{} {}", reply.status, reply.text())) }
        })
        .await;
    }

    /// Address of the doors.
    pub fn http(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Address of probes and metrics.
    pub fn admin_address(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// Base URL of the doors.
    pub fn url(&self) -> String {
        format!("http://{}", self.addresses.http)
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that there ever was, in bytes.
    pub fn resident_peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the proxy runs");
        let kib = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok()).expect("Linux says it in kB") * 1024
    }

    /// A request to a door, for what the shorter methods do not do.
    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().expect("a method"), format!("{}{path}", self.url()))
    }

    /// Posts a body to a door; panics when there is no reply.
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request = self.request("POST", path).header("content-type", content_type).body(body);
        http::send(request).await.unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    /// Posts JSON to `/v1/events`: an event, or an array of them.
    pub async fn send(&self, events: &Value) -> Reply {
        self.post("/v1/events", "application/json", events.to_string()).await
    }

    /// Gets a path of the admin listener.
    pub async fn admin(&self, path: &str) -> Reply {
        let request = self.client.get(format!("http://{}{path}", self.addresses.admin));
        http::send(request).await.unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// The samples of `/metrics`.
    pub async fn metrics(&self) -> Vec<Sample> {
        samples(&self.admin("/metrics").await.text())
    }

    /// The ledger as `/metrics` shows it, summed over all event types and clusters.
    pub async fn ledger(&self) -> Ledger {
        Ledger::of(&self.metrics().await, |_| true)
    }

    /// The ledger of one event type.
    pub async fn ledger_of(&self, event: &str) -> Ledger {
        Ledger::of(&self.metrics().await, |sample| sample.labels.get("event").is_some_and(|label| label == event))
    }

    /// Waits until nothing is in memory; the ledger then. `/ledger` must say that the law holds.
    pub async fn settled(&self) -> Ledger {
        let ledger = wait_until("events in memory are settled", async || {
            let ledger = self.ledger().await;
            if ledger.in_memory == 0 { Ok(ledger) } else { Err(format!("{ledger:?}")) }
        })
        .await;
        let statement = self.admin("/ledger").await.json();
        assert_eq!(statement["holds"], Value::Bool(true), "{statement}");
        ledger
    }

    /// The log so far.
    pub fn log(&self) -> Vec<LogLine> {
        self.log.lock().expect("no code panics while it holds this lock").clone()
    }

    /// `SIGTERM`, without waiting for the end: for what must happen meanwhile.
    pub fn terminate(&mut self) {
        self.told_to_stop = true;
        self.process.signal(Signal::TERM);
    }

    /// `SIGHUP`: read your configuration again.
    pub fn hang_up(&mut self) {
        self.process.signal(Signal::HUP);
    }

    /// Puts another configuration in the place of its file, at once and whole. It sees that by itself.
    pub fn rewrite(&self, config: &str) {
        let file = self.folder.join("next.toml");
        std::fs::write(&file, config).expect("the folder is ours");
        std::fs::rename(&file, self.folder.join("iguazu.toml")).expect("the folder is ours");
    }

    /// [`Proxy::rewrite`], and waits until it is in force.
    pub async fn change_to(&self, config: &str) {
        let before = self.reloads("applied").await;
        self.rewrite(config);
        self.await_reloads("applied", before + 1).await;
    }

    /// How many configurations it read again with this result: `applied` or `refused`.
    pub async fn reloads(&self, result: &str) -> u64 {
        let samples = self.metrics().await;
        let found = samples.iter().find(|sample| {
            sample.name == "iguazu_config_reloads_total"
                && sample.labels.get("result").is_some_and(|label| label == result)
        });
        found.expect("both results are shown").value as u64
    }

    /// Waits until it read its configuration again so many times with this result.
    pub async fn await_reloads(&self, result: &str, count: u64) {
        wait_until("the configuration is read again", async || match self.reloads(result).await {
            reloads if reloads >= count => Ok(()),
            reloads => Err(format!("{reloads} {result}: {}", self.admin("/ready").await.text())),
        })
        .await;
    }

    /// `kill -9`: what it had in memory is gone, so the ledger is not checked; the log is.
    pub fn kill(mut self) {
        self.process.kill();
        self.finished = true;
        self.check_log();
    }

    /// Ends the proxy with `SIGTERM`, unless [`Proxy::terminate`] has, and checks what every test must check: it exits with 0,
    /// its last word is a ledger in which every event is accounted for and none is lost or in memory, it logged no warning or
    /// error that was not expected, and its ready file is gone. The ledger.
    pub fn finish(mut self) -> Ledger {
        self.finished = true;
        if self.process.exit_status().is_none() {
            println!("the proxy held at most {} MiB", self.resident_peak_bytes() >> 20);
        }
        // Told a second time it would hurry.
        if !self.told_to_stop {
            self.process.signal(Signal::TERM);
        }
        let status = self.process.wait();
        self.check_log();
        assert!(status.success(), "the proxy ended with {status}; its log is {}", self.folder.join("log").display());
        assert!(!self.folder.join("ready.json").exists(), "its ready file points to where nobody listens");
        let ledger = self.log().iter().rev().find_map(Ledger::said_in);
        let ledger = ledger.expect("the proxy logs its ledger at the end: an info line with the field `received`");
        ledger.check();
        assert_eq!(ledger.in_memory, 0, "a stopped proxy has nothing in memory: {ledger:?}");
        ledger
    }

    fn check_log(&mut self) {
        self.log_reader.take().expect("the log is checked once").join().expect("the log reader does not panic");
        let mut unexpected = String::new();
        for line in self.log().iter().filter(|line| line.is_trouble()) {
            let text = serde_json::to_string(&line.fields).expect("it was JSON");
            if !self.expected.iter().any(|expected| text.contains(expected.as_str())) {
                writeln!(unexpected, "{} {text}", line.level).expect("a String takes everything");
            }
        }
        assert!(unexpected.is_empty(), "the proxy logged what the test does not expect:\n{unexpected}");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the proxy's log is {}", self.folder.join("log").display());
        } else {
            assert!(self.finished, "a test ends its proxy with `finish` or `kill`");
        }
    }
}

/// Collects the log lines, and writes them to a file for whoever reads up a failure. A line that is not JSON counts as an
/// error: a panic's message, or a library that prints.
pub(super) fn read_log(process: &mut Process, file: PathBuf, log: Arc<Mutex<Vec<LogLine>>>) -> JoinHandle<()> {
    use std::io::Write as _;
    let pipe = process.child().stderr.take().expect("stderr is a pipe");
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).expect("the folder is ours");
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = writeln!(file, "{line}");
            let parsed = serde_json::from_str(&line).unwrap_or_else(|_| LogLine {
                level: "ERROR".to_owned(),
                fields: BTreeMap::from([("message".to_owned(), Value::String(line))]),
            });
            log.lock().expect("no code panics while it holds this lock").push(parsed);
        }
    })
}

/// A reading of the ledger; all numbers are events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Read out of a request.
    pub received: u64,
    /// Found in the spool at start.
    pub recovered: u64,
    /// Acknowledged by Kafka.
    pub delivered: u64,
    /// Refused in the reply.
    pub rejected: u64,
    /// Accepted and given up for good.
    pub failed: u64,
    /// Of whose fate nothing is known.
    pub lost: u64,
    /// In a producer's buffer.
    pub in_memory: u64,
    /// In the spool.
    pub in_spool: u64,
}

impl Ledger {
    /// The law: every event that came in is accounted for, and none is lost.
    pub fn check(&self) {
        let Ledger { received, recovered, delivered, rejected, failed, lost, in_memory, in_spool } = self;
        assert_eq!(
            received + recovered,
            delivered + rejected + failed + lost + in_memory + in_spool,
            "not every event is accounted for: {self:?}"
        );
        assert_eq!(*lost, 0, "events are lost: {self:?}");
    }

    /// Summed over the labels of the samples that are wanted; rejected and failed are split by code.
    fn of(samples: &[Sample], wanted: impl Fn(&Sample) -> bool) -> Ledger {
        let sum = |name: &str| {
            let values =
                samples.iter().filter(|sample| sample.name == name && wanted(sample)).map(|sample| sample.value);
            values.sum::<f64>() as u64
        };
        Ledger {
            received: sum("iguazu_events_received_total"),
            recovered: sum("iguazu_events_recovered_total"),
            delivered: sum("iguazu_events_delivered_total"),
            rejected: sum("iguazu_events_rejected_total"),
            failed: sum("iguazu_events_failed_total"),
            lost: sum("iguazu_events_lost_total"),
            in_memory: sum("iguazu_events_in_memory"),
            in_spool: sum("iguazu_events_in_spool"),
        }
    }

    /// The sum that the proxy logs when it ends.
    fn said_in(line: &LogLine) -> Option<Ledger> {
        let field = |name: &str| line.fields.get(name).and_then(Value::as_u64);
        Some(Ledger {
            received: field("received")?,
            recovered: field("recovered")?,
            delivered: field("delivered")?,
            rejected: field("rejected")?,
            failed: field("failed")?,
            lost: field("lost")?,
            in_memory: field("in_memory")?,
            in_spool: field("in_spool")?,
        })
    }
}

/// One line of `/metrics`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Reads the Prometheus text format; label values may hold anything but a quote.
pub fn samples(text: &str) -> Vec<Sample> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) =
            series.split_once('{').map_or((series, ""), |(name, rest)| (name, rest.trim_end_matches('}')));
        let mut parts = labels.split('"');
        let mut map = BTreeMap::new();
        while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
            map.insert(key.trim_matches([',', '=']).to_owned(), value.to_owned());
        }
        Some(Sample { name: name.to_owned(), labels: map, value: value.parse().ok()? })
    };
    lines.map(|line| parse(line).unwrap_or_else(|| panic!("not a metric: {line}"))).collect()
}
