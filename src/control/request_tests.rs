//! Requests on a store of their own, and no Kafka: nothing of it is asked before a request is approved.

use serde_json::Value;

use super::*;
use crate::control::actor::Role;
use crate::control::capacity::Class;
use crate::control::store::{RequestFilter, Resource};

const GB: u64 = 1_000_000_000;

struct Office {
    desk: Desk,
    store: Store,
    _folder: tempfile::TempDir,
}

impl Office {
    /// A cluster of 1,000 GB and two services.
    async fn open() -> Office {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", folder.path().join("control.db").display())).await.unwrap();
        let view = ClusterView { class: Class::default(), disk_bytes_max: Some(1_000 * GB), ..ClusterView::default() };
        let clusters = BTreeMap::from([("core".to_owned(), view)]);
        let clusters = Arc::new(ArcSwap::from_pointee(clusters));
        let policy = Arc::new(ArcSwap::from_pointee(Table::default()));
        let desk = Desk::new(store.clone(), Providers::default(), policy, clusters);
        let office = Office { desk, store, _folder: folder };
        let cluster = r#"{ "mode": "shared", "operators": ["platform"], "environment": "prod" }"#;
        office.set("cluster/core", cluster, "").await;
        office.set("service/orders", r#"{ "group": "team-orders", "allowance_bytes": 100000000000 }"#, "orders").await;
        office.set("service/bills", r#"{ "group": "team-bills" }"#, "bills").await;
        office
    }

    /// Puts a resource into the store, as if it had been applied.
    async fn set(&self, id: &str, spec: &str, service: &str) {
        let id: ResourceId = id.parse().unwrap();
        let mut tx = self.store.begin().await.unwrap();
        let revision = tx.resource(&id).await.unwrap().map_or(0, |resource| resource.revision);
        let spec = Spec::read(id.kind, serde_json::from_str(spec).unwrap()).unwrap();
        let resource = Resource { revision, ..Resource::new(id, service.to_owned(), spec) };
        tx.put_resource(&resource).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn submit(&self, actor: &Actor, ask: Ask) -> Request {
        self.desk.submit(actor, ask).await.unwrap()
    }
}

fn actor(name: &str, groups: &[&str]) -> Actor {
    Actor {
        name: name.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        roles: BTreeSet::new(),
    }
}

fn ann() -> Actor {
    actor("ann", &["team-orders"])
}

fn change(id: &str, spec: Option<&str>) -> Change {
    let id: ResourceId = id.parse().unwrap();
    let desired = spec.map(|spec| Spec::read(id.kind, serde_json::from_str(spec).unwrap()).unwrap());
    Change { id, desired, if_match: None }
}

fn topic(name: &str, mb_per_second: f64) -> Change {
    let spec = format!(r#"{{ "service": "orders", "capacity": {{ "mb_per_second": {mb_per_second} }} }}"#);
    change(&format!("topic/core/{name}"), Some(&spec))
}

fn ask(changes: Vec<Change>) -> Ask {
    Ask {
        changes,
        reason: String::new(),
        dry_run: false,
        idempotency_key: None,
        managed_by: ManagedBy::Api,
        source: "127.0.0.1".to_owned(),
    }
}

fn rules(request: &Request) -> Vec<&str> {
    request.changes.iter().flat_map(|planned| &planned.violations).map(|violation| violation.rule.as_str()).collect()
}

#[tokio::test]
async fn a_small_topic_of_ones_own_service_is_approved_at_once() {
    let office = Office::open().await;
    let request = office.submit(&ann(), ask(vec![topic("orders.placed", 0.01)])).await;
    assert_eq!((request.state, rules(&request)), (RequestState::Approved, vec![]), "{request:?}");
    assert_eq!(request.changes[0].decision.rule.as_deref(), Some("small-topic"));
    let need = request.changes[0].need.unwrap();
    assert_eq!(office.store.taken("core").await.unwrap(), need);
}

#[tokio::test]
async fn everything_that_is_wrong_is_told_at_once_and_nothing_is_reserved() {
    let office = Office::open().await;
    let bad = change(
        "topic/core/_orders",
        Some(
            r#"{ "service": "orders", "capacity": { "mb_per_second": -1, "retention_hours": 0 }, "expert": { "reason": " " } }"#,
        ),
    );
    let request = office.submit(&ann(), ask(vec![bad, topic("orders.ok", 0.01), topic("orders.ok", 0.01)])).await;
    assert_eq!(request.state, RequestState::Rejected);
    assert_eq!(rules(&request), ["name", "required", "not-an-expert", "capacity", "capacity", "twice"]);
    assert_eq!(office.store.taken("core").await.unwrap(), Need::default());
    let audit = office.store.audit_lines(0, 10).await.unwrap();
    assert_eq!(audit.iter().map(|line| line.outcome.as_str()).collect::<Vec<_>>(), ["reject", "auto", "reject"]);
}

#[tokio::test]
async fn a_topic_that_events_still_go_to_is_not_deleted_and_its_grants_go_with_it() {
    let office = Office::open().await;
    let spec = r#"{ "service": "orders", "capacity": { "mb_per_second": 0.01 } }"#;
    office.set("topic/core/orders.placed", spec, "orders").await;
    office.set("topic/core/more.orders.placed", spec, "orders").await;
    let event = r#"{ "service": "orders", "cluster": "core", "topic": "orders.placed" }"#;
    office.set("event_type/placed", event, "orders").await;
    for (target, principal) in [("orders.placed", "bills-app"), ("more.orders.placed", "bills-app")] {
        let access = format!(
            r#"{{ "service": "bills", "level": "consume", "target": "{target}", "principal": "{principal}" }}"#
        );
        office.set(&format!("access/core/{principal}:consume:{target}"), &access, "bills").await;
    }
    let request = office.submit(&ann(), ask(vec![change("topic/core/orders.placed", None)])).await;
    assert_eq!((request.state, rules(&request)), (RequestState::Rejected, vec!["in-use"]), "{request:?}");

    // Once they go elsewhere, owner and operator decide, and what others were granted on it goes with it.
    office.set("event_type/placed", &event.replace("orders.placed", "more.orders.placed"), "orders").await;
    let request = office.submit(&ann(), ask(vec![change("topic/core/orders.placed", None)])).await;
    assert_eq!((request.state, rules(&request)), (RequestState::Pending, vec![]), "{request:?}");
    let changes: Vec<String> = request.changes.iter().map(|planned| planned.resource.to_string()).collect();
    assert_eq!(changes, ["access/core/bills-app:consume:orders.placed", "topic/core/orders.placed"]);
    assert_eq!(request.approvers(), BTreeSet::from([Approver::Owner, Approver::Operator]));
    let own = office.desk.approve(&ann(), &request.id, &request.plan_hash, "", "").await;
    assert!(matches!(own, Err(RequestError::OwnRequest)));
    let bob = actor("bob", &["team-orders"]);
    let half = office.desk.approve(&bob, &request.id, &request.plan_hash, "", "").await.unwrap();
    assert_eq!(half.state, RequestState::Pending, "the operator has not agreed");
    let ops = actor("ops", &["platform"]);
    let whole = office.desk.approve(&ops, &request.id, &request.plan_hash, "", "").await.unwrap();
    assert_eq!(whole.state, RequestState::Approved, "{whole:?}");
    // Nothing is closed yet, so that there is nothing to call off.
    let early = office.desk.call_off(&ann(), &request.id, "", "").await;
    assert!(matches!(early, Err(RequestError::WrongState { .. })), "{early:?}");
}

#[tokio::test]
async fn what_is_not_theirs_nobody_can_ask_for_nor_learn_about() {
    let office = Office::open().await;
    office.submit(&ann(), ask(vec![topic("orders.placed", 0.01)])).await;
    for stranger in [actor("bob", &["team-bills"]), actor("eve", &[]), actor("ops", &["platforms"])] {
        let request = office.submit(&stranger, ask(vec![topic("orders.more", 0.01)])).await;
        assert_eq!((request.state, rules(&request)), (RequestState::Rejected, vec!["not-yours"]), "{}", stranger.name);
    }
    // A service is taken by who is of the group that is to own it, and a cluster by nobody but an admin.
    let service = change("service/new", Some(r#"{ "group": "team-new" }"#));
    assert_eq!(office.submit(&ann(), ask(vec![service.clone()])).await.state, RequestState::Rejected);
    assert_eq!(office.submit(&actor("new", &["team-new"]), ask(vec![service])).await.state, RequestState::Approved);
    let cluster = change("cluster/core", Some(r#"{ "mode": "dedicated", "operators": ["team-orders"] }"#));
    assert_eq!(rules(&office.submit(&ann(), ask(vec![cluster])).await), ["not-yours"]);
    // Nor is a service stolen by naming another group.
    let theft = change("service/bills", Some(r#"{ "group": "team-orders" }"#));
    assert_eq!(rules(&office.submit(&ann(), ask(vec![theft])).await), ["not-yours"]);
}

#[tokio::test]
async fn what_the_cluster_has_no_room_for_is_refused_and_of_many_exactly_those_pass_that_fit() {
    let office = Arc::new(Office::open().await);
    office.set("service/orders", r#"{ "group": "team-orders", "allowance_bytes": 900000000000000 }"#, "orders").await;
    let one = office.submit(&ann(), Ask { dry_run: true, ..ask(vec![topic("a", 0.2)]) }).await;
    let need = one.changes[0].need.unwrap().disk_bytes;
    let fit = (1_000 * GB / need) as usize;
    assert!((3..30).contains(&fit), "{need}");
    let tries: Vec<_> = (0..fit + 7)
        .map(|number| {
            let office = Arc::clone(&office);
            tokio::spawn(async move { office.submit(&ann(), ask(vec![topic(&format!("t{number}"), 0.2)])).await.state })
        })
        .collect();
    let mut states = Vec::new();
    for one in tries {
        states.push(one.await.unwrap());
    }
    assert_eq!(states.iter().filter(|state| **state == RequestState::Rejected).count(), 7, "{states:?}");
    assert_eq!(office.store.taken("core").await.unwrap().disk_bytes, need * fit as u64);
    // Two that fit one by one and not together, in one request.
    let office = Office::open().await;
    let both = office.submit(&ann(), ask(vec![topic("a", 2.0), topic("b", 2.0)])).await;
    assert_eq!(both.state, RequestState::Rejected);
    assert_eq!(both.changes[1].decision.rule.as_deref(), Some("over-budget"));
    assert_eq!(office.store.taken("core").await.unwrap(), Need::default());
}

#[tokio::test]
async fn a_request_that_needs_owner_and_operator_waits_for_both_and_never_for_its_own_author() {
    let office = Office::open().await;
    office
        .set("topic/core/orders.placed", r#"{ "service": "orders", "capacity": { "mb_per_second": 0.01 } }"#, "orders")
        .await;
    let request = office.submit(&ann(), ask(vec![change("topic/core/orders.placed", None)])).await;
    assert_eq!(request.state, RequestState::Pending);
    let approve = |who: Actor, hash: String| {
        let (office, id) = (&office, request.id.clone());
        async move { office.desk.approve(&who, &id, &hash, "fine", "127.0.0.1").await }
    };
    let hash = request.plan_hash.clone();
    assert!(matches!(approve(ann(), hash.clone()).await, Err(RequestError::OwnRequest)));
    let admin = Actor { roles: BTreeSet::from([Role::Admin]), ..ann() };
    assert!(matches!(approve(admin, hash.clone()).await, Err(RequestError::OwnRequest)));
    let stranger = actor("bob", &["team-bills"]);
    assert!(matches!(approve(stranger, hash.clone()).await, Err(RequestError::NotAnApprover { .. })));
    let colleague = approve(actor("cat", &["team-orders"]), hash.clone()).await.unwrap();
    assert_eq!(colleague.state, RequestState::Pending, "an operator is still missing");
    let operator = approve(actor("dan", &["platform"]), hash.clone()).await.unwrap();
    assert_eq!(operator.state, RequestState::Approved);
    assert!(matches!(approve(actor("dan", &["platform"]), hash).await, Err(RequestError::WrongState { .. })));
    let refused = office.store.audit_lines(0, 20).await.unwrap();
    let outcomes: Vec<_> = refused.iter().map(|line| line.outcome.as_str()).collect();
    assert_eq!(outcomes, ["review", "own_request", "own_request", "not_an_approver", "done", "done"]);
}

#[tokio::test]
async fn an_approval_of_a_plan_that_no_longer_holds_is_refused() {
    let office = Office::open().await;
    let spec = r#"{ "service": "orders", "capacity": { "mb_per_second": 0.01 } }"#;
    office.set("topic/core/orders.placed", spec, "orders").await;
    let request = office.submit(&ann(), ask(vec![change("topic/core/orders.placed", None)])).await;
    // It has changed since.
    office.set("topic/core/orders.placed", spec, "orders").await;
    let operator = actor("dan", &["platform"]);
    let stale = office.desk.approve(&operator, &request.id, &request.plan_hash, "", "").await;
    assert!(matches!(stale, Err(RequestError::Stale { .. })), "{stale:?}");
    let row = office.store.request::<Request>(&request.id).await.unwrap().unwrap();
    assert_eq!(row.document.state, RequestState::Superseded);
}

#[tokio::test]
async fn whoever_asked_can_take_it_back_and_what_it_had_reserved_is_free() {
    let office = Office::open().await;
    let critical = r#"{ "service": "orders", "capacity": { "mb_per_second": 0.01 }, "tier": "critical" }"#;
    let request = office.submit(&ann(), ask(vec![change("topic/core/orders.paid", Some(critical))])).await;
    assert_eq!((request.state, request.approvers()), (RequestState::Pending, BTreeSet::from([Approver::Operator])));
    assert_ne!(office.store.taken("core").await.unwrap(), Need::default());
    let back = office.desk.deny(&ann(), &request.id, "a mistake", "").await.unwrap();
    assert_eq!(back.state, RequestState::Withdrawn);
    assert_eq!(office.store.taken("core").await.unwrap(), Need::default());
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_and_a_known_key_takes_nothing_twice() {
    let office = Office::open().await;
    let dry = office.submit(&ann(), Ask { dry_run: true, ..ask(vec![topic("orders.placed", 0.01)]) }).await;
    assert_eq!(dry.verdict, Verdict::Auto);
    assert_eq!(office.store.taken("core").await.unwrap(), Need::default());
    assert!(office.store.requests::<Value>(&RequestFilter::default(), None, 10).await.unwrap().is_empty());
    let keyed = || Ask { idempotency_key: Some("k".to_owned()), ..ask(vec![topic("orders.placed", 0.01)]) };
    let first = office.submit(&ann(), keyed()).await;
    let second = office.submit(&ann(), keyed()).await;
    assert_eq!(first, second);
    assert_eq!(office.store.requests::<Value>(&RequestFilter::default(), None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_resource_has_one_side_that_changes_it() {
    let office = Office::open().await;
    office
        .set("topic/core/orders.placed", r#"{ "service": "orders", "capacity": { "mb_per_second": 0.01 } }"#, "orders")
        .await;
    let from_files =
        Ask { managed_by: ManagedBy::Repository("infra".to_owned()), ..ask(vec![topic("orders.placed", 0.02)]) };
    assert_eq!(rules(&office.submit(&ann(), from_files).await), ["managed-elsewhere"]);
    let mut seen = topic("orders.placed", 0.02);
    seen.if_match = Some(7);
    assert_eq!(rules(&office.submit(&ann(), ask(vec![seen])).await), ["stale"]);
}

#[tokio::test]
async fn a_topic_never_shrinks_and_growth_of_keyed_ones_is_reviewed() {
    let office = Office::open().await;
    office.set("service/orders", r#"{ "group": "team-orders", "allowance_bytes": 900000000000000 }"#, "orders").await;
    let spec = r#"{ "service": "orders", "capacity": { "mb_per_second": 0.1, "consumers": 6 }, "keyed": true }"#;
    office.set("topic/core/orders.placed", spec, "orders").await;
    let with_consumers = |consumers: u32| {
        let spec = spec.replace("\"consumers\": 6", &format!("\"consumers\": {consumers}"));
        change("topic/core/orders.placed", Some(&spec))
    };
    assert_eq!(rules(&office.submit(&ann(), ask(vec![with_consumers(3)])).await), ["no-shrinking"]);
    let growth = office.submit(&ann(), ask(vec![with_consumers(12)])).await;
    assert_eq!(
        (growth.state, growth.changes[0].decision.rule.as_deref()),
        (RequestState::Pending, Some("keyed-growth"))
    );
}
