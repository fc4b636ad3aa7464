//! Administration of a real Kafka: topics, configs, access rules and users, each refusal, and every number on the wire against
//! independent clients.

use std::time::Duration;

use iguazu::config::{ClientTls, Sasl, Secret};
use iguazu::control::kafka::acls::{
    AclBinding, AclFilter, AclNameFilter, AclOperation, AclPattern, AclPermission, AclResource,
};
use iguazu::control::kafka::configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource};
use iguazu::control::kafka::scram::ScramMechanism;
use iguazu::control::kafka::topics::{NewTopic, TopicDescription};
use iguazu::control::kafka::users::NewCredential;
use iguazu::control::kafka::{AdminError, Each, KafkaAdmin, KafkaClient, Mode, Settings, Timeouts};
use rdkafka::ClientConfig;
use serde_json::json;
use uuid::Uuid;

use super::support::kafka::{self, ADMIN, Cluster, Topic};
use super::support::{referee, unique, wait_for, wait_until};

/// Shorter than in production, so that tests of dead brokers end; long enough for a broker on two busy cores.
pub const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), answer: Duration::from_secs(8), call: Duration::from_secs(20) };

pub fn client(brokers: &str, tls: Option<ClientTls>, sasl: Option<Sasl>, timeouts: Timeouts) -> KafkaClient {
    let brokers = brokers.split(',').map(str::to_owned).collect();
    KafkaClient::new(Settings { brokers, tls, sasl, timeouts }).expect("the settings are right")
}

pub fn password(mechanism: &str, (username, password): (&str, &str)) -> Option<Sasl> {
    Some(Sasl::Password {
        mechanism: mechanism.to_owned(),
        username: username.to_owned(),
        password: Secret::new(password.to_owned()),
    })
}

pub fn admin(cluster: &Cluster) -> KafkaClient {
    client(&cluster.sasl_brokers(), None, password("PLAIN", ADMIN), TIMEOUTS)
}

pub fn user(cluster: &Cluster, mechanism: &str, credentials: (&str, &str)) -> KafkaClient {
    client(&cluster.sasl_brokers(), None, password(mechanism, credentials), TIMEOUTS)
}

pub fn code<T>(result: &Result<T, AdminError>) -> &'static str {
    result.as_ref().err().map_or("ok", AdminError::code)
}

pub fn codes<T>(results: &Each<T>) -> Vec<&'static str> {
    results.iter().map(code).collect()
}

/// Reads lag behind changes, so a test asks until the answer is right.
pub async fn describe(admin: &KafkaClient, topic: &str, right: impl Fn(&TopicDescription) -> bool) -> TopicDescription {
    let names = [topic.to_owned()];
    wait_until(topic, async || match admin.describe_topics(&names).await.expect("the cluster answers").pop() {
        Some(Ok(topic)) if right(&topic) => Ok(topic),
        other => Err(format!("{other:?}")),
    })
    .await
}

pub fn new_topic(name: &str, partitions: i32, replicas: i16, configs: &[(&str, &str)]) -> NewTopic {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    NewTopic { name: name.to_owned(), partitions: Some(partitions), replicas: Some(replicas), configs }
}

