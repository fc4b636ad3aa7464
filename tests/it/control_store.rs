//! The management plane's store: the same promises on SQLite and on Postgres.

use std::path::Path;
use std::sync::Arc;

use iguazu::control::resource::{Kind, ResourceId, ServiceSpec, Spec};
use iguazu::control::store::{
    Audit, AuditLine, Filter, FindingRow, Need, NewRequest, Page, ProxySeen, Published, RequestFilter, Reservation,
    Resource, Secret, SenderKey, StepState, Store, StoreError, Token,
};
use serde_json::{Value, json};

use super::support::certificates::certify;
use super::support::postgres::{self, Postgres};
use super::support::{folder, unique};

/// An empty store on each engine.
async fn stores() -> [(&'static str, Store); 2] {
    let sqlite = format!("sqlite:{}", folder("store").join("control.db").display());
    let postgres = postgres::shared().database(&unique("store").replace('-', "_"));
    [("sqlite", Store::open(&sqlite).await.unwrap()), ("postgres", Store::open(&postgres).await.unwrap())]
}

fn service(name: &str, description: &str) -> Resource {
    let spec =
        ServiceSpec { group: "team".into(), description: description.into(), on_call: None, allowance_bytes: None };
    Resource::new(ResourceId::of(Kind::Service, name), name.to_owned(), Spec::Service(spec))
}

#[tokio::test]
async fn a_resource_is_read_back_as_written_and_a_stale_writer_is_refused() {
    for (engine, store) in stores().await {
        let mut written = service("orders", "takes orders");
        let mut tx = store.begin().await.unwrap();
        written.revision = tx.put_resource(&written).await.unwrap();
        tx.commit().await.unwrap();
        let read = store.resource(&written.id).await.unwrap().unwrap();
        assert_eq!(Resource { created_ms: 0, updated_ms: 0, ..read.clone() }, written, "{engine}");
        assert!(read.created_ms > 0, "{engine}");

        let mut tx = store.begin().await.unwrap();
        let stale = tx.put_resource(&Resource { revision: 0, ..read.clone() }).await;
        assert!(matches!(stale, Err(StoreError::Stale { found: 1, expected: 0, .. })), "{engine}: {stale:?}");
        drop(tx);

        // What was not committed did not happen.
        let mut tx = store.begin().await.unwrap();
        tx.delete_resource(&read.id).await.unwrap();
        drop(tx);
        assert!(store.resource(&read.id).await.unwrap().is_some(), "{engine}");
    }
}

#[tokio::test]
async fn a_postgres_that_demands_tls_is_reached_with_it_and_believed_by_its_certificate() {
    let (known, other) = (folder("known"), folder("other"));
    for folder in [&known, &other] {
        certify(folder, "server", "IP:127.0.0.1");
    }
    let server = Postgres::start_encrypted(&known);
    let address = server.database("plane");
    let opened = async |said: String| match Store::open(&format!("{address}?{said}")).await {
        Ok(store) => {
            let answers = store.ping().await.map_err(|error| error.to_string());
            store.close().await;
            answers
        }
        Err(error) => Err(error.to_string()),
    };
    let full =
        async |trusted: &Path| opened(format!("sslmode=verify-full&sslrootcert={}/ca.pem", trusted.display())).await;
    assert_eq!(full(&known).await, Ok(()));
    let unknown = full(&other).await.unwrap_err();
    assert!(unknown.contains("invalid peer certificate"), "{unknown}");
    assert_eq!(opened("sslmode=require".to_owned()).await, Ok(()), "it asks for no name");
    let in_clear = opened("sslmode=disable".to_owned()).await.unwrap_err();
    assert!(in_clear.contains("no encryption"), "{in_clear}");
}

#[tokio::test]
async fn a_list_is_read_page_by_page_and_a_search_takes_no_wildcards() {
    for (engine, store) in stores().await {
        let mut tx = store.begin().await.unwrap();
        for number in 0..25 {
            tx.put_resource(&service(&format!("service-{number:02}"), "100 % sure_thing")).await.unwrap();
        }
        tx.commit().await.unwrap();
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = store.resources(&Filter::default(), &Page { after, limit: 10 }).await.unwrap();
            names.extend(page.iter().map(|resource| resource.id.name.clone()));
            after = page.last().map(|resource| resource.id.clone());
            if page.len() < 10 {
                break;
            }
        }
        assert_eq!((names.len(), names.is_sorted()), (25, true), "{engine}");
        for (text, found) in
            [("SERVICE-07", 1), ("service-1", 10), ("100 %", 25), ("%07", 0), ("sure_", 25), ("ser_ice", 0)]
        {
            let filter = Filter { kind: Some(Kind::Service), text: Some(text.into()), ..Filter::default() };
            let page = store.resources(&filter, &Page { after: None, limit: 100 }).await.unwrap();
            assert_eq!(page.len(), found, "{engine}: {text}");
        }
    }
}

