//! Administration when it is refused or goes unanswered: users without rights, wrong certificates, brokers that are paused or
//! dead. And what is counted rather than changed: quotas, disks, offsets, groups.

use std::time::{Duration, Instant};

use iguazu::config::ClientTls;
use iguazu::control::kafka::acls::{AclFilter, AclOperation, AclPattern, AclResource};
use iguazu::control::kafka::configs::{ConfigChange, ConfigResource};
use iguazu::control::kafka::groups::{GroupDescription, lag};
use iguazu::control::kafka::offsets::{OffsetQuery, Which};
use iguazu::control::kafka::quotas::{Quota, QuotaChange, QuotaEntity, QuotaFilter, QuotaMatch, QuotaName};
use iguazu::control::kafka::scram::ScramMechanism;
use iguazu::control::kafka::{AdminError, KafkaAdmin, KafkaClient, Mode, Timeouts};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use serde_json::json;
use uuid::Uuid;

use super::kafka_admin::{TIMEOUTS, admin, client, code, codes, describe, new_topic, password, rule, user};
use super::support::kafka::{self, ADMIN, Cluster, STRANGER, Topic};
use super::support::{referee, unique, wait_for, wait_until};

#[tokio::test]
async fn a_user_without_rights_is_refused_every_call_by_name() {
    let kafka = kafka::shared();
    let name = kafka.topic("it.admin.closed", Topic { partitions: 1, ..Topic::default() });
    let id = describe(&admin(&kafka), &name, |_| true).await.id;
    let admin = user(&kafka, "SCRAM-SHA-512", STRANGER);
    let names = [name.clone()];
    let topic = ConfigResource::Topic(name.clone());
    let change = |resource| ConfigChange { resource, values: vec![("retention.ms".to_owned(), None)] };
    let acl = rule(AclResource::Topic, AclPattern::Literal, &name, STRANGER.0, AclOperation::All);
    let quota = quota_change("stranger", Some(1024.0));
    let query = OffsetQuery { topic: name.clone(), partition: 0, which: Which::Latest };
    let groups = [unique("it.admin.group")];

    let mut refused = vec![
        ("describe_topics", codes(&admin.describe_topics(&names).await.unwrap())),
        ("create_topics", codes(&admin.create_topics(&[new_topic("t", 1, 1, &[])], Mode::Apply).await.unwrap())),
        ("create_partitions", codes(&admin.create_partitions(&[(name, 9)], Mode::Apply).await.unwrap())),
        ("list_offsets", codes(&admin.list_offsets(&[query]).await.unwrap())),
        (
            "describe_configs",
            codes(&admin.describe_configs(&[topic.clone(), ConfigResource::Broker(1)]).await.unwrap()),
        ),
        ("alter_configs", codes(&admin.alter_configs(&[change(topic)], Mode::Apply).await.unwrap())),
        (
            "alter_configs",
            codes(&admin.alter_configs(&[change(ConfigResource::Broker(1))], Mode::Validate).await.unwrap()),
        ),
        ("create_acls", vec![code(&admin.create_acls(std::slice::from_ref(&acl)).await.and_then(first))]),
        ("describe_acls", vec![code(&admin.describe_acls(&AclFilter::default()).await)]),
        ("delete_acls", vec![code(&admin.delete_acls(&[acl]).await.and_then(first))]),
        ("describe_users", vec![code(&admin.describe_users(&["writer".to_owned()]).await)]),
        ("delete_credentials", {
            codes(&admin.delete_credentials(&[("nobody".to_owned(), ScramMechanism::Sha256)]).await.unwrap())
        }),
        ("describe_quotas", vec![code(&admin.describe_quotas(&QuotaFilter::default()).await)]),
        ("alter_quotas", codes(&admin.alter_quotas(&[quota], Mode::Apply).await.unwrap())),
        ("describe_log_dirs", codes(&admin.describe_log_dirs(&[1]).await.unwrap())),
        ("describe_groups", codes(&admin.describe_groups(&groups).await.unwrap())),
        ("group_offsets", codes(&admin.group_offsets(&groups).await.unwrap())),
    ];
    refused.retain(|(_, codes)| codes.iter().any(|code| *code != "forbidden"));
    assert_eq!(refused, [], "these are not forbidden");
    // Kafka does not say that a topic is there: neither by its id nor in a list.
    assert!(matches!(code(&admin.delete_topics(&[id]).await.and_then(first)), "not_found" | "forbidden"));
    assert!(admin.list_topics().await.unwrap().is_empty());
    assert!(admin.list_groups().await.unwrap().is_empty());
    assert_eq!(admin.describe_cluster().await.unwrap().brokers.len(), 3, "who may log in may see the brokers");
    // Kafka 4.1 fails within and never answers; the next call is not hurt.
    let impatient = Timeouts { answer: Duration::from_secs(2), ..TIMEOUTS };
    let impatient = client(&kafka.sasl_brokers(), None, password("SCRAM-SHA-512", STRANGER), impatient);
    let error = impatient.list_users().await.unwrap_err();
    assert!(matches!(error.code(), "timeout" | "forbidden"), "{error}");
    assert_eq!(impatient.describe_cluster().await.unwrap().brokers.len(), 3);
}

