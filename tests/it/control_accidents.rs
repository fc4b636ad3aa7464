//! Accidents that others had with tools of this kind, each tried here on a real Kafka: it is refused, or it does no harm.
//!
//! Which accident it was stands at each test; whether it happened is looked at with somebody else's client.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::control_requests::{as_user, produce};
use super::kafka_admin::{admin, describe};
use super::support::control::{self, Control};
use super::support::kafka::{self, Cluster, Topic};
use super::support::read_back::Reader;
use super::support::{http, referee, unique, wait_until};

/// A management plane, and those who ask and agree.
struct Desk {
    plane: Control,
    /// An admin.
    root: String,
    /// Of the team that owns the service `orders`.
    ann: String,
    /// Of the same team.
    bea: String,
    /// Of the team that owns the service `bills`.
    bob: String,
    /// An operator of the cluster.
    omar: String,
    /// Another admin.
    rita: String,
}

impl Desk {
    async fn open(cluster: &Cluster) -> Desk {
        Desk::on(Control::start(&control::config(cluster, ""))).await
    }

    async fn on(plane: Control) -> Desk {
        let root = plane.admin().await;
        let ann = plane.token(&root, "ann", &["team-orders"], &[]).await;
        let bea = plane.token(&root, "bea", &["team-orders"], &[]).await;
        let bob = plane.token(&root, "bob", &["team-bills"], &[]).await;
        let omar = plane.token(&root, "omar", &["platform"], &[]).await;
        let rita = plane.token(&root, "rita", &[], &["admin"]).await;
        plane.done(&ann, json!([{ "id": "service/orders", "spec": { "group": "team-orders" } }])).await;
        plane.done(&bob, json!([{ "id": "service/bills", "spec": { "group": "team-bills" } }])).await;
        Desk { plane, root, ann, bea, bob, omar, rita }
    }

    /// Asks as the team that owns `orders`, has whoever must agree do so, and waits for the end.
    async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let reply = self.plane.ask(&self.ann, method, path, &body).await;
        assert_eq!(reply.status, 202, "{method} {path}: {}", reply.text());
        let by = reply.json()["verdict"]["by"].as_array().cloned().unwrap_or_default();
        let by: Vec<_> = by.iter().map(|part| if part == "owner" { &self.bea } else { &self.omar }).collect();
        self.agreed(reply.json(), &by).await
    }

    /// These agree to a request, which is done then.
    async fn agreed(&self, request: Value, by: &[&String]) -> Value {
        let id = request["id"].as_str().unwrap();
        for approver in by {
            let path = format!("/v1/requests/{id}/approve");
            let reply = self.plane.ask(approver, "POST", &path, &json!({})).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        self.plane.ready(&self.root, id).await
    }

    /// Has the cluster be so: an admin asks, another one agrees.
    async fn cluster_is(&self, more: Value) {
        let mut spec = self.plane.get(&self.root, "/v1/clusters/core").await["spec"].take();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let reply = self.plane.ask(&self.root, "PUT", "/v1/clusters/core", &spec).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        self.agreed(reply.json(), &[&self.rita]).await;
    }

    /// What is asked for is refused with this status, and all of these words.
    async fn refused(&self, who: &str, method: &str, path: &str, body: Value, status: u16, told: &[&str]) {
        let reply = self.plane.ask(who, method, path, &body).await;
        assert_eq!(reply.status, status, "{method} {path}: {}", reply.text());
        told.iter().for_each(|told| assert!(reply.text().contains(told), "{told:?} is not in {}", reply.text()));
    }

    async fn secret(&self, who: &str, path: &str) -> String {
        let reply = self.plane.ask(who, "POST", &format!("{path}/secret"), &Value::Null).await;
        reply.json()["secret"].as_str().unwrap_or_else(|| panic!("{}", reply.text())).to_owned()
    }
}

fn topic(consumers: u32) -> Value {
    json!({ "service": "orders", "capacity": { "mb_per_second": 0.01, "consumers": consumers } })
}

fn grant(level: &str, target: &str, principal: &str) -> Value {
    let spec = json!({ "service": "orders", "level": level, "target": target, "principal": principal });
    json!({ "id": format!("access/core/{principal}:{level}:{target}"), "spec": spec })
}