#[tokio::test]
async fn a_topic_is_checked_created_grown_and_deleted_by_its_id() {
    let kafka = kafka::shared();
    let admin = admin(&kafka);
    let name = unique("it.admin.topic");
    let wanted = new_topic(&name, 2, 3, &[("retention.ms", "60000")]);

    let checked = admin.create_topics(std::slice::from_ref(&wanted), Mode::Validate).await.unwrap();
    assert_eq!(checked[0].as_ref().unwrap().id, None, "a check makes nothing");
    let of_names = [name.clone()];
    assert_eq!(codes(&admin.describe_topics(&of_names).await.unwrap()), ["not_found"], "a check makes nothing");

    let created = admin.create_topics(std::slice::from_ref(&wanted), Mode::Apply).await.unwrap().remove(0).unwrap();
    assert_eq!((created.partitions, created.replicas), (Some(2), Some(3)));
    let topic = describe(&admin, &name, |topic| topic.partitions.iter().all(|p| p.in_sync.len() == 3)).await;
    assert_eq!((Some(topic.id), topic.partitions.len(), topic.internal), (created.id, 2, false));
    assert!(topic.partitions.iter().all(|p| p.leader == Some(p.replicas[0]) && p.offline.is_empty()), "{topic:?}");
    let listed = admin.list_topics().await.unwrap();
    assert!(listed.iter().flatten().any(|listed| listed.id == topic.id));

    // Refusals of a batch stand beside what succeeds, in the order asked.
    let other = unique("it.admin.topic");
    let batch = [
        wanted,
        new_topic(&unique("it.admin.no"), 1, 1, &[("no.such.key", "1")]),
        new_topic(&unique("it.admin.no"), 1, 1, &[("retention.ms", "soon")]),
        new_topic(&unique("it.admin.no"), 1, 5, &[]),
        new_topic(&unique("it.admin.no"), 0, 1, &[]),
        new_topic("it admin no", 1, 1, &[]),
        NewTopic { partitions: None, replicas: None, ..new_topic(&other, 1, 1, &[]) },
    ];
    let results = admin.create_topics(&batch, Mode::Apply).await.unwrap();
    assert_eq!(codes(&results), ["already_exists", "invalid", "invalid", "invalid", "invalid", "invalid", "ok"]);
    let refusal = results[3].as_ref().unwrap_err();
    assert_eq!(refusal.refusal().unwrap().code, 38, "Kafka's own code: {refusal}");
    assert!(refusal.to_string().contains("replication factor"), "and its words: {refusal}");

    let grow = |count| [(name.clone(), count)];
    assert_eq!(codes(&admin.create_partitions(&grow(4), Mode::Validate).await.unwrap()), ["ok"]);
    assert_eq!(codes(&admin.create_partitions(&grow(1), Mode::Apply).await.unwrap()), ["invalid"], "no topic shrinks");
    let unknown = [(unique("it.admin.no"), 4)];
    assert_eq!(codes(&admin.create_partitions(&unknown, Mode::Apply).await.unwrap()), ["not_found"]);
    assert_eq!(describe(&admin, &name, |_| true).await.partitions.len(), 2, "a check and a refusal make nothing");
    assert_eq!(codes(&admin.create_partitions(&grow(4), Mode::Apply).await.unwrap()), ["ok"]);
    describe(&admin, &name, |topic| topic.partitions.len() == 4).await;

    let other = describe(&admin, &other, |_| true).await;
    let ids = [topic.id, Uuid::new_v4(), other.id];
    assert_eq!(codes(&admin.delete_topics(&ids).await.unwrap()), ["ok", "not_found", "ok"]);
    wait_until("the topic is gone", async || match codes(&admin.describe_topics(&of_names).await.unwrap())[..] {
        ["not_found"] => Ok(()),
        ref other => Err(format!("{other:?}")),
    })
    .await;
    // A topic of the same name is another topic.
    admin.create_topics(&[new_topic(&name, 1, 1, &[])], Mode::Apply).await.unwrap().remove(0).unwrap();
    assert_eq!(codes(&admin.delete_topics(&[topic.id]).await.unwrap()), ["not_found"]);
    let again = describe(&admin, &name, |_| true).await;
    assert_eq!(codes(&admin.delete_topics(&[again.id]).await.unwrap()), ["ok"]);
}