#[tokio::test]
async fn of_many_that_do_not_fit_together_exactly_those_that_fit_are_let_in() {
    const BUDGET: u64 = 1_000;
    for (engine, store) in stores().await {
        let store = Arc::new(store);
        let admit = |number: u64| {
            let store = Arc::clone(&store);
            async move {
                let mut tx = store.begin().await.unwrap();
                let id = ResourceId::on(Kind::Topic, "core", &format!("t{number}"));
                let taken = tx.taken("core", &id).await.unwrap();
                let need = Need { disk_bytes: 300, partitions: 3, ingress_bytes_per_second: 1 };
                if taken.all.disk_bytes + need.disk_bytes > BUDGET {
                    return false;
                }
                let (request, resource) = (format!("request-{number}"), id.to_string());
                tx.reserve(&[Reservation { cluster: "core".into(), resource, request, need }]).await.unwrap();
                tx.commit().await.unwrap();
                true
            }
        };
        let tries: Vec<_> = (0..12).map(|number| tokio::spawn(admit(number))).collect();
        let mut let_in = 0;
        for one in tries {
            let_in += u64::from(one.await.unwrap());
        }
        assert_eq!(let_in, 3, "{engine}");
        assert_eq!(store.taken("core").await.unwrap().disk_bytes, 900, "{engine}");
    }
}

#[tokio::test]
async fn a_reservation_is_held_by_its_request_then_the_resources_own_then_free() {
    for (engine, store) in stores().await {
        let (id, need) =
            (ResourceId::on(Kind::Topic, "core", "a"), |disk_bytes| Need { disk_bytes, ..Need::default() });
        let reservation = |request: &str, disk_bytes| Reservation {
            cluster: "core".into(),
            resource: id.to_string(),
            request: request.into(),
            need: need(disk_bytes),
        };
        let mut tx = store.begin().await.unwrap();
        tx.reserve(&[reservation("first", 100)]).await.unwrap();
        tx.settle_reservations("first").await.unwrap();
        // It is to grow: until it has, the greater of both counts, and not their sum.
        tx.reserve(&[reservation("second", 250)]).await.unwrap();
        assert_eq!(tx.taken("core", &id).await.unwrap().all, need(250), "{engine}");
        tx.drop_reservations("second").await.unwrap();
        assert_eq!(tx.taken("core", &id).await.unwrap().own, need(100), "{engine}");
        // It shrinks: what it had is free once it has.
        tx.reserve(&[reservation("third", 50)]).await.unwrap();
        assert_eq!(tx.taken("core", &id).await.unwrap().own, need(100), "{engine}");
        tx.settle_reservations("third").await.unwrap();
        assert_eq!(tx.taken("core", &id).await.unwrap().own, need(50), "{engine}");
        tx.free("core", &id.to_string()).await.unwrap();
        assert_eq!(tx.taken("core", &id).await.unwrap().all, need(0), "{engine}");
    }
}