/// Klaw deletes and re-creates a topic whose partitions are to be fewer, Terraform's provider plans the same; so do both with copies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_to_shrink_is_not_made_anew() {
    let cluster = kafka::shared();
    let desk = Desk::open(&cluster).await;
    let name = unique("orders.shrinks");
    let path = format!("/v1/topics/core/{name}");
    desk.done("PUT", &path, topic(6)).await;
    cluster.produce(&name, None, b"kept").expect("the topic is there");
    let ours = admin(&cluster);
    let before = describe(&ours, &name, |topic| topic.partitions.len() == 6).await;

    let fewer = ["no-shrinking", "6 partitions", "3"];
    desk.refused(&desk.ann, "PUT", &path, topic(3), 422, &fewer).await;
    let all = json!({ "edits": [{ "kinds": ["topic"], "change": { "set": { "capacity": { "consumers": 3 } } } }] });
    desk.refused(&desk.ann, "PATCH", "/v1/services/orders/resources", all, 422, &fewer).await;
    let mut by_hand = topic(6);
    by_hand["expert"] = json!({ "partitions": 1, "reason": "fewer" });
    desk.refused(&desk.root, "PUT", &path, by_hand, 422, &["no-shrinking"]).await;
    let mut more_copies = topic(6);
    more_copies["tier"] = json!("critical");
    desk.refused(&desk.ann, "PUT", &path, more_copies, 422, &["no-recopying"]).await;

    let after = describe(&ours, &name, |_| true).await;
    assert_eq!((after.id, after.partitions.len()), (before.id, 6), "it is the very topic that it was");
    let records = Reader::with(cluster.client(), None).read(&name, 1);
    assert_eq!(records.len(), 1, "and has what was in it");
    desk.plane.finish();
}

/// kafka-gitops deletes what is not in its file; ns4kafka drops access rules that it did not make, by default, and limits every
/// user that has no quota.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_made_stays_as_it_is_through_all_that_is_done_here() {
    let cluster = kafka::shared();
    let desk = Desk::open(&cluster).await;
    desk.cluster_is(json!({ "quiet_hours": 0 })).await;
    let (event, app, theirs) = (unique("orders.mine"), unique("mine-app"), unique("their-app"));
    let by_hand = cluster.topic("orders.by.hand", Topic::default());
    let rule = json!([["TOPIC", "LITERAL", by_hand, "*", "READ", "ALLOW"]]);
    let of = |user: &str| format!("User:{user}");
    referee::ask(
        &cluster,
        &json!([
            // Of somebody else, and of the user that is about to be ours.
            { "client": "confluent", "do": "create_acls", "principal": of(&theirs), "rules": rule },
            { "client": "confluent", "do": "create_acls", "principal": of(&app), "rules": rule },
            { "client": "confluent", "do": "upsert_user", "user": theirs, "mechanism": "SCRAM_SHA_512", "iterations": 4096, "password": "theirs" },
            { "client": "confluent", "do": "alter_config", "kind": "TOPIC", "name": by_hand, "key": "retention.ms", "value": "1234567" },
        ]),
    );
    let entity = ["--entity-type", "users", "--entity-name", &theirs];
    referee::kafka_configs(&cluster, &[&["--alter", "--add-config", "producer_byte_rate=4321"], &entity[..]].concat());
    let look = || {
        let seen = referee::ask(
            &cluster,
            &json!([
                { "client": "python", "do": "acls", "principal": of(&theirs) },
                { "client": "confluent", "do": "users", "user": theirs },
                { "client": "confluent", "do": "configs", "kind": "TOPIC", "name": by_hand },
            ]),
        );
        (seen, referee::kafka_configs(&cluster, &[&["--describe"], &entity[..]].concat()))
    };
    let before = look();
    assert!(before.1.contains("4321"), "{}", before.1);

    // A service comes, is granted things, loses them, and goes.
    desk.plane
        .done(
            &desk.ann,
            json!([
                { "id": format!("topic/core/{event}"), "spec": topic(3) },
                { "id": format!("user/core/{app}"), "spec": { "service": "orders" } },
                grant("produce", &event, &app),
                grant("consume", &event, &app),
            ]),
        )
        .await;
    let of_ours = ["--describe", "--entity-type", "users", "--entity-name", &app];
    let quota = referee::kafka_configs(&cluster, &of_ours);
    assert!(!quota.contains("byte_rate"), "nobody asked for a limit: {quota}");
    desk.done("DELETE", &format!("/v1/access/core/{app}:produce:{event}"), Value::Null).await;
    let all = json!({ "edits": [{ "change": "delete" }, { "kinds": ["service"], "change": "delete" }] });
    let gone = desk.done("PATCH", "/v1/services/orders/resources", all).await;
    assert_eq!(gone["state"], "ready", "{gone:#}");
    desk.refused(&desk.ann, "GET", "/v1/services/orders", Value::Null, 404, &[]).await;

    assert_eq!(look(), before);
    let rules = referee::ask(&cluster, &json!([{ "client": "python", "do": "acls", "principal": of(&app) }])).remove(0);
    let left: Vec<_> = rules.as_array().unwrap().iter().map(|rule| &rule[2]).collect();
    assert_eq!(left, [&json!(by_hand)], "of our user's rules only the one that was made by hand is left: {rules}");
    desk.plane.finish();
}

