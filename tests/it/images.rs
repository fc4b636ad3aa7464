//! What is deployed, as far as it goes without Docker and Kubernetes: the steps of the image, the services of Compose as processes of
//! this machine, and what Helm makes of the chart.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::support::kafka::{java, python};
use crate::support::process::{Process, Signal, command};
use crate::support::tool::{self, Ended};
use crate::support::{fetched, folder, http, long, ports, wait_for, wait_until};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const IGUAZU: &str = env!("CARGO_BIN_EXE_iguazu");

#[test]
fn the_recorded_renders_of_the_chart_are_fresh_and_as_kubernetes_and_we_want_them() {
    let ended = script("tests/helm/chart.py", &["check", "--iguazu", IGUAZU]);
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "ok"), "{}", ended.stderr);
}

#[test]
fn helm_renders_and_refuses_what_is_recorded() {
    if !long() {
        return;
    }
    let helm = fetched("helm/helm");
    let ended = script("tests/helm/chart.py", &["render", "--helm", text(&helm)]);
    assert_eq!((ended.code, ended.stdout.trim()), (Some(0), "ok"), "{}", ended.stderr);
}

// The image is one of Linux, and so is what its steps find.
#[cfg(target_os = "linux")]
#[test]
fn the_steps_of_the_dockerfile_make_a_root_that_a_proxy_runs_in() {
    let (place, hadolint) = (folder("image"), fetched("venv/bin/hadolint"));
    let scratch = place.join("scratch");
    let how: &[&str] = if long() { &["--long"] } else { &["--binary", IGUAZU] };
    let arguments = [&[text(&scratch), "--hadolint", text(&hadolint)], how].concat();
    let ended = script("tests/images/dockerfile.py", &arguments);
    // Hundreds of megabytes that nobody reads.
    let _ = std::fs::remove_dir_all(&scratch);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

/// Brokers by `deploy/kafka/broker.properties`, topics and users by `deploy/kafka/first-run.sh`, proxy and control plane by
/// `deploy/compose/config`, all by what `deploy/compose.yaml` says of them; their names and paths are this machine's.
#[tokio::test(flavor = "multi_thread")]
async fn the_services_of_compose_work_together() {
    let compose = checked_compose();
    let place = folder("compose");
    let secrets = place.join("secrets");
    let made = tool::shell(&place, &format!("{ROOT}/deploy/compose/secrets.sh '{}'", text(&secrets)));
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let site = Site::new(place, &secrets);

    let _brokers = start_brokers(&compose, &site);
    first_run(&compose, &site, Way::Plain);
    // It may run again at any time; here as on a network that is not one's own.
    first_run(&compose, &site, Way::Tls);

    let mut proxy = Service::start("proxy", &compose, &site);
    let event = r#"{"page": "/"}"#;
    let said = std::fs::read_to_string(format!("{ROOT}/deploy/compose.yaml")).expect("it is there");
    let path = "/v1/events/app.page_viewed?reply=acknowledged";
    assert!(said.contains(path) && said.contains(event), "the file shows another request than this test sends");
    proxy.await_health();
    let (http, _) = proxy.addresses();
    assert_eq!(post(&format!("http://{http}{path}"), event).await, 200);
    assert_eq!(post(&format!("http://{http}/v1/events/payments.captured"), r#"{"cents": 1}"#).await, 200);

    // Event types are in a file of their own, and nothing is restarted for another one.
    let events = site.place.join("events.toml");
    let more = "\n[events.\"app.clicked\"]\ncluster = \"core\"\ntopic = \"app_page_viewed\"\nencoding = \"raw_json\"\n";
    std::fs::write(&events, read("deploy/compose/config/events.toml") + more).expect("the folder is ours");
    let clicked = format!("http://{http}/v1/events/app.clicked?reply=acknowledged");
    wait_until("another event type", async || match post(&clicked, event).await {
        200 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;

    let mut control = Service::start("control", &compose, &site);
    control.await_health();
    let (address, _) = control.addresses();
    let url = format!("http://{address}");
    let token = site.place.join("root.token");
    // As the file says it, in the container's place.
    let shown = said.lines().find_map(|line| line.split_once("exec -T control ")).expect("it says how").1;
    let shown = shown.replace("/usr/bin/iguazu", IGUAZU).replace("http://127.0.0.1:8090", &url);
    let made = tool::shell(&site.place, &format!("(umask 077; {}", site.local(&shown)));
    assert_eq!(made.printed(), "");
    let listed = tool::iguazu(&site.place, &["ctl", "list", "clusters", "--token-file", text(&token), "--url", &url]);
    assert!(listed.code == Some(0) && listed.stdout.contains("core"), "{listed:?}");
    // What proxies that follow it need to know, as their file says it.
    let config = read("deploy/compose/config/iguazu.toml");
    let shown = config.lines().find_map(|line| line.strip_prefix("#   curl ")).expect("it says how");
    let shown = format!("curl -sS --fail {}", shown.replace("http://127.0.0.1:8090", &url));
    let keys: Value = serde_json::from_str(&tool::shell(&site.place, &shown).printed()).expect("it is JSON");
    assert!(keys["public_keys"][0].as_str().is_some_and(|key| key.starts_with("ed25519:")), "{keys}");

    control.stop();
    proxy.stop();
}

/// `deploy/compose.yaml`, when nothing is wrong with it.
fn checked_compose() -> Value {
    let schema = fetched("venv/bin/check-jsonschema");
    let mut arguments = vec!["--iguazu", IGUAZU, "--schema", text(&schema)];
    let plugin = long().then(|| fetched("compose/docker-compose"));
    if let Some(plugin) = &plugin {
        arguments.extend(["--compose", text(plugin)]);
    }
    let ended = script("tests/images/compose.py", &arguments);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    serde_json::from_str(&ended.stdout).expect("it is printed as JSON")
}

/// Where the services are here: their names are ports of loopback, their paths lie in a folder.
struct Site {
    place: PathBuf,
    names: Vec<(String, String)>,
}

impl Site {
    fn new(place: PathBuf, secrets: &Path) -> Site {
        let mut names: Vec<(String, String)> = Vec::new();
        let free = ports::free(9);
        for (node, ports) in (1..).zip(free.chunks(3)) {
            names.push((format!("kafka-{node}:9092"), format!("127.0.0.1:{}", ports[0])));
            names.push((format!("kafka-{node}:9093"), format!("127.0.0.1:{}", ports[1])));
            names.push((format!("kafka-{node}:9094"), format!("127.0.0.1:{}", ports[2])));
        }
        let folder = text(&place).to_owned();
        names.extend([
            ("/run/secrets".to_owned(), text(secrets).to_owned()),
            ("/etc/iguazu/".to_owned(), format!("{folder}/")),
            ("/var/lib/".to_owned(), format!("{folder}/")),
            // No event type of the example has a schema, so that nobody asks for one.
            ("http://registry:8080".to_owned(), "http://127.0.0.1:1".to_owned()),
        ]);
        for port in ["8080", "8081", "8090"] {
            names.push((format!("0.0.0.0:{port}"), "127.0.0.1:0".to_owned()));
        }
        let site = Site { place, names };
        for file in ["iguazu.toml", "events.toml", "iguazu-control.toml"] {
            let config = read(&format!("deploy/compose/config/{file}"));
            std::fs::write(site.place.join(file), site.local(&config)).expect("the folder is ours");
        }
        site
    }

    /// A text with the names and paths of here.
    fn local(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    fn log(&self, name: &str) -> File {
        File::create(self.place.join(format!("{name}.log"))).expect("the folder is ours")
    }

    fn spawn(&self, name: &str, mut command: std::process::Command) -> Process {
        let log = self.log(name);
        command.stdout(log.try_clone().expect("a file handle can be duplicated")).stderr(Stdio::from(log));
        Process::spawn(name, command)
    }
}

/// Formats and starts each `kafka-N` as its image does: the properties that are mounted, and below them those of its environment.
fn start_brokers(compose: &Value, site: &Site) -> Vec<Process> {
    let services = compose["services"].as_object().expect("there are services");
    let brokers: Vec<_> = services.iter().filter(|(name, _)| name.starts_with("kafka-")).collect();
    assert_eq!(brokers.len(), 3);
    let formatting: Vec<_> = brokers
        .iter()
        .map(|(name, service)| {
            let mut properties = site.local(&read("deploy/kafka/broker.properties"));
            let data = site.place.join(name);
            properties = properties.replace(&site.local("/var/lib/kafka/data"), text(&data));
            for (key, value) in service["environment"].as_object().expect("it has an environment") {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                if let Some(key) = key.strip_prefix("KAFKA_").filter(|key| *key != "HEAP_OPTS") {
                    let local = |port: &str| site.local(&format!("{name}:{port}"));
                    let value = value.replace("://:9092", &format!("://{}", local("9092")));
                    let value = value.replace("://:9093", &format!("://{}", local("9093")));
                    let line = format!("\n{}={}", key.to_lowercase().replace('_', "."), site.local(&value));
                    properties.push_str(&line);
                }
            }
            properties.push_str(&encrypted(name, site, &properties));
            let file = site.place.join(format!("{name}.properties"));
            std::fs::write(&file, properties).expect("the folder is ours");
            let id = service["environment"]["CLUSTER_ID"].as_str().expect("the cluster has an id");
            let mut format = kafka("kafka.tools.StorageTool");
            format.args(["format", "--cluster-id", id, "--config"]).arg(&file);
            site.spawn(&format!("{name}.format"), format)
        })
        .collect();
    for mut format in formatting {
        assert!(format.wait().success(), "a broker's storage cannot be formatted; see {}", site.place.display());
    }
    let start = |(name, _): &(&String, &Value)| {
        let mut serve = kafka("kafka.Kafka");
        serve.arg(site.place.join(format!("{name}.properties")));
        site.spawn(name, serve)
    };
    brokers.iter().map(start).collect()
}

/// What gives a broker another listener, for the same logins by TLS.
fn encrypted(name: &str, site: &Site, properties: &str) -> String {
    let local = |port: &str| site.local(&format!("{name}:{port}"));
    let (clients, controller, secure) = (local("9092"), local("9093"), local("9094"));
    let logins = properties.lines().filter(|line| line.starts_with("listener.name.clients."));
    let logins: Vec<String> = logins.map(|line| line.replacen("clients", "secure", 1)).collect();
    assert_eq!(logins.len(), 2);
    format!(
        "
listeners=CLIENTS://{clients},SECURE://{secure},CONTROLLER://{controller}
advertised.listeners=CLIENTS://{clients},SECURE://{secure}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENTS:SASL_PLAINTEXT,SECURE:SASL_SSL
ssl.keystore.type=PKCS12
ssl.keystore.location={}
ssl.keystore.password=test-secret
ssl.key.password=test-secret
{}
",
        text(&fetched("kafka/tls/server.p12")),
        logins.join("\n")
    )
}

/// How `first-run.sh` reaches the brokers.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Plain,
    Tls,
}

/// The container `first-run`, with Kafka's tools on the path.
fn first_run(compose: &Value, site: &Site, way: Way) {
    let tools = kafka_tools(&site.place);
    let words = compose["services"]["first-run"]["entrypoint"].as_array().expect("it has an entrypoint");
    let words: Vec<_> = words.iter().map(|word| site.local(word.as_str().expect("a word"))).collect();
    assert_eq!((words[0].as_str(), words[3].as_str()), ("/first-run.sh", "/topics.txt"));
    let mut command = command("bash");
    command.arg(format!("{ROOT}/deploy/kafka/first-run.sh"));
    match way {
        Way::Plain => command.args(&words[1..3]).arg(format!("{ROOT}/deploy/compose/topics.txt")),
        // The topics are there.
        Way::Tls => command
            .args([&site.local("kafka-1:9094"), &words[2], "/dev/null"])
            .env("KAFKA_PROTOCOL", "SASL_SSL")
            .env("KAFKA_CA", fetched("kafka/tls/ca.pem")),
    };
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", text(&tools))).env("TMPDIR", &site.place);
    let ended = site.spawn("first-run", command).wait();
    let log = || std::fs::read_to_string(site.place.join("first-run.log")).unwrap_or_default();
    assert!(ended.success(), "{ended}:\n{}", log());
}

/// A service that runs our binary.
struct Service {
    name: &'static str,
    process: Process,
    ready: PathBuf,
    health: Vec<String>,
    place: PathBuf,
}

impl Service {
    fn start(name: &'static str, compose: &Value, site: &Site) -> Service {
        let service = &compose["services"][name];
        let words = |value: &Value| -> Vec<String> {
            let words = value.as_array().expect("a list of words").iter();
            words.map(|word| site.local(word.as_str().expect("a word"))).collect()
        };
        let ready = site.place.join(format!("{name}.ready"));
        let mut command = command(IGUAZU);
        command.args(words(&service["command"])).arg("--ready-file").arg(&ready).args(["--log-level", "warn"]);
        let health = words(&service["healthcheck"]["test"]);
        assert_eq!(health[..3], ["CMD", "/usr/bin/iguazu", "probe"]);
        let process = site.spawn(name, command);
        Service { name, process, ready, health, place: site.place.clone() }
    }

    /// The addresses of its listeners, the one that is asked for its health last.
    fn addresses(&mut self) -> (String, String) {
        let told: Value = wait_for(&format!("addresses of {}", self.name), || {
            if let Some(status) = self.process.exit_status() {
                panic!("{} ended: {status}; see {}", self.name, self.place.display());
            }
            let text = std::fs::read_to_string(&self.ready).map_err(|e| e.to_string())?;
            serde_json::from_str(&text).map_err(|e| e.to_string())
        });
        let of = |key: &str| told[key].as_str().map(str::to_owned);
        match of("control") {
            Some(control) => (control.clone(), control),
            None => (of("http").expect("it serves"), of("admin").expect("it serves")),
        }
    }

    /// Waits until its health check, as it stands in the file, says that it is well.
    fn await_health(&mut self) {
        let (_, admin) = self.addresses();
        let url = self.health[3].replace("127.0.0.1:8081", &admin).replace("127.0.0.1:8090", &admin);
        wait_for(&format!("health of {}", self.name), || {
            let Ended { code, stdout, stderr } = tool::iguazu(&self.place, &["probe", &url]);
            if code == Some(0) { Ok(()) } else { Err(format!("{code:?}: {stdout}{stderr}")) }
        });
    }

    fn stop(mut self) {
        self.process.signal(Signal::TERM);
        let status = self.process.wait();
        assert!(status.success(), "{} ended: {status}; see {}", self.name, self.place.display());
    }
}

/// A folder with Kafka's command line tools, to be put on the path.
pub fn kafka_tools(place: &Path) -> PathBuf {
    let tools = place.join("bin");
    std::fs::create_dir_all(&tools).expect("the folder is ours");
    for (name, class) in [
        ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand"),
        ("kafka-configs.sh", "kafka.admin.ConfigCommand"),
        ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
    ] {
        let tool = kafka(class);
        let words: Vec<_> = tool.get_args().map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let line = format!("#!/bin/sh\nexec '{}' {} \"$@\"\n", tool.get_program().to_string_lossy(), words.join(" "));
        let file = tools.join(name);
        std::fs::write(&file, line).expect("the folder is ours");
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    }
    tools
}

fn kafka(class: &str) -> std::process::Command {
    let mut command = command(java());
    command.args(["-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]);
    command.arg(fetched("kafka/lib").join("*"));
    command.arg(format!("-Dlog4j2.configurationFile={ROOT}/tests/kafka/log4j2.properties")).arg(class);
    command
}

async fn post(url: &str, body: &str) -> u16 {
    let request = http::client().post(url).header("content-type", "application/json").body(body.to_owned());
    let reply = http::send(request).await.unwrap_or_else(|e| panic!("{url}: {e}"));
    if reply.status >= 300 {
        eprintln!("{url}: {} {}", reply.status, reply.text());
    }
    reply.status
}

/// Runs a Python script of the repository to its end.
fn script(name: &str, arguments: &[&str]) -> Ended {
    let output = command(python()).arg(format!("{ROOT}/{name}")).args(arguments).output();
    let output = output.unwrap_or_else(|e| panic!("{name} cannot be started: {e}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(format!("{ROOT}/{path}")).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of this repository are text")
}