#[tokio::test]
async fn configs_are_set_and_unset_one_by_one_and_say_where_they_come_from() {
    let kafka = kafka::shared();
    let admin = admin(&kafka);
    let name = kafka.topic("it.admin.configs", Topic { partitions: 1, ..Topic::default() });
    let topic = ConfigResource::Topic(name.clone());
    let change = |resource: &ConfigResource, key: &str, value: Option<&str>| ConfigChange {
        resource: resource.clone(),
        values: vec![(key.to_owned(), value.map(str::to_owned))],
    };
    let get = async |resource: &ConfigResource, key: &str| -> ConfigEntry {
        let resources = [resource.clone()];
        let entries = admin.describe_configs(&resources).await.unwrap().remove(0).unwrap();
        entries.into_iter().find(|entry| entry.name == key).unwrap_or_else(|| panic!("no {key}"))
    };
    let until = async |resource: &ConfigResource, key: &str, value: Option<&str>, source: ConfigSource| {
        wait_until(key, async || {
            let entry = get(resource, key).await;
            let right = entry.value.as_deref() == value && entry.source == source;
            if right { Ok(()) } else { Err(format!("{entry:?}")) }
        })
        .await;
    };

    let both = ConfigChange {
        resource: topic.clone(),
        values: vec![
            ("retention.ms".to_owned(), Some("60000".to_owned())),
            ("cleanup.policy".to_owned(), Some("compact".to_owned())),
        ],
    };
    assert_eq!(codes(&admin.alter_configs(std::slice::from_ref(&both), Mode::Validate).await.unwrap()), ["ok"]);
    assert_eq!(get(&topic, "retention.ms").await.source, ConfigSource::Default, "a check makes nothing");
    assert_eq!(codes(&admin.alter_configs(&[both], Mode::Apply).await.unwrap()), ["ok"]);
    until(&topic, "retention.ms", Some("60000"), ConfigSource::Topic).await;
    // The others stay: it is not the legacy request, which resets what it does not name.
    let unset = change(&topic, "retention.ms", None);
    assert_eq!(codes(&admin.alter_configs(&[unset], Mode::Apply).await.unwrap()), ["ok"]);
    until(&topic, "retention.ms", Some("604800000"), ConfigSource::Default).await;
    until(&topic, "cleanup.policy", Some("compact"), ConfigSource::Topic).await;
    until(&topic, "min.insync.replicas", Some("1"), ConfigSource::Topic).await;

    let broker = ConfigResource::Broker(2);
    let changes = [
        change(&topic, "no.such.key", Some("1")),
        change(&ConfigResource::Topic(unique("it.admin.no")), "retention.ms", Some("1000")),
        change(&broker, "background.threads", Some("many")),
        change(&broker, "background.threads", Some("12")),
        change(&ConfigResource::BrokerDefault, "message.max.bytes", Some("1048588")),
        change(&ConfigResource::Broker(9), "background.threads", Some("12")),
    ];
    let one_by_one = async |change: &ConfigChange| {
        let result = admin.alter_configs(std::slice::from_ref(change), Mode::Apply).await.unwrap().remove(0);
        code(&result)
    };
    let mut results = Vec::new();
    for change in &changes {
        results.push(one_by_one(change).await);
    }
    assert_eq!(results, ["invalid", "not_found", "invalid", "ok", "ok", "not_found"]);
    until(&broker, "background.threads", Some("12"), ConfigSource::Broker).await;
    until(&broker, "message.max.bytes", Some("1048588"), ConfigSource::BrokerDefault).await;
    until(&broker, "node.id", Some("2"), ConfigSource::BrokerFile).await;
    assert_eq!(get(&ConfigResource::Broker(1), "background.threads").await.source, ConfigSource::Default);
    assert!(get(&broker, "node.id").await.is_read_only);
    let secret = get(&broker, "ssl.keystore.password").await;
    assert_eq!((secret.is_sensitive, secret.value), (true, None), "Kafka keeps a secret to itself");
    let undo = [change(&broker, "background.threads", None), change(&changes[4].resource, "message.max.bytes", None)];
    assert_eq!(codes(&admin.alter_configs(&undo, Mode::Apply).await.unwrap()), ["ok", "ok"]);
    until(&broker, "message.max.bytes", Some("1048588"), ConfigSource::Default).await;

    let resources = [ConfigResource::Topic(unique("it.admin.no")), topic.clone(), ConfigResource::Broker(9), broker];
    let described = admin.describe_configs(&resources).await.unwrap();
    assert_eq!(codes(&described), ["not_found", "ok", "not_found", "ok"]);

    // What librdkafka sets, ours unsets, and the names of sources agree with both other clients.
    let set = json!({"client": "confluent", "do": "alter_config", "kind": "TOPIC", "name": name, "key": "segment.bytes", "value": "1048576"});
    referee::ask(&kafka, &json!([set]));
    until(&topic, "segment.bytes", Some("1048576"), ConfigSource::Topic).await;
    let unset = change(&topic, "segment.bytes", None);
    assert_eq!(codes(&admin.alter_configs(&[unset], Mode::Apply).await.unwrap()), ["ok"]);
    until(&topic, "segment.bytes", Some("1073741824"), ConfigSource::Default).await;
    for resource in [(&topic, "TOPIC", name.as_str()), (&ConfigResource::Broker(1), "BROKER", "1")] {
        let question = |client| json!({"client": client, "do": "configs", "kind": resource.1, "name": resource.2});
        let [confluent, python] = &referee::ask(&kafka, &json!([question("confluent"), question("python")]))[..] else {
            panic!("two answers")
        };
        let resources = [resource.0.clone()];
        let ours = admin.describe_configs(&resources).await.unwrap().remove(0).unwrap();
        assert!(ours.len() > 30, "{}", ours.len());
        for entry in ours {
            let source = source_name(entry.source);
            assert_eq!(confluent[&entry.name], json!([entry.value, source, entry.is_sensitive]), "{}", entry.name);
            let theirs = &python[&entry.name];
            let theirs = (&theirs["value"], &theirs["config_source"], &theirs["is_sensitive"], &theirs["read_only"]);
            let source = source.replace("UNKNOWN_CONFIG", "UNKNOWN");
            let ours = (json!(entry.value), json!(source), json!(entry.is_sensitive), json!(entry.is_read_only));
            assert_eq!(theirs, (&ours.0, &ours.1, &ours.2, &ours.3), "{}", entry.name);
        }
    }
}

