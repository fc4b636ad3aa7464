//! Every panel of `deploy/grafana` shows something: its queries are run against a real Prometheus that scrapes proxies, a control plane
//! and what becomes of events while senders err, a cluster goes down and comes back, and Kafka refuses a record.
//!
//! With `IGUAZU_TESTS_LONG` it goes on for minutes, and what the panels then show is drawn for the documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use iguazu::outcome::Code;
use serde_json::{Value, json};

use super::support::control::{self, Control};
use super::support::fixture::Fixture;
use super::support::gate::{Gate, Gatekeeper};
use super::support::kafka::{self, Cluster, Topic};
use super::support::oracle::Oracle;
use super::support::prometheus::Prometheus;
use super::support::proxy::Proxy;
use super::support::{PATIENCE, fetched, folder, long, ports, rules, unique, wait_until};

/// What stands for `$__rate_interval`: Grafana takes four scrapes. Clients tell of batches every ten seconds only.
const RATE_INTERVAL: &str = "30s";

/// A query of a panel.
#[derive(Clone, Debug)]
struct Query {
    expression: String,
    legend: String,
}

/// A panel with queries.
#[derive(Clone, Debug)]
struct Panel {
    board: String,
    title: String,
    definition: Value,
    queries: Vec<Query>,
}

fn boards() -> Vec<(String, Value)> {
    let folder = std::fs::read_dir("deploy/grafana/dashboards").expect("the dashboards are there");
    let mut boards: Vec<_> = folder
        .map(|file| {
            let path = file.expect("the folder can be read").path();
            let text = std::fs::read_to_string(&path).expect("a dashboard can be read");
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
        })
        .collect();
    boards.sort_by(|one: &(String, Value), other| one.0.cmp(&other.0));
    boards
}

fn panels() -> Vec<Panel> {
    let mut panels = Vec::new();
    for (board, definition) in boards() {
        for panel in definition["panels"].as_array().expect("a dashboard has panels") {
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let query =
                |target: &Value| Query { expression: text(&target["expr"]), legend: text(&target["legendFormat"]) };
            let queries: Vec<_> = targets.iter().map(query).collect();
            if !queries.is_empty() {
                panels.push(Panel {
                    board: board.clone(),
                    title: text(&panel["title"]),
                    definition: panel.clone(),
                    queries,
                });
            }
        }
    }
    assert!(panels.len() > 80, "{} panels", panels.len());
    panels
}