fn first<T>(results: Vec<Result<T, AdminError>>) -> Result<T, AdminError> {
    results.into_iter().next().expect("one was asked")
}

fn quota_change(user: &str, rate: Option<f64>) -> QuotaChange {
    let entity = QuotaEntity { user: Some(QuotaName::Name(user.to_owned())), ..QuotaEntity::default() };
    QuotaChange { entity, values: vec![("producer_byte_rate".to_owned(), rate)] }
}

#[tokio::test]
async fn a_quota_is_the_same_quota_to_kafkas_own_command() {
    let kafka = kafka::shared();
    let admin = admin(&kafka);
    let (name, client_id) = (unique("it.quota"), unique("it.quota.client"));
    let of_user = quota_change(&name, Some(1024.0));
    let filter =
        |strict| QuotaFilter { user: Some(QuotaMatch::Exactly(name.clone())), strict, ..QuotaFilter::default() };
    let until = async |filter: &QuotaFilter, expected: &[(&QuotaEntity, &str, f64)]| {
        wait_until("quotas", async || {
            let mut found = admin.describe_quotas(filter).await.unwrap();
            found.sort_by_key(|quota| quota.entity.clone());
            let expected = expected.iter().map(|(entity, key, value)| Quota {
                entity: (*entity).clone(),
                values: vec![((*key).to_owned(), *value)],
            });
            let mut expected: Vec<Quota> = expected.collect();
            expected.sort_by_key(|quota| quota.entity.clone());
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        })
        .await;
    };
    assert_eq!(codes(&admin.alter_quotas(std::slice::from_ref(&of_user), Mode::Validate).await.unwrap()), ["ok"]);
    let both = QuotaEntity { client_id: Some(QuotaName::Name(client_id.clone())), ..of_user.entity.clone() };
    let default_client = QuotaEntity { client_id: Some(QuotaName::Default), ..of_user.entity.clone() };
    let changes = [
        of_user.clone(),
        QuotaChange { entity: both.clone(), values: vec![("consumer_byte_rate".to_owned(), Some(2048.0))] },
        QuotaChange { entity: default_client.clone(), values: vec![("request_percentage".to_owned(), Some(50.0))] },
        QuotaChange { entity: of_user.entity.clone(), values: vec![("no_such_rate".to_owned(), Some(1.0))] },
    ];
    assert_eq!(codes(&admin.alter_quotas(&changes[3..], Mode::Apply).await.unwrap()), ["invalid"]);
    assert_eq!(codes(&admin.alter_quotas(&changes[..3], Mode::Apply).await.unwrap()), ["ok"; 3]);
    until(&filter(true), &[(&of_user.entity, "producer_byte_rate", 1024.0)]).await;
    let all = [
        (&of_user.entity, "producer_byte_rate", 1024.0),
        (&both, "consumer_byte_rate", 2048.0),
        (&default_client, "request_percentage", 50.0),
    ];
    until(&filter(false), &all).await;
    // The three ways to match are three numbers on the wire.
    let of_client = |client_id| QuotaFilter { client_id: Some(client_id), ..filter(true) };
    until(&of_client(QuotaMatch::Exactly(client_id.clone())), &all[1..2]).await;
    until(&of_client(QuotaMatch::Default), &all[2..]).await;
    until(&of_client(QuotaMatch::Any), &all[1..]).await;

    let theirs = referee::kafka_configs(&kafka, &["--describe", "--entity-type", "users", "--entity-name", &name]);
    assert!(theirs.contains("producer_byte_rate=1024.0") && !theirs.contains("2048"), "{theirs}");
    let with_clients = ["--describe", "--entity-type", "users", "--entity-name", &name, "--entity-type", "clients"];
    let theirs = referee::kafka_configs(&kafka, &with_clients);
    assert!(theirs.contains(&client_id) && theirs.contains("consumer_byte_rate=2048.0"), "{theirs}");
    assert!(theirs.contains("default client-id") && theirs.contains("request_percentage=50.0"), "{theirs}");
    let set = ["--alter", "--entity-type", "users", "--entity-name", &name, "--add-config", "producer_byte_rate=4096"];
    referee::kafka_configs(&kafka, &set);
    until(&filter(true), &[(&of_user.entity, "producer_byte_rate", 4096.0)]).await;

    let remove =
        |entity: &QuotaEntity, key: &str| QuotaChange { entity: entity.clone(), values: vec![(key.to_owned(), None)] };
    let remove = all.map(|(entity, key, _)| remove(entity, key));
    assert_eq!(codes(&admin.alter_quotas(&remove, Mode::Apply).await.unwrap()), ["ok"; 3]);
    until(&filter(false), &[]).await;
}

