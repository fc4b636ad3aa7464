//! A service as a whole: edits in, one request out, and what is refused of them.

use serde_json::json;

use super::flows::{Office, put};
use super::*;
use crate::control::request::CHANGES_MAX;
use crate::control::resource::{Kind, ResourceId, Spec};

const PATH: &str = "/v1/services/orders/resources";

fn spec(kind: Kind, value: Value) -> Spec {
    Spec::read(kind, value).unwrap()
}

impl Office {
    /// Two topics, a user that reads one of them, and a sender; and a second service with a topic.
    async fn with_resources() -> Office {
        let office = Office::open().await;
        let bills = spec(Kind::Service, json!({ "group": "platform" }));
        put(&office.plane, ResourceId::of(Kind::Service, "bills"), bills, "bills").await;
        for (name, service) in [("orders.a", "orders"), ("orders.b", "orders"), ("bills.a", "bills")] {
            let topic = json!({ "service": service, "capacity": { "mb_per_second": 0.001 } });
            put(&office.plane, ResourceId::on(Kind::Topic, "core", name), spec(Kind::Topic, topic), service).await;
        }
        let user = json!({ "service": "orders", "generation": 3 });
        put(&office.plane, ResourceId::on(Kind::User, "core", "app"), spec(Kind::User, user), "orders").await;
        let sender = json!({ "service": "orders" });
        put(&office.plane, ResourceId::of(Kind::Sender, "web"), spec(Kind::Sender, sender), "orders").await;
        let grant = json!({ "service": "orders", "level": "consume", "target": "orders.a", "principal": "app" });
        let id = ResourceId::on(Kind::Access, "core", "app:consume:orders.a");
        put(&office.plane, id, spec(Kind::Access, grant), "orders").await;
        office
    }

    async fn edit(&self, token: &str, query: &str, edits: Value) -> Reply {
        self.ask(token, "PATCH", &format!("{PATH}{query}"), json!({ "edits": edits })).await
    }
}

