//! Another configuration takes the place of the one in force: nothing is dropped, and one that is wrong is refused whole.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};

use super::support::fixture::Fixture;
use super::support::http;
use super::support::kafka::{Cluster, Topic, ca_file};
use super::support::oracle::Oracle;
use super::support::proxy::{Proxy, config_with, event_type, with_settings};
use super::support::read_back::{ReadBack, Reader};
use super::support::{folder, unique, wait_until};

/// Sends batches of ten until it is stopped; each must be accepted.
struct Load {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Oracle>,
}

impl Load {
    fn start(proxy: &Proxy, event: &'static str) -> Load {
        let (url, client) = (format!("{}/v1/events", proxy.url()), http::client());
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut oracle = Oracle::default();
            while !stopped.load(Relaxed) {
                let first = counted.load(Relaxed) + 1;
                let events: Vec<Value> = (first..first + 10).map(|number| Oracle::event(event, number)).collect();
                (first..first + 10).for_each(|number| oracle.sent(number));
                let request = client.post(&url).header("content-type", "application/json");
                let reply = http::send(request.body(json!(events).to_string())).await.expect("a reply");
                assert_eq!(reply.status, 202, "{}", reply.text());
                (first..first + 10).for_each(|number| oracle.acknowledged(number));
                counted.fetch_add(10, Relaxed);
            }
            oracle
        });
        Load { sent, stop, task }
    }

    /// Waits until so many more events were accepted.
    async fn go_on(&self, events: u64) {
        let until = self.sent.load(Relaxed) + events;
        wait_until("the load goes on", async || match self.sent.load(Relaxed) {
            _ if self.task.is_finished() => Ok(()),
            sent if sent >= until => Ok(()),
            sent => Err(format!("{sent} of {until}")),
        })
        .await;
        assert!(!self.task.is_finished(), "an event of the load was not accepted");
    }

    async fn stop(self) -> Oracle {
        self.stop.store(true, Relaxed);
        self.task.await.expect("every event of the load was accepted")
    }
}

/// Sends events of one type, all of which must be accepted.
async fn send(proxy: &Proxy, event: &str, oracle: &mut Oracle, numbers: std::ops::Range<u64>) {
    numbers.clone().for_each(|number| oracle.sent(number));
    let events: Vec<Value> = numbers.clone().map(|number| Oracle::event(event, number)).collect();
    let reply = proxy.send(&json!(events)).await;
    assert_eq!(reply.status, 202, "{event}: {}", reply.text());
    numbers.for_each(|number| oracle.acknowledged(number));
}

/// Waits until every event type can be served, and sends an event of one.
async fn served(proxy: &Proxy, event: &str, oracle: &mut Oracle, number: u64) {
    wait_until("every event type is served", async || {
        let ready = proxy.admin("/ready").await;
        if ready.json()["unavailable"] == json!([]) { Ok(()) } else { Err(ready.text()) }
    })
    .await;
    send(proxy, event, oracle, number..number + 1).await;
}

fn code(reply: &http::Reply) -> Value {
    reply.json()["results"][0]["code"].clone()
}

