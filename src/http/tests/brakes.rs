//! What operators disabled or let only a sample of through.

use super::*;
use crate::route::Brake;

impl Setup {
    fn braked(mut self, event: &str, brake: Brake) -> Self {
        let event_type = self.config.events.iter_mut().find(|event_type| event_type.name == event);
        event_type.expect("the configuration of these tests has it").brake = brake;
        self
    }
}

#[tokio::test]
async fn what_is_disabled_is_refused_for_a_while_and_by_its_name() {
    let locked = config::Sender { brake: Brake::Disabled, events: vec!["*".to_owned()], ..web() };
    let free = config::Sender { name: "free".to_owned(), key_hashes: vec![keys::hash("igz_free")], ..web() };
    let site = Setup::new().braked("page.viewed", Brake::Disabled).with_senders(&[locked, free]).open();
    let check = async |path: &str, key: &str, status: u16, code: &str, what: &str| {
        let headers = [("content-type", "application/json"), ("x-api-key", key)];
        let answer = site.post(path, &headers, "{}").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{path} {key}");
        assert!(String::from_utf8_lossy(&answer.body).contains(what), "{:?}", answer.body);
        let wait = answer.headers.get("retry-after").map(|wait| wait.to_str().unwrap().to_owned());
        assert_eq!(wait.as_deref() == Some("60"), code == "disabled", "{wait:?}");
    };
    check("/v1/events/page.viewed", "igz_free", 503, "disabled", "event `page.viewed` is disabled").await;
    check("/v1/events/page.viewed", "igz_web", 503, "disabled", "event `page.viewed` is disabled").await;
    check("/v1/events/order.placed", "igz_web", 503, "disabled", "sender `web` is disabled").await;
    check("/v1/events/order.placed", "igz_free", 403, "forbidden_event", "may not send").await;
    let headers = [("content-type", "application/json"), ("x-api-key", "igz_free")];
    let dry = site.post("/v1/events/page.viewed?dry_run=true", &headers, "{}").await;
    assert_eq!(dry.code(), "disabled", "a dry run says what would happen");
    assert_eq!(site.close().await.rejected, 4);
}

#[tokio::test]
async fn of_a_sample_the_same_events_go_through_whenever_they_are_sent_and_the_others_are_told() {
    let brake = Brake::sample(0.25);
    let site = Setup::new().with_kafka().braked("page.viewed", brake).braked("order.placed", brake).open();
    let events = |event: &str| -> Value {
        (0..100).map(|n| json!({"event": event, "id": format!("o-{n}"), "payload": {}})).collect()
    };
    let left_out: Vec<u64> = (0..100).filter(|n| !brake.lets_through(format!("o-{n}").as_bytes())).collect();
    assert!((60..90).contains(&left_out.len()), "{left_out:?}");
    for _ in 0..2 {
        let answer = site.post_json("/v1/events?results=all", &events("page.viewed")).await;
        let told = answer.json();
        let results = told["results"].as_array().unwrap();
        let found: Vec<_> = results.iter().filter(|result| result["code"] == "sampled_out").collect();
        let found: Vec<_> = found.iter().filter_map(|result| result["index"].as_u64()).collect();
        assert_eq!((answer.status, found), (202, left_out.clone()));
        assert_eq!((&told["succeeded"], &told["sampled_out"]), (&json!(100), &json!(left_out.len())));
    }
    // Acknowledged are only those that went through.
    let answer = site.post_json("/v1/events", &events("order.placed")).await;
    assert_eq!((answer.status, &answer.json()["sampled_out"]), (202, &json!(left_out.len())), "{}", answer.json());
    let one = json!({"event": "page.viewed", "id": format!("o-{}", left_out[0]), "payload": {}});
    let answer = site.post_json("/v1/events", &one).await;
    assert_eq!(answer.json(), json!({"events": 1, "succeeded": 1, "failed": 0, "sampled_out": 1}));
    let balance = site.close().await;
    assert_eq!(balance.rejected, 3 * left_out.len() as u64 + 1);
    assert_eq!(balance.delivered, 3 * (100 - left_out.len() as u64));
}