#[tokio::test]
async fn disks_are_described_broker_by_broker_and_replica_by_replica() {
    let kafka = kafka::shared();
    let admin = admin(&kafka);
    let topic = kafka.topic("it.admin.disk", Topic { partitions: 2, replicas: 3, settings: &[] });
    for _ in 0..3 {
        kafka.produce(&topic, Some(b"key"), &[b'x'; 5000]).unwrap();
    }
    let described = admin.describe_log_dirs(&[1, 2, 3, 9]).await.unwrap();
    assert_eq!(codes(&described), ["ok", "ok", "ok", "not_found"]);
    let theirs = referee::ask(&kafka, &json!([{"client": "python", "do": "log_dirs", "topic": topic}])).remove(0);
    for (broker, dirs) in (1..).zip(described.iter().flatten()) {
        assert_eq!(dirs.len(), 2, "each node has two directories");
        let mut bytes = 0;
        for dir in dirs {
            let theirs = &theirs[broker.to_string()][&dir.path];
            assert_eq!((dir.failed.as_ref(), json!(dir.total_bytes)), (None, theirs["total"].clone()));
            assert!(dir.usable_bytes.unwrap() <= dir.total_bytes.unwrap());
            let replicas = dir.replicas.iter().filter(|replica| replica.topic == topic);
            let sizes: serde_json::Map<_, _> = replicas
                .inspect(|replica| assert!(!replica.is_future && replica.offset_lag == 0, "{replica:?}"))
                .map(|replica| (replica.partition.to_string(), json!(replica.bytes)))
                .collect();
            bytes += sizes.values().filter_map(serde_json::Value::as_u64).sum::<u64>();
            assert_eq!(json!(sizes), theirs["replicas"]);
        }
        assert!(bytes > 15_000, "broker {broker} has {bytes} bytes of the records");
    }
}