fn source_name(source: ConfigSource) -> &'static str {
    match source {
        ConfigSource::Topic => "DYNAMIC_TOPIC_CONFIG",
        ConfigSource::Broker => "DYNAMIC_BROKER_CONFIG",
        ConfigSource::BrokerDefault => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        ConfigSource::BrokerFile => "STATIC_BROKER_CONFIG",
        ConfigSource::Default => "DEFAULT_CONFIG",
        other => panic!("{other:?} in a topic or a broker"),
    }
}

const RESOURCES: [(AclResource, &str); 6] = [
    (AclResource::Topic, "TOPIC"),
    (AclResource::Group, "GROUP"),
    (AclResource::Cluster, "CLUSTER"),
    (AclResource::TransactionalId, "TRANSACTIONAL_ID"),
    (AclResource::DelegationToken, "DELEGATION_TOKEN"),
    (AclResource::User, "USER"),
];
const PATTERNS: [(AclPattern, &str); 2] = [(AclPattern::Literal, "LITERAL"), (AclPattern::Prefixed, "PREFIXED")];
const OPERATIONS: [(AclOperation, &str); 13] = [
    (AclOperation::All, "ALL"),
    (AclOperation::Read, "READ"),
    (AclOperation::Write, "WRITE"),
    (AclOperation::Create, "CREATE"),
    (AclOperation::Delete, "DELETE"),
    (AclOperation::Alter, "ALTER"),
    (AclOperation::Describe, "DESCRIBE"),
    (AclOperation::ClusterAction, "CLUSTER_ACTION"),
    (AclOperation::DescribeConfigs, "DESCRIBE_CONFIGS"),
    (AclOperation::AlterConfigs, "ALTER_CONFIGS"),
    (AclOperation::IdempotentWrite, "IDEMPOTENT_WRITE"),
    (AclOperation::CreateTokens, "CREATE_TOKENS"),
    (AclOperation::DescribeTokens, "DESCRIBE_TOKENS"),
];
const PERMISSIONS: [(AclPermission, &str); 2] = [(AclPermission::Allow, "ALLOW"), (AclPermission::Deny, "DENY")];

pub fn rule(resource: AclResource, pattern: AclPattern, name: &str, user: &str, operation: AclOperation) -> AclBinding {
    AclBinding {
        resource,
        pattern,
        name: name.to_owned(),
        principal: format!("User:{user}"),
        host: "*".to_owned(),
        operation,
        permission: AclPermission::Allow,
    }
}

