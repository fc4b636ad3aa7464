//! What is really there: a real Kafka that somebody changes by hand, looked at by the plane and by others' clients.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use iguazu::control::actor::{Actor, Role};
use iguazu::control::gate::Gate;
use iguazu::control::kafka::acls::{AclBinding, AclOperation, AclPattern, AclPermission, AclResource};
use iguazu::control::kafka::configs::{ConfigChange, ConfigResource};
use iguazu::control::kafka::quotas::{QuotaChange, QuotaEntity, QuotaName};
use iguazu::control::kafka::scram::ScramMechanism;
use iguazu::control::kafka::users::NewCredential;
use iguazu::control::kafka::{KafkaAdmin, Mode};
use iguazu::control::policy::Table;
use iguazu::control::probe::{self, Support};
use iguazu::control::provider::Providers;
use iguazu::control::reconcile::{
    Finding, FindingKind, Pass, ReconcileError, Reconciler, Settings, SettleError, Settlement, Way,
};
use iguazu::control::request::{Desk, Request, RequestState};
use iguazu::control::resource::{Kind, ResourceId};
use iguazu::control::store::RequestFilter;
use serde_json::json;

use super::control_requests::{Plane, ann, ask, change, topic_spec};
use super::kafka_admin::{admin, client, code, codes, describe, new_topic, password, user};
use super::support::kafka::{self, Cluster, STRANGER, Topic};
use super::support::{referee, unique, wait_until};

/// What was changed a moment ago is looked at all the same, and everything is measured each time.
const AT_ONCE: Settings =
    Settings { every: Duration::from_secs(60), settle: Duration::ZERO, measure_every: Duration::ZERO };

pub fn reconciler(plane: &Plane) -> Reconciler {
    let (store, desk, reach) = (plane.store.clone(), plane.desk.clone(), plane.reach.clone());
    Reconciler::new(store, desk, Providers::default(), reach, Arc::clone(&plane.clusters), "node", AT_ONCE)
}

pub fn root() -> Actor {
    Actor { name: "root".into(), groups: BTreeSet::new(), roles: BTreeSet::from([Role::Admin]) }
}

async fn findings(reconciler: &Reconciler, resource: &str) -> Vec<Finding> {
    let id: ResourceId = resource.parse().unwrap();
    let all = reconciler.findings(Some("core"), None, None, 10_000).await.unwrap();
    all.into_iter().filter(|finding| finding.resource == id).collect()
}

fn kinds(findings: &[Finding]) -> Vec<&'static str> {
    let mut kinds: Vec<_> = findings.iter().map(|finding| finding.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds
}

fn difference(finding: &Finding, field: &str) -> (String, String) {
    let all = finding.evidence["differences"].as_array().unwrap();
    let one = all.iter().find(|one| one["field"] == field).unwrap_or_else(|| panic!("{field} in {all:?}"));
    (one["desired"].as_str().unwrap().to_owned(), one["actual"].as_str().unwrap().to_owned())
}

async fn settle(reconciler: &Reconciler, actor: &Actor, finding: &str, way: Way) -> Result<Request, SettleError> {
    let settlement = Settlement {
        finding,
        way,
        reason: "it was looked at",
        source: "127.0.0.1",
        dry_run: false,
        idempotency_key: None,
    };
    reconciler.settle(actor, &settlement).await
}

/// A pass that tells of this resource what it should; brokers may take a moment to show what was done.
async fn pass_until(reconciler: &Reconciler, resource: &str, expected: &[&str]) -> (Pass, Vec<Finding>) {
    wait_until(resource, async || {
        let pass = reconciler.pass("core").await.expect("the cluster answers");
        let found = findings(reconciler, resource).await;
        if kinds(&found) == expected { Ok((pass, found)) } else { Err(format!("{found:#?}")) }
    })
    .await
}

