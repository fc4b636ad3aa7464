//! What the management plane may do on a cluster, and what is said where it may not: with the rights that the page for operators
//! names it manages everything, with fewer `iguazu ctl doctor` names what is missing.

use std::path::Path;

use serde_json::{Value, json};

use super::support::control::{self, Control};
use super::support::kafka::ADMIN;
use super::support::tool::iguazu;
use super::support::{folder, kafka, referee, unique, wait_until};

const PASSWORD: &str = "of-the-plane-itself";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_names_the_rights_that_are_missing_and_those_of_the_page_are_enough() {
    let (cluster, user, home) = (kafka::shared(), unique("plane"), folder("control"));
    cluster.set_password(&user, PASSWORD);
    control::write_private(&home.join("plane-password"), PASSWORD);
    let login = |mechanism: &str, user: &str, file: &str| {
        format!("mechanism = \"{mechanism}\", username = \"{user}\", password_file = \"{file}\"")
    };
    let config = control::config(&cluster, "");
    let ours = login("SCRAM-SHA-512", &user, "plane-password");
    let own = config.replace(&login("PLAIN", ADMIN.0, "admin-password"), &ours);
    assert_ne!(own, config);

    let mut plane = Control::start_in(home.clone(), &own);
    plane.expect_log("is not as desired");
    let admin = plane.admin().await;
    control::write_private(&home.join("root.token"), &admin);
    let lacking = wait_until("what is missing", async || match doctor(&plane, &home).await {
        told if told.contains("rights") => Ok(told),
        told => Err(told),
    })
    .await;
    for told in [
        "`core` does not let us manage",
        "access: our user may not see access rules",
        "user: our user may not see users",
        "give our user the rights that are named",
    ] {
        assert!(lacking.contains(told), "{told:?} is missing in {lacking}");
    }
    // A proxy that has newer routes than the store shows that the store is an older one.
    let proxy = plane.token(&admin, "proxy", &[], &["proxy"]).await;
    let poll = "/v1/snapshot?after=9000000000000000&wait=0&proxy=edge-1";
    assert_eq!(plane.ask(&proxy, "GET", poll, &Value::Null).await.status, 200);
    wait_until("the proxy is seen", async || match doctor(&plane, &home).await {
        told if told.contains("BAD   proxies     with newer routes than there are here: edge-1") => Ok(()),
        told => Err(told),
    })
    .await;
    plane.finish();

    rights_of_the_page().iter().for_each(|line| {
        let words: Vec<_> = line.split(' ').map(|word| word.trim_matches('\'')).collect();
        let words: Vec<_> =
            words.iter().map(|word| word.replace("User:iguazu-plane", &format!("User:{user}"))).collect();
        referee::kafka_acls(&cluster, &words.iter().map(String::as_str).collect::<Vec<_>>());
    });
    let plane = Control::start_in(home.clone(), &own);
    wait_until("nothing is missing", async || match doctor(&plane, &home).await {
        told if !told.contains("rights") && told.contains("cluster/core: shared") => Ok(()),
        told => Err(told),
    })
    .await;
    let ann = plane.token(&admin, "ann", &["team-orders"], &[]).await;
    let (topic, app, group) = (unique("orders.rights"), unique("rights-app"), unique("rights-group"));
    let of = |more: Value| {
        let mut spec = json!({ "service": "orders" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let id = |kind: &str, name: &str| format!("{kind}/core/{name}");
    let changes = json!([
        { "id": "service/orders", "spec": { "group": "team-orders" } },
        { "id": id("topic", &topic), "spec": of(json!({ "capacity": { "mb_per_second": 0.01 } })) },
        { "id": id("user", &app), "spec": of(json!({})) },
        { "id": id("group", &group), "spec": of(json!({})) },
        { "id": id("access", &format!("{app}:produce:{topic}")), "spec": of(json!({ "level": "produce", "target": topic, "principal": app })) },
    ]);
    plane.done(&ann, changes).await;
    // An operator agrees to limits.
    let olga = plane.token(&admin, "olga", &["platform"], &[]).await;
    let quota = of(json!({ "user": app, "produce_bytes_per_second": 100_000 }));
    let asked = plane.ask(&ann, "PUT", &format!("/v1/quotas/core/{app}"), &quota).await;
    assert_eq!(asked.status, 202, "{}", asked.text());
    let request = asked.json()["id"].as_str().expect("an id").to_owned();
    let approve = format!("/v1/requests/{request}/approve");
    let agreed = plane.ask(&olga, "POST", &approve, &json!({ "reason": "as talked about" })).await;
    assert_eq!(agreed.status, 200, "{}", agreed.text());
    plane.ready(&ann, &request).await;
    let more = of(json!({ "capacity": { "mb_per_second": 0.02, "retention_hours": 48 } }));
    plane.done(&ann, json!([{ "id": id("topic", &topic), "spec": more }])).await;
    plane.finish();
}

async fn doctor(plane: &Control, home: &Path) -> String {
    let (url, home) = (plane.url(), home.to_owned());
    let told = tokio::task::spawn_blocking(move || {
        iguazu(&home, &["ctl", "--url", &url, "--token-file", "root.token", "doctor"])
    });
    let told = told.await.expect("it does not panic");
    told.stdout + &told.stderr
}

/// What the page has an operator run, without what tells the tool where the brokers are.
fn rights_of_the_page() -> Vec<String> {
    let page = std::fs::read_to_string("deploy/docs/operating.md").expect("the page is there");
    let said = page.lines().filter_map(|line| line.strip_prefix("kafka-acls.sh \"${as_admin[@]}\" "));
    let lines: Vec<_> = said.map(str::to_owned).collect();
    assert_eq!(lines.len(), 3, "rights on the cluster, on topics, on groups");
    lines
}