#[tokio::test]
async fn event_types_that_come_change_move_and_go_under_load_drop_no_event() {
    let fixture = Fixture::new();
    let [stays, moved, added] = ["it.stays", "it.moved", "it.added"].map(|name| fixture.topic(name));
    let base = |topic: &str, settings: &str| {
        fixture.config()
            + &fixture.event_type("it.stays", topic, settings)
            + &fixture.event_type("it.limited", &stays, "limits = { bytes_per_second = 1 }")
    };
    let proxy = Proxy::start(&base(&stays, "")).await;
    let (mut limited, mut extra) = (Oracle::default(), Oracle::default());
    send(&proxy, "it.limited", &mut limited, 1..2).await;
    let load = Load::start(&proxy, "it.stays");
    load.go_on(100).await;

    let with_added = base(&stays, "") + &fixture.event_type("it.added", &added, "");
    proxy.change_to(&with_added).await;
    served(&proxy, "it.added", &mut extra, 1).await;
    load.go_on(100).await;
    let over = proxy.send(&Oracle::event("it.limited", 2)).await;
    assert_eq!((over.status, code(&over)), (429, json!("rate_limited")), "what was taken of a limit stays taken");

    // Its records wait for the linger while it is taken out.
    send(&proxy, "it.added", &mut extra, 2..502).await;
    proxy.change_to(&base(&moved, "limits = { events_per_second = 1_000_000 }")).await;
    let gone = proxy.send(&Oracle::event("it.added", 600)).await;
    assert_eq!((gone.status, code(&gone)), (404, json!("unknown_event")));
    wait_until("the event type has moved", async || {
        let moved = proxy.log().iter().any(|line| line.message().contains("has its new settings now"));
        if moved { Ok(()) } else { Err(proxy.admin("/ready").await.text()) }
    })
    .await;
    load.go_on(100).await;
    let first_moved = load.sent.load(Relaxed);
    let oracle = load.stop().await;
    let ledger = proxy.settled().await;
    assert_eq!((ledger.rejected, ledger.failed), (2, 0), "the one over its limit and the unknown one: {ledger:?}");
    assert_eq!(proxy.ledger_of("it.added").await.delivered, 501, "what was queued of it is delivered");
    assert_eq!(proxy.reloads("applied").await, 2);
    proxy.finish();
    let reader = Reader::new(&fixture.cluster, fixture.registry);
    extra.check(&reader.read(&added, extra.owed()));
    let there = reader.read(&moved, 1);
    let (mut here, of_limited): (Vec<ReadBack>, Vec<ReadBack>) =
        reader.read(&stays, 1).into_iter().partition(|record| record.header("ce_type") == Some("it.stays"));
    assert!(!there.is_empty() && here.len() as u64 >= 200 && there.len() as u64 <= first_moved, "both have records");
    limited.check(&of_limited);
    here.extend(there);
    let findings = oracle.check(&here);
    assert!(findings.duplicates.is_empty() && findings.unacknowledged.is_empty(), "{findings:?}");
}

#[tokio::test]
async fn clusters_that_come_move_and_go_under_load_drop_no_event() {
    let fixture = Fixture::new();
    let more = Cluster::start(1);
    let one = Topic { replicas: 1, ..Topic::default() };
    let (stays, there) = (fixture.topic("it.stays"), more.topic("it.more", one));
    let mut proxy = {
        let config = fixture.config() + "[spool]\nfolder = \"spool\"\n\n";
        Proxy::start(&(config + &fixture.event_type("it.stays", &stays, ""))).await
    };
    let spool = "[spool]\nfolder = \"spool\"\n\n";
    let load = Load::start(&proxy, "it.stays");
    load.go_on(50).await;

    let added = format!("[clusters.more]\nbrokers = [{:?}]\nlinger_ms = 500\n\n", more.brokers())
        + &event_type("it.more", &there, "raw_json", "").replace("\"core\"", "\"more\"");
    let mut oracle = Oracle::default();
    proxy.change_to(&(fixture.config() + spool + &fixture.event_type("it.stays", &stays, "") + &added)).await;
    served(&proxy, "it.more", &mut oracle, 1).await;
    load.go_on(50).await;

    // Other addresses of the same brokers, with TLS.
    let settings = format!("tls = {{ ca_file = {:?} }}", ca_file());
    let moved = with_settings(
        &config_with(&fixture.cluster.tls_brokers(), &fixture.registry.url()),
        "clusters.core",
        &settings,
    ) + spool;
    proxy.rewrite(&(moved.clone() + &fixture.event_type("it.stays", &stays, "") + &added));
    proxy.hang_up();
    proxy.await_reloads("applied", 2).await;
    load.go_on(100).await;
    let clients = |log: Vec<_>, text: &str| {
        let is_told = |line: &&super::support::proxy::LogLine| line.message().contains(text);
        log.iter().filter(is_told).count()
    };
    assert_eq!(clients(proxy.log(), "the cluster's settings changed"), 1, "the other cluster's client goes on");

    // Its records wait for the linger while their cluster is taken out.
    send(&proxy, "it.more", &mut oracle, 2..302).await;
    proxy.change_to(&(moved + &fixture.event_type("it.stays", &stays, ""))).await;
    load.go_on(100).await;
    let of_load = load.stop().await;
    let ledger = proxy.settled().await;
    assert_eq!((ledger.rejected, ledger.failed, ledger.in_spool), (0, 0, 0), "{ledger:?}");
    wait_until("the client of the cluster that is gone is gone", async || {
        let samples = proxy.metrics().await;
        let left = samples
            .iter()
            .any(|sample| sample.name == "iguazu_producer_in_flight_records" && sample.labels["cluster"] == "more");
        if left { Err("it is still there".to_owned()) } else { Ok(()) }
    })
    .await;
    proxy.finish();
    oracle.check(&Reader::with(more.client(), None).read(&there, oracle.owed()));
    let findings = of_load.check(&Reader::new(&fixture.cluster, fixture.registry).read(&stays, of_load.owed()));
    assert!(findings.duplicates.is_empty(), "{findings:?}");
}