#[tokio::test]
async fn what_is_known_of_many_is_read_at_once_and_is_each_ones_own() {
    const MANY: usize = 1_203;
    for (engine, store) in stores().await {
        let topic = |number: usize| ResourceId::on(Kind::Topic, "core", &format!("t{number}"));
        let owner = |number: usize| format!("service-{}", number % 2);
        let row = |number: usize| {
            let spec = json!({ "service": owner(number), "capacity": { "mb_per_second": 1 } });
            let spec = Spec::read(Kind::Topic, spec).unwrap();
            Resource { id: topic(number), service: owner(number), spec, ..service("any", "") }
        };
        let reservation = |number: usize, request: &str, disk_bytes: u64| {
            let need = Need { disk_bytes, partitions: 1, ingress_bytes_per_second: 2 };
            Reservation { cluster: "core".into(), resource: topic(number).to_string(), request: request.into(), need }
        };
        let mut tx = store.begin().await.unwrap();
        for number in 0..MANY {
            tx.put_resource(&row(number)).await.unwrap();
        }
        tx.reserve(&(0..MANY).map(|number| reservation(number, "", 10)).collect::<Vec<_>>()).await.unwrap();
        // A request of the first service grows one of its topics, and asks for one that there is not yet; another cluster has its own.
        let new = NewRequest {
            id: "0190",
            actor: "a",
            service: "service-0",
            state: "pending",
            document: &json!({}),
            plan_hash: "h",
            idempotency_key: None,
        };
        tx.add_request(&new).await.unwrap();
        let elsewhere = Reservation { cluster: "far".into(), ..reservation(2, "", 1_000_000) };
        let asked = [reservation(0, "0190", 15), reservation(MANY, "0190", 7), elsewhere];
        tx.reserve(&asked).await.unwrap();

        let ids: Vec<ResourceId> = (0..=MANY).map(topic).collect();
        let ids: Vec<&ResourceId> = ids.iter().collect();
        let mut found: Vec<String> =
            tx.resources_of(&ids).await.unwrap().into_iter().map(|row| row.id.to_string()).collect();
        found.sort_unstable();
        let mut expected: Vec<String> = (0..MANY).map(|number| topic(number).to_string()).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{engine}");
        let taken = tx.taken_by("core", &ids).await.unwrap();
        let of = |number: usize| taken[&topic(number).to_string()].disk_bytes;
        assert_eq!((taken.len(), of(0), of(1), of(MANY)), (MANY + 1, 15, 10, 7), "{engine}");
        let by_service = tx.taken_by_services("core", &["service-0", "service-1", "nobody"]).await.unwrap();
        let of = |service: &str| by_service[service];
        let (own, others) = (MANY as u64 / 2 + 1, MANY as u64 / 2);
        assert_eq!(by_service.len(), 2, "{engine}");
        assert_eq!(
            of("service-0"),
            Need { disk_bytes: own * 10 + 5 + 7, partitions: own + 1, ingress_bytes_per_second: (own + 1) * 2 },
            "{engine}"
        );
        assert_eq!(of("service-1").disk_bytes, others * 10, "{engine}");
        assert!(tx.resources_of(&[]).await.unwrap().is_empty() && tx.taken_by("core", &[]).await.unwrap().is_empty());

        tx.put_file(&topic(3), Some("a.yaml")).await.unwrap();
        assert_eq!(tx.files_of(&ids).await.unwrap(), [(topic(3), "a.yaml".to_owned())], "{engine}");
    }
}

