//! What the chart's page walks through, as far as it goes without Kubernetes: its commands are run as they stand there, and a proxy runs by
//! the configuration that Helm makes of its values. Names of topics, addresses and paths are this machine's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use iguazu::control::snapshot::Keys;
use serde_json::{Value, json};

use crate::images::kafka_tools;
use crate::support::kafka::{ADMIN, shared};
use crate::support::process::{Process, Signal, command};
use crate::support::tool;
use crate::support::{folder, unique, wait_for};

const PAGE: &str = include_str!("../../deploy/helm/iguazu/README.md");
/// What Helm makes of the page's values.
const RENDER: &str = include_str!("../golden/helm/events.yaml");

#[test]
fn whoever_follows_the_charts_page_has_the_first_event_in_kafka() {
    let (place, kafka) = (folder("chart"), shared());
    let brokers = kafka.sasl_brokers();
    let mut names: Vec<(String, String)> =
        ["iguazu.canary", "app_page_viewed", "app_order_placed"].map(|topic| (topic.to_owned(), unique(topic))).into();
    let numbered = (1..).map(|node| format!("kafka-{node}:9093"));
    names.extend(numbered.zip(brokers.split(',').map(str::to_owned)));
    let local = |text: &str| names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));

    let (user, password) = ADMIN;
    let login = format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config=org.apache.kafka.common.security.plain.\
         PlainLoginModule required username=\"{user}\" password=\"{password}\";\n"
    );
    std::fs::write(place.join("admin.properties"), login).expect("the folder is ours");
    let tools = kafka_tools(&place);
    let of_kafka = local(shell("**2. Kafka.**"));
    let (calls, before): (Vec<_>, Vec<_>) = of_kafka.lines().partition(|line| line.starts_with("kafka-"));
    run(&place, &before.join("\n"));
    // Each starts a JVM, and has the time of a command to itself.
    let login = before.iter().find(|line| line.starts_with("as_admin=")).expect("the page says how one logs in");
    for call in calls {
        run(&place, &format!("PATH='{}':$PATH\n{login}\n{call}", tools.display()));
    }
    run(&place, shell("**3. Secrets.**"));

    let new = shell("**4. A sender's key.**").trim();
    let words: Vec<_> = new.split_whitespace().skip(1).map(|word| word.trim_matches('\'')).collect();
    let made = tool::iguazu(&place, &words).printed();
    let (_, key) = made.split_once("Authorization: Bearer ").expect("the key is shown");
    std::fs::write(place.join("web.key"), key.lines().next().expect("it is on a line")).expect("the folder is ours");
    let hash = |text: &str| text.split('"').find(|word| word.starts_with("sha256:")).map(str::to_owned);
    let made_hash = (hash(RENDER).expect("a sender has one"), hash(&made).expect("it is shown"));
    let mut proxy = Proxy::start(&place, &[&names[..], &[made_hash]].concat());

    let send = shell("**7. The first event.**");
    let send = send.lines().find(|line| line.starts_with("curl ")).expect("it is sent by curl");
    let sent = run(&place, &send.replace("localhost:8080", &proxy.address()));
    let reply: Value = serde_json::from_str(&sent).expect("a reply is JSON");
    assert_eq!((&reply["succeeded"], &reply["reply"]), (&json!(1), &json!("acknowledged")), "{sent}");
    proxy.stop();

    let (topic, brokers) = (local("app_page_viewed"), kafka.brokers());
    let tail = ["tail", "app.page_viewed", "-n", "1", "--topic", &topic, "--brokers", &brokers];
    let there: Value = serde_json::from_str(&tool::iguazu(&place, &tail).printed()).expect("a record is shown as JSON");
    assert_eq!((&there["payload"], &there["sender"]), (&json!({"page": "/"}), &json!("web")), "{there}");
}

#[test]
fn the_public_key_that_the_charts_page_computes_is_the_one_that_proxies_need() {
    let place = folder("chart-keys");
    run(&place, shell("## The control plane"));
    let printed = run(&place, shell("**3.** The plane's public key"));
    let keys = Keys::open(&place.join("snapshot.pem")).expect("it is one that the plane takes");
    let public: Vec<_> = keys.public().iter().map(ToString::to_string).collect();
    assert_eq!(public, [printed.trim()]);
}