#[tokio::test]
async fn a_configuration_with_a_problem_is_refused_whole_and_says_all_of_them() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.refused");
    let good = fixture.config() + &fixture.event_type("it.refused", &topic, "");
    let mut proxy = Proxy::start(&good).await;
    let check = async |proxy: &mut Proxy, config: &str, told: &[&str]| {
        proxy.expect_log("configuration refused");
        proxy.expect_log("the configuration is not taken");
        let before = proxy.reloads("refused").await;
        proxy.rewrite(config);
        proxy.await_reloads("refused", before + 1).await;
        let ready = proxy.admin("/ready").await;
        assert_eq!(ready.status, 200, "{}", ready.text());
        let conditions = ready.json()["conditions"].to_string();
        for text in told {
            assert!(conditions.contains(text), "{text} is not in {conditions}");
            let is_logged = proxy.log().iter().any(|line| format!("{:?}", line.fields).contains(text));
            assert!(is_logged, "{text} is not in the log");
        }
        let unknown = proxy.send(&Oracle::event("it.new", 1)).await;
        assert_eq!((unknown.status, code(&unknown)), (404, json!("unknown_event")), "nothing of it is taken");
        assert_eq!(proxy.send(&Oracle::event("it.refused", 1)).await.status, 202);
    };
    let next = good.clone() + &fixture.event_type("it.new", &topic, "");
    let wrong = next.clone() + "[events.\"it.wrong\"]\ncluster = \"cor\"\ntopic = \"t\"\nencoding = \"yaml\"\n";
    check(&mut proxy, &wrong, &["did you mean `core`?", "`yaml` is none of"]).await;
    check(&mut proxy, &(next.clone() + "[events.\"it.cut"), &["not TOML"]).await;
    let restart = with_settings(&next, "http", "workers = 3\nbody_bytes_max = 2_000_000");
    check(&mut proxy, &restart, &["http.workers", "http.body_bytes_max", "while the proxy runs; restart it"]).await;
    let (folder, broken) = (folder("broken"), "broken.pem");
    std::fs::write(folder.join(broken), "no certificate").expect("the folder is ours");
    let settings = format!("tls = {{ ca_file = {:?} }}", folder.join(broken));
    check(&mut proxy, &with_settings(&next, "clusters.core", &settings), &["clusters.core", "ssl.ca.location"]).await;

    let fingerprint = fingerprint(&proxy).await;
    proxy.change_to(&next).await;
    served(&proxy, "it.new", &mut Oracle::default(), 2).await;
    let conditions = proxy.admin("/ready").await.json()["conditions"].clone();
    assert_eq!(conditions, json!([]));
    assert_ne!(self::fingerprint(&proxy).await, fingerprint);
    // A signal reads what did not change, and changes nothing.
    proxy.hang_up();
    proxy.await_reloads("applied", 2).await;
    proxy.settled().await;
    proxy.finish();
}

async fn fingerprint(proxy: &Proxy) -> u64 {
    let samples = proxy.metrics().await;
    let sample = samples.iter().find(|sample| sample.name == "iguazu_config_fingerprint");
    sample.expect("it is shown").value as u64
}