/// Every kind of rule that is there, each number at least once, with its names in other clients.
fn rules_of_every_kind(user: &str) -> Vec<(AclBinding, serde_json::Value)> {
    let mut rules = Vec::new();
    for (resource, resource_name) in RESOURCES {
        for (pattern, pattern_name) in PATTERNS {
            for (operation, operation_name) in OPERATIONS {
                for (permission, permission_name) in PERMISSIONS {
                    let (name, host) = ("kafka-cluster", "127.0.0.1");
                    let binding = AclBinding {
                        permission,
                        host: host.to_owned(),
                        ..rule(resource, pattern, name, user, operation)
                    };
                    let names = json!([resource_name, pattern_name, name, host, operation_name, permission_name]);
                    rules.push((binding, names));
                }
            }
        }
    }
    rules
}

#[tokio::test]
async fn an_access_rule_is_the_same_rule_to_other_clients() {
    assert_eq!(RESOURCES.map(|pair| pair.0), AclResource::NAMED);
    assert_eq!(PATTERNS.map(|pair| pair.0), AclPattern::NAMED);
    assert_eq!(OPERATIONS.map(|pair| pair.0), AclOperation::NAMED);
    let kafka = kafka::shared();
    let admin = admin(&kafka);
    // librdkafka does not know every kind, so it is asked about those that it does.
    let librdkafka_knows = |names: &serde_json::Value| {
        let unknown = ["DELEGATION_TOKEN", "USER", "CREATE_TOKENS", "DESCRIBE_TOKENS"];
        names.as_array().unwrap().iter().all(|name| !unknown.contains(&name.as_str().unwrap()))
    };
    for (client, knows) in [
        ("python", &(|_: &serde_json::Value| true) as &dyn Fn(&serde_json::Value) -> bool),
        ("confluent", &librdkafka_knows),
    ] {
        let (by_us, by_them) = (unique("by-us"), unique("by-them"));
        let known = |user: &str| rules_of_every_kind(user).into_iter().filter(|(_, names)| knows(names));
        let bindings: Vec<AclBinding> = known(&by_us).map(|(binding, _)| binding).collect();
        assert!(admin.create_acls(&bindings).await.unwrap().iter().all(Result::is_ok));
        let names: Vec<serde_json::Value> = known(&by_us).map(|(_, names)| names).collect();
        let create =
            json!({"client": client, "do": "create_acls", "principal": format!("User:{by_them}"), "rules": names});
        let read = json!({"client": client, "do": "acls", "principal": format!("User:{by_us}")});
        let mut expected = names;
        expected.sort_by_key(ToString::to_string);
        wait_for("rules as another client reads them", || {
            let mut seen = referee::ask(&kafka, &json!([read])).remove(0);
            seen.as_array_mut().unwrap().sort_by_key(ToString::to_string);
            if seen == json!(expected) { Ok(()) } else { Err(format!("{seen}")) }
        });

        referee::ask(&kafka, &json!([create]));
        let mut expected: Vec<AclBinding> = known(&by_them).map(|(binding, _)| binding).collect();
        expected.sort();
        let filter = AclFilter { principal: Some(format!("User:{by_them}")), ..AclFilter::default() };
        wait_until("rules of another client", async || {
            let mut seen = admin.describe_acls(&filter).await.unwrap();
            seen.sort();
            if seen == expected { Ok(()) } else { Err(format!("{} rules", seen.len())) }
        })
        .await;
        for bindings in [&bindings, &expected] {
            assert!(admin.delete_acls(bindings).await.unwrap().iter().all(Result::is_ok));
        }
    }
}