/// A service is taken away by mistake: called off, it is there again with those who used it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_was_taken_away_by_mistake_is_there_again_whole() {
    let cluster = kafka::shared();
    let desk = Desk::open(&cluster).await;
    let (event, app) = (unique("orders.mistaken"), unique("mistaken-app"));
    desk.plane
        .done(
            &desk.ann,
            json!([
                { "id": format!("topic/core/{event}"), "spec": topic(3) },
                { "id": format!("user/core/{app}"), "spec": { "service": "orders" } },
                grant("produce", &event, &app),
            ]),
        )
        .await;
    let client = as_user(&cluster, &app, &desk.secret(&desk.ann, &format!("/v1/users/core/{app}")).await);
    let sent = async || {
        let (client, event) = (client.clone(), event.clone());
        tokio::task::spawn_blocking(move || produce(&client, &event)).await.unwrap()
    };
    let all = json!({ "edits": [{ "change": "delete" }, { "kinds": ["service"], "change": "delete" }] });
    let asked = desk.plane.ask(&desk.ann, "PATCH", "/v1/services/orders/resources", &all).await.json();
    let id = asked["id"].as_str().unwrap_or_else(|| panic!("{asked:#}"));
    for who in [&desk.bea, &desk.omar] {
        let path = format!("/v1/requests/{id}/approve");
        assert_eq!(desk.plane.ask(who, "POST", &path, &json!({})).await.status, 200);
    }
    let path = format!("/v1/requests/{id}");
    let until = async |state: &str| {
        wait_until(state, async || match desk.plane.get(&desk.ann, &path).await {
            request if request["state"] == state => Ok(()),
            request => Err(request.to_string()),
        })
        .await;
    };
    until("quiet").await;
    assert_eq!(format!("{:?}", sent().await), "Err(TopicAuthorizationFailed)", "it is closed at once");
    // What goes is not added to meanwhile.
    let late = json!({ "service": "orders" });
    desk.refused(&desk.ann, "PUT", "/v1/senders/late", late, 422, &["service-goes"]).await;

    let reply =
        desk.plane.ask(&desk.omar, "POST", &format!("{path}/call_off"), &json!({ "reason": "a mistake" })).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    until("withdrawn").await;
    assert_eq!(sent().await, Ok(()), "whoever used it uses it, with the same password");
    for id in [format!("topics/core/{event}"), format!("users/core/{app}"), "services/orders".to_owned()] {
        assert_eq!(desk.plane.get(&desk.ann, &format!("/v1/{id}")).await["state"], "ready", "{id}");
    }
    desk.plane.finish();
}

/// A user, or whatever else has a name, is deleted and made again by somebody else, who has all that the first one was granted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_user_of_a_name_inherits_nothing() {
    let cluster = kafka::shared();
    let desk = Desk::open(&cluster).await;
    let (event, app) = (unique("orders.inherited"), unique("inherited-app"));
    desk.plane
        .done(
            &desk.ann,
            json!([
                { "id": format!("topic/core/{event}"), "spec": topic(3) },
                { "id": format!("user/core/{app}"), "spec": { "service": "orders" } },
                grant("produce", &event, &app),
                grant("consume", &event, &app),
            ]),
        )
        .await;
    let path = format!("/v1/users/core/{app}");
    let first = desk.secret(&desk.ann, &path).await;
    let request = desk.done("DELETE", &path, Value::Null).await;
    assert_eq!(request["changes"].as_array().unwrap().len(), 3, "what it was granted goes with it: {request:#}");
    let ask = json!([{ "client": "python", "do": "acls", "principal": format!("User:{app}") }]);
    assert_eq!(referee::ask(&cluster, &ask), [json!([])], "its topics, and its groups");

    desk.plane.done(&desk.bob, json!([{ "id": format!("user/core/{app}"), "spec": { "service": "bills" } }])).await;
    let second = desk.secret(&desk.bob, &path).await;
    let listed = desk.plane.get(&desk.bob, &format!("/v1/access?q={app}")).await;
    assert_eq!(listed["items"], json!([]));
    for (password, refused) in
        [(second, "TopicAuthorizationFailed"), (first, "AllBrokersDown MessageTimedOut Authentication")]
    {
        let (client, event) = (as_user(&cluster, &app, &password), event.clone());
        let sent = tokio::task::spawn_blocking(move || produce(&client, &event)).await.unwrap();
        let error = format!("{:?}", sent.expect_err("nothing is inherited"));
        assert!(refused.split(' ').any(|refused| error.contains(refused)), "{error}");
    }
    desk.plane.finish();
}