async fn with_service(cluster: &Cluster) -> (Plane, Reconciler) {
    let plane = Plane::new(cluster).await;
    plane.done(&ann(), vec![change("service/orders", Some(r#"{ "group": "team-orders" }"#))]).await;
    let reconciler = reconciler(&plane);
    (plane, reconciler)
}

#[tokio::test]
async fn a_cluster_says_what_it_is_what_it_can_do_and_how_much_room_it_has() {
    let cluster = kafka::shared();
    let (plane, reconciler) = with_service(&cluster).await;
    reconciler.pass("core").await.unwrap();
    let probed = reconciler.probed("core").await.unwrap().unwrap();
    assert_eq!(
        probed.brokers.iter().map(|broker| (broker.id, broker.is_up)).collect::<Vec<_>>(),
        [1, 2, 3].map(|id| (id, true))
    );
    assert!(
        probed.brokers.iter().all(|broker| broker.total_bytes > broker.usable_bytes && broker.failed_dirs.is_empty())
    );
    assert!(probed.support.values().all(|support| *support == Support::Yes), "{:?}", probed.support);
    assert_eq!(probed.is_open, Some(false));
    // Both directories of a broker are on one disk, which is counted once.
    let name = cluster.topic("reconcile.probe", Topic::default());
    let others = &referee::ask(&cluster, &json!([{ "client": "python", "do": "log_dirs", "topic": name }]))[0];
    let total = others["1"].as_object().unwrap().values().next().unwrap()["total"].as_u64().unwrap();
    assert_eq!(probed.brokers[0].total_bytes, Some(total));

    let budgets = reconciler.budgets().await.unwrap();
    assert_eq!(budgets.len(), 1);
    assert_eq!(budgets[0].disk_bytes, Some(3 * (total as f64 * 0.85) as u64));
    assert!(budgets[0].unmanaged_bytes > 0 && budgets[0].free_bytes < budgets[0].disk_bytes);
    // It is kept, so that a node that starts while Kafka is down plans on it.
    plane.clusters.store(Arc::new(BTreeMap::new()));
    reconciler.remember().await.unwrap();
    assert_eq!(plane.clusters.load()["core"].class.brokers, 3);

    // Whoever may do nothing there can manage nothing, and is told why.
    let stranger = user(&cluster, "PLAIN", STRANGER);
    let probed = probe::probe(&stranger).await.unwrap();
    for kind in [Kind::User, Kind::Access, Kind::Quota] {
        assert!(
            matches!(&probed.support[&kind], Support::No { why } if why.contains("our user may not")),
            "{probed:#?}"
        );
    }
}

#[tokio::test]
async fn a_cluster_that_is_only_looked_at_or_not_registered_is_never_written_to() {
    let cluster = kafka::shared();
    let plane = Plane::new(&cluster).await;
    let (name, someone) = (unique("reconcile.observed"), unique("observed-app"));
    let gate = |name: &str| Gate::new(name, plane.store.clone(), Arc::new(admin(&cluster)));
    let admin = admin(&cluster);
    let existing = cluster.topic("reconcile.existing", Topic::default());
    let existing_id = describe(&admin, &existing, |_| true).await.id;
    let observe = r#"{ "mode": "observe", "operators": ["platform"] }"#;
    let request = plane.desk.submit(&root(), ask(vec![change("cluster/core", Some(observe))])).await.unwrap();
    let other = Actor { name: "root2".into(), ..root() };
    plane.desk.approve(&other, &request.id, &request.plan_hash, "", "").await.unwrap();
    plane.applier.run_once().await.unwrap();

    let rule = AclBinding {
        resource: AclResource::Topic,
        pattern: AclPattern::Literal,
        name: name.clone(),
        principal: format!("User:{someone}"),
        host: "*".into(),
        operation: AclOperation::Read,
        permission: AclPermission::Allow,
    };
    let credential = NewCredential {
        user: someone.clone(),
        mechanism: ScramMechanism::Sha256,
        iterations: 4_096,
        password: iguazu::config::Secret::new("a-password".into()),
    };
    let entity = QuotaEntity { user: Some(QuotaName::Name(someone.clone())), ..QuotaEntity::default() };
    let quota = QuotaChange { entity, values: vec![("producer_byte_rate".into(), Some(1e6))] };
    let config = ConfigChange {
        resource: ConfigResource::Topic(existing.clone()),
        values: vec![("retention.ms".into(), Some("1234567".into()))],
    };
    for gate in [gate("core"), gate("unregistered")] {
        let refused = [
            code(&gate.create_topics(&[new_topic(&name, 1, 1, &[])], Mode::Apply).await),
            code(&gate.create_partitions(&[(existing.clone(), 9)], Mode::Apply).await),
            code(&gate.delete_topics(&[existing_id]).await),
            code(&gate.alter_configs(std::slice::from_ref(&config), Mode::Apply).await),
            code(&gate.create_acls(std::slice::from_ref(&rule)).await),
            code(&gate.delete_acls(std::slice::from_ref(&rule)).await),
            code(&gate.upsert_credentials(std::slice::from_ref(&credential)).await),
            code(&gate.delete_credentials(&[(someone.clone(), ScramMechanism::Sha256)]).await),
            code(&gate.alter_quotas(std::slice::from_ref(&quota), Mode::Apply).await),
        ];
        assert_eq!(refused, ["not_supported"; 9]);
        assert_eq!(codes(&gate.describe_topics(std::slice::from_ref(&existing)).await.unwrap()), ["ok"], "reads pass");
    }
    let questions = json!([
        { "client": "confluent", "do": "acls", "principal": format!("User:{someone}") },
        { "client": "confluent", "do": "configs", "kind": "TOPIC", "name": existing },
    ]);
    let others = referee::ask(&cluster, &questions);
    assert_eq!(others[0], json!([]));
    assert_ne!(others[1]["retention.ms"][0], "1234567");
    assert_eq!(codes(&admin.describe_topics(std::slice::from_ref(&name)).await.unwrap()), ["not_found"]);
    assert_eq!(describe(&admin, &existing, |_| true).await.partitions.len(), 3);
    assert_eq!(codes(&admin.describe_users(&[someone]).await.unwrap()), ["not_found"]);

    // And nobody plans anything there.
    let wanted = vec![change(&format!("topic/core/{name}"), Some(&topic_spec(0.01)))];
    let request = plane.desk.submit(&root(), ask(wanted)).await.unwrap();
    assert_eq!(request.state, RequestState::Rejected);
    assert!(request.changes[0].violations.iter().any(|violation| violation.rule == "observed-cluster"));
}

#[tokio::test]
async fn what_somebody_changed_by_hand_is_found_with_both_values_and_restored_by_its_owner() {
    let cluster = kafka::shared();
    let (plane, reconciler) = with_service(&cluster).await;
    let (topic, app) = (unique("orders.drifts"), unique("drifts-app"));
    let (topic_id, access_id) = (format!("topic/core/{topic}"), format!("access/core/{app}:produce:{topic}"));
    let access = format!(r#"{{ "service": "orders", "level": "produce", "target": "{topic}", "principal": "{app}" }}"#);
    let limit = format!(r#"{{ "service": "orders", "user": "{app}", "produce_bytes_per_second": 3000000 }}"#);
    plane
        .done(
            &ann(),
            vec![
                change(&topic_id, Some(&topic_spec(0.01))),
                change(&format!("user/core/{app}"), Some(r#"{ "service": "orders" }"#)),
                change(&access_id, Some(&access)),
            ],
        )
        .await;
    let quota_id = format!("quota/core/{app}");
    let request = plane.desk.submit(&ann(), ask(vec![change(&quota_id, Some(&limit))])).await.unwrap();
    let other = Actor { name: "root2".into(), ..root() };
    plane.desk.approve(&other, &request.id, &request.plan_hash, "", "").await.unwrap();
    plane.applier.run_once().await.unwrap();
    for id in [&topic_id, &access_id, &quota_id] {
        pass_until(&reconciler, id, &[]).await;
    }
    // What is as desired is not written down again.
    let before = plane.resource(&topic_id).await.unwrap();
    pass_until(&reconciler, &topic_id, &[]).await;
    assert_eq!(plane.resource(&topic_id).await.unwrap(), before, "neither its revision nor its row");

    // Somebody with another client shortens the retention, takes an access rule away and cuts the quota.
    let shorter = json!([
        { "client": "confluent", "do": "alter_config", "kind": "TOPIC", "name": topic, "key": "retention.ms", "value": "60000" },
        { "client": "confluent", "do": "acls", "principal": format!("User:{app}") },
    ]);
    let rules = &referee::ask(&cluster, &shorter)[1];
    assert_eq!(rules.as_array().unwrap().len(), 2);
    let rule = AclBinding {
        resource: AclResource::Topic,
        pattern: AclPattern::Literal,
        name: topic.clone(),
        principal: format!("User:{app}"),
        host: "*".into(),
        operation: AclOperation::Write,
        permission: AclPermission::Allow,
    };
    let admin = admin(&cluster);
    assert_eq!(codes(&admin.delete_acls(&[rule]).await.unwrap()), ["ok"]);
    let entity = QuotaEntity { user: Some(QuotaName::Name(app.clone())), ..QuotaEntity::default() };
    let quota = QuotaChange { entity, values: vec![("producer_byte_rate".into(), Some(1_000.0))] };
    admin.alter_quotas(&[quota], Mode::Apply).await.unwrap();

    // The segments are longer than the retention now, and the quota is below what is declared: that is told, too.
    let expected = ["drift", "no_access", "quota_throttles", "retention_under_segment"];
    let (pass, found) = pass_until(&reconciler, &topic_id, &expected).await;
    assert!(!pass.held && pass.healed == 0, "{pass:?}");
    let drift = found.iter().find(|finding| finding.kind == FindingKind::Drift).unwrap();
    assert_eq!(difference(drift, "retention.ms"), ("86400000".to_owned(), "60000".to_owned()));
    assert!(drift.since_ms > 0 && drift.ways == BTreeSet::from([Way::Accept, Way::Restore]));
    let access = pass_until(&reconciler, &access_id, &["drift"]).await.1.remove(0);
    let quota = pass_until(&reconciler, &quota_id, &["drift"]).await.1.remove(0);

    // A stranger restores nothing; the owner does, and nobody has to agree: it is what was agreed on.
    let stranger = Actor { name: "eve".into(), groups: BTreeSet::new(), roles: BTreeSet::new() };
    let refused = settle(&reconciler, &stranger, &drift.id, Way::Restore).await.unwrap();
    assert_eq!(refused.state, RequestState::Rejected);
    for finding in [drift, &access, &quota] {
        let request = settle(&reconciler, &ann(), &finding.id, Way::Restore).await.unwrap();
        assert_eq!(request.state, RequestState::Approved, "{request:#?}");
        assert_eq!(request.changes[0].decision.rule.as_deref(), Some("restore"));
    }
    plane.applier.run_once().await.unwrap();
    let questions = json!([
        { "client": "confluent", "do": "configs", "kind": "TOPIC", "name": topic },
        { "client": "python", "do": "acls", "principal": format!("User:{app}") },
    ]);
    let others = referee::ask(&cluster, &questions);
    assert_eq!(others[0]["retention.ms"][0], "86400000");
    assert_eq!(&others[1], rules);
    let told = referee::kafka_configs(&cluster, &["--describe", "--entity-type", "users", "--entity-name", &app]);
    assert!(told.contains("producer_byte_rate=1500000"), "{told}");
    for id in [&topic_id, &access_id, &quota_id] {
        pass_until(&reconciler, id, &[]).await;
    }
}

#[tokio::test]
async fn what_is_there_is_accepted_by_who_may_say_so_and_a_longer_retention_is_not_cut_without_review() {
    let cluster = kafka::shared();
    let (plane, reconciler) = with_service(&cluster).await;
    let topic = unique("orders.accepted");
    let id = format!("topic/core/{topic}");
    plane.done(&ann(), vec![change(&id, Some(&topic_spec(0.01)))]).await;
    let longer = json!([
        { "client": "confluent", "do": "alter_config", "kind": "TOPIC", "name": topic, "key": "retention.ms", "value": "172800000" },
    ]);
    referee::ask(&cluster, &longer);
    let found = pass_until(&reconciler, &id, &["drift"]).await.1.remove(0);

    // To restore it would delete the second day's records: owner and operator must agree.
    let request = settle(&reconciler, &ann(), &found.id, Way::Restore).await.unwrap();
    assert_eq!(request.changes[0].decision.rule.as_deref(), Some("retention-cut"), "{request:#?}");
    assert_eq!(request.state, RequestState::Pending);
    plane.desk.deny(&ann(), &request.id, "", "").await.unwrap();

    // Kafka's own settings are an expert's to desire.
    let refused = settle(&reconciler, &ann(), &found.id, Way::Accept).await.unwrap();
    assert!(refused.changes[0].violations.iter().any(|violation| violation.rule == "not-an-expert"), "{refused:#?}");
    let expert = Actor { roles: BTreeSet::from([Role::Expert]), ..ann() };
    let request = settle(&reconciler, &expert, &found.id, Way::Accept).await.unwrap();
    assert_eq!(request.changes[0].decision.rule.as_deref(), Some("expert-settings"), "{request:#?}");
    let ops = Actor { name: "ops".into(), groups: BTreeSet::from(["platform".into()]), roles: BTreeSet::new() };
    plane.desk.approve(&ops, &request.id, &request.plan_hash, "", "").await.unwrap();
    plane.applier.run_once().await.unwrap();
    pass_until(&reconciler, &id, &[]).await;
    let accepted = plane.resource(&id).await.unwrap();
    assert_eq!(
        serde_json::to_value(&accepted.spec).unwrap()["spec"]["expert"]["configs"],
        json!({ "retention.ms": "172800000" })
    );
    let gone = settle(&reconciler, &expert, &found.id, Way::Accept).await;
    assert!(matches!(gone, Err(SettleError::Unknown { .. })), "{gone:?}");
}

#[tokio::test]
async fn a_topic_that_somebody_deleted_is_missing_and_one_that_was_made_anew_is_not_taken_over() {
    let cluster = kafka::shared();
    let (plane, reconciler) = with_service(&cluster).await;
    let topic = unique("orders.gone");
    let id = format!("topic/core/{topic}");
    plane.done(&ann(), vec![change(&id, Some(&topic_spec(0.01)))]).await;
    pass_until(&reconciler, &id, &[]).await;
    let ours = plane.resource(&id).await.unwrap().kafka_id.unwrap();
    cluster.delete_topic(&topic);
    let missing = pass_until(&reconciler, &id, &["missing"]).await.1.remove(0);
    assert_eq!(missing.ways, BTreeSet::from([Way::Accept, Way::Restore]));
    // Whoever accepts that it is gone asks for its deletion: owner and operator.
    let accepted = settle(&reconciler, &ann(), &missing.id, Way::Accept).await.unwrap();
    assert_eq!((accepted.state, accepted.changes[0].operation.as_str()), (RequestState::Pending, "delete"));
    plane.desk.deny(&ann(), &accepted.id, "", "").await.unwrap();
    let restored = settle(&reconciler, &ann(), &missing.id, Way::Restore).await.unwrap();
    assert_eq!(restored.state, RequestState::Approved, "{restored:#?}");
    plane.applier.run_once().await.unwrap();
    pass_until(&reconciler, &id, &[]).await;
    let anew = plane.resource(&id).await.unwrap().kafka_id.unwrap();
    assert_ne!(anew, ours);

    // Somebody deletes it and makes another one of the same name.
    cluster.delete_topic(&topic);
    let admin = admin(&cluster);
    wait_until("the topic is gone", async || {
        match codes(&admin.describe_topics(std::slice::from_ref(&topic)).await.unwrap())[..] {
            ["not_found"] => Ok(()),
            ref other => Err(format!("{other:?}")),
        }
    })
    .await;
    cluster.create_topic(&topic, Topic { partitions: 1, ..Topic::default() });
    let recreated = pass_until(&reconciler, &id, &["over_reserve", "recreated"]).await.1;
    let recreated = recreated.iter().find(|finding| finding.kind == FindingKind::Recreated).unwrap();
    assert_eq!(difference(recreated, "kafka_id").0, anew);
    assert_eq!(difference(recreated, "partitions"), ("3".to_owned(), "1".to_owned()));
    assert!(!recreated.ways.contains(&Way::Restore), "what others made is not taken over");
    let refused = settle(&reconciler, &root(), &recreated.id, Way::Restore).await;
    assert!(matches!(refused, Err(SettleError::NoWay { .. })), "{refused:?}");
    // Nor by asking for what is desired once more.
    let again = plane.desk.submit(&ann(), ask(vec![change(&id, Some(&topic_spec(0.01)))])).await.unwrap();
    plane.applier.run_once().await.unwrap();
    let again = plane.request(&again.id).await;
    assert_eq!(again.state, RequestState::Failed, "{again:#?}");
    assert_eq!(describe(&admin, &topic, |_| true).await.partitions.len(), 1);
}

#[tokio::test]
async fn what_could_not_be_seen_is_unknown_and_never_absent() {
    let cluster = kafka::shared();
    let (plane, mut reconciler) = with_service(&cluster).await;
    let topic = unique("orders.unseen");
    let id = format!("topic/core/{topic}");
    plane.done(&ann(), vec![change(&id, Some(&topic_spec(0.01)))]).await;
    let shorter = json!([
        { "client": "confluent", "do": "alter_config", "kind": "TOPIC", "name": topic, "key": "retention.ms", "value": "36000000" },
    ]);
    referee::ask(&cluster, &shorter);
    let known = pass_until(&reconciler, &id, &["drift"]).await.1;

    // A user that may see nothing sees no topic, and the brokers say so of each that is named: forbidden, not absent.
    let blind: Arc<dyn KafkaAdmin> = Arc::new(user(&cluster, "PLAIN", STRANGER));
    let mut reach = plane.reach.clone();
    reach.clusters.insert("core".into(), blind);
    let clusters = Arc::clone(&plane.clusters);
    let (store, desk) = (plane.store.clone(), plane.desk.clone());
    reconciler =
        Reconciler::new(store.clone(), desk.clone(), Providers::default(), reach.clone(), clusters, "node", AT_ONCE);
    let pass = reconciler.pass("core").await.unwrap();
    assert_eq!(findings(&reconciler, &id).await, known, "{pass:?}");

    // A cluster that is not there says nothing of any of its topics.
    let nowhere = iguazu::control::kafka::Timeouts {
        connect: Duration::from_millis(200),
        answer: Duration::from_millis(300),
        call: Duration::from_millis(500),
    };
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    reach.clusters.insert("core".into(), Arc::new(client(&closed, None, password("PLAIN", STRANGER), nowhere)));
    let clusters = Arc::clone(&plane.clusters);
    reconciler = Reconciler::new(store, desk, Providers::default(), reach, clusters, "node", AT_ONCE);
    let unseen = reconciler.pass("core").await;
    assert!(matches!(unseen, Err(ReconcileError::Unseen { .. })), "{unseen:?}");
    assert_eq!(
        kinds(&findings(&reconciler, "cluster/core").await).iter().filter(|kind| **kind == "unreachable").count(),
        1
    );
    assert_eq!(findings(&reconciler, &id).await, known);
}

#[tokio::test]
async fn what_the_policy_says_heals_by_itself_does_and_everything_is_in_the_audit_log() {
    let cluster = kafka::shared();
    let (plane, reconciler) = with_service(&cluster).await;
    let topic = unique("orders.heals");
    let id = format!("topic/core/{topic}");
    plane.done(&ann(), vec![change(&id, Some(&topic_spec(0.01)))]).await;
    let shorter = json!([
        { "client": "confluent", "do": "alter_config", "kind": "TOPIC", "name": topic, "key": "retention.ms", "value": "36000000" },
    ]);
    referee::ask(&cluster, &shorter);
    // With the table that comes with the program nothing is done by itself.
    let (pass, _) = pass_until(&reconciler, &id, &["drift"]).await;
    assert_eq!(pass.healed, 0);
    assert_eq!(plane.store.requests::<Request>(&RequestFilter::in_state("approved"), None, 10).await.unwrap().len(), 0);

    let mut table = Table::default();
    let heal = r#"[[rule]]
        id = "heal-topics"
        verdict = "auto"
        reason = "what drifts is put back"
        when = [{ fact = "restore", is = true }, { fact = "kind", is = "topic" }, { fact = "violations", at_most = 0 }]"#;
    table.rules.insert(0, Table::parse(heal, None).unwrap().rules.remove(0));
    let policy = Arc::new(arc_swap::ArcSwap::from_pointee(table));
    let desk = Desk::new(plane.store.clone(), Providers::default(), policy, Arc::clone(&plane.clusters));
    let (store, reach, clusters) = (plane.store.clone(), plane.reach.clone(), Arc::clone(&plane.clusters));
    let healing = Reconciler::new(store, desk, Providers::default(), reach, clusters, "node", AT_ONCE);
    assert_eq!(healing.pass("core").await.unwrap().healed, 1);
    // A second look before it is applied asks for nothing more.
    healing.pass("core").await.unwrap();
    let requests = plane.store.requests::<Request>(&RequestFilter::in_state("approved"), None, 10).await.unwrap();
    assert_eq!(requests.iter().map(|row| row.actor.as_str()).collect::<Vec<_>>(), ["control"]);
    plane.applier.run_once().await.unwrap();
    pass_until(&healing, &id, &[]).await;
    let others =
        referee::ask(&cluster, &json!([{ "client": "python", "do": "configs", "kind": "TOPIC", "name": topic }]));
    assert!(others[0].to_string().contains("86400000"), "{}", others[0]);
    assert_eq!(plane.store.verify_audit().await.unwrap().map(|lines| lines > 0), Ok(true));
}