#[tokio::test]
async fn an_access_rule_is_found_by_what_it_bears_on_and_deleted_alone() {
    let kafka = kafka::shared();
    let admin = admin(&kafka);
    let (user, prefix) = (unique("acl-user"), unique("it.acl."));
    let on = |pattern, name: &str| rule(AclResource::Topic, pattern, name, &user, AclOperation::Read);
    let literal = on(AclPattern::Literal, &prefix);
    let prefixed = on(AclPattern::Prefixed, &prefix);
    let longer = on(AclPattern::Literal, &format!("{prefix}1"));
    let star = on(AclPattern::Literal, "*");
    let all = [literal.clone(), prefixed.clone(), longer.clone(), star.clone()];
    assert_eq!(codes(&admin.create_acls(&all).await.unwrap()), ["ok"; 4]);
    assert_eq!(codes(&admin.create_acls(&all).await.unwrap()), ["ok"; 4], "a rule that is there is fine");

    let check = async |name: AclNameFilter, expected: &[&AclBinding]| {
        let filter = AclFilter { name, principal: Some(literal.principal.clone()), ..AclFilter::default() };
        let mut expected: Vec<AclBinding> = expected.iter().copied().cloned().collect();
        expected.sort();
        wait_until("access rules", async || {
            let mut found = admin.describe_acls(&filter).await.unwrap();
            found.sort();
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    };
    check(AclNameFilter::Any, &[&literal, &prefixed, &longer, &star]).await;
    check(AclNameFilter::BearingOn(longer.name.clone()), &[&prefixed, &longer, &star]).await;
    check(AclNameFilter::BearingOn(prefix.clone()), &[&literal, &prefixed, &star]).await;
    check(AclNameFilter::Exactly(AclPattern::Literal, prefix.clone()), &[&literal]).await;
    check(AclNameFilter::Exactly(AclPattern::Prefixed, prefix.clone()), &[&prefixed]).await;

    let absent = on(AclPattern::Literal, &format!("{prefix}2"));
    assert_eq!(codes(&admin.delete_acls(&[literal.clone(), absent]).await.unwrap()), ["ok", "not_found"]);
    check(AclNameFilter::Any, &[&prefixed, &longer, &star]).await;
    let match_all = AclBinding { pattern: AclPattern::Other(2), ..longer.clone() };
    assert_eq!(code(&admin.delete_acls(&[match_all]).await), "invalid", "no deletion takes more than it names");
    assert_eq!(codes(&admin.delete_acls(&[prefixed, longer, star]).await.unwrap()), ["ok"; 3]);
    check(AclNameFilter::Any, &[]).await;

    // What Kafka refuses.
    let bad = [
        AclBinding { principal: "nobody".to_owned(), ..literal.clone() },
        AclBinding { name: String::new(), ..literal.clone() },
        AclBinding { resource: AclResource::Cluster, ..literal.clone() },
        AclBinding { operation: AclOperation::Other(1), ..literal },
    ];
    for binding in bad {
        let result = admin.create_acls(std::slice::from_ref(&binding)).await.unwrap();
        assert!(matches!(codes(&result)[..], ["invalid" | "failed"]), "{binding:?}: {result:?}");
    }
}

fn sasl_client(cluster: &Cluster, mechanism: &str, (user, password): (&str, &str)) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.sasl_brokers()).set("security.protocol", "sasl_plaintext");
    config.set("sasl.mechanism", mechanism).set("sasl.username", user).set("sasl.password", password);
    config.set("allow.auto.create.topics", "false");
    config
}