#[test]
fn the_dashboards_are_what_their_definitions_say() {
    let output = Command::new(fetched("venv/bin/python")).args(["deploy/grafana/generate.py", "--check"]).output();
    let output = output.expect("python can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_panel_says_what_it_shows_in_which_unit_and_where_its_runbook_is() {
    for Panel { board, title, definition, queries } in panels() {
        assert!(definition["description"].as_str().is_some_and(|text| text.len() > 20), "{board}: {title}");
        let unit = definition["fieldConfig"]["defaults"]["unit"].as_str();
        assert!(unit.is_some_and(|unit| !unit.is_empty()), "{board}: {title} has no unit");
        for link in definition["links"].as_array().into_iter().flatten() {
            let url = link["url"].as_str().expect("a link has a URL");
            let number: u64 = url.rsplit('=').next().and_then(|number| number.parse().ok()).expect("a panel's number");
            let (_, runbooks) =
                boards().into_iter().find(|(name, _)| name == "iguazu-runbooks").expect("it is generated");
            let sections = runbooks["panels"].as_array().expect("panels").clone();
            let section = sections.iter().find(|panel| panel["id"] == number).expect("the section is there");
            assert_eq!(link["title"], format!("Runbook: {}", section["title"].as_str().expect("a title")));
        }
        assert!(
            queries.iter().all(|query| !query.expression.contains("[1m]")),
            "{board}: {title}: a window of its own"
        );
    }
}

#[test]
fn the_panels_name_what_is_served() {
    let recorded: BTreeSet<String> = rules::all().into_iter().filter_map(|rule| rule.record).collect();
    for panel in panels() {
        for query in &panel.queries {
            let unknown = rules::unknown_in(&query.expression, &recorded);
            assert!(unknown.is_empty(), "{}: {}: {unknown:?}", panel.board, panel.title);
        }
    }
}

#[test]
fn the_knobs_that_panels_name_exist() {
    let read = |file: &str| std::fs::read_to_string(file).expect("the documented configurations are there");
    let settings = read("deploy/iguazu.toml") + &read("deploy/iguazu-control.toml");
    let is_setting = |name: &str| {
        let key = name.split(" = ").next().and_then(|path| path.rsplit('.').next()).unwrap_or_default();
        settings.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == key)
    };
    let is_code = |name: &str| Code::ALL.iter().any(|code| code.as_str() == name);
    let is_page = |name: &str| name.ends_with(".md") && Path::new("deploy/docs").join(name).exists();
    for Panel { board, title, definition, .. } in panels() {
        let description = definition["description"].as_str().expect("a panel has a description");
        let Some((_, knob)) = description.split_once("**Knob:** ") else { continue };
        for name in knob.split('`').skip(1).step_by(2) {
            let known = is_setting(name)
                || is_code(name)
                || is_page(name)
                || ["iguazu ctl policy", "iguazu redrive", "ulimit -n"].contains(&name);
            assert!(known, "{board}: {title}: there is no {name}");
        }
    }
}

/// What runs while Prometheus looks at it.
struct Scene {
    edge: Cluster,
    gates: Vec<Gatekeeper>,
    proxy: Proxy,
    control: Control,
    routed: Proxy,
    ann: String,
    big: String,
    control_address: SocketAddr,
    control_config: String,
}