#[tokio::test]
async fn brakes_are_in_force_within_seconds_and_off_again_and_count() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.braked");
    let config = |settings: &str| fixture.config() + &fixture.event_type("it.braked", &topic, settings);
    let proxy = Proxy::start(&config("")).await;
    let mut oracle = Oracle::default();
    send(&proxy, "it.braked", &mut oracle, 1..11).await;

    let begun = std::time::Instant::now();
    proxy.rewrite(&config("disabled = true"));
    wait_until("the event type is disabled", async || {
        oracle.sent(11);
        let reply = proxy.send(&Oracle::event("it.braked", 11)).await;
        match reply.status {
            503 if code(&reply) == json!("disabled") => Ok(()),
            202 => {
                oracle.acknowledged(11);
                Err("not yet".to_owned())
            }
            _ => panic!("{}", reply.text()),
        }
    })
    .await;
    assert!(begun.elapsed().as_secs() < 5, "it took {:?}", begun.elapsed());
    let conditions = proxy.admin("/ready").await.json()["conditions"].to_string();
    assert!(conditions.contains("brake of it.braked") && conditions.contains("disabled"), "{conditions}");

    proxy.change_to(&config("sample = 0.1")).await;
    let numbers = 101..301;
    numbers.clone().for_each(|number| oracle.sent(number));
    let events: Vec<Value> = numbers.clone().map(|number| Oracle::event("it.braked", number)).collect();
    let reply = proxy.send(&json!(events)).await;
    let left_out = reply.json()["sampled_out"].as_u64().expect("their number is told");
    assert!(reply.status == 202 && (150..200).contains(&left_out), "{}", reply.text());

    proxy.change_to(&config("")).await;
    send(&proxy, "it.braked", &mut oracle, 301..311).await;
    assert_eq!(proxy.admin("/ready").await.json()["conditions"], json!([]));
    let ledger = proxy.settled().await;
    assert!(ledger.rejected > left_out && ledger.failed == 0, "{ledger:?}");
    let samples = proxy.metrics().await;
    let counted = samples.iter().find(|sample| sample.labels.get("code").is_some_and(|code| code == "sampled_out"));
    assert_eq!(counted.map(|sample| sample.value as u64), Some(left_out));
    proxy.finish();
    let findings = oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed()));
    assert_eq!(findings.unacknowledged.len() as u64, 200 - left_out, "those of the sample: {findings:?}");
}

#[tokio::test]
async fn a_password_that_is_rotated_under_load_drops_no_event_and_is_never_shown() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.rotated");
    let user = unique("rotated");
    let passwords = ["the-first-secret", "the-second-secret"];
    fixture.cluster.set_password(&user, passwords[0]);
    fixture.cluster.allow(&user, &topic, &["Write", "Describe", "Describe_Configs"]);
    let folder = folder("password");
    let file = secret(&folder, passwords[0]);
    let settings = format!(
        "tls = false\nsasl = {{ mechanism = \"SCRAM-SHA-512\", username = {user:?}, password_file = {file:?} }}"
    );
    let config = config_with(&fixture.cluster.sasl_brokers(), &fixture.registry.url());
    let config = with_settings(&config, "clusters.core", &settings);
    let mut proxy = Proxy::start(&(config + &fixture.event_type("it.rotated", &topic, ""))).await;
    // Between the change at the brokers and that of the file a new connection cannot log in.
    proxy.expect_log("\"kind\":\"authentication\"");
    let load = Load::start(&proxy, "it.rotated");
    load.go_on(50).await;
    fixture.cluster.set_password(&user, passwords[1]);
    load.go_on(50).await;
    // Only the file changes, not the configuration.
    secret(&folder, passwords[1]);
    proxy.await_reloads("applied", 1).await;
    let delivered = proxy.ledger().await.delivered;
    load.go_on(100).await;
    wait_until("the new client delivers", async || match proxy.ledger().await.delivered {
        now if now > delivered + 50 => Ok(()),
        now => Err(format!("{now} delivered")),
    })
    .await;
    let oracle = load.stop().await;
    let ledger = proxy.settled().await;
    assert_eq!((ledger.rejected, ledger.failed), (0, 0), "{ledger:?}");
    let shown = format!("{:?} {}", proxy.log(), proxy.admin("/metrics").await.text());
    assert!(passwords.iter().all(|password| !shown.contains(password)), "a password is shown");
    proxy.finish();
    let findings = oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed()));
    assert!(findings.duplicates.is_empty(), "{findings:?}");
}