#[tokio::test]
async fn a_lease_has_one_holder_and_an_old_holder_can_write_nothing() {
    for (engine, store) in stores().await {
        let first = store.lease("core", "node-a", 60_000).await.unwrap().unwrap();
        assert_eq!(store.lease("core", "node-b", 60_000).await.unwrap(), None, "{engine}");
        assert_eq!(store.lease("core", "node-a", 60_000).await.unwrap().as_ref(), Some(&first), "{engine}");
        let new = NewRequest {
            id: "0190",
            actor: "a",
            service: "s",
            state: "applying",
            document: &json!({}),
            plan_hash: "h",
            idempotency_key: None,
        };
        let mut tx = store.begin().await.unwrap();
        tx.add_request(&new).await.unwrap();
        tx.add_steps(&first, "0190", &[json!({"do": "it"})]).await.unwrap();
        tx.put_step(&first, "0190", 0, StepState::Begun, None).await.unwrap();
        tx.commit().await.unwrap();
        // Its time is up, and another one takes over.
        store.release(&first).await.unwrap();
        let second = store.lease("core", "node-b", 60_000).await.unwrap().unwrap();
        assert!(second.fence > first.fence, "{engine}");
        let mut tx = store.begin().await.unwrap();
        let late = tx.put_step(&first, "0190", 0, StepState::Done, Some(&json!(1))).await;
        assert!(matches!(late, Err(StoreError::Fenced { .. })), "{engine}: {late:?}");
        drop(tx);
        let mut tx = store.begin().await.unwrap();
        tx.put_step(&second, "0190", 0, StepState::Done, Some(&json!({"ok": true}))).await.unwrap();
        tx.commit().await.unwrap();
        let steps = store.steps::<Value>("0190").await.unwrap();
        assert_eq!((steps[0].state, steps[0].attempts), (StepState::Done, 1), "{engine}");
        assert_eq!(steps[0].result, Some(json!({"ok": true})), "{engine}");
    }
}

#[tokio::test]
async fn a_request_with_a_key_that_was_seen_is_the_first_one() {
    for (engine, store) in stores().await {
        let new = |id: &'static str| NewRequest {
            id,
            actor: "a",
            service: "s",
            state: "pending",
            document: &Value::Null,
            plan_hash: "h",
            idempotency_key: Some("key"),
        };
        let mut tx = store.begin().await.unwrap();
        assert!(tx.request_by_key::<Value>("key").await.unwrap().is_none(), "{engine}");
        tx.add_request(&new("1")).await.unwrap();
        assert_eq!(tx.request_by_key::<Value>("key").await.unwrap().unwrap().id, "1", "{engine}");
        let mut row = tx.request::<Value>("1").await.unwrap().unwrap();
        row.state = "approved".into();
        tx.put_request(&row).await.unwrap();
        assert!(matches!(tx.put_request(&row).await, Err(StoreError::Stale { .. })), "{engine}");
        tx.commit().await.unwrap();
        assert_eq!(
            store.requests::<Value>(&RequestFilter::in_state("approved"), None, 10).await.unwrap().len(),
            1,
            "{engine}"
        );
        assert_eq!(
            store.requests::<Value>(&RequestFilter::in_state("pending"), None, 10).await.unwrap().len(),
            0,
            "{engine}"
        );
    }
}

#[tokio::test]
async fn a_changed_or_missing_line_of_the_audit_log_is_found() {
    for (engine, store) in stores().await {
        for number in 0..5 {
            let mut tx = store.begin().await.unwrap();
            let detail = json!({ "number": number, "text": "a\"b" });
            let audit = Audit {
                actor: "ann",
                source: "127.0.0.1",
                verb: "create",
                object: "topic/core/a",
                request: "r",
                outcome: "done",
                detail,
            };
            tx.audit(audit).await.unwrap();
            tx.commit().await.unwrap();
        }
        assert_eq!(store.verify_audit().await.unwrap(), Ok(5), "{engine}");
        let lines = store.audit_lines(0, 10).await.unwrap();
        let broken = |change: &dyn Fn(&mut Vec<AuditLine>)| {
            let mut changed = lines.clone();
            change(&mut changed);
            AuditLine::verify(&changed).unwrap_err().seq
        };
        assert_eq!(broken(&|lines| lines[2].actor = "bob".into()), 3, "{engine}");
        assert_eq!(broken(&|lines| lines[2].detail = json!({})), 3, "{engine}");
        assert_eq!(broken(&|lines| drop(lines.remove(2))), 4, "{engine}");
        assert_eq!(broken(&|lines| lines.swap(1, 2)), 3, "{engine}");
    }
}