fn resources(reply: &Reply) -> Vec<String> {
    let request = reply.json();
    let changes = request["changes"].as_array().unwrap_or_else(|| panic!("{}", reply.text)).iter();
    changes.map(|change| change["resource"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn one_change_of_a_service_is_one_request_with_one_plan_over_what_is_selected() {
    let office = Office::with_resources().await;
    let longer = json!([{ "kinds": ["topic"], "change": { "set": { "capacity": { "retention_hours": 25 } } } }]);
    let tried = office.edit(&office.ann, "?dry_run=true", longer.clone()).await;
    assert_eq!(
        (tried.status, resources(&tried)),
        (200, vec!["topic/core/orders.a".into(), "topic/core/orders.b".into()])
    );
    for change in tried.json()["changes"].as_array().unwrap() {
        assert_eq!(change["desired"]["spec"]["capacity"]["retention_hours"], 25.0);
        assert_eq!(change["desired"]["spec"]["capacity"]["mb_per_second"], 0.001, "what is not named stays");
    }
    let asked = office.edit(&office.ann, "?reason=longer", longer).await;
    assert_eq!((asked.status, &asked.json()["reason"]), (202, &json!("longer")), "{}", asked.text);
    // What two edits are about is changed by one after the other; what they leave as it is is left out.
    let edits = json!([
        { "kinds": ["topic"], "cluster": "core", "names": ["orders.*"], "change": { "set": { "description": "x" } } },
        { "kinds": ["topic"], "names": ["orders.b"], "change": { "set": { "description": null } } },
    ]);
    assert_eq!(resources(&office.edit(&office.ann, "?dry_run=true", edits).await), ["topic/core/orders.a"]);
    let rotated = office.edit(&office.ann, "?dry_run=true", json!([{ "change": "rotate" }])).await;
    assert_eq!(resources(&rotated), ["user/core/app", "sender/web"]);
    assert_eq!(rotated.json()["changes"][0]["desired"]["spec"]["generation"], 4);
}

#[tokio::test]
async fn what_is_wrong_with_any_of_a_services_resources_is_told_and_nothing_is_asked_for() {
    let office = Office::with_resources().await;
    let refused = async |edits: Value, status: u16, told: &[&str]| {
        let reply = office.edit(&office.ann, "", edits.clone()).await;
        assert_eq!(reply.status, status, "{edits}: {}", reply.text);
        told.iter().for_each(|told| assert!(reply.text.contains(told), "{told:?} is not in {}", reply.text));
    };
    let set = |fields: Value| json!([{ "kinds": ["topic"], "change": { "set": fields } }]);
    refused(
        set(json!({ "capacity": { "retention_hours": -1 } })),
        422,
        &["topic/core/orders.a", "topic/core/orders.b"],
    )
    .await;
    refused(set(json!({ "partitions": 7 })), 422, &["topic/core/orders.b", "unknown field"]).await;
    refused(set(json!({ "service": "nobodys" })), 422, &["unknown-service"]).await;
    refused(json!([]), 422, &["1 to 20 edits"]).await;
    refused(json!([{ "kinds": ["group"], "change": "delete" }]), 422, &["select nothing"]).await;
    refused(json!([{ "names": ["orders.*", "orders.z"], "change": "delete" }]), 422, &["edits[0]", "`orders.z`"]).await;
    refused(json!([{ "kinds": ["topic"], "change": "rotate" }]), 422, &["no secret"]).await;
    refused(json!([{ "kinds": ["service"], "change": { "hand_over": "bills" } }]), 422, &["`group`"]).await;
    refused(json!([{ "change": "delete" }, { "change": "rotate" }]), 422, &["edits[1]", "takes away"]).await;
    refused(set(json!({ "description": "" })), 409, &["is so already"]).await;
    refused(json!([{ "change": "explode" }]), 400, &["explode"]).await;
    refused(json!([{ "kinds": ["topic"], "colour": 1, "change": "delete" }]), 400, &["colour"]).await;
    // What another service owns is not among what is selected, by whatever name, nor may a stranger ask.
    refused(json!([{ "names": ["bills.a"], "change": "delete" }]), 422, &["`bills.a`"]).await;
    let strangers = office.edit(&office.omar, "", json!([{ "kinds": ["sender"], "change": "rotate" }])).await;
    assert_eq!(strangers.status, 403, "{}", strangers.text);
    assert_eq!(
        office
            .ask(&office.ann, "PATCH", "/v1/services/x/resources", json!({ "edits": [{ "change": "delete" }] }))
            .await
            .status,
        404
    );
    let requests = office.ask(&office.ann, "GET", "/v1/requests?state=approved", Value::Null).await.json();
    assert_eq!(requests["items"], json!([]));
}

#[tokio::test]
async fn what_is_handed_over_the_new_owner_agrees_to() {
    let office = Office::with_resources().await;
    let asked = office.edit(&office.ann, "", json!([{ "change": { "hand_over": "bills" } }])).await;
    let request = asked.json();
    assert_eq!((asked.status, &request["state"]), (202, &json!("pending")), "{}", asked.text);
    assert_eq!(resources(&asked).len(), 5, "all of it: {}", asked.text);
    assert_eq!(request["verdict"]["by"], json!(["new_owner"]), "{request:#}");
    let approve = format!("/v1/requests/{}/approve", request["id"].as_str().unwrap());
    let eve = super::flows::in_group(&office.plane, "eve", "team-orders", [Scope::Approve].into()).await;
    let refused = office.ask(&eve, "POST", &approve, json!({})).await;
    assert_eq!(refused.status, 403, "who gives it away is not who gets it: {}", refused.text);
    let agreed = office.ask(&office.omar, "POST", &approve, json!({})).await;
    assert_eq!((agreed.status, &agreed.json()["state"]), (200, &json!("approved")), "{}", agreed.text);

    // A part of it does not leave the rest without what it needs: a grant stays with its user.
    let part = json!([{ "kinds": ["user"], "change": { "hand_over": "bills" } }]);
    let office = Office::with_resources().await;
    let asked = office.edit(&office.ann, "?dry_run=true", part).await;
    assert_eq!(asked.json()["verdict"]["verdict"], "review", "{}", asked.text);
}

#[tokio::test]
async fn a_service_goes_with_all_that_it_owns_or_not_at_all() {
    let office = Office::with_resources().await;
    let alone = office.ask(&office.ann, "DELETE", "/v1/services/orders", Value::Null).await;
    assert_eq!((alone.status, &alone.json()["violations"][0]["rule"]), (422, &json!("in-use")), "{}", alone.text);
    assert!(alone.text.contains("it still owns 5 resources"), "{}", alone.text);
    let all = json!([{ "change": "delete" }, { "kinds": ["service"], "change": "delete" }]);
    let asked = office.edit(&office.ann, "", all).await;
    assert_eq!((asked.status, &asked.json()["state"]), (202, &json!("pending")), "{}", asked.text);
    assert_eq!(resources(&asked).last().map(String::as_str), Some("service/orders"), "what owns the others goes last");
    let listed = office.ask(&office.ann, "GET", "/v1/requests?service=orders&state=pending", Value::Null).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed:#}");

    // Something of it is made before somebody agrees: the plan is not the one that was looked at.
    let sender = spec(Kind::Sender, json!({ "service": "orders" }));
    put(&office.plane, ResourceId::of(Kind::Sender, "new"), sender, "orders").await;
    let approve = format!("/v1/requests/{}/approve", asked.json()["id"].as_str().unwrap());
    let stale = office.ask(&office.omar, "POST", &approve, json!({})).await;
    assert!(stale.status == 412 && stale.text.contains("service/orders"), "{} {}", stale.status, stale.text);
    let cluster = office.ask(&office.admin, "DELETE", "/v1/clusters/core", Value::Null).await;
    assert!(cluster.status == 422 && cluster.text.contains("still on it"), "{} {}", cluster.status, cluster.text);
}

#[tokio::test]
async fn a_key_that_is_known_gets_the_request_that_was_taken_in_even_when_it_is_done() {
    let office = Office::with_resources().await;
    let ask = async |edits: Value| {
        let body = json!({ "edits": edits });
        office.plane.send(&office.ann, "PATCH", PATH, &[("idempotency-key", "one")], body).await
    };
    let more =
        |hours: f64| json!([{ "kinds": ["topic"], "change": { "set": { "capacity": { "retention_hours": hours } } } }]);
    let first = ask(more(25.0)).await;
    assert_eq!(first.status, 202, "{}", first.text);
    // As if it had been applied.
    for name in ["orders.a", "orders.b"] {
        let id = ResourceId::on(Kind::Topic, "core", name);
        let mut row = office.plane.api.store.resource(&id).await.unwrap().unwrap();
        let longer = json!({ "service": "orders", "capacity": { "mb_per_second": 0.001, "retention_hours": 25 } });
        row.spec = spec(Kind::Topic, longer);
        let mut tx = office.plane.api.store.begin().await.unwrap();
        tx.put_resource(&row).await.unwrap();
        tx.commit().await.unwrap();
    }
    let again = ask(more(25.0)).await;
    assert_eq!((again.status, &again.json()["id"]), (202, &first.json()["id"]), "{}", again.text);
    assert_eq!(ask(more(26.0)).await.status, 409, "the key is that of another change");

    let onboard = async |event: &str| {
        let body = json!({ "event": event, "service": "orders", "cluster": "core", "mb_per_second": 0.001, "through": "kafka" });
        office.plane.send(&office.ann, "POST", "/v1/onboardings", &[("idempotency-key", "two")], body).await
    };
    let first = onboard("orders.c").await;
    assert_eq!(first.status, 202, "{}", first.text);
    let user = spec(Kind::User, json!({ "service": "orders" }));
    put(&office.plane, ResourceId::on(Kind::User, "core", "orders"), user, "orders").await;
    let again = onboard("orders.c").await;
    assert_eq!((again.status, &again.json()["id"]), (202, &first.json()["id"]), "{}", again.text);
    assert_eq!(onboard("orders.d").await.status, 409);
}

#[tokio::test]
async fn a_request_has_a_bounded_number_of_changes_and_says_so() {
    let office = Office::open().await;
    let changes = |count: usize| -> Vec<Value> {
        let id = |number: usize| format!("sender/web-{number}");
        (0..count).map(|number| json!({ "id": id(number), "spec": { "service": "orders" } })).collect()
    };
    let body = |count| json!({ "changes": changes(count) });
    let too_many = office.ask(&office.ann, "POST", "/v1/requests", body(CHANGES_MAX + 1)).await;
    assert_eq!(too_many.status, 422, "{}", too_many.text);
    assert!(too_many.text.contains("1 to 500 changes, this one has 501; ask for them in several"), "{}", too_many.text);
    // A mistake in one of many is told with its name, and none of the others is asked for.
    let mut one_wrong = changes(CHANGES_MAX);
    one_wrong[7]["spec"]["events_per_second"] = json!(0);
    let refused = office.ask(&office.ann, "POST", "/v1/requests", json!({ "changes": one_wrong })).await.json();
    let violations = refused["violations"].as_array().unwrap();
    assert_eq!((violations.len(), &violations[0]["resource"]), (1, &json!("sender/web-7")), "{refused:#}");
    let whole = office.ask(&office.ann, "POST", "/v1/requests", body(CHANGES_MAX)).await;
    assert_eq!((whole.status, whole.json()["changes"].as_array().unwrap().len()), (202, CHANGES_MAX));
    for number in 0..=CHANGES_MAX {
        let sender = spec(Kind::Sender, json!({ "service": "orders" }));
        put(&office.plane, ResourceId::of(Kind::Sender, &format!("web-{number}")), sender, "orders").await;
    }
    let edits = json!([{ "kinds": ["sender"], "change": "rotate" }]);
    let refused = office.edit(&office.ann, "", edits).await;
    assert!(refused.status == 422 && refused.text.contains("more than 500 resources"), "{}", refused.text);
}