/// Writes a secret into a folder as Kubernetes does: the file is a link, and what it leads to is replaced.
fn secret(folder: &Path, content: &str) -> PathBuf {
    let version = folder.join(unique("version"));
    std::fs::create_dir(&version).expect("the folder is ours");
    std::fs::write(version.join("password"), content).expect("the folder is ours");
    let ours_alone = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(version.join("password"), ours_alone).expect("the file is ours");
    let (link, file) = (folder.join("next"), folder.join("password"));
    std::os::unix::fs::symlink(&version, &link).expect("the folder is ours");
    std::fs::rename(&link, folder.join("current")).expect("the folder is ours");
    if !file.exists() {
        std::os::unix::fs::symlink("current/password", &file).expect("the folder is ours");
    }
    file
}

#[tokio::test]
async fn certificates_of_the_listener_and_of_the_brokers_authority_are_renewed_while_it_serves() {
    let fixture = Fixture::new();
    let topic = fixture.topic("it.renewed");
    let folder = folder("certificates");
    let first = certificate(&folder);
    let ca = folder.join("ca.pem");
    std::fs::copy(ca_file(), &ca).expect("it was fetched");
    let tls = "tls = { certificate_file = \"tls.crt\", key_file = \"tls.key\" }";
    let config = config_with(&fixture.cluster.tls_brokers(), &fixture.registry.url());
    let config = with_settings(&config, "clusters.core", "tls = { ca_file = \"ca.pem\" }");
    let config = with_settings(&config, "http", tls) + &fixture.event_type("it.renewed", &topic, "");
    let mut proxy = Proxy::start_in(folder.clone(), &config);
    proxy.await_ready().await;
    let mut oracle = Oracle::default();
    let port = proxy.http().port();
    let post = async |client: &reqwest::Client, oracle: &mut Oracle, number: u64| {
        let url = format!("https://localhost:{port}/v1/events");
        let request = client.post(url).header("content-type", "application/json");
        let reply = http::send(request.body(Oracle::event("it.renewed", number).to_string())).await?;
        assert_eq!(reply.status, 202, "{}", reply.text());
        oracle.sent(number);
        oracle.acknowledged(number);
        Ok::<_, String>(())
    };
    let old = trusting(&first);
    post(&old, &mut oracle, 1).await.expect("the first certificate is trusted");

    let second = certificate(&folder);
    proxy.await_reloads("applied", 1).await;
    post(&trusting(&second), &mut oracle, 2).await.expect("new connections get the second certificate");
    post(&old, &mut oracle, 3).await.expect("the connection that was open goes on");
    post(&trusting(&first), &mut oracle, 4).await.expect_err("the first certificate is not shown any more");

    let mut authorities = std::fs::read(&ca).expect("it was copied");
    authorities.extend(&second);
    std::fs::write(&ca, authorities).expect("the folder is ours");
    proxy.await_reloads("applied", 2).await;
    post(&old, &mut oracle, 5).await.expect("it goes on");
    let replaced = proxy.log().into_iter().filter(|line| line.message().contains("the cluster's settings changed"));
    assert_eq!(replaced.count(), 1, "the client trusts the authorities that are in the file now");
    // A key that is none of the certificate's, as between the two writes of a renewal by hand.
    proxy.expect_log("configuration refused");
    proxy.expect_log("the configuration is not taken");
    let key = std::fs::read(folder.join("tls.key")).expect("it was made");
    certificate(&folder);
    std::fs::write(folder.join("tls.key"), &key).expect("the folder is ours");
    proxy.await_reloads("refused", 1).await;
    post(&old, &mut oracle, 6).await.expect("it goes on");
    post(&trusting(&second), &mut oracle, 7).await.expect("with the certificate of before");
    proxy.settled().await;
    proxy.finish();
    oracle.check(&Reader::new(&fixture.cluster, fixture.registry).read(&topic, oracle.owed()));
}

/// Makes a certificate for `localhost` that signs itself, in `tls.crt` and `tls.key`; its PEM text.
fn certificate(folder: &Path) -> Vec<u8> {
    let made = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=it".split(' '))
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", "tls.key", "-out", "tls.crt"])
        .current_dir(folder)
        .output()
        .expect("the openssl command is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read(folder.join("tls.crt")).expect("it was made")
}

/// A client with connections of its own that trusts this certificate and no other.
fn trusting(certificate: &[u8]) -> reqwest::Client {
    http::client();
    let certificate = reqwest::Certificate::from_pem(certificate).expect("it is one");
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only([certificate]);
    builder.build().expect("the settings are constant")
}
