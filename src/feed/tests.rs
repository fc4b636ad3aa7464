//! What is found while clients are replaced, in the order of a bad moment.

use std::path::Path;

use super::*;
use crate::dev::brokers::EmbeddedBrokers;
use crate::outcome::Ledger;
use crate::pipeline::Ready;
use crate::produce::TopicHandle;
use crate::route::Lane;

const CONFIG: &str = r#"
[clusters.core]
brokers = ["localhost:1"]

[events."order.placed"]
cluster = "core"
topic = "orders"
encoding = "raw_json"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_that_ends_before_the_tick_after_a_client_was_replaced_does_not_hide_it() {
    let brokers = EmbeddedBrokers::start(1).expect("loopback has free ports");
    brokers.create_topic("orders", 1, 1).expect("the topic is new");
    let mut config = crate::config::parse(CONFIG, Path::new(".")).expect("the configuration of this test is valid");
    config.clusters[0].brokers = vec![brokers.bootstrap().to_owned()];
    let (cluster, config) = (config.clusters[0].clone(), Arc::new(config));
    let pipeline = Arc::new(Pipeline::new(Arc::new(Ledger::default()), None));
    let producers = Arc::new(Producers::default());
    let (loaders, health) = (Loaders::new(), Arc::new(Health::default()));
    let mut feed = Feed::new(Arc::clone(&config), Arc::clone(&pipeline), Arc::clone(&producers), loaders, health);
    let before = producers.get_or_start(&cluster, Lane::Standard).expect("it starts");
    let ready = Ready {
        schemas: None,
        topic: Arc::new(TopicHandle::new(&before, "orders").expect("it is a topic's name")),
        hot_keys: None,
        failover: vec![],
        record_bytes_max: None,
        is_assumed: false,
    };
    feed.entries[0].live.state = State::Ready(ready.clone());
    feed.publish();

    let now = producers.replace(&cluster, Lane::Standard).expect("it starts");
    let event_type = Arc::clone(&feed.entries[0].live.event_type);
    let found = refresh(&config, Arc::clone(&producers), None, &event_type, &ready).await;
    let id = feed.entries[0].id;
    if feed.apply(Done { id, found }) {
        feed.publish();
    }
    // The tick after it takes what no entry uses for what no snapshot uses.
    feed.renew_clients();
    feed.renew_clients();
    assert!(producers.displaced().is_empty(), "the client of before is retired");
    let snapshot = pipeline.snapshot();
    let live = snapshot.find("order.placed").expect("it is configured");
    let State::Ready(ready) = &live.state else { panic!("it is served") };
    assert!(Arc::ptr_eq(ready.topic.client(), &now), "events are given to a client that takes none");
    producers.stop(Duration::from_secs(5));
}
