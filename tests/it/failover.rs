//! While a cluster takes nothing, another one stands in.

use serde_json::{Value, json};

use super::support::kafka::{Cluster, Topic};
use super::support::oracle::{self, Oracle};
use super::support::proxy::{Proxy, config_with, event_type, with_settings};
use super::support::read_back::Reader;
use super::support::{fixture::Fixture, ports, registry, unique, wait_until};

const EVENT: &str = "it.failover";

/// Sends ten events; each must be accepted.
async fn send(proxy: &Proxy, oracle: &mut Oracle, first: u64) {
    let numbers = first..first + 10;
    let events: Vec<Value> = numbers.clone().map(|number| Oracle::event(EVENT, number)).collect();
    numbers.clone().for_each(|number| oracle.sent(number));
    let reply = proxy.send(&json!(events)).await;
    assert_eq!(reply.status, 202, "{}", reply.text());
    numbers.for_each(|number| oracle.acknowledged(number));
}

/// A metric's value, summed over all series of a cluster.
async fn metric(proxy: &Proxy, name: &str, cluster: &str) -> f64 {
    let samples = proxy.metrics().await;
    let of = samples
        .iter()
        .filter(|sample| sample.name == name && sample.labels.get("cluster").is_some_and(|label| label == cluster));
    of.map(|sample| sample.value).sum()
}

async fn until_breaker(proxy: &Proxy, state: f64) {
    wait_until("the breaker of core", async || match metric(proxy, "iguazu_breaker_state", "core").await {
        found if found == state => Ok(()),
        found => Err(format!("{found}")),
    })
    .await;
}

#[tokio::test]
async fn while_a_cluster_is_down_another_one_takes_its_events_and_gives_them_back_when_it_is_up() {
    let clusters = [(); 2].map(|()| std::thread::spawn(|| Cluster::start(1)));
    let [core, backup] = clusters.map(|cluster| cluster.join().expect("the cluster starts"));
    let registry = registry::shared();
    let (subject, avro_subject) = oracle::register(registry);
    let topic = unique("it.failover");
    for cluster in [&core, &backup] {
        cluster.create_topic(&topic, Topic { partitions: 3, replicas: 1, settings: &[] });
    }
    let settings = format!("subject = {subject:?}\navro_subject = {avro_subject:?}\nfailover = [\"backup\"]");
    let breaker = "breaker_open_after_ms = 1500\nbreaker_retry_after_ms = 200\nmessage_timeout_ms = 4000";
    let config = with_settings(&config_with(&core.brokers(), &registry.url()), "clusters.core", breaker)
        + &format!(
            "[clusters.backup]\nbrokers = [{:?}]\nregistry = \"main\"\n\n[spool]\nfolder = \"spool\"\n\n",
            backup.brokers()
        )
        + &event_type(EVENT, &topic, "avro", &settings);
    let mut proxy = Proxy::start(&config).await;
    for told in ["breaker opened", "kafka client reports an error", "record was not delivered and waits on disk"] {
        proxy.expect_log(told);
    }
    let mut oracle = Oracle::default();
    let mut numbers = (1..).step_by(10);
    let mut next = || numbers.next().expect("there are more numbers");
    for _ in 0..10 {
        send(&proxy, &mut oracle, next()).await;
    }
    proxy.settled().await;
    let elsewhere = async || metric(&proxy, "iguazu_events_delivered_elsewhere_total", "core").await;
    assert_eq!(elsewhere().await, 0.0);

    core.kill(1);
    send(&proxy, &mut oracle, next()).await;
    until_breaker(&proxy, 2.0).await;
    for _ in 0..20 {
        send(&proxy, &mut oracle, next()).await;
    }
    wait_until("another cluster has them", async || match elsewhere().await {
        200.0 => Ok(()),
        count => Err(format!("{count}")),
    })
    .await;
    let balance = proxy.ledger_of(EVENT).await;
    assert_eq!(balance.delivered, 300, "they count for the cluster that they are meant for: {balance:?}");
    assert_eq!(metric(&proxy, "iguazu_events_delivered_total", "core").await, 300.0);

    core.restart(1);
    until_breaker(&proxy, 0.0).await;
    let before = elsewhere().await;
    for _ in 0..10 {
        send(&proxy, &mut oracle, next()).await;
    }
    let ledger = wait_until("all is delivered", async || {
        let ledger = proxy.ledger().await;
        if ledger.in_memory + ledger.in_spool == 0 { Ok(ledger) } else { Err(format!("{ledger:?}")) }
    })
    .await;
    assert_eq!((ledger.delivered, ledger.failed, elsewhere().await), (410, 0, before), "{ledger:?}");
    proxy.finish();

    let read = |cluster: &Cluster, count| Reader::new(cluster, registry).read(&topic, count);
    let (home, away) = (read(&core, 210), read(&backup, 200));
    let marked =
        |record: &super::support::read_back::ReadBack| record.header("iguazu-intended-cluster").map(str::to_owned);
    assert!(away.iter().all(|record| marked(record).as_deref() == Some("core")), "they say where they belong");
    assert!(home.iter().all(|record| marked(record).is_none()));
    let findings = oracle.check(&[home, away].concat());
    assert!(findings.unacknowledged.is_empty(), "{findings:?}");
}

#[tokio::test]
async fn a_cluster_that_cannot_stand_in_is_a_note_and_no_reason_to_refuse_events() {
    let fixture = Fixture::new();
    let (topic, dead) = (fixture.topic(EVENT), ports::free(1)[0]);
    let config = fixture.config()
        + &format!("[clusters.dead]\nbrokers = [\"127.0.0.1:{dead}\"]\nregistry = \"main\"\n\n")
        + &fixture.event_type(EVENT, &topic, "failover = [\"dead\"]");
    let mut proxy = Proxy::start(&config).await;
    proxy.expect_log("kafka client reports an error");
    let ready = proxy.admin("/ready").await;
    let conditions = ready.json()["conditions"].clone();
    let note =
        conditions.as_array().and_then(|all| all.iter().find(|note| note["name"] == format!("failover of {EVENT}")));
    let reason = note.expect("what is missing is told")["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("`dead`"), "{reason}");
    let mut oracle = Oracle::default();
    send(&proxy, &mut oracle, 1).await;
    let ledger = proxy.settled().await;
    assert_eq!(ledger.delivered, 10, "{ledger:?}");
    proxy.finish();
}