#[tokio::test]
async fn a_secret_is_read_once_by_its_reader_and_a_token_ends() {
    for (engine, store) in stores().await {
        let secret = Secret {
            resource: "user/core/orders".into(),
            generation: 1,
            sealed: Some("sealed".into()),
            digest: Some("digest".into()),
            reader: "ann".into(),
            expires_ms: None,
        };
        let mut tx = store.begin().await.unwrap();
        tx.put_secret(&secret).await.unwrap();
        let read = |reader: &'static str| (secret.resource.clone(), reader);
        for (reader, expected) in [("bob", None), ("ann", Some("sealed")), ("ann", None)] {
            let (resource, reader) = read(reader);
            assert_eq!(tx.take_secret(&resource, 1, reader).await.unwrap().as_deref(), expected, "{engine}");
        }
        // Of a name that was locked out somebody else may begin anew, and finds nothing of the one before.
        let of = || store.secret_state("user/core/gone");
        let gone = |generation| Secret { resource: "user/core/gone".into(), generation, ..secret.clone() };
        for generation in [1, 2] {
            tx.put_secret(&gone(generation)).await.unwrap();
            tx.verify_secret("user/core/gone", generation).await.unwrap();
        }
        tx.lock_secrets("user/core/gone").await.unwrap();
        tx.commit().await.unwrap();
        assert!(of().await.unwrap().locked, "{engine}");
        let mut tx = store.begin().await.unwrap();
        tx.put_secret(&gone(1)).await.unwrap();
        tx.commit().await.unwrap();
        let state = of().await.unwrap();
        assert_eq!((state.locked, state.newest, state.verified), (false, Some(1), None), "{engine}");
        let mut tx = store.begin().await.unwrap();
        for (hash, expires_ms) in [("live", None), ("dead", Some(1))] {
            let token = Token { hash: hash.into(), name: hash.into(), document: json!({"roles": []}), expires_ms };
            tx.put_token(&token).await.unwrap();
        }
        tx.commit().await.unwrap();
        assert_eq!(store.digests(&secret.resource).await.unwrap(), ["digest"], "{engine}");
        assert!(store.token::<Value>("live").await.unwrap().is_some(), "{engine}");
        assert!(store.token::<Value>("dead").await.unwrap().is_none(), "{engine}");
        let names: Vec<_> = store.tokens::<Value>().await.unwrap().into_iter().map(|token| token.name).collect();
        assert_eq!(names, ["dead", "live"], "{engine}");
    }
}

#[tokio::test]
async fn policies_and_snapshots_are_counted() {
    for (engine, store) in stores().await {
        let mut tx = store.begin().await.unwrap();
        for revision in 1..=3 {
            assert_eq!(tx.put_policy(&json!({ "rules": revision }), "ann").await.unwrap(), revision, "{engine}");
            assert_eq!(tx.put_snapshot(&json!([revision]), 0).await.unwrap(), revision, "{engine}");
        }
        assert_eq!(tx.put_snapshot(&json!([70]), 70).await.unwrap(), 70, "{engine}: time has gone on");
        assert_eq!(tx.put_snapshot(&json!([71]), 60).await.unwrap(), 71, "{engine}: never back");
        assert_eq!(tx.snapshot::<Value>().await.unwrap(), Some((71, json!([71]))), "{engine}");
        tx.commit().await.unwrap();
        assert_eq!(store.policy::<Value>().await.unwrap(), Some((3, json!({ "rules": 3 }))), "{engine}");
    }
}