/// An operator of Strimzi's wrote a user's password again every few minutes, and cut its clients off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_written_once_whatever_is_asked_for_again_and_whoever_starts_again() {
    let cluster = kafka::shared();
    let desk = Desk::open(&cluster).await;
    let (event, app) = (unique("orders.once"), unique("once-app"));
    let user = json!({ "id": format!("user/core/{app}"), "spec": { "service": "orders" } });
    let topic = json!({ "id": format!("topic/core/{event}"), "spec": topic(3) });
    desk.plane.done(&desk.ann, json!([topic, user, grant("produce", &event, &app)])).await;
    let path = format!("/v1/users/core/{app}");
    let password = desk.secret(&desk.ann, &path).await;
    let again = desk.plane.done(&desk.ann, json!([user])).await;
    assert_eq!(again["steps"], json!([]), "there is nothing to do");
    // Another word about it is none about its password.
    let (folder, ann) = (desk.plane.folder().to_owned(), desk.ann.clone());
    desk.plane.finish();
    let plane = Control::start_in(folder, &control::config(&cluster, ""));
    let again = plane.done(&ann, json!([user])).await;
    assert_eq!(again["steps"], json!([]), "nor after a start");
    assert_eq!(
        plane.ask(&ann, "POST", &format!("{path}/secret"), &Value::Null).await.status,
        404,
        "there is no new one"
    );
    let client = as_user(&cluster, &app, &password);
    assert_eq!(tokio::task::spawn_blocking(move || produce(&client, &event)).await.unwrap(), Ok(()));
    // A smaller count of passwords is no way back to an old one.
    let back = json!({ "service": "orders", "generation": 0 });
    assert_eq!(plane.ask(&ann, "PUT", &path, &back).await.status, 422);
    plane.finish();
}

/// Kafbat's `readOnly` stood in a filter before some doors; another door led past it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_only_looked_at_is_written_to_by_no_way_in() {
    let cluster = kafka::shared();
    let desk = Desk::open(&cluster).await;
    let (event, app) = (unique("orders.looked.at"), unique("looked-at-app"));
    let new = format!("{event}.new");
    let topic_path = format!("/v1/topics/core/{event}");
    desk.plane
        .done(
            &desk.ann,
            json!([
                { "id": format!("topic/core/{event}"), "spec": topic(3) },
                { "id": format!("user/core/{app}"), "spec": { "service": "orders" } },
                grant("produce", &event, &app),
            ]),
        )
        .await;
    let mut critical = topic(3);
    critical["tier"] = json!("critical");
    let waits = desk.plane.ask(&desk.ann, "PUT", &format!("/v1/topics/core/{new}"), &critical).await.json();
    assert_eq!(waits["state"], "pending", "{waits:#}");
    desk.cluster_is(json!({ "mode": "observe" })).await;

    let observed = ["observed-cluster"];
    let approve = format!("/v1/requests/{}/approve", waits["id"].as_str().unwrap());
    desk.refused(&desk.omar, "POST", &approve, json!({}), 412, &["has changed"]).await;
    let more = |n| topic(n);
    for who in [&desk.ann, &desk.root] {
        desk.refused(who, "PUT", &topic_path, more(6), 422, &observed).await;
        desk.refused(who, "PUT", &format!("/v1/topics/core/{new}"), more(3), 422, &observed).await;
        desk.refused(who, "DELETE", &topic_path, Value::Null, 422, &observed).await;
        desk.refused(who, "DELETE", &format!("/v1/access/core/{app}:produce:{event}"), Value::Null, 422, &observed)
            .await;
        desk.refused(who, "DELETE", &format!("/v1/users/core/{app}"), Value::Null, 422, &observed).await;
        desk.refused(who, "POST", &format!("/v1/users/core/{app}/rotate"), json!({}), 422, &observed).await;
        desk.refused(who, "POST", &format!("/v1/users/core/{app}/rotate?overlap=true"), json!({}), 422, &observed)
            .await;
        let changes = json!({ "changes": [{ "id": format!("topic/core/{new}"), "spec": more(3) }] });
        desk.refused(who, "POST", "/v1/requests", changes, 422, &observed).await;
        let onboarding = json!({ "event": new, "service": "orders", "cluster": "core", "mb_per_second": 0.01 });
        desk.refused(who, "POST", "/v1/onboardings", onboarding, 422, &observed).await;
        for change in [json!("rotate"), json!("delete"), json!({ "set": { "description": "x" } })] {
            let kinds = if change == "rotate" { json!(["user"]) } else { json!(["topic"]) };
            let edits = json!({ "edits": [{ "kinds": kinds, "change": change }] });
            desk.refused(who, "PATCH", "/v1/services/orders/resources", edits, 422, &observed).await;
        }
        let quota = json!({ "service": "orders", "user": app, "produce_bytes_per_second": 1000 });
        desk.refused(who, "PUT", &format!("/v1/quotas/core/{app}"), quota, 422, &observed).await;
    }
    let seen =
        referee::ask(&cluster, &json!([{ "client": "python", "do": "acls", "principal": format!("User:{app}") }]));
    assert_eq!(seen[0].as_array().unwrap().len(), 2, "{seen:?}");
    assert_eq!(describe(&admin(&cluster), &event, |_| true).await.partitions.len(), 3);
    desk.plane.finish();
}