#[tokio::test]
async fn a_new_user_can_do_exactly_what_it_was_granted() {
    let kafka = kafka::shared();
    let admin = admin(&kafka);
    let names = [unique("svc"), unique("svc-absent")];
    let [name, absent] = &names;
    let new = |mechanism, password: &str, iterations| NewCredential {
        user: name.clone(),
        mechanism,
        iterations,
        password: Secret::new(password.to_owned()),
    };
    let credentials = [
        new(ScramMechanism::Sha512, "first", 8192),
        new(ScramMechanism::Sha256, "second", 4096),
        new(ScramMechanism::Sha512, "first", 4095),
        new(ScramMechanism::Other(3), "first", 4096),
    ];
    // Two of one user cannot be in one request.
    assert_eq!(codes(&admin.upsert_credentials(&credentials).await.unwrap()), ["ok", "ok", "invalid", "invalid"]);
    wait_until("credentials", async || {
        let described = admin.describe_users(&names).await.unwrap();
        let mut found = described[0].as_ref().map_err(ToString::to_string)?.credentials.clone();
        found.sort();
        assert_eq!(code(&described[1]), "not_found", "{absent}");
        let right = found == [(ScramMechanism::Sha256, 4096), (ScramMechanism::Sha512, 8192)];
        if right { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    assert!(admin.list_users().await.unwrap().iter().any(|user| user.user == *name));
    let question = |client| json!({"client": client, "do": "users", "user": name});
    let seen = referee::ask(&kafka, &json!([question("confluent"), question("python")]));
    assert_eq!(seen, vec![json!({"SCRAM_SHA_256": 4096, "SCRAM_SHA_512": 8192}); 2]);

    for (mechanism, password) in [("SCRAM-SHA-512", "first"), ("SCRAM-SHA-256", "second")] {
        let login = user(&kafka, mechanism, (name, password));
        wait_until("the login", async || login.describe_cluster().await.map_err(|e| e.to_string())).await;
        let wrong = user(&kafka, mechanism, (name, "third"));
        assert_eq!(code(&wrong.describe_cluster().await), "login_refused");
        assert_eq!(code(&wrong.create_topics(&[new_topic("t", 1, 1, &[])], Mode::Apply).await), "login_refused");
    }
    assert_eq!(code(&user(&kafka, "SCRAM-SHA-512", (absent, "first")).list_topics().await), "login_refused");

    let topic = |name: &str| kafka.topic(name, Topic { partitions: 1, ..Topic::default() });
    let (mine, also_mine, other) = (topic("it.svc.a"), topic("it.svc.b"), topic("it.others"));
    let client = sasl_client(&kafka, "SCRAM-SHA-512", (name, "first"));
    let can_produce = |topic: &str| kafka::produce(&client, topic, None, b"x").map_err(|e| e.to_string());
    let until = |topic: &str, may: bool| {
        wait_for(&format!("produce to {topic}"), || match can_produce(topic) {
            Ok(_) if may => Ok(()),
            Err(e) if !may && e.to_lowercase().contains("authorization") => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    until(&mine, false);
    let write = |pattern, topic: &str| rule(AclResource::Topic, pattern, topic, name, AclOperation::Write);
    let literal = write(AclPattern::Literal, &mine);
    assert_eq!(codes(&admin.create_acls(std::slice::from_ref(&literal)).await.unwrap()), ["ok"]);
    until(&mine, true);
    until(&also_mine, false);
    let prefixed = write(AclPattern::Prefixed, "it.svc.");
    assert_eq!(codes(&admin.create_acls(std::slice::from_ref(&prefixed)).await.unwrap()), ["ok"]);
    until(&also_mine, true);
    until(&other, false);
    let denied = AclBinding { permission: AclPermission::Deny, ..literal.clone() };
    assert_eq!(codes(&admin.create_acls(std::slice::from_ref(&denied)).await.unwrap()), ["ok"]);
    until(&mine, false);
    assert_eq!(codes(&admin.delete_acls(&[denied, prefixed]).await.unwrap()), ["ok", "ok"]);
    until(&mine, true);
    until(&also_mine, false);
    assert_eq!(codes(&admin.delete_acls(&[literal]).await.unwrap()), ["ok"]);

    // What librdkafka salts, ours logs in with; and a credential is replaced, then deleted.
    let upsert = json!({"client": "confluent", "do": "upsert_user", "user": name, "mechanism": "SCRAM_SHA_256", "iterations": 5000, "password": "fourth"});
    referee::ask(&kafka, &json!([upsert]));
    let login = user(&kafka, "SCRAM-SHA-256", (name, "fourth"));
    wait_until("the new password", async || login.describe_cluster().await.map_err(|e| e.to_string())).await;
    // Only of SHA-256, of which no other test has users: Kafka may forget all users of a mechanism when one is deleted.
    let gone = [(name.clone(), ScramMechanism::Sha256), (absent.clone(), ScramMechanism::Sha256)];
    assert_eq!(codes(&admin.delete_credentials(&gone).await.unwrap()), ["ok", "not_found"]);
    // A connection that is open stays open, so each try has one of its own.
    wait_until("the end of the password", async || {
        match code(&user(&kafka, "SCRAM-SHA-256", (name, "fourth")).describe_cluster().await) {
            "login_refused" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
}