/// The first block of commands after these words of the page.
fn shell(after: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(after).unwrap_or_else(|| panic!("the page has no `{after}`"));
    let (_, rest) = rest.split_once("```sh\n").expect("commands follow");
    rest.split_once("```").expect("a block ends").0
}

fn run(place: &Path, lines: &str) -> String {
    let ended = tool::shell(place, &format!("set -e\n{lines}"));
    assert_eq!(ended.code, Some(0), "{lines}\n{}{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// A proxy by the configuration of the render.
struct Proxy {
    process: Process,
    place: PathBuf,
    ready: PathBuf,
}

impl Proxy {
    fn start(place: &Path, names: &[(String, String)]) -> Proxy {
        let at = |path: &str| place.join(path).display().to_string();
        let mut names = names.to_vec();
        names.extend([
            ("/run/secrets/tls".to_owned(), at("")),
            ("/run/secrets/kafka".to_owned(), at("")),
            ("/etc/iguazu/routes".to_owned(), at("")),
            ("/var/lib/iguazu".to_owned(), at("")),
            ("0.0.0.0:8080".to_owned(), "127.0.0.1:0".to_owned()),
            ("0.0.0.0:8081".to_owned(), "127.0.0.1:0".to_owned()),
            ("drain_delay_seconds = 5".to_owned(), "drain_delay_seconds = 0".to_owned()),
            // The brokers' listener with users is one without TLS here.
            ("\n[clusters.core.tls]\nca_file = \"/run/secrets/kafka/ca.crt\"\n".to_owned(), String::new()),
        ]);
        // The last first: what is longer holds what is shorter.
        let local = |text: String| names.iter().rev().fold(text, |text, (from, to)| text.replace(from, to));
        for file in ["iguazu.toml", "events.toml"] {
            std::fs::write(place.join(file), local(rendered(file))).expect("the folder is ours");
        }
        let ready = place.join("proxy.ready");
        let mut command = command(env!("CARGO_BIN_EXE_iguazu"));
        command.arg("proxy").arg(place.join("iguazu.toml")).arg("--ready-file").arg(&ready);
        let log = File::create(place.join("proxy.log")).expect("the folder is ours");
        command.stdout(Stdio::null()).stderr(Stdio::from(log));
        let mut proxy = Proxy { process: Process::spawn("proxy", command), place: place.to_owned(), ready };
        // What the probes of its pod ask: warm, and ready.
        for path in ["startup", "ready"] {
            let url = format!("http://{}/{path}", proxy.told("admin"));
            wait_for(&format!("/{path} of the proxy"), || {
                let asked = tool::iguazu(place, &["probe", &url]);
                if asked.code == Some(0) { Ok(()) } else { Err(format!("{asked:?}")) }
            });
        }
        proxy
    }

    fn told(&mut self, listener: &str) -> String {
        let told: Value = wait_for("addresses of the proxy", || {
            if let Some(status) = self.process.exit_status() {
                panic!("the proxy ended: {status}; see {}", self.place.display());
            }
            let text = std::fs::read_to_string(&self.ready).map_err(|e| e.to_string())?;
            serde_json::from_str(&text).map_err(|e| e.to_string())
        });
        told[listener].as_str().expect("it serves").to_owned()
    }

    /// Of its door, by the name that its certificate has.
    fn address(&mut self) -> String {
        self.told("http").replace("127.0.0.1", "localhost")
    }

    fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        assert!(status.success(), "the proxy ended: {status}; see {}", self.place.display());
    }
}

/// A file of the render's ConfigMaps.
fn rendered(file: &str) -> String {
    let (_, rest) =
        RENDER.split_once(&format!("\n  {file}: |\n")).unwrap_or_else(|| panic!("the render has no {file}"));
    let lines = rest.lines().take_while(|line| line.starts_with("    ") || line.trim().is_empty());
    lines.map(|line| format!("{}\n", line.trim())).collect()
}