#[tokio::test]
async fn offsets_come_from_the_leaders_and_lag_from_what_a_group_committed() {
    let kafka = kafka::shared();
    let admin = admin(&kafka);
    let topic = kafka.topic("it.admin.offsets", Topic { partitions: 3, replicas: 3, settings: &[] });
    let mut partitions = Vec::new();
    for _ in 0..5 {
        partitions.push(kafka.produce(&topic, Some(b"key"), b"x").unwrap().0);
    }
    let with_records = partitions[0];
    let ask = |partition, which| OffsetQuery { topic: topic.clone(), partition, which };
    let mut queries: Vec<_> = (0..3).map(|partition| ask(partition, Which::Latest)).collect();
    queries.push(ask(with_records, Which::Earliest));
    queries.push(ask(3, Which::Latest));
    queries.push(OffsetQuery { topic: unique("it.admin.no"), ..ask(0, Which::Latest) });
    let offsets = admin.list_offsets(&queries).await.unwrap();
    let ends: Vec<_> = offsets[..3].iter().map(|offset| offset.clone().unwrap().unwrap()).collect();
    assert_eq!((ends.iter().sum::<i64>(), ends[with_records as usize]), (5, 5));
    assert_eq!(offsets[3], Ok(Some(0)));
    assert_eq!(codes(&offsets)[4..], ["not_found", "not_found"]);
    let at = [Which::At(0), Which::At(i64::MAX - 1)].map(|which| ask(with_records, which));
    assert_eq!(admin.list_offsets(&at).await.unwrap(), [Ok(Some(0)), Ok(None)]);

    // One group of each protocol, both with a member; and one without members that another client committed for.
    let groups =
        [unique("it.group.classic"), unique("it.group.consumer"), unique("it.group.empty"), unique("it.group.no")];
    let _members = [("classic", &groups[0]), ("consumer", &groups[1])].map(|(protocol, group)| {
        let mut config = kafka.client();
        config.set("group.id", group).set("group.protocol", protocol).set("client.id", "it-member");
        config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().expect("the settings are right");
        consumer.subscribe(&[&topic]).expect("the topic is there");
        let mut seen = 0;
        wait_for(&format!("records for {group}"), || {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => {
                    seen += 1;
                    // Two of the five.
                    if seen == 2 {
                        consumer.commit_message(&record, CommitMode::Sync).map_err(|e| e.to_string())?;
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => {}
            }
            Err(format!("{seen} records"))
        });
        consumer
    });
    let commit = json!({"client": "python", "do": "commit", "group": groups[2], "topic": topic, "offsets": {with_records.to_string(): 1}});
    referee::ask(&kafka, &json!([commit]));

    wait_until("the groups", async || {
        let described = admin.describe_groups(&groups).await.unwrap();
        assert_eq!(code(&described[3]), "not_found");
        let described: Vec<GroupDescription> = described.into_iter().flatten().collect();
        let states: Vec<_> = described.iter().map(|group| group.state.as_str()).collect();
        if states != ["Stable", "Stable", "Empty"] {
            return Err(format!("{states:?}"));
        }
        for group in &described[..2] {
            let mut partitions = group.members[0].partitions.clone();
            partitions.sort();
            assert_eq!((group.members.len(), &*group.members[0].client_id), (1, "it-member"));
            assert_eq!(partitions, [0, 1, 2].map(|partition| (topic.clone(), partition)), "{}", group.group);
        }
        assert!(described[2].members.is_empty());
        Ok(())
    })
    .await;
    let listed = admin.list_groups().await.unwrap();
    for (group, kind) in groups.iter().zip(["classic", "consumer", "classic"]) {
        assert!(listed.iter().any(|listed| listed.group == *group && listed.kind == kind), "{group}: {listed:?}");
    }
    for (group, (offset, behind)) in groups.iter().zip([(2, 3), (2, 3), (1, 4)]) {
        let lag = lag(&admin, group).await.unwrap();
        let committed = lag.iter().find(|lag| lag.committed.partition == with_records).expect("it has committed");
        assert_eq!((committed.committed.offset, committed.records.clone()), (offset, Ok(behind)), "{group}");
    }
    assert!(lag(&admin, &groups[3]).await.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn a_broker_is_believed_only_with_the_right_certificate() {
    let kafka = kafka::shared();
    let tls = |ca_file| Some(ClientTls { ca_file, ..ClientTls::default() });
    let trusting = client(&kafka.tls_brokers(), tls(Some(kafka::ca_file())), None, TIMEOUTS);
    assert_eq!(trusting.describe_cluster().await.unwrap().brokers.len(), 3);
    let short = Timeouts { call: Duration::from_secs(2), ..TIMEOUTS };
    let distrustful = client(&kafka.tls_brokers(), tls(None), None, TIMEOUTS);
    let error = distrustful.describe_cluster().await.unwrap_err();
    assert_eq!(error.code(), "untrusted", "{error}");
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    // Plain text to TLS, TLS to plain text, and a mechanism that is not offered.
    let plain = client(&kafka.tls_brokers(), None, None, short);
    assert_eq!(code(&plain.describe_cluster().await), "unreachable");
    let encrypted = client(&kafka.brokers(), tls(Some(kafka::ca_file())), None, short);
    assert!(matches!(code(&encrypted.describe_cluster().await), "unreachable" | "untrusted"));
    let anonymous = client(&kafka.sasl_brokers(), None, None, short);
    assert_ne!(code(&anonymous.describe_cluster().await), "ok");
}

/// What a management plane does all the time: a question, a change, a description.
async fn work(admin: &KafkaClient) -> Result<String, AdminError> {
    admin.describe_cluster().await?;
    let name = unique("it.admin.work");
    let id = first(admin.create_topics(&[new_topic(&name, 1, 2, &[])], Mode::Apply).await?)?.id;
    first(admin.delete_topics(&[id.expect("it was created")]).await?)?;
    Ok(name)
}

#[tokio::test]
async fn a_dead_or_paused_broker_is_passed_by_and_a_dead_quorum_is_said() {
    let kafka = kafka::alone();
    let admin = client(&kafka.brokers(), None, None, TIMEOUTS);
    work(&admin).await.unwrap();
    let controller = controller(&kafka);
    let [other, third] = match controller {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    };
    let controller_id = controller as i32;

    // Neither the controller nor the broker that is asked is lost for good.
    kafka.kill(other);
    for _ in 0..3 {
        work(&admin).await.unwrap();
    }
    assert_eq!(codes(&admin.describe_log_dirs(&[controller_id]).await.unwrap()), ["ok"]);
    kafka.restart(other);
    kafka.restore();

    // A broker that answers nothing: a question is asked elsewhere, a change that it may have got is not.
    kafka.pause(other);
    let patient = Timeouts { answer: Duration::from_secs(3), ..TIMEOUTS };
    let asking = client(&kafka.brokers(), None, None, patient);
    for _ in 0..3 {
        asking.list_topics().await.unwrap();
    }
    kafka.resume(other);
    kafka.restore();

    // The controller: a change either succeeds, or says that its outcome is unknown; what it came to can be seen.
    kafka.kill(controller);
    wait_until("work without the controller", async || match work(&admin).await {
        Ok(_) => Ok(()),
        Err(error @ (AdminError::Unknown { .. } | AdminError::Invalid(_) | AdminError::Busy(_))) => {
            Err(error.to_string())
        }
        Err(error) => panic!("not what a moving controller says: {error:?}"),
    })
    .await;
    admin.list_topics().await.unwrap();

    // Two of three: the third answers questions from what it knows, and no change is made.
    kafka.kill(other);
    let impatient = Timeouts { answer: Duration::from_secs(3), call: Duration::from_secs(6), ..TIMEOUTS };
    let admin = client(&kafka.brokers(), None, None, impatient);
    let begin = Instant::now();
    let name = unique("it.admin.no-quorum");
    let created = admin.create_topics(&[new_topic(&name, 1, 1, &[])], Mode::Apply).await.and_then(first);
    assert!(matches!(created, Err(AdminError::Unknown { .. } | AdminError::Busy(_))), "{created:?}");
    let altered = admin.alter_quotas(&[quota_change("nobody", Some(1.0))], Mode::Apply).await.and_then(first);
    assert!(matches!(altered, Err(AdminError::Unknown { .. } | AdminError::Busy(_))), "{altered:?}");
    let gone = admin.describe_log_dirs(&[controller_id]).await.unwrap().remove(0);
    assert!(matches!(code(&gone), "unreachable" | "not_found" | "timeout"), "{gone:?}");
    assert!(begin.elapsed() < Duration::from_secs(60), "three calls of 6 s took {:?}", begin.elapsed());
    admin.list_topics().await.unwrap();

    // All of them.
    kafka.kill(third);
    let created = admin.create_topics(&[new_topic(&name, 1, 1, &[])], Mode::Apply).await;
    assert_eq!(code(&created), "unreachable", "{created:?}");
    assert_eq!(code(&admin.list_topics().await), "unreachable");
    drop(kafka);

    // They are back, and the same client finds them; whatever became of the change, it is made once at most.
    let kafka = kafka::shared();
    let topics = admin.list_topics().await.unwrap();
    let made: Vec<Uuid> = topics.iter().flatten().filter(|topic| topic.name == name).map(|topic| topic.id).collect();
    assert!(made.len() <= 1, "{made:?}");
    work(&client(&kafka.brokers(), None, None, TIMEOUTS)).await.unwrap();
    let same = client(&kafka.sasl_brokers(), None, password("PLAIN", ADMIN), TIMEOUTS);
    assert_eq!(codes(&same.delete_topics(&made).await.unwrap()), vec!["ok"; made.len()]);
}

/// The node that is the active controller, which no description of the cluster says in KRaft.
fn controller(kafka: &Cluster) -> usize {
    let answer = referee::ask(kafka, &json!([{"client": "python", "do": "controller"}])).remove(0);
    answer.as_u64().and_then(|node| usize::try_from(node).ok()).expect("one of three leads the quorum")
}