#[tokio::test]
async fn what_is_published_is_read_back_and_every_change_of_it_is_counted() {
    for (engine, store) in stores().await {
        let [a, b]: [ResourceId; 2] = ["event_type/a", "sender/b"].map(|id| id.parse().unwrap());
        let mut tx = store.begin().await.unwrap();
        let first = tx.last_change().await.unwrap();
        tx.publish_later(&a, &json!({ "n": 1 }), "waits").await.unwrap();
        assert_eq!(tx.last_change().await.unwrap(), first + 1, "{engine}: proxies are told that it waits");
        tx.publish_later(&a, &json!({ "n": 1 }), "waits").await.unwrap();
        assert_eq!(tx.last_change().await.unwrap(), first + 1, "{engine}: once");
        tx.publish(&b, &json!({})).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.last_change().await.unwrap(), first + 2, "{engine}");
        let waiting = store.waiting(9).await.unwrap();
        let row = Published { resource: a.clone(), live: None, next: Some(json!({ "n": 1 })), reason: "waits".into() };
        assert_eq!(waiting, [row], "{engine}");

        let mut tx = store.begin().await.unwrap();
        tx.publish(&a, &json!({ "n": 1 })).await.unwrap();
        tx.publish_later(&a, &json!({ "n": 2 }), "waits again").await.unwrap();
        let rows = tx.published().await.unwrap();
        assert_eq!(rows.iter().map(|row| &row.resource).collect::<Vec<_>>(), [&a, &b], "{engine}");
        assert_eq!((&rows[0].live, &rows[0].next), (&Some(json!({ "n": 1 })), &Some(json!({ "n": 2 }))), "{engine}");
        tx.withdraw(&b).await.unwrap();
        let key = |generation: i64, expires_ms: Option<i64>| Secret {
            resource: "sender/b".into(),
            generation,
            sealed: None,
            digest: Some(format!("{generation}")),
            reader: "ann".into(),
            expires_ms,
        };
        let later = tx.now_ms() + 60_000;
        for secret in [key(1, Some(1)), key(2, Some(later)), key(3, None)] {
            tx.put_secret(&secret).await.unwrap();
        }
        let user = Secret { resource: "user/core/u".into(), ..key(1, None) };
        tx.put_secret(&user).await.unwrap();
        let kept =
            |generation: i64, expires_ms| SenderKey { sender: b.clone(), sha256: format!("{generation}"), expires_ms };
        assert_eq!(tx.sender_keys().await.unwrap(), [kept(3, None), kept(2, Some(later))], "{engine}");
        tx.commit().await.unwrap();
        assert_eq!(
            store.last_change().await.unwrap(),
            first + 8,
            "{engine}: proxies have what is published, whatever waits to take its place"
        );
        assert_eq!(store.published_of(&b).await.unwrap(), None, "{engine}");

        let seen = |name: &str, ago_ms: i64| ProxySeen { name: name.into(), ago_ms, revision: 7 };
        assert_eq!(store.note_proxies(&[seen("x", 0), seen("y", 50_000)], 30_000).await.unwrap(), 1, "{engine}");
        assert_eq!(store.note_proxies(&[seen("x", 40_000), seen("z", 9_000)], 30_000).await.unwrap(), 2, "{engine}");
        let names: Vec<_> = store.proxies(30_000).await.unwrap().into_iter().map(|proxy| proxy.name).collect();
        assert_eq!(names, ["x", "z"], "{engine}: what a node saw longer ago than another does not count");
    }
}

#[tokio::test]
async fn a_store_that_a_newer_version_wrote_is_refused_and_kept() {
    let path = folder("store").join("control.db");
    let address = format!("sqlite:{}", path.display());
    let store = Store::open(&address).await.unwrap();
    store.close().await;
    assert!(Store::open(&address).await.is_ok(), "opened again as it is");
    let newer = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('INSERT INTO schema_version VALUES (99)'); c.commit()";
    let done = std::process::Command::new("python3").args(["-c", newer]).arg(&path).status().unwrap();
    assert!(done.success());
    let refused = Store::open(&address).await;
    assert!(matches!(refused, Err(StoreError::Newer { found: 99, .. })), "{refused:?}");
    assert!(matches!(Store::open("mysql://x").await, Err(StoreError::Address)));
}