impl Scene {
    async fn start(fixture: &Fixture) -> Scene {
        let edge = Cluster::start(1);
        let gates = edge.gates();
        let single = Topic { partitions: 1, replicas: 1, settings: &[] };
        let (scanned, big) = (edge.topic("edge.scanned", single), edge.topic("edge.labelled", single));
        let (orders, dead, views) =
            (fixture.topic("shop.order_placed"), fixture.topic("shop.dead"), fixture.topic("app.page_viewed"));
        let canary = fixture.cluster.topic("iguazu.canary", Topic { partitions: 6, ..Topic::default() });
        let edge_canary = edge.topic("iguazu.canary", single);
        let ca = kafka::ca_file();
        let brokers = |list: &str| format!("{:?}", list.split(',').collect::<Vec<_>>());
        let config = format!(
            "state_dir = \"state\"\n[http]\nlisten = \"127.0.0.1:0\"\nread_timeout_seconds = 5\ndrain_seconds = 40\n\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\n\
             [clusters.core]\nbrokers = {}\nregistry = \"main\"\ntls = {{ ca_file = {ca:?} }}\ncanary_topic = {canary:?}\n\n\
             [clusters.edge]\nbrokers = {}\nregistry = \"main\"\ncanary_topic = {edge_canary:?}\nlinger_ms = 20\n\
             message_timeout_ms = 4000\nbreaker_open_after_ms = 1000\nbreaker_retry_after_ms = 500\n\n\
             [registries.main]\nurls = [{:?}]\n\n[spool]\nfolder = \"spool\"\nbytes_max = 67108864\n\n{}\
             [events.\"app.page_viewed\"]\nowner = \"web\"\ncluster = \"core\"\ntopic = {views:?}\nencoding = \"raw_json\"\n\n\
             [events.\"edge.scanned\"]\nowner = \"logistics\"\ncluster = \"edge\"\ntopic = {scanned:?}\nencoding = \"raw_json\"\n\n\
             [events.\"edge.labelled\"]\nowner = \"logistics\"\ncluster = \"edge\"\ntopic = {big:?}\nencoding = \"raw_json\"\n",
            brokers(&fixture.cluster.tls_brokers()),
            brokers(&edge.gated_brokers()),
            fixture.registry.url(),
            fixture.event_type(
                "shop.order_placed",
                &orders,
                &format!("owner = \"checkout\"\ndead_letter = {dead:?}\nunknown_fields = \"drop\"\nhot_key_events_per_second = 5\nkey = \"text\"")
            ),
        );
        let mut proxy = Proxy::start(&config).await;
        for told in [
            "kafka client reports an error",
            "breaker opened",
            "record was not delivered",
            "breaker",
            "canary",
            "event type is",
        ] {
            proxy.expect_log(told);
        }

        let port = ports::free(1)[0];
        let control_config = control::config(&fixture.cluster, "").replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
            + "partitions_max = 5_000\ningress_bytes_per_second = 500_000_000\n";
        let place = folder("control");
        let control = Control::start_in(place.clone(), &control_config);
        let admin = control.admin().await;
        let ann = control.token(&admin, "ann", &["team-orders"], &[]).await;
        let token = control.token(&admin, "proxies", &[], &["proxy"]).await;
        let keys = control.get(&token, "/v1/snapshot/keys").await["public_keys"].clone();
        let token_file = place.join("token");
        std::fs::write(&token_file, token).expect("the folder is ours");
        std::fs::set_permissions(&token_file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("it is ours");
        let mut routed = Proxy::start(&format!(
            "state_dir = \"state\"\n\n[routes]\nsource = \"control\"\nurl = {:?}\ntoken_file = {token_file:?}\npublic_key = {keys}\n\n{}",
            control.url(),
            fixture.config()
        ))
        .await;
        routed.expect_log("does not answer");
        let control_address = SocketAddr::from(([127, 0, 0, 1], port));
        Scene { edge, gates, proxy, control, routed, ann, big, control_address, control_config }
    }

    /// What happens in each second: good events, those of senders who err, requests to the control plane.
    async fn traffic(&self, second: u64) {
        let number = second * 100;
        let order = |number: u64| {
            let mut event = Oracle::event("shop.order_placed", number);
            event["payload"]["colour"] = json!(1);
            event
        };
        let mut orders: Vec<Value> = (number..number + 60).map(order).collect();
        orders.push(json!({"event": "shop.order_placed", "payload": {"number": true}}));
        orders.push(json!({"event": "nobody.knows", "payload": {}}));
        self.proxy.send(&json!(orders)).await;
        let raw = |event: &str, number: u64| json!({"event": event, "payload": {"n": number, "what": "x".repeat(200)}});
        for part in 0..5 {
            let views: Vec<Value> = (0..10).map(|index| raw("app.page_viewed", number + part * 10 + index)).collect();
            self.proxy.post("/v1/events?reply=acknowledged", "application/json", json!(views).to_string()).await;
            let scans: Vec<Value> = (0..20).map(|index| raw("edge.scanned", number + part * 20 + index)).collect();
            self.proxy.send(&json!(scans)).await;
        }
        self.proxy.post("/v1/events", "application/json", "{").await;
        self.control.get(&self.ann, "/v1/services").await;
        self.control.ask("nobody", "GET", "/v1/services", &Value::Null).await;
        let name = format!("service/s-{second}");
        let spec = json!([{ "id": name, "spec": { "group": "team-orders" } }]);
        self.control.done(&self.ann, spec).await;
    }

    /// Traffic until a condition holds, and at least for so many seconds of it.
    async fn go_on(&self, second: &mut u64, at_least: u64, mut done: impl AsyncFnMut(&Scene) -> bool) {
        let mut tick = tokio::time::interval(Duration::from_millis(if long() { 1000 } else { 200 }));
        let until = *second + if long() { at_least } else { 1 };
        while *second < until || !done(self).await {
            tick.tick().await;
            self.traffic(*second).await;
            *second += 1;
        }
    }

    /// Traffic until every panel shows something, but for those that may show nothing yet.
    async fn show(&self, prometheus: &Prometheus, second: &mut u64, may_be_empty: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let mut empty = check(prometheus).await;
            empty.retain(|panel| !may_be_empty(panel));
            if empty.is_empty() {
                return println!("every panel shows something after {:?} more", begun.elapsed());
            }
            assert!(begun.elapsed() < PATIENCE, "nothing is shown by\n{}", empty.join("\n"));
            self.go_on(second, 1, async |_| true).await;
        }
    }