/// Klaw shipped keys and a database console with known passwords, ns4kafka `admin`/`admin` and a known key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_known_beforehand_opens_anything_and_no_secret_is_in_the_store() {
    let cluster = kafka::shared();
    let planes = [control::config(&cluster, ""), control::config(&cluster, "")].map(|config| Control::start(&config));
    let first = |plane: &Control| std::fs::read(plane.folder().join(plane.bootstrap_file())).unwrap();
    assert_ne!(first(&planes[0]), first(&planes[1]));
    for file in ["state/seal.key", "state/snapshot.pem"] {
        let [one, other] = planes.each_ref().map(|plane| plane.folder().join(file));
        assert_ne!(std::fs::read(&one).unwrap(), std::fs::read(&other).unwrap(), "{file}");
        assert_eq!(std::fs::metadata(&one).unwrap().permissions().mode() & 0o077, 0, "{file}");
    }
    let [plane, other] = planes;
    other.finish();
    let guesses =
        ["Basic YWRtaW46YWRtaW4=", "Bearer admin", "Bearer ", "Bearer igz_", "Bearer bootstrap", "Bearer null"];
    for guess in guesses {
        for path in ["/v1/topics", "/v1/me", "/v1/tokens", "/v1/policy"] {
            let request = plane.request("", "GET", path).header("authorization", guess);
            assert_eq!(http::send(request).await.unwrap().status, 401, "{guess} {path}");
        }
    }

    let desk = Desk::on(plane).await;
    let app = unique("secret-app");
    desk.plane
        .done(
            &desk.ann,
            json!([
                { "id": format!("user/core/{app}"), "spec": { "service": "orders" } },
                { "id": format!("sender/{app}"), "spec": { "service": "orders" } },
            ]),
        )
        .await;
    // What waits to be read is sealed, and what was read is nowhere.
    let database = || {
        let files = std::fs::read_dir(desk.plane.folder().join("state")).unwrap().flatten();
        files
            .filter(|file| file.file_name().to_string_lossy().starts_with("control.db"))
            .flat_map(|file| std::fs::read(file.path()).unwrap())
            .collect::<Vec<u8>>()
    };
    let mut bytes = database();
    let password = desk.secret(&desk.ann, &format!("/v1/users/core/{app}")).await;
    let key = desk.secret(&desk.ann, &format!("/v1/senders/{app}")).await;
    bytes.extend(database());
    let log = std::fs::read(desk.plane.folder().join("control-log")).unwrap();
    let audit = desk.plane.ask(&desk.root, "GET", "/v1/audit?limit=1000", &Value::Null).await.text();
    bytes.extend(log);
    bytes.extend(audit.as_bytes());
    assert!(
        bytes.windows(app.len()).any(|found| found == app.as_bytes()),
        "what is looked through is what was written"
    );
    for secret in [&password, &key, &desk.root, &desk.ann] {
        assert!(!bytes.windows(secret.len()).any(|found| found == secret.as_bytes()), "a secret is in clear text");
    }

    // Who asked and who did it are told apart: nobody acts as the plane, and the plane acts as nobody.
    let lines: Value = serde_json::from_str(&audit).unwrap();
    let of_user = |verb: &str| {
        let lines = lines["items"].as_array().unwrap().iter();
        let found = lines.filter(|line| line["object"] == format!("user/core/{app}") && line["verb"] == verb);
        found.map(|line| line["actor"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((of_user("create"), of_user("apply-create")), (vec!["ann".to_owned()], vec!["control".to_owned()]));
    desk.plane.finish();
}