#[tokio::test]
async fn what_was_seen_is_kept_since_when_it_is_so_and_counts_no_revision_up() {
    for (engine, store) in stores().await {
        let row = |id: &str, cluster: &str, kind: &str, text: &str| FindingRow {
            id: id.to_owned(),
            cluster: cluster.to_owned(),
            resource: "topic/core/t".to_owned(),
            kind: kind.to_owned(),
            document: json!(text),
            first_ms: 0,
        };
        let mut tx = store.begin().await.unwrap();
        for finding in
            [row("b", "core", "drift", "one"), row("a", "core", "missing", "two"), row("c", "edge", "drift", "three")]
        {
            tx.put_finding(&finding).await.unwrap();
        }
        tx.commit().await.unwrap();
        let first = store.finding::<Value>("b").await.unwrap().unwrap();
        let mut tx = store.begin().await.unwrap();
        tx.put_finding(&row("b", "core", "drift", "changed")).await.unwrap();
        tx.drop_finding("a").await.unwrap();
        tx.commit().await.unwrap();
        let again = store.finding::<Value>("b").await.unwrap().unwrap();
        assert_eq!((again.first_ms, again.document), (first.first_ms, json!("changed")), "{engine}");
        let ids = |rows: Vec<FindingRow<Value>>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(store.findings(None, None, None, 10).await.unwrap()), ["b", "c"], "{engine}");
        assert_eq!(ids(store.findings(Some("core"), Some("drift"), None, 10).await.unwrap()), ["b"], "{engine}");
        assert_eq!(ids(store.findings(None, None, Some("b"), 10).await.unwrap()), ["c"], "{engine}");

        // What was seen of a resource is noted unless it has changed since, and its revision stays.
        let mut resource = service("orders", "");
        let mut tx = store.begin().await.unwrap();
        resource.revision = tx.put_resource(&resource).await.unwrap();
        tx.note_observed(&resource.id, resource.revision, Some(&json!({ "a": 1 }))).await.unwrap();
        tx.note_observed(&resource.id, resource.revision + 1, Some(&json!({ "late": 1 }))).await.unwrap();
        tx.commit().await.unwrap();
        let read = store.resource(&resource.id).await.unwrap().unwrap();
        assert_eq!((read.revision, read.observed), (resource.revision, Some(json!({ "a": 1 }))), "{engine}");

        let mut tx = store.begin().await.unwrap();
        for name in ["u", "t", "v"] {
            tx.put_unmanaged(&ResourceId::on(Kind::Topic, "core", name), &json!(name)).await.unwrap();
        }
        tx.drop_unmanaged(&ResourceId::on(Kind::Topic, "core", "v")).await.unwrap();
        tx.put_unmanaged(&ResourceId::on(Kind::Topic, "core", "u"), &json!("changed")).await.unwrap();
        tx.put_probe("core", &json!({ "id": "one" })).await.unwrap();
        tx.put_probe("core", &json!({ "id": "two" })).await.unwrap();
        tx.put_measure("core", "topic/t", &json!(1)).await.unwrap();
        tx.put_measure("core", "topic/t", &json!(2)).await.unwrap();
        tx.put_measure("core", "broker/1", &json!(3)).await.unwrap();
        tx.commit().await.unwrap();
        let listed = store.unmanaged("core", Some(Kind::Topic), None, 1).await.unwrap();
        assert_eq!(listed[0].id.name, "t", "{engine}");
        let rest = store.unmanaged("core", None, Some(&listed[0].id), 10).await.unwrap();
        assert_eq!(
            rest.iter().map(|row| (row.id.name.as_str(), &row.observed)).collect::<Vec<_>>(),
            [("u", &json!("changed"))]
        );
        assert_eq!(store.probe::<Value>("core").await.unwrap(), Some(json!({ "id": "two" })), "{engine}");
        assert_eq!(store.probe::<Value>("edge").await.unwrap(), None, "{engine}");
        let measures = store.measures::<i64>("core", "topic/").await.unwrap();
        assert_eq!(measures, [("t".to_owned(), 2)], "{engine}");
        assert_eq!(store.measure::<i64>("core", "broker/1").await.unwrap(), Some(3), "{engine}");
        let mut tx = store.begin().await.unwrap();
        tx.drop_measures("core", i64::MAX).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(store.measure::<i64>("core", "broker/1").await.unwrap(), None, "{engine}");
    }
}