    async fn metric(&self, name: &str, label: &str) -> f64 {
        let samples = self.proxy.metrics().await;
        let wanted =
            samples.iter().filter(|sample| sample.name == name && sample.labels.values().any(|value| value == label));
        wanted.map(|sample| sample.value).sum()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_panel_shows_something_of_a_day_with_trouble() {
    let fixture = Fixture::new();
    let mut scene = Scene::start(&fixture).await;
    let prometheus = Prometheus::start(&[
        ("iguazu-proxy", &[scene.proxy.admin_address(), scene.routed.admin_address()]),
        ("iguazu-control", &[scene.control_address]),
    ])
    .await;
    wait_until("everything is scraped", async || match prometheus.instant("sum(up) == 3").await? {
        up if up.len() == 1 => Ok(()),
        up => Err(format!("{up:?}")),
    })
    .await;
    let mut second = 1;
    scene
        .go_on(&mut second, 60, async |scene| {
            scene.metric("iguazu_dead_letters_sent_total", "shop.order_placed").await > 0.0
        })
        .await;

    // A topic that somebody makes smaller than what is sent to it: Kafka refuses a record for good.
    let topic = unique("orders.placed");
    let place = json!([
        { "id": "service/orders", "spec": { "group": "team-orders" } },
        { "id": format!("topic/core/{topic}"), "spec": { "service": "orders", "capacity": { "mb_per_second": 0.01 } } },
    ]);
    scene.control.done(&scene.ann, place).await;
    scene.edge.set(&scene.big, "max.message.bytes", "1000");
    let noise: String =
        (0..4000u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26)).collect();
    let big = json!({"event": "edge.labelled", "payload": {"label": noise}});
    wait_until("Kafka refuses a record", async || {
        scene.proxy.send(&big).await;
        match scene.metric("iguazu_events_failed_total", "edge.labelled").await {
            failed if failed > 0.0 => Ok(()),
            _ => Err("none has failed".to_owned()),
        }
    })
    .await;

    // A cluster goes down and comes back.
    scene.gates.iter().for_each(|gate| gate.set(Gate::Shut));
    scene.go_on(&mut second, 60, async |scene| scene.metric("iguazu_spool_written_total", "edge").await > 0.0).await;
    scene.gates.iter().for_each(|gate| gate.set(Gate::Open));
    scene.go_on(&mut second, 60, async |scene| scene.proxy.ledger().await.in_spool == 0).await;

    // Somebody asks for what needs another's word, and changes a topic by hand while the control plane is away. A resource that was
    // changed a moment ago is not compared at once, so this comes when all else is there to see.
    let gone = json!({ "changes": [{ "id": format!("topic/core/{topic}"), "spec": null }] });
    let asked = scene.control.ask(&scene.ann, "POST", "/v1/requests", &gone).await;
    assert_eq!(asked.json()["state"], "pending", "{}", asked.text());
    scene.show(&prometheus, &mut second, |empty| empty.starts_with("iguazu-control: Findings: ")).await;
    let place = scene.control.folder().to_owned();
    fixture.cluster.set(&topic, "retention.ms", "60000");
    scene.control.finish();
    scene.control = Control::start_in(place, &scene.control_config);
    scene.go_on(&mut second, 60, async |scene| scene.routed.admin("/ready").await.status == 200).await;
    scene.show(&prometheus, &mut second, |_| false).await;

    let alerts = prometheus.alerts().await;
    for alert in &alerts {
        let told = alert["annotations"].to_string();
        assert!(!told.contains("error expanding") && !told.contains("<no value>"), "{told}");
    }
    let fires =
        |name: &str| alerts.iter().any(|alert| alert["labels"]["alertname"] == name && alert["state"] == "firing");
    assert!(fires("IguazuEventsFailed") && fires("IguazuErrorsLogged"), "{alerts:#?}");
    draw(&prometheus).await;

    let Scene { proxy, control, routed, .. } = scene;
    proxy.settled().await;
    assert_eq!(proxy.finish().lost, 0);
    routed.finish();
    control.finish();
}

/// The panels and variables that show nothing.
async fn check(prometheus: &Prometheus) -> Vec<String> {
    let mut empty = Vec::new();
    for (board, definition) in boards() {
        for variable in definition["templating"]["list"].as_array().expect("a list of variables") {
            let Some(query) = variable["query"].as_str().and_then(|query| query.strip_prefix("label_values(")) else {
                continue;
            };
            let (series, label) = query.trim_end_matches(')').rsplit_once(", ").expect("a series and a label");
            let values = prometheus.label_values(&filled_in(series), label).await;
            if !values.as_ref().is_ok_and(|values| !values.is_empty()) {
                empty.push(format!("{board}: ${label}: {values:?}"));
            }
        }
    }
    for panel in panels() {
        for query in &panel.queries {
            let series = prometheus.range(&filled_in(&query.expression)).await;
            if !series.as_ref().is_ok_and(|series| series.iter().any(has_number)) {
                let error = series.err().unwrap_or_default();
                empty.push(format!("{}: {}: {} {error}", panel.board, panel.title, query.expression));
            }
        }
    }
    empty
}

/// A query as Grafana sends it when everything is chosen.
fn filled_in(expression: &str) -> String {
    let mut query = expression.replace("$__rate_interval", RATE_INTERVAL);
    for variable in ["instance", "cluster", "event", "owner"] {
        query = query.replace(&format!("${variable}"), ".*");
    }
    assert!(!query.contains('$'), "{query} has a variable that nobody fills in");
    query
}

/// Whether a series has a value that can be drawn.
fn has_number(series: &Value) -> bool {
    let values = series["values"].as_array().expect("a range of values");
    values.iter().any(|value| value[1].as_str().and_then(|text| text.parse::<f64>().ok()).is_some_and(f64::is_finite))
}

/// Has the panels drawn: what Prometheus answers to their queries, as files.
async fn draw(prometheus: &Prometheus) {
    let place = folder("pictures");
    let mut shown: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for panel in panels() {
        let mut queries = Vec::new();
        for query in &panel.queries {
            let series = prometheus.range(&filled_in(&query.expression)).await.expect("it was just answered");
            queries.push(json!({ "legend": query.legend, "series": series }));
        }
        shown.entry(panel.board).or_default().push(json!({ "panel": panel.definition, "queries": queries }));
    }
    for (board, definition) in boards() {
        let Some(panels) = shown.remove(&board) else { continue };
        let text = json!({ "title": definition["title"], "rows": definition["panels"], "panels": panels }).to_string();
        std::fs::write(place.join(format!("{board}.json")), text).expect("the folder is ours");
    }
    let output = Command::new(fetched("venv/bin/python")).arg("tests/python/draw_dashboards.py").arg(&place).output();
    let output = output.expect("python can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for board in ["overview", "event", "clusters", "control", "capacity"] {
        let picture = place.join(format!("iguazu-{board}.png"));
        assert!(std::fs::metadata(&picture).is_ok_and(|file| file.len() > 10_000), "{} is missing", picture.display());
    }
    println!("pictures are in {}", Path::new(&place).display());
}
